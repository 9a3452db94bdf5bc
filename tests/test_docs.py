"""The documents: code that compiles, tests that exist, every switch with its choices, links that lead somewhere."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

from wfpsa import settle, testing

pytestmark = pytest.mark.source

DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EMBEDDED = ROOT / "docs" / "embedded-engine.md"


def section(heading: str) -> str:
    """What stands below a heading of the document on the embedded engine, up to the next one of its kind."""
    text = EMBEDDED.read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    lines = [line for line in section(heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


RULES = "By which rules it answers"
UNDOCUMENTED = "What is not documented"


def tests_of(cell: str) -> Iterator[tuple[str, list[str]]]:
    """(file, names of tests) of the last cell of a row."""
    for part in cell.split(";"):
        file, *names = re.findall(r"`([^`]+)`", part)
        assert re.sub(r"`[^`]+`", "", part).strip() == "", f"not a file and tests: {part!r}"
        yield file, names


def test_every_rule_and_every_undocumented_point_names_a_test_that_exists() -> None:
    missing = []
    for heading, width in ((RULES, 2), (UNDOCUMENTED, 4)):
        assert len(rows(heading)) >= 15
        for row in rows(heading):
            assert len(row) == width, row[0]
            for file, names in tests_of(row[-1]):
                path = ROOT / file
                assert re.fullmatch(r"tests/(c/)?test_\w+\.(c|py)", file), file
                text = path.read_text(encoding="utf-8") if path.exists() else ""
                missing += [] if text else [file]
                defined = r"^def {}\(" if path.suffix == ".py" else r"^{}\(void\)"
                missing += [
                    f"{file} {name}" for name in names if not re.search(defined.format(name), text, re.MULTILINE)
                ]
    assert sorted(set(missing)) == []


def test_every_switch_is_there_once_with_its_choices_the_default_first() -> None:
    found = {}
    for row in rows(UNDOCUMENTED):
        if row[2]:
            name, *choices = re.findall(r"`(\w+)`", row[2])
            assert name not in found, name
            found[name] = tuple(choices)
    assert found == {name: choices for name, (choices, _) in testing.SWITCHES.items()}


OF_BENCHMARKS = ("decode_page", "drain", "page_bytes")


def test_every_control_is_described() -> None:
    controls = section("Controls")
    public = [name for name in vars(testing.EmbeddedEngine) if not name.startswith("_")]
    apart = {"server_name", "close"}
    assert [name for name in public if name not in apart and not re.search(rf"`{name}\b", controls)] == []
    functions = [name for name in testing.__all__ if name.islower() and name not in OF_BENCHMARKS]
    assert [name for name in functions if f"`{name}(" not in controls] == []


def test_every_option_of_a_target_is_described() -> None:
    from wfpsa.engine import _OPTIONS

    named = re.findall(r"^\| `(\w+)` \|", section("Targets and options"), re.MULTILINE)
    assert named == list(_OPTIONS)


def test_every_block_of_python_compiles() -> None:
    blocks = [
        (path.name, code)
        for path in DOCS
        for code in re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    ]
    assert len(blocks) >= 4
    for name, code in blocks:
        ast.parse(code, name)
        assert max(map(len, code.splitlines())) <= 130, name


def test_every_link_to_a_file_leads_to_one() -> None:
    for path in DOCS:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


# --- The worked example of a mass expiry ----------------------------------------------------------

MASS_EXPIRY = ROOT / "docs" / "mass-expiry.md"


def settled(text: str) -> str:
    """What an example prints, without what differs from run to run and from machine to machine."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00", "TIME", text)
    text = re.sub(r"\b[0-9a-f]{64}\b", "CHECKSUM", text)
    text = re.sub(r"\bon [\w.-]+$", "on HOST", text, flags=re.MULTILINE)
    text = re.sub(r'"(user|host|journal)": ("[^"]*"|null)', r'"\1": "..."', text)
    return re.sub(r'"(pid|seconds)": [\d.]+', r'"\1": 0', text)


def test_the_worked_example_of_a_mass_expiry_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = MASS_EXPIRY.read_text(encoding="utf-8")
    text = text[text.index("## A stolen laptop") : text.index("## What a plan protects from")]
    blocks = re.findall(r"^```(python|)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    examples = 0
    for at, (kind, code) in enumerate(blocks):
        if kind != "python":
            continue
        exec(compile(code, f"block {at + 1}", "exec"), names)
        if "lab" in names and not examples:
            names["lab"].stop_clock()
            monkeypatch.setattr(settle.time, "sleep", lambda seconds: names["lab"].advance(max(seconds, 0.05)))
        printed = capsys.readouterr().out
        if printed:
            examples += 1
            assert settled(printed) == settled(blocks[at + 1][1])
    assert examples == 3
    names["engine"].close()
    names["lab"].close()
    names.clear()
