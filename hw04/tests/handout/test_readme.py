"""README.md and docs/*.md: what they name exists, what they show is so, and their code runs."""

import contextlib
import functools
import io
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import lstlm
import pytest

ROOT = next(at for at in Path(__file__).resolve().parents if (at / "pyproject.toml").exists())
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))
ALL = [README, *PAGES]
NAMES = [str(page.relative_to(ROOT)) for page in ALL]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PARTS = ("hw04", "hw4p1", "bench", "docs", "classroom")
PATH = re.compile(r"(hw04|hw4p1|bench|docs|classroom)/[\w./-]*|requirements[\w-]*\.txt")
# Data to fetch, and what the program writes: git ignores it, and it need not be there.
WRITTEN = re.compile(r"hw04/data/(tiny|wiki|glove\.6B)\b|hw04/code/lm_model\.(prev|train)\.\w+$")


def prose(text: str) -> str:
    """A page without its code blocks."""
    return FENCE.sub("", text)


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(path.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def section(title: str) -> str:
    """One section of the README."""
    rest = README.read_text("utf-8").split(f"\n## {title}\n")[1]
    return rest.split("\n## ")[0]


def commands(text: str) -> list[list[str]]:
    """The command lines of a page, in blocks and in code spans, each as words."""
    blocks = "\n".join(body for language, body in FENCE.findall(text) if language in ("", "sh"))
    lines = blocks.replace("\\\n", " ").splitlines() + SPAN.findall(prose(text))
    found = []
    for line in lines:
        with contextlib.suppress(ValueError):  # half of a quotation: no command
            found.append(shlex.split(line.removeprefix("$ "), comments=True))
    return found


@functools.cache
def flags_of(program: str) -> set[str]:
    """The flags of a program of the repository."""
    if program == "lstlm.py":
        return {*lstlm.make_parser(program, "", lstlm.MODES)._option_string_actions}
    sources = [path for part in PARTS for path in (ROOT / part).glob(f"**/{program}")]
    assert sources, f"no {program} in the repository"
    text = "".join(path.read_text("utf-8") for path in sources)
    found = {*re.findall(r"""["'](--?[A-Za-z][\w-]*)["']""", text), "-h"}
    return found | (flags_of("lstlm.py") if program == "fflm.py" else set())


def functions() -> set[str]:
    """All functions of the course file, of what it stands on, and of the report."""
    code = ROOT / "hw04" / "code"
    sources = [code / "lstlm.py", *code.glob("backstage/**/*.py"), *ROOT.glob("hw04/report/*.py")]
    text = "\n".join(path.read_text("utf-8") for path in sources)
    return {*re.findall(r"^ *def (\w+)", text, re.MULTILINE)}


def marked(mark: str) -> str:
    """The block of the README that stands right after this comment."""
    block = rf"^<!-- {re.escape(mark)} -->\n```python\n(.*?)^```$"
    blocks = re.findall(block, README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1, f"{mark}: {len(blocks)} blocks"
    return blocks[0]


def test_length():
    lines = README.read_text("utf-8").splitlines()
    assert len(lines) <= 160
    assert not [line for line in lines if len(line) > 120 and not line.startswith("|")]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_first_sentence_says_who_needs_the_page(page):
    first = page.read_text("utf-8").splitlines()[0]
    assert first.startswith("This page is for ")
    assert f"(docs/{page.name}" in README.read_text("utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_links(name):
    page = ROOT / name
    for link in LINK.findall(prose(page.read_text("utf-8"))):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists() and target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("name", NAMES)
def test_files(name):
    words = {word for words in commands((ROOT / name).read_text("utf-8")) for word in words}
    for word in filter(PATH.fullmatch, words):
        assert WRITTEN.match(word) or (ROOT / word).exists(), word


@pytest.mark.parametrize("name", NAMES)
def test_make_targets(name):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for words in commands((ROOT / name).read_text("utf-8")):
        if words[:1] == ["make"]:
            assert {word for word in words[1:] if "=" not in word} <= {*targets}, words


@pytest.mark.parametrize("name", NAMES)
def test_flags(name):
    for words in commands((ROOT / name).read_text("utf-8")):
        at = next((i for i, word in enumerate(words) if word.endswith(".py")), None)
        if at is not None:
            flags, known = words[at:], flags_of(words[at].rpartition("/")[2])
        elif words and words[0].startswith("-"):  # flags by themselves
            flags, known = words, flags_of("lstlm.py") | flags_of("get_data.py")
        else:
            continue
        assert {word for word in flags if re.match(r"--?[A-Za-z]", word)} <= known, words


def test_functions():
    named = re.findall(r"`(?:\w+\.)*(\w+)\(\)`", section("The handout, item by item"))
    assert len(named) > 8
    assert {*named} <= functions()


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_module(name):
    used = {*re.findall(r"\blstlm\.(?!(?:py|ipynb|html)\b)(\w+)", (ROOT / name).read_text("utf-8"))}
    assert not [one for one in used if not hasattr(lstlm, one)]


def test_code_is_that_of_the_file():
    block = textwrap.dedent(marked("code: hw04/code/lstlm.py")).splitlines()
    file = (ROOT / "hw04" / "code" / "lstlm.py").read_text("utf-8").splitlines()
    assert 12 <= len(block) <= 20
    runs = (file[i : i + len(block)] for i in range(len(file) - len(block) + 1))
    assert any(textwrap.dedent("\n".join(run)).splitlines() == block for run in runs)


def test_lines_from_python_run(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    lines = marked("run")
    assert len(lines.splitlines()) <= 8
    names = {}
    exec(compile(lines, "README.md", "exec"), names)
    assert capsys.readouterr().out.strip()
    model = names["model"]
    story = model.generate("once upon a time", max_tokens=10, seed=1)
    assert story == model.generate("once upon a time", max_tokens=10, seed=1) and model.seed == 1
    assert not story.lower().startswith("once upon")
    words = model.next_words("one day , a bird", 3)
    assert [word for word, _ in words] == ["named", "was", "and"]
    assert words[0][1] == pytest.approx(0.639, abs=0.002)
    text = "the cat sat on the mat ."
    tokens = [token for token, _ in model.surprise(text)]
    assert tokens[: len(text.split())] == text.split()


@pytest.mark.parametrize("name", NAMES)
def test_shown_output_is_what_is_printed(name, monkeypatch):
    """Blocks that show `-use` or `-prompt` with the shipped model; a cut is `...` or `[...]`."""
    monkeypatch.chdir(ROOT)
    text = (ROOT / name).read_text("utf-8").replace("\\\n", " ")
    blocks = [body for _, body in FENCE.findall(text)]
    runs = [run for block in blocks for run in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    for run in runs:
        command, _, shown = run.partition("\n")
        words = shlex.split(command)
        if not {"-use", "-prompt"} & {*words}:
            continue
        with contextlib.redirect_stdout(io.StringIO()) as output:
            assert lstlm.main([*words[2:], "-device", "cpu"]) == 0
        printed = " ".join(output.getvalue().split())
        parts = re.split(r"^\.\.\.$|\[\.\.\.\]", shown, flags=re.MULTILINE)
        assert all(" ".join(part.split()) in printed for part in parts), command


def test_the_program_names_sections_that_there_are():
    """Messages of the program that send a person to a section of the README."""
    sources = [ROOT / "hw04/code/lstlm.py", *(ROOT / "hw04/code").glob("backstage/**/*.py")]
    for source in sources:
        for title in re.findall(r"README\.md, '([^']+)'", source.read_text("utf-8")):
            assert section(title)


def test_the_tables_of_the_benchmarks_are_those_of_their_results():
    command = [sys.executable, ROOT / "bench" / "tables.py", "-check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
