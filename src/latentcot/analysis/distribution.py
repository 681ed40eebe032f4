"""Accuracy on questions unlike those of training: one model, or several side by side.

`question_sets.py` makes the questions. They are put to each model in two ways, where these differ:

    trained      as many thoughts as in training: more hops get no more thoughts
    one_a_hop    as many thoughts as the shortest path has edges (times c)

All models answer the same questions, and are compared with the first by McNemar's test.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any, Literal

from latentcot.analysis.outcomes import has_latents, own_numbers
from latentcot.analysis.shared.question_sets import (
    SAME,
    LeftOut,
    QuestionSet,
    guess_options,
    num_names,
    options_beside,
    question_sets,
)
from latentcot.analysis.shared.subject import Progress, Subject, no_progress, with_own_names
from latentcot.data.examples import Example
from latentcot.errors import DataError, UsageError
from latentcot.evaluation.statistics import holm, mcnemar, share_with_interval
from latentcot.models.loading import check_lengths
from latentcot.tasks.prosqa.generator import fact, make_splits
from latentcot.tasks.prosqa.options import ProsqaOptions
from latentcot.tasks.prosqa.stats import graph_stats

SCHEMA_VERSION = 1
NUM_QUESTIONS = 500
SEED = 0
Thoughts = Literal["trained", "one_a_hop"]


@dataclass(frozen=True)
class _Made:
    """A set with its questions, and how many hops each has."""

    kind: QuestionSet
    examples: list[Example]
    hops: list[int]


@dataclass(frozen=True)
class _Answered:
    """What a model made of a set.

    Attributes:
        subject: Its name.
        made: The set.
        thoughts: By which rule latent positions were given.
        num_latents: How many each question had.
        are_right: Whether the answer is right, for each.
        are_other: Whether it is the other candidate.
    """

    subject: str
    made: _Made
    thoughts: Thoughts
    num_latents: list[int]
    are_right: list[bool]
    are_other: list[bool]


def measure(
    subject: Subject,
    on_progress: Progress = no_progress,
    *,
    against: Subject | Sequence[Subject] | None = None,
    options: ProsqaOptions | None = None,
    num_questions: int = NUM_QUESTIONS,
    seed: int = SEED,
) -> dict[str, Any]:
    """Make sets of questions unlike those of training, and let models answer them.

    Args:
        subject: With ProsQA's graphs, in words or in symbols.
        on_progress: Called with the number of questions that have just been answered.
        against: Other models, trained on the same data.
        options: Of the training data. If left out, those in the data.json beside the questions, or
            else what their graphs look like.
        num_questions: Of each set.
        seed: Of the questions.

    Returns:
        `sets`: what was asked (`share_as_long`: how many have no fewer and no more edges than the
        questions in distribution); `left_out`: what could not be, and why; `accuracy`: a row for
        each model, set and number of thoughts, with the share of answers that name the other
        candidate (the rest names neither), and `p` against the first model, adjusted by Holm over
        all rows; `by_hops`: the same by hops, over the sets that differ in hops alone.

    Raises:
        DataError: The questions carry no graphs.
        UsageError: Nodes have names that cannot be made, or not even questions like those of
            training fit all models.
    """
    subjects = [subject, *with_own_names(subject, _as_list(against))]
    base, base_from = _base_options(subject, options)
    kinds, left_out = question_sets(base, num_names(subject, base))
    sets, answered = [], []
    for kind in kinds:
        made = _make(kind, num_questions, seed, subjects)
        if isinstance(made, LeftOut) and kind.name == SAME:
            raise UsageError(f"distribution: no questions like those of training: {made.reason}")
        if isinstance(made, LeftOut):
            left_out.append(made)
        else:
            sets.append(made)
            answered += [row for one in subjects for row in _answer(one, made, on_progress)]
    return {
        "schema_version": SCHEMA_VERSION,
        "subjects": [_subject_row(one) for one in subjects],
        "num_questions": num_questions,
        "seed": seed,
        "base": asdict(base),
        "base_from": base_from,
        "overlap": "whether a question is one of the training data by chance is not looked at",
        "sets": [_set_row(made, sets[0]) for made in sets],
        "left_out": [asdict(one) for one in left_out],
        "accuracy": _rows(answered, subjects[0].name),
        "by_hops": _by_hops(answered),
    }


def _base_options(subject: Subject, given: ProsqaOptions | None) -> tuple[ProsqaOptions, str]:
    """Return the options of the training data, and in words where they are from."""
    if given is not None:
        return given, "given"
    beside = None if subject.source is None else options_beside(subject.source)
    if beside is not None:
        return beside, "data.json beside the questions"
    return guess_options(subject), "read off the questions' graphs"


def _as_list(against: Subject | Sequence[Subject] | None) -> Sequence[Subject]:
    if against is None:
        return []
    return [against] if isinstance(against, Subject) else against


# --- making -----------------------------------------------------------------------------------


def _make(
    kind: QuestionSet, num_questions: int, seed: int, subjects: Sequence[Subject]
) -> _Made | LeftOut:
    """Draw the questions of a set; leave it out if there are none, or a model cannot read them."""
    try:
        examples = make_splits(kind.options, {kind.name: num_questions}, seed)[kind.name]
        made = _Made(kind, examples, [len(example.steps) for example in examples])
        for subject in subjects:
            _check_fit(_posed(subject, made), made)
    except DataError as error:
        return LeftOut(kind.name, str(error))
    return made


def _posed(subject: Subject, made: _Made) -> Subject:
    """Put a model before the questions of a set."""
    encoded = tuple(subject.reasoner.encode(made.examples))
    return replace(subject, examples=tuple(made.examples), encoded=encoded, source=None)


def _check_fit(posed: Subject, made: _Made) -> None:
    """Refuse questions that with their thoughts and their chain need too many positions."""
    ids = [example.id for example in made.examples]
    words = _longest_text(posed) + 1
    check_lengths(posed.reasoner.model, posed.prompts(), ids, new_tokens=words)
    if has_latents(posed):
        most = posed.prompts(max(_one_a_hop(posed, made)))
        check_lengths(posed.reasoner.model, most, ids, new_tokens=words)


def _longest_text(subject: Subject) -> int:
    """Return how many tokens the longest chain and its answer have."""
    return max(sum(map(len, one.steps or ())) + len(one.answer) for one in subject.encoded)


def _one_a_hop(posed: Subject, made: _Made) -> list[int]:
    return [hops * posed.reasoner.rules.plan.thoughts_per_step for hops in made.hops]


# --- asking -----------------------------------------------------------------------------------


def _answer(subject: Subject, made: _Made, on_progress: Progress) -> list[_Answered]:
    """Let a model answer with the thoughts of training and, if these are others, one a hop."""
    posed = _posed(subject, made)
    # Longer chains may be written as well: the room beside the longest stays what it was.
    room = posed.reasoner.info.max_new_tokens
    room += max(0, _longest_text(posed) - _longest_text(subject))
    own, wanted = own_numbers(posed), _one_a_hop(posed, made)
    ways: list[tuple[Thoughts, list[int]]] = [("trained", own)]
    if has_latents(posed) and wanted != own:
        ways.append(("one_a_hop", wanted))
    found = []
    for thoughts, latents in ways:
        numbers = None if thoughts == "trained" else latents
        answers = _ask(posed, numbers, room, on_progress)
        found.append(_judged(posed, made, thoughts, latents, answers))
    return found


def _ask(
    posed: Subject, numbers: Sequence[int] | None, room: int, on_progress: Progress
) -> list[str]:
    """Return the answers, after so many thoughts for each question; None for the model's own."""
    chosen: Sequence[int | None] = [None] * len(posed.examples) if numbers is None else numbers
    answers: dict[int, str] = {}
    for number in dict.fromkeys(chosen):
        places = [i for i, one in enumerate(chosen) if one == number]
        outputs = posed.reasoner.answer(
            [posed.encoded[i] for i in places],
            num_thoughts=number,
            max_new_tokens=room,
            batch_size=posed.batch_size,
            on_progress=on_progress,
        )
        answers.update(zip(places, (output.answer for output in outputs), strict=True))
    return [answers[i] for i in range(len(chosen))]


def _judged(
    posed: Subject, made: _Made, thoughts: Thoughts, latents: list[int], answers: Sequence[str]
) -> _Answered:
    is_correct, in_words = posed.task.is_correct, made.kind.options.rendering == "words"
    are_right, are_other = [], []
    for example, graph, answer in zip(posed.examples, posed.graphs, answers, strict=True):
        root, other = graph.names[graph.root], graph.names[graph.neg_target]
        are_right.append(is_correct(answer, example.answer))
        are_other.append(is_correct(answer, fact(root, other) if in_words else other))
    return _Answered(posed.name, made, thoughts, latents, are_right, are_other)


# --- as plain values --------------------------------------------------------------------------


def _subject_row(subject: Subject) -> dict[str, Any]:
    info = subject.reasoner.info
    return {"name": subject.name, "method": info.method, "num_thoughts": info.num_thoughts}


def _set_row(made: _Made, same: _Made) -> dict[str, Any]:
    found = graph_stats(made.examples)
    known = {len(example.meta["edges"]) for example in same.examples}
    lengths = [len(example.meta["edges"]) for example in made.examples]
    return {
        "name": made.kind.name,
        "about": made.kind.about,
        "options": asdict(made.kind.options),
        "num_questions": len(made.examples),
        "hops": {str(hops): count for hops, count in found.hop_histogram.items()},
        "share_as_long": fmean(min(known) <= number <= max(known) for number in lengths),
        "nodes": round(found.nodes.mean, 2),
        "edges": round(found.edges.mean, 2),
        "shortest_paths": round(found.shortest_paths.mean, 2),
        "right_by_deeper": round(found.accuracy_deeper_candidate, 4),
    }


def _rows(answered: Sequence[_Answered], first: str) -> list[dict[str, Any]]:
    reference = {
        (one.made.kind.name, one.thoughts): one for one in answered if one.subject == first
    }
    tested = [one for one in answered if one.subject != first]
    p_values = holm([_p_value(one, reference) for one in tested])
    p_of = {id(one): float(f"{p:.3g}") for one, p in zip(tested, p_values, strict=True)}
    return [
        {
            "subject": one.subject,
            "set": one.made.kind.name,
            "thoughts": one.thoughts,
            "num_thoughts": round(fmean(one.num_latents), 3),
            **_accuracy(one.are_right),
            "other_candidate": round(fmean(one.are_other), 6),
            "p": p_of.get(id(one)),
            "by_hops": [
                {"hops": hops, **_accuracy(rights)} for hops, rights in _grouped([one]).items()
            ],
        }
        for one in answered
    ]


def _p_value(one: _Answered, reference: dict[tuple[str, Thoughts], _Answered]) -> float:
    """Compare with the first model's answers with the same thoughts, or else with its own."""
    name = one.made.kind.name
    other = reference.get((name, one.thoughts)) or reference[name, "trained"]
    pairs = Counter(zip(one.are_right, other.are_right, strict=True))
    return mcnemar(pairs[True, False], pairs[False, True])


def _by_hops(answered: Sequence[_Answered]) -> list[dict[str, Any]]:
    """Join the sets that differ in hops alone: those of training, and other chains."""
    alike = [one for one in answered if one.made.kind.name == SAME or one.made.kind.is_about_hops]
    rows = []
    for subject in dict.fromkeys(one.subject for one in alike):
        mine = [one for one in alike if one.subject == subject]
        ways = {"trained": [one for one in mine if one.thoughts == "trained"]}
        forced = {one.made.kind.name: one for one in mine if one.thoughts == "one_a_hop"}
        if forced:  # where both are the same, it was asked once
            ways["one_a_hop"] = [forced.get(one.made.kind.name, one) for one in ways["trained"]]
        rows += [
            {"subject": subject, "thoughts": way, "hops": hops, **_accuracy(rights)}
            for way, some in ways.items()
            for hops, rights in _grouped(some).items()
        ]
    return rows


def _grouped(answered: Sequence[_Answered]) -> dict[int, list[bool]]:
    """Return whether each answer was right, by the hops of the question."""
    groups: dict[int, list[bool]] = {}
    for one in answered:
        for hops, is_right in zip(one.made.hops, one.are_right, strict=True):
            groups.setdefault(hops, []).append(is_right)
    return dict(sorted(groups.items()))


def _accuracy(are_right: Sequence[bool]) -> dict[str, Any]:
    accuracy, low, high = share_with_interval(sum(are_right), len(are_right))
    return {
        "num_questions": len(are_right),
        "accuracy": round(accuracy, 6),
        "low": round(low, 6),
        "high": round(high, 6),
    }
