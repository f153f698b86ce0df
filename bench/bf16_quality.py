#!/usr/bin/env python3
"""Does training in bfloat16 reach the valid perplexity of float32? Works on a CPU without bfloat16 units too.

    python bench/bf16_quality.py TRAIN VALID [-stories 3000] [any flags of lstlm.py -train but -precision and -model]

Trains the same model twice, for an epoch unless `-E` says otherwise. Where the CPU multiplies bfloat16 in hardware the
second training uses it. Elsewhere its products are computed in float32 from numbers that are rounded to bfloat16, and
their results are rounded to bfloat16: what such hardware does, which adds up in float32, but for the order of its sums.
Prints one JSON line: both valid perplexities, the ratio, and whether it was hardware.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "hw04" / "code"))

import lstlm  # noqa: E402
import torch  # noqa: E402


def rounded(function):
    """`function` of tensors; for bfloat16 ones computed in float32, and its result rounded."""
    def computed(*tensors):
        if tensors[0].dtype != torch.bfloat16:
            return function(*tensors)
        return function(*(x if x is None else x.float() for x in tensors)).bfloat16()
    return computed


def valid_nats(flags: list[str], precision: str, model: Path) -> float:
    """The best valid loss of a training."""
    if status := lstlm.main(["-train", "-precision", precision, "-model", str(model), *flags]):
        raise SystemExit(status)
    records = [json.loads(line) for line in lstlm.side_file(model, ".log.jsonl").read_text().splitlines()]
    return min(record["valid_nats"] for record in records if record.get("mode") == "train")


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("train", type=Path)
    p.add_argument("valid", type=Path)
    p.add_argument("-stories", type=int, default=3000, help="the first so many of TRAIN (default 3000)")
    args, flags = p.parse_known_args()
    hardware = lstlm.choose_precision("auto", torch.device("cpu")) == torch.bfloat16
    with tempfile.TemporaryDirectory() as folder:
        train = Path(folder) / "train.tokens"
        train.write_text("".join(args.train.read_text().splitlines(keepends=True)[: args.stories]))
        flags = ["-train_corpus", str(train), "-valid_corpus", str(args.valid), "-E", "1", *flags]
        nats = {"fp32": valid_nats(flags, "fp32", Path(folder) / "fp32.pt")}
        if not hardware:
            for name in ("product", "add_product", "weight_gradient"):
                setattr(lstlm, name, rounded(getattr(lstlm, name)))
        nats["bf16"] = valid_nats(flags, "bf16", Path(folder) / "bf16.pt")
    ppl = {name: round(lstlm.safe_exp(value), 4) for name, value in nats.items()}
    print(json.dumps({"valid_ppl": ppl, "ratio": round(ppl["bf16"] / ppl["fp32"], 4), "hardware": hardware,
                      "stories": args.stories, "flags": flags[6:], "torch": torch.__version__}))


if __name__ == "__main__":
    main()
