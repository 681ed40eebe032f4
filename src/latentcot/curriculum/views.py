"""A view of an example: which steps of its chain are left, and what stands in place of the rest.

    View = schedule × latents × special tokens

- The schedule says which part of the chain is left at a stage.
- The latents say what stands in place of the removed steps, and how it is filled: continuous
  thoughts one after the other, `<pause>` tokens, thoughts that are refined in parallel, or nothing.
- Special tokens say whether `<bot>` and `<eot>` stand around that place.

A method reads each example in one view or in several (`methods/`). Nothing here knows tensors: what
fills a latent position is a function that is only kept here and called in `thinking/`.
Sources: arXiv 2412.06769, table 1 and section 4.3; arXiv 2405.14838 for icot.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Steps = tuple[tuple[int, ...], ...]
"""A chain as token ids, one tuple a step."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The numbers of a curriculum that tell what a stage removes, and what it puts there.

    Attributes:
        num_stages: Stages after stage 0 that turn one step each into thoughts.
        thoughts_per_step: The paper's c.
        pad_to_num_stages: Every example gets the stage's full number of latent positions; otherwise
            min(stage, its own steps)·c.
        final_stage_without_text: One more stage: no step is left, latent positions as at the stage
            before.
        tokens_until_all: For schedules by tokens: once so many are gone, so is the rest.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic

    num_stages: int
    thoughts_per_step: int = 1
    pad_to_num_stages: bool = True
    final_stage_without_text: bool = False
    tokens_until_all: int = 39

    @property
    def last_stage(self) -> int:
        """The last stage of a schedule by steps."""
        return self.num_stages + self.final_stage_without_text


# --- schedules: which part of the chain is left -------------------------------------------------


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which part of the chain is left at stage s.

    Attributes:
        stages: plan → the stages that a method goes through, in order.
        left: (steps, stage, plan) → the steps that are still written; the first may have lost
            tokens.
        is_by_token: Its stages count tokens: each lasts 1 / `tokens_per_epoch` epochs.
    """

    stages: Callable[[Plan], range]
    left: Callable[[Steps, int, Plan], Steps]
    is_by_token: bool = False


def _without_tokens(steps: Steps, stage: int, plan: Plan) -> Steps:
    if stage >= plan.tokens_until_all:
        return ()
    gone = stage
    for number, step in enumerate(steps):
        if gone < len(step):
            return (step[gone:], *steps[number + 1 :])
        gone -= len(step)
    return ()


def _last_stage(plan: Plan) -> range:
    return range(plan.last_stage, plan.last_stage + 1)


# No step is ever removed.
KEEP_ALL = Schedule(lambda plan: range(1), lambda steps, stage, plan: steps)
# All steps are removed from the start: only the last stage exists.
ALL_AT_ONCE = Schedule(_last_stage, lambda steps, stage, plan: ())
# The last step is never written, all others are.
WITHOUT_LAST_STEP = Schedule(_last_stage, lambda steps, stage, plan: steps[:-1])
# The first s steps are removed at stage s.
STEP_PER_STAGE = Schedule(
    lambda plan: range(plan.last_stage + 1),
    lambda steps, stage, plan: steps[stage:] if stage <= plan.num_stages else (),
)
# The first s tokens of the chain are removed at stage s, some more each epoch.
TOKEN_BY_TOKEN = Schedule(
    lambda plan: range(plan.tokens_until_all + 1), _without_tokens, is_by_token=True
)

# --- latents: what stands in place of the rest, and how it is filled ----------------------------

Update = Callable[[Any], Any]
"""`thinking.think.Latent` → (…, D), the latent input that goes into a position."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """No latent positions."""

    summary: str = "nothing"
    is_thought: bool = False


@dataclass(frozen=True, slots=True)
class Tokens:
    """A token in every latent position, all read in one pass.

    Attributes:
        token: A name of `layout.SpecialTokens`.
        summary: In words, for refusals.
        is_thought: Whether they count as continuous thoughts.
    """

    token: str
    summary: str = "a learned <pause> token"
    is_thought: bool = False


@dataclass(frozen=True, slots=True)
class Sequential:
    """Latent positions that are filled one after the other, in one pass each.

    Attributes:
        update: What goes into a position, from the state before it.
        summary: In words, for refusals.
        is_thought: Whether that is a continuous thought and counts as one.
        given: (embeddings (…, W, D) of the tokens that a position stands for, which of them are
            real (…, W)) → (…, D), what goes into it in place of `update` where these are known: in
            training, with `View.compression`. All positions are then read in one pass.
    """

    update: Update
    summary: str = "the last hidden state, fed back as input embedding"
    is_thought: bool = True
    given: Callable[[Any, Any], Any] | None = None


@dataclass(frozen=True, slots=True)
class Parallel:
    """Latent positions that are refined all at once, some times (arXiv 2506.18582).

    Attributes:
        iterations: T. 0 leaves the start token in every position; as many as there are positions
            give what `Sequential` gives, unless they are refined in place.
        update: What goes into a position, from the state before it in the iteration before.
        start: The token in every position of the first pass, a name of `layout.SpecialTokens`.
        summary: In words, for refusals.
        is_thought: Whether they are continuous thoughts and count as such.
        is_in_place: Whether the update sees the state at the position itself (arXiv 2606.31779),
            not the one before it.
    """

    iterations: int
    update: Update
    start: str = "pause"
    summary: str = "last hidden states, all positions refined at once"
    is_thought: bool = True
    is_in_place: bool = False


Latents = Nothing | Tokens | Sequential | Parallel

THOUGHT = Sequential(lambda latent: latent.state)
PAUSE = Tokens("pause")
PAUSE_MULTIPASS = Sequential(
    lambda latent: latent.embed("pause"), "a learned <pause> embedding, one pass each", False
)
NOTHING = Nothing()


@dataclass(frozen=True, slots=True)
class Compression:
    """Each latent position stands for so many consecutive tokens of the removed steps.

    The number, r, is told to the model: as many `<pause>` stand behind the question. How many
    positions an answer takes is not known before; the first token of the answer proper ends them.

    Attributes:
        rates: What r is drawn from in training, once for each update.
        rate: The r of answers.
    """

    rates: tuple[int, ...]
    rate: int


@dataclass(frozen=True, slots=True)
class View:
    """How an example is read.

    Attributes:
        schedule: Which part of the chain is left when.
        latents: What stands in place of the rest.
        has_special_tokens: Whether `<bot>` and `<eot>` stand around that place.
        num_latents: Latent positions of every example at every stage; those of the plan if None.
            With `compression`, the most that an answer takes.
        compression: How many tokens of the removed steps a latent position stands for, for
            positions of a `Sequential` with `given`.
    """

    schedule: Schedule
    latents: Latents = NOTHING
    has_special_tokens: bool = False
    num_latents: int | None = None
    compression: Compression | None = None

    @property
    def has_latents(self) -> bool:
        """Whether anything stands in place of removed steps."""
        return not isinstance(self.latents, Nothing)

    @property
    def is_filled(self) -> bool:
        """Whether `think` fills the latent positions; tokens are words like any other."""
        return isinstance(self.latents, Sequential | Parallel)

    def leaves_steps(self, plan: Plan) -> bool:
        """Return whether a long chain keeps a step at any stage."""
        chain = ((0,) * plan.tokens_until_all,) * (plan.last_stage + 2)
        return any(self.schedule.left(chain, s, plan) for s in self.schedule.stages(plan))
