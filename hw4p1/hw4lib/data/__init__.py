"""Text, tokens and batches."""

from .lm_dataset import LMDataset
from .tokenizer import H4Tokenizer
from .verify_dataloader import verify_dataloader

__all__ = ["H4Tokenizer", "LMDataset", "verify_dataloader"]
