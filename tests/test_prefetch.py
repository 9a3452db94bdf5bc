"""Pages fetched ahead: the same results as without, and nothing left of the fetching whatever ends it."""

import itertools
import threading

import pytest
from support import FWP_E_TIMEOUT, out_of_memory, values

import wfpsa
from wfpsa import testing

ENUM = "IPsecSaContextEnum1"


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("page_size", [1, 7, 50, 100, 101, None])
def test_a_listing_is_the_same_with_and_without(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, version: int, page_size: int | None
) -> None:
    embedded.seed(100, 9, odd=True)
    plain = engine.snapshot(version=version, page_size=page_size, prefetch=False)
    ahead = engine.snapshot(version=version, page_size=page_size, prefetch=True)
    assert values(ahead) == values(plain)
    for local in (None, "10.0.0.0/29"):
        pages = [
            [len(page) for page in engine.pages(version=version, page_size=page_size, local=local, prefetch=prefetch)]
            for prefetch in (True, False)
        ]
        assert pages[0] == pages[1]


def test_a_failure_of_any_page_is_raised_in_its_turn(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.seed(95, odd=True)
    for nth in range(1, 11):
        embedded.fail(ENUM, nth, FWP_E_TIMEOUT)
        with pytest.raises(wfpsa.EngineTimeout, match=ENUM):
            engine.snapshot(page_size=10)
        embedded.fail(ENUM, nth, FWP_E_TIMEOUT)
        got = []
        with pytest.raises(wfpsa.EngineTimeout):
            for page in engine.pages(page_size=10):
                got.append(len(page))
        assert got == [10] * (nth - 1)
        alive = testing.live_counters()
        assert (alive["pages"], alive["enum_handles"]) == (0, 0)


def test_every_allocation_may_fail_in_either_thread(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.seed(60, odd=True)
    expected = values(engine.snapshot())
    before = testing.live_counters()
    for nth in itertools.count(1):
        testing.fail_allocation(nth)
        try:
            batch = engine.snapshot(page_size=10)
        except (MemoryError, wfpsa.WfpError) as error:
            assert out_of_memory(error)
        else:
            testing.fail_allocation(0)
            assert values(batch) == expected
            break
        assert testing.live_counters() == before
    assert nth > 80


@pytest.mark.parametrize("ending", ["close", "drop", "engine"])
def test_an_iterator_that_ends_early_leaves_nothing(embedded: testing.EmbeddedEngine, ending: str) -> None:
    embedded.seed(1000)
    for taken in (1, 2, 5):
        engine = embedded.open()
        pages = engine.pages(page_size=10)
        for _ in range(taken):
            next(pages)
        if ending == "close":
            pages.close()
        elif ending == "engine":
            engine.close()
            with pytest.raises(wfpsa.EngineClosed):
                next(pages)
        del pages
        engine.close()
        alive = testing.live_counters()
        assert (alive["pages"], alive["enum_handles"], alive["engines"]) == (0, 0, 0)


def test_at_most_one_page_waits_while_one_is_held(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.seed(500)
    for _ in engine.pages(page_size=10):
        assert testing.live_counters()["pages"] <= 1


def test_closing_the_engine_ends_a_snapshot_in_its_middle(embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(2000)
    embedded.latency(per_call_us=300)
    engine = embedded.open()
    started = threading.Barrier(2)
    outcome: list[object] = []

    def read() -> None:
        started.wait()
        try:
            outcome.append(len(engine.snapshot(page_size=5)))
        except wfpsa.EngineClosed as error:
            outcome.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    started.wait()
    engine.close()
    reader.join(60)
    assert not reader.is_alive()
    assert outcome == [2000] or isinstance(outcome[0], wfpsa.EngineClosed)
    embedded.latency()


def test_a_page_of_nobodys_choice_grows_where_calls_are_what_costs(embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(60_000)
    embedded.latency(per_call_us=60_000)  # far above what the contexts themselves cost anywhere
    with embedded.open() as engine:
        sizes = [len(page) for page in engine.pages(fields=["context_id"], prefetch=False)]
    assert sum(sizes) == 60_000
    assert sizes[0] == 1024 and max(sizes) == 8192
    assert all(a <= b for a, b in itertools.pairwise(sizes[:-1]))
