"""Tests of how `wfpsa expire` applies a plan: dry runs, guards, limits, outcomes, audits, settling and exit codes."""

import _thread
import errno
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command import ALL, EXPIRE, Run, counts, facts, ids, live, on_terminal, planned, pressing, stopped
from support import Worker, added

import wfpsa
from wfpsa import ExpiryReport, expiry, testing
from wfpsa.cli.common import ExitCode
from wfpsa.settle import Settlement

# ---- the dry run ----


@pytest.mark.parametrize("selector", [["--where", "true"], ["--remote", "0.0.0.0/0"], ["--id"]])
def test_without_yes_nothing_is_expired(run: Run, embedded: testing.EmbeddedEngine, selector: list[str]) -> None:
    embedded.seed(50, 7)
    embedded.fail(EXPIRE, nth=1, code=5)
    before = live(embedded)
    if selector == ["--id"]:
        selector = [part for number in before for part in ("--id", str(number))]
    result = run("expire", "--engine", embedded.target, *selector)
    assert result.code == ExitCode.DONE
    assert "nothing was expired; --yes does it" in result.err
    assert embedded.target in result.err
    assert live(embedded) == before


def test_a_dry_run_counts_the_contexts_and_names_the_busiest_peers(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(300, 7, odd=True)
    with embedded.open() as engine:
        peers = [context.remote_address for context in engine.snapshot()]
    result = run("expire", "--engine", embedded.target, "--where", "true", "--format", "json")
    plan = json.loads(result.out)
    assert plan["would_expire"] == 300
    assert len(plan["remote_addresses"]) == 5
    for address, count in plan["remote_addresses"].items():
        assert count == sum(("-" if peer is None else str(peer)) == address for peer in peers)
    assert sum(plan["remote_addresses"].values()) + plan["other_addresses"] == 300
    assert max(plan["remote_addresses"].values()) == max(map(peers.count, peers))


def test_a_dry_run_as_a_table_is_a_line_each(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(300, 7)
    lines = run("expire", "--engine", embedded.target, "--where", "has_outbound").lines
    assert [line.split()[0] for line in lines] == ["would_expire", "remote_addresses", "other_addresses", "types"]


def test_a_dry_run_of_ids_names_those_not_known(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(3)
    known = ids(embedded)
    selector = [part for number in (*known, 7, 8) for part in ("--id", number)]
    result = run("expire", "--engine", embedded.target, *selector, "--format", "json")
    assert result.code == ExitCode.DONE
    plan = json.loads(result.out)
    assert plan["would_expire"] == 3
    assert plan["not_known"] == [7, 8]
    assert "7, 8" in run("expire", "--engine", embedded.target, *selector).text


def test_a_dry_run_of_unknown_ids_matches_nothing(run: Run, embedded: testing.EmbeddedEngine) -> None:
    result = run("expire", "--engine", embedded.target, "--id", "7")
    assert result.code == ExitCode.NOTHING


# ---- what became of each, and the exit code ----


def test_one_that_was_gone_already_counts_as_done(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(1)
    result = run("expire", "--engine", embedded.target, "--id", ids(embedded)[0], "--id", "7", "--yes")
    assert result.code == ExitCode.DONE
    assert counts(result.text) == {"EXPIRED": 1, "ALREADY_GONE": 1}


def test_where_some_fail_it_is_partial_and_says_why(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(5)
    embedded.fail(EXPIRE, nth=2, code=0x80320009)
    result = run("expire", "--engine", embedded.target, "--where", "true", "--yes")
    assert result.code == ExitCode.PARTIAL
    assert counts(result.text) == {"EXPIRED": 4, "FAILED": 1}
    assert "1 FAILED: IPsecSaContextExpire0: FWP_E_ALREADY_EXISTS (0x80320009)" in result.err


def test_where_some_are_denied_it_is_partial(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(5)
    embedded.fail(EXPIRE, nth=3, code=5)
    result = run("expire", "--engine", embedded.target, "--where", "true", "--yes")
    assert result.code == ExitCode.PARTIAL
    assert counts(result.text) == {"EXPIRED": 4, "DENIED": 1}


@pytest.mark.parametrize("code", [0x80320012, 1726], ids=["lock", "session"])
def test_what_a_lock_or_a_lost_session_stood_against_is_tried_again(
    run: Run, embedded: testing.EmbeddedEngine, code: int
) -> None:
    embedded.seed(5)
    embedded.fail(EXPIRE, nth=3, code=code)
    result = run("expire", "--engine", embedded.target, "--where", "true", "--yes")
    assert result.code == ExitCode.DONE
    assert counts(result.text) == {"EXPIRED": 5}


def test_where_the_service_is_gone_the_rest_is_not_attempted(
    run: Run, embedded: testing.EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "AWAITED", 0.5)
    embedded.seed(600)
    embedded.latency(per_call_us=5000)
    total = len(live(embedded))

    def stop() -> None:
        with embedded.open() as engine:
            deadline = time.monotonic() + 30
            while sum(engine.snapshot()["has_outbound"]) == total and time.monotonic() < deadline:
                time.sleep(0.005)
        embedded.stop_service()

    stopper = threading.Thread(target=stop)
    stopper.start()
    result = run("expire", "--engine", embedded.target, "--where", "true", "--yes")
    stopper.join()
    found = counts(result.text)
    assert result.code == ExitCode.PARTIAL
    assert found["EXPIRED"] > 0 and found["NOT_ATTEMPTED"] > 0
    assert "stopped: " in result.err and "NOT_ATTEMPTED: it ended before their turn" in result.err


def test_where_all_fail_it_is_a_failure(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(1)
    embedded.fail(EXPIRE, nth=1, code=0x80320009)
    result = run("expire", "--engine", embedded.target, "--where", "true", "--yes")
    assert result.code == ExitCode.FAILURE
    assert counts(result.text) == {"FAILED": 1}


def test_where_all_are_denied_access_was_denied(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(5)
    before = live(embedded)
    embedded.rights("read_only")
    result = run("expire", "--engine", embedded.target, "--where", "true", "--yes")
    assert result.code == ExitCode.DENIED
    assert counts(result.text) == {"DENIED": 5}
    assert "5 DENIED: IPsecSaContextExpire0: ERROR_ACCESS_DENIED (5)" in result.err
    embedded.rights("administrator")
    assert live(embedded) == before


def test_an_expired_context_goes_for_good_after_a_minute(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(5)
    run("expire", "--engine", embedded.target, "--where", "true", "--yes")
    embedded.advance(61)
    assert len(embedded) == 0
    assert run("expire", "--engine", embedded.target, "--where", "true", "--yes").code == ExitCode.NOTHING


def test_ctrl_c_prints_how_far_it_came(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(600)
    total = len(live(embedded))

    def interrupt() -> None:
        with embedded.open() as engine:
            deadline = time.monotonic() + 30
            while sum(engine.snapshot()["has_outbound"]) == total and time.monotonic() < deadline:
                time.sleep(0.005)
        _thread.interrupt_main()

    embedded.latency(per_call_us=10_000)
    watcher = threading.Thread(target=interrupt)
    watcher.start()
    try:
        result = run("expire", "--engine", embedded.target, "--remote", "0.0.0.0/0", "--yes")
    finally:
        watcher.join()
    found = counts(result.text)
    assert result.code == ExitCode.PARTIAL
    assert found["EXPIRED"] > 0
    assert found["NOT_ATTEMPTED"] > 0
    assert "interrupted while expiring" in result.err
    embedded.latency()
    assert len(live(embedded)) < total


# ---- guards ----


GUARDS = [
    (("--max", 4), "5 contexts, where at most 4 are allowed"),
    (("--max", 0), "5 contexts, where at most 0 are allowed"),
    (("--expect", 4), "5 contexts, where 4 were expected"),
    (("--expect", 6), "5 contexts, where 6 were expected"),
]


@pytest.mark.parametrize(("guard", "said"), GUARDS)
def test_a_guard_stops_it_before_anything_and_a_dry_run_shows_what_it_would_be(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path, guard: tuple[object, ...], said: str
) -> None:
    ids = added(embedded, 5)
    result = expire(*ALL, *guard, "--format", "json")
    assert result.code == ExitCode.USAGE
    assert said in result.err and facts(result.out)["would_expire"] == 5
    result = expire(*ALL, *guard, "--yes", "--journal", tmp_path / "journal", "--audit", tmp_path / "audit")
    assert result.code == ExitCode.USAGE
    assert said in result.err and result.out == b""
    assert live(embedded) == set(ids) and os.listdir(tmp_path) == []


@pytest.mark.parametrize("guard", [("--max", 5), ("--expect", 5), ("--max", 2**40)])
def test_what_the_guards_allow_is_expired(
    expire: Run, embedded: testing.EmbeddedEngine, guard: tuple[object, ...]
) -> None:
    added(embedded, 5)
    result = expire(*ALL, *guard, "--yes")
    assert result.code == ExitCode.DONE and counts(result.text) == {"EXPIRED": 5}
    assert live(embedded) == set()


def test_what_is_spared_is_shown_and_skipped_and_the_guards_do_not_count_it(
    expire: Run, embedded: testing.EmbeddedEngine
) -> None:
    ids = [embedded.add("10.0.0.1", f"10.1.0.{1 + at % 3}") for at in range(9)]
    spare = ("--keep-per-peer", 1, "--exclude", ids[0], "--exclude", hex(ids[8]), "--exclude", 12345)
    guards = ("--max", 4, "--expect", 4)
    result = expire(*ALL, *spare, *guards, "--format", "json")
    assert result.code == ExitCode.DONE
    shown = facts(result.out)
    assert shown["would_expire"] == 4 and sum(shown["remote_addresses"].values()) == 4
    assert shown["spared"] == {"EXCLUDE": 2, "KEEP_PER_PEER": 3}
    assert re.search(r"^spared +EXCLUDE \(2\), KEEP_PER_PEER \(3\)$", expire(*ALL, *spare).text, re.MULTILINE)
    assert live(embedded) == set(ids)
    result = expire(*ALL, *spare, *guards, "--yes", "--format", "json")
    assert result.code == ExitCode.DONE
    assert facts(result.out) == {"EXPIRED": 4, "SKIPPED": 5, "skipped_by": {"KEEP_PER_PEER": 3, "EXCLUDE": 2}}
    assert live(embedded) == {ids[0], *ids[5:]}


def test_what_is_spared_by_a_plan_in_a_file_is_named_in_the_table(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path
) -> None:
    ids = added(embedded, 3)
    path = planned(expire, tmp_path / "plan", *ALL, "--exclude", ids[1])
    result = expire("--apply", path, "--yes")
    assert result.code == ExitCode.DONE
    assert [row.split(None, 1) for row in result.lines] == [
        ["EXPIRED", "2"],
        ["SKIPPED", "1"],
        ["skipped_by", "EXCLUDE (1)"],
    ]
    assert live(embedded) == {ids[1]}


def test_where_all_but_the_spared_ones_are_denied_access_was_denied(
    expire: Run, embedded: testing.EmbeddedEngine
) -> None:
    ids = added(embedded, 3)
    embedded.rights("read_only")
    result = expire(*ALL, "--exclude", ids[0], "--yes", "--format", "json")
    embedded.rights("administrator")
    assert facts(result.out) == {"DENIED": 2, "SKIPPED": 1, "skipped_by": {"EXCLUDE": 1}}
    assert live(embedded) == set(ids)
    assert result.code == ExitCode.DENIED


def test_where_all_but_the_spared_ones_fail_it_is_a_failure(expire: Run, embedded: testing.EmbeddedEngine) -> None:
    ids = added(embedded, 2)
    embedded.fail(EXPIRE, nth=1, code=0x80320009)
    result = expire(*ALL, "--exclude", ids[0], "--yes", "--format", "json")
    assert facts(result.out) == {"FAILED": 1, "SKIPPED": 1, "skipped_by": {"EXCLUDE": 1}}
    assert live(embedded) == set(ids)
    assert result.code == ExitCode.FAILURE


# ---- limits ----


def test_an_infinite_rate_is_refused_or_is_no_limit(expire: Run, embedded: testing.EmbeddedEngine) -> None:
    added(embedded, 30)
    result = expire(*ALL, "--rate", "inf", "--yes")
    assert (result.code, len(live(embedded))) in {(ExitCode.USAGE, 30), (ExitCode.DONE, 0)}


def test_more_failures_than_allowed_stop_it(expire: Run, embedded: testing.EmbeddedEngine) -> None:
    ids = added(embedded, 40)
    embedded.fail(EXPIRE, nth=3, code=5)
    result = expire(*ALL, "--yes", "--max-failures", 0)
    assert result.code == ExitCode.PARTIAL
    found = counts(result.text)
    assert found["DENIED"] == 1 and found["EXPIRED"] >= 2 and sum(found.values()) == 40
    assert "stopped: more than 0 failures" in result.err
    assert f"{found['NOT_ATTEMPTED']} NOT_ATTEMPTED: it ended before their turn" in result.err
    assert len(live(embedded)) == 40 - found["EXPIRED"] and ids[2] in live(embedded)


def test_a_larger_share_of_failures_than_allowed_stops_it(expire: Run, embedded: testing.EmbeddedEngine) -> None:
    added(embedded, 200)
    embedded.fail(EXPIRE, nth=3, code=5)
    result = expire(*ALL, "--yes", "--max-failure-ratio", 0)
    assert result.code == ExitCode.PARTIAL
    found = counts(result.text)
    assert found["DENIED"] == 1 and found["NOT_ATTEMPTED"] > 100 and sum(found.values()) == 200
    assert "stopped: failures above 0 of those attempted" in result.err
    assert len(live(embedded)) == 200 - found["EXPIRED"]


@pytest.mark.parametrize("limit", [("--max-failures", 1), ("--max-failure-ratio", 0.5)])
def test_as_many_failures_as_allowed_do_not_stop_it(
    expire: Run, embedded: testing.EmbeddedEngine, limit: tuple[object, ...]
) -> None:
    ids = added(embedded, 200)
    embedded.fail(EXPIRE, nth=3, code=5)
    result = expire(*ALL, "--yes", *limit)
    assert result.code == ExitCode.PARTIAL
    assert counts(result.text) == {"EXPIRED": 199, "DENIED": 1}
    assert "stopped" not in result.err and live(embedded) == {ids[2]}


def test_a_timeout_stops_it(expire: Run, embedded: testing.EmbeddedEngine) -> None:
    added(embedded, 40)
    result = expire(*ALL, "--yes", "--rate", 40, "--timeout", 0.6)
    assert result.code == ExitCode.PARTIAL
    found = counts(result.text)
    assert set(found) == {"EXPIRED", "NOT_ATTEMPTED"} and sum(found.values()) == 40
    assert "stopped: the timeout of 0.6 s" in result.err
    assert len(live(embedded)) == found["NOT_ATTEMPTED"] > 0


def test_a_rate_is_not_exceeded_by_several_sessions(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path
) -> None:
    added(embedded, 21)
    result = expire(*ALL, "--yes", "--rate", 100, "--sessions", 4, "--audit", tmp_path / "audit")
    assert result.code == ExitCode.DONE and counts(result.text) == {"EXPIRED": 21}
    said = json.loads((tmp_path / "audit").read_text())
    assert said["sessions"] == 4 and said["seconds"] >= 0.19
    assert live(embedded) == set()


# ---- the journal ----


def test_a_journal_that_exists_is_not_written_over(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path
) -> None:
    added(embedded, 40)
    path = tmp_path / "journal"
    stopped(expire, path)
    before, held = live(embedded), path.read_bytes()
    result = expire(*ALL, "--yes", "--journal", path)
    assert result.code == ExitCode.USAGE
    assert f"--journal: {path} exists; --resume goes on with it" in result.err and result.out == b""
    assert live(embedded) == before and path.read_bytes() == held


def test_a_journal_that_cannot_be_begun_stops_it(expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path) -> None:
    ids = added(embedded, 3)
    result = expire(*ALL, "--yes", "--journal", tmp_path / "missing" / "journal")
    assert result.code == ExitCode.FAILURE
    assert os.strerror(errno.ENOENT) in result.err and result.out == b""
    assert live(embedded) == set(ids)


def test_a_dry_run_makes_no_journal(expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path) -> None:
    ids = added(embedded, 3)
    assert expire(*ALL, "--journal", tmp_path / "journal").code == ExitCode.DONE
    assert os.listdir(tmp_path) == [] and live(embedded) == set(ids)


# ---- the audit ----


def audited(path: Path) -> list[dict[str, Any]]:
    """What the file of audits says, a line each."""
    return [json.loads(row) for row in path.read_text(encoding="ascii").splitlines()]


def test_an_audit_appends_a_line_of_json_for_each_run(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path
) -> None:
    added(embedded, 5)
    path = tmp_path / "audit"
    path.write_text('{"somebody": "else"}\n')
    plan = planned(expire, tmp_path / "plan", *ALL, "--reason", "a stolen laptop")
    assert expire("--apply", plan, "--audit", path).code == ExitCode.DONE
    assert len(audited(path)) == 1, "a dry run leaves no line"
    assert expire("--apply", plan, "--yes", "--audit", path, "--journal", tmp_path / "j").code == ExitCode.DONE
    assert expire("--apply", plan, "--yes", "--audit", path).code == ExitCode.FAILURE
    first, second, third = audited(path)
    assert first == {"somebody": "else"}
    assert second["plan"] == third["plan"] == json.loads(plan.read_text())["checksum"]
    assert (second["engine"], second["reason"], second["contexts"]) == (embedded.target, "a stolen laptop", 5)
    assert (second["counts"], third["counts"]) == ({"EXPIRED": 5}, {"CHANGED": 5})
    assert (second["journal"], third["journal"]) == (os.path.realpath(tmp_path / "j"), None)
    assert live(embedded) == set()


def test_the_variable_names_the_file_of_audits_unless_the_option_does(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = added(embedded, 2)
    monkeypatch.setenv("WFPSA_AUDIT", str(tmp_path / "variable"))
    assert expire("--id", ids[0], "--yes").code == ExitCode.DONE
    assert expire("--id", ids[1], "--yes", "--audit", tmp_path / "option").code == ExitCode.DONE
    for name in ("variable", "option"):
        assert [said["counts"] for said in audited(tmp_path / name)] == [{"EXPIRED": 1}]
    assert live(embedded) == set()


def test_an_audit_that_cannot_be_begun_stops_it(expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path) -> None:
    ids = added(embedded, 3)
    result = expire(*ALL, "--yes", "--audit", tmp_path / "missing" / "audit", "--journal", tmp_path / "journal")
    assert result.code == ExitCode.FAILURE
    assert os.strerror(errno.ENOENT) in result.err and result.out == b""
    assert live(embedded) == set(ids) and os.listdir(tmp_path) == []


@pytest.mark.posix
def test_an_audit_that_cannot_be_written_fails_it_with_its_outcomes_shown(
    expire: Run, embedded: testing.EmbeddedEngine
) -> None:
    added(embedded, 3)
    result = expire(*ALL, "--yes", "--audit", "/dev/full", "--format", "json")
    assert result.code == ExitCode.FAILURE
    assert facts(result.out) == {"EXPIRED": 3} and os.strerror(errno.ENOSPC) in result.err
    assert live(embedded) == set()


# ---- settling ----


SETTLE = ExpiryReport.settle


@contextmanager
def moving(embedded: testing.EmbeddedEngine, come: Callable[[], object]) -> Iterator[None]:
    """Once no context has an outbound SA: has others come, and moves the engine's clock by a minute and on."""
    over = threading.Event()

    def move() -> None:
        deadline = time.monotonic() + 30
        while live(embedded) and time.monotonic() < deadline:
            time.sleep(0.005)
        come()
        embedded.advance(61)
        while not over.wait(0.01):  # a look may have been before the minute: the next comes seconds after it
            embedded.advance(0.5)

    mover = Worker(move)
    try:
        yield
    finally:
        over.set()
        mover.finish()


def at_settling(monkeypatch: pytest.MonkeyPatch, before: Callable[[], object], timeout: float = 0.1) -> None:
    """Does something before it settles, for which it has less time than usual."""

    def settle(report: ExpiryReport, engine: wfpsa.Engine) -> Settlement:
        before()
        return SETTLE(report, engine, timeout, 0.02)

    monkeypatch.setattr(ExpiryReport, "settle", settle)


def test_settling_waits_until_the_inbound_sas_are_gone(expire: Run, embedded: testing.EmbeddedEngine) -> None:
    added(embedded, 5)
    with moving(embedded, lambda: None):
        result = expire(*ALL, "--yes", "--settle", "--format", "json")
    assert result.code == ExitCode.DONE
    found = facts(result.out)
    settlement = found.pop("settlement")
    assert found == {"EXPIRED": 5} and len(embedded) == 0
    assert isinstance(settlement.pop("waited_seconds"), float)
    assert settlement == {
        "settled": True,
        "remaining": 0,
        "renegotiated": {},
        "renegotiated_contexts": 0,
        "other_contexts": 0,
    }


def test_settling_as_a_table_says_who_came_back_after_the_outcomes(
    expire: Run, embedded: testing.EmbeddedEngine
) -> None:
    added(embedded, 3)

    def come() -> None:
        for peer in ("10.1.0.2", "10.1.0.2", "10.1.0.3", "10.2.0.1"):
            embedded.add("10.0.0.1", peer)

    with moving(embedded, come):
        result = expire(*ALL, "--yes", "--settle")
    assert result.code == ExitCode.DONE
    found = dict(row.split(None, 1) for row in result.lines)
    assert next(iter(found)) == "EXPIRED" and found["EXPIRED"] == "3" and found["settled"] == "yes"
    assert found["renegotiated"] == "10.0.0.1 and 10.1.0.2 (2), 10.0.0.1 and 10.1.0.3 (1)"
    assert (found["renegotiated_contexts"], found["other_contexts"], found["remaining"]) == ("3", "0", "0")
    assert len(result.lines) == len(found) and len(live(embedded)) == 4


@pytest.mark.parametrize("format", ["table", "json"])
def test_what_does_not_settle_is_partial(
    expire: Run, embedded: testing.EmbeddedEngine, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    added(embedded, 5)
    at_settling(monkeypatch, lambda: None)
    result = expire(*ALL, "--yes", "--settle", "--format", format)
    assert result.code == ExitCode.PARTIAL
    if format == "json":
        found = facts(result.out)
        assert found["EXPIRED"] == 5
        assert (found["settlement"]["settled"], found["settlement"]["remaining"]) == (False, 5)
    else:
        rows = dict(row.split(None, 1) for row in result.lines)
        assert (rows["EXPIRED"], rows["settled"], rows["remaining"]) == ("5", "no", "5")
    assert live(embedded) == set() and len(embedded) == 5


def test_failures_decide_the_exit_code_of_what_settled(
    expire: Run, embedded: testing.EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = added(embedded, 3)
    embedded.fail(EXPIRE, nth=2, code=5)
    at_settling(monkeypatch, lambda: embedded.advance(61))
    result = expire(*ALL, "--yes", "--settle", "--format", "json")
    assert result.code == ExitCode.PARTIAL
    found = facts(result.out)
    assert (found["EXPIRED"], found["DENIED"], found["settlement"]["settled"]) == (2, 1, True)
    assert "1 DENIED" in result.err and live(embedded) == {ids[1]}


@pytest.mark.parametrize("format", ["table", "json"])
def test_ctrl_c_while_it_settles_prints_the_outcomes_once(
    expire: Run, embedded: testing.EmbeddedEngine, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    added(embedded, 5)
    at_settling(monkeypatch, _thread.interrupt_main, timeout=20)
    result = expire(*ALL, "--yes", "--settle", "--format", format)
    assert result.code == ExitCode.PARTIAL
    assert "interrupted while waiting for the inbound SAs to go" in result.err
    assert (facts(result.out) if format == "json" else counts(result.text)) == {"EXPIRED": 5}
    assert len(result.lines) == (3 if format == "json" else 1) and live(embedded) == set()


@pytest.mark.parametrize("format", ["table", "json"])
def test_ctrl_c_while_it_expires_and_again_prints_the_outcomes_once(
    expire: Run, embedded: testing.EmbeddedEngine, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    added(embedded, 600)
    pressed: list[str] = []

    def press() -> None:
        pressed.append("again")
        _thread.interrupt_main()

    at_settling(monkeypatch, press, timeout=20)
    with pressing(embedded):
        result = expire(*ALL, "--yes", "--settle", "--rate", 100, "--format", format)
    assert result.code == ExitCode.PARTIAL
    assert "interrupted while expiring" in result.err and "stopped:" not in result.err
    assert ("interrupted while waiting for the inbound SAs to go" in result.err) is bool(pressed)
    found = facts(result.out) if format == "json" else counts(result.text)
    assert set(found) == {"EXPIRED", "NOT_ATTEMPTED"} and sum(found.values()) == 600
    assert len(live(embedded)) == found["NOT_ATTEMPTED"] > 0


@pytest.mark.parametrize("format", ["table", "json"])
def test_an_engine_that_fails_while_it_settles_leaves_the_outcomes_printed_once(
    expire: Run, embedded: testing.EmbeddedEngine, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    added(embedded, 5)
    at_settling(monkeypatch, lambda: embedded.fail("IPsecSaContextEnum1", 1, 0x80320012))
    result = expire(*ALL, "--yes", "--settle", "--format", format)
    assert result.code == ExitCode.FAILURE
    assert "FWP_E_TIMEOUT" in result.err
    assert (facts(result.out) if format == "json" else counts(result.text)) == {"EXPIRED": 5}
    assert len(result.lines) == (3 if format == "json" else 1) and live(embedded) == set()


def test_a_dry_run_does_not_settle(
    expire: Run, embedded: testing.EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = added(embedded, 3)
    looked: list[str] = []
    at_settling(monkeypatch, lambda: looked.append("settled"))
    assert expire(*ALL, "--settle").code == ExitCode.DONE
    assert looked == [] and live(embedded) == set(ids)


# ---- a terminal ----


@pytest.mark.posix
@pytest.mark.parametrize("columns", [80, 160])
def test_a_terminal_shows_how_many_of_all_are_done(columns: int) -> None:
    target = "embedded:?contexts=300&seed=7"
    arguments = ("--where", "true", "--yes", "--rate", "400")
    shown = on_terminal("expire", "--engine", target, *arguments, columns=columns).decode()
    done = [int(text) for text in re.findall(r"(\d+)/300\b", shown)]
    assert done[-1] == 300 and done == sorted(done)
    assert any(0 < count < 300 for count in done)
    assert re.search(r"\d+/s\b", shown) and re.search(r"EXPIRED +300\b", shown)


@pytest.mark.posix
def test_a_terminal_without_colour_shows_no_bar() -> None:
    arguments = ("--where", "true", "--yes", "--rate", "1000")
    shown = on_terminal("expire", "--engine", "embedded:?contexts=300&seed=7", *arguments, NO_COLOR="1").decode()
    assert "/300" not in shown and "\x1b" not in shown and re.search(r"EXPIRED +300\b", shown)
