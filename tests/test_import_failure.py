"""What `import wfpsa` says where its extension module cannot be loaded, and the build tool where a part is missing."""

import importlib.util
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

import pytest

from wfpsa import _import_failure

TOOL = Path(__file__).parents[1] / "tools" / "windows" / "build.py"
ERROR = ImportError("DLL load failed while importing _native", name="wfpsa._native", path="somewhere")


def test_an_extension_for_another_python_is_named(tmp_path: Path) -> None:
    (tmp_path / "_native.cp399-other.pyd").touch()
    text = str(_import_failure.explained(ERROR, tmp_path))
    assert "for another Python: it has _native.cp399-other.pyd" in text
    assert f"{sys.version_info[0]}.{sys.version_info[1]} on {sys.platform}" in text
    assert "python -m pip install --force-reinstall wfpsa" in text


def test_no_extension_at_all_is_said(tmp_path: Path) -> None:
    missing = ModuleNotFoundError("No module named 'wfpsa._native'", name="wfpsa._native")
    explained = _import_failure.explained(missing, tmp_path)
    assert type(explained) is ModuleNotFoundError
    assert "has no extension module" in str(explained) and "No module named" in str(explained)


def test_one_that_fits_and_does_not_load_is_named(tmp_path: Path) -> None:
    name = f"_native{EXTENSION_SUFFIXES[0]}"
    (tmp_path / name).touch()
    explained = _import_failure.explained(ERROR, tmp_path)
    assert name in str(explained) and "DLL load failed" in str(explained)
    assert (explained.name, explained.path) == (ERROR.name, ERROR.path)


@pytest.fixture
def tool() -> ModuleType:
    """tools/windows/build.py as a module."""
    spec = importlib.util.spec_from_file_location("windows_build", TOOL)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.source
def test_the_build_tool_names_the_debian_package(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "WINE", "/nowhere/wine64")
    monkeypatch.setattr(tool.shutil, "which", lambda name: None)
    with pytest.raises(tool.Missing, match="apt-get install wine64"):
        tool.wine()
    monkeypatch.setattr(tool, "VERSION", (3, 99))
    with pytest.raises(tool.Missing, match=r"needs CPython 3\.99 on Linux, not .*: apt-get install python3"):
        tool.check_host()


@pytest.mark.source
def test_the_build_tool_says_which_part_could_not_be_had(tool: ModuleType) -> None:
    with pytest.raises(tool.Missing, match=r"fetching parts\.txt failed \(exit 1\):\nnot there"):
        tool.run(sys.executable, "-c", "raise SystemExit('not there')", what="fetching parts.txt")
