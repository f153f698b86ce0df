"""The feed-forward language model: its scores by hand, its loss and gradients, and its two modes."""

import json
import math
import signal
from pathlib import Path

import fflm
import lstlm
import pytest
import torch
from lstlm import BOS, collate_stories, compute_loss, pieces, summed_nats
from small import make_stories
from torch.nn import functional as F

SAMPLE = Path(lstlm.__file__).parent.parent / "data" / "sample"


@pytest.fixture(params=[(1, 1), (3, 2), (12, 1)], ids=str)
def model(request):
    """A small float64 model; 12 tokens are more than any story has."""
    torch.manual_seed(1)
    K, H = request.param
    return fflm.FFLM(torch.randn(40, 6), K, H, 10).double()


def reference_logits(model: fflm.FFLM, story: list[int]) -> torch.Tensor:
    """Scores (T, V) of one story, a position at a time."""
    rows = []
    for t in range(1, len(story)):
        context = ([BOS] * model.K + story[1:t])[-model.K :]
        x = torch.cat([model.embedding.weight[token] for token in context])
        for layer in model.hidden[::2]:
            x = (layer.weight @ x + layer.bias).clamp(min=0)
        rows.append(model.output.weight @ x + model.output.bias)
    return torch.stack(rows)


def test_scores_loss_and_gradients_are_those_of_the_reference(model, stories):
    inputs, targets, lengths = collate_stories(stories)
    logits, expected = model(inputs, lengths), 0
    for row, story in enumerate(stories):
        reference = reference_logits(model, story)
        torch.testing.assert_close(logits[row, : len(story) - 1], reference, rtol=0, atol=1e-12)
        expected = expected + F.cross_entropy(reference, torch.tensor(story[1:]), reduction="sum")
    nats, _ = summed_nats(model, inputs, targets, lengths)
    torch.testing.assert_close(nats, expected, rtol=1e-12, atol=0)
    weights = [p for p in model.parameters() if p.requires_grad]
    ours, theirs = (torch.autograd.grad(loss, weights) for loss in (nats, expected))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    assert len(weights) == 2 * (len(model.hidden) // 2 + 1)  # the vectors are frozen


def test_pieces_with_the_state_carried_over_equal_the_whole(model, stories):
    whole, _ = summed_nats(model, *collate_stories(stories))
    for length in (1, 2, 4):
        total, state = 0.0, None
        for inputs, targets, lengths in pieces(stories, length):
            nats, state = summed_nats(model, inputs, targets, lengths, state and state.take(slice(len(inputs))))
            total += nats.item()
        assert math.isclose(total, whole.item(), rel_tol=1e-12)


def test_it_sees_the_last_k_tokens_and_no_others(model):
    story = make_stories([20], 40)[0]
    inputs, _, lengths = collate_stories([story])
    before, changed = model(inputs, lengths), inputs.clone()
    changed[0, 5] = 3 + (inputs[0, 5] - 2) % 37
    seen = (model(changed, lengths) != before)[0].any(1).nonzero()[:, 0].tolist()
    assert seen == list(range(5, 5 + model.K))


def test_training_and_evaluation_with_the_vectors_of_an_lstm_model(tmp_path, capsys, monkeypatch):
    for split, count in (("train", 60), ("valid", 20)):
        text = (SAMPLE / f"{split}.tokens").read_text().splitlines(keepends=True)
        (tmp_path / split).write_text("".join(text[:count]))
    corpora = ["-train_corpus", tmp_path / "train", "-valid_corpus", tmp_path / "valid"]

    def run(program, *flags):
        capsys.readouterr()
        return program.main([*map(str, flags)]), *capsys.readouterr()

    lm, ff = tmp_path / "lm.pt", tmp_path / "ff.pt"
    assert run(lstlm, "-train", *corpora, "-model", lm, "-H", 1, "-N", 8, "-EDim", 6, "-E", 1, "-B", 8)[0] == 0
    flags = ["-train", *corpora, "-lstm", lm, "-model", ff, "-K", 3, "-N", 16, "-B", 8, "-lr", 0.01]
    status, out, _ = run(fflm, *flags, "-E", 2)
    assert status == 0
    saved, vectors = (torch.load(path, weights_only=True) for path in (ff, lm))
    assert torch.equal(saved["weights"]["embedding.weight"], vectors["weights"]["embedding.weight"])
    assert saved["words"] == vectors["words"]
    assert saved["facts"]["valid_nats"] < math.log(len(saved["words"])) - 1  # it has learned something

    status, out, _ = run(fflm, "-evaluate", "-json", "-model", ff, "-test_corpus", tmp_path / "valid")
    row = json.loads(out)
    assert status == 0
    assert row["nats"] == pytest.approx(saved["facts"]["valid_nats"], abs=1e-5)
    loaded = fflm.load(fflm.parse_args(["-evaluate", "-model", str(ff)]))
    ids = lstlm.tokenize_corpus(tmp_path / "valid", loaded.token2idx)
    assert compute_loss(loaded.model, ids, 1) == pytest.approx(row["nats"], rel=1e-5)

    whole = lstlm.train_step
    for step in (3, 100):  # stopped in the third step, and resumed
        count = iter(range(1, 100))
        monkeypatch.setattr(lstlm, "train_step", lambda *args, count=count, step=step: (
            next(count) == step and signal.raise_signal(signal.SIGINT)) or whole(*args))
        resume = [] if step == 3 else ["-resume"]
        if resume:
            (tmp_path / "kept").write_bytes(lstlm.side_file(tmp_path / "again.pt", ".state.pt").read_bytes())
        status, _, error = run(fflm, *flags, "-E", 2, "-model", tmp_path / "again.pt", *resume)
        assert status == (130 if step == 3 else 0), error
    again = torch.load(tmp_path / "again.pt", weights_only=True)
    assert all(torch.equal(again["weights"][name], saved["weights"][name]) for name in saved["weights"])

    assert run(fflm, *flags, "-E", 2, "-model", tmp_path / "mixed.pt")[0] == 0
    lstlm.side_file(tmp_path / "mixed.pt", ".state.pt").write_bytes((tmp_path / "kept").read_bytes())
    other = tmp_path / "other.pt"  # in the place of the LSTM whose vectors the stopped run has
    assert run(lstlm, "-train", *corpora, "-model", other, "-H", 1, "-N", 8, "-EDim", 6, "-E", 1, "-seed", 5)[0] == 0
    first = lm.read_bytes()
    lm.write_bytes(other.read_bytes())
    status, _, error = run(fflm, *flags, "-E", 2, "-model", tmp_path / "mixed.pt", "-resume")
    assert status == 2 and "lstm_digest" in error
    lm.write_bytes(first)

    status, out, _ = run(fflm, *flags, "-E", 1, "-json", "-model", tmp_path / "json.pt")
    assert status == 0 and all("valid_nats" in json.loads(line) for line in out.splitlines())
    mistakes = [
        ([*flags, "-model", lm], "need files other than X.pt"), ([*flags, "-model", corpora[1]], "need files"),
        ([*flags, "-E", 1, "-lr", 1e30, "-B", 32, "-model", tmp_path / "nan.pt"], "the valid loss was never a number"),
        (["-evaluate", "-model", lm], "no fflm file"), (["-evaluate", "-model", tmp_path / "x"], "no such model"),
        ([*flags, "-lr", 0], "-lr"), ([*flags, "-K", 0], "-K"),
        ([*flags, "-lstm", ff, "-model", tmp_path / "odd.pt"], "no lstlm file"),
    ]
    for wrong, said in mistakes:
        status, _, error = run(fflm, *wrong)
        assert status == 2
        assert said in error
        assert "Traceback" not in error

    for part, changes in (("config", {"N": 10**6}), ("config", {"H": 10**9}), ("config", {"K": 3.0}),
                          ("facts", {"sample": 7}), ("config", {"more": 1})):  # nor is a large model made first
        (tmp_path / "odd.pt").write_bytes(lstlm.seal({**saved, part: {**saved[part], **changes}}))
        status, _, error = run(fflm, "-evaluate", "-model", tmp_path / "odd.pt")
        assert status == 2
        assert "no fflm file, or damaged" in error
