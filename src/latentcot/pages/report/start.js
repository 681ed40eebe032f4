// Starts the page: reads the data and draws each section that has some.

function startPage() {
  const report = readData();
  drawResults(document.getElementById("results"), report);
  if (report.curves.length > 0) {
    drawCurves(document.getElementById("curves"), report);
    drawCurvesTable(document.getElementById("curves-table"), report);
  } else {
    document.getElementById("learning").remove();
  }
  if (report.frontier !== null) startSearch(report.frontier);
  else document.getElementById("search").remove();
  drawProvenance(document.getElementById("provenance"), report.provenance);
}

startPage();
