"""Tests of the oracle itself, over pages whose expected columns are written by hand."""

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given, settings
from oracle import COLUMNS0, COLUMNS1, decode
from pages import (
    KEY_MARK,
    Algorithm,
    Bundle,
    Context,
    Details,
    Identity,
    KeyModule,
    Sa,
    Traffic,
    build,
    strategy,
    v4,
)

LOOKUP = UUID("00112233-4455-6677-8899-aabbccddeeff").bytes_le
MODULE = UUID("a9bbf787-82a8-45bb-a400-5d7e5952c7a9").bytes_le
V6_LOCAL = bytes.fromhex("20010db8000000000000000000000001")
V6_REMOTE = bytes.fromhex("20010db8000000000000000000000002")

INBOUND = Details(
    traffic=Traffic(
        local=v4(0x0A000001),
        remote=v4(0xC0A80102),
        traffic_type=1,
        filter_id=70001,
        remote_port=443,
        local_port=51000,
        ip_protocol=6,
        local_interface_luid=0x0006008003000000,
        real_profile_id=3,
    ),
    bundle=Bundle(
        flags=0x80200001,
        lifetime_seconds=3600,
        lifetime_kilobytes=250000,
        lifetime_packets=2**31,
        idle_timeout_seconds=300,
        nd_allow_clear_timeout_seconds=10,
        identity=Identity(main_mode_target="host\\büro", extended_mode_target="😀@example"),
        nap_context=5,
        qm_sa_id=9,
        num_sas=2,
        sas=(
            Sa(
                spi=0xDEADBEEF,
                transform=4,
                auth=Algorithm(type=1, config=1),
                cipher=Algorithm(type=3, config=6),
            ),
            Sa(spi=256, transform=1, auth=Algorithm(type=2, config=5)),
        ),
        key_module=KeyModule(key=MODULE),
        peer_private_address=0xAC100005,
        mm_sa_id=2**64 - 1,
        pfs_group=7,
        lookup_context=LOOKUP,
        qm_filter_id=70002,
    ),
    udp_ports=(4500, 61000),
    transport_filter_id=70003,
    virtual_tunnel_id=81,
    traffic_selector_id=82,
)
OUTBOUND = Details(
    ip_version=1,
    traffic=Traffic(ip_version=1, local=V6_LOCAL, remote=V6_REMOTE, filter_id=70011, real_profile_id=2),
    bundle=Bundle(ip_version=1, num_sas=1, sas=(Sa(spi=1, transform=3, has_information=False),)),
)

INBOUND_COLUMNS = {
    "spi_in": 0xDEADBEEF,
    "ah_spi_in": 256,
    "sa_count_in": 2,
    "transform_in": 4,
    "auth_type_in": 1,
    "auth_config_in": 1,
    "cipher_type_in": 3,
    "cipher_config_in": 6,
    "ah_auth_type_in": 2,
    "ah_auth_config_in": 5,
    "bundle_flags_in": 0x80200001,
    "lifetime_seconds_in": 3600,
    "lifetime_kilobytes_in": 250000,
    "lifetime_packets_in": 2**31,
    "idle_timeout_seconds_in": 300,
    "nd_allow_clear_timeout_seconds_in": 10,
    "nap_context_in": 5,
    "qm_sa_id_in": 9,
    "mm_sa_id_in": 2**64 - 1,
    "pfs_group_in": 7,
    "qm_filter_id_in": 70002,
    "lookup_context_in": LOOKUP,
    "filter_id_in": 70001,
    "transport_filter_id_in": 70003,
    "udp_local_port_in": 4500,
    "udp_remote_port_in": 61000,
    "peer_private_address_in": 0xAC100005,
    "key_module_in": MODULE,
    "virtual_tunnel_id_in": 81,
    "traffic_selector_id_in": 82,
    "main_mode_target_in": "host\\büro",
    "extended_mode_target_in": "😀@example",
}
OUTBOUND_COLUMNS = {
    "spi_out": 1,
    "ah_spi_out": None,
    "sa_count_out": 1,
    "transform_out": 3,
    "auth_type_out": None,
    "auth_config_out": None,
    "cipher_type_out": None,
    "cipher_config_out": None,
    "ah_auth_type_out": None,
    "ah_auth_config_out": None,
    "bundle_flags_out": 0,
    "lifetime_seconds_out": 0,
    "lifetime_kilobytes_out": 0,
    "lifetime_packets_out": 0,
    "idle_timeout_seconds_out": 0,
    "nd_allow_clear_timeout_seconds_out": 0,
    "nap_context_out": 0,
    "qm_sa_id_out": 0,
    "mm_sa_id_out": 0,
    "pfs_group_out": 0,
    "qm_filter_id_out": 0,
    "lookup_context_out": None,
    "filter_id_out": 70011,
    "transport_filter_id_out": None,
    "udp_local_port_out": None,
    "udp_remote_port_out": None,
    "peer_private_address_out": None,
    "key_module_out": None,
    "virtual_tunnel_id_out": None,
    "traffic_selector_id_out": None,
    "main_mode_target_out": None,
    "extended_mode_target_out": None,
}
TWO_SIDED = {
    "context_id": 2**63 + 5,
    "has_inbound": True,
    "has_outbound": True,
    "ip_version": 6,
    "traffic_type": 0,
    "local_address": V6_LOCAL,
    "remote_address": V6_REMOTE,
    "local_port": 0,
    "remote_port": 0,
    "ip_protocol": 0,
    "local_interface_luid": 0,
    "real_profile_id": 2,
    "traffic_differs": True,
    **INBOUND_COLUMNS,
    **OUTBOUND_COLUMNS,
}
INBOUND_ONLY = {
    "context_id": 7,
    "has_inbound": True,
    "has_outbound": False,
    "ip_version": 4,
    "traffic_type": 1,
    "local_address": bytes.fromhex("00000000000000000000ffff0a000001"),
    "remote_address": bytes.fromhex("00000000000000000000ffffc0a80102"),
    "local_port": 51000,
    "remote_port": 443,
    "ip_protocol": 6,
    "local_interface_luid": 0x0006008003000000,
    "real_profile_id": 3,
    "traffic_differs": False,
    **INBOUND_COLUMNS,
    **dict.fromkeys(OUTBOUND_COLUMNS),
}
EMPTY = {
    **dict.fromkeys(TWO_SIDED),
    "context_id": 0,
    "has_inbound": False,
    "has_outbound": False,
    "traffic_differs": False,
}


def decoded(*contexts: Context, version: int = 1) -> list[dict[str, object]]:
    page = build(contexts, version)
    return decode(page.address, page.count, version)


def outbound(bundle: Bundle | None = None, **details: object) -> dict[str, object]:
    """The columns of a context whose only direction is an outbound one, made of these."""
    made = Details(bundle=bundle or Bundle(), **details)  # type: ignore[arg-type]
    return decoded(Context(outbound=made))[0]


@pytest.mark.parametrize("version", [0, 1])
def test_every_column_of_a_page(version: int) -> None:
    columns = COLUMNS1 if version == 1 else COLUMNS0
    rows = decoded(
        Context(context_id=2**63 + 5, inbound=INBOUND, outbound=OUTBOUND),
        Context(context_id=7, inbound=INBOUND),
        Context(context_id=0),
        version=version,
    )
    expected = [{name: row[name] for name in columns} for row in (TWO_SIDED, INBOUND_ONLY, EMPTY)]
    assert rows == expected
    assert all(tuple(row) == columns for row in rows)


def test_the_columns_of_version_0_are_those_of_version_1_without_eight() -> None:
    assert tuple(TWO_SIDED) == COLUMNS1
    only_1 = [name for name in COLUMNS1 if name not in COLUMNS0]
    assert only_1 == [
        "local_port",
        "ip_protocol",
        "local_interface_luid",
        "real_profile_id",
        "qm_filter_id_in",
        "lookup_context_in",
        "virtual_tunnel_id_in",
        "traffic_selector_id_in",
        "qm_filter_id_out",
        "lookup_context_out",
        "virtual_tunnel_id_out",
        "traffic_selector_id_out",
    ]
    assert [name for name in COLUMNS1 if name in COLUMNS0] == list(COLUMNS0)


def test_an_empty_page() -> None:
    assert decoded() == []


@pytest.mark.parametrize(("foreign", "value"), [(253, 253), (254, 254), (255, 254), (256, 254), (2**32 - 1, 254)])
def test_enum_values_out_of_range(foreign: int, value: int) -> None:
    row = outbound(
        Bundle(
            pfs_group=foreign,
            num_sas=2,
            sas=(
                Sa(transform=5, auth=Algorithm(type=foreign, config=min(foreign, 255))),
                Sa(transform=3, cipher=Algorithm(type=foreign)),
            ),
        ),
        traffic=Traffic(traffic_type=foreign),
    )
    assert row["traffic_type"] == row["pfs_group_out"] == value
    assert row["auth_type_out"] == row["auth_config_out"] == value
    assert row["ah_auth_type_out"] is None  # the second SA has a cipher only
    row = outbound(Bundle(sas=(Sa(transform=foreign),)))
    assert row["transform_out"] == value
    assert row["auth_type_out"] is row["cipher_type_out"] is None


@pytest.mark.parametrize(
    ("transform", "auth", "cipher"),
    [
        (0, None, None),
        (1, (7, 8), None),
        (2, (7, 8), None),
        (3, None, (5, 6)),
        (4, (7, 8), (5, 6)),
        (5, (7, 8), None),
        (6, None, None),
    ],
)
def test_the_transform_says_which_algorithms_there_are(
    transform: int, auth: tuple[int, int] | None, cipher: tuple[int, int] | None
) -> None:
    sa = Sa(
        transform=transform,
        auth=Algorithm(type=7, config=8),
        cipher=Algorithm(type=5, config=6),
    )
    row = outbound(Bundle(num_sas=2, sas=(sa, sa)))
    assert (row["auth_type_out"], row["auth_config_out"]) == (auth or (None, None))
    assert (row["cipher_type_out"], row["cipher_config_out"]) == (cipher or (None, None))
    assert (row["ah_auth_type_out"], row["ah_auth_config_out"]) == (auth or (None, None))


@pytest.mark.parametrize(
    ("claimed", "there", "expected"),
    [
        (0, 2, (0, None, None)),
        (1, 2, (1, 10, None)),
        (2, 2, (2, 10, 20)),
        (253, 2, (253, 10, 20)),
        (254, 2, (254, 10, 20)),
        (2**32 - 1, 2, (254, 10, 20)),
        (2**32 - 1, 0, (254, None, None)),
        (2, 0, (2, None, None)),
    ],
)
def test_a_count_of_sas_is_not_trusted(claimed: int, there: int, expected: tuple[int | None, ...]) -> None:
    sas = (Sa(spi=10), Sa(spi=20)) if there else None
    row = outbound(Bundle(num_sas=claimed, sas=sas))
    assert (row["sa_count_out"], row["spi_out"], row["ah_spi_out"]) == expected
    assert row["transform_out"] == (4 if row["spi_out"] else None)


@pytest.mark.parametrize("foreign", [2, 3, 256, 2**32 - 1])
def test_other_ip_versions_have_no_addresses(foreign: int) -> None:
    traffic = Traffic(ip_version=foreign, local=V6_LOCAL, remote=V6_REMOTE, remote_port=1)
    row = outbound(
        Bundle(ip_version=foreign, peer_private_address=1),
        ip_version=foreign,
        traffic=traffic,
        udp_ports=(4500, 4500),
    )
    assert row["ip_version"] == 254
    assert row["local_address"] is row["remote_address"] is None
    assert row["remote_port"] == 1
    assert row["peer_private_address_out"] is row["udp_local_port_out"] is None


def test_zeros_that_mean_absent() -> None:
    row = outbound(
        Bundle(peer_private_address=0, key_module=KeyModule(key=bytes(16))),
        udp_ports=(0, 4500),
        transport_filter_id=0,
    )
    assert row["udp_local_port_out"] is None
    assert row["udp_remote_port_out"] == 4500
    assert row["transport_filter_id_out"] is None
    assert row["peer_private_address_out"] is row["key_module_out"] is None


V4_TRAFFIC = Traffic(local=v4(1), remote=v4(2))
V6_TRAFFIC = Traffic(ip_version=1, local=V6_LOCAL, remote=V6_REMOTE)
ODD_TRAFFIC = Traffic(ip_version=3, local=V6_LOCAL, remote=V6_REMOTE)


@pytest.mark.parametrize(
    ("traffic", "change", "differs"),
    [
        (V4_TRAFFIC, {}, False),
        (V4_TRAFFIC, {"ip_version": 1}, True),
        (V4_TRAFFIC, {"local": v4(3)}, True),
        (V4_TRAFFIC, {"remote": v4(3)}, True),
        (V4_TRAFFIC, {"remote": v4(2)[:4] + bytes(12)}, False),
        (V4_TRAFFIC, {"remote_port": 5}, True),
        (V4_TRAFFIC, {"traffic_type": 1, "filter_id": 5, "real_profile_id": 5}, False),
        (V6_TRAFFIC, {"local": V6_LOCAL[:15] + b"\x09"}, True),
        (V6_TRAFFIC, {"remote": V6_REMOTE[:15] + b"\x09"}, True),
        (ODD_TRAFFIC, {"local": bytes(16), "remote": bytes(16)}, False),
        (ODD_TRAFFIC, {"ip_version": 4}, True),
        (ODD_TRAFFIC, {"remote_port": 5}, True),
    ],
)
@pytest.mark.parametrize("version", [0, 1])
def test_traffic_differs(version: int, traffic: Traffic, change: dict[str, object], differs: bool) -> None:
    other = replace(traffic, **change)  # type: ignore[arg-type]
    context = Context(inbound=Details(traffic=traffic), outbound=Details(traffic=other))
    assert decoded(context, version=version)[0]["traffic_differs"] is differs


@pytest.mark.parametrize("field", ["local_port", "ip_protocol"])
def test_traffic_differs_where_only_version_1_sees_it(field: str) -> None:
    other = replace(V4_TRAFFIC, **{field: 9})  # type: ignore[arg-type]
    context = Context(inbound=Details(traffic=V4_TRAFFIC), outbound=Details(traffic=other))
    assert decoded(context, version=1)[0]["traffic_differs"] is True
    assert decoded(context, version=0)[0]["traffic_differs"] is False


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (None, None),
        ("", ""),
        ("\U0001f600", "\U0001f600"),
        ("a\ud800", "a\ufffd"),
        ("\udc00\ud800b", "\ufffd\ufffdb"),
        ("\ud800\ud800\udc00", "\ufffd\U00010000"),
        ("x" * 32767, "x" * 32767),
        ("x" * 32768, "x" * 32767),
        ("x" * 32766 + "\U0001f600", "x" * 32766 + "\ufffd"),
    ],
    ids=range(9),
)
def test_names(name: str | None, text: str | None) -> None:
    row = outbound(Bundle(identity=Identity(main_mode_target=name, extended_mode_target="other")))
    assert row["main_mode_target_out"] == text
    assert row["extended_mode_target_out"] == "other"


def test_key_blobs_are_those_a_decoder_must_wipe() -> None:
    aead = Sa(auth=Algorithm(key_size=4), cipher=Algorithm(key_size=8))
    ah = Sa(transform=1, auth=Algorithm(key_size=16), cipher=Algorithm(key_size=99))
    unknown = Sa(transform=77)
    state = KeyModule(state_size=3)
    page = build(
        [
            Context(inbound=Details(bundle=Bundle(num_sas=1, sas=(aead, ah), key_module=state))),
            Context(outbound=Details(bundle=Bundle(num_sas=9, sas=(unknown, ah)))),
            Context(outbound=Details(bundle=Bundle(sas=(replace(ah, has_information=False),)))),
            Context(inbound=Details(bundle=Bundle(key_module=KeyModule(state_size=0), sas=None))),
        ],
        version=1,
    )
    assert sorted(map(len, page.key_blobs())) == [3, 4, 8, 16]
    assert all(blob == (KEY_MARK * 2)[: len(blob)] for blob in page.key_blobs())
    decode(page.address, page.count, version=1)
    assert all(blob == (KEY_MARK * 2)[: len(blob)] for blob in page.key_blobs())


@pytest.mark.parametrize("version", [0, 1])
def test_any_page_is_decoded(version: int) -> None:
    @settings(deadline=None)
    @given(strategy(version))
    def any_page(contexts: list[Context]) -> None:
        rows = decoded(*contexts, version=version)
        assert [row["context_id"] for row in rows] == [item.context_id for item in contexts]
        for row in rows:
            for value in row.values():
                assert isinstance(value, int | str | None) or len(value) == 16

    any_page()
