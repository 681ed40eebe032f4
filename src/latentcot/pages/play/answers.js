// What each model answers, next to each other.

// `entries`: {reasoner, name, result} each; where a model cannot read the question, `refusal` in place
// of a result.
function drawAnswers(state, entries) {
  const head = ["method", "what it writes", "answer", "probability", "time"].map((words) =>
    html("th", { scope: "col", class: words === "time" ? "number" : null }, words));
  const rows = entries.map((entry) => html("tr", {},
    html("th", { scope: "row" }, methodName(entry.reasoner.name),
      html("span", { class: "summary" }, entry.note ?? entry.reasoner.summary)),
    ...entry.refusal ? [html("td", { colspan: 4 }, entry.refusal)] : answerCells(state, entry)));
  state.byId("answers").replaceChildren(html("table", { class: "rows answers" },
    html("thead", {}, html("tr", {}, ...head)), html("tbody", {}, ...rows)));
}

function answerCells({ puzzle, question }, { reasoner, result, numLatents }) {
  const sign = reasoner.latents === "pauses" ? "‖" : "●";
  const what = `${numLatents} ${reasoner.latents === "pauses" ? "pause" : "thought"}` +
    `${numLatents === 1 ? "" : "s"}`;
  const latents = numLatents === 0 ? null
    : html("span", { class: "latents", role: "img", "aria-label": what }, sign.repeat(numLatents));
  const shares = puzzle.candidates.map((node) => {
    const share = result.shares?.[reasoner.numbers.get(puzzle.nodes[node])];
    return html("span", { class: "candidate" }, html("b", {}, puzzle.nodes[node]),
      ` ${percent(share)}`);
  });
  return [
    html("td", {}, latents, html("code", {}, result.text || "nothing")),
    html("td", {}, html("b", {}, result.answer || "none"), " ", verdictOn(question, result.answer)),
    html("td", {}, ...shares),
    html("td", { class: "number" }, `${fixed(result.milliseconds, 1)}\u00a0ms`),
  ];
}

// Right and wrong exist only where one candidate can be reached and the other cannot.
function verdictOn(question, answer) {
  if (question.targets.length !== 1) return html("span", { class: "summary" }, "no right answer");
  return answer === question.nodes[question.target]
    ? html("span", { class: "right" }, "✓ right") : html("span", { class: "wrong" }, "✗ wrong");
}
