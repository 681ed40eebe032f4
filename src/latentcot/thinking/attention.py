"""What the words of a batch look at: keys, values and attention of every block.

The ways of `passes.py` keep no attention, and fused kernels never have it whole. So the batch is
read once more, in one plain pass by transformers' own eager attention, which gives all three for
every architecture that has them. Without gradient and without dropout: what is read here is a
target, the same whenever it is asked for.

Shapes: B batch, Q longest prefix, T longest suffix, E width of a head.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from latentcot.errors import TrainingError
from latentcot.models.backend.split_cache import additive, attends_by
from latentcot.models.ways import backbone_of, cache_name, lock_of, without_dropout
from latentcot.thinking.batch import Batch


@dataclass(frozen=True, slots=True)
class Attention:
    """What one block keeps of the suffix of each row, and what the suffix looks at there.

    Attributes:
        keys: (B, heads of keys, T, E), as they are cached: behind rotary positions.
        values: The same shape.
        weights: (B, heads, T, T). `weights[b, h, i, j]` is how much suffix token i looks at token
            j; what it looks at in the prefix makes up the rest of 1.
    """

    keys: Tensor
    values: Tensor
    weights: Tensor


@torch.no_grad()
def read_attention(model: PreTrainedModel, batch: Batch) -> list[Attention]:
    """Read the words of a batch, its latent positions left out; one `Attention` a block.

    Takes (B, heads, Q + T, Q + T) numbers a block, of all blocks at the same time. The model must
    keep the keys and values of every column: `Passes.cached` refuses others.

    Raises:
        TrainingError: Its positions are ALiBi's, which Bloom and Falcon compute from a mask that
            knows of no row's own view.
    """
    backbone = backbone_of(model)
    if model.config.model_type == "bloom" or getattr(model.config, "alibi", False):
        raise TrainingError(
            f"{type(model).__name__}: what it looks at cannot be read, since its positions (ALiBi) "
            "are computed from a mask of another form. Use another model, or a method that does "
            "not read attention, such as codi."
        )
    ids_BK = torch.cat([batch.prefix, batch.suffix], dim=1)
    first, column = batch.prefix.shape[1], torch.arange(ids_BK.shape[1], device=ids_BK.device)
    ends_B1 = torch.stack([batch.prefix_lengths, first + batch.suffix_lengths])[:, :, None]
    is_real_BK = (column < ends_B1[0]) | ((column >= first) & (column < ends_B1[1]))
    can_see_B1KK = (column <= column[:, None]) & is_real_BK[:, None, None]
    cache: Any = DynamicCache(config=model.config)
    with lock_of(backbone), attends_by(backbone.config, "eager"), without_dropout(backbone):
        read: Any = backbone(
            inputs_embeds=model.get_input_embeddings()(ids_BK),
            attention_mask=additive(can_see_B1KK),
            position_ids=is_real_BK.cumsum(1) - 1,
            **{cache_name(backbone): cache},
            use_cache=True,
            output_attentions=True,
        )
    return [
        Attention(layer.keys[:, :, first:], layer.values[:, :, first:], seen[..., first:, first:])
        for layer, seen in zip(cache.layers, read.attentions, strict=True)
    ]
