"""Files of strangers run no code, ask nothing, and reach nothing outside of their folder."""

import csv
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml

from latentcot import CheckpointError, RecipeError, RunError, load, read_examples, read_recipe
from latentcot.errors import DataError, LatentcotError, UsageError
from latentcot.evaluation.comparison import summarize
from latentcot.evaluation.statistics import share_with_interval
from latentcot.evaluation.tables import write_summaries
from latentcot.models.loading import load_pretrained, load_tokenizer
from latentcot.runs.checkpoint import load_training_state
from latentcot.runs.checkpoint_folders import best_checkpoint, checkpoint_folders
from latentcot.runs.folder import eval_path, open_run, read_run_recipe
from latentcot.studies.folder import making_jobs, open_study
from latentcot.studies.jobs import Making
from latentcot.studies.study import cells_of, read_study
from latentcot.utils.files import write_csv, write_json
from latentcot.utils.parsing import parse_yaml

EVIL = """
open({witness!r}, "w").close()
from transformers import GPT2Config as EvilConfig, GPT2LMHeadModel as Evil
from transformers import PreTrainedTokenizerFast as EvilTokenizer
"""
CODE = {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.Evil"}


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.witness), "w")


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Path]:
    """What foreign code would write; the test fails if it has run."""
    path = tmp_path / "code-has-run"
    yield path
    assert not path.exists()


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test fails if something asks the terminal."""
    asked: list[Any] = []
    monkeypatch.setattr("builtins.input", lambda *words: asked.append(words) or "y")
    yield
    assert not asked


@pytest.fixture
def folder(tiny_run: Path, tmp_path: Path, witness: Path) -> Path:
    """A checkpoint with code beside it, and no list of checksums."""
    copy = tmp_path / "checkpoint"
    shutil.copytree(checkpoint_folders(tiny_run)[-1], copy)
    (copy / "checksums.json").unlink()
    (copy / "evil.py").write_text(EVIL.format(witness=str(witness)))
    return copy


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def use(folder: Path) -> list[Exception]:
    """Load a folder in every way there is; return the errors, all of them ours."""
    errors: list[Exception] = []
    for way in (load, load_pretrained, load_tokenizer):
        try:
            way(str(folder))  # type: ignore[operator]
        except LatentcotError as error:
            errors.append(error)
    return errors


# --- code in a checkpoint ---


@pytest.mark.usefixtures("questions")
class TestCode:
    @pytest.mark.parametrize("kind", ["gpt2", "evil"])
    @pytest.mark.parametrize("owner", ["", "evil/repo--"])
    def test_of_a_model_is_not_run(self, folder: Path, kind: str, owner: str) -> None:
        code = {name: f"{owner}{value}" for name, value in CODE.items()}
        change(folder / "config.json", auto_map=code, model_type=kind)
        assert bool(use(folder)) == (kind == "evil")

    @pytest.mark.parametrize("name", ["EvilTokenizer", "PreTrainedTokenizerFast"])
    def test_of_a_tokenizer_is_not_run(self, folder: Path, name: str) -> None:
        code = {"AutoTokenizer": ["evil.EvilTokenizer", "evil.EvilTokenizer"]}
        change(folder / "tokenizer_config.json", auto_map=code, tokenizer_class=name)
        use(folder)

    @pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
    def test_attention_of_the_hub_is_refused(self, folder: Path, key: str) -> None:
        """transformers would fetch it and run it, whatever trust_remote_code says."""
        change(folder / "config.json", **{key: "evil/kernel"})
        errors = use(folder)
        assert len(errors) == 2 and all("config.json asks for" in str(one) for one in errors)

    def test_quantized_weights_are_refused(self, folder: Path) -> None:
        quantized = {"quant_method": "bitsandbytes", "load_in_4bit": True}
        change(folder / "config.json", quantization_config=quantized)
        assert all("quantized" in str(one) for one in use(folder))


# --- pickles ---


class TestPickles:
    def test_beside_the_weights_are_not_read(self, folder: Path, witness: Path) -> None:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(witness)))
        assert use(folder) == []

    @pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
    def test_instead_of_the_weights_are_refused(
        self, folder: Path, witness: Path, name: str
    ) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(pickle.dumps(Payload(witness)))
        with pytest.raises(CheckpointError, match="cannot be read"):
            load(folder)

    def test_named_by_an_index_are_refused(self, folder: Path, witness: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "weights.bin").write_bytes(pickle.dumps(Payload(witness)))
        index = {"metadata": {}, "weight_map": {"transformer.wte.weight": "weights.bin"}}
        for name in ("model.safetensors", "pytorch_model.bin"):
            write_json(folder / f"{name}.index.json", index)
        with pytest.raises(CheckpointError, match="cannot be read"):
            load(folder)

    @pytest.mark.parametrize("name", ["modules.safetensors", "stop_head.safetensors"])
    def test_as_modules_are_refused(self, folder: Path, witness: Path, name: str) -> None:
        change(folder / "latentcot.json", stop_threshold=0.5, max_thoughts=2)
        (folder / name).write_bytes(pickle.dumps(Payload(witness)))
        with pytest.raises(CheckpointError, match="cannot be read"):
            load(folder)

    def test_a_missing_file_of_modules_is_not_looked_for_elsewhere(
        self, folder: Path, tmp_path: Path, monkeypatch: Any
    ) -> None:
        """Not where someone stands, who may stand in another checkpoint."""
        change(folder / "latentcot.json", stop_threshold=0.5, max_thoughts=2)
        monkeypatch.chdir(tmp_path)
        with pytest.raises(CheckpointError, match=r"modules\.safetensors is missing"):
            load(folder)

    def test_as_a_training_state_are_refused(self, folder: Path, witness: Path) -> None:
        import torch

        torch.save({"optimizer": Payload(witness)}, folder / "training_state.pt")
        with pytest.raises(CheckpointError, match="cannot be read") as caught:
            load_training_state(folder)
        # torch's own words tell how to load it with all its code.
        assert "weights_only" not in str(caught.value)


# --- YAML ---

BOMB = "{a: &a [x, x, x, x, x, x, x, x, x], " + ", ".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
) + "}"  # fmt: skip
YAML = {
    "bomb": (BOMB, "more than 100,000 values"),
    "circle": ("&a {a: *a}", "an alias stands inside itself"),
    "object": (
        "!!python/object/apply:os.mkdir ['{witness}']",
        "could not determine a constructor",
    ),
    "twice": ("{a: 1, a: 2}", "the key 'a' stands twice"),
    "deep": ("[" * 1_000, "nested too deeply"),
}


@pytest.mark.parametrize(("text", "words"), YAML.values(), ids=YAML)
def test_yaml_is_values_alone(tmp_path: Path, witness: Path, text: str, words: str) -> None:
    text = f"method: {text.replace('{witness}', str(witness))}"
    for name in ("recipe.yaml", "study.yaml"):
        (tmp_path / name).write_text(text)
    ways: list[Callable[[], object]] = [
        lambda: read_recipe(tmp_path / "recipe.yaml"),
        lambda: read_study(tmp_path / "study.yaml"),
        lambda: read_run_recipe(tmp_path),
    ]
    for way in ways:
        with pytest.raises((RecipeError, RunError), match=words) as caught:
            way()
        assert len(str(caught.value)) < 1_500
    assert parse_yaml("a: &x [1]\nb: *x") == {"a": [1], "b": [1]}  # aliases themselves are fine


def test_an_override_with_a_bomb_is_a_text(recipe_file: Path, witness: Path) -> None:
    for text in (BOMB, f"!!python/object/apply:os.mkdir ['{witness}']"):
        with pytest.raises(RecipeError, match="seed: ") as caught:
            read_recipe(recipe_file, [f"seed={text}"])
        assert len(str(caught.value)) < 1_500


# --- names that lead elsewhere ---

OUTSIDE = ("../x", "../../x", "/x", "a/b", "..", ".", ".hidden", "", "a\nb", "a\x00b", "x" * 300)


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("key", ["tasks", "methods"])
def test_names_of_a_study_are_names_of_folders(
    tmp_path: Path, recipe_file: Path, key: str, name: str
) -> None:
    values: dict[str, Any] = {"tasks": {"t": str(recipe_file)}, "methods": ["cot"]}
    method = {name: {"method": "cot"}}
    values[key] = {name: str(recipe_file)} if key == "tasks" else [method]
    path = tmp_path / "s.yaml"
    path.write_text(json.dumps(values))
    with pytest.raises(RecipeError, match=f"{key}: .*names a folder"):
        read_study(path)


def test_seeds_of_a_study_are_numbers(tmp_path: Path, recipe_file: Path) -> None:
    values = {"tasks": {"t": str(recipe_file)}, "methods": ["cot"], "seeds": ["../../x"]}
    (tmp_path / "s.yaml").write_text(json.dumps(values))
    with pytest.raises(RecipeError, match="seeds"):
        read_study(tmp_path / "s.yaml")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("prosqa --out {out} --overwrite", "holds --overwrite"),
        ("prosqa --out {out} --overwrite=true", "holds --overwrite"),
        ("prosqa --out {out} --out elsewhere", "two folders"),
        ("prosqa", "names no folder"),
    ],
)
def test_data_of_a_study_replace_nothing(
    tmp_path: Path, recipe_file: Path, line: str, words: str
) -> None:
    values = {"tasks": {"t": str(recipe_file)}, "methods": ["cot"],
              "data": [line.format(out=tmp_path)]}  # fmt: skip
    (tmp_path / "s.yaml").write_text(json.dumps(values))
    with pytest.raises(RecipeError, match=words):
        read_study(tmp_path / "s.yaml")


def test_a_line_of_data_can_only_make_data(
    tmp_path: Path, recipe_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words stand behind `latentcot data make`; no shell reads them."""
    monkeypatch.chdir(tmp_path)
    line = "../../train --out x; rm -rf $HOME | true"
    values = {"tasks": {"t": str(recipe_file)}, "methods": ["cot"], "data": [line]}
    (tmp_path / "s.yaml").write_text(json.dumps(values))
    [job] = making_jobs(read_study(tmp_path / "s.yaml"), tmp_path / "out")
    assert isinstance(job, Making)
    assert next(job.commands())[:3] == ["data", "make", "../../train"]


@pytest.mark.parametrize(
    "source", ["hub:name:../../x", "hub:name:config:../../x", "../../x", "/x/y.json", "hub:a:.."]
)
def test_a_result_stays_in_its_run(tiny_run: Path, source: str) -> None:
    path = eval_path(tiny_run, source, None, None)
    assert path is not None and path.resolve().parent == (tiny_run / "evals").resolve()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("other/test.jsonl", "other-test"),
        ("hub:who/what:test", "who-what-test"),
        ("hub:who/what:main:test", "who-what-main-test"),
        ("other/valid.jsonl", "other-valid"),
        ("other/train.csv", "other-train"),
        ("hub:who/what:valid", "who-what-valid"),
        ("other/harder.jsonl", "harder"),
        ("hub:who/what:validation", "validation"),
    ],
)
def test_other_questions_do_not_replace_the_result_of_the_run(
    tiny_run: Path, source: str, name: str
) -> None:
    path = eval_path(tiny_run, source, None, None)
    assert path is not None and path.stem == name


def test_the_runs_own_files_give_results_of_their_names(tiny_run: Path) -> None:
    """However they are spelled."""
    own = read_run_recipe(tiny_run)["data"]
    for split in ("train", "valid", "test"):
        for spelled in (own[split], os.path.relpath(own[split])):
            path = eval_path(tiny_run, spelled, None, None)
            assert path == tiny_run / "evals" / f"{split}.json"


@pytest.mark.parametrize(
    ("own", "source", "name"),
    [
        ({"valid": "a/x.jsonl", "test": "b/x.jsonl"}, "b/x.jsonl", "x"),
        ({"valid": "a/x.jsonl", "test": "b/x.jsonl"}, "a/x.jsonl", "a-x"),
        ({"valid": "a/x.jsonl", "test": None}, "b/test.jsonl", "test"),
        ({"valid": "gsm8k-aug:valid", "test": "gsm8k-aug:test"}, "gsm8k-aug:test", "test"),
        ({"valid": "gsm8k-aug:valid", "test": "gsm8k-aug:test"}, "gsm8k-aug", "gsm8k-aug"),
        ({"valid": ["a"], "test": 5}, "a/x.jsonl", "x"),  # of whoever wrote that recipe
    ],
)
def test_the_plain_name_is_the_tests_before_the_others(
    tmp_path: Path, own: dict[str, Any], source: str, name: str
) -> None:
    (tmp_path / "recipe.yaml").write_text(json.dumps({"data": own}))
    path = eval_path(tmp_path, source, None, None)
    assert path is not None and path.stem == name


@pytest.mark.parametrize("name", ["../../x", "a/../b", "..", "/x"])
def test_an_evaluation_is_a_name(tiny_run: Path, name: str) -> None:
    with pytest.raises(UsageError, match="--evaluation: must be the name of a file"):
        summarize([tiny_run], name)


@pytest.mark.parametrize("name", ["../../other", "/x", "update-99999999", "..", ""])
def test_the_best_checkpoint_is_one_of_the_run(tiny_run: Path, tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    shutil.copytree(checkpoint_folders(run)[0], tmp_path / "other")
    write_json(run / "checkpoints" / "best.json", {"checkpoint": name})
    with pytest.raises(CheckpointError, match="which is not there"):
        best_checkpoint(run)


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", ""])
def test_checksums_name_files_of_their_folder(folder: Path, name: str) -> None:
    write_json(folder / "checksums.json", {"format_version": 1, "sha256": {name: "0"}})
    with pytest.raises(CheckpointError, match=r"checksums\.json"):
        load(folder)


@pytest.mark.parametrize("id_", ["a\nb", "\x1b[31m", "x" * 300])
def test_an_id_is_one_line(tmp_path: Path, id_: str) -> None:
    record = {"id": id_, "question": "q", "steps": [], "answer": "a"}
    (tmp_path / "data").write_text(json.dumps(record))
    with pytest.raises(DataError, match="'id' must be one line"):
        read_examples(tmp_path / "data")


# --- links in a folder that is deleted ---


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    path = tmp_path / "precious"
    path.mkdir()
    (path / "thesis.tex").write_text("…")
    return path


def link_everywhere(folder: Path, target: Path) -> None:
    for name in ("checkpoints/update-00000001", "evals", "more"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(target)


@pytest.mark.parametrize("is_link", [False, True])
def test_overwriting_a_run_follows_no_link(tmp_path: Path, precious: Path, is_link: bool) -> None:
    run = tmp_path / "run"
    link_everywhere(run, precious)
    (run / "recipe.yaml").write_text("{}")
    out = run
    if is_link:
        out = tmp_path / "link"
        out.symlink_to(run)
    open_run(out, resume=False, overwrite=True)
    assert (precious / "thesis.tex").exists() and not (run / "recipe.yaml").exists()


@pytest.mark.parametrize("is_link", [False, True])
def test_overwriting_a_study_follows_no_link(
    tmp_path: Path, precious: Path, recipe_file: Path, is_link: bool
) -> None:
    (tmp_path / "s.yaml").write_text(
        json.dumps({"tasks": {"t": str(recipe_file)}, "methods": ["cot"]})
    )
    study = read_study(tmp_path / "s.yaml")
    real = tmp_path / "study"
    link_everywhere(real, precious)
    (real / "study.yaml").write_text("{}")
    out = real
    if is_link:
        out = tmp_path / "link"
        out.symlink_to(real)
    open_study(study, cells_of(study), out, overwrite=True)
    assert (precious / "thesis.tex").exists()
    assert [path.name for path in out.iterdir()] == ["study.yaml"]


# --- texts in tables and pages ---

SCRIPT = "</script><img src=x onerror=alert(1)>"


@pytest.mark.parametrize("name", [SCRIPT, "=cmd|' /C calc'!A0", "@x", "-1", "a\nb", "x" * 300])
@pytest.mark.parametrize("key", ["method", "task"])
def test_names_in_results_are_names(
    tiny_run: Path, tmp_path: Path, write_result: Callable[..., Path], key: str, name: str
) -> None:
    with pytest.raises(RunError, match=f"{key}.*must begin with a letter or digit"):
        summarize([write_result(**{key: name})])


@pytest.fixture
def write_result(tiny_run: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function (KEY=VALUE) → a run with a result of two questions."""

    def write(**changes: Any) -> Path:
        share, low, high = share_with_interval(1, 2)
        values = {
            "schema_version": 2, "method": "cot", "task": "prosqa", "accuracy": share, "low": low,
            "high": high, "num_questions": 2, "tokens_per_question": 1.0,
            "thoughts_per_question": 0.0, "passes_per_question": 1.0, "seconds_per_question": 0.1,
            "batch_size": 2, "checkpoint": {"run_updates": 1}, "data": {"sha256": "x"},
            "records": [{"id": str(i), "is_correct": i == 0} for i in range(2)],
        }  # fmt: skip
        run = tmp_path / "result"
        run.mkdir(exist_ok=True)
        shutil.copy(tiny_run / "recipe.yaml", run)
        write_json(run / "evals" / "test.json", values | changes)
        return run

    return write


def test_other_texts_of_results_stay_texts(
    write_result: Callable[..., Path], tmp_path: Path
) -> None:
    """A machine and the last line of a log may be called anything."""
    machine = f"box\n\\input{{/etc/passwd}}\n{SCRIPT}"
    study, source = tmp_path / "study", {"machine": machine, "commit": "abc\n\\evil"}
    shutil.copytree(write_result(provenance=source), study / "t" / "cot" / "seed-0")
    (study / "study.yaml").write_text(yaml.safe_dump({"tasks": ["t"], "methods": ["cot"]}))
    (study / "t" / "cot" / "seed-1.log").write_text(f"{SCRIPT} \\input{{x}} \x1b[31m|\n")
    summaries = summarize([study])
    for ending in ("md", "tex"):
        write_summaries(tmp_path / f"t.{ending}", summaries)
    markdown, latex = (tmp_path / "t.md").read_text(), (tmp_path / "t.tex").read_text()
    assert "<img" not in markdown and "</script" not in markdown
    active = [line for line in latex.splitlines() if not line.startswith("%")]
    assert not any("\\input" in line or "\\evil" in line for line in active)
    assert "\x1b" not in markdown + latex


FORMULAS = ["=cmd|' /C calc'!A0", "@SUM(1)", "+1+1", "-1+1", "\t=1", "\r=1", "=1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_of_a_table_is_a_formula(
    write_result: Callable[..., Path], tmp_path: Path, text: str
) -> None:
    """Spreadsheets compute what begins so: a machine, a commit, the reason of a failure."""
    study = tmp_path / "study"
    source = {"machine": text, "commit": text}
    shutil.copytree(write_result(provenance=source), study / "t" / "cot" / "seed-0")
    (study / "study.yaml").write_text(yaml.safe_dump({"tasks": ["t"], "methods": ["cot"]}))
    write_summaries(tmp_path / "t.csv", summarize([study]))
    with (tmp_path / "t.csv").open(newline="") as file:
        [row] = csv.DictReader(file)
    assert row["machines"] == row["commits"] == f"'{text.strip()}"
    assert not any(cell.startswith(tuple("=+-@\t\r")) for cell in row.values())


def test_formulas_alone_are_guarded() -> None:
    """Numbers stay numbers, negative ones and those of texts too; names of columns count."""
    file, row = StringIO(), {"=a": -1.5, "b": "-2", "c": "+3e4", "d": None, "e": "x=1", "f": -7}
    write_csv(file, [*row], [row, {"=a": "\n-x", "b": "-"}])
    assert file.getvalue() == ("'=a,b,c,d,e,f\n-1.5,-2,+3e4,,x=1,-7\n\"'\n-x\",'-,,,,\n")
