"""The recipes that come with the package, held against the paper's table of hyperparameters."""

from itertools import product
from pathlib import Path

import pytest

from latentcot.errors import RecipeError
from latentcot.methods import METHODS, PAPER_METHODS, method_named
from latentcot.recipes.recipe import Recipe, read_recipe, write_recipe
from latentcot.recipes.values import packaged_recipes

TASKS = ("gsm8k", "prontoqa", "prosqa")
CELLS = [f"{task}/{method}" for task, method in product(TASKS, PAPER_METHODS)]

# arXiv 2412.06769: c, stages after stage 0, one more without text, epochs: stage 0, each, all
PAPER = {
    "gsm8k": (2, 3, True, 6, 3, 50),
    "prontoqa": (1, 6, False, 5, 5, 50),
    "prosqa": (1, 6, False, 5, 5, 50),
}


def test_there_is_a_recipe_for_each_of_the_24_cells() -> None:
    assert len(CELLS) == 24
    assert set(CELLS) <= set(packaged_recipes())


@pytest.mark.parametrize("name", packaged_recipes())
def test_every_recipe_is_valid_and_survives_being_written(name: str, tmp_path: Path) -> None:
    recipe = read_recipe(name)
    path = tmp_path / "recipe.yaml"
    path.write_text(write_recipe(recipe), encoding="utf-8")
    assert read_recipe(path) == recipe


@pytest.mark.parametrize("task", TASKS)
def test_every_method_has_a_recipe_of_its_own_name(task: str) -> None:
    for method in METHODS:
        recipe = read_recipe(f"{task}/{method}")
        assert (recipe.task, recipe.method) == (task, method)


@pytest.mark.parametrize("name", CELLS)
def test_cells_have_the_hyperparameters_of_the_paper(name: str) -> None:
    recipe = read_recipe(name)
    rules, training = recipe.curriculum, recipe.training
    c, stages, is_longer, epochs_stage_0, epochs_per_stage, epochs = PAPER[str(recipe.task)]
    assert recipe.model == "openai-community/gpt2"
    assert recipe.special_tokens_start_from == "<<"
    assert (rules.thoughts_per_step, rules.num_stages) == (c, stages)
    assert rules.final_stage_without_text == is_longer
    assert rules.epochs_per_stage == epochs_per_stage
    assert rules.epochs_stage_0 == (0.125 if recipe.method == "icot" else epochs_stage_0)
    assert (rules.stage_mix_prob, rules.reset_optimizer, rules.advance) == (0, True, "epochs")
    assert (training.epochs, training.batch_size, training.learning_rate) == (epochs, 128, 1e-4)
    assert (training.weight_decay, training.max_grad_norm) == (0.01, None)
    assert (training.warmup_updates, training.decay_share) == (0, 0)


@pytest.mark.parametrize("task", TASKS)
def test_icot_follows_its_own_paper(task: str) -> None:
    rules = read_recipe(f"{task}/icot").curriculum
    assert (rules.tokens_per_epoch, rules.removal_smoothing) == (8, 4)
    assert task != "gsm8k" or rules.tokens_until_all == 39


@pytest.mark.parametrize("name", CELLS)
def test_the_last_stage_is_reached_with_epochs_to_spare(name: str) -> None:
    from latentcot.curriculum.stages import phases_of

    recipe = read_recipe(name)
    phases = phases_of(recipe.curriculum, method_named(recipe.method))
    assert sum(phase.epochs for phase in phases[:-1]) < (recipe.training.epochs or 0)


@pytest.mark.parametrize(
    "name", ["llama-3.2-1b", "llama-3.2-3b", "llama-3-8b", "qwen3-0.6b", "llama-3.2-3b-lora"]
)
def test_larger_models_have_one_thought_a_step_and_one_epoch_a_stage(name: str) -> None:
    recipe = read_recipe(f"gsm8k/{name}")
    rules = recipe.curriculum
    assert recipe.model != "openai-community/gpt2"
    assert rules.thoughts_per_step == 1
    assert (rules.epochs_stage_0, rules.epochs_per_stage) == (3, 1)


# --- extends ---


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


BASE = "data: {train: a, valid: b}\ncurriculum: {num_stages: 5, thoughts_per_step: 2}\nseed: 3\n"


def test_a_recipe_holds_what_differs_from_the_one_that_it_extends(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", BASE)
    (tmp_path / "sub").mkdir()
    path = write(
        tmp_path, "sub/own.yaml",
        "extends: ../base.yaml\nmethod: cot\ncurriculum: {num_stages: 1}\ndata: {test: c}\n",
    )  # fmt: skip
    recipe = read_recipe(path, ["seed=4"])
    assert (recipe.method, recipe.seed, recipe.data.train, recipe.data.test) == ("cot", 4, "a", "c")
    assert (recipe.curriculum.num_stages, recipe.curriculum.thoughts_per_step) == (1, 2)
    assert isinstance(recipe, Recipe)


def test_a_model_is_replaced_by_a_name_and_not_merged_with_it(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", BASE + "model: {num_layers: 3}\n")
    path = write(tmp_path, "own.yaml", "extends: base.yaml\nmodel: some/where\n")
    assert read_recipe(path).model == "some/where"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: none.yaml\n", "none.yaml: no such recipe"),
        ("extends: [a, b]\n", r"extends: must name one recipe file, got \['a', 'b'\]"),
        ("extends: own.yaml\n", "own.yaml: extends: .*circle"),
    ],
)
def test_bad_extends(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read_recipe(write(tmp_path, "own.yaml", text))


def test_a_packaged_recipe_that_does_not_exist_gets_a_suggestion() -> None:
    with pytest.raises(RecipeError, match=r"no such recipe\. Did you mean 'gsm8k/coconut'\?"):
        read_recipe("gsm8k/cocnut")
