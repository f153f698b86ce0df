"""The training loop: each step, the rate, when it stops, what it keeps, what it hides."""

import copy
import json
import math
import sys
from argparse import Namespace

import backstage.bookkeeping
import backstage.run
import backstage.saving
import lstlm
import pytest
import torch
from backstage.optimizer import learning_rate, make_optimizer
from backstage.run import Run
from backstage.sealed import read_sealed
from lstlm import BOS, EOS, UNK
from small import content_of
from torch import nn


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """They would take longer than all the rest."""
    monkeypatch.setattr(backstage.bookkeeping, "draw_curve", lambda *_: None)


@pytest.fixture
def train(tiny_flags):
    """A function that trains a very small model through the command line, in this process."""
    return lambda *flags, **options: lstlm.main(tiny_flags(*flags, **options))


@pytest.fixture
def watch(tiny_flags):
    """A function that trains it with a Run of another class, which may look at each step."""

    def train(run_class, *flags, new=lstlm.new_model) -> Namespace:
        args = lstlm.parse_args(tiny_flags(*flags))
        args.out = sys.stdout
        lstlm.train(args, new, run_class)
        return args

    return train


class Watched(Run):
    """A training that notes what its loop gets, and after each step losses and gradients."""

    def __init__(self, *args):
        super().__init__(*args)
        Watched.latest = self
        self.initial = copy.deepcopy(self.bare_model)
        self.steps_seen = []  # of each gradient step: inputs, targets, lengths, state, share
        self.losses = []
        self.norms = []
        self.rates = []

    def segments(self):
        for segment in super().segments():
            self.steps_seen.append(segment)
            yield segment

    def add(self, loss):
        self.losses.append(loss.item())
        grads = [p.grad for p in self.model.parameters()]
        self.norms.append(float(torch.stack([grad.norm() for grad in grads]).norm()))
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        super().add(loss)


def new_model_of_large_scores(args):
    """A model whose first gradients are larger than 1."""
    untrained = lstlm.new_model(args)
    with torch.no_grad():
        untrained.model.output.weight *= 100
    return untrained


def test_each_step_is_that_of_a_textbook(watch):
    """Zeroed gradients, of segments whose states are carried over, clipped to 1; then AdamW."""
    flags = ["-E", 4, "-bptt", 2, "-lr", 0.1, "-precision", "fp32"]
    args = watch(Watched, *flags, new=new_model_of_large_scores)
    run = Watched.latest
    model = run.initial
    optimizer = make_optimizer(model, args)
    assert len(run.steps_seen) == 4 * 3 * 3  # 5 stories in batches of 2, 5 positions in segments
    clipped = 0
    state = lstlm.State()
    first = 0
    for (inputs, targets, lengths, _, share), loss, rate in zip(
        run.steps_seen, run.losses, run.rates, strict=True
    ):
        if (inputs[:, 0] == BOS).all():
            state = lstlm.State()
            first = int(lengths.sum())
        assert share == int(lengths.sum()) / first
        ours = share * model(inputs, lengths, targets, state)
        assert ours.item() == pytest.approx(loss, rel=1e-5)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        ours.backward()
        clipped += float(nn.utils.clip_grad_norm_(model.parameters(), 1.0)) > 1
        optimizer.step()
    assert clipped
    for a, b in zip(model.parameters(), run.bare_model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_the_gradient_step_clips_the_norm_to_one(watch):
    watch(Watched, "-E", 1, "-bptt", 2, "-lr", 1e-6, new=new_model_of_large_scores)
    norms = Watched.latest.norms
    assert len(norms) == 9
    assert math.isclose(norms[0], 1.0, rel_tol=1e-4)
    assert all(norm < 1.0001 for norm in norms)


def test_words_seen_once_are_hidden_in_training_anew_in_each_epoch(watch, monkeypatch):
    drawn = []

    def hide_all(counts, generator):
        drawn.append(torch.rand(1, generator=generator).item())
        return [*range(3), *([UNK] * (len(counts) - 3))]

    monkeypatch.setattr(backstage.run, "hide_rare", hide_all)
    watch(Watched, "-E", 2)
    shown = {
        token for inputs, targets, *_ in Watched.latest.steps_seen
        for ids in (inputs, targets) for token in ids.flatten().tolist()
    }
    assert shown == {UNK, BOS, EOS}
    assert len({*drawn}) == 2


def test_training_uses_the_learning_rate_of_each_step(watch):
    watch(Watched, "-E", 4, "-lr", 0.5)  # 5 stories in batches of 2
    assert Watched.latest.rates == [learning_rate(step, 12, 0.5) for step in range(1, 13)]


def test_a_tied_model_scores_words_by_their_frequency_from_the_start_to_the_end(train, tmp_path):
    assert train("-tie", "-E", 2, "-lr", 0.1) == 0
    weights = read_sealed(tmp_path / "m.pt", lstlm.LSTMLM.KIND, "")["weights"]
    counts = torch.tensor([0, 0, 5, 5, 5, 5, 5.0])  # <eos>, a, b, c, d, once in each story
    share = (counts + 0.5) / (counts + 0.5).sum()
    torch.testing.assert_close(weights["output.bias"], share.log())
    assert torch.equal(weights["output.weight"], weights["embedding.weight"])


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 4), (3, 6), (0, 7)])
def test_it_stops_after_so_many_epochs_without_a_better_loss(
    train, monkeypatch, tmp_path, patience, epochs
):
    losses = iter([3.0, 2.0, 2.5, 2.6, 2.7, 2.8, 2.9])
    if patience == 3:
        losses = iter([3.0, 2.0, 1.0, 1.1, 1.2, 1.3, 0.5])
    monkeypatch.setattr(lstlm, "compute_loss", lambda *_, **__: next(losses))
    train("-E", 7, "-patience", patience)
    lines = (tmp_path / "m.log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["epoch"] == epochs


def facts(path) -> dict:
    """What a checkpoint says of its training."""
    return content_of(path)["facts"]


def test_the_best_model_is_kept_and_not_the_last(train, monkeypatch, tmp_path):
    losses = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(lstlm, "compute_loss", lambda *_, **__: next(losses))
    train("-E", 3)
    found = facts(tmp_path / "m.pt")
    assert (found["epoch"], found["valid_nats"]) == (2, 1.0)


def test_prev_holds_the_model_of_the_earlier_run_whatever_the_new_one_saves(
    train, monkeypatch, tmp_path
):
    train("-E", 1)
    before = (tmp_path / "m.pt").read_bytes()
    losses = iter([5.0, 4.0, 3.0])
    monkeypatch.setattr(lstlm, "compute_loss", lambda *_, **__: next(losses))
    train("-E", 3, "-seed", 1)
    assert (tmp_path / "m.prev.pt").read_bytes() == before
    assert facts(tmp_path / "m.pt")["epoch"] == 3


def test_the_order_differs_between_epochs_and_seeds(train, monkeypatch):
    orders = []
    whole = backstage.run.shuffled_batches

    def shuffled_batches(*args):
        orders.append(whole(*args))
        return orders[-1]

    monkeypatch.setattr(backstage.run, "shuffled_batches", shuffled_batches)
    train("-E", 3)
    train("-E", 3, "-seed", 1)
    assert len({str(order) for order in orders}) > 3
    train("-E", 3)
    assert orders[:3] == orders[6:]


def test_a_training_without_a_number_saves_nothing_and_says_so(train, tmp_path, capsys):
    assert train("-E", 1, "-lr", "1e300") == 2
    assert "-lr" in capsys.readouterr().err
    assert not (tmp_path / "m.pt").exists()


def test_the_state_is_saved_when_so_many_seconds_have_passed(train, monkeypatch):
    saved = []
    monkeypatch.setattr(backstage.saving, "state_of", lambda run: saved.append(run.step) or {})
    for seconds, steps in ((300, []), (-1, [1, 2, 3])):  # 5 stories in batches of 2
        monkeypatch.setattr(backstage.saving, "SAVE_SECONDS", seconds)
        train("-E", 1)
        assert saved == steps


def test_finetuned_vectors_train_and_are_stored(train, tmp_path):
    (tmp_path / "glove").write_text("a 0.25 1 2\nb -1 0.5 3\n")
    glove = torch.tensor([[0.25, 1, 2], [-1, 0.5, 3]])
    for flags, same in (([], True), (["-finetune"], False)):
        assert train("-E", 1, "-embeddings_file", tmp_path / "glove", *flags, edim=()) == 0
        saved = content_of(tmp_path / "m.pt")
        rows = [saved["words"].index(word) for word in "ab"]
        assert torch.equal(saved["weights"]["embedding.weight"][rows], glove) == same
        assert saved["config"]["finetune"] != same
