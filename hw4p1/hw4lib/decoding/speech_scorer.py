"""Scoring the next token of a transcript: the utterance's frames, tokens so far, a text model."""

from torch import Tensor

from ..model import DecoderOnlyTransformer, EncoderDecoderTransformer
from .cached_scorer import CachedScorer


class Listener:
    """The decoder of a model with the frames of a batch of utterances, whose keys are made once.

    `max_length` is that of the transcripts, which bounds the memory of their keys and values.
    """

    def __init__(
        self, model: EncoderDecoderTransformer, encoder_output: Tensor, pad_mask: Tensor,
        max_length: int,
    ):
        self.model, self.pad_mask = model, pad_mask
        self.max_len = min(max_length, model.max_len)
        self.dec_layers = model.dec_layers[: model.num_decoder_layers]
        self.memories = model.memories(encoder_output)

    def score_after(self, caches: list, tokens: Tensor, start: int) -> Tensor:
        return self.model.score_after(caches, tokens, start, self.memories, self.pad_mask)


class SpeechScorer(CachedScorer):
    """A `score_fn` for SequenceGenerator: the results of `model.score` for a batch of utterances.

    Frames (B, T', d_model) with a mask (B, T'), of `model.encode`. It computes only what is new: a
    token's self-attention keys and values and the frames' are kept. Rows b * W + w of a call are
    the W sequences of utterance b.
    """

    def __init__(
        self, model: EncoderDecoderTransformer, encoder_output: Tensor, pad_mask: Tensor,
        max_length: int,
    ):
        self.utterances = len(encoder_output)
        super().__init__(Listener(model, encoder_output, pad_mask, max_length))

    def _keys(self, rows: list[list[int]]) -> list[tuple]:
        """The same tokens mean something else in another utterance."""
        width = len(rows) // self.utterances
        return [(row // width, *tokens) for row, tokens in enumerate(rows)]


class FusedScorer:
    """Scores of an utterance's tokens plus `lm_weight` times those of a language model.

    (Shallow fusion, Gulcehre et al. 2015, with the logits of both.) The two have one tokenizer.
    """

    any_batch_size = True  # SequenceGenerator may score all beams in one call

    def __init__(self, speech, language_model: DecoderOnlyTransformer, lm_weight: float):
        self.speech, self.lm_weight = speech, lm_weight
        self.text = CachedScorer(language_model)

    def __call__(self, x: Tensor) -> Tensor:
        """Scores (B * W, V) of the token after x (B * W, L)."""
        return self.speech(x) + self.lm_weight * self.text(x)
