"use strict";
// Words, tables and plots that the pages share. Text from a run only ever becomes text nodes, or plot labels through `safe`.
const nas = (() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent), METRICS = data.metrics;

  // -- words ---------------------------------------------------------------------------------------------------------
  const known = (value) => value !== null && value !== undefined;
  const short = (n) => { for (const [f, u] of [[1e9, "G"], [1e6, "M"], [1e3, "K"]]) if (Math.abs(n) >= f) return +(n / f).toPrecision(3) + u; return String(+n.toPrecision(3)); };
  const percent = (v, digits = 2) => (known(v) ? (100 * v).toFixed(digits) + " %" : "-");
  const seconds = (s) => (!known(s) ? "-" : s < 120 ? +s.toPrecision(3) + " s" : s < 7200 ? (s / 60).toFixed(0) + " min" : (s / 3600).toFixed(1) + " h");
  const unit = (metric) => METRICS[metric]?.unit ?? "";
  const show = (metric, v) => (!known(v) ? "-" : metric === "accuracy" ? percent(v) : unit(metric) === "B" ? short(v) + "B" : unit(metric) ? `${+v.toPrecision(3)} ${unit(metric)}` : short(v));
  const label = (metric) => METRICS[metric]?.label ?? metric; // a product of metrics is called by its text
  const axisTitle = (metric) => safe(label(metric)) + (unit(metric) ? ` (${unit(metric)})` : "");
  const told = (metrics) => [...new Set([...Object.keys(METRICS), ...Object.keys(metrics)])].filter((m) => known(metrics[m]));
  const safe = (text) => String(text).replace(/[&<>]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[c]);
  const ties = (t) => (!t.ties.length ? "" : t.front ? `as good within the errors: trial ${several(t.ties)}` : `as good within the errors as trial ${several(t.ties)}`);
  const several = (numbers) => numbers.slice(0, 8).join(", ") + (numbers.length > 8 ? ` and ${numbers.length - 8} more` : "");
  const hollow = (t, symbol = 0) => symbol + 100 * (t.ties.length > 0); // plotly's number of a symbol that is drawn open
  const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
  const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : "'" + word.replace(/'/g, `'"'"'`) + "'");

  function element(tag, text, words = {}) {
    const node = document.createElement(tag);
    if (known(text)) node.textContent = text;
    for (const [key, value] of Object.entries(words)) node.setAttribute(key, value);
    return node;
  }
  function table(target, heads, rows, texts = []) {
    const head = element("thead"), line = element("tr"), body = element("tbody");
    heads.forEach((h, i) => line.append(element("th", h, { scope: "col", ...(texts.includes(i) ? { class: "text" } : {}) })));
    head.append(line);
    for (const row of rows) {
      const tr = element("tr");
      row.forEach((cell, i) => { const td = element("td", cell instanceof Node ? null : cell, texts.includes(i) ? { class: "text" } : {}); if (cell instanceof Node) td.append(cell); tr.append(td); });
      body.append(tr);
    }
    target.replaceChildren(head, body);
  }
  function options(select, values, words, value) {
    select.replaceChildren(...values.map((v) => { const o = element("option", words(v), { value: v }); o.selected = v === value; return o; }));
  }

  // -- plots ---------------------------------------------------------------------------------------------------------
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const axis = (title, more = {}) => ({ title: { text: title }, gridcolor: colour("line"), zerolinecolor: colour("line"), linecolor: colour("line"), automargin: true, ...more });
  function plot(id, traces, layout) {
    $(id).classList.toggle("empty", !traces.length);
    if (!traces.length) { Plotly.purge($(id)); return; }
    Plotly.react($(id), traces, {
      paper_bgcolor: colour("bg"), plot_bgcolor: colour("bg"), font: { color: colour("ink"), size: 12.5 }, margin: { l: 60, r: 20, t: 36, b: 50 },
      hoverlabel: { align: "left", bgcolor: colour("panel"), bordercolor: colour("line"), font: { color: colour("ink"), size: 12 } },
      legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0 }, ...layout,
    }, { displaylogo: false, responsive: true, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] });
  }

  return { $, data, known, short, percent, seconds, show, label, axisTitle, told, ties, hollow, safe, plural, quoted, element, table, options, colour, axis, plot };
})();
