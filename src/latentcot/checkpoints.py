"""Checkpoints that know what they are: method, c, stage and number of thoughts.

A checkpoint folder holds what `save_pretrained` writes (it loads with plain
`AutoModelForCausalLM` and `AutoTokenizer`), `latentcot.json`, for a run that can go on
`training_state.pt`, and `checksums.json`, by which damage is found. Folders are written under
another name and renamed once they are whole. Nothing of a checkpoint is ever run: weights are
safetensors, no code that lies beside them is loaded, and the training state holds tensors and plain
values only.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
)
from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from latentcot.backbones import load_tokenizer_of, load_weights, no_bars
from latentcot.checkpoint_folders import (
    INFO_FILE,
    STATE_FILE,
    best_checkpoint,
    verify,
    write_checksums,
)
from latentcot.errors import CheckpointError, DamagedError, RunError
from latentcot.files import write_json
from latentcot.layout import LayoutRules, Template, ZeroThoughts
from latentcot.methods import Method, Plan, method_named
from latentcot.stopping import StopHead
from latentcot.tasks import AnswerMatch
from latentcot.vocabulary import marker_ids

FORMAT_VERSION = 3
STOP_FILE = "stop_head.safetensors"


@dataclass(frozen=True)
class CheckpointInfo:
    """What `latentcot.json` holds: all that generation and evaluation need beside the weights.

    Attributes:
        method: A row of the method table.
        task: How answers are read and scored.
        stage: The stage that the weights were trained for.
        plan: What each stage removes and puts in; c is in it.
        num_thoughts: Slots of a full example at this stage.
        stop_threshold: Probability at which the stop classifier ends latent mode; None without one.
        max_thoughts: The most thoughts that the classifier may take; None without one.
        zero_thoughts: What stands where there are no thoughts.
        template: The text between the parts of an example.
        max_new_tokens: Words that an answer may take.
        update: Updates that the weights have seen.
        seed: Of the run.
        format_version: Of this file.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    method: str
    task: str | AnswerMatch
    stage: int
    plan: Plan
    num_thoughts: int
    zero_thoughts: ZeroThoughts
    template: Template
    max_new_tokens: int
    update: int
    seed: int
    stop_threshold: float | None = None
    max_thoughts: int | None = None
    format_version: int = FORMAT_VERSION

    @property
    def row(self) -> Method:
        """The method's row of the table."""
        return method_named(self.method)

    def layout_rules(self, tokenizer: PreTrainedTokenizerBase) -> LayoutRules:
        """Return what `layout.py` needs to know."""
        return LayoutRules(
            markers=marker_ids(tokenizer),
            plan=self.plan,
            zero_thoughts=self.zero_thoughts,
        )


def save_checkpoint(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    info: CheckpointInfo,
    training_state: dict[str, Any] | None = None,
    stop_head: StopHead | None = None,
    *,
    weights: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write a checkpoint folder, whole or not at all.

    Args:
        folder: Where it goes.
        model: Its configuration, and its weights if they are not given.
        tokenizer: That of the model.
        info: What `latentcot.json` will hold.
        training_state: Tensors and plain values that a run needs to go on.
        stop_head: The stop classifier, if there is one.
        weights: A copy of the model's weights, where the model itself may change meanwhile.

    Raises:
        RunError: It cannot be written; what was there is as it was.
    """
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        with no_bars():
            model.save_pretrained(beside, state_dict=weights)
        tokenizer.save_pretrained(beside)
        if stop_head is not None:
            save_file(stop_head.state_dict(), beside / STOP_FILE)
        if training_state is not None:
            torch.save(training_state, beside / STATE_FILE)
        write_json(beside / INFO_FILE, asdict(info))
        write_checksums(beside)
        for file in beside.iterdir():
            _sync(file)
        before = folder.with_name(f".{folder.name}.before.partial")
        if folder.exists():  # the same update, written again after a resume
            folder.rename(before)
        beside.rename(folder)
        shutil.rmtree(before, ignore_errors=True)
        _sync(folder.parent)
    except (
        OSError,
        SafetensorError,
        RuntimeError,
    ) as error:  # torch raises the last for a full disk
        raise RunError(
            f"{folder}: the checkpoint cannot be written: {error}. What was there is as it was; a "
            "run goes on from its last checkpoint with --resume."
        ) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded checkpoint; `stop_head` is None where latent mode ends by a constant."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    info: CheckpointInfo
    stop_head: StopHead | None


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Load a checkpoint from its folder, from a run folder (its best), or from the hub.

    Raises:
        CheckpointError: It is none, or it is of a newer format.
        DamagedError: Its files are not what was written.
    """
    name, info = _locate(path)
    try:
        model = load_weights(name)
        tokenizer = load_tokenizer_of(name)
        stop_head = _load_stop_head(name, model) if info.stop_threshold is not None else None
    except Exception as error:  # transformers and safetensors raise many kinds
        raise DamagedError(
            f"{name}: its weights or tokenizer cannot be read: {error}. The checkpoint is damaged; "
            "take another one of the same run."
        ) from error
    return Checkpoint(model.eval(), tokenizer, info, stop_head)


def _load_stop_head(name: str, model: PreTrainedModel) -> StopHead:
    path = Path(name) / STOP_FILE
    head = StopHead(model.config.hidden_size)
    head.load_state_dict(load_file(path if path.exists() else hf_hub_download(name, STOP_FILE)))
    return head


def load_training_state(folder: Path) -> dict[str, Any]:
    """Load what a run needs to go on from a checkpoint.

    Raises:
        CheckpointError: The checkpoint holds no training state.
        DamagedError: It holds a damaged one.
    """
    path = folder / STATE_FILE
    verify(folder)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder}: holds no {STATE_FILE}, so training can't go on."
        ) from None
    except Exception as error:  # torch raises many kinds for a damaged file
        raise DamagedError(f"{path}: cannot be read: {error}. It is damaged.") from error
    if not isinstance(state, dict):
        raise DamagedError(f"{path}: must hold a dict, got {type(state).__name__}.")
    return state


def _locate(path: Path | str) -> tuple[str, CheckpointInfo]:
    folder = Path(path)
    if (folder / "checkpoints").is_dir() or (folder / "recipe.yaml").is_file():
        best = best_checkpoint(folder)
        if best is None:
            raise CheckpointError(f"{folder}: this run has no checkpoint yet.")
        folder = best
    if folder.is_dir():
        if not (folder / INFO_FILE).exists():
            raise CheckpointError(
                f"{folder}: is no checkpoint of latentcot: it holds no {INFO_FILE}. Give a run "
                "folder (with checkpoints/ in it) or one of its checkpoints."
            )
        verify(folder, leave_out=(STATE_FILE,))
        return str(folder), _read_info(folder / INFO_FILE)
    if folder.is_absolute() or (len(folder.parts) > 1 and folder.parent.exists()):
        raise CheckpointError(f"{path}: no such folder.")
    return str(path), _read_info(_from_hub(str(path)))


def _from_hub(name: str) -> Path:
    try:
        return Path(hf_hub_download(name, INFO_FILE))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{name}: no such folder, and the hub has no {INFO_FILE} under this name: {reason}"
        ) from None


def _read_info(path: Path) -> CheckpointInfo:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON: {error}.") from None
    version = values.get("format_version") if isinstance(values, dict) else None
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format_version must be 1 … {FORMAT_VERSION}, got {version!r}. A higher one "
            "was written by a newer latentcot: upgrade it."
        )
    try:
        return TypeAdapter(CheckpointInfo).validate_python(_upgraded(values))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, p['loc']))}: {p['msg']}, got {p['input']!r}"
            for p in error.errors()
        )
        raise CheckpointError(f"{path}: {problems}.") from None


def _upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """Turn older versions into the present form.

    Version 1 had the numbers of the plan beside the rest. Version 3 has the fields of version 2,
    and checksums in the folder.
    """
    if values["format_version"] == FORMAT_VERSION:
        return values
    if values["format_version"] == 2:
        return values | {"format_version": FORMAT_VERSION}
    of_plan = ("num_stages", "thoughts_per_step", "pad_to_num_stages")
    rest = {key: value for key, value in values.items() if key not in of_plan}
    plan = {key: values[key] for key in of_plan if key in values}
    return rest | {"plan": plan, "format_version": FORMAT_VERSION}
