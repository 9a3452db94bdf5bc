"""Sessions of several threads: the transaction lock between them, sessions replaced, and the service restarted."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from support import Worker, begin_together, run_together

import wfpsa
from wfpsa import Outcome, Traffic, testing

NO_TXN_IN_PROGRESS = 0x8032000D
TXN_IN_PROGRESS = 0x8032000E


def wait_for_progress(counts: list[int], workers: list[Worker]) -> None:
    """Waits until each of the threads has begun something and done it, as its count says."""
    before = list(counts)
    while any(now < then + 2 for now, then in zip(counts, before, strict=True)):
        assert all(worker.is_alive() for worker in workers)
        time.sleep(0.001)


# --- The transaction lock -------------------------------------------------------------------------


def test_a_transaction_keeps_all_others_out_and_a_read_only_one_those_that_change(
    embedded: testing.EmbeddedEngine,
) -> None:
    embedded.seed(20)
    inside = {"writers": 0, "readers": 0}
    guard = threading.Lock()
    seen: list[tuple[int, int]] = []

    def note(kind: str, by: int) -> None:
        with guard:
            inside[kind] += by
            seen.append((inside["writers"], inside["readers"]))

    def work(read_only: bool) -> Callable[[], object]:
        def take_turns() -> None:
            kind = "readers" if read_only else "writers"
            with embedded.open(lock_timeout=60) as engine:
                for _ in range(25):
                    with engine.transaction(read_only=read_only):
                        note(kind, 1)
                        assert len(engine.snapshot(page_size=7)) == 20
                        note(kind, -1)

        return take_turns

    run_together(*[work(False)] * 3, *[work(True)] * 3)
    assert set(seen) <= {(0, 0), (1, 0), (0, 1), (0, 2), (0, 3)}
    assert testing.live_counters()["transactions"] == 0


def test_calls_of_other_sessions_come_before_or_after_a_transaction_as_a_whole(
    embedded: testing.EmbeddedEngine,
) -> None:
    ids = [embedded.add() for _ in range(60)]
    done = threading.Event()

    def change() -> None:
        with embedded.open(lock_timeout=60) as engine:
            for at in range(0, 60, 6):
                with engine.transaction():
                    for number in ids[at : at + 6]:
                        assert engine.expire([number]).counts[Outcome.EXPIRED] == 1
        done.set()

    def watch() -> None:
        with embedded.open(lock_timeout=60) as engine:
            while not done.is_set():
                expired = engine.snapshot()["has_outbound"].count(False)
                assert expired % 6 == 0

    run_together(change, watch, watch)


@pytest.mark.parametrize("end", ["commit", "abort", "close", "reopen", "hour"])
def test_the_end_of_a_transaction_lets_those_in_that_wait(embedded: testing.EmbeddedEngine, end: str) -> None:
    with ExitStack() as stack:
        holder, *waiting = (stack.enter_context(embedded.open(lock_timeout=60)) for _ in range(4))
        transaction = holder.transaction()
        transaction.__enter__()
        workers = begin_together(
            lambda: len(waiting[0].snapshot()),
            lambda: waiting[1].create(Traffic("10.0.0.1", "10.0.0.2")) > 0,
            lambda: waiting[2].expire([1]).outcome.tolist(),
        )
        if end == "commit":
            transaction.__exit__(None, None, None)
        elif end == "abort":
            transaction.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
        elif end == "hour":
            embedded.advance(3600)
        else:
            {"close": holder.close, "reopen": holder.reopen}[end]()
        count, created, outcome = (worker.finish() for worker in workers)
        assert count in (0, 1) and created is True and outcome == [Outcome.ALREADY_GONE]


def test_sessions_that_wait_too_long_give_up_and_leave_the_others_their_turn(
    embedded: testing.EmbeddedEngine,
) -> None:
    embedded.seed(5)
    with (
        embedded.open() as holder,
        embedded.open(lock_timeout=0.05) as hasty,
        embedded.open(lock_timeout=60) as patient,
    ):
        with holder.transaction(read_only=True):
            writer = begin_together(lambda: patient.create(Traffic("10.0.0.1", "10.0.0.2")))[0]
            with pytest.raises(wfpsa.EngineTimeout):
                hasty.delete(1)
            assert len(holder.snapshot()) == 5  # who reads within the lock is not behind those that wait for it
        assert isinstance(writer.finish(), int)
        assert len(hasty.snapshot()) == 6


def test_threads_of_one_session_share_its_transaction(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(5)
    codes: list[object] = []

    def work() -> None:
        for _ in range(50):
            try:
                with engine.transaction():
                    assert len(engine.snapshot()) == 5
            except wfpsa.WfpError as error:
                codes.append(error.code)

    run_together(*[work] * 4)
    assert set(codes) <= {TXN_IN_PROGRESS, NO_TXN_IN_PROGRESS}
    assert testing.live_counters()["transactions"] == 0
    engine.create(Traffic("10.0.0.1", "10.0.0.2"))


def test_an_engine_closed_while_a_thread_waits_for_the_lock_ends_after_that_call(
    embedded: testing.EmbeddedEngine,
) -> None:
    with embedded.open() as holder, holder.transaction():
        engine = embedded.open(lock_timeout=0.2)
        waiter, closer = begin_together(engine.snapshot, engine.close)
        with pytest.raises((wfpsa.EngineTimeout, wfpsa.EngineClosed)):
            waiter.finish()
        closer.finish()
    assert testing.live_counters()["engines"] == 0


# --- New sessions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("reconnect", [False, True])
def test_reopening_while_threads_read_leaves_each_reading_whole(
    embedded: testing.EmbeddedEngine, reconnect: bool
) -> None:
    embedded.seed(100)
    engine = embedded.open(reconnect=reconnect)
    number = engine.snapshot()[0].context_id
    stop = threading.Event()
    read = [0, 0, 0]

    def work(which: int) -> Callable[[], object]:
        def read_on() -> int:
            closed = 0
            while not stop.is_set():
                try:
                    if which:
                        assert len(engine.snapshot(page_size=9)) == 100
                    else:
                        assert engine.get(number).context_id == number
                except (wfpsa.EngineClosed, wfpsa.SessionAborted):
                    closed += 1
                read[which] += 1
            return closed

        return read_on

    workers = begin_together(*map(work, range(3)))
    for _ in range(30):
        wait_for_progress(read, workers)
        engine.reopen()
    stop.set()
    closed = [worker.finish() for worker in workers]
    assert not reconnect or closed == [0, 0, 0]
    assert testing.live_counters()["engines"] == 1
    engine.close()


def test_threads_that_reopen_and_close_one_engine_leave_no_session(embedded: testing.EmbeddedEngine) -> None:
    for _ in range(20):
        engine = embedded.open(reconnect=True)

        def reopen(engine: wfpsa.Engine = engine) -> None:
            with pytest.raises(wfpsa.EngineClosed):
                while True:
                    engine.reopen()

        def read(engine: wfpsa.Engine = engine) -> None:
            with pytest.raises(wfpsa.EngineClosed):
                while True:
                    engine.statistics()

        run_together(reopen, reopen, read, engine.close)
        assert testing.live_counters()["engines"] == 0


# --- The service ----------------------------------------------------------------------------------


def test_readers_that_reconnect_outlast_restarts_of_the_service(embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(60)
    embedded.switch(contexts_after_restart="kept")
    stop = threading.Event()
    read = [0] * 4

    def work(which: int) -> Callable[[], object]:
        def read_on() -> int:
            with embedded.open(reconnect=True) as engine:
                while not stop.is_set():
                    try:
                        assert len(engine.snapshot(page_size=7)) == 60
                        read[which] += 1
                    except (wfpsa.SessionAborted, wfpsa.EngineUnavailable):
                        pass  # a page was lost once too often, or the service was stopped just then
                assert len(engine.snapshot()) == 60
                return engine.reconnects

        return read_on

    workers = begin_together(*map(work, range(4)))
    for _ in range(20):
        wait_for_progress(read, workers)
        embedded.restart_service()
    stop.set()
    assert min(worker.finish() for worker in workers) >= 20  # type: ignore[type-var]
    assert testing.live_counters()["enum_handles"] == 0


def test_a_stopped_service_ends_transactions_and_those_that_wait_for_them(embedded: testing.EmbeddedEngine) -> None:
    for code in (1722, 1726, 1727):
        with ExitStack() as stack:
            holder, *waiting = (stack.enter_context(embedded.open(lock_timeout=60)) for _ in range(4))
            transaction = holder.transaction()
            transaction.__enter__()
            workers = begin_together(
                waiting[0].snapshot,
                lambda waiting=waiting: waiting[1].transaction().__enter__(),
                lambda waiting=waiting: waiting[2].delete(1),
            )
            embedded.stop_service(code)
            for worker in workers:
                with pytest.raises(wfpsa.SessionAborted) as caught:
                    worker.finish()
                assert caught.value.code == code
            with pytest.raises(wfpsa.SessionAborted):
                transaction.__exit__(None, None, None)
            assert testing.live_counters()["transactions"] == 0
            embedded.start_service()
        with embedded.open() as engine, engine.transaction():
            assert len(engine.snapshot()) == 0


def test_a_service_that_stops_under_load_hangs_nobody(embedded: testing.EmbeddedEngine) -> None:
    stop = threading.Event()
    lost = (wfpsa.SessionAborted, wfpsa.EngineUnavailable, wfpsa.ExpiryFailed)

    def change(engine: wfpsa.Engine) -> None:
        number = engine.create(Traffic("10.0.0.1", "10.0.0.2"))
        engine.expire([number]).raise_for_failures()

    def watch(engine: wfpsa.Engine) -> None:
        with engine.subscribe() as changes:
            changes.get(0)
            list(engine.pages(page_size=3))

    def transact(engine: wfpsa.Engine) -> None:
        with engine.transaction():
            engine.snapshot()

    actions = (change, change, watch, transact)
    done = [0] * len(actions)

    def persist(which: int) -> Callable[[], object]:
        def work() -> None:
            while not stop.is_set():
                try:
                    with embedded.open(lock_timeout=60) as engine:
                        while not stop.is_set():
                            actions[which](engine)
                            done[which] += 1
                except lost:
                    pass

        return work

    workers = begin_together(*map(persist, range(len(actions))))
    for turn in range(40):
        embedded.stop_service()
        time.sleep(0.001)
        embedded.start_service()
        if turn % 8 == 0:
            wait_for_progress(done, workers)
    stop.set()
    for worker in workers:
        worker.finish()
    counters = testing.live_counters()
    assert counters["engines"] == counters["transactions"] == counters["subscriptions"] == counters["pages"] == 0
