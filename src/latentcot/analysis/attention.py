"""Which edges of the question's graph the model looks at while it thinks (arXiv 2505.12514).

*Column i* holds thought i and computes the next one: latent position i for i ≥ 1, and for i = 0 the
last position before latent position 1. An edge is told by two or three columns: "3 7" and the bar
behind it, or the sentence with its full stop. *Uniform* is what it would get if every column that
can be seen got the same. All columns are read once more in one pass, with what was fed into the
latent positions, since only the plain ("eager") attention of transformers tells its weights.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from latentcot.analysis.shared import style
from latentcot.analysis.shared.latents import MEANING, Chains, record, tables_of, with_latents
from latentcot.analysis.shared.node_groups import EDGE_GROUPS, depth_of, edge_places
from latentcot.analysis.shared.statistics import Row, Rows, mean_fields
from latentcot.analysis.shared.subject import Progress, Subject, no_progress
from latentcot.curriculum.layout import Layout
from latentcot.errors import DataError, UsageError
from latentcot.models.backend.split_cache import attends_by
from latentcot.models.ways import backbone_of, lock_of
from latentcot.tasks.prosqa.generator import fact

MAX_PARAMETERS = 50_000_000
MAX_HEADS = 256
"""Layers × heads."""
MAX_WEIGHTS = 2**26
"""Attention weights that one pass may keep: 256 MiB."""

Span = tuple[int, int]
"""Characters [start, end) of a question."""
Values = defaultdict[tuple[int, int, str], list[list[float]]]
"""(layer from 0, column, group) → (attention to all such edges, its uniform, their number) for each
question that has any."""


def measure(subject: Subject, on_progress: Progress = no_progress) -> Row:
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
    num_found = sum(len(columns) > 0 for question in edges for columns in question)
    num_edges = sum(map(len, edges))
    if num_found == 0:
        raise DataError(
            f"attention: no edge of any graph is found in its question, such as "
            f"{subject.examples[0].question[:60]!r}. They must be told as in docs/data-format.md."
        )
    values, chains, layouts = Values(list), record(subject), subject.prompts()
    config = subject.reasoner.model.config
    for batch in subject.batches(layouts):
        # As many at a time as have room for their weights.
        longest = max(len(layouts[i].prefix) + layouts[i].num_latents for i in batch)
        weights = config.num_hidden_layers * config.num_attention_heads * longest**2
        size = max(1, MAX_WEIGHTS // weights)
        for start in range(0, len(batch), size):
            numbers = batch[start : start + size]
            reading = read_again(subject, chains, layouts, numbers)
            _collect(values, subject, reading, numbers, [edges[i] for i in numbers])
            on_progress(len(numbers))
    order, found = list(EDGE_GROUPS), Rows()
    per_step = subject.reasoner.info.plan.thoughts_per_step
    for layer, column, group in sorted(values, key=lambda key: (*key[:2], order.index(key[2]))):
        rows = values[layer, column, group]
        if not rows:
            continue
        total, uniform, counts = zip(*rows, strict=True)
        per_edge = [paid / count for paid, count in zip(total, counts, strict=True)]
        edge_uniform = [paid / count for paid, count in zip(uniform, counts, strict=True)]
        found.append(
            {
                "layer": layer + 1,
                "column": column,
                "depth": depth_of(column, per_step),
                "group": group,
                "num_questions": len(rows),
                "num_edges": round(sum(counts) / len(rows), 3),
                **mean_fields("per_edge", per_edge, lowest=0.0, highest=1.0),
                "per_edge_uniform": round(sum(edge_uniform) / len(rows), 6),
                **mean_fields("total", total, lowest=0.0, highest=1.0),
                "total_uniform": round(sum(uniform) / len(rows), 6),
            }
        )
    return {
        "method": subject.reasoner.info.method_name,
        "num_questions": len(subject.examples),
        "num_thoughts": subject.most_thoughts,
        "thoughts": MEANING[has_thoughts],
        "column": "0: the last position before the latent ones; i: the position of thought i",
        "depth": "⌈i / thoughts per step⌉ for column i",
        "definitions": EDGE_GROUPS,
        "num_edges": num_edges,
        "num_edges_left_out": num_edges - num_found,
        "columns": found,
    }


def refuse_large(subject: Subject, name: str = "attention") -> None:
    """Make sure that the weights of all heads can be kept, for the analysis of this name.

    Raises:
        UsageError: The model is too large.
    """
    model = subject.reasoner.model
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    num_heads = model.config.num_hidden_layers * model.config.num_attention_heads
    if num_parameters > MAX_PARAMETERS or num_heads > MAX_HEADS:
        raise UsageError(
            f"{name}: is for small models, at most {MAX_PARAMETERS:,} parameters and "
            f"{MAX_HEADS} heads in all layers, got {num_parameters:,} and {num_heads}. Leave it "
            "out, with --only and the names of the others."
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """What one pass over question and latent positions gives; C columns, L layers."""

    states: Tensor  # (B, C, D). The last hidden states.
    attention: Tensor  # (L, B, C, C). From each column to each, the mean over heads.
    starts_B: Tensor  # the column of latent position 1
    num_latents_B: Tensor  # how many latent positions each question has


@torch.no_grad()
def read_again(
    subject: Subject, chains: Chains, layouts: Sequence[Layout], numbers: Sequence[int]
) -> Reading:
    """Read questions and what is in their latent positions in one pass, with all attention weights.

    Pads stand on the right, where no real column sees them.

    `subject` is one of `with_latents`; `chains` and `layouts` are of all of its questions.
    """
    model = subject.reasoner.model
    table, rows = model.get_input_embeddings(), []
    for number in numbers:
        prefix_QD = table(torch.tensor(layouts[number].prefix, device=model.device))
        fed_ND = chains.latent_inputs[number, : chains.num_latents[number]]
        rows.append(torch.cat([prefix_QD, fed_ND.to(prefix_QD.device)]))
    backbone = backbone_of(model)
    with lock_of(backbone), attends_by(backbone.config, "eager"):
        found = backbone(
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


def columns_of_edges(subject: Subject) -> list[list[list[int]]]:
    """Return for each question and edge the columns of its tokens; none where it is not found.

    An edge is written as "3 7 | ", "3 7 " or "3>7 " in symbols, and as a sentence in words ("Every
    lorpus is a rorpus."). It is found by its characters, so that any tokenizer will do.
    Columns count from the beginning of the sequence, tokens in front of the question included.

    Raises:
        UsageError: The tokenizer cannot tell where its tokens come from.
        DataError: A question carries no graph.
    """
    tokenizer = subject.reasoner.tokenizer
    if not tokenizer.is_fast:
        raise UsageError(
            f"attention: needs a fast tokenizer, which tells where its tokens stand in the text, "
            f"got {type(tokenizer).__name__}. Use another checkpoint."
        )
    texts = [e.question + subject.reasoner.info.template.question_end for e in subject.examples]
    found: Any = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    columns = []
    for number, offsets in enumerate(found["offset_mapping"]):
        graph, question = subject.graphs[number], subject.examples[number].question
        names, spans = graph.names, dict[tuple[int, int], Span]()
        words = list(re.finditer(r"\S+", question.partition("[Q]")[0]))
        is_in_words = subject.is_in_words
        if is_in_words or (words and ">" in words[0][0]):  # a sentence, or a token
            told = re.finditer(r"\S[^.]*\.", question) if is_in_words else words
            where = {match[0]: match.span() for match in told}
            for a, b in graph.edges:
                text = fact(names[a], names[b]) if is_in_words else f"{names[a]}>{names[b]}"
                if text in where:
                    spans[a, b] = where[text]
        else:  # a pair, and the bar behind it
            node, start = {name: node for node, name in enumerate(names)}, 0
            while start + 1 < len(words):
                parent, child = words[start], words[start + 1]
                has_bar = start + 2 < len(words) and words[start + 2][0] == "|"
                last = words[start + 2] if has_bar else child
                if parent[0] in node and child[0] in node:
                    spans[node[parent[0]], node[child[0]]] = parent.start(), last.end()
                start += 3 if has_bar else 2
        num_in_front = len(subject.encoded[number].question) - len(offsets)
        columns.append(
            [
                [
                    num_in_front + token
                    for token, (start, end) in enumerate(offsets)
                    if edge in spans and start < spans[edge][1] and end > spans[edge][0]
                ]
                for edge in graph.edges
            ]
        )
    return columns


def attention_to_edges(
    reading: Reading, edges: Sequence[Sequence[Sequence[int]]], num_columns: int
) -> tuple[Tensor, Tensor]:
    """Sum the attention over the columns of each edge, seen from columns 0 … num_columns - 1.

    Returns:
        (L, B, num_columns, E) for the most edges E of a question: what each edge gets, a mean over
        heads. (B, num_columns, E): what it would get if all columns
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


# --- drawing ----------------------------------------------------------------------------------

PANELS_A_ROW = 4


def tables(result: Mapping[str, Any]) -> dict[str, Rows]:
    """Return the rows of the CSV files, by their names."""
    return tables_of(result, attention="columns")


def draw(result: Mapping[str, Any]) -> Figure:
    """Draw the attention that an edge of each group gets: a panel for each layer."""
    rows = result["columns"]
    layers = sorted({row["layer"] for row in rows})
    down = ceil(len(layers) / PANELS_A_ROW)
    width = style.COLUMN if len(layers) == 1 else 2 * style.COLUMN
    with style.figure(width, 0.5 + 1.8 * down) as fig:
        panels = style.panel_grid(
            fig, len(layers), PANELS_A_ROW, "latent position (0: before the first)"
        )
        for panel, layer in zip(panels, layers, strict=True):
            chosen = [row for row in rows if row["layer"] == layer]
            style.draw_groups(panel, chosen, "column", "per_edge")
            style.draw_uniform(panel, chosen, "column", "per_edge_uniform", "all positions alike")
            panel.set_title(f"layer {layer}")
        panels[0].set(ylabel="attention to an edge", ylim=(0, None))
        style.legend(fig, panels[:1], 3 if len(layers) > 1 else 2)
    return fig
