"""Batches: sequences of contexts, their columns, slices, copies and pickles."""

import array
import copy
import ctypes
import gc
import operator
import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pages
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import Bundle, Context, Details, Identity, build
from support import COLUMNS, SLICES, run_python, seeded, values

import wfpsa
from wfpsa import _native, testing

# --- A sequence -----------------------------------------------------------------------------------


def test_a_batch_is_a_sequence_of_its_contexts() -> None:
    batch = seeded(100, odd=True)
    contexts = list(batch)
    assert isinstance(batch, Sequence)
    assert len(batch) == len(contexts) == 100
    assert [batch[at] for at in range(100)] == [batch[at - 100] for at in range(100)] == contexts
    assert list(reversed(batch)) == contexts[::-1]
    assert [context.context_id for context in batch] == batch["context_id"].tolist()


def test_contains_index_and_count_compare_contexts() -> None:
    batch = seeded(60)
    other = seeded(60, 1)[0]
    assert all(context.detach() in batch for context in batch)
    assert other not in batch and None not in batch and batch[0].context_id not in batch
    twice = batch.take([*range(60), *range(60)])
    assert [twice.index(context) for context in batch] == list(range(60))
    assert twice.index(batch[5], 6) == 65 == twice.index(batch[5], -60, 1000)
    assert twice.count(batch[5]) == 2 and twice.count(other) == 0
    with pytest.raises(ValueError, match="is not in this batch"):
        batch.index(other)
    with pytest.raises(ValueError):
        batch.index(batch[5], 6)


def test_an_index_out_of_range_is_an_index_error() -> None:
    batch = seeded(7)
    for index in (7, -8, 2**31, -(2**63)):
        with pytest.raises(IndexError, match="out of range for a batch of 7"):
            batch[index]


def test_an_index_that_no_machine_word_holds_is_an_index_error_too() -> None:
    batch = seeded(7)
    for index in (2**63, -(2**63) - 1, 10**30):
        with pytest.raises(IndexError):
            batch[index]


def test_an_index_of_another_type_is_a_type_error_and_index_is_honoured() -> None:
    batch = seeded(7)
    for index in (1.0, None, (0, 1), b"spi_in"):
        with pytest.raises(TypeError):
            batch[index]  # type: ignore[call-overload]
    assert batch[np.uint8(3)] == batch[True + 2]


@settings(max_examples=80, deadline=None)
@given(count=st.sampled_from([0, 1, 30]), first=SLICES, second=SLICES)
def test_slices_of_slices_are_what_lists_make_of_them(count: int, first: slice, second: slice) -> None:
    batch = seeded(count)
    expected = batch["context_id"].tolist()[first][second]
    part = batch[first][second]
    assert isinstance(part, wfpsa.SaBatch) and len(part) == len(expected)
    assert [context.context_id for context in part] == part["context_id"].tolist() == expected
    assert part[::-1]["context_id"].tolist() == expected[::-1]
    assert part.columns == batch.columns and part.backend == batch.backend


def test_iterators_know_what_is_left_and_keep_the_batch_alive() -> None:
    iterator = iter(seeded(5))
    gc.collect()
    assert iter(iterator) is iterator
    assert operator.length_hint(iterator) == 5
    first = next(iterator)
    assert operator.length_hint(iterator) == 4 and len(list(iterator)) == 4
    assert first.context_id and next(iterator, None) is None and operator.length_hint(iterator) == 0


def test_slices_share_their_parents_columns_and_keep_them_alive() -> None:
    batch = seeded(100)
    alive = testing.live_counters()["allocations"]
    part, ids = batch[10:90:7], batch["context_id"].tolist()[10:90:7]
    assert testing.live_counters()["allocations"] == alive
    del batch
    assert part["context_id"].tolist() == ids


def test_a_batch_says_where_it_is_from_and_how_it_was_read(backend: str) -> None:
    batch = seeded(3)
    assert (batch.backend, batch.version, batch.pushed_down) == (backend, 1, None)
    assert repr(batch) == f"<SaBatch of 3 contexts, 77 columns, from {backend}>"
    old = testing.decode_page(0, 0, 0)
    assert (old.backend, old.version, old.pushed_down) == ("memory", 0, None)
    assert repr(old) == "<SaBatch of 0 contexts, 65 columns, from memory>"


def test_batches_cannot_be_changed_made_or_subclassed() -> None:
    batch = seeded(3)
    with pytest.raises(TypeError, match="item assignment"):
        batch[0] = batch[1]  # type: ignore[index]
    for name in ("columns", "version", "backend", "nbytes", "new"):
        with pytest.raises(AttributeError):
            setattr(batch, name, 1)
    for cls in (wfpsa.SaBatch, wfpsa.Column, type(iter(batch)), type(batch.arrow()), _native.Enumeration):
        for make in (cls, lambda cls=cls: cls.__new__(cls), lambda cls=cls: object.__new__(cls)):
            with pytest.raises(TypeError):
                make()
        with pytest.raises(TypeError):
            type("Sub", (cls,), {})


def test_threads_may_read_one_batch_at_once() -> None:
    batch = seeded(300, odd=True)
    expected = values(batch)
    with ThreadPoolExecutor(4) as pool:
        assert all(found == expected for found in pool.map(values, [batch] * 8))


# --- Columns --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 1])
def test_columns_are_those_of_the_structures_it_was_read_from(version: int) -> None:
    batch = seeded(5, version=version)
    assert batch.columns == COLUMNS[version]
    assert [batch[name].name for name in batch.columns] == list(batch.columns)
    assert {len(batch[name]) for name in batch.columns} == {5}


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("spi_inn", "spi_in"), ("Remote_Address", "remote_address"), ("lifetime_second_out", "lifetime_seconds_out")],
)
def test_an_unknown_column_is_a_key_error_that_suggests_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(KeyError) as caught:
        seeded(1)[wrong]
    assert caught.value.args == (f"unknown column {wrong!r}; did you mean {right!r}?",)


def test_a_subclass_of_str_names_a_column_too() -> None:
    batch = seeded(3)
    assert batch[np.str_("spi_in")].tolist() == batch["spi_in"].tolist()


def test_a_name_like_no_column_is_a_key_error_without_a_suggestion() -> None:
    for wrong in ("", "zzzz", "\ud800", "x" * 10_000):
        with pytest.raises(KeyError) as caught:
            seeded(1)[wrong]
        assert caught.value.args == (f"unknown column {wrong!r}",)


def test_a_column_that_version_0_lacks_is_a_key_error_that_says_so() -> None:
    with pytest.raises(KeyError) as caught:
        seeded(1, version=0)["local_port"]
    assert caught.value.args == ("this batch has no column 'local_port': it was read with version=0",)


def test_a_context_takes_353_bytes_in_the_arrays_and_the_names_are_extra() -> None:
    batch = seeded(12_000, 1)
    names = batch["main_mode_target_in"].strings
    assert names is not None
    table = sum(len(name.encode()) for name in names if name) + 4 * (len(names) + 1)
    assert batch.nbytes == 353 * 12_000 + table
    assert batch.nbytes - table <= 360 * 12_000
    assert table <= sum(len(name.encode()) + 16 for name in names if name)
    assert batch[1000:2000].nbytes == batch[:2000:2].nbytes == 353 * 1000 + table
    assert seeded(1000, version=0).nbytes < seeded(1000).nbytes


# --- take -----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    part=SLICES,
    seed=st.integers(0, 100),
    data=st.data(),
    kind=st.sampled_from(["list", "tuple", "iterator", "array", "numpy", "small"]),
)
def test_take_picks_the_rows_in_the_order_given(part: slice, seed: int, data: st.DataObject, kind: str) -> None:
    batch = seeded(30, seed, odd=True)[part]
    low, high = -len(batch), len(batch) - 1
    rows = data.draw(st.lists(st.integers(low, high), max_size=40)) if batch else []
    given_rows = {
        "list": rows,
        "tuple": tuple(rows),
        "iterator": iter(rows),
        "array": array.array("q", rows),
        "numpy": np.array(rows, dtype=np.int64),
        "small": np.array(rows, dtype=np.int8),
    }[kind]
    taken = batch.take(given_rows)
    assert list(taken) == [batch[row] for row in rows]
    for name in ("context_id", "local_address", "transform_in", "main_mode_target_out"):
        assert taken[name].tolist() == [batch[name][row] for row in rows]
    assert (taken.columns, taken.version, taken.backend) == (batch.columns, batch.version, batch.backend)


def test_take_accepts_masks() -> None:
    batch = seeded(50)
    mask = np.asarray(batch["remote_port"]) > 0
    assert batch.take(mask)["context_id"].tolist() == np.asarray(batch["context_id"])[mask].tolist()
    assert list(batch.take(batch["has_outbound"])) == [context for context in batch if context.has_outbound]
    assert len(batch.take(np.zeros(50, bool))) == 0 and list(batch.take(np.ones(50, bool))) == list(batch)
    assert list(batch[::-2].take(np.arange(25) == 3)) == [batch[::-2][3]]


def test_take_accepts_arrays_and_masks_of_ctypes() -> None:
    batch = seeded(3)
    for kind in (ctypes.c_int8, ctypes.c_uint16, ctypes.c_int32, ctypes.c_long, ctypes.c_uint64):
        assert list(batch.take((kind * 2)(2, 0))) == [batch[2], batch[0]]
    assert list(batch.take((ctypes.c_bool * 3)(True, False, True))) == [batch[0], batch[2]]


def test_take_accepts_strided_and_unsigned_buffers_and_ranges() -> None:
    batch = seeded(50)
    for dtype in (np.uint8, np.int16, np.uint32, np.uint64, np.intp):
        assert list(batch.take(np.arange(0, 40, dtype=dtype)[::3])) == list(batch[:40:3])
    assert list(batch.take(range(49, -1, -7))) == list(batch[49::-7])
    assert list(batch.take(memoryview(array.array("I", [3, 1])))) == [batch[3], batch[1]]


def test_taken_rows_stand_alone() -> None:
    batch = seeded(100, odd=True)
    taken, expected = batch.take([5, 50]), [batch[5].detach(), batch[50].detach()]
    del batch
    assert list(taken) == expected


def test_a_row_out_of_range_is_an_index_error_that_names_it() -> None:
    batch = seeded(10)
    for wrong in ([0, 10], [-11], (3, 99), np.array([1, 2, 10]), np.array([10], dtype=np.uint64)):
        with pytest.raises(IndexError, match=r"row (10|-11|99) is out of range for a batch of 10"):
            batch.take(wrong)
    with pytest.raises(IndexError):
        batch[:0].take([0])


def test_a_row_that_no_machine_word_holds_is_an_index_error_too() -> None:
    for wrong in ([2**64], [-(10**30)], np.array([2**64 - 1], dtype=np.uint64)):
        with pytest.raises(IndexError):
            seeded(10).take(wrong)


def test_rows_of_another_type_are_type_errors() -> None:
    batch = seeded(10)
    for wrong in (None, 5, "0", b"\0", bytearray(1), [1.0], [None], ["1"], np.zeros(3), np.array(["a"])):
        with pytest.raises(TypeError):
            batch.take(wrong)  # type: ignore[arg-type]


def test_rows_are_never_rounded_or_parsed_whatever_holds_them() -> None:
    batch = seeded(10)
    for wrong in ((1.5,), ("1",), iter([2.0]), {3.7}, (b"1",)):
        with pytest.raises(TypeError):
            batch.take(wrong)  # type: ignore[arg-type]


def test_buffers_in_foreign_byte_order_are_refused_or_understood() -> None:
    batch = seeded(10)
    for rows in (np.array([1, 2], dtype=">i8"), np.array([1, 2], dtype=">u2"), np.array([1, 2], dtype="<i4")):
        try:
            taken = batch.take(rows)
        except (TypeError, ValueError):
            continue
        assert list(taken) == [batch[1], batch[2]]


def test_masks_of_another_length_and_buffers_of_more_dimensions_are_value_errors() -> None:
    batch = seeded(10)
    for length in (0, 9, 11):
        with pytest.raises(ValueError, match="one boolean for each of the 10 contexts"):
            batch.take(np.zeros(length, bool))
    for wrong in (np.zeros((2, 2), int), np.zeros((10, 1), bool), np.array(3)):
        with pytest.raises(ValueError, match="one-dimensional"):
            batch.take(wrong)


def test_a_list_that_grows_while_it_is_read_does_no_harm() -> None:
    """In a process of its own, with an allocator that notices writes past the end."""
    run_python(
        """
import wfpsa

class Growing:
    def __index__(self):
        if len(rows) < 100_000:
            rows.extend([0] * 1000)
        return 0

with wfpsa.open_engine("embedded:?contexts=10") as engine:
    batch = engine.snapshot()
rows = []
rows.append(Growing())
try:
    batch.take(rows)
except (TypeError, ValueError, IndexError, RuntimeError):
    pass
""",
        PYTHONMALLOC="debug",
    )


# --- Copies and pickles ---------------------------------------------------------------------------


def same(one: wfpsa.SaBatch, other: wfpsa.SaBatch) -> bool:
    """Whether two batches have the same columns with the same values, and the same origin."""
    origins = [(batch.backend, batch.version, batch.pushed_down, batch.columns) for batch in (one, other)]
    return origins[0] == origins[1] and values(one) == values(other) and list(one) == list(other)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), version=st.sampled_from([0, 1]))
def test_any_batch_survives_pickling(data: st.DataObject, version: int) -> None:
    page = build(data.draw(pages.strategy(version)), version)
    batch = testing.decode_page(page.address, page.count, version)
    for protocol in (0, 2, 4, 5):
        assert same(pickle.loads(pickle.dumps(batch, protocol)), batch)


def test_slices_pickle_as_what_they_show() -> None:
    batch = seeded(100, odd=True)
    whole = len(pickle.dumps(batch))
    for part in (batch[10:20], batch[::-9], batch[5:5], batch[:0][::-1], batch[99:]):
        pickled = pickle.dumps(part)
        assert same(pickle.loads(pickled), part)
        assert len(pickled) < whole / 2


def test_copies_are_equal_batches_of_their_own() -> None:
    batch = seeded(40, odd=True)
    for copied in (copy.copy(batch), copy.deepcopy(batch), copy.copy(batch[3:30:2])):
        assert not np.shares_memory(np.asarray(copied["spi_in"]), np.asarray(batch["spi_in"]))
    assert same(copy.copy(batch), batch) and same(copy.deepcopy(batch[::3]), batch[::3])


def test_the_origin_of_a_filtered_batch_survives_pickling() -> None:
    with wfpsa.open_engine("embedded:?contexts=100") as engine:
        batch = engine.snapshot(remote="10.0.0.0/8", version=0)
    assert batch.pushed_down is True
    assert same(pickle.loads(pickle.dumps(batch)), batch)


def test_a_pickle_whose_pieces_do_not_fit_is_refused() -> None:
    page = build([Context(outbound=Details(bundle=Bundle(identity=Identity(main_mode_target="name"))))], 1)
    rebuild, pieces = testing.decode_page(page.address, 1).__reduce__()
    version, length, cells, presence, names, backend, pushed = pieces
    assert list(rebuild(*pieces)["main_mode_target_out"]) == ["name"]
    broken = [
        (version, 2, cells, presence, names, backend, pushed),
        (version, length, cells | {"spi_in": b"\0" * 3}, presence, names, backend, pushed),
        (version, length, cells | {"no_such_column": b""}, presence, names, backend, pushed),
        (version, length, cells, b"", names, backend, pushed),
        (version, length, cells, presence, [], backend, pushed),
        (version, length, cells | {"main_mode_target_in": b"\xff" * 4}, presence, names, backend, pushed),
    ]
    for wrong in broken:
        with pytest.raises(ValueError, match="pickled batch"):
            rebuild(*wrong)


def test_columns_views_and_iterators_refuse_to_be_pickled() -> None:
    batch = seeded(3)
    for thing in (batch["spi_in"], batch.arrow(), iter(batch)):
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(thing)
