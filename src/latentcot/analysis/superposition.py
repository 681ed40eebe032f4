"""Which nodes of the graph lie in a thought, and how strongly.

Nodes are put into the groups of `node_groups.py` (arXiv 2505.12514). Three measures of each:
- the inner product with the node's row of the embedding table, or of the output head, averaged over
  the nodes of a group;
- the probability that the output head gives to the node (softmax over the whole vocabulary), summed
  over the group (its mass), and for each of its nodes;
- over how many nodes of the group that mass is spread: exp of the entropy of its shares.

Shapes: Q questions, N most thoughts and M most nodes of any question, B batch, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from latentcot.analysis.shared import style
from latentcot.analysis.shared.latents import MEANING, Chains, record, tables_of, with_latents
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
from latentcot.thinking.readings import logits_of


@dataclass(frozen=True, slots=True)
class Readings:
    """What the tables say of the nodes of each question."""

    probabilities: Tensor  # (Q, N, M). By the output head.
    embedding: Tensor  # (Q, N, M). Inner product with the input embedding.
    head: Tensor  # (Q, N, M). Inner product with the output head's row; a bias is not in it.


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
    names, per_step = name_tokens(subject), subject.reasoner.info.plan.thoughts_per_step
    if names.num_whole + names.num_begun == 0:
        first = subject.graphs[0].names[0]
        raise DataError(
            f"superposition: no node of any question can be told by the first token of its name, "
            f"such as {first!r}: the names of a question all begin alike. Use another tokenizer."
        )
    chains = record(with_latents(subject))
    depths = [depth_of(thought, per_step) for thought in range(1, chains.most + 1)]
    readings = read_nodes(subject, chains, names)
    on_progress(len(subject.examples))
    places = node_places(subject.graphs, names.is_used)
    groups = places.groups(depths)
    is_mirror = torch.zeros_like(groups["frontier"])
    for question, graph in enumerate(subject.graphs):
        layers = mirror_of(graph)
        for thought, depth in enumerate(depths):
            is_mirror[question, thought, layers.get(depth, [])] = True
    groups["mirror"] = is_mirror & places.is_used[:, None]
    rows = group_rows(readings, groups, places.is_used, chains.is_latent, depths)
    mirror = {row["thought"]: row["mass"] for row in rows if row["group"] == "mirror"}
    shown = [shares.tolist() for shares in _by_question(readings, chains, names)]
    model = subject.reasoner.model
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    return {
        "method": subject.reasoner.info.method_name,
        "num_questions": len(subject.examples),
        "num_thoughts": subject.most_thoughts,
        "thoughts": MEANING[subject.has_thoughts],
        "depth": "⌈i / thoughts per step⌉ for thought i",
        "definitions": NODE_GROUPS,
        "is_tied": head.get_parameter("weight") is embeddings.get_parameter("weight"),
        "names": names.counts(),
        "groups": [row for row in rows if row["group"] != "mirror"],
        "frontier": [
            {
                "thought": row["thought"],
                "depth": row["depth"],
                "mass": row["mass"],
                "low": row["mass_low"],
                "high": row["mass_high"],
                "uniform": row["mass_uniform"],
                "num_questions": row["num_questions"],
                "mirror": mirror.get(row["thought"]),
            }
            for row in rows
            if row["group"] == "frontier"
        ],
        "mirror": "mass on the layer that would be the frontier if the other candidate's root were "
        "asked about: what repeating the candidates gives",
        "questions": [
            {
                "id": example.id,
                "thoughts": [[None if isnan(p) else round(p, 4) for p in one] for one in shares],
            }
            for example, shares in zip(subject.examples[:NUM_LISTED], shown, strict=False)
        ],
    }


def node_probabilities(subject: Subject) -> list[Tensor]:
    """Return what probability each thought gives to each node: (thoughts, nodes) a question.

    NaN for nodes whose name cannot be told from another's by its first token.

    Raises:
        UsageError: The method has no latent positions.
        DataError: A question carries no graph.
    """
    names, chains = name_tokens(subject), record(with_latents(subject))
    return _by_question(read_nodes(subject, chains, names), chains, names)


def _by_question(readings: Readings, chains: Chains, names: NameTokens) -> list[Tensor]:
    asked = zip(readings.probabilities, chains.num_latents, names.is_used, strict=True)
    return [
        shares[:num, : len(is_used)].masked_fill(~torch.tensor(is_used), torch.nan)
        for shares, num, is_used in asked
    ]


@torch.no_grad()
def read_nodes(subject: Subject, chains: Chains, names: NameTokens) -> Readings:
    """Hold thoughts against the rows of the tokens that tell nodes; a batch at a time."""
    model, size = subject.reasoner.model, subject.batch_size
    tables = [model.get_input_embeddings(), model.get_output_embeddings()]
    thoughts_QND = chains.states[:, : chains.most]
    ids_QM, found = names.padded(range(len(subject.examples))), list[list[Tensor]]()
    batches = zip(torch.split(thoughts_QND, size), torch.split(ids_QM, size), strict=True)
    for thoughts, ids in batches:
        thoughts_BND, ids_BM = thoughts.to(model.device), ids.to(model.device)
        logits_BNV = logits_of(model, thoughts_BND)
        of_nodes = logits_BNV.gather(2, ids_BM[:, None].expand(-1, chains.most, -1))
        shares = (of_nodes - logits_BNV.logsumexp(-1, keepdim=True)).exp()
        products = [
            torch.einsum("bnd,bmd->bnm", thoughts_BND, table.get_parameter("weight")[ids_BM])
            for table in tables
        ]
        found.append([one.float().cpu() for one in (shares, *products)])
    return Readings(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def group_rows(
    readings: Readings,
    groups: Mapping[str, Tensor],
    is_used_QM: Tensor,
    is_latent_QN: Tensor,
    depths: Sequence[int],
) -> Rows:
    """Return a row for each thought and group of nodes, over the questions that have such nodes.

    Args:
        readings: Of all questions.
        groups: Which nodes are in each group, seen from each thought: (Q, N, M) each.
        is_used_QM: Which nodes there are.
        is_latent_QN: Which thoughts there are.
        depths: Of each thought.
    """
    found = Rows()
    for thought, depth in enumerate(depths):
        for group, is_in_QNM in groups.items():
            has_any = is_in_QNM[:, thought].any(-1) & is_latent_QN[:, thought]
            if not has_any.any():
                continue
            is_in = is_in_QNM[has_any, thought].double()
            num_in, num_nodes = is_in.sum(-1), is_used_QM[has_any].double().sum(-1)
            inside = readings.probabilities[has_any, thought] * is_in
            mass = inside.sum(-1)
            spread = torch.special.entr(inside / mass[:, None].clamp(min=1e-300)).sum(-1).exp()
            embedding, head = (
                (products[has_any, thought] * is_in).sum(-1) / num_in
                for products in (readings.embedding, readings.head)
            )
            found.append(
                {
                    "thought": thought + 1,
                    "depth": depth,
                    "group": group,
                    "num_questions": len(mass),
                    "num_nodes": round(float(num_in.mean()), 3),
                    **mean_fields("mass", mass.tolist(), lowest=0.0, highest=1.0),
                    "mass_uniform": round(float((num_in / num_nodes).mean()), 6),
                    **mean_fields("per_node", (mass / num_in).tolist(), lowest=0.0, highest=1.0),
                    "per_node_uniform": round(float((1 / num_nodes).mean()), 6),
                    **mean_fields("spread", spread.tolist()),
                    **mean_fields("embedding", embedding.tolist()),
                    **mean_fields("head", head.tolist()),
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
