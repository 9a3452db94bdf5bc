"""The stubs: they name what the extension has, and their attributes and docs/columns.md follow the list of columns."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from wfpsa import _native

ROOT = Path(__file__).parent.parent
STUBS = ROOT / "src" / "wfpsa" / "_native.pyi"

pytestmark = pytest.mark.source


def test_attributes_and_docs_follow_the_list_of_columns() -> None:
    check = subprocess.run(
        [sys.executable, ROOT / "tools" / "columns.py", "--check"], capture_output=True, text=True, check=False
    )
    assert (check.returncode, check.stdout + check.stderr) == (0, "")


def stubbed() -> dict[str, set[str] | None]:
    """The public names of the stubs: for classes with the names of their members."""
    names: dict[str, set[str] | None] = {}
    for node in ast.parse(STUBS.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            names[node.name] = {
                member.name if isinstance(member, ast.FunctionDef) else member.target.id
                for member in node.body
                if isinstance(member, ast.FunctionDef | ast.AnnAssign)
            }
        elif isinstance(node, ast.FunctionDef):
            names[node.name] = None
        elif isinstance(node, ast.AnnAssign):
            names[node.target.id] = None
    return names


def test_the_stubs_name_everything_public_in_the_extension_and_nothing_else() -> None:
    runtime = {
        name
        for name, value in vars(_native).items()
        if not name.startswith("_") and getattr(value, "__module__", "wfpsa._native") == "wfpsa._native"
    }
    assert set(stubbed()) == runtime


def test_the_stubs_of_a_class_name_its_members() -> None:
    inherited = {"index", "count"}  # the stubs take them from Sequence
    for name, members in stubbed().items():
        if members is None:
            continue
        runtime = {member for member in vars(getattr(_native, name)) if not member.startswith("_")}
        public = {member for member in members if not member.startswith("_")}
        assert public == runtime - inherited, name
        for member in members - public - {"__init__", "__buffer__"}:
            assert hasattr(getattr(_native, name), member), f"{name}.{member}"
