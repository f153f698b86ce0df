"""Two processes that do the same experiments, or the same search, at once."""

import multiprocessing
from dataclasses import replace

import experiments
import pytest
import runner
import store
import tuning
from backstage.errors import UserError
from backstage.files import side_file
from holding import held, start_python
from runner import Experiment

TRY = """
import sys
from pathlib import Path
from backstage.errors import UserError
from backstage.lock import exclusive
try:
    with exclusive(Path(sys.argv[1]), "go away"):
        print("free")
except UserError as error:
    print(error)
"""


@pytest.fixture
def others(data, plan, planned, monkeypatch):
    """Three plans; what is run of them is only noted. Returns the experiments, and the notes."""
    plans = [replace(plan, name=name) for name in ("one", "two", "three")]
    planned(*plans)
    noted = []
    monkeypatch.setattr(Experiment, "run", lambda self, threads: noted.append(self) or self.label)
    return [Experiment(plan, 0, data) for plan in plans], noted


def test_a_run_that_another_process_has_is_refused_and_others_are_not(others, data, capsys):
    (one, two, _), noted = others
    for path in two.corpora():
        path.unlink()  # so that an error would come of looking at them
    with held(side_file(two.model, ".run")) as process:
        for names in ([], ["two"], ["three", "two"]):
            assert experiments.main(["run", "-data", str(data), "-jobs", "2", *names]) == 2
            err = capsys.readouterr().err
            assert f"process {process} works on it (.two.0.run.lock)" in err
            assert len(err.splitlines()) == 1
        assert not noted
        result = {"configuration": one.configuration()}
        store.write_json(one.result, result)
        assert experiments.main(["run", "-data", str(data), "one"]) == 0
    assert not list(store.BUILD.glob(".*"))


def test_all_runs_are_locked_while_one_trains(others, data, monkeypatch):
    (one, two, three), _ = others
    said = []

    def run(self, threads):
        for other in (two, three):
            with start_python(TRY, side_file(other.model, ".run")) as process:
                said.append(process.stdout.read())
        return self.label

    monkeypatch.setattr(Experiment, "run", run)
    assert experiments.main(["run", "-data", str(data), "one", "two"]) == 0
    assert ["works on it" in text for text in said] == [True, False] * 2
    with start_python(TRY, side_file(one.model, ".run")) as process:
        assert process.stdout.read() == "free\n"


def test_what_a_training_writes_that_lost_its_starter_is_not_removed(data, plan, in_process):
    """Its starter was killed, so that only the training itself is there, which is not done."""
    experiment = Experiment(plan, 0, data)
    experiment.run(1)
    mark = runner.mark(experiment.model)
    mark.write_text(mark.read_text().removesuffix(" trained"))
    before = {path: path.read_bytes() for path in store.BUILD.iterdir() if path.is_file()}
    with held(experiment.model) as process:
        with pytest.raises(UserError, match=f"process {process} works on it"):
            experiment.run(1)
        after = {path: path.read_bytes() for path in before}
    assert after == before
    experiment.run(1)


def open_study(barrier) -> None:
    """Open the search as one of several."""
    barrier.wait()
    tuning.open_study("lstm")


def test_several_may_start_a_search_at_once(data):
    """All find the same one, also when its file is not there yet."""
    forks = multiprocessing.get_context("fork")
    barrier = forks.Barrier(4)
    processes = [forks.Process(target=open_study, args=(barrier,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
