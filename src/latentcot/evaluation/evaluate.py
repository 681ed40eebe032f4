"""Accuracy on a file of questions, with its interval, its cost and a record for every question."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from latentcot.curriculum.layout import EncodedExample, latents_of_chain
from latentcot.data.examples import Example
from latentcot.errors import UsageError
from latentcot.evaluation.reasoner import Output, Reasoner
from latentcot.evaluation.statistics import share_with_interval
from latentcot.tasks import Task, task_named
from latentcot.utils.versions import EVALUATION_VERSION


@dataclass(frozen=True, slots=True)
class Record:
    """One question: what was expected, what came, and what it cost.

    `chain_thoughts` are the thoughts that its own chain would take; None where that is not known.
    """

    id: str
    gold: str
    answer: str
    is_correct: bool
    text: str
    num_tokens: int
    num_thoughts: int
    num_passes: int
    is_finished: bool
    chain_thoughts: int | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of an evaluation, as `evals/*.json` holds it.

    Attributes:
        method: A row of the method table.
        task: How answers were scored; `own` for data of one's own.
        stage: The stage of the checkpoint.
        last_stage: The last stage of its method and curriculum.
        accuracy: Share of right answers, 0 … 1.
        low: Lower end of its 95 % interval (Wilson).
        high: Upper end.
        num_questions: Questions.
        tokens_per_question: Words and continuous thoughts, without special tokens, pauses and end
            of text: the paper's count.
        thoughts_per_question: Continuous thoughts.
        passes_per_question: Sequential calls of the backbone.
        seconds_per_question: Wall time of all divided by their number, `batch_size` at a time.
        batch_size: Questions side by side.
        share_stopped_with_chain: Share of questions with exactly as many thoughts as their chain
            would take; None where there are no thoughts, or no chains.
        records: One a question.
        schema_version: Of this form.
    """

    method: str
    task: str
    stage: int
    last_stage: int
    accuracy: float
    low: float
    high: float
    num_questions: int
    tokens_per_question: float
    thoughts_per_question: float
    passes_per_question: float
    seconds_per_question: float
    batch_size: int
    share_stopped_with_chain: float | None
    records: tuple[Record, ...]
    schema_version: int = EVALUATION_VERSION

    def summary(self) -> dict[str, Any]:
        """Return everything but the records."""
        values = asdict(self)
        del values["records"]
        return values


def evaluate(
    reasoner: Reasoner,
    examples: Sequence[Example],
    *,
    encoded: Sequence[EncodedExample] | None = None,
    num_thoughts: int | None = None,
    force_steps: bool = False,
    max_new_tokens: int | None = None,
    batch_size: int = 100,
    on_progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Let a reasoner answer examples, greedily, and score it by its task's rule.

    Args:
        reasoner: The model with its checkpoint's settings; nothing else is needed.
        examples: With gold answers.
        encoded: The same examples as token ids, where they are at hand.
        num_thoughts: This number of thoughts, instead of what was trained for.
        force_steps: Make every text begin with a step of the chain.
        max_new_tokens: Words at most; as in training if left out.
        batch_size: Questions at a time.
        on_progress: Called with the number of questions that have just been answered.
    """
    if not examples:
        raise UsageError("evaluate: needs at least one example, got none.")
    task = task_named(reasoner.info.task)
    encoded = reasoner.encode(examples) if encoded is None else encoded
    start = time.perf_counter()
    outputs = reasoner.answer(
        encoded,
        num_thoughts=num_thoughts,
        force_steps=force_steps,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        on_progress=on_progress,
    )
    seconds = time.perf_counter() - start
    records = tuple(
        _record(reasoner, task, example, output)
        for example, output in zip(examples, outputs, strict=True)
    )
    accuracy, low, high = share_with_interval(sum(r.is_correct for r in records), len(records))
    return Evaluation(
        method=reasoner.info.method_name,
        task=task.name,
        stage=reasoner.info.stage,
        last_stage=reasoner.method.stages(reasoner.info.plan)[-1],
        accuracy=accuracy,
        low=low,
        high=high,
        num_questions=len(records),
        tokens_per_question=fmean(r.num_tokens for r in records),
        thoughts_per_question=fmean(r.num_thoughts for r in records),
        passes_per_question=fmean(r.num_passes for r in records),
        seconds_per_question=seconds / len(records),
        batch_size=batch_size,
        share_stopped_with_chain=_share_stopped(records),
        records=records,
    )


def _record(reasoner: Reasoner, task: Task, example: Example, output: Output) -> Record:
    return Record(
        id=example.id,
        gold=example.answer,
        answer=output.answer,
        is_correct=task.is_correct(output.answer, example.answer),
        text=output.text,
        num_tokens=output.num_tokens,
        num_thoughts=output.num_thoughts,
        num_passes=output.num_passes,
        is_finished=output.is_finished,
        chain_thoughts=_chain_thoughts(reasoner, example),
    )


def _chain_thoughts(reasoner: Reasoner, example: Example) -> int | None:
    if not (reasoner.method.view.latents.is_thought and example.steps):
        return None
    return latents_of_chain(len(example.steps), reasoner.rules.plan)


def _share_stopped(records: Sequence[Record]) -> float | None:
    known = [record for record in records if record.chain_thoughts is not None]
    return fmean(r.num_thoughts == r.chain_thoughts for r in known) if known else None
