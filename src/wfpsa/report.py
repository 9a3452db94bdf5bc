"""The report of a mass expiry: one outcome for each context, as columns."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from wfpsa import _native
from wfpsa.enums import Outcome
from wfpsa.errors import ExpiryFailed

__all__ = ["ExpiryReport"]

_FAILURES = (Outcome.DENIED, Outcome.FAILED, Outcome.NOT_ATTEMPTED)


class ExpiryReport:
    """What became of each context of a mass expiry, in the order in which they were given.

    `context_id`, `outcome` and `code` are columns of equal length: the uint64 id, the `wfpsa.Outcome` (a uint8 in the
    buffer) and the OS's uint32 code, 0 where the call succeeded or was not made.
    """

    __slots__ = ("_items",)

    def __init__(self, items: _native.ExpiryItems) -> None:
        self._items = items

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
        return f"<ExpiryReport of {len(self)}: {', '.join(parts) or 'nothing to do'}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return ExpiryReport, (self._items,)
