"""Corpora: the text of a file -> stories of tokens -> stories of ids."""

import re
from pathlib import Path

from backstage.errors import UserError
from backstage.raw_text import END_OF_STORY, decoded, mojibake_note

SPECIAL = ("<unk>", "<bos>", "<eos>")  # the first three ids of every vocabulary
UNK = 0
BOS = 1
EOS = 2

# A WikiText article begins ` = Title = ` between blank lines; ` = = Section = = ` is part of it,
# and so is a line like ` = Goals ; A = ` in the middle of a table.
TITLE = r" = (?!= )[^\n]+(?<! =) = ?\n[ \t]*(?:\n|\Z)"
ARTICLE = re.compile(rf"(?m)\A(?={TITLE})|^(?=[ \t]*\n{TITLE})")
LIKE_TITLE = re.compile(r"(?m)^[ \t]*= (?!= )[^\n=]+ =[ \t]*$")  # its spaces or blank lines lost
LAST_MARK = re.compile(rf"{END_OF_STORY.pattern}\s*\Z")
MARKS = {
    "eos": (END_OF_STORY, "<eos> or <|endoftext|> token"),
    "article": (ARTICLE, "' = Title = ' heading"),
}
DECIDED = "auto-"  # before what `-stories auto` found in the train corpus, for the valid one, too


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
    """The text of a file, its line ends as `\\n`. Raises UserError that names the place."""
    try:
        raw = (path if isinstance(path, Path) else Path(path)).read_bytes()
        text = decoded(raw, path)
    except OSError as error:
        why = f"cannot be read as a corpus ({error.strerror}); give another path"
        raise UserError(f"{path}: {why}") from None
    except ValueError as error:
        raise UserError(str(error)) from None
    if not text.strip():
        raise UserError(f"{path}: an empty corpus; it needs at least one story")
    return text


def kind_of_stories(text: str) -> str:
    """How `-stories auto` finds the stories of a text: the first of three ways that it has."""
    for kind, (marks, _) in MARKS.items():
        if marks.search(text):
            return kind
    return "line"


def split_stories(text: str, how: str = "auto") -> list[str]:
    """Cut a corpus into stories at `eos` marks, at WikiText `article` headings, or at each `line`.

    `auto` takes the first of the three that the text has. `stream` makes one story of all lines,
    with an `<eos>` at the end of each, as published figures for WikiText-2 have it (Merity et al.
    2018); a line that ends with one gets no second. Raises ValueError if the text lacks the marks
    asked for.
    """
    if how in MARKS and not MARKS[how][0].search(text):
        raise ValueError(f"it has no {MARKS[how][1]}, which -stories {how} needs")
    kind = kind_of_stories(text) if how == "auto" else how.removeprefix(DECIDED)
    if kind == "eos":
        return END_OF_STORY.split(text)
    if kind == "stream":
        lines = [LAST_MARK.sub("", line) for line in text.removesuffix("\n").split("\n")]
        return [END_OF_STORY.sub(" <eos> ", " <eos> ".join(lines))]
    parts = ARTICLE.split(text) if kind == "article" else text.split("\n")
    return [END_OF_STORY.sub(" <eos> ", LAST_MARK.sub("", part)) for part in parts]


def read_stories(path: str | Path, how: str = "auto", cased: bool = False) -> list[list[str]]:
    """The stories of a corpus file, each a list of tokens; empty ones are left out.

    Tokens are lower-cased unless `cased`. Raises UserError if there is no story.
    """
    text = read_text(path)
    if not cased:
        text = text.lower()
    try:
        parts = split_stories(text.replace("<bos>", " "), how)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    stories = [story for story in map(str.split, parts) if story]
    if not stories:
        why = "no token between its end-of-story marks; it needs at least one story"
        raise UserError(f"{path}: {why}")
    return stories


def stories_of_training(train_path: Path, valid_path: Path, how: str) -> str:
    """How the stories of both corpora of a training are told apart; notes what is odd about them.

    `auto` becomes what it finds in the train corpus, such as `auto-line`.
    """
    train_text = read_text(train_path)
    valid_text = read_text(valid_path)
    note_oddities(train_path, train_text, how)
    note_oddities(valid_path, valid_text, how)
    if how != "auto":
        return how
    kind = kind_of_stories(train_text)
    other = kind_of_stories(valid_text)
    if other != kind:
        both = f"both are read as the first is, by {kind} (-stories names another way)"
        print(f"note: stories by {kind} in {train_path}, by {other} in {valid_path}; {both}")
    return DECIDED + kind


def as_given(how: str) -> str:
    """What `-stories` was, before `stories_of_training` decided."""
    return "auto" if how.startswith(DECIDED) else how


def note_oddities(path: Path, text: str, how: str) -> None:
    """Print what seems to have happened to a corpus on its way here."""
    note = mojibake_note(text, path)
    if note:
        print(note)
    title = LIKE_TITLE.search(text) if how == "auto" else None
    if title and kind_of_stories(text) == "line":
        line = text.count("\n", 0, title.start()) + 1
        print(
            f"note: {path}:{line}: like a heading of WikiText, but without its spaces and blank "
            "lines, so that each line is a story; get_data.py wiki gets the file as published"
        )


def encode(stories: list[list[str]], token2idx: dict[str, int]) -> list[list[int]]:
    """Stories of tokens -> stories of ids `<bos> ... <eos>`; an unknown token becomes `<unk>`."""
    get = token2idx.get
    return [[BOS, *(get(token, UNK) for token in story), EOS] for story in stories]


def cut_stream(stream: list[int], length: int) -> list[list[int]]:
    """Cut the ids of a stream into stories of `length` targets.

    Each begins with the last token of the one before, so that every token is a target once.
    """
    return [stream[i : i + length + 1] for i in range(0, len(stream) - 1, length)]
