"""What a training says of its vocabulary, and where its word vectors come from."""

from argparse import Namespace
from dataclasses import fields
from pathlib import Path

from torch import Tensor

from backstage.checkpoint import Config
from backstage.corpora import SPECIAL
from backstage.defaults import DEFAULT_GLOVE
from backstage.errors import UserError
from backstage.words import printable, tokenize_text


def given_config(args: Namespace) -> Config:
    """The hyper-parameters that flags give, the others as they are by default."""
    return Config(**given_flags(args, [field.name for field in fields(Config)]))


def given_flags(args: Namespace, names: list[str]) -> dict:
    """Those of the flags of these names that were given."""
    values = {name: getattr(args, name, None) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def choose_glove(args: Namespace, config: Config) -> Path | None:
    """The file of the word vectors, None if they are learned; UserError if flags disagree."""
    learns = args.EDim or config.tokenizer == "bpe"
    if args.embeddings_file and learns:
        raise UserError(
            "-embeddings_file has GloVe's vectors, -EDim and -tokenizer bpe learn theirs; give one "
            "of them"
        )
    glove = args.embeddings_file
    if not glove and not learns and DEFAULT_GLOVE.exists():
        glove = DEFAULT_GLOVE
    if not glove and not learns:
        get = "python hw04/data/get_data.py glove gets it"
        print(f"note: no {DEFAULT_GLOVE}; learning the word vectors ({get})")
    if not glove and args.glove_only:
        raise UserError("-glove_only needs GloVe vectors; give -embeddings_file")
    return glove


def tell_vocabulary(
    args: Namespace, config: Config, glove: Path | None, words: list[str], vectors: Tensor
) -> None:
    """Print what the vocabulary is: its `words`, and their `vectors`, zeros for learned ones."""
    bpe = config.tokenizer == "bpe"
    kind = "pieces" if bpe else "words"
    odd = [
        word for word in words
        if not word.isalnum() and tokenize_text(word, config.cased) != [word]
    ]
    if len(odd) > 0.1 * len(words) and not bpe:
        first = printable(odd[0][:60])  # one of a binary file may be all of it
        print(
            f"note: {len(odd) / len(words):.0%} of the words, such as {first}, are no tokens "
            "as -use makes them; if the corpus is plain prose, train with -text_file"
        )
    if len(words) < config.VSize and not args.glove_only:
        count = f"{len(words):,} {kind}"
        print(f"note: the corpus has {count}, fewer than -VSize {config.VSize:,}")
    learned = int((~vectors.any(1)).sum())
    source = "all learned"
    if glove:
        source = f"{len(words) - learned:,} from {glove.name}, {learned:,} learned"
    if config.finetune or config.tie:
        source += ", all fine-tuned"
    special = f"{len(SPECIAL)} special tokens"
    size = f"vectors of size {vectors.shape[1]}"
    print(f"vocabulary: {len(words):,} {kind} and {special}, {size}, {source}")
