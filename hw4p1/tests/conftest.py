"""What all tests of hw4p1 share."""

import os
from pathlib import Path

import hypothesis
import make_data
import numpy as np
import pytest
import torch
from hw4lib.data import H4Tokenizer
from tests.other_device import other_device

# The same examples in each run, and no failure because a machine is busy.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.load_profile("steady")
# The tensors are tiny, and a second thread would only wait for a busy core.
torch.set_num_threads(1)

HW4P1 = Path(__file__).resolve().parent.parent


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """The course's own scripts, if they are put beside these, are run by themselves.

    Python -m tests.<name>.
    """
    if collection_path.suffix != ".py":
        return None
    if "\nfrom tests.testing_framework import" in collection_path.read_text("utf-8"):
        return True
    return None


@pytest.fixture(scope="session")
def token_map() -> dict[str, str]:
    """The committed tokenizers."""
    names = dict(zip(H4Tokenizer.VALID_TYPES, ("char", "1000", "5000", "10000"), strict=True))
    folder = HW4P1 / "hw4lib" / "data" / "tokenizer_jsons"
    return {
        token_type: str(folder / f"tokenizer_{name}.json") for token_type, name in names.items()
    }


@pytest.fixture(scope="session")
def tokenizers(token_map) -> dict[str, H4Tokenizer]:
    """All four."""
    return {
        token_type: H4Tokenizer(token_map, token_type, validate=False) for token_type in token_map
    }


@pytest.fixture(scope="session")
def sample(tmp_path_factory) -> Path:
    """The transcripts of the embedded stories, thousands of files: not to be changed."""
    folder = tmp_path_factory.mktemp("embedded") / "sample"
    assert make_data.main([str(folder), "--sample"]) == 0
    return folder


@pytest.fixture
def write_transcripts(tmp_path):
    """A function that writes texts as <tmp_path>/<partition>/0000.npy ...; returns tmp_path."""

    def write(texts: list[str], partition: str = "train") -> Path:
        (tmp_path / partition).mkdir(exist_ok=True)
        for i, text in enumerate(texts):
            np.save(tmp_path / partition / f"{i:04d}.npy", np.array(text))
        return tmp_path

    return write


@pytest.fixture
def real_data():
    """A function that gives the folder of that name in the one that HW4P1_DATA names.

    Without, the test is skipped.
    """

    def find(name: str) -> Path:
        path = Path(os.environ.get("HW4P1_DATA", "")) / name
        if "HW4P1_DATA" not in os.environ or not path.is_dir():
            pytest.skip(f"HW4P1_DATA names no folder with {name}/ in it")
        return path

    return find


@pytest.fixture(params=["pretended", "cuda"])
def second_device(request):
    """A device whose tensors do not mix with the CPU's.

    The test on a GPU is skipped where there is none.
    """
    if request.param == "pretended":
        with other_device() as device:
            yield device
    elif torch.cuda.is_available():
        yield torch.device("cuda")
    else:
        pytest.skip("PyTorch finds no GPU here")
