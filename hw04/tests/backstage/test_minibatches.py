"""backstage/minibatches.py: which stories come together, segments, prefetching, hidden words."""

import threading

import pytest
import torch
from backstage.minibatches import hide_rare, prefetch, segments, shuffled_batches
from hypothesis import given
from hypothesis import strategies as st
from lstlm import UNK, collate_stories
from small import RAGGED, make_stories


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=200), B=st.integers(1, 9),
    seed=st.integers(0, 9),
)
def test_batches_hold_every_story_once(lengths, B, seed):
    stories = [[0] * n for n in lengths]
    batches = shuffled_batches(stories, B, torch.Generator().manual_seed(seed))
    assert sorted(n for batch in batches for n in batch) == list(range(len(lengths)))
    assert max(map(len, batches)) <= B


def test_batches_hold_stories_of_similar_length_in_random_order():
    stories = [[0] * (1 + i % 97) for i in range(2000)]

    def batches_of(seed: int) -> list[list[int]]:
        return shuffled_batches(stories, 10, torch.Generator().manual_seed(seed))

    batches = batches_of(0)
    lengths = [[len(stories[number]) for number in batch] for batch in batches]
    assert sum(max(found) - min(found) for found in lengths) / len(lengths) < 10  # of 97
    assert all(found == sorted(found, reverse=True) for found in lengths)
    assert batches != batches_of(1)
    assert batches == batches_of(0)


@pytest.mark.parametrize("length", [1, 4, 100])
def test_segments_add_up_to_the_stories(length):
    stories = make_stories(RAGGED, 40)
    by_length = sorted(stories, key=len, reverse=True)
    found = [[story[0]] for story in by_length]
    for inputs, targets, lengths in segments(stories, length, collate_stories):
        assert len(inputs) == len(targets) == len(lengths)
        for row in range(len(inputs)):  # of the stories that reach so far, the first ones
            n = int(lengths[row])
            assert 1 <= n <= length
            assert inputs[row, 0] == found[row][-1]
            assert inputs[row, 1:n].tolist() == targets[row, : n - 1].tolist()
            found[row] += targets[row, :n].tolist()
    assert found == by_length


def test_prefetch_keeps_the_order_and_is_one_ahead():
    made = []
    ahead = threading.Event()

    def double(item: int) -> int:
        made.append(item)
        if item == 1:
            ahead.set()
        return 2 * item

    results = prefetch(double, range(5))
    assert next(results) == 0
    assert ahead.wait(10)  # 1 is made while nobody has asked for it
    assert made == [0, 1]
    assert list(results) == [2, 4, 6, 8]
    assert list(prefetch(double, [])) == []
    with pytest.raises(ZeroDivisionError):
        list(prefetch(lambda item: 1 // item, [1, 0]))


def test_words_seen_once_are_hidden_about_half_of_the_time():
    counts = torch.tensor([0, 0, 1, 1, 2, 5] + [1] * 1000)
    shown = hide_rare(counts, torch.Generator().manual_seed(0))
    assert shown[:3] == [0, 1, 2]  # a corpus of one story has one <eos>
    assert shown[4:6] == [4, 5]
    assert 440 < shown[6:].count(UNK) < 560  # 4 standard deviations
    assert all(new in (UNK, i) for i, new in enumerate(shown))
    assert shown != hide_rare(counts, torch.Generator().manual_seed(1))
