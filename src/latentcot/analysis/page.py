"""The page of an analysis, put together from what was measured of one model or of two."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from latentcot.analysis.analyze import Done
from latentcot.analysis.registry import Result
from latentcot.analysis.shared.subject import NUM_LISTED, Subject, asked
from latentcot.methods import METHODS
from latentcot.pages import pick, write_page
from latentcot.pages.analysis import (
    ChangedAnswer,
    DepthMass,
    Effect,
    ForcedAnswer,
    MethodResults,
    OutcomeShares,
    PageData,
    Readings,
)
from latentcot.runs.provenance import code_of, provenance


def write_analysis_page(path: Path, measured: Sequence[tuple[Subject, Sequence[Done]]]) -> bool:
    """Write the page of one model or two, with what became of their analyses.

    Returns:
        Whether it was written: it needs the outcomes and the tree of each model.

    Raises:
        DataError: It would be too large.
        RunError: It cannot be written.
    """
    results = [{one.name: one.result for one in done if one.result} for _, done in measured]
    if not all({"outcomes", "tree"} <= found.keys() for found in results):
        return False
    subject, source = measured[0][0], provenance()
    data: PageData = {
        "title": f"Inside the thoughts of {' and '.join(one.name for one, _ in measured)}",
        "caption": f"{len(subject.examples):,} questions of {subject.source}, "
        f"checkpoint of update {subject.reasoner.info.update:,}.",
        "form": "words" if subject.is_in_words else "symbols",
        "questions": [
            {**asked(example), "text": example.question}
            for example in subject.first(NUM_LISTED).examples
        ],
        "methods": [
            _method(one.first(NUM_LISTED), found)
            for (one, _), found in zip(measured, results, strict=True)
        ],
        "provenance": {
            "command": source["command"],
            "commit": code_of(source) or "unknown",
            "machine": source["machine"],
            "date": source["time"],
        },
    }
    write_page(path, "analysis", data)
    return True


def _method(subject: Subject, results: Mapping[str, Result]) -> MethodResults:
    """Return what the page shows of a model; of an analysis that was not done it shows nothing."""
    info, outcomes = subject.reasoner.info, results["outcomes"]
    found: dict[tuple[str, str], Result] = {
        (name, question["id"]): question
        for name, result in results.items()
        for question in result.get("questions", [])
    }
    questions: list[Readings] = []
    for example in subject.examples:
        written = found["outcomes", example.id]
        replaced = found.get(("interventions", example.id), {}).get("interventions", [])
        questions.append(
            {
                "thoughts": found.get(("superposition", example.id), {}).get("thoughts", []),
                "values": found["tree", example.id]["values"],
                "answers": [
                    ForcedAnswer(
                        k=row["k"],
                        text=text,
                        answer=answer,
                        outcome=outcome,
                        is_correct=subject.task.is_correct(answer, example.answer),
                    )
                    for row, text, answer, outcome in zip(
                        outcomes["by_k"],
                        *(written[key] for key in ("texts", "answers", "outcomes")),
                        strict=True,
                    )
                ],
                "interventions": [pick(ChangedAnswer, row) for row in replaced],
            }
        )
    trained = outcomes["series"][0]["as_trained"]
    mass = results.get("superposition", {}).get("frontier", [])
    effects = results.get("interventions", {}).get("effects", [])
    return {
        "name": subject.name,
        "summary": METHODS[info.method_name].summary if info.method_name in METHODS else "",
        "accuracy": trained["accuracy"],
        "low": trained["low"],
        "high": trained["high"],
        "num_questions": trained["num_questions"],
        "num_thoughts": outcomes["num_thoughts"],
        "thoughts_per_step": info.plan.thoughts_per_step,
        "outcomes": [pick(OutcomeShares, row) for row in outcomes["by_k"]],
        "mass": [pick(DepthMass, row) for row in mass],
        "interventions": [pick(Effect, row) for row in effects],
        "questions": questions,
    }
