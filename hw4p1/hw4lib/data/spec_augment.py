"""SpecAugment: stretches of time and frequency are blotted out in training (Park et al. 2019)."""

import torch
from torch import Tensor


class AxisMask:
    """Blots out one stretch of an axis, drawn for each utterance by itself.

    Its width is from 0 to `width_range` - 1, its place anywhere within the utterance.
    """

    def __init__(self, width_range: int, axis: int):
        self.width_range, self.axis = width_range, axis

    def __call__(self, feats: Tensor, sizes: Tensor, fill: float) -> Tensor:
        """Features (B, T, F) with `fill` in the stretches.

        Utterance b has the size `sizes[b]` on the axis, 1 for time and 2 for frequency.
        """
        draws = torch.rand(2, len(feats))
        widths = (draws[0] * self.width_range).long().minimum(sizes)
        starts = (draws[1] * (sizes - widths)).long()
        places = torch.arange(feats.shape[self.axis])
        masked = (places >= starts[:, None]) & (places < (starts + widths)[:, None])
        return feats.masked_fill(masked[:, :, None] if self.axis == 1 else masked[:, None], fill)


class SpecAugment:
    """Masks of frequency, then of time, as the section `specaug_conf` says.

    They are drawn from torch's global generator.
    """

    def __init__(self, conf: dict):
        self.conf = conf
        self.freq_mask = AxisMask(conf["freq_mask_width_range"], 2)
        self.time_mask = AxisMask(conf["time_mask_width_range"], 1)

    def __call__(self, feats: Tensor, lengths: Tensor, fill: float) -> Tensor:
        """Features (B, T, F) of utterances with `lengths` (B,) -> the same shape."""
        if self.conf["apply_freq_mask"]:
            for _ in range(self.conf["num_freq_mask"]):
                bins = torch.full_like(lengths, feats.shape[2])
                feats = self.freq_mask(feats, bins, fill)
        if self.conf["apply_time_mask"]:
            for _ in range(self.conf["num_time_mask"]):
                feats = self.time_mask(feats, lengths, fill)
        return feats
