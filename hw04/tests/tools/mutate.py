"""Mutation testing: one change at a time to a function of the program, which tests must notice.

    python hw04/tests/tools/mutate.py FOLDER NAME[:COUNT]...

The names are those of TARGETS. With a COUNT so many mutants are tested, the same random ones each
time, else all. Prints the survivors, then the score. A copy of the project with the changed program
is made in FOLDER. torch and the test tools are loaded once, and each mutant is a fork of this
process. A mutant that takes ten minutes is killed and counts as noticed.
"""

import ast
import copy
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import hypothesis  # noqa: F401
import pytest
import torch._dynamo  # noqa: F401

ROOT = Path(__file__).resolve().parents[3]


class Target(NamedTuple):
    """What is changed, and who must notice."""

    functions: dict[str, str]  # a file in hw04/code -> its functions, methods and classes
    tests: str  # files and folders in hw04/tests


TARGETS = {
    "loss": Target({
        "lstlm.py": "loss compute_loss",
        "backstage/cross_entropy.py": "LinearCrossEntropy nats_without_gradient "
        "linear_cross_entropy",
    }, "backstage/test_cross_entropy.py handout/test_model.py"),
    "batches": Target({
        "lstlm.py": "collate_stories",
        "backstage/minibatches.py": "shuffled_batches segments evaluation_segments hide_rare",
    }, "backstage/test_minibatches.py handout/test_blocks.py handout/test_model.py"),
    "sampling": Target({
        "lstlm.py": "next_token_logits generate_next_token grow",
        "backstage/sampling.py": "Sampling restricted",
        "backstage/continuations.py": "looping",
    }, "handout/test_sampling.py backstage/test_continuations.py handout/test_blocks.py"),
    "files": Target({
        "backstage/files.py": "atomic_write remove_leftovers check_paths",
        "backstage/sealed.py": "seal unseal put_tensor read_sealed made_alike",
        "backstage/checkpoint.py": "check_checkpoint check_config check_facts check_words "
        "check_weights",
        "backstage/run_state.py": "state_of resume changed_machine expected_state check_state "
        "check_best_model saved_since carried_state",
        "backstage/bookkeeping.py": "save_best begin_log write_log",
        "backstage/saving.py": "check_files save_state_if_due save_state finish keep_earlier",
    }, "backstage/test_files.py robustness/test_hostile.py robustness/test_resume.py "
        "robustness/test_disk.py handout/test_train.py"),
    "run": Target({
        "backstage/run.py": "segments minibatches shares begin_step add end_step skip finish",
        "backstage/optimizer.py": "FiniteAdamW learning_rate",
        "backstage/signals.py": "StopSignal",
    }, "backstage/test_optimizer.py robustness/test_resume.py robustness/test_disk.py "
        "robustness/test_processes.py handout/test_train.py"),
}
# What takes seconds: processes of their own.
SLOW = ("process", "prompts", "becomes_full", "libraries_load")
SKIPPED = " and ".join(f"not {word}" for word in SLOW)
SWAPS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.And: ast.Or, ast.Or: ast.And, ast.Is: ast.IsNot,
    ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.LShift: ast.RShift,
}


# ---- Changes ------------------------------------------------------------------------------------


def swap_operator(node: ast.AST) -> None:
    node.op = SWAPS[type(node.op)]()


def swap_comparison(node: ast.Compare) -> None:
    node.ops[0] = SWAPS[type(node.ops[0])]()


def drop_operator(node: ast.UnaryOp) -> None:
    node.op = ast.UAdd() if isinstance(node.op, ast.USub) else None


def add_one(node: ast.Constant) -> None:
    node.value += 1


def negate(node: ast.Constant) -> None:
    node.value = not node.value


def never(node: ast.If | ast.IfExp) -> None:
    node.test = ast.Constant(False)


def always(node: ast.If | ast.IfExp) -> None:
    node.test = ast.Constant(True)


def leave_out(node: ast.stmt) -> None:
    node.dead = True


def changes(node: ast.AST) -> Iterator[tuple[str, Callable]]:
    """A word for each change of a node, and the function that makes it, in place.

    Other operators and constants, no statement.
    """
    operator = type(getattr(node, "op", None))
    if operator in SWAPS:
        yield f"{operator.__name__} -> {SWAPS[operator].__name__}", swap_operator
    if isinstance(node, ast.UnaryOp) and operator in (ast.Not, ast.USub, ast.Invert):
        yield f"no {operator.__name__}", drop_operator
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        yield f"{type(node.ops[0]).__name__} swapped", swap_comparison
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield f"{node.value} + 1", add_one
    if isinstance(node, ast.Constant) and type(node.value) is bool:
        yield f"not {node.value}", negate
    if isinstance(node, ast.If | ast.IfExp):
        yield "if False", never
        yield "if True", always
    statement = isinstance(node, ast.Expr | ast.AugAssign | ast.Raise)
    if statement and not isinstance(getattr(node, "value", None), ast.Constant):
        yield "left out", leave_out


class Drop(ast.NodeTransformer):
    """Removes what a change marked: statements that are left out, and operators that are none."""

    def visit(self, node):
        node = self.generic_visit(node)
        if getattr(node, "dead", False):
            return ast.copy_location(ast.Pass(), node)
        if isinstance(node, ast.UnaryOp) and node.op is None:
            return node.operand
        return node


class Mutant(NamedTuple):
    """A program with one change."""

    file: str  # in hw04/code
    line: int
    word: str
    source: str  # of the file


def mutants(file: str, source: str, names: list[str]) -> Iterator[Mutant]:
    """All changes of these functions of a file."""
    tree = ast.parse(source)
    found = [node for node in ast.walk(tree) if getattr(node, "name", None) in names]
    missing = {*names} - {node.name for node in found}
    assert not missing, f"{file} has no {missing}"
    for function in found:
        for place, node in enumerate(ast.walk(function)):
            for number, (word, _) in enumerate(changes(node)):
                changed = copy.deepcopy(function)
                target = list(ast.walk(changed))[place]
                _, change = list(changes(target))[number]
                change(target)
                text = replaced(source, function, Drop().visit(changed))
                yield Mutant(file, node.lineno, word, text)


def replaced(source: str, old: ast.AST, new: ast.AST) -> str:
    """The source with another function in the place of one."""
    lines = source.splitlines(keepends=True)
    decorators = getattr(old, "decorator_list", [])
    start = min([old.lineno, *(decorator.lineno for decorator in decorators)])
    indent = " " * old.col_offset
    body = "".join(f"{indent}{row}\n" for row in ast.unparse(new).splitlines())
    return "".join(lines[: start - 1]) + body + "".join(lines[old.end_lineno :])


# ---- Tests --------------------------------------------------------------------------------------


def noticed(folder: Path, tests: str) -> bool:
    """Whether the tests of the copy fail."""
    child = os.fork()
    if not child:
        signal.alarm(600)
        os.chdir(folder)
        os.dup2(os.open("output", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 1)
        os.dup2(1, 2)
        marked = "not slow and not thorough"
        paths = [f"hw04/tests/{test}" for test in tests.split()]
        options = ["-q", "-x", "-p", "no:cacheprovider", "-m", marked, "-k", SKIPPED]
        os._exit(pytest.main([*options, *paths]))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


def copy_project(folder: Path) -> None:
    """Make the copy, and let its files be the ones that are imported."""
    shutil.rmtree(folder, ignore_errors=True)
    left_out = (".git", ".venv", "build", "__pycache__", ".hypothesis")
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*left_out))
    sys.path[:0] = [str(folder / "hw04" / part) for part in ("code", "data", "tests")]
    sys.dont_write_bytecode = True


def main(folder: Path, names: list[str]) -> None:
    """Make and test the mutants; print a line for each survivor, and the score."""
    copy_project(folder)
    code = folder / "hw04" / "code"
    for name, _, count in (name.partition(":") for name in names):
        functions, tests = TARGETS[name]
        assert not noticed(folder, tests), f"the tests fail without a change: {folder}/output"
        made = []
        for file, wanted in functions.items():
            made += mutants(file, (code / file).read_text(), wanted.split())
        chosen = random.Random(0).sample(made, int(count)) if count else made
        killed = 0
        for file, line, word, source in chosen:
            whole = (code / file).read_text()
            (code / file).write_text(source)
            if noticed(folder, tests):
                killed += 1
            else:
                text = whole.splitlines()[line - 1].strip()
                print(f"survived: {file}, line {line}, {word}: {text}", flush=True)
            (code / file).write_text(whole)
        score = f"{killed} of {len(chosen)} mutants noticed"
        print(f"{name}: {score}, of {len(made)} that there are", flush=True)


if __name__ == "__main__":
    unknown = {name.partition(":")[0] for name in sys.argv[2:]} - {*TARGETS}
    if len(sys.argv) < 3 or sys.argv[1].startswith("-") or unknown:
        raise SystemExit(f"usage: mutate.py FOLDER TARGET[:COUNT] ... (of {', '.join(TARGETS)})")
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
