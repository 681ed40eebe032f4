// Stacked bars: what became of all questions after k thoughts.

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
