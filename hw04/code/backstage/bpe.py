"""Byte-pair encoding (Sennrich et al. 2016) by the library `tokenizers`: tokens -> word pieces."""

import itertools
import json
from collections.abc import Iterable, Iterator

from backstage.corpora import EOS, SPECIAL
from backstage.errors import UserError

TOKENIZERS = ("words", "bpe")


class WordPieces:
    """An encoding, made from the JSON of the library `tokenizers`.

    A token is split into word pieces, of which the first begins with START. Single bytes are word
    pieces too, so nothing is unknown.
    """

    START = "Ġ"  # how byte-level encodings write a space

    def __init__(self, text: str):
        """Raises ValueError if the JSON differs from that of `empty` in more than its pieces."""
        blank = json.loads(WordPieces.empty().to_str())
        given = json.loads(text)
        given["model"] |= {name: blank["model"][name] for name in ("vocab", "merges")}
        if given != blank:  # it has a regular expression, say
            raise ValueError("not the JSON of such pieces")
        self.text = text
        self.tokenizer = WordPieces.library().Tokenizer.from_str(text)

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
        if size < 256:
            why = "it begins with the 256 bytes, so give at least 256"
            raise UserError(f"-VSize {size} with -tokenizer bpe: {why}")
        library = WordPieces.library()
        tokenizer = WordPieces.empty()
        stories = [[token for token in story if token != SPECIAL[EOS]] for story in stories]
        alphabet = library.pre_tokenizers.ByteLevel.alphabet()
        trainer = library.trainers.BpeTrainer(
            vocab_size=size, initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(stories, trainer)
        return WordPieces(tokenizer.to_str())

    def vocabulary(self) -> list[str]:
        """All word pieces, in the order of the alphabet."""
        return sorted(self.tokenizer.get_vocab())

    def split(self, stories: list[list[str]]) -> list[list[str]]:
        """Stories of tokens -> stories of word pieces; the `<eos>` of a stream's lines stays."""
        return [[*itertools.chain.from_iterable(self.split_story(story))] for story in stories]

    def split_story(self, story: list[str]) -> Iterator[list[str]]:
        """The word pieces of each run of tokens that are not `<eos>`, and each run of `<eos>`."""
        for ends, run in itertools.groupby(story, SPECIAL[EOS].__eq__):
            if ends:
                yield list(run)
            else:
                yield self.tokenizer.encode(list(run), is_pretokenized=True).tokens

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


def to_word_pieces(stories: list[list[str]], bpe: WordPieces | None) -> list[list[str]]:
    """Stories of tokens -> stories of word pieces, or as they are if the model has none."""
    if bpe is None:
        return stories
    return bpe.split(stories)
