"""Fixtures that the tests share."""

import pytest
from small import RAGGED, make_model, make_stories


@pytest.fixture(params=[None, "dot"], ids=["plain", "attention"])
def attention(request):
    """Without and with attention."""
    return request.param


@pytest.fixture
def model(attention):
    """A small float64 model, without and with attention."""
    return make_model(attention)


@pytest.fixture
def stories():
    """Six stories of very different lengths."""
    return make_stories(RAGGED, 40)
