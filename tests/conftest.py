"""Fixtures of the whole suite, and the check that no test leaves anything alive in the C half."""

import gc
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import wfpsa
from wfpsa import testing

ADDRESS_SANITIZER = "libasan" in os.environ.get("LD_PRELOAD", "")
FORK_WITH_THREADS = "the sanitizer's allocator does not outlive it in the child" if ADDRESS_SANITIZER else None
LEFT_OUT = {
    "compiler": None if sys.platform != "win32" or "WFPSA_WALKERS" in os.environ else "no C compiler is there",
    "fork": FORK_WITH_THREADS if hasattr(os, "fork") else "this platform has no fork",
    "misuses_memory": "the sanitizer ends the process, rightly" if ADDRESS_SANITIZER else None,
    "posix": None if sys.platform != "win32" else "about what only other systems than Windows have or do",
    "posix_signal": None if sys.platform != "win32" else "Windows cannot send itself this signal",
    "resident": "the sanitizer's redzones and quarantine are resident too" if ADDRESS_SANITIZER else None,
    "sanitizer": None if sys.platform != "win32" else "no sanitizer is built in",
}
"""By marker: why its tests cannot run here, or None."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--backend", choices=("embedded", "windows"), default="embedded", help="what the tests talk to")
    parser.addoption("--left-out", metavar="FILE", help="fail unless exactly the tests named there are left out")


def be_patient_with_wine() -> None:
    """Wine, when it is busy, now and then cannot begin a process, with an internal error: it is asked again."""
    begin = subprocess._winapi.CreateProcess

    def patiently(*arguments: object) -> object:
        for pause in (0.1, 1, 5):
            try:
                return begin(*arguments)
            except OSError as error:
                if error.winerror != 1359:
                    raise
                time.sleep(pause)
        return begin(*arguments)

    subprocess._winapi.CreateProcess = patiently


def pytest_configure(config: pytest.Config) -> None:
    if sys.platform == "win32":
        be_patient_with_wine()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell: tests press Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers", "compiler: needs a C compiler, or what it would build in the folder that WFPSA_WALKERS names"
    )
    config.addinivalue_line("markers", "fork: forks, beside other threads, one of which may allocate")
    config.addinivalue_line("markers", "misuses_memory: reads or writes outside a live block, on purpose")
    config.addinivalue_line("markers", "posix: about what only other systems than Windows have or do")
    config.addinivalue_line("markers", "posix_signal: needs a signal that only POSIX has, or its way of sending one")
    config.addinivalue_line("markers", "resident: measures the resident size of a process")
    config.addinivalue_line("markers", "sanitizer: needs a build with a sanitizer")
    for package in PACKAGES:
        config.addinivalue_line(
            "markers", f"needs_{package}: needs the package {package}, which cannot be had everywhere"
        )
    if config.getoption("backend") == "windows":
        import dll

        dll.take_over()
    config.addinivalue_line("markers", "source: reads the files of the checkout, absent beside an installed wheel")
    config.addinivalue_line("markers", "live: needs a real Windows Filtering Platform and an elevated user")


PACKAGES = ("cffi", "nanoarrow", "numpy", "pandas", "polars", "pyarrow", "win32more")
"""What `needs_` may be followed by."""


def why_left_out(item: pytest.Item) -> str | None:
    """Why a test cannot run here, by its markers."""
    for marker in item.iter_markers():
        if reason := LEFT_OUT.get(marker.name):
            return f"{marker.name}: {reason}"
        package = marker.name.removeprefix("needs_")
        if package != marker.name:
            try:
                importlib.import_module(package)
            except ImportError as error:
                return f"{marker.name}: {error}"
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("markexpr"):  # live tests only where asked for by -m live
        live = [item for item in items if item.get_closest_marker("live")]
        items[:] = [item for item in items if item not in live]
        config.hook.pytest_deselected(items=live)
    reasons = {item: reason for item in items if (reason := why_left_out(item))}
    items[:] = [item for item in items if item not in reasons]
    config.hook.pytest_deselected(items=list(reasons))
    config.stash[_left_out] = {item.nodeid: reason for item, reason in reasons.items()}


_left_out = pytest.StashKey[dict[str, str]]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Names what was left out, and whether that is what the list says."""
    left_out = config.stash.get(_left_out, {})
    for name, reason in left_out.items():
        terminalreporter.write_line(f"left out: {name} ({reason})")
    if config.getoption("left_out"):
        for line in unexpected(config, terminalreporter.stats.get("skipped", [])):
            terminalreporter.write_line(line, red=True)


def unexpected(config: pytest.Config, skipped: list[pytest.TestReport]) -> list[str]:
    """How the tests left out differ from the list; a skipped test differs always."""
    listed = {
        line.rpartition("  ")[0]  # names of tests may have spaces
        for line in Path(config.getoption("left_out")).read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    }
    found = set(config.stash[_left_out])
    return [
        *(f"left out, but not listed: {name}" for name in sorted(found - listed)),
        *(f"listed, but not left out: {name}" for name in sorted(listed - found)),
        *(f"skipped: {report.nodeid}: mark it with what it needs" for report in skipped),
    ]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    wanted = session.config.getoption("left_out") and reporter and not exitstatus
    if wanted and unexpected(session.config, reporter.stats.get("skipped", [])):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> str:
    """What Engine.backend must say."""
    return request.config.getoption("backend")


@pytest.fixture(autouse=True)
def nothing_left_alive(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test ends with the live counters at zero."""
    for variable in ("WFPSA_AUDIT", "WFPSA_ENGINE"):
        monkeypatch.delenv(variable, raising=False)
    yield
    testing.fail_allocation(0)
    request.node.funcargs.clear()  # pytest itself holds them a little longer
    if any(testing.live_counters().values()):
        gc.collect()  # a cycle of the test's own, such as a traceback
    alive = {name: count for name, count in testing.live_counters().items() if count}
    testing.take_misuses()  # the next test has none of them
    assert alive == {}


@pytest.fixture
def embedded() -> Iterator[testing.EmbeddedEngine]:
    """An empty embedded engine with a stopped clock, under the test's control."""
    with testing.EmbeddedEngine() as control:
        control.stop_clock()
        yield control


@pytest.fixture
def engine(embedded: testing.EmbeddedEngine) -> Iterator[wfpsa.Engine]:
    """An open session of that engine."""
    with embedded.open() as opened:
        yield opened
