#!/usr/bin/env python3
"""Join lstlm.py and all that it stands on into one file, which runs by itself anywhere.

    python single.py            # writes build/lstlm.py
    python single.py FILE

The modules of code/backstage/ come first, each after those that it needs, then lstlm.py. Imports
come once, at the top; no two modules have a name in common, so that nothing else need change but
the folder in which defaults are looked for: that of the file. The sources stay what one reads.
"""

import ast
import sys
from pathlib import Path

HW04 = Path(__file__).resolve().parent
CODE = HW04 / "code"
sys.path.append(str(CODE))
from backstage.errors import UserError  # noqa: E402 - found by the line above
from backstage.files import atomic_write  # noqa: E402
from backstage.parser import Parser  # noqa: E402
from backstage.shell import guarded  # noqa: E402

# Where the modules find their folder, and what takes its place in the one file.
FOLDERS = {
    "CODE = Path(__file__).resolve().parent.parent": "CODE = Path(__file__).resolve().parent",
    "HW04 = CODE.parent": "HW04 = CODE",
}


class Module:
    """A source file, taken apart."""

    def __init__(self, path: Path):
        self.path = path
        self.lines = path.read_text(encoding="utf-8").splitlines()
        body = ast.parse("\n".join(self.lines)).body
        self.summary = body[0].value.value.splitlines()[0]
        imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
        self.needs = [node.module for node in imports if is_backstage(node)]
        self.imports = imported([node for node in imports if not is_backstage(node)])
        # Where lstlm.py imports the packages: it comes before all that needs one.
        self.guard = next((node for node in body if isinstance(node, ast.With)), None)
        dropped = [body[0], *imports, *([self.guard] if self.guard else [])]
        gone = {line for node in dropped for line in range(node.lineno, node.end_lineno + 1)}
        kept = [line for number, line in enumerate(self.lines, 1) if number not in gone]
        self.body = "\n".join(line for line in kept if not line.startswith("#!")).strip("\n")

    def text(self, node: ast.stmt) -> str:
        """The lines of a statement."""
        return "\n".join(self.lines[node.lineno - 1 : node.end_lineno])


def imported(nodes: list[ast.stmt]) -> set[tuple[str, str]]:
    """What statements import: a module with "", or a module and a name of it."""
    found = set()
    for node in nodes:
        for alias in node.names:
            name = alias.name if alias.asname is None else f"{alias.name} as {alias.asname}"
            if isinstance(node, ast.Import):
                found.add((name, ""))
            else:
                found.add((node.module, name))
    return found


def written(imports: set[tuple[str, str]]) -> str:
    """Import statements for all of these, one for each module."""
    names: dict[str, list[str]] = {}
    for module, name in sorted(imports):
        names.setdefault(module, []).append(name)
    lines = []
    for module, wanted in sorted(names.items()):
        if "" in wanted:
            lines.append(f"import {module}")
        if any(wanted):
            lines.append(f"from {module} import {', '.join(filter(None, wanted))}")
    return "\n".join(lines)


def is_backstage(node: ast.stmt) -> bool:
    """Whether a statement imports from one of our modules."""
    return isinstance(node, ast.ImportFrom) and node.module.startswith("backstage.")


def ordered(name: str, modules: dict[str, Module], done: list[str]) -> list[str]:
    """`done` with the module of this name behind all that it needs."""
    if name not in done:
        for needed in modules[name].needs:
            ordered(needed, modules, done)
        done.append(name)
    return done


def joined() -> str:
    """The text of the one file."""
    paths = sorted((CODE / "backstage").glob("*.py"))
    modules = {
        f"backstage.{path.stem}": Module(path) for path in paths if path.stem != "__init__"
    }
    stage = Module(CODE / "lstlm.py")
    order = ordered("backstage.shell", modules, [])  # of which `guard` has a function
    first = len(order)
    for name in stage.needs:
        ordered(name, modules, order)
    imports = stage.imports.union(*(modules[name].imports for name in order))
    guarded_imports = imported(stage.guard.body)
    standard = {pair for pair in imports if pair[0].split(".")[0] in sys.stdlib_module_names}
    sections = [section(name, modules[name]) for name in order]
    parts = [
        header(stage), written(standard), *sections[:first], stage.text(stage.guard),
        written(imports - standard - guarded_imports), *sections[first:],
    ]
    text = "\n\n\n".join([*parts, f"# ==== lstlm.py\n\n{stage.body}"]) + "\n"
    for old, new in FOLDERS.items():
        if text.count(old) != 1:
            raise UserError(f"{CODE}: the line '{old}' should be there once; mend single.py")
        text = text.replace(old, new)
    return text


def section(name: str, module: Module) -> str:
    """What the one file has of a module, under its name."""
    return f"# ==== {name.replace('.', '/')}.py: {module.summary}\n\n{module.body}"


def header(stage: Module) -> str:
    """The first lines of lstlm.py, to the end of its docstring."""
    end = ast.parse("\n".join(stage.lines)).body[0].end_lineno
    note = "# Made by hw04/single.py of hw04/code: read and change those files, not this one."
    return "\n".join([stage.lines[0], note, *stage.lines[1:end]])


def main() -> None:
    """Write the one file."""
    parser = Parser("single.py", __doc__)
    default = HW04.parent / "build" / "lstlm.py"
    parser.add_argument(
        "file", nargs="?", type=Path, default=default, help="to write (default build/lstlm.py)"
    )
    path = parser.parse_args().file
    if path.is_dir():
        raise UserError(f"{path}: a folder; name a file")
    text = joined()
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda file: file.write(text.encode()))
    print(f"{path}: {text.count(chr(10)):,} lines")


if __name__ == "__main__":
    sys.exit(guarded("single.py", main))
