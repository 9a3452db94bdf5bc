"""The one extension module, and what differs on Windows."""

import sys
import sysconfig
from glob import glob

from setuptools import Extension, setup


def extension(windows: bool, msvc: bool) -> Extension:
    """The extension for that platform and kind of compiler; without `msvc` one that takes GCC's options."""
    sources = sorted(path for path in glob("src/libwfpsa/**/*.c", recursive=True) if not path.endswith("windows.c"))
    macros = []
    libraries = []
    flags = ["-std=c11", "-fvisibility=hidden"]
    if windows:
        sources.append("src/libwfpsa/windows.c")
        libraries.append("fwpuclnt")
        macros += [("_WIN32_WINNT", "0x0602"), ("NTDDI_VERSION", "0x06020000")]  # Windows 8: the Subscribe family
    if msvc:
        flags = ["/std:c11", "/utf-8"]
    return Extension(
        "wfpsa._native",
        ["src/wfpsa/_native.pyx", *sources],
        include_dirs=["include", "src"],
        depends=[
            *glob("include/wfpsa/*.h"),
            *glob("src/libwfpsa/**/*.h", recursive=True),
            *glob("src/wfpsa/*.px[di]"),
        ],
        define_macros=macros,
        libraries=libraries,
        extra_compile_args=flags,
    )


if __name__ == "__main__":  # tools/windows/cross.py takes the extension from here and calls setup() itself
    # Built by MSVC, and to be extended by it, where the platform is "win..."; else it is "mingw..."
    setup(ext_modules=[extension(sys.platform == "win32", sysconfig.get_platform().startswith("win"))])
