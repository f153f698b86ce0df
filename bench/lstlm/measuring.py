"""What the programs of this folder share: stories, a textbook's model, turns, clock, memory."""

import sys

if __name__ == "__main__":
    print("measuring.py: error: no program; eval_speed.py uses it", file=sys.stderr)
    sys.exit(2)

import ctypes
import gc
import json
import random
import re
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import lstlm
import torch
from backstage.corpora import BOS, EOS
from backstage.errors import UserError
from torch import Tensor, nn


def read_sample(args: Namespace) -> list[list[int]]:
    """The stories of the corpus as ids, in an order of their own for each seed.

    With `-length` all are cut to that length.
    """
    token2idx, _, _ = lstlm.build_vocab_and_embeddings(
        None, args.corpus, args.VSize, edim=args.EDim
    )
    stories = lstlm.tokenize_corpus(args.corpus, token2idx)
    random.Random(args.seed).shuffle(stories)
    if args.length:
        words = [token for story in stories for token in story[1:-1]]
        cut = range(0, len(words) - args.length, args.length - 1)
        stories = [[BOS, *words[i : i + args.length - 1], EOS] for i in cut]
    if not stories:
        raise UserError(f"{args.corpus}: fewer than {args.length} tokens; give a smaller -length")
    return stories


class Textbook(nn.Module):
    """What the handout recommends and no more: frozen nn.Embedding, nn.LSTM, nn.Linear."""

    def __init__(self, embeddings: Tensor, N: int, H: int):
        super().__init__()
        V, EDim = embeddings.shape
        self.embedding = nn.Embedding.from_pretrained(embeddings)
        self.lstm = nn.LSTM(EDim, N, H)
        self.output = nn.Linear(N, V)

    @staticmethod
    def of(model: lstlm.LSTMLM) -> "Textbook":
        """One with the weights of a plain LSTMLM."""
        layers = model.lstm
        embeddings = model.embedding.weight.detach()
        textbook = Textbook(embeddings, layers.hidden_size, layers.num_layers)
        textbook.lstm.load_state_dict(layers.state_dict())
        textbook.output.load_state_dict(model.output.state_dict())
        return textbook


def take_turns(measure: Callable[[], dict], turns: bool) -> None:
    """Print the record of one measurement, or with `turns` one for each line that is read."""
    if not turns:
        print(json.dumps(measure()))
        return
    for _ in sys.stdin:
        print(json.dumps(measure()), flush=True)


def now(device: torch.device) -> float:
    """The time in seconds, when all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def start_of_memory(device: str = "cpu") -> float:
    """Memory in use now, in MiB; the peak is set to it (Linux only).

    That of what is gone is given back before.
    """
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return peak_of_memory(device)
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return peak_of_memory()


def peak_of_memory(device: str = "cpu") -> float:
    """The largest memory in use since `start_of_memory`, in MiB.

    Resident memory of the process, or what tensors take of a GPU.
    """
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024
