"""Tests of `wfpsa expire` itself: what its options say, plans in files, and going on with a journal."""

import errno
import json
import os
import platform
import re
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from command import ALL, EXPIRE, Run, counts, facts, live, planned, pressing, stopped
from support import added

from wfpsa import testing
from wfpsa.cli.common import ExitCode

# ---- contexts that are not there ----


@pytest.mark.parametrize("extra", [[], ["--yes"]])
@pytest.mark.parametrize("selector", [["--where", "false"], ["--remote", "192.0.2.1"]])
def test_where_nothing_matches_the_exit_code_says_so(
    run: Run, embedded: testing.EmbeddedEngine, selector: list[str], extra: list[str]
) -> None:
    embedded.seed(5)
    result = run("expire", "--engine", embedded.target, *selector, *extra)
    assert result.code == ExitCode.NOTHING
    assert result.out == b""
    assert "no context matches" in result.err


def test_a_file_without_ids_matches_nothing(run: Run, embedded: testing.EmbeddedEngine, tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("# none\n\n")
    result = run("expire", "--engine", embedded.target, "--ids-from", tmp_path / "ids", "--yes")
    assert result.code == ExitCode.NOTHING
    assert "no ids were given" in result.err


def test_an_enumeration_that_fails_expires_nothing(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(3000)
    before = live(embedded)
    embedded.fail("IPsecSaContextEnum1", nth=2)
    result = run("expire", "--engine", embedded.target, "--where", "true", "--yes")
    assert result.code == ExitCode.FAILURE
    assert result.out == b""
    assert live(embedded) == before


# ---- numbers ----


@pytest.mark.parametrize("option", ["--max", "--expect", "--keep-per-peer"])
@pytest.mark.parametrize("value", [-1, 2**63, "x"])
def test_a_guard_with_a_bad_number_is_a_usage_fault(
    expire: Run, embedded: testing.EmbeddedEngine, option: str, value: object
) -> None:
    ids = added(embedded, 5)
    result = expire(*ALL, option, value, "--yes")
    assert result.code == ExitCode.USAGE
    assert option in result.err and result.out == b"" and live(embedded) == set(ids)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--sessions", "0", "must be 1 to 256, not 0"),
        ("--sessions", "257", "must be 1 to 256, not 257"),
        ("--rate", "0", "must be above 0, not 0.0"),
        ("--rate", "-1", "must be above 0, not -1.0"),
        ("--rate", "nan", "must be above 0, not nan"),
        ("--max-failures", "-1", "must be 0 to"),
        ("--max-failure-ratio", "-0.1", "must be 0 or more and at most 1, not -0.1"),
        ("--max-failure-ratio", "1.1", "must be 0 or more and at most 1, not 1.1"),
        ("--max-failure-ratio", "nan", "must be 0 or more and at most 1, not nan"),
        ("--timeout", "-1", "must be above 0, not -1.0"),
        ("--timeout", "0", "must be above 0, not 0.0"),
        ("--sessions", "x", "Input should be a valid integer"),
        ("--rate", "x", "Input should be a valid number"),
    ],
)
def test_a_limit_with_a_bad_value_is_named_as_its_option(
    expire: Run, embedded: testing.EmbeddedEngine, option: str, value: str, said: str
) -> None:
    ids = added(embedded, 3)
    for extra in ([], ["--yes"]):
        result = expire(*ALL, option, value, *extra)
        assert result.code == ExitCode.USAGE
        assert option in result.err and said in result.err and result.out == b""
    assert live(embedded) == set(ids)


# ---- plans in files ----


def test_a_plan_of_a_dry_run_is_applied_by_another_command_to_just_what_it_saw(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path
) -> None:
    ids = added(embedded, 6)
    other = embedded.add("10.0.0.1", "10.2.0.1")
    path = tmp_path / "plan"
    result = expire(*ALL, "--plan", path)
    assert result.code == ExitCode.DONE
    assert f"the plan is in {path}" in result.err and "nothing was expired; --yes does it" in result.err
    assert live(embedded) == {*ids, other}
    late = embedded.add("10.0.0.1", "10.1.0.1")
    with embedded.open() as engine:
        engine.delete(ids[0])
        engine.delete(ids[1])
        engine.update(ids[2], "outbound", mm_sa_id=77)
    embedded.add("10.0.0.1", "10.1.0.99", context_id=ids[1])
    result = expire("--apply", path, "--yes")
    assert result.code == ExitCode.PARTIAL
    assert counts(result.text) == {"EXPIRED": 3, "ALREADY_GONE": 1, "CHANGED": 2}
    assert "2 CHANGED: no longer what the plan saw, and left alone" in result.err
    assert live(embedded) == {ids[1], ids[2], other, late}


def test_a_plan_in_a_file_is_shown_by_a_dry_run_with_where_when_and_why(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path
) -> None:
    ids = added(embedded, 3)
    path = planned(expire, tmp_path / "plan", *ALL, "--reason", "a stolen laptop")
    shown = facts(expire("--apply", path, "--format", "json").out)
    assert shown["would_expire"] == 3 and shown["remote_addresses"] == {f"10.1.0.{at}": 1 for at in (1, 2, 3)}
    assert (shown["reason"], shown["engine"], shown["host"]) == ("a stolen laptop", embedded.target, platform.node())
    assert json.loads(path.read_text())["created"].startswith(shown["planned"][:19])
    result = expire("--apply", path)
    assert result.code == ExitCode.DONE
    assert re.search(r"^reason +a stolen laptop$", result.text, re.MULTILINE)
    assert "a dry run" in result.err and live(embedded) == set(ids)


def test_a_plan_names_its_engine_where_the_command_line_does_not(
    run: Run, expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path
) -> None:
    added(embedded, 3)
    path = planned(expire, tmp_path / "plan")
    result = run("expire", "--apply", path, "--yes")
    assert result.code == ExitCode.DONE
    assert counts(result.text) == {"EXPIRED": 3} and live(embedded) == set()


@pytest.mark.parametrize("extra", [[], ["--yes"]])
def test_the_file_of_a_plan_is_never_written_over(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path, extra: list[str]
) -> None:
    ids = added(embedded, 3)
    path = tmp_path / "plan"
    path.write_bytes(b"what is dear to somebody")
    result = expire(*ALL, "--plan", path, *extra)
    assert result.code == ExitCode.USAGE
    assert result.out == b"" and f"--plan: {path} exists, and is not written over; nothing was expired" in result.err
    assert path.read_bytes() == b"what is dear to somebody" and live(embedded) == set(ids)
    assert os.listdir(tmp_path) == ["plan"]


def test_a_plan_can_be_written_and_applied_at_once(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path
) -> None:
    added(embedded, 3)
    result = expire(*ALL, "--plan", tmp_path / "plan", "--yes")
    assert result.code == ExitCode.DONE and counts(result.text) == {"EXPIRED": 3}
    assert live(embedded) == set()
    result = expire("--apply", tmp_path / "plan", "--yes")
    assert result.code == ExitCode.FAILURE and counts(result.text) == {"CHANGED": 3}


def test_where_nothing_matches_no_plan_is_written(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path
) -> None:
    added(embedded, 3)
    assert expire("--remote", "192.0.2.1", "--plan", tmp_path / "plan", "--yes").code == ExitCode.NOTHING
    assert os.listdir(tmp_path) == [] and len(live(embedded)) == 3


def test_a_plan_that_cannot_be_written_stops_it(expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path) -> None:
    added(embedded, 3)
    result = expire(*ALL, "--plan", tmp_path / "missing" / "plan", "--yes")
    assert result.code == ExitCode.FAILURE
    assert os.strerror(errno.ENOENT) in result.err and result.out == b""
    assert len(live(embedded)) == 3


def change_a_peer(text: str) -> str:
    return text.replace(b"10.1.0.1".hex(), b"10.1.0.9".hex()).replace('"host": "', '"host": "x')


def change_a_guard(text: str) -> str:
    return text.replace('"max_count": 3', '"max_count": 4')


def cut(text: str) -> str:
    return text[: len(text) // 2]


def empty(text: str) -> str:
    return ""


def say_another_schema(text: str) -> str:
    return text.replace('"schema_version": 1', '"schema_version": 2')


@pytest.mark.parametrize("extra", [[], ["--yes"]])
@pytest.mark.parametrize("change", [change_a_peer, change_a_guard, cut, empty, say_another_schema])
def test_a_plan_that_was_altered_is_refused(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path, change: Callable[[str], str], extra: list[str]
) -> None:
    ids = added(embedded, 3)
    path = planned(expire, tmp_path / "plan", *ALL, "--max", 3)
    text = path.read_text()
    path.write_text(change(text))
    assert path.read_text() != text
    result = expire("--apply", path, *extra)
    assert result.code == ExitCode.USAGE
    assert f"{str(path)!r} is no plan: " in result.err and result.out == b""
    assert live(embedded) == set(ids)


def test_a_file_that_nests_too_deeply_is_no_plan(expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path) -> None:
    ids = added(embedded, 3)
    path = tmp_path / "plan"
    path.write_text("[" * 200_000)
    result = expire("--apply", path, "--yes")
    assert result.code == ExitCode.USAGE
    assert "is no plan: " in result.err and live(embedded) == set(ids)


@pytest.mark.parametrize("arguments", [["--apply"], ["--resume", "--journal"]])
def test_a_file_that_is_not_there_is_named_and_nothing_is_expired(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path, arguments: list[str]
) -> None:
    ids = added(embedded, 3)
    result = expire(*arguments, tmp_path / "missing", "--yes")
    assert result.code == ExitCode.FAILURE
    assert "missing" in result.err and os.strerror(errno.ENOENT) in result.err
    assert os.listdir(tmp_path) == [] and live(embedded) == set(ids)


@pytest.mark.parametrize("extra", [[], ["--yes"]])
def test_a_plan_of_another_engine_is_refused(
    run: Run, expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path, extra: list[str]
) -> None:
    ids = added(embedded, 3)
    path = planned(expire, tmp_path / "plan")
    with testing.EmbeddedEngine() as another:
        added(another, 3)
        result = run("expire", "--engine", another.target, "--apply", path, *extra)
        assert len(live(another)) == 3
    assert result.code == ExitCode.USAGE
    assert f"the plan was made for {embedded.target!r}, not for {another.target!r}" in result.err
    assert live(embedded) == set(ids)


@pytest.mark.parametrize("extra", [[], ["--yes"]])
def test_a_plan_of_another_host_is_refused(
    expire: Run,
    embedded: testing.EmbeddedEngine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    extra: list[str],
) -> None:
    ids = added(embedded, 3)
    path = planned(expire, tmp_path / "plan")
    monkeypatch.setattr(platform, "node", lambda: "elsewhere")
    result = expire("--apply", path, *extra)
    assert result.code == ExitCode.USAGE
    assert "the plan was made on the host" in result.err and "this is 'elsewhere'" in result.err
    assert live(embedded) == set(ids)


def test_a_plan_that_is_older_than_allowed_is_refused(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path
) -> None:
    ids = added(embedded, 3)
    path = planned(expire, tmp_path / "plan")
    time.sleep(0.01)
    result = expire("--apply", path, "--max-age", 0.001, "--yes")
    assert result.code == ExitCode.USAGE
    assert re.search(r"the plan is \d+ s old, and at most 0\.001 s are allowed", result.err)
    assert live(embedded) == set(ids)
    result = expire("--apply", path, "--max-age", 3600, "--yes")
    assert result.code == ExitCode.DONE and counts(result.text) == {"EXPIRED": 3}


def test_an_age_that_is_no_number_is_refused(expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path) -> None:
    ids = added(embedded, 3)
    path = planned(expire, tmp_path / "plan")
    result = expire("--apply", path, "--max-age", "nan", "--yes")
    assert result.code == ExitCode.USAGE
    assert "nan" in result.err and live(embedded) == set(ids)


PLANNING = (
    ("--local", "10.0.0.1"),
    ("--remote", "10.0.0.2"),
    ("--where", "true"),
    ("--id", "1"),
    ("--ids-from", "file"),
    ("--peers-from", "file"),
    ("--max", "1"),
    ("--expect", "1"),
    ("--keep-per-peer", "0"),
    ("--exclude", "1"),
    ("--reason", "none"),
    ("--plan", "file"),
)


@pytest.mark.parametrize("way", ["--apply", "--resume"])
@pytest.mark.parametrize("option", PLANNING, ids=[name for name, _ in PLANNING])
def test_options_of_planning_are_refused_by_name_beside_a_plan_that_was_made(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path, way: str, option: tuple[str, str]
) -> None:
    added(embedded, 40)
    if way == "--apply":
        arguments: list[object] = ["--apply", planned(expire, tmp_path / "made")]
    else:
        stopped(expire, tmp_path / "made")
        arguments = ["--resume", "--journal", tmp_path / "made"]
    before, held = live(embedded), (tmp_path / "made").read_bytes()
    result = expire(*arguments, *option, "--yes")
    assert result.code == ExitCode.USAGE
    assert f"{way} and {option[0]} do not go together: the plan says it all" in result.err
    assert live(embedded) == before and (tmp_path / "made").read_bytes() == held


def test_an_age_without_a_plan_that_was_made_is_refused(expire: Run, embedded: testing.EmbeddedEngine) -> None:
    ids = added(embedded, 3)
    result = expire(*ALL, "--max-age", 60, "--yes")
    assert result.code == ExitCode.USAGE
    assert "--max-age is about the plan of --apply or --resume" in result.err
    assert live(embedded) == set(ids)


@pytest.mark.parametrize("format", ["table", "json"])
def test_a_reason_that_is_not_unicode_is_shown_all_the_same(
    expire: Run, embedded: testing.EmbeddedEngine, format: str
) -> None:
    added(embedded, 1)
    result = expire(*ALL, "--reason", "b\udcfcro", "--format", format)
    assert result.code == ExitCode.DONE
    assert "\\udcfc" in result.text


def test_a_plan_in_a_file_keeps_its_guards(expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path) -> None:
    ids = added(embedded, 5)
    assert expire(*ALL, "--plan", tmp_path / "plan", "--max", 4).code == ExitCode.USAGE
    result = expire("--apply", tmp_path / "plan", "--yes")
    assert result.code == ExitCode.USAGE
    assert "at most 4 are allowed" in result.err and live(embedded) == set(ids)


# ---- going on with a journal ----


def recorded(record: object) -> bytes:
    """A record of a journal, with its checksum."""
    text = json.dumps(record).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def test_a_stopped_run_is_gone_on_with_and_both_runs_are_counted(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path
) -> None:
    added(embedded, 40)
    path = tmp_path / "journal"
    first = stopped(expire, path)
    shown = facts(expire("--resume", "--journal", path, "--format", "json").out)
    assert (shown["would_expire"], shown["left"], shown["cut_off"]) == (40, first["NOT_ATTEMPTED"], 0)
    assert len(live(embedded)) == first["NOT_ATTEMPTED"]
    result = expire("--resume", "--journal", path, "--yes", "--sessions", 2)
    assert result.code == ExitCode.DONE
    assert counts(result.text) == {"EXPIRED": 40} and live(embedded) == set()
    held = path.read_bytes()
    assert facts(expire("--resume", "--journal", path, "--format", "json").out)["left"] == 0
    assert path.read_bytes() == held, "a dry run writes nothing"
    result = expire("--resume", "--journal", path, "--yes")
    assert result.code == ExitCode.DONE and counts(result.text) == {"EXPIRED": 40}


def test_failures_of_the_first_run_count_in_the_second_and_are_not_tried_again(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path
) -> None:
    ids = added(embedded, 40)
    path = tmp_path / "journal"
    embedded.fail(EXPIRE, nth=2, code=5)
    assert expire(*ALL, "--yes", "--max-failures", 0, "--journal", path).code == ExitCode.PARTIAL
    assert len(live(embedded)) > 1
    result = expire("--resume", "--journal", path, "--yes")
    assert result.code == ExitCode.PARTIAL
    assert counts(result.text) == {"EXPIRED": 39, "DENIED": 1}
    assert "1 DENIED: IPsecSaContextExpire0: ERROR_ACCESS_DENIED (5)" in result.err and live(embedded) == {ids[1]}


def test_a_run_that_ctrl_c_ended_is_gone_on_with(expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path) -> None:
    added(embedded, 600)
    with pressing(embedded):
        result = expire(*ALL, "--yes", "--rate", 100, "--journal", tmp_path / "journal")
    found = counts(result.text)
    assert result.code == ExitCode.PARTIAL and "interrupted while expiring" in result.err
    assert found["EXPIRED"] > 0 and len(live(embedded)) == found["NOT_ATTEMPTED"] > 0
    result = expire("--resume", "--journal", tmp_path / "journal", "--yes")
    assert result.code == ExitCode.DONE
    assert counts(result.text) == {"EXPIRED": 600} and live(embedded) == set()


def test_what_is_spared_stays_spared_when_it_is_gone_on_with(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path
) -> None:
    ids = added(embedded, 40)
    path = tmp_path / "journal"
    stopped(expire, path, *ALL, "--exclude", ids[0], "--exclude", ids[39])
    result = expire("--resume", "--journal", path, "--yes", "--format", "json")
    assert result.code == ExitCode.DONE
    assert facts(result.out) == {"EXPIRED": 38, "SKIPPED": 2, "skipped_by": {"EXCLUDE": 2}}
    assert live(embedded) == {ids[0], ids[39]}


def test_what_was_cut_off_is_shown_and_attempted_again_if_it_is_unchanged(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path
) -> None:
    ids = added(embedded, 12)
    path = tmp_path / "journal"
    assert expire(*ALL, "--yes", "--rate", 1, "--timeout", 1e-9, "--journal", path).code == ExitCode.FAILURE
    assert live(embedded) == set(ids)
    with open(path, "ab") as file:
        file.write(recorded({"intended": [2, 6]}) + b"torn")
    with embedded.open() as engine:
        engine.expire(ids[2:4])
        engine.delete(ids[4])
    shown = facts(expire("--resume", "--journal", path, "--format", "json").out)
    assert (shown["left"], shown["cut_off"]) == (12, 4)
    result = expire("--resume", "--journal", path, "--yes", "--format", "json")
    assert result.code == ExitCode.PARTIAL
    assert facts(result.out) == {"EXPIRED": 9, "ALREADY_GONE": 1, "CHANGED": 2, "cut_off": 4}
    assert "4 had been begun by a run that was cut off" in result.err
    assert live(embedded) == set()


def test_a_plan_beside_the_journal_must_be_the_journals_own(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path
) -> None:
    added(embedded, 40)
    plan, other = planned(expire, tmp_path / "plan"), planned(expire, tmp_path / "other", *ALL, "--reason", "another")
    path = tmp_path / "journal"
    stopped(expire, path, "--apply", plan)
    before, held = live(embedded), path.read_bytes()
    result = expire("--apply", other, "--resume", "--journal", path, "--yes")
    assert result.code == ExitCode.USAGE
    assert f"{path} is the journal of another plan than {other}" in result.err
    assert live(embedded) == before and path.read_bytes() == held
    result = expire("--apply", plan, "--resume", "--journal", path, "--yes")
    assert result.code == ExitCode.DONE and counts(result.text) == {"EXPIRED": 40}
    assert live(embedded) == set()


@pytest.mark.parametrize("extra", [[], ["--yes"]])
def test_without_a_journal_there_is_nothing_to_go_on_with(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path, extra: list[str]
) -> None:
    ids = added(embedded, 3)
    path = planned(expire, tmp_path / "plan")
    for arguments in (["--resume"], ["--resume", "--apply", path]):
        result = expire(*arguments, *extra)
        assert result.code == ExitCode.USAGE
        assert "--resume goes on with a journal: --journal names it" in result.err
    assert live(embedded) == set(ids)


@pytest.mark.parametrize("extra", [[], ["--yes"]])
@pytest.mark.parametrize(("record", "said"), [(0, "is no journal of an expiry"), (1, "is damaged"), (-2, "is damaged")])
def test_a_damaged_journal_is_refused(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path, record: int, said: str, extra: list[str]
) -> None:
    added(embedded, 40)
    path = tmp_path / "journal"
    stopped(expire, path)
    before = live(embedded)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[record] = lines[record].swapcase()
    path.write_bytes(b"".join(lines))
    result = expire("--resume", "--journal", path, *extra)
    assert result.code == ExitCode.USAGE
    assert f"{str(path)!r} {said}" in result.err and result.out == b""
    assert live(embedded) == before and path.read_bytes() == b"".join(lines)


def test_a_plan_is_no_journal_and_a_journal_no_plan(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path
) -> None:
    added(embedded, 40)
    plan = planned(expire, tmp_path / "plan")
    stopped(expire, tmp_path / "journal")
    before = live(embedded)
    result = expire("--resume", "--journal", plan, "--yes")
    assert result.code == ExitCode.USAGE and f"{str(plan)!r} is no journal of an expiry" in result.err
    result = expire("--apply", tmp_path / "journal", "--yes")
    assert result.code == ExitCode.USAGE and "is no plan" in result.err
    assert live(embedded) == before


def test_a_journal_of_another_engine_or_an_old_one_is_not_gone_on_with(
    run: Run, expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path
) -> None:
    added(embedded, 40)
    path = tmp_path / "journal"
    stopped(expire, path)
    before, held = live(embedded), path.read_bytes()
    with testing.EmbeddedEngine() as another:
        result = run("expire", "--engine", another.target, "--resume", "--journal", path, "--yes")
    assert result.code == ExitCode.USAGE and "the plan was made for" in result.err
    result = expire("--resume", "--journal", path, "--max-age", 0.001, "--yes")
    assert result.code == ExitCode.USAGE and "at most 0.001 s are allowed" in result.err
    assert live(embedded) == before and path.read_bytes() == held
    result = run("expire", "--resume", "--journal", path, "--max-age", 3600, "--yes")
    assert result.code == ExitCode.DONE and counts(result.text) == {"EXPIRED": 40}, "the journal names its engine"
    assert live(embedded) == set()
