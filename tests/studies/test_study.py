"""Studies: the file, the folder, and that killing one changes nothing of what comes out."""

import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from fake_runs import assert_same_as_in_one_go
from latentcot import RecipeError, RunError, UsageError, read_examples, read_recipe, train
from latentcot.runs.folder import read_metrics
from latentcot.studies.folder import making_jobs, open_study, training_jobs
from latentcot.studies.jobs import run_jobs
from latentcot.studies.study import Resources, Study, cells_of, read_study, selected

STUDY = {"tasks": {"graphs": "recipe.yaml"}, "methods": ["cot", "coconut"]}


@pytest.fixture
def study_file(recipe_file):
    """A function (key=value, …) → a study file beside a tiny recipe."""

    def make(**changes):
        path = recipe_file.parent / "study.yaml"
        path.write_text(yaml.safe_dump({**STUDY, **changes}))
        return path

    return make


@pytest.fixture
def cells(study_file):
    """A function (key=value, …) → cells of a study."""
    return lambda **changes: cells_of(read_study(study_file(**changes)))


class TestFile:
    def test_cells_go_seed_by_seed(self, cells):
        found = cells(tasks={"a": "recipe.yaml", "b": "recipe.yaml"}, seeds=[3, 0])
        assert [cell.name for cell in found] == [
            "a/cot/seed-3", "a/coconut/seed-3", "b/cot/seed-3", "b/coconut/seed-3",
            "a/cot/seed-0", "a/coconut/seed-0", "b/cot/seed-0", "b/coconut/seed-0",
        ]  # fmt: skip
        assert {(cell.recipe.method, cell.recipe.seed) for cell in found[:2]} == {
            ("cot", 3),
            ("coconut", 3),
        }

    def test_the_method_wins_over_the_task_and_the_task_over_all(self, cells):
        values = {"training.learning_rate": 1.0, "training.log_every": 1, "curriculum": {}}
        found = cells(
            set={**values, "training.batch_size": 1},
            tasks={"a": {"recipe": "recipe.yaml", "training": {"log_every": 2, "batch_size": 2}}},
            methods=["cot", {"twice": {"method": "coconut", "training": {"batch_size": 3}}}],
        )
        trainings = {cell.method: cell.recipe.training for cell in found}
        assert [t.learning_rate for t in trainings.values()] == [1.0, 1.0]
        assert [t.log_every for t in trainings.values()] == [2, 2]
        assert [t.batch_size for t in trainings.values()] == [2, 3]
        assert {t.max_updates for t in trainings.values()} == {12}  # as the recipe has it
        assert [cell.recipe.method for cell in found] == ["cot", "coconut"]

    def test_what_a_recipe_has_for_one_method_counts(self, cells, recipe_file):
        own = {"training": {"learning_rate": 0.5}, "method": {"distillation_weight": 3.0}}
        values = yaml.safe_load(recipe_file.read_text())
        recipe_file.write_text(yaml.safe_dump({**values, "for_method": {"codi": own}}))
        twice = {"twice": {"method": {"name": "codi", "teacher_weight": 2.0}}}
        of = {cell.method: cell.recipe for cell in cells(methods=["cot", "codi", twice])}
        assert [one.training.learning_rate == 0.5 for one in of.values()] == [False, True, True]
        assert of["codi"].method["distillation_weight"] == 3.0
        assert {**of["codi"].method, "teacher_weight": 2.0} == of["twice"].method

    @pytest.mark.parametrize("value", ["[A] ", "", "a: b", "<<", "\n", "é…", "yes", "1"])
    def test_texts_arrive_as_they_are(self, value, cells):
        found = cells(set={"template.step_end": value})
        assert found[0].recipe.template.step_end == value

    def test_resources_are_those_of_the_method_before_the_task_before_all(self, cells):
        found = cells(
            tasks={"a": {"recipe": "recipe.yaml", "resources": {"cpus": 2, "memory": "1GB"}}},
            methods=["cot", {"coconut": {"resources": {"cpus": 3, "gpus": 0.5}}}],
            resources={"gpus": 0, "memory": 5},
        )
        assert [cell.resources for cell in found] == [
            Resources(cpus=2, gpus=0, memory=10**9),
            Resources(cpus=3, gpus=0.5, memory=10**9),
        ]
        assert cells()[0].resources == Resources()

    def test_recipes_of_the_package_have_a_file_for_each_method(self, cells):
        found = cells(tasks={"prosqa": "prosqa/{method}"})
        assert [cell.recipe.method for cell in found] == ["cot", "coconut"]
        assert found[0].recipe == read_recipe("prosqa/cot")

    def test_all_mistakes_are_told_at_once(self, study_file):
        path = study_file(
            tasks={"a b": "recipe.yaml"}, methods=["cot", "cot"], seeds=[-1], sed=1,
            evaluate={"limits": 5},
        )  # fmt: skip
        with pytest.raises(RecipeError) as told:
            read_study(path)
        for part in (
            f"{path}: 5 problems",
            "tasks: 'a b': names a folder",
            "methods: must name each once, got cot more than once",
            "seeds.0: input should be greater than or equal to 0, got -1",
            "sed: is not a key of a study. Did you mean 'seeds'?",
            "evaluate.limits: is not a key of a study. Did you mean 'limit'? "
            "There are: batch_size, limit.",
        ):
            assert part in str(told.value)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"baseline": "cott"}, "baseline: 'cott' is none.*Did you mean 'cot'"),
            ({"data": ["prosqa --train 5"]}, "data: 'prosqa --train 5' names no folder with --out"),
            ({"data": ["prosqa --out 'a"]}, "names no folder"),
            ({"data": ["render in.jsonl"]}, "data: 'render in.jsonl' names no folder"),
            ({"data": ["render a --out b --overwrite"]}, "holds --overwrite. Leave it out"),
            (
                {"data": ["prosqa --out a", "arithmetic --out ./a"]},
                "that another line makes",
            ),
            ({"methods": "cot"}, "methods: must be a list of names"),
            ({"methods": [{"a": {}, "b": {}}]}, "methods: must be names, or one NAME"),
            ({"tasks": {"a": {"training.epochs": 1}}}, "tasks: a: must be a recipe file"),
            ({"tasks": {}}, "tasks: .*at least 1"),
            ({"seeds": [1, 1]}, "seeds: must name each seed once"),
            ({"tasks": None}, "tasks: is missing"),
            ({"resources": {"cpu": 1}}, "resources.cpu: is not a key.*Did you mean 'cpus'"),
            ({"resources": {"gpus": 2}}, "resources.gpus: .*less than or equal to 1"),
            ({"resources": {"memory": "x"}}, "resources.memory: .*byte"),
            ({"max_retries": -1}, "max_retries: .*greater than or equal to 0"),
        ],
    )
    def test_a_mistake_is_told(self, changes, message, study_file):
        with pytest.raises(RecipeError, match=message):
            read_study(study_file(**changes))

    def test_the_mistakes_of_all_recipes_are_told_at_once(self, cells):
        with pytest.raises(RecipeError) as told:
            cells(
                methods=["cot", "coconat", {"c": {"method": "cot", "training.epoch": 1}}],
                tasks={"a": "recipe.yaml", "b": "none.yaml"},
                seeds=[0, 1],
            )
        assert "a/coconat: " in str(told.value) and "Did you mean 'coconut'" in str(told.value)
        assert "a/c: " in str(told.value) and "training.epoch: is not a key" in str(told.value)
        assert str(told.value).count("no such recipe") == 3  # not again for the second seed

    @pytest.mark.parametrize(
        ("resources", "message"),
        [
            ({"cpu": 1}, "graphs/cot: resources: cpu: is not a key of the resources of a run"),
            ({"cpus": 0}, "graphs/cot: resources: cpus: .*greater than 0"),
            ([], None),
            ([1], "graphs/cot: resources: must hold keys and values"),
        ],
    )
    def test_wrong_resources_of_a_method_are_told(self, resources, message, cells):
        methods = [{"cot": {"resources": resources}}]
        if message is None:
            assert cells(methods=methods)[0].resources == Resources()
            return
        with pytest.raises(RecipeError, match=message):
            cells(methods=methods)

    def test_a_recipe_without_test_file_is_refused(self, cells):
        with pytest.raises(RecipeError, match=r"recipe\.yaml: data\.test: is missing"):
            cells(set={"data.test": None})


class TestSelection:
    @pytest.mark.parametrize(
        ("patterns", "names"),
        [
            ((), {"a/cot/0", "a/coconut/0", "b/cot/0", "b/coconut/0"}),
            (("a",), {"a/cot/0", "a/coconut/0"}),
            (("*/cot",), {"a/cot/0", "b/cot/0"}),
            (("*/co*t/0",), {"a/cot/0", "a/coconut/0", "b/cot/0", "b/coconut/0"}),
            (("a/cot/0", "b/coconut"), {"a/cot/0", "b/coconut/0"}),
        ],
    )
    def test_takes_what_fits(self, patterns, names, cells):
        found = selected(cells(tasks={"a": "recipe.yaml", "b": "recipe.yaml"}), patterns)
        assert {f"{one.task}/{one.method}/{one.seed}" for one in found} == names

    @pytest.mark.parametrize("pattern", ["graphs/pot", "*/cot/1", "graphs/cot/0/more"])
    def test_what_fits_nothing_is_refused(self, pattern, cells):
        with pytest.raises(UsageError, match="fits nothing.*graphs/cot, graphs/coconut"):
            selected(cells(), [pattern])


@pytest.fixture
def opened(study_file, tmp_path):
    """A function (key=value, …) that opens a study in the folder `out`, and returns both."""

    def make(overwrite=False, **changes):
        study = read_study(study_file(**changes))
        open_study(study, cells_of(study), tmp_path / "out", overwrite=overwrite)
        return study, tmp_path / "out"

    return make


def begin(cell_folder, recipe):
    """Write what a run has after its first checkpoint, as far as a study looks at it."""
    (cell_folder / "checkpoints" / "update-00000001").mkdir(parents=True)
    (cell_folder / "checkpoints" / "update-00000001" / "latentcot.json").touch()
    shutil.copy(recipe, cell_folder / "recipe.yaml")


class TestFolder:
    def test_holds_a_study_file_that_reads_the_same(self, opened):
        methods = ["cot", {"twice": {"method": "coconut", "curriculum.thoughts_per_step": 2}}]
        study, out = opened(methods=methods, data=["prosqa --out d"], baseline="cot")
        again = read_study(out / "study.yaml")
        assert cells_of(again) == cells_of(study)
        assert (again.data, again.baseline) == (study.data, study.baseline)
        assert str(out.parent) not in (out / "study.yaml").read_text()

    def test_may_grow(self, opened):
        study, out = opened()
        [job, _] = training_jobs(study, cells_of(study), out)
        begin(job.run, job.recipe)
        opened(seeds=[0, 1], methods=["cot", "no-cot"], evaluate={"limit": 3})
        assert yaml.safe_load((out / "study.yaml").read_text())["seeds"] == [0, 1]

    def test_refuses_a_changed_recipe_of_a_run_with_a_checkpoint(self, opened):
        study, out = opened()
        [job, other] = training_jobs(study, cells_of(study), out)
        begin(job.run, job.recipe)
        other.run.mkdir(parents=True)  # died before its first checkpoint
        shutil.copy(other.recipe, other.run / "recipe.yaml")
        before = (out / "study.yaml").read_text()
        with pytest.raises(RunError) as told:
            opened(set={"training.max_updates": 20, "model.num_layers": 2})
        assert "graphs/cot/seed-0: model.num_layers was 1, is 2, training.max_updates was 12, is " \
            "20" in str(told.value)  # fmt: skip
        assert "coconut" not in str(told.value)
        assert (out / "study.yaml").read_text() == before

    def test_refuses_a_changed_data_set(self, opened):
        opened(data=["prosqa --out d --train 5"])
        opened(data=["prosqa --out=e", "prosqa  --out d --train 5"])
        with pytest.raises(RunError, match="were made with .*--train 5'.* now says .*--train 6'"):
            opened(data=["prosqa --out d --train 6"])
        opened(data=["render in.jsonl --out out.jsonl"])
        with pytest.raises(RunError, match="were made with .*now says .*--joined'"):
            opened(data=["render in.jsonl --out out.jsonl --joined"])

    def test_overwrite_deletes_a_study_and_nothing_else(self, opened, tmp_path):
        _, out = opened()
        (out / "graphs").mkdir()
        opened(overwrite=True)
        assert [path.name for path in out.iterdir()] == ["study.yaml"]
        (out / "study.yaml").rename(out / "thesis.txt")
        with pytest.raises(RunError, match="something else than a study"):
            opened(overwrite=True)
        assert (out / "thesis.txt").exists()
        shutil.rmtree(out)
        out.touch()
        with pytest.raises(RunError, match="something else than a study"):
            opened()

    def test_data_that_are_there_are_not_made(self, opened, tmp_path):
        lines = [f"prosqa --out {tmp_path / 'a'} --train 5", f"prosqa --out={tmp_path / 'b'}"]
        study, out = opened(data=lines)
        jobs = making_jobs(study, out)
        assert [job.out for job in jobs] == [tmp_path / "a", tmp_path / "b"]
        assert jobs[0].words == ["prosqa", "--out", str(tmp_path / "a"), "--train", "5"]
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "data.json").touch()
        next(jobs[1].commands())  # this study was making them when it was killed
        (tmp_path / "b" / "train.jsonl").touch()
        [job] = making_jobs(study, out)
        assert [*job.commands()] == [
            ["data", "make", "prosqa", f"--out={tmp_path / 'b'}", "--overwrite"]
        ]

    @pytest.mark.slow
    def test_files_that_are_there_are_not_rendered(self, opened, data, tmp_path):
        """Made, left alone, and made again where an earlier study was killed at it."""
        to = tmp_path / "joined.jsonl"
        line = f"render {data / 'test.jsonl'} --joined --ids random --out {to}"
        study, out = opened(data=[line, f"prosqa --out {tmp_path / 'd'}"])
        [job, other] = making_jobs(study, out)
        assert (job.name, job.out, other.name) == ("data render", to, "data prosqa")
        run_jobs([job], [None], on_failure=lambda job: None, is_quiet=True)
        assert job.code is None and "questions  8, in symbols" in job.log.read_text()
        made, when = to.read_bytes(), to.stat().st_mtime_ns
        assert [">" in one.question for one in read_examples(to)] == [True] * 8
        assert [job.out for job in making_jobs(study, out)] == [tmp_path / "d"]
        assert to.stat().st_mtime_ns == when

        to.unlink()
        [job, _] = making_jobs(study, out)
        assert job.words == shlex.split(line)
        run_jobs([job], [None], on_failure=lambda job: None, is_quiet=True)
        assert to.read_bytes() == made

    def test_a_file_of_somebody_else_is_not_replaced(self, opened, data, tmp_path):
        to = tmp_path / "joined.jsonl"
        line = f"render {data / 'test.jsonl'} --out {to}"
        study, out = opened(data=[line])
        [job] = making_jobs(study, out)
        assert job.words == shlex.split(line)  # so that the command itself refuses one that came
        to.write_text("mine")
        assert making_jobs(study, out) == []

    @pytest.mark.parametrize(
        ("changes", "num_updates"),
        [
            ({}, 12),
            ({"training.epochs": 2}, 8),
            ({"training.epochs": 2.5, "training.max_updates": None}, 10),
            ({"training.epochs": 2, "data.max_train": 5}, 2),
            ({"training.epochs": 2, "data.train": "none.jsonl"}, 12),
        ],
    )
    def test_bars_end_with_the_last_update(self, changes, num_updates, opened):
        study, out = opened(set=changes)
        job = training_jobs(study, cells_of(study), out)[0]
        assert job.total == num_updates


def test_what_is_done_is_compared_and_not_done_again(opened, study_file, latentcot):
    study, out = opened(seeds=[0, 1], baseline="cot")
    for job in training_jobs(study, cells_of(study), out):
        assert train(read_recipe(job.recipe), job.run, is_quiet=True)
        assert latentcot("eval", job.run, "--quiet").code == 0
    words = ("study", study_file(seeds=[0, 1], baseline="cot"), "--out", out, "--quiet")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("seed-*/**/*")}
    ended = latentcot(*words)
    assert ended.code == 0
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("seed-*/**/*")}
    assert list(out.rglob("*.log")) == []  # no process was started
    assert "coconut" in ended.out and "cot" in ended.out
    for ending in ("md", "tex", "csv", "json"):
        assert "coconut" in (out / f"table.{ending}").read_text()


@pytest.mark.slow
def test_one_that_is_killed_and_stopped_gives_what_one_go_gives(study_file, tmp_path, latentcot):
    """SIGKILL, so that it cannot even tell its processes; then Ctrl-C; then to the end.

    But for one run, which cannot work.
    """
    data = tmp_path / "data"
    path = study_file(
        data=[f"prosqa --out {data} --preset two-family --layers 2 --shared 0 "
              "--train 32 --valid 6 --test 8"],
        # The bad one comes last: first, it would hold a slot while the other's run is done.
        methods=["cot", "coconut", {"bad": {"method": "cot", "model.num_positions": 8}}],
        # Long enough that neither is over before a signal arrives.
        set={"training.max_updates": 1500, "training.validate_every": 100,
             **{f"data.{split}": f"{data}/{split}.jsonl" for split in ("train", "valid", "test")}},
    )  # fmt: skip
    out = tmp_path / "out"
    words = [str(word) for word in ("study", path, "--out", out, "--jobs", 2, "--quiet")]
    runs = [out / "graphs" / method / "seed-0" for method in ("cot", "coconut")]
    for how in (signal.SIGKILL, signal.SIGINT):
        command = [sys.executable, "-m", "latentcot", *words]
        known = [len(read_metrics(run)) for run in runs]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            while not all(
                len(read_metrics(run)) >= before + 10
                for run, before in zip(runs, known, strict=True)
            ):
                assert process.poll() is None, process.communicate()
                time.sleep(0.02)
            process.send_signal(how)
            _, told = process.communicate()
    assert process.returncode == 130 and "The same command resumes" in told
    made = (data / "train.jsonl").stat().st_mtime_ns

    ended = latentcot(*words)
    assert ended.code == 1
    assert "1 of 3 runs failed" in ended.err
    assert "graphs/bad/seed-0: a command ended with exit code 2" in ended.err
    assert "DataError: example 'train-0': needs" in ended.err
    assert "bad" in (out / "table.md").read_text()  # it stays in the table
    assert (data / "train.jsonl").stat().st_mtime_ns == made
    for run in runs:
        assert "Stopped after update" in run.with_name("seed-0.log").read_text()
        unbroken = tmp_path / "in-one-go" / run.parent.name
        assert_same_as_in_one_go(run, run.with_name("seed-0.yaml"), unbroken, latentcot)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--jobs", 0), "--jobs: must be at least 1, got 0."),
        (("--devices", "0,,1"), "--devices: must be GPUs with commas between"),
        (("--only", "graphs/pot"), "fits nothing"),
    ],
)
def test_a_mistake_deletes_nothing(words, message, opened, study_file, latentcot):
    _, out = opened()
    (out / "kept").write_text("mine")
    ended = latentcot("study", study_file(), "--out", out, "--overwrite", *words)
    assert ended.code == 2
    assert message in ended.err
    assert (out / "kept").read_text() == "mine"


class TestDocumentation:
    PAGE = Path(__file__).parents[2] / "docs" / "studies.md"

    def test_the_study_shown_is_one(self, tmp_path):
        [shown] = re.findall(r"^```yaml\n(.*?)^```$", self.PAGE.read_text(), re.M | re.S)
        (tmp_path / "shown.yaml").write_text(shown)
        assert len(cells_of(read_study(tmp_path / "shown.yaml"))) == 12

    def test_every_key_is_there_with_its_default(self):
        rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \| ", self.PAGE.read_text(), re.M))
        assert rows.keys() == {field.name for field in fields(Study)}
        minimal = Study(tasks={}, methods={})
        for name, shown in rows.items():
            if shown not in ("required", "see below"):
                assert yaml.safe_load(shown.strip("`")) == getattr(minimal, name)
