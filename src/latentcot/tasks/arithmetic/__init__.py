"""Word problems whose answer is a number: GSM8k(-Aug), and a stand-in that is made offline."""

from latentcot.tasks.arithmetic.generator import make_splits, write_icot
from latentcot.tasks.arithmetic.problems import ArithmeticOptions
from latentcot.tasks.arithmetic.stats import arithmetic_stats
from latentcot.tasks.registry import Task
from latentcot.tasks.scoring import same_without_commas

GSM8K = Task(
    name="gsm8k",
    summary="word problems whose answer is a number",
    is_correct=same_without_commas,
    stats=arithmetic_stats,
    is_told_by=lambda examples: any(
        step.startswith("<<") for example in examples[:100] for step in example.steps
    ),
)
ARITHMETIC = Task(
    name="arithmetic",
    summary="word problems from templates in the form of GSM8k-Aug, a stand-in offline",
    is_correct=same_without_commas,
    stats=arithmetic_stats,
    options=ArithmeticOptions,
    make=make_splits,
    sizes={"train": 100_000, "valid": 500, "test": 1_319},
    write=write_icot,
    ending="txt",
)
