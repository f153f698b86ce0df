"""The folder of a run: configuration, architecture, pictures, texts; numbers, also for wandb."""

import contextlib
import copy
import shutil
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from ..errors import Stopped, UserError
from ..files import atomic_write, write_json


class RunFolder:
    """What BaseTrainer shows of a run; nothing here may end a training."""

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
