"""ProsQA: paths in a graph of concepts (arXiv 2412.06769), in words or in symbols."""

from latentcot.tasks.prosqa.generator import graph_of, make_splits
from latentcot.tasks.prosqa.options import PRESETS, ProsqaOptions
from latentcot.tasks.prosqa.stats import graph_stats
from latentcot.tasks.registry import Task

PROSQA = Task(
    name="prosqa",
    summary="paths in a graph of concepts, in words or in symbols",
    stats=graph_stats,
    is_told_by=lambda examples: "edges" in examples[0].meta,
    graph_of=graph_of,
    options=ProsqaOptions,
    make=make_splits,
    presets=PRESETS,
    sizes={"train": 17_886, "valid": 300, "test": 500},
)
