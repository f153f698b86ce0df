"""The program on a terminal: lines that fit, Ctrl-C, pasted text, and what `-use` has drawn."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import struct
import sys
import termios
import time

import lstlm
import pytest

CODES = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")


class Terminal:
    """lstlm.py in a process of its own that has a terminal of so many columns."""

    def __init__(self, columns: int, *argv: object):
        self.text = ""
        self.child, self.master = pty.fork()
        if not self.child:
            run_in_child(columns, [*map(str, argv)])

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *error) -> None:
        os.close(self.master)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.child, 9)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.child, 0)

    def read(self, until: str = "", seconds: float = 30) -> str:
        """What is printed from now on, up to a text, or to the end."""
        begin = len(self.text)
        deadline = time.monotonic() + seconds
        while not until or until not in self.text[begin:]:
            left = deadline - time.monotonic()
            assert left > 0, self.text
            if select.select([self.master], [], [], left)[0]:
                try:
                    data = os.read(self.master, 1 << 16)
                except OSError:  # it has ended
                    data = b""
                if not data:
                    assert not until, self.text
                    break
                self.text += data.decode()
        return CODES.sub("", self.text[begin:])

    def type(self, text: str, until: str = "words> ") -> str:
        """Type a text; what is printed after it."""
        os.write(self.master, text.encode())
        return self.read(until)

    def interrupt(self) -> None:
        """Press Ctrl-C, once nothing else goes on.

        Python's readline looks for signals while it waits for letters, and not before.
        """
        time.sleep(0.3)
        os.write(self.master, b"\x03")

    def end(self) -> int:
        """Its exit status, once it has ended."""
        self.read()
        return os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])


def run_in_child(columns: int, argv: list[str]) -> None:
    """What the process does, which never returns; it has no more than the terminal."""
    status = 99
    try:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        os.environ.update(TERM="xterm", LINES="", COLUMNS="")
        sys.stdin = open(0)  # noqa: SIM115 - until the process ends
        sys.stdout = open(1, "w")  # noqa: SIM115
        sys.stderr = open(2, "w")  # noqa: SIM115
        sys.__stdout__ = sys.stdout
        sys.argv = ["lstlm.py", *argv]
        status = lstlm.main(argv)
        sys.stdout.flush()
    except SystemExit as exit:
        status = exit.code or 0
        sys.stdout.flush()
    finally:
        os._exit(status)


@pytest.fixture
def use(trained):
    """A function that starts `-use` or another mode with the small model, and waits until it asks.
    """

    @contextlib.contextmanager
    def start(*flags, columns: int = 80, ask: str = "words> "):
        with Terminal(columns, *(flags or ["-use", "-greedy"]), "-model", trained / "m.pt") as it:
            it.read(ask)
            yield it

    return start


def lines_of(text: str) -> list[str]:
    """The lines that a text leaves on a terminal."""
    return [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]


def check_fits(text: str, columns: int, *whole: str) -> None:
    """No line of words is longer than the terminal is wide, and these are words of it."""
    assert [line for line in lines_of(text) if len(line) > columns and " " in line] == []
    assert {*whole} <= {*text.split()}, text


@pytest.mark.parametrize("columns", [40, 80])
def test_lines_of_the_interactive_modes_fit(use, columns):
    with use("-use", columns=columns) as it:
        text = it.text + it.type(":help\r") + it.type(":nope\r") + it.type(":top 4\r")
        # A line that is longer than the terminal has the label twice, so the bars say it has ended.
        text += it.type("once upon a zyxzy and then the little rabbit ran to the old mill\r", "█")
    shown = re.sub(r"words> [^\n]*", "", CODES.sub("", text))  # what is typed is the editor's
    check_fits(shown, columns, "frequency", "probable", "understood,", "unknown]", "chance")
    assert "█" in shown


@pytest.mark.parametrize("columns", [40, 80])
def test_the_lines_of_a_training_fit(tiny_flags, columns):
    with Terminal(columns, *tiny_flags("-E", 2, "-locked")) as it:
        text = it.read()
    check_fits(text, columns, "(perplexity", "tokens/s,", "saved", "fewer", "-dropout")
    assert sum(line.startswith("epoch") for line in lines_of(text)) == 2


@pytest.mark.parametrize("columns", [40, 80])
@pytest.mark.parametrize("flags", [["-h"], ["-use", "-model", "no/such/model/in/any/place.pt"]])
def test_help_and_errors_fit(columns, flags):
    with Terminal(columns, *flags) as it:
        check_fits(it.read(), columns, *(["-continue", "vocabulary"] if "-h" in flags else ["no"]))


def test_the_table_and_a_story_fit(trained, use):
    flags = ["-evaluate", "-test_corpus", trained / "valid.tokens"]
    with Terminal(40, *flags, "-model", trained / "m.pt") as it:
        check_fits(it.read().replace(str(trained / "valid.tokens"), ""), 120, "bits/char")
    flags = ["-prompt", "-seed", 1, "-max_tokens", 60, "-text", "once upon a time there was"]
    with Terminal(40, *flags, "-model", trained / "m.pt") as it:
        check_fits(it.read(), 40, "Once", "ended")


# ---- Typing -------------------------------------------------------------------------------------


def test_ctrl_c_clears_a_half_typed_line_and_leaves_on_an_empty_one(use):
    with use() as it:
        it.type("the half", until="half")
        it.interrupt()
        assert "next:" not in it.read("words> ")
        assert "tokens: once upon a\r\nnext:   time\r\n" in it.type("once upon a\r")
        it.interrupt()
        assert it.end() == 130
        assert "lstlm.py: interrupted" in it.text


def test_a_pasted_text_is_one_prompt(use):
    with use() as it:
        pasted = it.type("\x1b[200~once upon\na time\n\nthere was\x1b[201~\r")
        assert "tokens: once upon a time there was\r\n" in pasted
        assert pasted.count("next:") == 1
        assert it.type("a b\r").count("next:") == 1
        os.write(it.master, b"\x04")
        assert it.end() == 0


def test_lines_of_a_pipe_are_prompts_each(call, trained):
    done = call("-use", "-greedy", "-model", trained / "m.pt", text="once upon\na time\n")
    assert done.stdout.count("next:") == 2


# ---- What was drawn -----------------------------------------------------------------------------


def rows_of(text: str) -> list[tuple[str, float, bool]]:
    """The words of a list, their chances, and whether they are marked as drawn."""
    rows = re.findall(r"^ +(\S+) +([\d.]+)% ?█*( <- drawn)?$", text, re.M)
    return [(word, float(p), bool(mark)) for word, p, mark in rows]


def test_use_says_which_word_was_drawn_from_what(call, trained):
    ask = ["-use", "-model", trained / "m.pt", "-text", "the"]
    outside = 0
    for seed in range(12):
        text = call(*ask, "-seed", seed).stdout
        how = rf"^next:   (\S+)   \(drawn with -seed {seed}, its chance is ([\d.]+)%; :greedy takes"
        word, chance = re.search(how, text, re.M).groups()
        assert "\nthe most probable:\n" in text
        rows = rows_of(text)
        assert [row for row in rows if row[2]] == [(word, float(chance), True)]
        outside += len(rows) == 11
    assert outside  # a word that is not among the ten is shown below them
    text = call(*ask, "-seed", 1, "-temperature", 0.5, "-top_k", 3).stdout
    assert "\nthe most probable with -temperature 0.5 -top_k 3:\n" in text
    assert len(rows_of(text)) == 3 and sum(p for _, p, _ in rows_of(text)) == pytest.approx(100, .1)
    greedy = call(*ask, "-greedy").stdout
    assert "drawn" not in greedy and "the most probable" not in greedy
    assert re.search(r"^next:   (\S+)\n +\1 ", greedy, re.M)


def test_json_names_the_unknown_words(call, trained):


    for mode in ("-use", "-prompt"):
        flags = [mode, "-json", "-greedy", "-max_tokens", 2, "-model", trained / "m.pt"]
        out = call(*flags[:3], *flags[3:] if mode == "-prompt" else flags[5:],
                   text="the Zyxzy qwv and zyxzy\nthe\n").stdout
        first, second = map(json.loads, out.splitlines())
        assert (first["unknown"], second["unknown"]) == (["zyxzy", "qwv"], [])
    said = call("-use", "-model", trained / "m.pt", "-text", "the Zyxzy qwv").stdout
    assert "[zyxzy is unknown" in said and "[qwv is unknown" in said
