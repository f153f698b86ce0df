"""Generation a token at a time: the model's layers as one product each, of weights side by side.

A token costs little more than to read the weights once, where the modules of PyTorch take a few
times as long.
"""

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

from backstage.attention import sinusoids
from backstage.products import product
from backstage.state import State


def lstm_cell(z: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One position of `nn.LSTM`, from the sums z (K, 4N) of i, f, g, o: h and c (K, N)."""
    i, f, g, o = z.chunk(4, 1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru_cell(z: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One position of `nn.GRU`, from the sums r, u, z_n of the state and x_n of the input."""
    r, u, z_n, x_n = z.chunk(4, 1)
    n = torch.tanh(x_n + torch.sigmoid(r) * z_n)
    h = torch.lerp(n, h, torch.sigmoid(u))
    return h, h


def rnn_cell(z: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One position of `nn.RNN` (Elman 1990), from the sums z (K, N)."""
    h = torch.tanh(z)
    return h, h


ONE_STEP_CELLS = {"lstm": lstm_cell, "gru": gru_cell, "rnn": rnn_cell}


class Int8Weight:
    """A weight (n, K) in a quarter of its memory: whole numbers of -127 to 127, a scale a row."""

    def __init__(self, weight: Tensor):
        self.scale = weight.abs().amax(1).clamp(min=1e-30) / 127  # (n,)
        whole = (weight / self.scale[:, None]).round().to(torch.int8)
        # The kernel takes 32 columns at a time.
        self.whole = F.pad(whole, (0, -whole.shape[1] % 32))
        # The kernel rounds its scales, so it gets none.
        self.ones = torch.ones_like(self.scale, dtype=torch.bfloat16)

    def product(self, x: Tensor, bias: Tensor) -> Tensor:
        """x (K, In) in float32, which is rounded to bfloat16, times this weight, plus bias."""
        x = F.pad(x, (0, self.whole.shape[1] - x.shape[1])).bfloat16()
        return torch.addcmul(bias, torch._weight_int8pack_mm(x, self.whole, self.ones), self.scale)


class OneStep:
    """The model one position at a time.

    With precision int8 the weights are whole numbers, and the logits of the words that then seem
    the most probable are computed again in float32.
    """

    AGAIN = 32  # such words

    def __init__(self, model):
        self.model = model
        self.cell = ONE_STEP_CELLS[model.cell]
        joined = [self.side_by_side(*weights) for weights in model.layer_weights()]
        self.layers = [self.prepared(weight, bias) for weight, bias in joined]
        self.output = self.prepared(model.output.weight, model.output.bias)

    @staticmethod
    def of(model) -> "OneStep":
        """The one of a model, made when it is first asked for and when the weights have changed."""
        weight = model.output.weight  # who changes one weight changes them all
        made_from = model.precision, weight.device, weight._version
        if model.one_step is None or model.one_step[0] != made_from:
            model.one_step = made_from, OneStep(model)
        return model.one_step[1]

    def side_by_side(self, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor):
        """The weight (S, In + N) of [x ; h] and the bias (S,) that give all sums of a cell."""
        if self.model.cell != "gru":
            return torch.cat([w_ih, w_hh], 1), b_ih + b_hh
        # The sums r, u, z_n and x_n: x gives none to z_n, and h none to x_n.
        N = w_hh.shape[1]
        w_ih = torch.cat([w_ih[: 2 * N], torch.zeros_like(w_ih[:N]), w_ih[2 * N :]])
        b_ih = torch.cat([b_ih[: 2 * N], torch.zeros_like(b_ih[:N]), b_ih[2 * N :]])
        return torch.cat([w_ih, F.pad(w_hh, (0, 0, 0, N))], 1), b_ih + F.pad(b_hh, (0, N))

    def prepared(self, weight: Tensor, bias: Tensor):
        """The function x (K, In) -> x W^T + b (K, n), with the product in the model's precision."""
        if self.model.precision == torch.int8:
            return functools.partial(Int8Weight(weight).product, bias=bias)
        low_weight = self.model.cast(weight)
        low_bias = self.model.cast(bias)
        return lambda x: product(self.model.cast(x), low_weight, low_bias).to(x.dtype)

    def advance(self, tokens: Tensor, state: State) -> Tensor:
        """The logits (K, V) after one more token (K,) of each of K stories, whose state goes on."""
        x = self.model.embedding.weight[tokens]  # (K, EDim)
        if self.model.positions:
            x = x + sinusoids(state.position, 1, x.shape[1]).to(x)
        pairs = []
        for sums, (h, c) in zip(self.layers, state.layer_states(), strict=True):
            z = sums(torch.cat([x, h], 1))  # (K, S)
            pairs.append(self.cell(z, h, c))
            x = pairs[-1][0]  # (K, N)
        state.replace_layer_states(pairs)
        state.position += 1
        if self.model.attention:
            context = self.model.attend(x[:, None], state.past)  # (K, 1, N/2)
            state.past = torch.cat([state.past, x[:, None]], 1)
            x = torch.cat([x, context[:, 0]], 1)
        logits = self.output(x)
        if self.model.precision == torch.int8:
            logits = self.corrected(logits, x)
        return logits

    def corrected(self, logits: Tensor, x: Tensor) -> Tensor:
        """The logits (K, V) with the AGAIN best ones from the features x (K, N) in float32."""
        weight = self.model.output.weight
        bias = self.model.output.bias
        best = logits.topk(min(self.AGAIN, len(bias))).indices  # (K, AGAIN)
        return logits.scatter(1, best, (weight[best] @ x[:, :, None])[:, :, 0] + bias[best])
