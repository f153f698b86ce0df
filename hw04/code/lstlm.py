#!/usr/bin/env python3
"""A word-level LSTM language model in one file: data, model, loss, training, generation, evaluation.

    python lstlm.py -train -H 2 -N 512 -E 5             # train; the best model by valid loss is kept in lm_model.pt
    python lstlm.py -use                                # type some words, see the ten most probable next tokens
    python lstlm.py -prompt -greedy -fpenalty 0.5       # type a beginning, read how the model goes on
    python lstlm.py -evaluate -test_corpus my.tokens    # nats, perplexity and bits per character
    python lstlm.py -h                                  # every flag, with its default

Read it from top to bottom, in the order in which data flows: text, corpora and GloVe vectors, minibatches,
the packed LSTM, the model with its attention, the loss, training, sampling, the interactive modes,
evaluation, the checkpoint, the command line. Names of sizes, in comments such as `# (B, T)`:

    B stories in a minibatch     T positions of the longest one     R = real (unpadded) positions of all of them
    H LSTM layers of size N      EDim size of a word vector         V = VSize words + <unk>, <bos>, <eos>

It needs torch, numpy and tqdm, and no other file. Losses are in nats per target token unless said otherwise.
"""

import argparse
import contextlib
import difflib
import functools
import glob
import hashlib
import io
import itertools
import json
import math
import os
import pickletools
import re
import shlex
import shutil
import signal
import sys
import time
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

try:
    import numpy as np
    import torch
    from torch import Tensor, nn
    from torch import distributed as dist
    from torch.nn import functional as F
    from torch.nn.parallel import DistributedDataParallel
    from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_sequence
    from torch.utils.checkpoint import checkpoint
    from tqdm import tqdm
except KeyboardInterrupt:  # Ctrl-C in the second that this takes
    raise SystemExit(130) from None
except ModuleNotFoundError as missing:
    raise SystemExit(
        f"lstlm.py: error: this Python has no {missing.name}; use .venv/bin/python, which make demo makes, "
        "or pip install -r requirements.txt"
    ) from None

SPECIAL = ("<unk>", "<bos>", "<eos>")  # the first three ids of every vocabulary
UNK, BOS, EOS = range(3)
HW04 = Path(__file__).resolve().parent.parent
DATA = HW04 / "data"
ROWS = 512  # stories x positions that evaluation and reading compute at a time, with the state carried over
GPU_TIMES = 16  # so many times that, and that of the loss, on a GPU, which small tensors leave idle
STRETCH = 2048  # tokens in the stretches of a `-stories stream` on which training carries the state over
ROUNDS = 20  # of -continue
TOKENIZERS = ("words", "bpe")
ATTENTION = ("dot", "bilinear", "additive")
ADDITIVE = 1 << 23  # sums that additive attention has in memory at a time
WIDEST = 5000  # numbers of a word vector


class UserError(Exception):
    """Something that the user can mend. `main` prints it as one line and exits with status 2."""


class Stopped(Exception):
    """A training that a signal (its number) stopped, with its state saved."""


# ---- Text: what a person types or a raw corpus holds -> tokens, and back --------------------------------------------

# Typographic marks and the ASCII ones that the corpora and GloVe have instead (NFKC turns U+2026 into `...`).
PLAIN_MARKS = str.maketrans(
    {**dict.fromkeys("‘’‚‛′`", "'"), **dict.fromkeys("“”„‟«»", '"'), **dict.fromkeys("‐‒–—―⸺⸻−", "-")}
)
CLITICS = "n't|'s|'m|'d|'re|'ve|'ll"
CLITIC_AFTER_WORD = re.compile(rf"(?<=[A-Za-z0-9])((?i:{CLITICS}))(?=(?i:{CLITICS}){{0,9}}(?![A-Za-z0-9]))")
TOKEN = re.compile(
    rf"""[A-Za-z0-9]+(?:['-][A-Za-z0-9]+)*  # a word, with inner hyphens or apostrophes: ice-cream, o'clock
    | (?i:{CLITICS})(?![A-Za-z0-9])         # a clitic, parted from its word before
    | \.\.\.
    | \S                                    # any other mark stands alone""",
    re.VERBOSE,
)
QUOTES = {'"', "'"}
GLUED_LEFT = {*",.!?;:)]}%", "...", *CLITICS.split("|")}
GLUED_RIGHT = {*"([{$#"}
GO_ON = {"he", "she", "said", "asked"}  # small after `!"` and `?"`, where most other words begin a sentence


def tokenize_text(text: str, cased: bool = False) -> list[str]:
    """Split raw text into tokens the way the tiny corpora and the GloVe vocabulary have them.

    Quotes, dashes and ellipses become ASCII, letters lower case (kept if `cased`). A token is a run of a-z
    and 0-9 with inner hyphens or apostrophes, a clitic (Penn Treebank convention: `do n't`, `lily 's`),
    `...`, or any other single mark. A typed `<unk>` is three marks: only corpus files have control tokens.
    """
    text = unicodedata.normalize("NFKC", text).translate(PLAIN_MARKS)
    return TOKEN.findall(CLITIC_AFTER_WORD.sub(r" \1", text if cased else text.lower()))


def detokenized(tokens: Iterable[str], cased: bool = False) -> Iterator[str]:
    """The inverse of `tokenize_text`, one token at a time: the text to append for each, with its leading space if any.

    `tokenize_text(detokenize(t)) == t` for every `t` that `tokenize_text` gives, as a token is written
    without a space only where `tokenize_text` parts it again. Control tokens such as `<unk>` are written as
    they are, and do not come back. With `cased` tokens no capital is added; else those of names are lost.
    """
    run, open_quotes, glue_next, begins = "", set(), True, True  # `run` is what was written since the last space,
    parts: list[str] = []  # made of these; of a long one the last 16 are enough
    for token in tokens:
        # Quotes open and close in turn, but an apostrophe after an s is a possessive: the birds' songs.
        possessive = token == "'" and token not in open_quotes and run.endswith("s")
        if token in QUOTES and not possessive:
            open_quotes ^= {token}
        opens = token in open_quotes
        # A quotation after a mark begins a sentence (he said, "Come!"), after a word it may be one "word".
        begins |= opens and not run[-1:].isalnum()
        goes_on = token in GO_ON and run.endswith(('!"', '?"'))
        capital = not cased and "a" <= token[:1] <= "z" and (token == "i" or (begins and not goes_on))
        text = token[0].upper() + token[1:] if capital else token
        glue = glue_next or token.lower() in GLUED_LEFT or (token in QUOTES and not opens)
        glue = glue and tokenize_text(run + text, cased) == tokenize_text(run, cased) + tokenize_text(text, cased)
        parts = [*parts[-15:], text] if glue else [text]
        run = "".join(parts)
        yield text if glue else " " + text
        glue_next = opens or token in GLUED_RIGHT
        if token not in QUOTES | {*"([{)]}"}:  # quotes and brackets leave it as it is
            begins = token in {".", "!", "?"}


def detokenize(tokens: list[str], cased: bool = False) -> str:
    """Readable text: spacing, quotes, `do n't` as `don't`, a capital where a sentence begins."""
    return "".join(detokenized(tokens, cased))


# ---- Corpora: files -> stories -> vocabulary, word vectors and ids --------------------------------------------------

END_OF_STORY = re.compile(r"(?<!\S)(?:<\|endoftext\|>|<eos>)(?!\S)")
# A WikiText article begins ` = Title = ` between blank lines; ` = = Section = = ` is part of it, and so is a
# line like ` = Goals ; A = ` in the middle of a table.
TITLE = r" = (?!= )[^\n]+(?<! =) = ?\n[ \t]*(?:\n|\Z)"
ARTICLE = re.compile(rf"(?m)\A(?={TITLE})|^(?=[ \t]*\n{TITLE})")


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, its line ends as `\\n`. Raises UserError that names the place."""
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read as a corpus ({error.strerror}); give another path") from None
    if b"\0" in raw:
        line = raw.count(b"\n", 0, raw.index(b"\0")) + 1
        raise UserError(f"{path}:{line}: a binary file (it has a zero byte); a corpus is plain UTF-8 text")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        hint = "convert it, for example with iconv -f latin1 -t utf-8"
        raise UserError(f"{path}:{line}: not UTF-8 at byte {error.start} of the file; {hint}") from None
    if not text.strip():
        raise UserError(f"{path}: an empty corpus; it needs at least one story")
    return text.replace("\r\n", "\n")


def split_stories(text: str, how: str = "auto") -> list[str]:
    """Cut a corpus into stories at `eos` marks, at WikiText `article` headings, or at each `line`.

    `auto` takes the first of the three that the text has. `stream` makes one story of all lines, with an `<eos>` at the
    end of each, as published figures for WikiText-2 have it (Merity et al. 2018). Raises ValueError if the text lacks
    the marks asked for.
    """
    if how == "stream":
        return [" <eos> ".join(text.removesuffix("\n").split("\n"))]
    if how in ("auto", "eos") and END_OF_STORY.search(text):
        return END_OF_STORY.split(text)
    if how in ("auto", "article") and ARTICLE.search(text):
        return ARTICLE.split(text)
    if how in ("auto", "line"):
        return text.split("\n")
    mark = {"eos": "<eos> or <|endoftext|> token", "article": "' = Title = ' heading"}[how]
    raise ValueError(f"it has no {mark}, which -stories {how} needs")


def read_stories(path: str | Path, how: str = "auto", cased: bool = False) -> list[list[str]]:
    """The stories of a corpus file, each a list of tokens, lower-cased unless `cased`; empty ones are left out."""
    text = read_text(path)
    try:
        parts = split_stories(text if cased else text.lower(), how)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    stories = [[token for token in part.split() if token != "<bos>"] for part in parts]
    stories = [story for story in stories if story]
    if not stories:
        raise UserError(f"{path}: no token between its end-of-story marks; it needs at least one story")
    return stories


def build_vocab_and_embeddings(
    embeddings_file: str | Path | None, corpus_file: str | Path, vsize: int, *, edim: int = 100,
    glove_only: bool = False, how: str = "auto", cased: bool = False, pieces: "Pieces | None" = None,
) -> tuple[dict[str, int], Tensor, int]:
    """The `vsize` most frequent tokens of the training corpus and their GloVe vectors.

    Returns token -> id, embeddings (V, EDim), EDim. Ids 0 to 2 are `<unk>`, `<bos>`, `<eos>`; words follow by
    falling frequency. A word without a GloVe vector has an all-zero row, or is left out if `glove_only`.
    Without `embeddings_file` all words have one, of size `edim`. The row of `<unk>` is the mean of the words'
    vectors; those of `<bos>` and `<eos>` are drawn with the same spread (torch's global random state). With `pieces`
    all of these stand in place of words.
    """
    counts = Counter(token for story in cut(read_stories(corpus_file, how, cased), pieces) for token in story)
    if pieces:
        counts.update(dict.fromkeys(sorted(pieces.tokenizer.get_vocab()), 0))
    for token in SPECIAL:
        del counts[token]
    words = [word for word, _ in counts.most_common(vsize)]
    vectors = cached_glove(Path(embeddings_file), words) if embeddings_file else torch.zeros(len(words), edim)
    known = vectors.any(1)
    if glove_only:
        words, vectors, known = [w for w, k in zip(words, known, strict=True) if k], vectors[known], known[known]
    if not words:
        raise UserError(f"{corpus_file}: no word for the vocabulary" + " that has a GloVe vector" * glove_only)
    special = torch.zeros(3, vectors.shape[1])
    special[UNK] = vectors[known].mean(0) if known.any() else 0
    special[1:] = torch.randn(2, vectors.shape[1]) * vector_spread(vectors)
    token2idx = {token: i for i, token in enumerate([*SPECIAL, *words])}
    return token2idx, torch.cat([special, vectors]), vectors.shape[1]


def vector_spread(vectors: Tensor) -> float:
    """The standard deviation of the numbers in the given word vectors, rows of zeros aside; 1 where there is none."""
    known = vectors[vectors.any(1)].double()
    return (float(known.std()) if known.numel() > 1 else 0.0) or 1.0


def read_glove(path: str | Path, words: list[str]) -> Tensor:
    """The GloVe vectors of `words` (len(words), EDim), zeros for a word that the file lacks.

    Each line is `word number ... number`. The word is looked up before its numbers are parsed, as most lines
    are not wanted; the count of numbers is checked on every line. Raises UserError that names the line.
    """
    row_of = {word.encode(): row for row, word in enumerate(words)}
    vectors, number = np.zeros((len(words), 0), np.float32), 0
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                line = line.rstrip()
                if number == 1:
                    word, *numbers = line.split(b" ")
                    if not 0 < len(numbers) <= WIDEST or (len(numbers) == 1 and word.isdigit()):
                        raise ValueError("not 'word number ... number' as in GloVe files (a word2vec header?)")
                    vectors = np.zeros((len(words), len(numbers)), np.float32)
                if line.count(b" ") != vectors.shape[1]:
                    raise ValueError(f"{line.count(b' ')} numbers, where line 1 has {vectors.shape[1]}")
                row = row_of.pop(line[: line.index(b" ")], None)  # the first line of a word counts
                if row is not None:
                    with np.errstate(over="ignore"):
                        vectors[row] = [float(field) for field in line.split(b" ")[1:]]
                    if not np.isfinite(vectors[row]).all():
                        raise ValueError("a number that is not finite")
    except OSError as error:
        get = "python hw04/data/get_data.py glove gets them; without the flag vectors are learned"
        raise UserError(f"{path}: cannot be read as GloVe vectors ({error.strerror}); {get}") from None
    except ValueError as error:
        raise UserError(f"{path}:{number}: {str(error)[:200]}; delete the line or get the file again") from None
    if not number:
        raise UserError(f"{path}: an empty file, not GloVe vectors; get it again")
    return torch.from_numpy(vectors)


def cached_glove(path: Path, words: list[str]) -> Tensor:
    """`read_glove`, whose result is kept in a file beside `path` for the next time with the same words.

    That file is two SHA-256 digests and the float32 numbers: the first digest is of what they were made from, the
    second is of the numbers. If it cannot be read it is made anew, and if it cannot be written that is no error.
    """
    if not path.is_file():  # nor is a pipe read twice
        return read_glove(path, words)
    cache, key = path.with_name(f".{path.name}.cache"), None
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        key = glove_key(path, words)
        with cache.open("rb") as file:
            if file.read(32) == key:
                check, numbers = file.read(32), bytearray(file.read())
                if hashlib.sha256(numbers).digest() == check:
                    return torch.frombuffer(numbers, dtype=torch.float32).view(len(words), -1)
    vectors = read_glove(path, words)
    with contextlib.suppress(OSError):
        numbers = vectors.numpy().tobytes()
        atomic_write(cache, lambda file: file.write(key + hashlib.sha256(numbers).digest() + numbers))
    return vectors


def glove_key(path: Path, words: list[str]) -> bytes:
    """A digest of the words and of what tells one GloVe file from another: size, time, the first and the last MiB."""
    size = path.stat().st_size
    with path.open("rb") as file:
        ends = file.read(1 << 20), file.seek(max(0, size - (1 << 20))), file.read()
    return hashlib.sha256(repr((size, path.stat().st_mtime_ns, ends, words)).encode()).digest()


class Pieces:
    """Byte-pair encoding (Sennrich et al. 2016) with the library `tokenizers`, made from its JSON.

    A token is cut into pieces, of which the first begins with START. Single bytes are pieces, so nothing is unknown.
    """

    START = "Ġ"  # how byte-level encodings write a space

    def __init__(self, text: str):
        """Raises ValueError if the JSON is not that of `empty` but for the pieces: has a regular expression, say."""
        blank, given = (json.loads(x) for x in (Pieces.empty().to_str(), text))
        given["model"] |= {name: blank["model"][name] for name in ("vocab", "merges")}
        if given != blank:
            raise ValueError("not the JSON of such pieces")
        self.text, self.tokenizer = text, Pieces.library().Tokenizer.from_str(text)

    @staticmethod
    def library():
        """The module. Raises UserError if it is not installed."""
        try:
            import tokenizers
        except ModuleNotFoundError:
            raise UserError("-tokenizer bpe needs a package: pip install tokenizers") from None
        return tokenizers

    @staticmethod
    def empty():
        """An encoding with no piece at all."""
        library = Pieces.library()
        tokenizer, level = library.Tokenizer(library.models.BPE()), library.pre_tokenizers.ByteLevel
        tokenizer.pre_tokenizer = level(add_prefix_space=True, use_regex=False)
        tokenizer.decoder = library.decoders.ByteLevel()
        return tokenizer

    @staticmethod
    def learned(stories: list[list[str]], size: int) -> "Pieces":
        """An encoding of `size` pieces, or fewer if that is all there are, from a corpus."""
        if size < 256:
            raise UserError(f"-VSize {size} with -tokenizer bpe: it begins with the 256 bytes, so give at least 256")
        library, tokenizer = Pieces.library(), Pieces.empty()
        stories = [[token for token in story if token != SPECIAL[EOS]] for story in stories]
        more = {"initial_alphabet": library.pre_tokenizers.ByteLevel.alphabet(), "show_progress": False}
        tokenizer.train_from_iterator(stories, library.trainers.BpeTrainer(vocab_size=size, **more))
        return Pieces(tokenizer.to_str())

    def cut(self, stories: list[list[str]]) -> list[list[str]]:
        """Stories of tokens -> stories of pieces; the `<eos>` for a line's end in a stream stays as it is."""
        return [list(itertools.chain.from_iterable(
            run if ends else self.tokenizer.encode(list(run), is_pretokenized=True).tokens
            for ends, run in itertools.groupby(story, SPECIAL[EOS].__eq__))) for story in stories]

    def join(self, pieces: Iterable[str]) -> Iterator[str]:
        """Pieces -> tokens, each as soon as it is known to be whole."""
        token = []
        for piece in itertools.chain(pieces, [self.START]):
            if piece.startswith(self.START) and (text := self.spell(token).strip()):
                yield text
            token = [piece] if piece.startswith(self.START) else [*token, piece]

    def spell(self, pieces: list[str]) -> str:
        """The characters of pieces; U+FFFD for bytes that are none."""
        return self.tokenizer.decoder.decode(pieces)


def cut(stories: list[list[str]], pieces: Pieces | None) -> list[list[str]]:
    """Stories of tokens -> stories of what the model knows: pieces, or the tokens themselves."""
    return pieces.cut(stories) if pieces else stories


def encode(stories: list[list[str]], token2idx: dict[str, int]) -> list[list[int]]:
    """Stories of tokens -> stories of ids, `<bos> ... <eos>`; a token not in the vocabulary becomes `<unk>`."""
    get = token2idx.get
    return [[BOS, *(get(token, UNK) for token in story), EOS] for story in stories]


def tokenize_corpus(
    corpus_file: str | Path, token2idx: dict[str, int], how="auto", cased=False, pieces: Pieces | None = None,
) -> list[list[int]]:
    """The stories of a corpus file, each a list of ids `<bos> ... <eos>`."""
    return encode(cut(read_stories(corpus_file, how, cased), pieces), token2idx)


# ---- Minibatches ----------------------------------------------------------------------------------------------------


def stretches(stream: list[int], length: int) -> list[list[int]]:
    """Cut the ids of a stream into stories of `length` targets, each begun by the last token of the one before."""
    return [stream[i : i + length + 1] for i in range(0, len(stream) - 1, length)]


def collate_stories(stories: list[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Stories of ids -> inputs (B, T) padded with 0, targets (B, T) padded with -100, lengths (B,), all int64.

    The target at a position is the token after it: inputs are story[:-1], targets story[1:] (handout, item 2).
    """
    # YOUR CODE HERE: BEGIN (2)
    whole = [torch.tensor(story) for story in stories]
    inputs = pad_sequence([story[:-1] for story in whole], batch_first=True, padding_value=0)
    targets = pad_sequence([story[1:] for story in whole], batch_first=True, padding_value=-100)
    lengths = torch.tensor([len(story) - 1 for story in stories])
    return inputs, targets, lengths  # (B, T), (B, T), (B,)
    # YOUR CODE HERE: END


def shuffled_batches(stories: list[list[int]], batch_size: int, generator: torch.Generator) -> list[list[int]]:
    """The numbers of all stories, in minibatches of similar length, the batches in random order.

    Stories are shuffled, then each pool of 50 batches is sorted by length, so that little of a batch is padding.
    """
    order = torch.randperm(len(stories), generator=generator).tolist()
    batches = []
    for start in range(0, len(order), 50 * batch_size):
        pool = sorted(order[start : start + 50 * batch_size], key=lambda number: -len(stories[number]))
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def pieces(batch: list[list[int]], length: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Cut a minibatch, its longest story first, into consecutive pieces of at most `length` positions.

    Yields inputs, targets (B', T') and lengths (B',) of the B' stories that reach so far, always the first ones.
    """
    inputs, targets, lengths = collate_stories(sorted(batch, key=len, reverse=True))
    for start in range(0, inputs.shape[1], length):
        alive = int((lengths > start).sum())
        part = slice(start, start + length)
        yield inputs[:alive, part], targets[:alive, part], (lengths[:alive] - start).clamp(max=length)


# ---- The packed LSTM ------------------------------------------------------------------------------------------------


def pack(lengths: Tensor, T: int) -> PackedSequence:
    """Where the R real positions of a padded batch (B, T) of stories with these lengths (B,) stand when packed.

    `data` (R,) is the place of each packed row in the padded batch, flattened to (B * T): the first position of all
    stories, the longest story first (`sorted_indices`), then the second position of all that have one, and so on,
    `batch_sizes[t]` rows for position t.
    """
    places = torch.arange(len(lengths) * T).view(len(lengths), T)
    return pack_padded_sequence(places, lengths.cpu(), batch_first=True, enforce_sorted=False)


def places(batch_sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Of each packed row (R,) its position, and its story's rank, longest story first."""
    positions = torch.arange(len(batch_sizes)).repeat_interleave(batch_sizes)
    return positions, torch.arange(len(positions)) - (batch_sizes.cumsum(0) - batch_sizes)[positions]


def mirrored(batch_sizes: Tensor) -> Tensor:
    """For each packed row (R,) that of the same story which is as far from its other end: of the first B the last."""
    (positions, ranks), begins = places(batch_sizes), batch_sizes.cumsum(0) - batch_sizes
    return begins[ranks.bincount()[ranks] - 1 - positions] + ranks


def has_onednn(x: Tensor) -> bool:
    """Whether products of `x` go to oneDNN by hand. PyTorch gives float32 to MKL, which on AMD is half as fast."""
    return x.dtype == torch.float32 and x.device.type == "cpu" and torch.backends.mkldnn.is_available()


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (r, K) times the transpose of weight (n, K), plus bias (n,): `F.linear`, without autograd."""
    if has_onednn(x):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


def add_product(start: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """start (r, n) plus `product(x, weight)`."""
    if has_onednn(x):
        return torch.ops.mkldnn._linear_pointwise(x, start, weight, None, "add")
    return torch.addmm(start, x, weight.t())


def weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """The gradient (n, K) of a weight, from that of `product(x, weight)` (r, n) and x (r, K)."""
    if has_onednn(x):  # it copies a transposed first factor, so that is the smaller one
        return product(x.t(), grad.contiguous().t()).t()  # and takes ages for a weight with gaps between its rows
    return grad.t() @ x


class Product(torch.autograd.Function):
    """`product` with its gradients."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        """x (R, K), weight (n, K), bias (n,) -> (R, n)."""
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return product(grad, weight.t()), weight_gradient(grad, x), grad.sum(0)


sigmoid_backward, tanh_backward = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward


class LSTMCell:
    """One position of `nn.LSTM`: c = sigmoid(z_f) c' + sigmoid(z_i) tanh(z_g);  h = sigmoid(z_o) tanh(c).

    z (b, 4N) are the sums of both products and both biases, in the order i, f, g, o; c' is c one position before.
    """

    @staticmethod
    def forward(z, before, c, h):
        """Turns z (b, 4N) into the gates, in place, and fills c and h (b, N) from them and c' (b, N)."""
        N = c.shape[1]
        z[:, : 2 * N].sigmoid_()
        z[:, 2 * N : 3 * N].tanh_()
        z[:, 3 * N :].sigmoid_()
        i, f, g, o = z.chunk(4, 1)
        torch.mul(f, before, out=c).addcmul_(i, g)
        torch.mul(o, c.tanh(), out=h)

    @staticmethod
    def backward(gates, before, c, dh, dc, dz):
        """Fills dz (b, 4N), the gradient of the sums, and turns dc (b, N) into that of c'."""
        N = c.shape[1]
        (i, f, g, o), (di, df, dg, do) = gates.chunk(4, 1), dz.chunk(4, 1)
        tanh_c = c.tanh()
        torch.mul(dh, tanh_c, out=do)
        dc += tanh_backward(dh * o, tanh_c)
        torch.mul(dc, g, out=di)
        torch.mul(dc, before, out=df)
        torch.mul(dc, i, out=dg)
        dc *= f
        sigmoid_backward.grad_input(dz[:, : 2 * N], gates[:, : 2 * N], grad_input=dz[:, : 2 * N])
        tanh_backward.grad_input(dg, g, grad_input=dg)
        sigmoid_backward.grad_input(do, o, grad_input=do)


class GRUCell:
    """One position of `nn.GRU`: n = tanh(x_n + sigmoid(z_r) z_n);  h = sigmoid(z_u) h' + (1 - sigmoid(z_u)) n.

    z (b, 4N) are the sums r, u, n and x_n: n has only the recurrent product and bias, x_n those of the input.
    c is h in full precision.
    """

    @staticmethod
    def forward(z, before, c, h):
        """Turns z (b, 4N) into the gates r and u, z_n and n, in place, and fills c and h (b, N)."""
        r, u, z_n, n = z.chunk(4, 1)
        z[:, : 2 * c.shape[1]].sigmoid_()
        n.addcmul_(r, z_n).tanh_()
        h.copy_(torch.lerp(n, before, u, out=c))

    @staticmethod
    def backward(gates, before, c, dh, dc, dz):
        """Fills dz (b, 4N), the gradient of the sums, and turns dc (b, N) into that of h'."""
        N = c.shape[1]
        (r, u, z_n, n), (dr, du, dz_n, dn) = gates.chunk(4, 1), dz.chunk(4, 1)
        dc += dh
        torch.mul(dc, before - n, out=du)
        tanh_backward.grad_input(dc - dc * u, n, grad_input=dn)
        torch.mul(dn, z_n, out=dr)
        torch.mul(dn, r, out=dz_n)
        dc *= u
        sigmoid_backward.grad_input(dz[:, : 2 * N], gates[:, : 2 * N], grad_input=dz[:, : 2 * N])


class RNNCell:
    """One position of `nn.RNN` (Elman 1990): h = tanh(z), with z (b, N). c is h in full precision."""

    @staticmethod
    def forward(z, before, c, h):
        """Fills c and h (b, N)."""
        h.copy_(torch.tanh(z, out=c))

    @staticmethod
    def backward(gates, before, c, dh, dc, dz):
        """Fills dz (b, N); h' has no other way to the loss, so its dc is zero."""
        tanh_backward.grad_input(dc.add_(dh), c, grad_input=dz)
        dc.zero_()


CELLS = {"lstm": LSTMCell, "gru": GRUCell, "rnn": RNNCell}


class PackedLayer(torch.autograd.Function):
    """One recurrent layer over packed rows, with the results of `nn.LSTM`, `nn.GRU` or `nn.RNN`.

    On a CPU, autograd through `nn.LSTM` and a PackedSequence is quadratic in length: each step's slice
    allocates a gradient as large as the whole batch. Here both loops work in place on slices of the packed
    rows, and the weights' gradient is one large product after the loop. Products are in the dtype of `sums`
    (bfloat16 where the CPU has it in hardware), cells and nonlinearities in that of `c0` (float32 or better).
    """

    @staticmethod
    def forward(ctx, cell, sums, weight, h0, c0, batch_sizes, last, training):
        """sums (R, SN): input products and biases; weight (GN, N); h0, c0 (B, N) -> h (R, N), final c (B, N).

        The recurrent product goes to the first G of the S blocks of size N: 4 of 4, for the GRU 3 of 4, 1 of 1.
        """
        GN = len(weight)
        gates = c0.new_empty(sums.shape if training else (batch_sizes[0], sums.shape[1]))
        slots = gates.split(batch_sizes) if training else [gates[:b] for b in batch_sizes]
        cells, hidden = (x.new_empty(len(sums), c0.shape[1]) for x in (c0, sums))
        h, c = h0, c0
        for x, z, c_next, h_next in zip(sums.split(batch_sizes), slots, cells.split(batch_sizes),
                                        hidden.split(batch_sizes), strict=True):  # each (b, ...), b = batch_sizes[t]
            z[:, :GN] = add_product(x[:, :GN], h[: len(x)], weight)
            z[:, GN:] = x[:, GN:]
            cell.forward(z, c[: len(x)], c_next, h_next)
            h, c = h_next, c_next
        ctx.save_for_backward(weight, h0, c0, gates, cells, hidden)
        ctx.cell, ctx.batch_sizes = cell, batch_sizes
        return hidden, cells[last]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_hidden, grad_cell):
        """Backpropagation through time, last position first."""
        weight, h0, c0, gates, cells, hidden = ctx.saved_tensors
        sizes, GN = ctx.batch_sizes, len(weight)
        grad_sums = torch.empty_like(gates, dtype=weight.dtype)  # (R, SN)
        grad_c = grad_cell.clone()  # (B, N): a story's own, until the loop comes to its last position
        dh_later = grad_hidden[:0]  # (b, N): what the position after says of this one's h
        scratch = c0.new_empty(sizes[0], gates.shape[1])
        steps = zip(gates.split(sizes), earlier(cells, c0, sizes), cells.split(sizes), grad_hidden.split(sizes),
                    grad_sums.split(sizes), strict=True)
        for z, before, c, dh, out in reversed(list(steps)):
            dh, dz = dh.to(c0.dtype, copy=True), scratch[: len(dh)]
            dh[: len(dh_later)] += dh_later
            ctx.cell.backward(z, before, c, dh, grad_c[: len(dh)], dz)
            dh_later = product(out.copy_(dz)[:, :GN], weight.t())
        grad_weight = weight_gradient(grad_sums[:, :GN], torch.cat(earlier(hidden, h0, sizes)))
        return None, grad_sums, grad_weight, dh_later, grad_c, None, None, None


def earlier(rows: Tensor, initial: Tensor, batch_sizes: list[int]) -> list[Tensor]:
    """For each position the packed rows (b, N) of the position before it; `initial` (B, N) before the first."""
    return [initial, *(x[:b] for x, b in zip(rows.split(batch_sizes), batch_sizes[1:], strict=False))]


def sinusoids(begin: int, count: int, size: int) -> Tensor:
    """The encodings (count, size) of the positions from `begin` on (Vaswani et al. 2017, section 3.5)."""
    positions, pairs = torch.arange(begin, begin + count)[:, None], torch.arange(0, size, 2, dtype=torch.float64)
    angles = positions / 10000 ** (pairs / size)  # (count, size / 2)
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)[:, :size]


class State(NamedTuple):
    """What a story's past leaves to what follows: the LSTM's states and what attention looks back at."""

    h: tuple[Tensor, ...]  # (B, N) of each layer, and of each direction of it
    c: tuple[Tensor, ...]  # (B, N)
    past: Tensor  # (B, P, N) all earlier outputs of the last layer; P is 0 without attention
    position: int  # how many tokens that was

    def take(self, stories: slice | list[int]) -> "State":
        """The state of these stories, without its history of gradients."""
        h, c = (tuple(x[stories].detach() for x in xs) for xs in (self.h, self.c))
        return State(h, c, self.past[stories].detach(), self.position)


# ---- The model ------------------------------------------------------------------------------------------------------


class LSTMLM(nn.Module):
    """Word vectors -> H LSTM layers -> (attention over earlier states) -> scores of the V next tokens.

    `embeddings` (V, EDim): rows 0 to 2 train from the given values, all-zero rows are drawn at random and
    train, the others stay as they are unless `finetune`. With `attention="dot"` the LSTM's states have size
    N/2 and the output layer gets [h ; c], so that the number of parameters stays comparable (handout, section 2.1);
    "bilinear" and "additive" learn how well a state and an earlier one match. With `tie` the word vectors, all of them
    trained, are the output layer too (Press & Wolf 2017): what it gets, and so the last layer, has their size EDim
    (with attention [h ; c] has); its bias is no parameter: `train` makes it the words' frequency, and there it stays.
    `precision` is the dtype of the large matrix products. `dropout` acts on the output of each LSTM layer, if
    `locked` in the same way at all positions of a story (Gal & Ghahramani 2016, Merity et al. 2018). `positions` adds
    sinusoidal encodings to the word vectors. If `bidirectional` half of each layer reads from the end, and so sees the
    token that is to be predicted: that is no language model.
    """

    KIND = "lstlm"  # of its checkpoints

    def __init__(self, embeddings: Tensor, N: int, H: int, attention: str | None = None, dropout: float = 0.0,
                 precision: torch.dtype = torch.float32, cell: str = "lstm", finetune: bool = False,
                 tie: bool = False, positions: bool = False, bidirectional: bool = False, locked: bool = False):
        super().__init__()
        if attention and bidirectional:
            raise UserError("-a with -bidirectional: attention looks back only; leave out one of them")
        V, edim = embeddings.shape
        halves = "-a" if attention else "-bidirectional" if bidirectional else ""
        for flag, size in (("N", N), ("EDim", edim if tie else 0)):
            if halves and size % 2:
                raise UserError(f"-{flag} {size} with {halves}: it halves the LSTM's size, so {flag} must be even")
        self.embedding = nn.Embedding.from_pretrained(torch.empty(V, edim, dtype=embeddings.dtype), freeze=False)
        self.register_buffer("learned", torch.ones(V, dtype=torch.bool))
        spread = 1.0 if embeddings.is_meta else self.fill_vectors(embeddings, finetune, tie)
        self.cell, self.bidirectional = cell, bidirectional
        size, n = (x // 2 if halves else x for x in (N, edim if tie else N))  # of a layer, and of the last one
        layers, make = H - (tie and H > 1), getattr(nn, cell.upper())
        more = {"dropout": dropout if layers > 1 else 0.0, "bidirectional": bidirectional}
        self.lstm = make(edim, size if H > 1 else n, layers, **more)
        self.last = make(N if bidirectional else size, n, bidirectional=bidirectional) if tie and H > 1 else None
        self.dropout, self.locked, self.positions = nn.Dropout(dropout), locked, positions
        self.output = nn.Linear(edim if tie else N, V)
        if tie:
            self.output.weight = self.embedding.weight
            del self.output.bias
            self.output.register_buffer("bias", torch.zeros(V))
        self.attention, self.tied, self.precision, self.stepper = attention, tie, precision, None
        for name in {"bilinear": "W", "additive": "WUv"}.get(attention, ""):
            setattr(self, name, nn.Parameter(torch.empty(n) if name == "v" else torch.empty(n, n)))
        if not embeddings.is_meta:
            self.initialise((spread**2 + positions / 2) ** 0.5)

    @torch.no_grad()
    def fill_vectors(self, embeddings: Tensor, finetune: bool, tie: bool) -> float:
        """Take over the given word vectors, draw the all-zero ones, say which train; returns their spread."""
        self.learned.copy_(~embeddings.any(1))
        self.learned[: len(SPECIAL)] = False
        spread = vector_spread(embeddings[3:])
        if tie and not embeddings[3:].any():  # scores are products with them: they start small
            spread = embeddings.shape[1] ** -0.5
            embeddings = embeddings * spread
        drawn = torch.randn(embeddings.shape) * spread
        self.embedding.weight.copy_(torch.where(self.learned[:, None], drawn, embeddings))
        self.learned[: len(SPECIAL)] = True
        self.learned |= finetune | tie
        return spread

    @torch.no_grad()
    def initialise(self, spread: float) -> None:
        """Start where the gates feel their input: with PyTorch's small weights learning is some 40 steps behind.

        The products of input and weights have a spread of about 1, for word vectors whose numbers have this `spread`
        and for states of about 1/2. Forget gates start open (Jozefowicz et al. 2015), bilinear attention as dot.
        """
        if self.attention == "bilinear":
            self.W.copy_(torch.eye(len(self.W)) / len(self.W) ** 0.5)
        elif self.attention == "additive":
            for weight in (self.W, self.U, self.v):
                weight.copy_(torch.randn(weight.shape) * (weight.dim() / len(weight) ** 0.5))
        for layer, (w_ih, w_hh, b_ih, b_hh) in enumerate(self.layers()):
            N = w_hh.shape[1]
            nn.init.normal_(w_ih, std=(2 if layer > self.bidirectional else 1 / spread) / w_ih.shape[1] ** 0.5)
            nn.init.zeros_(b_ih)
            nn.init.zeros_(b_hh)
            if self.cell == "lstm":
                nn.init.ones_(b_hh[N : 2 * N])
        nn.init.zeros_(self.output.bias)

    def layers(self) -> list[list[Tensor]]:
        """w_ih, w_hh, b_ih, b_hh of each layer; of its two directions, one after the other, if it has two."""
        return self.lstm.all_weights + (self.last.all_weights if self.last else [])

    def embed(self, tokens: Tensor) -> Tensor:
        """Word vectors (..., EDim) of ids (...); no gradient reaches the frozen rows."""
        rows = self.embedding(tokens)
        return torch.where(self.learned[tokens][..., None], rows, rows.detach())

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Scores (B, T, V) of the next token at each position of inputs (B, T) with lengths (B,); 0 at padding."""
        # YOUR CODE HERE: BEGIN (1)
        features, packing, _ = self.features(inputs, lengths)  # (R, N)
        logits = self.output(features.to(self.output.weight.dtype))  # (R, V)
        flat = logits.new_zeros(inputs.numel(), logits.shape[1])  # (B * T, V)
        return flat.index_copy(0, packing.data.to(logits.device), logits).view(*inputs.shape, -1)
        # YOUR CODE HERE: END

    def features(self, inputs: Tensor, lengths: Tensor, state: State | None = None):
        """What the output layer sees at the R real positions: (R, N), their `pack` layout, and the state at the end.

        `state` is that of an earlier call: the stories go on where they were.
        """
        # YOUR CODE HERE: BEGIN (1)
        packing = pack(lengths, inputs.shape[1])
        rows, _, order, back = (x.to(inputs.device) for x in packing)
        state = state or self.initial_state(len(inputs))
        words = self.embed(inputs.flatten()[rows])  # (R, EDim)
        if self.positions:
            T = inputs.shape[1]
            words = words + sinusoids(state.position, T, words.shape[1]).to(words)[rows % T]
        hidden, h, c = self.run_cells(words, packing.batch_sizes, *([x[order] for x in xs] for xs in state[:2]))
        hidden, past = self.drop(hidden, packing.batch_sizes), state.past
        if self.attention:
            padded = hidden.new_zeros(inputs.numel(), hidden.shape[1]).index_copy(0, rows, hidden)
            padded = padded.view(*inputs.shape, -1)  # (B, T, N/2)
            context = self.attend(padded, past.to(padded.dtype))
            hidden = torch.cat([hidden, context.flatten(0, 1).index_select(0, rows)], 1)  # (R, N): [h ; c]
            past = torch.cat([past, padded.to(past.dtype)], 1)
        h, c = (tuple(x[back] for x in xs) for xs in (h, c))
        return hidden, packing, State(h, c, past, state.position + inputs.shape[1])
        # YOUR CODE HERE: END

    def initial_state(self, stories: int) -> State:
        """The state before the first token: all zeros."""
        zeros = tuple(w_hh.new_zeros(stories, w_hh.shape[1]) for _, w_hh, *_ in self.layers())
        return State(zeros, zeros, zeros[-1][:, None][:, :0], 0)

    def run_cells(self, data: Tensor, sizes: Tensor, h0: list[Tensor], c0: list[Tensor]):
        """Packed rows (R, EDim), sizes[t] for position t, and states (B, N) -> (R, N), and the states at the end."""
        if self.bidirectional:  # what follows these rows is not known: that direction begins here, with zeros
            h0[1::2], c0[1::2] = ([torch.zeros_like(x) for x in xs[1::2]] for xs in (h0, c0))
        if data.device.type != "cpu" and not (self.locked and self.training):
            return self.run_cudnn(data, sizes, h0, c0)
        backwards, final_h, final_c = mirrored(sizes), [], []
        last = backwards[: sizes[0]]  # the rows (B,) of the last positions
        ways = [slice(None), backwards][: 1 + self.bidirectional]
        layers = zip(self.layers(), h0, c0, strict=True)
        for layer in range(len(h0) // len(ways)):
            data, outputs = self.cast(self.drop(data, sizes) if layer else data), []
            for way in ways:
                weights, h, c = next(layers)
                sums, w_hh = self.input_sums(data[way], *map(self.cast, weights))
                hidden, c = PackedLayer.apply(CELLS[self.cell], sums, w_hh, self.cast(h), c, sizes.tolist(), last,
                                              torch.is_grad_enabled())
                outputs.append(hidden[way])
                final_h.append(hidden[last].to(c.dtype))
                final_c.append(c)
            data = torch.cat(outputs, 1) if len(ways) > 1 else hidden
        return data, final_h, final_c

    def drop(self, data: Tensor, sizes: Tensor) -> Tensor:
        """Dropout of packed rows (R, n); if `locked`, of the same columns at all positions of a story."""
        if not (self.locked and self.training):
            return self.dropout(data)
        return data * self.dropout(data.new_ones(int(sizes[0]), data.shape[1]))[places(sizes)[1]]

    def input_sums(self, data: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> tuple[Tensor, Tensor]:
        """What the inputs (R, EDim or N) and biases of a layer give to the sums of its cells, and w_hh."""
        N = w_hh.shape[1]
        if self.cell != "gru":
            return Product.apply(data, w_ih, b_ih + b_hh), w_hh
        r, u, x_n = Product.apply(data, w_ih, b_ih + F.pad(b_hh[: 2 * N], (0, N))).chunk(3, 1)
        return torch.cat([r, u, b_hh[2 * N :].expand(len(data), N), x_n], 1), w_hh

    def run_cudnn(self, data: Tensor, sizes: Tensor, h0: list[Tensor], c0: list[Tensor]):
        """`run_cells` on a GPU, where cuDNN's own is fast.

        Its products are of 19 bits (TF32) where bfloat16 was chosen: as fast as with 16, for the time goes to starting
        kernels. Autocast would take float16 here, in which the small gradients of a mean over all tokens vanish.
        """
        lstm, h, c = self.cell == "lstm", [], []
        torch.backends.cudnn.allow_tf32 = self.precision != torch.float32  # in the backward pass too
        for layers in filter(None, (self.lstm, self.last)):
            data = self.dropout(data) if h else data
            part = slice(len(h), len(h) + layers.num_layers * (1 + layers.bidirectional))
            start = torch.stack(h0[part]), torch.stack(c0[part])
            (data, *_), end = layers(PackedSequence(data, sizes), start if lstm else start[0])
            h.extend(end[0] if lstm else end)
            c.extend(end[1] if lstm else end)
        return data, h, c

    def cast(self, x: Tensor) -> Tensor:
        """`x` in the dtype of the large products: bfloat16 where that was chosen, else that of the weights."""
        return x.to(torch.bfloat16) if self.precision == torch.bfloat16 else x

    def attend(self, hidden: Tensor, past: Tensor) -> Tensor:
        """Contexts (B, T, N/2): hidden states (B, T, N/2) look back at all strictly earlier ones.

        The scores e(i, j) for j < i, softmax over j, weighted sum of the h_j; zeros where there is nothing earlier.
        dot: h_i . h_j / sqrt(N/2) (handout, equation 1), bilinear: h_i^T W h_j (Luong et al. 2015, "general"),
        additive: v^T tanh(W h_i + U h_j) (Bahdanau et al. 2015). `past` (B, P, N/2) are the states before these.
        Padding stands at the end of a story, after all that its real positions look at, so the causal mask hides it.
        """
        # YOUR CODE HERE: BEGIN (1a)
        skip = 0 if past.shape[1] else 1  # the first position of a story has nothing to look at
        queries = hidden[:, skip:]
        keys = torch.cat([past, hidden], 1)[:, :-1]  # (B, P + T - 1, N/2)
        # Query i sees the P past states and the i before it: all j <= P - 1 + skip + i.
        mask = hidden.new_ones(queries.shape[1], keys.shape[1], dtype=torch.bool).tril(past.shape[1] - 1 + skip)
        if self.attention == "additive":
            context = self.additive(queries, keys, mask)
        else:
            queries, scale = (queries @ self.W.to(keys.dtype), 1.0) if self.attention == "bilinear" else (queries, None)
            context = F.scaled_dot_product_attention(queries, keys, keys, attn_mask=mask, scale=scale)
        return F.pad(context, (0, 0, skip, 0))
        # YOUR CODE HERE: END

    def additive(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Additive attention of queries (B, q, n) to keys (B, k, n) where mask (q, k) is true: contexts (B, q, n).

        The sums W h_i + U h_j are B q k n numbers, so a few queries are done at a time, and again in the backward pass.
        """
        W, U, v = (x.to(keys.dtype) for x in (self.W, self.U, self.v))

        def contexts(query, sums, keys, mask):
            scores = torch.tanh(F.linear(query, W)[:, :, None] + sums[:, None]) @ v  # (B, q', k')
            return torch.softmax(scores.masked_fill(~mask, -math.inf), 2) @ keys

        size, sums, parts = ADDITIVE // max(1, keys.numel()) + 1, F.linear(keys, U), []
        for query, sees in zip(queries.split(size, 1), mask.split(size), strict=True):
            end = int(sees.any(0).sum())  # of the keys that one of these sees
            inputs = query, sums[:, :end], keys[:, :end], sees[:, :end]
            parts.append(checkpoint(contexts, *inputs, use_reentrant=False, preserve_rng_state=False))
        return torch.cat(parts, 1)


# ---- The loss -------------------------------------------------------------------------------------------------------


CHUNK = 1 << 22  # scores at a time in training, if V is not huge: 16 MB in float32; an eighth of that in evaluation


def times(x: Tensor) -> int:
    """How many times as much is computed at a time where `x` is."""
    return GPU_TIMES if x.is_cuda else 1


class LinearCrossEntropy(torch.autograd.Function):
    """The cross-entropy of softmax(features W^T + bias) against the targets, summed over the R rows, in nats.

    The scores of R rows x V words would take more memory than all the rest. So rows are taken in chunks, and the
    gradient is computed at once, while a chunk's probabilities are there: d loss / d scores = softmax - onehot(target).
    Products are in the dtype of `features`.
    """

    @staticmethod
    def forward(ctx, features, weight, bias, targets):
        """features (R, N), weight (V, N), bias (V,), targets (R,) -> a scalar."""
        low_weight, low_bias = weight.to(features.dtype), bias.to(features.dtype)
        if weight.is_cuda:  # its matrix units are fast with a multiple of 8 words: add some of probability 0
            more = -len(weight) % 8
            low_weight, low_bias = F.pad(low_weight, (0, 0, 0, more)), F.pad(low_bias, (0, more), value=-math.inf)
        grad_rows, V = [], len(weight)
        grad_weight, grad_bias = (torch.zeros_like(x, dtype=weight.dtype) for x in (low_weight, low_bias))
        total = weight.new_zeros(())
        # Each chunk adds V N numbers to the gradient of the weight; with far fewer than N rows a chunk that costs much.
        size = max(1, CHUNK * times(weight) // V, weight.shape[1] * 3 // 4)
        buffer = weight.new_empty(min(size, len(features)), len(low_weight))
        for x, target in zip(features.split(size), targets[:, None].split(size), strict=True):  # (r, N), (r, 1)
            logits = product(x, low_weight, low_bias)  # (r, V)
            probs = torch.softmax(logits, 1, dtype=weight.dtype, out=buffer[: len(x)])
            # The most probable word gives log(sum(exp(logits))), without a second pass of exponentials.
            log_sum = logits.amax(1, keepdim=True) - probs.amax(1, keepdim=True).log()
            total += (log_sum - logits.gather(1, target)).sum()
            slope = probs.scatter_add_(1, target, probs.new_full(target.shape, -1))
            grad_bias += slope.sum(0)
            slope = slope.to(x.dtype)
            grad_weight += weight_gradient(slope, x)
            grad_rows.append(product(slope, low_weight.t()))
        ctx.grads = torch.cat(grad_rows), grad_weight[:V], grad_bias[:V]
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return *(x * grad.to(x.dtype) for x in ctx.grads), None


def linear_cross_entropy(features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """`LinearCrossEntropy` without gradients: some words at a time for all rows, so no matrix is as large as V."""
    log_sum, picked = weight.new_full((len(features),), -math.inf), weight.new_empty(len(features))  # (R,)
    size = max(1, CHUNK * times(features) // 8 // len(features))
    for start, (w, b) in enumerate(zip(weight.split(size), bias.split(size), strict=True)):  # (v, N), (v,)
        logits = product(features, w.to(features.dtype), b.to(features.dtype)).to(weight.dtype)  # (R, v)
        log_sum = torch.logaddexp(log_sum, logits.logsumexp(1))
        place = targets - start * size  # of the target among these words
        rows = ((place >= 0) & (place < len(w))).nonzero()[:, 0]
        picked[rows] = logits[rows, place[rows]]
    return (log_sum - picked).sum()


def summed_nats(model: LSTMLM, inputs: Tensor, targets: Tensor, lengths: Tensor, state: State | None = None):
    """The cross-entropy summed over the real positions of a padded batch, in nats, and the state at its end."""
    output = model.output
    features, packing, state = model.features(inputs.to(output.weight.device), lengths, state)
    targets = targets.flatten()[packing.data].to(output.weight.device)
    nats_of = LinearCrossEntropy.apply if torch.is_grad_enabled() else linear_cross_entropy
    return nats_of(model.cast(features), output.weight, output.bias, targets), state


@torch.no_grad()
def compute_loss(model: LSTMLM, stories: list[list[int]], batch_size: int, progress: bool = False) -> float:
    """The mean cross-entropy per target token over all stories, in nats.

    A mean over tokens, not over batch means, so it does not depend on `batch_size`. Long stories are computed
    in pieces with the state carried over, so nothing is cut or forgotten; by a bidirectional model as a whole, as no
    piece has what comes from its story's end.
    """
    # YOUR CODE HERE: BEGIN (3)
    training = model.training
    model.eval()
    by_length = sorted(stories, key=len, reverse=True)
    rows = sys.maxsize if model.bidirectional else ROWS * times(model.output.weight)
    total, tokens = 0.0, sum(len(story) - 1 for story in stories)
    with tqdm(total=tokens, unit=" tokens", disable=None if progress else True, leave=False) as bar:
        for start in range(0, len(by_length), batch_size):
            batch, state = by_length[start : start + batch_size], None
            for inputs, targets, lengths in pieces(batch, max(1, rows // len(batch))):
                nats, state = summed_nats(model, inputs, targets, lengths, state and state.take(slice(len(inputs))))
                total += float(nats)
                bar.update(int(lengths.sum()))
    model.train(training)
    return total / tokens
    # YOUR CODE HERE: END


# ---- Training -------------------------------------------------------------------------------------------------------

WARM_UP = 50  # steps over which the learning rate rises to -lr
SAVE_STEPS, SAVE_SECONDS = 500, 300  # a run that is killed loses no more work than that
MACHINE = ("torch", "device", "threads", "processes", "precision")  # what may differ when a run is resumed
SKIPS = 5  # steps in a row without a finite loss and gradient end a training
UNK_RATE = 0.5  # how often a word that the training corpus has once is shown as <unk>, which else is never seen


class Nats(nn.Module):
    """`summed_nats` of a model, as the module that DistributedDataParallel asks for."""

    def __init__(self, model: LSTMLM):
        super().__init__()
        self.model = model

    def forward(self, *batch):
        return summed_nats(self.model, *batch)


def train_step(nats_of: nn.Module, optimizer: torch.optim.Optimizer, parts: Iterable[tuple]) -> float:
    """One minibatch of stories: loss, gradient with its norm clipped to 1, update. Returns the summed nats.

    It ends without an update, and returns NaN, when the loss or the gradient is not finite.
    Stories longer than `-bptt` go on in further `pieces`, each an update of its own, from the state they have
    reached. A token weighs the same in each piece, so the last piece of a lone long story counts little.
    With several processes each has a share of the stories, and DistributedDataParallel means their gradients.
    """
    # YOUR CODE HERE: BEGIN (4)
    rank, processes = place()
    total, state, count = 0.0, None, 0
    for inputs, targets, lengths in parts:
        count = count or int(lengths.sum())  # the tokens of the first piece
        mine, weight = slice(rank, None, processes), processes
        if rank >= len(inputs):  # no story of this process reaches so far, but it must take part: with any one, at 0
            mine, weight, state = slice(1), 0, None
        optimizer.zero_grad()
        state = state and state.take(slice(len(inputs[mine])))
        nats, state = nats_of(inputs[mine], targets[mine], lengths[mine], state)
        (nats * (weight / count)).backward()
        norm = float(nn.utils.clip_grad_norm_(nats_of.parameters(), max_norm=1.0))
        total += float(nats.detach()) * bool(weight)
        if any(over_processes(not math.isfinite(total + norm))):
            return math.nan
        optimizer.step()
    return total
    # YOUR CODE HERE: END


def place() -> tuple[int, int]:
    """The number of this process, from 0, and how many train together: 0 and 1 unless `torchrun` started several."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def over_processes(*values: float) -> list[float]:
    """Each value summed over all processes."""
    if place()[1] == 1:
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(sums)
    return sums.tolist()


def join_processes(args: argparse.Namespace, stack: contextlib.ExitStack) -> None:
    """Join the processes that `torchrun` started, if it did, until `stack` is left. Only the first one prints."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return
    device = choose_device(args.device)
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    stack.callback(dist.destroy_process_group)
    if dist.get_rank():
        args.out = stack.enter_context(open(os.devnull, "w"))  # noqa: SIM115 - closed with `stack`
        stack.enter_context(contextlib.redirect_stdout(args.out))


def ahead(function, items: Iterable) -> Iterator:
    """function(item) for each item, made one item ahead in a thread, so that no step waits for its minibatch."""
    with ThreadPoolExecutor(1) as thread:
        coming = None
        for item in items:
            ready, coming = coming, thread.submit(function, item)
            if ready:
                yield ready.result()
        if coming:
            yield coming.result()


def hide_rare(counts: Tensor, generator: torch.Generator) -> list[int]:
    """What each id is shown as in this epoch: itself, or `<unk>` for a random half of the words seen once."""
    hidden = (counts == 1) & (torch.rand(len(counts), generator=generator) < UNK_RATE)
    hidden[: len(SPECIAL)] = False  # a corpus of one story has one <eos>
    return torch.where(hidden, UNK, torch.arange(len(counts))).tolist()


def learning_rate(step: int, steps: int, peak: float, schedule: str = "linear") -> float:
    """The rate of step 1, 2, ..., `steps`: a linear rise over WARM_UP steps, then a fall to a tenth.

    The fall is a line, or the first half of a `cosine` (Loshchilov & Hutter 2017).
    """
    left = (1 + math.cos(math.pi * step / steps)) / 2 if schedule == "cosine" else 1 - step / steps
    return peak * min(step / WARM_UP, 0.1 + 0.9 * left)


def make_optimizer(model: LSTMLM, args: argparse.Namespace) -> torch.optim.Optimizer:
    """Adam with groups: word vectors with a rate of their own, matrices with weight decay, biases without.

    The decay is decoupled (Loshchilov & Hutter 2019). Word vectors have none, as frozen ones would shrink.
    """
    vectors = model.embedding.weight
    others = [p for p in model.parameters() if p is not vectors]
    return torch.optim.AdamW([
        {"params": [vectors], "peak": args.emb_lr, "weight_decay": 0.0},
        {"params": [p for p in others if p.dim() > 1], "peak": args.lr, "weight_decay": args.weight_decay},
        {"params": [p for p in others if p.dim() == 1], "peak": args.lr, "weight_decay": 0.0},
    ], fused=True)


def train(args: argparse.Namespace) -> None:
    """Train a model on `-train_corpus`, keep the best one by valid loss, log and show how it goes."""
    args.seed = args.seed or 0
    torch.manual_seed(args.seed)
    precision = choose_precision(args.precision, device := choose_device(args.device))
    if place()[0] == 0:
        check_writable(args.model)
        remove_leftovers(args.model)
    sample = fill_corpora(args)
    if sample:
        print(sample)
    token2idx, embeddings, config, pieces = training_vocabulary(args)
    if config.bidirectional:
        print(SEES_AHEAD)
    stories, valid = (tokenize_corpus(path, token2idx, args.stories, config.cased, pieces)
                      for path in (args.train_corpus, args.valid_corpus))
    kind = "stories"
    if args.stories == "stream":  # the one story that it is makes no minibatches
        stories, kind = stretches(stories[0], STRETCH), "stretches"
    model = config.build(embeddings, precision).to(device)
    facts = describe_training(args, precision, sample)
    facts["pieces"] = hashlib.sha256(pieces.text.encode()).hexdigest()[:16] if pieces else ""
    run = Run(args, model, config, list(token2idx), facts, pieces)
    tokens = sum(len(story) - 1 for story in stories)
    print(f"{len(stories):,} {kind}, {tokens:,} target tokens; valid {sum(len(s) - 1 for s in valid):,}; "
          f"{sum(p.numel() for p in model.parameters()):,} parameters on {device} in {precision}".replace("torch.", ""))
    optimise(run, stories, valid, tokens)
    if sample:
        print(sample)


def optimise(run: "Run", stories: list[list[int]], valid: list[list[int]], tokens: int) -> None:
    """The loop over epochs and minibatches; ends early after `-patience` epochs without a better valid loss."""
    args, model = run.args, run.model
    counts = torch.bincount(torch.tensor([i for story in stories for i in story[1:]]), minlength=len(run.words))
    # The bias says how frequent each word is, so that training need not begin with that.
    model.output.bias.data.copy_(((counts + 0.5) / (counts + 0.5).sum()).log())
    if args.resume:
        run.load_state()
    steps = args.E * -(-len(stories) // args.B)
    slow = {} if sys.stderr.isatty() else {"mininterval": 60}
    bar = tqdm(total=args.E * tokens, initial=run.seen, unit=" tokens", unit_scale=True, disable=not run.first, **slow)
    with bar, run.signals():
        while run.epoch <= args.E:
            generator = torch.Generator().manual_seed(args.seed * 10_007 + run.epoch)  # so the order is known anew
            shown = hide_rare(counts, generator)
            batches = shuffled_batches(stories, args.B, generator)

            def build(batch: list[int], shown=shown) -> list[tuple[Tensor, Tensor, Tensor]]:
                return list(pieces([[shown[token] for token in stories[story]] for story in batch], args.bptt))

            for parts in ahead(build, batches[run.done :]):
                run.step += 1
                for group in run.optimizer.param_groups:
                    group["lr"] = learning_rate(run.step, steps, group["peak"], args.schedule)
                count = sum(int(lengths.sum()) for _, _, lengths in parts)
                nats, signals = over_processes(train_step(run.nats_of, run.optimizer, parts), run.signal)
                run.stop = signals > 0  # if one came to any of the processes
                run.done, run.seen = run.done + 1, run.seen + count
                if math.isfinite(nats):
                    run.nats, run.tokens, run.in_a_row = run.nats + nats, run.tokens + count, 0
                else:
                    run.skip(batches[run.done - 1])
                bar.set_postfix_str(f"epoch {run.epoch}, loss {nats / count:.3f}", refresh=False)
                bar.update(count)
                if run.step % args.valid_every == 0 and run.done < len(batches):
                    run.report(valid)
                run.save_state_if_due()
            run.report(valid)
            if args.patience and run.epoch - run.best_epoch >= args.patience:
                tqdm.write(f"stopped early: no better valid loss for {args.patience} epochs (-patience)")
                break
            run.epoch, run.done = run.epoch + 1, 0
    if error := run.failed.get(args.model):
        how = "go on from the last state with -resume" if run.state_file.exists() else "train again"
        raise OSError(f"{args.model}: the best model could not be saved ({error.strerror}); make room, and {how}")
    if run.first:
        run.state_file.unlink(missing_ok=True)
        run.state_before.unlink(missing_ok=True)
        if run.best == math.inf:
            raise UserError(f"-lr {args.lr}: the valid loss was never a number, and nothing was saved; lower it")
    print(f"best valid loss {run.best:.4f} nats (perplexity {safe_exp(run.best):.2f}), model in {args.model}")


class Run:
    """One training: where it is, its figures and log, the best model so far, and the state from which it goes on."""

    # What changes, and so is what a state file holds beside weights, optimizer and the random state: `done` minibatches
    # of this epoch, `seen` tokens in all; `nats` of `tokens` in so many `seconds` since the last report, and all that
    # went before; the size of the log; skipped steps.
    NUMBERS = ("epoch", "done", "step", "seen", "nats", "tokens", "seconds", "before", "best", "best_epoch", "records",
               "logged", "skipped", "in_a_row")

    def __init__(self, args: argparse.Namespace, model: LSTMLM, config: "Config", words: list[str], facts: dict,
                 pieces: Pieces | None = None):
        self.args, self.model, self.config, self.words, self.facts = args, model, config, words, facts
        self.pieces = pieces.text if pieces else ""
        self.optimizer = make_optimizer(model, args)
        rank, processes = place()
        self.first = rank == 0  # of the processes; it alone writes files
        self.nats_of = Nats(model) if processes == 1 else DistributedDataParallel(Nats(model))
        self.epoch, self.done, self.step, self.seen, self.nats, self.tokens = 1, 0, 0, 0, 0.0, 0
        self.seconds, self.before = 0.0, 0.0
        self.best, self.best_epoch, self.records, self.logged = math.inf, 0, [], 0
        self.skipped, self.in_a_row = 0, 0
        self.failed: dict[Path, OSError] = {}  # files that could not be written when last tried
        self.clock = self.saved = time.perf_counter()
        self.signal, self.stop = 0, False
        endings = (".log.jsonl", ".state.pt", ".state.prev.pt")
        self.log, self.state_file, self.state_before = (side_file(args.model, ending) for ending in endings)
        if not args.resume:
            self.start()

    def start(self) -> None:
        """What is done once for a run: keep an earlier model, refuse to replace an unfinished run, begin the log."""
        if left := [str(path) for path in (self.state_file, self.state_before) if path.exists()]:
            raise UserError(f"{left[0]}: an unfinished run; go on with it with -resume, or delete {' and '.join(left)}")
        # The state has three numbers for each parameter; it is there twice and once more while it is written.
        need, folder = 44 * sum(p.numel() for p in self.model.parameters()), self.args.model.resolve().parent
        if (free := shutil.disk_usage(folder).free) < need:
            raise UserError(f"{folder}: {free / 1e6:,.0f} MB free, but the checkpoints of this run need "
                            f"{need / 1e6:,.0f} MB; make room, or name another place with -model")
        if self.first and self.args.model.exists():
            kept = side_file(self.args.model, ".prev.pt")
            atomic_write(kept, lambda file: file.write(self.args.model.read_bytes()))
            print(f"the model that is in {self.args.model} is kept in {kept}")
        earlier = self.log.read_bytes() if self.log.exists() else b""
        self.logged = earlier.rfind(b"\n") + 1  # after the whole lines of earlier runs
        self.write_log({"event": "start", **asdict(self.config), **self.facts})

    def write_log(self, record: dict) -> None:
        """Add a line to the log."""
        if not self.first:
            return
        with self.surviving(self.log):
            with open(self.log, "ab") as file:
                file.truncate(min(self.logged, file.tell()))  # what a full disk left of a line
                file.write(to_json(record).encode() + b"\n")
            self.logged = self.log.stat().st_size

    @contextlib.contextmanager
    def surviving(self, path: Path) -> Iterator[None]:
        """Go on with the training if a file cannot be written, for a full disk, say; but tell, and remember."""
        try:
            yield
            self.failed.pop(path, None)
        except OSError as error:
            self.failed[path] = error
            tqdm.write(f"warning: {path}: cannot be written ({error.strerror}); going on without", file=sys.stderr)

    def tick(self) -> None:
        """Count the seconds since this was called last; those while a run is stopped are none of its."""
        now = time.perf_counter()
        self.seconds, self.clock = self.seconds + now - self.clock, now

    def report(self, stories: list[list[int]]) -> None:
        """Print and log the losses (nats per token); save the model if that on the valid stories is the best yet."""
        self.tick()
        loss, rate = self.nats / self.tokens if self.tokens else math.nan, self.tokens / self.seconds
        valid = shared_loss(self.model, stories, self.args.B)
        better = valid < self.best and self.save_best(valid)
        record = {"mode": "train", "epoch": self.epoch, "step": self.step, "train_nats": loss, "valid_nats": valid,
                  "tokens_per_s": round(rate, 1), "seconds": round(self.before + self.seconds, 1), "best": better}
        line = f"epoch {self.epoch}, step {self.step}: train {loss:.4f} nats (perplexity {safe_exp(loss):.2f}), "
        line += f"valid {valid:.4f} ({safe_exp(valid):.2f}), {rate:,.0f} tokens/s{', saved' if better else ''}"
        tqdm.write(to_json(record) if self.args.json else line, file=self.args.out)
        self.args.out.flush()
        self.write_log(record)
        self.records.append(record)
        with contextlib.suppress(Exception):  # the picture is not worth a training
            self.first and draw_curve(side_file(self.args.model, ".loss.png"), self.records)
        self.tick()
        self.nats, self.tokens, self.before, self.seconds = 0.0, 0, self.before + self.seconds, 0.0

    def save_best(self, valid: float) -> bool:
        """Save the model as the best one so far; whether that was possible."""
        facts = {**self.facts, "epoch": self.epoch, "step": self.step, "valid_nats": valid}
        saved = False
        with self.surviving(self.args.model):
            if self.first:
                save_model(self.args.model, self.model, self.config, self.words, facts, self.pieces)
            saved = True
        self.best_epoch = self.epoch  # saved or not, it is no time to stop
        if saved := not any(over_processes(not saved)):  # what the first process could not do all have to know
            self.best = valid
        return saved

    def skip(self, batch: list[int]) -> None:
        """Count a step that was not done, with these stories. Raises UserError after SKIPS of them in a row."""
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        what = "loss or gradient is no finite number"
        tqdm.write(f"step {self.step}: {what}, step skipped ({self.skipped} so far)", file=sys.stderr)
        if self.in_a_row == SKIPS:
            numbers = ", ".join(str(number + 1) for number in sorted(batch))
            kept = f"; {self.state_file} is from before" if self.state_file.exists() else ""
            raise UserError(f"-lr {self.args.lr}: {what} in {SKIPS} steps in a row, the last with stories {numbers} of "
                            f"{self.args.train_corpus}{kept}; give a smaller -lr, or look at the stories")

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Let Ctrl-C and SIGTERM wait for the end of a step, so that the state can be saved; a second one does not."""
        alone = place()[1] == 1  # torchrun passes on a signal that the processes got already

        def note(number: int, _frame) -> None:
            if self.signal and alone:
                raise KeyboardInterrupt
            self.signal = number
            again = "; Ctrl-C again stops at once" if alone else ""
            try:
                print(f"\nstopping after this step, and saving{again}", file=sys.stderr, flush=True)
            except BrokenPipeError:  # who read this is gone, and said so by the signal; nothing more is told
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

        before = [(number, signal.signal(number, note)) for number in (signal.SIGINT, signal.SIGTERM)]
        try:
            yield
        finally:
            for number, handler in before:
                signal.signal(number, handler)

    def save_state_if_due(self) -> None:
        """Save the state every SAVE_STEPS steps or SAVE_SECONDS, if all is well, and when a signal came; then stop."""
        overdue = time.perf_counter() - self.saved > SAVE_SECONDS
        if not self.stop and (self.in_a_row or not (overdue or self.step % SAVE_STEPS == 0)):
            return
        if self.first:
            with self.surviving(self.state_file):
                atomic_write(self.state_file, lambda file: file.write(seal(self.state())), keep=self.state_before)
        self.saved = time.perf_counter()
        if self.stop:
            over_processes(0)  # none leaves before the file is there
            if error := self.failed.get(self.state_file):
                raise OSError(f"{self.state_file}: stopped, but not saved ({error.strerror})")
            raise Stopped(self.signal or signal.SIGTERM)

    def state(self) -> dict:
        """All that a state file holds."""
        self.tick()
        return {"format": STATE, "version": VERSION, "config": asdict(self.config), "facts": self.facts,
                "numbers": {name: getattr(self, name) for name in self.NUMBERS}, "random": torch.get_rng_state(),
                "weights": on_cpu(self.model.state_dict()), "moments": self.optimizer.state_dict()["state"]}

    def load_state(self) -> None:
        """Go on from the state file. Raises UserError if there is none, or if it is that of another command."""
        missing = "no unfinished run there; leave out -resume to start one"
        state = read_newest(self.state_file, self.state_before, STATE, missing, check_state)
        then, now = {**state["config"], **state["facts"]}, {**asdict(self.config), **self.facts}
        changed = [name for name in now if now[name] != then.get(name)]
        if other := [f"{name} {then.get(name)}, not {now[name]}" for name in changed if name not in MACHINE]:
            raise UserError(f"{self.state_file}: its run has {'; '.join(other)}; give it the same flags")
        parameters = [p.data for group in self.optimizer.param_groups for p in group["params"]]
        moments = {i: {"step": torch.tensor(0.0), "exp_avg": p, "exp_avg_sq": p}
                   for i, p in enumerate(parameters) if i in state["moments"]}
        if not fits(state, {**self.state(), "config": state["config"], "facts": state["facts"], "moments": moments}):
            raise UserError(f"{self.state_file}: not a state of this model; delete it, and train again")
        for name in changed:
            note = f"note: {name} was {then.get(name)} and is {now[name]}: the result will not be equal to the bit"
            print(printable(note))
        if self.facts["device"] != "cpu":
            print("note: on a GPU the result will not be equal to the bit")
        if place()[1] > 1 and self.config.dropout:  # each process draws its own, and the state has those of the first
            print("note: with -dropout in several processes the result will not be equal to the bit")
        self.model.load_state_dict(state["weights"])
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state["moments"]})
        torch.set_rng_state(state["random"])
        for name in self.NUMBERS:
            setattr(self, name, state["numbers"][name])
        self.clock = time.perf_counter()
        if self.first:
            log = self.log.read_bytes()[: self.logged] if self.log.exists() else b""
            self.logged = len(log)  # what came after the state will come again
            atomic_write(self.log, lambda file: file.write(log))
        print(f"going on after step {self.step} of epoch {self.epoch}")


def shared_loss(model: LSTMLM, stories: list[list[int]], batch_size: int) -> float:
    """`compute_loss`, with the work shared by the processes that train together."""
    rank, processes = place()
    mine = stories[rank::processes]
    count = sum(len(story) - 1 for story in mine)
    total, tokens = over_processes(compute_loss(model, mine, batch_size) * count if mine else 0.0, count)
    return total / tokens


def safe_exp(nats: float) -> float:
    """exp(nats), the perplexity; infinity where that is too large for a float."""
    return math.inf if nats >= 700 else math.exp(nats)


def draw_curve(path: Path, records: list[dict]) -> None:
    """A picture of the losses so far, if matplotlib is installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    axes = (figure := Figure(figsize=(6, 4), layout="constrained")).subplots()
    for key in ("train_nats", "valid_nats"):
        axes.plot([r["step"] for r in records], [r[key] for r in records], marker=".", label=key.split("_")[0])
    axes.set(xlabel="step", ylabel="nats per token")
    axes.legend()
    atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=120))


# ---- Sampling -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. Raises UserError for a value that makes no sense."""

    greedy: bool = False
    fpenalty: float = 0.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self):
        for name, fine, range_ in (
            ("fpenalty", -2 <= self.fpenalty <= 2, "from -2 to 2"),
            ("temperature", 0 <= self.temperature < math.inf, "0 (greedy) or more"),
            ("top_k", self.top_k >= 0, "0 (all words) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0, up to 1 (all words)"),
            ("min_p", 0 <= self.min_p <= 1, "from 0 (all words) to 1"),
        ):
            if not fine:
                raise UserError(f"-{name} {getattr(self, name)}: give a number {range_}")

    def is_greedy(self) -> bool:
        """Whether the most probable token is taken."""
        return self.greedy or self.temperature == 0


def next_probabilities(logits: Tensor, counts: Tensor, sampling: Sampling = Sampling()) -> Tensor:
    """Scores (V,) of the next token -> probabilities (V,), after all that changes them, in this order:

    the frequency penalty with `counts` (V,) of the tokens so far (handout, equation 2), the words that are never
    generated, temperature (Ackley et al. 1985), top-k (Fan et al. 2018), top-p (Holtzman et al. 2020), and min-p
    relative to the most probable word (Nguyen et al. 2024).
    """
    # YOUR CODE HERE: BEGIN (6a)
    logits = logits.double() - sampling.fpenalty * counts
    # YOUR CODE HERE: END
    logits = logits.index_fill(0, torch.tensor([UNK, BOS]), -math.inf)
    if not (top := logits.max()).isfinite():
        raise UserError("the model's scores are no finite numbers; train it again, with a smaller -lr")
    probs = torch.softmax((logits - top) / (sampling.temperature or 1.0), 0)
    if sampling.top_k:
        probs = keep(probs, probs.argsort(descending=True, stable=True)[: sampling.top_k])
    if sampling.top_p < 1:
        ranked, order = probs.sort(descending=True, stable=True)
        probs = keep(probs, order[ranked.cumsum(0) - ranked < sampling.top_p])  # the fewest that reach top_p
    if sampling.min_p:
        probs = keep(probs, (probs >= sampling.min_p * probs.max()).nonzero()[:, 0])
    return probs


def keep(probs: Tensor, chosen: Tensor) -> Tensor:
    """The distribution `probs` (V,) restricted to the ids `chosen`."""
    kept = torch.zeros_like(probs).index_copy(0, chosen, probs[chosen])
    return kept / kept.sum()


class WholeNumbers:
    """A weight (n, K) in a quarter of its memory: whole numbers of -127 to 127 times a scale for each of its n rows."""

    def __init__(self, weight: Tensor):
        self.scale = weight.abs().amax(1).clamp(min=1e-30) / 127  # (n,)
        whole = (weight / self.scale[:, None]).round().to(torch.int8)
        self.whole = F.pad(whole, (0, -whole.shape[1] % 32))  # the kernel takes 32 columns at a time
        self.ones = torch.ones_like(self.scale, dtype=torch.bfloat16)  # it rounds its scales, so it gets none

    def product(self, x: Tensor, bias: Tensor) -> Tensor:
        """`product` of x (K, K') in float32, which is rounded to bfloat16, with this weight."""
        x = F.pad(x, (0, self.whole.shape[1] - x.shape[1])).bfloat16()
        return torch.addcmul(bias, torch._weight_int8pack_mm(x, self.whole, self.ones), self.scale)


class Stepper:
    """The model one position at a time, for generation: a product for each layer, of weights laid side by side.

    A token costs little more than to read the weights once, where the modules of PyTorch take a few times as long.
    With precision int8 the weights are `WholeNumbers`, and the scores of the words that then seem the most probable are
    computed again in float32.
    """

    AGAIN = 32  # such words

    def __init__(self, model: LSTMLM):
        self.model, self.cell = model, CELLS[model.cell]
        self.layers = [self.prepared(*self.joined(*weights)) for weights in model.layers()]
        self.output = self.prepared(model.output.weight, model.output.bias)

    @staticmethod
    def of(model: LSTMLM) -> "Stepper":
        """The one of a model, which is made when it is first asked for and when the weights have changed."""
        weight = model.output.weight  # who changes one weight changes them all
        made_from = model.precision, weight.device, weight._version
        if model.stepper is None or model.stepper[0] != made_from:
            model.stepper = made_from, Stepper(model)
        return model.stepper[1]

    def joined(self, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> tuple[Tensor, Tensor]:
        """The weight (SN, In + N) of [x ; h] and the bias (SN,) that give all sums of a cell."""
        if self.cell is not GRUCell:
            return torch.cat([w_ih, w_hh], 1), b_ih + b_hh
        N = w_hh.shape[1]  # the sums r, u, z_n and x_n: x gives none to z_n, and h none to x_n
        w_ih, b_ih = (torch.cat([x[: 2 * N], torch.zeros_like(x[:N]), x[2 * N :]]) for x in (w_ih, b_ih))
        return torch.cat([w_ih, F.pad(w_hh, (0, 0, 0, N))], 1), b_ih + F.pad(b_hh, (0, N))

    def prepared(self, weight: Tensor, bias: Tensor):
        """The function x (K, In) -> x W^T + b (K, n), with the product in `precision`."""
        if self.model.precision == torch.int8:
            return functools.partial(WholeNumbers(weight).product, bias=bias)
        low_weight, low_bias = self.model.cast(weight), self.model.cast(bias)
        return lambda x: product(self.model.cast(x), low_weight, low_bias).to(x.dtype)

    def __call__(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """The scores (K, V) after one more token (K,) of each of K stories, and their state."""
        x, hs, cs, past = self.model.embedding.weight[tokens], [], [], state.past  # (K, EDim)
        if self.model.positions:
            x = x + sinusoids(state.position, 1, x.shape[1]).to(x)
        for sums, h, c in zip(self.layers, state.h, state.c, strict=True):
            z = sums(torch.cat([x, h], 1))  # (K, SN)
            x, c_next = torch.empty_like(h), torch.empty_like(c)  # (K, N)
            self.cell.forward(z, c, c_next, x)
            hs.append(x)
            cs.append(c_next)
        if self.model.attention:
            x = torch.cat([x, self.model.attend(x[:, None], past)[:, 0]], 1)
            past = torch.cat([past, hs[-1][:, None]], 1)
        scores = self.output(x)
        if self.model.precision == torch.int8:
            scores = self.again(scores, x)
        return scores, State(tuple(hs), tuple(cs), past, state.position + 1)

    def again(self, scores: Tensor, x: Tensor) -> Tensor:
        """The scores (K, V) with the AGAIN best ones from the features x (K, N) in float32."""
        weight, bias = self.model.output.weight, self.model.output.bias
        best = scores.topk(min(self.AGAIN, len(bias))).indices  # (K, AGAIN)
        return scores.scatter(1, best, (weight[best] @ x[:, :, None])[:, :, 0] + bias[best])


@dataclass
class Memory:
    """What was computed of K growing sequences of ids, so that each further token costs one step of the LSTM."""

    stories: list[list[int]] = field(default_factory=list)
    state: State | None = None
    logits: Tensor | None = None  # (K, V) the scores after the last id of each

    def select(self, rows: list[int]) -> None:
        """Keep these of the K, in this order; one can be taken several times."""
        self.stories, self.logits = [self.stories[row] for row in rows], self.logits[rows]
        self.state = self.state.take(rows)


@torch.inference_mode()
def next_logits(model: LSTMLM, stories: list[list[int]], memory: Memory) -> Tensor:
    """The scores (K, V) of the next token of K stories of ids of the same length. Computes what is not in `memory`."""
    known = len(memory.stories[0]) if memory.stories else 0
    if memory.stories != [story[:known] for story in stories]:
        memory.state, known = None, 0
    new = torch.tensor([story[known:] for story in stories], device=model.output.weight.device)  # (K, new)
    if memory.state and new.shape[1] == 1:
        memory.logits, memory.state = Stepper.of(model)(new[:, 0], memory.state)
    elif new.shape[1]:
        read(model, new, memory)
    memory.stories = [list(story) for story in stories]
    return memory.logits


def read(model: LSTMLM, new: Tensor, memory: Memory) -> None:
    """Go on with the stories of `memory` by the ids `new` (K, n)."""
    bar = tqdm(total=new.shape[1], desc="reading", unit=" tokens", leave=False, disable=new.shape[1] < 5000 or None)
    with bar:
        for part in new.split(max(1, ROWS // len(new)), 1):
            K, n = part.shape
            features, packing, memory.state = model.features(part, torch.full((K,), n), memory.state)
            last = features[-K:][packing.unsorted_indices]
            memory.logits = model.output(last.to(model.output.weight.dtype))
            bar.update(n)


def generate_next_token(
    model: LSTMLM, tokens: list[int], greedy: bool = False, fpenalty: float = 0.0, *,
    generator: torch.Generator | None = None, state: Memory | None = None, **more: float,
) -> int:
    """The id that follows the ids `tokens` (the first is `<bos>`), the most probable one or drawn at random.

    A `state` keeps what was computed, so that the next call with more tokens does only the new part. `more` is
    temperature, top_k, top_p, min_p as in `Sampling`.
    """
    sampling = Sampling(greedy, fpenalty, **more)
    return choose(next_token_probabilities(model, [tokens], sampling, state or Memory())[0], sampling, generator)


def next_token_probabilities(model: LSTMLM, stories: list[list[int]], sampling: Sampling, memory: Memory):
    """The probabilities (V,) from which the token after each of K stories of ids is chosen."""
    # YOUR CODE HERE: BEGIN (5)
    logits = next_logits(model, stories, memory).cpu()  # (K, V)
    counts = [torch.bincount(torch.tensor(story), minlength=logits.shape[1]) for story in stories]  # c(s, w)
    return [next_probabilities(z, c, sampling) for z, c in zip(logits, counts, strict=True)]
    # YOUR CODE HERE: END


def choose(probs: Tensor, sampling: Sampling, generator: torch.Generator | None = None) -> int:
    """The most probable id, or one drawn from `probs` (V,)."""
    # YOUR CODE HERE: BEGIN (6)
    if sampling.is_greedy():
        return int(probs.argmax())
    return int(torch.multinomial(probs, 1, generator=generator))
    # YOUR CODE HERE: END


# ---- The interactive modes ------------------------------------------------------------------------------------------

HELP = """\
Type the beginning of a story; an empty line is the very beginning. Or a command:
  :greedy [on|off]   take the most probable token     :fp X       frequency penalty, -2 to 2
  :temp X            temperature, 0 is greedy         :top K      only the K most probable
  :top_p X           only the most probable share X   :min_p X    only what has X of the best one's chance
  :show              the settings                     :help       this
  :quit or Ctrl-D    leave"""
COMMANDS = {":greedy": "greedy", ":fp": "fpenalty", ":temp": "temperature", ":top": "top_k", ":top_p": "top_p",
            ":min_p": "min_p"}


def read_prompts(args: argparse.Namespace, label: str) -> Iterator[str]:
    """What the person gives: `-text`, else line after line of standard input, with line editing on a terminal.

    Lines that begin with a colon are commands, which change `args.sampling`.
    """
    if args.text is not None:
        yield args.text
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - importing it gives input() its history and line editing
    terminal = sys.stdin.isatty()
    if terminal and not args.json:
        print(HELP)
    while (line := read_line(label, terminal)) is not None and line.strip() not in (":quit", ":q"):
        typed = f"{label}{printable(line)}"
        if not args.json:
            args.trace(typed) if terminal else print(typed)
        if line.startswith(":"):
            args.sampling = command(line, args.sampling)
        else:
            yield line


def read_line(label: str, terminal: bool) -> str | None:
    """A line of standard input; None at its end."""
    try:
        return input(label if terminal else "")
    except EOFError:
        if terminal:
            print()
        return None
    except UnicodeDecodeError:
        raise UserError("standard input is not UTF-8; convert it, or set PYTHONIOENCODING") from None


def command(text: str, sampling: Sampling) -> Sampling:
    """Carry out a `:command`; returns the settings after it."""
    name, *values = text.split()
    field = COMMANDS.get(name)
    try:
        if field == "greedy" and values in ([], ["on"], ["off"]):
            sampling = replace(sampling, greedy=values != ["off"])
        elif field and field != "greedy" and len(values) == 1:
            kind = type(getattr(sampling, field))
            sampling = replace(sampling, **{field: kind(values[0])})
        elif name != ":show":
            print(HELP if name == ":help" else f"{printable(text)}: not understood; :help lists the commands")
            return sampling
    except ValueError:
        print(f"{printable(text)}: needs a {'whole ' * (field == 'top_k')}number")
    except UserError as error:
        print(error)
    print("  ".join(f"{name} {getattr(sampling, field)}" for name, field in COMMANDS.items()))
    return sampling


def printable(text: str) -> str:
    """`text` with its control characters made visible, so that none reaches the terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def understand(text: str, loaded: "Loaded", quiet: bool) -> list[str]:
    """The tokens of a typed text; shows the last ones, an unknown one with the nearest word of the vocabulary."""
    words = cut([tokenize_text(text, loaded.config.cased)], loaded.pieces)[0]
    if not quiet:
        known, shown = loaded.token2idx, words[-60:]
        shown = [loaded.shown(word) if word in known else describe_unknown(word, loaded.words) for word in shown]
        print(f"tokens: {'... ' * (len(words) > 60)}{' '.join(shown)}" if words else "no words: starting from <bos>")
    return words


def describe_unknown(word: str, vocabulary: list[str]) -> str:
    """How a word that is not in the vocabulary is shown: `[dgo is unknown, like dog]`."""
    near = difflib.get_close_matches(word, vocabulary[len(SPECIAL) :], 1, 0.5)
    return f"[{printable(word)} is unknown{''.join(', like ' + printable(other) for other in near)}]"


def load_generator(args: argparse.Namespace) -> "Loaded":
    """`load_model`, of one that can generate. Raises UserError if it cannot."""
    loaded = load_model(args, choose_precision(args.precision, choose_device(args.device), generating=True))
    if loaded.config.bidirectional:
        raise UserError(f"{args.model}: a -bidirectional model has to see what comes next, so it cannot say it; "
                        "train one without")
    return loaded


def use(args: argparse.Namespace) -> None:
    """Show the most probable next tokens after what the person types."""
    loaded = load_generator(args)
    for text in read_prompts(args, "words> "):
        ids = encode([understand(text, loaded, args.json)], loaded.token2idx)[0][:-1]
        probs = next_token_probabilities(loaded.model, [ids], args.sampling, Memory())[0]
        best = [(loaded.words[i], float(probs[i])) for i in probs.topk(min(10, len(probs))).indices if probs[i] > 0]
        if args.json:
            tokens, values = zip(*best, strict=True)
            record = {"mode": "use", "text": text, "tokens": tokens, "probs": values}
            print(to_json(record), file=args.out, flush=True)
            continue
        generator = torch.Generator().manual_seed(seed := choose_seed(args))
        picked = loaded.shown(loaded.words[choose(probs, args.sampling, generator)])
        how = "" if args.sampling.is_greedy() else f"   (drawn with -seed {seed}; :greedy takes the most probable)"
        print(f"next:   {picked}{how}")
        for word, p in best:
            print(f"  {loaded.shown(word):>14} {p:6.1%} {'█' * round(40 * p)}".rstrip())


def prompt(args: argparse.Namespace) -> None:
    """Continue what the person types, `-samples` times, as readable text that appears as it is generated."""
    loaded = load_generator(args)
    for text in read_prompts(args, "prompt> "):
        words = understand(text, loaded, args.json)
        seed, ids = choose_seed(args), encode([words], loaded.token2idx)[0][:-1]
        stories = [Growing([*ids], len(ids), seed + k) for k in range(args.samples)]
        try:
            complete(args, loaded, words, stories)
        except KeyboardInterrupt:  # ends the story; at the prompt it ends the program
            if args.text is not None or not sys.stdin.isatty():
                raise
            print("\n-- ended by Ctrl-C")


@dataclass
class Growing:
    """A story that is being generated: ids, of which the first `begin` were given, chances of the others, its end."""

    ids: list[int]
    begin: int
    seed: int
    chances: list[float] = field(default_factory=list)
    ended: str | None = None  # why

    def __post_init__(self):
        self.generator = torch.Generator().manual_seed(self.seed)


def grow(args: argparse.Namespace, model: LSTMLM, stories: list[Growing]) -> Iterator[None]:
    """Add a token to each of the stories, which begin alike, and yield, until all have ended. They are one batch."""
    memory, rows = Memory(), [0] * len(stories)
    next_logits(model, [stories[0].ids], memory)  # what they begin with is read once
    while rows:
        memory.select(rows)
        alive = [story for story in stories if not story.ended]
        chances = next_token_probabilities(model, [story.ids for story in alive], args.sampling, memory)
        for story, probs in zip(alive, chances, strict=True):
            story.ids.append(choose(probs, args.sampling, story.generator))
            story.chances.append(float(probs[story.ids[-1]]))
            story.ended = why_ended(story.ids, story.begin, args)
        rows = [row for row, story in enumerate(alive) if not story.ended]
        yield


def complete(args: argparse.Namespace, loaded: "Loaded", words: list[str], stories: list[Growing]) -> None:
    """Generate and print continuations of `words`; one alone is shown as it grows."""
    growth = grow(args, loaded.model, stories)
    if len(stories) > 1:
        for _ in tqdm(growth, desc="writing", unit=" tokens", leave=False, disable=None):
            pass
    for story in stories:
        if not args.json and not args.sampling.is_greedy():
            print(f"-- seed {story.seed}")
        text, tokens = tell(args, loaded, words, story, growth), [loaded.words[i] for i in story.ids[story.begin :]]
        if args.json:
            record = {"mode": "prompt", "text": text, "tokens": tokens, "probs": story.chances, "seed": story.seed,
                      "ended": story.ended}
            print(to_json(record), file=args.out, flush=True)
        else:
            print(f"\n-- {len(tokens)} tokens, ended by {story.ended}")


def tell(args: argparse.Namespace, loaded: "Loaded", words: list[str], story: Growing, growth: Iterator[None]) -> str:
    """Print a story, which goes on with `growth` until it has ended; returns its text."""
    def told() -> Iterator[str]:
        """The words of the prompt as they were typed, then the new ones as they are chosen."""
        yield from words
        for place in itertools.count(story.begin):
            if place == len(story.ids):
                if story.ended:
                    return
                next(growth)
            if story.ids[place] != EOS:
                yield loaded.words[story.ids[place]]

    text, column = "", 0
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else math.inf
    for piece in detokenized(loaded.join(told()), loaded.config.cased):
        text += piece
        if not args.json:
            column = print_folded(printable(piece), column, width)
    return text


def print_folded(piece: str, column: int, width: float) -> int:
    """Print a piece of text, on a new line rather than let the terminal break a word; returns the column after it."""
    if piece.startswith(" ") and column + len(piece) >= width:  # a mark may still follow the last word
        print()
        piece, column = piece.lstrip(), 0
    print(piece, end="", flush=True)
    return column + len(piece)


def why_ended(ids: list[int], begin: int, args: argparse.Namespace) -> str | None:
    """Why generation from place `begin` of `ids` stops here, or None if it goes on."""
    count = len(ids) - begin
    if ids[-1] == EOS:
        return "<eos>"
    if args.continue_ and (size := looping(ids[begin:])):
        return f"a loop: {size} tokens said three times over, in round {-(-count // args.max_tokens)}"
    if count >= args.max_tokens * (ROUNDS if args.continue_ else 1):
        return f"{ROUNDS} rounds of {args.max_tokens} tokens" if args.continue_ else f"-max_tokens {args.max_tokens}"
    return None


def looping(ids: list[int], longest: int = 50) -> int:
    """The size of the block of at most `longest` ids that `ids` ends with three times over, or 0."""
    for size in range(1, min(longest, len(ids) // 3) + 1):
        if ids[-size:] == ids[-2 * size : -size] == ids[-3 * size : -2 * size]:
            return size
    return 0


# ---- Evaluation -----------------------------------------------------------------------------------------------------


SEES_AHEAD = "note: a -bidirectional model sees the tokens that it predicts; these perplexities are no language model's"


def score_corpus(loaded: "Loaded", path: Path, how: str, batch_size: int, loss=compute_loss) -> dict:
    """Nats per token, perplexity, bits per character and more of a corpus file, under a loaded model.

    The characters are those of the stories' tokens joined by single spaces, and one for each `<eos>`. So that
    vocabularies can be compared, each `<unk>` pays log2(27) bits more for each letter of the word it stands for.
    `loss` computes the nats: another one is for models of other kinds, which are then measured alike.
    """
    # YOUR CODE HERE: BEGIN (7)
    stories = read_stories(path, how, loaded.config.cased)
    tokens = cut(stories, loaded.pieces)
    ids = encode(tokens, loaded.token2idx)
    started = time.perf_counter()
    nats = loss(loaded.model, ids, batch_size, progress=True)
    seconds = time.perf_counter() - started
    unknown = [word for story in tokens for word in story if word not in loaded.token2idx or word == SPECIAL[UNK]]
    tokens = sum(len(story) - 1 for story in ids)
    characters = sum(len(re.sub(" ?<eos> ?", "\n", " ".join(story))) + 1 for story in stories)
    bits = nats * tokens / math.log(2) + math.log2(27) * sum(map(len, unknown))
    return {"mode": "evaluate", "corpus": str(path), "nats": nats, "ppl": safe_exp(nats), "bpc": bits / characters,
            "n_tokens": tokens, "unk_share": len(unknown) / tokens, "tokens_per_s": round(tokens / seconds, 1)}
    # YOUR CODE HERE: END


def evaluate(args: argparse.Namespace) -> None:
    """Print how well the model predicts each corpus of `-test_corpus` (by default valid and train)."""
    loaded = load_model(args, choose_precision(args.precision, choose_device(args.device)))
    if not args.test_corpus and (sample := fill_corpora(args, loaded.facts["sample"])):
        print(sample)
    if loaded.config.bidirectional:
        print(SEES_AHEAD)
    paths = args.test_corpus or [args.valid_corpus, args.train_corpus]
    if missing := [path for path in paths if not path.exists()]:
        raise UserError(f"{missing[0]}: no such file; give other paths with -test_corpus")
    trained_on = printable(loaded.facts["train_corpus"])
    if (how := loaded.facts.get("stories", "auto")) != args.stories and "stream" in (how, args.stories):
        print(f"note: trained with -stories {printable(str(how))}, evaluated with -stories {args.stories}")
    if not args.json:
        print(f"{args.model}: V = {len(loaded.words):,}, trained on {trained_on}")
        print(f"{'nats':>8} {'ppl':>9} {'bits/char':>9} {'tokens':>10} {'<unk>':>7} {'tokens/s':>8}  corpus")
    for path in paths:
        row = score_corpus(loaded, path, args.stories, args.B)
        line = (f"{row['nats']:8.4f} {row['ppl']:9.2f} {row['bpc']:9.4f} {row['n_tokens']:10,} "
                f"{row['unk_share']:7.2%} {row['tokens_per_s']:8,.0f}  {path}")
        print(to_json(row) if args.json else line, file=args.out, flush=True)
        known = (loaded.facts["train_digest"], loaded.facts["valid_digest"])
        if path.resolve().parent.name != loaded.facts["folder"] and digest(path) not in known:
            print(f"note: not comparable, as the model was trained on {trained_on}, not {path}")


# ---- Files: the checkpoint, and writing without ever leaving half a file --------------------------------------------

MODEL, STATE, VERSION = LSTMLM.KIND, "lstlm state", 2


@dataclass(frozen=True)
class Config:
    """The hyper-parameters that shape a model, named as on the command line; a checkpoint stores them."""

    EDim: int = 100
    H: int = 2
    N: int = 512
    VSize: int = 10000
    cell: str = "lstm"
    a: str | None = None
    dropout: float = 0.0
    cased: bool = False
    tokenizer: str = "words"
    locked: bool = False
    finetune: bool = False
    tie: bool = False
    positions: bool = False
    bidirectional: bool = False

    def build(self, embeddings: Tensor, precision: torch.dtype) -> LSTMLM:
        """A model of this shape, its weights drawn at random."""
        names = ("dropout", "locked", "cell", "finetune", "tie", "positions", "bidirectional")
        switches = {name: getattr(self, name) for name in names}
        return LSTMLM(embeddings, self.N, self.H, self.a, precision=precision, **switches)


class Loaded(NamedTuple):
    """A model read from a checkpoint, with what is needed to use it."""

    model: LSTMLM
    config: Config
    words: list[str]  # id -> token
    token2idx: dict[str, int]
    facts: dict  # how it was trained
    pieces: Pieces | None

    def shown(self, token: str) -> str:
        """How a token or piece is shown to a person, with a bar for the space before it if it is a piece."""
        return printable(self.pieces.spell([token]).replace(" ", "▁") if self.pieces else token)

    def join(self, tokens: Iterable[str]) -> Iterable[str]:
        """Tokens made of pieces, or as they are."""
        return self.pieces.join(tokens) if self.pieces else tokens


def atomic_write(path: Path, write, keep: Path | None = None) -> None:
    """Let `write(file)` fill a temporary file beside `path`, then put it there in one step, and on the disk for good.

    Whatever happens in between, `path` holds the old content or the new, whole. With `keep` what was there before
    stays under that name.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if keep and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder written to the disk, where the system (not Windows) can be told to."""
    if hasattr(os, "O_DIRECTORY"):
        opened = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def remove_leftovers(model: Path) -> None:
    """Remove temporary files of `atomic_write` for this model whose process was killed."""
    for path in model.parent.glob(f".{glob.escape(model.name.removesuffix('.pt'))}.*.tmp"):
        process = path.suffixes[-2][1:]
        try:
            if process.isdecimal() and os.name == "posix":  # where one can ask
                os.kill(int(process), 0)  # sends nothing, but fails if there is no such process
        except PermissionError:  # there is, somebody else's
            pass
        except (ProcessLookupError, OverflowError):
            path.unlink(missing_ok=True)


def to_json(record: dict) -> str:
    """A record as one line of JSON, which knows neither NaN nor infinity: null stands for them."""
    finite = {key: None if isinstance(value, float) and not math.isfinite(value) else value
              for key, value in record.items()}
    return json.dumps(finite, allow_nan=False)


def side_file(model: Path, ending: str) -> Path:
    """`X.log.jsonl`, `X.prev.pt` and so on, beside the model `X.pt`."""
    return model.parent / (model.name.removesuffix(".pt") + ending)  # with_name would not take the model `.` or `/`


def check_writable(model: Path) -> None:
    """Raise UserError now, not after hours of training, if the model could not be written."""
    try:
        model.parent.mkdir(parents=True, exist_ok=True)
        if model.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        for path in (model, *(side_file(model, ending) for ending in (".prev.pt", ".log.jsonl"))):
            if path.exists() and not path.is_file():
                raise OSError(22, f"{path.name} is there and no regular file")
        atomic_write(side_file(model, ".writable"), lambda file: file.write(b"x"))
        side_file(model, ".writable").unlink()
    except OSError as error:
        raise UserError(f"{model}: cannot be written ({error.strerror}); give another path with -model") from None


def digest(path: Path) -> str:
    """The first 16 hexadecimal digits of a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def save_model(path: Path, model: LSTMLM, config: Config, words: list[str], facts: dict,
               pieces: str = "") -> None:
    """Write a checkpoint: tensors, numbers and strings only, so that reading it can run no code."""
    content = {"format": model.KIND, "version": VERSION, "config": asdict(config), "words": words, "facts": facts,
               "pieces": pieces, "weights": on_cpu(model.state_dict())}
    atomic_write(path, lambda file: file.write(seal(content)))


def on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU; two that are one, as tied weights are, stay one."""
    moved = {x.data_ptr(): x.cpu() for x in tensors.values()}
    return {name: moved[x.data_ptr()] for name, x in tensors.items()}


def seal(content: dict) -> bytes:
    """What `torch.save` makes of it, a ZIP archive, with the SHA-256 of all its bytes as the archive's comment."""
    torch.save(content, file := io.BytesIO())
    data = file.getvalue()[:-2] + b"\x20\0"  # an archive ends with the size of its comment
    return data + hashlib.sha256(data).digest()


def unseal(data: bytes) -> dict:
    """The content of `seal`. Raises ValueError or the like if the bytes are anything else.

    With `weights_only` a stranger's file runs no code. But it may still be inflated, or call allowed functions such as
    codecs again and again, until a few bytes are gigabytes: so nothing in it is compressed, and no other call is made
    than those of `torch.save`.
    """
    if hashlib.sha256(data[:-32]).digest() != data[-32:] or data[:4] != b"PK\3\4":
        raise ValueError("its bytes are not those that were written")
    archive = zipfile.ZipFile(io.BytesIO(data))
    members = archive.infolist()
    if any(member.compress_type for member in members) or sum(member.file_size for member in members) > len(data):
        raise ValueError("it is compressed")
    for member in members:
        if member.filename.lower().endswith(".pkl"):
            check_pickle(archive.read(member))
    content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if sum(tensor.nbytes for tensor in content["weights"].values()) > 2 * len(data):  # two names, with -tie, for one
        raise ValueError("more weights than bytes")
    return content


GLOBALS = {"torch._utils _rebuild_tensor_v2", "collections OrderedDict", "torch FloatStorage", "torch HalfStorage",
           "torch BoolStorage", "torch ByteStorage"}


def check_pickle(data: bytes) -> None:
    """Raise ValueError if a pickle has more than dicts, lists, numbers, strings, and tensors as `torch.save` has them.

    Such a tensor is the call _rebuild_tensor_v2(..., OrderedDict()), and there is no other call. It takes four tuples.
    A million of them, each in the next, would crash Python where they are a key.
    """
    before, tuples = ["", "", ""], 0
    for code, value, _ in pickletools.genops(data):
        tuples += "TUPLE" in code.name
        if tuples > 30_000:
            raise ValueError("more tuples than a file of ours has")
        if code.name in ("BUILD", "NEWOBJ") or (code.name == "GLOBAL" and value not in GLOBALS):
            raise ValueError("an object that no file of ours has")
        if code.name == "REDUCE" and before[2] != "EMPTY_TUPLE" and before != ["EMPTY_TUPLE", "REDUCE", "TUPLE"]:
            raise ValueError("a call that no file of ours has")
        if code.name not in ("BINPUT", "LONG_BINPUT"):
            before = [*before[1:], code.name]


def read_checked(path: Path, kind: str, missing: str, check=lambda content: None) -> dict:
    """The content of a file of ours of this kind. Raises UserError if it is `missing`, damaged or something else.

    `check` raises ValueError, KeyError or the like if the content cannot be right.
    """
    if not path.exists():
        raise UserError(f"{path}: {missing}")
    try:
        if not path.is_file():
            raise ValueError("not a regular file")
        content = unseal(path.read_bytes())
        if content["format"] != kind:
            raise ValueError("something else")
        if (version := str(content["version"])[:9]) == str(VERSION):
            check(content)
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:
        why = f"no {kind} file, or damaged ({' '.join(str(error).split())[:200]})"
        raise UserError(f"{path}: {why}; name another with -model, or train again") from None
    if version != str(VERSION):
        raise UserError(f"{path}: format version {version}, this program reads {VERSION}; train again with -train")
    return content


def read_newest(path: Path, previous: Path, kind: str, missing: str, check) -> dict:
    """`read_checked`, but if that file is bad and a `previous` one is there, of that one; says so."""
    try:
        return read_checked(path, kind, missing, check)
    except UserError as error:
        if not previous.exists():
            raise
        content = read_checked(previous, kind, missing, check)
        print(f"note: {printable(str(error))}; using {previous}, the one before it", file=sys.stderr)
        return content


def load_model(args: argparse.Namespace, precision: torch.dtype = torch.float32) -> Loaded:
    """Read the checkpoint `-model`. Raises UserError if it is none of ours, damaged, or not what other flags say."""
    path, device = args.model, choose_device(args.device)
    stopped = side_file(path, ".state.pt").exists()
    missing = "no model yet, but a stopped run; go on with it: -train, its flags, and -resume" if stopped else (
        "no such model; train one with -train, or name another with -model (build/demo.pt after make demo)")
    content = read_newest(path, side_file(path, ".prev.pt"), MODEL, missing, check_model)
    config, words, weights, facts = Config(**content["config"]), content["words"], content["weights"], content["facts"]
    model = config.build(weights["embedding.weight"].float(), precision)
    model.load_state_dict(weights)
    pieces = Pieces(content["pieces"]) if config.tokenizer == "bpe" else None
    for name, value in asdict(config).items():
        asked = getattr(args, name, None)
        if asked is not None and name not in ("dropout", "locked") and asked != value:
            raise UserError(f"-{name} {asked}: the model {path} has {value}; leave the flag out, or train again")
    token2idx = {word: i for i, word in enumerate(words)}
    return Loaded(model.to(device).eval(), config, words, token2idx, facts, pieces)


def check_model(content: dict) -> None:
    """Raise ValueError or the like if any part of a checkpoint cannot be right."""
    config, words, weights, facts = (content[key] for key in ("config", "words", "weights", "facts"))
    wrong = [name for name, kind in Config.__annotations__.items() if not isinstance(config[name], kind)]
    texts = ("train_corpus", "train_digest", "valid_digest", "folder")
    wrong += [name for name in texts if type(facts[name]) is not str]
    known = config["a"] in (None, *ATTENTION) and config["cell"] in CELLS and config["tokenizer"] in TOKENIZERS
    if wrong or type(facts["sample"]) is not bool or not known or not 0 <= config["dropout"] < 1:
        raise ValueError(f"a wrong value of {wrong or 'sample, a, cell, tokenizer or dropout'}")
    config = Config(**config)
    if not all(type(word) is str for word in words) or tuple(words[:3]) != SPECIAL or len({*words}) != len(words):
        raise ValueError("its words are no vocabulary")
    if config.tokenizer == "bpe" and not {*words[3:]} <= {*Pieces(content["pieces"]).tokenizer.get_vocab()}:
        raise ValueError("its words are not its pieces")
    layers = sum("weight_ih_l" in name for name in weights)
    if config.H * (1 + config.bidirectional) != layers:  # before that many are made
        raise ValueError("its layers do not match its weights")
    with torch.device("meta"):  # tensors there have a shape and no numbers; arithmetic would load PyTorch's compiler
        model = config.build(torch.empty(len(words), config.EDim), torch.float32)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if {name: tensor.shape for name, tensor in weights.items()} != shapes:
        raise ValueError("its weights do not match its sizes")
    if bad := [name for name, tensor in weights.items() if not tensor.isfinite().all()]:
        raise ValueError(f"{bad[0]} is not all finite numbers")


def check_state(content: dict) -> None:
    """Raise ValueError or the like if a state file cannot be right, as far as that shows without the model."""
    values = [*content["config"].values(), *content["facts"].values()]
    values += [value for record in content["numbers"]["records"] for value in record.values()]
    fine = all(isinstance(value, (str, int, float, type(None))) and len(str(value)) < 5000 for value in values)
    if not fine or not isinstance(content["moments"], dict):
        raise ValueError("its flags or figures are no values")
    torch.Generator().set_state(content["random"])


def fits(content, like) -> bool:
    """Whether something read is made like `like`: the same types and keys, no odd number, tensors of that shape.

    These have no gaps: the optimizer writes to as many numbers as there should be, from the first on.
    """
    if type(content) is not type(like):
        return False
    if isinstance(like, dict):
        return content.keys() == like.keys() and all(fits(content[key], like[key]) for key in like)
    if isinstance(like, Tensor):
        return (content.shape, content.dtype, content.is_contiguous()) == (like.shape, like.dtype, True)
    return type(like) is not int or 0 <= content < 1 << 53


# ---- The command line -----------------------------------------------------------------------------------------------

DEFAULT_GLOVE = DATA / "glove.6B" / "glove.6B.100d.txt"
CORPORA = {
    "tiny": ("tiny/tiny.train.tokens.4M", "tiny/tiny.valid.tokens.200K"),
    "sample": ("sample/train.tokens", "sample/valid.tokens"),
}


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is a CUDA GPU if there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backend = {"cuda": torch.cuda, "mps": torch.backends.mps, "cpu": torch.cpu}[name]
    if not backend.is_available():
        raise UserError(f"-device {name}: there is none here (or torch was built without it); use -device cpu")
    return torch.device(name)


def choose_precision(name: str, device: torch.device, generating: bool = False) -> torch.dtype:
    """The dtype of large products; `auto` is float32, but bfloat16 where hardware multiplies it and not to generate."""
    if name == "int8":
        if not generating or device.type != "cpu":
            raise UserError("-precision int8: only for -use and -prompt, on the CPU; give bf16 or fp32")
        return torch.int8
    if name == "auto":
        cpu = torch.cpu.get_capabilities() if device.type == "cpu" else {}
        gpu = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        fast = gpu or cpu.get("amx_bf16") or cpu.get("avx512_bf16")
        name = "bf16" if fast and not generating else "fp32"
    return torch.bfloat16 if name == "bf16" else torch.float32


def fill_corpora(args: argparse.Namespace, trained_on_sample: bool = False) -> str:
    """Fill in the default corpora; returns a line that says so if the embedded sample stands in for them."""
    named = args.train_corpus or args.valid_corpus
    sample = not named and (trained_on_sample or not (DATA / CORPORA["tiny"][0]).exists())
    train_path, valid_path = (DATA / name for name in CORPORA["sample" if sample else "tiny"])
    if sample and not train_path.exists():
        raise UserError(f"{train_path.parent}: no corpus there; name yours with -train_corpus and -valid_corpus")
    args.train_corpus, args.valid_corpus = args.train_corpus or train_path, args.valid_corpus or valid_path
    for path in (args.train_corpus, args.valid_corpus):
        if named and path in (train_path, valid_path) and not path.exists():
            raise UserError(f"{path}: no such file; give -train_corpus and -valid_corpus, not only {named}")
    note = f"note: on the embedded sample of made-up stories, not on {DATA / CORPORA['tiny'][0]}"
    return f"{note}; python {DATA / 'get_data.py'} tiny gets real ones" if sample else ""


def training_vocabulary(args: argparse.Namespace) -> tuple[dict[str, int], Tensor, Config, Pieces | None]:
    """The vocabulary, its vectors, the hyper-parameters and the pieces of a training run; says what they are."""
    given = {name: value for name, value in vars(args).items() if name in Config.__annotations__ and value is not None}
    config = Config(**given)
    bpe = config.tokenizer == "bpe"
    learns = args.EDim or bpe
    if args.embeddings_file and learns:
        raise UserError("-embeddings_file has GloVe's vectors, -EDim and -tokenizer bpe learn theirs; give one of them")
    glove = args.embeddings_file or (DEFAULT_GLOVE if DEFAULT_GLOVE.exists() and not learns else None)
    if not glove and not learns:
        print(f"note: no {DEFAULT_GLOVE}; learning the word vectors (python hw04/data/get_data.py glove gets it)")
    if not glove and args.glove_only:
        raise UserError("-glove_only needs GloVe vectors; give -embeddings_file")
    how, kind = {"how": args.stories, "cased": config.cased}, "pieces" if bpe else "words"
    pieces = Pieces.learned(read_stories(args.train_corpus, **how), config.VSize) if bpe else None
    token2idx, embeddings, edim = build_vocab_and_embeddings(
        glove, args.train_corpus, config.VSize, edim=config.EDim, glove_only=args.glove_only, pieces=pieces, **how
    )
    words, learned = len(token2idx) - 3, int((~embeddings[3:].any(1)).sum())
    odd = [word for word in [*token2idx][3:] if not word.isalnum() and tokenize_text(word, config.cased) != [word]]
    if len(odd) > 0.1 * words and not bpe:
        print(f"note: {len(odd) / words:.0%} of the words, such as {printable(odd[0])}, are no tokens as -use makes "
              "them; is the corpus plain prose? README.md, 'Your own text', says how to make tokens of it")
    if words < config.VSize and not args.glove_only:
        print(f"note: the corpus has {words:,} {kind}, fewer than -VSize {config.VSize:,}")
    source = f"{words - learned:,} from {glove.name}, {learned:,} learned" if glove else "all learned"
    source += ", all fine-tuned" * (config.finetune or config.tie)
    print(f"vocabulary: {words:,} {kind} and 3 special tokens, vectors of size {edim}, {source}")
    return token2idx, embeddings, replace(config, EDim=edim), pieces


def describe_training(args: argparse.Namespace, precision: torch.dtype, sample: str) -> dict:
    """What the checkpoint says of how the model was trained."""
    train, valid = args.train_corpus, args.valid_corpus
    return {
        "train_corpus": f"{train.resolve().parent.name}/{train.name}", "train_digest": digest(train),
        "valid_corpus": f"{valid.resolve().parent.name}/{valid.name}", "valid_digest": digest(valid),
        "folder": train.resolve().parent.name, "sample": bool(sample), "seed": args.seed, "E": args.E, "B": args.B,
        "lr": args.lr, "emb_lr": args.emb_lr, "weight_decay": args.weight_decay, "schedule": args.schedule,
        "bptt": args.bptt, "patience": args.patience, "valid_every": args.valid_every, "stories": args.stories,
        "glove_only": args.glove_only, "precision": str(precision), "torch": str(torch.__version__),
        "device": choose_device(args.device).type, "threads": torch.get_num_threads(), "processes": place()[1],
    }


def choose_seed(args: argparse.Namespace) -> int:
    """`-seed`, or a number drawn now."""
    return args.seed if args.seed is not None else int.from_bytes(os.urandom(3), "big")


class Tee:
    """Standard output that is also written to the `-trace` file (progress bars go to standard error)."""

    def __init__(self, screen, file):
        self.screen, self.file = screen, file

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):  # a full disk, which ends no training
            self.file.write(text)
        return self.screen.write(text)

    def flush(self) -> None:
        self.screen.flush()
        with contextlib.suppress(OSError):
            self.file.flush()

    def __getattr__(self, name: str):
        return getattr(self.screen, name)


def whole(least: int, most: int = 10**9):
    """A type for argparse: whole numbers in this range."""

    def number(text: str) -> int:
        if not text.lstrip("-").isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text}: give a whole number of at least {least} and at most {most}")
        return int(text)

    return number


positive = whole(1)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str):
        raise UserError(f"{message} ({self.prog} -h lists the flags)")


def make_parser() -> Parser:
    """All modes and flags, in groups; the help of each flag says its default."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = Parser("lstlm.py", description=__doc__, formatter_class=layout, allow_abbrev=False)
    mode = parser.add_argument_group("what to do, one of").add_mutually_exclusive_group()
    for function in (train, use, prompt, evaluate):
        text = function.__doc__.splitlines()[0]
        mode.add_argument(f"-{function.__name__}", dest="run", action="store_const", const=function, help=text)
    add_model_and_file_flags(parser)
    add_training_flags(parser.add_argument_group("training").add_argument)
    add_sampling_flags(parser.add_argument_group("choosing the next token").add_argument)
    return parser


# What `-preset` sets, for flags that are not given. strong: word vectors that are the output layer too leave room for a
# wide last layer; dropout keeps several epochs from learning the stories by heart.
PRESETS = {"strong": "-tie -EDim 512 -dropout 0.3 -E 8"}


def add_model_and_file_flags(p: Parser) -> None:
    """Flags that say what the model is and where the files are."""
    add = p.add_argument_group("the model (only -train needs these; one that disagrees is an error)").add_argument
    add("-preset", choices=PRESETS, help=f"other defaults; {'; '.join(map(': '.join, PRESETS.items()))} (default none)")
    add("-H", type=positive, help="LSTM layers (default 2)")
    add("-N", type=positive, help="size of each layer's hidden and cell state (default 512)")
    add("-cell", choices=CELLS, help="the kind of its layers (default lstm)")
    add("-VSize", type=positive, help="words of the vocabulary, the most frequent ones (default 10000)")
    add("-a", nargs="?", const="dot", choices=ATTENTION, help="attention over earlier states of size N/2; -a alone is "
        "dot (default none)")
    add("-EDim", type=positive, help="learn word vectors of this size, without GloVe (default GloVe's size, else 100)")
    add("-dropout", type=float, help="share of each layer's outputs dropped in training (default 0)")
    add("-locked", action="store_true", default=None, help="drop the same all through a story (default anew each time)")
    add("-finetune", action="store_true", default=None, help="train GloVe's vectors too (default not)")
    add("-tie", action="store_true", default=None, help="word vectors, fine-tuned, are the output layer too, and the "
        "last layer has their size (default not)")
    add("-positions", action="store_true", default=None, help="add sinusoidal encodings to word vectors (default not)")
    add("-bidirectional", action="store_true", default=None, help="half of each layer reads from the end and sees what "
        "is to be predicted: no language model, an experiment (default not)")
    add("-tokenizer", choices=TOKENIZERS, help="what is predicted: words, or the VSize pieces of them that byte-pair "
        "encoding finds, with learned vectors; needs the package tokenizers (default words)")
    add("-cased", action="store_true", default=None, help="keep upper case (default all lower case)")
    add("-glove_only", action="store_true", help="a word without a GloVe vector is <unk> (default it learns one)")
    add = p.add_argument_group("files (defaults are beside lstlm.py or in ../data, from whatever folder)").add_argument
    path = {"type": Path, "metavar": "PATH"}
    add("-model", **path, default=HW04 / "code" / "lm_model.pt", help="to write or read (default lm_model.pt)")
    add("-embeddings_file", **path, help=f"GloVe vectors (default {DEFAULT_GLOVE.name} if it is there, else none)")
    add("-train_corpus", **path, help=f"(default {CORPORA['tiny'][0]}, where that is missing {CORPORA['sample'][0]})")
    add("-valid_corpus", **path, help=f"(default {CORPORA['tiny'][1]}, likewise {CORPORA['sample'][1]})")
    add("-test_corpus", **path, nargs="+", help="what -evaluate measures (default the valid and the train corpus)")
    add("-stories", choices=("auto", "line", "eos", "article", "stream"), default="auto", help="they end with the "
        "line, at <eos> or <|endoftext|>, before a ' = Title = '; stream: all is one, with <eos> for a line's end "
        "(default auto: what the file has)")
    add("-trace", type=Path, metavar="FILE", help="add what is typed and printed to this file (default none)")
    add("-json", action="store_true", help="print one JSON object a line (default text for people)")
    add = p.add_argument_group("machine").add_argument
    add("-seed", type=whole(0, 2**32), help="of all that is random (default 0 for -train, else drawn and printed)")
    add("-device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="(default auto: cuda if it is there)")
    add("-precision", choices=("auto", "fp32", "bf16", "int8"), default="auto", help="of the large products (default "
        "auto: bf16 in training and evaluation where the hardware has it, else fp32); int8 is to generate faster")


def add_training_flags(add) -> None:
    """Flags of -train."""
    add("-E", type=positive, default=5, help="epochs (default 5)")
    add("-B", type=positive, default=32, help="stories in a minibatch (default 32)")
    add("-lr", type=float, default=4e-3, help="highest learning rate of Adam (default 0.004)")
    add("-emb_lr", type=float, help="that of the word vectors (default that of -lr)")
    add("-schedule", choices=("linear", "cosine"), default="linear", help="how the rate falls to a tenth, after a rise "
        f"over {WARM_UP} steps (default linear)")
    add("-weight_decay", type=float, default=0.0, help="share of the rate by which matrices, but no word vectors, "
        "shrink in each step (default 0)")
    add("-bptt", type=positive, default=512, help="cut stories after so many tokens, state carried over (default 512)")
    add("-resume", action="store_true", help="go on with the run of the same flags that was stopped (default start)")
    add("-patience", type=whole(0), default=3, help="stop after so many epochs without gain (default 3; 0 never)")
    add("-valid_every", type=positive, default=250, metavar="STEPS",
        help="steps from one look at the valid loss to the next (default 250)")


def add_sampling_flags(add) -> None:
    """Flags of -use and -prompt."""
    add("-greedy", action="store_true", help="take the most probable one (default draw at random)")
    add("-fpenalty", type=float, default=0.0, help="off a token's score for each time it was said, -2 to 2 (default 0)")
    add("-temperature", type=float, default=1.0, help="below 1 safer, above 1 wilder, 0 greedy (default 1)")
    add("-top_k", type=whole(0), default=0, help="only the k most probable (default 0: all)")
    add("-top_p", type=float, default=1.0, help="only the most probable that make up this share (default 1)")
    add("-min_p", type=float, default=0.0, help="only those with this share of the best one's chance (default 0)")
    add("-max_tokens", type=positive, default=200, help="end a continuation after so many (default 200)")
    add("-samples", type=positive, default=1, metavar="K", help="continuations of each prompt (default 1)")
    add("-continue", dest="continue_", action="store_true", help="feed text and continuation back until <eos>, a loop, "
        f"or {ROUNDS} rounds (default one round)")
    add("-text", help="the words to start from (default typed, or read line by line from a pipe)")


def check_training(args: argparse.Namespace) -> None:
    """Raise UserError if a flag of -train makes no sense; fill in the default of -emb_lr."""
    args.emb_lr = args.lr if args.emb_lr is None else args.emb_lr
    for name in ("lr", "emb_lr"):
        if not 0 < getattr(args, name) < math.inf:
            raise UserError(f"-{name} {getattr(args, name)}: give a number above 0")
    if not 0 <= args.weight_decay < math.inf:
        raise UserError(f"-weight_decay {args.weight_decay}: give a number of at least 0")
    if args.run is train and args.positions and args.stories == "stream":
        raise UserError("-positions -stories stream: a stream has no beginning to count from; leave one of them out")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line, checked as far as it can be without looking at files."""
    parser = make_parser()
    args, unknown = parser.parse_known_args(argv)
    if args.preset:  # in front, as the last of two flags counts
        args, unknown = parser.parse_known_args(PRESETS[args.preset].split() + (sys.argv[1:] if argv is None else argv))
    if unknown:
        near = difflib.get_close_matches(unknown[0].replace("--", "-"), re.findall(r"-\w+", parser.format_usage()), 1)
        hint = f"did you mean {near[0]}?" if near else "is it a text that needs quotes?"
        parser.error(f"{' '.join(unknown)}: no such flag; {hint}")
    if not args.run:
        parser.error("say what to do: -train, -use, -prompt or -evaluate")
    check_training(args)
    if args.dropout is not None and not 0 <= args.dropout < 1:
        parser.error(f"-dropout {args.dropout}: give a number from 0 to below 1")
    read = [args.train_corpus, args.valid_corpus, args.embeddings_file, *(args.test_corpus or [])]
    check_paths(args.model, args.trace, read)
    args.sampling = Sampling(args.greedy, args.fpenalty, args.temperature, args.top_k, args.top_p, args.min_p)
    return args


def check_paths(model: Path, trace: Path | None, read: list[Path | None]) -> None:
    """Raise UserError if a file that is written is one that is read, or another one that is written."""
    written = [side_file(model, ending) for ending in (".log.jsonl", ".loss.png", ".state.pt", ".state.prev.pt")]
    written += [path for path in (model, trace) if path]
    if re.search(r"[\0-\x1f\x7f-\x9f]", "".join(map(str, written + read))):
        raise UserError("a path with a control character in it; rename the file")
    taken = {path.resolve() for path in read if path}
    for path in written:
        if path.resolve() in taken:
            raise UserError(f"{path}: two flags name it (-model names its side files too); give one another name")
        taken.add(path.resolve())


def set_up_memory() -> None:
    """Two settings of the libraries that PyTorch stands on, which they read when the first tensors are made."""
    # Large pages from Linux: fresh memory for a batch's tensors costs a seventh of the time.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # oneDNN keeps code for the shapes of the last 1024 products, and each minibatch has shapes of its own.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")


def main(argv: list[str] | None = None) -> int:
    """Run one of the four modes; returns the exit status: 0, 2 for what the user can mend, 130 for Ctrl-C."""
    set_up_memory()
    for name, way in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # for all the run, as the caller closed it: `<&-`, `>&-`, `2>&-`
            setattr(sys, name, open(os.devnull, way))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not one of a notebook
            stream.reconfigure(errors="backslashreplace")
    try:
        args = parse_args(argv)
        with contextlib.ExitStack() as stack:
            args.trace = start_trace(args, argv, stack)
            args.out = sys.stdout
            if args.json:  # only its records go there, all that is for people to standard error
                stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            if args.run is train:
                join_processes(args, stack)
            args.run(args)
        return 0
    except UserError as error:
        print(f"lstlm.py: error: {printable(str(error))}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        again = shlex.join(sys.orig_argv if argv is None else ["python", "lstlm.py", *argv]).removesuffix(" -resume")
        again = "the same torchrun command and" if "WORLD_SIZE" in os.environ else again
        if os.environ.get("RANK", "0") == "0":
            print(f"lstlm.py: stopped and saved; go on with: {again} -resume", file=sys.stderr)
        return 128 + stopped.args[0]
    except KeyboardInterrupt:
        print("\nlstlm.py: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # such as in `lstlm.py -prompt | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, say
        print(f"lstlm.py: error: {printable(str(error))}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        print("lstlm.py: error: too little memory; make -H, -N, -EDim, -B or -bptt smaller", file=sys.stderr)
        return 1


def start_trace(args: argparse.Namespace, argv: list[str] | None, stack: contextlib.ExitStack):
    """Copy what is printed to the `-trace` file; returns a function that adds there what was typed."""
    if not args.trace or os.environ.get("RANK", "0") != "0":  # of several processes the first writes it
        return lambda line: None
    try:  # a line at a time, as a process may be killed
        file = stack.enter_context(args.trace.open("a", 1, encoding="utf-8", errors="backslashreplace"))
    except OSError as error:
        raise UserError(f"{args.trace}: cannot be written ({error.strerror}); give another -trace file") from None

    def note(line: str) -> None:
        with contextlib.suppress(OSError):  # a full disk is told at the end, when the file is closed
            print(line, file=file)

    note(f"$ python lstlm.py {shlex.join(map(printable, sys.argv[1:] if argv is None else argv))}")
    stack.enter_context(contextlib.redirect_stdout(Tee(sys.stdout, file)))
    return note


def leave(status: int) -> None:
    """End the process; one that torchrun started at once, without the clean-up of Python's end.

    While that goes on a thread of torch.distributed may still ask for Python, which aborted some that were done.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    leave(main())
