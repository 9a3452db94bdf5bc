"""The soak script: its cycles run, and what it is there to find it finds."""

import itertools
from collections.abc import Callable, Iterator

import pytest
import soak

from wfpsa import Engine, testing


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """What a step keeps although it should not, which is all that the process grows by; let go at the end."""
    things: list[object] = []
    monkeypatch.setattr(soak, "resident_bytes", lambda: 50_000_000 + 1_000_000 * len(things))
    yield things
    things.clear()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """A soak of some cycles, with one more step, on a clock that goes on by a second whenever it is read."""

    def soaked(step: Callable[[soak.World], object] | None = None) -> list[str]:
        if step is not None:
            monkeypatch.setattr(soak, "STEPS", (*soak.STEPS, step))
        ticks = itertools.count()
        return soak.soak(8, 300, lambda: float(next(ticks)))

    return soaked


def test_cycles_that_keep_nothing_are_right(run: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == []
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("7 cycles of ") and lines[-1].endswith("alive at the end: 0")
    assert len(lines) == 8


def test_growth_of_the_resident_size_is_told(run: Callable[..., list[str]], kept: list[object]) -> None:
    (wrong,) = run(lambda world: kept.append("a megabyte"))
    assert wrong.startswith("the resident size grew by ") and wrong.endswith("above 2 MB")


def test_a_listing_that_stays_open_ends_the_run(run: Callable[..., list[str]], kept: list[object]) -> None:
    def keep(world: soak.World) -> None:
        pages = world.engine.pages(page_size=10, prefetch=False)
        kept.append((pages, next(pages)))

    wrong, *_ = run(keep)
    assert wrong == "cycle 1 left 0 pages and 2 enumerations alive"


def test_a_session_that_stays_open_is_told_at_the_end(run: Callable[..., list[str]], kept: list[object]) -> None:
    wrong = run(lambda world: kept.append(world.control.open()))
    assert wrong[-1].startswith("alive at the end: ") and "'engines': 14" in wrong[-1]
    for engine in kept:
        assert isinstance(engine, Engine)
        engine.close()
    assert testing.live_counters()["engines"] == 0


def test_the_command_line_exits_with_1_and_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kept: list[object]
) -> None:
    monkeypatch.setattr("sys.argv", ["soak.py", "--seconds", "0", "--contexts", "300"])
    assert soak.main() == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(soak, "STEPS", (*soak.STEPS, lambda world: kept.append(world.engine.snapshot())))
    assert soak.main() == 1
    assert capsys.readouterr().err.startswith("WRONG: alive at the end: ")
