"""Repetition by hand, and of a model's texts of 200 tokens, which a loop does not end."""

import json

import pytest
import store
from measures import repetition
from measures.analysis import BEGINNINGS
from measures.repetition import LENGTH, has_loop


def test_repetition_by_hand():
    text = ["a", "b", "a", "b", "a", "b", "c", "d"]
    # 8 words of 4 kinds; 2-grams ab ba ab ba ab bc cd: 4 kinds of 7; 4-grams abab baba abab babc
    # abcd: 4 of 5. The other text has 2 words of 2 kinds, a 2-gram and no 4-gram.
    found = repetition.repetition([text, ["x", "y"]])
    assert found == {
        "texts": 2, "tokens": 5, "distinct1": 6 / 10, "distinct2": 5 / 8,
        "again": pytest.approx(1 / 5), "loops": 1 / 2,
    }


def test_what_comes_after_the_first_200_tokens_is_not_measured():
    text = [str(i) for i in range(LENGTH)]
    found = repetition.repetition([text + ["0"] * 50])
    assert (found["tokens"], found["distinct1"], found["loops"]) == (200, 1, 0)


@pytest.mark.parametrize("words, loops", [
    ("a a a", True), ("a a", False), ("a b c a b c a b c d e f", True), ("a b a b a c", False),
    ("x a b a b a b y z", True), ("", False),
])
def test_a_loop_is_a_block_said_three_times_over_anywhere(words, loops):
    assert has_loop(words.split()) == loops


def test_texts_that_loop_go_on(small_lm, data, monkeypatch, capsys):
    """The little model, rewarded for repeating itself, does so to the end."""
    monkeypatch.setattr(repetition, "PENALTIES", (-2.0, 0.0))
    flags = ["-model", str(small_lm.model), "-data", str(data), "-samples", "3"]
    assert repetition.main([*flags, "-print"]) == 0
    assert not (store.RESULTS / "measures").exists()
    assert repetition.main(flags) == 0
    record = json.loads((store.RESULTS / "measures" / "repetition.json").read_text())
    rows = {(row["penalty"], row["greedy"]): row for row in record["rows"]}
    assert {*rows} == {(-2.0, True), (-2.0, False), (0.0, True), (0.0, False)}
    assert rows[-2.0, True]["texts"] == len(BEGINNINGS)
    assert rows[-2.0, False]["texts"] == 3
    assert rows[-2.0, True]["tokens"] == LENGTH
    assert rows[-2.0, True]["loops"] == 1
    assert rows[-2.0, True]["again"] > 0.9
    assert rows[-2.0, False]["distinct1"] < rows[0.0, False]["distinct1"]
    assert record["stories"]["texts"] == 5
    assert record["stories"]["loops"] == 0
    assert "test stories:" in capsys.readouterr().out
