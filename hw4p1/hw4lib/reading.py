"""Reading what anybody may have written: files whole and once, and their words on a terminal."""

import os
import re
import stat
from pathlib import Path

from .errors import UserError

CONTROL = re.compile(r"[\0-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and new line


def read_file(path: str | Path, remedy: str, largest: int | None = None) -> bytes:
    """All bytes of a regular file, which another program may overwrite a moment later.

    UserError that ends with the `remedy` if it cannot be read, is a pipe or a device, or has more
    than `largest` bytes.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(22, "it is no regular file")
            content = file.read() if largest is None else file.read(largest + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    except ValueError as error:  # a name with a zero byte
        raise UserError(f"{path}: cannot be read ({error}); {remedy}") from None
    if largest is not None and len(content) > largest:
        raise UserError(f"{path}: more than {largest:,} bytes, too many for what it is; {remedy}")
    return content


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting for somebody who writes into it, should it be a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def printable(text: str) -> str:
    """The text with its control characters spelled, so that it sends no command to a terminal."""
    return CONTROL.sub(lambda match: repr(match[0])[1:-1], text)


def shown(value: object, longest: int = 60) -> str:
    """A value as an error message shows it: `repr`, cut."""
    text = repr(value)
    return text if len(text) <= longest else f"{text[: longest - 4]} ..."
