"""What is refused before training: models and answers that would go wrong without a word."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from latentcot.data.examples import read_examples, write_examples
from latentcot.errors import DataError, RecipeError
from latentcot.thinking.capability import check_thinks_in_batches
from latentcot.training.build import build
from reference import tiny_models

SMALL = {"vocab_size": 40, "hidden_size": 32, "bos_token_id": 1, "eos_token_id": 2}


def model_of(family: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, initializer_range=0.3, **SMALL, **settings)
    return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("model", [pytest.param(m, id=n) for n, m in dict(tiny_models()).items()])
def test_families_with_plain_attention_are_accepted(model: Any) -> None:
    check_thinks_in_batches(model.train())
    assert model.training, "the model is left in its mode"


def test_a_local_window_that_counts_pads_is_refused() -> None:
    model = model_of(
        "gpt_neo",
        num_layers=2,
        attention_types=[[["global", "local"], 1]],
        num_heads=4,
        intermediate_size=32,
        window_size=16,
        max_position_embeddings=64,
    )
    with pytest.raises(RecipeError, match="GPTNeoForCausalLM gives other results for a row in a"):
        check_thinks_in_batches(model)


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
