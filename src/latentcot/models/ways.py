"""The way in which a model reads, and how far its faster ones reach.

`thinking/passes.py` says what the ways are, `thinking/capability.py` finds out which one is right.
"""

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, Literal
from weakref import WeakKeyDictionary

from torch import nn
from transformers import DynamicCache, PreTrainedModel

Way = Literal["fast", "plain", "rows"]

_WAY = "latentcot_way"  # an attribute, so that copies and wrapped models keep it


def backbone_of(model: PreTrainedModel) -> nn.Module:
    """Return what gives last hidden states: a model without its output head."""
    backbone: Any = model.base_model
    return getattr(model, "model", backbone) if backbone is model else backbone


def cache_name(model: nn.Module) -> str:
    """Return by what name a model takes its cache: another one since transformers 5.24."""
    named = inspect.signature(model.forward).parameters
    return "cache" if "cache" in named else "past_key_values"


def way_of(model: PreTrainedModel) -> Way:
    """Return the way that was found for a model; the fastest where nobody has looked yet."""
    way: Way = getattr(backbone_of(model), _WAY, "fast")
    return way


def is_way_known(model: PreTrainedModel) -> bool:
    """Return whether somebody has looked which way is right for a model, or said it."""
    return hasattr(backbone_of(model), _WAY)


def set_way(model: PreTrainedModel, way: Way) -> None:
    """Let a model read in this way from now on."""
    setattr(backbone_of(model), _WAY, way)


_LOCKS: WeakKeyDictionary[nn.Module, Lock] = WeakKeyDictionary()
_GUARD = Lock()


def lock_of(backbone: nn.Module) -> Lock:
    """Return what a thread holds while it lets a model read: a pass patches blocks and config."""
    with _GUARD:
        return _LOCKS.setdefault(backbone, Lock())


def window_of(model: PreTrainedModel) -> int | None:
    """Return how many columns the narrowest window of a model covers, if it has any.

    Windows count pads too: up to so many columns they hide nothing.
    """
    config = model.config.get_text_config(decoder=True)
    sizes = [getattr(config, name, None) for name in ("window_size", "attention_window_size")]
    layers: list[Any] = getattr(DynamicCache(config=model.config), "layers", [])
    sizes += [getattr(layer, "sliding_window", None) for layer in layers]
    return min((size for size in sizes if isinstance(size, int) and size > 0), default=None)


def rope_switch_of(model: PreTrainedModel) -> int | None:
    """Return the length beyond which rotary positions depend on the longest row, if they do.

    longrope has other frequencies beyond a length, dynamic NTK others for each length; a batch, and
    all that a cache holds, would get those of its longest row.
    """
    switches = []
    modules: Iterable[Any] = backbone_of(model).modules()
    for module in modules:
        kinds = getattr(module, "rope_type", None)
        rules = getattr(getattr(module, "config", None), "rope_parameters", None) or {}
        by_layer = kinds if isinstance(kinds, dict) else {None: kinds}
        for layer, kind in by_layer.items():
            if kind in ("longrope", "dynamic"):
                own = rules if layer is None else rules.get(layer, {})
                original = own.get("original_max_position_embeddings")
                switches.append(int(original or module.original_max_seq_len))
    return min(switches, default=None)


def forget_lengths(backbone: nn.Module) -> None:
    """Let dynamic rotary positions take the next row's length for the first that they meet."""
    for module in backbone.modules():
        for name in [name for name in vars(module) if name.endswith("max_seq_len_cached")]:
            setattr(module, name, 0)


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Within it, a model and all of its parts are in evaluation mode."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
