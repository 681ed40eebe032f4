"""One question twice: its graph with the values after k and after k + 1 thoughts.

Of the nodes that cannot be reached from the root only the distractor is drawn, and those with a
value worth seeing, next to the others and without their edges.
"""

from collections import defaultdict
from collections.abc import Mapping, Set
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from latentcot.analysis.shared import style
from latentcot.tasks.prosqa.graphs import Graph, distances

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
    with style.figure(2 * style.COLUMN, 2 * height if is_wide else height) as drawn:
        panels = drawn.subplots(2, 1) if is_wide else drawn.subplots(1, 2)
        for axes, state in zip(panels, case["states"], strict=True):
            for parent, child in case["edges"]:
                if parent in plan.reached and child in plan.reached:
                    _draw_edge(axes, plan, parent, child)
            for node in plan.places:
                _draw_node(axes, case, plan, state, node)
            band = state["depth"] - 0.42, state["depth"] + 0.42
            axes.fill_between([0, plan.width], *band, color="#DDDDDD", linewidth=0, zorder=0)
            axes.set(xlim=(-0.05, plan.right + 0.05), ylim=(plan.num_layers - 0.4, -0.55))
            axes.axis("off")
            verdict = "right" if state["is_correct"] else "wrong"
            words, width = " ".join(state["text"].split()), 100 if is_wide else 50
            lines = wrap(words, width, max_lines=4, placeholder=" …")
            axes.set_title("\n".join([f"k = {state['k']}; it writes ({verdict}):", *lines]))
        note = (
            "Grey: the depth that is scored. Dotted: edges that lead no further from the root. "
            "On the right: nodes that it does not reach."
        )
        if plan.num_left_out:
            values = f"with values below {WORTH_SEEING}"
            note += f"\nNot drawn: {plan.num_left_out} more of these, {values}."
        drawn.supxlabel(note, fontsize=6.5)
        shades = mpl.cm.ScalarMappable(Normalize(0, 1), _SHADES)
        shrink = 0.4 if is_wide else 0.8
        bar = drawn.colorbar(shades, ax=list(panels), shrink=shrink, aspect=25, pad=0.01)
        bar.set_label("value")
        bar.outline.set_linewidth(0.4)
        return drawn


def rows(case: Case) -> list[dict[str, Any]]:
    """Return a row for each node: what it is, and its value after each number of thoughts."""
    depths, found = _depths(case), []
    for node, name in enumerate(case["nodes"]):
        parents = [case["nodes"][a] for a, b in case["edges"] if b == node]
        about = {"question": case["id"], "node": node, "name": name, "depth": depths.get(node)}
        about |= {"role": _role(case, node), "parents": " ".join(parents)}
        values = {f"value after {state['k']}": state["values"][node] for state in case["states"]}
        found.append(about | values)
    return found


@dataclass(frozen=True)
class Plan:
    """Where each drawn node stands: x to the right, y downwards in layers."""

    places: Mapping[int, tuple[float, float]]  # node → (x, y)
    reached: Set[int]  # the nodes that the root reaches; they are left of `width`
    width: float  # of the widest layer
    num_layers: int  # of the reached nodes
    num_left_out: int  # nodes that are not drawn

    @property
    def right(self) -> float:
        """Where the last node on the right ends."""
        return max(x for x, _ in self.places.values()) + 0.5


def _plan(case: Case) -> Plan:
    """Place the nodes: layers by distance, in an order that crosses few edges."""
    depths = _depths(case)
    layers = defaultdict[int, list[int]](list)
    for node, depth in depths.items():
        layers[depth].append(node)
    order, edges = [layers[depth] for depth in sorted(layers)], case["edges"]
    for above_first in (True, False) * 4:  # by the mean place of a node's parents, then children
        at = {node: (i + 0.5) / len(layer) for layer in order for i, node in enumerate(layer)}
        for layer in order if above_first else reversed(order):
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
    width = max(map(len, order))
    places = {
        node: ((i + 0.5) * width / len(layer), float(depth))
        for depth, layer in enumerate(order)
        for i, node in enumerate(layer)
    }
    # Beside them the distractor, at the bottom, and by value what else cannot be reached.
    highest = [max(values) for values in zip(*(s["values"] for s in case["states"]), strict=True)]
    others = [n for n, value in enumerate(highest) if n not in depths and value >= WORTH_SEEING]
    beside = [] if case["neg_target"] in depths else [case["neg_target"]]
    beside += sorted(set(others) - {case["neg_target"]}, key=lambda node: (-highest[node], node))
    for i, node in enumerate(beside):
        row = len(order) - 1 - i % len(order)
        places[node] = (width + 0.6 + i // len(order), float(row))
    return Plan(places, depths.keys(), width, len(order), len(case["nodes"]) - len(places))


def _depths(case: Case) -> dict[int, int]:
    """Return the distance of each node that can be reached from the root."""
    ends = (case[key] for key in ("root", "target", "neg_target"))
    graph = Graph(len(case["nodes"]), tuple(map(tuple, case["edges"])), *ends)
    return distances(graph, graph.root)


# --- drawing ----------------------------------------------------------------------------------


def _draw_edge(axes: Axes, plan: Plan, parent: int, child: int) -> None:
    """Draw an edge; one that leads no layer down, and is on no shortest path, is dotted."""
    (x0, y0), (x1, y1) = plan.places[parent], plan.places[child]
    look: dict[str, Any] = {"arrowstyle": "-|>", "color": style.GREY, "mutation_scale": 5}
    look |= {"shrinkA": 0, "shrinkB": 0}
    if y1 > y0:
        start, end = (x0, y0 + _HALF_HEIGHT), (x1, y1 - _HALF_HEIGHT)
        look |= {"linewidth": 0.7}
    else:
        side = _HALF_WIDTH if x1 > x0 else -_HALF_WIDTH
        start, end = (x0 + side, y0), (x1 - side, y1)
        if x0 == x1:
            start, end = (x0 + _HALF_WIDTH, y0), (x1 + _HALF_WIDTH, y1)
        bend = "arc3,rad=0.3" if y1 == y0 else "arc3,rad=0.1"
        look |= {"linewidth": 0.6, "linestyle": ":", "connectionstyle": bend}
    axes.annotate("", end, start, arrowprops=look, zorder=1)


def _draw_node(axes: Axes, case: Case, plan: Plan, state: Mapping[str, Any], node: int) -> None:
    (x, y), value = plan.places[node], state["values"][node]
    role = _role(case, node)
    edges = {"target": style.GREEN, "distractor": style.VERMILION, "root": style.BLUE}
    edge, width = edges.get(role, style.BLACK), 1.8 if role else 0.5
    corner, size = (x - _HALF_WIDTH, y - _HALF_HEIGHT), (2 * _HALF_WIDTH, 2 * _HALF_HEIGHT)
    look: Any = {"facecolor": mpl.colormaps[_SHADES](value), "edgecolor": edge, "linewidth": width}
    look |= {"linestyle": "--" if role == "distractor" else "-", "zorder": 2}
    look["boxstyle"] = "round,pad=0,rounding_size=0.08"
    axes.add_patch(FancyBboxPatch(corner, *size, **look))
    colour = "white" if value > _MIDDLE else style.BLACK
    text = f"{case['nodes'][node]}\n{value:.2f}"
    axes.text(x, y, text, ha="center", va="center", color=colour, fontsize=6, zorder=3)
    if role:
        # Arrows come from above, except to the root.
        side, place = (-1, "bottom") if role == "root" else (1, "top")
        axes.text(x, y + side * (_HALF_HEIGHT + 0.02), role, ha="center", va=place, fontsize=6)


def _role(case: Case, node: int) -> str:
    roles = {case["root"]: "root", case["target"]: "target", case["neg_target"]: "distractor"}
    return roles.get(node, "")
