"""What a training writes to go on from, and reads again."""

import time
import warnings
from pathlib import Path

import torch
from torch import Tensor

from ..errors import UserError
from ..files import atomic_write
from .checkpoint import (
    check_random_state,
    first_misfit,
    optimizer_state,
    read_checkpoint,
    scaler_state,
    scheduler_state,
)
from .resuming import random_state, set_random_state
from .surroundings import changes, surroundings


class Saving:
    """How BaseTrainer writes its checkpoints and takes over what is in one."""

    def save_checkpoint(self, filename: str) -> None:
        """Write all that is needed to go on, to the bit, to `filename` among the checkpoints.

        `epoch` counts the complete epochs; with `progress` the file was written in the middle of
        the next one.
        """
        content = {
            "epoch": self.current_epoch,
            "model_state_dict": self.model.state_dict(),
            "optimizer_state_dict": self.optimizer.state_dict() if self.optimizer else None,
            "scheduler_state_dict": self.scheduler.state_dict() if self.scheduler else None,
            "scaler_state_dict": self.scaler.state_dict(),
            "best_metric": self.best_metric,
            "training_history": self.training_history,
            "config": self.config,
            "embedding_scale": getattr(self.model, "embedding_scale", 1.0),
            "progress": self.progress,
            "random_state": random_state(),
            "surroundings": surroundings(self.device, self.precision),
        }
        try:
            atomic_write(self.checkpoint_dir / filename, lambda file: torch.save(content, file))
        except RuntimeError as error:
            # A full disk, of which torch tells the place in its own code.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        self.last_save = time.monotonic()
        self._upload(self.checkpoint_dir / filename)

    def load_checkpoint(self, filename: str) -> None:
        """Go on from what `save_checkpoint` wrote.

        What cannot be loaded is warned of and left as it is; a note names what has changed of all
        that the last bits depend on.

        Raises FileNotFoundError if there is no such file; UserError if it is no checkpoint;
        RuntimeError if nothing of it could be loaded.
        """
        path = self.checkpoint_dir / filename
        self.load_content(read_checkpoint(path), path)

    def load_content(self, content: dict, path: Path) -> None:
        """What `load_checkpoint` does with the content of the file at `path`."""
        loads = {
            "model_state_dict": self._load_weights,
            "optimizer_state_dict": self.optimizer and self._load_optimizer,
            "scheduler_state_dict": self.scheduler and self._load_scheduler,
            "scaler_state_dict": self._load_scaler,
            "random_state": self._load_random_state,
        }
        loaded = set()
        for key, load in loads.items():
            if not load or not content.get(key):
                continue
            try:
                load(content[key])
                loaded.add(key)
            except (
                RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError,
                OverflowError,
            ) as error:
                warnings.warn(
                    f"{path}: its {key} does not fit here and is left out: {error}", stacklevel=3
                )
        if loaded <= {"scaler_state_dict", "random_state"}:  # which fit everywhere
            raise RuntimeError(f"{path}: nothing in it could be loaded; it is of another model")
        if "model_state_dict" in loaded:
            self._take_embedding_scale(content)
        self.current_epoch = content.get("epoch", 0)
        self.best_metric = content.get("best_metric", float("inf"))
        self.training_history = content.get("training_history", [])
        self.progress = content.get("progress")
        before = content.get("surroundings", {})
        if self.optimizer and (note := changes(before, surroundings(self.device, self.precision))):
            print(note)

    def _load_weights(self, weights: dict[str, Tensor]) -> None:
        """Take weights over if all fit, else raise UserError that names the first misfit."""
        misfit = first_misfit(weights, self.model)
        if misfit:
            raise UserError(f"{misfit}; use the model it is of")
        self.model.load_state_dict(weights)

    def _take_embedding_scale(self, content: dict) -> None:
        """Read the weights by the factor with which they were trained.

        A checkpoint without it is the course's or an older one, and has 1.
        """
        if not hasattr(self.model, "embedding_scale"):
            return
        usual = self.model.embedding_scale
        self.model.embedding_scale = scale = content.get("embedding_scale", 1.0)
        if self.optimizer and scale != usual:
            print(
                f"note: this run began with its embedding times {scale:g} and goes on so; that of "
                f"a new run is times {usual:.4g}"
            )

    def _load_optimizer(self, state: dict) -> None:
        self.optimizer.load_state_dict(optimizer_state(state, self.optimizer))

    def _load_scheduler(self, state: dict) -> None:
        self.scheduler.load_state_dict(scheduler_state(state, self.scheduler))

    def _load_scaler(self, state: dict) -> None:
        self.scaler.load_state_dict(scaler_state(state, self.scaler))

    def _load_random_state(self, state: dict) -> None:
        check_random_state(state)
        set_random_state(state)
