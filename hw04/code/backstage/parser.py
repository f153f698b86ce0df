"""Command lines: a parser whose errors are one line, and whole numbers in a range."""

import argparse
import re
import sys
from collections.abc import Callable

from backstage.errors import UserError


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and which takes any negative number as a value.

    No flag may be shortened to its beginning.
    """

    def __init__(self, program: str, description: str | None, **more):
        ours = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(program, description=description, **ours | more)

    def parse_known_args(self, args=None, namespace=None):
        """As that of argparse, which would take -5e-1 or -inf for a flag."""
        given = sys.argv[1:] if args is None else args
        return super().parse_known_args(with_negative_numbers(given), namespace)

    def error(self, message: str):
        raise UserError(f"{message} ({self.prog} -h lists the flags)")


def with_negative_numbers(given: list[str]) -> list[str]:
    """A command line with `-fpenalty=-5e-1` for `-fpenalty -5e-1`, and so for each such number."""
    joined = []
    for text in given:
        if joined and is_flag(joined[-1]) and is_negative_number(text):
            joined[-1] += f"={text}"
        else:
            joined.append(text)
    return joined


def is_flag(text: str) -> bool:
    """Whether it may be a flag whose value is the next word of the command line."""
    return re.fullmatch(r"--?[A-Za-z]\w*", text) is not None and not is_negative_number(text)


def is_negative_number(text: str) -> bool:
    """Whether Python reads it as a number below zero, or as -nan."""
    try:
        float(text)
    except ValueError:
        return False
    return text.startswith("-")


def whole(least: int, most: int = 10**9) -> Callable[[str], int]:
    """A type for argparse: whole numbers in this range."""

    def number(text: str) -> int:
        if not re.fullmatch(r"-?\d{1,18}", text) or not least <= int(text) <= most:
            how = f"give a whole number of at least {least} and at most {most}"
            raise argparse.ArgumentTypeError(f"{text[:40]}: {how}")
        return int(text)

    return number


positive = whole(1)
