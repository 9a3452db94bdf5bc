"""Writes what is derived from the list of columns: attributes in the stubs, constants in the .pxd, docs/columns.md.

python tools/columns.py           rewrite them
python tools/columns.py --check   exit with 1 where they differ from the list
"""

import sys
from pathlib import Path

from wfpsa import _native

ROOT = Path(__file__).parent.parent
STUBS = ROOT / "src" / "wfpsa" / "_native.pyi"
DECLARATIONS = ROOT / "src" / "wfpsa" / "libwfpsa.pxd"
DOCS = ROOT / "docs" / "columns.md"

BEGIN = "    # <columns>\n"
END = "    # </columns>\n"

TYPES = {
    "bool": "bool",
    "u8": "int",
    "u16": "int",
    "u32": "int",
    "u64": "int",
    "ipv4": "IPv4Address",
    "address": "IPv4Address | IPv6Address",
    "guid": "UUID",
    "text": "str",
}

CELLS = {
    "bool": "bool (`?`)",
    "u8": "uint8",
    "u16": "uint16",
    "u32": "uint32",
    "u64": "uint64",
    "enum": "uint8",
    "ipv4": "uint32, an IPv4 address in host order",
    "address": "(n, 16) uint8",
    "guid": "(n, 16) uint8, `bytes_le`",
    "text": "uint32 code into `strings`",
}

ABSENT = {
    "never": "never",
    "no SA": "the context has no SA",
    "no address": "the context has no SA, or its IP version is neither 4 nor 6",
    "no SA in this direction": "no SA in this direction",
    "no first SA": "no SA in the direction's list",
    "no second SA": "no second SA in the direction's list",
    "zero": "0",
    "255": "255",
}


def attribute(column: dict) -> str:
    """The stub of one attribute of SaContext or SaDetails."""
    kind = f"{column['enumeration']} | int" if column["kind"] == "enum" else TYPES[column["kind"]]
    optional = "" if column["absence"] == "never" else " | None"
    return f"    @property\n    def {{name}}(self) -> {kind}{optional}: ...\n"


def stubs(text: str) -> str:
    """The stubs with the attributes between their marks replaced: SaContext's first, then SaDetails'."""
    columns = _native.column_info()
    context = "".join(attribute(column).format(name=column["name"]) for column in columns)
    details = "".join(
        attribute(column).format(name=column["attribute"]) for column in columns if column["direction"] == "in"
    )
    before, _, rest = text.partition(BEGIN)
    _, _, rest = rest.partition(END)
    between, _, rest = rest.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + context + END + between + BEGIN + details + END + after


def declarations(text: str) -> str:
    """The declarations for Cython with the constants between their marks replaced."""
    names = "".join(f"        WFPSA_COLUMN_{column['name']}\n" for column in _native.column_info())
    before, begin, rest = text.partition(f"    {BEGIN}")
    _, end, after = rest.partition(f"    {END}")
    return before + begin + names + end + after


def docs() -> str:
    """The page of all columns."""
    lines = [
        "# Columns",
        "",
        "Made by `python tools/columns.py` from the list in `include/wfpsa/columns.h`.",
        "",
        "Cells are in native byte order, shape `(n,)` unless said. An absent value is None in Python and null in",
        "Arrow, JSON, CSV and SQL; its raw cell is 0, and 255 in columns of enumerations. In those 254 stands for any",
        "value of 254 or more. Columns marked v1 exist in batches read with `version=1`, the default.",
        "",
        "Columns of one direction exist twice, with `_in` and `_out`; `SaDetails` has them without the suffix.",
        "",
        "| column | cell | absent where | from | meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    for column in _native.column_info():
        if column["direction"] == "out":
            continue
        name = column["attribute"] + ("_in, _out" if column["direction"] else "")
        version = " (v1)" if column["version"] else ""
        cell = CELLS[column["kind"]] + (f", `{column['enumeration']}`" if column["enumeration"] else "")
        source = column["source"].removeprefix("inboundSa->")
        lines.append(f"| {name}{version} | {cell} | {ABSENT[column['absence']]} | `{source}` | {column['note']} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Rewrites, or with --check compares."""
    wanted = {
        STUBS: stubs(STUBS.read_text(encoding="utf-8")),
        DECLARATIONS: declarations(DECLARATIONS.read_text(encoding="utf-8")),
        DOCS: docs(),
    }
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if "--check" not in sys.argv[1:]:
            path.write_text(wanted[path], encoding="utf-8", newline="\n")
        print(f"{path.relative_to(ROOT)} differs from the list of columns")
    return 1 if stale and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
