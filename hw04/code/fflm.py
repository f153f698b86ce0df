#!/usr/bin/env python3
"""A feed-forward language model (Bengio et al. 2003) to compare the one of lstlm.py with.

    python fflm.py -train -lstm lm_model.pt -K 5 -H 1 -N 512  # with that model's words and vectors
    python fflm.py -evaluate -test_corpus my.tokens           # nats, perplexity, bits per character
    python fflm.py -h                                         # every flag, with its default

It sees the K tokens before the one to predict: their word vectors side by side, H hidden layers of
N ReLUs, and logits of all V tokens. Before its first token a story has K times `<bos>`, whose
vector, as those of all words, is what the LSTM language model has learned, and stays as it is.
(`<eos>` ends a story and is seen by neither, so its vector is as it was drawn, except with -tie.)
Minibatches, loss, optimizer, training loop and measures are those of lstlm.py, so that the two can
be compared.
"""

import argparse
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))  # where python -P does not look
import lstlm
import torch
from backstage.bookkeeping import Untrained
from backstage.bpe import WordPieces
from backstage.checkpoint import (
    MODEL_PARTS,
    Loaded,
    check_asked,
    check_facts,
    check_numbers,
    check_words,
    instead_of,
)
from backstage.corpora import BOS, CorpusPath
from backstage.cross_entropy import linear_cross_entropy
from backstage.defaults import DEFAULT_MODEL, describe_training
from backstage.device import choose_device
from backstage.files import check_paths, digest
from backstage.flags import MOST_LAYERS, add_modes, add_training_flags, check_training_flags
from backstage.idle import idle_notes
from backstage.parser import Parser, positive, whole
from backstage.processes import leave
from backstage.program import run_program
from backstage.run import Run
from backstage.sealed import check_parts, read_sealed
from backstage.state import State
from backstage.vocabulary import given_flags
from torch import Tensor, nn

# ---- The model ----------------------------------------------------------------------------------


class FFLM(nn.Module):
    """The vectors of the last K tokens -> H layers of N ReLUs -> logits of the V next tokens.

    `vectors` (V, EDim) are frozen.
    """

    KIND = "fflm"  # of its checkpoints
    bidirectional = False  # it looks back only, so stories may be computed in segments
    attention = None

    def __init__(self, vectors: Tensor, K: int, H: int, N: int):
        super().__init__()
        V, EDim = vectors.shape
        self.K = K
        self.embedding = nn.Embedding.from_pretrained(vectors)
        sizes = [K * EDim, *[N] * H]
        layers = []
        for below, size in pairwise(sizes):
            layers += [nn.Linear(below, size), nn.ReLU()]
        self.hidden = nn.Sequential(*layers)
        self.output = nn.Linear(N, V)
        for layer in self.hidden[::2]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(
        self, inputs: Tensor, lengths: Tensor, targets: Tensor | None = None,
        state: State | None = None,
    ) -> Tensor:
        """Logits (B, T, V) of the token after each position of inputs (B, T), with lengths (B,).

        With `targets` (B, T) the mean nats per target token instead. Padding is known from
        `lengths` alone. A `state` says what was before these inputs, and is brought forward to
        their end; the stories of it that have ended are the last ones.
        """
        past = None
        if state is not None and state.past is not None:
            state.keep_first(len(inputs))
            past = state.past
        windows = self.windows(inputs, past)  # (B, T, K)
        if state is not None:
            state.past = windows[:, -1, 1:]  # (B, K - 1)
            state.position += inputs.shape[1]
        if targets is None:
            return self.output(self.features(windows))  # (B, T, V)
        real = torch.arange(inputs.shape[1]) < lengths.cpu()[:, None]  # (B, T), no padding
        real = real.to(inputs.device)
        features = self.features(windows[real])  # (R, N)
        return linear_cross_entropy(
            features, self.output.weight, self.output.bias, targets[real]
        )

    def windows(self, inputs: Tensor, past: Tensor | None = None) -> Tensor:
        """The last K tokens (B, T, K) at each position of inputs (B, T), the latest one last.

        `past` (B, K - 1) are the tokens before.
        """
        if past is None:
            past = inputs.new_full((len(inputs), self.K - 1), BOS)
        return torch.cat([past, inputs], 1).unfold(1, self.K, 1)

    def features(self, windows: Tensor) -> Tensor:
        """What the output layer gets (..., N), of the ids (..., K) that are seen."""
        return self.hidden(self.embedding(windows).flatten(-2))


# ---- Training -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Config:
    """The hyper-parameters, named as on the command line; a checkpoint stores them."""

    EDim: int
    cased: bool
    K: int = 5
    H: int = 1
    N: int = 512


FLAGS = ["K", "H", "N"]  # that say what the model is


def new_model(args: argparse.Namespace) -> Untrained:
    """A model with the words and vectors of the LSTM model `-lstm`, other weights at random."""
    lm = lstlm.load_model(argparse.Namespace(model=args.lstm, device="cpu"))
    config = Config(lm.config.EDim, lm.config.cased, **given_flags(args, FLAGS))
    model = FFLM(lm.model.embedding.weight.detach(), config.K, config.H, config.N)
    facts = describe_training(args, torch.float32, lm.bpe)
    facts.update(lstm=str(args.lstm), lstm_digest=digest(args.lstm))
    return Untrained(model.to(choose_device(args.device)), config, lm.token2idx, facts, lm.bpe)


def train(args: argparse.Namespace, run_class: type[Run] = Run) -> None:
    """Train a model on `-train_corpus`; the best one by valid loss is kept."""
    lstlm.train(args, new_model, run_class)


# ---- Evaluation ---------------------------------------------------------------------------------


def built(content: dict) -> Loaded:
    """The model of a checkpoint. Raises ValueError or the like if any part cannot be right."""
    check_parts(content, MODEL_PARTS)
    config = Config(**content["config"])
    words = content["words"]
    weights = content["weights"]
    check_sizes(config, weights)
    check_numbers(weights)
    bpe = WordPieces(content["pieces"]) if content["pieces"] else None
    check_facts(content["facts"])
    check_words(words, bpe)
    if len(words) != len(weights["embedding.weight"]):
        raise ValueError("its words do not match its weights")
    model = FFLM(weights["embedding.weight"].float(), config.K, config.H, config.N)
    model.load_state_dict(weights)
    token2idx = {word: i for i, word in enumerate(words)}
    return Loaded(model.eval(), config, words, token2idx, content["facts"], bpe)


def check_sizes(config: Config, weights: dict[str, Tensor]) -> None:
    """Raise ValueError if these weights are not of a model of this configuration."""
    V, EDim = weights["embedding.weight"].shape
    K, H, N = config.K, config.H, config.N
    whole_numbers = all(type(size) is int and size > 0 for size in (K, H, N))
    layers = sum(name.endswith("weight") for name in weights)
    if type(config.cased) is not bool or config.EDim != EDim:
        raise ValueError("a wrong value of cased or EDim")
    if not whole_numbers or layers != H + 2 or H > MOST_LAYERS:  # before that many are made
        raise ValueError("its layers do not match its weights")
    with torch.device("meta"):  # tensors there have a shape and no numbers
        model = FFLM(torch.empty(V, EDim), K, H, N)
    shapes = {name: x.shape for name, x in model.state_dict().items()}
    if {name: x.shape for name, x in weights.items()} != shapes:
        raise ValueError("its weights do not match its sizes")


def load_model(args: argparse.Namespace) -> Loaded:
    """Read the checkpoint `-model`.

    Raises UserError if it is none of ours, damaged, or not what flags ask for.
    """
    missing = "no such model; train one with -train, or name one with -model"
    content = read_sealed(args.model, FFLM.KIND, missing, built, instead_of(args.model))
    loaded = built(content)
    check_asked(args.model, loaded.config, given_flags(args, FLAGS))
    loaded.model.to(choose_device(args.device))
    return loaded


def evaluate(args: argparse.Namespace) -> None:
    """Print how well the model predicts each of `-test_corpus` (by default valid and train)."""
    lstlm.evaluate(args, load_model)


# ---- The command line ---------------------------------------------------------------------------


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line, checked as far as it can be without looking at files."""
    parser = Parser("fflm.py", __doc__)
    add_modes(parser, (train, evaluate), required=True)
    add = parser.add_argument
    path = {"type": Path, "metavar": "PATH"}
    corpus = {"type": CorpusPath, "metavar": "PATH"}
    add("-K", type=positive, help="tokens that it sees (default 5)")
    add("-H", type=whole(1, MOST_LAYERS), help="hidden layers (default 1)")
    add("-N", type=positive, help="size of each (default 512)")
    add("-lstm", **path, default=DEFAULT_MODEL, help="a model of lstlm.py, whose words and vectors "
        "it has (default lm_model.pt)")
    add("-model", **path, default=DEFAULT_MODEL.with_name("fflm.pt"), help="to write or read "
        "(default fflm.pt)")
    add("-train_corpus", **corpus, help="(default as for lstlm.py)")
    add("-valid_corpus", **corpus, help="(default as for lstlm.py)")
    add("-test_corpus", **corpus, nargs="+", help="what -evaluate measures (default the valid and "
        "the train corpus)")
    add("-stories", choices=("auto", "line", "eos", "article"), default="auto", help="as for "
        "lstlm.py (default auto)")
    add("-json", action="store_true", help="print one JSON object a line (default text for people)")
    add("-seed", type=whole(0, 2**32), default=0, help="of all that is random (default 0)")
    add("-device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="(default auto: "
        "cuda if it is there)")
    add_training_flags(add)
    parser.set_defaults(trace=None, glove_only=False, text_file=None)  # which lstlm.py has
    args = parser.parse_args(argv)
    args.notes = idle_notes(parser, args)
    check_training_flags(args)
    corpora = [args.train_corpus, args.valid_corpus, *(args.test_corpus or [])]
    check_paths(args.model, args.trace, [args.lstm, *corpora])
    return args


def main(argv: list[str] | None = None) -> int:
    """Run one of the two modes; returns the exit status: 0, 2 for what the user can mend."""
    return run_program("fflm.py", parse_args, argv)


if __name__ == "__main__":
    leave(main())
