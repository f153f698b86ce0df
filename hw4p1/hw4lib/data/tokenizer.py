"""Text -> token ids and back, with the files of train_tokenizers.py (handout, section 5.1.1)."""

import hashlib
import re
from pathlib import Path

from tokenizers import Tokenizer, decoders, processors

from ..errors import UserError
from ..reading import printable, read_file
from .tokenizer_file import LARGEST, SPECIAL_TOKENS, make_tokenizer

SPELLED = re.compile("|".join(map(re.escape, SPECIAL_TOKENS)))


class H4Tokenizer:
    """Characters, or byte-pair encodings of 1,000, 5,000 or 10,000 tokens.

    Hugging Face's `tokenizers` does the work.

    `token_map` names the JSON file of each type. UserError (a ValueError) for a type that is none
    of the four, or a file that is missing or no tokenizer. With `validate` a short report is
    printed.
    """

    VALID_TYPES = ["char", "1k", "5k", "10k"]

    def __init__(self, token_map: dict[str, str], token_type: str = "char", validate: bool = True):
        if token_type not in self.VALID_TYPES:
            raise UserError(
                f"token_type {token_type!r}: choose one of {', '.join(self.VALID_TYPES)}"
            )
        if token_type not in token_map:
            raise UserError(f"token_map: it names no file for token_type {token_type!r}; add one")
        self.token_type = token_type
        self.tokenizer = self._load(token_map[token_type])
        self.vocab_size = self.tokenizer.get_vocab_size()
        ids = [self.tokenizer.token_to_id(token) for token in SPECIAL_TOKENS]
        self.pad_id, self.unk_id, self.mask_id, self.sos_id, self.eos_id, self.blank_id = ids
        self._special_ids = frozenset(ids)
        self._alphabet = self._characters()
        if validate:
            self._validate_tokenizer()

    def _load(self, path: str | Path) -> Tokenizer:
        """The tokenizer of a JSON file, with the decoder that puts tokens together again.

        The file has the model.
        """
        if not Path(path).is_file():
            raise UserError(
                f"{path}: no such file; correct token_map, or make it with train_tokenizers.py"
            )
        remedy = "make it again with train_tokenizers.py"
        content = read_file(path, remedy, LARGEST)
        self.sha256 = hashlib.sha256(content).hexdigest()  # of the file
        try:
            tokenizer = make_tokenizer(content, self.token_type == "char")
        except Exception as error:  # the library raises no narrower class
            why = f"no tokenizer of this type ({type(error).__name__})"
            if type(error) is ValueError:
                why = str(error)[:100]
            raise UserError(f"{path}: {why}; {remedy}") from None
        if self.token_type == "char":
            # Else characters come back with spaces between them.
            tokenizer.decoder = decoders.Fuse()
        else:
            tokenizer.decoder = decoders.ByteLevel()
            tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
        return tokenizer

    def _characters(self) -> frozenset[str]:
        """The characters that have a token of their own, so that any text of them has tokens."""
        single = [i for token, i in self.tokenizer.get_vocab().items() if len(token) == 1]
        return frozenset(self.decode([i]) for i in single)

    def tokenize(self, text: str) -> list[str]:
        """The tokens of a text, as strings."""
        return self._encoding(text).tokens

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without SOS and EOS.

        A special token spelled in it, such as `[EOS]`, is one id.

        UserError for a character that the vocabulary lacks: it would be dropped without a word.
        """
        return self._encoding(text).ids

    def _encoding(self, text: str):
        if not self._alphabet.issuperset(text):
            self._check_characters(text)
        return self.tokenizer.encode(text)

    def _check_characters(self, text: str) -> None:
        """UserError that names the first character outside the alphabet and special tokens."""
        plain = SPELLED.sub(lambda match: "A" * len(match[0]), text)
        place = next((i for i, c in enumerate(plain) if c not in self._alphabet), None)
        if place is not None:
            hint = "write A to Z, space and apostrophe, in upper case"
            raise UserError(
                f"character {place} of the text, {text[place]!r}, is not in the vocabulary; {hint}"
            )

    def decode(self, token_ids: list[int], skip_special_tokens: bool = False) -> str:
        """The text of a list of ids."""
        return self.tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens)

    def get_avg_chars_per_token(
        self, token_ids: list[int], skip_special_tokens: bool = True
    ) -> float:
        """Characters of the text per id; without those of special tokens unless told otherwise.

        0 if none is left.
        """
        if skip_special_tokens:
            token_ids = [i for i in token_ids if i not in self._special_ids]
        return len(self.decode(token_ids)) / len(token_ids) if token_ids else 0

    def _validate_tokenizer(self) -> None:
        """Print the vocabulary's size, the special ids, and a sentence there and back."""
        words = "".join(c for c in "SHE'LL READ THE QUIET BOOK TWICE" if c in self._alphabet)
        text = f"[SOS]{words}[EOS]"
        ids = self.encode(text)
        print(f"tokenizer {self.token_type}: {self.vocab_size:,} tokens")
        print(
            "  "
            + ", ".join(f"{token} {self.tokenizer.token_to_id(token)}" for token in SPECIAL_TOKENS)
        )
        print(f"  {text}\n  {self.tokenize(text)}\n  {ids}\n  {printable(self.decode(ids))}")
        print(f"  {self.get_avg_chars_per_token(ids):.2f} characters per token")


def first_special(text: str) -> str:
    """The first special token that is spelled in a text; empty if there is none."""
    spelled = SPELLED.search(text)
    return spelled[0] if spelled else ""


def without_special(text: str) -> str:
    """A decoded text as a person reads it, without the special tokens that are spelled in it."""
    return SPELLED.sub("", text)
