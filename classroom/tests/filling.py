"""Answers put into the skeleton, as a student would."""

import re
from pathlib import Path
from textwrap import dedent, indent

from parts import PARTS
from skeleton import with_block

EMPTY = r"( +)# YOUR CODE HERE\n(?: +#.*\n)+ +raise NotImplementedError\(\"item \w+: {name}\"\)\n"


def fill_hw04(source: str, answers: dict[str, str]) -> str:
    """lstlm.py with these answers in the blocks of their items."""
    for item, answer in answers.items():
        source = with_block(source, item, answer)
    return source


def fill_hw4p1(folder: Path, answers: dict[str, str]) -> None:
    """Put these answers into the functions of a skeleton's folder."""
    for part in PARTS:
        path = folder / part.file
        text = path.read_text()
        for name in part.write:
            if name not in answers:
                continue
            found = re.search(EMPTY.format(name=re.escape(name)), text)
            answer = indent(dedent(answers[name]).strip("\n") + "\n", found[1])
            text = text[: found.start()] + answer + text[found.end() :]
        path.write_text(text)
