#!/usr/bin/env python3
"""What the report says of its corpora: stories, tokens, types, how many of them the file of GloVe vectors has, and
how often the training stories say what the handout's odd beginnings do.

    python corpora.py -data DIR      # -> results/corpora.json; DIR as for experiments.py
"""

import argparse
import os
from collections import Counter
from pathlib import Path

from experiments import CORPORA, CUT, RESULTS, lstlm, write_json

GLOVE = Path("glove.6B") / "glove.6B.50d.txt"
ODD = ("boys", "a boys", "boys and", "elf")  # what the handout's beginnings have that is ungrammatical or rare


def describe(stories: list[list[str]]) -> dict:
    """Stories, target tokens (each story's `<eos>` among them), types, and those that come once."""
    counts = Counter(word for story in stories for word in story)
    return {"stories": len(stories), "tokens": counts.total() + len(stories), "types": len(counts),
            "once": sum(count == 1 for count in counts.values())}


def covered(stories: list[list[str]], vectors: Path) -> dict:
    """The types of the stories that a GloVe file has, and the share of the running words that are of these types."""
    counts = Counter(word for story in stories for word in story)
    has = lstlm.read_glove(vectors, list(counts)).any(1).tolist()
    words = [count for count, there in zip(counts.values(), has, strict=True) if there]
    with vectors.open(encoding="utf-8") as file:
        rows = sum(1 for _ in file)
    return {"file": vectors.name, "rows": rows, "types": len(words), "share": sum(words) / counts.total()}


def said(stories: list[list[str]], text: str) -> int:
    """How often the stories have these words one after the other."""
    words = text.split()
    return sum(story[i : i + len(words)] == words for story in stories for i in range(len(story)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-data", type=Path, default=Path(os.environ.get("LSTLM_DATA", lstlm.DATA)),
                        help="the folder with tiny/, wiki/ and glove.6B/ (default $LSTLM_DATA, else hw04/data)")
    data = parser.parse_args().data
    result = {}
    for text, names in CORPORA.items():
        stories = {part: lstlm.read_stories(data / text / name) for part, name in names.items()}
        result[text] = {part: describe(some) for part, some in stories.items()}
        if text == "tiny":
            result[text]["small"] = describe(stories["train"][: CUT[0]])
            result[text]["glove"] = covered(stories["train"], data / GLOVE)
            result[text]["said"] = {odd: said(stories["train"], odd) for odd in ODD}
    write_json(RESULTS / "corpora.json", result)
    print(lstlm.to_json(result))


if __name__ == "__main__":
    main()
