"""Training and evaluation, with what they write."""

from ..errors import Stopped
from .asr_trainer import ASRTrainer
from .base_trainer import BaseTrainer
from .lm_trainer import LMTrainer
from .progressive_trainer import ProgressiveTrainer

__all__ = ["ASRTrainer", "BaseTrainer", "LMTrainer", "ProgressiveTrainer", "Stopped"]
