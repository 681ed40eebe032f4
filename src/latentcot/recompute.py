"""Less memory for thoughts: what a block computed is dropped, and computed again for its gradient.

transformers' own gradient checkpointing cannot be used here: it takes the cache away, in which each
thought finds the question and the thoughts before it. With the cache left in place, the second time
that a block ran it would add its keys and values to the cache once more.

Here the cache keeps what each pass has added as a part of its own, and a block is a function of the
columns of the pass and of the parts that stood in the cache before it. So it can run twice. What
stays in memory until the backward pass is, for each block and pass, the input of the block and the
keys and values of its new columns; the copy of the whole cache that attention reads lives only as
long as one block runs. The arithmetic is the same, once more forward.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.modeling_layers import GradientCheckpointingLayer

from latentcot.errors import RecipeError

Part = tuple[Tensor, Tensor]
"""Keys and values of the columns of one pass: (B, heads, C, width of a head) each."""


class PartsLayer(DynamicLayer):
    """The keys and values of one block, pass by pass.

    Attributes:
        parts: One for each pass so far.
    """

    def __init__(self, parts: tuple[Part, ...] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.parts = list(parts)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add the columns of a pass; return the keys and values of all columns."""
        self.parts.append((key_states, value_states))
        if len(self.parts) == 1:
            return key_states, value_states
        keys, values = zip(*self.parts, strict=True)
        return torch.cat(keys, dim=-2), torch.cat(values, dim=-2)

    def get_seq_length(self) -> int:
        """Return how many columns there are."""
        return sum(keys.shape[-2] for keys, _ in self.parts)


def parts_cache(model: PreTrainedModel) -> Cache:
    """Return an empty cache that keeps what each pass adds as a part of its own."""
    return Cache(layers=[PartsLayer() for _ in _blocks(model.base_model)])


def check_recomputes(model: PreTrainedModel) -> None:
    """Make sure that the blocks of a model can be run twice.

    Raises:
        RecipeError: They can't.
    """
    layers = DynamicCache(config=model.config).layers
    is_plain = all(type(layer) is DynamicLayer for layer in layers)
    if not is_plain or len(layers) not in (0, len(_blocks(model.base_model))):
        raise RecipeError(
            f"training.save_memory: {type(model).__name__} keeps something else than the keys and "
            "values of plain causal attention, so its blocks can't be run twice. Set it to false, "
            "and lower training.micro_batch_size instead."
        )


def _blocks(backbone: nn.Module) -> list[nn.Module]:
    return [block for block in backbone.modules() if isinstance(block, GradientCheckpointingLayer)]


@contextmanager
def recomputed(backbone: nn.Module, cache: Cache) -> Iterator[None]:
    """Within it, one pass of the backbone over `cache` keeps little for its backward pass."""
    blocks = _blocks(backbone)
    for index, block in enumerate(blocks):
        block.forward = _forward_twice(block.forward, cache, index)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward  # the method of its class shows again


def _forward_twice(forward: Callable[..., Any], cache: Cache, index: int) -> Callable[..., Any]:
    """Return the forward of block `index` as one that drops what it computes on the way."""

    def forward_twice(*args: Any, **kwargs: Any) -> Any:
        layer: Any = cache.layers[index]
        before = tuple(layer.parts)

        def run(*args: Any, **kwargs: Any) -> tuple[Any, Part]:
            # Each run adds to a cache of its own, so that the second one finds what the first did.
            own = copy.copy(cache)
            mine = PartsLayer(before)
            own.layers = [*cache.layers[:index], mine, *cache.layers[index + 1 :]]
            args = tuple(own if value is cache else value for value in args)
            kwargs = {key: own if value is cache else value for key, value in kwargs.items()}
            output = forward(*args, **kwargs)
            return output, mine.parts[-1]

        output, part = checkpoint(run, *args, use_reentrant=False, **kwargs)
        layer.parts.append(part)
        return output

    return forward_twice
