"""Runs the project's tests under Wine, on the wheel that build.py makes.

python tools/windows/run.py                  all of it
python tools/windows/run.py windows -k name  one part, with arguments for pytest

The parts: embedded (the engine inside the extension), windows (the extension's import table over the fwpuclnt.dll of
the embedded engine), foreign (Wine's own fwpuclnt.dll, and none at all), benchmark (bench_enumerate at 100,000).
"""

import sys
import time

from build import ROOT, Built, Missing, build, wine_run

LIST = "tests/windows/left-out.txt"


def pytest(built: Built, *arguments: str, **variables: str) -> int:
    """pytest of the Windows Python over the checkout."""
    command = (built.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)
    return wine_run(built.cache, *command, cwd=ROOT, **variables)


def embedded(built: Built, rest: list[str]) -> bool:
    """The suite, `embedded:` as it is."""
    return pytest(built, *(rest or ["--left-out", LIST])) == 0


def windows(built: Built, rest: list[str]) -> bool:
    """The suite, with `windows:` over our DLL wherever a test opens `embedded:`."""
    return pytest(built, "--backend", "windows", *(rest or ["--left-out", LIST])) == 0


def foreign(built: Built, rest: list[str]) -> bool:
    """Wine's own fwpuclnt.dll; then without any."""
    passed = pytest(built, "tests/windows/foreign.py", *rest, WINEDLLOVERRIDES=overrides("b")) == 0
    program = (
        "try: import wfpsa\n"
        "except ImportError as error: print(error); raise SystemExit(0 if 'fwpuclnt.dll' in str(error) else 1)\n"
        "raise SystemExit('imported without fwpuclnt.dll')"
    )
    return wine_run(built.cache, built.python, "-c", program, WINEDLLOVERRIDES=overrides("")) == 0 and passed


def overrides(fwpuclnt: str) -> str:
    """Which fwpuclnt.dll Wine loads: "b" its own, "" none."""
    return f"fwpuclnt={fwpuclnt};bcryptprimitives=n;winemenubuilder="


def benchmark(built: Built, rest: list[str]) -> bool:
    """bench_enumerate at 100,000 contexts beside ctypes on the same Python."""
    chosen = rest or ["-k", "100000 and not 1000000"]
    return pytest(built, "benchmarks/bench_enumerate.py", "--benchmark-disable-gc", *chosen) == 0


PARTS = {"embedded": embedded, "windows": windows, "foreign": foreign, "benchmark": benchmark}


def main() -> int:
    """The command line."""
    names = list(PARTS)
    rest: list[str] = []
    if len(sys.argv) > 1:
        if sys.argv[1] not in PARTS:
            print(__doc__)
            return 2
        names, rest = [sys.argv[1]], sys.argv[2:]
    built = build()
    failed = []
    for name in names:
        start = time.monotonic()
        print(f"---- under Wine: {name}", flush=True)
        passed = PARTS[name](built, rest)
        print(f"---- {name} {'passed' if passed else 'FAILED'} in {time.monotonic() - start:.0f} s", flush=True)
        failed += [] if passed else [name]
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Missing, OSError) as error:
        sys.exit(f"run.py: {error}")
