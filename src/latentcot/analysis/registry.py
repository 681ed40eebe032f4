"""The table of analyses: what `latentcot analyze` does, and what each needs.

Each row of ours is a file of `analysis/` that measures and draws, imported when it is used; another
is added from outside by `register`, or by an entry point (docs/analysis.md).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from latentcot.errors import UsageError, did_you_mean
from latentcot.utils.plugins import add, load_all

if TYPE_CHECKING:  # they load torch, which nobody needs who lists analyses
    from latentcot.analysis.shared.statistics import Rows
    from latentcot.analysis.shared.subject import Progress, Subject

ENTRY_POINTS = "latentcot.analyses"

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Analysis:
    """One analysis.

    Attributes:
        name: Of its files.
        summary: What it shows, in a few words.
        measure: (subject, on_progress) → its figures as plain values; `on_progress` takes the
            number of questions that have just been done. May raise UsageError where it can't be
            done with this model and these questions: other analyses are still done.
        draw: (result) → a matplotlib figure, or several by the names of their files.
        tables: (result) → the rows of its CSV files, by their names. If left out, every list of
            rows in the result is one: NAME-KEY.csv.
        requires: What the model and its questions must have: keys of REQUIREMENTS.
        compares: Whether `measure` also takes `against`: other models that are asked the same
            questions, such as the pause control. It puts what it finds of the first of them under
            `against` of its result, or why it could not; see `compared`.
    """

    name: str
    summary: str
    measure: Callable[..., Result]
    draw: Callable[[Result], Any]
    tables: "Callable[[Result], Mapping[str, Rows]] | None" = None
    requires: tuple[str, ...] = ()
    compares: bool = False

    def run(
        self, subject: "Subject", others: "Sequence[Subject]", on_progress: "Progress"
    ) -> Result:
        """Return its figures as plain values.

        Raises:
            UsageError: It can't be done with this model and these questions.
        """
        from latentcot.analysis.shared.subject import REQUIREMENTS

        for required in self.requires:
            if missing := REQUIREMENTS[required](subject):
                raise UsageError(missing)
        more = {"against": others} if self.compares else {}
        return self.measure(subject, on_progress, **more)

    def figures(self, result: Result) -> Mapping[str, Any]:
        """Return its figures by the names of their files."""
        drawn = self.draw(result)
        return drawn if isinstance(drawn, Mapping) else {self.name: drawn}

    def rows(self, result: Result) -> "Mapping[str, Rows]":
        """Return what its CSV files hold, by their names."""
        if self.tables is not None:
            return self.tables(result)
        lists = {key: value for key, value in result.items() if isinstance(value, list) and value}
        are_rows = {k: v for k, v in lists.items() if all(isinstance(row, dict) for row in v)}
        return {f"{self.name}-{key}": rows for key, rows in are_rows.items()}


def _ours(name: str, summary: str, *requires: str, compares: bool = False) -> Analysis:
    """Return a row whose file is imported when it is used."""

    def of_file(function: str) -> Callable[..., Any]:
        home = f"latentcot.analysis.{name}"
        return lambda *given, **more: getattr(import_module(home), function)(*given, **more)

    measure, draw, tables = map(of_file, ("measure", "draw", "tables"))
    return Analysis(name, summary, measure, draw, tables, requires, compares)


ANALYSES: dict[str, Analysis] = {
    row.name: row
    for row in (
        _ours("mediation", "how much of the answer goes through the thoughts", "latents",
              compares=True),
        _ours("outcomes", "what is written after k thoughts", "graphs"),
        _ours("tree", "the value of each node: the search tree", "graphs"),
        _ours("parallelism", "how many branches are kept open", "graphs"),
        _ours("superposition", "which nodes lie in a thought", "graphs", "latents"),
        _ours("attention", "which edges a thought looks at", "graphs", "latents"),
        _ours("decoding", "each thought read as words", "latents"),
        _ours("interventions", "what is left when thoughts are replaced", "latents", compares=True),
        _ours("steering", "answers moved along a difference of thoughts", "graphs", "latents",
              compares=True),
        _ours("edits", "nodes added to a thought and taken out: what follows", "graphs", "latents",
              compares=True),
        _ours("pathways", "what looks at a thought, and which block carries it", "latents",
              compares=True),
        _ours("probes", "what a linear map finds in a thought", "latents", compares=True),
        _ours("geometry", "norm, rank and angles of thoughts", "latents", compares=True),
        _ours("distribution", "questions unlike those of training", "graphs", compares=True),
    )
}  # fmt: skip


def register(analysis: Analysis) -> Analysis:
    """Add a row to the table, from outside the package; return it.

    Raises:
        UsageError: It is none, its name is taken by another row, or it requires what there is not.
    """
    if not isinstance(analysis, Analysis):
        raise UsageError(
            f"register: needs a latentcot.analysis.registry.Analysis, got "
            f"{type(analysis).__name__}."
        )
    from latentcot.analysis.shared.subject import REQUIREMENTS

    for required in analysis.requires:
        if required not in REQUIREMENTS:
            raise UsageError(
                f"analysis {analysis.name!r}: requires {required!r}, which is none of "
                f"{', '.join(REQUIREMENTS)}.{did_you_mean(required, REQUIREMENTS)}"
            )
    add(ANALYSES, "analysis", analysis.name, analysis, UsageError)
    return analysis


@cache
def load_entry_points() -> None:
    """Add the rows that installed packages declare under the entry point `latentcot.analyses`.

    Raises:
        UsageError: One of them cannot be loaded.
    """
    load_all(ENTRY_POINTS, register, UsageError)


def chosen(only: Sequence[str]) -> list[Analysis]:
    """Return the analyses of these names; all if there are none, those of entry points too.

    Raises:
        UsageError: There is none of a name.
    """
    if not only or any(name not in ANALYSES for name in only):
        load_entry_points()
    for name in only:
        if name not in ANALYSES:
            raise UsageError(
                f"--only {name}: is no analysis.{did_you_mean(name, ANALYSES)} There are: "
                f"{', '.join(ANALYSES)}. For several, give --only several times."
            )
    return [ANALYSES[name] for name in only] if only else list(ANALYSES.values())
