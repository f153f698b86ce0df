"""The notebook runs from top to bottom, here with a tiny model on a few transcripts."""

import json
import shlex
import tarfile
from pathlib import Path

import nbformat
import pytest
from hw4lib.data.npy_files import SAMPLE
from hw4lib.data.text import pieces, read_units
from nbconvert.preprocessors import ExecutePreprocessor

HW4P1 = Path(__file__).resolve().parent.parent
TINY = (
    "--run notebook --resume --epochs 2 --set tokenization.token_type=1k --set data.batch_size=8 "
    "--set model.d_model=16 --set model.d_ff=32"
)


def test_the_notebook_is_kept_without_outputs_and_can_be_parsed():
    notebook = nbformat.read(HW4P1 / "HW4P1_nb.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            compile(cell.source, "cell", "exec")


@pytest.mark.thorough
def test_the_notebook_runs_from_top_to_bottom(write_transcripts, tmp_path, monkeypatch):
    texts = [piece for story in read_units(SAMPLE / "valid.tokens")[:12] for piece in pieces(story)]
    for partition, part in (("train", texts[:-16]), ("val", texts[-16:-8]), ("test", texts[-8:])):
        data = write_transcripts(part, partition)
    monkeypatch.setenv("HW4P1_OPTIONS", f"{TINY} --data {shlex.quote(str(data))}")
    monkeypatch.setenv("PYTHONPATH", str(HW4P1))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as in conftest.py, for the process of the kernel
    notebook = nbformat.read(HW4P1 / "HW4P1_nb.ipynb", as_version=4)
    # Raises on an error.
    ExecutePreprocessor(timeout=600).preprocess(notebook, {"metadata": {"path": str(tmp_path)}})

    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    pictures = [
        output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 4
    with tarfile.open(tmp_path / "handin.tar") as tar:
        metrics = json.load(tar.extractfile("handin/test_metrics.json"))
        assert "handin/mytorch/nn/linear.py" in tar.getnames()
    assert 1 < metrics["perplexity_char"] < 50
