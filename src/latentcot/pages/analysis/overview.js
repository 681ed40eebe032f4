// What holds over all questions: a band for each kind of result, with a column for each method.

function drawOverview(page, byId) {
  const { methods } = page;
  byId("accuracy").append(...methods.map(accuracyColumn));
  drawBand(byId, "mass", methods, (method) => method.mass,
    (box, method) => drawMass(box, method.mass));
  drawBand(byId, "outcomes", methods, (method) => method.outcomes, drawOutcomes);
  if (byId("outcomes-band")) {
    byId("outcomes-legend").append(...outcomesLegend(methods));
    byId("outcomes-table").append(outcomesTable(methods));
  }
  drawBand(byId, "effects", methods, (method) => method.interventions, (box, method) =>
    box.append(effectsTable(method, effectsAtAll(method))));
}

// Where no intervention is at all thoughts, those at single ones are all there is.
function effectsAtAll({ interventions }) {
  const atAll = interventions.filter((effect) => effect.thought === null);
  return atAll.some((effect) => effect.name !== "none") ? atAll : interventions;
}

function accuracyColumn(method) {
  const { num_thoughts: thoughts, num_questions: questions } = method;
  return html("div", { class: "column" },
    html("p", { class: "method-name" }, methodName(method.name),
      method.summary ? html("span", { class: "summary" }, method.summary) : null),
    html("p", { class: "headline" }, html("strong", {}, percent(method.accuracy, 1)),
      ` right (95\u00a0% interval ${intervalWords(method)}) of ${count(questions)} questions, ` +
      `with ${thoughts} ${thoughts === 1 ? "thought" : "thoughts"}`));
}

// A band that no method has anything for is left out.
function drawBand(byId, name, methods, listOf, draw) {
  if (methods.every((method) => listOf(method).length === 0)) {
    byId(`${name}-band`).remove();
    return;
  }
  byId(name).append(...methods.map((method) => {
    const [column, box] = makeColumn(method, methods);
    if (listOf(method).length === 0) box.append(html("p", { class: "caption" }, "Not measured."));
    else draw(box, method);
    return column;
  }));
}

// A column that is headed by its method if there are two.
function makeColumn(method, methods) {
  const box = html("div", {});
  const name = methods.length > 1 ? html("h4", {}, methodName(method.name)) : null;
  return [html("div", { class: "column" }, name, box), box];
}

// --- outcomes: how they look -------------------------------------------------------------------

// Words, and a colour with a hatch of its own, so that they are told apart without colours too. The
// same as in the figures of the analysis.

const OUTCOMES = {
  correct_path: { words: "correct path", about: "a shortest chain to the right candidate" },
  longer_path: { words: "longer path", about: "a chain to the right candidate with detours" },
  hallucination: { words: "hallucination", about: "an edge that does not exist, or a gap" },
  wrong_target: { words: "wrong target", about: "a chain of real edges to another node" },
  correct_label: { words: "correct label", about: "no chain, only the right answer" },
  incorrect_label: { words: "incorrect label", about: "no chain, only a wrong answer" },
};

const HATCHES = {
  correct_path: "",
  longer_path: "M-1 1L1 -1M-1 7L7 -1M5 7L7 5",
  hallucination: "M0 0L6 6M0 6L6 0",
  wrong_target: "M1.5 1.5h.01M4.5 4.5h.01",
  correct_label: "M-1 5L1 7M-1 -1L7 7M5 -1L7 1",
  incorrect_label: "M0 1.5H6M0 4.5H6",
};

function makePatterns(defs) {
  defs.append(...Object.entries(HATCHES).map(([name, d]) =>
    svg("pattern", { id: `fill-${name}`, width: 6, height: 6, patternUnits: "userSpaceOnUse" },
      svg("rect", { width: 6, height: 6, class: `ground ${name}` }),
      svg("path", { d, class: "hatch" }))));
}

function patternOf(outcome) {
  return `url(#fill-${outcome})`;
}

// A patch of the pattern with its words, as in the legend and next to an answer.
function outcomeBadge(outcome, hint = "") {
  const patch = canvas(16, 12, { class: "patch", "aria-hidden": "true" },
    svg("rect", { x: 0.5, y: 0.5, width: 15, height: 11, fill: patternOf(outcome) }));
  const { words, about } = OUTCOMES[outcome];
  return html("span", { class: "key", title: about }, patch, words, hint);
}

// --- outcomes: bars and table ------------------------------------------------------------------

// Stacked: what became of all questions after k thoughts.

const OUTCOME_MARGIN = { left: 52, right: 4, top: 40, bottom: 26 };
const OUTCOME_HEIGHT = 190;

function drawOutcomes(box, method) {
  onWidth(box, (width) => box.replaceChildren(outcomesSvg(method, Math.min(width, 520))));
}

function outcomesSvg({ outcomes, num_thoughts: trained }, width) {
  const { left, right, top, bottom } = OUTCOME_MARGIN;
  const y = scale(0, 1, top + OUTCOME_HEIGHT, top);
  const group = (width - left - right) / outcomes.length;
  const label = outcomes.map((entry) => `after ${entry.k} thoughts ` +
    `${percent(entry.accuracy, 1)} correct`).join("; ");
  return canvas(width, top + OUTCOME_HEIGHT + bottom, { role: "img", "aria-label": label },
    text(0, 12, "questions (%)", { class: "axis-title" }),
    text(0, y(0) + 18, "k", { class: "axis-title" }),
    ...shareAxis(y, left, width - right),
    ...outcomes.flatMap((entry, n) =>
      outcomeBar(entry, left + (n + 0.5) * group, clamp(group * 0.68, 8, 46), y, trained)));
}

function outcomeBar(entry, middle, width, y, trained) {
  const marks = [];
  let below = 0;
  for (const outcome of Object.keys(OUTCOMES)) {
    const share = entry.shares[outcome] ?? 0;
    if (share === 0) continue;
    marks.push(svg("rect", { x: middle - width / 2, width, y: y(below + share),
      height: y(below) - y(below + share), fill: patternOf(outcome), class: "stacked" },
    svg("title", {}, `${OUTCOMES[outcome].words}: ${percent(share, 1)}`)));
    below += share;
  }
  const centred = { "text-anchor": "middle" };
  return [
    ...marks,
    svg("g", { class: "on-bar" }, ...whisker(middle, y, entry),
      svg("circle", { cx: middle, cy: y(entry.accuracy), r: 3.5, class: "accuracy-dot" })),
    text(middle, y(1) - 7, wholePercent(entry.accuracy), { class: "bar-value", ...centred }),
    text(middle, y(0) + 18, entry.k,
      { class: entry.k === trained ? "tick strong trained" : "tick", ...centred }),
  ];
}

function wholePercent(share) {
  return isNumber(share) ? Math.round(100 * share) : "–";
}

function outcomesLegend(methods) {
  const seen = (outcome) => methods.some((method) =>
    method.outcomes.some((entry) => (entry.shares[outcome] ?? 0) > 0));
  return Object.keys(OUTCOMES).filter(seen)
    .map((outcome) => outcomeBadge(outcome, `: ${OUTCOMES[outcome].about}`));
}

function outcomesTable(methods) {
  const names = Object.keys(OUTCOMES);
  const rows = methods.flatMap((method) => method.outcomes.map((entry) => [
    method.name, String(entry.k), count(entry.num_questions),
    `${percent(entry.accuracy, 1)} (${intervalWords(entry)})`,
    ...names.map((outcome) => percent(entry.shares[outcome] ?? 0, 1))]));
  return plainTable("What became of the questions after k thoughts", ["method", "k", "questions",
    "accuracy (95\u00a0% interval)", ...names.map((name) => OUTCOMES[name].words)], rows);
}

// --- interventions -----------------------------------------------------------------------------

// What is put in the place of thoughts, and what is left of the answers.

const INTERVENTIONS = {
  none: "the unchanged model",
  zero: "zeros",
  noise: "noise of the same length",
  mean: "mean over all questions",
  shuffle: "another of its own thoughts",
  swap: "thought on another question",
  token: "embedding of its best token",
  replay: "the same again, as a check",
};

// `answerTo(effect)`: what stands in the cell for this question; left out, there is no such column.
function effectsTable(method, effects, answerTo = null) {
  const unchanged = method.interventions.find((effect) => effect.name === "none");
  const mark = unchanged?.accuracy ?? method.accuracy;
  const head = (className, ...children) =>
    html("th", { scope: "col", class: className }, ...children);
  return html("table", { class: "rows effects" },
    html("thead", {}, html("tr", {},
      head(null, "put in its place"),
      answerTo && head(null, "answer here"),
      head("plot", "accuracy (%)", axisSvg(mark, "unchanged")),
      head("number", "95\u00a0% interval, p"))),
    html("tbody", {}, ...effects.map((effect) => effectRow(effect, mark, method, answerTo))));
}

function effectRow(effect, mark, method, answerTo) {
  const about = INTERVENTIONS[effect.name];
  return html("tr", {},
    html("th", { scope: "row" }, html("span", { class: "name" }, effect.name),
      about ? html("span", { class: "summary" }, about) : null),
    answerTo && html("td", {}, ...answerTo(effect)),
    html("td", { class: "plot" }, isNumber(effect.accuracy)
      ? intervalSvg(effect, mark, method.name) : null),
    html("td", { class: "number" }, html("strong", {}, percent(effect.accuracy, 1)),
      html("span", { class: "interval" }, intervalWords(effect),
        isNumber(effect.p) ? `, ${pWords(effect.p)}` : "")));
}

function pWords(p) {
  return p < 0.001 ? "p\u00a0<\u00a00.001" : `p\u00a0=\u00a0${Number(p.toPrecision(2))}`;
}

function verdict(isCorrect) {
  return isCorrect ? html("span", { class: "right" }, "✓ right")
    : html("span", { class: "wrong" }, "✗ wrong");
}

function answerWords(answer) {
  return html("b", {}, answer.trim().replace(/\.$/, "") || "nothing");
}
