"""A training that is stopped, killed or hindered: what is saved, when, and how it goes on."""

import builtins
import os
import random
import signal
import sys
from types import SimpleNamespace

import pytest
import torch
from hw4lib.errors import Interrupted
from hw4lib.trainers import Stopped, resuming

DROPPED = {"dropout": 0.2, "layer_drop_rate": 0.3}
LAST = "checkpoint-last-epoch-model.pth"


def start(lab, run: str, **options):
    """A trainer at its beginning, and its loaders of three batches each."""
    trainer = lab.trainer(run, dtype=torch.float32, **options)
    torch.manual_seed(3)
    random.seed(3)
    return trainer, lab.loader(3, shuffle=True), lab.loader(3, partition="val")


def resumed(lab, run: str, **options):
    """A trainer that goes on with the run in another process, whose generators know nothing."""
    trainer, *loaders = start(lab, run, **options)
    torch.manual_seed(99)
    random.seed(99)
    trainer.load_checkpoint(LAST)
    return trainer, *loaders


def ends_as(whole, again) -> None:
    """Assert that two trainers have come to the same, to the bit."""
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert whole.training_history == again.training_history
    assert whole.best_metric == again.best_metric and again.progress is None
    assert whole.current_epoch == again.current_epoch


def after(count: int, act):
    """A function that calls `act` the `count`th time that it is called."""
    calls = iter(range(1, 1000))
    return lambda *args, **kwargs: act() if next(calls) == count else None


def hooked(function, before):
    """The function, with `before` called before it."""
    return lambda *args, **kwargs: (before(), function(*args, **kwargs))[1]


# ---- Stopped between any two batches


@pytest.mark.parametrize(
    "batches", [1, 2, *(pytest.param(n, marks=pytest.mark.thorough) for n in (3, 4, 5))]
)
@pytest.mark.parametrize("accumulate", [2, 3])
def test_a_stop_between_two_steps_loses_no_gradient(lab, accumulate, batches):
    options = {"gradient_accumulation_steps": accumulate, "model": DROPPED}
    whole, *loaders = start(lab, "whole", **options)
    whole.train(*loaders, 2)
    broken, *loaders = start(lab, "broken", **options)
    count = after(batches, lambda: setattr(broken, "stop_requested", signal.SIGTERM))
    broken._backward = hooked(broken._backward, count)
    with pytest.raises(Stopped):
        broken.train(*loaders, 2)
    progress = torch.load(broken.last_model_path, weights_only=True)["progress"]
    assert progress["batches"] == (batches - 1) % 3 + 1
    again, *loaders = resumed(lab, "broken", **options)
    again.train(*loaders, 2 - again.current_epoch)
    ends_as(whole, again)


def test_a_stop_goes_on_in_the_same_process_too(lab):
    whole, *loaders = start(lab, "whole", gradient_accumulation_steps=3)
    whole.train(*loaders, 1)
    broken, *loaders = start(lab, "broken", gradient_accumulation_steps=3)
    broken._backward = hooked(
        broken._backward, after(2, lambda: setattr(broken, "stop_requested", signal.SIGINT)))
    with broken.stopping_on_signals(), pytest.raises(Stopped):
        broken.train(*loaders, 1)
    with broken.stopping_on_signals():  # as in a notebook, where cells are run again
        broken.train(*loaders, 1)
    ends_as(whole, broken)


@pytest.mark.parametrize("batches", [1, 2, 3])
def test_a_stop_in_validation_is_saved_there(lab, batches):
    whole, *loaders = start(lab, "whole", model=DROPPED)
    whole.train(*loaders, 2)
    broken, *loaders = start(lab, "broken", model=DROPPED)
    count = after(batches, lambda: setattr(broken, "stop_requested", signal.SIGTERM))
    broken._measure = hooked(broken._measure, count)
    with pytest.raises(Stopped):
        broken.train(*loaders, 2)
    saved = torch.load(broken.last_model_path, weights_only=True)
    if batches < 3:  # else the epoch is complete
        assert saved["progress"]["batches"] == 3
        assert saved["progress"]["validation"]["batches"] == batches
    else:
        assert saved["epoch"] == 1 and saved["progress"] is None
    again, *loaders = resumed(lab, "broken", model=DROPPED)
    measured = []
    again._measure = hooked(again._measure, lambda: measured.append(1))
    again.train(*loaders, 2 - again.current_epoch)
    assert len(measured) == 6 - batches  # none is measured twice
    ends_as(whole, again)


def test_long_validations_are_saved_in_between(lab, monkeypatch):
    trainer, *loaders = start(lab, "run")
    saved = []
    monkeypatch.setattr(resuming, "SAVE_SECONDS", -1)
    trainer.save_checkpoint = lambda name: saved.append(
        trainer.progress and trainer.progress.get("validation", {}).get("batches")
    )
    trainer.train(*loaders, 1)
    # Two between the batches of the epoch, one before each of validation, best and last.
    assert saved == [None, None, 0, 1, 2, None, None]


def test_measuring_without_a_training_saves_nothing(lab, monkeypatch):
    trainer, train_loader, val_loader = start(lab, "run")
    monkeypatch.setattr(resuming, "SAVE_SECONDS", -1)
    trainer.stop_requested = signal.SIGTERM  # of a training that was stopped
    trainer.evaluate(val_loader)
    assert not list(trainer.checkpoint_dir.iterdir()) and trainer.progress is None


def test_a_stop_does_not_wait_for_the_texts(lab):
    trainer, *loaders = start(lab, "run")
    scored = []

    def stop():
        scored.append(1)
        trainer.stop_requested = signal.SIGHUP

    trainer.model.score_after = hooked(trainer.model.score_after, stop)
    with pytest.raises(Stopped) as stopped:
        trainer.train(*loaders, 2)
    assert stopped.value.args == (signal.SIGHUP,) and len(scored) == 1
    assert torch.load(trainer.last_model_path, weights_only=True)["epoch"] == 1


def test_a_checkpoint_further_than_its_data_is_an_error(lab):
    trainer, *loaders = start(lab, "run")
    trainer.progress = {"batches": 4, "random_state": resuming.random_state()}
    with pytest.raises(ValueError, match="has 4 batches of an epoch that has 3; train anew"):
        trainer.train(*loaders, 1)


@pytest.mark.parametrize("change", [
    lambda progress: progress["validation"].update(batches="1"),
    lambda progress: progress["validation"].update(batches=1),
    lambda progress: progress["validation"].update(random_state={}),
    lambda progress: progress.update(validation=[]),
    lambda progress: progress.update(gradients={"norm.weight": 1}),
    lambda progress: progress.update(gradients=[]),
])  # fmt: skip
def test_progress_that_is_none_is_refused(lab, change):
    trainer, *loaders = start(lab, "run")
    trainer._measure = hooked(
        trainer._measure, after(1, lambda: setattr(trainer, "stop_requested", signal.SIGTERM)))
    with pytest.raises(Stopped):
        trainer.train(*loaders, 1)
    content = torch.load(trainer.last_model_path, weights_only=True)
    content["progress"]["validation"] = {
        "batches": 0, "random_state": content["progress"]["random_state"],
    }
    torch.save(content, trainer.last_model_path)
    resumed(lab, "run")
    change(content["progress"])
    torch.save(content, trainer.last_model_path)
    with pytest.raises(ValueError, match="not a checkpoint, or a damaged one"):
        resumed(lab, "run")


def test_a_gradient_of_another_shape_is_refused(lab):
    trainer, *loaders = start(lab, "run")
    trainer.progress = {
        "batches": 1, "random_state": resuming.random_state(),
        "gradients": {"norm.weight": torch.zeros(3)},
    }
    with pytest.raises(ValueError, match=r"gradient is none of norm\.weight"):
        trainer.train(*loaders, 1)


# ---- Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_signal_asks_to_save_and_stop(lab, number):
    trainer, *loaders = start(lab, "run")
    before = signal.getsignal(number)

    def ask():
        signal.raise_signal(number)
        for again in (signal.SIGHUP, signal.SIGTERM):  # a closed terminal may send several
            signal.raise_signal(again)

    trainer._backward = hooked(trainer._backward, after(2, ask))
    with trainer.stopping_on_signals(), pytest.raises(Stopped) as stopped:
        trainer.train(*loaders, 1)
    assert stopped.value.args == (number,) and signal.getsignal(number) == before
    progress = torch.load(trainer.last_model_path, weights_only=True)["progress"]
    assert progress["batches"] == 2


def test_ctrl_c_once_more_stops_at_once(lab):
    trainer = lab.trainer()
    with trainer.stopping_on_signals():
        signal.raise_signal(signal.SIGTERM)
        assert trainer.stop_requested == signal.SIGTERM
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)


def test_a_stop_is_not_that_of_the_next_training(lab):
    trainer = lab.trainer()
    for _ in range(2):
        with trainer.stopping_on_signals():
            assert not trainer.stop_requested
            signal.raise_signal(signal.SIGINT)
            assert trainer.stop_requested == signal.SIGINT


# ---- Nothing decorative costs work


def test_an_epoch_is_saved_before_anything_of_it_is_shown(lab, monkeypatch):
    trainer, *loaders = start(lab, "run", plots=True)
    seen = []

    def look():
        seen.append(torch.load(trainer.last_model_path, weights_only=True)["epoch"])

    for name in ("_show_metrics", "_save_attention_plot", "_save_generated_text"):
        setattr(trainer, name, hooked(getattr(trainer, name), look))
    trainer.train(*loaders, 2)
    assert seen == [1] * 4 + [2] * 4  # numbers, two pictures, texts


def failing(error):
    def fail(*args, **kwargs):
        raise error

    return fail


@pytest.mark.parametrize(("name", "error", "words"), [
    ("_show_metrics", ValueError("closed"), "no numbers: ValueError closed"),
    ("_save_attention_plot", MemoryError(), "no picture train_self of epoch 1: MemoryError"),
    ("_save_attention_plot", OSError(28, "No space left"), "No space left"),
    ("generate", RuntimeError("std::bad_alloc"), "for text_val_epoch_0.json: std::bad_alloc"),
    ("_save_generated_text", OSError(28, "No space left"), "no generated text of epoch 1: "),
])  # fmt: skip
def test_what_is_shown_may_fail(lab, capsys, name, error, words):
    trainer, *loaders = start(lab, "run")
    setattr(trainer, name, failing(error))
    trainer.train(*loaders, 2)
    assert words in capsys.readouterr().out
    content = torch.load(trainer.last_model_path, weights_only=True)
    assert content["epoch"] == 2 and len(content["training_history"]) == 2


def test_attention_maps_may_fail(lab, capsys):
    trainer, *loaders = start(lab, "run")
    forward = trainer.model.forward

    def without_maps(tokens, lengths=None, need_weights=True):
        if need_weights:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return forward(tokens, lengths, need_weights)

    trainer.model.forward = without_maps
    trainer.train(*loaders, 1)
    assert trainer.current_epoch == 1 and "no attention maps: " in capsys.readouterr().out


def test_training_goes_on_without_matplotlib(lab, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    trainer, *loaders = start(lab, "run", plots=True)
    trainer.train(*loaders, 2)
    assert trainer.current_epoch == 2 and "no picture" in capsys.readouterr().out
    assert len(list(trainer.text_dir.iterdir())) == 2


def test_training_goes_on_when_nothing_can_be_printed(lab, monkeypatch):
    trainer, *loaders = start(lab, "run")
    monkeypatch.setattr(builtins, "print", failing(BrokenPipeError(32, "Broken pipe")))
    closed = os.fdopen(os.dup(1), "w")
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)  # where the progress bar goes
    closed.isatty = lambda: False
    trainer.train(*loaders, 2)
    monkeypatch.undo()
    assert torch.load(trainer.last_model_path, weights_only=True)["epoch"] == 2


def test_training_goes_on_when_wandb_fails(lab, monkeypatch, capsys):
    run = SimpleNamespace(
        log=failing(OSError("no network")), save=failing(OSError("no network")),
        finish=failing(OSError("no network")),
    )
    fake = SimpleNamespace(init=lambda **kwargs: run)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    trainer, *loaders = start(lab, "run", use_wandb=True)
    trainer.train(*loaders, 2)
    trainer.cleanup()
    assert trainer.current_epoch == 2
    out = capsys.readouterr().out
    assert "no checkpoint-last-epoch-model.pth at wandb: OSError no network" in out


# ---- Checkpoints that cannot be written


def full_disk(trainer, which: str, times: int = 1000) -> None:
    """Let no checkpoint of that name be written so many times."""
    save, left = trainer.save_checkpoint, iter(range(times))

    def attempt(name):
        if which in name and next(left, None) is not None:
            raise OSError(28, "No space left on device")
        save(name)

    trainer.save_checkpoint = attempt


@pytest.mark.parametrize("which", ["best-metric", "last-epoch"])
def test_a_save_that_fails_is_told_and_training_goes_on(lab, capsys, which):
    whole, *loaders = start(lab, "whole")
    whole.train(*loaders, 3)
    trainer, *loaders = start(lab, "run")
    full_disk(trainer, which, 1)
    trainer.train(*loaders, 3)
    ends_as(whole, trainer)
    err = capsys.readouterr().err
    path = trainer.checkpoint_dir / f"checkpoint-{which}-model.pth"
    assert err.count(f"warning: {path}: cannot be written (No space left on device); going on") == 1
    assert torch.load(path, weights_only=True)["epoch"] == 3


def test_saves_in_an_epoch_may_fail_and_are_tried_again_when_due(lab, capsys, monkeypatch):
    trainer, *loaders = start(lab, "run")
    full_disk(trainer, "last", 2)
    monkeypatch.setattr(resuming, "SAVE_SECONDS", -1)
    trainer.train(*loaders, 1)
    assert capsys.readouterr().err.count("cannot be written") == 2
    trainer.save_checkpoint = failing(OSError(28, "No space left on device"))
    monkeypatch.setattr(resuming, "SAVE_SECONDS", 1000)
    trainer.last_save -= 2000
    with pytest.raises(OSError, match="the best model could not be saved"):
        trainer.train(*loaders, 1)
    warnings = capsys.readouterr().err.count(f"warning: {trainer.last_model_path}: ")
    assert warnings == 2  # when it was due, and at the epoch's end; not after each batch


def test_a_best_model_that_could_not_be_saved_is_an_error_at_the_end(lab):
    trainer, *loaders = start(lab, "run")
    full_disk(trainer, "best")
    with pytest.raises(OSError) as failed:
        trainer.train(*loaders, 2)
    assert str(failed.value) == (
        f"{trainer.best_model_path}: the best model could not be saved (No space left on device); "
        "make room, and go on from the last state with --resume"
    )
    content = torch.load(trainer.last_model_path, weights_only=True)
    assert content["epoch"] == 2 and content["best_metric"] == float("inf")
    again, *loaders = resumed(lab, "run")  # there is room now
    again.train(*loaders, 1)
    assert torch.load(again.best_model_path, weights_only=True)["epoch"] == 3


def test_a_stop_that_could_not_be_saved_is_an_error(lab):
    trainer, *loaders = start(lab, "run")
    full_disk(trainer, "last")
    trainer._backward = hooked(
        trainer._backward, after(2, lambda: setattr(trainer, "stop_requested", signal.SIGTERM)))
    with pytest.raises(OSError) as failed:
        trainer.train(*loaders, 1)
    words = "stopped, but not saved (No space left on device); make room, and train again"
    assert str(failed.value) == f"{trainer.last_model_path}: {words}"
    assert not trainer.last_model_path.exists()


def test_a_loss_on_val_that_is_no_number_is_an_error(lab):
    trainer, *loaders = start(lab, "run")
    trainer._validate_epoch = lambda loader: ({"ce_loss_char": float("nan")}, {})
    with pytest.raises(ValueError, match=r"ce_loss_char on val is nan; lower optimizer\.lr"):
        trainer.train(*loaders, 1)
    assert not trainer.best_model_path.exists()


# ---- Long sequences


def one_long(trainer, texts: list[str]):
    """A batch of texts of very different lengths."""
    tokenizer = trainer.tokenizer
    rows = [torch.tensor([tokenizer.sos_id, *tokenizer.encode(text)]) for text in texts]
    golden = [torch.cat([row[1:], torch.tensor([tokenizer.eos_id])]) for row in rows]
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(rows, True), pad(golden, True), torch.tensor([len(row) for row in rows])


def test_a_long_sequence_beside_short_ones_is_computed_by_itself(lab, monkeypatch):
    trainer = lab.trainer(model={"max_len": 60})
    batch = one_long(trainer, ["A CAT", "THE DOG SAT ON THE CAT AND THEN IT RAN AWAY", "OH", "A"])
    sizes, results = [], []
    trainer.model.target_embedding.register_forward_hook(
        lambda module, given, out: sizes.append(tuple(out.shape[:2]))
    )
    for floats in (2**27, 2000):  # of a tensor at once
        monkeypatch.setattr(sys.modules["hw4lib.trainers.lm_trainer"], "FLOATS", floats)
        trainer.model.train().zero_grad()
        loss, sums = trainer._backward(batch, 1)
        gradient = [p.grad.clone() for p in trainer.model.parameters()]
        trainer.model.eval()
        results.append((loss, sums, gradient, trainer._measure(batch)))
    assert sizes == [(4, 48), (4, 44), (1, 48), (3, 8), (1, 44), (3, 6)]
    (loss, sums, gradient, measured), (in_parts, *rest) = results
    assert in_parts == pytest.approx(loss, rel=1e-6)
    assert rest[0] == pytest.approx(sums, rel=1e-6) and rest[2] == pytest.approx(measured)
    for one, other in zip(gradient, rest[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-8)


def test_prompts_side_by_side_become_fewer_where_sequences_are_long(lab):
    trainer = lab.trainer(model={"max_len": 60})
    assert [trainer._side_by_side(width) for width in (1, 10, 1000)] == [128, 12, 1]
    trainer.model.max_len = 2**20  # keys and values of 2 layers of 8
    assert trainer._side_by_side(1) == 4


def test_a_map_has_no_more_positions_than_a_picture(lab, monkeypatch):
    monkeypatch.setattr(sys.modules["hw4lib.trainers.lm_trainer"], "SHOWN", 5)
    trainer, train_loader, _ = start(lab, "run")
    batch = next(iter(train_loader))
    part = trainer._maps(batch)["layer1_dec_self"]
    monkeypatch.undo()
    whole = trainer._maps(batch)["layer1_dec_self"]
    assert part.shape == (1, 5, 5)
    torch.testing.assert_close(part, whole[:, :5, :5])
