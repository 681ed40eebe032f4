"""Recipes: defaults, overrides, and mistakes that all come up in one message."""

import dataclasses
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from latentcot.curriculum.layout import SpecialTokens
from latentcot.errors import RecipeError
from latentcot.models.settings import FromScratch
from latentcot.recipes.recipe import Recipe, Stop, make_recipe, read_recipe, write_recipe
from latentcot.tasks import AnswerMatch

DATA = {"train": "train.jsonl", "valid": "valid.jsonl"}
UNPADDED = {"curriculum": {"pad_to_num_stages": False}}
MINIMAL = "data: {train: train.jsonl, valid: valid.jsonl}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recipe.yaml"


def read(path: Path, text: str, *overrides: str) -> Recipe:
    path.write_text(text, encoding="utf-8")
    return read_recipe(path, overrides)


def problem(**values: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        make_recipe({"data": DATA, **values})
    return str(caught.value)


# --- defaults ---


def test_files_are_all_that_a_recipe_must_hold(path: Path) -> None:
    assert read(path, MINIMAL) == make_recipe({"data": DATA})


def test_the_defaults_are_those_of_the_paper() -> None:
    recipe = make_recipe({"data": DATA})
    training, curriculum = recipe.training, recipe.curriculum
    assert recipe.method == "coconut"
    assert recipe.model == "openai-community/gpt2"
    assert recipe.special_tokens_start_from == "<<"
    assert (training.epochs, training.batch_size, training.learning_rate) == (50, 128, 1e-4)
    assert (training.weight_decay, training.betas) == (0.01, (0.9, 0.999))
    assert training.max_grad_norm is None
    assert (training.warmup_updates, training.decay_share) == (0, 0)
    assert training.precision == "auto"
    assert curriculum.thoughts_per_step == 1
    assert curriculum.pad_to_num_stages
    assert curriculum.reset_optimizer
    assert curriculum.stage_mix_prob == 0


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_recipe({"data": DATA}).seed = 3  # type: ignore[misc]


def test_layout_rules_come_from_the_curriculum() -> None:
    curriculum = {
        "num_stages": 6,
        "thoughts_per_step": 2,
        "pad_to_num_stages": False,
        "zero_thoughts": "bot",
    }
    rules = make_recipe({"data": DATA, "curriculum": curriculum}).layout_rules(
        SpecialTokens(1, 2, 3, 4)
    )
    assert rules.special_tokens == SpecialTokens(1, 2, 3, 4)
    assert rules.zero_thoughts == curriculum.pop("zero_thoughts")
    assert {key: getattr(rules.plan, key) for key in curriculum} == curriculum


# --- a method with settings ---


def test_settings_of_a_method_are_written_out_in_full(path: Path) -> None:
    recipe = read(path, f"{MINIMAL}method: {{name: codi, num_latents: 3}}")
    assert recipe.method == {
        "name": "codi",
        "num_latents": 3,
        "teacher_weight": 1.0,
        "distillation_weight": 1.0,
        "projection": "mlp",
        "spread": "batch",
    }
    assert (recipe.method_name, recipe.bound_method.view.num_latents) == ("codi", 3)
    assert yaml.safe_load(write_recipe(recipe))["method"] == recipe.method
    assert read(path, write_recipe(recipe)) == recipe


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("{name: codi, num_latents: 0}", r"method\.num_latents: input should be .* 1, got 0"),
        ("{name: codi, num_latent: 3}", r"method\.num_latent: .*num_latents"),
        ("{name: coconut, num_latents: 3}", r"method\.num_latents: is not .*There are none"),
        ("{num_latents: 3}", "method: must be a name, or a name with settings"),
    ],
)
def test_wrong_settings_of_a_method_are_told_with_their_key(
    path: Path, method: str, words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        read(path, f"{MINIMAL}method: {method}")


# --- YAML ---


@pytest.mark.parametrize("number", ["1e-4", "1.0e-4", "0.0001", "1E-4"])
def test_yaml_reads_1e_4_as_text_but_a_recipe_reads_a_number(path: Path, number: str) -> None:
    recipe = read(path, f"{MINIMAL}training: {{learning_rate: {number}}}")
    assert recipe.training.learning_rate == 1e-4


def test_what_cannot_be_read(path: Path) -> None:
    with pytest.raises(RecipeError, match="no such recipe"):
        read_recipe(path)
    path.write_bytes(b"\xff")
    with pytest.raises(RecipeError, match="0xff"):
        read_recipe(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: [", "is not YAML: .*line 1"),
        ("- data", "must hold keys and values, got list"),
        ("3", "must hold keys and values, got int"),
        ("", "data: is missing"),
        ("data: 3", "data: .*got 3"),
        ("!!python/object:os.system {}", "is not YAML"),
    ],
)
def test_a_file_that_holds_no_recipe(path: Path, text: str, words: str) -> None:
    with pytest.raises(RecipeError, match=f"(?s){words}") as caught:
        read(path, text)
    assert str(caught.value).startswith(f"{path}: ")


# --- mistakes ---


def test_all_mistakes_come_in_one_message(path: Path) -> None:
    text = """
    data: {train: a, tests: b}
    metod: coconut
    method: cocnut
    task: prosqaa
    model: {hidden_size: 0}
    training: {learing_rate: 1.0e-4, batch_size: 0, betas: [0.9, 1.5], precision: float16}
    seed: -1
    """
    with pytest.raises(RecipeError) as caught:
        read(path, textwrap.dedent(text))
    head, *problems = str(caught.value).split("\n")
    assert head == f"{path}: 11 problems"
    assert all(problem.startswith("  - ") for problem in problems)
    assert {problem.removeprefix("  - ").partition(": ")[0] for problem in problems} == {
        "data.valid",
        "data.tests",
        "metod",
        "method",
        "task",
        "model.hidden_size",
        "training.learing_rate",
        "training.batch_size",
        "training.betas.1",
        "training.precision",
        "seed",
    }


NOT_A_KEY = "is not a key of a recipe."
OF_REGEX = "task.pattern: is for match: regex and needed there"
CLASSIFIER = {"stop": "classifier"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"metod": "cot"}, f"metod: {NOT_A_KEY} Did you mean 'method'?"),
        (
            {"training": {"learing_rate": 1}},
            f"training.learing_rate: {NOT_A_KEY} Did you mean 'learning_rate'?",
        ),
        (
            {"model": {"archtecture": "gpt2"}},
            f"model.archtecture: {NOT_A_KEY} Did you mean 'architecture'?",
        ),
        ({"template": {"qestion_end": ""}}, "Did you mean 'question_end'?"),
        ({"template": {"zzz": 1}}, "There are: question_end, step_end, answer_start."),
        ({"curriculum": {"stages": 3}}, "Did you mean 'num_stages'?"),
        ({"generation": {"max_new_token": 3}}, "Did you mean 'max_new_tokens'?"),
        ({"data": {**DATA, "tests": "x"}}, "Did you mean 'test'?"),
        ({"data": {"train": "x"}}, "data.valid: is missing."),
        ({"stride": 3}, "stride: is not a key"),
        ({"training": {"strategy": "ddp"}}, "training.strategy: is not a key"),
        ({"model": {"structure": 3}}, "model.structure: is not a key"),
        ({"method": "cocnut"}, "method: method 'cocnut' does not exist. Did you mean 'coconut'?"),
        ({"model": 3}, "model: "),
        ({"model": {"hidden_size": 0}}, "model.hidden_size: input should be greater than or "
                                        "equal to 1, got 0."),
        ({"curriculum": {"learned_below": "x"}}, "curriculum.learned_below: "),
        ({"curriculum": {"learned_below": -1}}, "curriculum.learned_below: "),
        ({"curriculum": {"learned_below": [1, "x", 2]}}, "curriculum.learned_below.1: "),
        ({"curriculum": {"max_updates_per_stage": 0}}, "curriculum.max_updates_per_stage: "),
        ({"template": {"answer_start": ""}}, "template.answer_start: "),
        ({"template": {"answer_start": " \n"}}, "template.answer_start: "),
        ({"training": {"precision": "float16"}}, "training.precision: input should be 'auto', "
                                                 "'float32' or 'bfloat16', got 'float16'."),
        ({"training": {"learning_rate": float("inf")}}, "training.learning_rate: "),
        ({"seed": 2**63}, "seed: "),  # more than torch.manual_seed takes
        ({"lora": {"rnk": 1}}, f"lora.rnk: {NOT_A_KEY} Did you mean 'rank'?"),
        ({"stop": "sometimes"}, "stop.rule: input should be 'constant' or 'classifier'"),
        ({"stop": {"rul": 1}}, f"stop.rul: {NOT_A_KEY} Did you mean 'rule'?"),
        (CLASSIFIER, "Set curriculum.pad_to_num_stages: false."),
        ({**CLASSIFIER, **UNPADDED, "method": "pause"}, "which pause does not have. Use stop"),
        ({**CLASSIFIER, **UNPADDED, "method": "cot"}, "which cot does not have. Use stop"),
        (
            {**CLASSIFIER, "curriculum": {"num_stages": 0, "pad_to_num_stages": False}},
            "Set curriculum.num_stages above 0.",
        ),
        ({"task": "prosq"}, "task: task 'prosq' does not exist. Did you mean 'prosqa'?"),
        ({"task": "gsm9k"}, "Did you mean 'gsm8k'?"),
        ({"task": {"match": "x"}}, "task.match: input should be 'exact', 'number' or 'regex'"),
        ({"task": {"pattern": "x"}}, OF_REGEX),
        ({"task": {"match": "regex"}}, OF_REGEX),
        ({"task": {"match": "regex", "pattern": "("}}, "task.pattern: is no regular expression"),
        ({"task": {"mach": "exact"}}, f"task.mach: {NOT_A_KEY} Did you mean 'match'?"),
        ({"task": 3}, "task: must be the name of a task, or how to match answers"),
    ],
)  # fmt: skip
def test_one_mistake_is_one_problem(values: dict[str, Any], words: str) -> None:
    message = problem(**values)
    assert message.startswith("recipe: ") and "problems" not in message
    assert words in message.removeprefix("recipe: ")


def test_stop_and_task_are_a_name_or_settings() -> None:
    short = make_recipe({"data": DATA, "stop": "classifier", **UNPADDED})
    assert short.stop == Stop(rule="classifier")
    long = {"rule": "classifier", "max_thoughts": 9}
    assert make_recipe({"data": DATA, "stop": long, **UNPADDED}).stop.max_thoughts == 9
    assert make_recipe({"data": DATA}).stop.rule == "constant"
    assert make_recipe({"data": DATA, "task": {"match": "number"}}).task == AnswerMatch("number")


@pytest.mark.parametrize("name", ["learned_below", "max_updates_per_stage"])
@pytest.mark.parametrize("values", [[], [1, 2], [1, 2, 3, 4]])
def test_a_list_of_stages_has_one_value_for_each_but_the_last(name: str, values: Any) -> None:
    message = problem(curriculum={"num_stages": 3, name: values})
    assert message.startswith(f"recipe: curriculum.{name}: a list needs one value for each ")
    assert message.endswith(f"but the last, that is 3, got {len(values)}.")


def test_lists_and_single_values_for_stages_are_accepted() -> None:
    for below, cap in [(0.5, None), ([1, 2, 0.5], 100), (0.5, [1, 2, 3])]:
        values = {"num_stages": 3, "learned_below": below, "max_updates_per_stage": cap}
        curriculum = make_recipe({"data": DATA, "curriculum": values}).curriculum
        assert (curriculum.learned_below, curriculum.max_updates_per_stage) == (below, cap)


def test_all_problems_between_fields_come_in_one_message() -> None:
    message = problem(
        training={"epochs": None, "batch_size": 8, "micro_batch_size": 16},
        curriculum={"learned_below": [1], "max_updates_per_stage": [1]},
    )
    assert message.startswith("recipe: 4 problems\n")
    assert "training: needs epochs or max_updates, both are empty." in message
    assert "training.micro_batch_size: must not exceed batch_size 8, got 16." in message


# --- overrides ---


def test_overrides_change_what_the_file_says(path: Path) -> None:
    recipe = read(
        path,
        f"{MINIMAL}seed: 1\ngeneration:\ntraining: {{batch_size: 4, log_every: 7}}",
        "seed=3",
        "seed=2",
        "generation.batch_size=3",
        "training.learning_rate=3e-4",
        "training.batch_size=64",
        "data.train=a=b.jsonl",
    )
    assert (recipe.seed, recipe.generation.batch_size) == (2, 3), "the last one, in an empty part"
    assert (recipe.training.learning_rate, recipe.training.batch_size) == (3e-4, 64)
    assert recipe.training.log_every == 7, "what stands beside it stays"
    assert recipe.data.train == "a=b.jsonl"


def test_overrides_take_lists_nothing_and_parts_that_the_file_lacks(path: Path) -> None:
    recipe = read(
        path,
        MINIMAL,
        "curriculum.learned_below=[1.2, 1.2, 1.2, 0.4]",
        "training.betas=[0.8, 0.95]",
        "training.epochs=null",
        "training.max_updates=10",
        "model.architecture=llama",
        'template.answer_start="[A] "',
    )
    assert recipe.curriculum.learned_below == [1.2, 1.2, 1.2, 0.4]
    assert recipe.training.betas == (0.8, 0.95)
    assert recipe.training.epochs is None
    assert recipe.model == FromScratch(architecture="llama")
    assert recipe.template.answer_start == "[A] "


@pytest.mark.parametrize(
    ("override", "words"),
    [
        *((bad, "must be KEY=VALUE, like") for bad in ("seed", "=3", " =3", "")),
        ("seed.x=3", "seed holds a value, not keys"),
    ],
)
def test_a_wrong_override(path: Path, override: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        read(path, f"{MINIMAL}seed: 1", override)
    assert str(caught.value).startswith(f"override {override!r}: ")


def test_an_override_whose_value_is_not_yaml_is_taken_as_text(path: Path) -> None:
    assert read(path, MINIMAL, "special_tokens_start_from=<<").special_tokens_start_from == "<<"
    with pytest.raises(RecipeError, match=r"seed: .* got '\[1'"):
        read(path, MINIMAL, "seed=[1")


def test_mistakes_of_file_and_overrides_come_together(path: Path) -> None:
    with pytest.raises(RecipeError, match="2 problems") as caught:
        read(path, f"{MINIMAL}seed: -1", "trainng.batch_size=3")
    assert "Did you mean 'training'?" in str(caught.value)


# --- writing ---


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"model": {"architecture": "qwen3", "dropout": 0.1}, "method": "pause"},
        {"curriculum": {"learned_below": [1, 0.5, 2], "max_updates_per_stage": [3, 4, 5]}},
        {"template": {"question_end": "\n\n", "step_end": " é ", "answer_start": "null"}},
        {"data": {"train": "1e-4", "valid": "yes", "test": "- [x]: #"}, "seed": 2**40},
        {"training": {"epochs": None, "max_updates": 1, "learning_rate": 1e-7}},
    ],
)
def test_a_written_recipe_is_read_as_the_same(path: Path, values: dict[str, Any]) -> None:
    recipe = make_recipe({"data": DATA, **values})
    assert read(path, write_recipe(recipe)) == recipe


def test_a_written_recipe_holds_every_field() -> None:
    written = yaml.safe_load(write_recipe(make_recipe({"data": DATA, "model": {}})))
    assert list(written) == [field.name for field in dataclasses.fields(Recipe)]
    assert list(written["model"]) == [field.name for field in dataclasses.fields(FromScratch)]
