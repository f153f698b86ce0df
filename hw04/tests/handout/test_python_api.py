"""A model from Python: lstlm.load, generate, next_words, surprise."""

import json
import math
import re

import lstlm
import pytest
import torch
from lstlm import UserError, collate_stories, compute_loss, encode


@pytest.fixture(scope="module", params=["words", "bpe"])
def path(request, trained):
    """A model of words, and one of word pieces."""
    if request.param == "words":
        return trained / "m.pt"
    return request.getfixturevalue("bpe_trained")


@pytest.fixture(scope="module")
def model(path):
    return lstlm.load(path)


def test_the_seed_reproduces_a_text(model):
    text = model.generate("once upon a time", max_tokens=30)
    seed = model.seed
    assert model.generate("once upon a time", max_tokens=30, seed=seed) == text
    assert model.seed == seed
    texts = {model.generate("the", max_tokens=30, seed=number) for number in range(5)}
    assert len(texts) > 1
    model.generate("the", max_tokens=1)
    drawn = model.seed
    model.generate("the", max_tokens=1)
    assert model.seed != drawn  # of 16 million


@pytest.mark.parametrize("flags", [[], ["-greedy"], ["-fpenalty", "0.7", "-temperature", "0.8"]])
@pytest.mark.parametrize("text", ["Once upon a time", "the cat", '"Hi', "", "zyxzy , the"])
def test_generate_gives_what_prompt_prints_without_the_prompt(model, path, call, text, flags):
    names = [flag[1:] for flag in flags if flag.startswith("-")]
    values = [float(flag) for flag in flags if not flag.startswith("-")] or [True]
    settings = dict(zip(names, values, strict=False))
    more = ["-max_tokens", 12, "-seed", 3, "-text", text, "-json"]
    record = json.loads(call("-prompt", *flags, *more, "-model", path).stdout)
    found = model.generate(text, max_tokens=12, seed=3, **settings)
    begin = model.readable(model.tokens(text))
    assert begin + found == record["text"]
    assert not found.lower().startswith(text.lower() or "\0")


def test_settings_have_their_effect(model):
    assert model.generate("the", max_tokens=20, top_k=1, seed=1) == model.generate(
        "the", max_tokens=20, greedy=True
    )
    assert model.generate("the", max_tokens=20, min_p=1.0, seed=1) == model.generate(
        "the", max_tokens=20, temperature=0
    )
    assert model.generate("the", max_tokens=20, top_p=1e-9, seed=1) == model.generate(
        "the", max_tokens=20, greedy=True, seed=5
    )


def test_a_story_ends_after_so_many_tokens(model):
    short = model.generate("the", max_tokens=1, seed=1)
    assert len(model.tokens(short)) <= 1
    longer = model.generate("the", max_tokens=5, seed=1)
    assert longer.startswith(short)
    assert "<eos>" not in model.generate("the end .", seed=1)


@pytest.mark.parametrize("text", ["once upon a", "the zyxzy", ""])
def test_next_words_are_what_use_prints(model, path, call, text):
    record = json.loads(call("-use", "-model", path, "-json", "-text", text).stdout)
    found = model.next_words(text)
    assert [word for word, _ in found] == record["tokens"]
    assert [p for _, p in found] == pytest.approx(record["probs"], rel=1e-6)
    assert model.next_words(text, 3) == found[:3]


def test_next_words_are_a_distribution_without_unk_and_bos(model):
    found = model.next_words("the", k=10**6)
    words = [word for word, _ in found]
    assert {*words} == {*model.loaded.words} - {"<unk>", "<bos>"}
    assert len(words) == len({*words})
    probs = [p for _, p in found]
    assert sum(probs) == pytest.approx(1, abs=1e-6)
    assert probs == sorted(probs, reverse=True)


TEXT = "The zyxzy sat. Once upon a time, Lily's cat said hi!"


def test_surprise_is_the_log_softmax_by_hand(model):
    """Of each token, the first after `<bos>`; an unknown word has the nats of `<unk>`."""
    words = model.tokens(TEXT)
    ids = encode([words], model.loaded.token2idx)[0]
    found = model.surprise(TEXT)
    assert [word for word, _ in found] == words
    with torch.no_grad():
        logits = model.model(torch.tensor([ids[:-1]]), torch.tensor([len(ids) - 1]))[0]
    log_probs = torch.log_softmax(logits.double(), 1)
    expected = [-float(log_probs[t, target]) for t, target in enumerate(ids[1:-1])]
    assert [nats for _, nats in found] == pytest.approx(expected, abs=1e-4)
    assert all(nats > 0 for _, nats in found)


def test_surprise_adds_up_to_the_loss(model, path, call, tmp_path):
    """With what the end costs: that of compute_loss, and of -evaluate for a file of the text."""
    words = model.tokens(TEXT)
    ids = encode([words], model.loaded.token2idx)
    total = sum(nats for _, nats in model.surprise(TEXT))
    inputs, _, lengths = collate_stories(ids)
    with torch.no_grad():
        last = torch.log_softmax(model.model(inputs, lengths)[0, -1], 0)
    total -= float(last[lstlm.EOS])
    mean = total / (len(words) + 1)
    assert compute_loss(model.model, ids, 1) == pytest.approx(mean, abs=1e-5)
    corpus = tmp_path / "corpus"
    corpus.write_text(" ".join(lstlm.tokenize_text(TEXT)) + "\n")
    flags = ["-precision", "fp32", "-json", "-test_corpus", corpus]
    row = json.loads(call("-evaluate", "-model", path, *flags).stdout)
    assert row["nats"] == pytest.approx(mean, abs=1e-5)
    assert row["n_tokens"] == len(words) + 1
    assert row["ppl"] == pytest.approx(math.exp(mean), rel=1e-4)


def test_surprise_of_a_text_longer_than_a_segment(model):
    """Nothing is cut or forgotten."""
    text = "the cat sat on the mat . " * 150
    found = model.surprise(text)
    words = model.tokens(text)
    assert len(found) == len(words) > 1024
    ids = encode([words], model.loaded.token2idx)[0]
    with torch.no_grad():
        logits = model.model(torch.tensor([ids[:-1]]), torch.tensor([len(ids) - 1]))[0]
    expected = -torch.log_softmax(logits, 1)[range(len(words)), ids[1:-1]]
    assert [nats for _, nats in found] == pytest.approx(expected.tolist(), abs=1e-3)


def test_surprise_of_nothing_is_nothing(model):
    assert model.surprise("") == []


def test_it_leaves_no_trace_in_torch(model):
    """Neither in its random state, nor gradients, nor in the mode of the model."""
    before = torch.get_rng_state()
    model.generate("the", max_tokens=5)
    model.next_words("the")
    model.surprise("the cat")
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.model.training
    assert all(p.grad is None for p in model.model.parameters())


# ---- Errors -------------------------------------------------------------------------------------


def check_error(function, *words: str) -> None:
    """A UserError of one line that has these words, and no exit."""
    with pytest.raises(UserError) as caught:
        function()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "bad", [{"top_p": 0}, {"temperature": -1}, {"fpenalty": 2.5}, {"top_k": -1}, {"min_p": 1.5}]
)
def test_settings_that_make_no_sense(trained, bad):
    model = lstlm.load(trained / "m.pt")
    check_error(lambda: model.generate("the", **bad), f"-{next(iter(bad))}")


def test_a_file_that_is_none_of_ours(trained, tmp_path, capsys):
    check_error(lambda: lstlm.load(tmp_path / "none.pt"), "none.pt", "no such model")
    check_error(lambda: lstlm.load(str(tmp_path)), "no lstlm file")
    (tmp_path / "bad.pt").write_bytes((trained / "m.pt").read_bytes()[:-10])
    check_error(lambda: lstlm.load(tmp_path / "bad.pt"), "bad.pt", "damaged")
    assert capsys.readouterr() == ("", "")


def test_a_bidirectional_model_is_none_to_generate_with(tmp_path, tiny_flags, capsys):
    assert lstlm.main(tiny_flags("-E", 1, "-bidirectional", "-H", 1)) == 0
    check_error(lambda: lstlm.load(tmp_path / "m.pt"), "m.pt", "-bidirectional")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU here")
def test_a_device_that_is_not_there(trained):
    check_error(lambda: lstlm.load(trained / "m.pt", device="cuda"), "-device cuda")


def test_the_model_that_comes_with_the_program_is_the_default():
    model = lstlm.load()
    assert model.loaded.facts["train_corpus"]
    assert model.generate("once upon a time", max_tokens=8, greedy=True).startswith(", there was")


@pytest.mark.parametrize(("call", "named"), [
    (lambda model: model.generate("a", max_tokens=0), "max_tokens 0"),
    (lambda model: model.generate("a", seed=2**70), "seed 1180591620717411303424"),
    (lambda model: model.generate("a", seed=1.5), "seed 1.5"),
    (lambda model: model.next_words("a", -1), "k -1"),
    (lambda model: lstlm.load(device="gpu"), "-device gpu"),
])
def test_values_that_make_no_sense_are_errors_of_one_line(model, call, named):
    with pytest.raises(UserError, match=re.escape(named)) as error:
        call(model)
    assert "\n" not in str(error.value)
