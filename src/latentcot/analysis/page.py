"""The page of an analysis, put together from what was measured of one model or of two."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latentcot.analysis.analyze import Done
from latentcot.analysis.registry import Result
from latentcot.analysis.shared.subject import NUM_LISTED, Subject
from latentcot.methods import METHODS
from latentcot.pages.analysis import (
    ChangedAnswer,
    DepthMass,
    Effect,
    ForcedAnswer,
    MethodResults,
    OutcomeShares,
    PageData,
    Provenance,
    Question,
    Readings,
    write_page,
)
from latentcot.runs.provenance import code_of, provenance
from latentcot.tasks.prosqa.generator import chain_of

Measured = tuple[Subject, Sequence[Done]]


def write_analysis_page(path: Path, measured: Sequence[Measured]) -> bool:
    """Write the page, if there is enough for one.

    Args:
        path: Of the file.
        measured: One model or two, with what became of their analyses.

    Returns:
        Whether it was written: it needs the outcomes and the tree of each model.

    Raises:
        RunError: It cannot be written.
    """
    if not all({"outcomes", "tree"} <= _results(done).keys() for _, done in measured):
        return False
    subject = measured[0][0]
    shown = subject.first(NUM_LISTED)
    source = provenance()
    names = " and ".join(one.name for one, _ in measured)
    write_page(
        path,
        PageData(
            title=f"Inside the thoughts of {names}",
            caption=f"{len(subject.examples):,} questions of {subject.source}, "
            f"checkpoint of update {subject.reasoner.info.update:,}.",
            provenance=Provenance(
                commit=code_of(source) or "unknown",
                machine=source["machine"],
                date=source["time"],
                command=source["command"],
            ),
            form="words" if subject.is_in_words else "symbols",
            questions=[_question(shown, i) for i in range(len(shown.examples))],
            methods=[_method(one.first(NUM_LISTED), _results(done)) for one, done in measured],
        ),
    )
    return True


def _results(done: Sequence[Done]) -> dict[str, Result]:
    return {one.name: one.result for one in done if one.result is not None}


def _question(subject: Subject, number: int) -> Question:
    example, graph = subject.examples[number], subject.graphs[number]
    return Question(
        id=example.id,
        nodes=list(graph.names),
        edges=list(graph.edges),
        root=graph.root,
        target=graph.target,
        neg_target=graph.neg_target,
        path=list(chain_of(example, graph) or ()),
        text=example.question,
    )


def _method(subject: Subject, results: Mapping[str, Result]) -> MethodResults:
    info, outcomes = subject.reasoner.info, results["outcomes"]
    effects = results.get("interventions", {}).get("effects", [])
    return MethodResults(
        name=subject.name,
        summary=METHODS[info.method].summary if info.method in METHODS else "",
        **_only(outcomes["series"][0]["as_trained"], "accuracy", "low", "high", "num_questions"),
        num_thoughts=outcomes["num_thoughts"],
        outcomes=[OutcomeShares(**_fields(row, OutcomeShares)) for row in outcomes["by_k"]],
        mass=[
            DepthMass(**_fields(row, DepthMass))
            for row in results.get("superposition", {}).get("frontier", [])
        ],
        interventions=[Effect(**_fields(row, Effect)) for row in effects],
        questions=_readings(subject, results),
        thoughts_per_step=info.plan.thoughts_per_step,
    )


def _readings(subject: Subject, results: Mapping[str, Result]) -> list[Readings]:
    by_id = {name: {q["id"]: q for q in r.get("questions", [])} for name, r in results.items()}
    counts = [row["k"] for row in results["outcomes"]["by_k"]]
    found = []
    for example in subject.examples:
        own: dict[str, Any] = {name: by_id[name].get(example.id, {}) for name in by_id}
        answers = zip(
            counts,
            *(own["outcomes"].get(key, []) for key in ("texts", "answers", "outcomes")),
            strict=False,
        )
        found.append(
            Readings(
                thoughts=_shares(own.get("superposition", {}).get("thoughts", [])),
                values=_shares(own["tree"].get("values", [])),
                answers=[
                    ForcedAnswer(k, text, answer, outcome,
                                 subject.task.is_correct(answer, example.answer))
                    for k, text, answer, outcome in answers
                ],
                interventions=[
                    ChangedAnswer(**_fields(row, ChangedAnswer))
                    for row in own.get("interventions", {}).get("interventions", [])
                ],
            )
        )  # fmt: skip
    return found


def _shares(rows: Sequence[Sequence[float | None]]) -> list[list[float]]:
    """Write what could not be read as no number, which the page shows as a gap."""
    return [[float("nan") if share is None else share for share in row] for row in rows]


def _fields(row: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    found = _only(row, *kind.__dataclass_fields__)
    # A single question has no interval.
    return {k: float("nan") if v is None and k in ("low", "high") else v for k, v in found.items()}


def _only(row: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: row[key] for key in keys if key in row}
