#!/usr/bin/env python3
"""The experiments of the report: a named list of trainings, each run once, resumable, its result kept as JSON.

    python experiments.py list                        # what is planned, what is done, and the minutes of both
    python experiments.py run -data DIR [NAME ...]    # train and evaluate what is missing, one after the other
    python experiments.py run -jobs 2                 # as many at a time; each on its share of the threads
    python experiments.py rest -data DIR              # what is made of trained models, searches and counts, if missing
    python experiments.py tune lstm                   # Optuna's search for good settings; see tuning.py
    python experiments.py ship strong                 # the model of this run becomes code/lm_model.pt, in 16 bits

DIR holds `tiny/` with the three TinyStories files, `wiki/` with those of WikiText-2, and `glove.6B/`, as
hw04/data/README.md says. Models, logs and cut corpora go to build/experiments, results to
hw04/report/results/NAME.SEED.json. A result is that of its configuration: flags, seed, cuts and the digests of the
corpora; when one of these changes the run is done anew. Ctrl-C stops; the same command goes on from the last step.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

REPORT = Path(__file__).resolve().parent
sys.path.insert(0, str(REPORT.parent / "code"))
import fflm  # noqa: E402, F401 - a program of plans, as literature and unbiased are
import literature  # noqa: E402
import lstlm  # noqa: E402
import torch  # noqa: E402
import unbiased  # noqa: E402, F401

RESULTS, BUILD = REPORT / "results", REPORT.parents[1] / "build" / "experiments"
CUTTING, TRAINING_BASE = threading.Lock(), threading.Lock()  # as jobs are threads that may need the same file


@dataclass(frozen=True)
class Plan:
    """One training: the flags of a program, seeds, and how many stories of the training and valid corpus (0: all).

    In the flags GLOVE stands for the file of word vectors, BASE for the model of the run "base", or of "full, base" in
    its group, with the same seed.
    """

    group: str
    name: str
    flags: str
    minutes: int  # on one core, as planned; a GPU needs a hundredth
    seeds: tuple[int, ...] = (0,)
    stories: tuple[int, int] = (0, 0)
    program: str = "lstlm"
    backward: bool = False  # each story from its end
    text: str = "tiny"  # whose corpora, of CORPORA


CORPORA = {"tiny": {"train": "tiny.train.tokens.4M", "valid": "tiny.valid.tokens.200K", "test": "tiny.test.tokens.4M"},
           "wiki": {part: f"wiki.{part}.tokens" for part in ("train", "valid", "test")}}
MEASURES = ("nats", "ppl", "bpc", "n_tokens", "unk_share")
CUT = (3000, 300)


def small(name: str, flags: str = "", seeds: tuple[int, ...] = (0,), minutes: int = 6, shape: str = "-H 2 -N 256",
          epochs: int = 1, vectors: str = "-EDim 100", batch: int = 8) -> Plan:
    """A run of the small setting, in which each change to it is a few minutes: 3,000 stories, 0.58 M tokens, once."""
    flags = f"{shape} -VSize 4000 -E {epochs} {vectors} -B {batch} {flags}".strip().replace("  ", " ")
    return Plan("small", name, flags, minutes, seeds, CUT)


def full(name: str, flags: str = "", seeds: tuple[int, ...] = (0,), shape: str = "-H 2 -N 512",
         vectors: str = "-EDim 100", **more) -> Plan:
    """A run of the handout's setting, for two epochs of all stories, with a change."""
    return Plan("full", f"full, {name}", f"{shape} -E 2 {vectors} {flags}".strip(), 60, seeds, **more)


def long(name: str, flags: str) -> Plan:
    """The strong preset with a change."""
    return Plan("long", f"long, {name}", f"-tie -EDim 512 -E 8 {flags}", 190)


def stream(B: int) -> str:
    """Flags for the protocol of published figures on WikiText-2, whose 1,020 stretches make few steps of large B."""
    return f"-VSize 40000 -cased -stories stream -B {B} -bptt 256"


def tried(added: str) -> Plan:
    """Four epochs of the small setting with dropout and tied vectors, and with what `literature.py` adds."""
    plan = small(f"4 epochs, tie, dropout, {added}", f"-tie -dropout 0.2 -with {added}", vectors="-EDim 256", epochs=4,
                 minutes=20)
    return replace(plan, program="literature")


GLOVE = "-embeddings_file GLOVE"
TIED = "-tie -EDim 512 -dropout 0.2 -B 16 -lr 0.003"
PLANS = [
    Plan("main", "handout", "-H 2 -N 512 -E 1 -EDim 100", 70),
    Plan("main", "handout, 5 epochs", "-H 2 -N 512 -E 5 -EDim 100", 110, (0, 1)),
    Plan("main", "handout, 5 epochs, lr 0.008", "-H 2 -N 512 -E 5 -EDim 100 -lr 0.008", 120),
    Plan("main", "attention, 5 epochs", "-H 2 -N 512 -E 5 -EDim 100 -a", 90, (0, 1)),
    Plan("main", "tied, 1 epoch", "-tie -EDim 256 -B 8 -lr 0.003 -E 1 -valid_every 500", 60),
    Plan("main", "tied, 5 epochs", f"{TIED} -E 5", 120),
    Plan("main", "strong", "-preset strong", 190, (0, 1)),
    long("dropout 0.2", "-dropout 0.2"),
    long("dropout 0.4", "-dropout 0.4"),
    long("dropout 0.3, cosine", "-dropout 0.3 -schedule cosine"),
    long("dropout 0.3, attention", "-dropout 0.3 -a"),
    full("base", seeds=(0, 1)),
    full("feed-forward", "-lstm BASE -K 5", shape="-H 1 -N 832", vectors="", program="fflm", seeds=(0, 1)),
    full("feed-forward, 3", "-lstm BASE -K 3", shape="-H 1 -N 832", vectors="", program="fflm"),
    full("feed-forward, 8", "-lstm BASE -K 8", shape="-H 1 -N 832", vectors="", program="fflm"),
    full("feed-forward, 2 layers", "-lstm BASE -K 5", shape="-H 2 -N 780", vectors="", program="fflm"),
    # What tuning.py found in the small setting, with as many parameters as base.
    full("feed-forward, tuned", "-lstm BASE -K 3 -B 16 -lr 0.0068", (1,), "-H 2 -N 792", "", program="fflm"),
    full("attention", "-a", seeds=(0, 1)),
    full("attention, N 704", "-a", shape="-H 2 -N 704"),  # as many parameters as base
    full("bilinear", "-a bilinear", seeds=(0, 1)),
    full("additive", "-a additive"),
    full("gru", "-cell gru", seeds=(0, 1)),
    full("rnn", "-cell rnn", seeds=(0, 1)),
    full("tie", "-tie", vectors="-EDim 512", seeds=(0, 1)),
    full("tie, 256", "-tie", vectors="-EDim 256"),
    full("tie, glove", "-tie", vectors=GLOVE),
    full("tie, lr 0.008", "-tie -lr 0.008", vectors="-EDim 512"),
    full("tie, no bias", "-tie", vectors="-EDim 512", program="unbiased"),
    full("glove", vectors=GLOVE, seeds=(0, 1)),
    full("glove fine-tuned", "-finetune", vectors=GLOVE, seeds=(0, 1)),
    full("glove fine-tuned slowly", "-finetune -emb_lr 0.001", vectors=GLOVE),
    full("positions", "-positions", seeds=(0, 1)),
    full("pieces", "-tokenizer bpe", seeds=(0, 1)),
    full("bidirectional", "-bidirectional"),
    full("backward", backward=True),
    full("dropout", "-dropout 0.2"),
    full("weight decay", "-weight_decay 0.01"),
    full("cosine", "-schedule cosine"),
    full("batch 16", "-B 16"),
    full("batch 64", "-B 64"),
    full("lr 0.002", "-lr 0.002"),
    full("lr 0.008", "-lr 0.008"),
    full("1 layer", shape="-H 1 -N 512"),
    full("3 layers", shape="-H 3 -N 512"),
    full("N 256", shape="-H 2 -N 256"),
    full("N 768", shape="-H 2 -N 768"),
    full("EDim 50", vectors="-EDim 50"),
    full("EDim 300", vectors="-EDim 300"),
    Plan("wiki", "wikitext", "-H 2 -N 512 -EDim 100 -E 5", 70, text="wiki"),
    Plan("wiki", "wikitext, tied", f"{TIED} -E 5", 80, text="wiki"),
    Plan("wiki", "wikitext, strong", "-preset strong", 120, text="wiki"),
    Plan("wiki", "wikitext, stream",
         "-tie -EDim 256 -dropout 0.2 -VSize 40000 -cased -stories stream -E 4 -B 8 -bptt 128", 120, text="wiki"),
    Plan("wiki", "wikitext, handout, stream", f"-H 2 -N 512 -EDim 100 -E 4 {stream(8)}", 120, text="wiki"),
    Plan("wiki", "wikitext, strong, stream", f"-preset strong -E 4 {stream(4)}", 170, text="wiki"),
    small("base", seeds=(0, 1, 2)),
    small("float32", "-precision fp32"),
    Plan("small", "feed-forward", "-lstm BASE -K 5 -H 1 -N 512 -E 1 -B 8", 6, (0, 1), CUT, "fflm"),
    small("batch 16", batch=16),
    small("batch 32", batch=32),
    small("lr 0.002", "-lr 0.002"),
    small("lr 0.008", "-lr 0.008"),
    small("lr 0.016", "-lr 0.016"),
    small("tie", "-tie", vectors="-EDim 256", seeds=(0, 1)),
    small("tie, glove", "-tie", vectors=GLOVE),
    replace(small("tie, no bias", "-tie", vectors="-EDim 256"), program="unbiased"),
    small("tie, lr 0.008", "-tie -lr 0.008", vectors="-EDim 256"),
    small("attention", "-a", seeds=(0, 1)),
    small("attention, N 360", "-a", shape="-H 2 -N 360", seeds=(0, 1)),  # as many parameters as base
    small("bilinear", "-a bilinear", seeds=(0, 1)),
    small("additive", "-a additive", seeds=(0, 1), minutes=20),
    small("additive, N 360", "-a additive", shape="-H 2 -N 360", seeds=(0, 1), minutes=20),
    small("gru", "-cell gru", seeds=(0, 1)),
    small("rnn", "-cell rnn", seeds=(0, 1)),
    small("glove", vectors=GLOVE, seeds=(0, 1)),
    small("glove fine-tuned", "-finetune", vectors=GLOVE, seeds=(0, 1)),
    small("glove fine-tuned slowly", "-finetune -emb_lr 0.001", vectors=GLOVE),
    small("positions", "-positions", seeds=(0, 1)),
    small("pieces", "-tokenizer bpe", seeds=(0, 1)),
    small("bidirectional", "-bidirectional", seeds=(0, 1)),
    replace(small("backward", seeds=(0, 1)), backward=True),
    small("cosine", "-schedule cosine"),
    small("dropout", "-dropout 0.2"),
    small("locked dropout", "-dropout 0.2 -locked"),
    small("weight decay", "-weight_decay 0.01"),
    small("1 layer", shape="-H 1 -N 256"),
    small("3 layers", shape="-H 3 -N 256"),
    small("N 128", shape="-H 2 -N 128"),
    small("N 384", shape="-H 2 -N 384", minutes=9),
    small("EDim 50", vectors="-EDim 50"),
    small("EDim 200", vectors="-EDim 200"),
    small("12 epochs", epochs=12, minutes=20),  # which -patience ends
    small("4 epochs", epochs=4, minutes=20),
    small("4 epochs, dropout", "-dropout 0.2", epochs=4, minutes=20),
    small("4 epochs, tie, dropout", "-tie -dropout 0.2", vectors="-EDim 256", epochs=4, minutes=20),
    *map(tried, literature.ADDED),
]


def stem(plan: Plan, seed: int) -> str:
    """The name, without its ending, of the files of a plan with a seed."""
    return f"{plan.name.replace(',', '').replace(' ', '-')}.{seed}"


REST = {  # results that are of no one training, and what makes them: DATA, BUILD and RESULT stand for paths
    "corpora.json": "corpora.py",
    "speeds.json": "speeds.py",
    "bench.json": "../../bench/compare.py DATA/tiny/tiny.train.tokens.4M -results RESULT",
    "ngram.json": "ngram.py -results RESULT",
    "tune-lstm.json": "tuning.py lstm",
    "tune-feed-forward.json": "tuning.py feed-forward",
    "adapting.json": "adapting.py -results RESULT",
    "analysis.tied-1-epoch.?.json": "analysis.py 'tied, 1 epoch'",
    "analysis.handout-5-epochs.?.json": "analysis.py 'handout, 5 epochs'",
    "analysis.attention-5-epochs.?.json": "analysis.py 'attention, 5 epochs'",
    "analysis.strong.?.json": "analysis.py strong",
    "looks.attention-5-epochs.?.json": "analysis.py 'attention, 5 epochs' -looks",
    "looks.full-additive.?.json": "analysis.py 'full, additive' -looks",
    "both_ways.json": "both_ways.py",
    "adapting-stream.json": "adapting.py -model BUILD/wikitext-stream.0.pt -stories stream -first 10 "
                            "-valid_corpus DATA/wiki/wiki.valid.tokens -test_corpus DATA/wiki/wiki.test.tokens "
                            "-results RESULT",
}


class Experiment:
    """One plan with one seed: where its files are, whether it is done, and how to do it."""

    def __init__(self, plan: Plan, seed: int, data: Path):
        self.plan, self.seed, self.data = plan, seed, data
        self.label = f"{plan.name} / seed {seed}"
        self.result, self.model = RESULTS / f"{stem(plan, seed)}.json", BUILD / f"{stem(plan, seed)}.pt"

    def corpora(self) -> list[Path]:
        """The whole files of its text: train, valid, test."""
        return [self.data / self.plan.text / name for name in CORPORA[self.plan.text].values()]

    def corpus(self, part: str, stories: int) -> Path:
        """The file of a part of the text; its first so many stories only, if not 0, and backward if so planned."""
        name = CORPORA[self.plan.text][part]
        whole = self.data / self.plan.text / name
        if not (stories or self.plan.backward):
            return whole
        with CUTTING:
            made = BUILD / "tiny" / f"{name}.{stories}{'.backward' * self.plan.backward}.{lstlm.digest(whole)}"
            if not made.exists():
                made.parent.mkdir(parents=True, exist_ok=True)
                lines = whole.read_text().splitlines()[: stories or None]  # a story is a line
                if self.plan.backward:
                    lines = [" ".join(line.split()[::-1]) for line in lines]
                lstlm.atomic_write(made, lambda file: file.write("".join(line + "\n" for line in lines).encode()))
        return made

    def configuration(self) -> dict:
        """On what the result depends, without the machine, BASE and GLOVE; without the corpora where there are none."""
        settings = {"flags": self.plan.flags, "seed": self.seed, "stories": list(self.plan.stories)}
        if self.plan.backward:
            settings["backward"] = True
        if self.plan.program != "lstlm":
            settings["program"] = self.plan.program
        if all(path.exists() for path in self.corpora()):
            settings["corpora"] = [lstlm.digest(path) for path in self.corpora()]
        return settings

    def done(self) -> dict | None:
        """The stored result, if it is of this configuration (of the corpora that are there, if any are)."""
        if not self.result.exists():
            return None
        stored = json.loads(self.result.read_text())
        return stored if self.configuration().items() <= stored["configuration"].items() else None

    def run(self, threads: int) -> str:
        """Train, or go on training, and evaluate; returns a line that says how it went."""
        configuration, started = self.configuration(), time.time()
        self.train(threads)
        test = self.evaluate(threads)
        log = lstlm.side_file(self.model, ".log.jsonl")
        records = [json.loads(line) for line in log.read_text().splitlines()]
        on = torch.cuda.get_device_name() if records[0]["device"] == "cuda" else processor()
        record = {"name": self.plan.name, "group": self.plan.group, "configuration": configuration,
                  **self.summary(records), "test": {key: test[key] for key in MEASURES},
                  "machine": {"processor": on, "threads": threads, "torch": str(torch.__version__),
                              "precision": records[0]["precision"].removeprefix("torch."),
                              "date": time.strftime("%Y-%m-%d")}}
        write_json(self.result, record)
        minutes = (time.time() - started) / 60
        return f"{self.label}: test perplexity {test['ppl']:.2f} ({test['bpc']:.4f} bits/char), {minutes:.0f} min"

    def train(self, threads: int) -> None:
        """Train, or go on, if that is not done for this configuration: then mark(model) has its digest and TRAINED."""
        digest = hashlib.sha256(json.dumps(self.configuration()).encode()).hexdigest()[:16]
        said = mark(self.model).read_text() if mark(self.model).exists() else ""
        if said == f"{digest} {TRAINED}":
            return
        self.train_base(threads)
        BUILD.mkdir(parents=True, exist_ok=True)
        states = [lstlm.side_file(self.model, ending) for ending in (".state.pt", ".state.prev.pt")]
        resume = said == digest and any(state.exists() for state in states)
        if not resume:  # remove what is left of another configuration, or of a training that was killed very early
            for path in (*states, lstlm.side_file(self.model, ".log.jsonl"), self.model, trace(self.model)):
                path.unlink(missing_ok=True)
            lstlm.atomic_write(mark(self.model), lambda file: file.write(digest.encode()))
        self.call(threads, *self.training_flags(), *["-resume"][:resume])
        lstlm.atomic_write(mark(self.model), lambda file: file.write(f"{digest} {TRAINED}".encode()))

    def train_base(self, threads: int) -> None:
        """Train the model BASE, if this run needs it and it is not there."""
        if self.takes_vectors():
            with TRAINING_BASE:
                self.base().train(threads)

    def takes_vectors(self) -> bool:
        """Whether it needs the model BASE."""
        return "BASE" in self.plan.flags.split()

    def base(self) -> "Experiment":
        """The run whose model is BASE. Where its result is stored and its model is not, it is trained once more."""
        name = "full, base" if self.plan.group == "full" else "base"
        return Experiment(next(plan for plan in PLANS if plan.name == name), self.seed, self.data)

    def evaluate(self, threads: int) -> dict:
        """What `-evaluate` prints of the model and the test corpus."""
        return json.loads(self.call(threads, *self.reading_flags(), "-json",
                                    "-test_corpus", str(self.corpus("test", 0))).splitlines()[-1])

    def reading_flags(self) -> list[str]:
        """The command line of `-evaluate`, with what it must know of the training."""
        flags = self.plan.flags.split()
        how = [word for flag in ("-stories", "-with") if flag in flags for word in flags[flags.index(flag) :][:2]]
        return ["-evaluate", "-model", str(self.model), *how]

    def training_flags(self) -> list[str]:
        """The command line of `-train`."""
        files = {"GLOVE": self.data / "glove.6B" / "glove.6B.50d.txt"}
        if self.takes_vectors():
            files["BASE"] = self.base().model
        flags = [str(files.get(flag, flag)) for flag in self.plan.flags.split()]
        traced = ["-trace", str(trace(self.model))] if self.plan.program != "fflm" else []
        train, valid = self.plan.stories
        return ["-train", *flags, "-seed", str(self.seed), "-model", str(self.model), *traced,
                "-train_corpus", str(self.corpus("train", train)),
                "-valid_corpus", str(self.corpus("valid", valid))]

    def call(self, threads: int, *flags: str) -> str:
        """What the program prints. Raises SystemExit with its last words if it fails."""
        command = [sys.executable, globals()[self.plan.program].__file__, *flags]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            words = done.stderr.strip().splitlines()
            raise SystemExit(f"{self.label}: exit status {done.returncode}: {words[-1] if words else 'killed'}")
        return done.stdout

    def summary(self, records: list[dict]) -> dict:
        """Parameters, best valid loss, speed and the curve, from the model and the log of the training."""
        program = globals()[self.plan.program]
        loaded = getattr(program, "load", lstlm.load_model)(program.parse_args(self.reading_flags()))
        points = [record for record in records if record.get("mode") == "train"]
        curve = [{"epoch": record["epoch"], "step": record["step"], "minutes": round(record["seconds"] / 60, 2),
                  "train": record["train_nats"], "valid": record["valid_nats"]} for record in points]
        best = min((point for point in curve if point["valid"] is not None), key=lambda point: point["valid"])
        said = trace(self.model).exists() and re.search(r"([\d,]+) target tokens", trace(self.model).read_text())
        return {"parameters": sum(p.numel() for p in loaded.model.parameters()), "V": len(loaded.words),
                "valid": {"nats": best["valid"], "ppl": lstlm.safe_exp(best["valid"])}, "minutes": curve[-1]["minutes"],
                "train_tokens": int(said[1].replace(",", "")) if said else None,
                "tokens_per_s": sorted(record["tokens_per_s"] for record in points)[len(points) // 2], "curve": curve}


def write_json(path: Path, record: dict) -> None:
    """Write a result, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lstlm.atomic_write(path, lambda file: file.write(json.dumps(record, indent=1).encode() + b"\n"))


TRAINED = "trained"


def mark(model: Path) -> Path:
    """Where the digest of a model's configuration is kept, followed by TRAINED when its training has ended."""
    return lstlm.side_file(model, ".digest")


def trace(model: Path) -> Path:
    """Where what the training of a model printed is kept, for traces.py."""
    return lstlm.side_file(model, ".train.txt")


def ship(trained: Path, place: Path) -> None:
    """Write a trained model with weights of 16 bits, half as large; tied matrices, one tensor here, stay one there."""
    content = lstlm.unseal(trained.read_bytes())
    smaller = {x.data_ptr(): x.half() if x.is_floating_point() else x for x in content["weights"].values()}
    content["weights"] = {name: smaller[x.data_ptr()] for name, x in content["weights"].items()}
    lstlm.atomic_write(place, lambda file: file.write(lstlm.seal(content)))
    print(f"{place}: {place.stat().st_size / 1e6:.1f} MB")
    trace(place).unlink(missing_ok=True)  # that of another model
    if trace(trained).exists():
        shutil.copyfile(trace(trained), trace(place))


def processor() -> str:
    """The name of the processor, as Linux tells it, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def make_rest(data: Path) -> None:
    """Make what is missing of REST. Raises SystemExit with the status of a program that fails, after its words."""
    for result, command in REST.items():
        if not any(RESULTS.glob(result)) or command == "speeds.py":  # which measures what is new
            program, *flags = shlex.split(command)
            for name, path in {"DATA": data, "BUILD": BUILD, "RESULT": RESULTS / result}.items():
                flags = [flag.replace(name, str(path)) for flag in flags]
            print(time.strftime("%H:%M"), command, flush=True)
            done = subprocess.run([sys.executable, str(REPORT / program), *flags],
                                  env={**os.environ, "LSTLM_DATA": str(data)})
            if done.returncode:
                raise SystemExit(done.returncode)


def show(experiments: list[Experiment]) -> None:
    """A line for each run: what it took and gave, or what is planned."""
    left = 0
    for experiment in experiments:
        if result := experiment.done():
            valid, test = result["valid"], result["test"]
            text = (f"{result['minutes']:6.1f} min  valid {valid['ppl']:7.2f}  test {test['ppl']:7.2f}  "
                    f"{test['bpc']:.4f} bits/char  {result['parameters'] / 1e6:5.2f} M")
        else:
            left += experiment.plan.minutes
            text = f"{experiment.plan.minutes:6d} min planned"
        print(f"{experiment.plan.group:6}{experiment.label:36} {text}")
    print(f"{left} minutes of one core left")


def main() -> None:
    if sys.argv[1:2] == ["tune"]:
        import tuning

        return tuning.main(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("list", "run", "rest", "ship"))
    parser.add_argument("names", nargs="*", metavar="NAME", help="of runs or of groups of them (default all)")
    parser.add_argument("-data", type=Path, default=Path(os.environ.get("LSTLM_DATA", lstlm.DATA)),
                        help="the folder with tiny/, wiki/ and glove.6B/ (default $LSTLM_DATA, else hw04/data)")
    parser.add_argument("-jobs", type=int, default=1, help="trainings at a time (default 1)")
    parser.add_argument("-first", action="store_true", help="only the first seed of each run (default all)")
    args = parser.parse_intermixed_args()
    if args.what == "rest":
        return make_rest(args.data.resolve())
    if unknown := set(args.names) - {name for plan in PLANS for name in (plan.name, plan.group)}:
        parser.error(f"no run or group named {', '.join(sorted(unknown))}; see: experiments.py list")
    plans = [plan for plan in PLANS if not args.names or {plan.name, plan.group} & set(args.names)]
    experiments = [Experiment(plan, seed, args.data) for plan in plans
                   for seed in plan.seeds[: 1 if args.first else None]]
    if args.what == "list":
        return show(experiments)
    if args.what == "ship":
        if len(args.names) != 1 or not experiments[0].model.exists():
            parser.error("ship needs the name of one run whose model is in build/experiments")
        return ship(experiments[0].model, REPORT.parent / "code" / "lm_model.pt")
    missing = [experiment for experiment in experiments if not experiment.done()]
    for path in (path for experiment in missing for path in experiment.corpora() if not path.exists()):
        parser.error(f"{path}: not there; hw04/data/get_data.py {path.parent.name} gets it, or give another -data")
    threads = max(1, torch.get_num_threads() // args.jobs)
    waves = [[e for e in missing if not e.takes_vectors()], [e for e in missing if e.takes_vectors()]]
    with ThreadPoolExecutor(args.jobs) as pool:
        for wave in waves:
            for line in pool.map(lambda experiment: experiment.run(threads), wave):
                print(time.strftime("%H:%M"), line, flush=True)
    return None


if __name__ == "__main__":
    main()
