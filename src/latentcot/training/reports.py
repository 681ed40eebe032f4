"""Who hears of a training: trackers by accelerate, callbacks of transformers.

metrics.jsonl is what happened; trackers get its numbers as KIND/KEY, at the update as their step.
A callback may ask for a log, a validation, a checkpoint, or the end. With neither of them nothing
here does anything.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate.tracking import (
    LOGGER_TYPE_TO_CLASS,
    GeneralTracker,
    filter_trackers,
    get_available_trackers,
)
from accelerate.utils import LoggerType
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from latentcot.errors import RecipeError, UsageError, did_you_mean
from latentcot.recipes.recipe import Recipe, flat_values
from latentcot.runs.folder import read_metrics
from latentcot.training.step import TrainStep
from latentcot.training.validations import Validations
from latentcot.utils.display import say
from latentcot.utils.parsing import one_line, shown

PROJECT = "latentcot"
FOLDER = "trackers"
"""In the run folder, for trackers that write files."""
METRIC = "accuracy"


def refuse_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that do not exist, or whose package is not installed.

    Raises:
        RecipeError: With what there is, or what to install.
    """
    known = [name for name in map(str, LOGGER_TYPE_TO_CLASS) if name != str(LoggerType.ALL)]
    there = {str(one) for one in get_available_trackers()}
    for name in names:
        if name not in known:
            raise RecipeError(
                f"training.report_to: {name!r} is no tracker.{did_you_mean(name, known)} There "
                f"are: {', '.join(known)}."
            )
        is_builtin = name in {str(one) for one in LoggerType}
        if is_builtin and name not in there:
            raise RecipeError(
                f"training.report_to: {name} is not installed. `pip install {name}` "
                "does that; or leave it out: metrics.jsonl has all "
                "rows in any case."
            )


class Reports:
    """What trackers and callbacks are told of a run.

    Args:
        recipe: Of the run.
        folder: Its folder.
        train_step: With model, optimizer and accelerator.
        tokenizer: Of the model.
        num_updates: Of the whole training.
        updates_per_epoch: Of its data.
        callbacks: Of transformers.

    Raises:
        UsageError: One of the callbacks is none.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        train_step: TrainStep,
        tokenizer: Any,
        *,
        num_updates: int,
        updates_per_epoch: int,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        for callback in callbacks:
            if not isinstance(callback, TrainerCallback):
                raise UsageError(
                    "callbacks: must be objects of transformers' TrainerCallback, got "
                    f"{shown(callback)}."
                )
        self.recipe, self.folder, self.train_step = recipe, folder, train_step
        self.tokenizer, self.callbacks = tokenizer, list(callbacks)
        self.updates_per_epoch = updates_per_epoch
        self.trackers = list[GeneralTracker]()
        self.control = TrainerControl()
        self.state = TrainerState(
            max_steps=num_updates,
            num_train_epochs=math.ceil(num_updates / updates_per_epoch),
            logging_steps=recipe.training.log_every,
            eval_steps=recipe.training.validate_every or updates_per_epoch,
            save_steps=recipe.training.save_every or updates_per_epoch,
            train_batch_size=recipe.training.batch_size,
            is_local_process_zero=train_step.accelerator.is_local_main_process,
            is_world_process_zero=train_step.accelerator.is_main_process,
        )
        self.args: TrainingArguments | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes."""
        return bool(self.train_step.accelerator.is_main_process)

    def begin(self, update: int) -> None:
        """Start trackers, and tell callbacks that training begins.

        Args:
            update: That the run has reached, 0 for a new one.

        Raises:
            RecipeError: A tracker cannot be started.
        """
        names = self.recipe.training.report_to
        if names and self.is_main:
            self.start_trackers(names, update)
        if not self.callbacks:
            return
        self.state.global_step, self.state.epoch = update, update / self.updates_per_epoch
        self.state.log_history = [
            {**_numbers(row), "step": row["update"]} for row in read_metrics(self.folder)
        ]
        self.args = TrainingArguments(
            output_dir=str(self.folder),
            run_name=self.folder.name,
            report_to=[],
            disable_tqdm=True,
            seed=self.recipe.seed,
            learning_rate=self.recipe.training.learning_rate,
            max_steps=self.state.max_steps,
            logging_steps=self.state.logging_steps,
            eval_strategy="steps",
            eval_steps=self.state.eval_steps,
            save_steps=self.state.save_steps,
            metric_for_best_model=METRIC,
            # Without it they would throw away the state of our own accelerator.
            accelerator_config={"use_configured_state": True},
        )
        self.tell("on_init_end")
        self.control.should_training_stop = False
        self.tell("on_train_begin")

    def tell(self, event: str, **more: Any) -> None:
        """Call one event of all callbacks, in order."""
        for callback in self.callbacks:
            asked = getattr(callback, event)(
                self.args,
                self.state,
                self.control,
                model=self.train_step.model,
                processing_class=self.tokenizer,
                optimizer=self.train_step.optimizer,
                **more,
            )
            self.control = asked or self.control

    def step_begins(self) -> None:
        """Tell callbacks that an update begins."""
        control = self.control
        control.should_log = control.should_evaluate = control.should_save = False
        self.tell("on_step_begin")

    def step_ended(self, update: int) -> None:
        """Tell callbacks that an update was done."""
        self.state.global_step, self.state.epoch = update, update / self.updates_per_epoch
        self.tell("on_step_end")

    def asks_for(self, wish: str) -> bool:
        """Return whether a callback, in any process, has set a flag of TrainerControl."""
        if not self.callbacks:
            return False
        return self.train_step.is_any(bool(getattr(self.control, wish)))

    def log(self, row: Mapping[str, Any]) -> None:
        """Hand on a row of metrics.jsonl."""
        numbers = _numbers(row)
        for tracker in list(self.trackers):
            try:
                tracker.log(
                    {f"{row['kind']}/{key}": value for key, value in numbers.items()},
                    step=row["update"],
                )
            except Exception as error:  # of a service that went away: training goes on
                self.trackers.remove(tracker)
                say(
                    f"Warning: {tracker.name} gets no more rows: {one_line(str(error))}. "
                    "metrics.jsonl has all of them."
                )
        if not self.callbacks:
            return
        self.state.log_history.append({**numbers, "step": row["update"]})
        if row["kind"] == "train":
            self.tell("on_log", logs=dict(numbers))

    def validated(self, found: Validations) -> None:
        """Tell callbacks of the newest validation."""
        metrics = {f"eval_{METRIC}": found.newest, "epoch": self.state.epoch}
        self.tell("on_evaluate", metrics=metrics)
        if found.best_update is not None:  # after them, as transformers does it
            self.state.best_metric, self.state.best_global_step = found.best, found.best_update

    def end(self) -> None:
        """Tell callbacks that training has ended."""
        self.tell("on_train_end")

    def close(self) -> None:
        """Let trackers write what they hold, however training ended."""
        for tracker in self.trackers:
            try:
                tracker.finish()
            except Exception as error:  # training itself is done
                say(f"Warning: {tracker.name} could not be closed: {one_line(str(error))}.")
        self.trackers = self.train_step.accelerator.trackers = []

    def start_trackers(self, names: Sequence[str], update: int) -> None:
        """Start trackers with the recipe as their settings.

        Raises:
            RecipeError: One cannot be started.
        """
        config = {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in flat_values(self.recipe).items()
        }
        run = f"{self.folder.resolve().parent.name}/{self.folder.name}"
        ways: dict[str, dict[str, Any]] = {
            # Rows behind the checkpoint are written again.
            "tensorboard": {"purge_step": update + 1} if update else {},
            "trackio": {"name": run, "resume": "allow"},
            "wandb": {"name": run, "dir": str(self.folder / FOLDER)},
            "swanlab": {"experiment_name": run},
        }
        accelerator = self.train_step.accelerator  # made before the run had a folder
        accelerator.project_configuration.set_directories(str(self.folder / FOLDER))
        try:
            (self.folder / FOLDER).mkdir(exist_ok=True)
            accelerator.log_with = filter_trackers(list(names), accelerator.logging_dir)
            accelerator.init_trackers(PROJECT, config, ways)
        except Exception as error:  # no network, no login, …: each tracker has its own
            raise RecipeError(
                f"training.report_to: {', '.join(names)} cannot be started: "
                f"{one_line(str(error))}. Put that right, or leave it out: metrics.jsonl has all "
                "rows in any case."
            ) from error
        self.trackers = list(accelerator.trackers)


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite numbers of a row: None, NaN and texts are for metrics.jsonl alone."""
    return {
        key: value
        for key, value in row.items()
        if isinstance(value, int | float) and math.isfinite(value) and key != "update"
    }
