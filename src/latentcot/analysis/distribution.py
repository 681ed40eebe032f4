"""Accuracy on questions unlike those of training (`question_sets.py`): one model, or several.

Each is asked with the thoughts of training (`trained`) and, where these differ, with as many as the
shortest path has edges, times c (`one_a_hop`). All answer the same questions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any, Literal

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from latentcot.analysis.outcomes import own_numbers
from latentcot.analysis.shared import style
from latentcot.analysis.shared.question_sets import (
    SAME,
    LeftOut,
    QuestionSet,
    num_names,
    question_sets,
    training_options,
)
from latentcot.analysis.shared.statistics import Row, Rows, adjust, mcnemar_of, share_fields
from latentcot.analysis.shared.subject import Progress, Subject, no_progress, with_own_names
from latentcot.errors import DataError, UsageError
from latentcot.models.loading import check_lengths
from latentcot.tasks.prosqa.generator import make_splits
from latentcot.tasks.prosqa.options import ProsqaOptions
from latentcot.tasks.prosqa.stats import graph_stats

NUM_QUESTIONS = 500
SEED = 0
Thoughts = Literal["trained", "one_a_hop"]


@dataclass(frozen=True)
class _Answered:
    """What a model made of a set."""

    subject: str  # its name
    kind: QuestionSet  # the set
    hops: list[int]  # how many hops each question has
    thoughts: Thoughts  # by which rule latent positions were given
    num_latents: list[int]  # how many each question had
    are_right: list[bool]  # whether the answer is right, for each
    are_other: list[bool]  # whether it is the other candidate


def measure(
    subject: Subject,
    on_progress: Progress = no_progress,
    against: Sequence[Subject] = (),
    *,
    options: ProsqaOptions | None = None,
    num_questions: int = NUM_QUESTIONS,
    seed: int = SEED,
) -> Row:
    """Make sets of questions unlike those of training, and let models answer them.

    Args:
        subject: With ProsQA's graphs; see `Analysis` for what is not named here.
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
    subjects = [subject, *with_own_names(subject, against)]
    infos = [one.reasoner.info for one in subjects]
    base, base_from = (options, "given") if options else training_options(subject)
    kinds, left_out = question_sets(base, num_names(subject, base))
    sets, answered, same = Rows(), list[_Answered](), list[int]()
    for kind in kinds:
        try:
            posed = _posed(kind, num_questions, seed, subjects)
        except DataError as error:
            if kind.name == SAME:
                raise UsageError(f"distribution: none like in training: {error}") from None
            left_out.append(LeftOut(kind.name, str(error)))
            continue
        examples = posed[0].examples
        found = graph_stats(examples)
        num_edges = [len(example.meta["edges"]) for example in examples]
        same = same or num_edges
        sets.append(
            {
                "name": kind.name,
                "about": kind.about,
                "options": asdict(kind.options),
                "num_questions": len(examples),
                "hops": {str(hops): count for hops, count in found.hop_histogram.items()},
                "share_as_long": fmean(min(same) <= num <= max(same) for num in num_edges),
                "nodes": round(found.nodes.mean, 2),
                "edges": round(found.edges.mean, 2),
                "shortest_paths": round(found.shortest_paths.mean, 2),
                "right_by_deeper": round(found.accuracy_deeper_candidate, 4),
            }
        )
        for one, with_set in zip(subjects, posed, strict=True):
            answered += _answer(one, with_set, kind, on_progress)
    return {
        "subjects": [
            {"name": one.name, "method": info.method_name, "num_thoughts": info.num_thoughts}
            for one, info in zip(subjects, infos, strict=True)
        ],
        "num_questions": num_questions,
        "seed": seed,
        "base": asdict(base),
        "base_from": base_from,
        "overlap": "whether a question is one of the training data by chance is not looked at",
        "sets": sets,
        "left_out": [asdict(one) for one in left_out],
        "accuracy": _rows(answered, subjects[0].name),
        "by_hops": _by_hops(answered),
    }


def _posed(
    kind: QuestionSet, num_questions: int, seed: int, subjects: Sequence[Subject]
) -> list[Subject]:
    """Put every model before the questions of a set.

    Raises:
        DataError: There are none, or a model cannot read them, with thoughts and chain.
    """
    examples = tuple(make_splits(kind.options, {kind.name: num_questions}, seed)[kind.name])
    ids, found = [example.id for example in examples], []
    for subject in subjects:
        encoded = tuple(subject.reasoner.encode(examples))
        posed = replace(subject, examples=examples, encoded=encoded, source=None)
        most = [None, max(_one_a_hop(posed))] if posed.can_force_thoughts else [None]
        for count in most:
            layouts, words = posed.prompts(count), _longest_text(posed) + 1
            check_lengths(posed.reasoner.model, layouts, ids, new_tokens=words)
        found.append(posed)
    return found


def _longest_text(subject: Subject) -> int:
    """Return how many tokens the longest chain and its answer have."""
    return max(sum(map(len, one.steps or ())) + len(one.answer) for one in subject.encoded)


def _one_a_hop(posed: Subject) -> list[int]:
    c = posed.reasoner.rules.plan.thoughts_per_step
    return [len(example.steps) * c for example in posed.examples]


def _answer(
    subject: Subject, posed: Subject, kind: QuestionSet, on_progress: Progress
) -> list[_Answered]:
    """Let a model answer with the thoughts of training and, if these are others, one a hop."""
    # Longer chains may be written as well: the room beyond the longest stays what it was.
    room = posed.reasoner.info.max_new_tokens
    room += max(0, _longest_text(posed) - _longest_text(subject))
    own, wanted = own_numbers(posed), _one_a_hop(posed)
    ways: dict[Thoughts, list[int]] = {"trained": own}
    if posed.can_force_thoughts and wanted != own:
        ways["one_a_hop"] = wanted
    hops, found = [len(example.steps) for example in posed.examples], []
    for way, latents in ways.items():
        answers = ask(posed, None if way == "trained" else latents, room, on_progress)
        are_right, are_other = [], []
        for i, (example, graph) in enumerate(zip(posed.examples, posed.graphs, strict=True)):
            other = posed.answer_naming(i, graph.names[graph.neg_target])
            are_right.append(posed.task.is_correct(answers[i], example.answer))
            are_other.append(posed.task.is_correct(answers[i], other))
        found.append(_Answered(posed.name, kind, hops, way, latents, are_right, are_other))
    return found


def ask(
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


def _rows(answered: Sequence[_Answered], first: str) -> Rows:
    reference = {(one.kind.name, one.thoughts): one for one in answered if one.subject == first}
    rows: Rows = []
    for one in answered:
        name, p = one.kind.name, None
        if one.subject != first:  # with the same thoughts, or else with the first model's own
            other = reference.get((name, one.thoughts)) or reference[name, "trained"]
            p = mcnemar_of(one.are_right, other.are_right)
        rows.append(
            {
                "subject": one.subject,
                "set": name,
                "thoughts": one.thoughts,
                "num_thoughts": round(fmean(one.num_latents), 3),
                **_accuracy(one.are_right),
                "other_candidate": round(fmean(one.are_other), 6),
                "p": p,
                "by_hops": [
                    {"hops": hops, **_accuracy(rights)} for hops, rights in _grouped([one]).items()
                ],
            }
        )
    adjust(rows)
    return rows


def _by_hops(answered: Sequence[_Answered]) -> Rows:
    """Join the sets that differ in hops alone: those of training, and other chains."""
    alike = [one for one in answered if one.kind.name == SAME or one.kind.is_about_hops]
    rows = []
    for subject in dict.fromkeys(one.subject for one in alike):
        mine = [one for one in alike if one.subject == subject]
        ways = {"trained": [one for one in mine if one.thoughts == "trained"]}
        forced = {one.kind.name: one for one in mine if one.thoughts == "one_a_hop"}
        if forced:  # where both are the same, it was asked once
            ways["one_a_hop"] = [forced.get(one.kind.name, one) for one in ways["trained"]]
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
        for hops, is_right in zip(one.hops, one.are_right, strict=True):
            groups.setdefault(hops, []).append(is_right)
    return dict(sorted(groups.items()))


def _accuracy(are_right: Sequence[bool]) -> Row:
    return {"num_questions": len(are_right), **share_fields("accuracy", are_right, ends="")}


# --- drawing ----------------------------------------------------------------------------------


def tables(result: Mapping[str, Any]) -> dict[str, Rows]:
    """Return the rows of the CSV files, by their names."""
    about = {one["name"]: one for one in result["sets"]}
    keys = ("nodes", "edges", "shortest_paths", "share_as_long")
    rows = [
        {
            **{key: value for key, value in row.items() if key not in ("by_hops", "p")},
            "p": row["p"],
            **{key: about[row["set"]][key] for key in keys},
        }
        for row in result["accuracy"]
    ]
    return {"distribution": rows, "distribution-hops": result["by_hops"]}


def draw(result: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw `distribution`, a row for each set, and `distribution-hops`, a line for each method."""
    names = [one["name"] for one in result["sets"]]
    subjects = [one["name"] for one in result["subjects"]]
    looks: dict[tuple[str, str], Any] = {}  # hollow where thoughts are forced
    handles = []
    for number, name in enumerate(subjects):
        look = style.look_of(number) | {"linewidth": 1.0}
        colour, marker = look["color"], look.pop("fmt")[1:]
        handles.append(_handle(name, colour, marker))
        looks[name, "trained"] = look | {"marker": marker, "markerfacecolor": colour}
        looks[name, "one_a_hop"] = look | {"marker": marker, "markerfacecolor": "white"}
    if any(row["thoughts"] == "one_a_hop" for row in result["accuracy"]):
        handles.append(_handle("hollow: a thought a hop", style.GREY, "o", markerfacecolor="white"))

    height = 0.9 + max(0.26, 0.09 * len(subjects)) * len(names) + 0.14 * len(subjects)
    with style.figure(style.COLUMN, height) as sets:  # from top to bottom
        axes = sets.subplots()
        for (name, way), look in looks.items():
            rows = [r for r in result["accuracy"] if (r["subject"], r["thoughts"]) == (name, way)]
            shift = ((subjects.index(name) + 0.5) / len(subjects) - 0.5) * 0.7
            at = [names.index(row["set"]) + shift for row in rows]
            look = look | {"linestyle": "none"}
            style.points(axes, at, rows, "accuracy", ends="", is_sideways=True, **look)
        axes.axvline(0.5, color=style.GREY, linestyle=":", linewidth=0.8, zorder=0)
        for place in range(1, len(names)):
            axes.axhline(place - 0.5, color="0.9", linewidth=0.5, zorder=0)
        odd = {one["name"] for one in result["sets"] if one["share_as_long"] < 0.5}
        axes.set_yticks(range(len(names)), [f"{n} *" if n in odd else n for n in names])
        axes.set(ylim=(len(names) - 0.5, -0.5), xlim=(-0.02, 1.02))
        axes.set_xlabel("accuracy (dotted: a guess)")
        style.percents(axes.xaxis)
        others = [_handle("other lengths than training", "black", "$*$")] if odd else []
        sets.legend(handles=[*handles, *others], loc="outside lower center", ncols=2)

    with style.figure(style.COLUMN, 2.1 + 0.14 * len(subjects)) as by_hops:
        axes = by_hops.subplots()
        for (name, way), look in looks.items():
            rows = [r for r in result["by_hops"] if (r["subject"], r["thoughts"]) == (name, way)]
            at, line = [row["hops"] for row in rows], "-" if way == "trained" else "--"
            style.points(axes, at, rows, "accuracy", ends="", linestyle=line, **look)
        axes.axhline(0.5, color=style.GREY, linestyle=":", linewidth=0.8, zorder=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        style.percents(axes.yaxis)
        axes.set(ylim=(-0.02, 1.04), xlabel="hops", ylabel="accuracy")
        by_hops.legend(handles=handles, loc="outside lower center", ncols=2)
    return {"distribution": sets, "distribution-hops": by_hops}


def _handle(label: str, colour: str, marker: str, **look: Any) -> Line2D:
    return Line2D([], [], linestyle="none", label=label, color=colour, marker=marker, **look)
