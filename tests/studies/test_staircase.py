"""The staircase and planted shortcuts of benchmarks/: data, predictions, what is told."""

import json
import random
import shlex
import shutil
import sys
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import pytest
import torch

from latentcot.data.examples import Example, read_examples
from latentcot.evaluation.evaluate import evaluate
from latentcot.evaluation.reasoner import load
from latentcot.evaluation.results import Evaluation
from latentcot.studies.study import cells_of, read_study, selected
from latentcot.tasks.prosqa.generator import graph_of
from latentcot.tasks.prosqa.graphs import Graph, distances, two_family_graph
from latentcot.tasks.prosqa.stats import depth

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import shortcuts  # noqa: E402
import staircase  # noqa: E402
import staircase_page  # noqa: E402

import studies  # noqa: E402

# Root 0 has 2 and 3; 2 has 4 and 5, of which 4 leads on to 6; 3 ends. Node 1 is another root, 7
# its child.
EDGES = ((0, 2), (0, 3), (2, 4), (2, 5), (4, 6), (1, 7))


# --- the studies ---


@pytest.mark.parametrize("name", ["staircase", "staircase-wide"])
def test_questions_of_all_hops_have_as_many_edges(name, latentcot, tmp_path):
    """Nothing but the search tells how far the answer is: neither size nor depth does."""
    study = read_study(ROOT / "studies" / f"{name}.yaml")
    sizes = {"--train": "60", "--valid": "1", "--test": "80"}
    for number, line in enumerate(study.data):
        words, out = shlex.split(line), tmp_path / str(number)
        for option, value in {**sizes, "--out": str(out)}.items():
            words[words.index(option) + 1] = value
        assert latentcot("data", "make", *words).code == 0
        examples = read_examples(str(out / "test.jsonl"))
        graphs = [graph_of(example) for example in examples]
        assert len({(graph.num_nodes, len(graph.edges)) for graph in graphs}) == 1
        assert all(depth(g, g.target) == depth(g, g.neg_target) for g in graphs)
        most = {task["curriculum.num_stages"] for task in study.tasks.values() if len(task) > 1}
        assert {len(e.steps) for e in examples} in [{*range(1, n + 1)} for n in most or {7}]


def test_every_recipe_of_the_studies_goes_to_its_last_stage():
    """Even if no stage were learned: its caps leave updates for the last one."""
    for name in ("staircase", "staircase-wide", "shortcuts"):
        for cell in cells_of(read_study(ROOT / "studies" / f"{name}.yaml")):
            caps = cell.recipe.curriculum.max_updates_per_stage
            assert sum(caps) < cell.recipe.training.max_updates * (1 if "stair" in name else 1.2)
    assert {method for part in staircase.PARTS.values() for method in part} == set(
        read_study(staircase.STUDY).methods
    )


def test_a_part_trains_its_methods_and_seeds_alone(monkeypatch):
    """In the folder of the whole study, which the next part goes on with."""
    commands = []

    code = 1  # a run failed: the others are asked all the same

    def command():
        commands.append(sys.argv)
        sys.exit(code)

    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr("studies.latentcot", command)
    staircase.train("words", [2, 4], jobs=2)
    staircase.train("wide", None, jobs=1)
    found = []
    for words in commands:
        only = [after for word, after in pairwise(words) if word == "--only"]
        study = read_study(Path(words[words.index("study") + 1]))
        found.append([cell.name for cell in selected(cells_of(study), only)])
    assert set(found[0]) == {
        f"staircase/{method}/seed-{seed}" for method in ("cot", "cot-bfs") for seed in (2, 4)
    }
    assert len(found[1]) == 8
    assert [words[words.index("--out") + 1] for words in commands] == [
        str(staircase.RUNS / "study"), str(staircase.RUNS / "wide-study"),
    ]  # fmt: skip
    code = 2
    with pytest.raises(SystemExit):
        staircase.train("words", None, jobs=1)


def test_the_plan_tells_hours_of_each_part(tmp_path, monkeypatch, capsys):
    """Of the seconds that were measured; before that it says how to measure."""
    monkeypatch.setattr(staircase, "ROOT", tmp_path)
    monkeypatch.setattr(staircase, "STUDY", tmp_path / "studies" / "staircase.yaml")
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    staircase.plan()
    assert "benchmarks/methods.py cost studies/staircase.yaml" in capsys.readouterr().out
    methods = [name for part in list(staircase.PARTS)[:-1] for name in staircase.PARTS[part]]
    rows = [{"method": name, "seconds": 0.036} for name in methods]
    (tmp_path / "results" / "staircase").mkdir(parents=True)
    cost = {"rows": rows, "provenance": {"machine": "here"}}
    (tmp_path / "results" / "staircase" / "cost.json").write_text(json.dumps(cost))
    staircase.plan()
    # 48,000 updates of 0.036 s are 0.48 hours, five seeds of it 2.4.
    assert "coconut: 2.4 hours of a core for 5 seeds" in capsys.readouterr().out


# --- chance at each fork ---


@pytest.mark.parametrize(
    ("target", "sight", "share"),
    [(2, 1, 1), (4, 1, 0.5), (6, 1, 0.25), (4, 2, 1), (6, 2, 1), (6, 3, 1)],
)
def test_a_walk_guesses_at_each_fork_that_it_does_not_see_through(target, sight, share):
    assert staircase.walk(Graph(8, EDGES, 0, target, 7), sight) == share


def test_walks_end_where_the_closed_form_says():
    """Against walks that are drawn."""
    rng = random.Random(0)
    graphs = [two_family_graph(rng, 4, 0, 1) for _ in range(30)]

    def arrives(graph: Graph) -> bool:
        node = graph.root
        while graph.children[node]:
            node = graph.target if graph.target in graph.children[node] else rng.choice(
                graph.children[node]
            )  # fmt: skip
            if node == graph.target:
                return True
        return False

    # A walk that has passed the target's level cannot come to it any more.
    drawn = fmean(arrives(graph) for graph in graphs for _ in range(400))
    assert fmean(staircase.walk(graph, 1) for graph in graphs) == pytest.approx(drawn, abs=0.02)


def test_forks_are_told_by_hops(data):
    found = staircase.forks(read_examples(str(data / "test.jsonl")))
    assert all(0.5 <= row["accuracy"] <= row["accuracy_sight_2"] <= 1 for row in found)
    assert staircase.forks([]) == []


# --- asking ---


@pytest.fixture(scope="module")
def asked(tiny_run):
    return staircase.ask(tiny_run, "coconut")


def test_a_run_is_asked_after_each_number_of_thoughts(tiny_run, data, asked):
    """Both ways, and each answer is what `evaluate` gives."""
    examples = read_examples(str(data / "test.jsonl"))
    reasoner = load(tiny_run, device="cpu")
    for number, way in ((0, "forced"), (3, "forced"), (3, "free"), (9, "free")):
        result = evaluate(reasoner, examples, num_thoughts=number, force_answer=way == "forced")
        rows = [r for r in asked["rows"] if (r["num_thoughts"], r["way"]) == (number, way)]
        assert sum(row["right"] for row in rows) == sum(one.is_correct for one in result.records)
        assert sum(row["questions"] for row in rows) == len(examples)
        tokens = sum(row["tokens"] * row["questions"] for row in rows) / len(examples)
        assert tokens == pytest.approx(result.tokens_per_question)
    assert {row["num_thoughts"] for row in asked["rows"]} == set(range(10))


def test_mass_by_depth_is_a_share(asked):
    """What is left lies elsewhere."""
    for key in ("all", "on_the_way"):
        assert len(asked["mass"][key]) == 2
        assert all(0 < sum(depths) < 1 for depths in asked["mass"][key])


def test_the_opening_of_the_answer_after_the_search(asked, tiny_run, data, monkeypatch):
    """All questions have two hops; were it one, the second thought would come after the search."""
    assert asked["opening"] == [None, None]
    subject = staircase.subject_of(tiny_run, read_examples(str(data / "test.jsonl")))
    monkeypatch.setattr(staircase, "distances", lambda graph, root: {graph.target: 1})
    first, second = staircase.opening(subject)
    assert first is None
    assert 0 < second < 1


def test_mass_on_the_way(monkeypatch):
    """Thought i of a question has a quarter on what is i hops away, the rest on the target."""
    rng = random.Random(0)
    graphs = [two_family_graph(rng, layers=layers, shared=0) for layers in (1, 3)]

    def probabilities(_):
        for graph in graphs:
            shares = torch.zeros(3, graph.num_nodes)
            away = distances(graph, graph.root)
            for number in range(3):
                [node, *_] = [n for n, d in away.items() if d == number + 1] or [graph.root]
                shares[number, node] += 0.25
                shares[number, graph.target] += 0.75
            yield shares

    monkeypatch.setattr(staircase, "node_probabilities", probabilities)
    found = staircase.mass(SimpleNamespace(graphs=graphs, most_thoughts=3))
    whole = [row[number + 1] for number, row in enumerate(found["all"])]
    on_the_way = [row[number + 1] for number, row in enumerate(found["on_the_way"])]
    # The graph of one layer has its target at depth 1, that of three at 3.
    assert whole == pytest.approx([(1 + 0.25) / 2, 0.25 / 2, 1 / 2])
    assert on_the_way == pytest.approx([(1 + 0.25) / 2, 0.25, 1])


def test_a_chain_is_cut_anywhere():
    """The answer stays, and is all that tells of the steps that are gone."""
    example, rng = Example("a", "q", ["1", "2", "3"], "3"), random.Random(0)
    found = [staircase.cut(example, rng) for _ in range(100)]
    assert {len(one.steps) for one in found} == {0, 1, 2, 3}
    assert {one.answer for one in found} == {"3"}
    assert all(one.steps == example.steps[: len(one.steps)] for one in found)


def test_going_on_needs_a_finished_run(tmp_path, monkeypatch):
    monkeypatch.setattr(staircase, "RUNS", tmp_path)
    with pytest.raises(SystemExit, match="First: staircase.py run coconut"):
        staircase.go_on_early()


def test_a_run_is_not_asked_twice(tiny_run, tmp_path, monkeypatch):
    """And what was found goes into the table whether or not it was asked just now."""
    run = tmp_path / "study" / "staircase" / "coconut" / "seed-3"
    shutil.copytree(tiny_run, run)
    (run / "evals").mkdir(exist_ok=True)
    (run / "evals" / "test.json").write_text("{}")
    table, calls = tmp_path / "table.json", []
    monkeypatch.setattr(staircase, "RUNS", tmp_path)
    monkeypatch.setattr(staircase, "ASKED", tmp_path / "asked")
    monkeypatch.setattr(staircase, "TABLE", table)
    row = {"hops": 2, "num_thoughts": 1, "way": "forced", "right": 3, "questions": 4,
           "tokens": 2.0, "passes": 3.0}  # fmt: skip

    def ask(path, method):
        calls.append((path, method))
        return {"rows": [row], "costs": [row | {"edges": 4}], "mass": masses([]), "opening": []}

    monkeypatch.setattr(staircase, "ask", ask)
    for _ in range(2):
        staircase.ask_all()
        found = json.loads(table.read_text())
        [told] = found["rows"]
        assert (told["hops"], told["num_thoughts"]) == (2, 1)
        assert (told["accuracy_mean"], told["num_seeds"], told["seeds"]) == (0.75, 1, [3])
        assert found["runs"][0]["commit"] and found["provenance"]["machine"]
    assert calls == [(run, "coconut")]


# --- the page ---


def masses(rows):
    return {"all": rows, "on_the_way": rows}


def table_with(edge_of, *, seeds=(1, 2), pause=0.5):
    """A table in which the answer is known from `edge_of(hops)` thoughts on."""

    def runs(method, rows, mass=(), task="staircase"):
        return [
            {"task": task, "method": method, "seed": seed, "minutes": 1.0, "warnings": [],
             "commit": "abc", "machine": "here", "rows": rows, "mass": masses(list(mass)),
             "opening": [None, 0.9, 0.8],
             "costs": [rows[-1] | {"edges": 28}]}
            for seed in seeds
        ]  # fmt: skip

    def row(hops, number, share, way="free"):
        return {"hops": hops, "num_thoughts": number, "way": way, "right": round(400 * share),
                "questions": 400, "tokens": 9.0, "passes": 10.0}  # fmt: skip

    hops = range(1, 8)
    stairs = [
        row(n, t, 1.0 if t >= edge_of(n) else 0.5, way)
        for way in ("forced", "free") for n in hops for t in range(10)
    ]  # fmt: skip
    mass = [[0.9 * (depth == thought + 1) for depth in range(8)] for thought in range(7)]
    found = runs("coconut", stairs, mass)
    found += runs("coconut", stairs, mass, "early")
    found += runs("pause", [row(n, t, pause, "forced") for n in hops for t in range(10)])
    found += runs("cot", [row(n, 0, 0.7) for n in hops])
    found += runs("cot-bfs", [row(n, 0, 1.0) for n in hops])
    for method in staircase_page.NO_COTS:
        found += runs(method, [row(n, 0, 0.5) for n in hops])
    chance = [{"hops": n, "accuracy": 0.72, "accuracy_sight_2": 0.8} for n in hops]
    return staircase.table_of(found, chance)


def verdicts(found):
    return [claim.measured(found)[1] for claim in staircase_page.CLAIMS]


def test_claims_hold_where_they_must_and_nowhere_else():
    stairs, early, grid = (staircase_page.CLAIMS[number] for number in (0, 2, 3))
    assert verdicts(table_with(lambda hops: hops - 1)) == [True] * 9
    assert verdicts(table_with(lambda hops: hops)) == [True] * 9
    assert stairs.measured(table_with(lambda hops: min(hops, 3)))[1] is False
    assert stairs.measured(table_with(lambda hops: hops + 1))[1] is False  # 7 hops: never
    assert stairs.measured(table_with(lambda hops: 2 * hops))[1] is False
    assert verdicts(table_with(lambda hops: hops, pause=0.8))[5] is False
    learned = table_with(lambda hops: hops)
    for row in learned["early"]:
        if row["num_thoughts"] == row["hops"] - 1:
            row["accuracy_mean"] = 0.7
    assert early.measured(learned)[1] is False
    falls = table_with(lambda hops: hops)
    for row in falls["rows"]:
        if row["num_thoughts"] > row["hops"]:
            row["accuracy_mean"] = 0.6
    assert grid.measured(falls)[1] is False
    layers, few = staircase_page.CLAIMS[6], table_with(lambda hops: hops)
    few["others"] = [row for row in few["others"] if row["method"] != "no-cot-12"]
    assert layers.measured(few) is None  # the deepest could still have it
    for row in few["others"]:
        row["accuracy_mean"] = 0.9 if row["method"] == "no-cot-4" else row["accuracy_mean"]
    assert layers.measured(few)[1] is False
    empty = staircase.table_of([], [])
    assert [claim.measured(empty) for claim in staircase_page.CLAIMS] == [None] * 9


def test_one_seed_without_stairs_is_told():
    found = table_with(lambda hops: hops)
    for row in found["rows"]:
        row["accuracies"][1] = 0.5
    told, has_held = staircase_page.CLAIMS[0].measured(found)
    assert has_held and "by seed: D in 1, uneven in 1" in told  # the means were left as they are


def test_the_page_is_written_from_the_table(tmp_path, monkeypatch):
    """Before anything has run it says so, with what would refute it."""
    page, table = tmp_path / "docs" / "results.md", tmp_path / "table.json"
    page.parent.mkdir()
    for name in staircase_page.READMES:
        (tmp_path / name).write_text(
            "<!-- stairs: written by benchmarks/staircase.py --><!-- /stairs -->"
        )
    page.write_text(
        "a\n<!-- staircase: written by benchmarks/staircase.py -->\n<!-- /staircase -->b"
    )
    for name, value in {"PAGE": page, "TABLE": table, "FIGURE": tmp_path / "s.png"}.items():
        monkeypatch.setattr(staircase_page, name, value)
    staircase_page.write_page()
    text = page.read_text()
    assert "**Not run yet.**" in text and text.count("Not measured yet.") == 9
    assert text.endswith("<!-- /staircase -->b") and "%" not in text.split("|")[0]
    drawn = []
    monkeypatch.setattr(staircase_page, "draw", lambda found, path: drawn.append(path))
    table.write_text(json.dumps(table_with(lambda hops: hops)))
    staircase_page.write_page()
    text = page.read_text()
    assert "Not run yet" not in text and text.count("Held: ") == 9
    assert "| 3 | 50.0 | 50.0 | 50.0 | **100.0** |" in text
    assert "with a probability of 0.80 to 0.90." in text
    assert text.count("| 3 | 50.0 | 50.0 | 50.0 | **100.0** |") == 2
    assert drawn == [tmp_path / "s.png"]
    short = (tmp_path / "README.md").read_text()
    assert "(D in 2 of 2 seeds). With too few it is right in 50 to 50 %" in short
    assert short.count("up to the 7 of training, in 100.0 % or more.") == 1
    assert "至少 100.0 %" in (tmp_path / "README.zh-CN.md").read_text()


@pytest.mark.slow
def test_the_figure_is_drawn_with_all_parts_and_with_the_first_alone(tmp_path):
    """Coconut's runs are the first to come; the others are not there yet."""
    whole = table_with(lambda hops: hops)
    first = {**whole, "others": [], "costs": whole["costs"][:1], "forks": []}
    sizes = []
    for found in (whole, first):
        staircase_page.draw(found, tmp_path / "s.png")
        sizes.append((tmp_path / "s.png").stat().st_size)
    assert sizes[0] > sizes[1] > 10_000
    assert not (tmp_path / "s.pdf").exists()


def test_the_page_of_results_has_room_for_both():
    text = studies.PAGE.read_text(encoding="utf-8")
    for name, script in (("staircase", "staircase.py"), ("shortcuts", "studies.py")):
        assert f"<!-- {name}: written by benchmarks/{script} -->" in text
        assert f"<!-- /{name} -->" in text


# --- planted shortcuts ---


def test_shortcuts_are_told_by_where_the_answer_stands(tiny_run, data, latentcot, tmp_path):
    examples = read_examples(str(data / "test.jsonl"))
    run = tmp_path / "leak-50" / "coconut" / "seed-1"
    shutil.copytree(tiny_run, run)
    assert latentcot("eval", run, "--quiet").code == 0
    result = Evaluation.read(run / "evals" / "test.json")
    [row] = shortcuts.rows_of(tmp_path)
    assert (row["leak"], row["method"], row["seed"]) == (50, "coconut", 1)
    sizes = row["questions"]
    assert sum(sizes.values()) == len(examples) and min(sizes.values()) > 0
    right = sum(row[order] * sizes[order] for order in shortcuts.ORDERS)
    assert right == pytest.approx(sum(one.is_correct for one in result.records))
    text = shortcuts.below([row, row | {"seed": 2}])
    assert "coconut, answer named second" in text and "± 0.0" in text
