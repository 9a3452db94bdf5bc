"""Tests of `wfpsa list` and `wfpsa get`: which contexts and which columns they show."""

import json
import sys
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from command import Run
from support import seeded

import wfpsa
from wfpsa import testing
from wfpsa.cli.common import ExitCode
from wfpsa.cli.output import TABLE_COLUMNS


def listed(run: Run, *arguments: object) -> list[int]:
    """The ids that list gives with these arguments."""
    result = run("list", *arguments, "--columns", "context_id", "--format", "jsonl")
    assert result.code in (ExitCode.DONE, ExitCode.NOTHING), result.err
    return [json.loads(line)["context_id"] for line in result.lines]


# ---- which contexts ----


def test_list_shows_every_context_in_the_order_of_the_engine(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(3000, 7)
    with embedded.open() as engine:
        assert listed(run, "--engine", embedded.target) == engine.snapshot()["context_id"].tolist()


def test_subnets_a_predicate_and_python_give_the_same_ids(run: Run) -> None:
    engine = "embedded:?contexts=100000&seed=7"
    network = ip_network("10.0.0.0/8")
    by_python = [
        context.context_id
        for context in seeded(100000, 7)
        if context.remote_address is not None and context.remote_address in network
    ]
    assert listed(run, "--engine", engine, "--remote", "10.0.0.0/8") == by_python
    assert listed(run, "--engine", engine, "--where", "remote_address LIKE '10.%'") == by_python
    assert 0 < len(by_python) < 100000


def test_both_subnets_and_the_predicate_must_hold(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(2000, 7)
    filters = ("--local", "10.0.0.4/31", "--remote", "10.0.0.0/8", "--where", "has_inbound AND remote_port = 0")
    with embedded.open() as engine:
        expected = [
            context.context_id
            for context in engine.snapshot(local="10.0.0.4/31", remote="10.0.0.0/8")
            if context.has_inbound and context.remote_port == 0
        ]
    assert listed(run, "--engine", embedded.target, *filters) == expected != []


def test_a_recording_is_listed_like_the_engine_it_was_saved_of(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = seeded(50, 7)
    batch.save(tmp_path / "recording")
    target = f"embedded:?replay={tmp_path / 'recording'}"
    assert listed(run, "--engine", target) == batch["context_id"].tolist()
    (tmp_path / "recording").write_text("no recording")
    result = run("list", "--engine", target)
    assert result.code == ExitCode.USAGE and "is not a saved batch" in result.err
    result = run("list", "--engine", "embedded:?replay=there-is-nothing")
    assert result.code == ExitCode.FAILURE and "there-is-nothing" in result.err
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = run("list", "--engine", target)
    assert result.code == ExitCode.FAILURE and "python -m pip install 'wfpsa[arrow]'" in result.err


@pytest.mark.parametrize("limit", [1, 5, 1024, 1025, 2999, 3000, 4000])
def test_a_limit_gives_the_first_contexts(run: Run, embedded: testing.EmbeddedEngine, limit: int) -> None:
    embedded.seed(3000, 7)
    everything = listed(run, "--engine", embedded.target)
    assert listed(run, "--engine", embedded.target, "--limit", limit) == everything[:limit]


@pytest.mark.parametrize(("limit", "pages"), [(1, 1), (10, 1), (1024, 1), (1500, 2)])
def test_a_limit_without_a_predicate_asks_for_no_page_more_than_it_needs(
    run: Run, embedded: testing.EmbeddedEngine, limit: int, pages: int
) -> None:
    embedded.seed(5000)
    embedded.fail("IPsecSaContextEnum1", nth=pages + 1)
    assert len(listed(run, "--engine", embedded.target, "--limit", limit)) == limit
    embedded.fail("IPsecSaContextEnum1", nth=pages)
    assert run("list", "--engine", embedded.target, "--limit", limit).code == ExitCode.FAILURE


def test_a_limit_applies_after_the_predicate(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(3000, 7)
    matching = ("--engine", embedded.target, "--where", "traffic_type = 'TUNNEL'")
    assert listed(run, *matching, "--limit", 3) == listed(run, *matching)[:3]


def test_a_limit_applies_after_the_subnets(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(3000, 7)
    matching = ("--engine", embedded.target, "--remote", "10.0.0.0/8")
    assert listed(run, *matching, "--limit", 3) == listed(run, *matching)[:3]


@pytest.mark.parametrize(
    ("file_format", "out"),
    [("table", None), ("json", b"[]\n"), ("jsonl", b""), ("csv", b"context_id\n"), ("parquet", None)],
)
@pytest.mark.parametrize(
    "filters", [["--remote", "192.0.2.1"], ["--where", "false"], ["--remote", "192.0.2.1", "--limit=1"]]
)
def test_where_nothing_matches_the_output_is_empty_and_the_exit_code_says_so(
    run: Run, embedded: testing.EmbeddedEngine, file_format: str, out: bytes | None, filters: list[str]
) -> None:
    embedded.seed(20, 7)
    result = run("list", "--engine", embedded.target, *filters, "--format", file_format, "--columns", "context_id")
    assert result.code == ExitCode.NOTHING
    if out is not None:
        assert result.out == out


def test_an_enumeration_that_fails_in_the_middle_shows_no_part_of_it(
    run: Run, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(3000)
    embedded.fail("IPsecSaContextEnum1", nth=2)
    result = run("list", "--engine", embedded.target)
    assert result.code == ExitCode.FAILURE
    assert result.out == b""


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (["--remote", "10.0.0.1/8"], "host bits set"),
        (["--local", "10.0.0.0/33"], "10.0.0.0/33"),
        (["--remote", "ten"], "'ten'"),
        (["--local", ""], "local must be a subnet"),
        (["--local", "10.0.0.0/8", "--remote", "2001:db8::/32"], "one address family"),
        (["--remote", "fe80::1%eth0"], "scope"),
    ],
)
@pytest.mark.parametrize("extra", [["list"], ["list", "--limit", "1"], ["expire"], ["expire", "--yes"]])
def test_a_bad_subnet_is_a_usage_fault(
    run: Run, embedded: testing.EmbeddedEngine, filters: list[str], message: str, extra: list[str]
) -> None:
    result = run(*extra, "--engine", embedded.target, *filters)
    assert result.code == ExitCode.USAGE
    assert result.out == b""
    assert message in result.err
    assert "Traceback" not in result.err


# ---- which columns ----


def test_a_table_has_the_usual_columns_and_all_rows_whole(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(50, 7)
    result = run("list", "--engine", embedded.target)
    assert result.code == ExitCode.DONE
    assert tuple(result.lines[0].split()) == TABLE_COLUMNS
    assert len(result.lines) == 51
    with embedded.open() as engine:
        for line, context in zip(result.lines[1:], engine.snapshot(), strict=True):
            cells = dict(zip(TABLE_COLUMNS, line.split(), strict=True))
            assert int(cells["context_id"]) == context.context_id
            assert ip_address(cells["remote_address"]) == context.remote_address
            assert cells["has_inbound"] == ("yes" if context.has_inbound else "no")
            assert cells["spi_out"] == ("-" if context.spi_out is None else str(context.spi_out))
    assert result.err == f"wfpsa: 50 contexts from {embedded.target}\n"


def test_named_columns_come_in_the_order_named(run: Run) -> None:
    columns = "remote_address, context_id,main_mode_target_in"
    result = run("list", "--engine", "embedded:?contexts=2", "--columns", columns, "--format", "csv")
    assert result.lines[0] == "remote_address,context_id,main_mode_target_in"


@pytest.mark.parametrize("arguments", [["--format", "csv"], ["--format", "csv", "--columns", "all"]])
def test_a_file_format_has_all_columns(run: Run, arguments: list[str]) -> None:
    result = run("list", "--engine", "embedded:?contexts=2", *arguments)
    assert tuple(result.lines[0].split(",")) == seeded(0).columns


def test_a_table_can_have_all_columns(run: Run) -> None:
    result = run("list", "--engine", "embedded:?contexts=2", "--columns", "all")
    assert tuple(result.lines[0].split()) == seeded(0).columns


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("remote_adress", "unknown column 'remote_adress'; did you mean 'remote_address'?"),
        ("context_id,transform", "did you mean 'transform_"),
        ("key", "unknown column 'key'"),
        ("", "a name is missing"),
        ("context_id,", "a name is missing"),
        ("spi_in,spi_out,spi_in", "'spi_in' is named twice"),
        ('context_id" FROM contexts; --', "unknown column"),
    ],
)
def test_a_bad_column_is_a_usage_fault_before_the_engine_is_asked(
    run: Run, embedded: testing.EmbeddedEngine, columns: str, message: str
) -> None:
    embedded.rights("everyone")
    result = run("list", "--engine", embedded.target, "--columns", columns)
    assert result.code == ExitCode.USAGE
    assert result.out == b""
    assert message in result.err


# ---- get ----


def test_get_as_json_equals_what_list_says_of_every_context(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(60, 7, odd=True)
    for line in run("list", "--engine", embedded.target, "--format", "jsonl").lines:
        expected = json.loads(line)
        result = run("get", expected["context_id"], "--engine", embedded.target, "--format", "json")
        assert result.code == ExitCode.DONE
        assert json.loads(result.out) == expected
        assert result.err == ""


def test_get_as_a_table_names_what_is_present(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(5, 7)
    with embedded.open() as engine:
        context = engine.snapshot()[0]
    result = run("get", context.context_id, "--engine", embedded.target)
    assert result.code == ExitCode.DONE
    shown = dict(line.split(maxsplit=1) for line in result.lines)
    assert shown["context_id"] == str(context.context_id)
    assert shown["remote_address"] == str(context.remote_address)
    assert shown["traffic_type"] == context.traffic_type.name
    present = [name for name in seeded(0).columns if getattr(context, name) is not None]
    assert list(shown) == present != list(seeded(0).columns)


@pytest.mark.parametrize("prefix", ["0x", "0X"])
def test_get_takes_a_hexadecimal_id(run: Run, embedded: testing.EmbeddedEngine, prefix: str) -> None:
    embedded.seed(1)
    with embedded.open() as engine:
        number = engine.snapshot()[0].context_id
    result = run("get", f"{prefix}{number:x}", "--engine", embedded.target, "--format", "json")
    assert json.loads(result.out)["context_id"] == number


@pytest.mark.parametrize("number", [0, 12345, 2**64 - 1])
def test_get_of_an_unknown_id_matches_nothing(run: Run, embedded: testing.EmbeddedEngine, number: int) -> None:
    embedded.seed(1)
    result = run("get", number, "--engine", embedded.target)
    assert result.code == ExitCode.NOTHING
    assert result.out == b""
    assert f"no context with the id {number}" in result.err
    assert "FWP_E_NOT_FOUND" in result.err


@pytest.mark.parametrize(
    "text", [str(2**64), "9" * 30, "0x1" + "0" * 16, "abc", "1.5", "", "0x", "1_000", "\u0661", "+1", " 1", "1e3"]
)
def test_get_of_what_is_no_id_is_a_usage_fault(run: Run, embedded: testing.EmbeddedEngine, text: str) -> None:
    result = run("get", text, "--engine", embedded.target)
    assert result.code == ExitCode.USAGE
    assert result.out == b""
    assert "is not a context id (0 to 18446744073709551615" in result.err


def test_get_of_a_half_built_context_shows_its_nulls(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(400, 7, odd=True)
    with embedded.open() as engine:
        absent = next(context for context in engine.snapshot() if context.outbound is None)
        assert isinstance(absent, wfpsa.SaContext)
    shown = json.loads(run("get", absent.context_id, "--engine", embedded.target, "--format", "json").out)
    assert shown["spi_out"] is None
    assert shown["has_outbound"] is False
