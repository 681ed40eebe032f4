"""Thoughts read as words: the most probable tokens of each thought, and what they name.

With graphs that is a node of a group of `node_groups.py` (the top token alone), with equations the
results (among the top 1, 5 and 10, told by their first token). *By chance* is what the thoughts of
the other questions in the same row give, all of them, so that nothing is drawn.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from latentcot.analysis.shared import style
from latentcot.analysis.shared.latents import MEANING, record, tables_of, with_latents
from latentcot.analysis.shared.node_groups import (
    NODE_GROUPS,
    FirstTokens,
    depth_of,
    name_tokens,
    node_places,
)
from latentcot.analysis.shared.statistics import Row, Rows, mean_fields, share_fields
from latentcot.analysis.shared.subject import Progress, Subject, no_progress
from latentcot.evaluation.statistics import percent
from latentcot.thinking.readings import logits_of

TOPS = (1, 5, 10)
NUM_EXAMPLES = 20
NUM_SHOWN = 5
"""Tokens of each thought in the examples, and most frequent ones of all."""
TIED = 0.99
"""Share of the top token's probability from which another one is as probable: their order says
nothing then (the model of `runs/search_by_hand.py` gives all nodes of a thought the same)."""
_RESULT = re.compile(r"=\s*(-?(?:\d[\d,]*(?:\.\d+)?|\.\d+))\s*(?:>>)?\s*$")


@dataclass(frozen=True, slots=True)
class Decoded:
    """The most probable tokens of one thought, for the questions that have it."""

    numbers: list[int]  # of the questions
    tokens: list[list[int]]  # for each of them its tokens, most probable first
    probabilities: list[list[float]]  # theirs


def measure(subject: Subject, on_progress: Progress = no_progress) -> Row:
    """Read every thought through the output head.

    Returns:
        `thoughts`, a row for each; `nodes`, a row for each thought and group of nodes, empty
        without graphs; `results`, one for each thought, step and top, empty without equations;
        `examples`, the first questions. Ends of intervals, and chance, are None for one question.

    Raises:
        UsageError: The method has no latent positions.
        DataError: A question's graph is wrong.
    """
    decoded, tokenizer = decode(subject, max(TOPS), on_progress), subject.reasoner.tokenizer
    results, thoughts = result_tokens(subject), Rows()
    examples: Rows = [
        {"id": e.id, "question": e.question, "steps": list(e.steps), "answer": e.answer}
        | {"thoughts": list[Any]()}
        for e in subject.examples[:NUM_EXAMPLES]
    ]
    for thought, one in enumerate(decoded, start=1):
        # How sure the head is of its top token, and which ones are most frequent.
        tops, sure = [ids[0] for ids in one.tokens], [row[0] for row in one.probabilities]
        frequent = [
            {"token": str(tokenizer.decode([token]))}
            | share_fields("share", [top == token for top in tops], ends="")
            for token, _ in Counter(tops).most_common(NUM_SHOWN)
        ]
        row: Row = {"thought": thought, "num_questions": len(tops)}
        row |= mean_fields("probability", sure, lowest=0.0, highest=1.0)
        tied = [sum(p >= TIED * shares[0] for p in shares) for shares in one.probabilities]
        row["num_tied"] = round(sum(tied) / len(tied), 3)  # as the top one, which chance chose
        thoughts.append(row | {"most_frequent": frequent})
        for number, ids, shares in zip(one.numbers, one.tokens, one.probabilities, strict=True):
            if number < len(examples):
                told = [
                    {"token": str(tokenizer.decode([token])), "probability": round(share, 4)}
                    for token, share in list(zip(ids, shares, strict=True))[:NUM_SHOWN]
                ]
                examples[number]["thoughts"].append(told)
    return {
        "method": subject.reasoner.info.method_name,
        "num_questions": len(subject.examples),
        "num_thoughts": subject.most_thoughts,
        "thought_meaning": MEANING[subject.has_thoughts],
        "by_chance": "the same with the thoughts of the other questions of a row, averaged",
        "definitions": NODE_GROUPS,
        "thoughts": thoughts,
        "nodes": _node_rows(subject, decoded) if subject.has_graphs else [],
        "results": [
            row
            for thought, one in enumerate(decoded, start=1)
            for step in range(results.most_steps)
            for top in TOPS
            for about in [{"thought": thought, "step": step + 1, "top": top}]
            for row in _hit_rows(about, one, partial(results.of, step=step), top)
        ],
        "result_tokens": results.counts("results"),
        "examples": examples,
    }


@torch.no_grad()
def decode(subject: Subject, top: int, on_progress: Progress = no_progress) -> list[Decoded]:
    """Return the most probable tokens of thought 1, 2, … for every question that has it.

    Raises:
        UsageError: The method has no latent positions.
    """
    chains, model = record(with_latents(subject)), subject.reasoner.model
    found = [Decoded([], [], []) for _ in range(chains.most)]
    for start in range(0, len(subject.examples), subject.batch_size):
        thoughts_BND = chains.states[start : start + subject.batch_size, : chains.most]
        shares_BNV = logits_of(model, thoughts_BND.to(model.device)).float().softmax(-1)
        probabilities, ids = shares_BNV.topk(min(top, shares_BNV.shape[-1]), dim=-1)
        rows = zip(ids.tolist(), probabilities.tolist(), strict=True)
        for number, (tokens, shares) in enumerate(rows, start):
            for thought in range(chains.num_latents[number]):
                found[thought].numbers.append(number)
                found[thought].tokens.append(tokens[thought])
                found[thought].probabilities.append(shares[thought])
        on_progress(len(ids))
    return found


@dataclass(frozen=True, slots=True)
class ResultTokens(FirstTokens):
    """The token that tells the result of each step: the 12 in "<<3*4=12>>" or "3 * 4 = 12"."""

    # for each question and step the first token of the result; None where the step is no
    # equation, or its result does not begin a token
    first: tuple[tuple[int | None, ...], ...]

    @property
    def most_steps(self) -> int:
        """The last step of any question that has a result."""
        steps = [i for row in self.first for i, token in enumerate(row) if token is not None]
        return max(steps, default=-1) + 1

    def of(self, question: int, step: int) -> list[int]:
        """Return the token of one step's result, steps counted from 0; none where it has none."""
        row = self.first[question]
        token = row[step] if step < len(row) else None
        return [] if token is None else [token]


def result_tokens(subject: Subject) -> ResultTokens:
    """Find the results in the steps of all questions, tokenized as in training."""
    tokenizer, end = subject.reasoner.tokenizer, subject.reasoner.info.template.step_end
    steps = sorted({step for example in subject.examples for step in example.steps})
    spans = {step: match.span(1) for step in steps if (match := _RESULT.search(step))}
    found = {step: list[int]() for step in spans}  # none where no token begins with the result
    if spans and tokenizer.is_fast:  # only fast ones tell where their tokens stand
        texts: Any = tokenizer(
            [step + end for step in spans], add_special_tokens=False, return_offsets_mapping=True
        )
        offsets_of = zip(texts["input_ids"], texts["offset_mapping"], strict=True)
        for (step, span), (ids, offsets) in zip(spans.items(), offsets_of, strict=True):
            inside = [i for i, (a, b) in enumerate(offsets) if a < span[1] and b > span[0]]
            if inside and not step[offsets[inside[0]][0] : span[0]].strip():
                found[step] = [ids[i] for i in inside]
    rows = [[found.get(step) for step in example.steps] for example in subject.examples]
    results = [tokens for row in rows for tokens in row if tokens is not None]
    return ResultTokens(
        first=tuple(tuple(tokens[0] if tokens else None for tokens in row) for row in rows),
        num_whole=sum(len(tokens) == 1 for tokens in results),
        num_begun=sum(len(tokens) > 1 for tokens in results),
        num_left_out=sum(not tokens for tokens in results),
    )


def hits_and_chance(
    decoded: Decoded, wanted: Callable[[int], Iterable[int]], top: int
) -> tuple[list[bool], list[float]]:
    """Return for each question whether a wanted token is among its top ones, and how often by
    chance: the share of the other questions that have one there (none for a single question).

    Questions that want no token are left out. With `top` above 1 a question may want one at most,
    since the chances of several do not add up.
    """
    pairs = zip(decoded.numbers, decoded.tokens, strict=True)
    rows = [(set(wanted(number)), tokens[:top]) for number, tokens in pairs]
    rows = [(here, tokens) for here, tokens in rows if here]
    counts = Counter(token for _, tokens in rows for token in tokens)
    num_own = [len(here & set(tokens)) for here, tokens in rows]
    num_others = len(rows) - 1
    chances = [
        (sum(counts[token] for token in here) - own) / num_others
        for (here, _), own in zip(rows, num_own, strict=True)
        if num_others
    ]
    return [own > 0 for own in num_own], chances


def _hit_rows(
    about: Row, decoded: Decoded, wanted: Callable[[int], Iterable[int]], top: int
) -> Rows:
    """Return a row about hits; none where no question wants anything."""
    hits, chances = hits_and_chance(decoded, wanted, top)
    if not hits:
        return []
    by_chance = round(sum(chances) / len(chances), 6) if chances else None
    row = about | {"num_questions": len(hits)} | share_fields("share", hits, ends="")
    return [row | {"by_chance": by_chance}]


def _node_rows(subject: Subject, decoded: Sequence[Decoded]) -> Rows:
    """Say how often the top token of a thought is a node of each group."""
    names, rows = name_tokens(subject), Rows()
    per_step = subject.reasoner.info.plan.thoughts_per_step
    depths = [depth_of(i + 1, per_step) for i in range(len(decoded))]
    groups = node_places(subject.graphs, names.is_used).groups(depths)
    for place, one in enumerate(decoded):
        for group, is_in_QNM in groups.items():
            is_in = is_in_QNM[:, place].tolist()  # padded
            ids = [
                [token for token, ok in zip(names.ids[q], is_in[q], strict=False) if ok]
                for q in range(len(is_in))
            ]
            about = {"thought": place + 1, "depth": depths[place], "group": group}
            rows += _hit_rows(about, one, ids.__getitem__, 1)
    return rows


# --- drawing ----------------------------------------------------------------------------------

PANELS_A_ROW = 3
_TOP_COLOURS = (style.BLUE, style.ORANGE, style.GREEN)


def tables(result: Mapping[str, Any]) -> dict[str, Rows]:
    """Return the rows of the CSV files; the most frequent tokens are columns of their own."""
    rows = []
    for row in result["thoughts"]:
        flat = {name: value for name, value in row.items() if name != "most_frequent"}
        for number, token in enumerate(row["most_frequent"], start=1):
            flat |= {f"token_{number}": token["token"], f"share_{number}": token["share"]}
        rows.append(flat)
    others = tables_of(result, decoding_nodes="nodes", decoding_results="results")
    return {"decoding": rows, **others}


def draw(result: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw how sure the head is, and what it names; and results of equations, where there are."""
    thoughts = result["thoughts"]
    with style.figure(2 * style.COLUMN, 2.4) as fig:
        sure, named = fig.subplots(1, 2, width_ratios=[1, 2])
        at = [row["thought"] for row in thoughts]
        style.points(sure, at, thoughts, "probability", color=style.BLUE, marker="o", capsize=2)
        label = "probability of the top token"
        sure.set(xlabel="thought", ylabel=label, xticks=at, ylim=(0, 1.03))
        if result["nodes"]:
            _draw_nodes(named, result["nodes"], thoughts)
            style.legend(fig, [named], 3)
        else:  # the most frequent top tokens of each thought, with their share
            most = max(len(row["most_frequent"]) for row in thoughts)
            for row in thoughts:
                for rank, token in enumerate(row["most_frequent"], start=1):
                    # Blanks are made visible, what is long is cut, dollars make no formulas.
                    text = token["token"].replace(" ", "␣").replace("\n", "↵")
                    text = (text if len(text) <= 12 else f"{text[:11]}…").replace("$", r"\$")
                    text = f"{text}\n{percent(token['share'])}"
                    place = row["thought"], rank
                    named.text(*place, text, ha="center", va="center", fontsize=6.5)
            named.set(xlim=(at[0] - 0.5, at[-1] + 0.5), ylim=(most + 0.5, 0.5), xticks=at)
            named.set(xlabel="thought", ylabel="rank among top tokens")
            named.set_yticks(range(1, most + 1))
    figures = {"decoding": fig}
    if result["results"]:
        figures["decoding-results"] = _draw_results(result["results"])
    return figures


def _draw_nodes(axes: Axes, nodes: Sequence[Row], thoughts: Sequence[Row]) -> None:
    """Stack what the top token names; beside it, narrower, what it would name by chance.

    Of all questions that have the thought: a question without nodes of a group counts as none.
    """
    num_all = {row["thought"]: row["num_questions"] for row in thoughts}
    for key, shift, width, alpha in (("share", -0.14, 0.4, 1.0), ("by_chance", 0.25, 0.2, 0.45)):
        floor = dict.fromkeys(num_all, 0.0)
        for group, (label, colour, _, hatch) in style.GROUPS.items():
            chosen = [row for row in nodes if row["group"] == group and row[key] is not None]
            at = [row["thought"] for row in chosen]
            heights = [row[key] * row["num_questions"] / num_all[row["thought"]] for row in chosen]
            look: Any = {"color": colour, "alpha": alpha, "hatch": hatch, "edgecolor": "white"}
            look |= {"width": width, "linewidth": 0.3, "label": label if key == "share" else None}
            bottoms = [floor[thought] for thought in at]
            axes.bar([thought + shift for thought in at], heights, bottom=bottoms, **look)
            for thought, height in zip(at, heights, strict=True):
                floor[thought] += height
    axes.set(xlabel="thought (narrow: by chance)", ylabel="the top token is a node …")
    axes.set(xticks=list(num_all), ylim=(0, 1.03))


def _draw_results(results: Sequence[Row]) -> Figure:
    """Draw a panel for each thought: how often each step's result is among its top tokens."""
    thoughts = sorted({row["thought"] for row in results})
    down = ceil(len(thoughts) / PANELS_A_ROW)
    width = style.COLUMN if len(thoughts) == 1 else 2 * style.COLUMN
    with style.figure(width, 0.5 + 1.6 * down) as fig:
        panels = style.panel_grid(fig, len(thoughts), PANELS_A_ROW, "result of step")
        for panel, thought in zip(panels, thoughts, strict=True):
            rows = [row for row in results if row["thought"] == thought]
            for number, top in enumerate(sorted({row["top"] for row in rows})):
                chosen, colour = [row for row in rows if row["top"] == top], _TOP_COLOURS[number]
                at = [row["step"] + 0.07 * (number - 1) for row in chosen]
                look: Any = {"color": colour, "marker": style.MARKERS[number], "capsize": 1.5}
                style.points(panel, at, chosen, "share", ends="", label=f"top {top}", **look)
                chances = {x: row["by_chance"] for x, row in zip(at, chosen, strict=True)}
                known = {x: chance for x, chance in chances.items() if chance is not None}
                line: Any = {"color": colour, "linestyle": ":", "linewidth": 0.9}
                panel.plot(list(known), list(known.values()), **line)
            panel.plot([], [], color=style.GREY, linestyle=":", linewidth=0.9, label="by chance")
            panel.set(title=f"thought {thought}", ylim=(-0.03, 1.03))
            panel.set_xticks(sorted({row["step"] for row in results}))
        panels[0].set_ylabel("among the top tokens")
        style.legend(fig, panels[:1], 4 if len(thoughts) > 1 else 2)
    return fig
