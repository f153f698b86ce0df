"""Utterances that are too short for their transcript under CTC."""

import torch
from torch import Tensor

from ..data import ASRDataset
from ..errors import UserError
from ..model.speech_embedding import SpeechEmbedding


def frames_needed(golden: list[int]) -> int:
    """Frames of the encoder that CTC needs for targets: one each, one more between two alike."""
    return len(golden) + sum(one == other for one, other in zip(golden, golden[1:], strict=False))


def encoder_frames(dataset: ASRDataset, embedding: SpeechEmbedding) -> Tensor:
    """Frames of the encoder that each utterance has. UserError for one of which none is left."""
    frames = embedding.calculate_downsampled_length(torch.tensor(dataset.feat_lengths))
    for few in (frames < 1).nonzero().flatten().tolist()[:1]:
        path = dataset.feats.paths[few]
        what = f"{dataset.feat_lengths[few]} frames, of which the model's reduction leaves none"
        raise UserError(f"{path}: {what}; remove it, or lower model.time_reduction")
    return frames


def without_room(dataset: ASRDataset, embedding: SpeechEmbedding) -> str:
    """A note on the utterances whose CTC loss is infinite, and so is taken for 0.

    How many there are, and the first with its numbers; an empty text if there are none.
    """
    frames = encoder_frames(dataset, embedding).tolist()
    needed = [frames_needed(golden) for golden in dataset.transcripts_golden]
    short = [i for i, need in enumerate(needed) if need > frames[i]]
    if not short:
        return ""
    first = short[0]
    named = f"{dataset.fbank_files[first]}: {frames[first]} for {needed[first]}"
    return (
        f"note: {len(short)} of {len(dataset):,} utterances of {dataset.partition} have fewer "
        f"encoder frames than CTC needs for their transcript ({named}); CTC learns nothing of "
        "them: lower model.time_reduction, or take a tokenization with longer tokens"
    )
