#!/usr/bin/env python3
"""The transformer decoder of hw4p1 in the place of lstlm.py's LSTM, to compare the two.

    python transformer.py -train -tie -H 2 -EDim 256 -N 512 ...  # 2 layers, d_model 256, d_ff 512
    python transformer.py -evaluate -test_corpus my.tokens -model my.pt

Words, minibatches, loss, optimizer, schedule, validation and measures are those of lstlm.py; the
model is hw4p1/hw4lib's: pre-norm layers (Xiong et al. 2020), sinusoidal positions, and the
embedding, times the root of d_model, tied to the output layer. -EDim is d_model, -N is d_ff.
"""

import sys
from argparse import Namespace
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "code"))
sys.path.append(str(Path(__file__).resolve().parents[3] / "hw4p1"))
from backstage.shell import importing

with importing("transformer.py"):
    import lstlm
    import torch
    from backstage.checkpoint import (
        MODEL_PARTS,
        Config,
        Loaded,
        check_config,
        check_facts,
        check_numbers,
        check_words,
        instead_of,
        shaped,
    )
    from backstage.device import choose_device, choose_precision, mixed_precision
    from backstage.errors import UserError
    from backstage.flags import make_parser, parse_flags
    from backstage.processes import leave
    from backstage.program import run_program
    from backstage.run import Run
    from backstage.sealed import check_parts, read_sealed
    from backstage.state import State
    from hw4lib.model.transformers import DecoderOnlyTransformer
    from torch import Tensor, nn

HEADS = 4
MAX_LEN = 2048  # positions that its table has; the longest of our stories has 944
ONLY = "-tie -H -N -EDim -VSize -dropout -cased"  # flags of the model that it has


class TransformerLM(nn.Module):
    """Word vectors plus positions -> H decoder layers -> logits of the V next tokens.

    `embeddings` (V, EDim) say how large the vectors are, and no more: all are drawn and trained.
    """

    KIND = "transformer"  # of its checkpoints
    bidirectional = False
    attention = None  # over an LSTM's states

    def __init__(
        self, embeddings: Tensor, N: int, H: int, attention: str | None = None,
        dropout: float = 0.0, precision: torch.dtype = torch.float32, cell: str = "lstm",
        tie: bool = False, **switches,
    ):
        super().__init__()
        V, EDim = embeddings.shape
        if not tie or attention or cell != "lstm" or any(switches.values()):
            raise UserError(f"-train: this model is tied, and has no other flags than {ONLY}")
        if EDim % HEADS:
            raise UserError(f"-EDim {EDim}: give a multiple of {HEADS}, as it has so many heads")
        self.precision = precision
        self.decoder = DecoderOnlyTransformer(
            H, EDim, HEADS, N, dropout, MAX_LEN, V, weight_tying=True
        )

    @property
    def embedding(self) -> nn.Embedding:
        """The word vectors."""
        return self.decoder.target_embedding

    @property
    def output(self) -> nn.Linear:
        """The output layer, whose weight they are too."""
        return self.decoder.final_linear

    def forward(
        self, inputs: Tensor, lengths: Tensor, targets: Tensor | None = None,
        state: State | None = None,
    ) -> Tensor:
        """Logits (B, T, V) of the token after each position of inputs (B, T), with lengths (B,).

        Given `targets` (B, T), the mean nats per target token instead. A `state` has the ids that
        the stories began with, which are computed once more; stories of it that have ended are the
        last ones. With its `last_only` there are logits (B, 1, V) of the last position alone.
        """
        ids = inputs  # (B, P + T), from the beginnings of the stories
        if state is not None and state.past is not None:
            state.keep_first(len(inputs))
            ids = torch.cat([state.past, inputs], 1)
        if state is not None:
            state.past = ids
            state.position = ids.shape[1]
        if ids.shape[1] > MAX_LEN:
            raise UserError(f"a story of {ids.shape[1]} tokens: more than {MAX_LEN}; cut it")
        with mixed_precision(self.precision, inputs.device):
            x = self.embed(ids)  # (B, P + T, EDim)
            for layer in self.decoder.dec_layers:
                x = layer.causal(x)
            features = self.decoder.norm(x[:, -inputs.shape[1] :])  # (B, T, EDim)
        if state is not None and state.last_only:
            features = features[:, -1:]
        if targets is None:
            return self.output(features.to(self.output.weight.dtype))
        return self.loss(features, lengths, targets)

    @property
    def one_step(self):
        """In the place of lstlm.py's layout of weights for generation: none, but `advance`."""
        return (self.precision, self.output.weight.device, self.output.weight._version), self

    def advance(self, tokens: Tensor, state: State) -> Tensor:
        """Logits (K, V) after the ids `tokens` (K,), which come after those of `state`."""
        state.last_only = True
        return self(tokens[:, None], torch.ones_like(tokens), state=state)[:, -1]

    def embed(self, ids: Tensor) -> Tensor:
        """What the layers get (B, T, EDim) of the ids (B, T) of stories from their beginnings."""
        return self.decoder.embed(ids)

    loss = lstlm.LSTMLM.loss  # the output layer's, fused
    cast = lstlm.LSTMLM.cast


# ---- The program --------------------------------------------------------------------------------


def train(
    args: Namespace, run_class: type[Run] = Run, model_class: type[TransformerLM] = TransformerLM
) -> None:
    """Train a transformer on `-train_corpus`, as lstlm.py does an LSTM."""
    if not args.EDim:
        raise UserError("-train: this model learns its word vectors; give -EDim")
    lstlm.train(args, partial(lstlm.new_model, model_class=model_class), run_class)


def built(
    content: dict, precision: torch.dtype = torch.float32, model_class=TransformerLM
) -> Loaded:
    """The model of a checkpoint. Raises ValueError or the like if any part cannot be right."""
    check_parts(content, MODEL_PARTS)
    check_config(content["config"])
    check_facts(content["facts"])
    check_words(content["words"], None)
    check_numbers(content["weights"])
    config = Config(**content["config"])
    words = content["words"]
    model = shaped(config, model_class, len(words), precision)
    shapes = {name: x.shape for name, x in model.state_dict().items()}
    if {name: x.shape for name, x in content["weights"].items()} != shapes:
        raise ValueError("its weights do not match its sizes")
    model.load_state_dict(content["weights"], assign=True)
    model.output.weight = model.embedding.weight  # which are two parameters now
    token2idx = {word: i for i, word in enumerate(words)}
    return Loaded(model.eval(), config, words, token2idx, content["facts"], None)


def load_model(args: Namespace, model_class=TransformerLM) -> Loaded:
    """Read the checkpoint `-model`. Raises UserError if it is none of ours, or damaged."""
    device = choose_device(args.device)
    precision = choose_precision(args.precision, device)
    missing = "no such model; train one with -train, or name one with -model"
    build = partial(built, precision=precision, model_class=model_class)
    content = read_sealed(args.model, model_class.KIND, missing, build, instead_of(args.model))
    loaded = build(content)
    loaded.model.to(device)
    return loaded


def evaluate(args: Namespace) -> None:
    """Print how well the model predicts each of `-test_corpus` (by default valid and train)."""
    lstlm.evaluate(args, load_model)


def parse_args(argv: list[str] | None = None) -> Namespace:
    """The flags of lstlm.py."""
    return parse_flags(make_parser("transformer.py", __doc__, (train, evaluate)), argv)


def main(argv: list[str] | None = None) -> int:
    """Run one of the two modes; returns the exit status."""
    return run_program("transformer.py", parse_args, argv)


if __name__ == "__main__":
    leave(main())
