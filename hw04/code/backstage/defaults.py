"""Where files are looked for when no flag names them, from whatever folder."""

import hashlib
from argparse import Namespace
from pathlib import Path

import torch

from backstage.bpe import WordPieces
from backstage.device import choose_device
from backstage.errors import UserError
from backstage.files import check_writable, digest, remove_leftovers
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


def fill_corpora(args: Namespace, trained_on_sample: bool = False) -> str:
    """Fill in the default corpora; returns a line that says if the embedded sample stands in."""
    named = args.train_corpus or args.valid_corpus
    sample = not named and (trained_on_sample or not (DATA / CORPORA["tiny"][0]).exists())
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
    if not sample:
        return ""
    note = f"note: on the embedded sample of made-up stories, not on {DATA / CORPORA['tiny'][0]}"
    return f"{note}; python {DATA / 'get_data.py'} tiny gets real ones"


def prepare_training(args: Namespace) -> None:
    """What comes before all else: the seed, a look at whether files can be written, the corpora."""
    args.seed = args.seed or 0
    torch.manual_seed(args.seed)
    if rank_and_world_size()[0] == 0:
        check_writable(args.model)
        remove_leftovers(args.model)
    args.sample_note = fill_corpora(args)
    if args.sample_note:
        print(args.sample_note)


def describe_training(args: Namespace, precision: torch.dtype, bpe: WordPieces | None) -> dict:
    """What the checkpoint says of how the model was trained."""
    train_path = args.train_corpus
    valid_path = args.valid_corpus
    folder = train_path.resolve().parent.name
    return {
        "train_corpus": f"{folder}/{train_path.name}", "train_digest": digest(train_path),
        "valid_corpus": f"{valid_path.resolve().parent.name}/{valid_path.name}",
        "valid_digest": digest(valid_path), "folder": folder,
        "sample": bool(args.sample_note),
        "seed": args.seed, "E": args.E, "B": args.B, "lr": args.lr, "emb_lr": args.emb_lr,
        "weight_decay": args.weight_decay, "schedule": args.schedule, "bptt": args.bptt,
        "patience": args.patience, "valid_every": args.valid_every, "stories": args.stories,
        "glove_only": args.glove_only, "precision": str(precision),
        "torch": str(torch.__version__), "device": choose_device(args.device).type,
        "threads": torch.get_num_threads(), "processes": rank_and_world_size()[1],
        "pieces": hashlib.sha256(bpe.text.encode()).hexdigest()[:16] if bpe else "",
    }
