"""The learning-rate schedule that a configuration describes, and a picture of it."""

import copy
import math
import warnings

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    LinearLR,
    LRScheduler,
    ReduceLROnPlateau,
    SequentialLR,
)
from torch.utils.data import DataLoader

from ..errors import UserError
from ..reading import shown
from .config_numbers import reject_text_numbers

DEFAULTS = {  # of the section that each name has in the configuration
    "reduce_lr": {
        "mode": "min", "factor": 0.1, "patience": 10, "threshold": 1e-4, "threshold_mode": "rel",
        "cooldown": 0,
        "min_lr": 1e-5, "eps": 1e-8,
    },
    "cosine": {"T_max": 60, "eta_min": 1e-4, "last_epoch": -1},
    "cosine_warm": {"T_0": 10, "T_mult": 2, "eta_min": 1e-4, "last_epoch": -1},
    "warmup": {"enabled": False, "epochs": 5, "start_factor": 0.1, "end_factor": 1.0},
}

LONGEST = 2**31  # steps


def create_scheduler(
    optimizer: Optimizer, scheduler_config: dict, train_loader: DataLoader,
    gradient_accumulation_steps: int = 1
) -> LRScheduler:
    """The schedule of the section `scheduler` of config.yaml.

    `reduce_lr` is stepped once per epoch with a loss. `cosine` and `cosine_warm` are stepped after
    each step of the optimizer, of which an epoch has ceil(batches / gradient_accumulation_steps);
    the lengths in the configuration are epochs, for `cosine` and `warmup` also parts of one.
    `warmup` comes before them and is linear. UserError (a ValueError) for what cannot be used.
    """
    name = scheduler_config.get("name")
    if name not in ("reduce_lr", "cosine", "cosine_warm"):
        raise UserError(f"scheduler.name {name!r}: choose one of reduce_lr, cosine, cosine_warm")
    used = {key: scheduler_config.get(key) for key in (name, "warmup")}
    reject_text_numbers(used, "scheduler")  # the course's own file has one in a section that is not
    warmup = _section(scheduler_config, "warmup")
    if name == "reduce_lr" and warmup["enabled"]:
        raise UserError(
            "scheduler.warmup: reduce_lr goes by epochs and takes no warm-up; set enabled to False"
        )
    steps = _steps_per_epoch(train_loader, gradient_accumulation_steps)
    try:
        scheduler = _base_scheduler(optimizer, name, _section(scheduler_config, name), steps)
        return _after_warmup(optimizer, scheduler, warmup, steps)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise UserError(f"scheduler {name}: {error}; correct it in the configuration") from None


def _section(scheduler_config: dict, name: str) -> dict:
    """The values of a section, with the defaults for those that it lacks.

    Other keys are left out.
    """
    given = scheduler_config.get(name) or {}
    if not isinstance(given, dict):
        raise UserError(f"scheduler.{name}: {shown(given)}; give a section")
    return {key: given.get(key, default) for key, default in DEFAULTS[name].items()}


def _steps_per_epoch(train_loader: DataLoader, gradient_accumulation_steps: int) -> int:
    return math.ceil(len(train_loader) / gradient_accumulation_steps)


def _in_steps(key: str, epochs: float, steps: int, least: int = 1) -> int:
    exact = epochs * steps
    length = round(min(exact, LONGEST))
    if not least <= length < LONGEST:
        raise ValueError(f"{key} is {epochs} epochs, {exact:.0f} steps")
    return length


def _base_scheduler(optimizer: Optimizer, name: str, section: dict, steps: int) -> LRScheduler:
    """The schedule without warm-up, its lengths in steps."""
    if name == "reduce_lr":
        return ReduceLROnPlateau(optimizer, **section)
    if name == "cosine":
        return CosineAnnealingLR(
            optimizer, **section | {"T_max": _in_steps("T_max", section["T_max"], steps)}
        )
    return CosineAnnealingWarmRestarts(optimizer, **section | {"T_0": section["T_0"] * steps})


def _after_warmup(
    optimizer: Optimizer, scheduler: LRScheduler, warmup: dict, steps: int
) -> LRScheduler:
    """A linear rise over the first epochs, then the schedule.

    The schedule alone if there is no warm-up.
    """
    length = 0
    if warmup["enabled"]:
        length = _in_steps("warmup.epochs", warmup["epochs"], steps, least=0)
    if length == 0:
        return scheduler
    rise = LinearLR(optimizer, warmup["start_factor"], warmup["end_factor"], total_iters=length)
    return SequentialLR(optimizer, [rise, scheduler], milestones=[length])


def plot_lr_schedule(
    scheduler: LRScheduler, num_epochs: int, train_loader: DataLoader,
    gradient_accumulation_steps: int = 1,
    max_groups: int = 5,
) -> None:
    """Draw the learning rate of the first `max_groups` groups; the schedule stays as it was.

    `reduce_lr` is drawn as the constant that it is as long as the loss falls.
    """
    from matplotlib import pyplot as plt

    steps = _steps_per_epoch(train_loader, gradient_accumulation_steps)
    rates = _simulate(scheduler, num_epochs * steps)  # one list for each step
    epochs = [step / steps for step in range(len(rates))]
    names = [
        group.get("name", f"group {i}") for i, group in enumerate(scheduler.optimizer.param_groups)
    ]
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for name, rate in list(zip(names, zip(*rates, strict=True), strict=True))[:max_groups]:
        axes.plot(epochs, rate, label=name)
    axes.set(xlabel="epoch", ylabel="learning rate", yscale="log")
    axes.secondary_xaxis(
        "top", functions=(lambda x: x * steps, lambda x: x / steps)
    ).set_xlabel("step")
    axes.grid(alpha=0.3)
    axes.legend()
    plt.show()


def _simulate(scheduler: LRScheduler, steps: int) -> list[list[float]]:
    """The learning rates of all groups before each step.

    The schedule and its optimizer are restored afterwards.
    """
    groups = scheduler.optimizer.param_groups
    state, before = copy.deepcopy(scheduler.state_dict()), [group["lr"] for group in groups]
    rates = []
    with warnings.catch_warnings():
        # The schedule steps here without the optimizer, which torch warns of.
        warnings.simplefilter("ignore")
        for _ in range(steps):
            rates.append([group["lr"] for group in groups])
            if not isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step()
    scheduler.load_state_dict(state)
    for group, lr in zip(groups, before, strict=True):
        group["lr"] = lr
    return rates
