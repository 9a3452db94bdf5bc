"""Mass expiry: what may be given, what becomes of each context, and how it ends when it ends early."""

import _thread
import array
import ctypes
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import FWP_E_NOT_FOUND, FWP_E_SESSION_ABORTED, FWP_E_TIMEOUT, outbound

import wfpsa
from wfpsa import Outcome, _native, testing
from wfpsa.plan import PLAN_FIELDS

# --- Targets --------------------------------------------------------------------------------------


def ids_of(batch: wfpsa.SaBatch) -> list[int]:
    return batch["context_id"].tolist()


FORMS: dict[str, Callable[[wfpsa.SaBatch], object]] = {
    "batch": lambda batch: batch,
    "column": lambda batch: batch["context_id"],
    "stepped column": lambda batch: batch[::-1]["context_id"][::-1],
    "column of a report": lambda batch: elsewhere(batch).context_id,
    "contexts": list,
    "detached contexts": lambda batch: [context.detach() for context in batch],
    "integers": ids_of,
    "iterator": lambda batch: iter(ids_of(batch)),
    "numpy integers": lambda batch: [np.uint64(number) for number in batch["context_id"]],
    "mixture": lambda batch: tuple(context if at % 2 else context.context_id for at, context in enumerate(batch)),
    "array": lambda batch: array.array("Q", ids_of(batch)),
    "read-only numpy array": lambda batch: np.asarray(batch.take(range(len(batch)))["context_id"]),
    "numpy array": lambda batch: np.array(ids_of(batch), dtype=np.uint64),
    "memoryview": lambda batch: memoryview(array.array("Q", ids_of(batch))),
    "bytes cast to ids": lambda batch: memoryview(array.array("Q", ids_of(batch)).tobytes()).cast("Q"),
}


def elsewhere(batch: wfpsa.SaBatch) -> wfpsa.ExpiryReport:
    """The report of an engine that knows none of them."""
    with wfpsa.open_engine("embedded:") as other:
        return other.expire(batch)


def test_every_form_of_targets_expires_the_same_contexts_in_order() -> None:
    for name, form in FORMS.items():
        with wfpsa.open_engine("embedded:?contexts=40&seed=1&odd=1&clock=manual") as engine:
            batch = engine.snapshot()[::-3]
            report = engine.expire(form(batch))  # type: ignore[arg-type]
            assert report.context_id.tolist() == ids_of(batch), name
            assert set(report.outcome) == {Outcome.EXPIRED} and set(report.code) == {0}
            left = [context.context_id for context in engine.snapshot() if context.has_outbound]
            assert set(left).isdisjoint(report.context_id) and len(left) > 20


@settings(max_examples=30, deadline=None)
@given(picks=st.lists(st.integers(0, 59), max_size=80), seed=st.integers(0, 50))
def test_any_choice_of_contexts_is_expired_and_nothing_else_changes(picks: list[int], seed: int) -> None:
    with testing.EmbeddedEngine() as control:
        control.stop_clock()
        control.seed(60, seed, odd=True)
        with control.open() as engine:
            before = engine.snapshot()
            chosen = {before[at].context_id for at in picks}
            report = engine.expire([before[at] for at in picks])
            assert report.context_id.tolist() == [before[at].context_id for at in picks]
            assert report.counts[Outcome.EXPIRED] + report.counts[Outcome.ALREADY_GONE] == len(picks)
            after = {context.context_id: context for context in engine.snapshot()}
            for context in before:
                now = after.get(context.context_id)
                if context.context_id not in chosen:
                    assert now == context
                elif context.inbound is None:
                    assert now is None
                else:
                    assert now.inbound == context.inbound and now.outbound is None
            control.advance(60)
            assert {context.context_id for context in engine.snapshot()} == set(after) - chosen


def test_nothing_to_expire_makes_an_empty_report(engine: wfpsa.Engine) -> None:
    empty = (engine.snapshot(), [], (), iter([]), array.array("Q"), np.array([], dtype=np.uint64), {})
    for nothing in empty:
        report = engine.expire(nothing)
        assert len(report) == 0 and report.outcome.tolist() == [] and set(report.counts.values()) == {0}
        report.raise_for_failures()


def test_the_same_context_twice_is_two_outcomes(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(100)
    lingering = next(context for context in engine.snapshot() if context.inbound and context.outbound)
    vanishing = next(context for context in engine.snapshot() if not context.inbound)
    report = engine.expire([lingering, vanishing, lingering, vanishing])
    assert report.outcome.tolist() == [Outcome.EXPIRED, Outcome.EXPIRED, Outcome.EXPIRED, Outcome.ALREADY_GONE]
    assert report.code.tolist() == [0, 0, 0, FWP_E_NOT_FOUND]


def test_the_whole_range_of_ids_may_be_given(engine: wfpsa.Engine) -> None:
    ids = [0, 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1]
    for form in (ids, array.array("Q", ids), np.array(ids, dtype=np.uint64)):
        report = engine.expire(form)
        assert report.context_id.tolist() == ids
        assert set(report.outcome) == {Outcome.ALREADY_GONE} and set(report.code) == {FWP_E_NOT_FOUND}


def test_a_change_of_the_given_array_during_or_after_the_call_changes_no_report(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(5)
    ids = np.array(engine.snapshot()["context_id"], dtype=np.uint64)
    expected = ids.tolist()
    report = engine.expire(ids)
    ids[:] = 7
    assert report.context_id.tolist() == expected


# --- Refusals -------------------------------------------------------------------------------------


def refused(engine: wfpsa.Engine, wrong: object, error: type[Exception], message: str | None = None) -> None:
    """The targets are refused with that error, and nothing was expired."""
    before = engine.snapshot()
    with pytest.raises(error, match=message):
        engine.expire(wrong)  # type: ignore[arg-type]
    assert list(engine.snapshot()) == list(before)


@pytest.fixture
def populated(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> wfpsa.Engine:
    """An engine in which the ids that the refusals carry exist."""
    embedded.seed(10)
    return engine


def test_buffers_of_other_types_are_type_errors_that_name_the_format(populated: wfpsa.Engine) -> None:
    ids = populated.snapshot()["context_id"].tolist()
    for wrong, shown in [
        (array.array("q", ids), "'q'"),
        (array.array("d", ids), "'d'"),
        (array.array("I", [1, 2]), "'I'"),
        (memoryview(array.array("Q", ids)).cast("B"), "'B'"),
        (np.array(ids, dtype=np.int64), "'[lq]'"),
        (np.array(ids, dtype=np.float64), "'d'"),
        (np.array(ids, dtype=">u8" if sys.byteorder == "little" else "<u8"), "[<>]Q"),
        (np.array(ids, dtype=np.uint64).astype(complex), "'Zd'"),
        (np.zeros(2, dtype=[("id", np.uint64)]), "T{"),
        (np.array([True]), r"'\?'"),
    ]:
        refused(populated, wrong, TypeError, rf"must hold native uint64 values \(format 'Q'\), not .*{shown}")


def test_buffers_that_are_not_one_contiguous_row_are_value_errors(populated: wfpsa.Engine) -> None:
    ids = np.array(populated.snapshot()["context_id"], dtype=np.uint64)
    refused(populated, ids.reshape(2, 5), ValueError, "must be one-dimensional, not 2-dimensional")
    refused(populated, ids[0], ValueError, "must be one-dimensional, not 0-dimensional")
    refused(populated, ids[::2], ValueError, "must be contiguous")
    refused(populated, ids[::-1], ValueError, "must be contiguous")
    refused(populated, memoryview(array.array("Q", ids))[::3], ValueError, "must be contiguous")


def test_a_ctypes_array_of_uint64_in_native_order_is_a_buffer_of_ids(populated: wfpsa.Engine) -> None:
    ids = populated.snapshot()["context_id"].tolist()
    report = populated.expire((ctypes.c_uint64 * len(ids))(*ids))
    assert report.context_id.tolist() == ids and report.counts[Outcome.EXPIRED] == len(ids)


def test_text_and_bytes_are_type_errors(populated: wfpsa.Engine) -> None:
    for wrong in ("4294967297", b"\0" * 8, bytearray(8), ""):
        refused(populated, wrong, TypeError, f"targets must be context ids, not {type(wrong).__name__}")


def test_columns_that_are_not_context_ids_are_type_errors_that_name_them(populated: wfpsa.Engine) -> None:
    batch = populated.snapshot()
    for name in ("spi_out", "mm_sa_id_out", "local_interface_luid", "remote_address", "main_mode_target_in"):
        refused(populated, batch[name], TypeError, f"column {name!r} holds something else")
    report = populated.expire([])
    refused(populated, report.outcome, TypeError, "column 'outcome' holds something else")
    refused(populated, report.code, TypeError, "column 'code' holds something else")


def test_items_that_are_no_ids_are_refused_by_their_place(populated: wfpsa.Engine) -> None:
    good = populated.snapshot()["context_id"].tolist()
    for wrong, shown in [(True, "bool"), (None, "NoneType"), ("1", "str"), (1.0, "float"), (np.float64(1), "float64")]:
        refused(populated, [*good, wrong], TypeError, f"target 10 must be an int or a SaContext, not {shown}")
    if not hasattr(np.bool_, "__index__"):  # numpy 1's has one
        refused(populated, [good[0], np.bool_(True)], TypeError, "target 1 must be an int")
    refused(populated, [good[0], populated.snapshot()[0].outbound], TypeError, "target 1 must be .*SaDetails")
    for number in (-1, 2**64, 10**30):
        refused(populated, (*good, number), ValueError, rf"target 10: a context id is 0 to 2\*\*64 - 1, not {number}")


def test_things_that_hold_no_items_are_type_errors(populated: wfpsa.Engine) -> None:
    for wrong in (None, 5, 1.5, object(), populated.snapshot()[0]):
        refused(populated, wrong, TypeError)


def test_an_iterator_that_fails_midway_expires_nothing(populated: wfpsa.Engine) -> None:
    ids = populated.snapshot()["context_id"].tolist()

    def failing() -> Iterator[int]:
        yield from ids[:5]
        raise ZeroDivisionError

    refused(populated, failing(), ZeroDivisionError)


# --- Outcomes -------------------------------------------------------------------------------------


def test_an_expired_context_is_inbound_only_for_a_minute_and_then_gone(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(30)
    context = next(context for context in engine.snapshot() if context.inbound and context.outbound)
    assert engine.expire([context]).outcome.tolist() == [Outcome.EXPIRED]
    tail = engine.get(context.context_id)
    assert tail.outbound is None and tail.inbound == context.inbound
    assert tail.local_address == context.local_address
    embedded.advance(59.999)
    assert engine.get(context.context_id) == tail and len(embedded) == 30
    embedded.advance(0.001)
    with pytest.raises(wfpsa.NotFound):
        engine.get(context.context_id)
    assert len(embedded) == len(engine.snapshot()) == 29
    assert engine.expire([context]).outcome.tolist() == [Outcome.ALREADY_GONE]


def test_expiring_again_within_the_minute_is_harmless_and_does_not_prolong_it(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(30)
    context = next(context for context in engine.snapshot() if context.inbound and context.outbound)
    engine.expire([context])
    embedded.advance(40)
    assert engine.expire([context]).outcome.tolist() == [Outcome.EXPIRED]
    embedded.advance(20)
    assert len(embedded) == 29


FAILING = {
    5: Outcome.DENIED,
    FWP_E_NOT_FOUND: Outcome.ALREADY_GONE,
    FWP_E_TIMEOUT: Outcome.FAILED,
    8: Outcome.FAILED,
    0x8032000E: Outcome.FAILED,
    0xFFFFFFFF: Outcome.FAILED,
}


def test_a_failing_call_is_that_contexts_outcome_and_the_rest_goes_on(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    for code, outcome in FAILING.items():
        embedded.seed(30)
        ids = [context.context_id for context in engine.snapshot() if context.inbound and context.outbound][:20]
        embedded.fail("IPsecSaContextExpire0", 7, code)
        report = engine.expire(ids)
        assert report.outcome.tolist() == [Outcome.EXPIRED] * 6 + [outcome] + [Outcome.EXPIRED] * 13
        assert report.code.tolist() == [0] * 6 + [code] + [0] * 13
        assert engine.get(ids[6]).has_outbound and not engine.get(ids[7]).has_outbound


def test_a_lost_session_leaves_the_rest_unattempted(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(30)
    ids = [context.context_id for context in engine.snapshot() if context.inbound and context.outbound][:20]
    for code in (FWP_E_SESSION_ABORTED, 6, 1702, 1722, 1726, 1727, 1777):
        for nth in (1, 8, 20):
            embedded.fail("IPsecSaContextExpire0", nth, code)
            report = engine.expire(ids)
            done, rest = [Outcome.EXPIRED] * (nth - 1), [Outcome.NOT_ATTEMPTED] * (20 - nth)
            assert report.outcome.tolist() == [*done, Outcome.FAILED, *rest]
            assert report.code.tolist() == [0] * len(done) + [code] + [0] * len(rest)
            with pytest.raises(wfpsa.ExpiryFailed):
                report.raise_for_failures()
    assert engine.expire(ids).counts[Outcome.EXPIRED] == 20


def test_without_the_right_every_context_is_denied(embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(10)
    embedded.rights("read_only")
    with embedded.open() as engine:
        report = engine.expire(engine.snapshot())
        assert set(report.outcome) == {Outcome.DENIED} and set(report.code) == {5}
        assert engine.snapshot()["has_outbound"].count(True) >= 8


def test_contexts_are_expired_in_the_order_given(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(50)
    ids = [context.context_id for context in engine.snapshot() if context.inbound and context.outbound][::-1]
    embedded.fail("IPsecSaContextExpire0", 4, FWP_E_SESSION_ABORTED)
    engine.expire(ids)
    expired = [context.context_id for context in engine.snapshot() if context.inbound and not context.outbound]
    assert set(ids[:3]) <= set(expired) and set(expired).isdisjoint(ids[3:])


# --- Ended early ----------------------------------------------------------------------------------


class Stopped(Exception):
    """What a program's own signal handler may raise."""


@contextmanager
def interrupted_once_expired(other: wfpsa.Engine, number: int) -> Iterator[None]:
    """Sends this process a Ctrl-C as soon as that context has lost its outbound SA."""

    def watch() -> None:
        while other.get(number).has_outbound:
            if over.wait(0.001):
                return
        _thread.interrupt_main()

    over = threading.Event()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join(60)


def assert_true_report(report: object, other: wfpsa.Engine, ids: list[int]) -> None:
    """Every id has an outcome that the engine's contents confirm, and it stopped in the middle."""
    assert isinstance(report, wfpsa.ExpiryReport) and report.context_id.tolist() == ids
    done = report.counts[Outcome.EXPIRED]
    assert 0 < done < len(ids)
    assert report.outcome.tolist() == [Outcome.EXPIRED] * done + [Outcome.NOT_ATTEMPTED] * (len(ids) - done)
    left = {context.context_id for context in other.snapshot() if context.has_outbound}
    assert [number in left for number in ids] == [False] * done + [True] * (len(ids) - done)


@pytest.fixture
def slow(embedded: testing.EmbeddedEngine) -> Iterator[tuple[wfpsa.Engine, wfpsa.Engine, list[int]]]:
    """An engine whose calls take a millisecond, a second session of it, and thousands of ids to expire."""
    embedded.seed(4000)
    with embedded.open() as engine, embedded.open() as other:
        ids = [context.context_id for context in other.snapshot() if context.inbound and context.outbound]
        embedded.latency(per_call_us=1000)
        yield engine, other, ids


def test_ctrl_c_stops_it_midway_and_the_report_accounts_for_every_context(
    slow: tuple[wfpsa.Engine, wfpsa.Engine, list[int]],
) -> None:
    engine, other, ids = slow
    with pytest.raises(wfpsa.ExpiryInterrupted) as caught, interrupted_once_expired(other, ids[0]):
        engine.expire(ids)
    assert isinstance(caught.value, KeyboardInterrupt) and not isinstance(caught.value, Exception)
    report = caught.value.report
    assert_true_report(report, other, ids)
    done = report.counts[Outcome.EXPIRED]
    assert str(caught.value) == f"the expiry was interrupted after {done} of {len(ids)}"
    rest = [number for number, outcome in zip(ids, report.outcome, strict=True) if outcome is Outcome.NOT_ATTEMPTED]
    assert engine.expire(rest[:10]).counts[Outcome.EXPIRED] == 10  # the engine is as good as before


def test_another_exception_of_a_signal_handler_carries_the_report_too(
    slow: tuple[wfpsa.Engine, wfpsa.Engine, list[int]],
) -> None:
    engine, other, ids = slow

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped

    before = signal.signal(signal.SIGINT, stop)
    try:
        with pytest.raises(Stopped) as caught, interrupted_once_expired(other, ids[0]):
            engine.expire(ids)
    finally:
        signal.signal(signal.SIGINT, before)
    assert_true_report(caught.value.report, other, ids)  # type: ignore[attr-defined]


def test_a_signal_handler_that_raises_nothing_does_not_stop_it(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(300)
    embedded.latency(per_call_us=2000)
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        with embedded.open() as other:
            first = next(context for context in other.snapshot() if context.inbound and context.outbound)
            with interrupted_once_expired(other, first.context_id):
                report = engine.expire(other.snapshot())
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT] and report.counts[Outcome.EXPIRED] == 300


# --- With options ---------------------------------------------------------------------------------


def peers(embedded: testing.EmbeddedEngine, count: int) -> list[int]:
    """Contexts of so many peers, with both SAs."""
    return [embedded.add("10.0.0.1", f"10.1.{at // 250}.{at % 250 + 1}") for at in range(count)]


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("fields", [None, wfpsa.CORE_FIELDS, PLAN_FIELDS])
def test_several_sessions_expire_each_context_of_a_batch_once_in_its_order(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, verify: bool, fields: tuple[str, ...] | None
) -> None:
    ids = peers(embedded, 700)
    batch = engine.snapshot(fields=fields)[::-2]
    report = engine.expire(batch, sessions=4, verify=verify)
    assert report.context_id.tolist() == ids[::-2] == ids_of(batch)
    assert set(report.outcome) == {Outcome.EXPIRED} and set(report.attempts) == {1} and set(report.code) == {0}
    assert report.stopped is None and report.seconds is not None and 0 < report.seconds < 60
    assert outbound(engine) == set(ids) - set(ids[::-2])
    assert testing.live_counters()["engines"] == 1


def test_several_sessions_expire_every_form_of_ids(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    for name in ("column", "contexts", "integers", "iterator", "array", "numpy array", "memoryview"):
        ids = peers(embedded, 60)
        batch = engine.snapshot().where(has_outbound=True)
        assert ids_of(batch) == ids
        report = engine.expire(FORMS[name](batch), sessions=4)  # type: ignore[arg-type]
        assert report.context_id.tolist() == ids and report.counts[Outcome.EXPIRED] == 60, name
        assert outbound(engine) == set()


def test_verification_leaves_alone_what_is_not_what_the_batch_says(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    ids = peers(embedded, 6)
    batch = engine.snapshot()
    engine.update(ids[0], "outbound", mm_sa_id=77)
    engine.delete(ids[1])
    engine.delete(ids[2])
    embedded.add("10.0.0.1", "10.9.9.9", context_id=ids[2])
    engine.expire([ids[3]])
    report = engine.expire(batch, verify=True)
    changed, expired = Outcome.CHANGED, Outcome.EXPIRED
    assert report.outcome.tolist() == [changed, Outcome.ALREADY_GONE, changed, changed, expired, expired]
    assert report.code.tolist() == [0, FWP_E_NOT_FOUND, 0, 0, 0, 0]
    assert outbound(engine) == {ids[0], ids[2]}
    report.raise_for_failures()
    assert engine.expire(batch, timeout=60).counts[Outcome.EXPIRED] == 5  # which it does not, unless asked to


NO_PLAN: dict[str, Callable[[wfpsa.SaBatch], object]] = {
    "ids": ids_of,
    "column": lambda batch: batch["context_id"],
    "contexts": list,
    "batch of ids": lambda batch: _native.with_columns(batch, ("context_id",)),
    "batch without spi_out": lambda batch: _native.with_columns(
        batch, tuple(name for name in PLAN_FIELDS if name != "spi_out")
    ),
}


@pytest.mark.parametrize("form", NO_PLAN)
def test_verification_needs_a_batch_with_what_is_compared(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, form: str
) -> None:
    ids = peers(embedded, 3)
    targets = NO_PLAN[form](engine.snapshot())
    with pytest.raises(ValueError, match=f"verify needs a batch .* with the columns {', '.join(PLAN_FIELDS)}"):
        engine.expire(targets, verify=True)  # type: ignore[arg-type]
    assert outbound(engine) == set(ids)
    assert engine.expire(targets, timeout=60).counts[Outcome.EXPIRED] == 3  # type: ignore[arg-type]


def test_a_rate_slows_it_and_a_timeout_or_a_cancel_stops_it(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    ids = peers(embedded, 300)
    report = engine.expire(ids, max_rate=100, timeout=0.4, sessions=2)
    done = report.counts[Outcome.EXPIRED]
    assert report.stopped == "the timeout of 0.4 s" and report.seconds is not None and report.seconds >= 0.4
    assert 0 < done <= 100 * report.seconds + 2
    assert report.counts[Outcome.NOT_ATTEMPTED] == 300 - done == len(outbound(engine))
    told: list[wfpsa.ExpiryReport] = []

    def cancel(report: wfpsa.ExpiryReport) -> None:
        told.append(report)
        assert (report.stopped, report.seconds) == (None, None) or len(told) > 1
        report.cancel()

    report = engine.expire(engine.snapshot().where(has_outbound=True), max_rate=50, on_progress=cancel)
    assert report.stopped == "cancelled" and all(one is report for one in told)
    assert report.counts[Outcome.NOT_ATTEMPTED] == len(outbound(engine)) > 0


@pytest.mark.parametrize("sessions", [1, 4])
def test_too_many_failures_stop_it(embedded: testing.EmbeddedEngine, sessions: int) -> None:
    ids = peers(embedded, 1000)
    embedded.rights("read_only")
    with embedded.open() as engine:
        for limits, said in (({"max_failures": 5}, "more than 5 failures"), ({"max_failure_ratio": 0.5}, "above 0.5")):
            report = engine.expire(ids, sessions=sessions, **limits)  # type: ignore[arg-type]
            assert report.stopped is not None and said in report.stopped
            denied = report.counts[Outcome.DENIED]
            assert 5 < denied < 1000 and report.counts[Outcome.NOT_ATTEMPTED] == 1000 - denied
            with pytest.raises(wfpsa.ExpiryFailed) as caught:
                report.raise_for_failures()
            assert caught.value.report is report


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"sessions": 0}, ValueError, "sessions must be 1 to 256, not 0"),
        ({"sessions": 257}, ValueError, "sessions must be 1 to 256, not 257"),
        ({"sessions": 2.0}, TypeError, "sessions must be an int, not float"),
        ({"sessions": True}, TypeError, "sessions must be an int, not bool"),
        ({"max_rate": 0}, ValueError, "max_rate must be above 0, not 0"),
        ({"max_rate": True}, TypeError, "max_rate must be a number or None, not bool"),
        ({"max_failures": -1}, ValueError, "max_failures must be 0 to"),
        ({"max_failures": 1.5}, TypeError, "max_failures must be an int, not float"),
        ({"max_failure_ratio": 1.5}, ValueError, "max_failure_ratio must be 0 or more and at most 1, not 1.5"),
        ({"timeout": 0}, ValueError, "timeout must be above 0, not 0"),
        ({"timeout": "5"}, TypeError, "timeout must be a number or None, not str"),
        ({"verify": 1}, TypeError, "verify must be True or False, not 1"),
        ({"verify": None}, TypeError, "verify must be True or False, not None"),
        ({"verify": 0}, TypeError, "verify must be True or False, not 0"),
        ({"on_progress": 5}, TypeError, "on_progress must be"),
    ],
)
def test_bad_options_are_named_before_anything_is_done(
    engine: wfpsa.Engine,
    embedded: testing.EmbeddedEngine,
    arguments: dict[str, object],
    error: type[Exception],
    said: str,
) -> None:
    ids = peers(embedded, 2)
    for targets in (ids, engine.snapshot()):
        with pytest.raises(error, match=said):
            engine.expire(targets, **arguments)  # type: ignore[arg-type]
        assert outbound(engine) == set(ids)


@pytest.mark.parametrize("sessions", [1, 4])
def test_an_id_that_is_given_twice_has_two_outcomes_in_several_sessions_too(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, sessions: int
) -> None:
    ids = peers(embedded, 40)
    gone = embedded.add("10.0.0.1", "10.9.0.1", inbound=None)
    given = [*ids, *ids[::-1], gone, gone]
    report = engine.expire(given, sessions=sessions, timeout=60)
    assert report.context_id.tolist() == given and report.outcome.tolist()[:80] == [Outcome.EXPIRED] * 80
    assert sorted(report.outcome.tolist()[80:]) == [Outcome.EXPIRED, Outcome.ALREADY_GONE]
    assert report.attempts.tolist() == [1] * 82 and outbound(engine) == set()


def test_what_was_expired_as_the_first_of_two_is_no_longer_what_the_batch_says(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    peers(embedded, 3)
    report = engine.expire(engine.snapshot().take([2, 2, 0, 2]), verify=True)
    expired, changed = Outcome.EXPIRED, Outcome.CHANGED
    assert report.outcome.tolist() == [expired, changed, expired, changed]


@pytest.mark.parametrize("form", NO_PLAN)
@pytest.mark.parametrize("nth", [1, 8, 20])
def test_a_lost_session_ends_an_expiry_of_ids_alone_and_says_so(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, form: str, nth: int
) -> None:
    ids = peers(embedded, 20)
    targets = NO_PLAN[form](engine.snapshot())
    embedded.fail("IPsecSaContextExpire0", nth, FWP_E_SESSION_ABORTED)
    report = engine.expire(targets, timeout=60)  # type: ignore[arg-type]
    assert report.outcome.tolist() == [Outcome.EXPIRED] * (nth - 1) + [Outcome.FAILED] + [Outcome.NOT_ATTEMPTED] * (
        20 - nth
    )
    assert report.code.tolist() == [0] * (nth - 1) + [FWP_E_SESSION_ABORTED] + [0] * (20 - nth)
    assert report.attempts.tolist() == [1] * nth + [0] * (20 - nth)
    assert report.stopped == "the session was lost, and ids alone cannot be verified in another"
    assert outbound(engine) == set(ids[nth - 1 :])


def test_a_lost_session_is_said_where_no_option_was_given_too(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    ids = peers(embedded, 5)
    embedded.fail("IPsecSaContextExpire0", 2, FWP_E_SESSION_ABORTED)
    report = engine.expire(ids)
    assert report.counts[Outcome.NOT_ATTEMPTED] == 3 and report.seconds is not None
    assert report.stopped is not None and "the session was lost" in report.stopped


def test_after_a_lost_session_a_batch_is_verified_in_a_new_one(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    ids = peers(embedded, 6)
    batch = engine.snapshot()
    for number in (ids[0], ids[4]):
        engine.update(number, "outbound", mm_sa_id=77)
    embedded.fail("IPsecSaContextExpire0", 3, FWP_E_SESSION_ABORTED)
    report = engine.expire(batch, timeout=60)
    assert report.outcome.tolist() == [Outcome.EXPIRED] * 4 + [Outcome.CHANGED, Outcome.EXPIRED]
    assert report.attempts.tolist()[:4] == [1, 1, 2, 1] and set(report.code) == {0}
    assert report.stopped is None and outbound(engine) == {ids[4]}
    assert testing.live_counters()["engines"] == 1


def test_what_a_progress_function_raises_ends_it_with_the_report(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    peers(embedded, 2000)
    embedded.latency(per_call_us=2000)

    def press(report: wfpsa.ExpiryReport) -> None:
        if report.counts[Outcome.EXPIRED]:
            raise KeyboardInterrupt

    def stop(report: wfpsa.ExpiryReport) -> None:
        if report.counts[Outcome.EXPIRED]:
            raise Stopped

    for raising, error in ((press, wfpsa.ExpiryInterrupted), (stop, Stopped)):
        with pytest.raises(error) as caught:
            engine.expire(engine.snapshot(), sessions=2, on_progress=raising)
        report = caught.value.report  # type: ignore[attr-defined]
        assert report.stopped == "interrupted" and report.seconds > 0
        assert 0 < report.counts[Outcome.EXPIRED] < 2000
        assert report.counts[Outcome.EXPIRED] + report.counts[Outcome.NOT_ATTEMPTED] == 2000


def test_what_a_progress_function_raises_when_all_is_done_carries_the_report_too(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    def press(report: wfpsa.ExpiryReport) -> None:
        if report.seconds is not None:
            raise KeyboardInterrupt

    def stop(report: wfpsa.ExpiryReport) -> None:
        if report.seconds is not None:
            raise Stopped

    for raising, error in ((press, wfpsa.ExpiryInterrupted), (stop, Stopped)):
        ids = peers(embedded, 3)
        with pytest.raises((error, KeyboardInterrupt)) as caught:
            engine.expire(ids, on_progress=raising)
        assert isinstance(caught.value, error)
        assert caught.value.report.counts[Outcome.EXPIRED] == 3  # type: ignore[attr-defined]


def test_what_ctrl_c_stopped_is_audited(tmp_path: Path, slow: tuple[wfpsa.Engine, wfpsa.Engine, list[int]]) -> None:
    engine, other, ids = slow
    with pytest.raises(wfpsa.ExpiryInterrupted) as caught, interrupted_once_expired(other, ids[0]):
        engine.expire(ids, audit=tmp_path / "audit")
    said = json.loads((tmp_path / "audit").read_text(encoding="ascii"))
    assert said["stopped"] == caught.value.report.stopped == "interrupted"
    assert said["counts"]["EXPIRED"] == caught.value.report.counts[Outcome.EXPIRED] > 0


def test_every_report_says_how_long_it_took(
    slow: tuple[wfpsa.Engine, wfpsa.Engine, list[int]],
) -> None:
    engine, other, ids = slow
    for report in (engine.expire(ids[:30]), engine.expire(ids[30:60], sessions=1, timeout=60)):
        assert report.counts[Outcome.EXPIRED] == 30
        assert report.seconds is not None and 0.02 < report.seconds < 30
    with pytest.raises(wfpsa.ExpiryInterrupted) as caught, interrupted_once_expired(other, ids[60]):
        engine.expire(ids[60:])
    assert caught.value.report.stopped == "interrupted" and caught.value.report.seconds > 0


def test_the_report_of_another_exception_of_a_signal_handler_says_that_it_was_stopped(
    slow: tuple[wfpsa.Engine, wfpsa.Engine, list[int]],
) -> None:
    engine, other, ids = slow

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped

    before = signal.signal(signal.SIGINT, stop)
    try:
        with pytest.raises(Stopped) as caught, interrupted_once_expired(other, ids[0]):
            engine.expire(ids)
    finally:
        signal.signal(signal.SIGINT, before)
    report = caught.value.report  # type: ignore[attr-defined]
    assert report.stopped == "interrupted" and report.seconds is not None and report.seconds > 0
