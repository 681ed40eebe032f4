"""Thoughts that differ from roll-out to roll-out: noise, or a dropout mask, on the latent inputs.

A roll-out of continuous thoughts is deterministic; several that differ are made by changing what is
fed into the latent positions. Writing x_i for the latent input of position i, as `think` has it,

    noise     x_i + σ · s(x_i) · ε_i      ε_i ~ N(0, 1) for each entry, drawn for each position
    dropout   x_i ⊙ m ÷ (1 − p)           m ~ Bernoulli(1 − p) for each entry, drawn once a roll-out

where s(x_i) is the standard deviation of the D entries of x_i, so that one σ means the same for
every method. arXiv 2510.07745 adds σ · ε_i with σ 0.6 to 1.4 to latent inputs of any scale, and its
dropout (0.2) is that of all layers, drawn anew at every pass; one mask for each roll-out is the
choice of arXiv 2606.10184.

Where positions are filled all at once, some times, a position has the same ε_i in every iteration:
a roll-out stays one function, and T ≥ N gives what positions filled one after the other give.

Shapes: B batch, N latent positions, D hidden size.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latentcot.curriculum.views import Parallel, Sequential
from latentcot.errors import UsageError
from latentcot.thinking.think import Latent, Thinker
from latentcot.utils.parsing import shown

MOST_NOISE = 1e4


@dataclass(frozen=True, slots=True)
class Perturbation:
    """How the thoughts of each sample are changed: by noise or by dropout, not by both.

    Attributes:
        noise: σ, 0 to 10000, in standard deviations of the entries of each latent input.
        dropout: p, from 0 to below 1: the share of the entries that are set to zero.
        seed: Sample j of prompt i draws from a stream of its own, made of this seed, i and j.
    """

    noise: float | None = None
    dropout: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse both, neither, and values outside their ranges."""
        if (self.noise is None) == (self.dropout is None):
            given = "neither" if self.noise is None else f"{self.noise} and {self.dropout}"
            raise UsageError(f"noise and dropout: give one of the two, got {given}.")
        if self.noise is not None and not 0 <= self.noise <= MOST_NOISE:
            raise UsageError(f"noise: must be 0 … {MOST_NOISE:.0f}, got {shown(self.noise)}.")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise UsageError(f"dropout: must be 0 or more and below 1, got {shown(self.dropout)}.")

    def on(self, thinker: Thinker, rows: Sequence[str]) -> Thinker:
        """Return a thinker whose latent inputs are changed, for one batch.

        Args:
            thinker: Of latents that are filled.
            rows: The name of each row of the batch: equal names draw equal numbers.
        """
        latents = thinker.latents
        assert isinstance(latents, Sequential | Parallel), "nothing else has latent inputs"
        own, streams = latents.update, [generator_of("latents", self.seed, row) for row in rows]
        drawn_BD: list[Tensor] = []
        """Of the whole roll-out, or one a latent position: as many as have been asked for."""

        def numbers(size: int, place: int) -> Tensor:
            while len(drawn_BD) <= place:
                draw = torch.rand if self.noise is None else torch.randn
                drawn_BD.append(torch.stack([draw(size, generator=one) for one in streams]))
            return drawn_BD[place]

        def update(latent: Latent) -> Tensor:
            vector: Tensor = own(latent)  # (B, D), or (B, N, D) where all are filled at once
            size, is_one = vector.shape[-1], vector.dim() == 2
            if self.noise is None:
                share = self.dropout or 0.0
                kept = (numbers(size, 0) >= share).to(vector) / (1 - share)
                return vector * (kept if is_one else kept[:, None])
            if is_one:
                noise = numbers(size, latent.number)
            else:
                noise = torch.stack([numbers(size, i) for i in range(vector.shape[1])], dim=1)
            wide = torch.promote_types(vector.dtype, torch.float32)
            spread = vector.to(wide).std(-1, correction=0, keepdim=True)
            return vector + (self.noise * spread * noise.to(spread)).to(vector)

        return replace(thinker, latents=replace(latents, update=update))


def generator_of(*parts: object) -> torch.Generator:
    """Return random numbers of their own for what is named, the same whatever stands beside it."""
    seed = random.Random("/".join(map(str, parts))).getrandbits(63)
    return torch.Generator().manual_seed(seed)
