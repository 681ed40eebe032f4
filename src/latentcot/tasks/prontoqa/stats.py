"""What ProntoQA data looks like in numbers: sizes, hops, and what gives the answer away.

The last statistics are shortcuts: half is what a guess gets, more is a leak. The official files
have one (the concept that is named elsewhere, 100 %): see `tasks/prontoqa.py`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from latentcot.data.examples import Example
from latentcot.errors import DataError
from latentcot.tasks.prontoqa.generator import CONCEPTS, facts_and_query
from latentcot.tasks.prontoqa.prover import Statement, parse_facts, parse_query, prove
from latentcot.tasks.prosqa.stats import MeanSd
from latentcot.utils.parsing import shown


@dataclass(frozen=True, slots=True)
class ProntoqaStats:
    """Statistics over the examples of one file; shares are between 0 and 1.

    Attributes:
        num_examples: How many examples there are.
        sentences: Sentences before the query.
        concepts: Different names of concepts in these sentences.
        hop_histogram: Number of examples for each number of hops, in rising order.
        share_proved: Examples whose answer the prover derives.
        share_true: Examples whose answer is True.
        share_query_negated: Examples whose query says "not".
        share_rules_negated: Rules that say "not", over all examples.
        share_true_if_negated: True answers among negated queries; 0 where there are none.
        share_true_if_plain: True answers among the other queries; 0 where there are none.
        accuracy_later_rule: What one scores by believing the last of the rules about the property
            asked about, without looking at the individual.
        accuracy_named_elsewhere: What one scores by believing those of these rules whose concept
            another rule speaks of; where they disagree, or there is none, it counts half.
    """

    num_examples: int
    sentences: MeanSd
    concepts: MeanSd
    hop_histogram: dict[int, int]
    share_proved: float
    share_true: float
    share_query_negated: float
    share_rules_negated: float
    share_true_if_negated: float
    share_true_if_plain: float
    accuracy_later_rule: float
    accuracy_named_elsewhere: float


@dataclass(frozen=True, slots=True)
class _Parsed:
    """One example as the prover reads it."""

    statements: list[Statement]
    query: Statement
    answer: bool
    num_hops: int
    is_proved: bool

    @property
    def rules(self) -> list[Statement]:
        return [one for one in self.statements if not one.is_fact]

    @property
    def concepts(self) -> set[str]:
        words = {word for one in self.statements for word in (one.subject, one.said.word)}
        return words.intersection(CONCEPTS)


def prontoqa_stats(examples: Sequence[Example]) -> ProntoqaStats:
    """Return the statistics of ProntoQA examples, ours or official.

    Raises:
        DataError: There is no example, or one that is not ProntoQA.
    """
    if not examples:
        raise DataError("ProntoQA statistics: there is no example.")
    parsed = [_parse(example) for example in examples]
    negated = [one for one in parsed if not one.query.said.holds]
    plain = [one for one in parsed if one.query.said.holds]
    return ProntoqaStats(
        num_examples=len(parsed),
        sentences=_mean_sd([len(one.statements) for one in parsed]),
        concepts=_mean_sd([len(one.concepts) for one in parsed]),
        hop_histogram=dict(sorted(Counter(one.num_hops for one in parsed).items())),
        share_proved=fmean(one.is_proved for one in parsed),
        share_true=_share_true(parsed),
        share_query_negated=len(negated) / len(parsed),
        share_rules_negated=fmean(not rule.said.holds for one in parsed for rule in one.rules),
        share_true_if_negated=_share_true(negated),
        share_true_if_plain=_share_true(plain),
        accuracy_later_rule=_accuracy(parsed, _last_rule),
        accuracy_named_elsewhere=_accuracy(parsed, _rules_named_elsewhere),
    )


def _parse(example: Example) -> _Parsed:
    facts, query = facts_and_query(example)
    if example.answer not in ("True", "False"):
        raise DataError(
            f"example {example.id}: the answer must be 'True' or 'False', got "
            f"{shown(example.answer)}."
        )
    try:
        statements, asked, proved = parse_facts(facts), parse_query(query), prove(facts, query)
    except DataError as error:
        raise DataError(f"example {example.id}: {error}") from None
    answer = example.answer == "True"
    return _Parsed(statements, asked, answer, len(example.steps) - 1, proved is answer)


def _share_true(parsed: Sequence[_Parsed]) -> float:
    return fmean(one.answer for one in parsed) if parsed else 0.0


def _accuracy(
    parsed: Sequence[_Parsed], believed: Callable[[_Parsed], Sequence[Statement]]
) -> float:
    """Return how often the answer is right that the believed rules give; none or both: a half."""
    scores = []
    for one in parsed:
        guesses = {rule.said == one.query.said for rule in believed(one)}
        scores.append(float(one.answer in guesses) if len(guesses) == 1 else 0.5)
    return fmean(scores)


def _asked_rules(one: _Parsed) -> list[Statement]:
    return [rule for rule in one.rules if rule.said.word == one.query.said.word]


def _last_rule(one: _Parsed) -> list[Statement]:
    return _asked_rules(one)[-1:]


def _rules_named_elsewhere(one: _Parsed) -> list[Statement]:
    return [
        rule
        for rule in _asked_rules(one)
        if any(
            rule.subject in (other.subject, other.said.word) for other in one.rules if other != rule
        )
    ]


def _mean_sd(values: Sequence[int]) -> MeanSd:
    return MeanSd(fmean(values), pstdev(values))
