"""A tiny model of each architecture, for tests of thinking and of writing."""

import pytest

from reference import EACH, tiny_model


@pytest.fixture(params=EACH)
def name(request):
    return request.param


@pytest.fixture
def model(name):
    return tiny_model(name)
