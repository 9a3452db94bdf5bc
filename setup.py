"""The one extension module, and the flags that differ by compiler and system."""

import os
import sys
import sysconfig
from glob import glob

from setuptools import Extension, setup

sources = sorted(path for path in glob("src/libwfpsa/**/*.c", recursive=True) if not path.endswith("windows.c"))
macros = []
libraries = []
if sys.platform == "win32":
    sources.append("src/libwfpsa/windows.c")
    libraries.append("fwpuclnt")
    macros += [("_WIN32_WINNT", "0x0602"), ("NTDDI_VERSION", "0x06020000")]
    msvc = "GCC" not in sys.version and not sysconfig.get_config_var("CC")
    flags = ["/std:c11", "/utf-8"] if msvc else ["-std=c11", "-fvisibility=hidden"]
else:
    flags = ["-std=c11", "-fvisibility=hidden", "-pthread"]
if os.environ.get("WFPSA_CFLAGS"):  # for a sanitized or a debug build
    flags += os.environ["WFPSA_CFLAGS"].split()

setup(
    ext_modules=[
        Extension(
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
    ]
)
