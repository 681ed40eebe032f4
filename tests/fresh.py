"""Questions of any task with models made fresh, for analyses of states: thoughts, pauses, none.

Their weights are random and large: what they say is of no use, but depends on every token.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch

from latentcot.analysis.shared.subject import Subject
from latentcot.curriculum.layout import Template
from latentcot.data.examples import Example
from latentcot.evaluation.reasoner import Reasoner
from latentcot.methods import Plan
from latentcot.models.loading import make_from_scratch
from latentcot.models.settings import FromScratch
from latentcot.models.special_tokens import bpe_tokenizer, install_special_tokens, word_tokenizer
from latentcot.runs.checkpoint import CheckpointInfo
from latentcot.tasks.prosqa.generator import make_splits
from latentcot.tasks.prosqa.options import options_named


def prosqa(preset: str, count: int, **options: Any) -> list[Example]:
    """Return questions with graphs, always the same."""
    return make_splits(options_named(preset, **options), {"test": count}, seed=0)["test"]


def fresh_subject(
    examples: Sequence[Example],
    *,
    method: str = "coconut",
    tokenizer: str = "words",
    task: str = "prosqa",
    num_stages: int = 2,
    plan: Plan | None = None,
    vocabulary_size: int = 400,
    **model: Any,
) -> Subject:
    """Return these questions with a model that was never trained."""
    template = Template()
    texts = [*asdict(template).values(), "<< a"]
    texts += [text for e in examples for text in (e.question, *e.steps, e.answer)]
    known = word_tokenizer(texts) if tokenizer == "words" else bpe_tokenizer(texts, vocabulary_size)
    values = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "init_std": 0.5} | model
    made = make_from_scratch(FromScratch(**values), known, seed=1).eval()
    install_special_tokens(known, made, "a")
    plan = plan or Plan(num_stages)
    info = CheckpointInfo(
        method=method,
        task=task,
        stage=plan.num_stages,
        plan=plan,
        num_thoughts=plan.num_stages * plan.thoughts_per_step,
        zero_thoughts="both",
        template=template,
        max_new_tokens=4,
        update=0,
        seed=0,
    )
    return subject_of(Reasoner(made, known, info), examples)


def subject_of(reasoner: Reasoner, examples: Sequence[Example], batch_size: int = 3) -> Subject:
    """Return these questions with this model."""
    encoded = tuple(reasoner.encode(examples))
    return Subject(reasoner.info.method, reasoner, tuple(examples), encoded, batch_size)


def with_info(subject: Subject, **changes: Any) -> Subject:
    """Return the same weights under another method, stage or plan."""
    old = subject.reasoner
    changed = Reasoner(old.model, old.tokenizer, replace(old.info, **changes))
    return subject_of(changed, subject.examples, subject.batch_size)


def untie(subject: Subject) -> None:
    """Give the model an output head of its own, random, with a bias."""
    model = subject.reasoner.model
    embeddings = model.get_input_embeddings().weight
    head = torch.nn.Linear(embeddings.shape[1], embeddings.shape[0])
    torch.nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(2))
    torch.nn.init.normal_(head.bias, generator=torch.Generator().manual_seed(3))
    model.set_output_embeddings(head)


def is_plain(value: Any) -> bool:
    """Return whether a result holds plain values only, and no NaN."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(one) for key, one in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    if type(value) is float:
        return abs(value) < float("inf")
    return value is None or type(value) in (str, int, bool)


def alike(one, other):
    """Compare two results; sums over other batches may be rounded otherwise."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float):
        return one == pytest.approx(other, abs=2e-4)
    return one == other
