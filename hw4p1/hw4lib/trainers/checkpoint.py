"""What is in a checkpoint, read and compared with what it is to be loaded into.

Anybody may have made the file. So each value has its type and size verified here, before the
optimizer or the schedule, which take over whatever they are given, compute with it.
"""

import math
import random
from pathlib import Path

import torch
from torch import Tensor, nn, optim

from ..errors import UserError
from ..model import DecoderOnlyTransformer, EncoderDecoderTransformer
from ..reading import printable, read_file, shown
from .archive import unpack

LARGEST = 2**31  # of a count
# What an optimizer remembers of each parameter, by its class; AdamW is an Adam.
REMEMBERED = {optim.SGD: {"momentum_buffer"}, optim.Adam: {"step", "exp_avg", "exp_avg_sq"}}
# Stacks of layers that a model has, and how its sizes call their heights.
STACKS = {
    DecoderOnlyTransformer: {"dec_layers": "num_layers"},
    EncoderDecoderTransformer: {
        "enc_layers": "num_encoder_layers", "dec_layers": "num_decoder_layers",
    },
}
# Numbers by which a schedule divides.
DIVISORS = ("T_0", "T_i", "T_max", "T_mult", "start_factor", "total_iters")


def read_checkpoint(path: str | Path) -> dict:
    """The content of a checkpoint, on the CPU; the file is read whole, once.

    Raises FileNotFoundError if there is none; UserError (a ValueError) if it is something else, or
    if its numbers beside the weights and states are not of their kind.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint; train first")
    data = read_file(path, "train anew")
    try:
        content = unpack(data)
        trained = isinstance(content, dict) and isinstance(content.get("model_state_dict"), dict)
        if trained:
            check_numbers(content)
    except MemoryError:
        raise
    except Exception as error:  # what a damaged file leads to is of many classes
        why = printable(str(error))[:100] if type(error) is ValueError else type(error).__name__
        raise UserError(
            f"{path}: not a checkpoint, or a damaged one ({why}); train anew"
        ) from None
    if not trained:
        raise UserError(
            f"{path}: it has no model_state_dict, so it is no checkpoint of a training; give "
            "another"
        )
    return content


def check_numbers(content: dict) -> None:
    """Raise ValueError or the like unless epochs, metrics and progress are such."""
    if not is_count(content.get("epoch", 0)):
        raise ValueError(f"epoch is {shown(content['epoch'])}")
    best = content.get("best_metric", math.inf)
    if not is_number(best) or math.isnan(best):
        raise ValueError(f"best_metric is {shown(best)}")
    scale = content.get("embedding_scale", 1.0)
    if not is_number(scale) or not 0 < scale < LARGEST:
        raise ValueError(f"embedding_scale is {shown(scale)}")
    for entry in content.get("training_history", []):
        rest = {key: value for key, value in entry.items() if key not in ("epoch", "lr")}
        if not is_count(entry["epoch"]) or not (entry["lr"] is None or is_number(entry["lr"])):
            raise ValueError("an epoch or rate of its training_history is no number")
        for metrics in rest.values():
            if not all(map(is_number, metrics.values())):
                raise ValueError("a metric of its training_history is no number")
    for fact in content.get("surroundings", {}).items():
        if [type(part) for part in fact] != [str, str]:
            raise ValueError("its surroundings are no texts")
    if content.get("progress") is not None:
        check_progress(content["progress"])


def check_progress(progress: dict) -> None:
    """Raise ValueError or the like unless it is how far an epoch has come."""
    check_pass(progress)
    if "validation" in progress:
        check_pass(progress["validation"])
    for gradient in progress.get("gradients", {}).values():
        if not isinstance(gradient, Tensor) or not gradient.is_floating_point():
            raise ValueError("its progress has a gradient that is none")


def check_pass(progress: dict) -> None:
    """Raise ValueError or the like unless it is how far a pass over data has come."""
    check_random_state(progress["random_state"])
    if progress["batches"] == 0:
        return
    if "results" in progress:  # of recognised speech
        check_results(progress)
        return
    counts = [progress[name] for name in ("batches", "sequences", "targets")]
    nats = [progress["nats"], progress.get("ctc_nats", 0)]
    whole = all(map(is_count, counts)) and all(is_number(n) and 0 <= n < math.inf for n in nats)
    if not whole or not counts[0] <= counts[1] <= counts[2] / 2:  # a target and EOS at least
        raise ValueError("its progress is none that an epoch can have made")


def check_results(progress: dict) -> None:
    """Raise ValueError or the like unless it has texts of so many batches, or more."""
    texts = [
        text for result in progress["results"] for text in (result["target"], result["generated"])
    ]
    whole = is_count(progress["batches"]) and all(type(text) is str for text in texts)
    if not whole or len(texts) < 2 * progress["batches"]:
        raise ValueError("its progress is none that an epoch can have made")


def check_random_state(state: dict) -> None:
    """Raise an error, as the generators do, unless they can be set to this state."""
    torch.Generator().set_state(state["torch"])
    version, numbers, last = state["python"]
    words = all(is_count(number, 2**32) for number in numbers)
    if not words or type(last) not in (float, type(None)):
        raise ValueError("the state of Python's generator is none")
    random.Random().setstate((version, numbers, last))
    if torch.cuda.is_available():
        for numbers in state.get("cuda", [])[: torch.cuda.device_count()]:
            torch.Generator("cuda").set_state(numbers)


def is_count(value: object, limit: int = LARGEST) -> bool:
    return type(value) is int and 0 <= value < limit


def is_number(value: object) -> bool:
    return type(value) in (int, float)


# ---- The model


def check_model(
    weights: dict[str, Tensor], sizes: dict, source: str,
    kind: type[nn.Module] = DecoderOnlyTransformer,
) -> None:
    """UserError unless weights are those of a model of these sizes, which is not made for it."""
    for stack, name in STACKS[kind].items():
        ends = (f"{stack}.", ".self_attn.norm.weight")
        layers = sum(str(w).startswith(ends[0]) and str(w).endswith(ends[1]) for w in weights)
        if layers and layers != sizes[name]:  # before that many are described
            raise UserError(
                f"{source}: {layers} layers in the checkpoint, but {sizes[name]} in its "
                "configuration; train anew"
            )
    with torch.device("meta"):  # tensors there have a shape and no numbers
        model = kind(**sizes)
    misfit = first_misfit(weights, model)
    if misfit:
        raise UserError(f"{source}: {misfit}; train anew")


def first_misfit(weights: dict[str, Tensor], model: nn.Module) -> str:
    """What is wrong with the first of the weights that a model cannot take over.

    Empty if all fit.
    """
    expected = model.state_dict(keep_vars=True)  # a tied weight is one tensor of two names
    for name in sorted(expected.keys() | weights.keys(), key=str):
        there, here = (
            tuple(getattr(w[name], "shape", "?")) if name in w else "missing"
            for w in (weights, expected)
        )
        if there != here:
            return f"{printable(str(name))[:80]} is {there} in the checkpoint, {here} in the model"
        if not weights[name].is_floating_point() or not weights[name].isfinite().all():
            return f"{name} is not all finite numbers in the checkpoint"
    first_names: dict[int, str] = {}
    for name, tensor in expected.items():
        other = first_names.setdefault(id(tensor), name)
        if not torch.equal(weights[name], weights[other]):
            return f"{other} and {name} are tied in the model, and two in the checkpoint"
    return ""


# ---- Optimizer and schedule


def optimizer_state(given: dict, optimizer: optim.Optimizer) -> dict:
    """The state of an optimizer in a checkpoint, if it is one of this optimizer.

    Raises ValueError or the like that says what is not.
    """
    ours = optimizer.state_dict()["param_groups"]
    if len(given["param_groups"]) != len(ours):
        raise ValueError(f"{len(given['param_groups'])} groups of parameters, {len(ours)} here")
    groups = []
    for there, here in zip(given["param_groups"], ours, strict=True):
        if "initial_lr" in there:  # of a schedule, which may not be made yet
            here = {"initial_lr": here["lr"], **here}
        group = taken_over(there, here, "param_groups")
        numbers = [number for number in group.values() if is_number(number)]
        if min(numbers) < 0 or not all(0 <= beta < 1 for beta in group.get("betas", ())):
            raise ValueError("a negative number or a beta of 1 among its settings")
        if group["params"] != here["params"]:
            raise ValueError("other parameters in a group than here")
        groups.append(group)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, state in given["state"].items():
        check_moments(state, parameters[index], optimizer)
    return {"state": given["state"], "param_groups": groups}


def check_moments(state: dict, parameter: Tensor, optimizer: optim.Optimizer) -> None:
    """Raise ValueError unless an optimizer may have remembered this of a parameter."""
    names = next((REMEMBERED[c] for c in REMEMBERED if isinstance(optimizer, c)), state.keys())
    if optimizer.defaults.get("amsgrad"):
        names = names | {"max_exp_avg_sq"}
    if state and state.keys() != names:
        raise ValueError(f"it remembers {shown([*state])} of a parameter")
    for name, value in state.items():
        if name == "momentum_buffer" and value is None:
            continue
        shape = torch.Size() if name == "step" else parameter.shape
        if value.shape != shape or not value.is_floating_point() or not value.isfinite().all():
            raise ValueError(f"{name} of a parameter is not as large as it, or no number")
        if name == "step" and value < 0:
            raise ValueError("a negative number of steps")


def taken_over(given: object, ours: object, place: str) -> object:
    """`given` in the shape of `ours`, a state of the same object: its keys, types and lengths.

    Keys that only `given` has are of another version of the library and left out; those that it
    lacks stay as they are. Raises ValueError that names the place.
    """
    if isinstance(ours, dict) and isinstance(given, dict):
        return {
            key: taken_over(given[key], value, str(key)) if key in given else value
            for key, value in ours.items()
        }
    if isinstance(ours, (list, tuple)) and type(given) is type(ours) and len(given) == len(ours):
        return type(ours)(
            taken_over(there, here, place) for there, here in zip(given, ours, strict=True)
        )
    if is_number(ours) and is_number(given) and type(given) in (int, type(ours)):
        if given == ours or is_usable(given, place):
            return given
    elif type(given) is type(ours) and type(ours) in (bool, str, type(None)) and given == ours:
        return given
    raise ValueError(f"{place} is {shown(given)}, {shown(ours)} here")


def is_usable(number: float, place: str) -> bool:
    """Whether a schedule or optimizer can compute with a number of that name."""
    if type(number) is int and abs(number) >= LARGEST:
        return False
    return math.isfinite(number) and (number > 0 or place not in DIVISORS)


def scheduler_state(given: dict, scheduler) -> dict:
    """The state of a schedule in a checkpoint, if it is one of such a schedule.

    Raises ValueError or the like that says what is not.
    """
    if "last_epoch" not in given:
        raise ValueError("it has no last_epoch")
    return taken_over(given, scheduler.state_dict(), "it")


def scaler_state(given: dict, scaler: torch.amp.GradScaler) -> dict:
    """The state of a gradient scaler in a checkpoint, if it is one."""
    state = taken_over(given, scaler.state_dict(), "it")
    if state and min(state["scale"], state["growth_factor"], state["backoff_factor"]) <= 0:
        raise ValueError("a factor that is not over 0")
    return state
