"""Continuations of a prompt: when they end, and how they are shown as they grow."""

import itertools
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from tqdm import tqdm

from backstage.checkpoint import Loaded
from backstage.corpora import EOS
from backstage.files import to_json
from backstage.flags import ROUNDS
from backstage.shown_words import unknown_words
from backstage.words import detokenized, printable

LONGEST_LOOP = 50  # tokens
SAMPLES_AT_ONCE = 64  # continuations of one prompt that grow together,
TOKENS_AT_ONCE = 1 << 18  # fewer of a prompt so long that they have more tokens than this


@dataclass
class Continuation:
    """A story that is being generated: ids, of which the first `begin` were given.

    It ends after `max_tokens` more, or with `rounds`, after so many times that or when it loops.
    """

    ids: list[int]
    begin: int
    seed: int
    max_tokens: int
    rounds: bool = False
    chances: list[float] = field(default_factory=list)  # of the new ids, if they are wanted
    ended: str | None = None  # why

    def __post_init__(self):
        self.generator = torch.Generator().manual_seed(self.seed)

    def add(self, token: int) -> None:
        """Put a token at its end, and see whether that is all."""
        self.ids.append(token)
        self.ended = self.why_ended()

    def why_ended(self) -> str | None:
        """Why generation stops here, or None if it goes on."""
        if self.ids[-1] == EOS:
            return "<eos>"
        count = len(self.ids) - self.begin
        last = max(self.begin, len(self.ids) - 3 * LONGEST_LOOP)
        size = looping(self.ids[last:]) if self.rounds else 0
        if size:
            number = -(-count // self.max_tokens)
            return f"a loop: {size} tokens said three times over, in round {number}"
        if self.rounds and count >= self.max_tokens * ROUNDS:
            return f"{ROUNDS} rounds of {self.max_tokens} tokens"
        if not self.rounds and count >= self.max_tokens:
            return f"-max_tokens {self.max_tokens}"
        return None


def looping(ids: list[int]) -> int:
    """The size, up to LONGEST_LOOP, of the block that `ids` ends with three times over, or 0."""
    for size in range(1, min(LONGEST_LOOP, len(ids) // 3) + 1):
        last = ids[-size:]
        if last == ids[-2 * size : -size] == ids[-3 * size : -2 * size]:
            return size
    return 0


def begun(args: Namespace, ids: list[int], seed: int) -> Iterator[list[Continuation]]:
    """The `-samples` continuations of a prompt, still without a new token; some at a time."""
    size = max(1, min(SAMPLES_AT_ONCE, TOKENS_AT_ONCE // len(ids)))
    for start in range(0, args.samples, size):
        yield [
            Continuation([*ids], len(ids), seed + k, args.max_tokens, args.continue_)
            for k in range(start, min(start + size, args.samples))
        ]


def show_continuations(
    args: Namespace, loaded: Loaded, words: list[str], stories: list[Continuation],
    growth: Iterator[None],
) -> None:
    """Print continuations of `words`, which `growth` makes longer; one alone as it grows."""
    if len(stories) > 1:
        for _ in tqdm(growth, desc="writing", unit=" tokens", leave=False, disable=None):
            pass
    unknown = unknown_words(words, loaded)
    for story in stories:
        if not args.json and not args.sampling.is_greedy():
            print(f"-- seed {story.seed}")
        text = show_story(args, loaded, words, story, growth)
        tokens = [loaded.words[i] for i in story.ids[story.begin :]]
        if args.json:
            record = {
                "mode": "prompt", "text": text, "unknown": unknown, "tokens": tokens,
                "probs": story.chances, "seed": story.seed, "ended": story.ended,
            }
            print(to_json(record), file=args.out, flush=True)
        else:
            print(f"\n-- {len(tokens)} tokens, ended by {story.ended}")


def show_story(
    args: Namespace, loaded: Loaded, words: list[str], story: Continuation, growth: Iterator[None]
) -> str:
    """Print a story, which goes on with `growth` until it has ended; returns its text."""
    parts = []
    tokens = loaded.join(told(loaded, words, story, growth))
    for part in detokenized(tokens, loaded.config.cased, loaded.names):
        parts.append(part)
        if not args.json:
            print(printable(part), end="", flush=True)
    return "".join(parts)


def told(
    loaded: Loaded, words: list[str], story: Continuation, growth: Iterator[None]
) -> Iterator[str]:
    """The words of the prompt as they were typed, then the new ones as they are chosen."""
    yield from words
    for i in itertools.count(story.begin):
        if i == len(story.ids):
            if story.ended:
                return
            next(growth)
        if story.ids[i] != EOS:
            yield loaded.words[story.ids[i]]
