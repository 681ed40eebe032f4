"""The recipes that come with the package, held against the paper's table of hyperparameters."""

from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from latentcot.curriculum.stages import phases_of
from latentcot.errors import RecipeError
from latentcot.methods import METHODS, PAPER_METHODS, method_named
from latentcot.recipes.recipe import make_recipe, read_recipe, write_recipe
from latentcot.recipes.values import packaged_recipes, read_values
from latentcot.utils.display import say_once
from marks import mostly_slow

TASKS = ("gsm8k", "prontoqa", "prosqa")
CELLS = list(product(TASKS, PAPER_METHODS))

# arXiv 2412.06769: c, stages after stage 0, one more without text, epochs: stage 0, each, all
PAPER = {
    "gsm8k": (2, 3, True, 6, 3, 50),
    "prontoqa": (1, 6, False, 5, 5, 50),
    "prosqa": (1, 6, False, 5, 5, 50),
}


@pytest.mark.parametrize("name", packaged_recipes())
def test_every_recipe_is_valid_and_survives_being_written(name: str, tmp_path: Path) -> None:
    recipe = read_recipe(name)
    path = tmp_path / "recipe.yaml"
    path.write_text(write_recipe(recipe), encoding="utf-8")
    assert read_recipe(path) == recipe


@pytest.mark.parametrize(("task", "method"), CELLS)
def test_cells_have_the_hyperparameters_of_the_paper(task: str, method: str) -> None:
    recipe = read_recipe(task, [f"method={method}"])
    rules, training = recipe.curriculum, recipe.training
    c, stages, is_longer, epochs_stage_0, epochs_per_stage, epochs = PAPER[task]
    assert (recipe.task, recipe.method) == (task, method)
    assert recipe.model == "openai-community/gpt2"
    assert recipe.special_tokens_start_from == "<<"
    assert (rules.thoughts_per_step, rules.num_stages) == (c, stages)
    assert rules.final_stage_without_text == is_longer
    assert rules.epochs_per_stage == epochs_per_stage
    assert rules.epochs_stage_0 == (0.125 if method == "icot" else epochs_stage_0)
    assert (rules.stage_mix_prob, rules.reset_optimizer, rules.advance) == (0, True, "epochs")
    assert (training.epochs, training.batch_size, training.learning_rate) == (epochs, 128, 1e-4)
    assert (training.weight_decay, training.max_grad_norm) == (0.01, None)
    assert (training.warmup_updates, training.decay_share) == (0, 0)
    # the last stage is reached with epochs to spare
    phases = phases_of(rules, method_named(method).view)
    assert sum(phase.epochs for phase in phases[:-1]) < (training.epochs or 0)


@pytest.mark.parametrize(("task", "last"), [("gsm8k", 39), ("prontoqa", 128), ("prosqa", 80)])
def test_icot_follows_its_own_paper(task: str, last: int) -> None:
    rules = read_recipe(task, ["method=icot"]).curriculum
    assert (rules.tokens_per_epoch, rules.removal_smoothing) == (8, 4)
    assert rules.tokens_until_all == last


CODI = {"rank": 128, "alpha": 32, "dropout": 0.1, "weight_decay": 0.1, "max_grad_norm": 2,
        "decay_share": 0.97, "precision": "bfloat16",
        "answer_start": "The answer is: "}  # fmt: skip
GPT2 = CODI | {"epochs": 40, "learning_rate": 3e-3, "warmup_updates": 3600, "batch_size": 128}
LLAMA = CODI | {"epochs": 10, "learning_rate": 8e-4, "warmup_updates": 900, "batch_size": 128,
                "model": "meta-llama/Llama-3.2-1B-Instruct"}  # fmt: skip
COLAR = {"rank": 128, "alpha": 32, "epochs": 50, "batch_size": 256, "learning_rate": 1e-4,
         "weight_decay": 0.01, "warmup_updates": 0, "precision": "bfloat16", "rate": 2}  # fmt: skip
PCCOT = {"weight_decay": 0.01, "num_latents": 24, "iterations": 3, "answer_start": "The answer is:"}
LOTUS = {"num_stages": 6, "epochs": 30, "learning_rate": 1e-4, "max_grad_norm": 1, "iterations": 6,
         "step_weight": 0.05}  # fmt: skip
LATER = {
    ("gsm8k", "codi"): GPT2 | {"num_latents": 6, "distillation_weight": 1},
    ("gsm8k", "mux"): GPT2 | {"host": {"name": "codi", "num_latents": 6}, "cuts": "random"},
    ("gsm8k", "pccot"): GPT2 | PCCOT,
    ("gsm8k", "simcot"): {"num_stages": 5, "thoughts_per_step": 2, "epochs_per_stage": 3,
                          "epochs": 35, "learning_rate": 1e-4, "host": "coconut"},
    ("gsm8k/simcot-codi", None): GPT2 | {"name": "simcot", "host": "codi"},
    ("gsm8k", "lotus"): LOTUS | {"thoughts_per_step": 13, "precision": "float32"},
    ("gsm8k/llama-3.2-1b", "lotus"): LOTUS | {"thoughts_per_step": 25, "precision": "bfloat16"},
    ("gsm8k", "colar"): COLAR | {"targets": ("c_attn",)},
    ("gsm8k/llama-3.2-1b-lora", "colar"): COLAR | {"targets": ("q_proj", "v_proj")},
    ("gsm8k/llama-3.2-1b-lora", "codi"): LLAMA | {"distillation_weight": 20},
    ("gsm8k/llama-3.2-1b-lora", "simcot"): LLAMA | {
        "host": {"name": "codi", "distillation_weight": 20}},
    ("gsm8k/llama-3.2-1b-lora", "mux"): LLAMA | {
        "host": {"name": "codi", "num_latents": 6, "distillation_weight": 20}},
    ("gsm8k/llama-3.2-1b-lora", "pccot"): LLAMA | PCCOT | {
        "weight_decay": 0.1, "batch_size": 32, "warmup_updates": 3600, "distillation_weight": 20},
    ("gsm8k/llama-3.2-1b-lora", "kava"): LLAMA | PCCOT | {
        "weight_decay": 0.1, "distillation_weight": 10, "cache_weight": 1},
}  # fmt: skip
"""What the sources in the files say (LATER_METHODS.md, sections 1 to 7)."""


@pytest.mark.parametrize(("name", "method"), LATER)
def test_later_methods_have_the_hyperparameters_of_their_sources(
    name: str, method: str | None
) -> None:
    recipe = read_recipe(name, [f"method={method}"] if method else [])
    assert isinstance(recipe.method, dict)
    found = {"model": recipe.model, **recipe.method}
    for part in (recipe.template, recipe.curriculum, recipe.training, recipe.lora):
        found |= asdict(part) if part is not None else {}
    wanted = LATER[name, method]
    assert {key: found[key] for key in wanted} == wanted
    assert (recipe.lora is None) == (method == "lotus" or recipe.method.get("host") == "coconut")


@pytest.mark.parametrize("name", ["gsm8k/llama-3.2-1b", "gsm8k/qwen3-0.6b"])
def test_adapters_are_for_recipes_that_name_them(name: str) -> None:
    for method in METHODS:
        recipe = read_recipe(name, [f"method={method}"])
        assert (recipe.lora, recipe.training.precision) == (None, "bfloat16")


# --- extends and for_method -----------------------------------------------------------------------


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


BASE = "data: {train: a, valid: b}\nseed: 3\n"


def test_a_recipe_holds_what_differs_from_the_one_that_it_extends(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", BASE + "curriculum: {num_stages: 5, thoughts_per_step: 2}\n")
    (tmp_path / "sub").mkdir()
    path = write(
        tmp_path, "sub/mine.yaml",
        "extends: ../base.yaml\nmethod: cot\ncurriculum: {num_stages: 1}\ndata: {test: c}\n",
    )  # fmt: skip
    recipe = read_recipe(path, ["seed=4"])
    assert (recipe.method, recipe.seed, recipe.data.train, recipe.data.test) == ("cot", 4, "a", "c")
    assert (recipe.curriculum.num_stages, recipe.curriculum.thoughts_per_step) == (1, 2)


def test_a_model_is_replaced_by_a_name_and_not_merged_with_it(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", BASE + "model: {num_layers: 3}\n")
    path = write(tmp_path, "mine.yaml", "extends: base.yaml\nmodel: some/where\n")
    assert read_recipe(path).model == "some/where"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: none.yaml\n", "none.yaml: no such recipe"),
        ("extends: [a, b]\n", r"extends: must name one recipe file, got \['a', 'b'\]"),
        ("extends: mine.yaml\n", "mine.yaml: extends: .*circle"),
        ("for_method: [icot]\n", r"for_method: must hold names of methods, .*got \['icot'\]"),
        ("for_method: {icot: 3}\n", "for_method: must hold names of methods"),
        ("for_method: {icto: {}}\n", "method 'icto' does not exist. Did you mean 'icot'?"),
        ("for_method: {cot: {method: icot}}\n", "for_method.cot.method: cannot differ by method"),
        ("for_method: {cot: {method: {name: icot}}}\n", "for_method.cot.method: cannot differ"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, "mine.yaml", text)
    with pytest.raises(RecipeError, match=message) as caught:
        read_recipe(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("text", "overrides", "seed"),
    [
        ("", [], 3),  # Coconut, for which nothing differs
        ("", ["method=icot"], 10),
        ("method: icot\n", [], 10),
        ("method: {name: icot, some: 1}\n", [], 10),
        ("method: icot\n", ["method=cot"], 3),
        ("method: icot\nseed: 20\n", [], 20),  # goes before what the file that it extends says
        ("method: icot\nseed: 20\nfor_method: {icot: {seed: 21}}\n", [], 21),
        ("method: icot\nfor_method: {icot: {seed: 21}}\n", ["seed=30"], 30),
        ("for_method: {coconut: {seed: 21}}\n", [], 21),
    ],
)
def test_keys_that_differ_by_method(
    tmp_path: Path, text: str, overrides: list[str], seed: int
) -> None:
    write(tmp_path, "base.yaml", BASE + "for_method: {icot: {seed: 10}}\n")
    found = read_values(write(tmp_path, "mine.yaml", f"extends: base.yaml\n{text}"), overrides)
    assert found["seed"] == seed
    assert "for_method" not in found


@pytest.mark.parametrize(
    ("text", "overrides", "method"),
    [
        ("method: {weight: 2}\n", [], {"name": "icot", "weight": 2, "width": 1}),
        ("method: {name: cot, weight: 2}\n", [], {"name": "cot", "weight": 2}),
        ("method: cot\n", [], "cot"),
        ("", ["method=cot"], "cot"),
        ("", ["method.width=2"], {"name": "icot", "width": 2}),
        ("method: cot\n", ["method.weight=2"], {"name": "cot", "weight": 2}),
    ],
)
def test_a_method_is_a_name_or_a_name_and_settings(
    tmp_path: Path, text: str, overrides: list[str], method: Any
) -> None:
    write(tmp_path, "base.yaml", BASE + "method: {name: icot, width: 1}\n")
    path = write(tmp_path, "mine.yaml", f"extends: base.yaml\n{text}")
    assert read_values(path, overrides)["method"] == method


@pytest.mark.parametrize(
    ("text", "overrides", "method"),
    [
        ("", ["method=mux"], {"name": "mux", "cuts": "random", "decay": 0.5}),
        ("method: mux\n", [], {"name": "mux", "cuts": "random", "decay": 0.5}),
        ("method: {name: mux, decay: 1}\n", [], {"name": "mux", "cuts": "random", "decay": 1}),
        ("", ["method=mux", "method.decay=1"], {"name": "mux", "cuts": "random", "decay": 1}),
        ("for_method: {mux: {method: {decay: 0.7}}}\n", ["method=mux"],
         {"name": "mux", "cuts": "random", "decay": 0.7}),
        ("", ["method=cot"], "cot"),
    ],
)  # fmt: skip
def test_settings_that_a_method_has_where_nobody_says_others(
    tmp_path: Path, text: str, overrides: list[str], method: Any
) -> None:
    settings = "for_method: {mux: {method: {cuts: random, decay: 0.5}}}\n"
    write(tmp_path, "base.yaml", BASE + settings)
    path = write(tmp_path, "mine.yaml", f"extends: base.yaml\n{text}")
    assert read_values(path, overrides)["method"] == method


# --- names that recipes had -----------------------------------------------------------------------


@pytest.mark.parametrize("task", [*TASKS, "prosqa-symbolic"])
@pytest.mark.parametrize("method", mostly_slow(METHODS, "cot", "icot", "coconut"))
def test_the_old_name_of_a_cell_is_understood(
    task: str, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    say_once.cache_clear()
    assert read_recipe(f"{task}/{method}") == read_recipe(task, [f"method={method}"])
    assert read_recipe(f"{task}/{method}", ["method=cot"]) == read_recipe(task, ["method=cot"])
    assert capsys.readouterr().err.count("\n") == 1, "it is said, and once"


def test_a_recipe_that_does_not_exist_gets_a_suggestion() -> None:
    for name, suggestion in [("gsm8k/cocnut", "gsm8k/coconut"), ("gsm9k", "gsm8k")]:
        with pytest.raises(RecipeError, match=f"no such recipe. Did you mean '{suggestion}'"):
            read_recipe(name)


OLD, NEW = "markers_start_from", "special_tokens_start_from"


def test_old_names_of_keys_are_read_wherever_they_stand(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", BASE + f"{NEW}: a\ncurriculum: {{introduce_special_tokens: true}}")
    path = write(tmp_path, "mine.yaml",
                 f"extends: base.yaml\n{OLD}: b\nfor_method: {{cot: {{{OLD}: c}}}}\n"
                 "curriculum: {introduce_markers: false}\n")  # fmt: skip
    recipe = read_recipe(path)
    assert (recipe.special_tokens_start_from, recipe.curriculum.introduce_special_tokens) == (
        "b",
        False,
    )
    assert read_recipe(path, ["method=cot"]).special_tokens_start_from == "c"
    recipe = read_recipe(path, [f"{OLD}=d", "curriculum.introduce_markers=true"])
    assert recipe.special_tokens_start_from == "d"
    assert recipe.curriculum.introduce_special_tokens
    with pytest.raises(RecipeError, match=f"mine.yaml: {OLD}: is called {NEW} now, and both"):
        read_recipe(write(tmp_path, "mine.yaml", f"{BASE}{OLD}: a\n{NEW}: a\n"))
    data = {"train": "a", "valid": "b"}
    assert make_recipe({"data": data, OLD: "e"}).special_tokens_start_from == "e"
