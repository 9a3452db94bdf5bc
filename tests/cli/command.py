"""What runs of the command share: what a run leaves, a process or a terminal of its own, and expiries to look at."""

import _thread
import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import Worker, outbound

import wfpsa
from wfpsa import testing
from wfpsa.cli.common import ExitCode

EXPIRE = "IPsecSaContextExpire0"
ALL = ("--remote", "10.1.0.0/16")
"""Selects what support.added() adds."""


# ---- runs ----


@dataclass(frozen=True)
class Result:
    """What a run of the command left: its exit code, the bytes of stdout, the text of stderr."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


Run = Callable[..., Result]


def environment(**variables: str) -> dict[str, str]:
    """The environment of a process of its own, which finds the same wfpsa."""
    paths = [str(Path(wfpsa.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    return {**kept, **variables, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def on_terminal(*arguments: str, columns: int = 80, code: int = ExitCode.DONE, **variables: str) -> bytes:
    """All that the command writes to a terminal of that width; it must end with that exit code."""
    import fcntl
    import pty
    import struct
    import termios

    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "wfpsa", *arguments],
        env=environment(**{"TERM": "xterm-256color", **variables}),
        stdin=its,
        stdout=its,
        stderr=its,
    )
    os.close(its)
    shown = b""
    try:
        while part := _read(ours):
            shown += part
    finally:
        os.close(ours)
        process.wait(60)
    assert process.returncode == code
    return shown


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError as error:  # Linux says so where the other end is closed
        if error.errno != errno.EIO:
            raise
        return b""


# ---- expiries ----


def failing_allocations(run: Run, nths: range, *arguments: object) -> int:
    """Runs a command with one allocation that fails, the nth for each of these, until it is done; how often it failed.

    Each time it must fail as a command does.
    """
    for failures, nth in enumerate(nths):
        testing.fail_allocation(nth)
        result = run(*arguments)
        testing.fail_allocation(0)
        assert "Traceback" not in result.err
        if result.code == ExitCode.DONE:
            return failures
        assert result.code == ExitCode.FAILURE
    raise AssertionError("it never was done")


def ids(control: testing.EmbeddedEngine) -> list[int]:
    """All contexts."""
    with control.open() as engine:
        return engine.snapshot()["context_id"].tolist()


def live(control: testing.EmbeddedEngine) -> set[int]:
    """The contexts that still have an outbound SA."""
    with control.open() as engine:
        return outbound(engine)


def counts(text: str) -> dict[str, int]:
    """The outcomes in a table."""
    return {name: int(count) for name, count in (line.split() for line in text.splitlines())}


def facts(text: bytes) -> dict[str, Any]:
    """The one JSON object that it is."""
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def planned(expire: Run, path: Path, *arguments: object) -> Path:
    """The file of a plan that a dry run wrote."""
    assert expire(*(arguments or ALL), "--plan", path).code == ExitCode.DONE
    return path


def stopped(expire: Run, path: Path, *arguments: object) -> dict[str, int]:
    """What a run with that journal did of its contexts until its time was over."""
    limits = ("--rate", 100, "--timeout", 0.15, "--journal", path)
    for _ in range(10):
        result = expire(*(arguments or ALL), "--yes", *limits, "--format", "json")
        if result.code != ExitCode.FAILURE:
            break
        path.unlink()  # all of the time went by before the first call: nothing was done
    assert result.code == ExitCode.PARTIAL
    found = facts(result.out)
    assert found["EXPIRED"] > 0 and found["NOT_ATTEMPTED"] > 0
    return found


@contextmanager
def pressing(embedded: testing.EmbeddedEngine) -> Iterator[None]:
    """Presses Ctrl-C once a context is expired."""
    total = len(live(embedded))

    def press() -> None:
        deadline = time.monotonic() + 30
        while len(live(embedded)) == total and time.monotonic() < deadline:
            time.sleep(0.005)
        _thread.interrupt_main()

    presser = Worker(press)
    try:
        yield
    finally:
        presser.finish()
