"""Peak memory of the embedded engine, and of listing contexts as a whole and by pages; a script.

`python benchmarks/memory.py [WAY ...] [SIZE ...]`; the ways are engine, snapshot and pages. Each figure comes from a
process of its own: what the largest resident size grew by, of `engine` while it was filled, of the others afterwards.
"""

import os
import sys

SIZES = (10_000, 100_000, 1_000_000)
WAYS = ("engine", "snapshot", "pages")


def peak_bytes() -> int:
    """The largest resident size of this process so far."""
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def measured(size: int, way: str) -> tuple[int, int]:
    """Growth of the peak, and the bytes of the batch's arrays (of one page, by pages; none of the engine)."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        from wfpsa import open_engine

        before = peak_bytes()
        engine = open_engine(f"embedded:?contexts={size}&seed=7")
        if way != "engine":
            before = peak_bytes()
        held = 0
        if way == "snapshot":
            held = engine.snapshot().nbytes
        elif way == "pages":
            for page in engine.pages(page_size=4096):
                held = max(held, page.nbytes)
        os.write(write_end, f"{peak_bytes() - before} {held}".encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as answer:
        growth, held = answer.read().split()
    os.waitpid(child, 0)
    return int(growth), int(held)


def main(ways: tuple[str, ...], sizes: tuple[int, ...]) -> None:
    """Prints a line a size and way."""
    print(f"{'contexts':>10} {'way':>10} {'peak growth, MB':>16} {'arrays, MB':>12} {'bytes a context':>16}")
    for size in sizes:
        for way in ways:
            growth, held = measured(size, way)
            each = "-" if way == "pages" else f"{(held if way == 'snapshot' else growth) / size:.1f}"
            print(f"{size:>10} {way:>10} {growth / 1e6:>16.1f} {held / 1e6:>12.1f} {each:>16}")


if __name__ == "__main__":
    sizes = tuple(int(word) for word in sys.argv[1:] if word.isdecimal())
    ways = tuple(word for word in sys.argv[1:] if not word.isdecimal())
    if unknown := set(ways) - set(WAYS):
        sys.exit(f"a way is {', '.join(WAYS)}, not {', '.join(sorted(unknown))}")
    main(ways or WAYS, sizes or SIZES)
