// The table of results: numbers as text, accuracy also as a dot with its interval.

const AXIS_SHARES = [0, 0.25, 0.5, 0.75, 1];

const RESULT_COLUMNS = [
  ["questions", (row) => count(row.num_questions)],
  ["tokens per question", (row) => fixed(row.tokens_per_question, 1)],
  ["thoughts per question", (row) => fixed(row.thoughts_per_question, 1)],
  ["seconds per question", (row) => measured(row.seconds_per_question)],
  ["training updates", (row) => count(row.updates)],
  ["seed", (row) => String(row.seed)],
];

function drawResults(box, report) {
  const rows = report.rows.map((row) => resultRow(row, report));
  const caption = `${report.caption} Dot: share of the test questions answered correctly. ` +
    "Bar: 95\u00a0% interval, the range in which the accuracy on many more questions of this " +
    "kind plausibly lies. Dashed line: guessing between the candidates " +
    `(${percent(report.chance)}).`;
  const table = html("table", { class: "results", role: "table" },
    html("thead", { role: "rowgroup" }, resultHead(report)),
    html("tbody", { role: "rowgroup" }, ...rows));
  box.append(table, html("p", { class: "caption" }, caption));
}

function resultHead(report) {
  const head = (attributes, ...children) =>
    html("th", { scope: "col", role: "columnheader", ...attributes }, ...children);
  return html("tr", { role: "row" },
    head({}, "method"),
    head({ class: "plot" }, "accuracy (%)", axisSvg(report.chance)),
    head({ class: "number" }, "accuracy, 95\u00a0%\u00a0interval"),
    ...RESULT_COLUMNS.map(([name]) => head({ class: "number" }, name)));
}

function resultRow(row, report) {
  const cell = (attributes, ...children) =>
    html("td", { role: "cell", ...attributes }, ...children);
  const interval = `${fixed(100 * row.low, 1)} to ${fixed(100 * row.high, 1)}`;
  return html("tr", { role: "row" },
    html("th", { scope: "row", role: "rowheader" }, methodName(row.method),
      row.summary ? html("span", { class: "summary" }, row.summary) : null),
    cell({ class: "plot" }, intervalSvg(row, report.chance)),
    cell({ class: "number accuracy", "data-label": "accuracy" },
      html("strong", {}, percent(row.accuracy, 1)), html("span", { class: "interval" }, interval)),
    ...RESULT_COLUMNS.map(([name, show]) =>
      cell({ class: "number", "data-label": name }, show(row))));
}

// Positions are given in percent of the width, so these two need no redrawing.
function axisSvg(chance) {
  const numbers = AXIS_SHARES.map((share) =>
    text(percentX(share), 28, Math.round(100 * share), { class: "tick", "text-anchor": "middle" }));
  const label = text(percentX(chance), 13, "chance", { class: "tick", "text-anchor": "middle" });
  return svg("svg", { class: "dots", height: 34, "aria-hidden": "true" }, label, ...numbers);
}

function intervalSvg(row, chance) {
  const colour = colourOf(row.method);
  const grid = AXIS_SHARES.map((share) =>
    line(percentX(share), 0, percentX(share), "100%", "grid"));
  const edge = isPale(row.method) ? "pale" : "";
  return svg("svg", { class: "dots", "aria-hidden": "true" },
    ...grid,
    line(percentX(chance), 0, percentX(chance), "100%", "chance"),
    svg("svg", { class: "dots", y: "50%", stroke: colour },
      line(percentX(row.low), 0, percentX(row.high), 0, "interval-bar"),
      ...[row.low, row.high].map((end) =>
        line(percentX(end), -7, percentX(end), 7, "interval-end")),
      svg("circle", { cx: percentX(row.accuracy), r: 5, fill: colour, class: `dot ${edge}` })));
}

function percentX(share) {
  return `${100 * share}%`;
}
