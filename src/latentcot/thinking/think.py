"""THE METHOD: a causal language model thinks by reading its own last hidden state.

A continuous thought is the last hidden state (after the final norm: the vector that the output
head reads) at the column before its latent position, and it is the input embedding of that latent
position (arXiv 2412.06769, section 3). Writing h(·) for the last hidden state of the newest column
and e(·) for the embedding table,

    h_0 = h(e(question), e(<bot>))                                     the question pass
    h_i = h(e(question), e(<bot>), h_0, …, h_{i-1})      i = 1 … n     one pass a thought
    then e(<eot>), e(words) …                                          language again

so n thoughts take n + 1 passes: the words ride along in the pass of the last latent position.
Positions count on as if latent positions were tokens, and gradients flow through every thought.

What is fed into a latent position is one function of the state before it (`feed`), so that a
control can put something else there under the same passes; when latent mode ends is another
(`stop`). Left out, each row takes the thoughts that it is given.

Each pass feeds consecutive new columns to an unmodified Hugging Face causal LM, over one cache that
only grows (`passes.py`). Rows are padded on the right; a row with fewer thoughts than its
neighbours gets masked columns in their place.

Shapes: B batch, Q question columns, T language columns, C columns of one pass, N most latent
positions of any row, D hidden size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from latentcot.curriculum.layout import SpecialTokens
from latentcot.methods.table import Method
from latentcot.thinking.passes import Passes


@dataclass(frozen=True, slots=True)
class Latent:
    """What can be known when a latent position is filled.

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


Feed = Callable[[Latent], Tensor]
Stop = Callable[[Tensor], Tensor]


def feed_of(method: Method, special_tokens: SpecialTokens) -> Feed | None:
    """Return what a method feeds into its latent positions, or None where it has no such latent
    positions."""
    if method.fill.feed is None:
        return None
    fill = method.fill.feed
    return lambda latent: fill(latent, special_tokens)


@dataclass(frozen=True, slots=True)
class Rollout:
    """What came of one question pass, its thoughts and its language pass.

    Attributes:
        states: (B, 1 + T, D). `states[b, j]` is the last hidden state just before language token j
            of row b, the one that predicts it; `states[b, t]`, with t the number of its language
            tokens, predicts what follows.
        fed: (B, N, D). The vectors fed into the latent positions; zero behind a row's last latent
            position.
        latent_states: (B, N, D). The last hidden state at each latent position, what comes of
            reading it: with thoughts, `latent_states[:, i]` is `fed[:, i + 1]`. Of no meaning
            behind a row's last one.
        num_latents_B: (B,). How many latent positions each row has taken.
        num_passes_B: (B,). Passes that each row has needed until its first word can be read.
        passes: The columns read so far, to go on from.
    """

    states: Tensor
    latent_inputs: Tensor
    latent_states: Tensor
    num_latents_B: Tensor
    num_passes_B: Tensor
    passes: Passes


def think(
    model: PreTrainedModel,
    prefix_BQ: Tensor,
    prefix_lengths_B: Tensor,
    num_latents_B: Tensor,
    suffix_BT: Tensor,
    suffix_lengths_B: Tensor,
    *,
    feed: Feed | None = None,
    stop: Stop | None = None,
    max_latents: int | None = None,
    saves_memory: bool = False,
) -> Rollout:
    """Read the question, think, read the language that follows (arXiv 2412.06769, section 3).

    Args:
        model: A Hugging Face causal LM whose logits are its output head on the last hidden state.
        prefix_BQ: (B, Q) token ids of question and `<bot>`, padded on the right with any id.
        prefix_lengths_B: (B,) how many of them are real, at least 1.
        num_latents_B: (B,) thoughts of each row, 0 allowed; with `stop` the most that it may have.
        suffix_BT: (B, T) token ids from `<eot>` on, padded on the right with any id; T may be 0.
        suffix_lengths_B: (B,) how many of them are real.
        feed: latent position → (B, D), what is fed into it; the thought itself if left out.
        stop: (B, D), the state at the latent position just read → (B,) bool, whether the row
            thinks no more.
        max_latents: The largest of `num_latents_B`, for those who know it: reading it off the
            device would wait for all that was asked of it before.
        saves_memory: Keep little for the backward pass, and compute it again there
            (`recompute.py`).

    Raises:
        TrainingError: transformers' gradient checkpointing is on: the loss would be wrong.
        DataError: A padded batch is longer than the model's sliding window.

    Takes N + 1 passes, and one more with `stop`: where the last latent position is seen too late,
    the language behind it cannot ride along.
    """
    embed = model.get_input_embeddings()
    passes = Passes(model, prefix_BQ.shape[0], saves_memory=saves_memory)
    most = int(num_latents_B.max()) if max_latents is None else max_latents
    if most == 0:
        return _read_at_once(
            passes, embed, prefix_BQ, prefix_lengths_B, suffix_BT, suffix_lengths_B
        )
    # Looked up at once: each lookup has a gradient as large as the table.
    embeds = embed(torch.cat([prefix_BQ, suffix_BT], dim=1))
    question_BQD, words_BTD = embeds.split([prefix_BQ.shape[1], suffix_BT.shape[1]], dim=1)
    # Of the question, nothing but the state of each row's own last column is ever read.
    last_B1 = prefix_lengths_B[:, None] - 1
    is_real_BQ = _is_real(prefix_BQ, prefix_lengths_B)
    state_BD = passes.read(question_BQD, is_real_BQ, last_B1)[:, 0]
    language = words_BTD, _is_real(suffix_BT, suffix_lengths_B)
    return _roll_out(passes, embed, state_BD, num_latents_B, most, language, feed, stop)


def _roll_out(
    passes: Passes,
    embed: nn.Module,
    state_BD: Tensor,
    num_latents_B: Tensor,
    most: int,
    language: tuple[Tensor, Tensor],
    feed: Feed | None,
    stop: Stop | None,
) -> Rollout:
    """Fill latent position after latent position, then read the language, given as (embeddings,
    which are real)."""
    latent_inputs: list[Tensor] = []
    latent_states: list[Tensor] = []
    taken_B = torch.zeros_like(num_latents_B)
    is_thinking_B = num_latents_B > 0
    for number in range(most):
        vector_BD = state_BD if feed is None else feed(Latent(number, state_BD, embed))
        is_thinking_B1 = is_thinking_B[:, None]
        latent_inputs.append(vector_BD * is_thinking_B1)
        columns, is_real = vector_BD[:, None], is_thinking_B1
        if (
            stop is None and number == most - 1
        ):  # the language rides along with the last latent position
            columns = torch.cat([columns, language[0]], dim=1)
            is_real = torch.cat([is_real, language[1]], dim=1)
        hidden_BCD = passes.read(columns, is_real)
        state_BD = torch.where(is_thinking_B1, hidden_BCD[:, 0], state_BD)
        latent_states.append(state_BD)
        taken_B = taken_B + is_thinking_B
        is_thinking_B = is_thinking_B & (taken_B < num_latents_B)
        if stop is not None:
            is_thinking_B = is_thinking_B & ~stop(state_BD)
            if not bool(is_thinking_B.any()):
                break
    behind = hidden_BCD[:, 1:]
    num_passes_B = taken_B + 1
    if stop is not None and language[0].shape[1] > 0:
        behind = passes.read(*language)
        num_passes_B = num_passes_B + ((num_latents_B > 0) & language[1].any(1))
    return Rollout(
        states=torch.cat([state_BD[:, None], behind], dim=1),
        latent_inputs=torch.stack(latent_inputs, dim=1),
        latent_states=torch.stack(latent_states, dim=1),
        num_latents_B=taken_B,
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
    is_real = _is_real(ids, prefix_lengths_B + suffix_lengths_B)
    wanted = starts_B1 - 1 + torch.arange(num_suffix + 1, device=both.device)
    states = passes.read(embed(ids), is_real, wanted)
    none, zeros = states[:, :0], torch.zeros_like(prefix_lengths_B)
    return Rollout(states, none, none, zeros, zeros + 1, passes)


def _is_real(ids: Tensor, lengths: Tensor) -> Tensor:
    """Mark the columns before each row's length: (B, C), bool."""
    return torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
