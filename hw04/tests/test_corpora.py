"""What the report says of its corpora, by hand."""

import corpora


def test_counts_by_hand():
    stories = [["a", "b", "a"], ["c", "a"], ["b"]]
    assert corpora.describe(stories) == {"stories": 3, "tokens": 6 + 3, "types": 3, "once": 1}


def test_what_a_file_of_vectors_covers(tmp_path):
    (tmp_path / "v.txt").write_text("a 1 2\nz 3 4\nc 5 6\n")
    stories = [["a", "b", "a"], ["c", "a"], ["b"]]
    assert corpora.covered(stories, tmp_path / "v.txt") == {"file": "v.txt", "types": 2, "share": 4 / 6}
