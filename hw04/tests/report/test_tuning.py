"""The search for good settings: it goes on, prunes, and is judged on stories it never saw."""

import contextlib
import io
import json
from dataclasses import replace

import optuna
import pytest
import store
import tuning
from plans import PLANS
from runner import PROGRAMS, Experiment

SEARCHES = tuning.SEARCHES


@pytest.fixture
def few(data, monkeypatch):
    """Few stories and small models, so that a trial is a second."""
    monkeypatch.setattr(tuning, "CUT", (8, 3))

    def flags(trial) -> str:
        B = trial.suggest_int("B", 2, 4)
        return f"-VSize 60 -H 1 -N 8 -EDim {8 * trial.suggest_int('EDim', 1, 2)} -E 1 -B {B}"

    monkeypatch.setitem(tuning.SEARCHES, "lstm", ("lstlm", flags))
    return data


@pytest.fixture
def quick(few, in_process, monkeypatch):
    """Trials run in this process."""

    def reports(command, threads):
        program = next(one for one in PROGRAMS.values() if one.__file__ == command[1])
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            assert program.main(command[2:]) == 0
        yield from tuning.read_figures(printed.getvalue().splitlines())

    monkeypatch.setattr(tuning, "reports", reports)
    return few


def trial_with(value: float):
    """A trial of which every number is as near `value` (0 to 1) in its range as it can be."""
    class Fixed:
        def suggest_int(self, name, low, high, step=1):
            return low + round(value * (high - low) / step) * step

        def suggest_float(self, name, low, high, **_):
            return low + value * (high - low)

        def suggest_categorical(self, name, choices):
            return choices[round(value * (len(choices) - 1))]
    return Fixed()


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("value", [0, 0.3, 1])
def test_every_point_is_a_command_line_of_its_program(name, value):
    program, flags_of = SEARCHES[name]
    flags = ["-train", "-seed", "0", *flags_of(trial_with(value)).replace("BASE", "m.pt").split()]
    assert PROGRAMS[program].parse_args(flags).B in (4, 8, 16, 32)


@pytest.mark.parametrize("batch", [4, 8, 16, 32])
def test_trials_are_compared_by_quarters_of_an_epoch_whatever_their_minibatches(
    batch, tmp_path, monkeypatch
):
    corpus = tmp_path / "corpus"
    corpus.write_text("a story\n" * 3000)
    monkeypatch.setattr(Experiment, "corpus", lambda self, part, stories: corpus)
    monkeypatch.setattr(tuning, "remove", lambda experiment: None)
    steps = -(-3000 // batch)

    def reports(command, threads):  # when lstlm.py looks at the valid loss, in three epochs
        every = int(command[command.index("-valid_every") + 1])
        yield 1000
        for step in range(1, 3 * steps + 1):
            if step % every == 0 or step % steps == 0:
                yield step, 1.0

    monkeypatch.setattr(tuning, "reports", reports)
    seen = []
    trial = trial_with(0.5)
    trial.params = {"B": batch}
    trial.number = 0
    trial.report = lambda loss, quarters: seen.append(quarters)
    trial.should_prune = lambda: False
    trial.set_user_attr = lambda *_: None
    assert tuning.objective(trial, "lstm", tmp_path, 1) == 1.0
    assert seen == list(range(1, 13))


def test_a_search_goes_on_and_keeps_the_best(quick):
    first = tuning.search("lstm", quick, 2, 1)
    again = tuning.search("lstm", quick, 3, 1)
    assert [row["number"] for row in again["trials"]] == [0, 1, 2]
    assert again["trials"][:2] == first["trials"]
    best = min(again["trials"], key=lambda row: row["valid_nats"])
    assert {key: again["best"][key] for key in best} == best
    assert 1 < again["best"]["test"]["ppl"] < 60
    assert best["parameters"] > 60 * 8
    assert json.loads((store.RESULTS / "searches" / "lstm.json").read_text()) == again


@pytest.mark.thorough
def test_trials_are_processes_of_their_own(few):
    record = tuning.search("lstm", few, 2, 1)
    assert [row["state"] for row in record["trials"]] == ["complete"] * 2
    assert record["best"]["test"]["ppl"] > 1


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_search_that_goes_on_draws_new_points(few):
    drawn = []
    for _ in range(3):
        study = tuning.open_study("lstm")  # as each call of the program does
        trial = study.ask()
        drawn.append(trial.suggest_float("lr", 0, 1))
        study.tell(trial, 1.0)
    assert len({*drawn}) == 3


def test_no_trial_may_be_larger_than_base():
    stored = json.loads((store.RESULTS / "small" / "base.0.json").read_text())
    assert stored["parameters"] == tuning.PARAMETERS


def test_too_large_a_model_is_no_trial(few, monkeypatch):
    monkeypatch.setattr(tuning, "PARAMETERS", 100)
    record = tuning.search("lstm", few, 1, 1)
    assert [row["state"] for row in record["trials"]] == ["pruned"]
    assert "best" not in record
    assert not list(store.BUILD.glob("tune-lstm-0*"))


def test_a_hopeless_trial_is_pruned(quick, monkeypatch):
    class Hopeless(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return trial.number == 1

    monkeypatch.setattr(optuna.pruners, "MedianPruner", lambda **_: Hopeless())
    record = tuning.search("lstm", quick, 2, 1)
    assert [row["state"] for row in record["trials"]] == ["complete", "pruned"]
    assert record["best"]["number"] == 0


def test_a_training_that_fails_is_told(few, monkeypatch):
    wrong = ("lstlm", lambda trial: f"-H 0 -B {trial.suggest_int('B', 1, 1)}")
    monkeypatch.setitem(tuning.SEARCHES, "lstm", wrong)
    with pytest.raises(RuntimeError, match="exit status 2: .*-H 0"):
        tuning.search("lstm", few, 1, 1)


def test_a_search_trains_the_model_whose_vectors_it_needs(quick, planned, monkeypatch):
    base = next(plan for plan in PLANS if plan.name == "base")
    base = replace(base, flags="-VSize 60 -H 1 -N 8 -EDim 8 -E 1", stories=(8, 3))
    planned(base)

    def flags(trial) -> str:
        K = trial.suggest_int("K", 1, 2)
        return f"-lstm BASE -K {K} -H 1 -N 8 -E 1 -B {trial.suggest_int('B', 2, 4)}"

    monkeypatch.setitem(tuning.SEARCHES, "feed-forward", ("fflm", flags))
    record = tuning.search("feed-forward", quick, 2, 1)
    assert len(record["trials"]) == 2
    assert record["best"]["test"]["ppl"] > 1
    assert Experiment(base, 0, quick).model.exists()
