"""Vocabulary, GloVe vectors and the ids of a corpus."""

import pytest
import torch
from lstlm import UserError, build_vocab_and_embeddings, read_glove, tokenize_corpus

CORPUS = "the cat saw the dog\nthe dog saw zyx"  # the 3, saw 2, dog 2, cat 1, zyx 1
GLOVE = "dog 1.5 -2 0.1\nbird 9 9 9\nthe 0.1 0.2 0.3\nsaw 1e-3 7 8\nthe 5 5 5\n"


def test_vocabulary_and_vectors(write):
    corpus, glove = write("corpus", CORPUS), write("glove", GLOVE)
    token2idx, vectors, edim = build_vocab_and_embeddings(glove, corpus, 4)
    assert list(token2idx) == ["<unk>", "<bos>", "<eos>", "the", "saw", "dog", "cat"]
    assert list(token2idx.values()) == list(range(7))
    assert edim == 3
    expected = torch.tensor([[0.1, 0.2, 0.3], [1e-3, 7, 8], [1.5, -2, 0.1], [0, 0, 0]])
    assert torch.equal(vectors[3:], expected)  # bit for bit; the first of two rows counts
    torch.testing.assert_close(vectors[0], expected[:3].mean(0))
    assert vectors[1].any()
    assert vectors[2].any()


def test_glove_only_makes_words_without_a_vector_unknown(write):
    corpus = write("corpus", CORPUS)
    glove = write("glove", GLOVE)
    token2idx, vectors, _ = build_vocab_and_embeddings(glove, corpus, 5, glove_only=True)
    assert list(token2idx)[3:] == ["the", "saw", "dog"]
    assert tokenize_corpus(corpus, token2idx)[1] == [1, 3, 5, 4, 0, 2]
    assert vectors[3:].any(1).all()


def test_learned_vectors_without_a_file(write):
    corpus = write("corpus", CORPUS)
    token2idx, vectors, edim = build_vocab_and_embeddings(None, corpus, 100, edim=8)
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
        ("400000 50\nthe 1 2 3\n", ":1: only 1 of the 3 numbers"),
        ("the\n", ":1: not 'word number"),
        ("the 1 2 3\nof 1 2\n", ":2: only 2 of the 3 numbers"),
        ("a 1 2 3\nthe 1 x 3\n", ":2: could not convert"),
        ("a 1 2 3\nthe 1 nan 3\n", ":2: a number that is not finite"),
        ("a 1 2 3\n\nthe 1 2 3\n", ":2: only 0 of the 3 numbers"),
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
