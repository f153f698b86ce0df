"""What all tests of hw4p1 share."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import make_data
import numpy as np
import pytest
import run_lm
import torch
import yaml
from hw4lib.config import load_config
from hw4lib.data import H4Tokenizer, LMDataset
from hw4lib.model import DecoderOnlyTransformer
from hw4lib.trainers import LMTrainer
from tests.other_device import other_device
from tests.tiny import SMALL, TEXTS, write_data
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

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


@pytest.fixture(scope="session")
def trained_runs(tmp_path_factory) -> Path:
    """A folder with data, small.yaml and a run `lm` of two epochs: not to be changed."""
    folder = tmp_path_factory.mktemp("trained_runs")
    write_data(folder / "data")
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
    before = Path.cwd()
    os.chdir(folder)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(LMTrainer, "_save_attention_plot", lambda *args: None)
            assert run_lm.main(["train", "--config", "small.yaml", "--data", "data"]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def begun(tmp_path, monkeypatch) -> Path:
    """A current folder with data and small.yaml; no pictures are drawn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(LMTrainer, "_save_attention_plot", lambda *args: None)
    write_data(tmp_path / "data")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    return tmp_path


@pytest.fixture
def trained_run(trained_runs, tmp_path, monkeypatch) -> Path:
    """A copy of that folder, as the current one."""
    monkeypatch.setattr(LMTrainer, "_save_attention_plot", lambda *args: None)
    shutil.copytree(trained_runs, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fails(capsys):
    """A function that gives the message of a command of run_lm.py: one line, with status 2."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        assert run_lm.main([*arguments]) == 2
        err = capsys.readouterr().err
        last = err.strip().splitlines()[-1]
        assert last.startswith("run_lm.py: error: ") and "Traceback" not in err
        return last

    return run


@pytest.fixture
def says(capsys):
    """A function that gives what a command of run_lm.py prints, which ends well."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        assert run_lm.main([*arguments]) == 0
        return capsys.readouterr().out

    return run


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


@pytest.fixture
def lab(tmp_path, monkeypatch, tokenizers):
    """What the tests need, in a folder of their own: `lab.loader(...)`, `lab.trainer(...)`."""
    monkeypatch.chdir(tmp_path)
    for partition in ("train", "val"):
        (tmp_path / "data" / partition).mkdir(parents=True)
        for i, text in enumerate(TEXTS):
            np.save(tmp_path / "data" / partition / f"{i}.npy", np.array(text))

    def loader(batch_size=3, token_type="char", partition="train", shuffle=False):
        dataset = LMDataset(
            partition, {"root": str(tmp_path / "data"), "subset": 1.0}, tokenizers[token_type]
        )
        return DataLoader(dataset, batch_size, shuffle, collate_fn=dataset.collate_fn)

    def trainer(
        run="run", token_type="char", dtype=torch.float64, optimizer=True, model=None, plots=False,
        device="cpu",
        **training,
    ):
        config = load_config()
        config["data"]["batch_size"] = 3
        config["training"].update(training)
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        torch.manual_seed(1)
        options = model or {}
        size = {
            "num_layers": 2, "d_model": 8, "num_heads": 2, "d_ff": 16, "dropout": 0.0,
            "max_len": 60,
        }
        net = DecoderOnlyTransformer(
            **{**size, **options}, num_classes=tokenizers[token_type].vocab_size
        ).to(dtype)
        made = LMTrainer(net, tokenizers[token_type], config, run, tmp_path / "config.yaml", device)
        made.precision = torch.float32  # no autocast, so that results can be compared
        if not plots:  # which take most of the time
            made._save_attention_plot = lambda weights, epoch, attn_type: None
        if optimizer:
            made.optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
            made.scheduler = LambdaLR(made.optimizer, lambda step: 1 / (1 + step))
        return made

    return SimpleNamespace(loader=loader, trainer=trainer, path=tmp_path)
