"""Turning scores of the next token into sequences.

Greedy, beam search, sampling (handout, sections 2.4 and 5.3).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError


class SequenceGenerator:
    """Extends prompts by tokens that `score_fn` thinks probable.

    `score_fn` maps ids (B, L) to the scores (B, V) of the next token. `max_length` counts the whole
    sequence, the prompt included. All work is done where the prompts are; `device` is kept for the
    caller. `rescore`, if given, makes of log-probabilities (B, W, V) and beams (B, W, L) those by
    which beam search ranks.

    Sequences grow until `max_length`, or until all of a batch have had EOS. What a sequence has
    after its first EOS means nothing and does not count in its score: `post_process_sequence` cuts
    it off.
    """

    def __init__(
        self, score_fn: Callable[[Tensor], Tensor], tokenizer, max_length: int,
        device: str = "cuda" if torch.cuda.is_available() else "cpu",
        rescore: Callable[[Tensor, Tensor], Tensor] | None = None,
    ):
        self.score_fn = score_fn
        self.rescore = rescore
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.device = device

    @torch.no_grad()
    def generate_greedy(
        self, x: Tensor, temperature: float = 1.0, repeat_penalty: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """The most probable token at each step.

        Prompts (B, L) -> sequences (B, L'), log-probabilities (B,).

        Raises TypeError if x is no tensor; ValueError if it is not 2-D or too long, or if
        temperature or penalty is not a positive number.
        """
        self._check(x, temperature, repeat_penalty)

        def adjust(logits: Tensor, sequences: Tensor) -> Tensor:
            penalised = self._apply_repeat_penalty(logits, sequences, repeat_penalty)
            return self._over_temperature(penalised, temperature)

        return self._extend(x, adjust, lambda log_probs: log_probs.argmax(-1))

    @torch.no_grad()
    def generate_sample(
        self, x: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """A random token at each step: prompts (B, L) -> sequences (B, L'), log-probabilities (B,).

        Tokens are drawn from what `_filter_logits` leaves, with torch's global generator; the
        log-probabilities are of that distribution. Raises as generate_greedy, and ValueError for
        top_k < 0 or top_p outside (0, 1].
        """
        self._check(x, temperature)
        if top_k < 0:
            raise UserError(
                f"top_k is {top_k}; give 0 for no limit, or how many tokens to choose from"
            )
        if not 0 < top_p <= 1:
            raise UserError(
                f"top_p is {top_p}; give a number over 0 and at most 1, which is no limit"
            )

        def adjust(logits: Tensor, sequences: Tensor) -> Tensor:
            return self._filter_logits(self._below_best(logits), temperature, top_k, top_p)

        return self._extend(x, adjust, lambda log_probs: log_probs.exp().multinomial(1)[:, 0])

    def _extend(
        self, x: Tensor, adjust: Callable[[Tensor, Tensor], Tensor],
        choose: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The loop of the handout's pseudocode 1.

        What greedy and sampling do differently are functions.
        """
        scores = torch.zeros(len(x), device=x.device)
        finished = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        while x.shape[1] < self.max_length and not finished.all():
            log_probs = adjust(self.score_fn(x), x).log_softmax(-1)  # (B, V)
            tokens = choose(log_probs)[:, None]  # (B, 1)
            scores = scores + log_probs.gather(1, tokens)[:, 0].masked_fill(finished, 0)
            x = torch.cat([x, tokens], 1)
            finished = finished | (tokens[:, 0] == self.tokenizer.eos_id)
        return x, scores

    @torch.no_grad()
    def generate_beam(
        self, x: Tensor, beam_width: int, temperature: float = 1.0, repeat_penalty: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """The W most probable sequences that keeping W at each step finds, the best one first.

        Prompts (B, L) -> sequences (B, W, L'), log-probabilities (B, W). A finished sequence stays
        as it is, at no cost, and gives way to better ones only. Where there are fewer than W
        sequences at all, the last is repeated with a log-probability of -inf. Raises as
        generate_greedy, and ValueError for a beam_width below 1.
        """
        self._check(x, temperature, repeat_penalty)
        if beam_width < 1:
            raise UserError(f"beam_width is {beam_width}; give at least 1")
        beams = x[:, None]  # (B, 1, L): the first step has but the prompt to go on from
        scores = torch.zeros(len(x), 1, device=x.device)
        finished = torch.zeros(len(x), 1, dtype=torch.bool, device=x.device)
        while beams.shape[2] < self.max_length and not finished.all():
            logits = self._over_temperature(
                self._apply_repeat_penalty(self._score_beams(beams), beams, repeat_penalty),
                temperature,
            )
            log_probs = logits.log_softmax(-1)  # (B, W, V)
            if self.rescore is not None:
                log_probs = self.rescore(log_probs, beams)
            log_probs = self._frozen(log_probs, finished)
            V = log_probs.shape[2]
            candidates = (scores[:, :, None] + log_probs).flatten(1)  # (B, W * V)
            scores, chosen = candidates.topk(min(beam_width, candidates.shape[1]))
            parents, tokens = chosen // V, chosen % V  # (B, W)
            grown = beams.gather(1, parents[:, :, None].expand(-1, -1, beams.shape[2]))
            beams = torch.cat([grown, tokens[:, :, None]], 2)
            finished = finished.gather(1, parents) | (tokens == self.tokenizer.eos_id)
        missing = beam_width - beams.shape[1]
        beams = torch.cat([beams, beams[:, -1:].expand(-1, missing, -1)], 1)
        return beams, F.pad(scores, (0, missing), value=-math.inf)

    def _score_beams(self, beams: Tensor) -> Tensor:
        """Scores (B, W, V) for beams (B, W, L).

        One call of `score_fn` gets (B, L), for each of the W. A `score_fn` that has the attribute
        `any_batch_size` gets them all in one call, as (B * W, L).
        """
        if getattr(self.score_fn, "any_batch_size", False):
            return self.score_fn(beams.flatten(0, 1)).unflatten(0, beams.shape[:2])
        return torch.stack([self.score_fn(beam) for beam in beams.unbind(1)], 1)

    def _frozen(self, log_probs: Tensor, finished: Tensor) -> Tensor:
        """`log_probs` (B, W, V), where after a finished beam only EOS can follow, for nothing.

        `finished` (B, W) says which are.
        """
        only_eos = torch.full_like(log_probs[0, 0], -math.inf)
        only_eos[self.tokenizer.eos_id] = 0
        return torch.where(finished[:, :, None], only_eos, log_probs)

    def _apply_repeat_penalty(
        self, logits: Tensor, sequences: Tensor, penalty: float = 1.0
    ) -> Tensor:
        """Make the tokens that a sequence has less probable.

        Their logit / penalty if positive, else * penalty.

        Logits (B, V) with sequences (B, L), or (B, W, V) with (B, W, L); 1.0 changes nothing
        (Keskar et al. 2019).
        """
        if penalty == 1.0:
            return logits
        numbers = torch.finfo(logits.dtype)
        penalty = min(max(penalty, numbers.tiny), numbers.max)
        seen = logits.gather(-1, sequences)
        changed = torch.where(seen > 0, seen / penalty, seen * penalty)
        return logits.scatter(-1, sequences, changed.clamp(numbers.min, numbers.max))

    def _below_best(self, logits: Tensor) -> Tensor:
        """Logits (..., V) less their maximum, which changes no probability.

        UserError if there is no maximum, as scores are infinite or no numbers.
        """
        best = logits.amax(-1, keepdim=True)
        if not best.isfinite().all():
            raise UserError("the model's scores are no finite numbers; train it anew")
        return logits - best

    def _over_temperature(self, logits: Tensor, temperature: float) -> Tensor:
        """Logits (..., V) less their maximum, over the temperature.

        So the best is 0 at any temperature; near 0 the others become -inf, which is greedy.
        """
        return self._below_best(logits) / max(temperature, torch.finfo(logits.dtype).tiny)

    def _filter_logits(
        self, logits: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
    ) -> Tensor:
        """Logits (..., V) over the temperature, with -inf for tokens that may not come.

        These are the ones outside the top k, then outside the nucleus. Ties with the k-th stay. The
        nucleus is the smallest set of most probable tokens whose probabilities sum up to more than
        `top_p` (Holtzman et al. 2020). The best logit stays finite at any temperature.
        """
        numbers = torch.finfo(logits.dtype)
        best = logits.amax(-1, keepdim=True) / max(temperature, numbers.tiny)
        logits = self._over_temperature(logits, temperature) + best.clamp(numbers.min, numbers.max)
        if top_k > 0:
            kth = logits.topk(min(top_k, logits.shape[-1])).values[..., -1:]
            logits = logits.masked_fill(logits < kth, -math.inf)
        if top_p < 1:
            ranked, order = logits.sort(descending=True)
            mass_before = F.pad(ranked.softmax(-1).cumsum(-1)[..., :-1], (1, 0))
            outside = mass_before > top_p
            logits = logits.masked_fill(outside.scatter(-1, order, outside), -math.inf)
        return logits

    def _check(self, x: Tensor, temperature: float, repeat_penalty: float = 1.0) -> None:
        """Raise TypeError or ValueError for prompts, temperature or penalty that make no sense."""
        if not isinstance(x, Tensor):
            raise TypeError(
                f"prompts are a {type(x).__name__}; give a tensor of ids (batch, length)"
            )
        if x.dim() != 2:
            raise UserError(f"prompts have the shape {tuple(x.shape)}; give (batch, length)")
        if x.shape[1] > self.max_length:
            raise UserError(
                f"the prompt has {x.shape[1]} tokens, more than max_length {self.max_length}; cut "
                "it"
            )
        if not 0 < temperature < math.inf:
            raise UserError(
                f"temperature is {temperature}; give more than 0 (its limit at 0 is greedy "
                "decoding)"
            )
        if not 0 < repeat_penalty < math.inf:
            raise UserError(f"repeat_penalty is {repeat_penalty}; give more than 0 (1 is none)")

    @staticmethod
    def post_process_sequence(seq: Tensor, tokenizer) -> Tensor | list[Tensor]:
        """A sequence (L,) cut after its first EOS, whole if it has none.

        A list of such for a batch (B, L).
        """
        if seq.dim() == 2:
            return [SequenceGenerator.post_process_sequence(row, tokenizer) for row in seq]
        ends = (seq == tokenizer.eos_id).nonzero()
        return seq[: int(ends[0]) + 1] if len(ends) else seq
