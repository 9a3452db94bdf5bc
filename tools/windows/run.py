"""Runs the project's tests under Wine, on the wheel that build.py makes.

python tools/windows/run.py                  all of it
python tools/windows/run.py windows -k name  one part, with arguments for pytest

The parts: checks (the binary and its layouts, in check.py), embedded (the suite on the engine inside the extension),
windows (the suite on the extension's import table, over the fwpuclnt.dll of the embedded engine), c (the programs of
tests/c), foreign (Wine's own fwpuclnt.dll, and none at all), benchmark (`wfpsa bench`).
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from build import HERE, ROOT, Built, Missing, build, copy_sources, cross, windows_path, wine_run

CLOSING = r"^\d+ passed, 0 failed"
LIST = "tests/windows/left-out.txt"


def pytest(built: Built, *arguments: str, **variables: str) -> int:
    """pytest of the Windows Python over the checkout."""
    command = (built.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)
    walkers = windows_path(built.walkers)
    return wine_run(built.cache, *command, cwd=ROOT, closing=r"^\d+ passed", WFPSA_WALKERS=walkers, **variables)


def embedded(built: Built, rest: list[str]) -> bool:
    """The suite, `embedded:` as it is."""
    return pytest(built, *(rest or ["--left-out", LIST])) == 0


def windows(built: Built, rest: list[str]) -> bool:
    """The suite, with `windows:` over our DLL wherever a test opens `embedded:`."""
    return pytest(built, "--backend", "windows", *(rest or ["--left-out", LIST])) == 0


def c(built: Built, rest: list[str]) -> bool:
    """Each program of tests/c, with the DLL of the embedded engine beside it."""
    with tempfile.TemporaryDirectory(dir=built.cache) as temporary:
        folder = Path(temporary)
        copy_sources(folder)
        shutil.copytree(ROOT / "tests/c", folder / "tests/c")
        programs = folder / "programs"
        programs.mkdir()
        cross(built.host, built.cache, "ctests", built.python.parent, programs, cwd=folder)
        shutil.copy(built.dll, programs)
        failed = [
            program.stem
            for program in sorted(programs.glob("*.exe"))
            if wine_run(built.cache, program, closing=CLOSING)
        ]
        wanted = len(list((ROOT / "tests/c").glob("test_*.c")))
        ran = len(list(programs.glob("*.exe")))
    print(f"{ran - len(failed)} programs passed, {len(failed)} failed {' '.join(failed)}")
    return not failed and ran == wanted > 0


def checks(built: Built, rest: list[str]) -> bool:
    """The binary's own properties, and the layouts of other Windows targets."""
    with tempfile.TemporaryDirectory(dir=built.cache) as temporary:
        folder = Path(temporary)
        copy_sources(folder)
        shutil.copytree(ROOT / "tests/data", folder / "tests/data")
        cross(built.host, built.cache, "arm64", built.python.parent, folder / "arm64", cwd=folder)
        print("ARM64: the C half compiles, its layout asserts hold, and it links against fwpuclnt")
        command = [built.host, HERE / "check.py", built.wheel, built.dll, folder / "arm64/wfpsa.dll", built.cache]
        return subprocess.run(command, cwd=folder, check=False).returncode == 0


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
    """`wfpsa bench`: what decoding, listing and expiring cost, beside ctypes and win32more on the same Python."""
    chosen = rest or [word for row in ("decode", "list", "expire, no-op") for word in ("--row", row)]
    command = (built.python, "-m", "wfpsa", "bench", *chosen)
    return wine_run(built.cache, *command, cwd=ROOT, closing=r"^expire, no-op engine") == 0


PARTS = {
    "checks": checks,
    "embedded": embedded,
    "windows": windows,
    "c": c,
    "foreign": foreign,
    "benchmark": benchmark,
}


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
