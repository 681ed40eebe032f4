"""What data of one's own looks like in numbers: nothing is known of it but its form."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from latentcot.data.examples import Example
from latentcot.errors import DataError


@dataclass(frozen=True, slots=True)
class OwnStats:
    """Statistics over the examples of one file.

    Attributes:
        num_examples: How many examples there are.
        step_histogram: Number of examples for each number of steps, in rising order.
        mean_question_words: Words of a question, as blanks part them.
        mean_step_words: Words of a step.
        num_answers: Different answers.
        accuracy_most_frequent: What one scores by always giving the answer that is most frequent
            in this file, 0 … 1.
    """

    num_examples: int
    step_histogram: dict[int, int]
    mean_question_words: float
    mean_step_words: float
    num_answers: int
    accuracy_most_frequent: float


def own_stats(examples: Sequence[Example]) -> OwnStats:
    """Return the statistics of any examples.

    Raises:
        DataError: There is no example.
    """
    if not examples:
        raise DataError("statistics: there is no example.")
    answers = Counter(example.answer for example in examples)
    steps = [len(step.split()) for example in examples for step in example.steps]
    return OwnStats(
        num_examples=len(examples),
        step_histogram=dict(sorted(Counter(len(one.steps) for one in examples).items())),
        mean_question_words=fmean(len(example.question.split()) for example in examples),
        mean_step_words=fmean(steps) if steps else 0.0,
        num_answers=len(answers),
        accuracy_most_frequent=answers.most_common(1)[0][1] / len(examples),
    )
