"""Generation.

Against plain loops, exhaustive search, counted draws, and the model without a cache.
"""

import itertools
import math

import pytest
import torch
from hw4lib.decoding import CachedScorer, SequenceGenerator
from hw4lib.errors import UserError
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny import TOKENIZER, V, ids, make_model
from torch.testing import assert_close

EOS = TOKENIZER.eos_id
EXACT = {"rtol": 1e-10, "atol": 1e-10}


class Table:
    """A score_fn whose scores depend on the last token and the length alone.

    It notes the shapes it is called with.
    """

    def __init__(self, seed: int, eos_bonus: float = 0.0):
        generator = torch.Generator().manual_seed(seed)
        self.scores = torch.randn(20, V, V, generator=generator, dtype=torch.float64) * 2
        self.scores[:, :, EOS] += eos_bonus
        self.shapes = []

    def __call__(self, x):
        self.shapes.append(tuple(x.shape))
        return self.scores[x.shape[1], x[:, -1]]


def make_generator(score_fn, max_length=8) -> SequenceGenerator:
    return SequenceGenerator(score_fn, TOKENIZER, max_length, "cpu")


def penalised(logits: list[float], sequence: list[int], penalty: float) -> list[float]:
    """The repeat penalty of one sequence, by its definition."""
    return [
        (z / penalty if z > 0 else z * penalty) if v in sequence else z
        for v, z in enumerate(logits)
    ]


def log_softmax(logits: list[float]) -> list[float]:
    total = math.log(sum(math.exp(z) for z in logits))
    return [z - total for z in logits]


def next_log_probs(
    table: Table, sequence: list[int], temperature: float, penalty: float
) -> list[float]:
    logits = table.scores[len(sequence), sequence[-1]].tolist()
    return log_softmax([z / temperature for z in penalised(logits, sequence, penalty)])


def log_prob(table: Table, prompt: int, sequence: list[int], temperature=1.0, penalty=1.0) -> float:
    """The log-probability of what `sequence` has after its prompt, up to its first EOS."""
    total = 0.0
    for end in range(prompt, len(sequence)):
        total += next_log_probs(table, sequence[:end], temperature, penalty)[sequence[end]]
        if sequence[end] == EOS:
            break
    return total


def cut(sequence: torch.Tensor) -> list[int]:
    return SequenceGenerator.post_process_sequence(sequence, TOKENIZER).tolist()


settings = given(
    st.integers(0, 1000), st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from([1.0, 1.3, 3.0, 0.7]),
    st.sampled_from([-30.0, 0.0, 2.0]), st.integers(1, 4),
)  # fmt: skip


# ---- Greedy


@settings
def test_greedy_is_its_plain_loop(seed, temperature, penalty, eos_bonus, batch):
    table, prompts = Table(seed, eos_bonus), ids(batch, 3, seed=seed)
    sequences, scores = make_generator(table).generate_greedy(prompts, temperature, penalty)
    for sequence, score, prompt in zip(sequences, scores, prompts.tolist(), strict=True):
        while len(prompt) < 8 and EOS not in prompt:
            log_probs = next_log_probs(table, prompt, temperature, penalty)
            prompt.append(log_probs.index(max(log_probs)))
        assert cut(sequence) == prompt
        assert score.item() == pytest.approx(log_prob(table, 3, prompt, temperature, penalty))


def test_greedy_stops_at_max_length_or_when_all_have_ended():
    never = Table(0, eos_bonus=-100)
    sequences, _ = make_generator(never).generate_greedy(ids(2, 3))
    assert sequences.shape == (2, 8)
    assert never.shapes == [(2, length) for length in range(3, 8)]
    at_once = Table(0, eos_bonus=100)
    sequences, scores = make_generator(at_once).generate_greedy(ids(2, 3))
    assert sequences.tolist() == [[*prompt, EOS] for prompt in ids(2, 3).tolist()]
    assert at_once.shapes == [(2, 3)] and scores.shape == (2,)


@pytest.mark.parametrize("call", [
    lambda g, x: g.generate_greedy(x),
    lambda g, x: g.generate_sample(x),
    lambda g, x: g.generate_beam(x, 2),
])  # fmt: skip
def test_nothing_is_added_to_a_prompt_of_max_length(call):
    table, prompts = Table(0), ids(2, 8)
    sequences, scores = call(make_generator(table), prompts)
    assert torch.equal(sequences if sequences.dim() == 2 else sequences[:, 0], prompts)
    assert not scores.flatten()[0].any() and table.shapes == []


# ---- Beam search


def plain_beams(table, prompt, width, temperature, penalty, max_length):
    """Beam search of one prompt over lists of tokens; finished beams stay as they are."""
    beams = [(0.0, prompt)]
    while not all(EOS in tokens for _, tokens in beams):
        if max(len(tokens) for _, tokens in beams) >= max_length:
            break
        grown = []
        for score, tokens in beams:
            if EOS in tokens:
                grown.append((score, tokens))
                continue
            log_probs = next_log_probs(table, tokens, temperature, penalty)
            grown += [(score + log_probs[v], [*tokens, v]) for v in range(V)]
        beams = sorted(grown, key=lambda beam: -beam[0])[:width]
    return beams


@settings
def test_beam_search_is_its_plain_loop(seed, temperature, penalty, eos_bonus, batch):
    table, prompts = Table(seed, eos_bonus), ids(batch, 2, seed=seed)
    sequences, scores = make_generator(table, 6).generate_beam(prompts, 4, temperature, penalty)
    assert sequences.shape[:2] == scores.shape == (batch, 4) and sequences.shape[2] <= 6
    for beams, beam_scores, prompt in zip(sequences, scores, prompts.tolist(), strict=True):
        expected = plain_beams(table, prompt, 4, temperature, penalty, 6)
        assert [cut(beam) for beam in beams] == [tokens for _, tokens in expected]
        assert beam_scores.tolist() == pytest.approx([score for score, _ in expected])


def test_a_wide_beam_finds_the_best_of_all_sequences():
    table, prompt = Table(3), [7, 8]
    everything = set()
    for tail in itertools.product(range(V), repeat=3):
        end = tail.index(EOS) + 1 if EOS in tail else 3
        everything.add((*prompt, *tail[:end]))
    best = sorted(everything, key=lambda s: -log_prob(table, 2, list(s)))[:5]
    sequences, scores = make_generator(table, 5).generate_beam(torch.tensor([prompt]), V * V)
    assert [tuple(cut(beam)) for beam in sequences[0, :5]] == best
    assert scores[0, :5].tolist() == pytest.approx([log_prob(table, 2, list(s)) for s in best])


def test_a_beam_of_one_is_greedy():
    table, prompts = Table(4), ids(3, 2)
    beams, beam_scores = make_generator(table).generate_beam(prompts, 1, 0.7, 1.2)
    sequences, scores = make_generator(table).generate_greedy(prompts, 0.7, 1.2)
    for beam, sequence in zip(beams[:, 0], sequences, strict=True):
        assert cut(beam) == cut(sequence)
    assert_close(beam_scores[:, 0], scores)


def test_beams_are_scored_one_at_a_time():
    table = Table(0, eos_bonus=-100)
    make_generator(table, 5).generate_beam(ids(3, 2), 2)
    assert table.shapes == [(3, 2), (3, 3), (3, 3), (3, 4), (3, 4)]


def test_beams_recover_when_most_first_tokens_are_hopeless():
    def score(x):
        logits = torch.full((len(x), V), -1000.0)
        if x.shape[1] == 1:
            logits[:, 6] = 0.0
        else:
            logits[:, [7, 8]] = torch.tensor([0.0, -1.0])
        return logits

    sequences, scores = make_generator(score, 3).generate_beam(torch.tensor([[3], [3]]), 4)
    assert sequences[:, :2].tolist() == [[[3, 6, 7], [3, 6, 8]]] * 2
    assert (scores.diff(dim=1) <= 0).all()


def test_more_beams_than_sequences():
    sequences, scores = make_generator(Table(0), 3).generate_beam(ids(2, 2), V + 3)
    assert sequences.shape == (2, V + 3, 3)
    assert len({tuple(beam) for beam in sequences[0, :V].tolist()}) == V
    assert torch.isinf(scores).int().tolist() == [[0] * V + [1] * 3] * 2


# ---- Sampling


def test_samples_are_drawn_from_the_distribution():
    table, n = Table(1), 20_000
    torch.manual_seed(0)
    sequences, scores = make_generator(table, 3).generate_sample(
        torch.full((n, 2), 7), temperature=1.5
    )
    log_probs = torch.tensor(next_log_probs(table, [7, 7], 1.5, 1.0), dtype=torch.float64)
    counts = torch.bincount(sequences[:, 2], minlength=V)
    expected = n * log_probs.exp()
    # Chi-squared with 10 degrees of freedom: 1 in 1000.
    assert ((counts - expected) ** 2 / expected).sum() < 29.6
    assert_close(scores, log_probs[sequences[:, 2]])


def test_scores_of_samples_are_those_of_the_filtered_distribution_until_eos():
    table, generator = Table(2, eos_bonus=1), make_generator(Table(2, eos_bonus=1))
    torch.manual_seed(0)
    sequences, scores = generator.generate_sample(ids(20, 2), temperature=0.8, top_k=4, top_p=0.9)
    assert any(EOS in s[:-1] for s in sequences.tolist())
    for sequence, score in zip(sequences, scores, strict=True):
        tokens, total = cut(sequence), 0.0
        for end in range(2, len(tokens)):
            logits = table.scores[end, tokens[end - 1]]
            total += generator._filter_logits(
                logits, 0.8, 4, 0.9
            ).log_softmax(-1)[tokens[end]].item()
        assert score.item() == pytest.approx(total)


PROBABILITIES = torch.tensor([[0.15, 0.5, 0.25, 0.1]])  # at temperature 2: 0.20, 0.37, 0.26, 0.17


@pytest.mark.parametrize(("options", "kept"), [
    ({}, [0, 1, 2, 3]), ({"top_k": 1}, [1]), ({"top_k": 3}, [0, 1, 2]),
    ({"top_k": 9}, [0, 1, 2, 3]),
    ({"top_p": 1e-9}, [1]), ({"top_p": 0.49}, [1]), ({"top_p": 0.51}, [1, 2]),
    ({"top_p": 0.76}, [0, 1, 2]),
    # Of two they are 2/3 and 1/3.
    ({"top_p": 0.91}, [0, 1, 2, 3]), ({"top_k": 2, "top_p": 0.6}, [1]),
    ({"temperature": 2.0, "top_p": 0.51}, [1, 2]), ({"temperature": 0.5, "top_p": 0.71}, [1]),
    ({"temperature": 2.0, "top_p": 0.70}, [0, 1, 2]), ({"temperature": 0.5, "top_p": 0.76}, [1, 2]),
])  # fmt: skip
def test_what_the_filters_keep(options, kept):
    filtered = make_generator(None)._filter_logits(PROBABILITIES.log(), **options)
    assert filtered.isfinite().nonzero()[:, 1].tolist() == kept
    assert_close(filtered[0, kept], PROBABILITIES.log()[0, kept] / options.get("temperature", 1.0))


def test_ties_with_the_kth_survive():
    filtered = make_generator(None)._filter_logits(torch.tensor([[1.0, 3.0, 1.0, 0.0]]), top_k=2)
    assert filtered.isfinite().tolist() == [[True, True, True, False]]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12), st.floats(0.01, 0.99))
def test_the_nucleus_is_the_smallest_set_with_more_than_p(logits, p):
    logits = torch.tensor(logits, dtype=torch.float64)
    kept = make_generator(None)._filter_logits(logits, top_p=p).isfinite()
    probs = logits.softmax(0)
    mass, least = probs[kept].sum(), probs[kept].min()
    assert kept.any() and (mass > p - 1e-12)
    assert kept.sum() == 1 or mass - least <= p + 1e-12
    assert (probs[~kept] <= least).all()


def test_sampling_with_k_of_one_is_greedy():
    table, prompts = Table(6), ids(4, 2)
    sampled, _ = make_generator(table).generate_sample(prompts, top_k=1)
    greedy, _ = make_generator(table).generate_greedy(prompts)
    assert [cut(s) for s in sampled] == [cut(s) for s in greedy]


# ---- What all of them share


@given(st.integers(0, 50), st.sampled_from([0.5, 1.0, 1.7]), st.sampled_from([(), (3,)]))
def test_repeat_penalty_is_its_definition(seed, penalty, beams):
    logits = torch.randn(
        2, *beams, V, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    sequences, before = ids(2, *beams, 5, seed=seed), logits.clone()
    out = make_generator(None)._apply_repeat_penalty(logits, sequences, penalty)
    assert torch.equal(logits, before)  # the caller's logits are not touched
    for row, sequence, got in zip(
        logits.view(-1, V), sequences.view(-1, 5), out.view(-1, V), strict=True
    ):
        assert got.tolist() == pytest.approx(penalised(row.tolist(), sequence.tolist(), penalty))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [5e-324, 1e-310, 1e-39, 1e-30, 1e-9])
def test_a_temperature_near_0_is_greedy(dtype, temperature):
    table, prompts = Table(3), ids(3, 2)
    table.scores = table.scores.to(dtype)
    generator = make_generator(table)
    best, _ = generator.generate_greedy(prompts)
    expected = [cut(sequence) for sequence in best]
    for ways in (
        generator.generate_greedy(prompts, temperature),
        generator.generate_sample(prompts, temperature),
        generator.generate_sample(prompts, temperature, top_k=3, top_p=0.9),
    ):
        assert [cut(sequence) for sequence in ways[0]] == expected
        assert ways[1].tolist() == [0.0] * 3  # the logarithm of 1
    beams, scores = generator.generate_beam(prompts, 2, temperature)
    assert [cut(sequence) for sequence in beams[:, 0]] == expected
    assert scores[:, 0].tolist() == [0.0] * 3 and not scores.isnan().any()
    filtered = generator._filter_logits(table.scores[2, :3], temperature)
    assert torch.equal(filtered.softmax(-1).argmax(-1), table.scores[2, :3].argmax(-1))


@pytest.mark.parametrize("temperature", [1e30, 1e39, 1e308])
def test_a_high_temperature_makes_all_tokens_as_probable(temperature):
    logits = torch.tensor([[-3.0, 0.0, 5.0]])
    filtered = make_generator(None)._filter_logits(logits, temperature)
    assert_close(filtered.softmax(-1), torch.full((1, 3), 1 / 3))


def test_two_best_tokens_share_the_probability_at_any_temperature():
    logits = torch.tensor([[1.0, 7.0, 7.0]])
    filtered = make_generator(None)._filter_logits(logits, 1e-39)
    assert filtered.softmax(-1).tolist() == [[0.0, 0.5, 0.5]]


@pytest.mark.parametrize("penalty", [5e-324, 1e-39, 1e39, 1e308])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_repeat_penalty_gives_numbers(penalty, dtype):
    logits = torch.tensor([[-2.0, 0.0, 3.0, 1.0]], dtype=dtype)
    out = make_generator(None)._apply_repeat_penalty(logits, torch.tensor([[0, 1, 2]]), penalty)
    assert out.isfinite().all()
    assert out[0, [1, 3]].tolist() == [0.0, 1.0]
    assert out[0, 2] > 1e30 if penalty < 1 else 0 <= out[0, 2] < 1e-30
    assert out[0, 0] < -1e30 if penalty > 1 else -1e-30 < out[0, 0] <= 0
    table = Table(3)
    table.scores = table.scores.to(dtype)
    for sequences, scores in (
        make_generator(table).generate_greedy(ids(2, 2), 1.0, penalty),
        make_generator(table).generate_beam(ids(2, 2), 2, 1.0, penalty),
    ):
        assert sequences.shape[-1] == 8 and not scores.isnan().any()


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_scores_that_are_no_finite_numbers_are_told(odd):
    table = Table(0)
    table.scores[:, :, 6] = odd
    for call in (
        lambda g: g.generate_greedy(ids(1, 2)), lambda g: g.generate_sample(ids(1, 2)),
        lambda g: g.generate_beam(ids(1, 2), 2),
    ):
        with pytest.raises(UserError, match="the model's scores are no finite numbers"):
            call(make_generator(table))


def test_sequences_are_cut_after_their_first_eos():
    batch = torch.tensor([[3, 6, EOS, 7, EOS], [3, 6, 7, 8, 9], [EOS, 6, 7, 8, 9]])
    generator = make_generator(None)
    assert [s.tolist() for s in generator.post_process_sequence(batch, TOKENIZER)] == [
        [3, 6, 4], [3, 6, 7, 8, 9], [4],
    ]
    assert generator.post_process_sequence(batch[0], TOKENIZER).tolist() == [3, 6, 4]


@pytest.mark.parametrize(("call", "error", "words"), [
    (lambda g: g.generate_greedy([[1, 2]]), TypeError, "list"),
    (lambda g: g.generate_greedy(ids(3)), ValueError, r"shape \(3,\)"),
    (lambda g: g.generate_beam(ids(1, 2, 2), 2), ValueError, "shape"),
    (lambda g: g.generate_sample(ids(1, 9)), ValueError, "9 tokens.*max_length 8"),
    (lambda g: g.generate_beam(ids(1, 2), 0), ValueError, "beam_width is 0"),
    (lambda g: g.generate_sample(ids(1, 2), temperature=0), ValueError, "temperature is 0"),
    (lambda g: g.generate_greedy(ids(1, 2), temperature=-1.0), ValueError, "temperature is -1"),
    (lambda g: g.generate_sample(ids(1, 2), top_k=-1), ValueError, "top_k is -1"),
    (lambda g: g.generate_sample(ids(1, 2), top_p=0.0), ValueError, "top_p is 0"),
    (lambda g: g.generate_sample(ids(1, 2), top_p=1.1), ValueError, "top_p is 1.1"),
])  # fmt: skip
def test_bad_arguments(call, error, words):
    with pytest.raises(error, match=words):
        call(make_generator(Table(0)))


# ---- The key-value cache


class Counting(CachedScorer):
    """Notes how many sequences and new tokens are computed in each call."""

    def __init__(self, model):
        super().__init__(model)
        self.computed, score_after = [], model.score_after

        def note(caches, tokens, start):
            self.computed.append(tuple(tokens.shape))
            return score_after(caches, tokens, start)

        model.score_after = note


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["grow", "shuffle", "branch", "new", "again", "shorter", "edit"]),
            st.integers(0, 10_000),
        ),
        max_size=8,
    )
)
def test_cached_scores_are_those_of_the_model(steps):
    model = make_model()
    scorer, x = CachedScorer(model), ids(3, 2)
    for step, seed in [("again", 0), *steps]:
        draw = torch.Generator().manual_seed(seed)
        if step in ("grow", "shuffle", "branch"):
            rows = {
                "grow": torch.arange(len(x)), "shuffle": torch.randperm(len(x), generator=draw),
            }.get(step)
            rows = torch.randint(len(x), (1 + seed % 5,), generator=draw) if rows is None else rows
            x = torch.cat([x[rows], ids(len(rows), 1 + seed % 2, seed=seed)], 1)[:, :16]
        elif step == "new":
            x = ids(1 + seed % 4, 1 + seed % 5, seed=seed)
        elif step == "shorter":
            x = x[:, : max(1, x.shape[1] - 1 - seed % 3)]
        elif step == "edit":
            x = torch.cat([x, ids(len(x), 1, seed=seed)], 1)[:, :16]
            x[seed % len(x), seed % x.shape[1]] = 6 + (seed // 7) % 5
        assert_close(scorer(x), model.score(x), **EXACT)


def test_only_new_tokens_are_computed_and_equality_is_verified():
    scorer = Counting(make_model())
    x = ids(3, 4)
    for tokens in (x, torch.cat([x, x[:, :1]], 1), torch.cat([x, x[:, :3]], 1)):
        scorer(tokens)
    assert scorer.computed == [(3, 4), (3, 1), (3, 2)]
    scorer(torch.cat([x, x], 1)[[2, 0, 0, 1, 2]])  # branched beams
    assert scorer.computed[3:] == [(5, 1)]
    edited = torch.cat([x, x, x[:, :1]], 1)
    edited[1, 2] += 1 if edited[1, 2] < 10 else -1
    scorer(edited)
    assert scorer.computed[4:] == [(3, 9)]


WAYS = {
    "greedy": lambda g, x: g.generate_greedy(x, 1.0, 1.2),
    "beam": lambda g, x: g.generate_beam(x, 5, 0.9, 1.2),
    "sample": lambda g, x: g.generate_sample(x, 1.1, 6, 0.95),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_text_and_beams_are_the_same_with_the_cache(way, dtype):
    for seed in range(4):
        tied = seed % 2 == 1
        model = make_model(num_layers=3, max_len=20, weight_tying=tied).to(dtype)
        results = []
        for score_fn in (model.score, CachedScorer(model)):
            torch.manual_seed(seed)
            results.append(WAYS[way](make_generator(score_fn, 20), ids(4, 3, seed=seed)))
        (plain, plain_scores), (cached, cached_scores) = results
        assert torch.equal(plain, cached)
        assert_close(plain_scores, cached_scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", [
    "sample", pytest.param("greedy", marks=pytest.mark.thorough),
    pytest.param("beam", marks=pytest.mark.thorough),
])  # fmt: skip
def test_text_and_beams_are_the_same_on_another_device(way, second_device):
    def generate(device, make_scorer):
        model = make_model(num_layers=3, max_len=20).to(device)
        torch.manual_seed(0)
        sequences, scores = WAYS[way](make_generator(make_scorer(model), 20), ids(4, 3).to(device))
        assert sequences.device.type == scores.device.type == torch.device(device).type
        return sequences.cpu(), scores.cpu()

    cached, cached_scores = generate(second_device, CachedScorer)
    # A GPU draws other samples than the CPU.
    others = [second_device]
    if way != "sample" or second_device.type != "cuda":
        others.append("cpu")
    for device in others:
        plain, plain_scores = generate(device, lambda model: model.score)
        assert torch.equal(plain, cached)
        assert_close(plain_scores, cached_scores, rtol=1e-5, atol=1e-5)


def test_a_cached_beam_search_computes_a_token_per_beam_and_step():
    model = make_model()
    with torch.no_grad():
        model.final_linear.bias[EOS] = -100
    scorer = Counting(model)
    make_generator(scorer, 7).generate_beam(ids(2, 3), 4)
    assert scorer.computed == [(2, 3), (8, 1), (8, 1), (8, 1)]


def test_the_cache_refuses_what_the_model_refuses():
    model = make_model()
    with pytest.raises(ValueError, match="max_len is 16"):
        CachedScorer(model)(ids(1, 17))
    with pytest.raises(ValueError, match="eval"):
        CachedScorer(model.train())(ids(1, 3))


def test_no_graph_is_kept():
    model = make_model()
    for score_fn in (model.score, CachedScorer(model)):
        assert not make_generator(score_fn).generate_greedy(ids(1, 3))[1].requires_grad
