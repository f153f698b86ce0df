"""The two ways in which a program of ours ends early on purpose, and one that nobody wants."""

import errno
import re

# What the libraries say when they get no memory: PyTorch for a CPU and a GPU, C++, oneDNN, CUDA's,
# Python for a thread, and the system for a library that is loaded.
NO_MEMORY = re.compile(
    "out of memory|not enough memory|(?i:can(?:no|')t allocate memory)|unable to mmap|bad_alloc"
    "|could not create a primitive(?! desc)|could not create a memory|ALLOC_FAILED"
    "|can't start new thread|failed to map segment"
)


class UserError(Exception):
    """Something that the user can mend: one line, printed with exit status 2."""


class Stopped(Exception):
    """A training that a signal (its number) stopped, with its state saved."""


def lacks_memory(error: BaseException) -> bool:
    """Whether an exception is one of too little memory."""
    if isinstance(error, OSError) and error.errno is not None:  # its text may be a file's name
        return error.errno == errno.ENOMEM
    if isinstance(error, RuntimeError | ImportError | OSError):
        return NO_MEMORY.search(str(error)) is not None
    return isinstance(error, MemoryError)
