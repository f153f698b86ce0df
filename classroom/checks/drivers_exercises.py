"""The bonus exercises of the first assignment: the flags of each, and the property it must have."""

from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from checks.drivers_hw04 import import_beside, on_command_line, tensor

V, EDIM, N = 12, 6, 8
SMALL = ("-H", "1", "-N", "6", "-EDim", "4", "-B", "4", "-E", "1", "-precision", "fp32")


def parsed(program: ModuleType, given: dict) -> list:
    """The values of the flags of a case, as the program parses them; none may be refused."""
    args = program.parse_args(["-train", *given["flags"]])
    return [float(getattr(args, name)) for name in given["names"]]


def make(program: ModuleType, attention=None, **switches) -> nn.Module:
    """A small model with these switches."""
    torch.manual_seed(0)
    vectors = torch.randn(V, EDIM)
    return program.LSTMLM(vectors, N, 1, attention, **switches).double().eval()


def logits(model: nn.Module, ids: list[int]) -> Tensor:
    """The logits (T, V) of one story."""
    with torch.no_grad():
        return model(torch.tensor([ids]), torch.tensor([len(ids)]))[0]


def size(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def ex1(program: ModuleType, given: dict) -> dict:
    """A feed-forward model trained with an LSTM model's vectors: its perplexity, and V."""
    fflm = import_beside(program, "fflm")
    corpus, lstm = write_corpus(given), "lstm.pt"
    run_quietly(program, "-train", *SMALL, *corpus, "-model", lstm, "-VSize", "40")
    small = ("-K", "2", "-H", "1", "-N", "5", "-E", "1", "-B", "4")
    run_quietly(fflm, "-train", *small, *corpus, "-lstm", lstm, "-model", "fflm.pt")
    (record,) = on_command_line(fflm, "-evaluate", "-model", "fflm.pt", "-test_corpus", "corpus")
    return {"better than chance": int(1 < record["ppl"] < given["V"])}


def ex2(program: ModuleType, given: dict) -> dict:
    """Dropout changes what is computed in training, and not in evaluation."""
    model = make(program, dropout=0.5)
    ids = [1, 4, 5, 6, 7]
    same = torch.equal(logits(model, ids), logits(model, ids))
    model.train()
    differs = not torch.equal(logits(model, ids), logits(model, ids))
    return {"flags": parsed(program, given), "same": int(same), "differs": int(differs)}


def ex3(program: ModuleType, given: dict) -> dict:
    """Vectors that were given get a gradient with fine-tuning, and none without."""
    found = []
    for finetune in (False, True):
        model = make(program, finetune=finetune)
        model(torch.tensor([[1, 4, 5]]), torch.tensor([3])).sum().backward()
        gradient = model.embedding.weight.grad
        found.append(int(gradient is not None and bool(gradient[4].any())))
    return {"flags": parsed(program, given), "frozen": found[0], "fine-tuned": found[1]}


def ex4(program: ModuleType, given: dict) -> dict:
    """Attention of other kinds: contexts of hidden states, and parameters of its own."""
    hidden = tensor(given["hidden"])
    model = make_attention(program, hidden.shape[-1], given["kind"])
    extra = size(model) > size(make_attention(program, hidden.shape[-1], "dot"))
    with torch.no_grad():
        context = model.attend(hidden)
    return {"context": context, "parameters": int(extra)}


def make_attention(program: ModuleType, state: int, kind: str) -> nn.Module:
    """A model with attention over states of this size."""
    torch.manual_seed(0)
    return program.LSTMLM(torch.randn(V, EDIM), 2 * state, 1, kind).double().eval()


def ex5(program: ModuleType, given: dict) -> dict:
    """A model of word pieces has at most VSize of them, and knows each new word."""
    corpus = write_corpus(given)
    flags = ("-tokenizer", "bpe", "-VSize", "270")
    run_quietly(program, "-train", *SMALL, *corpus, *flags, "-model", "bpe.pt")
    Path("new").write_text(given["new"])
    (record,) = on_command_line(program, "-evaluate", "-model", "bpe.pt", "-test_corpus", "new")
    return {"unknown": record["unk_share"]}


def ex6(program: ModuleType, given: dict) -> dict:
    """How many gates each kind of cell has."""
    gates = [make(program, cell=cell).lstm.weight_hh_l0.shape[0] // N for cell in given["cells"]]
    flags = [program.parse_args(["-train", "-cell", cell]).cell for cell in given["cells"]]
    return {"gates": gates, "flags": [given["cells"].index(cell) for cell in flags]}


def ex7(program: ModuleType, given: dict) -> dict:
    """Whether the first position's logits depend on the last token, with and without."""
    found = []
    for both in (False, True):
        model = make(program, bidirectional=both)
        one, other = logits(model, [1, 4, 5, 6]), logits(model, [1, 4, 5, 9])
        found.append(int(not torch.equal(one[0], other[0])))
    return {"flags": parsed(program, given), "without": found[0], "with": found[1]}


def ex8(program: ModuleType, given: dict) -> dict:
    """What is added to the word vectors before the LSTM."""
    model = make(program, positions=True)
    seen = []
    model.lstm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    ids = [1, 4, 5, 5, 5, 9]
    logits(model, ids)
    vectors = seen[0]
    if isinstance(vectors, PackedSequence):
        vectors, _ = pad_packed_sequence(vectors, batch_first=True)
    added = vectors[0] - model.embedding.weight[ids]
    return {"flags": parsed(program, given), "added": added}


def ex9(program: ModuleType, given: dict) -> dict:
    """Whether the output layer is the word vectors, and how many biases it trains."""
    model = make(program, tie=True)
    shared = model.output.weight.data_ptr() == model.embedding.weight.data_ptr()
    biases = [p for name, p in model.output.named_parameters() if "bias" in name]
    return {"flags": parsed(program, given), "shared": int(shared), "biases": len(biases)}


def write_corpus(given: dict) -> tuple[str, ...]:
    """Write a small corpus; returns the flags that name it."""
    Path("corpus").write_text(given["corpus"])
    return ("-train_corpus", "corpus", "-valid_corpus", "corpus")


def run_quietly(program: ModuleType, *flags: str) -> None:
    """A run whose records are not wanted."""
    on_command_line(program, *flags)


DRIVERS = {each.__name__: each for each in (ex1, ex2, ex3, ex4, ex5, ex6, ex7, ex8, ex9)}
