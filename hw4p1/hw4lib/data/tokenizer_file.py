"""The JSON of a tokenizer, which anybody may have made, read for its tokens and merges alone.

The library would also do what else such a file says: normalise with a regular expression that takes
hours, pad each text to a billion tokens. So the tokenizer is made here, of vocabulary and merges,
and the rest of the file is only compared with what we make. Files of all versions of the library
are read that say the same of what matters; what a version adds or leaves out does not.
"""

import json

from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[MASK]", "[SOS]", "[EOS]", "[BLANK]")
LARGEST = 16_000_000  # bytes of a file; 10,000 tokens take 700,000
MOST_TOKENS = 100_000
LONGEST_TOKEN = 500
# What else a model may say, and what it means if it does not.
PLAIN = {
    "dropout": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
    "byte_fallback": False, "ignore_merges": False,
}


def make_tokenizer(content: bytes, characters: bool) -> Tokenizer:
    """The tokenizer of a file: one of single `characters`, or a byte-level BPE.

    Raises ValueError or the like that says what is wrong with the file.
    """
    given = json.loads(content)
    check_layout(given, characters)
    vocab = read_vocabulary(given)
    if characters:
        tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(""), "isolated")
    else:
        merges = [read_merge(merge) for merge in given["model"]["merges"]]
        if any(not {a, b, a + b} <= vocab.keys() for a, b in merges):
            raise ValueError("a merge of what are no tokens")
        tokenizer = Tokenizer(models.BPE(vocab, merges))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL_TOKENS])
    return tokenizer


def check_layout(given: dict, characters: bool) -> None:
    """Raise ValueError if a file says something else of a text than our tokenizers do."""
    for part in ("normalizer", "truncation", "padding"):
        if given.get(part) is not None:
            raise ValueError(f"it has a {part}")
    before, model = given["pre_tokenizer"], given["model"]
    if characters:
        alike = before["type"] == "Split" and [*before["pattern"].values()] == [""]
        alike = alike and before["behavior"] == "Isolated" and not before["invert"]
    else:
        alike = before["type"] == "ByteLevel" and not before["add_prefix_space"]
        alike = alike and before.get("use_regex", True) is True
    if not alike:
        raise ValueError("it splits texts in another way")
    if model["type"] != ("WordLevel" if characters else "BPE"):
        raise ValueError("it is of another type")
    for name, plain in PLAIN.items():
        if (model.get(name) or plain) != plain:
            raise ValueError(f"it has {name}")


def read_vocabulary(given: dict) -> dict[str, int]:
    """Token -> id, the special tokens among them."""
    added = {token["content"]: token["id"] for token in given["added_tokens"]}
    vocab = {**given["model"]["vocab"], **added}
    if lacking := [token for token in SPECIAL_TOKENS if token not in vocab]:
        raise ValueError(f"it has no {lacking[0]} token")
    if not added.keys() <= {*SPECIAL_TOKENS}:
        raise ValueError("it has special tokens of its own")
    flags = ("single_word", "lstrip", "rstrip", "normalized")
    if any(token.get(flag) for token in given["added_tokens"] for flag in flags):
        raise ValueError("its special tokens take in what is around them")
    if len(vocab) > MOST_TOKENS or max(map(len, vocab)) > LONGEST_TOKEN:
        raise ValueError(f"more than {MOST_TOKENS:,} tokens, or a token of {LONGEST_TOKEN} letters")
    ids = vocab.values()
    if not all(type(i) is int for i in ids) or sorted(ids) != [*range(len(vocab))]:
        raise ValueError("its ids are not 0, 1, 2 and so on")
    return vocab


def read_merge(merge: str | list[str]) -> tuple[str, str]:
    """A merge as a pair, or as one text with a space between as older versions write it."""
    first, second = merge.split(" ") if type(merge) is str else merge
    return first, second
