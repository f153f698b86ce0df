"""The rates of the report's trainings are those of their own steps."""

import json
from concurrent import futures

import experiments
import lstlm
import pytest
import speeds
from test_experiments import PLAN, data  # noqa: F401 - a fixture


@pytest.fixture
def here(monkeypatch):
    """Trainings run in this process; what `measure` sets in it is set back."""
    class InThisProcess(futures.Executor):
        def __init__(self, processes, context):
            pass

        def submit(self, function, *arguments):
            (future := futures.Future()).set_result(function(*arguments))
            return future

    monkeypatch.setattr(speeds, "ProcessPoolExecutor", InThisProcess)
    monkeypatch.setattr(lstlm.Run, "save_state_if_due", lstlm.Run.save_state_if_due)


def plans(data):  # noqa: F811
    """The baseline, a feed-forward model on its vectors, and a plan of another group, which has no baseline."""
    flags = "-H 1 -N 8 -E 2 -B 2"
    return [experiments.replace(PLAN, name="base", flags=f"{flags} -EDim 8 -VSize 60", stories=(8, 3)),
            experiments.replace(PLAN, name="feed-forward", flags=f"-lstm BASE -K 3 {flags}", stories=(8, 3),
                                program="fflm"),
            experiments.replace(PLAN, group="main", name="more", flags=f"{flags} -EDim 8 -VSize 60")]


def test_a_rate_is_that_of_the_steps_after_the_warm_up(data, here, monkeypatch):  # noqa: F811
    now, steps = [0.0], []
    monkeypatch.setattr(lstlm.time, "perf_counter", lambda: now[0])
    real = lstlm.train_step

    def slow(nats_of, optimizer, parts):  # the first two steps take a hundred seconds each, the others two
        now[0] += 100 if len(steps) < 2 else 2
        steps.append(sum(int(lengths.sum()) for _, _, lengths in parts))
        return real(nats_of, optimizer, parts)

    monkeypatch.setattr(lstlm, "train_step", slow)
    rate = speeds.measure(plans(data)[0], data, data / "build", 2)
    assert len(steps) == 4 and rate["tokens_per_s"] == pytest.approx((steps[2] + steps[3]) / 4, abs=0.051)
    assert rate["name"] == "base" and (data / "build" / "base.0.pt").exists()


@pytest.fixture
def main(data, here, monkeypatch):  # noqa: F811
    """Calls the program for the first so many of `plans`; returns what it has stored."""
    def call(count: int) -> dict:
        monkeypatch.setattr(speeds, "PLANS", plans(data)[:count])
        monkeypatch.setattr(speeds, "STEPS", {"main": 2, "small": 2})
        monkeypatch.setattr(speeds, "RESULTS", data / "results")
        monkeypatch.setattr("sys.argv", ["speeds.py", "-data", str(data)])
        speeds.main()
        return json.loads((data / "results" / "speeds.json").read_text())

    return call


def test_the_rates_of_all_are_stored_and_base_comes_twice(main):
    stored = main(2)
    assert [row["name"] for row in stored["rates"]] == ["base", "feed-forward", "base"]
    assert all(row["tokens_per_s"] > 0 for row in stored["rates"])
    assert stored["rates"][1]["precision"] == "float32"  # fflm.py has no other


def test_only_what_is_new_is_measured_and_on_the_same_machine(main, data, capsys):  # noqa: F811
    before = main(2)
    assert main(2) == before
    after = main(3)
    assert [row["name"] for row in after["rates"]] == ["base", "feed-forward", "base", "more"]
    assert after["rates"][:3] == before["rates"]
    elsewhere = {**before, "machine": {**before["machine"], "processor": "another"}}
    (store := data / "results" / "speeds.json").write_text(json.dumps(elsewhere))
    assert main(2) == elsewhere
    with pytest.raises(SystemExit):
        main(3)
    assert "speeds.json: of another machine" in capsys.readouterr().err and json.loads(store.read_text()) == elsewhere


def test_a_training_that_fails_or_is_too_short_is_no_rate(data, here):  # noqa: F811
    with pytest.raises(SystemExit, match="exit status 0, and fewer than 200 steps"):
        speeds.measure(plans(data)[0], data, data / "build", 100)
