"""What `wfpsa top` shows, as numbers: taken from a mirror, and from what the mirror was the time before."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import islice
from typing import NamedTuple

import wfpsa

FIELDS = ("context_id", "has_inbound", "has_outbound", "ip_version", "remote_address", "spi_in", "spi_out")
"""The columns that a mirror must have."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_SLACK = 0.005
"""Seconds by which the times at which contexts came may be wrong: the mirror's are in milliseconds."""
_SIDES = {"both": (True, True), "inbound": (True, False), "outbound": (False, True), "none": (False, False)}
_FAMILIES = {"IPv4": 4, "IPv6": 6, "none": None}


class Sort(StrEnum):
    """Which peers come first."""

    CONTEXTS = "contexts"
    ADDRESS = "address"
    RATE = "rate"


class Rates(NamedTuple):
    """Contexts a second."""

    added: float
    deleted: float
    changed: float


class Peer(NamedTuple):
    """A remote address, None for contexts without one, and what became of its contexts a second."""

    address: Address | None
    contexts: int
    share: float
    added: float | None
    deleted: float | None


class Old(NamedTuple):
    """One of the oldest contexts."""

    context_id: int
    age: timedelta
    at_least: bool
    """Whether it was there when the mirror began, or began anew, and may be older."""
    peer: Address | None
    spi_in: int | None
    spi_out: int | None


class Health(NamedTuple):
    """How current the state is."""

    error: str | None
    """The name of the last error and where it came from; None while all is well."""
    age: float
    lag: int
    gaps: int
    lost: int
    resyncs: int


@dataclass(frozen=True)
class Figures:
    """All that is shown of one moment."""

    backend: str
    contexts: int
    sides: dict[str, int]
    families: dict[str, int]
    rates: Rates | None
    """None where nothing is known to compare with."""
    peers: list[Peer]
    oldest: list[Old]
    health: Health


class Observer:
    """Reads a mirror again and again: `read()` takes its state, `figures()` says what is in it.

    While the engine is gone the last state stays, nothing is compared with it, and `Health` says why.
    """

    def __init__(
        self,
        mirror: wfpsa.Mirror,
        select: Callable[[wfpsa.SaBatch], wfpsa.SaBatch] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`select` chooses among the mirror's contexts; None: all."""
        self._mirror = mirror
        self._select = select
        self._clock = clock
        self._generation = mirror.generation
        self._totals = mirror.totals
        self._contexts = mirror.snapshot()
        self._moment = clock()
        self._changes: wfpsa.MirrorChanges | None = None
        self._rates: Rates | None = None
        self._seconds = 0.0
        self._resyncs = mirror.resyncs
        self._listed = clock()
        # In the order in which they came: first_seen of each would take seconds where there are a million.
        self._order = dict.fromkeys(sorted(self._contexts["context_id"]))
        self._contexts = self._selected(self._contexts)

    def _selected(self, batch: wfpsa.SaBatch) -> wfpsa.SaBatch:
        return batch if self._select is None else self._select(batch)

    # ---- reading ----

    def read(self) -> None:
        """Takes the mirror's state, and what came and went since the last time."""
        mirror = self._mirror
        well, resyncs, totals, now = mirror.error is None, mirror.resyncs, mirror.totals, self._clock()
        batch = mirror.snapshot()
        if not well or mirror.error is not None:
            self._changes, self._rates = None, None
            return
        self._seconds = max(now - self._moment, 1e-9)
        self._follow()
        came = (totals[kind] - self._totals[kind] for kind in ("added", "removed", "changed"))
        self._rates = Rates(*(count / self._seconds for count in came))
        if resyncs != self._resyncs:  # the new session's listing tells no ages
            self._listed = now
        self._resyncs, self._totals, self._moment = resyncs, totals, now
        self._contexts = self._selected(batch)

    def _follow(self) -> None:
        """Keeps the order in which contexts came, and what of them is selected."""
        try:
            changes = self._mirror.changes(self._generation)
        except wfpsa.GenerationExpired:
            self._changes = None
            self._generation = self._mirror.generation
            there = sorted(self._mirror.snapshot()["context_id"])
            known = set(there)
            self._order = dict.fromkeys([*(each for each in self._order if each in known), *there])
            return
        self._generation = changes.generation
        for gone in changes.removed["context_id"]:
            self._order.pop(gone, None)
        self._order.update(dict.fromkeys(sorted(changes.added["context_id"])))
        added, removed, changed = map(self._selected, changes[1:])
        self._changes = wfpsa.MirrorChanges(changes.generation, added, removed, changed)

    # ---- saying ----

    def figures(self, rows: int, sort: Sort = Sort.CONTEXTS, within: Network | None = None) -> Figures:
        """The figures of the state read last: of peers within that subnet, and of so many peers and contexts."""
        contexts = _within(self._contexts, within)
        changes = self._changes and [_within(batch, within) for batch in self._changes[1:]]
        rates = self._rates
        if rates is not None and (within is not None or self._select is not None):
            rates = Rates(*(len(batch) / self._seconds for batch in changes)) if changes else None
        sides = dict(contexts.count_by("has_inbound", "has_outbound"))
        families = dict(contexts.count_by("ip_version"))
        found = {name: families.pop(version, 0) for name, version in _FAMILIES.items()}
        return Figures(
            backend=contexts.backend,
            contexts=len(contexts),
            sides={name: sides.get(pair, 0) for name, pair in _SIDES.items()},
            families=found | ({"other": sum(families.values())} if families else {}),
            rates=rates,
            peers=self._peers(contexts, changes, rows, sort),
            oldest=self._oldest(contexts, rows, within is None and self._select is None),
            health=self.health(),
        )

    def health(self) -> Health:
        """How current the mirror is now."""
        mirror = self._mirror
        return Health(_name(mirror.error), mirror.age, mirror.lag, mirror.gaps, mirror.lost, mirror.resyncs)

    def _peers(self, contexts: wfpsa.SaBatch, changes: list[wfpsa.SaBatch] | None, rows: int, sort: Sort) -> list[Peer]:
        counts = _by_peer(contexts, rows)
        came, went = (_by_peer(batch) if changes else Counter() for batch in (changes or (contexts,) * 3)[:2])
        if sort is Sort.RATE:
            busy = sorted(
                (each for each in came + went if each), key=lambda each: (-came[each] - went[each], each.packed)
            )
            if missing := tuple(str(each) for each in busy[:rows] if each not in counts):
                counts.update(_by_peer(contexts.where(remote=missing)))
            names: list[Address | None] = list(dict.fromkeys([*busy, *counts]))
        elif sort is Sort.ADDRESS:
            names = sorted(counts, key=lambda each: (each is None, each and (each.version, int(each))))
        else:
            names = list(counts)
        return [
            Peer(
                name,
                counts[name],
                counts[name] / len(contexts) if len(contexts) else 0.0,
                came[name] / self._seconds if changes else None,
                went[name] / self._seconds if changes else None,
            )
            for name in names[:rows]
        ]

    def _oldest(self, contexts: wfpsa.SaBatch, rows: int, all_of_them: bool) -> list[Old]:
        ids: Iterable[int] = self._order
        if not all_of_them:
            chosen = set(contexts["context_id"])
            ids = (each for each in self._order if each in chosen)
        first = list(islice(ids, rows))
        if not first:
            return []
        there = {context.context_id: context for context in contexts.where(context_id=set(first))}
        found = []
        for each in first:
            try:
                context, since = there[each], self._mirror.first_seen(each)
            except KeyError:  # it has gone since
                continue
            age = max(datetime.now(UTC) - since, timedelta(0))
            at_least = age.total_seconds() >= self._clock() - self._listed - _SLACK
            found.append(Old(each, age, at_least, context.remote_address, context.spi_in, context.spi_out))
        return found


def _within(batch: wfpsa.SaBatch, subnet: Network | None) -> wfpsa.SaBatch:
    return batch if subnet is None else batch.where(remote=str(subnet))


def _by_peer(batch: wfpsa.SaBatch, limit: int | None = None) -> Counter[Address | None]:
    """How many contexts the peers have, those with the most first."""
    counted = batch.count_by("remote_address", prefix=(32, 128), limit=limit)
    return Counter({network and network.network_address: count for network, count in counted})


def _name(error: Exception | None) -> str | None:
    """What an error is called: by the OS, else by Python."""
    if error is None:
        return None
    name = getattr(error, "name", None) or type(error).__name__
    function = getattr(error, "function", None)
    return f"{name} ({function})" if function else str(name)
