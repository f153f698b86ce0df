"""What was computed of stories so far, so that what follows costs only itself."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class State:
    """The past of B stories: `LSTMLM.forward` reads it and brings it forward, detached.

    Begun empty. While text is generated it also keeps the ids that were read and the logits after
    the last of them, and asks for no others.
    """

    recurrent: list = field(default_factory=list)  # final states of self.lstm, and of self.last
    past: Tensor | None = None  # (B, P, N) what attention looks back at
    position: int = 0  # how many tokens of each story that was
    stories: list[list[int]] = field(default_factory=list)  # ids
    logits: Tensor | None = None  # (B, V)
    last_only: bool = False  # whether the logits of the last position are all that is asked for

    def forget(self) -> None:
        """Begin anew."""
        self.recurrent = []
        self.past = None
        self.position = 0
        self.stories = []
        self.logits = None

    def bring_forward(self, recurrent: list, hidden: Tensor | None, count: int) -> None:
        """Be `count` tokens later: final states, and outputs (B, T, N) if attention needs them."""
        self.recurrent = recurrent
        if hidden is not None:
            outputs = hidden.detach()
            self.past = outputs if self.past is None else torch.cat([self.past, outputs], 1)
        self.position += count

    def keep_first(self, stories: int) -> None:
        """Drop all but the first stories: the others have ended."""
        kept = self.take(slice(stories))
        self.recurrent = kept.recurrent
        self.past = kept.past

    def layer_states(self) -> list[tuple[Tensor, Tensor]]:
        """h and c (B, N) of each layer; c is h where a cell has none."""
        pairs = []
        for final in self.recurrent:
            h, c = final if isinstance(final, tuple) else (final, final)
            pairs += zip(h, c, strict=True)
        return pairs

    def replace_layer_states(self, pairs: list[tuple[Tensor, Tensor]]) -> None:
        """Put h and c (B, N) of each layer in the place of those that are there."""
        for number, final in enumerate(self.recurrent):
            count = len(final[0]) if isinstance(final, tuple) else len(final)
            h, c = (torch.stack(xs) for xs in zip(*pairs[:count], strict=True))
            self.recurrent[number] = (h, c) if isinstance(final, tuple) else h
            pairs = pairs[count:]

    def take(self, rows: slice | list[int]) -> "State":
        """The state of these stories, in this order; one can be taken several times."""
        recurrent = []
        for final in self.recurrent:
            if isinstance(final, tuple):
                recurrent.append(tuple(x[:, rows] for x in final))
            else:
                recurrent.append(final[:, rows])
        past = None if self.past is None else self.past[rows]
        stories = self.stories
        if stories:
            stories = stories[rows] if isinstance(rows, slice) else [stories[i] for i in rows]
        logits = None if self.logits is None else self.logits[rows]
        return State(recurrent, past, self.position, stories, logits)


    def to(self, device: torch.device) -> "State":
        """The state on a device."""
        recurrent = []
        for final in self.recurrent:
            moved = [x.to(device) for x in final] if isinstance(final, tuple) else final.to(device)
            recurrent.append(tuple(moved) if isinstance(final, tuple) else moved)
        past = None if self.past is None else self.past.to(device)
        return State(recurrent, past, self.position)

    @staticmethod
    def joined(states: list["State"]) -> "State":
        """The state of the stories of several states, one after the other."""
        recurrent = []
        for finals in zip(*(state.recurrent for state in states), strict=True):
            if isinstance(finals[0], tuple):
                recurrent.append(tuple(torch.cat(xs, 1) for xs in zip(*finals, strict=True)))
            else:
                recurrent.append(torch.cat(finals, 1))
        pasts = [state.past for state in states]
        past = None if pasts[0] is None else torch.cat(pasts)
        return State(recurrent, past, states[0].position)

    def to_dict(self) -> dict:
        """What a file is to hold of it, so that `from_dict` gives the same state again."""
        recurrent = {}
        for number, final in enumerate(self.recurrent):
            tensors = final if isinstance(final, tuple) else (final,)
            recurrent[str(number)] = dict(zip("hc", tensors, strict=False))
        content = {"recurrent": recurrent, "position": self.position}
        if self.past is not None:
            content["past"] = self.past
        return content

    @staticmethod
    def from_dict(content: dict) -> "State":
        """The state that `to_dict` made this of."""
        recurrent = []
        for _, tensors in sorted(content["recurrent"].items()):
            recurrent.append((tensors["h"], tensors["c"]) if "c" in tensors else tensors["h"])
        return State(recurrent, content.get("past"), content["position"])


def detached(final):
    """The final states of a recurrent module without their history of gradients."""
    if isinstance(final, tuple):
        return tuple(x.detach() for x in final)
    return final.detach()


def forward_direction(final):
    """The final states of a bidirectional module, with zeros for the direction from the end."""
    parts = final if isinstance(final, tuple) else (final,)
    parts = tuple(x.clone() for x in parts)
    for x in parts:  # (2 layers, B, N)
        x[1::2] = 0
    return parts if isinstance(final, tuple) else parts[0]
