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

Each pass feeds consecutive new columns to an unmodified Hugging Face causal LM, over one cache that
only grows. Rows are padded on the right: in the question pass no real column can see a pad, so it
needs no mask; in the later, short passes the pads are masked. A row with fewer thoughts than its
neighbours gets masked columns in their place.

Shapes: B batch, Q question columns, T language columns, C columns of one pass, K columns so far,
N most thoughts of any row, D hidden size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from latentcot.errors import DataError, TrainingError


class Passes:
    """The columns that a model has read so far, and the way to let it read more of them.

    Attributes:
        cache: Keys and values of every column, pads included.
        is_real_BK: Which of those columns are real.
        lengths_B: How many real columns each row has; the position of its next one.
        num_passes: Calls of the backbone so far.
    """

    def __init__(self, model: PreTrainedModel, batch_size: int) -> None:
        if model.training:
            _refuse_checkpointing(model)
        self.backbone = model.base_model
        self.cache = DynamicCache(config=model.config)
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
class Rollout:
    """What came of one question pass, its thoughts and its language pass.

    Attributes:
        states: (B, 1 + T, D). `states[b, j]` is the last hidden state just before language token j
            of row b, the one that predicts it; `states[b, t]`, with t the number of its language
            tokens, predicts what follows.
        thoughts: (B, N, D). The vectors fed into the slots; zero behind a row's last thought.
        passes: The columns read so far, to go on from.
    """

    states: Tensor
    thoughts: Tensor
    passes: Passes


def think(
    model: PreTrainedModel,
    prefix_BQ: Tensor,
    prefix_lengths_B: Tensor,
    num_thoughts_B: Tensor,
    suffix_BT: Tensor,
    suffix_lengths_B: Tensor,
) -> Rollout:
    """Read the question, think, read the language that follows (arXiv 2412.06769, section 3).

    Args:
        model: A Hugging Face causal LM whose logits are its output head on the last hidden state.
        prefix_BQ: (B, Q) token ids of question and `<bot>`, padded on the right with any id.
        prefix_lengths_B: (B,) how many of them are real, at least 1.
        num_thoughts_B: (B,) thoughts of each row, 0 allowed.
        suffix_BT: (B, T) token ids from `<eot>` on, padded on the right with any id; T may be 0.
        suffix_lengths_B: (B,) how many of them are real.

    Raises:
        TrainingError: Gradient checkpointing is on, which would make the loss wrong.
        DataError: A padded batch is longer than the model's sliding window.

    Takes N + 1 passes.
    """
    embed = model.get_input_embeddings()
    passes = Passes(model, prefix_BQ.shape[0])
    num_slots = int(num_thoughts_B.max())
    if num_slots == 0:
        return _read_at_once(
            passes, embed, prefix_BQ, prefix_lengths_B, suffix_BT, suffix_lengths_B
        )
    suffix_BTD, is_suffix_BT = embed(suffix_BT), _is_real(suffix_BT, suffix_lengths_B)

    hidden_BQD = passes.read(embed(prefix_BQ), _is_real(prefix_BQ, prefix_lengths_B))
    state_BD = _last(hidden_BQD, prefix_lengths_B)
    thoughts: list[Tensor] = []
    for slot in range(num_slots):
        is_thinking_B1 = (slot < num_thoughts_B)[:, None]
        thoughts.append(state_BD * is_thinking_B1)
        columns, is_real = state_BD[:, None], is_thinking_B1
        if slot == num_slots - 1:  # the language rides along with the last slot
            columns = torch.cat([columns, suffix_BTD], dim=1)
            is_real = torch.cat([is_real, is_suffix_BT], dim=1)
        hidden_BCD = passes.read(columns, is_real)
        state_BD = torch.where(is_thinking_B1, hidden_BCD[:, 0], state_BD)

    states = torch.cat([state_BD[:, None], hidden_BCD[:, 1:]], dim=1)
    return Rollout(states, torch.stack(thoughts, dim=1), passes)


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
    return Rollout(states, states[:, :0], passes)


def _refuse_checkpointing(model: PreTrainedModel) -> None:
    if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        raise TrainingError(
            f"{type(model).__name__}: gradient checkpointing is on. transformers then drops the "
            "cache, in which the thoughts find the question, and the loss would be wrong. Call "
            "model.gradient_checkpointing_disable()."
        )


def _sliding_window(cache: DynamicCache) -> int | None:
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
