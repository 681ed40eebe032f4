"""`latentcot show RUN`: what is told, and that damage is told instead of ending it."""

import contextlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latentcot import load
from latentcot.cli.show_run import RunSummary, summarize_run
from latentcot.data.formats import source_hash
from latentcot.errors import CheckpointError, RecipeError, RunError
from latentcot.runs.checkpoint_folders import here_or_shipped
from latentcot.runs.provenance import add_session
from latentcot.utils.versions import CHECKPOINT_VERSION, EVALUATION_VERSION

Run = Callable[..., Any]
NEWEST = Path("checkpoints") / "update-00000012"
EARLIER = Path("checkpoints") / "update-00000008"


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the tiny run, without evaluations."""
    return shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns("evals"))


def change(path: Path, **changes: Any) -> None:
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not ...}))


def states(summary: RunSummary) -> dict[str, str]:
    return {one.name: one.state for one in summary.checkpoints}


class TestWhatIsTold:
    def test_a_finished_run(self, run: Path, data: Path) -> None:
        found = summarize_run(run)
        assert (found.path, found.is_run, found.problems) == (str(run), True, ())
        assert (found.method, found.task, found.seed) == ("coconut", "prosqa", 0)
        assert (found.stage, found.last_stage) == (2, 2)
        assert (found.update, found.num_updates, found.is_finished) == (12, 12, True)
        assert [(one.file, one.state) for one in found.data] == [
            (str(data / f"{split}.jsonl"), "same") for split in ("train", "valid", "test")
        ]
        [session] = found.sessions
        assert (session.update, session.device, session.differs) == (0, session.device, ())
        assert [(one.update, one.stage, one.is_best) for one in found.checkpoints] == [
            (8, 1, False), (12, 2, True),
        ]  # fmt: skip
        assert set(states(found).values()) == {"whole"}
        assert {one.format_version for one in found.checkpoints} == {CHECKPOINT_VERSION}
        on_disk = [p.stat().st_size for p in (run / NEWEST).rglob("*") if p.is_file()]
        assert found.checkpoints[-1].num_bytes == sum(on_disk)
        model = load(run).model
        assert found.model.num_parameters == model.num_parameters()
        assert (found.model.architecture, found.model.pretrained) == (type(model).__name__, None)

    def test_evaluations(self, run: Path, data: Path, latentcot: Run) -> None:
        assert latentcot("eval", run, "--quiet").code == 0
        assert latentcot("eval", run / EARLIER, "--limit", 3, "--quiet").code == 0
        found = summarize_run(run).evaluations
        assert [(name, one.accuracy.n, one.checkpoint.update) for name, one in found.items()] == [
            ("test-update-00000008-first-3.json", 3, 8), ("test.json", 8, 12)
        ]  # fmt: skip
        whole = found["test.json"]
        assert (whole.data.file, whole.format_version) == (
            str(data / "test.jsonl"), EVALUATION_VERSION
        )  # fmt: skip
        share = whole.accuracy
        assert 0 <= share.low <= share.value <= share.high <= 1 and whole.provenance["time"]

    def test_a_run_that_is_not_finished(self, run: Path) -> None:
        """It goes on from its newest checkpoint, whatever more it has logged."""
        shutil.rmtree(run / NEWEST)
        (run / "checkpoints" / "best.json").unlink()
        rows = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
        kept = [row for row in rows if json.loads(row)["update"] <= 10]
        (run / "metrics.jsonl").write_text("".join(kept) + '{"kind": "tra')
        found = summarize_run(run)
        assert (found.update, found.stage, found.is_finished) == (10, 2, False)
        assert [one.is_best for one in found.checkpoints] == [False]
        assert found.problems == ()

    def test_validation_by_stage_and_what_was_not_learned(self, run: Path, latentcot: Run) -> None:
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        found = summarize_run(run)
        assert found.accuracies == {
            row["stage"]: (row["update"], row["accuracy"]) for row in rows if row["kind"] == "valid"
        }
        assert len(found.warnings) == 3
        text = latentcot("show", run).out
        assert re.search(r"stage +validation +update", text)
        assert text.count("Warning: ") == 3 and "nats a token" in text

    def test_a_run_that_has_only_begun(self, run: Path) -> None:
        for name in ("metrics.jsonl", "provenance.json"):
            (run / name).unlink()
        shutil.rmtree(run / "checkpoints")
        found = summarize_run(run)
        assert (found.update, found.stage, found.is_finished) == (0, 0, False)
        assert (found.sessions, found.data, found.checkpoints) == ((), (), ())
        assert (found.model.architecture, found.model.num_parameters) == ("gpt2", None)

    @pytest.mark.parametrize(("epochs", "most", "expected"), [(3, None, 12), (2.5, 99, 10)])
    def test_the_length_of_a_training_by_epochs(
        self, run: Path, data: Path, epochs: float, most: int | None, expected: int
    ) -> None:
        text = (run / "recipe.yaml").read_text()
        text = text.replace("  epochs: null", f"  epochs: {epochs}")
        most_text = "null" if most is None else str(most)
        text = text.replace("  max_updates: 12", f"  max_updates: {most_text}")
        (run / "recipe.yaml").write_text(text)
        values = json.loads((run / "provenance.json").read_text())
        del values["num_updates"]  # as in runs of before
        (run / "provenance.json").write_text(json.dumps(values))
        assert summarize_run(run).num_updates == expected
        # Without its data it is unknown.
        change(run / "provenance.json", data={str(data / "train.jsonl"): "00"})
        found = summarize_run(run)
        assert (found.num_updates, found.is_finished) == (None, None)

    def test_data_files(self, run: Path, data: Path, tmp_path: Path) -> None:
        file = str(data / "train.jsonl")
        hashes = {file: source_hash(file), "none.jsonl": "aa", str(data / "valid.jsonl"): "bb",
                  "hub:some/data:train": "cc", str(tmp_path): "dd"}  # fmt: skip
        change(run / "provenance.json", data=hashes)
        assert [one.state for one in summarize_run(run).data] == [
            "same", "missing", "changed", "not checked", "unreadable",
        ]  # fmt: skip

    def test_sessions(self, run: Path) -> None:
        change(run / "provenance.json", machine="x86_64, Another One, 2 cores")
        [told] = [one for one in add_session(run, "cpu", 8) if one.startswith("processor")]
        add_session(run, "cpu", 10)
        found = summarize_run(run).sessions
        assert [one.update for one in found] == [0, 8, 10]
        assert told in found[1].differs and "Another One" in told
        assert found[2].differs == ()

    def test_a_checkpoint_stands_for_its_run(self, run: Path) -> None:
        for place in (".", EARLIER, NEWEST):
            assert summarize_run(run / place).path == str(run)
        with contextlib.chdir(run / EARLIER):
            assert summarize_run(Path(".")).path == str(run)
        with contextlib.chdir(run / "checkpoints"):
            assert summarize_run(Path(NEWEST.name)).path == str(run)

    def test_a_checkpoint_of_no_run(self, run: Path, tmp_path: Path) -> None:
        lone = shutil.copytree(run / EARLIER, tmp_path / "lone")
        found = summarize_run(lone)
        assert (found.is_run, found.method, found.task) == (False, "coconut", "prosqa")
        assert (found.update, found.stage, found.is_finished) == (8, 1, None)
        assert found.model.num_parameters == summarize_run(run).model.num_parameters
        assert states(found) == {"lone": "whole"}


class TestDamage:
    def test_a_checkpoint(self, run: Path) -> None:
        path = run / NEWEST / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\0\1")
        found = summarize_run(run)
        assert states(found) == {EARLIER.name: "whole", NEWEST.name: "damaged"}
        assert found.is_finished is False and found.model.num_parameters
        [problem] = found.problems
        assert NEWEST.name in problem and "model.safetensors" in problem

    def test_a_checkpoint_without_its_metadata(self, run: Path) -> None:
        for name in ("latentcot.json", "checksums.json"):
            (run / NEWEST / name).unlink()
        found = summarize_run(run)
        assert states(found)[NEWEST.name] == "damaged"
        assert "latentcot.json" in found.problems[-1]

    def test_an_older_and_a_newer_checkpoint(self, run: Path) -> None:
        for place, version in ((EARLIER, 2), (NEWEST, CHECKPOINT_VERSION + 1)):
            (run / place / "checksums.json").unlink()
            change(run / place / "latentcot.json", format_version=version)
        found = summarize_run(run)
        old = found.checkpoints[0]
        assert (old.state, old.format_version, old.is_usable) == ("no checksums", 2, True)
        [problem] = found.problems
        assert f"has format_version {CHECKPOINT_VERSION + 1}" in problem and "Upgrade" in problem

    def test_one_that_training_has_set_aside(self, run: Path) -> None:
        (run / NEWEST).rename(run / "checkpoints" / f"damaged-{NEWEST.name}")
        found = summarize_run(run)
        assert states(found) == {EARLIER.name: "whole", f"damaged-{NEWEST.name}": "set aside"}
        assert found.checkpoints[-1].update == 12
        assert not any(one.is_best for one in found.checkpoints)  # best.json names it still
        [problem] = found.problems
        assert "best.json" in problem and "which is not there" in problem

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("provenance.json", "{"),
            ("provenance.json", '{"format_version": 99}'),
            ("metrics.jsonl", "torn\n{}\n"),
            ("checkpoints/best.json", "[]"),
            ("evals/test.json", "{"),
            ("evals/test.json", '{"format_version": 99}'),
            ("evals/test.json", '{"accuracy": 1}'),
            ("evals/test.json", '{"accuracy": "much"}'),
        ],
    )
    def test_a_file_of_the_run(self, run: Path, name: str, text: str, latentcot: Run) -> None:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text(text)
        found = summarize_run(run)
        [problem] = found.problems
        assert str(run / name) in problem
        assert (found.update, found.num_updates, found.is_finished) == (12, 12, True)
        ended = latentcot("show", run)
        assert ended.code == 0 and "Problem: " in ended.out

    def test_older_evaluations_are_told(self, run: Path, latentcot: Run) -> None:
        assert latentcot("eval", run, "--quiet").code == 0
        path = run / "evals" / "test.json"
        accuracy = json.loads(path.read_text())["accuracy"]
        change(path, accuracy=accuracy["value"], low=accuracy["low"], high=accuracy["high"],
               num_questions=accuracy["n"], checkpoint={"update": 8, "run_updates": 12}, sha256=...,
               format_version=..., provenance=...)  # fmt: skip
        [one] = summarize_run(run).evaluations.values()
        assert (one.format_version, one.accuracy.n, one.checkpoint.update) == (1, 8, 8)
        assert "at an unknown time" in latentcot("show", run).out

    def test_the_recipe_of_the_run(self, run: Path) -> None:
        (run / "recipe.yaml").write_text("method: [")
        with pytest.raises(RecipeError, match=r"recipe\.yaml"):
            summarize_run(run)

    def test_where_a_lone_checkpoint_comes_from(self):
        """The one that comes with the package has a file that tells."""
        found = summarize_run(here_or_shipped(Path("quickstart")))
        [session] = found.sessions
        assert session.commit is not None and found.problems == ()

    @pytest.mark.parametrize(
        "changes", [{"format_version": CHECKPOINT_VERSION + 1}, {"update": ...}, {"seed": "x"}]
    )
    def test_the_metadata_of_a_lone_checkpoint(
        self, run: Path, tmp_path: Path, changes: dict[str, Any]
    ) -> None:
        lone = shutil.copytree(run / EARLIER, tmp_path / "lone")
        (lone / "checksums.json").unlink()
        change(lone / "latentcot.json", **changes)
        with pytest.raises(CheckpointError, match=r"latentcot\.json"):
            summarize_run(lone)

    def test_other_folders(self, run: Path, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="is no run folder"):
            summarize_run(run / "checkpoints")
        with pytest.raises(RunError, match=re.escape(f"such as {run};")):
            summarize_run(tmp_path)


class TestCommand:
    def test_as_text(self, run: Path, data: Path, latentcot: Run) -> None:
        assert latentcot("eval", run, "--quiet").code == 0
        change(run / "provenance.json", commit="0123456789abcdef", is_tree_dirty=True,
               data={str(data / "train.jsonl"): "50415b30b0aa", "none.jsonl": "aa"})  # fmt: skip
        add_session(run, "cpu", 8)
        ended = latentcot("show", run)
        assert (ended.code, ended.err) == (0, "")
        for line in (
            "method    coconut",
            "training  finished, update 12 of 12, stage 2 of 2",
            "commit    0123456789 + changes",
            "device    ",
            "train.jsonl, 50415b30b0, has changed since",
            "          none.jsonl, aa, is not here now",
            "resumed   after update 8, ",
            "whole, best",
            "test.json",
        ):
            assert line in ended.out, line

    def test_as_json_and_nothing_is_changed(self, run: Path, latentcot: Run) -> None:
        def files() -> dict[str, bytes]:
            return {str(p): p.read_bytes() for p in run.rglob("*") if p.is_file()}

        assert latentcot("eval", run, "--quiet").code == 0
        before = files()
        ended = latentcot("show", run, "--json")
        shown = json.loads(ended.out)
        assert (ended.code, shown["update"], shown["problems"]) == (0, 12, [])
        assert shown["checkpoints"][1]["state"] == "whole"
        assert shown["sessions"][0]["versions"]["torch"]
        assert shown["evaluations"]["test.json"]["accuracy"]["n"] == 8
        assert files() == before

    def test_options_of_a_drawing_and_of_a_run(self, run: Path, latentcot: Run) -> None:
        words = ["--example", "a.jsonl", "--method", "cot", "--stage", "1", "--set", "seed=1"]
        ended = latentcot("show", run, *words)
        told = "UsageError: --example, --method, --stage, --set: belongs to the drawing"
        assert ended.code == 2 and told in ended.err
        assert str(run / "recipe.yaml") in ended.err
        ended = latentcot("show", run / "recipe.yaml", "--stage", 1)
        assert ended.code == 0 and "coconut, stage 1" in ended.out
        ended = latentcot("show", run / "recipe.yaml", "--json")
        assert ended.code == 2 and "--json: is for the folder of a run" in ended.err
