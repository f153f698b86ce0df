"""Training: metrics by their definitions, accumulation, exact resume, and what is written."""

import contextlib
import errno
import io
import json
import math
import random
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch
from hw4lib.data.length_order import LengthOrder
from hw4lib.files import atomic_write
from hw4lib.trainers import LMTrainer, Stopped, resuming, saving
from hw4lib.trainers import base_trainer as base
from hw4lib.trainers.checkpoint import read_checkpoint
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny import TEXTS
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, LambdaLR, ReduceLROnPlateau
from torch.testing import assert_close

# Steps of optimizers are replaced here, and torch then wonders about the order of steps.
pytestmark = pytest.mark.filterwarnings("ignore:.*optimizer.step:UserWarning")
KEYS = [
    "ce_loss_token", "ce_loss_char", "perplexity_token", "perplexity_char", "perplexity_char_exact",
]


def nats_of(model, shifted: list[int], golden: list[int]) -> float:
    """The cross-entropy of one transcript, a token at a time."""
    total = 0.0
    for end, target in enumerate(golden, 1):
        total -= model.score(torch.tensor([shifted[:end]])).log_softmax(1)[0, target].item()
    return total


# ---- Metrics


@pytest.mark.parametrize("token_type", ["char", "1k"])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_metrics_are_their_definitions(lab, token_type, batch_size):
    trainer, loader = lab.trainer(token_type=token_type), lab.loader(batch_size, token_type)
    # Which evaluation does not use.
    trainer.criterion = nn.CrossEntropyLoss(ignore_index=0, label_smoothing=0.3)
    metrics, maps = trainer._validate_epoch(loader)
    data = loader.dataset
    pairs = list(zip(data.transcripts_shifted, data.transcripts_golden, strict=True))
    nats = sum(nats_of(trainer.model, *pair) for pair in pairs)
    targets, characters = sum(len(golden) for _, golden in pairs), sum(map(len, TEXTS))
    per_token, ratio = nats / targets, characters / (targets - len(TEXTS))
    expected = [
        per_token, per_token / ratio,
        *map(math.exp, (per_token, per_token / ratio, nats / characters)),
    ]
    assert list(metrics) == KEYS and all(type(value) is float for value in metrics.values())
    assert list(metrics.values()) == pytest.approx(expected, rel=1e-6)
    assert list(maps) == ["layer1_dec_self", "layer2_dec_self"]


def test_training_reports_the_loss_before_each_step(lab):
    trainer, loader = lab.trainer(), lab.loader(3)
    before = lab.trainer("other").model  # the same weights
    trainer.optimizer.step = lambda *args, **kwargs: None
    metrics, maps = trainer._train_epoch(loader)
    data = loader.dataset
    pairs = zip(data.transcripts_shifted, data.transcripts_golden, strict=True)
    nats = sum(nats_of(before.eval(), *pair) for pair in pairs)
    assert metrics["ce_loss_token"] == pytest.approx(
        nats / sum(len(t) + 1 for t in TEXTS), rel=1e-6
    )
    T = len(TEXTS[6]) + 1
    assert maps["layer1_dec_self"].shape == (1, T, T)


def test_training_learns(lab):
    trainer, loader = lab.trainer(dtype=torch.float32), lab.loader(4, shuffle=True)
    trainer.scheduler = LambdaLR(trainer.optimizer, lambda step: 1.0)
    losses = []
    for _ in range(15):
        losses.append(trainer._train_epoch(loader)[0]["ce_loss_token"])
        trainer.progress = None
    assert losses[-1] < 0.75 * losses[0]


@pytest.mark.parametrize(("sections", "smoothing"), [
    ({"loss": {"label_smoothing": 0.2}, "training": {"label_smoothing": 0.1}}, 0.2),
    ({"training": {"label_smoothing": 0.1}}, 0.1), ({"loss": {}, "training": {}}, 0.0),
])  # fmt: skip
def test_label_smoothing_is_read_from_loss_then_training(lab, sections, smoothing):
    made = lab.trainer()
    again = LMTrainer(made.model, made.tokenizer, sections, "s", lab.path / "config.yaml", "cpu")
    assert again.criterion.label_smoothing == smoothing and again.criterion.ignore_index == 0


# ---- Steps of the optimizer


def plain_gradient(model, batches) -> list[torch.Tensor]:
    """The gradient of the mean over batches of each one's mean loss."""
    model.train().zero_grad()
    for shifted, golden, lengths in batches:
        logits, _ = model(shifted, lengths)
        loss = F.cross_entropy(logits.float().flatten(0, 1), golden.flatten(), ignore_index=0)
        (loss / len(batches)).backward()
    return [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize(
    ("accumulate", "groups"), [(1, [1, 1, 1]), (2, [2, 1]), (3, [3]), (5, [3])]
)
def test_gradients_are_accumulated(lab, accumulate, groups):
    trainer, loader = lab.trainer(gradient_accumulation_steps=accumulate), lab.loader(3)
    seen = []
    trainer.optimizer.step = lambda *a, **k: seen.append(
        [p.grad.clone() for p in trainer.model.parameters()]
    )
    trainer._train_epoch(loader)
    batches, start = list(loader), 0
    assert len(seen) == len(groups)
    for gradient, size in zip(seen, groups, strict=True):
        for one, other in zip(
            gradient, plain_gradient(trainer.model, batches[start : start + size]), strict=True
        ):
            assert_close(one, other, rtol=1e-5, atol=1e-7)
        start += size
    assert trainer.scheduler.last_epoch == len(groups)


def norm_of(gradients) -> float:
    """The length of all gradients together."""
    return torch.cat([gradient.flatten() for gradient in gradients]).norm().item()


@pytest.mark.parametrize("scale", [None, 1024.0])  # of a loss in float16
@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradients_are_clipped_to_one_norm_before_the_step(lab, accumulate, scale):
    """Of all parameters together, once a step, as by hand with clip_grad_norm_."""
    clip = 0.05
    trainer = lab.trainer(gradient_accumulation_steps=accumulate, gradient_clip=clip)
    batches = list(lab.loader(3))
    if scale:
        trainer.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    seen = []
    trainer.optimizer.step = lambda *a, **k: seen.append(
        [p.grad.clone() for p in trainer.model.parameters()]
    )
    trainer._train_epoch(lab.loader(3))
    by_hand = lab.trainer("by hand").model
    for i, clipped in enumerate(seen):
        expected = plain_gradient(by_hand, batches[i * accumulate : (i + 1) * accumulate])
        assert norm_of(expected) > 2 * clip  # so that there is something to clip
        nn.utils.clip_grad_norm_(by_hand.parameters(), clip)
        assert norm_of(clipped) == pytest.approx(clip, rel=1e-4)
        for one, parameter in zip(clipped, by_hand.parameters(), strict=True):
            assert_close(one, parameter.grad, rtol=1e-4, atol=1e-8)
    assert len(seen) == math.ceil(3 / accumulate)


def test_gradients_that_are_short_enough_stay_as_they_are(lab):
    results = []
    for run, training in (("free", {}), ("far", {"gradient_clip": 1e6})):
        trainer = lab.trainer(run, **training)
        trainer._train_epoch(lab.loader(3))
        results.append(trainer.model.state_dict())
    assert_close(*results, rtol=0, atol=0)


def test_an_overflow_is_a_skipped_step_with_a_limit_too(lab):
    trainer = lab.trainer(gradient_clip=0.05, dtype=torch.float32)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer._backward(next(iter(lab.loader())), 1)
    trainer.model.norm.bias.grad[0] = math.inf
    trainer._update()
    assert_close(dict(trainer.model.state_dict()), before, rtol=0, atol=0)
    assert trainer.scheduler.last_epoch == 0 and trainer.scaler.get_scale() == 512
    trainer._backward(next(iter(lab.loader())), 1)
    trainer._update()
    assert trainer.scheduler.last_epoch == 1
    assert all(p.isfinite().all() for p in trainer.model.parameters())


@pytest.mark.parametrize("clip", [-1, -0.5, "1e-1", True, None, math.nan, math.inf])
def test_a_limit_that_is_none_is_refused(lab, clip):
    with pytest.raises(ValueError, match=r"training\.gradient_clip is .*; give a number"):
        lab.trainer(gradient_clip=clip)


def test_padding_changes_no_gradient(lab):
    trainer = lab.trainer()
    shifted, golden, lengths = next(iter(lab.loader(3)))
    grads = []
    for extra in (0, 7):
        trainer.model.train().zero_grad()
        trainer._backward((F.pad(shifted, (0, extra)), F.pad(golden, (0, extra)), lengths), 1)
        grads.append([p.grad.clone() for p in trainer.model.parameters()])
    for one, other in zip(*grads, strict=True):
        assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_batches_have_few_lengths_and_none_over_max_len(lab):
    trainer, widths = lab.trainer(model={"max_len": 42}), []
    trainer.model.target_embedding.register_forward_hook(
        lambda m, i, out: widths.append(out.shape[1])
    )
    trainer.model.train()
    for T in (1, 8, 9, 31, 41, 42):
        trainer._backward((torch.full((2, T), 7), torch.full((2, T), 7), torch.full((2,), T)), 1)
    assert widths == [8, 8, 16, 32, 42, 42]


def test_a_plateau_schedule_is_stepped_once_an_epoch_with_the_loss_on_val(lab):
    trainer = lab.trainer()
    trainer.scheduler = ReduceLROnPlateau(trainer.optimizer)
    seen = []
    trainer.scheduler.step = seen.append
    trainer.train(lab.loader(), lab.loader(partition="val"), 2)
    assert seen == [h["val"]["ce_loss_char"] for h in trainer.training_history]


def test_a_skipped_step_of_a_scaler_does_not_move_the_schedule(lab):
    trainer = lab.trainer()
    scales = iter([4.0, 2.0, 2.0, 2.0])  # the first step overflows
    trainer.scaler = SimpleNamespace(
        get_scale=lambda: next(scales), step=lambda o: None, update=lambda: None
    )
    trainer._update()
    assert trainer.scheduler.last_epoch == 0
    trainer._update()
    assert trainer.scheduler.last_epoch == 1


def test_mixed_precision_is_used_where_it_was_chosen(lab):
    trainer, seen = lab.trainer(dtype=torch.float32), []
    trainer.model.final_linear.register_forward_hook(lambda m, i, out: seen.append(out.dtype))
    for precision in (torch.bfloat16, torch.float32):
        trainer.precision = precision
        trainer.model.train()
        trainer._backward(next(iter(lab.loader())), 1)
    trainer._validate_epoch(lab.loader())
    assert seen[:2] == [torch.bfloat16, torch.float32] and set(seen[2:]) == {torch.float32}
    assert all(p.grad.dtype == torch.float32 for p in trainer.model.parameters())


@pytest.mark.parametrize(("features", "dtype"), [
    ({}, torch.float32), ({"avx512_bf16": True}, torch.bfloat16),
    ({"amx_bf16": True}, torch.bfloat16),
])  # fmt: skip
def test_precision_goes_by_the_hardware(monkeypatch, features, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert base.choose_precision("cpu") == dtype
    assert base.choose_precision("meta") == torch.float32


def test_a_loss_that_is_no_number_is_an_error(lab):
    trainer = lab.trainer()
    with torch.no_grad():
        trainer.model.final_linear.bias[7] = math.nan
    with pytest.raises(ValueError, match=r"nan; lower optimizer\.lr"):
        trainer._train_epoch(lab.loader())


@pytest.mark.parametrize("missing", ["optimizer", "scheduler"])
def test_train_needs_optimizer_and_scheduler(lab, missing):
    trainer = lab.trainer()
    setattr(trainer, missing, None)
    with pytest.raises(ValueError, match="set both"):
        trainer.train(lab.loader(), lab.loader(), 1)


# ---- Stopping and going on


def stop_after(trainer, batches: int) -> None:
    """Ask the trainer to stop when it has trained on so many batches."""
    update, count = trainer._update, iter(range(1, 1000))

    def counting():
        update()
        trainer.stop_requested = next(count) == batches

    trainer._update = counting


DROPPED = {"dropout": 0.2, "layer_drop_rate": 0.3}
STOPS = [({}, 2), (DROPPED, 3), (DROPPED, 4)]  # the epoch's middle, its end, the next one's begin
MORE_STOPS = [({}, 1), ({}, 3), ({}, 4), ({}, 5), (DROPPED, 1), (DROPPED, 2), (DROPPED, 5)]


@pytest.mark.parametrize(
    ("model", "stop"),  # after so many batches, of twice 3
    [*STOPS, *(pytest.param(*case, marks=pytest.mark.thorough) for case in MORE_STOPS)],
)
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(lab, stop, model):
    def start(run):
        trainer = lab.trainer(run, model=model, dtype=torch.float32)
        torch.manual_seed(3)
        random.seed(3)
        return trainer, lab.loader(3, shuffle=True), lab.loader(3, partition="val")

    whole, *loaders = start("whole")
    whole.train(*loaders, 2)
    broken, *loaders = start("broken")
    stop_after(broken, stop)
    with pytest.raises(Stopped):
        broken.train(*loaders, 2)
    torch.manual_seed(99)  # what is left of this process is gone
    again, *loaders = start("broken")
    again.load_checkpoint(again.last_model_path.name)
    again.train(*loaders, 2 - again.current_epoch)
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert whole.training_history == again.training_history
    assert (again.current_epoch, again.best_metric, again.progress) == (2, whole.best_metric, None)


@pytest.fixture
def device_lab(lab, second_device, monkeypatch):
    """`lab`, where `lab.run(...)` trains on `lab.device`, the second one, or on one named."""
    if second_device.type != "cuda":  # torch knows no reduced precision for it
        monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())

    def run(name, device=second_device, stop=None, plots=False, **model):
        trainer = lab.trainer(name, model=model, device=device, plots=plots)
        loaders = lab.loader(3, shuffle=True), lab.loader(3, partition="val")
        torch.manual_seed(3)
        if stop:
            stop_after(trainer, stop)
            with pytest.raises(Stopped):
                trainer.train(*loaders, 1)
            trainer = lab.trainer(name, model=model, device=device, plots=plots)
            trainer.load_checkpoint(trainer.last_model_path.name)
        trainer.train(*loaders, 1)
        return trainer

    lab.run, lab.device = run, second_device
    return lab


def losses(trainer) -> list[float]:
    return [trainer.training_history[0][split]["ce_loss_token"] for split in ("train", "val")]


def test_training_on_another_device_is_that_on_the_cpu(device_lab, capsys):
    here = device_lab.run("here", "cpu")
    there = device_lab.run("there", plots=True)
    assert {p.device.type for p in there.model.parameters()} == {device_lab.device.type}
    assert losses(there) == pytest.approx(losses(here), rel=1e-4)
    assert "no generated text" not in capsys.readouterr().out


@pytest.mark.thorough
def test_evaluation_on_another_device_is_that_on_the_cpu(device_lab, capsys):
    here = device_lab.run("here", "cpu")
    there = device_lab.run("there")
    ways = {
        name: {**way, "num_samples": 2}
        for name, way in there._get_evaluation_generation_configs().items()
    }
    there._get_evaluation_generation_configs = lambda: ways
    metrics, texts = there.evaluate(device_lab.loader(3, partition="val"))
    assert metrics["ce_loss_token"] == pytest.approx(losses(here)[1], rel=1e-4)
    assert list(texts) == ["greedy", "beam", "sample"]
    assert "no generated text" not in capsys.readouterr().out


@pytest.mark.thorough
def test_a_run_goes_on_on_another_device(device_lab):
    broken = device_lab.run("broken", stop=2, dropout=0.2)
    whole = device_lab.run("whole", dropout=0.2)
    assert losses(broken) == pytest.approx(losses(whole))


def test_a_checkpoint_of_a_machine_with_more_gpus(monkeypatch):
    state, restored = {**resuming.random_state(), "cuda": ["first", "second"]}, []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", restored.extend)
    resuming.set_random_state(state)
    assert restored == ["first"]


def test_an_epoch_is_not_repeated_after_its_end(lab):
    trainer = lab.trainer()
    trainer.train(lab.loader(), lab.loader(partition="val"), 1)
    again = lab.trainer()
    again.load_checkpoint("checkpoint-last-epoch-model.pth")
    again.train(lab.loader(), lab.loader(partition="val"), 2)
    assert [h["epoch"] for h in again.training_history] == [0, 1, 2]


def test_long_epochs_are_saved_in_between(lab, monkeypatch):
    trainer, saved = lab.trainer(), []
    monkeypatch.setattr(resuming, "SAVE_SECONDS", -1)
    trainer.save_checkpoint = lambda name: saved.append((name, trainer.progress["batches"]))
    trainer._train_epoch(lab.loader(3))
    assert saved == [("checkpoint-last-epoch-model.pth", 1), ("checkpoint-last-epoch-model.pth", 2)]


def test_the_best_model_is_kept(lab):
    trainer = lab.trainer()
    losses, saved = iter([3.0, 2.0, 2.5, 1.0]), []
    trainer._validate_epoch = lambda loader: ({"ce_loss_char": next(losses)}, {})
    save = trainer.save_checkpoint
    trainer.save_checkpoint = lambda name: (
        saved.append((trainer.current_epoch, name.split("-")[1])), save(name),
    )
    trainer.train(lab.loader(), lab.loader(), 2)
    trainer.train(lab.loader(), lab.loader(), 2)  # the best value is not forgotten between calls
    assert saved == [
        (1, "best"), (1, "last"), (2, "best"), (2, "last"), (3, "last"), (4, "best"), (4, "last"),
    ]
    assert trainer.best_metric == 1.0


# ---- Checkpoints


def test_a_checkpoint_has_what_the_interface_says(lab):
    trainer = lab.trainer()
    trainer.train(lab.loader(), lab.loader(partition="val"), 1)
    content = torch.load(trainer.last_model_path, weights_only=True)
    assert {
        "epoch", "model_state_dict", "optimizer_state_dict", "scheduler_state_dict",
        "scaler_state_dict", "best_metric", "training_history", "config",
    } <= content.keys()
    assert content["epoch"] == 1 and content["config"] == trainer.config
    json.dumps(content["training_history"])  # plain numbers


@pytest.mark.parametrize("options", [{}, {"weight_tying": True}])
def test_a_checkpoint_is_read_as_torch_reads_it(lab, options):
    trainer = lab.trainer(dtype=torch.float32, model=options)
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.1, momentum=0.5)
    trainer.scheduler = CosineAnnealingWarmRestarts(trainer.optimizer, 3)
    trainer.train(lab.loader(), lab.loader(partition="val"), 1)
    trainer.model.to(torch.bfloat16)
    trainer.save_checkpoint("half.pth")
    for name in ("half.pth", trainer.last_model_path.name):
        path = trainer.checkpoint_dir / name
        ours, theirs = read_checkpoint(path), torch.load(path, weights_only=True)
        weights = ours.pop("model_state_dict"), theirs.pop("model_state_dict")
        assert_close(*map(dict, weights), rtol=0, atol=0)
        parts = "optimizer_state_dict", "random_state"
        for part in parts:
            assert_close(ours.pop(part), theirs.pop(part), rtol=0, atol=0)
        assert ours == theirs
        memory = {tensor.data_ptr() for tensor in weights[0].values()}
        assert len(memory) == len(weights[0])  # tied ones are two here, each of its own


def test_a_tied_embedding_is_read_by_the_factor_of_its_training(lab, capsys):
    """A checkpoint without one was trained with 1, whatever writes it after that."""
    tied = {"weight_tying": True}
    trainer, batch = lab.trainer(model=tied), next(iter(lab.loader()))
    model = trainer.model.eval()
    assert model.embedding_scale == 8**0.5
    trainer.save_checkpoint("new.pth")
    new = model(batch[0])[0]
    model.embedding_scale = 1.0
    old = model(batch[0])[0]
    assert not torch.allclose(new, old)
    content = torch.load(trainer.checkpoint_dir / "new.pth", weights_only=True)
    del content["embedding_scale"]  # the course's, or an older one
    torch.save(content, trainer.checkpoint_dir / "old.pth")
    for name, logits in (("new.pth", new), ("old.pth", old)):
        again = lab.trainer(model=tied)
        again.load_checkpoint(name)
        assert_close(again.model.eval()(batch[0])[0], logits, rtol=0, atol=0)
        note = "embedding times 1 and goes on so; that of a new run is times 2.828"
        assert (note in capsys.readouterr().out) == (name == "old.pth")
        again.save_checkpoint("again.pth")
        reader = lab.trainer(model=tied, optimizer=False)
        reader.load_checkpoint("again.pth")
        assert_close(reader.model.eval()(batch[0])[0], logits, rtol=0, atol=0)


def test_a_file_is_read_and_not_mapped(lab):
    trainer = lab.trainer()
    trainer.save_checkpoint("a.pth")
    path = trainer.checkpoint_dir / "a.pth"
    weights = read_checkpoint(path)["model_state_dict"]
    with open(path, "r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert_close(weights, dict(trainer.model.state_dict()), rtol=0, atol=0)


def test_what_the_bits_depend_on_is_noted_when_it_has_changed(lab, capsys, monkeypatch):
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    monkeypatch.delenv("MKL_CBWR", raising=False)
    trainer = lab.trainer()
    trainer.save_checkpoint("a.pth")
    trainer.load_checkpoint("a.pth")
    assert "note" not in capsys.readouterr().out
    monkeypatch.delenv("ATEN_CPU_CAPABILITY")
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    monkeypatch.setattr(torch, "__version__", "9.9")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    before = torch.load(trainer.checkpoint_dir / "a.pth", weights_only=True)["surroundings"]
    trainer.load_checkpoint("a.pth")
    note = capsys.readouterr().out
    assert note.startswith("note: ") and note.count("\n") == 1
    for words in (
        f"torch was {before['torch']}, 9.9 now", "ATEN_CPU_CAPABILITY was avx2, not set now",
        "MKL_CBWR was not set, COMPATIBLE now", "the number of threads was 1, 77 now",
    ):
        assert words in note
    lab.trainer(optimizer=False).load_checkpoint("a.pth")  # which trains no further
    assert "note" not in capsys.readouterr().out
    content = torch.load(trainer.checkpoint_dir / "a.pth", weights_only=True)
    del content["surroundings"]  # of an older version
    torch.save(content, trainer.checkpoint_dir / "old.pth")
    trainer.load_checkpoint("old.pth")
    assert "note" not in capsys.readouterr().out


def test_a_state_of_another_version_of_torch_is_taken_over(lab):
    """Keys such as `verbose`, `_is_initial` and `decoupled_weight_decay` come and go."""
    trainer = lab.trainer()
    trainer.train(lab.loader(), lab.loader(partition="val"), 1)
    content = torch.load(trainer.last_model_path, weights_only=True)
    content["scheduler_state_dict"]["verbose"] = False
    del content["scheduler_state_dict"]["_is_initial"]
    del content["optimizer_state_dict"]["param_groups"][0]["decoupled_weight_decay"]
    torch.save(content, trainer.checkpoint_dir / "old.pth")
    other = lab.trainer()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.load_checkpoint("old.pth")
    assert other.scheduler.last_epoch == trainer.scheduler.last_epoch == 3
    rates = [t.optimizer.param_groups[0]["lr"] for t in (trainer, other)]
    assert rates[0] == rates[1]
    assert not hasattr(other.scheduler, "verbose")


def test_checkpoints_that_cannot_be_loaded(lab, capsys):
    trainer = lab.trainer()
    folder = trainer.checkpoint_dir
    with pytest.raises(FileNotFoundError, match="none.pth: no such checkpoint"):
        trainer.load_checkpoint("none.pth")
    (folder / "noise.pth").write_bytes(b"noise")
    torch.save({"weights": 1}, folder / "other.pth")
    # A function would be called by a careless loader.
    torch.save({"model_state_dict": print}, folder / "code.pth")
    for name in ("noise", "other", "code"):
        with pytest.raises(ValueError, match=f"{name}.pth"):
            trainer.load_checkpoint(f"{name}.pth")
    assert capsys.readouterr().out == ""


def test_a_checkpoint_of_another_shape(lab):
    trainer = lab.trainer("one")
    trainer.save_checkpoint("a.pth")
    other = lab.trainer("one", model={"d_ff": 20}, optimizer=False)
    name = r"dec_layers\.0\.ffn\.ffn\.0\.bias is \(16,\) in the checkpoint, \(20,\) in the model"
    with pytest.warns(UserWarning, match=name), pytest.raises(RuntimeError, match="nothing in it"):
        other.load_checkpoint("a.pth")
    deeper = lab.trainer("one", model={"num_layers": 3}, optimizer=False)
    with pytest.warns(UserWarning, match=r"missing in the checkpoint"), pytest.raises(RuntimeError):
        deeper.load_checkpoint("a.pth")


def test_an_untied_checkpoint_is_none_of_a_tied_model(lab):
    """Else one of its matrices would take the place of the other, and nobody would be told."""
    lab.trainer().save_checkpoint("a.pth")
    tied = lab.trainer(model={"weight_tying": True}, optimizer=False)
    before = tied.model.final_linear.weight.clone()
    words = r"target_embedding\.weight and final_linear\.weight are tied in the model, and two in"
    with pytest.warns(UserWarning, match=words), pytest.raises(RuntimeError, match="nothing in it"):
        tied.load_checkpoint("a.pth")
    assert torch.equal(tied.model.final_linear.weight, before)
    tied.save_checkpoint("b.pth")
    free = lab.trainer(optimizer=False)  # has room for both, which are equal
    free.load_checkpoint("b.pth")
    batch = next(iter(lab.loader()))[0]
    assert_close(free.model.eval()(batch)[0], tied.model.eval()(batch)[0], rtol=0, atol=0)


def test_parts_of_a_checkpoint_that_fit_are_loaded(lab):
    trainer = lab.trainer("one")
    trainer.save_checkpoint("a.pth")
    other = lab.trainer("one", model={"max_len": 60})
    other.optimizer = torch.optim.SGD(list(other.model.parameters())[:2], lr=0.1)
    with torch.no_grad():
        other.model.norm.weight.zero_()
    with pytest.warns(UserWarning, match="optimizer_state_dict does not fit"):
        other.load_checkpoint("a.pth")
    assert torch.equal(other.model.norm.weight, trainer.model.norm.weight)


def test_a_file_is_replaced_only_by_a_whole_one(tmp_path):
    path = tmp_path / "file"
    atomic_write(path, lambda file: file.write(b"old"))

    def fail(file):
        file.write(b"half of the n")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        atomic_write(path, fail)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_as_one(lab, monkeypatch):
    class Full(io.BytesIO):
        # Torch.save passes on an error of the first write, and makes others of its own.
        def write(self, data):
            if self.tell() + len(data) > 5000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    monkeypatch.setattr(saving, "atomic_write", lambda path, write: write(Full()))
    with pytest.raises(OSError, match="No space left"):
        lab.trainer("full").save_checkpoint("some.pth")


def test_a_batch_is_widened_to_max_len_at_most_and_never_cut(lab):
    trainer = lab.trainer("wide")
    most = trainer.model.max_len
    widths = [
        trainer._widened(torch.ones(2, T, dtype=torch.int64)).shape[1]
        for T in (1, most - 1, most, most + 9)
    ]
    assert widths == [8, most, most, most + 9]


# ---- What is written


def test_files_of_a_run(lab):
    trainer = lab.trainer("story", plots=True)
    root = lab.path / "expts" / "story"
    assert trainer.expt_root == root
    assert (root / "config.yaml").read_text() == (lab.path / "config.yaml").read_text()
    arch = (root / "model_arch.txt").read_text()
    assert "SelfAttentionDecoderLayer" in arch and "[3, 60, 35]" in arch
    trainer.train(lab.loader(), lab.loader(partition="val"), 2)
    made = {str(path.relative_to(root)) for path in root.rglob("*.*")}
    assert made == {
        "config.yaml", "model_arch.txt", "checkpoints/checkpoint-best-metric-model.pth",
        "checkpoints/checkpoint-last-epoch-model.pth", "text/text_val_epoch_0.json",
        "text/text_val_epoch_1.json",
        *(
            f"attn/{split}_self_attention_epoch{e}.png" for split in ("train", "val")
            for e in (0, 1)
        ),
    }  # fmt: skip
    for path in root.rglob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
    texts = json.loads((root / "text" / "text_val_epoch_1.json").read_text())
    assert len(texts) == 10
    assert all(list(text) == ["prompt", "original", "generated", "score"] for text in texts)
    assert all(text["prompt"].startswith("[SOS]") for text in texts)


def test_history_and_what_is_printed(lab, capsys):
    trainer = lab.trainer()
    capsys.readouterr()
    trainer._log_metrics({"train": {"loss": 2.5}, "val": {"loss": 3.25}}, 4)
    assert trainer.training_history == [
        {"epoch": 4, "train": {"loss": 2.5}, "val": {"loss": 3.25}, "lr": 0.01}
    ]
    out = capsys.readouterr().out
    assert "epoch 5" in out and "2.5000" in out and "3.2500" in out


def test_an_unknown_kind_of_model_is_refused(lab):
    made = lab.trainer()
    with pytest.raises(NotImplementedError, match="Linear"):
        LMTrainer(
            nn.Linear(2, 2), made.tokenizer, made.config, "x", lab.path / "config.yaml", "cpu"
        )


def test_a_missing_configuration_file_is_named(lab):
    made = lab.trainer()
    with pytest.raises(ValueError, match=r"gone\.yaml"):
        LMTrainer(made.model, made.tokenizer, made.config, "x", "gone.yaml", "cpu")


def test_training_goes_on_without_wandb(lab, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    trainer = lab.trainer(use_wandb=True)
    assert "going on without wandb" in capsys.readouterr().out
    trainer.train(lab.loader(), lab.loader(), 1)
    trainer.cleanup()
    assert not trainer.use_wandb


@pytest.mark.parametrize(
    ("run_id", "how"), [("none", {"name": "run"}), ("abc", {"id": "abc", "resume": "must"})]
)
def test_what_wandb_is_given(lab, monkeypatch, run_id, how):
    calls = []
    run = SimpleNamespace(
        log=lambda numbers, step: calls.append((sorted(numbers), step)),
        save=lambda path, base_path: calls.append(path.split("/")[-1]),
        finish=lambda: calls.append("finish"),
    )
    fake = SimpleNamespace(
        init=lambda **kwargs: calls.append(kwargs) or run, Image=lambda path: path
    )
    monkeypatch.setitem(sys.modules, "wandb", fake)
    trainer = lab.trainer(use_wandb=True, wandb_run_id=run_id, wandb_project="p")
    trainer.train(lab.loader(), lab.loader(), 1)
    trainer.cleanup()
    assert calls[0] == {"project": "p", "config": trainer.config, **how}
    logged = sorted(["learning_rate", *(f"{s}/{k}" for s in ("train", "val") for k in KEYS)])
    assert calls.index((logged, 0)) > calls.index("checkpoint-last-epoch-model.pth")
    assert calls[-1] == "finish" and "checkpoint-last-epoch-model.pth" in calls
    assert "text_val_epoch_0.json" in calls


# ---- Generated text


def test_generated_text_goes_on_from_real_beginnings(lab):
    trainer, loader = lab.trainer(), lab.loader()
    results = trainer.generate(loader, {"num_samples": 5, "prompt_length": 4, "seed": 1})
    assert len(results) == 5
    decode = trainer.tokenizer.decode
    for result in results:
        whole = (result["prompt"] + result["original"]).removeprefix("[SOS]").removesuffix("[EOS]")
        assert whole in TEXTS and len(result["prompt"]) == len("[SOS]") + 4
        ids = trainer.tokenizer.encode(result["prompt"])
        for _ in range(60 - len(ids)):  # greedy, a token at a time
            ids.append(int(trainer.model.score(torch.tensor([ids])).argmax()))
            if ids[-1] == trainer.tokenizer.eos_id:
                break
        assert result["prompt"] + result["generated"] == decode(ids)
        assert result["score"] == pytest.approx(
            -nats_of(trainer.model, ids[:-1], ids[1:]) + nats_of(trainer.model, ids[:4], ids[1:5]),
            rel=1e-6,
        )


def test_ways_to_generate(lab, monkeypatch):
    trainer, loader = lab.trainer(), lab.loader()
    used = []
    for name in ("greedy", "beam", "sample"):
        real = getattr(
            base_generator := sys.modules["hw4lib.decoding"].SequenceGenerator, f"generate_{name}"
        )
        monkeypatch.setattr(
            base_generator, f"generate_{name}",
            lambda self, x, *args, name=name, real=real: used.append((name, args))
            or real(self, x, *args),
        )  # fmt: skip
    for settings in (
        {}, {"beam_width": 3, "repeat_penalty": 1.2}, {"top_k": 5}, {"top_p": 0.5, "beam_width": 3},
    ):
        trainer.generate(loader, {"num_samples": 2, "prompt_length": 4, **settings})
    samples = [("sample", (1.0, 5, 1.0)), ("sample", (1.0, 0, 0.5))]
    assert used == [("greedy", (1.0, 1.0)), ("beam", (3, 1.0, 1.2)), *samples]


def test_a_seed_means_the_same_samples_and_leaves_the_generators_alone(lab):
    trainer, loader = lab.trainer(), lab.loader()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    settings = {"num_samples": 4, "prompt_length": 4, "top_k": 20, "seed": 5}
    first = trainer.generate(loader, settings)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    assert trainer.generate(loader, settings) == first
    assert trainer.generate(loader, {**settings, "seed": 6}) != first


def test_many_prompts_are_generated_in_parts(lab, monkeypatch):
    trainer, loader = lab.trainer(), lab.loader()
    settings = {"num_samples": 7, "prompt_length": 4, "beam_width": 2}
    whole = trainer.generate(loader, settings)
    monkeypatch.setattr(sys.modules["hw4lib.trainers.lm_trainer"], "ROWS", 4)
    for one, other in zip(trainer.generate(loader, settings), whole, strict=True):
        assert one.pop("score") == pytest.approx(other.pop("score"))
        assert one == other


def test_evaluation(lab, capsys):
    trainer = lab.trainer(model={"max_len": 50}, plots=True)
    metrics, results = trainer.evaluate(lab.loader(partition="val"))
    assert list(metrics) == KEYS and list(results) == ["greedy", "beam", "sample"]
    for name, texts in results.items():
        assert len(texts) == 50
        path = trainer.text_dir / f"text_test_epoch_0_{name}.json"
        assert json.loads(path.read_text()) == texts
    assert (trainer.attn_dir / "test_self_attention_epoch0.png").exists()
    assert trainer.training_history[-1]["test"] == metrics
    assert results["beam"] != results["greedy"] != results["sample"]


def test_a_way_of_generation_that_fails_is_left_out(lab, capsys):
    trainer = lab.trainer()
    ways = {"greedy": {"prompt_length": 1000}, "beam": {"temperature": 0}, "sample": {}}
    trainer._get_evaluation_generation_configs = lambda: ways
    assert list(trainer.evaluate(lab.loader())[1]) == ["sample"]
    out = capsys.readouterr().out
    assert "no generated text for text_test_epoch_0_greedy.json" in out
    assert "no transcript with 1000 tokens" in out


# ---- The order of sequences


@given(st.lists(st.integers(1, 300), min_size=1, max_size=200), st.integers(1, 9), st.booleans())
def test_an_order_has_each_sequence_once(lengths, batch_size, shuffle):
    order = LengthOrder(lengths, batch_size, shuffle)
    assert sorted(order) == list(range(len(lengths))) and len(order) == len(lengths)
    if not shuffle:
        assert [lengths[i] for i in order] == sorted(lengths, reverse=True)


def test_batches_have_little_padding_and_differ_between_epochs():
    draw = random.Random(0)
    lengths = [draw.randint(60, 260) for _ in range(1000)]
    order = LengthOrder(lengths, 32, shuffle=True)
    torch.manual_seed(0)
    first, second = list(order), list(order)
    torch.manual_seed(0)
    assert list(order) == first != second
    rows = [[lengths[i] for i in first[start : start + 32]] for start in range(0, 992, 32)]
    padded = sum(max(row) * len(row) for row in rows)
    assert sum(map(sum, rows)) / padded > 0.95
    longest = [max(row) for row in rows]
    assert longest != sorted(longest) and longest != sorted(longest, reverse=True)
    batches = [
        {frozenset(order[start : start + 32]) for start in range(0, 992, 32)}
        for order in (first, second)
    ]
    assert len(batches[0] & batches[1]) <= 1  # each epoch has other sequences together
