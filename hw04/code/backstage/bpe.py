"""Byte-pair encoding (Sennrich et al. 2016) by the library `tokenizers`: tokens -> word pieces."""

import itertools
import json
from collections.abc import Iterable, Iterator

from backstage.corpora import EOS, SPECIAL
from backstage.errors import UserError

TOKENIZERS = ("words", "bpe")
MOST_PIECES = 1_000_000
LONGEST_WORD = 1000  # characters of a token that pieces are learned from together
SPLIT_AT_ONCE = 10_000  # that the library splits: it takes some 100 bytes for each letter
# A stored encoding as version 0.23 of the library writes it, still without pieces and merges.
STORED_FORM = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
    "pre_tokenizer": {
        "type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": False,
    },
    "post_processor": None,
    "decoder": {
        "type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True,
    },
    "model": {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
        "ignore_merges": False, "vocab": {}, "merges": [],
    },
}
# What has no say in how a token is split: pieces are spelled by a decoder of our own.
NO_SAY = {"version", "trim_offsets", "decoder", "vocab", "merges"}


class WordPieces:
    """An encoding, made from the JSON of any version of the library `tokenizers`.

    A token is split into word pieces, of which the first begins with START. Single bytes are word
    pieces too, so nothing is unknown.
    """

    START = "Ġ"  # how byte-level encodings write a space

    def __init__(self, text: str):
        """Raises ValueError if the JSON is not that of such pieces."""
        library = WordPieces.library()
        vocabulary, merges = read_pieces(text, {*library.pre_tokenizers.ByteLevel.alphabet()})
        model = {**STORED_FORM["model"], "vocab": vocabulary, "merges": merges}
        # The same text for the same pieces, whatever version wrote them.
        form = {**STORED_FORM, "model": model}
        self.text = json.dumps(form, ensure_ascii=False, separators=(",", ":"))
        self.pieces = [*vocabulary]
        self.tokenizer = WordPieces.empty()
        self.tokenizer.model = library.models.BPE(vocabulary, merges)

    @staticmethod
    def library():
        """The module. Raises UserError if it is not installed."""
        try:
            import tokenizers
        except ModuleNotFoundError:
            raise UserError("-tokenizer bpe needs a package: pip install tokenizers") from None
        return tokenizers

    @staticmethod
    def empty():
        """An encoding with no word piece at all."""
        library = WordPieces.library()
        byte_level = library.pre_tokenizers.ByteLevel
        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.pre_tokenizer = byte_level(add_prefix_space=True, use_regex=False)
        tokenizer.decoder = library.decoders.ByteLevel()
        return tokenizer

    @staticmethod
    def learned(stories: list[list[str]], size: int) -> "WordPieces":
        """An encoding of `size` word pieces learned from a corpus, fewer if that is all it has."""
        if not 256 <= size <= MOST_PIECES:
            why = f"it begins with the 256 bytes, so give at least 256, and at most {MOST_PIECES:,}"
            raise UserError(f"-VSize {size} with -tokenizer bpe: {why}")
        library = WordPieces.library()
        tokenizer = WordPieces.empty()
        stories = [[*words_to_learn_from(story)] for story in stories]
        alphabet = library.pre_tokenizers.ByteLevel.alphabet()
        trainer = library.trainers.BpeTrainer(
            vocab_size=size, initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(stories, trainer)
        return WordPieces(tokenizer.to_str())

    def vocabulary(self) -> list[str]:
        """All word pieces, in the order of the alphabet."""
        return sorted(self.pieces)

    def split(self, stories: list[list[str]]) -> list[list[str]]:
        """Stories of tokens -> stories of word pieces; the `<eos>` of a stream's lines stays."""
        return [[*itertools.chain.from_iterable(self.split_story(story))] for story in stories]

    def split_story(self, story: list[str]) -> Iterator[list[str]]:
        """The word pieces of each run of tokens that are not `<eos>`, and each run of `<eos>`."""
        for ends, run in itertools.groupby(story, SPECIAL[EOS].__eq__):
            while part := [*itertools.islice(run, SPLIT_AT_ONCE)]:
                if ends:
                    yield part
                else:
                    numbers = self.tokenizer.encode(part, is_pretokenized=True).ids
                    yield [self.pieces[number] for number in numbers]

    def join(self, pieces: Iterable[str]) -> Iterator[str]:
        """Word pieces -> tokens, each as soon as it is known to be whole."""
        token: list[str] = []
        for piece in itertools.chain(pieces, [self.START]):
            if piece.startswith(self.START):
                text = self.spell(token).strip()
                if text:
                    yield text
                token = []
            token.append(piece)

    def spell(self, pieces: list[str]) -> str:
        """The characters of word pieces; U+FFFD for bytes that are none."""
        return self.tokenizer.decoder.decode(pieces)


def read_pieces(text: str, alphabet: set[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The numbers of the pieces and the merges, in the JSON of an encoding; nothing else of it.

    Raises ValueError if it is no byte-level BPE, if it does more to a token than these merges (by a
    regular expression, say, which may take for ever), or if its pieces cannot be right.
    """
    try:
        given = json.loads(text)
        model = given["model"]
        vocabulary = model["vocab"]
        merges = [
            tuple(merge.split(" ") if isinstance(merge, str) else merge)
            for merge in model["merges"]  # "a b", and since version 0.20 ["a", "b"]
        ]
        # A regular expression was there before there was a key for it.
        pre_tokenizer = {"use_regex": True, **given["pre_tokenizer"]}
    except (KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("not the JSON of word pieces") from None
    if not splits_alike({**given, "pre_tokenizer": pre_tokenizer}, STORED_FORM):
        raise ValueError("its word pieces are not plain byte-level BPE")
    check_pieces(vocabulary, merges, alphabet)
    return dict(sorted(vocabulary.items(), key=lambda item: item[1])), merges


def splits_alike(given, own) -> bool:
    """Whether the settings `given` are our own; one that either lacks, or has off, is off."""
    if isinstance(given, dict) and isinstance(own, dict):
        names = {*given, *own} - NO_SAY
        return all(splits_alike(given.get(name), own.get(name)) for name in names)
    return given == own or not (given or own)


def check_pieces(vocabulary: dict[str, int], merges: list[tuple], alphabet: set[str]) -> None:
    """Raise ValueError if these are not all bytes, and pieces made of them by merges of two."""
    if not isinstance(vocabulary, dict):
        raise ValueError("its word pieces have no numbers")
    numbers = [*vocabulary.values()]
    if not len(alphabet) <= len(numbers) <= MOST_PIECES or len(merges) > 2 * MOST_PIECES:
        raise ValueError("too few or too many word pieces")
    if not all(type(number) is int for number in numbers):
        raise ValueError("a word piece whose number is none")
    if sorted(numbers) != [*range(len(numbers))] or {*"".join(vocabulary)} != alphabet:
        raise ValueError("its word pieces are not numbered, or not made of bytes")
    pieces = vocabulary.keys()
    if not alphabet <= pieces or not all(type(part) is str for pair in merges for part in pair):
        raise ValueError("its word pieces lack a byte, or a merge is none")
    if not all(len(pair) == 2 and {*pair, "".join(pair)} <= pieces for pair in merges):
        raise ValueError("a merge of what is no word piece")


def words_to_learn_from(story: list[str]) -> Iterator[str]:
    """The tokens of a story but its `<eos>`; very long ones in parts.

    Learning takes time that is quadratic in the length of a token.
    """
    for token in story:
        if token != SPECIAL[EOS]:
            for start in range(0, len(token), LONGEST_WORD):
                yield token[start : start + LONGEST_WORD]


def to_word_pieces(stories: list[list[str]], bpe: WordPieces | None) -> list[list[str]]:
    """Stories of tokens -> stories of word pieces, or as they are if the model has none."""
    if bpe is None:
        return stories
    return bpe.split(stories)
