"""The training loop: stages, updates, validation, checkpoints.

Everything random is a function of the seed and the number of the update (the order of the data,
the stages of a batch, dropout), so a run that is resumed goes on as if it had not stopped.
"""

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from latentcot.curriculum.layout import EncodedExample, count_latents, one_of_each_shape
from latentcot.curriculum.stages import Phase, StageClock, phases_of
from latentcot.errors import CheckpointError, DataError, RecipeError, RunError, TrainingError
from latentcot.evaluation.evaluate import evaluate
from latentcot.evaluation.reasoner import Reasoner
from latentcot.evaluation.statistics import percent
from latentcot.methods.table import method_named
from latentcot.models.loading import check_lengths, max_positions
from latentcot.models.special_tokens import special_tokens_of
from latentcot.recipes.recipe import Recipe
from latentcot.runs.checkpoint import CheckpointInfo
from latentcot.runs.folder import append_metrics, forget_metrics_after, metrics_hash
from latentcot.thinking.recorded import GreedyRecorder
from latentcot.thinking.stopping import DEFAULT_THRESHOLD, StopHead
from latentcot.thinking.think import feed_of
from latentcot.training.build import TrainingData
from latentcot.training.guards import Divergence, deterministic
from latentcot.training.loader import Loader, UpdateBatch
from latentcot.training.optimizer import learning_rate
from latentcot.training.saving import (
    NUM_KEPT,
    Found,
    Saver,
    newest_whole,
    point_to_best,
    refuse_other_update,
)
from latentcot.training.step import Snapshot, TrainStep
from latentcot.utils.display import progress_bars, say
from latentcot.utils.files import write_json
from latentcot.utils.signals import stop_requests


class Trainer:
    """One run: the learner, the stage clock, the data, and the loop over updates."""

    def __init__(
        self,
        recipe: Recipe,
        run: Path,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        data: TrainingData,
        *,
        num_kept: int = NUM_KEPT,
        shards: bool = False,
    ) -> None:
        self.recipe, self.run, self.data, self.tokenizer = recipe, run, data, tokenizer
        self.method = method_named(recipe.method)
        self.rules = recipe.layout_rules(special_tokens_of(tokenizer))
        self.phases = phases_of(recipe.curriculum, self.method)
        self.phase_rules = {
            phase: replace(self.rules, zero_thoughts=phase.zero_thoughts) for phase in self.phases
        }
        is_learned = recipe.stop.rule == "classifier"
        self.train_step = TrainStep(
            model,
            recipe.training,
            feed=feed_of(self.method, self.rules.special_tokens),
            stop_head=StopHead(model.config.hidden_size) if is_learned else None,
            stop_weight=recipe.stop.loss_weight,
            shards=shards,
        )
        self.loader = Loader(
            recipe, self.method, self.phase_rules, data.train, self.train_step.shard_of
        )
        self._check_lengths(model)
        self.num_updates = recipe.training.num_updates(self.loader.updates_per_epoch)
        self.clock = StageClock(recipe.curriculum, self.phases, self.loader.updates_per_epoch)
        self.stop_threshold = DEFAULT_THRESHOLD
        self.divergence = Divergence(recipe.training, len(tokenizer))
        self.saver = Saver(run, tokenizer, num_kept)
        self._refuse_uneven_shares()
        self.recorder: GreedyRecorder | None = None
        self.update = 0
        self.saved: int | None = None
        self.last_restart = 0
        self.best: dict[str, Any] = {"update": None, "accuracy": -1.0}

    def _check_lengths(self, model: PreTrainedModel) -> None:
        """Refuse examples that are too long for the model in any phase, or when answered.

        Those of a stream when they are read.
        """
        new_tokens = self.recipe.generation.max_new_tokens
        phases = [phase for phase in self.phases if not phase.is_minor]
        self.loader.check_when_read(partial(self._check_training, model, phases))
        train = one_of_each_shape(self.loader.train)
        valid = one_of_each_shape(self.data.valid_encoded)
        for phase in phases:
            self._check_training(model, [phase], train)
            most = self._most_thoughts(phase) if self.recipe.stop.rule == "classifier" else None
            prompts = (
                self.loader.layout(example, phase.stage, phase, most).prompt() for example in valid
            )
            check_lengths(model, prompts, (example.id for example in valid), new_tokens)

    def _check_training(
        self, model: PreTrainedModel, phases: Sequence[Phase], examples: Sequence[EncodedExample]
    ) -> None:
        limit = max_positions(model) or math.inf
        long = [example for example in examples if self.loader.most_columns(example) > limit]
        for phase in phases:
            layouts = (self.loader.layout(example, phase.stage, phase) for example in long)
            check_lengths(model, layouts, (example.id for example in long))

    def _most_thoughts(self, phase: Phase) -> int:
        """Return the upper bound of the stop classifier: before the last stage, words follow."""
        most = count_latents(self.method, phase.stage, None, self.rules.plan)
        is_last = phase.stage == self.phases[-1].stage
        return self.recipe.stop.max_thoughts or most if is_last else most

    def _say_what_is_out_of_reach(self) -> None:
        """With fixed epochs it is known beforehand that training ends before its last stage."""
        if self.recipe.curriculum.advance != "epochs":
            return
        before = self.clock.updates_before_last()
        if before >= self.num_updates:
            say(
                f"Note: training ends after {self.num_updates} updates, but the last stage begins "
                f"after {before}. Without it the model still writes steps."
            )

    def _refuse_uneven_shares(self) -> None:
        """Devices with different numbers of micro-batches would wait for each other for ever."""
        num_processes = self.train_step.accelerator.num_processes
        if self.loader.batch_size % num_processes:
            raise RecipeError(
                f"training.batch_size: must be a multiple of the {num_processes} processes, got "
                f"{self.loader.batch_size}."
            )

    # --- the loop ---

    def run_to_end(self, *, is_quiet: bool = False) -> bool:
        """Train until the last update; return False if Ctrl-C ended it before."""
        try:
            with deterministic(self.recipe.training.deterministic):
                is_finished = self._run(is_quiet)
        except BaseException:
            with suppress(RunError):  # what ended training is told, and not this too
                self.saver.finish()
            raise
        finally:
            self.loader.close()
        self.saver.finish()
        return is_finished

    def _run(self, is_quiet: bool) -> bool:
        is_quiet = is_quiet or not self.train_step.accelerator.is_main_process
        if not is_quiet:
            self._say_what_is_out_of_reach()
        with stop_requests() as stop, progress_bars(is_quiet=is_quiet) as bars:
            bar = bars.add_task("", total=self.num_updates, completed=self.update)
            seconds, since = 0.0, self.update
            while self.update < self.num_updates:
                phase, start = self.clock.phase, time.perf_counter()
                self.saver.raise_if_failed()
                row = self._step()
                seconds += time.perf_counter() - start
                bars.update(bar, completed=self.update, description=self._describe(row))
                if self.update % self.recipe.training.log_every == 0:
                    rate = (self.update - since) * self.loader.batch_size / seconds
                    self._log({**row, "examples_per_second": round(rate, 1)})
                    seconds, since = 0.0, self.update
                self._after_update(phase, self.clock.record(row["next_step_loss"]))
                if self.train_step.is_any(stop.is_set) and self.update < self.num_updates:
                    self._save(phase)
                    self.saver.finish()
                    say(f"Stopped after update {self.update}. --resume goes on.")
                    return False
            self.saver.finish()  # still within: a signal must not cut off the last checkpoint
        return True

    def _describe(self, row: dict[str, Any]) -> str:
        accuracy = self.best.get("newest")
        shown = "" if accuracy is None else f" · valid {percent(accuracy)}"
        stage = f"stage {row['stage']}/{self.phases[-1].stage}"
        return f"{self.method.name} · {stage} · loss {row['loss']:.3f}{shown}"

    def _step(self) -> dict[str, Any]:
        """Do one update; return its row for metrics.jsonl."""
        phase = self.clock.phase
        update_batch = self._update_batch(phase)
        rate = learning_rate(self.recipe.training, self.update, self.num_updates, self.last_restart)
        # Dropout as a function of seed and update, so that a resumed run draws the same.
        self.train_step.seed_dropout(f"{self.recipe.seed}/dropout/{self.update}")
        parts = self.train_step.learn_from(update_batch.share, rate)
        if not math.isfinite(parts["nll_sum"] + parts["stop_nll_sum"]):
            self._give_up(update_batch)
        self.update += 1
        self.divergence.record(parts["nll_sum"] / parts["num_labels"])
        return {
            "kind": "train",
            "update": self.update,
            "stage": phase.stage,
            "loss": parts["nll_sum"] / parts["num_labels"],
            "next_step_loss": parts["next_nll_sum"] / parts["num_next"]
            if parts["num_next"]
            else None,
            "token_accuracy": parts["num_correct"] / parts["num_labels"],
            **(
                {"stop_loss": parts["stop_nll_sum"] / parts["num_stops"]}
                if parts["num_stops"]
                else {}
            ),
            "learning_rate": rate,
        }

    def _update_batch(self, phase: Phase) -> UpdateBatch:
        try:
            return self.loader.update_batch(self.update, phase, self.num_updates)
        except DataError:  # a bad line deep in a stream costs no update that came before it
            if self.update and self.train_step.accelerator.num_processes == 1:
                self._save(phase)
            raise

    def _give_up(self, update_batch: UpdateBatch) -> None:
        path = self.run / "nan-batch.json"
        stage = self.clock.phase.stage
        batch = [
            {"id": e.id, "stage": s}
            for e, s in zip(update_batch.examples, update_batch.stages, strict=True)
        ]
        if self.train_step.accelerator.is_main_process:
            write_json(path, {"update": self.update + 1, "stage": stage, "batch": batch})
        raise TrainingError(
            f"{self.run}: the loss of update {self.update + 1} (stage {stage}) is not a "
            f"finite number. Its batch is in {path}; checkpoints written before it are whole. "
            "Try a lower training.learning_rate, or training.max_grad_norm=1."
        )

    # --- what is due after an update ---

    def _after_update(self, phase: Phase, has_advanced: bool) -> None:
        training = self.recipe.training
        is_due = (has_advanced and not phase.is_minor) or self.update == self.num_updates
        is_best = False
        validate_every = training.validate_every or self.loader.updates_per_epoch
        if is_due or _is_multiple(self.update, validate_every):
            is_best = self._validate(phase)
        if has_advanced:
            self._log({"kind": "stage", "update": self.update, "stage": self.clock.phase.stage})
            if self.recipe.curriculum.reset_optimizer:
                self.train_step.restart_optimizer()
                self.last_restart = self.update
        if is_due or is_best or _is_multiple(self.update, training.save_every):
            self._save(phase)

    def _validate(self, phase: Phase) -> bool:
        """Let the model answer the validation questions; return whether it is the best so far."""
        # In float32 whatever the precision of training, as `latentcot eval` does it.
        with self.train_step.answering() as model:
            result = evaluate(
                self._reasoner(phase, model),
                self.data.valid,
                encoded=self.data.valid_encoded,
                batch_size=self.recipe.generation.batch_size,
            )
        accuracy = result.accuracy.value
        row = {"kind": "valid", "update": self.update, "stage": phase.stage, "accuracy": accuracy}
        self._log(row)
        self.best["newest"] = accuracy
        # Earlier stages answer after words, so only checkpoints of the last phase compete.
        is_best = phase == self.phases[-1] and accuracy >= self.best["accuracy"]
        if is_best:
            self.best |= {"update": self.update, "accuracy": accuracy}
        return is_best

    def _reasoner(self, phase: Phase, model: PreTrainedModel) -> Reasoner:
        """Return the present model as one that answers, its stop threshold newly chosen."""
        parts = model, self.tokenizer
        head = self.train_step.stop_head
        if head is not None and phase.stage > 0:
            reasoner = Reasoner(*parts, self._info(phase), head)
            size = self.recipe.generation.batch_size
            self.stop_threshold = reasoner.best_threshold(self.data.valid_encoded, size)
        reasoner = Reasoner(*parts, self._info(phase), head)
        # What earlier validations have recorded holds: weights change where they lie. Gathered ones
        # lie elsewhere each time.
        self.recorder = None if self.train_step.shards else self.recorder or reasoner.recorder
        reasoner.recorder = self.recorder
        return reasoner

    def _log(self, row: dict[str, Any]) -> None:
        if self.train_step.accelerator.is_main_process:
            append_metrics(self.run, row)

    # --- checkpoints ---

    def _info(self, phase: Phase) -> CheckpointInfo:
        return CheckpointInfo(
            method=self.method.name,
            task=self.recipe.task,
            stage=phase.stage,
            plan=self.rules.plan,
            num_thoughts=count_latents(self.method, phase.stage, None, self.rules.plan),
            zero_thoughts=phase.zero_thoughts,
            template=self.recipe.template,
            max_new_tokens=self.recipe.generation.max_new_tokens,
            update=self.update,
            seed=self.recipe.seed,
            **self._stop_info(phase),
        )

    def _stop_info(self, phase: Phase) -> dict[str, Any]:
        if self.train_step.stop_head is None:
            return {}
        return {
            "stop_threshold": self.stop_threshold,
            "max_thoughts": self._most_thoughts(phase),
        }

    def _save(self, phase: Phase) -> None:
        """Write a checkpoint of weights that were last trained in `phase`.

        Raises:
            TrainingError: The weights are no numbers any more; the last checkpoint stays.
        """
        if self.saved == self.update:
            return
        self.saved = self.update
        if not self.train_step.has_finite_weights():
            raise TrainingError(
                f"{self.run}: update {self.update} left weights that are not finite numbers. The "
                "last checkpoint is whole. Try a lower training.learning_rate."
            )
        self.saver.finish()  # two copies would be in memory
        snapshot = self.train_step.snapshot()
        if not self.train_step.accelerator.is_main_process:
            return
        state = {
            "update": self.update,
            "last_restart": self.last_restart,
            "clock": self.clock.state(),
            "divergence": self.divergence.state(),
            "stop_threshold": self.stop_threshold,
            "metrics": metrics_hash(self.run),
            **self.loader.state(self.update),
        }
        model, best = self.train_step.model, dict(self.best)  # validation changes it meanwhile
        self.saver.save(model, snapshot, self._info(phase), state, best)

    def restore(self) -> None:
        """Go on from the newest whole checkpoint of the run, or begin if it has none yet.

        Raises:
            CheckpointError: None of them can be read, or it does not fit the recipe.
            RunError: The run folder cannot be written to.
        """
        found = newest_whole(self.run)
        if found is not None:
            try:
                self._take_over(found)
            except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
                raise CheckpointError(f"{found.folder}: does not fit this run: {error}") from None
        refuse_other_update(self.run, self.update)
        self.train_step.accelerator.wait_for_everyone()  # before a folder gets another name
        if not self.train_step.accelerator.is_main_process:
            return
        forget_metrics_after(self.run, self.update, found.state.get("metrics") if found else None)
        if found is None:
            say(f"{self.run}: has no checkpoint yet, so it begins.")
            return
        found.set_damaged_aside()
        point_to_best(self.run, self.best)

    def _take_over(self, found: Found) -> None:
        saved, state = found.checkpoint, found.state
        weights = saved.model.state_dict()
        self.train_step.take_over(Snapshot(weights, state["optimizer"], saved.stop_head))
        self.stop_threshold = state.get("stop_threshold", DEFAULT_THRESHOLD)  # not in 0.1
        self.clock.restore(state["clock"])
        if "divergence" in state:  # not in formats 1 and 2
            self.divergence.restore(state["divergence"])
        self.update, self.last_restart = state["update"], state["last_restart"]
        self.best = dict(state["best"])
        self.loader.restore(state)


def _is_multiple(update: int, every: int | None) -> bool:
    return every is not None and update % every == 0
