#!/usr/bin/env python3
"""A feed-forward language model (Bengio et al. 2003) to compare the LSTM language model of lstlm.py with.

    python fflm.py -train -lstm lm_model.pt -K 5 -H 1 -N 512     # with the vocabulary and word vectors of that model
    python fflm.py -evaluate -test_corpus my.tokens              # nats, perplexity and bits per character
    python fflm.py -h                                            # every flag, with its default

It sees the K tokens before the one to predict: their word vectors side by side, H hidden layers of N ReLUs, and scores
of all V tokens. Before its first token a story has K times `<bos>`, whose vector, as those of all words, is what the
LSTM language model has learned, and stays as it is. (`<eos>` ends a story and is seen by neither, so that its vector is
as it was drawn, but with -tie.) Minibatches, loss, optimizer, training loop and measures are those of lstlm.py, so that
the two can be compared.
"""

import argparse
import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path

import lstlm
import torch
from lstlm import BOS, HW04, State, UserError, positive
from torch import Tensor, nn


class FFLM(nn.Module):
    """The vectors of the last K tokens -> H layers of N ReLUs -> scores of the V next tokens.

    `features` and `output` are for `lstlm.summed_nats` what those of `lstlm.LSTMLM` are.
    """

    KIND = "fflm"
    bidirectional = False  # `lstlm.compute_loss` asks: stories may be computed in pieces

    def __init__(self, vectors: Tensor, K: int, H: int, N: int):
        """`vectors` (V, EDim) are frozen."""
        super().__init__()
        self.K, (V, edim) = K, vectors.shape
        self.embedding = nn.Embedding.from_pretrained(vectors)
        sizes = [K * edim, *[N] * H]
        layers = ((nn.Linear(a, b), nn.ReLU()) for a, b in zip(sizes, sizes[1:], strict=False))
        self.hidden = nn.Sequential(*(module for layer in layers for module in layer))
        self.output = nn.Linear(N, V)
        for layer in self.hidden[::2]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def cast(self, x: Tensor) -> Tensor:
        """`x` in the dtype of the large products: float32."""
        return x

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Scores (B, T, V) of the next token at each position of inputs (B, T) with lengths (B,)."""
        return self.output(self.hidden(self.embedding(self.windows(inputs)).flatten(2)))

    def windows(self, inputs: Tensor, past: Tensor | None = None) -> Tensor:
        """The last K tokens (B, T, K) at each position of inputs (B, T); `past` (B, K - 1) are those before."""
        past = inputs.new_full((len(inputs), self.K - 1), BOS) if past is None else past
        return torch.cat([past, inputs], 1).unfold(1, self.K, 1)

    def features(self, inputs: Tensor, lengths: Tensor, state: State | None = None):
        """The last hidden layer (R, N) at the R real positions, their `lstlm.pack` layout, and the state at the end."""
        packing = lstlm.pack(lengths, inputs.shape[1])
        windows = self.windows(inputs, state and state.past)  # (B, T, K)
        rows = self.embedding(windows.flatten(0, 1)[packing.data.to(inputs.device)])  # (R, K, EDim)
        return self.hidden(rows.flatten(1)), packing, State((), (), windows[:, -1, 1:], 0)


@dataclass(frozen=True)
class Config:
    """The hyper-parameters, named as on the command line; a checkpoint stores them."""

    K: int
    H: int
    N: int
    EDim: int
    cased: bool


def train(args: argparse.Namespace) -> None:
    """Train a model on `-train_corpus`; the best one by valid loss is kept."""
    torch.manual_seed(args.seed)
    device = lstlm.choose_device(args.device)
    lstlm.check_writable(args.model)
    note = lstlm.fill_corpora(args)
    lm = lstlm.load_model(argparse.Namespace(model=args.lstm, device="cpu"))
    stories, valid = (lstlm.tokenize_corpus(path, lm.token2idx, args.stories, lm.config.cased, lm.pieces)
                      for path in (args.train_corpus, args.valid_corpus))
    config = Config(args.K, args.H, args.N, lm.config.EDim, lm.config.cased)
    model = FFLM(lm.model.embedding.weight.detach(), config.K, config.H, config.N).to(device)
    facts = {**lstlm.describe_training(args, torch.float32, note), "lstm": str(args.lstm),
             "lstm_digest": lstlm.digest(args.lstm)}
    run = lstlm.Run(args, model, config, lm.words, facts, lm.pieces)
    tokens = sum(len(story) - 1 for story in stories)
    count = sum(p.numel() for p in model.parameters())
    print(note or f"{len(stories):,} stories", f"{tokens:,} target tokens", f"{count:,} parameters", sep="; ")
    lstlm.optimise(run, stories, valid, tokens)


def build(content: dict) -> lstlm.Loaded:
    """The model of a checkpoint. Raises an error of some kind if any part of it cannot be right."""
    config, words, weights = Config(**content["config"]), content["words"], content["weights"]
    V, edim = weights["embedding.weight"].shape
    K, H, N = sizes = config.K, config.H, config.N
    shapes = [tuple(weight.shape) for name, weight in weights.items() if name.endswith("weight")]
    if not all(type(size) is int and size > 0 for size in (*sizes, edim)) or len(shapes) != H + 2 or shapes != [
        (V, edim), (N, K * edim), *[(N, N)] * (H - 1), (V, N)
    ]:  # before a model of these sizes is made
        raise ValueError("its weights do not match its sizes")
    if len({*words}) != V or tuple(words[:3]) != lstlm.SPECIAL or type(content["facts"]["sample"]) is not bool:
        raise ValueError("its words are no vocabulary, or its facts are none")
    model = FFLM(weights["embedding.weight"], K, H, N)
    model.load_state_dict(weights)
    pieces = lstlm.Pieces(content["pieces"]) if content["pieces"] else None
    token2idx = {word: i for i, word in enumerate(words)}
    return lstlm.Loaded(model.eval(), config, words, token2idx, content["facts"], pieces)


def load(args: argparse.Namespace) -> lstlm.Loaded:
    """Read the checkpoint `-model`. Raises UserError if it is none of ours or damaged."""
    missing = "no such model; train one with -train, or name one with -model"
    loaded = build(lstlm.read_checked(args.model, FFLM.KIND, missing, build))
    loaded.model.to(lstlm.choose_device(args.device))
    return loaded


def evaluate(args: argparse.Namespace) -> None:
    """Print how well the model predicts each corpus of `-test_corpus` (by default valid and train)."""
    loaded = load(args)
    if not args.test_corpus and (note := lstlm.fill_corpora(args, loaded.facts["sample"])):
        print(note)
    for path in args.test_corpus or [args.valid_corpus, args.train_corpus]:
        row = lstlm.score_corpus(loaded, path, args.stories, args.B)
        line = "{nats:.4f} nats, perplexity {ppl:.2f}, {bpc:.4f} bits/char, {n_tokens:,} tokens, {unk_share:.2%} <unk>"
        text = f"{line.format(**row)}, V = {len(loaded.words):,}: {path}"
        print(lstlm.to_json(row) if args.json else text, file=args.out, flush=True)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = lstlm.Parser("fflm.py", description=__doc__, allow_abbrev=False,
                          formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group(required=True)
    for function in (train, evaluate):
        mode.add_argument(f"-{function.__name__}", dest="run", action="store_const", const=function,
                          help=function.__doc__.splitlines()[0])
    add, path = parser.add_argument, {"type": Path, "metavar": "PATH"}
    add("-K", type=positive, default=5, help="tokens that it sees (default 5)")
    add("-H", type=positive, default=1, help="hidden layers (default 1)")
    add("-N", type=positive, default=512, help="size of each (default 512)")
    add("-lstm", **path, default=HW04 / "code" / "lm_model.pt", help="a model of lstlm.py, whose words and vectors "
        "it has (default lm_model.pt)")
    add("-model", **path, default=HW04 / "code" / "fflm.pt", help="to write or read (default fflm.pt)")
    add("-train_corpus", **path, help="(default as for lstlm.py)")
    add("-valid_corpus", **path, help="(default as for lstlm.py)")
    add("-test_corpus", **path, nargs="+", help="what -evaluate measures (default the valid and the train corpus)")
    add("-stories", choices=("auto", "line", "eos", "article"), default="auto", help="as for lstlm.py (default auto)")
    add("-json", action="store_true", help="print one JSON object a line (default text for people)")
    add("-seed", type=lstlm.whole(0, 2**32), default=0, help="of all that is random (default 0)")
    add("-device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="(default auto: cuda if it is there)")
    lstlm.add_training_flags(add)
    args = parser.parse_args(argv)
    lstlm.check_training(args)
    lstlm.check_paths(args.model, None, [args.lstm, args.train_corpus, args.valid_corpus, *(args.test_corpus or [])])
    args.glove_only, args.out = False, sys.stdout
    return args


def main(argv: list[str] | None = None) -> int:
    """Run one of the two modes; returns the exit status: 0, 2 for what the user can mend, 130 for Ctrl-C."""
    lstlm.set_up_memory()
    try:
        args = parse_args(argv)
        with contextlib.redirect_stdout(sys.stderr if args.json else sys.stdout):  # records alone go to args.out
            args.run(args)
        return 0
    except UserError as error:
        print(f"fflm.py: error: {lstlm.printable(str(error))}", file=sys.stderr)
        return 2
    except lstlm.Stopped as stopped:
        print("fflm.py: stopped and saved; go on with the same command and -resume", file=sys.stderr)
        return 128 + stopped.args[0]
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        print(f"fflm.py: error: {lstlm.printable(str(error))}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
