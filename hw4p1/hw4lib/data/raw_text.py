"""Raw text: the bytes of a file as people have them -> text, and the parts of it that count.

hw04/code/backstage and hw4p1/hw4lib/data have this file alike, so that both systems read alike.
"""

import codecs
import re
from pathlib import Path

BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",  # after the longer ones
}
END_OF_STORY = re.compile(r"<(?:\|endoftext\|>|eos>|EOS>)")  # even if it touches a word
JOINED_MARK = re.compile(r"(?m)^\ufeff(?=\S)")  # where a second file begins that had one
BLANK_LINES = re.compile(r"\n\s*\n")

# UTF-8 that was read as Windows-1252 or Latin-1 and written as UTF-8 again: `schÃ¶n`, `donâ€™t`.
# LATER is what the second and later bytes of a character became. Some pairs are fine at the end of
# a word (É», ß”), so they count after no capital letter, or as two in a row.
LATER = "[\x80-\xbf" + bytes(range(0x80, 0xA0)).decode("cp1252", "ignore") + "]"
FIRST_PAIR = re.compile(f"[Â-ð]{LATER}")
MOJIBAKE = re.compile(
    f"(?<![A-ZÀ-Þ])[ÂÃÄÅ]{LATER}|â€{LATER}|â„¢|ðŸ{LATER}{{2}}"
    f"|(?:[Â-ß]{LATER}|[à-ï]{LATER}{{2}}|ð{LATER}{{3}}){{2,}}"
)

# Project Gutenberg's frame around a book. A title may take lines; older files end their licence
# with SMALL PRINT.
FRAME_START = re.compile(
    r"(?im)^[ \t]*(?:\*{3} ?START OF (?:TH(?:E|IS) )?PROJECT"
    r"(?:[^*\n]*(?:\n(?!\s*\n)[^*\n]*){0,4}\*{3})?.*"
    r"|\*END[ *]+THE SMALL PRINT.*)(?:\n|\Z)"
)
FRAME_END = re.compile(
    r"(?i)(?:\A|\n)[ \t]*(?:\*{3} ?END OF (?:TH(?:E|IS) )?PROJECT"
    r"|(?:The )?End of (?:the |this )?Project Gutenberg|\*{3} ?START: FULL LICENSE)"
)
# Who made the file, in the first paragraphs of a framed book.
CREDITS = re.compile(
    r"(?i)\s*\[?(?:(?:produced|prepared|transcribed|scanned|typed|digiti[sz]ed|proofread"
    r"|e-?text (?:produced|prepared)|this (?:e-?book|e-?text) was \w+)\b[^\n]{0,80}\bby\b"
    r"|html version by|transcriber[’']s notes?\b)"
)


def decoded(raw: bytes, path: str | Path) -> str:
    """The text of a file, its line ends as `\\n`, without byte-order marks.

    It is UTF-8, or what the mark says. Raises ValueError with path, line and remedy.
    """
    marks = (mark for mark in BYTE_ORDER_MARKS if raw.startswith(mark))
    encoding = BYTE_ORDER_MARKS.get(next(marks, b""), "utf-8")
    if encoding == "utf-8" and b"\0" in raw:
        why = "a binary file (it has a zero byte); give plain UTF-8 text"
        raise ValueError(f"{path}:{line_of(raw.index(0), raw)}: {why}")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        what = f"not {encoding.upper()} at byte {error.start} of the file"
        hint = "convert it, for example with iconv -f latin1 -t utf-8"
        raise ValueError(f"{path}:{line_of(error.start, raw)}: {what}; {hint}") from None
    text = with_line_feeds(text.removeprefix("\ufeff"))
    return JOINED_MARK.sub("", text) if "\ufeff" in text else text


def with_line_feeds(text: str) -> str:
    """`text` with `\n` for the line ends of Windows and of old Macintoshes."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def typed(text: str) -> str:
    """A line or an argument without its line end and byte-order mark.

    Where the locale is not UTF-8 Python makes halves of surrogate pairs of its bytes. Raises
    ValueError if they are no UTF-8.
    """
    text = text.encode("utf-8", "surrogateescape").decode("utf-8")
    return with_line_feeds(text.removeprefix("\ufeff")).removesuffix("\n")


def line_of(byte: int, raw: bytes) -> int:
    """The number of the line that has this byte of a file."""
    return len(re.findall(rb"\r\n?|\n", raw[:byte])) + 1


def mojibake_note(text: str, path: str | Path, lines: int = 0) -> str:
    """A line that names the first place where UTF-8 was encoded twice; empty if there is none.

    `lines` come before `text` in its file.
    """
    pairs = (pair.start() for pair in FIRST_PAIR.finditer(text))  # few, and quickly found
    begin = next((pair for pair in pairs if MOJIBAKE.match(text, pair)), None)
    if begin is None:
        return ""
    line = lines + text.count("\n", 0, begin) + 1
    word = re.search(r"\S*\Z", text[max(0, begin - 20) : begin])[0]
    word += re.match(r"\S{0,20}", text[begin:])[0]
    what = "looks like UTF-8 that was taken for Latin-1 and encoded again"
    remedy = "convert the file back, for example with iconv -f utf-8 -t cp1252"
    return f"note: {path}:{line}: {word!r} {what}; {remedy}"


def without_frames(text: str) -> list[str]:
    """The books of a text, without what Project Gutenberg has put around each.

    A text without such a frame is one book.
    """
    books = []
    begin = 0
    start = FRAME_START.search(text)
    while start or not books:
        begin = start.end() if start else 0
        start = FRAME_START.search(text, begin)
        book = text[begin : start.start() if start else len(text)]
        end = FRAME_END.search(book)
        book = book[: end.start()] if end else book
        books.append(without_credits(book) if begin else book)
    return books


def without_credits(book: str) -> str:
    """A book without the paragraphs at its beginning that say who made the file."""
    while CREDITS.match(book):
        body = BLANK_LINES.search(book.lstrip())
        book = book.lstrip()[body.end() :] if body else ""
    return book
