"""Why the extension could not be loaded, and what to install; imported only when that happened."""

import re
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

_AGAIN = "python -m pip install --force-reinstall wfpsa"


def explained(error: ImportError, package: Path | None = None) -> ImportError:
    """The error to raise instead of the one that importing `wfpsa._native` gave; `package` is wfpsa's folder."""
    package = package or Path(__file__).parent
    return type(error)(f"{_reason(error, package)} [{error}]", name=error.name, path=error.path)


def _reason(error: ImportError, package: Path) -> str:
    found = sorted(path.name for path in package.glob("_native.*") if path.suffix in (".so", ".pyd"))
    usable = [name for name in found if name.removeprefix("_native") in EXTENSION_SUFFIXES]
    running = f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]} on {sys.platform}"
    if found and not usable:
        return (
            f"this installation of wfpsa is for another Python: it has {', '.join(found)} and this is {running}; "
            f"install it with this one: {_AGAIN}"
        )
    if not found:
        return (
            f"this installation of wfpsa has no extension module for {running}; install it again: {_AGAIN} "
            "(in a checkout: python -m pip install .)"
        )
    return (
        windows_reason(package) or f"the extension module {usable[0]} could not be loaded; install it again: {_AGAIN}"
    )


def windows_reason(package: Path, library: str = "fwpuclnt") -> str | None:
    """What is wrong with fwpuclnt.dll, if anything is."""
    if sys.platform != "win32":
        return None
    import ctypes

    needs = "wfpsa needs Windows 8.1, Windows Server 2012 R2 or later"
    try:
        dll = ctypes.WinDLL(library)
    except OSError:
        return (
            f"fwpuclnt.dll, the client library of the Windows Filtering Platform, is missing or damaged: {needs}, "
            "where it is part of the system (sfc /scannow restores it)"
        )
    header = package / "include" / "wfpsa" / "backend.h"
    text = header.read_text(encoding="utf-8") if header.exists() else ""
    missing = [name for name in re.findall(r"^    X\(\w+, (\w+)\)", text, re.MULTILINE) if not hasattr(dll, name)]
    if missing:
        return (
            f"fwpuclnt.dll lacks {', '.join(missing)}: {needs}; a foreign file of that name beside python.exe hides "
            "the system's"
        )
    return None
