"""Less memory for thoughts: what a block computed is dropped, and computed again for its gradient.

transformers' own gradient checkpointing cannot be used here: it takes the cache away, in which each
thought finds the question and the thoughts before it. With the cache left in place, the second time
that a block ran it would add its keys and values to the cache once more.

Here a block is a function of the columns of the pass and of the parts (`split_cache.py`) that
stood in the cache before it. So it can run twice. What stays in memory until the backward pass is,
for each block and pass, the input of the block and the keys and values of its new columns. The
arithmetic is the same, once more forward.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import Cache, PreTrainedModel

from latentcot.errors import RecipeError
from latentcot.models.backend.split_cache import (
    FAMILIES,
    Part,
    attends_over_split_cache,
    patched,
    takes_split_cache,
)


def check_can_checkpoint(model: PreTrainedModel) -> None:
    """Make sure that the blocks of a model can be run twice.

    Raises:
        RecipeError: They can't.
    """
    if not takes_split_cache(model):
        raise RecipeError(
            f"training.save_memory: {type(model).__name__} keeps something else than the keys and "
            "values of plain causal attention, so its blocks can't be run twice. It works for "
            f"{', '.join(FAMILIES)} without sliding windows. Set it to false, and lower "
            "training.micro_batch_size instead."
        )


@contextmanager
def checkpointed(blocks: Sequence[nn.Module], config: Any, cache: Cache) -> Iterator[None]:
    """Within it, one pass through all blocks over `cache` keeps little for its backward pass."""
    with ExitStack() as patches:
        for index, block in enumerate(blocks):
            forward = _forward_twice(block.forward, config, cache, index)
            patches.enter_context(patched(block, forward))
        yield


def _forward_twice(
    forward: Callable[..., Any], config: Any, cache: Cache, index: int
) -> Callable[..., Any]:
    """Return the forward of block `index` as one that drops what it computes on the way."""

    def forward_twice(*args: Any, **kwargs: Any) -> Any:
        layer: Any = cache.layers[index]
        before = copy.copy(layer)

        def run(*args: Any, **kwargs: Any) -> tuple[Any, Part]:
            # Each run adds to a cache of its own, so that the second one finds what the first did.
            own = copy.copy(cache)
            mine = copy.copy(before)
            own.layers = [*cache.layers[:index], mine, *cache.layers[index + 1 :]]
            args = tuple(own if value is cache else value for value in args)
            kwargs = {key: own if value is cache else value for key, value in kwargs.items()}
            with attends_over_split_cache(
                config
            ):  # the second run comes when the pass is long over
                output = forward(*args, **kwargs)
            assert mine.newest is not None
            return output, mine.newest

        output, part = checkpoint(run, *args, use_reentrant=False, **kwargs)
        layer.add(part)
        return output

    return forward_twice
