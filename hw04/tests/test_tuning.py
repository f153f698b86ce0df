"""The search for good settings: it goes on where it was, prunes, and is judged on stories that it never saw."""

import json
from dataclasses import replace
from pathlib import Path

import experiments
import optuna
import pytest
import tuning
from test_experiments import data  # noqa: F401 - a fixture


@pytest.fixture
def few(data, monkeypatch):  # noqa: F811
    """Few stories and small models, so that a trial is a second."""
    monkeypatch.setattr(tuning, "CUT", (8, 3))
    monkeypatch.setitem(tuning.SEARCHES, "lstm", ("lstlm", lambda trial: (
        f"-VSize 60 -H 1 -N 8 -EDim {8 * trial.suggest_int('EDim', 1, 2)} -E 1 -B {trial.suggest_int('B', 2, 4)}")))
    return data


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


@pytest.mark.parametrize("name", tuning.SEARCHES)
@pytest.mark.parametrize("value", [0, 0.3, 1])
def test_every_point_is_a_command_line_of_its_program(name, value, tmp_path):
    program, flags_of = tuning.SEARCHES[name]
    flags = ["-train", "-seed", "0", *flags_of(trial_with(value)).replace("BASE", "m.pt").split()]
    assert getattr(experiments, program).parse_args(flags).B in (4, 8, 16, 32)


@pytest.mark.parametrize("batch", [4, 8, 16, 32])
def test_trials_are_compared_by_quarters_of_an_epoch_whatever_their_minibatches(batch, tmp_path, monkeypatch):
    (corpus := tmp_path / "corpus").write_text("a story\n" * 3000)
    monkeypatch.setattr(experiments.Experiment, "corpus", lambda self, part, stories: corpus)
    monkeypatch.setattr(tuning, "remove", lambda experiment: None)
    steps = -(-3000 // batch)

    def reports(command, threads):  # at the steps at which lstlm.py looks at the valid loss, in three epochs
        every = int(command[command.index("-valid_every") + 1])
        yield 1000
        yield from ((step, 1.0) for step in range(1, 3 * steps + 1) if step % every == 0 or step % steps == 0)

    monkeypatch.setattr(tuning, "reports", reports)
    trial, seen = trial_with(0.5), []
    trial.params, trial.number = {"B": batch}, 0
    trial.report, trial.should_prune = lambda loss, quarters: seen.append(quarters), lambda: False
    trial.set_user_attr = lambda *_: None
    assert tuning.objective(trial, "lstm", tmp_path, 1) == 1.0
    assert seen == list(range(1, 13))


def test_a_search_goes_on_and_keeps_the_best(few):
    first = tuning.search("lstm", few, 2, 1)
    again = tuning.search("lstm", few, 3, 1)
    assert [row["number"] for row in again["trials"]] == [0, 1, 2]
    assert again["trials"][:2] == first["trials"]
    best = min(again["trials"], key=lambda row: row["valid_nats"])
    assert {key: again["best"][key] for key in best} == best
    assert 1 < again["best"]["test"]["ppl"] < 60 and best["parameters"] > 60 * 8
    assert json.loads((experiments.RESULTS / "tune-lstm.json").read_text()) == again


def test_a_search_that_goes_on_draws_new_points(few):
    drawn = []
    for _ in range(3):
        study = tuning.open_study("lstm")  # as each call of the program does
        trial = study.ask()
        drawn.append(trial.suggest_float("lr", 0, 1))
        study.tell(trial, 1.0)
    assert len({*drawn}) == 3


def test_no_trial_may_be_larger_than_base():
    stored = json.loads((Path(tuning.__file__).parent / "results" / "base.0.json").read_text())
    assert stored["parameters"] == tuning.PARAMETERS


def test_too_large_a_model_is_no_trial(few, monkeypatch):
    monkeypatch.setattr(tuning, "PARAMETERS", 100)
    record = tuning.search("lstm", few, 1, 1)
    assert [row["state"] for row in record["trials"]] == ["pruned"] and "best" not in record
    assert not list(experiments.BUILD.glob("tune-lstm-0*"))


def test_a_hopeless_trial_is_pruned(few, monkeypatch):
    class Hopeless(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return trial.number == 1

    monkeypatch.setattr(optuna.pruners, "MedianPruner", lambda **_: Hopeless())
    record = tuning.search("lstm", few, 2, 1)
    assert [row["state"] for row in record["trials"]] == ["complete", "pruned"]
    assert record["best"]["number"] == 0


def test_a_training_that_fails_is_told(few, monkeypatch):
    monkeypatch.setitem(tuning.SEARCHES, "lstm", ("lstlm", lambda trial: f"-H 0 -B {trial.suggest_int('B', 1, 1)}"))
    with pytest.raises(RuntimeError, match="exit status 2: .*-H 0"):
        tuning.search("lstm", few, 1, 1)


def test_a_search_trains_the_model_whose_vectors_it_needs(few, monkeypatch):
    base = next(plan for plan in experiments.PLANS if plan.name == "base")
    base = replace(base, flags="-VSize 60 -H 1 -N 8 -EDim 8 -E 1", stories=(8, 3))
    monkeypatch.setattr(experiments, "PLANS", [base])
    monkeypatch.setitem(tuning.SEARCHES, "feed-forward", ("fflm", lambda trial: (
        f"-lstm BASE -K {trial.suggest_int('K', 1, 2)} -H 1 -N 8 -E 1 -B {trial.suggest_int('B', 2, 4)}")))
    record = tuning.search("feed-forward", few, 2, 1)
    assert len(record["trials"]) == 2 and record["best"]["test"]["ppl"] > 1
    assert experiments.Experiment(base, 0, few).model.exists()
