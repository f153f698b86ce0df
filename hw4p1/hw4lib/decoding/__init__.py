"""Generating sequences, and the scorer that makes it fast."""

from .cached_scorer import CachedScorer
from .sequence_generator import SequenceGenerator

__all__ = ["CachedScorer", "SequenceGenerator"]
