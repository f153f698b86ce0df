"""What the report says of its corpora, counted by hand for two stories of three words."""

import pytest
from corpora import covered, describe, said

STORIES = [["a", "cat", "saw", "a", "cat"], ["a", "cat"]]


def test_counts_of_stories_tokens_and_words():
    assert describe(STORIES) == {"stories": 2, "tokens": 7 + 2, "types": 3, "once": 1}  # an <eos> for each


def test_words_and_running_words_that_a_file_of_vectors_has(tmp_path):
    vectors = tmp_path / "glove.2d.txt"
    vectors.write_text("dog 1 2\na 3 4\nsaw 5 6\n")
    assert covered(STORIES, vectors) == {"file": "glove.2d.txt", "rows": 3, "types": 2, "share": pytest.approx(4 / 7)}


@pytest.mark.parametrize(("text", "times"), [("a", 3), ("a cat", 3), ("cat saw", 1), ("cat a", 0), ("cat saw a", 1)])
def test_how_often_the_stories_say_something(text, times):
    assert said(STORIES, text) == times  # not from one story into the next
