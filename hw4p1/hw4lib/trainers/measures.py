"""Perplexities, and character and word error rates of recognised texts."""

import math


def error_rates(references: list[str], hypotheses: list[str]) -> dict[str, float]:
    """Per cent of characters and of words that are wrong, over all texts together.

    `cer` is 100 times the sum of edit distances over the sum of the references' lengths, spaces
    counted, `wer` the same of words; both may exceed 100. `word_dist` is, whatever its name says,
    the mean distance in characters of a text. Where the references are empty, one character or word
    is taken for their length.
    """
    from jiwer import process_characters, process_words, transforms

    whole = transforms.Compose([transforms.ReduceToListOfListOfChars()])  # its default strips
    characters = process_characters(references, hypotheses, whole, whole)
    words = process_words(references, hypotheses)
    return {
        "word_dist": _errors(characters) / max(1, len(references)),
        "wer": 100 * _errors(words) / max(1, _length(words)),
        "cer": 100 * _errors(characters) / max(1, _length(characters)),
    }


def _errors(output) -> int:
    return output.substitutions + output.insertions + output.deletions


def _length(output) -> int:
    return output.hits + output.substitutions + output.deletions


def perplexity(nats: float) -> float:
    """exp(nats), infinite where that is too large for a number."""
    return math.exp(nats) if nats < 700 else math.inf
