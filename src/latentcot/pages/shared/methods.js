// One colour for each method, the same in all charts (Okabe and Ito's palette).

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
