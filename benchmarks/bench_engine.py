"""The embedded engine itself, beside what is wanted of it: memory, seeding, single calls, drains, sessions at once.

A call by id does the same work at every size. The larger the engine, the more of that work misses the processor's
caches, which a thousand contexts fit into: the ratios of such calls show that, most of it between 1,000 and 100,000.
"""

import itertools
import random
import subprocess
import sys
import threading
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from figures import Figure, megabytes, ns, rate, us
from scale import SIZES

import wfpsa
from wfpsa import Outcome, testing
from wfpsa.bench.cases import seeded

sized = pytest.mark.parametrize("size", SIZES)
versions = pytest.mark.parametrize("version", [0, 1], ids=["Enum0", "Enum1"])
ROUNDS = 9
"""Of single calls: each round on other ids, a tenth of the engine's or 10,000."""

SESSIONS = (1, 64)
SHARE = 10_000
"""Contexts that each of the sessions works on."""


def calls(size: int) -> int:
    """Of one round on an engine of that size."""
    return min(size // 10, 10_000)


def draws(engine: wfpsa.Engine, order: str = "random") -> Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]:
    """For `setup`: ids of the engine, for each round others, in the order they are listed in or in a random one."""
    ids = engine.snapshot()["context_id"].tolist()
    if order == "random":
        random.Random(1).shuffle(ids)
    drawn = iter(ids)
    return lambda: ((array("Q", itertools.islice(drawn, calls(len(ids)))),), {})


# --- What it takes to have contexts ---------------------------------------------------------------


@sized
def bench_memory(size: int, file_figure: Callable[[Figure, float], None]) -> None:
    """Of a fresh process: in this one what earlier benchmarks freed would be used again."""
    script = Path(__file__).parent / "memory.py"
    printed = subprocess.run(
        [sys.executable, script, "engine", str(size)], capture_output=True, text=True, check=True
    ).stdout
    megabyte = float(printed.splitlines()[1].split()[2])
    wanted = "at most 400 MB" if size == 1_000_000 else "-"
    file_figure(Figure("memory", size, megabytes, wanted), megabyte * 1e6)


@sized
def bench_seed(size: int, measure: Callable[..., Any]) -> None:
    def setup() -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (testing.EmbeddedEngine(),), {}

    def seed(control: testing.EmbeddedEngine) -> testing.EmbeddedEngine:
        control.seed(size, 7)
        return control

    figure = Figure("seeding", size, rate, "at least 1 M/s")
    control = measure(f"engine seed {size}", "wfpsa", size, seed, setup=setup, figure=figure)
    assert len(control) == size


# --- Single calls ---------------------------------------------------------------------------------


@sized
def bench_get(size: int, population: Callable[[int], testing.EmbeddedEngine], measure: Callable[..., Any]) -> None:
    def get(numbers: "array[int]") -> None:
        for number in numbers:
            engine.get(number)

    with population(size).open() as engine:
        figure = Figure("get by id, random order", size, ns, "O(1)", scales=True)
        measure(f"engine get {size}", "wfpsa", calls(size), get, setup=draws(engine), rounds=ROUNDS, figure=figure)


@sized
@pytest.mark.parametrize("order", ["listed", "random"])
def bench_expire(size: int, order: str, measure: Callable[..., Any]) -> None:
    """In one call of the C loop, whose own beginning and end are part of the figure at every size."""
    with seeded(size) as control, control.open() as engine:
        figure = Figure(f"expire by id, {order} order", size, ns, "O(1)", scales=True)
        draw = draws(engine, order)
        group = f"engine expire {size}"
        report = measure(group, order, calls(size), engine.expire, setup=draw, rounds=ROUNDS, figure=figure)
        assert report.counts[Outcome.EXPIRED] == calls(size)


@sized
def bench_delete(size: int, measure: Callable[..., Any]) -> None:
    def delete(numbers: "array[int]") -> None:
        for number in numbers:
            engine.delete(number)

    with seeded(size) as control, control.open() as engine:
        figure = Figure("delete by id, random order", size, ns, "O(1)", scales=True)
        measure(
            f"engine delete {size}", "wfpsa", calls(size), delete, setup=draws(engine), rounds=ROUNDS, figure=figure
        )
        assert len(control) == size - calls(size) * ROUNDS


# --- Enumerations ---------------------------------------------------------------------------------


@sized
def bench_first(size: int, population: Callable[[int], testing.EmbeddedEngine], measure: Callable[..., Any]) -> None:
    """An enumeration of which one context is asked for: a handle made, a page of one, the handle destroyed."""

    def first() -> int:
        pages = engine.pages(page_size=1)
        length = len(next(pages))
        pages.close()
        return length

    with population(size).open() as engine:
        figure = Figure("a new enumeration's first context", size, us, "at most 20 ms a million", scales=True)
        assert measure(f"engine first {size}", "wfpsa", 1, first, figure=figure) == 1


@sized
@versions
def bench_drain(
    size: int, version: int, population: Callable[[int], testing.EmbeddedEngine], measure: Callable[..., Any]
) -> None:
    def drain() -> int:
        return testing.drain(engine, version=version, page_size=1024)

    name = f"Enum{version}"
    figure = Figure(f"drain of {name}, pages of 1024", size, rate, "-")
    with population(size).open() as engine:
        assert measure(f"engine drain {size}", name, size, drain, figure=figure) == size


@sized
def bench_full_drain(size: int, measure: Callable[..., Any]) -> None:
    """Of contexts with both SAs, two in each bundle, both names, filter, conditions, key module and encapsulation."""
    with testing.EmbeddedEngine() as control, control.open() as engine:
        control.seed(size, 7, full=True)
        figure = Figure("drain of Enum1, every structure filled", size, rate, "at least 3 M/s")
        drain = measure(f"engine drain {size}", "Enum1 full", size, lambda: testing.drain(engine), figure=figure)
        assert drain == size


# --- Many sessions at once ------------------------------------------------------------------------


@contextmanager
def at_once(sessions: int) -> Iterator[Callable[..., list[Any]]]:
    """A function that calls a function once with each item, each in a thread of its own, all let go together."""
    barrier = threading.Barrier(sessions)

    def together(function: Callable[[Any], Any], items: list[Any]) -> list[Any]:
        def one(item: Any) -> Any:
            barrier.wait(60)
            return function(item)

        return list(pool.map(one, items))

    with ThreadPoolExecutor(sessions) as pool:
        yield together


@pytest.mark.parametrize("sessions", SESSIONS)
@pytest.mark.parametrize("share", [SHARE])
def bench_sessions_list(
    sessions: int, share: int, population: Callable[[int], testing.EmbeddedEngine], measure: Callable[..., Any]
) -> None:
    """Each session takes a snapshot of all."""
    with at_once(sessions) as together, ExitStack() as stack:
        control = population(share)
        engines = [stack.enter_context(control.open()) for _ in range(sessions)]
        name = f"snapshots, sessions at once: {sessions}"
        figure = Figure(name, sessions * share, rate, "64 at once" if sessions == 64 else "-")
        lengths = measure(
            f"engine sessions list {share}",
            name,
            sessions * share,
            lambda: [len(batch) for batch in together(wfpsa.Engine.snapshot, engines)],
            figure=figure,
        )
    assert lengths == [share] * sessions


@pytest.mark.parametrize("sessions", SESSIONS)
@pytest.mark.parametrize("share", [SHARE])
def bench_sessions_expire(sessions: int, share: int, measure: Callable[..., Any]) -> None:
    """Each session expires a slice of its own, of an engine that has one for every session there can be."""
    with at_once(sessions) as together:

        def setup() -> tuple[tuple[Any, ...], dict[str, Any]]:
            with seeded(max(SESSIONS) * share) as control:
                engines = [control.open() for _ in range(sessions)]
            ids = engines[0].snapshot()["context_id"]
            work = [(engine, ids[at * share : (at + 1) * share]) for at, engine in enumerate(engines)]
            return (lambda item: item[0].expire(item[1]), work), {}

        name = f"expiries, sessions at once: {sessions}"
        figure = Figure(name, sessions * share, rate, "64 at once" if sessions == 64 else "-")
        reports = measure(
            f"engine sessions expire {share}", name, sessions * share, together, setup=setup, figure=figure
        )
    assert [report.counts[Outcome.EXPIRED] for report in reports] == [share] * sessions
