"""Several processes learn what one does: gradients, updates, passes (see rank_worker.py)."""

import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

import rank_worker
from latentcot import train
from latentcot.curriculum.layout import Layout
from latentcot.errors import CheckpointError, TrainingError, UsageError
from latentcot.training.build import build
from latentcot.training.loop import Trainer
from latentcot.training.sharding import load_weights, whole
from latentcot.utils import distributed as ranks
from latentcot.utils.distributed import every_nth, gathered, take_shard_request
from latentcot.utils.signals import stop_requests
from reference import reference_loss

HERE = Path(__file__).parents[1]
SECONDS = 600
"""Machines are busy: a launcher and two processes import torch first."""


def run_ranks(job: str, folder: Path, seconds: int = SECONDS) -> subprocess.CompletedProcess[str]:
    command = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    return subprocess.run(
        [
            sys.executable,
            "-m",
            *command,
            str(HERE / "rank_worker.py"),
            job,
            str(folder),
            str(seconds),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=seconds,
    )


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes learned, a file for each case."""
    folder = tmp_path_factory.mktemp("ranks")
    done = run_ranks("equality", folder)
    assert done.returncode == 0, done.stderr
    return folder


@cache
def by_one(model: str, training: str) -> dict[str, Any]:
    """The same by this process."""
    return rank_worker.learned(rank_worker.train_step_of(model, training))


def close(one: torch.Tensor, two: torch.Tensor, tolerance: float) -> bool:
    return bool((one - two).abs().max() <= tolerance * (one.abs().max() + 1e-3))


def refuse_difference(case: tuple[str, str, str], folder: Path) -> None:
    """Compare what two processes learned with what one does."""
    model, way, training = case
    two, one = torch.load(folder / f"{model} {way} {training}.pt"), by_one(model, training)
    assert one["gradients"].keys() == two["gradients"].keys()
    for name, gradient in one["gradients"].items():
        assert close(gradient, two["gradients"][name], 1e-10), name
    share = two["num_held"] / one["num_held"]
    assert share == 1 if way == "ddp" else 0.5 <= share < 0.56
    assert two["is_finite"]
    # Sums of losses go through float32.
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-5)
    for name, weight in one["weights"].items():
        # Keys' biases have no gradient but rounding, which Adam blows up.
        is_noise = name.endswith(("c_attn.bias", "k_proj.bias"))
        assert close(weight, two["weights"][name], 1e-1 if is_noise else 1e-5), name
    for index, state in one["optimizer"].items():
        assert state["step"] == two["optimizer"][index]["step"] == rank_worker.NUM_UPDATES
        assert close(state["exp_avg"], two["optimizer"][index]["exp_avg"], 1e-4)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path):
    """DDP, with micro-batches whose passes differ between the two; all ways are slow tests."""
    done = run_ranks("quick", tmp_path)
    assert done.returncode == 0, done.stderr
    refuse_difference(rank_worker.QUICK, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", rank_worker.CASES, ids=", ".join)
def test_in_every_way_two_processes_learn_what_one_does(case, by_two):
    refuse_difference(case, by_two)


def as_example(layout: Layout) -> Any:
    return layout.prefix, layout.num_latents, layout.suffix, layout.labels


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gpt2", "llama"])
def test_their_first_gradients_are_those_of_the_slow_reference(model, by_two):
    made: Any = rank_worker.tiny_model(model)
    batch = [as_example(layout) for layout in next(rank_worker.update_batches())]
    reference_loss(made, batch).backward()
    for training in rank_worker.TRAININGS:
        two = torch.load(by_two / f"{model} fsdp2 {training}.pt")["gradients"]
        # Clipping scales all of them alike, and the stop classifier has its own part in the norm.
        embedding = two["model." + input_name(made)]
        of_reference = made.get_input_embeddings().weight.grad
        assert close(of_reference / of_reference.norm(), embedding / embedding.norm(), 1e-8), (
            training
        )


def input_name(model: Any) -> str:
    table = model.get_input_embeddings().weight
    return next(name for name, weight in model.named_parameters() if weight is table)


@pytest.mark.slow
def test_ranks_agree_on_their_passes(tmp_path):
    """200 random ragged batches under FSDP2, where a rank that makes one pass more would hang."""
    done = run_ranks("passes", tmp_path)
    assert done.returncode == 0, done.stderr
    num_updates, num_differing = map(int, (tmp_path / "passes.txt").read_text().split())
    assert num_updates == 200
    assert num_differing > 50  # of whose rows those of one rank need more passes


@pytest.mark.slow
def test_ranks_that_do_not_agree_never_end(tmp_path):
    """What `TrainStep.part_of` is for: without it the same batches hang, or break off."""
    try:
        done = run_ranks("disagreeing", tmp_path, seconds=60)
    except subprocess.TimeoutExpired:
        return
    assert done.returncode != 0


class TestOneProcess:
    def test_has_all_items(self):
        assert every_nth([1, 2, 3]) == [1, 2, 3]
        assert gathered([1, 2, 3]) == [1, 2, 3]

    def test_shards_nothing(self):
        assert not rank_worker.train_step_of("gpt2", "whole", shards=True).shards

    @pytest.mark.parametrize("is_asked", [True, False])
    def test_shards_if_the_command_says_so(self, is_asked, monkeypatch):
        monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
        assert take_shard_request(is_asked) == is_asked

    def test_shards_if_accelerate_says_so_but_not_by_fsdp1(self, monkeypatch):
        monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
        monkeypatch.setenv("FSDP_VERSION", "2")
        assert take_shard_request(False)
        assert "ACCELERATE_USE_FSDP" not in os.environ  # it would shard too
        for version in ("1", ""):
            monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
            monkeypatch.setenv("FSDP_VERSION", version)
            if not version:  # accelerate's own default is 1
                monkeypatch.delenv("FSDP_VERSION")
            with pytest.raises(UsageError, match=r"asks for FSDP 1, .*fsdp_version: 2"):
                take_shard_request(False)


@pytest.fixture
def started(monkeypatch):
    """The environment of the second of two processes of a launcher."""
    launched = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ranks, "_shares_work", False)


class TestStartedByALauncher:
    @pytest.mark.parametrize("command", ["study", "analyze", "compare", "quickstart", "list"])
    def test_what_one_process_does_is_refused(self, command, started, latentcot):
        ended = latentcot(command, "x")
        assert ended.code == 2
        assert f"process 1: UsageError: latentcot {command}: is work for one process" in ended.err

    def test_an_error_that_names_others_is_told_too(self, started, monkeypatch, latentcot):
        def fail():
            raise torch.distributed.DistNetworkError("address already in use")

        monkeypatch.setattr("latentcot.cli.app", fail)
        monkeypatch.setattr("latentcot.cli._refuse_crowd", lambda: None)
        ended = latentcot("train")
        assert ended.code == 2
        assert "another process of this job has ended or cannot be reached" in ended.err
        assert "address already in use" in ended.err

    def test_processes_that_no_launcher_has_started_are_refused(self, started, monkeypatch):
        monkeypatch.delenv("LOCAL_RANK")
        with pytest.raises(UsageError, match=r"WORLD_SIZE is 2, .* for one process alone unset"):
            ranks.join()

    def test_in_a_program_of_others_each_answers_its_own_questions(self, started, monkeypatch):
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
        assert every_nth([1, 2, 3]) == [1, 2, 3]
        ranks.prepare_to_join()
        assert every_nth([1, 2, 3]) == [2]

    def test_a_signal_may_come_twice(self, started):
        """Schedulers send it to all processes, and the launcher passes on its own."""
        with stop_requests() as stop:
            for _ in range(3):
                signal.raise_signal(signal.SIGTERM)
        assert stop.is_set


class TestNotTheMainProcess:
    @pytest.fixture
    def trainer(self, make_recipe, tmp_path, monkeypatch):
        recipe = make_recipe(training={"save_every": 5})
        made = Trainer(build(recipe), tmp_path / "run")
        monkeypatch.setattr(Accelerator, "is_main_process", False)
        return made

    def test_writes_nothing(self, trainer):
        assert trainer.run_to_end(is_quiet=True)
        assert not trainer.folder.exists()

    def test_leaves_no_batch_either(self, trainer):
        with torch.no_grad():
            trainer.train_step.model.transformer.ln_f.weight[0] = torch.inf
        with pytest.raises(TrainingError, match="is not a finite number"):
            trainer.run_to_end(is_quiet=True)
        assert not trainer.folder.exists()

    def test_goes_on_from_where_the_main_one_does(self, make_recipe, tmp_path, monkeypatch):
        """On a host that sees another run folder it would learn something else, or wait."""
        assert train(make_recipe(), tmp_path / "run", is_quiet=True)
        monkeypatch.setattr("latentcot.training.saving.from_main", lambda make: make() - 4)
        with pytest.raises(CheckpointError, match=r"goes on from update 8, .* from 12\. All hosts"):
            train(make_recipe(), tmp_path / "run", resume=True, is_quiet=True)


class TestWholeCopies:
    def test_tied_tensors_stay_one(self):
        weight = torch.ones(2)
        copies = whole({"a": weight, "b": [weight], "c": 1})
        assert copies["a"] is copies["b"][0]
        assert copies["a"] is not weight
        assert copies["c"] == 1

    def test_weights_of_another_model_are_refused(self):
        with pytest.raises(RuntimeError, match="size mismatch"):
            load_weights(torch.nn.Linear(2, 2), {"weight": torch.ones(3, 2), "bias": torch.ones(2)})
        with pytest.raises(RuntimeError, match="Missing key"):
            load_weights(torch.nn.Linear(2, 2), {"weight": torch.ones(2, 2)})
