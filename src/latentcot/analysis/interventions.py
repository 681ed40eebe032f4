"""Is it the thoughts? What is left of the answers when something else is fed into the latent
positions.

DEFINITIONS says what each intervention does. Every vector that is put in was recorded in an
unchanged run, or is made from what the model would have fed; latent positions that are not named
get what the model computes there. Randomness belongs to a question's id, the intervention and SEED.

Shapes: B batch, Q questions, N most latent positions of any question, D hidden size.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from latentcot.analysis.shared import style
from latentcot.analysis.shared.latents import (
    Replace,
    answers_with,
    compared,
    models_of,
    random_directions,
    random_of,
    record,
    tables_of,
    with_latents,
)
from latentcot.analysis.shared.statistics import (
    Row,
    Rows,
    adjust,
    difference,
    mcnemar_of,
    paired,
    share_fields,
)
from latentcot.analysis.shared.subject import NUM_LISTED, Progress, Subject, no_progress
from latentcot.evaluation.reasoner import Output
from latentcot.thinking.readings import logits_of
from latentcot.thinking.think import Latent

MAX_QUESTIONS = 1_000
"""Questions used at most, the first of the file: there are many interventions."""
MAX_ROUNDS = 100
SEED = 0

DEFINITIONS = {
    "none": "the unchanged model",
    "zero": "a vector of zeros",
    "noise": "a Gaussian direction drawn for each latent position, as long as what it replaces",
    "mean": "the mean of thought i over the questions used, this one included",
    "shuffle": "the recorded thoughts of the same chain in another order, everywhere: thought i "
    "has changed places with another one; the first k, or all, are so permuted that none stays",
    "swap": "the recorded thought i of another question with as many thoughts and another answer; "
    "partners are drawn once, and each question is the partner of one at most",
    "token": "the embedding of the token that the output head finds most probable there",
    "replay": "all thoughts as recorded, in their places: must change no answer",
}
"""Intervention → what is put into a latent position."""
NAMES = ("zero", "noise", "mean", "shuffle", "swap", "token")
EXCHANGES = ("mean", "shuffle", "swap")
"""Do nothing where all latent positions hold the same vector."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which latent positions something is put into; all of them if nothing is given."""

    thought: int | None = None  # this one alone, counted from 1
    up_to: int | None = None  # from the first one to this one

    @property
    def fewest(self) -> int:
        """How many latent positions a question must have for it."""
        return self.thought or self.up_to or 1

    def has(self, latent: int) -> bool:
        """Return whether a latent position, counted from 0, is meant."""
        if self.thought is not None:
            return latent + 1 == self.thought
        return self.up_to is None or latent + 1 <= self.up_to


Key = tuple[str, Place]
"""Intervention, and where."""
Answers = dict[int, Output]
"""Question → what came."""
Rights = dict[Key, dict[int, bool]]
"""Intervention → question → whether its answer counts as right."""


def measure(
    subject: Subject, on_progress: Progress = no_progress, against: Sequence[Subject] = ()
) -> Row:
    """Replace thoughts one at a time, from the first on, and all at once; count what is left.

    p-values are McNemar's against the unchanged model on the same questions, two-sided; `p` is
    adjusted by Holm for all interventions and places of the subject, `p_raw` is not. In
    `comparison`, two subjects under the same interventions, `p` is McNemar's between the two;
    `lost` is how much accuracy an intervention takes from each; `more_lost` is how much more it
    takes from the first, with Student's interval over questions, and `more_lost_p` tests that it is
    0, adjusted by Holm.

    Raises:
        UsageError: The subject has no latent positions, or the two are not asked the same.
    """

    def run(subject: Subject) -> tuple[Row, Rights]:
        lab = Lab(with_latents(subject).first(MAX_QUESTIONS))
        planned = [("none", Place()), ("replay", Place())]
        for name in NAMES:
            if name not in lab.left_out:
                planned += [(name, place) for place in places(lab.chains.most)]
        found, rights = summary(lab, {key: lab.answer(*key, on_progress) for key in planned})
        return found | {"num_given": len(subject.examples)}, rights

    found = compared(subject, against, run, _comparison)
    return {"definitions": DEFINITIONS, **found}


def places(most: int) -> Iterator[Place]:
    """Yield each thought alone, all of them, and those up to k where that is neither."""
    yield from (Place(thought=thought) for thought in range(1, most + 1))
    yield Place()
    yield from (Place(up_to=up_to) for up_to in range(2, most))


# --- what is put in ----------------------------------------------------------------------------


class Lab:
    """What may be put into the latent positions of a subject of `with_latents`.

    Attributes:
        chains: What stands there in an unchanged run.
        noise: A direction for each latent position of each question, (Q, N, D).
        left_out: Interventions that cannot change anything.
        partners: The other question whose thoughts each question gets in a swap.
        others: The answer that a swap would bring if it carried the other question's answer over;
            None without a partner, or where its answer has no name in this question's graph.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject, self.chains = subject, record(subject)
        self.noise = random_directions(subject, range(self.chains.most), SEED, "noise")
        self.left_out = EXCHANGES if self.chains.is_constant else ()
        if subject.has_graphs:  # what tells the right answers of two questions apart
            keys = [graph.names[graph.target] for graph in subject.graphs]
        else:
            keys = [" ".join(example.answer.split()) for example in subject.examples]
        ids = [example.id for example in subject.examples]
        self.partners = draw_partners(ids, self.chains.num_latents, keys, SEED)
        self.others: list[str | None] = [None] * len(ids)
        for question, partner in enumerate(self.partners):
            if partner is None:
                continue
            if not subject.has_graphs:
                self.others[question] = subject.examples[partner].answer
            elif keys[partner] in subject.graphs[question].names:
                self.others[question] = subject.answer_naming(question, keys[partner])

    def counted(self, name: str, place: Place) -> list[int]:
        """Return the questions that an intervention can be made on."""
        fewest = max(2 if name == "shuffle" else 1, place.fewest)
        return [
            q
            for q, num in enumerate(self.chains.num_latents)
            if num >= fewest and (name != "swap" or self.partners[q] is not None)
        ]

    def answer(self, name: str, place: Place, on_progress: Progress = no_progress) -> Answers:
        """Answer the questions with something else in these latent positions."""
        numbers, put_in = self.counted(name, place), self.replacement(name, place)
        changed = Place() if name == "shuffle" else place

        def replace(rows: Tensor, latent: Latent, own: Tensor) -> Tensor:
            if not changed.has(latent.number):
                return own
            return put_in(torch.tensor(numbers)[rows], latent, own).to(own)

        outputs = answers_with(self.subject.of(numbers), replace, on_progress)
        return dict(zip(numbers, outputs, strict=True))

    def replacement(self, name: str, place: Place) -> Replace:
        """Return what an intervention puts in."""
        recorded = table = self.chains.latent_inputs  # (Q, N, D); as it is for a replay
        match name:
            case "none":
                return lambda rows, latent, own: own
            case "zero":
                return lambda rows, latent, own: torch.zeros_like(own)
            case "noise":
                return lambda rows, latent, own: (
                    self.noise[rows, latent.number].to(own) * own.norm(dim=-1, keepdim=True)
                )
            case "token":
                model = self.subject.reasoner.model
                return lambda rows, latent, own: latent.table(
                    logits_of(model, latent.state).argmax(-1)
                )
            case "mean":
                means_ND = recorded.double().sum(0) / self.chains.is_latent.sum(0)[:, None]
                table = means_ND.to(recorded).expand_as(recorded)
            case "swap":
                table = recorded[[q if p is None else p for q, p in enumerate(self.partners)]]
            case "shuffle":
                orders = [
                    [*draw_order(num, place, SEED, name, example.id), *range(num, self.chains.most)]
                    for num, example in zip(
                        self.chains.num_latents, self.subject.examples, strict=True
                    )
                ]
                table = recorded[torch.arange(len(recorded))[:, None], torch.tensor(orders)]
        return lambda rows, latent, own: table[rows, latent.number]


def draw_order(num: int, place: Place, *parts: object) -> list[int]:
    """Return latent positions 0 … num - 1 in another order, which belongs to `parts`.

    One thought changes places with another one; the first k, or all, are so permuted that none
    stays, each such order equally likely. Where there is nothing to permute, the order stays.
    """
    rng, order = random_of(*parts, place.thought, place.up_to), list(range(num))
    if place.thought is not None:
        this = place.thought - 1
        if num > 1 and this < num:
            other = rng.choice([latent for latent in order if latent != this])
            order[this], order[other] = other, this
        return order
    meant = num if place.up_to is None else min(place.up_to, num)
    while meant > 1 and any(latent == order[latent] for latent in range(meant)):
        order[:meant] = rng.sample(range(meant), meant)
    return order


def draw_partners(
    ids: Sequence[str],
    num_latents: Sequence[int],
    keys: Sequence[str],
    seed: int,
    taken: Sequence[str] | None = None,
) -> list[int | None]:
    """Draw for each question another one with as many latent positions and another answer.

    Answers are told apart by their keys. No question is the partner of two. Where one answer is so
    common that partners run out, the questions without one have None.

    Args:
        ids: Of the questions.
        num_latents: How many latent positions each has.
        keys: What partners must differ in.
        seed: Of the draw.
        taken: For each question another key that its partner must not have.
    """
    partners: list[int | None] = [None] * len(ids)

    def clash(question: int, partner: int) -> bool:
        is_taken = taken is not None and taken[question] == keys[partner]
        return is_taken or keys[question] == keys[partner]

    for num in sorted(set(num_latents) - {0}):
        group = [q for q, latents in enumerate(num_latents) if latents == num]
        rng = random_of(seed, "swap", num, *(ids[q] for q in group))
        drawn = rng.sample(group, len(group))
        for _ in range(MAX_ROUNDS):  # change places with any other where that helps
            for i in [i for i, q in enumerate(group) if clash(q, drawn[i])]:
                j = rng.randrange(len(group))
                here, there, mine, theirs = group[i], group[j], drawn[i], drawn[j]
                after = clash(here, theirs) + clash(there, mine)
                if after < clash(here, mine) + clash(there, theirs):
                    drawn[i], drawn[j] = theirs, mine
        for q, partner in zip(group, drawn, strict=True):
            partners[q] = None if clash(q, partner) else partner
    return partners


# --- plain values -----------------------------------------------------------------------------


def summary(lab: Lab, answered: Mapping[Key, Answers]) -> tuple[Row, Rights]:
    """Return what interventions did to a model, and which questions each leaves right.

    Args:
        lab: The model and its questions.
        answered: Under "none", under "replay", and under each intervention and place.
    """
    subject, is_correct = lab.subject, lab.subject.task.is_correct
    unchanged = answered["none", Place()]

    def have_changed(outputs: Answers) -> list[bool]:
        return [output.answer != unchanged[q].answer for q, output in outputs.items()]

    rows, rights = Rows(), Rights()
    for key, outputs in answered.items():
        name = key[0]
        if name == "replay" or not outputs:
            continue
        are_right = subject.of(list(outputs)).are_right(list(outputs.values()))
        right = rights[key] = dict(zip(outputs, are_right, strict=True))
        row = _about(key) | share_fields("accuracy", are_right, ends="", digits=4)
        row |= {"num_questions": len(right), "p": None}
        rows.append(row)
        if name == "none":
            continue
        row |= share_fields("changed", have_changed(outputs), digits=4)
        row["p_raw"] = mcnemar_of([rights["none", Place()][q] for q in right], are_right)
        numbers = [q for q in outputs if lab.others[q] is not None]
        if name == "swap" and numbers:
            # How often the answer is that of the question whose thoughts were put in.
            for part, those in (("other", outputs), ("other_unchanged", unchanged)):
                are_so = [is_correct(those[q].answer, str(lab.others[q])) for q in numbers]
                row |= share_fields(part, are_so, digits=4)
            row["other_num_questions"] = len(numbers)
    adjust(rows[1:], raw="p_raw")
    questions: Rows = []
    for number, example in enumerate(subject.examples[:NUM_LISTED]):
        told = Rows()
        for key in rights:
            if number in answered[key] and key[1].up_to is None:
                answer = answered[key][number].answer
                is_right = is_correct(answer, example.answer)
                told.append(_about(key) | {"answer": answer, "is_correct": is_right})
        questions.append({"id": example.id, "interventions": told})
    replay = have_changed(answered["replay", Place()])
    found = {
        "num_thoughts": lab.chains.most,
        "num_questions": len(subject.examples),
        "replay": {"num_questions": len(replay), "num_changed": sum(replay)},
        "effects": [row for row in rows if "up_to" not in row],
        "first": [row for row in rows if "up_to" in row],
        "left_out": dict.fromkeys(lab.left_out, "the same vector stands in every latent position"),
        "questions": questions,
    }
    return found, rights


def _about(key: Key) -> Row:
    name, place = key
    up_to = {} if place.up_to is None else {"up_to": place.up_to}
    return {"name": name, "thought": place.thought} | up_to


def _comparison(rights: Rights, others: Rights) -> Rows:
    """Compare two subjects under the same interventions, question by question."""

    def lost(rights: Rights) -> dict[Key, dict[int, float]]:
        before = rights["none", Place()]
        return {key: {q: before[q] - now for q, now in r.items()} for key, r in rights.items()}

    rows, lost_by_both = Rows(), paired(lost(rights), lost(others))
    for (key, here, there), (_, first, second) in zip(
        paired(rights, others), lost_by_both, strict=True
    ):
        more = difference(first, second)
        rows.append(
            {
                **_about(key),
                "num_questions": len(here),
                "accuracy": round(fmean(here), 4),
                "accuracy_against": round(fmean(there), 4),
                "p": mcnemar_of(here, there),
                "lost": round(fmean(first), 4),
                "lost_against": round(fmean(second), 4),
                **more.fields("more_lost"),
                "more_lost_p": more.p,
            }
        )
    adjust(rows)
    adjust(rows, "more_lost_p")
    return rows


# --- drawing ----------------------------------------------------------------------------------

_UNCHANGED: Any = {"color": style.GREY, "linestyle": "--", "linewidth": 0.8}


def tables(result: Mapping[str, Any]) -> dict[str, Rows]:
    """Return the rows of the CSV files, by their names."""
    parts = {"interventions": "effects", "interventions_first": "first"}
    return tables_of(result, **parts, interventions_comparison="comparison")


def draw(result: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw `interventions`, and with two thoughts or more `interventions-first` (up to k)."""
    parts = {"interventions": _draw_by_thought}
    if result["num_thoughts"] > 1:
        parts["interventions-first"] = _draw_up_to
    models, found = models_of(result), dict[str, Figure]()
    for name, draw_one in parts.items():
        with style.figure(style.COLUMN * len(models), 2.6) as found[name]:
            panels = found[name].subplots(1, len(models), sharey=True, squeeze=False)[0]
            for panel, model in zip(panels, models, strict=True):
                draw_one(panel, model)
                if len(models) > 1:
                    panel.set_title(model["name"])
            style.legend(found[name], panels[:1], 4 * len(models), "upper")
    return found


def _draw_by_thought(panel: Axes, model: Mapping[str, Any]) -> None:
    """Draw one row an intervention, and in it a point for each thought and for all of them."""
    none, *effects = model["effects"]
    thoughts = [*range(1, model["num_thoughts"] + 1), None]
    for number, thought in enumerate(thoughts):
        rows = [row for row in effects if row["thought"] == thought]
        shift = 0.7 * ((number + 0.5) / len(thoughts) - 0.5)
        heights = [NAMES.index(row["name"]) + shift for row in rows]
        look = style.look_of(number) | {"label": f"thought {thought}"}
        look["fmt"] = look["fmt"].removeprefix("-")  # points without a line
        if thought is None:
            look |= {"color": style.BLACK, "label": "all"}
        style.points(panel, heights, rows, "accuracy", ends="", is_sideways=True, **look)
    panel.axvline(none["accuracy"], label="unchanged", **_UNCHANGED)
    for name in model["left_out"]:
        text: Any = {"ha": "center", "va": "center", "color": style.GREY}
        text["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        panel.text(0.5, NAMES.index(name), "changes nothing", **text)
    for between in range(len(NAMES) - 1):
        panel.axhline(between + 0.5, color="#DDDDDD", linewidth=0.5)
    panel.set(ylim=(len(NAMES) - 0.5, -0.5), xlim=(-0.02, 1.02), xlabel="accuracy left")
    panel.set_yticks(range(len(NAMES)), NAMES)
    panel.tick_params(axis="y", length=0)
    style.percents(panel.xaxis)


def _draw_up_to(panel: Axes, model: Mapping[str, Any]) -> None:
    """Draw a line an intervention: accuracy when thoughts 1 … k are replaced."""
    most, none = model["num_thoughts"], model["effects"][0]
    for number, name in enumerate(NAMES):
        effects = [row for row in model["effects"] if row["name"] == name]
        by_k = {row["thought"] or most: row for row in effects if row["thought"] in (1, None)}
        if name == "shuffle":  # a single thought has changed places with another one
            by_k.pop(1, None)
        by_k |= {row["up_to"]: row for row in model["first"] if row["name"] == name}
        if by_k:
            at = [k + 0.03 * (number - 2.5) for k in sorted(by_k)]
            rows, look = [by_k[k] for k in sorted(by_k)], style.look_of(number)
            style.points(panel, at, rows, "accuracy", ends="", label=name, **look)
    panel.axhline(none["accuracy"], label="unchanged", **_UNCHANGED)
    panel.set(xticks=range(1, most + 1), xlim=(0.7, most + 0.3), ylim=(-0.02, 1.03))
    panel.set(xlabel="thoughts 1 … k replaced, k", ylabel="accuracy left")
    style.percents(panel.yaxis)
