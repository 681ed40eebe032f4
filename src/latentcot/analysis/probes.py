"""What a linear map finds in a thought, and how much of it is only learnt by heart.

PROBES says what is asked. Each probe is a ridge regression, fitted to one half of the questions and
tested on the other. A question's accuracy is, where m labels of those allowed are true, the share
of true ones among the m that score highest. Selectivity is the accuracy less that on control labels
(Hewitt and Liang 2019): each *type* of question, the name of its root or its first word, has one
random order of all labels, and the m allowed ones that come first in it are the control.

Thought i is the last hidden state at the position before latent position i; one more state, at the
last latent position, is what another thought would have been.

Shapes: Q questions, K labels, R rows (training), E rows (elsewhere), D features.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from latentcot.analysis.shared import style
from latentcot.analysis.shared.latents import (
    MEANING,
    compared,
    models_of,
    random_of,
    record,
    tables_of,
    with_latents,
)
from latentcot.analysis.shared.statistics import Row, Rows, Values, adjust, difference, more_rows
from latentcot.analysis.shared.subject import Progress, Subject, no_progress
from latentcot.errors import DataError
from latentcot.evaluation.statistics import share_interval
from latentcot.tasks.prosqa.generator import candidates_of
from latentcot.tasks.prosqa.graphs import distances

SEED = 0
FEWEST = 2
"""Questions that each half must have."""
MAX_CLASSES = 50
STRENGTHS = tuple(10.0**power for power in range(-5, 2))
"""Penalties tried, as multiples of the number of rows."""

PROBES = {
    "frontier": "which nodes are exactly `distance` edges from the root; the root is not allowed",
    "within": "which nodes are 1 … `distance` edges from the root; the root is not allowed",
    "answer": "which of the two candidates is the answer, by its name",
    "candidate": "whether the answer is the first or the second candidate of the question",
    "class": "the first token of the answer",
    "thought": "the number of the thought itself, over all thoughts of a question; control: each "
    "type of question has one random order of the numbers",
}
"""Probe → what it is asked."""

KEYS = ("probe", "distance", "thought")
"""What tells probes apart."""


def measure(
    subject: Subject, on_progress: Progress = no_progress, against: Sequence[Subject] = ()
) -> Row:
    """Fit probes to every thought and test them on questions that they have not seen.

    Intervals are Wilson's for the accuracies (of a mean over questions they are never too narrow)
    and Student's for the paired differences; `p` is the paired t-test's that the selectivity is 0,
    adjusted by Holm for all probes of the subject.

    Raises:
        UsageError: The subject has no latent positions, or the two are not asked the same.
    """

    def probe(subject: Subject) -> tuple[Row, Values]:
        """Return all probes, and the accuracy of each question by each of them."""
        chains = record(with_latents(subject))
        on_progress(len(subject.examples))
        is_train = halves([example.id for example in subject.examples])
        asked, found = list(labels_of(subject)), dict[Any, Tested | None]()
        for thought in range(1, chains.most + 2):
            able, maps = set(chains.with_state(thought)), dict[tuple[int, ...], Ridge]()
            for labels in asked:
                questions = sorted(able.intersection(labels.counted))
                states = chains.states[questions, thought - 1]
                found[labels.probe, labels.distance, thought] = _test(
                    labels.of(questions), questions, states, is_train, maps
                )
        # The number of the thought, over all thoughts of a question.
        most, types = chains.most + 1, types_of(subject)
        places = [(q, i) for i in range(most) for q in chains.with_state(i + 1)]
        questions, numbers = map(list, zip(*places, strict=True))
        orders = {kind: draw_order(most, "thought", kind) for kind in set(types)}
        one_hot = torch.eye(most, dtype=torch.bool)
        control = one_hot[[orders[types[q]][i] for q, i in places]]
        true, allowed = one_hot[numbers], torch.ones(len(places), most, dtype=torch.bool)
        labels = Labels("thought", None, questions, true, control, allowed)
        states = chains.states[questions, numbers]
        found["thought", None, None] = _test(labels, questions, states, is_train, {})

        tested = {key: one for key, one in found.items() if one}
        told = [dict(zip(KEYS, key, strict=True)) | row for key, (row, _) in tested.items()]
        adjust(told, raw="p_raw")
        about = {
            "thought_means": MEANING[subject.has_thoughts],
            "num_thoughts": chains.most,
            "num_questions": len(subject.examples),
        }
        return about | {"probes": told}, {key: values for key, (_, values) in tested.items()}

    found = compared(subject, against, probe, partial(more_rows, KEYS))
    return {"definitions": PROBES, **found}


# --- what is asked ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Labels:
    """One question to the probes, about every example that it makes sense for."""

    probe: str  # its name
    distance: int | None  # from the root, where it is about one
    counted: Sequence[int]  # numbers of the examples
    true_QK: Tensor  # 1 where a label is true. Rows of the others mean nothing.
    control_QK: Tensor  # the control labels
    allowed_QK: Tensor  # which labels could be true

    def of(self, rows: Sequence[int]) -> "Labels":
        """Return the same about some examples alone."""
        tables = (table[list(rows)] for table in (self.true_QK, self.control_QK, self.allowed_QK))
        return Labels(self.probe, self.distance, rows, *tables)


def types_of(subject: Subject) -> list[str]:
    """Return the type of each question."""
    if subject.has_graphs:
        return [graph.names[graph.root] for graph in subject.graphs]
    return [example.question.split(maxsplit=1)[0] for example in subject.examples]


def labels_of(subject: Subject) -> Iterator[Labels]:
    """Yield all that is asked about a subject's questions, but for the number of the thought."""
    types, every = types_of(subject), range(len(subject.examples))

    def asked(
        probe: str,
        true_QK: Tensor,
        allowed_QK: Tensor,
        *,
        distance: int | None = None,
        counted: Sequence[int] = every,
        orders: Mapping[str, Sequence[int]] | None = None,
    ) -> Labels:
        if orders is None:
            orders = {kind: draw_order(true_QK.shape[1], probe, kind) for kind in set(types)}
        places = {kind: torch.tensor(order).argsort() for kind, order in orders.items()}
        scores = -torch.stack([places[kind] for kind in types])  # the first of the order is best
        control = highest(scores, allowed_QK, true_QK.sum(1))
        return Labels(probe, distance, counted, true_QK, control, allowed_QK)

    if not subject.has_graphs:  # the first token of the answer, where there are few of them
        texts = [f" {example.answer}" for example in subject.examples]
        ids = subject.reasoner.tokenizer(texts, add_special_tokens=False)["input_ids"]
        tokens = [tuple(found[:1]) for found in ids]
        classes, orders = sorted(set(tokens)), dict[str, list[int]]()
        if 1 < len(classes) <= MAX_CLASSES:
            true = torch.tensor([[token == one for one in classes] for token in tokens])
            for kind in set(types):  # a common class comes first more often, as among true labels
                order = draw_order(len(tokens), "class", kind)
                orders[kind] = list(dict.fromkeys(classes.index(tokens[i]) for i in order))
            yield asked("class", true, torch.ones_like(true), orders=orders)
        return
    names = sorted({name for graph in subject.graphs for name in graph.names})
    depth_QK = torch.full((len(types), len(names)), torch.nan)  # of names that are not there
    is_target, is_other = (torch.zeros(depth_QK.shape, dtype=torch.bool) for _ in range(2))
    is_candidate = torch.zeros(len(types), 2, dtype=torch.bool)
    for row, (example, graph) in enumerate(zip(subject.examples, subject.graphs, strict=True)):
        away, places = distances(graph, graph.root), [names.index(name) for name in graph.names]
        for node, place in enumerate(places):
            depth_QK[row, place] = away.get(node, torch.inf)
        is_target[row, places[graph.target]] = is_other[row, places[graph.neg_target]] = True
        with suppress(DataError):  # a question of another form names none
            is_candidate[row, candidates_of(example).index(graph.names[graph.target])] = True
    furthest_Q = depth_QK.nan_to_num(0, posinf=0).amax(1)
    for distance in range(1, int(furthest_Q.max()) + 1):
        deep = (furthest_Q >= distance).nonzero()[:, 0].tolist()
        where: Any = {"distance": distance, "counted": deep}
        yield asked("frontier", depth_QK == distance, depth_QK > 0, **where)
        if distance > 1:
            within = (depth_QK > 0) & (depth_QK <= distance)
            yield asked("within", within, depth_QK > 0, **where)
    yield asked("answer", is_target, is_target | is_other)
    if bool(is_candidate.any(1).all()):
        yield asked("candidate", is_candidate, torch.ones_like(is_candidate))


def draw_order(num: int, *parts: object) -> list[int]:
    """Return 0 … num - 1 in the random order that belongs to what is named."""
    return random_of(SEED, "control", *parts).sample(range(num), num)


# --- linear maps ------------------------------------------------------------------------------


class Ridge:
    """Maps fitted to the same vectors; the penalty of each is chosen by leaving one row out.

    Features are brought to mean 0 and standard deviation 1 over the rows; the constant is not
    penalized. The error of leaving out each row in turn has a closed form: the residual over one
    minus the row's leverage.

    Args:
        rows_RD: The vectors, at least one.
    """

    def __init__(self, rows_RD: Tensor) -> None:
        rows = rows_RD.double()
        self.mean_D = rows.mean(0)
        deviation = (rows - self.mean_D).square().mean(0).sqrt()
        self.scale_D = torch.where(deviation > 0, deviation, 1.0)
        self.left_RM, self.values_M, self.right_MD = torch.linalg.svd(
            (rows - self.mean_D) / self.scale_D, full_matrices=False
        )

    def scores(self, labels_RK: Tensor, others_ED: Tensor) -> Tensor:
        """Fit the labels and return what the map makes of other vectors: (E, K)."""
        labels = labels_RK.double()
        mean_K = labels.mean(0)
        along_MK = self.left_RM.T @ (labels - mean_K)
        squares_M = self.values_M.square()

        def error(strength: float) -> float:
            """Return the mean squared error of rows left out in turn."""
            kept_M = squares_M / (squares_M + strength * len(labels))
            fitted_RK = self.left_RM @ (kept_M[:, None] * along_MK)
            leverage_R = self.left_RM.square() @ kept_M + 1 / len(labels)
            left_out = (labels - mean_K - fitted_RK) / (1 - leverage_R).clamp(min=1e-9)[:, None]
            return float(left_out.square().mean())

        weights_M = self.values_M / (squares_M + len(labels) * min(STRENGTHS, key=error))
        map_DK = self.right_MD.T @ (weights_M[:, None] * along_MK)
        found_EK: Tensor = ((others_ED.double() - self.mean_D) / self.scale_D) @ map_DK + mean_K
        return found_EK


# --- fitting and testing ----------------------------------------------------------------------


Tested = tuple[Row, dict[int, float]]
"""What is told of a probe, and its accuracy for each question that it was not fitted to."""


def halves(ids: Sequence[str]) -> list[bool]:
    """Return for each question whether probes are fitted to it: half of them, drawn by id."""
    order = sorted(range(len(ids)), key=lambda q: (random_of(SEED, "half", ids[q]).random(), q))
    chosen = set(order[: len(ids) // 2])
    return [q in chosen for q in range(len(ids))]


def _test(
    labels: Labels,
    questions: Sequence[int],
    states_RD: Tensor,
    is_train: Sequence[bool],
    maps: dict[tuple[int, ...], Ridge],
) -> Tested | None:
    """Fit and test one probe; None where a half has too few questions.

    Args:
        labels: What is asked of each row.
        questions: The question that each row belongs to.
        states_RD: What the rows hold.
        is_train: For each question whether it is there to be fitted.
        maps: Those fitted to rows of the same questions before; a new one is added.
    """
    fitted = torch.tensor([is_train[q] for q in questions], dtype=torch.bool)
    asked = [q for q in questions if not is_train[q]]
    num_train = len(set(questions) - set(asked))
    if min(num_train, len(set(asked))) < FEWEST:
        return None
    key, allowed = tuple(questions), labels.allowed_QK[~fitted]
    if key not in maps:
        maps[key] = Ridge(states_RD[fitted])
    by_row = [labels.true_QK[~fitted].sum(1) / allowed.sum(1)]  # of guessing
    for table in (labels.true_QK, labels.control_QK):
        scores = maps[key].scores(table[fitted], states_RD[~fitted])
        by_row.append(accuracies(scores, table[~fitted], allowed))
    of_question = defaultdict[int, list[list[float]]](list)
    for question, values in zip(asked, torch.stack(by_row, 1).tolist(), strict=True):
        of_question[question].append(values)
    # A question's value is the mean over its rows.
    means = [[fmean(one) for one in zip(*rows, strict=True)] for rows in of_question.values()]
    chance, right, by_heart = zip(*means, strict=True)
    row: Row = {"num_train": num_train, "num_questions": len(means)}
    for name, shares in (("accuracy", right), ("control", by_heart)):
        found = (fmean(shares), *share_interval(fmean(shares), len(shares)))
        ends = zip((name, f"{name}_low", f"{name}_high"), found, strict=True)
        row |= {end: round(value, 4) for end, value in ends}
    selectivity = difference(right, by_heart)
    row |= {"chance": round(fmean(chance), 4), **selectivity.fields("selectivity")}
    row |= {"p": None, "p_raw": selectivity.p}
    return row, dict(zip(of_question, right, strict=True))


def accuracies(scores_EK: Tensor, true_EK: Tensor, allowed_EK: Tensor) -> Tensor:
    """Return for each row the share of true labels among the m allowed ones that score highest.

    m is how many are true, at least 1.
    """
    num_E = true_EK.sum(1)
    return (highest(scores_EK, allowed_EK, num_E) & true_EK).sum(1) / num_E


def highest(scores_EK: Tensor, allowed_EK: Tensor, num_E: Tensor) -> Tensor:
    """Return which allowed labels score highest, so many a row: (E, K)."""
    scores = scores_EK.double().masked_fill(~allowed_EK, -torch.inf)
    best_first = scores.argsort(dim=1, descending=True, stable=True)
    return best_first.argsort(dim=1) < num_E[:, None]


# --- drawing ----------------------------------------------------------------------------------

_OTHERS = ("answer", "candidate", "class")
MAX_DISTANCES = 6


def tables(result: Mapping[str, Any]) -> dict[str, Rows]:
    """Return the rows of the CSV files, by their names."""
    return tables_of(result, probes="probes", probes_comparison="comparison")


def draw(result: Mapping[str, Any]) -> Figure:
    """Draw accuracies by thought, beside those on control labels and of guessing.

    The frontiers, and beside them the answer; a row of panels for each model.
    """
    models = models_of(result)
    has_graphs = any(row["probe"] == "frontier" for row in result["probes"])
    parts = ("frontier", "others") if has_graphs else ("others",)
    with style.figure(style.COLUMN, 0.75 + 1.45 * len(models)) as drawn:
        grid = drawn.subplots(len(models), len(parts), sharex=True, sharey=True, squeeze=False)
        for panels, model in zip(grid, models, strict=True):
            for panel, part in zip(panels, parts, strict=True):
                lines = defaultdict[str, Rows](list)
                for row in model["probes"]:
                    if part == "others" and row["probe"] in _OTHERS:
                        lines[row["probe"]].append(row)
                    elif part == row["probe"] and row["distance"] <= MAX_DISTANCES:
                        lines[f"at distance {row['distance']}"].append(row)
                first = 0 if part == "frontier" else 4
                for number, (label, found) in enumerate(lines.items(), first):
                    thoughts, look = [row["thought"] for row in found], style.look_of(number)
                    style.points(panel, thoughts, found, "accuracy", label=label, **look)
                    by_heart = [row["control"] for row in found]
                    panel.plot(thoughts, by_heart, ":", color=look["color"])
                panel.plot([], [], ":", color=style.GREY, label="control labels")
                chances = [row["chance"] for found in lines.values() for row in found]
                if chances:
                    look = {"color": style.GREY, "linewidth": 0.6, "label": "guessing"}
                    panel.axhline(fmean(chances), **look)
                style.thought_axis(panel, model["num_thoughts"])
                panel.set_ylim(-0.03, 1.05)
                style.percents(panel.yaxis)
            panels[0].set_ylabel(f"accuracy\n({model['name']})" if len(models) > 1 else "accuracy")
        for panel in grid[-1]:
            panel.set_xlabel("thought")
        style.legend(drawn, grid[0], 3, "upper")
    return drawn
