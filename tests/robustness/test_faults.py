"""The fault campaign, a dozen of its cases; benchmarks/faults.py runs hundreds."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from latentcot.runs.checkpoint_folders import checkpoint_folders

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
LAST_LINE = re.compile(r"(\d+) kills, (\d+) other faults, (\d+) lost")
# Kills that chance seldom hits, and faults that other tests do not have.
FEW = (
    "exact kill/4",  # an old checkpoint is being deleted
    "checkpoint file damaged/26",
    "named file fails/0",
)
OTHERS = (
    "kill/0",
    "exact kill/2",  # the first checkpoint has got its name, and nothing more was done
    "exact kill/8",  # a damaged one was set aside
    "exact kill/12",  # best.json is missing
    "run file damaged/6",
    "all checkpoints damaged/4",
    "operation fails/2",
    "disk too small/0",
    "second process/0",
)
WITHOUT_CHECKSUMS = """
import sys
from latentcot.runs import checkpoint as checkpoints
checkpoints.verify = lambda *args, **kwargs: False
sys.argv = sys.argv[1:]
import faults
faults.main()
"""


def run(*words: object) -> subprocess.CompletedProcess[str]:
    paths = [str(BENCHMARKS), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )


def last_line(done: subprocess.CompletedProcess[str]) -> list[int]:
    [*_, line] = done.stdout.splitlines() or [""]
    found = LAST_LINE.fullmatch(line)
    assert found, done.stdout + done.stderr
    return [int(number) for number in found.groups()]


def cases(*names: str) -> list[str]:
    return [word for name in names for word in ("--case", name)]


@pytest.mark.slow  # training/test_resume.py has quick ones
@pytest.mark.parametrize(
    ("names", "least", "others"), [(FEW, 1, 2), (OTHERS, 3, 5)], ids=["few", "others"]
)
def test_nothing_is_lost(names: tuple[str, ...], least: int, others: int, tmp_path: Path) -> None:
    out = tmp_path / "faults.json"
    done = run(BENCHMARKS / "faults.py", *cases(*names), "--jobs", 1, "--out", out)
    kills, faults, lost = last_line(done)
    assert lost == 0 and done.returncode == 0, done.stderr
    assert kills >= least and faults == others
    assert {"provenance", "asked", "kinds"} <= json.loads(out.read_text()).keys()


@pytest.mark.slow
def test_what_is_lost_is_told(tmp_path: Path) -> None:
    case = "checkpoint file damaged/27"  # a byte of the weights; nothing but its hash shows it
    done = run("-c", WITHOUT_CHECKSUMS, "", *cases(case), "--out", tmp_path / "faults.json")
    assert last_line(done) == [0, 1, 1]
    assert done.returncode == 1
    assert case in done.stderr
    assert (tmp_path / "lost-checkpoint-file-damaged-27" / "run" / "recipe.yaml").exists()


# --- a campaign that cannot find anything would be worth nothing ------------------------------


def lose_a_checkpoint(run: Path) -> None:
    shutil.rmtree(checkpoint_folders(run)[0])


def change_weights(run: Path) -> None:
    path = checkpoint_folders(run)[-1] / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def change_optimizer(run: Path) -> None:
    path = checkpoint_folders(run)[-1] / "training_state.pt"
    state = torch.load(path, weights_only=True)
    next(iter(state["optimizer"]["state"].values()))["exp_avg"].view(-1)[0] += 1e-6
    torch.save(state, path)


def change_best(run: Path) -> None:
    (run / "checkpoints" / "best.json").write_text('{"checkpoint": "update-00000001"}')


def lose_a_row(run: Path) -> None:
    path = run / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


def tear_a_row(run: Path) -> None:
    path = run / "metrics.jsonl"
    path.write_text("torn\n" + path.read_text())


HARMS = [
    lose_a_checkpoint, change_weights, change_optimizer, change_best, lose_a_row, tear_a_row
]  # fmt: skip


@pytest.mark.parametrize("harm", HARMS)
def test_every_difference_is_found(
    harm: Callable[[Path], None],
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from faults_processes import Lost
    from faults_runs import compare, result_of

    run = shutil.copytree(tiny_run, tmp_path / "run")
    metrics = run / "metrics.jsonl"
    metrics.write_text(re.sub(r'"examples_per_second": [\d.]+', "", metrics.read_text())
                       .replace(", }", "}"))  # fmt: skip
    compare(result_of(tiny_run), run)
    harm(run)
    with pytest.raises(Lost):
        compare(result_of(tiny_run), run)
