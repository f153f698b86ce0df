"""What every training needs: a folder for its files, metrics, pictures, checkpoints."""

import json
import shutil
from abc import ABC, abstractmethod
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torchinfo import summary

from ..errors import UserError
from ..files import write_json


class BaseTrainer(ABC):
    """The frame of a training: subclasses say what an epoch is.

    The caller sets `optimizer` and `scheduler`. Files go to `expts/<run_name>/` in the current
    folder: a copy of the configuration, the model's architecture, checkpoints, attention maps and
    generated texts.
    """

    def __init__(
        self, model: nn.Module, tokenizer, config: dict, run_name: str, config_file: str | Path,
        device: str | torch.device | None = None,
    ):
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device)
        self.tokenizer = tokenizer
        self.config = config
        self.optimizer = self.scheduler = None
        self.current_epoch, self.best_metric, self.training_history = 0, float("inf"), []
        self.expt_root = Path.cwd() / "expts" / run_name
        self.checkpoint_dir, self.attn_dir, self.text_dir = (
            self.expt_root / name for name in ("checkpoints", "attn", "text")
        )
        self.best_model_path, self.last_model_path = (
            self.checkpoint_dir / f"checkpoint-{name}-model.pth"
            for name in ("best-metric", "last-epoch")
        )
        self._init_experiment(Path(config_file))

    @abstractmethod
    def _train_epoch(self, dataloader) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Train for an epoch; returns metrics, and attention maps of the last batch."""

    @abstractmethod
    def _validate_epoch(self, dataloader) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Returns metrics, and attention maps of the last batch, on held-out data."""

    @abstractmethod
    def train(self, train_loader, val_loader, epochs: int) -> None:
        """All epochs."""

    @abstractmethod
    def evaluate(self, test_loader) -> tuple[dict[str, float], dict[str, list[dict]]]:
        """Metrics and generated texts on test data."""

    def _init_experiment(self, config_file: Path) -> None:
        """Make the folders and the two files that describe the run."""
        for folder in (self.checkpoint_dir, self.attn_dir, self.text_dir):
            folder.mkdir(parents=True, exist_ok=True)
        if not config_file.is_file():
            raise UserError(f"{config_file}: no such configuration file; correct config_file")
        if config_file.resolve() != (self.expt_root / "config.yaml").resolve():
            shutil.copyfile(config_file, self.expt_root / "config.yaml")
        tokens = torch.zeros(1, self.model.max_len, dtype=torch.long, device=self.device)
        lengths = torch.full((1,), self.model.max_len, device=self.device)
        table = summary(self.model, input_data=[tokens, lengths], device=self.device, verbose=0)
        (self.expt_root / "model_arch.txt").write_text(str(table), encoding="utf-8")

    def _log_metrics(self, metrics: dict[str, dict[str, float]], step: int) -> None:
        """Print {split: {name: number}}, and add it to the history."""
        self.training_history.append({"epoch": step, **metrics})
        print(f"epoch {step}")
        for split, numbers in metrics.items():
            print(f"  {split}: " + ", ".join(f"{k} {v:.4f}" for k, v in numbers.items()))

    def _save_attention_plot(self, weights: Tensor, epoch: int, attn_type: str = "self") -> None:
        """Draw weights (T, S), targets from top to bottom."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 6))
        axes = figure.add_subplot()
        figure.colorbar(axes.imshow(weights.detach().float().cpu().numpy(), aspect="auto"))
        axes.set(xlabel="source position", ylabel="target position")
        figure.savefig(self.attn_dir / f"{attn_type}_attention_epoch{epoch}.png", dpi=100)

    def _save_generated_text(self, texts: list[dict], suffix: str) -> None:
        """Write generated texts to `text_{suffix}.json`."""
        write_json(self.text_dir / f"text_{suffix}.json", texts)

    def save_checkpoint(self, filename: str) -> None:
        """Write the weights to `filename` among the checkpoints, and beside it what was reached."""
        path = self.checkpoint_dir / filename
        save_model(self.model, str(path))
        reached = {"epoch": self.current_epoch, "best_metric": self.best_metric}
        write_json(path.with_suffix(".json"), {**reached, "history": self.training_history})

    def load_checkpoint(self, filename: str) -> None:
        """Take over what `save_checkpoint` wrote. UserError if there is none."""
        path = self.checkpoint_dir / filename
        if not path.is_file():
            raise UserError(f"{path}: no such checkpoint; train first")
        load_model(self.model, str(path))
        reached = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        self.current_epoch, self.best_metric = reached["epoch"], reached["best_metric"]
        self.training_history = reached["history"]
