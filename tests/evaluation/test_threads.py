"""One Reasoner, many threads: each gets what it would get alone, and nothing stays behind."""

import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

import latentcot
from latentcot import Sampling
from latentcot.models.backend import few_rows

NUM_THREADS = 8


@pytest.fixture(scope="module")
def reasoner(tiny_run: Any) -> Any:
    return latentcot.load(tiny_run)


@pytest.fixture(scope="module")
def questions(data: Any) -> list[str]:
    return [example.question for example in latentcot.read_examples(data / "test.jsonl")[:6]]


def asked(reasoner: Any, questions: list[str], number: int) -> Any:
    """What one thread asks: greedy and sampled texts, in batches of its own, and thoughts."""
    mine = questions[number % 3 :]
    drawn = Sampling(temperature=2.0, seed=number)
    return (
        reasoner.generate(mine, batch_size=1 + number % 4, num_thoughts=number % 3),
        reasoner.generate(mine, sampling=drawn),
        reasoner.think(mine, num_thoughts=1 + number % 2).thoughts.tolist(),
    )


@pytest.mark.parametrize("least", [few_rows.LARGE, 0], ids=["as it is", "all products in parts"])
def test_eight_threads_get_what_one_gets(
    reasoner: Any, questions: list[str], least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(few_rows, "LARGE", least)
    monkeypatch.setattr(few_rows, "is_amd", lambda: True)
    numbers = [number % NUM_THREADS for number in range(2 * NUM_THREADS)]
    alone = [asked(reasoner, questions, number) for number in numbers[:NUM_THREADS]]
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        together = list(threads.map(lambda number: asked(reasoner, questions, number), numbers))
    for number, found in zip(numbers, together, strict=True):
        assert found == alone[number]
    assert reasoner.model.config._attn_implementation in ("eager", "sdpa")
    assert not any("forward" in vars(module) for module in reasoner.model.modules())


@pytest.mark.slow
def test_memory_stays_flat(reasoner: Any, questions: list[str]) -> None:
    def num_tensors() -> int:
        gc.collect()
        return sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())

    def ask(times: int) -> None:
        with ThreadPoolExecutor(NUM_THREADS) as threads:
            list(threads.map(lambda number: asked(reasoner, questions, number), range(times)))

    ask(NUM_THREADS)
    before = num_tensors()
    ask(NUM_THREADS)
    assert num_tensors() <= before
