"""Optimizers and schedules: groups, rates, traces, and what configuration is refused."""

import copy
import math
import warnings

import matplotlib
import pytest
import torch
import yaml
from hw4lib.errors import UserError
from hw4lib.utils import create_optimizer, create_scheduler, plot_lr_schedule
from torch import nn, optim
from torch.optim import lr_scheduler

matplotlib.use("Agg")

ADAM = {"betas": [0.9, 0.98], "eps": 1e-7, "amsgrad": True}
SGD = {"momentum": 0.8, "nesterov": True, "dampening": 0}
LOADER = range(9)  # of a loader only the length is used


def make_model() -> nn.ModuleDict:
    """Parameters layers.{0,1}.{weight,bias}, of which layers.1.bias is frozen, and head.weight."""
    layers = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model = nn.ModuleDict({"layers": layers, "head": nn.Linear(2, 3, bias=False)})
    model["layers"][1].bias.requires_grad_(False)
    return model


def opt_config(name: str = "adam", **more) -> dict:
    return {
        "name": name, "lr": 0.01, "weight_decay": 0.1, "adam": ADAM, "adamw": ADAM, "sgd": SGD,
        **more,
    }


def rates(optimizer: optim.Optimizer) -> dict[str, float]:
    return {group["name"]: group["lr"] for group in optimizer.param_groups}


# ---- Optimizers
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "optimizer_class", "options"),
    [
        ("sgd", optim.SGD, SGD), ("SGD", optim.SGD, SGD), ("Adam", optim.Adam, ADAM),
        ("adamw", optim.AdamW, ADAM),
    ],
)
def test_the_optimizer_is_torchs_with_its_options(name, optimizer_class, options, capsys):
    optimizer = create_optimizer(make_model(), opt_config(name))
    assert type(optimizer) is optimizer_class
    options = options | {"betas": tuple(options["betas"])} if "betas" in options else options
    assert {key: optimizer.defaults[key] for key in options} == options
    (group,) = optimizer.param_groups
    assert (group["name"], len(group["params"])) == ("model", 4)
    assert (group["lr"], group["weight_decay"]) == (0.01, 0.1)
    assert "learning rate 0.01: 16 parameters" in capsys.readouterr().out


def test_one_step_is_that_of_torch():
    model = make_model()
    twin = copy.deepcopy(model)
    ours = create_optimizer(model, opt_config())
    theirs = optim.Adam(
        [p for p in twin.parameters() if p.requires_grad], lr=0.01, weight_decay=0.1, **ADAM
    )
    for module, optimizer in ((model, ours), (twin, theirs)):
        module["head"](module["layers"](torch.ones(1, 2))).square().sum().backward()
        optimizer.step()
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True)
    )


def test_each_parameter_has_the_rate_of_the_first_entry_that_matches():
    entries = [
        {"name": "first", "patterns": ["layers.0"], "lr": 0.1},
        {
            "name": "second", "patterns": ["nothing", "weight"],
            "layer_decay": {"enabled": True, "decay_rate": 0.5},
        },
        {"name": "third", "patterns": [], "lr": 7.0},
    ]
    optimizer = create_optimizer(make_model(), opt_config(param_groups=entries))
    assert rates(optimizer) == {
        "layers.0.weight": 0.1, "layers.0.bias": 0.1, "layers.1.weight": 0.01 * 0.25,
        "head.weight": 0.01 * 0.5
    }
    assert all(len(group["params"]) == 1 for group in optimizer.param_groups)


def test_entries_that_match_nothing_leave_the_base_rate():
    decay = {"enabled": True, "decay_rate": 0.5}  # not looked at beside param_groups
    entries = [{"name": "self_attn", "patterns": [], "lr": 0.5, "layer_decay": decay}]
    optimizer = create_optimizer(make_model(), opt_config(param_groups=entries, layer_decay=decay))
    assert set(rates(optimizer).values()) == {0.01} and len(optimizer.param_groups) == 4


@pytest.mark.parametrize(("enabled", "expected"), [(True, {0.01 / 4, 0.01 / 2}), (False, {0.01})])
def test_layer_decay(enabled, expected):
    decay = {"enabled": enabled, "decay_rate": 0.5}
    optimizer = create_optimizer(make_model(), opt_config(param_groups=[], layer_decay=decay))
    assert set(rates(optimizer).values()) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "adagrad"}, "optimizer.name 'adagrad': choose one of sgd, adam, adamw"),
        ({"name": None}, "choose one of"),
        ({"lr": "1e-4"}, r"optimizer\.lr: '1e-4' is text .* 1\.0e-04"),
        ({"adam": {"betas": [0.9, "999e-3"]}}, r"optimizer\.adam\.betas\[1\]: '999e-3' is text"),
        (
            {"param_groups": [{"patterns": "weight", "lr": 0.1}]},
            "param_groups: .* patterns has to be a list",
        ),
        ({"param_groups": [3]}, "optimizer.param_groups: 3; "),
        ({"param_groups": [{"patterns": ["0"], "lr": "low"}]}, "and lr a number"),
        (
            {"param_groups": [{"patterns": ["0"], "lr": "1e-5"}]},
            r"optimizer\.param_groups\[0\]\.lr: '1e-5' is text",
        ),
        ({"lr": -1}, "optimizer adam: Invalid learning rate"),
        ({"adam": 3}, "optimizer.adam: 3; give a section"),
        ({"layer_decay": 3}, "optimizer.layer_decay: 3; give a section"),
        ({"layer_decay": {"enabled": True}}, "give a section with enabled and a number decay_rate"),
        (
            {"param_groups": [{"patterns": ["0"], "layer_decay": [1]}]},
            r"optimizer\.param_groups\.layer_decay: \[1\]; give a section",
        ),
        ({"layer_decay": {"enabled": True, "decay_rate": 1e300}}, "optimizer adam: "),
        ({"param_groups": [{"patterns": [1]}]}, "has to be a list of texts"),
        ({"param_groups": {"patterns": ["0"]}}, "optimizer.param_groups: .* give a list"),
        ({"lr": None}, "optimizer adam: "),
        ({"name": "sgd", "sgd": {"nesterov": True}}, "optimizer sgd: Nesterov"),
    ],
)
def test_what_cannot_optimize(changes, message):
    with pytest.raises(ValueError, match=message):
        create_optimizer(make_model(), opt_config() | changes)


@pytest.mark.parametrize("key", ["name", "lr", "weight_decay"])
def test_a_key_that_is_missing(key):
    config = opt_config()
    del config[key]
    with pytest.raises(UserError, match=f"optimizer.{key}: it is missing"):
        create_optimizer(make_model(), config)


def test_how_yaml_reads_numbers():
    """The reason for the check: PyYAML takes 1e-4 for text."""
    assert yaml.safe_load("{a: 1e-4, b: 1.0e-4}") == {"a": "1e-4", "b": 1e-4}


# ---- Schedules
# --------------------------------------------------------------------------------------------------

COSINE = {"T_max": 15, "eta_min": 1e-8, "last_epoch": -1}
WARMUP = {
    "enabled": True, "type": "exponential", "epochs": 5, "start_factor": 0.1, "end_factor": 1.0,
}


def make_optimizer(lr: float = 5e-4) -> optim.Optimizer:
    return create_optimizer(make_model(), opt_config(lr=lr))


def trace(scheduler: lr_scheduler.LRScheduler, steps: int) -> list[float]:
    """The learning rate before each step; a warning of torch fails the test."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(steps):
            found.append(scheduler.optimizer.param_groups[0]["lr"])
            scheduler.optimizer.step()
            scheduler.step()
    return found


@pytest.mark.parametrize("times", [1, 2, 3])
def test_the_default_schedule(times):
    """Made twice on one optimizer, as the course's notebook does, it is the same."""
    optimizer = make_optimizer()
    for _ in range(times):
        scheduler = create_scheduler(
            optimizer, {"name": "cosine", "cosine": COSINE, "warmup": WARMUP}, LOADER
        )
    found = trace(scheduler, 180)
    assert [found[i] for i in (0, 45, 90, 135)] == pytest.approx(
        [5e-5, 5e-4, 3.75e-4, 1.25e-4], rel=1e-3
    )
    assert found[179] == pytest.approx(7.8e-8, rel=0.01)
    for i, lr in enumerate(found[:45]):
        assert lr == pytest.approx(5e-4 * (0.1 + 0.9 * i / 45))
    for i, lr in enumerate(found[45:]):
        assert lr == pytest.approx(1e-8 + (5e-4 - 1e-8) * (1 + math.cos(math.pi * i / 135)) / 2)


def test_accumulation_does_not_stretch_the_schedule():
    config = {"name": "cosine", "cosine": COSINE, "warmup": WARMUP}
    whole = trace(create_scheduler(make_optimizer(), config, range(8)), 160)
    halved = trace(create_scheduler(make_optimizer(), config, range(8), 2), 80)
    ragged = trace(
        create_scheduler(make_optimizer(), config, range(7), gradient_accumulation_steps=2), 80
    )
    assert halved == pytest.approx(whole[::2]) and ragged == halved


def test_parts_of_an_epoch():
    config = {
        "name": "cosine", "cosine": COSINE | {"T_max": 1.25}, "warmup": WARMUP | {"epochs": 0.5},
    }
    found = trace(create_scheduler(make_optimizer(), config, range(8)), 15)
    assert found[4] == max(found) == 5e-4  # after 4 steps of 8
    # Half and all of 10.
    assert found[9] == pytest.approx((5e-4 + 1e-8) / 2) and found[14] == pytest.approx(1e-8)


def test_warm_restarts():
    config = {
        "name": "cosine_warm",
        "cosine_warm": {"T_0": 2, "T_mult": 2, "eta_min": 1e-5, "last_epoch": -1},
    }
    found = trace(create_scheduler(make_optimizer(), config, LOADER), 60)
    assert found[0] == found[18] == found[54] == 5e-4 and max(found[1:18] + found[19:54]) < 5e-4
    assert found[9] == pytest.approx((5e-4 + 1e-5) / 2)


def test_a_plateau():
    section = {
        "mode": "min", "factor": 0.1, "patience": 1, "threshold": 0.01, "threshold_mode": "rel",
        "min_lr": 1e-7,
    }
    optimizer = make_optimizer()
    scheduler = create_scheduler(optimizer, {"name": "reduce_lr", "reduce_lr": section}, LOADER)
    for loss, lr in [(5.0, 5e-4), (4.0, 5e-4), (4.0, 5e-4), (4.0, 5e-5), (3.0, 5e-5)]:
        scheduler.step(loss)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(lr)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "reduce_lr",
            {
                "mode": "min", "factor": 0.1, "patience": 10, "threshold": 1e-4, "cooldown": 0,
                "eps": 1e-8,
            },
        ),
        ("cosine", {"T_max": 60 * 9, "eta_min": 1e-4}),
        ("cosine_warm", {"T_0": 10 * 9, "T_mult": 2, "eta_min": 1e-4}),
    ],
)
def test_values_that_are_left_out(name, expected):
    scheduler = create_scheduler(make_optimizer(), {"name": name}, LOADER)
    assert {key: getattr(scheduler, key) for key in expected} == expected


def test_without_warm_up_the_schedule_stands_alone():
    for warmup in ({"enabled": False}, WARMUP | {"epochs": 0}):
        scheduler = create_scheduler(make_optimizer(), {"name": "cosine", "warmup": warmup}, LOADER)
        assert isinstance(scheduler, lr_scheduler.CosineAnnealingLR)
        assert scheduler.optimizer.param_groups[0]["lr"] == 5e-4


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "step"}, "scheduler.name 'step': choose one of reduce_lr, cosine, cosine_warm"),
        ({}, "choose one of"),
        (
            {"name": "reduce_lr", "warmup": {"enabled": True}},
            "reduce_lr goes by epochs and takes no warm-up",
        ),
        (
            {"name": "cosine", "cosine": {"eta_min": "1e-8"}},
            r"scheduler\.cosine\.eta_min: '1e-8' is text",
        ),
        (
            {"name": "cosine", "warmup": WARMUP | {"start_factor": 0.0}},
            "scheduler cosine: Starting multiplicative",
        ),
        ({"name": "cosine_warm", "cosine_warm": {"T_mult": 0.5}}, "scheduler cosine_warm: "),
        ({"name": "cosine", "cosine": {"last_epoch": 3}}, "scheduler cosine: "),
        ({"name": "cosine", "cosine": 3}, "scheduler.cosine: 3; give a section"),
        ({"name": "cosine", "cosine": {"T_max": 1e308}}, "T_max is 1e\\+308 epochs, inf steps"),
        ({"name": "cosine", "warmup": WARMUP | {"epochs": 1e300}}, "warmup.epochs is 1e\\+300"),
    ],
)
def test_what_cannot_schedule(config, message):
    with pytest.raises(ValueError, match=message):
        create_scheduler(make_optimizer(), config, LOADER)


def test_a_number_that_is_text_in_a_section_that_is_not_used():
    """The second part of the course's assignment has one in its configuration."""
    config = {"name": "cosine", "reduce_lr": {"eps": "1e-8"}, "cosine": {"T_max": 2}}
    assert isinstance(create_scheduler(make_optimizer(), config, LOADER),
                      lr_scheduler.CosineAnnealingLR)  # fmt: skip


# ---- The picture
# --------------------------------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch):
    """The figures that plt.show() was called for."""
    from matplotlib import pyplot as plt

    figures = []
    monkeypatch.setattr(plt, "show", lambda: figures.append(plt.gcf()))
    yield figures
    plt.close("all")


def test_the_picture_has_the_rates_and_changes_nothing(shown):
    config = {"name": "cosine", "cosine": COSINE, "warmup": WARMUP}
    entries = [{"patterns": ["head"], "lr": 0.1}]
    optimizer = create_optimizer(make_model(), opt_config(lr=5e-4, param_groups=entries))
    scheduler = create_scheduler(optimizer, config, LOADER)
    trace(scheduler, 3)
    before = copy.deepcopy((scheduler.state_dict(), rates(optimizer)))
    plot_lr_schedule(scheduler, 17, LOADER, max_groups=3)
    assert (scheduler.state_dict(), rates(optimizer)) == before
    (figure,) = shown
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    assert [line.get_label() for line in axes.lines] == [
        "layers.0.weight", "layers.0.bias", "layers.1.weight",
    ]
    epochs, drawn = axes.lines[0].get_data()
    assert list(drawn) == pytest.approx(trace(scheduler, 17 * 9))
    assert epochs[9] == 1 and len(epochs) == 17 * 9
    assert axes.child_axes[0].get_xlabel() == "step"


def test_the_picture_of_a_plateau_is_flat(shown):
    scheduler = create_scheduler(make_optimizer(), {"name": "reduce_lr"}, LOADER)
    plot_lr_schedule(scheduler, 2, LOADER, gradient_accumulation_steps=2)
    assert list(shown[0].axes[0].lines[0].get_ydata()) == [5e-4] * 10
