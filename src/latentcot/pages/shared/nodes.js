// Around a graph: its legend, its numbers as a table, and which nodes lie at a depth.

function drawLegend(box, shareMax, measure) {
  const item = (words, ...shapes) => html("span", { class: "key" },
    canvas(26, 26, { "aria-hidden": "true" },
      svg("g", { class: "node", transform: "translate(13 13)" }, ...shapes)), words);
  box.replaceChildren(
    html("span", { class: "key" }, `${measure} in %: 0`,
      html("span", { class: "ramp" }), String(Math.round(100 * shareMax))),
    item("root", square(8, "shape")),
    item("correct candidate", diamond(12, "outline"), diamond(9, "shape")),
    item("wrong candidate", diamond(10, "shape dashed")),
    item("gold chain", svg("path", { d: "M-11 0H11", class: "edge gold" })),
    item("layer of a breadth-first search",
      svg("rect", { x: -11, y: -8, width: 22, height: 16, rx: 3, class: "frame" })));
}

// The scale ends at the largest share, rounded up to tenths.
function shareMaxOf(shares) {
  const largest = shares.reduce((most, share) => (isNumber(share) ? Math.max(most, share) : most), 0);
  return clamp(Math.ceil(largest * 10 - 1e-9) / 10, 0.1, 1);
}

// `columns`: {name, shares} each, one share for every node.
function nodesTable(caption, question, plan, columns) {
  const order = question.nodes.map((_, node) => node).sort((a, b) =>
    plan.isReached(b) - plan.isReached(a) || (plan.depths.get(a) ?? 0) - (plan.depths.get(b) ?? 0));
  const rows = order.map((node) => [question.nodes[node],
    plan.isReached(node) ? "yes" : "no", String(plan.depths.get(node) ?? "–"),
    roleOf(question, plan, node)?.lines.join(" ") ?? "",
    ...columns.map(({ shares }) => percent(shares[node], 1))]);
  return plainTable(caption, ["node", "reachable from the root asked about", "depth", "role",
    ...columns.map(({ name }) => name)], rows);
}

function nodesAtDepth(question, plan, depth) {
  return question.nodes.map((_, node) => node)
    .filter((node) => plan.isReached(node) && plan.depths.get(node) === depth);
}

function sumOver(nodes, shares) {
  return nodes.reduce((sum, node) => sum + (shares[node] ?? 0), 0);
}

// "12", "12 and 8", "12, 8 and 3"; of more than `most` the others are only counted.
function namesOf(question, nodes, most = 6) {
  const names = nodes.map((node) => question.nodes[node]);
  if (names.length === 1) return names[0];
  const listed = names.length > most ? names.slice(0, most) : names.slice(0, -1);
  const last = names.length > most ? `${names.length - most} more` : names.at(-1);
  return `${listed.join(", ")} and ${last}`;
}

function candidates(question) {
  return [question.target, question.neg_target].sort((a, b) =>
    question.nodes[a].localeCompare(question.nodes[b], "en", { numeric: true }));
}

function goldChain(question) {
  return question.path.map((node) => question.nodes[node]).join(" → ");
}
