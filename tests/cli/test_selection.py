"""Tests of what `wfpsa expire` selects: by subnets and a predicate, by ids, and by the peers that a file names."""

import codecs
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command import ALL, Run, counts, facts, ids, live
from support import added

from wfpsa import testing
from wfpsa.cli.common import ExitCode

NAME_COLUMNS = ("main_mode_target_in", "main_mode_target_out", "extended_mode_target_in", "extended_mode_target_out")


# ---- which options say it ----


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


@pytest.mark.parametrize("text", ["x", "-1", str(2**64), ""])
def test_a_bad_id_to_be_spared_is_refused(expire: Run, embedded: testing.EmbeddedEngine, text: str) -> None:
    ids = added(embedded, 3)
    result = expire(*ALL, f"--exclude={text}", "--yes")
    assert result.code == ExitCode.USAGE
    assert f"--exclude: {text!r} is not a context id" in result.err and live(embedded) == set(ids)


# ---- subnets, a predicate and ids ----


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


# ---- peers from a file ----


def test_addresses_and_subnets_of_a_file_select_their_contexts(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path
) -> None:
    remotes = ["10.1.0.1", "10.1.0.2", "10.2.0.1", "10.2.0.1", "10.2.1.1", "2001:db8::1", "2001:db8:1::1"]
    ids = [embedded.add("10.0.0.1" if "." in remote else "2001:db8::ff", remote) for remote in remotes]
    (tmp_path / "peers").write_text("10.1.0.1\n10.2.0.0/24\n10.2.0.1\n2001:DB8:1::/48\n")
    result = expire("--peers-from", tmp_path / "peers", "--format", "json")
    assert result.code == ExitCode.DONE
    assert facts(result.out)["remote_addresses"] == {"10.2.0.1": 2, "10.1.0.1": 1, "2001:db8:1::1": 1}
    result = expire("--peers-from", tmp_path / "peers", "--yes")
    assert result.code == ExitCode.DONE and counts(result.text) == {"EXPIRED": 4}
    assert live(embedded) == {ids[1], ids[4], ids[5]} and "no context has" not in result.err


def of_names(embedded: testing.EmbeddedEngine, names: set[str]) -> set[int]:
    """The contexts with such a name in any of the columns for names."""
    with embedded.open() as engine:
        contexts = list(engine.snapshot())
    return {each.context_id for each in contexts if names & {getattr(each, column) for column in NAME_COLUMNS}}


def a_name(embedded: testing.EmbeddedEngine, column: str, begin: str) -> str:
    """The first name of that kind."""
    with embedded.open() as engine:
        names: list[str | None] = engine.snapshot()[column].tolist()
    return next(name for name in names if name is not None and name.startswith(begin))


@pytest.mark.parametrize("case", [str, str.upper, str.lower, str.swapcase])
@pytest.mark.parametrize(
    ("column", "begin"),
    [
        ("main_mode_target_in", "gateway-"),
        ("main_mode_target_out", "CN=Zoë"),
        ("main_mode_target_in", "CN=東京"),
        ("extended_mode_target_in", "CORP\\"),
        ("extended_mode_target_out", "CORP\\"),
    ],
)
def test_names_of_a_file_select_contexts_with_that_identity_in_any_case(
    expire: Run,
    embedded: testing.EmbeddedEngine,
    tmp_path: Path,
    column: str,
    begin: str,
    case: Callable[[str], str],
) -> None:
    embedded.seed(300, 7)
    before = live(embedded)
    name = a_name(embedded, column, begin)
    wanted = of_names(embedded, {name})
    (tmp_path / "peers").write_text(f"{case(name)}\n", encoding="utf-8")
    result = expire("--peers-from", tmp_path / "peers", "--yes")
    assert result.code == ExitCode.DONE
    assert counts(result.text) == {"EXPIRED": len(wanted)}, "those without an outbound SA too"
    assert wanted & before and live(embedded) == before - wanted


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_file_of_peers_may_have_comments_and_be_of_any_editor(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path, encoding: str, line_end: str
) -> None:
    embedded.seed(300, 7)
    ids = added(embedded, 3)
    before = live(embedded)
    name = a_name(embedded, "main_mode_target_in", "CN=Zoë")
    lines = ["# these are stale", "10.1.0.1", "", f"  {name}\t# büro", "\t", "10.1.0.3 # it", "#10.1.0.2"]
    (tmp_path / "peers").write_bytes(line_end.join(lines).encode(encoding))
    assert (tmp_path / "peers").read_bytes().startswith(codecs.BOM_UTF16) is (encoding == "utf-16")
    result = expire("--peers-from", tmp_path / "peers", "--yes")
    assert result.code == ExitCode.DONE and "no context has" not in result.err
    assert live(embedded) == before - {ids[0], ids[2]} - of_names(embedded, {name})


def test_a_dash_reads_the_peers_from_stdin(
    expire: Run, embedded: testing.EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = added(embedded, 3)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"10.1.0.1\n10.1.0.3")))
    result = expire("--peers-from", "-", "--yes")
    assert result.code == ExitCode.DONE and counts(result.text) == {"EXPIRED": 2}
    assert live(embedded) == {ids[1]}


@pytest.mark.parametrize(
    "text",
    [
        "10.1.0.256",
        "10.1.0",
        "10.1.0.1/33",
        "10.1.0.1/x",
        "10.1.0.1/",
        "10.1.0.1/16",
        "10.1.0.1.1",
        "2001:db8::/129",
        ":::",
        "2001:db8",
        "1::2::3",
        "::1/64",
    ],
)
def test_a_bad_address_is_named_with_its_line_and_nothing_is_expired(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path, text: str
) -> None:
    ids = added(embedded, 3)
    path = tmp_path / "peers"
    path.write_text(f"10.1.0.1\n\n{text}  # bad\n10.1.0.2\n")
    result = expire("--peers-from", path, "--yes")
    assert result.code == ExitCode.USAGE
    assert f"{path}, line 3: " in result.err and text in result.err and "nothing was expired" in result.err
    assert result.out == b"" and live(embedded) == set(ids)


def test_a_bad_address_on_stdin_is_named_with_its_line(
    expire: Run, embedded: testing.EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = added(embedded, 3)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"10.1.0.1\n10.1.0.300\n")))
    result = expire("--peers-from", "-", "--yes")
    assert result.code == ExitCode.USAGE
    assert "standard input, line 2: " in result.err and live(embedded) == set(ids)


def test_peers_that_no_context_has_are_told_and_the_others_are_expired(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path
) -> None:
    ids = added(embedded, 3)
    (tmp_path / "peers").write_text("10.1.0.1\n10.9.0.1\nNobody\n10.8.0.0/16\n")
    result = expire("--peers-from", tmp_path / "peers", "--yes")
    assert result.code == ExitCode.DONE and counts(result.text) == {"EXPIRED": 1}
    assert "no context has the peer 10.9.0.1/32, 10.8.0.0/16, Nobody\n" in result.err
    assert live(embedded) == set(ids[1:])


def test_where_no_peer_is_known_nothing_matches_and_a_few_of_them_are_named(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path
) -> None:
    ids = added(embedded, 3)
    (tmp_path / "peers").write_text("".join(f"nobody-{at}\n" for at in range(1, 9)))
    result = expire("--peers-from", tmp_path / "peers", "--yes")
    assert result.code == ExitCode.NOTHING and result.out == b""
    assert "no context has the peer nobody-1, nobody-2, nobody-3, nobody-4, nobody-5 and 3 more\n" in result.err
    assert "no context matches; nothing to expire" in result.err and live(embedded) == set(ids)


@pytest.mark.parametrize("text", ["", "\n", "# nobody\n\n"])
@pytest.mark.parametrize("extra", [[], ["--yes"]])
def test_a_file_without_peers_selects_nothing(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path, text: str, extra: list[str]
) -> None:
    ids = added(embedded, 3)
    (tmp_path / "peers").write_text(text)
    for beside in ([], ALL, ["--where", "true"]):
        result = expire("--peers-from", tmp_path / "peers", *beside, *extra)
        assert result.code == ExitCode.NOTHING and result.out == b""
        assert "nothing to expire" in result.err
    assert live(embedded) == set(ids)


@pytest.mark.parametrize(
    ("beside", "left"),
    [
        (("--remote", "10.1.0.0/16"), {0}),
        (("--local", "10.0.0.2"), {1, 2}),
        (("--where", "remote_address LIKE '10.1.%'"), {0}),
        (("--remote", "10.1.0.0/16", "--local", "10.0.0.2"), {0, 1, 2}),
        (("--remote", "10.1.0.0/16", "--where", "local_address = '10.0.0.1'"), {0}),
    ],
)
def test_peers_and_filters_must_all_hold(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path, beside: tuple[str, ...], left: set[int]
) -> None:
    pairs = [("10.0.0.2", "10.2.0.1"), ("10.0.0.1", "10.1.0.1"), ("10.0.0.1", "10.1.0.2"), ("10.0.0.1", "10.1.0.9")]
    ids = [embedded.add(local, remote) for local, remote in pairs]
    (tmp_path / "peers").write_text("10.2.0.1\n10.1.0.1\n10.1.0.2\n")
    result = expire("--peers-from", tmp_path / "peers", *beside, "--yes")
    assert result.code == (ExitCode.NOTHING if len(left) == 3 else ExitCode.DONE)
    assert counts(result.text) == ({} if len(left) == 3 else {"EXPIRED": 3 - len(left)})
    assert live(embedded) == {ids[3], *(ids[at] for at in left)}


def test_names_and_a_predicate_must_both_hold(expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path) -> None:
    embedded.seed(300, 7)
    before = live(embedded)
    name = a_name(embedded, "main_mode_target_in", "gateway-")
    wanted = of_names(embedded, {name}) & before
    one = min(wanted)
    (tmp_path / "peers").write_text(name)
    result = expire("--peers-from", tmp_path / "peers", "--where", f"context_id = {one}", "--yes")
    assert result.code == ExitCode.DONE and counts(result.text) == {"EXPIRED": 1}
    assert len(wanted) > 1 and live(embedded) == before - {one}


def test_peers_do_not_go_with_ids_and_must_be_readable(
    expire: Run, embedded: testing.EmbeddedEngine, tmp_path: Path
) -> None:
    ids = added(embedded, 3)
    (tmp_path / "peers").write_text("10.1.0.1")
    result = expire("--peers-from", tmp_path / "peers", "--id", ids[0], "--yes")
    assert result.code == ExitCode.USAGE and "ids and --peers-from do not go together" in result.err
    for path in (tmp_path / "missing", tmp_path):
        result = expire("--peers-from", path, "--yes")
        assert result.code == ExitCode.USAGE and f"cannot read the peers from {path}: " in result.err
    assert live(embedded) == set(ids)
