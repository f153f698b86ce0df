"""Utterances and their transcripts -> batches, for speech recognition."""

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from ..errors import UserError
from ..progress import progress_bar
from ..reading import printable
from .feature_files import SILENCE, FeatureFiles, checked
from .lm_dataset import LMDataset
from .normalisation import Moments, Stats, check_norm, normalised
from .npy_files import transcript_files
from .spec_augment import SpecAugment
from .tokenizer import H4Tokenizer

Item = tuple[Tensor, Tensor | None, Tensor | None]
Batch = tuple[Tensor, Tensor | None, Tensor | None, Tensor, Tensor | None]


class ASRDataset(Dataset):
    """A partition: filter banks in `fbank/`, and transcripts of the same names in `text/`, if any.

    `config` is the section `data`, of which root, subset, num_feats, norm, specaug and
    specaug_conf are read. `global_stats` are mean and standard deviation (num_feats,) of the
    training set, for the norm `global_mvn`; the training partition finds them itself, over all of
    its frames, where they are not given. Each file is read once for that, and verified.

    UserError (a ValueError) that names the file for data that is missing, damaged, not of the
    expected shape, or for a transcript without features and the reverse.
    """

    def __init__(
        self, partition: str, config: dict, tokenizer: H4Tokenizer, isTrainPartition: bool,
        global_stats: Stats | None = None,
    ):
        self.partition = partition
        self.config = config
        self.tokenizer = tokenizer
        self.isTrainPartition = isTrainPartition
        self.eos_token = tokenizer.eos_id
        self.sos_token = tokenizer.sos_id
        self.pad_token = tokenizer.pad_id
        self.norm = config["norm"]
        check_norm(self.norm)
        if self.norm == "global_mvn" and global_stats is None and not isTrainPartition:
            raise UserError(
                f"{partition}: data.norm global_mvn needs the training set's mean and standard "
                "deviation; give them as global_stats"
            )
        self._find_files()
        self._load_texts()
        moments = self._load_features()
        self.stats = None
        if self.norm == "global_mvn":
            self.stats = global_stats or moments.stats()
            self.global_mean, self.global_std = self.stats
            self._check_stats()
        self.fill = SILENCE if self.norm == "none" else 0.0  # in padding and masks
        self.augment = None
        if config["specaug"]:
            self.augment = SpecAugment(config["specaug_conf"])
            self.time_mask, self.freq_mask = self.augment.time_mask, self.augment.freq_mask

    def _find_files(self) -> None:
        """The names of the files, the first `subset` of each folder."""
        folder = Path(self.config["root"]) / self.partition
        self.fbank_dir = str(folder / "fbank")
        if not Path(self.fbank_dir).is_dir():
            raise UserError(f"{self.fbank_dir}: no such folder; correct data.root or --data")
        names = transcript_files(Path(self.fbank_dir))
        self.has_text = (folder / "text").is_dir()
        if self.has_text:
            self.text_dir = str(folder / "text")
            self._check_pairs(names)
        subset = self.config["subset"]
        if not 0 < subset <= 1:
            raise UserError(f"data.subset {subset}: a share of the files is above 0 and at most 1")
        # Rounded first: 0.29 * 100 is 28.999999999999996.
        self.fbank_files = names[: int(round(subset * len(names), 9))]
        if not self.fbank_files:
            raise UserError(
                f"{self.fbank_dir}: {subset} of its {len(names)} .npy files is none; add files or "
                "raise subset"
            )
        self.length = len(self.fbank_files)

    def _check_pairs(self, names: list[str]) -> None:
        """UserError for the first utterance that has no transcript, or the reverse."""
        features = {name.split(".")[0] for name in names}
        texts = {name.split(".")[0] for name in transcript_files(Path(self.text_dir))}
        if features != texts:
            first = min(features ^ texts)
            has, lacks = ("features", "transcript") if first in features else ("text", "features")
            counts = f"{len(features):,} with features, {len(texts):,} with transcripts"
            raise UserError(
                f"{Path(self.fbank_dir).parent}: {first} has {has} but no {lacks} ({counts}); "
                "add or remove it"
            )

    def _load_texts(self) -> None:
        """The transcripts, as an LMDataset has them; none of a partition without text."""
        self.transcripts_shifted: list[list[int]] = []  # SOS w1 .. wn
        self.transcripts_golden: list[list[int]] = []  # w1 .. wn EOS
        self.total_chars = self.total_tokens = self.text_max_len = 0
        self.avg_chars_per_token, self.text_sha256 = 0.0, ""
        if not self.has_text:
            return
        texts = LMDataset(str(Path(self.partition) / "text"), self.config, self.tokenizer)
        self.text_files = texts.text_files
        self.transcripts_shifted = texts.transcripts_shifted
        self.transcripts_golden = texts.transcripts_golden
        self.total_chars, self.total_tokens = texts.total_chars, texts.total_tokens
        self.avg_chars_per_token, self.text_max_len = texts.avg_chars_per_token, texts.text_max_len
        self.text_sha256 = texts.sha256

    def _load_features(self) -> Moments:
        """Map the features, read each once: statistics, digest, and whether all are numbers."""
        folder = Path(self.fbank_dir)
        self.feats = FeatureFiles(
            [folder / name for name in self.fbank_files], self.config["num_feats"]
        )
        self.feat_lengths = self.feats.frames
        self.feat_max_len = max(self.feat_lengths)
        moments, digest = Moments(self.config["num_feats"]), hashlib.sha256()
        print(printable(f"reading {self.length:,} utterances from {folder}"))
        title = printable(self.partition)
        for path, features in zip(
            self.feats.paths, progress_bar(self.feats, title=title, disable=None), strict=True
        ):
            moments.add(checked(features, path))
            digest.update(os.fsencode(path.name) + b"\0" + np.ascontiguousarray(features).data)
        digest.update(self.text_sha256.encode())
        self.sha256 = digest.hexdigest()  # of the names and contents of all files
        return moments

    def _check_stats(self) -> None:
        """UserError unless the statistics are those of so many bins."""
        bins = self.config["num_feats"]
        for stat in self.stats:
            if stat.shape != (bins,) or not stat.isfinite().all():
                raise UserError(f"global_stats: not {bins} finite numbers each; give the training")

    def get_avg_chars_per_token(self) -> float:
        """Characters per token over the whole partition; SOS and EOS are not counted."""
        return self.avg_chars_per_token

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, idx: int) -> Item:
        """Normalised features (num_feats, T) float32; input and target, both (L,) long or None."""
        features = torch.from_numpy(np.array(self.feats[idx], dtype=np.float32))
        features = normalised(features, self.norm, self.stats)
        if not self.has_text:
            return features, None, None
        shifted = torch.tensor(self.transcripts_shifted[idx])
        return features, shifted, torch.tensor(self.transcripts_golden[idx])

    def collate_fn(self, batch: list[Item]) -> Batch:
        """Utterances -> features (B, T, num_feats), inputs and targets (B, L), two lengths (B,).

        Time is the second dimension here. Inputs, targets and their lengths are None without text.
        SpecAugment is for the training partition alone.
        """
        feats, shifted, golden = zip(*batch, strict=True)
        feat_lengths = torch.tensor([item.shape[1] for item in feats])
        rows = [item.T for item in feats]
        padded = pad_sequence(rows, batch_first=True, padding_value=self.fill)
        if self.augment and self.isTrainPartition:
            padded = self.augment(padded, feat_lengths, self.fill)
        if not self.has_text:
            return padded, None, None, feat_lengths, None
        return (
            padded,
            pad_sequence(shifted, batch_first=True, padding_value=self.pad_token),
            pad_sequence(golden, batch_first=True, padding_value=self.pad_token),
            feat_lengths,
            torch.tensor([len(item) for item in shifted]),
        )
