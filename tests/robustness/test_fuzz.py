"""Broken files of every kind end in an error of ours, or in something that can be used.

The readers and the mutations are those of benchmarks/fuzz.py, which runs 100,000 inputs; here
hypothesis draws a few of them, and makes those that fail smaller.
"""

import re
import sys
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latentcot.errors import DataError

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from fuzz import Fuzzer
from fuzz_mutations import mutated
from fuzz_readers import ACCEPTED, READERS, REFUSED, Reader, attempt, warm_up
from fuzz_samples import all_samples

# A warning of torch or of `re` about what a file holds is no failure of ours.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Fuzzer:
    work = tmp_path_factory.mktemp("fuzz")
    (work / "made").mkdir()
    warm_up()
    return Fuzzer(all_samples(work / "made"), seed=0, work=work, seconds=60)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_a_sample_as_it_is_is_accepted(reader: Reader, fuzzer: Fuzzer, tmp_path: Path) -> None:
    """Otherwise the fuzzer would look at nothing but refusals."""
    for number, sample in enumerate(fuzzer.samples[reader.name]):
        for path, content in sample.files.items():
            file = tmp_path / str(number) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        assert attempt(reader, tmp_path / str(number)) == ACCEPTED


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
@given(rng=st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_only_our_own_errors(reader: Reader, fuzzer: Fuzzer, rng: Random) -> None:
    verdict = fuzzer.run_drawn(reader, rng)
    assert verdict in (ACCEPTED, REFUSED), verdict


# --- the fuzzer itself ---


def raising(error: BaseException) -> Any:
    def read(folder: Path) -> None:
        raise error

    return Reader("odd", 1, read, r"file\.json")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("a"), "KeyError at .*'a'"),
        (RecursionError("deep"), "RecursionError at .*deep"),
        (DataError("something is wrong."), "does not name what is wrong"),
        (DataError("file.json: " + "x" * 4_000), "a message of 4011 characters"),
        (DataError("file.json: \x1b[31mred"), r"a message with '\\x1b'"),
        (DataError("file.json: \ud800"), r"a message with '\\ud800'"),
    ],
)
def test_it_finds(tmp_path: Path, error: Exception, words: str) -> None:
    assert re.search(words, attempt(raising(error), tmp_path))


def test_it_finds_what_hangs(tmp_path: Path) -> None:
    def read(folder: Path) -> None:
        while True:  # at work: the limit is one of CPU time
            with suppress(Exception):
                sum(range(1_000))

    reader = Reader("slow", 1, read, "")
    assert attempt(reader, tmp_path, seconds=0.01) == "takes more than 0.01 seconds"


def test_an_error_of_ours_is_a_refusal(tmp_path: Path) -> None:
    assert attempt(raising(DataError("file.json: is empty.")), tmp_path) == REFUSED


def test_a_failure_is_kept_and_can_be_run_again(fuzzer: Fuzzer, tmp_path: Path) -> None:
    work, out = tmp_path / "work", tmp_path / "out"
    failing = Reader("overrides", 1, raising(KeyError("a")).read, "")
    fuzz = Fuzzer(fuzzer.samples, seed=5, work=work, out=out)
    assert "KeyError" in fuzz.run(failing, 12)
    kept = (out / "overrides-12" / "overrides").read_bytes()
    assert "KeyError" in (out / "overrides-12" / "failure.txt").read_text()
    again = Fuzzer(fuzzer.samples, seed=5, work=tmp_path / "again", out=tmp_path / "out-2")
    again.run(failing, 12)
    assert (tmp_path / "out-2" / "overrides-12" / "overrides").read_bytes() == kept


@pytest.mark.parametrize("form", ["json", "jsonl", "yaml", "text", "binary"])
def test_mutations_change_something_and_depend_on_the_seed_alone(form: Any) -> None:
    content = b'{"a": [1, 2.5, null], "b": {"c": "text"}}\n{"d": true}\n'
    found = [mutated(Random(seed), content, form) for seed in range(200)]
    assert found == [mutated(Random(seed), content, form) for seed in range(200)]
    assert len(set(found)) > 100 and found.count(content) < 20
