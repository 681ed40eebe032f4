// One question: the same slider moves a graph for each method, and what stands below it.

function startExplore(page, byId) {
  const state = { page, byId, question: 0, view: "thoughts", plan: null, graphs: [], boxes: {},
    maxima: maximaOf(page) };
  makeBoxes(state);
  const explore = byId("explore");
  state.stepper = makeStepper(explore, {
    nameOf: (step, last) => VIEWS[state.view].stepName(step, last),
    onStep: () => showStep(state),
  });
  const right = page.questions.map((_, k) => page.methods.map((m) => isAnsweredRight(m, k)));
  state.chooser = makeChooser({
    labels: page.questions.map((question, k) => questionLabel(question, page.methods, k)),
    isWrong: (k) => right[k].includes(false),
    onChoose: (k) => showQuestion(state, k),
  });
  for (const radio of radiosOf(state)) {
    radio.addEventListener("change", () => {
      state.view = radio.value;
      showView(state, state.stepper.step);
    });
  }
  for (const name of ["replace-one", "replace-all"]) {
    byId(name).addEventListener("change", () => showTables(state));
  }
  followHash(state);
  addEventListener("hashchange", () => followHash(state));
  onWidth(byId("graphs"), () => redrawGraphs(state));
}

// One scale for all questions and methods, but not for both views.
function maximaOf({ methods }) {
  const all = (view) => methods.flatMap((method) =>
    method.questions.flatMap((readings) => readings[view].flat()));
  return { thoughts: shareMaxOf(all("thoughts")), values: shareMaxOf(all("values")) };
}

function makeBoxes(state) {
  const { page: { methods }, byId, boxes } = state;
  for (const name of ["graphs", "answers", "changes"]) {
    const columns = methods.map((method) => makeColumn(method, methods));
    byId(name).append(...columns.map(([column]) => column));
    boxes[name] = columns.map(([, box]) => box);
  }
  const has = (name) => methods.some((method) =>
    method.questions.some((readings) => readings[name].length > 0));
  byId("answers-band").hidden = !has("answers");
  byId("changes-band").hidden = !has("interventions");
}

function radiosOf({ byId }) {
  return [...byId("explore").querySelectorAll("input[name=view]")];
}

function followHash(state) {
  const wanted = readHash(state.page.questions.length);
  state.view = wanted.view ?? state.view;
  state.stepper.step = wanted.step ?? state.stepper.step;
  choose(state.chooser, wanted.question ?? state.question);
}

function readingsOf(state) {
  return state.page.methods.map((method) => method.questions[state.question]);
}

function showQuestion(state, index) {
  state.question = index;
  const { byId, page, stepper } = state;
  const question = page.questions[index];
  state.plan = planOf(question);
  byId("question-words").replaceChildren(...questionWords(question));
  byId("question-text").textContent = question.text;
  drawGraphs(state);
  showView(state, stepper.step);
}

// The slider gets the range of the view. A view that the question has no numbers for is off.
function showView(state, step) {
  const { byId, stepper } = state;
  const lengths = (view) => Math.max(...readingsOf(state).map((r) => r[view].length));
  if (lengths(state.view) === 0) state.view = state.view === "thoughts" ? "values" : "thoughts";
  for (const radio of radiosOf(state)) {
    radio.disabled = lengths(radio.value) === 0;
    radio.checked = radio.value === state.view;
  }
  byId("view-words").textContent = `${VIEWS[state.view].about} Dashed frame: the layer that a ` +
    "breadth-first search would hold.";
  drawLegend(byId("legend"), state.maxima[state.view], VIEWS[state.view].measure);
  const isThoughts = state.view === "thoughts";
  goTo(stepper, step, isThoughts ? 1 : 0, lengths(state.view) - (isThoughts ? 0 : 1));
}

function drawGraphs(state) {
  const question = state.page.questions[state.question];
  state.graphs = state.boxes.graphs.map((box, k) => {
    const label = `Graph of the question, with numbers of ${state.page.methods[k].name}. ` +
      "They are also in the table below the graph.";
    const graph = drawLargeGraph(question, state.plan, box.clientWidth, label);
    const readout = html("p", { class: "readout" });
    const scroll = html("div", { class: "graph-box" }, graph.element);
    box.replaceChildren(scroll, readout);
    return { ...graph, readout };
  });
}

function redrawGraphs(state) {
  drawGraphs(state);
  showStep(state);
}

function showStep(state) {
  const { page, byId, view, plan, stepper: { step } } = state;
  const question = page.questions[state.question];
  const spoken = state.graphs.map((graph, k) => {
    const shares = sharesOf(state, k);
    const depth = depthShown(page, page.methods[k], view, step);
    graph.show(shares ?? [], state.maxima[view], depth);
    const words = readingWords(question, plan, shares, depth, { view, step });
    graph.readout.textContent = `${VIEWS[view].title(step)}: ${words}`;
    return page.methods.length > 1 ? `${page.methods[k].name}: ${words}` : words;
  });
  byId("live").textContent = `${VIEWS[view].title(step)}: ${spoken.join(" ")}`;
  showTables(state);
  writeHash({ question: state.question, step, view });
}

// The number of the thought that is replaced; null for all of them. Shows it on the radios too.
function replacedBy({ byId, stepper: { step } }) {
  const [alone, all] = ["replace-one", "replace-all"].map(byId);
  alone.disabled = step === 0;
  byId("replace-one-name").textContent = step === 0 ? "one thought" : `thought ${step} alone`;
  return alone.checked && step > 0 ? step : null;
}

function sharesOf({ page, question, view, stepper: { step } }, method) {
  return page.methods[method].questions[question][view][view === "thoughts" ? step - 1 : step];
}

function showTables(state) {
  const { page, byId, view, plan, boxes, stepper: { step } } = state;
  const title = VIEWS[view].title(step);
  const columns = page.methods.map((method, k) =>
    ({ name: `${method.name}, ${VIEWS[view].measure}`, shares: sharesOf(state, k) ?? [] }));
  byId("nodes-table").replaceChildren(
    nodesTable(`${title}: ${VIEWS[view].measure} of each node`,
      page.questions[state.question], plan, columns));
  const replaced = replacedBy(state);
  readingsOf(state).forEach((readings, k) => {
    const none = () => html("p", { class: "caption" }, "Not measured.");
    boxes.answers[k].replaceChildren(readings.answers.length === 0 ? none()
      : answersTable(readings.answers, step));
    boxes.changes[k].replaceChildren(readings.interventions.length === 0 ? none()
      : changesTable(page.methods[k], readings, replaced));
  });
}

// --- answers -----------------------------------------------------------------------------------

// Of one method to one question: after each number of thoughts, and with thoughts replaced.

function answersTable(answers, step) {
  const head = ["k", "answer, and all that it writes", "outcome"].map((name) =>
    html("th", { scope: "col" }, name));
  const rows = answers.map((entry) => html("tr",
    { "aria-current": entry.k === step ? "true" : null },
    html("th", { scope: "row" }, String(entry.k)),
    html("td", {}, answerWords(entry.answer), " ", verdict(entry.is_correct),
      html("span", { class: "summary" }, entry.text.trim() || "nothing")),
    html("td", {}, outcomeBadge(entry.outcome))));
  return html("table", { class: "rows answers" },
    html("thead", {}, html("tr", {}, ...head)), html("tbody", {}, ...rows));
}

// Interventions at one thought, or at all of them (null), with the answer to this question.
function changesTable(method, readings, thought) {
  const unchanged = readings.answers.find((entry) => entry.k === method.num_thoughts);
  const answerTo = (effect) => {
    const entry = effect.name === "none" ? unchanged : readings.interventions.find((changed) =>
      changed.name === effect.name && changed.thought === effect.thought);
    return entry ? [answerWords(entry.answer), " ", verdict(entry.is_correct)] : ["–"];
  };
  const effects = method.interventions.filter((effect) =>
    effect.name === "none" || effect.thought === thought);
  return effectsTable(method, effects, answerTo);
}

// --- sentences ---------------------------------------------------------------------------------

const VIEWS = {
  thoughts: {
    measure: "probability",
    about: "The number in a node: the probability in % that the model's output head, applied to " +
      "the thought, gives to the name of the node.",
    stepName: (step, last) => `thought ${step} of ${last}`,
    title: (step) => `Thought ${step}`,
    missing: (step) => `has no thought ${step}`,
  },
  values: {
    measure: "value",
    about: "The number in a node is its value in %: the probability that the model names it next " +
      "when thinking ends after k thoughts and it must write a step.",
    stepName: (step, last) => `k = ${step} of ${last}`,
    title: (step) => `After ${step} ${step === 1 ? "thought" : "thoughts"}`,
    missing: (step) => `has no values after ${step} thoughts`,
  },
};

// Which layer a breadth-first search would hold. In symbols the step after k thoughts is the next
// node; in words ("Every A is a B.") it begins with the node that was reached.
function depthShown(page, method, view, step) {
  const steps = Math.floor(step / method.thoughts_per_step);
  if (view === "values") return page.form === "symbols" ? steps + 1 : steps;
  return method.mass.find((entry) => entry.thought === step)?.depth ?? step;
}

function readingWords(question, plan, shares, depth, { view, step }) {
  if (!shares) return `${VIEWS[view].missing(step)}.`;
  const nodes = nodesAtDepth(question, plan, depth);
  if (nodes.length === 0) return `this question has no node at depth ${depth}.`;
  const even = percent(nodes.length / question.nodes.length);
  return `${percent(sumOver(nodes, shares))} on the frontier, depth ${depth} below the root ` +
    `(${namesOf(question, nodes)}). Spread evenly it would be ${even}.`;
}

function questionWords(question) {
  const name = (node) => html("b", {}, question.nodes[node]);
  const [first, second] = candidates(question).map(name);
  return ["Starting at ", name(question.root), ", can one reach ", first, " or ", second,
    `? Gold chain: ${goldChain(question)}.`];
}

function questionLabel(question, methods, index) {
  const marks = methods.map((method) => {
    const isRight = isAnsweredRight(method, index);
    const mark = isRight === null ? "?" : isRight ? "✓" : "✗";
    return methods.length > 1 ? `${method.name} ${mark}` : mark;
  });
  return `root ${question.nodes[question.root]}, ${marks.join(", ")}`;
}

// With as many thoughts as in training, or else with the most that was forced; null: not known.
function isAnsweredRight(method, index) {
  const { answers } = method.questions[index];
  const entry = answers.find(({ k }) => k === method.num_thoughts) ?? answers.at(-1);
  return entry ? entry.is_correct : null;
}

// --- address -----------------------------------------------------------------------------------

// It keeps what is shown, so that it can be sent: #q=3&t=2&view=values. Counted from 1.

function readHash(numQuestions) {
  const given = new URLSearchParams(location.hash.slice(1));
  const whole = (name) => (/^\d+$/.test(given.get(name) ?? "") ? Number(given.get(name)) : null);
  const question = whole("q");
  return {
    question: question === null ? null : clamp(question, 1, numQuestions) - 1,
    step: whole("t"),
    view: Object.hasOwn(VIEWS, given.get("view")) ? given.get("view") : null,
  };
}

function writeHash({ question, step, view }) {
  const kept = new URLSearchParams({ q: question + 1, t: step });
  if (view !== "thoughts") kept.set("view", view);
  history.replaceState(null, "", `#${kept}`);
}
