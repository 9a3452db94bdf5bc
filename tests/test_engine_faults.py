"""Faults: any OS call or allocation of an engine's operations may fail, and then nothing is lost, partial or leaked."""

import itertools
import pickle
from collections.abc import Callable

import pytest
from support import FWP_E_SESSION_ABORTED, FWP_E_TIMEOUT, NOT_ENOUGH_MEMORY, out_of_memory, values, walk_allocations

import wfpsa
from wfpsa import testing

CODES: dict[int, type[wfpsa.WfpError]] = {
    5: wfpsa.AccessDenied,
    NOT_ENOUGH_MEMORY: wfpsa.WfpError,
    FWP_E_TIMEOUT: wfpsa.EngineTimeout,
    FWP_E_SESSION_ABORTED: wfpsa.SessionAborted,
    0x80320008: wfpsa.NotFound,
    1702: wfpsa.SessionAborted,
    1722: wfpsa.SessionAborted,
    1726: wfpsa.SessionAborted,
    1753: wfpsa.WfpError,
    0x80320035: wfpsa.WfpError,
    0xFFFFFFFF: wfpsa.WfpError,
}
OPERATIONS: dict[str, tuple[int, Callable[[wfpsa.Engine, int], object]]] = {
    # OS function: how often a listing of 50 contexts by 10 calls it (its last page is empty), and what calls it
    "IPsecSaContextCreateEnumHandle0": (1, lambda engine, _: engine.snapshot(page_size=10)),
    "IPsecSaContextEnum1": (6, lambda engine, _: engine.snapshot(page_size=10)),
    "IPsecSaContextEnum0": (6, lambda engine, _: engine.snapshot(page_size=10, version=0)),
    "IPsecSaContextDestroyEnumHandle0": (1, lambda engine, _: engine.snapshot(page_size=10)),
    "IPsecSaContextGetById1": (1, lambda engine, number: engine.get(number)),
    "IPsecSaContextGetById0": (1, lambda engine, number: engine.get(number, version=0)),
    "IPsecSaContextDeleteById0": (1, lambda engine, number: engine.delete(number)),
}


# --- OS calls -------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", OPERATIONS)
def test_a_failing_call_raises_its_class_and_the_engine_stays_usable(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, function: str
) -> None:
    embedded.seed(50, odd=True)
    whole = values(engine.snapshot())
    number = engine.snapshot()[20].context_id
    calls, operation = OPERATIONS[function]
    for code, kind in CODES.items():
        for nth in itertools.count(1):
            embedded.fail(function, nth, code)
            try:
                operation(engine, number)
            except wfpsa.WfpError as error:
                assert type(error) is kind
                assert (error.code, error.function, error.winerror) == (code, function, code)
            else:
                break
            assert testing.live_counters()["pages"] == 0
            assert values(engine.snapshot()) == whole
        assert nth == calls + 1
        embedded.fail(function, 0)
        if function == "IPsecSaContextDeleteById0":
            break  # the id is gone now
    assert len(embedded) == 50 - (function == "IPsecSaContextDeleteById0")


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


def test_a_failing_open_raises_and_leaves_nothing(embedded: testing.EmbeddedEngine) -> None:
    unavailable = {1722, 1753, 1764, 1058}
    for code in (5, FWP_E_TIMEOUT, 0x80320009, 12345, *unavailable):
        embedded.fail("FwpmEngineOpen0", 1, code)
        before = testing.live_counters()
        with pytest.raises(wfpsa.WfpError) as caught:
            embedded.open()
        expected = wfpsa.EngineUnavailable if code in unavailable else CODES.get(code, wfpsa.WfpError)
        assert type(caught.value) is expected
        assert (caught.value.code, caught.value.function) == (code, "FwpmEngineOpen0")
        del caught
        assert testing.live_counters() == before
        with embedded.open() as engine:
            assert len(engine.snapshot()) == 0


def test_a_failing_close_is_raised_once_and_the_engine_is_closed(embedded: testing.EmbeddedEngine) -> None:
    engine = embedded.open()
    embedded.fail("FwpmEngineClose0", 1, FWP_E_SESSION_ABORTED)
    with pytest.raises(wfpsa.SessionAborted, match="FwpmEngineClose0"):
        engine.close()
    engine.close()
    with pytest.raises(wfpsa.EngineClosed):
        engine.snapshot()
    assert testing.live_counters()["engines"] == 0
    engine = embedded.open()
    embedded.fail("FwpmEngineClose0", 1, FWP_E_SESSION_ABORTED)
    del engine  # nothing is raised, nobody could catch it
    assert testing.live_counters()["engines"] == 0


# --- Allocations ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 1])
def test_every_allocation_of_a_snapshot_may_fail(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, version: int
) -> None:
    embedded.seed(90, odd=True)
    expected = values(engine.snapshot(version=version))
    batch, failures = walk_allocations(lambda: engine.snapshot(version=version, page_size=40))
    assert values(batch) == expected and failures > 70
    batch, failures = walk_allocations(lambda: engine.snapshot(remote="10.0.0.0/8", page_size=100))
    assert len(batch) > 0 and failures > 70


def test_every_allocation_of_a_listing_by_pages_may_fail(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(30, odd=True)
    parts, failures = walk_allocations(lambda: [len(page) for page in engine.pages(page_size=20)])
    assert parts == [20, 10] and failures > 140


@pytest.mark.parametrize("version", [0, 1])
def test_every_allocation_of_get_may_fail(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, version: int) -> None:
    embedded.seed(10)
    context = engine.snapshot(version=version)[3]
    found, failures = walk_allocations(lambda: engine.get(context.context_id, version=version))
    assert found == context and failures > 70


def test_every_allocation_of_take_slices_detach_and_pickling_may_fail() -> None:
    with wfpsa.open_engine("embedded:?contexts=40&odd=1") as engine:
        batch = engine.snapshot()
    pickled = pickle.dumps(batch)
    for action in (
        lambda: batch.take([1, 2]),
        lambda: batch[5].detach(),
        lambda: pickle.dumps(batch[::3]),
        lambda: pickle.loads(pickled),
    ):
        assert walk_allocations(action)[1] > 60
    assert list(pickle.loads(pickled)) == list(batch)


def test_every_allocation_of_an_arrow_export_may_fail() -> None:
    pa = pytest.importorskip("pyarrow")
    with wfpsa.open_engine("embedded:?contexts=40&odd=1") as engine:
        batch = engine.snapshot()
    for source in (batch, batch[::2], batch.arrow(addresses="text", enums="name")):
        table, failures = walk_allocations(lambda source=source: pa.table(source))
        table.validate(full=True)
        assert failures > 150
        assert walk_allocations(lambda source=source: pa.schema(source))[1] > 70


def test_every_allocation_of_opening_may_fail() -> None:
    def session() -> int:
        with wfpsa.open_engine("embedded:?contexts=30&odd=1&seed=5") as engine:
            return engine.snapshot()["context_id"][29]

    number, failures = walk_allocations(session)
    assert number > 2**32 and failures > 100


def test_every_allocation_of_seeding_may_fail_and_a_failed_seeding_adds_nothing(
    embedded: testing.EmbeddedEngine,
) -> None:
    def seed() -> None:
        before = len(embedded)
        try:
            embedded.seed(300, 1, odd=True)
        except MemoryError:
            assert len(embedded) == before
            raise

    _, failures = walk_allocations(seed, keeps=("allocations",))
    assert len(embedded) == 300 and failures > 100
    with embedded.open() as engine, wfpsa.open_engine("embedded:?contexts=300&seed=1&odd=1") as other:
        found, expected = engine.snapshot(), other.snapshot()
        for name in ("spi_in", "spi_out", "remote_address", "main_mode_target_out"):
            assert sorted(map(repr, found[name])) == sorted(map(repr, expected[name]))


def test_an_expiry_without_memory_is_a_failed_outcome_and_can_be_repeated(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(400)
    held = engine.pages(page_size=1)
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
    held = engine.pages(page_size=1)
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


def test_closing_needs_no_memory(embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(10)
    engine = embedded.open()
    pages = engine.pages(page_size=3)
    next(pages)
    testing.fail_allocation(1)
    engine.close()
    del pages
    testing.fail_allocation(0)
    assert testing.live_counters()["engines"] == testing.live_counters()["enum_handles"] == 0
