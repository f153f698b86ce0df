"""The training loop: what is hidden, the learning rate, when it stops, what it keeps, and how files are written."""

import json
import math
import os
import stat

import lstlm
import pytest
import torch
from lstlm import BOS, EOS, UNK, atomic_write, hide_rare, learning_rate
from small import make_model


@pytest.fixture
def train(tmp_path):
    """A function that trains a very small model through the command line, within this process."""
    (tmp_path / "corpus").write_text("a b c d\nb c d a\nc d a b\nd a b c\na c b d\n")
    corpora = ["-train_corpus", tmp_path / "corpus", "-valid_corpus", tmp_path / "corpus"]
    small = ["-H", 1, "-N", 4, "-B", 2]

    def run(*flags, edim=("-EDim", 3)) -> int:
        return lstlm.main([*map(str, ["-train", *corpora, *small, *edim, "-model", tmp_path / "m.pt", *flags])])

    return run


def test_words_seen_once_are_hidden_about_half_of_the_time():
    counts = torch.tensor([0, 0, 1, 1, 2, 5] + [1] * 1000)
    shown = hide_rare(counts, torch.Generator().manual_seed(0))
    assert shown[:3] == [0, 1, 2]  # a corpus of one story has one <eos>
    assert shown[4:6] == [4, 5]
    assert 440 < shown[6:].count(UNK) < 560  # 4 standard deviations
    assert all(new in (UNK, i) for i, new in enumerate(shown))
    assert shown != hide_rare(counts, torch.Generator().manual_seed(1))


def test_words_seen_once_are_hidden_in_training_anew_in_each_epoch(train, monkeypatch):
    seen, whole = [], lstlm.train_step
    monkeypatch.setattr(lstlm, "train_step", lambda *args: seen.append(args[2]) or whole(*args))
    monkeypatch.setattr(lstlm, "hide_rare", lambda counts, _: [*range(3), *([UNK] * (len(counts) - 3))])
    train("-E", 1)
    shown = {token for parts in seen for inputs, targets, _ in parts for x in (inputs, targets)
             for token in x.flatten().tolist()}
    assert shown == {UNK, BOS, EOS}


def test_the_learning_rate_rises_then_falls_to_a_tenth():
    rates = [learning_rate(step, 1000, 2.0) for step in range(1, 1001)]
    peak = rates.index(max(rates))
    assert 40 < peak < 50
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert math.isclose(rates[0], 2 / 50)
    assert math.isclose(rates[-1], 0.2)


def test_training_uses_that_learning_rate(train, monkeypatch):
    rates, whole = [], lstlm.train_step
    monkeypatch.setattr(lstlm, "train_step", lambda *args: rates.append(args[1].param_groups[0]["lr"]) or whole(*args))
    train("-E", 4, "-lr", 0.5)
    assert rates == [learning_rate(step, 12, 0.5) for step in range(1, 13)]  # 5 stories in batches of 2


def test_a_tied_model_scores_words_by_their_frequency_from_the_start_to_the_end(train, tmp_path):
    assert train("-tie", "-E", 2, "-lr", 0.1) == 0
    weights = lstlm.read_checked(tmp_path / "m.pt", lstlm.MODEL, "")["weights"]
    share = torch.tensor([0, 0, 5, 5, 5, 5, 5.0]) + 0.5  # <eos>, a, b, c, d, once in each of the five stories
    torch.testing.assert_close(weights["output.bias"], (share / share.sum()).log())
    assert torch.equal(weights["output.weight"], weights["embedding.weight"])


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 4), (3, 6), (0, 7)])
def test_it_stops_after_so_many_epochs_without_a_better_loss(train, monkeypatch, tmp_path, patience, epochs):
    losses = iter([3.0, 2.0, 2.5, 2.6, 2.7, 2.8, 2.9] if patience != 3 else [3.0, 2.0, 1.0, 1.1, 1.2, 1.3, 0.5])
    monkeypatch.setattr(lstlm, "compute_loss", lambda *_, **__: next(losses))
    train("-E", 7, "-patience", patience)
    records = [json.loads(line) for line in (tmp_path / "m.log.jsonl").read_text().splitlines()]
    assert records[-1]["epoch"] == epochs


def test_the_best_model_is_kept_and_not_the_last(train, monkeypatch, tmp_path):
    losses = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(lstlm, "compute_loss", lambda *_, **__: next(losses))
    train("-E", 3)
    facts = torch.load(tmp_path / "m.pt", weights_only=True)["facts"]
    assert (facts["epoch"], facts["valid_nats"]) == (2, 1.0)


def test_prev_holds_the_model_of_the_earlier_run_whatever_the_new_one_saves(train, monkeypatch, tmp_path):
    train("-E", 1)
    before = (tmp_path / "m.pt").read_bytes()
    losses = iter([5.0, 4.0, 3.0])
    monkeypatch.setattr(lstlm, "compute_loss", lambda *_, **__: next(losses))
    train("-E", 3, "-seed", 1)
    assert (tmp_path / "m.prev.pt").read_bytes() == before
    assert torch.load(tmp_path / "m.pt", weights_only=True)["facts"]["epoch"] == 3


def test_the_order_differs_between_epochs_and_seeds(train, monkeypatch):
    orders, whole = [], lstlm.shuffled_batches
    monkeypatch.setattr(lstlm, "shuffled_batches", lambda *args: orders.append(whole(*args)) or orders[-1])
    train("-E", 3)
    train("-E", 3, "-seed", 1)
    assert len({str(order) for order in orders}) > 3
    train("-E", 3)
    assert orders[:3] == orders[6:]


def test_a_training_without_a_number_saves_nothing_and_says_so(train, tmp_path, capsys):
    assert train("-E", 1, "-lr", "1e300") == 2
    assert "-lr" in capsys.readouterr().err
    assert not (tmp_path / "m.pt").exists()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def half(file):
        file.write(b"ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        atomic_write(path, half)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    atomic_write(path, lambda file: file.write(b"new"))
    assert path.read_text() == "new"


def test_what_is_written_is_on_the_disk_before_it_gets_its_name_and_the_name_after(tmp_path, monkeypatch):
    synced = []

    def fsync(file):
        about = os.fstat(file)
        synced.append("folder" if stat.S_ISDIR(about.st_mode) else about.st_size)
        synced.append((tmp_path / "file").exists())

    monkeypatch.setattr(os, "fsync", fsync)
    atomic_write(tmp_path / "file", lambda file: file.write(b"new"))
    assert synced == [3, False, "folder", True] if hasattr(os, "O_DIRECTORY") else [3, False]


def test_the_state_is_saved_when_so_many_seconds_have_passed(train, monkeypatch):
    saved = []
    monkeypatch.setattr(lstlm.Run, "state", lambda run: saved.append(run.step) or {})
    monkeypatch.setattr(lstlm, "draw_curve", lambda *_: None)
    for seconds, steps in ((300, []), (-1, [1, 2, 3])):  # 5 stories in batches of 2
        monkeypatch.setattr(lstlm, "SAVE_SECONDS", seconds)
        train("-E", 1)
        assert saved == steps


def test_the_cosine_falls_from_the_same_rate_to_the_same_rate():
    rates = [learning_rate(step, 1000, 2.0, "cosine") for step in range(1, 1001)]
    assert rates[:40] == [2.0 * step / 50 for step in range(1, 41)]
    assert math.isclose(rates[499], 2.0 * (0.1 + 0.9 / 2))
    assert math.isclose(rates[-1], 0.2)
    assert rates[50:] == sorted(rates[50:], reverse=True)


@pytest.mark.parametrize("attention", [None, "dot", "bilinear", "additive"])
def test_weight_decay_shrinks_matrices_alone_and_the_vectors_have_their_rate(attention):
    model = make_model(attention, dtype=torch.float32)
    flags = ["-train", "-lr", "0.5", "-emb_lr", "0.1", "-weight_decay", "0.2"]
    optimizer = lstlm.make_optimizer(model, lstlm.parse_args(flags))
    assert [group["peak"] for group in optimizer.param_groups] == [0.1, 0.5, 0.5]
    assert [p is model.embedding.weight for p in optimizer.param_groups[0]["params"]] == [True]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"]
    optimizer.step()
    for name, parameter in model.named_parameters():
        decays = ("weight" in name or name in ("W", "U")) and name != "embedding.weight"
        torch.testing.assert_close(parameter.detach(), before[name] * (0.9 if decays else 1.0))


def test_finetuned_vectors_train_and_are_stored(train, tmp_path):
    (tmp_path / "glove").write_text("a 0.25 1 2\nb -1 0.5 3\n")
    glove = torch.tensor([[0.25, 1, 2], [-1, 0.5, 3]])
    for flags, same in (([], True), (["-finetune"], False)):
        assert train("-E", 1, "-embeddings_file", tmp_path / "glove", *flags, edim=()) == 0
        saved = torch.load(tmp_path / "m.pt", weights_only=True)
        rows = saved["weights"]["embedding.weight"][[saved["words"].index(word) for word in "ab"]]
        assert torch.equal(rows, glove) == same
        assert saved["config"]["finetune"] != same
