"""The state of a training that was stopped, from which it goes on equal to the bit."""

import hashlib
import json
import math
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from backstage.errors import UserError
from backstage.files import atomic_write, digest_if_there
from backstage.processes import rank_and_world_size
from backstage.sealed import VERSION, check_parts, made_alike, read_sealed, seal
from backstage.state import State
from backstage.words import printable

STATE_KIND = "lstlm state"
# What a state file holds beside its format, version and random state.
STATE_PARTS = {
    "config": dict, "facts": dict, "numbers": dict, "model": str, "words": str, "weights": dict,
    "moments": dict, "carried": dict,
}
# What may differ when a run is resumed; a state of an earlier program lacks some of it.
MACHINE = (
    "torch", "device", "threads", "processor", "instructions", "settings", "processes", "precision",
)


def state_of(run) -> dict:
    """All that a state file holds."""
    run.tick()
    return {
        "format": STATE_KIND, "version": VERSION, "config": asdict(run.config), "facts": run.facts,
        "numbers": {name: getattr(run, name) for name in run.NUMBERS},
        "model": run.model_digest, "words": digest_of_words(run.words),
        "random": torch.get_rng_state(), "weights": dict(run.bare_model.state_dict()),
        "moments": moments_by_name(run.optimizer.state_dict()["state"]), "carried": run.carried,
    }


def digest_of_words(words: list[str]) -> str:
    """The SHA-256 of a vocabulary."""
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()


def moments_by_name(moments: dict[int, dict]) -> dict[str, dict]:
    """What the optimizer knows of each parameter, by the parameter's number as a string."""
    return {str(number): values for number, values in moments.items()}


def resume(run) -> None:
    """Go on from the state file. Raises UserError if there is none, or one of another command."""
    state = read_state(run)
    changes = changed_machine(run, state)
    if state["words"] not in ("", digest_of_words(run.words)):
        why = "its run has other words; give it the same corpus and GloVe file"
        raise UserError(f"{run.state_file}: {why}")
    if not made_alike(state, expected_state(run, state)):
        raise not_of_this_model(run)
    run.lost_model = check_best_model(run, state)
    for name, then, now in changes:
        change = f"{name} was {then} and is {now}"
        print(printable(f"note: {change}: the result will not be equal to the bit"))
    if run.facts["device"] != "cpu":
        print("note: on a GPU the result will not be equal to the bit")
    dropout = asdict(run.config).get("dropout")  # fflm.py has none
    if rank_and_world_size()[1] > 1 and dropout:
        # Each process draws its own, and the state has those of the first.
        print("note: with -dropout in several processes the result will not be equal to the bit")
    run.bare_model.load_state_dict(state["weights"])
    moments = {int(number): values for number, values in state["moments"].items()}
    run.optimizer.load_state_dict({**run.optimizer.state_dict(), "state": moments})
    torch.set_rng_state(state["random"])
    for name in run.NUMBERS:
        setattr(run, name, state["numbers"][name])
    run.carried = state["carried"]
    run.model_digest = digest_if_there(run.args.model)
    run.clock = time.perf_counter()
    if run.first:
        log = run.log.read_bytes()[: run.logged] if run.log.exists() else b""
        run.logged = len(log)  # what came after the state will come again
        atomic_write(run.log, lambda file: file.write(log))
    within = f", {run.part} segments into the next" if run.part else ""
    print(f"going on after step {run.step - bool(run.part)} of epoch {run.epoch}{within}")


def read_state(run) -> dict:
    """The state file, or the one before it, with a note, if that is damaged or gone."""
    missing = "no unfinished run there; leave out -resume to start one"
    try:
        return read_sealed(run.state_file, STATE_KIND, missing, check_state)
    except UserError as error:
        if not run.state_before.exists():
            raise
        state = read_sealed(run.state_before, STATE_KIND, missing, check_state)
        using = f"using {run.state_before}, the one before it"
        print(f"note: {printable(str(error))}; {using}", file=sys.stderr)
        return state


def not_of_this_model(run) -> UserError:
    """The error that a state has other numbers than the model asks for."""
    return UserError(f"{run.state_file}: not a state of this model; delete it, and train again")


def check_best_model(run, state: dict) -> bool:
    """Whether the best model so far is gone. Raises UserError if another is in its place."""
    model = run.args.model
    if not run.first or state["model"] == digest_if_there(model):
        return False
    if not model.exists():
        lost = state["numbers"]["best"] < math.inf
        if lost:
            print(f"note: {model} is gone, the best model so far; the best loss is counted anew")
        return lost
    if not saved_since(model, type(run.bare_model).KIND, state):
        why = "not the model that was there when the run stopped"
        how = f"put that back, or move this one away, and {model.name} is made anew"
        raise UserError(f"{model}: {why}; {how}")
    return False


def saved_since(model: Path, kind: str, state: dict) -> bool:
    """Whether the run of a state, killed later, wrote this model after that state."""
    try:
        content = read_sealed(model, kind, "", check_trained)
    except UserError:
        return False
    facts = {name: content["facts"].get(name) for name in state["facts"]}
    same_run = facts == state["facts"] and content["config"] == state["config"]
    if same_run and content["facts"]["step"] >= state["numbers"]["step"]:
        return True
    content["facts"]["finished"] = False  # what was killed at its very end has set it
    return hashlib.sha256(seal(content)).hexdigest() == state["model"]


def check_trained(content: dict) -> None:
    """Raise ValueError or the like if a model cannot say how far which training was."""
    check_values(content["config"], content["facts"])
    if type(content["facts"]["step"]) is not int:
        raise ValueError("its step is no number")


def changed_machine(run, state: dict) -> list[tuple]:
    """Name, old and new value of what differs of the machine; UserError if anything else does."""
    then = {**state["config"], **state["facts"]}
    now = {**asdict(run.config), **run.facts}
    known = [name for name in now if name in then or name not in MACHINE]
    changed = [name for name in known if now[name] != then.get(name)]
    other = [f"{name} {then.get(name)}, not {now[name]}" for name in changed if name not in MACHINE]
    if other:
        raise UserError(f"{run.state_file}: its run has {'; '.join(other)}; give it the same flags")
    return [(name, then.get(name), now[name]) for name in changed]


def expected_state(run, state: dict) -> dict:
    """What `state` should be made like, with as many moments as it says to have."""
    parameters = [p.data for group in run.optimizer.param_groups for p in group["params"]]
    moments = {
        str(i): {"step": torch.tensor(0.0), "exp_avg": p, "exp_avg_sq": p}
        for i, p in enumerate(parameters) if str(i) in state["moments"]
    }
    own = {name: state[name] for name in ("config", "facts", "carried")}
    return {**state_of(run), **own, "moments": moments}


def check_state(content: dict) -> None:
    """Raise ValueError or the like if a state cannot be right, as far as that shows by itself."""
    check_parts(content, STATE_PARTS)
    check_values(content["config"], content["facts"], *content["numbers"]["records"])
    torch.Generator().set_state(content["random"])


def check_values(*records: dict) -> None:
    """Raise ValueError or the like unless each value in these is a number, a short text or None."""
    plain = (str, int, float, type(None))
    values = [value for record in records for value in record.values()]
    if not all(isinstance(value, plain) and len(str(value)) < 5000 for value in values):
        raise ValueError("its flags or figures are no values")


def carried_state(run, parts: list[tuple]) -> State:
    """The state, of all stories, that a stopped run carried from one segment of these to the next.

    Sets the nats of those that are done. Raises UserError if it is not made as the model makes one.
    """
    if run.part >= len(parts):
        raise not_of_this_model(run)
    device = run.bare_model.output.weight.device
    inputs = parts[run.part - 1][0].to(device)  # (B, T)
    like = State()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        run.bare_model(inputs[:, :1], torch.ones(len(inputs), dtype=torch.int64), state=like)
    like.position = run.part * run.args.bptt
    if run.bare_model.attention:
        like.past = like.past.expand(-1, like.position, -1)
    nats = run.carried.get("nats")
    fits = made_alike(run.carried, {**like.to_dict(), "nats": []})
    if not fits or run.carried["position"] != like.position or not finite(nats):
        raise not_of_this_model(run)
    run.step_nats = share_of_nats(nats)
    return State.from_dict(run.carried).to(device)


def finite(numbers: list) -> bool:
    """Whether these are finite floats."""
    return all(type(x) is float and math.isfinite(x) for x in numbers)


def share_of_nats(nats: list[float]) -> float:
    """This process's, of the nats of each; all of them the first one's, if there were others."""
    rank, processes = rank_and_world_size()
    if len(nats) == processes:
        return nats[rank]
    return 0.0 if rank else sum(nats)
