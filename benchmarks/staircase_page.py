"""What the staircase claims, what would refute it, and the page: figure, tables, text.

The thresholds stand here, and stood here before anything was measured. `staircase.py` prints them
first and puts everything into docs/results.md from results/staircase/table.json alone.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis_tables import table
from matplotlib.axes import Axes

from latentcot.analysis.shared import style
from latentcot.evaluation.statistics import percent
from studies import PAGE, RESULTS, fill

TABLE = RESULTS / "staircase" / "table.json"
FIGURE = PAGE.parent / "images" / "staircase.png"
STAIRS = FIGURE.with_name("stairs.png")
"""The stairs of each seed."""
READMES = {
    "README.md": "A hop is an edge of the path. For D hops a model of two layers, as trained, "
    "needs D thoughts, or one fewer ({edges} of {seeds} seeds). With too few it is right in {low} "
    "to {high} % (a guess between the candidates: 50), with enough, up to the 7 of training, "
    "in {from_on} % or more.",
    "README.zh-CN.md": "D 跳的问题需要这样训练出的两层模型用 D 个或 D − 1 个思维"
    "（{seeds} 个种子，{counts}）。更少时正确率为 {low}–{high} %（在两个候选中瞎猜为 50 %）；"
    "从这里到 7 个（训练中最多 7 个）至少 {from_on} %。",
}
"""What they say of the stairs."""
MOST_HOPS, MOST_THOUGHTS, TRAINED = 7, 9, 7
"""Of the questions; asked for; and those that training had."""
NO_COTS = ("no-cot", "no-cot-4", "no-cot-8", "no-cot-12")
"""With two layers, and with 4, 8 and 12."""
EARLY_UPDATES = 8000
"""More for Coconut's runs, with answers after too few thoughts."""
LEARNED, BELOW, CONTROL, NEAR, WORDS = 0.95, 0.60, 0.75, 0.05, 0.97
"""Right at least, where the answer is known; right at most, where it is not; what a control must
not reach; how far from a prediction; what a search in words must reach."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """A claim with what would refute it.

    Attributes:
        text: The claim.
        refuted_if: In words, with its threshold.
        measured: The table → (what was found, whether the claim held); None where it was not
            measured yet.
    """

    text: str
    refuted_if: str
    measured: Callable[[Row], tuple[str, bool] | None]


# --- reading the table --------------------------------------------------------------------------


Stairs = dict[tuple[int, int], float]
"""(hops, thoughts) → accuracy of Coconut."""


def stairs(found: Row, seed: int | None = None, key: str = "rows") -> Stairs:
    """Return the mean over the seeds, or what one of them has."""
    return {
        (row["hops"], row["num_thoughts"]): (
            row["accuracy_mean"] if seed is None else row["accuracies"][row["seeds"].index(seed)]
        )
        for row in found[key]
    }


def of_method(found: Row, method: str) -> list[Row]:
    return [row for row in found["others"] if row["method"] == method]


def edges_of(shares: Stairs) -> dict[int, int | None]:
    """Return, by hops from 2 on, the fewest thoughts with which the answer is known."""
    return {
        hops: next((t for t in range(TRAINED + 1) if shares.get((hops, t), 0.0) >= LEARNED), None)
        for hops in range(2, MOST_HOPS + 1)
    }


def one_hop_each(found: Row) -> tuple[str, bool] | None:
    if not found["rows"]:
        return None
    shares = stairs(found)
    told = f"fewest thoughts in the mean: {told_edges(shares)}; by seed: {edges_by_seed(found)}"
    return told, offset_of(shares) is not None


def told_edges(shares: Stairs) -> str:
    edges = edges_of(shares).items()
    return ", ".join(f"{hops} hops: {'never' if t is None else t}" for hops, t in edges)


def edges_by_seed(found: Row) -> str:
    """Return how many seeds answer after how many thoughts, D standing for the hops."""
    offsets = [offset_of(stairs(found, seed)) for seed in found["rows"][0]["seeds"]]
    names = {None: "uneven", 0: "D"}
    told = Counter(names.get(offset, f"D − {offset}") for offset in offsets)
    return ", ".join(f"{name} in {count}" for name, count in sorted(told.items()))


def offset_of(shares: Stairs) -> int | None:
    """Return by how many thoughts fewer than hops the answer is known, if it is one number."""
    offsets = {None if t is None else hops - t for hops, t in edges_of(shares).items()}
    return offsets.pop() if len(offsets) == 1 else None


def chance_below(found: Row) -> tuple[str, bool] | None:
    below = below_edges(stairs(found))
    if not below:
        return None
    own = [max(below_edges(stairs(found, seed)), default=0.0) for seed in found["rows"][0]["seeds"]]
    most, each = max(below), ", ".join(map(percent, own))
    told = f"in the mean at most {percent(most)}; below its own edge each seed has at most {each}"
    return told, most <= BELOW


def below_edges(shares: Stairs) -> list[float]:
    """Return what is right with fewer thoughts than the answer takes, of two hops and more."""
    edges = edges_of(shares)
    first = {hops: TRAINED if edge is None else edge for hops, edge in edges.items()}
    return [share for (hops, t), share in shares.items() if hops >= 2 and t < first[hops]]


def above_edges(shares: Stairs) -> list[float]:
    """Return what is right from there on to the most thoughts in training."""
    edges = edges_of(shares)
    return [
        share
        for (hops, t), share in shares.items()
        if hops >= 2 and (edges[hops] or 0) <= t <= TRAINED
    ]


def stays_above(found: Row) -> tuple[str, bool] | None:
    above = above_edges(stairs(found))
    return (f"at least {percent(min(above))}", min(above) >= LEARNED) if above else None


def early_answers(found: Row) -> tuple[str, bool] | None:
    if not found["early"]:
        return None
    shares = stairs(found, key="early")
    most = max(below_edges(shares), default=0.0)
    two_fewer = max(share for row in found["early"] if row["num_thoughts"] <= row["hops"] - 2
                    for share in row["accuracies"])  # fmt: skip
    return (
        f"fewest thoughts: {told_edges(shares)}; below at most {percent(most)}; with D − 2 or "
        f"fewer at most {percent(two_fewer)} in any seed",
        offset_of(shares) is not None and most <= BELOW,
    )


def pause_has_none(found: Row) -> tuple[str, bool] | None:
    rows = [row for row in of_method(found, "pause") if row["hops"] >= 4]
    most = max((row["accuracy_mean"] for row in rows), default=None)
    return None if most is None else (f"at most {percent(most)}", most < CONTROL)


def layers_have_none(found: Row) -> tuple[str, bool] | None:
    rows = {
        row["method"]: row["accuracy_mean"]
        for row in found["others"]
        if row["method"] in NO_COTS and row["hops"] == MOST_HOPS
    }
    if not rows:
        return None
    told = ", ".join(f"{method} {percent(accuracy)}" for method, accuracy in rows.items())
    has_held = max(rows.values()) < CONTROL
    is_open = has_held and len(rows) < len(NO_COTS)  # one is enough to refute it, not to hold
    return None if is_open else (told, has_held)


def words_guess(found: Row) -> tuple[str, bool] | None:
    predicted = {row["hops"]: row["accuracy"] for row in found["forks"]}
    away = {
        row["hops"]: row["accuracy_mean"] - predicted[row["hops"]]
        for row in of_method(found, "cot")
        if row["hops"] >= 2 and row["hops"] in predicted
    }
    if not away:
        return None
    told = ", ".join(f"{hops} hops: {100 * by:+.1f}" for hops, by in sorted(away.items()))
    return f"points from it: {told}", max(map(abs, away.values())) <= NEAR


def words_search(found: Row) -> tuple[str, bool] | None:
    rows = of_method(found, "cot-bfs")
    least = min((row["accuracy_mean"] for row in rows), default=None)
    return None if least is None else (f"at least {percent(least)}", least >= WORDS)


def diagonal(found: Row) -> tuple[str, bool] | None:
    shares = {(row["thought"], row["depth"]): row["mass_mean"] for row in found["mass"]}
    if not shares:
        return None
    thoughts = sorted({thought for thought, _ in shares})
    own = [shares[t, t] for t in thoughts]
    is_most = all(
        shares[t, t] == max(shares[t, depth] for depth in range(MOST_HOPS + 1)) for t in thoughts
    )
    told = ", ".join(f"{mass:.2f}" for mass in own)
    return f"mass of thought i on depth i: {told}", is_most and min(own) >= 0.5


CLAIMS = (
    Claim(
        "Each thought moves the edge by one hop.",
        f"for some number of hops from 2 to {MOST_HOPS} no number of thoughts gives "
        f"{LEARNED:.0%}, or the fewest that do are not one more than for a hop less",
        one_hop_each,
    ),
    Claim(
        "With fewer thoughts the answer is not known.",
        f"below the edge more than {BELOW:.0%} of forced answers are right",
        chance_below,
    ),
    Claim(
        "That is not for want of training: trained further, with answers after too few thoughts as "
        "well, it is still not known.",
        f"the fewest thoughts that give {LEARNED:.0%} are not one more for each hop, or below the "
        f"edge more than {BELOW:.0%} are right",
        early_answers,
    ),
    Claim(
        "With more it stays known.",
        f"from the edge to {TRAINED} thoughts, the most in training, less than {LEARNED:.0%}",
        stays_above,
    ),
    Claim(
        "Thought i holds the nodes i hops away.",
        "another depth has more mass in it, or its own has less than 0.5",
        diagonal,
    ),
    Claim(
        "Pauses in their place make no stairs.",
        f"pause has {CONTROL:.0%} or more at 4 hops or further, with any number of them",
        pause_has_none,
    ),
    Claim(
        "Layers do not stand in for thoughts.",
        f"no-cot with 2, 4, 8 or 12 layers has {CONTROL:.0%} or more at {MOST_HOPS} hops",
        layers_have_none,
    ),
    Claim(
        "A chain in words has to guess at each fork.",
        f"cot is more than {100 * NEAR:.0f} points from that prediction at some number of hops",
        words_guess,
    ),
    Claim(
        "A search in words need not.",
        f"cot-bfs has less than {WORDS:.0%} at some number of hops",
        words_search,
    ),
)


def show_claims() -> None:
    """Print what would refute each claim, and what is known of it by now."""
    found = read_table()
    for claim in CLAIMS:
        known = claim.measured(found) if found else None
        print(f"{claim.text} Refuted if {claim.refuted_if}.\n    {verdict(known)}")


def verdict(known: tuple[str, bool] | None) -> str:
    if known is None:
        return "Not measured yet."
    return f"{'Held' if known[1] else 'Did not hold'}: {known[0]}."


def read_table() -> Row | None:
    """Return what was measured so far; None before anything was."""
    if not TABLE.exists():
        return None
    found: Row = json.loads(TABLE.read_text(encoding="utf-8"))
    return found


# --- the page -----------------------------------------------------------------------------------


def write_page() -> None:
    """Write text and figure from the table alone."""
    found = read_table()
    lines = claims_table(found)
    if found is None or not found["rows"]:
        text = f"**Not run yet.** What will be asked of it:\n\n{lines}"
    else:
        draw(found, FIGURE)
        text = "\n\n".join([lines, *measured(found)])
        for name, sentence in READMES.items():
            fill(PAGE.parent.parent / name, "stairs", "staircase.py", in_short(found, sentence))
    fill(PAGE, "staircase", "staircase.py", f"\n{text}\n")


def in_short(found: Row, sentence: str) -> str:
    """Return the stairs of all seeds in one sentence, each with the edge that it has."""
    seeds = found["rows"][0]["seeds"]
    below = [share for seed in seeds for share in below_edges(stairs(found, seed))]
    above = [share for seed in seeds for share in above_edges(stairs(found, seed))]
    edges = edges_by_seed(found)
    return sentence.format(
        low=f"{100 * min(below):.0f}", high=f"{100 * max(below):.0f}",
        from_on=f"{100 * min(above):.1f}", seeds=len(seeds),
        edges=edges, counts=edges.replace(" in ", ": "),
    )  # fmt: skip


def claims_table(found: Row | None) -> str:
    rows = [
        [claim.text, claim.refuted_if, verdict(claim.measured(found) if found else None)]
        for claim in CLAIMS
    ]
    return table(["claim", "refuted if", "what came"], rows).replace("---:", "---")


def measured(found: Row) -> list[str]:
    """Return what stands below the claims."""
    seeds = max(row["num_seeds"] for row in found["rows"])
    questions = min(row["num_questions"] for row in found["rows"])
    parts = [
        "![Accuracy by thoughts and hops, a panel for each seed](images/stairs.png)",
        "![Accuracy by thoughts and hops, mean of the seeds; what stands beside it; mass by depth; "
        "cost](images/staircase.png)",
        f"Coconut, answer forced straight behind T thoughts, % right; mean of {seeds} "
        f"seed{'s' if seeds > 1 else ''}, {questions} questions or more each. Training had up to "
        f"{TRAINED} thoughts.",
        stairs_table(stairs(found), MOST_THOUGHTS),
    ]
    if found["early"]:
        seeds = found["early"][0]["num_seeds"]
        parts += [
            f"The same after {EARLY_UPDATES:,} updates more, half of the chains cut after a random "
            f"number of steps, so that answers after too few thoughts are trained too; {seeds} "
            f"seed{'s' if seeds > 1 else ''}:",
            stairs_table(stairs(found, key="early"), TRAINED),
        ]
    if found["mass"]:
        parts += [seen_afterwards(found)]
    if found["others"]:
        parts += ["Beside it, left to write what they like (pause: forced, seven of them), %:"]
        parts += [others_table(found)]
    return [*parts, sources(found)]


def stairs_table(shares: Stairs, most: int) -> str:
    numbers = range(most + 1)
    return table(
        ["hops", *(f"T {t}" for t in numbers)],
        [
            [str(hops), *(cell(shares.get((hops, t))) for t in numbers)]
            for hops in range(1, MOST_HOPS + 1)
        ],
    )


def seen_afterwards(found: Row) -> str:
    """Return what explains the mass on the diagonal; no claim, since it was seen first."""
    own = [row for row in found["mass"] if row["thought"] == row["depth"]]
    on_the_way = ", ".join(f"{row['on_the_way_mean']:.2f}" for row in own)
    after = [row["probability_mean"] for row in found["opening"]]
    return (
        "The mass claim is about all questions. Seen afterwards: a search ends with its answer. In "
        f"questions of i hops or more thought i has {on_the_way} of its mass on depth i (i = 1 to "
        f"{len(own)}). In those of fewer hops it says what would come next, the opening of the "
        f"answer, with a probability of {min(after):.2f} to {max(after):.2f}."
    )


def cell(share: float | None) -> str:
    if share is None:
        return "–"
    text = percent(share).removesuffix(" %")
    return f"**{text}**" if share >= LEARNED else text


def others_table(found: Row) -> str:
    """Return the accuracy of each other method by hops, and what forks predict for cot."""
    methods = list(dict.fromkeys(row["method"] for row in found["others"]))
    hops = list(range(1, MOST_HOPS + 1))
    rows = []
    for method in methods:
        own = {
            row["hops"]: row
            for row in of_method(found, method)
            if method != "pause" or row["num_thoughts"] == TRAINED
        }
        seeds = max(row["num_seeds"] for row in own.values())
        shares = [cell(own[n]["accuracy_mean"]) if n in own else "–" for n in hops]
        rows.append([method, str(seeds), *shares])
        if method == "cot":
            for key, name in (("accuracy", "chance at each fork"),
                              ("accuracy_sight_2", "the same, two hops in sight")):  # fmt: skip
                known = {row["hops"]: row[key] for row in found["forks"]}
                rows.append([f"*{name}*", "–", *(cell(known.get(n)) for n in hops)])
    return table(["method", "seeds", *(f"{n} hops" for n in hops)], rows)


def sources(found: Row) -> str:
    """Return where the numbers come from, and how long each method took."""
    minutes: dict[str, list[float]] = {}
    for run in found["runs"]:
        name = run["method"] if run["task"] == "staircase" else f"{run['task']}/{run['method']}"
        minutes.setdefault(name, []).append(run["minutes"])
    told = "; ".join(
        f"{name} {', '.join(f'{m:.0f}' for m in all_)}" for name, all_ in minutes.items()
    )
    commits = sorted({str(run["commit"])[:10] for run in found["runs"]})
    machines = sorted({str(run["machine"]) for run in found["runs"]})
    unlearned = [
        f"{', '.join(stages_of(run['warnings']))} ({run['task']}/{run['method']}/{run['seed']})"
        for run in found["runs"]
        if run["warnings"]
    ]
    text = (
        f"Minutes of training, a run each: {told}. Commits {', '.join(commits)}; "
        f"{'; '.join(machines)}. No seed is left out."
    )
    if not unlearned:
        return text
    return f"{text} Stages that ended at their cap, not learned: {'; '.join(unlearned)}."


def stages_of(warnings: Sequence[str]) -> list[str]:
    """Return the numbers of the stages that these warnings of a training are about."""
    return [number for text in warnings for number in re.findall(r"stage (\d+)", text)[:1]]


# --- the figure ---------------------------------------------------------------------------------


def draw(found: Row, path: Path) -> None:
    """Draw the stairs, what stands beside them, mass by depth, and cost; and the stairs alone."""
    seeds = max(row["num_seeds"] for row in found["rows"])
    questions = min(row["num_questions"] for row in found["rows"])
    note = f"{seeds} seed{'s' if seeds > 1 else ''}; at least {questions} questions for each D"
    with style.figure(2 * style.COLUMN, 5.2) as drawn:
        (left, right), (inside, cost) = drawn.subplots(2, 2)
        draw_stairs(left, stairs(found))
        draw_others(right, found)
        held = {(row["thought"], row["depth"]): row["on_the_way_mean"] for row in found["mass"]}
        thoughts = sorted({thought for thought, _ in held})
        depths = range(1, MOST_HOPS + 1)
        if held:
            tiles = [[held[t, d] for t in thoughts] for d in depths]
            heat(inside, tiles, thoughts, depths, digits=2)
        inside.set(title="mass of depth j in thought i, of i hops or more", xlabel="thought")
        inside.set_ylabel("depth")
        draw_costs(cost, found["costs"])
        style.save(drawn, path, note, as_pdf=False)
    all_seeds = found["rows"][0]["seeds"]
    with style.figure(2.2 * len(all_seeds) + 0.4, 2.0) as drawn:
        panels = drawn.subplots(1, len(all_seeds), squeeze=False, sharey=True)[0]
        for axes, seed in zip(panels, all_seeds, strict=True):
            draw_stairs(axes, stairs(found, seed))
            axes.set(title=f"seed {seed}, % right", ylabel="hops" if axes is panels[0] else "")
        note = f"answer forced; at least {questions} questions for each D"
        style.save(drawn, path.with_name(STAIRS.name), note, as_pdf=False)


def draw_stairs(axes: Axes, shares: Stairs) -> None:
    thoughts, hops = range(MOST_THOUGHTS + 1), range(1, MOST_HOPS + 1)
    grid = [[shares.get((n, t), float("nan")) for t in thoughts] for n in hops]
    heat(axes, grid, thoughts, hops, scale=100)
    axes.axvline(TRAINED + 0.5, color=style.GREY, linestyle=":", linewidth=1)
    axes.set(title="answer forced after T thoughts, % right", xlabel="thoughts", ylabel="hops")


def heat(
    axes: Axes,
    grid: Sequence[Sequence[float]],
    xs: Sequence[int],
    ys: Sequence[int],
    *,
    scale: int = 1,
    digits: int = 0,
) -> None:
    """Draw shares as a grid of tiles with their numbers, the first row at the bottom."""
    axes.imshow(grid, cmap="viridis", vmin=0, vmax=1, origin="lower", aspect="auto")
    for y, row in enumerate(grid):
        for x, share in enumerate(row):
            if share == share:  # not NaN
                colour = "white" if share < 0.6 else "black"
                text = f"{scale * share:.{digits}f}"
                axes.text(x, y, text, ha="center", va="center", color=colour, fontsize=5.5)
    axes.set_xticks(range(len(xs)), [str(x) for x in xs])
    axes.set_yticks(range(len(ys)), [str(y) for y in ys])


COSTED = ("coconut", "cot", "cot-bfs")
"""Rows in two panels, in one colour each: the first ones."""


def draw_others(axes: Axes, found: Row) -> None:
    """Draw accuracy by hops: Coconut with as many thoughts as hops, and all others."""
    lines: dict[str, list[Row]] = {name: [] for name in ("coconut, T = hops", *COSTED[1:])}
    lines["coconut, T = hops"] = [r for r in found["rows"] if r["hops"] == r["num_thoughts"]]
    for row in found["others"]:
        if row["method"] != "pause" or row["num_thoughts"] == TRAINED:
            lines.setdefault(row["method"], []).append(row)
    for number, (name, rows) in enumerate(lines.items()):
        if not rows:  # was not run yet
            continue
        rows = sorted(rows, key=lambda row: int(row["hops"]))
        at = [row["hops"] for row in rows]
        look = style.look_of(number)
        style.points(axes, at, rows, "accuracy_mean", ends="", label=name, **look)
    if found["forks"]:
        hops = [row["hops"] for row in found["forks"]]
        chance = [row["accuracy"] for row in found["forks"]]
        axes.plot(hops, chance, color=style.GREY, linestyle="--", label="chance at each fork")
    axes.axhline(0.5, color=style.GREY, linewidth=0.6, linestyle=":")
    low = min([0.4, *(row["accuracy_mean"] - 0.05 for rows in lines.values() for row in rows)])
    axes.set(title="beside it", xlabel="hops", ylabel="right", ylim=(low, 1.35))
    axes.set_xticks(range(1, MOST_HOPS + 1))
    axes.set_yticks([0.4, 0.6, 0.8, 1.0])
    style.percents(axes.yaxis)
    axes.legend(loc="upper right", ncols=2)


def draw_costs(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw tokens (filled) and passes (hollow) of a question against the edges of its graph."""
    for number, method in enumerate(COSTED):
        colour, marker = style.COLOURS[number], style.MARKERS[number]
        own = [row for row in rows if row["method"] == method]
        if not own:  # was not run yet
            continue
        main = sorted((r for r in own if r["task"] == "staircase"), key=lambda r: int(r["edges"]))
        at = [row["edges"] for row in main]
        look: Any = {"color": colour, "marker": marker}
        axes.plot(at, [row["tokens"] for row in main], label=f"{method}, tokens", **look)
        look |= {"markerfacecolor": "white", "linestyle": ":"}
        axes.plot(at, [row["passes"] for row in main], label=f"{method}, passes", **look)
        for row in own:
            if row["task"] == "wide":
                axes.plot(row["edges"], row["tokens"], marker="*", color=colour, markersize=7)
                axes.annotate("4 hops", (row["edges"], row["tokens"]), fontsize=5.5)
    axes.set(
        title="cost of a question whose candidates lie deepest",
        xlabel="edges of the graph (4 × hops)",
    )
    axes.set_ylabel("tokens, passes")
    axes.set_ylim(0, 1.6 * max((row["passes"] for row in rows), default=1.0))
    axes.legend(loc="upper left")
