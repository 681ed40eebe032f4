"""What all figures share: a column's width, legible letters, safe colours, intervals, legends."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from latentcot.utils.files import written_whole

Row = Mapping[str, Any]

COLUMN = 3.3
"""Width of a column of a paper, in inches; twice as much spans both."""

# Okabe and Ito's colours, which stay apart for colour-blind readers.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#767676"
COLOURS: Sequence[str] = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, BLACK, YELLOW)
MARKERS: Sequence[str] = ("o", "s", "^", "D", "v", "P", "X", "*")
"""Colour is never the only difference."""

GROUPS = {
    "optimal": ("frontier, shortest path", BLUE, "o", ""),
    "off_path": ("frontier, elsewhere", SKY, "s", "...."),
    "passed": ("passed", ORANGE, "^", "////"),
    "not_yet": ("not yet reached", GREEN, "D", "xxxx"),
    "unreachable": ("unreachable", VERMILION, "v", "\\\\\\\\"),
}
"""Group of nodes or edges (`node_groups.py`) → its words, colour, marker and hatch."""

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


def save(drawn: Figure, path: Path, note: str = "", *, as_pdf: bool = True) -> None:
    """Write a figure as PNG and as PDF, whatever the suffix of `path`, with a note at its side.

    Args:
        drawn: What `figure` gave.
        path: Its suffix is replaced.
        note: At the right, from below.
        as_pdf: Whether there is a PDF beside the PNG; pages need none.

    Raises:
        RunError: It cannot be written.
    """
    options: Any = {"bbox_inches": "tight", "pad_inches": 0.02}
    with mpl.rc_context(_STYLE):
        # At the side, since legends stand above and below; the layout is settled before.
        drawn.draw_without_rendering()
        drawn.set_layout_engine("none")
        drawn.text(1.01, 0.0, note, fontsize=5.5, color=GREY, rotation=90, va="bottom")
        kinds: dict[str, Any] = {".png": {"dpi": 300}}
        if as_pdf:
            kinds[".pdf"] = {"metadata": {"CreationDate": None}}
        for suffix, more in kinds.items():
            with written_whole(path.with_suffix(suffix), "wb") as file:
                drawn.savefig(file, format=suffix[1:], **options, **more)


def look_of(number: int) -> dict[str, Any]:
    """Return the colour and the marker of a line, by its number, as `points` takes them."""
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    return {"fmt": f"-{marker}", "color": colour, "elinewidth": 0.8}


def errors(rows: Sequence[Row], name: str, ends: str | None = None) -> list[list[float]]:
    """Return how far intervals reach below and above their means; 0 where there are none.

    `name` is the key of the means, `ends` what stands before `low` and `high` in those of the ends
    (`{name}_` if left out).
    """
    ends = f"{name}_" if ends is None else ends
    found = [(row[name], row[f"{ends}low"], row[f"{ends}high"]) for row in rows]
    # Rounded ends of an interval may lie a millionth on the wrong side.
    return [
        [0.0 if low is None else max(0.0, mean - low) for mean, low, _ in found],
        [0.0 if high is None else max(0.0, high - mean) for mean, _, high in found],
    ]


def points(
    axes: Axes,
    at: Sequence[float],
    rows: Sequence[Row],
    name: str,
    *,
    ends: str | None = None,
    is_sideways: bool = False,
    **look: Any,
) -> None:
    """Draw a measure of rows at some places, one a row, with intervals (`errors`).

    With `is_sideways` the places are heights, and the measure goes to the right.
    """
    means, reach = [row[name] for row in rows], errors(rows, name, ends)
    if is_sideways:
        axes.errorbar(means, at, xerr=reach, **look)
    else:
        axes.errorbar(at, means, yerr=reach, **look)


def draw_groups(axes: Axes, rows: Sequence[Row], place: str, name: str) -> None:
    """Draw a measure of each of GROUPS over places (thoughts, or columns), side by side."""
    for number, (group, (label, colour, marker, _)) in enumerate(GROUPS.items()):
        chosen = [row for row in rows if row["group"] == group]
        shift = 0.09 * (number - 2)  # marks on top of each other could not be told apart
        look: Any = {"color": colour, "marker": marker, "linewidth": 0.7, "capsize": 1.5}
        points(axes, [row[place] + shift for row in chosen], chosen, name, label=label, **look)
    axes.set_xticks(sorted({row[place] for row in rows}))


def draw_uniform(axes: Axes, rows: Sequence[Row], place: str, name: str, label: str) -> None:
    """Draw what even shares would give: a dashed step at each place."""
    levels = {row[place]: row[name] for row in rows}
    look: Any = {"color": GREY, "linestyle": "--", "linewidth": 0.9}
    for number, (at, level) in enumerate(sorted(levels.items())):
        named = label if number == 0 else None
        axes.plot([at - 0.35, at + 0.35], [level, level], label=named, **look)


def panel_grid(fig: Figure, count: int, across: int, xlabel: str) -> list[Axes]:
    """Return panels with common axes, so many across; what lies below each is labelled once."""
    across = min(count, across)
    grid = fig.subplots(ceil(count / across), across, sharex=True, sharey=True, squeeze=False)
    panels: list[Axes] = list(grid.flat)
    for panel in panels[count:]:
        panel.set_visible(False)
    for number, panel in enumerate(panels[:count]):
        if number + across >= count:  # nothing is below it
            panel.set_xlabel(xlabel)
            panel.tick_params(labelbottom=True)
    return panels[:count]


def legend(fig: Figure, panels: Iterable[Axes], ncols: int, side: str = "lower") -> None:
    """Write beside a figure what its panels show, each once, above (`upper`) or below it."""
    found: dict[str, Any] = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        found.update(zip(labels, handles, strict=True))
    where: Any = f"outside {side} center"
    fig.legend(list(found.values()), list(found), loc=where, ncols=ncols)


def percents(axis: Any) -> None:
    """Write the shares along an axis in percent."""
    axis.set_major_formatter(PercentFormatter(1))


def thought_axis(axes: Axes, num_thoughts: int) -> None:
    """Name thoughts along the x-axis, and behind them the state at the last latent position."""
    names = [*map(str, range(1, num_thoughts + 1)), "at the\nlast"]
    axes.set_xticks(range(1, num_thoughts + 2), names)
    axes.set_xlim(0.7, num_thoughts + 1.3)
