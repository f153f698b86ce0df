#!/usr/bin/env python3
"""Train, evaluate and use the transformer language model.

    python run_lm.py train                                   # what config.yaml says, into expts/lm/
    python run_lm.py train --run small --epochs 4 --set tokenization.token_type=1k --set data.batch_size=64
    python run_lm.py train --resume                          # go on with what was stopped
    python run_lm.py evaluate                                # perplexities on the test split, generated text
    python run_lm.py generate --prompt "THE OLD MAN" --method sample --top-k 10
    python run_lm.py handin                                  # handin.tar: mytorch/ and three files of results

Data is a folder with train/, val/ and test/ of .npy transcripts, which make_data.py makes of any text. It is that of
--data, else `data.root` of the configuration, else the stories that are embedded in this repository.
"""

import argparse
import contextlib
import hashlib
import io
import os
import random
import shlex
import signal
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent

try:
    import torch
    import yaml
    from hw4lib.config import SHIPPED, first_difference, load_config
    from hw4lib.data import H4Tokenizer, LMDataset
    from hw4lib.data.length_order import LengthOrder
    from hw4lib.data.npy_files import RECORD, make_sample
    from hw4lib.errors import UserError
    from hw4lib.files import atomic_write, write_json
    from hw4lib.model import DecoderOnlyTransformer
    from hw4lib.trainers import LMTrainer, Stopped
    from hw4lib.trainers.base_trainer import read_checkpoint
    from hw4lib.trainers.lm_trainer import GENERATION
    from hw4lib.utils import create_optimizer, create_scheduler
    from torch.utils.data import DataLoader
except ModuleNotFoundError as missing:
    raise SystemExit(
        f"run_lm.py: error: this Python has no {missing.name}; pip install -r requirements-dev.txt"
    ) from None

PARTITIONS = ("train", "val", "test")
SAMPLE_NOTE = "note: on the embedded sample, as there is no other data: its text is from a small grammar, and easy"


# ---- Data and model


def find_data(args: argparse.Namespace, config: dict) -> str:
    """Set `data.root` to where the data is; returns what is to be said of it, which is mostly nothing."""
    data, default = config["data"], load_config()["data"]["root"]
    data["root"] = str(args.data or locate(data["root"]))
    if Path(data["root"]).is_dir():
        return ""
    if args.data or data["root"] != str(locate(default)):
        raise UserError(f"{data['root']}: no such folder of data; correct it, or make it with make_data.py")
    root = HERE / "build" / "sample"
    if not root.exists():
        root.parent.mkdir(exist_ok=True)
        make_sample(root)
    data["root"] = str(root)
    return SAMPLE_NOTE


def locate(path: str) -> Path:
    """A path of the configuration: as it is if it is there from the current folder, else beside this file."""
    return Path(path) if Path(path).exists() else HERE / path


def make_tokenizer(config: dict) -> H4Tokenizer:
    """The tokenizer that the configuration names."""
    names = config["tokenization"]["token_map"]
    return H4Tokenizer({t: str(locate(p)) for t, p in names.items()}, config["tokenization"]["token_type"], False)


def tokenizer_digest(config: dict) -> str:
    """The SHA-256 of the tokenizer's file."""
    names = config["tokenization"]["token_map"]
    return hashlib.sha256(locate(names[config["tokenization"]["token_type"]]).read_bytes()).hexdigest()


def make_loader(config: dict, tokenizer: H4Tokenizer, partition: str, device: str) -> DataLoader:
    """Batches of a partition (train, val or test), each of similar length; in random order for train."""
    data = config["data"]
    dataset = LMDataset(data[f"{partition}_partition"], data, tokenizer)
    lengths = [len(tokens) for tokens in dataset.transcripts_shifted]
    gpu = device == "cuda"
    return DataLoader(
        dataset, batch_size=data["batch_size"], sampler=LengthOrder(lengths, data["batch_size"], partition == "train"),
        collate_fn=dataset.collate_fn, pin_memory=gpu, num_workers=data["NUM_WORKERS"] if gpu else 0,
    )  # fmt: skip


def describe_data(loader: DataLoader) -> dict:
    """Which transcripts a loader has: their folder, counts, a digest, and what they were made of if that is known."""
    dataset, digest = loader.dataset, hashlib.sha256()
    for name in dataset.text_files:
        digest.update(name.encode() + b"\0" + (Path(dataset.text_dir) / name).read_bytes())
    record = Path(dataset.text_dir).parent / RECORD
    sources = yaml.safe_load(record.read_text(encoding="utf-8")).get("sources", {}) if record.is_file() else {}
    files = [source["file"] for source in sources.get(dataset.partition, sources.get("train", []))]
    return {
        "folder": "/".join(Path(dataset.text_dir).parts[-2:]), "made_of": files, "transcripts": len(dataset),
        "characters": dataset.total_chars, "tokens": dataset.total_tokens, "sha256": digest.hexdigest(),
    }  # fmt: skip


def make_trainer(config: dict, tokenizer: H4Tokenizer, run: str, device: str) -> LMTrainer:
    """A trainer with a new model of `config`, which must have `max_len` and `num_classes`; writes expts/<run>/."""
    model = DecoderOnlyTransformer(**config["model"])
    root = Path("expts") / run
    root.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    atomic_write(root / "config.yaml", lambda file: file.write(text.encode()))
    return LMTrainer(model, tokenizer, config, run, root / "config.yaml", device)


def checkpoint_path(run: str, which: str) -> Path:
    """Where the `best-metric` or `last-epoch` checkpoint of a run is."""
    return Path("expts") / run / "checkpoints" / f"checkpoint-{which}-model.pth"


# ---- train


def train(args: argparse.Namespace) -> None:
    """Train a model, or go on with it."""
    trainer, loaders, note = prepare(args)
    with stopping_on_signals(trainer):  # from the moment at which a person sees that it begins
        print_plan(trainer, loaders)
        trainer.train(loaders["train"], loaders["val"], trainer.config["training"]["epochs"] - trainer.current_epoch)
    trainer.cleanup()
    print(f"best: {trainer.best_metric:.4f} nats per character on val, in {trainer.best_model_path}")
    if note:
        print(note)


def prepare(args: argparse.Namespace) -> tuple[LMTrainer, dict[str, DataLoader], str]:
    """All that `train` needs: a trainer, at its beginning or where its run stopped, loaders, and a note on the data."""
    config = load_config(args.config, args.set)
    if args.epochs:
        for setting in args.set or []:
            if setting.startswith(("training.epochs", "scheduler.warmup.epochs", "scheduler.cosine.T_max")):
                raise UserError(f"--epochs {args.epochs} --set {setting}: both set it; leave one of them out")
        spread_epochs(config, args.epochs)
    last = checkpoint_path(args.run, "last-epoch")
    resume = args.resume or config["training"]["resume"]
    if last.exists() and not resume:
        raise UserError(f"{last}: this run has a model; go on with it with --resume, or name another with --run")
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    note = find_data(args, config)
    if note:
        print(note)
    tokenizer = make_tokenizer(config)
    loaders = {name: make_loader(config, tokenizer, name, args.device) for name in PARTITIONS}
    config["model"]["max_len"] = max(loader.dataset.text_max_len for loader in loaders.values())
    config["model"]["num_classes"] = tokenizer.vocab_size
    config["trained_on"] = {**describe_data(loaders["train"]), "val_sha256": describe_data(loaders["val"])["sha256"],
                            "tokenizer_sha256": tokenizer_digest(config)}  # fmt: skip
    if resume and last.exists():
        check_same_run(config, whole_config(last), last)
    trainer = make_trainer(config, tokenizer, args.run, args.device)
    trainer.optimizer = create_optimizer(trainer.model, config["optimizer"])
    accumulate = config["training"]["gradient_accumulation_steps"]
    trainer.scheduler = create_scheduler(trainer.optimizer, config["scheduler"], loaders["train"], accumulate)
    if resume and last.exists():
        load_whole(trainer, last.name)
    return trainer, loaders, note


def spread_epochs(config: dict, epochs: int) -> None:
    """Train for so many epochs, with a schedule of that length: a quarter of it warm-up, if any, the rest cosine."""
    config["training"]["epochs"] = epochs
    warmup = config["scheduler"]["warmup"]
    warmup["epochs"] = epochs / 4
    config["scheduler"]["cosine"]["T_max"] = epochs - warmup["epochs"] * warmup["enabled"]


def whole_config(path: Path) -> dict:
    """The configuration in a checkpoint. UserError if it is not of this program."""
    config = read_checkpoint(path).get("config", {})
    if lacking := {*load_config(), "trained_on"} - config.keys():
        raise UserError(f"{path}: its configuration has no {min(lacking)}; it is not of run_lm.py, train anew")
    return config


def check_same_run(config: dict, before: dict, path: Path) -> None:
    """UserError unless a run goes on with what it began with; how long it trains may change, and where data is."""

    def kept(c: dict) -> dict:
        training = {"gradient_accumulation_steps": c["training"]["gradient_accumulation_steps"]}
        return {**c, "Name": "", "training": training, "data": {**c["data"], "root": "", "NUM_WORKERS": 0},
                "trained_on": {**c["trained_on"], "folder": "", "made_of": []}}  # fmt: skip

    if difference := first_difference(kept(before), kept(config)):
        raise UserError(f"{path}: the run began otherwise, {difference} now; resume it as it was, or name a new --run")


def load_whole(trainer: LMTrainer, filename: str) -> None:
    """Load a checkpoint of which every part has to fit."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".* is left out: .*")
        try:
            trainer.load_checkpoint(filename)
        except (UserWarning, RuntimeError) as problem:
            raise UserError(f"{problem}; train anew under another --run") from None


def print_plan(trainer: LMTrainer, loaders: dict[str, DataLoader]) -> None:
    """What is about to be trained, on what."""
    config = trainer.config
    for name, loader in loaders.items():
        data = loader.dataset
        tokens = f"{data.total_tokens:,} tokens of {data.avg_chars_per_token:.2f} characters"
        print(f"{name}: {len(data):,} transcripts, {tokens}")
    size = sum(p.numel() for p in trainer.model.parameters())
    precision = str(trainer.precision).removeprefix("torch.")
    print(f"{size:,} parameters on {trainer.device} in {precision}, max_len {trainer.model.max_len}")
    epochs, schedule = config["training"]["epochs"], config["scheduler"]
    length = schedule["cosine"]["T_max"] + schedule["warmup"]["epochs"] * schedule["warmup"]["enabled"]
    if schedule["name"] == "cosine" and length != epochs:
        print(f"note: the schedule is made for {length} epochs and the training for {epochs}; --epochs of a new run "
              "sets both")
    if trainer.current_epoch or trainer.progress:
        done = trainer.progress["batches"] if trainer.progress else 0
        print(f"going on after {trainer.current_epoch} epochs and {done} batches")


@contextlib.contextmanager
def stopping_on_signals(trainer: LMTrainer) -> Iterator[None]:
    """Ctrl-C and SIGTERM ask the trainer to save and stop after this batch; a second one stops at once."""
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}  # all known before `ask` is called
    trainer.stop_requested = False  # as it may be from the time before, in a notebook

    def ask(number: int, frame) -> None:
        trainer.stop_requested = number
        for n in before:
            signal.signal(n, before[n])

    for n in before:
        signal.signal(n, ask)
    try:
        yield
    except Stopped:
        raise Stopped(trainer.stop_requested) from None
    finally:
        for n in before:
            signal.signal(n, before[n])


# ---- evaluate, generate, handin


def load_best(args: argparse.Namespace) -> LMTrainer:
    """A trainer with the best model of a run and all that it was made with."""
    path = checkpoint_path(args.run, "best-metric")
    config = whole_config(path)
    config["training"]["use_wandb"] = False
    tokenizer = make_tokenizer(config)
    if tokenizer.vocab_size != config["model"]["num_classes"]:
        raise UserError(f"{path}: made with {config['model']['num_classes']} tokens, but the tokenizer "
                        f"{tokenizer.token_type} has {tokenizer.vocab_size} now; use the files that it was made with")
    if (digest := tokenizer_digest(config)) != config["trained_on"].get("tokenizer_sha256", digest):
        raise UserError(f"{path}: the tokenizer {tokenizer.token_type} is not that of its training; put its file back, "
                        "or train anew")
    trainer = make_trainer(config, tokenizer, args.run, args.device)
    load_whole(trainer, trainer.best_model_path.name)
    return trainer


def load_test(args: argparse.Namespace, trainer: LMTrainer) -> tuple[DataLoader, dict]:
    """The test split, and what is to be recorded of it and of the model beside the numbers."""
    config, model = trainer.config, trainer.model
    if args.data:
        config["data"]["root"] = args.data
    loader = make_loader(config, trainer.tokenizer, "test", args.device)
    dataset = loader.dataset
    if dataset.text_max_len > model.max_len:
        longest = max(range(len(dataset)), key=lambda i: len(dataset.transcripts_shifted[i]))
        raise UserError(f"{Path(dataset.text_dir) / dataset.text_files[longest]}: {dataset.text_max_len} tokens with "
                        f"SOS, but the model's max_len is {model.max_len}; cut it, or train with it in the data")
    if not trainer.training_history:
        raise UserError(f"{trainer.best_model_path}: it has no training_history; it is not of run_lm.py, train anew")
    best = min(trainer.training_history, key=lambda h: h["val"]["ce_loss_char"])
    trained = {"run": args.run, "best_epoch": best["epoch"], "val_perplexity_char": best["val"]["perplexity_char"]}
    return loader, {"test_data": describe_data(loader), "trained_on": config["trained_on"], "model": trained}


def evaluate(args: argparse.Namespace) -> None:
    """Metrics of the best model on the test split, and text generated in three ways."""
    trainer = load_best(args)
    loader, record = load_test(args, trainer)
    metrics, results = trainer.evaluate(loader)
    path = trainer.expt_root / "test_metrics.json"
    write_json(path, {**metrics, **record})
    for name, texts in results.items():
        print(f"{name}: {texts[0]['prompt']} ... {texts[0]['generated']}")
    print(f"numbers in {path}, texts in {trainer.text_dir}")


def generate(args: argparse.Namespace) -> None:
    """Continue a prompt."""
    if args.method != "sample" and args.samples != 1:
        raise UserError(f"--samples {args.samples}: --method {args.method} gives the same text each time; use sample")
    if not 0 < args.top_p <= 1:
        raise UserError(f"--top-p {args.top_p}: give more than 0 and at most 1, which is no limit")
    trainer = load_best(args)
    tokenizer, text = trainer.tokenizer, args.prompt.upper()
    prompt = tokenizer.encode(text)
    if not {tokenizer.pad_id, tokenizer.sos_id, tokenizer.eos_id}.isdisjoint(prompt):
        raise UserError("--prompt: it spells a special token, such as [EOS]; take it out")
    prompts = torch.tensor([[tokenizer.sos_id, *prompt]] * args.samples)
    settings = {**GENERATION, "temperature": args.temperature, "repeat_penalty": args.repeat_penalty, "seed": args.seed}
    if args.method == "beam":
        settings["beam_width"] = args.beam_width
    if args.method == "sample":
        settings |= {"top_k": args.top_k, "top_p": args.top_p}
    sequences, scores = trainer.continue_prompts(prompts, settings)
    for sequence, score in zip(sequences, scores, strict=True):
        print(tokenizer.decode(sequence.tolist(), skip_special_tokens=True))
        end = "EOS" if sequence[-1] == tokenizer.eos_id else "max_len"
        print(f"-- {len(sequence) - prompts.shape[1]} tokens, ended by {end}, log-probability {score:.2f}")


def handin(args: argparse.Namespace) -> None:
    """Evaluate the best model and pack what is handed in."""
    if not args.out.parent.is_dir():
        raise UserError(f"--out {args.out}: there is no folder {args.out.parent}; make it, or choose another")
    trainer = load_best(args)
    loader, record = load_test(args, trainer)
    metrics, _ = trainer._validate_epoch(loader)
    texts = trainer.generate(loader, trainer._get_evaluation_generation_configs()["greedy"])
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "test_metrics.json", {**metrics, **record})
        write_json(Path(folder) / "test_generated_results.json", texts)
        shown = {path.name: path for path in Path(folder).iterdir()}
        shown |= {"model_arch.txt": trainer.expt_root / "model_arch.txt", "mytorch": HERE / "mytorch"}
        packed = pack("handin", shown)
    atomic_write(args.out, lambda file: file.write(packed))
    print(f"{args.out}: perplexity_char {metrics['perplexity_char']:.4f} on {record['test_data']['folder']}, "
          f"{len(texts)} generated texts, mytorch/")
    if metrics["perplexity_char"] > 3.5:
        print("note: the course asks for 3.5 or less")


def pack(top: str, paths: dict[str, Path]) -> bytes:
    """An uncompressed tar with the given files and folders in the folder `top`, without what Python and macOS leave."""

    def keep(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        litter = (".DS_Store", "__pycache__", ".pyc")
        return None if any(part in member.name for part in litter) else member

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, path in sorted(paths.items()):
            tar.add(path, f"{top}/{name}", filter=keep)
    return buffer.getvalue()


# ---- The command line


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run, *options: tuple[str, dict]) -> None:
        p = commands.add_parser(run.__name__, help=run.__doc__, description=run.__doc__)
        p.set_defaults(command=run)
        what = "its files are in expts/NAME (default: lm)"
        p.add_argument("--run", type=run_name, default="lm", metavar="NAME", help=what)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        p.add_argument("--device", choices=("cpu", "cuda"), default=device, help=f"(default here: {device})")
        for name, settings in options:
            default = settings.get("default")
            shown = f" (default: {default})" if isinstance(default, (int, float)) and "action" not in settings else ""
            p.add_argument(name, **{**settings, "help": settings["help"] + shown})

    data = ("--data", {"metavar": "DIR", "help": "the folder with train/, val/ and test/"})
    command(
        train, data,
        ("--config", {"default": SHIPPED, "metavar": "FILE", "help": "(default: config.yaml beside this file)"}),
        ("--set", {"metavar": "KEY=VALUE", "action": "append", "help": "replace one, as in model.num_layers=6"}),
        ("--epochs", {"type": positive, "metavar": "N", "help": "epochs, with a cosine to match: 1/4 warm-up"}),
        ("--resume", {"action": "store_true", "help": "go on with a run, exactly as if it had never been stopped"}),
        ("--seed", {"type": seed, "default": 0, "help": "of the random numbers of training"}),
    )  # fmt: skip
    command(evaluate, data)
    command(
        generate,
        ("--prompt", {"metavar": "TEXT", "default": "", "help": "the beginning, A to Z and ' (default: none)"}),
        ("--method", {"choices": ("greedy", "beam", "sample"), "default": "greedy", "help": "(default: greedy)"}),
        ("--temperature", {"type": float, "default": 1.0, "help": "below 1 the probable is more probable"}),
        ("--repeat-penalty", {"type": float, "default": 1.0, "help": "above 1 less repetition; not for sample"}),
        ("--beam-width", {"type": positive, "default": 10, "help": "for beam"}),
        ("--top-k", {"type": int, "default": 0, "help": "for sample: draw from the k best, 0 for all"}),
        ("--top-p", {"type": float, "default": 1.0, "help": "for sample: draw from the best that sum to this"}),
        ("--samples", {"type": positive, "default": 1, "help": "for sample: how many texts"}),
        ("--seed", {"type": seed, "default": 0, "help": "of what is drawn"}),
    )  # fmt: skip
    out = {"type": Path, "metavar": "FILE", "default": Path("handin.tar"), "help": "(default: handin.tar)"}
    command(handin, data, ("--out", out))
    return parser.parse_args(argv)


def run_name(text: str) -> str:
    if text in ("", ".", "..") or not set(text).isdisjoint("/\\\0"):
        raise argparse.ArgumentTypeError("give a name without slashes: it is a folder in expts/")
    return text


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("give at least 1")
    return number


def seed(text: str) -> int:
    number = int(text)
    if not 0 <= number < 2**63:
        raise argparse.ArgumentTypeError("give 0 to 2^63 - 1")
    return number


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0; 2 for what the user can mend; 1 for a failing machine; 130 or 143 when told to stop."""
    # Large pages from Linux, read when the first tensors are made: fresh memory costs a fraction of the time.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    args = parse_args(argv)
    try:
        if args.device == "cuda" and not torch.cuda.is_available():
            raise UserError("--device cuda: PyTorch finds no GPU here; use cpu")
        args.command(args)
        return 0
    except (UserError, FileNotFoundError) as error:
        print(f"run_lm.py: error: {error}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        again = shlex.join(sys.argv[1:] if argv is None else argv).replace(" --resume", "")
        print(f"\nrun_lm.py: stopped and saved; go on with: run_lm.py {again} --resume", file=sys.stderr)
        return 128 + stopped.args[0]
    except KeyboardInterrupt:
        print("\nrun_lm.py: interrupted", file=sys.stderr)
        return 130
    except OSError as error:  # a full disk, say
        print(f"run_lm.py: error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
