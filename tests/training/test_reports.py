"""Trackers and callbacks: what they are told, what they may ask for, and that nothing changes."""

import importlib.util
import math

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, register_tracker_class
from transformers import EarlyStoppingCallback, TrainerCallback

from latentcot import RecipeError, UsageError, train
from latentcot.runs.checkpoint_folders import checkpoint_folders
from latentcot.runs.folder import read_metrics
from latentcot.training.reports import _numbers
from tiny_runs import results_of, rows_of

HEARD = {}


class Notebook(GeneralTracker):
    """Writes down what it gets, by the name of its project."""

    name = "notebook"
    requires_logging_directory = True

    def __init__(self, project, logging_dir, **kwargs):
        super().__init__(_blank=True)
        HEARD.update(project=project, folder=logging_dir, rows=HEARD.get("rows", []), ended=0)

    @property
    def tracker(self):
        return self

    def start(self):
        HEARD["started"] = True

    def store_init_configuration(self, values):
        HEARD["config"] = values

    def log(self, values, step=None, **kwargs):
        HEARD["rows"].append((step, values))

    def finish(self):
        HEARD["ended"] += 1


@pytest.fixture
def notebook():
    HEARD.clear()
    register_tracker_class(Notebook)
    yield HEARD
    del LOGGER_TYPE_TO_CLASS["notebook"]


class Stop(TrainerCallback):
    """Notes what is called, and asks for the end after an update."""

    def __init__(self, at=None):
        self.at, self.called, self.logs, self.metrics = at, [], [], []

    def on_train_begin(self, args, state, control, model, processing_class, optimizer, **kwargs):
        assert model is not None and len(processing_class) and optimizer is not None
        assert args.output_dir and not args.report_to
        self.called.append(("begin", state.global_step, state.max_steps))

    def on_step_end(self, args, state, control, **kwargs):
        self.called.append(("step", state.global_step))
        control.should_training_stop = state.global_step == self.at

    def on_log(self, args, state, control, logs, **kwargs):
        self.logs.append((state.global_step, logs))

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        self.metrics.append((state.global_step, metrics["eval_accuracy"]))

    def on_save(self, args, state, control, **kwargs):
        self.called.append(("save", state.global_step))

    def on_train_end(self, args, state, control, **kwargs):
        self.called.append(("end", state.global_step))


def test_a_tracker_gets_the_rows_and_the_recipe(make_recipe, tmp_path, notebook, tiny_run):
    recipe = make_recipe(training={"report_to": "notebook"})
    assert recipe.training.report_to == ("notebook",)
    assert train(recipe, tmp_path / "run", is_quiet=True)
    rows = read_metrics(tmp_path / "run")
    assert notebook["rows"] == [
        (row["update"], {f"{row['kind']}/{k}": v for k, v in _numbers(row).items()}) for row in rows
    ]
    assert notebook["config"]["training.batch_size"] == 8
    assert notebook["config"]["data.train"] == recipe.data.train
    assert all(isinstance(v, bool | int | float | str) for v in notebook["config"].values())
    assert (notebook["project"], notebook["ended"]) == ("latentcot", 1)
    assert results_of(tmp_path / "run") == results_of(tiny_run), "and it changes no bit"


def test_rows_of_a_tracker_are_finite_numbers():
    row = {"kind": "train", "update": 3, "stage": 1, "loss": math.nan, "a": None, "warning": "no"}
    assert _numbers(row) == {"stage": 1}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tensorbord", r"'tensorbord' is no tracker\. Did you mean 'tensorboard'\?"),
        ("aim", r"aim is not installed\. `pip install aim`"),
    ],
)
def test_an_unknown_or_missing_tracker_is_told_first(make_recipe, tmp_path, name, said):
    with pytest.raises(RecipeError, match=said):
        train(make_recipe(training={"report_to": [name]}), tmp_path / "run", is_quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_tracker_that_breaks_ends_no_training(
    make_recipe, tmp_path, notebook, monkeypatch, capsys
):
    def log(self, values, step=None, **kwargs):
        raise OSError("gone")

    monkeypatch.setattr(Notebook, "log", log)
    recipe = make_recipe(training={"report_to": ["notebook"], "max_updates": 3})
    assert train(recipe, tmp_path / "run", is_quiet=True)
    assert "notebook gets no more rows: gone" in " ".join(capsys.readouterr().err.split())
    assert len(rows_of(tmp_path / "run", "train")) == 3


def test_callbacks_are_called_and_change_nothing(make_recipe, tmp_path, tiny_run):
    heard = Stop()
    assert train(make_recipe(), tmp_path / "run", is_quiet=True, callbacks=[heard])
    assert results_of(tmp_path / "run") == results_of(tiny_run)
    assert heard.called[0] == ("begin", 0, 12) and heard.called[-1] == ("end", 12)
    assert [one[1] for one in heard.called if one[0] == "step"] == list(range(1, 13))
    losses = [(row["update"], row["loss"]) for row in rows_of(tiny_run, "train")]
    assert [(step, logs["loss"]) for step, logs in heard.logs] == losses
    valid = [(row["update"], row["accuracy"]) for row in rows_of(tiny_run, "valid")]
    assert heard.metrics == valid
    saved = {int(folder.name.split("-")[1]) for folder in checkpoint_folders(tmp_path / "run")}
    assert saved <= {update for kind, update, *_ in heard.called if kind == "save"}


def test_a_callback_stops_and_the_resumed_run_is_the_same(make_recipe, tmp_path, tiny_run):
    run = tmp_path / "run"
    first = Stop(at=5)
    assert not train(make_recipe(), run, is_quiet=True, callbacks=[first])
    assert first.called[-2:] == [("save", 5), ("end", 5)]
    again = Stop()
    assert train(make_recipe(), run, is_quiet=True, resume=True, callbacks=[again])
    assert again.called[0] == ("begin", 5, 12)
    assert results_of(run) == results_of(tiny_run)


@pytest.mark.slow
def test_trackers_of_a_resumed_run_go_on_at_its_step(make_recipe, tmp_path, notebook):
    run, recipe = tmp_path / "run", make_recipe(training={"report_to": ["notebook"]})
    assert not train(recipe, run, is_quiet=True, callbacks=[Stop(at=5)])
    assert train(recipe, run, is_quiet=True, resume=True)
    steps = [step for step, values in notebook["rows"] if "train/loss" in values]
    assert steps == list(range(1, 13))


@pytest.mark.slow
def test_early_stopping_of_transformers(make_recipe, tmp_path, caplog):
    """Accuracy of a tiny run does not rise twice in a row: patience ends it before the last."""
    stop = EarlyStoppingCallback(1, early_stopping_threshold=1.0)  # nothing is ever good enough
    recipe = make_recipe(training={"validate_every": 1})
    assert not train(recipe, tmp_path / "run", is_quiet=True, callbacks=[stop])
    assert max(row["update"] for row in read_metrics(tmp_path / "run")) < 12


def test_what_is_no_callback_is_refused(make_recipe, tmp_path):
    with pytest.raises(UsageError, match="TrainerCallback, got 'x'"):
        train(make_recipe(), tmp_path / "run", is_quiet=True, callbacks=["x"])


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("tensorboard"), reason="tensorboard is missing")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of its own imports
def test_tensorboard(make_recipe, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, recipe = tmp_path / "run", make_recipe(training={"report_to": ["tensorboard"]})
    assert not train(recipe, run, is_quiet=True, callbacks=[Stop(at=5)])
    assert train(recipe, run, is_quiet=True, resume=True)
    events = EventAccumulator(str(run / "trackers" / "latentcot")).Reload()
    losses = [(one.step, pytest.approx(one.value)) for one in events.Scalars("train/loss")]
    assert losses == [(row["update"], row["loss"]) for row in rows_of(run, "train")]
