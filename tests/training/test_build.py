"""What is refused before training: models and answers that would go wrong without a word."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, Gemma2Config

from latentcot.data.examples import read_examples, write_examples
from latentcot.errors import DataError, RecipeError
from latentcot.models.special_tokens import bpe_tokenizer
from latentcot.training.build import build


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
