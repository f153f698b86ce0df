#!/usr/bin/env python3
"""What a trained model does with words: what it says, where its losses are, where it looks.

    python analysis.py NAME [NAME ...] -data DIR  # runs of experiments.py -> results/analysis/
    python analysis.py NAME -looks -data DIR      # where its attention looks -> results/looks/

Everything is computed from the model of the run (of its first seed whose model is there) in
build/experiments and the corpora under DIR; the neural cache has the setting that adapting.py found
best. Losses are in nats per target token. Takes some minutes a model, most of them for the texts
that the frequency penalty is judged by.
"""

import contextlib
import io
import json
import math
import sys
from collections import Counter
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[2] / name) for name in ("code", "report"))
from backstage.shell import guarded, importing

with importing("analysis.py"):
    import lstlm
    import numpy as np
    import store
    import torch
    from backstage.bpe import to_word_pieces
    from backstage.checkpoint import Loaded
    from backstage.corpora import EOS, encode, read_stories
    from backstage.errors import UserError
    from backstage.parser import Parser, positive
    from measures.adapting import neural_cache
    from measures.scoring import nats_by_position, score
    from plans import CORPORA, PLANS
    from runner import Experiment

BEGINNINGS = (  # of the handout, item 9
    "there was a girl ", "one day, a bird", "there once was a boys and", "one day , a",
    "once upon a time , an elf ", "once upon a time",
)
ONCE = "once upon a time"
ODD = (BEGINNINGS[2], BEGINNINGS[4])
ROUND = 50  # tokens that are asked for before the text and they are fed back
PENALTIES = (-2.0, -1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0)
PLACES = (1, 2, 3, 5, 9, 17, 33, 65, 129, 257)  # begins of ranges of positions; the last is open
LONG = PLACES[-1]  # positions of a story that reaches the last of them
COUNTS = (1, 10, 100, 1000, 10000)  # begins of ranges of a word's count in the training corpus
SHOWN = 40  # tokens of a heat map

# ---- What it says -------------------------------------------------------------------------------


def asked(model: Path, *flags: str) -> list[dict]:
    """The records that lstlm.py prints with `-json`."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        status = lstlm.main([*flags, "-json", "-model", str(model)])
    if status:
        raise SystemExit(status)
    return [json.loads(line) for line in printed.getvalue().splitlines()]


def completions(model: Path) -> dict:
    """What the handout asks to see: greedy and drawn continuations of its beginnings, -continue."""
    once = ("-prompt", "-text", ONCE)
    following = []
    for text in BEGINNINGS:
        for record in asked(model, "-use", "-text", text):
            best = list(zip(record["tokens"][:5], record["probs"][:5], strict=True))
            following.append({"text": text, "best": best})
    again = (*once, "-continue", "-max_tokens", str(ROUND))
    return {
        "next": following,
        "greedy": asked(model, *once, "-greedy")[0],
        "drawn": asked(model, *once, "-samples", "5", "-seed", "1"),
        "odd": [asked(model, "-prompt", "-greedy", "-text", text)[0] for text in ODD],
        "round": ROUND,
        "continued": asked(model, *again, "-greedy")[0],
        "continued_drawn": asked(model, *again, "-seed", "6")[0],
    }


def evaluated(experiment: Experiment) -> dict:
    """What -evaluate prints for the whole train, valid and test corpus (handout, item 11)."""
    paths = [str(experiment.data / "tiny" / name) for name in CORPORA["tiny"].values()]
    rows = asked(experiment.model, "-evaluate", "-test_corpus", *paths)
    return {
        part: {key: row[key] for key in store.MEASURES}
        for part, row in zip(CORPORA["tiny"], rows, strict=True)
    }


def ngrams(text: list[str], n: int) -> list[tuple[str, ...]]:
    """All n-grams of a text, in their order."""
    return [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]


def variety(texts: list[list[str]], length: int = 50) -> dict:
    """How much texts repeat themselves, from the first `length` tokens of each that has so many.

    distinct-n: different n-grams over n-grams, in a text (Li et al. 2016); `again`: the share of
    its tokens that end a 4-gram which it had before (Welleck et al. 2020).
    """
    texts = [text[:length] for text in texts if len(text) >= length]
    if not texts:
        return {"texts": 0, "distinct1": None, "distinct2": None, "again": None}
    distinct = {}
    for n in (1, 2, 4):
        grams = [ngrams(text, n) for text in texts]
        distinct[n] = float(np.mean([len({*some}) / len(some) for some in grams]))
    return {
        "texts": len(texts), "distinct1": distinct[1], "distinct2": distinct[2],
        "again": 1 - distinct[4],
    }


def penalties(model: Path, real: list[list[str]], samples: int) -> list[dict]:
    """For each frequency penalty, drawn and greedy: variety, length, ends; last, `real` stories."""
    rows = []
    for penalty in PENALTIES:
        for how in (("-samples", str(samples), "-seed", "0"), ("-greedy",)):
            flags = ("-continue", "-max_tokens", "20", "-text", ONCE, "-fpenalty", str(penalty))
            said = asked(model, "-prompt", *flags, *how)
            texts = [ONCE.split() + record["tokens"] for record in said]
            ends = Counter(record["ended"].split()[0].rstrip(":") for record in said)
            rows.append({
                "penalty": penalty, "greedy": how[0] == "-greedy", **variety(texts),
                "samples": len(said), "eos": ends["<eos>"] / len(said),
                "loops": ends["a"] / len(said),
                "tokens": float(np.mean([len(text) for text in texts])),
                "text": said[0]["text"][:400],
            })
    last = {"penalty": None, "greedy": False, **variety(real), "samples": len(real)}
    return [*rows, last]


# ---- Where its losses are -----------------------------------------------------------------------


def averaged(nats: np.ndarray, keys: np.ndarray, begins: tuple[int, ...]) -> list[dict]:
    """Mean nats and their number for each range of `keys`, which begin at `begins`; flat arrays."""
    place = np.searchsorted(begins, keys, side="right") - 1
    rows = []
    for i, begin in enumerate(begins):
        here = place == i
        if here.any():
            rows.append({
                "from": begin, "tokens": int(here.sum()), "nats": float(nats[here].mean())
            })
    return rows


def where_losses_are(
    nats: list[np.ndarray], stories: list[list[int]], counts: np.ndarray
) -> dict:
    """Mean nats by position in the story, by frequency in training, of words said before and not.

    `by_position_long` is of those stories alone that reach the last range, so that all its figures
    are of the same. `stories` are ids `<bos> ... <eos>`, `nats` those of each story's targets,
    `counts` (V,) those of the training.
    """
    targets = np.concatenate([story[1:] for story in stories])
    positions = np.concatenate([np.arange(1, len(story)) for story in stories])
    before = np.array([
        token in story[1:i] for story in stories for i, token in enumerate(story) if i
    ])
    flat = np.concatenate(nats)
    often = counts[targets]
    in_long = [len(story) > LONG for story in stories]
    long = np.repeat(in_long, [len(story) - 1 for story in stories])
    rare = (often < 1000) & (targets > EOS)
    masks = {
        "rare_new": rare & ~before, "rare_again": rare & before,
        "common_new": ~rare & ~before, "common_again": ~rare & before,
    }
    means = {
        name: {"tokens": int(mask.sum()), "nats": float(flat[mask].mean())}
        for name, mask in masks.items() if mask.any()
    }
    return {
        "nats": float(flat.mean()), "by_position": averaged(flat, positions, PLACES),
        "by_position_long": averaged(flat[long], positions[long], PLACES),
        "by_count": averaged(flat, often, COUNTS), "said_before": means,
    }


# ---- Where it looks -----------------------------------------------------------------------------


def attention_scores(model: lstlm.LSTMLM, hidden: torch.Tensor) -> torch.Tensor:
    """e(i, j) (T, T) of a story's states (T, N/2), by the equations of `lstlm.LSTMLM.attend`."""
    if model.attention == "additive":
        sums = (hidden @ model.W.T)[:, None] + (hidden @ model.U.T)[None]  # (T, T, N/2)
        return torch.tanh(sums) @ model.v
    if model.attention == "bilinear":
        return hidden @ model.W @ hidden.T
    return hidden @ hidden.T / hidden.shape[1] ** 0.5


@torch.no_grad()
def looks(model: lstlm.LSTMLM, story: list[int]) -> np.ndarray:
    """The attention weights (T, T) of a story's T positions; row i is zero from place i on."""
    features, _ = score(model, *batch_of(story))  # (1, T, N): [h ; c]
    hidden = features[0].chunk(2, 1)[0]  # (T, N/2)
    later = torch.ones(len(hidden), len(hidden), dtype=torch.bool, device=hidden.device).triu()
    weights = torch.softmax(attention_scores(model, hidden).masked_fill(later, -math.inf), 1)
    return weights.nan_to_num(0).cpu().numpy()  # of the first row, which sees nothing


def batch_of(story: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs, lengths and targets of a minibatch of one story."""
    inputs, targets, lengths = lstlm.collate_stories([story])
    return inputs, lengths, targets


def attention(model: lstlm.LSTMLM, words: list[str], stories: list[list[int]]) -> dict:
    """A heat map, and over all the stories: how far back attention looks, how sharply, at what.

    `uniform_*` is what weights that are equal over all earlier positions would give.
    """
    rows = []
    for story in stories:
        weights = looks(model, story)
        for i in range(8, len(story) - 1):
            row = weights[i, :i]
            back = i - np.arange(i)
            same = np.array(story[:i]) == story[i]
            rows.append({
                "distance": row @ back, "uniform_distance": back.mean(), "largest": row.max(),
                "same_word": row @ same, "uniform_same_word": same.mean(), "first": row[0],
                "uniform_first": 1 / i, "entropy": -(row[row > 0] * np.log(row[row > 0])).sum(),
                "uniform_entropy": np.log(i),
            })
    means = {name: float(np.mean([float(row[name]) for row in rows])) for name in rows[0]}
    shown = stories[0][: SHOWN + 1]  # the last one is a target only
    heat_map = looks(model, shown).round(4).tolist()
    return {"words": [words[i] for i in shown[:-1]], "map": heat_map, **means}


# ---- The models of runs -------------------------------------------------------------------------


def read_ids(loaded: Loaded, path: Path, first: int | None = None) -> list[list[int]]:
    """The first stories of a corpus file as ids of the model's vocabulary."""
    stories = read_stories(path, "auto", loaded.config.cased)[:first]
    return encode(to_word_pieces(stories, loaded.bpe), loaded.token2idx)


def looked_at(experiment: Experiment) -> dict:
    """`attention` of a model that has it, over the first 200 test stories."""
    loaded = experiment.load()
    if not loaded.config.a:
        why = "a model without attention, which looks nowhere; name one that has -a"
        raise UserError(f"{experiment.label}: {why}")
    test = read_ids(loaded, experiment.data / "tiny" / CORPORA["tiny"]["test"], 200)
    return {
        "name": experiment.plan.name, "seed": experiment.seed, "score": loaded.config.a,
        "stories": len(test), "attention": attention(loaded.model, loaded.words, test),
    }


def cache_setting() -> dict[str, float]:
    """theta and share of the neural cache that were best for the model that ships."""
    path = store.RESULTS / "measures" / "adapting.json"
    if not path.exists():
        raise UserError(f"{path}: not there; adapting.py -results {path} makes it")
    return store.read_json(path)["cache"]["setting"]


def analyse(experiment: Experiment, samples: int) -> dict:
    """All of the above for the model of a run, but for where its attention looks."""
    cache = cache_setting()
    loaded = experiment.load()
    tiny = experiment.data / "tiny"
    test_path = tiny / CORPORA["tiny"]["test"]
    test = read_ids(loaded, test_path)
    train = read_ids(loaded, tiny / CORPORA["tiny"]["train"])
    targets = np.concatenate([story[1:] for story in train])
    counts = np.bincount(targets, minlength=len(loaded.words))
    nats = nats_by_position(loaded.model, test)
    with_cache = neural_cache(loaded.model, test, **cache)
    test_words = read_stories(test_path, "auto", loaded.config.cased)
    return {
        "name": experiment.plan.name, "seed": experiment.seed, **completions(experiment.model),
        "evaluated": evaluated(experiment), "losses": where_losses_are(nats, test, counts),
        "cached": where_losses_are(with_cache, test, counts)["said_before"],
        "penalties": penalties(experiment.model, test_words, samples),
    }


def carry_out(argv: list[str] | None) -> None:
    """Analyse the models that the command line names."""
    parser = Parser("analysis.py", __doc__)
    add = parser.add_argument
    add("names", nargs="+", metavar="NAME")
    store.add_data_flag(add, "tiny/")
    add("-looks", action="store_true", help="only where its attention looks (default: all but "
        "that)")
    add("-samples", type=positive, default=20, help="texts for each frequency penalty (default 20)")
    args = parser.parse_intermixed_args(argv)
    for name in args.names:
        runs = [
            Experiment(plan, seed, args.data)
            for plan in PLANS if plan.name == name for seed in plan.seeds
        ]
        experiment = next((run for run in runs if run.model.exists()), None)
        if experiment is None:
            parser.error(f"{name}: no trained model of that name; see: experiments.py list")
        folder = "looks" if args.looks else "analysis"
        record = looked_at(experiment) if args.looks else analyse(experiment, args.samples)
        store.write_json(store.RESULTS / folder / experiment.result.name, record)
        print(f"{name}: done")


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 for what the user can mend."""
    return guarded("analysis.py", lambda: carry_out(argv), argv)


if __name__ == "__main__":
    sys.exit(main())
