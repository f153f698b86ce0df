"""The figures of the report, from the stored results: results/*/*.json -> figures/*.svg.

An experiment that has not been run leaves its curve or bar out; a figure with nothing in it is not
drawn.
"""

import sys

if __name__ == "__main__":
    print("figures.py: error: no program; make_report.py uses it", file=sys.stderr)
    sys.exit(2)

import math
import statistics

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.alpha": 0.3, "figure.constrained_layout.use": True, "legend.frameon": False,
    "svg.hashsalt": "lstlm", "svg.fonttype": "path",
})
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.colors import PowerNorm  # noqa: E402
from matplotlib.ticker import PercentFormatter  # noqa: E402
from plans import GROUPS  # noqa: E402
from store import REPORT, read_results  # noqa: E402

FIGURES = REPORT / "figures"


def save(figure: plt.Figure, name: str) -> None:
    """Write figures/NAME.svg, the same bytes for the same content."""
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def pace(run: dict, tokens_per_s: float) -> list[float]:
    """The minutes after which each point of a run's curve is reached at a rate.

    Not the minutes that went by: programs beside it, and pauses for measurements, are not the
    model's doing.
    """
    last = run["curve"][-1]
    tokens = run["train_tokens"] * last["epoch"] / last["step"]  # of a minibatch, on average
    return [point["step"] * tokens / tokens_per_s / 60 for point in run["curve"]]


TITLES = {
    "handout": "handout's setting, 1 epoch", "handout, 5 epochs": "handout's setting, 5 epochs",
    "handout, 5 epochs, lr 0.008": "the same, rate 0.008, 5 epochs",
    "attention, 5 epochs": "handout's setting, -a, 5 epochs",
    "tied, 1 epoch": "tied, 256, 1 epoch",
    "full, tie, lr 0.008": "tied, 512, rate 0.008, 2 epochs",
    "tied, 5 epochs": "tied, 512, 5 epochs", "strong": "strong preset, 8 epochs",
}
CURVES = ("handout, 5 epochs", "tied, 1 epoch", "full, tie, lr 0.008", "tied, 5 epochs", "strong")


def draw_curves(runs: list[dict], speeds: list[dict], bench: dict[str, list[dict]]) -> None:
    """Valid perplexity against minutes of both cores, at measured rates.

    The handout's setting is there at the rates of a textbook's loop too.
    """
    figure, axes = plt.subplots(figsize=(6.4, 3.4))
    rates = {row["name"]: row["tokens_per_s"] for row in speeds}
    seeds = {run["name"]: run for run in reversed(runs)}  # of several the lowest
    for place, run in enumerate(seeds[name] for name in CURVES if name in seeds):
        losses = [point["valid"] for point in run["curve"]]
        label = f"{TITLES[run['name']]}, {run['parameters'] / 1e6:.1f} M"
        color = "black" if run["name"] == "strong" else f"C{place}"
        axes.plot(pace(run, rates[run["name"]]), losses, color=color, marker=".", label=label)
        if run["name"] != "handout, 5 epochs":
            continue
        for way, style in (("packed", ":"), ("padded", "--")):
            rate = statistics.median(turn["tokens_per_s"] for turn in bench[f"textbook, {way}"])
            axes.plot(
                pace(run, rate), losses, color="grey", marker=".", linestyle=style,
                label=f"the same, textbook's loop, {way}",
            )
    ticks = (8, 9, 10, 12, 14, 17, 20, 25, 30, 40)
    axes.set_yticks([math.log(tick) for tick in ticks], labels=ticks)
    minutes = (5, 10, 30, 60, 120, 300, 900)
    axes.set(xlabel="minutes on two cores", ylabel="valid perplexity", xscale="log")
    axes.set_xticks(minutes, labels=minutes)
    axes.minorticks_off()
    axes.legend(fontsize=7.5)
    save(figure, "curves")


def draw_positions(analyses: list[dict]) -> None:
    """Nats per token by position in the story, of each analysed model."""
    figure, axes = plt.subplots(figsize=(6, 2.8))
    for analysis in analyses:
        rows = analysis["losses"]["by_position"]
        points = [(row["from"], row["nats"]) for row in rows]
        axes.plot(*zip(*points, strict=True), marker=".", label=TITLES[analysis["name"]])
    xlabel = "position in the story (from here to the next mark)"
    axes.set(xscale="log", xlabel=xlabel, ylabel="nats per token")
    begins = [row["from"] for row in analyses[0]["losses"]["by_position"]]
    axes.set_xticks(begins, labels=begins)
    axes.minorticks_off()
    axes.legend(fontsize=8)
    save(figure, "positions")


def draw_penalties(analysis: dict) -> None:
    """How varied a model's texts are under each frequency penalty, beside the test stories."""
    figure, panels = plt.subplots(1, 3, figsize=(7.2, 2.3))
    *rows, real = analysis["penalties"]
    titles = {
        "distinct2": "different 2-grams", "again": "4-grams said again", "loops": "texts that loop",
    }
    for panel, (key, title) in zip(panels, titles.items(), strict=True):
        for greedy, style, label in ((False, "-", "drawn"), (True, ":", "greedy")):
            points = [
                (row["penalty"], row[key]) for row in rows
                if row["greedy"] == greedy and row[key] is not None
            ]
            panel.plot(*zip(*points, strict=True), style, marker=".", label=label)
        if key in real:
            panel.axhline(real[key], color="grey", linewidth=0.8, linestyle="--")
        panel.set(title=title, xlabel="frequency penalty")
        panel.set_ylim(top=1.03 if key != "again" else None)
        panel.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    panels[2].legend(fontsize=8)
    save(figure, "penalties")


SHOWN = 30  # positions, so that their words can be read
SCORES = {"dot": "dot products", "bilinear": "bilinear scores", "additive": "additive scores"}


def draw_attention(models: list[dict]) -> None:
    """Where each position of the beginning of a test story looks, in each of the models."""
    size = (3.6 * len(models), 3.9)
    figure, panels = plt.subplots(1, len(models), figsize=size, sharey=True, squeeze=False)
    for axes, model in zip(panels[0], models, strict=True):
        words = model["attention"]["words"][:SHOWN]
        weights = [row[:SHOWN] for row in model["attention"]["map"][:SHOWN]]
        image = axes.imshow(weights, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))
        axes.grid(False)
        axes.set_xticks(range(len(words)), labels=words, rotation=90, fontsize=6.5)
        axes.set_yticks(range(len(words)), labels=words, fontsize=6.5)
        axes.set(title=SCORES[model["score"]], xlabel="looked at")
    panels[0][0].set_ylabel("position that looks")
    ticks = (0, 0.05, 0.1, 0.2, 0.5, 1)
    figure.colorbar(image, ax=panels[0], label="weight", shrink=0.6, ticks=ticks)
    save(figure, "attention")


def draw_exercises(runs: list[dict]) -> None:
    """Test bits per character of each run of the two settings, a dot for each seed.

    A line marks the setting itself.
    """
    figure, panels = plt.subplots(1, 2, figsize=(7, 4.9))
    settings = {"full": "full size", "small": "small setting"}
    for axes, (group, title) in zip(panels, settings.items(), strict=True):
        names = {}
        for run in runs:
            if run["group"] == group and not run["name"].endswith("bidirectional"):
                names.setdefault(run["name"].removeprefix("full, "), []).append(run["test"]["bpc"])
        shown = sorted(names, key=lambda name: -min(names[name]))
        for place, name in enumerate(shown):
            color = "C1" if name == "base" else "C0"
            axes.plot(names[name], [place] * len(names[name]), "o", color=color, markersize=3)
        if "base" in names:
            axes.axvline(sum(names["base"]) / len(names["base"]), color="C1", linewidth=0.8)
        axes.set_yticks(range(len(shown)), labels=shown, fontsize=6)
        axes.set(title=title, xlabel="bits per character, test")
    save(figure, "exercises")


def at_rates(runs: list[dict]) -> dict[str, dict[float, list[dict]]]:
    """The runs of each row at each of its learning rates, those of seed 0 first."""
    rows = {}
    for run in sorted(runs, key=lambda run: run["configuration"]["seed"]):
        name, rate = run["name"].rsplit(", lr ", 1)
        if not name.endswith("bidirectional"):
            rows.setdefault(name, {}).setdefault(float(rate), []).append(run)
    return rows


def draw_rates(runs: list[dict]) -> None:
    """Valid perplexity of the first seed at each learning rate, a line for each row."""
    figure, axes = plt.subplots(figsize=(6.4, 3.2))
    rows = {}
    for name, found in at_rates(runs).items():
        rows[name] = {rate: seeds[0]["valid"]["ppl"] for rate, seeds in found.items()}
    for name, found in sorted(rows.items(), key=lambda row: min(row[1].values())):
        axes.plot(*zip(*sorted(found.items()), strict=True), marker=".", label=name)
    ticks = sorted({rate for found in rows.values() for rate in found})
    axes.set(xlabel="learning rate", ylabel="valid perplexity", xscale="log")
    axes.set_xticks(ticks, labels=[f"{rate:g}" for rate in ticks])
    axes.minorticks_off()
    axes.legend(fontsize=7.5, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, "rates")


def draw_learning(runs: list[dict]) -> None:
    """Valid perplexity over tokens of each row of layers at its best rate, with a band of seeds."""
    figure, axes = plt.subplots(figsize=(6.4, 3.2))
    for name, found in at_rates(runs).items():
        seeds = min(found.values(), key=lambda seeds: seeds[0]["valid"]["nats"])
        if not name.startswith("tied, ") or name.count(", ") > 1:
            continue
        last = seeds[0]["curve"][-1]
        tokens = seeds[0]["train_tokens"] * last["epoch"] / last["step"] / 1e6  # of a minibatch
        steps = [point["step"] * tokens for point in seeds[0]["curve"]]
        curves = [[math.exp(point["valid"]) for point in run["curve"]] for run in seeds]
        points = list(zip(*curves, strict=True))
        means = [statistics.mean(some) for some in points]
        line = axes.plot(steps, means, marker=".", label=name.removeprefix("tied, "))[0]
        axes.fill_between(
            steps, list(map(min, points)), list(map(max, points)), color=line.get_color(),
            alpha=0.2,
        )
    axes.set(xlabel="million tokens", ylabel="valid perplexity")
    axes.legend(fontsize=7.5)
    save(figure, "learning")


def draw_context(models: dict[str, dict]) -> None:
    """Nats per token when only the last k tokens are seen: of all, and of rare words of both kinds.
    """
    figure, panels = plt.subplots(1, 3, figsize=(7.2, 2.6))
    titles = {"nats": "all tokens", "rare_again": "rare, said before", "rare_new": "rare, new"}
    seen = list(next(reversed(models.values()))["seen"])  # of a model that sees all
    for panel, (key, title) in zip(panels, titles.items(), strict=True):
        for name, model in models.items():
            losses = [row if key == "nats" else row[key] for row in model["seen"].values()]
            losses = [row["nats"] for row in losses]
            if len(losses) == 1:  # n-grams
                panel.axhline(losses[0], color="grey", linewidth=0.8, linestyle="--", label=name)
            else:
                panel.plot(range(len(losses)), losses, marker=".", label=name)
        panel.set(title=title, xlabel="last tokens seen")
        panel.set_xticks(range(len(seen)), labels=seen, fontsize=7)
    panels[0].set_ylabel("nats per token")
    panels[2].legend(fontsize=7)
    save(figure, "context")


def draw_places(models: dict[str, dict]) -> None:
    """Nats per token by position in the story, of the rows and the n-grams."""
    figure, axes = plt.subplots(figsize=(6, 2.8))
    for name, model in models.items():
        points = [(row["from"], row["nats"]) for row in model["by_position"]]
        axes.plot(*zip(*points, strict=True), marker=".", label=name)
    begins = [row["from"] for row in next(iter(models.values()))["by_position"]]
    axes.set(xscale="log", xlabel="position in the story", ylabel="nats per token")
    axes.set_xticks(begins, labels=begins)
    axes.minorticks_off()
    axes.legend(fontsize=8)
    save(figure, "places")


def draw_all() -> None:
    """Draw all figures for which there are results."""
    runs = read_results(*GROUPS)
    analyses = read_results("analysis")
    looks = read_results("looks")
    bench = {}
    for record in read_results("measures", name="bench"):
        bench |= record["tables"]["training"]["records"]
    speeds = [row for record in read_results("measures", name="speeds") for row in record["rates"]]
    rows = read_results("rates")
    if rows:
        draw_rates(rows)
        draw_learning(rows)
    for record in read_results("measures", name="context"):
        draw_context(record["models"])
        draw_places(record["models"])
    timed = [run for run in runs if run["name"] in TITLES]
    if timed:
        draw_curves(timed, speeds, bench)
    if {run["group"] for run in runs} >= {"full", "small"}:
        draw_exercises(runs)
    if analyses:
        draw_positions(analyses)
    for analysis in analyses:
        if analysis["name"] == "strong":
            draw_penalties(analysis)
    if looks:
        draw_attention(looks)
