// What one method answers to one question: after each number of thoughts, and with thoughts changed.

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
