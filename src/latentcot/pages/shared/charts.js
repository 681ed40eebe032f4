// Charts of shares: a colour for each method, dots with intervals in tables, bars of depth masses.

// --- colours of methods ------------------------------------------------------------------------

// The same in all charts (Okabe and Ito's palette).
const METHOD_COLOURS = {
  "coconut": "#D55E00",
  "cot": "#0072B2",
  "no-cot": "var(--ink)",
  "pause": "#56B4E9",
  "icot": "#CC79A7",
  "coconut-no-thought": "#E69F00",
  "coconut-pause-as-thought": "#009E73",
  "coconut-no-curriculum": "#F0E442",
};

function colourOf(method) {
  return METHOD_COLOURS[method] ?? "var(--muted)";
}

// Yellow alone is too pale for a line on white: it gets a darker edge.
function isPale(method) {
  return colourOf(method) === "#F0E442";
}

function methodName(method) {
  const swatch = html("span", { class: "swatch", style: `background:${colourOf(method)}` });
  return html("span", { class: "method" }, swatch, method);
}

// --- intervals ---------------------------------------------------------------------------------

// A share between 0 and 100 % as a dot with its interval, in a row of a table. Places are given in
// percent of the width, so that nothing is redrawn.

const AXIS_SHARES = [0, 0.25, 0.5, 0.75, 1];

// `mark` is the share of a dashed line (guessing, or the unchanged model) with its name.
function axisSvg(mark, name) {
  const numbers = AXIS_SHARES.map((share) =>
    text(percentX(share), 28, Math.round(100 * share),
      { class: share % 0.5 === 0 ? "tick" : "tick minor", "text-anchor": "middle" }));
  const anchor = mark > 0.8 ? "end" : mark < 0.2 ? "start" : "middle";
  const label = text(percentX(mark), 13, name, { class: "tick", "text-anchor": anchor });
  return svg("svg", { class: "dots", height: 34, "aria-hidden": "true" }, label, ...numbers);
}

function intervalSvg({ accuracy, low, high }, mark, method) {
  const colour = colourOf(method);
  const grid = AXIS_SHARES.map((share) =>
    line(percentX(share), 0, percentX(share), "100%", "grid"));
  const edge = isPale(method) ? "pale" : "";
  return svg("svg", { class: "dots", "aria-hidden": "true" },
    ...grid,
    line(percentX(mark), 0, percentX(mark), "100%", "chance"),
    svg("svg", { class: "dots", y: "50%", stroke: colour },
      line(percentX(low), 0, percentX(high), 0, "interval-bar"),
      ...[low, high].map((end) => line(percentX(end), -7, percentX(end), 7, "interval-end")),
      svg("circle", { cx: percentX(accuracy), r: 5, fill: colour, class: `dot ${edge}` })));
}

function percentX(share) {
  return `${100 * share}%`;
}

function intervalWords({ low, high }) {
  return `${fixed(100 * low, 1)} to ${fixed(100 * high, 1)}`;
}

// --- masses ------------------------------------------------------------------------------------

// The probability on the layer that a thought should hold, next to an even spread.

const MASS_MARGIN = { left: 52, right: 4, top: 60, bottom: 38 };
const MASS_HEIGHT = 150;

function drawMass(box, mass) {
  onWidth(box, (width) => box.replaceChildren(massSvg(mass, Math.min(width, 520))));
}

function massSvg(mass, width) {
  const { left, right, top, bottom } = MASS_MARGIN;
  const y = scale(0, 1, top + MASS_HEIGHT, top);
  const group = (width - left - right) / mass.length;
  const words = mass.map((entry) => `thought ${entry.thought}: ${percent(entry.mass)} ` +
    `on depth ${entry.depth}, even spread ${percent(entry.uniform)}`);
  return canvas(width, top + MASS_HEIGHT + bottom, { role: "img", "aria-label": words.join("; ") },
    ...massKey(y(0)),
    ...shareAxis(y, left, width - right),
    ...mass.flatMap((entry, k) => massBars(entry, left + (k + 0.5) * group, group, y)));
}

function massKey(bottom) {
  return [
    svg("rect", { x: 0, y: 2, width: 11, height: 11, class: "bar" }),
    text(16, 12, "on the right layer", { class: "axis-title" }),
    svg("rect", { x: 132, y: 2, width: 11, height: 11, class: "bar even" }),
    text(148, 12, "if spread evenly", { class: "axis-title" }),
    text(0, 38, "probability (%)", { class: "axis-title" }),
    text(0, bottom + 16, "thought", { class: "axis-title" }),
    text(0, bottom + 31, "depth", { class: "axis-title" }),
  ];
}

// The number stands above the bar, and above its interval if it has one.
function massBars(entry, middle, group, y) {
  const bar = clamp(group * 0.3, 8, 44);
  const centred = { "text-anchor": "middle" };
  const one = (share, x, className, high) => [
    svg("rect", { x, y: y(share ?? 0), width: bar, height: y(0) - y(share ?? 0),
      class: className }),
    text(x + bar / 2, y(high ?? share ?? 0) - 5, isNumber(share) ? Math.round(100 * share) : "–",
      { class: "bar-value", ...centred }),
  ];
  return [
    ...one(entry.mass, middle - bar - 1, "bar", entry.high),
    ...whisker(middle - bar / 2 - 1, y, entry),
    ...one(entry.uniform, middle + 1, "bar even", null),
    text(middle, y(0) + 16, entry.thought, { class: "tick strong", ...centred }),
    text(middle, y(0) + 31, entry.depth, { class: "tick strong", ...centred }),
  ];
}
