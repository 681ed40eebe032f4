"""What comparisons read of `evals/*.json`, checked, so that a table can be made of it.

A file of an older form is read as if it were of the newest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from latentcot.errors import RunError
from latentcot.utils.parsing import MAX_NAME, has_control, one_line, shown
from latentcot.utils.versions import EVALUATION_VERSION, read_versioned, version_of

_CONFIG = ConfigDict(extra="ignore")
_MAX_TOLD = 3

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]
Figure = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False, strict=True)]
Number = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
Count = Annotated[int, Field(ge=1, lt=2**63, strict=True)]
Flag = Annotated[bool, Field(strict=True)]


def _label(text: str) -> str:
    """Refuse a name that would be more than a name in a table: Markdown, CSV and LaTeX have it."""
    if len(text) > MAX_NAME or not text[:1].isalnum() or "<" in text or has_control(text):
        raise ValueError(
            f"must begin with a letter or digit and be one line of at most {MAX_NAME} characters "
            "without <"
        )
    return text


Label = Annotated[str, AfterValidator(_label)]
Line = Annotated[str, AfterValidator(one_line)]


@dataclass(frozen=True, slots=True)
class Answered:
    """Whether a question was answered correctly."""

    __pydantic_config__ = _CONFIG

    id: str
    is_correct: Flag


@dataclass(frozen=True, slots=True)
class Source:
    """Where a result comes from."""

    __pydantic_config__ = _CONFIG

    commit: Line | None = None
    is_tree_dirty: Flag = False
    machine: Line | None = None

    @property
    def code(self) -> str | None:
        """The commit, with what was changed since."""
        return f"{self.commit}, with changes" if self.commit and self.is_tree_dirty else self.commit


@dataclass(frozen=True, slots=True)
class OfRun:
    """The `checkpoint` of a result."""

    __pydantic_config__ = _CONFIG

    run_updates: Number


@dataclass(frozen=True, slots=True)
class Asked:
    """The `data` of a result."""

    __pydantic_config__ = _CONFIG

    sha256: str


@dataclass(frozen=True, slots=True)
class EvaluationFile:
    """The keys of a result file that a comparison needs; `evaluation.Evaluation` says what each is.

    `task` is a name, or how the answers of one's own data are matched.
    """

    __pydantic_config__ = _CONFIG

    task: Label | dict[str, Any]
    method: Label
    accuracy: Share
    low: Share
    high: Share
    num_questions: Count
    tokens_per_question: Figure
    thoughts_per_question: Figure
    passes_per_question: Figure
    seconds_per_question: Figure
    checkpoint: OfRun
    data: Asked
    records: list[Answered]
    batch_size: Count | None = None
    share_stopped_with_chain: Share | None = None
    stage: Number = 0
    last_stage: Number = 0
    provenance: Source = field(default_factory=Source)


_ADAPTER = TypeAdapter(EvaluationFile)


def read_evaluation(path: Path, recipe: Mapping[str, Any]) -> EvaluationFile:
    """Read a result file.

    Args:
        path: The file.
        recipe: Of its run: files of version 1 do not name the task.

    Raises:
        FileNotFoundError: There is none.
        RunError: It is damaged, no result of an evaluation, or a newer latentcot wrote it.
    """
    values = read_versioned(path, EVALUATION_VERSION, "schema_version")
    version = version_of(values, path, EVALUATION_VERSION, "schema_version")
    try:
        found = _ADAPTER.validate_python(values if version > 1 else _upgraded(values, recipe))
    except ValidationError as error:
        raise RunError(f"{path}: is no result file of latentcot: {_told(error)}.") from None
    if len(found.records) != found.num_questions:
        raise RunError(
            f"{path}: is no result file of latentcot: records: must be one for each of the "
            f"{found.num_questions} questions, got {len(found.records)}."
        )
    return found


def _upgraded(values: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Version 1 did not count thoughts as tokens, as the paper does, and did not name the task."""
    parts = [values.get(f"{kind}_per_question") for kind in ("tokens", "thoughts")]
    tokens = sum(parts) if all(isinstance(part, int | float) for part in parts) else None  # type: ignore[arg-type]
    task = values.get("task", recipe.get("task", "prosqa"))
    return {**values, "tokens_per_question": tokens, "task": task}


def _told(error: ValidationError) -> str:
    """Return the first problems in words."""
    problems = error.errors()
    told = []
    for problem in problems[:_MAX_TOLD]:
        where = ".".join(map(str, problem["loc"]))
        reason = problem["msg"].removeprefix("Value error, ")
        got = "" if problem["type"] == "missing" else f", got {shown(problem['input'])}"
        told.append(f"{where}: {reason[0].lower()}{reason[1:]}{got}")
    more = len(problems) - len(told)
    return "; ".join(told) + (f"; and {more} more problems" if more > 0 else "")
