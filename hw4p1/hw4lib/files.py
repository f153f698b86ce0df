"""Files that hold the old content or the new one, whole, whatever happens in between."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def atomic_write(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write(file)` fill a temporary file beside `path`, then put it there in one step."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, content: object) -> None:
    """Write `content` as JSON, indented by 4, atomically."""
    atomic_write(path, lambda file: file.write((json.dumps(content, indent=4) + "\n").encode()))
