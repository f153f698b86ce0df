"""The feed-forward language model: its logits by hand, its loss and gradients, its two modes."""

import json
import math
import signal
from types import SimpleNamespace

import fflm
import lstlm
import pytest
import torch
from backstage.corpora import BOS
from backstage.minibatches import segments
from backstage.run import Run
from backstage.sealed import seal
from backstage.state import State
from lstlm import collate_stories, compute_loss
from small import content_of, make_stories
from torch.nn import functional as F


@pytest.fixture(params=[(1, 1), (3, 2), (12, 1)], ids=str)
def model(request):
    """A small float64 model; 12 tokens are more than any story has."""
    torch.manual_seed(1)
    K, H = request.param
    return fflm.FFLM(torch.randn(40, 6), K, H, 10).double()


def reference_logits(model: fflm.FFLM, story: list[int]) -> torch.Tensor:
    """Logits (T, V) of one story, a position at a time."""
    rows = []
    for t in range(1, len(story)):
        context = ([BOS] * model.K + story[1:t])[-model.K :]
        x = torch.cat([model.embedding.weight[token] for token in context])
        for layer in model.hidden[::2]:
            x = (layer.weight @ x + layer.bias).clamp(min=0)
        rows.append(model.output.weight @ x + model.output.bias)
    return torch.stack(rows)


def test_logits_loss_and_gradients_are_those_of_the_reference(model, stories):
    inputs, targets, lengths = collate_stories(stories)
    logits = model(inputs, lengths)
    summed = 0
    for row, story in enumerate(stories):
        reference = reference_logits(model, story)
        torch.testing.assert_close(logits[row, : len(story) - 1], reference, rtol=0, atol=1e-12)
        summed = summed + F.cross_entropy(reference, torch.tensor(story[1:]), reduction="sum")
    expected = summed / lengths.sum()
    nats = model(inputs, lengths, targets)
    torch.testing.assert_close(nats, expected, rtol=1e-12, atol=0)
    weights = [p for p in model.parameters() if p.requires_grad]
    ours, theirs = (torch.autograd.grad(loss, weights) for loss in (nats, expected))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    assert len(weights) == 2 * (len(model.hidden) // 2 + 1)  # the vectors are frozen


def test_segments_with_the_state_carried_over_equal_the_whole(model, stories):
    inputs, targets, lengths = collate_stories(stories)
    whole = model(inputs, lengths, targets).item() * int(lengths.sum())
    for length in (1, 2, 4):
        total = 0.0
        state = State()
        for part, its_targets, its_lengths in segments(stories, length, collate_stories):
            nats = model(part, its_lengths, its_targets, state)
            total += nats.item() * int(its_lengths.sum())
        assert math.isclose(total, whole, rel_tol=1e-12)
        assert state.position == int(lengths.max())


def test_it_sees_the_last_k_tokens_and_no_others(model):
    story = make_stories([20], 40)[0]
    inputs, _, lengths = collate_stories([story])
    before = model(inputs, lengths)
    changed = inputs.clone()
    changed[0, 5] = 3 + (inputs[0, 5] - 2) % 37
    seen = (model(changed, lengths) != before)[0].any(1).nonzero()[:, 0].tolist()
    assert seen == list(range(5, 5 + model.K))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, small_lm):
    """A feed-forward model with the vectors of the small LSTM model, and its training's flags."""
    model = tmp_path_factory.mktemp("trained") / "ff.pt"
    own = "-K 3 -N 16 -B 8 -lr 0.01 -E 2"
    flags = ["-train", *small_lm.corpora, "-lstm", small_lm.model, *own.split(), "-model", model]
    assert fflm.main([*map(str, flags)]) == 0
    saved = content_of(model)
    return SimpleNamespace(model=model, saved=saved, flags=flags)


@pytest.fixture
def run(capsys):
    """Calls a program; returns its status and what it printed to standard output and error."""

    def call(program, *flags):
        capsys.readouterr()
        return program.main([*map(str, flags)]), *capsys.readouterr()

    return call


@pytest.fixture
def stopped(trained, small_lm, run, monkeypatch, tmp_path):
    """The flags of a training that was stopped in its third step, with an LSTM model of its own."""
    own = tmp_path / "lm.pt"
    own.write_bytes(small_lm.model.read_bytes())
    flags = [*trained.flags, "-lstm", own, "-model", tmp_path / "again.pt"]
    begin_step = Run.begin_step

    def interrupted(self, parts):
        begin_step(self, parts)
        if self.step == 3:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(Run, "begin_step", interrupted)
        status, _, error = run(fflm, *flags)
    assert status == 130, error
    return flags


def test_training_with_the_vectors_of_an_lstm_model(trained, small_lm):
    vectors = content_of(small_lm.model)
    saved = trained.saved
    name = "embedding.weight"
    assert torch.equal(saved["weights"][name], vectors["weights"][name])
    assert saved["words"] == vectors["words"]
    assert saved["facts"]["valid_nats"] < math.log(len(saved["words"])) - 1  # it has learned


def test_evaluation_gives_the_valid_loss_of_the_training(trained, small_lm, run):
    flags = ["-evaluate", "-model", trained.model]
    status, out, _ = run(fflm, *flags, "-json", "-test_corpus", small_lm.valid)
    row = json.loads(out)
    assert status == 0
    assert row["nats"] == pytest.approx(trained.saved["facts"]["valid_nats"], abs=1e-5)
    loaded = fflm.load_model(fflm.parse_args([*map(str, flags)]))
    ids = lstlm.tokenize_corpus(small_lm.valid, loaded.token2idx)
    assert compute_loss(loaded.model, ids, 1) == pytest.approx(row["nats"], rel=1e-5)


def test_evaluation_for_people_names_vocabulary_and_corpus(trained, small_lm, run):
    flags = ["-evaluate", "-model", trained.model, "-test_corpus", small_lm.valid]
    status, out, _ = run(fflm, *flags)
    assert status == 0
    assert f"V = {len(trained.saved['words']):,}" in out
    assert str(small_lm.valid) in out


def test_a_training_that_was_stopped_ends_as_if_it_had_not_been(trained, run, stopped, tmp_path):
    status, _, error = run(fflm, *stopped, "-resume")
    assert status == 0, error
    again = content_of(tmp_path / "again.pt")["weights"]
    assert all(torch.equal(again[name], x) for name, x in trained.saved["weights"].items())


def test_a_stopped_training_does_not_go_on_with_another_lstm_model(
    small_lm, run, stopped, tmp_path
):
    other = tmp_path / "lm.pt"
    other.unlink()
    assert run(lstlm, *small_lm.flags, "-model", other, "-seed", 5)[0] == 0
    status, _, error = run(fflm, *stopped, "-resume")
    assert status == 2
    assert "lstm_digest" in error


def test_json_is_all_that_comes_to_standard_output(trained, run, tmp_path):
    status, out, _ = run(fflm, *trained.flags, "-json", "-model", tmp_path / "json.pt")
    lines = out.splitlines()
    assert status == 0
    assert lines
    assert all("valid_nats" in json.loads(line) for line in lines)


def test_mistakes_are_told(trained, small_lm, run, tmp_path):
    flags = trained.flags
    wild = ["-E", 1, "-lr", 1e30, "-B", 32, "-model", tmp_path / "nan.pt"]
    mistakes = [
        ([*flags, *wild], "the valid loss was never a number"),
        ([*flags, "-model", small_lm.model], "two flags name it"),
        ([*flags, "-model", small_lm.train], "two flags name it"),
        (["-evaluate", "-model", small_lm.model], "no fflm file"),
        (["-evaluate", "-model", tmp_path / "x"], "no such model"),
        ([*flags, "-lr", 0], "-lr"), ([*flags, "-K", 0], "-K"),
        ([*flags, "-lstm", trained.model, "-model", tmp_path / "odd.pt"], "no lstlm file"),
        (["-evaluate", "-model", trained.model, "-K", 9], "-K 9: the model"),
        ([], "required"),
    ]
    for wrong, said in mistakes:
        status, _, error = run(fflm, *wrong)
        assert status == 2
        assert said in error
        assert "Traceback" not in error


@pytest.mark.parametrize(("part", "changes"), [
    ("config", {"N": 10**6}), ("config", {"H": 10**9}), ("config", {"K": 3.0}),
    ("facts", {"sample": 7}), ("config", {"more": 1}), ("facts", {"folder": None}),
    ("config", {"cased": "no"}), ("config", {"EDim": 17}),
])
def test_a_file_that_cannot_be_right_is_refused_before_a_large_model_is_made(
    trained, run, tmp_path, part, changes
):
    odd = {**trained.saved, part: {**trained.saved[part], **changes}}
    (tmp_path / "odd.pt").write_bytes(seal(odd))
    status, _, error = run(fflm, "-evaluate", "-model", tmp_path / "odd.pt")
    assert status == 2
    assert "no fflm file, or damaged" in error


def change_weight(weights: dict, how: str) -> None:
    """Make one of the weights what none of ours is."""
    name = "output.bias"
    if how == "nan":
        weights[name][3] = math.nan
    elif how == "inf":
        weights["embedding.weight"][4, 0] = math.inf
    elif how == "shape":
        weights[name] = weights[name][1:].clone()
    elif how == "type":
        weights[name] = weights[name].long()
    else:
        weights["more.weight"] = torch.ones(1)


@pytest.mark.parametrize("how", ["nan", "inf", "shape", "type", "name"])
def test_weights_that_are_none_of_ours_are_refused(trained, run, tmp_path, how):
    weights = {name: x.clone() for name, x in trained.saved["weights"].items()}
    change_weight(weights, how)
    (tmp_path / "odd.pt").write_bytes(seal({**trained.saved, "weights": weights}))
    status, _, error = run(fflm, "-evaluate", "-model", tmp_path / "odd.pt")
    assert status == 2
    assert "no fflm file, or damaged" in error and error.count("\n") == 1


def test_weights_of_16_bits_are_read(trained, run, tmp_path, small_lm):
    halves = {name: x.half() for name, x in trained.saved["weights"].items()}
    (tmp_path / "half.pt").write_bytes(seal({**trained.saved, "weights": halves}))
    flags = ["-evaluate", "-json", "-test_corpus", small_lm.valid, "-model", tmp_path / "half.pt"]
    status, out, error = run(fflm, *flags)
    assert status == 0, error
    nats = trained.saved["facts"]["valid_nats"]
    assert json.loads(out)["nats"] == pytest.approx(nats, abs=0.01)
