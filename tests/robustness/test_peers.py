"""Conventions of transformers and of lm-evaluation-harness, tried where they apply here.

Facts of theirs, as of transformers 5.23 and of lm-evaluation-harness 0.4: batched generation is
padded on the left; a GSM8k answer is what `#### (-?[0-9.,]+)` finds, or the last number of a text,
and is compared without commas, dollars and a last dot.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from latentcot.curriculum.layout import Layout
from latentcot.data.examples import read_examples
from latentcot.tasks import same_number
from latentcot.thinking.decoding import generate
from reference import EACH, tiny_model

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k_train.jsonl"
STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
IGNORED = [",", r"\$", r"(?s).*#### ", r"\.$"]


def exact_match(predicted: str, gold: str) -> bool:
    """As the harness compares on GSM8k."""
    for pattern in IGNORED:
        predicted, gold = (re.sub(pattern, "", text).strip() for text in (predicted, gold))
    return predicted.lower() == gold.lower()


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("eos_id", [7, 39])
def test_greedy_texts_are_those_of_transformers_padded_on_the_left(name: str, eos_id: int) -> None:
    model: Any = tiny_model(name)
    prompts = [[3, 4, 5, 6, 2], [9, 1], [8, 8, 2, 4, 6, 5, 3, 1], [30]]
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(one)) + one for one in prompts])
    mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts])
    with torch.no_grad():
        theirs = model.generate(
            ids, attention_mask=mask, max_new_tokens=12, do_sample=False, eos_token_id=eos_id,
            pad_token_id=0,
        )[:, width:].tolist()  # fmt: skip
    ours = generate(
        model, [Layout(tuple(one), 0, (), ()) for one in prompts], eos_id=eos_id, max_new_tokens=12
    )
    for text, row in zip(ours, theirs, strict=True):
        assert list(text.token_ids) == (row[: row.index(eos_id)] if eos_id in row else row)


@pytest.mark.skipif(not GSM8K.exists(), reason="../shared/data/gsm8k_train.jsonl is not here")
@pytest.mark.slow
def test_answers_of_gsm8k_are_those_that_the_harness_finds() -> None:
    lines = [json.loads(line) for line in GSM8K.read_text(encoding="utf-8").splitlines()]
    examples = read_examples(GSM8K)
    assert len(examples) == len(lines) == 7_473
    for line, example in zip(lines, examples, strict=True):
        found = STRICT.search(line["answer"])
        assert found is not None and found[1] == example.answer
        # What the harness counts as right is right here.
        for said in (example.answer, f"${example.answer}", f"{example.answer}."):
            assert exact_match(said, example.answer) and same_number(said, example.answer)


@pytest.mark.parametrize(
    ("said", "gold", "harness", "here"),
    [
        ("1,018", "1018", True, True),
        ("$18", "18", True, True),
        ("18.", "18", True, True),
        ("#### 18", "18", True, True),
        ("The answer is 18", "18", False, True),  # the harness extracts before it compares
        ("18.00", "18", False, True),
        ("9/2", "4.5", False, True),
        ("-18", "18", False, False),
        ("18 or 19", "19", False, False),  # the harness's other filter takes the last number
    ],
)
def test_where_the_harness_and_match_number_differ(
    said: str, gold: str, harness: bool, here: bool
) -> None:
    assert exact_match(said, gold) is harness
    assert same_number(said, gold) is here
