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

// Light or dark: as the system has it, until the button says otherwise.
function startTheme(button) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const { style } = document.documentElement;
  const isDark = () => (style.colorScheme ? style.colorScheme === "dark" : system.matches);
  const show = () => button.setAttribute("aria-pressed", String(isDark()));
  button.addEventListener("click", () => {
    style.colorScheme = isDark() ? "light" : "dark";
    show();
  });
  system.addEventListener("change", show);
  show();
}

startPage();
