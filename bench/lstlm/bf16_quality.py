#!/usr/bin/env python3
"""Does training in bfloat16 reach the valid perplexity of float32? Works without bfloat16 units.

    python bench/lstlm/bf16_quality.py TRAIN VALID [-stories 3000] [any flags of lstlm.py -train]

Trains the same model twice (the flags may be any but -precision and -model), for an epoch unless
`-E` says otherwise. Where the CPU multiplies bfloat16 in hardware the second training uses it.
Elsewhere, or with `-emulate`, its products are computed in float32 from numbers that are rounded to
bfloat16, and their results are rounded to bfloat16: what such hardware does, which adds up in
float32, but for the order of its sums. That is slow, position by position. Prints one JSON line:
both valid perplexities, the ratio, and whether it was hardware.
"""

import argparse
import functools
import json
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
sys.path.append(str(Path(__file__).resolve().parents[2] / "hw04" / "code"))
from backstage.shell import guarded, importing

with importing("bf16_quality.py"):
    import lstlm
    import torch
    from backstage.corpora import read_text
    from backstage.device import choose_precision
    from backstage.dropped_rnn import DroppedLSTM
    from backstage.files import side_file
    from backstage.measures import safe_exp
    from backstage.one_step import lstm_cell
    from backstage.parser import Parser, positive
    from backstage.program import run_program
    from torch import Tensor
    from torch.nn import functional as F


def rounded(x: Tensor) -> Tensor:
    """`x` in float32, rounded to bfloat16 as its gradient is."""
    return x.bfloat16().float()


class RoundedLSTM(DroppedLSTM):
    """An LSTM with products of rounded numbers and float32 cells."""

    def run(self, run: Tensor, states: list[Tensor], weights: list[Tensor]) -> tuple[Tensor, ...]:
        """One layer over a run (n, b, I), states (1, b, N) -> output (n, b, N), final states."""
        w_ih, w_hh, b_ih, b_hh = (rounded(weight) for weight in weights)
        h, c = (state[0] for state in states)  # (b, N)
        outputs = []
        for x in rounded(run):  # (b, I)
            z = F.linear(x, w_ih, b_ih) + F.linear(rounded(h), w_hh, b_hh)  # (b, 4N)
            h, c = lstm_cell(z, h, c)
            h = rounded(h)
            outputs.append(h)
        return torch.stack(outputs), h[None], c[None]


class RoundedLSTMLM(lstlm.LSTMLM):
    """A model in float32 with such layers, and an output layer of that kind."""

    RNN_CLASSES = {**lstlm.LSTMLM.RNN_CLASSES, "lstm": RoundedLSTM}

    def loss(self, features: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        """The mean nats per target token of features (B, T, N) against targets (B, T)."""
        weight = rounded(self.output.weight)
        logits = rounded(F.linear(rounded(features), weight, rounded(self.output.bias)))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


def valid_nats(flags: list[str], precision: str, model: Path, model_class=lstlm.LSTMLM) -> float:
    """The best valid loss of a training."""

    def train(args: argparse.Namespace) -> None:
        """Train this class of model."""
        lstlm.train(args, functools.partial(lstlm.new_model, model_class=model_class))

    parse = functools.partial(lstlm.parse_args, modes=(train,))
    flags = ["-train", "-precision", precision, "-model", str(model), *flags]
    status = run_program("lstlm.py", parse, flags)
    if status:
        raise SystemExit(status)
    lines = side_file(model, ".log.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return min(record["valid_nats"] for record in records if record.get("mode") == "train")


def main() -> None:
    parser = Parser("bf16_quality.py", __doc__)
    add = parser.add_argument
    add("train", type=Path, help="tokenised text, one story a line")
    add("valid", type=Path, help="the same, to measure on")
    add("-stories", type=positive, default=3000, help="the first so many of TRAIN (default 3000)")
    add("-emulate", action="store_true", help="use no bfloat16 hardware (default: if it is there)")
    args, flags = parser.parse_known_args()
    hardware = choose_precision("auto", torch.device("cpu")) == torch.bfloat16 and not args.emulate
    if not hardware and "-cell" in flags:
        parser.error("-cell: only an LSTM is computed without bfloat16 units; leave it out")
    with tempfile.TemporaryDirectory() as folder:
        train = Path(folder) / "train.tokens"
        lines = read_text(args.train).split("\n")
        train.write_text("\n".join(lines[: args.stories]), encoding="utf-8")
        corpora = ["-train_corpus", str(train), "-valid_corpus", str(args.valid)]
        all_flags = [*corpora, "-E", "1", *flags]
        exact = valid_nats(all_flags, "fp32", Path(folder) / "fp32.pt")
        low_model = Path(folder) / "bf16.pt"
        if hardware:
            low = valid_nats(all_flags, "bf16", low_model)
        else:
            low = valid_nats(all_flags, "fp32", low_model, RoundedLSTMLM)
    ppl = {"fp32": round(safe_exp(exact), 4), "bf16": round(safe_exp(low), 4)}
    print(json.dumps({
        "valid_ppl": ppl, "ratio": round(ppl["bf16"] / ppl["fp32"], 4), "hardware": hardware,
        "stories": args.stories, "flags": flags, "torch": torch.__version__,
    }))


if __name__ == "__main__":
    sys.exit(guarded("bf16_quality.py", main))
