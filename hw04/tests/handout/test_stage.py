"""On stage stands what the handout names: lstlm.py; what it stands on is backstage."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import lstlm
import pytest
from small import ONE_THREAD

COURSE_FILE = Path(lstlm.__file__)
CODE = COURSE_FILE.parent
ROOT = CODE.parents[1]
BACKSTAGE = sorted(CODE.glob("backstage/**/*.py"))
ITEMS = {  # of the handout, with the function in which a student writes
    "1": "LSTMLM.forward", "1a": "LSTMLM.attend", "2": "collate_stories", "3": "compute_loss",
    "4": "train", "5": "use", "6": "generate_next_token", "6a": "next_token_logits",
    "7": "evaluate",
}


def name_of(path: Path) -> str:
    """`backstage.words` of backstage/words.py."""
    return ".".join(path.relative_to(CODE).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """All modules that a file imports, at its top or within a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def defined(path: Path) -> set[str]:
    """The functions, classes and constants of a module; what it imports is none of these."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if node.col_offset == 0:
                found.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)) and node.col_offset == 0:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [name for target in targets for name in ast.walk(target)]
            found |= {name.id for name in names if isinstance(name, ast.Name)}
    return found


def functions() -> dict[str, ast.FunctionDef]:
    """The functions of the course file, and the methods of its classes as `LSTMLM.forward`."""
    found = {}
    for node in ast.parse(COURSE_FILE.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.ClassDef):
            methods = [method for method in node.body if isinstance(method, ast.FunctionDef)]
            found |= {f"{node.name}.{method.name}": method for method in methods}
    return found


def test_the_course_file_is_short():
    assert len(COURSE_FILE.read_text("utf-8").splitlines()) <= 900


@pytest.mark.parametrize("path", BACKSTAGE, ids=name_of)
def test_a_module_backstage_is_short(path):
    assert len(path.read_text("utf-8").splitlines()) <= 300


@pytest.mark.parametrize("path", [COURSE_FILE, *BACKSTAGE], ids=name_of)
def test_lines_are_of_at_most_100_columns(path):
    lines = enumerate(path.read_text("utf-8").splitlines(), 1)
    assert not [number for number, line in lines if len(line) > 100]


def test_no_module_backstage_imports_the_course_file_and_there_is_no_circle():
    modules = {name_of(path) for path in BACKSTAGE}
    graph = {}
    for path in BACKSTAGE:
        found = imports(path)
        assert not {name for name in found if name.split(".")[0] in ("lstlm", "fflm")}, path
        graph[name_of(path)] = (found & modules) - {"backstage", name_of(path)}
    assert set(TopologicalSorter(graph).static_order()) <= modules  # CycleError if there is one


def test_each_item_of_the_handout_has_a_block_in_its_function():
    lines = COURSE_FILE.read_text("utf-8").splitlines()
    marks = [(number, line) for number, line in enumerate(lines, 1) if "# YOUR CODE" in line]
    begins, ends = marks[::2], marks[1::2]
    assert len(begins) == len(ends)
    found = {}
    for (first, begin), (last, end) in zip(begins, ends, strict=True):  # so blocks do not nest
        item = re.fullmatch(r" +# YOUR CODE HERE: BEGIN \((\w+)\)", begin)
        assert item, f"{first}: {begin}"
        assert re.fullmatch(r" +# YOUR CODE HERE: END", end), f"{last}: {end}"
        assert last > first + 1
        assert item[1] not in found, f"two blocks for item {item[1]}"
        found[item[1]] = first, last
    assert found.keys() == ITEMS.keys()
    where = functions()
    for item, (first, last) in found.items():
        function = where[ITEMS[item]]
        inside = function.body[0].lineno <= first and last <= function.end_lineno + 1
        assert inside, f"the block of item {item} is not in {ITEMS[item]}"
        indents = {len(line) - len(line.lstrip()) for line in lines[first - 1 : last] if line}
        assert min(indents) == len(lines[first - 1]) - len(lines[first - 1].lstrip())


def test_no_name_is_defined_twice():
    """So that all can be joined into one file."""
    where = defaultdict(list)
    for path in (COURSE_FILE, *BACKSTAGE):
        for name in defined(path):
            where[name].append(name_of(path))
    assert len(where) > 100
    assert not {name: modules for name, modules in where.items() if len(modules) > 1}


def test_nothing_is_patched_outside_tests():
    for folder in ("hw04", "hw4p1", "bench"):
        for path in (ROOT / folder).glob("**/*.py"):
            if "tests" in path.relative_to(ROOT).parts:
                continue
            text = path.read_text("utf-8")
            assert not re.search(r"\bmonkeypatch\b|\bunittest\.mock\b|\bimport mock\b", text), path


def test_the_module_works_with_its_own_folder_alone(tmp_path):
    """And a first token waits for no library that it does not need.

    PyTorch's compiler and sympy take seconds to load, and the first operation on the device `meta`
    may load them.
    """
    flags = ["-prompt", "-greedy", "-text", "the cat", "-max_tokens", "1", "-device", "cpu"]
    code = (
        "import sys, lstlm\n"
        f"assert lstlm.main({flags}) == 0\n"
        "print(lstlm.__file__, *({'torch._dynamo', 'sympy'} & {*sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**ONE_THREAD, "PYTHONPATH": str(CODE)}, cwd=tmp_path,
        capture_output=True, text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "tokens: the cat"
    assert lines[-1] == str(COURSE_FILE)
