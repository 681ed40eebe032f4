"""How much of the answer goes through the thoughts, in one number.

A question is asked, but the thoughts of another one are fed: the donor. Where the answer is
computed from the thoughts it must become the donor's, where it is read from the question it stays.
With graphs the donor is the *twin*: the same graph, candidates and hops, asked from the other root,
so that nothing but the search differs (the indirect effect of causal mediation, arXiv 2004.12265).
Without graphs it is another question with as many thoughts and another answer.

Counted are questions that are answered right, and whose donor is. DONORS has the controls beside
it. *Earliest sufficient* is the number of thoughts from which on the answer is right, whatever
number is taken (arXiv 2602.08783).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from latentcot.analysis.interventions import Place, draw_partners, places
from latentcot.analysis.shared import style
from latentcot.analysis.shared.latents import (
    Chains,
    Replace,
    answers_with,
    compared,
    models_of,
    random_directions,
    record,
    tables_of,
    with_latents,
)
from latentcot.analysis.shared.statistics import (
    Row,
    Rows,
    Values,
    difference,
    more_rows,
    share_fields,
)
from latentcot.analysis.shared.subject import Progress, Subject, no_progress
from latentcot.errors import UsageError
from latentcot.tasks.prosqa.rendering import twin
from latentcot.thinking.think import Latent

MAX_QUESTIONS = 200
"""Questions used at most, the first of the file."""
FEWEST_DRAWN = 10
"""Questions that are right both ways from which on shares are drawn."""
SEED = 0

DONORS = {
    "donor": "the recorded thoughts of the donor: with graphs the same graph asked from the other "
    "root, else another question",
    "unrelated": "the recorded thoughts of a question that is neither",
    "noise": "a Gaussian direction drawn for each latent position, as long as what it replaces",
}
"""What is fed → its definition; the last two are controls."""
KEYS = ("fed", "thought", "up_to")


def measure(
    subject: Subject, on_progress: Progress = no_progress, against: Sequence[Subject] = ()
) -> Row:
    """Feed the thoughts of donors; count the answers that become theirs.

    Returns:
        `fed`, a row for each of DONORS and each place (one thought, the first ones, all): `follows`
        is the share of answers that are the donor's, `stays` of those that are still the own.
        `effect`: how much more often they follow the donor than unrelated thoughts, all replaced,
        with Student's interval over questions. `earliest`: the share of questions for which k
        thoughts are the earliest sufficient, None for never, and the accuracy after k. `sentence`:
        the first number in words.

    Raises:
        UsageError: The subject has no latent positions, or no question has a donor; or the two are
            not asked the same.
    """
    run = partial(mediated, on_progress=on_progress)
    found = compared(subject, against, run, partial(more_rows, KEYS))
    return {"definitions": DONORS, **found}


def with_donors(subject: Subject) -> tuple[Subject, Subject, list[str]]:
    """Return the questions that have a donor, the donors, and the answers that follow them.

    Raises:
        UsageError: No question has one.
    """
    if subject.has_graphs:
        twins = [twin(example) for example in subject.examples]
        numbers = [q for q, one in enumerate(twins) if one is not None]
        examples = tuple(one for one in twins if one is not None)
        donors = replace(
            subject, examples=examples, encoded=tuple(subject.reasoner.encode(examples))
        )
        both = zip(subject.of(numbers).prompts(), donors.prompts(), strict=True)
        as_long = [i for i, (own, other) in enumerate(both) if own.num_latents == other.num_latents]
        numbers, donors = [numbers[i] for i in as_long], donors.of(as_long)
        goals = [
            subject.answer_naming(q, subject.graphs[q].names[subject.graphs[q].neg_target])
            for q in numbers
        ]
    else:
        nums = [prompt.num_latents for prompt in subject.prompts()]
        keys = [" ".join(example.answer.split()) for example in subject.examples]
        partners = draw_partners([e.id for e in subject.examples], nums, keys, SEED)
        numbers = [q for q, partner in enumerate(partners) if partner is not None]
        donors = subject.of([partner for partner in partners if partner is not None])
        goals = [example.answer for example in donors.examples]
    if not numbers:
        raise UsageError(
            f"{subject.name}: none of the {len(subject.examples)} questions has a donor: with "
            "graphs another root from which the other candidate is as far, else a question with "
            "as many thoughts and another answer. Use more questions."
        )
    return subject.of(numbers), donors, goals


def mediated(subject: Subject, on_progress: Progress) -> tuple[Row, Values]:
    """Measure one subject: what is written, and `follows` by KEYS and question.

    Raises:
        UsageError: As for `measure`.
    """
    asked = with_latents(subject).first(MAX_QUESTIONS)
    whole, donors, goals = with_donors(asked)
    is_correct = whole.task.is_correct
    own, of_donor = whole.are_right(whole.answers()), donors.are_right(donors.answers())
    chains, given = record(whole), record(donors)
    base = [q for q, num in enumerate(chains.num_latents) if num and own[q] and of_donor[q]]
    fed = {
        "donor": given.latent_inputs,
        "unrelated": chains.latent_inputs[others_of(whole, chains, donors)],
        "noise": random_directions(whole, range(chains.most), SEED, "mediation"),
    }
    values, rows = Values(), Rows()
    for name, table in fed.items():
        for place in places(chains.most):
            put_in = putting(table, place, is_direction=name == "noise")
            outputs = answers_with(whole, put_in)
            some = [q for q in base if chains.num_latents[q] >= place.fewest]
            follows = [is_correct(outputs[q].answer, goals[q]) for q in some]
            stays = [is_correct(outputs[q].answer, whole.examples[q].answer) for q in some]
            key = name, place.thought, place.up_to
            row = dict(zip(KEYS, key, strict=True)) | {"num_questions": len(some)}
            row |= share_fields("follows", follows, digits=4)
            rows.append(row | share_fields("stays", stays, digits=4))
            values[key] = dict(zip(some, map(float, follows), strict=True))
            on_progress(len(asked.examples))
    donor, unrelated_ones = (values[name, None, None] for name in ("donor", "unrelated"))
    effect: Row = {"num_questions": len(base)}
    sentence = (
        f"{subject.name} answers none of {len(goals)} questions right together with its donor, so "
        "nothing can be said of what goes through its thoughts."
    )
    if base:
        found = difference(list(donor.values()), list(unrelated_ones.values()))
        effect |= found.fields("effect") | {"p": found.p}
        what = "the same graph asked from the other root" if whole.has_graphs else "another one"
        share = share_fields("share", [value == 1 for value in donor.values()], ends="")
        sentence = (
            f"The answer follows the thoughts in {share['share']:.1%} of {len(base)} questions "
            f"({share['low']:.1%} to {share['high']:.1%}): asked one, but fed the thoughts of "
            f"{what}, {subject.name} gives the answer to that. Fed unrelated thoughts it does so "
            f"in {sum(unrelated_ones.values()) / len(base):.1%}."
        )
    about = {
        "sentence": sentence,
        "num_thoughts": chains.most,
        "num_questions": len(asked.examples),
        "num_given": len(subject.examples),
        "num_with_donor": len(goals),
        "num_right": len(base),
        "effect": effect,
        "fed": rows,
        "earliest": earliest_rows(whole, chains.num_latents),
    }
    return about, values


def others_of(subject: Subject, chains: Chains, donors: Subject | None = None) -> list[int]:
    """Return another question with as many thoughts for each; itself where there is none.

    Args:
        subject: The questions.
        chains: Recorded of them.
        donors: For each question one that is not meant either.
    """
    ids = [example.id for example in subject.examples]
    taken = None if donors is None else [example.id for example in donors.examples]
    partners = draw_partners(ids, chains.num_latents, ids, SEED, taken)
    return [q if partner is None else partner for q, partner in enumerate(partners)]


def putting(table_QND: Tensor, place: Place, *, is_direction: bool = False) -> Replace:
    """Return what feeds rows of a table into some latent positions.

    With `is_direction` they are of length 1, and become as long as what they replace.
    """

    def put_in(rows: Tensor, latent: Latent, own: Tensor) -> Tensor:
        if not place.has(latent.number):
            return own
        vector = table_QND[rows, latent.number].to(own)
        return vector * own.norm(dim=-1, keepdim=True) if is_direction else vector

    return put_in


def earliest_rows(subject: Subject, num_latents: Sequence[int]) -> Rows:
    """Return, for each number of thoughts, the accuracy, and for how many it is enough at last."""
    most = max(num_latents)
    rights = [subject.are_right(subject.answers(k)) for k in range(most + 1)]
    first = Counter[int | None]()
    for question, num in enumerate(num_latents):
        early = None
        for k in range(num, -1, -1):
            if not rights[k][question]:
                break
            early = k
        first[early] += 1
    rows = Rows()
    for k in (*range(most + 1), None):
        row: Row = {"earliest": k, "share": round(first[k] / len(num_latents), 4)}
        if k is not None:
            row |= share_fields("accuracy", rights[k], digits=4)
        rows.append(row | {"num_questions": len(num_latents)})
    return rows


# --- drawing ----------------------------------------------------------------------------------


def tables(result: Mapping[str, Any]) -> dict[str, Rows]:
    """Return the rows of the CSV files, by their names."""
    parts = {"mediation": "fed", "mediation_earliest": "earliest", "mediation_effect": "effect"}
    return tables_of(result, **parts, mediation_comparison="comparison")


def draw(result: Mapping[str, Any]) -> Figure:
    """Draw a row for each model: answers that follow what is fed; the earliest sufficient k."""
    models = models_of(result)
    with style.figure(2 * style.COLUMN, 0.7 + 1.7 * len(models)) as fig:
        grid = fig.subplots(len(models), 3, sharey=True, squeeze=False)
        for (alone, first, early), model in zip(grid, models, strict=True):
            most, is_drawn = model["num_thoughts"], model["num_right"] >= FEWEST_DRAWN
            for number, name in enumerate(DONORS):
                told = [row for row in model["fed"] if row["num_questions"] and is_drawn]
                rows = [row for row in told if row["fed"] == name]
                look: Any = style.look_of(number) | {"label": name}
                one = [row for row in rows if row["thought"] is not None]
                up_to = {row["up_to"] or most: row for row in rows if row["thought"] is None}
                up_to |= {row["thought"]: row for row in one[:1]}
                shift = 0.06 * (number - 1)
                for panel, drawn in ((alone, {r["thought"]: r for r in one}), (first, up_to)):
                    at = sorted(drawn)
                    some = [drawn[k] for k in at]
                    style.points(panel, [k + shift for k in at], some, "follows", **look)
            if not is_drawn:
                words = f"right both ways:\nonly {model['num_right']} of {model['num_with_donor']}"
                for panel in (alone, first):
                    panel.text((most + 1) / 2, 0.5, words, ha="center", color=style.GREY)
            for panel, label in ((alone, "thought fed"), (first, "thoughts 1 … k fed, k")):
                panel.set(xticks=range(1, most + 1), xlim=(0.7, most + 0.3), xlabel=label)
            names = [
                "never" if r["earliest"] is None else str(r["earliest"]) for r in model["earliest"]
            ]
            early.bar(names, [row["share"] for row in model["earliest"]], color=style.PURPLE)
            early.set(xlabel="earliest sufficient number of thoughts", ylim=(-0.03, 1.03))
            early.tick_params(labelleft=True)
            early.set_ylabel("questions")
            style.percents(alone.yaxis)
            alone.set_ylabel(f"answers that follow\n({model['name']})")
        style.legend(fig, grid[0][:1], 3, "upper")
    return fig
