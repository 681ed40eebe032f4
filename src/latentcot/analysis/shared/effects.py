"""What interventions did to the answers: shares with intervals, paired tests, plain values."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from latentcot.analysis.shared.paired import adjusted, difference, short, short_p
from latentcot.analysis.shared.subject import Subject
from latentcot.evaluation.reasoner import Output
from latentcot.evaluation.statistics import mcnemar, share_with_interval

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Which latent positions something is put into; all of them if nothing is given.

    Attributes:
        thought: This one alone, counted from 1.
        up_to: From the first one to this one.
    """

    thought: int | None = None
    up_to: int | None = None

    @property
    def fewest(self) -> int:
        """How many latent positions a question must have."""
        return self.thought or self.up_to or 1

    def has(self, latent: int) -> bool:
        """Return whether a latent position, counted from 0, is meant."""
        if self.thought is not None:
            return latent + 1 == self.thought
        return self.up_to is None or latent + 1 <= self.up_to


def places(most: int) -> Iterator[Place]:
    """Yield each thought alone, all of them, and those up to k where that is neither."""
    for thought in range(1, most + 1):
        yield Place(thought=thought)
    yield Place()
    for up_to in range(2, most):
        yield Place(up_to=up_to)


@dataclass(frozen=True)
class Effect:
    """What was answered under an intervention.

    Attributes:
        name: Of the intervention.
        place: Where.
        outputs: Question → what came.
    """

    name: str
    place: Place
    outputs: dict[int, Output]


@dataclass(frozen=True)
class Ran:
    """All interventions on one subject.

    Attributes:
        subject: The questions used.
        num_given: How many questions there were.
        most: Latents of a question at most.
        unchanged: The unchanged model.
        replay: With all thoughts as they were recorded.
        effects: Of every intervention at every place.
        left_out: Interventions that cannot change anything.
        others: What each question's answer would be if it were that of its partner in a swap.
        num_shown: How many questions are told one by one.
    """

    subject: Subject
    num_given: int
    most: int
    unchanged: Effect
    replay: Effect
    effects: Sequence[Effect]
    left_out: Sequence[str]
    others: Sequence[str | None]
    num_shown: int

    def right(self, effect: Effect) -> dict[int, bool]:
        """Return question → whether its answer counts as right."""
        questions = self.subject.of(list(effect.outputs))
        are_right = questions.are_right(list(effect.outputs.values()))
        return dict(zip(effect.outputs, are_right, strict=True))


def summary(ran: Ran) -> Row:
    """Return what interventions did, as plain values.

    p-values are McNemar's against the unchanged model on the same questions, two-sided; `p` is
    adjusted by Holm for all interventions and places of the subject, `p_raw` is not.
    """
    method = ran.subject.reasoner.info.row
    before = ran.right(ran.unchanged)
    rows = [_row(ran, effect, before) for effect in ran.effects]
    for row, p in zip(rows, adjusted([row["p_raw"] for row in rows]), strict=True):
        row |= {"p": p, "p_raw": short_p(row["p_raw"])}
    none = {"name": "none", "thought": None, **_accuracy(before), "p": None}
    return {
        "name": ran.subject.name,
        "method": method.name,
        "has_thoughts": method.fill.is_thought,
        "num_thoughts": ran.most,
        "num_questions": len(ran.subject.examples),
        "num_given": ran.num_given,
        "replay": {
            "num_questions": len(ran.replay.outputs),
            "num_changed": sum(_have_changed(ran, ran.replay)),
        },
        "effects": [none, *(row for row in rows if "up_to" not in row)],
        "first": [row for row in rows if "up_to" in row],
        "left_out": dict.fromkeys(ran.left_out, "the same vector stands in every latent position"),
        "questions": [_question(ran, number) for number in range(min(ran.num_shown, len(before)))],
    }


def _accuracy(right: dict[int, bool]) -> Row:
    share, low, high = share_with_interval(sum(right.values()), len(right))
    return {
        "accuracy": short(share),
        "low": short(low),
        "high": short(high),
        "num_questions": len(right),
    }


def _share(name: str, are_so: Sequence[bool]) -> Row:
    """Return another share with its interval."""
    share, low, high = share_with_interval(sum(are_so), len(are_so))
    return {name: short(share), f"{name}_low": short(low), f"{name}_high": short(high)}


def _row(ran: Ran, effect: Effect, before: dict[int, bool]) -> Row:
    right = ran.right(effect)
    lost = sum(before[q] and not right[q] for q in right)
    won = sum(right[q] and not before[q] for q in right)
    place = effect.place
    row = {
        "name": effect.name,
        "thought": place.thought,
        **({} if place.up_to is None else {"up_to": place.up_to}),
        **_accuracy(right),
        **_share("changed", _have_changed(ran, effect)),
        "p_raw": mcnemar(lost, won),
    }
    return row | (_as_other(ran, effect) if effect.name == "swap" else {})


def _have_changed(ran: Ran, effect: Effect) -> list[bool]:
    unchanged = ran.unchanged.outputs
    return [output.answer != unchanged[q].answer for q, output in effect.outputs.items()]


def _as_other(ran: Ran, effect: Effect) -> Row:
    """Return how often the answer is that of the question whose thoughts were put in."""
    numbers = [q for q in effect.outputs if ran.others[q] is not None]
    if not numbers:
        return {}
    shares = [
        _share(name, [_is(ran, outputs[q], ran.others[q]) for q in numbers])
        for name, outputs in (
            ("other", effect.outputs),
            ("other_unchanged", ran.unchanged.outputs),
        )
    ]
    return shares[0] | shares[1] | {"other_num_questions": len(numbers)}


def _is(ran: Ran, output: Output, answer: str | None) -> bool:
    return answer is not None and ran.subject.task.is_correct(output.answer, answer)


def _question(ran: Ran, number: int) -> Row:
    """Return what every intervention did to one question."""
    chosen = [ran.unchanged, *ran.effects]
    return {
        "id": ran.subject.examples[number].id,
        "interventions": [
            {
                "name": effect.name,
                "thought": effect.place.thought,
                "answer": effect.outputs[number].answer,
                "is_correct": _is_right(ran, effect.outputs[number], number),
            }
            for effect in chosen
            if number in effect.outputs and effect.place.up_to is None
        ],
    }


def _is_right(ran: Ran, output: Output, number: int) -> bool:
    return ran.subject.task.is_correct(output.answer, ran.subject.examples[number].answer)


# --- two subjects -----------------------------------------------------------------------------


def comparison(ran: Ran, other: Ran) -> list[Row]:
    """Compare two subjects under the same interventions, question by question.

    `p` is McNemar's between the two, adjusted by Holm. `lost` is how much accuracy an intervention
    takes from each; `more_lost` is how much more it takes from the first, with Student's interval
    over questions, and `more_lost_p` tests that it is 0, adjusted by Holm.
    """
    theirs = {(effect.name, effect.place): effect for effect in other.effects}
    pairs = [
        (effect, theirs[effect.name, effect.place])
        for effect in ran.effects
        if (effect.name, effect.place) in theirs
    ]
    pairs = [(ran.unchanged, other.unchanged), *pairs]
    rows = [_compared(ran, other, *pair) for pair in pairs if _shared(*pair)]
    for key in ("p", "more_lost_p"):
        for row, p in zip(rows, adjusted([row[key] for row in rows]), strict=True):
            row[key] = p
    return rows


def _shared(one: Effect, two: Effect) -> list[int]:
    return [question for question in one.outputs if question in two.outputs]


def _compared(ran: Ran, other: Ran, one: Effect, two: Effect) -> Row:
    right, right_there = ran.right(one), other.right(two)
    both = _shared(one, two)
    before, before_there = ran.right(ran.unchanged), other.right(other.unchanged)
    lost = [float(before[q]) - right[q] for q in both]
    lost_there = [float(before_there[q]) - right_there[q] for q in both]
    more = difference(lost, lost_there)
    only_here = sum(right[q] and not right_there[q] for q in both)
    only_there = sum(right_there[q] and not right[q] for q in both)
    return {
        "name": one.name,
        "thought": one.place.thought,
        **({} if one.place.up_to is None else {"up_to": one.place.up_to}),
        "num_questions": len(both),
        "accuracy": short(sum(right[q] for q in both) / len(both)),
        "accuracy_against": short(sum(right_there[q] for q in both) / len(both)),
        "p": mcnemar(only_here, only_there),
        "lost": short(sum(lost) / len(both)),
        "lost_against": short(sum(lost_there) / len(both)),
        "more_lost": short(more.mean),
        "more_lost_low": short(more.low),
        "more_lost_high": short(more.high),
        "more_lost_p": more.p,
    }
