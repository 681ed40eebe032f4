// Bars: the probability on the layer that a thought should hold, beside an even spread.

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
