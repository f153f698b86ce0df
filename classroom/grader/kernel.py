"""What Linux refuses a process for good, without namespaces and without rights.

Landlock leaves of the files those that are named; seccomp refuses other processes, programs and
sockets. Both hold for compiled code, too, and for what a student's code makes of Python itself.
"""

import contextlib
import ctypes
import os
import platform
import struct

libc = ctypes.CDLL(None, use_errno=True)

# ---- Landlock: landlock(7)

CREATE, ADD, RESTRICT = 444, 445, 446  # system calls, the same on all machines
READ_FILE, READ_DIR, WRITE_FILE, TRUNCATE = 1 << 2, 1 << 3, 1 << 1, 1 << 14
RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # how many file rights each version knows; later ones 16
OF_FILES = 0b1100_0000_0000_0111  # those that make sense for a file that is no folder


def allow_files(readable: list[str], writable: list[str]) -> bool:
    """Let these files and folders be read, those be written, no others; whether that is possible.

    Nothing may be executed, and no TCP port used. Files that are open stay so.
    """
    version = libc.syscall(CREATE, None, 0, 1)
    if version < 1:
        return False
    handled = (1 << RIGHTS.get(version, 16)) - 1
    rules = struct.pack("QQQ", handled, 0b11, 0b11)  # files, TCP, signals and abstract sockets
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = libc.syscall(CREATE, rules[:size], size, 0)
    if ruleset < 0:
        return False
    reading = READ_FILE | READ_DIR
    for paths, rights in ((readable, reading), (writable, handled & ~1)):  # 1: execution
        for path in paths:
            with contextlib.suppress(OSError):
                allow(ruleset, path, rights & handled)
    fine = libc.syscall(RESTRICT, ruleset, 0) == 0
    os.close(ruleset)
    return fine


def allow(ruleset: int, path: str, rights: int) -> None:
    """Add a rule for a file, or for a folder and what is in it."""
    file = os.open(path, os.O_PATH)
    if not os.path.isdir(path):
        rights &= OF_FILES
    libc.syscall(ADD, ruleset, 1, struct.pack("=Qi", rights, file), 0)
    os.close(file)


# ---- seccomp: a filter of system calls

MACHINES = {  # of each: its number, and the numbers of fork-like and of refused system calls
    "x86_64": (0xC000003E, 56, (
        29, 41, 53, 57, 58, 59, 62, 64, 68, 101, 310, 311, 322, 425, 434, 438,
    )),
    "aarch64": (0xC00000B7, 220, (
        117, 129, 186, 190, 194, 198, 199, 221, 270, 271, 281, 425, 434, 438,
    )),
}
CLONE3 = 435
THREAD = 0x10000  # the flag with which clone() starts a thread
LOAD, EQUAL, ATLEAST, HAS, GIVE = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOWED, REFUSED, UNKNOWN = 0x7FFF0000, 0x00050001, 0x00050026  # EPERM, ENOSYS


def refuse_calls() -> bool:
    """Refuse forks, programs, sockets, signals, looks into other processes; whether that worked.

    The system calls are shmget, socket, socketpair, fork, vfork, execve, kill, semget, msgget,
    ptrace, process_vm_readv and _writev, execveat, io_uring_setup, pidfd_open and _getfd.
    """
    if platform.machine() not in MACHINES:
        return False
    machine, clone, refused = MACHINES[platform.machine()]
    steps = [
        (LOAD, 0, 0, 4), (EQUAL, 1, 0, machine), (GIVE, 0, 0, REFUSED),
        (LOAD, 0, 0, 0), (ATLEAST, 0, 1, 1 << 30), (GIVE, 0, 0, REFUSED),
        (EQUAL, 0, 1, CLONE3), (GIVE, 0, 0, UNKNOWN),  # so that clone() is taken, with its flags
    ]
    for number in refused:
        steps += [(EQUAL, 0, 1, number), (GIVE, 0, 0, REFUSED)]
    steps += [
        (EQUAL, 0, 3, clone), (LOAD, 0, 0, 16), (HAS, 1, 0, THREAD), (GIVE, 0, 0, REFUSED),
        (GIVE, 0, 0, ALLOWED),
    ]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    header = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program))
    return libc.prctl(22, 2, header, 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
