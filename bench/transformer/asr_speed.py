#!/usr/bin/env python3
"""Measure how fast hw4p1 trains a speech recogniser: a loop, and one that it is compared with.

    python bench/transformer/asr_speed.py     # ours: synthetic speech, asr_config.yaml's model
    python bench/transformer/asr_speed.py --loop textbook
    python bench/transformer/asr_speed.py --config hw4p1/results/speech.yaml --data DIR

`ours` is the step of ASRTrainer on the batches of run_asr.py. `textbook`: the same model, with
nn.LSTM where it has LSTMs, minibatches in random order, padded to their longest utterance and
transcript, in float32, attention maps from every layer, Adam as it comes. Both have cross-entropy
and CTC. Prints a JSON line, with the seconds of speech (not of padding) that a second trains on.
Run it on a machine that does nothing else.
"""

import argparse
import contextlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
sys.path.append(str(Path(__file__).resolve().parents[2] / "hw4p1"))
sys.path.append(str(Path(__file__).resolve().parents[2] / "hw04" / "code"))
from backstage.shell import importing
from hw4lib.entry import SPIN

if "textbook" not in sys.argv:  # as `run_asr.py train` does
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN)

with importing("asr_speed.py", "-r requirements-dev.txt"):
    import torch
    from backstage.parser import positive
    from hw4lib.asr_schema import ASR
    from hw4lib.config import load_config
    from hw4lib.data.asr_dataset import Batch
    from hw4lib.entry import Parser, guarded
    from hw4lib.errors import UserError
    from hw4lib.model import EncoderDecoderTransformer
    from hw4lib.preparation import equip, make_tokenizer
    from hw4lib.speech_loaders import find_data, make_loader
    from hw4lib.trainers import ASRTrainer
    from torch import nn
    from torch.utils.data import DataLoader
    from turns import take_turns

FRAMES = 125  # a second
Step = Callable[[Batch], None]


def textbook(config: dict, loader: DataLoader, pad_id: int) -> tuple[Step, DataLoader]:
    """A function that trains on a batch in the plain way, and the loader that it is for."""
    model = EncoderDecoderTransformer(**config["model"]).train()
    with_plain_lstms(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["optimizer"]["lr"])
    cross_entropy = nn.CrossEntropyLoss(ignore_index=pad_id)
    ctc_loss = nn.CTCLoss(blank=pad_id, zero_infinity=True)

    def step(batch):
        feats, shifted, golden, feat_lengths, lengths = batch
        optimizer.zero_grad()
        logits, _, ctc = model(feats, shifted, feat_lengths, lengths)
        by_ctc = ctc_loss(ctc["log_probs"], golden, ctc["lengths"], lengths)
        loss = cross_entropy(logits.flatten(0, 1), golden.flatten())
        (loss + config["loss"]["ctc_weight"] * by_ctc).backward()
        optimizer.step()

    dataset = loader.dataset
    collate = dataset.collate_fn
    return step, DataLoader(dataset, loader.batch_size, shuffle=True, collate_fn=collate)


def with_plain_lstms(model: nn.Module) -> None:
    """Let PyTorch's own LSTMs stand where ours do, with the same weights."""
    part = model.source_embedding.blstm
    for name in ("blstm1", "blstm2") if part else ():
        ours = getattr(part, name)
        plain = nn.LSTM(ours.input_size, ours.hidden_size, batch_first=True, bidirectional=True)
        plain.load_state_dict(ours.state_dict())
        setattr(part, name, plain)


def ours(config: dict, loader: DataLoader, tokenizer) -> tuple[Step, str]:
    """A function that trains on a batch as ASRTrainer does, and its precision."""
    model = EncoderDecoderTransformer(**config["model"])
    trainer = ASRTrainer(model, tokenizer, config, "bench", None, "cpu")
    equip(trainer, loader)
    trainer.model.train()

    def step(batch):
        trainer._backward(batch, 1)
        trainer._update()

    return step, str(trainer.precision).removeprefix("torch.")


def rate(step: Step, batches: Iterator, steps: int) -> tuple[float, float]:
    """Seconds of speech per second over so many steps, and the frames' share of all positions."""
    chosen = list(itertools.islice(batches, steps))
    start = time.perf_counter()
    for batch in chosen:
        step(batch)
    seconds = time.perf_counter() - start
    frames = sum(int(feat_lengths.sum()) for _, _, _, feat_lengths, _ in chosen)
    positions = sum(feats.shape[0] * feats.shape[1] for feats, *_ in chosen)
    return frames / FRAMES / seconds, frames / positions


def forever(loader: DataLoader) -> Iterator:
    """The full batches of a loader, again and again."""
    while True:
        yield from (batch for batch in loader if len(batch[0]) == loader.batch_size)


def parse_args() -> argparse.Namespace:
    layout = argparse.RawDescriptionHelpFormatter
    parser = Parser("asr_speed.py", description=__doc__, formatter_class=layout)
    add = parser.add_argument
    add("--data", metavar="DIR", help="utterances (default: synthetic speech)")
    what = "a configuration (default: hw4p1/asr_config.yaml)"
    add("--config", type=Path, metavar="FILE", default=ASR.shipped, help=what)
    what = "replace a value of the configuration (default: none)"
    add("--set", metavar="KEY=VALUE", action="append", help=what)
    add("--loop", choices=("ours", "textbook"), default="ours", help="(default: ours)")
    add("--steps", type=positive, default=4, help="minibatches (default: 4)")
    what = "measure once for each line that is read (default: once)"
    add("--turns", action="store_true", help=what)
    return parser.parse_args()


def prepare(args: argparse.Namespace) -> tuple[Step, Iterator, dict]:
    """A step, the batches for it, and facts about them."""
    config = load_config(args.config, args.set, schema=ASR)
    precision = "float32"
    with contextlib.redirect_stdout(sys.stderr):  # what is printed is the record alone
        find_data(args.data, config)
        tokenizer = make_tokenizer(config)
        loader = make_loader(config, tokenizer, "train", "cpu")
        dataset = loader.dataset
        if len(dataset) < loader.batch_size:
            few = f"fewer utterances than a minibatch of {loader.batch_size} needs"
            raise UserError(f"{config['data']['root']}: {few}; give other --data")
        config["model"]["max_len"] = max(dataset.feat_max_len, dataset.text_max_len + 1)
        config["model"]["num_classes"] = tokenizer.vocab_size
        torch.manual_seed(0)
        if args.loop == "textbook":
            step, loader = textbook(config, loader, tokenizer.pad_id)
        else:
            step, precision = ours(config, loader, tokenizer)
    facts = {
        "loop": args.loop, "precision": precision, "batch_size": loader.batch_size,
        "token_type": tokenizer.token_type, "data": Path(config["data"]["root"]).name,
        **config["model"],
    }
    return step, forever(loader), facts


def main() -> None:
    args = parse_args()
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as run_asr.py does
    step, batches, facts = prepare(args)
    rate(step, batches, 1)  # warm-up

    def measure() -> dict:
        speed, share = rate(step, batches, args.steps)
        return {**facts, "speech_per_s": round(speed, 2), "not_padding": round(share, 3)}

    take_turns(measure, args.turns)


if __name__ == "__main__":
    sys.exit(guarded("asr_speed.py", main))
