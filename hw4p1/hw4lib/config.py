"""Reading a configuration.

The shipped config.yaml, with what another file and the command line replace.
"""

import copy
import difflib
from pathlib import Path

import yaml

from .errors import UserError

SHIPPED = Path(__file__).resolve().parent.parent / "config.yaml"
AT_LEAST_ONE = (
    "data.batch_size", "model.d_model", "model.d_ff", "model.num_layers", "model.num_heads",
    "training.epochs", "training.gradient_accumulation_steps",
)
FOUND = ("max_len", "num_classes")  # of the data and the tokenizer, by run_lm.py
SHARES = ("model.dropout", "model.layer_drop_rate", "loss.label_smoothing")


def load_config(path: str | Path = SHIPPED, settings: list[str] | None = None) -> dict:
    """The configuration in a YAML file; what the file lacks is as in the shipped one.

    Each of `settings` is `section.key=value` and replaces a value. UserError that names file and
    key for a key that there is not, or a value of another kind than the shipped one.
    """
    config = _read(SHIPPED)
    if Path(path) != SHIPPED:
        given = _read(path)
        # Which the config.yaml of a run has, as it has the model's two sizes below.
        given.pop("trained_on", None)
        if isinstance(given.get("model"), dict):
            given["model"] = {
                key: value for key, value in given["model"].items() if key not in FOUND
            }
        _replace(config, given, str(path))
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UserError(
                f"--set {setting}: write section.key=value, for example model.num_layers=6"
            )
        given = _parse(value, f"--set {setting}")
        for part in reversed(key.split(".")):
            given = {part: given}
        _replace(config, given, f"--set {setting}")
    for key in (*AT_LEAST_ONE, *SHARES):
        section, name = key.split(".")
        value = config[section][name]
        if key in AT_LEAST_ONE and value < 1:
            raise UserError(f"{path}: {key} is {value}; give at least 1")
        if key in SHARES and not 0 <= value < 1:
            raise UserError(f"{path}: {key} is {value}; give at least 0 and less than 1")
    return config


def _read(path: str | Path) -> dict:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read as a configuration ({error.strerror}); give another path"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    config = _parse(text, str(path))
    if not isinstance(config, dict):
        raise UserError(
            f"{path}: not a configuration; write sections with keys as in {SHIPPED.name}"
        )
    return config


def _parse(text: str, source: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{source}:{mark.line + 1}" if mark else source
        raise UserError(
            f"{place}: not YAML ({getattr(error, 'problem', None) or 'unreadable'}); mend it"
        ) from None


def _replace(config: dict, given: dict, source: str, place: str = "") -> None:
    """Put the values of `given` into `config`, section by section, in place."""
    for key, value in given.items():
        name = f"{place}{key}"
        if key not in config:
            near = difflib.get_close_matches(str(key), map(str, config), 1)
            hint = f"there are {', '.join(map(str, config))}"
            if near:
                hint = f"did you mean {place}{near[0]}?"
            raise UserError(f"{source}: there is no setting {name}; {hint}")
        if isinstance(config[key], dict) and isinstance(value, dict):
            _replace(config[key], value, source, f"{name}.")
        elif (wanted := kind(config[key])) in (kind(value), kind(value).replace("whole ", "")):
            config[key] = float(value) if wanted == "number" else copy.deepcopy(value)
        else:
            hint = ""
            if wanted == "number" and kind(value) == "text":
                hint = " (YAML takes 1e-4 for text: write 1.0e-4)"
            raise UserError(
                f"{source}: {name} is {value!r}, which is {kind(value)}; give a {wanted}{hint}"
            )


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
