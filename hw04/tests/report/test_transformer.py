"""The transformer in the LSTM's place: beside hw4p1's own forward pass, trained, loaded, cut."""

import json

import lstlm
import pytest
import torch
from backstage.continuations import Continuation
from backstage.corpora import BOS, UNK
from backstage.errors import UserError
from backstage.sampling import Sampling
from backstage.state import State
from extensions import transformer
from extensions.transformer import HEADS, TransformerLM
from lstlm import collate_stories, compute_loss
from small import make_stories
from torch.nn import functional as F

STORIES = make_stories([5, 1, 9, 9, 3, 2], 40)
INPUTS, TARGETS, LENGTHS = collate_stories(STORIES)


@pytest.fixture
def model() -> TransformerLM:
    """A small float64 model with random weights."""
    torch.manual_seed(1)
    return TransformerLM(torch.zeros(40, 8), 12, 2, tie=True).double().eval()


def test_it_is_the_decoder_of_the_second_system(model):
    logits = model(INPUTS, LENGTHS)
    for row, length, story in zip(logits, LENGTHS, STORIES, strict=True):
        alone, _ = model.decoder(torch.tensor([story[:-1]]))  # with masks and maps
        torch.testing.assert_close(row[:length], alone[0])
    loss = F.cross_entropy(logits.flatten(0, 1), TARGETS.flatten())
    torch.testing.assert_close(model(INPUTS, LENGTHS, TARGETS), loss)
    torch.testing.assert_close(compute_loss(model, STORIES, 4), float(loss.detach()))


def test_its_parameters_are_as_many_as_the_layers_have(model):
    d, ff = 8, 12
    layer = 4 * d * d + 4 * d + 2 * d * ff + d + ff + 4 * d
    assert sum(p.numel() for p in model.parameters()) == 40 * d + 40 + 2 * layer + 2 * d
    assert model.embedding.weight is model.output.weight
    assert all(layer.self_attn.mha.num_heads == HEADS for layer in model.decoder.dec_layers)


def test_it_goes_on_from_a_state(model):
    whole = model(INPUTS, LENGTHS)
    longest = [2, 3, 0]  # the stories that go on after 4 positions come first
    inputs, lengths = INPUTS[longest], LENGTHS[longest]
    state = State()
    first = model(inputs[:, :4], lengths.clip(max=4), state=state)
    torch.testing.assert_close(first, whole[longest, :4])
    rest = model(inputs[:2, 4:], lengths[:2] - 4, state=state)
    torch.testing.assert_close(rest, whole[longest[:2], 4:])
    assert state.position == 10


def test_it_generates_what_whole_passes_say(model):
    ids = [1, 7, 9]
    story = Continuation([*ids], len(ids), 0, 12)
    for _ in lstlm.grow(model, [story], Sampling(greedy=True)):
        pass
    while len(ids) < len(story.ids):
        logits = model(torch.tensor([ids]), torch.tensor([len(ids)]))[0, -1].clone()
        logits[[UNK, BOS]] = -torch.inf
        ids.append(int(logits.argmax()))
    assert ids == story.ids
    assert len(ids) > 5


@pytest.mark.parametrize("switches", [
    {}, {"tie": True, "attention": "dot"}, {"tie": True, "cell": "gru"},
    {"tie": True, "positions": True},
])
def test_what_it_does_not_have_is_an_error(switches):
    with pytest.raises(UserError, match="this model is tied, and has no other flags"):
        TransformerLM(torch.zeros(40, 8), 12, 2, **switches)


def test_its_size_divides_into_heads():
    with pytest.raises(UserError, match="-EDim 6: give a multiple of 4"):
        TransformerLM(torch.zeros(40, 6), 12, 2, tie=True)


def test_it_is_trained_stopped_at_no_segment_and_evaluated(small_lm, tmp_path, capsys):
    path = tmp_path / "t.pt"
    flags = ["-tie", "-H", "1", "-EDim", "8", "-N", "16", "-E", "2", "-B", "8", "-lr", "0.02"]
    train = ["-train", *flags, *small_lm.corpora, "-model", str(path), "-bptt", "20"]
    assert transformer.main(train) == 0
    capsys.readouterr()
    read = ["-evaluate", "-model", str(path), "-test_corpus", str(small_lm.valid), "-json"]
    assert transformer.main(read) == 0
    nats = json.loads(capsys.readouterr().out)["nats"]
    lm = json.loads((path.parent / "t.log.jsonl").read_text().splitlines()[-1])
    assert nats == pytest.approx(lm["valid_nats"], abs=0.02)  # precisions may differ
    assert nats < 6
    assert lstlm.main(read) == 2
    assert "no lstlm file" in capsys.readouterr().err
    assert transformer.main([*train[:1], *train[7:]]) == 2  # without -EDim
