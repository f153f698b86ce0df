"""Limits of time: slow honest answers are far from them, and endless loops end within a minute."""

import time
from textwrap import dedent
from unittest import mock

import filling
import pytest
import textbook
from grader.submission import read_submission
from hostile import NINE

STUBBORN = """
    while True:
        try:
            while True: pass
        except BaseException:
            pass
"""

# Answers in loops over single numbers, as slow as an honest one may be.
SLOW = textbook.BLOCKS | {
    "1a": """
        batch, steps, size = hidden.size()
        context = torch.zeros_like(hidden)
        for b in range(batch):
            for t in range(1, steps):
                scores = []
                for j in range(t):
                    score = 0.0
                    for d in range(size):
                        score += float(hidden[b, t, d]) * float(hidden[b, j, d])
                    scores.append(score / math.sqrt(size))
                weights = [math.exp(score - max(scores)) for score in scores]
                for j in range(t):
                    for d in range(size):
                        context[b, t, d] += weights[j] / sum(weights) * hidden[b, j, d]
    """,
    "3": """
        total, count = 0.0, 0
        for story in stories:
            x, y, n = collate_stories([story])
            scores = model(x, n)[0]
            for t in range(len(scores)):
                exponentials = [math.exp(float(scores[t, w])) for w in range(scores.shape[1])]
                total -= math.log(exponentials[int(y[0, t])] / sum(exponentials))
                count += 1
        return total / count
    """,
    "6": """
        exponentials = [math.exp(float(logits[w])) for w in range(len(logits))]
        left = sum(exponentials) * torch.rand(1, generator=generator).item()
        token = max(range(len(logits)), key=lambda w: exponentials[w])
        if not greedy:
            token = -1
            while left > 0:
                token += 1
                left -= exponentials[token]
    """,
    "6a": """
        for w in range(len(logits)):
            for token in tokens:
                if token == w:
                    logits[w] -= fpenalty
    """,
}


def counted(grader, path) -> tuple:
    """The result of a submission, and the seconds of each process: other programs may run."""
    seconds = []

    def run_and_count(*args):
        ran = run(*args)
        seconds.append(ran.seconds)
        return ran

    run = grader.sandbox.run
    with mock.patch.object(grader.sandbox, "run", run_and_count):
        return grader.grade(read_submission(path), "hw04"), seconds


@pytest.mark.thorough
def test_slow_answers_are_far_from_the_limits(grader, textbook_hw04, pack):
    path = pack("slow.zip", {"lstlm.py": filling.fill_hw04(textbook_hw04, SLOW)})
    result, seconds = counted(grader, path)
    items = grader.rubric.items("hw04")
    assert sum(test.score for test in result.tests if test.key in items) == 110
    assert max(seconds) < grader.rubric.limits.item_seconds / 2
    assert sum(seconds) / 2 < grader.rubric.submission_seconds / 2


@pytest.mark.thorough
@pytest.mark.parametrize("answer", ["while True: pass", STUBBORN], ids=["plain", "stubborn"])
def test_endless_loops_in_all_items_end_within_a_minute(grader, textbook_hw04, pack, answer):
    """Two processes run side by side, so half of their seconds count."""
    source = filling.fill_hw04(textbook_hw04, dict.fromkeys(NINE, dedent(answer)))
    started = time.monotonic()
    result, seconds = counted(grader, pack("endless.zip", {"lstlm.py": source}))
    assert result.score == 0
    assert 10 < sum(seconds) / 2 < 50
    assert time.monotonic() - started < 6 * 60
