"""The next token: the penalty's formula, each restriction by hand, generation step by step."""

import math

import lstlm
import pytest
import torch
from backstage.checkpoint import Loaded
from backstage.continuations import Continuation
from backstage.reading import next_logits
from backstage.sampling import Sampling
from backstage.state import State
from hypothesis import given
from hypothesis import strategies as st
from lstlm import (
    BOS,
    EOS,
    UNK,
    LanguageModel,
    UserError,
    generate_next_token,
    grow,
    next_token_logits,
)
from small import make_model, make_stories

# Of ids 0 to 7; ids 0 and 1 are never generated.
LOGITS = torch.tensor([5.0, 5.0, 0.0, 1.0, 2.0, 3.0, 3.5, -1.0], dtype=torch.float64)
MODEL = make_model()


def probabilities(logits: torch.Tensor, tokens=(BOS,), **settings) -> torch.Tensor:
    """The chances (V,) of the next token where these are what a model gives after `tokens`."""
    tokens = list(tokens)
    state = State(stories=[tokens], logits=logits[None])
    return torch.softmax(next_token_logits(MODEL, tokens, Sampling(**settings), state), 0)


def chosen(**settings) -> list[int]:
    """The ids that are left with these settings."""
    return probabilities(LOGITS, **settings).nonzero()[:, 0].tolist()


def test_without_settings_it_is_the_softmax_without_unk_and_bos():
    probs = probabilities(LOGITS)
    torch.testing.assert_close(probs[2:], torch.softmax(LOGITS[2:], 0))
    assert not probs[[UNK, BOS]].any()


@pytest.mark.parametrize("fp", [-2.0, -0.5, 0.0, 0.7, 2.0])
def test_frequency_penalty_is_equation_2(fp):
    tokens = [1, 3, 5, 6, 3, 6, 3]
    counts = [0, 1, 0, 3, 0, 1, 2, 0]
    pairs = zip(LOGITS[2:].tolist(), counts[2:], strict=True)
    expected = [math.exp(z - fp * c) for z, c in pairs]
    expected = torch.tensor([e / sum(expected) for e in expected], dtype=torch.float64)
    torch.testing.assert_close(probabilities(LOGITS, tokens, fpenalty=fp)[2:], expected)


@pytest.fixture
def falling():
    """A model for which 3 is always the most probable token, then 4, 5, ..."""
    model = make_model(dtype=torch.float32)
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.copy_(torch.linspace(1, 0, 40).roll(3))
    return model


def test_the_penalty_counts_the_prompt_and_works_for_greedy(falling):
    assert generate_next_token(falling, [1, 9], greedy=True) == 3
    assert generate_next_token(falling, [1, 3, 4, 3], greedy=True, fpenalty=2.0) == 5
    assert generate_next_token(falling, [1, 8, 8], greedy=True, fpenalty=-2.0) == 8


def test_the_penalty_counts_all_of_the_story_however_far_back(falling):
    tokens = [1, 3, *range(20, 39), 4, *range(20, 39)]
    assert generate_next_token(falling, tokens, greedy=True, fpenalty=2.0) == 5
    assert generate_next_token(falling, [1, 30, *range(10, 20)], greedy=True, fpenalty=-2.0) == 10
    twice = [1, 30, *range(10, 20), 30, 11, 12, 13]  # twice is more than once
    assert generate_next_token(falling, twice, greedy=True, fpenalty=-0.2) == 11
    assert generate_next_token(falling, twice[:13], greedy=True, fpenalty=-2.0) == 30


def test_the_penalty_counts_what_was_generated(falling):
    story, state = [1, 5, 20, 21, 22], State()
    for _ in range(6):
        token = generate_next_token(falling, story, greedy=True, fpenalty=2.0, state=state)
        story.append(token)
    assert story[5:] == [3, 4, 6, 7, 8, 9]  # 5 was in the prompt


def test_restrictions_by_hand():
    # softmax of 0, 1, 2, 3, 3.5, -1: 0.016, 0.043, 0.117, 0.317, 0.522 and 0.006
    assert chosen(top_k=2) == [5, 6]
    assert chosen(top_k=100) == [2, 3, 4, 5, 6, 7]
    assert chosen(top_p=0.5) == [6]
    assert chosen(top_p=0.6) == [5, 6]
    assert chosen(top_p=1e-9) == [6]
    assert chosen(min_p=0.2) == [4, 5, 6]
    assert chosen(min_p=1.0) == [6]
    assert chosen(temperature=1e-30) == chosen(temperature=1e-320) == [6]
    zero, one = (probabilities(LOGITS, temperature=value) for value in (0, 1))
    assert torch.equal(zero, one)


def test_of_equal_words_the_first_ones_are_kept():
    equal = torch.zeros(2002)  # 2000 words with the same chance
    for settings in ({"top_k": 5}, {"top_p": 5 / 2000 - 1e-9}):
        assert probabilities(equal, **settings).nonzero()[:, 0].tolist() == [2, 3, 4, 5, 6]
    assert probabilities(torch.zeros(4), top_p=0.5).tolist() == [0, 0, 1, 0]


def test_top_p_looks_at_what_top_k_left():
    probs = torch.softmax(LOGITS[[4, 5, 6]], 0)
    two = float(probs[1] + probs[2])
    assert chosen(top_k=3, top_p=two - 1e-4) == [5, 6]
    assert chosen(top_k=3, top_p=two + 1e-4) == [4, 5, 6]


def test_temperature_comes_after_the_penalty_and_before_the_restrictions():
    counts = torch.tensor([0, 1, 0, 0, 0, 0, 2, 0])
    probs = probabilities(LOGITS, [1, 6, 6], fpenalty=1.0, temperature=2.0)
    torch.testing.assert_close(probs[2:], torch.softmax((LOGITS - counts)[2:] / 2, 0))
    hot, cold = (chosen(temperature=value, top_p=0.5) for value in (3.0, 0.5))
    assert len(hot) > len(cold)


@given(
    logits=st.lists(st.floats(-80, 80, width=32), min_size=4, max_size=12),
    temperature=st.floats(0, 100), top_k=st.integers(0, 15), top_p=st.floats(1e-6, 1),
    min_p=st.floats(0, 1), fpenalty=st.floats(-2, 2),
)
def test_any_settings_leave_a_distribution(logits, **settings):
    tokens = [i for i in range(len(logits)) for _ in range(i)]
    probs = probabilities(torch.tensor(logits), tokens, **settings)
    assert not probs[:2].any()
    assert (probs >= 0).all()
    assert abs(float(probs.sum()) - 1) < 1e-5
    if settings["top_k"]:
        assert (probs > 0).sum() <= settings["top_k"]


@pytest.mark.parametrize(
    "bad",
    [
        {"fpenalty": 3}, {"fpenalty": math.nan}, {"temperature": -1}, {"temperature": math.inf},
        {"top_k": -1}, {"top_p": 0}, {"top_p": 1.5}, {"min_p": -0.1}, {"min_p": 2},
    ],
)
def test_settings_that_make_no_sense(bad):
    with pytest.raises(UserError, match=f"-{next(iter(bad))}"):
        Sampling(**bad)
    with pytest.raises(UserError, match=f"-{next(iter(bad))}"):
        generate_next_token(MODEL, [1], **bad)


def test_temperature_0_is_greedy():
    for tokens in ([1], [1, 7, 8], [1, 30]):
        assert generate_next_token(MODEL, tokens, temperature=0) == generate_next_token(
            MODEL, tokens, greedy=True
        )


def test_incremental_scores_equal_a_full_forward(model):
    story = make_stories([40], 40)[0][:-1]
    logits = model(torch.tensor([story]), torch.tensor([len(story)]))[0]
    state, other = State(), None
    for end in (1, 2, 3, 10, 11, 41):
        found = next_logits(model, [story[:end]], state)[0]
        torch.testing.assert_close(found, logits[end - 1], rtol=0, atol=1e-12)
        if end == 10:
            other = state.take([0])
    changed = [*story[:10], 5, 6]
    expected = model(torch.tensor([changed]), torch.tensor([12]))[0, -1]
    found = next_logits(model, [changed], other)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_a_state_of_something_else_is_not_used(model):
    state = State()
    next_logits(model, [[1, 5, 6, 7]], state)
    for tokens in ([1, 5, 8], [1, 5], [1, 9, 6, 7, 8]):
        expected = next_logits(model, [tokens], State())
        torch.testing.assert_close(next_logits(model, [tokens], state), expected)


def test_greedy_text_with_and_without_state(model):
    with_state, without, state = [1], [1], State()
    settings = {"greedy": True, "fpenalty": 0.3}
    for _ in range(25):
        with_state.append(generate_next_token(model, with_state, **settings, state=state))
        without.append(generate_next_token(model, without, **settings))
    assert with_state == without


def test_samples_follow_the_probabilities_and_the_seed():
    model = make_model(dtype=torch.float32)

    def draw(seed: int, count: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed)
        state = State()
        settings = {"generator": generator, "state": state}
        return [generate_next_token(model, [1, 7], **settings) for _ in range(count)]

    assert draw(5, 30) == draw(5, 30) != draw(6, 30)
    counts = torch.bincount(torch.tensor(draw(0, 5000)), minlength=40) / 5000
    expected = torch.softmax(next_token_logits(model, [1, 7], Sampling()), 0)
    spread = (expected * (1 - expected) / 5000).sqrt()
    assert float(((counts - expected).abs() / spread.clamp(min=1e-9)).max()) < 4


def test_the_end_of_a_story_can_be_chosen():
    assert probabilities(LOGITS)[EOS] > 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_refused(bad):
    with pytest.raises(UserError, match="no finite numbers"):
        probabilities(torch.tensor([0.0, 0.0, 1.0, bad]))


# ---- Ties ---------------------------------------------------------------------------------------

TIED = [7, 12, 13, 30]  # the words that are the most probable ones alike


@pytest.fixture(params=[torch.float32, torch.bfloat16, torch.int8], ids=str)
def tied(request):
    """A model, in each precision of generation, that has four best words, and four next ones."""
    model = make_model(dtype=torch.float32)
    model.precision = request.param
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.fill_(-1)
        model.output.bias[TIED] = 2
        model.output.bias[[8, 9, 20, 31]] = 1
    words = [f"w{i}" for i in range(40)]
    return LanguageModel(Loaded(model.eval(), None, words, {}, {}, None))


def test_of_equal_words_the_first_is_taken_and_leads_the_table(tied):
    """Given all at once, a token at a time, and in a batch."""
    for state in (None, State()):
        ids = [1, 5]
        for _ in range(3):
            ids.append(generate_next_token(tied.model, ids, greedy=True, state=state))
        assert ids == [1, 5, 7, 7, 7]
    stories = [Continuation([1, 5], 2, seed, 3) for seed in range(3)]
    for _ in grow(tied.model, stories, Sampling(greedy=True)):
        pass
    assert [story.ids for story in stories] == [ids] * 3
    logits = next_token_logits(tied.model, [1, 5], Sampling())
    table = tied.most_probable(logits, torch.softmax(logits, 0), 10)
    order = [*TIED, 8, 9, 20, 31, 2, 3]
    assert [word for word, _ in table] == [f"w{i}" for i in order]
    probs = [p for _, p in table]
    assert len(set(probs[:4])) == len(set(probs[4:8])) == 1 and probs == sorted(probs)[::-1]


def test_words_that_only_their_logits_tell_apart_stand_in_the_order_of_those():
    """At such a temperature all probabilities are equal numbers."""
    settings = Sampling(greedy=True, temperature=1e300)
    logits = next_token_logits(MODEL, [1], settings, State(stories=[[1]], logits=LOGITS[None]))
    probs = torch.softmax(logits, 0)
    assert len(probs[2:].unique()) == 1
    language_model = LanguageModel(Loaded(MODEL, None, list("abcdefgh"), {}, {}, None))
    table = language_model.most_probable(logits, probs, 3)
    assert [word for word, _ in table] == ["g", "f", "e"]
    assert int(logits.argmax()) == 6


# ---- Numbers at the ends of what a float is -----------------------------------------------------


@pytest.mark.parametrize("temperature", [1e-39, 1e-46, 1e-300, 1e-310, 5e-324])
def test_the_smallest_temperatures_take_the_most_probable(temperature):
    expected = [0.0] * 6 + [1.0, 0.0]
    assert probabilities(LOGITS, temperature=temperature).tolist() == expected
    two = torch.tensor([0, 0, 3.0, 3.0, 1.0])
    probs = probabilities(two, temperature=temperature, top_k=3, top_p=0.9, min_p=0.1)
    assert probs.tolist() == [0, 0, 0.5, 0.5, 0]


def test_the_largest_temperature_takes_each_alike():
    probs = probabilities(LOGITS, temperature=1e308)
    torch.testing.assert_close(probs[2:], torch.full((6,), 1 / 6, dtype=torch.float64))


NUMBERS = ["-5e-1", "-.5", "-0.5e0", "-5E-01"]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_negative_number_is_one_in_each_of_its_forms(number):
    args = lstlm.parse_args(["-use", "-fpenalty", number, "-greedy"])
    assert (args.sampling.fpenalty, args.greedy) == (-0.5, True)
    assert lstlm.parse_args(["-use", f"-fpenalty={number}"]).sampling.fpenalty == -0.5
    assert lstlm.parse_args(["-use", "-text", number]).text == number


FLAGS = (
    "lr", "emb_lr", "weight_decay", "dropout", "fpenalty", "temperature", "top_p", "min_p", "H",
    "N", "E", "B", "EDim", "VSize", "bptt", "patience", "valid_every", "seed", "top_k",
    "max_tokens", "samples",
)


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("number", ["-3e0", "-1e400", "-inf", "-nan"])
def test_a_number_that_makes_no_sense_is_told_by_its_flag(flag, number):
    with pytest.raises(UserError, match=f"-{flag}\\b.*: give a (whole )?number"):
        lstlm.parse_args(["-train", f"-{flag}", number])


def test_what_only_looks_like_a_number_is_no_value():
    for words in (["-3e0"], ["-greedy", "-3e0"], ["-test_corpus", "a", "-3e0"]):
        with pytest.raises(UserError):
            lstlm.parse_args(["-evaluate", *words])
