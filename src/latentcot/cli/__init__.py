"""The command `latentcot`: one module for each subcommand."""

import errno
import os
import sys
from io import TextIOWrapper

from cyclopts import App, CycloptsError, Parameter

from latentcot.cli.analyze import analyze
from latentcot.cli.compare import compare
from latentcot.cli.convert import convert
from latentcot.cli.data import data
from latentcot.cli.evaluate import evaluate
from latentcot.cli.generate import generate
from latentcot.cli.list import list_
from latentcot.cli.make import make
from latentcot.cli.plan import plan
from latentcot.cli.play import play
from latentcot.cli.push import push
from latentcot.cli.quickstart import quickstart
from latentcot.cli.shared.mistakes import explained
from latentcot.cli.show import show
from latentcot.cli.study import study
from latentcot.cli.train import train
from latentcot.errors import LatentcotError, UsageError
from latentcot.utils.display import Terminal
from latentcot.utils.distributed import is_main, is_of_others, num_started
from latentcot.utils.parsing import one_line, shown

SHARED = ("train", "eval", "generate")
"""Commands that several processes do together."""

app = App(
    name="latentcot",
    help="Reasoning in continuous thoughts (Coconut, arXiv 2412.06769). "
    "Try it: latentcot generate quickstart",
    version_flags=["--version", "-V"],
    exit_on_error=False,  # `main` says what is wrong
    print_error=False,
    default_parameter=Parameter(
        negative_iterable=(), show_default=lambda value: str(value) if value else None
    ),
)
app.command(quickstart)
app.command(data)
app.command(train, synonym=("fit", "finetune", "fine-tune", "run"))
app.command(plan)
app.command(evaluate, name="eval", synonym=("evaluate", "test", "score"))
app.command(study, synonym=("sweep", "grid"))
app.command(compare)
app.command(analyze)
app.command(generate, synonym=("chat", "ask", "predict", "infer", "inference"))
app.command(play, synonym=("demo",))
app.command(convert, synonym=("export", "merge", "import"))
app.command(make)
app.command(push, synonym=("upload", "publish"))
app.command(show, synonym=("info", "inspect", "status"))
app.command(list_, name="list", synonym=("ls", "recipes", "methods", "tasks"))
app.register_install_completion_command(help="Let the shell complete commands and options.")


@app.command
def version() -> None:
    """Print the version, as --version does."""
    app.version_print()


def main() -> None:
    """Run the command line; our own errors end it with their message and exit code 2."""
    # Tokenizers work in batches of one process here; their warning about forks helps nobody.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Their bars for files of a few kilobytes would tear ours; read when transformers is imported.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if isinstance(sys.stdout, TextIOWrapper):  # a terminal may know few letters (LANG=C)
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _refuse_crowd()
        app()
    except CycloptsError as error:  # the line cannot be understood
        _end_with(f"UsageError: {explained(error)}")
    except LatentcotError as error:
        _end_with(f"{type(error).__name__}: {error}")
    except RuntimeError as error:
        if "can't start new thread" in str(error):
            _end_with(
                "the system lets this process start no more threads. Raise the limit (`ulimit -u`, "
                "or pids.max of the container), or end other processes; what was saved is whole."
            )
        if num_started() == 1 or not is_of_others(error):
            raise
        _end_with(
            "another process of this job has ended or cannot be reached, so this one ends too. "
            "What that one printed says why. `latentcot train … --resume` continues from the last "
            f"checkpoint. Seen from here: {one_line(str(error))}"
        )
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read along, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        _end_with(
            f"UsageError: {shown(str(error.filename), 80)}: no file or folder can have so long a "
            "name. A question goes behind the name of a model: `latentcot generate RUN QUESTION`."
        )


def _refuse_crowd() -> None:
    """Let no command be done several times at once, into the same files."""
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if num_started() > 1 and command in tuple(app) and command[0] != "-" and command not in SHARED:
        raise UsageError(
            f"latentcot {command}: is work for one process, and {num_started()} were started "
            "(WORLD_SIZE). Start it without torchrun or accelerate launch; several processes "
            f"share {', '.join(SHARED)}."
        )


def _end_with(message: str) -> None:
    """Print what went wrong, and in which process if there are several."""
    where = "" if is_main() else f"process {os.environ['RANK']}: "
    Terminal(stderr=True).print(f"{where}{message}", soft_wrap=True, highlight=False)
    sys.exit(2)
