"""The first assignment: what calls a student's functions, each by itself.

A driver gets the student's module `program` and what a case gives, and returns what came, by name.
"""

import contextlib
import io
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
from torch import Tensor

from checks import stand_ins
from checks.running import import_file

FLAGS = ("-H", "1", "-N", "4", "-EDim", "4", "-VSize", "20", "-seed", "0", "-device", "cpu")


def tensor(array) -> Tensor:
    """An array as a tensor of its own."""
    return torch.tensor(array)


def make_model(program: ModuleType, given: dict, **switches) -> torch.nn.Module:
    """The student's LSTMLM with the weights that a case gives."""
    weights = {name: tensor(array) for name, array in given["weights"].items()}
    vectors = weights["embedding.weight"].float()
    model = program.LSTMLM(vectors, given["N"], given["H"], **switches).double()
    model.load_state_dict(weights, strict=False)
    return model.eval()


# ---- Item 1


def forward(program: ModuleType, given: dict) -> dict:
    """The logits of a minibatch, and whether another model with the same weights gives them."""
    batch = tensor(given["inputs"]), tensor(given["lengths"])
    with torch.no_grad():
        logits, again = (make_model(program, given)(*batch) for _ in range(2))
    same = logits.shape == again.shape and bool(torch.equal(logits, again))
    return {"logits": logits, "same again": int(same)}


def forward_again(program: ModuleType, given: dict) -> dict:
    """The logits of a minibatch after another one."""
    model = make_model(program, given)
    with torch.no_grad():
        model(tensor(given["before"]), tensor(given["before_lengths"]))
        return {"logits": model(tensor(given["inputs"]), tensor(given["lengths"]))}


def forward_segments(program: ModuleType, given: dict) -> dict:
    """The logits of stories of one length, computed in two segments with a state carried over."""
    model = make_model(program, given)
    inputs = tensor(given["inputs"])
    cut = given["cut"]
    state = program.State()
    with torch.no_grad():
        parts = [
            model(part, torch.full((len(part),), part.shape[1]), state=state)
            for part in (inputs[:, :cut], inputs[:, cut:])
        ]
    return {"logits": torch.cat(parts, 1)}


def forward_gradient(program: ModuleType, given: dict) -> dict:
    """How fast a weighted sum of the logits changes with the weights, in one direction."""
    model = make_model(program, given)
    logits = model(tensor(given["inputs"]), tensor(given["lengths"]))
    (logits * tensor(given["shares"])).sum().backward()
    slope = 0.0
    for name, weight in model.named_parameters():
        if weight.grad is not None and name in given["direction"]:
            slope += float((weight.grad * tensor(given["direction"][name])).sum())
    return {"slope": slope}


# ---- Item 1a


def attend(program: ModuleType, given: dict) -> dict:
    """The contexts of hidden states (B, T, D)."""
    hidden = tensor(given["hidden"])
    return {"context": attention_model(program, hidden).attend(hidden)}


def attend_padded(program: ModuleType, given: dict) -> dict:
    """The contexts of a story by itself, and with two kinds of padding behind it."""
    story = tensor(given["story"])  # (1, T, D)
    contexts = {}
    for name in ("none", "one", "other"):
        hidden = story
        if name != "none":
            padding = tensor(given[name])  # (1, P, D)
            hidden = torch.cat([story, padding], 1)
        context = attention_model(program, hidden).attend(hidden)
        contexts[name] = context[:, : story.shape[1]]
    return contexts


def attention_model(program: ModuleType, hidden: Tensor) -> torch.nn.Module:
    """A model with attention whose states have the size of `hidden`."""
    size = hidden.shape[-1]
    return program.LSTMLM(torch.randn(8, 4), 2 * size, 1, "dot").double().eval()


# ---- Items 2 to 4


def collate(program: ModuleType, given: dict) -> dict:
    """The tensors of a minibatch."""
    stories = [list(map(int, story)) for story in given["stories"]]
    inputs, targets, lengths = program.collate_stories(stories)
    found = {"inputs": inputs, "targets": targets, "lengths": lengths}
    return {name: rows for name, rows in found.items() if isinstance(rows, Tensor)}


def loss(program: ModuleType, given: dict) -> dict:
    """The loss of stories under a model that sees one token."""
    stories = [list(map(int, story)) for story in given["stories"]]
    rows = given["rows"]
    program.collate_stories = stand_ins.Collate(
        stories, rows["inputs"], rows["targets"], rows["lengths"]
    )
    model = stand_ins.Bigram(given["table"], given["bias"], given["carried"])
    nats = program.compute_loss(model, stories, given["batch_size"])
    return {"nats": float(nats)}


def train(program: ModuleType, given: dict) -> dict:
    """The weights of a model that sees one token after each of some steps."""
    Path("corpus").write_text("a b c\nb c a\n")
    model = stand_ins.Bigram(given["table"], given["bias"], gain=given["gain"])
    steps = stand_ins.Steps(model, given["batches"], given["rate"])
    vocabulary = SimpleNamespace(
        config=SimpleNamespace(cased=False), token2idx=dict.fromkeys(program.SPECIAL, 0), bpe=None
    )
    corpora = ["-train_corpus", "corpus", "-valid_corpus", "corpus"]
    args = program.parse_args(["-train", *corpora, *FLAGS, "-model", "none.pt"])
    program.train(args, lambda args: vocabulary, lambda *_: steps)
    return {"weights": torch.stack(steps.after)}  # (steps, V + 1, V)


# ---- Items 5 to 7


def on_command_line(program: ModuleType, *flags: str) -> list[dict]:
    """The records that a mode prints. RuntimeError with its message if it fails."""
    complaint = io.StringIO()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(complaint):
        status = program.main([*flags, "-json", "-seed", "0", "-device", "cpu"])
    if status:
        raise RuntimeError(complaint.getvalue().strip().splitlines()[-1])
    return [json.loads(line) for line in printed.getvalue().splitlines() if line[:1] == "{"]


def import_beside(program: ModuleType, name: str) -> ModuleType:
    """Another file of the student's, beside lstlm.py. NotImplementedError if there is none."""
    path = Path(program.__file__).with_name(f"{name}.py")
    if not path.is_file():
        raise NotImplementedError(f"item ex1: there is no {path.name}")
    return import_file(path, name)


def write_model(given: dict) -> str:
    """Write the model file of a case; returns its name."""
    Path("small.pt").write_bytes(given["model"].tobytes())
    return "small.pt"


def use(program: ModuleType, given: dict) -> dict:
    """The probabilities that -use shows for these logits, by falling probability, and their ids."""
    logits = tensor(given["logits"])
    program.next_token_logits = lambda *_, **__: logits.clone()
    program.generate_next_token = lambda *_, **__: 3
    path = write_model(given)
    (record,) = on_command_line(program, "-use", "-model", path, "-text", given["text"])
    words = given["words"]
    return {"probs": record["probs"], "ids": [words.index(token) for token in record["tokens"]]}


def next_tokens(program: ModuleType, given: dict) -> dict:
    """Tokens chosen by each row of logits, greedily or drawn `draws` times."""
    rows = tensor(given["logits"])  # (rows, V)
    generator = torch.Generator().manual_seed(given["seed"])
    torch.manual_seed(given["seed"])
    tokens = []
    for row in rows:
        program.next_token_logits = lambda *_, **__: row.clone()  # noqa: B023 - used at once
        tokens += [
            program.generate_next_token(None, [1, 5], greedy=given["greedy"], generator=generator)
            for _ in range(given["draws"])
        ]
    return {"tokens": tokens}


def penalised(program: ModuleType, given: dict) -> dict:
    """The logits after tokens s, with the frequency penalty and other settings."""
    model = stand_ins.Bigram(given["table"], given["bias"]).eval()
    tokens = list(map(int, given["tokens"]))
    sampling = program.Sampling(fpenalty=given["fpenalty"], **given["settings"])
    state = program.State() if given["state"] else None
    with torch.no_grad():
        for _ in range(2 if given["state"] else 1):  # what a state keeps has no penalty
            logits = program.next_token_logits(model, tokens, sampling, state)
    return {"logits": logits}


def evaluate(program: ModuleType, given: dict) -> dict:
    """Nats and perplexity that -evaluate prints for each corpus."""
    nats = {tuple(map(int, story)): each for story, each in given["nats"]}

    def known_loss(model, stories, *_, **__) -> float:
        """The mean per token, of what is known of each story."""
        counts = [len(story) - 1 for story in stories]
        total = sum(nats[tuple(s)] * n for s, n in zip(stories, counts, strict=True))
        return total / sum(counts)

    program.compute_loss = known_loss
    names = []
    for name, text in given["corpora"].items():
        Path(name).write_text(text)
        names.append(name)
    path = write_model(given)
    flags = ("-evaluate", "-model", path, "-test_corpus", *names, "-precision", "fp32", "-B", "4")
    records = on_command_line(program, *flags)
    return {key: [record[key] for record in records] for key in ("nats", "ppl")}


DRIVERS = {
    each.__name__: each for each in (
        forward, forward_again, forward_segments, forward_gradient, attend, attend_padded, collate,
        loss, train, use, next_tokens, penalised, evaluate,
    )
}
