"""Stops between any two batches, and a training that goes on from there to the bit."""

import contextlib
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from ..errors import Interrupted, Stopped, UserError
from ..progress import warn
from ..signals import handled

SAVE_SECONDS = 300  # a run that is killed loses no more work than that


class Resuming:
    """What BaseTrainer does between two batches, and how it goes on where it was.

    `progress` says where in an epoch the run is: the batches that are done, the sums over them and
    the state of the random generators at its beginning. A pass over held-out data has one too.
    """

    @contextlib.contextmanager
    def stopping_on_signals(self) -> Iterator[None]:
        """Let Ctrl-C, SIGTERM and SIGHUP ask `train` to save and stop; it then raises Stopped.

        Ctrl-C once more stops at once.
        """
        self.stop_requested = False  # as it may be from the time before, in a notebook

        def ask(number: int, _frame) -> None:
            if self.stop_requested and number == signal.SIGINT:
                raise Interrupted(number)
            self.stop_requested = self.stop_requested or number

        with handled(ask):
            yield

    def _save_if_due(self) -> None:
        """Between two batches of an epoch: save every few minutes.

        If `stop_requested` was set, save and raise Stopped.
        """
        if self.stop_requested or time.monotonic() - self.last_save > SAVE_SECONDS:
            self.progress["gradients"] = {
                name: p.grad for name, p in self.model.named_parameters() if p.grad is not None
            }
            self._try_to_save(self.last_model_path)
            del self.progress["gradients"]  # which are where they belong
        self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        """Where all that was done is saved: raise Stopped if `stop_requested` was set."""
        if self.in_training and self.stop_requested:
            self._check_saved(self.last_model_path, "stopped, but not saved")
            raise Stopped(self.stop_requested)

    def _try_to_save(self, path: Path) -> bool:
        """Whether a checkpoint could be written; if not, for a full disk, say, it is told."""
        try:
            self.save_checkpoint(path.name)
            self.unsaved.pop(path.name, None)
        except OSError as error:
            self.unsaved[path.name] = error
            warn(f"{path}: cannot be written ({error.strerror or error}); going on without")
        self.last_save = time.monotonic()
        return path.name not in self.unsaved

    def _check_saved(self, path: Path, what: str) -> None:
        """Raise OSError if a checkpoint could not be written when that was last tried."""
        if error := self.unsaved.get(path.name):
            there = self.last_model_path.is_file()
            how = "go on from the last state with --resume" if there else "train again"
            raise OSError(f"{path}: {what} ({error.strerror or error}); make room, and {how}")

    def _remaining(self, dataloader: DataLoader, progress: dict) -> tuple[Iterator, tuple | None]:
        """The batches of a pass over the data from where `progress` is; the last one before them.

        The order is drawn from torch's global generator when the loader is started. So a pass
        begins again from the generator's state then, goes over the batches that were done, and
        goes on from the state after them.
        """
        if "batches" not in progress:
            progress.update(batches=0, random_state=random_state())
            return iter(dataloader), None
        if progress["batches"] > len(dataloader):
            what = f"{progress['batches']} batches of an epoch that has {len(dataloader)}"
            raise UserError(f"the checkpoint has {what}; train anew")
        now, batch = random_state(), None
        set_random_state(progress["random_state"])
        batches = iter(dataloader)
        for _ in range(progress["batches"]):
            batch = next(batches)
        set_random_state(now)
        return batches, batch

    def _restore_gradients(self, progress: dict, accumulate: int) -> None:
        """Have the gradient of the batches since the last step, and no other."""
        if progress["batches"] % accumulate == 0:
            self.optimizer.zero_grad(set_to_none=True)
        gradients = progress.pop("gradients", {})
        for name, parameter in self.model.named_parameters():
            gradient = gradients.get(name)
            if gradient is not None and gradient.shape != parameter.shape:
                raise UserError(f"the checkpoint's gradient is none of {name}; train anew")
            if gradient is not None:
                parameter.grad = gradient.to(parameter)


def random_state() -> dict:
    """The state of the generators that training draws from.

    Torch's for order and dropout, Python's for layer drop.
    """
    state = {"torch": torch.get_rng_state(), "python": random.getstate()}
    return state | ({"cuda": torch.cuda.get_rng_state_all()} if torch.cuda.is_available() else {})


def set_random_state(state: dict) -> None:
    """Go back to what `random_state` gave."""
    torch.set_rng_state(state["torch"])
    random.setstate(state["python"])
    if torch.cuda.is_available() and "cuda" in state:
        # The machine that wrote it may have had more GPUs.
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])
