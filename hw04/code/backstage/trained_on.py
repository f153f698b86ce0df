"""What a model was trained and validated on: what its file says of that, and where it is now."""

import os
from argparse import Namespace
from pathlib import Path

from backstage.defaults import CORPORA, DATA, fill_corpora, sample_note
from backstage.errors import UserError
from backstage.files import digest
from backstage.own_text import own_corpora
from backstage.words import printable

PARTS = ("train", "valid")


def find_corpora(args: Namespace, facts: dict) -> None:
    """Fill in the corpora that -evaluate measures if no flag names one: those of the training.

    Raises UserError that says how to get them if they are not here.
    """
    if args.train_corpus or args.valid_corpus:
        fill_corpora(args)
        return
    for part, own in zip(PARTS, own_corpora(args.model), strict=True):
        setattr(args, f"{part}_corpus", find_corpus(args.model, facts, part, own))
    if facts["sample"]:
        print(sample_note())


def find_corpus(model: Path, facts: dict, part: str, own: Path) -> Path:
    """Where the corpus is that a model was trained (or validated) on, by its digest.

    A file that has its name and place, but other stories, is noted.
    """
    name = Path(facts.get(f"{part}_corpus", ""))
    known = [own, DATA / name, model.parent / name.name, Path(name), Path(name.name)]
    there = [path for path in known if path.is_file() and path.name == name.name]
    same = [path for path in there if digest(path) == facts[f"{part}_digest"]]
    if same:
        return same[0]
    get = f"python {os.path.relpath(DATA / 'get_data.py')} tiny -same"
    is_tiny = str(name) in CORPORA["tiny"]
    if there and there[0] == DATA / name:
        how = f"; {get} -force gets those" if is_tiny else ""
        print(f"note: {there[0]} has other stories than the model was trained with, so that its "
              f"figures do not compare with those of the training{how}")
        return there[0]
    how = f"{get} gets it" if is_tiny else "give it with -train_corpus and -valid_corpus"
    sample = os.path.relpath(DATA / CORPORA["sample"][1])
    raise UserError(
        f"{model} was trained on {printable(str(name))}, which is not here: {how}; or measure it "
        f"on something else with -test_corpus, such as {sample}"
    )


def describe_model(facts: dict) -> str:
    """What a model is, in a few words, from what its file says."""
    nats = facts.get("valid_nats")
    loss = f", valid loss {nats:.4f} nats" if isinstance(nats, float) else ""
    return f"trained on {printable(facts['train_corpus'])}{loss}"
