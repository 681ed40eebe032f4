"""Keys and values in two parts, and attention over both: no thought copies the question.

transformers' own cache joins the new columns of each pass to all columns before them. For thoughts
that is nearly all of their cost: each one column, but the keys and values of some hundred columns
of the question are copied for it, and so is their gradient on the way back.

Here the question's keys and values are a part that is written once. What comes behind it, thoughts
and words, is a second part that grows. Both are handed to an attention function of ours, which
transformers finds by its name like any other; the models themselves are left as they are. It
multiplies queries with each part, joins the scores, which are small, and takes the softmax over all
of them: the same function as over one joined cache.

Shapes: B batch, H heads, C columns of one pass, K columns so far, E width of a head.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.modeling_layers import GradientCheckpointingLayer

from latentcot.models.backend.dropout import drop
from latentcot.models.backend.joint_attention import Fixed, attend_causally, attend_jointly
from latentcot.models.ways import rope_switch_of, way_of
from latentcot.utils.display import say

NAME = "latentcot-parts"
"""Under which transformers finds our attention function."""
FAMILIES = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
"""Families (`config.model_type`) that hand what the cache returns on to attention untouched."""

Part = tuple[Tensor, Tensor]
"""Keys and values of consecutive columns: (B, heads of keys, columns, E) each."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the columns of one pass look at; stands where a cache returns keys.

    Attributes:
        first: Keys and values of the first pass, the question.
        fixed: The same, for many later passes.
        rest: Keys and values of all that came behind it, this pass included; None in the first.
        mask_B1CK: What is added to scores: 0, or −∞ where a column must not be seen; None where
            each column sees itself and all before it.
    """

    first: Part
    fixed: Fixed
    rest: Part | None
    mask_B1CK: Tensor | None


class SplitLayer(DynamicLayer):
    """The keys and values of one block.

    Its attributes are replaced and never written into, so that copies can share them. `first`,
    `fixed`, `rest` and `mask_B1CK` are those of `Seen`; `newest` is the last pass alone.
    """

    first: Part | None = None
    fixed: Fixed | None = None
    rest: Part | None = None
    newest: Part | None = None
    mask_B1CK: Tensor | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Add the columns of a pass; return what they look at."""
        self.newest = in_autocast(key_states), in_autocast(value_states)
        self.add(self.newest)
        return self.seen(), None

    def add(self, part: Part) -> None:
        """Take in the columns of a pass."""
        if self.first is None:
            self._begin(part)
        elif self.rest is None:
            self.rest = part
        else:
            (old_keys, old_values), (keys, values) = self.rest, part
            self.rest = torch.cat([old_keys, keys], dim=-2), torch.cat([old_values, values], dim=-2)

    def _begin(self, part: Part) -> None:
        keys, values = (tensor.contiguous() for tensor in part)  # each later pass reads them
        self.first = keys, values
        self.fixed = Fixed(keys, values)

    def seen(self) -> Seen:
        """Return what the columns of the pass look at."""
        assert self.first is not None
        assert self.fixed is not None
        return Seen(self.first, self.fixed, self.rest, self.mask_B1CK)

    def whole(self) -> Part:
        """Return keys and values of all columns, joined."""
        parts = [part for part in (self.first, self.rest) if part is not None]
        keys, values = zip(*parts, strict=True)
        return torch.cat(keys, dim=-2), torch.cat(values, dim=-2)

    def get_seq_length(self) -> int:
        """Return how many columns there are."""
        return sum(part[0].shape[-2] for part in (self.first, self.rest) if part is not None)

    def crop(self, max_length: int) -> None:
        """Drop the newest columns, −`max_length` of them, all of them behind the first pass."""
        if self.rest is None or -max_length != self.rest[0].shape[-2]:
            raise ValueError(f"all columns behind the first pass are dropped at once: {max_length}")
        self.rest = None

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows."""
        first, rest = self.first, self.rest
        if first is not None:
            self._begin((first[0][indices], first[1][indices]))
        if rest is not None:
            self.rest = rest[0][indices], rest[1][indices]


def blocks_of(backbone: nn.Module) -> list[nn.Module]:
    """Return the blocks of a backbone, in order."""
    return [block for block in backbone.modules() if isinstance(block, GradientCheckpointingLayer)]


def takes_split_cache(model: PreTrainedModel) -> bool:
    """Return whether a model can attend over parts: plain causal attention of a known family."""
    if way_of(model) != "fast":
        return False
    config: Any = model.config
    kind = config._attn_implementation
    known = _TAKES_PARTS.setdefault(model, {})
    if kind not in known:
        known[kind] = (
            kind in ("eager", "sdpa", NAME)
            and config.model_type in FAMILIES
            and not getattr(config, "reorder_and_upcast_attn", False)
            and not getattr(config, "add_cross_attention", False)
            and rope_switch_of(model) is None
            and all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)
        )
        if not known[kind]:
            say(
                f"{type(model).__name__} with {kind!r} attention takes the slower way, in which "
                "each thought copies the question's keys and values. The faster one is for "
                f"{', '.join(FAMILIES)} with 'eager' or 'sdpa' and no sliding windows."
            )
    return known[kind]


_TAKES_PARTS: WeakKeyDictionary[nn.Module, dict[str, bool]] = WeakKeyDictionary()
"""What has been found, and said, by the name of the attention."""


def split_cache(num_blocks: int) -> Cache:
    """Return an empty cache in parts."""
    layers: list[Any] = [SplitLayer() for _ in range(num_blocks)]  # type: ignore[no-untyped-call]
    return Cache(layers=layers)


@contextmanager
def attends_by(config: Any, name: str) -> Iterator[None]:
    """Within it, a model with this config attends by the function that transformers finds so."""
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


def attends_over_split_cache(config: Any) -> AbstractContextManager[None]:
    """Within it, a model with this config attends by our function; its cache must be in parts."""
    return attends_by(config, NAME)


@contextmanager
def patched(block: nn.Module, forward: Any) -> Iterator[None]:
    """Within it, a module runs `forward` in place of its own."""
    before = block.__dict__.get("forward")
    block.forward = forward
    try:
        yield
    finally:
        del block.forward  # the method of its class shows again
        if before is not None:
            block.forward = before


def additive(can_see: Tensor) -> Tensor:
    """Turn True where a column may be seen into what is added to scores, in float32."""
    mask = torch.zeros(can_see.shape, device=can_see.device)
    return mask.masked_fill_(~can_see, -torch.inf)


def _attend(
    module: nn.Module,
    query: Tensor,
    seen: Seen,
    _values: None,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attend (B, H, C, E) queries over all parts; return (B, C, H, E) and no weights."""
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    query = in_autocast(query)
    with torch.autocast(query.device.type, enabled=False):
        if seen.mask_B1CK is None and dropout and query.device.type == "cpu":
            found = attend_causally(query * scaling, *seen.first, dropout)
        elif seen.mask_B1CK is None:
            keys, values = seen.first
            found = nn.functional.scaled_dot_product_attention(
                query, keys, values, dropout_p=dropout, is_causal=True, scale=scaling,
                enable_gqa=keys.shape[1] != query.shape[1],
            )  # fmt: skip
        elif seen.rest is None:
            keys, values = seen.first
            rows = (query * scaling).reshape(*keys.shape[:2], -1, keys.shape[-1])
            scores = rows @ keys.mT
            scores_BHCK = scores.view(*query.shape[:-1], -1) + seen.mask_B1CK  # float32 at least
            weights = scores_BHCK.softmax(-1)
            used = (drop(weights, dropout)[0] if dropout else weights).to(query.dtype)
            found = (used.view_as(scores) @ values).view(query.shape)
        else:
            found = attend_jointly(query * scaling, seen.fixed, *seen.rest, seen.mask_B1CK, dropout)
    return found.transpose(1, 2), None


def in_autocast(tensor: Tensor) -> Tensor:
    """Return a tensor in the precision of autocast, where that is on."""
    kind = tensor.device.type
    return tensor.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else tensor


AttentionInterface.register(NAME, _attend)
