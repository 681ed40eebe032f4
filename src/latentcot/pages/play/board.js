// The graph on the page: drawn, and changed by mouse, finger or keys.

const BOARD_SIZES = { radius: 19, pad: 44, top: 56, bottom: 78, gutter: 0, spacing: 90, layer: 0,
  drop: 0, isBelow: true, isLarge: true };
const MINI_SIZES = { ...BOARD_SIZES, radius: 5.5, pad: 9, top: 9, bottom: 9, isLarge: false };
const DRAG_PIXELS = 6;
const KEY_STEP = 0.04;
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// `toolOf()`: move, connect or erase. `onChange(puzzle, isDone)`: it is another one now; false while a
// node is still being dragged. `onCancel()`: it comes back to where it was. `onRefuse(words)`: what
// cannot be done.
function makeBoard(box, { names, toolOf, onChange, onCancel, onRefuse }) {
  const element = svg("svg", { class: "board", role: "group",
    "aria-label": "Graph. Tab goes through its nodes, arrow keys move one, Delete takes it out; with " +
      "the tool Connect, Enter on two nodes draws or removes the edge between them." });
  const board = { box, element, names, toolOf, onChange, onRefuse, from: null, press: null,
    line: svg("path", { class: "edge rubber" }) };
  box.replaceChildren(element);
  element.addEventListener("pointerdown", (event) => pressBoard(board, event));
  element.addEventListener("pointermove", (event) => dragOnBoard(board, event));
  element.addEventListener("pointerup", (event) => releaseBoard(board, event));
  element.addEventListener("lostpointercapture", ({ pointerId }) => {
    if (board.press?.pointerId === pointerId) onCancel();
  });
  // A finger on a node moves it; elsewhere it moves the page.
  element.addEventListener("touchstart", (event) => {
    if (numberUnder(event.target, "node") !== null) event.preventDefault();
  }, { passive: false });
  element.addEventListener("keydown", (event) => keyOnBoard(board, event));
  return board;
}

// Draw a puzzle; what its nodes hold is shown by `showOnBoard`.
function drawBoard(board, puzzle, question) {
  const focused = board.element.contains(document.activeElement)
    ? document.activeElement.dataset.node : undefined;
  const width = Math.max(300, board.box.clientWidth);
  Object.assign(board, { puzzle, question, width, height: clamp(0.72 * width, 400, 560) });
  fill(board.element, { viewBox: `0 0 ${board.width} ${board.height}` }, []);
  const { nodes, edges, context } = drawnPuzzle(board, BOARD_SIZES);
  board.nodes = nodes;
  board.halos = nodes.map((_, node) => {
    const { x, y } = context.at(node);
    return svg("circle", { cx: x, cy: y, r: 1.75 * BOARD_SIZES.radius, class: "halo" });
  });
  nodes.forEach(({ element }, node) => {
    fill(element, { tabindex: 0, role: "button", "data-node": node }, []);
    element.prepend(svg("circle", { r: 1.5 * BOARD_SIZES.radius, class: "reach" }));
    element.classList.toggle("is-from", node === board.from);
  });
  const lines = edges.map((edge) => [edge.line, edge.reach]).flat();
  board.element.replaceChildren(...board.halos, ...lines, board.line,
    ...nodes.map(({ element }) => element));
  if (focused !== undefined) board.nodes[focused]?.element.focus();
}

// Nodes and edges of a board, in the given sizes; a small drawing has the same places.
function drawnPuzzle({ puzzle, question, width, height }, sizes) {
  const others = rootsAmong(puzzle.nodes.map((_, node) => node), puzzle.edges);
  const at = (node) => boardPoint({ width, height }, puzzle.places[node], sizes);
  const places = new Map(puzzle.nodes.map((_, node) => [node, { ...at(node), isOdd: false }]));
  const plan = { places, isReached: (node) => question.distances.has(node),
    otherRoots: new Set(others.filter((node) => !question.distances.has(node))) };
  const context = { question, plan, sizes, at };
  const nodes = puzzle.nodes.map((_, node) => drawNode(context, node));
  const paths = drawEdges(context);
  const edges = paths.map((path) => ({ line: path, reach: svg("path", { d: path.getAttribute("d"),
    class: "edge-reach", "data-edge": path.dataset.edge }) }));
  return { nodes, edges, context };
}

function boardPoint({ width, height }, [x, y], { pad, top, bottom }) {
  return { x: pad + x * (width - 2 * pad), y: top + y * (height - top - bottom) };
}

// The place, 0 to 1, under a pointer.
function placeUnder(board, { clientX, clientY }) {
  const { left, top, width } = board.element.getBoundingClientRect();
  const scaled = board.width / width;
  const sizes = BOARD_SIZES;
  return [((clientX - left) * scaled - sizes.pad) / (board.width - 2 * sizes.pad),
    ((clientY - top) * scaled - sizes.top) / (board.height - sizes.top - sizes.bottom)]
    .map((x) => clamp(x, 0, 1));
}

// Fill the nodes, and put a ring around those of the frontier. Here, where names are drawn with, the
// name stands in the node, and its probability below, if there is any to speak of.
function showOnBoard(board, shares, frontier) {
  const { puzzle, question } = board;
  board.nodes.forEach((node, k) => {
    node.show(shares?.[k] ?? null, 1);
    node.element.querySelector(".share").textContent = puzzle.nodes[k];
    node.element.querySelector(".name").textContent = shares?.[k] >= 0.005 ? percent(shares[k]) : "";
    const depth = question.distances.get(k);
    const role = k === puzzle.root ? ", root asked about"
      : puzzle.candidates.includes(k) ? ", candidate" : "";
    const below = puzzle.edges.filter(([parent]) => parent === k).map(([, child]) => child);
    const words = [`node ${puzzle.nodes[k]}${role}`,
      depth === undefined ? "not reached" : `depth ${depth}`,
      below.length > 0 ? `leads to ${namesOf(puzzle, below)}` : "leads nowhere",
      ...shares ? [percent(shares[k], 1)] : []];
    node.element.setAttribute("aria-label", words.join(", "));
    board.halos[k].classList.toggle("is-held", frontier.includes(k));
  });
}

// The same board in small, for a button: nodes filled by `shares`.
function miniBoard(board, shares, frontier) {
  const small = { ...board, width: 150, height: 104 };
  const { nodes, edges, context } = drawnPuzzle(small, MINI_SIZES);
  nodes.forEach((node, k) => node.show(shares[k], 1));
  const halos = frontier.map((node) => {
    const { x, y } = context.at(node);
    return svg("circle", { cx: x, cy: y, r: 10, class: "halo is-held" });
  });
  return canvas(small.width, small.height, { class: "small", "aria-hidden": "true" }, ...halos,
    ...edges.map(({ line }) => line), ...nodes.map(({ element }) => element));
}

// --- pointers ----------------------------------------------------------------------------------

function numberUnder(target, name) {
  const found = target?.closest?.(`[data-${name}]`);
  return found ? Number(found.dataset[name]) : null;
}

function pressBoard(board, event) {
  if (event.button !== 0 || board.press) return;
  const { target, pointerId, clientX, clientY } = event;
  board.press = { pointerId, clientX, clientY, node: numberUnder(target, "node"),
    edge: numberUnder(target, "edge"), isDrag: false };
  board.element.setPointerCapture(pointerId); // so that it ends here, wherever it is released
}

function dragOnBoard(board, event) {
  const { press } = board;
  if (!press || press.pointerId !== event.pointerId) return;
  const far = Math.hypot(event.clientX - press.clientX, event.clientY - press.clientY);
  press.isDrag ||= far > DRAG_PIXELS;
  if (!press.isDrag || press.node === null) return;
  const place = placeUnder(board, event);
  if (board.toolOf() === "move") board.onChange(movedTo(board.puzzle, press.node, place), false);
  if (board.toolOf() === "connect") {
    const [from, to] = [board.puzzle.places[press.node], place].map((one) =>
      boardPoint(board, one, BOARD_SIZES));
    board.line.setAttribute("d", `M${from.x} ${from.y}L${to.x} ${to.y}`);
  }
}

function releaseBoard(board, event) {
  const { press } = board;
  if (!press || press.pointerId !== event.pointerId) return;
  endPress(board);
  const place = placeUnder(board, event);
  if (!press.isDrag) tapBoard(board, press.node, press.edge, place);
  else if (press.node === null) return;
  else if (board.toolOf() === "move") board.onChange(movedTo(board.puzzle, press.node, place), true);
  else if (board.toolOf() === "connect") {
    const target = document.elementFromPoint(event.clientX, event.clientY);
    if (!board.element.contains(target)) return;
    connectOnBoard(board, press.node, numberUnder(target, "node"), place);
  }
}

function endPress(board) {
  board.press = null;
  board.line.setAttribute("d", "");
}

function tapBoard(board, node, edge, place) {
  const tool = board.toolOf();
  if (tool === "erase" && node !== null) eraseOnBoard(board, node);
  else if (tool === "erase" && edge !== null) {
    board.onChange(toggleEdge(board.puzzle, ...board.puzzle.edges[edge]), true);
  } else if (tool === "connect" && node !== null && board.from === null) {
    board.from = node;
    board.onChange(board.puzzle, false);
  } else if (tool === "connect" && (node !== null || edge === null)) {
    connectOnBoard(board, board.from, node, place);
  }
}

// --- changes -----------------------------------------------------------------------------------

// Between two nodes: draw the edge, or remove it. Into the open: a new node, at the end of an edge.
function connectOnBoard(board, from, to, place) {
  board.from = null;
  if (to === null) {
    const grown = withNode(board.puzzle, board.names, place);
    if (grown === null) {
      board.onChange(board.puzzle, false);
      return void board.onRefuse(noNameWords(board));
    }
    const child = grown.nodes.length - 1;
    board.onChange(from === null ? grown : toggleEdge(grown, from, child), true);
  } else if (from !== to) board.onChange(toggleEdge(board.puzzle, from, to), true);
  else board.onChange(board.puzzle, false);
}

function noNameWords({ names }) {
  return `No more nodes: the model knows ${names.length} names, and all of them are in the graph.`;
}

function eraseOnBoard(board, node) {
  const less = withoutNode(board.puzzle, node);
  board.from = null;
  if (less !== null) board.onChange(less, true, node);
  else board.onRefuse(`${board.puzzle.nodes[node]} is asked about: choose another root or candidate ` +
    "first.");
}

function keyOnBoard(board, event) {
  const node = numberUnder(event.target, "node");
  if (node === null || event.altKey || event.ctrlKey || event.metaKey) return;
  if (MOVES[event.key]) {
    const place = board.puzzle.places[node].map((x, k) => x + KEY_STEP * MOVES[event.key][k]);
    board.onChange(movedTo(board.puzzle, node, place), true);
  } else if (event.key === "Enter" || event.key === " ") tapBoard(board, node, null, null);
  else if (event.key === "Delete" || event.key === "Backspace") eraseOnBoard(board, node);
  else if (event.key === "Escape") connectOnBoard(board, node, node, null);
  else return;
  event.preventDefault();
  event.stopPropagation(); // the arrows step through the thoughts elsewhere
}
