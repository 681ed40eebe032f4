"""THE METHOD: a causal language model thinks by reading its own last hidden state.

A continuous thought is the last hidden state (after the final norm: the vector that the output
head reads) at the position before its own, and it is the input embedding of its position
(arXiv 2412.06769, section 3). Writing h(·) for the last hidden state at the newest position and
e(·) for the embedding table,

    h_0 = h(e(question), e(<bot>))                                     the question pass
    h_i = h(e(question), e(<bot>), h_0, …, h_{i-1})      i = 1 … n     one pass a thought
    then e(<eot>), e(words) …                                          language again

so n thoughts take n + 1 passes: the words ride along in the pass of the last thought. Positions
count on as if thoughts were tokens, and gradients flow through every thought.

What stands in the latent positions is `Thinker.latents`:

- `Sequential(update)`: one after the other, as above. `update` is what goes into a position, from
  the state before it: the state itself, a projection of it, a learned embedding.
- `Parallel(T, update)`: all at once, T times (arXiv 2506.18582, section 3). The first pass reads a
  start token in each; then T times position j+1 gets what comes of the state at position j in the
  iteration before, over a cache that ends behind `<bot>`. T ≥ n gives what `Sequential` gives.
  In place, it gets what comes of the state at j+1 itself (arXiv 2606.31779, section 3).
- `Sequential(update, given=…)` where the batch knows what each position stands for, as in training
  (arXiv 2505.16552, section 3): all positions in one ordinary pass.
- `Tokens` and `Nothing` leave nothing to be filled: one ordinary pass.

When latent mode ends is `stop`; left out, each row takes the thoughts that it is given. Each pass
reads consecutive new positions with an unmodified Hugging Face causal LM, over one cache
(`passes.py`). Rows are padded on the right; a row with fewer thoughts than its neighbours gets
masked positions in their place.

Shapes: B batch, Q question positions, T language positions, C positions of one pass, N most latent
positions of any row, D hidden size.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from latentcot.curriculum.layout import NO_LABEL, SpecialTokens
from latentcot.curriculum.views import THOUGHT, Latents, Parallel, Sequential, Update
from latentcot.errors import UsageError
from latentcot.thinking.batch import Batch
from latentcot.thinking.passes import Passes

Stop = Callable[[Tensor], Tensor]
"""(B, D), the states at the latent position just read → (B,) bool, whether a row thinks no more."""


@dataclass(frozen=True, slots=True)
class Thinker:
    """How latent positions are filled, with all that it takes beside the model.

    Attributes:
        latents: What stands in them.
        special_tokens: Their ids, for latents that name one.
        modules: What the method has learned beside the model, by name.
    """

    latents: Latents = THOUGHT
    special_tokens: SpecialTokens | None = None
    modules: Mapping[str, nn.Module] = field(default_factory=dict)

    def with_update(self, update: Update) -> "Thinker":
        """Return one that puts something else into each position, from the state before it.

        Raises:
            UsageError: The positions are not filled one after the other.
        """
        if not isinstance(self.latents, Sequential):
            raise UsageError(
                "this needs latent positions that are filled one after the other, and those of "
                f"this method are: {self.latents.summary}."
            )
        return replace(self, latents=replace(self.latents, update=update))


@dataclass(frozen=True, slots=True)
class Latent:
    """What can be known when latent positions are filled.

    Attributes:
        number: Of the position, 0 for the first; of the iteration, where all are filled at once.
        state: (…, D). The last hidden state at the position before: the continuous thought. That
            at the position itself, where all are refined in place.
        table: The model's embedding table.
        thinker: How they are filled.
    """

    number: int
    state: Tensor
    table: nn.Module
    thinker: Thinker

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """What the method has learned beside the model."""
        return self.thinker.modules

    def embed(self, token: int | str) -> Tensor:
        """Return the embedding of one token for every row: (…, D).

        Args:
            token: Its id, or a name of `layout.SpecialTokens`.
        """
        id_ = getattr(self.thinker.special_tokens, token) if isinstance(token, str) else token
        ids = torch.full(self.state.shape[:-1], id_, device=self.state.device)
        embeds: Tensor = self.table(ids)
        return embeds.to(self.state.dtype)


@dataclass(frozen=True, slots=True)
class Rollout:
    """What reading a batch gave.

    Attributes:
        states: (B, 1 + T, D). `states[b, j]` is the last hidden state just before language token j
            of row b, the one that predicts it; `states[b, t]`, with t the number of its language
            tokens, predicts what follows.
        latent_inputs: (B, N, D). What went into the latent positions; zero behind a row's last one.
        latent_states: (B, N, D). The last hidden state at each latent position, what comes of
            reading it: with thoughts, `latent_states[:, i]` is `latent_inputs[:, i + 1]`. Of no
            meaning behind a row's last one.
        prefix_state: (B, D). The last hidden state at the end of each row's prefix.
        num_latents_B: (B,). How many latent positions each row has taken.
        num_passes_B: (B,). Passes that each row has needed until its first word can be read.
        passes: The positions read so far, to continue from.
        columns: (B, N). Where the latent positions stand in `passes`.
        layers: (blocks + 1) × (B, D), the hidden states of all layers at the batch's anchor, in
            transformers' order; none unless asked for.
    """

    states: Tensor
    latent_inputs: Tensor
    latent_states: Tensor
    prefix_state: Tensor
    num_latents_B: Tensor
    num_passes_B: Tensor
    passes: Passes
    columns: Tensor
    layers: tuple[Tensor, ...] = ()

    @property
    def states_before_latents(self) -> Tensor:
        """(B, N, D). The last hidden state just before each latent position.

        What the output head would say there in place of the latent input.
        """
        return torch.cat([self.prefix_state[:, None], self.latent_states], dim=1)[:, :-1]


def think(
    model: PreTrainedModel,
    batch: Batch,
    thinker: Thinker | None = None,
    *,
    stop: Stop | None = None,
    saves_memory: bool = False,
    keeps_layers: bool = False,
) -> Rollout:
    """Read the question, think, read the language that follows (arXiv 2412.06769, section 3).

    Args:
        model: A Hugging Face causal LM whose logits are its output head on the last hidden state.
        batch: Questions, numbers of latent positions, language; `batch.collate` makes one. With
            `stop` the numbers are the most that a row may have.
        thinker: How latent positions are filled; with continuous thoughts if left out.
        stop: Ends latent mode row by row; for latents that are filled one after the other.
        saves_memory: Keep little for the backward pass, and compute it again there
            (`models/backend/activation_checkpointing.py`).
        keeps_layers: Keep the hidden states of all layers at each row's anchor.

    Raises:
        TrainingError: transformers' gradient checkpointing is on: the loss would be wrong.
        UsageError: `stop` does not go with latents that are filled in parallel; or nobody has
            called `latentcot.choose_way` for a model of a family that needs it.

    Takes N + 1 passes, and one more with `stop`: where the last position is seen too late, the
    language behind it cannot ride along. Parallel latents take T + 1.
    """
    thinker = Thinker() if thinker is None else thinker
    passes = Passes(model, batch.prefix.shape[0], saves_memory=saves_memory)
    reading = _Reading(model.get_input_embeddings(), passes, batch, thinker, keeps_layers)
    if isinstance(thinker.latents, Parallel):
        if stop is not None:
            raise UsageError("a stop rule needs latent positions that are filled one by one.")
        rollout = reading.in_parallel(thinker.latents)
    elif batch.max_latents == 0:
        rollout = reading.at_once(None)
    elif batch.groups.shape[-1] > 0:
        rollout = reading.at_once(0)
    else:
        rollout = reading.one_by_one(stop)
    if keeps_layers:
        at_B11 = batch.anchor[:, None, None].expand(-1, 1, rollout.states.shape[-1])
        last = rollout.states.gather(1, at_B11)[:, 0]
        rollout = replace(rollout, layers=(*passes.layers_BD, last))
    return rollout


@dataclass(frozen=True, slots=True)
class _Reading:
    """One batch that is being read."""

    embed: nn.Module
    passes: Passes
    batch: Batch
    thinker: Thinker
    keeps_layers: bool

    def anchored(self, first: int | Tensor) -> Tensor | None:
        """Return where the anchor lies in a pass in which `states[0]` stands at column `first`."""
        return self.batch.anchor + first if self.keeps_layers else None

    def update(self, number: int, state: Tensor) -> Tensor:
        """Return what goes into latent positions, from the states before them."""
        latents = self.thinker.latents
        assert isinstance(latents, Sequential | Parallel)
        vector: Tensor = latents.update(Latent(number, state, self.embed, self.thinker))
        return vector

    def one_by_one(self, stop: Stop | None) -> Rollout:
        """Fill one latent position after the other, then read the language."""
        batch, passes, most = self.batch, self.passes, self.batch.max_latents
        # Looked up at once: each lookup has a gradient as large as the table.
        embeds = self.embed(torch.cat([batch.prefix, batch.suffix], dim=1))
        question_BQD, words_BTD = embeds.split([batch.prefix.shape[1], batch.suffix.shape[1]], 1)
        # Of the question, nothing but the state of each row's own last position is ever read.
        last_B1 = batch.prefix_lengths[:, None] - 1
        is_real_BQ = _is_real(batch.prefix, batch.prefix_lengths)
        state_BD = passes.read(question_BQD, is_real_BQ, last_B1)[:, 0]
        is_real_BT = _is_real(batch.suffix, batch.suffix_lengths)
        latent_inputs: list[Tensor] = []
        latent_states: list[Tensor] = []
        prefix_state = state_BD
        taken_B = torch.zeros_like(batch.num_latents)
        is_thinking_B = batch.num_latents > 0
        for number in range(most):
            vector_BD = self.update(number, state_BD)
            is_thinking_B1 = is_thinking_B[:, None]
            latent_inputs.append(vector_BD * is_thinking_B1)
            new, is_real, anchor_B = vector_BD[:, None], is_thinking_B1, None
            if stop is None and number == most - 1:  # the language rides along with the last one
                new = torch.cat([new, words_BTD], dim=1)
                is_real = torch.cat([is_real, is_real_BT], dim=1)
                anchor_B = self.anchored(0)
            hidden_BCD = passes.read(new, is_real, layers_at_B=anchor_B)
            state_BD = torch.where(is_thinking_B1, hidden_BCD[:, 0], state_BD)
            latent_states.append(state_BD)
            taken_B = taken_B + is_thinking_B
            is_thinking_B = is_thinking_B & (taken_B < batch.num_latents)
            if stop is not None:
                is_thinking_B = is_thinking_B & ~stop(state_BD)
                if not bool(is_thinking_B.any()):
                    break
        behind = hidden_BCD[:, 1:]
        if stop is None and (again_BD := passes.last_before(words_BTD.shape[1])) is not None:
            state_BD = again_BD
        num_passes_B = taken_B + 1
        if stop is not None and words_BTD.shape[1] > 0:
            behind = passes.read(words_BTD, is_real_BT)
            num_passes_B = num_passes_B + ((batch.num_latents > 0) & is_real_BT.any(1))
        return Rollout(
            states=torch.cat([state_BD[:, None], behind], dim=1),
            latent_inputs=torch.stack(latent_inputs, dim=1),
            latent_states=torch.stack(latent_states, dim=1),
            prefix_state=prefix_state,
            num_latents_B=taken_B,
            num_passes_B=num_passes_B,
            passes=passes,
            columns=self.columns(batch.prefix.shape[1], len(latent_inputs)),
        )

    def at_once(self, start: int | None) -> Rollout:
        """Read question, start tokens and language in one ordinary pass.

        Args:
            start: The token in every latent position; None where there are none. Any, where the
                batch knows what the positions stand for.
        """
        batch = self.batch
        most = 0 if start is None else batch.max_latents
        num_latents = batch.num_latents if most else torch.zeros_like(batch.num_latents)
        ids = self.side_by_side(start, batch.suffix)
        before_B1 = (batch.prefix_lengths + num_latents)[:, None]
        is_real = _is_real(ids, before_B1[:, 0] + batch.suffix_lengths)
        words = torch.arange(batch.suffix.shape[1] + 1, device=ids.device)
        around = torch.arange(most + 1, device=ids.device) if most else words[:0]
        wanted = torch.cat([batch.prefix_lengths[:, None] + around, before_B1 + words], dim=1) - 1
        is_given = most > 0 and batch.groups.shape[-1] > 0
        inside = batch.groups.flatten(1) if is_given else self.starts(start or 0)[:, :most]
        both = self.embed(torch.cat([ids, inside.clamp(min=0)], dim=1))
        embeds, inputs = both.split([ids.shape[1], inside.shape[1]], dim=1)
        if is_given:
            latents, is_word = self.thinker.latents, batch.groups != NO_LABEL
            assert isinstance(latents, Sequential)
            assert latents.given is not None
            inputs = latents.given(inputs.unflatten(1, is_word.shape[1:]), is_word)
            number = torch.arange(ids.shape[1], device=ids.device) - batch.prefix_lengths[:, None]
            is_latent = (number >= 0) & (number < num_latents[:, None])
            at = number.clamp(0, most - 1)[:, :, None].expand(-1, -1, inputs.shape[-1])
            embeds = torch.where(is_latent[:, :, None], inputs.gather(1, at), embeds)
        anchor_B = self.anchored(before_B1[:, 0] - 1)
        read = self.passes.read(embeds, is_real, wanted, anchor_B)
        around, states = read[:, : len(around)], read[:, len(around) :]
        is_filled = isinstance(self.thinker.latents, Sequential | Parallel)
        if is_filled and start is None and self.thinker.modules:
            # Wrappers such as DDP want every weight to be used, also in a stage without thoughts.
            unused = self.update(0, states[:, 0]).sum() * 0.0
            states = states + unused
        return Rollout(
            states=states,
            latent_inputs=inputs,
            latent_states=around[:, 1:],
            prefix_state=around[:, 0] if most else states[:, 0],
            num_latents_B=num_latents,
            num_passes_B=torch.ones_like(num_latents),
            passes=self.passes,
            columns=self.columns(batch.prefix_lengths[:, None], most),
        )

    def in_parallel(self, latents: Parallel) -> Rollout:
        """Fill all latent positions at once, some times, then read the language."""
        batch, passes, most = self.batch, self.passes, self.batch.max_latents
        start = int(getattr(self.thinker.special_tokens, latents.start))
        if latents.iterations == 0 or most == 0:
            return self.at_once(start if most else None)
        # The first pass reads the latent positions right behind each row's own question.
        ids = self.side_by_side(start, batch.suffix[:, :0])
        number_N = torch.arange(most, device=ids.device)
        is_latent_BN = number_N < batch.num_latents[:, None]
        is_real_BQ = _is_real(ids, batch.prefix_lengths)
        is_read = _is_real(ids, batch.prefix_lengths + batch.num_latents)
        wanted = batch.prefix_lengths[:, None] - 1 + torch.arange(most + 1, device=ids.device)
        embeds = self.embed(torch.cat([ids, batch.suffix], dim=1))
        question, words_BTD = embeds.split([ids.shape[1], batch.suffix.shape[1]], dim=1)
        states = passes.read(question, is_read, wanted.clamp(max=ids.shape[1] - 1))
        bot_B1D = states[:, :1]
        is_real_BT = _is_real(batch.suffix, batch.suffix_lengths)
        for number in range(latents.iterations):
            seen_BND = states[:, 1:] if latents.is_in_place else states[:, :-1]
            inputs_BND = self.update(number, seen_BND)
            passes.rewind(is_real_BQ)
            new, is_real, anchor_B = inputs_BND, is_latent_BN, None
            if number == latents.iterations - 1:  # the language rides along
                new = torch.cat([new, words_BTD], dim=1)
                is_real = torch.cat([is_real, is_real_BT], dim=1)
                anchor_B = self.anchored(most - 1)
            hidden = passes.read(new, is_real, layers_at_B=anchor_B)
            states = torch.cat([bot_B1D, hidden[:, :most]], dim=1)
        # A row without latent positions reads its language right behind `<bot>`.
        at_B11 = batch.num_latents[:, None, None].expand(-1, 1, states.shape[-1])
        return Rollout(
            states=torch.cat([states.gather(1, at_B11), hidden[:, most:]], dim=1),
            latent_inputs=inputs_BND * is_latent_BN[:, :, None],
            latent_states=states[:, 1:],
            prefix_state=bot_B1D[:, 0],
            num_latents_B=batch.num_latents,
            num_passes_B=torch.full_like(batch.num_latents, latents.iterations + 1),
            passes=passes,
            columns=self.columns(ids.shape[1], most),
        )

    def columns(self, first: int | Tensor, count: int) -> Tensor:
        """Return so many columns from the first one on, for every row: (B, count)."""
        prefix = self.batch.prefix
        number = torch.arange(count, device=prefix.device)
        return (number + first).expand(len(prefix), -1)

    def starts(self, start: int) -> Tensor:
        """Return the start token for every latent position: (B, N)."""
        shape = self.batch.prefix.shape[0], self.batch.max_latents
        return torch.full(shape, start, device=self.batch.prefix.device)

    def side_by_side(self, start: int | None, suffix: Tensor) -> Tensor:
        """Return the ids of question, start tokens and language without pads between them."""
        batch = self.batch
        num_prefix = batch.prefix.shape[1]
        if start is None:
            num_latents, middle = torch.zeros_like(batch.num_latents), batch.prefix[:, :0]
        else:
            num_latents, middle = batch.num_latents, self.starts(start)
        all_ids = torch.cat([batch.prefix, middle, suffix], dim=1)
        column = torch.arange(all_ids.shape[1], device=all_ids.device)
        prefix_end = batch.prefix_lengths[:, None]
        latents_end = prefix_end + num_latents[:, None]
        source = torch.where(column < prefix_end, column, column - prefix_end + num_prefix)
        behind = column - latents_end + num_prefix + middle.shape[1]
        source = torch.where(column < latents_end, source, behind)
        return all_ids.gather(1, source.clamp(max=all_ids.shape[1] - 1))


def _is_real(ids: Tensor, lengths: Tensor) -> Tensor:
    """Mark the positions before each row's length: (B, C), bool."""
    return torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
