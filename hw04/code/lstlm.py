#!/usr/bin/env python3
"""A word-level LSTM language model: data, model, loss, training, generation, evaluation.

    python lstlm.py -train -H 2 -N 512 -E 5       # keep the model with the best validation loss
    python lstlm.py -use                          # type some words, see the ten most probable next
    python lstlm.py -prompt -greedy -fpenalty 0.5 # type a prompt; the model continues it
    python lstlm.py -evaluate -test_corpus FILE   # nats, perplexity and bits per character
    python lstlm.py -h                            # every flag, with its default

Read it from top to bottom, as the data flows: vocabulary and GloVe vectors, minibatches, the model
with its attention, the loss, training, sampling, the interactive modes, evaluation. The handout's
items are the blocks YOUR CODE HERE (1), (1a), ... (7); supporting code is in backstage/. Sizes in
comments such as `# (B, T)`:

    B stories in a minibatch     T positions of the longest one    R real positions, without padding
    H LSTM layers of size N      EDim size of a word vector        V VSize words + 3 special tokens
    D size of a state of the last layer: N, N/2 with attention     P earlier positions

Losses are in nats per target token unless said otherwise.
"""

import math
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))  # where python -P does not look
from backstage.shell import importing

with importing(Path(sys.argv[0]).name):  # the program: this one, or one that stands on this file
    import numpy as np
    import safetensors  # noqa: F401 - as tqdm, so that it is told here if it is missing
    import torch
    from torch import Tensor, nn
    from torch.nn import functional as F
    from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
    from tqdm import tqdm  # noqa: F401

from backstage.attention import look_back, sinusoids
from backstage.bookkeeping import Untrained
from backstage.bpe import WordPieces, to_word_pieces
from backstage.checkpoint import Config, Loaded, load_checkpoint
from backstage.continuations import Continuation, begun, show_continuations
from backstage.corpora import BOS, EOS, SPECIAL, UNK, cut_stream, encode, read_stories
from backstage.cross_entropy import linear_cross_entropy
from backstage.defaults import DEFAULT_MODEL, describe_training, prepare_training
from backstage.device import choose_device, choose_precision, mixed_precision
from backstage.dropped_rnn import CELLS
from backstage.errors import UserError
from backstage.flags import check_whole, make_parser, parse_flags
from backstage.glove import glove_beginning, glove_numbers, split_glove_line
from backstage.glove_cache import cached_vectors
from backstage.initial import fill_vectors, initialise, vector_spread
from backstage.measures import (
    SEES_AHEAD,
    corpora_to_evaluate,
    measured,
    safe_exp,
    show_evaluation,
)
from backstage.minibatches import evaluating, evaluation_segments
from backstage.names import names_beside
from backstage.packed_rnn import pad_packed_sequence  # torch's, but with a fast gradient
from backstage.processes import leave
from backstage.program import run_program
from backstage.reading import next_logits
from backstage.repl import choose_seed, draw_seed, read_prompts
from backstage.run import Run
from backstage.sampling import Sampling, restricted
from backstage.shown_words import Choice, show_next, understand
from backstage.state import State, forward_direction
from backstage.vocabulary import choose_glove, given_config, given_flags, tell_vocabulary
from backstage.words import detokenize, tokenize_text

# ---- Vocabulary and GloVe vectors ---------------------------------------------------------------


def build_vocab_and_embeddings(
    embeddings_file: str | Path | None, corpus_file: str | Path, vsize: int, *, edim: int = 100,
    glove_only: bool = False, how: str = "auto", cased: bool = False, bpe: WordPieces | None = None,
) -> tuple[dict[str, int], Tensor, int]:
    """The `vsize` most frequent tokens of the training corpus and their GloVe vectors.

    Returns token -> id, embeddings (V, EDim), EDim. Ids 0 to 2 are `<unk>`, `<bos>`, `<eos>`; words
    follow by falling frequency. A word without a GloVe vector has an all-zero row, or is left out
    if `glove_only`. Without `embeddings_file` the rows of all words are zero, of size `edim`. The
    row of `<unk>` is the mean of the words' vectors; those of `<bos>` and `<eos>` are drawn with
    the same spread (torch's global random state). `how` says where stories end, as `-stories` does;
    with `bpe` word pieces stand in place of words.
    """
    words = most_frequent(read_stories(corpus_file, how, cased), vsize, bpe)
    if embeddings_file:
        vectors = cached_vectors(Path(embeddings_file), words, read_glove)  # (VSize, EDim)
    else:
        vectors = torch.zeros(len(words), edim)
    known = vectors.any(1)  # (VSize,) the words with a GloVe vector
    if glove_only:
        words = [word for word, has_vector in zip(words, known, strict=True) if has_vector]
    if not words:
        which = " that has a GloVe vector" if glove_only else ""
        raise UserError(f"{corpus_file}: no word for the vocabulary{which}")
    special = torch.zeros(len(SPECIAL), vectors.shape[1])  # (3, EDim)
    if known.any():
        special[UNK] = vectors[known].mean(0)
    if glove_only:
        vectors = vectors[known]
    special[BOS:] = torch.randn(2, vectors.shape[1]) * vector_spread(vectors)
    token2idx = {token: i for i, token in enumerate([*SPECIAL, *words])}
    return token2idx, torch.cat([special, vectors]), vectors.shape[1]


def most_frequent(
    stories: list[list[str]], vsize: int, bpe: WordPieces | None = None
) -> list[str]:
    """The `vsize` most frequent tokens of stories, or word pieces of them, by falling frequency."""
    counts = Counter(token for story in to_word_pieces(stories, bpe) for token in story)
    if bpe:  # some of its word pieces may occur in no story
        counts.update(dict.fromkeys(bpe.vocabulary(), 0))
    for token in SPECIAL:
        del counts[token]
    return [word for word, _ in counts.most_common(vsize)]


def read_glove(path: str | Path, words: list[str]) -> Tensor:
    """The GloVe vectors of `words` (len(words), EDim), zeros for a word that the file lacks.

    Each line is `word number ... number`, and its last EDim fields are the numbers, as some words
    have spaces. The word is looked up before its numbers are parsed, as most lines are not wanted.
    Raises a UserError naming the line.
    """
    row_of = {word.encode(): row for row, word in enumerate(words)}
    number = 1
    try:
        with open(path, "rb") as file:
            EDim, begin, lines = glove_beginning(file)
            vectors = np.zeros((len(words), EDim), np.float32)
            for number, line in enumerate(chain(lines, file), begin):  # noqa: B007 - told below
                word, numbers = split_glove_line(line, EDim)
                row = row_of.pop(word, None)  # a repeated word: its first line
                if row is not None:
                    vectors[row] = glove_numbers(numbers, EDim)
    except OSError as error:
        get = "python hw04/data/get_data.py glove gets them; without the flag vectors are learned"
        why = f"cannot be read as GloVe vectors ({error.strerror}); {get}"
        raise UserError(f"{path}: {why}") from None
    except ValueError as error:
        why = f"{str(error)[:200]}; delete the line or get the file again"
        raise UserError(f"{path}:{number}: {why}") from None
    return torch.from_numpy(vectors)


def tokenize_corpus(
    corpus_file: str | Path, token2idx: dict[str, int], how: str = "auto", cased: bool = False,
    bpe: WordPieces | None = None,
) -> list[list[int]]:
    """The stories of a corpus file, each a list of ids `<bos> ... <eos>`."""
    stories = read_stories(corpus_file, how, cased)
    return encode(to_word_pieces(stories, bpe), token2idx)


# ---- Minibatches --------------------------------------------------------------------------------


def collate_stories(stories: list[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Stories of ids -> inputs (B, T) padded with 0, targets (B, T) padded with -100, lengths (B,).

    All are int64. The target at a position is the token after it: inputs are story[:-1], targets
    story[1:] (handout, item 2).
    """
    # YOUR CODE HERE: BEGIN (2)
    inputs = [torch.tensor(story[:-1]) for story in stories]
    targets = [torch.tensor(story[1:]) for story in stories]
    lengths = torch.tensor([len(story) - 1 for story in stories])  # (B,)
    inputs = pad_sequence(inputs, batch_first=True, padding_value=0)  # (B, T)
    targets = pad_sequence(targets, batch_first=True, padding_value=-100)  # (B, T)
    # YOUR CODE HERE: END
    return inputs, targets, lengths


# ---- The model ----------------------------------------------------------------------------------


class LSTMLM(nn.Module):
    """Word vectors -> H LSTM layers -> (attention over earlier states) -> logits of the next token.

    embeddings     (V, EDim): rows 0 to 2 are trained from the given values; all-zero rows, of words
                   without a vector, start at random and are trained; the others are frozen
    attention      None, "dot", "bilinear" or "additive". The LSTM's states have size N/2 then, and
                   the output layer gets [h ; c], so that the number of parameters stays comparable
                   (handout, section 2.1)
    dropout        dropout probability of each layer's output
    precision      the dtype of the large matrix products
    cell           "lstm", "gru" or "rnn"
    finetune       the frozen rows are trained too
    tie            the word vectors, all trained, are the output layer's weight too (Press & Wolf
                   2017), and the last layer has their size: D is EDim, EDim/2 with attention. The
                   bias is not trained; training sets it to the log of the words' frequencies
    positions      sinusoidal encodings are added to the word vectors
    bidirectional  half of each layer reads from the end, and so sees the token to be predicted:
                   this is not a language model, but an experiment
    locked         dropout is the same at all positions of a story
    """

    KIND = "lstlm"  # the model type stored in checkpoints
    RNN_CLASSES = CELLS  # the classes of its recurrent layers; a subclass may have others

    def __init__(
        self, embeddings: Tensor, N: int, H: int, attention: str | None = None,
        dropout: float = 0.0, precision: torch.dtype = torch.float32, cell: str = "lstm",
        finetune: bool = False, tie: bool = False, positions: bool = False,
        bidirectional: bool = False, locked: bool = False,
    ):
        super().__init__()
        V, EDim = embeddings.shape
        features = EDim if tie else N  # the size of what the output layer gets
        check_sizes(N, EDim, attention, tie, bidirectional)
        self.attention = attention
        self.precision = precision
        self.cell = cell
        self.tied = tie
        self.positions = positions
        self.bidirectional = bidirectional
        self.position = 0  # of the first inputs in their stories, for the sinusoidal encodings
        self.one_step = None  # a copy of the weights laid out for generation, built on first use

        vectors = torch.empty(V, EDim, dtype=embeddings.dtype)
        self.embedding = nn.Embedding.from_pretrained(vectors, freeze=False)
        self.embedding.register_forward_hook(self.finish_vectors)
        self.register_buffer("learned", torch.ones(V, dtype=torch.bool))  # the trained rows
        is_loaded = embeddings.is_meta  # shapes only: the numbers come from a checkpoint
        spread = 1.0 if is_loaded else fill_vectors(self, embeddings, finetune)

        halved = 2 if attention or bidirectional else 1
        sizes = [N // halved] * (H - 1) + [features // halved]  # of the H layers
        make = partial(
            self.RNN_CLASSES[cell], p=dropout, locked=locked, bidirectional=bidirectional
        )
        self.last = None
        if tie and H > 1:  # the last layer has another size, so it is a module of its own
            self.lstm = make(EDim, sizes[0], H - 1)
            self.last = make(N if bidirectional else sizes[0], sizes[-1], 1)
        else:
            self.lstm = make(EDim, sizes[0], H)

        self.output = nn.Linear(features, V)
        if tie:
            self.output.weight = self.embedding.weight
            del self.output.bias
            self.output.register_buffer("bias", torch.zeros(V))  # until training sets it
        D = sizes[-1]
        if attention == "bilinear":  # e(i, j) = h_i^T W h_j
            self.W = nn.Parameter(torch.empty(D, D))
        elif attention == "additive":  # e(i, j) = v^T tanh(W h_i + U h_j)
            self.W = nn.Parameter(torch.empty(D, D))
            self.U = nn.Parameter(torch.empty(D, D))
            self.v = nn.Parameter(torch.empty(D))
        if positions:
            spread = (spread**2 + 1 / 2) ** 0.5  # a sine's mean square is 1/2
        if not is_loaded:
            initialise(self, spread)

    def forward(
        self, inputs: Tensor, lengths: Tensor, targets: Tensor | None = None,
        state: State | None = None,
    ) -> Tensor:
        """Logits (B, T, V) of the token after each position of inputs (B, T), with lengths (B,).

        Given `targets` (B, T), the mean nats per target token instead, computed in chunks without
        the full logits. Padding is known from `lengths` alone. `state` carries (h, c), earlier
        outputs and the position from one segment of the stories to the next; it is updated in
        place. If it has more stories than `inputs`, the last ones have ended. With its `last_only`
        there are logits (B, 1, V) of the last position alone.
        """
        T = inputs.shape[1]
        past = self.start_from(state, len(inputs))
        with mixed_precision(self.precision, inputs.device):
            # Hidden states (B, T, D) of self.lstm, which starts from `state` by itself.
            # YOUR CODE HERE: BEGIN (1)
            vectors = self.embedding(inputs)  # (B, T, EDim), by way of finish_vectors
            packed = pack_padded_sequence(
                vectors, lengths.cpu(), batch_first=True, enforce_sorted=False
            )
            outputs, _ = self.lstm(packed)
            hidden, _ = pad_packed_sequence(outputs, batch_first=True, total_length=T)
            # YOUR CODE HERE: END
            if self.last is not None:
                hidden = self.last.over_padded(hidden, lengths)
        features = hidden
        if self.attention:
            context = self.attend(hidden, past)  # (B, T, D)
            features = torch.cat([hidden, context], 2)  # (B, T, 2D): [h ; c]
        if state is not None:
            self.bring_forward(state, hidden)
            if state.last_only:
                features = features[:, -1:]
        if targets is None:
            return self.output(features.to(self.output.weight.dtype))  # (B, T, V)
        return self.loss(features, lengths, targets)

    def loss(self, features: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        """The mean nats per target token, given what the output layer gets and targets (B, T)."""
        real = torch.arange(targets.shape[1]) < lengths.cpu()[:, None]  # (B, T), no padding
        rows = real.flatten().nonzero()[:, 0].to(targets.device)  # (R,)
        features = features.flatten(0, 1).index_select(0, rows)  # (R, N), or (R, EDim) if tied
        targets = targets.flatten()[rows]  # (R,)
        return linear_cross_entropy(
            self.cast(features), self.output.weight, self.output.bias, targets
        )

    def attend(self, hidden: Tensor, past: Tensor | None = None) -> Tensor:
        """Contexts (B, T, D): hidden states (B, T, D) look back at all strictly earlier ones.

        With the scores e(i, j) = h_i . h_j / sqrt(N/2) for j < i (handout, equation 1), softmax
        over j, the weighted sum of the h_j; zeros where there is nothing earlier. `past` (B, P,
        D) are states of these stories before `hidden`: in a long story's later segments, and when
        text is generated token by token. Padding stands at the end of a story, after all that its
        real positions look at, so the causal mask hides it too.
        """
        if past is not None or self.attention != "dot":
            return look_back(self, hidden, past)  # the same with a past, or another kind
        # YOUR CODE HERE: BEGIN (1a)
        T, size = hidden.shape[1:]
        earlier = hidden.new_ones(T, T, dtype=torch.bool).tril(-1)  # j < i
        # softmax(hidden hidden^T / sqrt(N/2)) hidden under the mask; PyTorch gives zeros for a row
        # of the mask that is all False, which is that of position 0.
        context = F.scaled_dot_product_attention(
            hidden, hidden, hidden, attn_mask=earlier, scale=1 / math.sqrt(size)
        )  # (B, T, D)
        # YOUR CODE HERE: END
        return context

    def start_from(self, state: State | None, batch_size: int) -> Tensor | None:
        """Start the layers from `state`; returns the past (B, P, D) for attention, if any."""
        begun = state is not None and state.recurrent
        if begun:
            state.keep_first(batch_size)
        for number, layers in enumerate(self.rnn_modules()):
            layers.carried = state is not None
            layers.initial = state.recurrent[number] if begun else None
            if begun and self.bidirectional:  # what follows is not known: zeros from that end
                layers.initial = forward_direction(layers.initial)
        self.position = state.position if begun else 0
        return state.past if begun else None

    def bring_forward(self, state: State, hidden: Tensor) -> None:
        """Update `state` to the end of `hidden` (B, T, D), the last output of the layers."""
        final = [layers.final for layers in self.rnn_modules()]
        state.bring_forward(final, hidden if self.attention else None, hidden.shape[1])
        for layers in self.rnn_modules():
            layers.initial = None
        self.position = 0

    def rnn_modules(self) -> list[nn.RNNBase]:
        """self.lstm, and self.last if there is one."""
        return [self.lstm, self.last] if self.last else [self.lstm]

    def layer_weights(self) -> list[list[Tensor]]:
        """w_ih, w_hh, b_ih, b_hh of each layer; of its two directions one after the other."""
        return [weights for layers in self.rnn_modules() for weights in layers.all_weights]

    def finish_vectors(self, embedding: nn.Embedding, inputs: tuple, vectors: Tensor) -> Tensor:
        """Forward hook of self.embedding: vectors (B, T, EDim) of the ids (B, T) in `inputs`.

        It blocks gradients to frozen rows, and adds positional encodings if `positions` is set.
        """
        learned = self.learned[inputs[0]]  # (B, T)
        vectors = torch.where(learned[..., None], vectors, vectors.detach())
        if self.positions:
            T, EDim = vectors.shape[1:]
            vectors = vectors + sinusoids(self.position, T, EDim).to(vectors)
        return vectors

    def cast(self, x: Tensor) -> Tensor:
        """`x` in the dtype of the large products: bfloat16 where that was chosen."""
        return x.to(torch.bfloat16) if self.precision == torch.bfloat16 else x


def check_sizes(N: int, EDim: int, attention: str | None, tie: bool, bidirectional: bool) -> None:
    """Raise UserError if a size that is halved is odd, or two switches exclude each other."""
    if attention and bidirectional:
        raise UserError("-a with -bidirectional: attention looks back only; leave out one of them")
    flag = "-a" if attention else "-bidirectional"
    for name, size, halved in (("N", N, True), ("EDim", EDim, tie)):
        if (attention or bidirectional) and halved and size % 2:
            why = f"it halves the LSTM's size, so {name} must be even"
            raise UserError(f"-{name} {size} with {flag}: {why}")


# ---- The loss -----------------------------------------------------------------------------------


def compute_loss(
    model: LSTMLM, stories: list[list[int]], batch_size: int, progress: bool = False
) -> float:
    """The mean cross-entropy per target token over all stories, in nats.

    A mean over tokens, not over batch means, so it does not depend on `batch_size`.
    """
    with evaluating(model):
        # Stories of similar length are batched together (bucketing), and very long ones are split
        # into segments, joined by `state`: call model(inputs, lengths, targets, state) once each.
        minibatches = evaluation_segments(model, stories, batch_size, collate_stories, progress)
        # Mean loss over all target tokens of `minibatches`, or of `stories`.
        # YOUR CODE HERE: BEGIN (3)
        total = 0.0
        n_tokens = 0
        for inputs, targets, lengths, state in minibatches:
            count = int(lengths.sum())
            total += count * float(model(inputs, lengths, targets, state))
            n_tokens += count
        mean = total / n_tokens
        # YOUR CODE HERE: END
    return float(mean)


# ---- Training -----------------------------------------------------------------------------------


STREAM_STORY = 2048  # targets of the stories into which a `-stories stream` is cut for training


def new_model(args: Namespace, model_class=LSTMLM) -> Untrained:
    """The vocabulary of the training corpus, and a model with weights drawn at random."""
    device = choose_device(args.device)
    precision = choose_precision(args.precision, device)
    config = given_config(args)
    glove = choose_glove(args, config)
    text = {"how": args.stories, "cased": config.cased}
    bpe = None
    if config.tokenizer == "bpe":
        bpe = WordPieces.learned(read_stories(args.train_corpus, **text), config.VSize)
    token2idx, embeddings, EDim = build_vocab_and_embeddings(
        glove, args.train_corpus, config.VSize, edim=config.EDim, glove_only=args.glove_only,
        bpe=bpe, **text,
    )
    tell_vocabulary(args, config, glove, [*token2idx][len(SPECIAL) :], embeddings[len(SPECIAL) :])
    if config.bidirectional:
        print(SEES_AHEAD)
    config = replace(config, EDim=EDim)
    model = config.build(model_class, embeddings, precision).to(device)
    facts = describe_training(args, precision, bpe)
    names = names_beside(args.train_corpus, token2idx, config.cased, bpe)
    return Untrained(model, config, token2idx, facts, bpe, names)


def train(
    args: Namespace, new: Callable[[Namespace], Untrained] = new_model, run_class: type[Run] = Run
) -> None:
    """Train a model on `-train_corpus`, keep the one with the best validation loss.

    `new` makes the model and its vocabulary, `run_class` has what happens around the steps:
    minibatches, learning rate, progress, validation, saving, resuming.
    """
    prepare_training(args)
    untrained = new(args)
    text = args.stories, untrained.config.cased, untrained.bpe
    stories = tokenize_corpus(args.train_corpus, untrained.token2idx, *text)
    valid = tokenize_corpus(args.valid_corpus, untrained.token2idx, *text)
    if args.stories == "stream":  # one long story, cut into stories that form minibatches
        stories = cut_stream(stories[0], STREAM_STORY)
    run = run_class(args, untrained, stories, valid, compute_loss, collate_stories)
    run.tell()
    model = run.model
    optimizer = run.optimizer
    with run:  # on a signal it saves where the training is, after the step
        for inputs, targets, lengths, state, share in run.segments():
            # Truncated BPTT: a story longer than -bptt comes in segments, each a step of its own
            # from the `state` that the one before left. Its loss is weighted by its share of the
            # minibatch's tokens, so that a token counts the same in a short segment.
            loss = share * model(inputs, lengths, targets, state)
            # YOUR CODE HERE: BEGIN (4)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
            optimizer.step()
            # YOUR CODE HERE: END
            run.add(loss)
    run.finish()


# ---- Sampling -----------------------------------------------------------------------------------


def next_token_logits(
    model: LSTMLM, tokens: list[int], sampling: Sampling, state: State | None = None
) -> Tensor:
    """The logits (V,) from which the token after the ids `tokens` is chosen, in float64.

    The model's own, less the frequency penalty (handout, section 2.2), then as `restricted` by the
    other settings. An excluded word has the logit -inf.
    """
    if state is None:
        state = State()
    logits = next_logits(model, [tokens], state)[0].double().cpu().clone()  # (V,)
    fpenalty = sampling.fpenalty
    # YOUR CODE HERE: BEGIN (6a)
    counts = torch.bincount(torch.tensor(tokens), minlength=len(logits))  # (V,): c(s, w)
    logits = logits - fpenalty * counts  # handout, equation 2
    # YOUR CODE HERE: END
    return restricted(logits, sampling)


def generate_next_token(
    model: LSTMLM, tokens: list[int], greedy: bool = False, fpenalty: float = 0.0,
    temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0, *,
    generator: torch.Generator | None = None, state: State | None = None,
) -> int:
    """The id after the ids `tokens` (the first is `<bos>`): the most probable, or drawn at random.

    A `state` caches what was computed, so that the next call with more tokens does only the new
    part. The settings are those of `Sampling`; temperature 0 is greedy, too.
    """
    sampling = Sampling(greedy, fpenalty, temperature, top_k, top_p, min_p)
    greedy = sampling.is_greedy()  # as asked, or by temperature 0
    logits = next_token_logits(model, tokens, sampling, state)  # (V,)
    # YOUR CODE HERE: BEGIN (6)
    if greedy:
        token = int(logits.argmax())
    else:
        probs = torch.softmax(logits, dim=0)
        token = int(torch.multinomial(probs, 1, generator=generator))
    # YOUR CODE HERE: END
    return int(token)


def grow(
    model: LSTMLM, continuations: list[Continuation], sampling: Sampling, chances: bool = False,
    state: State | None = None,
) -> Iterator[None]:
    """Add a token to each of the continuations of one prompt, and yield, until all have ended.

    They are one batch. With `chances` the probability of each token is recorded. A `state` caches
    the prompt.
    """
    if state is None:
        state = State()
    next_logits(model, [continuations[0].ids], state)  # the prompt is read once
    settings = asdict(sampling)
    alive = continuations
    rows = [0] * len(continuations)
    while alive:
        state = state.take(rows)
        # One batched step; the calls below find its logits cached.
        next_logits(model, [story.ids for story in alive], state)
        for row, story in enumerate(alive):
            own = state.take(slice(row, row + 1))
            token = generate_next_token(
                model, story.ids, **settings, generator=story.generator, state=own
            )
            if chances:
                logits = next_token_logits(model, story.ids, sampling, own)
                story.chances.append(float(torch.softmax(logits, dim=0)[token]))
            story.add(token)
        rows = [row for row, story in enumerate(alive) if not story.ended]
        alive = [alive[row] for row in rows]
        yield


# ---- A model to use, from Python and in the interactive modes -----------------------------------


class LanguageModel:
    """A trained model: `load("lm_model.pt").generate("once upon a time")`.

    Raises UserError with a one-line message.
    """

    def __init__(self, loaded: Loaded):
        self.loaded = loaded
        self.model = loaded.model
        self.seed: int | None = None  # of the last text that was generated

    def generate(
        self, text: str, max_tokens: int = 200, temperature: float = 1.0, seed: int | None = None,
        greedy: bool = False, fpenalty: float = 0.0, top_k: int = 0, top_p: float = 1.0,
        min_p: float = 0.0,
    ) -> str:
        """The continuation of a prompt, as readable text without the prompt.

        `seed` reproduces it; without one it is drawn, and kept in `self.seed`.
        """
        sampling = Sampling(greedy, fpenalty, temperature, top_k, top_p, min_p)
        self.seed = draw_seed() if seed is None else seed
        check_whole("seed", self.seed, 0)
        check_whole("max_tokens", max_tokens, 1)
        words = self.tokens(text)
        ids = self.ids(words)
        story = Continuation([*ids], len(ids), self.seed, max_tokens)
        for _ in grow(self.model, [story], sampling):
            pass
        new = [self.loaded.words[i] for i in story.ids[len(ids) :] if i != EOS]
        return self.readable(words + new)[len(self.readable(words)) :]

    def next_words(self, text: str, k: int = 10) -> list[tuple[str, float]]:
        """The `k` most probable tokens after a text, with their probabilities."""
        check_whole("k", k, 1)
        logits = next_token_logits(self.model, self.ids(self.tokens(text)), Sampling())  # (V,)
        return self.most_probable(logits, torch.softmax(logits, dim=0), k)

    def surprise(self, text: str) -> list[tuple[str, float]]:
        """Each token of a text, with its surprisal in nats: -log of its probability."""
        words = self.tokens(text)
        ids = encode([words], self.loaded.token2idx)  # one story, with <bos> and <eos>
        nats = []
        with evaluating(self.model):
            segments = evaluation_segments(self.model, ids, 1, collate_stories)
            for inputs, targets, lengths, state in segments:
                logits = self.model(inputs, lengths, state=state)[0]  # (T, V)
                nats += F.cross_entropy(logits, targets[0], reduction="none").tolist()
        return list(zip(words, nats[:-1], strict=True))  # without that of <eos>

    def tokens(self, text: str) -> list[str]:
        """A text as the model sees it: words, or word pieces."""
        words = tokenize_text(text, self.loaded.config.cased)
        return to_word_pieces([words], self.loaded.bpe)[0]

    def ids(self, words: list[str]) -> list[int]:
        """The ids of `<bos>` and these tokens."""
        return encode([words], self.loaded.token2idx)[0][:-1]

    def readable(self, words: list[str]) -> str:
        """Tokens as a person writes them."""
        return detokenize(self.loaded.join(words), self.loaded.config.cased, self.loaded.names)

    def most_probable(self, logits: Tensor, probs: Tensor, k: int) -> list[tuple[str, float]]:
        """The `k` tokens with the largest logits (V,), with their `probs` (V,) if above 0.

        Of equal ones the first comes first, as it is the one that greedy choice takes.
        """
        best = logits.argsort(descending=True, stable=True)[:k]
        return [(self.loaded.words[i], float(probs[i])) for i in best if probs[i] > 0]


def load(path: str | Path = DEFAULT_MODEL, device: str = "cpu") -> LanguageModel:
    """Read a model that -train wrote. Raises UserError if the file is damaged or not a model."""
    return load_generator(Namespace(model=Path(path), device=device, precision="fp32"))


def load_generator(args: Namespace) -> LanguageModel:
    """The model `-model`. Raises UserError if it cannot generate, or is not what flags say."""
    device = choose_device(args.device)
    loaded = load_model(args, choose_precision(args.precision, device, generating=True))
    if loaded.config.bidirectional:
        why = "has to see what comes next, so it cannot say it; train one without"
        raise UserError(f"{args.model}: a -bidirectional model {why}")
    return LanguageModel(loaded)


def load_model(args: Namespace, precision=torch.float32, model_class=LSTMLM) -> Loaded:
    """Read the checkpoint `-model`, onto `-device`."""
    names = [name for name in Config.__annotations__ if name not in ("dropout", "locked")]
    loaded = load_checkpoint(args.model, model_class, precision, given_flags(args, names))
    loaded.model.to(choose_device(args.device))
    return loaded


def use(args: Namespace) -> None:
    """Show the most probable next tokens after what the person types."""
    language_model = load_generator(args)
    model = language_model.model
    for text in read_prompts(args, "words> "):
        words = understand(text, language_model.loaded, args.json)
        ids = language_model.ids(words)
        state = State()
        logits = next_token_logits(model, ids, args.sampling, state)  # (V,)
        # Probabilities (V,); <unk> and <bos> have the logit -inf already.
        # YOUR CODE HERE: BEGIN (5)
        probs = torch.softmax(logits, dim=0)  # (V,)
        # YOUR CODE HERE: END
        seed = choose_seed(args)
        generator = torch.Generator().manual_seed(seed)
        picked = generate_next_token(
            model, ids, **asdict(args.sampling), generator=generator, state=state
        )
        best = language_model.most_probable(logits, probs, 10)
        choice = Choice(picked, float(probs[picked]), seed)
        show_next(args, language_model.loaded, text, words, best, choice)


def prompt(args: Namespace) -> None:
    """Continue what the person types, `-samples` times, as text that appears as it is generated."""
    language_model = load_generator(args)
    for text in read_prompts(args, "prompt> "):
        words = understand(text, language_model.loaded, args.json)
        ids = language_model.ids(words)
        state = State()
        try:
            for continuations in begun(args, ids, choose_seed(args)):
                growth = grow(
                    language_model.model, continuations, args.sampling, args.json, state
                )
                show_continuations(args, language_model.loaded, words, continuations, growth)
        except KeyboardInterrupt:  # ends the story; at the prompt it ends the program
            if args.text is not None or not sys.stdin.isatty():
                raise
            print("\n-- ended by Ctrl-C")


# ---- Evaluation ---------------------------------------------------------------------------------


def load_to_evaluate(args: Namespace, model_class=LSTMLM) -> Loaded:
    """The model `-model`, in the fastest precision for the device."""
    precision = choose_precision(args.precision, choose_device(args.device))
    return load_model(args, precision, model_class)


def evaluate(args: Namespace, loader: Callable[[Namespace], Loaded] = load_to_evaluate) -> None:
    """Print how well the model predicts each of `-test_corpus` (by default valid and train)."""
    loaded = loader(args)
    for corpus in corpora_to_evaluate(args, loaded):
        started = time.perf_counter()
        # Mean loss (nats per token) and perplexity of the corpus.
        # YOUR CODE HERE: BEGIN (7)
        nats = compute_loss(loaded.model, corpus.stories, args.B, progress=True)
        perplexity = safe_exp(nats)
        # YOUR CODE HERE: END
        seconds = time.perf_counter() - started
        show_evaluation(args, loaded, corpus, measured(corpus, nats, float(perplexity), seconds))


# ---- The command line ---------------------------------------------------------------------------

MODES = (train, use, prompt, evaluate)  # a flag for each, which calls it: -train, -use, ...


def parse_args(argv: list[str] | None = None, modes: tuple[Callable, ...] = MODES) -> Namespace:
    """The command line, checked as far as it can be without looking at files."""
    return parse_flags(make_parser("lstlm.py", __doc__, modes), argv)


def main(argv: list[str] | None = None) -> int:
    """Run the mode that the flags name; returns the exit status: 0, or 2 for a user's error."""
    return run_program("lstlm.py", parse_args, argv)


if __name__ == "__main__":
    leave(main())
