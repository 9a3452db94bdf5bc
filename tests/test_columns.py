"""Columns: what the table of them says, values, slices, absence, and the raw cells behind the buffer protocol."""

import ctypes
import gc
import sys
from collections.abc import Sequence
from ctypes import POINTER, byref, c_char_p, c_int, c_ssize_t, c_void_p
from enum import IntEnum

import numpy as np
import pytest
from hypothesis import given, settings
from pages import Bundle, Context, Details, Identity, build
from support import COLUMNS, INFO, SLICES, seeded

import wfpsa
from wfpsa import enums, testing

# --- The table ------------------------------------------------------------------------------------

CONTEXT_TABLE = {
    "context_id": "Q",
    "has_inbound": "?",
    "has_outbound": "?",
    "ip_version": "B",
    "traffic_type": "B",
    "local_address": "16B",
    "remote_address": "16B",
    "local_port": "H",
    "remote_port": "H",
    "ip_protocol": "B",
    "local_interface_luid": "Q",
    "real_profile_id": "I",
    "traffic_differs": "?",
}
DIRECTION_TABLE = {
    "spi": "I",
    "ah_spi": "I",
    "sa_count": "B",
    "transform": "B",
    "auth_type": "B",
    "auth_config": "B",
    "cipher_type": "B",
    "cipher_config": "B",
    "ah_auth_type": "B",
    "ah_auth_config": "B",
    "bundle_flags": "I",
    "lifetime_seconds": "I",
    "lifetime_kilobytes": "I",
    "lifetime_packets": "I",
    "idle_timeout_seconds": "I",
    "nd_allow_clear_timeout_seconds": "I",
    "nap_context": "I",
    "qm_sa_id": "I",
    "mm_sa_id": "Q",
    "pfs_group": "B",
    "qm_filter_id": "Q",
    "lookup_context": "16B",
    "filter_id": "Q",
    "transport_filter_id": "Q",
    "udp_local_port": "H",
    "udp_remote_port": "H",
    "peer_private_address": "I",
    "key_module": "16B",
    "virtual_tunnel_id": "Q",
    "traffic_selector_id": "Q",
    "main_mode_target": "I",
    "extended_mode_target": "I",
}
TABLE = CONTEXT_TABLE | {f"{name}_{side}": form for side in ("in", "out") for name, form in DIRECTION_TABLE.items()}
WIDTHS = {"?": 1, "B": 1, "H": 2, "I": 4, "Q": 8, "16B": 16}
ENUMERATIONS = {
    "traffic_type": "TrafficType",
    "transform": "TransformType",
    "auth_type": "AuthType",
    "auth_config": "AuthConfig",
    "cipher_type": "CipherType",
    "cipher_config": "CipherConfig",
    "ah_auth_type": "AuthType",
    "ah_auth_config": "AuthConfig",
    "pfs_group": "PfsGroup",
}


def test_the_table_has_the_designs_columns_in_order_and_352_bytes_a_context() -> None:
    assert list(INFO) == list(TABLE) == list(COLUMNS[1])
    assert {name: info["width"] for name, info in INFO.items()} == {name: WIDTHS[TABLE[name]] for name in TABLE}
    assert sum(info["width"] for info in INFO.values()) == 352


def test_the_table_says_which_columns_version_0_has() -> None:
    assert tuple(name for name, info in INFO.items() if info["version"] == 0) == COLUMNS[0]


def test_the_table_names_direction_attribute_and_enumeration_of_each_column() -> None:
    for name, info in INFO.items():
        stem, _, suffix = name.rpartition("_")
        side = suffix if suffix in ("in", "out") else None
        assert info["direction"] == side
        assert info["attribute"] == (stem if side else name)
        assert info["enumeration"] == ENUMERATIONS.get(info["attribute"])
        assert info["source"] and info["note"]


# --- The buffer -----------------------------------------------------------------------------------


def test_the_buffer_has_the_tables_format_and_shape_and_is_read_only() -> None:
    batch = seeded(100, odd=True)
    for name, form in TABLE.items():
        view = memoryview(batch[name])
        wide = form == "16B"
        assert view.format == batch[name].format == form[-1], name
        assert view.itemsize == (1 if wide else WIDTHS[form])
        assert view.shape == ((100, 16) if wide else (100,))
        assert view.strides == ((16, 1) if wide else (WIDTHS[form],))
        assert view.nbytes == 100 * WIDTHS[form]
        assert view.readonly and view.c_contiguous and view.contiguous
        assert view.f_contiguous is not wide


def test_numpy_sees_the_same_memory_without_a_copy_and_may_not_write() -> None:
    batch = seeded(50)
    for name in batch.columns:
        array, again, part = np.asarray(batch[name]), np.asarray(batch[name]), np.asarray(batch[name][10:20:3])
        assert array.__array_interface__["data"][0] == again.__array_interface__["data"][0]
        assert np.shares_memory(array, part) and np.array_equal(array[10:20:3], part)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_two_batches_share_no_memory_and_a_slice_of_one_shares_its() -> None:
    batch = seeded(10)
    assert np.shares_memory(np.asarray(batch["spi_in"]), np.asarray(batch[2:]["spi_in"]))
    assert not np.shares_memory(np.asarray(batch["spi_in"]), np.asarray(batch.take(range(10))["spi_in"]))


def test_an_empty_column_has_an_empty_buffer() -> None:
    for batch in (seeded(0), seeded(9)[4:4], seeded(9)[:0][::-1]):
        for name, form in TABLE.items():
            view = memoryview(batch[name])
            assert view.shape == ((0, 16) if form == "16B" else (0,))
            assert view.tobytes() == b"" and batch[name].tolist() == []
            assert np.asarray(batch[name]).size == 0


def test_columns_cannot_be_written_through_any_interface() -> None:
    column = seeded(3)["spi_in"]
    with pytest.raises(TypeError, match="item assignment"):
        column[0] = 1  # type: ignore[index]
    with pytest.raises(TypeError):
        (ctypes.c_char * 4).from_buffer(column)
    with pytest.raises(TypeError):
        memoryview(column)[0] = 1
    with pytest.raises(AttributeError):
        column.name = "x"  # type: ignore[misc]


def test_a_column_and_its_views_keep_the_cells_alive() -> None:
    column = seeded(100)["spi_in"]
    expected = memoryview(column).tolist()
    part, array, view = column[::3], np.asarray(column), memoryview(column)
    del column
    gc.collect()
    assert memoryview(part).tolist() == expected[::3]
    assert array.tolist() == view.tolist() == expected


class PyBuffer(ctypes.Structure):
    """Py_buffer, as every CPython from 3.11 on has it."""

    _fields_ = [
        ("buf", c_void_p),
        ("obj", ctypes.py_object),
        ("len", c_ssize_t),
        ("itemsize", c_ssize_t),
        ("readonly", c_int),
        ("ndim", c_int),
        ("format", c_char_p),
        ("shape", POINTER(c_ssize_t)),
        ("strides", POINTER(c_ssize_t)),
        ("suboffsets", POINTER(c_ssize_t)),
        ("internal", c_void_p),
    ]


WRITABLE, FORMAT, ND, STRIDES = 0x1, 0x4, 0x8, 0x18
C_CONTIGUOUS, F_CONTIGUOUS, ANY_CONTIGUOUS, INDIRECT = 0x38, 0x58, 0x98, 0x118
REQUESTS = [
    extra | request
    for extra in (0, FORMAT)
    for request in (0, ND, STRIDES, C_CONTIGUOUS, F_CONTIGUOUS, ANY_CONTIGUOUS, INDIRECT)
]


def granted(exporter: object, flags: int) -> dict[str, object] | None:
    """What an exporter answers to a request, None for a refusal."""
    get = ctypes.pythonapi.PyObject_GetBuffer
    get.argtypes, get.restype = [ctypes.py_object, POINTER(PyBuffer), c_int], c_int
    buffer = PyBuffer()
    try:
        get(exporter, byref(buffer), flags)
    except (BufferError, ValueError):
        return None
    answer: dict[str, object] = {
        "address": buffer.buf if buffer.len else None,
        "length": buffer.len,
        "readonly": buffer.readonly,
        "itemsize": buffer.itemsize,
        "format": bool(buffer.format),
        "shape": buffer.shape[: buffer.ndim] if buffer.shape else None,
        "strides": bool(buffer.strides),
        "suboffsets": bool(buffer.suboffsets),
    }
    ctypes.pythonapi.PyBuffer_Release(byref(buffer))
    return answer


@pytest.mark.parametrize("name", ["context_id", "has_inbound", "remote_address", "lookup_context_out"])
def test_every_request_for_a_buffer_is_answered_as_numpy_answers_it(name: str) -> None:
    whole = seeded(20)[name]
    parts = (
        slice(None),
        slice(3, 9),
        slice(None, None, 2),
        slice(None, None, -1),
        slice(4, 5),
        slice(2, 3, 7),
        slice(0),
    )
    for part in parts:
        column = whole[part]
        array = np.asarray(whole)[part]
        for flags in REQUESTS:
            assert granted(column, flags) == granted(array, flags), (part, flags)
            assert granted(column, flags | WRITABLE) is None


# --- Values ---------------------------------------------------------------------------------------


def test_indexing_iterating_and_tolist_agree_and_negative_indices_count_from_the_end() -> None:
    batch = seeded(60, odd=True)
    for name in batch.columns:
        column = batch[name]
        listed = column.tolist()
        assert len(column) == len(listed) == 60
        assert [column[at] for at in range(60)] == list(column) == listed
        assert [column[at - 60] for at in range(60)] == listed
        assert list(reversed(column)) == listed[::-1]


def test_an_index_out_of_range_is_an_index_error() -> None:
    column = seeded(60)["spi_in"]
    for index in (60, -61, 2**31, -(2**63)):
        with pytest.raises(IndexError, match="out of range for a column of 60"):
            column[index]


def test_an_index_that_no_machine_word_holds_is_an_index_error_too() -> None:
    for index in (2**63, -(2**63) - 1, 10**30):
        with pytest.raises(IndexError):
            seeded(60)["spi_in"][index]


def test_an_index_of_another_type_is_a_type_error() -> None:
    for index in ("0", 1.0, None, (0, 1)):
        with pytest.raises(TypeError):
            seeded(3)["spi_in"][index]  # type: ignore[call-overload]


def test_values_have_the_types_that_the_table_says() -> None:
    kinds: dict[str, tuple[type, ...]] = {"bool": (bool,), "enum": (int, IntEnum), "text": (str,)}
    kinds |= {"address": (bytes,), "guid": (bytes,)}
    batch = seeded(400, odd=True)
    for name in batch.columns:
        info = INFO[name]
        for value in batch[name]:
            if value is None:
                continue
            assert isinstance(value, kinds.get(info["kind"], (int,))), name
            assert isinstance(value, bool) == (info["kind"] == "bool")
            if info["kind"] == "enum":
                enumeration = getattr(enums, info["enumeration"])
                assert type(value) is (enumeration if value in list(enumeration) else int)
            if info["width"] == 16:
                assert len(value) == 16


@settings(max_examples=60, deadline=None)
@given(first=SLICES, second=SLICES)
def test_slices_of_slices_are_what_lists_make_of_them(first: slice, second: slice) -> None:
    batch = seeded(30, odd=True)
    for name in ("context_id", "remote_address", "traffic_differs", "main_mode_target_out"):
        column = batch[name]
        expected = column.tolist()[first][second]
        raw = memoryview(column).tolist()[first][second]
        assert column[first][second].tolist() == expected
        assert memoryview(column[first][second]).tolist() == raw
        assert np.asarray(column[first][second]).tolist() == raw
        assert bytes(column[first][second]) == np.asarray(column)[first][second].tobytes()
        assert batch[first][second][name].tolist() == expected


def test_a_slice_keeps_name_format_and_strings() -> None:
    column = seeded(20)["main_mode_target_in"]
    part = column[5:15:2]
    assert (part.name, part.format, part.strings) == (column.name, column.format, column.strings)


def test_a_column_is_a_sequence_with_index_count_and_contains() -> None:
    column = seeded(100, odd=True)["transform_out"]
    listed = column.tolist()
    assert isinstance(column, Sequence)
    assert wfpsa.TransformType.ESP_AUTH in column and 77 not in column and None in column
    for value in set(listed):
        assert column.count(value) == listed.count(value)
        assert column.index(value) == listed.index(value)
        last = len(listed) - 1 - listed[::-1].index(value)
        assert column.index(value, last) == column.index(value, last - 100, 1000) == last
    with pytest.raises(ValueError, match="77 is not in column 'transform_out'"):
        column.index(77)
    with pytest.raises(ValueError):
        column.index(listed[0], 0, 0)
    assert column.count(77) == 0


def test_subscribing_the_class_is_for_annotations() -> None:
    assert wfpsa.Column[int].__origin__ is wfpsa.Column


@pytest.mark.parametrize(("count", "shown"), [(0, "[]"), (2, "[1, 2]"), (3, "[1, 2, 3]"), (4, "[1, 2, 3, ...]")])
def test_repr_shows_the_name_the_length_and_the_first_values(count: int, shown: str) -> None:
    page = build([Context(context_id=n + 1) for n in range(count)], 1)
    batch = testing.decode_page(page.address, count)
    assert repr(batch["context_id"]) == f"<Column context_id of {count}: {shown}>"


# --- Text -----------------------------------------------------------------------------------------


def test_raw_cells_of_text_are_codes_into_strings() -> None:
    batch = seeded(300, odd=True)
    for name in batch.columns:
        column = batch[name]
        if INFO[name]["kind"] != "text":
            assert column.strings is None
            continue
        strings = column.strings
        assert strings is not None and strings[0] is None and None not in strings[1:]
        assert [strings[code] for code in memoryview(column)] == column.tolist() == list(column)


def test_a_text_that_occurs_twice_is_one_object_in_a_list() -> None:
    details = Details(bundle=Bundle(identity=Identity(main_mode_target="host name", extended_mode_target="host name")))
    page = build([Context(inbound=details), Context(inbound=details)], 1)
    first, second = testing.decode_page(page.address, 2)["main_mode_target_in"].tolist()
    assert first == "host name" and first is second


# --- Absence --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 1])
def test_absent_cells_are_0_in_the_buffer_and_255_for_enumerations(version: int) -> None:
    batch = seeded(1500, 3, odd=True, version=version)
    for name in batch.columns:
        absent = 255 if INFO[name]["kind"] == "enum" else 0
        raw = np.asarray(batch[name])
        missing = np.array([value is None for value in batch[name].tolist()])
        assert (raw[missing] == absent).all(), name
        if INFO[name]["absence"] in ("zero", "255"):
            present = (raw != absent) if raw.ndim == 1 else (raw != absent).any(1)
            assert (present == ~missing).all(), name


@pytest.mark.parametrize("version", [0, 1])
def test_what_is_absent_is_what_the_tables_rule_says(version: int) -> None:
    batch = seeded(1500, 4, odd=True, version=version)
    inside, outside = batch["has_inbound"].tolist(), batch["has_outbound"].tolist()
    direction = {"in": inside, "out": outside}
    seen = set()
    for name in batch.columns:
        info = INFO[name]
        missing = [value is None for value in batch[name].tolist()]
        if info["absence"] == "never":
            assert not any(missing), name
        elif info["absence"] == "no SA":
            assert missing == [not (i or o) for i, o in zip(inside, outside, strict=True)], name
        elif info["absence"] == "no address":
            assert missing == [version not in (4, 6) for version in batch["ip_version"].tolist()], name
        elif info["absence"] == "no SA in this direction":
            assert missing == [not there for there in direction[info["direction"]]], name
        elif info["absence"] == "no first SA":
            transforms = batch[f"transform_{info['direction']}"].tolist()
            assert missing == [transform is None for transform in transforms], name
        elif info["absence"] == "no second SA":
            counts = batch[f"sa_count_{info['direction']}"].tolist()
            first = batch[f"spi_{info['direction']}"].tolist()
            assert missing == [(count or 0) < 2 or spi is None for count, spi in zip(counts, first, strict=True)], name
        else:
            assert info["absence"] in ("zero", "255"), name
        seen.add(info["absence"])
    assert len(seen) == 8


def test_zero_is_a_value_where_the_rule_says_so() -> None:
    page = build([Context(context_id=0, outbound=Details(bundle=Bundle(qm_sa_id=0, mm_sa_id=0)))], 1)
    batch = testing.decode_page(page.address, 1)
    for name in ("context_id", "remote_port", "qm_sa_id_out", "mm_sa_id_out", "lifetime_seconds_out", "filter_id_out"):
        assert batch[name][0] == 0 and batch[name][0] is not None, name


def test_cells_are_in_native_byte_order() -> None:
    page = build([Context(context_id=0x0102030405060708)], 1)
    column = testing.decode_page(page.address, 1)["context_id"]
    assert int.from_bytes(bytes(column), sys.byteorder) == 0x0102030405060708
