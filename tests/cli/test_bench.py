"""Tests of `wfpsa bench`: the table, JSON, and what it refuses."""

import json

import pytest
from command import Run

from wfpsa.cli.common import ExitCode

QUICK = ("--contexts", "1000", "--seconds", "0")


def test_as_a_table_each_row_has_its_figures_and_its_budgets(run: Run) -> None:
    result = run("bench", *QUICK, "--row", "memory", "--row", "objects")
    assert result.code == ExitCode.DONE
    assert "measured on the embedded engine with 1,000 contexts" in result.out.decode()
    table = [line.split() for line in result.lines]
    assert ["memory", "of", "a", "context", "B", "a", "context", ":", "core"] in table
    assert ["core", "77.0", "1.00"] in table
    assert ["core,", "B", "77.00", "at", "most", "96", "met"] in table
    assert any(words[:2] == ["list(batch),", "ns"] for words in table)


def test_as_json_it_is_what_the_function_returns(run: Run) -> None:
    result = run("bench", *QUICK, "--row", "memory", "--format", "json")
    assert result.code == ExitCode.DONE
    found = json.loads(result.out)
    assert found["contexts"] == 1000 and found["skipped"] == {}
    assert {"python", "platform", "processor", "cores"} <= found["machine"].keys()
    (row,) = found["rows"]
    assert [figure["value"] for figure in row["figures"]] == [77.0, 353.0]
    assert [verdict["met"] for verdict in row["verdicts"]] == [True, True]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--contexts", "10"), "contexts must be 1,000 to 10,000,000, not 10"),
        (("--row", "nonsense"), "'nonsense' is the beginning of no row"),
        (("--seconds", "601"), "seconds must be 0 to 600, not 601"),
        (("--contexts", "many"), "--contexts"),
    ],
)
def test_bad_arguments_are_a_usage_fault(run: Run, arguments: tuple[str, ...], said: str) -> None:
    result = run("bench", *arguments)
    assert result.code == ExitCode.USAGE
    assert said in result.err
