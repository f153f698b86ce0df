"""The notebook: stored with its outputs, and run from top to bottom on a small setting."""

import re
from pathlib import Path

import lstlm
import nbformat
import pytest
from nbconvert.preprocessors import ExecutePreprocessor

HW04 = Path(lstlm.__file__).parents[1]
SMALL_ENOUGH = "-model {}/m.pt -H 1 -N 32 -EDim 16 -VSize 500 -B 16 -E 1 -a"


@pytest.fixture
def notebook():
    """The notebook as it is stored."""
    return nbformat.read(HW04 / "lstlm.ipynb", as_version=4)


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(notebook) -> str:
    """All that its cells printed."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def pictures(notebook) -> int:
    """How many pictures its cells drew."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_it_is_stored_as_it_ran_from_top_to_bottom(notebook):
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert kinds == {"stream", "display_data"}  # no error
    assert pictures(notebook) == 3
    names = {output.get("name", "stdout") for cell in cells for output in cell.outputs}
    assert names == {"stdout"}
    assert (HW04 / "lstlm.ipynb").stat().st_size < 500_000


def test_what_it_stores_is_what_the_program_says(notebook):
    """The figures of the sample agree with each other, the shipped model with itself."""
    text = printed(notebook)
    best = re.search(r"best valid loss ([\d.]+) nats", text)[1]
    valid = re.search(r"valid +([\d.]+) nats per token", text)[1]
    assert float(valid) == pytest.approx(float(best), abs=2e-3)  # bfloat16 while training
    assert float(valid) < 2
    shipped = lstlm.load()
    story = shipped.generate("once upon a time", max_tokens=120, temperature=0.7, seed=5)
    assert story in text


@pytest.mark.thorough
def test_it_runs_from_top_to_bottom(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("LSTLM_OPTIONS", SMALL_ENOUGH.format(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for cell in code_cells(notebook):
        cell.outputs = []
    # Raises on an error, such as weights of attention that are not the model's.
    ExecutePreprocessor(timeout=600).preprocess(notebook, {"metadata": {"path": str(HW04)}})
    text = printed(notebook)
    assert pictures(notebook) == 3
    perplexity = re.search(r"test +[\d.]+ nats per token, perplexity ([\d.]+)", text)[1]
    assert 20 < float(perplexity) < 300
    assert (tmp_path / "m.pt").exists()
