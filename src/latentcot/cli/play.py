"""`latentcot play`: one HTML file in which a model thinks."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

QUICKSTART = ("quickstart", "quickstart-cot", "quickstart-pause")
"""What comes with the package: the model that thinks, and two to stand next to it."""
NUM_EXAMPLES = 2_000


def play(
    run: str = QUICKSTART[0],
    /,
    *,
    beside: Annotated[tuple[str, ...] | None, Parameter(negative="")] = None,
    data: str | None = None,
    out: Path = Path("play.html"),
    open_: Annotated[bool, Parameter("--open")] = True,
) -> None:
    """Write a page in which a model thinks: draw a graph, watch its thoughts, change them.

    The weights are in the page; it works offline and sends nothing. It is for small models made
    from scratch on questions about graphs in symbols.

    Args:
        run: A run of coconut (its best checkpoint), a checkpoint folder, or a hub id.
        beside: Another run that answers the same questions, such as that of cot; repeatable. For
            the packaged quickstart, its CoT and its pause control.
        data: Questions like those it was trained on. The page takes some to begin with, and what it
            warns of; the training file of the run's recipe if left out.
        out: The page.
        open_: Open it in a browser, where there is a screen.
    """
    import os
    import sys
    import webbrowser

    from latentcot.data.examples import read_examples
    from latentcot.errors import DataError, RunError
    from latentcot.evaluation.playable import play_data
    from latentcot.evaluation.reasoner import load
    from latentcot.pages import write_page
    from latentcot.runs.checkpoint_folders import SHIPPED
    from latentcot.runs.folder import read_run_recipe, recipe_fields, run_of
    from latentcot.runs.provenance import code_of, read_provenance
    from latentcot.studies.quickstart import make_examples
    from latentcot.utils.display import say
    from latentcot.utils.files import refuse_unwritable

    refuse_unwritable(out)
    is_shipped = run in QUICKSTART and not Path(run).exists()
    names = (run, *((QUICKSTART[1:] if is_shipped else ()) if beside is None else beside))
    reasoners = [load(name, device="cpu") for name in names]
    home = run_of(run)
    trained_on = (read_run_recipe(home).get("data") or {}) if home else {}
    source = data or trained_on.get("train")
    if source is None and not is_shipped:
        raise RunError(
            f"{run}: no recipe says what it was trained on. Give questions like those with --data."
        )
    # Of its own file no more than it was trained on.
    number = min(NUM_EXAMPLES, (None if data else trained_on.get("max_train")) or NUM_EXAMPLES)
    try:
        examples = (
            read_examples(source, number, recipe_fields(run, source))
            if source
            else make_examples(NUM_EXAMPLES)
        )
    except DataError as error:
        if data is not None:
            raise
        raise DataError(f"{error} {run} was trained on it; --data names other questions.") from None
    origins = {}
    for name, reasoner in zip(names, reasoners, strict=True):
        info, place = reasoner.info, run_of(name) or Path(name)
        origin = read_provenance(place if place.exists() else SHIPPED / name)
        told = [f"{info.update:,} updates", f"seed {info.seed}", code_of(origin)]
        told.append(str(origin.get("time", ""))[:10])
        origins[f"{info.method_name} ({name})"] = ", ".join(one for one in told if one)
    page = play_data(reasoners, examples, origins)
    write_page(out, "play", page)
    size, dtype = out.stat().st_size / 1e6, page["models"][0]["weights"]["dtype"]
    say(f"{out}: {size:.1f} MB, with {', '.join(names)}; weights in {dtype}.")
    has_screen = sys.platform in ("darwin", "win32")
    has_screen |= bool({"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ))
    if open_ and has_screen:
        webbrowser.open(out.absolute().as_uri())
