"use strict";
// The report's figures. Text from a run only ever becomes text nodes, or plot labels through `safe`.
(() => {
  const { $, known, percent, seconds, show, label, axisTitle, told, ties, hollow, safe, plural, quoted, element, table, options, colour, axis, plot } = nas;
  let { document: run, pictures, every_s: every } = nas.data;
  const SHOWN = 16; // decisions that hovering tells
  let chosen = null;

  const goals = run.objectives.map((o) => o.metric);
  const PHASE = { search: "search", baseline: "random baseline" };

  const value = (trial, metric) => (metric === "trial" ? trial.trial : trial.metrics[metric]);
  function spread(trials, metric) {
    if (metric === "accuracy" && trials.some((t) => known(t.accuracy_error)))
      return { type: "data", array: trials.map((t) => 1.96 * (t.accuracy_error ?? 0)), thickness: 1, width: 3 };
    if (metric === "latency" && trials.some((t) => known(t.latency_low)))
      return { type: "data", symmetric: false, array: trials.map((t) => (t.latency_high ?? t.metrics.latency) - t.metrics.latency),
        arrayminus: trials.map((t) => t.metrics.latency - (t.latency_low ?? t.metrics.latency)), thickness: 1, width: 3 };
    return undefined;
  }
  function hover(t) {
    const lines = [`<b>trial ${t.trial}</b>${t.front ? " (front)" : ""}, ${PHASE[t.phase] ?? safe(t.phase)}`];
    for (const m of told(t.metrics)) lines.push(`${safe(label(m))}: ${show(m, t.metrics[m])}${error(t, m)}`);
    if (t.ties.length) lines.push(ties(t));
    if (known(t.test_accuracy)) lines.push(`test accuracy: ${percent(t.test_accuracy)}${known(t.test_error) ? ` ± ${percent(1.96 * t.test_error)}` : ""}`);
    const decided = Object.entries(t.decisions).map(([key, v]) => `${safe(key)}=${safe(v)}`);
    for (let i = 0; i < Math.min(decided.length, SHOWN); i += 2) lines.push(decided.slice(i, i + 2).join("  "));
    if (decided.length > SHOWN) lines.push(`and ${decided.length - SHOWN} more decisions: click`);
    return lines.join("<br>");
  }
  function error(t, metric) {
    if (metric === "accuracy" && known(t.accuracy_error)) return ` ± ${percent(1.96 * t.accuracy_error)}`;
    if (metric === "latency" && known(t.latency_low)) return ` (${+t.latency_low.toPrecision(3)} to ${+t.latency_high.toPrecision(3)})`;
    return "";
  }

  function drawFront() {
    const x = $("axis-x").value, y = $("axis-y").value;
    const judged = run.trials.filter((t) => t.state === "completed" && known(value(t, x)) && known(value(t, y)));
    const groups = [
      ["search", "search", judged.filter((t) => t.phase === "search" && !t.front && !t.ties.length), { size: 7, opacity: 0.55 }],
      ["random baseline", "baseline", judged.filter((t) => t.phase === "baseline" && !t.front && !t.ties.length), { size: 7, opacity: 0.6, symbol: "x-thin", line: { width: 1.5, color: colour("baseline") } }],
      ["as good within the errors", "front", judged.filter((t) => !t.front && t.ties.length), { size: 7, symbol: 100 }],
      ["front", "front", judged.filter((t) => t.front).sort((a, b) => value(a, x) - value(b, x)), { size: 10 }],
    ];
    const traces = groups.filter(([, , trials]) => trials.length).map(([name, tone, trials, marker]) => ({
      name, type: "scatter", mode: name === "front" && x !== "trial" ? "lines+markers" : "markers", x: trials.map((t) => value(t, x)), y: trials.map((t) => value(t, y)),
      error_x: name === "front" ? spread(trials, x) : undefined, error_y: name === "front" ? spread(trials, y) : undefined,
      text: trials.map(hover), hovertemplate: "%{text}<extra></extra>", customdata: trials.map((t) => t.trial),
      line: { shape: "hv", width: 1.5, color: colour(tone), dash: "dot" }, marker: { color: colour(tone), symbol: name === "front" ? trials.map((t) => hollow(t)) : 0, ...marker },
    }));
    const peers = run.peers.map((p) => ({ name: p.name, latency: p.latency_ms, accuracy: p.accuracy, num_params: p.num_params, macs: p.macs }))
      .filter((p) => known(p[x]) && known(p[y]));
    const wide = (m, all) => m !== "accuracy" && m !== "trial" && Math.min(...all) > 0 && Math.max(...all) > 50 * Math.min(...all);
    const across = [...traces.flatMap((t) => t.x), ...peers.map((p) => p[x])], place = wide(x, across) ? Math.log : Number;
    const right = (v) => place(v) > (place(Math.min(...across)) + place(Math.max(...across))) / 2; // its name goes to the left
    if (peers.length) traces.push({ name: "published networks, same recipe", type: "scatter", mode: "markers+text", x: peers.map((p) => p[x]), y: peers.map((p) => p[y]),
      text: peers.map((p) => safe(p.name)), textposition: peers.map((p) => (right(p[x]) ? "top left" : "top right")), hovertemplate: "<b>%{text}</b><br>%{x}, %{y}<extra></extra>", marker: { symbol: "diamond", size: 10, color: colour("peer") } });
    const shapes = run.limits.flatMap((l) => (l.metric === x ? [{ type: "line", xref: "x", yref: "paper", x0: l.limit, x1: l.limit, y0: 0, y1: 1 }]
      : l.metric === y ? [{ type: "line", xref: "paper", yref: "y", x0: 0, x1: 1, y0: l.limit, y1: l.limit }] : []))
      .map((s) => ({ ...s, line: { color: colour("warn"), width: 1.5, dash: "dash" } }));
    const scaled = (m, key) => axis(axisTitle(m), m === "accuracy" ? { tickformat: ".1%" } : wide(m, traces.flatMap((t) => t[key])) ? { type: "log" } : {});
    plot("front", traces, { xaxis: scaled(x, "x"), yaxis: scaled(y, "y"), shapes, hovermode: "closest" });
    if ($("front").on && !$("front").dataset.bound) {
      $("front").dataset.bound = "yes";
      $("front").on("plotly_click", (e) => { const t = e.points[0].customdata; if (known(t)) choose(t); });
    }
    const n = run.images.validation;
    $("front-note").textContent = (traces.length ? "" : "No trial is completed yet. ")
      + (n ? `Bars: 95 % intervals; of accuracies from ${n} validation images${judged.some((t) => known(t.latency_low)) ? ", of latencies from the measurement" : ""}. ` : "Bars: the latency's 95 % interval. ")
      + (judged.some((t) => t.ties.length) ? "Open circles: no worse in any objective, within the errors of both, than one of the front. " : "")
      + (run.run.same_size ? "" : "Accuracy is the trained proxy's, latency, parameters and multiply-adds are the deployed network's. ")
      + (run.limits.length ? `Limits (dashed): ${run.limits.map((l) => l.text).join(", ")}.` : "");
  }

  function drawGrowth() {
    const h = run.hypervolume, traces = [];
    for (const [name, tone] of [["search", "search"], ["baseline", "baseline"]]) {
      const c = h[name];
      if (c.share.length) traces.push({ name: PHASE[name], type: "scatter", mode: "lines", x: [...c.spent_s, c.end_s], y: [...c.share, c.share[c.share.length - 1]],
        line: { shape: "hv", color: colour(tone), width: 2.2 }, hovertemplate: "%{y:.1%} after %{x:.0f} s<extra></extra>" });
    }
    const shapes = h.baseline.share.length ? [{ type: "line", yref: "paper", x0: h.equal_s, x1: h.equal_s, y0: 0, y1: 1, line: { color: colour("soft"), dash: "dot", width: 1 } }] : [];
    plot("growth", traces, { xaxis: axis("device seconds spent"), yaxis: axis("hypervolume", { tickformat: ".0%", rangemode: "tozero" }), shapes });
    const corner = Object.entries(h.reference).map(([m, v]) => `${label(m)} ${show(m, v)}`).join(", ");
    const equal = h.baseline.share.length ? `At equal cost (${seconds(h.equal_s)}, dotted): search ${percent(h.at_equal.search, 1)}, random ${percent(h.at_equal.baseline, 1)}. `
      : "This run has no random baseline: nothing here says that the search is better than chance. ";
    $("growth-note").textContent = traces.length ? `${equal}Hypervolume: the share of the box between the best value seen of each objective and ${corner} that the front dominates. One run of each; another seed gives another curve.` : "Nothing to show yet.";
  }

  function drawSpent() {
    const phases = Object.keys(run.spending), kinds = [["training", "training_s", "search"], ["measuring", "measuring_s", "good"], ["other (start, build, wait)", "other_s", "baseline"], ["failed", "failed_s", "front"], ["stopped early", "stopped_s", "peer"]];
    const traces = kinds.filter(([, key]) => phases.some((p) => run.spending[p][key] > 0)).map(([name, key, tone]) => ({ name, type: "bar", orientation: "h", y: phases.map((p) => PHASE[p] ?? safe(p)),
      x: phases.map((p) => run.spending[p][key]), marker: { color: colour(tone) }, hovertemplate: `${name}: %{x:.3s} s<extra></extra>` }));
    plot("spent", traces, { barmode: "stack", xaxis: axis("device seconds"), yaxis: axis("", { automargin: true }), showlegend: true });
    const asked = run.budget.map((b) => `${+b.spent.toPrecision(3)} of ${b.asked} ${b.unit}`).join(", ");
    $("spent-note").textContent = `Budget: ${asked}. ` + phases.map((p) => { const s = run.spending[p]; return `${PHASE[p] ?? p}: ${plural(s.trials, "trial")}, ${s.duplicate} recognised as known (cost nothing), ${s.failed} failed, ${s.stopped} stopped early`; }).join("; ") + ".";
  }

  function drawMatter() {
    const metric = $("matter-metric").value, rows = (run.importance[metric] ?? []).slice(0, 20).reverse();
    plot("matter", !rows.length ? [] : [
      { name: "importance", type: "bar", orientation: "h", y: rows.map((r) => safe(r.decision)), x: rows.map((r) => r.importance), marker: { color: rows.map((r) => (r.importance > r.chance ? colour("search") : colour("baseline"))) }, hovertemplate: "%{x:.1%}<extra></extra>" },
      { name: "the most that shuffled results showed", type: "scatter", mode: "markers", y: rows.map((r) => safe(r.decision)), x: rows.map((r) => r.chance), marker: { symbol: "line-ns", size: 13, line: { width: 2, color: colour("front") } }, hovertemplate: "chance: %{x:.1%}<extra></extra>" },
    ], { xaxis: axis("share of the variance that the decision alone explains", { tickformat: ".0%", rangemode: "tozero" }), yaxis: axis("", { automargin: true }), height: 130 + 19 * rows.length });
    $("matter").style.height = rows.length ? `${130 + 19 * rows.length}px` : "";
    const above = rows.filter((r) => r.importance > r.chance).length;
    $("matter-note").textContent = rows.length ? `${above ? `${above} of the ${rows.length} shown ${above === 1 ? "is" : "are"} beyond what chance alone showed in 20 shuffles of the results (red marks); the others (grey) say nothing.` : "None of those shown is beyond what chance alone showed in 20 shuffles of the results (red marks): they say nothing."} The trials were chosen by the search, not at random: this tells what went with good results here, not what causes them.`
      : "Too few completed trials, or all equal: at least 10 are needed.";
  }

  function drawCurves() {
    const trials = run.trials.filter((t) => Array.isArray(t.curve) && t.curve.length > 1).slice(-300);
    const traces = trials.map((t) => ({ type: "scatter", mode: "lines", showlegend: false, x: t.curve.map((_, i) => i + 1), y: t.curve, customdata: t.curve.map(() => t.trial),
      line: { color: colour(t.front ? "front" : t.state === "stopped" ? "peer" : "search"), width: t.front ? 2.2 : 1 }, opacity: t.front ? 1 : 0.35, hovertemplate: `trial ${t.trial}, epoch %{x}: %{y:.2%}<extra></extra>` }));
    plot("curves", traces, { xaxis: axis("epoch", trials.every((t) => t.curve.length < 12) ? { dtick: 1 } : { tickformat: "d" }), yaxis: axis("validation accuracy", { tickformat: ".0%" }), hovermode: "closest" });
    $("curves-note").textContent = traces.length ? "Red: the front; yellow: stopped early." : "Every trial was trained for one epoch, or none has ended: there are no curves.";
  }

  function drawNoise() {
    const parts = [], para = (text) => parts.push(element("p", text, { class: "note" })), n = run.images.validation;
    para(n ? `Accuracies are shares of ${n} validation images${run.images.test ? ` and ${run.images.test} test images` : ""}: at 90 % the standard error is ${percent(Math.sqrt(0.09 / n))}. Differences smaller than twice that are no differences. The best of many is chosen by its luck too: trust its test accuracy.`
      : "The number of validation images is not known, so no error of the accuracies is stated.");
    const timed = run.trials.filter((t) => known(t.latency_low) && t.metrics.latency > 0).map((t) => (t.latency_high - t.latency_low) / 2 / t.metrics.latency).sort((a, b) => a - b);
    if (timed.length) para(`Latencies carry a 95 % interval of their own: half-width ${percent(timed[Math.floor(timed.length / 2)], 1)} in the median, ${percent(timed[timed.length - 1], 1)} at most (${plural(timed.length, "measurement")}).`);
    if (run.repeats.length) {
      parts.push(element("h3", "Trained again with other seeds"));
      const t = element("table");
      table(t, ["trial", "accuracies", "mean", "standard deviation"], run.repeats.map((r) => [r.trial, r.accuracies.map((a) => percent(a)).join(", "), percent(r.mean), percent(r.std)]), [1]);
      parts.push(t);
    } else para("No trial was trained again with another seed: how much training itself varies is not known.");
    if (run.final.trials.length) {
      parts.push(element("h3", "Proxy and final training"));
      const t = element("table");
      table(t, ["trial", "proxy", "final validation", "final test"], run.final.trials.map((r) => [r.trial, percent(r.proxy_accuracy), percent(r.accuracy), percent(r.test_accuracy)]));
      parts.push(t);
      para(known(run.final.rank_correlation) ? `Do proxy and final training order these networks alike? Rank correlation (Kendall's tau): ${run.final.rank_text}. 1 is the same order, 0 is chance.` : "Too few final trainings, or all equal: no rank correlation of proxy and final can be told (three are needed).");
    }
    $("noise").replaceChildren(...parts);
  }

  // -- trials --------------------------------------------------------------------------------------------------------
  const ROWS = 500;
  let order = { key: "trial", up: true }, all = false;
  const columns = [
    ["trial", (t) => t.trial, (t) => { const b = element("button", t.trial, { type: "button" }); b.onclick = () => choose(t.trial); return b; }],
    ["phase", (t) => t.phase, (t) => PHASE[t.phase] ?? t.phase], ["state", (t) => t.state, (t) => t.state + (t.front ? ", front" : t.ties.length ? ", tied with the front" : known(t.duplicate_of) ? ` of ${t.duplicate_of}` : "")],
    ["accuracy", (t) => t.metrics.accuracy, (t) => percent(t.metrics.accuracy) + error(t, "accuracy")], ["test", (t) => t.test_accuracy, (t) => percent(t.test_accuracy)],
    ["latency", (t) => t.metrics.latency, (t) => show("latency", t.metrics.latency) + error(t, "latency")], ["parameters", (t) => t.metrics.num_params, (t) => show("num_params", t.metrics.num_params)],
    ["multiply-adds", (t) => t.metrics.macs, (t) => show("macs", t.metrics.macs)],
    ...goals.filter((m) => !["accuracy", "latency", "num_params", "macs"].includes(m)).map((m) => [label(m), (t) => t.metrics[m], (t) => show(m, t.metrics[m])]), ["epochs", (t) => t.epochs, (t) => t.epochs ?? "-"], ["time", (t) => t.seconds, (t) => seconds(t.seconds)], ["reason", (t) => t.reason, (t) => t.reason ?? ""],
  ];
  function drawTrials() {
    const by = columns.find(([name]) => name === order.key)[1];
    const sorted = [...run.trials].sort((a, b) => { const [x, y] = [by(a), by(b)]; return !known(x) ? 1 : !known(y) ? -1 : (x < y ? -1 : x > y ? 1 : 0) * (order.up ? 1 : -1); });
    const shown = all ? sorted : sorted.slice(0, ROWS);
    table($("trials"), columns.map(([name]) => name), shown.map((t) => columns.map(([, , cell]) => cell(t))), [1, 2, columns.length - 1]);
    [...$("trials").tHead.rows[0].cells].forEach((th) => {
      const name = th.textContent, b = element("button", name, { type: "button" });
      b.onclick = () => { order = { key: name, up: order.key === name ? !order.up : name === "trial" || name === "latency" }; drawTrials(); };
      if (name === order.key) th.setAttribute("aria-sort", order.up ? "ascending" : "descending");
      th.replaceChildren(b);
    });
    [...$("trials").tBodies[0].rows].forEach((tr, i) => { tr.classList.toggle("front", shown[i].front); tr.classList.toggle("chosen", shown[i].trial === chosen); });
    const more = element("button", `show all ${sorted.length}`, { type: "button" });
    more.onclick = () => { all = true; drawTrials(); };
    $("trials-more").replaceChildren(...(shown.length < sorted.length ? [more] : []));
  }

  async function picture(number) {
    const packed = pictures[number];
    if (!packed) return element("p", "Pictures are kept of the front and of the most accurate trials; this one has none.", { class: "note" });
    const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
    const svg = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
    const box = element("div", null, { class: "picture" }), image = element("img", null, { alt: `The network and the cells of trial ${number}`, title: "click to enlarge" });
    image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(svg);
    image.onclick = () => box.classList.toggle("large");
    box.append(image);
    return box;
  }
  async function choose(number) {
    const t = run.trials.find((one) => one.trial === number);
    if (!t) return;
    chosen = number;
    const facts = element("table"), decided = element("table"), parts = [element("h3", `trial ${number}`)];
    const rows = [["state", t.state + (t.front ? ", on the front" : "")], ["phase", PHASE[t.phase] ?? t.phase], ...told(t.metrics).map((m) => [label(m), show(m, t.metrics[m]) + error(t, m)])];
    if (t.ties.length) rows.push(["ties", ties(t)]);
    if (known(t.test_accuracy)) rows.push(["test accuracy", percent(t.test_accuracy) + (known(t.test_error) ? ` ± ${percent(1.96 * t.test_error)}` : "")]);
    if (known(t.epochs)) rows.push(["epochs", t.epochs]);
    if (known(t.seconds)) rows.push(["time", `${seconds(t.seconds)} (training ${seconds(t.train_s)}, measuring ${seconds(t.measure_s)})`]);
    if (t.reason) rows.push(["reason", t.reason]);
    table(facts, ["", ""], rows, [0, 1]);
    facts.tHead.remove();
    parts.push(facts);
    const command = `nas export ${quoted(run.run.path)} trial=${number}${run.run.plugins}`;
    if (t.state === "completed") parts.push(element("h3", "Export"), element("pre", command, { id: "export" }));
    table(decided, ["decision", "chosen"], Object.entries(t.decisions).map(([k, v]) => [k, String(v)]), [0, 1]);
    parts.push(element("h3", "Decisions"), decided);
    $("detail").replaceChildren(...parts);
    drawTrials();
    const drawn = await picture(number);
    if (chosen === number) $("network").replaceChildren(drawn);
  }

  // -- the page ------------------------------------------------------------------------------------------------------
  function drawHead() {
    const r = run.run, c = run.counts, best = run.trials.filter((t) => t.front).sort((a, b) => (b.metrics.accuracy ?? 0) - (a.metrics.accuracy ?? 0))[0];
    $("name").textContent = r.name;
    $("about").textContent = `${r.space} on ${r.data}; budget ${r.budget}; strategy ${r.strategy}; seed ${r.seed}. ${r.source}`;
    const cards = [[c.completed, "completed"], [run.front.length, "on the front"], [c.failed, "failed"], [c.stopped, "stopped early"], [c.duplicate, "recognised duplicates"]];
    if (c.running) cards.push([c.running, "running"]);
    if (best) cards.unshift([percent(best.metrics.accuracy) + (known(best.accuracy_error) ? ` ± ${percent(1.96 * best.accuracy_error, 1)}` : ""), `best on validation: trial ${best.trial}` + (known(best.metrics.latency) ? `, ${show("latency", best.metrics.latency)}` : "")]);
    $("cards").replaceChildren(...cards.map(([n, words]) => { const card = element("div", null, { class: "card" }); card.append(element("b", n), element("span", words)); return card; }));
    $("command").textContent = r.command;
    const flat = (value, path) => (value !== null && typeof value === "object" && !Array.isArray(value) ? Object.entries(value).flatMap(([k, v]) => flat(v, path ? `${path} ${k}` : k)) : [[path, Array.isArray(value) ? value.join(", ") || "none" : String(value)]]);
    table($("environment"), ["", ""], flat(run.environment, ""), [0, 1]);
    $("environment").tHead.remove();
  }
  function drawPlots() { drawFront(); drawGrowth(); drawSpent(); drawMatter(); drawCurves(); }
  function draw() { drawHead(); drawPlots(); drawNoise(); drawTrials(); }

  const measured = new Set(run.trials.flatMap((t) => told(t.metrics)));
  const up = goals.includes("accuracy") ? "accuracy" : goals[0];
  options($("axis-x"), [...new Set([...goals, ...measured, "trial"])], label, goals.find((m) => m !== up) ?? "trial");
  options($("axis-y"), [...new Set([...goals, ...measured])], label, up);
  options($("matter-metric"), goals, label, up);
  $("axis-x").onchange = $("axis-y").onchange = drawFront;
  $("matter-metric").onchange = drawMatter;
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawPlots);
  draw();
  if (every) setInterval(async () => {
    try {
      const answer = await fetch("data.json", { cache: "no-store" });
      if (!answer.ok) return;
      const fresh = await answer.json();
      if (JSON.stringify(fresh.document) === JSON.stringify(run)) return;
      ({ document: run, pictures } = fresh);
      draw();
    } catch { /* the server has ended: what was last seen stays */ }
  }, every * 1000);
})();
