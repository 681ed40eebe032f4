"""`think` for a batch."""

from transformers import PreTrainedModel

from latentcot.thinking.batch import Batch
from latentcot.thinking.think import Feed, Rollout, Stop, think


def roll_out(
    model: PreTrainedModel,
    batch: Batch,
    *,
    feed: Feed | None,
    stop: Stop | None = None,
    saves_memory: bool = False,
) -> Rollout:
    """Let a model read a batch and think about it, see `think`."""
    return think(
        model,
        batch.prefix,
        batch.prefix_lengths,
        batch.num_latents,
        batch.suffix,
        batch.suffix_lengths,
        feed=feed,
        stop=stop,
        max_latents=batch.max_latents,
        saves_memory=saves_memory,
    )
