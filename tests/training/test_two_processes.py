"""Two processes side by side do what one does alone: same data, loss, updates and files."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from interrupts import in_update, press_ctrl_c
from latentcot import load
from latentcot.data.examples import read_examples
from latentcot.recipes.recipe import read_recipe
from latentcot.runs.checkpoint_folders import best_checkpoint, checkpoint_folders, verify
from latentcot.runs.folder import read_metrics
from latentcot.training.train import train

ENVIRONMENT = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
pytestmark = pytest.mark.slow  # test_ranks.py has a quick one


def launch(num_processes: int, *words: object, **others: Any) -> subprocess.CompletedProcess[str]:
    """Run `latentcot` in several processes; on a CPU, whatever the machine has."""
    return subprocess.run(
        command(num_processes, *words), env=ENVIRONMENT, capture_output=True, text=True,
        timeout=300, **others,
    )  # fmt: skip


def command(num_processes: int, *words: object) -> list[str]:
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(num_processes)]
    return [sys.executable, "-m", *launcher, "-m", "latentcot", *map(str, words)]


def train_in_two(recipe: Path, out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return launch(2, "train", recipe, "--out", out, "--quiet", *words)


CHANGES: dict[str, dict[str, Any]] = {
    # Ragged thoughts: each example draws its own stage, so ranks differ in passes.
    "mixed stages": {"curriculum": {"stage_mix_prob": 0.5}},
    # At stage 0 no latent position is there for the classifier to see, in some batches on one rank
    # alone.
    "classifier": {
        "stop": "classifier",
        "curriculum": {
            "pad_to_num_stages": False,
            "stage_mix_prob": 0.2,
            "stage_mix_range": "past",
        },
        "training": {"micro_batch_size": 3},
    },
}


@pytest.mark.parametrize("name", CHANGES)
def test_two_processes_train_as_one(
    name: str, recipe_values: Any, make_recipe: Any, tmp_path: Path
) -> None:
    changes = CHANGES[name]
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe_values(**changes)))
    done = train_in_two(path, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert train(make_recipe(**changes), tmp_path / "one", is_quiet=True)

    one, two = (
        [row for row in read_metrics(tmp_path / name) if row["kind"] == "train"]
        for name in ("one", "two")
    )
    assert [row["update"] for row in one] == [row["update"] for row in two]
    for alone, together in zip(one, two, strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-4)
        of_stop = [row.get("stop_loss") or 0 for row in (together, alone)]  # none at stage 0
        assert of_stop[0] == pytest.approx(of_stop[1], rel=1e-3)
    assert any("stop_loss" in row for row in two) == (name == "classifier")
    refuse_difference(weights_of(tmp_path / "one"), weights_of(tmp_path / "two"))
    heads = [load(tmp_path / place).modules.get("stop") for place in ("one", "two")]
    if name == "classifier":
        weights = [torch.cat([p.flatten() for p in head.parameters()]) for head in heads if head]
        assert torch.allclose(*weights, rtol=1e-3, atol=1e-5)
        assert weights[0].any()
    else:
        assert heads == [None, None]


def weights_of(place: Path) -> dict[str, torch.Tensor]:
    # Keys' biases have no gradient but rounding, which Adam blows up.
    named = load(place).model.named_parameters()
    return {name: weight for name, weight in named if "c_attn.bias" not in name}


def refuse_difference(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    for name, weight in one.items():
        assert torch.allclose(weight, two[name], rtol=1e-3, atol=1e-5), name


@pytest.fixture(scope="module")
def runs(recipe_values: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`one` went through alone, `two` in two processes that share the weights."""
    folder = tmp_path_factory.mktemp("sharded")
    values = recipe_values(**CHANGES["classifier"])
    values["training"] |= {"save_every": 7, "max_grad_norm": 0.5}
    recipe = folder / "recipe.yaml"
    recipe.write_text(json.dumps(values))
    done = train_in_two(recipe, folder / "two", "--shard", "--keep-checkpoints", "9")
    assert done.returncode == 0, done.stderr
    assert train(read_recipe(recipe), folder / "one", is_quiet=True)
    return folder


class TestSharded:
    """FSDP2, by the command."""

    def test_the_weights_are_those_of_one_process(self, runs: Path) -> None:
        refuse_difference(weights_of(runs / "one"), weights_of(runs / "two"))

    def test_its_checkpoints_are_whole_and_plain(self, runs: Path) -> None:
        for folder in checkpoint_folders(runs / "two"):
            assert verify(folder)
        one, two = (best_checkpoint(runs / name) for name in ("one", "two"))
        assert one
        assert two
        files = [load_file(folder / "model.safetensors") for folder in (one, two)]
        assert files[0].keys() == files[1].keys()  # tied weights are there once, as ever
        AutoModelForCausalLM.from_pretrained(two)

    @pytest.mark.parametrize("num_processes", [1, 4])
    def test_goes_on_in_any_number_of_processes(
        self, num_processes: int, runs: Path, tmp_path: Path
    ) -> None:
        run = tmp_path / "run"
        shutil.copytree(runs / "two", run)
        for folder in checkpoint_folders(run):
            if folder.name > "update-00000007":
                shutil.rmtree(folder)
        words = ("train", runs / "recipe.yaml", "--out", run, "--resume", "--quiet")
        done = launch(num_processes, *words, *(["--shard"] if num_processes > 1 else []))
        assert done.returncode == 0, done.stderr
        assert f"number of processes {num_processes} instead of 2" in done.stderr
        rows = [row["update"] for row in read_metrics(run) if row["kind"] == "train"]
        assert rows == list(range(1, 13))
        refuse_difference(weights_of(runs / "two"), weights_of(run))

    def test_a_process_that_dies_ends_the_job_and_the_run_resumes(
        self, runs: Path, tmp_path: Path
    ) -> None:
        run = tmp_path / "run"
        code, error = endless_run(runs / "recipe.yaml", run, signal.SIGKILL, "--shard")
        assert code != 0
        assert "rank      : 1" in error
        assert "SIGKILL" in error
        last = checkpoint_folders(run)[-1]
        recipe = read_recipe(runs / "recipe.yaml", ["training.max_updates=100000"])
        update = int(last.name.removeprefix("update-"))
        with in_update(9, press_ctrl_c):  # two updates more will do, of three micro-batches each
            assert not train(recipe, run, resume=True, is_quiet=True)
        assert read_metrics(run)[-1]["update"] >= update + 2

    def test_a_signal_to_one_process_ends_all_of_them_with_a_checkpoint(
        self, runs: Path, tmp_path: Path
    ) -> None:
        run = tmp_path / "run"
        _, error = endless_run(runs / "recipe.yaml", run, signal.SIGTERM)
        last = read_metrics(run)[-1]["update"]
        assert f"Stopped after update {last}. --resume goes on." in error
        assert checkpoint_folders(run)[-1].name == f"update-{last:08d}"


def endless_run(recipe: Path, run: Path, number: signal.Signals, *words: str) -> tuple[int, str]:
    """Signal one of two processes after a checkpoint; return exit code and standard error."""
    endless = [*words, "--quiet", "--set", "training.max_updates=100000"]
    job = subprocess.Popen(
        command(2, "train", recipe, "--out", run, *endless),
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: len(checkpoint_folders(run)) > 0)
        os.kill(pid_of_rank(job.pid, 1), number)
        _, error = job.communicate(timeout=60)
    finally:
        kill_all(job)
    return job.returncode, error


def wait_until(is_so: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def kill_all(job: subprocess.Popen[str]) -> None:
    """End a launcher and what it has started, however far they are."""
    if job.poll() is None:
        for process in psutil.Process(job.pid).children(recursive=True):
            process.kill()
    job.kill()


def pid_of_rank(launcher: int, rank: int) -> int:
    """Return the process that a launcher has started as this rank."""
    for process in psutil.Process(launcher).children(recursive=True):
        if process.environ().get("RANK") == str(rank):
            return process.pid
    raise AssertionError(f"no rank {rank}")


class TestAnswering:
    def test_two_processes_write_the_result_file_of_one(
        self, tiny_run: Path, tmp_path: Path, latentcot: Any
    ) -> None:
        one, two = tmp_path / "one.json", tmp_path / "two.json"
        assert latentcot("eval", tiny_run, "--out", one, "--batch-size", 3).code == 0
        done = launch(2, "eval", tiny_run, "--out", two, "--batch-size", 3)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("accuracy") == 1  # one process speaks
        results = [json.loads(path.read_text()) for path in (one, two)]
        differing = {key for key in results[0] if results[0][key] != results[1][key]}
        assert differing <= {"seconds_per_question", "provenance", "sha256"}
        assert results[1]["provenance"]["num_processes"] == 2

    def test_two_processes_answer_questions_of_one_standard_input(
        self, tiny_run: Path, latentcot: Any, data: Path
    ) -> None:
        questions = [example.question for example in read_examples(str(data / "test.jsonl"))][:5]
        words = ("generate", tiny_run, "--json", "--temperature", "1", "--seed", "3")
        done = launch(2, *words, input="\n".join(questions))
        assert done.returncode == 0, done.stderr
        assert done.stdout == latentcot(*words, *questions).out


def test_a_batch_that_cannot_be_shared_evenly_is_refused(
    recipe_values: Any, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe_values(training={"batch_size": 7})))
    done = train_in_two(path, tmp_path / "two")
    assert done.returncode != 0
    assert "training.batch_size: must be a multiple of the 2 processes, got 7." in done.stderr
    assert not (tmp_path / "two").exists()
