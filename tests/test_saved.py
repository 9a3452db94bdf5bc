"""Saved batches: what comes back is what was saved, and what is no saved batch is refused with a reason."""

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pages
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import INFO, SLICES, run_python, seeded, values

import wfpsa
from wfpsa import testing

pa = pytest.importorskip("pyarrow")


VERSIONS = pytest.mark.parametrize("version", [0, 1])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recording.arrow"


def assert_same(loaded: wfpsa.SaBatch, batch: wfpsa.SaBatch) -> None:
    """The same in all that a batch says of itself, and in the raw cells."""
    assert (loaded.columns, loaded.version) == (batch.columns, batch.version)
    assert (loaded.backend, loaded.pushed_down) == (batch.backend, batch.pushed_down)
    assert values(loaded) == values(batch)
    for name in batch.columns:
        if INFO[name]["kind"] != "text":
            assert bytes(memoryview(loaded[name])) == memoryview(batch[name]).tobytes(), name
    assert list(loaded) == list(batch)


def rewritten(path: Path, change: Callable[[Any], Any]) -> None:
    """The file with another table in it, of which `change` makes the one that there was."""
    with pa.ipc.open_file(path.read_bytes()) as reader:
        table = change(reader.read_all())
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


def with_metadata(**facts: str | None) -> Callable[[Any], Any]:
    """A change of those metadata, None to leave one out."""

    def change(table: Any) -> Any:
        metadata = dict(table.schema.metadata)
        for name, fact in facts.items():
            metadata.pop(f"wfpsa.{name}".encode())
            if fact is not None:
                metadata[f"wfpsa.{name}"] = fact
        return table.replace_schema_metadata(metadata)

    return change


def with_column(name: str, make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A change of that column."""
    return lambda table: table.set_column(table.schema.get_field_index(name), name, make(table[name]))


def replaced(name: str, row: int, value: object) -> Callable[[Any], Any]:
    """A change of one value."""

    def make(column: Any) -> Any:
        listed = column.to_pylist()
        listed[row] = value
        return pa.array(listed, column.type)

    return with_column(name, make)


# --- What is saved comes back ---------------------------------------------------------------------


@VERSIONS
def test_a_loaded_batch_is_the_one_that_was_saved(path: Path, version: int) -> None:
    batch = seeded(700, 1, odd=True, version=version)
    for part in (batch, batch[3:600], batch[::-7], batch[8:9], batch[:0], batch.take([4, 4, 9])):
        part.save(path, overwrite=True)
        assert_same(wfpsa.SaBatch.load(path), part)
        assert_same(wfpsa.SaBatch.load(str(path)), part)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), version=st.sampled_from([0, 1]), part=SLICES)
def test_any_page_and_any_part_of_it_comes_back(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, version: int, part: slice
) -> None:
    page = pages.build(data.draw(pages.strategy(version)), version)
    batch = testing.decode_page(page.address, page.count, version)[part]
    path = tmp_path_factory.mktemp("saved") / "any.arrow"
    batch.save(path)
    assert_same(wfpsa.SaBatch.load(path), batch)


def test_a_projection_comes_back_with_its_absences(
    path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    embedded.seed(300, 4, odd=True)
    for fields in (wfpsa.CORE_FIELDS, ["context_id"], ["spi_in"], ["extended_mode_target_in", "ip_version"]):
        batch = engine.snapshot(fields=fields, remote="10.0.0.0/8")
        batch.save(path, overwrite=True)
        loaded = wfpsa.SaBatch.load(path)
        assert_same(loaded, batch)
        assert loaded.pushed_down is True
        for context, other in zip(loaded, batch, strict=True):
            assert (context.inbound is None, context.outbound is None) == (
                other.inbound is None,
                other.outbound is None,
            )


def test_saving_leaves_out_the_names_of_others(path: Path) -> None:
    batch = seeded(500, 2)
    name = next(name for name in batch["main_mode_target_out"] if name)
    kept = [row for row, found in enumerate(batch["main_mode_target_out"]) if found == name][:1]
    part = batch[kept[0] : kept[0] + 1]
    part.save(path)
    others = {text for text in batch["main_mode_target_out"].tolist() if text} - {name}
    assert name.encode() in path.read_bytes()
    assert not any(text.encode() in path.read_bytes() for text in others)
    assert set(filter(None, wfpsa.SaBatch.load(path)["main_mode_target_in"].strings)) <= {
        part[0].main_mode_target_in,
        part[0].main_mode_target_out,
        part[0].extended_mode_target_in,
        part[0].extended_mode_target_out,
    }


def test_a_loaded_batch_outlives_its_file_and_can_be_saved_and_pickled(path: Path) -> None:
    batch = seeded(50, odd=True)
    batch.save(path)
    loaded = wfpsa.SaBatch.load(path)
    path.unlink()
    assert_same(loaded, batch)
    loaded[::2].save(path)
    assert_same(wfpsa.SaBatch.load(path), batch[::2])


# --- What the file says to others -----------------------------------------------------------------


def test_any_arrow_reader_opens_the_file(path: Path) -> None:
    batch = seeded(100, 3, odd=True)
    batch.save(path)
    with pa.ipc.open_file(path.read_bytes()) as reader:
        table = reader.read_all()
    assert table.column_names == [*batch.columns, "presence"]
    assert {name: table[name].to_pylist() for name in batch.columns} == values(batch)
    assert table.schema.field("lifetime_seconds_out").metadata[b"unit"] == b"seconds"
    assert table.drop_columns("presence").replace_schema_metadata(None).equals(pa.table(batch))


@pytest.mark.needs_polars
def test_polars_reads_the_file_and_what_it_writes_of_it_is_refused(path: Path) -> None:
    import polars as pl

    batch = seeded(100, 3, odd=True)
    batch.save(path)
    frame = pl.read_ipc(path)
    assert {name: frame[name].to_list() for name in batch.columns} == values(batch)
    frame.write_ipc(path)
    with pytest.raises(ValueError, match=r"is not a saved batch: .*'wfpsa.schema_version'"):
        wfpsa.SaBatch.load(path)


@VERSIONS
def test_the_schema_tells_who_answered_when_and_in_which_versions(path: Path, version: int, backend: str) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    seeded(3, version=version).save(path)
    with pa.ipc.open_file(path.read_bytes()) as reader:
        metadata = {key.decode(): fact.decode() for key, fact in reader.schema.metadata.items()}
        presence = reader.schema.field("presence")
    created = datetime.fromisoformat(metadata.pop("wfpsa.created"))
    assert created.utcoffset() == timedelta(0) and before <= created <= datetime.now(UTC)
    assert metadata == {
        "wfpsa.schema_version": "1",
        "wfpsa.backend": backend,
        "wfpsa.structure_version": str(version),
        "wfpsa.pushed_down": "none",
    }
    assert str(presence.type) == "uint8" and b"0x01 inbound SA" in presence.metadata[b"note"]


@pytest.mark.parametrize("compression", ["zstd", "lz4", None])
def test_files_that_another_tool_compressed_and_cut_into_chunks_load(path: Path, compression: str | None) -> None:
    feather = pytest.importorskip("pyarrow.feather")
    batch = seeded(300, 3, odd=True)
    batch.save(path)
    with pa.ipc.open_file(path.read_bytes()) as reader:
        table = reader.read_all()
    for chunks in (300, 64, 1):
        feather.write_feather(table, path, compression=compression or "uncompressed", chunksize=chunks)
        assert_same(wfpsa.SaBatch.load(path), batch)


def test_files_whose_dictionaries_and_hidden_values_another_tool_changed_load(path: Path) -> None:
    batch = seeded(300, 3, odd=True)
    batch.save(path)

    def change(table: Any) -> Any:
        for at, field in enumerate(table.schema):
            listed = table[field.name].to_pylist()
            if pa.types.is_dictionary(field.type):  # other codes, another width of them
                made = pa.array(listed, pa.string()).dictionary_encode()
            else:  # other values under the nulls
                made = pa.array(listed, field.type)
            table = table.set_column(at, field.name, made)
        return table

    rewritten(path, change)
    assert_same(wfpsa.SaBatch.load(path), batch)
    rewritten(path, lambda table: table.select(["presence", *reversed(batch.columns)]))
    assert_same(wfpsa.SaBatch.load(path), batch)
    rewritten(path, lambda table: table.select(["presence", "transform_out", "context_id"]))
    loaded = wfpsa.SaBatch.load(path)
    assert values(loaded) == {name: batch[name].tolist() for name in ("context_id", "transform_out")}


# --- What is refused ------------------------------------------------------------------------------


def test_a_file_that_was_cut_off_anywhere_is_refused(path: Path) -> None:
    seeded(20, 3, odd=True).save(path)
    whole = path.read_bytes()
    alive = testing.live_counters()
    for length in {*range(64), *range(64, len(whole), 211), *range(len(whole) - 100, len(whole))}:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="is damaged: its end is missing" if length >= 6 else "no Arrow file"):
            wfpsa.SaBatch.load(path)
    assert testing.live_counters() == alive


def test_a_file_that_lacks_a_piece_within_is_refused(path: Path) -> None:
    seeded(20, 3, odd=True).save(path)
    whole = path.read_bytes()
    for length in range(8, len(whole) - 8, 97):
        path.write_bytes(whole[:length] + whole[-2048:])
        with pytest.raises(ValueError, match=r"is damaged|is not a saved batch"):
            wfpsa.SaBatch.load(path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_file_with_wrong_bytes_is_refused_or_gives_a_batch(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("saved") / "wrong.arrow"
    seeded(5, 3, odd=True).save(path)
    content = bytearray(path.read_bytes())
    for at, byte in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=8)):
        content[at] = byte
    path.write_bytes(content)
    try:
        batch = wfpsa.SaBatch.load(path)
    except ValueError as error:
        assert repr(str(path)) in str(error)
    else:
        assert len(values(batch)["context_id"]) == len(batch) if "context_id" in batch.columns else True
        pa.table(batch).validate(full=True)


def test_files_of_other_programs_are_refused(path: Path) -> None:
    table = pa.table({"context_id": pa.array([1], pa.uint64())})
    for content in (b"", b"ARROW1", b"PAR1 and so on", b"\0" * 5000, b"context_id\n1\n", os.urandom(5000)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"recording\.arrow' is (not a saved batch|damaged)"):
            wfpsa.SaBatch.load(path)
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ValueError, match="it is no Arrow file"):
        wfpsa.SaBatch.load(path)
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ValueError, match=r"its schema has no metadata 'wfpsa\.schema_version'"):
        wfpsa.SaBatch.load(path)


def test_a_file_of_a_newer_version_is_refused_by_its_version(path: Path) -> None:
    seeded(3).save(path)
    rewritten(path, with_metadata(schema_version="2"))
    with pytest.raises(ValueError, match="its schema version is 2, written by a newer wfpsa; this one reads 1"):
        wfpsa.SaBatch.load(path)
    rewritten(path, lambda table: table.append_column("a_column_of_the_future", pa.array([1, 2, 3])))
    with pytest.raises(ValueError, match="newer wfpsa"):
        wfpsa.SaBatch.load(path)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"schema_version": None}, "no metadata 'wfpsa.schema_version'"),
        ({"backend": None}, "no metadata 'wfpsa.backend'"),
        ({"structure_version": None}, "no metadata 'wfpsa.structure_version'"),
        ({"created": None}, "no metadata 'wfpsa.created'"),
        ({"pushed_down": None}, "no metadata 'wfpsa.pushed_down'"),
        ({"schema_version": "0"}, "schema version is '0'"),
        ({"schema_version": "one"}, "schema version is 'one'"),
        ({"schema_version": ""}, "schema version is ''"),
        ({"structure_version": "2"}, "structure version is '2', not 0 or 1"),
        ({"structure_version": "0"}, "no column 'local_port' in version 0"),
        ({"created": "yesterday"}, "yesterday"),
        ({"pushed_down": "True"}, "pushed_down is 'True'"),
    ],
)
def test_metadata_that_are_missing_or_wrong_are_refused(path: Path, facts: dict[str, str | None], message: str) -> None:
    seeded(3).save(path)
    rewritten(path, with_metadata(**facts))
    with pytest.raises(ValueError, match=message):
        wfpsa.SaBatch.load(path)


def other_type(column: Any) -> Any:
    return pa.array([str(value) for value in column.to_pylist()])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop_columns("presence"), "no column 'presence'"),
        (lambda table: table.select(["presence"]), "no column but 'presence'"),
        (lambda table: table.append_column("colour", pa.array([1] * 40)), "no column 'colour' in version 1"),
        (lambda table: table.append_column("spi_in", table["spi_in"]), "a column is there twice"),
        (with_column("spi_in", other_type), "column 'spi_in' is of type string, not uint32"),
        (with_column("spi_in", lambda column: column.cast(pa.uint64())), "'spi_in' is of type uint64, not uint32"),
        (
            with_column("has_inbound", lambda column: column.cast(pa.uint8())),
            "'has_inbound' is of type uint8, not bool",
        ),
        (with_column("presence", lambda column: column.cast(pa.int16())), "'presence' is of type int16, not uint8"),
        (with_column("local_address", lambda column: column.cast(pa.binary())), "'local_address' is of type binary"),
        (with_column("main_mode_target_in", other_type), "'main_mode_target_in' is of type string, not dictionary"),
        (
            with_column("main_mode_target_in", lambda column: pa.array([1] * 40).dictionary_encode()),
            "'main_mode_target_in' is of type dictionary<values=int64",
        ),
    ],
)
def test_columns_that_are_missing_unknown_or_of_another_type_are_refused(
    path: Path, change: Callable[[Any], Any], message: str
) -> None:
    seeded(40, 3).save(path)
    rewritten(path, change)
    with pytest.raises(ValueError, match=message):
        wfpsa.SaBatch.load(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("context_id", None),
        ("has_inbound", False),
        ("has_outbound", None),
        ("ip_version", 5),
        ("ip_version", None),
        ("ip_version", 254),
        ("transform_out", 255),
        ("remote_address", None),
        ("spi_in", None),
        ("sa_count_in", 0),
        ("sa_count_in", 2),
        ("sa_count_in", 255),
        ("udp_local_port_in", 0),
        ("lookup_context_in", bytes(16)),
        ("ah_spi_out", 1),
        ("main_mode_target_in", "a\0b"),
        ("presence", None),
        ("presence", 0),
        ("presence", 0x08),
        ("presence", 0x04),
        ("presence", 0x11),
        ("presence", 0x41),
        ("presence", 0x20 | 0x07),
        ("presence", 0x7F),
    ],
)
def test_values_that_contradict_the_rest_are_refused(path: Path, name: str, value: object) -> None:
    batch = seeded(40, 3)
    plain = [row for row, context in enumerate(batch) if context.sa_count_in == context.sa_count_out == 1]
    batch.save(path)
    rewritten(path, replaced(name, plain[0], value))
    with pytest.raises(ValueError, match=r"that no batch has|values where 'presence' has none|a name has a NUL in it"):
        wfpsa.SaBatch.load(path)


def test_codes_of_names_that_are_not_there_are_refused(path: Path) -> None:
    seeded(40, 3).save(path)

    def wild(column: Any) -> Any:
        codes = pa.array([99_999] * 40, pa.uint32())
        return pa.DictionaryArray.from_arrays(codes, column.chunk(0).dictionary, safe=False)

    rewritten(path, with_column("main_mode_target_in", wild))
    with pytest.raises(ValueError, match="out of bounds"):
        wfpsa.SaBatch.load(path)


def test_what_cannot_be_opened_is_the_error_of_the_os(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        wfpsa.SaBatch.load(tmp_path / "nothing")
    with pytest.raises(OSError):
        wfpsa.SaBatch.load(tmp_path)
    with pytest.raises(TypeError):
        wfpsa.SaBatch.load(None)


# --- How it is written ----------------------------------------------------------------------------


def test_a_file_is_replaced_only_where_that_is_asked_for(path: Path) -> None:
    first, second = seeded(3, 1), seeded(4, 2)
    first.save(path)
    content = path.read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True replaces it") as caught:
        second.save(path)
    assert caught.value.filename == str(path) and path.read_bytes() == content
    second.save(path, overwrite=True)
    assert_same(wfpsa.SaBatch.load(path), second)
    assert os.listdir(path.parent) == [path.name]
    with pytest.raises(FileExistsError):
        first.save(path.parent, overwrite=True)
    for wrong in (1, None, "yes"):
        with pytest.raises(TypeError, match="overwrite must be True or False"):
            first.save(path, overwrite=wrong)
    with pytest.raises(TypeError):
        first.save(path, True)


def test_a_file_that_comes_meanwhile_is_not_replaced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sync(handle: int) -> None:
        path.write_text("somebody else's")

    monkeypatch.setattr("wfpsa.saved.os.fsync", sync)
    with pytest.raises(FileExistsError):
        seeded(3).save(path)
    assert path.read_text() == "somebody else's" and os.listdir(path.parent) == [path.name]


def test_a_failure_leaves_no_file_and_the_old_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = seeded(3)

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(FileNotFoundError):
        batch.save(path.parent / "no folder" / "file")
    with monkeypatch.context() as patch:
        patch.setattr("wfpsa.saved.os.fsync", fail)
        with pytest.raises(OSError, match="No space left"):
            batch.save(path)
    assert os.listdir(path.parent) == []
    batch.save(path)
    with monkeypatch.context() as patch:
        patch.setattr("wfpsa.saved.os.fsync", fail)
        with pytest.raises(OSError, match="No space left"):
            seeded(9).save(path, overwrite=True)
    assert os.listdir(path.parent) == [path.name]
    assert_same(wfpsa.SaBatch.load(path), batch)


@pytest.mark.posix
def test_a_link_stays_a_link_and_rights_stay(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link, target = tmp_path / "link", tmp_path / "there" / "file"
    link.symlink_to(target)
    seeded(3).save(link)
    target.chmod(0o640)
    seeded(4).save(link, overwrite=True)
    assert link.is_symlink() and len(wfpsa.SaBatch.load(target)) == 4 and target.stat().st_mode & 0o777 == 0o640
    with pytest.raises(FileExistsError, match="not a regular file"):
        seeded(1).save(os.devnull, overwrite=True)


def test_a_process_that_is_killed_leaves_a_whole_file_or_none(path: Path) -> None:
    code = """
import os, sys, wfpsa
from wfpsa import saved
with wfpsa.open_engine("embedded:?contexts=1000") as engine:
    batch = engine.snapshot()
sync = os.fsync
def die(handle):
    sync(handle)
    os._exit(0)
batch.save(sys.argv[1])
saved.os.fsync = die
batch[:10].save(sys.argv[1], overwrite=True)
"""
    run_python(code, str(path))
    assert len(wfpsa.SaBatch.load(path)) == 1000


def test_without_pyarrow_the_error_says_what_to_install() -> None:
    code = """
import sys
sys.modules["pyarrow"] = None
import wfpsa
with wfpsa.open_engine("embedded:?contexts=3") as engine:
    batch = engine.snapshot()
for action in (lambda: batch.save("x"), lambda: wfpsa.SaBatch.load("x")):
    try:
        action()
    except ImportError as error:
        print(error)
"""
    said = "saving and loading batches needs pyarrow: python -m pip install 'wfpsa[arrow]'"
    assert run_python(code).splitlines() == [said, said]


def test_importing_the_package_does_not_import_pyarrow() -> None:
    assert run_python("import sys, wfpsa; print('pyarrow' in sys.modules)") == "False\n"
    assert "wfpsa.saved" in sys.modules
