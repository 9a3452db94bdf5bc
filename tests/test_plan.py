"""Plans of mass expiries: what they keep and say, their guards and files, and their application in every way to end."""

import json
import pickle
import threading
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from support import FWP_E_SESSION_ABORTED, FWP_E_TIMEOUT

import wfpsa
from wfpsa import ExpiryReport, Outcome, Traffic, testing
from wfpsa import plan as plans
from wfpsa.plan import PLAN_FIELDS, ExpiryPlan


def added(embedded: testing.EmbeddedEngine, count: int) -> list[int]:
    """Contexts of so many peers."""
    return [embedded.add("10.0.0.1", f"10.1.{at // 250}.{at % 250 + 1}") for at in range(count)]


def outbound(engine: wfpsa.Engine) -> set[int]:
    """The ids whose outbound SA is there."""
    return {context.context_id for context in engine.snapshot() if context.outbound}


# --- What a plan is -------------------------------------------------------------------------------


def test_a_plan_keeps_what_was_seen_and_says_where_when_and_why(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, backend: str
) -> None:
    embedded.seed(200, 7)
    batch = engine.snapshot()
    plan = engine.plan_expiry(batch, reason="a stolen laptop")
    assert plan.contexts.columns == PLAN_FIELDS
    for name in PLAN_FIELDS:
        assert plan.contexts[name].tolist() == batch[name].tolist()
    assert len(plan) == 200 and plan.objections == () and plan.skipped == frozenset()
    assert (plan.engine, plan.backend, plan.reason) == (engine.target, backend, "a stolen laptop")
    assert abs(plan.created.timestamp() - time.time()) < 60
    assert sum(count for _, count in plan.peers) == sum(count for _, count in plan.types) == 200
    said = str(plan)
    assert said.startswith(f"expire 200 contexts of {engine.target} on {plan.host}\n")
    assert "reason: a stolen laptop" in said and "STOPPED" not in said


def test_peers_are_addresses_the_most_frequent_first(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    for remote in ("10.0.0.9", "2001:db8::9", "10.0.0.9"):
        embedded.add("10.0.0.1" if "." in remote else "2001:db8::1", remote)
    plan = engine.plan_expiry(engine.snapshot(fields=wfpsa.CORE_FIELDS))
    assert plan.peers == [(IPv4Address("10.0.0.9"), 2), (IPv6Address("2001:db8::9"), 1)]
    assert "  10.0.0.9: 2\n  2001:db8::9: 1\n" in str(plan)


def test_planning_asks_the_engine_for_nothing(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.seed(50)
    batch = engine.snapshot()
    embedded.stop_service()
    assert len(engine.plan_expiry(batch)) == 50


def test_parts_and_selections_of_a_batch_can_be_planned(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.seed(200, 3)
    batch = engine.snapshot()
    for part in (
        batch[::-3],
        batch[10:20],
        batch[:0],
        batch.where(has_outbound=True),
        batch.where(has_outbound=False)[::2],
    ):
        plan = engine.plan_expiry(part)
        assert [plan.contexts[name].tolist() for name in PLAN_FIELDS] == [part[name].tolist() for name in PLAN_FIELDS]


def test_an_id_that_occurs_twice_is_kept_once_and_that_is_said(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    added(embedded, 5)
    batch = engine.snapshot().take([3, 1, 3, 1, 4])
    plan = engine.plan_expiry(batch)
    assert plan.contexts["context_id"].tolist() == batch.take([0, 1, 4])["context_id"].tolist()
    assert plan.repeated == 2 and "ids given again, and kept once: 2" in str(plan)


def test_the_highest_ids_of_each_peer_can_be_spared_and_any_others(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    ids = [embedded.add("10.0.0.1", f"10.0.1.{1 + at % 3}") for at in range(9)]
    batch = engine.snapshot()
    plan = engine.plan_expiry(batch, keep_per_peer=1)
    assert plan.skipped == set(ids[-3:]) and len(plan) == 6
    assert "a guess at the newest" in str(plan)
    plan = engine.plan_expiry(batch, keep_per_peer=1, exclude=[ids[-1], 12345])
    assert plan.skipped == {ids[-1], ids[-2], ids[-3], ids[-4]}
    report = plan.apply(engine)
    assert dict(zip(report.context_id, report.outcome, strict=True)) == {
        number: Outcome.SKIPPED if number in plan.skipped else Outcome.EXPIRED for number in batch["context_id"]
    }
    assert outbound(engine) == plan.skipped
    assert [tries for tries in report.attempts] == [int(o is Outcome.EXPIRED) for o in report.outcome]


def test_guards_stop_a_plan_and_say_why(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    added(embedded, 5)
    batch = engine.snapshot()
    assert not engine.plan_expiry(batch, max_count=5, expect=5).objections
    assert not engine.plan_expiry(batch, max_count=4, exclude=batch[:1]).objections
    plan = engine.plan_expiry(batch, max_count=4, expect=40)
    assert plan.objections == ("5 contexts, where 40 were expected", "5 contexts, where at most 4 are allowed")
    assert str(plan).count("STOPPED by a guard") == 2
    with pytest.raises(ValueError, match="may not be applied: 5 contexts, where 40 were expected; 5 contexts, where"):
        plan.apply(engine)
    assert len(outbound(engine)) == 5


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"max_count": -1}, ValueError, "max_count"),
        ({"expect": 1.5}, TypeError, "expect"),
        ({"keep_per_peer": -1}, ValueError, "keep_per_peer"),
        ({"reason": 5}, TypeError, "reason must be a str or None, not int"),
        ({"exclude": "5"}, TypeError, "targets must be context ids"),
        ({"batch": [5]}, TypeError, "batch must be a wfpsa.SaBatch, not list"),
    ],
)
def test_bad_arguments_of_a_plan_are_named(
    engine: wfpsa.Engine, arguments: dict[str, object], error: type[Exception], said: str
) -> None:
    batch = arguments.pop("batch", engine.snapshot())
    with pytest.raises(error, match=said):
        engine.plan_expiry(batch, **arguments)  # type: ignore[arg-type]


def test_a_batch_without_what_a_plan_compares_is_refused(engine: wfpsa.Engine) -> None:
    with pytest.raises(ValueError, match=r"the batch lacks traffic_type, remote_address, .*cannot be verified"):
        engine.plan_expiry(engine.snapshot(fields=["context_id", "spi_out"]))


# --- Files ----------------------------------------------------------------------------------------


def test_a_loaded_plan_is_the_one_that_was_saved(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    embedded.seed(300, 5, odd=True)
    plan = engine.plan_expiry(engine.snapshot(), max_count=1000, keep_per_peer=2, reason="über")
    path = tmp_path / "plan.json"
    plan.save(path)
    loaded = ExpiryPlan.load(path, max_age=60)
    assert str(loaded) == str(plan) and loaded.checksum == plan.checksum and loaded.skipped == plan.skipped
    assert [loaded.contexts[name].tolist() for name in PLAN_FIELDS] == [
        plan.contexts[name].tolist() for name in PLAN_FIELDS
    ]
    with pytest.raises(FileExistsError):
        plan.save(path)
    engine.plan_expiry(engine.snapshot()[:0]).save(path, overwrite=True)
    assert len(ExpiryPlan.load(path)) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda document: document.update(schema_version=2), "its schema version is 2, this wfpsa reads 1"),
        (lambda document: document["contexts"]["context_id"].__setitem__(0, 5), "its checksum is wrong"),
        (lambda document: document.update(host="other"), "its checksum is wrong"),
        (lambda document: document.pop("checksum"), "its checksum is wrong"),
        (lambda document: document.update(format="else"), "it does not say that it is one"),
    ],
)
def test_a_file_that_was_changed_is_refused(
    tmp_path: Path,
    embedded: testing.EmbeddedEngine,
    engine: wfpsa.Engine,
    change: Callable[[dict[str, object]], object],
    said: str,
) -> None:
    added(embedded, 3)
    path = tmp_path / "plan.json"
    engine.plan_expiry(engine.snapshot()).save(path)
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ValueError, match=f"is no plan: {said}"):
        ExpiryPlan.load(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '{"format": "wfpsa expiry plan"}'])
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="is no plan"):
        ExpiryPlan.load(path)


def test_a_plan_with_a_right_checksum_and_wrong_pieces_is_refused(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    added(embedded, 3)
    path = tmp_path / "plan.json"
    engine.plan_expiry(engine.snapshot()).save(path)
    for name, value in (
        ("spi_out", [1]),
        ("spi_out", [-1, 2, 3]),
        ("presence", [1, 2]),
        ("remote_address", ["", "", ""]),
    ):
        document = json.loads(path.read_text(encoding="utf-8"))
        document["contexts"][name] = value
        del document["checksum"]
        document["checksum"] = plans._checksum(document)
        broken = tmp_path / "broken.json"
        broken.write_text(json.dumps(document), encoding="utf-8")
        with pytest.raises(ValueError, match="is no plan"):
            ExpiryPlan.load(broken)


def test_a_plan_that_is_too_old_is_refused(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    added(embedded, 1)
    plan = engine.plan_expiry(engine.snapshot())
    plan.save(tmp_path / "plan.json")
    with pytest.raises(ValueError, match=r"the plan is \d+ s old, and at most 0 are allowed"):
        ExpiryPlan.load(tmp_path / "plan.json", max_age=0)


def test_a_plan_of_another_host_boot_or_engine_is_refused(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    added(embedded, 2)
    plan = engine.plan_expiry(engine.snapshot())
    with (
        testing.EmbeddedEngine() as control,
        control.open() as other,
        pytest.raises(ValueError, match="the plan was made for 'embedded:"),
    ):
        plan.apply(other)
    with monkeypatch.context() as patch:
        patch.setattr(plans.platform, "node", lambda: "elsewhere")
        with pytest.raises(ValueError, match=r"the plan was made on the host .*, this is 'elsewhere'"):
            plan.apply(engine)
    with monkeypatch.context() as patch:
        patch.setattr(plans, "boot_time", lambda: plan.boot_time + 121)
        with pytest.raises(ValueError, match="before this machine was last started"):
            plan.apply(engine)
    assert len(outbound(engine)) == 2


# --- Application ----------------------------------------------------------------------------------


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
        with pytest.raises(ValueError, match="a plan that was loaded is applied with verify=True only"):
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


def test_a_service_that_stays_away_ends_it_with_every_id_accounted_for(embedded: testing.EmbeddedEngine) -> None:
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
    embedded.latency(per_call_us=500)
    reports: list[ExpiryReport] = []
    seen = threading.Event()

    def note(report: ExpiryReport) -> None:
        reports.append(report)
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


def test_a_closed_engine_applies_nothing(embedded: testing.EmbeddedEngine) -> None:
    with embedded.open() as engine:
        added(embedded, 3)
        plan = engine.plan_expiry(engine.snapshot())
    report = plan.apply(engine, sessions=2)
    assert report.stopped == "the engine was closed" and report.counts[Outcome.NOT_ATTEMPTED] == 3


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
