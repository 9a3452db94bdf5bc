"""Change events of an engine, one after the other, and the gaps between them."""

import math
import os
import time
from collections import deque
from functools import partial
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from wfpsa import _native
from wfpsa.enums import ChangeKind

if TYPE_CHECKING:
    from wfpsa.aio import News

__all__ = ["Gap", "SaChange", "Subscription"]

_SLICE = 0.1
"""How long, in seconds, Ctrl-C may have to wait while nothing happens."""


class SaChange(NamedTuple):
    """A context was added or deleted; what it holds must be asked for, and it may be gone by then (NotFound).

    `sequence` counts the events of the subscription from 1, lost ones included.
    """

    kind: ChangeKind
    context_id: int
    sequence: int


class Gap(NamedTuple):
    """Events were lost here, `lost` of them or more: what was derived from events must be read anew."""

    lost: int


_Taken = deque[tuple[int, int]]  # (kind, context id), or (0, events lost here)


def _anything_there(subscription: _native.Subscription, taken: _Taken, taking: Lock) -> bool:
    """Whether there is something to read, be it the end; what it takes to see that is for the next reader."""
    with taking:
        return bool(taken) or not subscription.take(taken) or bool(taken)


class Subscription:
    """Change events of an engine, in the order in which it told them; a context manager and an iterator, both also
    under asyncio (`async with`, `async for`).

    Iterating waits for the next `SaChange` or `Gap` and ends when the subscription, or its engine, is closed. Which
    changes the OS tells, and when, is not all documented: an expiry may be told when the context goes, and a context
    may be told before it is complete. Threads and tasks may share a subscription: each event goes to one of them.

    A task that waits holds up nothing else on its loop, whichever that is; where it is cancelled, the next reader has
    the event that it would have got.
    """

    def __init__(self, subscription: _native.Subscription) -> None:
        self._subscription = subscription
        self._taken: _Taken = deque()
        self._taking = Lock()  # for moments only: nobody waits for events with it
        self._sequence = 0
        self._process = os.getpid()
        self._news: News | None = None  # once a task has read

    def get(self, timeout: float | None = None) -> SaChange | Gap | None:
        """The next event; None after `timeout` seconds without one, or where the subscription has ended.

        Without a timeout it waits until there is one. Raises EngineClosed in a forked child.
        """
        if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float)):
            raise TypeError(f"timeout must be a number of seconds or None, not {type(timeout).__name__}")
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout must be 0 seconds or more, not {timeout}")
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            if (event := self._look()) is not None:
                return event or None
            left = _SLICE if end is None else min(_SLICE, end - time.monotonic())
            if left <= 0:
                return None
            self._subscription.wait(math.ceil(left * 1000))

    def _look(self) -> SaChange | Gap | Literal[False] | None:
        """What can be read at once: the next event; None where there is none yet, False where there never will be."""
        if os.getpid() != self._process:  # the lock may be held by a thread that is not here
            self._subscription.wait(0)
        with self._taking:
            if not self._taken and not self._subscription.take(self._taken):
                return False
            return self._next() if self._taken else None

    def _next(self) -> SaChange | Gap:
        kind, number = self._taken.popleft()
        if kind == 0:
            self._sequence += number
            return Gap(number)
        self._sequence += 1
        return SaChange(ChangeKind(kind), number, self._sequence)

    def close(self) -> None:
        """Waits for a running callback and ends it; events that are already there can still be read. Again: nothing.

        Raises WfpError (FWP_E_TXN_IN_PROGRESS) inside a transaction of its engine, and then goes on; SessionAborted,
        ended all the same, where the session is dead.
        """
        self._subscription.close()
        if self._news is not None and os.getpid() == self._process:
            self._news.leave()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> SaChange | Gap:
        event = self.get()
        if event is None:
            raise StopIteration
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # ---- under asyncio ----

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SaChange | Gap:
        news = self._news or self._first_news()
        if news.overdue():
            await news.give_way()
        while (event := self._look()) is None:
            await news.wait()
        if event is False:
            raise StopAsyncIteration
        return event

    def _first_news(self) -> "News":
        from wfpsa.aio import News

        subscription = self._subscription
        made = News(subscription.wait, partial(_anything_there, subscription, self._taken, self._taking))
        if self._news is None:  # of two threads at once, the first: what the other has made works by itself, too
            self._news = made
        return made

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        from wfpsa.aio import off_loop

        await off_loop(self._close_and_wait)

    def _close_and_wait(self) -> None:
        """Closes, and comes back when no thread is left that waited for it."""
        self.close()
        if self._news is not None and os.getpid() == self._process:
            self._news.finish()
