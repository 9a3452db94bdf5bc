"""What a scrape of the Prometheus collector costs, over a mirror and over an engine, with and without peers; a script.

`python benchmarks/metrics.py [--rounds N] [SIZE ...]`; sizes are 1,000, 100,000 and 1,000,000 contexts. A scrape is
what prometheus-client's generate_latest takes, the counters of IPsecGetStatistics1 included. It ends with 1 where a
scrape over a mirror of 100,000 contexts takes more, or has more series, than is wanted.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import prometheus_client

from wfpsa import testing
from wfpsa.bench.cases import seeded
from wfpsa.metrics import METRIC_FIELDS, WfpsaCollector

SIZES = (1_000, 100_000, 1_000_000)
TOP_PEERS = (0, 10)
JUDGED = 100_000
MOST_MS = 50.0
MOST_SERIES = 200


class Scrape(NamedTuple):
    """A line of the table."""

    size: int
    source: str
    top_peers: int
    ms: float
    """The median."""
    worst_ms: float
    series: int


def scraped(collector: WfpsaCollector, size: int, rounds: int) -> tuple[list[float], int]:
    """The milliseconds of each round, and how many series there are; RuntimeError where contexts are missing."""
    registry = prometheus_client.CollectorRegistry()
    registry.register(collector)
    taken, series = [], 0
    for _ in range(rounds + 1):  # the first one is not counted
        start = time.perf_counter_ns()
        text = prometheus_client.generate_latest(registry).decode()
        taken.append((time.perf_counter_ns() - start) / 1e6)
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        series = len(lines)
        found = sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("wfpsa_contexts{"))
        if found != size or "wfpsa_up 1.0" not in lines:
            raise RuntimeError(f"a scrape showed {found:.0f} of {size} contexts, so its time says nothing")
    return taken[1:], series


def measured(size: int, rounds: int) -> Iterator[Scrape]:
    """The scrapes of an engine of that size."""
    with (
        seeded(size) as control,
        control.open() as engine,
        engine.mirror(fields=METRIC_FIELDS, reconcile_every=None) as mirror,
    ):
        for name, source in (("mirror", mirror), ("engine", engine)):
            for top_peers in TOP_PEERS:
                collector = WfpsaCollector(source, engine=engine, top_peers=top_peers)
                taken, series = scraped(collector, size, rounds)
                yield Scrape(size, name, top_peers, statistics.median(taken), max(taken), series)


def main(sizes: tuple[int, ...], rounds: int) -> int:
    """Prints a line a size, source and number of peers, and the verdict."""
    print(f"{'contexts':>10} {'source':>8} {'top peers':>10} {'median, ms':>11} {'worst, ms':>10} {'series':>7}")
    judged = []
    for size in sizes:
        for found in measured(size, rounds):
            print(
                f"{found.size:>10} {found.source:>8} {found.top_peers:>10} {found.ms:>11.2f} {found.worst_ms:>10.2f} "
                f"{found.series:>7}",
                flush=True,
            )
            if found.size == JUDGED and found.source == "mirror":
                judged.append(found)
    if any(testing.live_counters().values()):
        raise RuntimeError(f"something is left: {testing.live_counters()}")
    if not judged:
        return 0
    ms, series = max(found.ms for found in judged), max(found.series for found in judged)
    met = ms <= MOST_MS and series <= MOST_SERIES
    print(
        f"{JUDGED:,} over a mirror: {ms:.1f} ms (wanted: at most {MOST_MS:.0f} ms), {series} series "
        f"(wanted: at most {MOST_SERIES}): {'met' if met else 'MISSED'}"
    )
    return 0 if met else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", metavar="SIZE", type=int, nargs="*", default=SIZES)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    sys.exit(main(tuple(options.sizes), options.rounds))
