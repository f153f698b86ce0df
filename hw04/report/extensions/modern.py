#!/usr/bin/env python3
"""Recurrences of 2024 in the place of a transformer's attention, in the same layers.

    python modern.py -with mingru -train -tie -H 2 -EDim 256 -N 512 ...  # Feng et al. 2024
    python modern.py -with mlstm -train -tie -H 2 -EDim 256 -N 384 ...   # Beck et al. 2024

What is around them is that of transformer.py, whose flags these are: pre-norm layers with residual
connections and feed-forward networks of size N, but no positions, which a recurrence does not need.
"""

import sys
from argparse import Namespace
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[2] / name) for name in ("code", "report"))
from backstage.shell import importing

with importing("modern.py"):
    import lstlm
    import torch
    from backstage.checkpoint import Loaded
    from backstage.flags import make_parser, parse_flags
    from backstage.processes import leave
    from backstage.program import run_program
    from backstage.run import Run
    from extensions import transformer
    from extensions.transformer import HEADS, TransformerLM
    from torch import Tensor, nn
    from torch.nn import functional as F


class MinGRU(nn.Module):
    """z = sigmoid(W x), h~ = U x, h_t = (1 - z) h_(t-1) + z h~ (Feng et al. 2024, section 3.1).

    The gate does not look at the state before, so all positions are computed together. The states
    are a third wider than x, so that there are as many weights as in attention.
    """

    def __init__(self, size: int):
        super().__init__()
        inner = 4 * size // 3
        self.norm = nn.LayerNorm(size)
        self.gate = nn.Linear(size, inner)
        self.candidate = nn.Linear(size, inner)
        self.down = nn.Linear(inner, size)

    def causal(self, x: Tensor, cache=None) -> Tensor:
        """x (B, T, size) -> x plus what the recurrence makes of it (B, T, size)."""
        normed = self.norm(x)
        z = torch.sigmoid(self.gate(normed).float())  # (B, T, inner)
        return x + self.down(scan(1 - z, z * self.candidate(normed)))


def scan(a: Tensor, b: Tensor) -> Tensor:
    """h_t = a_t h_(t-1) + b_t at all T positions, h before the first being 0; (B, T, N) each.

    In log T rounds (Hillis & Steele 1986): after each, b_t is what the last 1, 2, 4, ... positions
    give to h_t, and a_t the product of their factors.
    """
    reach = 1
    while reach < b.shape[1]:
        before = (0, 0, reach, 0)  # zeros at the beginning of the stories
        b = b + a * F.pad(b[:, :-reach], before)
        a = a * F.pad(a[:, :-reach], before)
        reach *= 2
    return b


class MatrixLSTM(nn.Module):
    """The mLSTM of Beck et al. 2024 (equations 19 to 27), with HEADS matrices for a memory.

    C_t = f C_(t-1) + i v k^T and n_t = f n_(t-1) + i k, with i = exp(w x), f = sigmoid(u x); then
    h = o (C q) / max(|n q|, 1), o = sigmoid(W x). Written out, C_t is a sum over all positions s,
    each with the weight i_s f_(s+1) ... f_t. So h is computed as attention with these weights, in
    logarithms, from which each row's largest is taken; each head's (C q) / ... is normalised.
    """

    def __init__(self, size: int):
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.qkv = nn.Linear(size, 3 * size)
        self.input_gate = nn.Linear(size, HEADS)
        self.forget_gate = nn.Linear(size, HEADS)
        self.output_gate = nn.Linear(size, size)
        self.down = nn.Linear(size, size)
        nn.init.zeros_(self.input_gate.bias)
        with torch.no_grad():  # open at first, each head's as long a memory as is its own
            self.forget_gate.bias.copy_(torch.linspace(3, 6, HEADS))

    def causal(self, x: Tensor, cache=None) -> Tensor:
        """x (B, T, size) -> x plus what the memory gives to it (B, T, size)."""
        normed = self.norm(x)
        q, k, v = self.qkv(normed).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        i, f = (
            gate(normed).float().transpose(1, 2) for gate in (self.input_gate, self.forget_gate)
        )  # (B, HEADS, T)
        read = read_memory(q, k / k.shape[3] ** 0.5, v, i, F.logsigmoid(f))  # (B, HEADS, T, D)
        read = F.layer_norm(read, read.shape[3:]).transpose(1, 2).flatten(2)  # (B, T, size)
        return x + self.down(torch.sigmoid(self.output_gate(normed)) * read)


def read_memory(q: Tensor, k: Tensor, v: Tensor, log_i: Tensor, log_f: Tensor) -> Tensor:
    """(C_t q_t) / max(|n_t q_t|, 1), (B, HEADS, T, D).

    Queries, keys and values are (B, HEADS, T, D), the logarithms of the gates (B, HEADS, T).
    """
    decay = log_f.cumsum(2)
    logs = decay[..., None] - decay[..., None, :] + log_i[..., None, :]  # (B, HEADS, T, T)
    later = torch.ones(logs.shape[2:], dtype=torch.bool, device=q.device).triu(1)
    logs = logs.masked_fill(later, -torch.inf)
    largest = logs.amax(3, keepdim=True)  # (B, HEADS, T, 1)
    weights = (logs - largest).exp() * (q @ k.transpose(2, 3))
    return (weights @ v.to(weights)) / weights.sum(3, keepdim=True).abs().maximum((-largest).exp())


class Recurrent(TransformerLM):
    """The transformer with another way to look back, and no positions."""

    MIXER: type[nn.Module]  # called with the size of a word vector

    def __init__(self, embeddings: Tensor, *sizes, **switches):
        super().__init__(embeddings, *sizes, **switches)
        for layer in self.decoder.dec_layers:
            layer.self_attn = self.MIXER(embeddings.shape[1])

    def embed(self, ids: Tensor) -> Tensor:
        """The word vectors (B, T, EDim), without positions."""
        decoder = self.decoder
        return decoder.dropout(decoder.target_embedding(ids) * decoder.embedding_scale)


class MinGRULM(Recurrent):
    """A language model of minGRU layers."""

    KIND = "mingru"
    MIXER = MinGRU


class MatrixLSTMLM(Recurrent):
    """A language model of mLSTM layers."""

    KIND = "mlstm"
    MIXER = MatrixLSTM


# ---- The program --------------------------------------------------------------------------------

ADDED = {"mingru": MinGRULM, "mlstm": MatrixLSTMLM}


def train(args: Namespace, run_class: type[Run] = Run) -> None:
    """Train a model on `-train_corpus`, as lstlm.py does an LSTM."""
    transformer.train(args, run_class, ADDED[args.added])


def load_model(args: Namespace) -> Loaded:
    """Read the checkpoint `-model`. Raises UserError if it is none of ours, or damaged."""
    return transformer.load_model(args, ADDED[args.added])


def evaluate(args: Namespace) -> None:
    """Print how well the model predicts each of `-test_corpus` (by default valid and train)."""
    lstlm.evaluate(args, load_model)


def parse_args(argv: list[str] | None = None) -> Namespace:
    """The flags of lstlm.py, and as `added` the name of the recurrence."""
    parser = make_parser("modern.py", __doc__, (train, evaluate))
    parser.add_argument("-with", dest="added", choices=ADDED, required=True, help="the recurrence "
        "(no default)")
    return parse_flags(parser, argv)


def main(argv: list[str] | None = None) -> int:
    """Run one of the two modes; returns the exit status."""
    return run_program("modern.py", parse_args, argv)


if __name__ == "__main__":
    leave(main())
