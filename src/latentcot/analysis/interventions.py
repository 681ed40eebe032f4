"""Is it the thoughts? What is left of the answers when something else is fed into the latent
positions.

Every vector that is put in was recorded in an unchanged run, or is made from what the model would
have fed. Latents that are not named get what the model computes there, after what was put in
before; only a shuffle keeps all the recorded vectors, so that nothing but their order changes.
DEFINITIONS says what each intervention does. Later work than the paper asked for these controls:
thoughts 1…k replaced by noise, permuted, or transplanted from another question.

Randomness belongs to a question's id, the intervention and the seed; no batch changes it.

Shapes: B batch, Q questions, N most latent positions of any question, D hidden size.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from latentcot.analysis.shared import effects
from latentcot.analysis.shared.effects import Effect, Place, Ran
from latentcot.analysis.shared.latents import (
    Chains,
    compared,
    feed_of_latents,
    record,
    stream,
    unit_noise,
    with_latents,
)
from latentcot.analysis.shared.naming import answer_naming, has_graphs, key_of
from latentcot.analysis.shared.subject import NUM_LISTED, Progress, Subject, no_progress
from latentcot.thinking.think import Feed, Latent

SCHEMA_VERSION = 1
MAX_QUESTIONS = 1_000
"""Questions used at most, the first of the file: there are many interventions."""
MAX_ROUNDS = 100

DEFINITIONS = {
    "none": "the unchanged model",
    "zero": "a vector of zeros",
    "noise": "a Gaussian direction drawn for each latent position, as long as what it replaces",
    "mean": "the mean of thought i over the questions used, this one included",
    "shuffle": "the recorded thoughts of the same chain in another order, everywhere: thought i "
    "has changed places with another one; the first k, or all, are so permuted that none stays",
    "swap": "the recorded thought i of another question with as many thoughts and another answer; "
    "partners are drawn once, and each question is the partner of one at most",
    "token": "the embedding of the token that the output head finds most probable there",
    "replay": "all thoughts as recorded, in their places: must change no answer",
}
"""Intervention → what is put into a latent position."""
_EXCHANGES = (
    "mean",
    "shuffle",
    "swap",
)  # do nothing where all latent positions hold the same vector

Replace = Callable[[Tensor, Latent, Tensor], Tensor]
"""(numbers of the questions (B,), latent position, what the model would feed (B, D)) → what is
fed instead."""


def measure(
    subject: Subject, against: Subject | None = None, on_progress: Progress = no_progress
) -> dict[str, Any]:
    """Replace thoughts one at a time, from the first on, and all at once; count what is left.

    Args:
        subject: With latent positions.
        against: Another model with latent positions that is asked the same questions, such as the
            pause control; without latent positions it is left out, and the result says so.
        on_progress: Called with the number of questions answered since the last call.

    Raises:
        UsageError: The subject has no latent positions, or the two are not asked the same.
    """
    found = compared(
        subject,
        against,
        lambda one: _run(one, on_progress),
        effects.summary,
        effects.comparison,
    )
    return {"schema_version": SCHEMA_VERSION, "definitions": DEFINITIONS, **found}


def _run(subject: Subject, on_progress: Progress) -> Ran:
    num_given = len(subject.examples)
    lab = Lab(with_latents(subject).first(MAX_QUESTIONS))
    return Ran(
        subject=lab.subject,
        num_given=num_given,
        most=lab.chains.most,
        unchanged=lab.answer("none", Place(), on_progress),
        replay=lab.answer("replay", Place(), on_progress),
        effects=[
            effect
            for name, place in lab.planned()
            if (effect := lab.answer(name, place, on_progress)).outputs
        ],
        left_out=_EXCHANGES if lab.chains.is_constant else (),
        others=lab.others,
        num_shown=NUM_LISTED,
    )


@dataclass(frozen=True)
class Lab:
    """A subject of `with_latents`, and what may be put into its latent positions.

    Attributes:
        subject: What is changed.
        seed: Of everything that is drawn.
    """

    subject: Subject
    seed: int = 0

    @cached_property
    def chains(self) -> Chains:
        """What stands in the latent positions of an unchanged run."""
        return record(self.subject)

    @cached_property
    def partners(self) -> list[int | None]:
        """The other question whose thoughts each question gets in a swap."""
        keys = [key_of(self.subject, q) for q in range(len(self.subject.examples))]
        ids = [example.id for example in self.subject.examples]
        return draw_partners(ids, self.chains.num_latents, keys, self.seed)

    @cached_property
    def others(self) -> list[str | None]:
        """The answer that a swap would bring if it carried the other question's answer over.

        None where there is no partner, or its answer has no name in this question's graph.
        """
        return [self._other(q, partner) for q, partner in enumerate(self.partners)]

    def _other(self, question: int, partner: int | None) -> str | None:
        if partner is None or not has_graphs(self.subject):
            return None if partner is None else self.subject.examples[partner].answer
        name = key_of(self.subject, partner)
        is_here = name in self.subject.graphs[question].names
        return answer_naming(self.subject, question, name) if is_here else None

    def planned(self) -> Iterator[tuple[str, Place]]:
        """Yield every intervention and place."""
        names = ("zero", "noise", "mean", "shuffle", "swap", "token")
        left_out = _EXCHANGES if self.chains.is_constant else ()
        for name in names:
            for place in effects.places(self.chains.most):
                if name not in left_out and not (name == "shuffle" and place.up_to == 1):
                    yield name, place

    def counted(self, name: str, place: Place) -> list[int]:
        """Return the questions that an intervention can be made on."""
        fewest = max(2 if name == "shuffle" else 1, place.fewest)
        return [
            q
            for q, num in enumerate(self.chains.num_latents)
            if num >= fewest and (name != "swap" or self.partners[q] is not None)
        ]

    def answer(self, name: str, place: Place, on_progress: Progress = no_progress) -> Effect:
        """Answer the questions with something else in these latent positions."""
        numbers = self.counted(name, place)
        outputs = []
        if numbers:
            changed = Place() if name == "shuffle" else place
            feed_for = partial(self._feed_for, numbers, changed, self._replacement(name, place))
            chosen = self.subject.of(numbers)
            outputs = chosen.answers(feed_for=feed_for, on_progress=on_progress)
        return Effect(name, place, dict(zip(numbers, outputs, strict=True)))

    def _feed_for(
        self, numbers: Sequence[int], place: Place, put_in: Replace, rows: Sequence[int]
    ) -> Feed:
        own, chosen = feed_of_latents(self.subject), torch.tensor([numbers[row] for row in rows])

        def feed(latent: Latent) -> Tensor:
            vectors = own(latent)
            if not place.has(latent.number):
                return vectors
            return put_in(chosen, latent, vectors).to(vectors)

        return feed

    def _replacement(self, name: str, place: Place) -> Replace:
        if name == "none":
            return lambda rows, latent, own: own
        if name == "zero":
            return lambda rows, latent, own: torch.zeros_like(own)
        if name == "noise":
            return lambda rows, latent, own: (
                self._noise[rows, latent.number].to(own) * own.norm(dim=-1, keepdim=True)
            )
        if name == "token":
            return lambda rows, latent, own: latent.table(self._best_token(latent))
        table = self._table(name, place)
        return lambda rows, latent, own: table[rows, latent.number]

    def _best_token(self, latent: Latent) -> Tensor:
        head = self.subject.reasoner.model.get_output_embeddings()
        best: Tensor = head(latent.state).argmax(-1)
        return best

    def _table(self, name: str, place: Place) -> Tensor:
        """Return what is fed into each latent position of each question: (Q, N, D)."""
        latent_inputs = self.chains.latent_inputs
        if name == "replay":
            return latent_inputs
        if name == "mean":
            return self._means.expand_as(latent_inputs)
        if name == "swap":
            return latent_inputs[[q if p is None else p for q, p in enumerate(self.partners)]]
        return latent_inputs.gather(1, self._orders(place)[:, :, None].expand_as(latent_inputs))

    @cached_property
    def _means(self) -> Tensor:
        """The mean of each thought over the questions that have it: (1, N, D)."""
        latent_inputs, length = (
            self.chains.latent_inputs.double(),
            torch.tensor(self.chains.num_latents),
        )
        num_N1 = (torch.arange(self.chains.most)[:, None] < length).sum(1, keepdim=True)
        return (latent_inputs.sum(0) / num_N1)[None].to(self.chains.latent_inputs)

    @cached_property
    def _noise(self) -> Tensor:
        """A direction for each latent position of each question: (Q, N, D)."""
        size, most = self.chains.latent_inputs.shape[-1], range(self.chains.most)
        ids = [example.id for example in self.subject.examples]
        noise = [
            [unit_noise(size, self.seed, "noise", id, latent) for latent in most] for id in ids
        ]
        return torch.stack([torch.stack(of_question) for of_question in noise])

    def _orders(self, place: Place) -> Tensor:
        """Return from which latent position each latent position gets its vector in a shuffle:
        (Q, N)."""
        most, ids = self.chains.most, [example.id for example in self.subject.examples]
        orders = [
            draw_order(num, place, self.seed, "shuffle", id)
            for num, id in zip(self.chains.num_latents, ids, strict=True)
        ]
        return torch.tensor([[*order, *range(len(order), most)] for order in orders])


def draw_order(num: int, place: Place, *parts: object) -> list[int]:
    """Return latent positions 0 … num - 1 in another order.

    Args:
        num: Latents of the question.
        place: One thought, which changes places with another one; or the first k or all, which are
            so permuted that none stays, each such order equally likely. Where there is nothing to
            permute, the order stays.
        *parts: What the randomness belongs to.
    """
    rng, order = stream(*parts, place.thought, place.up_to), list(range(num))
    if place.thought is not None:
        this = place.thought - 1
        if num > 1 and this < num:
            other = rng.choice([latent for latent in order if latent != this])
            order[this], order[other] = other, this
        return order
    meant = num if place.up_to is None else min(place.up_to, num)
    while meant > 1 and any(latent == order[latent] for latent in range(meant)):
        order[:meant] = rng.sample(range(meant), meant)
    return order


def draw_partners(
    ids: Sequence[str], num_latents: Sequence[int], keys: Sequence[str], seed: int
) -> list[int | None]:
    """Draw for each question another one with as many latent positions and another answer.

    No question is the partner of two. Where one answer is so common that partners run out, the
    questions without one have None.

    Args:
        ids: Of the questions.
        num_latents: Latents of each.
        keys: What tells their answers apart.
        seed: With the ids it determines the partners.
    """
    partners: list[int | None] = [None] * len(ids)
    for num in sorted(set(num_latents) - {0}):
        group = [q for q, latents in enumerate(num_latents) if latents == num]
        rng = stream(seed, "swap", num, *(ids[q] for q in group))
        drawn = rng.sample(group, len(group))
        for _ in range(MAX_ROUNDS):
            bad = [i for i, q in enumerate(group) if keys[q] == keys[drawn[i]]]
            if not bad:
                break
            for i in bad:
                j = rng.randrange(len(group))
                here, there = keys[group[i]], keys[group[j]]
                mine, theirs = keys[drawn[i]], keys[drawn[j]]
                if (here == theirs) + (there == mine) < (here == mine) + (there == theirs):
                    drawn[i], drawn[j] = drawn[j], drawn[i]
        for q, partner in zip(group, drawn, strict=True):
            partners[q] = partner if keys[q] != keys[partner] else None
    return partners
