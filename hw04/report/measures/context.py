#!/usr/bin/env python3
"""How far back models look: their loss when they see only the last k tokens of a story.

    python context.py -data DIR               # all rows of rates.py that are trained
    python context.py -data DIR "tied, lstm"  # this one, and what is stored of others

For each target token of some test stories a model begins anew and reads the k tokens before it, or
all, if there are fewer. So the loss at k says what the words farther back are worth; it has no
`<bos>` to begin with then, as it always had in training. Losses are in nats per target token, of
all, and of words that the story had before or not (analysis.py); a Kneser-Ney 5-gram, which sees
four, stands beside them. The models are those of seed 0 in build/experiments, at each row's best
rate; the result is results/measures/context.json. Some minutes a model.
"""

import sys
import time
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[2] / name) for name in ("code", "report"))
from backstage.shell import guarded, importing

with importing("context.py"):
    import numpy as np
    import store
    import torch
    from backstage.minibatches import evaluating
    from backstage.parser import Parser, positive
    from backstage.state import State
    from lstlm import LSTMLM
    from measures.analysis import read_ids, where_losses_are
    from measures.ngram import KneserNey, read_training
    from measures.scoring import nats_by_position
    from plans import ROW_CUT, ROWS
    from rates import Row
    from runner import Experiment, require_corpora
    from torch.nn import functional as F

SEEN = (4, 8, 16, 32, 64, 128)  # tokens, and all
AT_ONCE = 1 << 14  # positions of windows that are computed together
RESULT = "context.json"


def windowed_nats(model: LSTMLM, stories: list[list[int]], k: int) -> list[np.ndarray]:
    """The nats (T,) of each story's targets, each given the last k of the ids before it alone."""
    nats = nats_by_position(model, stories)  # right where no more than k are before
    places = [  # of the other targets: the story, and the place in it
        (number, i) for number, story in enumerate(stories) for i in range(k + 1, len(story))
    ]
    size = max(1, AT_ONCE // k)
    with evaluating(model):
        for begin in range(0, len(places), size):
            some = places[begin : begin + size]
            windows = torch.tensor([stories[number][i - k : i] for number, i in some])  # (W, k)
            targets = torch.tensor([stories[number][i] for number, i in some])
            lengths = torch.full((len(some),), k)
            logits = model(windows, lengths, state=State(last_only=True))[:, 0]  # (W, V)
            losses = F.cross_entropy(logits.double(), targets, reduction="none")
            for (number, i), loss in zip(some, losses.tolist(), strict=True):
                nats[number][i - 1] = loss
    return nats


def measured(experiment: Experiment, first: int) -> dict:
    """The losses of the model of a run on the first test stories, for each of `SEEN` and for all.
    """
    loaded = experiment.load()
    test = read_ids(loaded, experiment.corpus("test", 0), first)
    train = read_ids(loaded, experiment.corpus("train", experiment.plan.stories[0]))
    counts = np.bincount(
        np.concatenate([story[1:] for story in train]), minlength=len(loaded.words)
    )
    rows = {}
    for k in SEEN:
        rows[str(k)] = shown(where_losses_are(windowed_nats(loaded.model, test, k), test, counts))
    whole = where_losses_are(nats_by_position(loaded.model, test), test, counts)
    return {"seen": {**rows, "all": shown(whole)}, "by_position": whole["by_position"]}


def shown(losses: dict) -> dict:
    """Of `where_losses_are` the mean of all, and of words said before and new ones."""
    return {"nats": losses["nats"], **losses["said_before"]}


def of_ngrams(experiment: Experiment, first: int) -> dict:
    """The same of a 5-gram model of the same stories and words, which sees four tokens."""
    train, words = read_training(experiment.corpus("train", ROW_CUT[0]), 4000)
    test = read_ids(words, experiment.corpus("test", 0), first)
    counts = np.bincount(
        np.concatenate([story[1:] for story in train]), minlength=len(words.words)
    )
    flat = KneserNey(train, len(words.words), 5).nats(test)
    ends = np.cumsum([len(story) - 1 for story in test])[:-1]
    losses = where_losses_are(np.split(flat, ends), test, counts)
    return {"seen": {"4": shown(losses)}, "by_position": losses["by_position"]}


def carry_out(argv: list[str] | None) -> None:
    """Measure the models that the command line names."""
    parser = Parser("context.py", __doc__)
    add = parser.add_argument
    known = [plan.name for plan in ROWS]
    add("names", nargs="*", default=[], metavar="ROW", help="of plans.py (default all)")
    store.add_data_flag(add, "tiny/")
    add("-stories", type=positive, default=60, help="of the test corpus, the first (default 60)")
    args = parser.parse_intermixed_args(argv)
    for name in args.names:
        if name not in known:
            parser.error(f"no row named {name}; see: rates.py -list")
    path = store.RESULTS / "measures" / RESULT
    record = store.read_json(path) if path.exists() else {"models": {}}
    if record.get("stories") != args.stories:
        record = {"stories": args.stories, "models": {}}
    rows = [Row(plan, args.data) for plan in ROWS if plan.name in (args.names or known)]
    require_corpora([row.at(1, 0) for row in rows])
    record["models"]["5-gram"] = of_ngrams(rows[0].at(1, 0), args.stories)
    for row in rows:
        trained = [one for one in row.best()[:1] if one.model.exists()]
        if not trained:
            print(f"{row.plan.name}: no trained model yet; rates.py trains it")
        for one in trained:
            record["models"][row.plan.name] = measured(one, args.stories)
            print(time.strftime("%H:%M"), line(row.plan.name, record["models"]), flush=True)
        store.write_json(path, record)
    print(line("5-gram", record["models"]))


def line(name: str, models: dict) -> str:
    """A model's mean losses, for a person."""
    seen = models[name]["seen"].items()
    return f"{name}: " + ", ".join(f"{k}: {losses['nats']:.3f}" for k, losses in seen)


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 for what the user can mend."""
    return guarded("context.py", lambda: carry_out(argv), argv)


if __name__ == "__main__":
    sys.exit(main())
