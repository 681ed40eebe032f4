"""What a model writes once language is forced on it after k thoughts (arXiv 2412.06769, section 5).

Thinking ends after k = 0, 1, 2, … thoughts and `<eot>` is read; what is written then has one of the
six outcomes of `paths.py`. Two series, since there are two ways to force language:

    free         the model writes what it likes, an answer without a step too: the paper's way
    step_first   the answer is forbidden until a step is written

Methods without latent positions have nothing to force: their series hold k = 0 alone, their own
way to answer.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from latentcot.analysis.shared.paths import OUTCOMES, End, Form, Judge, Lead, Outcome, Written, read
from latentcot.analysis.shared.subject import Progress, Subject, no_progress
from latentcot.curriculum.layout import count_latents
from latentcot.evaluation.reasoner import Output
from latentcot.evaluation.statistics import holm, mcnemar, share_with_interval
from latentcot.models.loading import check_lengths, max_positions

SCHEMA_VERSION = 1
MOST_FORCED = 6
"""The paper's largest k."""
NUM_TEXTS = 200
"""Questions whose texts are kept: of all of them the file would become large."""
SERIES: Mapping[str, bool] = {"free": False, "step_first": True}
"""Name of a series → whether its texts must begin with a step."""
READINGS: Mapping[str, tuple[Lead, End]] = {
    "any": ("any", "as_written"),
    "given_k": ("given_k", "as_written"),
    "open": ("any", "open"),
}
"""How partial chains are read, see `paths.py`; `shares` and `outcomes` are those of the first."""


@dataclass(frozen=True)
class _Answered:
    """All questions, answered after one number of thoughts; lists are parallel to them.

    Attributes:
        k: The number that was forced; None for as many as in training.
        outputs: What was written.
        are_right: Whether the answer counts as right.
        written: The same, read.
        outcomes: By the name of the reading.
    """

    k: int | None
    outputs: list[Output]
    are_right: list[bool]
    written: list[Written]
    outcomes: dict[str, list[Outcome]]


def measure(subject: Subject, on_progress: Progress = no_progress) -> dict[str, Any]:
    """Let a model answer after each number of thoughts, and say what became of each question.

    Args:
        subject: With ProsQA's graphs, in words or in symbols.
        on_progress: Called with the number of texts that have just been written.

    Returns:
        `by_k`: a row for each k of the series `free`; `questions`: outcome and answer of each at
        each k, with the texts of the first `NUM_TEXTS`. `series` has the same for both series, and
        `as_trained`: the row of as many thoughts as each question had in training, against which
        `p` tests (McNemar, adjusted by Holm over k; None where it is the same row).

    Raises:
        DataError: A question carries no graph, or does not fit the model's positions.
    """
    judges = [Judge(graph) for graph in subject.graphs]
    forced, left_out = forced_numbers(subject)
    series = [_series(subject, judges, forced, name, on_progress) for name in SERIES]
    free = series[0]
    return {
        "schema_version": SCHEMA_VERSION,
        "subject": subject.name,
        "method": subject.reasoner.info.method,
        "form": "words" if subject.is_in_words else "symbols",
        "num_questions": len(subject.examples),
        "num_thoughts": max(own_numbers(subject)),
        "num_thoughts_varies": _trained_number(subject) is None,
        "outcomes": list(OUTCOMES),
        "readings": {name: {"lead": lead, "end": end} for name, (lead, end) in READINGS.items()},
        "left_out": left_out,
        "by_k": free["by_k"],
        "questions": free["questions"],
        "series": [free | {"questions": None}, *series[1:]],
    }


# --- how many thoughts ------------------------------------------------------------------------


def forced_numbers(subject: Subject, most: int = MOST_FORCED) -> tuple[list[int], str | None]:
    """Return the numbers of thoughts to force, and in words which were left out, if any.

    From 0 to `most`, or as many as in training if these are more, as far as the longest question
    with its thoughts and the longest chain of the data fit the model's positions.

    Raises:
        DataError: A question alone does not fit.
    """
    model, ids = subject.reasoner.model, [example.id for example in subject.examples]
    check_lengths(model, subject.prompts(), ids, new_tokens=1)
    if not has_latents(subject):
        return [0], None
    numbers = list(range(max(most, subject.most_thoughts) + 1))
    limit = max_positions(model)
    words = max(sum(map(len, e.steps or ())) + len(e.answer) for e in subject.encoded) + 1
    needed = [max(map(len, subject.prompts(k))) + words for k in numbers]
    fit = [k for k in numbers if k == 0 or limit is None or needed[k] <= limit]
    if fit == numbers:
        return fit, None
    return fit, (
        f"k from {fit[-1] + 1} to {numbers[-1]}: would need up to {needed[-1]} positions, but the "
        f"model has {limit}."
    )


def has_latents(subject: Subject) -> bool:
    """Return whether a number of thoughts, or of pauses, can be forced on the method."""
    return subject.reasoner.info.row.fill.has_latents


def own_numbers(subject: Subject) -> list[int]:
    """Return how many latent positions each question had in training."""
    info, plan = subject.reasoner.info, subject.reasoner.rules.plan
    return [count_latents(info.row, info.stage, len(e.steps or ()), plan) for e in subject.encoded]


def _trained_number(subject: Subject) -> int | None:
    """Return that number if all questions have the same."""
    numbers = set(own_numbers(subject))
    return numbers.pop() if len(numbers) == 1 else None


# --- one series -------------------------------------------------------------------------------


def _series(
    subject: Subject,
    judges: Sequence[Judge],
    forced: Sequence[int],
    name: str,
    on_progress: Progress,
) -> dict[str, Any]:
    def answered(k: int | None) -> _Answered:
        return _answer(subject, judges, k, SERIES[name], on_progress)

    found = [answered(k) for k in forced]
    trained = _trained_number(subject)
    same = [one for one in found if one.k == trained]
    as_trained = same[0] if same else answered(None)
    others = [one for one in found if one is not as_trained]
    p_values = holm([_p_value(one, as_trained) for one in others])
    p_of = {one.k: float(f"{p:.3g}") for one, p in zip(others, p_values, strict=True)}
    return {
        "name": name,
        "forced_steps": SERIES[name],
        "by_k": [_row(one) | {"p": p_of.get(one.k)} for one in found],
        "as_trained": _row(as_trained) | {"p": None},
        "questions": _questions(subject, found),
    }


def _answer(
    subject: Subject,
    judges: Sequence[Judge],
    k: int | None,
    force_steps: bool,
    on_progress: Progress,
) -> _Answered:
    outputs = subject.answers(
        k if has_latents(subject) else None, force_steps=force_steps, on_progress=on_progress
    )
    template = subject.reasoner.info.template
    form = Form(subject.is_in_words, template.answer_start, template.step_end)
    written = [
        read(output.text, form, judge.graph.names, is_finished=output.is_finished)
        for output, judge in zip(outputs, judges, strict=True)
    ]
    are_right = subject.are_right(outputs)
    outcomes = {
        name: [
            judge.outcome(text, is_right=right, hidden=hidden, end=end)
            for judge, text, right, hidden in zip(
                judges, written, are_right, hidden_steps(subject, k, lead), strict=True
            )
        ]
        for name, (lead, end) in READINGS.items()
    }
    return _Answered(k, outputs, are_right, written, outcomes)


def hidden_steps(subject: Subject, k: int | None, lead: Lead) -> list[Collection[int] | None]:
    """Return how many steps may be missing in front of each chain; None for any number.

    A method without latent positions that has learned to leave steps out (icot,
    coconut-no-thought) may leave out any number by both readings: nothing says how many.
    """
    info, plan = subject.reasoner.info, subject.reasoner.rules.plan
    if not has_latents(subject):
        left = info.row.schedule.left
        keeps_all = all(
            left(e.steps or (), info.stage, plan) == (e.steps or ()) for e in subject.encoded
        )
        return [(0,) if keeps_all else None] * len(subject.encoded)
    numbers = own_numbers(subject) if k is None else [k] * len(subject.encoded)
    c = plan.thoughts_per_step
    given = [(number // c, -(-number // c)) for number in numbers]
    if lead == "given_k":
        return list(given)
    return [None if number else (0,) for number in numbers]


def _p_value(one: _Answered, other: _Answered) -> float:
    pairs = Counter(zip(one.are_right, other.are_right, strict=True))
    return mcnemar(pairs[True, False], pairs[False, True])


# --- as plain values --------------------------------------------------------------------------


def _row(one: _Answered) -> dict[str, Any]:
    number = len(one.outputs)
    accuracy, low, high = share_with_interval(sum(one.are_right), number)
    first, *others = READINGS
    counts = Counter(one.outcomes[first])
    return {
        "k": one.k,
        "num_questions": number,
        "accuracy": round(accuracy, 6),
        "low": round(low, 6),
        "high": round(high, 6),
        "shares": _shares(one.outcomes[first]),
        "intervals": {
            name: [round(end, 6) for end in share_with_interval(counts[name], number)[1:]]
            for name in OUTCOMES
        },
        "other_readings": {name: _shares(one.outcomes[name]) for name in others},
        "num_inconsistent": sum(text.is_inconsistent for text in one.written),
        "num_without_answer": sum(not text.label for text in one.written),
        "num_with_junk": sum(text.has_junk for text in one.written),
        "num_unfinished": sum(not output.is_finished for output in one.outputs),
    }


def _shares(outcomes: Sequence[Outcome]) -> dict[str, float]:
    counts = Counter(outcomes)
    return {name: round(counts[name] / len(outcomes), 6) for name in OUTCOMES}


def _questions(subject: Subject, found: Sequence[_Answered]) -> list[dict[str, Any]]:
    first = next(iter(READINGS))
    questions: list[dict[str, Any]] = [
        {
            "id": example.id,
            "outcomes": [one.outcomes[first][i] for one in found],
            "answers": [one.outputs[i].answer for one in found],
        }
        for i, example in enumerate(subject.examples)
    ]
    for i, question in enumerate(questions[:NUM_TEXTS]):
        question["texts"] = [one.outputs[i].text for one in found]
    return questions
