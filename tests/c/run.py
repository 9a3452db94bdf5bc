"""Builds libwfpsa alone and runs the C tests over it, under sanitizers where the compiler has them.

python tests/c/run.py [--cc gcc] [--sanitize address,undefined|thread|none] [test_columns ...]

Without --sanitize every program runs under address and undefined, and those with threads under thread as well. Where
neither that nor a program is named, each file of libwfpsa is also compiled with poison.h, which forbids what MSVC's C11
lacks; that header proves itself on snippets that must not compile. The last line has the totals.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path("tests/c")
WINDOWS = sys.platform == "win32"
FLAGS = ["-std=c11", "-pedantic", "-Wall", "-Wextra", "-Werror", "-g", "-O1", "-Iinclude", "-Isrc"]
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wvla", "-pedantic-errors", "-Iinclude", "-fsyntax-only"]
FLAGS_WINDOWS = ["-D_WIN32_WINNT=0x0602", "-DNTDDI_VERSION=0x06020000"]
LIBRARIES_WINDOWS = ["-lfwpuclnt", "-lrpcrt4"]
# A request for more memory than there is returns NULL, as everywhere else, instead of ending the program.
OPTIONS = "allocator_may_return_null=1"
SECONDS_MAX = 300
CLOSING_LINE = re.compile(r"^(\d+) passed, (\d+) failed$", re.MULTILINE)

# What poison.h and the flags beside it must refuse, and what the refusal speaks of.
REFUSED = {
    "a 128-bit integer": ("unsigned __int128 wide;", "poisoned"),
    "an atomic type": ("_Atomic int shared;", "poisoned"),
    "<stdatomic.h>": ("#include <stdatomic.h>\natomic_int shared;", "poisoned"),
    "an atomic function": ("int f(int *p) { return atomic_load(p); }", "poisoned"),
    "<threads.h>": ("int f(void *p) { return mtx_lock(p); }", "poisoned"),
    "a __sync builtin": ("int f(int *p) { return __sync_fetch_and_add(p, 1); }", "poisoned"),
    "a thread-local variable": ("_Thread_local int own;", "poisoned"),
    "an attribute": ("__attribute__((noreturn)) void f(void);", "poisoned"),
    "__extension__": ("int f(void) { return __extension__ 1; }", "poisoned"),
    "typeof": ("int a; __typeof__(a) b;", "poisoned"),
    "__auto_type": ("void f(void) { __auto_type a = 1; (void)a; }", "poisoned"),
    "inline assembly": ('void f(void) { __asm__("nop"); }', "poisoned"),
    "a branch hint": ("int f(int a) { return __builtin_expect(a, 1); }", "poisoned"),
    "checked arithmetic": ("int f(int a, int *b) { return __builtin_mul_overflow(a, a, b); }", "poisoned"),
    "counting zeros": ("int f(unsigned a) { return __builtin_clz(a); }", "poisoned"),
    "swapping bytes": ("unsigned f(unsigned a) { return __builtin_bswap32(a); }", "poisoned"),
    "unreachable": ("void f(void) { __builtin_unreachable(); }", "poisoned"),
    "aligned_alloc": ("void *f(void) { return aligned_alloc(64, 64); }", "poisoned"),
    "posix_memalign": ("int f(void **p) { return posix_memalign(p, 64, 64); }", "poisoned"),
    "alloca": ("void *f(void) { return alloca(8); }", "poisoned"),
    "strdup": ("char *f(const char *s) { return strdup(s); }", "poisoned"),
    "strcasecmp": ("int f(const char *s) { return strcasecmp(s, s); }", "poisoned"),
    "ssize_t": ("ssize_t size;", "poisoned"),
    "an empty initialiser": ("struct s { int a; }; struct s s = {};", "empty"),
    "a zero-size array": ("struct s { int a; int b[0]; };", "zero"),
    "a statement expression": ("int f(int a) { return ({ a + 1; }); }", "statement|braced-group"),
    "an array of variable length": ("int f(int n) { int a[n]; a[0] = n; return a[0]; }", "variable|vla"),
    "a conditional without its middle": ("int f(int a) { return a ?: 1; }", "middle|conditional"),
    "a range of cases": ("int f(int a) { switch (a) { case 1 ... 3: return 1; default: return 0; } }", "range"),
}
ACCEPTED = """
#include <stddef.h>
struct s { int first; union { int a; float b; }; uint64_t cells[4]; };
_Static_assert(offsetof(struct s, a) == sizeof(int), "C11 as it is");
static inline int f(volatile int64_t *p) { struct s s = {.first = 1}; return s.a == 0 && p; }
int g(void) { char *text = malloc(8); int ok = text && f(NULL); free(text); return ok; }
"""


def sources() -> list[Path]:
    """The files of libwfpsa that this platform compiles, relative to the root."""
    found = [path.relative_to(ROOT) for path in sorted(ROOT.glob("src/libwfpsa/**/*.c"))]
    return [path for path in found if WINDOWS or path.name != "windows.c"]


def call(command: Sequence[str], *, text: str | None = None) -> tuple[int, str]:
    """Exit code, and what was printed."""
    environment = dict(os.environ)
    for name in ("ASAN_OPTIONS", "TSAN_OPTIONS"):
        environment[name] = f"{OPTIONS}:{environment.get(name, '')}"
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            input=text,
            text=True,
            errors="replace",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS_MAX,
        )
    except subprocess.TimeoutExpired as expired:
        return 1, f"{expired.stdout or ''}\nno end after {SECONDS_MAX} s: {' '.join(command)}"
    return done.returncode, done.stdout


class Totals:
    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0

    def add(self, title: str, passed: int, failed: int, note: str, output: str = "") -> None:
        self.passed += passed
        self.failed += failed
        if failed and output.strip():
            print(output.strip())
        print(f"{title}: {passed} passed, {failed} failed ({note})", flush=True)


def build_and_run(cc: str, sanitize: str, programs: Sequence[str], folder: Path, totals: Totals) -> None:
    """One build of libwfpsa, and the programs over it."""
    flags = [*FLAGS, *(FLAGS_WINDOWS if WINDOWS else ["-pthread"])]
    if sanitize != "none":
        flags += [f"-fsanitize={sanitize}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
    folder.mkdir()

    def compiled(source: Path) -> tuple[Path, int, str]:
        target = folder / f"{source.stem}.o"
        return target, *call([cc, *flags, "-c", str(source), "-o", str(target)])

    def ran(program: str) -> tuple[str, int, str, float]:
        target = folder / f"{program}.exe"
        libraries = LIBRARIES_WINDOWS if WINDOWS else []
        objects = [str(built) for built, _, _ in library]
        code, output = call([cc, *flags, str(HERE / f"{program}.c"), *objects, *libraries, "-o", str(target)])
        start = time.monotonic()
        if code == 0:
            code, output = call([str(target)])
        return program, code, output, time.monotonic() - start

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        library = list(pool.map(compiled, sources()))
        broken = "\n".join(output for _, code, output in library if code != 0)
        if broken:
            totals.add(f"libwfpsa [{sanitize}]", 0, 1, "does not compile", broken)
            return
        for program, code, output, seconds in pool.map(ran, programs):
            closing = CLOSING_LINE.search(output)
            passed, failed = (int(closing[1]), int(closing[2])) if closing else (0, 0)
            if code != 0 and failed == 0:  # it crashed, or a sanitizer spoke at its end
                failed = 1
            totals.add(f"{program} [{sanitize}]", passed, failed, f"{seconds:.1f} s", output)


def check_portability(cc: str, totals: Totals) -> None:
    """What MSVC would not compile is not in libwfpsa, and would be noticed."""
    command = [cc, *STRICT, *(FLAGS_WINDOWS if WINDOWS else []), "-include", str(HERE / "poison.h")]
    if "clang" in call([cc, "--version"])[1]:
        command.append("-Wgnu")
    start = time.monotonic()

    def accepts(source: Path) -> str:
        code, output = call([*command, str(source)])
        return "" if code == 0 else f"{source} is not portable:\n{output}"

    def refuses(snippet: tuple[str, tuple[str, str]]) -> str:
        what, (text, reason) = snippet
        code, output = call([*command, "-x", "c", "-"], text=text + "\n")
        if code != 0 and re.search(reason, output):
            return ""
        return f"{what} is not noticed, or for another reason:\n{output}"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = [*pool.map(accepts, sources()), *pool.map(refuses, REFUSED.items())]
    code, output = call([*command, "-x", "c", "-"], text=ACCEPTED)
    problems.append("" if code == 0 else f"plain C11 is refused:\n{output}")
    bad = [problem for problem in problems if problem]
    seconds = time.monotonic() - start
    totals.add(f"poison.h [{cc}]", len(problems) - len(bad), len(bad), f"{seconds:.1f} s", "\n".join(bad))


def main() -> int:
    everything = sorted(path.stem for path in (ROOT / HERE).glob("test_*.c"))
    threaded = [name for name in everything if '"threads.h"' in (ROOT / HERE / f"{name}.c").read_text("utf-8")]
    parser = argparse.ArgumentParser(description="Builds and runs the C tests.")
    parser.add_argument("--cc", default="gcc" if shutil.which("gcc") else "cc")
    parser.add_argument("--sanitize", help="address,undefined or thread or none; default: all but thread, then thread")
    parser.add_argument("programs", nargs="*", metavar="program", help=f"of {', '.join(everything)}")
    options = parser.parse_args()
    wanted = options.programs or everything
    if unknown := set(wanted) - set(everything):
        parser.error(f"no such program: {', '.join(sorted(unknown))}")

    if options.sanitize:
        passes = [(options.sanitize, wanted)]
    elif WINDOWS:
        passes = [("none", wanted)]
    else:
        passes = [("address,undefined", wanted), ("thread", [name for name in wanted if name in threaded])]
    totals = Totals()
    with tempfile.TemporaryDirectory(prefix="wfpsa-c-") as folder:
        for sanitize, programs in passes:
            if programs:
                build_and_run(options.cc, sanitize, programs, Path(folder) / sanitize.replace(",", "-"), totals)
    if not options.programs and not options.sanitize:
        check_portability("clang" if shutil.which("clang") else options.cc, totals)
    print(f"{totals.passed} passed, {totals.failed} failed")
    return totals.failed != 0


if __name__ == "__main__":
    sys.exit(main())
