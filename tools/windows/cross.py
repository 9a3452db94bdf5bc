"""The compiling half of build.py, run where the compiler, Cython and setuptools are.

cross.py launcher PYTHON        python.exe and the DLL that Wine lacks, into that CPython
cross.py wheel PYTHON FOLDER    the wheel of the checkout in the current folder
cross.py dll PYTHON FOLDER      fwpuclnt.dll of its embedded engine
cross.py ctests PYTHON FOLDER   the programs of tests/c
cross.py walkers PYTHON FOLDER  the extensions of tests/extension, by the headers of the wheel that this CPython has
cross.py arm64 PYTHON FOLDER    the C half as a DLL for ARM64

The compiler is zig, from the package registry: it links the UCRT, as CPython does (Debian's mingw links the older
msvcrt.dll, and two C runtimes in a process share neither errno nor heap), targets ARM64 too, and is pinned by hash.
"""

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pefile
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
SUFFIX = ".cp311-win_amd64.pyd"
TAG = "win_amd64"
TARGET = "x86_64-windows-gnu"


def zig(*arguments: str | Path) -> None:
    """Runs zig; its complaints end this."""
    command = [sys.executable, "-m", "ziglang", *(str(argument) for argument in arguments)]
    if status := subprocess.run(command, check=False).returncode:
        sys.exit(f"zig {arguments[0]} failed with {status}")


def compiler_flags(target: str = TARGET) -> list[str]:
    """Options that are the cross-build's own: an optimised, stripped build that names no folder of this machine."""
    here = Path.cwd()
    # zig names a minimum Windows by itself; the extension's own macros say which one is wanted
    undefined = ("-U_WIN32_WINNT", "-UNTDDI_VERSION")
    return ["-target", target, *undefined, "-O2", "-g0", "-DNDEBUG", "-s", f"-ffile-prefix-map={here}=."]


def extension_flags(extension: Extension) -> list[str]:
    """Options that setup.py has for this extension."""
    return [
        *extension.extra_compile_args,
        *(f"-D{name}" if value is None else f"-D{name}={value}" for name, value in extension.define_macros),
        *(f"-I{folder}" for folder in extension.include_dirs),
    ]


def the_extension() -> Extension:
    """What setup.py builds on Windows with a compiler that takes GCC's options."""
    return runpy.run_path("setup.py")["extension"](windows=True, msvc=False)


def import_library(dll: Path, folder: Path) -> Path:
    """An import library for all that a DLL exports."""
    image = pefile.PE(str(dll), fast_load=True)
    image.parse_data_directories([pefile.DIRECTORY_ENTRY["IMAGE_DIRECTORY_ENTRY_EXPORT"]])
    names = sorted(symbol.name.decode() for symbol in image.DIRECTORY_ENTRY_EXPORT.symbols if symbol.name)
    definition = folder / f"{dll.stem}.def"
    definition.write_text("\n".join([f"LIBRARY {dll.name}", "EXPORTS", *names, ""]))
    library = folder / f"lib{dll.stem}.a"
    zig("dlltool", "-m", "i386:x86-64", "-d", definition, "-l", library)
    return library


def link(wanted: Path, *arguments: str | Path) -> None:
    """Links a DLL; the import library that comes with it stays in the current folder."""
    linked = Path.cwd() / "linked" / wanted.name
    linked.parent.mkdir(exist_ok=True)
    zig("cc", "-shared", *arguments, "-o", linked)
    wanted.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(linked, wanted)


class CrossBuild(build_ext):
    """setuptools' build_ext with zig for compiler and Windows for target."""

    windows_python: Path

    def get_ext_filename(self, name: str) -> str:
        """The name under which CPython for Windows imports it."""
        return str(Path(*name.split("."))) + SUFFIX

    def get_libraries(self, ext: Extension) -> list[str]:
        """What setup.py says."""
        return list(ext.libraries)

    def build_extension(self, ext: Extension) -> None:
        """Cython, then one call of the compiler."""
        from Cython.Build import cythonize

        (translated,) = cythonize([ext], quiet=True)
        include = f"-I{self.windows_python / 'include'}"
        libraries = [f"-l{name}" for name in self.get_libraries(ext)]
        python = import_library(self.windows_python / "python311.dll", Path.cwd())
        flags = [*compiler_flags(), *extension_flags(ext), include]
        link(Path(self.get_ext_fullpath(ext.name)), *flags, *translated.sources, python, *libraries)


def wheel(python: Path, folder: Path) -> None:
    """The wheel, as setuptools makes it from pyproject.toml."""
    CrossBuild.windows_python = python
    arguments = ["--quiet", "bdist_wheel", "--plat-name", TAG, "--dist-dir", str(folder)]
    setup(ext_modules=[the_extension()], cmdclass={"build_ext": CrossBuild}, script_args=arguments)


def exports() -> list[str]:
    """What the DLL exports: the functions of the table, and the control surface."""
    table = re.findall(r"^    X\(\w+, (\w+)\)", Path("include/wfpsa/backend.h").read_text(), re.MULTILINE)
    controls = re.findall(r"\b(wfpsa_\w+)\(", Path("include/wfpsa/embedded.h").read_text())
    return [*table, *controls, "wfpsa_dll_default_store"]


def dll(python: Path, folder: Path) -> None:
    """fwpuclnt.dll: the embedded engine under the OS's names."""
    extension = the_extension()
    # the table of the OS's functions is here that of the DLL's own
    others = ("/memory.c", "/backend.c", "/noop.c", "/windows.c")
    sources = [source for source in extension.sources if "/embedded/" in source or source.endswith(others)]
    definition = Path("fwpuclnt.def")
    definition.write_text("\n".join(["LIBRARY fwpuclnt.dll", "EXPORTS", *exports(), ""]))
    flags = [*compiler_flags(), *extension_flags(extension)]
    link(folder / "fwpuclnt.dll", *flags, HERE / "fwpuclnt.c", *sources, definition)


def c_half(extension: Extension) -> list[str]:
    """The files of libwfpsa."""
    return [source for source in extension.sources if source.endswith(".c")]


def ctests(python: Path, folder: Path) -> None:
    """Each program of tests/c with the whole of libwfpsa, as run.py of that folder builds them."""
    extension = the_extension()
    flags = [*compiler_flags(), "-UNDEBUG", *extension_flags(extension)]
    objects = []
    for source in c_half(extension):
        objects.append(Path.cwd() / f"{Path(source).stem}-{len(objects)}.o")
        zig("cc", *flags, "-c", source, "-o", objects[-1])
    libraries = [f"-l{name}" for name in (*extension.libraries, "rpcrt4")]
    for program in sorted(Path("tests/c").glob("test_*.c")):
        zig("cc", *flags, program, *objects, *libraries, "-o", folder / f"{program.stem}.exe")


def walkers(python: Path, folder: Path) -> None:
    """Other people's extensions, as they would build them beside an installed wfpsa."""
    from Cython.Build import cythonize

    packages = python / "Lib/site-packages"
    walker = Extension("walker", ["walker.pyx"])
    (translated,) = cythonize([walker], quiet=True, include_path=[str(packages)])
    headers = f"-I{packages / 'wfpsa/include'}"
    library = import_library(python / "python311.dll", Path.cwd())
    for name, source in (("walker", translated.sources[0]), ("walker_c", "walker_c.c")):
        flags = (*compiler_flags(), headers, f"-I{python / 'include'}")
        link(folder / f"{name}{SUFFIX}", *flags, source, library)


def arm64(python: Path, folder: Path) -> None:
    """The C half for ARM64, its layout asserts included, linked against that platform's fwpuclnt."""
    extension = the_extension()
    libraries = [f"-l{name}" for name in extension.libraries]
    flags = [*compiler_flags("aarch64-windows-gnu"), *extension_flags(extension)]
    link(folder / "wfpsa.dll", *flags, *c_half(extension), *libraries)


def launcher(python: Path) -> None:
    """python.exe around python311.dll, and bcryptprimitives.dll."""
    os.chdir(python)
    library = import_library(python / "python311.dll", python)
    zig("cc", *compiler_flags(), "-municode", "-Iinclude", HERE / "python.c", library, "-o", "python.exe")
    prng = HERE / "bcryptprimitives.c"
    zig("cc", *compiler_flags(), "-shared", prng, "-ladvapi32", "-o", "bcryptprimitives.dll")


def main() -> None:
    """The command line."""
    what, python, *rest = sys.argv[1:]
    {"launcher": launcher, "wheel": wheel, "dll": dll, "ctests": ctests, "arm64": arm64, "walkers": walkers}[what](
        Path(python), *map(Path, rest)
    )


if __name__ == "__main__":
    main()
