"""Memory and time in proportion to the input: long stories, long prompts, many of each."""

import json
import time

import backstage.bookkeeping
import lstlm
import pytest
import torch
from backstage.attention import look_back
from backstage.continuations import Continuation
from backstage.minibatches import evaluation_segments, segments
from backstage.reading import next_logits
from backstage.state import State
from peak_memory import peak
from small import make_model, make_stories

LONG = 150_000  # tokens of a story
UNEVEN = [LONG, *[3] * 31]  # of a minibatch


@pytest.fixture(scope="module")
def uneven():
    """A minibatch of a very long story beside 31 short ones."""
    return make_stories(UNEVEN, 40)


def small_model(**switches) -> lstlm.LSTMLM:
    """One in float32."""
    return make_model(dtype=torch.float32, **switches)


def test_a_long_story_does_not_pad_the_others_in_training(uneven):
    def last_segment() -> list:
        parts = list(segments(uneven, 512, lstlm.collate_stories))
        return [len(parts), [list(x.shape) for x in parts[0][:2]], [x.tolist() for x in parts[-1]]]

    megabytes, (count, first, last) = peak(last_segment)
    assert megabytes < 40  # padded all together 77
    assert count == LONG // 512 + 1
    assert first == [[32, 512], [32, 512]]
    left = LONG + 1 - LONG // 512 * 512
    assert last == [[uneven[0][-left - 1 : -1]], [uneven[0][-left:]], [left]]


def test_a_long_story_does_not_pad_the_others_in_evaluation(uneven):
    model = small_model()
    apart = [
        lstlm.compute_loss(model, stories, 32) * sum(len(story) - 1 for story in stories)
        for stories in (uneven[:1], uneven[1:])
    ]
    few = uneven[1:]
    megabytes, loss = peak(
        lambda: lstlm.compute_loss(model, uneven, 32), lambda: lstlm.compute_loss(model, few, 32)
    )
    assert megabytes < 30
    assert loss == pytest.approx(sum(apart) / (LONG + 1 + 31 * 4), abs=1e-6)


@pytest.mark.parametrize(
    "bidirectional, count, most", [(False, 17_000, 1 << 14), (True, 300, 1 << 16)]
)
def test_a_minibatch_of_evaluation_is_as_large_as_memory_allows(bidirectional, count, most):
    """Whatever -B is; a long story that must be seen as a whole is one by itself."""
    model = make_model(bidirectional=bidirectional)
    stories = make_stories([5000, *[3] * count], 40)
    sizes = []
    targets = 0
    for inputs, _, lengths, _ in evaluation_segments(model, stories, 10**9, lstlm.collate_stories):
        sizes.append(inputs.numel())
        targets += int(lengths.sum())
    assert max(sizes) <= most
    assert targets == 5001 + count * 4
    few = stories[:300]
    expected = lstlm.compute_loss(model, few, 7)
    assert lstlm.compute_loss(model, few, 10**9) == pytest.approx(expected, abs=1e-9)


def reference(model: lstlm.LSTMLM, query: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """The context (n,) of one query (n,) over the keys (k, n) that it sees."""
    if model.attention == "dot":
        scores = seen @ query / len(query) ** 0.5
    elif model.attention == "bilinear":
        scores = seen @ (query @ model.W)
    else:
        scores = torch.tanh(query @ model.W.T + seen @ model.U.T) @ model.v
    return torch.softmax(scores, 0) @ seen


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("kind", ["dot", "bilinear", "additive"])
def test_attention_to_a_long_past(kind, gradient):
    """Its masks and scores would have 512 numbers for each earlier token."""
    P = 40_000
    T = 512 if kind != "additive" else 16
    model = small_model(attention=kind)
    torch.manual_seed(0)
    past = torch.randn(1, P, 6)
    hidden = torch.randn(1, T, 6, requires_grad=gradient)

    def contexts(past: torch.Tensor = past) -> list:
        with torch.set_grad_enabled(gradient):
            found = look_back(model, hidden, past)
        slopes = []
        hidden.grad = None
        if gradient:
            found[0, -1].sum().backward()
            slopes = hidden.grad[0, -1].tolist()
        return [found[0, [0, 1, -1]].tolist(), slopes]

    megabytes, (found, slopes) = peak(contexts, lambda: contexts(past[:, :9]))
    assert megabytes < 200  # with all masks and scores at once 270
    keys = torch.cat([past, hidden], 1)[0].double()
    model.double()
    query = keys[-1].detach().requires_grad_()
    expected = [reference(model, keys[P + i], keys[: P + i]) for i in (0, 1)]
    expected.append(reference(model, query, keys[: P + T - 1].detach()))
    torch.testing.assert_close(
        torch.tensor(found).double(), torch.stack(expected), rtol=0, atol=1e-5
    )
    if gradient:
        expected[-1].sum().backward()
        torch.testing.assert_close(torch.tensor(slopes).double(), query.grad, rtol=0, atol=1e-5)


def test_reading_a_prompt_computes_the_scores_of_its_last_position_alone():
    V = 100_000
    model = small_model(V=V, attention="dot").eval()
    (story,) = make_stories([1200], V)
    prompt = story[:-1]
    megabytes, found = peak(
        lambda: next_logits(model, [prompt], State())[0].tolist(),
        lambda: next_logits(model, [prompt[:9]], State()),
    )
    assert megabytes < 40  # those of 512 positions are 200
    with torch.no_grad():
        state = State()
        for part in torch.tensor([prompt]).split(100, 1):
            logits = model(part, torch.tensor([part.shape[1]]), state=state)  # (1, 100, V): of all
    torch.testing.assert_close(torch.tensor(found), logits[0, -1], rtol=0, atol=1e-5)


@pytest.mark.thorough
def test_a_prompt_is_read_in_memory_of_its_own_size():
    model = small_model().eval()
    prompt = make_stories([1_000_000], 40)[0][:-1]

    def read() -> list:
        state = State()
        token = lstlm.generate_next_token(model, prompt, greedy=True, state=state)
        return [token, state.position]

    megabytes, (token, position) = peak(read)
    assert megabytes < 80  # its ids alone are 8
    assert position == 1_000_001
    assert token == lstlm.generate_next_token(model, prompt[-600:], greedy=True)


def test_many_samples_grow_some_at_a_time(trained, call, monkeypatch):
    sizes = []
    grow = lstlm.grow

    def counted(model, continuations, *more):
        sizes.append(len(continuations))
        return grow(model, continuations, *more)

    monkeypatch.setattr(lstlm, "grow", counted)
    flags = ["-prompt", "-json", "-model", trained / "m.pt", "-text", "the cat", "-max_tokens", 4]
    done = call(*flags, "-seed", 3, "-samples", 150)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["seed"] for record in records] == [*range(3, 153)]
    assert max(sizes) <= 64
    assert sum(sizes) == 150
    for number in (0, 70, 149):
        alone = json.loads(call(*flags, "-seed", 3 + number).stdout)
        chances = alone.pop("probs")
        assert records[number].pop("probs") == pytest.approx(chances, abs=1e-6)
        assert records[number] == alone
    sizes.clear()
    call(*flags[:-4], "-seed", 3, "-samples", 3, "-text", "the cat " * 60_000, "-max_tokens", 1)
    assert sizes == [2, 1]  # of a long prompt fewer, as each keeps it


def test_a_continuation_grows_in_time_that_is_linear():
    story = Continuation([1], 1, seed=0, max_tokens=10**9, rounds=True)
    started = time.process_time()
    for number in range(60_000):
        story.add(3 + number % 1000)
    assert time.process_time() - started < 2  # with a copy for each token 6 and more
    assert story.ended is None
    for _ in range(3):
        story.add(7)
    assert story.ended == "a loop: 1 tokens said three times over, in round 1"


def test_looking_at_the_loss_at_each_step_is_not_all_drawing(tiny_flags, monkeypatch):
    drawn = []

    def draw(path, records):
        drawn.append(len(records))
        time.sleep(0.2)

    flags = tiny_flags("-E", 4, "-valid_every", 1)
    flags[flags.index("-B") + 1] = "1"
    monkeypatch.setattr(backstage.bookkeeping, "draw_curve", draw)
    assert lstlm.main(flags) == 0
    assert {1, 5, 10, 15, 20} <= {*drawn}  # the first look, and the last one of each epoch
    assert len(drawn) < 10


def test_a_word_as_long_as_a_file_is_shown_in_short(tiny_flags, trained, write, call):
    word = "\u2603," * 100_000
    shown = call("-use", "-greedy", "-model", trained / "m.pt", "-text", "x" * 100_000).stdout
    assert f"tokens: [{'x' * 60}... is unknown" in shown
    assert len(shown) < 2000
    flags = tiny_flags("-E", 1)
    corpus = write("odd", f"{word}\na b\nb a\n")
    flags[flags.index("-train_corpus") + 1] = str(corpus)
    printed = call(*flags).stdout
    assert f"such as {word[:60]}, are no tokens" in printed
    assert len(printed) < 2000
