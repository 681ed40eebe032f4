"""What a recipe says of its model, and the files of adapters. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Name = Annotated[str, Field(min_length=1)]

ADAPTERS_FILE = "adapters.json"
WEIGHTS_FILE = "adapter_model.safetensors"
"""Of adapters, in a checkpoint (lora_files.py)."""


@dataclass(frozen=True)
class FromScratch:
    """The `model:` part of a recipe, for a model made from scratch by transformers."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    architecture: Literal["gpt2", "llama", "qwen3"] = "gpt2"
    """A family of transformers."""
    hidden_size: Count = 64
    """Width."""
    num_layers: Count = 3
    """Blocks."""
    num_heads: Count = 4
    """Attention heads; must divide `hidden_size`."""
    intermediate_size: Count = 128
    """Width of the feed-forward layer."""
    num_positions: Count = 512
    """The longest sequence, thoughts included."""
    init_std: Annotated[float, Field(gt=0)] = 0.1
    """Standard deviation of the initial weights. transformers' 0.02 suits a width of 768; a narrow
    model learns several times slower with it (docs/dev/log.md)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout everywhere that the family has it."""
    positions: Literal["learned", "sinusoidal"] = "sinusoidal"
    """GPT-2 only: a position table that is learned from random numbers, or one of sines and cosines
    that stays as it is. With a learned one, what a small model has found at one position it must
    find again at the next, where each new thought stands (docs/dev/log.md)."""
    position_scale: Annotated[float, Field(gt=0)] = 0.3
    """Root mean square of the sines and cosines."""
    tokenizer: Literal["words", "bpe"] = "words"
    """One token a word of the training file, or a byte-level BPE trained on it, digits apart, in
    which every text can be written."""
    vocabulary_size: Annotated[int, Field(ge=300)] = 1000
    """Tokens of the BPE at most."""


@dataclass(frozen=True)
class Lora:
    """The `lora:` part of a recipe: train adapters next to frozen weights."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    rank: Annotated[int, Field(ge=1)] = 16
    """Rank r of each adapter."""
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 32.0
    """Adapters are scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout on what goes into an adapter."""
    targets: tuple[Name, ...] = ()
    """Names of the linear layers that get one, such as q_proj; all those of the blocks if empty."""
