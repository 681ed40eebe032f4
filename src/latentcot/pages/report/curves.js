// Learning curves: one panel for each method, loss above accuracy, one cursor for all panels.

const CURVE_MARGIN = { left: 44, right: 20, top: 36, bottom: 36 };
const LOSS_HEIGHT = 118;
const ACCURACY_HEIGHT = 118;
const PANEL_GAP = 34;

function drawCurves(box, report) {
  const axes = curveAxes(report);
  const panels = report.curves.map((curve) => curvePanel(curve, report.curves, axes));
  const moveAll = (update) => panels.forEach((panel) => panel.moveTo(update));
  for (const panel of panels) {
    box.append(panel.element);
    panel.start(moveAll);
  }
}

function curveAxes({ curves, chance }) {
  const updates = curves.flatMap((curve) => [...curve.losses, ...curve.accuracies])
    .map((point) => point.update);
  const losses = curves.flatMap((curve) => curve.losses).map((point) => point.loss)
    .filter(isNumber);
  return {
    lastUpdate: Math.max(1, ...updates),
    lossTicks: ticks(Math.max(0.1, ...losses), 4),
    chance,
  };
}

// One panel with `moveTo(update)`, which null sets back to the end of the training.
function curvePanel(curve, curves, axes) {
  const area = html("div", { class: "curve-area", role: "slider", tabindex: "0",
    "aria-label": `Learning curve of ${curve.method}, by update`,
    "aria-valuemin": 0, "aria-valuemax": axes.lastUpdate });
  const readout = html("p", { class: "readout", "aria-hidden": "true" });
  const element = html("figure", { class: "curve" },
    html("h3", {}, methodName(curve.method)), area, readout);
  const state = { curve, curves, axes, area, readout, update: null, drawn: null };
  return {
    element,
    moveTo: (update) => moveCursor(state, update),
    start: (moveAll) => {
      onWidth(area, (width) => redrawPanel(state, width));
      listenToPanel(state, moveAll);
    },
  };
}

function redrawPanel(state, width) {
  const { left, right, top, bottom } = CURVE_MARGIN;
  const lossBottom = top + LOSS_HEIGHT;
  const accuracyTop = lossBottom + PANEL_GAP;
  const accuracyBottom = accuracyTop + ACCURACY_HEIGHT;
  const highest = state.axes.lossTicks.at(-1);
  const x = scale(0, state.axes.lastUpdate, left, width - right);
  const loss = scale(0, highest, lossBottom, top);
  const accuracy = scale(0, 1, accuracyBottom, accuracyTop);
  const cursor = svg("g", { class: "cursor", visibility: "hidden" });
  const edges = { left, right: width - right, top, bottom: accuracyBottom };
  const drawing = canvas(width, accuracyBottom + bottom, { "aria-hidden": "true" },
    ...lossAxis(state.axes.lossTicks, loss, edges),
    ...accuracyAxis(state.axes.chance, accuracy, edges),
    ...updateAxis(state.axes.lastUpdate, x, edges),
    ...stageMarks(state.curve, x, edges),
    ...otherLines(state, x, accuracy),
    ...curveLine(state.curve, state.curve.losses, (p) => p.loss, x, loss),
    ...curveLine(state.curve, state.curve.accuracies, (p) => p.accuracy, x, accuracy),
    cursor);
  state.drawn = { x, loss, accuracy, cursor, edges, width };
  state.area.replaceChildren(drawing);
  moveCursor(state, state.update);
}

function lossAxis(values, y, edges) {
  const bottom = y(0);
  return [
    text(0, 11, "loss (nats per token)", { class: "axis-title" }),
    ...values.map((value) => line(edges.left, y(value), edges.right, y(value), "grid")),
    ...values.map((value) => tickText(edges.left - 6, y(value) + 4, value)),
    line(edges.left, bottom, edges.right, bottom, "axis"),
  ];
}

function accuracyAxis(chance, y, edges) {
  return [
    text(0, y(1) - 10, "validation accuracy (%)", { class: "axis-title" }),
    ...[0, 0.5, 1].map((share) => line(edges.left, y(share), edges.right, y(share), "grid")),
    ...[0, 0.5, 1].map((share) => tickText(edges.left - 6, y(share) + 4, 100 * share)),
    line(edges.left, y(0), edges.right, y(0), "axis"),
    line(edges.left, y(chance), edges.right, y(chance), "chance"),
  ];
}

function updateAxis(last, x, edges) {
  const values = ticks(last, (edges.right - edges.left) / 80).filter((value) => value <= last);
  return [
    ...values.map((value) => line(x(value), edges.bottom, x(value), edges.bottom + 4, "axis")),
    ...values.map((value) => text(x(value), edges.bottom + 16, count(value),
      { class: "tick", "text-anchor": "middle" })),
    text(edges.right, edges.bottom + 31, "updates", { class: "axis-title", "text-anchor": "end" }),
  ];
}

function tickText(x, y, content) {
  return text(x, y, content, { class: "tick", "text-anchor": "end" });
}

// Where each stage begins and ends.
function stagesOf(curve) {
  const points = curve.losses.length > 0 ? curve.losses : curve.accuracies;
  const stages = [];
  for (const { stage, update } of points) {
    const current = stages.at(-1);
    if (current && current.stage === stage) current.last = update;
    else stages.push({ stage, first: update, last: update });
  }
  return stages;
}

function stageMarks(curve, x, edges) {
  const stages = stagesOf(curve);
  const spans = stages.map(({ first }, k) => {
    const start = k === 0 ? edges.left : x(first);
    return { start, end: k + 1 < stages.length ? x(stages[k + 1].first) : edges.right };
  });
  const isShort = spans.some(({ start, end }) => end - start < 46);
  const name = (at, words, anchor) =>
    text(at, edges.top - 7, words, { class: "stage-name", "text-anchor": anchor });
  return [
    ...(isShort ? [name(edges.left - 6, "stage", "end")] : []),
    ...spans.slice(1).map(({ start }) => line(start, edges.top - 16, start, edges.bottom, "stage")),
    ...spans.flatMap(({ start, end }, k) => (end - start < 10 ? []
      : [name(start + 4, `${isShort ? "" : "stage "}${stages[k].stage}`, "start")])),
  ];
}

function otherLines(state, x, y) {
  return state.curves.filter((other) => other !== state.curve).map((other) =>
    svg("path", { d: pathOf(other.accuracies, (p) => p.accuracy, x, y), class: "other-line" }));
}

function curveLine(curve, points, value, x, y) {
  const d = pathOf(points, value, x, y);
  const casing = isPale(curve.method) ? [svg("path", { d, class: "casing" })] : [];
  const dots = points.length > 30 ? [] : points.filter((p) => isNumber(value(p))).map((p) =>
    svg("circle", { cx: x(p.update), cy: y(value(p)), r: 2.2, fill: colourOf(curve.method) }));
  return [...casing, svg("path", { d, class: "line", stroke: colourOf(curve.method) }), ...dots];
}

// A missing value (a loss that is not a number) interrupts the line.
function pathOf(points, value, x, y) {
  let pen = "M";
  let d = "";
  for (const point of points) {
    if (!isNumber(value(point))) {
      pen = "M";
      continue;
    }
    d += `${pen}${x(point.update).toFixed(1)} ${y(value(point)).toFixed(1)}`;
    pen = "L";
  }
  return d;
}

function nearest(points, update) {
  let best = null;
  for (const point of points) {
    if (best === null || Math.abs(point.update - update) < Math.abs(best.update - update)) {
      best = point;
    }
  }
  return best;
}

function moveCursor(state, update) {
  const { curve, axes, area, readout, drawn } = state;
  state.update = update;
  const loss = nearest(curve.losses, update ?? axes.lastUpdate);
  const at = loss ?? nearest(curve.accuracies, update ?? axes.lastUpdate);
  if (at === null || drawn === null) return;
  const accuracy = curve.accuracies.findLast((point) => point.update <= at.update) ?? null;
  const words = readoutWords(at, loss, accuracy);
  readout.textContent = update === null ? `end: ${words}` : words;
  area.setAttribute("aria-valuenow", at.update);
  area.setAttribute("aria-valuetext", words);
  drawn.cursor.setAttribute("visibility", update === null ? "hidden" : "visible");
  drawn.cursor.replaceChildren(...cursorMarks(drawn, at.update, loss, accuracy));
}

function readoutWords(at, loss, accuracy) {
  const where = `update ${count(at.update)}, stage ${at.stage}: loss ${measured(loss?.loss)}, `;
  if (accuracy === null) return `${where}accuracy not measured yet`;
  const when = accuracy.update === at.update ? "" : ` (of update ${count(accuracy.update)})`;
  return `${where}accuracy ${percent(accuracy.accuracy, 1)}${when}`;
}

function cursorMarks({ x, loss, accuracy, edges }, update, lossPoint, accuracyPoint) {
  const ring = (point, value, y) => (point === null || !isNumber(value) ? [] :
    [svg("circle", { cx: x(point.update), cy: y(value), r: 4.5 })]);
  return [
    line(x(update), edges.top, x(update), edges.bottom, ""),
    ...ring(lossPoint, lossPoint?.loss, loss),
    ...ring(accuracyPoint, accuracyPoint?.accuracy, accuracy),
  ];
}

function listenToPanel(state, moveAll) {
  const { area, axes } = state;
  area.addEventListener("pointermove", (event) => {
    const box = area.getBoundingClientRect();
    const { edges } = state.drawn;
    const back = scale(edges.left, edges.right, 0, axes.lastUpdate);
    moveAll(clamp(back(event.clientX - box.left), 0, axes.lastUpdate));
  });
  area.addEventListener("pointerleave", () => moveAll(null));
  area.addEventListener("blur", () => moveAll(null));
  area.addEventListener("keydown", (event) => {
    const update = updateAfterKey(state, event.key);
    if (update === null) return;
    event.preventDefault();
    moveAll(update);
  });
}

function updateAfterKey({ curve, update }, key) {
  const points = curve.losses.length > 0 ? curve.losses : curve.accuracies;
  const here = update === null ? points.length - 1 : points.indexOf(nearest(points, update));
  const far = Math.max(1, Math.round(points.length / 20));
  const moves = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -far,
    PageUp: far, Home: -points.length, End: points.length };
  if (!(key in moves) || points.length === 0) return null;
  return points[clamp(here + moves[key], 0, points.length - 1)].update;
}

function drawCurvesTable(box, report) {
  const rows = report.curves.flatMap((curve) => stagesOf(curve).map(({ stage, first, last }) => {
    const lastOf = (points) => points.filter((point) => point.stage === stage).at(-1);
    return [curve.method, String(stage), `${count(first)} to ${count(last)}`,
      measured(lastOf(curve.losses)?.loss), percent(lastOf(curve.accuracies)?.accuracy, 1)];
  }));
  box.append(plainTable("Training loss and validation accuracy at the end of each stage",
    ["method", "stage", "updates", "loss (nats per token)", "validation accuracy"], rows));
}
