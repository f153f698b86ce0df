"""Mutation testing of lstlm.py: one change at a time to a function, which the tests must notice.

    python hw04/tests/mutate.py FOLDER NAME[:COUNT]...     # names in TARGETS; prints the survivors, then the score

With a COUNT so many mutants are tested, the same random ones each time, else all. A copy of the project with the
changed program is made in FOLDER. torch and the test tools are loaded once, and each mutant is a fork of this
process. A mutant that takes ten minutes is killed and counts as noticed.
"""

import ast
import copy
import os
import random
import shutil
import signal
import sys
from pathlib import Path

import hypothesis  # noqa: F401
import pytest
import torch._dynamo  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
TARGETS = {  # name: functions, and the tests that must notice
    "loss": (["LinearCrossEntropy", "linear_cross_entropy", "summed_nats", "compute_loss"], ["test_model.py"]),
    "batches": (["collate_stories", "pieces", "shuffled_batches", "pack"], ["test_model.py"]),
    "sampling": (["next_probabilities", "keep", "choose", "looping"], ["test_sampling.py"]),
    "files": (["atomic_write", "seal", "unseal", "check_pickle", "read_checked", "read_newest", "check_model",
               "check_state", "fits", "save_best", "save_state_if_due", "state", "load_state", "write_log", "start"],
              ["test_hostile.py", "test_resume.py", "test_disk.py", "test_train.py"]),
}
SKIP = "not process and not prompts and not little_room and not becomes_full and not disk_leaves and not libraries_load"
SWAPS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
         ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
         ast.And: ast.Or, ast.Or: ast.And, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
         ast.LShift: ast.RShift}


def changes(node: ast.AST):
    """Functions that change a node in place, with a word for each: other operators and constants, no statement."""
    if type(op := getattr(node, "op", None)) in SWAPS:
        yield f"{type(op).__name__} -> {SWAPS[type(op)].__name__}", lambda n: setattr(n, "op", SWAPS[type(n.op)]())
    if isinstance(node, ast.UnaryOp) and isinstance(op, (ast.Not, ast.USub, ast.Invert)):
        yield f"no {type(op).__name__}", lambda n: setattr(n, "op", ast.UAdd() if isinstance(n.op, ast.USub) else None)
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        yield f"{type(node.ops[0]).__name__} swapped", lambda n: n.ops.__setitem__(0, SWAPS[type(n.ops[0])]())
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield f"{node.value} + 1", lambda n: setattr(n, "value", n.value + 1)
    if isinstance(node, ast.Constant) and type(node.value) is bool:
        yield f"not {node.value}", lambda n: setattr(n, "value", not n.value)
    if isinstance(node, (ast.If, ast.IfExp)):
        yield "if False", lambda n: setattr(n, "test", ast.Constant(False))
        yield "if True", lambda n: setattr(n, "test", ast.Constant(True))
    statement = isinstance(node, (ast.Expr, ast.AugAssign, ast.Raise))
    if statement and not isinstance(getattr(node, "value", None), ast.Constant):
        yield "left out", lambda n: setattr(n, "dead", True)


class Drop(ast.NodeTransformer):
    """Removes what a change marked: statements that are left out, and operators that are none."""

    def visit(self, node):
        node = self.generic_visit(node)
        if getattr(node, "dead", False):
            return ast.copy_location(ast.Pass(), node)
        return node.operand if isinstance(node, ast.UnaryOp) and node.op is None else node


def mutants(tree: ast.Module, names: list[str]):
    """All changed programs, each with its line and what was changed."""
    for function in [node for node in ast.walk(tree) if getattr(node, "name", None) in names]:
        nodes = list(ast.walk(function))
        for place, node in enumerate(nodes):
            for number, (word, _) in enumerate(changes(node)):
                changed = copy.deepcopy(function)
                target = list(ast.walk(changed))[place]
                list(changes(target))[number][1](target)
                yield node.lineno, word, function, Drop().visit(changed)


def noticed(folder: Path, source: str, tests: list[str]) -> bool:
    """Whether the tests fail with this program."""
    (folder / "hw04/code/lstlm.py").write_text(source)
    if not (child := os.fork()):
        signal.alarm(600)
        os.chdir(folder)
        os.dup2(os.open("output", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 1)
        os.dup2(1, 2)
        os._exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", "-k", SKIP,
                              *(f"hw04/tests/{test}" for test in tests)]))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


def main(folder: Path, names: list[str]) -> None:
    """Make and test the mutants; print a line for each survivor, and the score."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".git", ".venv", "build", "__pycache__", ".hypothesis"))
    sys.path[:0] = [str(folder / "hw04" / part) for part in ("code", "data", "tests")]
    sys.dont_write_bytecode = True
    source = (folder / "hw04/code/lstlm.py").read_text()
    lines = source.splitlines(keepends=True)
    for name in names:
        name, _, count = name.partition(":")
        functions, tests = TARGETS[name]
        assert not noticed(folder, source, tests), "the tests fail without a change"
        killed, total = 0, 0
        made = list(mutants(ast.parse(source), functions))
        for line, word, old, new in random.Random(0).sample(made, int(count)) if count else made:
            start, body = min([old.lineno, *(d.lineno for d in getattr(old, "decorator_list", []))]), ast.unparse(new)
            indent = " " * old.col_offset
            text = "".join(indent + row + "\n" for row in body.splitlines())
            mutant = "".join(lines[: start - 1]) + text + "".join(lines[old.end_lineno :])
            total += 1
            if noticed(folder, mutant, tests):
                killed += 1
            else:
                print(f"survived: line {line}, {word}: {lines[line - 1].strip()}", flush=True)
        print(f"{name}: {killed} of {total} mutants noticed, of {len(made)} that there are", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
