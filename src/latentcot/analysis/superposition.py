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
from torch import Tensor, nn

from latentcot.analysis.shared.latents import MEANING, record, with_latents
from latentcot.analysis.shared.node_groups import (
    NODE_GROUPS,
    NameTokens,
    depth_of,
    mean_fields,
    mirror_of,
    name_tokens,
    node_places,
)
from latentcot.analysis.shared.subject import NUM_LISTED, Progress, Subject, no_progress
from latentcot.errors import DataError
from latentcot.tasks.prosqa.graphs import Graph

SCHEMA_VERSION = 1

Values = defaultdict[tuple[int, str], list[list[float]]]
"""(thought from 0, group) → a row for each question that has such nodes; see `_question_values`."""


@dataclass(frozen=True, slots=True)
class Readings:
    """What the tables say of the nodes of a batch; M the most nodes of any question.

    Attributes:
        probabilities: (B, N, M). By the output head.
        embedding: (B, N, M). Inner product with the input embedding.
        head: (B, N, M). Inner product with the output head's row; a bias is not in it.
    """

    probabilities: Tensor
    embedding: Tensor
    head: Tensor


def measure(subject: Subject, on_progress: Progress = no_progress) -> dict[str, Any]:
    """Measure how thoughts relate to the nodes of their question's graph.

    Returns:
        `groups`, a row for each thought and group of nodes; `frontier`, the mass on the frontier
        alone; `questions`, the probability of every node for the first of them, None where a name
        cannot be told from another by its first token. Ends of intervals are None for one question.

    Raises:
        UsageError: The method has no latent positions.
        DataError: A question carries no graph, or no name can be told from the others.
    """
    names, values, shown = name_tokens(subject), _no_values(), list[dict[str, Any]]()
    _refuse_unreadable(names, subject)
    per_step = subject.reasoner.info.plan.thoughts_per_step
    mirrors = defaultdict[int, list[float]](list)
    for numbers, num_latents, readings in _read(subject, names):
        depths = [depth_of(i + 1, per_step) for i in range(readings.probabilities.shape[1])]
        is_used = [names.is_used[i] for i in numbers]
        places = node_places([subject.graphs[i] for i in numbers], is_used)
        _collect(values, readings, places.groups(depths), places.is_used, num_latents)
        for row, number in enumerate(numbers):
            shares = readings.probabilities[row, : num_latents[row]]
            _collect_mirror(mirrors, subject.graphs[number], shares, is_used[row], depths)
        for row, number in enumerate(numbers[: max(0, NUM_LISTED - numbers[0])]):
            shares = readings.probabilities[row, : num_latents[row]]
            shown.append(
                {"id": subject.examples[number].id, "thoughts": _shown(shares, is_used[row])}
            )
        on_progress(len(numbers))
    groups = _group_rows(values, per_step)
    return {
        "schema_version": SCHEMA_VERSION,
        "method": subject.reasoner.info.method,
        "num_questions": len(subject.examples),
        "num_thoughts": subject.most_thoughts,
        "thoughts": MEANING[subject.has_thoughts],
        "depth": "⌈i / thoughts per step⌉ for thought i",
        "definitions": NODE_GROUPS,
        "is_tied": _is_tied(subject),
        "names": {
            "num_nodes": names.num_whole + names.num_begun + names.num_left_out,
            "num_whole": names.num_whole,
            "num_by_first_token": names.num_begun,
            "num_left_out": names.num_left_out,
        },
        "groups": groups,
        "frontier": [
            {**_frontier(row), "mirror": _mean(mirrors[row["thought"]])}
            for row in groups
            if row["group"] == "frontier"
        ],
        "mirror": "mass on the layer that would be the frontier if the other candidate's root were "
        "asked about: what repeating the candidates gives",
        "questions": shown,
    }


def _collect_mirror(
    mirrors: defaultdict[int, list[float]],
    graph: Graph,
    shares: Tensor,
    is_used: Sequence[bool],
    depths: Sequence[int],
) -> None:
    """Add the mass of each thought of a question on the other family's layer."""
    layers = mirror_of(graph)
    for number, (row, depth) in enumerate(zip(shares, depths, strict=False), start=1):
        nodes = [node for node in layers.get(depth, []) if is_used[node]]
        if nodes:
            mirrors[number].append(float(row[nodes].sum()))


def _mean(values: Sequence[float]) -> float | None:
    return round(fmean(values), 6) if values else None


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


def _refuse_unreadable(names: NameTokens, subject: Subject) -> None:
    if names.num_whole + names.num_begun == 0:
        first = subject.graphs[0].names[0]
        raise DataError(
            f"superposition: no node of any question can be told by the first token of its name, "
            f"such as {first!r}: the names of a question all begin alike. Use another tokenizer."
        )


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
    embeddings, head = _tables(subject)
    ids = ids_BM.to(thoughts_BND.device)
    logits_BNV = head(thoughts_BND)
    of_nodes = logits_BNV.gather(2, ids[:, None].expand(-1, thoughts_BND.shape[1], -1))
    shares = (of_nodes - logits_BNV.logsumexp(-1, keepdim=True)).exp()
    by_table = [
        torch.einsum("bnd,bmd->bnm", thoughts_BND, table.get_parameter("weight")[ids])
        for table in (embeddings, head)
    ]
    return Readings(shares.float().cpu(), by_table[0].float().cpu(), by_table[1].float().cpu())


def _tables(subject: Subject) -> tuple[nn.Module, nn.Module]:
    model = subject.reasoner.model
    return model.get_input_embeddings(), model.get_output_embeddings()


def _is_tied(subject: Subject) -> bool:
    """Return whether input embeddings and output head are one table."""
    embeddings, head = _tables(subject)
    return head.get_parameter("weight") is embeddings.get_parameter("weight")


def _shown(shares: Tensor, is_used: Sequence[bool]) -> list[list[float | None]]:
    return [
        [round(p, 4) if ok else None for p, ok in zip(row, is_used, strict=False)]
        for row in shares.tolist()
    ]


# --- averaging --------------------------------------------------------------------------------


def _no_values() -> Values:
    return defaultdict(list)


def _collect(
    values: Values,
    readings: Readings,
    groups: Mapping[str, Tensor],
    is_used_BM: Tensor,
    num_latents: Sequence[int],
) -> None:
    """Add what each question of a batch has in each group, seen from each of its thoughts."""
    num_latents_B1 = torch.tensor(num_latents)[:, None]
    for group, is_in_BNM in groups.items():
        rows_BN8 = _question_values(readings, is_in_BNM, is_used_BM)
        has_any_BN = is_in_BNM.any(-1) & (torch.arange(is_in_BNM.shape[1]) < num_latents_B1)
        for thought in range(is_in_BNM.shape[1]):
            values[thought, group] += rows_BN8[has_any_BN[:, thought], thought].tolist()


def _question_values(readings: Readings, is_in_BNM: Tensor, is_used_BM: Tensor) -> Tensor:
    """Return (B, N, 8), in the order in which `_group_row` takes them apart."""
    num_in = is_in_BNM.sum(-1).clamp(min=1)
    num_nodes = is_used_BM.sum(-1)[:, None].clamp(min=1).expand_as(num_in)
    inside = readings.probabilities.double() * is_in_BNM
    mass = inside.sum(-1)
    shares = inside / mass[..., None].clamp(min=1e-300)
    spread = torch.special.entr(shares).sum(-1).exp()
    products = [(of * is_in_BNM).sum(-1) / num_in for of in (readings.embedding, readings.head)]
    means = [mass, num_in / num_nodes, mass / num_in, 1 / num_nodes, spread, *products]
    return torch.stack([*means, num_in.double()], dim=-1)


def _group_rows(values: Values, thoughts_per_step: int) -> list[dict[str, Any]]:
    """Return a row for each thought and group, groups in the order of `NODE_GROUPS`."""
    order = {group: place for place, group in enumerate(NODE_GROUPS)}
    found = [(key, rows) for key, rows in values.items() if rows]
    found.sort(key=lambda one: (one[0][0], order[one[0][1]]))
    return [
        _group_row(thought + 1, depth_of(thought + 1, thoughts_per_step), group, rows)
        for (thought, group), rows in found
    ]


def _group_row(
    thought: int, depth: int, group: str, rows: Sequence[Sequence[float]]
) -> dict[str, Any]:
    mass, uniform, share, share_uniform, spread, embedding, head, num_nodes = zip(
        *rows, strict=True
    )
    return {
        "thought": thought,
        "depth": depth,
        "group": group,
        "num_questions": len(rows),
        "num_nodes": round(sum(num_nodes) / len(rows), 3),
        **mean_fields("mass", mass, is_share=True),
        "mass_uniform": round(sum(uniform) / len(rows), 6),
        **mean_fields("per_node", share, is_share=True),
        "per_node_uniform": round(sum(share_uniform) / len(rows), 6),
        **mean_fields("spread", spread),
        **mean_fields("embedding", embedding),
        **mean_fields("head", head),
    }


def _frontier(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "thought": row["thought"],
        "depth": row["depth"],
        "mass": row["mass"],
        "low": row["mass_low"],
        "high": row["mass_high"],
        "uniform": row["mass_uniform"],
        "num_questions": row["num_questions"],
    }
