"""`latentcot generate`: ask a trained model."""

import sys
from typing import Annotated

from cyclopts import Parameter

from latentcot.cli.shared.draws import Draws


def generate(
    checkpoint: str,
    /,
    *questions: str,
    num_thoughts: int | None = None,
    force_steps: Annotated[bool, Parameter(negative="")] = False,
    force_answer: Annotated[bool, Parameter(negative="")] = False,
    max_new_tokens: int | None = None,
    draws: Annotated[Draws, Parameter(name="*")] = Draws(),  # noqa: B008 - frozen
    as_json: Annotated[bool, Parameter("--json", negative="")] = False,
) -> None:
    """Let a model think about questions and answer them.

    With --num-samples n the n answers to a question are printed one after the other.

    Under torchrun or accelerate launch the processes share the questions.

    Args:
        checkpoint: A run (its best), a checkpoint folder, a hub id, or quickstart (packaged).
        questions: Texts; read from standard input, one a line, if left out. In a terminal: one that
            the model knows.
        num_thoughts: This number of thoughts instead of the trained one.
        force_steps: Write at least one step of the chain after the thoughts.
        force_answer: Answer straight after the thoughts, with no step of the chain.
        max_new_tokens: Tokens to write at most; as in training if left out.
        draws: How answers differ.
        as_json: Print one JSON object an answer.
    """
    from dataclasses import asdict

    from latentcot.errors import DataError
    from latentcot.utils.display import put, put_json, say
    from latentcot.utils.distributed import from_main, is_main, join
    from latentcot.utils.parsing import shown

    join()
    if not questions and sys.stdin.isatty():
        if (known := _known_question(checkpoint)) is None:
            say("Questions, one a line; Ctrl-D ends them.")
        else:
            say(f"No question was given. This is one of those that {checkpoint} knows: {known}")
            questions = (known,)
    try:
        texts = list(questions) or from_main(
            lambda: [line.strip() for line in sys.stdin if line.strip()]
        )
    except UnicodeDecodeError as error:
        raise DataError(f"generate: the questions are no UTF-8 text: {error}.") from None
    if not texts:
        raise DataError("generate: there is no question. Give them as arguments or one a line.")
    options = draws.options()
    reasoner = draws.load(checkpoint)
    try:
        outputs = reasoner.generate(
            texts,
            num_thoughts=num_thoughts,
            force_steps=force_steps,
            force_answer=force_answer,
            max_new_tokens=max_new_tokens,
            **options,
        )
    except DataError as error:  # a word that it does not know, or too many of them
        known = _known_question(checkpoint)
        hint = "" if known is None else f" A question that it knows: {shown(known, 600)}."
        raise DataError(f"{error}{hint}") from None
    if not is_main():
        return
    for number, output in enumerate(outputs):
        if as_json:
            question, sample = divmod(number, draws.num_samples)
            which = {"sample": sample + 1} if draws.num_samples > 1 else {}
            put_json({"question": texts[question], **which, **asdict(output)})
        else:
            put(output.text)  # a stranger's vocabulary may hold escapes


def _known_question(checkpoint: str) -> str | None:
    """Return a question of those that come with a checkpoint, or of its run's test file."""
    from latentcot.data.examples import read_examples
    from latentcot.errors import LatentcotError
    from latentcot.runs.folder import questions_beside, recipe_fields, recipe_test_file

    try:
        file = questions_beside(checkpoint) or recipe_test_file(checkpoint)
        return read_examples(file, 1, recipe_fields(checkpoint, str(file)))[0].question
    except LatentcotError:
        return None
