"""What data looks like in numbers: figures with their labels, and what holds for data of any task.

Statistics are a dataclass of figures. `latentcot data stats` prints a line for each that has a
label, `Annotated[float, "answer named first"]`, and all of them as JSON. Shares and accuracies, by
their names, are printed in per cent.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Annotated, Any, get_type_hints

from latentcot.data.examples import Example
from latentcot.errors import DataError


@dataclass(frozen=True, slots=True)
class MeanSd:
    """A mean with the standard deviation over the examples."""

    mean: float
    sd: float

    @classmethod
    def of(cls, values: Sequence[int]) -> "MeanSd":
        """Return those of some values."""
        return cls(fmean(values), pstdev(values))


def histogram(values: Iterable[int]) -> dict[int, int]:
    """Return how often each value occurs, in rising order of the values."""
    return dict(sorted(Counter(values).items()))


def need_examples(examples: Sequence[Example]) -> None:
    """Refuse to count nothing.

    Raises:
        DataError: There is no example.
    """
    if not examples:
        raise DataError("statistics: there is no example.")


def rows_of(statistics: Any) -> list[tuple[str, str]]:
    """Return the figures that have a label, each with its label, as texts."""
    rows = []
    for name, hint in get_type_hints(type(statistics), include_extras=True).items():
        value = getattr(statistics, name)
        if isinstance(value, MeanSd):
            text = f"{value.mean:.2f} ± {value.sd:.2f}"
        elif isinstance(value, dict):
            text = ", ".join(f"{key}: {count}" for key, count in value.items())
        elif name.startswith(("share", "accuracy")):
            text = f"{value:.1%}"
        else:
            text = f"{value:,.1f}".removesuffix(".0") if isinstance(value, float) else f"{value:,}"
        rows += [(label, text) for label in getattr(hint, "__metadata__", ())]
    return rows


@dataclass(frozen=True, slots=True)
class CustomStats:
    """Statistics over the examples of one file of any task; histograms: value → examples.

    The accuracy, 0 … 1, is that of always giving the answer that is most frequent in this file.
    """

    num_examples: Annotated[int, "examples"]
    step_histogram: Annotated[dict[int, int], "steps: examples"]
    mean_question_words: Annotated[float, "words of a question"]
    mean_step_words: Annotated[float, "words of a step"]
    num_answers: Annotated[int, "different answers"]
    accuracy_most_frequent: Annotated[float, "right by the most frequent answer"]


def custom_stats(examples: Sequence[Example]) -> CustomStats:
    """Return the statistics of any examples.

    Raises:
        DataError: There is no example.
    """
    need_examples(examples)
    answers = Counter(example.answer for example in examples)
    steps = [len(step.split()) for example in examples for step in example.steps]
    return CustomStats(
        num_examples=len(examples),
        step_histogram=histogram(len(one.steps) for one in examples),
        mean_question_words=fmean(len(example.question.split()) for example in examples),
        mean_step_words=fmean(steps) if steps else 0.0,
        num_answers=len(answers),
        accuracy_most_frequent=answers.most_common(1)[0][1] / len(examples),
    )
