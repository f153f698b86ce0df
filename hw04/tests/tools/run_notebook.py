#!/usr/bin/env python3
"""Run a notebook from top to bottom, and store it with its outputs.

    python run_notebook.py                                  # hw04/lstlm.ipynb: some minutes
    python run_notebook.py hw4p1/HW4P2_nb.ipynb

Progress bars are left out, and so are when each cell ran and where this repository is.
"""

import sys
from pathlib import Path

import nbformat
from nbconvert.preprocessors import ExecutePreprocessor

ROOT = Path(__file__).resolve().parents[3]
NOTEBOOK = ROOT / "hw04" / "lstlm.ipynb"


def cleaned(outputs: list) -> list:
    """The outputs of a cell: what was printed in one piece, and nothing of standard error."""
    kept = []
    for output in outputs:
        if output.get("name") == "stderr":
            continue
        if output.output_type == "stream":
            output.text = output.text.replace(f"{ROOT}/", "")
        if kept and output.output_type == kept[-1].output_type == "stream":
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


def main() -> None:
    """Run it and write it."""
    path = Path(*sys.argv[1:]) if sys.argv[1:] else NOTEBOOK
    notebook = nbformat.read(path, as_version=4)
    run = ExecutePreprocessor(timeout=3600, record_timing=False)
    run.preprocess(notebook, {"metadata": {"path": str(path.parent)}})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = cleaned(cell.outputs)
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
