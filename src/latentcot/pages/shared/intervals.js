// A share between 0 and 100 % as a dot with its interval, in a row of a table. Positions are given
// in percent of the width, so that nothing is redrawn.

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
