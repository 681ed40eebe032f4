"""How a model reads on: pass after pass of new columns, over one cache that only grows.

Rows are padded on the right: in the first pass no real column can see a pad, so it needs no mask;
in the later, short passes the pads are masked. Models of the families that
`models/backend/split_cache.py` knows read by a faster way that gives the same; any other goes
through transformers' own cache.

Shapes: B batch, C columns of one pass, K columns so far, W columns that are read, D hidden size.
"""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from latentcot.errors import DataError, TrainingError, UsageError
from latentcot.models.backend.activation_checkpointing import checkpointed
from latentcot.models.backend.last_layer import pruned_to
from latentcot.models.backend.split_cache import (
    additive,
    attends_over_split_cache,
    blocks_of,
    split_cache,
    takes_split_cache,
)


class Passes:
    """The columns that a model has read so far, and the way to let it read more of them.

    Attributes:
        cache: Keys and values of every column, pads included.
        is_real_BK: Which of those columns are real.
        lengths_B: How many real columns each row has; the position of its next one.
        num_passes: Calls of the backbone so far.
        layers_BD: Where `read` was told to look, what each block read there, one (B, D) a block.
    """

    def __init__(
        self, model: PreTrainedModel, batch_size: int, *, saves_memory: bool = False
    ) -> None:
        self.backbone = model.base_model
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
        self.is_eager = model.config._attn_implementation == "eager"
        num_blocks = len(self.blocks)
        self.cache = (
            split_cache(num_blocks) if self.has_split_cache else DynamicCache(config=model.config)
        )
        windows = [getattr(layer, "sliding_window", None) for layer in self.cache.layers]
        self.window: int | None = min((one for one in windows if one), default=None)
        self.is_real_BK = torch.ones(batch_size, 0, dtype=torch.bool, device=model.device)
        self.lengths_B = torch.zeros(batch_size, dtype=torch.long, device=model.device)
        self.num_passes = 0
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
        self._refuse_padded_window()
        self.num_passes += 1
        # Only the first pass has positions that nobody reads, and only a split cache can skip them.
        is_less = wanted_BW is not None and wanted_BW.shape[1] < embeds_BCD.shape[1]
        is_pruned = is_less and is_first and self.has_split_cache
        with ExitStack() as way:
            if layers_at_B is not None:
                self._keep_layers(way, layers_at_B)
            if self.has_split_cache:
                way.enter_context(attends_over_split_cache(self.backbone.config))
                is_plain = is_first and not self.is_eager
                mask_B1CK = None if is_plain else self._mask(embeds_BCD.shape[1])
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
                past_key_values=self.cache,
                use_cache=True,
            ).last_hidden_state
        if wanted_BW is None:
            return hidden_BCD
        if is_pruned:
            return hidden_BCD[:, : wanted_BW.shape[1]]
        return hidden_BCD.gather(1, wanted_BW[:, :, None].expand(-1, -1, hidden_BCD.shape[-1]))

    def _keep_layers(self, way: ExitStack, at_B: Tensor) -> None:
        """Keep what each block reads at one column of each row, and nothing else of it."""
        self.layers_BD = []

        def keep(block: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            hidden_BCD: Tensor = inputs[0] if inputs else named["hidden_states"]
            at_B11 = at_B[:, None, None].expand(-1, 1, hidden_BCD.shape[-1])
            self.layers_BD.append(hidden_BCD.gather(1, at_B11)[:, 0])

        for block in self.blocks:
            way.callback(block.register_forward_pre_hook(keep, with_kwargs=True).remove)

    def rewind(self, is_real_BK: Tensor) -> None:
        """Forget the newest columns, so that the next ones stand in their place.

        Args:
            is_real_BK: Which of the columns that stay are real: those of the first pass, of which
                some rows may lose more than others. What was read behind them is dropped.

        Raises:
            UsageError: The model has sliding windows, whose oldest columns may be gone.
        """
        if self.window is not None:
            raise UsageError(
                "latents that are refined in parallel need full attention, but this model has a "
                f"sliding window of {self.window}. Use another method, or another model."
            )
        num_dropped = self.is_real_BK.shape[1] - is_real_BK.shape[1]
        if num_dropped:
            self.cache.crop(-num_dropped)
        self.is_real_BK, self.lengths_B = is_real_BK, is_real_BK.sum(1)

    def _mask(self, num_columns: int) -> Tensor:
        """Let each of the newest columns see the real columns up to itself: (B, 1, C, K)."""
        num_all = self.is_real_BK.shape[1]
        column = torch.arange(num_all, device=self.is_real_BK.device)
        is_before_CK = column <= column[num_all - num_columns :, None]
        if num_all == num_columns:  # no real column has a pad before it
            return additive(is_before_CK)[None, None]
        return additive(is_before_CK & self.is_real_BK[:, None, None])

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
