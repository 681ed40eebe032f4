"""Saving beside the training, and finding what a run can go on from.

An update waits only until weights and optimizer have been copied; a thread writes the copy. There
is one at a time: who comes too early waits for the one before. So what is on disk is at most one
checkpoint behind, and a process that is killed in the middle leaves the one before.
"""

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from latentcot.errors import CheckpointError, DamagedError, RunError
from latentcot.methods.method import Method
from latentcot.runs.checkpoint import (
    Checkpoint,
    CheckpointInfo,
    load_checkpoint,
    load_training_state,
    save_checkpoint,
)
from latentcot.runs.checkpoint_folders import (
    BEST_FILE,
    checkpoint_folders,
    folder_of,
    prune_checkpoints,
    set_aside,
    verify,
    write_best,
)
from latentcot.runs.folder import METRICS
from latentcot.training.step import Snapshot
from latentcot.utils.display import say
from latentcot.utils.distributed import from_main

NUM_KEPT = 2
"""Checkpoints that stay beside the best one, if nothing else is asked for."""


def _one_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="checkpoint")


class Saver:
    """Writes the checkpoints of a run, one at a time, in a thread.

    Args:
        run: The run folder.
        tokenizer: Goes into each checkpoint.
        num_kept: Checkpoints that stay, beside the best one.
    """

    def __init__(self, run: Path, tokenizer: PreTrainedTokenizerBase, num_kept: int) -> None:
        self.run, self.tokenizer, self.num_kept = run, tokenizer, num_kept
        self._thread = _one_thread()
        self._written: Future[None] | None = None

    def save(
        self,
        model: PreTrainedModel,
        snapshot: Snapshot,
        method: Method,
        info: CheckpointInfo,
        state: dict[str, Any],
        best: dict[str, Any],
    ) -> None:
        """Write a checkpoint meanwhile; what is given may change no more.

        Args:
            model: Its configuration goes into the checkpoint.
            snapshot: Weights, optimizer and modules, copied.
            method: Tells which modules answers need.
            info: What the checkpoint is.
            state: What the run needs beside the optimizer.
            best: Update and accuracy of the best checkpoint, this one included; its update is None
                where there is none.

        Raises:
            RunError: This or an earlier checkpoint cannot be written.
        """
        self.finish()
        kept, trained = dict[str, Tensor](), dict[str, Tensor]()
        for name, tensor in snapshot.modules.items():
            is_kept = method.modules[name.partition(".")[0]].is_kept
            (kept if is_kept else trained)[name] = tensor
        state = {**state, "best": best, "optimizer": snapshot.optimizer, "modules": trained}

        def write() -> None:
            folder = folder_of(self.run, info.update)
            metrics = self.run / METRICS
            try:  # a checkpoint promises the rows before it, whatever becomes of the machine
                if metrics.exists():  # else no row was due yet
                    with metrics.open("rb") as file:
                        os.fsync(file.fileno())
            except OSError as error:
                raise RunError(
                    f"{metrics}: cannot be written: {error}. The last checkpoint is whole: make "
                    "room, and resume with --resume."
                ) from None
            weights = snapshot.weights
            save_checkpoint(folder, model, self.tokenizer, info, state, kept, weights=weights)
            if best["update"] == info.update:
                write_best(self.run, info.update, best["accuracy"])
            elif best["update"] is None:  # none yet, or the weights of before a restart had it
                _delete(self.run / "checkpoints" / BEST_FILE)
            prune_checkpoints(self.run, self.num_kept)

        try:
            self._written = self._thread.submit(write)
        except RuntimeError:  # the system lets it start no thread: then training waits meanwhile
            self._thread = _one_thread()  # the old one would write it again once it has one
            write()

    def raise_if_failed(self) -> None:
        """Tell at once what went wrong in the thread.

        Raises:
            RunError: A checkpoint could not be written.
        """
        if self._written is not None and self._written.done():
            self.finish()

    def finish(self) -> None:
        """Wait until what was saved is on disk.

        Raises:
            RunError: It could not be written.
        """
        written, self._written = self._written, None
        if written is not None:
            written.result()


@dataclass(frozen=True, slots=True)
class Found:
    """The checkpoint that a run goes on from.

    Attributes:
        folder: Where it lies.
        checkpoint: Its weights.
        state: Its training state.
        damaged: Newer ones that are damaged, and why.
    """

    folder: Path
    checkpoint: Checkpoint
    state: dict[str, Any]
    damaged: Sequence[tuple[Path, DamagedError]] = field(default_factory=list)

    def set_damaged_aside(self) -> None:
        """Rename the damaged ones, and say so."""
        for folder, error in self.damaged:
            aside = set_aside(folder)
            say(f"{error} It is now called {aside.name}.")
        if self.damaged:
            say(f"Going on from {self.folder.name} instead.")


def point_to_best(run: Path, best: dict[str, Any]) -> None:
    """Let best.json name the best checkpoint so far, whatever it named before.

    A run may have died before it did; the file may be damaged. Where there is no best one it goes.

    Args:
        run: The run folder.
        best: Its update, or None if there is none yet, and its accuracy.

    Raises:
        RunError: The run folder cannot be written to.
    """
    pointer = run / "checkpoints" / BEST_FILE
    if best["update"] is None:
        _delete(pointer)
        return
    folder = folder_of(run, best["update"])
    try:
        # A better one may have taken its place, and have been damaged since.
        if folder.is_dir():
            verify(folder)
    except DamagedError as error:
        aside = set_aside(folder)
        say(f"{error} It was the best one, and is now called {aside.name}.")
    if folder in checkpoint_folders(run):
        write_best(run, best["update"], best["accuracy"])
    else:
        _delete(pointer)
        say(f"Until a better one comes, the newest stands for {folder}.")


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"{path}: cannot be deleted: {error}.") from None


def refuse_other_update(run: Path, update: int) -> None:
    """Make sure that all processes go on from the same update; all of them must come here.

    Raises:
        CheckpointError: This one has found another than the main process.
    """
    of_main = from_main(lambda: update)
    if update != of_main:
        raise CheckpointError(
            f"{run}: the main process goes on from update {of_main}, and this one would from "
            f"{update}. All hosts must see the same run folder. Start again once they do."
        )


def newest_whole(run: Path) -> Found | None:
    """Find the newest checkpoint of a run that can be gone on from; None if it has none at all.

    Raises:
        CheckpointError: There are some, but each is damaged; or the newest whole one is of a newer
            format, or holds no training state.
    """
    damaged: list[tuple[Path, DamagedError]] = []
    for folder in reversed(checkpoint_folders(run)):
        try:
            state = load_training_state(folder)
            return Found(folder, load_checkpoint(folder), state, damaged)
        except DamagedError as error:
            damaged.append((folder, error))
    if damaged:
        raise CheckpointError(
            f"{run}: none of its {len(damaged)} checkpoints can be gone on from. The newest: "
            f"{damaged[0][1]} Bring one back, or start the run anew with --overwrite."
        )
    return None
