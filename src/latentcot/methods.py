"""THE TABLE: every training regime as one row, schedule × fill × markers.

- The schedule says which reasoning steps are gone at a stage.
- The fill says what stands in their place: continuous thoughts, `<pause>` tokens, or nothing.
- Markers say whether `<bot>` and `<eot>` stand around that place.

Nothing else in the package asks for a method by name: `layout.py` reads these fields, and a new
baseline is a new row. Sources: arXiv 2412.06769, table 1 and section 4.3.
"""

from dataclasses import dataclass
from enum import Enum

from latentcot.errors import MethodError, did_you_mean


class Schedule(Enum):
    """Which steps of the chain have been removed at stage s."""

    KEEP_ALL = "no step is ever removed"
    STEP_PER_STAGE = "the first s steps are removed at stage s"
    ALL_AT_ONCE = "all steps are removed from the start: only the last stage exists"
    TOKEN_BY_TOKEN = "tokens are removed from the beginning of the chain, some more each epoch"


class Fill(Enum):
    """What stands in place of the removed steps."""

    THOUGHT = "the last hidden state, fed back as input embedding"
    PAUSE = "a learned <pause> token"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the table.

    Attributes:
        name: As the paper's table names it, in lower case with hyphens.
        schedule: Which steps are removed when.
        fill: What stands in their place.
        has_markers: Whether `<bot>` and `<eot>` stand around that place.
        summary: One line for `latentcot list methods`.
        is_ready: False for a row that is declared but cannot be trained yet.
    """

    name: str
    schedule: Schedule
    fill: Fill
    has_markers: bool
    summary: str
    is_ready: bool = True

    def stages(self, num_stages: int) -> range:
        """Return the stages that this method goes through, of 0 … `num_stages`."""
        if self.schedule is Schedule.KEEP_ALL:
            return range(1)
        if self.schedule is Schedule.ALL_AT_ONCE:
            return range(num_stages, num_stages + 1)
        return range(num_stages + 1)


_ROWS = (
    Method("cot", Schedule.KEEP_ALL, Fill.NOTHING, False,
           "the full reasoning chain, in training and at inference"),
    Method("no-cot", Schedule.ALL_AT_ONCE, Fill.NOTHING, False,
           "the answer only"),
    Method("icot", Schedule.TOKEN_BY_TOKEN, Fill.NOTHING, False,
           "the chain's tokens are removed a few at a time (arXiv 2405.14838)", is_ready=False),
    Method("pause", Schedule.ALL_AT_ONCE, Fill.PAUSE, True,
           "the answer only, after as many <pause> tokens as Coconut has thoughts"),
    Method("coconut", Schedule.STEP_PER_STAGE, Fill.THOUGHT, True,
           "one more step becomes continuous thoughts at each stage"),
    Method("coconut-no-curriculum", Schedule.ALL_AT_ONCE, Fill.THOUGHT, True,
           "Coconut's last stage from the start"),
    Method("coconut-no-thought", Schedule.STEP_PER_STAGE, Fill.NOTHING, False,
           "Coconut's curriculum, but nothing stands in place of the removed steps"),
    Method("coconut-pause-as-thought", Schedule.STEP_PER_STAGE, Fill.PAUSE, True,
           "Coconut's curriculum, with <pause> in place of each thought"),
)  # fmt: skip

METHODS: dict[str, Method] = {row.name: row for row in _ROWS}


def method_named(name: str) -> Method:
    """Return the row of this name.

    Raises:
        MethodError: No row has this name, or the row does not work yet.
    """
    row = METHODS.get(name)
    if row is None:
        raise MethodError(
            f"method {name!r} does not exist.{did_you_mean(name, METHODS)} "
            f"There are: {', '.join(METHODS)}."
        )
    if not row.is_ready:
        working = ", ".join(other.name for other in _ROWS if other.is_ready)
        raise MethodError(
            f"method {name!r} is declared but does not work yet. Use one of: {working}."
        )
    return row
