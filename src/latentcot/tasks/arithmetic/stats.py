"""What arithmetic data looks like in numbers, ours or GSM8k-Aug, and what a guess gets.

The last two of the statistics are shortcuts that look at no step.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import fmean

from latentcot.data.examples import Example
from latentcot.errors import DataError
from latentcot.tasks.arithmetic.steps import check_steps, numbers_in


@dataclass(frozen=True, slots=True)
class ArithmeticStats:
    """Statistics over the examples of one file; shares are between 0 and 1.

    Attributes:
        num_examples: How many examples there are.
        step_histogram: Number of examples for each number of steps, in rising order.
        mean_question_words: Words of a question, as blanks part them.
        largest_number: The largest number in questions, steps and answers.
        share_correct: Examples whose every step is exact and ends at the answer, without rounding.
        share_answer_in_question: Examples whose answer is a number of the question, in digits or in
            words such as "half" and "three": what copying could get at best.
        accuracy_most_frequent: What one scores by always giving the answer that is most frequent
            in this file.
    """

    num_examples: int
    step_histogram: dict[int, int]
    mean_question_words: float
    largest_number: float
    share_correct: float
    share_answer_in_question: float
    accuracy_most_frequent: float


def arithmetic_stats(examples: Sequence[Example]) -> ArithmeticStats:
    """Return the statistics of word problems.

    Raises:
        DataError: There is no example.
    """
    if not examples:
        raise DataError("arithmetic statistics: there is no example.")
    answers = Counter(example.answer.replace(",", "") for example in examples)
    histogram = Counter(len(example.steps) for example in examples)
    return ArithmeticStats(
        num_examples=len(examples),
        step_histogram=dict(sorted(histogram.items())),
        mean_question_words=fmean(len(example.question.split()) for example in examples),
        largest_number=float(max((n for one in examples for n in _all_numbers(one)), default=0)),
        share_correct=fmean(_is_correct(example) for example in examples),
        share_answer_in_question=fmean(_is_in_question(example) for example in examples),
        accuracy_most_frequent=answers.most_common(1)[0][1] / len(examples),
    )


def _all_numbers(example: Example) -> list[Fraction]:
    return numbers_in(" ".join([example.question, *example.steps, example.answer]))


def _is_correct(example: Example) -> bool:
    try:
        check_steps(example)
    except DataError:
        return False
    return True


def _is_in_question(example: Example) -> bool:
    answer = numbers_in(example.answer)
    return bool(answer) and answer[0] in numbers_in(example.question)
