"""Which edges of the question's graph the model looks at while it thinks.

*Column i* is the column that holds thought i and computes the next one: latent position i for i ≥
1, and for i = 0 the last column before latent position 1. Two-layer constructions for this task
(arXiv 2505.12514) attend from column i to the edges that leave the nodes in thought i, and copy
their far ends into the next thought. An edge is told by two or three columns of the question, its
name here:

    symbols   "3 7", and the bar behind it, where the question has one
    words     the sentence "Every lorpus is a rorpus." with its full stop

Measured is the attention that column i pays to all columns of an edge, averaged over the heads of a
layer, then over the edges of a group (`node_groups.py`), then over questions. *Uniform* is what the
edge would get if every column that can be seen got the same.

All columns are read once more in one pass, with what was fed into the latent positions, since only
the plain ("eager") attention of transformers tells its weights.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from latentcot.analysis.shared.edge_columns import columns_of_edges
from latentcot.analysis.shared.latents import MEANING, Chains, record, with_latents
from latentcot.analysis.shared.node_groups import EDGE_GROUPS, depth_of, edge_places, mean_fields
from latentcot.analysis.shared.subject import Progress, Subject, no_progress
from latentcot.curriculum.layout import Layout
from latentcot.errors import DataError, UsageError

SCHEMA_VERSION = 1
MAX_PARAMETERS = 50_000_000
MAX_HEADS = 256
"""Layers × heads."""
MAX_WEIGHTS = 2**26
"""Attention weights that one pass may keep: 256 MiB."""

Values = defaultdict[tuple[int, int, str], list[list[float]]]
"""(layer from 0, column, group) → (attention to all such edges, its uniform, their number) for each
question that has any."""


def measure(subject: Subject, on_progress: Progress = no_progress) -> dict[str, Any]:
    """Measure the attention from the columns of thoughts to the edges of the question.

    Returns:
        `columns`: a row for each layer, column and group of edges. Ends of intervals are None for a
        single question.

    Raises:
        UsageError: The method has no latent positions, or the model is too large.
        DataError: A question carries no graph, or its edges cannot be found in its text.
    """
    has_thoughts, subject = subject.has_thoughts, with_latents(subject)
    refuse_large(subject)
    edges = columns_of_edges(subject)
    num_found, num_edges = _count_found(edges, subject)
    values: Values = defaultdict(list)
    chains, layouts = record(subject), subject.prompts()
    for numbers in _batches(subject, layouts):
        reading = read_again(subject, chains, layouts, numbers)
        _collect(values, subject, reading, numbers, [edges[i] for i in numbers])
        on_progress(len(numbers))
    return {
        "schema_version": SCHEMA_VERSION,
        "method": subject.reasoner.info.method,
        "num_questions": len(subject.examples),
        "num_thoughts": subject.most_thoughts,
        "thoughts": MEANING[has_thoughts],
        "column": "0: the last position before the latent ones; i: the position of thought i",
        "depth": "⌈i / thoughts per step⌉ for column i",
        "definitions": EDGE_GROUPS,
        "num_edges": num_edges,
        "num_edges_left_out": num_edges - num_found,
        "columns": _rows(values, subject.reasoner.info.plan.thoughts_per_step),
    }


def refuse_large(subject: Subject) -> None:
    """Make sure that the weights of all heads can be kept.

    Raises:
        UsageError: The model is too large.
    """
    model = subject.reasoner.model
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    num_heads = model.config.num_hidden_layers * model.config.num_attention_heads
    if num_parameters > MAX_PARAMETERS or num_heads > MAX_HEADS:
        raise UsageError(
            f"attention: is for small models, at most {MAX_PARAMETERS:,} parameters and "
            f"{MAX_HEADS} heads in all layers, got {num_parameters:,} and {num_heads}. Leave it "
            "out, with --only and the names of the others."
        )


def _count_found(edges: Sequence[Sequence[Sequence[int]]], subject: Subject) -> tuple[int, int]:
    """Return how many edges were found in the questions, and how many there are."""
    num_found = sum(len(columns) > 0 for question in edges for columns in question)
    if num_found == 0:
        raise DataError(
            f"attention: no edge of any graph is found in its question, such as "
            f"{subject.examples[0].question[:60]!r}. They must be told as in docs/data-format.md."
        )
    return num_found, sum(map(len, edges))


# --- one pass over all columns ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reading:
    """What one pass over question and latent positions gives; C columns, L layers.

    Attributes:
        states: (B, C, D). The last hidden states.
        attention: (L, B, C, C). From each column to each, the mean over heads.
        starts_B: The column of latent position 1.
        num_latents_B: How many latent positions each question has.
    """

    states: Tensor
    attention: Tensor
    starts_B: Tensor
    num_latents_B: Tensor


@torch.no_grad()
def read_again(
    subject: Subject, chains: Chains, layouts: Sequence[Layout], numbers: Sequence[int]
) -> Reading:
    """Read questions and what is in their latent positions in one pass, with all attention weights.

    Pads stand on the right, where no real column sees them.

    Args:
        subject: Of `with_latents`.
        chains: What stood in its latent positions.
        layouts: All of its questions.
        numbers: The questions to read.
    """
    model = subject.reasoner.model
    table, rows = model.get_input_embeddings(), []
    for number in numbers:
        prefix_QD = table(torch.tensor(layouts[number].prefix, device=model.device))
        fed_ND = chains.latent_inputs[number, : chains.num_latents[number]]
        rows.append(torch.cat([prefix_QD, fed_ND.to(prefix_QD.device)]))
    with eager_attention(model):
        found = model.base_model(
            inputs_embeds=nn.utils.rnn.pad_sequence(rows, batch_first=True),
            output_attentions=True,
            use_cache=False,
        )
    return Reading(
        states=found.last_hidden_state,
        attention=torch.stack([layer.float().mean(1) for layer in found.attentions]).cpu(),
        starts_B=torch.tensor([len(layouts[number].prefix) for number in numbers]),
        num_latents_B=torch.tensor([chains.num_latents[number] for number in numbers]),
    )


@contextmanager
def eager_attention(model: Any) -> Iterator[None]:
    """Let a model compute its attention weights one by one, then as it did before."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _batches(subject: Subject, layouts: Sequence[Layout]) -> Iterator[list[int]]:
    """Yield the numbers of questions whose weights fit into memory together."""
    config = subject.reasoner.model.config
    per_pair = config.num_hidden_layers * config.num_attention_heads
    for numbers in subject.batches(layouts):
        longest = max(len(layouts[i].prefix) + layouts[i].num_latents for i in numbers)
        size = max(1, MAX_WEIGHTS // (per_pair * longest**2))
        for start in range(0, len(numbers), size):
            yield numbers[start : start + size]


# --- from columns to edges --------------------------------------------------------------------


def attention_to_edges(
    reading: Reading, edges: Sequence[Sequence[Sequence[int]]], num_columns: int
) -> tuple[Tensor, Tensor]:
    """Sum the attention over the columns of each edge; E the most edges of a question.

    Args:
        reading: Of B questions.
        edges: For each question and edge its columns.
        num_columns: Columns 0 … num_columns - 1 are looked from.

    Returns:
        (L, B, columns, E): what each edge gets. (B, columns, E): what it would get if all columns
        up to the one that looks got the same.
    """
    width = reading.attention.shape[-1]
    belongs_BEC = torch.zeros(len(edges), max(map(len, edges)), width)
    for row, question in enumerate(edges):
        for edge, columns in enumerate(question):
            belongs_BEC[row, edge, list(columns)] = 1
    # Rows with fewer latent positions have no such column; any other is taken, and left out later.
    from_BN = (reading.starts_B[:, None] - 1 + torch.arange(num_columns)).clamp(max=width - 1)
    looks_LBNC = reading.attention[:, torch.arange(len(edges))[:, None], from_BN]
    gets_LBNE = torch.einsum("lbnc,bec->lbne", looks_LBNC, belongs_BEC)
    return gets_LBNE, belongs_BEC.sum(-1)[:, None] / (from_BN + 1)[:, :, None]


def _collect(
    values: Values,
    subject: Subject,
    reading: Reading,
    numbers: Sequence[int],
    edges: Sequence[Sequence[Sequence[int]]],
) -> None:
    """Add what each question of a batch pays to each group, from each layer and column."""
    num_columns = int(reading.num_latents_B.max()) + 1
    gets_LBNE, uniform_BNE = attention_to_edges(reading, edges, num_columns)
    per_step = subject.reasoner.info.plan.thoughts_per_step
    depths = [depth_of(column, per_step) for column in range(num_columns)]
    is_found = [[len(columns) > 0 for columns in question] for question in edges]
    places = edge_places([subject.graphs[i] for i in numbers], is_found)
    is_there_BN = torch.arange(num_columns) <= reading.num_latents_B[:, None]
    for group, is_in_BNE in places.groups(depths).items():
        num_in_BN = is_in_BNE.sum(-1)
        keep_BN = (num_in_BN > 0) & is_there_BN
        uniform_BN = (uniform_BNE * is_in_BNE).sum(-1)
        for layer, gets_BNE in enumerate(gets_LBNE):
            sums = (gets_BNE * is_in_BNE).sum(-1), uniform_BN, num_in_BN.float()
            for column, keep_B in enumerate(keep_BN.T):
                rows = torch.stack([one_BN[keep_B, column] for one_BN in sums], dim=-1)
                values[layer, column, group] += rows.tolist()


def _rows(values: Values, thoughts_per_step: int) -> list[dict[str, Any]]:
    order = {group: place for place, group in enumerate(EDGE_GROUPS)}
    found = [(key, rows) for key, rows in values.items() if rows]
    found.sort(key=lambda one: (one[0][0], one[0][1], order[one[0][2]]))
    return [
        {"layer": layer + 1, "column": column, "depth": depth_of(column, thoughts_per_step)}
        | _means(group, rows)
        for (layer, column, group), rows in found
    ]


def _means(group: str, rows: Sequence[Sequence[float]]) -> dict[str, Any]:
    total, uniform, num_edges = zip(*rows, strict=True)
    per_edge = [paid / count for paid, count in zip(total, num_edges, strict=True)]
    edge_uniform = [paid / count for paid, count in zip(uniform, num_edges, strict=True)]
    return {
        "group": group,
        "num_questions": len(rows),
        "num_edges": round(sum(num_edges) / len(rows), 3),
        **mean_fields("per_edge", per_edge, is_share=True),
        "per_edge_uniform": round(sum(edge_uniform) / len(rows), 6),
        **mean_fields("total", total, is_share=True),
        "total_uniform": round(sum(uniform) / len(rows), 6),
    }
