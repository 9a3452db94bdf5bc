"""Mirrors in tests: hurried, waited for, and compared."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from support import values

import wfpsa
from wfpsa import Mirror, Sa, SaBatch, SaBundle, Traffic, mirror

WAIT = 20.0
"""Seconds for what must come."""

_T = TypeVar("_T")


def hurry(set_to: Callable[[object, str, object], None]) -> None:
    set_to(mirror, "SLICE_MS", 2)
    set_to(mirror, "BACK_OFF", (0.001, 0.005))
    set_to(mirror, "PROBED_AFTER", 3600.0)  # whose allocations would be in the way


def mirrors_at_work() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "wfpsa-mirror"]


def ids_of(batch: SaBatch) -> set[int]:
    found = batch["context_id"].tolist()
    assert len(set(found)) == len(found) == len(batch)
    return set(found)


def same(one: SaBatch, other: SaBatch) -> bool:
    """Whether the contexts of both are the same in all columns."""
    assert one.columns == other.columns
    ids_of(one), ids_of(other)
    both_ways = one.diff(other), other.diff(one)
    return not any(len(part) for found in both_ways for part in (found.added, found.removed, found.changed))


def rows_of(batch: SaBatch) -> dict[int, tuple[object, ...]]:
    columns = list(values(batch).values())
    return dict(zip(batch["context_id"].tolist(), zip(*columns, strict=True), strict=True))


def eventually(holds: Callable[[], bool]) -> None:
    """Waits until it holds: the engine tells its events by a thread of its own."""
    end = time.monotonic() + WAIT
    while not holds():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.001)


def until_same(mirrored: Mirror, engine: wfpsa.Engine, fields: tuple[str, ...] | None = None) -> None:
    """Waits until what the events tell has made both the same."""

    def caught_up() -> bool:
        mirrored.catch_up(WAIT)
        return same(mirrored.snapshot(), engine.snapshot(fields=fields))

    eventually(caught_up)


def until_ids(mirrored: Mirror, wanted: set[int]) -> None:
    def caught_up() -> bool:
        mirrored.catch_up(WAIT)
        return ids_of(mirrored.snapshot()) == wanted

    eventually(caught_up)


def insist(call: Callable[[], _T]) -> _T:
    """What it returns once no failure strikes any more."""
    end = time.monotonic() + WAIT
    while True:
        try:
            return call()
        except (wfpsa.WfpError, MemoryError):
            assert time.monotonic() < end, "it fails for ever"


def moment(mirrored: Mirror) -> tuple[int, dict[int, tuple[object, ...]]]:
    """A generation, and the contexts at it."""
    while True:
        before = mirrored.generation
        batch = mirrored.snapshot()
        if mirrored.generation == before:
            return before, rows_of(batch)


def replayed(changes: wfpsa.MirrorChanges, rows: dict[int, tuple[object, ...]]) -> dict[int, tuple[object, ...]]:
    """Older contexts with these changes applied, each of which must be one."""
    came, went, differ = (rows_of(part) for part in (changes.added, changes.removed, changes.changed))
    assert not came.keys() & rows.keys()
    assert went.keys() <= rows.keys() and differ.keys() <= rows.keys()
    assert not went.keys() & differ.keys()
    return {number: row for number, row in (rows | came | differ).items() if number not in went}


def half_built(engine: wfpsa.Engine, last: int = 1) -> tuple[int, Callable[[], None], Callable[[], None]]:
    """A context without SAs, and what adds its inbound and its outbound one."""
    traffic = Traffic("10.8.0.1", f"10.8.1.{last}")
    number = engine.create(traffic)
    spi = engine.get_spi(number, traffic)
    return (
        number,
        lambda: engine.add_inbound(number, SaBundle(sas=(Sa(spi=spi),), qm_sa_id=9)),
        lambda: engine.add_outbound(number, SaBundle(sas=(Sa(spi=9),), qm_sa_id=9)),
    )
