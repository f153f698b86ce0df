"""The model and its loss against slow references.

nn.LSTM itself, attention in two plain loops, plain cross-entropy, one story at a time.
"""

import math

import adapter
import backstage.attention
import backstage.minibatches
import pytest
import torch
from backstage.dropped_rnn import ModelLayers
from backstage.minibatches import evaluation_segments, segments
from backstage.reading import next_logits
from backstage.state import State
from lstlm import LSTMLM, UserError, collate_stories, compute_loss
from small import ALL_KINDS, KINDS, make_model, make_stories
from torch import nn
from torch.nn import functional as F

PARENTS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
all_kinds = pytest.mark.parametrize("kind", ALL_KINDS.values(), ids=ALL_KINDS)


def textbook_layers(model: LSTMLM, layers: nn.RNNBase) -> nn.RNNBase:
    """Layers of torch.nn of the same sizes and weights."""
    parent = PARENTS[model.cell](
        layers.input_size, layers.hidden_size, layers.num_layers, batch_first=True,
        bidirectional=layers.bidirectional,
    )
    parent.to(layers.weight_ih_l0.dtype).load_state_dict(layers.state_dict())
    return parent


def run_textbook_layers(model: LSTMLM, layers: nn.RNNBase, vectors: torch.Tensor) -> torch.Tensor:
    """Outputs (T, N) of layers of torch.nn for one story (T, EDim), with our weights."""
    parent = textbook_layers(model, layers)
    weights = dict(layers.named_parameters())
    return torch.func.functional_call(parent, weights, (vectors[None],))[0][0]


def reference_attention(model: LSTMLM, hidden: torch.Tensor) -> torch.Tensor:
    """Attention in two plain loops, for one story of states (T, N/2)."""
    T, size = hidden.shape
    score = {
        "dot": lambda a, b: a @ b / math.sqrt(size),  # equation 1 of the handout
        "bilinear": lambda a, b: a @ model.W @ b,
        "additive": lambda a, b: model.v @ torch.tanh(model.W @ a + model.U @ b),
    }[model.attention]
    contexts = torch.zeros_like(hidden)
    for i in range(1, T):  # position 0 has nothing to look at
        scores = torch.stack([score(hidden[i], hidden[j]) for j in range(i)])
        weights = torch.softmax(scores, 0)
        for j in range(i):
            contexts[i] += weights[j] * hidden[j]
    return contexts


def reference_positions(T: int, size: int) -> list[list[float]]:
    """Sinusoidal encodings (T, size), number by number."""
    def number(t: int, i: int) -> float:
        wave = math.cos if i % 2 else math.sin
        return wave(t / 10000 ** (i // 2 * 2 / size))

    return [[number(t, i) for i in range(size)] for t in range(T)]


def reference_logits(model: LSTMLM, story: list[int]) -> torch.Tensor:
    """Logits (T, V) of one story through torch.nn itself and the reference attention."""
    ids = torch.tensor(story[:-1])
    vectors = model.embedding.weight[ids]
    vectors = torch.where(model.learned[ids][:, None], vectors, vectors.detach())  # frozen rows
    if model.positions:
        vectors = vectors + torch.tensor(reference_positions(*vectors.shape), dtype=vectors.dtype)
    hidden = run_textbook_layers(model, model.lstm, vectors)
    if model.last:
        hidden = run_textbook_layers(model, model.last, hidden)
    if model.attention:
        hidden = torch.cat([hidden, reference_attention(model, hidden)], 1)
    if model.tied:
        return hidden @ model.embedding.weight.t()
    return model.output(hidden)


def plain_loss(model, stories):
    """nn.CrossEntropyLoss over the padded logits, as a textbook has it."""
    inputs, targets, lengths = collate_stories(stories)
    logits = model(inputs, lengths)
    return nn.CrossEntropyLoss(ignore_index=-100)(logits.flatten(0, 1), targets.flatten())


def gradients(model, loss):
    return torch.autograd.grad(loss, list(model.parameters()))


def count_targets(stories) -> int:
    return sum(len(story) - 1 for story in stories)


# ---- Minibatches --------------------------------------------------------------------------------


def test_collate_pads_inputs_with_0_and_targets_with_minus_100():
    inputs, targets, lengths = collate_stories([[1, 7, 2], [1, 5, 6, 8, 2]])
    assert inputs.tolist() == [[1, 7, 0, 0], [1, 5, 6, 8]]
    assert targets.tolist() == [[7, 2, -100, -100], [5, 6, 8, 2]]
    assert lengths.tolist() == [2, 4]
    assert {inputs.dtype, targets.dtype, lengths.dtype} == {torch.int64}


# ---- forward and attend -------------------------------------------------------------------------


@all_kinds
def test_logits_equal_the_reference_one_story_at_a_time(kind, stories):
    model = make_model(**kind)
    inputs, _, lengths = collate_stories(stories)
    logits = model(inputs, lengths)
    assert logits.shape == (6, 10, 40)
    for row, story in zip(logits, stories, strict=True):
        expected = reference_logits(model, story)
        torch.testing.assert_close(row[: len(story) - 1], expected, rtol=0, atol=1e-12)


@all_kinds
def test_gradients_equal_those_of_the_reference(kind, stories):
    model = make_model(**kind)
    loss = sum(
        F.cross_entropy(reference_logits(model, story), torch.tensor(story[1:]), reduction="sum")
        for story in stories
    )
    inputs, targets, lengths = collate_stories(stories)
    ours = count_targets(stories) * model(inputs, lengths, targets)
    torch.testing.assert_close(ours, loss, rtol=1e-12, atol=0)
    for a, b in zip(gradients(model, ours), gradients(model, loss), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@all_kinds
def test_logits_and_loss_are_those_with_layers_of_torch_in_their_place(kind, stories):
    """What a reader of forward expects `self.lstm` to be: an nn.LSTM over a PackedSequence."""
    ours, theirs = make_model(**kind), make_model(**kind)
    if theirs.last is None:
        theirs.lstm = textbook_layers(theirs, theirs.lstm)
    else:
        theirs.last.load_state_dict(textbook_layers(theirs, theirs.last).state_dict())
        theirs.lstm = textbook_layers(theirs, theirs.lstm)
    inputs, targets, lengths = collate_stories(stories)
    found = []
    for model in (ours, theirs):
        loss = model(inputs, lengths, targets)
        names = sorted(name for name, _ in model.named_parameters())
        grads = torch.autograd.grad(loss, [model.get_parameter(name) for name in names])
        found.append([loss, without_padding(model(inputs, lengths), lengths), *grads])
    torch.testing.assert_close(*found, rtol=0, atol=1e-10)


def without_padding(logits, lengths):
    """Logits (B, T, V) with zeros where stories have ended."""
    padding = torch.arange(logits.shape[1]) >= lengths[:, None]
    return logits.masked_fill(padding[..., None], 0)


class TextbookLM(LSTMLM):
    """The model on layers of torch.nn, dropout and states aside."""

    RNN_CLASSES = {
        cell: type(parent.__name__, (ModelLayers, parent), {}) for cell, parent in PARENTS.items()
    }


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@all_kinds
def test_on_layers_of_torch_everything_is_equal(kind, dropout, stories):
    """Losses with states carried over, gradients, evaluation, one token at a time."""
    ours = make_model(dropout=dropout, **kind)
    theirs = make_model(dropout=dropout, model_class=TextbookLM, **kind)
    assert not {type(x) for x in theirs.modules()} & {type(x) for x in ours.rnn_modules()}
    inputs, targets, lengths = collate_stories(stories)
    found = []
    for model in (ours, theirs):
        torch.manual_seed(3)  # of dropout
        state = State()
        loss = model(inputs, lengths, targets, state)
        after = model(inputs, lengths, targets, state)  # from a state that is not zeros
        grads = torch.autograd.grad(loss + after, list(model.parameters()))
        found.append([loss, after, *grads, *(x for pair in state.layer_states() for x in pair)])
    torch.testing.assert_close(*found, rtol=0, atol=1e-10)
    assert compute_loss(ours, stories, 4) == pytest.approx(compute_loss(theirs, stories, 4))
    if not ours.bidirectional:
        story = stories[0][:-1]
        pair = [next_logits(model.eval(), [story], State()) for model in (ours, theirs)]
        torch.testing.assert_close(*pair, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("H", "dropout", "dtype"),
    [(1, 0.3, torch.float64), (3, 0.0, torch.float32), (3, 0.3, torch.float64)],
)
@all_kinds
def test_a_training_step_is_that_of_plain_cross_entropy(kind, H, dropout, dtype, stories):
    model = make_model(H=H, dropout=dropout, dtype=dtype, **kind).train()
    before = [p.detach().clone() for p in model.parameters()]
    torch.manual_seed(3)  # of dropout
    loss = plain_loss(model, stories)
    expected = gradients(model, loss)
    norm = torch.stack([g.norm() for g in expected]).norm()
    torch.manual_seed(3)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    nats = adapter.gradient_step(model, optimizer, stories, 512)
    close = {"rtol": 1e-4, "atol": 1e-6}
    if dtype == torch.float64:
        close = {"rtol": 1e-10, "atol": 1e-10}
    assert nats == pytest.approx(loss.item() * count_targets(stories), rel=close["rtol"])
    steps = [old - p.detach() for old, p in zip(before, model.parameters(), strict=True)]
    torch.testing.assert_close(steps, [g / (norm + 1e-6).clamp(min=1) for g in expected], **close)


def test_bilinear_attention_starts_as_dot_and_additive_does_not_depend_on_its_chunks(
    stories, monkeypatch
):
    inputs, _, lengths = collate_stories(stories)
    dot, bilinear, additive = map(make_model, ("dot", "bilinear", "additive"))
    bilinear.load_state_dict(dot.state_dict(), strict=False)
    torch.testing.assert_close(bilinear(inputs, lengths), dot(inputs, lengths))
    whole = gradients(additive, additive(inputs, lengths).square().sum())
    monkeypatch.setattr(backstage.attention, "SUMS", 1)
    parts = gradients(additive, additive(inputs, lengths).square().sum())
    torch.testing.assert_close(parts, whole)


def test_attend_is_the_equation_of_the_handout():
    model = make_model("dot")
    hidden = torch.randn(2, 7, 6, dtype=torch.float64)
    expected = torch.stack([reference_attention(model, states) for states in hidden])
    torch.testing.assert_close(model.attend(hidden), expected, rtol=0, atol=1e-12)
    assert not model.attend(hidden)[:, 0].any()
    later = model.attend(hidden[:, 3:], past=hidden[:, :3])
    torch.testing.assert_close(later, expected[:, 3:], rtol=0, atol=1e-12)


def test_no_position_sees_its_future(attention):
    model = make_model(attention, dtype=torch.float32)
    story = make_stories([30], 40)[0]
    inputs, _, lengths = collate_stories([story])
    before = model(inputs, lengths)
    for place in (0, 1, 13, 30):
        changed = inputs.clone()
        changed[0, place] = 3 + (inputs[0, place] + 1) % 37
        after = model(changed, lengths)
        assert torch.equal(before[0, :place], after[0, :place])
        assert not torch.equal(before[0, place:], after[0, place:])


def test_bfloat16_stays_close_to_float32(attention, stories):
    model = make_model(attention, dtype=torch.float32)
    inputs, targets, lengths = collate_stories(stories)
    exact = model(inputs, lengths, targets)
    exact_grads = gradients(model, exact)
    model.precision = torch.bfloat16
    rough = model(inputs, lengths, targets)
    assert abs(rough.item() / exact.item() - 1) < 0.01
    for a, b in zip(exact_grads, gradients(model, rough), strict=True):
        assert torch.cosine_similarity(a.flatten(), b.flatten(), 0) > 0.99


def test_segments_with_the_state_carried_over_equal_the_whole(model, stories):
    inputs, targets, lengths = collate_stories(stories)
    whole = count_targets(stories) * model(inputs, lengths, targets).item()
    for length in (1, 2, 4, 100):
        total = 0.0
        state = State()
        for inputs, targets, lengths in segments(stories, length, collate_stories):
            assert inputs.shape[1] <= length
            total += int(lengths.sum()) * model(inputs, lengths, targets, state).item()
        assert math.isclose(total, whole, rel_tol=1e-12)


def test_more_padding_than_the_longest_story_needs_changes_nothing(model, stories):
    """As in the share of one of several processes, where another one has the longest story."""
    inputs, targets, lengths = collate_stories(stories)
    wide = F.pad(inputs, (0, 3))
    wide_targets = F.pad(targets, (0, 3), value=-100)
    torch.testing.assert_close(model(wide, lengths, wide_targets), model(inputs, lengths, targets))
    torch.testing.assert_close(model(wide, lengths)[:, :-3], model(inputs, lengths))


def test_padding_is_known_from_lengths_alone(model, stories):
    """A 0 within a story is `<unk>`, and what stands behind its end does not matter."""
    inputs, targets, lengths = collate_stories(stories)
    padding = torch.arange(inputs.shape[1]) >= lengths[:, None]
    loss = model(inputs, lengths, targets)
    other = model(inputs.masked_fill(padding, 7), lengths, targets.masked_fill(padding, 5))
    torch.testing.assert_close(other, loss, rtol=0, atol=0)
    inputs[2, 3] = 0
    changed = model(inputs, lengths)[2]
    expected = reference_logits(model, [*inputs[2].tolist(), 2])
    torch.testing.assert_close(changed, expected, rtol=0, atol=1e-12)


def test_without_gradient_it_is_the_same(model, stories):
    inputs, targets, lengths = collate_stories(stories)
    found = []
    for mode in (torch.enable_grad, torch.no_grad):
        state = State()
        with mode():
            loss = model(inputs, lengths, targets, state)
        found.append([loss.detach(), *(x for pair in state.layer_states() for x in pair)])
    torch.testing.assert_close(*found, rtol=0, atol=1e-12)


def test_rows_of_given_vectors_stay_bit_equal_and_the_others_train(model):
    given_rows = [] if model.tied else [i for i in range(3, 40) if not 10 <= i < 20]
    before = model.embedding.weight.detach().clone()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    everything = [[1, *range(3, 40), 2], [1, 0, 5, 2]]
    for _ in range(3):
        adapter.gradient_step(model, optimizer, everything, 512)
    after = model.embedding.weight.detach()
    assert torch.equal(before[given_rows], after[given_rows])
    moved = (before != after).any(1)
    assert moved[3:].all() if model.tied else moved[10:20].all()
    assert moved[:2].all()  # <unk> and <bos>; <eos> is never an input


def test_a_bidirectional_model_sees_its_target():
    """The leak: of words drawn at random it soon knows all, the honest model none."""
    words = 20
    stories = make_stories([12] * 200, 23)
    unseen = make_stories([12] * 20, 23, seed=1)
    inputs, _, lengths = collate_stories(stories[:1])
    changed = inputs.clone()
    changed[0, 5] = 3 + (inputs[0, 5] - 2) % words
    nats = {}
    for bidirectional in (False, True):
        model = make_model(V=23, N=32, H=1, dtype=torch.float32, bidirectional=bidirectional)
        differs = model(changed, lengths) != model(inputs, lengths)
        assert differs[0, 4].any() == bidirectional  # position 4 is to predict token 5
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for step in range(120):
            batch = stories[step % 4 :: 4]
            adapter.gradient_step(model, optimizer, batch, 512)
        nats[bidirectional] = compute_loss(model, unseen, 20)
    assert nats[False] > 12 / 13 * math.log(words)  # the end is no surprise
    assert nats[True] < 0.2 * math.log(words)


def test_a_tied_output_layer_is_the_embedding_matrix_and_the_last_layer_has_its_size():
    for attention, last in ((None, 8), ("dot", 4)):
        tied, plain = (make_model(attention, tie=tie) for tie in (True, False))
        assert tied.output.weight is tied.embedding.weight
        assert tied.last.hidden_size == last
        assert tied.lstm.hidden_size == plain.lstm.hidden_size
        assert make_model(attention, H=1, tie=True).lstm.hidden_size == last
        names = {name for name, _ in tied.named_parameters()}
        assert not names & {"output.weight", "output.bias"}
        assert not tied.output.bias.any()
    with pytest.raises(UserError, match="-EDim 9"):
        LSTMLM(torch.randn(20, 9), 12, 2, "dot", tie=True)


def test_all_zero_rows_are_drawn_and_special_rows_keep_their_values():
    embeddings = torch.randn(20, 5)
    embeddings[0] = embeddings[12] = 0
    model = LSTMLM(embeddings, 4, 1)
    assert torch.equal(model.embedding.weight[:3], embeddings[:3])
    assert model.embedding.weight[12].any()


def test_attention_halves_the_lstm_and_keeps_the_output_layer():
    plain, attending = make_model(None), make_model("dot")
    assert attending.lstm.hidden_size * 2 == plain.lstm.hidden_size == 12
    assert attending.output.weight.shape == plain.output.weight.shape
    assert isinstance(attending.lstm, nn.LSTM)
    names = [f"{name}_l{i}" for i in (0, 1) for name in ("weight_ih", "bias_hh")]
    assert {*names} <= {*dict(attending.lstm.named_parameters())}
    with pytest.raises(UserError, match="-N 7"):
        LSTMLM(torch.randn(20, 8), 7, 2, "dot")


# ---- The loss -----------------------------------------------------------------------------------


def test_ragged_batch_equals_one_story_at_a_time(attention, stories):
    model = make_model(attention, dtype=torch.float32)
    total = sum(compute_loss(model, [story], 1) * (len(story) - 1) for story in stories)
    for batch_size in (1, 2, 4, 100):
        loss = compute_loss(model, stories, batch_size)
        assert abs(loss - total / count_targets(stories)) < 1e-5


def test_compute_loss_is_a_mean_over_tokens_and_leaves_the_model_as_it_was(model, stories):
    model.train()
    inputs, targets, lengths = collate_stories(stories)
    log_probs = F.log_softmax(model(inputs, lengths), -1)
    nats = [
        -log_probs[b, t, targets[b, t]].item()
        for b in range(len(stories)) for t in range(int(lengths[b]))
    ]
    assert math.isclose(compute_loss(model, stories, 4), sum(nats) / len(nats), rel_tol=1e-12)
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_compute_loss_drops_nothing(stories):
    model = make_model(dropout=0.5).train()
    assert compute_loss(model, stories, 4) == compute_loss(make_model(dropout=0.0), stories, 4)


@torch.no_grad()
@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_the_loss_is_that_of_each_story_as_a_whole(monkeypatch, kind, batch_size):
    # Segments of one to six positions.
    monkeypatch.setattr(backstage.minibatches, "EVALUATION_ROWS", 6)
    model = make_model(**ALL_KINDS[kind]).eval()
    stories = make_stories([25, 0, 7, 13], 40)
    total = 0.0
    for story in stories:
        inputs, targets, lengths = collate_stories([story])
        total += (len(story) - 1) * float(model(inputs, lengths, targets))
    mean = total / count_targets(stories)
    assert math.isclose(compute_loss(model, stories, batch_size), mean, rel_tol=1e-12)


def test_the_segments_of_a_loss_fit_the_stories_that_there_are(monkeypatch):
    monkeypatch.setattr(backstage.minibatches, "EVALUATION_ROWS", 64)

    def shapes(lengths: list[int], batch_size: int) -> list[tuple[int, ...]]:
        stories = make_stories(lengths, 40)
        found = evaluation_segments(make_model(), stories, batch_size, collate_stories)
        return [tuple(inputs.shape) for inputs, *_ in found]

    assert shapes([127], 32) == [(1, 64), (1, 64)]  # a stream is the only story, whatever -B says
    # The longest first; 63 words have 64 targets.
    assert shapes([15, 15, 15, 63], 3) == [(3, 21), (1, 21), (1, 21), (1, 1), (1, 16)]
    monkeypatch.setattr(backstage.minibatches, "SEGMENT", 40)
    assert shapes([127], 32) == [(1, 40), (1, 40), (1, 40), (1, 8)]


def test_overfits_twenty_stories(attention):
    stories = make_stories([3 + i % 9 for i in range(20)], 60, seed=3)
    torch.manual_seed(0)
    model = LSTMLM(torch.zeros(60, 16), 48, 2, attention)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(90):
        adapter.gradient_step(model, optimizer, stories, 512)
    # The first words of the stories are a draw out of twenty: that alone cannot be learned.
    chance = 20 * math.log(20) / count_targets(stories)
    assert compute_loss(model, stories, 20) < 1.2 * chance


# ---- One token at a time ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.int8], ids=str)
def test_steps_of_low_precision_stay_close(kind, precision):
    model = make_model(N=50, dtype=torch.float32, **kind).eval()
    story = make_stories([30], 40)[0]
    exact, rough = State(), State()
    for end in range(1, len(story)):
        model.precision = torch.float32
        expected = next_logits(model, [story[:end]], exact)
        model.precision = precision
        logits = next_logits(model, [story[:end]], rough)
        assert logits.dtype == torch.float32
        assert float((logits - expected).norm() / expected.norm()) < 0.03
    assert not torch.equal(logits, expected)  # it is another computation
