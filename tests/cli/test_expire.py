"""Tests of `wfpsa expire`: what it selects, that it does nothing without --yes, and what it says it did."""

import _thread
import io
import json
import sys
import threading
import time
from pathlib import Path

import pytest
from command import Run

from wfpsa import testing
from wfpsa.cli.common import ExitCode

EXPIRE = "IPsecSaContextExpire0"


def ids(control: testing.EmbeddedEngine) -> list[int]:
    with control.open() as engine:
        return engine.snapshot()["context_id"].tolist()


def live(control: testing.EmbeddedEngine) -> set[int]:
    """The contexts that still have an outbound SA."""
    with control.open() as engine:
        return {context.context_id for context in engine.snapshot() if context.has_outbound}


def counts(text: str) -> dict[str, int]:
    return {name: int(count) for name, count in (line.split() for line in text.splitlines())}


# ---- nothing by accident ----


@pytest.mark.parametrize("extra", [[], ["--yes"]])
def test_a_selector_is_required(run: Run, embedded: testing.EmbeddedEngine, extra: list[str]) -> None:
    embedded.seed(5)
    before = live(embedded)
    result = run("expire", "--engine", embedded.target, *extra)
    assert result.code == ExitCode.USAGE
    assert "say what to expire" in result.err
    assert live(embedded) == before


@pytest.mark.parametrize("option", ["--where", "--local", "--remote", "--id", "--ids-from"])
def test_an_empty_selector_is_a_usage_fault_even_beside_another(
    run: Run, embedded: testing.EmbeddedEngine, option: str
) -> None:
    embedded.seed(5)
    before = live(embedded)
    other = "--local" if option == "--remote" else "--remote"
    for arguments in ([option, ""], [option, "", other, "0.0.0.0/0"]):
        result = run("expire", "--engine", embedded.target, "--yes", *arguments)
        assert result.code == ExitCode.USAGE
    assert live(embedded) == before


@pytest.mark.parametrize("way", [["--remote", "10.0.0.0/8"], ["--local", "10.0.0.0/8"], ["--where", "true"]])
def test_ids_do_not_go_with_filters(run: Run, embedded: testing.EmbeddedEngine, way: list[str]) -> None:
    result = run("expire", "--engine", embedded.target, "--id", "1", *way, "--yes")
    assert result.code == ExitCode.USAGE
    assert f"ids and {way[0]} do not go together" in result.err


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


# ---- the dry run ----


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
    assert [line.split()[0] for line in lines] == ["would_expire", "remote_addresses", "other_addresses"]


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


# ---- the selection ----


def test_a_subnet_selects(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(500, 7)
    with embedded.open() as engine:
        wanted = set(engine.snapshot(remote="10.0.0.0/8")["context_id"].tolist())
    before = live(embedded)
    result = run("expire", "--engine", embedded.target, "--remote", "10.0.0.0/8", "--yes")
    assert result.code == ExitCode.DONE
    assert counts(result.text) == {"EXPIRED": len(wanted)}
    assert live(embedded) == before - wanted
    assert 0 < len(wanted) < 500


def test_subnets_and_a_predicate_select_together(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(500, 7)
    with embedded.open() as engine:
        found = engine.snapshot(remote="10.0.0.0/8")
        wanted = {context.context_id for context in found if context.lifetime_seconds_out == 3600}
    before = live(embedded)
    filters = ("--remote", "10.0.0.0/8", "--where", "lifetime_seconds_out = 3600")
    result = run("expire", "--engine", embedded.target, *filters, "--yes", "--format", "json")
    assert json.loads(result.out) == {"EXPIRED": len(wanted)}
    assert live(embedded) == before - wanted
    assert wanted


def test_ids_are_decimal_or_hexadecimal_and_each_is_expired_once(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(3)
    first, second, third = ids(embedded)
    arguments = ["--id", first, "--id", hex(second), "--id", str(second)]
    result = run("expire", "--engine", embedded.target, *arguments, "--yes")
    assert result.code == ExitCode.DONE
    assert counts(result.text) == {"EXPIRED": 2}
    assert live(embedded) == {third}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_file_of_ids_may_have_comments_and_blank_lines(
    run: Run, embedded: testing.EmbeddedEngine, tmp_path: Path, encoding: str, line_end: str
) -> None:
    embedded.seed(4)
    first, second, third, fourth = ids(embedded)
    lines = ["# these are stale", str(first), "", f"  {second:#x}  # büro", "\t"]
    file = tmp_path / "ids"
    file.write_bytes(line_end.join(lines).encode(encoding))
    result = run("expire", "--engine", embedded.target, "--ids-from", file, "--id", third, "--yes")
    assert result.code == ExitCode.DONE
    assert counts(result.text) == {"EXPIRED": 3}
    assert live(embedded) == {fourth}


def test_a_dash_reads_the_ids_from_stdin(
    run: Run, embedded: testing.EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded.seed(4)
    numbers = ids(embedded)
    data = "\n".join(map(str, numbers)).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert run("expire", "--engine", embedded.target, "--ids-from", "-", "--yes").code == ExitCode.DONE
    assert live(embedded) == set()


def test_what_list_writes_expire_reads(run: Run, embedded: testing.EmbeddedEngine, tmp_path: Path) -> None:
    embedded.seed(300, 7)
    before = live(embedded)
    run(
        "list", "--engine", embedded.target, "--remote", "10.0.0.0/8", "--columns", "context_id", "-o", tmp_path / "ids"
    )
    lines = (tmp_path / "ids").read_text().splitlines()
    (tmp_path / "ids").write_text("\n".join(["#" + lines[0], *lines[1:]]))
    assert run("expire", "--engine", embedded.target, "--ids-from", tmp_path / "ids", "--yes").code == ExitCode.DONE
    assert len(live(embedded)) == len(before - set(map(int, lines[1:])))


@pytest.mark.parametrize(
    ("junk", "line"),
    [
        (b"1\n2\nx\n3\n", 3),
        (b"1\n18446744073709551616\n", 2),
        (b"-1\n", 1),
        (b"1 2\n", 1),
        (b"\n\n1,2", 3),
        (b"1\n\xff\xfe\n", 2),
        (b"1\r2\n", 1),
        (b"0x\n", 1),
        (b"context_id\n1\n", 1),
        (b"1\n" + b"9" * 100_000, 2),
    ],
)
def test_a_junk_line_is_named_and_nothing_is_expired(
    run: Run, embedded: testing.EmbeddedEngine, tmp_path: Path, junk: bytes, line: int
) -> None:
    embedded.seed(3)
    before = live(embedded)
    file = tmp_path / "ids"
    file.write_bytes("\n".join(map(str, ids(embedded))).encode() + b"\n" + junk)
    result = run("expire", "--engine", embedded.target, "--ids-from", file, "--yes")
    assert result.code == ExitCode.USAGE
    assert result.out == b""
    assert f"{file}, line {line + 3}: " in result.err
    assert "nothing was expired" in result.err
    assert len(result.err) < 500
    assert live(embedded) == before


@pytest.mark.parametrize("text", ["x", str(2**64), ""])
def test_a_bad_id_is_a_usage_fault_and_nothing_is_expired(
    run: Run, embedded: testing.EmbeddedEngine, text: str
) -> None:
    embedded.seed(1)
    before = live(embedded)
    result = run("expire", "--engine", embedded.target, "--id", ids(embedded)[0], "--id", text, "--yes")
    assert result.code == ExitCode.USAGE
    assert "--id: " in result.err
    assert live(embedded) == before


def test_a_file_of_ids_that_is_not_there_is_a_usage_fault(
    run: Run, embedded: testing.EmbeddedEngine, tmp_path: Path
) -> None:
    result = run("expire", "--engine", embedded.target, "--ids-from", tmp_path / "missing", "--yes")
    assert result.code == ExitCode.USAGE
    assert "cannot read the ids from" in result.err


# ---- exit codes ----


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


def test_one_that_was_gone_already_counts_as_done(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(1)
    result = run("expire", "--engine", embedded.target, "--id", ids(embedded)[0], "--id", "7", "--yes")
    assert result.code == ExitCode.DONE
    assert counts(result.text) == {"EXPIRED": 1, "ALREADY_GONE": 1}


def test_where_some_fail_it_is_partial_and_says_why(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(5)
    embedded.fail(EXPIRE, nth=2, code=0x80320012)
    result = run("expire", "--engine", embedded.target, "--where", "true", "--yes")
    assert result.code == ExitCode.PARTIAL
    assert counts(result.text) == {"EXPIRED": 4, "FAILED": 1}
    assert "1 FAILED: IPsecSaContextExpire0: FWP_E_TIMEOUT (0x80320012)" in result.err


def test_where_some_are_denied_it_is_partial(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(5)
    embedded.fail(EXPIRE, nth=3, code=5)
    result = run("expire", "--engine", embedded.target, "--where", "true", "--yes")
    assert result.code == ExitCode.PARTIAL
    assert counts(result.text) == {"EXPIRED": 4, "DENIED": 1}


def test_where_the_session_is_lost_the_rest_is_not_attempted(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(5)
    embedded.fail(EXPIRE, nth=3, code=1726)
    result = run("expire", "--engine", embedded.target, "--where", "true", "--yes")
    assert result.code == ExitCode.PARTIAL
    assert counts(result.text) == {"EXPIRED": 2, "FAILED": 1, "NOT_ATTEMPTED": 2}
    assert "2 NOT_ATTEMPTED" in result.err


def test_where_all_fail_it_is_a_failure(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(1)
    embedded.fail(EXPIRE, nth=1, code=0x80320012)
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


def test_an_enumeration_that_fails_expires_nothing(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(3000)
    before = live(embedded)
    embedded.fail("IPsecSaContextEnum1", nth=2)
    result = run("expire", "--engine", embedded.target, "--where", "true", "--yes")
    assert result.code == ExitCode.FAILURE
    assert result.out == b""
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
