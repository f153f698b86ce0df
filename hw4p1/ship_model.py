#!/usr/bin/env python3
"""Write the model that is shipped: the best one of a run, in half as many bytes, and its card."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # which `python -P` leaves out

from hw4lib.entry import Parser, guarded, importing
from hw4lib.files import atomic_write, write_json

with importing("ship_model.py"):
    import run_lm
    import torch
    from hw4lib.config import load_config
    from hw4lib.flags import run_name
    from hw4lib.runs import checkpoint_path
    from hw4lib.trainers import LMTrainer

USAGE = """Write shipped/stories.pth and shipped/stories.json of the best model of a run.

    python ship_model.py --run NAME --data DIR

The weights are rounded to float16, and what only training needs is left out. The numbers on the
card are those of the rounded weights on the test split.
"""


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        "ship_model.py", description=USAGE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--run", type=run_name, required=True, metavar="NAME", help="a run in expts/")
    add("--data", required=True, metavar="DIR", help="the folder with its train/, val/ and test/")
    return parser.parse_args(argv)


def ship(args: argparse.Namespace) -> None:
    """Round the weights, measure the model, and write both files."""
    args.device = "cpu"
    trainer = run_lm.load_best(args, checkpoint_path(args.run, "best-metric"))
    weights = rounded(trainer.model)
    trainer.model.load_state_dict(weights)
    loader, record = run_lm.load_test(args, trainer)
    run_lm.check_unseen(loader.dataset, trainer.config)
    metrics, _ = trainer._validate_epoch(loader)
    config = trainer.config
    config["data"]["root"] = load_config()["data"]["root"]  # where it was is nobody's business
    content = {
        "epoch": trainer.current_epoch, "model_state_dict": weights,
        "embedding_scale": trainer.model.embedding_scale, "best_metric": trainer.best_metric,
        "training_history": trainer.training_history, "config": config,
    }
    run_lm.SHIPPED_MODEL.parent.mkdir(exist_ok=True)
    atomic_write(run_lm.SHIPPED_MODEL, lambda file: torch.save(content, file))
    write_json(run_lm.SHIPPED_MODEL.with_suffix(".json"), card(trainer, metrics, record))
    size = run_lm.SHIPPED_MODEL.stat().st_size
    measured = f"perplexity_char {metrics['perplexity_char']:.4f}"
    print(f"{run_lm.SHIPPED_MODEL}: {size:,} bytes, {measured} on {record['test_data']['folder']}")


def rounded(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state of a model with its parameters in float16, a tied one once; positions stay."""
    half = {id(p): p.detach().half() for p in model.parameters()}
    state = model.state_dict(keep_vars=True)
    return {name: half.get(id(tensor), tensor) for name, tensor in state.items()}


def card(trainer: LMTrainer, metrics: dict, record: dict) -> dict:
    """What the model is, what it was made of, and how good it is."""
    parameters = sum(p.numel() for p in trainer.model.parameters())
    val = [entry["val"]["perplexity_char"] for entry in trainer.training_history]
    return {
        "parameters": parameters, "epochs": trainer.current_epoch, "test": metrics,
        "val_perplexity_char_by_epoch": val, **record, "config": trainer.config,
    }


def main(argv: list[str] | None = None) -> int:
    return guarded("ship_model.py", lambda: ship(parse(argv)), argv)


if __name__ == "__main__":
    sys.exit(main())
