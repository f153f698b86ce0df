"""The recogniser's notebook: stored with its outputs, and run on a tiny model and a few texts."""

import re
import shlex
from pathlib import Path

import nbformat
import pytest
from nbconvert.preprocessors import ExecutePreprocessor
from tests.asr.small import FRAMES, TEXTS, features_of, write_partition

HW4P1 = Path(__file__).resolve().parents[2]
TINY = (
    "--run notebook2 --resume --epochs 2 --set tokenization.token_type=char --set data.batch_size=2"
    " --set model.d_model=8 --set model.d_ff_encoder=12 --set model.d_ff_decoder=12"
    " --set model.reduction_method=lstm --set data.num_feats=8 --set model.input_dim=8"
)
PICTURES = 4  # an utterance with the statistics, the schedule, losses, alignments


@pytest.fixture
def notebook():
    """The notebook as it is stored."""
    return nbformat.read(HW4P1 / "HW4P2_nb.ipynb", as_version=4)


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
    names = {output.get("name", "stdout") for cell in cells for output in cell.outputs}
    assert names == {"stdout"}
    assert pictures(notebook) == PICTURES
    assert (HW4P1 / "HW4P2_nb.ipynb").stat().st_size < 600_000


def test_what_it_stores_is_what_the_page_says_of_such_models(notebook):
    """It is of the setting of make demo-speech, which leaves less than a fifth wrong."""
    text = printed(notebook)
    rates = [float(rate) for rate in re.findall(r"([\d.]+) % of characters and", text)]
    assert len(rates) == 2  # greedily, and with beams and CTC
    assert 5 < rates[1] < rates[0] < 20
    assert "submission.csv: 80 texts" in text


@pytest.mark.thorough
def test_it_runs_from_top_to_bottom(notebook, tmp_path, monkeypatch):
    data = tmp_path / "data"
    for seed, (partition, texts) in enumerate(
        {"train-clean-100": TEXTS, "dev-clean": TEXTS[:2], "test-clean": TEXTS[::-1][:3]}.items()
    ):
        write_partition(data, partition, texts, features_of(FRAMES[: len(texts)], seed=seed))
    monkeypatch.setenv("HW4P2_OPTIONS", f"{TINY} --data {shlex.quote(str(data))}")
    monkeypatch.setenv("PYTHONPATH", str(HW4P1))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for cell in code_cells(notebook):
        cell.outputs = []
    # Raises on an error.
    ExecutePreprocessor(timeout=600).preprocess(notebook, {"metadata": {"path": str(tmp_path)}})
    assert pictures(notebook) == PICTURES
    assert re.search(r"test-clean, 3 utterances: [\d.]+ % of characters", printed(notebook))
    rows = (tmp_path / "submission.csv").read_text().splitlines()
    assert rows[0] == "id,transcription"
    assert len(rows) == 4
