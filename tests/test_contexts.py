"""Contexts: the attributes of one row, its two directions, and how it compares, copies, pickles and shows itself."""

import copy
import gc
import pickle
import sys
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from uuid import UUID

import pages
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import Bundle, Context, Details, Sa, Traffic, build, v4
from support import INFO, seeded

import wfpsa
from wfpsa import SaContext, SaDetails, TransformType, testing

NOW_AND_OLD = pytest.mark.parametrize("version", [0, 1])


def decoded(*contexts: Context, version: int = 1) -> wfpsa.SaBatch:
    page = build(contexts, version)
    return testing.decode_page(page.address, page.count, version)


def as_attribute(name: str, value: object) -> object:
    """What an attribute shows for a column's value."""
    kind = INFO[name]["kind"]
    if value is None:
        return None
    if kind == "address":
        assert isinstance(value, bytes)
        return IPv4Address(value[12:]) if value[:12] == bytes(10) + b"\xff\xff" else IPv6Address(value)
    if kind == "guid":
        assert isinstance(value, bytes)
        return UUID(bytes_le=value)
    if kind == "ipv4":
        assert isinstance(value, int)
        return IPv4Address(value)
    return value


# --- Attributes -----------------------------------------------------------------------------------


@NOW_AND_OLD
def test_every_attribute_is_the_columns_value_as_an_object(version: int) -> None:
    batch = seeded(300, 1, odd=True, version=version)
    for name in batch.columns:
        expected = [as_attribute(name, value) for value in batch[name]]
        found = [getattr(context, name) for context in batch]
        assert found == expected, name
        assert list(map(type, found)) == list(map(type, expected)), name


@NOW_AND_OLD
def test_the_directions_have_the_attributes_of_their_suffix(version: int) -> None:
    batch = seeded(300, 2, odd=True, version=version)
    for context in batch:
        for direction, suffix in (("inbound", "in"), ("outbound", "out")):
            details = getattr(context, direction)
            assert (details is not None) is getattr(context, f"has_{direction}")
            if details is None:
                continue
            assert details.direction == direction
            for name in batch.columns:
                if INFO[name]["direction"] == suffix:
                    assert getattr(details, INFO[name]["attribute"]) == getattr(context, name), name


def test_addresses_of_both_families_are_ipaddress_objects() -> None:
    six = bytes.fromhex("20010db8000000000000000000000001")
    batch = decoded(
        Context(outbound=Details(traffic=Traffic(local=v4(0x0A000001), remote=v4(0xFFFFFFFF)))),
        Context(inbound=Details(traffic=Traffic(ip_version=1, local=six, remote=bytes(16)))),
        Context(inbound=Details(traffic=Traffic(ip_version=2, local=six, remote=six))),
    )
    assert [context.local_address for context in batch] == [IPv4Address("10.0.0.1"), IPv6Address("2001:db8::1"), None]
    assert [context.remote_address for context in batch] == [IPv4Address("255.255.255.255"), IPv6Address("::"), None]


def test_guids_are_uuids_whose_memory_order_is_little_endian() -> None:
    key = UUID("a9bbf787-82a8-45bb-a400-5d7e5952c7a9")
    bundle = Bundle(lookup_context=key.bytes_le, key_module=pages.KeyModule(key=key.bytes_le))
    (context,) = decoded(Context(outbound=Details(bundle=bundle)))
    assert context.lookup_context_out == context.key_module_out == context.outbound.key_module == key
    assert context.lookup_context_in is None


def test_enumerations_are_members_or_plain_integers_for_values_without_a_name() -> None:
    batch = decoded(*(Context(outbound=Details(bundle=Bundle(sas=(Sa(transform=n),)))) for n in (4, 0, 253, 300)))
    shown = [context.outbound.transform for context in batch]
    assert shown == [TransformType.ESP_AUTH_AND_CIPHER, 0, 253, 254]
    assert [type(value) for value in shown] == [TransformType, int, int, int]


def test_the_peers_private_address_is_an_ipv4_address_or_none() -> None:
    batch = decoded(*(Context(inbound=Details(bundle=Bundle(peer_private_address=n))) for n in (0xC0A80001, 0)))
    assert [context.peer_private_address_in for context in batch] == [IPv4Address("192.168.0.1"), None]


def test_an_attribute_that_the_structures_lack_names_the_version() -> None:
    context = next(context for context in seeded(20, version=0) if context.outbound)
    with pytest.raises(AttributeError, match=r"no column 'local_port': it was read with version=0") as caught:
        context.local_port  # noqa: B018 - the access is the test
    assert caught.value.name == "local_port"
    with pytest.raises(AttributeError, match=r"no column 'qm_filter_id_out'"):
        context.outbound.qm_filter_id  # noqa: B018
    assert not hasattr(context, "ip_protocol")


def test_attributes_cannot_be_set_added_or_deleted() -> None:
    context = seeded(20)[0]
    for target in (context, context.outbound):
        for name in ("spi_out", "spi", "inbound", "direction", "new"):
            with pytest.raises(AttributeError):
                setattr(target, name, 1)
            with pytest.raises(AttributeError):
                delattr(target, name)


def test_every_attribute_is_documented_with_kind_absence_and_source() -> None:
    for name, info in INFO.items():
        documented = [getattr(SaContext, name)]
        if info["direction"]:
            documented.append(getattr(SaDetails, info["attribute"]))
        for attribute in documented:
            text = attribute.__doc__
            assert text.startswith(info["kind"]) and info["note"] in text and text.endswith("."), name
            assert ("None where absent" in text) is (info["absence"] != "never")
        assert info["source"] in getattr(SaContext, name).__doc__
    for cls in (SaContext, SaDetails):
        assert all(getattr(cls, name).__doc__ for name in dir(cls) if not name.startswith("_"))


# --- Comparison -----------------------------------------------------------------------------------


@pytest.fixture
def twice(embedded: testing.EmbeddedEngine) -> Iterator[Callable[[int], wfpsa.SaBatch]]:
    """Snapshots of one population, as often as asked for, in either structure version."""
    embedded.seed(200, 5, odd=True)

    def snapshot(version: int) -> wfpsa.SaBatch:
        with embedded.open() as engine:
            return engine.snapshot(version=version)

    yield snapshot


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_the_same_context_read_twice_is_equal_and_hashes_alike(
    twice: Callable[[int], wfpsa.SaBatch], first: int, second: int
) -> None:
    one, other = twice(first), twice(second)
    assert list(one) == list(other)
    assert len({*one, *other}) == 200
    assert [c.inbound for c in one] == [c.inbound for c in other]
    assert {hash(c.outbound) for c in one} == {hash(c.outbound) for c in other}


def test_contexts_that_differ_in_any_one_column_are_unequal() -> None:
    batch = seeded(120, 6, odd=True)
    listed = {name: batch[name].tolist() for name in batch.columns}
    for at, context in enumerate(batch):
        for other in range(len(batch)):
            same = all(listed[name][at] == listed[name][other] for name in batch.columns)
            assert (context == batch[other]) is same
            assert (context != batch[other]) is not same


def test_a_change_of_one_field_makes_a_context_unequal_but_hash_alike() -> None:
    def context(**changes: int) -> Context:
        return Context(context_id=9, outbound=Details(bundle=Bundle(**changes)))

    (plain,) = decoded(context())
    for changed in decoded(context(nap_context=1), context(qm_sa_id=1), context(mm_sa_id=2**63), context(pfs_group=1)):
        assert changed != plain and hash(changed) == hash(plain)
        assert changed.outbound != plain.outbound


def test_names_are_compared_as_text_whatever_their_codes() -> None:
    def named(*names: str) -> wfpsa.SaBatch:
        identities = [pages.Identity(main_mode_target=name) for name in names]
        return decoded(*(Context(outbound=Details(bundle=Bundle(identity=identity))) for identity in identities))

    one, other = named("first", "second", ""), named("second", "first", "")
    assert one[0] == other[1] and one[1] == other[0] and one[2] == other[2]
    assert one[0] != other[0] and one[0] != one[1] and one[2] != one[0]


def test_an_absent_value_is_not_a_zero() -> None:
    (nothing,) = decoded(Context(outbound=Details(bundle=Bundle(num_sas=0, sas=None))))
    (zero,) = decoded(Context(outbound=Details(bundle=Bundle(num_sas=0, sas=(Sa(spi=0),)))))
    assert nothing == zero  # the count says that there is no SA
    (one,) = decoded(Context(outbound=Details(bundle=Bundle(num_sas=1, sas=(Sa(spi=0, has_information=False),)))))
    assert one.outbound.spi == 0 and nothing.outbound.spi is None and one != nothing


def test_directions_are_equal_to_the_same_direction_only() -> None:
    details = Details(bundle=Bundle(qm_sa_id=4))
    one, other = decoded(
        Context(context_id=1, inbound=details, outbound=details), Context(context_id=2, inbound=details)
    )
    assert one.inbound == other.inbound and hash(one.inbound) == hash(other.inbound)
    assert one.inbound != one.outbound
    assert one != other


def test_contexts_and_details_are_unequal_to_everything_else() -> None:
    context = seeded(20)[0]
    for other in (None, 0, context.context_id, "x", object(), context.outbound):
        assert context != other
    for other in (None, 0, context, object()):
        assert context.outbound != other
    with pytest.raises(TypeError):
        context < context  # type: ignore[operator]  # noqa: B015


# --- Life -----------------------------------------------------------------------------------------


def test_a_context_takes_32_bytes_and_is_unknown_to_the_garbage_collector() -> None:
    context = seeded(20)[0]
    assert sys.getsizeof(context) == 32
    for thing in (context, context.inbound, context.outbound):
        assert not gc.is_tracked(thing)


def test_a_context_and_its_directions_keep_their_batch_alive() -> None:
    batch = seeded(100)
    spi, count = batch["spi_out"][50], testing.live_counters()["allocations"]
    context = batch[50]
    del batch
    assert context.spi_out == spi
    details = context.outbound
    del context
    assert details.spi == spi
    assert testing.live_counters()["allocations"] == count


def test_a_detached_context_lets_its_batch_go() -> None:
    batch = seeded(5000)
    whole = batch.nbytes
    context, alone = batch[77], batch[77].detach()
    assert alone == context and hash(alone) == hash(context)
    alive = testing.live_counters()["allocations"]
    del batch, context
    assert testing.live_counters()["allocations"] < alive
    assert alone.outbound is not None and alone.detach() == alone
    assert whole > 5000 * 352


@settings(max_examples=40, deadline=None)
@given(data=st.data(), version=st.sampled_from([0, 1]))
def test_any_context_survives_detaching_copying_and_pickling(data: st.DataObject, version: int) -> None:
    page = build(data.draw(pages.strategy(version)), version)
    for context in testing.decode_page(page.address, page.count, version):
        copies = [context.detach(), copy.copy(context), copy.deepcopy(context)]
        copies += [pickle.loads(pickle.dumps(context, protocol)) for protocol in (0, 2, pickle.HIGHEST_PROTOCOL)]
        for found in copies:
            assert found == context and hash(found) == hash(context) and repr(found) == repr(context)
        for details in filter(None, (context.inbound, context.outbound)):
            found = pickle.loads(pickle.dumps(details))
            assert found == details and found.direction == details.direction


def test_contexts_and_directions_cannot_be_made_or_subclassed() -> None:
    for cls in (SaContext, SaDetails):
        for make in (cls, lambda cls=cls: cls.__new__(cls), lambda cls=cls: object.__new__(cls)):
            with pytest.raises(TypeError):
                make()
        with pytest.raises(TypeError):
            type("Sub", (cls,), {})


# --- Showing --------------------------------------------------------------------------------------


def test_repr_names_id_addresses_and_what_is_there() -> None:
    details = Details(traffic=Traffic(local=v4(0x0A000001), remote=v4(0xC0A80102)))
    batch = decoded(
        Context(context_id=7, inbound=details, outbound=details),
        Context(context_id=8, inbound=details),
        Context(context_id=2**64 - 1, outbound=Details(traffic=Traffic(ip_version=1))),
        Context(context_id=0),
    )
    assert [repr(context) for context in batch] == [
        "<SaContext 7 10.0.0.1 -> 192.168.1.2 inbound+outbound>",
        "<SaContext 8 10.0.0.1 -> 192.168.1.2 inbound>",
        "<SaContext 18446744073709551615 :: -> :: outbound>",
        "<SaContext 0 ? -> ? half-built>",
    ]


def test_repr_of_a_direction_names_spi_and_transform() -> None:
    (context,) = decoded(
        Context(inbound=Details(bundle=Bundle(sas=None)), outbound=Details(bundle=Bundle(sas=(Sa(spi=0xABC),))))
    )
    assert repr(context.inbound) == "<SaDetails inbound no SA>"
    assert repr(context.outbound) == "<SaDetails outbound spi=0x00000abc ESP_AUTH_AND_CIPHER>"
    (odd,) = decoded(Context(outbound=Details(bundle=Bundle(sas=(Sa(spi=1, transform=253),)))))
    assert repr(odd.outbound) == "<SaDetails outbound spi=0x00000001 253>"
