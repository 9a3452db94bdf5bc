"""Tests of `wfpsa stats`: the engine's counters by name, in the order of the structure, and which are of the moment."""

import json

import pytest
from command import Result, Run

import wfpsa
from wfpsa import testing
from wfpsa.cli.common import ExitCode

NOW = {"active_sas", "pending_sa_negotiations", "active_tunnels", "offloaded_sas"}


def rows(result: Result) -> list[list[str]]:
    assert result.code == ExitCode.DONE, result.err
    return [line.split() for line in result.lines]


def lived_in(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    """Gives the counters something to count."""
    embedded.seed(50, 7)
    engine.delete(engine.snapshot()["context_id"][0])
    embedded.add(outbound=None)


def test_a_table_has_each_counter_once_in_the_order_of_the_structure(
    run: Run, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    lived_in(embedded, engine)
    found = rows(run("stats", "--engine", embedded.target))
    assert [row[0] for row in found] == list(wfpsa.Statistics._fields)
    assert [int(row[1]) for row in found] == list(engine.statistics())
    assert any(int(row[1]) for row in found)


def test_a_table_says_which_counters_are_of_the_moment(run: Run, embedded: testing.EmbeddedEngine) -> None:
    found = rows(run("stats", "--engine", embedded.target))
    assert {row[0] for row in found if row[2] == "now"} == NOW
    assert {row[2] for row in found} == {"now", "total"}


def test_what_a_table_calls_a_total_never_falls_and_what_is_of_the_moment_does(
    run: Run, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    embedded.seed(200, 7, full=True)
    before = rows(run("stats", "--engine", embedded.target))
    for context_id in engine.snapshot()["context_id"]:
        engine.delete(context_id)
    after = rows(run("stats", "--engine", embedded.target))
    fallen = {old[0] for old, new in zip(before, after, strict=True) if int(new[1]) < int(old[1])}
    assert "active_sas" in fallen and fallen <= NOW
    assert all(int(row[1]) == 0 for row in after if row[2] == "now")


def test_the_columns_of_a_table_are_aligned(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(1000, 7)
    result = run("stats", "--engine", embedded.target)
    assert len({line.rindex("  ") for line in result.lines}) == 1


def test_json_is_one_object_in_the_same_order(run: Run, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    lived_in(embedded, engine)
    result = run("stats", "--format", "json", "--engine", embedded.target)
    assert result.code == ExitCode.DONE and result.err == ""
    assert list(json.loads(result.out).items()) == list(engine.statistics()._asdict().items())


def test_it_changes_nothing(run: Run, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    lived_in(embedded, engine)
    before = engine.snapshot(), engine.statistics()
    assert run("stats", "--engine", embedded.target).code == ExitCode.DONE
    assert not engine.snapshot().diff(before[0]).added and engine.statistics() == before[1]


def test_a_process_of_its_own_prints_it(spawn: Run) -> None:
    result = spawn("stats", "--format", "json", "--engine", "embedded:?contexts=20&seed=7")
    assert result.code == ExitCode.DONE and result.err == ""
    assert json.loads(result.out)["total_sas_added"] > 20


@pytest.mark.posix
def test_off_windows_an_engine_must_be_named(run: Run) -> None:
    """Counters of an engine that was just made up would tell nobody anything."""
    result = run("stats")
    assert result.code == ExitCode.USAGE and result.out == b""
    assert "stats needs an engine to be named off Windows" in result.err


def test_a_user_without_the_right_is_denied(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.rights("everyone")
    result = run("stats", "--engine", embedded.target)
    assert result.code == ExitCode.DENIED and result.out == b""
    assert "IPsecGetStatistics1: ERROR_ACCESS_DENIED (5)" in result.err and "run it elevated" in result.err


def test_a_reader_with_the_right_to_read_is_told(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.rights("read_only")
    assert len(rows(run("stats", "--engine", embedded.target))) == len(wfpsa.Statistics._fields)


@pytest.mark.parametrize("file_format", ["table", "json"])
def test_a_call_that_fails_is_a_failure_in_one_line(
    run: Run, embedded: testing.EmbeddedEngine, file_format: str
) -> None:
    embedded.fail("IPsecGetStatistics1", code=0x80320012)
    result = run("stats", "--format", file_format, "--engine", embedded.target)
    assert result.code == ExitCode.FAILURE and result.out == b""
    assert result.err.startswith("wfpsa: IPsecGetStatistics1: FWP_E_TIMEOUT") and len(result.err.splitlines()) == 1


def test_a_service_that_does_not_run_is_a_failure_with_advice(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.stop_service(1753)
    result = run("stats", "--engine", embedded.target)
    assert result.code == ExitCode.FAILURE
    assert "sc start BFE" in result.err


@pytest.mark.parametrize("arguments", [["--engine", "netlink:"], ["--format", "csv"], ["extra"]])
def test_wrong_arguments_are_a_usage_fault(run: Run, arguments: list[str]) -> None:
    result = run("stats", *arguments)
    assert result.code == ExitCode.USAGE and result.out == b""


def test_help_has_the_exit_codes(run: Run) -> None:
    result = run("stats", "--help")
    assert result.code == ExitCode.DONE
    assert "4 nothing matched" in " ".join(result.text.split())
