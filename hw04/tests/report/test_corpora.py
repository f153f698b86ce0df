"""What the report says of its corpora, by hand."""

from measures import corpora


def test_counts_by_hand():
    stories = [["a", "b", "a"], ["c", "a"], ["b"]]
    assert corpora.describe(stories) == {"stories": 3, "tokens": 6 + 3, "types": 3, "once": 1}


def test_what_a_file_of_vectors_covers(tmp_path):
    (tmp_path / "v.txt").write_bytes(b"a 1 2\n\xff\r. 3 4\nc 5 6\n")
    stories = [["a", "b", "a"], ["c", "a"], ["b"]]
    assert corpora.covered(stories, tmp_path / "v.txt") == {
        "file": "v.txt", "rows": 3, "types": 2, "share": 4 / 6,
    }


def test_how_often_stories_say_something():
    stories = [["a", "b", "a"], ["c", "a"], ["b"]]
    # Not from one story into the next.
    expected = {"a": 3, "a b": 1, "b a": 1, "a b a": 1, "b c": 0, "a c": 0}
    assert {text: corpora.said(stories, text) for text in expected} == expected
