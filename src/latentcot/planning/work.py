"""What one micro-batch costs, counted on the code that trains, with tensors that hold no numbers.

torch's fake tensors have a shape and a type but no memory. The very `Objective` of training runs
over them, forward and backward, with all views, modules and terms of the method. A dispatch mode
sees each kernel that would run: its products (by torch's own formulas), the bytes that it reads and
writes, and what is alive at the highest point. So whatever the rollout, the last block or
`save_memory` spare is spared here as well, and nothing is fitted.
"""

import copy
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import flop_counter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary
from transformers import PreTrainedConfig, PreTrainedModel

from latentcot.curriculum.layout import LaidOut, Layout, LayoutRules, SpecialTokens
from latentcot.curriculum.views import Parallel, Plan
from latentcot.methods import Method
from latentcot.models.lora import Adapters, add_adapters, hold_lightly
from latentcot.models.settings import Lora
from latentcot.models.shapes import model_of
from latentcot.thinking.batch import collate_views
from latentcot.training.objective import Objective, make_modules

Precision = Literal["float32", "bfloat16"]
_aten = torch.ops.aten
_counts: Any = flop_counter
_FORMULAS: dict[Any, Any] = {
    **_counts.flop_registry,
    # torch's registry has the attention of GPUs alone.
    _aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: (
        _counts.sdpa_flop_count(q.shape, k.shape, v.shape)
    ),
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda grad, q, k, v, *_, **__: (
        _counts.sdpa_backward_flop_count(grad.shape, q.shape, k.shape, v.shape)
    ),
}
"""Kernel → how many products it makes."""
_FEW = 3
"""Blocks up to which a model is counted as it is; a deeper one is a straight line from there."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a micro-batch.

    Attributes:
        rows: Examples.
        prefix: Positions of the first pass, in the view that answers.
        latents: Latent positions.
        suffix: Positions behind them.
        others: The same three of each other view, in the method's order.
        targets: Of each term that has any: groups of latent positions, and tokens of a group.
    """

    rows: int
    prefix: int
    latents: int
    suffix: int
    others: tuple[tuple[int, int, int], ...] = ()
    targets: tuple[tuple[int, int], ...] = ()

    @property
    def views(self) -> tuple[tuple[int, int, int], ...]:
        """Prefix, latent positions and suffix of each view; first of the one that answers."""
        return ((self.prefix, self.latents, self.suffix), *self.others)

    @property
    def positions(self) -> int:
        """All that is read."""
        targets = sum(groups * width for groups, width in self.targets)
        return self.rows * (sum(map(sum, self.views)) + targets)

    def __str__(self) -> str:
        """Write it in words."""
        views = [
            f"({prefix} + {latents} latent + {suffix})" for prefix, latents, suffix in self.views
        ]
        return f"{self.rows} × {' and '.join(views)} positions"


def views_of(method: Method) -> list[str]:
    """Return the views of a method in the order of a shape: first the one that answers."""
    return [method.answers, *(name for name in method.views if name != method.answers)]


def num_passes(method: Method, shape: Shape) -> int:
    """Return how often the backbone is called for a micro-batch."""
    count = 0
    for name, (_, latents, _) in zip(views_of(method), shape.views, strict=True):
        view = method.views[name]
        if isinstance(view.latents, Parallel):
            latents = min(latents, 1) * view.latents.iterations
        elif view.compression is not None:  # training knows what fills them: one pass reads all
            latents = 0
        count += 1 + latents
    return count


def examples_of(
    method: Method,
    shape: Shape,
    ids: Callable[[int], tuple[int, ...]] = lambda number: (0,) * number,
) -> list[LaidOut]:
    """Make a micro-batch of a shape, all of its examples as long as the longest.

    Args:
        method: Who reads it.
        shape: Of all its views and targets.
        ids: number → so many token ids.
    """
    names = [term.name for term in method.terms if term.targets is not None]
    examples = []
    for _ in range(shape.rows):
        layouts = {}
        for name, (prefix, latents, suffix) in zip(views_of(method), shape.views, strict=True):
            words = ids(suffix)
            is_known = method.views[name].compression is not None
            layouts[name] = Layout(
                ids(prefix),
                latents,
                words,
                words,
                stop_after=latents,
                anchor=0,
                groups=(ids(1),) * latents if is_known else None,
            )
        groups = zip(names, shape.targets, strict=True)
        targets = {name: tuple(ids(width) for _ in range(many)) for name, (many, width) in groups}
        examples.append(LaidOut({name: layouts[name] for name in method.views}, targets))
    return examples


@dataclass(frozen=True, slots=True)
class Work:
    """What a computation takes.

    Attributes:
        flops: Of products; a multiplication and an addition are two.
        moved: Bytes that kernels read and write.
        kernels: How many there are.
        peak: Bytes at the highest point beyond what was there before, new gradients included.
    """

    flops: float = 0.0
    moved: float = 0.0
    kernels: float = 0.0
    peak: float = 0.0

    def plus(self, other: "Work", times: float = 1.0) -> "Work":
        """Return this and so many times the other, one after the other; peaks are not added."""
        return Work(
            self.flops + times * other.flops,
            self.moved + times * other.moved,
            self.kernels + times * other.kernels,
            max(self.peak, other.peak),
        )


@dataclass(frozen=True, eq=False)
class Subject:
    """What is trained, as far as its cost depends on it.

    Attributes:
        config: The model's.
        method: With its settings.
        precision: Of autocast.
        saves_memory: `training.save_memory`.
        lora: `lora:` of the recipe.
        plan: The numbers of the curriculum.
    """

    config: PreTrainedConfig
    method: Method
    precision: Precision = "float32"
    saves_memory: bool = False
    lora: Lora | None = None
    plan: Plan = Plan(num_stages=0)  # noqa: RUF009 - it never changes

    def objective(self, num_layers: int | None = None, *, device: str = "meta") -> Objective:
        """Make the module that training calls, of so many blocks; on `meta` it has no weights."""
        config = copy.deepcopy(self.config)
        if num_layers is not None:
            config.num_hidden_layers = num_layers
        model = model_of(config, device=device)
        with torch.device(device):  # before adapters, as in training: copies of the model have none
            modules = make_modules(self.method, model, seed=0)
        if self.lora is not None:
            with torch.device(device):
                add_adapters(model, Adapters("", "", self.lora), special_tokens=(0, 1, 2))
            if self.precision == "bfloat16":
                hold_lightly(model, is_exact=True)  # as if published in bfloat16
        rules = LayoutRules(SpecialTokens(0, 0, 0, 0), self.plan)
        return Objective(model, self.method, rules, modules, saves_memory=self.saves_memory).train()


@dataclass(frozen=True, slots=True)
class Weights:
    """How large a model is, with what the method learns beside it.

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
    """Return how large the model is, with adapters and what is learned beside it."""
    every = list(subject.objective().parameters())
    trained = [weight for weight in every if weight.requires_grad]
    return Weights(
        *(sum(weight.numel() for weight in some) for some in (every, trained)),
        *(sum(weight.nbytes for weight in some) for some in (every, trained)),
    )


def update_work(
    subject: Subject, micro_batches: Sequence[tuple[Shape, float]], trained_bytes: float
) -> Work:
    """Count an update: micro-batches, each with how many there are of it, and the optimizer.

    AdamW reads weight, gradient and two moments, and writes three of them back.
    """
    work = Work(moved=7 * trained_bytes)
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
    counter: Any = _Counter()

    def begin_part(tensor: Any) -> None:
        """Begin one at this tensor, forward and backward."""
        counter.begin_part()
        if tensor.requires_grad:
            tensor.register_hook(lambda grad: counter.begin_part())

    objective = subject.objective(num_layers)
    batches = collate_views(examples_of(subject.method, shape))
    with FakeTensorMode():
        # In place of what has no memory on `meta`, what has none on the CPU; what is tied stays so.
        empty: dict[int, Any] = {
            id(one): torch.empty(one.shape, dtype=one.dtype)
            for one in (*objective.parameters(), *objective.buffers())
        }
        for weight in objective.parameters():
            empty[id(weight)] = nn.Parameter(empty[id(weight)], weight.requires_grad)
        objective = copy.deepcopy(objective, empty)
        tensors = [torch.zeros(one.shape, dtype=one.dtype) for one in batches.tensors]
        batches = batches.with_tensors(tensors)
        if has_gradients:
            for weight in objective.parameters():
                weight.grad = torch.empty_like(weight) if weight.requires_grad else None
        # The blocks begin and end with each pass of a backbone, forward and backward.
        models = [part for part in objective.modules() if isinstance(part, PreTrainedModel)]
        for backbone in {model.base_model for model in models}:
            backbone.register_forward_pre_hook(
                lambda module, args, kwargs: begin_part(kwargs["inputs_embeds"]), with_kwargs=True
            )
            backbone.register_forward_hook(
                lambda module, args, output: begin_part(output.last_hidden_state)
            )
        is_low = subject.precision == "bfloat16"
        with counter:
            with torch.autocast("cpu", torch.bfloat16, enabled=is_low):
                sums = objective(batches)
            sums.sum().backward()
    return counter  # type: ignore[no-any-return]


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees each kernel; what was there before it was entered counts as there already."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.moved = self.kernels = self.alive = 0
        self.peaks = [0]
        self.known: Any = WeakIdKeyDictionary()

    def begin_part(self) -> None:
        """Begin a part of the work that has a highest point of its own."""
        self.peaks.append(self.alive)

    def work(self) -> Work:
        return Work(self.flops, self.moved, self.kernels, max(self.peaks))

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
        is_view = not func._schema.is_mutable
        for tensor in after:
            storage = tensor.untyped_storage()
            if storage in self.known:
                continue
            # A new storage counts for as long as it lives.
            is_view, self.known[storage], size = False, True, storage.nbytes()
            self.alive += size
            self.peaks[-1] = max(self.peaks[-1], self.alive)
            weakref.finalize(storage, self._free, size)
        if not is_view:
            self.kernels += 1
            for tensor in (*before, *after):  # of repeats, what is there once is read once
                whole = tensor.untyped_storage().nbytes()
                self.moved += min(tensor.numel() * tensor.element_size(), whole)
            if func._overloadpacket in _FORMULAS:
                self.flops += _FORMULAS[func._overloadpacket](*args, **kwargs, out_val=result)
        return result

    def _free(self, size: int) -> None:
        self.alive -= size
