"""A case: numbers for a student's function, what should come of them, and what mistakes make."""

from dataclasses import asdict, dataclass, field

import numpy as np


@dataclass
class Case:
    """One call of a student's code.

    `run` names a function of drivers_*.py, which gets `given` and gives arrays by name. `judge`
    names a function of judges.py, which compares them with `expected` or with what is `known`;
    neither leaves our process. `mistakes` are pairs of a usual cause and what it gives, in the
    order in which they are thought of. Where an array of `only` is False, the result may be
    anything.
    """

    item: str
    part: str
    run: str
    given: dict
    expected: dict[str, np.ndarray] = field(default_factory=dict)
    known: dict = field(default_factory=dict)
    mistakes: list[tuple[str, dict[str, np.ndarray]]] = field(default_factory=list)
    judge: str = "equal"
    only: dict[str, np.ndarray] = field(default_factory=dict)
    tolerance: float = 1e-4
    handout: str = ""  # its sentence on this, word for word

    def tree(self) -> dict:
        """As what `exchange.dump` takes."""
        return asdict(self)

    @classmethod
    def of(cls, tree: dict) -> "Case":
        """The case that `tree` gave."""
        return cls(**tree)


@dataclass
class Outcome:
    """What came of a case: arrays by name, or what went wrong."""

    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    kind: str = ""  # the exception's class; "" if there was none
    message: str = ""
    line: str = ""  # where in the student's code, as `lstlm.py:120: the line`

    @classmethod
    def of(cls, tree: dict) -> "Outcome":
        """From what `exchange.load` gives. ValueError if it is not an outcome."""
        try:
            outputs = {str(k): np.asarray(v) for k, v in dict(tree.get("outputs", {})).items()}
            if any(array.dtype.kind not in "biuf" for array in outputs.values()):
                raise TypeError("no numbers")
            texts = {key: str(tree.get(key, ""))[:600] for key in ("kind", "message", "line")}
        except (AttributeError, TypeError, ValueError):
            raise ValueError("not an outcome") from None
        return cls(outputs, **texts)


@dataclass
class Verdict:
    """Whether a case went well, and what is to be said if not."""

    passed: bool
    message: str = ""
    written: bool = True  # False: the item is not written yet
