"""The rates of the report's trainings are those of their own steps."""

import json
import time
from concurrent import futures
from dataclasses import replace

import pytest
import store
from backstage.errors import UserError
from backstage.run import Run
from measures import speeds
from plans import PLANS, ROWS


@pytest.fixture
def here(monkeypatch):
    """Trainings run in this process."""

    class InThisProcess(futures.Executor):
        def __init__(self, processes, context):
            pass

        def submit(self, function, *arguments):
            future = futures.Future()
            future.set_result(function(*arguments))
            return future

    monkeypatch.setattr(speeds, "ProcessPoolExecutor", InThisProcess)


@pytest.fixture
def plans(plan, planned):
    """The baseline, a feed-forward model on its vectors, an extension, a plan of another group.

    The latter has no baseline.
    """
    flags = "-H 1 -N 8 -E 2 -B 2"
    base = replace(plan, name="base", flags=f"{flags} -EDim 8 -VSize 60")
    averaging = f"{base.flags} -with averaging"
    made = [
        base,
        replace(plan, name="feed-forward", flags=f"-lstm BASE -K 3 {flags}", program="fflm"),
        replace(plan, name="averaging", flags=averaging, program="literature"),
        replace(base, group="main", name="more", stories=(0, 0)),
    ]
    planned(*made)
    return made


def test_a_rate_is_that_of_the_steps_after_the_warm_up(data, plans, monkeypatch):
    now = [0.0]
    steps = []
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    begin_step = Run.begin_step

    def slow(self, parts):  # the first two steps take a hundred seconds each, the others two
        begin_step(self, parts)
        now[0] += 100 if len(steps) < 2 else 2
        steps.append(self.step_tokens)

    monkeypatch.setattr(Run, "begin_step", slow)
    rate = speeds.measure(plans[0], data, data / "elsewhere", 2)
    assert len(steps) == 4
    assert rate["tokens_per_s"] == pytest.approx((steps[2] + steps[3]) / 4, abs=0.051)
    assert rate["name"] == "base"
    assert (data / "elsewhere" / "base.0.pt").exists()
    assert not (data / "elsewhere" / "base.0.state.pt").exists()


@pytest.fixture
def main(data, plans, here, monkeypatch):
    """Calls the program for the first so many of `plans`; returns its status and what it stored."""

    def call(count: int) -> tuple[int, dict]:
        monkeypatch.setattr(speeds, "PLANS", plans[:count])
        monkeypatch.setattr(speeds, "STEPS", {"main": 2, "small": 2})
        status = speeds.main(["-data", str(data)])
        return status, json.loads((store.RESULTS / "measures" / "speeds.json").read_text())

    return call


def test_the_rates_of_all_are_stored_and_base_comes_twice(main):
    status, stored = main(3)
    assert status == 0
    names = ["base", "feed-forward", "averaging", "base"]
    assert [row["name"] for row in stored["rates"]] == names
    assert all(row["tokens_per_s"] > 0 for row in stored["rates"])
    assert stored["rates"][1]["precision"] == "float32"  # fflm.py has no other


def test_only_what_is_new_is_measured_and_on_the_same_machine(main, capsys):
    before = main(2)
    capsys.readouterr()
    assert main(2) == before
    assert "speeds.json: has the rates of all trainings" in capsys.readouterr().out
    _, after = main(4)
    names = [row["name"] for row in after["rates"]]
    assert names[:3] == ["base", "feed-forward", "base"]
    assert sorted(names[3:]) == ["averaging", "base", "base", "more"]
    assert after["rates"][:3] == before[1]["rates"]
    machine = {**after["machine"], "processor": "another"}
    elsewhere = {**before[1], "machine": machine}
    path = store.RESULTS / "measures" / "speeds.json"
    path.write_text(json.dumps(elsewhere))
    assert main(2) == (0, elsewhere)
    assert main(3) == (2, elsewhere)
    assert "speeds.json: of another machine" in capsys.readouterr().err


def test_rows_are_measured_too_beside_the_first_of_them():
    names = [plan.name for plan in speeds.missing({plan.name for plan in PLANS})]
    assert names[0] == names[-1] == "tied, lstm"
    assert sorted(names[:-1]) == sorted(plan.name for plan in ROWS)


def test_a_training_that_is_too_short_is_no_rate(data, plans):
    with pytest.raises(UserError, match="fewer than 200 steps"):
        speeds.measure(plans[0], data, data / "build", 100)
