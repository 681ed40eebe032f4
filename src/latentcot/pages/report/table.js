// The table of results: numbers as text, accuracy also as a dot with its interval.

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
  const table = html("table", { class: "rows results", role: "table" },
    html("thead", { role: "rowgroup" }, resultHead(report)),
    html("tbody", { role: "rowgroup" }, ...rows));
  box.append(table, html("p", { class: "caption" }, caption));
}

function resultHead(report) {
  const head = (attributes, ...children) =>
    html("th", { scope: "col", role: "columnheader", ...attributes }, ...children);
  return html("tr", { role: "row" },
    head({}, "method"),
    head({ class: "plot" }, "accuracy (%)", axisSvg(report.chance, "chance")),
    head({ class: "number" }, "accuracy, 95\u00a0%\u00a0interval"),
    ...RESULT_COLUMNS.map(([name]) => head({ class: "number" }, name)));
}

function resultRow(row, report) {
  const cell = (attributes, ...children) =>
    html("td", { role: "cell", ...attributes }, ...children);
  return html("tr", { role: "row" },
    html("th", { scope: "row", role: "rowheader" }, methodName(row.method),
      row.summary ? html("span", { class: "summary" }, row.summary) : null),
    cell({ class: "plot" }, intervalSvg(row, report.chance, row.method)),
    cell({ class: "number accuracy", "data-label": "accuracy" },
      html("strong", {}, percent(row.accuracy, 1)),
      html("span", { class: "interval" }, intervalWords(row))),
    ...RESULT_COLUMNS.map(([name, show]) =>
      cell({ class: "number", "data-label": name }, show(row))));
}
