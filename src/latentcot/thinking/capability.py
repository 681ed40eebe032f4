"""Which way of reading is right for a model, found out on a few tokens when it is loaded.

Nothing is decided by a list of families. Some mix pads in where no mask reaches (convolutions,
recurrent states, windows, position biases), some keep caches that do not grow by columns, some
cannot be run backwards from embeddings. Two rows of unlike length think in one batch, in each way
from the fastest on, and each row must give what it gives alone, without pads, masks and cache:
states near rounding, and gradients where the model is to be trained.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from latentcot.curriculum.layout import Layout
from latentcot.errors import RecipeError
from latentcot.models.backend.split_cache import takes_split_cache
from latentcot.models.loading import max_positions
from latentcot.models.ways import Way, backbone_of, rope_switch_of, set_way, window_of
from latentcot.thinking.batch import collate
from latentcot.thinking.think import think
from latentcot.utils.display import say
from latentcot.utils.parsing import one_line

TOLERANCE = 5e-3
"""Of a state's norm. Rounding in float32 leaves 1e-6, 8e-4 at worst; a pad that is read, 0.1 to 10
(`dev/families.py`)."""
GRADIENT_TOLERANCE = 5e-2
"""Of a gradient's norm: 1e-5, 6e-3 at worst; 0.1 and more where a pass is cut off."""
FAR = 64
"""Windows and rope switches up to so many columns are crossed; wider ones are heeded unseen."""

Found = tuple[list[Tensor], list[Tensor]]
"""States and gradients of one row."""


def choose_way(model: PreTrainedModel, *, is_trained: bool = False) -> Way:
    """Find out which way of reading is right for a model, and let it read so from now on.

    Args:
        model: A causal LM in float32, weights finite.
        is_trained: Gradients must be right too.

    Returns:
        `fast`, `plain`, or `rows` (see `passes.py`), of which the last is said, since it is slow.

    Raises:
        RecipeError: None is: the model cannot read embeddings, scales or caps its logits, or cannot
            be run backwards.
    """
    name = type(model).__name__
    with _at_rest(model), _with_weights_that_matter(model):
        # A long row with one thought and a short one with three, beyond what lies near.
        near = [one for one in (window_of(model), rope_switch_of(model)) if one and one <= FAR]
        width = max(2, min(max(near, default=0) + 12, (max_positions(model) or 10_000) - 8))
        last = model.get_input_embeddings().get_parameter("weight").shape[0] - 1
        words = tuple(min(one, last) for one in (3, 4, 5))
        rows = [
            Layout(tuple(min(1 + i % 7, last) for i in range(length)), thoughts, words, words)
            for length, thoughts in ((width, 1), (max(1, width // 2), 3))
        ]
        try:
            alone = [_alone(model, row, is_trained) for row in rows]
            has_plain_logits = _has_plain_logits(model)
        except Exception as error:  # models raise whatever their code meets
            raise _cannot(name, error, is_trained) from None
        if not all(bool(state.isfinite().all()) for states, _ in alone for state in states):
            raise RecipeError(
                f"model: {name} gives states that are not finite numbers. Its weights are damaged, "
                "or too large for float32."
            )
        if not has_plain_logits:  # scaled or capped, or without such a head
            raise RecipeError(
                f"model: {name} does not compute its logits as output head times last hidden "
                "state, which continuous thoughts need. docs/models.md lists the families that do."
            )
        reasons = []
        ways: tuple[Way, ...] = ("fast", "plain", "rows")
        for way in ways:
            set_way(model, way)
            if way == "fast" and not takes_split_cache(model):
                continue
            try:
                together = _together(model, rows, is_trained)
            except Exception as error:  # the same
                reasons.append(one_line(str(error)) or type(error).__name__)
                continue
            apart = list(map(_difference, together, alone))
            states, gradients = max(one[0] for one in apart), max(one[1] for one in apart)
            if states < TOLERANCE and gradients < GRADIENT_TOLERANCE:
                break
            what = f"states by {states:.2g}" + f" and gradients by {gradients:.2g}" * is_trained
            reasons.append(f"a row in a batch differs from the row alone, {what} of their norm")
        else:
            raise _cannot(name, reasons[-1], is_trained)
    if way == "rows":
        say(
            f"Note: {name} reads one row at a time, everything again in each pass, since batches "
            f"would be wrong ({reasons[-1]}). That is right, and slow."
        )
    return way


def _cannot(name: str, error: object, is_trained: bool) -> RecipeError:
    what = "be trained in continuous thoughts" if is_trained else "think in continuous thoughts"
    reason = one_line(str(error)) or type(error).__name__
    return RecipeError(
        f"model: {name} cannot {what}: {reason}. docs/models.md lists the families that can."
    )


def _together(model: PreTrainedModel, rows: list[Layout], is_trained: bool) -> list[Found]:
    """Return what each row gives in a batch."""
    with _embedded(model, is_trained) as inputs:
        batch = collate(rows)
        rollout = think(model, batch.to(model.device))
        language, thoughts = rollout.states, rollout.latent_inputs
        states = [
            [*language[i, : len(row.suffix) + 1], *thoughts[i, : row.num_latents]]
            for i, row in enumerate(rows)
        ]
        if not is_trained:
            return [(one, []) for one in states]
        # What one row gives must depend on its own embeddings alone.
        gradients = [torch.autograd.grad(_sum(one), inputs, retain_graph=True)[0] for one in states]
    start = batch.prefix.shape[1]
    found = []
    for i, (row, gradient) in enumerate(zip(rows, gradients, strict=True)):
        own = [*gradient[i, : len(row.prefix)], *gradient[i, start : start + len(row.suffix)]]
        found.append((_detached(states[i]), own))
    return found


def _alone(model: PreTrainedModel, row: Layout, is_trained: bool) -> Found:
    """Return what a row gives alone: no pads, no mask, no cache, nothing but its embeddings."""

    def read(embeds_ND: Tensor) -> Tensor:
        output = backbone_of(model)(inputs_embeds=embeds_ND[None], use_cache=False)
        states: Tensor = output.last_hidden_state[0]
        return states

    with _embedded(model, is_trained) as inputs:
        ids = torch.tensor([[*row.prefix, *row.suffix]], device=model.device)
        given = model.get_input_embeddings()(ids)[0]
        sequence, words = given[: len(row.prefix)], given[len(row.prefix) :]
        thoughts: list[Tensor] = []
        for _ in range(row.num_latents):
            thoughts.append(read(sequence)[-1])
            sequence = torch.cat([sequence, thoughts[-1][None]])
        states = [*read(torch.cat([sequence, words]))[len(sequence) - 1 :], *thoughts]
        if not is_trained:
            return states, []
        (gradient,) = torch.autograd.grad(_sum(states), inputs)
    return _detached(states), [*gradient[0]]


def _sum(states: list[Tensor]) -> Tensor:
    """Return a number on which every state has its own, unlike influence."""
    weighted = [
        (state * torch.linspace(1, 2 + i, len(state), device=state.device)).tanh().sum()
        for i, state in enumerate(states)
    ]
    return torch.stack(weighted).sum()


def _detached(states: list[Tensor]) -> list[Tensor]:
    return [state.detach() for state in states]


def _difference(one: Found, other: Found) -> list[float]:
    """Return the largest difference of states, and of gradients, relative to their norms."""
    largest = []
    for mine, theirs in zip(one, other, strict=True):
        norms = torch.stack([a.norm() for a in theirs] or [torch.ones(1)[0]])
        apart = torch.stack(
            [(a - b).norm() for a, b in zip(mine, theirs, strict=True)] or [norms[0] * 0]
        )
        largest.append(float((apart / norms.clamp(min=1e-3 * float(norms.max()))).max()))
    return largest


def _has_plain_logits(model: PreTrainedModel) -> bool:
    """Return whether logits are the output head on the last state, as thoughts need it."""
    ids = torch.tensor([[0, 1, 1]], device=model.device)
    head: Callable[[Tensor], Tensor] | None = model.get_output_embeddings()
    with torch.no_grad():
        logits = model(input_ids=ids).logits
        states = backbone_of(model)(input_ids=ids).last_hidden_state
        return head is not None and torch.allclose(head(states), logits, rtol=1e-3, atol=1e-4)


@contextmanager
def _at_rest(model: PreTrainedModel) -> Iterator[None]:
    """Within it, no dropout, and no weight has a gradient."""
    was_training = model.training
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        model.train(was_training)
        for parameter in learned:
            parameter.requires_grad_(True)


@contextmanager
def _with_weights_that_matter(model: PreTrainedModel) -> Iterator[None]:
    """Within it, no matrix is so small that attention is flat and a cap is never reached.

    Weights that were just drawn are: what pads do to them would look like rounding. They are
    multiplied by powers of two, which floats undo exactly.
    """
    factors: list[tuple[Tensor, float]] = []
    seen = set[int]()
    for module in model.modules():
        if not isinstance(module, nn.Linear | Conv1D | nn.Embedding) or id(module.weight) in seen:
            continue
        weight = module.weight
        seen.add(id(weight))
        size = float(weight.detach().square().mean().sqrt())
        fan_in = weight.shape[0] if isinstance(module, Conv1D) else weight.shape[-1]
        if isinstance(module, nn.Embedding):
            fan_in = 1
        factor = 1.0
        while size > 0 and size * factor * fan_in**0.5 < 1:
            factor *= 2
        factors.append((weight, factor))
    _scale(factors)
    try:
        yield
    finally:
        _scale([(weight, 1 / factor) for weight, factor in factors])


@torch.no_grad()
def _scale(factors: list[tuple[Tensor, float]]) -> None:
    for weight, factor in factors:
        if factor != 1:
            weight.mul_(factor)


@contextmanager
def _embedded(model: PreTrainedModel, is_trained: bool) -> Iterator[list[Tensor]]:
    """Within it, what is embedded can have a gradient; yields these embeddings."""
    found: list[Tensor] = []

    def keep(module: nn.Module, ids: object, embeds: Tensor) -> Tensor:
        found.append(embeds.detach().requires_grad_(is_trained))
        return found[-1]

    hook = model.get_input_embeddings().register_forward_hook(keep)
    try:
        with torch.set_grad_enabled(is_trained):
            yield found
    finally:
        hook.remove()
