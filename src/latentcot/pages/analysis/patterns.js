// How an outcome looks: words, and a colour with a hatch of its own, so that it is told apart
// without colours too. The same as in the figures of the analysis.

const OUTCOMES = {
  correct_path: { words: "correct path", about: "a shortest chain to the right candidate" },
  longer_path: { words: "longer path", about: "a chain to the right candidate with detours" },
  hallucination: { words: "hallucination", about: "an edge that does not exist, or a gap" },
  wrong_target: { words: "wrong target", about: "a chain of real edges to another node" },
  correct_label: { words: "correct label", about: "no chain, only the right answer" },
  incorrect_label: { words: "incorrect label", about: "no chain, only a wrong answer" },
};

const HATCHES = {
  correct_path: "",
  longer_path: "M-1 1L1 -1M-1 7L7 -1M5 7L7 5",
  hallucination: "M0 0L6 6M0 6L6 0",
  wrong_target: "M1.5 1.5h.01M4.5 4.5h.01",
  correct_label: "M-1 5L1 7M-1 -1L7 7M5 -1L7 1",
  incorrect_label: "M0 1.5H6M0 4.5H6",
};

function makePatterns(defs) {
  defs.append(...Object.entries(HATCHES).map(([name, d]) =>
    svg("pattern", { id: `fill-${name}`, width: 6, height: 6, patternUnits: "userSpaceOnUse" },
      svg("rect", { width: 6, height: 6, class: `ground ${name}` }),
      svg("path", { d, class: "hatch" }))));
}

function patternOf(outcome) {
  return `url(#fill-${outcome})`;
}

// A patch of the pattern with its words, as in the legend and beside an answer.
function outcomeBadge(outcome, hint = "") {
  const patch = canvas(16, 12, { class: "patch", "aria-hidden": "true" },
    svg("rect", { x: 0.5, y: 0.5, width: 15, height: 11, fill: patternOf(outcome) }));
  const { words, about } = OUTCOMES[outcome];
  return html("span", { class: "key", title: about }, patch, words, hint);
}
