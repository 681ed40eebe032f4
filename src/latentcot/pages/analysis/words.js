// Sentences about what is seen.

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
