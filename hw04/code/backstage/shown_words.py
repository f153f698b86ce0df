"""What the interactive modes show of words: those typed, those that may come next."""

import difflib
import shutil
import sys
from argparse import Namespace
from typing import NamedTuple

from backstage.bpe import to_word_pieces
from backstage.checkpoint import Loaded
from backstage.corpora import SPECIAL
from backstage.files import to_json
from backstage.sampling import Sampling
from backstage.words import printable, tokenize_text

LONGEST_SHOWN = 60  # characters of a word
WIDEST_BAR = 40
BESIDE_BAR = 34  # columns of a row that are not its bar


class Choice(NamedTuple):
    """The token that was chosen: its id and its probability, and the seed if it was drawn."""

    token: int
    chance: float
    seed: int


def understand(text: str, loaded: Loaded, quiet: bool) -> list[str]:
    """The tokens of a typed text, shown back unless `quiet`, unknown ones with the nearest word."""
    words = to_word_pieces([tokenize_text(text, loaded.config.cased)], loaded.bpe)[0]
    if quiet:
        return words
    shown = []
    for word in words[-60:]:
        known = word in loaded.token2idx
        short = abridged(word)
        shown.append(loaded.shown(short) if known else describe_unknown(short, loaded.words))
    more = "... " if len(words) > 60 else ""
    print(f"tokens: {more}{' '.join(shown)}" if words else "no words: starting from <bos>")
    return words


def unknown_words(words: list[str], loaded: Loaded) -> list[str]:
    """Those of the tokens of a typed text that are not in the vocabulary, each once."""
    return [word for word in dict.fromkeys(words) if word not in loaded.token2idx]


def abridged(word: str) -> str:
    """The beginning of a word that is too long to be shown, else the word."""
    return word if len(word) <= LONGEST_SHOWN else f"{word[:LONGEST_SHOWN]}..."


def describe_unknown(word: str, vocabulary: list[str]) -> str:
    """How a word that is not in the vocabulary is shown: `[dgo is unknown, like dog]`."""
    near = difflib.get_close_matches(word, vocabulary[len(SPECIAL) :], 1, 0.5)
    like = "".join(f", like {printable(abridged(other))}" for other in near)
    return f"[{printable(word)} is unknown{like}]"


def show_next(
    args: Namespace, loaded: Loaded, text: str, words: list[str], best: list[tuple[str, float]],
    choice: Choice,
) -> None:
    """Print the most probable tokens after a text, which has these `words`, and the chosen one."""
    if args.json:
        tokens, probs = zip(*best, strict=True)
        record = {
            "mode": "use", "text": text, "unknown": unknown_words(words, loaded),
            "tokens": tokens, "probs": probs,
        }
        print(to_json(record), file=args.out, flush=True)
        return
    picked = loaded.words[choice.token]
    drawn = not args.sampling.is_greedy()
    how = ""
    if drawn:
        how = f"   (drawn with -seed {choice.seed}, its chance is {choice.chance:.1%}; "
        how += ":greedy takes the most probable)"
    print(f"next:   {loaded.shown(picked)}{how}")
    settings = changed_settings(args.sampling)
    if settings or drawn:
        print(f"the most probable{' with ' + ' '.join(settings) if settings else ''}:")
    rows = best if picked in dict(best) else [*best, (picked, choice.chance)]
    for word, p in rows:
        mark = " <- drawn" if drawn and word == picked else ""
        bar = "█" * round(bar_width() * p)
        print(f"  {loaded.shown(word):>14} {p:6.1%} {bar}{mark}".rstrip())


def changed_settings(sampling: Sampling) -> list[str]:
    """Those that change the probabilities, as flags."""
    plain = Sampling()
    names = ("fpenalty", "temperature", "top_k", "top_p", "min_p")
    values = {name: getattr(sampling, name) for name in names}
    return [f"-{name} {x}" for name, x in values.items() if x != getattr(plain, name)]


def bar_width() -> int:
    """How long the bar of a sure thing is, in characters."""
    if not sys.stdout.isatty():
        return WIDEST_BAR
    return max(1, min(WIDEST_BAR, shutil.get_terminal_size().columns - BESIDE_BAR))
