"""What the generators of all tasks have in common: splits that share no example.

Small splits are made first, each from its own stream of random numbers, so that a larger training
split leaves validation and test as they are.
"""

from collections.abc import Callable, Hashable, Mapping
from random import Random
from typing import TypeVar

from latentcot.data.examples import Example

MAX_CLASHES = 1_000
"""Draws in a row that all exist already before a generator gives up."""

PROGRESS_BLOCK = 100
"""Examples between two calls of `on_progress`: a progress bar moved for each takes longer."""

Drawn = TypeVar("Drawn")


def fill_splits(
    task: str,
    sizes: Mapping[str, int],
    seed: int,
    draw: Callable[[Random, str, int], Example],
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, list[Example]]:
    """Make the examples of every split.

    Args:
        task: Its name; with seed and split it tells the stream of random numbers.
        sizes: Number of examples of each split.
        seed: Same seed, same examples.
        draw: (stream, split, number) → example number 0, 1, … of a split.
        on_progress: Called now and then with the number of examples made since the last call.
    """
    splits: dict[str, list[Example]] = {split: [] for split in sizes}
    for split in sorted(sizes, key=lambda name: (sizes[name], name)):
        rng = Random(f"{task}/{seed}/{split}")
        for number in range(sizes[split]):
            splits[split].append(draw(rng, split, number))
            if on_progress is not None and (number + 1) % PROGRESS_BLOCK == 0:
                on_progress(PROGRESS_BLOCK)
        if on_progress is not None:
            on_progress(sizes[split] % PROGRESS_BLOCK)
    return splits


def draw_new(
    draw: Callable[[], Drawn], key: Callable[[Drawn], Hashable], taken: set[Hashable]
) -> Drawn | None:
    """Draw until something is not in `taken` yet, and put it there; None after `MAX_CLASHES`."""
    for _ in range(MAX_CLASHES):
        drawn = draw()
        identity = key(drawn)
        if identity not in taken:
            taken.add(identity)
            return drawn
    return None
