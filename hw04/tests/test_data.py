"""Reading corpora and GloVe files: what they mean, and what a broken one is answered with."""

import os
import threading
from pathlib import Path

import lstlm
import pytest
import torch
from lstlm import UserError, build_vocab_and_embeddings, cached_glove, read_glove, read_stories, tokenize_corpus

WIKI = """ \n = First = \n \n some text . \n \n = = Part = = \n \n more text \n = Goals ; A = \n still the table \n
 = Second Title = \n \n other text \n"""
FIRST = "= first = some text . = = part = = more text = goals ; a = still the table"
SECOND = "= second title = other text"


@pytest.fixture
def write(tmp_path):
    """A function that writes a file of that name with the given text or bytes, and returns its path."""

    def make(name: str, content: str | bytes):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


@pytest.mark.parametrize(
    ("text", "how", "stories"),
    [
        ("a B\n\n c d \n", "auto", [["a", "b"], ["c", "d"]]),
        ("a b\r\nc d\r\n", "auto", [["a", "b"], ["c", "d"]]),
        ("a\nb <eos> c <eos>\n", "auto", [["a", "b"], ["c"]]),
        ("a\nb\n<|endoftext|>\nc\n<|endoftext|>\n", "auto", [["a", "b"], ["c"]]),
        ("<bos> a <eos> <bos> b <eos>", "auto", [["a"], ["b"]]),
        ("a <eos> b\nc", "line", [["a", "<eos>", "b"], ["c"]]),
        ("a.<eos> b\nc", "auto", [["a.<eos>", "b"], ["c"]]),  # no token of its own
        (" \nA B\n\nc\n", "stream", [["<eos>", "a", "b", "<eos>", "<eos>", "c"]]),  # a blank line has an <eos> too
        ("\ufeffa b", "auto", [["a", "b"]]),
        (WIKI, "line", None),
        (WIKI, "auto", [FIRST.split(), SECOND.split()]),
        (WIKI[2:], "auto", [FIRST.split(), SECOND.split()]),  # a heading on the very first line
    ],
)
def test_where_stories_end(write, text, how, stories):
    found = read_stories(write("corpus", text), how)
    assert found == stories if stories else len(found) == 8


def test_cased_keeps_case(write):
    assert read_stories(write("corpus", "A b"), cased=True) == [["A", "b"]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"<eos> <eos>", "no token"),
        (b"fine line\na \0 b", ":2: a binary file"),
        (b"fine line\nfine\nna\xefve", ":3: not UTF-8 at byte 17"),
    ],
)
def test_a_bad_corpus_is_named_with_its_line(write, content, words):
    path = write("corpus", content)
    with pytest.raises(UserError, match=words) as caught:
        read_stories(path)
    assert str(path) in str(caught.value)


def test_a_missing_corpus_and_a_folder(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            read_stories(path)


@pytest.mark.parametrize("how", ["eos", "article"])
def test_story_marks_that_the_file_lacks(write, how):
    with pytest.raises(UserError, match=f"-stories {how} needs"):
        read_stories(write("corpus", "a b\nc d"), how)


CORPUS = "the cat saw the dog\nthe dog saw zyx"  # the 3, saw 2, dog 2, cat 1, zyx 1
GLOVE = "dog 1.5 -2 0.1\nbird 9 9 9\nthe 0.1 0.2 0.3\nsaw 1e-3 7 8\nthe 5 5 5\n"


def test_vocabulary_and_vectors(write):
    corpus, glove = write("corpus", CORPUS), write("glove", GLOVE)
    token2idx, vectors, edim = build_vocab_and_embeddings(glove, corpus, 4)
    assert list(token2idx) == ["<unk>", "<bos>", "<eos>", "the", "saw", "dog", "cat"]
    assert list(token2idx.values()) == list(range(7))
    assert edim == 3
    expected = torch.tensor([[0.1, 0.2, 0.3], [1e-3, 7, 8], [1.5, -2, 0.1], [0, 0, 0]], dtype=torch.float32)
    assert torch.equal(vectors[3:], expected)  # bit for bit; the first of two rows counts
    torch.testing.assert_close(vectors[0], expected[:3].mean(0))
    assert vectors[1].any()
    assert vectors[2].any()


def test_glove_only_makes_words_without_a_vector_unknown(write):
    corpus = write("corpus", CORPUS)
    token2idx, vectors, _ = build_vocab_and_embeddings(write("glove", GLOVE), corpus, 5, glove_only=True)
    assert list(token2idx)[3:] == ["the", "saw", "dog"]
    assert tokenize_corpus(corpus, token2idx)[1] == [1, 3, 5, 4, 0, 2]
    assert vectors[3:].any(1).all()


def test_learned_vectors_without_a_file(write):
    token2idx, vectors, edim = build_vocab_and_embeddings(None, write("corpus", CORPUS), 100, edim=8)
    assert (len(token2idx), edim) == (8, 8)
    assert not vectors[3:].any()


def test_special_tokens_in_a_corpus_are_no_words(write):
    corpus = write("corpus", "a <unk> b <eos> <bos> c <unk> <eos>")
    token2idx, _, _ = build_vocab_and_embeddings(None, corpus, 100)
    assert list(token2idx)[3:] == ["a", "b", "c"]
    assert tokenize_corpus(corpus, token2idx) == [[1, 3, 0, 4, 2], [1, 5, 0, 2]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "empty"),
        ("400000 50\nthe 1 2 3\n", ":1: .*a word2vec header"),
        ("the\n", ":1: not 'word number"),
        ("the 1 2 3\nof 1 2\n", ":2: 2 numbers, where line 1 has 3"),
        ("a 1 2 3\nof 1 2 3 4\n", ":2: 4 numbers, where line 1 has 3"),
        ("a 1 2 3\nthe 1 x 3\n", ":2: could not convert"),
        ("a 1 2 3\nthe 1 nan 3\n", ":2: a number that is not finite"),
        ("a 1 2 3\n\nthe 1 2 3\n", ":2: 0 numbers"),
    ],
)
def test_a_bad_glove_file_is_named_with_its_line(write, content, words):
    path = write("glove", content)
    with pytest.raises(UserError, match=words) as caught:
        read_glove(path, ["the"])
    assert str(path) in str(caught.value)


def test_glove_rows_of_every_size_with_spaces_at_the_end(write):
    for size in (50, 100, 200, 300):
        numbers = [round(0.001 * i - 0.05, 4) for i in range(size)]
        path = write("glove", f"the {' '.join(map(str, numbers))} \r\n")
        assert torch.equal(read_glove(path, ["the"]), torch.tensor([numbers]))


def reads(monkeypatch) -> list[str]:
    """The GloVe files that are read from now on, past the cache."""
    read, paths = lstlm.read_glove, []
    monkeypatch.setattr(lstlm, "read_glove", lambda path, words: paths.append(Path(path).name) or read(path, words))
    return paths


def test_glove_vectors_are_cached_and_a_change_is_noticed(write, monkeypatch):
    path, words, paths = write("glove", GLOVE), ["the", "cat", "nowhere"], reads(monkeypatch)
    first = cached_glove(path, words)
    assert torch.equal(first, read_glove(path, words))
    again = cached_glove(path, words)
    assert torch.equal(again, first)
    assert again.dtype == torch.float32
    assert len(paths) == 1
    assert torch.equal(cached_glove(path, ["cat", "the", "nowhere"]), first[[1, 0, 2]])  # other words
    assert len(paths) == 2
    status, text = path.stat(), path.read_text()
    path.write_text(text.replace("1", "7"))  # same size and time, another content
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not torch.equal(cached_glove(path, words), first)
    path.write_text(text)
    os.utime(path, ns=(1, 1))  # another time
    cached_glove(path, words)
    path.write_text(text + "more" + " 1" * first.shape[1] + "\n")  # another size
    cached_glove(path, words)
    assert len(paths) == 5
    cached_glove(path, words)
    assert len(paths) == 5


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[:-3], lambda data: data[:40], lambda data: data[:-1] + b"x",
     lambda data: data + b"more", lambda data: b"\x80\x04" * 100],
)
def test_a_damaged_cache_is_made_anew(write, monkeypatch, damage):
    path, paths = write("glove", GLOVE), reads(monkeypatch)
    first = cached_glove(path, ["the"])
    cache = path.with_name(".glove.cache")
    whole = cache.read_bytes()
    cache.write_bytes(damage(whole))
    assert torch.equal(cached_glove(path, ["the"]), first)
    assert len(paths) == 2
    assert cache.read_bytes() == whole


def test_a_cache_that_cannot_be_written_or_read_is_no_error(write):
    path = write("glove", GLOVE)
    path.with_name(".glove.cache").mkdir()
    assert torch.equal(cached_glove(path, ["the"]), read_glove(path, ["the"]))
    assert not list(path.parent.glob("*.tmp"))


def test_a_pipe_is_read_once_and_has_no_cache(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=(GLOVE,))
    writer.start()
    vectors = cached_glove(path, ["the"])
    writer.join()
    assert vectors.any()
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]
