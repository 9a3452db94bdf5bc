"""SaBatch.count_by: against collections.Counter, by any column or two, by network, over slices and both versions."""

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

import pages
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import Bundle, Context, Details, Identity, Traffic, build
from support import COLUMNS, INFO, SLICES, seeded, walk_allocations

import wfpsa
from wfpsa import testing

ADDRESSES = [name for name, info in INFO.items() if info["kind"] == "address"]
Prefix = tuple[int, int]


# --- The model ------------------------------------------------------------------------------------


def network(cell: bytes | None, prefix: Prefix) -> IPv4Network | IPv6Network | None:
    if cell is None:
        return None
    mapped = IPv6Address(cell).ipv4_mapped
    if mapped is not None:
        return IPv4Network(f"{mapped}/{prefix[0]}", strict=False)
    return IPv6Network(f"{IPv6Address(cell)}/{prefix[1]}", strict=False)


def place(value: Any) -> Any:
    """What values are sorted by: absent last, IPv4 networks before IPv6."""
    if isinstance(value, tuple):
        return tuple(map(place, value))
    if isinstance(value, IPv4Network | IPv6Network):
        return (False, value.version, value.network_address)
    return (value is None, 0 if value is None else value)


def counted(batch: wfpsa.SaBatch, *names: str, prefix: Prefix | None = None) -> list[tuple[Any, int]]:
    columns = []
    for name in names:
        values = batch[name].tolist()
        columns.append([network(value, prefix) for value in values] if prefix and name in ADDRESSES else values)
    values = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
    return sorted(Counter(values).items(), key=lambda group: (-group[1], place(group[0])))


def check(batch: wfpsa.SaBatch, *names: str, prefix: Prefix | None = None) -> list[tuple[Any, int]]:
    found = batch.count_by(*names, prefix=prefix)
    assert found == counted(batch, *names, prefix=prefix)
    assert sum(count for _, count in found) == len(batch)
    for at, name in enumerate(names):
        if not prefix or name not in ADDRESSES:  # an enum member is equal to its number, and True to 1
            shown = {type(value if len(names) == 1 else value[at]) for value, _ in found}
            assert shown == {type(value) for value in batch[name]}
    return found


PREFIXES = st.none() | st.tuples(
    st.sampled_from([0, 1, 7, 8, 16, 24, 31, 32]) | st.integers(0, 32),
    st.sampled_from([0, 1, 48, 63, 64, 65, 127, 128]) | st.integers(0, 128),
)


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    version=st.sampled_from([0, 1]),
    seed=st.integers(0, 30),
    part=SLICES,
    prefix=PREFIXES,
    count=st.sampled_from([0, 1, 40, 400]),
)
def test_any_columns_count_as_counter_does(
    data: st.DataObject, version: int, seed: int, part: slice, prefix: Prefix | None, count: int
) -> None:
    batch = seeded(count, seed, odd=True, version=version)[part]
    columns = st.sampled_from(ADDRESSES) | st.sampled_from(COLUMNS[version])
    names = data.draw(st.lists(columns, min_size=1, max_size=2))
    check(batch, *names, prefix=prefix if set(names) & set(ADDRESSES) else None)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), version=st.sampled_from([0, 1]), prefix=PREFIXES.filter(bool))
def test_hand_built_batches_count_as_counter_does(data: st.DataObject, version: int, prefix: Prefix) -> None:
    page = build(data.draw(pages.strategy(version)), version)
    batch = testing.decode_page(page.address, page.count, version)
    name = data.draw(st.sampled_from(batch.columns))
    check(batch, name)
    check(batch, name, "remote_address", prefix=prefix)


@pytest.mark.parametrize("version", [0, 1])
def test_every_column_alone_and_beside_another(version: int) -> None:
    batch = seeded(300, 5, odd=True, version=version)
    for name in batch.columns:
        check(batch, name)
        check(batch[::-2], "traffic_type", name)


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(60)), seed=st.integers(0, 30))
def test_the_order_of_the_rows_does_not_matter(order: list[int], seed: int) -> None:
    batch = seeded(60, seed, odd=True)
    for names in (["remote_address"], ["main_mode_target_out"], ["cipher_type_in", "lifetime_seconds_in"]):
        assert batch.take(order).count_by(*names) == batch.count_by(*names)


def test_many_values() -> None:
    batch = seeded(20_000, 1)
    assert batch.count_by("context_id") == [(number, 1) for number in sorted(batch["context_id"])]
    check(batch, "remote_address")
    check(batch, "remote_address", "spi_out", prefix=(24, 56))


# --- Single cases ---------------------------------------------------------------------------------


def test_peers_by_network() -> None:
    peers = ["10.1.2.3", "10.1.9.9", "10.2.0.1", "2001:db8:1::1", "2001:db8:1:2::2", "255.255.255.255", "::1", "::"]
    contexts = [
        Context(context_id=number, outbound=Details(traffic=traffic_to(ip_address(peer))))
        for number, peer in enumerate(peers)
    ]
    page = build([*contexts, Context()], 1)
    batch = testing.decode_page(page.address, page.count)
    assert batch.count_by("remote_address", prefix=(16, 48)) == [
        (IPv4Network("10.1.0.0/16"), 2),
        (IPv6Network("::/48"), 2),
        (IPv6Network("2001:db8:1::/48"), 2),
        (IPv4Network("10.2.0.0/16"), 1),
        (IPv4Network("255.255.0.0/16"), 1),
        (None, 1),
    ]
    assert batch.count_by("remote_address", prefix=(0, 0)) == [
        (IPv4Network("0.0.0.0/0"), 4),
        (IPv6Network("::/0"), 4),
        (None, 1),
    ]
    assert batch[:3].count_by("ip_version", "remote_address", prefix=(8, 8)) == [((4, IPv4Network("10.0.0.0/8")), 3)]


def traffic_to(address: IPv4Address | IPv6Address) -> Traffic:
    if address.version == 4:
        return Traffic(ip_version=0, remote=pages.v4(int(address)))
    return Traffic(ip_version=1, remote=address.packed)


def test_names_that_become_the_same_text_are_one_value() -> None:
    """Two unpaired surrogates are two names to the engine, and one to whoever reads them as text."""
    names = ["\ud800", "b", "\ud801", None, "", "a", "\ud801"]
    page = build(
        [Context(outbound=Details(bundle=Bundle(identity=Identity(main_mode_target=name)))) for name in names],
        1,
    )
    batch = testing.decode_page(page.address, page.count)
    assert batch.count_by("main_mode_target_out") == [("\ufffd", 3), ("", 1), ("a", 1), ("b", 1), (None, 1)]


def test_equally_frequent_values_come_in_their_order_and_none_last() -> None:
    batch = seeded(500, 1, odd=True)
    spis = batch["spi_out"].tolist()
    one_each = batch.take([spis.index(spi) for spi in set(spis)])
    values = [value for value, count in one_each.count_by("spi_out") if count == 1]
    assert None in values and values == [*sorted(value for value in values if value is not None), None]


def test_selections_count_what_they_show() -> None:
    batch = seeded(300, 1, odd=True)
    selected = batch.where(has_outbound=True)
    check(selected, "remote_address", "spi_in", prefix=(16, 48))
    check(selected[::-3], "main_mode_target_out")
    check(selected.where(ip_version=4), "transform_in")


def test_an_empty_batch_has_no_values() -> None:
    batch = seeded(3)[:0]
    assert batch.count_by("spi_out") == batch.count_by("has_inbound") == batch.count_by("spi_out", "spi_in") == []
    assert batch.count_by("main_mode_target_in") == batch.count_by("remote_address", prefix=(8, 8)) == []


# --- The first ones only --------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    version=st.sampled_from([0, 1]),
    seed=st.integers(0, 30),
    part=SLICES,
    prefix=PREFIXES,
    limit=st.integers(0, 50) | st.sampled_from([1000, 2**31, 2**63, 2**64, 2**70]),
)
def test_a_limit_gives_the_first_ones_of_the_whole_list(
    data: st.DataObject, version: int, seed: int, part: slice, prefix: Prefix | None, limit: int
) -> None:
    batch = seeded(200, seed, odd=True, version=version)[part]
    columns = st.sampled_from(ADDRESSES) | st.sampled_from(COLUMNS[version])
    names = data.draw(st.lists(columns, min_size=1, max_size=2))
    prefix = prefix if set(names) & set(ADDRESSES) else None
    assert batch.count_by(*names, prefix=prefix, limit=limit) == counted(batch, *names, prefix=prefix)[:limit]


def test_a_limit_of_none_is_none_and_of_0_gives_nothing() -> None:
    batch = seeded(300, 1, odd=True)
    for names in (["spi_out"], ["remote_address", "transform_in"]):
        whole = check(batch, *names)
        assert batch.count_by(*names, limit=None) == whole and batch.count_by(*names, limit=0) == []
        for limit in (1, 2, len(whole) - 1, len(whole), len(whole) + 1):
            assert batch.count_by(*names, limit=limit) == whole[:limit]
    assert batch[:0].count_by("spi_out", limit=5) == batch[:0].count_by("spi_out", limit=0) == []


def test_a_limit_keeps_the_order_of_the_equally_frequent() -> None:
    batch = seeded(500, 2)
    ids = sorted(batch["context_id"])
    assert batch.take(range(499, -1, -1)).count_by("context_id", limit=7) == [(number, 1) for number in ids[:7]]


@pytest.mark.parametrize("wrong", [True, False, "5", b"5", 1.0, (1,)])
def test_a_limit_that_is_no_int_is_a_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"limit must be an int or None, not {type(wrong).__name__}"):
        seeded(3).count_by("spi_in", limit=wrong)


@pytest.mark.parametrize("wrong", [-1, -(2**63), -(2**70)])
def test_a_limit_below_0_is_a_value_error(wrong: int) -> None:
    with pytest.raises(ValueError, match=f"limit must be 0 or more, not {wrong}"):
        seeded(3).count_by("spi_in", limit=wrong)


def test_a_limit_is_named_and_a_wrong_column_is_told_with_one_too() -> None:
    batch = seeded(3)
    with pytest.raises(TypeError):
        batch.count_by("spi_in", None, None, 5)  # type: ignore[misc]
    for limit in (0, 1):
        with pytest.raises(KeyError):
            batch.count_by("spi_inn", limit=limit)
        with pytest.raises(ValueError, match="prefix= is for columns of addresses"):
            batch.count_by("spi_in", prefix=(16, 48), limit=limit)


# --- Wrong arguments ------------------------------------------------------------------------------


def test_unknown_columns_are_key_errors_as_in_indexing() -> None:
    batch = seeded(3, version=0)
    for name in ("spi_inn", "local_port", "", "x" * 1000):
        with pytest.raises(KeyError) as expected:
            batch[name]
        for count in (lambda: batch.count_by(name), lambda: batch.count_by("spi_in", name)):  # noqa: B023
            with pytest.raises(KeyError) as caught:
                count()
            assert caught.value.args == expected.value.args


@pytest.mark.parametrize("wrong", [1, b"spi_in", ["spi_in"], ("spi_in", "spi_out"), True])
def test_what_names_no_column_is_a_type_error(wrong: Any) -> None:
    batch = seeded(3)
    for count in (lambda: batch.count_by(wrong), lambda: batch.count_by("spi_in", wrong)):
        with pytest.raises(TypeError, match="named by a str"):
            count()
    with pytest.raises(TypeError, match="named by a str, not by NoneType"):
        batch.count_by(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [(33, 0), (-1, 0), (0, 129), (0, -1), (2**70, 0), [16, 200]])
def test_a_prefix_out_of_range_is_a_value_error(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"prefix must be \(0 to 32, 0 to 128\), not"):
        seeded(3).count_by("remote_address", prefix=wrong)


@pytest.mark.parametrize("wrong", [16, (16,), (16, 48, 1), (), "ab", ("16", "48"), (1.0, 2), (None, None), b""])
def test_a_prefix_that_is_not_two_lengths_is_a_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError, match="prefix must be the two lengths for IPv4 and IPv6"):
        seeded(3).count_by("remote_address", prefix=wrong)


def test_a_prefix_without_addresses_is_a_value_error_that_names_the_columns() -> None:
    batch = seeded(3)
    others = ["lookup_context_in", "peer_private_address_in"]
    for names, shown in ((["spi_in"], "'spi_in' has none"), (others, "'lookup_context_in' and 'peer_private")):
        with pytest.raises(ValueError, match=f"prefix= is for columns of addresses, and {shown}"):
            batch.count_by(*names, prefix=(16, 48))
    assert batch.count_by("spi_in", "local_address", prefix=(16, 48))
    with pytest.raises(TypeError):
        batch.count_by("local_address", None, (16, 48))  # type: ignore[misc]


# --- Memory and threads ---------------------------------------------------------------------------

COUNTS: list[Callable[[wfpsa.SaBatch], list[tuple[Any, int]]]] = [
    lambda batch: batch.count_by("transform_out"),
    lambda batch: batch.count_by("context_id"),
    lambda batch: batch.count_by("main_mode_target_in", "extended_mode_target_out"),
    lambda batch: batch.count_by("remote_address", "remote_port", prefix=(16, 48)),
    lambda batch: batch.count_by("remote_address", prefix=(16, 48), limit=3),
]


@pytest.mark.parametrize("count", COUNTS)
def test_any_allocation_may_fail(count: Callable[[wfpsa.SaBatch], list[tuple[Any, int]]]) -> None:
    batch = seeded(1000, 1)
    found, failed = walk_allocations(lambda: count(batch.where()))
    assert found and failed >= 3


def test_threads_may_count_one_batch_at_once() -> None:
    batch = seeded(2000, 1, odd=True)
    batch = batch.take(random.Random(1).sample(range(2000), 2000))
    expected = [count(batch) for count in COUNTS]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda count: count(batch), COUNTS * 8)) == expected * 8
