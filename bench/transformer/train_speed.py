#!/usr/bin/env python3
"""Measure how fast hw4p1 trains: a loop, and the others that it is compared with.

    python bench/transformer/train_speed.py     # ours: the embedded stories, config.yaml's model
    python bench/transformer/train_speed.py --loop textbook
    python bench/transformer/train_speed.py --data DIR --set tokenization.token_type=1k \\
        --set model.num_layers=6 --loop gpt2

`ours` is the step of LMTrainer on the batches of run_lm.py. `textbook`: the same model, minibatches
in random order, padded to their longest sequence, in float32, attention maps from every layer, Adam
as it comes. `gpt2`: a model of the same size in the manner of nanoGPT on our batches, float32 and
AdamW, as nanoGPT has it on a CPU. Prints a JSON line, with real (not padded) target tokens per
second. Run it on a machine that does nothing else.
"""

import argparse
import contextlib
import io
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
sys.path.append(str(Path(__file__).resolve().parents[2] / "hw4p1"))
sys.path.append(str(Path(__file__).resolve().parents[2] / "hw04" / "code"))
from backstage.shell import importing

with importing("train_speed.py", "-r requirements-dev.txt"):
    import torch  # before run_lm, which would tell by its own name that it is missing

    # isort: split
    import run_lm
    from backstage.parser import positive
    from gpt2 import GPT2
    from hw4lib.config import load_config
    from hw4lib.entry import Parser, guarded
    from hw4lib.errors import UserError
    from hw4lib.model import DecoderOnlyTransformer
    from hw4lib.utils import create_optimizer, create_scheduler
    from torch import nn
    from torch.utils.data import DataLoader
    from turns import take_turns

Step = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]  # shifted, golden, lengths


def textbook(config: dict, loader: DataLoader, pad_id: int) -> tuple[Step, DataLoader]:
    """A function that trains on a batch in the plain way, and the loader that it is for."""
    model = DecoderOnlyTransformer(**config["model"]).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=config["optimizer"]["lr"])
    criterion = nn.CrossEntropyLoss(ignore_index=pad_id)

    def step(shifted, golden, lengths):
        optimizer.zero_grad()
        logits, _ = model(shifted, lengths)
        criterion(logits.flatten(0, 1), golden.flatten()).backward()
        optimizer.step()

    dataset = loader.dataset
    collate = dataset.collate_fn
    return step, DataLoader(dataset, loader.batch_size, shuffle=True, collate_fn=collate)


def gpt2(config: dict, pad_id: int) -> Step:
    """A function that trains a GPT-2 of the same size on a batch."""
    sizes = config["model"]
    names = ("num_layers", "d_model", "num_heads", "d_ff", "max_len", "num_classes")
    model = GPT2(*(sizes[name] for name in names)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["optimizer"]["lr"])

    def step(shifted, golden, lengths):
        optimizer.zero_grad()
        model(shifted, golden, pad_id).backward()
        optimizer.step()

    return step


def ours(config: dict, loader: DataLoader, tokenizer) -> tuple[Step, str]:
    """A function that trains on a batch as LMTrainer does, and its precision."""
    trainer = run_lm.make_trainer(config, tokenizer, "bench", "cpu")
    trainer.optimizer = create_optimizer(trainer.model, config["optimizer"])
    trainer.scheduler = create_scheduler(trainer.optimizer, config["scheduler"], loader)
    trainer.model.train()

    def step(shifted, golden, lengths):
        trainer._backward((shifted, golden, lengths), 1)
        trainer._update()

    return step, str(trainer.precision).removeprefix("torch.")


def rate(step: Step, batches: Iterator, steps: int) -> tuple[float, float]:
    """Target tokens per second over so many steps, and their share of all positions."""
    chosen = list(itertools.islice(batches, steps))
    start = time.perf_counter()
    for batch in chosen:
        step(*batch)
    seconds = time.perf_counter() - start
    tokens = sum(int(lengths.sum()) for _, _, lengths in chosen)
    positions = sum(shifted.numel() for shifted, _, _ in chosen)
    return tokens / seconds, tokens / positions


def forever(loader: DataLoader) -> Iterator:
    """The full batches of a loader, again and again."""
    while True:
        yield from (batch for batch in loader if len(batch[0]) == loader.batch_size)


def parse_args() -> argparse.Namespace:
    layout = argparse.RawDescriptionHelpFormatter
    parser = Parser("train_speed.py", description=__doc__, formatter_class=layout)
    add = parser.add_argument
    add("--data", metavar="DIR", help="transcripts (default: the embedded stories)")
    what = "replace a value of config.yaml (default: none)"
    add("--set", metavar="KEY=VALUE", action="append", help=what)
    add("--loop", choices=("ours", "textbook", "gpt2"), default="ours", help="(default: ours)")
    add("--steps", type=positive, default=4, help="minibatches (default: 4)")
    what = "measure once for each line that is read (default: once)"
    add("--turns", action="store_true", help=what)
    return parser.parse_args()


def prepare(args: argparse.Namespace) -> tuple[Step, Iterator, dict]:
    """A step, the batches for it, and facts about them."""
    config = load_config(settings=args.set)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        run_lm.find_data(args, config)
        tokenizer = run_lm.make_tokenizer(config)
        loader = run_lm.make_loader(config, tokenizer, "train", "cpu")
        if len(loader.dataset) < loader.batch_size:
            few = f"fewer pieces than a minibatch of {loader.batch_size} needs"
            raise UserError(f"{config['data']['root']}: {few}; give other --data")
        config["model"]["max_len"] = loader.dataset.text_max_len
        config["model"]["num_classes"] = tokenizer.vocab_size
        root = Path(config["data"]["root"])
        torch.manual_seed(0)
        precision = "float32"
        if args.loop == "textbook":
            step, loader = textbook(config, loader, tokenizer.pad_id)
        elif args.loop == "gpt2":
            step = gpt2(config, tokenizer.pad_id)
        else:
            with contextlib.chdir(folder):  # the trainer writes its folder there
                step, precision = ours(config, loader, tokenizer)
    facts = {
        "loop": args.loop, "precision": precision, "batch_size": loader.batch_size,
        "token_type": tokenizer.token_type, "data": root.name, **config["model"],
    }
    return step, forever(loader), facts


def main() -> None:
    args = parse_args()
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as run_lm.py does
    step, batches, facts = prepare(args)
    rate(step, batches, 1)  # warm-up

    def measure() -> dict:
        speed, share = rate(step, batches, args.steps)
        return {**facts, "tokens_per_s": round(speed), "not_padding": round(share, 3)}

    take_turns(measure, args.turns)


if __name__ == "__main__":
    sys.exit(guarded("train_speed.py", main))
