"""What the tests of `wfpsa top` share: keys that are pressed, and a terminal in which it draws."""

import errno
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from command import environment

from wfpsa.cli.common import ExitCode
from wfpsa.cli.top_controls import Controls

WAIT = 60.0
"""Seconds for what must happen."""


# ---- keys ----


def pressed(text: str, controls: Controls | None = None, *, both: bool = True) -> Controls:
    controls = controls or Controls()
    assert not any(controls.press(key, both) for key in text)
    return controls


# ---- a terminal ----

CHILD = """
import fcntl, os, signal, sys, termios, threading
from wfpsa import testing
from wfpsa.cli import main

signal.signal(signal.SIGHUP, signal.SIG_IGN)
if os.isatty(0):
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
embedded = testing.EmbeddedEngine("topped")
busy = threading.Lock()

def obey():
    text = b""
    while part := os.read(int(sys.argv[1]), 1):
        text += part
        if part == b"\\n":
            with busy:
                exec(text.decode(), {"embedded": embedded})
            text = b""

threading.Thread(target=obey, daemon=True).start()
embedded.seed(300, 7)
code = main(["top", "--engine", embedded.target, "--interval", "0.1", *sys.argv[2:]])
with busy:
    embedded.close()
print("alive", {name: count for name, count in testing.live_counters().items() if count}, file=sys.stderr)
sys.exit(code)
"""

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"
_ESCAPES = re.compile(rb"\x1b(\[[0-?]*[ -/]*[@-~]|[()].)")


class Terminal:
    """A terminal in which `wfpsa top` draws an embedded engine of its own process."""

    def __init__(self, arguments: tuple[str, ...], width: int, height: int, stdin: bool, **variables: str) -> None:
        import pty
        import termios

        self.ours, self.its = pty.openpty()
        self.resize(width, height)
        self.modes = termios.tcgetattr(self.its)
        theirs, self.orders = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(theirs), *arguments],
            env=environment(**{"TERM": "xterm-256color", **variables}),
            stdin=self.its if stdin else subprocess.DEVNULL,
            stdout=self.its,
            stderr=subprocess.PIPE,
            pass_fds=[theirs],
            start_new_session=True,
        )
        os.close(theirs)
        self.shown = b""

    def resize(self, width: int, height: int) -> None:
        import fcntl
        import struct
        import termios

        self.size = width, height
        fcntl.ioctl(self.its, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def do(self, code: str) -> None:
        os.write(self.orders, f"{code}\n".encode())

    def press(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def _read(self, seconds: float) -> bool:
        if not select.select([self.ours], [], [], seconds)[0]:
            return False
        try:
            self.shown += os.read(self.ours, 65536)
        except OSError as error:
            assert error.errno == errno.EIO
            return False
        return True

    def lines(self) -> list[str]:
        """The lines of the last whole frame."""
        frames = self.shown.split(b"\x1b[H")
        for frame in reversed(frames[1:]):
            lines = _ESCAPES.sub(b"", frame).decode().split("\r\n")
            if len(lines) == self.size[1] and len(lines[-1]) == self.size[0]:
                return [line.rstrip() for line in lines]
        return [""] * self.size[1]

    def until(self, shown: Callable[[list[str]], object]) -> list[str]:
        """Waits for a frame of which that is true, drawn from now on or the last one."""
        end = time.monotonic() + WAIT
        while not shown(lines := self.lines()):
            assert time.monotonic() < end, "\n".join(lines)
            self._read(0.5)
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read().decode()
        return lines

    def after(self, seconds: float) -> list[str]:
        """The last frame of those drawn until then."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._read(left)
        return self.lines()

    def end(self) -> tuple[int, list[str]]:
        """Waits for the end; the exit code, and what was written to stderr. The terminal is as it was before."""
        import termios

        end = time.monotonic() + WAIT
        while self.process.poll() is None:
            assert time.monotonic() < end, "it goes on"
            self._read(0.05)
        while self._read(0.0):
            pass
        assert termios.tcgetattr(self.its) == self.modes
        assert self.shown.count(ENTER) == self.shown.count(LEAVE) and self.shown.count(HIDE) == self.shown.count(SHOW)
        if ENTER in self.shown:
            assert self.shown.rindex(ENTER) < self.shown.rindex(LEAVE)
        assert self.process.stderr is not None
        return self.process.returncode, self.process.stderr.read().decode().splitlines()

    def close(self) -> None:
        with self.process:
            self.process.kill()
        for descriptor in (self.ours, self.its, self.orders):
            with suppress(OSError):  # a test has closed it
                os.close(descriptor)


Open = Callable[..., Terminal]
ENDED = (ExitCode.DONE, ["alive {}"])


def column(lines: list[str], first: str) -> list[str]:
    """The first words below that head; none where it is not there."""
    at = next((at for at, line in enumerate(lines) if line.startswith(first)), len(lines))
    rows = lines[at + 1 : -1]
    return [line.split()[0] for line in rows[: rows.index("") if "" in rows else None]]
