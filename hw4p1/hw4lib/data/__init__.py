"""Text, speech, tokens and batches."""

from .asr_dataset import ASRDataset
from .lm_dataset import LMDataset
from .tokenizer import H4Tokenizer
from .verify_dataloader import verify_dataloader

__all__ = ["ASRDataset", "H4Tokenizer", "LMDataset", "verify_dataloader"]
