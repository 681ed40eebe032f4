"""ProntoQA: true or false, by a chain of rules about fictional concepts (arXiv 2210.01240)."""

from latentcot.tasks.prontoqa.generator import ProntoqaOptions, make_splits, write_official
from latentcot.tasks.prontoqa.stats import prontoqa_stats
from latentcot.tasks.registry import Task

PRONTOQA = Task(
    name="prontoqa",
    summary="true or false, by a chain of rules about fictional concepts",
    stats=prontoqa_stats,
    is_told_by=lambda examples: (
        "query" in examples[0].meta or "True or false" in examples[0].question
    ),
    options=ProntoqaOptions,
    make=make_splits,
    sizes={"train": 9_000, "valid": 200, "test": 800},
    write=write_official,
    ending="json",
)
