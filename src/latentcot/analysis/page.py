"""The page of an analysis, put together from what was measured of one model or of two."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

from latentcot.analysis.analyze import Done
from latentcot.analysis.registry import ANALYSES, Result
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
from latentcot.utils.files import written_whole

_PLAIN = Template("""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src 'self' file:;
style-src 'unsafe-inline'"><title>$title</title>
<style>body { font: 16px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
img { max-width: 100% }</style>
<h1>$title</h1><p>$caption</p>
$sections
</html>
""")


def write_plain_page(path: Path, subject: Subject, done: Sequence[Done]) -> None:
    """Write a page of the figures there are, for questions that carry no graph to draw.

    The figures lie beside it, as the analyses wrote them. What was not done stands there with its
    reason.

    Raises:
        RunError: It cannot be written.
    """
    sections = []
    for one in done:
        about = ANALYSES[one.name].summary if one.name in ANALYSES else ""
        told = about if one.reason is None else f"Not done: {one.reason}."
        sections.append(f"<h2>{html.escape(one.name)}</h2><p>{html.escape(told)}</p>")
        if one.reason is None:
            sections += [
                f'<img src="{html.escape(figure.name)}" alt="{html.escape(one.name)}">'
                for figure in sorted(path.parent.glob(f"{one.name}*.png"))
            ]
    text = _PLAIN.substitute(
        title=html.escape(f"Inside the thoughts of {subject.name}"),
        caption=html.escape(_caption(subject)),
        sections="\n".join(sections),
    )
    with written_whole(path) as file:
        file.write(text)


def _caption(subject: Subject) -> str:
    return (
        f"{len(subject.examples):,} questions of {subject.source}, checkpoint of update "
        f"{subject.reasoner.info.update:,}."
    )


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
    shown = subject.first(NUM_LISTED)
    told = [found["mediation"]["sentence"] for found in results[:1] if "mediation" in found]
    data: PageData = {
        "title": f"Inside the thoughts of {' and '.join(one.name for one, _ in measured)}",
        "caption": " ".join([_caption(subject), *told]),
        "form": "words" if subject.is_in_words else "symbols",
        "questions": [
            {**asked(example, graph), "text": example.question}
            for example, graph in zip(shown.examples, shown.graphs, strict=True)
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
