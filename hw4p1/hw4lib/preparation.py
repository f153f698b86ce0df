"""What run_lm.py and run_asr.py do before a training, and when they load what came of one."""

import argparse
import importlib
import importlib.util
import math
import os
import random
from pathlib import Path

import torch
import yaml
from torch import nn
from torch.utils.data import DataLoader

from .config import Schema, load_config, settings_of
from .data import H4Tokenizer
from .errors import UserError
from .files import atomic_write
from .flags import check_settings_given
from .runs import RUNS, load_whole
from .trainers import BaseTrainer
from .trainers.checkpoint import check_model
from .utils import create_optimizer, create_scheduler

HERE = Path(__file__).resolve().parent.parent


# ---- Configuration


def locate(path: str) -> Path:
    """A path of the configuration: from the current folder if it is there, else from hw4p1/."""
    return Path(path) if Path(path).exists() else HERE / path


def make_tokenizer(config: dict) -> H4Tokenizer:
    """The tokenizer that the configuration names."""
    settings = config["tokenization"]
    token_map = {name: str(locate(path)) for name, path in settings["token_map"].items()}
    return H4Tokenizer(token_map, settings["token_type"], validate=False)


def configured(args: argparse.Namespace, schema: Schema, base: dict | None = None) -> dict:
    """The configuration that the flags make of a base: the shipped one, or that of a run."""
    check_settings_given(args)
    config = load_config(args.config, args.set, base and settings_of(base), schema)
    if args.epochs:
        spread_epochs(config, args.epochs)
    if args.seed is not None:
        config["training"]["seed"] = args.seed
    return config


def begun(run: str, schema: Schema) -> dict | None:
    """The configuration of a run of which nothing is saved yet, if it was begun at all."""
    kept = RUNS / run / "config.yaml"
    if kept.is_file():
        print(f"note: nothing of the run is saved yet; it begins again, as {kept} says")
        return load_config(kept, schema=schema)
    print(f"note: there is no run {RUNS / run} to go on with; it begins now")
    return None


def spread_epochs(config: dict, epochs: int) -> None:
    """Train for so many epochs, with a schedule of that length.

    A quarter of it warm-up, if any, the rest cosine.
    """
    config["training"]["epochs"] = epochs
    warmup = config["scheduler"]["warmup"]
    warmup["epochs"] = epochs / 4
    config["scheduler"]["cosine"]["T_max"] = epochs - warmup["epochs"] * warmup["enabled"]


def write_config(config: dict, run: str) -> Path:
    """Write the configuration of a run into its folder, which is made; returns the path."""
    path = RUNS / run / "config.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    atomic_write(path, lambda file: file.write(text.encode()))
    return path


# ---- The machine


def default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_of(content: dict | None) -> str:
    """Where a resumed run was trained, if that is here, else the default."""
    on_cpu = content and content.get("surroundings", {}).get("the device") == "cpu"
    return "cpu" if on_cpu else default_device()


def check_packages(config: dict) -> None:
    """Raise ImportError for a package that a training needs; a note for each that it can miss."""
    importlib.import_module("torchinfo")  # for model_arch.txt
    note_missing("matplotlib", "pictures of attention")
    if config["training"]["use_wandb"]:
        note_missing("wandb", "metrics at wandb")


def note_missing(package: str, what: str) -> None:
    """Say what there will not be, if a package is missing."""
    if importlib.util.find_spec(package) is None:
        print(f"note: no {what}, as this Python has no {package}; pip install {package}")


def check_memory(parameters: int, device: str) -> None:
    """UserError if this machine has too little memory to train so many parameters."""
    needed = 4 * 4 * parameters / 2**30  # weights, gradient and two moments in float32
    if device == "cpu" and needed > memory():
        raise UserError(
            f"{parameters:,} parameters take {needed:,.0f} GB in training, and there are "
            f"{memory():.0f}; make model.d_model, its d_ff or its number of layers smaller"
        )


def memory() -> float:
    """Gigabytes of this machine's memory; infinite where that is not told."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return math.inf


# ---- Trainers


def seed_all(config: dict) -> None:
    """Have the generators that training draws from begin as the configuration says."""
    torch.manual_seed(config["training"]["seed"])
    random.seed(config["training"]["seed"])


def equip(trainer: BaseTrainer, train_loader: DataLoader) -> None:
    """Give a trainer the optimizer and schedule of its configuration."""
    config = trainer.config
    trainer.optimizer = create_optimizer(trainer.model, config["optimizer"])
    accumulate = config["training"]["gradient_accumulation_steps"]
    trainer.scheduler = create_scheduler(
        trainer.optimizer, config["scheduler"], train_loader, accumulate
    )


def forget_lost_best(trainer: BaseTrainer) -> None:
    """Where the best checkpoint of a run is gone, let that of the epochs to come be kept."""
    if trainer.training_history and not trainer.best_model_path.is_file():
        print(f"note: {trainer.best_model_path}: is gone; the best one from now on is kept there")
        trainer.best_metric = math.inf


def print_schedule(trainer: BaseTrainer, batches: int) -> None:
    """The model's size, where and how long it trains, and where it goes on."""
    config = trainer.config
    size = sum(p.numel() for p in trainer.model.parameters())
    precision = str(trainer.precision).removeprefix("torch.")
    where = f"on {trainer.device} in {precision}"
    print(f"{size:,} parameters {where}, max_len {trainer.model.max_len}")
    epochs = config["training"]["epochs"]
    schedule = config["scheduler"]
    warmup = schedule["warmup"]
    length = schedule["cosine"]["T_max"] + warmup["epochs"] * warmup["enabled"]
    if schedule["name"] == "cosine" and length != epochs:
        made = f"the schedule is made for {length} epochs and the training for {epochs}"
        print(f"note: {made}; --epochs of a new run sets both")
    if trainer.current_epoch or trainer.progress:
        done = trainer.progress["batches"] if trainer.progress else 0
        where = f"epoch {trainer.current_epoch + 1} of {epochs}"
        if trainer.current_epoch >= epochs:
            print(f"all {epochs} epochs are done; training.epochs can be set to more")
        elif done < batches:
            print(f"going on with batch {done + 1:,} of {batches:,} of {where}")
        else:
            print(f"going on with the validation of {where}")


def loaded_trainer(
    content: dict, path: Path, run: str, device: str, model_class: type[nn.Module],
    trainer_class: type[BaseTrainer],
) -> BaseTrainer:
    """A trainer with the model of a checkpoint and all that it was made with; it writes nothing."""
    config = content["config"]
    config["training"]["use_wandb"] = False
    tokenizer = make_tokenizer(config)
    name = tokenizer.token_type
    if tokenizer.vocab_size != config["model"]["num_classes"]:
        raise UserError(
            f"{path}: made with {config['model']['num_classes']} tokens, but the tokenizer {name} "
            f"has {tokenizer.vocab_size} now; use the files that it was made with"
        )
    digest = tokenizer.sha256
    if digest != config["trained_on"].get("tokenizer_sha256", digest):
        why = f"the tokenizer {name} is not that of its training; put its file back, or train anew"
        raise UserError(f"{path}: {why}")
    if content["model_state_dict"]:  # else it is told below that there is nothing to load
        check_model(content["model_state_dict"], config["model"], str(path), model_class)
    model = model_class(**config["model"])
    trainer = trainer_class(model, tokenizer, config, run, None, device)
    load_whole(trainer, content, path)
    return trainer
