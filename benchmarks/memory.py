"""Peak memory of listing contexts as a whole and by pages; run as a script: `python benchmarks/memory.py [SIZE ...]`.

Each figure comes from a process of its own: what the largest resident size grew by after the engine was filled.
"""

import os
import sys

SIZES = (10_000, 100_000, 1_000_000)


def peak_bytes() -> int:
    """The largest resident size of this process so far."""
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def measured(size: int, way: str) -> tuple[int, int]:
    """Growth of the peak, and the bytes of the batch's arrays (of one page, by pages)."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        from wfpsa import open_engine

        engine = open_engine(f"embedded:?contexts={size}&seed=7")
        before = peak_bytes()
        held = 0
        if way == "snapshot":
            held = engine.snapshot().nbytes
        else:
            for page in engine.pages(page_size=4096):
                held = max(held, page.nbytes)
        os.write(write_end, f"{peak_bytes() - before} {held}".encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as answer:
        growth, held = answer.read().split()
    os.waitpid(child, 0)
    return int(growth), int(held)


def main(sizes: tuple[int, ...]) -> None:
    """Prints a line a size and way."""
    print(f"{'contexts':>10} {'way':>10} {'peak growth, MB':>16} {'arrays, MB':>12} {'bytes a context':>16}")
    for size in sizes:
        for way in ("snapshot", "pages"):
            growth, held = measured(size, way)
            each = f"{held / size:.1f}" if way == "snapshot" else "-"
            print(f"{size:>10} {way:>10} {growth / 1e6:>16.1f} {held / 1e6:>12.1f} {each:>16}")


if __name__ == "__main__":
    main(tuple(int(size) for size in sys.argv[1:]) or SIZES)
