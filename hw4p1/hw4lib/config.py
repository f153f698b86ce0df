"""Reading a configuration.

The shipped config.yaml, or asr_config.yaml, with what another file and the command line replace.
"""

import copy
import difflib
import math
from pathlib import Path
from typing import NamedTuple

from .errors import UserError
from .reading import CONTROL, shown
from .yaml_files import parse_yaml, read_yaml

SHIPPED = Path(__file__).resolve().parent.parent / "config.yaml"
LARGEST_NUMBER = 2**31 - 1
LIMITS = {  # least and most
    "data.batch_size": (1, 10**6), "data.NUM_WORKERS": (0, 1000),
    "model.d_model": (1, 10**6), "model.d_ff": (1, 10**6), "model.num_layers": (1, 1000),
    "model.num_heads": (1, 10**6), "training.epochs": (1, LARGEST_NUMBER),
    "training.gradient_accumulation_steps": (1, LARGEST_NUMBER),
    "training.seed": (0, LARGEST_NUMBER),
    "training.gradient_clip": (0, LARGEST_NUMBER),
}  # fmt: skip
FOUND = ("max_len", "num_classes")  # of the data and the tokenizer, by run_lm.py
# What a checkpoint says of the data; of this kind are the values there.
TRAINED_ON = {
    "folder": "", "made_of": [], "transcripts": 0, "characters": 0, "tokens": 0, "sha256": "",
    "val_sha256": "", "tokenizer_sha256": "",
}
# Parts of a section of which a setting chooses one, and settings that a switch turns off.
CHOICES = (
    ("optimizer", ("sgd", "adam", "adamw"), "optimizer.name"),
    ("scheduler", ("reduce_lr", "cosine", "cosine_warm"), "scheduler.name"),
    ("tokenization.token_map", ("char", "1k", "5k", "10k"), "tokenization.token_type"),
)
SWITCHES = (
    ("scheduler.warmup.", "scheduler.warmup.enabled"), ("training.wandb_", "training.use_wandb"),
)  # fmt: skip
SHARES = ("model.dropout", "model.layer_drop_rate", "loss.label_smoothing")


class Schema(NamedTuple):
    """What a program's configuration has: the shipped file, limits, what a checkpoint adds."""

    program: str
    run: str  # the name of a run that is given none
    shipped: Path
    limits: dict[str, tuple[int, int]]
    trained_on: dict


LM = Schema("run_lm.py", "lm", SHIPPED, LIMITS, TRAINED_ON)


def load_config(
    path: str | Path = SHIPPED, settings: list[str] | None = None, base: dict | None = None,
    schema: Schema = LM,
) -> dict:
    """The configuration in a YAML file; what the file lacks is as in `base`, else the shipped one.

    That is the one of the `schema`.

    Each of `settings` is `section.key=value` and replaces a value. UserError that names file and
    key for a key that there is not, or a value of another kind than the shipped one.
    """
    config = copy.deepcopy(base) or read_yaml(schema.shipped)
    if Path(path) != schema.shipped:
        given = read_yaml(path)
        # Which the config.yaml of a run has, as it has the model's two sizes below.
        given.pop("trained_on", None)
        if isinstance(given.get("model"), dict):
            given["model"] = {
                key: value for key, value in given["model"].items() if key not in FOUND
            }
        _replace(config, given, str(path))
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        source = f"--set {setting[:100]}"
        if not equals:
            raise UserError(f"{source}: write section.key=value, for example model.num_layers=6")
        given = parse_yaml(value, source)
        for part in reversed(key.split(".")):
            given = {part: given}
        _replace(config, given, source)
    _check_limits(config, str(path), schema)
    return config


def settings_of(config: dict) -> dict:
    """The configuration of a run without what its data and its tokenizer have added."""
    settings = {key: value for key, value in config.items() if key != "trained_on"}
    settings["model"] = {key: value for key, value in config["model"].items() if key not in FOUND}
    return settings


def idle_settings(settings: list[str], config: dict) -> list[str]:
    """A note on each of `settings` that does nothing in a configuration."""
    reasons = [(setting, reason_to_idle(setting.partition("=")[0], config)) for setting in settings]
    return [f"note: --set {setting} does nothing, as {why}" for setting, why in reasons if why]


def reason_to_idle(key: str, config: dict) -> str:
    """The value of another setting that makes the one of this key do nothing, or nothing."""
    for section, parts, by in CHOICES:
        chosen = str(value_of(by, config)).lower()
        part = key.removeprefix(f"{section}.").split(".")[0]
        if key.startswith(f"{section}.") and part in parts and part != chosen:
            return f"{by} is {chosen}"
    for start, by in SWITCHES:
        if key.startswith(start) and key != by and not value_of(by, config):
            return f"{by} is False"
    return ""


def value_of(key: str, config: dict) -> object:
    """The value of `section.key`."""
    value = config
    for part in key.split("."):
        value = value[part]
    return value


def complete_config(given: object, source: str, schema: Schema = LM) -> dict:
    """The configuration that a checkpoint has, with the model's sizes and what it was trained on.

    UserError that names the `source` and what is wrong if it is not of a run of the program.
    """
    shipped = read_yaml(schema.shipped)
    not_ours = f"it is not of {schema.program}, train anew"
    if not isinstance(given, dict):
        raise UserError(f"{source}: it has no configuration; {not_ours}")
    if lacking := {*shipped, "trained_on"} - given.keys():
        raise UserError(f"{source}: its configuration has no {min(lacking)}; {not_ours}")
    trained_on = given["trained_on"]
    if isinstance(trained_on, dict) and not trained_on.keys() <= schema.trained_on.keys():
        raise UserError(f"{source}: it is a model of another kind; {not_ours}")
    config = {**shipped, "trained_on": dict(schema.trained_on)}
    config["model"] |= dict.fromkeys(FOUND, 1)
    if isinstance(given["model"], dict) and (lacking := {*FOUND} - given["model"].keys()):
        raise UserError(f"{source}: its configuration has no model.{min(lacking)}; {not_ours}")
    _replace(config, given, source)
    _check_limits(config, source, schema)
    if min(config["model"][name] for name in FOUND) < 1:
        raise UserError(f"{source}: a size of its model is below 1; {not_ours}")
    if "tokenizer_sha256" not in trained_on:  # of an older run
        del config["trained_on"]["tokenizer_sha256"]
    return config


def _check_limits(config: dict, source: str, schema: Schema) -> None:
    """UserError for a number that is too small or too large for what it sets."""
    for key, (least, most) in schema.limits.items():
        value = value_of(key, config)
        if not least <= value <= most:
            bound = f"at least {least}" if value < least else f"at most {most:,}"
            raise UserError(f"{source}: {key} is {value}; give {bound}")
    for key in SHARES:
        value = value_of(key, config)
        if not 0 <= value < 1:
            raise UserError(f"{source}: {key} is {value}; give at least 0 and less than 1")


def _replace(
    config: dict, given: dict, source: str, place: str = "", names: list[str] | None = None
) -> None:
    """Put the values of `given` into `config`, section by section, in place.

    `names` are all settings that there are.
    """
    names = names or _names(config)
    for key, value in given.items():
        name = f"{place}{str(key)[:60]}"
        if key not in config:
            near = _nearest_setting(name, [f"{place}{other}" for other in config], names)
            hint = f"did you mean {near}?" if near else f"there are {', '.join(map(str, config))}"
            raise UserError(f"{source}: there is no setting {name}; {hint}")
        if isinstance(config[key], dict) and isinstance(value, dict):
            _replace(config[key], value, source, f"{name}.", names)
        elif (wanted := kind(config[key])) in (kind(value), kind(value).replace("whole ", "")):
            _check_values(value, source, name)
            config[key] = float(value) if wanted == "number" else value
        else:
            hint = ""
            if wanted == "number" and kind(value) == "text":
                hint = " (YAML takes 1e-4 for text: write 1.0e-4)"
            raise UserError(
                f"{source}: {name} is {shown(value)}, which is {kind(value)}; give a {wanted}{hint}"
            )


def _nearest_setting(name: str, beside: list[str], names: list[str]) -> str:
    """The setting that may be meant by a name: one that ends alike, or is spelled nearly alike.

    Those `beside` it, in its section, come first. Empty if there is none.
    """
    alike = [one for one in names if one.rpartition(".")[2] == name.rpartition(".")[2]]
    near = difflib.get_close_matches(name, beside, 1) or difflib.get_close_matches(name, names, 1)
    return next(iter([*sorted(alike, key=len), *near]), "")


def _names(section: dict, place: str = "") -> list[str]:
    """All settings in a section, as `optimizer.adam.eps`."""
    names = []
    for key, value in section.items():
        names += _names(value, f"{place}{key}.") if isinstance(value, dict) else [f"{place}{key}"]
    return names


def _check_values(value: object, source: str, name: str) -> None:
    """UserError for what a program may choke on later, in a list too."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_values(item, source, f"{name}.{str(key)[:60]}")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _check_values(item, source, f"{name}[{i}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{source}: {name} is {value}; give a finite number")
    elif isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        raise UserError(f"{source}: {name} is {shown(value)}; give at most {LARGEST_NUMBER:,}")
    elif isinstance(value, str) and CONTROL.search(value):
        raise UserError(f"{source}: {name} is {shown(value)}; take the control character out")
    elif value is not None and not isinstance(value, (float, int, str)):  # of a checkpoint
        raise UserError(f"{source}: {name} is {shown(value)}; give a number or a text")


def kind(value: object) -> str:
    """What a value of YAML is called here. A whole number is good where any number is."""
    names = {
        bool: "True or False", int: "whole number", float: "number", str: "text", list: "list",
        dict: "section",
    }
    return names.get(type(value), "nothing")


def first_difference(one: object, other: object, place: str = "") -> str | None:
    """`section.key: this, that` for the first value in which two configurations differ.

    None if none does.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [*one, *(key for key in other if key not in one)]
        found = (
            first_difference(one.get(k), other.get(k), f"{place}.{k}" if place else str(k))
            for k in keys
        )
        return next(filter(None, found), None)
    return None if one == other else f"{place}: {one!r}, {other!r}"
