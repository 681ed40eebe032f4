"""What tests of resumed, streamed and fed runs share."""

import json
from collections.abc import Sequence

from latentcot.curriculum.layout import NO_LABEL
from latentcot.runs.checkpoint_folders import checkpoint_folders
from latentcot.runs.folder import read_metrics
from latentcot.thinking.batch import collate
from latentcot.training.loader import UpdateBatch
from latentcot.training.step import Shard

# Everything that is drawn: the order of the data, stages, dropout. No interval divides another.
RANDOM = {
    "model": {"dropout": 0.2},
    "curriculum": {"stage_mix_prob": 0.3},
    "training": {
        "max_updates": 14,
        "validate_every": 3,
        "save_every": 5,
        "warmup_updates": 2,
        "decay_share": 0.5,
        "max_grad_norm": 1.0,
    },
}


def results_of(run):
    """Return weights, best checkpoint and all rows but their rates."""
    [*_, newest] = checkpoint_folders(run)
    rows = [{k: v for k, v in row.items() if "per_second" not in k} for row in read_metrics(run)]
    best = json.loads((run / "checkpoints" / "best.json").read_text())
    return (newest.name, (newest / "model.safetensors").read_bytes(), best, rows)


def shard_of(layouts: Sequence) -> Shard:
    """All of an update at once, as of one process."""
    labels = sum(label != NO_LABEL for layout in layouts for label in layout.labels)
    return Shard([collate(layouts)], labels, sum(layout.num_latents for layout in layouts))


def as_values(update_batch: UpdateBatch) -> tuple:
    """A lesson as plain values."""
    batches = [
        (*(tensor.tolist() for tensor in batch.tensors), batch.max_latents)
        for batch in update_batch.share.micro_batches
    ]
    ids = [example.id for example in update_batch.examples]
    return (
        ids,
        update_batch.stages,
        batches,
        update_batch.share.num_labels,
        update_batch.share.num_latents,
    )
