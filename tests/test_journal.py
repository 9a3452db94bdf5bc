"""Journals of mass expiries: what they record, and that a crash, a full disk or damage never makes them lie."""

import errno
import json
import os
import platform
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kills
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import FWP_E_TIMEOUT, outbound

import wfpsa
from wfpsa import ExpiryInterrupted, ExpiryReport, Guard, Outcome, testing
from wfpsa import journal as journals
from wfpsa import plan as plans
from wfpsa.journal import read
from wfpsa.plan import ExpiryPlan


def planned(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, count: int = 40, **guards: Any) -> ExpiryPlan:
    """A plan of so many new contexts, and of nothing else."""
    for at in range(count):
        embedded.add("10.0.0.1", f"10.9.0.{at + 1}")
    return engine.plan_expiry(engine.snapshot(), **guards)


def columns(report: ExpiryReport) -> list[tuple[Any, ...]]:
    """What a report says of each context."""
    return list(zip(report.context_id, report.outcome, report.code, report.attempts, report.guard, strict=True))


def line(record: object) -> bytes:
    """A record with its checksum."""
    text = json.dumps(record).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


# --- What is recorded, and resumed ----------------------------------------------------------------


@pytest.mark.parametrize("sessions", [1, 4])
def test_a_journal_says_what_the_report_does(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, sessions: int
) -> None:
    ids = [embedded.add("10.0.0.1", f"10.9.0.{at % 20 + 1}") for at in range(40)]
    plan = engine.plan_expiry(engine.snapshot(), exclude=ids[:2], keep_per_peer=1)
    engine.delete(ids[2])
    embedded.fail("IPsecSaContextExpire0", 3, 0x80320009)
    report = plan.apply(engine, sessions=sessions, journal=tmp_path / "journal")
    counts = report.counts
    assert counts[Outcome.FAILED] == counts[Outcome.ALREADY_GONE] == 1
    assert counts[Outcome.SKIPPED] == 20 + 2 and counts[Outcome.EXPIRED] == 16
    assert report.guard.tolist().count(Guard.EXCLUDE) == 2 and report.guard.tolist().count(Guard.KEEP_PER_PEER) == 20
    recorded = read(tmp_path / "journal")
    assert recorded.plan["checksum"] == plan.checksum and recorded.left == [] and recorded.cut_off == frozenset()
    assert (bytes(report.outcome), bytes(report.code), bytes(report.attempts)) == (
        recorded.outcomes,
        recorded.codes,
        recorded.attempts,
    )
    before = outbound(engine)
    again = ExpiryPlan.resume(tmp_path / "journal").apply(engine)
    assert columns(again) == columns(report) and again.cut_off == frozenset() and outbound(engine) == before


def stopped_by_cancel(plan: ExpiryPlan, engine: wfpsa.Engine, path: Path) -> ExpiryReport:
    """Cancels itself at the first chance."""
    return plan.apply(engine, journal=path, max_rate=100, on_progress=lambda report: report.cancel())


def stopped_by_failures(plan: ExpiryPlan, engine: wfpsa.Engine, path: Path) -> ExpiryReport:
    """Has a failure with which it must stop."""
    return plan.apply(engine, journal=path, max_failures=0)


def stopped_by_timeout(plan: ExpiryPlan, engine: wfpsa.Engine, path: Path) -> ExpiryReport:
    """Takes longer than it may."""
    return plan.apply(engine, journal=path, max_rate=100, timeout=0.05)


def stopped_by_a_key(plan: ExpiryPlan, engine: wfpsa.Engine, path: Path) -> ExpiryReport:
    """Is interrupted."""

    def press(report: ExpiryReport) -> None:
        raise KeyboardInterrupt

    with pytest.raises(ExpiryInterrupted) as caught:
        plan.apply(engine, journal=path, max_rate=100, on_progress=press)
    report = caught.value.report
    assert isinstance(report, ExpiryReport)
    return report


@pytest.mark.parametrize("way", [stopped_by_cancel, stopped_by_failures, stopped_by_timeout, stopped_by_a_key])
def test_what_was_stopped_in_any_way_is_gone_on_with_and_nothing_is_attempted_twice(
    tmp_path: Path,
    embedded: testing.EmbeddedEngine,
    engine: wfpsa.Engine,
    way: Callable[[ExpiryPlan, wfpsa.Engine, Path], ExpiryReport],
) -> None:
    plan = planned(embedded, engine)
    embedded.fail("IPsecSaContextExpire0", 2, 5)
    first = way(plan, engine, tmp_path / "journal")
    assert first.counts[Outcome.NOT_ATTEMPTED] and first.stopped
    plan = ExpiryPlan.resume(tmp_path / "journal")
    assert plan.loaded and plan.recorded is not None and plan.recorded.stopped == first.stopped
    left = first.counts[Outcome.NOT_ATTEMPTED]
    assert f"with an outcome, 0 cut off, {left} left" in str(plan)
    report = plan.apply(engine, sessions=2)
    assert report.counts[Outcome.NOT_ATTEMPTED] == 0 and report.cut_off == frozenset()
    assert set(report.attempts) == {1}
    assert report.counts[Outcome.DENIED] == 1 and report.counts[Outcome.EXPIRED] == 39
    denied = [number for number, outcome, *_ in columns(report) if outcome is Outcome.DENIED]
    assert outbound(engine) == set(denied)
    assert ExpiryPlan.resume(tmp_path / "journal").recorded.stopped is None  # type: ignore[union-attr]


def test_what_was_cut_off_is_attempted_again_and_told(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    path = tmp_path / "journal"
    plan = planned(embedded, engine, 12)
    ids = plan.contexts["context_id"].tolist()
    plan.apply(engine, journal=path, max_rate=1, timeout=1e-9)  # nothing is called
    with open(path, "ab") as file:
        file.write(line({"intended": [2, 6]}))
        file.write(b"torn")
    engine.expire(ids[2:4])
    engine.delete(ids[4])
    resumed = ExpiryPlan.resume(path)
    assert resumed.cut_off == set(ids[2:6])
    assert "begun before: 0 contexts with an outcome, 4 cut off, 12 left" in str(resumed)
    report = resumed.apply(engine)
    assert report.cut_off == set(ids[2:6]) and report.stopped is None
    assert report.outcome.tolist() == [
        *[Outcome.EXPIRED] * 2,
        *[Outcome.CHANGED] * 2,
        Outcome.ALREADY_GONE,
        *[Outcome.EXPIRED] * 7,
    ]
    assert report.attempts.tolist() == [1, 1, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1]
    assert ExpiryPlan.resume(path).cut_off == set(ids[2:6]), "it is told again"


def test_a_resumed_plan_is_verified_and_refused_on_another_host_or_after_a_boot(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    planned(embedded, engine, 3).apply(engine, journal=path, timeout=1e-9)
    before = path.read_bytes()
    resumed = ExpiryPlan.resume(path)
    with pytest.raises(ValueError, match="a plan that was loaded or resumed is applied with verify=True only"):
        resumed.apply(engine, verify=False)
    with monkeypatch.context() as patch:
        patch.setattr(platform, "node", lambda: "elsewhere")
        with pytest.raises(ValueError, match="made on the host"):
            resumed.apply(engine)
    with monkeypatch.context() as patch:
        patch.setattr(plans, "boot_time", time.time)
        with pytest.raises(ValueError, match="before this machine was last started"):
            resumed.apply(engine)
    with pytest.raises(ValueError, match=r"the plan is \d+ s old, and at most 0 s are allowed"):
        monkeypatch.setattr(plans, "BOOT_TOLERANCE", 1e9)
        time.sleep(0.01)
        ExpiryPlan.resume(path, max_age=0)
    assert path.read_bytes() == before


def test_a_journal_is_never_written_over_and_belongs_to_one_plan(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    path = tmp_path / "journal"
    plan = planned(embedded, engine, 3)
    plan.apply(engine, journal=path, timeout=1e-9)
    for other in (plan, engine.plan_expiry(engine.snapshot(), reason="another")):
        with pytest.raises(FileExistsError, match=r"ExpiryPlan\.resume goes on with one"):
            other.apply(engine, journal=path)
    resumed = ExpiryPlan.resume(path)
    with pytest.raises(ValueError, match="a resumed plan goes on in its own journal"):
        resumed.apply(engine, journal=tmp_path / "other")
    assert len(outbound(engine)) == 3
    assert resumed.apply(engine, journal=path).counts[Outcome.EXPIRED] == 3
    with pytest.raises(ValueError, match="was written to since it was read: resume it again"):
        resumed.apply(engine)


def test_a_journal_whose_run_goes_on_is_in_use(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    path = tmp_path / "journal"
    refused: list[str] = []

    def resume(report: ExpiryReport) -> None:
        try:
            ExpiryPlan.resume(path).apply(engine)
        except BlockingIOError as error:
            refused.append(str(error))
        report.cancel()

    planned(embedded, engine).apply(engine, journal=path, max_rate=100, on_progress=resume)
    assert refused and "the journal is in use by another run" in refused[0]
    assert ExpiryPlan.resume(path).apply(engine).counts[Outcome.NOT_ATTEMPTED] == 0


def test_what_was_spared_was_never_cut_off(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    path = tmp_path / "journal"
    ids = [embedded.add("10.0.0.1", f"10.9.0.{at + 1}") for at in range(12)]
    engine.plan_expiry(engine.snapshot(), exclude=ids[:2]).apply(engine, journal=path, timeout=1e-9)
    with open(path, "ab") as file:
        file.write(line({"intended": [0, 6]}))
    report = ExpiryPlan.resume(path).apply(engine)
    assert report.cut_off == set(ids[2:6])
    assert report.attempts.tolist() == [0, 0, 2, 2, 2, 2, *[1] * 6]
    assert report.outcome.tolist()[:2] == [Outcome.SKIPPED] * 2


def test_a_full_disk_is_told_also_where_it_is_stopped_already(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(embedded, engine)
    real = os.write

    def write(handle: int, data: Any) -> int:
        if b'"intended"' not in bytes(data):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data)

    embedded.latency(per_call_us=20_000)
    monkeypatch.setattr(journals.os, "write", write)
    report = plan.apply(engine, journal=tmp_path / "journal", timeout=0.01, verify=False)
    assert str(report.stopped).startswith("the timeout of 0.01 s; the journal could not be written: [Errno 28]")
    embedded.latency()


def test_somebody_else_who_writes_to_it_stops_it(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    path = tmp_path / "journal"

    def intrude(report: ExpiryReport) -> None:
        with open(path, "ab") as file:
            file.write(line({"resumed": "now"}))

    report = planned(embedded, engine).apply(engine, journal=path, max_rate=100, on_progress=intrude)
    assert "somebody else wrote to it" in str(report.stopped)
    assert report.counts[Outcome.NOT_ATTEMPTED] == len(outbound(engine)) > 0


# --- Kills ----------------------------------------------------------------------------------------


def test_a_process_killed_at_random_points_loses_nothing_and_reports_nothing_wrongly() -> None:
    figures = kills.trials(60 if hasattr(os, "fork") else 2, seed=7)
    print(figures)
    assert figures.kills >= (200 if hasattr(os, "fork") else 4)
    assert figures.lost == figures.wrong == 0
    assert 0 < figures.cut_off < figures.ids and figures.expired > figures.ids / 2


# --- Disks that are full --------------------------------------------------------------------------


class Disk:
    """os.write that fails the nth time, having written half."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, nth: int) -> None:
        self.left = nth
        self._write = os.write
        monkeypatch.setattr(journals.os, "write", self)

    def __call__(self, handle: int, data: Any) -> int:
        self.left -= 1
        if self.left < -1:
            pytest.fail("it wrote on after the disk was full")
        if self.left == 0:
            return self._write(handle, data[: len(data) // 2])
        if self.left == -1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._write(handle, data)


@pytest.mark.parametrize("torn", [False, True], ids=["truncated", "torn"])
def test_a_full_disk_stops_it_before_the_next_call_and_what_was_done_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bool
) -> None:
    for nth in range(1, 1000):
        path = tmp_path / f"journal-{nth}"
        with testing.EmbeddedEngine() as embedded, embedded.open() as engine:
            plan = planned(embedded, engine, 24)
            with monkeypatch.context() as patch:
                disk = Disk(patch, nth)
                if torn:
                    patch.setattr(journals.os, "ftruncate", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "")))
                report = plan.apply(engine, journal=path)
            done = {number for number, outcome, *_ in columns(report) if outcome is Outcome.EXPIRED}
            assert outbound(engine) == set(plan.contexts["context_id"]) - done
            assert report.counts[Outcome.EXPIRED] + report.counts[Outcome.NOT_ATTEMPTED] == 24
            if disk.left > 0:
                assert report.stopped is None and report.counts[Outcome.EXPIRED] == 24
                break
            assert "the journal could not be written" in str(report.stopped) and "No space left" in str(report.stopped)
            resumed = ExpiryPlan.resume(path)
            assert resumed.recorded is not None
            assert (resumed.recorded.found > resumed.recorded.size) is torn
            last = resumed.apply(engine)
            assert last.counts[Outcome.EXPIRED] + last.counts[Outcome.CHANGED] == 24 and not outbound(engine)
            changed = {number for number, outcome, *_ in columns(last) if outcome is Outcome.CHANGED}
            assert changed <= last.cut_off & done
    assert nth > 10


@pytest.mark.posix
def test_a_file_that_may_not_grow_is_like_a_full_disk(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    import resource

    plan = planned(embedded, engine)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    plan.apply(engine, journal=tmp_path / "first", timeout=1e-9)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "first").stat().st_size + 700, before[1]))
    try:
        report = plan.apply(engine, journal=tmp_path / "journal")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "the journal could not be written" in str(report.stopped)
    assert 0 < report.counts[Outcome.EXPIRED] < 40
    assert len(outbound(engine)) == report.counts[Outcome.NOT_ATTEMPTED]
    last = ExpiryPlan.resume(tmp_path / "journal").apply(engine)
    assert not outbound(engine) and last.counts[Outcome.NOT_ATTEMPTED] == 0


def test_a_disk_that_cannot_be_synced_stops_it(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(embedded, engine)
    calls: Iterator[int] = iter(range(100))

    def fsync(handle: int) -> None:
        if next(calls) == 4:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(journals.os, "fsync", fsync)
    report = plan.apply(engine, journal=tmp_path / "journal")
    assert "the journal could not be written: [Errno 5] Input/output error" in str(report.stopped)
    assert 0 < report.counts[Outcome.EXPIRED] < 40
    assert len(outbound(engine)) == report.counts[Outcome.NOT_ATTEMPTED]


def test_a_journal_that_cannot_be_begun_stops_it_before_anything(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    with pytest.raises(OSError):
        planned(embedded, engine).apply(engine, journal=tmp_path / "missing" / "journal")
    assert len(outbound(engine)) == 40


# --- Damage ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A journal of a plan that went through, with several outcomes."""
    path = tmp_path_factory.mktemp("journal") / "journal"
    with testing.EmbeddedEngine() as embedded, embedded.open() as engine:
        plan = planned(embedded, engine, 24, exclude=[1])
        engine.delete(plan.contexts["context_id"][3])
        embedded.fail("IPsecSaContextExpire0", 5, FWP_E_TIMEOUT)
        plan.apply(engine, journal=path)
    return path.read_bytes()


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_a_journal_that_breaks_off_anywhere_says_only_what_it_said_before(
    written: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "journal"
    header = written.index(b"\n") + 1
    at = data.draw(st.integers(0, len(written)))
    path.write_bytes(written[:at])
    if at < header:
        with pytest.raises(ValueError, match="is no journal of an expiry"):
            read(path)
        return
    (path.parent / "whole").write_bytes(written)
    whole, part = read(path.parent / "whole"), read(path)
    assert part.size == written.rindex(b"\n", 0, at) + 1 and part.found == at
    left = {row for first, stop in part.left for row in range(first, stop)}
    for row in range(24):
        if row not in left:
            assert part.outcomes[row] == whole.outcomes[row] and part.attempts[row] == whole.attempts[row]
    assert part.cut_off <= left


@settings(deadline=None, max_examples=200)
@given(at=st.integers(0, 1 << 20), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed(written: bytes, tmp_path_factory: pytest.TempPathFactory, at: int, bit: int) -> None:
    path = tmp_path_factory.mktemp("flip") / "journal"
    data = bytearray(written)
    data[at % len(data)] ^= 1 << bit
    path.write_bytes(data)
    try:
        recorded = read(path)
    except ValueError as error:
        assert "is damaged" in str(error) or "is no journal" in str(error)
        return
    assert data[-1:] != b"\n" and recorded.size < len(written) == recorded.found, "only its end can be torn"


def changed(text: bytes, number: int, record: object) -> bytes:
    """The journal with another record there, from 0 on."""
    lines = text.splitlines(keepends=True)
    lines[number] = line(record)
    return b"".join(lines)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"intended": [0, 25]}, "rows that the plan does not have"),
        ({"intended": [-1, 2]}, "rows that the plan does not have"),
        ({"intended": [3]}, "not enough values"),
        ({"intended": ["a", "b"]}, "rows that the plan does not have"),
        ({"noted": [0, 1], "outcomes": "63", "codes": "", "attempts": "01"}, "an unknown outcome"),
        ({"noted": [0, 1], "outcomes": "0000", "codes": "", "attempts": "01"}, "not as many outcomes as rows"),
        ({"noted": [0, 1], "outcomes": "00", "codes": "00", "attempts": "01"}, "not as many outcomes as rows"),
        ({"noted": [0, 1], "outcomes": "00", "codes": "", "attempts": ""}, "not as many outcomes as rows"),
        ({"noted": [0, 1], "outcomes": "zz", "codes": "", "attempts": ""}, "non-hexadecimal"),
        ({"noted": [0, 1]}, "KeyError 'outcomes'"),
        ({"something": 1}, "KeyError 'ended'"),
    ],
)
def test_records_that_make_no_sense_are_refused_by_number(
    written: bytes, tmp_path: Path, record: object, said: str
) -> None:
    path = tmp_path / "journal"
    path.write_bytes(changed(written, 1, record))
    with pytest.raises(ValueError, match=rf"record 2: .*{said}"):
        read(path)


def test_files_that_are_no_journals_of_this_version_are_refused(written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    header = json.loads(written[9 : written.index(b"\n")])
    for text, said in (
        (b"", "is no journal of an expiry"),
        (b"something else\n", "is no journal of an expiry"),
        (line([1, 2]), "is no journal of an expiry"),
        (line({"format": "wfpsa expiry plan"}), "is no journal of an expiry"),
        (line({**header, "schema_version": 2}), "schema version 2, this wfpsa reads 1"),
        (line({**header, "plan": {}}), "is no journal of an expiry: KeyError"),
    ):
        path.write_bytes(text)
        with pytest.raises(ValueError, match=said):
            ExpiryPlan.resume(path)
    plan = {**header["plan"], "reason": "changed"}
    path.write_bytes(line({**header, "plan": plan}))
    with pytest.raises(ValueError, match="its checksum is wrong"):
        ExpiryPlan.resume(path)
    with pytest.raises(FileNotFoundError):
        ExpiryPlan.resume(tmp_path / "missing")


@pytest.mark.posix
def test_a_folder_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        ExpiryPlan.resume(tmp_path)
