"""Mass expiries at work: every outcome and every way to stop, each id accounted for, and the engine agreeing."""

import _thread
import json
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import FWP_E_SESSION_ABORTED, FWP_E_TIMEOUT, Worker, added, outbound

import wfpsa
from wfpsa import EngineClosed, ExpiryReport, Outcome, Traffic, _native, expiry, testing
from wfpsa.plan import ExpiryPlan


def loaded(plan: ExpiryPlan, tmp_path: Path) -> ExpiryPlan:
    path = tmp_path / "plan.json"
    plan.save(path, overwrite=True)
    return ExpiryPlan.load(path)


@pytest.mark.parametrize("sessions", [1, 3, 16])
@pytest.mark.parametrize("verify", [True, False])
def test_every_context_is_expired_once(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, sessions: int, verify: bool
) -> None:
    ids = added(embedded, 700)
    report = engine.plan_expiry(engine.snapshot()).apply(engine, sessions=sessions, verify=verify)
    assert report.context_id.tolist() == ids and report.stopped is None
    assert report.counts[Outcome.EXPIRED] == 700 and set(report.attempts) == {1}
    assert outbound(engine) == set()
    assert testing.live_counters()["engines"] == 1


def test_what_changed_since_is_left_alone_and_what_went_is_gone(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    ids = added(embedded, 6)
    plan = loaded(engine.plan_expiry(engine.snapshot()), tmp_path)
    engine.delete(ids[0])
    engine.update(ids[1], "outbound", mm_sa_id=77)
    engine.delete(ids[2])
    embedded.add("10.0.0.1", "10.9.9.9", context_id=ids[2])
    engine.expire([ids[3]])
    report = plan.apply(engine)
    assert report.outcome.tolist() == [
        Outcome.ALREADY_GONE,
        Outcome.CHANGED,
        Outcome.CHANGED,
        Outcome.CHANGED,
        Outcome.EXPIRED,
        Outcome.EXPIRED,
    ]
    assert outbound(engine) == {ids[1], ids[2]}
    assert report.code.tolist() == [0x80320008, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("sessions", [1, 4])
def test_after_a_restart_that_gives_ids_again_no_innocent_context_is_expired(
    tmp_path: Path, embedded: testing.EmbeddedEngine, sessions: int
) -> None:
    embedded.switch(ids_after_restart="reused")
    with embedded.open() as engine:
        ids = added(embedded, 40)
        plan = loaded(engine.plan_expiry(engine.snapshot()), tmp_path)
    embedded.restart_service()
    others = [embedded.add("10.0.0.1", f"10.8.0.{at + 1}") for at in range(40)]
    assert others == ids
    with embedded.open() as engine:
        report = plan.apply(engine, sessions=sessions)
        assert report.counts[Outcome.CHANGED] == 40
        assert outbound(engine) == set(others)
        with pytest.raises(ValueError, match="a plan that was loaded or resumed is applied with verify=True only"):
            plan.apply(engine, verify=False)


def test_a_restart_in_the_middle_goes_on_verified_in_new_sessions(embedded: testing.EmbeddedEngine) -> None:
    embedded.switch(ids_after_restart="reused")
    with embedded.open() as engine:
        ids = added(embedded, 600)
        plan = engine.plan_expiry(engine.snapshot())
        embedded.latency(per_call_us=2000)
        innocent: list[int] = []

        def restart(report: ExpiryReport) -> None:
            if not innocent and report.counts[Outcome.EXPIRED] > 50:
                embedded.latency(per_call_us=100_000)  # so that the others are there before the next call is made
                embedded.restart_service()
                innocent.extend(embedded.add("10.0.0.1", "10.8.0.1") for _ in range(600))
                embedded.latency(per_call_us=2000)

        report = plan.apply(engine, sessions=2, verify=False, on_progress=restart)
        assert innocent == ids
        counts = report.counts
        assert counts[Outcome.EXPIRED] + counts[Outcome.CHANGED] + counts[Outcome.ALREADY_GONE] == 600
        assert counts[Outcome.CHANGED] > 0 and report.stopped is None
    embedded.latency()
    with embedded.open() as engine:
        assert outbound(engine) == set(innocent)


def test_a_service_that_stays_away_ends_it_with_every_id_accounted_for(
    embedded: testing.EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "AWAITED", 0.5)
    with embedded.open() as engine:
        added(embedded, 400)
        plan = engine.plan_expiry(engine.snapshot())
        embedded.latency(per_call_us=2000)

        def stop(report: ExpiryReport) -> None:
            if report.counts[Outcome.EXPIRED] > 50:
                embedded.stop_service(FWP_E_SESSION_ABORTED)

        report = plan.apply(engine, on_progress=stop)
        assert report.stopped and report.stopped.startswith("the session was lost")
        counts = report.counts
        assert sum(counts.values()) == 400 and counts[Outcome.FAILED] == 1
        assert counts[Outcome.NOT_ATTEMPTED] > 0
    embedded.start_service()


def test_a_call_that_times_out_is_tried_again_and_other_failures_are_not(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    added(embedded, 3)
    plan = engine.plan_expiry(engine.snapshot())
    embedded.fail("IPsecSaContextExpire0", 2, FWP_E_TIMEOUT)
    report = plan.apply(engine)
    assert report.outcome.tolist() == [Outcome.EXPIRED] * 3 and report.attempts.tolist() == [1, 2, 1]
    assert outbound(engine) == set()
    embedded.add("10.0.0.1", "10.7.0.1")
    plan = engine.plan_expiry(engine.snapshot(remote="10.7.0.1"))
    embedded.fail("IPsecSaContextExpire0", 1, 5)
    report = plan.apply(engine)
    assert (report.outcome.tolist(), report.attempts.tolist()) == ([Outcome.DENIED], [1])


def test_a_session_lost_in_a_call_is_replaced_and_what_was_expired_meanwhile_is_not_counted_again(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    added(embedded, 3)
    plan = engine.plan_expiry(engine.snapshot())
    embedded.fail("IPsecSaContextExpire0", 2, FWP_E_SESSION_ABORTED)
    report = plan.apply(engine, verify=False)
    assert report.outcome.tolist() == [Outcome.EXPIRED] * 3 and report.attempts.tolist() == [1, 2, 1]
    assert testing.live_counters()["engines"] == 1


@pytest.mark.parametrize("sessions", [1, 4])
def test_too_many_failures_stop_it(embedded: testing.EmbeddedEngine, sessions: int) -> None:
    with embedded.open() as engine:
        added(embedded, 1000)
        plan = engine.plan_expiry(engine.snapshot())
    embedded.rights("read_only")
    with embedded.open() as engine:
        for limits, said in (({"max_failures": 5}, "more than 5 failures"), ({"max_failure_ratio": 0.5}, "above 0.5")):
            report = plan.apply(engine, sessions=sessions, **limits)  # type: ignore[arg-type]
            counts = report.counts
            assert report.stopped and said in report.stopped
            assert counts[Outcome.DENIED] + counts[Outcome.NOT_ATTEMPTED] == 1000
            assert 5 < counts[Outcome.DENIED] < 1000
        with pytest.raises(wfpsa.ExpiryFailed):
            report.raise_for_failures()


def test_a_timeout_a_rate_and_a_cancel_each_stop_or_slow_it(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    added(embedded, 300)
    plan = engine.plan_expiry(engine.snapshot())
    report = plan.apply(engine, max_rate=100, timeout=0.5, sessions=2)
    assert report.stopped == "the timeout of 0.5 s"
    done = report.counts[Outcome.EXPIRED]
    assert 0 < done < 300 and report.counts[Outcome.NOT_ATTEMPTED] == 300 - done
    assert len(outbound(engine)) == 300 - done
    report = plan.apply(engine, max_rate=50, on_progress=lambda report: report.cancel())
    assert report.stopped == "cancelled" and report.counts[Outcome.NOT_ATTEMPTED] > 0
    report.cancel()  # later: nothing


def test_another_thread_may_cancel(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    added(embedded, 2000)
    plan = engine.plan_expiry(engine.snapshot())
    embedded.latency(per_call_us=2000)
    reports: list[ExpiryReport] = []
    seen = threading.Event()

    def note(report: ExpiryReport) -> None:
        reports.append(report)
        if report.counts[Outcome.EXPIRED]:
            seen.set()

    canceller = threading.Thread(target=lambda: (seen.wait(60), reports[0].cancel()))
    canceller.start()
    report = plan.apply(engine, sessions=3, on_progress=note)
    canceller.join(60)
    assert report.stopped == "cancelled" and 0 < report.counts[Outcome.NOT_ATTEMPTED] < 2000
    embedded.latency()
    assert len(outbound(engine)) == 2000 - report.counts[Outcome.EXPIRED]


def test_what_a_progress_function_raises_ends_it_with_the_report(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    added(embedded, 2000)
    plan = engine.plan_expiry(engine.snapshot())
    embedded.latency(per_call_us=500)

    def press(report: ExpiryReport) -> None:
        raise KeyboardInterrupt

    with pytest.raises(wfpsa.ExpiryInterrupted, match=r"interrupted after \d+ of 2000") as caught:
        plan.apply(engine, on_progress=press)
    report = caught.value.report
    assert isinstance(report, ExpiryReport) and report.stopped == "interrupted"
    assert report.counts[Outcome.NOT_ATTEMPTED] > 0

    def fail(report: ExpiryReport) -> None:
        raise LookupError("no such thing")

    with pytest.raises(LookupError) as failed:
        plan.apply(engine, on_progress=fail)
    assert isinstance(failed.value.report, ExpiryReport)  # type: ignore[attr-defined]
    embedded.latency()


def test_a_closed_engine_applies_nothing(embedded: testing.EmbeddedEngine, tmp_path: Path) -> None:
    with embedded.open() as engine:
        added(embedded, 3)
        plan = engine.plan_expiry(engine.snapshot())
    with pytest.raises(EngineClosed):
        plan.apply(engine, sessions=2, journal=tmp_path / "journal")
    with pytest.raises(EngineClosed):
        engine.expire([1], sessions=2)
    assert not any(tmp_path.iterdir())


def test_a_service_that_comes_back_is_waited_for(embedded: testing.EmbeddedEngine) -> None:
    embedded.switch(contexts_after_restart="kept")
    with embedded.open() as engine:
        added(embedded, 200)
        plan = engine.plan_expiry(engine.snapshot())
        embedded.latency(per_call_us=5000)

        def away() -> None:
            until_open(4)
            embedded.stop_service()
            time.sleep(1)
            embedded.start_service()

        leaver = Worker(away)
        report = plan.apply(engine, sessions=4, timeout=60)
        leaver.finish()
        assert report.stopped is None and report.counts[Outcome.NOT_ATTEMPTED] == 0
        assert report.counts[Outcome.FAILED] == 0


Unverified = Callable[[wfpsa.Engine, wfpsa.SaBatch], ExpiryReport]
UNVERIFIED: dict[str, Unverified] = {
    "batch": lambda engine, batch: engine.expire(batch, sessions=8),
    "ids": lambda engine, batch: engine.expire(batch["context_id"].tolist(), sessions=8),
    "plan": lambda engine, batch: engine.plan_expiry(batch).apply(engine, sessions=8, verify=False),
}


@pytest.mark.parametrize("how", UNVERIFIED)
def test_a_session_from_before_a_restart_lets_no_other_expire_what_has_its_ids_now(
    embedded: testing.EmbeddedEngine, how: str
) -> None:
    embedded.switch(ids_after_restart="reused")
    with embedded.open() as engine:
        ids = added(embedded, 200)
        batch = engine.snapshot()
        embedded.restart_service()
        innocent = [embedded.add("10.0.0.1", f"10.8.0.{at + 1}") for at in range(200)]
        assert innocent == ids
        embedded.latency(per_call_us=1000)
        report = UNVERIFIED[how](engine, batch)
        assert report.counts[Outcome.EXPIRED] == 0
        if how == "ids":
            assert report.stopped == "the session was lost, and ids alone cannot be verified in another"
    embedded.latency()
    with embedded.open() as engine:
        assert outbound(engine) == set(innocent)


@pytest.mark.parametrize("sessions", [1, 16])
def test_nothing_is_expired_after_the_one_failure_that_is_too_many(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, sessions: int
) -> None:
    added(embedded, 2000)
    embedded.latency(per_call_us=2000)
    embedded.fail("IPsecSaContextExpire0", 10, 0x80320009)
    report = engine.plan_expiry(engine.snapshot()).apply(engine, sessions=sessions, max_failures=0)
    assert report.stopped == "more than 0 failures" and report.counts[Outcome.FAILED] == 1
    assert report.counts[Outcome.EXPIRED] < (10 if sessions == 1 else 2000 - 16 * 15)
    embedded.latency()


def test_an_error_in_one_session_stops_the_others(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    added(embedded, 2000)
    plan = engine.plan_expiry(engine.snapshot())
    embedded.latency(per_call_us=2000)
    real = expiry.Application._slice
    calls = iter(range(10**9))

    def fail_once(self: expiry.Application, *arguments: Any) -> tuple[int, bool]:
        if next(calls) == 5:
            raise MemoryError("none left")
        return real(self, *arguments)

    monkeypatch.setattr(expiry.Application, "_slice", fail_once)
    with pytest.raises(MemoryError) as caught:
        plan.apply(engine, sessions=4)
    report = caught.value.report  # type: ignore[attr-defined]
    assert report.stopped == "an error: MemoryError" and report.counts[Outcome.NOT_ATTEMPTED] > 500
    embedded.latency()


def test_spared_contexts_cost_no_rate(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    ids = added(embedded, 150)
    spared = [number for at, number in enumerate(ids) if at % 6]
    report = engine.plan_expiry(engine.snapshot(), exclude=spared).apply(engine, max_rate=50)
    assert report.counts[Outcome.SKIPPED] == 125 and report.counts[Outcome.EXPIRED] == 25
    assert report.seconds is not None and 0.4 < report.seconds < 2.9  # all 150 would take 2.98


def test_what_a_rate_allowed_and_was_not_used_is_kept_for_a_second_at_most(engine: wfpsa.Engine) -> None:
    limits = expiry.Limits.checked(1, 10, None, None, None)
    report = ExpiryReport(_native.ExpiryItems(range(1, 1000)))
    pace = expiry.Application(report, engine, limits, seen=None, verify=False)
    pace._filled -= 100
    assert pace._allowed(0, 500, 10) == 10


@pytest.mark.posix_signal
def test_who_presses_ctrl_c_twice_gets_the_report_of_all_that_was_done(embedded: testing.EmbeddedEngine) -> None:
    with embedded.open() as engine:
        added(embedded, 20)
        plan = engine.plan_expiry(engine.snapshot())
        embedded.latency(per_call_us=1_000_000)
        pressing = [threading.Timer(after, os.kill, (os.getpid(), signal.SIGINT)) for after in (0.5, 0.6)]
        for timer in pressing:
            timer.start()
        with pytest.raises(wfpsa.ExpiryInterrupted) as caught:
            plan.apply(engine, verify=False)
        report = caught.value.report
        assert isinstance(report, ExpiryReport)
        counts = dict(report.counts)
        embedded.latency()
        time.sleep(0.7)
        assert dict(report.counts) == counts and len(outbound(engine)) == 20 - counts[Outcome.EXPIRED]


def test_an_empty_plan_is_applied_at_once(engine: wfpsa.Engine) -> None:
    report = engine.plan_expiry(engine.snapshot()).apply(engine, sessions=4)
    assert len(report) == 0 and report.stopped is None


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"sessions": 0}, ValueError, "sessions must be 1 to 256, not 0"),
        ({"sessions": 1.0}, TypeError, "sessions must be an int, not float"),
        ({"max_rate": 0}, ValueError, "max_rate must be above 0, not 0"),
        ({"max_rate": "fast"}, TypeError, "max_rate must be a number or None, not str"),
        ({"max_failures": -1}, ValueError, "max_failures must be 0 to"),
        ({"max_failure_ratio": 1.5}, ValueError, "max_failure_ratio must be 0 or more and at most 1, not 1.5"),
        ({"timeout": float("nan")}, ValueError, "timeout must be above 0, not nan"),
        ({"verify": 1}, TypeError, "verify must be True or False, not 1"),
    ],
)
def test_bad_limits_are_named_before_anything_is_done(
    embedded: testing.EmbeddedEngine,
    engine: wfpsa.Engine,
    arguments: dict[str, object],
    error: type[Exception],
    said: str,
) -> None:
    added(embedded, 2)
    plan = engine.plan_expiry(engine.snapshot())
    with pytest.raises(error, match=said):
        plan.apply(engine, **arguments)  # type: ignore[arg-type]
    assert len(outbound(engine)) == 2


def test_keys_of_what_was_verified_are_nowhere(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    added(embedded, 5)
    plan = engine.plan_expiry(engine.snapshot())
    document = json.dumps(plan._document())
    assert testing.KEY_MARK.hex() not in document
    assert plan.apply(engine).counts[Outcome.EXPIRED] == 5


def test_a_report_of_a_stopped_application_survives_pickling(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    added(embedded, 300)
    report = engine.plan_expiry(engine.snapshot()).apply(
        engine, max_rate=50, on_progress=lambda report: report.cancel()
    )
    copy = pickle.loads(pickle.dumps(report))
    assert copy.stopped == "cancelled" and copy.attempts.tolist() == report.attempts.tolist()
    assert "stopped: cancelled" in repr(copy)


def test_traffic_without_an_outbound_sa_is_compared_too(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    number = embedded.add(traffic=Traffic("10.0.0.1", "10.0.0.2"), outbound=None)
    plan = engine.plan_expiry(engine.snapshot())
    engine.delete(number)
    embedded.add(traffic=Traffic("10.0.0.1", "10.0.0.2"), inbound=None, context_id=number)
    assert plan.apply(engine).outcome.tolist() == [Outcome.CHANGED]


# --- Every way to stop ----------------------------------------------------------------------------

Way = Callable[[ExpiryPlan, wfpsa.Engine, testing.EmbeddedEngine, int], ExpiryReport]


def by_failures(plan: ExpiryPlan, engine: wfpsa.Engine, control: testing.EmbeddedEngine, sessions: int) -> ExpiryReport:
    control.fail("IPsecSaContextExpire0", 30, 5)
    return plan.apply(engine, sessions=sessions, max_failures=0)


def by_ratio(plan: ExpiryPlan, engine: wfpsa.Engine, control: testing.EmbeddedEngine, sessions: int) -> ExpiryReport:
    control.fail("IPsecSaContextExpire0", 30, 5)
    return plan.apply(engine, sessions=sessions, max_failure_ratio=0)


def by_timeout(plan: ExpiryPlan, engine: wfpsa.Engine, control: testing.EmbeddedEngine, sessions: int) -> ExpiryReport:
    return plan.apply(engine, sessions=sessions, timeout=0.1)


def by_cancel(plan: ExpiryPlan, engine: wfpsa.Engine, control: testing.EmbeddedEngine, sessions: int) -> ExpiryReport:
    return plan.apply(engine, sessions=sessions, on_progress=lambda report: report.cancel())


def by_a_key(plan: ExpiryPlan, engine: wfpsa.Engine, control: testing.EmbeddedEngine, sessions: int) -> ExpiryReport:
    presser = threading.Timer(0.1, _thread.interrupt_main)
    presser.start()
    try:
        with pytest.raises(wfpsa.ExpiryInterrupted) as caught:
            plan.apply(engine, sessions=sessions)
    finally:
        presser.cancel()
    report = caught.value.report
    assert isinstance(report, ExpiryReport)
    return report


def until_open(sessions: int) -> None:
    """Waits until so many sessions are open, and a moment longer."""
    end = time.monotonic() + 60
    while testing.live_counters()["engines"] < sessions and time.monotonic() < end:
        time.sleep(0.005)
    time.sleep(0.1)


def by_the_service(
    plan: ExpiryPlan, engine: wfpsa.Engine, control: testing.EmbeddedEngine, sessions: int
) -> ExpiryReport:
    def stop() -> None:
        until_open(sessions)
        control.stop_service()

    stopper = Worker(stop)
    report = plan.apply(engine, sessions=sessions)
    stopper.finish()
    control.start_service()
    return report


def by_closing(plan: ExpiryPlan, engine: wfpsa.Engine, control: testing.EmbeddedEngine, sessions: int) -> ExpiryReport:
    closer = threading.Timer(0.1, engine.close)
    closer.start()
    report = plan.apply(engine, sessions=sessions)
    closer.join()
    return report


def by_no_further_session(
    plan: ExpiryPlan, engine: wfpsa.Engine, control: testing.EmbeddedEngine, sessions: int
) -> ExpiryReport:
    control.fail("FwpmEngineOpen0", 1, 5)
    return plan.apply(engine, sessions=sessions + 1)


WAYS: dict[Way, str] = {
    by_failures: "more than 0 failures",
    by_ratio: "failures above 0 of those attempted",
    by_timeout: "the timeout of 0.1 s",
    by_cancel: "cancelled",
    by_a_key: "interrupted",
    by_the_service: "the session was lost",
    by_closing: "the engine was closed",
    by_no_further_session: "a session could not be opened",
}


@pytest.mark.parametrize("sessions", [1, 4])
@pytest.mark.parametrize("way", WAYS)
def test_whatever_stops_it_each_id_is_accounted_for_and_the_engine_agrees(
    embedded: testing.EmbeddedEngine, monkeypatch: pytest.MonkeyPatch, way: Way, sessions: int
) -> None:
    monkeypatch.setattr(expiry, "AWAITED", 0.5)
    with embedded.open() as engine:
        ids = added(embedded, 1000)
        plan = engine.plan_expiry(engine.snapshot(), exclude=ids[::100])
        embedded.latency(per_call_us=5000)
        report = way(plan, engine, embedded, sessions)
    embedded.latency()
    assert report.stopped and report.stopped.startswith(WAYS[way])
    assert report.context_id.tolist() == ids and sum(report.counts.values()) == 1000
    became = dict(zip(ids, report.outcome, strict=True))
    with embedded.open() as engine:
        left = {number for number in ids if became[number] is not Outcome.EXPIRED}
        assert outbound(engine) == (set() if way is by_the_service else left), "a service that stops loses all contexts"
        assert report.counts[Outcome.NOT_ATTEMPTED] > 0
        assert all(became[number] in (Outcome.SKIPPED, Outcome.NOT_ATTEMPTED) for number in ids[::100])
        tried = zip(report.outcome, report.attempts, strict=True)
        never = (Outcome.SKIPPED, Outcome.NOT_ATTEMPTED)
        assert all((attempts == 0) is (outcome in never) for outcome, attempts in tried)


# --- Failures of what verifies --------------------------------------------------------------------


def fails_in_turn(fail: Callable[[testing.EmbeddedEngine, int], object]) -> list[dict[Outcome, int]]:
    """The outcomes of four contexts as the first, the second, ... of something fails, up to where nothing does."""
    found = []
    while not found or set(found[-1]) != {Outcome.EXPIRED}:
        with testing.EmbeddedEngine() as control, control.open() as engine:
            ids = added(control, 4)
            plan = engine.plan_expiry(engine.snapshot())
            fail(control, len(found) + 1)
            try:
                report = plan.apply(engine)
            except MemoryError as error:
                report = error.report  # type: ignore[attr-defined]
            testing.fail_allocation(0)
            counts = {outcome: count for outcome, count in report.counts.items() if count}
            assert sum(counts.values()) == 4 and report.context_id.tolist() == ids
            expired = {
                number for number, outcome in zip(ids, report.outcome, strict=True) if outcome is Outcome.EXPIRED
            }
            assert outbound(engine) == set(ids) - expired
            assert plan.apply(engine).counts[Outcome.EXPIRED] == 4 - len(expired)
            found.append(counts)
        assert len(found) < 100
    return found


@pytest.mark.parametrize("function", ["IPsecSaContextGetById1", "IPsecSaContextExpire0"])
@pytest.mark.parametrize(("code", "outcome"), [(0x80320009, Outcome.FAILED), (5, Outcome.DENIED)])
def test_each_call_that_fails_leaves_its_context_alone_and_the_others_are_expired(
    function: str, code: int, outcome: Outcome
) -> None:
    found = fails_in_turn(lambda control, nth: control.fail(function, nth, code))
    assert found == [{Outcome.EXPIRED: 3, outcome: 1}] * 4 + [{Outcome.EXPIRED: 4}]


def test_each_allocation_that_fails_leaves_contexts_as_they_were() -> None:
    found = fails_in_turn(lambda control, nth: testing.fail_allocation(nth))
    assert len(found) > 5
    assert {Outcome.NOT_ATTEMPTED: 4} in found  # there was no memory to verify anything
    assert {Outcome.EXPIRED: 3, Outcome.FAILED: 1} in found
