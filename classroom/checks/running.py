"""Running a student's code on cases."""

import importlib.util
import io
import sys
import traceback
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType

from checks.exchange import plain

PRINTED = 4000  # characters of what a student's code prints are kept


class Printed(io.TextIOBase):
    """Standard output of a student's code: the first characters are kept, the rest is not."""

    def __init__(self):
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text[: PRINTED - len(self.text)]
        return len(text)

    def writable(self) -> bool:
        return True


def import_file(path: Path, name: str) -> ModuleType:
    """The module of a file, executed anew, under this name."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def run_case(driver, program, given: dict, folder: Path) -> dict:
    """What came of `driver(program, given)`, as `case.Outcome.of` reads it.

    `folder` has the student's files: the line that is named is the last one in them.
    """
    try:
        with redirect_stdout(Printed()):
            outputs = driver(program, given)
        return {"outputs": {name: plain(value) for name, value in outputs.items()}}
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit is one of them
        return describe(error, folder)


def describe(error: BaseException, folder: Path) -> dict:
    """An exception, with the last line of the student's code that led to it."""
    line = ""
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError):
        line = f"{Path(error.filename or '').name}:{error.lineno}: {(error.text or '').strip()}"
    for frame in frames:
        path = Path(frame.filename)
        if path.is_relative_to(folder) and "backstage" not in path.parts:
            line = f"{path.relative_to(folder)}:{frame.lineno}: {frame.line}"
    return {"kind": type(error).__name__, "message": str(error)[:600], "line": line}
