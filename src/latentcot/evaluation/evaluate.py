"""Let a model answer a file of questions: accuracy with its interval, cost, and every answer."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from statistics import fmean
from typing import Unpack

from latentcot.curriculum.layout import EncodedExample, count_latents, latents_of_chain
from latentcot.data.examples import Example
from latentcot.errors import UsageError
from latentcot.evaluation.reasoner import BATCH_SIZE, Options, Output, Reasoner
from latentcot.evaluation.results import Estimate, Evaluation, Record, Sample
from latentcot.evaluation.samples import sampled_of, vote
from latentcot.evaluation.scorer import Scorer
from latentcot.evaluation.statistics import share_with_interval
from latentcot.tasks import AnswerMatch, task_named
from latentcot.tasks.scoring import IsCorrect
from latentcot.thinking.decoding import Generation
from latentcot.utils.parsing import shown


def evaluate(
    reasoner: Reasoner,
    examples: Sequence[Example],
    *,
    encoded: Sequence[EncodedExample] | None = None,
    num_thoughts: int | None = None,
    match: AnswerMatch | None = None,
    scorer: Scorer | None = None,
    **options: Unpack[Options],
) -> Evaluation:
    """Let a reasoner answer examples, and score it by its task's rule.

    Greedily, if nothing else is said. Of several samples (`num_samples`) the vote of all is scored,
    and `sampled` holds what fewer are worth.

    Args:
        reasoner: The model with its checkpoint's settings; nothing else is needed.
        examples: With gold answers.
        encoded: The same examples as token ids, where they are at hand.
        num_thoughts: This number of thoughts, instead of what was trained for.
        match: When an answer counts as right, instead of the task's rule.
        scorer: Tells of several samples which is best (`scorer.train_scorer`).
        **options: How answers are written: see `reasoner.Options`.

    Raises:
        UsageError: There are no examples, or the samples would all be the same.
    """
    if not isinstance(reasoner, Reasoner):
        raise UsageError(
            f"evaluate: needs a Reasoner, as latentcot.load(RUN) gives it, got {shown(reasoner)}."
        )
    if not examples or not all(isinstance(example, Example) for example in examples):
        got = "none" if not examples else shown(examples)
        raise UsageError(
            f"evaluate: needs at least one example, as read_examples(file) gives them, got {got}."
        )
    info, task = reasoner.info, task_named(reasoner.info.task if match is None else match)
    encoded = reasoner.encode(examples) if encoded is None else encoded
    start = time.perf_counter()
    generations = options.get("generations")
    if generations is None:
        options["generations"] = generations = list[Generation]()
    outputs = reasoner.answer(encoded, num_thoughts=num_thoughts, **options)
    seconds = time.perf_counter() - start

    is_drawn = options.get("sampling") is not None or options.get("perturbation") is not None
    new = generations[len(generations) - len(outputs) :]
    scores = scorer.scores(new) if scorer else [None] * len(outputs)
    view, plan = reasoner.method.view, reasoner.rules.plan
    is_by_steps = view.latents.is_thought and view.num_latents is None and view.compression is None
    num_samples, records = len(outputs) // len(examples), list[Record]()
    for number, example in enumerate(examples):
        has_chain = is_by_steps and bool(example.steps)
        mine = slice(number * num_samples, (number + 1) * num_samples)
        record = replace(
            _record(example, outputs[mine], scores[mine], task.is_correct),
            chain_thoughts=latents_of_chain(len(example.steps), plan) if has_chain else None,
        )
        records.append(record if is_drawn else replace(record, samples=()))
    stopped = [
        one.num_thoughts == record.chain_thoughts
        for record in records
        if record.chain_thoughts is not None
        for one in record.samples or (record,)
    ]
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
        sampled=sampled_of(records, options, task.is_correct) if is_drawn else None,
        records=tuple(records),
        notes=_told_by_chains(reasoner, examples) if num_thoughts is None else (),
    )


def _told_by_chains(reasoner: Reasoner, examples: Sequence[Example]) -> tuple[str, ...]:
    """Say how many questions got a number of thoughts that their chains alone have told."""
    view, stage, plan = reasoner.method.view, reasoner.info.stage, reasoner.rules.plan
    if view.compression is not None or reasoner.stop_rule() is not None:
        return ()
    full = count_latents(view, stage, None, plan)
    count = sum(count_latents(view, stage, len(one.steps), plan) < full for one in examples)
    told = (
        f"{count:,} of {len(examples):,} questions got fewer than {full} latent positions, as many "
        f"as their chains have steps. A question alone tells no chain and gets {full}, as with "
        f"--num-thoughts {full} (docs/dev/footguns.md, The number of thoughts as an oracle)."
    )
    return (told,) if count else ()


def _record(
    example: Example,
    outputs: Sequence[Output],
    scores: Sequence[float | None],
    is_correct: IsCorrect,
) -> Record:
    """Return the record of one question: the sample that wins the vote, and the cost of all."""
    samples = tuple(
        Sample(is_correct(output.answer, example.answer), **asdict(output), score=score)
        for output, score in zip(outputs, scores, strict=True)
    )
    chosen = samples[vote([sample.answer for sample in samples], is_correct)]
    return Record(
        id=example.id,
        gold=example.answer,
        is_correct=chosen.is_correct,
        answer=chosen.answer,
        text=chosen.text,
        is_finished=chosen.is_finished,
        num_tokens=sum(sample.num_tokens for sample in samples),
        num_thoughts=sum(sample.num_thoughts for sample in samples),
        num_passes=sum(sample.num_passes for sample in samples),
        samples=samples,
    )
