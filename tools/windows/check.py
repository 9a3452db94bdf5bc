"""What is asserted about the binaries and the layouts: check.py WHEEL DLL ARM64DLL CACHE, in a copy of the sources.

Run by run.py's part "checks" with the Python that has the reader of PE.
"""

import base64
import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pefile

WINDOWS_DLLS = {"kernel32.dll"}
DYNAMIC_BASE, NX_COMPAT, HIGH_ENTROPY = 0x40, 0x100, 0x20
I686 = "i686-w64-mingw32-gcc"


def table() -> set[str]:
    """The functions of the engine table."""
    return set(re.findall(r"^    X\(\w+, (\w+)\)", Path("include/wfpsa/backend.h").read_text(), re.MULTILINE))


def imports(image: pefile.PE) -> dict[str, set[str]]:
    """Imported names by DLL, in lower case."""
    return {
        entry.dll.decode().lower(): {symbol.name.decode() for symbol in entry.imports if symbol.name}
        for entry in image.DIRECTORY_ENTRY_IMPORT
    }


def check_wheel(path: Path) -> bytes:
    """Tags, RECORD and content of the wheel; the extension in it."""
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        (information,) = (name for name in names if name.endswith(".dist-info/WHEEL"))
        tags = re.findall(r"^Tag: (.*)$", wheel.read(information).decode(), re.MULTILINE)
        assert [tag.strip() for tag in tags] == ["cp311-cp311-win_amd64"], tags
        assert "Root-Is-Purelib: false" in wheel.read(information).decode()
        record = information.removesuffix("WHEEL") + "RECORD"
        rows = {name: (digest, size) for name, digest, size in csv.reader(wheel.read(record).decode().splitlines())}
        assert set(rows) == set(names), set(rows) ^ set(names)
        for name in set(names) - {record}:
            content = wheel.read(name)
            wanted = "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            assert rows[name] == (wanted, str(len(content))), name
        binaries = [name for name in names if name.lower().endswith((".pyd", ".dll", ".lib", ".exe", ".so", ".a"))]
        assert binaries == ["wfpsa/_native.cp311-win_amd64.pyd"], binaries
        print(f"{path.name}: tag {tags[0].strip()}, RECORD holds for {len(names)} files, one binary")
        return wheel.read(binaries[0])


def check_hardening(name: str, image: pefile.PE) -> None:
    """ASLR, its 64-bit kind included, and DEP."""
    flags = image.OPTIONAL_HEADER.DllCharacteristics
    for flag, meaning in (DYNAMIC_BASE, "DYNAMIC_BASE"), (NX_COMPAT, "NX_COMPAT"), (HIGH_ENTROPY, "HIGH_ENTROPY_VA"):
        assert flags & flag, f"{name} lacks {meaning}"
    assert image.DIRECTORY_ENTRY_BASERELOC, f"{name} has no relocations"


def check_paths(name: str, content: bytes, cache: Path) -> None:
    """No folder of this machine."""
    folders = {str(Path.home()), str(cache), str(Path.cwd()), tempfile.gettempdir(), os.path.dirname(sys.executable)}
    for folder in folders - {"/"}:
        for text in (folder.encode(), folder.encode("utf-16-le"), folder.replace("/", "\\").encode()):
            assert text not in content, f"{name} names the folder {folder}"


def check_extension(content: bytes, cache: Path) -> None:
    """Its import table, flags, exports and texts."""
    image = pefile.PE(data=content)
    found = imports(image)
    assert found.pop("fwpuclnt.dll") == table(), "the imports from fwpuclnt.dll are not the engine table"
    assert found.pop("python311.dll")
    crt = sorted(name for name in found if name.startswith("api-ms-win-crt-"))
    others = set(found) - set(crt) - WINDOWS_DLLS
    assert not others, f"imports from {sorted(others)}"
    exported = [symbol.name.decode() for symbol in image.DIRECTORY_ENTRY_EXPORT.symbols]
    assert exported == ["PyInit__native"], exported
    check_hardening("_native", image)
    check_paths("_native", content, cache)
    print(f"_native: {len(table())} functions from fwpuclnt.dll, exactly the engine table; ASLR, DEP; no build path")
    print(
        f"_native: C runtime is the UCRT ({', '.join(crt)}); beside it {', '.join(sorted(WINDOWS_DLLS & set(found)))}"
    )


def check_dll(path: Path) -> None:
    """All of the table is there, and the controls."""
    image = pefile.PE(str(path))
    exported = {symbol.name.decode() for symbol in image.DIRECTORY_ENTRY_EXPORT.symbols if symbol.name}
    assert table() <= exported, table() - exported
    assert {name for name in exported - table() if not name.startswith("wfpsa_")} == set()
    check_hardening(path.name, image)
    print(f"{path.name}: the {len(table())} functions of the table and {len(exported - table())} controls")


def check_arm64(path: Path) -> None:
    """It is one, and imports the table."""
    image = pefile.PE(str(path))
    assert image.FILE_HEADER.Machine == 0xAA64
    assert imports(image)["fwpuclnt.dll"] == table()
    print("ARM64: imports the engine table from fwpuclnt.dll")


def asserts(layout: Path) -> str:
    """layout.c, and after it an assertion for each number that the layout file has for what layout.c lists."""
    known = json.loads(layout.read_text())
    source = Path("src/libwfpsa/layout.c").read_text()
    lines = ['#include "src/libwfpsa/layout.c"']
    count = 0
    for name in re.findall(r"^    S\((\w+), ", source, re.MULTILINE):
        lines.append(f'_Static_assert(sizeof({name}) == {known[name]["size"]}, "{layout.name}: {name}");')
        count += 1
    for name, field in re.findall(r"^    F\((\w+), (\w+), ", source, re.MULTILINE):
        wanted = known[name]["fields"][field]
        what = f'"{layout.name}: {name}.{field}"'
        lines.append(f"_Static_assert(offsetof({name}, {field}) == {wanted['offset']}, {what});")
        lines.append(f"_Static_assert(sizeof((({name} *)0)->{field}) == {wanted['size']}, {what});")
        count += 1
    print(f"{layout.name}: {count} structures and fields of layout.c", end=" ", flush=True)
    return "\n".join(lines) + "\n"


def compiles(what: str, *command: str) -> None:
    """Runs a compiler, whose complaints end this."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{what}:\n{done.stdout}{done.stderr}"


def check_layouts() -> None:
    """64-bit with the compiler of the wheel, 32-bit with Debian's; and the table linked on 32 bits."""
    if not shutil.which(I686):
        sys.exit(f"check.py: {I686} is not there: apt-get install gcc-mingw-w64-i686")
    macros = ("-D_WIN32_WINNT=0x0602", "-DNTDDI_VERSION=0x06020000")
    strict = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-Iinclude", "-I.")
    zig = (sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-windows-gnu", "-U_WIN32_WINNT", "-UNTDDI_VERSION")
    for layout, compiler in (("win64-layout.json", zig), ("win32-layout.json", (I686,))):
        generated = Path("layout-asserts.c")
        generated.write_text(asserts(Path("tests/data") / layout))
        compiles(layout, *compiler, *macros, *strict, "-c", str(generated), "-o", "layout-asserts.o")
        print("agree")
    sources = sorted(str(path) for path in Path("src/libwfpsa").rglob("*.c"))
    compiles("the 32-bit link", I686, *macros, *strict, "-shared", *sources, "-lfwpuclnt", "-o", "wfpsa32.dll")
    found = imports(pefile.PE("wfpsa32.dll"))["fwpuclnt.dll"]
    assert found == table(), found ^ table()
    print("32-bit: the table links against the import library, whose decorated names carry the argument bytes")


def main() -> None:
    """All of it."""
    wheel, dll, arm64, cache = map(Path, sys.argv[1:])
    try:
        check_extension(check_wheel(wheel), cache)
        check_dll(dll)
        check_arm64(arm64)
        check_layouts()
    except AssertionError as error:
        sys.exit(f"check.py: {error}")


if __name__ == "__main__":
    main()
