#!/usr/bin/env python3
"""Measure how fast hw4p1 trains, beside a plain textbook loop on the same data, in one run.

    python bench/lm_train_speed.py                                   # the embedded stories, config.yaml's model
    python bench/lm_train_speed.py --data DIR --set tokenization.token_type=1k --set model.num_layers=6

The textbook's loop: minibatches in random order, padded to their longest sequence, in float32, attention maps from
every layer, Adam as it comes. Ours is the step of LMTrainer on the batches of run_lm.py. Both train the same model from
the same weights. Prints one JSON line for each, with real (not padded) target tokens per second. The two take turns,
`--rounds` times, and the median counts. Run it on a machine that does nothing else.
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "hw4p1"))
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as run_lm.py does

import run_lm  # noqa: E402
import torch  # noqa: E402
from hw4lib.config import load_config  # noqa: E402
from hw4lib.model import DecoderOnlyTransformer  # noqa: E402
from hw4lib.utils import create_optimizer, create_scheduler  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402


def textbook(config: dict, loader: DataLoader, pad_id: int):
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
    return step, DataLoader(dataset, loader.batch_size, shuffle=True, collate_fn=dataset.collate_fn)


def ours(config: dict, loader: DataLoader, tokenizer):
    """A function that trains on a batch as LMTrainer does, and the loader that it is for."""
    trainer = run_lm.make_trainer(config, tokenizer, "bench", "cpu")
    trainer.optimizer = create_optimizer(trainer.model, config["optimizer"])
    trainer.scheduler = create_scheduler(trainer.optimizer, config["scheduler"], loader)
    trainer.model.train()

    def step(shifted, golden, lengths):
        trainer._backward(shifted, golden, lengths, 1)
        trainer._update()

    return step, loader, str(trainer.precision).removeprefix("torch.")


def rate(step, batches, steps: int) -> tuple[float, float]:
    """Target tokens per second over so many steps, and the share of all positions that is not padding."""
    chosen = list(itertools.islice(batches, steps))
    start = time.perf_counter()
    for batch in chosen:
        step(*batch)
    seconds = time.perf_counter() - start
    tokens = sum(int(lengths.sum()) for _, _, lengths in chosen)
    return tokens / seconds, tokens / sum(shifted.numel() for shifted, _, _ in chosen)


def forever(loader: DataLoader):
    while True:
        yield from (batch for batch in loader if len(batch[0]) == loader.batch_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="DIR", help="transcripts (default: the embedded stories)")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", help="replace a value of config.yaml")
    parser.add_argument("--steps", type=int, default=4, help="minibatches in a round (default: 4)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    args = parser.parse_args()
    config = load_config(settings=args.set)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        run_lm.find_data(args, config)
        tokenizer = run_lm.make_tokenizer(config)
        loader = run_lm.make_loader(config, tokenizer, "train", "cpu")
        config["model"].update(max_len=loader.dataset.text_max_len, num_classes=tokenizer.vocab_size)
        root = Path(config["data"]["root"])
        os.chdir(folder)  # the trainer writes its folder there
        torch.manual_seed(0)
        plain_step, plain_loader = textbook(config, loader, tokenizer.pad_id)
        torch.manual_seed(0)
        our_step, our_loader, precision = ours(config, loader, tokenizer)
        os.chdir("/")
    loops = {"textbook": (plain_step, forever(plain_loader)), "ours": (our_step, forever(our_loader))}
    for step, batches in loops.values():
        rate(step, batches, 1)  # warm-up
    measured = {name: [] for name in loops}
    for _ in range(args.rounds):
        for name, (step, batches) in loops.items():
            measured[name].append(rate(step, batches, args.steps))
    base = statistics.median(speed for speed, _ in measured["textbook"])
    for name, results in measured.items():
        speeds = [speed for speed, _ in results]
        print(json.dumps({
            "loop": name, "tokens_per_s": round(statistics.median(speeds)), "over_textbook":
            round(statistics.median(speeds) / base, 2), "rounds": [round(speed) for speed in speeds],
            "not_padding": round(statistics.mean(share for _, share in results), 3),
            "precision": "float32" if name == "textbook" else precision, "batch_size": loader.batch_size,
            "token_type": tokenizer.token_type, "data": root.name, **config["model"],
            "threads": torch.get_num_threads(), "torch": str(torch.__version__),
        }))


if __name__ == "__main__":
    main()
