"""Soak: fills, lists, changes and empties long-lived engines for a given time, and sees that memory stays flat.

`python benchmarks/soak.py --seconds 600 [--contexts 20000]`, on Linux and macOS. Fails, with exit status 1, where the
resident size grows by more than BOUND after the first fifth of the time, where a cycle leaves a page or an enumeration
behind, or where anything is alive in the C half once all engines are closed.

All threads allocate from one arena, where the C library can be told so: else what a thread left of its pages in an
arena of its own stays resident, more or less of it in each cycle.

The bound: allocators keep freed memory, a different amount in each cycle, and are asked to give it back. A seeding of a
tenth of 20,000 contexts that kept what it allocated would cost 0.1 MB, twice in a cycle and several cycles a second.
"""

import argparse
import contextlib
import ctypes
import gc
import os
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from memory import peak_bytes

import wfpsa
from wfpsa import Outcome, testing
from wfpsa.bench.cases import unaudited

try:
    import pyarrow
except ImportError:
    pyarrow = None

WARM_UP = 0.2
BOUND = 2_000_000
THREADS = 4
ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}


def resident_bytes() -> int:
    """The resident size of this process without what allocators keep of freed memory, as far as they can be asked.

    Where only the largest size so far is known, that.
    """
    gc.collect()
    if pyarrow is not None:
        pyarrow.default_memory_pool().release_unused()
    with contextlib.suppress(AttributeError):  # glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        return peak_bytes()


def use_one_arena() -> None:
    """Begins again with glibc told to serve every thread from one arena: libraries start threads when imported."""
    if ONE_ARENA.items() - os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ONE_ARENA)


class World:
    """One long-lived engine, a long-lived session of it, and what the steps know of its contexts."""

    def __init__(self, contexts: int, *, odd: bool) -> None:
        self.contexts = contexts
        self.odd = odd
        self.random = random.Random(contexts + odd)
        self.control = testing.EmbeddedEngine()
        self.control.stop_clock()
        self.engine = self.control.open()
        self.ids: list[int] = []
        """Of the contexts that are there, as the latest complete listing had them."""
        self.seen = 0
        """Contexts read so far."""

    def some(self, part: int) -> list[int]:
        """One in `part` of the ids."""
        return self.random.sample(self.ids, len(self.ids) // part)

    def close(self) -> None:
        """Ends the session and the engine."""
        self.engine.close()
        self.control.close()


# --- Steps: each leaves the world as the next one may find it -------------------------------------


def seed(world: World) -> None:
    """Fills the engine up."""
    world.control.seed(world.contexts - len(world.control), world.random.getrandbits(64), odd=world.odd)


def list_all(world: World) -> None:
    """Both versions, whole and by pages."""
    for version in (0, 1):
        batch = world.engine.snapshot(version=version)
        paged = sum(
            len(page) for page in world.engine.pages(version=version, page_size=world.random.randint(100, 5000))
        )
        assert len(batch) == paged == len(world.control) == world.contexts
        world.seen += len(batch) + paged
    world.ids = batch["context_id"].tolist()


def list_subnets(world: World) -> None:
    """Filtered listings, some of which are empty."""
    for subnets in ({"remote": "10.2.0.0/16"}, {"local": "2001:db8::/32"}, {"remote": "198.51.100.1"}):
        for version in (0, 1):
            world.seen += len(world.engine.snapshot(version=version, **subnets))


def abandon_pages(world: World) -> None:
    """Listings given up midway, closed or just dropped, while contexts that they keep go away."""
    closed = world.engine.pages(page_size=100)
    dropped = world.engine.pages(page_size=10, remote="10.0.0.0/8", version=0)
    world.seen += len(next(closed)) + len(next(dropped))
    world.engine.delete(world.ids.pop())
    world.seen += len(next(closed)) + len(next(dropped))
    closed.close()


def get_some(world: World) -> None:
    """Single contexts, and one that is not there."""
    for number in world.some(100):
        assert world.engine.get(number, version=world.random.randint(0, 1)).context_id == number
        world.seen += 1
    with contextlib.suppress(wfpsa.NotFound):
        world.engine.get(1)


def export_arrow(world: World) -> None:
    """Arrow streams that are read, and some that nobody reads."""
    batch = world.engine.snapshot(page_size=4096)
    for exported in (batch, batch[::-3], batch.arrow(addresses="text", enums="name")):
        if pyarrow is not None:
            assert pyarrow.table(exported).num_columns == len(batch.columns)
        exported.__arrow_c_schema__()
        exported.__arrow_c_stream__()
    world.seen += len(batch)


def expire_some(world: World) -> None:
    """In mass, some of them twice and some unknown."""
    chosen = world.some(20)
    report = world.engine.expire([*chosen, *chosen[:10], 1, 2, 3])
    assert report.counts[Outcome.ALREADY_GONE] >= 3 and report.counts[Outcome.FAILED] == 0


def end_tails(world: World) -> None:
    """The minute in which an expired context lingers goes by."""
    before = len(world.control)
    world.control.advance(61)
    assert len(world.control) < before
    world.ids = world.engine.snapshot()["context_id"].tolist()


def delete_some(world: World) -> None:
    """One by one."""
    for number in world.some(50):
        world.engine.delete(number)
    world.ids = world.engine.snapshot()["context_id"].tolist()


def open_others(world: World) -> None:
    """Sessions of this engine and an engine of its own, some closed, some dropped."""
    with world.control.open() as other:
        world.control.open().get(world.ids[0])
        world.seen += len(other.snapshot())
    with wfpsa.open_engine("embedded:?contexts=100&odd=1") as other:
        world.seen += len(other.snapshot())


def run_threads(world: World) -> None:
    """Sessions in threads of their own, each of which lists, gets and expires a slice."""

    def work(at: int) -> int:
        mine = world.ids[at::THREADS]
        with world.control.open() as engine:
            seen = sum(len(page) for page in engine.pages(page_size=512))
            for number in mine[:20]:
                engine.get(number)
            report = engine.expire(mine[:100])
            assert report.counts[Outcome.EXPIRED] == len(report)
            return seen

    with ThreadPoolExecutor(THREADS) as pool:
        world.seen += sum(pool.map(work, range(THREADS)))


STEPS: tuple[Callable[[World], None], ...] = (
    seed,
    list_all,
    list_subnets,
    abandon_pages,
    get_some,
    export_arrow,
    expire_some,
    end_tails,
    delete_some,
    open_others,
    run_threads,
)


# --- The run --------------------------------------------------------------------------------------


def soak(seconds: float, contexts: int, clock: Callable[[], float] = time.monotonic) -> list[str]:
    """Runs cycles for that time; returns what was wrong."""
    wrong = []
    worlds = [World(contexts, odd=False), World(contexts, odd=True)]
    began = clock()
    every = max(1.0, min(10.0, seconds / 12))
    cycles, told, warm, highest = 0, 0.0, 0, 0
    while (passed := clock() - began) < seconds or cycles == 0:
        for world in worlds:
            for step in STEPS:
                step(world)
        cycles += 1
        alive = testing.live_counters()
        if alive["pages"] or alive["enum_handles"]:
            wrong.append(f"cycle {cycles} left {alive['pages']} pages and {alive['enum_handles']} enumerations alive")
            break
        resident = resident_bytes()
        if passed < seconds * WARM_UP or warm == 0:
            warm = max(warm, resident)
        highest = max(highest, resident)
        if passed - told >= every or cycles == 1:
            told = passed
            print(
                f"{passed:6.0f} s  {cycles:7,} cycles  {sum(world.seen for world in worlds):15,} contexts  "
                f"{resident / 1e6:7.1f} MB resident  {alive['allocations']:10,} allocations",
                flush=True,
            )
    seen = sum(world.seen for world in worlds)
    for world in worlds:
        world.close()
    del world, worlds  # a closed session is there until its last reference goes
    if highest - warm > BOUND:
        wrong.append(f"the resident size grew by {(highest - warm) / 1e6:.1f} MB, above {BOUND / 1e6:.0f} MB")
    left = {name: count for name, count in testing.live_counters().items() if count}
    if left:
        wrong.append(f"alive at the end: {left}")
    print(
        f"{cycles:,} cycles of {len(STEPS)} steps on two engines of {contexts:,} contexts in "
        f"{clock() - began:.0f} s, {seen:,} contexts read; "
        f"{warm / 1e6:.1f} MB after the warm-up, {highest / 1e6:.1f} MB at most afterwards; "
        f"alive at the end: {sum(left.values())}"
    )
    return wrong


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Runs the embedded engine for a time and sees that memory stays flat.")
    parser.add_argument("--seconds", type=float, default=60, help="how long; 60 by default")
    parser.add_argument("--contexts", type=int, default=20_000, help="in each of two engines; 20000 by default")
    arguments = parser.parse_args()
    if arguments.contexts < 200:
        parser.error("--contexts must be at least 200, of which every step finds some")
    with unaudited():
        wrong = soak(arguments.seconds, arguments.contexts)
    for line in wrong:
        print(f"WRONG: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    use_one_arena()
    sys.exit(main())
