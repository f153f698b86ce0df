"""The interactive modes: what a person types, and its commands."""

import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import fields, replace
from types import ModuleType

from backstage.errors import UserError
from backstage.idle import DRAWING
from backstage.parser import nearest
from backstage.raw_text import typed
from backstage.sampling import Sampling
from backstage.words import printable

HELP = """\
Type the beginning of a story; an empty line is the very beginning. Or one of:
  :greedy [on|off]   take the most probable token
  :fp X              frequency penalty, -2 to 2
  :temp X            temperature, 0 is greedy
  :top K             only the K most probable
  :top_p X           only the most probable share X
  :min_p X           X of the best one's chance or more
  :show              the settings
  :help              this
  :quit or Ctrl-D    leave
The names of the flags do, too: :fpenalty, :temperature, :top_k."""
NOT_UTF8 = "is not UTF-8; convert it"
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
    """The lines of standard input, whatever ends them; on a terminal each is one text."""
    editor = line_editor() if terminal else None
    try:
        while True:
            try:
                text = as_typed(input(label if terminal else ""), "standard input")
            except KeyboardInterrupt:  # clears a half-typed line, as in a shell
                if not (editor and editor.get_line_buffer()):
                    raise
                print()
                continue
            yield from [" ".join(text.split("\n"))] if terminal else text.split("\n")
    except EOFError:
        if terminal:
            print()
    except UnicodeDecodeError:
        raise UserError(f"standard input {NOT_UTF8}, or set PYTHONIOENCODING") from None


def line_editor() -> ModuleType | None:
    """What gives input() its history and line editing, if this Python has it.

    What is pasted stays one text, with its line ends, until Enter is pressed.
    """
    try:
        import readline
    except ImportError:
        return None
    if os.environ.get("TERM", "dumb") != "dumb" and "libedit" not in readline.__doc__:
        readline.parse_and_bind("set enable-bracketed-paste on")
    return readline


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


def choose_seed(args: Namespace) -> int:
    """`-seed`, or a number drawn now."""
    return draw_seed() if args.seed is None else args.seed


def draw_seed() -> int:
    """A number that nobody knows before."""
    return int.from_bytes(os.urandom(3), "big")
