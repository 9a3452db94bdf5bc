"""Faults that say more than a walk: what arrives before one, which of two is told, and what repeats it bears."""

import itertools

import pytest
from support import FWP_E_SESSION_ABORTED, FWP_E_TIMEOUT, NOT_ENOUGH_MEMORY, out_of_memory

import wfpsa
from wfpsa import testing

# --- OS calls -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 1])
def test_pages_before_a_failure_arrive_and_the_failure_is_raised_never_swallowed(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, version: int
) -> None:
    embedded.seed(45)
    for nth in range(1, 6):
        embedded.fail(f"IPsecSaContextEnum{version}", nth, FWP_E_TIMEOUT)
        pages = engine.pages(page_size=10, version=version)
        got = []
        with pytest.raises(wfpsa.EngineTimeout):
            for page in pages:
                got.append(len(page))
        assert got == [10] * (nth - 1)
        assert list(pages) == []
        assert testing.live_counters()["enum_handles"] == 0


def test_a_failing_end_of_an_enumeration_is_raised_after_the_last_page(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(15)
    embedded.fail("IPsecSaContextDestroyEnumHandle0", 1, FWP_E_TIMEOUT)
    pages = engine.pages(page_size=10)
    assert [len(next(pages)), len(next(pages))] == [10, 5]
    with pytest.raises(wfpsa.EngineTimeout, match="IPsecSaContextDestroyEnumHandle0"):
        next(pages)
    engine.close()
    assert testing.live_counters()["enum_handles"] == 0


def test_the_first_error_is_the_one_that_is_told(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(15)
    for listing in (engine.snapshot, lambda: list(engine.pages(page_size=10))):
        embedded.fail("IPsecSaContextEnum1", 1, FWP_E_TIMEOUT)
        embedded.fail("IPsecSaContextDestroyEnumHandle0", 1, FWP_E_SESSION_ABORTED)
        with pytest.raises(wfpsa.EngineTimeout, match="IPsecSaContextEnum1"):
            listing()


def test_a_call_that_fails_once_more_after_a_refused_template_is_raised(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(15)
    embedded.fail("IPsecSaContextCreateEnumHandle0", 1, 0x80320033)
    embedded.fail("IPsecSaContextEnum1", 1, FWP_E_TIMEOUT)
    with pytest.raises(wfpsa.EngineTimeout):
        engine.snapshot(remote="10.0.0.0/8")
    assert testing.live_counters()["enum_handles"] == 0


def test_a_failing_close_of_an_engine_that_is_dropped_is_told_to_nobody(embedded: testing.EmbeddedEngine) -> None:
    engine = embedded.open()
    embedded.fail("FwpmEngineClose0", 1, FWP_E_SESSION_ABORTED)
    del engine
    assert testing.live_counters()["engines"] == 0


# --- Allocations ----------------------------------------------------------------------------------


def test_an_expiry_without_memory_is_a_failed_outcome_and_can_be_repeated(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(400)
    held = engine.pages(page_size=1, prefetch=False)
    next(held)  # an open enumeration: each expiry keeps the version that it may still want
    failures = 0
    for context in list(engine.snapshot()):
        for nth in itertools.count(1):
            testing.fail_allocation(nth)
            report = engine.expire([context])
            testing.fail_allocation(0)
            if report.outcome[0] is wfpsa.Outcome.EXPIRED:
                break
            assert (report.outcome[0], report.code[0]) == (wfpsa.Outcome.FAILED, NOT_ENOUGH_MEMORY)
            assert engine.get(context.context_id) == context
            failures += 1
    assert failures > 0
    assert engine.snapshot()["has_outbound"].count(True) == 0
    assert sum(page["has_outbound"].count(True) for page in held) > 300
    embedded.advance(60)
    assert len(embedded) == 0


def test_a_deletion_without_memory_changes_nothing_and_can_be_repeated(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(200)
    held = engine.pages(page_size=1, prefetch=False)
    next(held)  # an open enumeration: what is deleted is kept for it
    failures = 0
    for at, context in enumerate(list(engine.snapshot())):
        testing.fail_allocation(1)
        try:
            engine.delete(context.context_id)
        except wfpsa.WfpError as error:
            assert out_of_memory(error)
            failures += 1
            testing.fail_allocation(0)  # where the engine is a library of its own, only one of the two has failed
            assert len(embedded) == 200 - at and engine.get(context.context_id) == context
            engine.delete(context.context_id)
        finally:
            testing.fail_allocation(0)
        assert len(embedded) == 199 - at
    assert failures > 0
    assert sum(len(page) for page in held) == 199
