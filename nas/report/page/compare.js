"use strict";
(() => {
  const { $, known, percent, seconds, show, label, axisTitle, told, ties, hollow, safe, element, table, options, colour, axis, plot } = nas;
  const { runs, objectives, equal_s: equal, notes } = nas.data.document;
  const TONES = ["search", "front", "good", "peer", "other", "baseline"];
  const tone = (i) => colour(TONES[i % TONES.length]);
  const DASH = ["solid", "dash", "dot", "dashdot"], dash = (i) => DASH[Math.floor(i / TONES.length) % DASH.length];

  function drawFronts() {
    const x = $("axis-x").value, y = $("axis-y").value;
    const traces = runs.map((r, i) => {
      const trials = r.front.filter((t) => known(t.metrics[x]) && known(t.metrics[y])).sort((a, b) => a.metrics[x] - b.metrics[x]);
      return { name: safe(r.name), type: "scatter", mode: "lines+markers", x: trials.map((t) => t.metrics[x]), y: trials.map((t) => t.metrics[y]),
        error_y: y === "accuracy" && trials.some((t) => known(t.accuracy_error)) ? { type: "data", array: trials.map((t) => 1.96 * (t.accuracy_error ?? 0)), thickness: 1, width: 3 } : undefined,
        text: trials.map((t) => `<b>${safe(r.name)}</b>, trial ${t.trial}<br>` + [...told(t.metrics).map((m) => `${safe(label(m))}: ${show(m, t.metrics[m])}`), ...(t.ties.length ? [ties(t)] : [])].join("<br>")),
        hovertemplate: "%{text}<extra></extra>", line: { shape: "hv", color: tone(i), dash: dash(i), width: 1.5 }, marker: { size: 9, color: tone(i), symbol: trials.map((t) => hollow(t, i)) } };
    });
    plot("front", traces, { xaxis: axis(axisTitle(x)), yaxis: axis(axisTitle(y), y === "accuracy" ? { tickformat: ".1%" } : {}), hovermode: "closest" });
  }
  function drawGrowth() {
    const traces = runs.filter((r) => r.growth.share.length).map((r) => { const i = runs.indexOf(r), c = r.growth; return { name: safe(r.name), type: "scatter", mode: "lines",
      x: [...c.spent_s, c.end_s], y: [...c.share, c.share[c.share.length - 1]], line: { shape: "hv", color: tone(i), dash: dash(i), width: 2 }, hovertemplate: "%{y:.1%} after %{x:.0f} s<extra></extra>" }; });
    plot("growth", traces, { xaxis: axis("device seconds spent"), yaxis: axis("hypervolume", { tickformat: ".0%", rangemode: "tozero" }),
      shapes: [{ type: "line", yref: "paper", x0: equal, x1: equal, y0: 0, y1: 1, line: { color: colour("soft"), dash: "dot", width: 1 } }] });
  }
  table($("runs"), ["run", "space", "data", "strategy", "budget", "completed", "best accuracy", "its test", "its latency", "its parameters", `hypervolume at ${seconds(equal)}`], runs.map((r) => [
    r.name, r.space, r.data, r.strategy, r.budget, r.completed, r.best ? percent(r.best.metrics.accuracy) + (known(r.best.accuracy_error) ? ` ± ${percent(1.96 * r.best.accuracy_error)}` : "") : "-",
    r.best ? percent(r.best.test_accuracy) : "-", r.best ? show("latency", r.best.metrics.latency) : "-", r.best ? show("num_params", r.best.metrics.num_params) : "-", percent(r.at_equal, 1)]), [0, 1, 2, 3, 4]);
  $("notes").replaceChildren(...notes.map((text) => element("p", text, { class: "note warning" })));
  $("commands").replaceChildren(...runs.flatMap((r) => [element("h3", r.name), element("pre", r.command)]));
  const metrics = [...new Set([...objectives, ...runs.flatMap((r) => r.front.flatMap((t) => told(t.metrics)))])];
  const up = objectives.includes("accuracy") ? "accuracy" : objectives[0];
  options($("axis-x"), metrics, label, objectives.find((m) => m !== up) ?? metrics.find((m) => m !== up));
  options($("axis-y"), metrics, label, up);
  $("axis-x").onchange = $("axis-y").onchange = drawFronts;
  const draw = () => { drawFronts(); drawGrowth(); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
})();
