"""The model against slow references: nn.LSTM, two plain loops, plain cross-entropy, one story at a time."""

import math

import lstlm
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lstlm import (
    LSTMLM,
    LinearCrossEntropy,
    Memory,
    Nats,
    UserError,
    collate_stories,
    compute_loss,
    linear_cross_entropy,
    next_logits,
    pack,
    pieces,
    shuffled_batches,
    summed_nats,
    train_step,
)
from small import ALL_KINDS, KINDS, make_model, make_stories
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


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


def reference_logits(model: LSTMLM, story: list[int]) -> torch.Tensor:
    """Scores (T, V) of one story through nn.LSTM itself and the reference attention."""
    words = model.embed(torch.tensor(story[:-1]))
    if model.positions:
        size = words.shape[1]
        words = words + torch.tensor([
            [(math.cos if i % 2 else math.sin)(t / 10000 ** (i // 2 * 2 / size)) for i in range(size)]
            for t in range(len(words))
        ], dtype=words.dtype)
    hidden, _ = model.lstm(words[:, None])
    hidden = (model.last(hidden)[0] if model.last else hidden)[:, 0]
    if model.attention:
        hidden = torch.cat([hidden, reference_attention(model, hidden)], 1)
    return hidden @ model.embedding.weight.t() if model.tied else model.output(hidden)


def plain_loss(model, stories):
    """nn.CrossEntropyLoss over the padded scores, as a textbook has it."""
    inputs, targets, lengths = collate_stories(stories)
    return nn.CrossEntropyLoss(ignore_index=-100)(model(inputs, lengths).flatten(0, 1), targets.flatten())


def gradients(model, loss):
    return torch.autograd.grad(loss, list(model.parameters()))


@pytest.mark.parametrize("kind", ALL_KINDS.values(), ids=ALL_KINDS)
def test_logits_equal_the_reference_one_story_at_a_time(kind, stories):
    model = make_model(**kind)
    inputs, _, lengths = collate_stories(stories)
    logits = model(inputs, lengths)
    for row, story in enumerate(stories):
        torch.testing.assert_close(logits[row, : len(story) - 1], reference_logits(model, story), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ALL_KINDS.values(), ids=ALL_KINDS)
def test_gradients_equal_those_of_the_reference(kind, stories):
    model = make_model(**kind)
    loss = sum(
        F.cross_entropy(reference_logits(model, story), torch.tensor(story[1:]), reduction="sum") for story in stories
    )
    ours, _ = summed_nats(model, *collate_stories(stories))
    torch.testing.assert_close(ours, loss, rtol=1e-12, atol=0)
    for a, b in zip(gradients(model, ours), gradients(model, loss), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("H", [1, 3])
@pytest.mark.parametrize("kind", ALL_KINDS.values(), ids=ALL_KINDS)
def test_a_training_step_is_that_of_plain_cross_entropy(kind, H, dropout, dtype, stories):
    model = make_model(H=H, dropout=dropout, dtype=dtype, **kind).train()
    before = [p.detach().clone() for p in model.parameters()]
    torch.manual_seed(3)  # of dropout
    loss = plain_loss(model, stories)
    expected = gradients(model, loss)
    norm = torch.stack([g.norm() for g in expected]).norm()
    torch.manual_seed(3)
    nats = train_step(Nats(model), torch.optim.SGD(model.parameters(), lr=1.0), pieces(stories, 512))
    close = {"rtol": 1e-10, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-6}
    assert nats == pytest.approx(loss.item() * sum(len(story) - 1 for story in stories), rel=close["rtol"])
    steps = [old - p.detach() for old, p in zip(before, model.parameters(), strict=True)]
    torch.testing.assert_close(steps, [g / (norm + 1e-6).clamp(min=1) for g in expected], **close)


def test_bilinear_attention_starts_as_dot_and_additive_does_not_depend_on_its_chunks(stories, monkeypatch):
    batch = collate_stories(stories)[::2]
    dot, bilinear, additive = map(make_model, ("dot", "bilinear", "additive"))
    bilinear.load_state_dict(dot.state_dict(), strict=False)
    torch.testing.assert_close(bilinear(*batch), dot(*batch))
    whole = gradients(additive, additive(*batch).square().sum())
    monkeypatch.setattr("lstlm.ADDITIVE", 1)
    torch.testing.assert_close(gradients(additive, additive(*batch).square().sum()), whole)


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


def test_ragged_batch_equals_one_story_at_a_time(attention, stories):
    model = make_model(attention, dtype=torch.float32)
    total = sum(compute_loss(model, [story], 1) * (len(story) - 1) for story in stories)
    tokens = sum(len(story) - 1 for story in stories)
    for batch_size in (1, 2, 4, 100):
        assert abs(compute_loss(model, stories, batch_size) - total / tokens) < 1e-5


def test_compute_loss_is_a_mean_over_tokens_and_leaves_the_model_as_it_was(model, stories):
    model.train()
    inputs, targets, lengths = collate_stories(stories)
    log_probs = F.log_softmax(model(inputs, lengths), -1)
    nats = [-log_probs[b, t, targets[b, t]].item() for b in range(len(stories)) for t in range(int(lengths[b]))]
    assert math.isclose(compute_loss(model, stories, 4), sum(nats) / len(nats), rel_tol=1e-12)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    dropping = make_model(dropout=0.5).train()
    assert compute_loss(dropping, stories, 4) == compute_loss(dropping, stories, 4)


def test_loss_of_a_case_computed_by_hand():
    # Two words, weights such that the scores are (0, ln 3): probabilities 1/4 and 3/4 wherever it looks.
    features, weight = torch.ones(3, 1, dtype=torch.float64), torch.tensor([[0.0], [math.log(3)]], dtype=torch.float64)
    loss = LinearCrossEntropy.apply(features, weight, torch.zeros(2, dtype=torch.float64), torch.tensor([0, 1, 1]))
    assert math.isclose(loss.item(), math.log(4) + 2 * math.log(4 / 3), rel_tol=1e-12)


@settings(max_examples=40)
@given(
    rows=st.integers(1, 20), V=st.integers(1, 30), chunk=st.integers(1, 60), scale=st.sampled_from([0.1, 1.0, 100.0]),
    seed=st.integers(0, 99),
)
def test_fused_loss_equals_plain_cross_entropy(rows, V, chunk, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    make = lambda *shape: (scale * torch.randn(*shape, generator=generator, dtype=torch.float64)).requires_grad_()  # noqa: E731
    features, weight, bias = make(rows, 4), make(V, 4), make(V)
    targets = torch.randint(V, (rows,), generator=generator)
    plain = F.cross_entropy(features @ weight.t() + bias, targets, reduction="sum")
    whole, lstlm.CHUNK = lstlm.CHUNK, chunk
    try:
        ours = LinearCrossEntropy.apply(features, weight, bias, targets)
        lstlm.CHUNK = 8 * chunk  # an eighth of that is meant
        with torch.no_grad():
            without_gradients = linear_cross_entropy(features, weight, bias, targets)
    finally:
        lstlm.CHUNK = whole
    torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(without_gradients, plain.detach(), rtol=1e-10, atol=1e-10)
    inputs = (features, weight, bias)
    for a, b in zip(torch.autograd.grad(3 * ours, inputs), torch.autograd.grad(3 * plain, inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10 * scale)


@settings(max_examples=100)
@given(
    cell=st.sampled_from(["lstm", "gru", "rnn"]), lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    H=st.integers(1, 3), N=st.integers(1, 6), dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 99),
)
def test_packed_cells_equal_those_of_pytorch(cell, lengths, H, N, dtype, seed):
    torch.manual_seed(seed)
    model = LSTMLM(torch.randn(9, 5), N, H, cell=cell).to(dtype)
    for parameter in model.lstm.parameters():
        nn.init.normal_(parameter, std=0.5)
    data = torch.randn(len(lengths), max(lengths), 5, dtype=dtype)
    h0, c0 = (torch.randn(H, len(lengths), N, dtype=dtype, requires_grad=True) for _ in range(2))
    packing = pack(torch.tensor(lengths), max(lengths))
    order = packing.sorted_indices
    rows = data.flatten(0, 1)[packing.data].requires_grad_()
    start = (h0, c0) if cell == "lstm" else (h0, h0)  # the others have h only, and c is h in full precision
    ours = model.run_cells(rows, packing.batch_sizes, *(x[:, order] for x in start))
    padded = data.flatten(0, 1).index_copy(0, packing.data, rows).view_as(data)
    packed = pack_padded_sequence(padded, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    output, final = model.lstm(packed, start if cell == "lstm" else h0)
    output, _ = pad_packed_sequence(output, batch_first=True)
    final = final if cell == "lstm" else (final, final)
    theirs = (output.flatten(0, 1)[packing.data], *(x[:, order] for x in final))
    close = {"rtol": 1e-5, "atol": 1e-5 if dtype == torch.float32 else 1e-11}
    ours = ours[0], *map(torch.stack, ours[1:])
    torch.testing.assert_close(ours, theirs, **close)
    weights = [torch.randn_like(x) for x in theirs]
    inputs = [rows, h0, *([c0] if cell == "lstm" else []), *model.lstm.parameters()]
    ours, theirs = (
        torch.autograd.grad(sum((w * x).sum() for w, x in zip(weights, xs, strict=True)), inputs)
        for xs in (ours, theirs)
    )
    torch.testing.assert_close(ours, theirs, **close)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("H", [1, 3])
def test_cells_without_gradient_give_the_same(cell, H, stories):
    model = make_model(H=H, cell=cell)
    batch = collate_stories(stories)
    whole, state = summed_nats(model, *batch)
    with torch.no_grad():
        alone, alone_state = summed_nats(model, *batch)
    assert alone.item() == pytest.approx(whole.item(), rel=1e-12)
    torch.testing.assert_close(alone_state, state, rtol=0, atol=1e-12)


def test_bfloat16_stays_close_to_float32(attention, stories):
    model = make_model(attention, dtype=torch.float32)
    exact, _ = summed_nats(model, *collate_stories(stories))
    exact_grads = gradients(model, exact)
    model.precision = torch.bfloat16
    rough, _ = summed_nats(model, *collate_stories(stories))
    assert abs(rough.item() / exact.item() - 1) < 0.01
    for a, b in zip(exact_grads, gradients(model, rough), strict=True):
        assert torch.cosine_similarity(a.flatten(), b.flatten(), 0) > 0.99


def test_pieces_with_the_state_carried_over_equal_the_whole(model, stories):
    whole, _ = summed_nats(model, *collate_stories(stories))
    for length in (1, 2, 4, 100):
        total, state = 0.0, None
        for inputs, targets, lengths in pieces(stories, length):
            assert inputs.shape[1] <= length
            nats, state = summed_nats(model, inputs, targets, lengths, state and state.take(slice(len(inputs))))
            total += nats.item()
        assert math.isclose(total, whole.item(), rel_tol=1e-12)


def test_more_padding_than_the_longest_story_needs_changes_nothing(model, stories):
    """As in the share of one of several processes, where another one has the longest story."""
    inputs, targets, lengths = collate_stories(stories)
    wide = F.pad(inputs, (0, 3)), F.pad(targets, (0, 3), value=-100), lengths
    torch.testing.assert_close(summed_nats(model, *wide)[0], summed_nats(model, inputs, targets, lengths)[0])
    torch.testing.assert_close(model(wide[0], lengths)[:, :-3], model(inputs, lengths))


def test_collate_pads_inputs_with_0_and_targets_with_minus_100():
    inputs, targets, lengths = collate_stories([[1, 7, 2], [1, 5, 6, 8, 2]])
    assert inputs.tolist() == [[1, 7, 0, 0], [1, 5, 6, 8]]
    assert targets.tolist() == [[7, 2, -100, -100], [5, 6, 8, 2]]
    assert lengths.tolist() == [2, 4]
    assert {inputs.dtype, targets.dtype, lengths.dtype} == {torch.int64}


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=200), B=st.integers(1, 9), seed=st.integers(0, 9))
def test_batches_hold_every_story_once(lengths, B, seed):
    stories = [[0] * n for n in lengths]
    batches = shuffled_batches(stories, B, torch.Generator().manual_seed(seed))
    assert sorted(n for batch in batches for n in batch) == list(range(len(lengths)))
    assert max(map(len, batches)) <= B


def test_batches_hold_stories_of_similar_length_in_random_order():
    stories = [[0] * (1 + i % 97) for i in range(2000)]
    batches = shuffled_batches(stories, 10, torch.Generator().manual_seed(0))
    spread = [max(len(stories[i]) for i in batch) - min(len(stories[i]) for i in batch) for batch in batches]
    assert sum(spread) / len(spread) < 10  # of 97
    assert all(batch == sorted(batch, key=lambda number: -len(stories[number])) for batch in batches)
    assert batches != shuffled_batches(stories, 10, torch.Generator().manual_seed(1))
    assert batches == shuffled_batches(stories, 10, torch.Generator().manual_seed(0))


def test_rows_of_given_vectors_stay_bit_equal_and_the_others_train(model, stories):
    given_rows = [] if model.tied else [i for i in range(3, 40) if not 10 <= i < 20]
    before = model.embedding.weight.detach().clone()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    everything = [[1, *range(3, 40), 2], [1, 0, 5, 2]]
    for _ in range(3):
        train_step(Nats(model), optimizer, pieces(everything, 512))
    after = model.embedding.weight.detach()
    assert torch.equal(before[given_rows], after[given_rows])
    moved = (before != after).any(1)
    assert moved[3:].all() if model.tied else moved[10:20].all()
    assert moved[:2].all()  # <unk> and <bos>; <eos> is never an input


@torch.no_grad()
@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_the_loss_is_that_of_each_story_as_a_whole(monkeypatch, kind, batch_size):
    monkeypatch.setattr(lstlm, "ROWS", 6)  # pieces of one to six positions
    model, stories = make_model(**ALL_KINDS[kind]).eval(), make_stories([40, 0, 7, 23], 40)
    total = sum(float(summed_nats(model, *collate_stories([story]))[0]) for story in stories)
    tokens = sum(len(story) - 1 for story in stories)
    assert math.isclose(compute_loss(model, stories, batch_size), total / tokens, rel_tol=1e-12)


def test_the_pieces_of_a_loss_fit_the_stories_that_there_are(monkeypatch):
    shapes, computed = [], lstlm.summed_nats
    monkeypatch.setattr(lstlm, "ROWS", 64)
    monkeypatch.setattr(lstlm, "summed_nats", lambda *batch: shapes.append(tuple(batch[1].shape)) or computed(*batch))
    compute_loss(make_model(), make_stories([127], 40), 32)  # a stream is the only story, whatever -B says
    assert shapes == [(1, 64), (1, 64)]
    shapes.clear()
    compute_loss(make_model(), make_stories([15, 15, 15, 63], 40), 3)
    assert shapes == [(3, 21), (1, 21), (1, 21), (1, 1), (1, 16)]  # the longest first; 63 words have 64 targets


def test_a_bidirectional_model_sees_its_target():
    """The leak: of words drawn at random, which nobody can predict, it soon knows all; the honest model none."""
    words, stories = 20, make_stories([12] * 200, 23)
    unseen = make_stories([12] * 20, 23, seed=1)
    inputs, _, lengths = collate_stories(stories[:1])
    changed = inputs.clone()
    changed[0, 5] = 3 + (inputs[0, 5] - 2) % words
    nats = {}
    for bidirectional in (False, True):
        model = make_model(V=23, N=32, H=1, dtype=torch.float32, bidirectional=bidirectional)
        seen = (model(changed, lengths) != model(inputs, lengths))[0, 4].any()  # position 4 is to predict token 5
        assert seen == bidirectional
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(100):
            train_step(Nats(model), optimizer, pieces(stories, 512))
        nats[bidirectional] = compute_loss(model, unseen, 20)
    assert nats[False] > 12 / 13 * math.log(words)  # the end is no surprise
    assert nats[True] < 0.2 * math.log(words)


def test_locked_dropout_drops_the_same_columns_all_through_a_story(stories):
    model = make_model(dropout=0.5, locked=True).train()
    _, _, lengths = collate_stories(stories)
    packing = pack(lengths, int(lengths.max()))
    kept = model.drop(torch.ones(len(packing.data), 50), packing.batch_sizes)
    padded, _ = pad_packed_sequence(packing._replace(data=kept), batch_first=True)
    masks = {tuple(story[0].tolist()) for story in padded}
    assert all(torch.equal(row, story[0]) for story, n in zip(padded, map(len, stories), strict=True)
               for row in story[: n - 1])
    assert len(masks) == len(stories)
    assert {value for mask in masks for value in mask} == {0.0, 2.0}
    assert torch.equal(model.eval().drop(kept, packing.batch_sizes), kept)


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


@pytest.mark.parametrize("kind", ALL_KINDS.values(), ids=ALL_KINDS)
def test_cudnn_path_on_the_cpu_gives_the_same(kind, stories):
    model, batch = make_model(**kind), collate_stories(stories)
    expected, state = summed_nats(model, *batch)
    model.run_cells = model.run_cudnn  # float32 or float64 and no autocast: nn.LSTM itself
    ours, ours_state = summed_nats(model, *batch)
    torch.testing.assert_close((ours, ours_state), (expected, state), rtol=0, atol=1e-10)


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


def test_the_gradient_step_clips_the_norm_to_one(stories, monkeypatch):
    model, norms = make_model(), []

    class Watch(torch.optim.SGD):
        def step(self):
            norms.append(torch.stack([p.grad.norm() for p in model.parameters()]).norm().item())

    with torch.no_grad():
        model.output.weight *= 100
    train_step(Nats(model), Watch(model.parameters(), lr=1.0), pieces(stories, 4))
    assert len(norms) == 3  # 10 positions in pieces of 4
    assert math.isclose(norms[0], 1.0, rel_tol=1e-4)
    assert all(norm < 1.0001 for norm in norms)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.int8], ids=str)
def test_steps_of_low_precision_stay_close(kind, precision):
    model = make_model(N=50, dtype=torch.float32, **kind).eval()
    story = make_stories([30], 40)[0]
    exact, rough = Memory(), Memory()
    for end in range(1, len(story)):
        model.precision = torch.float32
        expected = next_logits(model, [story[:end]], exact)
        model.precision = precision
        logits = next_logits(model, [story[:end]], rough)
        assert logits.dtype == torch.float32
        assert float((logits - expected).norm() / expected.norm()) < 0.03
    assert not torch.equal(logits, expected)  # it is another computation


def test_overfits_twenty_stories():
    stories = make_stories([3 + i % 9 for i in range(20)], 60, seed=3)
    for attention in (None, "dot"):
        torch.manual_seed(0)
        model = LSTMLM(torch.zeros(60, 16), 64, 2, attention)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(150):
            train_step(Nats(model), optimizer, pieces(stories, 512))
        # The first words of the stories are a draw out of twenty: that alone cannot be learned.
        tokens = sum(len(story) - 1 for story in stories)
        assert compute_loss(model, stories, 20) < 1.2 * 20 * math.log(20) / tokens
