"""Best of n: a small scorer of samples, trained on the thoughts of other questions.

    score = a + w · [mean over latent positions of the latent input, mean log-probability of a word]

It estimates whether a sample's answer is right, by logistic regression on the samples of a file of
questions that are not those of the evaluation; of k samples the one with the highest score is the
answer. arXiv 2510.07745 scores each thought with a reward model as large as the reasoner; this is
the smallest scorer that reads thoughts, and it costs no pass.

Features are standardised, and weights pay ‖w‖² ÷ 2 beside the sum of the losses of all samples.
Shapes: S samples, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from latentcot.data.examples import Example
from latentcot.errors import UsageError
from latentcot.evaluation.reasoner import Options, Reasoner
from latentcot.tasks import AnswerMatch, task_named
from latentcot.thinking.decoding import Generation

MOST_STEPS = 200
"""Of L-BFGS, which needs far fewer."""


@dataclass(frozen=True)
class Scorer:
    """A trained scorer.

    Attributes:
        mean: (F,). Of each feature in training.
        spread: (F,). Its standard deviation there; 1 where it was the same everywhere.
        weights: (F,). Of standardised features.
        bias: (). The score of a sample of mean features.
    """

    mean: Tensor
    spread: Tensor
    weights: Tensor
    bias: Tensor

    def scores(self, generations: Sequence[Generation]) -> list[float]:
        """Return the score of each sample: the log-odds that its answer is right."""
        standard_SF = (_features(generations) - self.mean) / self.spread
        scores: list[float] = (standard_SF @ self.weights + self.bias).tolist()
        return scores


def train_scorer(
    reasoner: Reasoner,
    examples: Sequence[Example],
    *,
    num_thoughts: int | None = None,
    match: AnswerMatch | None = None,
    **options: Unpack[Options],
) -> Scorer:
    """Train a scorer on the samples of other questions than those that it will score.

    Args:
        reasoner: Whose samples it will score.
        examples: With gold answers.
        num_thoughts: As it will be there, and so the rest.
        match: When an answer counts as right, instead of the task's rule.
        **options: How answers are written, and what is drawn.

    Raises:
        UsageError: There are not several samples, or all of them are right or all wrong.
    """
    num_samples = options.get("num_samples", 1)
    if num_samples < 2:
        raise UsageError(f"scorer: chooses among 2 samples or more, got {num_samples}.")
    task = task_named(reasoner.info.task if match is None else match)
    generations: list[Generation] = []
    options["generations"] = generations
    outputs = reasoner.answer(reasoner.encode(examples), num_thoughts=num_thoughts, **options)
    golds = [example.answer for example in examples for _ in range(num_samples)]
    pairs = zip(outputs, golds, strict=True)
    return fit_scorer(generations, [task.is_correct(one.answer, gold) for one, gold in pairs])


def fit_scorer(generations: Sequence[Generation], are_right: Sequence[bool]) -> Scorer:
    """Train a scorer.

    Args:
        generations: Samples, as `thinking.decoding.generate` writes them.
        are_right: Whether the answer of each is right.

    Raises:
        UsageError: All of them are right, or none is.
    """
    num_right, num_all = sum(are_right), len(are_right)
    if num_right in (0, num_all):
        raise UsageError(
            f"scorer: learns what right answers have that wrong ones have not, but {num_right} of "
            f"its {num_all} samples are right. Give other questions, or more or less noise."
        )
    features_SF = _features(generations)
    mean, spread = features_SF.mean(0), features_SF.std(0, correction=0)
    spread = torch.where(spread > 0, spread, 1.0)
    standard_SF = (features_SF - mean) / spread
    right_S = torch.tensor(are_right, dtype=torch.float64)
    both = torch.zeros(features_SF.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [both], max_iter=MOST_STEPS, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits_S = standard_SF @ both[1:] + both[0]
        total = binary_cross_entropy_with_logits(logits_S, right_S, reduction="sum")
        total = total + both[1:].square().sum() / 2
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    found = both.detach()
    return Scorer(mean, spread, found[1:], found[0])


def _features(generations: Sequence[Generation]) -> Tensor:
    """Return what a scorer sees of each sample: (S, F)."""
    rows = []
    for one in generations:
        num = max(1, len(one.latent_inputs))  # a sample may have no thought
        thought = one.latent_inputs.double().sum(0) / num
        rows.append(torch.cat([thought, torch.tensor([one.log_prob], dtype=torch.float64)]))
    return torch.stack(rows)
