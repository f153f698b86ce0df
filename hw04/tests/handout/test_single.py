"""The one file that `make single` makes: it runs by itself, from any folder, and says the same."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import lstlm
import pytest
import single

HW04 = Path(lstlm.__file__).parent.parent
SHIPPED = ["-model", str(HW04 / "code" / "lm_model.pt")]
VALID = str(HW04 / "data" / "sample" / "valid.tokens")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The one file, in a folder with nothing else."""
    path = tmp_path_factory.mktemp("single") / "lstlm.py"
    path.write_text(single.joined(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def program(path):
    """The one file as a module."""
    spec = importlib.util.spec_from_file_location("single_lstlm", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["single_lstlm"] = module  # dataclasses look there for the types of their fields
    spec.loader.exec_module(module)
    yield module
    del sys.modules["single_lstlm"]


def printed(main, capsys, *flags: str) -> str:
    """What a command prints on standard output."""
    assert main([*flags]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("flags", [
    ["-use", "-greedy", "-text", "one day , a bird"],
    ["-prompt", "-seed", "3", "-max_tokens", "20", "-text", "once upon a time"],
])
def test_it_says_what_the_source_says(program, capsys, flags):
    ours = printed(program.main, capsys, *flags, *SHIPPED)
    assert ours == printed(lstlm.main, capsys, *flags, *SHIPPED)


def test_it_trains_and_evaluates(program, capsys, tmp_path):
    small = ["-H", "1", "-N", "8", "-EDim", "4", "-VSize", "50", "-B", "4", "-E", "1"]
    corpus = tmp_path / "corpus"
    corpus.write_text("a small owl could not sleep .\na fox lost his red hat .\n" * 4)
    corpora = ["-train_corpus", str(corpus), "-valid_corpus", str(corpus)]
    for name, main in (("single", program.main), ("source", lstlm.main)):
        model = tmp_path / f"{name}.pt"
        assert main(["-train", *corpora, *small, "-model", str(model)]) == 0
        test = ["-evaluate", "-json", "-model", str(model), "-test_corpus", str(corpus)]
        capsys.readouterr()
        assert main(test) == 0
        nats = json.loads(capsys.readouterr().out)["nats"]
        model.with_suffix(".nats").write_text(repr(nats))
    ours, source = ((tmp_path / f"{name}.nats").read_text() for name in ("single", "source"))
    assert ours == source


def test_it_asks_for_what_is_not_beside_it(path, tmp_path):
    bare = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for flags, asked in (
        (["-use", "-text", "a"], "name another with -model"),
        (["-train", "-EDim", "4"], "name yours with -train_corpus and -valid_corpus"),
    ):
        command = [sys.executable, str(path), *flags]
        done = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert asked in done.stderr


def test_help_says_where_it_looks_for_files(program, capsys):
    for main, place in ((program.main, "data"), (lstlm.main, os.path.join("..", "data"))):
        with pytest.raises(SystemExit):
            main(["-h"])
        assert f"defaults are beside lstlm.py or in {place}, from" in capsys.readouterr().out


def definitions(path: Path) -> set[str]:
    """The functions and classes of a file, whole."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {ast.dump(node) for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_all_that_the_sources_define_is_in_it(path):
    sources = [*(HW04 / "code" / "backstage").glob("*.py"), HW04 / "code" / "lstlm.py"]
    assert definitions(path) == set().union(*map(definitions, sources))
