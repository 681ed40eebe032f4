"""What stands in the latent positions: recorded, and ready to be replaced one by one.

Pauses are tokens that one pass reads. Fed one after the other as embeddings they give the same
states, since nothing that comes later is seen: so the controls can be treated as thoughts are.

Shapes: Q questions, N most latent positions of any question, D hidden size.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from latentcot.analysis.shared.statistics import Rows
from latentcot.analysis.shared.subject import REQUIREMENTS, Progress, Subject, no_progress
from latentcot.curriculum.layout import EncodedExample, Layout
from latentcot.curriculum.views import Sequential, Tokens, Update
from latentcot.errors import UsageError
from latentcot.evaluation.reasoner import Output, Reasoner
from latentcot.models.loading import width_of
from latentcot.thinking.perturbation import generator_of
from latentcot.thinking.think import Latent

T = TypeVar("T")

MEANING = {
    True: "the continuous thought: the last hidden state at the column before a latent position",
    False: "the last hidden state before a latent position, where a thought would be read",
}
"""What "thought i" means in results: whether there are continuous thoughts → words."""


class _LatentByLatent(Reasoner):
    """A reasoner whose tokens in latent positions are fed one after the other."""

    @property
    def token(self) -> int:
        """The token that stands in every latent position."""
        latents = self.method.view.latents
        assert isinstance(latents, Tokens)
        token: int = getattr(self.rules.special_tokens, latents.token)
        return token

    def prompts(
        self, encoded: Sequence[EncodedExample], num_thoughts: int | None = None
    ) -> list[Layout]:
        """Lay examples out, with latent positions in place of the tokens behind the question."""
        found = []
        for prompt in super().prompts(encoded, num_thoughts):
            others = (i for i, token in enumerate(prompt.suffix) if token != self.token)
            num = next(others, len(prompt.suffix))
            suffix, labels = prompt.suffix[num:], prompt.labels[num:]
            found.append(replace(prompt, num_latents=num, suffix=suffix, labels=labels))
        return found


def with_latents(subject: Subject) -> Subject:
    """Return the same subject with every latent position fed by itself; its answers are the same.

    Raises:
        UsageError: Its method has no latent positions, or its stage has none yet.
    """
    old = subject.reasoner
    if missing := REQUIREMENTS["latents"](subject):
        raise UsageError(f"{subject.name}: {missing}")
    if old.method.view.is_filled:
        return subject
    reasoner = _LatentByLatent(old.model, old.tokenizer, old.info, old.modules)
    latents = Sequential(lambda latent: latent.embed(reasoner.token), is_thought=False)
    reasoner.thinker = replace(old.thinker, latents=latents)
    return replace(subject, reasoner=reasoner)


def compared(
    subject: Subject,
    against: Sequence[Subject],
    measure: Callable[[Subject], tuple[dict[str, Any], T]],
    comparison: Callable[[T, T], Any],
) -> dict[str, Any]:
    """Measure one subject and, if there is one, the first of others that are asked the same.

    Where the second has no latent positions the result says so. `measure` returns what it finds of
    one as plain values, and what can be compared; `comparison` makes plain values of both.

    Raises:
        UsageError: The subject has no latent positions, or the two are not asked the same.
    """

    def measured(subject: Subject) -> tuple[dict[str, Any], T]:
        method, found = subject.reasoner.info.method_name, measure(subject)
        about = {"name": subject.name, "method": method, "has_thoughts": subject.has_thoughts}
        return about | found[0], found[1]

    second = against[0] if against else None
    if second is not None and second.has_latents:
        mine, others = ([(e.id, e.question) for e in s.examples] for s in (subject, second))
        if mine != others:
            raise UsageError(
                f"{second.name}: must be asked the same {len(mine)} questions as {subject.name}, "
                f"in the same order, got {len(others)}. Open both with the same data and limit."
            )
    result, one = measured(subject)
    if second is None:
        return result
    if not second.has_latents:
        return result | {"against": {"name": second.name, "reason": "has no latent positions"}}
    found, other = measured(second)
    return result | {"against": found, "comparison": comparison(one, other)}


def models_of(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what was measured of a model and, if that could be, of the one that it is against."""
    other = result.get("against")
    return [result, other] if other and "reason" not in other else [result]


def update_of_latents(subject: Subject) -> Update:
    """Return what goes into the latent positions of a subject when nothing is replaced.

    Raises:
        UsageError: They are not filled one after the other.
    """
    latents = subject.reasoner.thinker.latents
    if not isinstance(latents, Sequential):
        raise UsageError(
            f"{subject.name}: this needs latent positions that are filled one after the other, and "
            f"its are: {latents.summary}."
        )
    return latents.update


Replace = Callable[[Tensor, Latent, Tensor], Tensor]
"""(numbers of the questions (B,), latent position, what the model would feed (B, D)) → what is
fed instead."""


def answers_with(
    subject: Subject, replace: Replace, on_progress: Progress = no_progress
) -> list[Output]:
    """Answer every question of a subject of `with_latents` with other vectors in its latents."""
    own = update_of_latents(subject)

    def update_for(numbers: Sequence[int]) -> Update:
        rows = torch.tensor(numbers)
        return lambda latent: replace(rows, latent, own(latent))

    return subject.answers(update_for=update_for, on_progress=on_progress)


def tables_of(result: Mapping[str, Any], **parts: str) -> dict[str, Rows]:
    """Return tables of a result, those that hold anything, by the names of their CSV files.

    A result that names its model, as those of `compared` do, may hold a second one: its rows stand
    below those of the first, and a column says which is which. `comparison` is of both.

    `parts` tell the key of the rows for the name of each file, with _ for -.
    """
    found: dict[str, Rows] = {}
    for name, part in parts.items():
        rows = result.get(part) or []
        if part != "comparison" and "name" in result:
            of_each = [(model["name"], model[part]) for model in models_of(result)]
            of_each = [(who, own if isinstance(own, list) else [own]) for who, own in of_each]
            rows = [{"model": who, **row} for who, own in of_each for row in own]
        if rows:
            found[name.replace("_", "-")] = rows
    return found


@dataclass(frozen=True)
class Chains:
    """What stood in the latent positions of an unchanged run, and what the model made of it.

    Attributes:
        latent_inputs: (Q, N, D). Vectors fed into the latent positions; zero behind a question's
            last one.
        states: (Q, N + 1, D). `states[:, i]` is the last hidden state at the column before latent
            position i, counted from 0 (with continuous thoughts it is `latent_inputs[:, i]`); the
            one behind a question's last latent position is the state at that latent position, what
            one more thought would have been.
        num_latents: How many latent positions each question has.
    """

    latent_inputs: Tensor
    states: Tensor
    num_latents: tuple[int, ...]

    @property
    def most(self) -> int:
        """N, the most latent positions of any question."""
        return self.latent_inputs.shape[1]

    @property
    def is_latent(self) -> Tensor:
        """Whether a question has a latent position: (Q, N)."""
        return torch.arange(self.most) < torch.tensor(self.num_latents)[:, None]

    @property
    def is_constant(self) -> bool:
        """Whether the same vector stands in every latent position, as with pauses: none can be
        exchanged."""
        is_first = (self.latent_inputs == self.latent_inputs[:1, :1]).all(-1)
        return bool(is_first[self.is_latent].all())

    def with_state(self, thought: int) -> list[int]:
        """Return the questions that have a state before latent position `thought`, counted from
        1."""
        return [q for q, num in enumerate(self.num_latents) if num >= max(1, thought - 1)]


def record(subject: Subject, replace: Replace | None = None) -> Chains:
    """Let a subject of `with_latents` think about every question; keep what it reads and makes.

    With `replace` something else is fed into its latent positions.

    Raises:
        UsageError: None of the questions has a latent position.
    """
    num_latents = tuple(prompt.num_latents for prompt in subject.prompts())
    most, size = max(num_latents), width_of(subject.reasoner.model)
    if most == 0:
        raise UsageError(
            f"{subject.name}: none of the {len(num_latents)} questions has a latent position, "
            "since none has a step. Use questions with chains."
        )
    latent_inputs = torch.zeros(len(num_latents), most, size, dtype=subject.reasoner.model.dtype)
    states = torch.zeros(len(num_latents), most + 1, size, dtype=latent_inputs.dtype)
    own, before_first = update_of_latents(subject), list[Tensor]()

    def update_for(numbers: Sequence[int]) -> Update:
        rows = torch.tensor(numbers)

        def update(latent: Latent) -> Tensor:
            if latent.number == 0:
                before_first.append(latent.state.cpu())
            vector: Tensor = own(latent)
            return vector if replace is None else replace(rows, latent, vector)

        return update

    for numbers, rollout in subject.rollouts(update_for=update_for):
        width = rollout.latent_inputs.shape[1]
        if width:
            latent_inputs[numbers, :width] = rollout.latent_inputs.cpu()
            states[numbers, 0] = before_first.pop()
            states[numbers, 1 : width + 1] = rollout.latent_states.cpu()
    return Chains(latent_inputs, states, num_latents)


def random_of(*parts: object) -> Random:
    """Return random numbers of their own for what is named, the same on every machine."""
    return Random("/".join(map(str, parts)))


def random_directions(subject: Subject, latents: Sequence[int], *parts: object) -> Tensor:
    """Return a direction for each of N latent positions of each question: (Q, N, D), of length 1.

    Each is drawn evenly from all directions, and belongs to `parts`, the question's id and the
    number of the latent position.
    """
    size, found = width_of(subject.reasoner.model), list[Tensor]()
    for example in subject.examples:
        for latent in latents:
            found.append(torch.randn(size, generator=generator_of(*parts, example.id, latent)))
    noise = torch.stack(found).reshape(len(subject.examples), len(latents), size)
    return normalize(noise, dim=-1)
