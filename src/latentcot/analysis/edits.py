"""Edit a thought and follow what becomes of it: is it searched from, node by node?

If thought i holds the nodes at depth i and is searched from, then a node that is added to it must
have children in thought i + 1, a node that is removed must leave its children out there, and the
answer must become the other candidate exactly when its family does (the causal test of
arXiv 2505.12514's reading, asked for by arXiv 2606.12689). EDITS says what is predicted. A node is
in a thought if the output head gives it at least half of an even share over the graph's nodes, and
twice as much as the least probable of them: in an empty thought all are alike.

The vector of a node in thought i is fitted by least squares, on the other half of the questions, to
which nodes lie there; where all latent positions hold one vector, as with pauses, it is the
embedding. Each edit is done a second time along a random direction of the same length.

Shapes: B batch, Q questions, N most latent positions and M most nodes of any question, V names,
D hidden size.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from latentcot.analysis.shared import style
from latentcot.analysis.shared.latents import (
    Chains,
    Replace,
    answers_with,
    compared,
    models_of,
    random_directions,
    random_of,
    record,
    tables_of,
    with_latents,
)
from latentcot.analysis.shared.node_groups import name_tokens
from latentcot.analysis.shared.statistics import (
    Row,
    Rows,
    Values,
    mean_fields,
    more_rows,
    share_fields,
)
from latentcot.analysis.shared.subject import Progress, Subject, no_progress
from latentcot.analysis.steering import named_by
from latentcot.analysis.superposition import read_nodes
from latentcot.errors import UsageError
from latentcot.tasks.prosqa.graphs import Graph, distances
from latentcot.thinking.think import Latent

MAX_QUESTIONS = 200
"""Questions edited at most, the first of the file; vectors are fitted to all of them."""
LEAST_SEEN = 5
"""Questions of the other half in which a node must lie in a thought to have a vector there."""
DOSES = (0.5, 0.75, 1.5, 2.0)
"""Of a swap, beside 1."""
SEED = 0

EDITS = {
    "add": "a node that the root does not reach is added to thought i: its children come into "
    "thought i + 1, theirs into thought i + 2",
    "remove": "a node at depth i is taken out of thought i: children that have no other parent "
    "within i edges of the root leave thought i + 1, and theirs thought i + 2",
    "swap": "both at once, in one thought",
}
"""Edit → what is done, and what must follow."""
VECTORS = ("node", "random")
KEYS = ("edit", "thought", "dose", "vector")


@dataclass(frozen=True, slots=True)
class Edit:
    """An edit of one thought of one question, with what must follow.

    Attributes:
        question: Its number.
        added: The node that is added, if any.
        removed: The node that is removed, if any.
        comes: Nodes that must come, into thought i + 1 and into i + 2.
        goes: Nodes that must leave them.
        answer: The candidate that must be named, "target" or "neg_target"; None where the edit
            leads to both or to neither, or there are thoughts to spare.
    """

    question: int
    added: int | None
    removed: int | None
    comes: tuple[Set[int], Set[int]]
    goes: tuple[Set[int], Set[int]]
    answer: str | None


def measure(
    subject: Subject, on_progress: Progress = no_progress, against: Sequence[Subject] = ()
) -> Row:
    """Edit every thought in three ways; count the predictions that hold.

    Returns:
        `edits`, a row for each edit, thought, dose and vector: the share of the nodes predicted to
        move that did (`next`, in the thought behind; `later`, in the one behind that), of the other
        nodes that moved too (`others`), and of the answers predicted that came (`answer`, and
        `flips` of those that must change). Of nodes means over questions, with Student's interval.
        `overall` has all edits of dose 1, by vector: the mean over questions of the mean over a
        question's edits. `comparison` is of `next`.

    Raises:
        UsageError: The subject has no latent positions, or several thoughts a step; or the two are
            not asked the same.
        DataError: A question carries no graph.
    """

    run = partial(edited, on_progress=on_progress)
    found = compared(subject, against, run, partial(more_rows, KEYS))
    return {"definitions": EDITS, **found}


def edited(subject: Subject, on_progress: Progress) -> tuple[Row, Values]:
    """Edit the thoughts of one subject: what is written, and `next` by KEYS and question.

    Raises:
        UsageError: As for `measure`.
    """
    per_step = subject.reasoner.info.plan.thoughts_per_step
    if per_step != 1:
        raise UsageError(
            f"edits: a thought must stand for one step, so that what follows lies in the next one, "
            f"got {per_step} thoughts a step."
        )
    whole = with_latents(subject)
    chains, first = record(whole), whole.first(MAX_QUESTIONS)
    vectors = NodeVectors(whole, chains)
    before = nodes_in(first, chains)
    noise = random_directions(first, range(chains.most), SEED, "edits")
    values, rows = Values(), Rows()
    for name in EDITS:
        for thought in range(1, chains.most + 1):
            drawn = [
                draw_edit(
                    graph, question, name, thought, num, vectors.there(question, thought),
                    random_of(SEED, name, thought, first.examples[question].id),
                )
                for question, (graph, num) in enumerate(
                    zip(first.graphs, chains.num_latents, strict=False)
                )
                if num >= thought
            ]  # fmt: skip
            edits = [edit for edit in drawn if edit is not None]
            if not edits:
                continue
            numbers = [edit.question for edit in edits]
            along = torch.stack([vectors.change(edit, thought) for edit in edits])
            turned = noise[numbers, thought - 1] * along.norm(dim=-1, keepdim=True)
            for dose in sorted((1.0, *DOSES)) if name == "swap" else (1.0,):
                for vector, change in zip(VECTORS, (along, turned), strict=True):
                    asked, put_in = first.of(numbers), pushing(thought, dose * change)
                    after = nodes_in(asked, record(asked, put_in))
                    outputs = answers_with(asked, put_in)
                    named = named_by(first, numbers, outputs)
                    key = name, thought, dose, vector
                    row, values[key] = followed(edits, before, after, named, thought)
                    rows.append(dict(zip(KEYS, key, strict=True)) | row)
                    on_progress(len(first.examples))
    overall = Rows()
    for vector in VECTORS:
        shares: dict[int, list[float]] = {}  # of one question they are not independent
        for (_, _, dose, one), by_question in values.items():
            if dose == 1 and one == vector:
                for question, share in by_question.items():
                    shares.setdefault(question, []).append(share)
        if shares:
            means = [fmean(some) for some in shares.values()]
            row = {"vector": vector, "num_questions": len(means)}
            found: Row = mean_fields("share", means, lowest=0.0, highest=1.0, digits=4)
            overall.append(row | found)
    about = {
        "num_thoughts": chains.most,
        "num_questions": len(first.examples),
        "num_given": len(subject.examples),
        "vectors": vectors.kind,
        "edits": rows,
        "overall": overall,
    }
    return about, values


def pushing(thought: int, change_BD: Tensor) -> Replace:
    """Return what adds a vector of each question to one thought, counted from 1."""

    def put_in(rows: Tensor, latent: Latent, own: Tensor) -> Tensor:
        return own + change_BD[rows].to(own) if latent.number == thought - 1 else own

    return put_in


# --- what a node is ---------------------------------------------------------------------------


class NodeVectors:
    """What each node at depth i adds to thought i.

    Fitted by least squares to which nodes lie there; nodes nearer to the root have coefficients of
    their own, so that none is taken for another. Questions of even numbers have vectors that were
    fitted to the others, and the other way round. Zero where a node lies in a thought of fewer
    than LEAST_SEEN questions. Where that is so of all of them, or all latent positions hold one
    vector, the embeddings of the names, less the mean of them.

    Args:
        subject: One of `with_latents`.
        chains: What stood in the latent positions.
    """

    def __init__(self, subject: Subject, chains: Chains) -> None:
        self.graphs = subject.graphs
        names = sorted({name for graph in self.graphs for name in graph.names})
        self.number_of = {name: i for i, name in enumerate(names)}
        self.vectors, self.kind = torch.zeros(0), "least squares"
        if not chains.is_constant:
            self.vectors = self.fitted(names, chains)
        if not self.vectors.any():
            self.kind = "embeddings"
            table = subject.reasoner.model.get_input_embeddings().get_parameter("weight").cpu()
            ids = {
                name: tokens
                for graph, of_graph in zip(self.graphs, subject.name_ids, strict=True)
                for name, tokens in zip(graph.names, of_graph, strict=True)
            }
            rows = torch.stack([table[list(ids[name])].detach().float().mean(0) for name in names])
            self.vectors = (rows - rows.mean(0)).expand(2, chains.most, -1, -1)

    def fitted(self, names: Sequence[str], chains: Chains) -> Tensor:
        """Return the vectors of names by least squares: (2, N, V, D)."""
        num, num_questions = len(names), len(self.graphs)
        fed, away = chains.latent_inputs.double(), [distances(g, g.root) for g in self.graphs]
        found = torch.zeros(2, chains.most, num, fed.shape[-1])
        is_odd = torch.arange(num_questions) % 2 == 1
        for thought in range(1, chains.most + 1):
            there = torch.zeros(num_questions, 2 * num + 1, dtype=torch.double)
            there[:, -1] = 1
            for question, (graph, depths) in enumerate(zip(self.graphs, away, strict=True)):
                for node, depth in depths.items():
                    if depth <= thought:
                        column = self.number_of[graph.names[node]] + num * (depth < thought)
                        there[question, column] = 1
            for half, is_half in enumerate((is_odd, ~is_odd)):
                used = is_half & chains.is_latent[:, thought - 1]
                rows = there[used]
                # A little is added: columns of nodes that never lie there are zero.
                weak = 1e-3 * torch.eye(rows.shape[1], dtype=torch.double)
                fit = torch.linalg.solve(rows.T @ rows + weak, rows.T @ fed[used, thought - 1])
                is_seen = rows[:, :num].sum(0) >= LEAST_SEEN
                found[half, thought - 1] = (fit[:num] * is_seen[:, None]).float()
        return found

    def there(self, question: int, thought: int) -> list[bool]:
        """Return which nodes of a question have a vector."""
        vectors = self.vectors[question % 2, thought - 1]
        return [bool(vectors[self.number_of[name]].any()) for name in self.graphs[question].names]

    def change(self, edit: "Edit", thought: int) -> Tensor:
        """Return what an edit adds to a thought: (D,)."""
        vectors, names = (
            self.vectors[edit.question % 2, thought - 1],
            self.graphs[edit.question].names,
        )
        change = torch.zeros(vectors.shape[-1])
        for node, sign in ((edit.added, 1), (edit.removed, -1)):
            if node is not None:
                change += sign * vectors[self.number_of[names[node]]]
        return change


def nodes_in(subject: Subject, chains: Chains) -> Tensor:
    """Return which nodes each thought holds, and the state behind the last one: (Q, N + 1, M)."""
    # `read_nodes` leaves out the state behind the last latent position.
    count, states = len(subject.examples), chains.states
    states = torch.cat([states, states[:, :1]], dim=1)[:count]
    whole = Chains(states[:, :-1], states, chains.num_latents[:count])
    shares = read_nodes(subject, whole, name_tokens(subject)).probabilities
    num_nodes = torch.tensor([graph.num_nodes for graph in subject.graphs])
    is_node = torch.arange(shares.shape[-1]) < num_nodes[:, None]
    least = shares.masked_fill(~is_node[:, None], torch.inf).amin(-1, keepdim=True)
    return (shares >= 0.5 / num_nodes[:, None, None]) & (shares >= 2 * least)


# --- what must follow -------------------------------------------------------------------------


def draw_edit(
    graph: Graph,
    question: int,
    name: str,
    thought: int,
    num_thoughts: int,
    is_fit: Sequence[bool],
    rng: Any,
) -> Edit | None:
    """Draw an edit of a thought from which something must follow; None if there is none.

    Args:
        graph: Of the question.
        question: Its number.
        name: Of the edit.
        thought: Which one is edited, from 1; it holds the nodes at this depth.
        num_thoughts: How many the question has.
        is_fit: Which nodes have a vector.
        rng: What draws.
    """
    away, children, parents = distances(graph, graph.root), graph.children, graph.parents

    def below(nodes: Set[int]) -> set[int]:
        return {child for node in nodes for child in children[node]}

    def lost(nodes: Set[int], depth: int) -> set[int]:
        """Return the children at this depth that have no other parent nearer to the root."""
        return {
            child
            for child in below(nodes)
            if away[child] == depth
            and all(p in nodes or away.get(p, depth) >= depth for p in parents[child])
        }

    goes, comes = {}, {}
    for node, depth in away.items():
        if depth == thought and is_fit[node] and (first := lost({node}, thought + 1)):
            goes[node] = (first, lost(first, thought + 2))
    for node in range(graph.num_nodes):
        if node not in away and is_fit[node]:
            first = below({node}) - away.keys()
            # Other roots' frontiers are one step further, as ours is, or are not counted.
            if first:
                comes[node] = (first, below(first) - away.keys())
    nothing: tuple[Set[int], Set[int]] = (set(), set())
    added = rng.choice(sorted(comes)) if comes and name != "remove" else None
    removed = rng.choice(sorted(goes)) if goes and name != "add" else None
    if (name != "remove" and added is None) or (name != "add" and removed is None):
        return None
    answer, left = None, num_thoughts - thought  # steps
    if away[graph.target] == num_thoughts:  # all thoughts are needed
        held = {node for node, depth in away.items() if depth == thought and node != removed}
        held |= set() if added is None else {added}
        target, other = (
            [distances(graph, node).get(goal, left + 1) for node in held]
            for goal in (graph.target, graph.neg_target)
        )
        # A search that keeps what it passed reaches what is nearer too.
        if left in target and min(other, default=left + 1) > left:
            answer = "target"
        elif left in other and min(target, default=left + 1) > left:
            answer = "neg_target"
    return Edit(
        question,
        added,
        removed,
        nothing if added is None else comes[added],
        nothing if removed is None else goes[removed],
        answer,
    )


def followed(
    edits: Sequence[Edit],
    before_QNM: Tensor,
    after_BNM: Tensor,
    named: Mapping[int, str | None],
    thought: int,
) -> tuple[Row, dict[int, float]]:
    """Count which predictions hold, of one edit at one thought.

    Args:
        edits: One a question.
        before_QNM: Which nodes thoughts hold in the unchanged run, of all questions.
        after_BNM: The same under the edit, of the questions of `edits`.
        named: Question → the candidate that its answer names under the edit.
        thought: Which one was edited, from 1.

    Returns:
        The row, and the share of nodes that moved in the next thought by question.
    """
    shares: list[dict[int, float]] = [{}, {}]
    others: list[float] = []
    for row, edit in enumerate(edits):
        for step, moved in enumerate(shares):
            at = thought + step
            if at >= after_BNM.shape[1]:
                continue
            was, now = before_QNM[edit.question, at], after_BNM[row, at]
            held = [bool(now[node] and not was[node]) for node in edit.comes[step]]
            held += [bool(was[node] and not now[node]) for node in edit.goes[step]]
            if held:
                moved[edit.question] = sum(held) / len(held)
            if step == 0:
                meant = edit.comes[0] | edit.goes[0] | {edit.added, edit.removed}
                rest = [n for n in range(now.shape[0]) if n not in meant]
                others.append(float((was[rest] != now[rest]).float().mean()))
    found: Row = {"num_questions": len(edits)}
    for key, moved in (("next", shares[0]), ("later", shares[1])):
        limits: Any = {"lowest": 0.0, "highest": 1.0, "digits": 4}
        none = dict.fromkeys((key, f"{key}_low", f"{key}_high"))
        found |= mean_fields(key, list(moved.values()), **limits) if moved else none
        found[f"{key}_num_questions"] = len(moved)
    found["others"] = round(sum(others) / len(others), 4) if others else None
    predicted = [edit for edit in edits if edit.answer is not None]
    for key, those in (
        ("answer", predicted),
        ("flips", [edit for edit in predicted if edit.answer == "neg_target"]),
    ):
        found |= share_fields(key, [named[e.question] == e.answer for e in those], digits=4)
        found[f"{key}_num_questions"] = len(those)
    return found, shares[0]


# --- drawing ----------------------------------------------------------------------------------


def tables(result: Mapping[str, Any]) -> dict[str, Rows]:
    """Return the rows of the CSV files, by their names."""
    return tables_of(result, edits="edits", edits_overall="overall", edits_comparison="comparison")


def draw(result: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw `edits`, the shares that hold, and `edits-dose`, a swap by its dose; models in rows."""
    models, looks = models_of(result), {"node": (style.BLUE, "o"), "random": (style.GREY, "^")}
    most = max(model["num_thoughts"] for model in models)
    found: dict[str, Figure] = {}
    parts = ("next", "later", "answer", "flips")
    words = ("next\nthought", "one\nlater", "answer", "answer\nthat flips")
    with style.figure(2 * style.COLUMN, 0.6 + 1.7 * len(models)) as found["edits"]:
        grid = found["edits"].subplots(len(models), len(EDITS), sharey=True, squeeze=False)
        for panels, model in zip(grid, models, strict=True):
            for name, panel in zip(EDITS, panels, strict=True):
                for vector, (colour, marker) in looks.items():
                    for thought in range(1, most + 1):
                        rows = [
                            row for row in model["edits"]
                            if (row["edit"], row["thought"], row["dose"], row["vector"])
                            == (name, thought, 1.0, vector)
                        ]  # fmt: skip
                        shift = 0.7 * ((thought - 0.5) / most - 0.5)
                        for at, part in enumerate(parts):
                            there = [row for row in rows if row[part] is not None]
                            look: Any = {"color": colour, "marker": marker, "capsize": 1.5}
                            look["label"] = {"node": "along the node", "random": "random"}[vector]
                            style.points(panel, [at + shift] * len(there), there, part, **look)
                panel.set_title(name if model is models[0] else "")
                panel.set_xticks(range(len(parts)), words)
                panel.set(xlim=(-0.5, len(parts) - 0.5), ylim=(-0.03, 1.03))
                style.percents(panel.yaxis)
                if most > 1 and model is models[-1]:
                    panel.set_xlabel(f"each from left: thought 1 … {most}")
            panels[0].set_ylabel(f"predictions that hold\n({model['name']})")
        style.legend(found["edits"], grid[0], 2, "upper")
    swapped = {row["thought"] for m in models for row in m["edits"] if row["edit"] == "swap"}
    most = max(swapped, default=1)
    with style.figure(2 * style.COLUMN, 0.6 + 1.6 * len(models)) as found["edits-dose"]:
        grid = found["edits-dose"].subplots(len(models), most, sharey=True, squeeze=False)
        for panels, model in zip(grid, models, strict=True):
            for thought, panel in enumerate(panels, start=1):
                for vector, (colour, marker) in looks.items():
                    for part, line in (("next", "-"), ("flips", ":")):
                        rows = [
                            row for row in model["edits"]
                            if (row["edit"], row["thought"], row["vector"])
                            == ("swap", thought, vector) and row[part] is not None
                        ]  # fmt: skip
                        look = {"fmt": f"{line}{marker}", "color": colour, "elinewidth": 0.8}
                        moves = {"next": "nodes move", "flips": "answer flips"}[part]
                        look["label"] = (
                            f"{moves}, {'along the nodes' if vector == 'node' else vector}"
                        )
                        style.points(panel, [row["dose"] for row in rows], rows, part, **look)
                panel.set_title(f"thought {thought}" if model is models[0] else "")
                panel.set(xlim=(0, max(DOSES) + 0.1), ylim=(-0.03, 1.03), xlabel="dose of a swap")
                style.percents(panel.yaxis)
            panels[0].set_ylabel(f"predictions that hold\n({model['name']})")
        style.legend(found["edits-dose"], grid[0], 2, "upper")
    return found
