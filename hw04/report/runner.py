"""A planned training: run once, resumable, evaluated, its result kept as JSON."""

import sys

if __name__ == "__main__":
    print("runner.py: error: no program; experiments.py uses it", file=sys.stderr)
    sys.exit(2)

import hashlib
import json
import os
import re
import subprocess
import threading
import time
from pathlib import Path

import fflm
import lstlm
import store
import torch
from backstage.checkpoint import Loaded
from backstage.errors import UserError
from backstage.files import atomic_write, digest, side_file
from backstage.lock import exclusive
from backstage.measures import safe_exp
from extensions import literature, modern, transformer, unbiased
from plans import CORPORA, PLANS, Plan
from store import MEASURES, processor, write_json

# Each has parse_args(argv), train(args, run_class), load_model(args) and main(argv).
PROGRAMS = {
    "lstlm": lstlm, "fflm": fflm, "literature": literature, "modern": modern,
    "transformer": transformer, "unbiased": unbiased,
}
TRAINED = "trained"
LATER = "stop that process"  # what one can do when another process has a run
CUTTING = threading.Lock()  # as jobs are threads that may need the same file,
TRAINING_BASE = threading.Lock()  # and the same model


class Experiment:
    """One plan with one seed: where its files are, whether it is done, and how to do it.

    `data` is the folder of the corpora, `build` (by default store.BUILD) that of the models.
    """

    def __init__(self, plan: Plan, seed: int, data: Path, build: Path | None = None):
        self.plan = plan
        self.seed = seed
        self.data = data
        self.build = build or store.BUILD
        self.label = f"{plan.name} / seed {seed}"
        self.program = PROGRAMS[plan.program]
        self.result = store.RESULTS / plan.group / f"{plan.stem(seed)}.json"
        self.model = self.build / f"{plan.stem(seed)}.pt"

    def corpora(self) -> list[Path]:
        """The whole files of its text: train, valid, test."""
        return [self.data / self.plan.text / name for name in CORPORA[self.plan.text].values()]

    def corpus(self, part: str, stories: int) -> Path:
        """The file of a part of the text, or what is planned to be made of it.

        That is its first `stories` only, if not 0, and each of them backward.
        """
        name = CORPORA[self.plan.text][part]
        whole = self.data / self.plan.text / name
        if not stories and not self.plan.backward:
            return whole
        backward = ".backward" if self.plan.backward else ""
        with CUTTING:
            made = self.build / "tiny" / f"{name}.{stories}{backward}.{digest(whole)}"
            if made.exists():
                return made
            made.parent.mkdir(parents=True, exist_ok=True)
            lines = whole.read_text().splitlines()[: stories or None]  # a story is a line
            if self.plan.backward:
                lines = [" ".join(line.split()[::-1]) for line in lines]
            content = "".join(line + "\n" for line in lines).encode()
            atomic_write(made, lambda file: file.write(content))
        return made

    def configuration(self) -> dict:
        """On what the result depends, without the machine, BASE and GLOVE.

        Without the digests of the corpora where these are not there.
        """
        plan = self.plan
        settings = {"flags": plan.flags, "seed": self.seed, "stories": list(plan.stories)}
        if plan.backward:
            settings["backward"] = True
        if plan.program != "lstlm":
            settings["program"] = plan.program
        if all(path.exists() for path in self.corpora()):
            settings["corpora"] = [digest(path) for path in self.corpora()]
        return settings

    def done(self) -> dict | None:
        """The stored result, if it is of this configuration.

        That of the corpora is compared if these are there.
        """
        if not self.result.exists():
            return None
        stored = store.read_json(self.result)
        if not self.configuration().items() <= stored["configuration"].items():
            return None
        return stored

    def run(self, threads: int) -> str:
        """Train, or go on training, and evaluate; returns a line that says how it went."""
        started = time.time()
        configuration = self.configuration()
        self.train(threads)
        test = self.evaluate(threads)
        log = side_file(self.model, ".log.jsonl")
        records = [json.loads(line) for line in log.read_text().splitlines()]
        on_gpu = records[0]["device"] == "cuda"
        record = {
            "name": self.plan.name, "group": self.plan.group, "configuration": configuration,
            **self.summary(records), "test": {key: test[key] for key in MEASURES},
            "machine": {
                "processor": torch.cuda.get_device_name() if on_gpu else processor(),
                "threads": threads, "torch": str(torch.__version__),
                "precision": records[0]["precision"].removeprefix("torch."),
                "date": time.strftime("%Y-%m-%d"),
            },
        }
        write_json(self.result, record)
        minutes = (time.time() - started) / 60
        figures = f"test perplexity {test['ppl']:.2f} ({test['bpc']:.4f} bits/char)"
        return f"{self.label}: {figures}, {minutes:.0f} min"

    def train(self, threads: int) -> None:
        """Train, or go on, if that is not done for this configuration.

        When it is, mark(model) has the configuration's digest and TRAINED.
        """
        code = hashlib.sha256(json.dumps(self.configuration()).encode()).hexdigest()[:16]
        said = mark(self.model).read_text() if mark(self.model).exists() else ""
        if said == f"{code} {TRAINED}":
            return
        self.train_base(threads)
        self.build.mkdir(parents=True, exist_ok=True)
        states = [side_file(self.model, ending) for ending in (".state.pt", ".state.prev.pt")]
        flags = self.training_flags()
        with exclusive(self.model, LATER):  # as one whose starter was killed may train on
            if said == code and any(state.exists() for state in states):
                flags.append("-resume")
            else:  # remove what is left of another configuration, or of one killed very early
                log = side_file(self.model, ".log.jsonl")
                for path in (*states, log, self.model, trace(self.model)):
                    path.unlink(missing_ok=True)
                atomic_write(mark(self.model), lambda file: file.write(code.encode()))
        self.call(threads, *flags)
        atomic_write(mark(self.model), lambda file: file.write(f"{code} {TRAINED}".encode()))

    def train_base(self, threads: int) -> None:
        """Train the model BASE, if this run needs it and it is not there."""
        if self.takes_vectors():
            with TRAINING_BASE:
                self.base().train(threads)

    def takes_vectors(self) -> bool:
        """Whether it needs the model BASE."""
        return "BASE" in self.plan.flags.split()

    def base(self) -> "Experiment":
        """The run whose model is BASE.

        Where its result is stored and its model is not, it is trained once more.
        """
        name = "full, base" if self.plan.group == "full" else "base"
        plan = next(plan for plan in PLANS if plan.name == name)
        return Experiment(plan, self.seed, self.data, self.build)

    def evaluate(self, threads: int) -> dict:
        """What `-evaluate` prints of the model and the test corpus."""
        flags = [*self.reading_flags(), "-json", "-test_corpus", str(self.corpus("test", 0))]
        return json.loads(self.call(threads, *flags).splitlines()[-1])

    def reading_flags(self) -> list[str]:
        """The command line of `-evaluate`, with what it must know of the training."""
        flags = self.plan.flags.split()
        how = []
        for flag in ("-stories", "-with"):
            if flag in flags:
                how += flags[flags.index(flag) :][:2]
        return ["-evaluate", "-model", str(self.model), *how]

    def training_flags(self) -> list[str]:
        """The command line of `-train`."""
        files = {"GLOVE": self.data / "glove.6B" / "glove.6B.50d.txt"}
        if self.takes_vectors():
            files["BASE"] = self.base().model
        flags = [str(files.get(flag, flag)) for flag in self.plan.flags.split()]
        train, valid = self.plan.stories
        traced = ["-trace", str(trace(self.model))] if self.plan.program != "fflm" else []
        return [
            "-train", *flags, "-seed", str(self.seed), "-model", str(self.model), *traced,
            "-train_corpus", str(self.corpus("train", train)),
            "-valid_corpus", str(self.corpus("valid", valid)),
        ]

    def call(self, threads: int, *flags: str) -> str:
        """What the program prints. Raises SystemExit with its last words if it fails."""
        command = [sys.executable, self.program.__file__, *flags]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            words = done.stderr.strip().splitlines() or ["killed"]
            raise SystemExit(f"{self.label}: exit status {done.returncode}: {words[-1]}")
        return done.stdout

    def load(self) -> Loaded:
        """The trained model."""
        return self.program.load_model(self.program.parse_args(self.reading_flags()))

    def summary(self, records: list[dict]) -> dict:
        """Parameters, best valid loss, speed and curve, from the model and the training's log."""
        loaded = self.load()
        points = [record for record in records if record.get("mode") == "train"]
        curve = [
            {
                "epoch": record["epoch"], "step": record["step"],
                "minutes": round(record["seconds"] / 60, 2),
                "train": record["train_nats"], "valid": record["valid_nats"],
            }
            for record in points
        ]
        best = min(point["valid"] for point in curve if point["valid"] is not None)
        return {
            "parameters": sum(p.numel() for p in loaded.model.parameters()),
            "V": len(loaded.words), "valid": {"nats": best, "ppl": safe_exp(best)},
            "minutes": curve[-1]["minutes"], "train_tokens": self.train_tokens(),
            "tokens_per_s": sorted(record["tokens_per_s"] for record in points)[len(points) // 2],
            "curve": curve,
        }

    def train_tokens(self) -> int | None:
        """The target tokens of an epoch, as the training's trace says; None if it has none."""
        if not trace(self.model).exists():
            return None
        said = re.search(r"([\d,]+) target tokens", trace(self.model).read_text())
        return int(said[1].replace(",", "")) if said else None


def require_corpora(experiments: list[Experiment]) -> None:
    """Raise UserError if a corpus of these is not there."""
    lacking = [path for one in experiments for path in one.corpora() if not path.exists()]
    if lacking:
        get = f"hw04/data/get_data.py {lacking[0].parent.name} gets it"
        raise UserError(f"{lacking[0]}: not there; {get}, or give another -data")


def mark(model: Path) -> Path:
    """Where the digest of a model's configuration is kept, with TRAINED if its training ended."""
    return side_file(model, ".digest")


def trace(model: Path) -> Path:
    """Where what the training of a model printed is kept, for traces.py."""
    return side_file(model, ".train.txt")
