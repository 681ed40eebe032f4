// Starts the page: reads the data, draws each section, and follows the button of colours.

function startPage() {
  const page = readData();
  const byId = (id) => document.getElementById(id);
  document.body.dataset.methods = page.methods.length;
  makePatterns(byId("svg-defs").querySelector("defs"));
  startTheme(byId("theme"));
  drawOverview(page, byId);
  startExplore(page, byId);
  drawProvenance(byId("provenance"), page.provenance);
}

startPage();
