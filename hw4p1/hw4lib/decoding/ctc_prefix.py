"""CTC's opinion of beginnings of transcripts, for beam search beside attention.

(Watanabe et al. 2017, Hybrid CTC/attention, section II-C; Graves 2008, section 7.3.)
"""

import torch
from torch import Tensor

NEVER = -1e6  # the logarithm of what cannot be
PADDED = -1e4  # of a label in a frame that does not exist
CANDIDATES = 40  # tokens of each beam that CTC is asked about: those that attention thinks best


class CTCPrefixScorer:
    """A `rescore` for SequenceGenerator: (1 - weight) log p(attention) + weight log p(CTC).

    `log_probs` (T, B, V), time first, and `lengths` (B,) are the CTC head's. The probability of a
    beginning is that of all transcripts which begin so, and of one with EOS that of it alone; a
    token counts by how it changes that. Training has EOS among CTC's targets, so it is a label as
    any other, the last. Tokens that attention has not among its best CANDIDATES get -inf.
    """

    def __init__(
        self, log_probs: Tensor, lengths: Tensor, weight: float, blank: int, eos: int
    ):
        self.weight, self.blank, self.eos = weight, blank, eos
        scores = log_probs.permute(1, 2, 0).double()  # (B, V, T)
        B, V, T = scores.shape
        real = torch.arange(T, device=scores.device) < lengths.to(scores.device)[:, None]  # (B, T)
        scores = scores.clamp(min=PADDED).where(real[:, None], PADDED)
        scores[:, blank] = scores[:, blank].where(real, 0.0)  # so that nothing changes there
        self.scores = scores
        self.at_blank = scores[:, blank].cumsum(1)[:, None, None]  # (B, 1, 1, T)
        # Of each beginning: the log-probability of frames so far that end in its last label, in
        # blank, each (B, W, T + 1) from before the first frame on; and its own (B, W).
        begin = scores.new_zeros(B, 1, 1)
        self.in_label = torch.full((B, 1, T + 1), -torch.inf, **kind(scores))
        self.in_blank = torch.cat([begin, self.at_blank[:, :, 0]], 2)
        self.total = begin[:, :, 0]
        self.rows: list[dict[tuple, tuple[int, int]]] | None = None  # where each beginning is

    def __call__(self, log_probs: Tensor, beams: Tensor) -> Tensor:
        """Log-probabilities (B, W, V) of attention for the token after beams (B, W, L)."""
        alive = self._follow(beams)  # (B, W)
        tokens = self._candidates(log_probs)  # (B, W, C)
        totals = self._extend(tokens, beams[:, :, -1])  # (B, W, C)
        gained = (totals - self.total[:, :, None]).to(log_probs.dtype)
        joint = (1 - self.weight) * log_probs.gather(2, tokens) + self.weight * gained
        joint = joint.masked_fill(tokens == self.blank, -torch.inf)
        joint = joint.masked_fill(~alive[:, :, None], -torch.inf)
        self._note(beams, tokens, totals)
        return torch.full_like(log_probs, -torch.inf).scatter(2, tokens, joint)

    def _candidates(self, log_probs: Tensor) -> Tensor:
        """The best tokens (B, W, C) of attention, EOS among them."""
        ranked = log_probs.clone()
        ranked[:, :, self.eos] = torch.inf
        return ranked.topk(min(CANDIDATES, ranked.shape[2])).indices

    def _extend(self, tokens: Tensor, last: Tensor) -> Tensor:
        """Log-probabilities (B, W, C) of the beginnings with one more token.

        How likely their frames end in the new label or in a blank is kept for the next call. A
        recurrence r[t] = p[t] (r[t - 1] + a[t]) is a cumulative sum of a[t] / (p[1] .. p[t - 1]).
        """
        rows = torch.arange(len(tokens), device=tokens.device)[:, None, None]
        at_token = self.scores[rows, tokens]  # (B, W, C, T)
        before = torch.logaddexp(self.in_label, self.in_blank)[:, :, None, :-1]
        again = self.in_blank[:, :, None, :-1]  # the same label twice has a blank between
        repeated = (tokens == last[:, :, None]) & (self.rows is not None)
        entered = torch.where(repeated[..., None], again, before)  # (B, W, C, T)
        in_label = recurrence(entered, at_token.cumsum(3))
        in_label = torch.nn.functional.pad(in_label, (1, 0), value=-torch.inf)
        in_blank = recurrence(in_label[..., :-1], self.at_blank)
        in_blank = torch.nn.functional.pad(in_blank, (1, 0), value=-torch.inf)
        self.next_label, self.next_blank = in_label, in_blank
        open_end = (entered + at_token).logsumexp(3)
        whole = torch.logaddexp(in_label[..., -1], in_blank[..., -1])
        return torch.where(tokens == self.eos, whole, open_end).clamp(min=NEVER)

    def _note(self, beams: Tensor, tokens: Tensor, totals: Tensor) -> None:
        """Remember where the beginnings with one more token are."""
        self.next_total = totals
        self.rows = [
            {
                (*beam, token): (w, c)
                for w, (beam, row) in enumerate(zip(of_b, tokens_b, strict=True))
                for c, token in enumerate(row)
            }
            for of_b, tokens_b in zip(beams.tolist(), tokens.tolist(), strict=True)
        ]

    def _follow(self, beams: Tensor) -> Tensor:
        """Go on from the beginnings that were chosen; (B, W), False where one was no candidate."""
        if self.rows is None:
            return torch.ones(beams.shape[:2], dtype=torch.bool, device=beams.device)
        found = [
            [rows.get(tuple(beam)) for beam in of_b]
            for rows, of_b in zip(self.rows, beams.tolist(), strict=True)
        ]
        places = [[place or (0, 0) for place in of_b] for of_b in found]
        w, c = torch.tensor(places, device=beams.device).unbind(2)  # (B, W)
        b = torch.arange(len(places), device=beams.device)[:, None]
        self.in_label, self.in_blank = self.next_label[b, w, c], self.next_blank[b, w, c]
        self.total = self.next_total[b, w, c]
        alive = [[place is not None for place in of_b] for of_b in found]
        return torch.tensor(alive, device=beams.device)


def recurrence(entered: Tensor, cumulated: Tensor) -> Tensor:
    """log r (..., T) with r[t] = p[t] (r[t - 1] + a[t]), of log a and the cumulated log p."""
    before = torch.nn.functional.pad(cumulated[..., :-1], (1, 0))
    return cumulated + (entered - before).logcumsumexp(-1)


def kind(tensor: Tensor) -> dict:
    """Type and device of a tensor."""
    return {"dtype": tensor.dtype, "device": tensor.device}
