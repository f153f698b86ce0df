"""The program computes what it computed before it was rebuilt: the numbers in `snapshots/`.

`tools/make_snapshots.py` says what they are, and `adapter.py` how they are computed today. Most of
the trainings are marked as slow: the rest takes some 15 seconds, they take some 20 more.
"""

import json

import adapter
import numpy as np
import pytest
import torch
from tools.make_snapshots import (
    CORPUS,
    FOLDER,
    KINDS,
    MODEL,
    TEXTS,
    measure_bfloat16,
    measure_carried,
    measure_generation,
    measure_scores,
    measure_stepped_scores,
    measure_steps,
    measure_training,
)

ONE_WAY = [name for name, kind in KINDS.items() if not kind.get("bidirectional")]
DTYPES = [torch.float64, torch.float32]
QUICK = {  # the trainings that are not slow
    torch.float64: {
        "plain", "gru", "rnn", "additive", "tied-attention", "bidirectional", "tied-locked",
    },
    torch.float32: {"plain", "tied-attention"},
}
TRAININGS = [
    pytest.param(
        kind, dtype, id=f"{kind}-{dtype}", marks=[] if kind in QUICK[dtype] else [pytest.mark.slow]
    )
    for kind in KINDS for dtype in DTYPES
]


@pytest.fixture
def stored(kind) -> dict[str, np.ndarray]:
    """The numbers of one kind of model."""
    with np.load(FOLDER / f"{kind}.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.fixture
def build(kind, stored):
    """A function that makes a model of this kind with the stored weights."""
    prefix = "initial."
    weights = {
        name.removeprefix(prefix): torch.from_numpy(array)
        for name, array in stored.items() if name.startswith(prefix)
    }
    return lambda dtype: adapter.build(KINDS[kind], weights, dtype)


def compare(measured: dict[str, np.ndarray], stored: dict, relative: float, floor: float) -> None:
    """Each tensor's error is at most `relative` times its norm, or `floor` where that is more."""
    wrong = {}
    for name, values in measured.items():
        expected = stored[name]
        assert values.shape == expected.shape, name
        if name.endswith("sketch"):
            errors = np.abs(values - expected).max(1)  # (n,)
            norms = expected[:, 0]
        else:
            errors = np.linalg.norm(values - expected)
            norms = np.linalg.norm(expected)
        excess = np.max(errors / np.maximum(relative * norms, floor))
        if not excess <= 1:
            wrong[name] = f"{excess:.3g} times the tolerance"
    assert not wrong


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_are_as_before(kind, dtype, build, stored):
    tolerance = (1e-10, 1e-10) if dtype == torch.float64 else (1e-5, 1e-6)
    compare(measure_steps(build(dtype)), stored, *tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_segments_with_the_state_carried_over_are_as_before(kind, build, stored):
    compare(measure_carried(build(torch.float64)), stored, 1e-10, 1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_as_before(kind, build, stored):
    compare(measure_scores(build(torch.float64)), stored, 1e-10, 1e-10)


@pytest.mark.parametrize("kind", ONE_WAY)
def test_scores_of_one_token_at_a_time_are_the_same(kind, build, stored):
    compare(measure_stepped_scores(build(torch.float64)), stored, 1e-10, 1e-10)


@pytest.mark.parametrize(("kind", "dtype"), TRAININGS)
def test_thirty_steps_of_training_are_as_before(kind, dtype, build, stored):
    tolerance = (1e-8, 1e-8) if dtype == torch.float64 else (1e-3, 1e-6)
    compare(measure_training(build(dtype)), stored, *tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_in_bfloat16_is_as_before(kind, build, stored):
    compare(measure_bfloat16(build(torch.float32)), stored, 1e-2, 0)


@pytest.mark.parametrize("with_state", [False, True], ids=["whole", "state"])
@pytest.mark.parametrize("kind", ONE_WAY)
def test_generated_tokens_are_as_before(kind, with_state, build, stored):
    for name, ids in measure_generation(build(torch.float64), with_state).items():
        assert ids.tolist() == stored[name].tolist()


@pytest.fixture(scope="module")
def shipped():
    """The trained model that comes with the program."""
    return adapter.load(MODEL)


@pytest.fixture(scope="module")
def record() -> dict:
    """The stored results of the trained model."""
    return json.loads((FOLDER / "shipped.json").read_text(encoding="utf-8"))


def test_loss_of_the_trained_model_is_as_before(shipped, record):
    assert adapter.corpus_loss(shipped, CORPUS) == pytest.approx(record["nats"], rel=0, abs=1e-5)


@pytest.mark.parametrize("name", TEXTS)
def test_texts_of_the_trained_model_are_as_before(name, shipped, record):
    assert adapter.continuation(shipped, **TEXTS[name]) == record["texts"][name]
