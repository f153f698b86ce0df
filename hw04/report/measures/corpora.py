#!/usr/bin/env python3
"""What the report says of its corpora.

    python corpora.py -data DIR    # -> results/measures/corpora.json; DIR as for experiments.py

Stories, tokens, types, how many of them the file of GloVe vectors has, and how often the training
stories say what the handout's odd beginnings do.
"""

import sys
from collections import Counter
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[2] / name) for name in ("code", "report"))
from backstage.shell import guarded, importing

with importing("corpora.py"):
    import store
    from backstage.corpora import read_stories
    from backstage.files import to_json
    from backstage.parser import Parser
    from lstlm import read_glove
    from plans import CORPORA, CUT

GLOVE = Path("glove.6B") / "glove.6B.50d.txt"
ODD = ("boys", "a boys", "boys and", "elf")  # ungrammatical or rare in the handout's beginnings


def describe(stories: list[list[str]]) -> dict:
    """Stories, target tokens (each story's `<eos>` among them), types, and those that come once."""
    counts = Counter(word for story in stories for word in story)
    return {
        "stories": len(stories), "tokens": counts.total() + len(stories), "types": len(counts),
        "once": sum(count == 1 for count in counts.values()),
    }


def covered(stories: list[list[str]], vectors: Path) -> dict:
    """The types of the stories that a GloVe file has, and their share of the running words."""
    counts = Counter(word for story in stories for word in story)
    has = read_glove(vectors, list(counts)).any(1).tolist()
    words = [count for count, there in zip(counts.values(), has, strict=True) if there]
    with vectors.open("rb") as file:
        rows = sum(1 for _ in file)
    return {
        "file": vectors.name, "rows": rows, "types": len(words),
        "share": sum(words) / counts.total(),
    }


def said(stories: list[list[str]], text: str) -> int:
    """How often the stories have these words one after the other."""
    words = text.split()
    return sum(
        story[i : i + len(words)] == words for story in stories for i in range(len(story))
    )


def carry_out(argv: list[str] | None) -> None:
    """Count, and write what is found."""
    parser = Parser("corpora.py", __doc__)
    store.add_data_flag(parser.add_argument)
    data = parser.parse_args(argv).data
    result = {}
    for text, names in CORPORA.items():
        stories = {part: read_stories(data / text / name) for part, name in names.items()}
        result[text] = {part: describe(some) for part, some in stories.items()}
        if text == "tiny":
            result[text]["small"] = describe(stories["train"][: CUT[0]])
            result[text]["glove"] = covered(stories["train"], data / GLOVE)
            result[text]["said"] = {odd: said(stories["train"], odd) for odd in ODD}
    store.write_json(store.RESULTS / "measures" / "corpora.json", result)
    print(to_json(result))


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 for what the user can mend."""
    return guarded("corpora.py", lambda: carry_out(argv), argv)


if __name__ == "__main__":
    sys.exit(main())
