"""The audit of mass expiries: one line a run, whoever ends it, in the file and in the log, or no run at all."""

import errno
import getpass
import json
import logging
import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support import run_python

import wfpsa
from wfpsa import ExpiryReport, Outcome, audit, testing
from wfpsa.plan import ExpiryPlan


def planned(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, count: int, **guards: Any) -> ExpiryPlan:
    """A plan for so many new contexts and all that there are."""
    for at in range(count):
        embedded.add("10.0.0.1", f"10.1.{at // 250}.{at % 250 + 1}")
    return engine.plan_expiry(engine.snapshot(), **guards)


def outbound(engine: wfpsa.Engine) -> int:
    """How many contexts have their outbound SA."""
    return engine.snapshot()["has_outbound"].count(True)


def lines(path: Path) -> list[dict[str, Any]]:
    """What the file says, a line each."""
    text = path.read_text(encoding="ascii")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def full(handle: int, data: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# --- What is said ---------------------------------------------------------------------------------


def test_each_run_appends_one_line_that_says_who_what_and_how_it_ended(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "someone")
    path, journal = tmp_path / "audit", tmp_path / "journal"
    plan = planned(embedded, engine, 5, reason="a stolen laptop", exclude=[], max_count=5)
    gone = int(plan.contexts["context_id"][0])
    engine.delete(gone)
    before = datetime.now(UTC)
    report = plan.apply(engine, sessions=3, audit=path, journal=journal)
    (said,) = lines(path)
    began = datetime.fromisoformat(said.pop("time"))
    assert began.utcoffset() == timedelta(0) and before - timedelta(seconds=1) < began <= datetime.now(UTC)
    assert report.seconds is not None and said.pop("seconds") == round(report.seconds, 3)
    assert said == {
        "user": "someone",
        "host": platform.node(),
        "pid": os.getpid(),
        "engine": embedded.target,
        "plan": plan.checksum,
        "reason": "a stolen laptop",
        "sessions": 3,
        "resumed": False,
        "journal": os.path.realpath(journal),
        "contexts": 5,
        "counts": {"EXPIRED": 4, "ALREADY_GONE": 1},
        "cut_off": 0,
        "stopped": None,
    }
    other = planned(embedded, engine, 2, exclude=[gone + 1])
    other.apply(engine, audit=str(path))
    first, second = lines(path)
    assert first["plan"] == plan.checksum
    assert (second["plan"], second["reason"], second["journal"]) == (other.checksum, None, None)
    assert (second["sessions"], second["counts"]["SKIPPED"]) == (1, 1)


def test_a_run_that_goes_on_where_another_was_stopped_is_a_line_of_its_own(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    path, journal = tmp_path / "audit", tmp_path / "journal"
    plan = planned(embedded, engine, 60)
    plan.apply(engine, audit=path, journal=journal, max_rate=50, on_progress=lambda report: report.cancel())
    ExpiryPlan.resume(journal).apply(engine, audit=path)
    first, second = lines(path)
    assert (first["stopped"], first["resumed"], first["journal"]) == ("cancelled", False, os.path.realpath(journal))
    assert (second["stopped"], second["resumed"], second["journal"]) == (None, True, os.path.realpath(journal))
    assert first["plan"] == second["plan"] == plan.checksum
    assert first["counts"]["NOT_ATTEMPTED"] > 0 and second["counts"] == {"EXPIRED": 60}


@pytest.mark.parametrize(
    "reason", ["two\nlines\r\n", "über ß 中 \N{LINE SEPARATOR} \N{NEXT LINE} 🔒", 'a "quote" \\ and \x00 \ud800']
)
def test_any_reason_stays_on_one_line_of_ascii(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, reason: str
) -> None:
    path = tmp_path / "audit"
    planned(embedded, engine, 1, reason=reason).apply(engine, audit=path)
    assert path.read_bytes().count(b"\n") == 1 and b"\r" not in path.read_bytes()
    (said,) = lines(path)
    assert said["reason"] == reason


@pytest.mark.parametrize("error", [OSError, KeyError, ImportError])
def test_a_user_that_has_no_name_is_null(
    tmp_path: Path,
    embedded: testing.EmbeddedEngine,
    engine: wfpsa.Engine,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
) -> None:
    def nobody() -> str:
        raise error("nobody")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert planned(embedded, engine, 1).apply(engine, audit=tmp_path / "audit").counts[Outcome.EXPIRED] == 1
    assert lines(tmp_path / "audit")[0]["user"] is None


# --- Where it is said -----------------------------------------------------------------------------


def test_the_environment_names_the_file_where_no_parameter_does(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, given = tmp_path / "named", tmp_path / "given"
    monkeypatch.setenv("WFPSA_AUDIT", str(named))
    planned(embedded, engine, 1).apply(engine, audit=given)
    assert len(lines(given)) == 1 and not named.exists()
    planned(embedded, engine, 1).apply(engine)
    assert len(lines(named)) == len(lines(given)) == 1
    monkeypatch.setenv("WFPSA_AUDIT", "")
    planned(embedded, engine, 1).apply(engine)
    assert sorted(os.listdir(tmp_path)) == ["given", "named"]


def test_the_log_gets_the_same_line_with_a_file_and_without(
    tmp_path: Path,
    embedded: testing.EmbeddedEngine,
    engine: wfpsa.Engine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "audit"
    with caplog.at_level(logging.INFO, "wfpsa.audit"):
        planned(embedded, engine, 2).apply(engine, audit=path)
        planned(embedded, engine, 1).apply(engine)
    first, second = caplog.records
    assert {(record.name, record.levelno) for record in caplog.records} == {("wfpsa.audit", logging.INFO)}
    assert first.getMessage() + "\n" == path.read_text(encoding="ascii")
    assert json.loads(second.getMessage())["counts"] == {"EXPIRED": 3}
    caplog.clear()
    with caplog.at_level(logging.WARNING, "wfpsa.audit"):
        planned(embedded, engine, 1).apply(engine, audit=path)
    assert not caplog.records and len(lines(path)) == 2


def test_what_the_file_held_stays(tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    path = tmp_path / "audit"
    path.write_bytes(b"not ours \xff\r\n")
    planned(embedded, engine, 1).apply(engine, audit=path)
    kept, line, rest = path.read_bytes().split(b"\n")
    assert kept == b"not ours \xff\r" and json.loads(line)["contexts"] == 1 and rest == b""


def test_after_a_line_that_was_torn_off_the_next_one_is_whole(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    path = tmp_path / "audit"
    path.write_bytes(b'{"time": "2026-')
    planned(embedded, engine, 1).apply(engine, audit=path)
    torn, line = path.read_bytes().splitlines()
    assert torn == b'{"time": "2026-' and json.loads(line)["contexts"] == 1


# --- Where it cannot be said ----------------------------------------------------------------------


@pytest.mark.parametrize("place", [lambda folder: folder, lambda folder: folder / "missing" / "audit"])
@pytest.mark.parametrize("by_environment", [False, True])
def test_a_file_that_cannot_be_opened_ends_the_run_before_it_begins(
    tmp_path: Path,
    embedded: testing.EmbeddedEngine,
    engine: wfpsa.Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: Callable[[Path], Path],
    by_environment: bool,
) -> None:
    path = place(tmp_path)
    plan = planned(embedded, engine, 3)
    if by_environment:
        monkeypatch.setenv("WFPSA_AUDIT", str(path))
    with caplog.at_level(logging.INFO, "wfpsa.audit"), pytest.raises(OSError) as caught:
        plan.apply(engine, audit=None if by_environment else path, journal=tmp_path / "journal", sessions=2)
    assert caught.value.filename in (path, str(path)) and not isinstance(caught.value, wfpsa.WfpError)
    assert outbound(engine) == 3 and not caplog.records and not any(tmp_path.iterdir())


def test_a_plan_that_is_refused_is_no_run(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    path, journal = tmp_path / "audit", tmp_path / "journal"
    with pytest.raises(ValueError, match="may not be applied"):
        planned(embedded, engine, 2, max_count=1).apply(engine, audit=path)
    with pytest.raises(ValueError, match="sessions must be"):
        planned(embedded, engine, 0).apply(engine, audit=path, sessions=0)
    assert not path.exists()
    journal.touch()
    with pytest.raises(FileExistsError):
        planned(embedded, engine, 0).apply(engine, audit=path, journal=journal)
    assert path.read_bytes() == b"" and outbound(engine) == 2


def test_a_full_disk_at_the_end_is_an_error_with_the_report_and_the_line_is_in_the_log(
    tmp_path: Path,
    embedded: testing.EmbeddedEngine,
    engine: wfpsa.Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plan = planned(embedded, engine, 3, reason="r")
    with monkeypatch.context() as patch, pytest.raises(OSError) as caught:
        patch.setattr(audit.os, "write", full)
        plan.apply(engine, audit=tmp_path / "audit")
    assert caught.value.errno == errno.ENOSPC
    report = caught.value.report  # type: ignore[attr-defined]
    assert isinstance(report, ExpiryReport) and report.counts[Outcome.EXPIRED] == 3
    assert report.seconds is not None and report.stopped is None and outbound(engine) == 0
    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    message = record.getMessage()
    assert record.name == "wfpsa.audit" and os.strerror(errno.ENOSPC) in message
    said = json.loads(message[message.index("{") :])
    assert (said["plan"], said["reason"], said["counts"]) == (plan.checksum, "r", {"EXPIRED": 3})
    caplog.clear()


def test_a_handler_that_keeps_what_is_logged_does_not_keep_the_error_with_its_report(
    tmp_path: Path,
    embedded: testing.EmbeddedEngine,
    engine: wfpsa.Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plan = planned(embedded, engine, 1)
    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(audit.os, "write", full)
        plan.apply(engine, audit=tmp_path / "audit")
    kept = [argument for record in caplog.records for argument in record.args or ()]
    caplog.clear()
    assert kept and {type(argument) for argument in kept} == {str}


def test_a_line_that_is_written_in_pieces_is_whole(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = os.write

    def some(handle: int, data: memoryview) -> int:
        written.append(write(handle, data[:7]))
        return written[-1]

    plan = planned(embedded, engine, 3)
    with monkeypatch.context() as patch:
        patch.setattr(audit.os, "write", some)
        plan.apply(engine, audit=tmp_path / "audit")
    (said,) = lines(tmp_path / "audit")
    assert said["plan"] == plan.checksum and sum(written) == (tmp_path / "audit").stat().st_size


# --- Runs that end early --------------------------------------------------------------------------


def press(report: ExpiryReport) -> None:
    raise KeyboardInterrupt


def fail(report: ExpiryReport) -> None:
    raise LookupError("no such thing")


@pytest.mark.parametrize(
    ("progress", "error", "stopped"),
    [
        (ExpiryReport.cancel, None, "cancelled"),
        (press, wfpsa.ExpiryInterrupted, "interrupted"),
        (fail, LookupError, "interrupted"),
    ],
)
def test_a_run_that_is_stopped_is_audited_with_what_it_did(
    tmp_path: Path,
    embedded: testing.EmbeddedEngine,
    engine: wfpsa.Engine,
    progress: Callable[[ExpiryReport], None],
    error: type[BaseException] | None,
    stopped: str,
) -> None:
    def once_begun(report: ExpiryReport) -> None:
        if report.counts[Outcome.EXPIRED]:
            progress(report)

    plan = planned(embedded, engine, 300)
    options: dict[str, Any] = {"max_rate": 50, "on_progress": once_begun, "audit": tmp_path / "audit"}
    if error is None:
        report = plan.apply(engine, **options)
    else:
        with pytest.raises(error) as caught:
            plan.apply(engine, **options)
        report = caught.value.report  # type: ignore[attr-defined]
    (said,) = lines(tmp_path / "audit")
    assert said["stopped"] == report.stopped == stopped and said["seconds"] == round(report.seconds, 3)
    left = outbound(engine)
    assert 0 < left < 300 and said["counts"] == {"EXPIRED": 300 - left, "NOT_ATTEMPTED": left}


def test_an_interrupted_run_stays_one_where_the_audit_cannot_be_written(
    tmp_path: Path,
    embedded: testing.EmbeddedEngine,
    engine: wfpsa.Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plan = planned(embedded, engine, 300)
    with monkeypatch.context() as patch, pytest.raises(wfpsa.ExpiryInterrupted):
        patch.setattr(audit.os, "write", full)
        plan.apply(engine, max_rate=50, on_progress=press, audit=tmp_path / "audit")
    assert '"stopped": "interrupted"' in caplog.text
    caplog.clear()


def test_a_run_that_fails_to_reach_the_engine_is_audited(tmp_path: Path, embedded: testing.EmbeddedEngine) -> None:
    with embedded.open() as engine:
        plan = planned(embedded, engine, 20)
        embedded.stop_service()
        report = plan.apply(engine, sessions=2, audit=tmp_path / "audit")
    embedded.start_service()
    (said,) = lines(tmp_path / "audit")
    assert report.stopped is not None and said["stopped"] == report.stopped
    assert said["counts"] == {outcome.name: count for outcome, count in report.counts.items() if count}
    assert "EXPIRED" not in said["counts"] and sum(said["counts"].values()) == 20


# --- Without a plan -------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"sessions": 2, "timeout": 60}, {"verify": True}])
def test_expiring_at_once_is_audited_likewise_without_a_plan(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, options: dict[str, Any]
) -> None:
    path = tmp_path / "audit"
    batch = planned(embedded, engine, 4).contexts
    engine.delete(batch[0].context_id)
    report = engine.expire(batch, audit=path, **options)
    (said,) = lines(path)
    assert report.seconds is not None and said.pop("seconds") == round(report.seconds, 3)
    assert said.keys() == {
        *("time", "user", "host", "pid", "engine", "plan", "reason", "sessions", "resumed", "journal"),
        *("contexts", "counts", "cut_off", "stopped"),
    }
    assert (said["engine"], said["sessions"], said["contexts"]) == (embedded.target, options.get("sessions", 1), 4)
    assert (said["plan"], said["reason"], said["journal"], said["stopped"]) == (None,) * 4
    assert said["counts"] == {"EXPIRED": 3, "ALREADY_GONE": 1} and outbound(engine) == 0


def test_expiring_at_once_heeds_the_environment_and_the_log(
    tmp_path: Path,
    embedded: testing.EmbeddedEngine,
    engine: wfpsa.Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "audit"
    monkeypatch.setenv("WFPSA_AUDIT", str(path))
    with caplog.at_level(logging.INFO, "wfpsa.audit"):
        engine.expire([embedded.add()])
        monkeypatch.delenv("WFPSA_AUDIT")
        engine.expire([embedded.add(), 12345])
    first, second = caplog.records
    assert first.getMessage() + "\n" == path.read_text(encoding="ascii")
    assert json.loads(second.getMessage())["counts"] == {"EXPIRED": 1, "ALREADY_GONE": 1}
    caplog.clear()
    assert engine.expire([embedded.add()]).counts[Outcome.EXPIRED] == 1
    assert not caplog.records and len(lines(path)) == 1


def test_nothing_is_expired_at_once_that_could_not_be_audited(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    number = embedded.add()
    with pytest.raises(OSError):
        engine.expire([number], audit=tmp_path)
    path = tmp_path / "audit"
    with pytest.raises(ValueError, match="sessions must be"):
        engine.expire([number], audit=path, sessions=0)
    closed = embedded.open()
    closed.close()
    with pytest.raises(wfpsa.EngineClosed):
        closed.expire([number], audit=path)
    assert not path.exists() and outbound(engine) == 1


def test_what_stops_expiring_at_once_is_audited(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    batch = planned(embedded, engine, 300).contexts
    with pytest.raises(wfpsa.ExpiryInterrupted):
        engine.expire(batch, max_rate=50, on_progress=press, audit=tmp_path / "audit")
    embedded.restart_service()
    assert engine.expire([12345, 6789], audit=tmp_path / "audit").stopped == "the session was lost"
    first, second = lines(tmp_path / "audit")
    assert first["stopped"] == "interrupted" and first["counts"]["NOT_ATTEMPTED"] > 0
    assert (second["stopped"], sum(second["counts"].values())) == ("the session was lost", 2)


def test_a_full_disk_after_expiring_at_once_is_an_error_with_the_report(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = embedded.add()
    with monkeypatch.context() as patch, pytest.raises(OSError) as caught:
        patch.setattr(audit.os, "write", full)
        engine.expire([number], audit=tmp_path / "audit")
    assert caught.value.report.counts[Outcome.EXPIRED] == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("options", [{}, {"sessions": 2}])
def test_the_time_of_a_run_begins_when_its_audit_is_open(
    tmp_path: Path,
    embedded: testing.EmbeddedEngine,
    engine: wfpsa.Engine,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
) -> None:
    opened: list[float] = []
    really = os.open

    def slowly(*arguments: Any) -> int:
        time.sleep(0.2)
        opened.append(time.perf_counter())
        return really(*arguments)

    number = embedded.add()
    with monkeypatch.context() as patch:
        patch.setattr(audit.os, "open", slowly)
        report = engine.expire([number], audit=tmp_path / "audit", **options)
    assert report.seconds is not None and report.seconds < time.perf_counter() - opened[0]


def test_what_the_line_needs_is_imported_before_the_run(tmp_path: Path) -> None:
    code = """
import sys, wfpsa
from wfpsa.audit import Auditor

class Refuser:
    def find_spec(self, name, path=None, target=None):
        raise ImportError(name)

def watch(*arguments, really=Auditor.watch):
    sys.meta_path.insert(0, Refuser())
    return really(*arguments)

Auditor.watch = watch
with wfpsa.open_engine("embedded:?contexts=3") as engine:
    print(engine.expire(engine.snapshot(), audit=sys.argv[1]).counts[wfpsa.Outcome.EXPIRED])
"""
    assert int(run_python(code, str(tmp_path / "audit"))) == lines(tmp_path / "audit")[0]["counts"]["EXPIRED"]


def test_expiring_while_another_thread_imports_logging() -> None:
    code = """
import sys, threading, wfpsa

def expire():
    try:
        while not imported:
            engine.expire([1])
    except BaseException as error:
        failed.append(error)

imported, failed = [], []
with wfpsa.open_engine("noop:") as engine:
    engine.expire([1])
    thread = threading.Thread(target=expire)
    thread.start()
    assert "logging" not in sys.modules
    import logging
    imported.append(True)
    thread.join()
print(failed)
"""
    assert run_python(code) == "[]\n"


def test_expiring_unaudited_imports_nothing_for_it() -> None:
    code = (
        "import sys, wfpsa\n"
        "with wfpsa.open_engine('embedded:?contexts=3') as engine:\n"
        "    engine.expire(engine.snapshot())\n"
        "print(sorted({'getpass', 'json', 'logging', 'platform'} & set(sys.modules)))"
    )
    assert run_python(code) == "[]\n"
