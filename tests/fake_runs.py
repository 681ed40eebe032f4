"""Files of runs that nobody has trained, as far as copies of runs look at them; what runs gave."""

import json

from latentcot.runs.checkpoint_folders import checkpoint_folders, write_checksums
from latentcot.runs.folder import read_metrics


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


def assert_same_as_in_one_go(run, recipe, unbroken, latentcot):
    """Train and evaluate the recipe at once elsewhere: rows, weights and answers are the same."""
    from latentcot import read_recipe, train  # not above: fake trainings start without torch

    assert train(read_recipe(recipe), unbroken, is_quiet=True)
    assert latentcot("eval", unbroken, "--quiet").code == 0
    for outcome_of in (_rows_of, _weights_of, _answers_of):
        assert outcome_of(run) == outcome_of(unbroken)


def _rows_of(run):
    return [{k: v for k, v in row.items() if "per_second" not in k} for row in read_metrics(run)]


def _weights_of(run):
    return (checkpoint_folders(run)[-1] / "model.safetensors").read_bytes()


def _answers_of(run):
    result = json.loads((run / "evals" / "test.json").read_text())
    records = [{k: v for k, v in one.items() if "seconds" not in k} for one in result["records"]]
    return result["accuracy"], result["checkpoint"]["update"], records
