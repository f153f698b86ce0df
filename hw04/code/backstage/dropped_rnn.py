"""The model's recurrent layers: dropout on each one's output, and states that are carried over."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from backstage.packed_rnn import GRU, LSTM, RNN, find_places, pad_packed_sequence
from backstage.state import detached

GRAIN = 8  # positions


class ModelLayers:
    """What the three classes share.

    Dropout with chance `p` acts on the output of each layer, the last one's too; if `locked` on the
    same columns at all positions of a story (Gal & Ghahramani 2016, Merity et al. 2018). Stories
    begin in the states `initial`, where no others are given, and `final` are those in which they
    ended; so whoever calls the layers need not know of states. With `carried` False nobody needs
    the final ones, and an LSTM has none.
    """

    def __init__(self, *sizes, p: float, locked: bool, **switches):
        # PyTorch's own dropout, for a GPU's layers, is between layers only.
        between = p if sizes[2] > 1 and not locked else 0.0
        super().__init__(*sizes, batch_first=True, dropout=between, **switches)
        self.p = p
        self.locked = locked
        self.initial = None  # zeros
        self.final = None
        self.carried = True

    def forward(self, inputs: PackedSequence | Tensor, initial=None):
        """As the parent's, with the outputs dropped."""
        if initial is None:
            initial = self.initial
        outputs, final = self.outputs(inputs, initial)
        self.final = detached(final) if self.carried else None
        if not isinstance(outputs, PackedSequence):
            return F.dropout(outputs, self.p, self.training), final
        rows = self.drop(outputs.data, outputs.batch_sizes)
        return outputs._replace(data=rows), final

    def outputs(self, inputs: PackedSequence | Tensor, initial):
        """The outputs before dropout, and the final states."""
        return super().forward(inputs, initial)

    def over_padded(self, padded: Tensor, lengths: Tensor) -> Tensor:
        """The outputs (B, T, N) for a padded batch (B, T, In) with lengths (B,)."""
        packed = pack_padded_sequence(padded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs, _ = self(packed)
        T = padded.shape[1]
        return pad_packed_sequence(outputs, batch_first=True, total_length=T)[0]

    def by_runs(self, inputs: PackedSequence | Tensor) -> bool:
        """On a GPU too where dropout is locked, for cuDNN has no such dropout between layers."""
        locked = self.locked and self.training and isinstance(inputs, PackedSequence)
        return locked or super().by_runs(inputs)

    def drop(self, rows: Tensor, batch_sizes: Tensor) -> Tensor:
        """The packed rows (R, N) of a layer after dropout."""
        if not self.locked or not self.training:
            return F.dropout(rows, self.p, self.training)
        story_mask = F.dropout(rows.new_ones(int(batch_sizes[0]), rows.shape[1]), self.p)  # (B, N)
        return rows * story_mask[find_places(batch_sizes)[1].to(rows.device)]


class DroppedLSTM(ModelLayers, LSTM):
    """`nn.LSTM`, on a CPU over stories as long as a multiple of GRAIN, where no states go on.

    oneDNN makes code for each length, which takes as long as a small layer's step over a story;
    with few lengths it is there. What stands behind a story's end changes nothing before it.
    """

    places: Tensor | None = None  # (R,) meanwhile, of the stories' rows among those of longer ones

    def outputs(self, inputs, initial):
        """Those of the stories as they are; the states behind the longer ones are nobody's."""
        if self.carried or self.bidirectional or not LSTM.by_runs(self, inputs):
            return super().outputs(inputs, initial)
        rows, batch_sizes, *order = inputs
        sizes = batch_sizes[::GRAIN].repeat_interleave(GRAIN)  # (T',) of the longer stories
        position, rank = find_places(batch_sizes)
        places = (sizes.cumsum(0) - sizes)[position] + rank  # (R,) of the rows among the R' longer
        longer = rows.new_zeros(int(sizes.sum()), rows.shape[1]).index_copy(0, places, rows)
        self.places = places
        outputs, _ = super().outputs(PackedSequence(longer, sizes, *order), initial)
        self.places = None
        return PackedSequence(Picked.apply(outputs.data, places), batch_sizes, *order), (None, None)

    def drop(self, rows, batch_sizes):
        """With the draws of the stories as they are, however long they have been made."""
        if self.places is None or self.locked or not self.training:
            return super().drop(rows, batch_sizes)
        mask = F.dropout(rows.new_ones(len(self.places), rows.shape[1]), self.p)  # (R, N)
        return rows * torch.zeros_like(rows).index_copy(0, self.places, mask)


class Picked(torch.autograd.Function):
    """Rows (R, N) at `places` (R,), no two the same: their gradient is one copy, not R sums."""

    @staticmethod
    def forward(ctx, rows, places):
        ctx.save_for_backward(places)
        ctx.shape = rows.shape
        return rows.index_select(0, places)

    @staticmethod
    def backward(ctx, grad):
        (places,) = ctx.saved_tensors
        return grad.new_zeros(ctx.shape).index_copy_(0, places, grad), None


class DroppedGRU(ModelLayers, GRU):
    """`nn.GRU`."""


class DroppedRNN(ModelLayers, RNN):
    """`nn.RNN`."""


CELLS: dict[str, type[nn.RNNBase]] = {"lstm": DroppedLSTM, "gru": DroppedGRU, "rnn": DroppedRNN}
