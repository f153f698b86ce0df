"""hw4p1/README.md: its commands have flags that there are, and leave nothing for git to see."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import make_data
import pytest
import run_lm
import ship_model
import train_tokenizers
from hw4lib.config import load_config

HW4P1 = Path(run_lm.__file__).parent
BLOCKS = re.findall(r"(?ms)^```\n(.*?)^```$", (HW4P1 / "README.md").read_text("utf-8"))
LINES = "".join(BLOCKS).replace("\\\n", " ").splitlines()
COMMANDS = [shlex.split(line, comments=True) for line in LINES if line.startswith("python ")]
PARSERS = {
    "run_lm.py": run_lm.parse_args, "make_data.py": make_data.parse,
    "train_tokenizers.py": train_tokenizers.parse, "ship_model.py": ship_model.parse,
}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_is_understood(command):
    _, program, *argv = command
    args = PARSERS[program](argv)
    if hasattr(args, "config"):
        load_config(HW4P1 / args.config, args.set)


def written(command: list[str]) -> list[str]:
    """The paths that a command writes."""
    _, program, *argv = command
    args = PARSERS[program](argv)
    if program == "ship_model.py":  # which writes what git has
        return []
    if program != "run_lm.py":
        return [str(getattr(args, "out", None) or args.o)]
    name = args.command.__name__
    return {
        "train": [f"expts/{args.run}/config.yaml", "expts/.lm.lock", "build/sample/train/a.npy"],
        "evaluate": [f"evaluated/{args.run}/test_metrics.json"], "generate": [],
        "handin": [str(getattr(args, "out", ""))],
    }[name]  # fmt: skip


def test_git_sees_nothing_of_what_its_commands_write():
    if not shutil.which("git") or not (HW4P1.parent / ".git").exists():
        pytest.skip("this is no repository of git")
    paths = {path for command in COMMANDS for path in written(command)}
    paths |= {match[1] for line in LINES if (match := re.search(r" > (\S+)$", line))}
    paths |= {"hw4_data/hw4p1_data/train/a.npy", "hw4_data_subset/hw4p1_data/train/a.npy"}
    paths |= {"wandb/run/a", ".ipynb_checkpoints/HW4P1_nb-checkpoint.ipynb", "handin.tar"}
    assert len(paths) > 15
    asked = subprocess.run(
        ["git", "check-ignore", *sorted(paths)], cwd=HW4P1, capture_output=True, text=True
    )
    assert sorted(paths - set(asked.stdout.splitlines())) == []
