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
    folder = make_run(work)
    return {
        "recipes": _recipes(),
        "overrides": _overrides(),
        "studies": _studies(),
        "JSON Lines": _json_lines(),
        "official JSON": _official_json(),
        "iCoT text": _icot(),
        "ProntoQA JSON": _prontoqa(),
        "latentcot.json": _infos(folder),
        "checkpoint files": _checkpoint_files(folder),
        "training state": _training_states(folder),
        "best.json": _best(folder),
        "results": _results(folder),
        "run files": _run_files(folder),
    }


Contents = Mapping[str, bytes | str]


def _one(name: str, form: Form, content: bytes | str, others: Contents | None = None) -> Sample:
    files = {**(others or {}), name: content}
    return Sample({path: _bytes(text) for path, text in files.items()}, ((name, form),))


def _bytes(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else content


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
    from latentcot.recipes.values import RECIPES

    found = [
        _one("tiny.yaml", "yaml", yaml.safe_dump(values), {"main": "tiny.yaml"})
        for values in (TINY, _OWN)
    ]
    for path in sorted(RECIPES.rglob("*.yaml")):
        if path.stem.startswith("_"):
            continue
        chain = {f"recipes/{one.relative_to(RECIPES)}": one.read_bytes() for one in _chain(path)}
        broken: tuple[tuple[str, Form], ...] = tuple((name, "yaml") for name in chain)
        found.append(Sample({"main": next(iter(chain)).encode(), **chain}, broken))
    return found


def _chain(path: Path) -> list[Path]:
    """Return a recipe and those that it extends."""
    base = yaml.safe_load(path.read_text(encoding="utf-8")).get("extends")
    return [path, *(_chain((path.parent / base).resolve()) if base else [])]


def _overrides() -> list[Sample]:
    base = yaml.safe_dump({**TINY, "stop": "constant"})
    extra: dict[str, bytes | str] = {"tiny.yaml": base, "main": "tiny.yaml"}
    return [_one("overrides", "yaml", line, extra) for line in _OVERRIDES]


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
    recipe = yaml.safe_dump(TINY)
    extra: dict[str, bytes | str] = {"tiny.yaml": recipe}
    found = [_one("study.yaml", "yaml", yaml.safe_dump(tiny, sort_keys=False), extra)] * 3
    for path in sorted((ROOT / "studies").glob("*.yaml")):  # of dozens of cells each
        found.append(_one("study.yaml", "yaml", path.read_bytes(), {"is-large": ""}))
    return found


# --- examples ---------------------------------------------------------------------------------


def _prosqa_records(rendering: str) -> list[dict[str, Any]]:
    from latentcot.tasks.prosqa.generator import make_splits
    from latentcot.tasks.prosqa.options import options_named

    options = options_named("two-family", layers=2, shared=0, rendering=rendering)
    return [
        {"id": e.id, "question": e.question, "steps": list(e.steps), "answer": e.answer, **e.meta}
        for e in make_splits(options, {"test": 3}, seed=0)["test"]
    ]


def _json_lines() -> list[Sample]:
    own: list[dict[str, Any]] = [
        {"question": "Which? A or B", "steps": ["Not A."], "answer": "B", "level": 1.5},
        {"id": 7, "question": "Why?", "steps": [], "answer": "So.", "more": {"a": [None]}},
    ]
    sets = [_prosqa_records("words"), _prosqa_records("symbols"), own]
    texts = ["\n".join(map(json.dumps, records)) + "\n" for records in sets]
    return [_one("data", "jsonl", text) for text in texts]


def _official_json() -> list[Sample]:
    records = [{k: v for k, v in r.items() if k != "id"} for r in _prosqa_records("words")]
    found = [_one("data", "json", json.dumps(records))]
    if (OFFICIAL / "prosqa_valid.json").exists():
        official = json.loads((OFFICIAL / "prosqa_valid.json").read_text(encoding="utf-8"))
        found.append(_one("data", "json", json.dumps(official[:2])))
    return found


def _icot() -> list[Sample]:
    own = "A has 4 and gives 2.||<<4-2=2>> <<2/.5=4>> #### 4\n\nHow many?|| #### 1,000\n"
    found = [_one("data", "text", own)]
    if (OFFICIAL / "gsm8k_aug_valid.txt").exists():
        lines = (OFFICIAL / "gsm8k_aug_valid.txt").read_text(encoding="utf-8").split("\n")
        found.append(_one("data", "text", "\n".join(lines[:4])))
    return found


def _prontoqa() -> list[Sample]:
    from latentcot.tasks.prontoqa.generator import make_splits, official_json
    from latentcot.tasks.prontoqa.options import ProntoqaOptions

    splits = make_splits(ProntoqaOptions(hops=2), {"test": 2}, 0)
    made = official_json(splits["test"])
    found = [
        _one("data", "json", json.dumps(made)),
        _one("data", "json", json.dumps(made, indent=1)),
    ]
    if (OFFICIAL / "prontoqa_5hop_sample.json").exists():
        official = json.loads((OFFICIAL / "prontoqa_5hop_sample.json").read_text(encoding="utf-8"))
        found.append(_one("data", "json", json.dumps(dict(list(official.items())[:2]))))
    return found


# --- a run ------------------------------------------------------------------------------------


def make_run(work: Path) -> Path:
    """Train a run of a dozen updates, with a stop classifier, and evaluate it; return it."""
    from latentcot.cli.evaluate import evaluate
    from latentcot.data.examples import write_examples
    from latentcot.recipes.recipe import make_recipe
    from latentcot.tasks.prosqa.generator import make_splits
    from latentcot.tasks.prosqa.options import options_named
    from latentcot.training.train import train

    options = options_named("two-family", layers=2, shared=0)
    files = {}
    for split, examples in make_splits(options, {"train": 32, "valid": 6, "test": 4}, 0).items():
        files[split] = str(work / f"{split}.jsonl")
        write_examples(files[split], examples)
    train(make_recipe({**TINY, "data": files}), work / "run", is_quiet=True)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluate(str(work / "run"), quiet=True)
    return work / "run"


def _checkpoint(run: Path) -> dict[str, bytes]:
    newest = sorted((run / "checkpoints").glob("update-*"))[-1]
    return {f"checkpoint/{file.name}": file.read_bytes() for file in sorted(newest.iterdir())}


def _breaking(files: Mapping[str, bytes], *names: str) -> Sample:
    return Sample(files, tuple((name, _form(name)) for name in names))


def _form(name: str) -> Form:
    return "json" if name.endswith(".json") else "binary"


def _infos(run: Path) -> list[Sample]:
    files, name = _checkpoint(run), "checkpoint/latentcot.json"
    newest = json.loads(files[name])
    plan = newest["plan"]
    old = ("num_stages", "thoughts_per_step", "pad_to_num_stages")
    first = {k: v for k, v in newest.items() if k not in ("plan", "stop_threshold", "max_thoughts")}
    older = [
        {**newest, "format_version": 2},
        {**first, **{key: plan[key] for key in old}, "format_version": 1},
        {**newest, "task": {"match": "regex", "pattern": "(a)"}, "method": "pause"},
    ]
    bare = {path: content for path, content in files.items() if "checksums" not in path}
    changed = [{**bare, name: json.dumps(one).encode()} for one in older]
    return [_breaking(one, name) for one in (files, *changed)]


def _checkpoint_files(run: Path) -> list[Sample]:
    files = _checkpoint(run)
    own = ("latentcot.json", "training_state.pt")
    names = [name for name in files if not name.endswith(own)]
    return [_breaking(files, name) for name in names]


def _training_states(run: Path) -> list[Sample]:
    return [_breaking(_checkpoint(run), "checkpoint/training_state.pt")]


def _best(run: Path) -> list[Sample]:
    folders = sorted(path.parent.name for path in run.glob("checkpoints/update-*/latentcot.json"))
    files = {f"run/checkpoints/{name}/latentcot.json": b"{}" for name in folders}
    files |= {f"run/checkpoints/{name}/latentcot.json": b"{}" for name in
              ("update-00000001", "update-00000002", "update-00000099")}  # fmt: skip
    pointer = (run / "checkpoints" / "best.json").read_bytes()
    return [_breaking({**files, "run/checkpoints/best.json": pointer}, "run/checkpoints/best.json")]


def _results(run: Path) -> list[Sample]:
    recipe, result = (run / "recipe.yaml").read_text(), (run / "evals/test.json").read_text()
    values = json.loads(result)
    first = {key: value for key, value in values.items() if key not in ("schema_version", "task")}
    cot = json.dumps({**values, "method": "cot"})
    pair = {"run-a/recipe.yaml": recipe, "run-b/recipe.yaml": recipe, "run-b/evals/test.json": cot}
    samples = [
        _one("run-a/evals/test.json", "json", text, pair) for text in (result, json.dumps(first))
    ]
    pair["run-a/evals/test.json"] = result
    samples.append(_one("run-a/recipe.yaml", "yaml", recipe, pair))
    study = yaml.safe_dump({"tasks": {"t": "x"}, "methods": ["cot", {"more": {}}], "seeds": [0]})
    in_study: dict[str, bytes | str] = {
        f"study/t/{method}/seed-0{ending}": text
        for method, one in (("cot", cot), ("more", result))
        for ending, text in (("/recipe.yaml", recipe), ("/evals/test.json", one))
    }
    in_study |= {"study/study.yaml": study, "study/t/more/seed-1.log": "RunError: \x1b[31mno\n"}
    forms: tuple[tuple[str, Form], ...] = (("study.yaml", "yaml"), ("t/more/seed-1.log", "text"),
                       ("t/cot/seed-0/evals/test.json", "json"))  # fmt: skip
    for name, form in forms:
        samples.append(_one(f"study/{name}", form, in_study[f"study/{name}"], in_study))
    return samples


def _run_files(run: Path) -> list[Sample]:
    files = {f"run/{name}": (run / name).read_bytes() for name in
             ("recipe.yaml", "metrics.jsonl", "provenance.json", "evals/test.json")}  # fmt: skip
    forms: dict[str, Form] = {"recipe.yaml": "yaml", "metrics.jsonl": "jsonl"}
    return [
        Sample(files, ((name, forms.get(name.removeprefix("run/"), "json")),)) for name in files
    ]
