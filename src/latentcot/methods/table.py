"""THE TABLE: every training regime as one row, schedule × fill × special tokens.

- The schedule says which part of the chain is left at a stage.
- The fill says what stands in place of the removed steps: continuous thoughts, `<pause>` tokens, or
  nothing.
- Special tokens say whether `<bot>` and `<eot>` stand around that place.

Nothing else in the package asks for a method by name: `layout.py` and `thoughts.py` read these
fields, and a new baseline is a new row; `register` adds one from outside (docs/methods.md).
Sources: arXiv 2412.06769, table 1 and section 4.3; arXiv 2405.14838 for icot.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from latentcot.errors import MethodError, did_you_mean

ENTRY_POINTS = "latentcot.methods"

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

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic, see checkpoints.py

    num_stages: int
    thoughts_per_step: int = 1
    pad_to_num_stages: bool = True
    final_stage_without_text: bool = False
    tokens_until_all: int = 39

    @property
    def last_stage(self) -> int:
        """The last stage of a schedule by steps."""
        return self.num_stages + self.final_stage_without_text


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which part of the chain is left at stage s.

    Attributes:
        summary: One line for `latentcot list methods`.
        stages: plan → the stages that a method goes through, in order.
        left: (steps, stage, plan) → the steps that are still written; the first may have lost
            tokens.
        is_by_token: Its stages count tokens: each lasts 1 / `tokens_per_epoch` epochs.
    """

    summary: str
    stages: Callable[[Plan], range]
    left: Callable[[Steps, int, Plan], Steps]
    is_by_token: bool = False


@dataclass(frozen=True, slots=True)
class Fill:
    """What stands in place of the removed steps.

    Attributes:
        summary: One line for `latentcot list methods`.
        token: The special token that stands in every latent position, all read in one pass; None
            for none.
        feed: (latent position, special token ids) → (batch, hidden size), what is fed into a
            latent position, one pass each; see `thoughts.Latent`. None for none.
        is_thought: Whether what it feeds is a continuous thought and counts as one.
    """

    summary: str
    token: str | None = None
    feed: Callable[[Any, Any], Any] | None = None
    is_thought: bool = False

    @property
    def has_latents(self) -> bool:
        """Whether anything stands there."""
        return self.token is not None or self.feed is not None


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the table.

    Attributes:
        name: As the paper's table names it, in lower case with hyphens.
        schedule: Which part of the chain is left when.
        fill: What stands in place of the rest.
        has_special_tokens: Whether `<bot>` and `<eot>` stand around that place.
        summary: One line for `latentcot list methods`.
    """

    name: str
    schedule: Schedule
    fill: Fill
    has_special_tokens: bool
    summary: str

    def stages(self, plan: Plan) -> range:
        """Return the stages that this method goes through."""
        return self.schedule.stages(plan)


# --- schedules --------------------------------------------------------------------------------


def _without_steps(steps: Steps, stage: int, plan: Plan) -> Steps:
    return steps[stage:] if stage <= plan.num_stages else ()


def _without_tokens(steps: Steps, stage: int, plan: Plan) -> Steps:
    if stage >= plan.tokens_until_all:
        return ()
    gone = stage
    for number, step in enumerate(steps):
        if gone < len(step):
            return (step[gone:], *steps[number + 1 :])
        gone -= len(step)
    return ()


KEEP_ALL = Schedule(
    "no step is ever removed", lambda plan: range(1), lambda steps, stage, plan: steps
)
ALL_AT_ONCE = Schedule(
    "all steps are removed from the start: only the last stage exists",
    lambda plan: range(plan.last_stage, plan.last_stage + 1),
    lambda steps, stage, plan: (),
)
STEP_PER_STAGE = Schedule(
    "the first s steps are removed at stage s",
    lambda plan: range(plan.last_stage + 1),
    _without_steps,
)
TOKEN_BY_TOKEN = Schedule(
    "the first s tokens of the chain are removed at stage s, some more each epoch",
    lambda plan: range(plan.tokens_until_all + 1),
    _without_tokens,
    is_by_token=True,
)

# --- fills ------------------------------------------------------------------------------------

THOUGHT = Fill(
    "the last hidden state, fed back as input embedding",
    feed=lambda latent, special_tokens: latent.state,
    is_thought=True,
)
PAUSE = Fill("a learned <pause> token", token="pause")
PAUSE_MULTIPASS = Fill(
    "a learned <pause> embedding, one pass a latent position",
    feed=lambda latent, special_tokens: latent.embed(special_tokens.pause),
)
NOTHING = Fill("nothing")

# --- the table --------------------------------------------------------------------------------

_ROWS = (
    Method("cot", KEEP_ALL, NOTHING, False,
           "the full reasoning chain, in training and at inference"),
    Method("no-cot", ALL_AT_ONCE, NOTHING, False,
           "the answer only"),
    Method("icot", TOKEN_BY_TOKEN, NOTHING, False,
           "the chain's tokens are removed a few at a time (arXiv 2405.14838)"),
    Method("pause", ALL_AT_ONCE, PAUSE, True,
           "the answer only, after as many <pause> tokens as Coconut has thoughts"),
    Method("coconut", STEP_PER_STAGE, THOUGHT, True,
           "one more step becomes continuous thoughts at each stage"),
    Method("coconut-no-curriculum", ALL_AT_ONCE, THOUGHT, True,
           "Coconut's last stage from the start"),
    Method("coconut-no-thought", STEP_PER_STAGE, NOTHING, False,
           "Coconut's curriculum, but nothing stands in place of the removed steps"),
    Method("coconut-pause-as-thought", STEP_PER_STAGE, PAUSE, True,
           "Coconut's curriculum, with <pause> in place of each thought"),
    Method("pause-multipass", STEP_PER_STAGE, PAUSE_MULTIPASS, True,
           "the same, read in as many sequential passes as Coconut's thoughts"),
)  # fmt: skip

METHODS: dict[str, Method] = {row.name: row for row in _ROWS}
PAPER_METHODS = tuple(row.name for row in _ROWS if row.name != "pause-multipass")
"""The eight rows of the paper's main table."""


def register(method: Method) -> Method:
    """Add a row to the table, from outside the package; return it.

    Raises:
        MethodError: The name is taken by another row.
    """
    if not isinstance(method, Method):
        raise MethodError(f"register: needs a latentcot.Method, got {type(method).__name__}.")
    if METHODS.setdefault(method.name, method) != method:
        raise MethodError(
            f"method {method.name!r} exists already. Give yours another name; there are: "
            f"{', '.join(METHODS)}."
        )
    return method


@cache
def load_entry_points() -> None:
    """Add the rows that installed packages declare under the entry point `latentcot.methods`.

    Raises:
        MethodError: One of them cannot be loaded.
    """
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            row = entry.load()
        except Exception as error:  # whatever an installed package raises when it is imported
            raise MethodError(
                f"entry point {ENTRY_POINTS}: {entry.name!r} ({entry.value}) cannot be loaded: "
                f"{error}. Mend or uninstall that package."
            ) from error
        register(row)


def method_named(name: str) -> Method:
    """Return the row of this name.

    Raises:
        MethodError: No row has this name.
    """
    if name not in METHODS:
        load_entry_points()
    if name not in METHODS:
        raise MethodError(
            f"method {name!r} does not exist.{did_you_mean(name, METHODS)} "
            f"There are: {', '.join(METHODS)}."
        )
    return METHODS[name]
