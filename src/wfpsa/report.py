"""The report of a mass expiry: one outcome for each context, as columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from types import MappingProxyType

from wfpsa import _native
from wfpsa.enums import Guard, Outcome
from wfpsa.errors import ExpiryFailed, ExpiryInterrupted

TYPE_CHECKING = False  # importing typing takes a third of the whole
if TYPE_CHECKING:
    from typing import Any

    from wfpsa.settle import Listed, Settlement

__all__ = ["ExpiryReport", "interrupted", "outcome_totals"]

_totals: dict[int, int] = {}
_counting = Lock()


def outcome_totals() -> dict[Outcome, int]:
    """How many contexts had each outcome in the expiries of this process that have ended; NOT_ATTEMPTED is none."""
    with _counting:
        return {Outcome(number): count for number, count in _totals.items()}


_FAILURES = (Outcome.DENIED, Outcome.FAILED, Outcome.NOT_ATTEMPTED)


class ExpiryReport:
    """What became of each context of a mass expiry, in the order in which they were given.

    `context_id`, `outcome`, `code` and `attempts` are columns of equal length: the uint64 id, the `wfpsa.Outcome` (a
    uint8 in the buffer), the OS's uint32 code, 0 where the call succeeded or was not made, and a uint8.
    """

    __slots__ = ("_before", "_cancel", "_contexts", "_cut_off", "_items", "_seconds", "_stopped")

    def __init__(
        self,
        items: _native.ExpiryItems,
        contexts: _native.SaBatch | None = None,
        cut_off: frozenset[int] = frozenset(),
        stopped: str | None = None,
        seconds: float | None = None,
    ) -> None:
        self._items = items
        self._contexts = contexts  # as they were: a row for each item, with their addresses
        self._cut_off = cut_off
        self._stopped = stopped
        self._seconds = seconds
        self._cancel: Callable[[], object] | None = None
        self._before: dict[int, int] = {}  # outcomes that are not this run's

    @property
    def stopped(self) -> str | None:
        """What ended it early, such as "cancelled", "interrupted" or "the timeout of 30 s"; None where nothing did, or
        not yet."""
        return self._stopped

    @property
    def seconds(self) -> float | None:
        """How long it took, that is the last run where a plan was resumed; None while it goes on."""
        return self._seconds

    @property
    def cut_off(self) -> frozenset[int]:
        """The ids that an earlier run of the plan was about to call when it was cut off, and of which it did not note
        what became.

        Where such a one is CHANGED or ALREADY_GONE now, that run may have expired it.
        """
        return self._cut_off

    def cancel(self) -> None:
        """Stops it after the calls in flight, from any thread; later: does nothing."""
        if self._cancel is not None:
            self._cancel()

    def _begin(self, cancel: Callable[[], object]) -> None:
        self._cancel = cancel
        self._before = self._items.counts()

    def _finish(self, stopped: str | None, seconds: float, counts: Mapping[int, int] | None = None) -> None:
        """The end, with the counts of the items where they are known already: large ones take their time."""
        self._cancel = None
        self._stopped = stopped
        self._seconds = seconds
        with _counting:
            for number, count in (self._items.counts() if counts is None else counts).items():
                if number == Outcome.NOT_ATTEMPTED:
                    continue  # no end: a resumed plan may attempt it yet
                _totals[number] = _totals.get(number, 0) + count - self._before.get(number, 0)

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
    def guard(self) -> _native.Column[Guard]:
        """What spared each that is SKIPPED: `wfpsa.Guard`, uint8 in the buffer, shape (n,); NONE for the others."""
        return self._items.guard

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

    def settle(self, engine: Listed, timeout: float = 90.0, poll: float = 5.0) -> Settlement:
        """Waits until the inbound SAs of what was expired are gone, which takes about a minute, and says who came back.

        All contexts of the engine are listed at once and then every `poll` seconds, until none of those EXPIRED, or
        cut off in an earlier run, is left, or `timeout` seconds are over; both by the engine's clock or the real one,
        whichever goes faster. `Settlement` has what remains and the contexts between the same addresses that are new.

        Raises ValueError or TypeError for bad arguments, and what Engine.snapshot raises.
        """
        from wfpsa.settle import settle

        expired = set(self._cut_off)
        if self.counts[Outcome.EXPIRED]:
            done = zip(self.context_id, self.outcome, strict=True)
            expired.update(number for number, outcome in done if outcome is Outcome.EXPIRED)
        return settle(engine, expired, frozenset(self.context_id), self._contexts, timeout, poll)

    def __repr__(self) -> str:
        parts = [f"{count} {outcome.name}" for outcome, count in self.counts.items() if count]
        why = f"; stopped: {self.stopped}" if self.stopped else ""
        return f"<ExpiryReport of {len(self)}: {', '.join(parts) or 'nothing to do'}{why}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return ExpiryReport, (self._items, self._contexts, self._cut_off, self._stopped, self._seconds)


def interrupted(report: ExpiryReport) -> ExpiryInterrupted:
    """What Ctrl-C raises."""
    counts = report.counts
    planned = len(report) - counts[Outcome.SKIPPED]
    done = planned - counts[Outcome.NOT_ATTEMPTED]
    return ExpiryInterrupted(f"the expiry was interrupted after {done} of {planned}", report)
