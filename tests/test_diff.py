"""SaBatch.diff: against a model in plain Python, in any order, over slices, projections and both versions."""

import copy
import gc
import pickle
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pages
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import Bundle, Context, Details, Identity, build
from support import INFO, SLICES, seeded, walk_allocations

import wfpsa
from wfpsa import testing

# --- Batches that differ --------------------------------------------------------------------------


def remade(batch: wfpsa.SaBatch, change: Callable[[dict[str, Any], bytearray, list[str]], None]) -> wfpsa.SaBatch:
    """A copy whose cells (arrays by column), presence and names were changed."""
    rebuild, (version, length, cells, presence, names, backend, pushed) = batch.__reduce__()  # type: ignore[misc]
    arrays = {name: np.frombuffer(raw, f"V{INFO[name]['width']}").copy() for name, raw in cells.items()}
    changed_presence, changed_names = bytearray(presence), list(names)
    change(arrays, changed_presence, changed_names)
    raw = {name: array.tobytes() for name, array in arrays.items()}
    made = rebuild(version, length, raw, bytes(changed_presence), changed_names, backend, pushed)
    assert isinstance(made, wfpsa.SaBatch)
    return made


def projected(batch: wfpsa.SaBatch, names: Sequence[str]) -> wfpsa.SaBatch:
    """A copy with these columns only."""

    def drop(arrays: dict[str, Any], presence: bytearray, texts: list[str]) -> None:
        for name in set(arrays) - set(names):
            del arrays[name]

    return remade(batch, drop)


def mixed(one: wfpsa.SaBatch, other: wfpsa.SaBatch, rows: Sequence[int]) -> wfpsa.SaBatch:
    """A copy of the first whose given rows are those of the second, but for their ids; its names in another order."""
    _, (_, _, cells, presence, names, _, _) = other.__reduce__()  # type: ignore[misc]
    at = np.array(rows, dtype=int)

    def mix(arrays: dict[str, Any], own_presence: bytearray, own_names: list[str]) -> None:
        shift = len(names)
        for name, array in arrays.items():
            theirs = np.frombuffer(cells[name], array.dtype)
            if INFO[name]["kind"] == "text":
                codes = array.view("u4")
                codes[codes > 0] += shift
            if name != "context_id":
                array[at] = theirs[at]
        for row in rows:
            own_presence[row] = presence[row]
        own_names[:0] = names

    return remade(one, mix)


def touched(batch: wfpsa.SaBatch, cells: Sequence[tuple[int, str]]) -> wfpsa.SaBatch:
    """A copy in which these cells have other values, where they have one."""
    there = [(row, name) for row, name in cells if batch[name][row] is not None]

    def touch(arrays: dict[str, Any], presence: bytearray, names: list[str]) -> None:
        for row, name in there:
            if INFO[name]["kind"] == "text":
                arrays[name].view("u4")[row] = len(names) + 1
                names.append(f"another name {row} {name}")
            else:
                low = arrays[name].view("u1").reshape(len(batch), -1)
                low[row, 0] = 1 if low[row, 0] != 1 else 0 if INFO[name]["kind"] == "bool" else 2

    return remade(batch, touch)


TEXT = [name for name, info in INFO.items() if info["kind"] == "text"]
TOUCHABLE = sorted(set(INFO) - {"context_id"})


# --- The model ------------------------------------------------------------------------------------


def rows_of(batch: wfpsa.SaBatch, names: Sequence[str]) -> list[tuple[object, ...]]:
    return list(zip(*(batch[name].tolist() for name in names), strict=True))


def firsts(batch: wfpsa.SaBatch) -> dict[int, int]:
    """The first row of each id, in the batch's order."""
    found: dict[int, int] = {}
    for row, number in enumerate(batch["context_id"].tolist()):
        found.setdefault(number, row)
    return found


def check(before: wfpsa.SaBatch, after: wfpsa.SaBatch) -> wfpsa.BatchDiff:
    """The diff of two batches, which must be what the model makes of them."""
    diff = before.diff(after)
    old, new = firsts(before), firsts(after)
    names = [name for name in after.columns if name in before.columns]
    left, right = rows_of(before, names), rows_of(after, names)
    differing = {
        number: tuple(name for name, a, b in zip(names, left[old[number]], right[row], strict=True) if a != b)
        for number, row in new.items()
        if number in old
    }
    changed = [number for number, columns in differing.items() if columns]
    added = [row for number, row in new.items() if number not in old]
    removed = [row for number, row in old.items() if number not in new]
    for found, whole, rows in (
        (diff.added, after, added),
        (diff.removed, before, removed),
        (diff.changed, after, [new[number] for number in changed]),
        (diff.changed_before, before, [old[number] for number in changed]),
    ):
        every = rows_of(whole, whole.columns)
        assert rows_of(found, whole.columns) == [every[row] for row in rows]
        assert (found.columns, found.version, found.backend) == (whole.columns, whole.version, whole.backend)
    assert diff.changed_columns == tuple(differing[number] for number in changed)
    assert diff.changed_counts == {
        name: count for name in names if (count := sum(name in columns for columns in differing.values()))
    }
    assert list(diff.changed_counts.values()) == sorted(diff.changed_counts.values(), reverse=True)
    assert diff.same == len(differing) - len(changed)
    assert bool(diff) == bool(added or removed or changed)
    return diff


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    versions=st.tuples(st.sampled_from([0, 1]), st.sampled_from([0, 1])),
    parts=st.tuples(SLICES, SLICES),
    order=st.sampled_from(["same", "shuffled", "random"]),
)
def test_any_two_batches_differ_as_the_model_says(
    data: st.DataObject, versions: tuple[int, int], parts: tuple[slice, slice], order: str
) -> None:
    count = data.draw(st.sampled_from([1, 5, 60]))
    seed = data.draw(st.integers(0, 50))
    before = seeded(count, seed, odd=True, version=versions[0])
    after = seeded(count, seed, odd=True, version=versions[1])
    other = seeded(count, seed + 1, odd=True, version=versions[1])
    after = mixed(after, other, data.draw(st.lists(st.integers(0, count - 1), unique=True, max_size=8)))
    cells = st.tuples(st.integers(0, count - 1), st.sampled_from([name for name in TOUCHABLE if name in after.columns]))
    after = touched(after, data.draw(st.lists(cells, max_size=8)))
    rows = list(range(count))
    if order == "shuffled":
        rows = data.draw(st.permutations(rows))
    elif order == "random":
        rows = data.draw(st.lists(st.integers(0, count - 1), max_size=80))
    check(before[parts[0]], after.take(rows)[parts[1]])


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seeds=st.tuples(st.integers(0, 50), st.integers(0, 50)))
def test_forwards_and_backwards_say_the_same(data: st.DataObject, seeds: tuple[int, int]) -> None:
    rows = st.lists(st.integers(0, 29), unique=True)
    one = seeded(30, seeds[0], odd=True).take(data.draw(rows))
    other = seeded(30, seeds[1], odd=True).take(data.draw(rows))
    there, back = one.diff(other), other.diff(one)
    assert list(there.added) == list(back.removed) and list(there.removed) == list(back.added)
    assert {context.context_id for context in there.changed} == {context.context_id for context in back.changed}
    assert sorted(there.changed_columns) == sorted(back.changed_columns)
    assert there.changed_counts == back.changed_counts and there.same == back.same
    assert len(there.added) + len(there.changed) + there.same == len(other)
    assert len(there.removed) + len(there.changed) + there.same == len(one)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), version=st.sampled_from([0, 1]))
def test_any_batch_is_the_same_as_itself_and_its_copy(data: st.DataObject, version: int) -> None:
    page = build(data.draw(pages.strategy(version)), version)
    batch = testing.decode_page(page.address, page.count, version)
    for other in (batch, copy.copy(batch)):
        diff = check(batch, other)
        assert not diff and diff.same == len(firsts(batch))


@pytest.mark.parametrize("order", ["same", "rising", "shuffled", "backwards"])
def test_batches_of_many_parts_differ_as_the_model_says(order: str) -> None:
    """Enough ids for the hash table to work in parts, and for long runs."""
    names = ["context_id", "has_inbound", "remote_address", "remote_port", "spi_out", "mm_sa_id_out", "pfs_group_out"]
    whole, generator = projected(seeded(12_000, 3, odd=True), [*names, "main_mode_target_in"]), random.Random(5)
    later = touched(whole, [(generator.randrange(12_000), generator.choice(names[1:])) for _ in range(400)])
    stays = [row for row in range(11_800) if generator.random() > 0.01]
    before, after = whole.take(range(100, 12_000)), later.take(stays)
    if order == "same":  # but not rising
        shuffle = generator.sample(range(len(whole)), len(whole))
        before = whole.take([row for row in shuffle if row >= 100])
        staying = set(stays)
        after = later.take([row for row in shuffle if row in staying])
    elif order == "shuffled":
        after = after.take(generator.sample(range(len(after)), len(after)))
    elif order == "backwards":
        before, after = before[::-1], after[::-1]
    diff = check(before, after)
    assert len(diff.added) > 90 and len(diff.removed) > 250 and len(diff.changed) > 200 and diff.same > 11_000


# --- Single cases ---------------------------------------------------------------------------------


def test_an_engine_over_time(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.seed(50, 1)
    before = engine.snapshot()
    gone, expired = before[3].context_id, before[7].context_id
    engine.delete(gone)
    engine.expire([expired])
    embedded.seed(10, 2)
    diff = check(before, engine.snapshot())
    assert len(diff.added) == 10 and diff.removed[0].context_id == gone
    assert [context.context_id for context in diff.changed] == [expired]
    assert {"has_outbound", "spi_out", "lifetime_seconds_out"} <= set(diff.changed_columns[0])
    assert diff.changed[0].outbound is None and diff.changed_before[0] == before[7]


def test_absent_is_not_the_zero_that_it_is_stored_as() -> None:
    page = build([Context(context_id=1, outbound=Details()), Context(context_id=2, outbound=Details())], 1)
    batch = testing.decode_page(page.address, page.count)

    def zero(arrays: dict[str, Any], presence: bytearray, names: list[str]) -> None:
        for name in set(arrays) - {"context_id"}:
            arrays[name].view("u1")[:] = 255 if INFO[name]["kind"] == "enum" else 0

    def empty(arrays: dict[str, Any], presence: bytearray, names: list[str]) -> None:
        zero(arrays, presence, names)
        presence[1] = 0

    full, half = remade(batch, zero), remade(batch, empty)
    for one, other in ((full, half), (full, half[::-1]), (half[::-1], full)):
        diff = check(one, other)
        assert [context.context_id for context in diff.changed] == [2]
        assert {"lifetime_seconds_out", "remote_address", "spi_out"} <= set(diff.changed_columns[0])
        assert not {"context_id", "has_outbound", "lifetime_seconds_in"} & set(diff.changed_columns[0])


def test_names_compare_as_text_whatever_their_codes() -> None:
    def recode(arrays: dict[str, Any], presence: bytearray, names: list[str]) -> None:
        for name in TEXT:
            codes = arrays[name].view("u4")
            codes[codes > 0] = len(names) + 1 - codes[codes > 0]
        names.reverse()

    batch = seeded(400, 2)
    recoded = remade(batch, recode)
    assert batch["main_mode_target_out"].strings != recoded["main_mode_target_out"].strings
    renamed = remade(recoded, lambda arrays, presence, names: names.__setitem__(0, names[0] + " and more"))
    for other in (recoded, recoded[::-1], recoded.take(range(399, -1, -1))):
        assert not check(batch, other)
    diff = check(batch, renamed)
    assert diff and set(diff.changed_counts) <= set(TEXT)
    assert check(renamed, batch[::-1]).changed_counts == diff.changed_counts


def test_names_that_become_the_same_text_are_the_same() -> None:
    """Two unpaired surrogates are two names to the engine, and one to whoever reads them as text."""
    names = ["\ud800", "\ud801", "\ud801", "\ud800"]
    page = build(
        [
            Context(context_id=number, outbound=Details(bundle=Bundle(identity=Identity(main_mode_target=name))))
            for number, name in enumerate(names)
        ],
        1,
    )
    batch = testing.decode_page(page.address, page.count)
    assert set(batch["main_mode_target_out"].tolist()) == {"\ufffd"}
    swapped = remade(batch, lambda arrays, *_: arrays["context_id"].view("u8").__setitem__(slice(None), [2, 3, 0, 1]))
    assert not check(batch, swapped) and not check(batch, swapped.take([2, 3, 0, 1]))


def test_batches_of_other_columns_are_compared_in_those_that_both_have() -> None:
    full = seeded(50, 1, odd=True)
    other = touched(full, [(1, "spi_out"), (2, "lifetime_seconds_out"), (3, "nap_context_in")])
    narrow = projected(other, ["context_id", "spi_out", "nap_context_in"])
    for one, two in ((full, narrow), (narrow, full)):
        diff = check(one, two)
        assert set(diff.changed_counts) == {"spi_out", "nap_context_in"}
        assert (diff.changed.columns, diff.changed_before.columns) == (two.columns, one.columns)
    assert not check(projected(full, ["context_id"]), other)


def test_of_an_id_that_comes_twice_the_first_row_counts() -> None:
    batch = seeded(10, 1)
    other = touched(batch, [(4, "lifetime_seconds_out")])
    twice = batch.take([4, 5, 4, 5, 9])
    assert check(twice, batch[4:6]).same == 2
    assert len(check(twice, batch[:0]).removed) == 3
    assert len(check(batch[:0], twice).added) == 3
    assert len(check(batch[:4], twice).added) == 3
    diff = check(twice, other.take([4, 4, 5]))
    assert (len(diff.changed), diff.same, len(diff.removed), len(diff.added)) == (1, 1, 1, 0)


def test_empty_batches() -> None:
    batch = seeded(5)
    assert not check(batch[:0], batch[5:]) and check(batch[:0], batch[5:]).same == 0
    assert len(check(batch[:0], batch).added) == 5 == len(check(batch, batch[:0]).removed)


def test_selections_are_compared_as_what_they_show() -> None:
    batch = seeded(200, 1, odd=True)
    later = touched(batch, [(row, "lifetime_seconds_out") for row in range(0, 200, 9)])
    before, after = batch.where(has_outbound=True), later.where(has_inbound=True)
    for one, other in ((before, after), (after, before), (before[::-1], later), (batch, after[5::2])):
        assert check(one, other)
    assert not check(before, batch.where(has_outbound=True))
    alone = batch.where(has_outbound=True).diff(after.where(ip_version=4))
    del before, after, later
    assert len(alone.removed)


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_batch_without_ids_is_a_value_error(order: str) -> None:
    with wfpsa.open_engine("embedded:?contexts=5") as engine:
        batches = [engine.snapshot(), engine.snapshot(fields=["spi_in", "spi_out"])]
    one, other = batches if order == "after" else batches[::-1]
    with pytest.raises(ValueError, match="both batches must have the column 'context_id'"):
        one.diff(other)


@pytest.mark.parametrize("wrong", [None, 1, [], "context_id", {}, wfpsa.SaBatch])
def test_what_is_not_a_batch_is_a_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"another SaBatch, not with {type(wrong).__name__}"):
        seeded(1).diff(wrong)
    with pytest.raises(TypeError):
        seeded(1).diff()  # type: ignore[call-arg]


# --- The result -----------------------------------------------------------------------------------


def test_a_diff_reads_as_a_summary() -> None:
    batch = seeded(1000, 1)
    changes = [*((row, "lifetime_seconds_out") for row in (500, 501, 502, 503)), (503, "spi_out"), (504, "spi_out")]
    later = touched(batch, changes)
    there = [row for row, name in changes if batch[name][row] is None]
    assert not there, "choose rows that have both cells"
    diff = batch[:990].diff(later[3:])
    text = "10 added, 3 removed, 5 changed (lifetime_seconds_out 4, spi_out 2), 982 the same"
    assert (str(diff), repr(diff)) == (text, f"<BatchDiff: {text}>")
    assert diff.changed_counts == {"lifetime_seconds_out": 4, "spi_out": 2} and bool(diff)
    assert diff.changed_columns[2:] == (
        ("lifetime_seconds_out",),
        ("spi_out", "lifetime_seconds_out"),
        ("spi_out",),
    )
    assert str(batch.diff(batch)) == "0 added, 0 removed, 0 changed, 1000 the same"


def test_a_summary_names_eight_columns_at_most() -> None:
    names = [name for name in TOUCHABLE if INFO[name]["absence"] in ("never", "no SA in this direction")]
    batch = seeded(100, 1)
    row = next(at for at, context in enumerate(batch) if context.has_inbound and context.has_outbound)
    for count in (8, 9):
        text = str(batch.diff(touched(batch, [(row, name) for name in names[:count]])))
        assert text.count(",") == 10, text
        assert ("and 2 columns more" in text) == (count == 9)


def test_a_diff_is_made_by_batches_only_and_is_not_pickled() -> None:
    diff = seeded(3).diff(seeded(3))
    with pytest.raises(TypeError):
        wfpsa.BatchDiff()
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(diff)
    for name in ("added", "changed_columns", "same", "new"):
        with pytest.raises(AttributeError):
            setattr(diff, name, 1)
    assert diff.changed_columns is diff.changed_columns
    diff.changed_counts["spi_in"] = 1
    assert diff.changed_counts == {}


def test_a_diff_keeps_neither_batch_alive() -> None:
    diff = seeded(5000, 1).diff(seeded(10, 1))
    gc.collect()
    assert len(diff.removed) == 4990
    del diff
    assert testing.live_counters()["allocations"] == 0


@pytest.mark.parametrize("order", ["same", "shuffled"])
def test_any_allocation_may_fail(order: str) -> None:
    batch = seeded(300, 1)
    later = touched(batch, [(row, "lifetime_seconds_out") for row in range(300)])
    after = later[10:] if order == "same" else later.take(random.Random(1).sample(range(300), 290))
    diff, failed = walk_allocations(lambda: batch.where()[:295][:: 1 if order == "same" else -1].diff(after))
    assert diff and failed > 20


def test_threads_may_compare_one_batch_at_once() -> None:
    batch = seeded(3000, 1)
    after = touched(batch, [(row, "spi_out") for row in range(0, 3000, 7)]).take(range(2999, 99, -1))
    expected = str(batch.diff(after))
    with ThreadPoolExecutor(4) as pool:
        assert {str(diff) for diff in pool.map(batch.diff, [after] * 16)} == {expected}


def test_selections_are_compared_as_the_copies_of_them_are() -> None:
    with testing.EmbeddedEngine() as control, control.open() as engine:
        control.stop_clock()
        control.seed(300, 8, odd=True)
        before = engine.snapshot()
        engine.expire(before[::5])
        after = engine.snapshot()
    chosen = [batch.where(ip_version=4)[::2] for batch in (before, after)]
    copies = [batch.take(range(len(batch))) for batch in chosen]
    lazy, plain = chosen[0].diff(chosen[1]), copies[0].diff(copies[1])
    assert str(lazy) == str(plain) and lazy
    assert [list(part) for part in (lazy.added, lazy.removed, lazy.changed)] == [
        list(part) for part in (plain.added, plain.removed, plain.changed)
    ]
    assert chosen[1].count_by("remote_address", "transform_out") == copies[1].count_by(
        "remote_address", "transform_out"
    )
