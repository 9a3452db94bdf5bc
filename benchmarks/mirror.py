"""What a mirror costs: changes a second, catching up with churn beside a new snapshot, and its memory; a script.

`python benchmarks/mirror.py [--rounds N] [--large]`; --large adds 1,000,000 contexts to the 100,000. Contexts go and as
many come while the engine holds its events back; then they are delivered at once, and timed is what it takes until the
mirror has applied the last one. A churn of 1 % is one context in a hundred that went and one new for each. All columns
are mirrored. Last comes what the engine's own calls by id take of it, metered. After every round the mirror must equal
a snapshot, or it ends with a RuntimeError; it ends with 1 where less was reached than is wanted.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import wfpsa
from wfpsa import _native, testing
from wfpsa.bench.cases import seeded

SIZE, LARGE = 100_000, 1_000_000
CHURNS = (0.001, 0.005, 0.01, 0.1)
"""Parts of all contexts that go in a round."""
LATENCIES = (0, 20, 100)
"""Of each get, in us; what it sleeps, on Linux some 50 us more, is what counts."""
CHANGED = 5_000
"""Contexts that go, and as many that come, where changes a second are measured."""
QUEUE = 1 << 20
"""Events that may wait: all of a round."""
MOST_SECONDS = 120.0
JUDGED_CHURN = 0.01
WANTED_RATIO = 20.0
WANTED_RATE = 50_000.0
WANTED_MEMORY = 1.5


class Verdict(NamedTuple):
    """A figure beside what is wanted of it."""

    what: str
    found: float
    wanted: float
    at_least: bool

    @property
    def met(self) -> bool:
        """Whether it is as good as wanted."""
        return self.found >= self.wanted if self.at_least else self.found <= self.wanted

    def __str__(self) -> str:
        bound = "at least" if self.at_least else "at most"
        return f"{self.what}: {self.found:,.2f} (wanted: {bound} {self.wanted:,g}): {'met' if self.met else 'MISSED'}"


class Bench:
    """An engine with so many contexts, and a mirror of it."""

    def __init__(self, size: int, control: testing.EmbeddedEngine, engine: wfpsa.Engine, mirror: wfpsa.Mirror) -> None:
        self.size, self.control, self.engine, self.mirror = size, control, engine, mirror
        self._seed = 0

    def check(self) -> None:
        """Raises RuntimeError where the mirror is not what the engine has."""
        drift = self.engine.snapshot().diff(self.mirror.snapshot())
        if len(drift.added) or len(drift.removed) or len(drift.changed) or self.mirror.gaps or self.mirror.error:
            raise RuntimeError(f"the mirror is not what the engine has, so its time says nothing: {drift}")

    def caught_up(self, count: int, latency_us: int = 0) -> tuple[float, int]:
        """The seconds in which the mirror applies `count` contexts that went and as many that came, and how many events
        it was told; at a latency of each call."""
        before, totals = set(self.engine.snapshot(fields=("context_id",))["context_id"]), self.mirror.totals
        self.control.notifications(capacity=QUEUE, held=True)
        self._seed += 1
        self.control.churn(count, self._seed)
        self.control.advance(1)
        self.control.churn(0)
        after = set(self.engine.snapshot(fields=("context_id",))["context_id"])
        self.mirror.catch_up(MOST_SECONDS)  # with the one-sided that it reads again by itself: a second has gone by
        came, went = totals["added"] + len(after - before), totals["removed"] + len(before - after)
        self.control.latency(per_call_us=latency_us)
        start = time.perf_counter()
        self.control.notifications(capacity=QUEUE)
        self.mirror.catch_up(MOST_SECONDS)
        while (totals := self.mirror.totals)["added"] < came or totals["removed"] < went or self.mirror.lag:
            if time.perf_counter() - start > MOST_SECONDS:  # what was told after catch_up() was called
                raise RuntimeError(f"the mirror has {totals} after {MOST_SECONDS:.0f} s, and not {came} and {went}")
            time.sleep(0.0002)
        elapsed = time.perf_counter() - start
        self.control.latency()
        self.check()
        return elapsed, 2 * count

    def listed(self) -> float:
        """The seconds of a new snapshot."""
        start = time.perf_counter()
        batch = self.engine.snapshot()
        elapsed = time.perf_counter() - start
        if len(batch) != len(self.mirror):
            raise RuntimeError("the snapshot is not whole, so its time says nothing")
        return elapsed

    def memory(self) -> float:
        """The mirror's bytes, in those of a batch."""
        return self.mirror.nbytes / self.engine.snapshot().nbytes


@contextmanager
def bench(size: int) -> Iterator[Bench]:
    """An engine of that size and its mirror, which lists nothing by itself."""
    with seeded(size) as control, control.open() as engine:
        control.notifications(capacity=QUEUE)
        with engine.mirror(reconcile_every=None, capacity=QUEUE) as mirror:
            yield Bench(size, control, engine, mirror)


def rates(rounds: int) -> Iterator[Verdict]:
    """Prints how many changes a second go in, by the latency of a get."""
    print(f"{'us a get':>10} {'changes':>9} {'median, ms':>11} {'changes/s':>11}")
    with bench(SIZE) as made:
        for latency in LATENCIES:
            runs = [made.caught_up(CHANGED, latency) for _ in range(rounds)]
            seconds, changes = statistics.median(each for each, _ in runs), runs[0][1]
            print(f"{latency:>10} {changes:>9,} {seconds * 1e3:>11.2f} {changes / seconds:>11,.0f}", flush=True)
            if latency == 0:
                yield Verdict("changes a second at no latency", changes / seconds, WANTED_RATE, True)


def ratios(sizes: tuple[int, ...], rounds: int) -> Iterator[Verdict]:
    """Prints what catching up costs beside a new snapshot, and the memory."""
    print(f"\n{'contexts':>10} {'churn':>7} {'catching up, ms':>16} {'snapshot, ms':>13} {'ratio':>7} {'memory':>7}")
    for size in sizes:
        with bench(size) as made:
            largest = made.memory()
            print(f"{size:>10} {'none':>7} {'-':>16} {'-':>13} {'-':>7} {largest:>6.2f}x")
            for churn in CHURNS:
                caught, listed = [], []
                for _ in range(rounds):  # alternately, so that both see the same moments of the machine
                    caught.append(made.caught_up(round(size * churn))[0])
                    listed.append(made.listed())
                mine, its, memory = statistics.median(caught), statistics.median(listed), made.memory()
                largest = max(largest, memory)
                print(
                    f"{size:>10} {churn:>7.1%} {mine * 1e3:>16.2f} {its * 1e3:>13.2f} {its / mine:>6.1f}x "
                    f"{memory:>6.2f}x",
                    flush=True,
                )
                if churn == JUDGED_CHURN:
                    yield Verdict(f"a snapshot of {size:,} beside {churn:.0%} churn", its / mine, WANTED_RATIO, True)
            yield Verdict(f"the mirror's bytes of {size:,} beside a batch's", largest, WANTED_MEMORY, False)


def shares(rounds: int) -> None:
    """Prints what the engine takes of catching up with the judged churn: its calls by id, and what becomes of them."""
    with bench(SIZE) as made:
        _native.start_meter()  # for good, and at two looks at the clock a call: so after all that is judged
        runs = []
        for _ in range(rounds):
            within, before, _ = _native.calls()["get"]
            seconds, changes = made.caught_up(round(SIZE * JUDGED_CHURN))
            after, spent, _ = _native.calls()["get"]
            runs.append((seconds / changes, (spent - before) / (sum(after) - sum(within)), made.listed() / SIZE))
    change, call, listed = (statistics.median(each) * 1e6 for each in zip(*runs, strict=True))
    print(
        f"\nof {JUDGED_CHURN:.0%} churn in {SIZE:,}: {change:.2f} us a change, of which {call:.2f} us are the "
        f"engine's call by id; a listing takes {listed:.2f} us a context, so that calls alone would make "
        f"{listed / call / JUDGED_CHURN / 2:.0f}x"
    )


def main(sizes: tuple[int, ...], rounds: int) -> int:
    """Prints all tables, and what is wanted beside what was found."""
    verdicts = [*rates(rounds), *ratios(sizes, rounds)]
    shares(rounds)
    if any(testing.live_counters().values()):
        raise RuntimeError(f"something is left: {testing.live_counters()}")
    print()
    for verdict in verdicts:
        print(verdict)
    return 0 if all(verdict.met for verdict in verdicts) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", action="store_true", help="1,000,000 contexts, too")
    options = parser.parse_args()
    sys.exit(main((SIZE, LARGE) if options.large else (SIZE,), options.rounds))
