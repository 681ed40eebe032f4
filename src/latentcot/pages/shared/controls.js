// What the reader moves: the slider over the thoughts, the list of questions, the colours.

// --- slider ------------------------------------------------------------------------------------

// With buttons next to it, keys, and a button that plays. The elements have the ids thought-range,
// -previous, -next, -number and -play.

const PLAY_MILLISECONDS = 1400;

// `area`: where ← and → step. `nameOf(step, last)`: words for a step. `onStep(step)`: show it.
function makeStepper(area, { nameOf, onStep }) {
  const part = (name) => document.getElementById(`thought-${name}`);
  const stepper = { part, nameOf, onStep, low: 1, high: 1, step: 1, timer: null };
  part("previous").addEventListener("click", () => goTo(stepper, stepper.step - 1));
  part("next").addEventListener("click", () => goTo(stepper, stepper.step + 1));
  part("range").addEventListener("input", (event) => goTo(stepper, Number(event.target.value)));
  part("play").addEventListener("click", () => (stepper.timer === null ? play : pause)(stepper));
  area.addEventListener("keydown", (event) => stepByKey(stepper, event));
  matchMedia("(prefers-reduced-motion: reduce)").addEventListener("change", () => pause(stepper));
  return stepper;
}

// Without a new range the step only moves inside the old one.
function goTo(stepper, wanted, low = stepper.low, high = stepper.high) {
  const { part, nameOf } = stepper;
  const range = part("range");
  stepper.low = low;
  stepper.high = high;
  stepper.step = clamp(wanted, low, high);
  const words = nameOf(stepper.step, high);
  fill(range, { min: low, max: high, "aria-valuetext": words }, []);
  range.value = stepper.step;
  part("number").textContent = words;
  part("previous").disabled = stepper.step === low;
  part("next").disabled = stepper.step === high;
  part("play").disabled = low === high;
  stepper.onStep(stepper.step);
}

// Sliders, selects and areas that scroll use the arrow keys themselves.
function stepByKey(stepper, event) {
  const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!move || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (["INPUT", "SELECT"].includes(event.target.tagName)) return;
  if (event.target.classList.contains("scroll")) return;
  event.preventDefault();
  goTo(stepper, stepper.step + move);
}

function play(stepper) {
  goTo(stepper, stepper.step === stepper.high ? stepper.low : stepper.step);
  stepper.part("play").textContent = "Pause";
  stepper.timer = setInterval(() => {
    goTo(stepper, stepper.step + 1);
    if (stepper.step === stepper.high) pause(stepper);
  }, PLAY_MILLISECONDS);
}

function pause(stepper) {
  clearInterval(stepper.timer);
  stepper.timer = null;
  stepper.part("play").textContent = "Play";
}

// --- questions ---------------------------------------------------------------------------------

// A list, with buttons for the one before, the one after and the next wrong answer. The elements have
// the ids question-select, -previous, -next and -wrong.

// `labels`: one for each question. `isWrong(k)`: whether the button stops at it.
function makeChooser({ labels, isWrong, onChoose }) {
  const part = (name) => document.getElementById(`question-${name}`);
  const total = labels.length;
  const numbers = labels.map((_, k) => k);
  const chooser = { part, total, onChoose, question: 0 };
  const after = () => numbers.map((k) => (chooser.question + 1 + k) % total).find(isWrong);
  part("select").append(...labels.map((words, k) =>
    html("option", { value: k }, `${k + 1} of ${total}: ${words}`)));
  part("wrong").hidden = !numbers.some(isWrong);
  part("previous").addEventListener("click", () => choose(chooser, chooser.question - 1));
  part("next").addEventListener("click", () => choose(chooser, chooser.question + 1));
  part("wrong").addEventListener("click", () => choose(chooser, after()));
  part("select").addEventListener("change", (event) => choose(chooser, Number(event.target.value)));
  return chooser;
}

function choose(chooser, wanted) {
  chooser.question = (wanted + chooser.total) % chooser.total;
  chooser.part("select").value = chooser.question;
  chooser.onChoose(chooser.question);
}

// --- colours -----------------------------------------------------------------------------------

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
