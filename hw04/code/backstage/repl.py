"""The interactive modes: what a person types, its commands, and the words shown back."""

import contextlib
import difflib
import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import fields, replace

from backstage.bpe import to_word_pieces
from backstage.checkpoint import Loaded
from backstage.corpora import SPECIAL
from backstage.errors import UserError
from backstage.files import to_json
from backstage.idle import DRAWING
from backstage.parser import nearest
from backstage.raw_text import typed
from backstage.sampling import Sampling
from backstage.words import printable, tokenize_text

HELP = """\
Type the beginning of a story; an empty line is the very beginning. Or a command:
  :greedy [on|off]   take the most probable token     :fp X       frequency penalty, -2 to 2
  :temp X            temperature, 0 is greedy         :top K      only the K most probable
  :top_p X           only the most probable share X   :min_p X    X of the best one's chance or more
  :show              the settings                     :help       this
  :quit or Ctrl-D    leave"""
NOT_UTF8 = "is not UTF-8; convert it"
LONGEST_SHOWN = 60  # characters of a word
COMMANDS = {
    ":greedy": "greedy", ":fp": "fpenalty", ":temp": "temperature", ":top": "top_k",
    ":top_p": "top_p", ":min_p": "min_p",
}
SETTINGS = {**COMMANDS, **{f":{field.name}": field.name for field in fields(Sampling)}}
LEAVE = (":quit", ":q", ":exit")


def read_prompts(args: Namespace, label: str) -> Iterator[str]:
    """What the person gives: `-text`, else line after line of standard input.

    On a terminal lines can be edited. Lines that begin with a colon are commands, which change
    `args.sampling`.
    """
    if args.text is not None:
        yield as_typed(args.text, "-text")
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - importing it gives input() its history and line editing
    terminal = sys.stdin.isatty()
    if terminal and not args.json:
        print(HELP)
    for line in read_lines(label, terminal):
        if line.strip() in LEAVE:
            return
        if not args.json:
            show = args.trace if terminal else print
            show(f"{label}{printable(line)}")
        if line.lstrip().startswith(":"):
            args.sampling = command(line, args.sampling)
        else:
            yield line


def read_lines(label: str, terminal: bool) -> Iterator[str]:
    """The lines of standard input, whatever ends them."""
    try:
        while True:
            text = as_typed(input(label if terminal else ""), "standard input")
            yield from text.split("\n")
    except EOFError:
        if terminal:
            print()
    except UnicodeDecodeError:
        raise UserError(f"standard input {NOT_UTF8}, or set PYTHONIOENCODING") from None


def as_typed(text: str, source: str) -> str:
    """What `typed` makes of a text. Raises UserError that names its source if it is not UTF-8."""
    try:
        return typed(text)
    except ValueError:
        raise UserError(f"{source} {NOT_UTF8}") from None


def command(text: str, sampling: Sampling) -> Sampling:
    """Carry out a `:command`; returns the settings after it."""
    name, *values = text.split()
    setting = SETTINGS.get(name)
    try:
        if setting == "greedy" and values in ([], ["on"], ["off"]):
            sampling = replace(sampling, greedy=values != ["off"])
        elif setting and setting != "greedy" and len(values) == 1:
            kind = type(getattr(sampling, setting))
            sampling = replace(sampling, **{setting: kind(values[0])})
        elif name == ":help":
            print(HELP)
            return sampling
        elif name != ":show":
            near = nearest(name, [*SETTINGS, *LEAVE, ":show", ":help"])
            hint = f"did you mean {near}?" if near not in ("", name) else "no such command"
            if setting:
                hint = "give it one value" if setting != "greedy" else "give it on, off or nothing"
            print(f"{printable(text)}: not understood, {hint}; :help lists the commands")
            return sampling
    except ValueError:
        number = "a whole number" if setting == "top_k" else "a number"
        print(f"{printable(text)}: needs {number}")
    except UserError as error:
        print(error)
    print("  ".join(f"{name} {getattr(sampling, setting)}" for name, setting in COMMANDS.items()))
    if setting in DRAWING and sampling.is_greedy():
        print("note: the most probable token is taken all the same, until :greedy off")
    return sampling


def understand(text: str, loaded: Loaded, quiet: bool) -> list[str]:
    """The tokens of a typed text, shown back unless `quiet`, unknown ones with the nearest word."""
    words = to_word_pieces([tokenize_text(text, loaded.config.cased)], loaded.bpe)[0]
    if quiet:
        return words
    shown = []
    for word in words[-60:]:
        known = word in loaded.token2idx
        short = abridged(word)
        shown.append(loaded.shown(short) if known else describe_unknown(short, loaded.words))
    more = "... " if len(words) > 60 else ""
    print(f"tokens: {more}{' '.join(shown)}" if words else "no words: starting from <bos>")
    return words


def abridged(word: str) -> str:
    """The beginning of a word that is too long to be shown, else the word."""
    return word if len(word) <= LONGEST_SHOWN else f"{word[:LONGEST_SHOWN]}..."


def describe_unknown(word: str, vocabulary: list[str]) -> str:
    """How a word that is not in the vocabulary is shown: `[dgo is unknown, like dog]`."""
    near = difflib.get_close_matches(word, vocabulary[len(SPECIAL) :], 1, 0.5)
    like = "".join(f", like {printable(abridged(other))}" for other in near)
    return f"[{printable(word)} is unknown{like}]"


def choose_seed(args: Namespace) -> int:
    """`-seed`, or a number drawn now."""
    return draw_seed() if args.seed is None else args.seed


def draw_seed() -> int:
    """A number that nobody knows before."""
    return int.from_bytes(os.urandom(3), "big")


def show_next(
    args: Namespace, loaded: Loaded, text: str, best: list[tuple[str, float]], picked: int,
    seed: int,
) -> None:
    """Print the most probable tokens after a text, and the one that was picked with `seed`."""
    if args.json:
        tokens, probs = zip(*best, strict=True)
        record = {"mode": "use", "text": text, "tokens": tokens, "probs": probs}
        print(to_json(record), file=args.out, flush=True)
        return
    how = ""
    if not args.sampling.is_greedy():
        how = f"   (drawn with -seed {seed}; :greedy takes the most probable)"
    print(f"next:   {loaded.shown(loaded.words[picked])}{how}")
    for word, p in best:
        print(f"  {loaded.shown(word):>14} {p:6.1%} {'█' * round(40 * p)}".rstrip())
