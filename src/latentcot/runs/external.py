"""Models that other code has saved: weights, configuration and tokenizer, all accounted for.

The official Coconut code saves a state dict. Its latent methods wrap the language model, which puts
`base_causallm.` before each name, and hold the input embeddings a second time as
`embedding.weight`. Three tokens are added behind the vocabulary of the base model, in the order of
`OFFICIAL`. Plain fine-tuning saves the model as it is. Others: `origins.py`.

A torch file is a pickle, and a pickle can run any code when it is opened. torch's reader for
tensors (`weights_only=True`) runs none; a file that holds more is refused.
"""

import json
import pickle
import re
import tempfile
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from latentcot.errors import CheckpointError, UsageError
from latentcot.models.loading import load_tokenizer_of, load_weights, no_bars
from latentcot.models.special_tokens import BOT, EOT, PAUSE
from latentcot.runs.origins import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    EMBEDDING_COPY,
    KNOWN,
    PCCOT_ARGS,
    Beside,
    Origin,
    merge,
    prefixes,
    sort_out,
)

OFFICIAL = {"<|start-latent|>": BOT, "<|end-latent|>": EOT, "<|latent|>": PAUSE}
"""The official names of the special tokens, in the order in which that code adds them."""
# Older transformers saved masks and frequencies too; they follow from the configuration.
BUFFERS = re.compile(r"\.attn\.(masked_)?bias$|\.rotary_emb\.inv_freq$")
WHOLE = ("model.safetensors", "pytorch_model.bin")
"""What `save_pretrained` calls its weights, the one taken first in front."""
SHARD = re.compile(r"[\w-][\w.-]*\.(safetensors|bin)", re.ASCII)
"""What an index may name: a file next to it."""
SUGGESTION = "Give a folder of save_pretrained, a .safetensors file, or a torch state dict."


@dataclass(frozen=True, slots=True)
class External:
    """A model as others saved it, in float32.

    Attributes:
        model: With as many rows as were saved.
        tokenizer: Its own, or that of the base; official special tokens have our names.
        base_rows: Rows of its table that the configuration speaks of.
        origin: Who saved it.
        num_tensors: Tensors that were saved.
        modules: What answers need beside it, as a checkpoint of ours holds it.
        notes: What was changed, one sentence each.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    base_rows: int
    origin: Origin
    num_tensors: int
    modules: dict[str, Tensor]
    notes: tuple[str, ...]

    @property
    def num_rows(self) -> int:
        """Rows of its embedding table."""
        return len(self.model.get_input_embeddings().get_parameter("weight"))


def lacking(source: Path, base: str | None) -> list[str]:
    """Return what nobody gives: files that SOURCE lacks, as long as there is no base.

    Raises:
        UsageError: A base is given, but nothing would be taken from it.
    """
    there = {"config.json": _has_config(source), "tokenizer.json": _has_tokenizer(source)}
    if (source / ADAPTER_CONFIG).is_file():
        there = {"the weights beside adapters": False, **there}
    if base is None:
        return [name for name, is_there in there.items() if not is_there]
    if all(there.values()):
        raise UsageError(
            f"--base: {source} has a configuration and a tokenizer of its own, so nothing would be "
            f"taken from {base}. Leave it out, or give the file of weights instead of the folder."
        )
    return []


def load_external(
    source: Path, base: str | None, told: Beside, lora_alpha: float | None = None
) -> External:
    """Load what others saved.

    Args:
        source: A file of weights, or a folder that `save_pretrained` wrote.
        base: Hub id or folder that gives the configuration, the tokenizer, or the weights that
            SOURCE lacks.
        told: What lies beside the weights.
        lora_alpha: Scale of adapters, where nothing beside them tells it.

    Raises:
        CheckpointError: Something cannot be read, or the weights are not those of such a model.
        UsageError: `lora_alpha` is said for nothing.
    """
    config = _load_config(str(source) if base is None or _has_config(source) else base)
    tokenizer = _load_tokenizer(str(source) if base is None or _has_tokenizer(source) else base)
    if told.tokens:
        names = {str(tokenizer.convert_ids_to_tokens(id_)): our for id_, our in told.tokens.items()}
        tokenizer = _rename(tokenizer, names)
    saved = read_weights(source)
    parts, skeleton = sort_out(saved, source), _skeleton(config)
    weights, second = parts.weights, parts.embedding_copy
    tables = skeleton.get_input_embeddings(), skeleton.get_output_embeddings()
    tables_of = {part: f"{name}.weight" for name, part in skeleton.named_modules()}
    embedding, head = (tables_of.get(table, "") for table in tables)
    if lora_alpha is not None and (told.alpha is not None or not parts.adapters):
        why = "holds no adapters" if told.alpha is None else f"tells it itself, {told.alpha:g}"
        raise UsageError(f"--lora-alpha: {source} {why}. Leave it out.")
    if parts.adapters or parts.rows:
        _complete(weights, skeleton, base, head, parts.notes)
        merge(parts, skeleton, told, lora_alpha, source)
    first, base_rows = weights.get(embedding), config.vocab_size
    # A missing one is named with whatever else is missing.
    if first is not None and second is not None and not torch.equal(first, second):
        raise CheckpointError(
            f"{source}: {EMBEDDING_COPY} must be the input embeddings once more, but differs from "
            "them. The file is damaged, or not of the official code."
        )
    if first is not None and first.dim() == 2:
        config.vocab_size = len(first)
    model, notes = _filled(config, weights, embedding, head, source)
    notes = [*parts.notes, *notes]
    return External(
        model, tokenizer, base_rows, parts.origin, len(saved), parts.modules, tuple(notes)
    )


def _complete(
    weights: dict[str, Tensor],
    skeleton: PreTrainedModel,
    base: str | None,
    head: str,
    notes: list[str],
) -> None:
    """Take from the base what adapters were saved without; a tied head is the embeddings.

    Raises:
        CheckpointError: It cannot be loaded.
    """
    is_tied = getattr(skeleton.config, "tie_word_embeddings", False)
    missing = [n for n in skeleton.state_dict() if n not in weights and not (is_tied and n == head)]
    if not missing or base is None:
        return
    try:
        theirs = load_weights(base).state_dict()
    except Exception as error:  # transformers, its hub and safetensors raise many kinds
        raise _not_loaded(base, "weights, which the adapters lack,", error) from None
    weights |= {name: theirs[name] for name in missing if name in theirs}
    notes.append(f"{len(missing)} tensors, such as {missing[0]}, are those of {base}.")


# --- configuration and tokenizer ----------------------------------------------------------------


def _has_config(source: Path) -> bool:
    # PCCoT has a model type of its own there, and next to adapters it is of no model.
    is_other = any((source / name).is_file() for name in (ADAPTER_CONFIG, PCCOT_ARGS))
    return (source / "config.json").is_file() and not is_other


def _has_tokenizer(source: Path) -> bool:
    return any((source / f"{name}.json").is_file() for name in ("tokenizer", "tokenizer_config"))


def _load_config(name: str) -> PreTrainedConfig:
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # transformers and its hub raise many kinds
        raise _not_loaded(name, "configuration", error) from None
    if getattr(config, "quantization_config", None) is not None:
        raise CheckpointError(
            f"{name}: is a quantized model, whose weights are no plain numbers. Give one that is "
            "not quantized."
        )
    if not isinstance(getattr(config, "vocab_size", None), int):
        raise CheckpointError(
            f"{name}: its configuration has no vocab_size, so it is none of a plain language "
            "model. GPT-2, Llama, Qwen2, Qwen3 and Mistral have one."
        )
    return config


def _load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    try:
        tokenizer = load_tokenizer_of(name)
        if set(tokenizer.get_vocab().values()) <= set(tokenizer.all_special_ids):
            # transformers makes an empty one where it finds a configuration alone.
            raise ValueError("it has no words.")
    except Exception as error:  # transformers and its hub raise many kinds
        raise _not_loaded(name, "tokenizer", error) from None
    return rename_official(tokenizer)


def _not_loaded(name: str, what: str, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{name}: its {what} cannot be loaded: {_reason(error)} Give --base a folder with "
        "config.json and tokenizer, or a hub id such as openai-community/gpt2 (needs a network or "
        "the hub's cache). Code that comes with a model is never run."
    )


def _reason(error: Exception) -> str:
    """Return the first line of what a library says."""
    return (str(error).strip().splitlines() or [repr(error)])[0]


def rename_official(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Give the official special tokens of a tokenizer our names; ids and all other tokens stay.

    Returns:
        A new tokenizer, or the same one if it has no official special tokens.

    Raises:
        CheckpointError: It has only some of them, or ours next to them.
    """
    vocabulary = tokenizer.get_vocab()
    found = [name for name in (*OFFICIAL, *OFFICIAL.values()) if name in vocabulary]
    if not set(found) & OFFICIAL.keys():
        return tokenizer
    if set(found) != OFFICIAL.keys():
        raise CheckpointError(
            f"{tokenizer.name_or_path}: its tokenizer must have all of {', '.join(OFFICIAL)} and "
            f"none of {', '.join(OFFICIAL.values())}, or none of the former, got "
            f"{', '.join(found)}."
        )
    return _rename(tokenizer, OFFICIAL)


def _rename(
    tokenizer: PreTrainedTokenizerBase, names: Mapping[str, str]
) -> PreTrainedTokenizerBase:
    """Return a tokenizer in which some tokens have other names; ids and all other tokens stay."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        for path in Path(folder).glob("*.json"):
            values = json.loads(path.read_text(encoding="utf-8"))
            text = json.dumps(_renamed(values, names), ensure_ascii=False)
            path.write_text(text, encoding="utf-8")
        renamed = load_tokenizer_of(folder)
    renamed.name_or_path = tokenizer.name_or_path
    return renamed


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Replace names wherever they are a whole text, in keys and in values."""
    if isinstance(value, dict):
        return {names.get(key, key): _renamed(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [_renamed(inner, names) for inner in value]
    return names.get(value, value) if isinstance(value, str) else value


# --- files of weights ---------------------------------------------------------------------------


def read_weights(source: Path) -> dict[str, Tensor]:
    """Read all tensors of a file, or of a folder that `save_pretrained` wrote.

    Returns:
        Name → tensor on the CPU, as it was saved; those of a torch file may still be on disk.

    Raises:
        CheckpointError: There is nothing, it cannot be read, or it holds more than tensors.
    """
    weights: dict[str, Tensor] = {}
    for file in _files_of(source) if source.is_dir() else [source]:
        found = _read(file)
        if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
            found = found["state_dict"]  # of Lightning, as CoLaR's
        if not isinstance(found, dict) or not found:
            what = "nothing" if found == {} else f"a {type(found).__name__}"
            raise CheckpointError(f"{file}: must hold tensors by name, got {what}. {SUGGESTION}")
        for name, value in found.items():
            if not isinstance(name, str) or not isinstance(value, Tensor):
                raise CheckpointError(
                    f"{file}: must hold tensors by name and nothing else, got "
                    f"{type(value).__name__} under {name!r}. Save the model's state_dict() alone."
                )
            if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
                raise CheckpointError(
                    f"{file}: {name}: must be a plain dense tensor, got {value.layout} on "
                    f"{value.device}. Save the weights dense."
                )
            if name in weights:
                raise CheckpointError(f"{file}: holds {name}, which another shard holds as well.")
            weights[name] = value
    return weights


def _files_of(folder: Path) -> list[Path]:
    for name in WHOLE:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return [folder / name]
        if not index.is_file():
            continue
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"{index}: names no files of weights: {error!r}.") from None
        odd = [one for one in shards if not isinstance(one, str) or not SHARD.fullmatch(one)]
        if odd or not shards:
            raise CheckpointError(f"{index}: must name files next to it, got {odd[:1] or 'none'}.")
        return [folder / shard for shard in sorted(shards)]
    if (folder / ADAPTER_WEIGHTS).is_file():
        return [folder / ADAPTER_WEIGHTS]
    raise CheckpointError(
        f"{folder}: holds no weights: neither {' nor '.join(WHOLE)}. Of a run of the official code "
        f"give the file itself, such as {folder / 'checkpoint_33'}."
    )


def _read(file: Path) -> Any:
    """Return what a safetensors or torch file holds, whatever it is."""
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file or folder. {SUGGESTION}")
    kind = "safetensors" if file.suffix == ".safetensors" else "a torch file"
    try:
        if kind == "safetensors":
            return load_file(file)
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
    except Exception as error:  # both raise many kinds for a damaged file
        raise CheckpointError(
            f"{file}: cannot be read as {kind}: {_reason(error)} It is damaged, or something else."
        ) from None


# --- the model ----------------------------------------------------------------------------------


def _skeleton(config: PreTrainedConfig) -> PreTrainedModel:
    """Make the model without memory for its weights."""
    try:
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(
                config, trust_remote_code=False
            )
    except Exception as error:  # each family raises what it likes
        raise CheckpointError(
            f"{config.name_or_path}: no causal language model can be made of its configuration: "
            f"{_reason(error)} Give another --base."
        ) from None
    return model


def _filled(
    config: PreTrainedConfig, weights: dict[str, Tensor], embedding: str, head: str, source: Path
) -> tuple[PreTrainedModel, list[str]]:
    """Return the model with these weights, and what was changed in them.

    Raises:
        CheckpointError: They are not those of such a model, or not all finite numbers.
    """
    skeleton, notes = _skeleton(config), []
    wanted = {name: value.shape for name, value in skeleton.state_dict().items()}
    is_tied = getattr(config, "tie_word_embeddings", False)
    if is_tied and head not in weights:
        wanted.pop(head, None)
    left_out = [name for name in weights if name not in wanted and BUFFERS.search(name)]
    for name in left_out:
        del weights[name]
    if left_out:
        notes.append(
            f"{len(left_out)} tensors are masks or frequencies that follow from the "
            f"configuration, such as {left_out[0]}: left out."
        )
    _account(weights, wanted, f"{config.model_type} as {config.name_or_path}", source)

    kinds = Counter(str(value.dtype).removeprefix("torch.") for value in weights.values())
    for name, value in weights.items():
        if not value.is_floating_point():
            raise CheckpointError(f"{source}: {name}: must hold real numbers, got {value.dtype}.")
        weights[name] = value.to(torch.float32)
    bad = [name for name, value in weights.items() if not torch.isfinite(value).all()]
    if bad:
        raise CheckpointError(
            f"{source}: {len(bad)} tensors hold numbers that are not finite (in float32): "
            f"{', '.join(bad[:3])}. That training has diverged: take an earlier file."
        )
    notes += [
        f"{count} tensors are {kind}: written as float32"
        f"{', rounded.' if kind == 'float64' else ', which changes no number.'}"
        for kind, count in kinds.items()
        if kind != "float32"
    ]
    # A head that differs from the embeddings cannot have been saved from a tied model.
    if is_tied and head in weights and not torch.equal(weights[head], weights[embedding]):
        config.tie_word_embeddings = False
        notes.append(
            f"The configuration ties {head} to {embedding}, but here they differ: both are kept, "
            "and the model is no longer tied."
        )

    with no_bars():
        loaded: Any = type(skeleton).from_pretrained(
            None, config=config, state_dict=weights, dtype=torch.float32, output_loading_info=True
        )
    left = {what: names for what, names in loaded[1].items() if names}
    if left:
        raise CheckpointError(f"{source}: transformers does not take these weights: {left}.")
    model: PreTrainedModel = loaded[0]
    return model.eval(), notes


def _account(
    weights: Mapping[str, Tensor], wanted: Mapping[str, torch.Size], what: str, source: Path
) -> None:
    """Make sure that there is every tensor of the model, of its shape, and no other."""
    odd = {
        "missing": [name for name in wanted if name not in weights],
        "that it does not have": [name for name in weights if name not in wanted],
        "of another shape": [
            f"{name} {tuple(value.shape)} and not {tuple(wanted[name])}"
            for name, value in weights.items()
            if name in wanted and value.shape != wanted[name]
        ],
    }
    if weights and not any(name in wanted for name in weights):
        raise CheckpointError(
            f"{source}: is of nobody that is known here. Its names begin with {prefixes(weights)}; "
            f"a model of {what} has {prefixes(wanted)}. What is known, by the names: {KNOWN}. Save "
            "the language model alone, under its own names."
        )
    problems = [
        f"{len(names)} {kind}: {', '.join(names[:3])}{', …' if len(names) > 3 else ''}"
        for kind, names in odd.items()
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{source}: its tensors are not those of {what} configures it. {'; '.join(problems)}. "
            "Give the --base that the run started from, of the same family and size."
        )
