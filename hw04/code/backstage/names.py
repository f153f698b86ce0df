"""Names: the words that a raw text mostly has with a capital inside its sentences.

Tokens are in lower case, so what reads them back needs to know that `lily` is written `Lily`. A
text says so itself wherever the word stands inside a sentence. In German that gives all nouns, too.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from backstage.errors import UserError
from backstage.files import atomic_write
from backstage.raw_text import decoded
from backstage.words import CLITICS, tokenize_text

MOST_NAMES = 100_000  # that a model has
NO_NAMES = {"i", *CLITICS.split("|")}  # `I` has a rule of its own, and shouting has `N'T`


class Spellings:
    """How often raw texts have each word in each spelling, where its sentence has begun before."""

    def __init__(self):
        self.counts = Counter()

    def add(self, text: str) -> None:
        """Count the words of a raw text that stand behind a word or a comma."""
        tokens = tokenize_text(text, cased=True)
        pairs = zip(tokens, tokens[1:], strict=False)
        self.counts.update(
            token for before, token in pairs if before == "," or before[-1].isalnum()
        )

    def names(self) -> list[str]:
        """The words that more often than not have a capital, as they mostly do, frequent first."""
        spellings = defaultdict(Counter)  # of each word
        for spelling, count in self.counts.items():
            if spelling[0].isalpha():
                spellings[spelling.lower()][spelling] = count
        found = {}
        for word, counts in spellings.items():
            capital = counts.total() - counts[word]
            del counts[word]
            if 2 * capital > capital + self.counts[word] and word not in NO_NAMES:
                found[min(counts, key=lambda one, n=counts: (-n[one], one))] = capital
        ranked = sorted(found, key=lambda name: (-found[name], name))
        return [name for name in ranked if tokenize_text(name) == [name.lower()]]


def names_file(corpus: Path) -> Path:
    """Where the names of a corpus of tokens are, one a line: `X.names` beside `X`."""
    return corpus.with_name(f"{corpus.name}.names")


def as_lines(names: Iterable[str]) -> bytes:
    """The content of a file of names."""
    return "".join(f"{name}\n" for name in names).encode()


def write_names(corpus: Path, names: Iterable[str]) -> None:
    """Write the names of a corpus of tokens."""
    atomic_write(names_file(corpus), lambda file: file.write(as_lines(names)))


def names_beside(
    corpus: Path, words: Iterable[str], cased: bool, bpe: object = None
) -> list[str]:
    """The names of a corpus, if there is a file of them: those of the vocabulary's `words`.

    A model of word pieces, `bpe`, may say any of them; one that keeps case needs none.
    """
    path = names_file(corpus)
    if cased or not corpus.is_file() or not path.is_file():
        return []
    try:
        spellings = decoded(path.read_bytes(), path).split()
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {str(error).removeprefix(f'{path}:')}; or delete it") from None
    words = {*words}
    names = {}
    for name in spellings:
        tokens = tokenize_text(name)
        if tokens == [name.lower()] and (bpe or tokens[0] in words):
            names.setdefault(tokens[0], name)
    return list(names.values())[:MOST_NAMES]


def by_word(names: list[str]) -> Mapping[str, str]:
    """How each word that is a name is written."""
    return {tokenize_text(name)[0]: name for name in names}


def check_names(names: list[str], words: list[str], bpe: object = None) -> None:
    """Raise ValueError if these are not different words, those of the vocabulary if it has words.

    Each is to be read back as the word that it stands for.
    """
    if type(names) is not list or len(names) > MOST_NAMES:
        raise ValueError("its names are no list of names")
    known = {*words[3:]}
    seen = set()
    for name in names:
        tokens = tokenize_text(name) if type(name) is str else []
        if tokens != [str(name).lower()] or tokens[0] in seen or not (bpe or tokens[0] in known):
            raise ValueError("its names are no words of its vocabulary")
        seen.add(tokens[0])
