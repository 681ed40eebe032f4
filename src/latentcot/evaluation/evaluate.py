"""Let a model answer a file of questions: accuracy with its interval, cost, and every answer."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Unpack

from latentcot.curriculum.layout import EncodedExample, latents_of_chain
from latentcot.data.examples import Example
from latentcot.errors import UsageError
from latentcot.evaluation.reasoner import BATCH_SIZE, Options, Reasoner
from latentcot.evaluation.results import Estimate, Evaluation, Record
from latentcot.evaluation.statistics import share_with_interval
from latentcot.tasks import AnswerMatch, task_named
from latentcot.utils.parsing import shown


def evaluate(
    reasoner: Reasoner,
    examples: Sequence[Example],
    *,
    encoded: Sequence[EncodedExample] | None = None,
    num_thoughts: int | None = None,
    match: AnswerMatch | None = None,
    **options: Unpack[Options],
) -> Evaluation:
    """Let a reasoner answer examples, greedily, and score it by its task's rule.

    Args:
        reasoner: The model with its checkpoint's settings; nothing else is needed.
        examples: With gold answers.
        encoded: The same examples as token ids, where they are at hand.
        num_thoughts: This number of thoughts, instead of what was trained for.
        match: When an answer counts as right, instead of the task's rule.
        **options: How answers are written: see `reasoner.Options`.

    Raises:
        UsageError: There are no examples.
    """
    if not examples or not all(isinstance(example, Example) for example in examples):
        got = "none" if not examples else shown(examples)
        raise UsageError(
            f"evaluate: needs at least one example, as read_examples(file) gives them, got {got}."
        )
    info, task = reasoner.info, task_named(reasoner.info.task if match is None else match)
    encoded = reasoner.encode(examples) if encoded is None else encoded
    start = time.perf_counter()
    outputs = reasoner.answer(encoded, num_thoughts=num_thoughts, **options)
    seconds = time.perf_counter() - start

    has_thoughts, plan = reasoner.method.view.latents.is_thought, reasoner.rules.plan
    records = []
    for example, output in zip(examples, outputs, strict=True):
        has_chain = has_thoughts and bool(example.steps)
        records.append(
            Record(
                id=example.id,
                gold=example.answer,
                is_correct=task.is_correct(output.answer, example.answer),
                chain_thoughts=latents_of_chain(len(example.steps), plan) if has_chain else None,
                **asdict(output),
            )
        )
    stopped = [r.num_thoughts == r.chain_thoughts for r in records if r.chain_thoughts is not None]
    num_right, num_all = sum(record.is_correct for record in records), len(records)
    return Evaluation(
        method=info.method_name,
        task=task.name,
        stage=info.stage,
        last_stage=reasoner.method.stages(info.plan)[-1],
        accuracy=Estimate(*share_with_interval(num_right, num_all), num_all),
        tokens_per_question=fmean(record.num_tokens for record in records),
        thoughts_per_question=fmean(record.num_thoughts for record in records),
        passes_per_question=fmean(record.num_passes for record in records),
        seconds_per_question=seconds / num_all,
        batch_size=options.get("batch_size", BATCH_SIZE),
        share_stopped_with_chain=fmean(stopped) if stopped else None,
        records=tuple(records),
    )
