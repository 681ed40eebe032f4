// The section on what the thoughts hold: choose a question, step through its thoughts.

const PLAY_MILLISECONDS = 1400;

function startSearch(frontier) {
  const byId = (id) => document.getElementById(id);
  const state = { frontier, byId, question: 0, thought: 1, graph: null, minis: [], timer: null,
    shareMax: shareMaxOf(frontier.questions), width: 0 };
  drawMass(byId("mass"), frontier.mass);
  byId("mass-caption").textContent = massCaption(frontier);
  byId("reading").textContent = frontier.reading;
  drawLegend(byId("legend"), state.shareMax);
  fillSelect(state);
  listenToSearch(state);
  showQuestion(state, 0);
  onWidth(byId("graph"), () => redrawGraph(state));
}

// The scale ends at the largest probability shown, rounded up, and is the same for all questions.
function shareMaxOf(questions) {
  const largest = Math.max(...questions.flatMap((q) => q.probabilities.flat()).filter(isNumber), 0);
  return clamp(Math.ceil(largest * 10 - 1e-9) / 10, 0.1, 1);
}

function massCaption(frontier) {
  const over = frontier.num_questions ? `${count(frontier.num_questions)} test questions`
    : "the test questions";
  return `Mean over ${over}. Left bar: the probability that the thought gives to all nodes at ` +
    "this depth below the root asked about. Right bar: what they would get if every node of the " +
    "graph got the same.";
}

function current(state) {
  return state.frontier.questions[state.question];
}

function depthOf(state, thought) {
  return state.frontier.mass.find((entry) => entry.thought === thought)?.depth ?? thought;
}

function fillSelect({ byId, frontier }) {
  const total = frontier.questions.length;
  byId("question-select").append(...frontier.questions.map((question, k) =>
    html("option", { value: k }, `${k + 1} of ${total}: root ${question.nodes[question.root]}, ` +
      (question.is_correct ? "answered correctly" : "answered wrongly"))));
  byId("question-wrong").hidden = frontier.questions.every((question) => question.is_correct);
}

function showQuestion(state, index) {
  const { byId, frontier } = state;
  const total = frontier.questions.length;
  state.question = (index + total) % total;
  const question = current(state);
  state.plan = planOf(question);
  state.thought = Math.min(state.thought, question.probabilities.length);
  byId("question-select").value = state.question;
  byId("question-text").replaceChildren(...questionWords(question));
  byId("thought-range").max = question.probabilities.length;
  byId("nodes-table").replaceChildren(nodesTable(question, state.plan));
  drawMinis(state);
  redrawGraph(state);
}

function questionWords(question) {
  const name = (node) => html("b", {}, question.nodes[node]);
  const pair = [question.target, question.neg_target].sort((a, b) =>
    question.nodes[a].localeCompare(question.nodes[b], "en", { numeric: true }));
  const bare = (words) => html("b", {}, words.trim().replace(/\.$/, "") || "nothing");
  const verdict = question.is_correct ? [html("span", { class: "right" }, "✓ correct"), ". "]
    : [html("span", { class: "wrong" }, "✗ wrong"), "; correct is ", bare(question.answer), ". "];
  const chain = question.path.map((node) => question.nodes[node]).join(" → ");
  return ["Starting at ", name(question.root), ", can one reach ", name(pair[0]), " or ",
    name(pair[1]), "? The model answers ", bare(question.predicted), ": ", ...verdict,
    `Gold chain: ${chain}.`];
}

function redrawGraph(state) {
  const box = state.byId("graph");
  const question = current(state);
  const sizes = largeSizes(state.plan, question, box.clientWidth);
  state.graph = drawGraph(question, state.plan, sizes, state.shareMax);
  fill(state.graph.element, { role: "img", "aria-label":
    `Graph of the question, two families of nodes in layers below their roots. ` +
    "All its numbers are in the table at the end of this section." }, []);
  state.graph.element.style.minWidth = `${state.graph.width}px`;
  box.replaceChildren(state.graph.element);
  showThought(state, state.thought);
}

function drawMinis(state) {
  const question = current(state);
  state.minis = question.probabilities.map((_, k) => {
    const thought = k + 1;
    const depth = depthOf(state, thought);
    const small = drawGraph(question, state.plan, SMALL_SIZES, state.shareMax);
    small.show(thought, depth);
    small.element.setAttribute("aria-hidden", "true");
    const isEmpty = nodesAtDepth(state, thought).length === 0;
    const words = isEmpty ? `no depth\u00a0${depth} here`
      : `${percent(shareAtDepth(state, thought))} on depth\u00a0${depth}`;
    const button = html("button", { type: "button", class: "mini" },
      html("strong", {}, `thought ${thought}`), small.element,
      html("span", {}, words));
    button.addEventListener("click", () => showThought(state, thought));
    return button;
  });
  const miniWidth = clamp(22 * state.plan.width, 94, 220);
  state.byId("minis").style.setProperty("--mini-width", `${miniWidth}px`);
  state.byId("minis").replaceChildren(...state.minis);
}

function nodesAtDepth(state, thought) {
  const { plan } = state;
  const depth = depthOf(state, thought);
  return current(state).nodes.map((_, node) => node)
    .filter((node) => plan.isReached(node) && plan.depths.get(node) === depth);
}

function shareAtDepth(state, thought) {
  const shares = current(state).probabilities[thought - 1];
  return nodesAtDepth(state, thought).reduce((sum, node) => sum + (shares[node] ?? 0), 0);
}

function showThought(state, wanted) {
  const { byId } = state;
  const num = current(state).probabilities.length;
  state.thought = clamp(wanted, 1, num);
  state.graph.show(state.thought, depthOf(state, state.thought));
  byId("thought-range").value = state.thought;
  byId("thought-range").setAttribute("aria-valuetext", `thought ${state.thought} of ${num}`);
  byId("thought-number").textContent = `thought ${state.thought} of ${num}`;
  byId("thought-previous").disabled = state.thought === 1;
  byId("thought-next").disabled = state.thought === num;
  byId("thought-text").textContent = thoughtWords(state);
  state.minis.forEach((mini, k) =>
    mini.setAttribute("aria-pressed", String(k + 1 === state.thought)));
}

function thoughtWords(state) {
  const { thought } = state;
  const question = current(state);
  const nodes = nodesAtDepth(state, thought);
  const depth = depthOf(state, thought);
  if (nodes.length === 0) return `Thought ${thought}: this question has no node at depth ${depth}.`;
  const names = nodes.map((node) => question.nodes[node]).join(" and ");
  const even = percent(nodes.length / question.nodes.length);
  return `Thought ${thought} gives ${percent(shareAtDepth(state, thought))} of its probability ` +
    `to depth ${depth} below the root asked about (${names}). Spread evenly it would be ${even}.`;
}

function listenToSearch(state) {
  const { byId } = state;
  const on = (id, event, act) => byId(id).addEventListener(event, act);
  on("question-previous", "click", () => showQuestion(state, state.question - 1));
  on("question-next", "click", () => showQuestion(state, state.question + 1));
  on("question-wrong", "click", () => showQuestion(state, nextWrong(state)));
  on("question-select", "change", (event) => showQuestion(state, Number(event.target.value)));
  on("thought-previous", "click", () => showThought(state, state.thought - 1));
  on("thought-next", "click", () => showThought(state, state.thought + 1));
  on("thought-range", "input", (event) => showThought(state, Number(event.target.value)));
  on("thought-play", "click", () => (state.timer === null ? play(state) : pause(state)));
  on("search", "keydown", (event) => stepByKey(state, event));
  matchMedia("(prefers-reduced-motion: reduce)").addEventListener("change", () => pause(state));
}

function nextWrong({ question, frontier }) {
  const total = frontier.questions.length;
  const order = frontier.questions.map((_, k) => (question + 1 + k) % total);
  return order.find((k) => !frontier.questions[k].is_correct);
}

// The slider and the select use the arrow keys themselves.
function stepByKey(state, event) {
  const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!move || event.altKey || event.ctrlKey || event.metaKey) return;
  if (["INPUT", "SELECT"].includes(event.target.tagName)) return;
  if (event.target.classList.contains("scroll")) return;
  event.preventDefault();
  showThought(state, state.thought + move);
}

function play(state) {
  const num = () => current(state).probabilities.length;
  showThought(state, state.thought === num() ? 1 : state.thought);
  state.byId("thought-play").textContent = "Pause";
  state.timer = setInterval(() => {
    showThought(state, state.thought + 1);
    if (state.thought === num()) pause(state);
  }, PLAY_MILLISECONDS);
}

function pause(state) {
  clearInterval(state.timer);
  state.timer = null;
  state.byId("thought-play").textContent = "Play";
}

function drawLegend(box, shareMax) {
  const item = (words, ...shapes) => html("span", { class: "key" },
    canvas(26, 26, { "aria-hidden": "true" },
      svg("g", { class: "node", transform: "translate(13 13)" }, ...shapes)), words);
  box.append(
    html("span", { class: "key" }, "probability in %: 0",
      html("span", { class: "ramp" }), String(Math.round(100 * shareMax))),
    item("root", square(8, "shape")),
    item("correct candidate", diamond(12, "outline"), diamond(9, "shape")),
    item("wrong candidate", diamond(10, "shape dashed")),
    item("gold chain", svg("path", { d: "M-11 0H11", class: "edge gold" })),
    item("layer of a breadth-first search",
      svg("rect", { x: -11, y: -8, width: 22, height: 16, rx: 3, class: "frame" })));
}

function nodesTable(question, plan) {
  const order = question.nodes.map((_, node) => node).sort((a, b) =>
    plan.isReached(b) - plan.isReached(a) || (plan.depths.get(a) ?? 0) - (plan.depths.get(b) ?? 0));
  const thoughts = question.probabilities.map((_, k) => `thought ${k + 1}`);
  const rows = order.map((node) => [question.nodes[node],
    plan.isReached(node) ? "yes" : "no", String(plan.depths.get(node) ?? "–"),
    roleOf(question, plan, node)?.lines.join(" ") ?? "",
    ...question.probabilities.map((shares) => percent(shares[node], 1))]);
  return plainTable("Probability that each thought gives to each node",
    ["node", "reachable from the root asked about", "depth", "role", ...thoughts], rows);
}
