"""The feed-forward language model: its scores by hand, its loss and gradients, and its two modes."""

import json
import math
import signal
from pathlib import Path
from types import SimpleNamespace

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


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small LSTM model `lm`, a feed-forward one `ff` with its vectors, what that file holds, and the flags."""
    folder = tmp_path_factory.mktemp("trained")
    for split, count in (("train", 60), ("valid", 20)):
        text = (SAMPLE / f"{split}.tokens").read_text().splitlines(keepends=True)
        (folder / split).write_text("".join(text[:count]))
    corpora = ["-train_corpus", folder / "train", "-valid_corpus", folder / "valid"]
    lm, ff = folder / "lm.pt", folder / "ff.pt"
    shape = ["-train", *corpora, "-H", 1, "-N", 8, "-EDim", 6, "-E", 1, "-B", 8]
    assert lstlm.main([*map(str, shape), "-model", str(lm)]) == 0
    flags = ["-train", *corpora, "-lstm", lm, "-model", ff, "-K", 3, "-N", 16, "-B", 8, "-lr", 0.01, "-E", 2]
    assert fflm.main([*map(str, flags)]) == 0
    saved = torch.load(ff, weights_only=True)
    return SimpleNamespace(folder=folder, lm=lm, ff=ff, saved=saved, shape=shape, flags=flags)


@pytest.fixture
def run(capsys):
    """Calls a program; returns its status and what it printed to standard output and standard error."""
    def call(program, *flags):
        capsys.readouterr()
        return program.main([*map(str, flags)]), *capsys.readouterr()

    return call


@pytest.fixture
def stopped(trained, run, monkeypatch, tmp_path):
    """The flags of a training that was stopped in its third step, with an LSTM model of its own in tmp_path."""
    (tmp_path / "lm.pt").write_bytes(trained.lm.read_bytes())
    flags = [*trained.flags, "-lstm", tmp_path / "lm.pt", "-model", tmp_path / "again.pt"]
    whole, count = lstlm.train_step, iter(range(1, 100))
    with monkeypatch.context() as patched:
        patched.setattr(lstlm, "train_step", lambda *args: (
            next(count) == 3 and signal.raise_signal(signal.SIGINT)) or whole(*args))
        status, _, error = run(fflm, *flags)
    assert status == 130, error
    return flags


def test_training_with_the_vectors_of_an_lstm_model(trained):
    saved, vectors = trained.saved, torch.load(trained.lm, weights_only=True)
    assert torch.equal(saved["weights"]["embedding.weight"], vectors["weights"]["embedding.weight"])
    assert saved["words"] == vectors["words"]
    assert saved["facts"]["valid_nats"] < math.log(len(saved["words"])) - 1  # it has learned something


def test_evaluation_gives_the_valid_loss_of_the_training(trained, run):
    valid = trained.folder / "valid"
    status, out, _ = run(fflm, "-evaluate", "-json", "-model", trained.ff, "-test_corpus", valid)
    row = json.loads(out)
    assert status == 0
    assert row["nats"] == pytest.approx(trained.saved["facts"]["valid_nats"], abs=1e-5)
    loaded = fflm.load(fflm.parse_args(["-evaluate", "-model", str(trained.ff)]))
    ids = lstlm.tokenize_corpus(valid, loaded.token2idx)
    assert compute_loss(loaded.model, ids, 1) == pytest.approx(row["nats"], rel=1e-5)


def test_a_training_that_was_stopped_ends_as_if_it_had_not_been(trained, run, stopped, tmp_path):
    status, _, error = run(fflm, *stopped, "-resume")
    assert status == 0, error
    again, saved = torch.load(tmp_path / "again.pt", weights_only=True), trained.saved
    assert all(torch.equal(again["weights"][name], saved["weights"][name]) for name in saved["weights"])


def test_a_stopped_training_does_not_go_on_with_another_lstm_model(trained, run, stopped, tmp_path):
    (tmp_path / "lm.pt").unlink()
    assert run(lstlm, *trained.shape, "-model", tmp_path / "lm.pt", "-seed", 5)[0] == 0
    status, _, error = run(fflm, *stopped, "-resume")
    assert status == 2 and "lstm_digest" in error


def test_json_is_all_that_comes_to_standard_output(trained, run, tmp_path):
    status, out, _ = run(fflm, *trained.flags, "-json", "-model", tmp_path / "json.pt")
    assert status == 0 and out and all("valid_nats" in json.loads(line) for line in out.splitlines())


def test_mistakes_are_told(trained, run, tmp_path):
    flags, lm = trained.flags, trained.lm
    mistakes = [
        ([*flags, "-model", lm], "two flags name it"),
        ([*flags, "-model", trained.folder / "train"], "two flags name it"),
        ([*flags, "-E", 1, "-lr", 1e30, "-B", 32, "-model", tmp_path / "nan.pt"], "the valid loss was never a number"),
        (["-evaluate", "-model", lm], "no fflm file"), (["-evaluate", "-model", tmp_path / "x"], "no such model"),
        ([*flags, "-lr", 0], "-lr"), ([*flags, "-K", 0], "-K"),
        ([*flags, "-lstm", trained.ff, "-model", tmp_path / "odd.pt"], "no lstlm file"),
    ]
    for wrong, said in mistakes:
        status, _, error = run(fflm, *wrong)
        assert status == 2
        assert said in error
        assert "Traceback" not in error


@pytest.mark.parametrize(("part", "changes"), [
    ("config", {"N": 10**6}), ("config", {"H": 10**9}), ("config", {"K": 3.0}), ("facts", {"sample": 7}),
    ("config", {"more": 1}),
])
def test_a_file_that_cannot_be_right_is_refused_before_a_large_model_is_made(trained, run, tmp_path, part, changes):
    odd = {**trained.saved, part: {**trained.saved[part], **changes}}
    (tmp_path / "odd.pt").write_bytes(lstlm.seal(odd))
    status, _, error = run(fflm, "-evaluate", "-model", tmp_path / "odd.pt")
    assert status == 2
    assert "no fflm file, or damaged" in error
