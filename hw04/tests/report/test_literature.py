"""What others added to LSTM language models: each beside its equation, written out for a story."""

import copy
import io
import itertools
import json

import lstlm
import pytest
import torch
from backstage.errors import UserError
from backstage.state import State
from extensions import literature
from extensions.literature import (
    ADDED,
    CHANGE,
    DROPPED,
    LARGE,
    Mogrifier,
    Smoothing,
    WeightDrop,
)
from lstlm import collate_stories
from measures.scoring import score
from small import SAMPLE, make_stories

STORIES = make_stories([5, 1, 9, 9, 3, 2], 40)
INPUTS, TARGETS, LENGTHS = collate_stories(STORIES)


def make(kind: type, H: int = 2, **switches) -> lstlm.LSTMLM:
    """A small float64 model with random weights."""
    torch.manual_seed(1)
    return kind(torch.randn(40, 8), 12, H, **switches).double()


# ---- The mogrifier ------------------------------------------------------------------------------


@pytest.mark.parametrize("switches", [{}, {"tie": True}, {"attention": "dot"}])
def test_a_mogrifier_begins_as_an_lstm(switches):
    mogrifier = make(Mogrifier, **switches)(INPUTS, LENGTHS)
    lstm = make(lstlm.LSTMLM, **switches)(INPUTS, LENGTHS)
    for ours, theirs, length in zip(mogrifier, lstm, LENGTHS, strict=True):
        torch.testing.assert_close(ours[:length], theirs[:length])


def open_gates(model: Mogrifier) -> list[list[torch.Tensor]]:
    """Give the gates of a mogrifier random numbers; returns them, five for each layer."""
    layers = [(model.lstm, layer) for layer in range(model.lstm.num_layers)]
    if model.last:
        layers.append((model.last, 0))
    gates = [[getattr(lstm, f"gate_{layer}_{turn}") for turn in range(5)] for lstm, layer in layers]
    with torch.no_grad():
        for gate in itertools.chain(*gates):
            gate.normal_()
    return gates


@pytest.mark.parametrize("tie", [False, True])
def test_a_mogrifier_is_that_of_the_paper(tie):
    model = make(Mogrifier, tie=tie)
    gates = open_gates(model)
    assert len(gates) == 2
    state = State()
    features, _ = score(model, INPUTS, LENGTHS, TARGETS, state)  # (B, T, N)
    for b, story in enumerate(STORIES):
        xs = [model.embedding.weight[token] for token in story[:-1]]
        for layer, (w_ih, w_hh, b_ih, b_hh) in enumerate(model.layer_weights()):
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
            final_h, final_c = state.layer_states()[layer]
            torch.testing.assert_close(final_h[b], h)
            torch.testing.assert_close(final_c[b], c)
        torch.testing.assert_close(features[b, : len(xs)], torch.stack(xs))


def test_a_mogrifier_goes_on_from_a_state():
    model = make(Mogrifier)
    open_gates(model)
    story = make_stories([9], 40)[0]
    inputs, _, lengths = collate_stories([story])
    whole = model(inputs, lengths)
    state = State()
    first = model(inputs[:, :4], torch.tensor([4]), state=state)
    torch.testing.assert_close(first, whole[:, :4])
    torch.testing.assert_close(model(inputs[:, 4:], lengths - 4, state=state), whole[:, 4:])


@pytest.mark.parametrize("switches", [{"cell": "gru"}, {"bidirectional": True}])
def test_a_mogrifier_is_an_lstm_that_reads_forward(switches):
    with pytest.raises(UserError, match="only for -cell lstm, in one direction"):
        make(Mogrifier, **switches)


# ---- Dropped recurrent weights ------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_dropped_recurrent_weights_are_zero_and_get_no_gradient(cell):
    model = make(WeightDrop, cell=cell)
    plain = make(lstlm.LSTMLM, cell=cell)
    torch.testing.assert_close(model.eval()(INPUTS, LENGTHS), plain(INPUTS, LENGTHS))
    model.train()
    torch.manual_seed(3)
    model(INPUTS, LENGTHS, TARGETS).backward()
    kept = [w_hh.grad != 0 for _, w_hh, *_ in model.layer_weights()]
    assert all(abs(float(some.double().mean()) - (1 - DROPPED)) < 0.08 for some in kept)
    with torch.no_grad():  # an LSTM that has what is left of them, scaled up, has the same loss
        for (_, w_hh, *_), some in zip(plain.layer_weights(), kept, strict=True):
            w_hh.mul_(some / (1 - DROPPED))
        torch.manual_seed(3)
        expected = plain(INPUTS, LENGTHS, TARGETS)
        torch.testing.assert_close(model(INPUTS, LENGTHS, TARGETS), expected)


# ---- Smooth states ------------------------------------------------------------------------------


def packed(features: torch.Tensor, lengths: torch.Tensor = LENGTHS) -> torch.Tensor:
    """The rows (R, N) at the real positions of features (B, T, N)."""
    return torch.cat([row[:length] for row, length in zip(features, lengths, strict=True)])


@pytest.mark.parametrize("switches", [{"H": 1}, {"H": 2, "tie": True}, {"H": 1, "cell": "gru"}])
def test_smoothing_costs_the_squares_of_dropped_states_and_of_changes(switches):
    smooth = make(Smoothing, dropout=0.5, **switches).train()
    plain = make(lstlm.LSTMLM, dropout=0.5, **switches).train()
    torch.manual_seed(3)
    nats = smooth(INPUTS, LENGTHS, TARGETS)
    torch.manual_seed(3)
    dropped, _ = score(plain, INPUTS, LENGTHS, TARGETS)
    torch.manual_seed(3)
    expected = plain(INPUTS, LENGTHS, TARGETS)
    changes = []
    last = copy.deepcopy(plain.last or plain.lstm)
    last.p = 0.0  # the last layer's outputs before dropout, of the same input
    setattr(plain, "last" if plain.last else "lstm", last)
    torch.manual_seed(3)
    hidden, _ = score(plain, INPUTS, LENGTHS, TARGETS)
    for states, length in zip(hidden, LENGTHS, strict=True):
        changes.append(states[1:length] - states[: length - 1])
    cost = LARGE * packed(dropped).square().mean() + CHANGE * torch.cat(changes).square().mean()
    torch.testing.assert_close(nats, expected + cost)


def test_smoothing_of_stories_without_a_word():
    smooth = make(Smoothing).train()
    inputs, targets, lengths = collate_stories([[1, 2], [1, 2]])  # one position, so no change
    hidden, _ = score(make(lstlm.LSTMLM), inputs, lengths, targets)
    expected = make(lstlm.LSTMLM)(inputs, lengths, targets) + LARGE * hidden.square().mean()
    torch.testing.assert_close(smooth(inputs, lengths, targets), expected)


def test_evaluation_has_no_cost():
    loss = make(Smoothing).eval()(INPUTS, LENGTHS, TARGETS)
    torch.testing.assert_close(loss, make(lstlm.LSTMLM)(INPUTS, LENGTHS, TARGETS))


# ---- The program --------------------------------------------------------------------------------


@pytest.fixture
def corpora(tmp_path):
    """Flags that name small corpora and a model."""
    lines = (SAMPLE / "train.tokens").read_text().splitlines(keepends=True)
    train = tmp_path / "train.tokens"
    train.write_text("".join(lines[:40]))
    valid = tmp_path / "valid.tokens"
    valid.write_text("".join(lines[40:50]))
    model = tmp_path / "m.pt"
    return ["-train_corpus", str(train), "-valid_corpus", str(valid), "-model", str(model)]


SMALL = [
    "-train", "-H", "2", "-N", "8", "-EDim", "8", "-B", "4", "-lr", "0.02", "-VSize", "60", "-tie",
]


def weights_of_steps(program, *flags: str) -> list[list[torch.Tensor]]:
    """The weights after each step of a training."""
    seen = []

    class Noting(lstlm.Run):
        def end_step(self, batch):
            seen.append([p.detach().clone() for p in self.bare_model.parameters()])
            super().end_step(batch)

    args = program.parse_args([*flags, "-json"])
    args.out = io.StringIO()
    program.train(args, run_class=Noting)
    return seen


def test_the_mean_of_the_weights_is_kept_and_training_goes_on_from_the_weights(
    corpora, tmp_path, monkeypatch
):
    monkeypatch.setattr(literature, "DECAY", 0.8)
    flags = [*SMALL, "-E", "1", *corpora]
    steps = weights_of_steps(literature, "-with", "averaging", *flags)
    mean = steps[0]
    for number, weights in enumerate(steps[1:], 2):
        share = max(0.2, 1 / number)
        mean = [(1 - share) * m + share * w for m, w in zip(mean, weights, strict=True)]
    loaded = lstlm.load_model(lstlm.parse_args(["-evaluate", *corpora[-2:]]))
    torch.testing.assert_close(list(loaded.model.parameters()), mean)
    plain = weights_of_steps(lstlm, *flags[:-1], str(tmp_path / "plain.pt"))
    assert len(steps) == 10
    torch.testing.assert_close(steps, plain, rtol=0, atol=0)


SLOW = pytest.param("mogrifier", marks=pytest.mark.thorough)


@pytest.mark.parametrize("name", [name for name in ADDED if name != "mogrifier"] + [SLOW])
def test_train_and_evaluate(name, corpora, capsys):
    assert literature.main(["-with", name, *SMALL, "-E", "3", *corpora]) == 0
    capsys.readouterr()
    flags = ["-evaluate", "-json", "-test_corpus", *corpora[3:]]
    assert literature.main(["-with", name, *flags]) == 0
    nats = json.loads(capsys.readouterr().out)["nats"]
    loaded = literature.load_model(literature.parse_args(["-with", name, *flags]))
    assert nats == pytest.approx(loaded.facts["valid_nats"], abs=1e-5)
    assert nats < 3.3  # of 63 words, whose unigrams alone are 3.5
    assert lstlm.main(flags) == (2 if name == "mogrifier" else 0)
    if name != "mogrifier":
        assert json.loads(capsys.readouterr().out)["nats"] == nats


def test_a_mogrifier_is_no_model_of_lstlm(tiny_flags, capsys):
    flags = tiny_flags("-E", 2)
    assert literature.main(["-with", "mogrifier", *flags]) == 0
    capsys.readouterr()
    model = flags[flags.index("-model") + 1]
    corpus = flags[flags.index("-valid_corpus") + 1]
    read = ["-evaluate", "-json", "-model", model, "-test_corpus", corpus]
    assert literature.main(["-with", "mogrifier", *read]) == 0
    nats = json.loads(capsys.readouterr().out)["nats"]
    loaded = literature.load_model(literature.parse_args(["-with", "mogrifier", *read]))
    assert nats == pytest.approx(loaded.facts["valid_nats"], abs=1e-5)
    assert lstlm.main(read) == 2
    assert "no lstlm file" in capsys.readouterr().err


@pytest.mark.parametrize(("flags", "words"), [
    (["-train"], "the following arguments are required: -with"),
    (["-with", "x", "-train"], "invalid choice: 'x'"),
    (["-with", "mogrifier", "-use"], "-use: no such flag"),
    (["-with", "mogrifier"], "say what to do"),
])
def test_a_mistake_is_told(flags, words, capsys):
    assert literature.main(flags) == 2
    assert words in capsys.readouterr().err
