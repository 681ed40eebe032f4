"""What tests of resumed, streamed and fed runs share."""

import json
from collections.abc import Sequence

from latentcot.methods import method_named
from latentcot.runs.checkpoint_folders import checkpoint_folders
from latentcot.runs.folder import read_metrics
from latentcot.thinking.batch import collate_views
from latentcot.training.loader import UpdateBatch
from latentcot.training.objective import Counts
from latentcot.training.step import Part

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


def rows_of(run, kind):
    """Rows of one kind."""
    return [row for row in read_metrics(run) if row["kind"] == kind]


def results_of(run, files=("model.safetensors",)):
    """Return the newest checkpoint's name and files, the best one, all rows but their rates."""
    [*_, newest] = checkpoint_folders(run)
    rows = [{k: v for k, v in row.items() if "per_second" not in k} for row in read_metrics(run)]
    best = json.loads((run / "checkpoints" / "best.json").read_text())
    return newest.name, [(newest / name).read_bytes() for name in files], best, rows


def part_of(update: Sequence) -> Part:
    """All of an update at once, as of one process."""
    return Part([collate_views(update)], Counts(method_named("coconut"), update))


def as_values(update_batch: UpdateBatch) -> tuple:
    """A batch as plain values."""
    batches = [
        (*(tensor.tolist() for tensor in batches.tensors), batches.max_latents)
        for batches in update_batch.part.micro_batches
    ]
    ids = [example.id for example in update_batch.examples]
    return ids, update_batch.stages, batches, update_batch.part.counts.counts
