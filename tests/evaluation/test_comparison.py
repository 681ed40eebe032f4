"""Runs side by side and methods over seeds, on result files that the tests make up."""

import csv
import json
import re
from dataclasses import asdict, astuple, replace
from statistics import stdev

import pytest

from latentcot import RunError, UsageError, compare
from latentcot.evaluation.comparison import FailedRun, read_runs, summarize
from latentcot.evaluation.results import Estimate, Evaluated
from latentcot.evaluation.statistics import holm, mcnemar, paired_p_value, share_with_interval
from latentcot.evaluation.tables import notes, write_summaries
from latentcot.utils.versions import EVALUATION_VERSION


def result_file(right, method="coconut", task="prosqa", **changes):
    """The values of a result file; `right` is a text like `1101`, a digit for each question."""
    accuracy, low, high = share_with_interval(right.count("1"), len(right))
    return {
        "method": method,
        "task": task,
        "stage": 3,
        "accuracy": {"value": accuracy, "low": low, "high": high, "n": len(right)},
        "tokens_per_question": 5.0,
        "thoughts_per_question": 3.0,
        "passes_per_question": 6.0,
        "seconds_per_question": 0.002,
        "batch_size": 100,
        "records": [{"id": f"test-{i}", "is_correct": one == "1"} for i, one in enumerate(right)],
        "checkpoint": {"path": "run", "update": 90, "updates": 100},
        "data": {"file": "test.jsonl", "sha256": f"{task}-{len(right)}"},
        "provenance": {"commit": "abc", "is_tree_dirty": False, "machine": "a box"},
        "format_version": 3,
    } | changes


def of_version(version, **changes):
    """The values of a result file as an older latentcot wrote it; without a version before 1."""
    values = result_file("10", tokens_per_question=5.0 if version == 2 else 2.0)
    accuracy = values.pop("accuracy")
    values |= {"accuracy": accuracy["value"], "num_questions": accuracy["n"]}
    values |= {end: accuracy[end] for end in ("low", "high")}
    values["checkpoint"] = {"path": "run", "update": 90, "run_updates": 100}
    del values["format_version"]
    if version < 2:
        del values["task"]
    return values | ({"schema_version": version} if version else {}) | changes


@pytest.fixture
def make_run(tmp_path):
    """A function (folder, right, seed=, recipe={…}, of result_file=…) → a run with a result."""

    def make(name, right, *, seed=0, recipe=None, **changes):
        run = tmp_path / name
        values = result_file(right, **changes)
        own = {
            "method": values["method"],
            "task": values["task"],
            "seed": seed,
            "data": {"test": f"{name}.jsonl"},
            "curriculum": {"thoughts_per_step": 1},
        }
        (run / "evals").mkdir(parents=True)
        (run / "recipe.yaml").write_text(json.dumps(own | (recipe or {})))  # JSON is YAML
        (run / "evals" / "test.json").write_text(json.dumps(values))
        return run

    return make


@pytest.fixture
def study(tmp_path, make_run):
    """Three seeds of two methods on a task; one run failed, one has not finished, one is not there.

    The folders have names of their own: the study has two variants of one method.
    """
    make_run("study/small/coconut/seed-0", "1111", seed=0)
    make_run("study/small/coconut/seed-10", "1110", seed=10)
    make_run("study/small/coconut-wide/seed-0", "1000", seed=0)
    unfinished = make_run("study/small/coconut-wide/seed-1", "1", seed=1)
    (unfinished / "evals" / "test.json").unlink()
    study = tmp_path / "study"
    (study / "study.yaml").write_text("{}")
    (study / "small" / "coconut" / "seed-2.log").write_text(
        "epoch 1\n\x1b[31mTrainingError: the loss [nan] is no number, 100 % & more_\x1b[0m\n\n"
    )
    (study / "data").mkdir()
    return study


@pytest.fixture
def failing(study):
    """The same with a third method, of which no run has a result."""
    (study / "small" / "cot").mkdir()
    (study / "small" / "cot" / "seed-0.log").write_text("out of memory\n")
    (study / "small" / "cot" / "seed-7.yaml").write_text("method: cot\n")
    return study


@pytest.fixture
def twins(make_run):
    """cot and coconut with seeds 0, 1, 2 on ten questions, coconut ahead each time."""
    rights = {
        "coconut": ("1111111111", "1111111110", "1111111100"),
        "cot": ("1111000000", "1110000000", "1111000000"),
    }
    return [
        make_run(f"{method}-{seed}", right, seed=seed, method=method)
        for method, all_ in rights.items()
        for seed, right in enumerate(all_)
    ]


class TestSummaries:
    def test_means_over_the_seeds(self, make_run):
        runs = [
            make_run(
                f"run-{seed}",
                right,
                seed=seed,
                tokens_per_question=5.0 + seed,
                passes_per_question=6.0 + seed,
                seconds_per_question=0.001 * (1 + seed),
            )
            for seed, right in enumerate(("1100", "1110", "1111"))
        ]
        [one] = summarize(runs)
        accuracies = [0.5, 0.75, 1.0]
        assert (one.task, one.method, one.seeds) == ("prosqa", "coconut", (0, 1, 2))
        assert one.accuracies == tuple(accuracies)
        assert astuple(one.accuracy) == pytest.approx((*share_with_interval(3, 4), 4))
        assert one.accuracy_sd == pytest.approx(stdev(accuracies))
        low = 0.75 - 4.302653 * 0.25 / 3**0.5
        assert astuple(one.over_seeds) == pytest.approx((0.75, low, 1, 3))  # not up to 1.37
        assert one.updates == (100, 100, 100)
        assert (one.tokens_per_question, one.thoughts_per_question) == (6, 3)
        assert (one.passes_per_question, one.seconds_per_question) == (7, pytest.approx(0.002))
        assert (one.commits, one.machines, one.failed) == (("abc",), ("a box",), ())
        assert (one.versus, one.difference, one.p, one.p_adjusted) == (None,) * 4

    def test_one_seed_has_no_spread_and_the_interval_of_the_run(self, make_run):
        run = make_run("run", "1101")
        [one], [row] = summarize([run]), compare([run])
        assert (one.accuracy_sd, one.over_seeds) == (None, None)
        assert astuple(one.accuracy) == pytest.approx(astuple(row.result.accuracy))

    def test_seeds_do_not_depend_on_the_order_of_the_runs(self, twins):
        forwards, backwards = (summarize(runs, baseline="cot") for runs in (twins, twins[::-1]))
        assert forwards == backwards[::-1]

    def test_tasks_stay_together(self, make_run):
        runs = [
            make_run(f"{task}-{method}", right, task=task, method=method)
            for method in ("cot", "coconut")
            for task, right in (("gsm8k", "10"), ("prosqa", "110"))
        ]
        found = [(one.task, one.method, one.accuracy.n) for one in summarize(runs)]
        assert found == [
            ("gsm8k", "cot", 2), ("gsm8k", "coconut", 2), ("prosqa", "cot", 3),
            ("prosqa", "coconut", 3),
        ]  # fmt: skip

    def test_recipes_that_differ_in_more_than_the_seed_are_told(self, make_run):
        runs = [
            make_run(f"{seed}", "10", seed=seed, recipe={"curriculum": {"thoughts_per_step": c}})
            for seed, c in ((0, 1), (1, 2))
        ]
        [one] = summarize(runs)
        assert one.varied == ("curriculum.thoughts_per_step",)  # not the seed, not the file
        told = "coconut: the recipes of its runs differ in curriculum.thoughts_per_step"
        assert notes([one]) == [told]

    def test_one_seed_must_not_count_twice(self, make_run):
        runs = [make_run(name, "10", seed=3) for name in "ab"]
        with pytest.raises(RunError, match=r"/a and .*/b are both coconut on prosqa with seed 3"):
            summarize(runs)
        assert len(compare(runs)) == 2  # side by side they can stand


class TestTests:
    def test_mcnemar_over_the_seeds_and_holm_over_the_methods(self, twins, make_run):
        pause = [
            make_run(f"pause-{seed}", right, seed=seed, method="pause")
            for seed, right in enumerate(("1111100000", "1110000000", "1111000000"))
        ]
        coconut, cot, other = summarize([*twins, *pause], baseline="cot")
        assert (cot.versus, cot.difference, cot.p, cot.p_adjusted) == (None,) * 4
        assert coconut.versus == other.versus == "cot"
        assert coconut.difference == pytest.approx(100 * (0.9 - 11 / 30))
        assert coconut.paired_seeds == (0, 1, 2)
        p_values = [
            paired_p_value([(6, 0), (6, 0), (4, 0)]),
            paired_p_value([(1, 0), (0, 0), (0, 0)]),
        ]
        assert p_values[0] == pytest.approx(2 * (2 * 2 / 64 + 2 / 16) / 3)
        assert [coconut.p, other.p] == pytest.approx(p_values)
        assert [coconut.p_adjusted, other.p_adjusted] == pytest.approx(holm(p_values))

    def test_questions_are_paired_by_their_ids(self, make_run):
        records = result_file("111100")["records"]
        shuffled = [records[i] for i in (5, 0, 4, 1, 3, 2)]
        other = [record | {"id": f"x{i}"} for i, record in enumerate(records)]
        first = make_run("first", "111100")
        second = make_run("second", "111100", method="cot", records=shuffled)
        assert summarize([first, second], baseline="cot")[0].p == 1
        third = make_run("third", "111100", method="pause", records=other)
        with pytest.raises(RunError, match="other ids"):
            summarize([first, third], baseline="pause")

    def test_only_seeds_that_both_have_are_paired(self, make_run):
        ours = [make_run("a0", "1111111", seed=0), make_run("a1", "1111111", seed=1)]
        same = make_run("b0", "0000000", seed=0, method="cot")
        coconut, _ = summarize([*ours, same], baseline="cot")
        assert (coconut.seeds, coconut.paired_seeds, coconut.p) == ((0, 1), (0,), mcnemar(7, 0))
        assert "p are about seed 0 alone" in notes([coconut])[0]
        coconut, _ = summarize([ours[1], same], baseline="cot")
        assert (coconut.p, coconut.p_adjusted, coconut.difference) == (None, None, 100)
        assert "there is no p" in notes([coconut])[0]

    def test_each_task_is_tested_by_itself(self, make_run):
        """Holm counts its comparisons; without the baseline there is no test."""
        runs = [
            make_run(f"{task}-{method}", right, task=task, method=method)
            for task in ("gsm8k", "prosqa")
            for method, right in (("cot", "0" * 8), ("coconut", "1" * 8))
        ]
        found = summarize([*runs, make_run("c", "101", task="arithmetic")], baseline="cot")
        assert [one.versus for one in found] == [None, "cot", None, "cot", None]
        assert [one.p_adjusted for one in found if one.versus] == [mcnemar(8, 0)] * 2

    def test_a_baseline_that_is_not_there(self, twins):
        with pytest.raises(RunError, match=r"Did you mean 'cot'\? There are: coconut, cot\."):
            summarize(twins, baseline="cott")


class TestStudies:
    def test_the_folders_give_the_names(self, study):
        rows = compare([study])
        assert [(row.task, row.method, row.seed) for row in rows] == [
            ("small", "coconut", 0), ("small", "coconut", 10), ("small", "coconut-wide", 0)
        ]  # fmt: skip

    def test_failed_runs_are_told(self, study):
        nan = "TrainingError: the loss [nan] is no number, 100 % & more_"
        assert [one for one in read_runs([study]) if isinstance(one, FailedRun)] == [
            FailedRun("small", "coconut", 2, nan),
            FailedRun("small", "coconut-wide", 1, "not finished"),
        ]
        coconut, wide = summarize([study], baseline="coconut")
        assert (coconut.seeds, coconut.failed) == ((0, 10), ((2, nan),))
        assert (wide.seeds, wide.failed) == ((0,), ((1, "not finished"),))
        assert notes([coconut]) == [f"coconut: 2 of 3 seeds; seed 2 has no result: {nan}"]
        reasons = {one.reason for one in read_runs([study], "tset") if isinstance(one, FailedRun)}
        assert "has no evaluation 'tset', only test" in reasons

    def test_a_method_without_any_result_is_a_row(self, failing):
        """One of its runs has failed, one has not begun."""
        cot = summarize([failing])[0]
        assert (cot.method, cot.seeds, cot.accuracy) == ("cot", (), None)
        assert cot.failed == ((0, "out of memory"), (7, "not finished"))
        assert notes([cot])[0].startswith(
            "cot: 0 of 2 seeds; seed 0 has no result: out of memory; seed 7"
        )
        tested = summarize([failing], baseline="cot")
        assert {(one.difference, one.p) for one in tested} == {(None, None)}

    def test_the_method_table_gives_the_order(self, tmp_path, make_run):
        (tmp_path / "study.yaml").write_text("{}")
        for name in ("zebra", "coconut", "ape", "no-cot", "cot"):
            make_run(f"small/{name}/seed-0", "10")
        assert [one.method for one in summarize([tmp_path])] == [
            "cot", "no-cot", "coconut", "ape", "zebra"
        ]  # fmt: skip

    def test_next_to_single_runs(self, study, make_run):
        run = make_run("mine", "1111", task="small", method="cot", data={"sha256": "prosqa-4"})
        assert [one.method for one in summarize([run, study])] == ["coconut", "coconut-wide", "cot"]
        assert compare([run, study])[0].method == "cot"

    def test_an_empty_study(self, tmp_path):
        (tmp_path / "study.yaml").write_text("{}")
        with pytest.raises(RunError, match="has no runs yet"):
            summarize([tmp_path])


class TestFiles:
    """What is read, and what is refused."""

    @pytest.mark.parametrize("version", [0, 1, 2, 3])
    def test_every_version_is_read_alike(self, make_run, version):
        """Version 1 did not count thoughts as tokens, and left the task to the recipe."""
        run = make_run("run", "10", task="gsm8k")
        if version < 3:
            old = of_version(version, **({"task": "gsm8k"} if version == 2 else {}))
            (run / "evals" / "test.json").write_text(json.dumps(old))
        [row] = compare([run])
        result = row.result
        assert (row.task, row.method, row.updates) == ("gsm8k", "coconut", 100)
        assert result.format_version == max(1, version)
        assert result.accuracy == Estimate(*share_with_interval(1, 2), 2)
        assert (result.tokens_per_question, result.thoughts_per_question) == (5, 3)
        assert result.checkpoint == Evaluated(updates=100, update=90, path="run")
        assert [record.is_correct for record in result.records] == [True, False]
        assert (result.commit, result.machine) == ("abc", "a box")

        result.write(run / "evals" / "again.json")
        [again] = compare([run], "again")
        assert again.result == replace(result, format_version=EVALUATION_VERSION)

    def test_custom_data_are_a_task_of_their_own(self, make_run):
        how = {"match": "number"}
        runs = [make_run("1", "10", recipe={"task": how}), make_run("2", "10", seed=1)]
        (runs[0] / "evals" / "test.json").write_text(json.dumps(of_version(1)))
        (runs[1] / "evals" / "test.json").write_text(json.dumps(of_version(2, task=how)))
        assert [row.task for row in compare(runs)] == ["own", "own"]

    def test_a_newer_version_is_refused(self, make_run):
        run = make_run("run", "10", format_version=EVALUATION_VERSION + 1)
        with pytest.raises(RunError, match=r"format_version 4, .* reads up to 3.*Upgrade"):
            compare([run])

    @pytest.mark.parametrize("version", ["2", 0, True, 1.0, None])
    @pytest.mark.parametrize("key", ["format_version", "schema_version"])
    def test_what_is_no_version_is_damage(self, make_run, key, version):
        run = make_run("run", "10")
        values = {k: v for k, v in result_file("10").items() if k != "format_version"}
        (run / "evals" / "test.json").write_text(json.dumps(values | {key: version}))
        with pytest.raises(RunError, match=r"format_version must be 1 … 3, got .*damaged"):
            compare([run])

    def test_all_runs_that_lack_a_result_are_named(self, make_run):
        runs = [make_run(name, "10", seed=seed) for seed, name in enumerate("abc")]
        for run in runs[:2]:
            (run / "evals" / "test.json").unlink()
        with pytest.raises(RunError, match=r"2 of 3 runs have no evaluation 'test': .*/a, .*/b\."):
            compare(runs)

    def test_other_questions_of_one_task_are_refused(self, make_run):
        runs = [make_run("a", "10"), make_run("b", "10", data={"sha256": "other"}, seed=1)]
        for read in (compare, summarize):
            with pytest.raises(RunError, match="were evaluated on different files"):
                read(runs)
        more = make_run("c", "101", data={"sha256": "prosqa-2"})
        with pytest.raises(RunError, match="or parts of them"):
            compare([runs[0], more])
        assert len(compare([runs[0], make_run("d", "101", task="gsm8k")])) == 2

    @pytest.mark.parametrize(
        ("changes", "where"),
        [
            ({"accuracy": "much"}, "accuracy"),
            ({"accuracy": {"value": 2, "low": 0, "high": 1, "n": 2}}, "accuracy.value"),
            ({"accuracy": {"value": 0.5, "low": 0, "high": 1}}, "accuracy.n"),
            ({"checkpoint": 3}, "checkpoint"),
            ({"checkpoint": None}, "checkpoint.updates"),
            ({"data": {}}, "data.sha256"),
            ({"records": [{"id": "1"}]}, "records.0.is_correct"),
            ({"provenance": "here"}, "provenance"),
            ({"tokens_per_question": None}, "tokens_per_question"),
            (of_version(1, tokens_per_question=None), "tokens_per_question"),
            (of_version(2, accuracy=None), "accuracy.value"),
        ],
        ids=str,
    )
    def test_a_damaged_file_is_named(self, make_run, changes, where):
        run = make_run("run", "10")
        values = changes if "schema_version" in changes else result_file("10") | changes
        (run / "evals" / "test.json").write_text(json.dumps(values))
        with pytest.raises(RunError, match=rf"test\.json: is no result file of .*: {where}: "):
            compare([run])

    @pytest.mark.parametrize(
        ("text", "told"), [("[]", "must hold an object, got list"), ("{", "cannot be read as JSON")]
    )
    def test_no_object(self, make_run, text, told):
        run = make_run("run", "10")
        (run / "evals" / "test.json").write_text(text)
        with pytest.raises(RunError, match=rf"test\.json: {told}"):
            compare([run])


class TestWriters:
    @pytest.fixture
    def summaries(self, study):
        return summarize([study], baseline="coconut")

    def test_json_and_csv_have_the_same_keys(self, summaries, tmp_path):
        write_summaries(tmp_path / "new" / "table.json", summaries, "test")
        written = json.loads((tmp_path / "new" / "table.json").read_text())
        assert (written["format_version"], written["evaluation"]) == (2, "test")
        assert written["provenance"] == {"commits": ["abc"], "machines": ["a box"]}
        coconut, wide = written["rows"]
        assert (coconut["num_seeds"], coconut["num_failed"], coconut["seeds"]) == (2, 1, [0, 10])
        assert coconut["accuracy"] == asdict(summaries[0].accuracy)
        assert coconut["accuracy_sd"] == summaries[0].accuracy_sd
        assert coconut["failed"][0]["seed"] == 2
        assert (wide["versus"], wide["p_adjusted"]) == ("coconut", summaries[1].p_adjusted)
        assert (wide["accuracy_sd"], wide["over_seeds"]) == (None, None)

        write_summaries(tmp_path / "table.CSV", summaries)
        with (tmp_path / "table.CSV").open(newline="") as file:
            coconut, wide = csv.DictReader(file)
        assert float(coconut["accuracy.value"]) == summaries[0].accuracy.value
        assert (coconut["accuracy.n"], coconut["over_seeds.n"]) == ("4", "2")
        assert (coconut["seeds"], coconut["num_seeds"]) == ("0; 10", "2")
        assert coconut["updates"] == "100; 100"
        assert coconut["failed"].startswith("2: TrainingError")
        assert (wide["accuracy_sd"], wide["over_seeds.n"], wide["versus"]) == ("", "", "coconut")
        plain = {name.partition(".")[0] for name in wide}
        assert plain == {*written["rows"][0], "evaluation"}

    def test_markdown(self, summaries, tmp_path):
        write_summaries(tmp_path / "table.md", summaries)
        text = (tmp_path / "table.md").read_text()
        table = [line for line in text.splitlines() if line.startswith("|")]
        assert len(table) == 4
        assert len({line.count("|") for line in table}) == 1
        assert table[2].startswith("| coconut | 87.5 ± 17.7 |")
        assert "| 2 of 3 |" in table[2]
        assert "| −75.0 | 0.250 | 1 of 2 |" in table[3]
        assert "- coconut: 2 of 3 seeds; seed 2 has no result: TrainingError" in text
        assert "## small, 4 questions" in text and "Commits: abc" in text

    def test_latex(self, summaries, tmp_path):
        write_summaries(tmp_path / "table.tex", summaries)
        text = (tmp_path / "table.tex").read_text()
        for part in (r"\begin{table*}", r"\toprule", r"\midrule", r"\bottomrule", r"\end{table*}",
                     r"87.5 $\pm$ 17.7", "$-$75.0", r"100 \% \& more\_"):  # fmt: skip
            assert part in text
        assert not re.search(r"[±–−]", text)
        body = [line for line in text.splitlines() if line.endswith(r"\\") and "&" in line]
        assert len({len(re.findall(r"(?<!\\)&", line)) for line in body}) == 1
        # Apart from the comments of the first lines, each % is a character.
        code = [line for line in text.splitlines() if not line.startswith("%")]
        assert not any(re.search(r"(?<!\\)%", line) for line in code)
        begun = re.findall(r"\\begin\{(.*?)\}", text)
        assert begun == re.findall(r"\\end\{(.*?)\}", text)[::-1]

    def test_names_with_special_characters(self, make_run, tmp_path):
        run = make_run("run", "10", task="50%_&\\{x}|~^")
        write_summaries(tmp_path / "t.tex", summarize([run]))
        expected = r"50\%\_\&\textbackslash{}\{x\}|\textasciitilde{}\textasciicircum{}"
        assert expected in (tmp_path / "t.tex").read_text()
        write_summaries(tmp_path / "t.md", summarize([run]))
        assert r"## 50%_&\{x}\|~^, 2 questions" in (tmp_path / "t.md").read_text()

    @pytest.mark.parametrize("name", ["table.xlsx", "table"])
    def test_another_ending_is_refused(self, summaries, tmp_path, name):
        with pytest.raises(UsageError, match=r"\.md, \.tex, \.csv, \.json"):
            write_summaries(tmp_path / name, summaries)

    def test_seconds_of_unlike_batches(self, make_run):
        runs = [make_run("a", "10"), make_run("b", "10", method="cot", batch_size=1)]
        told = "seconds cannot be compared: measured with 1, 100 questions at a time"
        assert notes(summarize(runs)) == [told]

    @pytest.mark.parametrize("ending", [".md", ".tex", ".csv", ".json"])
    def test_a_method_without_any_result(self, tmp_path, failing, ending):
        write_summaries(tmp_path / f"t{ending}", summarize([failing]))
        assert "out of memory" in (tmp_path / f"t{ending}").read_text()


class TestCommand:
    def test_one_seed_each_is_a_row_each(self, latentcot, make_run):
        runs = [make_run("a", "110"), make_run("b", "100", method="cot")]
        shown = latentcot("compare", *runs)
        assert shown.code == 0
        assert "questions 3, updates 100, seed 0" in shown.out
        assert shown.out.count(" %") == 3  # the title of the interval, and two accuracies
        rows = json.loads(latentcot("compare", *runs, "--json").out)
        assert [row["method"] for row in rows] == ["coconut", "cot"]

    def test_several_seeds_are_one_row_in_the_table_of_their_task(self, latentcot, twins, make_run):
        others = [make_run(f"other-{n}", "10", task="gsm8k", seed=n) for n in (0, 1)]
        assert "gsm8k, questions 2" in latentcot("compare", *twins, *others).out
        shown = latentcot("compare", *twins)
        assert shown.code == 0
        assert "prosqa, questions 10, updates 100, seeds 3" in shown.out
        assert "90.0 ± 10.0" in shown.out
        assert max(map(len, shown.out.split("\n\n")[0].splitlines())) <= 80

        by_run = latentcot("compare", *twins, "--runs").out
        assert "questions 10, updates 100" in by_run
        for name in ("coconut", "cot"):
            assert len(re.findall(rf"^{name} ", by_run, re.M)) == 3
        rows = json.loads(latentcot("compare", *twins, "--runs", "--json").out)
        assert [row["seed"] for row in rows] == [0, 1, 2, 0, 1, 2]

    def test_a_baseline(self, latentcot, twins):
        shown = latentcot("compare", *twins, "--baseline", "cot")
        for part in ("diff and p against cot", "+53.3", "0.125", "McNemar"):
            assert part in shown.out
        assert max(map(len, shown.out.split("\n\n")[0].splitlines())) <= 80
        found = json.loads(latentcot("compare", *twins, "--baseline", "cot", "--json").out)
        assert found["rows"][0]["p_adjusted"] == pytest.approx(0.125)

    def test_no_figure_is_cut_where_the_terminal_is_narrow(self, latentcot, study, monkeypatch):
        monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes this for a terminal
        monkeypatch.setenv("COLUMNS", "50")
        shown = latentcot("compare", study, "--baseline", "coconut").out
        assert "…" not in shown
        assert "coconut-" in shown and "2 of 3" in shown

    def test_a_study(self, latentcot, study):
        failure = "seed 2 has no result: TrainingError: the loss [nan]"
        shown = latentcot("compare", study).out
        assert all(part in shown for part in ("2 of 3", "1 of 2", failure, "small"))
        assert f"small, coconut, {failure}" in latentcot("compare", study, "--runs").out
        as_json = latentcot("compare", study, "--runs", "--json")
        assert len(json.loads(as_json.out)) == 3
        assert "seed 2 has no result" in as_json.err

    def test_one_seed_twice_is_told_apart_by_folder(self, latentcot, make_run):
        runs = [make_run(name, "110") for name in ("a", "b" * 150)]
        shown = latentcot("compare", *runs).out
        assert "…" not in shown
        assert shown.count("66.7 %") == 2

    def test_files(self, latentcot, twins, tmp_path):
        names = [tmp_path / f"table.{ending}" for ending in ("md", "tex", "csv", "json")]
        words = [word for name in names for word in ("--out", name)]
        # Where one file has no form, nothing is printed or written.
        ended = latentcot("compare", *twins, *words, "--out", tmp_path / "table.pdf")
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.startswith("UsageError: ") and "'.pdf'" in ended.err
        assert not any(name.exists() for name in names)
        assert latentcot("compare", *twins, *words).code == 0
        assert all(name.stat().st_size > 200 for name in names)

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--baseline", "cott"], "RunError: baseline 'cott'"),
            (["--baseline", "cot", "--runs"], "UsageError: --runs shows single runs"),
            (["--evaluation", "valid"], "RunError: "),
        ],
    )
    def test_refusals(self, latentcot, twins, words, message):
        ended = latentcot("compare", *twins, *words)
        assert (ended.code, ended.out) == (2, "")
        assert message in ended.err


class TestWhatIsGiven:
    def test_a_folder_of_runs_stands_for_its_runs(self, make_run, tmp_path):
        for method in ("coconut", "cot"):
            make_run(f"quick/{method}", "11", method=method)
        (tmp_path / "quick" / "data").mkdir()
        assert [row.method for row in compare([tmp_path / "quick"])] == ["coconut", "cot"]

    def test_what_else_a_pattern_catches_is_told_and_left_out(self, make_run, tmp_path, capfd):
        make_run("quick/coconut", "11")
        for name in ("coconut.log", "coconut.yaml"):
            (tmp_path / "quick" / name).write_text("x")
        rows = compare(sorted((tmp_path / "quick").glob("*")))
        assert [row.method for row in rows] == ["coconut"]
        assert re.search(
            r"Note: no runs, .*coconut\.log, .*coconut\.yaml\.", capfd.readouterr().err
        )
        for path in ("quick/coconut.log", "quick/cocoanut"):
            with pytest.raises(RunError, match="is no run folder"):
                compare([tmp_path / path])

    def test_what_was_taken_out_of_a_study_does_not_count(self, make_run, tmp_path):
        for seed in (0, 1):
            for method in ("cot", "no-cot"):
                make_run(f"study/small/{method}/seed-{seed}", "10", method=method, seed=seed)
        (tmp_path / "study" / "study.yaml").write_text(
            "tasks: {small: {}}\nmethods: [cot]\nseeds: [1]\n"
        )
        [found] = summarize([tmp_path / "study"])
        assert (found.method, found.seeds) == ("cot", (1,))

    def test_a_study_on_a_part_of_the_questions_is_found(self, make_run, tmp_path, latentcot):
        run = make_run("study/small/cot/seed-0", "10", method="cot")
        evals = run / "evals"
        (evals / "test.json").rename(evals / "test-first-2.json")
        (tmp_path / "study" / "study.yaml").write_text(
            "tasks: {small: {}}\nmethods: [cot]\nevaluate: {limit: 2}\n"
        )
        shown = latentcot("compare", tmp_path / "study")
        assert (shown.code, "50.0" in shown.out) == (0, True)
        assert (
            "test-first-2" in latentcot("compare", tmp_path / "study", "--evaluation", "test").out
        )
