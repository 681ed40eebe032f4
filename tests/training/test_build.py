"""What is refused before training: models and answers that would go wrong without a word."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, Gemma2Config

from latentcot.data.examples import read_examples, write_examples
from latentcot.errors import DataError, RecipeError
from latentcot.models.special_tokens import bpe_tokenizer
from latentcot.runs.checkpoint import MODULES_FILE
from latentcot.runs.checkpoint_folders import best_checkpoint
from latentcot.training.build import build
from latentcot.training.train import train


def test_a_model_that_cannot_think_is_refused(make_recipe: Any, tmp_path: Path) -> None:
    capped = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 16}
    capped |= {"num_key_value_heads": 2, "intermediate_size": 16, "vocab_size": 400}
    tokenizer = bpe_tokenizer(["a b"], 300)
    AutoModelForCausalLM.from_config(Gemma2Config(**capped)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(RecipeError, match="Gemma2ForCausalLM does not compute its logits"):
        build(make_recipe(model=str(tmp_path)))


def test_an_answer_that_does_not_come_back_is_refused(
    make_recipe: Any, data: Path, tmp_path: Path
) -> None:
    """The word tokenizer puts no blank before a comma."""
    files = {}
    for split in ("train", "valid"):
        first, *others = read_examples(data / f"{split}.jsonl")
        files[split] = str(tmp_path / f"{split}.jsonl")
        odd = replace(first, answer=f"{first.answer} , {first.answer}")
        write_examples(files[split], [odd, *others])
    with pytest.raises(DataError, match=r"'valid-0': its answer .* could never be right"):
        build(make_recipe(data=files))


def changed(data: Path, tmp_path: Path, split: str, change: Any) -> str:
    """The file of a split with other examples."""
    path = tmp_path / f"{split}.jsonl"
    write_examples(path, change(read_examples(data / f"{split}.jsonl")))
    return str(path)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_questions_that_stand_in_two_splits_are_counted_once(
    make_recipe: Any, data: Path, tmp_path: Path, split: str, capsys: Any
) -> None:
    build(make_recipe())
    assert "training data too" not in capsys.readouterr().err
    train = [replace(one, id=f"again-{one.id}") for one in read_examples(data / "train.jsonl")[:2]]
    file = changed(data, tmp_path, split, lambda examples: [*examples, *train])
    build(make_recipe(data={split: file}))
    said = capsys.readouterr().err
    count = len(read_examples(file))
    name = {"valid": "validation", "test": "test"}[split]
    assert said.count(f"Note: 2 of {count} {name} questions stand in the training data too") == 1


def test_long_examples_are_left_out_where_that_is_asked_for(
    make_recipe: Any, data: Path, tmp_path: Path, capsys: Any
) -> None:
    def lengthen(examples: Any) -> Any:
        return [replace(examples[0], question=" ".join([examples[0].question] * 12)), *examples[1:]]

    file = changed(data, tmp_path, "train", lengthen)
    count = len(read_examples(file))
    with pytest.raises(DataError, match=r"'train-0': needs .*data\.skip_long: true"):
        build(make_recipe(data={"train": file}))
    run = build(make_recipe(data={"train": file, "skip_long": True}))
    assert len(run.data.train) == count - 1
    assert f"Note: 1 of {count} training examples are too long" in capsys.readouterr().err


def test_a_script_without_blanks_is_told(
    make_recipe: Any, data: Path, tmp_path: Path, capsys: Any
) -> None:
    question = "小明有三个苹果又买了两个请问一共有几个苹果？"

    def unspaced(examples: Any) -> Any:
        return [replace(one, question=question) for one in examples]

    files = {split: changed(data, tmp_path, split, unspaced) for split in ("train", "valid")}
    build(make_recipe(data=files))
    assert "Set model.tokenizer: bpe for such a script" in capsys.readouterr().err


@pytest.mark.slow
def test_a_checkpoint_goes_on_with_what_it_learned_beside_the_model(
    make_recipe: Any, tmp_path: Path, capsys: Any
) -> None:
    """The projection of CODI was drawn anew, though the weights fit the old one."""
    codi = {"name": "codi", "num_latents": 2}
    assert train(make_recipe(codi, training={"max_updates": 2}), tmp_path / "run", is_quiet=True)
    checkpoint = best_checkpoint(tmp_path / "run")
    learned = load_file(checkpoint / MODULES_FILE)
    run = build(make_recipe(codi, model=str(checkpoint), seed=5))
    found = run.objective.learned.state_dict()
    assert all(torch.equal(found[key], one) for key, one in learned.items()) and learned
    capsys.readouterr()
    build(make_recipe(model=str(checkpoint)))
    assert "holds projection, which this method does not have" in capsys.readouterr().err
