"""One question twice: its graph with the values after k and after k + 1 thoughts.

The root is on top and every node as far below it as it is away from it. Of the nodes that cannot be
reached from the root only the distractor is drawn, and those with a value worth seeing, beside the
others and without their edges.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from latentcot.analysis.figures.style import BLACK, BLUE, COLUMN, GREEN, GREY, VERMILION, figure

WORTH_SEEING = 0.02
"""Value from which a node that cannot be reached is drawn."""

MOST_COLUMNS = 6.7
"""Nodes side by side for which there is room in half the width."""

_SHADES = "Blues"  # light to dark, in order also without colours
_MIDDLE = 0.55  # letters are white on what is darker
_HALF_WIDTH, _HALF_HEIGHT = 0.45, 0.27

Case = Mapping[str, Any]


def draw(case: Case) -> Figure:
    """Draw a case; `case` is that part of `tree.json`."""
    plan = _plan(case)
    is_wide = plan.right > MOST_COLUMNS  # too many for two panels side by side
    height = 0.9 + 0.62 * plan.num_layers
    with figure(2 * COLUMN, 2 * height if is_wide else height) as drawn:
        panels = drawn.subplots(2, 1) if is_wide else drawn.subplots(1, 2)
        for axes, state in zip(panels, case["states"], strict=True):
            _draw_state(axes, case, plan, state)
            axes.set_title(_title(state, 100 if is_wide else 50))
        shades = mpl.cm.ScalarMappable(Normalize(0, 1), _SHADES)
        drawn.supxlabel(_note(plan), fontsize=6.5)
        bar = drawn.colorbar(
            shades, ax=list(panels), shrink=0.4 if is_wide else 0.8, aspect=25, pad=0.01
        )
        bar.set_label("value")
        bar.outline.set_linewidth(0.4)
        return drawn


def rows(case: Case) -> list[dict[str, Any]]:
    """Return a row for each node: what it is, and its value after each number of thoughts."""
    depths = _depths(case)
    return [
        {
            "question": case["id"],
            "node": node,
            "name": name,
            "depth": depths.get(node, ""),
            "role": _role(case, node),
            "parents": " ".join(case["nodes"][a] for a, b in case["edges"] if b == node),
            **{f"value after {state['k']}": state["values"][node] for state in case["states"]},
        }
        for node, name in enumerate(case["nodes"])
    ]


# --- where nodes stand ------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """Where each drawn node stands: x to the right, y downwards in layers.

    Attributes:
        places: Node → (x, y).
        reached: The nodes that the root reaches; they are left of `width`.
        width: Of the widest layer.
        num_layers: Of the reached nodes.
        num_left_out: Nodes that are not drawn.
    """

    places: Mapping[int, tuple[float, float]]
    reached: Set[int]
    width: float
    num_layers: int
    num_left_out: int

    @property
    def right(self) -> float:
        """Where the last node on the right ends."""
        return max(x for x, _ in self.places.values()) + 0.5


def _plan(case: Case) -> Plan:
    """Place the nodes: layers by distance, in an order that crosses few edges."""
    depths = _depths(case)
    beside = _beside(case, depths)
    layers = defaultdict[int, list[int]](list)
    for node, depth in depths.items():
        layers[depth].append(node)
    order = _ordered([layers[depth] for depth in sorted(layers)], case["edges"])
    width = max(map(len, order))
    places = {
        node: ((i + 0.5) * width / len(layer), float(depth))
        for depth, layer in enumerate(order)
        for i, node in enumerate(layer)
    }
    for i, node in enumerate(beside):  # the last one at the bottom, the others above it
        row = len(order) - 1 - i % len(order)
        places[node] = (width + 0.6 + i // len(order), float(row))
    return Plan(places, depths.keys(), width, len(order), len(case["nodes"]) - len(places))


def _depths(case: Case) -> dict[int, int]:
    """Return the distance of each node that can be reached from the root."""
    found = {case["root"]: 0}
    queue = [case["root"]]
    for node in queue:  # grows while it is read: breadth first
        for parent, child in case["edges"]:
            if parent == node and child not in found:
                found[child] = found[node] + 1
                queue.append(child)
    return found


def _beside(case: Case, depths: Mapping[int, int]) -> list[int]:
    """Return the unreachable nodes that are drawn: the distractor, then by value."""
    highest = [max(values) for values in zip(*(s["values"] for s in case["states"]), strict=True)]
    others = [
        node
        for node in sorted(range(len(highest)), key=lambda node: -highest[node])
        if node not in depths and node != case["neg_target"] and highest[node] >= WORTH_SEEING
    ]
    return others if case["neg_target"] in depths else [case["neg_target"], *others]


def _ordered(layers: list[list[int]], edges: Sequence[Sequence[int]]) -> list[list[int]]:
    """Sort each layer by the mean place of a node's parents, then of its children, some times."""
    for above_first in (True, False) * 4:
        at = {node: (i + 0.5) / len(layer) for layer in layers for i, node in enumerate(layer)}
        for layer in layers if above_first else reversed(layers):
            near = {
                node: [
                    at[a if b == node else b]
                    for a, b in edges
                    if (b if above_first else a) == node and a in at and b in at
                ]
                for node in layer
            }
            layer.sort(key=lambda n: sum(near[n]) / len(near[n]) if near[n] else at[n])
            at.update({node: (i + 0.5) / len(layer) for i, node in enumerate(layer)})
    return layers


# --- drawing ----------------------------------------------------------------------------------


def _draw_state(axes: Axes, case: Case, plan: Plan, state: Mapping[str, Any]) -> None:
    for parent, child in case["edges"]:
        if parent in plan.reached and child in plan.reached:
            _draw_edge(axes, plan, parent, child)
    for node in plan.places:
        _draw_node(axes, case, plan, state, node)
    layer = state["depth"]
    band = layer - 0.42, layer + 0.42
    axes.fill_between([0, plan.width], *band, color="#DDDDDD", linewidth=0, zorder=0)
    axes.set_xlim(-0.05, plan.right + 0.05)
    axes.set_ylim(plan.num_layers - 0.4, -0.55)
    axes.axis("off")


def _note(plan: Plan) -> str:
    lines = [
        "Grey: the depth that is scored. Dotted: edges that lead no further from the root. "
        "On the right: nodes that it does not reach."
    ]
    if plan.num_left_out:
        lines.append(
            f"Not drawn: {plan.num_left_out} more of these, with values below {WORTH_SEEING}."
        )
    return "\n".join(lines)


def _title(state: Mapping[str, Any], width: int) -> str:
    """Tell what is written, in lines of so many letters."""
    verdict = "right" if state["is_correct"] else "wrong"
    text = wrap(" ".join(state["text"].split()), width, max_lines=4, placeholder=" …")
    return "\n".join([f"k = {state['k']}; it writes ({verdict}):", *text])


def _draw_edge(axes: Axes, plan: Plan, parent: int, child: int) -> None:
    """Draw an edge; one that leads no layer down, and is on no shortest path, is dotted."""
    (x0, y0), (x1, y1) = plan.places[parent], plan.places[child]
    style: dict[str, Any] = {"arrowstyle": "-|>", "color": GREY, "mutation_scale": 5, "shrinkB": 0}
    if y1 > y0:
        start, end = (x0, y0 + _HALF_HEIGHT), (x1, y1 - _HALF_HEIGHT)
        style |= {"shrinkA": 0, "linewidth": 0.7}
    else:
        side = _HALF_WIDTH if x1 > x0 else -_HALF_WIDTH
        start, end = (x0 + side, y0), (x1 - side, y1)
        if x0 == x1:
            start, end = (x0 + _HALF_WIDTH, y0), (x1 + _HALF_WIDTH, y1)
        bend = "arc3,rad=0.3" if y1 == y0 else "arc3,rad=0.1"
        style |= {"shrinkA": 0, "linewidth": 0.6, "linestyle": ":", "connectionstyle": bend}
    axes.annotate("", end, start, arrowprops=style, zorder=1)


def _draw_node(axes: Axes, case: Case, plan: Plan, state: Mapping[str, Any], node: int) -> None:
    (x, y), value = plan.places[node], state["values"][node]
    role = _role(case, node)
    edge, width = {
        "target": (GREEN, 1.8),
        "distractor": (VERMILION, 1.8),
        "root": (BLUE, 1.8),
    }.get(role, (BLACK, 0.5))
    axes.add_patch(
        FancyBboxPatch(
            (x - _HALF_WIDTH, y - _HALF_HEIGHT),
            2 * _HALF_WIDTH,
            2 * _HALF_HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.08",
            facecolor=mpl.colormaps[_SHADES](value),
            edgecolor=edge,
            linewidth=width,
            linestyle="--" if role == "distractor" else "-",
            zorder=2,
        )
    )
    colour = "white" if value > _MIDDLE else BLACK
    text = f"{case['nodes'][node]}\n{value:.2f}"
    axes.text(x, y, text, ha="center", va="center", color=colour, fontsize=6, zorder=3)
    if role:
        # Arrows come from above, except to the root.
        side, place = (-1, "bottom") if role == "root" else (1, "top")
        axes.text(x, y + side * (_HALF_HEIGHT + 0.02), role, ha="center", va=place, fontsize=6)


def _role(case: Case, node: int) -> str:
    roles = {case["root"]: "root", case["target"]: "target", case["neg_target"]: "distractor"}
    return roles.get(node, "")
