"""The data of run_asr.py: where it is, its loaders, and what a checkpoint keeps of it."""

from pathlib import Path

import torch
from torch.utils.data import DataLoader

from .asr_schema import ASR
from .config import load_config
from .data import ASRDataset, H4Tokenizer
from .data.length_order import LengthOrder
from .data.normalisation import Stats
from .data.npy_files import RECORD, made_of
from .data.speech import described, make_speech
from .errors import UserError
from .preparation import HERE, locate

PARTITIONS = ("train", "val", "test")
MADE = HERE / "build" / "speech"  # where no other data is


def data_root(given: str | None, config: dict) -> Path:
    """The folder of the data; that of the speech that is made here may have to be made."""
    default = load_config(ASR.shipped, schema=ASR)["data"]["root"]
    root = Path(given or locate(config["data"]["root"]))
    if root.is_dir():
        return root
    if given or root not in (locate(default), MADE):
        raise UserError(f"{root}: no such folder of data; correct it, or see make_speech.py -h")
    return MADE


def find_data(given: str | None, config: dict) -> str:
    """Set `data.root` to where the data is; speech is made first, if there is none.

    Returns what is to be said of it, which is mostly nothing.
    """
    root = data_root(given, config)
    config["data"]["root"] = str(root)
    if root != MADE:
        return ""
    if not root.exists():
        print(f"no data: making {described()}, in {root}")
        make_speech(root, None, {name: config["data"][f"{name}_partition"] for name in PARTITIONS})
    what = made_of(root / RECORD, config["data"]["train_partition"])
    made = f"note: there is no other data; this is {', '.join(what)}"
    return f"{made}: error rates on it mean only that the program works"


def check_folders(data: dict) -> None:
    """UserError for the first partition that is not there."""
    for name in PARTITIONS:
        folder = Path(data["root"]) / data[f"{name}_partition"] / "fbank"
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; correct data.root or --data")
    for name in PARTITIONS[:2]:
        folder = Path(data["root"]) / data[f"{name}_partition"] / "text"
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; {name} needs transcripts")


def make_loader(
    config: dict, tokenizer: H4Tokenizer, partition: str, device: str, stats: Stats | None = None
) -> DataLoader:
    """Batches of a partition (train, val or test) with utterances of similar length.

    In random order for train. `stats` are those of the training set, for the others.
    """
    data, training = config["data"], partition == "train"
    dataset = ASRDataset(data[f"{partition}_partition"], data, tokenizer, training, stats)
    order = LengthOrder(dataset.feat_lengths, data["batch_size"], training)
    gpu = device == "cuda"
    return DataLoader(
        dataset, batch_size=data["batch_size"], sampler=order, collate_fn=dataset.collate_fn,
        pin_memory=gpu, num_workers=data["NUM_WORKERS"] if gpu else 0,
    )


def make_loaders(config: dict, tokenizer: H4Tokenizer, device: str) -> dict[str, DataLoader]:
    """The loaders of all three."""
    train = make_loader(config, tokenizer, "train", device)
    stats = train.dataset.stats
    others = {
        name: make_loader(config, tokenizer, name, device, stats) for name in PARTITIONS[1:]
    }
    return {"train": train, **others}


def describe_data(loader: DataLoader) -> dict:
    """Which utterances a loader has: folder, counts, digest, what they are made of if known."""
    dataset = loader.dataset
    folder = Path(dataset.fbank_dir).parent
    return {
        "folder": "/".join(folder.parts[-2:]),
        "made_of": made_of(folder.parent / RECORD, dataset.partition),
        "utterances": len(dataset), "frames": sum(dataset.feat_lengths),
        "characters": dataset.total_chars, "tokens": dataset.total_tokens,
        "sha256": dataset.sha256,
    }


def describe_training(
    loaders: dict[str, DataLoader], tokenizer: H4Tokenizer, decoder: Path | None
) -> dict:
    """What a checkpoint keeps of the training's data, to know it again and to recognise with it."""
    train, val = loaders["train"].dataset, loaders["val"].dataset
    mean, std = train.stats or ([], [])
    return {
        **describe_data(loaders["train"]),
        "longest_text": max(train.text_max_len, val.text_max_len) + 1,  # with SOS and EOS
        "mean": [float(value) for value in mean], "std": [float(value) for value in std],
        "decoder": decoder.name if decoder else "", "val_sha256": val.sha256,
        "tokenizer_sha256": tokenizer.sha256,
    }


def stats_of(config: dict, path: Path) -> Stats | None:
    """Mean and standard deviation of the training set in a checkpoint's configuration, if any."""
    if config["data"]["norm"] != "global_mvn":
        return None
    lists = config["trained_on"]["mean"], config["trained_on"]["std"]
    bins = config["data"]["num_feats"]
    if not all(len(one) == bins and {*map(type, one)} == {float} for one in lists):
        raise UserError(f"{path}: its mean and std are not {bins} numbers each; train anew")
    return torch.tensor(lists[0]), torch.tensor(lists[1])


def check_lengths(dataset: ASRDataset, max_len: int) -> None:
    """UserError that names an utterance which is longer than a model takes."""
    longest = max(range(len(dataset)), key=lambda i: dataset.feat_lengths[i])
    frames = dataset.feat_lengths[longest]
    if frames > max_len:
        raise UserError(
            f"{dataset.feats.paths[longest]}: {frames:,} frames, but the model's max_len is "
            f"{max_len:,}; cut it, or train with it in the data"
        )
