#!/usr/bin/env python3
"""The four tokenizers of H4Tokenizer, made from the texts that a model may be trained on."""

import argparse
import hashlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # which `python -P` leaves out

from hw4lib.entry import Parser, guarded, importing
from hw4lib.errors import UserError
from hw4lib.files import atomic_write, write_json
from hw4lib.output import outlived_output

with importing("train_tokenizers.py"):
    import tokenizers
    from hw4lib.data.npy_files import read_sources
    from hw4lib.data.text import pieces
    from hw4lib.data.tokenizer import SPECIAL_TOKENS
    from hw4lib.progress import progress_bar
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, trainers

USAGE = """Make the four tokenizers of H4Tokenizer, from the texts that a model may be trained on.

    python train_tokenizers.py --train BOOKS/train STORIES/tinystories.train.txt [-o FOLDER]

writes tokenizer_{char,1000,5000,10000}.json and trained_on.json, which records the digest of the
text. The same text gives the same files. The characters need no training: their order is that of
the course's file, about that of their frequency in English. The others are byte-pair encodings
(Sennrich et al. 2016), trained on the pieces that make_data.py makes of the texts.
"""

FOLDER = Path(__file__).resolve().parent / "hw4lib" / "data" / "tokenizer_jsons"
CHARACTERS = " ETAONIHSRDLUMCWFGYPBVK\n'XJQZ"
LETTERS = "'ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BYTE_LEVEL = {"\n": "Ċ", " ": "Ġ"}  # what the byte-level pre-tokenizer writes for them
BPE_SIZES = (1000, 5000, 10000)


def char_tokenizer() -> Tokenizer:
    """One token for each character: ids 0 to 5 are special, then those of CHARACTERS."""
    vocab = {token: i for i, token in enumerate([*SPECIAL_TOKENS, *CHARACTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(""), "isolated")
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL_TOKENS])
    return tokenizer


def bpe_tokenizer(texts: list[str], size: int) -> Tokenizer:
    """A byte-pair encoding with `size` tokens.

    6 special ones, 29 characters, and merges learned from the texts.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=[*LETTERS, *BYTE_LEVEL.values()],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() < size:
        raise UserError(
            f"the text has words for {tokenizer.get_vocab_size()} tokens, not {size}; give more of "
            "it"
        )
    return tokenizer


def save(tokenizer: Tokenizer, path: Path) -> None:
    atomic_write(path, lambda file: file.write((tokenizer.to_str(pretty=True) + "\n").encode()))
    print(f"{path}: {tokenizer.get_vocab_size():,} tokens")


def train(paths: list[Path], folder: Path) -> None:
    """Make all four tokenizers and the record."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():  # told before the work
        raise UserError(f"-o {folder}: {there} is there, and no folder; give another")
    units, files = read_sources(paths)
    shown = progress_bar(units, title="reading", disable=None)
    texts = [piece for _, text in shown for piece in pieces(text)]
    made = {"char": char_tokenizer()} | {
        str(size): bpe_tokenizer(texts, size) for size in BPE_SIZES
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, tokenizer in made.items():
        save(tokenizer, folder / f"tokenizer_{name}.json")
    record = {
        "command": "train_tokenizers.py --train " + " ".join(path.name for path in paths),
        "tokenizers": tokenizers.__version__,
        "files": files,
        "pieces": len(texts),
        "characters": sum(map(len, texts)),
        "sha256 of the pieces, each with a newline after it": digest(texts),
    }
    write_json(folder / "trained_on.json", record)


def digest(texts: list[str]) -> str:
    return hashlib.sha256("".join(f"{text}\n" for text in texts).encode()).hexdigest()


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        "train_tokenizers.py", description=USAGE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    what = "texts, as for make_data.py (no default)"
    add("--train", metavar="PATH", type=Path, nargs="+", required=True, help=what)
    what = "where they go (default: hw4lib/data/tokenizer_jsons beside this file)"
    add("-o", metavar="FOLDER", type=Path, default=FOLDER, help=what)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    def run() -> None:
        args = parse(argv)
        with outlived_output():
            train(args.train, args.o)

    return guarded("train_tokenizers.py", run, argv)


if __name__ == "__main__":
    sys.exit(main())
