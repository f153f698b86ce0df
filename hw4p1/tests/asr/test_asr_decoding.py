"""Scores with caches, fusion with a text model, CTC's prefix scores, beams against enumeration."""

from itertools import product
from types import SimpleNamespace

import pytest
import torch
from hw4lib.decoding import (
    CTCPrefixScorer,
    FusedScorer,
    SequenceGenerator,
    SpeechScorer,
    ctc_prefix,
)
from hw4lib.model import DecoderOnlyTransformer, EncoderDecoderTransformer
from tests.asr.small import BINS, randomised
from torch.nn import functional as F
from torch.testing import assert_close

BLANK, SOS, EOS, V = 0, 1, 2, 5
TOKENIZER = SimpleNamespace(sos_id=SOS, eos_id=EOS, pad_id=BLANK)
B = 3
FRAMES = torch.tensor([12, 20, 16])


def make(**changed) -> EncoderDecoderTransformer:
    torch.manual_seed(1)
    sizes = {
        "input_dim": BINS, "time_reduction": 2, "reduction_method": "lstm",
        "num_encoder_layers": 1, "num_encoder_heads": 2, "d_ff_encoder": 12,
        "num_decoder_layers": 2, "num_decoder_heads": 2, "d_ff_decoder": 12, "d_model": 8,
        "dropout": 0.0, "max_len": 30, "num_classes": V, **changed,
    }  # fmt: skip
    return randomised(EncoderDecoderTransformer(**sizes), 0.5)


@pytest.fixture
def heard():
    """A model, and what it has of a batch of utterances."""
    model = make()
    feats = torch.randn(B, 20, BINS, dtype=torch.float64)
    with torch.no_grad():
        x_enc, mask, _, ctc = model.encode(feats, FRAMES)
    return SimpleNamespace(model=model, frames=x_enc, mask=mask, ctc=ctc)


def scorer_of(heard, max_length=9):
    return SpeechScorer(heard.model, heard.frames, heard.mask, max_length)


def prompts(rows=B):
    return torch.full((rows, 1), SOS)


# ---- Scores


def test_cached_scores_are_those_of_the_model(heard):
    scorer, x = scorer_of(heard), prompts()
    calls = []
    heard.model.target_embedding.register_forward_hook(lambda m, a, out: calls.append(out.shape[1]))
    for _ in range(6):
        scores = scorer(x)
        assert_close(scores, heard.model.score(x, heard.frames, heard.mask))
        x = torch.cat([x, scores.argmax(1)[:, None]], 1)
    assert calls[::2] == [1] * 6  # one new token each


def test_cached_scores_of_beams(heard):
    """Beams branch and die; the same tokens mean something else in another utterance."""
    scorer, W = scorer_of(heard), 4
    scorer(prompts())
    torch.manual_seed(0)
    beams = prompts()[:, None].expand(B, W, 1)
    for _ in range(6):
        parents = torch.randint(0, beams.shape[1], (B, W))
        grown = beams.gather(1, parents[:, :, None].expand(B, W, beams.shape[2]))
        beams = torch.cat([grown, torch.randint(3, V, (B, W, 1))], 2)
        expected = torch.stack(
            [heard.model.score(beams[:, w], heard.frames, heard.mask) for w in range(W)], 1
        )
        assert_close(scorer(beams.flatten(0, 1)).unflatten(0, (B, W)), expected)


def test_the_caches_are_as_long_as_a_transcript(heard):
    scorer = scorer_of(heard, 5)
    scorer(prompts())
    assert scorer.caches[0].pairs.shape[2] == 5 and len(scorer.caches) == 2


def test_fusion_adds_the_weighted_scores(heard):
    torch.manual_seed(4)
    text = randomised(DecoderOnlyTransformer(1, 8, 2, 12, 0.0, 9, V))
    fused = FusedScorer(scorer_of(heard), text, 0.3)
    x = torch.tensor([[SOS, 3, 4], [SOS, 4, 4], [SOS, 3, 3]])
    expected = heard.model.score(x, heard.frames, heard.mask) + 0.3 * text.score(x)
    assert_close(fused(x), expected)
    generator = SequenceGenerator(fused, TOKENIZER, 5)
    beams, scores = generator.generate_beam(prompts(), 3)
    plain = SequenceGenerator(
        lambda x: heard.model.score(x, heard.frames, heard.mask) + 0.3 * text.score(x), TOKENIZER, 5
    )
    again, same = plain.generate_beam(prompts(), 3)
    assert beams.equal(again)
    assert_close(scores, same)


# ---- CTC


def collapsed(path) -> tuple[int, ...]:
    """The labels of an alignment."""
    return tuple(c for i, c in enumerate(path) if c != BLANK and (i == 0 or path[i - 1] != c))


def sums_over_alignments(log_probs) -> dict[tuple[int, ...], float]:
    """The probability of each transcript, by all alignments (T, V)."""
    sums = {}
    probs = log_probs.exp().tolist()
    for path in product(range(log_probs.shape[1]), repeat=len(probs)):
        p = 1.0
        for t, c in enumerate(path):
            p *= probs[t][c]
        sums[collapsed(path)] = sums.get(collapsed(path), 0.0) + p
    return sums


@pytest.fixture
def ctc():
    torch.manual_seed(6)
    log_probs = (2 * torch.randn(5, 2, V, dtype=torch.float64)).log_softmax(2)  # (T, B, V)
    return log_probs, torch.tensor([5, 3])


def totals_of(scorer, rows, weight=1.0):
    """The log-probabilities (B, V) of CTC for each beginning and token after it, step by step."""
    total = torch.zeros(len(rows))
    flat = torch.zeros(len(rows), 1, V, dtype=torch.float64)
    beams = torch.tensor([[[SOS]]] * len(rows))
    for step in range(len(rows[0]) + 1):
        gained = scorer(flat, beams)[:, 0]
        if step == len(rows[0]):
            return total[:, None] + gained
        tokens = torch.tensor([row[step] for row in rows])
        total = total + gained.gather(1, tokens[:, None])[:, 0]
        beams = torch.cat([beams, tokens[:, None, None]], 2)
    return None


@pytest.mark.parametrize("beginning", [(), (3,), (3, 3), (3, 4), (4, 1), (4, 3, 4)])
def test_prefix_scores_are_sums_over_alignments(ctc, beginning):
    log_probs, lengths = ctc
    scorer = CTCPrefixScorer(log_probs, lengths, 1.0, BLANK, EOS)
    found = totals_of(scorer, [beginning] * 2)
    for b, T in enumerate(lengths.tolist()):
        sums = sums_over_alignments(log_probs[:T, b])
        assert sum(sums.values()) == pytest.approx(1)
        for token in range(1, V):
            start = (*beginning, token)
            begun = sum(p for labels, p in sums.items() if labels[: len(start)] == start)
            expected = sums.get(start, 0.0) if token == EOS else begun
            if expected == 0:
                assert found[b, token] <= ctc_prefix.PADDED / 2
            else:
                assert float(found[b, token]) == pytest.approx(
                    float(torch.tensor(expected, dtype=torch.float64).log()), abs=1e-6
                )
        assert found[b, BLANK] == -torch.inf


def test_a_whole_transcript_is_scored_as_by_ctc_loss():
    torch.manual_seed(2)
    T, lengths = 300, torch.tensor([300, 170])
    log_probs = (3 * torch.randn(T, 2, 40, dtype=torch.float64)).log_softmax(2)
    rows = torch.randint(3, 40, (2, 60))
    rows[:, 5] = rows[:, 6]
    scorer = CTCPrefixScorer(log_probs, lengths, 1.0, BLANK, EOS)
    flat, total = torch.zeros(2, 1, 40, dtype=torch.float64), torch.zeros(2)
    whole = torch.cat([rows, torch.full((2, 1), EOS)], 1)
    for step in range(whole.shape[1]):
        beams = torch.cat([torch.full((2, 1), SOS), whole[:, :step]], 1)[:, None]
        total = total + scorer(flat, beams)[:, 0].gather(1, whole[:, step : step + 1])[:, 0]
    loss = F.ctc_loss(log_probs, whole, lengths, torch.tensor([61, 61]), reduction="none")
    assert_close(total.double(), -loss, rtol=1e-6, atol=1e-4)


@torch.no_grad()
def scores_of_all(heard, b: int, longest: int, weight: float) -> dict[tuple[int, ...], float]:
    """The joint score of each transcript of an utterance with fewer than `longest` labels."""
    frames = heard.ctc["log_probs"][: heard.ctc["lengths"][b], b : b + 1]
    x_enc, mask = heard.frames[b : b + 1], heard.mask[b : b + 1]
    scored = {}
    for n in range(longest):
        for labels in product([1, 3, 4], repeat=n):
            whole = torch.tensor([[*labels, EOS]])
            sizes = torch.tensor([len(frames)]), torch.tensor([n + 1])
            loss = F.ctc_loss(frames, whole, *sizes, reduction="sum")
            steps, _ = heard.model.decode(torch.tensor([[SOS, *labels]]), x_enc, None, mask)
            attention = steps[0].log_softmax(1).gather(1, whole[0][:, None]).sum()
            scored[labels] = float((1 - weight) * attention - weight * loss)
    return scored


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_joint_beam_search_finds_the_best_of_all(heard, weight):
    """With as many beams as there are sequences nothing is missed."""
    heard.ctc["lengths"] = torch.tensor([4, 6, 5])  # few frames, so that alignments can be counted
    longest = 4  # tokens after SOS
    rescore = CTCPrefixScorer(heard.ctc["log_probs"], heard.ctc["lengths"], weight, BLANK, EOS)
    generator = SequenceGenerator(scorer_of(heard), TOKENIZER, longest + 1, rescore=rescore)
    beams, scores = generator.generate_beam(prompts(), 3**4 + 40)
    for b in range(B):
        scored = scores_of_all(heard, b, longest, weight)
        best = max((score, labels) for labels, score in scored.items())
        finished = [
            (float(s), tuple(beam[1 : beam.index(EOS)]))
            for beam, s in zip(beams[b].tolist(), scores[b], strict=True) if EOS in beam
        ]
        assert max(finished)[1] == best[1]
        assert max(finished)[0] == pytest.approx(best[0], abs=1e-4)


def test_a_narrow_joint_search_is_one_of_a_wide_one_and_no_better(heard):
    def search(width):
        rescore = CTCPrefixScorer(heard.ctc["log_probs"], heard.ctc["lengths"], 0.5, BLANK, EOS)
        generator = SequenceGenerator(scorer_of(heard), TOKENIZER, 6, rescore=rescore)
        return generator.generate_beam(prompts(), width)

    scores = [search(width)[1][:, 0] for width in (1, 4, 200)]
    assert (scores[0] <= scores[2] + 1e-6).all() and (scores[1] <= scores[2] + 1e-6).all()


def test_tokens_that_attention_does_not_think_of_are_left_out(monkeypatch, ctc):
    monkeypatch.setattr(ctc_prefix, "CANDIDATES", 2)
    log_probs, lengths = ctc
    attention = torch.tensor([0.1, 0.05, 0.01, 0.8, 0.04]).log().expand(2, 1, V)
    found = CTCPrefixScorer(log_probs, lengths, 0.5, BLANK, EOS)(
        attention, torch.full((2, 1, 1), SOS)
    )
    assert found.isfinite().equal(torch.tensor([False, False, True, True, False]).expand(2, 1, V))


def test_the_weight_of_ctc_is_a_share(ctc):
    log_probs, lengths = ctc
    attention = torch.randn(2, 1, V, dtype=torch.float64).log_softmax(2)
    beams = torch.full((2, 1, 1), SOS)
    alone, half, none = (
        CTCPrefixScorer(log_probs, lengths, weight, BLANK, EOS)(attention, beams)[:, :, 1:]
        for weight in (1.0, 0.5, 0.0)
    )
    assert_close(none, attention[:, :, 1:])
    assert_close(half, (alone + none) / 2)


@pytest.mark.parametrize("weight", [0.0, 0.4])
def test_beams_are_the_same_on_another_device(heard, second_device, weight):
    """No tensor is left behind on the CPU."""
    found = []
    for device in ("cpu", second_device):
        heard.model.to(device)
        frames, mask = heard.frames.to(device), heard.mask.to(device)
        log_probs, lengths = (heard.ctc[name].to(device) for name in ("log_probs", "lengths"))
        rescore = CTCPrefixScorer(log_probs, lengths, weight, BLANK, EOS) if weight else None
        scorer = SpeechScorer(heard.model, frames, mask, 8)
        generator = SequenceGenerator(scorer, TOKENIZER, 8, device, rescore=rescore)
        found.append(generator.generate_beam(prompts().to(device), 3))
    (beams, scores), (others, other_scores) = found
    assert beams.equal(others.cpu())
    assert_close(scores, other_scores.cpu())
