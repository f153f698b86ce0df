"""A lock on a name: of two processes that would write the same files, the second is refused."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from backstage.errors import UserError
from backstage.files import lock_file


@contextlib.contextmanager
def exclusive(path: Path, instead: str, seconds: float = 0.2) -> Iterator[None]:
    """Have `path` and what is written beside it for this process alone, until the block is left.

    The system frees the lock when the process dies, in whatever way. Raises UserError if another
    process has it for so many `seconds`; `instead` is what the person can do then.
    """
    lock = lock_file(path)
    end = time.monotonic() + seconds
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        while (file := try_to_lock(lock)) is None:
            if time.monotonic() > end:
                who = f"process {lock.read_text(errors='replace')[:20].strip() or '?'}"
                raise UserError(f"{path}: {who} works on it ({lock.name}); wait, or {instead}")
            time.sleep(0.02)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); {instead}") from None
    try:
        yield
    finally:  # removed before it is freed: who opened it meanwhile sees that, and tries again
        with contextlib.suppress(OSError):  # Windows keeps a file that is open
            if os.path.samestat(os.fstat(file), os.lstat(lock)):
                lock.unlink()
        os.close(file)


def try_to_lock(lock: Path) -> int | None:
    """The lock file, open, locked, with the number of this process in it; None if it is taken."""
    file = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        if os.name == "nt":  # a byte far behind the number, as a locked one cannot be read
            import msvcrt
            os.lseek(file, 1 << 20, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock, not for its forks too
        taken = not os.path.samestat(os.fstat(file), os.lstat(lock))  # removed since it was opened
    except OSError as error:  # others: a file system without locks, where all goes as if unlocked
        taken = isinstance(error, BlockingIOError | PermissionError | FileNotFoundError)
    if taken:
        os.close(file)
        return None
    os.lseek(file, 0, os.SEEK_SET)
    with contextlib.suppress(OSError):  # a full disk, which is told elsewhere
        os.write(file, f"{os.getpid():<20}".encode())
    return file
