"""Broken files of every kind end in an error of ours, or in something that can be used.

The readers and the mutations are those of benchmarks/fuzz.py, which runs 100,000 inputs; here are a
few of them, and those that fail are made smaller.
"""

import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from latentcot.errors import DataError
from marks import mostly_slow

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from fuzz import Fuzzer
from fuzz_mutations import mutated
from fuzz_readers import ACCEPTED, READERS, REFUSED, Reader, attempt
from fuzz_samples import all_samples

# A warning of torch or of `re` about what a file holds is no failure of ours.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Fuzzer:
    work = tmp_path_factory.mktemp("fuzz")
    (work / "made").mkdir()
    return Fuzzer(all_samples(work / "made"), work, seconds=60)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_a_sample_as_it_is_is_accepted(reader: Reader, fuzzer: Fuzzer, tmp_path: Path) -> None:
    """Otherwise the fuzzer would look at nothing but refusals."""
    for number, sample in enumerate(fuzzer.samples[reader.name]):
        for path, content in sample.files.items():
            file = tmp_path / str(number) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        assert attempt(reader, tmp_path / str(number)) == ACCEPTED


@pytest.mark.parametrize(
    "reader", mostly_slow(READERS, *READERS[::2]), ids=lambda reader: reader.name
)
@given(data=st.data())
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_only_our_own_errors(reader: Reader, fuzzer: Fuzzer, data: st.DataObject) -> None:
    verdict = fuzzer.put(reader, data.draw)
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


def test_a_failure_is_kept(fuzzer: Fuzzer, tmp_path: Path) -> None:
    failing = Reader("overrides", 1, raising(KeyError("a")).read, "")
    finding = Fuzzer(fuzzer.samples, tmp_path / "work", tmp_path / "out")

    @settings(max_examples=1, database=None)
    @given(st.data())
    def put(data: st.DataObject) -> None:
        assert "KeyError" in finding.put(failing, data.draw, "12")

    put()
    kept = tmp_path / "out" / "overrides-12"
    assert (kept / "overrides").exists()
    assert "KeyError" in (kept / "failure.txt").read_text()


@pytest.mark.parametrize("form", mostly_slow(["json", "jsonl", "yaml", "text", "binary"], "json"))
def test_mutations_change_something_and_depend_on_the_seed_alone(form: Any) -> None:
    content = b'{"a": [1, 2.5, null], "b": {"c": "text"}}\n{"d": true}\n'
    found: list[list[bytes]] = []
    for _ in range(2):
        found.append([])

        @seed(1)
        @settings(max_examples=100, phases=[Phase.generate], database=None, deadline=None)
        @given(mutated(content, form))
        def put(changed: bytes) -> None:
            found[-1].append(changed)

        put()
    assert found[0] == found[1]
    assert len(set(found[0])) > 50 and found[0].count(content) < 10
