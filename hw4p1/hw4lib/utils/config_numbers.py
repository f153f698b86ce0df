"""A trap of YAML."""

from ..errors import UserError
from ..reading import shown

TEXTS = ("name", "patterns")  # keys whose values may well be digits


def reject_text_numbers(config: object, place: str) -> None:
    """UserError for a number that is text, anywhere in a configuration of dicts and lists.

    YAML 1.1 reads 1e-4 so.
    """
    if isinstance(config, dict):
        for key, value in config.items():
            if key not in TEXTS:
                reject_text_numbers(value, f"{place}.{key}")
    elif isinstance(config, list):
        for i, value in enumerate(config):
            reject_text_numbers(value, f"{place}[{i}]")
    elif isinstance(config, str) and _is_number(config):
        raise UserError(
            f"{place}: {shown(config)} is text and not a number; YAML wants it as "
            f"{float(config):.1e}"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
