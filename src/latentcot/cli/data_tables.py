"""What data files hold, as tables: one column a file, one row a figure."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from latentcot.data.examples import Example

if TYPE_CHECKING:
    from latentcot.tasks.arithmetic.stats import ArithmeticStats
    from latentcot.tasks.custom_stats import OwnStats
    from latentcot.tasks.prontoqa.stats import ProntoqaStats
    from latentcot.tasks.prosqa.stats import GraphStats, MeanSd

Rows = list[tuple[str, str]]


def statistics_of(examples: Sequence[Example]) -> Any:
    """Return the statistics of the task that these examples are of, told by what they hold."""
    first = examples[0]
    if "query" in first.meta or "True or false" in first.question:
        from latentcot.tasks.prontoqa.stats import prontoqa_stats

        return prontoqa_stats(examples)
    if any(step.startswith("<<") for example in examples[:100] for step in example.steps):
        from latentcot.tasks.arithmetic.stats import arithmetic_stats

        return arithmetic_stats(examples)
    if "edges" in first.meta:
        from latentcot.tasks.prosqa.stats import graph_stats

        return graph_stats(examples)
    from latentcot.tasks.custom_stats import own_stats

    return own_stats(examples)


def print_statistics(title: str, columns: dict[str, Any]) -> None:
    """Print statistics of one task to standard output, one column for each file."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", *columns, title=title, title_justify="left")
    for row in zip(*map(_rows, columns.values()), strict=True):
        table.add_row(row[0][0], *[value for _, value in row])
    Console().print(table)


def as_values(statistics: Any) -> dict[str, Any]:
    """Return statistics as plain values."""
    return asdict(statistics)


def _rows(stats: Any) -> Rows:
    makers: dict[str, Callable[[Any], Rows]] = {
        "GraphStats": _graph_rows,
        "ProntoqaStats": _prontoqa_rows,
        "ArithmeticStats": _arithmetic_rows,
        "OwnStats": _own_rows,
    }
    rows = makers[type(stats).__name__](stats)
    return [("examples", f"{stats.num_examples:,}"), *rows]


def _spread(value: "MeanSd") -> str:
    return f"{value.mean:.2f} ± {value.sd:.2f}"


def _histogram(counts: dict[int, int]) -> str:
    return ", ".join(f"{key}: {count}" for key, count in counts.items())


def _graph_rows(stats: "GraphStats") -> Rows:
    return [
        ("nodes", _spread(stats.nodes)),
        ("edges", _spread(stats.edges)),
        ("hops", _spread(stats.hops)),
        ("shortest paths", _spread(stats.shortest_paths)),
        ("hops: examples", _histogram(stats.hop_histogram)),
        ("chain is a shortest path", f"{stats.share_gold_shortest:.1%}"),
        ("distractor reachable", f"{stats.share_distractor_reachable:.1%}"),
        ("answer named first", f"{stats.share_answer_first:.1%}"),
        ("right by taking the deeper", f"{stats.accuracy_deeper_candidate:.1%}"),
    ]


def _prontoqa_rows(stats: "ProntoqaStats") -> Rows:
    return [
        ("sentences", _spread(stats.sentences)),
        ("concepts", _spread(stats.concepts)),
        ("hops: examples", _histogram(stats.hop_histogram)),
        ("answer proved by our prover", f"{stats.share_proved:.1%}"),
        ("answer True", f"{stats.share_true:.1%}"),
        ("query negated", f"{stats.share_query_negated:.1%}"),
        ("True, if query negated", f"{stats.share_true_if_negated:.1%}"),
        ("right by the later rule", f"{stats.accuracy_later_rule:.1%}"),
        ("right by the concept named elsewhere", f"{stats.accuracy_named_elsewhere:.1%}"),
    ]


def _arithmetic_rows(stats: "ArithmeticStats") -> Rows:
    return [
        ("steps: examples", _histogram(stats.step_histogram)),
        ("words of a question", f"{stats.mean_question_words:.1f}"),
        ("largest number", f"{stats.largest_number:,g}"),
        ("every step exact", f"{stats.share_correct:.1%}"),
        ("answer stands in the question", f"{stats.share_answer_in_question:.1%}"),
        ("right by the most frequent answer", f"{stats.accuracy_most_frequent:.1%}"),
    ]


def _own_rows(stats: "OwnStats") -> Rows:
    return [
        ("steps: examples", _histogram(stats.step_histogram)),
        ("words of a question", f"{stats.mean_question_words:.1f}"),
        ("words of a step", f"{stats.mean_step_words:.1f}"),
        ("different answers", f"{stats.num_answers:,}"),
        ("right by the most frequent answer", f"{stats.accuracy_most_frequent:.1%}"),
    ]
