"""Files of runs that nobody has trained, as far as copies of runs look at them."""

import json

from latentcot.runs.checkpoint_folders import write_checksums


def write(path, text="x"):
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def add_checkpoint(run, update):
    """Write a checkpoint of three files, whole or not at all, and the rows before it."""
    folder = run / "checkpoints" / f"update-{update:08d}"
    beside = folder.with_name(f".{folder.name}.partial")
    for name in ("latentcot.json", "model.safetensors", "training_state.pt"):
        write(beside / name, f"{name} {update}")
    write_checksums(beside)
    beside.rename(folder)
    write(run / "checkpoints" / "best.json", json.dumps({"checkpoint": folder.name}))
    rows = ({"kind": "train", "update": number + 1, "stage": 0} for number in range(update))
    write(run / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write(run / ".lock")
