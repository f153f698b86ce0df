#!/usr/bin/env python3
"""The command line of the transformer language model."""

import argparse
import contextlib
import importlib
import importlib.util
import io
import math
import os
import random
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # which `python -P` leaves out

from hw4lib.entry import Parser, guarded, importing
from hw4lib.errors import UserError
from hw4lib.files import atomic_write, write_json
from hw4lib.lock import exclusive
from hw4lib.output import outlived_output
from hw4lib.reading import printable

with importing("run_lm.py"):
    import torch
    import yaml
    from hw4lib.config import SHIPPED, complete_config, first_difference, load_config
    from hw4lib.data import H4Tokenizer, LMDataset
    from hw4lib.data.length_order import LengthOrder
    from hw4lib.data.npy_files import RECORD, made_of, make_sample
    from hw4lib.data.raw_text import typed
    from hw4lib.data.text import transcribed
    from hw4lib.model import DecoderOnlyTransformer
    from hw4lib.trainers import LMTrainer
    from hw4lib.trainers.checkpoint import check_model, read_checkpoint
    from hw4lib.trainers.lm_trainer import GENERATION
    from hw4lib.utils import create_optimizer, create_scheduler
    from torch.utils.data import DataLoader

USAGE = """Train, evaluate and use the transformer language model.

    python run_lm.py train                                   # what config.yaml says, into expts/lm/
    python run_lm.py train --run small --epochs 4 --set tokenization.token_type=1k
    python run_lm.py train --resume                          # go on with what was stopped
    python run_lm.py evaluate                                # on the test split; generated text
    python run_lm.py generate --prompt "THE OLD MAN" --method sample --top-k 10
    python run_lm.py handin                                  # handin.tar: mytorch/ and results

Data is a folder with train/, val/ and test/ of .npy transcripts, which make_data.py makes of any
text. It is that of --data, else `data.root` of the configuration, else the stories that are
embedded in this repository.
"""
HERE = Path(__file__).resolve().parent
PARTITIONS = ("train", "val", "test")
LONGEST_NAME = 255 - len("..lock")  # bytes: of a run, whose lock is the file .NAME.lock
SAMPLE_NOTE = (
    "note: on the embedded sample, as there is no other data: its text is from a small grammar, "
    "and easy"
)


# ---- Data and model


def find_data(args: argparse.Namespace, config: dict) -> str:
    """Set `data.root` to where the data is; the embedded stories are put there first.

    Returns what is to be said of it, which is mostly nothing.
    """
    root = data_root(args, config)
    config["data"]["root"] = str(root)
    if root != HERE / "build" / "sample":
        return ""
    if not root.exists():
        root.parent.mkdir(exist_ok=True)
        make_sample(root)
    return SAMPLE_NOTE


def data_root(args: argparse.Namespace, config: dict) -> Path:
    """The folder of the data; that of the embedded stories may have to be made."""
    default = load_config()["data"]["root"]
    root = Path(args.data or locate(config["data"]["root"]))
    if root.is_dir():
        return root
    if args.data or root != locate(default):
        why = "no such folder of data; correct it, or make it with make_data.py"
        raise UserError(f"{root}: {why}")
    return HERE / "build" / "sample"


def check_folders(data: dict) -> None:
    """UserError for the first partition that is not there."""
    for name in PARTITIONS:
        folder = Path(data["root"]) / data[f"{name}_partition"]
        if not folder.is_dir():
            why = "no such folder; correct data.root or --data, or make it with make_data.py"
            raise UserError(f"{folder}: {why}")


def locate(path: str) -> Path:
    """A path of the configuration: from the current folder if it is there, else from here."""
    return Path(path) if Path(path).exists() else HERE / path


def make_tokenizer(config: dict) -> H4Tokenizer:
    """The tokenizer that the configuration names."""
    settings = config["tokenization"]
    token_map = {name: str(locate(path)) for name, path in settings["token_map"].items()}
    return H4Tokenizer(token_map, settings["token_type"], validate=False)


def make_loader(config: dict, tokenizer: H4Tokenizer, partition: str, device: str) -> DataLoader:
    """Batches of a partition (train, val or test), each of similar length.

    In random order for train.
    """
    data = config["data"]
    dataset = LMDataset(data[f"{partition}_partition"], data, tokenizer)
    lengths = [len(tokens) for tokens in dataset.transcripts_shifted]
    order = LengthOrder(lengths, data["batch_size"], partition == "train")
    gpu = device == "cuda"
    return DataLoader(
        dataset, batch_size=data["batch_size"], sampler=order, collate_fn=dataset.collate_fn,
        pin_memory=gpu, num_workers=data["NUM_WORKERS"] if gpu else 0,
    )


def describe_data(loader: DataLoader) -> dict:
    """Which transcripts a loader has: folder, counts, digest, what they are made of if known."""
    dataset = loader.dataset
    folder = Path(dataset.text_dir)
    return {
        "folder": "/".join(folder.parts[-2:]),
        "made_of": made_of(folder.parent / RECORD, dataset.partition),
        "transcripts": len(dataset), "characters": dataset.total_chars,
        "tokens": dataset.total_tokens, "sha256": dataset.sha256,
    }


def make_trainer(config: dict, tokenizer: H4Tokenizer, run: str, device: str) -> LMTrainer:
    """A trainer with a new model of `config`, which must have `max_len` and `num_classes`.

    Writes expts/<run>/.
    """
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
    with exclusive(Path("expts") / args.run, "name another with --run"):
        trainer, loaders, note = prepare(args)
        with trainer.stopping_on_signals():  # from the moment when a person sees that it begins
            print_plan(trainer, loaders)
            epochs = trainer.config["training"]["epochs"] - trainer.current_epoch
            trainer.train(loaders["train"], loaders["val"], epochs)
        trainer.cleanup()
    best = trainer.best_model_path
    if not best.is_file():
        raise UserError(f"{best}: is gone; put it back, or train on with more --epochs")
    print(f"best: {trainer.best_metric:.4f} nats per character on val, in {best}")
    if note:
        print(note)


def prepare(args: argparse.Namespace) -> tuple[LMTrainer, dict[str, DataLoader], str]:
    """All that `train` needs: a trainer, loaders, and a note on the data.

    The trainer is at its beginning or where its run stopped. What can be wrong with the packages
    and the settings is told before any data is read.
    """
    config = configured(args)
    check_packages(config)
    last = checkpoint_path(args.run, "last-epoch")
    resume = last.exists()
    if resume and not (args.resume or config["training"]["resume"]):
        how = "go on with it with --resume, or name another with --run"
        raise UserError(f"{last}: this run has a model; {how}")
    tokenizer = make_tokenizer(config)
    check_settings(config, tokenizer, data_root(args, config), args.device)
    config["model"]["num_classes"] = tokenizer.vocab_size
    if resume:
        content = read_run(last)
        before = content["config"]
        config["model"]["max_len"] = before["model"]["max_len"]  # until the data tells it
        check_same_run({**config, "trained_on": before["trained_on"]}, before, last)
    note = find_data(args, config)
    if note:
        print(note)
    check_folders(config["data"])
    loaders = {name: make_loader(config, tokenizer, name, args.device) for name in PARTITIONS}
    config["model"]["max_len"] = max(loader.dataset.text_max_len for loader in loaders.values())
    config["trained_on"] = {
        **describe_data(loaders["train"]), "val_sha256": describe_data(loaders["val"])["sha256"],
        "tokenizer_sha256": tokenizer.sha256,
    }
    if resume:
        check_same_run(config, before, last)
    trainer = new_trainer(args, config, tokenizer, loaders["train"])
    if resume:
        load_whole(trainer, content, last)
        forget_lost_best(trainer)
    return trainer, loaders, note


def configured(args: argparse.Namespace) -> dict:
    """The configuration that --config, --set and --epochs make."""
    config = load_config(args.config, args.set)
    if args.epochs:
        same = ("training.epochs", "scheduler.warmup.epochs", "scheduler.cosine.T_max")
        for setting in args.set or []:
            if setting.startswith(same):
                why = "both set it; leave one of them out"
                raise UserError(f"--epochs {args.epochs} --set {setting}: {why}")
        spread_epochs(config, args.epochs)
    return config


def new_trainer(
    args: argparse.Namespace, config: dict, tokenizer: H4Tokenizer, train_loader: DataLoader
) -> LMTrainer:
    """A trainer with a new model, its optimizer and schedule."""
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    trainer = make_trainer(config, tokenizer, args.run, args.device)
    trainer.optimizer = create_optimizer(trainer.model, config["optimizer"])
    accumulate = config["training"]["gradient_accumulation_steps"]
    trainer.scheduler = create_scheduler(
        trainer.optimizer, config["scheduler"], train_loader, accumulate
    )
    return trainer


def forget_lost_best(trainer: LMTrainer) -> None:
    """Where the best checkpoint of a run is gone, let that of the epochs to come be kept."""
    if trainer.training_history and not trainer.best_model_path.is_file():
        print(f"note: {trainer.best_model_path}: is gone; the best one from now on is kept there")
        trainer.best_metric = math.inf


def check_packages(config: dict) -> None:
    """Raise ImportError for a package that a training needs; a note for each that it can miss."""
    importlib.import_module("torchinfo")  # for model_arch.txt
    note_missing("matplotlib", "pictures of attention")
    if config["training"]["use_wandb"]:
        note_missing("wandb", "metrics at wandb")


def note_missing(package: str, what: str) -> None:
    """Say what there will not be, if a package is missing."""
    if importlib.util.find_spec(package) is None:
        print(f"note: no {what}, as this Python has no {package}; pip install {package}")


def check_settings(config: dict, tokenizer: H4Tokenizer, root: Path, device: str) -> None:
    """UserError for what model, optimizer or schedule refuse, tried on a model without numbers."""
    data = config["data"]
    files = sum(1 for _ in (root / data["train_partition"]).glob("*.npy"))
    batches = math.ceil(files / data["batch_size"])
    sizes = {**config["model"], "max_len": 1, "num_classes": tokenizer.vocab_size}
    with torch.device("meta"), contextlib.redirect_stdout(io.StringIO()):
        model = DecoderOnlyTransformer(**sizes)
        optimizer = create_optimizer(model, config["optimizer"])
        accumulate = config["training"]["gradient_accumulation_steps"]
        create_scheduler(optimizer, config["scheduler"], range(batches or 10**6), accumulate)
    parameters = sum(p.numel() for p in model.parameters())
    needed = 4 * 4 * parameters / 2**30  # weights, gradient and two moments in float32
    if device == "cpu" and needed > memory():
        raise UserError(
            f"{parameters:,} parameters take {needed:,.0f} GB in training, and there are "
            f"{memory():.0f}; make model.d_model, model.d_ff or model.num_layers smaller"
        )


def memory() -> float:
    """Gigabytes of this machine's memory; infinite where that is not told."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return math.inf


def spread_epochs(config: dict, epochs: int) -> None:
    """Train for so many epochs, with a schedule of that length.

    A quarter of it warm-up, if any, the rest cosine.
    """
    config["training"]["epochs"] = epochs
    warmup = config["scheduler"]["warmup"]
    warmup["epochs"] = epochs / 4
    config["scheduler"]["cosine"]["T_max"] = epochs - warmup["epochs"] * warmup["enabled"]


def read_run(path: Path) -> dict:
    """The content of a checkpoint. UserError if its configuration is not of this program."""
    content = read_checkpoint(path)
    content["config"] = complete_config(content.get("config"), str(path))
    return content


def check_same_run(config: dict, before: dict, path: Path) -> None:
    """UserError unless a run goes on with what it began with.

    How long it trains may change, and where data is.
    """

    def kept(c: dict) -> dict:
        accumulate = "gradient_accumulation_steps"
        return {
            **c, "Name": "", "training": {accumulate: c["training"][accumulate]},
            "data": {**c["data"], "root": "", "NUM_WORKERS": 0},
            "trained_on": {**c["trained_on"], "folder": "", "made_of": []},
        }

    difference = first_difference(kept(before), kept(config))
    if difference:
        how = "resume it as it was, or name a new --run"
        raise UserError(f"{path}: the run began otherwise, {difference} now; {how}")


def load_whole(trainer: LMTrainer, content: dict, path: Path) -> None:
    """Load the content of a checkpoint, of which every part has to fit."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".* is left out: .*")
        try:
            trainer.load_content(content, path)
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
    where = f"on {trainer.device} in {precision}"
    print(f"{size:,} parameters {where}, max_len {trainer.model.max_len}")
    epochs = config["training"]["epochs"]
    schedule = config["scheduler"]
    warmup = schedule["warmup"]
    length = schedule["cosine"]["T_max"] + warmup["epochs"] * warmup["enabled"]
    if schedule["name"] == "cosine" and length != epochs:
        made = f"the schedule is made for {length} epochs and the training for {epochs}"
        print(f"note: {made}; --epochs of a new run sets both")
    if trainer.current_epoch or trainer.progress:
        done = trainer.progress["batches"] if trainer.progress else 0
        print(f"going on after {trainer.current_epoch} epochs and {done} batches")


# ---- evaluate, generate, handin


def load_best(args: argparse.Namespace) -> LMTrainer:
    """A trainer with the best model of a run and all that it was made with; it writes nothing."""
    path = checkpoint_path(args.run, "best-metric")
    content = read_run(path)
    config = content["config"]
    config["training"]["use_wandb"] = False
    tokenizer = make_tokenizer(config)
    name = tokenizer.token_type
    if tokenizer.vocab_size != config["model"]["num_classes"]:
        raise UserError(
            f"{path}: made with {config['model']['num_classes']} tokens, but the tokenizer {name} "
            f"has {tokenizer.vocab_size} now; use the files that it was made with"
        )
    digest = tokenizer.sha256
    if digest != config["trained_on"].get("tokenizer_sha256", digest):
        why = f"the tokenizer {name} is not that of its training; put its file back, or train anew"
        raise UserError(f"{path}: {why}")
    if content["model_state_dict"]:  # else it is told below that there is nothing to load
        check_model(content["model_state_dict"], config["model"], str(path))
    model = DecoderOnlyTransformer(**config["model"])
    trainer = LMTrainer(model, tokenizer, config, args.run, None, args.device)
    load_whole(trainer, content, path)
    return trainer


def load_test(args: argparse.Namespace, trainer: LMTrainer) -> tuple[DataLoader, dict]:
    """The test split, and what is to be recorded of it and of the model beside the numbers."""
    config = trainer.config
    max_len = trainer.model.max_len
    if args.data:
        config["data"]["root"] = args.data
    loader = make_loader(config, trainer.tokenizer, "test", args.device)
    dataset = loader.dataset
    if dataset.text_max_len > max_len:
        longest = max(range(len(dataset)), key=lambda i: len(dataset.transcripts_shifted[i]))
        raise UserError(
            f"{Path(dataset.text_dir) / dataset.text_files[longest]}: {dataset.text_max_len} "
            f"tokens with SOS, but the model's max_len is {max_len}; cut it, or train with it in "
            "the data"
        )
    needed = {"ce_loss_char", "perplexity_char"}
    judged = [h for h in trainer.training_history if needed <= h.get("val", {}).keys()]
    if not judged:
        why = "it has no training_history; it is not of run_lm.py, train anew"
        raise UserError(f"{trainer.best_model_path}: {why}")
    best = min(judged, key=lambda h: h["val"]["ce_loss_char"])
    trained = {
        "run": args.run, "best_epoch": best["epoch"],
        "val_perplexity_char": best["val"]["perplexity_char"],
    }
    record = {
        "test_data": describe_data(loader), "trained_on": config["trained_on"], "model": trained,
    }
    return loader, record


def evaluate(args: argparse.Namespace) -> None:
    """Metrics of the best model on the test split, and text generated in three ways."""
    out = args.out or Path("evaluated") / args.run
    if Path("expts").resolve() in (out.resolve(), *out.resolve().parents):
        raise UserError(f"--out {out}: that is where runs are; choose another folder")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is there, and no folder; choose another")
    note_missing("matplotlib", "picture of attention")
    trainer = load_best(args)
    loader, record = load_test(args, trainer)
    out.mkdir(parents=True, exist_ok=True)
    trainer.attn_dir = trainer.text_dir = out
    metrics, maps = trainer._validate_epoch(loader)
    write_json(out / "test_metrics.json", {**metrics, **record})  # before the minutes of the texts
    trainer.show_evaluation(metrics, maps)
    for name, texts in trainer.generate_all(loader).items():
        print(printable(f"{name}: {texts[0]['prompt']} ... {texts[0]['generated']}"))
    print(f"numbers in {out / 'test_metrics.json'}, texts beside it")


def generate(args: argparse.Namespace) -> None:
    """Continue a prompt."""
    if args.method != "sample" and args.samples != 1:
        why = f"--method {args.method} gives the same text each time; use sample"
        raise UserError(f"--samples {args.samples}: {why}")
    trainer = load_best(args)
    tokenizer = trainer.tokenizer
    longest = max(map(len, tokenizer.tokenizer.get_vocab()))  # characters of a token
    if len(args.prompt) > longest * trainer.model.max_len:
        size, most = len(args.prompt), trainer.model.max_len
        raise UserError(f"--prompt: {size:,} characters, and the model takes {most} tokens; cut it")
    try:
        prompt = tokenizer.encode(transcribed(typed(args.prompt)))
    except UnicodeError:
        raise UserError("--prompt is not UTF-8; convert it") from None
    if not {tokenizer.pad_id, tokenizer.sos_id, tokenizer.eos_id}.isdisjoint(prompt):
        raise UserError("--prompt: it spells a special token, such as [EOS]; take it out")
    prompts = torch.tensor([[tokenizer.sos_id, *prompt]]).expand(args.samples, -1)
    settings = {
        **GENERATION, "temperature": args.temperature, "repeat_penalty": args.repeat_penalty,
        "seed": args.seed,
    }
    if args.method == "beam":
        settings["beam_width"] = args.beam_width
    if args.method == "sample":
        settings |= {"top_k": args.top_k, "top_p": args.top_p}
    sequences, scores = trainer.continue_prompts(prompts, settings)
    for sequence, score in zip(sequences, scores, strict=True):
        print(printable(tokenizer.decode(sequence.tolist(), skip_special_tokens=True)))
        new = len(sequence) - prompts.shape[1]
        end = "EOS" if sequence[-1] == tokenizer.eos_id else "max_len"
        print(f"-- {new} tokens, ended by {end}, log-probability {score:.2f}")


def handin(args: argparse.Namespace) -> None:
    """Evaluate the best model and pack what is handed in."""
    check_out(args.out)
    architecture = Path("expts") / args.run / "model_arch.txt"
    trainer = load_best(args)
    if not architecture.is_file():
        raise UserError(f"{architecture}: it is handed in, and not there; train anew")
    loader, record = load_test(args, trainer)
    metrics, _ = trainer._validate_epoch(loader)
    texts = trainer.generate(loader, trainer._get_evaluation_generation_configs()["greedy"])
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "test_metrics.json", {**metrics, **record})
        write_json(Path(folder) / "test_generated_results.json", texts)
        shown = {path.name: path for path in Path(folder).iterdir()}
        shown["model_arch.txt"] = architecture
        shown["mytorch"] = HERE / "mytorch"
        packed = pack("handin", shown)
    atomic_write(args.out, lambda file: file.write(packed))
    perplexity = metrics["perplexity_char"]
    measured = f"perplexity_char {perplexity:.4f} on {record['test_data']['folder']}"
    print(f"{args.out}: {measured}, {len(texts)} generated texts, mytorch/")
    if perplexity > 3.5:
        print("note: the course asks for 3.5 or less")


def check_out(out: Path) -> None:
    """UserError if a tar cannot be written there, or would replace something else."""
    if not out.parent.is_dir():
        why = f"there is no folder {out.parent}; make it, or choose another"
        raise UserError(f"--out {out}: {why}")
    if out.is_dir() or (out.exists() and not tarfile.is_tarfile(out)):
        raise UserError(f"--out {out}: is there, and no handin.tar; choose another")


def pack(top: str, paths: dict[str, Path]) -> bytes:
    """An uncompressed tar with the given files and folders in the folder `top`.

    What Python and macOS leave in folders is not packed.
    """

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
    parser = Parser(
        "run_lm.py", description=USAGE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run: Callable, what: str, data: str = "") -> Callable:
        """A command, with the flags of all commands; returns the function that adds others."""
        command_parser = commands.add_parser(run.__name__, help=what, description=what)
        command_parser.set_defaults(command=run)
        add = command_parser.add_argument
        what = "its files are in expts/NAME (default: lm)"
        add("--run", type=run_name, default="lm", metavar="NAME", help=what)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        what = "where it computes (default here: %(default)s)"
        add("--device", choices=("cpu", "cuda"), default=device, help=what)
        if data:
            what = f"the folder with train/, val/ and test/ (default: {data})"
            add("--data", metavar="DIR", help=what)
        return add

    add_train_flags(command(
        train, "Train a model, or go on with it.",
        "data.root of the configuration; the embedded stories where that is not there",
    ))
    of_training = "that of the training"
    add = command(evaluate, "Metrics of the best model on the test split, and texts.", of_training)
    what = "where numbers, texts and a picture go (default: evaluated/NAME)"
    add("--out", type=Path, metavar="DIR", help=what)
    add_generate_flags(command(generate, "Continue a prompt."))
    add = command(handin, "Evaluate the best model and pack what is handed in.", of_training)
    what = "what is handed in (default: %(default)s)"
    add("--out", type=Path, metavar="FILE", default=Path("handin.tar"), help=what)
    return parser.parse_args(argv)


def add_train_flags(add: Callable) -> None:
    what = "the configuration (default: config.yaml beside this file)"
    add("--config", default=SHIPPED, metavar="FILE", help=what)
    what = "replace one, as in model.num_layers=6 (default: none is replaced)"
    add("--set", metavar="KEY=VALUE", action="append", help=what)
    what = "epochs, 1/4 of them warm-up, then a cosine (default: training.epochs, no change)"
    add("--epochs", type=positive, metavar="N", help=what)
    what = "go on with a run as if it had never been stopped (default: training.resume)"
    add("--resume", action="store_true", help=what)
    what = "of the random numbers of training (default: %(default)s)"
    add("--seed", type=seed, default=0, help=what)


def add_generate_flags(add: Callable) -> None:
    what = "the beginning, A to Z and ' (default: none)"
    add("--prompt", metavar="TEXT", default="", help=what)
    methods = ("greedy", "beam", "sample")
    add("--method", choices=methods, default="greedy", help="(default: %(default)s)")
    what = "below 1 the probable is more probable (default: %(default)s)"
    add("--temperature", type=above_zero, default=1.0, help=what)
    what = "above 1 less repetition; not for sample (default: %(default)s)"
    add("--repeat-penalty", type=above_zero, default=1.0, help=what)
    what = "for beam (default: %(default)s)"
    add("--beam-width", type=positive, default=10, help=what)
    what = "for sample: draw from the k best, 0 for all (default: %(default)s)"
    add("--top-k", type=zero_or_more, default=0, help=what)
    what = "for sample: draw from the best that sum to this (default: %(default)s)"
    add("--top-p", type=share, default=1.0, help=what)
    what = "for sample: how many texts (default: %(default)s)"
    add("--samples", type=positive, default=1, help=what)
    what = "of what is drawn (default: %(default)s)"
    add("--seed", type=seed, default=0, help=what)


def run_name(text: str) -> str:
    if text.startswith(".") or text == "" or not set(text).isdisjoint("/\\\0"):
        why = "give a name without slashes or a dot before it: it is a folder in expts/"
        raise argparse.ArgumentTypeError(why)
    size = len(os.fsencode(text))
    if size > LONGEST_NAME:
        why = f"it has {size} bytes, and with .NAME.lock beside it a run's name has room for"
        raise argparse.ArgumentTypeError(f"{why} {LONGEST_NAME}; give a shorter one")
    return text


def flag_type(read: Callable, fits: Callable, hint: str) -> Callable:
    """The type of a flag: a number that `read` makes of the text, and that `fits`."""

    def parse(text: str):
        try:
            number = read(text)
        except ValueError:
            number = None
        if number is None or not fits(number):
            raise argparse.ArgumentTypeError(f"it is {text:.40}; give {hint}")
        return number

    return parse


positive = flag_type(int, lambda n: 1 <= n <= 10**6, "a whole number from 1 to 1,000,000")
zero_or_more = flag_type(int, lambda n: n >= 0, "a whole number, at least 0")
seed = flag_type(int, lambda n: 0 <= n < 2**63, "a whole number from 0 to 2^63 - 1")
above_zero = flag_type(float, lambda x: 0 < x < math.inf, "a number above 0")
share = flag_type(float, lambda x: 0 < x <= 1, "more than 0 and at most 1, which is no limit")


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit status of `guarded`."""
    # Large pages from Linux, read when the first tensors are made: fresh memory costs a fraction of
    # the time.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

    def run() -> None:
        args = parse_args(argv)
        if args.device == "cuda" and not torch.cuda.is_available():
            raise UserError("--device cuda: PyTorch finds no GPU here; use cpu")
        # What generate prints is all that it makes, so it ends when nobody reads that any more.
        lasting = contextlib.nullcontext() if args.command is generate else outlived_output()
        with lasting:
            args.command(args)

    smaller = "make data.batch_size, --beam-width, model.d_model or model.num_layers smaller"
    return guarded("run_lm.py", run, argv, smaller)


if __name__ == "__main__":
    sys.exit(main())
