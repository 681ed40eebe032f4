"""(example, view, stage) → tokens, labels and latent positions: the only place that does this.

Training and generation both come here, so that they cannot count latent positions by different
rules. A laid out sequence has three parts:

    prefix              latent positions          suffix
    question [<bot>]    filled by `think`         [<pause> …] [<eot>] steps left, answer, <eos>

Loss stands on the remaining steps, the answer and the end of text; question, `<bot>`, latent
positions and `<eot>` carry none (arXiv 2412.06769, section 3). Imports no torch: it can be read and
tested without knowing tensors.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from latentcot.curriculum.views import Plan, Tokens, View
from latentcot.data.examples import Example
from latentcot.errors import DataError, UsageError
from latentcot.utils.parsing import shown

NO_LABEL = -100
CHUNK = 2_000
"""Texts that a tokenizer gets at a time."""

ZeroThoughts = Literal["both", "bot", "none"]


@dataclass(frozen=True, slots=True)
class Template:
    """The text between the parts of an example.

    Attributes:
        question_end: Follows the question.
        step_end: Follows each step.
        answer_start: Stands before the answer.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic, see recipes/recipe.py

    question_end: str = "\n"
    step_end: str = "\n"
    answer_start: str = "### "


MOST_THOUGHTS = 1_000_000
SPECIAL_TOKENS = ("<bot>", "<eot>", "<pause>")
"""As they are written; the end of text has each tokenizer's own name."""


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Token ids of the special tokens: `<bot>`, `<eot>`, `<pause>` and the end of text."""

    bot: int
    eot: int
    pause: int
    eos: int


@dataclass(frozen=True, slots=True)
class LayoutRules:
    """What a layout depends on beside example, method and stage.

    Attributes:
        special_tokens: Token ids of the special tokens.
        plan: What each stage removes and puts in.
        zero_thoughts: What stands in place of no thoughts at all, for methods with special tokens:
            `<bot><eot>` (the official layout), `<bot>` alone, or nothing.
        rate: Tokens that a latent position stands for, in views that compress; that of their
            answers if None.
        seed: Of what is random in an update's layouts and targets.
    """

    special_tokens: SpecialTokens
    plan: Plan
    zero_thoughts: ZeroThoughts = "both"
    rate: int | None = None
    seed: str = ""


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """An example as token ids.

    Attributes:
        id: That of the example.
        question: With what the tokenizer puts in front of a text.
        steps: One tuple a step; None where only the question is known.
        answer: With what stands before it.
        lead: How many tokens of `answer` come before the first one of the answer proper; None where
            nobody asked.
    """

    id: str
    question: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...] | None
    answer: tuple[int, ...]
    lead: int | None = None

    @property
    def shape(self) -> tuple[int, tuple[int, ...] | None, int]:
        """How long its parts are: how long it is when laid out depends on nothing else."""
        steps = None if self.steps is None else tuple(map(len, self.steps))
        return len(self.question), steps, len(self.answer)


def one_of_each_shape(examples: Iterable[EncodedExample]) -> list[EncodedExample]:
    """Return the first example of each shape."""
    first: dict[Any, EncodedExample] = {}
    for example in examples:
        first.setdefault(example.shape, example)
    return list(first.values())


Texts = tuple[str, tuple[str, ...], str]
"""Question, steps and answer."""
Rows = tuple[tuple[int, ...], ...]
"""Token ids, one tuple for each group of latent positions."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One sequence, ready for `think`.

    Attributes:
        prefix: Token ids of the first pass: the question, and `<bot>` if the view has one.
        num_latents: How many latent positions `think` fills.
        suffix: Token ids from there on.
        labels: One a suffix token: the token itself, or NO_LABEL.
        num_next: How many labelled tokens belong to the first remaining step (or to the answer,
            where no step is left).
        stop_after: How many latent positions the whole chain would take; None where the chain is
            unknown.
        anchor: The number of the suffix token with which the answer proper begins, so that
            `Rollout.states[anchor]` predicts it; None where nobody asked.
        groups: The tokens that each latent position stands for, in views that compress; None where
            they are not known and the model has to find what goes into a position.
    """

    prefix: tuple[int, ...]
    num_latents: int
    suffix: tuple[int, ...]
    labels: tuple[int, ...]
    num_next: int = 0
    stop_after: int | None = None
    anchor: int | None = None
    groups: Rows | None = None

    def __len__(self) -> int:
        """Return the number of positions."""
        return len(self.prefix) + self.num_latents + len(self.suffix)

    @property
    def opening(self) -> int:
        """The number of suffix tokens before the model's own words: `<pause>` and `<eot>`."""
        labelled = (i for i, label in enumerate(self.labels) if label != NO_LABEL)
        return next(labelled, len(self.labels))

    def prompt(self) -> "Layout":
        """Return what is given at generation: everything up to the first word with a label."""
        return replace(
            self,
            suffix=self.suffix[: self.opening],
            labels=self.labels[: self.opening],
            num_next=0,
            anchor=None,
            groups=None,
        )


@dataclass(frozen=True, slots=True)
class LaidOut:
    """One example as a method reads it.

    Attributes:
        layouts: By view.
        targets: By term: what each group of its latent positions has to say.
    """

    layouts: Mapping[str, Layout]
    targets: Mapping[str, Rows] = field(default_factory=dict)


def group_targets(
    steps: Sequence[Sequence[int]],
    num_groups: int,
    *,
    joins_rest: bool = True,
    width: int | None = None,
) -> Rows:
    """Return what each group of latent positions has to say: group k says step k, or nothing.

    Args:
        steps: Token ids of the chain.
        num_groups: Groups of a full example, at least 1.
        joins_rest: Steps that are left over go into the last group; else they are left out.
        width: Tokens of a group at most; what is longer is cut.
    """
    joined = [tuple(step) for step in steps[:num_groups]]
    if joins_rest and len(steps) > num_groups:
        joined[-1] += tuple(token for step in steps[num_groups:] for token in step)
    joined += [()] * (num_groups - len(joined))
    return tuple(group[:width] for group in joined)


def count_latents(view: View, stage: int, num_steps: int | None, plan: Plan) -> int:
    """Return how many latent positions stand in place of the removed steps: one rule for all uses.

    Where the number of steps is unknown (a question alone), the stage's full number.
    """
    if not view.has_latents:
        return 0
    if view.num_latents is not None:
        return view.num_latents
    num_replaced = min(stage, plan.num_stages)
    if not plan.pad_to_num_stages and num_steps is not None:
        num_replaced = min(num_replaced, num_steps)
    return num_replaced * plan.thoughts_per_step


def latents_of_chain(num_steps: int, plan: Plan) -> int:
    """Return how many latent positions a whole chain takes: where latent mode should end."""
    return min(num_steps, plan.num_stages) * plan.thoughts_per_step


def lay_out(
    example: EncodedExample,
    view: View,
    stage: int,
    rules: LayoutRules,
    num_thoughts: int | None = None,
) -> Layout:
    """Lay out one example at one stage.

    Args:
        example: Its token ids.
        view: How it is read.
        stage: One of those that the method goes through.
        rules: Special tokens, c and the choices of the recipe.
        num_thoughts: Forces another number of latent positions (evaluation with K thoughts).

    Raises:
        UsageError: `num_thoughts` is out of range, or the view has no latent positions.
    """
    is_number = isinstance(num_thoughts, int)
    if num_thoughts is not None and not (is_number and 0 <= num_thoughts <= MOST_THOUGHTS):
        raise UsageError(f"num_thoughts: must be 0 … {MOST_THOUGHTS:,}, got {shown(num_thoughts)}.")
    if num_thoughts and not view.has_latents:
        raise UsageError(
            f"num_thoughts: this method has no thoughts, so it must be 0 or left out, got "
            f"{num_thoughts}."
        )
    steps, special_tokens = example.steps, rules.special_tokens
    latents = count_latents(view, stage, None if steps is None else len(steps), rules.plan)
    latents = latents if num_thoughts is None else num_thoughts
    prefix, opening = example.question, tuple[int, ...]()
    left = () if steps is None else view.schedule.left(steps, stage, rules.plan)
    words = tuple(token for step in left for token in step)
    groups = None
    if view.compression is not None:
        rate = rules.rate or view.compression.rate
        prefix = (*prefix, *[special_tokens.pause] * rate)
        if steps is not None and num_thoughts is None:
            chain = [token for step in steps for token in step]
            del chain[len(chain) - len(words) :]
            groups = tuple(tuple(chain[i : i + rate]) for i in range(0, len(chain), rate))
            latents = len(groups)
    if isinstance(view.latents, Tokens):
        opening = (getattr(special_tokens, view.latents.token),) * latents
    around = rules.zero_thoughts if latents == 0 else "both"
    if view.has_special_tokens and around != "none":
        prefix = (*prefix, special_tokens.bot)
        opening = (*opening, special_tokens.eot) if around == "both" else opening
    language = () if steps is None else (*words, *example.answer, special_tokens.eos)
    return Layout(
        prefix=prefix,
        num_latents=latents if view.is_filled else 0,
        suffix=opening + language,
        labels=(NO_LABEL,) * len(opening) + language,
        num_next=len(left[0]) if left else len(example.answer),
        stop_after=None if steps is None else latents_of_chain(len(steps), rules.plan),
        anchor=None if example.lead is None else len(opening) + len(words) + example.lead,
        groups=groups,
    )


def encode(
    examples: Sequence[Example],
    tokenizer: Any,
    template: Template,
    *,
    reads_steps: bool = True,
    finds_answers: bool = False,
) -> list[EncodedExample]:
    """Turn examples into token ids; a Hugging Face tokenizer is expected.

    Args:
        examples: With their chains.
        tokenizer: Of the model.
        template: The text between the parts.
        reads_steps: Whether anyone will read the words of a step, and not only how many there are.
        finds_answers: Tell where the answer proper begins, `EncodedExample.lead`.

    Raises:
        DataError: A text that will be read holds something that the tokenizer cannot represent, or
            the tokenizer cannot tell where the answer proper begins.
    """
    texts = [(e.question, e.steps, e.answer) for e in examples]
    _refuse_special_tokens([e.id for e in examples], texts, tokenizer)
    questions = _ids(tokenizer, [e.question + template.question_end for e in examples], True)
    words = {s + template.step_end for e in examples for s in e.steps}
    words |= {template.answer_start + e.answer for e in examples}
    pieces = sorted(words)
    ids_of = dict(zip(pieces, _ids(tokenizer, pieces, False), strict=True))
    leads = {}
    if finds_answers:
        answers = {e.answer for e in examples}
        leads = {answer: _lead(answer, tokenizer, template.answer_start) for answer in answers}
    encoded = [
        EncodedExample(
            id=example.id,
            question=question,
            steps=tuple(ids_of[step + template.step_end] for step in example.steps),
            answer=ids_of[template.answer_start + example.answer],
            lead=leads.get(example.answer),
        )
        for example, question in zip(examples, questions, strict=True)
    ]
    _refuse_unwritable(encoded, texts, tokenizer, template, reads_steps=reads_steps)
    return encoded


def _lead(answer: str, tokenizer: Any, answer_start: str) -> int:
    """Return how many tokens come before the first that covers a character of the answer proper.

    From the tokenizer's own offsets: a token may join the end of `answer_start` and the beginning
    of the answer.
    """
    where = f"the first token of the answer {_short(answer)!r} cannot be found"
    try:
        encoded = tokenizer(
            answer_start + answer, add_special_tokens=False, return_offsets_mapping=True
        )
    except NotImplementedError:
        raise DataError(
            f"{where}: {type(tokenizer).__name__} does not tell which characters a token covers. "
            "Use a fast tokenizer (tokenizer.json)."
        ) from None
    first = len(answer_start) + len(answer) - len(answer.lstrip())
    ends = [end for _, end in encoded["offset_mapping"]]
    lead = next((number for number, end in enumerate(ends) if end > first), None)
    if lead is None:
        raise DataError(f"{where}: it has no token of its own. Give it some text.")
    return lead


def encode_questions(
    questions: Sequence[str], tokenizer: Any, template: Template
) -> list[EncodedExample]:
    """Turn bare questions into token ids, for generation.

    Raises:
        DataError: A question holds something that the tokenizer cannot represent.
    """
    texts: list[Texts] = [(question, (), "") for question in questions]
    _refuse_special_tokens([str(i) for i in range(len(questions))], texts, tokenizer)
    ids = _ids(tokenizer, [question + template.question_end for question in questions], True)
    encoded = [EncodedExample(str(i), tokens, None, ()) for i, tokens in enumerate(ids)]
    _refuse_unwritable(encoded, texts, tokenizer, template)
    return encoded


def _ids(tokenizer: Any, texts: list[str], is_start: bool) -> list[tuple[int, ...]]:
    """Encode texts; the start of a sequence gets what the tokenizer puts in front, as Llama's."""
    if not texts:
        return []
    front = put_around(tokenizer)[0] if is_start else ()
    return [
        (*front, *ids)
        for start in range(0, len(texts), CHUNK)  # of all at once, masks and offsets take gigabytes
        for ids in tokenizer(texts[start : start + CHUNK], add_special_tokens=False)["input_ids"]
    ]


def put_around(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return what a tokenizer puts before a text, and what it puts behind.

    Only the first is read here: an end of text behind the question would stand in the middle of the
    sequence.
    """
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a", add_special_tokens=True)["input_ids"]
    starts = (i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    start = next(starts, 0)
    return tuple(whole[:start]), tuple(whole[start + len(bare) :])


def unknown_of(tokenizer: Any) -> int | None:
    """Return the id that stands for words outside of the vocabulary, if there is one.

    Byte-level vocabularies represent everything; GPT-2 names its end of text as unknown.
    """
    unknown: int | None = tokenizer.unk_token_id
    return None if unknown in (tokenizer.bos_token_id, tokenizer.eos_token_id) else unknown


def _refuse_special_tokens(ids: Sequence[str], texts: Sequence[Texts], tokenizer: Any) -> None:
    """Refuse texts in which a tokenizer would read thoughts, pauses or the end of the text."""
    tokens = [*SPECIAL_TOKENS, *([tokenizer.eos_token] if tokenizer.eos_token else [])]
    for id_, (question, steps, answer) in zip(ids, texts, strict=True):
        for text in (question, *steps, answer):
            found = next((token for token in tokens if token in text), None)
            if found is not None:
                raise DataError(
                    f"example {id_!r}: holds the special token {found!r}, which the model "
                    f"would not read as text, got {_short(text)!r}. Write it in another way."
                )


def _refuse_unwritable(
    encoded: Sequence[EncodedExample],
    texts: Sequence[Texts],
    tokenizer: Any,
    template: Template,
    *,
    reads_steps: bool = True,
) -> None:
    empty = next((example.id for example in encoded if not example.question), None)
    if empty is not None:
        raise DataError(f"example {empty!r}: its question has no tokens. Give it some text.")
    unknown = unknown_of(tokenizer)
    if unknown is None:
        return

    def lacking(words: list[str]) -> list[str]:
        ids = tokenizer(words, add_special_tokens=False)["input_ids"] if words else []
        return [repr(word) for word, one in zip(words, ids, strict=True) if unknown in one]

    for ids, (question, chain, answer) in zip(encoded, texts, strict=True):
        parts = [("question", "question_end", question, ids.question)]
        parts += [("answer", "answer_start", answer, ids.answer)]
        steps = zip(chain, ids.steps or (), strict=True) if reads_steps else ()
        parts += [(f"step {i}", "step_end", *step) for i, step in enumerate(steps, start=1)]
        for part, key, text, tokens in parts:
            if unknown not in tokens:
                continue
            around = getattr(template, key)
            whole = around + text if key == "answer_start" else text + around
            # First the words as they stand, then what the template makes of them.
            words = [word.strip(".,?!") for word in text.split()]
            missing = lacking(list(dict.fromkeys(words)))
            if not missing:
                missing = lacking(list(dict.fromkeys([*whole.split(), around])))
                missing += [f"which template.{key} {around!r} makes"]
            raise DataError(
                f"example {ids.id!r}: its {part} cannot be written in the model's "
                f"vocabulary, got {_short(text)!r}. Not in the vocabulary: "
                f"{', '.join(missing[:5])}. Use data like the training data, or another template."
            )


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:76]} …"
