"""What arithmetic data looks like in numbers, ours or GSM8k-Aug, and what a guess gets.

The last two of the statistics are shortcuts that look at no step.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated

from latentcot.data.examples import Example
from latentcot.errors import DataError
from latentcot.tasks.arithmetic.steps import check_steps, numbers_in
from latentcot.tasks.statistics import histogram, need_examples


@dataclass(frozen=True, slots=True)
class ArithmeticStats:
    """Statistics over the examples of one file; shares are between 0 and 1.

    Attributes:
        share_correct: Examples whose every step is exact and ends at the answer, without rounding.
        share_answer_in_question: Examples whose answer is a number of the question, in digits or in
            words such as "half" and "three": what copying could get at best.
        accuracy_most_frequent: What one scores by always giving the answer that is most frequent
            in this file.
    """

    num_examples: Annotated[int, "examples"]
    step_histogram: Annotated[dict[int, int], "steps: examples"]
    mean_question_words: Annotated[float, "words of a question"]
    largest_number: Annotated[float, "largest number"]
    share_correct: Annotated[float, "every step exact"]
    share_answer_in_question: Annotated[float, "answer stands in the question"]
    accuracy_most_frequent: Annotated[float, "right by the most frequent answer"]


def arithmetic_stats(examples: Sequence[Example]) -> ArithmeticStats:
    """Return the statistics of word problems.

    Raises:
        DataError: There is no example.
    """
    need_examples(examples)
    answers = Counter(example.answer.replace(",", "") for example in examples)
    largest, num_correct, num_copied = 0.0, 0, 0
    for example in examples:
        texts = [example.question, *example.steps, example.answer]
        largest = max([largest, *map(float, numbers_in(" ".join(texts)))])
        try:
            check_steps(example)
        except DataError:
            pass
        else:
            num_correct += 1
        answer = numbers_in(example.answer)[:1]
        num_copied += bool(answer) and answer[0] in numbers_in(example.question)
    return ArithmeticStats(
        num_examples=len(examples),
        step_histogram=histogram(len(example.steps) for example in examples),
        mean_question_words=fmean(len(example.question.split()) for example in examples),
        largest_number=largest,
        share_correct=num_correct / len(examples),
        share_answer_in_question=num_copied / len(examples),
        accuracy_most_frequent=answers.most_common(1)[0][1] / len(examples),
    )
