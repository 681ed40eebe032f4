"""Questions with graphs that several tests ask."""

import pytest
import torch

from fresh import fresh_subject, prosqa, subject_of
from latentcot import read_examples
from latentcot.analysis.shared.subject import Subject
from latentcot.methods import Plan


@pytest.fixture
def symbols(babbler, data):
    """In symbols, with a trained model."""
    return subject_of(babbler, read_examples(data / "test.jsonl"))


@pytest.fixture
def subject(symbols):
    return symbols


@pytest.fixture(scope="module")
def uneven():
    """One to three latent positions a question, and a model that was never trained."""
    short, long = prosqa("two-family", 3, layers=1), prosqa("two-family", 4, layers=3)
    examples = [long[0], short[0], long[1], short[1], long[2], short[2], long[3]]
    return fresh_subject(examples, num_stages=3, plan=Plan(3, pad_to_num_stages=False))


@pytest.fixture
def fed(monkeypatch):
    """A function () → what stood in the latent positions for the newest answers: (Q, N, D)."""
    seen, original = {}, Subject.answers

    def answers(self, *args, update_for=None, **options):
        seen.clear()
        for numbers, rollout in self.rollouts(update_for=update_for):
            seen.update(zip(numbers, rollout.latent_inputs, strict=True))
        return original(self, *args, update_for=update_for, **options)

    monkeypatch.setattr(Subject, "answers", answers)
    return lambda: torch.stack([seen[i] for i in range(len(seen))])
