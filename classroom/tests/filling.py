"""Answers put into the skeleton, as a student would."""

import re
from pathlib import Path
from textwrap import dedent, indent

import textbook
from mistakes import Mistake
from parts import PARTS
from skeleton import with_block

EMPTY = r"( +)# YOUR CODE HERE\n(?: +#.*\n)+ +raise NotImplementedError\(\"item \w+: {name}\"\)\n"


def fill_hw04(source: str, answers: dict[str, str]) -> str:
    """lstlm.py with these answers in the blocks of their items."""
    for item, answer in answers.items():
        source = with_block(source, item, answer)
    return source


def filled_hw4p1(read, answers: dict[str, str]) -> dict[str, str]:
    """The files of the second assignment's items with these answers; `read` gives a file's text."""
    found = {}
    for part in PARTS:
        text = read(part.file)
        for name in part.write:
            if name in answers:
                text = fill_function(text, name, answers[name])
        found[part.file] = text
    return found


def fill_function(text: str, name: str, answer: str) -> str:
    """A file's text with an answer in one of its empty functions."""
    empty = re.search(EMPTY.format(name=re.escape(name)), text)
    answer = indent(dedent(answer).strip("\n") + "\n", empty[1])
    return text[: empty.start()] + answer + text[empty.end() :]


def fill_folder(folder: Path, answers: dict[str, str]) -> None:
    """Put these answers into the functions of a folder with the second assignment's skeleton."""
    read = lambda name: (folder / name).read_text()  # noqa: E731
    for name, text in filled_hw4p1(read, answers).items():
        (folder / name).write_text(text)


def mistaken(mistake: Mistake) -> str:
    """The textbook's answer with a mistake in it."""
    answers = textbook.BLOCKS if mistake.where in textbook.BLOCKS else textbook.FUNCTIONS
    if not mistake.old:
        return mistake.new
    assert mistake.old in answers[mistake.where], mistake
    return answers[mistake.where].replace(mistake.old, mistake.new)
