"""The service stops and starts: sessions from before stay dead, and reads of an engine that reconnects begin anew."""

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from support import FWP_E_SESSION_ABORTED, FWP_E_TIMEOUT, run_python, values

import wfpsa
from wfpsa import Outcome, Sa, SaBundle, Traffic, testing

LOST = (FWP_E_SESSION_ABORTED, 1702, 1722, 1726, 1727, 1777)
TRAFFIC = Traffic("10.9.0.1", "10.9.0.2")
BUNDLE = SaBundle(sas=Sa(spi=5), qm_sa_id=1)


@pytest.fixture
def reconnecting(embedded: testing.EmbeddedEngine) -> Iterator[wfpsa.Engine]:
    """An open engine that replaces a dead session for reads."""
    with embedded.open(reconnect=True) as opened:
        yield opened


def transact(engine: wfpsa.Engine, *, read_only: bool) -> None:
    with engine.transaction(read_only=read_only):
        pass


READS: dict[str, Callable[[wfpsa.Engine, int], Any]] = {
    "snapshot": lambda engine, number: values(engine.snapshot(page_size=7)),
    "snapshot of version 0": lambda engine, number: values(engine.snapshot(version=0)),
    "snapshot of a subnet": lambda engine, number: values(engine.snapshot(remote="10.0.0.0/8")),
    "pages": lambda engine, number: [values(page) for page in engine.pages()],
    "get": lambda engine, number: engine.get(number),
    "get of version 0": lambda engine, number: engine.get(number, version=0),
    "statistics": lambda engine, number: engine.statistics(),
}
OTHERS: dict[str, Callable[[wfpsa.Engine, int], Any]] = {
    "delete": lambda engine, number: engine.delete(number),
    "create": lambda engine, number: engine.create(TRAFFIC),
    "get_spi": lambda engine, number: engine.get_spi(number, TRAFFIC),
    "set_spi": lambda engine, number: engine.set_spi(number, TRAFFIC, 5),
    "add_inbound": lambda engine, number: engine.add_inbound(number, BUNDLE),
    "add_outbound": lambda engine, number: engine.add_outbound(number, BUNDLE),
    "update": lambda engine, number: engine.update(number, "outbound", nap_context=5),
    "subscribe": lambda engine, number: engine.subscribe(),
    "transaction": lambda engine, number: transact(engine, read_only=False),
    "transaction that reads": lambda engine, number: transact(engine, read_only=True),
    "expire": lambda engine, number: engine.expire([number]).raise_for_failures(),
}
CALLS = READS | OTHERS


def spis(batch: wfpsa.SaBatch) -> list[object]:
    return batch["spi_out"].tolist()


# --- Dead sessions --------------------------------------------------------------------------------


def test_every_call_of_an_engine_from_before_a_restart_raises_session_aborted_for_ever(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    embedded.switch(contexts_after_restart="kept")
    embedded.seed(30)
    begun = engine.pages(page_size=10, prefetch=False)
    next(begun)
    subscription = engine.subscribe()
    embedded.restart_service()
    with embedded.open() as other:
        number = other.snapshot()[3].context_id
        before = values(other.snapshot())
        with pytest.raises(wfpsa.SessionAborted, match="IPsecSaContextUnsubscribe0"):
            subscription.close()
        for _ in range(3):
            for name, call in CALLS.items():
                with pytest.raises(wfpsa.WfpError) as caught:
                    call(engine, number)
                kind = wfpsa.ExpiryFailed if name == "expire" else wfpsa.SessionAborted
                assert (type(caught.value), caught.value.code) == (kind, FWP_E_SESSION_ABORTED), name
            subscription.close()  # it has ended here, with the session
        with pytest.raises(wfpsa.SessionAborted, match="IPsecSaContextEnum1"):
            next(begun)
        assert engine.expire([number, number]).outcome.tolist() == [Outcome.FAILED, Outcome.NOT_ATTEMPTED]
        assert values(other.snapshot()) == before
        assert engine.reconnects == 0
    engine.close()
    assert subscription.get() is None


@pytest.mark.parametrize("code", [FWP_E_SESSION_ABORTED, 1722, 1726])
def test_while_the_service_is_stopped_calls_give_its_code_and_nobody_can_open(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, code: int
) -> None:
    embedded.seed(5)
    number = engine.snapshot()[0].context_id
    embedded.stop_service(code)
    embedded.stop_service(5)  # it is already stopped
    for name, call in CALLS.items():
        with pytest.raises(wfpsa.WfpError) as caught:
            call(engine, number)
        assert caught.value.code == code, name
        assert isinstance(caught.value, wfpsa.SessionAborted | wfpsa.ExpiryFailed)
    for opening in (embedded.open, lambda: wfpsa.open_engine(embedded.target, reconnect=True), engine.reopen):
        with pytest.raises(wfpsa.EngineUnavailable, match="Base Filtering Engine") as unavailable:
            opening()
        assert (unavailable.value.code, unavailable.value.function) == (1753, "FwpmEngineOpen0")
    embedded.start_service()
    embedded.start_service()
    with pytest.raises(wfpsa.SessionAborted):
        engine.snapshot()
    assert len(embedded) == 0


def test_an_engine_that_reconnects_says_that_there_is_none_while_the_service_is_stopped(
    embedded: testing.EmbeddedEngine, reconnecting: wfpsa.Engine
) -> None:
    embedded.stop_service()
    for call in READS.values():
        with pytest.raises(wfpsa.EngineUnavailable):
            call(reconnecting, 1)
    assert reconnecting.reconnects == 0
    embedded.start_service()
    embedded.seed(4)
    assert len(reconnecting.snapshot()) == 4 and reconnecting.reconnects == 1


# --- reopen ---------------------------------------------------------------------------------------


def test_reopen_begins_afresh_and_ends_what_was_open_in_the_old_session(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    for restarted in (False, True):
        embedded.seed(20)
        begun = engine.pages(page_size=5, prefetch=False)
        next(begun)
        subscription = engine.subscribe()
        opened = engine.transaction(read_only=True)
        opened.__enter__()
        if restarted:
            embedded.restart_service()
            embedded.seed(20, 3)
        engine.reopen()
        alive = testing.live_counters()
        assert [alive[name] for name in ("engines", "enum_handles", "subscriptions", "transactions")] == [1, 0, 0, 0]
        with pytest.raises(wfpsa.EngineClosed):
            next(begun)
        assert subscription.get() is None and list(subscription) == []
        subscription.close()
        with pytest.raises(wfpsa.EngineClosed):
            opened.__exit__(None, None, None)
        assert len(engine.snapshot()) == 20
        with engine.subscribe() as again, engine.transaction(read_only=True):
            assert again.get(0) is None
        assert engine.reconnects == 0 and engine.target == embedded.target


def test_a_failing_reopen_leaves_the_old_session_as_it_was(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    embedded.seed(20)
    begun = engine.pages(page_size=15, prefetch=False)
    next(begun)
    embedded.fail("FwpmEngineOpen0", 1, 5)
    with pytest.raises(wfpsa.AccessDenied):
        engine.reopen()
    assert [len(page) for page in begun] == [5]
    assert len(engine.snapshot()) == 20


def test_a_closed_engine_is_not_reopened(embedded: testing.EmbeddedEngine) -> None:
    for reconnect in (False, True):
        engine = embedded.open(reconnect=reconnect)
        engine.close()
        with pytest.raises(wfpsa.EngineClosed):
            engine.reopen()
        for name, call in CALLS.items():
            with pytest.raises(wfpsa.EngineClosed):
                call(engine, 1)
            assert engine.reconnects == 0, name
        assert testing.live_counters()["engines"] == 0


# --- Reads that begin anew ------------------------------------------------------------------------


@pytest.mark.parametrize("name", READS)
def test_a_read_after_a_restart_shows_all_of_the_new_contents_and_nothing_of_the_old(
    embedded: testing.EmbeddedEngine, reconnecting: wfpsa.Engine, name: str
) -> None:
    embedded.seed(40, 1)
    for turn in range(1, 4):
        embedded.restart_service()
        embedded.seed(25, turn + 1)
        with embedded.open() as other:
            number = other.snapshot()[7].context_id
            expected = READS[name](other, number)
        assert READS[name](reconnecting, number) == expected
        assert reconnecting.reconnects == turn
        assert testing.live_counters()["engines"] == 1


@pytest.mark.parametrize("code", LOST)
@pytest.mark.parametrize("version", [0, 1])
def test_a_snapshot_that_loses_its_session_at_any_call_begins_anew_as_a_whole(
    embedded: testing.EmbeddedEngine, reconnecting: wfpsa.Engine, version: int, code: int
) -> None:
    embedded.seed(45, odd=True)
    expected = values(reconnecting.snapshot(version=version))
    functions = {"IPsecSaContextCreateEnumHandle0": 1, f"IPsecSaContextEnum{version}": 5}
    functions["IPsecSaContextDestroyEnumHandle0"] = 1
    reconnects = 0
    for function, calls in functions.items():
        for nth in range(1, calls + 1):
            embedded.fail(function, nth, code)
            assert values(reconnecting.snapshot(version=version, page_size=10)) == expected
            reconnects += 1
            assert reconnecting.reconnects == reconnects
            assert testing.live_counters()["enum_handles"] == 0


def test_other_errors_than_a_lost_session_are_raised_at_once(
    embedded: testing.EmbeddedEngine, reconnecting: wfpsa.Engine
) -> None:
    embedded.seed(5)
    for code in (5, FWP_E_TIMEOUT, 8, 87, 1723, 1753, 0xFFFFFFFF):
        embedded.fail("IPsecSaContextEnum1", 1, code)
        with pytest.raises(wfpsa.WfpError) as caught:
            reconnecting.snapshot()
        assert caught.value.code == code
    with pytest.raises(wfpsa.NotFound):
        reconnecting.get(1)
    assert reconnecting.reconnects == 0


def test_without_reconnect_nothing_is_begun_anew(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.seed(5)
    for code in LOST:
        embedded.fail("IPsecSaContextEnum1", 1, code)
        with pytest.raises(wfpsa.SessionAborted):
            engine.snapshot()
        assert len(engine.snapshot()) == 5  # the planned failure did not kill this one
    assert engine.reconnects == 0 and not engine.reconnect


def test_pages_that_lose_their_session_in_the_middle_raise_and_are_never_stitched(
    embedded: testing.EmbeddedEngine, reconnecting: wfpsa.Engine
) -> None:
    embedded.seed(40, 1)
    for came in (1, 2, 3):
        pages = reconnecting.pages(page_size=10, prefetch=False)
        old = [spis(next(pages)) for _ in range(came)]
        assert [len(page) for page in old] == [10] * came
        embedded.restart_service()
        embedded.seed(40, came + 1)
        with pytest.raises(wfpsa.SessionAborted, match="IPsecSaContextEnum1"):
            next(pages)
        assert list(pages) == []
        assert reconnecting.reconnects == came - 1
        fresh = [number for page in reconnecting.pages(page_size=10) for number in spis(page)]
        assert fresh == spis(reconnecting.snapshot())
        assert reconnecting.reconnects == came
        assert testing.live_counters()["enum_handles"] == 0


def test_pages_whose_session_another_read_has_replaced_raise_too(
    embedded: testing.EmbeddedEngine, reconnecting: wfpsa.Engine
) -> None:
    embedded.seed(40, 1)
    pages = reconnecting.pages(page_size=10, prefetch=False)
    next(pages)
    embedded.restart_service()
    embedded.seed(40, 2)
    assert len(reconnecting.snapshot()) == 40
    with pytest.raises(wfpsa.EngineClosed):
        next(pages)


def test_a_service_that_restarts_between_the_pages_of_a_snapshot_is_never_seen_in_the_result(
    embedded: testing.EmbeddedEngine, reconnecting: wfpsa.Engine
) -> None:
    """Another thread replaces all contents while pages are read; it is repeated until that fell between two of them."""
    embedded.latency(per_call_us=300)
    seeds = itertools.count(1)
    for _ in range(200):
        embedded.restart_service()
        embedded.seed(60, next(seeds))
        with embedded.open() as other:
            old = spis(other.snapshot())
        reconnecting.reopen()
        before = reconnecting.reconnects
        over = threading.Event()
        new: list[list[object]] = []

        def replace(over: threading.Event = over, new: list[list[object]] = new, seed: int = next(seeds)) -> None:
            while testing.live_counters()["enum_handles"] == 0 and not over.wait(0.0005):
                pass
            embedded.restart_service()
            embedded.seed(55, seed)
            with embedded.open() as other:
                new.append(spis(other.snapshot()))

        worker = threading.Thread(target=replace, daemon=True)
        worker.start()
        found = spis(reconnecting.snapshot(page_size=1))
        over.set()
        worker.join(60)
        assert not worker.is_alive()
        assert found in (old, new[0], [])  # the moment between the start and the seeding is a moment too
        if reconnecting.reconnects > before and found == new[0]:
            return
    raise AssertionError("the restart never fell between two pages")


# --- What is never repeated -----------------------------------------------------------------------


def calls_made(embedded: testing.EmbeddedEngine, function: str, act: Callable[[], None], one: Callable[[], Any]) -> int:
    """How often `act` calls that OS function, `one` being a single call of it."""
    embedded.fail(function, 50, 0x12345)
    act()
    for left in itertools.count(1):
        with suppress(wfpsa.NotFound):
            try:
                one()
            except wfpsa.WfpError as error:
                if error.code == 0x12345:
                    return 50 - left
                raise
    raise AssertionError("unreachable")


REPEATABLE: dict[str, tuple[str, Callable[[wfpsa.Engine], Any]]] = {
    "delete": ("IPsecSaContextDeleteById0", lambda engine: engine.delete(1)),
    "create": ("IPsecSaContextCreate1", lambda engine: engine.create(TRAFFIC)),
    "get_spi": ("IPsecSaContextGetSpi1", lambda engine: engine.get_spi(1, TRAFFIC)),
    "set_spi": ("IPsecSaContextSetSpi0", lambda engine: engine.set_spi(1, TRAFFIC, 5)),
    "add_inbound": ("IPsecSaContextAddInbound1", lambda engine: engine.add_inbound(1, BUNDLE)),
    "add_outbound": ("IPsecSaContextAddOutbound1", lambda engine: engine.add_outbound(1, BUNDLE)),
    "update": ("IPsecSaContextUpdate0", lambda engine: engine.update(1, "outbound", nap_context=5)),
    "subscribe": ("IPsecSaContextSubscribe0", lambda engine: engine.subscribe().close()),
    "transaction": ("FwpmTransactionBegin0", lambda engine: transact(engine, read_only=False)),
}


@pytest.mark.parametrize("name", REPEATABLE)
def test_a_call_that_changes_something_is_made_once_and_its_session_is_not_replaced(
    embedded: testing.EmbeddedEngine, reconnecting: wfpsa.Engine, name: str
) -> None:
    function, call = REPEATABLE[name]
    embedded.restart_service()

    def act() -> None:
        with pytest.raises(wfpsa.SessionAborted, match=function):
            call(reconnecting)

    with embedded.open() as other:
        assert calls_made(embedded, function, act, lambda: call(other)) == 1
    assert reconnecting.reconnects == 0
    reconnecting.snapshot()
    assert reconnecting.reconnects == 1


def test_ids_of_a_mass_expiry_are_expired_once_and_the_rest_is_not_attempted(
    embedded: testing.EmbeddedEngine, reconnecting: wfpsa.Engine
) -> None:
    embedded.seed(30)
    ids = [context.context_id for context in reconnecting.snapshot() if context.inbound and context.outbound][:20]
    embedded.fail("IPsecSaContextExpire0", 8, FWP_E_SESSION_ABORTED)
    report = reconnecting.expire(ids)
    assert report.outcome.tolist() == [Outcome.EXPIRED] * 7 + [Outcome.FAILED] + [Outcome.NOT_ATTEMPTED] * 12
    assert [reconnecting.get(number).has_outbound for number in ids] == [False] * 7 + [True] * 13
    assert reconnecting.reconnects == 0
    embedded.restart_service()

    def act() -> None:
        assert reconnecting.expire(ids).counts[Outcome.NOT_ATTEMPTED] == 19

    with embedded.open() as other:
        made = calls_made(embedded, "IPsecSaContextExpire0", act, lambda: other.expire([1]).raise_for_failures())
        assert made == 1


def test_a_transaction_that_lost_its_session_is_not_continued_in_another(
    embedded: testing.EmbeddedEngine, reconnecting: wfpsa.Engine
) -> None:
    for read_only in (False, True):
        lost = pytest.raises(wfpsa.SessionAborted, match="IPsecSaContextCreateEnumHandle0")
        with lost, reconnecting.transaction(read_only=read_only):
            embedded.restart_service()
            reconnecting.snapshot()
        before = reconnecting.reconnects
        assert len(reconnecting.snapshot()) == 0
        assert reconnecting.reconnects == before + 1
        lost = pytest.raises(wfpsa.SessionAborted, match="FwpmTransactionCommit0")
        with lost, reconnecting.transaction(read_only=read_only):
            embedded.restart_service()
        reconnecting.reopen()


def test_the_end_of_a_transaction_from_before_a_reopen_leaves_the_present_one(
    embedded: testing.EmbeddedEngine, reconnecting: wfpsa.Engine
) -> None:
    earlier = reconnecting.transaction()
    earlier.__enter__()
    reconnecting.reopen()
    with pytest.raises(wfpsa.SessionAborted, match="IPsecSaContextCreateEnumHandle0"), reconnecting.transaction():
        with pytest.raises(wfpsa.EngineClosed):
            earlier.__exit__(None, None, None)
        embedded.restart_service()
        reconnecting.snapshot()


# --- A service that dies again and again ----------------------------------------------------------


def test_a_read_gives_up_after_a_bounded_number_of_new_sessions(
    embedded: testing.EmbeddedEngine, reconnecting: wfpsa.Engine
) -> None:
    connect = reconnecting._connect
    assert connect is not None
    deaths = 0

    def connect_and_die() -> Any:
        nonlocal deaths
        session = connect()
        if deaths:
            deaths -= 1
            embedded.restart_service()
            embedded.seed(3, deaths)
        return session

    reconnecting._connect = connect_and_die
    for name, call in READS.items():
        for tolerated in (0, 1, 2):
            reconnecting.reopen()
            deaths, before = tolerated, reconnecting.reconnects
            embedded.restart_service()
            embedded.add(context_id=7)
            if "get" in name and tolerated:
                with pytest.raises(wfpsa.NotFound):  # the last restart took it
                    call(reconnecting, 7)
            else:
                call(reconnecting, 7)
            assert (deaths, reconnecting.reconnects) == (0, before + tolerated + 1), name
        deaths, before = 100, reconnecting.reconnects
        embedded.restart_service()
        with pytest.raises(wfpsa.SessionAborted):
            call(reconnecting, 7)
        assert (deaths, reconnecting.reconnects) == (97, before + 3)
        deaths = 0
        assert testing.live_counters()["engines"] == 1


def test_a_read_whose_session_others_replace_again_and_again_does_not_say_that_the_engine_is_closed(
    embedded: testing.EmbeddedEngine,
) -> None:
    for reconnect, attempts in ((False, 1), (True, 4)):
        with embedded.open(reconnect=reconnect) as engine:
            made = 0

            def replaced(session: Any, engine: wfpsa.Engine = engine) -> object:
                nonlocal made
                made += 1
                engine.reopen()  # as another thread would
                return session.statistics()

            with pytest.raises(wfpsa.SessionAborted, match="another thread has replaced the session"):
                engine._read(replaced)
            assert (made, engine.reconnects) == (attempts, 0)
            assert len(engine.snapshot()) == 0
            del replaced


def test_threads_that_read_while_the_service_restarts_see_whole_contents_of_one_time(
    embedded: testing.EmbeddedEngine, reconnecting: wfpsa.Engine
) -> None:
    embedded.seed(50, 0)
    populations = [spis(reconnecting.snapshot())]
    for seed in range(1, 12):
        embedded.restart_service()
        embedded.seed(50, seed)
        with embedded.open() as other:
            populations.append(spis(other.snapshot()))
    embedded.latency(per_call_us=100)
    barrier = threading.Barrier(6)
    over = threading.Event()

    def read(number: int) -> None:
        barrier.wait(60)
        while not over.is_set():
            # Stopped at this moment; or it lost more sessions in one read than are replaced.
            with suppress(wfpsa.EngineUnavailable, wfpsa.SessionAborted):
                found = spis(reconnecting.snapshot(page_size=3 + number))
                assert found == [] or found in populations
                active = reconnecting.statistics().active_sas
                assert active == 0 or active > 50

    with ThreadPoolExecutor(5) as pool:
        readers = [pool.submit(read, number) for number in range(5)]
        try:
            barrier.wait(60)
            for seed in range(12):
                embedded.restart_service()
                embedded.seed(50, seed)
                with embedded.open() as other:
                    assert len(other.snapshot()) == 50
        finally:
            over.set()
        for reader in readers:
            reader.result(60)
    assert spis(reconnecting.snapshot()) == populations[11]
    alive = testing.live_counters()
    assert (alive["engines"], alive["enum_handles"], alive["pages"]) == (1, 0, 0)
    assert reconnecting.reconnects >= 1


def test_an_engine_that_is_closed_while_a_read_reconnects_stays_closed(
    embedded: testing.EmbeddedEngine, reconnecting: wfpsa.Engine
) -> None:
    connect = reconnecting._connect
    assert connect is not None
    reached, go_on = threading.Event(), threading.Event()

    def slowly() -> Any:
        reached.set()
        assert go_on.wait(60)
        return connect()

    reconnecting._connect = slowly
    embedded.restart_service()
    with ThreadPoolExecutor(2) as pool:
        reading = pool.submit(lambda: len(reconnecting.snapshot()))
        assert reached.wait(60)
        closing = pool.submit(reconnecting.close)
        go_on.set()
        closing.result(60)
        with suppress(wfpsa.EngineClosed):  # it may have been done before that
            assert reading.result(60) == 0
    assert testing.live_counters()["engines"] == testing.live_counters()["enum_handles"] == 0
    with pytest.raises(wfpsa.EngineClosed):
        reconnecting.snapshot()
    with pytest.raises(wfpsa.EngineClosed):
        reconnecting.reopen()


FORKED = """
import os
import wfpsa
from wfpsa import testing

def refused(call):
    try:
        call()
    except wfpsa.EngineClosed as error:
        return "another process" in str(error)
    return False

control = testing.EmbeddedEngine()
control.seed(20)
engine = control.open(reconnect=True)
number = engine.snapshot()[0].context_id
subscription = engine.subscribe()
child = os.fork()
if child == 0:
    calls = [
        engine.snapshot,
        lambda: list(engine.pages()),
        lambda: engine.get(number),
        engine.statistics,
        engine.reopen,
        engine.subscribe,
        subscription.get,
        lambda: engine.expire([number]),
        lambda: engine.transaction().__enter__(),
    ]
    right = all([refused(call) for call in calls]) and engine.reconnects == 0
    subscription.close()
    engine.close()
    right = right and refused(engine.snapshot) and refused(engine.reopen)
    with wfpsa.open_engine("embedded:?contexts=3", reconnect=True) as own:
        right = right and len(own.snapshot()) == 3
    os._exit(0 if right else 1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0
control.restart_service()
control.seed(5)
assert len(engine.snapshot()) == 5 and engine.reconnects == 1
engine.close()
print("fine")
"""


@pytest.mark.fork
def test_in_a_forked_child_nothing_is_reconnected_and_the_parent_goes_on() -> None:
    assert run_python(FORKED) == "fine\n"
