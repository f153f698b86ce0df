"""What every training needs.

A folder for its files, metrics, pictures, checkpoints (handout, section 5.4).
"""

import copy
import random
import shutil
import time
import warnings
from abc import ABC, abstractmethod
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import Stopped, UserError
from ..files import atomic_write, write_json
from ..model import DecoderOnlyTransformer
from .checkpoint import (
    check_random_state,
    first_misfit,
    optimizer_state,
    read_checkpoint,
    scaler_state,
    scheduler_state,
)
from .surroundings import changes, surroundings

SAVE_SECONDS = 300  # a run that is killed loses no more work than that


class BaseTrainer(ABC):
    """The frame of a training: subclasses say what an epoch is.

    The caller sets `optimizer` and `scheduler`.

    Its files are under `expts/<run_name>/` in the current folder: a copy of the configuration, the
    model's architecture, checkpoints, attention maps and generated texts.
    """

    def __init__(
        self, model: nn.Module, tokenizer, config: dict, run_name: str, config_file: str | Path,
        device: str | torch.device | None = None,
    ):
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device)
        self.tokenizer = tokenizer
        self.config = config
        self.run_name = run_name
        self.optimizer = self.scheduler = None
        self.precision = choose_precision(torch.device(self.device).type)
        # Only float16 is so narrow that gradients need scaling.
        self.scaler = torch.amp.GradScaler(
            torch.device(self.device).type, enabled=self.precision == torch.float16
        )
        self.current_epoch, self.best_metric, self.training_history = 0, float("inf"), []
        # Of an epoch that is not complete: what a subclass needs to go on with it.
        self.progress: dict | None = None
        self.stop_requested, self.last_save = False, time.monotonic()
        (self.expt_root, self.checkpoint_dir, self.attn_dir, self.text_dir, self.best_model_path,
         self.last_model_path) = self._init_experiment(run_name, config_file)  # fmt: skip
        self.use_wandb = config["training"].get("use_wandb", False)
        self.wandb_run = self._start_wandb() if self.use_wandb else None

    @abstractmethod
    def _train_epoch(self, dataloader):
        """Train for what is left of an epoch; returns metrics and attention maps."""

    @abstractmethod
    def _validate_epoch(self, dataloader):
        """Returns metrics and attention maps on held-out data."""

    @abstractmethod
    def train(self, *args, **kwargs):
        """All epochs."""

    @abstractmethod
    def evaluate(self, dataloader):
        """Metrics and generated texts on test data."""

    # ---- The folder

    def _init_experiment(
        self, run_name: str, config_file: str | Path
    ) -> tuple[Path, Path, Path, Path, Path, Path]:
        """Make the folders and the two files that describe the run; returns the paths."""
        root = Path.cwd() / "expts" / run_name
        checkpoints, attention, text = root / "checkpoints", root / "attn", root / "text"
        for folder in (checkpoints, attention, text):
            folder.mkdir(parents=True, exist_ok=True)
        if not Path(config_file).is_file():
            raise UserError(f"{config_file}: no such configuration file; correct config_file")
        if Path(config_file).resolve() != (root / "config.yaml").resolve():
            shutil.copyfile(config_file, root / "config.yaml")
        arch = self._architecture()
        atomic_write(root / "model_arch.txt", lambda file: file.write(arch.encode()))
        best, last = (
            checkpoints / f"checkpoint-{name}-model.pth" for name in ("best-metric", "last-epoch")
        )
        return root, checkpoints, attention, text, best, last

    def _architecture(self) -> str:
        """torchinfo's table of the model for a full batch, without computing one.

        On the meta device.
        """
        from torchinfo import summary

        if not isinstance(self.model, DecoderOnlyTransformer):
            raise NotImplementedError(f"no summary is known for a {type(self.model).__name__}")
        B, T = self.config.get("data", {}).get("batch_size", 8), self.model.max_len
        tokens = torch.zeros(B, T, dtype=torch.long, device="meta")
        lengths = torch.full((B,), T, dtype=torch.long, device="meta")
        model = copy.deepcopy(self.model).to("meta")
        return str(summary(model, input_data=[tokens, lengths], device="meta", verbose=0))

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
        """Print {split: {name: number}} as a tree, and add it to the history and to wandb."""
        lr = self.optimizer.param_groups[0]["lr"] if self.optimizer else None
        self.training_history.append({"epoch": step, **metrics, "lr": lr})
        print(f"epoch {step}" + (f", learning rate {lr:.3g}" if lr is not None else ""))
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
            title=f"{attn_type} attention, epoch {epoch}",
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
            self.wandb_run.save(str(path), base_path=str(self.expt_root))

    def cleanup(self) -> None:
        """Finish the wandb run, if there is one."""
        if self.use_wandb:
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
        self.current_epoch = content.get("epoch", 0)
        self.best_metric = content.get("best_metric", float("inf"))
        self.training_history = content.get("training_history", [])
        self.progress = content.get("progress")
        before = content.get("surroundings", {})
        if self.optimizer and (note := changes(before, surroundings(self.device, self.precision))):
            print(note)

    def _load_weights(self, weights: dict[str, Tensor]) -> None:
        """Take weights over if all fit, else raise UserError that names the first misfit."""
        misfit = first_misfit(weights, self.model.state_dict())
        if misfit:
            raise UserError(f"{misfit}; use the model it is of")
        self.model.load_state_dict(weights)

    def _load_optimizer(self, state: dict) -> None:
        self.optimizer.load_state_dict(optimizer_state(state, self.optimizer))

    def _load_scheduler(self, state: dict) -> None:
        self.scheduler.load_state_dict(scheduler_state(state, self.scheduler))

    def _load_scaler(self, state: dict) -> None:
        self.scaler.load_state_dict(scaler_state(state, self.scaler))

    def _load_random_state(self, state: dict) -> None:
        check_random_state(state)
        set_random_state(state)

    def _save_if_due(self) -> None:
        """In the middle of an epoch: save every few minutes.

        Raise Stopped, saved, if `stop_requested` was set.
        """
        if self.stop_requested or time.monotonic() - self.last_save > SAVE_SECONDS:
            self.save_checkpoint(self.last_model_path.name)
        if self.stop_requested:
            raise Stopped


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
