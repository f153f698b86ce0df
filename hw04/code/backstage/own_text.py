"""A text of one's own: prose in any language -> token files to train and to validate on."""

import re
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from backstage.corpora import read_text, split_stories
from backstage.errors import UserError
from backstage.files import atomic_write, refuse_unfinished, side_file
from backstage.names import Spellings, write_names
from backstage.processes import rank_and_world_size, sum_over_processes
from backstage.raw_text import BLANK_LINES, END_OF_STORY, mojibake_note, without_frames
from backstage.words import SENTENCE_ENDS, tokenize_text

TENTH = 10  # each tenth story is to validate on
FEW_STORIES = 20  # fewer, as in a book without blank lines, are cut into stretches
STRETCH = 500  # tokens of these at least, or fewer so that there are FEW_STORIES,
SHORT = 20  # but no fewer than that, unless a text would be one story else
# Thai, Lao, Burmese, Khmer, Japanese, Chinese: no spaces tell where a word ends.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]"
)


def own_corpora(model: Path) -> tuple[Path, Path]:
    """Where the tokens of `-text_file` are: beside the model, to train and to validate on."""
    return side_file(model, ".train.tokens"), side_file(model, ".valid.tokens")


def check_text_file(args: Namespace) -> None:
    """Raise UserError if `-text_file` does not go with the other flags."""
    if args.text_file and args.run.__name__ != "train":
        raise UserError("-text_file is for -train; -evaluate measures tokens, with -test_corpus")
    if args.text_file and (args.train_corpus or args.valid_corpus):
        why = "it is split into both by itself; leave them out"
        raise UserError(f"-text_file with -train_corpus or -valid_corpus: {why}")


def use_own_text(args: Namespace) -> None:
    """Make token files of `-text_file`, if it is given, and let these be the corpora.

    A run that is resumed finds those that it began with, whatever has become of the text.
    """
    if not args.text_file:
        return
    paths = own_corpora(args.model)
    there = args.resume and all(path.exists() for path in paths)
    if there:
        print(f"{args.text_file}: not read again, its tokens are in {paths[0]} and {paths[1]}")
    elif rank_and_world_size()[0] == 0:
        if not args.resume:
            refuse_unfinished(args.model)  # it needs the tokens that are there
        write_own_corpora(args, *paths)
    sum_over_processes(0)  # the other processes wait until the files are there
    args.train_corpus, args.valid_corpus = paths
    if args.stories != "stream":
        args.stories = "line"


def write_own_corpora(args: Namespace, train_path: Path, valid_path: Path) -> None:
    """Read the text, write both token files, and say what was done."""
    stories, kind, names = own_stories(args)
    valid = stories[TENTH - 1 :: TENTH] or stories[-1:]
    train = [story for number, story in enumerate(stories, 1) if number % TENTH]
    train = train[: len(stories) - len(valid)]  # without the last of fewer than ten
    if not train:
        raise UserError(f"{args.text_file}: too few words to train and to validate on; add some")
    said = []
    for path, part in ((train_path, train), (valid_path, valid)):
        content = "".join(" ".join(story) + "\n" for story in part).encode()
        atomic_write(path, lambda file, content=content: file.write(content))
        said.append(f"{len(part):,} ({sum(map(len, part)):,} tokens in {path})")
    write_names(train_path, names)
    which = "each tenth" if len(stories) >= TENTH else "the last"
    print(f"{args.text_file}: {len(stories):,} {kind}, {which} to validate on:")
    print(f"  to train on {said[0]}, to validate on {said[1]}")


def own_stories(args: Namespace) -> tuple[list[list[str]], str, list[str]]:
    """The stories of `-text_file`, each a list of tokens, what they are, and the names in them."""
    path = args.text_file
    text = read_text(path)
    books = without_frames(text)
    if books != [text]:
        print(f"{path}: left out what Project Gutenberg has put around its text")
    for note in (mojibake_note(text, path), unspaced_note(text, args)):
        if note:
            print(note)
    try:
        parts, kind = story_texts("\n\n".join(books), args.stories)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    spellings = Spellings()
    for part in parts if not args.cased else ():
        spellings.add(part)
    stories = [tokenize_text(part, bool(args.cased)) for part in parts]
    stories = [story for story in stories if story]
    if len(stories) < FEW_STORIES and stretches(stories) != stories:
        stories, kind = stretches(stories), "stretches of sentences"
    return stories, kind, spellings.names()


def unspaced_note(text: str, args: Namespace) -> str:
    """What to say of a language that writes no spaces between words."""
    beginning = text[:100_000]
    if args.tokenizer == "bpe" or 5 * len(UNSPACED.findall(beginning)) < len(beginning):
        return ""
    what = "where no spaces part words, all that is between two marks is one word"
    return f"note: {args.text_file}: {what}; -tokenizer bpe learns pieces instead"


def story_texts(text: str, how: str) -> tuple[list[str], str]:
    """The stories of a raw text, and what they are.

    If `how` leaves it open: what its end-of-story marks part, else paragraphs, else lines.
    """
    if how in ("eos", "article"):
        return split_stories(text, how), "stories"
    if how != "line" and END_OF_STORY.search(text):
        return END_OF_STORY.split(text), "stories"
    if how != "line" and BLANK_LINES.search(text.strip()):
        return BLANK_LINES.split(text), "paragraphs"
    return text.split("\n"), "lines"


def stretches(stories: list[list[str]]) -> list[list[str]]:
    """Stories cut into stretches of whole sentences, if some are long or there is but one."""
    length = min(max(sum(map(len, stories)) // FEW_STORIES, SHORT), STRETCH)
    found = [part for story in stories for part in cut_sentences(story, length)]
    if len(found) > 1:
        return found
    return [part for story in stories for part in cut_sentences(story, 1)]


def cut_sentences(story: list[str], length: int) -> Iterator[list[str]]:
    """A story cut where a sentence ends after `length` tokens, or after twice that and SHORT."""
    begin = 0
    quoted = False  # whether a quotation is open
    for end, token in enumerate(story, 1):
        quoted ^= token == '"'
        mark = story[end - 2] if token == '"' and end > 1 else token
        whole = mark in SENTENCE_ENDS and not quoted
        if end - begin >= (length if whole else 2 * length + SHORT):
            yield story[begin:end]
            begin = end
    if begin < len(story):
        yield story[begin:]
