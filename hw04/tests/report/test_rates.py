"""Rows at their best learning rates: the search on made-up losses, the program on a few stories."""

import math
from dataclasses import replace

import pytest
import rates
import store
from plans import PLANS, ROWS
from rates import FIRST, MOST, Row, is_inside, search
from runner import PROGRAMS, Experiment


def bowl(best: float):
    """A loss whose logarithm of the rate is best there."""
    return lambda rate: 3 + math.log(rate / best) ** 2


@pytest.mark.parametrize("best, tried", [
    (0.01, FIRST),  # inside already
    (0.032, (*FIRST, 0.064)),
    (0.12, (*FIRST, 0.064, 0.128, 0.256)),
    (0.0041, (0.002, *FIRST)),
    (0.001, (0.0005, 0.001, 0.002, *FIRST)),
])
def test_a_search_goes_on_until_the_best_rate_is_inside(best, tried):
    found = search(bowl(best), FIRST)
    assert sorted(found) == pytest.approx(sorted(tried))
    assert is_inside(found)
    nearest = min(found, key=lambda rate: abs(math.log(rate / best)))
    assert min(found, key=found.get) == nearest
    assert found == {rate: bowl(best)(rate) for rate in found}


@pytest.mark.parametrize("loss", [lambda rate: rate, lambda rate: -rate], ids=["falls", "rises"])
def test_a_search_without_an_inside_ends(loss):
    found = search(loss, FIRST)
    assert len(found) == MOST
    assert not is_inside(found)


def test_a_search_ends_where_a_loss_is_not_known_yet():
    loss = bowl(0.032)
    found = search(lambda rate: None if rate == 0.016 else loss(rate), FIRST)
    assert list(found) == [0.004, 0.008]
    assert not is_inside(search(lambda rate: None, FIRST))


def test_a_row_is_trained_at_each_rate_and_then_with_each_seed(data, plan, monkeypatch, capsys):
    """Stopped in between it goes on, and what is stored is not trained again."""
    runs = []

    def run(self, threads):
        rate = float(self.plan.flags.split()[-1])
        if len(runs) == 3:
            runs.append(None)
            raise KeyboardInterrupt
        runs.append((rate, self.seed))
        nats = bowl(0.017)(rate)
        record = {
            "configuration": self.configuration(), "valid": {"nats": nats}, "parameters": 1234,
            "test": {"ppl": 10 + self.seed},
        }
        store.write_json(self.result, record)
        return f"{self.label}: trained"

    monkeypatch.setattr(Experiment, "run", run)
    row = Row(replace(plan, group="rates", name="a row", seeds=(0, 1, 2)), data)
    monkeypatch.setattr(rates, "ROWS", [row.plan])
    with pytest.raises(KeyboardInterrupt):
        row.run(1)
    assert row.line() == f"{'a row':24} 0.004: 5.094  0.008: 3.568  0.016: 3.004"
    assert row.results() == []
    capsys.readouterr()
    assert rates.main(["-data", str(data), "a row"]) == 0
    assert runs == [
        (0.004, 0), (0.008, 0), (0.016, 0), None, (0.032, 0), (0.016, 1), (0.016, 2),
    ]
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].split("; ")[0] == (
        f"{'a row':24} test 11.00 (spread 2.00 of 3), 1,234 parameters"
    )
    assert [result["test"]["ppl"] for result in row.results()] == [10, 11, 12]
    other = Row(replace(row.plan, name="another"), data)
    other.run(1, only_first=True)
    assert [seed for _, seed in runs[7:]] == [0, 0, 0, 0]
    assert [result["test"]["ppl"] for result in other.results()] == [10]
    del runs[7:]
    capsys.readouterr()
    assert rates.main(["-data", str(data), "-list"]) == 0
    assert len(runs) == 7
    assert capsys.readouterr().out.splitlines() == printed[-1:]


@pytest.mark.parametrize("plan", ROWS, ids=lambda plan: plan.name)
def test_every_row_is_a_command_line_of_its_program(plan, tmp_path):
    plain = replace(plan.at(0.002), stories=(0, 0), backward=False)
    args = PROGRAMS[plan.program].parse_args(Experiment(plain, 0, tmp_path).training_flags())
    assert args.lr == 0.002


def test_rows_and_plans_have_names_of_their_own():
    names = [plan.name for plan in (*PLANS, *ROWS)]
    assert len({*names}) == len(names)


def test_a_row_that_is_not_there_is_told(capsys):
    assert rates.main(["no such row"]) == 2
    assert "no row named no such row" in capsys.readouterr().err
