"""Under asyncio: changes by `async for`, snapshots beside the loop, and what cancelling and closing leave behind."""

import asyncio
import gc
import random
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from types import FrameType
from typing import Any, TypeVar

import pytest
from support import Worker, run_python, values

import wfpsa
from wfpsa import ChangeKind, Gap, SaChange, Subscription, testing

ADDED, DELETED = ChangeKind.ADDED, ChangeKind.DELETED
WAIT = 60.0
"""Seconds for what must come."""

Event = SaChange | Gap
_T = TypeVar("_T")


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Runs it in a loop of its own that looks for misuse."""
    return asyncio.run(asyncio.wait_for(main, WAIT), debug=True)


@pytest.fixture(autouse=True)
def no_thread_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test ends without a thread more than it began with, and none died of an error."""
    died: list[object] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    before = set(threading.enumerate())
    yield
    wait_until(lambda: set(threading.enumerate()) <= before)
    assert died == []


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, [thread.name for thread in threading.enumerate()]
        time.sleep(0.001)


def threads(name: str) -> list[threading.Thread]:
    """The threads of that name."""
    return [thread for thread in threading.enumerate() if thread.name == name]


async def read(subscription: Subscription, count: int) -> list[Event]:
    """That many events, which must come."""
    return [await anext(subscription) for _ in range(count)]


async def read_all(subscription: Subscription, into: list[Event] | None = None) -> list[Event]:
    """All events up to the end."""
    into = [] if into is None else into
    async for event in subscription:
        into.append(event)
    return into


async def begun(task: "asyncio.Task[Any]") -> None:
    """Waits until the task, which reads, waits for a change."""
    while not threads("wfpsa-changes"):
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
    assert not task.done()


async def cancelled(task: "asyncio.Task[Any]") -> float:
    """Cancels the task; how long that took."""
    began = time.perf_counter()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return time.perf_counter() - began


@asynccontextmanager
async def ticking() -> AsyncIterator[list[float]]:
    """The gaps between the ticks of a task that ticks as often as its loop lets it, about each millisecond."""
    gaps: list[float] = []

    async def tick() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    task = asyncio.create_task(tick())
    try:
        yield gaps
    finally:
        await cancelled(task)


def numbers(events: list[Event]) -> list[int]:
    """Their sequence numbers; there is no gap among them."""
    assert all(isinstance(event, SaChange) for event in events)
    return [event.sequence for event in events if isinstance(event, SaChange)]


# --- Reading --------------------------------------------------------------------------------------


def test_async_for_gives_what_for_gives_until_the_subscription_is_closed(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    async def main() -> list[Event]:
        events = []
        async with engine.subscribe() as changes:
            first = embedded.add()
            engine.delete(first)
            async for event in changes:
                events.append(event)
                if len(events) == 2:
                    changes.close()
        return [SaChange(ADDED, first, 1), SaChange(DELETED, first, 2), *events]

    events = run(main())
    assert events[:2] == events[2:]


def test_a_subscription_is_its_own_asynchronous_iterator_and_context_manager(engine: wfpsa.Engine) -> None:
    async def main() -> None:
        changes = engine.subscribe()
        async with changes as entered:
            assert entered is changes and aiter(changes) is changes
        with pytest.raises(StopAsyncIteration):
            await anext(changes)
        assert await anext(changes, None) is None
        assert testing.live_counters()["subscriptions"] == 0

    run(main())


def test_a_change_that_comes_while_a_task_waits_wakes_it(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    async def main() -> None:
        async with engine.subscribe() as changes:
            for at in range(1, 4):
                task = asyncio.create_task(anext(changes))
                await begun(task)
                number = embedded.add()
                assert await task == SaChange(ADDED, number, at)

    run(main())


def test_10000_changes_come_in_order_and_quickly(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> float:
        async with engine.subscribe() as changes, engine.subscribe() as seen:
            embedded.seed(10_000)
            for _ in range(10_000):
                assert seen.get(WAIT)
            began = time.perf_counter()
            events = await read(changes, 10_000)
            took = time.perf_counter() - began
        assert numbers(events) == list(range(1, 10_001))
        return took

    took = asyncio.run(main())
    with capsys.disabled():
        print(f" [{10_000 / took:,.0f} changes a second]", end="")
    assert took < 10


def test_changes_that_come_one_by_one_call_into_the_loop_once_a_millisecond_at_most(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    def add() -> None:
        for _ in range(2000):
            embedded.seed(1)
            time.sleep(0.00002)

    async def main() -> None:
        calls = 0
        loop = asyncio.get_running_loop()
        call = loop.call_soon_threadsafe

        def counted(*arguments: Any, **options: Any) -> asyncio.Handle:
            nonlocal calls
            calls += 1
            return call(*arguments, **options)

        loop.call_soon_threadsafe = counted  # type: ignore[method-assign]
        async with engine.subscribe() as changes:
            began = time.perf_counter()
            adder = Worker(add)
            assert numbers(await read(changes, 2000)) == list(range(1, 2001))
            assert 0 < calls <= (time.perf_counter() - began) * 1000 + 2
            adder.finish()

    asyncio.run(main())


def test_what_was_lost_comes_as_a_gap(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    async def main() -> None:
        async with engine.subscribe(capacity=1) as changes, engine.subscribe() as seen:
            number = embedded.add()
            for _ in range(3):
                embedded.add()
            await read(seen, 4)
            changes.close()
            event, gap = await read_all(changes)
            assert event == SaChange(ADDED, number, 1)
            assert isinstance(gap, Gap) and gap.lost in (2, 3)  # served in turn: the last may have been on its way

    run(main())


def test_a_gap_wakes_a_task_that_waits_and_counts_in_the_numbers(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    async def main() -> None:
        async with engine.subscribe(capacity=2) as changes:
            events: list[Event] = []
            task = asyncio.create_task(read_all(changes, events))
            await begun(task)
            while not any(isinstance(event, Gap) for event in events):
                embedded.seed(500)
                await asyncio.sleep(0.01)
            changes.close()
            await task
        count = 1
        for event in events:
            if isinstance(event, Gap):
                count += event.lost
            else:
                assert event.sequence == count
                count += 1

    run(main())


# --- The end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["task", "thread"])
@pytest.mark.parametrize("end", ["close", "engine", "reopen"])
def test_an_end_from_elsewhere_ends_the_iterations_that_wait(
    embedded: testing.EmbeddedEngine, where: str, end: str
) -> None:
    async def main() -> None:
        engine = embedded.open()
        changes = engine.subscribe()
        tasks = [asyncio.create_task(read_all(changes)) for _ in range(3)]
        await begun(tasks[0])
        action = {"close": changes.close, "engine": engine.close, "reopen": engine.reopen}[end]
        if where == "task":
            action()
        else:
            await asyncio.to_thread(action)
        assert await asyncio.gather(*tasks) == [[], [], []]
        assert testing.live_counters()["subscriptions"] == 0
        engine.close()

    run(main())


def test_the_end_of_the_block_leaves_no_thread(engine: wfpsa.Engine) -> None:
    async def main() -> None:
        for _ in range(20):
            async with engine.subscribe() as changes:
                task = asyncio.create_task(read_all(changes))
                await begun(task)
            assert threads("wfpsa-changes") == []
            assert await task == []

    run(main())


def test_what_was_told_before_the_end_is_read_before_it(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    async def main() -> None:
        async with engine.subscribe() as changes, engine.subscribe() as seen:
            ids = [embedded.add() for _ in range(300)]
            await read(seen, 300)
            first = await read(changes, 1)
        events = first + await read_all(changes)
        assert numbers(events) in (list(range(1, 301)), list(range(1, 300)))  # the last may have been on its way
        assert [event.context_id for event in events if isinstance(event, SaChange)] == ids[: len(events)]

    run(main())


def test_an_exception_in_the_block_closes_what_was_opened_and_is_raised(embedded: testing.EmbeddedEngine) -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with embedded.open() as engine, engine.subscribe() as changes:
                embedded.add()
                async for _ in changes:
                    raise ZeroDivisionError
        assert list(changes) == []
        with pytest.raises(wfpsa.EngineClosed):
            engine.snapshot()
        assert testing.live_counters()["subscriptions"] == testing.live_counters()["engines"] == 0

    run(main())


def test_an_end_that_is_refused_is_told_by_the_block_and_the_iteration_goes_on(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    async def main() -> None:
        changes = engine.subscribe()
        task = asyncio.create_task(anext(changes))
        await begun(task)
        with engine.transaction():
            with pytest.raises(wfpsa.WfpError, match="FWP_E_TXN_IN_PROGRESS"):
                async with changes:
                    pass
            number = embedded.add()
            assert await task == SaChange(ADDED, number, 1)
        async with changes:
            pass
        assert await read_all(changes) == []

    run(main())


def test_a_dead_session_is_told_by_the_end_of_the_block_and_ends_the_iteration(
    embedded: testing.EmbeddedEngine,
) -> None:
    async def main() -> None:
        async with embedded.open() as engine:
            changes = engine.subscribe()
            task = asyncio.create_task(read_all(changes))
            await begun(task)
            embedded.restart_service()
            with pytest.raises(wfpsa.SessionAborted):
                async with changes:
                    pass
            assert await task == []

    run(main())


def test_a_loop_that_breaks_off_leaves_the_rest_and_a_thread_for_a_moment_only(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    async def main() -> None:
        changes = engine.subscribe()
        task = asyncio.create_task(anext(changes))
        await begun(task)
        ids = [embedded.add() for _ in range(3)]
        await task
        async for event in changes:
            assert event == SaChange(ADDED, ids[1], 2)
            break
        wait_until(lambda: not threads("wfpsa-changes"))
        assert await anext(changes) == SaChange(ADDED, ids[2], 3)
        assert testing.live_counters()["subscriptions"] == 1
        gc.disable()  # nothing refers to itself
        try:
            del changes
            assert testing.live_counters()["subscriptions"] == 0
        finally:
            gc.enable()

    run(main())


@pytest.mark.posix_signal
def test_a_signal_handler_may_close_what_tasks_read_wherever_it_interrupts_them() -> None:
    def close(number: int, frame: FrameType | None) -> None:
        changes.close()

    before = signal.signal(signal.SIGALRM, close)
    try:
        with testing.EmbeddedEngine() as lively, lively.open() as engine:
            lively.seed(100)
            lively.churn(20_000, 1)
            for turn in range(100):
                changes = engine.subscribe()
                signal.setitimer(signal.ITIMER_REAL, 0.0005 + turn * 0.0001)
                events = asyncio.run(asyncio.wait_for(read_all(changes), WAIT))
                assert numbers(events) == list(range(1, len(events) + 1))
            lively.churn(0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- The loop goes on -----------------------------------------------------------------------------

LATENCY = 0.5


def test_the_loop_goes_on_while_an_engine_is_slow(embedded: testing.EmbeddedEngine) -> None:
    async def main() -> None:
        embedded.seed(10)
        with embedded.open() as other:
            async with embedded.open() as engine, ticking() as gaps:
                with other.transaction():  # until its end the listing waits
                    task = asyncio.create_task(engine.snapshot_async())
                    while len(gaps) <= 5:
                        await asyncio.sleep(0.001)
                    assert not task.done()
                assert len(await task) == 10

    run(main())


def test_the_loop_goes_on_while_a_subscription_waits(engine: wfpsa.Engine) -> None:
    async def main() -> None:
        async with engine.subscribe() as changes, ticking() as gaps:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(changes), LATENCY)
        assert len(gaps) > 5

    run(main())


def test_the_loop_goes_on_while_more_changes_come_than_can_be_read() -> None:
    async def main() -> None:
        with testing.EmbeddedEngine() as lively:
            lively.seed(100)
            async with lively.open() as engine, engine.subscribe() as changes:
                lively.churn(1_000_000, 1)
                tasks = [asyncio.create_task(read_all(changes)) for _ in range(2)]
                async with ticking() as gaps:
                    await asyncio.sleep(LATENCY)
                    while len(gaps) <= 5:  # a busy machine gives this process little of that time
                        await asyncio.sleep(0.001)
                lively.churn(0)
                for task in tasks:
                    await cancelled(task)
        assert max(gaps) < WAIT / 6

    run(main())


def test_the_loop_goes_on_while_closing_waits_for_a_call_in_flight(embedded: testing.EmbeddedEngine) -> None:
    async def main() -> None:
        embedded.seed(10)
        async with ticking() as gaps:
            async with embedded.open() as engine, engine.subscribe() as changes:
                embedded.latency(per_call_us=2e6)
                call = Worker(engine.snapshot)
                await asyncio.sleep(LATENCY / 4)
                reader = asyncio.create_task(read_all(changes))
            embedded.latency()
            assert await reader == []
        with suppress(wfpsa.EngineClosed):  # closed between two of its calls
            call.finish()
        assert len(gaps) > 5 and max(gaps) < 1.8

    run(main())


# --- Cancelling a task that waits -----------------------------------------------------------------


def test_cancelling_a_task_that_waits_ends_it_at_once_and_its_thread_soon(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    async def main() -> None:
        async with engine.subscribe() as changes:
            for _ in range(5):
                task = asyncio.create_task(anext(changes))
                await begun(task)
                assert await cancelled(task) < WAIT / 6
                wait_until(lambda: not threads("wfpsa-changes"))
                assert changes._news and not changes._news._waiting
            number = embedded.add()
            assert await anext(changes) == SaChange(ADDED, number, 1)

    run(main())


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_a_change_that_was_on_its_way_to_a_cancelled_task_is_the_next_readers(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, turns: int
) -> None:
    async def main() -> None:
        async with engine.subscribe() as changes, engine.subscribe() as seen:
            task = asyncio.create_task(anext(changes))
            await begun(task)
            number = embedded.add()
            assert seen.get(WAIT)
            time.sleep(0.1)  # the thread has told the loop, which could not listen yet
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            try:
                event = await task
            except asyncio.CancelledError:
                event = await anext(changes)
            assert event == SaChange(ADDED, number, 1)

    run(main())


def test_tasks_cancelled_anywhere_lose_no_change_and_get_none_twice(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    async def main() -> None:
        events: list[Event] = []
        count = 0
        async with engine.subscribe() as changes:
            for turn in range(120):
                task = asyncio.create_task(read_all(changes, events))
                for _ in range(turn % 8):
                    await asyncio.sleep(0)
                for _ in range(turn % 3):
                    embedded.add()
                    count += 1
                await asyncio.sleep((0, 0.0001, 0.0005, 0.0011, 0.003)[turn % 5])
                await cancelled(task)
            events += await read(changes, count - len(events))
        assert numbers(events) == list(range(1, count + 1))

    run(main())


def test_timeouts_while_contexts_come_lose_no_change() -> None:
    chance = random.Random(1)

    async def main() -> None:
        events: list[Event] = []
        timeouts = 0
        with testing.EmbeddedEngine() as lively:
            lively.seed(100)
            async with lively.open() as engine, engine.subscribe() as changes:
                while timeouts < 30 or len(events) < 100:
                    if chance.random() < 0.6:  # in step with the loop: where it is slow, a churn would outrun it
                        lively.add()
                    try:
                        events.append(await asyncio.wait_for(anext(changes), chance.random() * 0.004))
                    except TimeoutError:
                        timeouts += 1
        assert numbers(events) == list(range(1, len(events) + 1))

    run(main())


def test_a_task_that_never_waits_can_be_cancelled() -> None:
    async def main() -> None:
        with testing.EmbeddedEngine() as lively:
            async with lively.open() as engine, engine.subscribe() as changes, engine.subscribe() as seen:
                lively.seed(60_000)
                for _ in range(60_000):
                    assert seen.get(WAIT)
                events: list[Event] = []
                task = asyncio.create_task(read_all(changes, events))
                while not events:
                    await asyncio.sleep(0)
                await cancelled(task)
                assert len(events) < 60_000
                events += await read(changes, 60_000 - len(events))
                assert numbers(events) == list(range(1, 60_001))

    run(main())


def test_cancelling_one_of_two_tasks_leaves_the_other_its_changes(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    async def main() -> None:
        async with engine.subscribe() as changes:
            for at in range(1, 30):
                first, second = (asyncio.create_task(anext(changes)) for _ in range(2))
                await begun(second)
                number = embedded.add()
                time.sleep(0.001 * (at % 4))
                first.cancel()
                (event,) = await asyncio.gather(first, return_exceptions=True)
                if isinstance(event, SaChange):
                    await cancelled(second)  # which asserts that it got none
                else:
                    event = await second
                assert event == SaChange(ADDED, number, at)

    run(main())


# --- Readers that share ---------------------------------------------------------------------------


def test_tasks_share_the_changes_of_a_subscription() -> None:
    async def main() -> None:
        with testing.EmbeddedEngine() as lively:
            lively.seed(100)
            async with lively.open() as engine, engine.subscribe() as changes:
                parts: list[list[Event]] = [[], [], []]
                tasks = [asyncio.create_task(read_all(changes, part)) for part in parts]
                lively.churn(10_000, 1)
                while sum(map(len, parts)) < 3000 or not all(parts):
                    await asyncio.sleep(0.001)
                lively.churn(0)
                changes.close()
                await asyncio.gather(*tasks)
        for part in parts:
            assert numbers(part) == sorted(numbers(part))
        whole = sorted(number for part in parts for number in numbers(part))
        assert whole == list(range(1, len(whole) + 1))

    run(main())


def test_threads_and_tasks_of_several_loops_share_the_changes_of_a_subscription() -> None:
    with testing.EmbeddedEngine() as lively:
        lively.seed(100)
        with lively.open() as engine, engine.subscribe() as changes:
            parts: list[list[Event]] = [[] for _ in range(4)]
            readers = [
                Worker(lambda: parts[0].extend(changes)),
                Worker(lambda: run(read_all(changes, parts[1]))),
                Worker(lambda: run(read_all(changes, parts[2]))),
                Worker(lambda: parts[3].extend(changes)),
            ]
            lively.churn(10_000, 1)
            end = time.monotonic() + 0.5
            while time.monotonic() < end or sum(map(len, parts[1:3])) < 100:
                time.sleep(0.01)
            lively.churn(0)
            changes.close()
            for reader in readers:
                reader.finish()
    whole = sorted(number for part in parts for number in numbers(part))
    assert whole == list(range(1, len(whole) + 1))


def test_what_a_thread_read_ahead_reaches_a_task_that_waits(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    async def main() -> None:
        async with engine.subscribe() as changes:
            for at in range(20):
                task = asyncio.create_task(read(changes, 2))
                reader = Worker(lambda: changes.get(WAIT))
                await begun(task)
                for _ in range(3):
                    embedded.add()
                got = await task
                mine = await asyncio.to_thread(reader.finish)
                assert isinstance(mine, SaChange)
                assert sorted([*numbers(got), mine.sequence]) == [3 * at + 1, 3 * at + 2, 3 * at + 3]

    run(main())


# --- Snapshots ------------------------------------------------------------------------------------


def test_snapshot_async_equals_snapshot(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    async def main() -> None:
        embedded.seed(500, 3, odd=True)
        for arguments in (
            {},
            dict(remote="10.0.0.0/8", prefetch=False),
            dict(local="fd00::/8", fields=wfpsa.CORE_FIELDS),
            dict(version=0, page_size=7),
        ):
            found = await engine.snapshot_async(**arguments)  # type: ignore[arg-type]
            expected = engine.snapshot(**arguments)  # type: ignore[arg-type]
            assert found.columns == expected.columns and found.pushed_down == expected.pushed_down
            assert values(found) == values(expected)

    run(main())


def test_snapshots_of_several_engines_are_taken_at_once(embedded: testing.EmbeddedEngine) -> None:
    async def main() -> None:
        embedded.seed(10)
        engines = [embedded.open() for _ in range(50)]
        batches = await asyncio.gather(*[engine.snapshot_async() for engine in engines for _ in range(2)])
        assert [len(batch) for batch in batches] == [10] * 100
        for engine in engines:
            async with engine:
                pass

    run(main())


def test_errors_of_a_snapshot_are_raised_where_it_is_awaited(embedded: testing.EmbeddedEngine) -> None:
    async def main() -> None:
        embedded.seed(10)
        async with embedded.open() as engine:
            with pytest.raises(ValueError, match="one address family"):
                await engine.snapshot_async(local="10.0.0.0/8", remote="fd00::/8")
            with pytest.raises(TypeError, match="page_size must be an int"):
                await engine.snapshot_async(page_size="7")  # type: ignore[arg-type]
            embedded.fail("IPsecSaContextEnum1")
            with pytest.raises(wfpsa.EngineTimeout):
                await engine.snapshot_async()
        with pytest.raises(wfpsa.EngineClosed):
            await engine.snapshot_async()
        embedded.rights("everyone")
        async with embedded.open() as engine:
            with pytest.raises(wfpsa.AccessDenied):
                await engine.snapshot_async()

    run(main())


def test_an_error_of_a_snapshot_holds_nothing_alive(embedded: testing.EmbeddedEngine) -> None:
    async def main() -> None:
        engine = embedded.open()
        embedded.fail("IPsecSaContextEnum1")
        try:
            await engine.snapshot_async()
        except wfpsa.EngineTimeout:
            del engine
        else:
            raise AssertionError

    gc.collect()
    gc.disable()
    try:
        asyncio.run(main())
        wait_until(lambda: not threads("wfpsa-call"))
        assert testing.live_counters()["engines"] == 0
    finally:
        gc.enable()


def test_a_cancelled_snapshot_returns_at_once_and_what_it_came_to_is_dropped(embedded: testing.EmbeddedEngine) -> None:
    async def main() -> None:
        embedded.seed(10)
        async with embedded.open() as engine:
            with embedded.open() as other, other.transaction():
                task = asyncio.create_task(engine.snapshot_async())
                while not threads("wfpsa-call"):
                    await asyncio.sleep(0.001)
                await cancelled(task)
                assert threads("wfpsa-call")
            while threads("wfpsa-call"):
                await asyncio.sleep(0.001)
            alive = testing.live_counters()
            assert alive["pages"] == alive["enum_handles"] == 0
            assert len(await engine.snapshot_async()) == 10

    run(main())


def test_snapshots_cancelled_anywhere_leave_nothing(embedded: testing.EmbeddedEngine) -> None:
    async def main() -> None:
        embedded.seed(200)
        ended = 0
        async with embedded.open() as engine:
            before = testing.live_counters()
            for turn in range(100):
                task = asyncio.create_task(engine.snapshot_async(page_size=50))
                for _ in range(turn % 4):
                    await asyncio.sleep(0)
                if turn % 5:
                    await asyncio.sleep(turn % 50 * 0.00002)
                task.cancel()
                try:
                    assert len(await task) == 200
                    ended += 1
                except asyncio.CancelledError:
                    pass
            del task
            while threads("wfpsa-call"):
                await asyncio.sleep(0.001)
            await asyncio.sleep(0)
            assert testing.live_counters() == before
        assert 0 <= ended < 100

    run(main())


def test_a_loop_ends_before_a_cancelled_snapshot_does(embedded: testing.EmbeddedEngine) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(engine.snapshot_async(), LATENCY / 10)

    with embedded.open() as engine, embedded.open() as other, other.transaction():
        run(main())
        assert threads("wfpsa-call"), "what was called goes on"


def test_a_close_that_is_cancelled_closes_all_the_same(embedded: testing.EmbeddedEngine) -> None:
    async def main() -> None:
        async def hold() -> None:
            async with embedded.open() as engine:
                calls.append(Worker(engine.snapshot))
                await asyncio.sleep(LATENCY)

        calls: list[Worker] = []
        with embedded.open() as other, other.transaction():
            task = asyncio.create_task(hold())
            while not threads("wfpsa-call"):
                await asyncio.sleep(0.001)
            await cancelled(task)
            assert threads("wfpsa-call")
        while testing.live_counters()["engines"]:
            await asyncio.sleep(0.001)
        calls[0].join(WAIT)

    run(main())


# --- Loops ----------------------------------------------------------------------------------------


class Plain(asyncio.SelectorEventLoop):
    """A loop without what only some loops have, and whose executor is somebody else's."""

    def _refuse(self, *arguments: object) -> Any:
        raise AssertionError("not for us")

    add_reader = add_writer = add_signal_handler = run_in_executor = _refuse


def use_all(embedded: testing.EmbeddedEngine) -> Coroutine[Any, Any, None]:
    async def main() -> None:
        async with embedded.open() as engine, engine.subscribe() as changes:
            task = asyncio.create_task(anext(changes))
            await begun(task)
            number = embedded.add()
            assert await task == SaChange(ADDED, number, 1)
            assert list((await engine.snapshot_async())["context_id"]) == [number]
            task = asyncio.create_task(anext(changes))
            await begun(task)
            await cancelled(task)

    return main()


def test_nothing_is_asked_of_a_loop_but_what_all_loops_have(embedded: testing.EmbeddedEngine) -> None:
    with asyncio.Runner(debug=True, loop_factory=Plain) as runner:
        runner.run(use_all(embedded))


def test_a_loop_may_run_in_any_thread(embedded: testing.EmbeddedEngine) -> None:
    Worker(lambda: run(use_all(embedded))).finish()


def test_loops_one_after_the_other_read_on_in_one_subscription(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    with engine.subscribe() as changes:
        for at in range(1, 4):
            number = embedded.add()
            assert run(read(changes, 1)) == [SaChange(ADDED, number, at)]
            with pytest.raises(TimeoutError):
                asyncio.run(asyncio.wait_for(anext(changes), 0.01))  # type: ignore[arg-type]


def test_a_loop_closed_while_a_task_waits_takes_no_change_with_it(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    with engine.subscribe() as changes:
        loop = asyncio.new_event_loop()
        task = loop.create_task(anext(changes))
        loop.run_until_complete(begun(task))
        loop.close()
        number = embedded.add()
        time.sleep(0.02)
        assert run(read(changes, 1)) == [SaChange(ADDED, number, 1)]
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        del task


def test_a_loop_closed_during_a_snapshot_leaves_nothing(embedded: testing.EmbeddedEngine) -> None:
    with embedded.open() as engine:
        embedded.seed(10)
        for failing in (False, True):
            embedded.latency(per_call_us=1e5)
            embedded.fail("IPsecSaContextEnum1", int(failing))
            loop = asyncio.new_event_loop()
            task = loop.create_task(engine.snapshot_async())
            loop.run_until_complete(asyncio.sleep(0.02))
            loop.close()
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            del task
            embedded.latency()
            wait_until(lambda: not threads("wfpsa-call"))
        assert len(engine.snapshot()) == 10


def test_without_a_running_loop_the_error_says_so(engine: wfpsa.Engine) -> None:
    with engine.subscribe() as changes:
        for call in (lambda: anext(changes), engine.snapshot_async, lambda: changes.__aexit__(None, None, None)):
            coroutine: Any = call()
            with pytest.raises(RuntimeError, match="no running event loop"):
                for _ in range(2):
                    coroutine.send(None)


# --- Threads that cannot be had, forks, the end of the process ------------------------------------


def test_where_no_thread_can_be_had_the_error_says_so_and_nothing_is_lost(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        with engine.subscribe() as changes:
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", refuse)
                for call in (anext(changes), engine.snapshot_async(), changes.__aexit__(None, None, None)):
                    with pytest.raises(RuntimeError, match="can't start new thread"):
                        await call
                number = embedded.add()
            assert await anext(changes) == SaChange(ADDED, number, 1)
            assert len(await engine.snapshot_async()) == 1

    run(main())


def test_an_error_in_the_thread_that_waits_reaches_the_task(
    engine: wfpsa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with engine.subscribe() as changes:
            task = asyncio.create_task(anext(changes))
            await begun(task)

            def fail() -> bool:
                raise MemoryError

            with monkeypatch.context() as patch:
                patch.setattr(changes._news, "_there", fail)
                patch.setattr(changes, "_look", fail)
                with pytest.raises(MemoryError):
                    await task
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(changes), 0.01)

    run(main())


FORKED = """
import asyncio, os, time
import wfpsa
from wfpsa import testing

async def refused(coroutine):
    try:
        await coroutine
    except wfpsa.EngineClosed as error:
        return "another process" in str(error)
    return False

async def child(changes, engine):
    for coroutine in (anext(changes), anext(changes), engine.snapshot_async()):
        assert await refused(coroutine)
    async with changes:
        pass
    async with engine:
        pass

async def main(control, engine, changes):
    async def read():
        return await anext(changes)
    task = asyncio.create_task(read())
    await asyncio.sleep(0.05)
    return task, os.fork()

control = testing.EmbeddedEngine()
engine = control.open()
changes = engine.subscribe()
loop = asyncio.new_event_loop()
task, number = loop.run_until_complete(main(control, engine, changes))
if number == 0:
    try:
        asyncio.run(child(changes, engine))
    except BaseException:
        os._exit(1)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == 0
made = control.add()
assert loop.run_until_complete(task).context_id == made
changes.close()
engine.close()
control.close()
loop.close()
del changes, engine, task
end = time.monotonic() + 30
while any(testing.live_counters().values()):  # the thread that waited goes by itself, and takes its time
    assert time.monotonic() < end, testing.live_counters()
    time.sleep(0.01)
print("fine")
"""


@pytest.mark.fork
def test_a_forked_child_is_refused_and_its_parent_reads_on() -> None:
    assert run_python(FORKED) == "fine\n"


LEFT_OPEN = """
import asyncio
from wfpsa import testing

async def main():
    task = asyncio.ensure_future(anext(changes))
    snapshot = asyncio.ensure_future(engine.snapshot_async())
    await asyncio.sleep(0.02)
    print("fine")

control = testing.EmbeddedEngine()
control.seed(100)
engine = control.open()
changes = engine.subscribe()
control.latency(per_call_us=100_000)
asyncio.run(main())
"""


def test_a_process_ends_with_a_snapshot_on_its_way_and_a_task_that_waits() -> None:
    began = time.monotonic()
    assert (
        run_python(LEFT_OPEN.replace("ensure_future(anext(changes))", "create_task(changes.__anext__())")) == "fine\n"
    )
    assert time.monotonic() - began < WAIT / 2


def test_importing_wfpsa_does_not_import_asyncio() -> None:
    code = "import sys, wfpsa; e = wfpsa.open_engine('embedded:'); list(e.subscribe().get(0) or ()); e.close(); "
    assert run_python(code + "print('asyncio' in sys.modules)") == "False\n"
