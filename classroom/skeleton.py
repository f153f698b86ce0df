#!/usr/bin/env python3
"""Write what students get: both assignments without the parts that they are to write.

    python classroom/skeleton.py            # into build/skeleton/
    python classroom/skeleton.py -o DIR     # into DIR/hw04 and DIR/hw4p1

The source is the reference itself, so that the two cannot come apart. What is written is new: DIR
must not hold either folder, unless an earlier skeleton made it.
"""

import re
import shutil
import sys
import textwrap
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "hw04" / "code")]
from backstage.errors import UserError  # noqa: E402 - found by the line above
from backstage.parser import Parser  # noqa: E402
from backstage.shell import guarded, importing  # noqa: E402
from emptied import emptied_module, modules_needed  # noqa: E402
from parts import BLOCKS, PARTS, REPLACED, ROOT, Block  # noqa: E402

with importing("skeleton.py", "-r requirements-dev.txt"):
    from grader.public import public_cases

MARK = ".skeleton"  # the file by which a folder is known to be one that this program made
BLOCK = r"(?m)^( *)# YOUR CODE HERE: BEGIN \({item}\)\n(.*?)^ *# YOUR CODE HERE: END\n"
# What the second assignment has beside the parts; modules that they need come with them.
PROGRAMS = ("make_data.py", "train_tokenizers.py", "hw4lib/data/verify_dataloader.py")
REQUIREMENTS = ("requirements.txt", "pyyaml", "tokenizers", "torchinfo", "matplotlib")


# ---- The first assignment


def find_block(source: str, item: str) -> re.Match:
    """The marked block of an item: its indentation is group 1, its lines are group 2."""
    found = list(re.finditer(BLOCK.format(item=item), source, re.DOTALL))
    if len(found) != 1:
        raise UserError(f"lstlm.py: {len(found)} blocks of item {item}; there should be one")
    return found[0]


def with_block(source: str, item: str, lines: str) -> str:
    """The source with these lines, not indented, in the block of an item."""
    found = find_block(source, item)
    lines = textwrap.indent(textwrap.dedent(lines).strip("\n") + "\n", found[1])
    return source[: found.start(2)] + lines + source[found.end(2) :]


def empty_block(block: Block) -> str:
    """What stands in a block before a student fills it."""
    hint = textwrap.wrap("Hint: " + " ".join(block.hint.split()), 76)
    comment = "".join(f"# {line}\n" for line in hint)
    return f'{comment}raise NotImplementedError("item {block.item}: {block.where}")\n'


def without_answers(source: str, items: tuple[str, ...] = ()) -> str:
    """lstlm.py with the blocks of these items empty; by default all."""
    for block in BLOCKS:
        if not items or block.item in items:
            source = with_block(source, block.item, empty_block(block))
    return source


def write_hw04(folder: Path) -> None:
    """The first assignment: course file, backstage, the embedded stories."""
    code = ROOT / "hw04" / "code"
    source = (code / "lstlm.py").read_text(encoding="utf-8")
    put(folder / "code" / "lstlm.py", without_answers(source))
    for path in sorted((code / "backstage").glob("*.py")):
        put(folder / "code" / "backstage" / path.name, path.read_text(encoding="utf-8"))
    data = ROOT / "hw04" / "data"
    for name in ("README.md", "digests.json", "get_data.py"):
        copy(data / name, folder / "data" / name)
    for path in sorted((data / "sample").glob("*.tokens")):
        copy(path, folder / "data" / "sample" / path.name)
    put(folder / "requirements.txt", (ROOT / "requirements.txt").read_text(encoding="utf-8"))


# ---- The second assignment


def write_hw4p1(folder: Path) -> None:
    """The second assignment: the programs, and all modules that they and the parts need."""
    source = ROOT / "hw4p1"
    texts = own_files()
    for part in PARTS:
        if part.file not in texts:
            texts[part.file] = emptied_module(source / part.file, part)
    for name in PROGRAMS:
        texts[name] = (source / name).read_text(encoding="utf-8")
    for name, text in modules_needed(source, texts, replaced).items():
        put(folder / name, text)
    copy(source / "config.yaml", folder / "config.yaml")
    for path in sorted((source / "hw4lib" / "data" / "tokenizer_jsons").glob("*.json")):
        copy(path, folder / path.relative_to(source))
    for path in sorted((ROOT / "hw04" / "data" / "sample").glob("*.tokens")):
        copy(path, folder / "sample" / path.name)
    first, *others = REQUIREMENTS
    needed = (ROOT / first).read_text(encoding="utf-8")
    put(folder / "requirements.txt", needed + "".join(f"{name}\n" for name in others))


def own_files() -> dict[str, str]:
    """What stands in handout/hw4p1/: the frame of a training, and the program."""
    folder = HERE / "handout" / "hw4p1"
    paths = sorted(folder.rglob("*.py"))
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in paths}


def replaced(name: str, text: str) -> str:
    """A module's text with what is different in the skeleton."""
    for old, new in REPLACED.get(name, {}).items():
        if old not in text:
            raise UserError(f"hw4p1/{name}: no '{old}' in it; mend REPLACED in parts.py")
        text = text.replace(old, new)
    return text


# ---- Both


def put(path: Path, text: str) -> None:
    """Write a file, and the folders that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def copy(source: Path, path: Path) -> None:
    """Copy a file's bytes, and make the folders that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(source.read_bytes())


def write_checks(folder: Path, assignment: str) -> None:
    """check.py, what it stands on, and the cases that students get."""
    put(folder / "check.py", (HERE / "handout" / "check.py").read_text(encoding="utf-8"))
    for path in sorted((HERE / "checks").glob("*.py")):
        put(folder / "checks" / path.name, path.read_text(encoding="utf-8"))
    (folder / "checks" / "cases").write_bytes(public_cases(assignment))


def clear(folder: Path) -> None:
    """Remove an earlier skeleton. Raises UserError if the folder holds anything else."""
    if not folder.exists():
        return
    if not (folder / MARK).is_file():
        raise UserError(f"{folder}: not a skeleton that this program made; remove it, or -o DIR")
    shutil.rmtree(folder)


def write_skeleton(out: Path) -> list[Path]:
    """Write both assignments into a folder; returns their own folders."""
    folders = []
    for name, write in (("hw04", write_hw04), ("hw4p1", write_hw4p1)):
        folder = out / name
        clear(folder)
        put(folder / MARK, "made by classroom/skeleton.py\n")
        write(folder)
        write_checks(folder, name)
        put(folder / "README.md", (HERE / "handout" / f"{name}.md").read_text(encoding="utf-8"))
        folders.append(folder)
    return folders


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""

    def run() -> None:
        parser = Parser("skeleton.py", __doc__)
        default = ROOT / "build" / "skeleton"
        what = "where the two folders go (default: %(default)s)"
        parser.add_argument("-o", type=Path, metavar="DIR", default=default, help=what)
        for folder in write_skeleton(parser.parse_args(argv).o):
            files = [path for path in folder.rglob("*") if path.is_file()]
            print(f"{folder}: {len(files)} files")

    return guarded("skeleton.py", run, argv)


if __name__ == "__main__":
    sys.exit(main())
