// The section on what the thoughts hold: choose a question, step through its thoughts.

function startSearch(frontier) {
  const byId = (id) => document.getElementById(id);
  const { questions } = frontier;
  const shareMax = shareMaxOf(questions.flatMap((question) => question.probabilities.flat()));
  const state = { frontier, byId, shareMax, question: 0, graph: null, minis: [] };
  drawMass(byId("mass"), frontier.mass);
  byId("mass-caption").textContent = massCaption(frontier);
  drawLegend(byId("legend"), shareMax, "probability");
  state.stepper = makeStepper(byId("search"), {
    nameOf: (thought, last) => `thought ${thought} of ${last}`,
    onStep: () => showThought(state),
  });
  state.chooser = makeChooser({
    labels: questions.map((question) => `root ${question.nodes[question.root]}, ` +
      (question.is_correct ? "answered correctly" : "answered wrongly")),
    isWrong: (k) => !questions[k].is_correct,
    onChoose: (k) => showQuestion(state, k),
  });
  choose(state.chooser, 0);
  onWidth(byId("graph"), () => redrawGraph(state));
}

function massCaption(frontier) {
  return `Mean over ${count(frontier.num_questions)} test questions. Left bar: the probability ` +
    "that the thought gives to all nodes at this depth below the root asked about. Right bar: " +
    "what they would get if every node of the graph got the same.";
}

function current(state) {
  return state.frontier.questions[state.question];
}

function depthOf(state, thought) {
  return state.frontier.mass.find((entry) => entry.thought === thought)?.depth ?? thought;
}

function showQuestion(state, index) {
  const { byId, stepper } = state;
  state.question = index;
  const question = current(state);
  state.plan = planOf(question);
  byId("question-text").replaceChildren(...questionWords(question));
  byId("nodes-table").replaceChildren(nodesTable("Probability that each thought gives to each node",
    question, state.plan,
    question.probabilities.map((shares, k) => ({ name: `thought ${k + 1}`, shares }))));
  drawMinis(state);
  drawLarge(state);
  goTo(stepper, stepper.step, 1, question.probabilities.length);
}

function questionWords(question) {
  const name = (node) => html("b", {}, question.nodes[node]);
  const pair = candidates(question);
  const bare = (words) => html("b", {}, words.trim().replace(/\.$/, "") || "nothing");
  const verdict = question.is_correct ? [html("span", { class: "right" }, "✓ correct"), ". "]
    : [html("span", { class: "wrong" }, "✗ wrong"), "; correct is ", bare(question.answer), ". "];
  return ["Starting at ", name(question.root), ", can one reach ", name(pair[0]), " or ",
    name(pair[1]), "? The model answers ", bare(question.predicted), ": ", ...verdict,
    `Gold chain: ${goldChain(question)}.`];
}

function drawLarge(state) {
  const box = state.byId("graph");
  state.graph = drawLargeGraph(current(state), state.plan, box.clientWidth,
    "Graph of the question, two families of nodes in layers below their roots. " +
    "All its numbers are in the table at the end of this section.");
  box.replaceChildren(state.graph.element);
}

function redrawGraph(state) {
  drawLarge(state);
  showThought(state);
}

function drawMinis(state) {
  const question = current(state);
  state.minis = question.probabilities.map((shares, k) => {
    const thought = k + 1;
    const depth = depthOf(state, thought);
    const nodes = nodesAtDepth(question, state.plan, depth);
    const small = drawGraph(question, state.plan, SMALL_SIZES);
    small.show(shares, state.shareMax, depth);
    small.element.setAttribute("aria-hidden", "true");
    const words = nodes.length === 0 ? `no depth\u00a0${depth} here`
      : `${percent(sumOver(nodes, shares))} on depth\u00a0${depth}`;
    const button = html("button", { type: "button", class: "mini" },
      html("strong", {}, `thought ${thought}`), small.element, html("span", {}, words));
    button.addEventListener("click", () => goTo(state.stepper, thought));
    return button;
  });
  const miniWidth = clamp(22 * state.plan.width, 94, 220);
  state.byId("minis").style.setProperty("--mini-width", `${miniWidth}px`);
  state.byId("minis").replaceChildren(...state.minis);
}

function showThought(state) {
  const thought = state.stepper.step;
  const shares = current(state).probabilities[thought - 1];
  state.graph.show(shares, state.shareMax, depthOf(state, thought));
  state.byId("thought-text").textContent = thoughtWords(state, thought, shares);
  state.minis.forEach((mini, k) => mini.setAttribute("aria-pressed", String(k + 1 === thought)));
}

function thoughtWords(state, thought, shares) {
  const question = current(state);
  const depth = depthOf(state, thought);
  const nodes = nodesAtDepth(question, state.plan, depth);
  if (nodes.length === 0) return `Thought ${thought}: this question has no node at depth ${depth}.`;
  return `Thought ${thought} gives ${percent(sumOver(nodes, shares))} of its probability to ` +
    `depth ${depth} below the root asked about (${namesOf(question, nodes)}). ` +
    `Spread evenly it would be ${percent(nodes.length / question.nodes.length)}.`;
}
