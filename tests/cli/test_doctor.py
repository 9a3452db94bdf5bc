"""Tests of `wfpsa doctor`: what it says of an engine that answers, denies or is not there."""

import json
import platform

import pytest
from command import Run

from wfpsa import testing
from wfpsa.cli.common import ExitCode


def facts(run: Run, *arguments: str) -> tuple[int, dict[str, object]]:
    result = run("doctor", "--format", "json", *arguments)
    return result.code, json.loads(result.out)


def test_it_names_the_engine_how_it_was_chosen_and_the_versions(
    run: Run, embedded: testing.EmbeddedEngine, backend: str
) -> None:
    code, found = facts(run, "--engine", embedded.target)
    assert code == ExitCode.DONE
    assert found["engine"] == embedded.target
    assert found["chosen_by"] == "--engine"
    assert found["backend"] == backend
    assert found["opens"] is True
    assert found["enumerates"] is True
    assert "advice" not in found
    assert platform.python_version() in str(found["python"])
    assert {"wfpsa", "typer", "rich", "duckdb", "platform"} <= found.keys()


def test_it_says_that_the_variable_chose(
    run: Run, embedded: testing.EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WFPSA_ENGINE", embedded.target)
    code, found = facts(run)
    assert code == ExitCode.DONE
    assert (found["engine"], found["chosen_by"]) == (embedded.target, "WFPSA_ENGINE")


def test_as_a_table_it_is_a_line_each(run: Run, embedded: testing.EmbeddedEngine) -> None:
    result = run("doctor", "--engine", embedded.target)
    assert result.code == ExitCode.DONE
    lines = dict(line.split(maxsplit=1) for line in result.lines)
    assert lines["engine"] == embedded.target
    assert lines["enumerates"] == "yes"


def test_a_user_who_may_not_enumerate_is_told_what_to_do(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.rights("everyone")
    code, found = facts(run, "--engine", embedded.target)
    assert code == ExitCode.DENIED
    assert found["opens"] is True
    assert found["enumerates"] is False
    assert "IPsecSaContextCreateEnumHandle0: ERROR_ACCESS_DENIED (5)" in str(found["error"])
    for advice in ("elevated", "Administrators", "Network Configuration Operators", "rights="):
        assert advice in str(found["advice"])


def test_a_user_who_may_not_open_is_denied_too(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.fail("FwpmEngineOpen0", code=5)
    code, found = facts(run, "--engine", embedded.target)
    assert code == ExitCode.DENIED
    assert found["opens"] is False
    assert "enumerates" not in found


def test_a_service_that_does_not_run_is_a_failure_with_advice(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.fail("FwpmEngineOpen0", code=1753)
    code, found = facts(run, "--engine", embedded.target)
    assert code == ExitCode.FAILURE
    assert found["opens"] is False
    assert "EPT_S_NOT_REGISTERED" in str(found["error"])
    assert "sc start BFE" in str(found["advice"])


@pytest.mark.parametrize("function", ["IPsecSaContextEnum1", "IPsecSaContextCreateEnumHandle0"])
def test_an_enumeration_that_fails_is_a_failure(run: Run, embedded: testing.EmbeddedEngine, function: str) -> None:
    embedded.seed(3)
    embedded.fail(function, code=0x80320012)
    code, found = facts(run, "--engine", embedded.target)
    assert code == ExitCode.FAILURE
    assert (found["opens"], found["enumerates"]) == (True, False)
    assert "FWP_E_TIMEOUT" in str(found["error"])


def test_it_reads_one_page_of_one_context(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(3000)
    embedded.fail("IPsecSaContextEnum1", nth=2)
    assert facts(run, "--engine", embedded.target)[0] == ExitCode.DONE


def test_it_changes_nothing(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(5)
    facts(run, "--engine", embedded.target)
    with embedded.open() as engine:
        assert all(context.has_outbound or context.has_inbound for context in engine.snapshot())
    assert len(embedded) == 5
