// Starts the page: reads the data and draws each section that has some.

function startPage() {
  const report = JSON.parse(document.getElementById("data").textContent);
  drawResults(document.getElementById("results"), report);
  if (report.curves.length > 0) {
    drawCurves(document.getElementById("curves"), report);
    drawCurvesTable(document.getElementById("curves-table"), report);
  } else {
    document.getElementById("learning").remove();
  }
  if (report.frontier !== null) startSearch(report.frontier);
  drawProvenance(document.getElementById("provenance"), report.provenance);
}

function drawProvenance(box, provenance) {
  for (const name of ["command", "commit", "seed", "machine", "date"]) {
    const value = String(provenance[name]);
    const shown = name === "command" || name === "commit" ? html("code", {}, value) : value;
    box.append(html("dt", {}, name), html("dd", {}, shown));
  }
}

startPage();
