"""What every training needs: epochs, stops and resumes, a folder with checkpoints and pictures.

(Handout, section 5.4.)
"""

import contextlib
import copy
import math
import random
import shutil
import signal
import sys
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader

from ..errors import Interrupted, Stopped, UserError
from ..files import atomic_write, write_json
from ..progress import progress_bar, warn
from ..reading import shown
from ..signals import handled
from .checkpoint import (
    check_random_state,
    first_misfit,
    is_number,
    optimizer_state,
    read_checkpoint,
    scaler_state,
    scheduler_state,
)
from .surroundings import changes, surroundings

SAVE_SECONDS = 300  # a run that is killed loses no more work than that
Batch = tuple[Tensor, ...]  # what a DataLoader gives


class BaseTrainer(ABC):
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

    # ---- Stopping and going on

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

    def _remaining(self, dataloader: DataLoader, progress: dict) -> tuple[Iterator, Batch | None]:
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

    # ---- The folder

    def _init_experiment(
        self, run_name: str, config_file: str | Path | None
    ) -> tuple[Path, Path, Path, Path, Path, Path]:
        """Make the folders and the two files that describe the run; returns the paths."""
        root = Path.cwd() / "expts" / run_name
        checkpoints, attention, text = root / "checkpoints", root / "attn", root / "text"
        best, last = (
            checkpoints / f"checkpoint-{name}-model.pth" for name in ("best-metric", "last-epoch")
        )
        if config_file is not None:
            if not Path(config_file).is_file():
                raise UserError(f"{config_file}: no such configuration file; correct config_file")
            for folder in (checkpoints, attention, text):
                folder.mkdir(parents=True, exist_ok=True)
            if Path(config_file).resolve() != (root / "config.yaml").resolve():
                shutil.copyfile(config_file, root / "config.yaml")
            arch = self._architecture()
            atomic_write(root / "model_arch.txt", lambda file: file.write(arch.encode()))
        return root, checkpoints, attention, text, best, last

    def _architecture(self) -> str:
        """torchinfo's table of the model for `_example`."""
        from torchinfo import summary

        example = self._example()
        device, model = example[0].device, self.model
        if device.type == "meta":
            model = copy.deepcopy(model).to(device)
        else:
            device = self.device
        return str(summary(model, input_data=example, device=device, verbose=0))

    # ---- Metrics, pictures, texts

    def _start_wandb(self):
        """The wandb run, which is optional: if it cannot be had, say why and train without."""
        settings = self.config["training"]
        run_id = settings.get("wandb_run_id") or "none"
        how = {"name": self.run_name} if run_id == "none" else {"id": run_id, "resume": "must"}
        try:
            import wandb

            return wandb.init(
                project=settings.get("wandb_project", "default-project"), config=self.config, **how
            )
        except Exception as error:  # not installed, not logged in, no network and more
            print(
                f"note: going on without wandb ({error}); set training.use_wandb to False to be "
                "rid of this note"
            )
            self.use_wandb = False
            return None

    def _log_metrics(self, metrics: dict[str, dict[str, float]], step: int) -> None:
        """Add {split: {name: number}} to the history, print it as a tree, give it to wandb.

        `step` counts epochs from 0, as files do; what is printed counts from 1.
        """
        self._record_metrics(metrics, step)
        self._show_metrics(metrics, step)

    def _record_metrics(self, metrics: dict[str, dict[str, float]], step: int) -> None:
        """Add them to the history."""
        self.training_history.append({"epoch": step, **metrics, "lr": self._learning_rate()})

    def _learning_rate(self) -> float | None:
        return self.optimizer.param_groups[0]["lr"] if self.optimizer else None

    def _show_metrics(self, metrics: dict[str, dict[str, float]], step: int) -> None:
        """Print them, and give them to wandb."""
        lr = self._learning_rate()
        print(f"epoch {step + 1}" + (f", learning rate {lr:.3g}" if lr is not None else ""))
        for split, numbers in metrics.items():
            print(f"  {split}")
            for name, number in numbers.items():
                print(f"    {name:<22}{number:.4f}")
        if self.use_wandb:
            flat = {
                f"{split}/{name}": number for split, numbers in metrics.items()
                for name, number in numbers.items()
            }
            self.wandb_run.log({**flat, "learning_rate": lr}, step=step)

    def _save_attention_plot(
        self, attn_weights: Tensor, epoch: int, attn_type: str = "self"
    ) -> None:
        """Draw weights (T, S), targets from top to bottom.

        The picture is `{attn_type}_attention_epoch{epoch}.png`.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 6))
        axes = figure.add_subplot()
        figure.colorbar(
            axes.imshow(attn_weights.float().cpu().numpy(), aspect="auto", interpolation="nearest")
        )
        axes.set(
            xlabel="source position", ylabel="target position",
            title=f"{attn_type} attention after epoch {self.current_epoch}",
        )
        path = self.attn_dir / f"{attn_type}_attention_epoch{epoch}.png"
        atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=100))
        if self.use_wandb:
            import wandb

            self.wandb_run.log({f"{attn_type}_attention": wandb.Image(str(path))}, step=epoch)

    def _save_generated_text(self, text: list[dict], suffix: str) -> None:
        """Write generated texts to `text_{suffix}.json`."""
        path = self.text_dir / f"text_{suffix}.json"
        write_json(path, text)
        self._upload(path)

    def _upload(self, path: Path) -> None:
        """Give a file to wandb, if that is used."""
        if self.use_wandb:
            with decoration(f"{path.name} at wandb"):
                self.wandb_run.save(str(path), base_path=str(self.expt_root))

    def cleanup(self) -> None:
        """Finish the wandb run, if there is one."""
        if self.use_wandb:
            with decoration("end of the run at wandb"):
                self.wandb_run.finish()

    # ---- Checkpoints

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


def add(sums: dict[str, float], more: dict[str, float]) -> None:
    """Add the numbers of `more` to those of the same names, in place; lists grow."""
    for name, value in more.items():
        sums[name] = sums[name] + value if name in sums else value


@contextlib.contextmanager
def decoration(what: str) -> Iterator[None]:
    """Let whatever goes wrong in the block be told, and end nothing but the block."""
    try:
        yield
    except Stopped:
        raise
    except Exception as error:
        with contextlib.suppress(OSError, ValueError):
            print(f"warning: no {what}: {type(error).__name__} {error}")


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
