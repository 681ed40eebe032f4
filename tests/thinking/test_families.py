"""The table of docs/models.md: each family reads as it says, and is right by an own slow reference.

The reference knows nothing of ways: one row, no cache, no pads, no mask, everything again.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from families import tiny_family
from latentcot.curriculum.layout import Layout
from latentcot.errors import RecipeError
from latentcot.thinking.batch import collate
from latentcot.thinking.capability import choose_way
from latentcot.thinking.think import think

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
CELLS = re.findall(r"\| \d+: ([^|]*) <!-- (\w+) --> \|", PAGE.read_text(encoding="utf-8"))
WAYS = {family: way for families, way in CELLS for family in families.split(", ")}
RIGHT = [family for family, way in WAYS.items() if way != "refused"]
QUICK = ("gpt2", "mistral", "gpt_neo", "lfm2")
WORDS = (3, 4, 5)
# Windows are 8 wide, so that all but one row go beyond them.
ROWS = [
    Layout(tuple(2 + (i * i + length) % 30 for i in range(length)), thoughts, WORDS, WORDS)
    for length, thoughts in ((19, 1), (3, 3), (11, 0), (2, 2))
]


def marked(families: list[str]) -> list[Any]:
    return [
        family if family in QUICK else pytest.param(family, marks=pytest.mark.slow)
        for family in families
    ]


def alone(model: Any, row: Layout) -> tuple[torch.Tensor, torch.Tensor]:
    """States before each word and behind the last one, and thoughts, of one row."""
    backbone = model.base_model if model.base_model is not model else model.model
    embed = model.get_input_embeddings()

    def read(sequence: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = backbone(inputs_embeds=sequence, use_cache=False).last_hidden_state
        return states

    sequence = embed(torch.tensor([row.prefix]))
    for _ in range(row.num_latents):
        sequence = torch.cat([sequence, read(sequence)[:, -1:]], dim=1)
    thoughts = sequence[0, len(row.prefix) :]
    whole = torch.cat([sequence, embed(torch.tensor([row.suffix]))], dim=1)
    return read(whole)[0, sequence.shape[1] - 1 :], thoughts


def test_the_table_holds_enough() -> None:
    assert len(WAYS) >= 100 and len(RIGHT) >= 60


@pytest.mark.parametrize("family", marked(list(WAYS)))
def test_the_way_is_that_of_the_table(family: str) -> None:
    model = tiny_family(family)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    if WAYS[family] == "refused":
        with pytest.raises(RecipeError, match="^model: ") as caught:
            choose_way(model, is_trained=True)
        assert "\n" not in str(caught.value)
    else:
        assert choose_way(model, is_trained=True) == WAYS[family]
    for name, weight in model.state_dict().items():  # to the bit: it was scaled by powers of two
        assert torch.equal(weight, before[name]), name


@pytest.mark.parametrize("family", marked(RIGHT))
def test_rows_of_a_batch_give_what_they_give_alone(family: str) -> None:
    model = tiny_family(family, is_uneven=True)
    choose_way(model, is_trained=True)
    rollout = think(model, collate(ROWS))
    total = torch.zeros(())
    for i, row in enumerate(ROWS):
        states, thoughts = alone(model, row)
        for mine, theirs in (
            (rollout.states[i, : len(row.suffix) + 1], states),
            (rollout.latent_inputs[i, : row.num_latents], thoughts),
        ):
            assert (mine - theirs).norm() <= 5e-3 * theirs.norm()
        total = total + states.tanh().sum()
    ours = torch.stack(
        [rollout.states[i, : len(row.suffix) + 1].tanh().sum() for i, row in enumerate(ROWS)]
    ).sum()
    table = model.get_input_embeddings().weight
    expected, found = (torch.autograd.grad(one, table)[0] for one in (total, ours))
    assert (found - expected).norm() <= 5e-2 * expected.norm()
