"""Where a model's weights start."""

import torch
from torch import Tensor, nn

from backstage.corpora import SPECIAL


def vector_spread(vectors: Tensor) -> float:
    """The standard deviation of the numbers in word vectors, rows of zeros aside; 1 if none."""
    known = vectors[vectors.any(1)].double()
    if known.numel() < 2:
        return 1.0
    return float(known.std()) or 1.0


@torch.no_grad()
def fill_vectors(model, embeddings: Tensor, finetune: bool) -> float:
    """Take over the given word vectors, draw the all-zero ones, say which train.

    Returns the spread of their numbers.
    """
    learned = ~embeddings.any(1)  # (V,)
    learned[: len(SPECIAL)] = False
    spread = vector_spread(embeddings[len(SPECIAL) :])
    if model.tied and not embeddings[len(SPECIAL) :].any():
        spread = embeddings.shape[1] ** -0.5  # logits are products with them: they start small
        embeddings = embeddings * spread
    drawn = torch.randn(embeddings.shape) * spread
    model.embedding.weight.copy_(torch.where(learned[:, None], drawn, embeddings))
    learned[: len(SPECIAL)] = True
    if finetune or model.tied:
        learned[:] = True
    model.learned.copy_(learned)
    return spread


@torch.no_grad()
def initialise(model, spread: float) -> None:
    """Start where the gates feel their input: PyTorch's small weights cost some 40 steps.

    The products of input and weights have a spread of about 1, for word vectors whose numbers have
    this `spread` and for states of about 1/2. Forget gates start open (Jozefowicz et al. 2015),
    bilinear attention as dot.
    """
    if model.attention == "bilinear":
        model.W.copy_(torch.eye(len(model.W)) / len(model.W) ** 0.5)
    elif model.attention == "additive":
        for weight in (model.W, model.U, model.v):
            weight.copy_(torch.randn(weight.shape) * (weight.dim() / len(weight) ** 0.5))
    first = 2 if model.bidirectional else 1  # so many sets of weights get word vectors
    for number, (w_ih, w_hh, b_ih, b_hh) in enumerate(model.layer_weights()):
        N = w_hh.shape[1]
        gain = 1 / spread if number < first else 2
        nn.init.normal_(w_ih, std=gain / w_ih.shape[1] ** 0.5)
        nn.init.zeros_(b_ih)
        nn.init.zeros_(b_hh)
        if model.cell == "lstm":
            nn.init.ones_(b_hh[N : 2 * N])
    nn.init.zeros_(model.output.bias)
