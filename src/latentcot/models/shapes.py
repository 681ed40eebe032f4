"""The shapes of models that recipes name, known without a network, and models of such a shape.

What a training costs depends on the shape of its model alone. So it can be planned (`plan.py`) and
measured (`benchmarks/shapes.py`) where the weights themselves cannot be downloaded.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from latentcot.errors import RecipeError
from latentcot.models.loading import make_from_scratch
from latentcot.models.settings import FromScratch
from latentcot.utils.parsing import one_line, shown

_LLAMA_32_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8_192,
}


def _shape(width: int, layers: int, heads: int, inner: int, **others: Any) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "intermediate_size": inner,
        "tie_word_embeddings": True,
        **others,
    }


_LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 128_256,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 131_072,
    "rope_parameters": _LLAMA_32_ROPE,
    "bos_token_id": 128_000,
    "eos_token_id": 128_001,
}
_QWEN3: dict[str, Any] = {
    "model_type": "qwen3",
    "head_dim": 128,
    "vocab_size": 151_936,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 32_768,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
    "bos_token_id": 151_643,
    "eos_token_id": 151_643,
}
_LLAMA_3_8B = {
    **_shape(4096, 32, 32, 14336, head_dim=128, **_LLAMA),
    "max_position_embeddings": 8_192,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
    "tie_word_embeddings": False,
}
SHAPES: dict[str, dict[str, Any]] = {
    "openai-community/gpt2": {"model_type": "gpt2"},  # transformers' defaults are GPT-2 small
    "meta-llama/Llama-3.2-1B": _shape(2048, 16, 32, 8192, head_dim=64, **_LLAMA),
    "meta-llama/Llama-3.2-3B": _shape(3072, 28, 24, 8192, head_dim=128, **_LLAMA),
    "meta-llama/Meta-Llama-3-8B": _LLAMA_3_8B,
    "Qwen/Qwen3-0.6B-Base": _shape(1024, 28, 16, 3072, **_QWEN3),
    "Qwen/Qwen3-1.7B-Base": _shape(2048, 28, 16, 6144, **_QWEN3),
    "Qwen/Qwen3-4B-Base": _shape(2560, 36, 32, 9728, **_QWEN3),
}
"""What the config.json of each hub id says of its shape."""


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    """All that the shape of a model from scratch takes of a tokenizer."""

    size: int
    eos_token_id: int = 0

    def __len__(self) -> int:
        return self.size


def config_of(model: str | FromScratch, *, vocabulary_size: int | None = None) -> PreTrainedConfig:
    """Return the configuration of a model, of the table first, then of a folder or the hub's cache.

    Args:
        model: As in a recipe.
        vocabulary_size: Tokens; must be given for a `FromScratch`, whose recipe doesn't say it.

    Raises:
        RecipeError: Nothing is known of this name.
        ValueError: No `vocabulary_size` for a `FromScratch`.
    """
    if isinstance(model, FromScratch):
        if vocabulary_size is None:
            raise ValueError("config_of: a model from scratch needs vocabulary_size, got None.")
        with torch.device("meta"):
            words: Any = _Vocabulary(vocabulary_size)
            made: PreTrainedConfig = make_from_scratch(model, words, seed=0).config
        return made
    if model in SHAPES:
        config: PreTrainedConfig = AutoConfig.for_model(**SHAPES[model])
    else:
        try:
            config = AutoConfig.from_pretrained(model, trust_remote_code=False)
        except Exception as error:  # transformers and its hub raise many kinds
            reason = one_line(str(error)) or type(error).__name__
            raise RecipeError(
                f"model: the shape of {shown(model)} is not known: {reason} Give a folder with a "
                f"config.json, a model of the hub's cache, or one of {', '.join(SHAPES)}."
            ) from None
    if vocabulary_size is not None:
        config.vocab_size = vocabulary_size
    return config


def model_of(
    config: PreTrainedConfig,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> PreTrainedModel:
    """Make a model of a configuration, its weights drawn at random."""
    with torch.device(device):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model
