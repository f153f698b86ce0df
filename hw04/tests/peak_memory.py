"""What a call costs, measured in a fork of the tests' process."""

import json
import os
import resource
from collections.abc import Callable


def peak(
    call: Callable[[], object], first: Callable[[], object] = lambda: None
) -> tuple[float, object]:
    """The megabytes that a call takes at most, beyond what was there before, and its result.

    What is needed `first` does not count, such as the pages of the libraries that come into memory.
    """
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            first()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            result = call()
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            os.write(writer, json.dumps([(after - before) / 1024, result]).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        written = file.read()
    os.waitpid(process, 0)
    assert written, "the call failed, see its output"
    return tuple(json.loads(written))
