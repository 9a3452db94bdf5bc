"""The application of a plan: sessions in parallel, its limits, its retries, and every way to stop."""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from wfpsa import _native
from wfpsa.enums import Outcome
from wfpsa.errors import EngineClosed, ExpiryInterrupted, WfpError
from wfpsa.report import ExpiryReport

__all__ = ["Application", "Limits", "Place"]

SESSIONS_MAX = 256
BLOCK_MAX = 256
"""Ids that a session takes at a time, and after which the limits are looked at."""
RETRIES = 3
RATIO_FROM = 20
FWP_E_TIMEOUT = 0x80320012
POLL = 0.1
"""Seconds between two looks of the thread that waits at signals, and two calls of `on_progress`."""


class Place(Protocol):
    """What an application needs of an engine."""

    @property
    def target(self) -> str:
        """What it was opened with."""

    def _own_session(self) -> _native.Session:
        """The session that it has, and closes itself."""

    def _another_session(self) -> _native.Session:
        """A new session, for the asker to close."""


@dataclass(frozen=True)
class Limits:
    """What an application may do at most."""

    sessions: int
    max_rate: float | None
    max_failures: int | None
    max_failure_ratio: float | None
    timeout: float | None

    @classmethod
    def checked(
        cls,
        sessions: int,
        max_rate: float | None,
        max_failures: int | None,
        max_failure_ratio: float | None,
        timeout: float | None,
    ) -> "Limits":
        """The limits, or a clear error for a bad one."""
        _whole("sessions", sessions, 1, SESSIONS_MAX)
        if max_failures is not None:
            _whole("max_failures", max_failures, 0, 2**63 - 1)
        for name, value, least, most in (
            ("max_rate", max_rate, 0.0, math.inf),
            ("max_failure_ratio", max_failure_ratio, None, 1.0),
            ("timeout", timeout, 0.0, math.inf),
        ):
            _number(name, value, least, most)
        return cls(sessions, max_rate, max_failures, max_failure_ratio, timeout)


def _whole(name: str, value: int, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be {least} to {most}, not {value}")


def _number(name: str, value: float | None, above: float | None, most: float) -> None:
    """Checks a number above `above` (None: 0 or more) and at most `most`."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number or None, not {type(value).__name__}")
    if not (value > above if above is not None else value >= 0) or not value <= most:
        wanted = f"above {above:g}" if above is not None else "0 or more"
        bound = "" if most == math.inf else f" and at most {most:g}"
        raise ValueError(f"{name} must be {wanted}{bound}, not {value}")


class Application:
    """One application of a plan to the contexts of a batch, but for those `skipped`.

    The workers share its cursor and its counts, under its lock.
    """

    def __init__(
        self,
        contexts: _native.SaBatch,
        skipped: frozenset[int],
        engine: Place,
        limits: Limits,
        verify: bool,
        on_progress: Callable[[ExpiryReport], object] | None,
    ) -> None:
        self._contexts = contexts
        self._engine = engine
        self._limits = limits
        self._verify = verify
        self._on_progress = on_progress
        self._items = _native.ExpiryItems(contexts)
        ids = contexts["context_id"]
        self._skipped = bytes(number in skipped for number in ids) if skipped else bytes(len(ids))
        self._planned = len(ids) - len(skipped)
        self._report = ExpiryReport(self._items, cancel=self._cancel)
        self._lock = threading.Lock()
        self._woken = threading.Condition(self._lock)
        self._next = 0
        self._attempted = 0
        self._failed = 0
        self._stopped = ""
        self._began = time.monotonic()
        share = math.ceil(len(ids) / (limits.sessions * 8)) if len(ids) else 1
        self._block = max(1, min(BLOCK_MAX, share))

    def run(self) -> ExpiryReport:
        """Applies the plan; returns or raises with the report."""
        first = self._engine._own_session()
        worker: Future[None] | None = None
        with ThreadPoolExecutor(self._limits.sessions, "wfpsa-expiry") as pool:
            workers = [pool.submit(self._work, first if at == 0 else None) for at in range(self._limits.sessions)]
            try:
                while wait(workers, POLL).not_done:  # and not for ever: Ctrl-C is answered in between
                    self._tell()
                for worker in workers:
                    worker.result()
            except BaseException as error:
                self._stop("interrupted")
                wait(workers)
                self._end()
                if isinstance(error, KeyboardInterrupt):
                    done = self._attempted
                    message = f"the expiry was interrupted after {done} of {self._planned}"
                    raise ExpiryInterrupted(message, self._report) from error
                error.report = self._report  # type: ignore[attr-defined]
                raise
            finally:
                # The error's traceback has this frame, and a future has the error: a cycle, which CPython 3.13 does not
                # collect where the error is a MemoryError.
                workers.clear()
                worker = None
        self._end()
        self._tell()
        return self._report

    def _cancel(self) -> None:
        self._stop("cancelled")

    def _stop(self, reason: str) -> None:
        with self._woken:
            self._stopped = self._stopped or reason
            self._woken.notify_all()

    def _end(self) -> None:
        self._report._finish(self._stopped or None)

    def _tell(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self._report)

    # ---- in the workers ----

    def _work(self, session: _native.Session | None) -> None:
        """Takes blocks until there are none or it is stopped, in that session or one of its own."""
        worker = Worker(self._engine, session)
        try:
            worker.begin()
            while (block := self._take()) is not None:
                self._expire(worker, *block)
        except EngineClosed:
            self._stop("the engine was closed")
        except WfpError as error:
            self._stop(f"a session could not be opened: {error}")
        finally:
            worker.end()

    def _take(self) -> tuple[int, int] | None:
        """The next range of items, once the rate allows it; None where the work is done or stopped."""
        with self._woken:
            while not self._stopped:
                self._check_limits()
                if self._stopped or self._next >= len(self._items):
                    return None
                first = self._next
                stop = min(first + self._block, len(self._items))
                rate = self._limits.max_rate
                if rate is not None:
                    allowed = rate * (time.monotonic() - self._began) + 1
                    stop = min(stop, int(allowed))
                    if stop <= first:
                        self._woken.wait(min(POLL, (first + 1 - allowed) / rate + 0.001))
                        continue
                self._next = stop
                return first, stop
            return None

    def _check_limits(self) -> None:
        limits = self._limits
        if limits.timeout is not None and time.monotonic() - self._began > limits.timeout:
            self._stopped = f"the timeout of {limits.timeout:g} s"
        elif limits.max_failures is not None and self._failed > limits.max_failures:
            self._stopped = f"more than {limits.max_failures} failures"
        elif (
            limits.max_failure_ratio is not None
            and self._attempted >= RATIO_FROM
            and self._failed > limits.max_failure_ratio * self._attempted
        ):
            self._stopped = f"failures above {limits.max_failure_ratio:g} of those attempted"

    def _expire(self, worker: "Worker", first: int, stop: int) -> None:
        """Expires a range, with what is to be tried again."""
        at = first
        while at < stop and not self._halted():
            done, lost = self._slice(worker, at, stop)
            if self._items.counts(at, done).get(Outcome.FAILED):
                self._try_again(worker, at, done, lost)
            self._count(at, done)
            at = done

    def _slice(self, worker: "Worker", first: int, stop: int) -> tuple[int, bool]:
        seen = self._contexts if self._verify else None
        return worker.session.expire_slice(self._items, first, stop, self._skipped, seen)

    def _try_again(self, worker: "Worker", first: int, stop: int, lost: bool) -> None:
        """Tries again those of a range that timed out at the lock, and the last one where its session was lost."""
        codes, tries = self._items.code, self._items.attempts
        for at in range(stop - 1, first - 1, -1):
            while lost or (codes[at] == FWP_E_TIMEOUT and tries[at] <= RETRIES):
                if lost:
                    self._verify = True  # ids may be others' after a restart of the service
                    if not self._replace(worker):
                        return
                if self._halted() or tries[at] > RETRIES:
                    lost = False
                    break
                _, lost = self._slice(worker, at, at + 1)

    def _halted(self) -> bool:
        with self._lock:
            self._check_limits()
            return bool(self._stopped)

    def _replace(self, worker: "Worker") -> bool:
        """Gives the worker a new session, as soon as there is one; False, and all is stopped, where there is none."""
        for turn in range(RETRIES):
            try:
                worker.begin_anew()
                return True
            except WfpError as error:
                if turn == RETRIES - 1:
                    self._stop(f"the session was lost: {error}")
                    return False
            with self._woken:
                self._woken.wait(0.2 * 2**turn)
            if self._halted():
                return False
        return False

    def _count(self, first: int, stop: int) -> None:
        counts = self._items.counts(first, stop)
        with self._woken:
            self._attempted += sum(counts.values()) - counts.get(Outcome.SKIPPED, 0)
            self._attempted -= counts.get(Outcome.NOT_ATTEMPTED, 0)
            self._failed += counts.get(Outcome.DENIED, 0) + counts.get(Outcome.FAILED, 0)
            self._woken.notify_all()


class Worker:
    """A session at work: the one that it was given, which stays its giver's, or one of its own."""

    def __init__(self, engine: Place, given: _native.Session | None) -> None:
        self._engine = engine
        self._given = given
        self._own: _native.Session | None = None

    @property
    def session(self) -> _native.Session:
        """The session to be used."""
        session = self._own or self._given
        assert session is not None, "begin() comes first"
        return session

    def begin(self) -> None:
        """Opens a session where none was given."""
        if self._given is None:
            self._own = self._engine._another_session()

    def begin_anew(self) -> None:
        """Opens a session instead of the one that was lost."""
        fresh = self._engine._another_session()
        self.end()
        self._own = fresh

    def end(self) -> None:
        """Closes its own session."""
        if self._own is not None:
            with suppress(WfpError):  # a dead one says so once more
                self._own.close()
        self._own = None
