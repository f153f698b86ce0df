#!/usr/bin/env python3
"""The command line of the transformer language model."""

import argparse
import contextlib
import io
import json
import math
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # which `python -P` leaves out

from hw4lib.entry import guarded, importing
from hw4lib.errors import Stopped, UserError
from hw4lib.files import atomic_write, write_json
from hw4lib.lock import exclusive
from hw4lib.output import outlived_output
from hw4lib.reading import printable

with importing("run_lm.py"):
    import torch
    from hw4lib.config import LM, idle_settings, load_config
    from hw4lib.data import H4Tokenizer, LMDataset
    from hw4lib.data.length_order import LengthOrder
    from hw4lib.data.npy_files import RECORD, made_of, make_sample, transcript_files
    from hw4lib.data.raw_text import typed
    from hw4lib.data.text import transcribed
    from hw4lib.data.tokenizer import first_special, without_special
    from hw4lib.flags import idle_flags, make_parser, take_prompt
    from hw4lib.handin import TOO_MUCH, Seen, check_out, pack, seen_before
    from hw4lib.model import DecoderOnlyTransformer
    from hw4lib.preparation import (
        HERE,
        begun,
        check_memory,
        check_packages,
        configured,
        default_device,
        device_of,
        equip,
        forget_lost_best,
        loaded_trainer,
        locate,
        make_tokenizer,
        note_missing,
        print_schedule,
        seed_all,
        write_config,
    )
    from hw4lib.runs import (
        RUNS,
        check_room,
        check_same_run,
        checkpoint_path,
        load_whole,
        read_best,
        read_last,
        read_run,
        refuse_to_replace,
        resume_command,
    )
    from hw4lib.trainers import LMTrainer
    from hw4lib.trainers.lm_trainer import GENERATION
    from hw4lib.utils import create_optimizer, create_scheduler
    from torch.utils.data import DataLoader

USAGE = """Train, evaluate and use the transformer language model.

    python run_lm.py train                                   # what config.yaml says, into expts/lm/
    python run_lm.py train --run small --epochs 4 --set tokenization.token_type=1k
    python run_lm.py train --resume                          # go on with what was stopped
    python run_lm.py evaluate                                # on the test split; generated text
    python run_lm.py generate "THE OLD MAN" --method sample --top-k 10
    python run_lm.py handin                                  # handin.tar: mytorch/ and results

Data is a folder with train/, val/ and test/ of .npy transcripts, which make_data.py makes of any
text. It is that of --data, else `data.root` of the configuration, else the stories that are
embedded in this repository. Before any training `generate` and `evaluate` use the model that is
in shipped/.
"""
PARTITIONS = ("train", "val", "test")
SHIPPED_MODEL = HERE / "shipped" / "stories.pth"  # which ship_model.py makes
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
    sample = HERE / "build" / "sample"
    root = Path(args.data or locate(config["data"]["root"]))
    if root.is_dir():
        return root
    if args.data or root not in (locate(default), sample):
        why = "no such folder of data; correct it, or make it with make_data.py"
        raise UserError(f"{root}: {why}")
    return sample


def check_folders(data: dict) -> None:
    """UserError for the first partition that is not there."""
    for name in PARTITIONS:
        folder = Path(data["root"]) / data[f"{name}_partition"]
        if not folder.is_dir():
            why = "no such folder; correct data.root or --data, or make it with make_data.py"
            raise UserError(f"{folder}: {why}")


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
    return LMTrainer(model, tokenizer, config, run, write_config(config, run), device)


# ---- train


def train(args: argparse.Namespace) -> None:
    """Train a model, or go on with it."""
    with exclusive(RUNS / args.run, "name another with --run"):
        trainer, loaders, note = prepare(args)
        with trainer.stopping_on_signals():  # from the moment when a person sees that it begins
            print_plan(trainer, loaders)
            epochs = trainer.config["training"]["epochs"] - trainer.current_epoch
            try:
                trainer.train(loaders["train"], loaders["val"], epochs)
            except Stopped as stopped:
                raise Stopped(*stopped.args, *resume_command(args.run)) from None
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
    config = configured(args, LM)
    content = None
    if args.resume or config["training"]["resume"]:
        content = read_last(args.run)
        config = configured(args, LM, content["config"] if content else begun(args.run, LM))
    else:
        refuse_to_replace(args.run)
    last = checkpoint_path(args.run, "last-epoch")
    check_packages(config)
    for idle in idle_settings(args.set or [], config):
        print(printable(idle))
    args.device = args.device or device_of(content)
    tokenizer = make_tokenizer(config)
    check_settings(config, tokenizer, data_root(args, config), args.device, new=not content)
    config["model"]["num_classes"] = tokenizer.vocab_size
    if content:
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
    if content:
        check_same_run(config, before, last)
    trainer = new_trainer(args, config, tokenizer, loaders["train"])
    if content:
        load_whole(trainer, content, last)
        forget_lost_best(trainer)
    return trainer, loaders, note


def new_trainer(
    args: argparse.Namespace, config: dict, tokenizer: H4Tokenizer, train_loader: DataLoader
) -> LMTrainer:
    """A trainer with a new model, its optimizer and schedule."""
    seed_all(config)
    trainer = make_trainer(config, tokenizer, args.run, args.device)
    equip(trainer, train_loader)
    return trainer


def check_settings(
    config: dict, tokenizer: H4Tokenizer, root: Path, device: str, new: bool
) -> None:
    """UserError for what model, optimizer or schedule refuse, tried on a model without numbers.

    Or if there is too little memory for it, or for a new run too little room on the disk.
    """
    data = config["data"]
    files = transcript_files(root / data["train_partition"])
    batches = math.ceil(len(files) / data["batch_size"])
    sizes = {**config["model"], "max_len": 1, "num_classes": tokenizer.vocab_size}
    with torch.device("meta"), contextlib.redirect_stdout(io.StringIO()):
        model = DecoderOnlyTransformer(**sizes)
        optimizer = create_optimizer(model, config["optimizer"])
        accumulate = config["training"]["gradient_accumulation_steps"]
        create_scheduler(optimizer, config["scheduler"], range(batches or 10**6), accumulate)
    parameters = sum(p.numel() for p in model.parameters())
    check_memory(parameters, device)
    if new:
        check_room(parameters)


def print_plan(trainer: LMTrainer, loaders: dict[str, DataLoader]) -> None:
    """What is about to be trained, on what."""
    for name, loader in loaders.items():
        data = loader.dataset
        tokens = f"{data.total_tokens:,} tokens of {data.avg_chars_per_token:.2f} characters"
        print(f"{name}: {len(data):,} transcripts, {tokens}")
    print_schedule(trainer, len(loaders["train"]))


# ---- evaluate, generate, handin


def choose_model(args: argparse.Namespace) -> Path:
    """The best checkpoint of a run, or the shipped one where no run is named and none is there.

    The run's name is set to what it is.
    """
    if args.run is None and not (RUNS / "lm").exists():
        args.run = "shipped"
        print(f"note: the shipped model, as there is no run {RUNS / 'lm'}; `train` makes it")
        return SHIPPED_MODEL
    args.run = args.run or "lm"
    return checkpoint_path(args.run, "best-metric")


def load_best(args: argparse.Namespace, path: Path) -> LMTrainer:
    """A trainer with the model of a checkpoint and all that it was made with; it writes nothing."""
    content = read_run(path) if path == SHIPPED_MODEL else read_best(args.run)
    return loaded_trainer(content, path, args.run, args.device, DecoderOnlyTransformer, LMTrainer)


def load_test(args: argparse.Namespace, trainer: LMTrainer) -> tuple[DataLoader, dict]:
    """The test split, and what is to be recorded of it and of the model beside the numbers."""
    config = trainer.config
    max_len = trainer.model.max_len
    data = {**config["data"], "root": args.data or config["data"]["root"]}
    loader = make_loader({**config, "data": data}, trainer.tokenizer, "test", args.device)
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
    best = judged[-1]  # when it was saved
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
    path = choose_model(args)
    out = args.out or Path("evaluated") / args.run
    if RUNS.resolve() in (out.resolve(), *out.resolve().parents):
        raise UserError(f"--out {out}: that is where runs are; choose another folder")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is there, and no folder; choose another")
    note_missing("matplotlib", "picture of attention")
    trainer = load_best(args, path)
    if path == SHIPPED_MODEL and (note := find_data(args, trainer.config)):
        print(note)
    loader, record = load_test(args, trainer)
    if path == SHIPPED_MODEL:
        print(measured(record["test_data"]))
    if seen := look_for_training(loader.dataset, trainer.config).what:
        print(printable(f"note: {seen}"))
    out.mkdir(parents=True, exist_ok=True)
    trainer.attn_dir = trainer.text_dir = out
    metrics, maps = trainer._validate_epoch(loader)
    write_json(out / "test_metrics.json", {**metrics, **record})  # before the minutes of the texts
    trainer.show_evaluation(metrics, maps)
    for name, texts in trainer.generate_all(loader).items():
        first = f"{texts[0]['prompt']} ... {texts[0]['generated'].strip()}"
        print(printable(f"{name}: {without_special(first)}"))
    print(f"numbers in {out / 'test_metrics.json'}, texts beside it")


def measured(test_data: dict) -> str:
    """On which transcripts the shipped model was measured, and whether these are the same."""
    card = json.loads(SHIPPED_MODEL.with_suffix(".json").read_text("utf-8"))
    data = card["test_data"]
    others = "these" if data["sha256"] == test_data["sha256"] else "others than these"
    return (
        f"note: the shipped model was measured on {data['transcripts']:,} transcripts of "
        f"{', '.join(data['made_of'])}, {others}: perplexity_char "
        f"{card['test']['perplexity_char']:.4f}"
    )


def generate(args: argparse.Namespace) -> None:
    """Continue a prompt."""
    take_prompt(args)
    for idle in idle_flags(args):
        print(idle)
    trainer = load_best(args, choose_model(args))
    tokenizer = trainer.tokenizer
    longest = max(map(len, tokenizer.tokenizer.get_vocab()))  # characters of a token
    if len(args.prompt) > longest * trainer.model.max_len:
        size, most = len(args.prompt), trainer.model.max_len
        raise UserError(f"--prompt: {size:,} characters, and the model takes {most} tokens; cut it")
    try:
        text = transcribed(typed(args.prompt))
        prompt = tokenizer.encode(text)
    except UnicodeError:
        raise UserError("--prompt is not UTF-8; convert it") from None
    if special := first_special(text):
        raise UserError(f"--prompt: it spells the special token {special}; take it out")
    prompts = torch.tensor([[tokenizer.sos_id, *prompt]]).expand(args.samples, -1)
    settings = {
        **GENERATION, "temperature": args.temperature, "repeat_penalty": args.repeat_penalty,
        "seed": args.seed, "max_new_tokens": args.max_new_tokens,
    }
    if args.method == "beam":
        settings["beam_width"] = args.beam_width
    if args.method == "sample":
        settings |= {"top_k": args.top_k, "top_p": args.top_p}
    sequences, scores = trainer.continue_prompts(prompts, settings)
    for sequence, score in zip(sequences, scores, strict=True):
        print(printable(tokenizer.decode(sequence.tolist(), skip_special_tokens=True)))
        new = len(sequence) - prompts.shape[1]
        end = "--max-new-tokens" if new == args.max_new_tokens else "max_len"
        if sequence[-1] == tokenizer.eos_id:
            end = "EOS"
        print(f"-- {new} tokens, ended by {end}, log-probability {score:.2f}")


def handin(args: argparse.Namespace) -> None:
    """Evaluate the best model and pack what is handed in."""
    check_out(args.out)
    architecture = RUNS / args.run / "model_arch.txt"
    trainer = load_best(args, checkpoint_path(args.run, "best-metric"))
    if not architecture.is_file():
        raise UserError(f"{architecture}: it is handed in, and not there; train anew")
    loader, record = load_test(args, trainer)
    check_unseen(loader.dataset, trainer.config)
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


def look_for_training(test: LMDataset, config: dict) -> Seen:
    """What the training of that configuration has seen of its test."""
    data = config["data"]
    folder = Path(data["root"]) / data["train_partition"]
    return seen_before(test, config["trained_on"], folder, data["subset"])


def check_unseen(test: LMDataset, config: dict) -> None:
    """UserError if a model was trained on what it is tested on, a note on anything less."""
    seen = look_for_training(test, config)
    if seen.share >= TOO_MUCH:
        why = "give other text to test on with --data, or train on other"
        raise UserError(f"{test.text_dir}: {seen.what}; {why}")
    if seen.what:
        print(printable(f"note: {seen.what}"))


# ---- The command line


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    commands = {run.__name__: run for run in (train, evaluate, generate, handin)}
    args = make_parser(USAGE, commands, default_device()).parse_args(argv)
    if args.command is not train:  # which may resume a run on the device that it had
        args.device = args.device or default_device()
    return args


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
