"""What a person sees on a narrow terminal: no line is broken within a word."""

import contextlib
import io
import os
import pty
import re
import subprocess
import sys
import termios
import threading
from pathlib import Path

import make_data
import pytest
import run_lm
from hw4lib.entry import guarded
from hw4lib.errors import UserError
from hw4lib.output import folded

HW4P1 = Path(run_lm.__file__).parent
WIDTHS = [40, 80]


class Terminal(io.StringIO):
    """A terminal, as far as a program asks."""

    width = 0

    def isatty(self) -> bool:
        return True

    def shows(self, action) -> int:
        """What an action returns, whose output and errors go to this terminal."""
        with contextlib.redirect_stdout(self), contextlib.redirect_stderr(self):
            return action()


@pytest.fixture(params=WIDTHS)
def terminal(request, monkeypatch):
    """A terminal of so many columns; `.width` says how many."""
    monkeypatch.setenv("COLUMNS", str(request.param))
    screen = Terminal()
    screen.width = request.param
    return screen


def lines_of(text: str) -> list[str]:
    """What a terminal shows: of a line that is written again and again each state."""
    return [part for line in text.split("\n") for part in line.split("\r")]


def fits(text: str, width: int) -> None:
    """Assert that something is shown, and a line longer than the terminal only if it is a word."""
    assert len(text.split()) > 3
    assert [line for line in lines_of(text) if len(line) > width and " " in line.strip()] == []


# ---- Folding


def test_a_line_is_folded_between_words(terminal):
    text = "THE OLD CAT SAT ON A RED MAT AND SAW A DOG'S BIG BONE " * 9
    shown = folded(text.strip(), terminal)
    fits(shown, terminal.width)
    assert shown.split() == text.split()
    assert len(shown.splitlines()) < len(text) / terminal.width + 3
    assert min(map(len, shown.splitlines()[:-1])) > terminal.width - len("BONE ")


def test_what_follows_an_indented_line_is_indented_more(terminal):
    shown = folded("one\n    two " + "word " * 30, terminal).splitlines()
    assert shown[:1] == ["one"] and shown[1].startswith("    two word")
    assert all(re.match(r"      word", line) for line in shown[2:])


def test_a_line_that_fits_with_a_smaller_indent_is_not_folded(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    flag = "[--device {cpu,cuda}]"
    assert folded(" " * 26 + flag, Terminal()) == " " * 19 + flag
    shown = folded(" " * 26 + "word " * 9, Terminal()).splitlines()
    assert shown == [" " * 10 + " ".join(["word"] * 6), " " * 12 + " ".join(["word"] * 3)]


@pytest.mark.parametrize("text", ["", "a", "a\n\n  b\n", "x" * 200, "  " + "y" * 200])
def test_what_fits_or_is_one_word_stays_as_it_is(terminal, text):
    assert folded(text, terminal).split() == text.split()
    assert folded(text, terminal).count("\n") == text.count("\n")


def test_a_file_or_pipe_is_not_folded(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert folded("word " * 50, io.StringIO()) == "word " * 50


def test_an_error_is_folded(terminal):
    def action():
        raise UserError("expts/lm: " + "why and how " * 20)

    assert terminal.shows(lambda: guarded("p.py", action)) == 2
    shown = terminal.getvalue()
    fits(shown, terminal.width)
    assert shown.split() == ("p.py: error: expts/lm: " + "why and how " * 20).split()


def test_a_line_that_is_printed_in_parts(terminal):
    def action():
        print("word", end=" ")
        for _ in range(30):
            print("another", end=" ")
        print()
        print("no end", end="")

    assert terminal.shows(lambda: guarded("p.py", action)) == 0
    fits(terminal.getvalue(), terminal.width)
    assert terminal.getvalue().split() == ["word", *["another"] * 30, "no", "end"]
    assert terminal.getvalue().endswith("\nno end")


# ---- All that the commands print


@pytest.mark.parametrize("command", [
    ["train", "--config", "small.yaml", "--data", "data", "--run", "other",
     "--set", "optimizer.sgd.momentum=0.5"],
    ["train", "--resume", "--set", "training.epochs=3"], ["evaluate"], ["handin"],
    ["generate", "THE OLD CAT", "--max-new-tokens", "1000", "--top-k", "5"],
    ["generate", "--method", "sample", "--samples", "5"],
])  # fmt: skip
def test_no_command_prints_a_line_that_breaks_in_a_word(trained_run, terminal, command):
    assert terminal.shows(lambda: run_lm.main(command)) == 0
    fits(terminal.getvalue(), terminal.width)


@pytest.mark.parametrize("command", [
    ["evaluate", "--run", "no"], ["train"], ["generate", "--tempo", "3"], ["train", "--set", "x=1"],
    ["train", "--resume", "--set", "model.d_ff=3"], ["generate", "[EOS]"],
])  # fmt: skip
def test_no_error_breaks_in_a_word(trained_run, terminal, command):
    assert terminal.shows(lambda: run_lm.main(command)) == 2
    fits(terminal.getvalue(), terminal.width)


@pytest.mark.parametrize("main", [run_lm.main, make_data.main])
@pytest.mark.parametrize("command", [[], ["train"], ["generate"]])
def test_no_help_breaks_in_a_word(terminal, main, command):
    with pytest.raises(SystemExit):
        terminal.shows(lambda: main([*command, "-h"]))
    fits(terminal.getvalue(), terminal.width)


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_a_real_terminal(trained_run, width):
    """Progress bars too, which ask the terminal itself."""
    side, end = pty.openpty()
    termios.tcsetwinsize(end, (24, width))
    env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    command = [sys.executable, str(HW4P1 / "run_lm.py"), "train", "--resume", "--set",
               "training.epochs=4"]  # fmt: skip
    training = subprocess.Popen(
        command, stdin=end, stdout=end, stderr=end,
        env=env | {"OMP_NUM_THREADS": "1", "TQDM_MININTERVAL": "0"},
    )
    os.close(end)
    shown = bytearray()

    def read():
        try:
            while part := os.read(side, 10_000):
                shown.extend(part)
        except OSError:  # it is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    assert training.wait(120) == 0
    reader.join(10)
    text = shown.decode().replace("\x1b[A", "")
    fits(text, width)
    bars = [line.strip() for line in lines_of(text) if line.startswith("epoch 3")]
    assert any("loss" in line for line in bars) and "epoch 4" in text
    if width == 40:
        assert any(re.fullmatch(r"epoch 3: \d/3, \S+ left(, loss \d\.\d+)?", line) for line in bars)
