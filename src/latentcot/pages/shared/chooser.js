// A list of questions with buttons for the one before, the one after and the next wrong answer.
// The elements have the ids question-select, -previous, -next and -wrong.

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
