"""Where each edge of a graph stands in its question: the columns of its tokens.

`render` of `tasks/prosqa.py` writes an edge as "3 7 | ", "3 7 " or "3>7 " in symbols, and as a
sentence in words ("Every lorpus is a rorpus."). Found here by their characters, so that any
tokenizer will do.
"""

import re
from collections.abc import Sequence
from typing import Any

from latentcot.analysis.shared.subject import Subject
from latentcot.errors import UsageError
from latentcot.tasks.prosqa.generator import fact
from latentcot.tasks.prosqa.graphs import Graph

Span = tuple[int, int]
"""Characters [start, end) of a question."""


def columns_of_edges(subject: Subject) -> list[list[list[int]]]:
    """Return for each question and edge the columns of its tokens; none where it is not found.

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
        spans = (_in_words if subject.is_in_words else _in_symbols)(graph, question)
        num_in_front = len(subject.encoded[number].question) - len(offsets)
        columns.append([_columns(spans.get(edge), offsets, num_in_front) for edge in graph.edges])
    return columns


def _columns(span: Span | None, offsets: Sequence[Span], num_in_front: int) -> list[int]:
    """Return the tokens that have a character of the span."""
    if span is None:
        return []
    return [
        num_in_front + token
        for token, (start, end) in enumerate(offsets)
        if start < span[1] and end > span[0]
    ]


def _in_words(graph: Graph, question: str) -> dict[tuple[int, int], Span]:
    """Find the sentence of each edge."""
    names, spans = graph.names, {}
    begins = {sentence[0]: sentence.span() for sentence in re.finditer(r"\S[^.]*\.", question)}
    for parent, child in graph.edges:
        span = begins.get(fact(names[parent], names[child]))
        if span is not None:
            spans[parent, child] = span
    return spans


def _in_symbols(graph: Graph, question: str) -> dict[tuple[int, int], Span]:
    """Find the token of each edge, or its pair with the bar behind it."""
    words = list(re.finditer(r"\S+", question.partition("[Q]")[0]))
    if words and ">" in words[0][0]:
        told = {word[0]: word.span() for word in words}
        texts = {(a, b): f"{graph.names[a]}>{graph.names[b]}" for a, b in graph.edges}
        return {edge: told[text] for edge, text in texts.items() if text in told}
    number = {name: node for node, name in enumerate(graph.names)}
    spans, start = {}, 0
    while start + 1 < len(words):
        parent, child = words[start], words[start + 1]
        has_bar = start + 2 < len(words) and words[start + 2][0] == "|"
        last = words[start + 2] if has_bar else child
        if parent[0] in number and child[0] in number:
            spans[number[parent[0]], number[child[0]]] = parent.start(), last.end()
        start += 3 if has_bar else 2
    return spans
