// The data of the page, and where they come from.

function readData() {
  return JSON.parse(document.getElementById("data").textContent);
}

function drawProvenance(box, provenance) {
  const names = ["command", "commit", "seed", "machine", "date"];
  for (const name of names.filter((key) => key in provenance)) {
    const value = String(provenance[name]);
    const shown = name === "command" || name === "commit" ? html("code", {}, value) : value;
    box.append(html("dt", {}, name), html("dd", {}, shown));
  }
}
