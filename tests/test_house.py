"""The house: which floor may call which, what importing costs, and what every file and public name must say."""

import ast
import graphlib
import inspect
import json
import os
import re
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import pytest
from support import ROOT, run_python

import wfpsa
from wfpsa import _native, engine, enums, errors, report, testing

PACKAGE = ROOT / "src" / "wfpsa"
LIBRARY = ROOT / "src" / "libwfpsa"

# --- Floors of Python -----------------------------------------------------------------------------

FLOORS = {
    "wfpsa.errors": 0,
    "wfpsa.enums": 0,
    "wfpsa.aio": 0,
    "wfpsa._native": 1,
    "wfpsa.settle": 2,
    "wfpsa.report": 3,
    "wfpsa.audit": 4,
    "wfpsa.journal": 3,
    "wfpsa.mirror": 2,
    "wfpsa.statistics": 0,
    "wfpsa.keying": 1,
    "wfpsa.subscription": 2,
    "wfpsa.saved": 2,
    "wfpsa.expiry": 4,
    "wfpsa.plan": 5,
    "wfpsa._import_failure": 0,
    "wfpsa.engine": 6,
    "wfpsa": 7,
    "wfpsa.testing": 8,
    "wfpsa.bench": 9,
    "wfpsa.families": 8,
    "wfpsa.metrics": 9,
    "wfpsa.otel": 9,
    "wfpsa.cli": 10,
    "wfpsa.__main__": 11,
    "wfpsa.pytest_plugin": 9,
}
CONTROLS = {
    "Store",
    "KEY_MARK",
    "RIGHTS",
    "add_context",
    "decode_page",
    "engine_functions",
    "fail_allocation",
    "live_counters",
    "page_bytes",
    "replay_into",
    "switches",
    "take_misuses",
}


def modules() -> dict[str, ast.Module]:
    """The package's Python modules, parsed."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    assert "wfpsa.engine" in found
    return found


def own_imports(module: str, tree: ast.Module) -> Iterator[str]:
    """The modules of this package that a module imports, those inside functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "wfpsa")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            if (node.module or "").split(".")[0] == "wfpsa":
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    file = PACKAGE.parent / f"{inner.replace('.', '/')}.py"
                    yield inner if inner in FLOORS or file.exists() else str(node.module)


def floor(module: str) -> int:
    """The floor of a module: its own, or that of the package it is in."""
    while module not in FLOORS:
        module = module.rpartition(".")[0]
    return FLOORS[module]


@pytest.mark.source
def test_python_modules_import_from_lower_floors_only() -> None:
    for module, tree in modules().items():
        for imported in own_imports(module, tree):
            inside = any(module.startswith(own) and imported.startswith(own) for own in ("wfpsa.bench", "wfpsa.cli"))
            assert floor(imported) < floor(module) or inside, f"{module} imports {imported}"


@pytest.mark.source
def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: set(own_imports(module, tree)) - {module} for module, tree in modules().items()}
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.source
def test_errors_and_enums_import_nothing_of_ours() -> None:
    found = modules()
    for module in ("wfpsa.errors", "wfpsa.enums"):
        assert list(own_imports(module, found[module])) == []


@pytest.mark.source
def test_the_extension_imports_errors_and_enums_and_nothing_else() -> None:
    for path in (*PACKAGE.glob("*.pyx"), *PACKAGE.glob("*.pxi"), *PACKAGE.glob("*.pxd")):
        text = path.read_text(encoding="utf-8")
        imported = re.findall(r"^\s*from wfpsa(?:\.\w+)* (?:c?import) (\w+)", text, re.MULTILINE)
        assert set(imported) <= {"enums", "errors", "libwfpsa"}, path.name
        assert not re.search(r"^\s*import wfpsa", text, re.MULTILINE), path.name
        assert not re.search(r"^\s*(?:from|import|cimport) (?:numpy|ctypes|pyarrow)", text, re.MULTILINE), path.name


@pytest.mark.source
def test_only_testing_uses_the_controls_of_the_embedded_engine() -> None:
    allowed = {"wfpsa.testing": CONTROLS, "wfpsa.engine": {"Store", "RIGHTS"}}
    for module, tree in modules().items():
        used = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "_native"
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "wfpsa._native":
                used |= {alias.name for alias in node.names}
        assert used & CONTROLS <= allowed.get(module, set()), module


@pytest.mark.source
def test_an_engine_only_opens_and_shapes_a_store() -> None:
    names = {node.attr for node in ast.walk(modules()["wfpsa.engine"]) if isinstance(node, ast.Attribute)}
    assert names.isdisjoint({"fail", "advance", "fail_allocation", "live_counters"})


@pytest.mark.source
def test_only_the_extension_touches_c() -> None:
    for module, tree in modules().items():
        if module == "wfpsa._import_failure":  # runs where the extension could not be loaded
            continue
        if module.startswith("wfpsa.bench."):  # what the extension is measured against
            continue
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {"ctypes", "cffi", "_ctypes"}, module


# --- Floors of C ----------------------------------------------------------------------------------


def included(path: Path) -> set[str]:
    """The names of the headers that a C file includes, and those include, as far as they are ours."""
    found: set[str] = set()
    for name in re.findall(r'^\s*#\s*include\s+["<]([^">]+)[">]', path.read_text(encoding="utf-8"), re.MULTILINE):
        found.add(Path(name).name)
        for folder in (path.parent, ROOT / "include", LIBRARY):
            if (folder / name).is_file():
                found |= included(folder / name)
                break
    return found


@pytest.mark.source
def test_the_c_half_knows_no_python() -> None:
    for path in (*LIBRARY.rglob("*.[ch]"), *(ROOT / "include").rglob("*.h")):
        assert not {"Python.h", "pyconfig.h", "numpy.h"} & included(path), path.name


@pytest.mark.source
def test_the_columns_do_not_know_the_engines() -> None:
    for name in ("columns.c", "names.c", "query.c", "selection.c", "select.c", "diff.c", "count.c", "arrow.c"):
        if (LIBRARY / name).exists():
            assert not {"backend.h", "session.h", "embedded.h", "internal.h"} & included(LIBRARY / name), name


@pytest.mark.source
def test_the_engines_do_not_know_the_columns() -> None:
    for path in (LIBRARY / "windows.c", *(LIBRARY / "embedded").glob("*.[ch]")):
        assert not {"columns.h", "query.h", "arrow.h", "session.h"} & included(path), path.name


@pytest.mark.source
def test_public_headers_need_nothing_that_is_not_public() -> None:
    public = {path.name for path in (ROOT / "include" / "wfpsa").glob("*.h")}
    for path in (ROOT / "include" / "wfpsa").glob("*.h"):
        quoted = re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE)
        assert {Path(name).name for name in quoted} <= public, path.name
        assert all(name.startswith("wfpsa/") for name in quoted), path.name


# --- Importing ------------------------------------------------------------------------------------

IMPORTED = """
import json, sys
before = set(sys.modules)
import wfpsa
new = {name: getattr(module, "__file__", None) for name, module in sys.modules.items() if name not in before}
print(json.dumps(new))
"""
ALONE = """
import sys
for name in ("numpy", "pyarrow", "duckdb", "typer", "rich", "pandas", "polars", "cffi", "typing_extensions"):
    sys.modules[name] = None
import pickle
import wfpsa
from wfpsa import testing
with wfpsa.open_engine("embedded:?contexts=500&seed=1&odd=1&clock=manual") as engine:
    batch = engine.snapshot(remote="10.0.0.0/8")
    pages = list(engine.pages(page_size=100, version=0))
    context = batch[0]
    assert str(context.remote_address).startswith("10.") and context.outbound.spi == batch["spi_out"][0]
    assert bytes(batch["context_id"])[:8] == context.context_id.to_bytes(8, sys.byteorder)
    assert memoryview(batch["remote_address"]).shape == (len(batch), 16)
    assert pickle.loads(pickle.dumps(batch))[0] == engine.get(context.context_id) == context
    assert list(batch.take(memoryview(bytes([1, 0])))) == [batch[1], batch[0]]
    assert "arrow_array_stream" in repr(batch.__arrow_c_stream__())
    try:
        batch.save("recording")
    except ImportError as error:
        assert "wfpsa[arrow]" in str(error)
    report = engine.expire(batch["context_id"])
    report.raise_for_failures()
    print(len(pages), len(batch) == report.counts[wfpsa.Outcome.EXPIRED])
"""


def test_importing_the_package_imports_the_standard_library_and_nothing_else() -> None:
    home = os.path.realpath(Path(wfpsa.__file__).parent)
    new = json.loads(run_python(IMPORTED))
    assert "wfpsa._native" in new
    for name, file in new.items():
        if name.split(".")[0] == "wfpsa":
            assert os.path.realpath(file).startswith(home), name
        elif file is not None:
            parts = Path(os.path.realpath(file)).parts
            assert "site-packages" not in parts and "dist-packages" not in parts, name
            assert name.split(".")[0] in sys.stdlib_module_names, name
    assert not {"wfpsa.testing", "wfpsa.cli", "wfpsa.keying", "typing", "re"} & set(new), "what takes its time"


def test_what_is_imported_late_is_listed_and_found_once() -> None:
    print_it = (
        "import wfpsa; print(set(wfpsa.__all__) <= set(dir(wfpsa)), wfpsa.Gap is wfpsa.Gap, 'Gap' in vars(wfpsa))"
    )
    assert run_python(print_it) == "True True True\n"


def test_everything_works_where_no_third_party_module_can_be_imported() -> None:
    assert run_python(ALONE) == "5 True\n"


# --- What files and names say ---------------------------------------------------------------------


@pytest.mark.source
def test_every_file_opens_with_what_lives_in_it() -> None:
    folders = [PACKAGE, LIBRARY, ROOT / "include", ROOT / "tests", ROOT / "benchmarks", ROOT / "tools"]
    paths = [path for folder in folders if folder.exists() for path in folder.rglob("*.*")]
    checked = 0
    for path in paths:
        if path.suffix not in (".py", ".pyi", ".pyx", ".pxi", ".pxd", ".c", ".h") or path.name == "_native.c":
            continue
        text = path.read_text(encoding="utf-8")
        if path.suffix in (".py", ".pyi"):
            said = ast.get_docstring(ast.parse(text))
        elif path.suffix in (".c", ".h"):
            said = text if text.startswith("/*") else None
        else:
            said = text if re.match(r'(# cython:.*\n)?(# \w|""")', text) else None
        assert said, f"{path.relative_to(ROOT)} does not say what lives in it"
        checked += 1
    assert checked > 50


@pytest.mark.source
def test_every_test_file_opens_with_one_sentence() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        first = said.split("\n\n")[0]
        assert first.endswith(".") and len(first.splitlines()) == 1, path.name


def public_members(cls: type) -> Iterator[tuple[str, object]]:
    for name, member in vars(cls).items():
        if not name.startswith("_") and not (issubclass(cls, Enum) and isinstance(member, cls)):
            yield name, member


def test_every_public_name_is_documented() -> None:
    assert len(set(wfpsa.__all__)) == len(wfpsa.__all__)
    silent = []
    for module in (wfpsa, engine, enums, errors, report, testing, _native):
        silent += [module.__name__] if not module.__doc__ else []
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if not (inspect.isclass(thing) or inspect.isroutine(thing)):
                continue
            silent += [f"{module.__name__}.{name}"] if not thing.__doc__ else []
            for member, value in public_members(thing) if inspect.isclass(thing) else ():
                if (inspect.isroutine(value) or inspect.isdatadescriptor(value)) and not inspect.getdoc(value):
                    silent.append(f"{module.__name__}.{name}.{member}")
    assert silent == []


def test_functions_of_the_extension_are_documented() -> None:
    for name, value in vars(_native).items():
        if not name.startswith("_") and getattr(value, "__module__", None) == "wfpsa._native":
            assert value.__doc__, name


def test_unknown_names_of_the_package_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="module 'wfpsa' has no attribute 'open'"):
        wfpsa.open  # noqa: B018 - the access is the test


# --- Headers for others ---------------------------------------------------------------------------


def test_the_headers_are_where_get_include_says(tmp_path: Path) -> None:
    """In an installed package; for a checkout, in a folder laid out as a wheel is."""
    try:
        folder = Path(wfpsa.get_include())
    except RuntimeError as error:
        assert "no C headers" in str(error)
        installed = tmp_path / "wfpsa"
        installed.mkdir()
        for entry in Path(wfpsa.__file__).parent.iterdir():
            (installed / entry.name).symlink_to(entry)
        (installed / "include").symlink_to(ROOT / "include")
        code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import wfpsa; print(wfpsa.get_include())"
        folder = Path(run_python(code).strip())
        assert folder == installed / "include"
    assert {"columns.h", "query.h", "arrow.h", "wfp.h"} <= {path.name for path in (folder / "wfpsa").iterdir()}
