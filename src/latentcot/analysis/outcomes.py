"""What a model writes once language is forced on it after k thoughts (arXiv 2412.06769, section 5).

Thinking ends after k = 0, 1, 2, … thoughts and `<eot>` is read; what is written then has one of the
six outcomes of `paths.py`. Two series, since there are two ways to force language:

    free         the model writes what it likes, an answer without a step too: the paper's way
    step_first   the answer is forbidden until a step is written

Methods without latent positions have nothing to force: their series hold k = 0 alone.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from latentcot.analysis.shared import style
from latentcot.analysis.shared.paths import OUTCOMES, End, Form, Judge, Lead, Outcome, read
from latentcot.analysis.shared.statistics import Row, Rows, adjust, mcnemar_of, share_fields
from latentcot.analysis.shared.subject import Progress, Subject, no_progress
from latentcot.analysis.shared.values import forced_numbers
from latentcot.errors import UsageError
from latentcot.evaluation.reasoner import Output
from latentcot.models.loading import check_lengths

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
    """All questions, answered after one number of thoughts; lists are parallel to them."""

    outputs: list[Output]  # what was written
    are_right: list[bool]  # whether the answer counts as right
    outcomes: list[Outcome]  # by the first reading
    row: Row  # what was counted, without a p-value


def measure(subject: Subject, on_progress: Progress = no_progress) -> Row:
    """Let a model answer after each number of thoughts, and say what became of each question.

    Returns:
        `by_k`: a row for each k of the series `free`; `questions`: outcome and answer of each at
        each k, with the texts of the first `NUM_TEXTS`. `series` has the same for both series, and
        `as_trained`: the row of as many thoughts as each question had in training, against which
        `p` tests (McNemar, adjusted by Holm over k; None where it is the same row).

    Raises:
        DataError: A question carries no graph, or does not fit the model's positions.
        UsageError: The method's chains are no paths (`cot-bfs`).
    """
    if subject.reasoner.method.chain is not None:
        raise UsageError(
            f"{subject.name}: {subject.reasoner.info.method_name} is taught chains that are no "
            "paths from the root, and outcomes are told of paths."
        )
    ids = [example.id for example in subject.examples]
    check_lengths(subject.reasoner.model, subject.prompts(), ids, new_tokens=1)
    longest = max(sum(map(len, e.steps or ())) + len(e.answer) for e in subject.encoded)
    forced, left_out = forced_numbers(subject, longest + 1)
    own, series = own_numbers(subject), Rows()
    for name, is_forced in SERIES.items():
        by_k = {k: _answer(subject, k, is_forced, on_progress) for k in forced}
        same = [one for k, one in by_k.items() if set(own) == {k}]
        as_trained = same[0] if same else _answer(subject, None, is_forced, on_progress)
        for one in by_k.values():
            if one is not as_trained:
                one.row["p"] = mcnemar_of(one.are_right, as_trained.are_right)
        rows, questions = [one.row for one in by_k.values()], Rows()
        adjust(rows)
        for i, example in enumerate(subject.examples):
            answers = [one.outputs[i].answer for one in by_k.values()]
            outcomes = [one.outcomes[i] for one in by_k.values()]
            questions.append({"id": example.id, "outcomes": outcomes, "answers": answers})
            if i < NUM_TEXTS:
                questions[-1]["texts"] = [one.outputs[i].text for one in by_k.values()]
        series.append(
            {
                "name": name,
                "forced_steps": is_forced,
                "by_k": rows,
                "as_trained": as_trained.row,
                "questions": questions,
            }
        )
    free = series[0]
    return {
        "subject": subject.name,
        "method": subject.reasoner.info.method_name,
        "form": "words" if subject.is_in_words else "symbols",
        "num_questions": len(subject.examples),
        "num_thoughts": max(own),
        "num_thoughts_varies": len(set(own)) > 1,
        "outcomes": list(OUTCOMES),
        "readings": {name: {"lead": lead, "end": end} for name, (lead, end) in READINGS.items()},
        "left_out": left_out,
        "by_k": free["by_k"],
        "questions": free["questions"],
        "series": [free | {"questions": None}, *series[1:]],
    }


# --- how many thoughts ------------------------------------------------------------------------


def own_numbers(subject: Subject) -> list[int]:
    """Return how many latent positions each question had in training."""
    return [prompt.num_latents for prompt in subject.prompts()]


# --- one number -------------------------------------------------------------------------------


def _answer(subject: Subject, k: int | None, force_steps: bool, on_progress: Progress) -> _Answered:
    """Let a model answer after k thoughts, or as many as in training, and count what it writes."""
    outputs = subject.answers(
        k if subject.can_force_thoughts else None, force_steps=force_steps, on_progress=on_progress
    )
    template = subject.reasoner.info.template
    form = Form(subject.is_in_words, template.answer_start, template.step_end)
    judges = [Judge(graph) for graph in subject.graphs]
    written = [
        read(output.text, form, judge.graph.names, is_finished=output.is_finished)
        for output, judge in zip(outputs, judges, strict=True)
    ]
    are_right = subject.are_right(outputs)
    by_reading = {
        name: [
            judge.outcome(text, is_right=right, hidden=hidden, end=end)
            for judge, text, right, hidden in zip(
                judges, written, are_right, hidden_steps(subject, k, lead), strict=True
            )
        ]
        for name, (lead, end) in READINGS.items()
    }
    first, *others = READINGS
    counted = {
        name: share_fields("share", [outcome == name for outcome in by_reading[first]], ends="")
        for name in OUTCOMES
    }
    row = {
        "k": k,
        "num_questions": len(outputs),
        **share_fields("accuracy", are_right, ends=""),
        "shares": {name: found["share"] for name, found in counted.items()},
        "intervals": {name: [found["low"], found["high"]] for name, found in counted.items()},
        "other_readings": {
            reading: {
                name: round(by_reading[reading].count(name) / len(outputs), 6) for name in OUTCOMES
            }
            for reading in others
        },
        "num_inconsistent": sum(text.is_inconsistent for text in written),
        "num_without_answer": sum(not text.label for text in written),
        "num_with_junk": sum(text.has_junk for text in written),
        "num_unfinished": sum(not output.is_finished for output in outputs),
        "p": None,
    }
    return _Answered(outputs, are_right, by_reading[first], row)


def hidden_steps(subject: Subject, k: int | None, lead: Lead) -> list[Collection[int] | None]:
    """Return how many steps may be missing in front of each chain; None for any number.

    A method without latent positions that has learned to leave steps out (icot,
    coconut-no-thought) may leave out any number by both readings: nothing says how many.
    """
    info, plan = subject.reasoner.info, subject.reasoner.rules.plan
    if not subject.can_force_thoughts:
        left = subject.reasoner.method.view.schedule.left
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


# --- drawing ----------------------------------------------------------------------------------

_LOOKS: Mapping[str, tuple[str, str, str]] = {
    "correct_path": ("correct path", style.BLUE, ""),
    "longer_path": ("longer path", style.SKY, "////"),
    "hallucination": ("hallucination", style.VERMILION, "xxxx"),
    "wrong_target": ("wrong target", style.ORANGE, "...."),
    "correct_label": ("correct label", style.GREEN, "\\\\\\\\"),
    "incorrect_label": ("incorrect label", style.GREY, "----"),
}
"""Outcome → its words, colour and hatch: what is told apart by colour is told apart without."""


def tables(result: Mapping[str, Any]) -> dict[str, Rows]:
    """Return a row for each series, k and outcome; accuracy is repeated in each."""
    rows = [
        {
            "series": series["name"],
            "k": row["k"],
            "num_questions": row["num_questions"],
            "accuracy": row["accuracy"],
            "accuracy_low": row["low"],
            "accuracy_high": row["high"],
            "p": row["p"],
            "outcome": outcome,
            "share": row["shares"][outcome],
            "low": row["intervals"][outcome][0],
            "high": row["intervals"][outcome][1],
            **{name: shares[outcome] for name, shares in row["other_readings"].items()},
        }
        for series in result["series"]
        for row in series["by_k"]
        for outcome in result["outcomes"]
    ]
    return {"outcomes": rows}


def draw(result: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw bars that add up to all questions after each k, and accuracy above them.

    A figure for each way to force language: `outcomes`, and `outcomes-step-first`.
    """
    drawn: dict[str, Figure] = {}
    for series in result["series"]:
        name = {"free": "outcomes", "step_first": "outcomes-step-first"}[series["name"]]
        by_k, bottoms = series["by_k"], [0.0] * len(series["by_k"])
        numbers = [row["k"] for row in by_k]
        with style.figure(style.COLUMN, 2.9) as drawn[name]:
            above, below = drawn[name].subplots(2, 1, sharex=True, height_ratios=(1, 2))
            look: Any = {"marker": "o", "markersize": 1.5, "color": style.BLACK, "capsize": 2.5}
            style.points(above, numbers, by_k, "accuracy", ends="", **look)
            above.set(ylim=(0, 1.05), yticks=[0, 0.5, 1], ylabel="accuracy")
            for outcome in result["outcomes"]:
                label, colour, hatch = _LOOKS[outcome]
                heights = [row["shares"][outcome] for row in by_k]
                look = {"width": 0.8, "color": colour, "hatch": hatch, "edgecolor": "white"}
                below.bar(numbers, heights, bottom=bottoms, label=label, linewidth=0.4, **look)
                bottoms = [low + height for low, height in zip(bottoms, heights, strict=True)]
            below.set(ylim=(0, 1), ylabel="questions")
            style.percents(above.yaxis)
            style.percents(below.yaxis)
            trained = None if result["num_thoughts_varies"] else result["num_thoughts"]
            ticks = [f"{k}\n(trained)" if k and k == trained else str(k) for k in numbers]
            is_forced = len(by_k) > 1
            words = "k, thoughts" if is_forced else "k (the method has no latent positions)"
            below.set_xlabel(words)
            below.set_xticks(numbers, ticks)
            margin = 0.6 if is_forced else 1.5
            below.set_xlim(-margin, numbers[-1] + margin)
            style.legend(drawn[name], [below], 3)
    return drawn
