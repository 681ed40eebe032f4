// One graph of a question: where its nodes stand, how they are drawn, and its numbers as a table.

// --- places ------------------------------------------------------------------------------------

// Two families side by side, each in layers by distance from its root. x counts places from the
// left, y counts layers from the top; `drawGraph` turns both into pixels.

const FAMILY_GAP = 0.6;

// The plan of a question: depths, the two families, and a place for every node.
function planOf(question) {
  const nodes = question.nodes.map((_, node) => node);
  const reached = distancesFrom([question.root], question.edges);
  const others = nodes.filter((node) => !reached.has(node));
  const otherRoots = rootsAmong(others, question.edges);
  const depths = new Map([...distancesFrom(otherRoots, question.edges), ...reached]);
  const families = [[...reached.keys()], others].map((members) =>
    orderedLayers(members, depths, question.edges));
  const places = placesOf(families);
  return { ...places, depths, otherRoots: new Set(otherRoots), isReached: (n) => reached.has(n) };
}

function distancesFrom(starts, edges) {
  const distances = new Map(starts.map((node) => [node, 0]));
  let frontier = starts;
  for (let depth = 1; frontier.length > 0; depth += 1) {
    const held = new Set(frontier);
    frontier = [];
    for (const [parent, child] of edges) {
      if (!held.has(parent) || distances.has(child)) continue;
      distances.set(child, depth);
      frontier.push(child);
    }
  }
  return distances;
}

function rootsAmong(nodes, edges) {
  const children = new Set(edges.map(([, child]) => child));
  return nodes.filter((node) => !children.has(node));
}

function orderedLayers(members, depths, edges) {
  const layers = [];
  for (const node of members) {
    const depth = depths.get(node) ?? 0;
    (layers[depth] ??= []).push(node);
  }
  const full = Array.from(layers, (layer) => layer ?? []);
  const neighbours = neighboursWithin(members, edges);
  for (let sweep = 0; sweep < 6; sweep += 1) {
    const isDown = sweep % 2 === 0;
    for (let k = 1; k < full.length; k += 1) {
      const here = isDown ? k : full.length - 1 - k;
      sortByNeighbours(full[here], full[isDown ? here - 1 : here + 1], neighbours);
    }
  }
  return full;
}

function neighboursWithin(members, edges) {
  const neighbours = new Map(members.map((node) => [node, new Set()]));
  for (const [parent, child] of edges) {
    if (!neighbours.has(parent) || !neighbours.has(child)) continue;
    neighbours.get(parent).add(child);
    neighbours.get(child).add(parent);
  }
  return neighbours;
}

// Nodes move to the mean place of their neighbours in the fixed layer: fewer crossings.
function sortByNeighbours(layer, fixedLayer, neighbours) {
  const place = (node, own) => {
    const spots = fixedLayer.flatMap((other, k) =>
      (neighbours.get(node).has(other) ? [(k + 0.5) / fixedLayer.length] : []));
    if (spots.length === 0) return (own + 0.5) / layer.length;
    return spots.reduce((sum, spot) => sum + spot, 0) / spots.length;
  };
  const wanted = new Map(layer.map((node, own) => [node, place(node, own)]));
  layer.sort((a, b) => wanted.get(a) - wanted.get(b));
}

function placesOf(families) {
  const places = new Map();
  const blocks = [];
  let left = 0;
  for (const layers of families) {
    if (layers.length === 0) continue;
    const width = Math.max(1, ...layers.map((layer) => layer.length));
    layers.forEach((layer, y) => layer.forEach((node, k) => {
      const x = left + (width - layer.length) / 2 + k + 0.5;
      places.set(node, { x, y, side: k < (layer.length - 1) / 2 ? -1 : 1, isOdd: k % 2 === 1 });
    }));
    blocks.push({ left, width, numLayers: layers.length });
    left += width + FAMILY_GAP;
  }
  const numLayers = Math.max(...blocks.map((block) => block.numLayers));
  return { places, blocks, width: left - FAMILY_GAP, numLayers };
}

// --- drawing -----------------------------------------------------------------------------------

// Nodes are filled by probability, roots and candidates told by shape, the gold chain is bold.

// Sizes of the large graph for `width` pixels; `isBelow` puts names under the nodes.
function largeSizes(plan, question, width) {
  const pad = 18;
  const gutter = 50;
  const spacing = clamp((width - gutter - 2 * pad) / plan.width, 41, 118);
  const radius = spacing < 80 ? 17 : 21;
  const nameWidth = 7.8 * Math.max(...question.nodes.map((name) => name.length));
  const isBelow = 2 * radius + 6 + nameWidth > spacing ||
    2 * (radius + 6 + nameWidth) > spacing * (1 + FAMILY_GAP) ||
    radius + 5 + nameWidth > spacing / 2 + pad;
  // Names wider than their place stand on two lines in turn.
  const drop = isBelow && nameWidth + 6 > spacing ? 14 : 0;
  return { spacing, radius, isBelow, drop, pad, gutter, top: 66, bottom: (isBelow ? 74 : 68) + drop,
    layer: 96 + drop, isLarge: true };
}

// Smaller, its letters could not be read.
const SMALLEST_PART = 0.85;

const SMALL_SIZES = { spacing: 32, radius: 9, pad: 6, gutter: 0, top: 20, bottom: 20, layer: 36,
  isLarge: false };

// `show(shares, shareMax, depth)` fills the nodes and moves the frame to the layer `depth`.
function drawGraph(question, plan, sizes) {
  const at = (node) => {
    const { x, y } = plan.places.get(node);
    return { x: sizes.gutter + sizes.pad + x * sizes.spacing, y: sizes.top + y * sizes.layer };
  };
  const context = { question, plan, sizes, at };
  const nodes = question.nodes.map((_, node) => drawNode(context, node));
  const depths = sizes.isLarge ? depthNames(context) : [];
  const frame = svg("rect", { class: "frame", rx: 6 });
  const width = sizes.gutter + 2 * sizes.pad + plan.width * sizes.spacing;
  const height = sizes.top + (plan.numLayers - 1) * sizes.layer + sizes.bottom;
  const element = canvas(width, height, { class: sizes.isLarge ? "large" : "small" }, frame,
    ...depths, ...drawEdges(context), ...nodes.map((node) => node.element));
  const show = (shares, shareMax, depth) => {
    nodes.forEach((node, k) => node.show(shares[k], shareMax));
    moveFrame(frame, context, depth);
    depths.forEach((name, k) => name.classList.toggle("is-held", k === depth));
  };
  return { element, show, width };
}

// The large graph for a box that is `width` wide. It shrinks a little; a narrower box must scroll.
function drawLargeGraph(question, plan, width, label) {
  const graph = drawGraph(question, plan, largeSizes(plan, question, width));
  fill(graph.element, { role: "img", "aria-label": label }, []);
  graph.element.style.minWidth = `${SMALLEST_PART * graph.width}px`;
  return graph;
}

function depthNames({ plan, sizes }) {
  return Array.from({ length: plan.numLayers }, (_, depth) =>
    text(0, sizes.top + depth * sizes.layer + 4, `depth ${depth}`, { class: "depth" }));
}

function moveFrame(frame, { plan, sizes }, depth) {
  const block = plan.blocks[0];
  const half = sizes.radius + (sizes.isLarge ? 12 : 6);
  const isInside = depth < block.numLayers;
  frame.setAttribute("visibility", isInside ? "visible" : "hidden");
  if (!isInside) return;
  const inset = sizes.isLarge ? 4 : 0;
  const outset = sizes.isLarge && !sizes.isBelow ? 12 : 0;
  const below = sizes.isBelow ? 20 + sizes.drop : 0;
  fill(frame, {
    x: sizes.gutter + sizes.pad + block.left * sizes.spacing + inset - outset,
    y: sizes.top + depth * sizes.layer - half,
    width: block.width * sizes.spacing - 2 * inset + 2 * outset,
    height: 2 * half + below,
  }, []);
}

function drawEdges({ question, plan, sizes, at }) {
  const gold = new Set(question.path.slice(1).map((child, k) => `${question.path[k]} ${child}`));
  const paths = question.edges.map(([parent, child], number) => {
    const isGold = gold.has(`${parent} ${child}`);
    const d = edgePath(at(parent), at(child), sizes, reachOf(question, plan, child));
    return svg("path", { d, class: isGold ? "edge gold" : "edge",
      "data-edge": number, "marker-end": sizes.isLarge ? `url(#${isGold ? "arrow-gold" : "arrow"})` : null });
  });
  return paths.sort((a, b) => a.classList.length - b.classList.length);
}

// How far a node's shape reaches from its middle, in radii.
function reachOf(question, plan, node) {
  if (isTarget(question, node)) return 1.62;
  return isWrong(question, node) || isRoot(question, plan, node) ? 1.3 : 1;
}

function isRoot(question, plan, node) {
  return node === question.root || plan.otherRoots.has(node);
}

// One candidate can be reached and one cannot; a question that was changed by hand has lists of both.
function isTarget({ target, targets = [target] }, node) {
  return targets.includes(node);
}

function isWrong({ neg_target: wrong, wrongs = [wrong] }, node) {
  return wrongs.includes(node);
}

function edgePath(from, to, sizes, reach) {
  return to.y === from.y ? archPath(from, to, sizes, reach) : linePath(from, to, sizes, reach);
}

// Straight to the next layer; bent where another node may stand in between.
function linePath(from, to, sizes, reach) {
  const length = Math.hypot(to.x - from.x, to.y - from.y) || 1;
  const unit = { x: (to.x - from.x) / length, y: (to.y - from.y) / length };
  const start = { x: from.x + unit.x * sizes.radius, y: from.y + unit.y * sizes.radius };
  const stop = sizes.radius * reach + (sizes.isLarge ? 3 : 1);
  const end = { x: to.x - unit.x * stop, y: to.y - unit.y * stop };
  const isNext = Math.abs(to.y - from.y - sizes.layer) < 1;
  const bend = isNext ? 0 : 0.4 * sizes.layer;
  const middle = { x: (from.x + to.x) / 2 - unit.y * bend, y: (from.y + to.y) / 2 + unit.x * bend };
  return `M${start.x} ${start.y}Q${middle.x} ${middle.y} ${end.x} ${end.y}`;
}

// Within a layer, over the nodes: below them stand their names.
function archPath(from, to, { radius, spacing, isLarge }, reach) {
  const side = Math.sign(to.x - from.x);
  const length = Math.abs(to.x - from.x);
  const start = { x: from.x + side * 0.7 * radius, y: from.y - 0.7 * radius };
  const stop = 0.62 * radius * reach + (isLarge ? 3 : 1);
  const end = { x: to.x - side * stop, y: to.y - stop };
  const height = length < 1.5 * spacing ? 0.8 * radius : 1.4 * radius + 0.08 * length;
  return `M${start.x} ${start.y}Q${(start.x + end.x) / 2} ${start.y - height} ${end.x} ${end.y}`;
}

function drawNode(context, node) {
  const { question, plan, sizes, at } = context;
  const { x, y } = at(node);
  const shapes = nodeShapes(context, node, sizes.radius);
  const number = sizes.isLarge
    ? text(0, 4.5, "", { class: "share", "text-anchor": "middle" }) : null;
  const names = sizes.isLarge ? [nodeName(context, node), ...roleNames(context, node)] : [];
  const kind = plan.isReached(node) ? "node" : "node other";
  const title = svg("title");
  const element = svg("g", { class: kind, transform: `translate(${x} ${y})` },
    title, ...shapes, number, ...names);
  const show = (share, shareMax) => {
    const part = clamp((share ?? 0) / shareMax, 0, 1);
    element.style.setProperty("--part", part.toFixed(4));
    element.classList.toggle("is-deep", part > 0.58);
    title.textContent = `node ${question.nodes[node]}: ${percent(share, 1)}`;
    if (number) number.textContent = isNumber(share) ? Math.round(100 * share) : "–";
  };
  return { element, show };
}

// Square: a root. Diamond: a candidate, with a second outline if correct, dashed if wrong.
function nodeShapes({ question, plan }, node, radius) {
  if (isTarget(question, node)) {
    return [diamond(1.55 * radius, "outline"), diamond(1.27 * radius, "shape")];
  }
  if (isWrong(question, node)) return [diamond(1.3 * radius, "shape dashed")];
  if (isRoot(question, plan, node)) return [square(0.9 * radius, "shape")];
  return [svg("circle", { r: radius, class: "shape" })];
}

function square(half, className) {
  return svg("rect", { x: -half, y: -half, width: 2 * half, height: 2 * half, class: className });
}

function diamond(half, className) {
  return svg("polygon", { points: `0,${-half} ${half},0 0,${half} ${-half},0`, class: className });
}

function nodeName(context, node) {
  const { question, plan, sizes } = context;
  const name = question.nodes[node];
  if (sizes.isBelow) {
    return text(0, nameBelow(context, node), name, { class: "name", "text-anchor": "middle" });
  }
  const { side } = plan.places.get(node);
  const reach = reachOf(question, plan, node);
  const away = sizes.radius * (reach > 1.4 ? 1.55 : Math.min(reach, 1.27)) + 5;
  return text(side * away, 4.5, name, { class: "name", "text-anchor": side < 0 ? "end" : "start" });
}

// How far below the node its name stands.
function nameBelow(context, node) {
  const { question, plan, sizes } = context;
  const lowest = sizes.radius * Math.max(1, reachOf(question, plan, node)) + 14;
  return isDropped(context, node) ? Math.max(lowest, sizes.radius + 14 + sizes.drop) : lowest;
}

// Every other name of a layer stands lower, and that of a candidate, whose diamond is so high.
function isDropped({ question, plan }, node) {
  const { y, isOdd } = plan.places.get(node);
  const candidate = plan.isReached(node) ? question.target : question.neg_target;
  const place = plan.places.get(candidate);
  return place && place.y === y && !place.isOdd ? !isOdd : isOdd;
}

function roleNames(context, node) {
  const { question, plan, sizes } = context;
  const lines = roleOf(question, plan, node)?.lines;
  if (!lines) return [];
  const below = sizes.isBelow ? nameBelow(context, node) + 14 : 1.62 * sizes.radius + 13;
  const isAbove = !isTarget(question, node) && !isWrong(question, node);
  const first = isAbove ? -sizes.radius - 21 : below;
  return lines.map((words, k) =>
    text(0, first + 13 * k, words, { class: "role", "text-anchor": "middle" }));
}

function roleOf(question, plan, node) {
  if (node === question.root) return { lines: ["root", "asked about"] };
  if (isTarget(question, node)) return { lines: ["correct", "candidate"] };
  if (isWrong(question, node)) return { lines: ["wrong", "candidate"] };
  return plan.otherRoots.has(node) ? { lines: ["other", "root"] } : null;
}

// --- around ------------------------------------------------------------------------------------

// The legend, the numbers as a table, and which nodes lie at a depth.

function drawLegend(box, shareMax, measure,
  layer = svg("rect", { x: -11, y: -8, width: 22, height: 16, rx: 3, class: "frame" })) {
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
    item("layer of a breadth-first search", layer));
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
