// Elements, numbers as text, scales, and the data: what everything on a page shares.

// Taken from the page, so that no address stands in this file.
const SVG_NAMESPACE = document.getElementById("svg-defs").namespaceURI;

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function html(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG_NAMESPACE, tag), attributes, children);
}

function text(x, y, content, attributes = {}) {
  return svg("text", { x, y, ...attributes }, String(content));
}

function line(x1, y1, x2, y2, className) {
  return svg("line", { x1, y1, x2, y2, class: className });
}

// An SVG that is drawn for `width` pixels and shrinks with the page, in print for instance.
function canvas(width, height, attributes = {}, ...children) {
  const style = `max-width:${width}px`;
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, style, ...attributes }, ...children);
}

function isNumber(value) {
  return typeof value === "number";
}

function fixed(value, digits) {
  return isNumber(value) ? value.toFixed(digits) : "–";
}

// With decimals, a mistake among thousands is not rounded away.
function percent(share, digits = 0) {
  if (!isNumber(share)) return "–";
  const most = digits > 0 && share < 1 ? 100 - 10 ** -digits : 100;
  return `${Math.min(100 * share, most).toFixed(digits)}\u00a0%`;
}

// A count with a narrow no-break space between thousands.
function count(value) {
  return isNumber(value) ? String(value).replace(/\B(?=(\d{3})+$)/g, "\u202f") : "–";
}

// A measured number with three significant digits.
function measured(value) {
  if (!isNumber(value)) return "–";
  if (value >= 100) return value.toFixed(0);
  return value === 0 ? "0" : String(Number(value.toPrecision(3)));
}

function scale(domainLow, domainHigh, rangeLow, rangeHigh) {
  const factor = (rangeHigh - rangeLow) / (domainHigh - domainLow || 1);
  return (value) => rangeLow + (value - domainLow) * factor;
}

// Lines and numbers for shares of 0 to 100 %.
function shareAxis(y, left, right) {
  return [0, 0.25, 0.5, 0.75, 1].flatMap((share) => [
    line(left, y(share), right, y(share), share === 0 ? "axis" : "grid"),
    text(left - 6, y(share) + 4, 100 * share, { class: "tick", "text-anchor": "end" }),
  ]);
}

// A vertical bar from `low` to `high` with ends across.
function whisker(x, y, { low, high }) {
  if (!isNumber(low) || !isNumber(high)) return [];
  return [line(x, y(low), x, y(high), "whisker"),
    ...[low, high].map((end) => line(x - 4, y(end), x + 4, y(end), "whisker"))];
}

// Round numbers from 0 to at least `high`, about `num` of them.
function ticks(high, num) {
  const rough = (high || 1) / num;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const values = [];
  for (let k = 0; (k - 1) * step < high; k += 1) values.push(Number((k * step).toPrecision(6)));
  return values;
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

// Draw now, and again whenever the width of `element` changes.
function onWidth(element, draw) {
  let width = 0;
  const redraw = () => {
    const now = Math.floor(element.clientWidth);
    if (now === 0 || now === width) return;
    width = now;
    draw(width);
  };
  redraw();
  new ResizeObserver(() => requestAnimationFrame(redraw)).observe(element);
}

// A table of text: the first cell of each row is its heading.
function plainTable(caption, headings, rows) {
  const head = html("tr", {}, ...headings.map((name) => html("th", { scope: "col" }, name)));
  const body = rows.map(([first, ...rest]) =>
    html("tr", {}, html("th", { scope: "row" }, first),
      ...rest.map((cell) => html("td", {}, cell))));
  return html("table", { class: "plain" }, html("caption", {}, caption),
    html("thead", {}, head), html("tbody", {}, ...body));
}

function readData() {
  return JSON.parse(document.getElementById("data").textContent);
}

function drawProvenance(box, provenance) {
  for (const [name, value] of Object.entries(provenance)) {
    const shown = name === "command" || name === "commit" ? html("code", {}, value) : String(value);
    box.append(html("dt", {}, name), html("dd", {}, shown));
  }
}
