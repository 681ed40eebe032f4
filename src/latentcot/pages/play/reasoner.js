// A model that answers: question → thoughts → words.

// The layout is that of training: question [<bot>], latent positions, [<pause> …] [<eot>], words.
// A continuous thought is the last hidden state at the position before its own, and is read at its
// own as if it were an embedding; so a thought that is changed changes all that comes behind it.

// What stands between blanks; a sign behind it is a word of its own.
const WORD = /[^\s.?!,]+(?:[.,][^\s.?!,]+)*|[.?!,]/g;

function openReasoner(data) {
  const numbers = new Map(data.vocabulary.map((word, token) => [word, token]));
  return { ...data, ...openModel(data), numbers };
}

function wordsOf(text) {
  return text.match(WORD) ?? [];
}

function tokensOf(reasoner, text) {
  return wordsOf(text).map((word) => reasoner.numbers.get(word) ?? reasoner.unknown);
}

function textOf(reasoner, tokens) {
  return tokens.map((token) => reasoner.vocabulary[token])
    .map((word, k) => (k > 0 && !/^[.?!,]$/.test(word) ? ` ${word}` : word)).join("");
}

// As many as in training for a chain of so many steps; null: for one whose length is unknown.
function trainedThoughts(reasoner, numSteps) {
  if (reasoner.latents === "nothing") return 0;
  const { num_stages: most, pads } = reasoner;
  return (pads || numSteps === null ? most : Math.min(most, numSteps)) * reasoner.thoughts_per_step;
}

function layOut(reasoner, text, numThoughts) {
  const { special_tokens: special, latents } = reasoner;
  const number = latents === "nothing" ? 0 : numThoughts;
  const prefix = tokensOf(reasoner, text + reasoner.question_end);
  const opening = latents === "pauses" ? Array(number).fill(special.pause) : [];
  const around = number === 0 ? reasoner.zero_thoughts : "both";
  if (reasoner.has_special_tokens && around !== "none") {
    prefix.push(special.bot);
    if (around === "both") opening.push(special.eot);
  }
  return { prefix, opening, number: latents === "thoughts" ? number : 0 };
}

// How many positions a question takes until the first word can be written.
function positionsOf(reasoner, text, numThoughts) {
  const { prefix, opening, number } = layOut(reasoner, text, numThoughts);
  return prefix.length + number + opening.length;
}

// `change(k, thought)`: what is read in place of thought k, counted from 1.
function ask(reasoner, text, numThoughts, change = (k, thought) => thought) {
  const start = performance.now();
  const { prefix, opening, number } = layOut(reasoner, text, numThoughts);
  const cache = emptyCache(reasoner);
  let state = null;
  const readToken = (token) => {
    state = readVector(reasoner, cache, embeddingOf(reasoner, token));
  };
  prefix.forEach(readToken);
  const thoughts = [];
  for (let k = 1; k <= number; k += 1) {
    thoughts.push(change(k, state));
    state = readVector(reasoner, cache, thoughts.at(-1));
  }
  opening.forEach(readToken);
  const room = reasoner.shape.num_positions - cache.length;
  const most = Math.max(1, Math.min(reasoner.max_new_tokens, room));
  const [words, logits] = [[], []];
  for (;;) {
    logits.push(logitsOf(reasoner, state));
    words.push(largest(logits.at(-1)));
    if (words.at(-1) === reasoner.special_tokens.eos || words.length === most) break;
    readToken(words.at(-1));
  }
  return { thoughts, words, logits, ...answerOf(reasoner, words, logits),
    milliseconds: performance.now() - start };
}

// The answer is what stands behind `answer_start`, with the probability of its first token.
function answerOf(reasoner, words, logits) {
  const written = words.filter((word) => word !== reasoner.special_tokens.eos);
  const opening = tokensOf(reasoner, reasoner.answer_start);
  const begins = written.reduce((last, _, k) =>
    (opening.every((token, i) => written[k + i] === token) ? k : last), -1);
  const first = begins + opening.length;
  const answer = begins < 0 ? "" : textOf(reasoner, written.slice(first));
  const shares = answer === "" ? null : softmax(logits[first]);
  return { text: textOf(reasoner, written), answer, shares, certainty: shares?.[words[first]] ?? null };
}

// The probability that the output head gives to each token when it reads a thought.
function lensOf(reasoner, thought) {
  return softmax(logitsOf(reasoner, thought));
}

// --- changes -----------------------------------------------------------------------------------

// The smallest change of a thought that gives a node the logit of the best token (or, to take it
// out, of the least of these tokens): along the row of the output head.
function withLogit(reasoner, thought, token, logit) {
  const row = headRow(reasoner, token);
  let [length, now] = [0, 0];
  row.forEach((x, i) => {
    length += x * x;
    now += x * thought[i];
  });
  const step = (logit - now) / (length || 1);
  return thought.map((x, i) => x + step * row[i]);
}

// --- the same as PyTorch? ----------------------------------------------------------------------

// The largest difference of a logit from what PyTorch gave; Infinity if it writes other words.
function differenceFrom(reasoner, { question, num_thoughts: number, words, logits }) {
  const found = ask(reasoner, question, number);
  if (String(found.words) !== String(words)) return Infinity;
  return Math.max(...logits.flatMap((row, k) => row.map((x, i) => Math.abs(x - found.logits[k][i]))));
}
