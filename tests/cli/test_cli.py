"""The command line: every command once, and how it says no."""

import json
import os
import re
import shutil
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from latentcot import METHODS, load, read_examples, train, write_examples
from latentcot.runs.checkpoint_folders import checkpoint_folders
from latentcot.runs.folder import run_of

QUESTION = "2 3 5 6 [Q] 3 6 [R] 2"


class TestCommands:
    @pytest.fixture(autouse=True)
    def _work_here(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)

    def test_help_and_version(self, latentcot):
        shown = latentcot("--help")
        assert shown.code == 0
        for command in ("quickstart", "data", "train", "eval", "compare", "generate", "list"):
            assert f" {command} " in shown.out
            assert "Usage: latentcot" in latentcot(command, "--help").out
        assert latentcot("--version").code == 0

    def test_data_train_eval_compare_generate(self, latentcot, recipe_file, tmp_path):
        """From nothing to an answer, as a user does it."""
        sizes = ["--train", 32, "--valid", 4, "--test", 6]
        graphs = ["--preset", "two-family", "--layers", 2, "--shared", 0]
        assert latentcot("data", "make", "prosqa", "--out", "data", *graphs, *sizes).code == 0
        stats = latentcot("data", "stats", "data/test.jsonl", "--json")
        assert json.loads(stats.out)["num_examples"] == 6

        files = [f"data.{split}=data/{split}.jsonl" for split in ("train", "valid", "test")]
        for method in ("coconut", "no-cot"):
            sets = [word for file in (*files, f"method={method}") for word in ("--set", file)]
            trained = latentcot("train", recipe_file, "--out", f"runs/{method}", *sets, "--quiet")
            assert (trained.code, trained.out) == (0, "")
            evaluated = latentcot("eval", f"runs/{method}")
            assert evaluated.code == 0
            assert "questions" in evaluated.out
            assert (tmp_path / "runs" / method / "evals" / "test.json").exists()

        compared = latentcot("compare", "runs/coconut", "runs/no-cot")
        assert compared.code == 0
        assert compared.out.count("–") == 2  # two rows with an interval each
        question = read_examples(tmp_path / "data" / "test.jsonl")[0].question
        answered = latentcot("generate", "runs/coconut", question)
        [output] = load(tmp_path / "runs" / "coconut").generate([question])
        assert (answered.code, answered.out.strip()) == (0, output.text)

    def test_train_goes_on_and_starts_anew(self, latentcot, recipe_file):
        command = ["train", recipe_file, "--out", "run", "--quiet"]
        for words, code in (([], 0), ([], 2), (["--resume"], 0), (["--overwrite"], 0)):
            assert latentcot(*command, *words).code == code

    def test_eval_tells_of_data_that_have_changed(self, latentcot, make_recipe, data, tmp_path):
        """Since the run was trained, whatever may have made them: once, and it evaluates."""
        here, run = shutil.copytree(data, tmp_path / "data"), tmp_path / "run"
        files = {split: str(here / f"{split}.jsonl") for split in ("train", "valid", "test")}
        assert train(make_recipe(data=files, training={"max_updates": 1}), run, is_quiet=True)
        assert "changed after" not in latentcot("eval", run, "--quiet").err
        for split in ("train", "test"):  # an id of the last line alone
            path = Path(files[split])
            *lines, last = path.read_text().splitlines()
            changed = json.dumps(json.loads(last) | {"id": "another"})
            path.write_text("\n".join([*lines, changed]))
        Path(files["valid"]).unlink()  # was not brought along
        told = latentcot("eval", run, "--quiet")
        assert told.code == 0 and (run / "evals" / "test.json").exists()
        assert told.err.count("changed after") == 1
        assert f"{files['train']}, {files['test']} changed after {run} was trained" in told.err
        (run / "provenance.json").write_text("{")
        told = latentcot("eval", run, "--quiet")
        assert told.code == 0 and "Note: " in told.err and "provenance.json" in told.err

    def test_eval_as_json(self, latentcot, tiny_run):
        shown = latentcot("eval", tiny_run, "--json", "--limit", 3, "--out", "few.json")
        result = json.loads(shown.out)
        assert (shown.code, shown.err) == (0, "")
        assert (result["method"], result["accuracy"]["n"]) == ("coconut", 3)
        assert [record["id"] for record in result["records"]] == ["test-0", "test-1", "test-2"]

    @pytest.mark.parametrize(
        ("place", "options", "name", "figures"),
        [
            ("", [], "test", (2, 2, 8)),
            ("", ["--num-thoughts", 4], "test-4-thoughts", (2, 4, 8)),
            ("", ["--limit", 3], "test-first-3", (2, 2, 3)),
            ("", ["--force-steps"], "test-forced-steps", (2, 2, 8)),
            ("", ["--force-answer"], "test-forced-answer", (2, 2, 8)),
            (
                "",
                ["--num-samples", 2, "--noise", 0.8, "--seed", 3],
                "test-2-samples-noise-0.8-seed-3",
                (2, 4, 8),
            ),
            ("checkpoints/update-00000008", [], "test-update-00000008", (1, 1, 8)),
        ],
    )
    def test_the_name_of_a_result_tells_what_differs(
        self, latentcot, tiny_run, tmp_path, place, options, name, figures
    ):
        """`compare` reads test.json: the best checkpoint, as it was trained, on the whole file."""
        run = shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns("evals"))
        assert latentcot("eval", run / place, *options, "--quiet").code == 0
        [file] = (run / "evals").iterdir()
        assert file.name == f"{name}.json"
        result = json.loads(file.read_text())
        found = (result["stage"], result["thoughts_per_question"], result["accuracy"]["n"])
        assert found == figures

    def test_a_result_on_other_questions_is_not_replaced(self, latentcot, tiny_run, data, tmp_path):
        run = shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns("evals"))
        for name, source in (("a", "test"), ("b", "valid"), ("c", "test")):
            (tmp_path / name).mkdir()
            shutil.copy(data / f"{source}.jsonl", tmp_path / name / "hard.jsonl")
        assert latentcot("eval", run, "--data", "a/hard.jsonl").code == 0
        kept = (run / "evals" / "hard.json").read_bytes()
        ended = latentcot("eval", run, "--data", "b/hard.jsonl")
        assert ended.code == 2 and "holds the result on a/hard.jsonl" in ended.err
        assert (run / "evals" / "hard.json").read_bytes() == kept
        assert latentcot("eval", run, "--data", "c/hard.jsonl").code == 0  # the same questions
        shutil.copy(data / "valid.jsonl", tmp_path / "c" / "hard.jsonl")  # made anew
        assert latentcot("eval", run, "--data", "c/hard.jsonl").code == 0
        columns = ["--columns.question", "question", "--columns.id", "id"]
        assert latentcot("eval", run, "--data", "a/hard.jsonl", *columns).code == 0
        assert (run / "evals" / "hard-question-question-id-id.json").is_file()

    def test_a_recipe_that_lies_around_is_no_run(self, latentcot, tiny_run, tmp_path):
        """Of a checkpoint named by one or two words it once stood two folders above: here."""
        run = shutil.copytree(tiny_run, tmp_path / "run")
        shutil.copy(run / "recipe.yaml", tmp_path / "recipe.yaml")
        checkpoint = next((run / "checkpoints").glob("update-*"))
        shutil.copytree(checkpoint, tmp_path / "copy")
        for found in ("quickstart", "copy", "owner/name"):
            assert run_of(found) is None
        assert run_of("run") == Path("run")
        assert run_of(f"run/checkpoints/{checkpoint.name}") == Path("run")
        assert run_of(checkpoint) == run

    def test_eval_over_samples_and_thoughts(self, latentcot, tiny_run, tmp_path):
        """A result for each number of thoughts, one table of all, and a figure."""
        run = shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns("evals"))
        words = ["--num-samples", 3, "--dropout", 0.3, "--limit", 4, "--quiet"]
        more = ["--num-thoughts", 1, "--num-thoughts", 3, "--figure", "curves.png"]
        shown = latentcot("eval", run, *words, *more)
        assert shown.code == 0, shown.err
        assert "coverage" in shown.out and shown.out.count("written to") == 2
        found = sorted(file.name for file in (run / "evals").iterdir())
        assert found == [f"test-{k}-thoughts-3-samples-dropout-0.3-first-4.json" for k in (1, 3)]
        assert (tmp_path / "curves.png").stat().st_size > 1_000
        assert [
            at["k"] for at in json.loads((run / "evals" / found[0]).read_text())["sampled"]["at"]
        ] == [1, 2, 3]
        as_json = json.loads(latentcot("eval", run, *words, *more[:4], "--json").out)
        assert [one["thoughts_per_question"] for one in as_json] == [3, 9]

    def test_eval_with_a_scorer(self, latentcot, data, tmp_path):
        """Trained on the validation file; the result says so, and holds a score for each sample."""
        words = ["--num-samples", 3, "--noise", 2, "--scorer", data / "valid.jsonl", "--quiet"]
        shown = latentcot(
            "eval", "quickstart", "--data", data / "test.jsonl", *words, "--out", "scored.json"
        )
        assert shown.code == 0, shown.err
        assert "best" in shown.out
        result = json.loads((tmp_path / "scored.json").read_text())
        assert result["sampled"]["scorer"]["file"] == str(data / "valid.jsonl")
        scores = {one["score"] for record in result["records"] for one in record["samples"]}
        assert len(scores) == 24

    def test_eval_notes_what_training_lacks(self, latentcot, tiny_run, tmp_path):
        """A stage that was not learned, a stage before the last, and a run that has not ended."""
        run, out = shutil.copytree(tiny_run, tmp_path / "run"), tmp_path / "out.json"
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        warned = [row["warning"] for row in rows if row.get("warning")]
        whole = latentcot("eval", run)
        [told] = [line for line in whole.err.splitlines() if line.startswith("Note: ")]
        assert told.startswith(f"Note: {len(warned)} stages ended before they were learned")
        assert told.endswith(warned[-1])
        earlier = json.loads(latentcot("eval", run / "checkpoints/update-00000008", "--json").out)
        words = "training ended before its last stage: this is of stage 1 of 2"
        assert words in earlier["notes"][0]
        kept = [json.dumps(row) + "\n" for row in rows if row["update"] <= 8]
        (run / "metrics.jsonl").write_text("".join(kept))
        latentcot("eval", run / "checkpoints" / "update-00000008", "--out", out)
        notes = json.loads(out.read_text())["notes"]
        assert notes[0] == "the run has not finished: update 8 of 12."
        assert notes[1].startswith("this checkpoint is of stage 1 of 2")
        [note] = notes[2:]
        assert note.startswith("2 stages") and note.endswith(warned[1])

    def test_generate_as_json(self, latentcot, tiny_run):
        shown = latentcot("generate", tiny_run, QUESTION, QUESTION, "--json", "--num-thoughts", 3)
        rows = [json.loads(line) for line in shown.out.splitlines()]
        assert [row["question"] for row in rows] == [QUESTION] * 2
        assert [row["num_thoughts"] for row in rows] == [3, 3]
        assert {"text", "answer", "num_tokens", "num_passes", "is_finished"} <= rows[0].keys()

    def test_generate_reads_lines(self, latentcot, tiny_run, monkeypatch):
        monkeypatch.setattr("sys.stdin", StringIO(f"{QUESTION}\n\n{QUESTION}\n"))
        assert len(latentcot("generate", tiny_run).out.splitlines()) == 2

    def test_generate_draws_by_seed(self, latentcot, tiny_run):
        def drawn(seed):
            words = ["--temperature", 2, "--top-p", 0.95, "--top-k", 15, "--seed", seed]
            return latentcot("generate", tiny_run, QUESTION, *words).out

        assert drawn(1) == drawn(1)
        assert len({drawn(seed) for seed in range(4)}) > 1

    def test_generate_draws_thoughts(self, latentcot, tiny_run):
        words = ["--num-samples", 3, "--noise", 5, "--seed", 1]
        rows = latentcot("generate", tiny_run, QUESTION, "1 2", *words, "--json").out.splitlines()
        found = [json.loads(row) for row in rows]
        assert [(one["question"], one["sample"]) for one in found] == [
            (question, sample) for question in (QUESTION, "1 2") for sample in (1, 2, 3)
        ]
        texts = latentcot("generate", tiny_run, QUESTION, *words).out.splitlines()
        assert texts == [one["text"] for one in found[:3]]

    def test_list_names_every_method_and_task(self, latentcot):
        assert "prosqa" in latentcot("list", "tasks").out
        assert "superposition" in latentcot("list", "analyses").out
        shown = latentcot("list", "methods").out
        assert [name for name in METHODS if name not in shown] == []


@pytest.fixture(scope="module")
def places(tiny_run, data, recipe_values, tmp_path_factory):
    """Files and folders, most of them with something wrong, by name."""
    here = tmp_path_factory.mktemp("places")
    lines = (data / "train.jsonl").read_text().splitlines()
    (here / "recipe.yaml").write_text(json.dumps(recipe_values()))
    (here / "list.yaml").write_text("- method: coconut\n")
    (here / "torn.jsonl").write_text("\n".join([lines[0], lines[1][:40], lines[2]]))
    (here / "no-steps.jsonl").write_text('{"question": "1 2", "answer": "2"}\n')
    (here / "full").mkdir()
    (here / "full" / "thesis.txt").write_text("mine")
    examples = read_examples(data / "test.jsonl")
    write_examples(here / "test.jsonl", [replace(examples[0], question=QUESTION)])

    for name in ("one", "two"):
        (here / name).mkdir()
        write_examples(here / name / "hard.jsonl", examples[:2])
    (here / "plain.gguf").write_bytes(b"GGUF")

    for name in ("run", "bare"):
        shutil.copytree(tiny_run, here / name)
        for result in (here / name).glob("evals/*"):
            result.unlink()
    newer = shutil.copytree(checkpoint_folders(tiny_run)[-1], here / "newer")
    (newer / "checksums.json").unlink()
    info = json.loads((newer / "latentcot.json").read_text())
    (newer / "latentcot.json").write_text(json.dumps(info | {"format_version": 99}))
    torn = shutil.copytree(checkpoint_folders(tiny_run)[-1], here / "torn")
    (torn / "model.safetensors").write_bytes(b"")
    return here


# Command, class of the error, parts of its message. {h}: the folder of `places`.
TRAIN = "train {h}/recipe.yaml --out {h}/new"
REFUSED = [
    (f"{TRAIN} --set method=cocnut", "RecipeError", "Did you mean 'coconut'?"),
    (f"{TRAIN} --set method=pause --set stop=classifier", "RecipeError", "which pause does not"),
    (f"{TRAIN} --set stop=classifier", "RecipeError", "Set curriculum.pad_to_num_stages: false"),
    (f"{TRAIN} --set training.batchsize=3", "RecipeError", "Did you mean 'batch_size'?"),
    (f"{TRAIN} --set method=codi --set stop=classifier", "RecipeError", "which codi does not"),
    (f"{TRAIN} --set stop=sometimes", "RecipeError", "got 'sometimes'"),
    (f"{TRAIN} --set training.batch_size=many", "RecipeError", "got 'many'"),
    (f"{TRAIN} --set training.batch_size", "RecipeError", "must be KEY=VALUE"),
    (f"{TRAIN} --set model=no/such-model", "RecipeError", "'no/such-model' cannot be loaded"),
    (f"{TRAIN} --set model.num_heads=3", "RecipeError", "must divide model.hidden_size"),
    ("train {h}/nowhere.yaml --out {h}/new", "RecipeError", "no such recipe"),
    ("train {h}/list.yaml --out {h}/new", "RecipeError", "must hold keys and values"),
    (f"{TRAIN} --set data.train={{h}}/nowhere.jsonl", "DataError", "nowhere.jsonl: no such file"),
    (f"{TRAIN} --set data.train={{h}}/torn.jsonl", "DataError", "torn.jsonl:2: not valid JSON"),
    (
        f"{TRAIN} --set data.train={{h}}/no-steps.jsonl",
        "DataError",
        "no example has steps",
    ),
    (
        f"{TRAIN} --set data.train={{h}}/no-steps.jsonl --set method=pause "
        "--set curriculum.pad_to_num_stages=false",
        "DataError",
        "pause has as many latent positions",
    ),
    ("train {h}/recipe.yaml --out {h}/run", "RunError", "exists already"),
    ("train {h}/recipe.yaml --out {h}/run --resume --overwrite", "RunError", "exclude each other"),
    ("train {h}/recipe.yaml --out {h}/full --overwrite", "RunError", "is no run folder"),
    (f"{TRAIN} --resume", "RunError", "there is no run to resume"),
    ("train {h}/recipe.yaml --out {h}/run --resume --set seed=1", "RunError", "another recipe"),
    ("data make prosqa --out {h}/full", "DataError", "is not empty"),
    ("data make prosqa --out {h}/new --train 0", "DataError", "at least 1 example"),
    ("data make prosqa --out {h}/new --layers 3", "RecipeError", "'layers' has no effect"),
    ("data stats {h}/torn.jsonl", "DataError", "torn.jsonl:2: not valid JSON"),
    ("eval {h}/full --data {h}/test.jsonl", "CheckpointError", "holds no latentcot.json"),
    ("eval {h}/nowhere --data {h}/test.jsonl", "CheckpointError", "no such folder"),
    ("analyze {h}/nowhere", "RunError", "is no run that names a test file"),
    ("eval {h}/newer --data {h}/test.jsonl", "CheckpointError", "newer latentcot: upgrade it"),
    ("eval {h}/torn --data {h}/test.jsonl", "DamagedError", "is damaged"),
    ("eval {h}/run/checkpoints", "CheckpointError", "holds no latentcot.json"),
    ("eval {h}/run --data {h}/nowhere.jsonl", "DataError", "no such file"),
    ("eval {h}/run --num-thoughts 100", "DataError", "the model has 96"),
    ("eval {h}/run --num-samples 0", "UsageError", "num_samples: must be 1 … 10,000, got 0"),
    ("eval {h}/run --num-samples 2", "UsageError", "2 samples would all be the same"),
    ("eval {h}/run --noise 1 --num-thoughts 0", "UsageError", "no question has a latent position"),
    ("eval {h}/run --noise -1", "UsageError", "noise: must be 0 … 10000, got -1.0"),
    ("eval {h}/run --noise 1 --dropout 0.1", "UsageError", "give one of the two"),
    ("eval {h}/run --top-k 3", "UsageError", "--top-p and --top-k need --temperature"),
    ("eval {h}/run --seed 5", "UsageError", "nothing is drawn without --temperature"),
    (
        "eval {h}/run --data {h}/one/hard.jsonl {h}/two/hard.jsonl",
        "UsageError",
        "both results would be",
    ),
    ("eval {h}/run --num-samples 2 --noise 1 --figure {h}/x.svg", "UsageError", "end in .png"),
    ("eval {h}/run --scorer {h}/test.jsonl", "UsageError", "chooses among 2 samples or more"),
    (
        "eval {h}/run --num-samples 2 --noise 1 --data {h}/test.jsonl --scorer {h}/test.jsonl",
        "UsageError",
        "1 of its 1 questions are among those that are evaluated",
    ),
    ("eval {h}/run --figure {h}/new/x.png", "UsageError", "would be one point"),
    (
        "eval {h}/run --num-thoughts 1 --num-thoughts 2 --out {h}/new/x.json",
        "UsageError",
        "2 numbers of thoughts make a result each",
    ),
    ("convert {h}/plain.gguf --out {h}/new --num-stages 2", "UsageError", "is a plain model"),
    ("convert {h}/plain.gguf --out {h} --overwrite", "RunError", "is read from there"),
    ("convert {h}/plain.gguf --out .", "RunError", "must have a name of its own"),
    ("generate {h}/run zebra", "DataError", "'zebra'"),
    ("generate {h}/full 1", "CheckpointError", "holds no latentcot.json"),
    ("compare", "RunError", "at least one run folder"),
    ("compare {h}/full", "RunError", "is no run folder"),
    ("compare {h}/bare", "RunError", "`latentcot eval {h}/bare` writes it"),
    ("quickstart --out {h}/full", "RunError", "something else than a quickstart"),
]
WORTHLESS = [
    "generate {h}/run 1 --temperature -1",
    "generate {h}/run 1 --max-new-tokens 0",
    "generate {h}/run 1 --max-new-tokens -1",
    "generate {h}/run 1 --num-thoughts -1",
    "eval {h}/run --num-thoughts -1",
    "eval {h}/run --batch-size 0",
    "eval {h}/run --limit 0",
    "eval {h}/run --out {h}/full",
    "train {h}/recipe.yaml --out {h}/recipe.yaml --resume",
    "train {h}/recipe.yaml --out {h}/recipe.yaml/run",
    *(
        f"{command} {'x' * 300}"
        for command in ("eval", "show", "data stats", "plan quickstart --device")
    ),
]


def assert_refuses(ended, kind, message):
    """Exit code 2 and one message, which begins with the class of the error."""
    assert ended.code == 2
    assert ended.out == ""
    assert re.findall(r"^\w+Error(?=: )", ended.err, re.MULTILINE) == [kind]
    assert message in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(("command", "kind", "message"), REFUSED, ids=[one[0] for one in REFUSED])
def test_bad_input_ends_with_one_message(command, kind, message, latentcot, places):
    ended = latentcot(*(word.format(h=places) for word in command.split()))
    assert_refuses(ended, kind, message.format(h=places))
    assert not (places / "new").exists()


@pytest.mark.parametrize("command", WORTHLESS)
def test_bad_input_ends_without_a_traceback(command, latentcot, places):
    ended = latentcot(*(word.format(h=places) for word in command.split()))
    assert ended.code == 2
    assert "Error: " in ended.err


def test_an_unknown_option_ends_with_a_message(latentcot, tmp_path):
    ended = latentcot("train", "recipe.yaml", "--out", tmp_path / "new", "--epochs", 3)
    assert ended.code == 2
    assert "--epochs" in ended.err


def test_an_evaluation_replaces_nothing_but_an_earlier_one(latentcot, tiny_run, tmp_path):
    other = tmp_path / "recipe.yaml"
    other.write_text("seed: 1\n")
    ended = latentcot("eval", tiny_run, "--out", other, "--limit", 1)
    assert ended.code == 2 and "is no result of an evaluation" in ended.err
    assert other.read_text() == "seed: 1\n"
    result = tmp_path / "result.json"
    for _ in range(2):
        assert latentcot("eval", tiny_run, "--out", result, "--limit", 1, "--quiet").code == 0


def test_a_file_name_that_is_no_utf8_loses_no_result(latentcot, tiny_run, data, tmp_path):
    """Linux lets names be any bytes; Python reads those that are no text as lone surrogates."""
    odd, result = tmp_path / os.fsdecode(b"caf\xe9.jsonl"), tmp_path / "result.json"
    try:
        shutil.copy(data / "test.jsonl", odd)
    except OSError:
        pytest.skip("this file system takes no such name")
    words = ["--data", odd, "--limit", 1, "--out", result, "--quiet"]
    ended = latentcot("eval", tiny_run, *words)
    assert ended.code == 0, ended.err
    assert json.loads(result.read_text(encoding="utf-8"))["data"]["file"] == str(odd)


def test_a_wrong_number_of_processes_is_told(latentcot, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "two")
    assert_refuses(latentcot("list", "methods"), "UsageError", "WORLD_SIZE: must be the number of")


def test_a_file_name_is_printed_as_it_is(latentcot):
    ended = latentcot("data", "stats", "a:smile:b.jsonl:x")
    assert "a:smile:b.jsonl:x: no such file" in ended.err
