"""Explicit transactions: who waits for whom, what is refused inside, and how they end."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support import FWP_E_TIMEOUT, values

import wfpsa
from wfpsa import Outcome, Sa, SaBundle, Traffic, testing

NO_TXN_IN_PROGRESS = 0x8032000D
TXN_IN_PROGRESS = 0x8032000E
TXN_ABORTED = 0x8032000F
INCOMPATIBLE_TXN = 0x80320011
TRAFFIC = Traffic("10.6.0.1", "10.6.0.2")

READS: dict[str, Callable[[wfpsa.Engine, int], Any]] = {
    "snapshot": lambda engine, number: values(engine.snapshot(page_size=4)),
    "pages": lambda engine, number: [len(page) for page in engine.pages(page_size=4)],
    "get": lambda engine, number: engine.get(number),
}
CHANGES: dict[str, Callable[[wfpsa.Engine, int], Any]] = {
    "expire": lambda engine, number: engine.expire([number]).raise_for_failures(),
    "get_spi": lambda engine, number: engine.get_spi(number, TRAFFIC),
    "set_spi": lambda engine, number: engine.set_spi(number, TRAFFIC, 5),
    "add_inbound": lambda engine, number: engine.add_inbound(number, SaBundle(sas=Sa(spi=5))),
    "add_outbound": lambda engine, number: engine.add_outbound(number, SaBundle(sas=Sa(spi=5))),
    "update": lambda engine, number: engine.update(number, "outbound", nap_context=5),
}
REFUSED: dict[str, Callable[[wfpsa.Engine, int], Any]] = {
    "create": lambda engine, number: engine.create(TRAFFIC),
    "delete": lambda engine, number: engine.delete(number),
    "subscribe": lambda engine, number: engine.subscribe(),
    "statistics": lambda engine, number: engine.statistics(),
    "transaction": lambda engine, number: engine.transaction().__enter__(),
    "transaction that reads": lambda engine, number: engine.transaction(read_only=True).__enter__(),
}
"""What the OS documents as refused in a transaction."""


@pytest.fixture
def impatient(embedded: testing.EmbeddedEngine) -> Iterator[wfpsa.Engine]:
    """Another session, which hardly waits for the lock; there are contexts."""
    embedded.seed(10)
    with embedded.open(lock_timeout=0.01) as opened:
        yield opened


def both_sided(engine: wfpsa.Engine) -> list[int]:
    return [context.context_id for context in engine.snapshot() if context.inbound and context.outbound]


def transactions() -> int:
    return testing.live_counters()["transactions"]


# --- Begin and end --------------------------------------------------------------------------------


@pytest.mark.parametrize("read_only", [False, True])
def test_a_transaction_lasts_as_long_as_its_block_however_that_ends(
    engine: wfpsa.Engine, impatient: wfpsa.Engine, read_only: bool
) -> None:
    for _ in range(3):
        with engine.transaction(read_only=read_only) as nothing:
            assert nothing is None and transactions() == 1
        assert transactions() == 0
        with pytest.raises(ZeroDivisionError), engine.transaction(read_only=read_only):
            raise ZeroDivisionError
        assert transactions() == 0
    assert impatient.expire(both_sided(impatient)[:1]).counts[Outcome.EXPIRED] == 1


def test_its_changes_are_there_after_the_commit(engine: wfpsa.Engine, impatient: wfpsa.Engine) -> None:
    number = both_sided(engine)[0]
    with engine.transaction():
        engine.update(number, "inbound", nap_context=77)
        assert engine.get(number).inbound.nap_context == 77
    assert impatient.get(number).inbound.nap_context == 77


def test_a_begin_that_fails_runs_no_block(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.fail("FwpmTransactionBegin0", 1, 5)
    ran = False
    with pytest.raises(wfpsa.AccessDenied, match="FwpmTransactionBegin0"), engine.transaction():
        ran = True
    assert not ran and transactions() == 0


def test_a_commit_that_fails_is_raised_and_leaves_no_transaction(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, impatient: wfpsa.Engine
) -> None:
    embedded.fail("FwpmTransactionCommit0", 1, FWP_E_TIMEOUT)
    with pytest.raises(wfpsa.EngineTimeout, match="FwpmTransactionCommit0"), engine.transaction():
        pass
    assert transactions() == 0
    assert len(impatient.snapshot()) == 10


def test_the_error_of_the_block_is_told_and_not_that_of_a_failing_abort(
    embedded: testing.EmbeddedEngine, impatient: wfpsa.Engine
) -> None:
    engine = embedded.open()
    embedded.fail("FwpmTransactionAbort0", 1, FWP_E_TIMEOUT)
    with pytest.raises(ZeroDivisionError), engine.transaction():
        raise ZeroDivisionError
    assert transactions() == 1  # nobody could end it
    with pytest.raises(wfpsa.EngineTimeout):
        impatient.snapshot()
    engine.close()
    assert transactions() == 0 and len(impatient.snapshot()) == 10


def test_an_engine_closed_or_reopened_in_its_block_has_no_transaction_any_more(
    embedded: testing.EmbeddedEngine, impatient: wfpsa.Engine
) -> None:
    engine = embedded.open()
    for end in (engine.reopen, engine.close):
        with pytest.raises(wfpsa.EngineClosed), engine.transaction():
            end()
            assert transactions() == 0
        assert len(impatient.snapshot()) == 10


def test_after_an_hour_the_engine_cancels_it_and_says_so_once(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, impatient: wfpsa.Engine
) -> None:
    embedded.switch(lifetimes="off")
    with pytest.raises(wfpsa.WfpError) as caught, engine.transaction():
        embedded.advance(3599)
        assert len(engine.snapshot()) == 10
        embedded.advance(1)
        engine.snapshot()
    assert (caught.value.code, caught.value.function) == (TXN_ABORTED, "IPsecSaContextCreateEnumHandle0")
    assert transactions() == 0
    assert len(engine.snapshot()) == len(impatient.snapshot()) == 10
    with pytest.raises(wfpsa.WfpError, match="FwpmTransactionCommit0: FWP_E_TXN_ABORTED"), engine.transaction():
        embedded.advance(3600)


def test_one_that_overstays_lets_go_of_those_who_wait(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.switch(lifetimes="off")
    embedded.seed(10)
    cancelled = pytest.raises(wfpsa.WfpError, match="FWP_E_TXN_ABORTED")
    with embedded.open() as other, ThreadPoolExecutor(1) as pool, cancelled, engine.transaction():
        waiting = pool.submit(lambda: len(other.snapshot()))
        embedded.advance(3600)
        assert waiting.result(60) == 10


# --- What is refused inside -----------------------------------------------------------------------


@pytest.mark.parametrize("read_only", [False, True])
def test_what_the_os_refuses_in_a_transaction_is_an_error_and_the_transaction_goes_on(
    engine: wfpsa.Engine, impatient: wfpsa.Engine, read_only: bool
) -> None:
    number = both_sided(engine)[0]
    with engine.transaction(read_only=read_only):
        for name, call in REFUSED.items():
            with pytest.raises(wfpsa.WfpError) as caught:
                call(engine, number)
            assert (type(caught.value), caught.value.code) == (wfpsa.WfpError, TXN_IN_PROGRESS), name
        assert transactions() == 1
        assert engine.get(number) == engine.get(number)
    assert len(impatient.snapshot()) == 10
    for name, call in REFUSED.items():
        if "transaction" not in name and name != "subscribe":
            call(engine, number)


def test_a_transaction_that_reads_refuses_changes(engine: wfpsa.Engine, impatient: wfpsa.Engine) -> None:
    number = both_sided(engine)[0]
    before = values(engine.snapshot())
    with engine.transaction(read_only=True):
        for name, call in CHANGES.items():
            with pytest.raises(wfpsa.WfpError) as caught:
                call(engine, number)
            assert caught.value.code == INCOMPATIBLE_TXN, name
        for call in READS.values():
            call(engine, number)
    assert values(engine.snapshot()) == before


def test_one_that_changes_allows_changes_and_reads(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    number = engine.create(TRAFFIC)
    with engine.transaction():
        spi = engine.get_spi(number, TRAFFIC)
        engine.set_spi(number, TRAFFIC, spi)
        engine.add_inbound(number, SaBundle(sas=Sa(spi=spi)))
        engine.add_outbound(number, SaBundle(sas=Sa(spi=9)))
        engine.update(number, "outbound", nap_context=5)
        assert engine.get(number).outbound.nap_context == 5
        engine.expire([number]).raise_for_failures()
        assert len(engine.snapshot()) == 1
    assert not engine.get(number).has_outbound


def test_a_subscription_is_not_ended_in_a_transaction_and_goes_on(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    subscription = engine.subscribe()
    dropped = engine.subscribe()
    with engine.transaction():
        with pytest.raises(wfpsa.WfpError, match="IPsecSaContextUnsubscribe0: FWP_E_TXN_IN_PROGRESS"):
            subscription.close()
        del dropped  # the engine has its callback still
    numbers = [embedded.add() for _ in range(100)]
    assert [subscription.get().context_id for _ in numbers] == numbers  # type: ignore[union-attr]
    assert testing.live_counters()["subscriptions"] == 2
    subscription.close()
    assert subscription.get() is None
    assert testing.live_counters()["subscriptions"] == 1
    engine.close()
    assert testing.live_counters()["subscriptions"] == 0


def test_beginning_one_needs_its_right(embedded: testing.EmbeddedEngine) -> None:
    for profile, may_read, may_write in (("everyone", False, False), ("read_only", True, False)):
        embedded.rights(profile)
        with embedded.open() as engine:
            for read_only, allowed in ((True, may_read), (False, may_write)):
                if allowed:
                    with engine.transaction(read_only=read_only):
                        engine.snapshot()
                else:
                    with pytest.raises(wfpsa.AccessDenied), engine.transaction(read_only=read_only):
                        pass
    assert transactions() == 0


# --- Who waits for whom ---------------------------------------------------------------------------


def test_one_that_changes_keeps_all_other_sessions_out_until_its_end(
    engine: wfpsa.Engine, impatient: wfpsa.Engine
) -> None:
    number = both_sided(engine)[0]
    every = READS | CHANGES | {name: call for name, call in REFUSED.items() if name != "subscribe"}
    with engine.transaction():
        for name, call in every.items():
            with pytest.raises(wfpsa.WfpError) as caught:
                call(impatient, number)
            assert caught.value.code == FWP_E_TIMEOUT, name
        with impatient.subscribe():  # waits for no lock
            pass
        assert engine.get(number).has_outbound
    assert impatient.get(number).has_outbound


def test_one_that_reads_keeps_out_those_who_change_and_nobody_else(
    engine: wfpsa.Engine, impatient: wfpsa.Engine
) -> None:
    number = both_sided(engine)[0]
    changes = CHANGES | {name: REFUSED[name] for name in ("create", "delete", "transaction")}
    with engine.transaction(read_only=True):
        for call in READS.values():
            call(impatient, number)
        impatient.statistics()
        with impatient.transaction(read_only=True):
            assert transactions() == 2
            assert impatient.get(number) == engine.get(number)
        for name, call in changes.items():
            with pytest.raises(wfpsa.WfpError) as caught:
                call(impatient, number)
            assert caught.value.code == FWP_E_TIMEOUT, name
    assert impatient.get(number).has_outbound


def test_whoever_waits_gets_its_turn_when_the_transaction_ends(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(20)
    ids = both_sided(engine)[:8]
    with ThreadPoolExecutor(8) as pool:
        others = [embedded.open(lock_timeout=60) for _ in ids]
        begun = threading.Barrier(9)

        def expire(other: wfpsa.Engine, number: int) -> wfpsa.Outcome:
            begun.wait(60)
            return other.expire([number]).outcome[0]

        with engine.transaction():
            waiting = [pool.submit(expire, other, number) for other, number in zip(others, ids, strict=True)]
            begun.wait(60)
            assert all(engine.get(number).has_outbound for number in ids)
        assert {each.result(60) for each in waiting} == {Outcome.EXPIRED}
        for other in others:
            other.close()
    assert not any(engine.get(number).has_outbound for number in ids)


def test_threads_that_share_a_session_share_its_transaction(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(5)
    with ThreadPoolExecutor(1) as pool, engine.transaction():
        assert pool.submit(lambda: len(engine.snapshot())).result(60) == 5
        with pytest.raises(wfpsa.WfpError, match="FWP_E_TXN_IN_PROGRESS"):
            pool.submit(engine.transaction().__enter__).result(60)
    assert transactions() == 0


def test_a_commit_or_abort_without_a_transaction_is_the_oss_error(engine: wfpsa.Engine) -> None:
    for step in ("commit", "abort"):
        with pytest.raises(wfpsa.WfpError) as caught:
            engine._session.transaction(step)
        assert caught.value.code == NO_TXN_IN_PROGRESS
