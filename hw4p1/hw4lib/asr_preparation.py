"""What run_asr.py does before a training: settings, data, and a trainer."""

import argparse
import contextlib
import io
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from .asr_schema import ASR
from .config import LM, idle_settings
from .data import H4Tokenizer
from .data.normalisation import check_norm
from .errors import UserError
from .model import EncoderDecoderTransformer
from .preparation import (
    begun,
    check_memory,
    check_packages,
    configured,
    device_of,
    equip,
    forget_lost_best,
    make_tokenizer,
    seed_all,
    write_config,
)
from .reading import printable
from .runs import (
    check_room,
    check_same_run,
    checkpoint_path,
    load_whole,
    read_last,
    read_run,
    refuse_to_replace,
)
from .speech_loaders import check_folders, describe_training, find_data, make_loaders
from .trainers import ASRTrainer
from .utils import create_optimizer, create_scheduler


def prepare(args: argparse.Namespace) -> tuple[ASRTrainer, dict[str, DataLoader], str]:
    """All that `train` needs: a trainer, loaders, and a note on the data.

    The trainer is at its beginning or where its run stopped. What can be wrong with the packages
    and the settings is told before any data is read.
    """
    config = configured(args, ASR)
    content = None
    if args.resume or config["training"]["resume"]:
        content = read_last(args.run, ASR)
        config = configured(args, ASR, content["config"] if content else begun(args.run, ASR))
    else:
        refuse_to_replace(args.run)
    last = checkpoint_path(args.run, "last-epoch")
    check_packages(config)
    for idle in idle_settings(args.set or [], config):
        print(printable(idle))
    args.device = args.device or device_of(content)
    tokenizer = make_tokenizer(config)
    config["model"] |= {"num_classes": tokenizer.vocab_size, "max_len": 1}
    check_settings(config, args, new=not content)
    if content:
        before = content["config"]
        config["model"]["max_len"] = before["model"]["max_len"]  # until the data tells it
        check_same_run({**config, "trained_on": before["trained_on"]}, before, last)
    note = find_data(args.data, config)
    if note:
        print(note)
    check_folders(config["data"])
    loaders = make_loaders(config, tokenizer, args.device)
    datasets = [loader.dataset for loader in loaders.values()]
    config["model"]["max_len"] = max(max(d.feat_max_len, d.text_max_len + 1) for d in datasets)
    config["trained_on"] = describe_training(loaders, tokenizer, args.decoder)
    if content:
        config["trained_on"]["decoder"] = before["trained_on"]["decoder"]
        check_same_run(config, before, last)
    seed_all(config)
    trainer = make_trainer(config, tokenizer, args)
    equip(trainer, loaders["train"])
    if content:
        load_whole(trainer, content, last)
        forget_lost_best(trainer)
    return trainer, loaders, note


def check_settings(config: dict, args: argparse.Namespace, new: bool) -> None:
    """UserError for what model, optimizer or schedule refuse, tried on a model without numbers.

    Or if there is too little memory for it, or for a new run too little room on the disk.
    """
    check_bins(config)
    check_norm(config["data"]["norm"])
    with torch.device("meta"), contextlib.redirect_stdout(io.StringIO()):
        model = EncoderDecoderTransformer(**config["model"])
        optimizer = create_optimizer(model, config["optimizer"])
        accumulate = config["training"]["gradient_accumulation_steps"]
        create_scheduler(optimizer, config["scheduler"], range(10**6), accumulate)
    parameters = sum(p.numel() for p in model.parameters())
    check_memory(parameters, args.device)
    if new:
        check_room(parameters)
    if args.decoder is not None and not args.decoder.is_file():
        raise UserError(f"--decoder {args.decoder}: no such checkpoint; train it with run_lm.py")


def check_bins(config: dict) -> None:
    """UserError if the model is not made for the features."""
    bins, wanted = config["data"]["num_feats"], config["model"]["input_dim"]
    if bins != wanted:
        raise UserError(f"model.input_dim is {wanted}, data.num_feats is {bins}; set both alike")


def make_trainer(config: dict, tokenizer: H4Tokenizer, args: argparse.Namespace) -> ASRTrainer:
    """A trainer with a new model of `config`, whose decoder may begin as a language model."""
    if args.decoder is None:
        model = EncoderDecoderTransformer(**config["model"])
    else:
        check_tokenizer(args.decoder, tokenizer)
        model, groups = EncoderDecoderTransformer.from_pretrained_decoder(
            args.decoder, config["model"]
        )
        size = sum(p.numel() for _, p in groups["transferred"])
        print(f"the decoder begins with {size:,} parameters of {args.decoder}")
    path = write_config(config, args.run)
    return ASRTrainer(model, tokenizer, config, args.run, path, args.device)


def check_tokenizer(path: Path, tokenizer: H4Tokenizer) -> dict:
    """The content of a language model's checkpoint. UserError if it has other tokens."""
    content = read_run(path, LM)
    theirs = content["config"]["trained_on"].get("tokenizer_sha256", tokenizer.sha256)
    kind = content["config"]["tokenization"]["token_type"]
    if theirs != tokenizer.sha256 or kind != tokenizer.token_type:
        raise UserError(
            f"{path}: its tokens are those of {kind}, not the recogniser's ({tokenizer.token_type})"
            "; train it with the same tokenization"
        )
    return content
