"""Beginning a decoder with the weights of a language model."""

from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import UserError

# Of the whole model, there and here.
OUTER = {"target_embedding": "target_embedding", "final_linear": "final_linear",
         "norm": "decoder_norm"}  # fmt: skip
INNER = ("self_attn", "ffn")  # of each layer


def copy_decoder(path: str | Path, model: nn.Module, num_heads: int) -> dict[str, list]:
    """Copy from a checkpoint of a DecoderOnlyTransformer what the model's decoder has too.

    The embedding keeps its factor. Returns the model's parameters, `transferred` and `new`, each
    with its name. UserError that names the file for one that is no checkpoint, or of a model of
    other sizes.
    """
    from ..trainers.checkpoint import read_checkpoint  # which needs this package

    content = read_checkpoint(path)
    sizes = (content.get("config") or {}).get("model") or {}
    heads = sizes.get("num_heads", num_heads)
    if heads != num_heads:  # which shows in no shape
        raise UserError(f"{path}: {heads} heads, but model.num_decoder_heads is {num_heads}")
    pairs = _pairs(content["model_state_dict"], model, path)
    with torch.no_grad():
        for parameter, weight in pairs:
            parameter.copy_(weight)
        _copy_embedding(content, model, path)
    copied = {id(parameter) for parameter, _ in pairs}
    groups = {"transferred": [], "new": []}
    for name, parameter in model.named_parameters():
        groups["transferred" if id(parameter) in copied else "new"].append((name, parameter))
    return groups


def _copy_embedding(content: dict, model: nn.Module, path: str | Path) -> None:
    """Have the embedding enter the layers as it did there, where it may be tied, and so scaled."""
    embedding = model.target_embedding.weight
    scale = content.get("embedding_scale", 1.0)
    weights = content["model_state_dict"]
    if embedding is not model.final_linear.weight:
        embedding.mul_(scale)
    elif torch.equal(weights["target_embedding.weight"], weights["final_linear.weight"]):
        model.embedding_scale = scale
    else:
        raise UserError(f"{path}: its embedding is not tied; set model.weight_tying to False")


def _pairs(
    weights: dict[str, Tensor], model: nn.Module, path: str | Path
) -> list[tuple[nn.Parameter, Tensor]]:
    """Each parameter that is to be copied into, with its weight; all of them fit."""
    names = {}  # of the model -> of the checkpoint
    layers = sum(str(name).endswith(".self_attn.norm.weight") for name in weights)
    moved = {ours: theirs for theirs, ours in OUTER.items()}
    for name, _ in model.named_parameters(remove_duplicate=False):
        first, *rest = name.split(".")
        if first in moved:
            names[name] = ".".join([moved[first], *rest])
        elif first == "dec_layers" and int(rest[0]) < layers and rest[1] in INNER:
            names[name] = name
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, theirs in names.items():
        there, here = weights.get(theirs), parameters[name]
        if not isinstance(there, Tensor) or there.shape != here.shape:
            shape = tuple(getattr(there, "shape", ())) or "missing"
            what = f"{theirs} is {shape} in it, {tuple(here.shape)} in the decoder"
            raise UserError(f"{path}: does not fit: {what}; give a model of the same sizes")
        if not there.is_floating_point() or not there.isfinite().all():
            raise UserError(f"{path}: {theirs} is not all finite numbers; give another")
    return [(parameters[name], weights[theirs]) for name, theirs in names.items()]
