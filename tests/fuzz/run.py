"""Builds the fuzz targets over libwfpsa and runs each for a while, from the seeds in the repository.

python tests/fuzz/run.py [--seconds 60] [--cc clang] [--minimize] [target ...]
python tests/fuzz/run.py --input FILE target

Needs clang and its libFuzzer. Two targets run at a time, each in one process, under address and undefined. Only
libwfpsa is instrumented for coverage: `cov` counts its edges, `ft` its edges by how often they were taken. What ends
a target is kept in build/fuzz and printed; `--input` runs such a file alone. `--minimize` replaces the seeds by a small
part of what the run found that takes the same edges. A line for each target; the last line has the totals.
"""

import argparse
import base64
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
HERE = Path("tests/fuzz")
SEEDS = HERE / "seeds"
KEPT = ROOT / "build" / "fuzz"
AT_A_TIME = 2
BYTES_MAX = 2048  # of an input
LIMITS = [f"-max_len={BYTES_MAX}", "-rss_limit_mb=1024", "-timeout=20"]
# The same seed for every run; inputs soon reach their full size; quick ones are preferred.
COURSE = ["-seed=1", "-len_control=5", "-entropic_scale_per_exec_time=1", "-print_final_stats=1"]
# A small quarantine keeps what is touched in the cache: some 256 MB of freed blocks would not be.
OPTIONS = "allocator_may_return_null=1:quarantine_size_mb=16:malloc_context_size=12"
SANITIZERS = "address,undefined"
# Edges, but not what is compared with what: the values that libwfpsa knows are in the targets' own tables, and watching
# each comparison takes as long as the rest.
COVERED = [f"-fsanitize=fuzzer-no-link,{SANITIZERS}", "-fno-sanitize-coverage=trace-cmp"]
GRACE = 120  # seconds, to load the seeds and to end
FIGURES = [
    re.compile(rf"^stat::{name}: +(\d+)$", re.MULTILINE)
    for name in ("number_of_executed_units", "average_exec_per_sec")
]
COVERAGE = re.compile(r"cov: (\d+) ft: (\d+)")
ARTIFACT = re.compile(r"Test unit written to (\S+)")


def c_tests() -> ModuleType:
    """tests/c/run.py, which knows the sources of libwfpsa and the warnings they are built with."""
    spec = importlib.util.spec_from_file_location("c_tests", ROOT / "tests" / "c" / "run.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(command: Sequence[str], seconds: float | None = None) -> tuple[int, str]:
    """Exit code, and what was printed."""
    environment = {**os.environ, "ASAN_OPTIONS": f"{OPTIONS}:{os.environ.get('ASAN_OPTIONS', '')}"}
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            text=True,
            errors="replace",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return 1, f"no end after {seconds} s: {' '.join(command)}"
    return done.returncode, done.stdout


def build(cc: str, targets: Sequence[str], folder: Path) -> dict[str, Path]:
    """The program of each target; ends this one where something does not compile."""
    tests = c_tests()
    flags = [*tests.FLAGS, "-pthread", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]

    def compiled(source: Path, options: Sequence[str]) -> str:
        built = folder / f"{source.parent.name}-{source.stem}.o"
        code, output = call([cc, *flags, *options, "-c", str(source), "-o", str(built)])
        if code != 0:
            sys.exit(output)
        return str(built)

    def linked(target: str) -> tuple[str, Path]:
        own = compiled(HERE / f"{target}.c", [f"-fsanitize={SANITIZERS}"])
        program = folder / target
        code, output = call([cc, *flags, f"-fsanitize=fuzzer,{SANITIZERS}", own, *library, "-o", str(program)])
        if code != 0:
            sys.exit(output)
        return target, program

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        library = list(pool.map(lambda source: compiled(source, COVERED), tests.sources()))
        return dict(pool.map(linked, targets))


def report_crash(target: str, output: str) -> None:
    """What a sanitizer or a demand said, and the input that made it say so."""
    lines = output.splitlines()
    while lines and lines[0].startswith(("#", "INFO:", "\tNEW_FUNC", "Running:")):
        del lines[0]
    print("\n".join(line for line in lines if not line.startswith(("#", "\tNEW_FUNC"))))
    if found := ARTIFACT.search(output):
        content = Path(found[1]).read_bytes()
        print(f"{target}: the input is {found[1]}; base64: {base64.b64encode(content).decode()}")


def fuzz(target: str, program: Path, corpus: Path, seconds: int) -> tuple[bool, str]:
    """Whether the target came to the end of its time, and the line about it."""
    KEPT.mkdir(parents=True, exist_ok=True)
    command = [str(program), *LIMITS, *COURSE, f"-max_total_time={seconds}", f"-artifact_prefix={KEPT}/{target}-"]
    seeds = ROOT / SEEDS / target
    code, output = call([*command, str(corpus), *([str(seeds)] if seeds.is_dir() else [])], seconds + GRACE)
    executions, per_second = [found[1] if (found := pattern.search(output)) else "?" for pattern in FIGURES]
    passed = code == 0 and executions != "?"
    if not passed:
        report_crash(target, output)
    cov, ft = (COVERAGE.findall(output) or [("?", "?")])[-1]
    line = f"{target}: {executions} executions, {per_second} a second, cov {cov}, ft {ft}, "
    line += f"from {len(list(seeds.glob('*')))} seeds: {'passed' if passed else 'FAILED'}"
    return passed, line


def new_in_each(program: Path, files: Sequence[Path], listed: Path) -> list[Path]:
    """Those files that take an edge that none before them took.

    This is the inner pass of `-merge=1`, over a list in our order: a number of files, where to begin, their names; it
    appends a line "FT INDEX FEATURE..." with what is new in each.
    """
    listed.write_text("\n".join([str(len(files)), "0", *map(str, files)]) + "\n", encoding="utf-8")
    options = ["-merge_inner=1", f"-merge_control_file={listed}", "-use_counters=0"]
    code, output = call([str(program), *LIMITS, *options])
    found = re.findall(r"^FT (\d+) \d", listed.read_text(encoding="utf-8"), re.MULTILINE)
    if code != 0 or not found:
        sys.exit(output)
    return [files[int(index)] for index in found]


def minimize(target: str, program: Path, corpus: Path) -> None:
    """New seeds: small inputs that together take all edges, without those that a larger one of them makes needless."""
    seeds = ROOT / SEEDS / target
    by_size = sorted([*seeds.glob("*"), *corpus.iterdir()], key=lambda path: (path.stat().st_size, path.name))
    small = new_in_each(program, by_size, corpus.with_suffix(".merge"))
    few = new_in_each(program, small[::-1], corpus.with_suffix(".merge"))
    kept = {path.name: path.read_bytes() for path in few}
    shutil.rmtree(seeds, ignore_errors=True)
    seeds.mkdir(parents=True)
    for name, content in kept.items():
        (seeds / name).write_bytes(content)
    print(f"{target}: {len(kept)} seeds of {sum(map(len, kept.values()))} bytes")


def main() -> int:
    everything = sorted(path.stem for path in (ROOT / HERE).glob("*.c"))
    parser = argparse.ArgumentParser(description="Builds and runs the fuzz targets.")
    parser.add_argument("--cc", default="clang", help="a clang with libFuzzer")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--minimize", action="store_true", help="replace the seeds by what the run found")
    parser.add_argument("--input", type=Path, help="run this one file, for example one that a run has kept")
    parser.add_argument("targets", nargs="*", metavar="target", help=f"of {', '.join(everything)}")
    options = parser.parse_args()
    wanted = options.targets or everything
    if unknown := set(wanted) - set(everything):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if options.input and len(options.targets) != 1:
        parser.error("--input needs one target")

    with tempfile.TemporaryDirectory(prefix="wfpsa-fuzz-") as name:
        folder = Path(name)
        programs = build(options.cc, wanted, folder)
        if options.input:
            code, output = call([str(programs[wanted[0]]), *LIMITS, str(options.input.resolve())], GRACE)
            print(output)
            return code != 0

        def ran(target: str) -> tuple[bool, str]:
            (folder / f"corpus-{target}").mkdir()
            return fuzz(target, programs[target], folder / f"corpus-{target}", options.seconds)

        with ThreadPoolExecutor(AT_A_TIME) as pool:
            results = list(pool.map(ran, wanted))
        for _, line in results:
            print(line)
        failed = sum(not passed for passed, _ in results)
        if options.minimize and not failed:
            for target in wanted:
                minimize(target, programs[target], folder / f"corpus-{target}")
    print(f"{len(results) - failed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
