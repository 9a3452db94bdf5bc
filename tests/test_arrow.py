"""Batches as Arrow data: what pyarrow and DuckDB make of them, value by value."""

from ipaddress import IPv4Address
from uuid import UUID

import pages
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import COLUMNS, INFO, SLICES, seeded

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
def test_the_schema_has_types_nullability_source_and_note_of_each_column(version: int) -> None:
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
            assert field.metadata == {b"source": info["source"].encode(), b"note": info["note"].encode()}


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


def test_a_stream_or_schema_that_nobody_consumes_leaves_nothing_behind() -> None:
    batch = seeded(50)
    alive = testing.live_counters()
    for source in (batch, batch[::2], batch.arrow(addresses="text", enums="name")):
        source.__arrow_c_schema__()
        source.__arrow_c_stream__()
        source.__arrow_c_stream__(None)
        pa.RecordBatchReader.from_stream(source).schema  # noqa: B018 - and not a row
    assert testing.live_counters() == alive


def test_a_stream_is_handed_over_once() -> None:
    capsule = seeded(5).__arrow_c_stream__()
    assert pa.RecordBatchReader._import_from_c_capsule(capsule).read_all().num_rows == 5
    with pytest.raises(pa.ArrowInvalid, match="released"):
        pa.RecordBatchReader._import_from_c_capsule(capsule)


def test_a_requested_schema_may_be_given() -> None:
    batch = seeded(5)
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
