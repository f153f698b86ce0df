"""Command lines: a parser whose errors are one line, and whole numbers in a range."""

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Iterable

from backstage.errors import UserError


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and which takes any negative number as a value.

    One dash or two, `_` or `-` within: all are the same flag, and its beginning is enough where
    that is clear, as argparse has it for flags of one dash.
    """

    def __init__(self, program: str, description: str | None, **more):
        ours = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(program, description=description, **ours | more)

    def parse_args(self, args=None, namespace=None):
        """As that of argparse; a flag that there is not is answered with the nearest one."""
        parsed, rest = self.parse_known_args(args, namespace)
        if rest:
            self.refuse(rest)
        return parsed

    def parse_known_args(self, args=None, namespace=None):
        """As that of argparse, which would take -5e-1 or -inf for a flag."""
        given = sys.argv[1:] if args is None else args
        return super().parse_known_args(with_negative_numbers(self.spelled(given)), namespace)

    def spelled(self, given: list[str]) -> list[str]:
        """A command line with each flag as this parser has it: `-top_k` for `--top-k`."""
        known = {flag.lstrip("-").replace("-", "_"): flag for flag in self._option_string_actions}
        end = given.index("--") if "--" in given else len(given)
        texts = []
        for text in given[:end]:
            flag, *value = text.split("=", 1)
            if looks_like_flag(flag):
                name = flag.lstrip("-").replace("-", "_")
                flag = known.get(name, f"-{name}")
            texts.append("=".join([flag, *value]))
        return texts + given[end:]

    def refuse(self, rest: list[str]):
        """Raise UserError about words of the command line that no flag takes."""
        flag = next(filter(looks_like_flag, rest), "")
        near = nearest(flag.split("=")[0], self._option_string_actions)
        hint = f"; did you mean {near}?" if flag and near else ""
        self.error(f"{' '.join(rest)}: {'no such flag' if flag else 'no flag takes it'}{hint}")

    def error(self, message: str):
        raise UserError(f"{message} ({self.prog} -h lists the flags)")


def looks_like_flag(text: str) -> bool:
    """Whether a word of the command line is meant as a flag, perhaps with `=` and a value."""
    return re.match(r"--?[A-Za-z][\w-]*(=|\Z)", text) is not None and not is_negative_number(text)


def nearest(word: str, words: Iterable[str]) -> str:
    """The one of `words` that begins like a word, or else is most like it; empty if none is."""
    words = list(words)
    longer = [one for one in words if one.startswith(word) and len(word) > 2]
    return next(iter(longer or difflib.get_close_matches(word, words, 1)), "")


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
