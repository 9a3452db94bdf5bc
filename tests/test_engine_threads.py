"""Engines shared: by threads, closed while others call, watched while they change, and inherited by a fork."""

import _thread
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import Worker, run_python, values

import wfpsa
from wfpsa import Outcome, testing

# --- One session, many threads --------------------------------------------------------------------


def test_threads_share_one_session_and_each_gets_its_own_answer(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(120, odd=True)
    whole = engine.snapshot()
    expected = values(whole)
    barrier = threading.Barrier(6)

    def work(number: int) -> bool:
        barrier.wait(60)
        for turn in range(10):
            at = (number * 17 + turn) % 120
            match number % 3:
                case 0:
                    assert values(engine.snapshot(page_size=7 + turn)) == expected
                case 1:
                    assert [len(page) for page in engine.pages(page_size=50, version=0)] == [50, 50, 20]
                case _:
                    assert engine.get(whole[at].context_id) == whole[at]
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))
    assert testing.live_counters()["enum_handles"] == 0


def test_threads_that_expire_the_same_contexts_agree_on_who_was_first(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(400)
    ids = [context.context_id for context in engine.snapshot() if not context.has_inbound]
    assert ids  # without an inbound SA they are gone at once: exactly one call can succeed
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(engine.expire, [ids] * 4))
    for outcomes in zip(*(report.outcome for report in reports), strict=True):
        assert sorted(outcomes) == [Outcome.EXPIRED] + [Outcome.ALREADY_GONE] * 3


# --- Closing while another thread calls -----------------------------------------------------------


def test_an_engine_closed_while_a_thread_lists_ends_the_listing_and_never_truncates_it(
    embedded: testing.EmbeddedEngine,
) -> None:
    embedded.seed(100)
    embedded.latency(per_call_us=200)
    engine = embedded.open()
    complete: list[int] = []
    began = threading.Event()

    def work() -> None:
        while True:
            complete.append(len(engine.snapshot(page_size=5)))
            began.set()

    worker = Worker(work)
    assert began.wait(60)
    engine.close()
    with pytest.raises(wfpsa.EngineClosed):
        worker.finish()
    assert set(complete) == {100}
    assert testing.live_counters()["engines"] == testing.live_counters()["enum_handles"] == 0


def test_an_engine_closed_while_a_thread_reads_pages_raises_in_that_thread(embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(100)
    embedded.latency(per_call_us=200)
    engine = embedded.open()
    both = threading.Barrier(2)
    got: list[int] = []

    def work() -> None:
        for page in engine.pages(page_size=10):
            got.append(len(page))
            if len(got) == 3:
                both.wait(60)
                both.wait(60)

    worker = Worker(work)
    both.wait(60)
    engine.close()
    assert testing.live_counters()["enum_handles"] == 0
    both.wait(60)
    with pytest.raises(wfpsa.EngineClosed):
        worker.finish()
    assert got == [10, 10, 10]


def test_an_engine_closed_while_a_thread_expires_leaves_a_true_report(embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(5000)
    engine = embedded.open()
    with embedded.open() as other:
        ids = [context.context_id for context in other.snapshot() if context.inbound and context.outbound]
        embedded.latency(per_call_us=1000)
        worker = Worker(lambda: engine.expire(ids))
        while other.get(ids[0]).has_outbound:
            assert worker.is_alive()
        engine.close()
        report = worker.finish()
        embedded.latency()
        assert isinstance(report, wfpsa.ExpiryReport) and report.context_id.tolist() == ids
        assert report.counts[Outcome.EXPIRED] + report.counts[Outcome.NOT_ATTEMPTED] == len(ids)
        assert report.counts[Outcome.EXPIRED] > 0 < report.counts[Outcome.NOT_ATTEMPTED]
        left = {context.context_id for context in other.snapshot() if context.has_outbound}
        for number, outcome in zip(report.context_id, report.outcome, strict=True):
            assert (number in left) is (outcome is Outcome.NOT_ATTEMPTED)


def test_closing_from_many_threads_at_once_closes_once(embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(10)
    for _ in range(20):
        engine = embedded.open()
        barrier = threading.Barrier(5)

        def close(engine: wfpsa.Engine = engine, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(60)
            engine.close()

        workers = [Worker(close) for _ in range(4)]
        barrier.wait(60)
        with pytest.raises(wfpsa.EngineClosed):
            while True:
                engine.snapshot(page_size=3)
        for worker in workers:
            worker.finish()
        assert testing.live_counters()["engines"] == 0


CLOSING = """
import threading
import wfpsa
from wfpsa import testing

def work():
    try:
        while True:
            for page in engine.pages(page_size=3):
                began.set()
    except wfpsa.EngineClosed:
        pass

with testing.EmbeddedEngine() as control:
    control.seed(60)
    for turn in range(200):
        engine, began = control.open(), threading.Event()
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert began.wait(60)
        engine.close()
        for thread in threads:
            thread.join()
        assert testing.live_counters()["engines"] == testing.live_counters()["enum_handles"] == 0
print("fine")
"""


def test_closing_while_threads_give_up_their_listings_touches_no_freed_memory() -> None:
    """In a process of its own, where glibc fills what is freed: a stale pointer shows as a crash."""
    assert run_python(CLOSING, MALLOC_PERTURB_="165") == "fine\n"


def test_a_waiting_close_is_not_overtaken_for_ever_by_a_busy_thread(embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(3)
    engine = embedded.open()
    number = engine.snapshot()[0].context_id
    running = threading.Event()

    def work() -> None:
        while True:
            engine.get(number)
            running.set()

    workers = [Worker(work) for _ in range(3)]
    assert running.wait(60)
    closer = Worker(engine.close)
    closer.finish()
    for worker in workers:
        with pytest.raises(wfpsa.EngineClosed):
            worker.finish()


# --- Changes during a listing ---------------------------------------------------------------------


def test_a_snapshot_sees_all_of_a_simultaneous_change_or_nothing(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    stop = threading.Event()

    def grow() -> None:
        for turn in range(60):  # one seeding is one change
            embedded.seed(20, turn)
            if stop.is_set():
                return

    worker = Worker(grow)
    sizes = []
    try:
        while worker.is_alive():
            sizes.append(len(engine.snapshot(page_size=7)))
    finally:
        stop.set()
        worker.finish()
    assert {size % 20 for size in sizes} <= {0} and sizes == sorted(sizes)


def test_snapshots_taken_while_another_session_expires_are_prefixes_of_its_work(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(300)
    ids = [context.context_id for context in engine.snapshot() if context.inbound and context.outbound]
    with embedded.open() as other:
        worker = Worker(lambda: [other.expire(ids[at : at + 5]) for at in range(0, len(ids), 5)])
        while worker.is_alive():
            there = dict(zip(*map(list, columns(engine.snapshot(page_size=11))), strict=True))
            states = [there[number] for number in ids]
            assert states == sorted(states)  # what is expired comes first
        worker.finish()
    assert len(embedded) == 300


def columns(batch: wfpsa.SaBatch) -> tuple[list[object], list[object]]:
    return batch["context_id"].tolist(), batch["has_outbound"].tolist()


# --- Ctrl-C ---------------------------------------------------------------------------------------


def test_an_interrupted_snapshot_raises_and_leaves_no_handle(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(5000)
    embedded.latency(per_call_us=500)
    began = threading.Event()

    def interrupt() -> None:
        while testing.live_counters()["enum_handles"] == 0:
            assert not began.wait(0.001)
        _thread.interrupt_main()

    worker = Worker(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            engine.snapshot(page_size=1)
    finally:
        began.set()
        worker.finish()
    assert testing.live_counters()["enum_handles"] == testing.live_counters()["pages"] == 0
    embedded.latency()
    assert len(engine.snapshot()) == 5000


# --- Forks ----------------------------------------------------------------------------------------

FORKED = """
import os, sys, threading
import wfpsa
from wfpsa import testing

def refused(call):
    try:
        call()
    except wfpsa.EngineClosed as error:
        return "another process" in str(error)
    return False

control = testing.EmbeddedEngine()
control.seed(200)
engine = control.open()
batch = engine.snapshot()
pages = engine.pages(page_size=10)
next(pages)
control.latency(per_call_us=20000)
busy = threading.Thread(target=lambda: [engine.get(batch[0].context_id) for _ in range(5)])
if "busy" in sys.argv:
    busy.start()
child = os.fork()
if child == 0:
    calls = [
        engine.snapshot,
        lambda: engine.get(batch[0].context_id),
        lambda: engine.delete(batch[0].context_id),
        lambda: engine.expire(batch),
        lambda: next(engine.pages()),
        lambda: next(pages),
    ]
    right = all([refused(call) for call in calls])
    right = right and [c.context_id for c in batch] == batch["context_id"].tolist()
    engine.close()
    del pages, engine, control
    os._exit(0 if right else 1)
_, status = os.waitpid(child, 0)
if "busy" in sys.argv:
    busy.join()
control.latency()
assert os.waitstatus_to_exitcode(status) == 0
assert sum(len(page) for page in pages) == 190
assert len(engine.snapshot()) == 200
engine.close()
print("fine")
"""


@pytest.mark.fork
@pytest.mark.parametrize("state", ["idle", "busy"])
def test_a_forked_child_gets_engine_closed_and_the_parent_goes_on(state: str) -> None:
    assert run_python(FORKED, state) == "fine\n"


FORKED_AT_WORK = """
import warnings

warnings.simplefilter("ignore", DeprecationWarning)  # that it has threads is what this is about
import os, threading
import wfpsa

def work():
    with wfpsa.open_engine("embedded:?contexts=50") as engine:
        while not ended:
            engine.snapshot(page_size=5)

def opened():
    while not ended:
        wfpsa.open_engine("embedded:?contexts=1").close()

ended = []
threads = [threading.Thread(target=call) for call in (work, work, opened)]
for thread in threads:
    thread.start()
for _ in range(200):
    child = os.fork()
    if child == 0:
        with wfpsa.open_engine("embedded:?contexts=3") as own:
            os._exit(len(own.snapshot()) != 3)
    assert os.waitpid(child, 0)[1] == 0
ended.append(True)
for thread in threads:
    thread.join()
print("fine")
"""


@pytest.mark.fork
def test_a_child_forked_while_other_threads_are_in_calls_opens_an_engine_of_its_own() -> None:
    """Whatever locks they hold then, the child has no threads that would give them back."""
    assert run_python(FORKED_AT_WORK) == "fine\n"
