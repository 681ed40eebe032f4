"""Tensors from files that others wrote: safetensors, or torch files that hold tensors alone.

A torch file is a pickle, and a pickle can run any code when it is opened. torch's reader for
tensors (`weights_only=True`) runs none; a file that holds more is refused.
"""

import json
import pickle
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from latentcot.errors import CheckpointError

WHOLE = ("model.safetensors", "pytorch_model.bin")
"""What `save_pretrained` calls its weights, the one taken first in front."""
SHARD = re.compile(r"[\w-][\w.-]*\.(safetensors|bin)", re.ASCII)
"""What an index may name: a file beside it."""
SUGGESTION = "Give a folder of save_pretrained, a .safetensors file, or a torch state dict."


def read_weights(source: Path) -> dict[str, Tensor]:
    """Read all tensors of a file, or of a folder that `save_pretrained` wrote.

    Returns:
        Name → tensor on the CPU, as it was saved; those of a torch file may still be on disk.

    Raises:
        CheckpointError: There is nothing, it cannot be read, or it holds more than tensors.
    """
    if source.is_dir():
        return _joined(_files_of(source))
    if not source.is_file():
        raise CheckpointError(f"{source}: no such file or folder. {SUGGESTION}")
    return _read(source)


def _files_of(folder: Path) -> list[Path]:
    for name in WHOLE:
        if (folder / name).is_file():
            return [folder / name]
        if (folder / f"{name}.index.json").is_file():
            return _shards(folder / f"{name}.index.json")
    if (folder / "adapter_config.json").is_file():
        raise CheckpointError(
            f"{folder}: holds an adapter, not a model. Merge it into its model first (peft's "
            "merge_and_unload) and save that."
        )
    raise CheckpointError(
        f"{folder}: holds no weights: neither {' nor '.join(WHOLE)}. Of a run of the official code "
        f"give the file itself, such as {folder / 'checkpoint_33'}."
    )


def _shards(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{index}: names no files of weights: {error!r}.") from None
    odd = [name for name in names if not isinstance(name, str) or not SHARD.fullmatch(name)]
    if odd or not names:
        raise CheckpointError(f"{index}: must name files beside it, got {odd[:1] or 'none'}.")
    return [index.with_name(name) for name in sorted(names)]


def _joined(files: Iterable[Path]) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for file in files:
        read = _read(file)
        twice = sorted(weights.keys() & read.keys())
        if twice:
            raise CheckpointError(f"{file}: holds {twice[0]}, which another shard holds as well.")
        weights |= read
    return weights


def _read(file: Path) -> dict[str, Tensor]:
    found = _read_safetensors(file) if file.suffix == ".safetensors" else _read_torch(file)
    if not isinstance(found, dict) or not found:
        what = "nothing" if found == {} else f"a {type(found).__name__}"
        raise CheckpointError(f"{file}: must hold tensors by name, got {what}. {SUGGESTION}")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{file}: must hold tensors by name and nothing else, got {type(value).__name__} "
                f"under {name!r}. Save the model's state_dict() alone."
            )
        if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
            raise CheckpointError(
                f"{file}: {name}: must be a plain dense tensor, got {value.layout} on "
                f"{value.device}. Save the weights dense."
            )
    return dict(found)


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except Exception as error:  # safetensors, and torch for kinds of numbers that it lacks
        raise CheckpointError(f"{file}: cannot be read as safetensors: {error}.") from None


def _read_torch(file: Path) -> Any:
    try:
        is_zip = zipfile.is_zipfile(file)  # the form before torch 1.6 cannot be mapped
        return torch.load(file, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        more = f" (it asks for {asked[1]})" if asked else ""
        raise CheckpointError(
            f"{file}: is no torch file that holds tensors alone{more}. Nothing of it was run. "
            "If you trust it, load it where it was made, and save the model's state_dict() alone, "
            "or as safetensors."
        ) from None
    except Exception as error:  # torch raises many kinds for a damaged file
        reason = (str(error).strip().splitlines() or [repr(error)])[0]
        raise CheckpointError(
            f"{file}: cannot be read as a torch file: {reason} It is damaged, or something else."
        ) from None
