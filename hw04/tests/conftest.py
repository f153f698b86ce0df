"""Fixtures that the tests share."""

import hypothesis
import pytest
import torch
from small import KINDS, RAGGED, make_model, make_stories

# The same examples in each run, and no failure because a machine is busy.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.load_profile("steady")
torch.set_num_threads(1)  # the tensors are tiny, and a second thread would only wait for a busy core


@pytest.fixture(params=[None, "dot"], ids=["plain", "attention"])
def attention(request):
    """Without and with attention."""
    return request.param


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def model(request):
    """A small float64 model of each kind."""
    return make_model(**request.param)


@pytest.fixture
def stories():
    """Six stories of very different lengths."""
    return make_stories(RAGGED, 40)
