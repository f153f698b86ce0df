"""How much of an answer is the published reference's, word for word: for a note, no verdict."""

import ast
import contextlib
import difflib
import io
import re
import tokenize

MARKED = r"(?s)# YOUR CODE HERE: BEGIN \({item}\)\n(.*?)# YOUR CODE HERE: END"
LEAST_TOKENS = 45  # of an answer: short ones are alike by themselves
MOST_LETTERS = 20_000  # of an answer that is compared
ALIKE = 0.92


def marked(source: str, item: str) -> str:
    """The marked block of an item; "" if there is none."""
    found = re.search(MARKED.format(item=item), source)
    return found[1] if found else ""


def function(source: str, name: str) -> str:
    """The text of a function or a method `Class.method`, without its docstring; "" if missing."""
    try:
        nodes = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    for step in name.split("."):
        node = next((n for n in nodes if getattr(n, "name", None) == step), None)
        if node is None:
            return ""
        nodes = node.body
    lines = source.splitlines()
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return "\n".join(lines[body[0].lineno - 1 : body[-1].end_lineno]) if body else ""


def words(text: str) -> list[str]:
    """A program's tokens without comments and layout, as far as it can be read."""
    text = "\n".join(line.strip() for line in text.splitlines())
    kinds = (tokenize.NAME, tokenize.NUMBER, tokenize.STRING, tokenize.OP)
    found: list[str] = []
    with contextlib.suppress(tokenize.TokenError, IndentationError, SyntaxError):
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            found += [token.string] * (token.type in kinds)
    return found


def alike(student: str, reference: str) -> bool:
    """Whether an answer is nearly the reference's, and long enough for that to mean something."""
    ours, theirs = words(reference), words(student[:MOST_LETTERS])
    if len(ours) < LEAST_TOKENS or not theirs:
        return False
    return difflib.SequenceMatcher(None, ours, theirs, autojunk=False).ratio() >= ALIKE


def note(places: list[str]) -> str:
    """What is said of answers that are alike."""
    where = ", ".join(places)
    return f"nearly word for word as in the published solution: {where}; look before you judge"
