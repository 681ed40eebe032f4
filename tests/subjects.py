"""Untrained models with questions about graphs, in words and in symbols, for the analyses."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from latentcot.analysis.shared.subject import Subject
from latentcot.curriculum.layout import Template
from latentcot.data.examples import Example
from latentcot.evaluation.reasoner import Reasoner
from latentcot.methods import Plan
from latentcot.models.loading import make_from_scratch
from latentcot.models.settings import FromScratch
from latentcot.models.special_tokens import bpe_tokenizer, word_tokenizer
from latentcot.runs.checkpoint import CheckpointInfo
from latentcot.tasks.prosqa.generator import make_splits
from latentcot.tasks.prosqa.options import options_named


@cache
def graph_examples(form: str, count: int = 3) -> tuple[Example, ...]:
    """Questions about small graphs of several sizes, 2 or 3 hops deep; symbols have two digits."""
    options: dict[str, Any] = {"min_nodes": 9, "max_nodes": 14, "min_hops": 2, "max_hops": 3}
    if form == "symbols":
        options |= {"rendering": "symbols", "ids": "random", "num_symbols": 60}
    return tuple(make_splits(options_named("paper", **options), {"test": count}, seed=3)["test"])


def untrained(
    form: str = "words",
    tokenizer: str = "words",
    architecture: str = "gpt2",
    *,
    examples: Sequence[Example] | None = None,
    method: str = "coconut",
    thoughts_per_step: int = 1,
    num_positions: int = 512,
    batch_size: int = 100,
    zero_thoughts: Any = "both",
) -> Subject:
    """A model of large random weights, in double precision; its values depend on every token."""
    examples = graph_examples(form) if examples is None else examples
    template = Template()
    texts = [text for e in examples for text in (e.question, *e.steps, e.answer)]
    names = [name for e in examples for name in e.meta["idx_to_symbol"]]
    texts += [*names, "Every", template.answer_start, template.step_end]
    made = word_tokenizer(texts) if tokenizer == "words" else bpe_tokenizer(texts, 300)
    settings = FromScratch(
        architecture=architecture, hidden_size=16, num_heads=2, intermediate_size=24,
        init_std=0.5, num_positions=num_positions,
    )  # fmt: skip
    model = make_from_scratch(settings, made, seed=1).double().eval()
    has_latents = method not in ("cot", "no-cot")
    info = CheckpointInfo(
        method=method, task="prosqa", stage=2, plan=Plan(2, thoughts_per_step),
        num_thoughts=2 * thoughts_per_step * has_latents, zero_thoughts=zero_thoughts,
        template=template, max_new_tokens=12, update=0, seed=0,
    )  # fmt: skip
    reasoner = Reasoner(model, made, info)
    encoded = tuple(reasoner.encode(examples))
    return Subject(method, reasoner, tuple(examples), encoded, batch_size)
