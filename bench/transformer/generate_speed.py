#!/usr/bin/env python3
"""Measure how fast hw4p1 generates with its key-value cache, beside the same search without.

    python bench/transformer/generate_speed.py      # greedy: 10 prompts, 246 new tokens each
    python bench/transformer/generate_speed.py --beams 10 --new 30

The model has 6 layers of size 256 (d_ff 2048, 4 heads), 1,000 tokens and random weights, and is in
float32. Prompts have 10 tokens, and EOS is never generated, so both do all the work. Prints a JSON
line, which says whether the sequences are the same. Run it on a machine that does nothing else.
"""

import argparse
import math
import sys
import time
from pathlib import Path
from types import SimpleNamespace

sys.path.append(str(Path(__file__).resolve().parent))
sys.path.append(str(Path(__file__).resolve().parents[2] / "hw4p1"))
sys.path.append(str(Path(__file__).resolve().parents[2] / "hw04" / "code"))
from backstage.shell import importing

with importing("generate_speed.py", "-r requirements-dev.txt"):
    import torch
    from backstage.parser import positive, whole
    from hw4lib.decoding import CachedScorer, SequenceGenerator
    from hw4lib.entry import Parser, guarded
    from hw4lib.model import DecoderOnlyTransformer
    from turns import take_turns

PROMPT = 10
VOCABULARY = 1000
EOS = 4


def parse_args() -> argparse.Namespace:
    layout = argparse.RawDescriptionHelpFormatter
    parser = Parser("generate_speed.py", description=__doc__, formatter_class=layout)
    add = parser.add_argument
    add("--batch", type=positive, default=10, help="prompts (default: 10)")
    add("--new", type=positive, default=246, help="tokens to generate for each (default: 246)")
    add("--beams", type=whole(1, VOCABULARY), default=1, help="beams; 1 is greedy (default: 1)")
    what = "measure once for each line that is read (default: once)"
    add("--turns", action="store_true", help=what)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.manual_seed(0)
    length = PROMPT + args.new
    model = DecoderOnlyTransformer(6, 256, 4, 2048, 0.0, length, VOCABULARY).eval()
    with torch.no_grad():
        model.final_linear.bias[EOS] = -math.inf
    prompts = torch.randint(6, VOCABULARY, (args.batch, PROMPT))
    tokenizer = SimpleNamespace(eos_id=EOS, vocab_size=VOCABULARY)

    def generate(score_fn) -> tuple[float, torch.Tensor]:
        generator = SequenceGenerator(score_fn, tokenizer, length, "cpu")
        start = time.perf_counter()
        if args.beams > 1:
            sequences, _ = generator.generate_beam(prompts, args.beams)
        else:
            sequences, _ = generator.generate_greedy(prompts)
        return time.perf_counter() - start, sequences

    def measure() -> dict:
        with_cache, sequences = generate(CachedScorer(model))
        without, expected = generate(model.score)
        return {
            "batch": args.batch, "new_tokens": args.new, "beams": args.beams,
            "s_with_cache": round(with_cache, 2), "s_without": round(without, 2),
            "times_faster": round(without / with_cache, 1),
            "tokens_per_s": round(args.batch * args.new / with_cache),
            "same_sequences": torch.equal(sequences, expected),
        }

    generate(CachedScorer(model))  # warm-up
    take_turns(measure, args.turns)


if __name__ == "__main__":
    sys.exit(guarded("generate_speed.py", main))
