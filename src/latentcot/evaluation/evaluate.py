"""Let a model answer a file of questions: accuracy with its interval, cost, and every answer."""

import time
from collections.abc import Callable, Sequence
from statistics import fmean

from latentcot.curriculum.layout import EncodedExample, latents_of_chain
from latentcot.data.examples import Example
from latentcot.errors import UsageError
from latentcot.evaluation.reasoner import Reasoner
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
    force_steps: bool = False,
    max_new_tokens: int | None = None,
    batch_size: int = 100,
    match: AnswerMatch | None = None,
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
        match: When an answer counts as right, instead of the task's rule.
        on_progress: Called with the number of questions that have just been answered.

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
    outputs = reasoner.answer(
        encoded,
        num_thoughts=num_thoughts,
        force_steps=force_steps,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        on_progress=on_progress,
    )
    seconds = time.perf_counter() - start

    has_thoughts, plan = reasoner.method.view.latents.is_thought, reasoner.rules.plan
    records = tuple(
        Record(
            id=example.id,
            gold=example.answer,
            answer=output.answer,
            is_correct=task.is_correct(output.answer, example.answer),
            text=output.text,
            num_tokens=output.num_tokens,
            num_thoughts=output.num_thoughts,
            num_passes=output.num_passes,
            is_finished=output.is_finished,
            chain_thoughts=(
                latents_of_chain(len(example.steps), plan)
                if has_thoughts and example.steps
                else None
            ),
        )
        for example, output in zip(examples, outputs, strict=True)
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
        batch_size=batch_size,
        share_stopped_with_chain=fmean(stopped) if stopped else None,
        records=records,
    )
