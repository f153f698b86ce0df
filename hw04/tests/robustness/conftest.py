"""What the tests of robustness share."""

import json
import os
import subprocess
import sys
from pathlib import Path

import backstage.bookkeeping
import lstlm
import pytest
from stopping import write_corpus

KILLING = Path(__file__).parents[1] / "tools" / "killing.py"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a small corpus. Pictures would take longer than all the rest."""
    monkeypatch.setattr(backstage.bookkeeping, "draw_curve", lambda *_: None)
    write_corpus(tmp_path / "corpus")
    return tmp_path


@pytest.fixture(scope="session")
def launch():
    """A function that runs the program in new processes, as a request to tools/killing.py.

    It takes the arguments, the file for the output and more of the request. It returns the exit
    status, negative for a signal; that of each process if the request has `processes`.
    """
    code = str(Path(lstlm.__file__).parent)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": code}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, KILLING], env=environment, **pipes) as process:

        def run(argv: list[str], output: Path, **more) -> int | list[int]:
            request = {"argv": argv, "output": str(output), "save_steps": 2, **more}
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield run
        process.stdin.close()
