"""Where files are looked for when no flag names them, from whatever folder."""

import hashlib
from argparse import Namespace
from pathlib import Path

import torch

from backstage.bpe import WordPieces
from backstage.corpora import as_given, stories_of_training
from backstage.device import choose_device, describe_machine
from backstage.errors import UserError
from backstage.files import check_writable, digest, remove_leftovers
from backstage.own_text import use_own_text
from backstage.processes import rank_and_world_size

CODE = Path(__file__).resolve().parent.parent
HW04 = CODE.parent
DATA = HW04 / "data"
DEFAULT_MODEL = CODE / "lm_model.pt"
DEFAULT_GLOVE = DATA / "glove.6B" / "glove.6B.100d.txt"
CORPORA = {
    "tiny": ("tiny/tiny.train.tokens.4M", "tiny/tiny.valid.tokens.200K"),
    "sample": ("sample/train.tokens", "sample/valid.tokens"),
}


def fill_corpora(args: Namespace) -> str:
    """Fill in the default corpora; returns a line that says if the embedded sample stands in."""
    named = args.train_corpus or args.valid_corpus
    sample = not named and not (DATA / CORPORA["tiny"][0]).exists()
    train_path, valid_path = (DATA / name for name in CORPORA["sample" if sample else "tiny"])
    if sample and not train_path.exists():
        why = "no corpus there; name yours with -train_corpus and -valid_corpus"
        raise UserError(f"{train_path.parent}: {why}")
    args.train_corpus = args.train_corpus or train_path
    args.valid_corpus = args.valid_corpus or valid_path
    for path in (args.train_corpus, args.valid_corpus):
        if named and path in (train_path, valid_path) and not path.exists():
            why = f"no such file; give -train_corpus and -valid_corpus, not only {named}"
            raise UserError(f"{path}: {why}")
    return sample_note() if sample else ""


def sample_note() -> str:
    """The line that says that these are no real stories."""
    note = f"note: on the embedded sample of made-up stories, not on {DATA / CORPORA['tiny'][0]}"
    return f"{note}; python {DATA / 'get_data.py'} tiny gets real ones"


def prepare_training(args: Namespace) -> None:
    """What comes before all else: the seed, a look at whether files can be written, the corpora."""
    args.seed = args.seed or 0
    torch.manual_seed(args.seed)
    if rank_and_world_size()[0] == 0:
        check_writable(args.model)
        remove_leftovers(args.model)
    use_own_text(args)
    args.sample_note = fill_corpora(args)
    if args.sample_note:
        print(args.sample_note)
    if rank_and_world_size()[1] > 1:
        check_no_pipe([args.train_corpus, args.valid_corpus, vars(args).get("embeddings_file")])
    args.stories = stories_of_training(args.train_corpus, args.valid_corpus, args.stories)


def check_no_pipe(paths: list[Path | None]) -> None:
    """Raise UserError if one of the files is a pipe, of which each of several processes has a part.
    """
    for path in paths:
        if path and path.exists() and not path.is_file() and not path.is_dir():
            why = "a pipe, which several processes cannot read; write it to a file"
            raise UserError(f"{path}: {why}")


def corpus_name(path: Path) -> str:
    """A file with its folder; a pipe, which is in none, as it was given."""
    return f"{path.resolve().parent.name}/{path.name}" if path.is_file() else str(path)


def describe_training(args: Namespace, precision: torch.dtype, bpe: WordPieces | None) -> dict:
    """What the checkpoint says of how the model was trained."""
    train_path = args.train_corpus
    valid_path = args.valid_corpus
    return {
        "train_corpus": corpus_name(train_path), "train_digest": digest(train_path),
        "valid_corpus": corpus_name(valid_path), "valid_digest": digest(valid_path),
        "folder": train_path.resolve().parent.name if train_path.is_file() else "",
        "sample": bool(args.sample_note),
        "seed": args.seed, "E": args.E, "B": args.B, "lr": args.lr, "emb_lr": args.emb_lr,
        "weight_decay": args.weight_decay, "schedule": args.schedule, "bptt": args.bptt,
        "patience": args.patience, "valid_every": args.valid_every,
        "stories": as_given(args.stories), "glove_only": args.glove_only,
        "precision": str(precision),
        **describe_machine(choose_device(args.device)), "processes": rank_and_world_size()[1],
        "pieces": hashlib.sha256(bpe.text.encode()).hexdigest()[:16] if bpe else "",
    }
