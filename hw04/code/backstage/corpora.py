"""Corpora: the text of a file -> stories of tokens -> stories of ids."""

import re
from pathlib import Path

from backstage.errors import UserError

SPECIAL = ("<unk>", "<bos>", "<eos>")  # the first three ids of every vocabulary
UNK = 0
BOS = 1
EOS = 2

END_OF_STORY = re.compile(r"(?<!\S)(?:<\|endoftext\|>|<eos>)(?!\S)")
# A WikiText article begins ` = Title = ` between blank lines; ` = = Section = = ` is part of it,
# and so is a line like ` = Goals ; A = ` in the middle of a table.
TITLE = r" = (?!= )[^\n]+(?<! =) = ?\n[ \t]*(?:\n|\Z)"
ARTICLE = re.compile(rf"(?m)\A(?={TITLE})|^(?=[ \t]*\n{TITLE})")
MARKS = {"eos": "<eos> or <|endoftext|> token", "article": "' = Title = ' heading"}


class CorpusPath(type(Path())):
    """The path of a corpus. What a pipe gives, and gives once, is kept for who reads it again."""

    def read_bytes(self) -> bytes:
        """The bytes of the file, or of the pipe."""
        if self.is_file():
            return super().read_bytes()
        if not hasattr(self, "kept"):
            self.kept = super().read_bytes()
        return self.kept


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, its line ends as `\\n`. Raises UserError that names the place."""
    try:
        raw = (path if isinstance(path, Path) else Path(path)).read_bytes()
    except OSError as error:
        why = f"cannot be read as a corpus ({error.strerror}); give another path"
        raise UserError(f"{path}: {why}") from None
    if b"\0" in raw:
        line = raw.count(b"\n", 0, raw.index(b"\0")) + 1
        why = "a binary file (it has a zero byte); a corpus is plain UTF-8 text"
        raise UserError(f"{path}:{line}: {why}")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        what = f"not UTF-8 at byte {error.start} of the file"
        hint = "convert it, for example with iconv -f latin1 -t utf-8"
        raise UserError(f"{path}:{line}: {what}; {hint}") from None
    if not text.strip():
        raise UserError(f"{path}: an empty corpus; it needs at least one story")
    return text.replace("\r\n", "\n")


def split_stories(text: str, how: str = "auto") -> list[str]:
    """Cut a corpus into stories at `eos` marks, at WikiText `article` headings, or at each `line`.

    `auto` takes the first of the three that the text has. `stream` makes one story of all lines,
    with an `<eos>` at the end of each, as published figures for WikiText-2 have it (Merity et al.
    2018). Raises ValueError if the text lacks the marks asked for.
    """
    if how == "stream":
        return [" <eos> ".join(text.removesuffix("\n").split("\n"))]
    if how in ("auto", "eos") and END_OF_STORY.search(text):
        return END_OF_STORY.split(text)
    if how in ("auto", "article") and ARTICLE.search(text):
        return ARTICLE.split(text)
    if how in ("auto", "line"):
        return text.split("\n")
    raise ValueError(f"it has no {MARKS[how]}, which -stories {how} needs")


def read_stories(path: str | Path, how: str = "auto", cased: bool = False) -> list[list[str]]:
    """The stories of a corpus file, each a list of tokens; empty ones are left out.

    Tokens are lower-cased unless `cased`. Raises UserError if there is no story.
    """
    text = read_text(path)
    if not cased:
        text = text.lower()
    try:
        parts = split_stories(text, how)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    stories = [[token for token in part.split() if token != "<bos>"] for part in parts]
    stories = [story for story in stories if story]
    if not stories:
        why = "no token between its end-of-story marks; it needs at least one story"
        raise UserError(f"{path}: {why}")
    return stories


def encode(stories: list[list[str]], token2idx: dict[str, int]) -> list[list[int]]:
    """Stories of tokens -> stories of ids `<bos> ... <eos>`; an unknown token becomes `<unk>`."""
    get = token2idx.get
    return [[BOS, *(get(token, UNK) for token in story), EOS] for story in stories]


def cut_stream(stream: list[int], length: int) -> list[list[int]]:
    """Cut the ids of a stream into stories of `length` targets.

    Each begins with the last token of the one before, so that every token is a target once.
    """
    return [stream[i : i + length + 1] for i in range(0, len(stream) - 1, length)]
