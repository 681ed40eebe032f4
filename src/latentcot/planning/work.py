"""What one micro-batch costs, counted on the code that trains, with tensors that hold no numbers.

torch's fake tensors have a shape and a type but no memory. The very `LanguageLoss` of training runs
over them, forward and backward, while a dispatch mode sees each kernel that would run: its products
(by torch's own formulas), the bytes that it reads and writes, and what is alive at the highest
point. So whatever the rollout, the last block or `save_memory` spare is spared here as well, and
nothing is fitted.
"""

import copy
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import flop_counter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary
from transformers import PreTrainedConfig

from latentcot.curriculum.layout import SpecialTokens
from latentcot.methods import Method
from latentcot.methods.stopping import StopHead
from latentcot.models.lora import Adapters, Lora, add_adapters, hold_lightly
from latentcot.models.shapes import model_of
from latentcot.thinking.batch import Batch
from latentcot.thinking.loss import LanguageLoss
from latentcot.thinking.think import feed_of

Precision = Literal["float32", "bfloat16"]
_aten = torch.ops.aten
_formulas: dict[Any, Any] = flop_counter.flop_registry
_attention: Any = flop_counter.sdpa_flop_count
_attention_backward: Any = flop_counter.sdpa_backward_flop_count
_FEW = 3
"""Blocks up to which a model is counted as it is; a deeper one is a straight line from there."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a micro-batch.

    Attributes:
        rows: Examples.
        prefix: Columns of the first pass.
        latent positions: Latents that are filled one after the other.
        suffix: Columns behind them.
    """

    rows: int
    prefix: int
    latents: int
    suffix: int

    def __str__(self) -> str:
        """Write it in words."""
        return (
            f"{_many(self.rows, 'example')} of {_many(self.prefix, 'token')}, "
            f"{_many(self.latents, 'slot')}, {_many(self.suffix, 'token')}"
        )


def _many(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Work:
    """What a computation takes.

    Attributes:
        flops: Of products, by the precision of their factors; a multiplication and an addition are
            two.
        moved: Bytes that kernels read and write.
        kernels: How many there are.
        peak: Bytes at the highest point beyond what was there before, new gradients included.
    """

    flops: Mapping[str, float] = field(default_factory=dict)
    moved: float = 0.0
    kernels: float = 0.0
    peak: float = 0.0

    def plus(self, other: "Work", times: float = 1.0) -> "Work":
        """Return this and so many times the other, one after the other; peaks are not added."""
        kinds = {*self.flops, *other.flops}
        return Work(
            {k: self.flops.get(k, 0.0) + times * other.flops.get(k, 0.0) for k in sorted(kinds)},
            self.moved + times * other.moved,
            self.kernels + times * other.kernels,
            max(self.peak, other.peak),
        )

    @property
    def total_flops(self) -> float:
        """Of all precisions."""
        return sum(self.flops.values())


@dataclass(frozen=True, eq=False)
class Subject:
    """What is trained, as far as its cost depends on it.

    Attributes:
        config: The model's.
        method: A row of the table.
        precision: Of autocast.
        saves_memory: `training.save_memory`.
        has_stop_head: Whether a stop classifier is trained too.
        lora: `lora:` of the recipe.
    """

    config: PreTrainedConfig
    method: Method
    precision: Precision = "float32"
    saves_memory: bool = False
    has_stop_head: bool = False
    lora: Lora | None = None

    def loss(self, num_layers: int | None = None, *, device: str = "meta") -> LanguageLoss:
        """Make the module that training calls, of so many blocks; on `meta` it has no weights."""
        config = copy.deepcopy(self.config)
        if num_layers is not None:
            config.num_hidden_layers = num_layers
        model = model_of(config, device=device)
        if self.lora is not None:
            with torch.device(device):
                add_adapters(model, Adapters("", "", self.lora), special_tokens=(0, 1, 2))
            if self.precision == "bfloat16":
                hold_lightly(model, is_exact=True)  # as if published in bfloat16
        return LanguageLoss(
            model,
            feed_of(self.method, SpecialTokens(0, 0, 0, 0)),
            StopHead(config.hidden_size) if self.has_stop_head else None,
            saves_memory=self.saves_memory,
        ).train()


@dataclass(frozen=True, slots=True)
class Weights:
    """How large a model is.

    Attributes:
        number: Weights.
        num_trained: Those that are trained.
        held_bytes: Of all of them.
        trained_bytes: Of those that are trained, and so of their gradients.
    """

    number: int
    num_trained: int
    held_bytes: int
    trained_bytes: int


def weights_of(subject: Subject) -> Weights:
    """Return how large the model is, stop classifier and adapters included."""
    every = list(subject.loss().parameters())
    trained = [weight for weight in every if weight.requires_grad]
    return Weights(
        number=sum(weight.numel() for weight in every),
        num_trained=sum(weight.numel() for weight in trained),
        held_bytes=sum(weight.nbytes for weight in every),
        trained_bytes=sum(weight.nbytes for weight in trained),
    )


def update_work(
    subject: Subject,
    micro_batches: Sequence[tuple[Shape, float]],
    weights: Weights,
    *,
    clips: bool = False,
) -> Work:
    """Count an update: micro-batches, each with how many there are of it, and the optimizer.

    AdamW reads weight, gradient and two moments, and writes three of them back. To clip gradients
    they are read twice and written once.
    """
    work = Work(moved=(7 + 3 * clips) * weights.trained_bytes)
    for shape, times in micro_batches:
        work = work.plus(work_of(subject, shape), times)
    return work


@lru_cache(maxsize=4096)
def work_of(subject: Subject, shape: Shape, *, has_gradients: bool = False) -> Work:
    """Count a micro-batch, forward and backward.

    Args:
        subject: What is trained.
        shape: Of the micro-batch.
        has_gradients: Those of an earlier micro-batch are there, and are added to.
    """
    depth: int = subject.config.num_hidden_layers
    if depth <= _FEW:
        return _counted(subject, shape, depth, has_gradients).work()
    # All blocks but the last cost the same, so that what each adds is known from two depths.
    low, high = (_counted(subject, shape, few, has_gradients) for few in (_FEW - 1, _FEW))
    return low.extended(high, depth - _FEW)


def _counted(subject: Subject, shape: Shape, num_layers: int, has_gradients: bool) -> "_Counter":
    loss = subject.loss(num_layers)
    with FakeTensorMode():
        _put_on_cpu(loss)
        if has_gradients:
            for weight in loss.parameters():
                weight.grad = torch.empty_like(weight) if weight.requires_grad else None
        batch = _batch(shape)
        counter = _Counter()
        is_low = subject.precision == "bfloat16"
        with counter, _parts_told(loss.model.base_model, counter):
            with torch.autocast("cpu", torch.bfloat16, enabled=is_low):
                parts = loss(batch)
            total = parts.nll_sum / shape.rows + parts.stop_nll_sum
            total.backward()
        return counter


def _put_on_cpu(module: nn.Module) -> None:
    """Give a module that was made on `meta` empty tensors on the CPU; what was tied stays so.

    Within `FakeTensorMode` they take no memory.
    """
    made: dict[int, Any] = {}
    for part in module.modules():
        for kept in (part._parameters, part._buffers):
            for name, tensor in kept.items():
                if tensor is not None:
                    kept[name] = made.setdefault(id(tensor), _empty_like(tensor))


def _empty_like(tensor: Tensor) -> Tensor:
    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


@contextmanager
def _parts_told(backbone: nn.Module, counter: "_Counter") -> Iterator[None]:
    """Tell a counter where the blocks begin and end in each pass, forward and backward."""

    def on_gradient(tensor: Tensor) -> None:
        if tensor.requires_grad:
            hook: Any = tensor.register_hook
            hook(lambda grad: counter.begin_part())

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        counter.begin_part()
        on_gradient(kwargs["inputs_embeds"])

    def after(module: nn.Module, args: Any, output: Any) -> None:
        counter.begin_part()
        on_gradient(output.last_hidden_state)

    hooks = [
        backbone.register_forward_pre_hook(before, with_kwargs=True),
        backbone.register_forward_hook(after),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _batch(shape: Shape) -> Batch:
    def ids(*size: int) -> Tensor:
        return torch.zeros(size, dtype=torch.long)

    rows = shape.rows
    words = ids(rows, shape.suffix)
    return Batch(
        prefix=ids(rows, shape.prefix),
        prefix_lengths=ids(rows),
        num_latents=ids(rows),
        suffix=words,
        suffix_lengths=ids(rows),
        labels=words,
        is_next=words.bool(),
        stop_after=ids(rows),
        max_latents=shape.latents,
    )


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees each kernel; what was there before it was entered counts as there already."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops: dict[str, float] = {}
        self.moved = self.kernels = self.alive = 0
        self.peaks = [0]
        self.known: Any = WeakIdKeyDictionary()

    def begin_part(self) -> None:
        """Begin a part of the work that has a highest point of its own."""
        self.peaks.append(self.alive)

    def work(self) -> Work:
        return Work(dict(self.flops), self.moved, self.kernels, max(self.peaks))

    def extended(self, high: "_Counter", more: int) -> Work:
        """Return the work of a model with `more` blocks than `high`, which has one more than this.

        In each part the bytes rise or fall from block to block, so that its highest point is a
        straight line in their number; which part is the highest of all may change.
        """
        work = high.work()
        step = work.plus(self.work(), -1)
        peaks = zip(self.peaks, high.peaks, strict=True)
        return replace(
            work.plus(step, more), peak=max(two + more * (two - one) for one, two in peaks)
        )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        before = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for tensor in before:
            self.known.setdefault(tensor.untyped_storage(), True)
        result = func(*args, **kwargs)
        after = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        is_new = [self._sees(tensor) for tensor in after]
        if any(is_new) or func._schema.is_mutable:  # all else is a view
            self.kernels += 1
            self.moved += sum(_bytes(tensor) for tensor in (*before, *after))
            self._count_products(func, args, kwargs, result, before)
        return result

    def _sees(self, tensor: Tensor) -> bool:
        """Note a storage for as long as it lives; return whether it is new."""
        storage = tensor.untyped_storage()
        if storage in self.known:
            return False
        self.known[storage] = True
        size = storage.nbytes()
        self.alive += size
        self.peaks[-1] = max(self.peaks[-1], self.alive)
        weakref.finalize(storage, self._frees, size)
        return True

    def _frees(self, size: int) -> None:
        self.alive -= size

    def _count_products(
        self, func: Any, args: Any, kwargs: Any, result: Any, before: Sequence[Tensor]
    ) -> None:
        packet = func._overloadpacket
        if packet is _aten._scaled_dot_product_flash_attention_for_cpu:
            found = _attention(*(tensor.shape for tensor in args[:3]))
        elif packet is _aten._scaled_dot_product_flash_attention_for_cpu_backward:
            found = _attention_backward(*(tensor.shape for tensor in args[:4]))
        elif packet in _formulas:
            found = _formulas[packet](*args, **kwargs, out_val=result)
        else:
            return
        kind = str(before[0].dtype).removeprefix("torch.")
        self.flops[kind] = self.flops.get(kind, 0) + found


def _bytes(tensor: Tensor) -> int:
    """Return what is read of a tensor: repeats are read once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
