"""The way of a question from the command line to the tensor: which files does it pass?

    python dev/way.py                                      # this checkout
    PYTHONPATH=../other-checkout/src python dev/way.py     # another one

Runs `latentcot generate quickstart QUESTION` in this process and watches every call until the model
reads its first token: a file counts when a function of it is given the question, as text, as token
ids, laid out or padded, or stands on the stack when the model is called.
"""

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from torch.nn.modules.module import register_module_forward_pre_hook

import latentcot
from latentcot.cli import main

TOP = Path(latentcot.__file__).parent
CARRIERS = {"EncodedExample", "Layout", "Batch", "Batches", "Example"}


def carries(value: Any, question: str, depth: int = 0) -> bool:
    """Return whether a value is the question, in whatever form."""
    if isinstance(value, str):
        return question in value
    if type(value).__name__ in CARRIERS:
        return True
    if isinstance(value, list | tuple) and depth < 2:
        return any(carries(item, question, depth + 1) for item in value[:3])
    return False


def stack_of(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield a frame and all that called it."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def files_passed(question: str) -> list[str]:
    """Return the files, in the order in which they were first passed."""
    passed: dict[str, None] = {}

    def note(frame: FrameType) -> None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(TOP):
            passed.setdefault(str(path.relative_to(TOP)), None)

    def on_call(frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and "latentcot" in code.co_filename:
            names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            if any(carries(frame.f_locals.get(name), question) for name in names):
                note(frame)

    def on_forward(module: Any, inputs: Any) -> None:
        frames = list(stack_of(sys._getframe()))
        is_answering = not any(frame.f_code.co_name == "load_checkpoint" for frame in frames)
        if is_answering and type(module).__name__.endswith("Model"):
            sys.setprofile(None)
            for frame in frames:
                note(frame)
            raise SystemExit

    sys.argv = ["latentcot", "generate", "quickstart", question]
    handle = register_module_forward_pre_hook(on_forward)
    sys.setprofile(on_call)
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main()
    sys.setprofile(None)
    handle.remove()
    return list(passed)


if __name__ == "__main__":
    vocabulary = latentcot.load("quickstart").tokenizer.get_vocab()
    words = sorted(word for word in vocabulary if word.isalnum())
    files = files_passed(" ".join(words[:4]))
    print(f"{len(files)} files:", *files, sep="\n  ")
