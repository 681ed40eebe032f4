"""Adapters in a checkpoint: what was trained alone, and the name of the base.

    adapter_model.safetensors, adapter_config.json   as peft writes them, and loads them too
    adapters.json                                    the base and the settings; this one we read

peft's own file of settings is never read here: it can name modules that peft would import.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from latentcot.errors import CheckpointError
from latentcot.models.loading import load_weights
from latentcot.models.lora import (
    Adapters,
    adapters_of,
    add_adapters,
    fingerprint,
    require_peft,
    take_over,
    trained_names,
)
from latentcot.models.settings import ADAPTERS_FILE, WEIGHTS_FILE
from latentcot.models.special_tokens import make_room, rows_of_special_tokens
from latentcot.utils.files import write_json
from latentcot.utils.parsing import one_line, parse_json, shown


def save_adapters(
    folder: Path, model: PreTrainedModel, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Write what was trained.

    Args:
        folder: Where to.
        model: With adapters.
        weights: Its state_dict, or a copy of that; frozen tensors may be left out.
    """
    adapters = adapters_of(model)
    assert adapters is not None
    source = model.state_dict() if weights is None else weights
    tensors = {
        there: source[here].detach().cpu().contiguous()
        for here, there in trained_names(model).items()
    }
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    model.peft_config["default"].save_pretrained(str(folder))
    model.config.save_pretrained(folder)  # tells the architecture, and the number of rows
    write_json(folder / ADAPTERS_FILE, asdict(adapters))


def load_adapted(
    name: str,
    settings: Path,
    weights: Path,
    tokenizer: PreTrainedTokenizerBase,
    base: str | None = None,
) -> PreTrainedModel:
    """Load the base of a checkpoint with adapters, and put these in.

    Args:
        name: What the checkpoint is called in errors.
        settings: Its `adapters.json`.
        weights: Its file of weights.
        tokenizer: That of the checkpoint.
        base: Where the base is, if it is not where it was.

    Raises:
        CheckpointError: peft or the base is missing, or the base is another model.
        Exception: Many kinds, where the files are damaged.
    """
    require_peft(name, CheckpointError)
    try:
        values = parse_json(settings.read_text(encoding="utf-8"))
        adapters = TypeAdapter(Adapters).validate_python(values)
    except ValidationError as error:
        raise ValueError(f"{settings}: {one_line(str(error))}") from None

    base = base or adapters.base
    elsewhere = f"latentcot convert {name} --base FOLDER --out MERGED"
    try:
        model = load_weights(base)
    except Exception as error:  # transformers, its hub and safetensors raise many kinds
        is_gone = Path(base).is_absolute() and not Path(base).is_dir()
        reason = "no such folder." if is_gone else one_line(str(error))
        raise CheckpointError(
            f"{name}: holds adapters alone, and the model that they were trained on, "
            f"{shown(base)}, cannot be loaded: {reason} Bring it back, or say where it is now: "
            f"{elsewhere}"
        ) from None
    if fingerprint(model) != adapters.fingerprint:
        raise CheckpointError(
            f"{name}: its adapters were trained on other weights than those that {shown(base)} "
            f"holds now. Bring these back, or say where they are: {elsewhere}"
        )
    make_room(tokenizer, model)
    add_adapters(model, adapters, rows_of_special_tokens(tokenizer))
    take_over(model, load_file(weights))
    return model
