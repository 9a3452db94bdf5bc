"""What a snapshot in one thread costs beyond the drain and decoding one page again and again, taken apart; a script.

`python benchmarks/listing.py [--rounds N] [--only NAME] [SIZE ...]`. Each size is measured in two processes: glibc's
allocator keeps all memory in the one, so that no array is written for the first time, and gives all back in the other.
With --only what has those words in its name runs alone, in this process and with its allocator, for `perf record`.

near: one page decoded again and again, each batch dropped; kept: all batches kept, which is "decode" in the row of the
benchmark; far: into one batch as large as a snapshot. filled: each page just after the engine filled it. cold: a page
that no cache holds. nameless: all columns but the four of text.
"""

import argparse
import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple, Self

import wfpsa
from wfpsa import _native, testing
from wfpsa.bench.baselines import ctypes_naive
from wfpsa.bench.cases import PAGE_SIZE, seeded

SIZES = (100_000, 1_000_000)
PAGE_SIZES = (64, 128, 256, 512, 1024, 4096)
FIELDS: dict[str, tuple[str, ...] | None] = {
    "ids": ("context_id",),
    "core": wfpsa.CORE_FIELDS,
    "nameless": tuple(info["name"] for info in _native.column_info() if info["kind"] != "text"),
    "all": None,
}
KEEPING = {"MALLOC_MMAP_THRESHOLD_": str(1 << 40), "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
GIVING_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
FRESH = ("drain", "near, kept all", "near, far all", "snapshot all", "by 1024 pages")
"""What is measured with memory given back, too, each in a process of its own: no allocator gives back what lies between
pieces that are in use, and there would be such."""
COLD_CONTEXTS = 100_000
"""In one page that is far larger than the caches."""


class Cost(NamedTuple):
    """What something took, and how many pages of memory it touched for the first time."""

    ns: float
    faults: float


Measure = Callable[[], dict[str, Cost]]
Figures = dict[str, list[Cost]]
"""The costs of each round, a context, by name."""


def faults() -> int:
    """Page faults of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def must_be(found: int, wanted: int) -> None:
    """Raises RuntimeError where the work was not the whole."""
    if found != wanted:
        raise RuntimeError(f"a benchmark did {found} of {wanted} contexts, so its time says nothing")


class Bench:
    """An engine with so many contexts, and what is measured of it, by name."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._ends = ExitStack()
        self.control = self._ends.enter_context(seeded(size))
        self.engine = self._ends.enter_context(self.control.open())
        self._near = ctypes_naive.pages(testing.functions(), self.control.server_name, min(size, PAGE_SIZE))
        self._ends.callback(self._near.close)
        self.address, self.count = next(self._near)
        pointers = (ctypes.c_uint64 * self.count).from_address(self.address)
        self.repeated = (ctypes.c_uint64 * size)(*(pointers[at % self.count] for at in range(size)))
        """An array of pointers to the near page's contexts, again and again: read from near, written far."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def measures(self) -> dict[str, Measure]:
        """All there is to be measured, what will be compared side by side; some give two costs."""
        works: dict[str, Callable[[], int]] = {"drain": self.drain, "near, kept all": self.near_kept}
        found: dict[str, Measure] = {}
        for fields in FIELDS:
            works[f"near {fields}"] = partial(self.near, fields)
            works[f"near, far {fields}"] = partial(self.near_to_far, fields)
            works[f"snapshot {fields}"] = partial(self.snapshot, fields, PAGE_SIZE)
            found[f"filled {fields}"] = partial(self.just_filled, fields)
            found[f"cold {fields}"] = partial(self.cold, fields)
        works["snapshot all, as usual"] = partial(self.snapshot, "all", None, True)
        works["pages all, as usual"] = partial(self.pages, None, True)
        for page_size in PAGE_SIZES:
            works[f"by {page_size} drain"] = partial(self.drain, page_size)
            works[f"by {page_size} snapshot"] = partial(self.snapshot, "all", page_size)
            works[f"by {page_size} pages"] = partial(self.pages, page_size)
        found |= {name: self.timed(name, work) for name, work in works.items()}
        return dict(sorted(found.items(), key=lambda item: (item[0].startswith("by "), item[0].split()[-1])))

    def timed(self, name: str, work: Callable[[], int]) -> Measure:
        """A measure of a function that returns how many contexts it did."""

        def measure() -> dict[str, Cost]:
            before, start = faults(), time.perf_counter_ns()
            done = work()
            cost = Cost(time.perf_counter_ns() - start, faults() - before)
            must_be(done, self.size)
            return {name: cost}

        return measure

    def drain(self, page_size: int = PAGE_SIZE) -> int:
        """The engine alone."""
        return testing.drain(self.engine, page_size=page_size)

    def near_pages(self) -> Iterator[int]:
        """The counts by which the near page is to be decoded, so that all contexts come together."""
        for first in range(0, self.size, self.count):
            yield min(self.count, self.size - first)

    def near(self, fields: str) -> int:
        """One page again and again, each batch dropped at once."""
        names = FIELDS[fields]
        return sum(len(testing.decode_page(self.address, count, fields=names)) for count in self.near_pages())

    def near_kept(self) -> int:
        """The same into batches that are all kept until the end: "decode" in the row "list, one thread"."""
        return sum(map(len, [testing.decode_page(self.address, count) for count in self.near_pages()]))

    def near_to_far(self, fields: str) -> int:
        """The same contexts again and again into one batch that is as large as a snapshot."""
        return len(testing.decode_page(ctypes.addressof(self.repeated), self.size, fields=FIELDS[fields]))

    def just_filled(self, fields: str) -> dict[str, Cost]:
        """Each page as soon as the engine filled it; the decoding and, as its own cost, the calls around it."""
        names, done, decoding = FIELDS[fields], 0, 0
        before, start = faults(), time.perf_counter_ns()
        for address, count in ctypes_naive.pages(testing.functions(), self.control.server_name, PAGE_SIZE):
            begin = time.perf_counter_ns()
            done += len(testing.decode_page(address, count, fields=names))
            decoding += time.perf_counter_ns() - begin
        whole = time.perf_counter_ns() - start
        must_be(done, self.size)
        return {
            f"filled {fields}": Cost(decoding, faults() - before),
            f"engine around filled {fields}": Cost(whole - decoding, 0),
        }

    def cold(self, fields: str) -> dict[str, Cost]:
        """A page that no cache holds, in pieces into batches that are dropped; per context of the whole size."""
        names, done = FIELDS[fields], 0
        size = min(self.size, COLD_CONTEXTS)
        pages = ctypes_naive.pages(testing.functions(), self.control.server_name, size)
        address, count = next(pages)
        before, start = faults(), time.perf_counter_ns()
        for first in range(0, count, PAGE_SIZE):
            done += len(testing.decode_page(address + 8 * first, min(PAGE_SIZE, count - first), fields=names))
        elapsed = time.perf_counter_ns() - start
        must_be(done, size)
        pages.close()
        return {f"cold {fields}": Cost(elapsed * self.size / size, faults() - before)}

    def snapshot(self, fields: str, page_size: int | None, prefetch: bool = False) -> int:
        """All contexts in one batch."""
        return len(self.engine.snapshot(fields=FIELDS[fields], page_size=page_size, prefetch=prefetch))

    def pages(self, page_size: int | None, prefetch: bool = False) -> int:
        """All contexts in batches that are dropped one by one."""
        return sum(len(page) for page in self.engine.pages(page_size=page_size, prefetch=prefetch))


def measured(size: int, rounds: int, names: Iterable[str], exactly: bool) -> Figures:
    """What has one of those names (or has it within) takes turns, round by round, after a round that does not count."""
    chosen = [
        measure
        for name, measure in Bench(size).measures().items()
        if any(wanted == name if exactly else wanted in name for wanted in names)
    ]
    found: Figures = {}
    for turn in range(rounds + 1):
        for measure in chosen:
            for name, cost in measure().items():
                if turn:
                    found.setdefault(name, []).append(Cost(*(part / size for part in cost)))
    return found


def elsewhere(size: int, rounds: int, names: Iterable[str], settings: dict[str, str]) -> Figures:
    """The same, measured in a process of its own with those settings of the allocator."""
    only = [word for name in names for word in ("--only", name)]
    command = [sys.executable, __file__, "--json", "--rounds", str(rounds), *only, str(size)]
    done = subprocess.run(command, env=os.environ | settings, check=True, stdout=subprocess.PIPE)
    return {name: [Cost(*cost) for cost in costs] for name, costs in json.loads(done.stdout).items()}


def median(costs: list[Cost]) -> Cost:
    """The median of both."""
    return Cost(*(statistics.median(values) for values in zip(*costs, strict=True)))


def print_table(size: int, title: str, figures: Figures) -> None:
    """Prints the medians of the costs."""
    print(f"\n{f'{size} contexts, {title}':<44}{'ns a context':>14}{'page faults':>13}")
    for name, costs in figures.items():
        print(f"{name:<44}{median(costs).ns:>14.0f}{median(costs).faults:>13.3f}")


def print_parts(keeping: Figures, fresh: Figures) -> None:
    """Prints what a snapshot costs beyond the drain and near decoding, and what of it is due to what.

    Each is the median of what the rounds say.
    """

    def part(figures: Figures, *, plus: tuple[str, ...], minus: tuple[str, ...] = ()) -> float:
        added = [[cost.ns for cost in figures[name]] for name in plus]
        taken = [[-cost.ns for cost in figures[name]] for name in minus]
        return statistics.median(map(sum, zip(*added, *taken, strict=True)))

    print("\na snapshot in one thread, over the drain and near decoding with the batches kept (wanted: 1.10x)")
    for title, figures in (("memory kept", keeping), ("memory given back", fresh)):
        rounds = zip(figures["snapshot all"], figures["drain"], figures["near, kept all"], strict=True)
        ratio = statistics.median(whole.ns / (drain.ns + near.ns) for whole, drain, near in rounds)
        print(f"    {title:<64}{ratio:>6.2f}x")
    print("its parts, ns a context")
    near, drain = "near nameless", "drain"
    whole = part(keeping, plus=("snapshot all",))
    for title, value in (
        ("snapshot of all columns, memory kept", whole),
        ("    drain", part(keeping, plus=(drain,))),
        ("    decoding all but names, near", part(keeping, plus=(near,))),
        ("    the page was just filled, and is not near", part(keeping, plus=("filled nameless",), minus=(near,))),
        ("    the batch is far", part(keeping, plus=("near, far nameless",), minus=(near,))),
        (
            "    the engine is slower around decoding",
            part(keeping, plus=("engine around filled nameless",), minus=(drain,)),
        ),
        ("    names, in one table for all", part(keeping, plus=("snapshot all",), minus=("snapshot nameless",))),
        ("for comparison: names, in a table a page, near", part(keeping, plus=("near all",), minus=(near,))),
        ("names, in one table for all, near", part(keeping, plus=("near, far all",), minus=("near, far nameless",))),
        ("first touch of fresh memory", part(fresh, plus=("snapshot all",)) - whole),
        ("pages() beyond a snapshot, one thread", part(keeping, plus=("by 1024 pages",), minus=("snapshot all",))),
    ):
        print(f"    {title:<64}{value:>6.0f}")


def main(arguments: Iterable[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", type=int, metavar="SIZE", help="contexts in the engine")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median counts")
    parser.add_argument("--only", action="append", metavar="NAME", help="part of the name of what is to be measured")
    parser.add_argument("--json", action="store_true", help="one size, exactly those names, as JSON")
    options = parser.parse_args(arguments)
    for size in options.sizes or SIZES:
        if options.json:
            print(json.dumps(measured(size, options.rounds, options.only, True)))
        elif options.only:
            print_table(size, "the allocator as it is", measured(size, options.rounds, options.only, False))
        else:
            fresh: Figures = {}
            for name in FRESH:
                fresh |= elsewhere(size, options.rounds, [name], GIVING_BACK)
            with Bench(64) as bench:
                names = tuple(bench.measures())
            keeping = elsewhere(size, options.rounds, names, KEEPING)
            print_table(size, "memory kept", keeping)
            print_table(size, "memory given back", fresh)
            print_parts(keeping, fresh)


if __name__ == "__main__":
    main()
