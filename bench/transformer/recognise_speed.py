#!/usr/bin/env python3
"""Measure how fast hw4p1 recognises recordings on one core, one after the other.

    python bench/transformer/recognise_speed.py     # greedy, asr_config.yaml's model
    python bench/transformer/recognise_speed.py --beam-width 4 --ctc-weight 0.3
    python bench/transformer/recognise_speed.py --config hw4p1/results/speech.yaml FOLDER

From the file to its text, as `run_asr.py recognise` does it, on one thread in float32. The model
has random weights and never ends a text, so each has as many tokens as the longest of the
training. Without recordings: those of the synthetic speech. Prints a JSON line, with the seconds of
speech that a second recognises: more than 1 is faster than real time. Run it on a machine that does
nothing else.
"""

import argparse
import contextlib
import math
import os
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
sys.path.append(str(Path(__file__).resolve().parents[2] / "hw4p1"))
sys.path.append(str(Path(__file__).resolve().parents[2] / "hw04" / "code"))
from backstage.shell import importing

with importing("recognise_speed.py", "-r requirements-dev.txt"):
    import torch
    from backstage.parser import positive
    from hw4lib.asr_flags import fraction
    from hw4lib.asr_schema import ASR
    from hw4lib.config import load_config
    from hw4lib.data.front_end import RATE
    from hw4lib.data.recordings import read_recording, recordings_of
    from hw4lib.entry import Parser, guarded
    from hw4lib.model import EncoderDecoderTransformer
    from hw4lib.preparation import make_tokenizer
    from hw4lib.recognition import Recogniser
    from hw4lib.speech_loaders import find_data, make_loader
    from hw4lib.trainers import ASRTrainer
    from turns import take_turns


def parse_args() -> argparse.Namespace:
    layout = argparse.RawDescriptionHelpFormatter
    parser = Parser("recognise_speed.py", description=__doc__, formatter_class=layout)
    add = parser.add_argument
    what = "recordings, or folders of them (default: those of the synthetic speech)"
    add("paths", type=Path, metavar="FILE", nargs="*", help=what)
    what = "a configuration (default: hw4p1/asr_config.yaml)"
    add("--config", type=Path, metavar="FILE", default=ASR.shipped, help=what)
    add("--beam-width", type=positive, default=1, metavar="N", help="1 is greedy (default: 1)")
    what = "the share that CTC has in ranking beams, 0 to 1 (default: 0)"
    add("--ctc-weight", type=fraction, default=0.0, metavar="W", help=what)
    what = "measure once for each line that is read (default: once)"
    add("--turns", action="store_true", help=what)
    return parser.parse_args()


def prepare(args: argparse.Namespace) -> tuple[Recogniser, list[Path], dict]:
    """A recogniser, what it is to recognise, and facts about it."""
    config = load_config(args.config, schema=ASR)
    with contextlib.redirect_stdout(sys.stderr):
        find_data(None, config)
        tokenizer = make_tokenizer(config)
        dataset = make_loader(config, tokenizer, "train", "cpu").dataset
    longest = dataset.text_max_len + 1
    config["model"]["max_len"] = max(dataset.feat_max_len, longest)
    config["model"]["num_classes"] = tokenizer.vocab_size
    torch.manual_seed(0)
    model = EncoderDecoderTransformer(**config["model"])
    with torch.no_grad():
        model.final_linear.bias[tokenizer.eos_id] = -math.inf
    trainer = ASRTrainer(model, tokenizer, config, "bench", None, "cpu")
    settings = {"beam_width": args.beam_width, "ctc_weight": args.ctc_weight}
    recordings = Path(config["data"]["root"]) / "recordings"
    files = [file for path in args.paths or [recordings] for file in recordings_of(path)]
    facts = {**settings, "token_type": tokenizer.token_type, "tokens": longest, **config["model"]}
    return Recogniser(trainer, dataset.stats, settings, longest), files, facts


def main() -> None:
    args = parse_args()
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as run_asr.py does
    torch.set_num_threads(1)
    recogniser, files, facts = prepare(args)
    speech = sum(len(read_recording(file)[0]) for file in files) / RATE
    recogniser(files[0])  # warm-up

    def measure() -> dict:
        start = time.perf_counter()
        for file in files:
            recogniser(file)
        seconds = time.perf_counter() - start
        return {
            **facts, "recordings": len(files), "s_of_speech": round(speech, 2),
            "speech_per_s": round(speech / seconds, 2),
        }

    take_turns(measure, args.turns)


if __name__ == "__main__":
    sys.exit(guarded("recognise_speed.py", main))
