"""`latentcot generate`: ask a trained model."""

import sys
from typing import Annotated

from cyclopts import Parameter

from latentcot.cli.shared.draws import Draws


def generate(
    checkpoint: str,
    *questions: str,
    num_thoughts: int | None = None,
    rate: int | None = None,
    force_steps: Annotated[bool, Parameter(negative="")] = False,
    max_new_tokens: int | None = None,
    draws: Annotated[Draws, Parameter(name="*")] = Draws(),  # noqa: B008 - frozen
    as_json: Annotated[bool, Parameter("--json", negative="")] = False,
) -> None:
    """Let a model think about questions and answer them.

    With --num-samples n the n answers to a question are printed one after the other.

    Under torchrun or accelerate launch the processes share the questions.

    Args:
        checkpoint: A run (its best), a checkpoint folder, a hub id, or quickstart (comes along).
        questions: Texts; read from standard input, one a line, if left out.
        num_thoughts: This number of thoughts, instead of what the checkpoint was trained for.
        rate: Tokens of a chain that each thought stands for, where the method compresses (colar).
        force_steps: Make it write at least one step of its chain behind the thoughts.
        max_new_tokens: Words at most; as in training if left out.
        draws: How answers differ.
        as_json: Print one JSON object an answer.
    """
    from dataclasses import asdict

    from latentcot.errors import DataError
    from latentcot.evaluation.reasoner import load
    from latentcot.utils.display import put, put_json
    from latentcot.utils.distributed import from_main, is_main, join

    join()
    try:
        texts = list(questions) or from_main(
            lambda: [line.strip() for line in sys.stdin if line.strip()]
        )
    except UnicodeDecodeError as error:
        raise DataError(f"generate: the questions are no UTF-8 text: {error}.") from None
    if not texts:
        raise DataError("generate: there is no question. Give them as arguments or one a line.")
    options = draws.options()
    reasoner = load(checkpoint)
    if rate is not None:
        reasoner.use_rate(rate)
    outputs = reasoner.generate(
        texts,
        num_thoughts=num_thoughts,
        force_steps=force_steps,
        max_new_tokens=max_new_tokens,
        **options,
    )
    if not is_main():
        return
    for number, output in enumerate(outputs):
        if as_json:
            question, sample = divmod(number, draws.num_samples)
            which = {"sample": sample + 1} if draws.num_samples > 1 else {}
            put_json({"question": texts[question], **which, **asdict(output)})
        else:
            put(output.text)  # a stranger's vocabulary may hold escapes
