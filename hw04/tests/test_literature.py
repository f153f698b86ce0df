"""What others added to LSTM language models: each beside its equation, written out for one story at a time."""

import json

import literature
import lstlm
import pytest
import torch
from literature import ADDED, CHANGE, DROPPED, LARGE, Mogrifier, Smoothing, SmoothNats, WeightDrop
from lstlm import UserError, collate_stories
from small import make_stories

STORIES = make_stories([5, 1, 9, 9, 3, 2], 40)


def make(kind: type, H: int = 2, **switches) -> lstlm.LSTMLM:
    torch.manual_seed(1)
    return kind(torch.randn(40, 8), 12, H, **switches).double()


@pytest.mark.parametrize("switches", [{}, {"tie": True}, {"attention": "dot"}])
def test_a_mogrifier_begins_as_an_lstm(switches):
    batch = collate_stories(STORIES)[0], collate_stories(STORIES)[2]
    torch.testing.assert_close(make(Mogrifier, **switches)(*batch), make(lstlm.LSTMLM, **switches)(*batch))


@pytest.mark.parametrize("tie", [False, True])
def test_a_mogrifier_is_that_of_the_paper(tie):
    model = make(Mogrifier, tie=tie)
    gates = [[getattr(model, f"gate_{layer}_{turn}") for turn in range(5)] for layer in range(2)]
    with torch.no_grad():
        for gate in (gate for layer in gates for gate in layer):
            gate.normal_()
    inputs, _, lengths = collate_stories(STORIES)
    hidden, packing, state = model.features(inputs, lengths)
    for b, story in enumerate(STORIES):
        xs = [model.embedding.weight[token] for token in story[:-1]]
        for layer, (w_ih, w_hh, b_ih, b_hh) in enumerate(model.layers()):
            h = c = torch.zeros(w_hh.shape[1], dtype=torch.float64)
            outputs = []
            for x in xs:
                q1, r2, q3, r4, q5 = gates[layer]
                x = 2 * torch.sigmoid(q1 @ h) * x
                h = 2 * torch.sigmoid(r2 @ x) * h
                x = 2 * torch.sigmoid(q3 @ h) * x
                h = 2 * torch.sigmoid(r4 @ x) * h
                x = 2 * torch.sigmoid(q5 @ h) * x
                i, f, g, o = (w_ih @ x + b_ih + w_hh @ h + b_hh).chunk(4)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
                outputs.append(h)
            xs = outputs
            torch.testing.assert_close(state.c[layer][b], c)
        rows = [(packing.data == b * inputs.shape[1] + t).nonzero().item() for t in range(len(xs))]
        torch.testing.assert_close(hidden[rows], torch.stack(xs))


@pytest.mark.parametrize("switches", [{"cell": "gru"}, {"bidirectional": True}])
def test_a_mogrifier_is_an_lstm_that_reads_forward(switches):
    with pytest.raises(UserError, match="only for -cell lstm, in one direction"):
        make(Mogrifier, **switches)


def test_dropped_recurrent_weights_are_zero_and_get_no_gradient():
    model, plain = make(WeightDrop), make(lstlm.LSTMLM)
    batch = collate_stories(STORIES)
    torch.testing.assert_close(model.eval()(batch[0], batch[2]), plain(batch[0], batch[2]))
    model.train()
    torch.manual_seed(3)
    lstlm.summed_nats(model, *batch)[0].backward()
    kept = [w_hh.grad != 0 for _, w_hh, *_ in model.layers()]
    assert all(abs(float(some.double().mean()) - (1 - DROPPED)) < 0.08 for some in kept)
    with torch.no_grad():  # an LSTM that has what is left of them, scaled up, has the same loss
        for (_, w_hh, *_), some in zip(plain.layers(), kept, strict=True):
            w_hh.mul_(some / (1 - DROPPED))
        torch.manual_seed(3)
        torch.testing.assert_close(lstlm.summed_nats(plain, *batch), lstlm.summed_nats(model, *batch))


def test_smoothing_costs_the_squares_of_dropped_states_and_of_changes():
    smooth, plain = (make(kind, H=1, dropout=0.5).train() for kind in (Smoothing, lstlm.LSTMLM))
    batch = collate_stories(STORIES)
    torch.manual_seed(3)
    nats, _ = SmoothNats(smooth)(*batch)
    torch.manual_seed(3)
    dropped, *_ = plain.features(*batch[::2])
    torch.manual_seed(3)
    expected, _ = lstlm.summed_nats(plain, *batch)
    plain.eval()
    hidden = [plain.features(*collate_stories([story])[::2])[0] for story in STORIES]
    change = torch.cat([h[1:] - h[:-1] for h in hidden])
    cost = LARGE * dropped.square().mean() + CHANGE * change.square().mean()
    torch.testing.assert_close(nats, expected + len(dropped) * cost)


def test_smoothing_of_stories_without_a_word():
    smooth, batch = make(Smoothing).train(), collate_stories([[1, 2], [1, 2]])
    hidden, *_ = smooth.features(*batch[::2])  # one position each, and so no change
    expected = lstlm.summed_nats(smooth, *batch)[0] + 2 * LARGE * hidden.square().mean()
    torch.testing.assert_close(SmoothNats(smooth)(*batch)[0], expected)


@pytest.fixture
def corpora(tmp_path):
    """Flags that name small corpora and a model."""
    lines = (lstlm.DATA / "sample" / "train.tokens").read_text().splitlines(keepends=True)
    (tmp_path / "train.tokens").write_text("".join(lines[:40]))
    (tmp_path / "valid.tokens").write_text("".join(lines[40:50]))
    return ["-train_corpus", str(tmp_path / "train.tokens"), "-valid_corpus", str(tmp_path / "valid.tokens"),
            "-model", str(tmp_path / "m.pt")]


SMALL = ["-train", "-H", "2", "-N", "8", "-EDim", "8", "-B", "4", "-lr", "0.02", "-VSize", "60", "-tie"]


def weights_of_steps(program, monkeypatch, *flags: str) -> list[list[torch.Tensor]]:
    """The weights after each step of a training."""
    seen, step = [], lstlm.train_step

    def noting(nats_of, *rest):
        nats = step(nats_of, *rest)
        seen.append([p.detach().clone() for p in nats_of.model.parameters()])
        return nats

    with monkeypatch.context() as patch:
        patch.setattr(lstlm, "train_step", noting)
        assert program.main([*flags]) == 0
    return seen


def test_the_mean_of_the_weights_is_kept_and_training_goes_on_from_the_weights(corpora, tmp_path, monkeypatch):
    monkeypatch.setattr(literature, "DECAY", 0.8)
    flags = [*SMALL, "-E", "1", *corpora]
    steps = weights_of_steps(literature, monkeypatch, "-with", "averaging", *flags)
    mean = steps[0]
    for number, weights in enumerate(steps[1:], 2):
        share = max(0.2, 1 / number)
        mean = [(1 - share) * m + share * w for m, w in zip(mean, weights, strict=True)]
    loaded = lstlm.load_model(lstlm.parse_args(["-evaluate", *corpora[-2:]]))
    torch.testing.assert_close(list(loaded.model.parameters()), mean)
    plain = weights_of_steps(lstlm, monkeypatch, *flags[:-1], str(tmp_path / "plain.pt"))
    torch.testing.assert_close(steps, plain, rtol=0, atol=0)


@pytest.mark.parametrize("name", ADDED)
def test_train_and_evaluate(name, corpora, capsys):
    assert literature.main(["-with", name, *SMALL, "-E", "3", *corpora]) == 0
    capsys.readouterr()
    flags = ["-evaluate", "-json", "-test_corpus", *corpora[3:]]
    assert literature.main(["-with", name, *flags]) == 0
    nats = json.loads(capsys.readouterr().out)["nats"]
    loaded = literature.load(literature.parse_args(["-with", name, *flags]))
    assert nats == pytest.approx(loaded.facts["valid_nats"], abs=1e-5)
    assert nats < 3.3  # of 63 words, whose unigrams alone are 3.5
    assert lstlm.main(flags) == (2 if name == "mogrifier" else 0)
    if name != "mogrifier":
        assert json.loads(capsys.readouterr().out)["nats"] == nats
    assert lstlm.LSTMLM is not Mogrifier and lstlm.MODEL == "lstlm"


@pytest.mark.parametrize(("flags", "words"), [
    (["-train"], "the following arguments are required: -with"), (["-with", "x", "-train"], "invalid choice: 'x'"),
    (["-with", "mogrifier", "-use"], "one of -train and -evaluate is needed")])
def test_a_mistake_is_told(flags, words, capsys):
    with pytest.raises(SystemExit):
        literature.main(flags)
    assert words in capsys.readouterr().err
