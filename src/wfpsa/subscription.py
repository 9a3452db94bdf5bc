"""Change events of an engine, one after the other, and the gaps between them."""

import math
import os
import time
from collections import deque
from threading import Lock
from types import TracebackType
from typing import NamedTuple, Self

from wfpsa import _native
from wfpsa.enums import ChangeKind

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


class Subscription:
    """Change events of an engine, in the order in which it told them; a context manager and an iterator.

    Iterating waits for the next `SaChange` or `Gap` and ends when the subscription, or its engine, is closed. Which
    changes the OS tells, and when, is not all documented: an expiry may be told when the context goes, and a context
    may be told before it is complete. Threads may share a subscription: each event goes to one of them.
    """

    def __init__(self, subscription: _native.Subscription) -> None:
        self._subscription = subscription
        self._taken: deque[tuple[int, int]] = deque()  # (kind, context id), or (0, events lost here)
        self._taking = Lock()  # for moments only: nobody waits for events with it
        self._sequence = 0
        self._process = os.getpid()

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
            if os.getpid() != self._process:  # the lock may be held by a thread that is not here
                self._subscription.wait(0)
            with self._taking:
                if not self._taken and not self._subscription.take(self._taken):
                    return None
                if self._taken:
                    return self._next()
            left = _SLICE if end is None else min(_SLICE, end - time.monotonic())
            if left <= 0:
                return None
            self._subscription.wait(math.ceil(left * 1000))

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
