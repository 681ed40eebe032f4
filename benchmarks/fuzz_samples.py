"""Valid folders for the readers of `fuzz_readers.py`: what is mutated by `fuzz.py`.

They are made from the packaged recipes and studies, from a run that is trained in a second, and
from the heads of the official data files where these are here.
"""

import contextlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from fuzz_mutations import Form

from latentcot.cli.evaluate import evaluate
from latentcot.data.examples import write_examples
from latentcot.recipes.recipe import make_recipe
from latentcot.recipes.values import RECIPES
from latentcot.tasks.prontoqa.generator import ProntoqaOptions, official_json
from latentcot.tasks.prontoqa.generator import make_splits as make_prontoqa
from latentcot.tasks.prosqa.generator import make_splits
from latentcot.tasks.prosqa.options import options_named
from latentcot.training.train import train

ROOT = Path(__file__).parent.parent
OFFICIAL = ROOT.parent / "shared" / "data"


@dataclass(frozen=True)
class Sample:
    """A folder that a reader accepts.

    Attributes:
        files: Path in the folder → content.
        broken: The files that are mutated, with what they are made of.
    """

    files: Mapping[str, bytes]
    broken: tuple[tuple[str, Form], ...]


def all_samples(work: Path) -> dict[str, list[Sample]]:
    """Return the samples of each reader; `work` is an empty folder for the run they come from."""
    run = make_run(work)
    newest = sorted((run / "checkpoints").glob("update-*"))[-1]
    paths = sorted(path for path in newest.rglob("*") if path.is_file())
    files = {f"checkpoint/{path.relative_to(newest)}": path.read_bytes() for path in paths}
    # Those of custom_generate/ are never read here, but for their checksums.
    unlike = ("latentcot.json", "training_state.pt", "generate.py", "thinking.json")
    others = (name for name in files if not name.endswith(unlike))
    base = _dump({**TINY, "stop": "constant"})
    return {
        "recipes": _recipes(),
        "overrides": [
            _one("overrides", "yaml", line, {"tiny.yaml": base, "main": "tiny.yaml"})
            for line in _OVERRIDES
        ],
        "studies": _studies(),
        **_examples(),
        "latentcot.json": _infos(files),
        "checkpoint files": [_broken(files, name) for name in others],
        "training state": [_broken(files, "checkpoint/training_state.pt")],
        "best.json": [_best(run)],
        "results": _results(run),
        "run files": _run_files(run),
    }


Contents = Mapping[str, bytes | str]
_FORMS: dict[str, Form] = {".json": "json", ".yaml": "yaml", ".jsonl": "jsonl", ".log": "text"}


def _one(name: str, form: Form, content: bytes | str, others: Contents | None = None) -> Sample:
    files = {**(others or {}), name: content}
    found = {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}
    return Sample(found, ((name, form),))


def _broken(files: Contents, name: str) -> Sample:
    return _one(name, _FORMS.get(Path(name).suffix, "binary"), files[name], files)


def _dump(values: Any) -> str:
    return yaml.safe_dump(values, sort_keys=False)


# --- recipes and studies ----------------------------------------------------------------------

TINY: dict[str, Any] = {
    "data": {"train": "train.jsonl", "valid": "valid.jsonl", "test": "test.jsonl"},
    "method": "coconut",
    "model": {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "num_positions": 96},
    "template": {"question_end": "", "step_end": "", "answer_start": "[A] "},
    "stop": "classifier",
    "curriculum": {"num_stages": 2, "epochs_stage_0": 1, "epochs_per_stage": 1,
                   "pad_to_num_stages": False},
    "training": {"epochs": None, "max_updates": 12, "batch_size": 8, "learning_rate": 0.003,
                 "betas": [0.9, 0.98], "log_every": 1},
    "generation": {"max_new_tokens": 8},
    "seed": 3,
}  # fmt: skip
_OWN = {**TINY, "stop": {"rule": "constant"}, "model": "models/gpt2",
        "special_tokens_start_from": "<<",
        "task": {"match": "regex", "pattern": "\\b([A-D])\\b"},
        "curriculum": {"advance": "learned", "learned_below": [0.9, 0.5, 0.4],
                       "max_updates_per_stage": [10, 20, 30]}}  # fmt: skip
_OVERRIDES = (
    "training.learning_rate=3e-4", "training.epochs=null", 'template.answer_start="### "',
    "training.betas=[0.9, 0.98]", "method=cot", "stop=classifier", "model=openai-community/gpt2",
    "special_tokens_start_from=<<", "task={match: number}", "curriculum={num_stages: 1}", "seed=1",
)  # fmt: skip


def _recipes() -> list[Sample]:

    found = [
        _one("tiny.yaml", "yaml", _dump(values), {"main": "tiny.yaml"}) for values in (TINY, _OWN)
    ]
    for path in sorted(RECIPES.rglob("*.yaml")):
        if path.stem.startswith("_"):
            continue
        chain = [path]  # with those that it extends
        while base := yaml.safe_load(chain[-1].read_text(encoding="utf-8")).get("extends"):
            chain.append((chain[-1].parent / base).resolve())
        files = {f"recipes/{one.relative_to(RECIPES)}": one.read_bytes() for one in chain}
        main = next(iter(files)).encode()
        found.append(Sample({"main": main, **files}, tuple((name, "yaml") for name in files)))
    return found


def _studies() -> list[Sample]:
    tiny = {
        "data": ["prosqa --out data/prosqa --preset two-family --layers 2 --train 64"],
        "tasks": {"own": {"recipe": "tiny.yaml", "curriculum.num_stages": 1}, "two": "tiny.yaml"},
        "methods": ["coconut", {"more": {"method": "coconut", "curriculum.thoughts_per_step": 2}}],
        "seeds": [0, 7],
        "set": {"training.max_updates": 20},
        "evaluate": {"batch_size": 50, "limit": 10},
        "baseline": "coconut",
    }
    found = [_one("study.yaml", "yaml", _dump(tiny), {"tiny.yaml": _dump(TINY)})] * 3
    for path in sorted((ROOT / "studies").glob("*.yaml")):  # of dozens of cells each
        found.append(_one("study.yaml", "yaml", path.read_bytes(), {"is-large": ""}))
    return found


# --- examples ---------------------------------------------------------------------------------


def _prosqa_records(rendering: str) -> list[dict[str, Any]]:

    options = options_named("two-family", layers=2, shared=0, rendering=rendering)
    return [
        {"id": e.id, "question": e.question, "steps": list(e.steps), "answer": e.answer, **e.meta}
        for e in make_splits(options, {"test": 3}, seed=0)["test"]
    ]


def _official(name: str) -> str:
    """Return an official data file, or nothing where it is not here."""
    path = OFFICIAL / name
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _examples() -> dict[str, list[Sample]]:

    words, symbols = _prosqa_records("words"), _prosqa_records("symbols")
    custom: list[dict[str, Any]] = [
        {"question": "Which? A or B", "steps": ["Not A."], "answer": "B", "level": 1.5},
        {"id": 7, "question": "Why?", "steps": [], "answer": "So.", "more": {"a": [None]}},
    ]
    prosqa = [[{k: v for k, v in record.items() if k != "id"} for record in words]]
    prosqa += [json.loads(text)[:2] for text in [_official("prosqa_valid.json")] if text]
    made = official_json(make_prontoqa(ProntoqaOptions(hops=2), {"test": 2}, 0)["test"])
    texts = [json.dumps(made), json.dumps(made, indent=1)]
    if official := _official("prontoqa_5hop_sample.json"):
        texts.append(json.dumps(dict(list(json.loads(official).items())[:2])))
    icot = ["A has 4 and gives 2.||<<4-2=2>> <<2/.5=4>> #### 4\n\nHow many?|| #### 1,000\n"]
    icot += [text for text in ["\n".join(_official("gsm8k_aug_valid.txt").split("\n")[:4])] if text]
    lines = ["\n".join(map(json.dumps, records)) + "\n" for records in (words, symbols, custom)]
    return {
        "JSON Lines": [_one("data", "jsonl", text) for text in lines],
        "official JSON": [_one("data", "json", json.dumps(records)) for records in prosqa],
        "iCoT text": [_one("data", "text", text) for text in icot],
        "ProntoQA JSON": [_one("data", "json", text) for text in texts],
    }


# --- a run ------------------------------------------------------------------------------------


def make_run(work: Path) -> Path:
    """Train a run of a dozen updates, with a stop classifier, and evaluate it; return it."""

    options = options_named("two-family", layers=2, shared=0)
    files = {}
    for split, examples in make_splits(options, {"train": 32, "valid": 6, "test": 4}, 0).items():
        files[split] = str(work / f"{split}.jsonl")
        write_examples(files[split], examples)
    train(make_recipe({**TINY, "data": files}), work / "run", is_quiet=True)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluate(str(work / "run"), quiet=True)
    return work / "run"


def _infos(files: dict[str, bytes]) -> list[Sample]:
    """Return checkpoints whose latentcot.json is of today, and of earlier formats."""
    name = "checkpoint/latentcot.json"
    newest = json.loads(files[name])
    old = ("num_stages", "thoughts_per_step", "pad_to_num_stages")
    first = {k: v for k, v in newest.items() if k not in ("plan", "stop_threshold", "max_thoughts")}
    older = [
        {**newest, "format_version": 2},
        {**first, **{key: newest["plan"][key] for key in old}, "format_version": 1},
        {**newest, "task": {"match": "regex", "pattern": "(a)"}, "method": "pause"},
    ]
    bare = {path: content for path, content in files.items() if "checksums" not in path}
    changed = [{**bare, name: json.dumps(one).encode()} for one in older]
    return [_broken(one, name) for one in (files, *changed)]


def _best(run: Path) -> Sample:
    names = [path.parent.name for path in run.glob("checkpoints/update-*/latentcot.json")]
    names += ["update-00000001", "update-00000002", "update-00000099"]
    files = {f"run/checkpoints/{name}/latentcot.json": b"{}" for name in names}
    pointer = "run/checkpoints/best.json"
    return _broken(
        {**files, pointer: json.dumps(_unhashed(run / pointer.partition("/")[2]))}, pointer
    )


def _unhashed(path: Path) -> dict[str, Any]:
    """Return what a file holds but its hash, which would refuse every change before it is read."""
    values: dict[str, Any] = json.loads(path.read_text())
    del values["sha256"]
    return values


def _results(run: Path) -> list[Sample]:
    recipe, values = (run / "recipe.yaml").read_text(), _unhashed(run / "evals/test.json")
    result = json.dumps(values)
    of_today = ("format_version", "task", "accuracy")
    first = {key: value for key, value in values.items() if key not in of_today}
    names = {"value": "accuracy", "low": "low", "high": "high", "n": "num_questions"}
    first |= {names[key]: value for key, value in values["accuracy"].items()}
    first["checkpoint"] = values["checkpoint"] | {"run_updates": values["checkpoint"]["updates"]}
    cot = json.dumps({**values, "method": "cot"})
    pair = {"run-a/recipe.yaml": recipe, "run-a/evals/test.json": result,
            "run-b/recipe.yaml": recipe, "run-b/evals/test.json": cot}  # fmt: skip
    older = {**pair, "run-a/evals/test.json": json.dumps(first)}
    study: Contents = {
        f"study/t/{method}/seed-0{ending}": text
        for method, one in (("cot", cot), ("more", result))
        for ending, text in (("/recipe.yaml", recipe), ("/evals/test.json", one))
    } | {
        "study/study.yaml": _dump(
            {"tasks": {"t": "x"}, "methods": ["cot", {"more": {}}], "seeds": [0]}
        ),
        "study/t/more/seed-1.log": "RunError: \x1b[31mno\n",
    }
    in_study = ("study.yaml", "t/more/seed-1.log", "t/cot/seed-0/evals/test.json")
    return [
        *(_broken(files, "run-a/evals/test.json") for files in (pair, older)),
        _broken(pair, "run-a/recipe.yaml"),
        *(_broken(study, f"study/{name}") for name in in_study),
    ]


def _run_files(run: Path) -> list[Sample]:
    names = ("recipe.yaml", "metrics.jsonl", "provenance.json", "evals/test.json")
    files = {f"run/{name}": (run / name).read_bytes() for name in names}
    return [_broken(files, name) for name in files]
