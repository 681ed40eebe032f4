"""What looks at a thought, and which block makes what it carries: knock-out, influence, patching.

- *Knock-out*: the answer, the later thoughts, or both may not see thought i. The control hides a
  position of the question, drawn once a question, from the same ones.
- *Influence* of thought i on thought j: the thought of another question is fed in place of i, and
  the words of thought j are compared (Kullback-Leibler divergence, nats). *Direct* keeps the
  thoughts between as they were, *total* lets the model compute them again (a causal graph of
  thoughts, arXiv 2602.08783). The control is noise of the same length.
- *Patching*: what block l gives at latent position i is replaced by what it gives there for the
  donor of `mediation.py`; counted are the answers that become the donor's. The control is another
  question's.

Shapes: Q questions, N most latent positions of any question, L blocks, D hidden size.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from latentcot.analysis.attention import refuse_large
from latentcot.analysis.mediation import others_of, with_donors
from latentcot.analysis.shared import style
from latentcot.analysis.shared.latents import (
    Chains,
    compared,
    models_of,
    random_directions,
    random_of,
    record,
    tables_of,
    with_latents,
)
from latentcot.analysis.shared.plain import Patch, Span, read_plainly
from latentcot.analysis.shared.statistics import (
    Row,
    Rows,
    Values,
    mcnemar_of,
    mean_fields,
    more_rows,
    share_fields,
)
from latentcot.analysis.shared.subject import Progress, Subject, no_progress
from latentcot.errors import UsageError
from latentcot.thinking.readings import logits_of
from latentcot.thinking.think import Latent

MAX_QUESTIONS = 100
"""Questions used at most, the first of the file: everything is read again for each word."""
SEED = 0

DEFINITIONS = {
    "answer": "what is written, and all behind the latent positions, may not see it",
    "thoughts": "the latent positions behind it may not see it",
    "all": "both",
    "question": "control: a position of the question, drawn once a question, in its place",
    "direct": "the thoughts between are fed as recorded",
    "total": "the thoughts between are computed again",
    "noise": "control: a random direction as long as the thought, in place of another's thought",
    "donor": "what the block gives for the donor",
    "unrelated": "control: what it gives for another question",
}
VIEWERS = ("answer", "thoughts", "all")
KEYS = ("viewer", "hidden", "thought")


def measure(
    subject: Subject, on_progress: Progress = no_progress, against: Sequence[Subject] = ()
) -> Row:
    """Hide thoughts, exchange them, and patch what blocks give.

    Returns:
        `knockout`: accuracy left by viewer, what is hidden and thought, with McNemar's p against
        the unchanged model, not adjusted. `influence`: nats by kind, what was fed, `source` and
        `thought` (one more than there are latent positions is the state behind the last one).
        `patching`: the share of answers that are the donor's by block and thought; none where no
        question has a donor.
        `comparison` is of the accuracy under knock-out.

    Raises:
        UsageError: The subject has no latent positions, or is too large; or the two are not asked
            the same.
    """
    run = partial(traced, on_progress=on_progress)
    found = compared(subject, against, run, partial(more_rows, KEYS))
    return {"definitions": DEFINITIONS, **found}


def traced(subject: Subject, on_progress: Progress) -> tuple[Row, Values]:
    """Measure one subject: what is written, and whether answers are right by KEYS and question.

    Raises:
        UsageError: As for `measure`.
    """
    refuse_large(subject, "pathways")
    whole = with_latents(subject).first(MAX_QUESTIONS)
    chains = record(whole)
    knockout, values = knocked_out(whole, chains, on_progress)
    about: Row = {
        "num_thoughts": chains.most,
        "num_questions": len(whole.examples),
        "num_given": len(subject.examples),
        "knockout": knockout,
        "influence": influences(whole, chains),
    }
    try:
        about |= {"patching": patched(*with_donors(whole))}
    except UsageError as error:  # the rest needs no donors
        about |= {"patching": [], "left_out": {"patching": str(error)}}
    return about, values


def knocked_out(
    subject: Subject, chains: Chains, on_progress: Progress = no_progress
) -> tuple[Rows, Values]:
    """Hide each thought, or a position of the question, from what comes behind it."""
    is_correct, values, rows = subject.task.is_correct, Values(), Rows()
    ids = [example.id for example in subject.examples]

    def rights(answers: Sequence[str]) -> list[bool]:
        pairs = zip(answers, subject.examples, strict=True)
        return [is_correct(answer, example.answer) for answer, example in pairs]

    unchanged = rights(read_plainly(subject, chains, on_progress=on_progress).answers)
    rows.append(
        dict(zip(KEYS, ("none", "none", None), strict=True))
        | {"num_questions": len(unchanged), "p": None}
        | share_fields("accuracy", unchanged, ends="", digits=4)
    )
    for viewer in VIEWERS:
        for what in ("thought", "question"):
            for thought in range(1, chains.most + (viewer != "thoughts")):

                def hidden(span: Span) -> tuple[int, int | None, int] | None:
                    if thought > span.num:  # noqa: B023 - called within this turn
                        return None
                    behind, end = span.start + thought, span.start + span.num  # noqa: B023
                    seen = behind - 1
                    if what == "question":  # noqa: B023
                        drawn = random_of(SEED, "knock-out", ids[span.question])
                        seen = drawn.randrange(span.start)
                    until = end if viewer == "thoughts" else None  # noqa: B023
                    return end if viewer == "answer" else behind, until, seen  # noqa: B023

                found = read_plainly(subject, chains, hidden=hidden, on_progress=on_progress)
                numbers = [q for q, num in enumerate(chains.num_latents) if num >= thought]
                right = rights(found.answers)
                left, before = [right[q] for q in numbers], [unchanged[q] for q in numbers]
                key = viewer, what, thought
                values[key] = dict(zip(numbers, map(float, left), strict=True))
                row = dict(zip(KEYS, key, strict=True)) | {"num_questions": len(numbers)}
                row["p"] = float(f"{mcnemar_of(before, left):.3g}")
                rows.append(row | share_fields("accuracy", left, ends="", digits=4))
    return rows, values


@torch.no_grad()
def influences(subject: Subject, chains: Chains) -> Rows:
    """Return how much each thought says of each later one, in nats."""
    model, rows = subject.reasoner.model, Rows()

    def words(states: Tensor) -> Tensor:
        return logits_of(model, states.to(model.device)).float().log_softmax(-1).cpu()

    noise = random_directions(subject, range(chains.most), SEED, "influence")
    fed = {
        "thought": chains.latent_inputs[others_of(subject, chains)],
        "noise": noise * chains.latent_inputs.norm(dim=-1, keepdim=True),
    }
    before = words(chains.states)
    for name, table in fed.items():
        for source in range(1, chains.most + 1):
            for kind in ("direct", "total"):

                def put_in(numbers: Tensor, latent: Latent, own: Tensor) -> Tensor:
                    if latent.number == source - 1:  # noqa: B023 - called within this turn
                        vector: Tensor = table[numbers, latent.number]  # noqa: B023
                        return vector.to(own)
                    if kind == "direct":  # noqa: B023
                        return chains.latent_inputs[numbers, latent.number].to(own)
                    return own

                after = words(record(subject, put_in).states)
                nats = (before.exp() * (before - after)).sum(-1)
                for thought in range(source + 1, chains.most + 2):
                    numbers = [q for q, n in enumerate(chains.num_latents) if n >= thought - 1]
                    found = nats[numbers, thought - 1].tolist()
                    about = {"kind": kind, "fed": name, "source": source, "thought": thought}
                    row = about | {"num_questions": len(numbers)}
                    rows.append(row | mean_fields("nats", found, lowest=0.0, digits=4))
    return rows


def patched(subject: Subject, donors: Subject, goals: Sequence[str]) -> Rows:
    """Return how often the answer follows what a block gives for another question.

    What goes into the first block is the thought itself: `mediation` feeds it.
    """
    is_correct, rows, chains = subject.task.is_correct, Rows(), record(subject)
    given = {
        "donor": read_plainly(donors, record(donors)).blocks,
        "unrelated": read_plainly(subject, chains).blocks[:, others_of(subject, chains, donors)],
    }
    for name, blocks in given.items():
        for block in range(len(blocks)):
            for thought in range(1, chains.most + 1):
                patch = Patch(block, thought - 1, blocks[block, :, thought - 1])
                found = read_plainly(subject, chains, patch=patch)
                numbers = [q for q, num in enumerate(chains.num_latents) if num >= thought]
                follows = [is_correct(found.answers[q], goals[q]) for q in numbers]
                about = {"fed": name, "block": block + 1, "thought": thought}
                row = about | {"num_questions": len(numbers)}
                rows.append(row | share_fields("follows", follows, digits=4))
    return rows


# --- drawing ----------------------------------------------------------------------------------


def tables(result: Mapping[str, Any]) -> dict[str, Rows]:
    """Return the rows of the CSV files, by their names."""
    parts = {"pathways": "knockout", "pathways_influence": "influence"}
    parts |= {"pathways_patching": "patching", "pathways_comparison": "comparison"}
    return tables_of(result, **parts)


def draw(result: Mapping[str, Any]) -> Figure:
    """Draw a row for each model: accuracy under knock-out, influences, patching."""
    models = models_of(result)
    with style.figure(2 * style.COLUMN, 0.7 + 1.9 * len(models)) as fig:
        grid = fig.subplots(len(models), 4, squeeze=False)
        for panels, model in zip(grid, models, strict=True):
            most = model["num_thoughts"]
            for number, viewer in enumerate(VIEWERS):
                for what, line in (("thought", "-"), ("question", ":")):
                    rows = [
                        row
                        for row in model["knockout"]
                        if (row["viewer"], row["hidden"]) == (viewer, what)
                    ]
                    look: Any = style.look_of(number)
                    look["fmt"] = look["fmt"].replace("-", line)
                    hides = {"thought": "thought", "question": "a place of the question"}
                    seen = {"answer": "the answer", "thoughts": "later thoughts", "all": "both"}
                    label = f"{hides[what]}, for {seen[viewer]}"
                    at = [row["thought"] + 0.06 * (number - 1) for row in rows]
                    style.points(panels[0], at, rows, "accuracy", ends="", label=label, **look)
            panels[0].set(xticks=range(1, most + 1), ylim=(-0.03, 1.03), xlabel="thought hidden")
            panels[0].set_ylabel(f"accuracy left\n({model['name']})")
            style.percents(panels[0].yaxis)
            influences = [row["nats"] for row in model["influence"] if row["fed"] == "thought"]
            most_nats = max([LEAST_SHADE, *influences])
            for panel, kind in ((panels[1], "direct"), (panels[2], "total")):
                chosen = [
                    row
                    for row in model["influence"]
                    if (row["kind"], row["fed"]) == (kind, "thought")
                ]
                draw_square(panel, chosen, "source", "thought", "nats", most_nats)
                later = sorted({row["thought"] for row in chosen})
                names = ["at the\nlast" if at > model["num_thoughts"] else str(at) for at in later]
                panel.set_yticks(later, names)
                panel.set(xlabel="thought exchanged", ylabel="later thought")
                panel.set_title(f"{kind} influence (nats)")
            chosen = [row for row in model["patching"] if row["fed"] == "donor"]
            panels[3].set_visible(bool(chosen))
            draw_square(panels[3], chosen, "thought", "block", "follows", highest=1.0)
            panels[3].set(xlabel="thought patched", ylabel="block")
            panels[3].set_title("answer follows")
        style.legend(fig, grid[0][:1], 3, "upper")
    return fig


LEAST_SHADE = 0.01
"""The darkest shade stands for so much at least, so that what is nearly nothing looks so."""


def draw_square(panel: Axes, rows: Rows, across: str, up: str, value: str, highest: float) -> None:
    """Draw a measure of rows as squares with their numbers, darkest where it is the highest."""
    for row in rows:
        shade = row[value] / highest
        panel.scatter(
            row[across], row[up], s=230, marker="s", c=[shade], cmap="Blues", vmin=0, vmax=1
        )
        text: Any = {"ha": "center", "va": "center", "fontsize": 6}
        text["color"] = "white" if shade > 0.55 else "black"
        panel.text(row[across], row[up], f"{row[value]:.2f}", **text)
    panel.set_xticks(sorted({row[across] for row in rows}))
    panel.set_yticks(sorted({row[up] for row in rows}))
    panel.margins(0.4)
