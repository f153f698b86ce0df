"""Modules of the second assignment without the functions that a student is to write."""

import ast
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

from backstage.errors import UserError
from parts import Part

DEFINITIONS = (ast.FunctionDef, ast.ClassDef)
PLAIN = (ast.Name, ast.Attribute, ast.Constant)


def emptied_module(path: Path, part: Part) -> str:
    """The text of a part's module: its functions empty, others that are not given left out."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    tree = ast.parse("".join(lines))
    found = dict(functions(tree))
    missing = [name for name in (*part.write, *part.given, *part.optional) if name not in found]
    if missing:
        raise UserError(f"hw4p1/{part.file}: no {missing[0]} in it; mend PARTS in parts.py")
    for name, node in sorted(found.items(), key=lambda pair: -pair[1].lineno):
        if name in part.given:
            continue
        if name in part.write or name in part.optional:
            empty(lines, node, name, part)
        else:
            drop(lines, node)
    classes = {name.partition(".")[0] for name in (*part.write, *part.given)}
    for node in reversed(ast.parse("".join(lines)).body):
        if isinstance(node, ast.ClassDef) and node.name not in classes:
            drop(lines, node)
    return "".join(lines).rstrip("\n") + "\n"


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """The functions of a module, and of its classes as `Class.method`."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef):
                    yield f"{node.name}.{inner.name}", inner


def empty(lines: list[str], node: ast.FunctionDef, name: str, part: Part) -> None:
    """Leave of a function its head, its docstring, and in a constructor what only stores."""
    kept = [statement for statement in node.body[:1] if is_docstring(statement)]
    if node.name == "__init__":
        for statement in node.body[len(kept) :]:
            if not only_stores(statement):
                break
            kept.append(statement)
    begin = kept[-1].end_lineno if kept else node.body[0].lineno - 1
    indent = " " * (node.col_offset + 4)
    new = f'raise NotImplementedError("optional: {name}")\n'
    if name in part.write:
        hint = textwrap.wrap(f"Hint: {part.write[name]}.", 90 - len(indent))
        what = f'raise NotImplementedError("item {part.item}: {name}")\n'
        new = "# YOUR CODE HERE\n" + "".join(f"# {line}\n" for line in hint) + what
    lines[begin : node.end_lineno] = textwrap.indent(new, indent).splitlines(keepends=True)


def is_docstring(statement: ast.stmt) -> bool:
    """Whether a statement is a string by itself."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def only_stores(statement: ast.stmt) -> bool:
    """Whether a constructor's statement calls the parent's, or keeps what it was given."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        return ast.unparse(statement.value.func) == "super().__init__"
    if not isinstance(statement, ast.Assign):
        return False
    values = statement.value.elts if isinstance(statement.value, ast.Tuple) else [statement.value]
    return all(isinstance(value, PLAIN) for value in values)


def drop(lines: list[str], node: ast.FunctionDef | ast.ClassDef) -> None:
    """Remove a definition, its decorators and comments, and the blank lines before them."""
    begin = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
    while begin and (not lines[begin - 1].strip() or lines[begin - 1].lstrip().startswith("#")):
        begin -= 1
    del lines[begin : node.end_lineno]


# ---- Which modules a skeleton needs


def modules_needed(
    root: Path, texts: dict[str, str], replaced: Callable[[str, str], str]
) -> dict[str, str]:
    """`texts` by file name, and with them every module of `root` that they import, directly or not.

    Packages import only what is there then. `replaced` gives a module's text its last form.
    """
    found = {}
    waiting = list(texts)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        text = texts.get(name) or (root / name).read_text(encoding="utf-8")
        found[name] = replaced(name, text)
        waiting += imported_modules(root, name, found[name])
    for name in sorted(found):
        found[name] = without_dead_imports(root, name, found[name], found)
    packages = {str(folder) for name in found for folder in Path(name).parents if folder.name}
    for folder in packages:
        name = f"{folder}/__init__.py"
        text = (root / name).read_text(encoding="utf-8")
        found[name] = without_dead_imports(root, name, text, found)
    return found


def imported_modules(root: Path, name: str, text: str) -> list[str]:
    """The files from which a module imports the names that it uses."""
    used = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    files = []
    for node in imports(text):
        names = [alias.name for alias in node.names if (alias.asname or alias.name) in used]
        files += [file for each in names if (file := source_of(root, name, node, each))]
    return files


def imports(text: str) -> list[ast.ImportFrom]:
    """All `from ... import ...` of a module."""
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]


def source_of(root: Path, name: str, node: ast.ImportFrom, imported: str) -> str | None:
    """The file of `root` that defines what a statement in `name` imports; None if it has none."""
    base = root / Path(name).parents[node.level - 1] if node.level else root
    target = base.joinpath(*(node.module or "").split("."))
    for path in (target.with_suffix(".py"), target / f"{imported}.py"):
        if path.is_file():
            return str(path.relative_to(root))
    package = target / "__init__.py"
    if not package.is_file():
        return None
    inner = str(package.relative_to(root))
    for statement in imports(package.read_text(encoding="utf-8")):
        if imported in [alias.asname or alias.name for alias in statement.names]:
            return source_of(root, inner, statement, imported)
    return inner


def without_dead_imports(root: Path, name: str, text: str, found: dict[str, str]) -> str:
    """A module's text without imports, and entries of `__all__`, of what is not in `found`."""
    lines = text.splitlines(keepends=True)
    gone = set()
    for node in sorted(imports(text), key=lambda node: -node.lineno):
        kept = []
        for alias in node.names:
            file = source_of(root, name, node, alias.name)
            if file is None or (file in found and defines(found[file], alias.name, file)):
                kept.append(alias)
            else:
                gone.add(alias.name)
        if len(kept) == len(node.names):
            continue
        node.names = kept
        new = [" " * node.col_offset + ast.unparse(node) + "\n"] if kept else []
        lines[node.lineno - 1 : node.end_lineno] = new
    text = "".join(lines)
    for word in gone:
        text = text.replace(f'"{word}", ', "").replace(f', "{word}"', "")
    return text


def defines(text: str, name: str, file: str) -> bool:
    """Whether a module has a name at its top level; a package has what it imports."""
    if file.endswith(f"/{name}.py"):
        return True
    for node in ast.parse(text).body:
        if isinstance(node, DEFINITIONS) and node.name == name:
            return True
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            words = {n.id for target in targets for n in ast.walk(target) if hasattr(n, "id")}
            if name in words:
                return True
    return False
