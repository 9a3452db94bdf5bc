"""The loop of a mass expiry: sessions in parallel, its limits, its retries, its journal, and every way to stop."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from wfpsa import _native
from wfpsa.enums import Guard, Outcome
from wfpsa.errors import AccessDenied, EngineClosed, EngineTimeout, NotFound, WfpError
from wfpsa.journal import Journal
from wfpsa.report import ExpiryReport, interrupted

__all__ = ["Application", "Limits", "Place"]

SESSIONS_MAX = 256
BLOCK_MAX = 256
"""Ids that a session takes at a time, and after which the limits are looked at."""
RETRIES = 3
AWAITED = 30.0
"""Seconds for which a service that restarts is waited for, where the timeout is not over sooner."""
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
    if value == math.inf:
        raise ValueError(f"{name} must be finite; None is for no limit")


class Application:
    """One expiry of the items of a report, within limits: those in the ranges `left`, or all of them.

    The workers share its ranges and its counts, under its lock.
    """

    def __init__(
        self,
        report: ExpiryReport,
        engine: Place,
        limits: Limits,
        *,
        seen: _native.SaBatch | None,
        verify: bool,
        on_progress: Callable[[ExpiryReport], object] | None = None,
        journal: Journal | None = None,
        left: list[tuple[int, int]] | None = None,
    ) -> None:
        self._report = report
        self._items = report._items
        self._engine = engine
        self._limits = limits
        self._seen = seen
        self._verify = verify
        self._on_progress = on_progress
        self._journal = journal
        self._left = deque([(0, len(report))] if left is None else left)
        self._lock = threading.Lock()
        self._woken = threading.Condition(self._lock)
        self._spared = bytes(self._items.guard)
        self._tokens = 1.0  # contexts that the rate allows now
        self._began = self._filled = 0.0
        self._attempted = 0
        self._failed = 0
        self._stopped = ""
        self._met = 0
        self._cleared = False
        count = sum(stop - first for first, stop in self._left)
        self._block = max(1, min(BLOCK_MAX, math.ceil(count / (limits.sessions * 8))))
        report._begin(self._cancel)

    def run(self) -> ExpiryReport:
        """Expires them; returns or raises with the report. Its time and its rate begin now."""
        self._began = self._filled = time.perf_counter()
        try:
            self._work_through(self._engine._own_session())
            self._tell()
        except KeyboardInterrupt as error:
            raise interrupted(self._report) from error
        except BaseException as error:
            error.report = self._report  # type: ignore[attr-defined]
            raise
        return self._report

    def _work_through(self, first: _native.Session) -> None:
        """Has the workers at work until all is done or stopped."""
        workers: list[Future[None]] = []
        worker: Future[None] | None = None
        try:
            with ThreadPoolExecutor(self._limits.sessions, "wfpsa-expiry") as pool:
                try:
                    for at in range(self._limits.sessions):
                        workers.append(pool.submit(self._work, None if at else first))
                    while wait(workers, POLL).not_done:  # and not for ever: Ctrl-C is answered in between
                        self._tell()
                    for worker in workers:
                        worker.result()
                except BaseException:
                    self._stop("interrupted")
                    _wait_out(workers)
                    raise
        finally:
            # The error's traceback has this frame, and a future has the error: a cycle, which CPython 3.13 does not
            # collect where the error is a MemoryError.
            workers.clear()
            worker = None
            self._end()

    def _cancel(self) -> None:
        self._stop("cancelled")

    def _stop(self, reason: str) -> None:
        with self._woken:
            self._stopped = self._stopped or reason
            self._woken.notify_all()

    def _lose_journal(self, error: OSError) -> None:
        """Stops, and says why also where it is stopped already."""
        said = f"the journal could not be written: {error}"
        with self._woken:
            if "the journal" not in self._stopped:
                self._stopped = f"{self._stopped}; {said}" if self._stopped else said
            self._woken.notify_all()

    def _end(self) -> None:
        if self._journal is not None:
            try:
                self._journal.end(self._stopped or None)
            except OSError as error:
                self._lose_journal(error)
        self._report._finish(self._stopped or None, time.perf_counter() - self._began)

    def _tell(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self._report)

    # ---- in the workers ----

    def _work(self, session: _native.Session | None) -> None:
        """Takes blocks until there are none or it is stopped, in that session or one of its own."""
        worker = Worker(self._engine, session)
        try:
            worker.begin()
            self._meet(worker)
            while (block := self._take()) is not None:
                self._record_and_expire(worker, *block)
        except EngineClosed:
            self._stop("the engine was closed")
        except WfpError as error:
            self._stop(f"a session could not be opened: {error}")
        except BaseException as error:
            self._stop(f"an error: {type(error).__name__}")
            raise
        finally:
            worker.end()

    def _meet(self, worker: "Worker") -> None:
        """Lets unverified work begin once all sessions are open and the given one is seen to be alive after that.

        The given one may be from before a restart of the service, of which nothing has told it yet, while the others
        are of now, when the ids may be others'. If it answers after the last of them was opened, all are of one life.
        """
        if self._verify or self._limits.sessions == 1:
            return
        with self._woken:
            self._met += 1
            self._woken.notify_all()
            while not self._stopped and (self._met < self._limits.sessions or not (worker.is_given or self._cleared)):
                self._woken.wait()
            if self._stopped or not worker.is_given or not len(self._items):
                return
        alive = _answers(worker.session, self._items.context_id[0])
        if not alive and self._seen is None:
            self._stop("the session was lost, and ids alone cannot be verified in another")
        with self._woken:
            self._verify = not alive
            self._cleared = True
            self._woken.notify_all()

    def _take(self) -> tuple[int, int] | None:
        """The next range of items, once the rate allows it; None where the work is done or stopped."""
        with self._woken:
            while not self._stopped:
                self._check_limits()
                if self._stopped or not self._left:
                    return None
                first, end = self._left[0]
                count = min(self._block, end - first)
                if self._limits.max_rate is not None:
                    count = self._allowed(first, count, self._limits.max_rate)
                    if not count:
                        continue
                if first + count < end:
                    self._left[0] = first + count, end
                else:
                    self._left.popleft()
                return first, first + count
            return None

    def _allowed(self, first: int, count: int, rate: float) -> int:
        """How many of so many items the rate allows; 0 after a wait. What was not used is kept for a second at most."""
        now = time.perf_counter()
        self._tokens = min(self._tokens + rate * (now - self._filled), max(rate, 1.0))
        self._filled = now
        if count - self._spares(first, count) > self._tokens:
            count = int(self._tokens) or (1 if self._spared[first] else 0)
        if not count:
            self._woken.wait(min(POLL, (1 - self._tokens) / rate + 0.001))
        self._tokens -= count - self._spares(first, count)
        return count

    def _spares(self, first: int, count: int) -> int:
        """How many of these a guard spares: they cost no call."""
        return count - self._spared.count(Guard.NONE, first, first + count)

    def _check_limits(self) -> None:
        limits = self._limits
        if self._stopped:
            return
        if limits.timeout is not None and time.perf_counter() - self._began > limits.timeout:
            self._stopped = f"the timeout of {limits.timeout:g} s"
        elif limits.max_failures is not None and self._failed > limits.max_failures:
            self._stopped = f"more than {limits.max_failures} failures"
        elif (
            limits.max_failure_ratio is not None
            and self._attempted >= RATIO_FROM
            and self._failed > limits.max_failure_ratio * self._attempted
        ):
            self._stopped = f"failures above {limits.max_failure_ratio:g} of those attempted"

    def _record_and_expire(self, worker: "Worker", first: int, stop: int) -> None:
        """Expires a range, between two records of the journal where there is one."""
        if self._journal is None:
            self._expire(worker, first, stop)
            return
        try:
            self._journal.intend(first, stop)
            try:
                self._expire(worker, first, stop)
            finally:
                self._journal.note(first, stop, self._items)
        except OSError as error:
            if isinstance(error, WfpError):
                raise
            self._lose_journal(error)

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
        limits = self._limits
        cautious = limits.max_failures is not None or limits.max_failure_ratio is not None
        return worker.session.expire_slice(self._items, first, stop, self._seen if self._verify else None, cautious)

    def _try_again(self, worker: "Worker", first: int, stop: int, lost: bool) -> None:
        """Tries again those of a range that timed out at the lock, and the last one where its session was lost."""
        codes, tries = self._items.code, self._items.attempts
        for at in range(stop - 1, first - 1, -1):
            while lost or (codes[at] == FWP_E_TIMEOUT and tries[at] <= RETRIES):
                if lost and not self._replace(worker):
                    return
                if self._halted() or tries[at] > RETRIES:
                    lost = False
                    break
                self._tokens -= 1
                _, lost = self._slice(worker, at, at + 1)

    def _halted(self) -> bool:
        with self._lock:
            self._check_limits()
            return bool(self._stopped)

    def _replace(self, worker: "Worker") -> bool:
        """Gives the worker a new session, as soon as there is one; False, and all is stopped, where there is none."""
        if self._seen is None:
            self._stop("the session was lost, and ids alone cannot be verified in another")
            return False
        self._verify = True  # ids may be others' after a restart of the service
        end, pause = time.perf_counter() + AWAITED, 0.1
        while not self._halted():
            try:
                worker.begin_anew()
                return True
            except WfpError as error:
                if time.perf_counter() + pause > end:
                    self._stop(f"the session was lost: {error}")
                    return False
            self._pause(pause)
            pause = min(2 * pause, 2.0)
        return False

    def _pause(self, seconds: float) -> None:
        """Waits so long, or until all is stopped."""
        end = time.perf_counter() + seconds
        with self._woken:
            while not self._stopped and (left := end - time.perf_counter()) > 0:
                self._woken.wait(min(left, POLL))
                self._check_limits()

    def _count(self, first: int, stop: int) -> None:
        counts = self._items.counts(first, stop)
        with self._woken:
            self._attempted += sum(counts.values()) - counts.get(Outcome.SKIPPED, 0)
            self._attempted -= counts.get(Outcome.NOT_ATTEMPTED, 0)
            self._failed += counts.get(Outcome.DENIED, 0) + counts.get(Outcome.FAILED, 0)
            self._woken.notify_all()


def _wait_out(workers: list[Future[None]]) -> None:
    """Waits until the calls in flight are over, whoever presses Ctrl-C again: the report must not change any more."""
    while True:
        with suppress(KeyboardInterrupt):
            wait(workers)
            return


def _answers(session: _native.Session, context_id: int) -> bool:
    """Whether the session is alive, which a refusal and a lack show, too."""
    try:
        session.get(context_id, 1, _native.column_mask(("context_id",), 1))
    except (NotFound, AccessDenied, EngineTimeout):
        return True
    except WfpError:
        return False
    return True


class Worker:
    """A session at work: the one that it was given, which stays its giver's, or one of its own."""

    def __init__(self, engine: Place, given: _native.Session | None) -> None:
        self._engine = engine
        self._given = given
        self._own: _native.Session | None = None

    @property
    def is_given(self) -> bool:
        """Whether it has a session that was there before."""
        return self._given is not None

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
