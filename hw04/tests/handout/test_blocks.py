"""Each YOUR CODE HERE block accepts what a textbook has, not just the code that we put there.

An answer is put into its block of a copy of lstlm.py, all else as it is. Then the item has to do
what slow references do, and a short run on the command line has to print what the original prints.
"""

import contextlib
import functools
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from itertools import count
from pathlib import Path
from textwrap import dedent, indent
from types import ModuleType, SimpleNamespace

import lstlm
import numpy as np
import pytest
import torch
from torch import Tensor, nn

PROGRAM = Path(lstlm.__file__)
SMALL = [
    "-H", "2", "-N", "12", "-EDim", "6", "-VSize", "20", "-B", "4", "-lr", "0.02", "-seed", "0",
    "-precision", "fp32", "-device", "cpu",
]
TRAINING = ["-E", "3", "-valid_every", "7"]  # 7 minibatches, so 21 steps
V = 23  # ids, of SMALL's vocabulary and of the models here
TEXT = "w0 w1 w0"  # to go on from
MODULES = count()  # numbers for the names of modules

# Answers to the items, each by a name. A block may return what the line after it returns.
FORWARD = {
    "torch's packing": """
        embedded = self.embedding(inputs)
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            embedded, lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        packed_output, (h_n, c_n) = self.lstm(packed)
        hidden, _ = torch.nn.utils.rnn.pad_packed_sequence(packed_output, batch_first=True)
    """,
    "padded": """
        hidden, _ = self.lstm(self.embedding(inputs))
    """,
    "with total_length": """
        x = self.embedding(inputs)
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        output = self.lstm(packed)[0]
        output, out_lengths = nn.utils.rnn.pad_packed_sequence(
            output, batch_first=True, padding_value=0.0, total_length=inputs.size(1)
        )
        hidden = output
    """,
}
ATTENTION = {
    "matrices, nan_to_num": """
        T = hidden.size(1)
        scores = torch.matmul(hidden, hidden.transpose(1, 2)) / math.sqrt(hidden.size(2))
        mask = torch.triu(torch.ones(T, T, dtype=torch.bool, device=hidden.device))
        scores = scores.masked_fill(mask, float("-inf"))
        weights = torch.nan_to_num(F.softmax(scores, dim=-1), nan=0.0)
        context = torch.matmul(weights, hidden)
    """,
    "matrices, first position set to zero": """
        B, T, D = hidden.shape
        scores = torch.bmm(hidden, hidden.permute(0, 2, 1)) / D**0.5
        causal = torch.tril(torch.ones(T, T, device=hidden.device), diagonal=-1)
        scores = scores.masked_fill(causal == 0, -1e9)
        weights = torch.softmax(scores, dim=2)
        context = weights @ hidden
        context = torch.cat([torch.zeros_like(context[:, :1]), context[:, 1:]], dim=1)
    """,
    "einsum": """
        T, D = hidden.size(1), hidden.size(2)
        scores = torch.einsum("bid,bjd->bij", hidden, hidden) / math.sqrt(D)
        i = torch.arange(T, device=hidden.device)[:, None]
        j = torch.arange(T, device=hidden.device)[None, :]
        weights = scores.masked_fill(j >= i, -math.inf).softmax(-1).nan_to_num(0.0)
        context = torch.einsum("bij,bjd->bid", weights, hidden)
    """,
    "two loops": """
        contexts = []
        for b in range(hidden.shape[0]):
            rows = [torch.zeros_like(hidden[b, 0])]
            for t in range(1, hidden.shape[1]):
                scores = hidden[b, :t] @ hidden[b, t] / math.sqrt(hidden.shape[2])
                rows.append(F.softmax(scores, dim=0) @ hidden[b, :t])
            contexts.append(torch.stack(rows))
        return torch.stack(contexts)
    """,
}

COLLATE = {
    "full tensors, filled row by row": """
        B = len(stories)
        lengths = torch.tensor([len(s) - 1 for s in stories], dtype=torch.long)
        T = int(lengths.max())
        inputs = torch.zeros(B, T, dtype=torch.long)
        targets = inputs.new_full((B, T), -100)
        for i, story in enumerate(stories):
            inputs[i, : lengths[i]] = torch.tensor(story[:-1])
            targets[i, : lengths[i]] = torch.tensor(story[1:])
    """,
    "lists": """
        lengths = [len(story) - 1 for story in stories]
        longest = max(lengths)
        x, y = [], []
        for story in stories:
            pad = longest - (len(story) - 1)
            x.append(story[:-1] + [0] * pad)
            y.append(story[1:] + [-100] * pad)
        return torch.LongTensor(x), torch.LongTensor(y), torch.LongTensor(lengths)
    """,
    "pad_sequence of whole stories": """
        inputs = pad_sequence([torch.LongTensor(s[:-1]) for s in stories], True)
        targets = pad_sequence([torch.LongTensor(s[1:]) for s in stories], True, -100)
        lengths = (targets != -100).sum(dim=1)
    """,
}

LOSS = {
    "a sum, batches of stories": """
        criterion = nn.CrossEntropyLoss(ignore_index=-100, reduction="sum")
        total_loss, total_tokens = 0.0, 0
        for start in range(0, len(stories), batch_size):
            inputs, targets, lengths = collate_stories(stories[start : start + batch_size])
            logits = model(inputs, lengths)
            total_loss += criterion(logits.view(-1, logits.size(-1)), targets.view(-1)).item()
            total_tokens += lengths.sum().item()
        return total_loss / total_tokens
    """,
    "a mean weighed, any order": """
        order = torch.randperm(len(stories)).tolist()
        criterion = nn.CrossEntropyLoss()
        losses, counts = [], []
        for first in range(0, len(order), batch_size):
            batch = [stories[i] for i in order[first : first + batch_size]]
            inputs, targets, lengths = collate_stories(batch)
            losses.append(criterion(model(inputs, lengths).transpose(1, 2), targets))
            counts.append((targets != -100).sum())
        mean = (torch.stack(losses) * torch.stack(counts)).sum() / sum(counts)
    """,
    "the minibatches, logits": """
        total, n = 0.0, 0
        for inputs, targets, lengths, state in minibatches:
            logits = model(inputs, lengths, state=state)
            loss = F.cross_entropy(
                logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum"
            )
            total += loss.item()
            n += int((targets != -100).sum())
        mean = total / n
    """,
    "the minibatches, no state": """
        total, n = 0.0, 0
        for inputs, targets, lengths, _ in minibatches:
            logits = model(inputs, lengths)
            mask = targets.ne(-100)
            total -= logits.log_softmax(-1)[mask].gather(1, targets[mask][:, None]).sum().item()
            n += mask.sum().item()
        mean = total / n
    """,
}

STEP = {
    "zero_grad of the model": """
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    """,
    "clipped by hand, gradients dropped afterwards": """
        loss.backward()
        params = [p for p in model.parameters() if p.grad is not None]
        norm = torch.sqrt(sum((p.grad**2).sum() for p in params))
        if norm > 1.0:
            for p in params:
                p.grad.mul_(1.0 / norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    """,
    "parameters of the optimizer": """
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, max_norm=1.0, norm_type=2)
        optimizer.step()
    """,
    "its own criterion": """
        criterion = nn.CrossEntropyLoss(ignore_index=-100)
        optimizer.zero_grad()
        logits = model(inputs, lengths)
        loss = criterion(logits.view(-1, logits.size(-1)), targets.view(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    """,
}

PROBABILITIES = {
    "functional": "probs = F.softmax(logits, dim=-1)",
    "module": "probs = nn.Softmax(dim=0)(logits)",
    "exponentials": """
        exps = torch.exp(logits - torch.max(logits))
        probs = exps / exps.sum()
    """,
}

NEXT_TOKEN = {
    "argmax and multinomial": """
        if greedy:
            token = torch.argmax(logits).item()
        else:
            token = torch.multinomial(F.softmax(logits, -1), 1, generator=generator).item()
    """,
    "no generator": """
        probs = F.softmax(logits, dim=-1)
        if greedy:
            token = torch.argmax(probs, dim=-1)
        else:
            token = torch.multinomial(probs, num_samples=1)
    """,
    "topk and the inverse of the distribution function": """
        if greedy:
            _, best = torch.topk(logits, 1)
            token = best.item()
        else:
            cumulative = torch.softmax(logits, 0).cumsum(0)
            u = torch.rand(1, generator=generator, dtype=cumulative.dtype) * cumulative[-1]
            token = int(torch.searchsorted(cumulative, u, right=True))
    """,
    "Categorical, returned": """
        if greedy:
            return int(logits.argmax(-1))
        return torch.distributions.Categorical(logits=logits).sample().item()
    """,
    "numpy": """
        probs = torch.softmax(logits, dim=0).numpy()
        if greedy:
            token = int(np.argmax(probs))
        else:
            token = int(np.random.choice(len(probs), p=probs / probs.sum()))
    """,
}

PENALTY = {
    "each token, in place": """
        for token in tokens:
            logits[token] -= fpenalty
    """,
    "a Counter": """
        for token, times in Counter(tokens).items():
            logits[token] = logits[token] - fpenalty * times
    """,
    "a dict": """
        counts = {}
        for w in tokens:
            counts[w] = counts.get(w, 0) + 1
        penalty = torch.zeros_like(logits)
        for w, c in counts.items():
            penalty[w] = fpenalty * c
        logits = logits - penalty
    """,
    "unique": """
        if fpenalty != 0:
            ids, counts = torch.unique(torch.tensor(tokens), return_counts=True)
            logits[ids] -= fpenalty * counts
    """,
    "each word of the vocabulary": """
        for w in range(logits.shape[0]):
            logits[w] -= fpenalty * tokens.count(w)
    """,
}

PERPLEXITY = {
    "math.exp": """
        nats = compute_loss(loaded.model, corpus.stories, args.B)
        perplexity = math.exp(nats)
    """,
    "numpy": """
        nats = compute_loss(loaded.model, corpus.stories, batch_size=args.B)
        perplexity = np.exp(nats)
    """,
    "a tensor": """
        nats = compute_loss(loaded.model, corpus.stories, args.B)
        perplexity = torch.exp(torch.tensor(nats, dtype=torch.float64))
    """,
}

ANSWERS = {
    "1": FORWARD, "1a": ATTENTION, "2": COLLATE, "3": LOSS, "4": STEP, "5": PROBABILITIES,
    "6": NEXT_TOKEN, "6a": PENALTY, "7": PERPLEXITY,
}
ITEMS = [*ANSWERS]


def with_block(source: str, item: str, code: str) -> str:
    """The source with this code as the block of an item."""
    begin = re.search(rf"^( *)# YOUR CODE HERE: BEGIN \({item}\)\n", source, re.M)
    end = re.compile(r"^ *# YOUR CODE HERE: END$", re.M).search(source, begin.end())
    block = indent(dedent(code).strip(), begin[1])
    return f"{source[: begin.end()]}{block}\n{source[end.start() :]}"


def load(folder: Path, source: str) -> ModuleType:
    """Write a changed lstlm.py and import it, by a name of its own."""
    path = folder / f"lstlm_{next(MODULES)}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", autouse=True)
def no_pictures():
    """Trainings as where there is no matplotlib: its pictures take longer than they do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib.figure", None)
        yield


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """A function: the program with one block answered."""
    folder = tmp_path_factory.mktemp("answers")

    @functools.cache
    def program(item: str, code: str) -> ModuleType:
        return load(folder, with_block(PROGRAM.read_text(), item, code))

    return program


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Flags that name two small corpora, of stories of 1 to 19 words."""
    folder = tmp_path_factory.mktemp("corpora")
    generator = torch.Generator().manual_seed(0)
    for name, stories in (("train", 28), ("valid", 6)):
        with open(folder / name, "w") as file:
            for words in torch.randint(1, 20, (stories,), generator=generator).tolist():
                squares = torch.rand(words, generator=generator) ** 2  # some words more often
                print(*[f"w{int(20 * square)}" for square in squares], file=file)
    return ["-train_corpus", str(folder / "train"), "-valid_corpus", str(folder / "valid")]


def losses(program: ModuleType, corpora: list[str], folder: Path, *flags: str) -> list[float]:
    """The train and valid losses of a short training."""
    model = folder / f"trained{''.join(flags)}.pt"
    assert program.main(["-train", *corpora, *SMALL, *TRAINING, *flags, "-model", str(model)]) == 0
    lines = model.with_suffix(".log.jsonl").read_text().splitlines()
    looks = [json.loads(line) for line in lines[1:]]
    assert [look["step"] for look in looks] == [7, 14, 21]
    return [look[name] for look in looks for name in ("train_nats", "valid_nats")]


@pytest.fixture(scope="module")
def originals(tmp_path_factory, corpora):
    """By flags: the losses of the original and the file of its model."""
    found = {}
    for flags in ((), ("-a",), ("-a", "-bptt", "8")):
        folder = tmp_path_factory.mktemp("original")
        told = losses(lstlm, corpora, folder, *flags)
        found[flags] = told, next(folder.glob("trained*.pt"))
    return found


def make_model(program: ModuleType, attention: str | None = None, dtype=torch.float64) -> nn.Module:
    """A small model with random weights, of which some word vectors are trained."""
    torch.manual_seed(1)
    embeddings = torch.randn(V, 6)
    embeddings[10:15] = 0
    return program.LSTMLM(embeddings, 8, 2, attention).to(dtype)


def make_stories(*lengths: int) -> list[list[int]]:
    """Random stories `<bos> ... <eos>` with so many words."""
    generator = torch.Generator().manual_seed(0)
    return [[1, *torch.randint(3, V, (n,), generator=generator).tolist(), 2] for n in lengths]


STORIES = make_stories(5, 1, 9, 9, 3, 2)


def reference_attention(hidden: Tensor) -> Tensor:
    """Dot-product attention for the states (T, N/2) of one story, position by position."""
    contexts = [torch.zeros_like(hidden[0])]
    for i in range(1, len(hidden)):
        scores = [hidden[i].dot(hidden[j]) / math.sqrt(hidden.shape[1]) for j in range(i)]
        weights = torch.stack(scores).exp()
        terms = [weight / weights.sum() * hidden[j] for j, weight in enumerate(weights)]
        contexts.append(sum(terms))
    return torch.stack(contexts)


def reference_logits(model: nn.Module, ids: list[int]) -> Tensor:
    """Logits (T, V) after each of the ids of one story, by torch's own LSTM."""
    vectors = model.embedding(torch.tensor(ids))
    size = model.lstm.weight_hh_l0.shape[1]
    lstm = nn.LSTM(vectors.shape[1], size, num_layers=2, dtype=vectors.dtype)
    weights = dict(model.lstm.named_parameters())
    hidden, _ = torch.func.functional_call(lstm, weights, (vectors,))
    if model.attention:
        hidden = torch.cat([hidden, reference_attention(hidden)], 1)
    return hidden @ model.output.weight.t() + model.output.bias


def reference_loss(model: nn.Module, stories: list[list[int]]) -> Tensor:
    """The mean nats per target token."""
    nats = []
    for story in stories:
        chances = reference_logits(model, story[:-1]).softmax(1)
        nats += [-chances[position, token].log() for position, token in enumerate(story[1:])]
    return sum(nats) / len(nats)


def answers(item: str) -> pytest.MarkDecorator:
    """Run a test with each answer to an item."""
    return pytest.mark.parametrize("code", ANSWERS[item].values(), ids=ANSWERS[item])


def close(ours, theirs, **how) -> None:
    """Assert that tensors are equal, but for the last digits of float64."""
    torch.testing.assert_close(ours, theirs, **{"rtol": 1e-9, "atol": 1e-9, **how})


def check_forward(program: ModuleType, attention: str | None) -> None:
    """Logits of a minibatch, its loss and the gradients are those of one story after the other."""
    model = make_model(program, attention)
    inputs, targets, lengths = program.collate_stories(STORIES)
    logits = model(inputs, lengths)
    assert logits.shape == (6, 10, V)
    for row, story in zip(logits, STORIES, strict=True):
        close(row[: len(story) - 1], reference_logits(model, story[:-1]))
    ours, theirs = model(inputs, lengths, targets), reference_loss(model, STORIES)
    close(ours, theirs)
    trained = list(model.parameters())
    close(torch.autograd.grad(ours, trained), torch.autograd.grad(theirs, trained))


@answers("1")
def test_1_forward_is_torchs_lstm_of_each_story(answered, code, attention):
    check_forward(answered("1", code), attention)


@answers("1a")
def test_1a_attention_looks_back_at_each_earlier_state(answered, code):
    program = answered("1a", code)
    check_forward(program, "dot")
    model = make_model(program, "dot")
    hidden = torch.randn(3, 7, 4, dtype=torch.float64)
    close(model.attend(hidden), torch.stack([reference_attention(row) for row in hidden]))
    assert model.attend(hidden[:, :1]).tolist() == [[[0.0] * 4]] * 3


@answers("2")
def test_2_a_minibatch_by_hand(answered, code):
    collate = answered("2", code).collate_stories
    inputs, targets, lengths = collate([[1, 7, 2], [1, 5, 6, 4, 2], [1, 2]])
    assert inputs.tolist() == [[1, 7, 0, 0], [1, 5, 6, 4], [1, 0, 0, 0]]
    assert targets.tolist() == [[7, 2, -100, -100], [5, 6, 4, 2], [2, -100, -100, -100]]
    assert lengths.tolist() == [2, 4, 1]
    assert {tensor.dtype for tensor in (inputs, targets, lengths)} == {torch.int64}


@answers("3")
def test_3_the_loss_is_a_mean_over_tokens(answered, code, attention):
    program = answered("3", code)
    model = make_model(program, attention)
    expected = reference_loss(model, STORIES).item()
    for mode in (True, False):
        model.train(mode)
        for batch_size in (1, 4, 10):
            loss = program.compute_loss(model, STORIES, batch_size)
            assert isinstance(loss, float)
            assert loss == pytest.approx(expected, rel=1e-9)
        assert model.training == mode


class Steps(contextlib.nullcontext):
    """A run of gradient descent on two minibatches, for `train`."""

    def __init__(self, program: ModuleType, model: nn.Module):
        super().__init__(self)
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        self.batches = [program.collate_stories(part) for part in (STORIES[:3], STORIES[3:])]
        self.losses = []

    def segments(self):
        return ((*batch, None, 1.0) for batch in self.batches)

    def add(self, loss: Tensor) -> None:
        self.losses.append(loss.item())

    def tell(self) -> None:
        pass

    finish = tell


@answers("4")
@pytest.mark.parametrize("large", [True, False], ids=["large gradient", "small gradient"])
def test_4_two_steps_of_gradient_descent(answered, code, corpora, tmp_path, large):
    program = answered("4", code)
    steps, model = Steps(program, make_model(program)), make_model(program)
    for each in (steps.model, model):
        each.output.weight.data *= 50 if large else 0.1
    vocabulary = SimpleNamespace(
        config=SimpleNamespace(cased=False), token2idx=dict.fromkeys(lstlm.SPECIAL, 0), bpe=None
    )
    flags = ["-train", *corpora, *SMALL, "-model", str(tmp_path / "none.pt")]
    program.train(program.parse_args(flags), lambda args: vocabulary, lambda *_: steps)
    for stories, told in zip((STORIES[:3], STORIES[3:]), steps.losses, strict=True):
        loss = reference_loss(model, stories)
        assert told == pytest.approx(loss.item(), rel=1e-5)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
        assert (norm > 2.0) if large else (norm < 0.9)
        for weight, gradient in zip(model.parameters(), gradients, strict=True):
            weight.data -= gradient / max(norm, 1.0)
    close(list(steps.model.parameters()), list(model.parameters()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("item", "name"), [(i, n) for i in ITEMS[:5] for n in ANSWERS[i]])
def test_training_goes_as_with_ours(answered, originals, corpora, tmp_path, item, name):
    program = answered(item, ANSWERS[item][name])
    for flags in {"1": [(), ("-a",)], "1a": [("-a",)]}.get(item, [()]):
        ours = losses(program, corpora, tmp_path, *flags)
        assert ours == pytest.approx(originals[flags][0], abs=1e-5)


@pytest.mark.parametrize(("item", "name"), [(i, n) for i in ("1", "1a") for n in ANSWERS[i]])
def test_long_stories_carry_their_state_on(answered, originals, corpora, tmp_path, item, name):
    program = answered(item, ANSWERS[item][name])
    flags = ("-a", "-bptt", "8")
    ours = losses(program, corpora, tmp_path, *flags)
    assert ours == pytest.approx(originals[flags][0], abs=1e-5)


@pytest.fixture
def told(capsys):
    """A function: the records that the program prints on the command line."""

    def call(program: ModuleType, mode: str, path: Path, *flags: str) -> list[dict]:
        capsys.readouterr()
        assert program.main([mode, "-model", str(path), *flags, "-json", "-seed", "0"]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return call


def check_same(ours: list[dict], theirs: list[dict]) -> None:
    """Records are equal, their probabilities about so."""
    for our, their in zip(ours, theirs, strict=True):
        assert our.pop("probs") == pytest.approx(their.pop("probs"), abs=1e-6)
        assert our == their


def next_probabilities(model: nn.Module, ids: list[int], fpenalty: float = 0.0) -> Tensor:
    """The probabilities (V,) of the next token, which is neither <unk> nor <bos>."""
    with torch.no_grad():
        logits = reference_logits(model, ids)[-1].double()
    for token in range(V):
        logits[token] -= fpenalty * sum(token == i for i in ids)
    logits[:2] = -math.inf
    return logits.exp() / logits.exp().sum()


@answers("5")
def test_5_use_shows_the_most_probable(answered, originals, told, code):
    path = originals[()][1]
    (record,) = told(answered("5", code), "-use", path, "-text", TEXT)
    language_model = lstlm.load(path)
    probs = next_probabilities(language_model.model, language_model.ids(TEXT.split()))
    best = probs.topk(10)
    assert record["probs"] == pytest.approx(best.values.tolist(), abs=1e-6)
    assert record["tokens"] == [language_model.loaded.words[i] for i in best.indices]


@answers("6")
def test_6_the_next_token(answered, originals, told, code):
    program = answered("6", code)
    model = make_model(program, dtype=torch.float32)
    for story in STORIES:
        probs = next_probabilities(model, story[:-1])
        token = program.generate_next_token(model, story[:-1], greedy=True)
        assert isinstance(token, int)
        assert token == probs.argmax()
    torch.manual_seed(0)
    np.random.seed(0)
    state, generator = program.State(), torch.Generator().manual_seed(0)
    drawn = torch.zeros(V)
    for _ in range(1000):
        options = {"generator": generator, "state": state}
        drawn[program.generate_next_token(model, STORIES[-1][:-1], **options)] += 1
    expected = 1000 * probs
    assert not drawn[:2].any()
    assert float(((drawn - expected) ** 2 / expected)[2:].sum()) < 45  # chi-square: 99.9 % of draws
    path = originals[()][1]
    flags = ["-text", TEXT, "-greedy", "-max_tokens", "20"]
    check_same(told(program, "-prompt", path, *flags), told(lstlm, "-prompt", path, *flags))


@answers("6a")
def test_6a_the_penalty_is_equation_2(answered, originals, told, code):
    program = answered("6a", code)
    model = make_model(program, dtype=torch.float32)
    ids = [1, 5, 7, 5, 5]
    for fpenalty in (-2.0, 0.0, 0.7, 2.0):
        state = program.State()
        for _ in range(2):  # what is kept has no penalty
            settings = program.Sampling(fpenalty=fpenalty)
            logits = program.next_token_logits(model, ids, settings, state)
            close(logits.softmax(0), next_probabilities(model, ids, fpenalty), atol=1e-6)
    path = originals[()][1]
    flags = ["-text", TEXT, "-fpenalty", "0.7", "-samples", "2"]
    check_same(told(program, "-prompt", path, *flags), told(lstlm, "-prompt", path, *flags))


@answers("7")
def test_7_perplexity(answered, originals, told, corpora, code):
    path = originals[()][1]
    program = answered("7", code)
    records = told(program, "-evaluate", path, *corpora, "-precision", "fp32")
    language_model = lstlm.load(path)
    for record, corpus in zip(records, corpora[:0:-2], strict=True):  # valid, then train
        stories = lstlm.tokenize_corpus(corpus, language_model.loaded.token2idx)
        with torch.no_grad():
            nats = reference_loss(language_model.model, stories).item()
        assert record["ppl"] == pytest.approx(math.exp(nats), rel=1e-5)
        assert record["nats"] == pytest.approx(nats, rel=1e-5)


@pytest.mark.parametrize("item", ITEMS)
def test_an_empty_block_fails_when_it_is_used(answered, originals, corpora, tmp_path, item, capsys):
    program = answered(item, f'raise NotImplementedError("item {item}")')
    with pytest.raises(SystemExit, match="^0$"):
        program.main(["-h"])
    assert "-fpenalty" in capsys.readouterr().out
    trained = ["-model", str(originals[()][1]), "-text", TEXT]
    train = ["-train", *corpora, *SMALL, *TRAINING, "-model", str(tmp_path / "none.pt")]
    use = {
        "1a": [*train, "-a"], "5": ["-use", *trained], "6": ["-prompt", *trained],
        "6a": ["-prompt", *trained], "7": ["-evaluate", *trained[:2], *corpora],
    }
    with pytest.raises(NotImplementedError, match=f"^item {item}$"):
        program.main(use.get(item, train))
    if item == "1a":
        assert losses(program, corpora, tmp_path) == originals[()][0]


def test_with_all_blocks_empty_it_is_a_skeleton(tmp_path):
    source = PROGRAM.read_text()
    for item in ITEMS:
        source = with_block(source, item, f'raise NotImplementedError("item {item}")')
    (tmp_path / "lstlm.py").write_text(source)
    assert len(re.findall("YOUR CODE HERE: BEGIN", source)) == len(ITEMS)
    done = subprocess.run(
        [sys.executable, tmp_path / "lstlm.py", "-h"],
        env={**os.environ, "PYTHONPATH": str(PROGRAM.parent), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "-fpenalty" in done.stdout
