"""The command line as people from elsewhere type it: what they mean happens, or is named."""

import json
import re
import time
from dataclasses import fields, is_dataclass
from typing import get_args, get_type_hints

import pytest

import latentcot
from latentcot.cli.list import list_
from latentcot.cli.shared.mistakes import WANTED
from latentcot.data.examples import read_examples
from latentcot.data.named import NAMED
from latentcot.runs.checkpoint_folders import QUESTIONS_FILE, SHIPPED

QUESTIONS = SHIPPED / "quickstart" / QUESTIONS_FILE


@pytest.fixture(autouse=True)
def _work_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("train", "train needs RECIPE (a YAML file, or a name of `latentcot list recipes`, such"),
        ("list", "list needs WHAT (methods, tasks, analyses, recipes, data or lm-eval)."),
        ("eval", "eval needs CHECKPOINT (a run, a checkpoint folder, a hub id, or quickstart)."),
        ("data stats", "data stats needs FILE (a file). See `latentcot data stats --help`."),
        ("train prosqa", "train needs --out (where to write, such as --out runs/mine)."),
        ("train prosqa --output 3", "Unknown option: --output. Here it is --out."),
        ("train prosqa --out x --lr 3", "Unknown option: --lr. Here it is --set training.learning"),
        (
            "train prosqa --out x --gradient-accumulation-steps 3",
            "Here it is training.batch_size ÷",
        ),
        ("train --config x", "Unknown option: --config. Here it is the first argument."),
        ("train prosqa gsm8k --out x", "override 'gsm8k': must be KEY=VALUE, like"),
        ("list recipes --filter gsm8k", "Unknown option: --filter."),
        ("play --run x", "Unknown option: --run."),
        ("data make foo", "task 'foo' does not exist. Data are made of: prosqa, prontoqa, arith"),
        ("evaluate quickstart", 'Unknown command "evaluate". Did you mean "eval"?'),
        ("chat quickstart", 'Unknown command "chat". Did you mean "generate"?'),
        ("finetune gsm8k", 'Unknown command "finetune". Did you mean "train"?'),
        ("data make prosqa --out x --size 3", "Unknown option: --size."),
        ("data stats a b", "data stats takes no further words, got b. A text with blanks needs q"),
        ("data stats a b", "needs quotes. Several files are a folder, or a pattern in quotes"),
        ("eval a b", "needs quotes. It evaluates one run at a time; files of questions go behind"),
    ],
)
def test_what_cannot_be_understood_says_what_to_type(words, told, latentcot):
    ended = latentcot(*words.split())
    assert (ended.code, ended.out) == (2, "")
    assert told in ended.err
    assert len(ended.err.splitlines()) == 1


def test_folders_and_keys_under_other_names(latentcot, recipe_values, tmp_path):
    """All changes count, wherever they stand; keys are called by their names here."""
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe_values()))
    changes = ["--set", "seed=1", "training.bs=2", "lr=3", "data.train_file=x"]
    ended = latentcot("train", "recipe.yaml", *changes, "--output_dir", "x")
    assert ended.code == 2 and "recipe.yaml" in ended.err
    for ours in ("training.batch_size", "training.learning_rate", "data.train"):
        assert f"is not a key of a recipe. Here it is {ours}." in ended.err
    trained = latentcot("train", "recipe.yaml", "seed=3", "--set", "training.max_updates=1",
                        "curriculum.num_stages=1", "--output-dir", "x", "--quiet")  # fmt: skip
    assert trained.code == 0, trained.err
    assert latentcot_info(tmp_path / "x").seed == 3
    assert latentcot_info(tmp_path / "x").plan.num_stages == 1


def latentcot_info(run):
    return latentcot.load(run, device="cpu").info


def test_every_name_of_elsewhere_leads_to_a_key():
    from latentcot.models.loading import FromScratch
    from latentcot.models.lora import Lora
    from latentcot.recipes.aliases import ELSEWHERE
    from latentcot.recipes.recipe import Recipe

    parts = {"model": FromScratch, "lora": Lora}
    known = {"--out", "--resume", "--keep-checkpoints"}
    for one in fields(Recipe):
        part = parts.get(one.name, one.type)
        inner = fields(part) if is_dataclass(part) else ()
        known |= {one.name, *(f"{one.name}.{key.name}" for key in inner)}
    assert {one for one in ELSEWHERE.values() if " " not in one} <= known


def test_the_three_meanings_of_quickstart(latentcot):
    """A checkpoint for eval and analyze, a recipe for train, and for show both."""
    evaluated = latentcot("eval", "quickstart", "--limit", 20, "--json")
    assert json.loads(evaluated.out)["accuracy"]["value"] > 0.9
    assert f"the questions are those that come with quickstart: {QUESTIONS}" in evaluated.err
    shown = latentcot("show", "quickstart")
    assert shown.code == 0
    assert "update 6,000" in shown.out and "whole" in shown.out
    assert "The recipe quickstart:" in shown.err
    assert f"question: {read_examples(QUESTIONS, 1)[0].question}" in shown.out
    assert "question <bot> h0 h1 h2 <eot> ┃" in shown.out
    assert json.loads(latentcot("show", "quickstart", "--json").out)["method"] == "coconut"
    drawn = latentcot("show", "quickstart", "--method", "cot")
    assert drawn.out.splitlines()[0].startswith("question: ") and "\ncot\n" in drawn.out
    told = latentcot("show", "prontoqa")
    assert "Make it: `latentcot data make prontoqa --out data/prontoqa`" in told.err


@pytest.mark.slow
def test_a_checkpoint_without_a_run_is_analyzed_in_a_folder_of_its_own(latentcot, tmp_path):
    done = latentcot("analyze", "quickstart", "--only", "outcomes", "--limit", 20, "--quiet")
    assert done.code == 0, done.err
    assert (tmp_path / "analysis" / "quickstart" / "outcomes.json").is_file()


def test_a_question_that_works(latentcot, monkeypatch):
    """In a terminal where none is given, and beside the error where one cannot be read."""
    known = read_examples(QUESTIONS, 1)[0]
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    answered = latentcot("generate", "quickstart")
    assert answered.out.strip() == f"[A] {known.answer}"
    assert known.question in answered.err
    ended = latentcot("generate", "quickstart", "What is 2+2?")
    assert ended.code == 2
    assert f"A question that it knows: '{known.question}'." in ended.err


def test_temperature_zero_is_greedy(latentcot, tiny_run):
    words = ["generate", tiny_run, "2 3 5 6 [Q] 3 6 [R] 2"]
    assert latentcot(*words, "--temperature", 0).out == latentcot(*words).out
    assert "need --temperature above 0" in latentcot(*words, "--temperature", 0, "--top-k", 3).err


def test_lists_are_filtered_and_read_by_programs(latentcot):
    found = json.loads(latentcot("list", "recipes", "gsm8k", "LORA", "--json").out)
    assert [one["recipe"] for one in found] == [
        "gsm8k/llama-3.2-1b-lora", "gsm8k/llama-3.2-3b-lora",
    ]  # fmt: skip
    table = latentcot("list", "data", "svamp").out
    assert "svamp" in table and "1,000" in table and "multiarith" not in table
    for what, kind in (("tasks", "4 tasks"), ("data", f"{len(NAMED)} data sets")):
        told = f"None of the {kind} has nonsense in it.\n"
        assert latentcot("list", what, "nonsense").err == told


def test_what_can_be_listed_is_told():
    """Whoever says nothing is told all that `list` takes."""
    said = re.split(", | or ", WANTED["WHAT"])
    assert said == list(get_args(get_type_hints(list_)["what"]))


def test_version_and_help(latentcot):
    assert latentcot("version").out == latentcot("-V").out == latentcot("--version").out != ""
    shown = latentcot("eval", "--help").out
    assert "[default: ()]" not in shown and "[default: False]" not in shown
    assert "--checkpoint" not in shown


def test_a_shell_completes(latentcot, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    script = tmp_path / "latentcot.bash"
    assert latentcot("--install-completion", "--shell", "bash", "--output", script).code == 0
    assert all(word in script.read_text() for word in ("quickstart", "--output-dir", "generate"))


def test_a_plain_model_is_named(latentcot, tmp_path):
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "gpt2" / "config.json").write_text("{}")
    ended = latentcot("generate", "gpt2", "hi")
    assert ended.code == 2
    assert "is a model, but none that latentcot has trained" in ended.err


def test_a_hub_that_cannot_be_reached_is_asked_once(latentcot, monkeypatch):
    from huggingface_hub import constants

    from latentcot.utils.network import use_cache_if_unreachable

    def sleep(seconds):
        raise AssertionError("tries again")

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("latentcot.utils.network.getproxies", dict)
    use_cache_if_unreachable.cache_clear()
    try:
        ended = latentcot("generate", "nobody/nothing", "hi")
    finally:
        use_cache_if_unreachable.cache_clear()
    assert ended.code == 2
    assert "127.0.0.1 cannot be reached" in ended.err and constants.HF_HUB_OFFLINE
    assert "the hub has no latentcot.json under this name" in ended.err


def test_own_columns_from_the_file_to_the_result(latentcot, recipe_values, data, tmp_path):
    """Named once, in the recipe; split, stats and another file are told behind the command."""
    lines = [f'"{one.question}","{" / ".join(one.steps)}",{one.answer}'
             for split in ("train", "valid", "test")
             for one in read_examples(data / f"{split}.jsonl")]  # fmt: skip
    (tmp_path / "mine.csv").write_text("\n".join(["ask,how,said", *lines]))
    columns = ["--columns.question", "ask", "--columns.steps", "how", "--columns.answer", "said"]
    words = [*columns, "--steps-split", "/"]
    refused = latentcot("data", "split", "mine.csv", "--out", "data")
    assert "Its columns are: ask, how, said. Say which one it is: data.columns.q" in refused.err
    found = latentcot("data", "stats", "mine.csv", *words, "--json")
    assert json.loads(found.out)["num_examples"] == len(lines)
    split = ["data", "split", "mine.csv", "--out", "data", "--valid", 4, "--test", 6, *words]
    assert latentcot(*split).code == 0
    parts = {name: read_examples(f"data/{name}.jsonl") for name in ("train", "valid", "test")}
    assert {name: len(one) for name, one in parts.items()} == {
        "train": len(lines) - 10, "valid": 4, "test": 6,
    }  # fmt: skip
    assert len({one.question for part in parts.values() for one in part}) == len(lines)
    assert all(len(one.steps) == 2 for one in parts["train"])
    assert "exists. Choose another --out" in latentcot(*split).err
    assert "which cannot be 900 for --valid" in latentcot(*split[:6], 900, *split[7:]).err

    values = recipe_values(
        data={"train": "mine.csv", "valid": "mine.csv", "test": "mine.csv", "steps_split": "/",
              "columns": {"question": "ask", "steps": "how", "answer": "said"}},
        training={"max_updates": 1}, task={"match": "exact"},
    )  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(json.dumps(values))
    assert "steps: " in latentcot("show", "recipe.yaml").out
    assert latentcot("train", "recipe.yaml", "--out", "run", "--quiet").code == 0
    assert latentcot("eval", "run", "--limit", 2).code == 0
    told = latentcot("eval", "run", "--data", "data/test.jsonl")
    assert "columns.question names 'ask', which is none of its columns: id, question" in told.err
    usual = ["--columns.question", "question", "--columns.answer", "answer"]
    assert latentcot("eval", "run", "--data", "data/test.jsonl", *usual).code == 0
    values["data"]["columns"] = {"qestion": "ask"}
    (tmp_path / "recipe.yaml").write_text(json.dumps(values))
    ended = latentcot("train", "recipe.yaml", "--out", "new")
    assert "data.columns.qestion: is not a key of a recipe. Did you mean 'question'?" in ended.err


@pytest.mark.slow
def test_training_data_may_be_a_folder_but_not_with_what_judges_it(
    latentcot, recipe_values, data, tmp_path
):
    values = recipe_values(data={"train": str(data)}, training={"max_updates": 1})
    (tmp_path / "recipe.yaml").write_text(json.dumps(values))
    ended = latentcot("train", "recipe.yaml", "--out", "run", "--quiet")
    assert "holds data.valid (valid.jsonl), which would be trained on" in ended.err
    (tmp_path / "parts").mkdir()
    for name in ("a", "b"):
        text = (data / "train.jsonl").read_text().replace('"id": "', f'"id": "{name}')
        (tmp_path / "parts" / f"{name}.jsonl").write_text(text)
    words = ["--out", "run", "--quiet", "--set", "data.train=parts"]
    assert latentcot("train", "recipe.yaml", *words).code == 0
