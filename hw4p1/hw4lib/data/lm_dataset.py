"""Transcripts -> (input, target) pairs and batches of them (handout, section 5.1.2)."""

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from ..errors import TooShort, UserError
from ..progress import progress_bar
from ..reading import printable
from .npy_files import first_share, parse_transcript, read_transcript, transcript_files
from .tokenizer import H4Tokenizer, first_special


class LMDataset(Dataset):
    """The transcripts of a partition, all in memory: input `SOS w1 .. wn`, target `w1 .. wn EOS`.

    `config` has `root`, the folder of the partitions, and `subset`, the share of the files to take
    (the first ones by name); it may have more. UserError that names the file for data that is
    missing, damaged, or has characters which the tokenizer lacks.
    """

    def __init__(self, partition: str, config: dict, tokenizer: H4Tokenizer):
        self.partition = partition
        self.config = config
        self.tokenizer = tokenizer
        self.eos_token = tokenizer.eos_id
        self.sos_token = tokenizer.sos_id
        self.pad_token = tokenizer.pad_id

        self.text_dir = str(Path(config["root"]) / partition)
        self.text_files = self._list_files()
        self.transcripts_shifted: list[list[int]] = []  # SOS w1 .. wn
        self.transcripts_golden: list[list[int]] = []  # w1 .. wn EOS
        self.total_chars = 0
        self.total_tokens = 0  # without SOS and EOS
        self.text_max_len = 0  # of an input, which is that of its target
        digest = hashlib.sha256()
        print(printable(f"loading {len(self.text_files):,} transcripts from {self.text_dir}"))
        for name in progress_bar(self.text_files, title=printable(partition), disable=None):
            content = self._add(Path(self.text_dir) / name)
            digest.update(os.fsencode(name) + b"\0" + content)
        self.sha256 = digest.hexdigest()  # of the names and contents of all files
        self.avg_chars_per_token = self.total_chars / self.total_tokens if self.total_tokens else 0
        self.length = len(self.transcripts_shifted)

    def _list_files(self) -> list[str]:
        """The first `subset` of the file names of the partition, sorted."""
        folder = Path(self.text_dir)
        if not folder.is_dir():
            raise UserError(
                f"{folder}: no such folder; correct data.root or --data, or make it with "
                "make_data.py"
            )
        names = transcript_files(folder)
        subset = self.config["subset"]
        if not 0 < subset <= 1:
            raise UserError(f"data.subset {subset}: a share of the files is above 0 and at most 1")
        taken = first_share(names, subset)
        if not taken:
            raise UserError(
                f"{folder}: {subset} of its {len(names)} .npy files is none; add files or raise "
                "subset"
            )
        return taken

    def _add(self, path: Path) -> bytes:
        """Read a file and add its pair and its numbers; returns what is in it."""
        content = read_transcript(path)
        text = parse_transcript(content, path)
        try:
            tokens = self.tokenizer.encode(text)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        if not tokens:
            raise UserError(
                f"{path}: an empty transcript; remove the file, or make it again with make_data.py"
            )
        if special := first_special(text):
            raise UserError(f"{path}: it spells the special token {special}; take it out")
        self.transcripts_shifted.append([self.sos_token, *tokens])
        self.transcripts_golden.append([*tokens, self.eos_token])
        self.total_chars += len(text)
        self.total_tokens += len(tokens)
        self.text_max_len = max(self.text_max_len, len(tokens) + 1)
        return content

    def get_avg_chars_per_token(self) -> float:
        """Characters per token over the whole partition; SOS and EOS are not counted."""
        return self.avg_chars_per_token

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, idx: int) -> tuple[Tensor, Tensor]:
        """Input and target, both (T,) long."""
        shifted = torch.tensor(self.transcripts_shifted[idx])
        golden = torch.tensor(self.transcripts_golden[idx])
        return shifted, golden

    def collate_fn(self, batch: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs -> inputs (B, T), targets (B, T) and lengths (B,), all long.

        Inputs and targets are padded on the right.
        """
        shifted, golden = zip(*batch, strict=True)
        lengths = torch.tensor([len(item) for item in shifted])
        return (
            pad_sequence(shifted, batch_first=True, padding_value=self.pad_token),
            pad_sequence(golden, batch_first=True, padding_value=self.pad_token),
            lengths,
        )

    def sample_prompts(
        self, num_samples: int, prompt_length: int, seed: int | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Beginnings of random transcripts.

        (num_samples, 1 + prompt_length) long, each SOS and the first tokens.

        Also the transcripts themselves, each (T,) long with EOS and without SOS. They are drawn
        with replacement from NumPy's global generator, in the course's way, so that a seed means
        the same prompts; with a seed the generator is left as it was. Shorter transcripts than
        `prompt_length` are passed over; where that gives too few prompts a warning is printed,
        where none TooShort raised, a RuntimeError.
        """
        state = np.random.get_state()
        try:
            if seed is not None:
                np.random.seed(seed)
            chosen = self._draw(num_samples, prompt_length)
        finally:
            if seed is not None:
                np.random.set_state(state)
        if not chosen:
            raise TooShort(
                f"{self.text_dir}: no transcript with {prompt_length} tokens found; ask for less, "
                "or give longer transcripts with --data"
            )
        if len(chosen) < num_samples:
            print(
                f"warning: only {len(chosen)} of {num_samples} prompts with {prompt_length} tokens "
                "found"
            )
        prompts = torch.tensor([self.transcripts_shifted[i][: prompt_length + 1] for i in chosen])
        return prompts, [torch.tensor(self.transcripts_golden[i]) for i in chosen]

    def _draw(self, num_samples: int, prompt_length: int) -> list[int]:
        """Indices of transcripts that are long enough.

        They are from at most ten times as many draws as there are samples.
        """
        chosen: list[int] = []
        for _ in range(10 * num_samples):
            if len(chosen) == num_samples:
                break
            index = np.random.randint(0, len(self))
            if len(self.transcripts_golden[index]) > prompt_length:
                chosen.append(index)
        return chosen
