// The address keeps what is shown, so that it can be sent: #q=3&t=2&view=values. Counted from 1.

function readHash(numQuestions) {
  const given = new URLSearchParams(location.hash.slice(1));
  const whole = (name) => (/^\d+$/.test(given.get(name) ?? "") ? Number(given.get(name)) : null);
  const question = whole("q");
  return {
    question: question === null ? null : clamp(question, 1, numQuestions) - 1,
    step: whole("t"),
    view: Object.hasOwn(VIEWS, given.get("view")) ? given.get("view") : null,
  };
}

function writeHash({ question, step, view }) {
  const kept = new URLSearchParams({ q: question + 1, t: step });
  if (view !== "thoughts") kept.set("view", view);
  history.replaceState(null, "", `#${kept}`);
}
