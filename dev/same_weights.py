"""Do two checkouts train the same weights, bit for bit?

    python dev/same_weights.py ../other-checkout [--only coconut icot]

Trains every row of the paper's table, and what goes beyond it (the stop classifier, mixed stages,
micro-batches, less memory), for some updates in each checkout: the same recipe, the same seed, one
thread, float32, transformers' own choice of attention. Prints a line a run: the hash of the weights
on either side, and whether they are equal. Bits may be compared only on one machine, so both sides
are trained here.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
METHODS = (
    "cot", "no-cot", "icot", "pause", "coconut", "coconut-no-curriculum", "coconut-no-thought",
    "coconut-pause-as-thought", "pause-multipass",
)  # fmt: skip
EXTRAS = {
    "coconut, mixed stages": ["method=coconut", "curriculum.stage_mix_prob=0.3"],
    "coconut, own lengths": ["method=coconut", "curriculum.pad_to_num_stages=false"],
    "coconut, micro-batches": ["method=coconut", "training.micro_batch_size=3"],
    "coconut, save_memory": ["method=coconut", "training.save_memory=true"],
    "coconut, Llama": ["method=coconut", "model.architecture=llama"],
    "coconut, stop classifier": [
        "method=coconut", "curriculum.pad_to_num_stages=false", "stop=classifier",
    ],
    "pause-multipass, epochs": ["method=pause-multipass", "curriculum.advance=epochs"],
}  # fmt: skip
CHANGES = [
    "model.num_layers=2", "model.hidden_size=32", "model.num_heads=2", "model.num_positions=96",
    "model.dropout=0.1",
    "curriculum.num_stages=3", "curriculum.max_updates_per_stage=12", "curriculum.learned_window=5",
    "curriculum.learned_below=0.001", "curriculum.tokens_per_epoch=4", "training.max_updates=60",
    "training.batch_size=8", "training.validate_every=20", "generation.max_new_tokens=24",
    "seed=3",
]  # fmt: skip


ALIKE = """
import transformers
from latentcot.cli import main
made = transformers.AutoModelForCausalLM.from_config
transformers.AutoModelForCausalLM.from_config = (
    lambda config, attn_implementation=None, **others: made(config, **others)
)
main()
"""
"""Runs latentcot with transformers' own choice of attention: up to 86fc576, models from scratch
took plain products on a CPU, whose last bits are others."""


def run(checkout: Path, *words: str) -> None:
    """Run latentcot as it stands in a checkout, on one thread."""
    env = os.environ | {"PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ALIKE, *words], env=env, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{checkout}: latentcot {' '.join(words)}\n{done.stderr[-2000:]}")


def weights_of(checkout: Path, folder: Path, changes: list[str]) -> str:
    """Train, and return a hash of everything learned: the model, and modules beside it."""
    options = [part for change in [*CHANGES, *changes] for part in ("--set", change)]
    run(checkout, "train", "quickstart", "--out", str(folder), "--quiet", *options)
    newest = max((folder / "checkpoints").glob("update-*"))
    from safetensors.torch import load_file

    digest = hashlib.sha256()
    for file in sorted(newest.glob("*.safetensors")):
        for _, tensor in sorted(load_file(file).items()):
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def main() -> None:
    """Train all of them on both sides; exit with 1 if any differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path)
    parser.add_argument("--only", nargs="*")
    given = parser.parse_args()
    cases = {name: [f"method={name}"] for name in METHODS} | EXTRAS
    cases = {name: case for name, case in cases.items() if not given.only or name in given.only}
    num_different = 0
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        run(given.other, "data", "make", "prosqa", "--out", str(data), "--preset", "two-family",
            "--layers", "3", "--shared", "0", "--shallower", "0.5", "--seed", "5",
            "--train", "400", "--valid", "16", "--test", "16")  # fmt: skip
        files = [f"data.{split}={data / split}.jsonl" for split in ("train", "valid", "test")]
        for number, (name, changes) in enumerate(cases.items()):
            hashes = [
                weights_of(side.resolve(), Path(scratch) / f"{number}-{label}", [*files, *changes])
                for label, side in (("other", given.other), ("here", HERE))
            ]
            num_different += hashes[0] != hashes[1]
            verdict = "same" if hashes[0] == hashes[1] else "DIFFERENT"
            print(f"{verdict:9} {hashes[0]} {hashes[1]}  {name}", flush=True)
    print(f"{len(cases) - num_different} of {len(cases)} the same")
    sys.exit(num_different > 0)


if __name__ == "__main__":
    main()
