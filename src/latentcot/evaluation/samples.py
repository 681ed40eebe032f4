"""What several answers to each question are worth, for k = 1, 2, 4, … n of them.

- pass@k: whether one of k is right, estimated without bias from n of which c are right,
  1 − C(n − c, k) ÷ C(n, k) (arXiv 2107.03374, section 2.1). pass@n is called coverage.
- Vote: whether the answer that most of k agree on is right, the mean over the n // k runs of k
  samples that stand side by side. Two answers are the same if the task's rule says so; a text
  without an answer has no vote; of equally many votes the answer that came first wins.
- Best: whether the one of k that a scorer finds best is right (`scorer.py`), the mean over the same
  runs.

Each is a share for each question, and `share_interval` holds for the mean of shares.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from math import comb
from statistics import fmean
from typing import Any

from latentcot.evaluation.reasoner import Options
from latentcot.evaluation.results import AtK, Estimate, Record, Sample, Sampled
from latentcot.evaluation.statistics import share_interval


def pass_at_k(num_samples: int, num_right: int, k: int) -> float:
    """Return the share of the choices of k of n samples that hold a right one, 1 ≤ k ≤ n."""
    return 1 - comb(num_samples - num_right, k) / comb(num_samples, k)


def vote(answers: Sequence[str], is_same: Callable[[str, str], bool]) -> int:
    """Return the number of the first sample that gave the answer with the most votes.

    Args:
        answers: At least one, in the order of the samples; empty where a text had none.
        is_same: (an answer, an earlier one) → whether they say the same.
    """
    firsts: list[int] = []
    votes = Counter[int]()
    for number, answer in enumerate(answers):
        if not answer:
            continue
        known = (i for i in firsts if answer == answers[i] or is_same(answer, answers[i]))
        first = next(known, number)
        if first == number:
            firsts.append(number)
        votes[first] += 1
    return max(firsts, key=lambda first: votes[first], default=0)  # the first of equals


def at_each_k(records: Sequence[Record], is_same: Callable[[str, str], bool]) -> tuple[AtK, ...]:
    """Return what k samples of each question are worth and cost; all have as many samples."""
    n = len(records[0].samples)
    every = [sample for record in records for sample in record.samples]
    tokens, passes = fmean(s.num_tokens for s in every), fmean(s.num_passes for s in every)
    scored = all(sample.score is not None for sample in every)

    def of_vote(run: Sequence[Sample]) -> int:
        return vote([sample.answer for sample in run], is_same)

    def of_score(run: Sequence[Sample]) -> int:
        return max(range(len(run)), key=lambda number: run[number].score or 0.0)

    return tuple(
        AtK(
            k=k,
            pass_at_k=_mean(
                [pass_at_k(n, sum(s.is_correct for s in one.samples), k) for one in records]
            ),
            vote=_mean([_of_runs(one.samples, k, of_vote) for one in records]),
            tokens=k * tokens,
            passes=k * passes,
            best=_mean([_of_runs(one.samples, k, of_score) for one in records]) if scored else None,
        )
        for k in (*(2**i for i in range((n - 1).bit_length())), n)
    )


def _of_runs(samples: Sequence[Sample], k: int, choose: Callable[[Sequence[Sample]], int]) -> float:
    """Return how often what is chosen of k samples side by side is right."""
    runs = [samples[start : start + k] for start in range(0, len(samples) - k + 1, k)]
    return fmean(run[choose(run)].is_correct for run in runs)


def _mean(shares: Sequence[float]) -> Estimate:
    value, num = fmean(shares), len(shares)
    return Estimate(value, *share_interval(value, num), num)


def sampled_of(
    records: Sequence[Record], options: Options, is_same: Callable[[str, str], bool]
) -> Sampled:
    """Return what samples are worth, and how they were drawn."""
    sampling, perturbation = options.get("sampling"), options.get("perturbation")
    drawn: dict[str, Any] = {} if perturbation is None else asdict(perturbation)
    if sampling is not None:
        words = asdict(sampling)
        drawn |= {"word_seed": words.pop("seed")} | words
    return Sampled(len(records[0].samples), at_each_k(records, is_same), **drawn)
