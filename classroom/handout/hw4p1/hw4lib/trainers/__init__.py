"""Training and evaluation, with what they write."""

from .base_trainer import BaseTrainer
from .lm_trainer import LMTrainer

__all__ = ["BaseTrainer", "LMTrainer"]
