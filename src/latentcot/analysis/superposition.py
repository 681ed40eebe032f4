"""Which nodes of the graph lie in a thought, and how strongly.

A thought is a vector of the model's width, so it can be held against the rows of two tables: that
of input embeddings, which the next pass reads it beside, and that of the output head, which reads
states as words (the same table where they are tied). If thoughts are superpositions of a search
frontier, as arXiv 2505.12514 has it, thought i lies close to the nodes i edges from the root, all
of them and no others.

Nodes are put into the groups of `node_groups.py`. Three measures of each:
- the inner product with the node's row, averaged over the nodes of a group;
- the probability that the output head gives to the node (softmax over the whole vocabulary), summed
  over the group (its mass), and for each of its nodes;
- over how many nodes of the group that mass is spread: exp of the entropy of its shares. Equal
  means alone prove no superposition: half of the questions may have all of it on the one node, and
  half on the other.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from latentcot.analysis.shared import style
from latentcot.analysis.shared.latents import MEANING, record, tables_of, with_latents
from latentcot.analysis.shared.node_groups import (
    NODE_GROUPS,
    NameTokens,
    depth_of,
    mirror_of,
    name_tokens,
    node_places,
)
from latentcot.analysis.shared.statistics import Row, Rows, mean_fields
from latentcot.analysis.shared.subject import NUM_LISTED, Progress, Subject, no_progress
from latentcot.errors import DataError

SCHEMA_VERSION = 1

Values = defaultdict[tuple[int, str], list[list[float]]]
"""(thought from 0, group) → a row for each question that has such nodes; see `collect`."""


@dataclass(frozen=True, slots=True)
class Readings:
    """What the tables say of the nodes of a batch; M the most nodes of any question."""

    probabilities: Tensor  # (B, N, M). By the output head.
    embedding: Tensor  # (B, N, M). Inner product with the input embedding.
    head: Tensor  # (B, N, M). Inner product with the output head's row; a bias is not in it.


def measure(subject: Subject, on_progress: Progress = no_progress) -> Row:
    """Measure how thoughts relate to the nodes of their question's graph.

    Returns:
        `groups`, a row for each thought and group of nodes; `frontier`, the mass on the frontier
        alone; `questions`, the probability of every node for the first of them, None where a name
        cannot be told from another by its first token. Ends of intervals are None for one question.

    Raises:
        UsageError: The method has no latent positions.
        DataError: A question carries no graph, or no name can be told from the others.
    """
    names, shown = name_tokens(subject), Rows()
    if names.num_whole + names.num_begun == 0:
        first = subject.graphs[0].names[0]
        raise DataError(
            f"superposition: no node of any question can be told by the first token of its name, "
            f"such as {first!r}: the names of a question all begin alike. Use another tokenizer."
        )
    per_step, values = subject.reasoner.info.plan.thoughts_per_step, Values(list)
    mirrors = defaultdict[int, list[float]](list)
    for numbers, num_latents, readings in _read(subject, names):
        graphs = [subject.graphs[i] for i in numbers]
        is_used = [names.is_used[i] for i in numbers]
        depths = [depth_of(i + 1, per_step) for i in range(readings.probabilities.shape[1])]
        places = node_places(graphs, is_used)
        collect(values, readings, places.groups(depths), places.is_used, num_latents)
        for row, number in enumerate(numbers):
            shares, layers = readings.probabilities[row, : num_latents[row]], mirror_of(graphs[row])
            for thought, (mass, depth) in enumerate(zip(shares, depths, strict=False), start=1):
                nodes = [node for node in layers.get(depth, []) if is_used[row][node]]
                if nodes:
                    mirrors[thought].append(float(mass[nodes].sum()))
            if number < NUM_LISTED:
                told = [
                    [round(p, 4) if ok else None for p, ok in zip(one, is_used[row], strict=False)]
                    for one in shares.tolist()
                ]
                shown.append({"id": subject.examples[number].id, "thoughts": told})
        on_progress(len(numbers))
    groups, model = group_rows(values, per_step), subject.reasoner.model
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    return {
        "schema_version": SCHEMA_VERSION,
        "method": subject.reasoner.info.method_name,
        "num_questions": len(subject.examples),
        "num_thoughts": subject.most_thoughts,
        "thoughts": MEANING[subject.has_thoughts],
        "depth": "⌈i / thoughts per step⌉ for thought i",
        "definitions": NODE_GROUPS,
        "is_tied": head.get_parameter("weight") is embeddings.get_parameter("weight"),
        "names": names.counts(),
        "groups": groups,
        "frontier": [
            {
                "thought": row["thought"],
                "depth": row["depth"],
                "mass": row["mass"],
                "low": row["mass_low"],
                "high": row["mass_high"],
                "uniform": row["mass_uniform"],
                "num_questions": row["num_questions"],
                "mirror": round(fmean(found), 6) if (found := mirrors[row["thought"]]) else None,
            }
            for row in groups
            if row["group"] == "frontier"
        ],
        "mirror": "mass on the layer that would be the frontier if the other candidate's root were "
        "asked about: what repeating the candidates gives",
        "questions": shown,
    }


def node_probabilities(subject: Subject) -> list[Tensor]:
    """Return what probability each thought gives to each node: (thoughts, nodes) a question.

    NaN for nodes whose name cannot be told from another's by its first token.

    Raises:
        UsageError: The method has no latent positions.
        DataError: A question carries no graph.
    """
    names, found = name_tokens(subject), list[Tensor]()
    for numbers, num_latents, readings in _read(subject, names):
        for row, number in enumerate(numbers):
            is_used = torch.tensor(names.is_used[number])
            shares = readings.probabilities[row, : num_latents[row], : len(is_used)]
            found.append(shares.masked_fill(~is_used, torch.nan))
    return found


# --- reading ----------------------------------------------------------------------------------


def _read(subject: Subject, names: NameTokens) -> Iterator[tuple[range, tuple[int, ...], Readings]]:
    """Yield (numbers of the questions, how many latent positions they have, readings), in their
    order."""
    chains = record(with_latents(subject))
    for start in range(0, len(subject.examples), subject.batch_size):
        numbers = range(start, min(start + subject.batch_size, len(subject.examples)))
        rows = slice(numbers.start, numbers.stop)
        thoughts_BND = chains.states[rows, : chains.most].to(subject.reasoner.model.device)
        readings = read_nodes(subject, thoughts_BND, names.padded(numbers))
        yield numbers, chains.num_latents[rows], readings


@torch.no_grad()
def read_nodes(subject: Subject, thoughts_BND: Tensor, ids_BM: Tensor) -> Readings:
    """Hold thoughts against the rows of some tokens; on the CPU.

    Args:
        subject: Its model has the tables.
        thoughts_BND: (B, N, D).
        ids_BM: (B, M). Tokens of each question.
    """
    model = subject.reasoner.model
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    ids = ids_BM.to(thoughts_BND.device)
    logits_BNV = head(thoughts_BND)
    of_nodes = logits_BNV.gather(2, ids[:, None].expand(-1, thoughts_BND.shape[1], -1))
    shares = (of_nodes - logits_BNV.logsumexp(-1, keepdim=True)).exp()
    by_table = [
        torch.einsum("bnd,bmd->bnm", thoughts_BND, table.get_parameter("weight")[ids])
        for table in (embeddings, head)
    ]
    return Readings(shares.float().cpu(), by_table[0].float().cpu(), by_table[1].float().cpu())


# --- averaging --------------------------------------------------------------------------------


def collect(
    values: Values,
    readings: Readings,
    groups: Mapping[str, Tensor],
    is_used_BM: Tensor,
    num_latents: Sequence[int],
) -> None:
    """Add what each question of a batch has in each group, seen from each of its thoughts."""
    num_latents_B1 = torch.tensor(num_latents)[:, None]
    for group, is_in_BNM in groups.items():
        num_in = is_in_BNM.sum(-1).clamp(min=1)
        num_nodes = is_used_BM.sum(-1)[:, None].clamp(min=1).expand_as(num_in)
        inside = readings.probabilities.double() * is_in_BNM
        mass = inside.sum(-1)
        shares = inside / mass[..., None].clamp(min=1e-300)
        spread = torch.special.entr(shares).sum(-1).exp()
        products = [(of * is_in_BNM).sum(-1) / num_in for of in (readings.embedding, readings.head)]
        means = [mass, num_in / num_nodes, mass / num_in, 1 / num_nodes, spread, *products]
        rows_BN8 = torch.stack([*means, num_in.double()], dim=-1)  # as `group_rows` takes them
        has_any_BN = is_in_BNM.any(-1) & (torch.arange(is_in_BNM.shape[1]) < num_latents_B1)
        for thought in range(is_in_BNM.shape[1]):
            values[thought, group] += rows_BN8[has_any_BN[:, thought], thought].tolist()


def group_rows(values: Values, thoughts_per_step: int) -> Rows:
    """Return a row for each thought and group, groups in the order of `NODE_GROUPS`."""
    order, found = list(NODE_GROUPS), Rows()
    for thought, group in sorted(values, key=lambda key: (key[0], order.index(key[1]))):
        rows = values[thought, group]
        if not rows:
            continue
        mass, uniform, share, share_uniform, spread, embedding, head, num_nodes = zip(
            *rows, strict=True
        )
        found.append(
            {
                "thought": thought + 1,
                "depth": depth_of(thought + 1, thoughts_per_step),
                "group": group,
                "num_questions": len(rows),
                "num_nodes": round(sum(num_nodes) / len(rows), 3),
                **mean_fields("mass", mass, lowest=0.0, highest=1.0),
                "mass_uniform": round(sum(uniform) / len(rows), 6),
                **mean_fields("per_node", share, lowest=0.0, highest=1.0),
                "per_node_uniform": round(sum(share_uniform) / len(rows), 6),
                **mean_fields("spread", spread),
                **mean_fields("embedding", embedding),
                **mean_fields("head", head),
            }
        )
    return found


# --- drawing ----------------------------------------------------------------------------------


def tables(result: Mapping[str, Any]) -> dict[str, Rows]:
    """Return the rows of the CSV files, by their names."""
    return tables_of(result, superposition="groups")


def draw(result: Mapping[str, Any]) -> Figure:
    """Draw four panels over the thoughts: mass, mass a node, spread and inner products."""
    rows = result["groups"]
    frontier = [row for row in rows if row["group"] == "frontier"]
    thoughts = [row["thought"] for row in frontier]
    with style.figure(2 * style.COLUMN, 3.8) as fig:
        (mass, per_node), (spread, product) = fig.subplots(2, 2)
        look: Any = {"width": 0.6, "color": style.PURPLE, "alpha": 0.75, "capsize": 2}
        look |= {"error_kw": {"linewidth": 0.8}, "label": "measured"}
        mass.bar(
            thoughts, [row["mass"] for row in frontier], yerr=style.errors(frontier, "mass"), **look
        )
        style.draw_uniform(mass, frontier, "thought", "mass_uniform", "all nodes alike")
        mass.set(ylim=(0, 1.22), yticks=[0, 0.25, 0.5, 0.75, 1], ylabel="mass on the frontier")
        mass.legend(loc="upper right", ncols=2)

        style.draw_groups(per_node, rows, "thought", "per_node")
        style.draw_uniform(per_node, rows, "thought", "per_node_uniform", "all nodes alike")
        per_node.set_ylabel("probability of a node")

        look = {"color": style.PURPLE, "marker": "o", "capsize": 2}
        label = "over which the mass is spread"
        style.points(spread, thoughts, frontier, "spread", label=label, **look)
        sizes = [row["num_nodes"] for row in frontier]
        look = {"color": style.BLACK, "marker": "_", "linestyle": ":"}
        spread.plot(thoughts, sizes, label="in the frontier", **look)
        spread.set(ylim=(0.8, 1.35 * max([2.0, *sizes])), ylabel="number of nodes")
        spread.legend(loc="upper right")

        style.draw_groups(product, rows, "thought", "head")
        table = "the node's embedding" if result["is_tied"] else "the node's output row"
        product.set_ylabel("inner product with\n" + table)
        for panel in (per_node, product):
            panel.axhline(0, color=style.GREY, linewidth=0.5)
        for panel in (mass, per_node, spread, product):
            panel.set_xlabel("thought")
            panel.set_xticks(sorted({row["thought"] for row in rows}))
        style.legend(fig, [per_node], 3)
    return fig
