"""Mirrors: equal to the engine after each reconciliation, nearly so between two, and alive through whatever fails."""

import gc
import math
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from mirrors import (
    WAIT,
    eventually,
    half_built,
    hurry,
    ids_of,
    insist,
    mirrors_at_work,
    moment,
    replayed,
    same,
    until_ids,
    until_same,
)
from support import added, out_of_memory, run_python, run_together, values, walk_allocations

import wfpsa
from wfpsa import CORE_FIELDS, GenerationExpired, Mirror, mirror, testing
from wfpsa.mirror import Drift

TAIL_AND_MORE = 60 + 32 + 1
"""Seconds after an expiry by which its end has been read again, whatever the back-off."""

EVENTS = [(first, second) for first in ("create", "outbound") for second in ("removal", "expiry")]
EVERY_EVENT = pytest.mark.parametrize(("add_event", "delete_event"), EVENTS)
EVERY_FIELDS = pytest.mark.parametrize(
    "fields", [None, CORE_FIELDS, ("context_id", "spi_in"), ("context_id",)], ids=["all", "core", "two", "one"]
)


@pytest.fixture(autouse=True)
def quick_and_gone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Requests are seen at once, and no thread of a mirror outlives its test."""
    hurry(monkeypatch.setattr)
    yield
    gc.collect()
    assert mirrors_at_work() == []


# --- What it shows --------------------------------------------------------------------------------


@EVERY_FIELDS
def test_a_new_mirror_has_what_a_snapshot_has(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, fields: tuple[str, ...] | None
) -> None:
    embedded.seed(3000, 5, odd=True)
    with engine.mirror(fields=fields) as mirrored:
        expected = engine.snapshot(fields=fields)
        assert mirrored.snapshot().columns == expected.columns
        assert same(mirrored.snapshot(), expected)
        assert len(mirrored) == 3000 and mirrored.generation > 0
        assert (mirrored.lag, mirrored.gaps, mirrored.lost, mirrored.resyncs, mirrored.error) == (0, 0, 0, 0, None)
        assert mirrored.reconcile(WAIT) == Drift(3000, 0, 0, 0)


def test_a_mirror_of_nothing_is_empty_and_knows_no_changes(engine: wfpsa.Engine) -> None:
    with engine.mirror() as mirrored:
        assert len(mirrored) == len(mirrored.snapshot()) == mirrored.generation == 0
        assert [len(part) for part in mirrored.changes(0)[1:]] == [0, 0, 0]
        assert "0 contexts" in repr(mirrored) and "closed" not in repr(mirrored)
    assert "closed" in repr(mirrored)


@EVERY_FIELDS
@EVERY_EVENT
def test_additions_and_deletions_are_applied_as_they_are_told(
    engine: wfpsa.Engine,
    embedded: testing.EmbeddedEngine,
    add_event: str,
    delete_event: str,
    fields: tuple[str, ...] | None,
) -> None:
    embedded.switch(add_event=add_event, delete_event=delete_event)
    kept = added(embedded, 5)
    with engine.mirror(fields=fields, reconcile_every=None) as mirrored:
        new = [embedded.add("10.0.0.1", "10.5.0.1", context_id=number) for number in (7, 2**32, 2**63, 2**64 - 1)]
        embedded.seed(50, 2, full=True)
        for number in (kept[0], new[1]):
            engine.delete(number)
        until_same(mirrored, engine, fields)
        assert ids_of(mirrored.snapshot()) == ids_of(engine.snapshot())
        assert mirrored.reads >= 50


@EVERY_FIELDS
@EVERY_EVENT
def test_an_expired_context_goes_with_its_tail_of_which_no_event_may_tell(
    engine: wfpsa.Engine,
    embedded: testing.EmbeddedEngine,
    add_event: str,
    delete_event: str,
    fields: tuple[str, ...] | None,
) -> None:
    embedded.switch(add_event=add_event, delete_event=delete_event)
    numbers = added(embedded, 6)
    with engine.mirror(fields=fields, reconcile_every=None) as mirrored:
        engine.expire(numbers[:3])
        if delete_event == "expiry":  # it tells what has begun, and never that it is over
            eventually(lambda: mirrored.reads >= 3)
            until_same(mirrored, engine, fields)
        embedded.advance(30)
        mirrored.catch_up(WAIT)
        assert ids_of(mirrored.snapshot()) == set(numbers)
        embedded.advance(TAIL_AND_MORE)
        until_ids(mirrored, set(numbers[3:]))
        until_same(mirrored, engine, fields)


@EVERY_FIELDS
@EVERY_EVENT
def test_a_half_built_context_is_read_again_until_it_is_complete(
    engine: wfpsa.Engine,
    embedded: testing.EmbeddedEngine,
    add_event: str,
    delete_event: str,
    fields: tuple[str, ...] | None,
) -> None:
    """Nothing tells that its SAs were added, or only of the last one that they were."""
    embedded.switch(add_event=add_event, delete_event=delete_event)
    listed, add_inbound, add_outbound = half_built(engine, 1)
    with engine.mirror(fields=fields, reconcile_every=None) as mirrored:
        told, then_inbound, then_outbound = half_built(engine, 2)
        if add_event == "create":
            until_ids(mirrored, {listed, told})
        for add in (add_inbound, then_inbound):
            add()
        embedded.advance(33)
        until_ids(mirrored, {listed, told} if add_event == "create" else {listed})
        for add in (add_outbound, then_outbound):
            add()
        embedded.advance(33)
        until_same(mirrored, engine, fields)
        reads = mirrored.reads
        embedded.advance(500)
        mirrored.catch_up(WAIT)
        assert mirrored.reads == reads, "it is complete"


def test_reading_again_backs_off_on_the_clock_of_the_engine(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    half_built(engine)
    with engine.mirror(reconcile_every=None) as mirrored:
        mirrored.catch_up(WAIT)
        assert mirrored.reads == 0
        for _ in range(32 * 4):
            embedded.advance(0.25)
            mirrored.catch_up(WAIT)
        assert mirrored.reads == 7, "after 0.25, 0.5, 1 ... 16 seconds more each"
        for _ in range(10):
            embedded.advance(32)
            mirrored.catch_up(WAIT)
        assert 16 <= mirrored.reads <= 18


@EVERY_FIELDS
def test_what_was_updated_is_found_by_a_reconciliation_only(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, fields: tuple[str, ...] | None
) -> None:
    numbers = added(embedded, 3)
    with engine.mirror(fields=fields, reconcile_every=None) as mirrored:
        engine.update(numbers[1], "inbound", bundle_flags=4, key_module=UUID(int=3), mm_sa_id=77)
        generation = mirrored.catch_up(WAIT)
        seen = fields is None or "mm_sa_id_in" in fields
        assert same(mirrored.snapshot(), engine.snapshot(fields=fields)) is not seen
        assert mirrored.reconcile(WAIT) == Drift(3, 0, 0, int(seen))
        assert same(mirrored.snapshot(), engine.snapshot(fields=fields))
        changed = mirrored.changes(generation).changed["context_id"].tolist()
        assert changed == ([numbers[1]] if seen else [])


def test_a_reconciliation_says_what_no_event_had_told(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    numbers = added(embedded, 4)
    with engine.mirror(reconcile_every=None) as mirrored:
        embedded.notifications(held=True)
        embedded.add()
        engine.delete(numbers[0])
        engine.delete(numbers[1])
        engine.update(numbers[2], "outbound", mm_sa_id=5)
        assert mirrored.reconcile(WAIT) == Drift(3, 1, 2, 1)
        assert same(mirrored.snapshot(), engine.snapshot())
        embedded.notifications(held=False)
        until_same(mirrored, engine)
        assert mirrored.reconcile(WAIT) == Drift(3, 0, 0, 0)


def test_reconciliations_come_by_themselves_on_the_clock_of_the_engine(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    number = embedded.add()
    with engine.mirror(reconcile_every=100) as mirrored, engine.mirror(reconcile_every=math.inf) as never:
        engine.update(number, "inbound", mm_sa_id=5)
        embedded.advance(99)
        mirrored.catch_up(WAIT)
        assert not same(mirrored.snapshot(), engine.snapshot())
        embedded.advance(2)
        until_same(mirrored, engine)
        never.catch_up(WAIT)
        assert not same(never.snapshot(), engine.snapshot())


# --- Changes --------------------------------------------------------------------------------------


def test_changes_are_told_once_each_those_that_went_as_they_were_last(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    stays, goes, differs, returns = added(embedded, 4)
    with engine.mirror() as mirrored:
        since, before = moment(mirrored)
        engine.update(goes, "inbound", mm_sa_id=123)
        engine.update(differs, "inbound", mm_sa_id=456)
        mirrored.reconcile(WAIT)
        came, fleeting = embedded.add("10.2.0.1", "10.2.0.2"), embedded.add("10.2.0.3", "10.2.0.4")
        until_ids(mirrored, {stays, goes, differs, returns, came, fleeting})
        for number in (goes, returns, fleeting):
            engine.delete(number)
        until_ids(mirrored, {stays, differs, came})
        embedded.add("10.3.0.1", "10.3.0.2", context_id=returns)
        until_ids(mirrored, {stays, differs, came, returns})
        found = mirrored.changes(since)
        assert ids_of(found.added) == {came} and ids_of(found.removed) == {goes}
        assert ids_of(found.changed) == {differs, returns}
        assert found.removed["mm_sa_id_in"].tolist() == [123]
        assert found.generation == mirrored.generation
        assert replayed(found, before) == moment(mirrored)[1]
        assert [len(part) for part in mirrored.changes(found.generation)[1:]] == [0, 0, 0]


def test_changes_that_were_forgotten_or_are_to_come_are_refused(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    with engine.mirror(history=3) as mirrored:
        generations = [moment(mirrored)]
        for last in range(6):
            embedded.add("10.0.0.1", f"10.1.0.{last + 1}")
            eventually(lambda last=last: len(mirrored) == last + 1)  # type: ignore[misc]
            generations.append(moment(mirrored))
        newest, rows = generations[-1]
        for since, _ in generations[:3]:
            with pytest.raises(GenerationExpired, match=f"{generations[3][0]} to {newest}, not {since}"):
                mirrored.changes(since)
        for since, before in generations[3:]:
            assert replayed(mirrored.changes(since), before) == rows
        with pytest.raises(GenerationExpired, match=f"not {newest + 1}"):
            mirrored.changes(newest + 1)
        for wrong in (True, 1.0, "1", None):
            with pytest.raises(TypeError, match="since must be an int"):
                mirrored.changes(wrong)  # type: ignore[arg-type]
        for out in (-1, 2**64):
            with pytest.raises(ValueError, match="since must be a generation"):
                mirrored.changes(out)


def test_a_snapshot_stays_as_it_was(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(40, 9, odd=True)
    with engine.mirror() as mirrored:
        batch = mirrored.snapshot()
        before = values(batch)
        for number in engine.snapshot()["context_id"].tolist()[::2]:
            engine.delete(number)
        embedded.seed(100, 10, odd=True)
        until_same(mirrored, engine)
        assert values(batch) == before
    assert values(batch) == before


def test_first_seen_is_when_the_mirror_first_had_a_context(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    old = embedded.add()
    embedded.advance(1000)
    with engine.mirror() as mirrored:
        embedded.advance(50)
        new = embedded.add()
        until_ids(mirrored, {old, new})
        embedded.advance(10)
        for number, seconds in ((old, 60), (new, 10)):
            expected = datetime.now(UTC) - timedelta(seconds=seconds)
            assert abs(mirrored.first_seen(number) - expected) < timedelta(seconds=9)
        with pytest.raises(KeyError):
            mirrored.first_seen(old + new)
        engine.delete(old)
        until_ids(mirrored, {new})
        with pytest.raises(KeyError):
            mirrored.first_seen(old)


def test_totals_count_what_it_has_seen(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    numbers = added(embedded, 3)
    with engine.mirror(history=1) as mirrored:
        numbers.append(embedded.add())
        until_ids(mirrored, set(numbers))
        engine.delete(numbers[0])
        until_ids(mirrored, set(numbers[1:]))
        engine.update(numbers[1], "inbound", mm_sa_id=5)
        mirrored.reconcile(WAIT)
        assert mirrored.totals == {"added": 4, "removed": 1, "changed": 1}


# --- Waiting --------------------------------------------------------------------------------------


def test_wait_wakes_with_the_next_change_or_when_its_time_is_over_or_at_the_end(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    with engine.mirror() as mirrored:
        generation = mirrored.generation
        assert mirrored.wait(generation, 0.01) == generation
        assert mirrored.wait(generation - 1) == generation
        timer = threading.Timer(0.05, embedded.add)
        timer.start()
        assert mirrored.wait(generation, WAIT) > generation
        timer.join()
        timer = threading.Timer(0.05, mirrored.close)
        timer.start()
        began = time.monotonic()
        assert mirrored.wait(mirrored.generation, WAIT) == mirrored.generation
        assert time.monotonic() - began < WAIT
        timer.join()


def test_a_request_that_takes_too_long_times_out_and_stops_nothing(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    number = embedded.add()
    with engine.mirror(reconcile_every=None) as mirrored:
        engine.update(number, "inbound", mm_sa_id=5)
        with engine.transaction():  # until its end the mirror's calls wait
            for request in (mirrored.reconcile, mirrored.catch_up):
                with pytest.raises(TimeoutError) as raised:
                    request(0.01)
                assert raised.type is TimeoutError, "not the EngineTimeout of 15 s later"
        eventually(lambda: same(mirrored.snapshot(), engine.snapshot()))


@pytest.mark.parametrize("fields", [None, ("context_id",)], ids=["all", "one"])
def test_a_reconciliation_ends_while_contexts_come_and_go_all_the_time(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, fields: tuple[str, ...] | None
) -> None:
    embedded.seed(3000, 4)
    embedded.start_clock()
    with engine.mirror(fields=fields) as mirrored:
        embedded.churn(5000, 3)
        embedded.latency(per_entry_us=20)  # so that something happens during each
        drifts = [mirrored.reconcile(WAIT / 2) for _ in range(3)]
        assert all(drift.listed > 1000 for drift in drifts)
        assert mirrored.catch_up(WAIT / 2) > 0
        embedded.latency()
        embedded.churn(0)
        embedded.stop_clock()
        until_same(mirrored, engine, fields)


def test_a_second_of_the_fastest_churn_is_caught_up_with(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(2000, 4)
    embedded.notifications(capacity=2**20)
    with engine.mirror(reconcile_every=None, capacity=2**20) as mirrored:
        before = ids_of(mirrored.snapshot())
        embedded.start_clock()
        embedded.churn(20_000, 5)
        time.sleep(1)
        embedded.churn(0)
        embedded.stop_clock()
        embedded.advance(33)
        until_same(mirrored, engine)
        assert mirrored.gaps == 0 and ids_of(mirrored.snapshot()) != before
        assert mirrored.reconcile(WAIT) == Drift(len(embedded), 0, 0, 0)


def test_threads_take_consistent_snapshots_while_contexts_come_and_go(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(500, 4)
    embedded.start_clock()
    with engine.mirror() as mirrored:
        embedded.churn(5000, 3)

        def look() -> None:
            last, rows = moment(mirrored)
            for _ in range(15):
                batch = mirrored.snapshot()
                ids_of(batch)
                assert 0 < len(batch) < 2000
                assert all(context.remote_address or not context.inbound for context in batch[:50])
                since, found = last, mirrored.changes(last)
                rows, last = replayed(found, rows), found.generation
                assert last >= since and len(rows) < 2000

        run_together(look, look, look, look)
        embedded.churn(0)
        embedded.stop_clock()
        until_same(mirrored, engine)


# --- What goes wrong ------------------------------------------------------------------------------


def test_lost_events_are_counted_and_made_up_for(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    numbers = added(embedded, 30)
    with engine.mirror(capacity=1, reconcile_every=None) as mirrored:
        embedded.notifications(held=True)
        for number in numbers[:20]:
            engine.delete(number)
        new = added(embedded, 20)
        embedded.latency(per_call_us=20_000)  # the others come while the first is read
        embedded.notifications(held=False)
        eventually(lambda: mirrored.gaps > 0)
        embedded.latency()
        until_ids(mirrored, {*numbers[20:], *new})
        until_same(mirrored, engine)
        assert mirrored.lost >= 10 and mirrored.resyncs == 0


@pytest.mark.parametrize("contexts", testing.SWITCHES["contexts_after_restart"][0])
@pytest.mark.parametrize("ids", testing.SWITCHES["ids_after_restart"][0])
def test_after_a_restart_it_begins_anew_by_itself_and_shows_its_last_state_meanwhile(
    embedded: testing.EmbeddedEngine, contexts: str, ids: str
) -> None:
    embedded.switch(contexts_after_restart=contexts, ids_after_restart=ids)
    embedded.seed(60, 3, odd=True)
    with embedded.open(reconnect=True) as engine, engine.mirror(reconcile_every=None) as mirrored:
        before, rows = moment(mirrored)
        embedded.stop_service()
        with pytest.raises(wfpsa.WfpError):
            mirrored.catch_up(WAIT)
        eventually(lambda: isinstance(mirrored.error, wfpsa.EngineUnavailable))
        assert moment(mirrored) == (before, rows)
        time.sleep(0.1)
        assert mirrored.age >= 0.05 and mirrored.resyncs == 0
        embedded.start_service()
        embedded.seed(20, 4)
        insist(lambda: mirrored.reconcile(WAIT))
        assert same(mirrored.snapshot(), engine.snapshot())
        eventually(lambda: mirrored.error is None)
        assert mirrored.resyncs == 1 and mirrored.age < WAIT
        assert replayed(mirrored.changes(before), rows) == moment(mirrored)[1]


def test_a_dead_session_is_noticed_without_any_event(
    embedded: testing.EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "PROBED_AFTER", 0.01)
    embedded.switch(contexts_after_restart="kept")
    embedded.seed(10)
    with embedded.open(reconnect=True) as engine, engine.mirror(reconcile_every=None) as mirrored:
        embedded.restart_service()
        eventually(lambda: mirrored.resyncs == 1)
        until_same(mirrored, engine)


@pytest.mark.parametrize("profile", ["everyone", "read_only"])
def test_who_may_not_do_what_a_mirror_does_gets_no_mirror(embedded: testing.EmbeddedEngine, profile: str) -> None:
    embedded.rights(profile)
    with embedded.open() as engine:
        alive = testing.live_counters()
        try:
            engine.mirror().close()
        except wfpsa.AccessDenied as error:
            assert error.function in ("IPsecSaContextSubscribe0", "IPsecSaContextCreateEnumHandle0")
        else:
            assert profile == "read_only"
        assert testing.live_counters() == alive and mirrors_at_work() == []


def test_a_stopped_service_or_a_closed_engine_gets_no_mirror(embedded: testing.EmbeddedEngine) -> None:
    with embedded.open() as engine:
        embedded.stop_service()
        with pytest.raises(wfpsa.EngineUnavailable):
            engine.mirror()
        embedded.start_service()
    with pytest.raises(wfpsa.EngineClosed):
        engine.mirror()


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (dict(capacity=0), ValueError, "capacity must be 1 to"),
        (dict(capacity=2**31), ValueError, "capacity must be 1 to"),
        (dict(capacity=True), TypeError, "capacity must be an int"),
        (dict(capacity=1.0), TypeError, "capacity must be an int"),
        (dict(history=0), ValueError, "history must be 1 to"),
        (dict(history=-1), ValueError, "history must be 1 to"),
        (dict(history="1"), TypeError, "history must be an int"),
        (dict(reconcile_every=0), ValueError, "reconcile_every must be above 0"),
        (dict(reconcile_every=-0.5), ValueError, "reconcile_every must be above 0"),
        (dict(reconcile_every=math.nan), ValueError, "reconcile_every must be above 0"),
        (dict(reconcile_every="60"), TypeError, "reconcile_every must be a number"),
        (dict(reconcile_every=True), TypeError, "reconcile_every must be a number"),
        (dict(fields=["context_id", "spi"]), (KeyError, ValueError), "spi"),
        (dict(fields=["spi_in"]), ValueError, "context_id"),
        (dict(fields=[]), ValueError, "context_id|fields"),
        (dict(fields=7), TypeError, None),
        (dict(fields=[7]), (TypeError, KeyError, ValueError), None),
    ],
)
def test_bad_arguments_are_named(
    engine: wfpsa.Engine, arguments: dict[str, Any], error: type[Exception], says: str | None
) -> None:
    alive = testing.live_counters()
    with pytest.raises(error, match=says):
        engine.mirror(**arguments)
    assert testing.live_counters() == alive


def test_fields_may_be_any_iterable_or_a_single_name(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    embedded.add()
    for fields in (iter(["spi_in", "context_id"]), "context_id", ["context_id", "context_id"]):
        with engine.mirror(fields=fields) as mirrored:
            assert "context_id" in mirrored.snapshot().columns and len(mirrored.snapshot().columns) <= 2


# --- The end --------------------------------------------------------------------------------------


def test_a_closed_mirror_keeps_its_last_state_and_asks_for_nothing(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    numbers = added(embedded, 3)
    mirrored = engine.mirror()
    mirrored.close()
    mirrored.close()
    assert mirrors_at_work() == [] and testing.live_counters()["engines"] == 1
    assert ids_of(mirrored.snapshot()) == set(numbers) and len(mirrored) == 3
    for call in (mirrored.reconcile, mirrored.catch_up):
        with pytest.raises(wfpsa.EngineClosed, match="mirror is closed"):
            call()
    assert mirrored.wait(mirrored.generation) == mirrored.generation


def test_a_mirror_is_closed_by_the_end_of_its_block_also_with_an_exception(engine: wfpsa.Engine) -> None:
    with pytest.raises(ZeroDivisionError), engine.mirror() as mirrored:
        raise ZeroDivisionError
    assert mirrors_at_work() == []
    with pytest.raises(wfpsa.EngineClosed):
        mirrored.catch_up()


def test_closing_from_another_thread_ends_those_who_wait(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(300, 1)
    for turn in range(20):
        mirrored = engine.mirror()

        def ask(mirrored: Mirror = mirrored) -> None:
            with pytest.raises(wfpsa.EngineClosed):
                while True:
                    assert mirrored.reconcile(WAIT).listed == 300
                    mirrored.catch_up(WAIT)

        def close(mirrored: Mirror = mirrored, turn: int = turn) -> None:
            time.sleep(turn / 2000)
            mirrored.close()

        run_together(ask, ask, close)
        assert mirrors_at_work() == []


def test_whoever_asks_wakes_a_mirror_that_sleeps(engine: wfpsa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "SLICE_MS", 60_000)
    with engine.mirror() as mirrored:
        began = time.monotonic()
        for _ in range(20):
            assert mirrored.reconcile(WAIT).listed == 0
            mirrored.catch_up(WAIT)
        assert time.monotonic() - began < 50


def test_closing_does_not_wait_for_all_that_is_to_be_read(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    with engine.mirror(reconcile_every=None) as mirrored:
        embedded.notifications(held=True)
        embedded.seed(2_000, 1)
        embedded.latency(per_call_us=2_000)  # it may have begun with a few of them only
        embedded.notifications(held=False)
        eventually(lambda: mirrored.lag > 400)
        embedded.latency(per_call_us=100_000)
        began = time.monotonic()
        mirrored.close()
        assert time.monotonic() - began < 10, "a quarter of what those 400 take"
        embedded.latency()


def test_whoever_waits_is_told_of_what_was_applied_before_the_engine_was_gone(
    embedded: testing.EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded.seed(20, 1)
    with embedded.open() as engine, engine.mirror(reconcile_every=None) as mirrored:
        generation = mirrored.catch_up(WAIT)
        embedded.fail("IPsecSaContextGetById1", 5, 0x80320010)  # FWP_E_SESSION_ABORTED
        monkeypatch.setattr(mirror, "BACK_OFF", (WAIT,))
        embedded.notifications(held=True)
        for _ in range(10):
            embedded.add()
        embedded.notifications(held=False)
        assert mirrored.wait(generation, WAIT / 2) > generation
        eventually(lambda: mirrored.error is not None)


def test_an_engine_that_is_closed_leaves_its_mirrors_at_work(embedded: testing.EmbeddedEngine) -> None:
    with embedded.open() as other:
        engine = embedded.open()
        with engine.mirror(reconcile_every=None) as mirrored:
            engine.close()
            number = embedded.add()
            until_ids(mirrored, {number})
            embedded.switch(contexts_after_restart="kept")
            embedded.restart_service()
            assert insist(lambda: mirrored.reconcile(WAIT)).listed == 1
            other.reopen()
            assert same(mirrored.snapshot(), other.snapshot())


@pytest.mark.parametrize("stopped", [False, True])
def test_a_mirror_that_nobody_refers_to_any_more_ends_by_itself(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    """The last error, which was raised in who asked, does not hold it."""
    monkeypatch.setattr(mirror, "BACK_OFF", (WAIT,))
    mirrored = engine.mirror()
    if stopped:
        embedded.stop_service()
        with pytest.raises(wfpsa.WfpError):
            mirrored.reconcile(WAIT)
        with pytest.raises(wfpsa.WfpError):
            mirrored.catch_up(WAIT)
        while mirrored.error is None:
            time.sleep(0.001)
    reference = weakref.ref(mirrored)
    del mirrored
    gc.collect()
    try:
        assert reference() is None
        assert mirrors_at_work() == []
    finally:
        embedded.start_service()


def quietly(code: str) -> None:
    """Runs that in a new interpreter, which ends well and says nothing on stderr."""
    paths = [str(Path(wfpsa.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "fine\n"


LEFT_OPEN = """
import sys, threading, time
import wfpsa
from wfpsa import testing
control = testing.EmbeddedEngine()
control.seed(1000)
control.churn({rate})
mirrored = control.open().mirror()
mirrored.catch_up()
if {waits}:
    threading.Thread(target=mirrored.wait, args=(2**60,), daemon=True).start()
if {stopped}:
    control.stop_service()
    time.sleep(0.2)
print("fine")
"""


@pytest.mark.parametrize("rate", [0, 20000])
@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("stopped", [False, True])
def test_a_process_ends_well_with_an_open_mirror(rate: int, waits: bool, stopped: bool) -> None:
    quietly(LEFT_OPEN.format(rate=rate, waits=waits, stopped=stopped))


FORKED = """
import warnings

warnings.simplefilter("ignore", DeprecationWarning)  # that it has threads is what this is about
import os, sys
import wfpsa
from wfpsa import testing

def refused(call):
    try:
        call()
    except wfpsa.EngineClosed as error:
        return "another process" in str(error)
    return False

control = testing.EmbeddedEngine()
control.seed(100)
control.churn(20000)
engine = control.open()
mirrored = engine.mirror()
for turn in range(5):
    child = os.fork()
    if child == 0:
        calls = [
            mirrored.snapshot, mirrored.reconcile, mirrored.catch_up, lambda: mirrored.changes(0),
            lambda: mirrored.wait(0), lambda: len(mirrored), lambda: mirrored.generation, lambda: mirrored.age,
            lambda: mirrored.error, lambda: mirrored.first_seen(1), engine.mirror,
        ]
        right = [refused(call) for call in calls[:-1]]
        try:
            calls[-1]()
        except wfpsa.EngineClosed:
            right.append(True)
        mirrored.close()
        with wfpsa.open_engine("embedded:?contexts=3") as own, own.mirror() as mine:
            right.append(len(mine) == 3 and mine.reconcile(30).listed == 3)
        sys.stderr.write("" if all(right) and len(right) == 12 else repr(right))
        sys.exit(0 if all(right) else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
control.churn(0)
assert mirrored.reconcile(30).listed == 100
mirrored.close()
print("fine")
"""


@pytest.mark.fork
def test_a_forked_child_gets_engine_closed_and_the_mirror_goes_on() -> None:
    quietly(FORKED)
    assert run_python("import wfpsa; print('wfpsa.mirror' in __import__('sys').modules)") == "False\n"


# --- Faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [None, ("context_id",)], ids=["all", "one"])
def test_fault_walk_of_the_allocations_of_a_new_mirror(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, fields: tuple[str, ...] | None
) -> None:
    embedded.seed(80, 3, odd=True)
    mirrored, failures = walk_allocations(
        lambda: engine.mirror(fields=fields, history=50, capacity=10),
        failed=none_at_work,
    )
    with mirrored:
        assert same(mirrored.snapshot(), engine.snapshot(fields=fields))
    assert failures > 10


def none_at_work() -> None:
    assert mirrors_at_work() == []


def test_fault_walk_of_what_is_asked_of_a_mirror(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(80, 3, odd=True)
    with engine.mirror() as mirrored:
        since, rows = moment(mirrored)
        for number in list(rows)[:30]:
            engine.delete(number)
        embedded.seed(40, 4, odd=True)
        until_same(mirrored, engine)
        batch, failures = walk_allocations(mirrored.snapshot)
        assert failures > 3 and same(batch, engine.snapshot())
        changes, failures = walk_allocations(lambda: mirrored.changes(since))
        assert failures > 9 and replayed(changes, rows) == moment(mirrored)[1]


def test_fault_walk_of_the_allocations_by_which_events_are_applied(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    """Whatever fails, the mirror has all of it in the end, without a reconciliation that somebody asked for."""
    struck = 0
    with engine.mirror(reconcile_every=None, history=7) as mirrored:
        for nth in range(1, 40):
            embedded.notifications(held=True)
            for number in mirrored.snapshot()["context_id"].tolist()[: nth % 5]:
                engine.delete(number)
            embedded.seed(nth, nth)
            testing.fail_allocation(nth)
            embedded.notifications(held=False)
            with suppress(MemoryError, wfpsa.WfpError):
                mirrored.catch_up(WAIT)
            with suppress(MemoryError, wfpsa.WfpError):
                struck += not mirrored.catch_up(WAIT)
            testing.fail_allocation(0)
            eventually(lambda: mirrored.error is None or out_of_memory(mirrored.error))
            insist(lambda: until_same(mirrored, engine))
            assert len(mirrors_at_work()) == 1
        assert mirrored.error is None
        assert mirrored.reconcile(WAIT) == Drift(len(embedded), 0, 0, 0)


def test_fault_walk_of_the_allocations_by_which_it_begins_anew(
    embedded: testing.EmbeddedEngine,
) -> None:
    """What it has by then is not taken for the engine's contents, and its thread lives."""
    embedded.switch(contexts_after_restart="kept", ids_after_restart="new")
    embedded.seed(30, 3)
    with embedded.open(reconnect=True) as engine, engine.mirror(reconcile_every=None) as mirrored:
        for nth in range(1, 30):
            embedded.restart_service()
            embedded.add()
            testing.fail_allocation(nth)
            for _ in range(3):
                with suppress(MemoryError, wfpsa.WfpError):
                    mirrored.catch_up(WAIT / 6)
            testing.fail_allocation(0)
            insist(lambda: mirrored.catch_up(WAIT / 6))
            assert ids_of(mirrored.snapshot()) == ids_of(engine.snapshot()), nth
            assert same(mirrored.snapshot(), engine.snapshot())
            assert len(mirrors_at_work()) == 1


@pytest.mark.parametrize("code", [0x80320012, 0x80320010, 5, 8, 1702, 1722, 1726, 0xFFFFFFFF])
@pytest.mark.parametrize(
    "function",
    [
        "FwpmEngineOpen0",
        "IPsecSaContextSubscribe0",
        "IPsecSaContextCreateEnumHandle0",
        "IPsecSaContextEnum1",
        "IPsecSaContextDestroyEnumHandle0",
        "IPsecSaContextGetById1",
        "FwpmEngineClose0",
    ],
)
def test_whatever_call_fails_the_error_is_told_and_the_next_attempt_makes_up_for_it(
    embedded: testing.EmbeddedEngine, function: str, code: int
) -> None:
    embedded.seed(20, 3)
    with embedded.open() as engine:
        embedded.fail(function, 1, code)
        alive = testing.live_counters()["engines"]
        if function in ("IPsecSaContextGetById1", "FwpmEngineClose0"):
            mirrored = engine.mirror(reconcile_every=None)
        else:
            with pytest.raises(wfpsa.WfpError) as caught:
                engine.mirror(reconcile_every=None)
            assert (caught.value.code, caught.value.function) == (code, function)
            assert testing.live_counters()["engines"] == alive and mirrors_at_work() == []
            embedded.fail(function, 0)
            mirrored = engine.mirror(reconcile_every=None)
        with mirrored:
            embedded.fail(function, 1, code)
            embedded.add()
            with suppress(wfpsa.WfpError):
                mirrored.reconcile(WAIT)
            insist(lambda: mirrored.reconcile(WAIT))
            embedded.fail(function, 0)
            until_same(mirrored, engine)
            eventually(lambda: mirrored.error is None)
