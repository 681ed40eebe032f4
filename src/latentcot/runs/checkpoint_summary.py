"""What a checkpoint folder says of itself, without its weights being loaded."""

from collections.abc import MutableSequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from latentcot.errors import LatentcotError
from latentcot.models.lora_files import WEIGHTS_FILE
from latentcot.runs.checkpoint import FORMAT_VERSION
from latentcot.runs.checkpoint_folders import INFO_FILE, verify
from latentcot.utils.parsing import parse_json
from latentcot.utils.versions import read_versioned

State = Literal["whole", "no checksums", "damaged", "set aside"]


@dataclass(frozen=True, slots=True)
class Model:
    """What is trained.

    Attributes:
        architecture: The class of transformers, or the family as the recipe names it before there
            is a checkpoint; None if unknown.
        pretrained: Where its first weights came from; None for a model from scratch.
        num_parameters: Tied ones count once; None if unknown.
        num_adapted: Those of its adapters, where these alone are saved.
    """

    architecture: str | None
    pretrained: str | None
    num_parameters: int | None
    num_adapted: int | None = None


@dataclass(frozen=True, slots=True)
class CheckpointSummary:
    """A checkpoint folder.

    Attributes:
        name: Of the folder.
        update: Updates that its weights have seen.
        stage: That they were trained for; None if it is damaged.
        num_bytes: On disk.
        is_best: Whether validation chose it.
        state: `whole` if all files are what was written, `no checksums` if nothing tells (formats 1
            and 2), `damaged` if it cannot be used, `set aside` if training has passed it over.
        format_version: Of its files; None if it is damaged.
    """

    name: str
    update: int
    stage: int | None
    num_bytes: int
    is_best: bool
    state: State
    format_version: int | None

    @property
    def is_usable(self) -> bool:
        """Whether it can be loaded, as far as is known."""
        return self.state in ("whole", "no checksums")


def summarize_checkpoint(
    folder: Path, problems: MutableSequence[str], *, is_best: bool = False
) -> tuple[CheckpointSummary, dict[str, Any]]:
    """Read what a checkpoint is, and compare its files with their checksums.

    Args:
        folder: The checkpoint.
        problems: What is wrong is added here, in words.
        is_best: Whether validation chose it.

    Returns:
        The summary, and what `latentcot.json` holds; nothing where it is damaged.
    """
    info: dict[str, Any] = {}
    state: State = "set aside"
    if not folder.name.startswith("damaged-"):
        try:
            is_verified = verify(folder)
            info = read_versioned(folder / INFO_FILE, FORMAT_VERSION)
            state = "whole" if is_verified else "no checksums"
        except (LatentcotError, FileNotFoundError) as error:
            state = "damaged"
            problems.append(f"{folder}: {error}" if isinstance(error, OSError) else str(error))
    num_bytes = 0
    with suppress(OSError):  # deleted meanwhile
        num_bytes = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    number = folder.name.rpartition("-")[2]
    update, stage = info.get("update"), info.get("stage")
    return CheckpointSummary(
        name=folder.name,
        update=update if isinstance(update, int) else int(number) if number.isdecimal() else 0,
        stage=stage if isinstance(stage, int) else None,
        num_bytes=num_bytes,
        is_best=is_best,
        state=state,
        format_version=info.get("format_version", 1) if info else None,
    ), info


def model_of(folder: Path, pretrained: str | None = None) -> Model:
    """Read what model a checkpoint holds; what cannot be read is None."""

    def count(pattern: str) -> int | None:
        """Add up the shapes in the heads of the weight files."""
        num = 0
        for path in folder.glob(pattern):
            with safe_open(path, framework="pt") as file:
                num += sum(prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
        return num or None

    architecture = num_parameters = num_adapted = None
    with suppress(OSError, ValueError, LookupError, TypeError):
        config = parse_json((folder / "config.json").read_text(encoding="utf-8"))
        architecture = str(config["architectures"][0])
    with suppress(OSError, SafetensorError):
        num_adapted = count(WEIGHTS_FILE)
    with suppress(OSError, SafetensorError):
        num_parameters = count("model*.safetensors")
    return Model(architecture, pretrained, num_parameters, num_adapted)
