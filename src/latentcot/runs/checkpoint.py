"""Checkpoints that know what they are: method, c, stage and number of thoughts.

A checkpoint folder holds what `save_pretrained` writes (it loads with plain
`AutoModelForCausalLM` and `AutoTokenizer`), what transformers needs to think (`export.py`),
`latentcot.json`, for a run that can go on `training_state.pt`, and `checksums.json`, by which
damage is found. One with adapters holds these in place of the weights (`models/lora_files.py`).
Folders are written under another name and renamed once they are whole. Nothing of a checkpoint is
ever run: weights are safetensors, no code that lies beside them is loaded, and the training state
holds tensors and plain values only.
"""

import os
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
)
from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from latentcot.curriculum.layout import LayoutRules, Template, ZeroThoughts
from latentcot.curriculum.stages import MOST
from latentcot.curriculum.views import Plan
from latentcot.errors import CheckpointError, DamagedError, LatentcotError, RunError
from latentcot.methods import method_named
from latentcot.methods.method import Method
from latentcot.methods.stopping import STOP, with_stop_classifier
from latentcot.models.backend.split_cache import takes_split_cache
from latentcot.models.loading import load_tokenizer_of, load_weights, no_bars
from latentcot.models.lora import adapters_of
from latentcot.models.lora_files import load_adapted, save_adapters
from latentcot.models.settings import ADAPTERS_FILE, WEIGHTS_FILE
from latentcot.models.special_tokens import special_tokens_of
from latentcot.runs.checkpoint_folders import (
    INFO_FILE,
    STATE_FILE,
    best_checkpoint,
    here_or_shipped,
    verify,
    write_checksums,
)
from latentcot.runs.export import write_export
from latentcot.tasks import AnswerMatch, task_named
from latentcot.thinking.capability import choose_way
from latentcot.utils.files import put_in_place, why_unwritten, write_json
from latentcot.utils.network import use_cache_if_unreachable
from latentcot.utils.parsing import could_be_on_hub, one_line, parse_json, shown
from latentcot.utils.problems import Form, explain_all, listed
from latentcot.utils.versions import CHECKPOINT_VERSION

MODULES_FILE = "modules.safetensors"
STOP_FILE = "stop_head.safetensors"
"""What a checkpoint of format 3 and before held in place of `MODULES_FILE`."""


@dataclass(frozen=True)
class CheckpointInfo:
    """What `latentcot.json` holds: all that generation and evaluation need beside the weights.

    Attributes:
        method: Its name, or its name and settings.
        task: How answers are read and scored.
        stage: The stage that the weights were trained for.
        plan: What each stage removes and puts in; c is in it.
        num_thoughts: Latents of a full example at this stage.
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

    method: str | dict[str, Any]
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
    format_version: int = CHECKPOINT_VERSION

    @property
    def method_name(self) -> str:
        """The name of the method alone."""
        return self.method if isinstance(self.method, str) else str(self.method.get("name"))

    @cached_property
    def bound_method(self) -> Method:
        """The method with its settings, and with the stop classifier if there is one."""
        method = method_named(self.method)
        return method if self.stop_threshold is None else with_stop_classifier(method)

    def layout_rules(self, tokenizer: PreTrainedTokenizerBase) -> LayoutRules:
        """Return what `layout.py` needs to know."""
        return LayoutRules(
            special_tokens=special_tokens_of(tokenizer),
            plan=self.plan,
            zero_thoughts=self.zero_thoughts,
        )


def save_checkpoint(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    info: CheckpointInfo,
    training_state: dict[str, Any] | None = None,
    modules: dict[str, torch.Tensor] | None = None,
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
        modules: What was learned beside the model and answers need, by module and weight.
        weights: A copy of the model's weights, where the model itself may change meanwhile.

    Raises:
        RunError: It cannot be written; what was there is as it was.
    """
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        if adapters_of(model) is not None:
            save_adapters(beside, model, weights)
        else:
            with no_bars():
                model.save_pretrained(beside, state_dict=weights)
        tokenizer.save_pretrained(beside)
        if modules:
            save_file(modules, beside / MODULES_FILE)
        if training_state is not None:
            torch.save(training_state, beside / STATE_FILE)
        write_json(beside / INFO_FILE, asdict(info))
        if adapters_of(model) is None:  # of those transformers asks the base how to generate
            write_export(beside, model, tokenizer, info)
        write_checksums(beside)
        for path in beside.rglob("*"):
            _sync(path)
        put_in_place(beside, folder)  # another may lie there: of this update, before a resume
        _sync(folder.parent)
    except Exception as error:  # torch and tokenizers have no kind of their own for a full disk
        raise RunError(
            f"{folder}: the checkpoint cannot be written: {why_unwritten(error, beside)}. What was "
            "there is as it was, and the last checkpoint is whole: a run continues from it with "
            "--resume."
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
    """A loaded checkpoint; `modules` holds what was learned beside the model and answers need."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    info: CheckpointInfo
    modules: nn.ModuleDict


def load_checkpoint(path: Path | str, *, base: str | None = None) -> Checkpoint:
    """Load a checkpoint from its folder, from a run folder (its best), or from the hub.

    "quickstart", where there is no such folder, is the one that comes with the package.

    Args:
        path: Where it is.
        base: For one with adapters: hub id or folder of the model that they were trained beside,
            if it is not where it was then.

    Raises:
        CheckpointError: It is none, it is of a newer format, or its base is not there.
        DamagedError: Its files are not what was written.
    """
    name, info = locate(path)
    try:
        tokenizer = load_tokenizer_of(name)
        settings, weights = _file_of(name, ADAPTERS_FILE), _file_of(name, WEIGHTS_FILE)
        if settings is not None and weights is None:
            raise FileNotFoundError(f"{WEIGHTS_FILE} is missing")
        if settings is not None and weights is not None:
            model = load_adapted(name, settings, weights, tokenizer, base)
        else:
            model = load_weights(name)
        _check_fits(model, tokenizer)
        modules = nn.ModuleDict(
            {key: one.make(model) for key, one in info.bound_method.modules.items() if one.is_kept}
        )
        if modules:
            learned = learned_beside(name)
            if learned is None:
                raise FileNotFoundError(f"{MODULES_FILE} is missing")
            modules.load_state_dict(learned)
    except CheckpointError:
        raise
    except Exception as error:  # transformers and safetensors raise many kinds
        raise DamagedError(
            f"{name}: its weights or tokenizer cannot be read: {one_line(str(error), 600)}. The "
            "checkpoint is damaged; take another one of the same run."
        ) from error
    if not takes_split_cache(model):  # training or convert has looked at the others
        choose_way(model)
    return Checkpoint(model.eval(), tokenizer, info, modules.eval())


def learned_beside(name: str) -> dict[str, torch.Tensor] | None:
    """Return what a checkpoint holds beside its model, by module and weight, if it holds any.

    Raises:
        SafetensorError: Its file is damaged.
        OSError: It cannot be read.
    """
    before = _file_of(name, STOP_FILE)  # of older versions
    if before is not None:
        return {f"{STOP}.{key}": tensor for key, tensor in load_file(before).items()}
    file = _file_of(name, MODULES_FILE)
    return None if file is None else load_file(file)


def _check_fits(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise what comes up where a tokenizer does not work, or names rows that a model lacks."""
    tokenizer("a b", add_special_tokens=True)
    _ = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id
    special_tokens_of(tokenizer)
    rows = model.get_input_embeddings().get_parameter("weight").shape[0]
    highest = max(tokenizer.get_vocab().values(), default=0)
    if highest >= rows:
        raise ValueError(f"the tokenizer has a token {highest}, but there are {rows} embeddings")
    with torch.no_grad():  # a config.json can be right in itself and fit no weights
        model(input_ids=torch.zeros(1, 1, dtype=torch.long))


def holds(path: Path | str, file: str) -> bool:
    """Return whether a checkpoint, or the best one of a run, has a file of this name.

    Raises:
        CheckpointError: It is none.
    """
    return _file_of(locate(path)[0], file) is not None


def _file_of(name: str, file: str) -> Path | None:
    """Return a file of a folder or of the hub; None if it is not there."""
    if Path(name).is_dir():
        path = Path(name) / file
        return path if path.exists() else None
    try:
        return Path(hf_hub_download(name, file))
    except (EntryNotFoundError, LocalEntryNotFoundError):
        return None


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
        # Not torch's own words: they advise to load it with all the code that may be in it.
        is_code = isinstance(error, pickle.UnpicklingError)
        reason = "it holds more than tensors and plain values" if is_code else error
        raise DamagedError(
            f"{path}: cannot be read: {one_line(str(reason))}. It is damaged."
        ) from error
    if not isinstance(state, dict):
        raise DamagedError(f"{path}: must hold a dict, got {type(state).__name__}.")
    return state


_PLAIN = (
    f"is a model, but none that latentcot has trained: it has no {INFO_FILE}. Train it: latentcot "
    "train RECIPE --set model=…, with this name. Weights that other code has trained for thoughts "
    "are read by latentcot convert."
)


def locate(path: Path | str) -> tuple[str, CheckpointInfo]:
    """Find a checkpoint by its folder, its run (the best), its hub id, or its name in the package.

    Returns:
        Its folder or hub id, and what it says of itself.

    Raises:
        CheckpointError: It is none, or of a newer format.
        DamagedError: Its files are not what was written.
    """
    folder = here_or_shipped(path)
    if (folder / "checkpoints").is_dir() or (folder / "recipe.yaml").is_file():
        best = best_checkpoint(folder)
        if best is None:
            raise CheckpointError(f"{folder}: this run has no checkpoint yet.")
        folder = best
    if folder.is_dir():
        if not (folder / INFO_FILE).exists():
            if (folder / "config.json").is_file():
                raise CheckpointError(f"{folder}: {_PLAIN}")
            raise CheckpointError(
                f"{folder}: is no checkpoint of latentcot: it holds no {INFO_FILE}. Give a run "
                "folder (with checkpoints/ in it) or one of its checkpoints."
            )
        verify(folder, leave_out=(STATE_FILE,))
        return str(folder), read_info(folder / INFO_FILE)
    if folder.is_file():
        raise CheckpointError(f"{path}: is a file. Give a run or checkpoint folder, or a hub id.")
    if not could_be_on_hub(path) or (len(folder.parts) > 1 and folder.parent.exists()):
        raise CheckpointError(f"{path}: no such folder.")
    use_cache_if_unreachable()
    try:
        return str(path), read_info(Path(hf_hub_download(str(path), INFO_FILE)))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        is_there = isinstance(try_to_load_from_cache(str(path), "config.json"), str)
        if is_there or type(error) is RemoteEntryNotFoundError:
            raise CheckpointError(f"{path}: {_PLAIN}") from None
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{path}: no such folder, and the hub has no {INFO_FILE} under this name: {reason}"
        ) from None


def read_info(path: Path) -> CheckpointInfo:
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON: {error}.") from None
    version = values.get("format_version") if isinstance(values, dict) else None
    if type(version) is not int or not 1 <= version <= CHECKPOINT_VERSION:
        raise CheckpointError(
            f"{path}: format_version must be 1 … {CHECKPOINT_VERSION}, got {shown(version)}. "
            "A higher one was written by a newer latentcot: upgrade it."
        )
    try:
        info = TypeAdapter(CheckpointInfo).validate_python(_upgraded(values))
    except ValidationError as error:
        raise CheckpointError(listed(str(path), explain_all(error.errors(), _FORM))) from None
    problems = list(_problems(info))
    if problems:
        raise CheckpointError(listed(str(path), problems))
    return info


_FORM = Form(
    "latentcot.json",
    CheckpointInfo,
    unions={
        "task": "the name of a task, or how to match answers",
        "method": "the name of a method, or its name and settings",
    },
    inner={"task": AnswerMatch},
)


def _problems(info: CheckpointInfo) -> Iterator[str]:
    """Yield what is wrong with values of the right kinds: no such method, numbers out of range."""
    try:
        method_named(info.method)
        task_named(info.task)
    except LatentcotError as error:
        yield one_line(str(error), 600)
    plan = info.plan
    numbers: dict[str, int | float | None] = {
        "stage": info.stage,
        "num_thoughts": info.num_thoughts,
        "max_thoughts": info.max_thoughts,
        "max_new_tokens": info.max_new_tokens,
        "plan.num_stages": plan.num_stages,
        "plan.thoughts_per_step": plan.thoughts_per_step,
        "plan.tokens_until_all": plan.tokens_until_all,
        "plan.num_stages × plan.thoughts_per_step": plan.num_stages * plan.thoughts_per_step,
    }
    for key, number in numbers.items():
        if number is not None and not 0 <= number <= MOST:
            yield f"{key}: must be 0 … {MOST}, got {shown(number)}."
    if not 0 <= (info.stop_threshold or 0.0) <= 1:
        yield f"stop_threshold: must be 0 … 1, got {shown(info.stop_threshold)}."
    if not info.template.answer_start.strip():
        got = shown(info.template.answer_start)
        yield f"template.answer_start: must hold a word or sign, got {got}."


def _upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """Turn older versions into the present form.

    Version 1 had the numbers of the plan next to the rest. Version 3 has the fields of version 2,
    and checksums in the folder; version 4 holds modules, and settings of the method.
    """
    if values["format_version"] == CHECKPOINT_VERSION:
        return values
    if values["format_version"] in (2, 3):
        return values | {"format_version": CHECKPOINT_VERSION}
    of_plan = ("num_stages", "thoughts_per_step", "pad_to_num_stages")
    rest = {key: value for key, value in values.items() if key not in of_plan}
    plan = {key: values[key] for key in of_plan if key in values}
    return rest | {"plan": plan, "format_version": CHECKPOINT_VERSION}
