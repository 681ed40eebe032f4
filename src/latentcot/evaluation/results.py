"""The result of an evaluation, which reads and writes itself: one file of `evals/`.

A file of an older form is read as if it were of the newest. No tensors are needed here.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from latentcot.errors import RunError
from latentcot.evaluation.statistics import percent, share_with_interval
from latentcot.utils.files import hash_of, write_json
from latentcot.utils.parsing import MAX_NAME, has_control, one_line
from latentcot.utils.versions import EVALUATION_VERSION, problems_of, read_versioned

CUSTOM_TASK = "own"
"""What custom data are called, whose recipe says how answers are matched."""


HASH = "sha256"
"""Key of the hash of everything else in the file."""


def _label(text: str) -> str:
    """Refuse a name that would be more than a name in a table: Markdown, CSV and LaTeX have it."""
    if len(text) > MAX_NAME or not text[:1].isalnum() or "<" in text or has_control(text):
        raise ValueError(
            f"must begin with a letter or digit and be one line of at most {MAX_NAME} characters "
            "without <"
        )
    return text


Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]
Figure = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False, strict=True)]
Number = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
Count = Annotated[int, Field(ge=1, lt=2**63, strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Label = Annotated[str, AfterValidator(_label)]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share, 0 … 1, with the ends of its 95 % interval and how many it was taken over."""

    value: Share
    low: Share
    high: Share
    n: Count


@dataclass(frozen=True, slots=True)
class Sample:
    """One of several answers to a question: what came, what it cost, and how a scorer finds it."""

    is_correct: Flag
    answer: str = ""
    text: str = ""
    num_tokens: Number = 0
    num_thoughts: Number = 0
    num_passes: Number = 0
    is_finished: Flag = True
    score: Annotated[float, Field(allow_inf_nan=False)] | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One question: what was expected, what came, and what it cost.

    `chain_thoughts` are the thoughts that its own chain would take; None where that is not known.
    Where anything was drawn there are `samples`: the answer, its text and whether that is finished
    are then those of the sample that won the vote, and the three numbers are the sums of all. To
    compare results, `id` and `is_correct` are enough.
    """

    id: str
    is_correct: Flag
    gold: str = ""
    answer: str = ""
    text: str = ""
    num_tokens: Number = 0
    num_thoughts: Number = 0
    num_passes: Number = 0
    is_finished: Flag = True
    chain_thoughts: Number | None = None
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True)
class Questions:
    """The file of the questions, or its name on the hub."""

    sha256: str
    file: str = ""


@dataclass(frozen=True, slots=True)
class AtK:
    """What k samples of each question are worth, and what they cost (`samples.py`).

    Attributes:
        k: How many.
        pass_at_k: One of k is right; at all n samples this is the coverage.
        vote: The answer that most of k agree on is right.
        tokens: Words and thoughts of k samples, a mean over questions, as the next.
        passes: Sequential calls of the backbone, one sample after the other.
        best: The one of k with the highest score is right; None where there was no scorer.
    """

    k: Count
    pass_at_k: Estimate
    vote: Estimate
    tokens: Figure
    passes: Figure
    best: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Sampled:
    """How several answers to each question differed, and what they were worth.

    Attributes:
        num_samples: n.
        at: For k = 1, 2, 4, … n.
        noise: As `Perturbation` has it, and so the next two; None where it was not that.
        dropout: The share of the entries of the latent inputs that were set to zero.
        seed: Of the draws of noise or masks.
        temperature: As `Sampling` has it, and so the next three; None where words were greedy.
        top_p: The smallest set of words with this much probability.
        top_k: So many words at most.
        word_seed: Of the draws of words.
        scorer: The questions that the scorer was trained on (`scorer.py`); None where there is
            none.
    """

    num_samples: Count
    at: Annotated[tuple[AtK, ...], Field(min_length=1)]
    noise: Figure | None = None
    dropout: Share | None = None
    seed: int | None = None
    temperature: Figure | None = None
    top_p: Share | None = None
    top_k: Number | None = None
    word_seed: int | None = None
    scorer: Questions | None = None


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The checkpoint: where it lies, its update, and the updates of its whole run until then."""

    updates: Number
    update: Number = 0
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Evaluation:
    """The result of an evaluation, as `evals/*.json` holds it.

    Attributes:
        method: Name of the method.
        task: How answers were scored; `own` for custom data.
        stage: The stage of the checkpoint.
        last_stage: The last stage of its method and curriculum.
        accuracy: Right answers, with Wilson's interval; `n` is the number of questions.
        tokens_per_question: Words and continuous thoughts, without special tokens, pauses and end
            of text: the paper's count. A mean, as the next three.
        thoughts_per_question: Continuous thoughts.
        passes_per_question: Sequential calls of the backbone.
        seconds_per_question: Wall time of all divided by their number, `batch_size` at a time.
        batch_size: Questions side by side.
        share_stopped_with_chain: Share of questions with exactly as many thoughts as their chain
            would take; None where there are no thoughts, or no chains. With several samples, of
            all of them.
        sampled: What the samples of each question are worth; None where nothing was drawn. The
            accuracy is then that of the vote of all, and the means above are of all together.
        records: One a question.
        checkpoint: What was evaluated. It is in every file, as are the next two.
        data: On what.
        provenance: By what: commit, versions, machine, command, time.
        notes: What is to be known of the training: not finished, a stage that was not learned.
        format_version: Of the file that it was read from.
    """

    method: Label
    task: Label
    stage: Number = 0
    last_stage: Number = 0
    accuracy: Estimate
    tokens_per_question: Figure
    thoughts_per_question: Figure
    passes_per_question: Figure
    seconds_per_question: Figure
    batch_size: Count | None = None
    share_stopped_with_chain: Share | None = None
    sampled: Sampled | None = None
    records: tuple[Record, ...]
    checkpoint: Evaluated | None = None
    data: Questions | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    format_version: int = EVALUATION_VERSION

    def __repr__(self) -> str:
        """Return one line; the records are in `records`."""
        accuracy = self.accuracy
        return (
            f"Evaluation({self.method}: {percent(accuracy.value)} "
            f"({100 * accuracy.low:.1f} – {100 * accuracy.high:.1f}) of {accuracy.n:,} questions, "
            f"{self.tokens_per_question:.2f} tokens, {self.thoughts_per_question:.2f} thoughts)"
        )

    def _repr_html_(self) -> str:
        """Return the table that a notebook shows."""
        accuracy = self.accuracy
        interval = f"{100 * accuracy.low:.1f} – {100 * accuracy.high:.1f}"
        cells = {
            "method": self.method,
            "stage": f"{self.stage} of {self.last_stage}",
            "accuracy": percent(accuracy.value),
            "95 %": interval,
            "questions": f"{accuracy.n:,}",
            "tokens": f"{self.tokens_per_question:.2f}",
            "thoughts": f"{self.thoughts_per_question:.2f}",
            "passes": f"{self.passes_per_question:.2f}",
        }
        rows = ("".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts)
                for tag, texts in (("th", cells), ("td", cells.values())))  # fmt: skip
        return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"

    @classmethod
    def read(cls, path: Path, task: object = "prosqa") -> Self:
        """Read a result file.

        Args:
            path: The file.
            task: That of the recipe of its run: files of version 1 do not name it.

        Raises:
            FileNotFoundError: There is none.
            RunError: It is damaged or edited, no result of an evaluation, or of a newer latentcot.
        """
        values = read_versioned(path, EVALUATION_VERSION)
        written = values.pop(HASH, None)  # not in files of older versions
        if written is not None and written != hash_of(values):
            raise RunError(
                f"{path}: does not hold what was written there: its hash is another one. It was "
                "damaged or edited. Evaluate again."
            )
        version = values.setdefault("format_version", 1)
        try:
            found: Self = TypeAdapter(cls).validate_python(_upgraded(values, version, task))
        except ValidationError as error:
            reason = problems_of(error)
            raise RunError(f"{path}: is no result file of latentcot: {reason}.") from None
        # Files of older versions have no hash: their accuracy must be that of the records.
        num_right, accuracy = sum(one.is_correct for one in found.records), found.accuracy
        share, *ends = share_with_interval(num_right, max(1, len(found.records)))
        apart = [accuracy.value - share, accuracy.low - ends[0], accuracy.high - ends[1]]
        if accuracy.n != len(found.records) or max(map(abs, apart)) > 1e-6:
            raise RunError(
                f"{path}: its accuracy is not that of its records: {accuracy.value:.4f} "
                f"({accuracy.low:.4f} to {accuracy.high:.4f}) of {accuracy.n}, but {num_right} of "
                f"{len(found.records)} are right. It was damaged or edited. Evaluate again."
            )
        if version > 1:
            return found
        tokens = found.tokens_per_question + found.thoughts_per_question
        return replace(found, tokens_per_question=tokens)

    def write(self, path: Path) -> None:
        """Write it as JSON with its hash, whole or not at all; RunError where that fails."""
        values = self.values()
        write_json(path, values | {HASH: hash_of(values)})

    def values(self) -> dict[str, Any]:
        """Return it as plain values, as its file holds them."""
        return asdict(self) | {"format_version": EVALUATION_VERSION}

    def summary(self) -> dict[str, Any]:
        """Return everything but the records, as plain values."""
        values = self.values()
        del values["records"]
        return values

    @property
    def commit(self) -> str | None:
        """Of latentcot, `with changes` if it had been changed; None if unknown."""
        commit = self.provenance.get("commit")
        changes = ", with changes" if self.provenance.get("is_tree_dirty") else ""
        return f"{one_line(str(commit))}{changes}" if commit else None

    @property
    def machine(self) -> str | None:
        """On which it was evaluated; None if unknown."""
        machine = self.provenance.get("machine")
        return one_line(str(machine)) if machine else None


def _upgraded(values: Mapping[str, Any], version: int, task: object) -> dict[str, Any]:
    """Return what a file of an older version holds under today's keys."""
    new = dict(values)
    if version == 1:
        new.setdefault("task", task)
    if version < 3:
        keys = {"value": "accuracy", "low": "low", "high": "high", "n": "num_questions"}
        new["accuracy"] = {key: values[old] for key, old in keys.items() if old in values}
        checkpoint = values.get("checkpoint")
        if isinstance(checkpoint, dict) and "run_updates" in checkpoint:
            new["checkpoint"] = checkpoint | {"updates": checkpoint["run_updates"]}
    if isinstance(new.get("task"), dict):  # how answers are matched
        new["task"] = CUSTOM_TASK
    # A file has these two, though a result in memory need not: their keys are then asked for.
    return new | {name: new.get(name) or {} for name in ("checkpoint", "data")}
