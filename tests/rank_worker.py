"""What test_ranks.py runs in several processes: `torchrun rank_worker.py JOB FOLDER`."""

import os
import random
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from latentcot.curriculum.layout import NO_LABEL, Layout
from latentcot.methods.stopping import StopHead
from latentcot.models.lora import Adapters, add_adapters
from latentcot.models.settings import Lora
from latentcot.recipes.recipe import Training
from latentcot.training.sharding import local, whole
from losses import LayoutStep
from losses import train_step_of as layout_step_of
from reference import VOCAB_SIZE, tiny_model

WAYS = {"ddp": (False, "false"), "fsdp2": (True, "false"), "fsdp2, freeing": (True, "true")}
"""Name → (shards, FSDP_RESHARD_AFTER_FORWARD)."""
TRAININGS = {
    "whole": Training(learning_rate=1e-2, max_grad_norm=0.5),
    "micro": Training(learning_rate=1e-2, batch_size=8, micro_batch_size=3, save_memory=True),
}
MODELS = ("gpt2", "llama", "llama with adapters")
CASES = [
    (model, way, training) for model in MODELS for way in WAYS for training in ("whole", "micro")
]
QUICK = ("gpt2", "ddp", "micro")
NUM_UPDATES = 10


class Watched(LayoutStep):
    """Keeps the gradients of its first update."""

    gradients: dict[str, torch.Tensor] | None = None

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._adamw.register_step_pre_hook(self._watch)

    def _watch(self, *_: Any) -> None:
        if self.gradients is None:
            named = self.objective.named_parameters()
            self.gradients = whole({name: p.grad for name, p in named if p.requires_grad})


def ragged(count: int, seed: int, most: int = 3) -> list[Layout]:
    """Return layouts of any lengths, with 0 to `most` latent positions, some without a word to
    learn."""
    rng = random.Random(seed)

    def words(least: int, most: int) -> tuple[int, ...]:
        return tuple(rng.randrange(VOCAB_SIZE) for _ in range(rng.randint(least, most)))

    def layout() -> Layout:
        opening, language = words(0, 2), words(0, 5)
        labels = (NO_LABEL,) * len(opening) + language
        latents = rng.randint(0, most)
        return Layout(
            words(1, 9), latents, opening + language, labels, stop_after=rng.randint(1, 3)
        )

    return [layout() for _ in range(count)]


def update_batches(seed: int = 0) -> Iterator[list[Layout]]:
    """Yield the updates of a training; the first always has a word to learn."""
    for number in range(NUM_UPDATES):
        layouts = ragged(8, seed + number)
        suffix = (1, 2, 3)
        yield [replace(layouts[0], suffix=suffix, labels=suffix), *layouts[1:]]


def train_step_of(model: str, training: str, *, shards: bool = False) -> Watched:
    """Return a train step of a tiny model in float64, with a stop classifier."""
    made: Any = tiny_model(model.split()[0])
    if "adapters" in model:
        add_adapters(made, Adapters("base", "", Lora(rank=2)), special_tokens=[1, 2])
        for name, weight in made.named_parameters():
            if "lora_B" in name:  # zero at first, so that nothing would depend on A
                torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(0))
    head = StopHead(made.config.hidden_size).double()
    return layout_step_of(made, TRAININGS[training], stop_head=head, kind=Watched, shards=shards)


def learned(train_step: Watched) -> dict[str, Any]:
    """Make ten updates; return losses, the first gradients, and what was learned."""
    losses = [train_step.learn(layouts, 1e-2)["loss"] for layouts in update_batches()]
    snapshot = train_step.snapshot()
    return {
        "losses": losses,
        "gradients": train_step.gradients,
        "weights": snapshot.weights,
        "optimizer": snapshot.optimizer["state"],
        "is_finite": train_step.has_finite_weights(),
        "num_held": sum(local(weight).numel() for weight in train_step.objective.parameters()),
    }


def equality(folder: Path, cases: Sequence[tuple[str, str, str]] = CASES) -> None:
    """Learn in every way; the main process writes down what came of it."""
    for model, way, training in cases:
        shards, os.environ["FSDP_RESHARD_AFTER_FORWARD"] = WAYS[way]
        train_step = train_step_of(model, training, shards=shards)
        result = learned(train_step)
        if train_step.accelerator.is_main_process:
            torch.save(result, folder / f"{model} {way} {training}.pt")


def passes(folder: Path, num_updates: int = 200) -> None:
    """Learn from random ragged batches under FSDP2, each block gathered again for each pass."""
    os.environ["FSDP_RESHARD_AFTER_FORWARD"] = "true"
    train_step = train_step_of("gpt2", "whole", shards=True)
    rank = train_step.accelerator.process_index
    differing = 0
    for seed in range(num_updates):
        layouts = ragged(2 * random.Random(seed).randint(1, 4), 1000 + seed, most=seed % 5)
        own = [max(layout.num_latents for layout in layouts[i::2]) for i in range(2)]
        differing += own[0] != own[1]
        train_step.learn(layouts, 1e-3)
        with train_step.answering() as model, torch.no_grad():
            if seed % 20 == 0:  # ranks answer as many questions as they like meanwhile
                for _ in range(1 + rank):
                    model(input_ids=torch.tensor([[1, 2, 3]]))
    if rank == 0:
        (folder / "passes.txt").write_text(f"{num_updates} {differing}")


def disagreeing(folder: Path) -> None:
    """The same, were each rank to make the passes of its own rows alone."""
    from latentcot.training import step as module

    collate_views = module.collate_views
    module.collate_views = lambda mine, **settings: collate_views(  # type: ignore[attr-defined]
        mine, **{**settings, "whole": mine}
    )
    passes(folder)


if __name__ == "__main__":
    jobs = {
        "equality": equality,
        "quick": lambda folder: equality(folder, [QUICK]),
        "passes": passes,
        "disagreeing": disagreeing,
    }
    signal.alarm(int(sys.argv[3]))  # ranks that wait for each other outlive their launcher
    jobs[sys.argv[1]](Path(sys.argv[2]))
    torch.distributed.destroy_process_group()
