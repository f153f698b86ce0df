"""What every training needs: epochs and steps.

(Handout, section 5.4.) How it stops and goes on is in resuming.py, what it writes in saving.py and
run_folder.py.
"""

import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader

from ..errors import UserError
from ..progress import progress_bar
from ..reading import shown
from .checkpoint import is_number
from .resuming import Resuming
from .run_folder import RunFolder, decoration
from .saving import Saving

Batch = tuple[Tensor, ...]  # what a DataLoader gives


class BaseTrainer(Resuming, Saving, RunFolder, ABC):
    """The frame of a training: subclasses say what the loss of a batch is, and how to validate.

    The caller sets `optimizer` and `scheduler`.

    Its files are under `expts/<run_name>/` in the current folder: a copy of the configuration, the
    model's architecture, checkpoints, attention maps and generated texts. With None for
    `config_file` the trainer writes none of them: it is for reading a model.
    """

    best_by = "ce_loss_char"  # the metric of validation whose lowest value marks the best model

    def __init__(
        self, model: nn.Module, tokenizer, config: dict, run_name: str,
        config_file: str | Path | None, device: str | torch.device | None = None,
    ):
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device)
        self.tokenizer = tokenizer
        self.config = config
        self.run_name = run_name
        self.gradient_clip = config["training"].get("gradient_clip", 0.0)
        if not is_number(self.gradient_clip) or not 0 <= self.gradient_clip < math.inf:
            what = f"training.gradient_clip is {shown(self.gradient_clip)}"
            raise UserError(f"{what}; give a number above 0, or 0 for no limit")
        self.optimizer = self.scheduler = None
        self.precision = choose_precision(torch.device(self.device).type)
        # Only float16 is so narrow that gradients need scaling.
        self.scaler = torch.amp.GradScaler(
            torch.device(self.device).type, enabled=self.precision == torch.float16
        )
        self.current_epoch, self.best_metric, self.training_history = 0, float("inf"), []
        # Where in an epoch the run is: None at its beginning.
        self.progress: dict | None = None
        self.stop_requested, self.last_save = False, time.monotonic()
        self.in_training = False  # else nothing of a run is saved
        # Checkpoints that could not be written when that was last tried.
        self.unsaved: dict[str, OSError] = {}
        (self.expt_root, self.checkpoint_dir, self.attn_dir, self.text_dir, self.best_model_path,
         self.last_model_path) = self._init_experiment(run_name, config_file)  # fmt: skip
        self.use_wandb = config["training"].get("use_wandb", False)
        self.wandb_run = self._start_wandb() if self.use_wandb else None

    # ---- What a subclass says

    @abstractmethod
    def _example(self) -> list[Tensor]:
        """Inputs of the model, by which its architecture is described.

        On the meta device, if the model can be there, nothing is computed.
        """

    def _losses(self, batch: Batch) -> Iterator[tuple[Tensor, dict[str, float]]]:
        """The loss of a batch in parts that sum up to it, each to be backpropagated by itself.

        Beside each are numbers that are summed over the epoch, for `_metrics`.
        """
        raise NotImplementedError

    def _metrics(self, sums: dict[str, float], dataloader: DataLoader) -> dict[str, float]:
        """The metrics of what was summed over the batches of a loader."""
        raise NotImplementedError

    def _maps(self, batch: Batch) -> dict[str, Tensor]:
        """Attention maps of a batch, for pictures: none if that fails."""
        return {}

    @abstractmethod
    def _validate_epoch(self, dataloader: DataLoader) -> tuple[dict[str, float], object]:
        """Returns metrics on held-out data, and what `_show_epoch` shows of it."""

    def _show_epoch(
        self, epoch: int, train_maps: dict[str, Tensor], shown: object, val_loader: DataLoader
    ) -> None:
        """Draw and write what there is to see of an epoch, which is saved; nothing may end it."""
        raise NotImplementedError

    @abstractmethod
    def evaluate(self, dataloader: DataLoader):
        """Metrics and generated texts on test data."""

    # ---- Epochs

    def train(self, train_loader: DataLoader, val_loader: DataLoader, epochs: int) -> None:
        """Train `epochs` more epochs from `current_epoch`.

        One that was broken off is the first of them. After each: validation, the checkpoints, best
        by `best_by` and last, and only then numbers, pictures and texts: what goes wrong with these
        is told, and nothing is lost by it. So is a checkpoint that cannot be written, as the next
        may be. Raises ValueError without optimizer or scheduler, or when a loss is no number any
        more; OSError if at the end the best checkpoint could not be written, or at a stop the last;
        Stopped.
        """
        if self.optimizer is None or self.scheduler is None:
            raise UserError("the trainer has no optimizer or no scheduler; set both before train")
        self.in_training = True
        try:
            for left in reversed(range(epochs)):
                self._run_epoch(train_loader, val_loader)
                if left:
                    self._stop_if_asked()
        finally:
            self.in_training = False
        self._check_saved(self.best_model_path, "the best model could not be saved")

    def _run_epoch(self, train_loader: DataLoader, val_loader: DataLoader) -> None:
        """What is left of an epoch, saved before it is shown."""
        epoch = self.current_epoch
        train_metrics, train_maps = self._train_epoch(train_loader)
        val_metrics, shown = self._validate_epoch(val_loader)
        metrics = {"train": train_metrics, "val": val_metrics}
        self._complete_epoch(metrics)
        with decoration("numbers"):
            self._show_metrics(metrics, epoch)
        self._show_epoch(epoch, train_maps, shown, val_loader)

    def _complete_epoch(self, metrics: dict[str, dict[str, float]]) -> None:
        """Note the metrics of an epoch, and save.

        The best checkpoint comes first: who goes on from the last one before that, validates anew.
        """
        value = metrics["val"][self.best_by]
        if math.isnan(value):
            raise UserError(f"{self.best_by} on val is {value}; lower optimizer.lr")
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(value)
        self._record_metrics(metrics, self.current_epoch)
        self.current_epoch, self.progress = self.current_epoch + 1, None
        if value < self.best_metric:
            before, self.best_metric = self.best_metric, value
            if not self._try_to_save(self.best_model_path):
                self.best_metric = before  # so that a later one is kept
        self._try_to_save(self.last_model_path)

    def _train_epoch(self, dataloader: DataLoader) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Train on each batch that is left of an epoch.

        Metrics of the whole epoch, maps of its last batch.
        """
        self.model.train()
        self.progress = progress = self.progress or {}
        batches, batch = self._remaining(dataloader, progress)
        accumulate = self.config["training"].get("gradient_accumulation_steps", 1)
        self._restore_gradients(progress, accumulate)
        title = f"epoch {self.current_epoch + 1}"
        with self._bar(len(dataloader), title, progress["batches"]) as bar:
            for batch in batches:
                group_start = progress["batches"] // accumulate * accumulate
                # The last one may be smaller.
                group_size = min(accumulate, len(dataloader) - group_start)
                loss, sums = self._backward(batch, group_size)
                add(progress, {"batches": 1, **sums})
                bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
                bar.update()
                if progress["batches"] == group_start + group_size:
                    self._update()
                # Else it is looked for before the first batch of validation.
                if progress["batches"] < len(dataloader):
                    self._save_if_due()
        self.model.eval()
        return self._metrics(progress, dataloader), self._maps(batch)

    def _backward(self, batch: Batch, group_size: int) -> tuple[float, dict[str, float]]:
        """Add the gradient of a batch's loss / `group_size`; returns the loss and the sums."""
        total, all_sums = 0.0, {}
        for loss, sums in self._losses(batch):
            value = loss.item()
            if not math.isfinite(value):
                what = f"the training loss in epoch {self.current_epoch + 1} is {value}"
                raise UserError(f"{what}; lower optimizer.lr")
            self.scaler.scale(loss / group_size).backward()
            total += value
            add(all_sums, sums)
        return total, all_sums

    def _update(self) -> None:
        """One step of the optimizer, with clipped gradients, and of the schedule.

        Not of the schedule if an overflow in float16 made the optimizer skip its own.
        """
        if self.gradient_clip:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.gradient_clip)
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if not isinstance(self.scheduler, ReduceLROnPlateau) and self.scaler.get_scale() >= scale:
            self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _reduced_precision(self) -> torch.autocast:
        """The block in which large products are in `precision`."""
        device_type = torch.device(self.device).type
        return torch.autocast(device_type, self.precision, enabled=self.precision != torch.float32)

    def _sum_over(
        self, dataloader: DataLoader, measure: Callable[[Batch], dict]
    ) -> tuple[dict, Batch]:
        """Sums, or lists, of what is measured of all batches of held-out data; the last batch.

        In a training they are part of its progress: it is saved and stopped between them too.
        """
        progress = self.progress.setdefault("validation", {}) if self.in_training else {}
        batches, batch = self._remaining(dataloader, progress)
        with self._bar(len(dataloader), "evaluation", progress["batches"]) as bar:
            for batch in batches:
                if self.in_training:
                    self._save_if_due()
                add(progress, {"batches": 1, **measure(batch)})
                bar.update()
        return progress, batch

    def _bar(self, total: int, title: str, done: int = 0):
        """A progress bar; where nobody watches, a line a minute."""
        watched = {} if sys.stderr.isatty() else {"mininterval": 60}
        return progress_bar(
            total=total, initial=done, title=title, unit=" batches", leave=False, **watched
        )


def add(sums: dict[str, float], more: dict[str, float]) -> None:
    """Add the numbers of `more` to those of the same names, in place; lists grow."""
    for name, value in more.items():
        sums[name] = sums[name] + value if name in sums else value


def choose_precision(device_type: str) -> torch.dtype:
    """The dtype of large products in training: what the hardware multiplies fast, else float32."""
    if device_type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        return torch.float16
    features = torch.cpu.get_capabilities() if device_type == "cpu" else {}
    if features.get("amx_bf16") or features.get("avx512_bf16"):
        return torch.bfloat16
    return torch.float32
