"""A run's folder in expts/: its checkpoints, what it goes on with, and what it lacks."""

import shlex
import shutil
import warnings
from pathlib import Path

from .config import LM, Schema, complete_config, first_difference
from .entry import nearest
from .errors import UserError
from .trainers import BaseTrainer
from .trainers.checkpoint import read_checkpoint

RUNS = Path("expts")
# Bytes for each parameter: the best and the last checkpoint have it and two moments in float32, and
# so has a third file while it is written, perhaps with a gradient as the last one.
BYTES = 3 * 12 + 2 * 4


def checkpoint_path(run: str, which: str) -> Path:
    """Where the `best-metric` or `last-epoch` checkpoint of a run is."""
    return RUNS / run / "checkpoints" / f"checkpoint-{which}-model.pth"


def resume_command(run: str, schema: Schema = LM) -> list[str]:
    """The command of a program that goes on with a run."""
    return ["train", *([] if run == schema.run else ["--run", run]), "--resume"]


def how_to_go_on(run: str, schema: Schema) -> str:
    return "go on with: " + shlex.join([schema.program, *resume_command(run, schema)])


def read_run(path: Path, schema: Schema = LM) -> dict:
    """The content of a checkpoint. UserError if its configuration is not of the program."""
    content = read_checkpoint(path)
    content["config"] = complete_config(content.get("config"), str(path), schema)
    return content


def read_or_name(path: Path, other: Path, schema: Schema) -> dict:
    """The content of a checkpoint. A UserError names the other one, if that can take its place."""
    try:
        return read_run(path, schema)
    except UserError as error:
        if not can_take_its_place(other, schema):
            raise
        raise UserError(f"{error}, or put {other} in its place, which is whole") from None


def can_take_its_place(path: Path, schema: Schema) -> bool:
    """Whether a checkpoint is whole and has a complete epoch."""
    try:
        return read_run(path, schema).get("epoch", 0) > 0
    except (UserError, FileNotFoundError):
        return False


def read_best(run: str, schema: Schema = LM) -> dict:
    """The content of the best checkpoint.

    UserError if there is none: it says why, and how to go on.
    """
    best, last = (checkpoint_path(run, which) for which in ("best-metric", "last-epoch"))
    again = how_to_go_on(run, schema)
    if best.exists():
        return read_or_name(best, last, schema)
    if last.exists():
        content = read_run(last, schema)
        if content.get("epoch", 0):
            raise UserError(f"{best}: is gone; put {last} in its place, or {again}")
        done = (content.get("progress") or {}).get("batches", 0)
        what = f"epoch 1 is not complete, {done:,} batches of it are done"
        raise UserError(f"{RUNS / run}: {what}; {again}")
    if (RUNS / run / "config.yaml").is_file():
        what = "epoch 1 is not complete, and nothing of it is saved yet; wait for it, or"
        raise UserError(f"{RUNS / run}: {what} {again}")
    there = {path.name for path in RUNS.iterdir() if path.is_dir()} if RUNS.is_dir() else set()
    near = nearest(run, sorted(there - {run}))
    hint = f"; did you mean --run {near}?" if near else "; train first"
    raise UserError(f"{best}: no such checkpoint{hint}")


def read_last(run: str, schema: Schema = LM) -> dict | None:
    """The content of the last checkpoint, with which a run goes on; None if nothing is saved."""
    best, last = (checkpoint_path(run, which) for which in ("best-metric", "last-epoch"))
    if last.exists():
        return read_or_name(last, best, schema)
    if best.exists():
        raise UserError(f"{last}: is gone; put {best} in its place, and go on after its epoch")
    return None


def refuse_to_replace(run: str) -> None:
    """UserError if a run has a model, which a new training would replace."""
    for which in ("last-epoch", "best-metric"):
        path = checkpoint_path(run, which)
        if path.exists():
            how = "go on with it with --resume, or name another with --run"
            raise UserError(f"{path}: this run has a model; {how}")


def check_room(parameters: int) -> None:
    """UserError if the disk has too little room for the checkpoints of a run."""
    folder = (RUNS if RUNS.is_dir() else Path()).resolve()
    need, free = BYTES * parameters, shutil.disk_usage(folder).free
    if free < need:
        raise UserError(
            f"{folder}: {free / 1e6:,.0f} MB free, but the checkpoints of this run need "
            f"{need / 1e6:,.0f} MB; make room, or train in another folder"
        )


def check_same_run(config: dict, before: dict, path: Path) -> None:
    """UserError unless a run goes on with what it began with.

    How long it trains may change, and where data is.
    """

    def kept(c: dict) -> dict:
        settings = ("gradient_accumulation_steps", "gradient_clip", "seed")
        return {
            **c, "Name": "", "training": {key: c["training"][key] for key in settings},
            "data": {**c["data"], "root": "", "NUM_WORKERS": 0},
            "trained_on": {**c["trained_on"], "folder": "", "made_of": []},
        }

    difference = first_difference(kept(before), kept(config))
    if difference:
        how = "resume it as it was, or name a new --run"
        raise UserError(f"{path}: the run began otherwise, {difference} now; {how}")


def load_whole(trainer: BaseTrainer, content: dict, path: Path) -> None:
    """Load the content of a checkpoint, of which every part has to fit."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".* is left out: .*")
        try:
            trainer.load_content(content, path)
        except (UserWarning, RuntimeError) as problem:
            raise UserError(f"{problem}; train anew under another --run") from None
