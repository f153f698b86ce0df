#!/usr/bin/env python3
"""lstlm.py, but a `-tie` model has no bias at all, as exercise 9 of the handout has it, to see what the constant does.

    python unbiased.py -train -tie ...      # flags and modes of lstlm.py; its checkpoints are read by lstlm.py too
"""

import sys
from pathlib import Path
from unittest import mock

sys.path.append(str(Path(__file__).resolve().parent.parent / "code"))
import lstlm  # noqa: E402 - found by the line above
from lstlm import parse_args, train  # noqa: E402, F401 - what experiments.py asks of a program


class Unbiased(lstlm.Nats):
    """The loss of a model whose constant bias is zero from the first step on."""

    def forward(self, *batch):
        self.model.output.bias.zero_()
        return super().forward(*batch)


def main(argv: list[str] | None = None) -> int:
    """Run lstlm.py; returns its exit status."""
    with mock.patch.object(lstlm, "Nats", Unbiased):
        return lstlm.main(argv)


if __name__ == "__main__":
    lstlm.leave(main())
