#!/usr/bin/env python3
"""Train, evaluate and use the transformer language model.

    python run_lm.py train --run first --epochs 4 --set tokenization.token_type=1k
    python run_lm.py evaluate --run first                  # on the test split; generated text
    python run_lm.py generate --run first --prompt "THE OLD MAN"
    python run_lm.py handin --run first                    # handin.tar: mytorch/ and results

Data is a folder with train/, val/ and test/ of .npy transcripts, which make_data.py makes of any
text. It is that of --data, else `data.root` of the configuration, else the stories in sample/.
"""

import argparse
import hashlib
import sys
import tarfile
from pathlib import Path

from hw4lib.entry import guarded, importing
from hw4lib.errors import UserError
from hw4lib.files import write_json

with importing("run_lm.py"):
    import torch
    import yaml
    from hw4lib.config import SHIPPED, load_config
    from hw4lib.data import H4Tokenizer, LMDataset
    from hw4lib.data.npy_files import make_sample
    from hw4lib.model import DecoderOnlyTransformer
    from hw4lib.trainers import LMTrainer
    from hw4lib.utils import create_optimizer, create_scheduler
    from torch.utils.data import DataLoader

HERE = Path(__file__).resolve().parent
LITTER = (".DS_Store", "__pycache__", ".pyc", "__MACOSX", "/._")


def find_data(args: argparse.Namespace, config: dict) -> None:
    """Set `data.root` to where the data is; the embedded stories are put there first."""
    root = Path(args.data or config["data"]["root"])
    if not root.is_dir():
        if args.data:
            raise UserError(f"{root}: no such folder of data; correct it, or use make_data.py")
        root = HERE / "build" / "sample"
        if not root.exists():
            root.parent.mkdir(exist_ok=True)
            make_sample(root)
        print("note: on the embedded sample, as there is no other data: it is easy")
    config["data"]["root"] = str(root)


def make_tokenizer(config: dict) -> H4Tokenizer:
    """The tokenizer that the configuration names."""
    settings = config["tokenization"]
    token_map = {name: str(HERE / path) for name, path in settings["token_map"].items()}
    return H4Tokenizer(token_map, settings["token_type"], validate=False)


def make_loader(config: dict, tokenizer: H4Tokenizer, partition: str) -> DataLoader:
    """Batches of a partition (train, val or test), in random order for train."""
    data = config["data"]
    dataset = LMDataset(data[f"{partition}_partition"], data, tokenizer)
    return DataLoader(
        dataset, batch_size=data["batch_size"], shuffle=partition == "train",
        collate_fn=dataset.collate_fn,
    )


def train(args: argparse.Namespace) -> None:
    """Train a model."""
    config = load_config(args.config, args.set)
    if args.epochs:
        config["training"]["epochs"] = args.epochs
        config["scheduler"]["warmup"]["epochs"] = args.epochs / 4
        config["scheduler"]["cosine"]["T_max"] = args.epochs * 3 / 4
    torch.manual_seed(args.seed)
    find_data(args, config)
    tokenizer = make_tokenizer(config)
    loaders = [make_loader(config, tokenizer, name) for name in ("train", "val", "test")]
    config["model"]["max_len"] = max(loader.dataset.text_max_len for loader in loaders)
    config["model"]["num_classes"] = tokenizer.vocab_size
    trainer = make_trainer(config, tokenizer, args)
    trainer.optimizer = create_optimizer(trainer.model, config["optimizer"])
    trainer.scheduler = create_scheduler(
        trainer.optimizer, config["scheduler"], loaders[0],
        config["training"]["gradient_accumulation_steps"],
    )
    trainer.train(*loaders[:2], config["training"]["epochs"])
    print(f"best: {trainer.best_metric:.4f} nats per character, in {trainer.best_model_path}")


def make_trainer(config: dict, tokenizer: H4Tokenizer, args: argparse.Namespace) -> LMTrainer:
    """A trainer with a new model; its configuration is written to expts/<run>/."""
    root = Path("expts") / args.run
    root.mkdir(parents=True, exist_ok=True)
    (root / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    model = DecoderOnlyTransformer(**config["model"])
    return LMTrainer(model, tokenizer, config, args.run, root / "config.yaml", args.device)


def load_best(args: argparse.Namespace) -> LMTrainer:
    """A trainer with the best model of a run."""
    path = Path("expts") / args.run / "config.yaml"
    if not path.is_file():
        raise UserError(f"{path}: no such run; train first, or name another with --run")
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    trainer = make_trainer(config, make_tokenizer(config), args)
    trainer.load_checkpoint(trainer.best_model_path.name)
    return trainer


def evaluate(args: argparse.Namespace) -> None:
    """Measure the best model on the test split, and write generated texts."""
    trainer = load_best(args)
    find_data(args, trainer.config)
    trainer.evaluate(make_loader(trainer.config, trainer.tokenizer, "test"))
    print(f"texts in {trainer.text_dir}")


def generate(args: argparse.Namespace) -> None:
    """Continue a prompt greedily."""
    trainer = load_best(args)
    ids = trainer.tokenizer.encode(args.prompt)
    prompts = torch.tensor([[trainer.tokenizer.sos_id, *ids]])
    settings = {"seed": 0, "temperature": 1.0, "repeat_penalty": 1.0, "beam_width": 1}
    sequences, _ = trainer.continue_prompts(prompts, {**settings, "top_k": 0, "top_p": 0.0})
    print(trainer.tokenizer.decode(sequences[0].tolist(), skip_special_tokens=True))


def handin(args: argparse.Namespace) -> None:
    """Evaluate the best model and pack what is handed in."""
    trainer = load_best(args)
    find_data(args, trainer.config)
    loader = make_loader(trainer.config, trainer.tokenizer, "test")
    metrics, _ = trainer._validate_epoch(loader)
    texts = trainer.generate(loader, trainer._get_evaluation_generation_configs()["greedy"])
    root = trainer.expt_root
    write_json(root / "test_metrics.json", {**metrics, "test_data": describe(loader.dataset)})
    write_json(root / "test_generated_results.json", texts)

    def keep(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if any(part in member.name for part in LITTER) else member

    with tarfile.open("handin.tar", "w") as tar:
        tar.add(HERE / "mytorch", "handin/mytorch", filter=keep)
        for name in ("test_metrics.json", "test_generated_results.json", "model_arch.txt"):
            tar.add(root / name, f"handin/{name}")
    print(f"handin.tar: perplexity_char {metrics['perplexity_char']:.4f}; 3.5 or less is asked for")


def describe(dataset: LMDataset) -> dict:
    """Which transcripts a dataset has: folder, numbers, and a digest of their files."""
    folder = Path(dataset.text_dir)
    digest = hashlib.sha256()
    for name in dataset.text_files:
        digest.update(name.encode() + b"\0" + (folder / name).read_bytes())
    sample = folder.resolve().parent == HERE / "build" / "sample"
    return {
        "folder": "/".join(folder.parts[-2:]), "made_of": ["test.tokens"] if sample else [],
        "transcripts": len(dataset), "characters": dataset.total_chars,
        "tokens": dataset.total_tokens, "sha256": digest.hexdigest(),
    }


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("run_lm.py", description=__doc__, formatter_class=layout)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (train, evaluate, generate, handin):
        sub = commands.add_parser(command.__name__, help=command.__doc__)
        sub.set_defaults(command=command)
        add = sub.add_argument
        add("--run", default="lm", metavar="NAME", help="its files are in expts/NAME (default lm)")
        add("--device", choices=("cpu", "cuda"), default="cpu", help="(default cpu)")
        add("--data", metavar="DIR", help="the folder with train/, val/ and test/")
        if command is train:
            add("--config", default=SHIPPED, metavar="FILE", help="(default config.yaml)")
            add("--set", metavar="KEY=VALUE", action="append", help="as model.num_layers=6")
            add("--epochs", type=int, metavar="N", help="epochs, with a schedule to match")
            add("--seed", type=int, default=0, help="of all that is random (default 0)")
        if command is generate:
            add("--prompt", default="", metavar="TEXT", help="the beginning, A to Z and '")
    return parser


def main() -> int:
    """Run a command; returns the exit status."""

    def run() -> None:
        args = make_parser().parse_args()
        args.command(args)

    return guarded("run_lm.py", run)


if __name__ == "__main__":
    sys.exit(main())
