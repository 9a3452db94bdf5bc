"""The report of a mass expiry: one outcome for each context, as columns."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from wfpsa import _native
from wfpsa.enums import Outcome
from wfpsa.errors import ExpiryFailed

__all__ = ["ExpiryReport"]

_FAILURES = (Outcome.DENIED, Outcome.FAILED, Outcome.NOT_ATTEMPTED)


class ExpiryReport:
    """What became of each context of a mass expiry, in the order in which they were given.

    `context_id`, `outcome`, `code` and `attempts` are columns of equal length: the uint64 id, the `wfpsa.Outcome` (a
    uint8 in the buffer), the OS's uint32 code, 0 where the call succeeded or was not made, and a uint8.
    """

    __slots__ = ("_cancel", "_items", "_stopped")

    def __init__(
        self,
        items: _native.ExpiryItems,
        *,
        cancel: Callable[[], object] | None = None,
        stopped: str | None = None,
    ) -> None:
        self._items = items
        self._cancel = cancel
        self._stopped = stopped

    @property
    def stopped(self) -> str | None:
        """What ended it early, such as "cancelled" or "the timeout of 30 s"; None where nothing did, or not yet."""
        return self._stopped

    def cancel(self) -> None:
        """Stops the application of a plan after the calls in flight, from any thread; later: does nothing."""
        if self._cancel is not None:
            self._cancel()

    def _finish(self, stopped: str | None) -> None:
        self._cancel = None
        self._stopped = stopped

    @property
    def context_id(self) -> _native.Column[int]:
        """The ids: uint64, shape (n,)."""
        return self._items.context_id

    @property
    def outcome(self) -> _native.Column[Outcome]:
        """What became of each: `wfpsa.Outcome`, uint8 in the buffer, shape (n,); never absent."""
        return self._items.outcome

    @property
    def code(self) -> _native.Column[int]:
        """What IPsecSaContextExpire0 returned for each: uint32, shape (n,), 0 for success and where not attempted."""
        return self._items.code

    @property
    def attempts(self) -> _native.Column[int]:
        """How often each was tried, 255 standing for that or more: uint8, shape (n,); 0 where not attempted or skipped.

        An id that was tried again and is ALREADY_GONE may have been expired by an attempt that did not say so.
        """
        return self._items.attempts

    @property
    def counts(self) -> Mapping[Outcome, int]:
        """How many contexts have each outcome; every member of `wfpsa.Outcome` is a key."""
        found = self._items.counts()
        return MappingProxyType({outcome: found.get(outcome, 0) for outcome in Outcome})

    def __len__(self) -> int:
        return len(self._items)

    def raise_for_failures(self) -> None:
        """Raises ExpiryFailed if a context was DENIED, FAILED or NOT_ATTEMPTED; its code is that of the first one."""
        counts = self.counts
        failures = [f"{counts[outcome]} {outcome.name}" for outcome in _FAILURES if counts[outcome]]
        if not failures:
            return
        first = next((code for code, outcome in zip(self.code, self.outcome, strict=True) if outcome in _FAILURES), 0)
        missed = sum(counts[outcome] for outcome in _FAILURES)
        message = f"{missed} of {len(self)} contexts were not expired ({', '.join(failures)})"
        raise ExpiryFailed(first or None, "IPsecSaContextExpire0" if first else None, message, self)

    def __repr__(self) -> str:
        parts = [f"{count} {outcome.name}" for outcome, count in self.counts.items() if count]
        why = f"; stopped: {self.stopped}" if self.stopped else ""
        return f"<ExpiryReport of {len(self)}: {', '.join(parts) or 'nothing to do'}{why}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self._items, self.stopped)


def _unpickled(items: _native.ExpiryItems, stopped: str | None) -> ExpiryReport:
    return ExpiryReport(items, stopped=stopped)
