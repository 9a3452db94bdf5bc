"""Manual keying: what may be given, the order of calls, what shows at each stage, and where keys never show."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import COLUMNS, values

import wfpsa
from wfpsa import PfsGroup, Sa, SaBundle, Traffic, TrafficType, TransformType, testing

INCOMPATIBLE_SA_STATE = 0x8032001B
TRAFFIC_MISMATCH = 0x8032001A
INVALID_ENUMERATOR = 0x8032001D
INVALID_PARAMETER = 0x80320035

TRAFFIC = Traffic("10.1.0.1", "10.1.0.2", filter_id=11)
SECRET = bytes(range(0xE0, 0x100))


def one_sa(spi: int = 0x500, **given: Any) -> SaBundle:
    return SaBundle(sas=(Sa(spi=spi, auth_key=bytes(20), cipher_key=bytes(16)),), **{"qm_sa_id": 5, **given})


# --- What may be given ----------------------------------------------------------------------------


def test_numbers_out_of_range_are_value_errors_that_name_the_argument_and_its_range() -> None:
    makers: list[tuple[Callable[..., object], dict[str, int]]] = [
        (
            lambda **given: Traffic("10.0.0.1", "10.0.0.2", **given),
            {"traffic_type": 32, "filter_id": 64, "local_port": 16, "remote_port": 16, "ip_protocol": 8}
            | {"local_interface_luid": 64, "real_profile_id": 32, "udp_local_port": 16, "udp_remote_port": 16}
            | {"virtual_tunnel_id": 64, "traffic_selector_id": 64},
        ),
        (
            Sa,
            {"spi": 32, "transform": 32, "auth_type": 32, "auth_config": 8, "cipher_type": 32, "cipher_config": 8},
        ),
        (
            SaBundle,
            {"qm_sa_id": 32, "lifetime_seconds": 32, "lifetime_kilobytes": 32, "lifetime_packets": 32}
            | {"idle_timeout_seconds": 32, "nd_allow_clear_timeout_seconds": 32, "bundle_flags": 32, "nap_context": 32}
            | {"mm_sa_id": 64, "pfs_group": 32, "qm_filter_id": 64},
        ),
    ]
    for make, names in makers:
        for name, bits in names.items():
            for number in (0, 1, 2**bits - 1, np.uint64(1)):
                assert getattr(make(**{name: number}), name) == number
                assert isinstance(getattr(make(**{name: number}), name), int)
            for wrong in (-1, 2**bits, 10**40):
                with pytest.raises(ValueError, match=rf"^{name} must be 0 to {2**bits - 1}, not {wrong}$"):
                    make(**{name: wrong})
            for wrong, shown in (("1", "str"), (1.0, "float"), (True, "bool"), (None, "NoneType"), (b"1", "bytes")):
                with pytest.raises(TypeError, match=rf"^{name} must be an int, not {shown}$"):
                    make(**{name: wrong})


def test_members_of_enumerations_stay_members() -> None:
    assert Traffic("::1", "::2", TrafficType.TUNNEL).traffic_type is TrafficType.TUNNEL
    assert Sa(transform=TransformType.AH).transform is TransformType.AH
    assert SaBundle(pfs_group=PfsGroup.ECP_384).pfs_group is PfsGroup.ECP_384
    assert type(Sa(transform=77).transform) is int


def test_addresses_may_be_text_or_objects_of_one_family() -> None:
    assert Traffic("10.0.0.1", IPv4Address("10.0.0.2")) == Traffic(IPv4Address("10.0.0.1"), "10.0.0.2")
    assert Traffic("2001:db8::1", "2001:DB8:0::2").remote_address == IPv6Address("2001:db8::2")
    for at, name in enumerate(("local_address", "remote_address")):
        for wrong, error, message in [
            ("10.0.0", ValueError, f"{name} must be an IPv4 or IPv6 address, not '10.0.0'"),
            ("10.0.0.0/8", ValueError, f"{name} must be an IPv4 or IPv6 address, not '10.0.0.0/8'"),
            ("", ValueError, f"{name} must be an IPv4 or IPv6 address, not ''"),
            ("fe80::1%eth0", ValueError, f"{name} must not have a scope, as 'fe80::1%eth0' has"),
            (IPv6Address("fe80::1%eth0"), ValueError, f"{name} must not have a scope"),
            (167772161, TypeError, f"{name} must be an address such as '10.2.0.1', not int"),
            (b"\x0a\0\0\1", TypeError, f"{name} must be an address such as '10.2.0.1', not bytes"),
            (None, TypeError, f"{name} must be an address such as '10.2.0.1', not NoneType"),
        ]:
            arguments: list[Any] = ["10.0.0.1", "10.0.0.1"]
            arguments[at] = wrong
            with pytest.raises(error, match=message):
                Traffic(*arguments)
    with pytest.raises(
        ValueError, match=r"local_address and remote_address must be of one family, not 10\.0\.0\.1 and"
    ):
        Traffic("10.0.0.1", "::1")


def test_nat_t_is_of_ipv4_only() -> None:
    for name in ("udp_local_port", "udp_remote_port"):
        with pytest.raises(ValueError, match="udp_local_port and udp_remote_port are of NAT-T over IPv4"):
            Traffic("::1", "::2", **{name: 4500})
    with pytest.raises(ValueError, match="peer_private_address is of IPv4 only"):
        SaBundle(ip_version=6, peer_private_address="10.0.0.1")
    with pytest.raises(ValueError, match="peer_private_address is of IPv4 only"):
        SaBundle(peer_private_address="::1")
    assert SaBundle(peer_private_address="10.0.0.1").peer_private_address == IPv4Address("10.0.0.1")


def test_keys_are_bytes_of_at_most_255() -> None:
    for name in ("auth_key", "cipher_key"):
        assert getattr(Sa(**{name: b"k" * 255}), name) == b"k" * 255
        with pytest.raises(ValueError, match=f"^{name} must have at most 255 bytes, not 256$"):
            Sa(**{name: b"k" * 256})
        for wrong in ("k", bytearray(b"k"), memoryview(b"k"), None, 5):
            with pytest.raises(TypeError, match=f"^{name} must be bytes, not {type(wrong).__name__}$"):
                Sa(**{name: wrong})


def test_a_bundle_has_up_to_two_sas() -> None:
    sa = Sa()
    assert SaBundle(sas=sa).sas == SaBundle(sas=[sa]).sas == SaBundle(sas=iter([sa])).sas == (sa,)
    assert SaBundle(sas=[sa, sa]).sas == (sa, sa)
    with pytest.raises(ValueError, match=r"^sas must be one or two \(ESP, then AH\), not 3$"):
        SaBundle(sas=[sa] * 3)
    with pytest.raises(TypeError, match=r"^sas must be Sa objects, not int$"):
        SaBundle(sas=[sa, 5])
    for wrong in (5, None):
        with pytest.raises(TypeError, match=f"^sas must be an Sa or Sa objects, not {type(wrong).__name__}$"):
            SaBundle(sas=wrong)


BAD_BUNDLES: list[tuple[dict[str, object], type[Exception], str]] = [
    ({"ip_version": 5}, ValueError, "ip_version must be 4 or 6, not 5"),
    ({"ip_version": 4.0}, TypeError, "ip_version must be an int, not float"),
    ({"ip_version": True}, TypeError, "ip_version must be an int, not bool"),
    ({"peer_private_address": 5}, TypeError, "peer_private_address must be an address such as .*, not int"),
    ({"peer_private_address": "x"}, ValueError, "peer_private_address must be an IPv4 or IPv6 address, not 'x'"),
    ({"lookup_context": "0" * 32}, TypeError, "lookup_context must be a uuid.UUID or None, not str"),
    ({"key_module": b"\0" * 16}, TypeError, "key_module must be a uuid.UUID or None, not bytes"),
    ({"main_mode_target": b"x"}, TypeError, "main_mode_target must be a str or None, not bytes"),
    ({"extended_mode_target": 5}, TypeError, "extended_mode_target must be a str or None, not int"),
    ({"main_mode_target": "a\0b"}, ValueError, "main_mode_target must have no NUL and at most 32767 UTF-16 units"),
    ({"extended_mode_target": "x" * 32768}, ValueError, "extended_mode_target must have no NUL and at most 32767"),
    (
        {"extended_mode_target": "\N{OLD PERSIAN SIGN A}" * 16384},
        ValueError,
        "extended_mode_target must have .* UTF-16",
    ),
    ({"main_mode_target": "\ud800"}, ValueError, "main_mode_target must not have unpaired surrogates"),
    ({"keys": 5}, TypeError, "keys"),
]


def test_a_bad_bundle_is_refused_by_the_name_of_what_is_bad() -> None:
    for arguments, error, message in BAD_BUNDLES:
        with pytest.raises(error, match=message):
            SaBundle(**arguments)  # type: ignore[arg-type]


def test_what_is_given_is_immutable_and_compares_by_value() -> None:
    for one, other in [
        (Traffic("10.0.0.1", "10.0.0.2"), Traffic("10.0.0.1", "10.0.0.2", local_port=1)),
        (Sa(spi=1), Sa(spi=1, auth_key=b"k")),
        (one_sa(), one_sa(nap_context=1)),
    ]:
        same = replace(one)
        assert one == same and hash(one) == hash(same) and one != other
        with pytest.raises(AttributeError):
            one.filter_id = 5  # type: ignore[misc, union-attr]


def test_calls_refuse_other_things_than_traffic_and_bundles_by_name(engine: wfpsa.Engine) -> None:
    number = engine.create(TRAFFIC)
    wrong: Any
    takes_traffic: list[Callable[[Any], object]] = [
        engine.create,
        lambda traffic: engine.get_spi(number, traffic),
        lambda traffic: engine.set_spi(number, traffic, 1),
    ]
    for wrong in (None, 5, "10.0.0.1", ("10.0.0.1", "10.0.0.2"), one_sa()):
        for call in takes_traffic:
            with pytest.raises(TypeError, match=f"^traffic must be a wfpsa.Traffic, not {type(wrong).__name__}$"):
                call(wrong)
    for wrong in (None, 5, Sa(), [Sa()], TRAFFIC):
        for add in (engine.add_inbound, engine.add_outbound):
            with pytest.raises(TypeError, match=f"^bundle must be a wfpsa.SaBundle, not {type(wrong).__name__}$"):
                add(number, wrong)
    for wrong, error in ((0, ValueError), (-1, ValueError), (2**32, ValueError), ("1", TypeError), (True, TypeError)):
        with pytest.raises(error, match=r"^spi must be"):
            engine.set_spi(number, TRAFFIC, wrong)
    for _, _, keying in CALLS.values():
        for wrong in (-1, 2**64):
            with pytest.raises(ValueError, match=rf"context_id must be 0 to 2\*\*64 - 1, not {wrong}"):
                keying(engine, wrong)


def test_an_update_refuses_what_it_cannot_change_by_name(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    number = embedded.add()
    before = values(engine.snapshot())
    for arguments, error, message in [
        ({"direction": "in"}, ValueError, 'direction must be "inbound" or "outbound", not \'in\''),
        ({"spi": 5}, TypeError, "cannot update spi; known: traffic, bundle_flags, nap_context, key_module"),
        ({"b": 1, "a": 2}, TypeError, "cannot update a, b; known"),
        ({"traffic": 5}, TypeError, "traffic must be a wfpsa.Traffic, not int"),
        ({"bundle_flags": 2**32}, ValueError, "bundle_flags must be 0 to 4294967295, not 4294967296"),
        ({"mm_sa_id": None}, TypeError, "mm_sa_id must be an int, not NoneType"),
        ({"key_module": "x"}, TypeError, "key_module must be a uuid.UUID or None, not str"),
        ({"peer_private_address": "::1"}, ValueError, "peer_private_address is of IPv4 only"),
    ]:
        with pytest.raises(error, match=message):
            engine.update(number, **{"direction": "outbound", **arguments})  # type: ignore[arg-type]
    assert values(engine.snapshot()) == before


# --- The order of calls ---------------------------------------------------------------------------


def at_stage(engine: wfpsa.Engine, stage: str) -> int:
    """A context that has come so far; its inbound SPI is 0x500."""
    number = engine.create(TRAFFIC)
    for name, call in (
        ("spi", lambda: engine.set_spi(number, TRAFFIC, 0x500)),
        ("inbound", lambda: engine.add_inbound(number, one_sa())),
        ("complete", lambda: engine.add_outbound(number, one_sa(0x600, bundle_flags=0x2000))),
        ("expired", lambda: engine.expire([number]).raise_for_failures()),
    ):
        if STAGES.index(name) > STAGES.index(stage):
            break
        call()
    return number


STAGES = ("created", "spi", "inbound", "complete", "expired")
CALLS: dict[str, tuple[str, set[str], Callable[[wfpsa.Engine, int], object]]] = {
    "get_spi": ("IPsecSaContextGetSpi1", {"created", "spi"}, lambda engine, number: engine.get_spi(number, TRAFFIC)),
    "set_spi": (
        "IPsecSaContextSetSpi0",
        {"created", "spi"},
        lambda engine, number: engine.set_spi(number, TRAFFIC, 0x501),
    ),
    "add_inbound": (
        "IPsecSaContextAddInbound1",
        {"spi"},
        lambda engine, number: engine.add_inbound(number, one_sa()),
    ),
    "add_outbound": (
        "IPsecSaContextAddOutbound1",
        {"inbound"},
        lambda engine, number: engine.add_outbound(number, one_sa()),
    ),
    "update inbound": (
        "IPsecSaContextUpdate0",
        {"inbound", "complete", "expired"},
        lambda engine, number: engine.update(number, "inbound", nap_context=3),
    ),
    "update outbound": (
        "IPsecSaContextUpdate0",
        {"complete"},
        lambda engine, number: engine.update(number, "outbound", nap_context=3),
    ),
}


@pytest.mark.parametrize("stage", STAGES)
def test_calls_out_of_order_are_an_incompatible_sa_state_and_change_nothing(engine: wfpsa.Engine, stage: str) -> None:
    for name, (function, stages, call) in CALLS.items():
        number = at_stage(engine, stage)
        before = engine.get(number)
        if stage in stages:
            call(engine, number)
            continue
        with pytest.raises(wfpsa.WfpError) as caught:
            call(engine, number)
        assert type(caught.value) is wfpsa.WfpError, name
        assert (caught.value.code, caught.value.function) == (INCOMPATIBLE_SA_STATE, function)
        assert engine.get(number) == before


def test_an_unknown_context_is_not_found_by_every_call(engine: wfpsa.Engine) -> None:
    gone = engine.create(TRAFFIC)
    engine.delete(gone)
    for number in (gone, 0, 1, 2**64 - 1):
        for function, _, call in CALLS.values():
            with pytest.raises(wfpsa.NotFound) as caught:
                call(engine, number)
            assert caught.value.function == function


def test_who_may_only_read_may_not_key(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    number = engine.create(TRAFFIC)
    embedded.rights("read_only")
    with embedded.open() as reader:
        for function, _, call in CALLS.values():
            with pytest.raises(wfpsa.AccessDenied, match=function):
                call(reader, number)
        with pytest.raises(wfpsa.AccessDenied, match="IPsecSaContextCreate1"):
            reader.create(TRAFFIC)
    assert len(embedded) == 1


def test_getting_an_spi_again_gives_the_same_one_and_setting_another_replaces_it(engine: wfpsa.Engine) -> None:
    number = engine.create(TRAFFIC)
    spi = engine.get_spi(number, TRAFFIC)
    assert 0 < spi < 2**32 and engine.get_spi(number, TRAFFIC) == spi
    engine.set_spi(number, TRAFFIC, 2**32 - 1)
    assert engine.get_spi(number, TRAFFIC) == 2**32 - 1
    others = [engine.create(TRAFFIC) for _ in range(50)]
    assert len({engine.get_spi(other, TRAFFIC) for other in others}) == 50


def test_an_spi_for_other_traffic_is_a_traffic_mismatch(engine: wfpsa.Engine) -> None:
    others = [
        replace(TRAFFIC, local_address="10.1.0.3"),
        replace(TRAFFIC, remote_address="10.1.0.3"),
        replace(TRAFFIC, traffic_type=TrafficType.TUNNEL),
        Traffic("::a01:1", "::a01:2"),
    ]
    later = [replace(TRAFFIC, filter_id=12), replace(TRAFFIC, remote_port=5), replace(TRAFFIC, ip_protocol=17)]
    for other in others + later:
        number = engine.create(TRAFFIC)
        if other in later:  # the ports, and the filter, may be others than the outbound's, but then stay
            engine.get_spi(number, TRAFFIC)
        with pytest.raises(wfpsa.WfpError) as got:
            engine.get_spi(number, other)
        with pytest.raises(wfpsa.WfpError) as set_:
            engine.set_spi(number, other, 5)
        assert got.value.code == set_.value.code == TRAFFIC_MISMATCH
        if other in later:
            fresh = engine.create(TRAFFIC)
            assert engine.get_spi(fresh, other) == engine.get_spi(fresh, other)


REFUSED: list[tuple[SaBundle, int]] = [
    (SaBundle(qm_sa_id=5), INVALID_PARAMETER),
    (SaBundle(sas=[Sa(transform=1), Sa(transform=2)], qm_sa_id=5), INVALID_PARAMETER),
    (SaBundle(sas=[Sa(transform=2), Sa(transform=2)], qm_sa_id=5), INVALID_PARAMETER),
    (SaBundle(sas=[Sa(transform=0)]), INVALID_ENUMERATOR),
    (SaBundle(sas=[Sa(transform=6)]), INVALID_ENUMERATOR),
    (SaBundle(sas=[Sa(auth_type=6)]), INVALID_ENUMERATOR),
    (SaBundle(sas=[Sa(cipher_type=0)]), INVALID_ENUMERATOR),
    (SaBundle(sas=[Sa(auth_config=6)]), 0x80320038),
    (SaBundle(sas=[Sa(cipher_config=9)]), 0x80320039),
    (one_sa(pfs_group=8), INVALID_ENUMERATOR),
    (one_sa(0x501), INVALID_PARAMETER),  # not the SPI that was set
]


def test_a_bundle_that_the_engine_refuses_leaves_the_context_as_it_was(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    number = at_stage(engine, "spi")
    for bundle, code in REFUSED:
        with pytest.raises(wfpsa.WfpError) as caught:
            engine.add_inbound(number, bundle)
        assert (caught.value.code, caught.value.function) == (code, "IPsecSaContextAddInbound1"), bundle
        assert not engine.get(number).has_inbound
        if bundle != REFUSED[-1][0]:  # it takes any SPI
            with pytest.raises(wfpsa.WfpError) as added:
                embedded.add(outbound=bundle)
            assert (added.value.code, added.value.function) == (code, "EmbeddedEngine.add")
    assert len(embedded) == 1
    engine.add_inbound(number, one_sa())
    with pytest.raises(wfpsa.WfpError, match="FWP_E_INVALID_PARAMETER"):
        engine.add_outbound(number, one_sa(qm_sa_id=6))  # a pair has one quick-mode id
    engine.add_outbound(number, one_sa(0x999))


def test_traffic_that_the_engine_refuses_makes_no_context(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    tunnel = replace(TRAFFIC, traffic_type=TrafficType.TUNNEL)
    for traffic, code in [
        (replace(TRAFFIC, traffic_type=2), INVALID_ENUMERATOR),
        (replace(tunnel, remote_port=1), INVALID_PARAMETER),
        (replace(tunnel, local_port=1), INVALID_PARAMETER),
        (replace(tunnel, ip_protocol=1), INVALID_PARAMETER),
    ]:
        with pytest.raises(wfpsa.WfpError) as caught:
            engine.create(traffic)
        assert (caught.value.code, caught.value.function) == (code, "IPsecSaContextCreate1")
        with pytest.raises(wfpsa.WfpError) as added:
            embedded.add(traffic=traffic)
        assert added.value.code == code
    assert len(embedded) == 0


# --- What shows -----------------------------------------------------------------------------------

NUMBERS16, NUMBERS32, NUMBERS64 = (
    st.sampled_from([0, 1, 2**bits - 1]) | st.integers(0, 2**bits - 1) for bits in (16, 32, 64)
)
NAMES = st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
GUIDS = st.none() | st.uuids()
KEYS = st.binary(max_size=40)


@st.composite
def traffics(draw: st.DrawFn, like: Traffic | None = None) -> Traffic:
    """Any traffic, or any between the same ends."""
    if like is None:
        family = draw(st.sampled_from([4, 6]))
        local, remote = draw(st.ip_addresses(v=family)), draw(st.ip_addresses(v=family))
        kind = draw(st.sampled_from(TrafficType))
    else:
        local, remote, kind = like.local_address, like.remote_address, like.traffic_type
    special = kind == TrafficType.TRANSPORT
    return Traffic(
        local,
        remote,
        kind,
        filter_id=draw(NUMBERS64),
        local_port=draw(NUMBERS16) if special else 0,
        remote_port=draw(NUMBERS16) if special else 0,
        ip_protocol=draw(st.integers(0, 255)) if special else 0,
        local_interface_luid=draw(NUMBERS64),
        real_profile_id=draw(NUMBERS32),
        udp_local_port=draw(NUMBERS16) if local.version == 4 else 0,
        udp_remote_port=draw(NUMBERS16) if local.version == 4 else 0,
        virtual_tunnel_id=draw(NUMBERS64),
        traffic_selector_id=draw(NUMBERS64),
    )


def sas(transforms: st.SearchStrategy[int]) -> st.SearchStrategy[Sa]:
    return st.builds(
        Sa,
        spi=NUMBERS32,
        transform=transforms,
        auth_type=st.integers(0, 5),
        auth_config=st.integers(0, 5),
        cipher_type=st.integers(1, 5),
        cipher_config=st.integers(1, 8),
        auth_key=KEYS,
        cipher_key=KEYS,
    )


@st.composite
def bundles(draw: st.DrawFn) -> SaBundle:
    version = draw(st.sampled_from([4, 6]))
    return SaBundle(
        sas=draw(
            st.tuples(sas(st.integers(1, 5))) | st.tuples(sas(st.integers(2, 5)), sas(st.just(1)))  # ESP, then AH
        ),
        qm_sa_id=draw(NUMBERS32),
        lifetime_seconds=draw(NUMBERS32),
        lifetime_kilobytes=draw(NUMBERS32),
        lifetime_packets=draw(NUMBERS32),
        idle_timeout_seconds=draw(NUMBERS32),
        nd_allow_clear_timeout_seconds=draw(NUMBERS32),
        bundle_flags=draw(NUMBERS32),
        nap_context=draw(NUMBERS32),
        mm_sa_id=draw(NUMBERS64),
        pfs_group=draw(st.integers(0, 7)),
        qm_filter_id=draw(NUMBERS64),
        ip_version=version,
        peer_private_address=draw(st.none() | st.ip_addresses(v=4)) if version == 4 else None,
        lookup_context=draw(GUIDS),
        key_module=draw(GUIDS),
        main_mode_target=draw(NAMES),
        extended_mode_target=draw(NAMES),
    )


def cell(address: IPv4Address | IPv6Address) -> bytes:
    return bytes(10) + b"\xff\xff" + address.packed if address.version == 4 else address.packed


def expected_traffic(traffic: Traffic) -> dict[str, object]:
    return {
        "ip_version": traffic.local_address.version,
        "traffic_type": traffic.traffic_type,
        "local_address": cell(traffic.local_address),
        "remote_address": cell(traffic.remote_address),
        "local_port": traffic.local_port,
        "remote_port": traffic.remote_port,
        "ip_protocol": traffic.ip_protocol,
        "local_interface_luid": traffic.local_interface_luid,
        "real_profile_id": traffic.real_profile_id,
    }


def expected_direction(bundle: SaBundle, traffic: Traffic, shared: Traffic, tunnel: Traffic) -> dict[str, object]:
    """`shared` has the ports of NAT-T, `tunnel` the ids of a tunnel."""
    first, second = bundle.sas[0], (*bundle.sas, None)[1]
    has_auth, has_cipher = first.transform != 3, first.transform in (3, 4)
    same = (
        *("bundle_flags", "lifetime_seconds", "lifetime_kilobytes", "lifetime_packets", "idle_timeout_seconds"),
        *("nd_allow_clear_timeout_seconds", "nap_context", "qm_sa_id", "mm_sa_id", "pfs_group", "qm_filter_id"),
        *("main_mode_target", "extended_mode_target"),
    )
    peer = bundle.peer_private_address
    return {name: getattr(bundle, name) for name in same} | {
        "spi": first.spi,
        "ah_spi": second and second.spi,
        "sa_count": len(bundle.sas),
        "transform": first.transform,
        "auth_type": first.auth_type if has_auth else None,
        "auth_config": first.auth_config if has_auth else None,
        "cipher_type": first.cipher_type if has_cipher else None,
        "cipher_config": first.cipher_config if has_cipher else None,
        "ah_auth_type": second and second.auth_type,
        "ah_auth_config": second and second.auth_config,
        "lookup_context": bundle.lookup_context.bytes_le if bundle.lookup_context else None,
        "key_module": bundle.key_module.bytes_le if bundle.key_module else None,
        "filter_id": traffic.filter_id,
        "transport_filter_id": None,
        "udp_local_port": shared.udp_local_port or None,
        "udp_remote_port": shared.udp_remote_port or None,
        "peer_private_address": (int(peer) if peer else 0) or None,
        "virtual_tunnel_id": tunnel.virtual_tunnel_id or None,
        "traffic_selector_id": tunnel.traffic_selector_id or None,
    }


def assert_shows(engine: wfpsa.Engine, number: int, expected: dict[str, object]) -> None:
    """The one context has these values, through every call of both versions; what is not expected is absent."""
    for version in (0, 1):
        batch = engine.snapshot(version=version)
        assert len(batch) == 1 and engine.get(number, version=version) == batch[0]
        row = {name: column[0] for name, column in values(batch).items()}
        wanted = {"context_id": number, "traffic_differs": False, **expected}
        assert row == {name: wanted.get(name) for name in COLUMNS[version]}


def both(bundle_in: dict[str, object] | None, bundle_out: dict[str, object] | None) -> dict[str, object]:
    row: dict[str, object] = {"has_inbound": bundle_in is not None, "has_outbound": bundle_out is not None}
    for side, found in (("in", bundle_in), ("out", bundle_out)):
        row |= {f"{name}_{side}": value for name, value in (found or {}).items()}
    return row


@settings(max_examples=80, deadline=None)
@given(
    traffic=traffics(),
    inbound=st.none() | bundles(),
    outbound=st.none() | bundles(),
    number=st.none() | st.integers(1, 2**64 - 1),
)
def test_an_added_context_shows_what_was_given(
    traffic: Traffic, inbound: SaBundle | None, outbound: SaBundle | None, number: int | None
) -> None:
    with testing.EmbeddedEngine() as control, control.open() as engine:
        control.stop_clock()
        made = control.add(traffic=traffic, inbound=inbound, outbound=outbound, context_id=number)
        assert number in (None, made)
        sides = [bundle and expected_direction(bundle, traffic, traffic, traffic) for bundle in (inbound, outbound)]
        shown = expected_traffic(traffic) if inbound or outbound else {}
        assert_shows(engine, made, both(*sides) | shown)


@settings(max_examples=80, deadline=None)
@given(data=st.data(), outside=traffics(), inbound=bundles(), outbound=bundles(), wanted=st.none() | NUMBERS32)
def test_a_keyed_context_shows_what_was_given_at_each_stage(
    data: st.DataObject, outside: Traffic, inbound: SaBundle, outbound: SaBundle, wanted: int | None
) -> None:
    inside = data.draw(traffics(outside))
    with testing.EmbeddedEngine() as control, control.open() as engine:
        control.stop_clock()
        number = engine.create(outside)
        assert_shows(engine, number, both(None, None))
        spi = wanted or engine.get_spi(number, inside)
        if wanted:
            engine.set_spi(number, inside, spi)
        assert_shows(engine, number, both(None, None))
        inbound = replace(inbound, sas=(replace(inbound.sas[0], spi=spi), *inbound.sas[1:]))
        engine.add_inbound(number, inbound)
        shown_in = expected_direction(inbound, inside, inside, outside)
        assert_shows(engine, number, both(shown_in, None) | expected_traffic(inside))
        outbound = replace(outbound, qm_sa_id=inbound.qm_sa_id)
        engine.add_outbound(number, outbound)
        shown_out = expected_direction(outbound, outside, inside, outside)
        differs = any(
            getattr(inside, name) != getattr(outside, name) for name in ("local_port", "remote_port", "ip_protocol")
        )
        for version in (0, 1):  # version 0 does not have all that may differ
            assert engine.get(number, version=version).traffic_differs is (
                differs if version else inside.remote_port != outside.remote_port
            )
        shown = both(shown_in, shown_out) | expected_traffic(outside)
        batch = engine.snapshot()
        assert {name: column[0] for name, column in values(batch).items()} == {
            "context_id": number,
            "traffic_differs": differs,
            **shown,
        }


def test_a_newer_outbound_sa_for_the_same_traffic_deletes_the_older_context_unless_told_not_to(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    first, second = at_stage(engine, "complete"), at_stage(engine, "complete")  # both suppress it
    assert {context.context_id for context in engine.snapshot()} == {first, second}
    elsewhere = embedded.add("10.1.0.1", "10.1.0.9")
    third = at_stage(engine, "inbound")
    engine.add_outbound(third, one_sa(0x700))
    assert {context.context_id for context in engine.snapshot()} == {elsewhere, third}
    assert engine.statistics().successful_rekeys == 2


# --- Updates --------------------------------------------------------------------------------------

UPDATES: dict[str, tuple[object, dict[str, object]]] = {
    "bundle_flags": (0x00402001, {"bundle_flags": 0x00402001}),
    "nap_context": (2**32 - 1, {"nap_context": 2**32 - 1}),
    "key_module": (UUID(int=9), {"key_module": UUID(int=9)}),
    "key_module to none": (None, {"key_module": None}),
    "peer_private_address": ("192.168.1.1", {"peer_private_address": IPv4Address("192.168.1.1")}),
    "peer_private_address to none": (None, {"peer_private_address": None}),
    "mm_sa_id": (2**64 - 1, {"mm_sa_id": 2**64 - 1}),
    "traffic": (
        replace(TRAFFIC, filter_id=99, udp_local_port=4501, udp_remote_port=4502),
        {"filter_id": 99, "udp_local_port": 4501, "udp_remote_port": 4502},
    ),
    "traffic without nat-t": (
        replace(TRAFFIC, filter_id=99),
        {"filter_id": 99, "udp_local_port": None, "udp_remote_port": None},
    ),
}


def updatable(embedded: testing.EmbeddedEngine) -> int:
    """The id of a context in which each of those values is another."""
    bundle = one_sa(
        nap_context=1, key_module=UUID(int=1), peer_private_address="192.168.0.7", mm_sa_id=1, main_mode_target="m"
    )
    traffic = replace(TRAFFIC, udp_local_port=4500, udp_remote_port=4500)
    return embedded.add(traffic=traffic, inbound=bundle, outbound=bundle)


def shown_of(details: wfpsa.SaDetails) -> dict[str, object]:
    return {name: getattr(details, name) for name in dir(details) if not name.startswith("_")}


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_an_update_changes_one_value_in_one_direction_and_nothing_else(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, name: str, direction: str
) -> None:
    given, expected = UPDATES[name]
    number = updatable(embedded)
    bystander = updatable(embedded)
    before = {id: engine.get(id) for id in (number, bystander)}
    held = engine.pages(page_size=1)
    first = next(held)
    engine.update(number, direction, **{name.split()[0]: given})  # type: ignore[arg-type]
    after = engine.get(number)
    other = "outbound" if direction == "inbound" else "inbound"
    assert getattr(after, other) == getattr(before[number], other)
    assert shown_of(getattr(after, direction)) == shown_of(getattr(before[number], direction)) | expected
    assert getattr(before[number], direction) != getattr(after, direction)
    assert engine.get(bystander) == before[bystander]
    assert [*first, *next(held)] == [before[number], before[bystander]]  # as it was when that began


def test_an_update_of_everything_and_one_of_nothing(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    number = updatable(embedded)
    before = engine.get(number)
    engine.update(number, "inbound")
    assert engine.get(number) == before
    plain = {name: given for name, (given, _) in UPDATES.items() if " " not in name}
    engine.update(number, "inbound", **plain)  # type: ignore[arg-type]
    expected = {key: value for name, (_, shown) in UPDATES.items() if " " not in name for key, value in shown.items()}
    assert shown_of(engine.get(number).inbound) == shown_of(before.inbound) | expected
    assert engine.get(number).outbound == before.outbound


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_an_update_of_the_traffic_of_one_direction_makes_the_two_differ(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, direction: str
) -> None:
    number = embedded.add(traffic=TRAFFIC)
    new = replace(TRAFFIC, remote_address="10.1.0.77", remote_port=99, ip_protocol=17, real_profile_id=3)
    engine.update(number, direction, traffic=new)
    found = engine.get(number)
    assert found.traffic_differs
    shown = new if direction == "outbound" else TRAFFIC  # the outbound SA speaks for the context
    assert (found.remote_address, found.remote_port) == (shown.remote_address, shown.remote_port)
    engine.update(number, "inbound" if direction == "outbound" else "outbound", traffic=new)
    found = engine.get(number)
    assert not found.traffic_differs and found.remote_address == IPv4Address("10.1.0.77")
    engine.expire([number])
    assert engine.get(number).remote_port == 99
    engine.update(number, "inbound", traffic=TRAFFIC)
    assert engine.get(number).remote_address == TRAFFIC.remote_address


# --- Secrecy --------------------------------------------------------------------------------------


def assert_secret(shown: bytes | str) -> None:
    if isinstance(shown, str):
        assert repr(SECRET[:4])[2:-1] not in shown and SECRET[:4].hex() not in shown.lower()
        shown = shown.encode("utf-8", "surrogatepass") + shown.encode("latin-1", "replace")
    assert not any(SECRET[at : at + 4] in shown for at in range(len(SECRET) - 3))


def secret_bundle(spi: int, **given: Any) -> SaBundle:
    sa = Sa(spi=spi, auth_key=SECRET, cipher_key=SECRET)
    return SaBundle(sas=(sa, replace(sa, spi=spi + 1, transform=1)), qm_sa_id=5, **given)


def test_keys_given_are_in_no_repr_error_pickle_or_column(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    inbound = secret_bundle(0x500)
    assert_secret(repr(inbound) + str(inbound) + repr(inbound.sas) + f"{inbound.sas[0]!s}")
    number = engine.create(TRAFFIC)
    engine.set_spi(number, TRAFFIC, 0x500)
    for refused in (secret_bundle(0x501), replace(inbound, pfs_group=9), replace(inbound, sas=inbound.sas[::-1])):
        with pytest.raises(wfpsa.WfpError) as caught:
            engine.add_inbound(number, refused)
        assert_secret(repr(caught.value) + str(caught.value) + str(vars(caught.value)))
        assert_secret(pickle.dumps(caught.value))
    engine.add_inbound(number, inbound)
    engine.add_outbound(number, secret_bundle(0x600))
    embedded.add(inbound=inbound, outbound=secret_bundle(0x700))
    for version in (0, 1):
        batch = engine.snapshot(version=version)
        assert len(batch) == 2
        for thing in (batch, batch[0], batch[1].outbound, engine.get(number, version=version)):
            assert_secret(pickle.dumps(thing))
            assert_secret(repr(thing))
        for name in batch.columns:
            assert_secret(bytes(batch[name]))
    assert_secret(pickle.dumps(engine.expire(batch)))
    for wrong in (SECRET * 9, bytearray(SECRET)):
        with pytest.raises((TypeError, ValueError)) as bad:
            Sa(auth_key=wrong)  # type: ignore[arg-type]
        assert_secret(str(bad.value))


def test_an_sa_is_not_pickled_and_copies_of_it_are_itself() -> None:
    bundle = secret_bundle(1)
    for thing in (bundle, bundle.sas[0]):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(TypeError, match="an Sa holds keys and is not pickled"):
                pickle.dumps(thing, protocol)
    assert copy.copy(bundle.sas[0]) is copy.deepcopy(bundle.sas[0]) is bundle.sas[0]
    assert copy.deepcopy(bundle) == bundle
    assert pickle.loads(pickle.dumps(TRAFFIC)) == TRAFFIC
    assert pickle.loads(pickle.dumps(SaBundle(nap_context=3))) == SaBundle(nap_context=3)
