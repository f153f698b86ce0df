"""The results that are of no one training, and the programs that make them."""

import sys

if __name__ == "__main__":
    print("rest.py: error: no program; experiments.py uses it", file=sys.stderr)
    sys.exit(2)

import os
import shlex
import subprocess
import time
from pathlib import Path

import store

# Patterns of files in results/ and commands in this folder; DATA, BUILD and RESULT stand for paths.
REST = {
    "measures/corpora.json": "measures/corpora.py",
    "measures/speeds.json": "measures/speeds.py",
    "measures/bench.json":
        "../../bench/compare.py DATA/tiny/tiny.train.tokens.4M -only training -results RESULT",
    "measures/ngram.json": "measures/ngram.py -results RESULT",
    "searches/lstm.json": "tuning.py lstm",
    "searches/feed-forward.json": "tuning.py feed-forward",
    "measures/repetition.json": "measures/repetition.py",
    "measures/context.json": "measures/context.py",
    "measures/adapting.json": "measures/adapting.py -results RESULT",
    "analysis/tied-1-epoch.?.json": "measures/analysis.py 'tied, 1 epoch'",
    "analysis/handout-5-epochs.?.json": "measures/analysis.py 'handout, 5 epochs'",
    "analysis/attention-5-epochs.?.json": "measures/analysis.py 'attention, 5 epochs'",
    "analysis/strong.?.json": "measures/analysis.py strong",
    "looks/attention-5-epochs.?.json": "measures/analysis.py 'attention, 5 epochs' -looks",
    "looks/full-additive.?.json": "measures/analysis.py 'full, additive' -looks",
    "measures/both_ways.json": "measures/both_ways.py",
    "measures/adapting-stream.json":
        "measures/adapting.py -model BUILD/wikitext-stream.0.pt -stories stream -first 10 "
        "-valid_corpus DATA/wiki/wiki.valid.tokens -test_corpus DATA/wiki/wiki.test.tokens "
        "-results RESULT",
}
ALWAYS = "measures/speeds.json"  # as its program measures what is new


def make_rest(data: Path) -> None:
    """Make what is missing of REST, with the corpora in `data`.

    Raises SystemExit with the status of a program that fails, after its words.
    """
    for result, command in REST.items():
        if any(store.RESULTS.glob(result)) and result != ALWAYS:
            continue
        paths = {"DATA": data, "BUILD": store.BUILD, "RESULT": store.RESULTS / result}
        program, *flags = shlex.split(command)
        for name, path in paths.items():
            flags = [flag.replace(name, str(path)) for flag in flags]
        print(time.strftime("%H:%M"), command, flush=True)
        environment = {**os.environ, "LSTLM_DATA": str(data)}
        paths["RESULT"].parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [sys.executable, str(store.REPORT / program), *flags], env=environment
        )
        if done.returncode:
            raise SystemExit(done.returncode)
