#!/usr/bin/env python3
"""What a trained model does with words: completions, the frequency penalty, where its losses are, where it looks.

    python analysis.py NAME [NAME ...] -data DIR      # of runs of experiments.py -> results/analysis.NAME.json
    python analysis.py NAME -looks -data DIR          # only where its attention looks -> results/looks.NAME.json

Everything is computed from the model of the run (of its first seed whose model is there) in build/experiments and the
corpora under DIR; the neural cache has the setting that results/adapting.json found best. Losses are in nats per target
token. Takes some minutes a model, most of them for the texts that the frequency penalty is judged by.
"""

import argparse
import contextlib
import io
import json
import math
import os
import sys
from collections import Counter
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from adapting import nats_by_position, neural_cache
from experiments import CORPORA, MEASURES, PLANS, RESULTS, Experiment, write_json

sys.path.append(str(Path(__file__).resolve().parent.parent / "code"))
import lstlm  # noqa: E402

BEGINNINGS = ("there was a girl ", "one day, a bird", "there once was a boys and", "one day , a",
              "once upon a time , an elf ", "once upon a time")  # of the handout, item 9
ONCE, ODD = "once upon a time", (BEGINNINGS[2], BEGINNINGS[4])
ROUND = 50  # tokens that are asked for before the text and they are fed back
PENALTIES = (-2.0, -1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0)
PLACES = (1, 2, 3, 5, 9, 17, 33, 65, 129, 257)  # where ranges of positions in a story begin; the last is open
LONG = PLACES[-1]  # positions of a story that reaches the last of them
COUNTS = (1, 10, 100, 1000, 10000)  # where ranges of how often the training corpus has a word begin
SHOWN = 40  # tokens of a heat map


def asked(model: Path, *flags: str) -> list[dict]:
    """The records that lstlm.py prints with `-json`."""
    with contextlib.redirect_stdout(printed := io.StringIO()):
        if status := lstlm.main([*flags, "-json", "-model", str(model)]):
            raise SystemExit(status)
    return [json.loads(line) for line in printed.getvalue().splitlines()]


def completions(model: Path) -> dict:
    """What the handout asks to see: its six beginnings, greedy continuations, five drawn ones, and -continue."""
    once = ("-prompt", "-text", ONCE)
    return {
        "next": [{"text": text, "best": list(zip(*(record[key][:5] for key in ("tokens", "probs")), strict=True))}
                 for text in BEGINNINGS for record in asked(model, "-use", "-text", text)],
        "greedy": asked(model, *once, "-greedy")[0], "drawn": asked(model, *once, "-samples", "5", "-seed", "1"),
        "odd": [asked(model, "-prompt", "-greedy", "-text", text)[0] for text in ODD],
        "round": ROUND,
        "continued": asked(model, *once, "-greedy", "-continue", "-max_tokens", str(ROUND))[0],
        "continued_drawn": asked(model, *once, "-continue", "-seed", "6", "-max_tokens", str(ROUND))[0],
    }


def evaluated(experiment: Experiment) -> dict:
    """What -evaluate prints for the whole train, valid and test corpus (handout, item 11)."""
    paths = {part: str(experiment.data / "tiny" / name) for part, name in CORPORA["tiny"].items()}
    rows = asked(experiment.model, "-evaluate", "-test_corpus", *paths.values())
    return {part: {key: row[key] for key in MEASURES} for part, row in zip(paths, rows, strict=True)}


def variety(texts: list[list[str]], length: int = 50) -> dict:
    """How much texts repeat themselves, from the first `length` tokens of each that has so many.

    distinct-n: different n-grams over n-grams, in a text (Li et al. 2016); `again`: the share of its tokens that end a
    4-gram which it had before (Welleck et al. 2020).
    """
    texts = [text[:length] for text in texts if len(text) >= length]
    if not texts:
        return {"texts": 0, "distinct1": None, "distinct2": None, "again": None}
    grams = {n: [[tuple(text[i : i + n]) for i in range(len(text) - n + 1)] for text in texts] for n in (1, 2, 4)}
    one, two, four = (float(np.mean([len({*g}) / len(g) for g in grams[n]])) for n in grams)
    return {"texts": len(texts), "distinct1": one, "distinct2": two, "again": 1 - four}


def penalties(model: Path, real: list[list[str]], samples: int) -> list[dict]:
    """For each frequency penalty, drawn and greedy: variety, length, how texts end; last, `real` stories."""
    rows = []
    for penalty in PENALTIES:
        for how in (("-samples", str(samples), "-seed", "0"), ("-greedy",)):
            flags = ("-continue", "-max_tokens", "20", "-text", ONCE, "-fpenalty", str(penalty), *how)
            said = asked(model, "-prompt", *flags)
            texts = [ONCE.split() + record["tokens"] for record in said]
            ends = Counter(record["ended"].split()[0].rstrip(":") for record in said)
            rows.append({"penalty": penalty, "greedy": how[0] == "-greedy", **variety(texts), "samples": len(said),
                         "eos": ends["<eos>"] / len(said), "loops": ends["a"] / len(said),
                         "tokens": float(np.mean([len(text) for text in texts])), "text": said[0]["text"][:400]})
    return rows + [{"penalty": None, "greedy": False, **variety(real), "samples": len(real)}]


def averaged(nats: np.ndarray, keys: np.ndarray, begins: tuple[int, ...]) -> list[dict]:
    """Mean nats and their number for each range of `keys`, which begin at `begins`; all in flat arrays."""
    place = np.searchsorted(begins, keys, side="right") - 1
    return [{"from": begin, "tokens": int((place == i).sum()), "nats": float(nats[place == i].mean())}
            for i, begin in enumerate(begins) if (place == i).any()]


def where_losses_are(nats: list[np.ndarray], stories: list[list[int]], counts: np.ndarray) -> dict:
    """Mean nats by position in the story, by frequency in training, and of rare words said before and not.

    `by_position_long` is of those stories alone that reach the last range, so that all its figures are of the same.

    `stories` are ids `<bos> ... <eos>`, `nats` those of each story's targets, `counts` (V,) those of the training.
    """
    targets = np.concatenate([story[1:] for story in stories])
    positions = np.concatenate([np.arange(1, len(story)) for story in stories])
    before = np.concatenate([[token in story[1:i] for i, token in enumerate(story)][1:] for story in stories])
    flat, often = np.concatenate(nats), counts[targets]
    long = np.repeat([len(story) > LONG for story in stories], [len(story) - 1 for story in stories])
    rare = (often < 1000) & (targets > lstlm.EOS)
    mean = {name: {"tokens": int(mask.sum()), "nats": float(flat[mask].mean())} for name, mask in
            (("rare_new", rare & ~before), ("rare_again", rare & before),
             ("common_new", ~rare & ~before), ("common_again", ~rare & before)) if mask.any()}
    return {"nats": float(flat.mean()), "by_position": averaged(flat, positions, PLACES),
            "by_position_long": averaged(flat[long], positions[long], PLACES),
            "by_count": averaged(flat, often, COUNTS), "said_before": mean}


def scores(model: lstlm.LSTMLM, hidden: torch.Tensor) -> torch.Tensor:
    """e(i, j) (T, T) of a story's states (T, N/2), by the equations of `lstlm.LSTMLM.attend`."""
    if model.attention == "additive":
        return torch.tanh((hidden @ model.W.T)[:, None] + (hidden @ model.U.T)[None]) @ model.v
    if model.attention == "bilinear":
        return hidden @ model.W @ hidden.T
    return hidden @ hidden.T / hidden.shape[1] ** 0.5


@torch.no_grad()
def looks(model: lstlm.LSTMLM, story: list[int]) -> np.ndarray:
    """The attention weights (T, T) of a story's T positions; row i is zero from place i on."""
    inputs = torch.tensor([story[:-1]], device=model.output.weight.device)
    with mock.patch.object(model, "attend", wraps=model.attend) as attend:
        model.features(inputs, torch.tensor([inputs.shape[1]]))
    hidden = attend.call_args.args[0][0].to(model.output.weight.dtype)  # (T, N/2)
    later = torch.ones(len(hidden), len(hidden), dtype=torch.bool, device=hidden.device).triu()
    weights = torch.softmax(scores(model, hidden).masked_fill(later, -math.inf), 1)
    return weights.nan_to_num(0).cpu().numpy()  # of the first row, which sees nothing


def attention(model: lstlm.LSTMLM, words: list[str], stories: list[list[int]]) -> dict:
    """A heat map, and over all the stories: how far back attention looks, how sharply, and at what.

    `uniform_*` is what weights that are equal over all earlier positions would give.
    """
    rows = []
    for story in stories:
        weights, T = looks(model, story), len(story) - 1
        for i in range(8, T):
            row, back = weights[i, :i], i - np.arange(i)
            same = np.array(story[:i]) == story[i]
            rows.append((row @ back, back.mean(), row.max(), row @ same, same.mean(), row[0], 1 / i,
                         float(-(row[row > 0] * np.log(row[row > 0])).sum()), np.log(i)))
    names = ("distance", "uniform_distance", "largest", "same_word", "uniform_same_word", "first", "uniform_first",
             "entropy", "uniform_entropy")
    shown = stories[0][: SHOWN + 1]  # the last one is a target only
    return {"words": [words[i] for i in shown[:-1]], "map": looks(model, shown).round(4).tolist(),
            **dict(zip(names, map(float, np.mean(rows, 0)), strict=True))}


def looked_at(experiment: Experiment) -> dict:
    """`attention` of a model that has it, over the first 200 test stories."""
    loaded = lstlm.load_model(lstlm.parse_args(["-evaluate", "-model", str(experiment.model)]))
    if not loaded.config.a:
        raise SystemExit(f"{experiment.label}: a model without attention (-a), which looks nowhere")
    stories = lstlm.read_stories(experiment.data / "tiny" / "tiny.test.tokens.4M", "auto", loaded.config.cased)[:200]
    test = lstlm.encode(lstlm.cut(stories, loaded.pieces), loaded.token2idx)
    return {"name": experiment.plan.name, "seed": experiment.seed, "score": loaded.config.a, "stories": len(test),
            "attention": attention(loaded.model, loaded.words, test)}


def cache_setting() -> dict[str, float]:
    """theta and share of the neural cache that adapting.py found best for the model that ships."""
    try:
        return json.loads((RESULTS / "adapting.json").read_text())["cache"]["setting"]
    except FileNotFoundError as error:
        raise SystemExit(f"{error.filename}: not there; adapting.py -results {error.filename} makes it") from None


def analyse(experiment: Experiment, samples: int) -> dict:
    """All of the above for the model of a run, but for where its attention looks."""
    cache = cache_setting()
    loaded = lstlm.load_model(lstlm.parse_args(["-evaluate", "-model", str(experiment.model)]))
    tiny, how = experiment.data / "tiny", ("auto", loaded.config.cased)
    test_words = lstlm.read_stories(tiny / "tiny.test.tokens.4M", *how)
    test, train = (lstlm.encode(lstlm.cut(stories, loaded.pieces), loaded.token2idx) for stories in
                   (test_words, lstlm.read_stories(tiny / "tiny.train.tokens.4M", *how)))
    counts = np.bincount(np.concatenate([story[1:] for story in train]), minlength=len(loaded.words))
    return {"name": experiment.plan.name, "seed": experiment.seed, **completions(experiment.model),
            "evaluated": evaluated(experiment),
            "losses": where_losses_are(nats_by_position(loaded.model, test), test, counts),
            "cached": where_losses_are(neural_cache(loaded.model, test, **cache), test, counts)["said_before"],
            "penalties": penalties(experiment.model, test_words, samples)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("-data", type=Path, default=Path(os.environ.get("LSTLM_DATA", lstlm.DATA)),
                        help="the folder with tiny/ (default $LSTLM_DATA, else hw04/data)")
    parser.add_argument("-looks", action="store_true", help="only where its attention looks (default: all but that)")
    parser.add_argument("-samples", type=int, default=20, help="texts for each frequency penalty (default 20)")
    args = parser.parse_intermixed_args()
    for name in args.names:
        seeds = [Experiment(plan, seed, args.data) for plan in PLANS if plan.name == name for seed in plan.seeds]
        if not (experiment := next((one for one in seeds if one.model.exists()), None)):
            parser.error(f"{name}: no trained model of that name; see: experiments.py list")
        record = looked_at(experiment) if args.looks else analyse(experiment, args.samples)
        write_json(RESULTS / f"{'looks' if args.looks else 'analysis'}.{experiment.model.stem}.json", record)
        print(f"{name}: done")


if __name__ == "__main__":
    main()
