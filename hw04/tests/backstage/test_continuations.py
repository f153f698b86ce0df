"""backstage/continuations.py: when generation ends."""

import pytest
from backstage.continuations import Continuation, looping


@pytest.mark.parametrize(
    ("ids", "size"),
    [
        ([1, 2, 2, 2], 1), ([1, 2, 3, 2, 3, 2, 3], 2), ([2, 3, 2, 3], 0),
        ([1, 2, 2, 1, 2, 2], 0), ([], 0), (list(range(50)) * 3, 50), (list(range(51)) * 3, 0),
    ],
)
def test_a_block_said_three_times_over(ids, size):
    assert looping(ids) == size


def test_a_story_ends_for_one_of_its_reasons():
    def ended(new: list[int], **settings) -> str | None:
        story = Continuation([1, 7, 7, 7], 4, seed=0, max_tokens=4, **settings)
        for token in new:
            assert story.ended is None
            story.add(token)
        return story.ended

    assert ended([5]) is None
    assert ended([5, 2]) == "<eos>"
    assert ended([5, 6, 5, 6]) == "-max_tokens 4"
    assert ended([5, 6, 5, 6], rounds=True) is None
    assert ended([7, 7], rounds=True) is None  # what was typed is no loop
    loop = "a loop: 2 tokens said three times over, in round 2"
    assert ended([5, 6, 5, 6, 5, 6], rounds=True) == loop
    assert ended([*range(10, 90)], rounds=True) == "20 rounds of 4 tokens"
