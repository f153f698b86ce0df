"""Generating sequences, and the scorers that make it fast."""

from .cached_scorer import CachedScorer, StoppableScorer
from .ctc_prefix import CTCPrefixScorer
from .sequence_generator import SequenceGenerator
from .speech_scorer import FusedScorer, SpeechScorer

__all__ = [
    "CTCPrefixScorer", "CachedScorer", "FusedScorer", "SequenceGenerator", "SpeechScorer",
    "StoppableScorer",
]
