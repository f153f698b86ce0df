"""Writes `snapshots/`, the numbers that `test_snapshots.py` compares the program with. Run by hand:

    PYTHONPATH=hw04/code:hw04/tests OMP_NUM_THREADS=1 \
        .venv/bin/python hw04/tests/tools/make_snapshots.py

The numbers in the repository were made by the program before it was rebuilt, and they are what the
rebuilt one must agree with: run this again only when a number is meant to change.

A file `KIND.npz` holds the initial weights of a small model of that kind and what it computes from
them, all in float64; its results in float32 and bfloat16 are compared with those, too. Gradients of
the ragged batch are stored whole. Of tensors under a name with `sketch` there is only a row of five
numbers each, which an error as large as the tolerance changes as much: the norm, and the products
with four fixed random vectors. `shipped.json` is of the trained model that comes with the program.
"""

import json
import zlib
from pathlib import Path

import adapter
import numpy as np
import torch
from small import ALL_KINDS, RAGGED, make_model, make_stories
from torch import Tensor

HW04 = Path(__file__).resolve().parents[2]
FOLDER = HW04 / "tests" / "snapshots"
MODEL = HW04 / "code" / "lm_model.pt"
CORPUS = HW04 / "data" / "sample" / "valid.tokens"
V = 40
KINDS = {
    **ALL_KINDS,
    "finetune": {"finetune": True},
    "dropout": {"dropout": 0.3},
    "locked": {"dropout": 0.3, "locked": True},
    "tied-locked": {"dropout": 0.3, "locked": True, "tie": True},
    "attention-dropout": {"dropout": 0.3, "attention": "dot"},
    "one-layer": {"H": 1},
    "one-layer-attention": {"H": 1, "attention": "dot"},
    "one-layer-tied": {"H": 1, "tie": True},
    "three-layers": {"H": 3},
    "three-layers-gru": {"H": 3, "cell": "gru"},
    "three-layers-tied": {"H": 3, "tie": True},
    "three-layers-bidirectional": {"H": 3, "bidirectional": True},
}
BATCHES = {  # words of each story
    "ragged": RAGGED,
    "single": [7],
    "short": [1, 0, 4],
    "equal": [6, 6, 6],
}
PROMPT = [1, 5, 9]
TEXTS = {  # what `adapter.continuation` is asked for, of the trained model
    "greedy-time": {"text": "once upon a time", "count": 100},
    "greedy-bird": {"text": "one day , a bird", "count": 100},
    "greedy-penalty": {"text": "one day , a bird", "count": 60, "fpenalty": 0.5},
    "sampled-1": {"text": "once upon a time", "count": 60, "seed": 1, "temperature": 0.7},
    "sampled-2": {"text": "once upon a time", "count": 60, "seed": 2, "temperature": 0.7},
    "sampled-3": {"text": "once upon a time", "count": 60, "seed": 3, "temperature": 0.7},
}


def initial_weights(kind: dict) -> dict[str, Tensor]:
    """Random weights in float32, all a little off where the program begins.

    There biases are zero and some matrices symmetric, and much that is wrong would not be seen.
    """
    weights = adapter.weights(make_model(dtype=torch.float32, **kind))
    generator = torch.Generator().manual_seed(2)
    for name, tensor in weights.items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator)
            weights[name] = tensor.detach() + 0.1 * noise
    return weights


def whole(tensor: Tensor | float | list) -> np.ndarray:
    """Numbers as an array of float64."""
    return torch.as_tensor(tensor).detach().double().numpy()


def sketch(tensors: dict[str, Tensor]) -> np.ndarray:
    """For each tensor (n, 5): its norm, and its products with four random vectors of its name."""
    rows = []
    for name, tensor in tensors.items():
        values = whole(tensor).ravel()
        vectors = np.random.RandomState(zlib.crc32(name.encode())).randn(4, len(values))
        rows.append([np.linalg.norm(values), *(vectors @ values)])
    return np.array(rows)


def measure_steps(model) -> dict[str, np.ndarray]:
    """Loss and gradients of each of the batches."""
    numbers = {}
    model.train()
    for batch, lengths in BATCHES.items():
        torch.manual_seed(3)  # of dropout
        loss = adapter.step_loss(model, make_stories(lengths, V))
        gradients = adapter.gradients(model, loss)
        numbers[f"{batch}.loss"] = whole(loss)
        if batch == "ragged":
            numbers |= {f"ragged.gradient.{name}": whole(g) for name, g in gradients.items()}
        else:
            numbers[f"{batch}.gradients.sketch"] = sketch(gradients)
    return numbers


def measure_carried(model) -> dict[str, np.ndarray]:
    """The ragged batch in segments: loss, final state, and the gradients of the last segment."""
    model.train()
    torch.manual_seed(3)
    carried = adapter.carried_loss(model, make_stories(RAGGED, V), 4)
    return {
        "carried.loss": whole(carried.loss),
        "carried.gradients.sketch": sketch(adapter.gradients(model, carried.last_loss)),
        **{f"carried.{name}": whole(tensor) for name, tensor in carried.state.items()},
    }


def measure_scores(model) -> dict[str, np.ndarray]:
    """The scores of all words at the real positions of the ragged batch."""
    return {"scores": whole(adapter.scores(model.eval(), make_stories(RAGGED, V)))}


def measure_stepped_scores(model) -> dict[str, np.ndarray]:
    """The same scores, computed one token at a time."""
    return {"scores": whole(adapter.stepped_scores(model.eval(), make_stories(RAGGED, V)))}


def measure_training(model) -> dict[str, np.ndarray]:
    """The losses of 30 random batches, and the weights after training on them."""
    lengths = torch.randint(0, 15, (30, 4), generator=torch.Generator().manual_seed(4))
    batches = [make_stories(row, V, seed) for seed, row in enumerate(lengths.tolist())]
    model.train()
    torch.manual_seed(5)
    losses = adapter.train_steps(model, batches, 5, lr=0.01, decay=0.01)
    return {"trained.losses": whole(losses), "trained.sketch": sketch(adapter.parameters(model))}


def measure_bfloat16(model) -> dict[str, np.ndarray]:
    """The loss of the ragged batch with large products in bfloat16."""
    adapter.use_bfloat16(model.train())
    torch.manual_seed(3)
    return {"bfloat16.loss": whole(adapter.step_loss(model, make_stories(RAGGED, V)))}


def measure_generation(model, with_state: bool = True) -> dict[str, np.ndarray]:
    """The ids of 20 greedy and 20 sampled tokens."""
    model.eval()
    return {
        "greedy": np.array(adapter.generate(model, PROMPT, 20, None, with_state)),
        "sampled": np.array(adapter.generate(model, PROMPT, 20, 7, with_state)),
    }


def measure_kind(kind: dict) -> dict[str, np.ndarray]:
    """All that is stored of one kind of model."""
    weights = initial_weights(kind)
    numbers = {f"initial.{name}": tensor.numpy() for name, tensor in weights.items()}
    for measure in (measure_steps, measure_carried, measure_scores, measure_training):
        numbers |= measure(adapter.build(kind, weights, torch.float64))
    numbers |= measure_bfloat16(adapter.build(kind, weights, torch.float32))
    if not kind.get("bidirectional"):
        numbers |= measure_generation(adapter.build(kind, weights, torch.float64))
    return numbers


def measure_shipped() -> dict:
    """The trained model's loss on the embedded stories, and what it writes."""
    loaded = adapter.load(MODEL)
    texts = {name: adapter.continuation(loaded, **asked) for name, asked in TEXTS.items()}
    return {"nats": adapter.corpus_loss(loaded, CORPUS), "texts": texts}


def main() -> None:
    """Write all files, over those that are there."""
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    for name, kind in KINDS.items():
        np.savez_compressed(FOLDER / f"{name}.npz", **measure_kind(kind))
    record = json.dumps(measure_shipped(), indent=1)
    (FOLDER / "shipped.json").write_text(record + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
