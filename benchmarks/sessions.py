"""Mass expiry in 1 to 64 sessions, by wfpsa and by ctypes threads, at latencies outside and inside the lock; a script.

`python benchmarks/sessions.py [--ids N] [--rounds N]`; it ends with 1 where a context was not expired. Every session is
opened within the time. Inside the lock one call waits for the other, and a loop has but one session: there a quarter of
the ids will do, but for what is judged.
"""

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import wfpsa
from wfpsa import testing
from wfpsa.bench.baselines import ctypes_fast, ctypes_naive
from wfpsa.bench.cases import seeded, unaudited

SESSIONS = (1, 4, 16, 64)
LATENCIES = (0, 20, 100)
"""Of a call, in us; what it sleeps, on Linux some 50 us more, is what counts."""
FWP_E_TIMEOUT = 0x80320012


class Cell(NamedTuple):
    """What is measured: one line of the table has those that differ in their sessions only."""

    place: str
    latency_us: int
    means: str
    sessions: int


class Run(NamedTuple):
    """One round of a cell."""

    elapsed_ns: int
    lost: Counter[int]
    """How many of the ids were not expired, by the code that the last call returned; 0: there was no call."""
    repeated: int
    """Calls that were made again."""


def by_wfpsa(control: testing.EmbeddedEngine, latency_us: int, sessions: int) -> Run:
    """A plan, unverified, made and released before the engine gets slow."""
    with control.open() as engine:
        plan = engine.plan_expiry(engine.snapshot(fields=wfpsa.CORE_FIELDS))
        control.latency(per_call_us=latency_us)
        start = time.perf_counter_ns()
        report = plan.apply(engine, sessions=sessions, verify=False)
        elapsed = time.perf_counter_ns() - start
        control.latency()
    rows = zip(report.outcome, report.code, strict=True)
    lost = Counter(code for outcome, code in rows if outcome != wfpsa.Outcome.EXPIRED)
    return Run(elapsed, lost, sum(tries - 1 for tries in report.attempts if tries))


def by_ctypes(expire: Callable[[list[int]], list[int]], control: testing.EmbeddedEngine, latency_us: int) -> Run:
    """All ids by a function that returns the codes of its calls."""
    with control.open() as engine:
        ids = engine.snapshot(fields=["context_id"])["context_id"].tolist()
    control.latency(per_call_us=latency_us)
    start = time.perf_counter_ns()
    codes = expire(ids)
    elapsed = time.perf_counter_ns() - start
    control.latency()
    if len(codes) != len(ids):
        raise RuntimeError("a benchmark did not do its work, so its time says nothing")
    return Run(elapsed, Counter(code for code in codes if code), 0)


def by_pool(control: testing.EmbeddedEngine, latency_us: int, sessions: int) -> Run:
    """As many threads, each with a session of its own and its share of the ids, by the faster ctypes baseline."""
    functions = testing.functions()

    def share(ids: list[int]) -> list[int]:
        return ctypes_fast.expire(functions, control.server_name, ids)

    def all_shares(ids: list[int]) -> list[int]:
        with ThreadPoolExecutor(sessions) as pool:
            parts = list(pool.map(share, [ids[at::sessions] for at in range(sessions)]))
        return [code for part in parts for code in part]

    return by_ctypes(all_shares, control, latency_us)


def by_loop(control: testing.EmbeddedEngine, latency_us: int, sessions: int) -> Run:
    """One loop in one session, as everybody writes it first."""
    functions = testing.functions()
    return by_ctypes(lambda ids: ctypes_naive.expire(functions, control.server_name, ids), control, latency_us)


MEANS: dict[str, Callable[[testing.EmbeddedEngine, int, int], Run]] = {
    "wfpsa": by_wfpsa,
    "ctypes threads": by_pool,
    "ctypes loop": by_loop,
}
CELLS = [
    Cell(place, latency_us, means, sessions)
    for place in ("outside", "inside")
    for latency_us in LATENCIES
    if latency_us or place == "outside"  # nothing is slept anywhere
    for means in MEANS
    for sessions in (SESSIONS if means != "ctypes loop" else (1,))
]
JUDGED = tuple(Cell(place, 100, "wfpsa", sessions) for place in ("outside", "inside") for sessions in (1, 16))


def ids_of(cell: Cell, ids: int) -> int:
    """How many ids a cell expires: all of them where several sessions save time, and where there is a verdict."""
    return ids if (cell.place == "outside" and cell.means != "ctypes loop") or cell in JUDGED else max(64, ids // 4)


def measured(cell: Cell, ids: int) -> Run:
    """One round of a cell on an engine of its own, after which all that was not lost must be in its inbound tail."""
    with seeded(ids_of(cell, ids)) as control:
        control.switch(latency=cell.place)
        run = MEANS[cell.means](control, cell.latency_us, cell.sessions)
        control.advance(61)
        left = len(control)
    if left != run.lost.total():
        raise RuntimeError(f"{cell}: {left} contexts are left, where {run.lost.total()} were said to be")
    return run


def print_table(runs: dict[Cell, list[Run]], ids: int) -> None:
    """Prints us an id, and how many times as fast as the same means' one session."""
    heads = "".join(f"{sessions:>9}{'':>9}" for sessions in SESSIONS)
    print(f"us an id, and how many times one session's rate    sessions:\n{'':>24}{'means':>16}{heads}{'lost':>6}")
    lines: dict[tuple[str, int, str], list[Cell]] = {}
    for cell in runs:
        lines.setdefault(cell[:3], []).append(cell)
    for (place, latency_us, means), cells in lines.items():
        text = "".join(
            f"{per_id(runs, cell, ids):>9.2f} {ratio(runs, cell, ids):>6.2f}x " for cell in cells
        ) + f"{'-':>9}{'':>9}" * (len(SESSIONS) - len(cells))
        lost = sum(run.lost.total() for cell in cells for run in runs[cell])
        where = f"{latency_us} us {place} the lock" if latency_us else "no latency"
        print(f"{where:>24}{means:>16}{text}{lost:>6}")


def per_id(runs: dict[Cell, list[Run]], cell: Cell, ids: int) -> float:
    """The median of the rounds, in us."""
    return statistics.median(run.elapsed_ns for run in runs[cell]) / ids_of(cell, ids) / 1000


def ratio(runs: dict[Cell, list[Run]], cell: Cell, ids: int) -> float:
    """How many times as fast as one session of the same means: the median of the rounds' own ratios."""
    one = cell._replace(sessions=1)
    pairs = zip(runs[one], runs[cell], strict=True)
    return statistics.median(
        (alone.elapsed_ns / ids_of(one, ids)) / (run.elapsed_ns / ids_of(cell, ids)) for alone, run in pairs
    )


def print_verdicts(runs: dict[Cell, list[Run]], ids: int) -> None:
    """Prints what is wanted, what came out and whether that is enough."""
    _, outside, _, inside = JUDGED
    faster, longer = ratio(runs, outside, ids), 1 / ratio(runs, inside, ids)
    for wanted, found, is_met in (
        ("100 us outside the lock: 16 sessions at least 12x one", faster, faster >= 12),
        ("100 us inside: 16 sessions at most 1.10x the time of one", longer, longer <= 1.10),
    ):
        print(f"{wanted}: {found:.2f}x, {'met' if is_met else 'NOT MET'}")


def print_planning(rounds: int) -> None:
    """Prints what planning 100,000 contexts takes, which makes no call of the engine."""
    with seeded(100_000) as control, control.open() as engine:
        batch = engine.snapshot(fields=wfpsa.CORE_FIELDS)
        for keep in (0, 1, 2):
            times = []
            for _ in range(rounds):
                start = time.perf_counter_ns()
                plan = engine.plan_expiry(batch, keep_per_peer=keep)
                times.append((time.perf_counter_ns() - start) / 1e6)
                if len(plan.contexts) != 100_000:
                    raise RuntimeError("a benchmark did not do its work, so its time says nothing")
            took = statistics.median(times)
            print(
                f"planning 100,000, keep_per_peer={keep}: {took:.0f} ms, {'met' if took <= 50 else 'NOT MET'} (50 ms)"
            )


def main() -> int:
    """Measures every cell in turn, round by round; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ids", type=int, default=6400, help="how many a cell expires")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median counts")
    options = parser.parse_args()
    start = time.monotonic()
    runs: dict[Cell, list[Run]] = {cell: [] for cell in CELLS}
    for turn in range(options.rounds):
        for cell in CELLS if turn % 2 == 0 else reversed(CELLS):
            runs[cell].append(measured(cell, options.ids))
    print_table(runs, options.ids)
    codes = sum((run.lost for each in runs.values() for run in each), Counter[int]())
    repeated = sum(run.repeated for each in runs.values() for run in each)
    print(f"not expired: {codes.total()}, of them FWP_E_TIMEOUT: {codes[FWP_E_TIMEOUT]}; calls made again: {repeated}")
    print_verdicts(runs, options.ids)
    print_planning(options.rounds)
    took = time.monotonic() - start
    print(f"{options.ids} ids (a quarter by the loop, and inside unless judged), {options.rounds} rounds, {took:.0f} s")
    return 1 if codes else 0


if __name__ == "__main__":
    with unaudited():
        sys.exit(main())
