"""Generating sequences, and the scorer that makes it fast."""

from hw4lib.decoding.cached_scorer import CachedScorer
from hw4lib.decoding.sequence_generator import SequenceGenerator

__all__ = ["CachedScorer", "SequenceGenerator"]
