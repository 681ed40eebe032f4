"""`latentcot generate`: ask a trained model."""

import sys
from typing import Annotated

from cyclopts import Parameter


def generate(
    checkpoint: str,
    *questions: str,
    num_thoughts: int | None = None,
    force_steps: Annotated[bool, Parameter(negative="")] = False,
    max_new_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float = 1.0,
    top_k: int = 0,
    seed: int = 0,
    as_json: Annotated[bool, Parameter("--json", negative="")] = False,
) -> None:
    """Let a model think about questions and answer them.

    Under torchrun or accelerate launch the processes share the questions.

    Args:
        checkpoint: A run (its best), a checkpoint folder, a hub id, or quickstart (comes along).
        questions: Texts; read from standard input, one a line, if left out.
        num_thoughts: This number of thoughts, instead of what the checkpoint was trained for.
        force_steps: Make it write at least one step of its chain behind the thoughts.
        max_new_tokens: Words at most; as in training if left out.
        temperature: Draw words with this temperature instead of decoding greedily.
        top_p: With --temperature: keep the smallest set of words with this much probability.
        top_k: With --temperature: keep this many words at most.
        seed: With --temperature: of the draws.
        as_json: Print one JSON object a question.
    """
    from dataclasses import asdict

    from latentcot.errors import DataError, UsageError
    from latentcot.evaluation.reasoner import load
    from latentcot.thinking.decoding import Sampling
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
    if temperature is None and (top_p, top_k) != (1.0, 0):
        raise UsageError("--top-p and --top-k need --temperature: without it decoding is greedy.")
    sampling = None
    if temperature is not None:
        sampling = Sampling(temperature=temperature, top_p=top_p, top_k=top_k, seed=seed)
    outputs = load(checkpoint).generate(
        texts,
        num_thoughts=num_thoughts,
        force_steps=force_steps,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
    )
    if not is_main():
        return
    for question, output in zip(texts, outputs, strict=True):
        if as_json:
            put_json({"question": question, **asdict(output)})
        else:
            put(output.text)  # a stranger's vocabulary may hold escapes
