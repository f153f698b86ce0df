#!/usr/bin/env python3
"""How much generated text repeats itself: 200 tokens of each text, without an end at a loop.

    python repetition.py -data DIR                   # of the shipped model -> results/measures/
    python repetition.py -data DIR -model my.pt -print  # of another one, printed only

For each frequency penalty texts are drawn after `once upon a time`, and greedy ones follow each of
the beginnings that the handout names. They end at <eos> or after 200 tokens, so that one that loops
loops on and is counted as such. Beside them are the beginnings of the test stories, cut there too.
Takes some minutes.
"""

import sys
import time
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[2] / name) for name in ("code", "report"))
from backstage.shell import guarded, importing

with importing("repetition.py"):
    import store
    from backstage.continuations import LONGEST_LOOP, looping
    from backstage.corpora import read_stories
    from backstage.defaults import DEFAULT_MODEL
    from backstage.files import digest
    from backstage.parser import Parser, positive
    from measures.analysis import BEGINNINGS, ONCE, PENALTIES, asked, ngrams
    from plans import CORPORA

LENGTH = 200  # tokens of a text


def repetition(texts: list[list[str]]) -> dict:
    """How much texts repeat themselves, from the first LENGTH tokens of each.

    distinct1 and distinct2: different words and 2-grams of a text over all of it (Li et al. 2016);
    `again`: the share of 4-grams that stand in their text before (Welleck et al. 2020); these are
    means over texts of four tokens or more, weighted by their n-grams. `loops`: the share of texts
    that say a block of words three times over.
    """
    texts = [text[:LENGTH] for text in texts]
    shares = {}
    for n in (1, 2, 4):
        grams = [ngrams(text, n) for text in texts]
        shares[n] = sum(len({*some}) for some in grams) / max(1, sum(map(len, grams)))
    return {
        "texts": len(texts), "tokens": sum(map(len, texts)) / len(texts),
        "distinct1": shares[1], "distinct2": shares[2], "again": 1 - shares[4],
        "loops": sum(map(has_loop, texts)) / len(texts),
    }


def has_loop(text: list[str]) -> bool:
    """Whether a text says a block of up to LONGEST_LOOP tokens three times over, anywhere."""
    ends = range(3, len(text) + 1)
    return any(looping(text[max(0, end - 3 * LONGEST_LOOP) : end]) > 0 for end in ends)


def of_penalty(model: Path, penalty: float, samples: int) -> list[dict]:
    """`repetition` of the texts that are drawn with a frequency penalty, and of greedy ones."""
    flags = ("-prompt", "-max_tokens", str(LENGTH), "-fpenalty", str(penalty), "-text")
    rows = []
    for greedy in (False, True):
        said = []
        if greedy:
            for beginning in BEGINNINGS:
                said += asked(model, *flags, beginning, "-greedy")
        else:
            said = asked(model, *flags, ONCE, "-samples", str(samples), "-seed", "0")
        ended = sum(record["ended"] == "<eos>" for record in said) / len(said)
        texts = [[word for word in record["tokens"] if word != "<eos>"] for record in said]
        rows.append({"penalty": penalty, "greedy": greedy, "eos": ended, **repetition(texts)})
    return rows


def measured(model: Path, data: Path, samples: int) -> dict:
    """The rows of all penalties, and of the test stories."""
    rows = []
    for penalty in PENALTIES:
        for row in of_penalty(model, penalty, samples):
            rows.append(row)
            print(time.strftime("%H:%M"), line(row), flush=True)
    real = repetition(read_stories(data / "tiny" / CORPORA["tiny"]["test"], "auto", False))
    print("test stories:", line({"penalty": 0.0, "greedy": False, **real}))
    return {"model": digest(model), "length": LENGTH, "rows": rows, "stories": real}


def line(row: dict) -> str:
    """A row, for a person."""
    how = "greedy" if row["greedy"] else "drawn"
    return (
        f"penalty {row['penalty']:g}, {how}: {row['texts']} texts of {row['tokens']:.0f} tokens, "
        f"distinct-1 {row['distinct1']:.3f}, 4-grams again {row['again']:.1%}, "
        f"loops {row['loops']:.1%}"
    )


def carry_out(argv: list[str] | None) -> None:
    """Measure the model that the command line names."""
    parser = Parser("repetition.py", __doc__)
    add = parser.add_argument
    store.add_data_flag(add, "tiny/")
    add("-model", type=Path, metavar="PATH", default=DEFAULT_MODEL, help="(default lm_model.pt)")
    add("-samples", type=positive, default=100, help="texts that are drawn for each penalty "
        "(default 100)")
    add("-print", dest="only_print", action="store_true", help="store nothing (default the result "
        "goes to results/measures/repetition.json)")
    args = parser.parse_args(argv)
    record = measured(args.model, args.data, args.samples)
    if not args.only_print:
        store.write_json(store.RESULTS / "measures" / "repetition.json", record)


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 for what the user can mend."""
    return guarded("repetition.py", lambda: carry_out(argv), argv)


if __name__ == "__main__":
    sys.exit(main())
