"""C and Cython for others: extensions built against the installed headers walk a batch without a Python call a row."""

import gc
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from support import ROOT, values

import wfpsa
from wfpsa import testing

SETUP = """
import sys
from setuptools import Extension, setup
from Cython.Build import cythonize
modules = [
    Extension("walker", ["walker.pyx"], include_dirs=[sys.argv.pop(1)]),
    Extension("walker_c", ["walker_c.c"], include_dirs=[sys.argv.pop(1)]),
]
setup(name="walkers", ext_modules=cythonize(modules, include_path=[sys.argv.pop(1)]))
"""


def include_folder() -> str:
    """Where the headers are; for a checkout they stand beside the package."""
    try:
        return wfpsa.get_include()
    except RuntimeError:
        return str(ROOT / "include")


@pytest.fixture(scope="module")
def walkers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ModuleType, ModuleType]]:
    """Both extensions, built as their author would: here, or before where this platform has no compiler."""
    if built_before := os.environ.get("WFPSA_WALKERS"):
        yield load(Path(built_before), "walker"), load(Path(built_before), "walker_c")
        return
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("walkers")
    for name in ("walker.pyx", "walker_c.c"):
        (folder / name).write_bytes((Path(__file__).parent / "extension" / name).read_bytes())
    (folder / "setup.py").write_text(SETUP)
    include = include_folder()
    package_root = str(Path(wfpsa.__file__).parent.parent)
    command = [sys.executable, "setup.py", include, include, package_root, "build_ext", "--inplace"]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    yield load(folder, "walker"), load(folder, "walker_c")


def load(folder: Path, name: str) -> ModuleType:
    """The module of that name from a file in the folder."""
    (file,) = [path for path in folder.glob(f"{name}.*") if path.suffix in (".so", ".pyd")]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def expected_totals(batch: wfpsa.SaBatch) -> tuple[int, ...]:
    spis = batch["spi_in"].tolist()
    return (
        len(batch),
        sum(batch["context_id"]) % 2**64,
        sum(spi or 0 for spi in spis),
        spis.count(None),
        sum(len((name or "").encode()) for name in batch["main_mode_target_in"]),
        sum((address or b"\0")[-1] for address in batch["remote_address"]),
    )


@pytest.mark.compiler
@pytest.mark.parametrize("version", [0, 1])
def test_a_cython_extension_sums_what_python_sums(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, walkers: tuple[ModuleType, ModuleType], version: int
) -> None:
    embedded.seed(500, 4, odd=True)
    batch = engine.snapshot(version=version)
    chosen = batch.where(has_inbound=True)
    for view in (
        batch,
        batch[::3],
        batch[::-1],
        batch[100:200],
        batch[:0],
        batch.take([3, 1, 3]),
        chosen,
        chosen[::-2],
    ):
        assert walkers[0].totals(view) == expected_totals(view)


@pytest.mark.compiler
def test_a_c_extension_counts_absent_cells_as_python_does(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, walkers: tuple[ModuleType, ModuleType]
) -> None:
    embedded.seed(500, 6, odd=True)
    whole = engine.snapshot()
    for batch in (whole, whole[::-7], engine.snapshot(fields=["context_id", "spi_out", "key_module_in"])):
        counted = walkers[1].count_absent(batch.__wfpsa_view__())
        assert counted == [column.count(None) for column in values(batch).values()]


@pytest.mark.compiler
def test_a_view_outlives_its_batch_and_a_foreign_capsule_is_refused(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, walkers: tuple[ModuleType, ModuleType]
) -> None:
    embedded.seed(50)
    batch = engine.snapshot()
    expected = walkers[1].count_absent(batch.__wfpsa_view__())
    capsule = batch.__wfpsa_view__()
    del batch
    gc.collect()
    assert walkers[1].count_absent(capsule) == expected
    with pytest.raises(ValueError, match="PyCapsule"):
        walkers[1].count_absent(engine.snapshot().__arrow_c_schema__())


@pytest.mark.compiler
def test_a_batch_without_the_column_is_refused_by_the_extension(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, walkers: tuple[ModuleType, ModuleType]
) -> None:
    embedded.add()
    with pytest.raises(ValueError, match="has no spi_in"):
        walkers[0].totals(engine.snapshot(fields=["context_id"]))
