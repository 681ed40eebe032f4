"""What a model is asked of its own forward."""

import pytest
from torch import Tensor, nn

from latentcot.models.ways import cache_name


class Before(nn.Module):
    def forward(self, inputs_embeds: Tensor, past_key_values: object = None) -> Tensor:
        return inputs_embeds


class Since(nn.Module):
    def forward(self, inputs_embeds: Tensor, cache: object = None, **more: object) -> Tensor:
        return inputs_embeds


@pytest.mark.parametrize(("kind", "name"), [(Before, "past_key_values"), (Since, "cache")])
def test_a_cache_is_handed_on_by_the_name_that_the_model_has(kind: type, name: str) -> None:
    assert cache_name(kind()) == name
