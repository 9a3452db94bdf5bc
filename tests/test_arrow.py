"""Batches as Arrow data: what pyarrow, polars, pandas, DuckDB and nanoarrow make of them, value by value."""

import gc
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any
from uuid import UUID

import pages
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import COLUMNS, INFO, SLICES, seeded, values

import wfpsa
from wfpsa import testing

pa = pytest.importorskip("pyarrow")

TYPES = {"bool": "bool", "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64"}
TYPES |= {"enum": "uint8", "ipv4": "uint32", "address": "fixed_size_binary[16]", "guid": "fixed_size_binary[16]"}
TYPES |= {"text": "dictionary<values=string, indices=uint32, ordered=0>"}
READABLE_TYPES = TYPES | dict.fromkeys(("ipv4", "address", "guid"), "large_string")
READABLE_TYPES |= {"enum": "dictionary<values=string, indices=uint8, ordered=0>"}


def readable(batch: wfpsa.SaBatch, name: str) -> list[object]:
    """The values of a column as people read them."""
    shown: list[object] = []
    for context in batch:
        value = getattr(context, name)
        if INFO[name]["kind"] == "enum":
            value = getattr(value, "name", None if value is None else str(value))
        elif INFO[name]["kind"] in ("address", "guid", "ipv4"):
            assert value is None or not isinstance(value, str)
            value = None if value is None else str(value)
        shown.append(value)
    return shown


def assert_arrow_equals(batch: wfpsa.SaBatch) -> None:
    """The default and the readable form have the batch's values, and are well-formed."""
    table = pa.table(batch)
    table.validate(full=True)
    assert table.column_names == list(batch.columns) and table.num_rows == len(batch)
    text = pa.table(batch.arrow(addresses="text", enums="name"))
    text.validate(full=True)
    assert text.column_names == list(batch.columns) and text.num_rows == len(batch)
    for name in batch.columns:
        listed = batch[name].tolist()
        assert table[name].to_pylist() == listed, name
        assert table[name].null_count == text[name].null_count == listed.count(None), name
        assert text[name].to_pylist() == readable(batch, name), name


@pytest.mark.parametrize("version", [0, 1])
def test_every_column_equals_its_arrow_array_nulls_included(version: int) -> None:
    batch = seeded(700, 1, odd=True, version=version)
    for part in (batch, batch[3:600], batch[::-7], batch[8:9], batch[:0], batch[:0][::-1], batch[640::2]):
        assert_arrow_equals(part)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), version=st.sampled_from([0, 1]), part=SLICES)
def test_any_page_and_any_part_of_it_equals_its_arrow_arrays(data: st.DataObject, version: int, part: slice) -> None:
    page = pages.build(data.draw(pages.strategy(version)), version)
    assert_arrow_equals(testing.decode_page(page.address, page.count, version)[part])


@pytest.mark.parametrize("addresses", ["binary", "text"])
@pytest.mark.parametrize("enums", ["integer", "name"])
def test_each_option_changes_its_own_columns_only(addresses: str, enums: str) -> None:
    batch = seeded(100, odd=True)
    table = pa.table(batch.arrow(addresses=addresses, enums=enums))
    for name in batch.columns:
        kind = INFO[name]["kind"]
        changed = addresses == "text" if kind in ("address", "guid", "ipv4") else kind == "enum" and enums == "name"
        types = READABLE_TYPES if changed else TYPES
        assert str(table.schema.field(name).type) == types[kind], name
        assert table[name].to_pylist() == (readable(batch, name) if changed else batch[name].tolist()), name


def test_text_of_addresses_is_that_of_ipaddress_for_every_shape_of_zero_runs() -> None:
    patterns = [n.to_bytes(2, "big") for n in range(256)]
    addresses = [b"".join(b"\x0a\xbc" if bit == "1" else b"\0\0" for bit in f"{n:08b}") for n in range(256)]
    addresses += [bytes(10) + b"\xff\xff" + tail + tail for tail in patterns[::16]]
    addresses += [bytes(12) + tail + tail for tail in patterns[::16]] + [bytes(range(16)), b"\xff" * 16]
    traffics = [pages.Traffic(ip_version=1, local=address, remote=address[::-1]) for address in addresses]
    contexts = [pages.Context(outbound=pages.Details(traffic=traffic)) for traffic in traffics]
    page = pages.build(contexts, 1)
    batch = testing.decode_page(page.address, page.count)
    table = pa.table(batch.arrow(addresses="text"))
    for name in ("local_address", "remote_address"):
        assert table[name].to_pylist() == [str(getattr(context, name)) for context in batch]


def test_text_of_guids_and_private_addresses_is_that_of_their_objects() -> None:
    key = bytes(range(0x10, 0x20))
    bundle = pages.Bundle(key_module=pages.KeyModule(key=key), peer_private_address=0xC0A80AFF)
    page = pages.build([pages.Context(inbound=pages.Details(bundle=bundle))], 1)
    table = pa.table(testing.decode_page(page.address, 1).arrow(addresses="text"))
    assert table["key_module_in"].to_pylist() == [str(UUID(bytes_le=key))]
    assert table["peer_private_address_in"].to_pylist() == [str(IPv4Address(0xC0A80AFF))]


def test_numbers_are_not_copied() -> None:
    batch = seeded(100)
    array = pa.table(batch)["context_id"].chunk(0)
    assert array.buffers()[1].address == memoryview_address(batch["context_id"])
    part = pa.table(batch[40:])["context_id"].chunk(0)
    assert part.buffers()[1].address + part.offset * 8 == memoryview_address(batch["context_id"]) + 40 * 8


def memoryview_address(column: wfpsa.Column[int]) -> int:
    return int(pa.py_buffer(column).address)


@pytest.mark.parametrize("version", [0, 1])
def test_the_schema_has_types_nullability_source_note_and_unit_of_each_column(version: int) -> None:
    batch = seeded(1, version=version)
    for table, types in (
        (pa.table(batch), TYPES),
        (pa.table(batch.arrow(addresses="text", enums="name")), READABLE_TYPES),
    ):
        assert tuple(table.schema.names) == COLUMNS[version]
        for name in batch.columns:
            field, info = table.schema.field(name), INFO[name]
            assert str(field.type) == types[info["kind"]], name
            assert field.nullable is (info["absence"] != "never"), name
            expected = {b"source": info["source"].encode(), b"note": info["note"].encode()}
            if unit := next((unit for unit in ("seconds", "kilobytes", "packets") if f"_{unit}" in name), None):
                expected[b"unit"] = unit.encode()
            assert field.metadata == expected, name


def test_the_schema_alone_is_the_streams() -> None:
    batch = seeded(5)
    assert pa.schema(batch).equals(pa.table(batch).schema, check_metadata=True)
    view = batch.arrow(addresses="text", enums="name")
    assert pa.schema(view).equals(pa.table(view).schema, check_metadata=True)
    assert not pa.schema(view).equals(pa.schema(batch))


def test_a_consumer_outlives_the_batch() -> None:
    batch = seeded(200, 2, odd=True)
    expected = {name: batch[name].tolist() for name in batch.columns}
    table, part = pa.table(batch), pa.table(batch[50:60])["main_mode_target_out"]
    reader = pa.RecordBatchReader.from_stream(batch)
    del batch
    assert {name: table[name].to_pylist() for name in table.column_names} == expected
    assert part.to_pylist() == expected["main_mode_target_out"][50:60]
    assert reader.read_all().equals(table)


def test_a_batch_can_be_consumed_again_and_again() -> None:
    batch = seeded(50)
    view = batch.arrow(enums="name")
    assert pa.table(batch).equals(pa.table(batch))
    assert pa.table(view).equals(pa.table(view))
    reader = pa.RecordBatchReader.from_stream(batch)
    assert [chunk.num_rows for chunk in reader] == [50]
    with pytest.raises(StopIteration):
        reader.read_next_batch()


def test_what_nobody_consumes_leaves_nothing_behind() -> None:
    batch = seeded(50)
    alive = testing.live_counters()
    for source in (batch, batch[::2], batch.arrow(addresses="text", enums="name")):
        source.__arrow_c_schema__()
        source.__arrow_c_array__()
        source.__arrow_c_array__(None)
        source.__arrow_c_stream__()
        source.__arrow_c_stream__(None)
        pa.RecordBatchReader.from_stream(source).schema  # noqa: B018 - and not a row
    assert testing.live_counters() == alive


def test_a_stream_is_handed_over_once() -> None:
    capsule = seeded(5).__arrow_c_stream__()
    assert pa.RecordBatchReader._import_from_c_capsule(capsule).read_all().num_rows == 5
    with pytest.raises(pa.ArrowInvalid, match="released"):
        pa.RecordBatchReader._import_from_c_capsule(capsule)


def test_an_array_is_handed_over_once() -> None:
    schema, array = seeded(5).__arrow_c_array__()
    assert pa.RecordBatch._import_from_c_capsule(schema, array).num_rows == 5
    schema, _ = seeded(5).__arrow_c_array__()
    with pytest.raises(pa.ArrowInvalid, match="released"):
        pa.RecordBatch._import_from_c_capsule(schema, array)


def test_the_array_is_the_chunk_of_the_stream_and_is_not_copied_either() -> None:
    batch = seeded(300, 4, odd=True)
    for part in (batch, batch[40:90], batch[::-3], batch[:0]):
        for source in (part, part.arrow(addresses="text", enums="name")):
            found = pa.record_batch(source)
            found.validate(full=True)
            assert found.schema.equals(pa.schema(source), check_metadata=True)
            assert pa.Table.from_batches([found]).equals(pa.table(source))
    assert pa.record_batch(batch)["context_id"].buffers()[1].address == memoryview_address(batch["context_id"])


def test_a_record_batch_outlives_the_batch() -> None:
    batch = seeded(200, 2, odd=True)
    expected = values(batch)
    record_batch = pa.record_batch(batch[::-1])
    column = pa.record_batch(batch)["main_mode_target_out"]
    del batch
    assert {name: record_batch[name].to_pylist()[::-1] for name in record_batch.schema.names} == expected
    assert column.to_pylist() == expected["main_mode_target_out"]


def test_no_text_occurs_twice_in_a_dictionary() -> None:
    lone = ("lone \ud83d", "lone \ude00", "lone \ufffd", "\ud83d\ud83d\ude00", "\ufffd\U0001f600", "", "plain")
    identities = [pages.Identity(main_mode_target=name) for name in (*lone, None)]
    contexts = [
        pages.Context(outbound=pages.Details(bundle=pages.Bundle(identity=identity))) for identity in identities
    ]
    page = pages.build(contexts, 1)
    batch = testing.decode_page(page.address, page.count)
    expected = [*["lone \ufffd"] * 3, *["\ufffd\U0001f600"] * 2, "", "plain", None]
    assert batch["main_mode_target_out"].tolist() == expected
    for part in (batch, batch[6:], batch[:0]):
        table = pa.table(part)
        table.validate(full=True)
        assert table["main_mode_target_out"].to_pylist() == part["main_mode_target_out"].tolist()
        dictionary = table["main_mode_target_out"].chunk(0).dictionary.to_pylist() if len(part) else []
        assert len(set(dictionary)) == len(dictionary)


def test_a_requested_schema_may_be_given() -> None:
    batch = seeded(5)
    assert [type(part).__name__ for part in batch.__arrow_c_array__(requested_schema=None)] == ["PyCapsule"] * 2
    assert "arrow_array_stream" in repr(
        batch.__arrow_c_stream__(requested_schema=pa.schema(batch).__arrow_c_schema__())
    )


def test_unknown_forms_are_value_errors_and_positions_type_errors() -> None:
    batch = seeded(1)
    for wrong in ("", "Text", "integer", None, 1, b"text"):
        with pytest.raises(ValueError, match=r"addresses must be 'binary' or 'text', not"):
            batch.arrow(addresses=wrong)
    for wrong in ("", "names", "text", None, 1):
        with pytest.raises(ValueError, match=r"enums must be 'integer' or 'name', not"):
            batch.arrow(enums=wrong)
    with pytest.raises(TypeError):
        batch.arrow("text")
    with pytest.raises(TypeError):
        batch.arrow(ports="name")


def test_duckdb_takes_a_batch_as_it_is() -> None:
    duckdb = pytest.importorskip("duckdb")
    batch = seeded(2000, 3, odd=True)
    with duckdb.connect() as connection:
        connection.register("contexts", batch)
        connection.register("readable", batch.arrow(addresses="text", enums="name"))
        found = connection.execute("SELECT context_id, spi_out, main_mode_target_out FROM contexts").fetchall()
        expected = [batch[name].tolist() for name in ("context_id", "spi_out", "main_mode_target_out")]
        assert found == list(zip(*expected, strict=True))
        (count,) = connection.execute("SELECT count(*) FROM contexts WHERE spi_in IS NULL").fetchone()
        assert count == batch["spi_in"].count(None)
        rows = connection.execute("SELECT remote_address, transform_out, key_module_out FROM readable").fetchall()
        names = ("remote_address", "transform_out", "key_module_out")
        assert rows == list(zip(*(readable(batch, name) for name in names), strict=True))
        connection.unregister("contexts")
        connection.unregister("readable")


# --- Five consumers -------------------------------------------------------------------------------

Source = Any  # a batch, or what arrow() gives
Values = dict[str, list[object]]


def pyarrow_table(source: Source) -> Callable[[], Values]:
    table = pa.table(source)
    return lambda: {name: table[name].to_pylist() for name in table.column_names}


def pyarrow_record_batch(source: Source) -> Callable[[], Values]:
    record_batch = pa.record_batch(source)
    return lambda: {name: record_batch[name].to_pylist() for name in record_batch.schema.names}


def polars_frame(source: Source) -> Callable[[], Values]:
    import polars as pl

    # A batch is a sequence as well, and that is what polars would take it for.
    frame = pl.DataFrame(source.arrow() if isinstance(source, wfpsa.SaBatch) else source)
    return lambda: {name: frame[name].to_list() for name in frame.columns}


def polars_scan(source: Source) -> Callable[[], Values]:
    import polars as pl

    frame = pl.scan_arrow_c_stream(source).collect()
    return lambda: {name: frame[name].to_list() for name in frame.columns}


def pandas_frame(source: Source) -> Callable[[], Values]:
    import pandas as pd

    frame = pd.DataFrame.from_arrow(source)
    return lambda: {
        name: [None if pd.isna(value) else value for value in frame[name].tolist()] for name in frame.columns
    }


def duckdb_relation(source: Source) -> Callable[[], Values]:
    import duckdb

    connection = duckdb.connect()
    connection.register("contexts", source)

    def read() -> Values:
        with connection:
            found = connection.execute("SELECT * FROM contexts")
            names = [column[0] for column in found.description]
            rows = found.fetchall()
            connection.unregister("contexts")
        return {name: [row[at] for row in rows] for at, name in enumerate(names)}

    return read


def children_of(array: Any) -> Values:
    """The columns of a nanoarrow.Array of structs."""
    pairs = zip(array.schema.fields, array.iter_children(), strict=True)
    return {field.name: column.to_pylist() if len(column) else [] for field, column in pairs}


def nanoarrow_array(source: Source) -> Callable[[], Values]:
    import nanoarrow as na

    array = na.Array(source)
    return lambda: children_of(array)


def nanoarrow_stream(source: Source) -> Callable[[], Values]:
    import nanoarrow as na

    stream = na.ArrayStream(source)

    return lambda: children_of(stream.read_all())


CONSUMERS = pytest.mark.parametrize(
    "consume",
    [
        pyarrow_table,
        pyarrow_record_batch,
        pytest.param(polars_frame, marks=pytest.mark.needs_polars),
        pytest.param(polars_scan, marks=pytest.mark.needs_polars),
        pytest.param(pandas_frame, marks=pytest.mark.needs_pandas),
        duckdb_relation,
        pytest.param(nanoarrow_array, marks=pytest.mark.needs_nanoarrow),
        pytest.param(nanoarrow_stream, marks=pytest.mark.needs_nanoarrow),
    ],
    ids=lambda consume: consume.__name__,
)


def assert_same(found: Values, expected: Values, *, floats: bool = False) -> None:
    """The same columns and values; with `floats` a number beside an absent one has the precision of a float."""
    assert list(found) == list(expected)
    for name, wanted in expected.items():
        if floats and None in wanted:
            wanted = [float(value) if type(value) is int else value for value in wanted]
        assert found[name] == wanted, name


@CONSUMERS
@pytest.mark.parametrize("version", [0, 1])
def test_every_consumer_reads_every_value_of_every_part(
    consume: Callable[[Source], Callable[[], Values]], version: int
) -> None:
    batch = seeded(300, 6, odd=True, version=version)
    floats = consume is pandas_frame
    for part in (batch, batch[7:200], batch[::-3], batch[11:12], batch[:0], batch.take([5, 5, 0])):
        assert_same(consume(part)(), values(part), floats=floats)
        shown = {name: readable(part, name) for name in part.columns if INFO[name]["kind"] in ("ipv4", "guid", "enum")}
        found = consume(part.arrow(addresses="text", enums="name"))()
        assert_same({name: found[name] for name in shown}, shown)


@CONSUMERS
def test_every_consumer_reads_a_projection(
    consume: Callable[[Source], Callable[[], Values]], embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    embedded.seed(100, 3, odd=True)
    for fields in (wfpsa.CORE_FIELDS, ["main_mode_target_in"], ["context_id", "transform_out", "udp_local_port_in"]):
        batch = engine.snapshot(fields=fields)
        assert_same(consume(batch)(), values(batch), floats=consume is pandas_frame)


@CONSUMERS
def test_what_a_consumer_holds_outlives_the_engine_and_the_batch(
    consume: Callable[[Source], Callable[[], Values]],
) -> None:
    with wfpsa.open_engine("embedded:?contexts=150&seed=9&odd=1") as engine:
        batch = engine.snapshot()
    expected = values(batch)
    read, read_part = consume(batch), consume(batch[10:20].arrow(enums="name"))
    del engine, batch
    gc.collect()
    assert_same(read(), expected, floats=consume is pandas_frame)
    assert read_part()["context_id"] == expected["context_id"][10:20]


@CONSUMERS
def test_a_consumer_may_take_a_batch_twice_and_read_neither(
    consume: Callable[[Source], Callable[[], Values]],
) -> None:
    batch = seeded(60, 9, odd=True)
    view = batch.arrow(addresses="text")
    for source in (batch, view):
        first, second = consume(source), consume(source)
        assert first()["context_id"] == second()["context_id"] == batch["context_id"].tolist()
        consume(source)
    del first, second, batch, view, source


@pytest.mark.needs_pandas
def test_pandas_keeps_numbers_and_absence_apart_with_the_types_of_arrow() -> None:
    import pandas as pd

    batch = seeded(200, 6, odd=True)
    frame = pa.table(batch).to_pandas(types_mapper=pd.ArrowDtype)
    for name in batch.columns:
        assert [None if value is pd.NA else value for value in frame[name].tolist()] == batch[name].tolist(), name
