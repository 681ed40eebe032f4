// What holds over all questions: a band for each kind of result, with a column for each method.

function drawOverview(page, byId) {
  const { methods } = page;
  byId("accuracy").append(...methods.map(accuracyColumn));
  drawBand(byId, "mass", methods, (method) => method.mass,
    (box, method) => drawMass(box, method.mass));
  drawBand(byId, "outcomes", methods, (method) => method.outcomes, drawOutcomes);
  if (byId("outcomes-band")) {
    byId("outcomes-legend").append(...outcomesLegend(methods));
    byId("outcomes-table").append(outcomesTable(methods));
  }
  drawBand(byId, "effects", methods, (method) => method.interventions, (box, method) =>
    box.append(effectsTable(method, effectsAtAll(method))));
}

// Where no intervention is at all thoughts, those at single ones are all there is.
function effectsAtAll({ interventions }) {
  const atAll = interventions.filter((effect) => effect.thought === null);
  return atAll.some((effect) => effect.name !== "none") ? atAll : interventions;
}

function accuracyColumn(method) {
  const { num_thoughts: thoughts, num_questions: questions } = method;
  return html("div", { class: "column" },
    html("p", { class: "method-name" }, methodName(method.name),
      method.summary ? html("span", { class: "summary" }, method.summary) : null),
    html("p", { class: "headline" }, html("strong", {}, percent(method.accuracy, 1)),
      ` right (95\u00a0% interval ${intervalWords(method)}) of ${count(questions)} questions, ` +
      `with ${thoughts} ${thoughts === 1 ? "thought" : "thoughts"}`));
}

// A band that no method has anything for is left out.
function drawBand(byId, name, methods, listOf, draw) {
  if (methods.every((method) => listOf(method).length === 0)) {
    byId(`${name}-band`).remove();
    return;
  }
  byId(name).append(...methods.map((method) => {
    const [column, box] = makeColumn(method, methods);
    if (listOf(method).length === 0) box.append(html("p", { class: "caption" }, "Not measured."));
    else draw(box, method);
    return column;
  }));
}

// A column that is headed by its method if there are two.
function makeColumn(method, methods) {
  const box = html("div", {});
  const name = methods.length > 1 ? html("h4", {}, methodName(method.name)) : null;
  return [html("div", { class: "column" }, name, box), box];
}
