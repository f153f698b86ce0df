"""Checkpoints: a model with all that is needed to use it, and how it was trained, in one file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from backstage.attention import ATTENTION
from backstage.bpe import TOKENIZERS, WordPieces
from backstage.corpora import SPECIAL
from backstage.dropped_rnn import CELLS
from backstage.errors import UserError
from backstage.files import atomic_write, side_file
from backstage.flags import MOST_LAYERS
from backstage.names import by_word, check_names
from backstage.sealed import VERSION, check_parts, read_sealed, seal, unseal
from backstage.words import NOBODY, printable

# What a checkpoint holds beside its format and version.
MODEL_PARTS = {"config": dict, "words": list, "facts": dict, "pieces": str, "weights": dict}
HALVES = (torch.float16, torch.bfloat16)  # in which weights may be stored too


@dataclass(frozen=True)
class Config:
    """The hyper-parameters that shape a model, named as on the command line."""

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

    def build(self, model_class, embeddings: Tensor, precision=torch.float32) -> nn.Module:
        """A model of this shape, its weights drawn at random."""
        names = ("dropout", "locked", "cell", "finetune", "tie", "positions", "bidirectional")
        switches = {name: getattr(self, name) for name in names}
        return model_class(embeddings, self.N, self.H, self.a, precision=precision, **switches)


class Loaded(NamedTuple):
    """A model read from a checkpoint, with what is needed to use it."""

    model: nn.Module
    config: Config
    words: list[str]  # id -> token
    token2idx: dict[str, int]
    facts: dict  # how it was trained
    bpe: WordPieces | None
    names: Mapping[str, str] = NOBODY  # words that are written with a capital, and how

    def shown(self, token: str) -> str:
        """How a token is shown to a person; a word piece with a bar for the space before it."""
        if self.bpe is None:
            return printable(token)
        return printable(self.bpe.spell([token]).replace(" ", "▁"))

    def join(self, tokens: Iterable[str]) -> Iterable[str]:
        """Tokens as the corpora have them, made of word pieces where the model has those."""
        if self.bpe is None:
            return tokens
        return self.bpe.join(tokens)


def save_model(
    path: Path, model: nn.Module, config, words: list[str], facts: dict, bpe: WordPieces | None,
    names: Sequence[str] = (),
) -> None:
    """Write a checkpoint, a safetensors file: tensors, and numbers and strings as JSON."""
    content = {
        "format": model.KIND, "version": VERSION, "config": asdict(config), "words": words,
        "facts": facts, "pieces": bpe.text if bpe else "", "names": [*names],
        "weights": model.state_dict(),
    }
    atomic_write(path, lambda file: file.write(seal(content)))


def load_checkpoint(
    path: Path, model_class, precision: torch.dtype = torch.float32, asked: dict | None = None
) -> Loaded:
    """Read a checkpoint of `model_class`, onto the CPU.

    Raises UserError if it is none of ours, damaged, or not what the flags `asked` for say.
    """
    missing = (
        "no such model; train one with -train, or name another with -model "
        "(build/demo.pt after make demo)"
    )
    if side_file(path, ".state.pt").exists():
        how = "go on with it: -train, its flags, and -resume"
        missing = f"no model yet, but a stopped run; {how}"
    content = read_sealed(
        path, model_class.KIND, missing, lambda content: check_checkpoint(content, model_class),
        instead_of(path),
    )
    config = Config(**content["config"])
    check_asked(path, config, asked or {})
    words = content["words"]
    model = shaped(config, model_class, len(words), precision)
    weights = content["weights"]
    learned = weights.pop("learned")  # a mask
    weights = {name: tensor.float() for name, tensor in weights.items()}
    model.load_state_dict({**weights, "learned": learned}, assign=True)
    if config.tie:  # which are two parameters now
        model.output.weight = model.embedding.weight
    token2idx = {word: i for i, word in enumerate(words)}
    bpe = WordPieces(content["pieces"]) if config.tokenizer == "bpe" else None
    names = by_word(content.get("names", []))  # which older files do not have
    return Loaded(model.eval(), config, words, token2idx, content["facts"], bpe, names)


def shaped(config: Config, model_class, V: int, precision=torch.float32) -> nn.Module:
    """A model whose tensors have a shape and no numbers, so that it costs nothing to make."""
    with torch.device("meta"):
        return config.build(model_class, torch.empty(V, config.EDim), precision)


def instead_of(model: Path) -> str:
    """What a person can do whose model is damaged."""
    earlier = side_file(model, ".prev.pt")
    if earlier.exists():
        return f"the model before it is {earlier}; name that with -model, or train again"
    return "name another with -model, or train again"


def is_finished(model: Path) -> bool:
    """Whether a model is not one that a training saved which has not come to its end."""
    try:
        return unseal(model.read_bytes())["facts"].get("finished", True) is not False
    except Exception:  # damaged, or none of ours
        return True


def mark_finished(model: Path) -> None:
    """Have a model say that its training has come to its end."""
    content = unseal(model.read_bytes())
    content["facts"]["finished"] = True
    atomic_write(model, lambda file: file.write(seal(content)))


def check_asked(path: Path, config, asked: dict) -> None:
    """Raise UserError if a flag asks for another model than the one in the file."""
    for name, value in asked.items():
        if value != getattr(config, name):
            has = f"the model {path} has {getattr(config, name)}"
            raise UserError(f"-{name} {value}: {has}; leave the flag out, or train again")


def check_checkpoint(content: dict, model_class) -> None:
    """Raise ValueError or the like if any part of a checkpoint cannot be right."""
    check_parts(content, MODEL_PARTS)
    check_config(content["config"])
    check_facts(content["facts"])
    config = Config(**content["config"])
    bpe = WordPieces(content["pieces"]) if config.tokenizer == "bpe" else None
    check_words(content["words"], bpe)
    check_names(content.get("names", []), content["words"], bpe)
    check_weights(content["weights"], config, len(content["words"]), model_class)


def check_config(config: dict) -> None:
    """Each hyper-parameter is of its type, and one that the program knows."""
    kinds = Config.__annotations__
    wrong = [name for name, kind in kinds.items() if not isinstance(config[name], kind)]
    if wrong:
        raise ValueError(f"a wrong value of {wrong}")
    attention = config["a"] is None or config["a"] in ATTENTION
    known = attention and config["cell"] in CELLS and config["tokenizer"] in TOKENIZERS
    if not 0 < config["H"] <= MOST_LAYERS:
        raise ValueError("its layers do not match its weights")
    if not known or not 0 <= config["dropout"] < 1:
        raise ValueError("a wrong value of a, cell, tokenizer or dropout")


def check_facts(facts: dict) -> None:
    """What the programs read of how a model was trained is of its type."""
    texts = ("train_corpus", "train_digest", "valid_digest", "folder")
    wrong = [name for name in texts if type(facts[name]) is not str]
    if wrong or type(facts["sample"]) is not bool:
        raise ValueError(f"a wrong value of {wrong or 'sample'}")


def check_words(words: list[str], bpe: WordPieces | None) -> None:
    """The words are a vocabulary: different strings, first the special ones."""
    strings = all(type(word) is str for word in words)
    if not strings or tuple(words[:3]) != SPECIAL or len({*words}) != len(words):
        raise ValueError("its words are no vocabulary")
    if bpe and not {*words[3:]} <= {*bpe.vocabulary()}:
        raise ValueError("its words are not its pieces")


def check_weights(weights: dict[str, Tensor], config: Config, V: int, model_class) -> None:
    """The weights are finite numbers, in the shapes that a model of this configuration has."""
    layers = sum("weight_ih_l" in name for name in weights)
    if config.H * (1 + config.bidirectional) != layers:  # before that many are made
        raise ValueError("its layers do not match its weights")
    model = shaped(config, model_class, V)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if {name: tensor.shape for name, tensor in weights.items()} != shapes:
        raise ValueError("its weights do not match its sizes")
    check_numbers(weights)


def check_numbers(weights: dict[str, Tensor]) -> None:
    """Weights are finite floating-point numbers; `learned` is a mask."""
    for name, tensor in weights.items():
        kinds = (torch.bool,) if name == "learned" else (torch.float32, *HALVES)
        if tensor.dtype not in kinds:
            raise ValueError(f"{name} is of type {tensor.dtype}")
        if not tensor.isfinite().all():
            raise ValueError(f"{name} is not all finite numbers")
