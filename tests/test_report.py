"""The report of a mass expiry: its columns, its counts, raising for failures, pickling."""

import copy
import pickle
from collections.abc import Sequence

import numpy as np
import pytest
from support import FWP_E_SESSION_ABORTED, FWP_E_TIMEOUT

import wfpsa
from wfpsa import ExpiryReport, Outcome, testing


def mixed(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> ExpiryReport:
    """Ten outcomes: expired, gone, denied, failed, expired, lost, and four not attempted."""
    embedded.seed(30)
    ids = [context.context_id for context in engine.snapshot() if context.inbound and context.outbound][:10]
    ids[1] = 1
    first = engine.expire(ids[:2])
    embedded.fail("IPsecSaContextExpire0", 1, 5)
    second = engine.expire(ids[2:3])
    embedded.fail("IPsecSaContextExpire0", 1, FWP_E_TIMEOUT)
    third = engine.expire(ids[3:5])
    embedded.fail("IPsecSaContextExpire0", 1, FWP_E_SESSION_ABORTED)
    parts = [first, second, third, engine.expire(ids[5:])]
    rebuild, _ = parts[0]._items.__reduce__()
    columns = ("context_id", "outcome", "code", "attempts", "guard")
    pieces = [b"".join(bytes(getattr(part, name)) for part in parts) for name in columns]
    return ExpiryReport(rebuild(*pieces))


EXPECTED = [
    Outcome.EXPIRED,
    Outcome.ALREADY_GONE,
    Outcome.DENIED,
    Outcome.FAILED,
    Outcome.EXPIRED,
    Outcome.FAILED,
    *[Outcome.NOT_ATTEMPTED] * 4,
]


def test_the_columns_have_one_entry_for_each_context_in_order(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    report = mixed(engine, embedded)
    assert len(report) == len(report.context_id) == len(report.outcome) == len(report.code) == 10
    assert report.outcome.tolist() == EXPECTED
    assert report.code.tolist() == [0, 0x80320008, 5, FWP_E_TIMEOUT, 0, FWP_E_SESSION_ABORTED, 0, 0, 0, 0]


def test_the_columns_are_sequences_and_buffers_like_those_of_a_batch(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    report = mixed(engine, embedded)
    for name, form, dtype in (("context_id", "Q", np.uint64), ("outcome", "B", np.uint8), ("code", "I", np.uint32)):
        column = getattr(report, name)
        assert isinstance(column, wfpsa.Column) and isinstance(column, Sequence) and column.name == name
        array = np.asarray(column)
        assert column.format == form and array.dtype == dtype and array.tolist() == column.tolist()
        assert np.shares_memory(array, np.asarray(getattr(report, name)[2:])) and not array.flags.writeable
        assert column[::-2].tolist() == column.tolist()[::-2] and column.strings is None
    outcomes = report.outcome
    del report
    assert [type(outcome) for outcome in outcomes] == [Outcome] * 10
    assert outcomes.index(Outcome.DENIED) == 2 and outcomes.count(Outcome.NOT_ATTEMPTED) == 4


def test_counts_has_every_outcome_and_cannot_be_changed(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    counts = mixed(engine, embedded).counts
    assert counts == {outcome: EXPECTED.count(outcome) for outcome in Outcome}
    assert list(counts) == list(Outcome) and sum(counts.values()) == 10
    assert all(type(outcome) is Outcome for outcome in counts)
    with pytest.raises(TypeError):
        counts[Outcome.EXPIRED] = 0  # type: ignore[index]


def test_repr_shows_what_occurred(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    shown = "2 EXPIRED, 1 ALREADY_GONE, 1 DENIED, 2 FAILED, 4 NOT_ATTEMPTED"
    assert repr(mixed(engine, embedded)) == f"<ExpiryReport of 10: {shown}>"
    assert repr(engine.expire([])) == "<ExpiryReport of 0: nothing to do>"


def test_failures_raise_with_the_first_ones_code_and_the_report(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    report = mixed(engine, embedded)
    with pytest.raises(wfpsa.ExpiryFailed) as caught:
        report.raise_for_failures()
    error = caught.value
    assert error.report is report
    assert (error.code, error.name, error.function) == (5, "ERROR_ACCESS_DENIED", "IPsecSaContextExpire0")
    message = "7 of 10 contexts were not expired (1 DENIED, 2 FAILED, 4 NOT_ATTEMPTED)"
    assert str(error) == f"IPsecSaContextExpire0: ERROR_ACCESS_DENIED (5): {message}"


def test_expired_and_already_gone_are_no_failures(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(5)
    report = engine.expire([*engine.snapshot()["context_id"], 1, 2])
    assert report.counts[Outcome.ALREADY_GONE] == 2
    assert report.raise_for_failures() is None


def test_reports_of_nothing_but_unattempted_contexts_raise_without_a_code() -> None:
    with wfpsa.open_engine("embedded:") as engine:
        rebuild, pieces = engine.expire([1, 2])._items.__reduce__()
    report = ExpiryReport(rebuild(pieces[0], bytes([Outcome.NOT_ATTEMPTED] * 2), bytes(8), bytes(2), bytes(2)))
    with pytest.raises(wfpsa.ExpiryFailed, match=r"^2 of 2 contexts were not expired \(2 NOT_ATTEMPTED\)$") as caught:
        report.raise_for_failures()
    assert caught.value.code is caught.value.function is caught.value.name is None


def test_reports_survive_pickling_and_copying(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    for report in (mixed(engine, embedded), engine.expire([])):
        for found in (*(pickle.loads(pickle.dumps(report, n)) for n in (0, 2, 5)), copy.copy(report)):
            assert isinstance(found, ExpiryReport) and repr(found) == repr(report)
            for name in ("context_id", "outcome", "code"):
                assert getattr(found, name).tolist() == getattr(report, name).tolist()
            assert found.counts == report.counts


def test_exceptions_with_reports_survive_pickling(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    report = mixed(engine, embedded)
    with pytest.raises(wfpsa.ExpiryFailed) as caught:
        report.raise_for_failures()
    for error in (caught.value, wfpsa.ExpiryInterrupted("stopped", report)):
        for found in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(found) is type(error) and str(found) == str(error)
            assert found.report.outcome.tolist() == EXPECTED


def test_a_pickled_report_whose_pieces_do_not_fit_is_refused(engine: wfpsa.Engine) -> None:
    rebuild, (ids, outcomes, codes, attempts, guards) = engine.expire([1, 2, 3])._items.__reduce__()
    assert rebuild(ids, outcomes, codes, attempts, guards).context_id.tolist() == [1, 2, 3]
    for wrong in (
        (ids[:8], outcomes, codes, attempts, guards),
        (ids, outcomes[:2], codes, attempts, guards),
        (ids, outcomes, codes + b"\0", attempts, guards),
        (ids, outcomes, codes, attempts[:2], guards),
        (ids, outcomes, codes, attempts, guards[:2]),
    ):
        with pytest.raises(ValueError, match="columns of different lengths"):
            rebuild(*wrong)
