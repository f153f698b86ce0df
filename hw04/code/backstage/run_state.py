"""The state of a training that was stopped, from which it goes on equal to the bit."""

import sys
import time
from dataclasses import asdict

import torch

from backstage.errors import UserError
from backstage.files import atomic_write
from backstage.processes import rank_and_world_size
from backstage.sealed import VERSION, made_alike, on_cpu, read_newest
from backstage.words import printable

STATE_KIND = "lstlm state"
# What may differ when a run is resumed.
MACHINE = ("torch", "device", "threads", "processes", "precision")


def state_of(run) -> dict:
    """All that a state file holds."""
    run.tick()
    return {
        "format": STATE_KIND, "version": VERSION, "config": asdict(run.config), "facts": run.facts,
        "numbers": {name: getattr(run, name) for name in run.NUMBERS},
        "random": torch.get_rng_state(), "weights": on_cpu(run.bare_model.state_dict()),
        "moments": run.optimizer.state_dict()["state"],
    }


def resume(run) -> None:
    """Go on from the state file. Raises UserError if there is none, or one of another command."""
    missing = "no unfinished run there; leave out -resume to start one"
    state, note = read_newest(run.state_file, run.state_before, STATE_KIND, missing, check_state)
    if note:
        print(note, file=sys.stderr)
    changes = changed_machine(run, state)
    if not made_alike(state, expected_state(run, state)):
        raise UserError(f"{run.state_file}: not a state of this model; delete it, and train again")
    for name, then, now in changes:
        change = f"{name} was {then} and is {now}"
        print(printable(f"note: {change}: the result will not be equal to the bit"))
    if run.facts["device"] != "cpu":
        print("note: on a GPU the result will not be equal to the bit")
    if rank_and_world_size()[1] > 1 and run.config.dropout:
        # Each process draws its own, and the state has those of the first.
        print("note: with -dropout in several processes the result will not be equal to the bit")
    run.bare_model.load_state_dict(state["weights"])
    moments = {**run.optimizer.state_dict(), "state": state["moments"]}
    run.optimizer.load_state_dict(moments)
    torch.set_rng_state(state["random"])
    for name in run.NUMBERS:
        setattr(run, name, state["numbers"][name])
    run.clock = time.perf_counter()
    if run.first:
        log = run.log.read_bytes()[: run.logged] if run.log.exists() else b""
        run.logged = len(log)  # what came after the state will come again
        atomic_write(run.log, lambda file: file.write(log))
    print(f"going on after step {run.step} of epoch {run.epoch}")


def changed_machine(run, state: dict) -> list[tuple]:
    """Name, old and new value of what differs of the machine; UserError if anything else does."""
    then = {**state["config"], **state["facts"]}
    now = {**asdict(run.config), **run.facts}
    changed = [name for name in now if now[name] != then.get(name)]
    other = [f"{name} {then.get(name)}, not {now[name]}" for name in changed if name not in MACHINE]
    if other:
        raise UserError(f"{run.state_file}: its run has {'; '.join(other)}; give it the same flags")
    return [(name, then.get(name), now[name]) for name in changed]


def expected_state(run, state: dict) -> dict:
    """What `state` should be made like, with as many moments as it says to have."""
    parameters = [p.data for group in run.optimizer.param_groups for p in group["params"]]
    moments = {
        i: {"step": torch.tensor(0.0), "exp_avg": p, "exp_avg_sq": p}
        for i, p in enumerate(parameters) if i in state["moments"]
    }
    own = {"config": state["config"], "facts": state["facts"], "moments": moments}
    return {**state_of(run), **own}


def check_state(content: dict) -> None:
    """Raise ValueError or the like if a state cannot be right, as far as that shows by itself."""
    values = [*content["config"].values(), *content["facts"].values()]
    values += [value for record in content["numbers"]["records"] for value in record.values()]
    plain = (str, int, float, type(None))
    fine = all(isinstance(value, plain) and len(str(value)) < 5000 for value in values)
    if not fine or not isinstance(content["moments"], dict):
        raise ValueError("its flags or figures are no values")
    torch.Generator().set_state(content["random"])
