"""Choosing the next token: the penalty's formula, each restriction by hand, and generation step by step."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lstlm import (
    BOS,
    EOS,
    UNK,
    Memory,
    Sampling,
    UserError,
    generate_next_token,
    looping,
    next_logits,
    next_probabilities,
)
from small import make_model, make_stories

NONE = torch.zeros(8)
LOGITS = torch.tensor([5.0, 5.0, 0.0, 1.0, 2.0, 3.0, 3.5, -1.0], dtype=torch.float64)  # ids 0 and 1 are never generated


def test_without_settings_it_is_the_softmax_without_unk_and_bos():
    probs = next_probabilities(LOGITS, NONE)
    torch.testing.assert_close(probs[2:], torch.softmax(LOGITS[2:], 0))
    assert not probs[[UNK, BOS]].any()


@pytest.mark.parametrize("fp", [-2.0, -0.5, 0.0, 0.7, 2.0])
def test_frequency_penalty_is_equation_2(fp):
    counts = torch.tensor([0, 1, 0, 3, 0, 1, 2, 0])
    expected = [math.exp(z - fp * c) for z, c in zip(LOGITS[2:].tolist(), counts[2:].tolist(), strict=True)]
    probs = next_probabilities(LOGITS, counts, Sampling(fpenalty=fp))
    torch.testing.assert_close(probs[2:], torch.tensor([e / sum(expected) for e in expected], dtype=torch.float64))


def test_the_penalty_counts_the_prompt_and_works_for_greedy():
    model = make_model(dtype=torch.float32)
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.copy_(torch.linspace(1, 0, 40).roll(3))  # 3 is the most probable, then 4, 5, ...
    assert generate_next_token(model, [1, 9], greedy=True) == 3
    assert generate_next_token(model, [1, 3, 4, 3], greedy=True, fpenalty=2.0) == 5
    assert generate_next_token(model, [1, 8, 8], greedy=True, fpenalty=-2.0) == 8


def chosen(**settings) -> list[int]:
    """The ids that are left with these settings."""
    return next_probabilities(LOGITS, NONE, Sampling(**settings)).nonzero()[:, 0].tolist()


def test_restrictions_by_hand():
    # softmax of 0, 1, 2, 3, 3.5, -1: 0.016, 0.043, 0.117, 0.317, 0.522 and 0.006
    assert chosen(top_k=2) == [5, 6]
    assert chosen(top_k=100) == [2, 3, 4, 5, 6, 7]
    assert chosen(top_p=0.5) == [6]
    assert chosen(top_p=0.6) == [5, 6]
    assert chosen(top_p=1e-9) == [6]
    assert chosen(min_p=0.2) == [4, 5, 6]
    assert chosen(min_p=1.0) == [6]
    assert chosen(temperature=1e-30) == chosen(temperature=1e-320) == [6]
    zero, one = (next_probabilities(LOGITS, NONE, Sampling(temperature=value)) for value in (0, 1))
    assert torch.equal(zero, one)


def test_of_equal_words_the_first_ones_are_kept():
    equal = torch.zeros(2002)  # 2000 words with the same chance
    for settings in ({"top_k": 5}, {"top_p": 5 / 2000 - 1e-9}):
        assert next_probabilities(equal, equal, Sampling(**settings)).nonzero()[:, 0].tolist() == [2, 3, 4, 5, 6]
    assert next_probabilities(torch.zeros(4), torch.zeros(4), Sampling(top_p=0.5)).tolist() == [0, 0, 1, 0]


def test_top_p_looks_at_what_top_k_left():
    probs = torch.softmax(LOGITS[[4, 5, 6]], 0)
    two = float(probs[1] + probs[2])
    assert chosen(top_k=3, top_p=two - 1e-4) == [5, 6]
    assert chosen(top_k=3, top_p=two + 1e-4) == [4, 5, 6]


def test_temperature_comes_after_the_penalty_and_before_the_restrictions():
    counts = torch.tensor([0, 0, 0, 0, 0, 0, 2, 0])
    probs = next_probabilities(LOGITS, counts, Sampling(fpenalty=1.0, temperature=2.0))
    torch.testing.assert_close(probs[2:], torch.softmax((LOGITS - counts)[2:] / 2, 0))


@given(
    logits=st.lists(st.floats(-80, 80, width=32), min_size=4, max_size=12), temperature=st.floats(0, 100),
    top_k=st.integers(0, 15), top_p=st.floats(1e-6, 1), min_p=st.floats(0, 1), fp=st.floats(-2, 2),
)
def test_any_settings_leave_a_distribution(logits, temperature, top_k, top_p, min_p, fp):
    probs = next_probabilities(
        torch.tensor(logits), torch.arange(len(logits)), Sampling(False, fp, temperature, top_k, top_p, min_p)
    )
    assert not probs[:2].any()
    assert (probs >= 0).all()
    assert abs(float(probs.sum()) - 1) < 1e-5
    if top_k:
        assert (probs > 0).sum() <= top_k


@pytest.mark.parametrize(
    "bad",
    [{"fpenalty": 3}, {"fpenalty": math.nan}, {"temperature": -1}, {"temperature": math.inf}, {"top_k": -1},
     {"top_p": 0}, {"top_p": 1.5}, {"min_p": -0.1}, {"min_p": 2}],
)
def test_settings_that_make_no_sense(bad):
    with pytest.raises(UserError, match=f"-{next(iter(bad))}"):
        Sampling(**bad)


def test_incremental_scores_equal_a_full_forward(model):
    story = make_stories([40], 40)[0][:-1]
    logits = model(torch.tensor([story]), torch.tensor([len(story)]))[0]
    memory, other = Memory(), None
    for end in (1, 2, 3, 10, 11, 41):
        torch.testing.assert_close(next_logits(model, [story[:end]], memory)[0], logits[end - 1], rtol=0, atol=1e-12)
        if end == 10:
            other = replace(memory)
    changed = [*story[:10], 5, 6]
    expected = model(torch.tensor([changed]), torch.tensor([12]))[0, -1]
    torch.testing.assert_close(next_logits(model, [changed], other)[0], expected, rtol=0, atol=1e-12)


def test_a_memory_of_something_else_is_not_used(model):
    memory = Memory()
    next_logits(model, [[1, 5, 6, 7]], memory)
    for tokens in ([1, 5, 8], [1, 5], [1, 9, 6, 7, 8]):
        torch.testing.assert_close(next_logits(model, [tokens], memory), next_logits(model, [tokens], Memory()))


def test_greedy_text_with_and_without_state(model):
    with_state, without, memory = [1], [1], Memory()
    for _ in range(25):
        with_state.append(generate_next_token(model, with_state, greedy=True, fpenalty=0.3, state=memory))
        without.append(generate_next_token(model, without, greedy=True, fpenalty=0.3))
    assert with_state == without


def test_samples_follow_the_probabilities_and_the_seed():
    model = make_model(dtype=torch.float32)
    draw = lambda seed, n: [  # noqa: E731
        generate_next_token(model, [1, 7], generator=generator, state=memory)
        for memory, generator in [(Memory(), torch.Generator().manual_seed(seed))]
        for _ in range(n)
    ]
    assert draw(5, 30) == draw(5, 30) != draw(6, 30)
    counts = torch.bincount(torch.tensor(draw(0, 20000)), minlength=40) / 20000
    expected = next_probabilities(next_logits(model, [[1, 7]], Memory())[0], torch.zeros(40))
    assert float((counts - expected).abs().max()) < 0.015  # 4 standard deviations at p = 0.5


@pytest.mark.parametrize(
    ("ids", "size"),
    [([1, 2, 2, 2], 1), ([1, 2, 3, 2, 3, 2, 3], 2), ([2, 3, 2, 3], 0), ([1, 2, 2, 1, 2, 2], 0), ([], 0),
     (list(range(50)) * 3, 50), (list(range(51)) * 3, 0)],
)
def test_a_block_said_three_times_over(ids, size):
    assert looping(ids) == size


def test_the_end_of_a_story_can_be_chosen():
    assert next_probabilities(LOGITS, NONE)[EOS] > 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_refused(bad):
    with pytest.raises(UserError, match="no finite numbers"):
        next_probabilities(torch.tensor([0.0, 0.0, 1.0, bad]), torch.zeros(4))
