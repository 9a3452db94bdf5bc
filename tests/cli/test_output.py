"""Tests of the output: each format read back equals the columns, nothing secret is in it, files appear whole."""

import base64
import io
import json
import os
import stat
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from command import Run
from pages import Bundle, Context, Details, Identity, Traffic, build, v4
from support import INFO, seeded

import wfpsa
from wfpsa import testing
from wfpsa.cli import formats, output
from wfpsa.cli.common import ExitCode
from wfpsa.cli.output import Format, emit, printable

ENGINE = "embedded:?contexts=400&seed=7&odd=1"
Row = dict[str, object]


def readable(name: str, value: Any) -> object:
    """A value as the readable formats have it: enumerations and addresses as text."""
    if value is None:
        return None
    kind = INFO[name]["kind"]
    if kind == "enum":
        return getattr(value, "name", str(value))
    if kind == "address":
        return str(value)
    if kind in ("guid", "ipv4"):
        assert isinstance(value, UUID if kind == "guid" else IPv4Address)
        return str(value)
    return value


def expected_rows(batch: wfpsa.SaBatch) -> list[Row]:
    return [{name: readable(name, getattr(context, name)) for name in batch.columns} for context in batch]


ARROW_TYPES = {"bool": pa.bool_(), "u8": pa.uint8(), "u16": pa.uint16(), "u32": pa.uint32(), "u64": pa.uint64()}


def rows_of_csv(data: bytes) -> list[Row]:
    """Rows of CSV in which nothing is null and two quotes are an empty text."""
    types = {name: ARROW_TYPES.get(info["kind"], pa.string()) for name, info in INFO.items()}
    convert = pa_csv.ConvertOptions(
        column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
    )
    parse = pa_csv.ParseOptions(newlines_in_values=True)
    return pa_csv.read_csv(io.BytesIO(data), convert_options=convert, parse_options=parse).to_pylist()


READERS: dict[str, Callable[[bytes], list[Row]]] = {
    "json": json.loads,
    "jsonl": lambda data: [json.loads(line) for line in data.decode().split("\n")[:-1]],
    "csv": rows_of_csv,
    "parquet": lambda data: pq.read_table(io.BytesIO(data)).to_pylist(),
}


# ---- round trips ----


@pytest.mark.parametrize("file_format", READERS)
def test_each_file_format_reads_back_as_the_columns(run: Run, file_format: str) -> None:
    result = run("list", "--engine", ENGINE, "--format", file_format)
    assert result.code == ExitCode.DONE
    rows = READERS[file_format](result.out)
    expected = expected_rows(seeded(400, 7, odd=True))
    assert rows == expected
    assert [list(row) for row in rows] == [list(row) for row in expected]
    for row, other in zip(rows, expected, strict=True):
        assert [type(value) for value in row.values()] == [type(value) for value in other.values()]
    assert result.err == ""


@pytest.mark.parametrize("file_format", READERS)
def test_contexts_that_came_in_several_pages_are_one_output(
    run: Run, embedded: testing.EmbeddedEngine, file_format: str
) -> None:
    embedded.seed(4000, 7)
    result = run("list", "--engine", embedded.target, "--limit", 3000, "--format", file_format)
    with embedded.open() as engine:
        assert READERS[file_format](result.out) == expected_rows(engine.snapshot()[:3000])


@pytest.mark.parametrize("file_format", READERS)
def test_a_batch_larger_than_a_piece_is_one_output(run: Run, monkeypatch: pytest.MonkeyPatch, file_format: str) -> None:
    monkeypatch.setattr(formats, "ROWS_A_PART", 7)
    result = run("list", "--engine", ENGINE, "--format", file_format)
    assert READERS[file_format](result.out) == expected_rows(seeded(400, 7, odd=True))


NASTY = 'a,"b"\r\n\t\x1b[31mred\u2028\u202e💥,\\'


def nasty_batch() -> tuple[object, wfpsa.SaBatch]:
    """A batch with the largest numbers and a name full of what formats and terminals take for their own."""
    details = Details(
        traffic=Traffic(remote=v4(0xFFFFFFFF), local_interface_luid=2**64 - 1, filter_id=2**53 + 1),
        bundle=Bundle(identity=Identity(main_mode_target=NASTY, extended_mode_target=""), mm_sa_id=2**64 - 1),
    )
    page = build([Context(context_id=2**64 - 1, inbound=details, outbound=details)], 1)
    return page, testing.decode_page(page.address, 1)


@pytest.mark.parametrize("file_format", READERS)
def test_large_numbers_are_exact_and_foreign_names_stay_data(
    capsysbinary: pytest.CaptureFixture[bytes], file_format: str
) -> None:
    _, batch = nasty_batch()
    emit([batch], batch.columns, Format(file_format), None)
    (row,) = READERS[file_format](capsysbinary.readouterr().out)
    assert row["context_id"] == row["mm_sa_id_out"] == row["local_interface_luid"] == 2**64 - 1
    assert row["filter_id_in"] == 2**53 + 1
    assert row["main_mode_target_in"] == batch[0].main_mode_target_in
    assert row["remote_address"] == "255.255.255.255"


def test_integers_beyond_2_to_the_53_are_written_as_digits(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    _, batch = nasty_batch()
    emit([batch], ["context_id"], Format.JSONL, None)
    assert capsysbinary.readouterr().out == b'{"context_id":18446744073709551615}\n'


def test_json_is_one_array_and_jsonl_a_line_a_context(run: Run) -> None:
    array = run("list", "--engine", "embedded:?contexts=3&seed=7", "--format", "json").text
    lines = run("list", "--engine", "embedded:?contexts=3&seed=7", "--format", "jsonl").text
    assert array == "[\n" + lines.rstrip("\n").replace("\n", ",\n") + "\n]\n"
    assert lines.count("\n") == 3


# ---- what must not be in it ----


def encodings_of(secret: bytes) -> set[bytes]:
    """The secret as it is, as hex, and as base64 at every alignment."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode(), secret.hex(" ").encode()}
    for lead in range(3):
        text = base64.b64encode(bytes(lead) + secret)
        found.add(text[4 * bool(lead) : -4])
    return found


@pytest.mark.parametrize("file_format", ["table", *READERS])
def test_no_key_bytes_are_in_any_format(run: Run, file_format: str) -> None:
    extra = ["--columns", "all"] if file_format == "table" else []
    result = run("list", "--engine", "embedded:?contexts=2000&seed=7&odd=1", "--format", file_format, *extra)
    assert result.code == ExitCode.DONE
    for text in encodings_of(testing.KEY_MARK):
        assert text not in result.out
        assert text not in result.err.encode()


@pytest.mark.parametrize("file_format", ["table", "json"])
def test_no_key_bytes_are_in_a_single_context(run: Run, embedded: testing.EmbeddedEngine, file_format: str) -> None:
    embedded.seed(20, 7)
    with embedded.open() as engine:
        numbers = engine.snapshot()["context_id"].tolist()
    for number in numbers:
        result = run("get", number, "--engine", embedded.target, "--format", file_format)
        for text in encodings_of(testing.KEY_MARK):
            assert text not in result.out


# ---- tables ----


def test_a_foreign_name_cannot_move_the_cursor(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    _, batch = nasty_batch()
    emit([batch], ["context_id", "main_mode_target_in"], Format.TABLE, None)
    shown = capsysbinary.readouterr().out.decode()
    assert len(shown.splitlines()) == 2
    assert "\x1b" not in shown
    assert r"\x1b[31mred" in shown
    assert r"\u202e" in shown


@pytest.mark.parametrize(
    ("text", "shown"), [("plain name", "plain name"), ("a\nb", r"a\nb"), ("\x9b2J", r"\x9b2J"), ("東京", "東京")]
)
def test_printable_escapes_what_is_not(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_wide_characters_are_aligned(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    names = [Identity(main_mode_target=name) for name in ("東京", "plain")]
    contexts = [Context(context_id=at, inbound=Details(bundle=Bundle(identity=name))) for at, name in enumerate(names)]
    page = build(contexts, 1)
    emit([testing.decode_page(page.address, 2)], ["main_mode_target_in", "context_id"], Format.TABLE, None)
    _, wide, plain = capsysbinary.readouterr().out.decode().splitlines()
    assert len(wide) + 2 == len(plain)


def test_a_table_beyond_the_measured_rows_is_complete(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run("list", "--engine", ENGINE).lines
    monkeypatch.setattr(output, "_ROWS_MEASURED", 3)
    assert [line.split() for line in run("list", "--engine", ENGINE).lines] == [line.split() for line in whole]


def test_what_the_encoding_of_stdout_lacks_is_escaped(spawn: Run) -> None:
    arguments = ["list", "--engine", "embedded:?contexts=200&seed=7", "--columns", "main_mode_target_in"]
    result = spawn(*arguments, env={"PYTHONIOENCODING": "ascii"})
    assert result.code == ExitCode.DONE
    assert b"\\u6771" in result.out
    assert result.out.isascii()


def test_file_formats_are_utf_8_whatever_the_encoding_of_stdout(spawn: Run) -> None:
    arguments = ["list", "--engine", "embedded:?contexts=200&seed=7", "--format", "jsonl"]
    assert "東京" in spawn(*arguments, env={"PYTHONIOENCODING": "ascii"}).out.decode()


# ---- files ----


@pytest.mark.parametrize("file_format", ["table", *READERS])
def test_a_file_holds_what_stdout_would(run: Run, tmp_path: Path, file_format: str) -> None:
    file = tmp_path / "contexts"
    to_stdout = run("list", "--engine", ENGINE, "--format", file_format)
    result = run("list", "--engine", ENGINE, "--format", file_format, "-o", file)
    assert result.code == ExitCode.DONE
    assert result.out == b""
    assert file.read_bytes() == to_stdout.out
    assert list(tmp_path.iterdir()) == [file]
    assert f"400 contexts from {ENGINE}" in result.err


@pytest.mark.parametrize(
    ("name", "start"), [("a.json", b"[\n{"), ("a.JSONL", b"{"), ("a.csv", b"context_id,"), ("a.parquet", b"PAR1")]
)
def test_the_suffix_of_the_file_decides_the_format(run: Run, tmp_path: Path, name: str, start: bytes) -> None:
    run("list", "--engine", ENGINE, "--output", tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


def test_another_suffix_gives_a_table(run: Run, tmp_path: Path) -> None:
    run("list", "--engine", ENGINE, "-o", tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_bytes().split()[:2] == [b"context_id", b"local_address"]


def test_the_format_asked_for_goes_before_the_suffix(run: Run, tmp_path: Path) -> None:
    run("list", "--engine", ENGINE, "-o", tmp_path / "a.json", "--format", "csv")
    assert (tmp_path / "a.json").read_bytes().startswith(b"context_id,")


def test_a_dash_is_stdout(run: Run) -> None:
    assert run("list", "--engine", ENGINE, "-o", "-", "--format", "csv").out.startswith(b"context_id,")


def test_a_file_is_replaced_and_keeps_its_mode(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"old")
    file.chmod(0o640)
    run("list", "--engine", ENGINE, "-o", file)
    assert file.read_bytes().startswith(b"context_id,")
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o640


@pytest.mark.posix
def test_a_link_stays_a_link(run: Run, tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to("file.csv")
    run("list", "--engine", ENGINE, "-o", tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "file.csv").read_bytes().startswith(b"context_id,")


@pytest.mark.posix
def test_a_device_is_written_to_and_not_replaced(run: Run) -> None:
    assert run("list", "--engine", ENGINE, "-o", os.devnull).code == ExitCode.DONE
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@pytest.mark.parametrize("file_format", ["table", "jsonl"])
def test_a_file_that_cannot_be_written_is_a_failure_that_changes_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: str
) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wfpsa.cli.output.os.replace", full)
    result = run("list", "--engine", ENGINE, "--format", file_format, "-o", file)
    assert result.code == ExitCode.FAILURE
    assert result.err == f"wfpsa: cannot write {file}: No space left on device\n"
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_and_a_missing_folder_are_failures(run: Run, tmp_path: Path) -> None:
    for file in (tmp_path, tmp_path / "missing" / "a.csv"):
        result = run("list", "--engine", ENGINE, "--format", "csv", "-o", file)
        assert result.code == ExitCode.FAILURE
        assert result.err.startswith(f"wfpsa: cannot write {file}: ")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_may_not_be_written_is_not_taken_for_a_denial_of_the_engine(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("wfpsa.cli.output.os.replace", denied)
    assert run("list", "--engine", ENGINE, "-o", tmp_path / "a.csv").code == ExitCode.FAILURE


def test_an_unknown_format_is_a_usage_fault(run: Run) -> None:
    result = run("list", "--engine", ENGINE, "--format", "xml")
    assert result.code == ExitCode.USAGE
    assert "parquet" in result.err


def test_no_scratch_file_stays_behind(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for file_format in READERS:
        assert run("list", "--engine", ENGINE, "--format", file_format).code == ExitCode.DONE
    assert list(tmp_path.iterdir()) == []


@pytest.mark.posix
def test_a_quote_in_the_scratch_folder_is_no_sql(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "it's; DROP"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert run("list", "--engine", ENGINE, "--format", "csv").code == ExitCode.DONE
