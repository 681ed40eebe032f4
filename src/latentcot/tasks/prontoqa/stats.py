"""What ProntoQA data looks like in numbers: sizes, hops, and what gives the answer away.

The last statistics are shortcuts: half is what a guess gets, more is a leak. The official files
have one (the concept that is named elsewhere, 100 %): see `generator.py`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated

from latentcot.data.examples import Example
from latentcot.errors import DataError
from latentcot.tasks.prontoqa.generator import CONCEPTS, facts_and_query
from latentcot.tasks.prontoqa.prover import Statement, parse_facts, parse_query, prove
from latentcot.tasks.statistics import MeanSd, histogram, need_examples
from latentcot.utils.parsing import shown


@dataclass(frozen=True, slots=True)
class ProntoqaStats:
    """Statistics over the examples of one file; shares are between 0 and 1.

    Attributes:
        concepts: Different names of concepts in the sentences before the query.
        share_rules_negated: Rules that say "not", over all examples; 0 where there are none.
        share_true_if_negated: True answers among negated queries; 0 where there are none.
        share_true_if_plain: The same among the other queries.
        accuracy_later_rule: What one scores by believing the last of the rules about the property
            asked about, without looking at the individual.
        accuracy_named_elsewhere: What one scores by believing those of these rules whose concept
            another rule speaks of; where they disagree, or there is none, it counts half.
    """

    num_examples: Annotated[int, "examples"]
    sentences: Annotated[MeanSd, "sentences"]
    concepts: Annotated[MeanSd, "concepts"]
    hop_histogram: Annotated[dict[int, int], "hops: examples"]
    share_proved: Annotated[float, "answer proved by our prover"]
    share_true: Annotated[float, "answer True"]
    share_query_negated: Annotated[float, "query negated"]
    share_rules_negated: Annotated[float, "rules negated"]
    share_true_if_negated: Annotated[float, "True, if query negated"]
    share_true_if_plain: Annotated[float, "True, if query plain"]
    accuracy_later_rule: Annotated[float, "right by the later rule"]
    accuracy_named_elsewhere: Annotated[float, "right by the concept named elsewhere"]


@dataclass(frozen=True, slots=True)
class _Parsed:
    """One example as the prover reads it."""

    statements: list[Statement]
    query: Statement
    answer: bool
    num_hops: int
    is_proved: bool

    @classmethod
    def of(cls, example: Example) -> "_Parsed":
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
        return cls(statements, asked, answer, len(example.steps) - 1, proved is answer)

    @property
    def rules(self) -> list[Statement]:
        return [one for one in self.statements if not one.is_fact]

    @property
    def asked_rules(self) -> list[Statement]:
        """Those about the property asked about."""
        return [rule for rule in self.rules if rule.said.word == self.query.said.word]


def prontoqa_stats(examples: Sequence[Example]) -> ProntoqaStats:
    """Return the statistics of ProntoQA examples, ours or official.

    Raises:
        DataError: There is no example, or one that is not ProntoQA.
    """
    need_examples(examples)
    parsed = [_Parsed.of(example) for example in examples]
    words = [{word for s in one.statements for word in (s.subject, s.said.word)} for one in parsed]
    negated = [one for one in parsed if not one.query.said.holds]
    plain = [one for one in parsed if one.query.said.holds]
    rules = [rule for one in parsed for rule in one.rules]

    def share_true(some: Sequence[_Parsed]) -> float:
        return fmean(one.answer for one in some) if some else 0.0

    def accuracy(believed: Callable[[_Parsed], Sequence[Statement]]) -> float:
        """How often the answer is right that the believed rules give; none or both: a half."""
        scores = []
        for one in parsed:
            guesses = {rule.said == one.query.said for rule in believed(one)}
            scores.append(float(one.answer in guesses) if len(guesses) == 1 else 0.5)
        return fmean(scores)

    def named_elsewhere(one: _Parsed) -> list[Statement]:
        """Those of them whose concept another rule speaks of."""
        names = Counter(name for rule in {*one.rules} for name in {rule.subject, rule.said.word})
        return [rule for rule in one.asked_rules if names[rule.subject] > 1]

    return ProntoqaStats(
        num_examples=len(parsed),
        sentences=MeanSd.of([len(one.statements) for one in parsed]),
        concepts=MeanSd.of([len(some.intersection(CONCEPTS)) for some in words]),
        hop_histogram=histogram(one.num_hops for one in parsed),
        share_proved=fmean(one.is_proved for one in parsed),
        share_true=share_true(parsed),
        share_query_negated=len(negated) / len(parsed),
        share_rules_negated=fmean(not rule.said.holds for rule in rules) if rules else 0.0,
        share_true_if_negated=share_true(negated),
        share_true_if_plain=share_true(plain),
        accuracy_later_rule=accuracy(lambda one: one.asked_rules[-1:]),
        accuracy_named_elsewhere=accuracy(named_elsewhere),
    )
