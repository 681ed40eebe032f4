"""Models that other code has saved: weights, configuration and tokenizer, all accounted for.

The official Coconut code saves a state dict. Its latent methods wrap the language model, which puts
`base_causallm.` before each name, and hold the input embeddings a second time as
`embedding.weight`. Three tokens are added behind the vocabulary of the base model, in the order of
`OFFICIAL`. Plain fine-tuning saves the model as it is.
"""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from latentcot.errors import CheckpointError, UsageError
from latentcot.models.loading import load_tokenizer_of, no_bars
from latentcot.models.special_tokens import BOT, EOT, PAUSE
from latentcot.runs.weight_files import read_weights

OFFICIAL = {"<|start-latent|>": BOT, "<|end-latent|>": EOT, "<|latent|>": PAUSE}
"""The official names of the special tokens, in the order in which that code adds them."""
WRAPPER = "base_causallm."
EMBEDDING_COPY = "embedding.weight"
DISTRIBUTED = "module."
# Older transformers saved masks and frequencies too; they follow from the configuration.
BUFFERS = re.compile(r"\.attn\.(masked_)?bias$|\.rotary_emb\.inv_freq$")


@dataclass(frozen=True, slots=True)
class External:
    """A model as others saved it, in float32.

    Attributes:
        model: With as many rows as were saved.
        tokenizer: Its own, or that of the base; official special tokens have our names.
        base_rows: Rows of its table that the configuration speaks of.
        is_wrapped: Whether the official wrapper was around it.
        num_tensors: Tensors that were saved.
        notes: What was changed, one sentence each.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    base_rows: int
    is_wrapped: bool
    num_tensors: int
    notes: tuple[str, ...]

    @property
    def num_rows(self) -> int:
        """Rows of its embedding table."""
        return len(self.model.get_input_embeddings().get_parameter("weight"))

    @property
    def is_grown(self) -> bool:
        """Whether tokens have been added behind its base's, as far as can be told."""
        return self.is_wrapped or self.num_rows != self.base_rows


def lacking(source: Path, base: str | None) -> list[str]:
    """Return what nobody gives: files that SOURCE lacks, as long as there is no base.

    Raises:
        UsageError: A base is given, but nothing would be taken from it.
    """
    there = {"config.json": _has_config(source), "tokenizer.json": _has_tokenizer(source)}
    if base is None:
        return [name for name, is_there in there.items() if not is_there]
    if all(there.values()):
        raise UsageError(
            f"--base: {source} has a configuration and a tokenizer of its own, so nothing would be "
            f"taken from {base}. Leave it out, or give the file of weights instead of the folder."
        )
    return []


def load_external(source: Path, base: str | None) -> External:
    """Load what others saved.

    Args:
        source: A file of weights, or a folder that `save_pretrained` wrote.
        base: Hub id or folder that gives the configuration or tokenizer that SOURCE lacks.

    Raises:
        CheckpointError: Something cannot be read, or the weights are not those of such a model.
    """
    config = _load_config(str(source) if base is None or _has_config(source) else base)
    tokenizer = _load_tokenizer(str(source) if base is None or _has_tokenizer(source) else base)
    saved = read_weights(source)
    weights, second = _plain_names(saved, source)
    skeleton = _skeleton(config)
    embeddings = weights.get(_name_of(skeleton, skeleton.get_input_embeddings()))
    _refuse_other_copy(embeddings, second, source)
    base_rows = config.vocab_size
    if embeddings is not None and embeddings.dim() == 2:
        config.vocab_size = len(embeddings)
    model, notes = _build(config, weights, source)
    is_wrapped = any(WRAPPER in name for name in saved)
    return External(model, tokenizer, base_rows, is_wrapped, len(saved), tuple(notes))


# --- configuration and tokenizer ----------------------------------------------------------------


def _has_config(source: Path) -> bool:
    return (source / "config.json").is_file()


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
    except Exception as error:  # transformers and its hub raise many kinds
        raise _not_loaded(name, "tokenizer", error) from None
    if set(tokenizer.get_vocab().values()) <= set(tokenizer.all_special_ids):
        # transformers makes an empty one where it finds a configuration alone.
        raise _not_loaded(name, "tokenizer", ValueError("it has no words."))
    return rename_official(tokenizer)


def _not_loaded(name: str, what: str, error: Exception) -> CheckpointError:
    reason = (str(error).strip().splitlines() or [repr(error)])[0]
    return CheckpointError(
        f"{name}: its {what} cannot be loaded: {reason} Give --base a folder with config.json and "
        "tokenizer, or a hub id such as openai-community/gpt2 (needs a network or the hub's "
        "cache). Code that comes with a model is never run."
    )


def rename_official(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Give the official special tokens of a tokenizer our names; ids and all other tokens stay.

    Returns:
        A new tokenizer, or the same one if it has no official special tokens.

    Raises:
        CheckpointError: It has only some of them, or ours beside them.
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
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        for path in Path(folder).glob("*.json"):
            values = json.loads(path.read_text(encoding="utf-8"))
            path.write_text(json.dumps(_renamed(values), ensure_ascii=False), encoding="utf-8")
        renamed = load_tokenizer_of(folder)
    renamed.name_or_path = tokenizer.name_or_path
    return renamed


def _renamed(value: Any) -> Any:
    """Replace the official names wherever they are a whole text, in keys and in values."""
    if isinstance(value, dict):
        return {OFFICIAL.get(key, key): _renamed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_renamed(inner) for inner in value]
    return OFFICIAL.get(value, value) if isinstance(value, str) else value


# --- names of weights ---------------------------------------------------------------------------


def _plain_names(
    saved: Mapping[str, Tensor], source: Path
) -> tuple[dict[str, Tensor], Tensor | None]:
    """Take off what wrappers have put before the names; return the second copy apart, if any.

    Raises:
        CheckpointError: Something stands beside the wrapped model.
    """
    weights = dict(saved)
    while all(name.startswith(DISTRIBUTED) for name in weights):
        weights = {name.removeprefix(DISTRIBUTED): value for name, value in weights.items()}
    if not any(name.startswith(WRAPPER) for name in weights):
        return weights, None
    second = weights.pop(EMBEDDING_COPY, None)
    beside = [name for name in weights if not name.startswith(WRAPPER)]
    if beside:
        raise CheckpointError(
            f"{source}: must hold names that begin with {WRAPPER} and {EMBEDDING_COPY} alone, got "
            f"{', '.join(beside[:3])} too. Save the state_dict() of the wrapped model alone."
        )
    return {name.removeprefix(WRAPPER): value for name, value in weights.items()}, second


def _refuse_other_copy(first: Tensor | None, second: Tensor | None, source: Path) -> None:
    if first is None or second is None:  # a missing one is named with whatever else is missing
        return
    if first.shape != second.shape or not torch.equal(first, second):
        raise CheckpointError(
            f"{source}: {EMBEDDING_COPY} must be the input embeddings once more, but differs from "
            "them. The file is damaged, or not of the official code."
        )


def _skeleton(config: PreTrainedConfig) -> PreTrainedModel:
    """Make the model without memory for its weights."""
    try:
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(
                config, trust_remote_code=False
            )
    except Exception as error:  # each family raises what it likes
        reason = (str(error).strip().splitlines() or [repr(error)])[0]
        raise CheckpointError(
            f"{config.name_or_path}: no causal language model can be made of its configuration: "
            f"{reason} Give another --base."
        ) from None
    return model


def _name_of(model: PreTrainedModel, table: torch.nn.Module | None) -> str:
    return next((f"{name}.weight" for name, part in model.named_modules() if part is table), "")


# --- the model ----------------------------------------------------------------------------------


def _build(
    config: PreTrainedConfig, weights: dict[str, Tensor], source: Path
) -> tuple[PreTrainedModel, list[str]]:
    skeleton = _skeleton(config)
    embedding = _name_of(skeleton, skeleton.get_input_embeddings())
    head = _name_of(skeleton, skeleton.get_output_embeddings())
    wanted = {name: value.shape for name, value in skeleton.state_dict().items()}
    is_tied = getattr(config, "tie_word_embeddings", False)
    if is_tied and head not in weights:
        wanted.pop(head, None)
    notes = _without_buffers(weights, wanted)
    _account(weights, wanted, source, config)
    notes += _to_float32(weights, source)
    if is_tied and head in weights:
        notes += _untie(config, weights, head, embedding)
    return _filled(type(skeleton), config, weights, source), notes


def _untie(
    config: PreTrainedConfig, weights: Mapping[str, Tensor], head: str, embedding: str
) -> list[str]:
    """Keep a head that is another table than the embeddings: a tied model would lose one of them.

    Nobody can save that from a tied model, so the one that was saved was not tied.
    """
    if torch.equal(weights[head], weights[embedding]):
        return []
    config.tie_word_embeddings = False
    return [
        f"The configuration ties {head} to {embedding}, but here they differ: both are kept, and "
        "the model is no longer tied."
    ]


def _without_buffers(weights: dict[str, Tensor], wanted: Mapping[str, Any]) -> list[str]:
    left_out = [name for name in weights if name not in wanted and BUFFERS.search(name)]
    for name in left_out:
        del weights[name]
    some = f"{len(left_out)} tensors are masks or frequencies that follow from the configuration"
    return [f"{some}, such as {left_out[0]}: left out."] if left_out else []


def _account(
    weights: Mapping[str, Tensor],
    wanted: Mapping[str, torch.Size],
    source: Path,
    config: PreTrainedConfig,
) -> None:
    """Make sure that there is every tensor of the model, of its shape, and no other."""
    missing = [name for name in wanted if name not in weights]
    unknown = [name for name in weights if name not in wanted]
    misshapen = [
        f"{name} {tuple(value.shape)} and not {tuple(wanted[name])}"
        for name, value in weights.items()
        if name in wanted and value.shape != wanted[name]
    ]
    problems = [
        f"{len(names)} {what}: {', '.join(names[:3])}{', …' if len(names) > 3 else ''}"
        for what, names in (
            ("missing", missing),
            ("that it does not have", unknown),
            ("of another shape", misshapen),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{source}: its tensors are not those of {config.model_type} as "
            f"{config.name_or_path} configures it. {'; '.join(problems)}. Give the --base that "
            "the run started from, of the same family and size."
        )


def _to_float32(weights: dict[str, Tensor], source: Path) -> list[str]:
    """Turn weights into float32 numbers in place; tell which were something else."""
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
    return [
        f"{count} tensors are {kind}: written as float32"
        f"{', rounded.' if kind == 'float64' else ', which changes no number.'}"
        for kind, count in kinds.items()
        if kind != "float32"
    ]


def _filled(
    family: type[PreTrainedModel],
    config: PreTrainedConfig,
    weights: dict[str, Tensor],
    source: Path,
) -> PreTrainedModel:
    with no_bars():
        loaded: Any = family.from_pretrained(
            None,
            config=config,
            state_dict=weights,
            dtype=torch.float32,
            output_loading_info=True,
        )
    model: PreTrainedModel = loaded[0]
    left = {what: names for what, names in loaded[1].items() if names}
    if left:
        raise CheckpointError(f"{source}: transformers does not take these weights: {left}.")
    model.eval()
    return model
