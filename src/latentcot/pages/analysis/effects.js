// Tables of interventions: what is put in the place of thoughts, and what is left of the answers.

const INTERVENTIONS = {
  none: "the unchanged model",
  zero: "zeros",
  noise: "noise of the same length",
  mean: "mean over all questions",
  shuffle: "another of its own thoughts",
  swap: "thought on another question",
  token: "embedding of its best token",
  replay: "the same again, as a check",
};

// `answerTo(effect)`: what stands in the cell for this question; left out, there is no such column.
function effectsTable(method, effects, answerTo = null) {
  const unchanged = method.interventions.find((effect) => effect.name === "none");
  const mark = unchanged?.accuracy ?? method.accuracy;
  const head = (className, ...children) =>
    html("th", { scope: "col", class: className }, ...children);
  return html("table", { class: "rows effects" },
    html("thead", {}, html("tr", {},
      head(null, "put in its place"),
      answerTo && head(null, "answer here"),
      head("plot", "accuracy (%)", axisSvg(mark, "unchanged")),
      head("number", "95\u00a0% interval, p"))),
    html("tbody", {}, ...effects.map((effect) => effectRow(effect, mark, method, answerTo))));
}

function effectRow(effect, mark, method, answerTo) {
  const about = INTERVENTIONS[effect.name];
  return html("tr", {},
    html("th", { scope: "row" }, html("span", { class: "name" }, effect.name),
      about ? html("span", { class: "summary" }, about) : null),
    answerTo && html("td", {}, ...answerTo(effect)),
    html("td", { class: "plot" }, isNumber(effect.accuracy)
      ? intervalSvg(effect, mark, method.name) : null),
    html("td", { class: "number" }, html("strong", {}, percent(effect.accuracy, 1)),
      html("span", { class: "interval" }, intervalWords(effect),
        isNumber(effect.p) ? `, ${pWords(effect.p)}` : "")));
}

function pWords(p) {
  return p < 0.001 ? "p\u00a0<\u00a00.001" : `p\u00a0=\u00a0${Number(p.toPrecision(2))}`;
}

function verdict(isCorrect) {
  return isCorrect ? html("span", { class: "right" }, "✓ right")
    : html("span", { class: "wrong" }, "✗ wrong");
}

function answerWords(answer) {
  return html("b", {}, answer.trim().replace(/\.$/, "") || "nothing");
}
