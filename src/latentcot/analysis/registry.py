"""The table of analyses: what `latentcot analyze` does, and where each is measured and drawn.

A new one is a row here, a module that measures and a module that draws (docs/analysis.md).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from latentcot.analysis.shared.subject import Progress, Subject
from latentcot.errors import UsageError, did_you_mean

Result = dict[str, Any]
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Analysis:
    """One analysis.

    Attributes:
        name: Of its files, and of its modules in `analysis/` and `analysis/figures/`.
        summary: What it shows, in a few words.
        needs_graph: Whether each question must carry the graph of its task, as ProsQA's do.
        compares: Whether it measures a second model beside the first, question by question.
        takes_all: Whether it measures any number of other models.
    """

    name: str
    summary: str
    needs_graph: bool = False
    compares: bool = False
    takes_all: bool = False

    def measure(self, subject: Subject, others: Sequence[Subject], on_progress: Progress) -> Result:
        """Return its figures as plain values.

        Args:
            subject: The model and its questions.
            others: Other models with the same questions; most analyses look at the first alone,
                or at none.
            on_progress: Takes the number of questions that have just been done.

        Raises:
            UsageError: It can't be done with this model and these questions.
        """
        if self.needs_graph and "idx_to_symbol" not in subject.examples[0].meta:
            raise UsageError("its questions carry no graph")
        do: Callable[..., Result] = self._module("analysis").measure
        if self.takes_all:
            return do(subject, on_progress=on_progress, against=others)
        if self.compares:
            return do(subject, on_progress=on_progress, against=others[0] if others else None)
        return do(subject, on_progress=on_progress)

    def draw(self, result: Result) -> Mapping[str, Any]:
        """Return its figures by the names of their files."""
        drawn = self._module("analysis.figures").draw(result)
        return drawn if isinstance(drawn, Mapping) else {self.name: drawn}

    def rows(self, result: Result) -> Mapping[str, Rows]:
        """Return what its CSV files hold, by their names."""
        found = self._module("analysis.figures").rows(result)
        return found if isinstance(found, Mapping) else {self.name: found}

    def _module(self, package: str) -> Any:
        # Matplotlib, and what only one analysis needs, is imported with it.
        return import_module(f"latentcot.{package}.{self.name}")


ANALYSES: dict[str, Analysis] = {
    row.name: row
    for row in (
        Analysis("outcomes", "what is written after k thoughts", needs_graph=True),
        Analysis("tree", "the value of each node: the search tree", needs_graph=True),
        Analysis("parallelism", "how many branches are kept open", needs_graph=True),
        Analysis("superposition", "which nodes lie in a thought", needs_graph=True),
        Analysis("attention", "which edges a thought looks at", needs_graph=True),
        Analysis("decoding", "each thought read as words"),
        Analysis("interventions", "what is left when thoughts are replaced", compares=True),
        Analysis(
            "steering",
            "answers moved along a difference of thoughts",
            needs_graph=True,
            compares=True,
        ),
        Analysis("probes", "what a linear map finds in a thought", compares=True),
        Analysis("geometry", "norm, rank and angles of thoughts", compares=True),
        Analysis(
            "distribution", "questions unlike those of training", needs_graph=True, takes_all=True
        ),
    )
}


def chosen(only: Sequence[str]) -> list[Analysis]:
    """Return the analyses of these names; all if there are none.

    Raises:
        UsageError: There is none of a name.
    """
    for name in only:
        if name not in ANALYSES:
            raise UsageError(
                f"--only {name}: is no analysis.{did_you_mean(name, ANALYSES)} There are: "
                f"{', '.join(ANALYSES)}. For several, give --only several times."
            )
    return [ANALYSES[name] for name in only] if only else list(ANALYSES.values())
