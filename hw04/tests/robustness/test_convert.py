"""Models and unfinished runs that torch.save wrote, brought over by convert.py.

`hw04/tests/old` holds those of a program that still did so: an unfinished run, a model of word
pieces and one of fflm.py.
"""

import importlib.util
import io
import pickle
import resource
import shutil
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import fflm
import lstlm
import pytest
import torch
from small import content_of
from stopping import equal_weights, flags, read_weights

HW04 = Path(lstlm.__file__).parents[1]
OLD = HW04 / "tests" / "old"


@pytest.fixture(scope="module")
def convert():
    """The module convert.py."""
    spec = importlib.util.spec_from_file_location("convert", HW04 / "convert.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def old_weights(name: str) -> dict:
    """The weights in a stored old file, which is ours."""
    return torch.load(OLD / name, weights_only=True)["weights"]


@pytest.mark.parametrize(("name", "program"), [("bpe", lstlm), ("fflm", fflm)])
def test_an_old_model_is_refused_with_the_command_that_converts_it(
    convert, tmp_path, capsys, name, program
):
    evaluate = ["-evaluate", "-test_corpus", str(OLD / "corpus"), "-json", "-model"]
    assert program.main([*evaluate, str(OLD / f"{name}.pt")]) == 2
    told = capsys.readouterr().err
    assert f"python hw04/convert.py {OLD / name}.pt NEW" in told
    assert len(told.splitlines()) == 1
    new = tmp_path / f"{name}.pt"
    assert convert.main([str(OLD / f"{name}.pt"), str(new)]) == 0
    assert equal_weights(content_of(new)["weights"], old_weights(f"{name}.pt"))
    assert program.main([*evaluate, str(new)]) == 0
    assert '"n_tokens": 1' in capsys.readouterr().out


def test_an_old_run_is_converted_and_goes_on(convert, folder, capsys):
    """It ends as a run of this program does that was never stopped, but for rounding."""
    here = folder / "old"  # which is the folder's name that the state holds
    here.mkdir()
    for path in OLD.iterdir():
        shutil.copyfile(path, here / path.name)
    assert lstlm.main([*flags(here, "m"), "-resume"]) == 2
    assert f"convert.py {here / 'm.state.pt'} NEW" in capsys.readouterr().err
    assert convert.main([str(here / "m.pt"), str(here / "new.pt")]) == 0
    assert content_of(here / "new.state.pt")["numbers"]["step"] == 5
    assert (here / "new.log.jsonl").read_bytes() == (OLD / "m.log.jsonl").read_bytes()
    assert lstlm.main([*flags(here, "new"), "-resume"]) == 0
    assert lstlm.main(flags(here, "whole")) == 0
    expected = read_weights(here / "whole.pt")
    for name, x in read_weights(here / "new.pt").items():
        torch.testing.assert_close(x, expected[name], rtol=1e-2, atol=1e-3)


def test_what_is_there_is_not_replaced_and_what_is_not_old_is_refused(convert, tmp_path, capsys):
    old = str(OLD / "bpe.pt")
    new = tmp_path / "new.pt"
    (tmp_path / "new.state.pt").write_bytes(b"mine")
    refused = [
        ([old, str(new)], "is there already"),
        ([str(tmp_path / "none.pt"), str(tmp_path / "b.pt")], "no such model"),
        ([old, str(tmp_path / "no" / "b.pt")], "cannot be written"),
        ([str(HW04 / "code" / "lm_model.pt"), str(tmp_path / "b.pt")], "not a file of torch.save"),
        ([old], "the following arguments are required"),
    ]
    for argv, reason in refused:
        assert convert.main(argv) == 2
        told = capsys.readouterr().err
        assert reason in told
        assert told.startswith("convert.py: error: ")
        assert len(told.splitlines()) == 1
    assert (tmp_path / "new.state.pt").read_bytes() == b"mine"
    assert not new.exists()


def text(value: str) -> bytes:
    """A string, pickled."""
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def inflating() -> bytes:
    """A pickle of few bytes whose text is doubled sixty times by what `weights_only` allows."""
    made = text("a" * 64)
    for _ in range(60):
        coding = text("hex" if b"hex" in made or b"utf-8" in made else "utf-8")
        made = b"c_codecs\nencode\n(" + made + coding + b"tR"
    return b"\x80\x02" + made + b"."


class Evil:
    """What makes a folder where it is unpickled."""

    def __reduce__(self):
        return sys.exit, (0,)


@pytest.mark.parametrize(
    "pickled", [inflating(), pickle.dumps({"weights": Evil()}, protocol=2), b"", b"\x80\x02}."],
    ids=["inflating", "code", "empty", "another"],
)
def test_a_hostile_old_file_is_refused_within_limits(convert, tmp_path, capsys, pickled):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("archive/data.pkl", pickled)
        made.writestr("archive/version", b"3\n")
        made.writestr("archive/byteorder", b"little")
    data = file.getvalue()[:-2] + b"\x20\0"
    (tmp_path / "old.pt").write_bytes(data + sha256(data).digest())
    assert convert.main([str(tmp_path / "old.pt"), str(tmp_path / "new.pt")]) == 2
    assert "or damaged" in capsys.readouterr().err
    assert not (tmp_path / "new.pt").exists()
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1_500_000  # kB
