"""Questions with graphs that several tests ask."""

import pytest

from fresh import fresh_subject, prosqa, subject_of
from latentcot import read_examples
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
