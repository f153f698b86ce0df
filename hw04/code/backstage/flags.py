"""The flags of the command line; the help of each says its default."""

import argparse
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

from backstage.attention import ATTENTION
from backstage.bpe import TOKENIZERS
from backstage.corpora import CorpusPath
from backstage.defaults import CODE, CORPORA, DATA, DEFAULT_GLOVE, DEFAULT_MODEL
from backstage.errors import UserError
from backstage.files import check_paths
from backstage.idle import idle_notes
from backstage.one_step import ONE_STEP_CELLS
from backstage.optimizer import WARM_UP
from backstage.own_text import check_text_file, own_corpora
from backstage.parser import Parser, looks_like_flag, positive, whole
from backstage.sampling import Sampling

ROUNDS = 20  # of -continue
# What `-preset` sets, for flags that are not given. strong: word vectors that are the output layer
# too leave room for a wide last layer; dropout keeps several epochs from learning the stories by
# heart.
PRESETS = {"strong": "-tie -EDim 512 -dropout 0.3 -E 8"}
STORIES = ("auto", "line", "eos", "article", "stream")
MOST_LAYERS = 100  # of a model: more would take minutes to make, for a model file of kilobytes, too


def check_whole(name: str, value: int, least: int, most: int = 2**32) -> None:
    """Raise UserError if a value, given from Python, is no whole number in this range."""
    if type(value) is not int or not least <= value <= most:
        how = f"give a whole number of at least {least} and at most {most}"
        raise UserError(f"{name} {value}: {how}")


def make_parser(program: str, description: str, modes: tuple[Callable, ...]) -> Parser:
    """All modes and flags, in groups."""
    parser = Parser(program, description)
    add_modes(parser.add_argument_group("what to do, one of"), modes)
    add_model_flags(parser.add_argument_group(
        "the model (only -train needs these; one that disagrees is an error)"
    ).add_argument)
    place = os.path.relpath(DATA, CODE)
    add_file_flags(parser.add_argument_group(
        f"files (defaults are beside lstlm.py or in {place}, from whatever folder)"
    ).add_argument)
    add_machine_flags(parser.add_argument_group("machine").add_argument)
    add_training_flags(parser.add_argument_group("training").add_argument)
    add_sampling_flags(parser.add_argument_group("choosing the next token").add_argument)
    return parser


def add_modes(group, modes: tuple[Callable, ...], required: bool = False) -> None:
    """A flag for each mode, which is a function: its name, and the first line of its docstring."""
    group = group.add_mutually_exclusive_group(required=required)
    for mode in modes:
        text = (mode.__doc__ or "").split("\n")[0]  # python -OO has none
        group.add_argument(
            f"-{mode.__name__}", dest="run", action="store_const", const=mode, help=text
        )


def add_model_flags(add: Callable) -> None:
    """Flags that say what the model is."""
    presets = "; ".join(map(": ".join, PRESETS.items()))
    switch = {"action": "store_true", "default": None}  # None: not given
    add("-preset", choices=PRESETS, help=f"other defaults; {presets} (default none)")
    add("-H", type=whole(1, MOST_LAYERS), help="LSTM layers (default 2)")
    add("-N", type=positive, help="size of each layer's hidden and cell state (default 512)")
    add("-cell", choices=ONE_STEP_CELLS, help="the kind of its layers (default lstm)")
    add("-VSize", type=positive, help="words of the vocabulary, the most frequent ones "
        "(default 10000)")
    add("-a", nargs="?", const="dot", choices=ATTENTION, help="attention over earlier states of "
        "size N/2; -a alone is dot (default none)")
    add("-EDim", type=positive, help="learn word vectors of this size, without GloVe (default "
        "GloVe's size, else 100)")
    add("-dropout", type=float, help="share of each layer's outputs dropped in training "
        "(default 0)")
    add("-locked", **switch, help="drop the same all through a story (default anew each time)")
    add("-finetune", **switch, help="train GloVe's vectors too (default not)")
    add("-tie", **switch, help="word vectors, fine-tuned, are the output layer too, and the last "
        "layer has their size (default not)")
    add("-positions", **switch, help="add sinusoidal encodings to word vectors (default not)")
    add("-bidirectional", **switch, help="half of each layer reads from the end and sees what is "
        "to be predicted: no language model, an experiment (default not)")
    add("-tokenizer", choices=TOKENIZERS, help="what is predicted: words, or the VSize pieces of "
        "them that byte-pair encoding finds, with learned vectors; needs the package tokenizers "
        "(default words)")
    add("-cased", **switch, help="keep upper case (default all lower case)")
    add("-glove_only", action="store_true", help="a word without a GloVe vector is <unk> (default "
        "it learns one)")


def add_file_flags(add: Callable) -> None:
    """Flags that say where the files are, and how they are read and written."""
    path = {"type": Path, "metavar": "PATH"}
    corpus = {"type": CorpusPath, "metavar": "PATH"}
    tiny, sample = CORPORA["tiny"], CORPORA["sample"]
    add("-model", **path, default=DEFAULT_MODEL, help="to write or read (default lm_model.pt)")
    add("-embeddings_file", **path, help=f"GloVe vectors (default {DEFAULT_GLOVE.name} if it is "
        "there, else none)")
    add("-train_corpus", **corpus, help=f"(default {tiny[0]}, where that is missing {sample[0]})")
    add("-valid_corpus", **corpus, help=f"(default {tiny[1]}, likewise {sample[1]})")
    add("-text_file", **path, help="plain text to train on in place of corpora of tokens, in any "
        "language; each tenth story is to validate on (default none)")
    add("-test_corpus", **corpus, nargs="+", help="what -evaluate measures (default the valid and "
        "the train corpus)")
    add("-stories", choices=STORIES, default="auto", help="they end with the line, at <eos> or "
        "<|endoftext|>, before a ' = Title = '; stream: all is one, with <eos> for a line's end "
        "(default auto: what the file has)")
    add("-trace", type=Path, metavar="FILE", help="add what is typed and printed to this file "
        "(default none)")
    add("-json", action="store_true", help="print one JSON object a line (default text for people)")


def add_machine_flags(add: Callable) -> None:
    """Flags of the machine and of all that is random."""
    add("-seed", type=whole(0, 2**32), help="of all that is random (default 0 for -train, else "
        "drawn and printed)")
    add("-device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="(default auto: "
        "cuda if it is there)")
    add("-precision", choices=("auto", "fp32", "bf16", "int8"), default="auto", help="of the large "
        "products (default auto: bf16 in training and evaluation where the hardware has it, else "
        "fp32); int8 is to generate faster")


def add_training_flags(add: Callable) -> None:
    """Flags of -train."""
    add("-E", type=positive, default=5, help="epochs (default 5)")
    add("-B", type=positive, default=32, help="stories in a minibatch (default 32)")
    add("-lr", type=float, default=4e-3, help="learning rate of Adam; it "
        "falls from the first step on, so n steps come to lr / (1 + 45 / n) (default 0.004)")
    add("-emb_lr", type=float, help="that of the word vectors (default that of -lr)")
    add("-schedule", choices=("linear", "cosine"), default="linear", help="how the rate falls to a "
        f"tenth, after a rise over {WARM_UP} steps (default linear)")
    add("-weight_decay", type=float, default=0.0, help="share of the rate by which matrices, but "
        "no word vectors, shrink in each step (default 0)")
    add("-bptt", type=positive, default=512, help="cut stories after so many tokens, state carried "
        "over (default 512)")
    add("-resume", action="store_true", help="go on with the run of the same flags that was "
        "stopped (default start)")
    add("-patience", type=whole(0), default=3, help="stop after so many epochs without gain "
        "(default 3; 0 never)")
    add("-valid_every", type=positive, default=250, metavar="STEPS",
        help="steps from one look at the valid loss to the next (default 250)")


def add_sampling_flags(add: Callable) -> None:
    """Flags of -use and -prompt."""
    add("-greedy", action="store_true", help="take the most probable one (default draw at random)")
    add("-fpenalty", type=float, default=0.0, help="off a token's score for each time it was said, "
        "-2 to 2 (default 0)")
    add("-temperature", type=float, default=1.0, help="below 1 safer, above 1 wilder, 0 greedy "
        "(default 1)")
    add("-top_k", type=whole(0), default=0, help="only the k most probable (default 0: all)")
    add("-top_p", type=float, default=1.0, help="only the most probable that make up this share "
        "(default 1)")
    add("-min_p", type=float, default=0.0, help="only those with this share of the best one's "
        "chance (default 0)")
    add("-max_tokens", type=positive, default=200, help="end a continuation after so many "
        "(default 200)")
    add("-samples", type=positive, default=1, metavar="K", help="continuations of each prompt "
        "(default 1)")
    add("-continue", dest="continue_", action="store_true", help="feed text and continuation back "
        f"until <eos>, a loop, or {ROUNDS} rounds (default one round)")
    add("-text", help="the words to start from, which may also stand without this flag (default "
        "typed, or read line by line from a pipe)")


def parse_flags(parser: Parser, argv: list[str] | None) -> argparse.Namespace:
    """The command line of lstlm.py, checked as far as it can be without looking at files."""
    args, rest = parser.parse_known_args(argv)
    notes = idle_notes(parser, args)  # before a preset gives flags that nobody has given
    if args.preset:  # in front, as the last of two flags counts
        given = sys.argv[1:] if argv is None else argv
        args, rest = parser.parse_known_args([*PRESETS[args.preset].split(), *given])
    args.notes = notes
    take_words(parser, args, rest)
    if not args.run:
        parser.error("say what to do: -train, -use, -prompt or -evaluate")
    check_training_flags(args)
    if args.dropout is not None and not 0 <= args.dropout < 1:
        parser.error(f"-dropout {args.dropout}: give a number from 0 to below 1")
    if args.run.__name__ == "train" and args.positions and args.stories == "stream":
        why = "a stream has no beginning to count from; leave one of them out"
        raise UserError(f"-positions -stories stream: {why}")
    check_text_file(args)
    corpora = [args.train_corpus, args.valid_corpus, args.text_file, *(args.test_corpus or [])]
    written = own_corpora(args.model) if args.text_file else ()
    check_paths(args.model, args.trace, [args.embeddings_file, *corpora], written)
    args.sampling = Sampling(
        args.greedy, args.fpenalty, args.temperature, args.top_k, args.top_p, args.min_p
    )
    return args


def take_words(parser: Parser, args: argparse.Namespace, rest: list[str]) -> None:
    """Let words that no flag takes be the text to start from. Raises UserError if they cannot be.
    """
    end = rest.index("--") if "--" in rest else len(rest)
    mode = args.run.__name__ if args.run else ""
    if any(map(looks_like_flag, rest[:end])):
        parser.refuse(rest)
    words = " ".join(rest[:end] + rest[end + 1 :])
    if mode in ("train", "evaluate") and (rest or args.text is not None):
        file = "-text_file" if mode == "train" else "-test_corpus"
        why = f"-{mode} starts from no text; a file comes after {file}"
        parser.error(f"{words if rest else f'-text {args.text}'}: {why}")
    if rest and args.text is not None:
        parser.error(f"-text {args.text} and {words}: two texts; give one, in quotes")
    if rest:
        args.text = words


def check_training_flags(args: argparse.Namespace) -> None:
    """Raise UserError if a flag of -train makes no sense; fill in the default of -emb_lr."""
    if args.emb_lr is None:
        args.emb_lr = args.lr
    for name in ("lr", "emb_lr"):
        if not 0 < getattr(args, name) < math.inf:
            raise UserError(f"-{name} {getattr(args, name)}: give a number above 0")
    if not 0 <= args.weight_decay < math.inf:
        raise UserError(f"-weight_decay {args.weight_decay}: give a number of at least 0")
