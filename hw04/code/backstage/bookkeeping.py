"""What a training knows of how it goes, shows and logs, and the best model so far."""

import contextlib
import math
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from torch import nn
from tqdm import tqdm

from backstage.bpe import WordPieces
from backstage.checkpoint import save_model
from backstage.files import digest_if_there, side_file, to_json
from backstage.measures import draw_curve, safe_exp
from backstage.processes import rank_and_world_size, sum_over_processes


class Untrained(NamedTuple):
    """A model to be trained, with what its checkpoints will hold."""

    model: nn.Module
    config: object  # a dataclass
    token2idx: dict[str, int]
    facts: dict  # how it is trained
    bpe: WordPieces | None
    names: Sequence[str] = ()  # words that are written with a capital


class Bookkeeping:
    """The figures of a training, its log and its best model."""

    # What changes, and so is what a state file holds beside weights, moments and the random state.
    # `done` minibatches of this epoch, `seen` tokens in all; `nats` of `tokens` in so many
    # `seconds` since the last report, and all seconds `before` that; the size of the log; skipped
    # steps; the segments (`part`) that are done of a minibatch that is not; the step of the last
    # report.
    NUMBERS = (
        "epoch", "done", "step", "seen", "nats", "tokens", "seconds", "before", "best",
        "best_epoch", "records", "logged", "skipped", "in_a_row", "part", "reported",
    )

    def __init__(
        self, args: Namespace, new: Untrained, valid: list[list[int]], compute_loss: Callable
    ):
        self.args = args
        self.bare_model, self.config, token2idx, self.facts, self.bpe, self.names = new
        self.words = list(token2idx)
        self.valid = valid
        self.compute_loss = compute_loss
        self.first = rank_and_world_size()[0] == 0  # of the processes; it alone writes files
        self.epoch = 1
        self.done = self.step = self.seen = self.tokens = 0
        self.part = self.reported = 0
        self.nats = self.seconds = self.before = self.step_nats = 0.0
        self.best = math.inf
        self.best_epoch = self.logged = self.skipped = self.in_a_row = 0
        self.records: list[dict] = []
        self.failed: dict[Path, OSError] = {}  # files that could not be written when last tried
        self.model_digest = digest_if_there(args.model)  # of the file that is in its place
        self.clock = time.perf_counter()
        self.log = side_file(args.model, ".log.jsonl")
        self.last_of_epoch = 0  # how many minibatches this epoch has
        self.next_curve = 0.0  # when the curve may be drawn again

    def tick(self) -> None:
        """Count the seconds since this was called last; those while a run is stopped are none."""
        now = time.perf_counter()
        self.seconds += now - self.clock
        self.clock = now

    def report(self) -> None:
        """Print and log the losses (nats per token); save the model if it is the best yet."""
        self.tick()
        loss = self.nats / self.tokens if self.tokens else math.nan
        rate = self.tokens / self.seconds
        valid = self.valid_loss()
        better = valid < self.best and self.save_best(valid)
        record = {
            "mode": "train", "epoch": self.epoch, "step": self.step, "train_nats": loss,
            "valid_nats": valid, "tokens_per_s": round(rate, 1),
            "seconds": round(self.before + self.seconds, 1), "best": better,
        }
        line = (
            f"epoch {self.epoch}, step {self.step}: train {loss:.4f} nats "
            f"(perplexity {safe_exp(loss):.2f}), valid {valid:.4f} ({safe_exp(valid):.2f}), "
            f"{rate:,.0f} tokens/s{', saved' if better else ''}"
        )
        tqdm.write(to_json(record) if self.args.json else line, file=self.args.out)
        self.args.out.flush()
        self.write_log(record)
        self.records.append(record)
        self.draw()
        self.tick()
        self.before += self.seconds
        self.nats = self.seconds = 0.0
        self.tokens = 0
        self.reported = self.step

    def draw(self) -> None:
        """Draw the curve, at the end of an epoch or if that takes little of the time so far."""
        now = time.perf_counter()
        if not self.first or (now < self.next_curve and self.done < self.last_of_epoch):
            return
        with contextlib.suppress(Exception):  # the picture is not worth a training
            draw_curve(side_file(self.args.model, ".loss.png"), self.records)
        self.next_curve = now + 20 * (time.perf_counter() - now)

    def valid_loss(self) -> float:
        """The loss on the valid stories, with the work shared by the processes."""
        total, tokens = sum_over_processes(*self.valid_nats())
        return total / tokens

    def valid_nats(self) -> tuple[float, int]:
        """The nats of the valid stories that are this process's share, and their target tokens."""
        rank, processes = rank_and_world_size()
        mine = self.valid[rank::processes]
        count = sum(len(story) - 1 for story in mine)
        nats = self.compute_loss(self.bare_model, mine, self.args.B) * count if mine else 0.0
        return nats, count

    def save_best(self, valid: float) -> bool:
        """Save the model as the best one so far; whether that was possible."""
        when = {"epoch": self.epoch, "step": self.step, "valid_nats": valid, "finished": False}
        facts = {**self.facts, **when}
        saved = False
        with self.surviving(self.args.model):
            if self.first:
                model = self.args.model
                save_model(
                    model, self.bare_model, self.config, self.words, facts, self.bpe, self.names
                )
                self.model_digest = digest_if_there(model)
            saved = True
        self.best_epoch = self.epoch  # saved or not, it is no time to stop
        saved = not any(sum_over_processes(not saved))  # all know what the first could not do
        if saved:
            self.best = valid
        return saved

    def begin_log(self, **planned) -> None:
        """Write the first line of this run, with what is `planned`, after whole earlier lines."""
        earlier = self.log.read_bytes() if self.log.exists() else b""
        self.logged = earlier.rfind(b"\n") + 1
        self.write_log({"event": "start", **asdict(self.config), **self.facts, **planned})

    def write_log(self, record: dict) -> None:
        """Add a line to the log."""
        if not self.first:
            return
        with self.surviving(self.log):
            with open(self.log, "ab") as file:
                file.truncate(min(self.logged, file.tell()))  # what a full disk left of a line
                file.write(to_json(record).encode() + b"\n")
            self.logged = self.log.stat().st_size

    @contextlib.contextmanager
    def surviving(self, path: Path) -> Iterator[None]:
        """Go on if a file cannot be written, for a full disk, say; but tell, and remember."""
        try:
            yield
            self.failed.pop(path, None)
        except OSError as error:
            self.failed[path] = error
            why = f"cannot be written ({error.strerror}); going on without"
            tqdm.write(f"warning: {path}: {why}", file=sys.stderr)
