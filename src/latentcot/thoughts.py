"""THE METHOD: a causal language model thinks by reading its own last hidden state.

A continuous thought is the last hidden state (after the final norm: the vector that the output
head reads) at the column before its slot, and it is the input embedding of that slot
(arXiv 2412.06769, section 3). Writing h(·) for the last hidden state of the newest column and
e(·) for the embedding table,

    h_0 = h(e(question), e(<bot>))                                     the question pass
    h_i = h(e(question), e(<bot>), h_0, …, h_{i-1})      i = 1 … n     one pass a thought
    then e(<eot>), e(words) …                                          language again

so n thoughts take n + 1 passes: the words ride along in the pass of the last slot. Positions
count on as if slots were tokens, and gradients flow through every thought.

What is fed into a slot is one function of the state before it (`feed`), so that a control can put
something else there under the same passes; when latent mode ends is another (`stop`). Left out,
each row takes the thoughts that it is given.

Each pass feeds consecutive new columns to an unmodified Hugging Face causal LM, over one cache that
only grows. Rows are padded on the right: in the question pass no real column can see a pad, so it
needs no mask; in the later, short passes the pads are masked. A row with fewer thoughts than its
neighbours gets masked columns in their place.

Shapes: B batch, Q question columns, T language columns, C columns of one pass, K columns so far,
N most slots of any row, D hidden size.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedModel

from latentcot.errors import DataError, TrainingError
from latentcot.layout import MarkerIds
from latentcot.methods import Method
from latentcot.recompute import parts_cache, recomputed


class Passes:
    """The columns that a model has read so far, and the way to let it read more of them.

    Attributes:
        cache: Keys and values of every column, pads included.
        is_real_BK: Which of those columns are real.
        lengths_B: How many real columns each row has; the position of its next one.
        num_passes: Calls of the backbone so far.
    """

    def __init__(
        self, model: PreTrainedModel, batch_size: int, *, saves_memory: bool = False
    ) -> None:
        if model.training:
            _refuse_checkpointing(model)
        self.backbone = model.base_model
        self.saves_memory = saves_memory
        self.cache = parts_cache(model) if saves_memory else DynamicCache(config=model.config)
        self.window = _sliding_window(self.cache)
        self.is_real_BK = torch.ones(batch_size, 0, dtype=torch.bool, device=model.device)
        self.lengths_B = torch.zeros(batch_size, dtype=torch.long, device=model.device)
        self.num_passes = 0

    def read(self, embeds_BCD: Tensor, is_real_BC: Tensor) -> Tensor:
        """Read C more columns in one pass; return their last hidden states (B, C, D)."""
        is_first = self.num_passes == 0
        self.is_real_BK = torch.cat([self.is_real_BK, is_real_BC], dim=1)
        # A column that is not real repeats its neighbour's position: always one the model has.
        positions_BC = (self.lengths_B[:, None] + is_real_BC.cumsum(1) - 1).clamp(min=0)
        self.lengths_B = self.lengths_B + is_real_BC.sum(1)
        self._refuse_padded_window()
        self.num_passes += 1
        with recomputed(self.backbone, self.cache) if self.saves_memory else nullcontext():
            hidden_BCD: Tensor = self.backbone(
                inputs_embeds=embeds_BCD,
                attention_mask=None if is_first else self.is_real_BK,
                position_ids=positions_BC,
                past_key_values=self.cache,
                use_cache=True,
            ).last_hidden_state
        return hidden_BCD

    def _refuse_padded_window(self) -> None:
        """Sliding windows count columns, so that pads would push real columns out of them."""
        if self.window is None or self.is_real_BK.shape[1] <= self.window:
            return
        if not bool(self.is_real_BK.all()):
            raise DataError(
                f"a padded batch has {self.is_real_BK.shape[1]} columns, but this model's sliding "
                f"window is {self.window}. Use batch size 1, shorter questions, or a model with "
                "full attention."
            )

    def keep_rows(self, rows: Tensor) -> None:
        """Drop all rows but these from the cache, so that finished ones cost nothing."""
        self.cache.batch_select_indices(rows)
        self.is_real_BK = self.is_real_BK[rows]
        self.lengths_B = self.lengths_B[rows]


@dataclass(frozen=True, slots=True)
class Slot:
    """What can be known when a slot is filled.

    Attributes:
        number: 0 for the first.
        state: (B, D). The last hidden state at the column before it: the continuous thought.
        table: The model's embedding table.
    """

    number: int
    state: Tensor
    table: nn.Module

    def embed(self, token: int) -> Tensor:
        """Return the embedding of one token for every row: (B, D)."""
        ids = torch.full(self.state.shape[:1], token, device=self.state.device)
        embeds: Tensor = self.table(ids)
        return embeds.to(self.state.dtype)


Feed = Callable[[Slot], Tensor]
Stop = Callable[[Tensor], Tensor]


def feed_of(method: Method, markers: MarkerIds) -> Feed | None:
    """Return what a method feeds into its slots, or None where it has no such slots."""
    if method.fill.feed is None:
        return None
    fill = method.fill.feed
    return lambda slot: fill(slot, markers)


@dataclass(frozen=True, slots=True)
class Rollout:
    """What came of one question pass, its thoughts and its language pass.

    Attributes:
        states: (B, 1 + T, D). `states[b, j]` is the last hidden state just before language token j
            of row b, the one that predicts it; `states[b, t]`, with t the number of its language
            tokens, predicts what follows.
        fed: (B, N, D). The vectors fed into the slots; zero behind a row's last slot.
        slot_states: (B, N, D). The last hidden state at each slot, what comes of reading it: with
            thoughts, `slot_states[:, i]` is `fed[:, i + 1]`. Of no meaning behind a row's last one.
        num_slots_B: (B,). How many slots each row has taken.
        num_passes_B: (B,). Passes that each row has needed until its first word can be read.
        passes: The columns read so far, to go on from.
    """

    states: Tensor
    fed: Tensor
    slot_states: Tensor
    num_slots_B: Tensor
    num_passes_B: Tensor
    passes: Passes


def think(
    model: PreTrainedModel,
    prefix_BQ: Tensor,
    prefix_lengths_B: Tensor,
    num_slots_B: Tensor,
    suffix_BT: Tensor,
    suffix_lengths_B: Tensor,
    *,
    feed: Feed | None = None,
    stop: Stop | None = None,
    saves_memory: bool = False,
) -> Rollout:
    """Read the question, think, read the language that follows (arXiv 2412.06769, section 3).

    Args:
        model: A Hugging Face causal LM whose logits are its output head on the last hidden state.
        prefix_BQ: (B, Q) token ids of question and `<bot>`, padded on the right with any id.
        prefix_lengths_B: (B,) how many of them are real, at least 1.
        num_slots_B: (B,) thoughts of each row, 0 allowed; with `stop` the most that it may have.
        suffix_BT: (B, T) token ids from `<eot>` on, padded on the right with any id; T may be 0.
        suffix_lengths_B: (B,) how many of them are real.
        feed: slot → (B, D), what is fed into it; the thought itself if left out.
        stop: (B, D), the state at the slot just read → (B,) bool, whether the row thinks no more.
        saves_memory: Keep little for the backward pass, and compute it again there
            (`recompute.py`).

    Raises:
        TrainingError: transformers' gradient checkpointing is on: the loss would be wrong.
        DataError: A padded batch is longer than the model's sliding window.

    Takes N + 1 passes, and one more with `stop`: where the last slot is seen too late, the language
    behind it cannot ride along.
    """
    embed = model.get_input_embeddings()
    passes = Passes(model, prefix_BQ.shape[0], saves_memory=saves_memory)
    if int(num_slots_B.max()) == 0:
        return _read_at_once(
            passes, embed, prefix_BQ, prefix_lengths_B, suffix_BT, suffix_lengths_B
        )
    hidden_BQD = passes.read(embed(prefix_BQ), _is_real(prefix_BQ, prefix_lengths_B))
    language = embed(suffix_BT), _is_real(suffix_BT, suffix_lengths_B)
    state_BD = _last(hidden_BQD, prefix_lengths_B)
    return _roll_out(passes, embed, state_BD, num_slots_B, language, feed, stop)


def _roll_out(
    passes: Passes,
    embed: nn.Module,
    state_BD: Tensor,
    num_slots_B: Tensor,
    language: tuple[Tensor, Tensor],
    feed: Feed | None,
    stop: Stop | None,
) -> Rollout:
    """Fill slot after slot, then read the language, given as (embeddings, which are real)."""
    fed: list[Tensor] = []
    slot_states: list[Tensor] = []
    taken_B = torch.zeros_like(num_slots_B)
    is_thinking_B = num_slots_B > 0
    most = int(num_slots_B.max())
    for number in range(most):
        vector_BD = state_BD if feed is None else feed(Slot(number, state_BD, embed))
        is_thinking_B1 = is_thinking_B[:, None]
        fed.append(vector_BD * is_thinking_B1)
        columns, is_real = vector_BD[:, None], is_thinking_B1
        if stop is None and number == most - 1:  # the language rides along with the last slot
            columns = torch.cat([columns, language[0]], dim=1)
            is_real = torch.cat([is_real, language[1]], dim=1)
        hidden_BCD = passes.read(columns, is_real)
        state_BD = torch.where(is_thinking_B1, hidden_BCD[:, 0], state_BD)
        slot_states.append(state_BD)
        taken_B = taken_B + is_thinking_B
        is_thinking_B = is_thinking_B & (taken_B < num_slots_B)
        if stop is not None:
            is_thinking_B = is_thinking_B & ~stop(state_BD)
            if not bool(is_thinking_B.any()):
                break
    behind = hidden_BCD[:, 1:]
    num_passes_B = taken_B + 1
    if stop is not None and language[0].shape[1] > 0:
        behind = passes.read(*language)
        num_passes_B = num_passes_B + ((num_slots_B > 0) & language[1].any(1))
    return Rollout(
        states=torch.cat([state_BD[:, None], behind], dim=1),
        fed=torch.stack(fed, dim=1),
        slot_states=torch.stack(slot_states, dim=1),
        num_slots_B=taken_B,
        num_passes_B=num_passes_B,
        passes=passes,
    )


def _read_at_once(
    passes: Passes,
    embed: nn.Module,
    prefix_BQ: Tensor,
    prefix_lengths_B: Tensor,
    suffix_BT: Tensor,
    suffix_lengths_B: Tensor,
) -> Rollout:
    """Without thoughts, the question and the language behind it are one ordinary pass."""
    num_prefix, num_suffix = prefix_BQ.shape[1], suffix_BT.shape[1]
    both = torch.cat([prefix_BQ, suffix_BT], dim=1)
    column = torch.arange(both.shape[1], device=both.device)
    starts_B1 = prefix_lengths_B[:, None]
    source = torch.where(column < starts_B1, column, column - starts_B1 + num_prefix)
    ids = both.gather(1, source.clamp(max=both.shape[1] - 1))
    hidden = passes.read(embed(ids), _is_real(ids, prefix_lengths_B + suffix_lengths_B))
    wanted = starts_B1 - 1 + torch.arange(num_suffix + 1, device=both.device)
    states = hidden.gather(1, wanted[:, :, None].expand(-1, -1, hidden.shape[-1]))
    none, zeros = states[:, :0], torch.zeros_like(prefix_lengths_B)
    return Rollout(states, none, none, zeros, zeros + 1, passes)


def _refuse_checkpointing(model: PreTrainedModel) -> None:
    if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        raise TrainingError(
            f"{type(model).__name__}: gradient checkpointing is on. transformers then drops the "
            "cache, in which the thoughts find the question, and the loss would be wrong. Turn it "
            "off, and save memory with training.save_memory: true."
        )


def _sliding_window(cache: Cache) -> int | None:
    """Return the narrowest sliding window of a model's layers, or None."""
    windows = [getattr(layer, "sliding_window", None) for layer in cache.layers]
    return min((window for window in windows if window), default=None)


def _is_real(ids: Tensor, lengths: Tensor) -> Tensor:
    """Mark the columns before each row's length: (B, C), bool."""
    return torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]


def _last(hidden_BCD: Tensor, lengths_B: Tensor) -> Tensor:
    """Pick each row's own last real column: (B, D)."""
    rows = torch.arange(hidden_BCD.shape[0], device=hidden_BCD.device)
    return hidden_BCD[rows, lengths_B - 1]
