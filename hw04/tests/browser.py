"""A headless Chromium, driven by the DevTools protocol through a pair of pipes."""

import base64
import contextlib
import fcntl
import itertools
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run",
    "--disable-background-networking", "--disable-extensions", "--hide-scrollbars",
    "--disable-dev-shm-usage", "--force-color-profile=srgb", "about:blank",
)


def program() -> str | None:
    """The path of a Chromium, if there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def above_ten(descriptor: int) -> int:
    """The same file as a descriptor that is none of those which the browser expects."""
    copied = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return copied


class Browser:
    """One tab. `requests` and `errors` collect what it asked the network for, and complained of."""

    def __init__(self, folder: Path, *flags: str):
        read_commands, self.commands = map(above_ten, os.pipe())
        self.answers, write_answers = map(above_ten, os.pipe())
        actions = [
            (os.POSIX_SPAWN_DUP2, read_commands, 3), (os.POSIX_SPAWN_DUP2, write_answers, 4),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0), (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        command = [program(), f"--user-data-dir={folder}", *flags, *FLAGS]
        self.process = os.posix_spawn(
            command[0], command, os.environ, file_actions=actions, setpgroup=0
        )
        os.close(read_commands)
        os.close(write_answers)
        self.numbers = itertools.count(1)
        self.received = b""
        self.session = None
        self.requests: list[str] = []
        self.errors: list[str] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(one["targetId"] for one in targets if one["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """End all its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        os.close(self.commands)
        os.close(self.answers)

    def call(self, method: str, timeout: float = 60, **parameters):
        """The result of a method of the protocol; raises RuntimeError with what went wrong."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        for answer in self.messages(timeout):
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
        raise TimeoutError(f"{method}: no answer in {timeout} s")

    def messages(self, timeout: float) -> Iterator[dict]:
        """What comes from the browser; events are noted on the way."""
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            while b"\0" in self.received:
                text, self.received = self.received.split(b"\0", 1)
                message = json.loads(text)
                self.note(message.get("method"), message.get("params", {}))
                yield message
            if select.select([self.answers], [], [], left)[0]:
                self.received += os.read(self.answers, 1 << 20)

    def note(self, event: str | None, about: dict) -> None:
        """Keep requests to a network, exceptions and what the console shows as wrong."""
        if event == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"][:200])
        elif event == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(about["exceptionDetails"])[:500])
        elif event == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning"):
            self.errors.append(json.dumps(about["args"])[:500])
        elif event == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.errors.append(about["entry"]["text"][:500])

    def run(self, script: str, timeout: float = 60):
        """The value of a JavaScript expression, or of the promise that it is."""
        options = {"returnByValue": True, "awaitPromise": True, "userGesture": True}
        done = self.call("Runtime.evaluate", timeout, expression=script, **options)
        if "exceptionDetails" in done:
            raise RuntimeError(json.dumps(done["exceptionDetails"])[:2000])
        return done["result"].get("value")

    def open(self, address: str) -> None:
        """Go to an address and wait until the document is there."""
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def wait(self, condition: str, timeout: float = 60):
        """Wait until an expression is true; returns its value."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            value = self.run(condition)
            if value:
                return value
            time.sleep(0.02)
        raise TimeoutError(f"not so after {timeout} s: {condition}")

    def window(self, width: int, height: int, scale: float = 1, dark: bool = False) -> None:
        """A window of this size, in a light or a dark theme."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height,
            deviceScaleFactor=scale, mobile=False,
        )
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[theme])

    def press(self, key: str, **more) -> None:
        """A key of the keyboard."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, **more)

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """The window as a PNG, or the `whole` page."""
        done = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(done["data"]))
