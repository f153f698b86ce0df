"""Scoring the next token without computing anew what the tokens before it have led to."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..model.transformers import DecoderOnlyTransformer


class KeyValueCache:
    """One layer's keys and values so far, of a batch of R sequences of equal length."""

    def __init__(self, num_heads: int, max_len: int):
        self.num_heads, self.max_len = num_heads, max_len
        # Keys and values (2, R * H, max_len, D), filled up to `length`.
        self.length, self.pairs = 0, None

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add n positions' keys and values (R * H, n, D).

        Returns those of all positions so far (R * H, L, D).
        """
        if self.pairs is None:
            self.pairs = k.new_empty(2, len(k), self.max_len, k.shape[2])
        start, self.length = self.length, self.length + k.shape[1]
        self.pairs[0, :, start : self.length] = k
        self.pairs[1, :, start : self.length] = v
        return self.pairs[0, :, : self.length], self.pairs[1, :, : self.length]

    def follow(self, parents: Tensor, same: int) -> None:
        """Let sequence i go on from what sequence `parents[i]` has.

        Their first `same` positions are equal already.
        """
        old = self.pairs.unflatten(1, (-1, self.num_heads))  # (2, R, H, max_len, D)
        new = old
        if len(parents) != old.shape[1]:
            new, same = old.new_empty(2, len(parents), *old.shape[2:]), 0
        part = slice(same, self.length)
        new[..., part, :] = old[..., part, :][:, parents]  # a copy is made before it is written
        self.pairs = new.flatten(1, 2)


class CachedScorer:
    """A `score_fn` for SequenceGenerator: the results of `model.score`, computing what is new.

    It remembers the last call's ids and each layer's keys and values for them. If all sequences of
    a call begin with one of the remembered sequences, whole, only the tokens after it are computed;
    else everything is. That the ids are equal is verified each time, but not the model's weights:
    make a new scorer for each generation.
    """

    any_batch_size = True  # SequenceGenerator may score all beams in one call

    def __init__(self, model: DecoderOnlyTransformer):
        self.model = model
        self._forget()

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Scores (B, V) of the token after x (B, L).

        Raises ValueError in training mode, or if L is over max_len.
        """
        start = self._recall(x)
        logits = self.model.score_after(self.caches, x[:, start:], start)
        self.tokens = x.clone()
        return logits

    def _forget(self) -> None:
        """Begin with nothing."""
        heads = [layer.self_attn.mha.num_heads for layer in self.model.dec_layers]
        self.caches = [KeyValueCache(num_heads, self.model.max_len) for num_heads in heads]
        self.tokens = torch.empty(0, 0, dtype=torch.long)  # (R, P)

    def _recall(self, x: Tensor) -> int:
        """Bring the caches in line with x (B, L).

        Returns the number of its tokens that they have.
        """
        P = self.tokens.shape[1]
        # Before the first call `tokens` is empty and on no particular device: there is nothing to
        # compare.
        parents = self._parents(x[:, :P]) if 0 < P < x.shape[1] else None
        if parents is None:
            self._forget()
            return 0
        if parents != list(range(len(self.tokens))):  # beams: some have died, and others branched
            same = self._equal_columns(x)
            for cache in self.caches:
                cache.follow(torch.tensor(parents, device=x.device), same)
        return P

    def _parents(self, prefixes: Tensor) -> list[int] | None:
        """For each of the prefixes (B, P) a remembered sequence that is equal to it.

        None if one has no such.
        """
        if torch.equal(prefixes, self.tokens):
            return list(range(len(prefixes)))
        row_of = {key: row for row, key in enumerate(self._keys(self.tokens.tolist()))}
        parents = [row_of.get(key) for key in self._keys(prefixes.tolist())]
        return None if None in parents else parents

    def _keys(self, rows: list[list[int]]) -> list[tuple]:
        """What a sequence's keys and values depend on: its tokens."""
        return [tuple(tokens) for tokens in rows]

    def _equal_columns(self, x: Tensor) -> int:
        """How many leading tokens each row of x shares with the remembered sequence of that row.

        Beams that compete have most of their past in common, and what is in its place already need
        not be copied.
        """
        if len(x) != len(self.tokens):
            return 0
        return int((x[:, : self.tokens.shape[1]] == self.tokens).all(0).cumprod(0).sum())


class StoppableScorer(CachedScorer):
    """A scorer that calls `look` before each token, which may raise Stopped."""

    def __init__(self, model: DecoderOnlyTransformer, look: Callable[[], None]):
        super().__init__(model)
        self.look = look

    def __call__(self, x: Tensor) -> Tensor:
        self.look()
        return super().__call__(x)
