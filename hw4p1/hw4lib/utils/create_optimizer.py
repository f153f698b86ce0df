"""The optimizer that a configuration describes."""

from collections import Counter

from torch import nn, optim

from ..errors import UserError
from ..reading import shown
from .config_numbers import reject_text_numbers

OPTIMIZERS = {  # name in the configuration -> class, and the options in the section of that name
    "sgd": (optim.SGD, ("momentum", "nesterov", "dampening")),
    "adam": (optim.Adam, ("betas", "eps", "amsgrad")),
    "adamw": (optim.AdamW, ("betas", "eps", "amsgrad")),
}


def create_optimizer(model: nn.Module, opt_config: dict) -> optim.Optimizer:
    """The optimizer of the section `optimizer` of config.yaml, for what of a model trains.

    `name`, `lr` and `weight_decay` are required. With `param_groups` each parameter is a group of
    its own with the learning rate of the first entry that has a part of its name in `patterns`,
    else the base rate; without, and with `layer_decay` enabled, with the base rate decayed; else
    there is one group, `model`. Decay means times `decay_rate` for each dot in the parameter's
    name. UserError (a ValueError) for what cannot be used.
    """
    reject_text_numbers(opt_config, "optimizer")
    for key in ("name", "lr", "weight_decay"):
        if key not in opt_config:
            raise UserError(f"optimizer.{key}: it is missing; set it in the configuration")
    name = str(opt_config["name"]).lower()
    if name not in OPTIMIZERS:
        raise UserError(
            f"optimizer.name {opt_config['name']!r}: choose one of {', '.join(OPTIMIZERS)}"
        )
    optimizer_class, keys = OPTIMIZERS[name]
    section = opt_config.get(name) or {}
    if not isinstance(section, dict):
        raise UserError(f"optimizer.{name}: {shown(section)}; give a section")
    options = {key: section[key] for key in keys if key in section}
    try:
        optimizer = optimizer_class(
            _groups(model, opt_config), lr=opt_config["lr"],
            weight_decay=opt_config["weight_decay"], **options
        )
    except UserError:
        raise
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise UserError(f"optimizer {name}: {error}; correct it in the configuration") from None
    _print_summary(optimizer)
    return optimizer


def _groups(model: nn.Module, opt_config: dict) -> list[dict]:
    """The parameter groups for torch: `params`, `lr` and `name` each."""
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    base, entries = opt_config["lr"], opt_config.get("param_groups")
    if entries:
        return [
            {"params": [p], "lr": _rate(name, entries, base), "name": name}
            for name, p in trainable.items()
        ]
    decay = opt_config.get("layer_decay")
    if _enabled(decay, "optimizer"):
        return [
            {"params": [p], "lr": _decayed(base, name, decay, "optimizer"), "name": name}
            for name, p in trainable.items()
        ]
    return [{"params": list(trainable.values()), "lr": base, "name": "model"}]


def _rate(name: str, entries: list[dict], base: float) -> float:
    """The learning rate of a parameter.

    That of the first entry of `param_groups` which matches its name.
    """
    place = "optimizer.param_groups"
    if not isinstance(entries, list):
        raise UserError(f"{place}: {shown(entries)}; give a list")
    for entry in entries:
        patterns = entry.get("patterns") or [] if isinstance(entry, dict) else None
        texts = isinstance(patterns, list) and all(isinstance(text, str) for text in patterns)
        if not texts or not isinstance(entry.get("lr", base), (int, float)):
            raise UserError(
                f"{place}: {shown(entry)}; patterns has to be a list of texts in it, and lr a "
                "number"
            )
        if any(pattern in name for pattern in patterns):
            return _decayed(entry.get("lr", base), name, entry.get("layer_decay"), place)
    return base


def _enabled(decay: dict | None, place: str) -> bool:
    """Whether a section `layer_decay` says so. UserError if it is something else."""
    if decay is None:
        return False
    enabled = isinstance(decay, dict) and bool(decay.get("enabled"))
    if not isinstance(decay, dict) or enabled and type(decay.get("decay_rate")) not in (int, float):
        raise UserError(
            f"{place}.layer_decay: {shown(decay)}; give a section with enabled and a number "
            "decay_rate"
        )
    return enabled


def _decayed(lr: float, name: str, decay: dict | None, place: str) -> float:
    return lr * decay["decay_rate"] ** name.count(".") if _enabled(decay, place) else lr


def _print_summary(optimizer: optim.Optimizer) -> None:
    """The class, and how many parameters learn at which rate."""
    print(
        f"optimizer {type(optimizer).__name__}, weight decay {optimizer.defaults['weight_decay']:g}"
    )
    sizes: Counter[float] = Counter()
    for group in optimizer.param_groups:
        sizes[group["lr"]] += sum(p.numel() for p in group["params"])
    for lr, size in sizes.items():
        print(f"  learning rate {lr:g}: {size:,} parameters")
