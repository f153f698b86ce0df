"""Figures: perplexity, bits per character, the curve of a training."""

import math
import re
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from backstage.bpe import to_word_pieces
from backstage.checkpoint import Loaded
from backstage.corpora import (
    SPECIAL,
    UNK,
    encode,
    note_oddities,
    read_stories,
    read_text,
    stories_of_training,
)
from backstage.errors import UserError
from backstage.files import atomic_write, digest, to_json
from backstage.trained_on import find_corpora
from backstage.words import printable

SEES_AHEAD = (
    "note: a -bidirectional model sees the tokens that it predicts; these perplexities are no "
    "language model's"
)
TABLE_HEAD = "    nats       ppl bits/char     tokens   <unk> tokens/s  corpus"


def safe_exp(nats: float) -> float:
    """exp(nats), the perplexity; infinity where that is too large for a float."""
    return math.inf if nats >= 700 else math.exp(nats)


class Corpus(NamedTuple):
    """A corpus as a model sees it, with what its measures count."""

    path: Path
    stories: list[list[int]]  # ids
    targets: int
    characters: int  # of the tokens joined by single spaces, and one for each <eos>
    unknown: list[str]  # the words that are <unk> to the model


def read_corpus(loaded: Loaded, path: Path, how: str) -> Corpus:
    """Read a corpus file with the vocabulary of a loaded model."""
    stories = read_stories(path, how, loaded.config.cased)
    tokens = to_word_pieces(stories, loaded.bpe)
    ids = encode(tokens, loaded.token2idx)
    known = loaded.token2idx.keys() - {SPECIAL[UNK]}
    unknown = [word for story in tokens for word in story if word not in known]
    texts = (re.sub(" ?<eos> ?", "\n", " ".join(story)) for story in stories)
    characters = sum(len(text) + 1 for text in texts)
    return Corpus(path, ids, sum(len(story) - 1 for story in ids), characters, unknown)


def corpora_to_evaluate(args: Namespace, loaded: Loaded) -> Iterator[Corpus]:
    """The corpora of `-test_corpus`, by default valid and train, after what there is to say."""
    if not args.test_corpus:
        find_corpora(args, loaded.facts)
    if loaded.model.bidirectional:
        print(SEES_AHEAD)
    paths = args.test_corpus or [args.valid_corpus, args.train_corpus]
    missing = [path for path in paths if not path.exists()]
    if missing:
        get = "python hw04/data/get_data.py gets the default ones"
        raise UserError(f"{missing[0]}: no such file; give other paths with -test_corpus ({get})")
    how = loaded.facts.get("stories", "auto")
    if how != args.stories and "stream" in (how, args.stories):
        trained = printable(str(how))
        print(f"note: trained with -stories {trained}, evaluated with -stories {args.stories}")
    how = args.stories
    if args.test_corpus:
        for path in paths:
            note_oddities(path, read_text(path), how)
    else:  # as the training read them
        how = stories_of_training(args.train_corpus, args.valid_corpus, how)
    if not args.json:
        trained_on = printable(loaded.facts["train_corpus"])
        print(f"{args.model}: V = {len(loaded.words):,}, trained on {trained_on}")
        print(TABLE_HEAD)
    for path in paths:
        yield read_corpus(loaded, path, how)


def measured(corpus: Corpus, nats: float, perplexity: float, seconds: float) -> dict:
    """Perplexity, bits per character and more from the nats per token, computed in `seconds`.

    So that vocabularies can be compared, each `<unk>` pays log2(27) bits more for each letter of
    the word it stands for.
    """
    letters = sum(map(len, corpus.unknown))
    bits = nats * corpus.targets / math.log(2) + math.log2(27) * letters
    return {
        "mode": "evaluate", "corpus": str(corpus.path), "nats": nats, "ppl": perplexity,
        "bpc": bits / corpus.characters, "n_tokens": corpus.targets,
        "unk_share": len(corpus.unknown) / corpus.targets,
        "tokens_per_s": round(corpus.targets / seconds, 1),
    }


def show_evaluation(args: Namespace, loaded: Loaded, corpus: Corpus, row: dict) -> None:
    """Print what `measured` gives, and a note if the training's figures do not compare."""
    print(to_json(row) if args.json else table_row(row), file=args.out, flush=True)
    facts = loaded.facts
    if corpus.path.is_file() and corpus.path.resolve().parent.name == facts["folder"]:
        return
    if digest(corpus.path) not in (facts["train_digest"], facts["valid_digest"]):
        trained_on = printable(facts["train_corpus"])
        print(f"note: not comparable, as the model was trained on {trained_on}, not {corpus.path}")


def table_row(row: dict) -> str:
    """What `measured` gives, as a line under TABLE_HEAD."""
    return (
        f"{row['nats']:8.4f} {row['ppl']:9.2f} {row['bpc']:9.4f} {row['n_tokens']:10,} "
        f"{row['unk_share']:7.2%} {row['tokens_per_s']:8,.0f}  {row['corpus']}"
    )


def draw_curve(path: Path, records: list[dict]) -> None:
    """A picture of the losses so far, if matplotlib is installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    steps = [record["step"] for record in records]
    for key in ("train_nats", "valid_nats"):
        losses = [record[key] for record in records]
        axes.plot(steps, losses, marker=".", label=key.split("_")[0])
    axes.set(xlabel="step", ylabel="nats per token")
    axes.legend()
    atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=120))
