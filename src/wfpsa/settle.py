"""Settling of a mass expiry: waiting until the inbound SAs that linger are gone, and who has come back meanwhile."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from wfpsa import _native

__all__ = ["SETTLE_FIELDS", "Listed", "Settlement", "settle"]

SETTLE_FIELDS = ("context_id", "has_inbound", "has_outbound", "local_address", "remote_address")
"""What is listed at each look."""
SLICE = 0.05
"""Seconds between two looks at the clocks while it waits."""
SHOWN = 5


class Listed(Protocol):
    """What settling needs of an engine."""

    def snapshot(self, *, fields: Iterable[str] | None = None) -> _native.SaBatch:
        """All contexts."""

    def _clock(self) -> float:
        """Seconds on the engine's clock."""


@dataclass(frozen=True, eq=False, repr=False)
class Settlement:
    """What was found when a settling ended; batches have the columns `SETTLE_FIELDS`.

    What it cannot know: a context that came and went between two looks; whether a context of the same pair that was
    there at the first look is older than the expiry; what the peer itself still holds.
    """

    remaining: _native.SaBatch
    """The expired contexts that were still listed at the end."""
    renegotiated: _native.SaBatch
    """Contexts between the same two addresses that came while it looked, or that were there and have a higher id than
    all that were expired, which is a guess at their being newer."""
    others: _native.SaBatch
    """The other contexts between the same two addresses that the report does not name: most likely older ones."""
    unseen: int
    """Of how many expired contexts the addresses are not known: they had none, or only ids were given and they went at
    once."""
    waited: float
    """Seconds that it took, on the engine's clock or in real time, whichever is more."""
    looks: int
    """How often all contexts were listed."""

    @property
    def settled(self) -> bool:
        """Whether none of the expired contexts remains."""
        return not len(self.remaining)

    @property
    def pairs(self) -> list[tuple[tuple[IPv4Address | IPv6Address | None, IPv4Address | IPv6Address | None], int]]:
        """((local address, remote address), contexts) of those that renegotiated, the most first."""
        return Counter((context.local_address, context.remote_address) for context in self.renegotiated).most_common()

    def __str__(self) -> str:
        """In words."""
        after = f"after {self.waited:.0f} s and {self.looks} look{'' if self.looks == 1 else 's'}"
        lines = [f"settled {after}" if self.settled else f"not settled {after}: {len(self.remaining)} remain"]
        for context in self.remaining[:SHOWN]:
            left = "both SAs" if context.has_outbound else "its inbound SA"
            lines.append(f"  {context.context_id} to {context.remote_address} has {left}")
        pairs = self.pairs
        if pairs:
            lines.append(f"renegotiated: {len(pairs)} pair{'' if len(pairs) == 1 else 's'}")
        lines += [f"  {local} and {remote}: {count}" for (local, remote), count in pairs[:SHOWN]]
        if len(pairs) > SHOWN:
            lines.append(f"  {len(pairs) - SHOWN} other pairs")
        if len(self.others):
            lines.append(f"other contexts of these pairs, which may be older: {len(self.others)}")
        if self.unseen:
            lines.append(f"contexts whose addresses are not known: {self.unseen}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        how = "settled" if self.settled else f"{len(self.remaining)} remain"
        return f"<Settlement: {how}, {len(self.renegotiated)} renegotiated, {self.waited:.0f} s>"


def settle(
    engine: Listed,
    expired: set[int],
    own: frozenset[int],
    contexts: _native.SaBatch | None,
    timeout: float,
    poll: float,
) -> Settlement:
    """What ExpiryReport.settle does: `expired` are watched, `own` are all ids of the report, `contexts` as planned."""
    for name, value, above in (("timeout", timeout, False), ("poll", poll, True)):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
        if not (value > 0 if above else value >= 0):
            raise ValueError(f"{name} must be {'above 0' if above else '0 or more'} seconds, not {value}")
    clocks = _Clocks(engine)
    first = listed = engine.snapshot(fields=SETTLE_FIELDS)
    as_planned = contexts is not None and {"local_address", "remote_address"} <= set(contexts.columns)
    cells = _cells(contexts if contexts is not None and as_planned else first)
    seen = {number: pair for number, pair in cells if pair is not None and (number in own or number in expired)}
    watched = {number: pair for number, pair in seen.items() if number in expired}
    looks = 1
    while len(remaining := _remaining(listed, expired, watched)) and clocks.passed() < timeout:
        clocks.wait(min(clocks.passed() + poll, timeout))
        listed = engine.snapshot(fields=SETTLE_FIELDS)
        looks += 1
    there = {number for number in first["context_id"] if number <= max(expired, default=0)}
    renegotiated, others = _come(listed, set(watched.values()), seen, own, there)
    return Settlement(remaining, renegotiated, others, len(expired) - len(watched), clocks.passed(), looks)


class _Clocks:
    """The engine's clock and the real one, from a start."""

    def __init__(self, engine: Listed) -> None:
        self._engine = engine
        self._starts = engine._clock(), time.monotonic()

    def passed(self) -> float:
        """Seconds since then, on the clock that went further."""
        return max(self._engine._clock() - self._starts[0], time.monotonic() - self._starts[1])

    def wait(self, until: float) -> None:
        """Waits as many seconds as are left until so many have passed, on either clock from now."""
        wanted = until - self.passed()
        since = _Clocks(self._engine)
        while (left := wanted - since.passed()) > 0:
            time.sleep(min(left, SLICE))


def _cells(batch: _native.SaBatch) -> Iterator[tuple[int, bytes | None]]:
    """(id, both addresses) of each row; None where an address is absent."""
    columns = (batch[name] for name in ("context_id", "local_address", "remote_address"))
    for number, local, remote in zip(*columns, strict=True):
        yield number, None if local is None or remote is None else local + remote


def _remaining(listed: _native.SaBatch, expired: set[int], watched: dict[int, bytes]) -> _native.SaBatch:
    """The expired contexts that are listed: an id with an outbound SA between other addresses is another by now."""
    chosen = listed.where(context_id=expired) if expired else listed[:0]
    outbound = chosen["has_outbound"]
    return chosen.take(
        [row for row, (id, pair) in enumerate(_cells(chosen)) if not outbound[row] or watched.get(id, pair) == pair]
    )


def _come(
    listed: _native.SaBatch, pairs: set[bytes], seen: dict[int, bytes], own: frozenset[int], there: set[int]
) -> tuple[_native.SaBatch, _native.SaBatch]:
    """Of the contexts between those addresses that are not the report's: those that are new, and the rest.

    `there` are the ids that may be old. One of the report's ids between other addresses was given again.
    """
    new: list[int] = []
    rest: list[int] = []
    outbound = listed["has_outbound"]
    for row, (number, pair) in enumerate(_cells(listed)):
        if pair not in pairs:
            continue
        if number not in own:
            (rest if number in there else new).append(row)
        elif outbound[row] and seen.get(number, pair) != pair:
            new.append(row)
    return listed.take(new), listed.take(rest)
