// Looking into the thoughts: small graphs of all of them, the best tokens of one, and its changes.

const NUM_BEST = 5;

const CHANGE_WORDS = {
  zero: () => "zero",
  add: ({ value }, puzzle) => `add ${puzzle.nodes[value]}`,
  remove: ({ value }, puzzle) => `take out ${puzzle.nodes[value]}`,
  swap: () => "from another graph",
};

// One button for each thought, with its graph.
function drawMinis(state) {
  const { result, board, byId } = state;
  const minis = result.thoughts.map((_, k) => {
    const { shares, frontier, depth } = result.readings[k];
    const words = frontier.length === 0 ? `no depth\u00a0${depth} here`
      : `${percent(sumOver(frontier, shares))} on depth\u00a0${depth}`;
    const isChanged = state.changes.some(({ thought }) => thought === k + 1);
    const button = html("button", { type: "button", class: "mini" },
      html("strong", {}, `thought ${k + 1}${isChanged ? " ✎" : ""}`),
      miniBoard(board, shares, frontier), html("span", {}, words));
    button.addEventListener("click", () => goTo(state.stepper, k + 1));
    return button;
  });
  byId("minis").replaceChildren(...minis);
  state.minis = minis;
}

// The tokens that the output head would say, the best first, each with a bar.
function drawBest(state, lens) {
  const { reasoners: [reasoner], question, byId } = state;
  const order = Array.from(lens, (share, token) => ({ share, token }))
    .sort((a, b) => b.share - a.share).slice(0, NUM_BEST);
  byId("best").replaceChildren(...order.map(({ share, token }) => {
    const name = reasoner.vocabulary[token];
    const node = question.nodes.indexOf(name);
    const depth = question.distances.get(node);
    const about = node < 0 ? "not in the graph" : depth === undefined ? "not reached" :
      depth === 0 ? "the root" : `depth ${depth}`;
    const bar = html("span", { class: "bar-line", style: `--part:${share.toFixed(4)}` });
    return html("li", {}, html("b", {}, name), bar, html("span", { class: "percent" }, percent(share, 1)),
      html("span", { class: "about" }, about));
  }));
}

// What is done to the thoughts, each with a button that takes it back.
function drawChanges(state) {
  const { changes, puzzle, byId } = state;
  byId("changes").replaceChildren(...changes.map((change, k) => {
    const words = `thought ${change.thought}: ${CHANGE_WORDS[change.kind](change, puzzle)}`;
    const button = html("button", { type: "button", "aria-label": `Undo ${words}` }, `${words} ×`);
    button.addEventListener("click", () => state.setChanges(changes.filter((_, i) => i !== k)));
    return html("li", {}, button);
  }));
}

// The graph that a thought is taken from: with as many hops as the question.
function otherGraph({ question, page }, seed) {
  return randomPuzzle(clamp(question.hops ?? 1, 1, mostHops(page.names)), page.names, seed);
}

// Why the model cannot read a graph that one of so many thoughts is taken from; null if it can.
function whyNotTaken(state, numThoughts) {
  const { reasoners: [reasoner], changes, page } = state;
  for (const { thought, kind, value } of changes) {
    if (kind !== "swap" || thought > numThoughts) continue;
    const other = otherGraph(state, value);
    const reason = whyUnread(reasoner, other, textOfPuzzle(other, page.edge), numThoughts);
    if (reason !== null) return `Thought ${thought} comes from another graph, which it cannot read: ${reason}`;
  }
  return null;
}

// `(k, thought)` → what is read in its place, by the changes of a state.
function changesOf(state, numThoughts) {
  const { reasoners: [reasoner], changes, puzzle, page } = state;
  const tokens = puzzle.nodes.map((name) => reasoner.numbers.get(name));
  const swaps = changes.filter(({ kind, thought }) => kind === "swap" && thought <= numThoughts);
  const others = new Map(swaps.map(({ value }) => {
    const text = textOfPuzzle(otherGraph(state, value), page.edge);
    return [value, ask(reasoner, text, numThoughts).thoughts];
  }));
  const change = (thought, { kind, value, thought: number }) => {
    if (kind === "zero") return thought.map(() => 0);
    if (kind === "swap") return others.get(value)[number - 1];
    const logits = logitsOf(reasoner, thought);
    const known = tokens.filter((_, node) => node !== value).map((token) => logits[token]);
    const logit = kind === "add" ? Math.max(...known) : Math.min(...known);
    return withLogit(reasoner, thought, tokens[value], logit);
  };
  return (k, thought) => changes.filter((one) => one.thought === k).reduce(change, thought);
}
