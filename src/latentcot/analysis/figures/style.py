"""What all figures share: a column's width, letters that stay legible there, and safe colours."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from latentcot.utils.files import written_whole

COLUMN = 3.3
"""Width of a column of a paper, in inches; twice as much spans both."""

# Okabe and Ito's colours, which stay apart for colour-blind readers.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#767676"
COLOURS: Sequence[str] = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, BLACK, YELLOW)
MARKERS: Sequence[str] = ("o", "s", "^", "D", "v", "P", "X", "*")
"""Colour is never the only difference."""

_STYLE: Any = {
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,  # letters stay letters
}


@contextmanager
def figure(width: float = COLUMN, height: float = 2.3) -> Iterator[Figure]:
    """Yield an empty figure of so many inches; what is drawn within has the shared style."""
    with mpl.rc_context(_STYLE):
        yield Figure(figsize=(width, height))


def save(drawn: Figure, path: Path, note: str = "") -> None:
    """Write a figure as PNG and as PDF, whatever the suffix of `path`.

    Args:
        drawn: The figure.
        path: Where it goes.
        note: Stands beside it: what was measured, and on how many questions.

    Raises:
        RunError: It cannot be written.
    """
    options: Any = {"bbox_inches": "tight", "pad_inches": 0.02}
    with mpl.rc_context(_STYLE):
        # At the side, since legends stand above and below; the layout is settled before.
        drawn.draw_without_rendering()
        drawn.set_layout_engine("none")
        drawn.text(1.01, 0.0, note, fontsize=5.5, color=GREY, rotation=90, va="bottom")
        for suffix, more in (
            (".png", {"dpi": 300}),
            (".pdf", {"metadata": {"CreationDate": None}}),
        ):
            with written_whole(path.with_suffix(suffix), "wb") as file:
                drawn.savefig(file, format=suffix[1:], **options, **more)
