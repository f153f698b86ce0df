#!/usr/bin/env python3
"""Measure how long the first word of a cold `-prompt` takes: seconds of a whole process.

    python bench/lstlm/first_word.py             # with the model that ships
    python bench/lstlm/first_word.py -torch      # `python -c 'import torch'` instead instead

Prints one JSON line. Files are in the system's cache, as one process has run before.
"""

import subprocess
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
sys.path.append(str(Path(__file__).resolve().parents[2] / "hw04" / "code"))
from backstage.shell import guarded, importing

with importing("first_word.py"):
    from backstage.parser import Parser
    from measuring import take_turns

LSTLM = Path(__file__).resolve().parents[2] / "hw04" / "code" / "lstlm.py"
PROMPT = (LSTLM, "-prompt", "-greedy", "-max_tokens", "1", "-text", "once upon a time")


def main() -> None:
    parser = Parser("first_word.py", __doc__)
    add = parser.add_argument
    add("-torch", action="store_true", help="import PyTorch and no more (default a word)")
    what = "measure once for each line that is read (default once)"
    add("-turns", action="store_true", help=what)
    args = parser.parse_args()
    command = ["-c", "import torch"] if args.torch else [*map(str, PROMPT)]

    def measure() -> dict:
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        return {"torch_alone": args.torch, "s": round(time.perf_counter() - start, 3)}

    take_turns(measure, args.turns)


if __name__ == "__main__":
    sys.exit(guarded("first_word.py", main))
