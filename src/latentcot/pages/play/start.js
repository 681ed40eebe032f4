// Starts the page: everything follows from one state, and each change of it draws the page again.

const MOST_THOUGHTS = 12;
const HINTS = {
  move: "Drag a node where you want it.",
  connect: "Drag from node to node, or tap one and then the other; again removes the edge. Into the " +
    "open makes a new node.",
  erase: "Tap a node or an edge.",
};

function startPage() {
  const page = readData();
  const byId = (id) => document.getElementById(id);
  const state = { page, byId, reasoners: page.models.map(openReasoner), puzzle: null, wanted: null,
    changes: [], past: [], minis: [], numbers: { seed: Date.now() % 1e6, example: 0 } };
  startTheme(byId("theme"));
  checkAgainstPyTorch(state);
  state.board = makeBoard(byId("board"), {
    names: page.names,
    toolOf,
    onChange: (puzzle, isDone, lost) => changePuzzle(state, puzzle, isDone, lost),
    onCancel: () => letGo(state) && update(state, {}, false),
    onRefuse: (words) => tellWords(state, words),
  });
  state.stepper = makeStepper(byId("play"), {
    nameOf: (step, last) => (step === 0 ? "the question" : step === last ? "the answer"
      : `thought ${step} of ${last - 1}`),
    onStep: () => showStep(state),
  });
  state.setChanges = (changes) => update(state, { changes });
  drawLegend(byId("legend"), 1, "probability", svg("circle", { r: 10, class: "halo is-held" }));
  startControls(state);
  startChanges(state);
  const start = readLink(location.hash, page.names, MOST_THOUGHTS);
  state.stepper.step = start?.step ?? 1;
  update(state, start ?? { puzzle: examplePuzzle(state) }, false);
  addEventListener("hashchange", () => {
    const found = readLink(location.hash, page.names, MOST_THOUGHTS);
    if (found === null || linkOf(current(state), page.names) === location.hash) return;
    state.stepper.step = found.step;
    update(state, found);
  });
  onWidth(byId("board"), () => draw(state));
  drawProvenance(byId("provenance"), page.provenance);
  // For the console: `latentcot.ask("… [Q] 8 13 [R] 11")`.
  window.latentcot = { ask: (text, { model = 0, numThoughts = null } = {}) =>
    ask(state.reasoners[model], text, numThoughts ?? trainedThoughts(state.reasoners[model], null)) };
}

// --- the state -----------------------------------------------------------------------------------

function current({ puzzle, wanted, changes, stepper }) {
  return { puzzle, wanted, changes, step: stepper.step };
}

// The first question is one with as many hops as there can be: there is most to see.
function examplePuzzle({ page, numbers }) {
  const { puzzles, trained } = page;
  const most = Math.max(...trained.hops);
  const isFull = (puzzle) => questionOf(puzzle).hops === most;
  const start = Math.max(0, puzzles.findIndex(isFull));
  return withPlaces(puzzles[(start + numbers.example) % puzzles.length]);
}

// Put something else into the state, think again, and draw everything.
function update(state, fresh, isUndoable = true) {
  letGo(state);
  if (isUndoable) state.past = [...state.past.slice(-99), current(state)];
  Object.assign(state, fresh);
  state.board.from = null;
  state.byId("undo").disabled = state.past.length === 0;
  tellWords(state, "");
  think(state);
  draw(state);
}

// What is being dragged comes back to where it was; true if something was.
function letGo(state) {
  const { dragged } = state;
  endPress(state.board);
  state.dragged = null;
  if (dragged) state.puzzle = dragged;
  return Boolean(dragged);
}

function undo(state) {
  const before = letGo(state) ? {} : state.past.pop();
  if (before) update(state, before, false);
}

// While a node is dragged only the board moves: nothing that the models read has changed.
function changePuzzle(state, puzzle, isDone, lost = null) {
  if (!isDone) {
    if (puzzle !== state.puzzle) state.dragged ??= state.puzzle;
    state.puzzle = puzzle;
    drawBoard(state.board, puzzle, state.question);
    showStep(state);
    return;
  }
  const changes = lost === null ? state.changes : state.changes
    .filter(({ kind, value }) => !["add", "remove"].includes(kind) || value !== lost)
    .map((one) => (["add", "remove"].includes(one.kind) && one.value > lost
      ? { ...one, value: one.value - 1 } : one));
  update(state, { puzzle, changes });
}

// --- thinking ------------------------------------------------------------------------------------

function think(state) {
  const { puzzle, page, reasoners } = state;
  state.question = questionOf(puzzle);
  const text = textOfPuzzle(puzzle, page.edge);
  const numLatents = (reasoner) => (reasoner.latents === "nothing" ? 0
    : state.wanted ?? trainedThoughts(reasoner, state.question.hops));
  const entries = reasoners.map((reasoner, k) => {
    const number = numLatents(reasoner);
    const refusal = whyUnread(reasoner, puzzle, text, number) ??
      (k === 0 ? whyNotTaken(state, number) : null);
    const change = k === 0 && !refusal ? changesOf(state, number) : undefined;
    return { reasoner, numLatents: number, refusal,
      result: refusal ? null : ask(reasoner, text, number, change) };
  });
  const [first] = entries;
  // A change of a thought that is not thought any more waits until it is.
  state.isChanged = state.changes.some(({ thought }) => thought <= first.numLatents);
  if (state.isChanged && first.result) {
    const plain = { ...first, result: ask(first.reasoner, text, first.numLatents),
      note: "as it thinks by itself" };
    entries.splice(0, 1, { ...first, note: "with the thoughts as you changed them" }, plain);
  }
  Object.assign(state, { text, entries, result: first.result, number: first.numLatents });
  if (!first.result) return;
  const read = (lens, depth) => ({ lens, depth,
    shares: puzzle.nodes.map((name) => lens[first.reasoner.numbers.get(name)]),
    frontier: puzzle.nodes.map((_, node) => node)
      .filter((node) => depth !== null && state.question.distances.get(node) === depth) });
  state.result.readings = first.result.thoughts.map((thought, k) =>
    read(lensOf(first.reasoner, thought), Math.ceil((k + 1) / first.reasoner.thoughts_per_step)));
  state.result.answering = first.result.shares ? read(first.result.shares, null) : null;
}

// Why a model cannot answer a question; null if it can.
function whyUnread(reasoner, puzzle, text, number) {
  const odd = [...puzzle.nodes, ...wordsOf(text)].find((word) => !reasoner.numbers.has(word));
  if (odd !== undefined) return `It does not know the word ${odd}.`;
  const wanted = positionsOf(reasoner, text, number) + 1;
  const most = reasoner.shape.num_positions;
  return wanted <= most ? null : `Too long: ${puzzle.edges.length} edges and ${number} latent ` +
    `positions take ${wanted} positions, and it has ${most}. Remove edges, or let it think less.`;
}

// --- drawing -------------------------------------------------------------------------------------

function draw(state) {
  const { byId, puzzle, question, result, entries, stepper } = state;
  drawBoard(state.board, puzzle, question);
  [puzzle.root, ...puzzle.candidates].forEach((node, role) => fillNodes(byId(`role-${role}`), puzzle, node));
  byId("number").value = state.number;
  byId("as-trained").disabled = state.wanted === null;
  byId("question-text").textContent = state.text;
  drawAnswers(state, entries);
  drawChanges(state);
  drawNotes(state);
  if (result) drawMinis(state);
  else {
    state.minis = [];
    byId("minis").replaceChildren();
  }
  byId("nodes-table").replaceChildren(nodesTable("Probability that each thought gives to each node",
    question, { isReached: (node) => question.distances.has(node), depths: question.distances,
      otherRoots: new Set() },
    (result?.readings ?? []).map(({ shares }, k) => ({ name: `thought ${k + 1}`, shares }))));
  // The same node stays chosen, whatever its number is now.
  const chosen = puzzle.nodes.indexOf(byId("change-node").selectedOptions[0]?.textContent);
  fillNodes(byId("change-node"), puzzle, chosen < 0 ? puzzle.root : chosen);
  goTo(stepper, stepper.step, 0, (result?.thoughts.length ?? 0) + 1);
}

// A select with all nodes, in the order of their names.
function fillNodes(select, { nodes }, chosen) {
  const order = nodes.map((name, node) => ({ name, node })).sort((a, b) =>
    a.name.localeCompare(b.name, "en", { numeric: true }));
  select.replaceChildren(...order.map(({ name, node }) => html("option", { value: node }, name)));
  select.value = chosen;
}

function drawNotes(state) {
  const { page, puzzle, question, reasoners: [reasoner], number, wanted, byId, result } = state;
  const notes = strangeness(puzzle, question, page.trained);
  const usual = trainedThoughts(reasoner, question.hops);
  if (wanted !== null && wanted !== usual) {
    notes.push(`${number} thoughts; in training ${usual} for such a question.`);
  }
  if (result && state.isChanged) notes.push("A thought is changed; in training none was.");
  byId("notes").hidden = notes.length === 0;
  byId("notes-list").replaceChildren(...notes.map((words) => html("li", {}, words)));
}

function showStep(state) {
  const { board, byId, result, stepper, minis } = state;
  const { step } = stepper;
  const isAnswer = result && step === result.thoughts.length + 1;
  const reading = !result || step === 0 ? null : isAnswer ? result.answering : result.readings[step - 1];
  showOnBoard(board, reading?.shares ?? null, reading?.frontier ?? []);
  minis.forEach((mini, k) => mini.setAttribute("aria-pressed", String(k + 1 === step)));
  if (reading) drawBest(state, reading.lens);
  byId("best-figure").hidden = !reading;
  byId("best-title").textContent = isAnswer ? "What the answer could have been"
    : `What thought ${step} would say as a word`;
  const isThought = Boolean(reading) && !isAnswer;
  byId("change").hidden = !isThought;
  byId("change-title").textContent = `Change thought ${step}`;
  byId("readout").textContent = stepWords(state, reading, isAnswer);
  sayWords(state, [byId("readout").textContent, ...answersWords(state)].join(" "));
  clearTimeout(state.linking); // browsers stop pages that write their address too often
  state.linking = setTimeout(() =>
    history.replaceState(null, "", linkOf(current(state), state.page.names)), 200);
}

function stepWords(state, reading, isAnswer) {
  const { result, puzzle, stepper: { step } } = state;
  if (!result) return "";
  if (step === 0) return "The question, before the first thought. Go on with Next, Play, or →.";
  if (isAnswer) return result.answer ? `It answers ${result.answer}.` : "It writes no answer.";
  const { depth, frontier, shares } = reading;
  if (frontier.length === 0) return `Thought ${step}: no node is ${depth} steps from the root.`;
  return `Thought ${step} gives ${percent(sumOver(frontier, shares))} to the nodes ${depth} ` +
    `${depth === 1 ? "step" : "steps"} from the root (${namesOf(puzzle, frontier)}).`;
}

function answersWords({ entries }) {
  return entries.map(({ reasoner, result, refusal, note }) =>
    `${reasoner.name}${note ? `, ${note}` : ""}: ${refusal ?? (result.answer || "no answer")}.`);
}

// For those who hear the page.
function sayWords({ byId }, words) {
  byId("live").textContent = words;
}

// What has just been done, or cannot be, for all.
function tellWords({ byId }, words) {
  byId("status").textContent = words;
}

// --- controls ------------------------------------------------------------------------------------

function startControls(state) {
  const { byId, page } = state;
  const on = (id, kind, act) => byId(id).addEventListener(kind, act);
  const hops = Array.from({ length: mostHops(page.names) }, (_, k) => k + 1);
  byId("hops").append(...hops.map((number) => html("option", { value: number }, String(number))));
  byId("hops").value = clamp(Math.max(...page.trained.hops), 1, hops.length);
  const show = (puzzle) => update(state, { puzzle, changes: [] });
  on("random", "click", () => {
    state.numbers.seed += 1;
    show(randomPuzzle(Number(byId("hops").value), page.names, state.numbers.seed));
  });
  on("example", "click", () => {
    state.numbers.example += 1;
    show(examplePuzzle(state));
  });
  const hint = () => {
    byId("hint").textContent = HINTS[toolOf()];
  };
  document.querySelectorAll("input[name=tool]").forEach((radio) =>
    radio.addEventListener("change", () => {
      hint();
      update(state, {}, false); // ends what was begun with the tool before
    }));
  hint();
  on("tidy", "click", () => update(state, { puzzle: withPlaces(state.puzzle) }));
  on("undo", "click", () => undo(state));
  on("add-node", "click", () => {
    const places = [0.5, 0.1, 0.9, 0.3, 0.7];
    const grown = withNode(state.puzzle, page.names, [places[state.puzzle.nodes.length % 5], 0.5]);
    if (grown) changePuzzle(state, grown, true);
    else tellWords(state, noNameWords(state.board));
  });
  [0, 1, 2].forEach((role) => on(`role-${role}`, "change", (event) =>
    update(state, { puzzle: withRole(state.puzzle, role, Number(event.target.value)) })));
  fill(byId("number"), { max: MOST_THOUGHTS }, []);
  on("number", "change", (event) =>
    update(state, { wanted: clamp(Math.round(Number(event.target.value)) || 0, 0, MOST_THOUGHTS) }));
  on("as-trained", "click", () => update(state, { wanted: null }));
  on("link", "click", () => copyLink(state));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "z" || !(event.ctrlKey || event.metaKey) || event.shiftKey) return;
    event.preventDefault();
    undo(state);
  });
}

function toolOf() {
  return document.querySelector("input[name=tool]:checked").value;
}

function startChanges(state) {
  const { byId, numbers } = state;
  const add = (kind, value = null) => {
    const thought = state.stepper.step;
    // What was done to it before stands behind a thought that is replaced as a whole.
    const isWhole = kind === "zero" || kind === "swap";
    const others = state.changes.filter((one) => !isWhole || one.thought !== thought);
    state.setChanges([...others, { thought, kind, value }]);
  };
  byId("change-zero").addEventListener("click", () => add("zero"));
  byId("change-swap").addEventListener("click", () => {
    numbers.seed += 1;
    add("swap", numbers.seed);
  });
  for (const kind of ["add", "remove"]) {
    byId(`change-${kind}`).addEventListener("click", () => add(kind, Number(byId("change-node").value)));
  }
}

// Where a page may not write to the clipboard, the link stands there to be copied by hand.
async function copyLink(state) {
  const { byId, page } = state;
  history.replaceState(null, "", linkOf(current(state), page.names));
  byId("link-text").value = location.href;
  try {
    await navigator.clipboard.writeText(location.href);
    tellWords(state, "The link is in the clipboard.");
  } catch {
    byId("link-text").hidden = false;
    byId("link-text").select();
  }
}

function checkAgainstPyTorch({ reasoners, byId }) {
  const most = Math.max(...reasoners.map((reasoner) => differenceFrom(reasoner, reasoner.check)));
  const isSame = most < 1e-3;
  byId("check").textContent = isSame
    ? `This browser computes what PyTorch does: on one question the logits differ by ${most.toExponential(1)} at most.`
    : "Beware: this browser does not compute what PyTorch does, so what it shows is not the model.";
  byId("check").classList.toggle("wrong", !isSame);
}

startPage();
