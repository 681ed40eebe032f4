"""What a recipe means where it says nothing and its model is made from scratch."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from latentcot.errors import RecipeError
from latentcot.recipes.recipe import Recipe, make_recipe, read_recipe, write_recipe
from latentcot.recipes.values import (
    RECIPES,
    command_for,
    flat,
    packaged_recipes,
    read_values,
    read_yaml,
)
from latentcot.studies.quickstart import GRAPHS, SIZES
from latentcot.utils.parsing import parse_yaml

STUDIES = Path(__file__).parents[2] / "studies"

DEFAULTS = read_yaml(RECIPES / "_from_scratch.yaml")
DATA = {"train": "train.jsonl", "valid": "valid.jsonl"}


def made(**values: Any) -> Recipe:
    return make_recipe({"data": DATA, "model": {}, **values})


def test_it_is_what_the_file_says() -> None:
    found = dict(flat(parse_yaml(write_recipe(made()))))
    assert found.items() >= dict(flat(DEFAULTS)).items()
    assert made(training={"learning_rate": 1e-3}).training.learning_rate == 1e-3
    assert made(training={"weight_decay": 0.0}, template=None).template.step_end == " ; "


def test_a_pretrained_model_has_the_defaults_of_the_paper() -> None:
    recipe = make_recipe({"data": DATA})
    assert (recipe.curriculum.advance, recipe.training.epochs) == ("epochs", 50)
    assert recipe.training.learning_rate == 1e-4


@pytest.mark.parametrize("key", ["epochs_stage_0", "epochs_per_stage"])
def test_whoever_says_epochs_gets_epochs(key: str) -> None:
    assert made(curriculum={key: 3}).curriculum.advance == "epochs"
    assert made(curriculum={key: 3, "advance": "learned"}).curriculum.advance == "learned"


def test_epochs_of_the_whole_training_are_not_cut_off() -> None:
    assert made(training={"epochs": 7}).training.max_updates is None
    assert made(training={"epochs": 7, "max_updates": 9}).training.max_updates == 9
    assert made(training={"epochs": None}).training.max_updates == 12000


def test_who_says_how_many_epochs_gets_them_all() -> None:
    assert made().curriculum.ends_when_learned
    assert not made(training={"epochs": 7}).curriculum.ends_when_learned
    assert not made(curriculum={"epochs_stage_0": 3}).curriculum.ends_when_learned


def test_the_recipe_of_a_run_is_read_as_it_was_meant() -> None:
    """What an older latentcot did not write was not at work."""
    values = yaml.safe_load(write_recipe(made()))
    for key in ("restarts", "ends_when_learned"):
        del values["curriculum"][key]
    again = make_recipe(values)
    assert (again.curriculum.restarts, again.curriculum.ends_when_learned) == (0, False)
    assert made().curriculum.restarts == 2


@pytest.mark.parametrize("name", ["learned_below", "max_updates_per_stage"])
def test_a_list_for_one_phase_is_refused(name: str) -> None:
    rules = {"num_stages": 0, "introduce_special_tokens": False, name: []}
    with pytest.raises(RecipeError, match=f"curriculum.{name}: there is one phase alone"):
        made(curriculum=rules)


def test_bpe_keeps_the_line_breaks_of_the_template() -> None:
    assert made(model={"tokenizer": "bpe"}).template.step_end == "\n"


@pytest.mark.parametrize("study", ["small", "arithmetic", "stop", "prosqa-symbolic-cpu"])
def test_comments_make_the_data_as_the_study_does(study: str) -> None:
    """What is told where they are missing; not in every recipe, but then it is the study's."""
    lines = yaml.safe_load((STUDIES / f"{study}.yaml").read_text())["data"]
    made_by = [line.split() for line in lines if not line.startswith("render")]
    for words in made_by:
        folder = words[words.index("--out") + 1]
        assert command_for(f"{folder}/train.jsonl") == " ".join(["latentcot data make", *words])


def test_the_quickstart_and_other_files() -> None:
    sizes = [part for split, size in SIZES.items() for part in (f"--{split}", str(size))]
    words = ["prosqa", "--out", "runs/quickstart/data", *GRAPHS, *sizes]
    command = command_for("runs/quickstart/data/valid.jsonl")
    assert command == " ".join(["latentcot data make", *words])
    assert command_for("data/prosqa/train.jsonl") == "latentcot data make prosqa --out data/prosqa"
    assert command_for("mine/train.jsonl") is None


FROM_SCRATCH = [
    name for name in packaged_recipes() if isinstance(read_values(name).get("model"), dict)
]


def test_some_recipes_that_come_along_are_from_scratch() -> None:
    assert FROM_SCRATCH


@pytest.mark.parametrize("name", FROM_SCRATCH)
def test_recipes_that_come_along_do_not_change_with_these_defaults(name: str) -> None:
    values = dict(flat(read_values(name)))
    assert set(values) >= set(dict(flat(DEFAULTS))), "write the key into it"
    assert read_recipe(name).training.max_updates is not None
