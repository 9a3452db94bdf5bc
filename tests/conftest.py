"""Fixtures of the whole suite, and the check that no test leaves anything alive in the C half."""

import gc
from collections.abc import Iterator

import pytest

import wfpsa
from wfpsa import testing


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "source: reads the files of the checkout, absent beside an installed wheel")
    config.addinivalue_line("markers", "live: needs a real Windows Filtering Platform and an elevated user")


@pytest.fixture(autouse=True)
def nothing_left_alive(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test ends with the live counters at zero."""
    monkeypatch.delenv("WFPSA_ENGINE", raising=False)
    yield
    testing.fail_allocation(0)
    request.node.funcargs.clear()  # pytest itself holds them a little longer
    if any(testing.live_counters().values()):
        gc.collect()  # a cycle of the test's own, such as a traceback
    alive = {name: count for name, count in testing.live_counters().items() if count}
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
