"""Fixtures that the tests share."""

import pytest
import torch
from small import RAGGED, make_model, make_stories

torch.set_num_threads(1)  # the tensors are tiny, and a second thread would only wait for a busy core


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
