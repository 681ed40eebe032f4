"""How a model reads on: pass after pass of new columns, over one cache that only grows.

Rows are padded on the right: in the first pass no real column can see a pad, so it needs no mask;
in the later, short passes the pads are masked. There are three ways to read, and `capability.py`
finds out which of them a model takes:

- `fast`: a split cache, for the families that `models/backend/split_cache.py` knows;
- `plain`: transformers' own cache;
- `rows`: one row at a time without its pads and without a cache, everything computed again in each
  pass. Slow, and right for every causal model. The other two go over to it, whatever the model,
  where its windows would count pads or the length of one row would change what another gives.

Shapes: B batch, C columns of one pass, K columns so far, W columns that are read, D hidden size.
"""

from contextlib import ExitStack
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedModel

from latentcot.errors import TrainingError, UsageError
from latentcot.models.backend.activation_checkpointing import checkpointed
from latentcot.models.backend.few_rows import few_rows_in_parts
from latentcot.models.backend.last_layer import pruned_to
from latentcot.models.backend.split_cache import (
    FAMILIES,
    Part,
    additive,
    attends_over_split_cache,
    blocks_of,
    split_cache,
    takes_split_cache,
)
from latentcot.models.loading import width_of
from latentcot.models.ways import (
    backbone_of,
    cache_name,
    forget_lengths,
    is_way_known,
    lock_of,
    rope_switch_of,
    way_of,
    window_of,
)


class Passes:
    """The columns that a model has read so far, and the way to let it read more of them.

    Raises:
        TrainingError: transformers' gradient checkpointing is on.
        UsageError: Nobody has called `choose_way` for a model that needs it.

    Attributes:
        cache: Keys and values of every column, pads included.
        is_real_BK: Which of those columns are real.
        lengths_B: How many real columns each row has; the position of its next one.
        num_passes: Calls of the backbone so far.
        again_BKD: Where rows are read one by one, what the newest pass gave at every column.
        layers_BD: Where `read` was told to look, what each block read there, one (B, D) a block.
    """

    def __init__(
        self, model: PreTrainedModel, batch_size: int, *, saves_memory: bool = False
    ) -> None:
        self.backbone = backbone_of(model)
        self.lock = lock_of(self.backbone)
        self.blocks = blocks_of(self.backbone)
        is_checkpointed = any(getattr(one, "gradient_checkpointing", False) for one in self.blocks)
        if model.training and is_checkpointed:
            raise TrainingError(
                f"{type(model).__name__}: gradient checkpointing is on. transformers then drops "
                "the cache, in which the thoughts find the question, and the loss would be wrong. "
                "Turn it off, and save memory with training.save_memory: true."
            )
        self.saves_memory = saves_memory
        self.has_split_cache = takes_split_cache(model)
        if model.config.model_type not in FAMILIES and not is_way_known(model):
            raise UsageError(
                f"{type(model).__name__}: nobody has looked how it reads batches, and its thoughts "
                "could be wrong. Call latentcot.choose_way(model) once, with weights in float32."
            )
        self.reads_rows = way_of(model) == "rows"
        self.cache_name = cache_name(self.backbone)
        self.cache: Cache | None = None
        self.window: int | None = None
        self.switch: int | None = None
        if self.has_split_cache:  # no such model has a window or a switch
            self.cache = split_cache(len(self.blocks))
        else:
            self.window, self.switch = window_of(model), rope_switch_of(model)
            self.cache = None if self.reads_rows else DynamicCache(config=model.config)
        # What rows are read from; not kept where the cache is right whatever comes.
        self.embeds: Tensor | None = None
        if self.reads_rows or self.window is not None or self.switch is not None:
            width = width_of(model)
            self.embeds = torch.zeros(batch_size, 0, width, dtype=model.dtype, device=model.device)
        self.is_real_BK = torch.ones(batch_size, 0, dtype=torch.bool, device=model.device)
        self.lengths_B = torch.zeros(batch_size, dtype=torch.long, device=model.device)
        self.num_passes = 0
        self.again_BKD: Tensor | None = None
        self.layers_BD: list[Tensor] = []

    def read(
        self,
        embeds_BCD: Tensor,
        is_real_BC: Tensor,
        wanted_BW: Tensor | None = None,
        layers_at_B: Tensor | None = None,
    ) -> Tensor:
        """Read C more columns in one pass.

        Args:
            embeds_BCD: What they are.
            is_real_BC: Which of them are.
            wanted_BW: The columns of this pass whose states are read; all of them if left out.
            layers_at_B: The column of this pass at which the input of every block is kept.

        Returns:
            Last hidden states, (B, C, D), or (B, W, D) of the wanted columns.
        """
        is_first = self.num_passes == 0
        self.is_real_BK = torch.cat([self.is_real_BK, is_real_BC], dim=1)
        # A column that is not real repeats its neighbour's position: always one the model has.
        positions_BC = (self.lengths_B[:, None] + is_real_BC.cumsum(1) - 1).clamp(min=0)
        self.lengths_B = self.lengths_B + is_real_BC.sum(1)
        self.num_passes += 1
        if self.embeds is not None:
            self.embeds = torch.cat([self.embeds, embeds_BCD], dim=1)
        num_columns = self.is_real_BK.shape[1]
        is_beyond = self.switch is not None and num_columns > self.switch
        if self.window is not None and num_columns > self.window:  # pads would stand in it
            is_beyond = is_beyond or not bool(self.is_real_BK.all())
        if self.reads_rows or is_beyond:
            self.reads_rows, self.cache = True, None
            rows_BCD = self._read_rows(embeds_BCD.shape[1], layers_at_B)
            return rows_BCD if wanted_BW is None else _at(rows_BCD, wanted_BW)
        assert self.cache is not None
        # Only the first pass has positions that nobody reads, and only a split cache can skip them.
        is_less = wanted_BW is not None and wanted_BW.shape[1] < embeds_BCD.shape[1]
        is_pruned = is_less and is_first and self.has_split_cache
        with ExitStack() as way:
            way.enter_context(self.lock)
            way.enter_context(few_rows_in_parts(self.backbone, is_real_BC.numel()))
            if layers_at_B is not None:
                self.layers_BD = self._keep_layers(way, layers_at_B)
            if self.has_split_cache:
                way.enter_context(attends_over_split_cache(self.backbone.config))
                mask_B1CK = None if is_first else self._mask(embeds_BCD.shape[1])
                layers: list[Any] = self.cache.layers
                for layer in layers:
                    layer.mask_B1CK = mask_B1CK
            if is_pruned and wanted_BW is not None:
                way.enter_context(pruned_to(self.blocks[-1], wanted_BW))
            if self.saves_memory:
                way.enter_context(checkpointed(self.blocks, self.backbone.config, self.cache))
            hidden_BCD: Tensor = self.backbone(
                inputs_embeds=embeds_BCD,
                attention_mask=None if is_first or self.has_split_cache else self.is_real_BK,
                position_ids=positions_BC,
                **{self.cache_name: self.cache},
                use_cache=True,
            ).last_hidden_state
        if wanted_BW is None:
            return hidden_BCD
        if is_pruned:
            return hidden_BCD[:, : wanted_BW.shape[1]]
        return _at(hidden_BCD, wanted_BW)

    def _read_rows(self, num_new: int, layers_at_B: Tensor | None) -> Tensor:
        """Read all columns again, each row alone; return states of the newest, (B, C, D)."""
        assert self.embeds is not None
        states, layers = [], list[list[Tensor]]()
        first = self.is_real_BK.shape[1] - num_new
        for row, (embeds_KD, is_real_K) in enumerate(
            zip(self.embeds, self.is_real_BK, strict=True)
        ):
            at = is_real_K.nonzero()[:, 0]
            with ExitStack() as way:
                way.enter_context(self.lock)
                if layers_at_B is not None:
                    column = first + layers_at_B[row]
                    kept = self._keep_layers(way, (at < column).sum()[None])
                    layers.append(kept)
                forget_lengths(self.backbone)
                hidden_KD: Tensor = self.backbone(
                    inputs_embeds=embeds_KD[at][None], use_cache=False
                ).last_hidden_state[0]
            nothing = hidden_KD.new_zeros(len(is_real_K), hidden_KD.shape[-1])
            states.append(nothing.index_copy(0, at, hidden_KD))
        if layers_at_B is not None:
            self.layers_BD = [torch.cat(block) for block in zip(*layers, strict=True)]
        self.again_BKD = torch.stack(states)
        return self.again_BKD[:, first:]

    def last_before(self, num_newest: int) -> Tensor | None:
        """Return each row's state just before so many newest columns, where it was read again.

        Where the length of a row changes all of its states, this is the one that goes with theirs.
        """
        if self.again_BKD is None:
            return None
        is_before_BK = self.is_real_BK[:, : self.is_real_BK.shape[1] - num_newest]
        column = torch.arange(is_before_BK.shape[1], device=is_before_BK.device)
        return _at(self.again_BKD, (is_before_BK * column).argmax(1)[:, None])[:, 0]

    def _keep_layers(self, way: ExitStack, at_B: Tensor) -> list[Tensor]:
        """Keep what each block reads at one column of each row, and nothing else of it."""
        kept: list[Tensor] = []

        def keep(block: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            hidden_BCD: Tensor = inputs[0] if inputs else named["hidden_states"]
            kept.append(_at(hidden_BCD, at_B[:, None])[:, 0])

        for block in self.blocks:
            way.callback(block.register_forward_pre_hook(keep, with_kwargs=True).remove)
        return kept

    def cached(self, columns_BN: Tensor) -> list[Part]:
        """Return the keys and values that each block keeps of some columns, with their gradients.

        Args:
            columns_BN: Columns of each row.

        Returns:
            (B, heads of keys, N, E) each, as they are cached: behind rotary positions.

        Raises:
            TrainingError: The model is read in a way that keeps none, or not those of every column.
        """
        if self.cache is None or self.window is not None:
            raise TrainingError(
                f"{type(self.backbone).__name__}: keys and values of latent positions are asked "
                "for, and this model keeps none that could be read (it has sliding windows, or is "
                "read row by row). Use a model with plain causal attention, such as "
                f"{', '.join(FAMILIES)}, or a method that needs none."
            )
        layers: list[Any] = self.cache.layers
        parts = []
        for layer in layers:
            both = layer.whole() if self.has_split_cache else (layer.keys, layer.values)
            at = columns_BN[:, None, :, None]
            keys, values = (
                one.gather(2, at.expand(-1, one.shape[1], -1, one.shape[3])) for one in both
            )
            parts.append((keys, values))
        return parts

    def rewind(self, is_real_BK: Tensor) -> None:
        """Forget the newest columns, so that the next ones stand in their place.

        Args:
            is_real_BK: Which of the columns that stay are real: those of the first pass, of which
                some rows may lose more than others. What was read behind them is dropped.
        """
        num_kept = is_real_BK.shape[1]
        num_dropped = self.is_real_BK.shape[1] - num_kept
        if self.window is not None:  # its oldest columns may be gone
            self.reads_rows, self.cache = True, None
        if self.embeds is not None:
            self.embeds = self.embeds[:, :num_kept]
        if num_dropped and self.cache is not None:
            self.cache.crop(-num_dropped)
        self.is_real_BK, self.lengths_B = is_real_BK, is_real_BK.sum(1)

    def _mask(self, num_columns: int) -> Tensor:
        """Let each of the newest columns see the real columns up to itself: (B, 1, C, K)."""
        num_all = self.is_real_BK.shape[1]
        column = torch.arange(num_all, device=self.is_real_BK.device)
        is_before_CK = column <= column[num_all - num_columns :, None]
        return additive(is_before_CK & self.is_real_BK[:, None, None])

    def copied(self) -> "Passes":
        """Return a copy that reads on by itself.

        Tensors of a cache are replaced and never written into, so that it can share them.
        """
        other = copy(self)
        if self.cache is not None:
            other.cache = copy(self.cache)
            other.cache.layers = [copy(layer) for layer in self.cache.layers]
        return other

    def keep_rows(self, rows: Tensor) -> None:
        """Drop all rows but these, so that finished ones cost nothing."""
        if self.cache is not None:
            self.cache.batch_select_indices(rows)
        if self.embeds is not None:
            self.embeds = self.embeds[rows]
        self.is_real_BK = self.is_real_BK[rows]
        self.lengths_B = self.lengths_B[rows]


def _at(hidden_BCD: Tensor, wanted_BW: Tensor) -> Tensor:
    """Return the states at some columns of each row: (B, W, D)."""
    return hidden_BCD.gather(1, wanted_BW[:, :, None].expand(-1, -1, hidden_BCD.shape[-1]))
