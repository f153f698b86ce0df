"""A process that shuts itself in before it runs a student's code.

What the system permits of it is done: namespaces without network, with other processes invisible
and with the reference, home and temporary files hidden; another user without rights; limits on
time, memory and files. A hook that cannot be removed refuses the same from within Python, for where
a namespace is not permitted, and with a message that says so. What Linux refuses is in kernel.py.
"""

import contextlib
import ctypes
import os
import resource
import sys
from pathlib import Path

NEWNS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE, MS_NOSUID, MS_NODEV, MS_NOEXEC = 4096, 16384, 1 << 18, 2, 4, 8
NOBODY = 65534
MEGABYTE = 1 << 20
libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> bool:
    """Leave namespaces; whether that was permitted."""
    return libc.unshare(flags) == 0


def new_process_namespace() -> bool:
    """Let the next child see no process but its own; whether that was permitted.

    A user who is not root gets a user namespace, in which the later steps are permitted.
    """
    if os.getuid() == 0:
        return unshare(NEWPID)
    user, group = os.getuid(), os.getgid()
    if not unshare(NEWUSER | NEWPID):
        return False
    libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: these files are its own then
    with contextlib.suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{NOBODY} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{NOBODY} {group} 1")
    libc.prctl(4, 0, 0, 0, 0)
    return True


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """mount(2). OSError if it fails."""
    texts = [text.encode() if text else None for text in (source, target, kind)]
    if libc.mount(*texts, flags, data.encode() or None):
        raise OSError(ctypes.get_errno(), f"mount {target}")


def hide(hidden: list[str], kept: list[str], work: str) -> bool:
    """Put empty folders over `hidden`, with `kept` ones shining through; whether it worked.

    `work` becomes a folder in memory that is thrown away with the process.
    """
    if not unshare(NEWNS | NEWIPC):
        return False
    hidden = outermost([os.path.realpath(path) for path in hidden])
    try:
        mount("none", "/", None, MS_REC | MS_PRIVATE)
        # Under the names by which they are known here: a link to one is hidden with its folder.
        known = [path for each in kept for path in (each, os.path.realpath(each))]
        inside = [path for path in known if any(is_in(path, folder) for folder in hidden)]
        folders = {path: os.open(path, os.O_PATH) for path in outermost(inside)}
        for folder in hidden:
            mount("none", folder, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
        for path, folder in folders.items():
            os.makedirs(path, exist_ok=True)
            mount(f"/proc/self/fd/{folder}", path, None, MS_BIND | MS_REC)
            os.close(folder)
        mount("none", work, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=128m,mode=777")
        with contextlib.suppress(OSError):
            mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    except OSError:
        for folder in hidden:
            libc.umount2(folder.encode(), 2)  # MNT_DETACH: all is as it was
        return False
    return True


def outermost(paths: list[str]) -> list[str]:
    """Folders that exist and are not in another one of them."""
    paths = sorted({path for path in paths if os.path.isdir(path)})
    return [p for p in paths if not any(p != other and is_in(p, other) for other in paths)]


def is_in(path: str, folder: str) -> bool:
    """Whether an absolute path is that of a folder or of something in it."""
    return os.path.commonpath([path, folder]) == folder


def limit(seconds: int, megabytes: int) -> None:
    """Limits of this process and its children: CPU time, memory beyond that in use, files."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    for name, value in (
        (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, size + megabytes * MEGABYTE),
        (resource.RLIMIT_FSIZE, 64 * MEGABYTE), (resource.RLIMIT_NOFILE, 128),
        (resource.RLIMIT_NPROC, 64), (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(name, (value, value))


def drop_rights(needed: list[str]) -> None:
    """Be nobody, if that user can read what is needed; in any case without capabilities."""
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    if os.getuid() == 0 and all(open_to_all(path) for path in needed):
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    libc.capset(header, (ctypes.c_uint32 * 6)())
    libc.prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG: end with the process that waits


def open_to_all(path: str) -> bool:
    """Whether each folder that leads to a path lets every user pass."""
    folders = [path, *map(str, Path(path).resolve().parents), os.path.realpath(path)]
    return all(os.stat(folder).st_mode & 0o001 for folder in folders if os.path.isdir(folder))


# ---- The hook

REFUSED = (
    "socket.", "subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.system", "os.startfile",
    "os.kill", "os.killpg", "pty.", "ctypes.dlopen", "ctypes.dlsym", "signal.pthread_kill",
    "ftplib.", "http.client.", "smtplib.", "urllib.", "webbrowser.", "syslog.", "sys.settrace",
    "sys.setprofile", "gc.get_objects", "gc.get_referrers", "gc.get_referents",
)
CHANGES = (
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link",
    "os.symlink", "os.truncate", "os.utime", "shutil.rmtree", "shutil.move", "os.chflags",
)


def guard(readable: list[str], work: str) -> None:
    """Refuse from now on, in this process, what a solution does not need.

    Files may be read under `readable`, and written in `work`. Modules are imported as before.
    """
    readable = tuple(os.path.realpath(path) for path in readable)
    work = os.path.realpath(work)
    real, refused, changes = os.path.realpath, REFUSED, CHANGES
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def within(path, folders: tuple[str, ...]) -> bool:
        if isinstance(path, int):
            return True
        path = os.fsdecode(path)
        full = real(path if path[:1] == "/" else f"{os.getcwd()}/{path}")
        return any(full == folder or full.startswith(f"{folder}/") for folder in folders)

    def hook(event: str, args: tuple) -> None:
        if event == "open":
            path, mode, flags = args
            change = bool(set(mode or "") & set("wax+")) or bool((flags or 0) & writing)
            allowed = (work, "/dev/null") if change else (*readable, work)
            if path is not None and not within(path, allowed):
                raise PermissionError(f"{path}: not to be opened while this is graded")
        elif event in changes and not within(args[0], (work,)):
            raise PermissionError(f"{event} outside the working folder")
        elif event.startswith(refused):
            raise PermissionError(f"{event}: not while this is graded")
        elif event == "object.__setattr__" and args[1] == "__code__":
            raise PermissionError("a function's code is not to be exchanged")

    sys.addaudithook(hook)
