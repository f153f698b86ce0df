"""Lines on a terminal, broken between words, where the terminal would break them anywhere."""

import re
import shutil
import unicodedata

PIECES = re.compile(r"\n|[^\S\n]+|\S+")  # line ends, spaces, words
COLOURS = re.compile(r"\x1b\[[\d;]*m")
ROOM = 2  # columns kept free after the last word so far, as marks may follow it


class Folded:
    """An output stream on a terminal, in whose lines no word is broken at the right edge.

    A word that is too long for any line is, and what redraws its line, as progress bars do, is
    left as it is. A line that begins with spaces goes on with as many.
    """

    def __init__(self, stream):
        self.stream = stream
        self.column = 0  # of the cursor
        self.indent = 0  # spaces at the beginning of this line
        self.spaced = False  # whether a space was the last thing written

    def write(self, text: str) -> int:
        if "\r" in text:
            self.stream.write(text)
            self.column = columns_of(re.split(r"[\r\n]", text)[-1])
        else:
            self.stream.write("".join(self.folded(PIECES.findall(text))))
        return len(text)

    def folded(self, pieces: list[str]) -> list[str]:
        """What is to be written for these pieces of a text."""
        width = shutil.get_terminal_size().columns
        parts = []
        gap = ""
        for number, piece in enumerate(pieces, 1):
            if piece == "\n":
                parts.append(gap + piece)
                self.column = self.indent = 0
                gap = ""
            elif piece.isspace():
                gap = piece
                if not self.column:
                    self.indent = min(len(gap), width // 3)
            else:
                size = columns_of(piece) + (ROOM if number == len(pieces) else 0)
                full = self.column + len(gap) + size > width and self.column > self.indent
                if full and (gap or self.spaced):
                    gap = "\n" + " " * (self.indent if self.indent + size <= width else 0)
                    self.column = 0
                parts.append(gap + piece)
                self.column += len(gap.lstrip("\n")) + columns_of(piece)
                gap = ""
                self.spaced = False
        if gap:
            parts.append(gap)
            self.column += len(gap)
            self.spaced = True
        return parts

    def __getattr__(self, name: str):
        return getattr(self.stream, name)


def columns_of(text: str) -> int:
    """How many columns a text takes: two for each wide character, none for a combining one."""
    if text.isascii() and "\x1b" not in text:
        return len(text)
    letters = COLOURS.sub("", text)
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in letters)
    return len(letters) + wide - sum(map(bool, map(unicodedata.combining, letters)))


def on_terminal(stream):
    """The stream, folded if it is a terminal."""
    return Folded(stream) if stream.isatty() else stream
