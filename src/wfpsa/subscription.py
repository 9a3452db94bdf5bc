"""Change events of an engine, one after the other, and the gaps between them."""

import time
from collections import deque
from threading import Lock
from types import TracebackType
from typing import NamedTuple, Self

from wfpsa import _native
from wfpsa.enums import ChangeKind

__all__ = ["Gap", "SaChange", "Subscription"]

_SLICE_MS = 100
"""How long Ctrl-C may have to wait while nothing happens."""


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
        self._waiting: deque[SaChange | Gap] = deque()
        self._taking = Lock()
        self._sequence = 0

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
            left = _SLICE_MS if end is None else max(0, round((end - time.monotonic()) * 1000))
            with self._taking:
                if self._waiting:
                    return self._waiting.popleft()
                taken = self._subscription.take(min(left, _SLICE_MS))
                if taken is None:
                    return None
                self._file(*taken)
            if left == 0 and not self._waiting:
                return None

    def _file(self, events: list[tuple[int, int, int]], lost: int) -> None:
        for kind, context_id, lost_before in events:
            if lost_before:
                self._sequence += lost_before
                self._waiting.append(Gap(lost_before))
            self._sequence += 1
            self._waiting.append(SaChange(ChangeKind(kind), context_id, self._sequence))
        if lost:
            self._sequence += lost
            self._waiting.append(Gap(lost))

    def close(self) -> None:
        """Waits for a running callback and ends it; events that are already there can still be read. Again: nothing.

        Raises WfpError where the engine refuses, as it does inside a transaction (FWP_E_TXN_IN_PROGRESS): the
        subscription then goes on until it is closed again, or its engine is.
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
