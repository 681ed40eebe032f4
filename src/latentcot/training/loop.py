"""The training loop: stages, updates, validation, checkpoints.

Everything random is a function of the seed and the number of the update (the order of the data,
the stages of a batch, dropout), so a run that is resumed goes on as if it had not stopped.
"""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from latentcot.curriculum.layout import count_latents
from latentcot.curriculum.stages import Phase, StageClock
from latentcot.data.formats import HELP
from latentcot.errors import CheckpointError, DataError, RecipeError, RunError, TrainingError
from latentcot.evaluation.evaluate import evaluate
from latentcot.evaluation.reasoner import Reasoner
from latentcot.evaluation.statistics import percent
from latentcot.methods.stopping import DEFAULT_THRESHOLD, STOP
from latentcot.models.loading import make_from_scratch
from latentcot.models.settings import FromScratch
from latentcot.runs.checkpoint import CheckpointInfo
from latentcot.runs.checkpoint_folders import checkpoint_folders, folder_of
from latentcot.runs.folder import append_metrics, forget_metrics_after, metrics_hash
from latentcot.runs.provenance import set_num_updates
from latentcot.thinking.recorded import GreedyRecorder
from latentcot.training.build import Run
from latentcot.training.guards import Divergence, deterministic
from latentcot.training.loader import Loader
from latentcot.training.objective import make_modules
from latentcot.training.optimizer import learning_rate
from latentcot.training.reports import Reports
from latentcot.training.saving import (
    NUM_KEPT,
    Saver,
    newest_whole,
    point_to_best,
    refuse_other_update,
)
from latentcot.training.step import Snapshot, TrainStep
from latentcot.training.validations import DONE, ON_ITS_WAY, Validations, not_learned
from latentcot.utils.display import console, progress_bars, say
from latentcot.utils.files import write_json
from latentcot.utils.signals import stop_requests

FAR = 4.0
"""Times the loss that counts as learned: a first stage that is nearer is on its way."""
RESTART = 1_000_003
"""Between the seeds from which a run's weights are drawn, one after the other."""


class Trainer:
    """The loop over the updates of a run.

    Args:
        run: What is trained, as `build` gives it.
        folder: The run folder.
        num_kept: Checkpoints that stay, next to the best one.
        shards: Of several processes, let each hold a shard of the weights.
        callbacks: Of transformers; they are told how training goes.
    """

    def __init__(
        self,
        run: Run,
        folder: Path,
        *,
        num_kept: int = NUM_KEPT,
        shards: bool = False,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.run, self.folder, self.recipe = run, folder, run.recipe
        self.train_step = TrainStep(run.objective, self.recipe.training, shards=shards)
        self.loader = Loader(run, self.train_step.part_of)
        self.num_updates = self.recipe.training.num_updates(self.loader.updates_per_epoch)
        self.clock = StageClock(
            self.recipe.curriculum, run.phases, self.loader.updates_per_epoch, self.num_updates
        )
        self.stop_threshold = DEFAULT_THRESHOLD
        self.divergence = Divergence(self.recipe.training, len(run.tokenizer))
        self.saver = Saver(folder, run.tokenizer, num_kept)
        self.reports = Reports(
            self.recipe,
            folder,
            self.train_step,
            run.tokenizer,
            num_updates=self.num_updates,
            updates_per_epoch=self.loader.updates_per_epoch,
            callbacks=callbacks,
        )
        num_processes = self.train_step.accelerator.num_processes
        if self.loader.batch_size % num_processes:  # they would wait for each other for ever
            raise RecipeError(
                f"training.batch_size: must be a multiple of the {num_processes} processes, got "
                f"{self.loader.batch_size}."
            )
        self.recorder: GreedyRecorder | None = None
        self.update = 0
        self.saved: int | None = None
        self.optimizer_begun = 0  # at this update
        self.restarts = 0  # with other weights
        self.validations = Validations()
        self.tells_lines = False

    # --- the loop ---

    def run_to_end(self, *, is_quiet: bool = False) -> bool:
        """Train until the last update; return False if Ctrl-C or a callback did before."""
        try:
            self.reports.begin(self.update)
            with deterministic(self.recipe.training.deterministic):
                is_finished = self._run(is_quiet)
            self.reports.end()
        except BaseException:
            with suppress(RunError):  # what ended training is told, and not this too
                self.saver.finish()
            raise
        finally:
            self.loader.close()
            self.reports.close()
        self.saver.finish()
        return is_finished

    def _run(self, is_quiet: bool) -> bool:
        is_quiet = is_quiet or not self.train_step.accelerator.is_main_process
        # A bar that nobody sees move would leave a log empty until the end.
        self.tells_lines = not is_quiet and not console.is_terminal
        before = self.clock.updates_before_last()
        is_known = self.recipe.curriculum.advance == "epochs"
        if not is_quiet and is_known and before >= self.num_updates:
            say(
                f"Note: training ends after {self.num_updates} updates, but the last stage begins "
                f"after {before}. Without it the model still writes steps."
            )
        with stop_requests() as stop, progress_bars(is_quiet=is_quiet) as bars:
            bar = bars.add_task("", total=self.num_updates, completed=self.update)
            seconds, since = 0.0, self.update
            while self.update < self.num_updates:
                phase, start = self.clock.phase, time.perf_counter()
                self.saver.raise_if_failed()
                self.reports.step_begins()
                row = self._step()
                self.reports.step_ended(self.update)
                seconds += time.perf_counter() - start
                standing, total = self._standing(row), self.num_updates
                bars.update(bar, total=total, completed=self.update, description=standing)
                is_due = self.update % self.recipe.training.log_every == 0
                if self.reports.asks_for("should_log") or is_due:
                    rate = (self.update - since) * self.loader.batch_size / seconds
                    self._log({**row, "examples_per_second": round(rate, 1)})
                    seconds, since = 0.0, self.update
                has_advanced = self.clock.record(row.get("next_step_loss"))
                self._after_update(phase, row, has_advanced)
                is_asked = self.reports.asks_for("should_training_stop")
                is_stopped = self.train_step.is_any(stop.is_set) or is_asked
                if is_stopped and self.update < self.num_updates:
                    self._save(phase)
                    self.saver.finish()
                    who = ", as a callback asked" if is_asked else ""
                    say(f"Stopped after update {self.update}{who}. --resume goes on.")
                    return False
            self.saver.finish()  # still within: a signal must not cut off the last checkpoint
        return True

    def _step(self) -> dict[str, Any]:
        """Do one update; return its row for metrics.jsonl."""
        phase = self.clock.phase
        try:
            update_batch = self.loader.update_batch(self.update, phase, self.num_updates)
        except DataError as error:  # a bad line deep in a stream costs no update before it
            if self.update == 0 or self.train_step.accelerator.num_processes > 1:
                raise
            self._save(phase)
            self.saver.finish()
            raise DataError(
                f"{str(error).removesuffix(HELP).rstrip()} What was learned before is saved. Fix "
                "the line, then --resume (docs/data-format.md)."
            ) from None
        rate = learning_rate(
            self.recipe.training, self.update, self.num_updates, self.optimizer_begun
        )
        # Dropout as a function of seed and update, so that a resumed run draws the same.
        self.train_step.seed_dropout(f"{self.recipe.seed}/dropout/{self.update}")
        terms = self.train_step.step(update_batch.part, rate)
        total = terms["total"]
        if total is None or not math.isfinite(total):
            number, path = self.update + 1, self.folder / "nan-batch.json"
            pairs = zip(update_batch.examples, update_batch.stages, strict=True)
            batch = [{"id": example.id, "stage": stage} for example, stage in pairs]
            if self.train_step.accelerator.is_main_process:
                write_json(path, {"update": number, "stage": phase.stage, "batch": batch})
            kept = "no checkpoint was written yet"
            if checkpoint_folders(self.folder):
                kept = "checkpoints written before it are whole"
            if self.update and self.train_step.has_finite_weights():
                with suppress(RunError):  # of the two errors the loss is the one to be told
                    self._save(phase)
                    self.saver.finish()
                    kept = f"the weights of before are in {folder_of(self.folder, self.update)}"
            is_clipped = self.recipe.training.max_grad_norm is not None
            clip = "" if is_clipped else ", or training.max_grad_norm=1"
            raise TrainingError(
                f"{self.folder}: the loss of update {number} (stage {phase.stage}) is not a finite "
                f"number. Its batch is in {path}; {kept}. Try a lower training.learning_rate{clip}."
            )
        self.update += 1
        row = {"kind": "train", "update": self.update, "stage": phase.stage, "loss": total}
        row |= {**terms, "learning_rate": rate}
        if sum(bool(term.weight) for term in self.run.method.terms) == 1:
            del row["total"]  # of one loss, which says it all
        self.divergence.record(terms.get("loss") or total)
        return row

    # --- what is due after an update ---

    def _standing(self, row: Mapping[str, Any]) -> str:
        """Say in a few words where an update stands."""
        accuracy = self.validations.newest
        shown = "" if accuracy < 0 else f" · valid {percent(accuracy)}"
        stage = f"stage {row['stage']}/{self.run.phases[-1].stage}"
        return f"{self.run.method.name} · {stage} · loss {row['loss']:.3f}{shown}"

    def _after_update(self, phase: Phase, row: Mapping[str, Any], has_advanced: bool) -> None:
        training = self.recipe.training
        is_over, is_best = has_advanced and not phase.is_minor, False
        is_due = is_over or self.update == self.num_updates
        rules = self.recipe.curriculum
        has_more = rules.advance == "learned" and self.restarts < rules.restarts
        may_be_stuck = has_more and (is_over or self.clock.is_at_only_cap)
        validate_every = training.validate_every or self.loader.updates_per_epoch
        is_asked = self.reports.asks_for("should_evaluate")
        if is_due or may_be_stuck or is_asked or _is_multiple(self.update, validate_every):
            is_best = self._validate(phase)
            self._end_early()
            is_due = is_due or self.update == self.num_updates
            if self.tells_lines:
                say(f"update {self.update:,} of {self.num_updates:,} · {self._standing(row)}")
        if may_be_stuck and self._is_stuck(phase):
            self._begin_again()
            is_best = False  # those weights are gone
        elif is_due:
            self._end_stage(phase)
        if has_advanced:
            self._log({"kind": "stage", "update": self.update, "stage": self.clock.phase.stage})
            if self.recipe.curriculum.reset_optimizer:
                self.train_step.restart_optimizer()
                self.optimizer_begun = self.update
        is_asked = self.reports.asks_for("should_save")
        if is_due or is_best or is_asked or _is_multiple(self.update, training.save_every):
            self._save(phase)

    def _validate(self, phase: Phase) -> bool:
        """Let the model answer the validation questions; return whether it is the best so far."""
        data, size = self.run.data, self.recipe.generation.batch_size
        # In float32 whatever the precision of training, as `latentcot eval` does it.
        with self.train_step.answering() as model:

            def reasoner() -> Reasoner:
                modules = dict(self.run.objective.learned.items())
                return Reasoner(model, self.run.tokenizer, self._info(phase), modules)

            if STOP in self.run.method.modules and phase.stage > 0:
                self.stop_threshold = reasoner().best_threshold(data.valid_encoded, size)
            answering = reasoner()
            # What earlier validations have recorded holds: weights change where they lie. Gathered
            # ones lie elsewhere each time.
            self.recorder = None if self.train_step.shards else self.recorder or answering.recorder
            answering.recorder = self.recorder
            result = evaluate(answering, data.valid, encoded=data.valid_encoded, batch_size=size)
        accuracy = result.accuracy.value
        row = {"kind": "valid", "update": self.update, "stage": phase.stage, "accuracy": accuracy}
        self._log(row)
        competes = phase == self.run.phases[-1]
        is_best = self.validations.record(self.update, accuracy, competes=competes)
        self.reports.validated(self.validations)
        return is_best

    def _is_stuck(self, phase: Phase) -> bool:
        """Return whether a phase is the first one, had time to learn, and ended far from it."""
        warmed_up = self.optimizer_begun + self.recipe.training.warmup_updates
        if self.update < warmed_up + self.recipe.curriculum.learned_window:
            return False  # such a short run tries something else
        loss, below = self.clock.last_loss, self.clock.learned_below(phase)
        is_unlearned = loss is not None and loss >= FAR * below
        is_lost = is_unlearned and self.validations.newest < ON_ITS_WAY
        return is_lost and phase == self.run.phases[0]

    def _begin_again(self) -> None:
        """Draw other weights, and go back to the first phase."""
        assert isinstance(self.recipe.model, FromScratch)  # recipes of others have no restarts
        self.restarts += 1
        seed = self.recipe.seed + self.restarts * RESTART
        model = make_from_scratch(self.recipe.model, self.run.tokenizer, seed)
        self.train_step.begin_again(model, make_modules(self.run.method, model, seed))
        self.clock.begin_again()
        in_vain = self.update - self.optimizer_begun  # in the first phase, never begun anew
        self._set_total(self.num_updates + in_vain)
        self.optimizer_begun = self.update
        loss, accuracy = self.clock.last_loss, self.validations.newest
        row = {"kind": "restart", "update": self.update, "stage": 0, "loss": loss}
        self._log({**row, "accuracy": accuracy, "restart": self.restarts})
        self.validations = Validations()
        say(
            f"Stage 0 was not learned in {in_vain:,} updates: {percent(accuracy)} of "
            "the validation questions are right. Training begins again from other weights "
            f"(curriculum.restarts, {self.restarts} of {self.recipe.curriculum.restarts})."
        )

    def _end_early(self) -> None:
        """Where the last phase is learned, let the learning rate fall from here, and then end."""
        rules = self.recipe.curriculum
        may_end = rules.ends_when_learned and rules.advance == "learned" and self.clock.is_last
        if not (may_end and self.clock.is_learned) or self.validations.newest < DONE:
            return
        before_decay = max(1 - self.recipe.training.decay_share, 1e-9)  # if it is all decay, no end
        num_updates = math.ceil(self.update / before_decay)
        if num_updates < self.num_updates:
            before, accuracy = self.num_updates, percent(self.validations.newest)
            self._set_total(num_updates)
            row = {"kind": "shortened", "update": self.update, "stage": self.clock.phase.stage}
            self._log({**row, "num_updates": num_updates})
            say(
                f"The last stage is learned after {self.update:,} updates: {accuracy} of the "
                f"validation questions are right. Training ends after {num_updates:,} updates, "
                f"not {before:,} (curriculum.ends_when_learned)."
            )

    def _set_total(self, num_updates: int) -> None:
        """Let the whole run have this many updates; stages without a cap share what is left."""
        self.num_updates = self.clock.total = self.reports.state.max_steps = num_updates
        if self.train_step.accelerator.is_main_process:
            set_num_updates(self.folder, num_updates)

    def _end_stage(self, phase: Phase) -> None:
        """Note how a stage ended, and warn where it was not learned."""
        loss, below = self.clock.last_loss, self.clock.learned_below(phase)
        accuracy, words = self.validations.newest, self.validations.words
        is_last = self.update == self.num_updates
        warning = not_learned(phase, loss, below, accuracy, words=words, is_last=is_last)
        if phase.stage == 0:
            self.validations.words = accuracy
        row = {"kind": "stage_end", "update": self.update, "stage": phase.stage, "loss": loss}
        self._log({**row, "learned_below": below, "accuracy": accuracy, "warning": warning})
        if warning is not None:
            say(f"Warning: {warning}")

    def _log(self, row: dict[str, Any]) -> None:
        if self.train_step.accelerator.is_main_process:
            append_metrics(self.folder, row)
        self.reports.log(row)

    # --- checkpoints ---

    def _info(self, phase: Phase) -> CheckpointInfo:
        plan, has_stop = self.recipe.curriculum.plan, STOP in self.run.method.modules
        return CheckpointInfo(
            method=self.recipe.method,
            task=self.recipe.task,
            stage=phase.stage,
            plan=plan,
            num_thoughts=count_latents(self.run.method.view, phase.stage, None, plan),
            zero_thoughts=phase.zero_thoughts,
            template=self.recipe.template,
            max_new_tokens=self.recipe.generation.max_new_tokens,
            update=self.update,
            seed=self.recipe.seed,
            stop_threshold=self.stop_threshold if has_stop else None,
            max_thoughts=self.run.most_thoughts(phase) if has_stop else None,
        )

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
                f"{self.folder}: update {self.update} left weights that are not finite numbers. "
                "The last checkpoint is whole. Try a lower training.learning_rate."
            )
        self.saver.finish()  # two copies would be in memory
        snapshot = self.train_step.snapshot()
        if not self.train_step.accelerator.is_main_process:
            self.reports.tell("on_save")
            return
        state = {
            "update": self.update,
            "last_restart": self.optimizer_begun,
            "restarts": self.restarts,
            "num_updates": self.num_updates,
            "clock": self.clock.state(),
            "divergence": self.divergence.state(),
            "stop_threshold": self.stop_threshold,
            "metrics": metrics_hash(self.folder),
            **self.loader.state(),
        }
        model, best = self.train_step.model, self.validations.state()
        self.saver.save(model, snapshot, self.run.method, self._info(phase), state, best)
        if self.reports.callbacks:  # they may read the files
            self.saver.finish()
            self.reports.tell("on_save")

    def restore(self) -> None:
        """Go on from the newest whole checkpoint of the run, or begin if it has none yet.

        Raises:
            CheckpointError: None of them can be read, or it does not fit the recipe.
            RunError: The run folder cannot be written to.
        """
        found = newest_whole(self.folder)
        if found is not None:
            try:
                saved, state = found.checkpoint, found.state
                modules = {**saved.modules.state_dict(), **state.get("modules", {})}
                snapshot = Snapshot(saved.model.state_dict(), state["optimizer"], modules)
                self.train_step.take_over(snapshot)
                self.stop_threshold = state.get("stop_threshold", DEFAULT_THRESHOLD)  # not in 0.1
                self.clock.restore(state["clock"])
                if "divergence" in state:  # not in formats 1 and 2
                    self.divergence.restore(state["divergence"])
                self.update, self.optimizer_begun = state["update"], state["last_restart"]
                if "restarts" in state:  # not in older checkpoints
                    self.restarts = state["restarts"]
                    self._set_total(state["num_updates"])
                self.validations = Validations.from_state(state["best"])
                self.saved = self.update  # written again, it would belong to the next stage
                self.loader.restore(state)
            except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
                raise CheckpointError(f"{found.folder}: does not fit this run: {error}") from None
        refuse_other_update(self.folder, self.update)
        self.train_step.accelerator.wait_for_everyone()  # before a folder gets another name
        if not self.train_step.accelerator.is_main_process:
            return
        forget_metrics_after(
            self.folder, self.update, found.state.get("metrics") if found else None
        )
        if found is None:
            say(f"{self.folder}: has no checkpoint yet, so it begins.")
            return
        found.set_damaged_aside()
        point_to_best(self.folder, self.validations.state())


def _is_multiple(update: int, every: int | None) -> bool:
    return every is not None and update % every == 0
