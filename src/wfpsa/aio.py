"""Under asyncio: calls that a thread makes while the loop goes on, and waiting for news without holding it up.

Nothing here is of one kind of loop: threads reach it by `call_soon_threadsafe` alone, which Proactor loops have too.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

__all__ = ["News", "off_loop"]

_T = TypeVar("_T")
_Answer = TypeVar("_Answer")

_SLICE = 0.05
"""How long, in seconds, a thread may stay where nobody waits any more, or its work may come at once."""

_PAUSE = 0.001
"""The least time between two calls into a loop: what comes meanwhile is told with the next one."""

_TURN = 0.001
"""How long tasks may go on reading before the rest of the loop has its turn."""


async def off_loop(work: Callable[[], _T]) -> _T:
    """What `work` returns or raises, called in a daemon thread of its own.

    Where the task is cancelled, it is so at once: the thread goes on, and what it comes to is dropped in it.
    """
    loop = asyncio.get_running_loop()
    call = _Call[_T](loop.create_future())
    thread = threading.Thread(target=_make, args=(work, call, loop), name="wfpsa-call", daemon=True)
    try:
        thread.start()
        assert call.future is not None
        return await call.future
    finally:
        call.future = None  # an error's traceback has this frame, and the future has the error


class _Call(Generic[_T]):
    """A call that a thread makes, and the future of whoever waits for it: None once nobody does."""

    def __init__(self, future: "asyncio.Future[_T]") -> None:
        self.future: asyncio.Future[_T] | None = future

    def returned(self, result: _T) -> None:
        if self.future is not None and not self.future.done():  # done: cancelled just now
            self.future.set_result(result)

    def raised(self, error: BaseException) -> None:
        if self.future is not None and not self.future.done():
            self.future.set_exception(error)


def _make(work: Callable[[], _T], call: _Call[_T], loop: asyncio.AbstractEventLoop) -> None:
    try:
        result = work()
    except BaseException as error:
        _answer(call, loop, call.raised, error)
    else:
        _answer(call, loop, call.returned, result)


def _answer(call: _Call[_T], loop: asyncio.AbstractEventLoop, tell: Callable[[_Answer], None], answer: _Answer) -> None:
    if call.future is not None:
        with suppress(RuntimeError):  # the loop was closed, and with it whoever waited
            loop.call_soon_threadsafe(tell, answer)


class _Turn(threading.local):
    """When, by `time.perf_counter`, the rest of this thread's loop is to have its turn."""

    until = 0.0


class News:
    """Lets tasks, of one loop or of several, wait until there is something to read.

    It only says that there is something: whoever is told reads it himself, so that nothing is on its way to a task when
    that is cancelled. `wait` waits for so many milliseconds or until something comes, in the one thread of this object,
    which is there while tasks wait and hardly longer; `there` says at once whether something is there, be it the end.
    """

    def __init__(self, wait: Callable[[int], object], there: Callable[[], bool]) -> None:
        self._wait = wait
        self._there = there
        self._state = threading.Condition()  # reentrant: a task that is collected as garbage ends wherever that happens
        self._waiting: set[asyncio.Future[None]] = set()
        self._thread: threading.Thread | None = None
        self._leaving = False
        self._turn = _Turn()

    def overdue(self) -> bool:
        """Whether the rest of the loop is to have its turn before more is read."""
        return time.perf_counter() > self._turn.until

    async def give_way(self) -> None:
        """Gives the rest of the loop its turn."""
        await asyncio.sleep(0)
        self._turn.until = time.perf_counter() + _TURN

    async def wait(self) -> None:
        """Waits until there is something to read, which another may have read by then."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._ask(future)
            await future
        finally:
            with self._state:
                if future in self._waiting:  # cancelled, or its loop is gone
                    self._waiting.remove(future)
                    self._leaving = not self._waiting
            self._turn.until = time.perf_counter() + _TURN

    def leave(self) -> None:
        """Has the thread go as soon as nobody waits; where the end has come, it tells that first."""
        with self._state:
            self._leaving = True
            self._state.notify()

    def finish(self) -> None:
        """Waits until the thread has gone, where the end has come. Not for a thread that signal handlers may interrupt:
        what one interrupts may hold the lock that is needed to see the end."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def _ask(self, future: "asyncio.Future[None]") -> None:
        with self._state:
            self._waiting.add(future)
            self._leaving = False
            if self._thread is not None:
                self._state.notify()
                return
            self._thread = threading.Thread(target=self._work, name="wfpsa-changes", daemon=True)
            try:
                self._thread.start()
            except BaseException:
                self._thread = None
                raise

    # ---- in the thread ----

    def _work(self) -> None:
        told = -_PAUSE
        try:
            while self._wanted():
                if (early := told + _PAUSE - time.perf_counter()) > 0:
                    time.sleep(early)
                if self._there() or self._look_after_waiting():
                    told = time.perf_counter()
                    self._tell()
        except BaseException:  # whoever waits finds out what it is
            with self._state:
                self._thread = None
            self._tell()

    def _look_after_waiting(self) -> bool:
        self._wait(round(_SLICE * 1000))
        return self._there()

    def _wanted(self) -> bool:
        """Whether there is still somebody to wait for; without, the thread ends."""
        with self._state:
            if not self._waiting and not self._leaving:
                self._state.wait(_SLICE)
            if self._waiting:
                return True
            self._thread = None
            return False

    def _tell(self) -> None:
        """Wakes all that wait."""
        with self._state:
            waiting = list(self._waiting)
            self._waiting.clear()
        for future in waiting:
            with suppress(RuntimeError):  # the loop was closed, and with it whoever waited
                future.get_loop().call_soon_threadsafe(_settle, future)


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
