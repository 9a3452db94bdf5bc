"""What is measured of a mirror or an engine: families of series as plain data, which the modules of metrics show."""

import itertools
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Literal, NamedTuple

import wfpsa
from wfpsa import _native
from wfpsa.engine import Engine
from wfpsa.enums import CipherType, Outcome, TrafficType, TransformType
from wfpsa.errors import EngineClosed, WfpError
from wfpsa.mirror import Mirror
from wfpsa.report import outcome_totals
from wfpsa.statistics import NOW, Statistics

__all__ = ["METRIC_FIELDS", "TOP_PEERS_MAX", "Family", "Point", "Reader", "Reading", "wfpsa_version"]

METRIC_FIELDS = (
    "context_id",
    "has_inbound",
    "has_outbound",
    "ip_version",
    "traffic_type",
    "remote_address",
    "transform_in",
    "transform_out",
    "cipher_type_in",
    "cipher_type_out",
)
"""The columns that a scrape looks at: a mirror of these suffices."""
TOP_PEERS_MAX = 30
"""How many peers may be named at most."""
_SIDES = {(True, True): "both", (True, False): "inbound", (False, True): "outbound", (False, False): "none"}


class Family(NamedTuple):
    """Series of one name, with the same labels."""

    name: str
    """With dots, and without its unit."""
    kind: Literal["info", "gauge", "counter", "histogram"]
    unit: str
    """In UCUM: "s", "By", or what is counted in braces, which is no part of anybody's name."""
    text: str
    labels: tuple[str, ...] = ()


INFO = Family("wfpsa.info", "info", "{engine}", "What answers, and which wfpsa asks.", ("backend", "version"))
UP = Family("wfpsa.up", "gauge", "{engine}", "1 where the engine answered this scrape, or the mirror is up to date.")
STATE_AGE = Family("wfpsa.state.age", "gauge", "s", "Age of the last consistent state.")
CONTEXTS = Family("wfpsa.contexts", "gauge", "{context}", "SA contexts, by the SAs that they have.", ("sas",))
BY_ADDRESS_FAMILY = Family(
    "wfpsa.address_family.contexts", "gauge", "{context}", "SA contexts, by the family of their addresses.", ("family",)
)
BY_TRAFFIC_TYPE = Family(
    "wfpsa.traffic_type.contexts", "gauge", "{context}", "SA contexts, by traffic type.", ("type",)
)
BY_TRANSFORM = Family(
    "wfpsa.transform.contexts",
    "gauge",
    "{context}",
    "SA contexts, by the transform of the first SA.",
    ("direction", "transform"),
)
BY_CIPHER = Family(
    "wfpsa.cipher.contexts",
    "gauge",
    "{context}",
    "SA contexts, by the cipher of the first SA.",
    ("direction", "cipher_type"),
)
PEERS = Family("wfpsa.peer.contexts", "gauge", "{context}", "SA contexts of the peers that have most.", ("peer",))
OTHER_PEERS = Family("wfpsa.other_peer.contexts", "gauge", "{context}", "SA contexts of all that are not named.")
EXPIRED = Family(
    "wfpsa.expired_contexts",
    "counter",
    "{context}",
    "What became of contexts that this process was to expire.",
    ("outcome",),
)
MIRROR_CHANGES = Family("wfpsa.mirror.changes", "counter", "{change}", "Changes applied to the mirror.", ("kind",))
MIRROR_GAPS = Family("wfpsa.mirror.gaps", "counter", "{gap}", "Times that events were lost.")
MIRROR_LOST = Family("wfpsa.mirror.lost_events", "counter", "{event}", "Events known to be lost.")
MIRROR_RESYNCS = Family("wfpsa.mirror.resyncs", "counter", "{resync}", "New beginnings with another session.")
MIRROR_READS = Family("wfpsa.mirror.reads", "counter", "{context}", "Contexts read by id.")
MIRROR_LAG = Family("wfpsa.mirror.lag_contexts", "gauge", "{context}", "Contexts that changed and wait to be read.")
CALL_DURATION = Family(
    "wfpsa.engine.call.duration", "histogram", "s", "How long this process's calls of engines took.", ("call",)
)
CALL_FAILURES = Family(
    "wfpsa.engine.call.failures",
    "counter",
    "{call}",
    "Those of them that failed otherwise than by finding nothing.",
    ("call",),
)
_STATISTICS_UNITS = {
    "active_sas": "{sa}",
    "pending_sa_negotiations": "{negotiation}",
    "total_sas_added": "{sa}",
    "total_sas_deleted": "{sa}",
    "successful_rekeys": "{rekey}",
    "active_tunnels": "{tunnel}",
    "offloaded_sas": "{sa}",
}
"""The units of the counters of IPSEC_STATISTICS1 that count neither packets nor bytes."""


def _of_statistics(field: str) -> Family:
    """The family of a counter of IPSEC_STATISTICS1."""
    counted = field.removeprefix("total_").replace("total_", "")
    name = f"wfpsa.engine.{counted.removesuffix('_byte_count')}"
    unit = "By" if counted.endswith("_byte_count") else _STATISTICS_UNITS.get(field, "{packet}")
    text = f"IPSEC_STATISTICS1: {field.replace('_', ' ')}."
    return Family(name, "gauge" if field in NOW else "counter", unit, text)


STATISTICS = {field: _of_statistics(field) for field in Statistics._fields}
"""By the name of the counter."""
FAMILIES = (
    *(INFO, UP, STATE_AGE),
    *(CONTEXTS, BY_ADDRESS_FAMILY, BY_TRAFFIC_TYPE, BY_TRANSFORM, BY_CIPHER, PEERS, OTHER_PEERS),
    EXPIRED,
    *(MIRROR_CHANGES, MIRROR_GAPS, MIRROR_LOST, MIRROR_RESYNCS, MIRROR_READS, MIRROR_LAG),
    *(CALL_DURATION, CALL_FAILURES),
    *STATISTICS.values(),
)
"""All that there are; which ones have series depends on what is read."""


class Point(NamedTuple):
    """One series at one moment."""

    labels: tuple[str, ...]
    """The values of the family's labels."""
    value: float
    """Of a histogram the sum."""
    buckets: tuple[tuple[str, float], ...] = ()
    """Of a histogram: (upper bound, how many up to it), the last of which is all."""


class Reading:
    """The series of a family at one moment."""

    def __init__(self, family: Family, value: float | None = None) -> None:
        self.family = family
        self.points = [] if value is None else [Point((), value)]

    def add(self, labels: tuple[str, ...], value: float, buckets: Iterable[tuple[str, float]] = ()) -> None:
        """Adds a series."""
        self.points.append(Point(labels, value, tuple(buckets)))


class Reader:
    """Reads a mirror, which costs no enumeration, or an engine, which is listed each time; both answer from memory.

    `source`, `engine` and `top_peers` are what `wfpsa.metrics.WfpsaCollector` takes and says.

    Raises TypeError or ValueError for bad arguments.
    """

    def __init__(self, source: Mirror | Engine, *, engine: Engine | None = None, top_peers: int = 0) -> None:
        if not isinstance(source, Mirror | Engine):
            raise TypeError(f"source must be a wfpsa.Mirror or a wfpsa.Engine, not {type(source).__name__}")
        if engine is not None and not isinstance(engine, Engine):
            raise TypeError(f"engine must be a wfpsa.Engine or None, not {type(engine).__name__}")
        if isinstance(top_peers, bool) or not isinstance(top_peers, int):
            raise TypeError(f"top_peers must be an int, not {type(top_peers).__name__}")
        if not 0 <= top_peers <= TOP_PEERS_MAX:
            raise ValueError(f"top_peers must be 0 to {TOP_PEERS_MAX}, not {top_peers}")
        if isinstance(source, Mirror):
            missing = [name for name in METRIC_FIELDS if name not in source.snapshot().columns]
            if missing:
                raise ValueError(f"the mirror lacks the columns {', '.join(missing)}")
        self._source = source
        self._engine = source if isinstance(source, Engine) else engine
        self._top_peers = top_peers
        self._version = wfpsa_version()
        self._lock = threading.Lock()
        self._batch: _native.SaBatch | None = None
        self._statistics: Statistics | None = None
        self._since = float("nan")  # the moment whose state is shown, on the monotonic clock
        _native.start_meter()

    def read(self) -> list[Reading]:
        """All families that have series, at this moment."""
        with self._lock:  # readings take turns: two listings at once would help nobody
            up = self._refresh()
            return [*self._state(up), *self._contexts(), *self._totals(), *self._mirror(), *self._engine_metrics()]

    # ---- asking ----

    def _refresh(self) -> bool:
        """Whether the engine answered, or the mirror is up to date."""
        up = True
        if isinstance(self._source, Mirror):
            up = self._copy(self._source)
        else:
            began = time.monotonic()
            try:
                self._batch = self._source.snapshot(fields=METRIC_FIELDS)
                self._since = began
            except (WfpError, MemoryError):
                up = False
        if self._engine is not None:
            try:
                self._statistics = self._engine.statistics()
            except (WfpError, MemoryError):
                up = False
        return up

    def _copy(self, mirror: Mirror) -> bool:
        """Takes the mirror's state: where the engine is gone, or is listed anew, that is the last good one."""
        try:
            since, self._batch = time.monotonic() - mirror.age, mirror.snapshot()
        except (WfpError, MemoryError):  # in a forked child there is no mirror any more
            return False
        self._since = since
        return mirror.error is None and not mirror.closed

    # ---- saying ----

    def _state(self, up: bool) -> Iterator[Reading]:
        info = Reading(INFO)
        info.add((self._batch.backend if self._batch is not None else "", self._version), 1)
        yield info
        yield Reading(UP, int(up))
        yield Reading(STATE_AGE, time.monotonic() - self._since)

    def _contexts(self) -> Iterator[Reading]:
        batch = self._batch
        if batch is None:
            return
        sides = Reading(CONTEXTS)
        counts = dict(batch.count_by("has_inbound", "has_outbound"))
        for pair, name in _SIDES.items():
            sides.add((name,), counts.get(pair, 0))
        yield sides
        families = Reading(BY_ADDRESS_FAMILY)
        counts = dict(batch.count_by("ip_version"))
        for value, name in ((4, "ipv4"), (6, "ipv6"), (None, "none")):
            families.add((name,), counts.pop(value, 0))
        families.add(("other",), sum(counts.values()))
        yield families
        traffic = Reading(BY_TRAFFIC_TYPE)
        for name, count in _by_name(batch, "traffic_type", TrafficType).items():
            traffic.add((name,), count)
        yield traffic
        for family, column, enumeration in (
            (BY_TRANSFORM, "transform", TransformType),
            (BY_CIPHER, "cipher_type", CipherType),
        ):
            reading = Reading(family)
            for direction in ("in", "out"):
                for name, count in _by_name(batch, f"{column}_{direction}", enumeration).items():
                    reading.add((f"{direction}bound", name), count)
            yield reading
        if self._top_peers:
            yield from self._peers(batch)

    def _peers(self, batch: _native.SaBatch) -> Iterator[Reading]:
        counted = batch.count_by("remote_address", prefix=(32, 128), limit=self._top_peers + 1)
        shown = [each for each in counted if each[0] is not None][: self._top_peers]
        peers = Reading(PEERS)
        for network, count in shown:
            peers.add((str(network.network_address),), count)
        yield peers
        yield Reading(OTHER_PEERS, len(batch) - sum(count for _, count in shown))

    def _totals(self) -> Iterator[Reading]:
        expired = Reading(EXPIRED)
        totals = outcome_totals()
        for outcome in Outcome:
            if outcome is not Outcome.NOT_ATTEMPTED:
                expired.add((outcome.name.lower(),), totals.get(outcome, 0))
        yield expired

    def _mirror(self) -> Iterator[Reading]:
        mirror = self._source
        if not isinstance(mirror, Mirror):
            return
        with suppress(EngineClosed):  # in a forked child
            changes = Reading(MIRROR_CHANGES)
            for kind, count in mirror.totals.items():
                changes.add((kind,), count)
            yield changes
            yield Reading(MIRROR_GAPS, mirror.gaps)
            yield Reading(MIRROR_LOST, mirror.lost)
            yield Reading(MIRROR_RESYNCS, mirror.resyncs)
            yield Reading(MIRROR_READS, mirror.reads)
            yield Reading(MIRROR_LAG, mirror.lag)

    def _engine_metrics(self) -> Iterator[Reading]:
        calls, failures = Reading(CALL_DURATION), Reading(CALL_FAILURES)
        bounds = (*map(str, _native.CALL_BOUNDS), "+Inf")
        for kind, (within, seconds, failed) in _native.calls().items():
            if any(within):
                calls.add((kind,), seconds, zip(bounds, map(float, itertools.accumulate(within)), strict=True))
                failures.add((kind,), failed)
        yield calls
        yield failures
        if self._statistics is not None:
            for field, value in self._statistics._asdict().items():
                yield Reading(STATISTICS[field], value)


def wfpsa_version() -> str:
    """The version of this package, or "unknown" where it runs from a checkout."""
    return getattr(wfpsa, "__version__", "unknown")


def _by_name(
    batch: _native.SaBatch, column: str, enumeration: type[TrafficType] | type[TransformType] | type[CipherType]
) -> dict[str, int]:
    """Contexts by the member's name in lower case; all members, "other" for numbers without a name, "none"."""
    found = {member.name.lower(): 0 for member in enumeration} | {"other": 0, "none": 0}
    for value, count in batch.count_by(column):
        if value is None:
            found["none"] += count
        else:
            found[value.name.lower() if isinstance(value, enumeration) else "other"] += count
    return found
