"""Decoding: what becomes of a page of the OS's structures, compared with the oracle's own reading of it."""

import ctypes
import pickle

import oracle
import pages
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import Bundle, Context, Details, Identity, KeyModule, Sa, Traffic, build, v4
from support import (
    COLUMNS,
    assert_equals_oracle,
    contexts_at,
    directions,
    key_blobs,
    raw_pages,
    seeded,
    values,
)

import wfpsa
from wfpsa import testing

VERSIONS = pytest.mark.parametrize("version", [0, 1])
EDGES = {253: 253, 254: 254, 255: 254, 256: 254, 2**32 - 1: 254}


def decoded(contexts: list[Context], version: int = 1) -> wfpsa.SaBatch:
    """The batch of a page with those contexts, proved against the oracle on the way."""
    page = build(contexts, version)
    rows = oracle.decode(page.address, page.count, version)
    batch = testing.decode_page(page.address, page.count, version)
    assert_equals_oracle(batch, rows, version)
    assert not any(map(any, page.key_blobs()))
    return batch


# --- Any page -------------------------------------------------------------------------------------


@VERSIONS
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_column_of_any_page_equals_the_oracle_and_all_keys_are_wiped(version: int, data: st.DataObject) -> None:
    page = build(data.draw(pages.strategy(version)), version)
    assert all(map(all, page.key_blobs()))  # no byte of them is zero before
    rows = oracle.decode(page.address, page.count, version)
    batch = testing.decode_page(page.address, page.count, version)
    assert_equals_oracle(batch, rows, version)
    assert not any(map(any, page.key_blobs()))
    assert pages.KEY_MARK not in pickle.dumps(batch)


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(0, 300),
    seed=st.integers(0, 2**64 - 1),
    odd=st.booleans(),
    version=st.sampled_from([0, 1]),
    page_size=st.integers(1, 400),
)
def test_every_page_of_a_seeded_engine_equals_the_oracle_and_so_does_its_snapshot(
    count: int, seed: int, odd: bool, version: int, page_size: int
) -> None:
    everything: list[dict[str, object]] = []
    with testing.EmbeddedEngine() as control:
        control.seed(count, seed, odd=odd)
        for address, entries in raw_pages(control, version, page_size):
            rows = oracle.decode(address, entries, version) if entries else []
            assert_equals_oracle(testing.decode_page(address, entries, version), rows, version)
            assert not any(map(any, key_blobs(address, entries, version)))
            everything += rows
        assert len(everything) == count
        with control.open() as engine:
            assert_equals_oracle(engine.snapshot(version=version, page_size=page_size), everything, version)


@VERSIONS
def test_an_odd_population_has_every_edge_of_the_enumerations_in_its_pages(version: int) -> None:
    seen = set()
    with testing.EmbeddedEngine() as control:
        control.seed(1000, 1, odd=True)
        for address, count in raw_pages(control, version, 1000):
            for context in contexts_at(address, count, version):
                for details in directions(context):
                    seen.add(details.embedded("traffic").number("trafficType"))
                    seen.add(details.embedded("saBundle").number("pfsGroup"))
    assert set(EDGES) <= seen


@VERSIONS
def test_pages_longer_than_the_decoders_block_keep_their_order(version: int) -> None:
    contexts = [Context(context_id=n, outbound=Details(bundle=Bundle(qm_sa_id=n))) for n in range(130)]
    for count in (63, 64, 65, 128, 130):
        batch = decoded(contexts[:count], version)
        assert batch["context_id"].tolist() == batch["qm_sa_id_out"].tolist() == list(range(count))


@VERSIONS
def test_an_empty_page_makes_an_empty_batch(version: int) -> None:
    batch = testing.decode_page(0, 0, version)
    assert len(batch) == 0
    assert batch.columns == COLUMNS[version]
    assert set(map(tuple, values(batch).values())) == {()}


def test_a_null_entry_of_a_page_is_passed_over() -> None:
    page = build([Context(context_id=7), Context(context_id=8)], 1)
    second = ctypes.c_uint64.from_address(page.address + 8).value
    entries = (ctypes.c_uint64 * 3)(0, second, 0)
    batch = testing.decode_page(ctypes.addressof(entries), 3)
    assert batch["context_id"].tolist() == [8]


def test_structures_of_version_0_lack_what_only_version_1_has() -> None:
    lacking = {"local_port", "ip_protocol", "local_interface_luid", "real_profile_id"}
    lacking |= {f"{name}_{side}" for side in ("in", "out") for name in ("qm_filter_id", "lookup_context")}
    lacking |= {f"{name}_{side}" for side in ("in", "out") for name in ("virtual_tunnel_id", "traffic_selector_id")}
    assert set(seeded(3).columns) - set(seeded(3, version=0).columns) == lacking


# --- What no sane engine returns, one thing at a time ---------------------------------------------


def test_enumeration_values_are_kept_up_to_253_and_are_254_above() -> None:
    def context(value: int) -> Context:
        algorithm = pages.Algorithm(type=value, config=min(value, 255))
        sas = (Sa(auth=algorithm, cipher=algorithm), Sa(transform=1, auth=algorithm))
        bundle = Bundle(num_sas=2, sas=sas, pfs_group=value)
        return Context(outbound=Details(traffic=Traffic(traffic_type=value), bundle=bundle))

    batch = decoded([context(value) for value in EDGES])
    enums = ["traffic_type", "pfs_group_out", "auth_type_out", "cipher_type_out", "ah_auth_type_out"]
    configs = ["auth_config_out", "cipher_config_out", "ah_auth_config_out"]
    for name in enums + configs:
        assert batch[name].tolist() == list(EDGES.values()), name


def test_an_unknown_transform_is_kept_and_what_it_points_to_is_not_read() -> None:
    page = build([Context(outbound=Details(bundle=Bundle(sas=(Sa(transform=value),)))) for value in EDGES], 1)
    batch = testing.decode_page(page.address, page.count)
    assert batch["transform_out"].tolist() == list(EDGES.values())
    assert set(batch["spi_out"]) == {0x1000}
    for name in ("auth_type_out", "auth_config_out", "cipher_type_out", "cipher_config_out"):
        assert set(batch[name]) == {None}, name


@VERSIONS
def test_an_unknown_ip_version_is_254_and_has_no_addresses(version: int) -> None:
    traffics = [Traffic(ip_version=value, local=v4(1), remote=v4(2)) for value in (2, 3, 255, 256, 2**32 - 1)]
    sas = [Details(traffic=traffic) for traffic in traffics]
    batch = decoded([Context(inbound=details, outbound=details) for details in sas], version)
    assert set(batch["ip_version"]) == {254}
    assert set(batch["local_address"]) == set(batch["remote_address"]) == {None}
    assert set(batch["traffic_differs"]) == {False}


@VERSIONS
def test_a_context_without_any_sa_has_an_id_and_nothing_else(version: int) -> None:
    batch = decoded([Context(context_id=2**64 - 1)], version)
    found = {name: value for name, (value,) in values(batch).items() if value is not None}
    assert found == {"context_id": 2**64 - 1, "has_inbound": False, "has_outbound": False, "traffic_differs": False}


@VERSIONS
@pytest.mark.parametrize("side", ["in", "out"])
def test_a_context_with_one_sa_shows_its_traffic_and_nothing_of_the_other(version: int, side: str) -> None:
    details = Details(traffic=Traffic(local=v4(0x0A000001), remote=v4(0x0A000002), remote_port=443))
    context = Context(inbound=details) if side == "in" else Context(outbound=details)
    batch = decoded([context], version)
    assert batch["remote_port"].tolist() == [443]
    assert batch["remote_address"].tolist() == [bytes(10) + b"\xff\xff\x0a\0\0\2"]
    other = "out" if side == "in" else "in"
    assert {batch[name][0] for name in batch.columns if name.endswith(f"_{other}")} == {None}
    assert batch[f"spi_{side}"].tolist() == [0x1000]


@VERSIONS
def test_a_null_list_of_sas_is_no_sa_whatever_its_count_says(version: int) -> None:
    counts = [0, 1, 2, 3, 253, 254, 255, 2**32 - 1]
    batch = decoded([Context(inbound=Details(bundle=Bundle(num_sas=count, sas=None))) for count in counts], version)
    assert batch["sa_count_in"].tolist() == [min(count, 254) for count in counts]
    for name in ("spi_in", "ah_spi_in", "transform_in", "auth_type_in", "cipher_type_in", "ah_auth_type_in"):
        assert set(batch[name]) == {None}, name


@VERSIONS
def test_a_count_of_sas_far_too_large_is_believed_up_to_two(version: int) -> None:
    counts = [3, 254, 255, 256, 2**31, 2**32 - 1]
    sas = (Sa(spi=1), Sa(spi=2, transform=1))
    batch = decoded([Context(outbound=Details(bundle=Bundle(num_sas=count, sas=sas))) for count in counts], version)
    assert batch["sa_count_out"].tolist() == [min(count, 254) for count in counts]
    assert set(batch["spi_out"]) == {1}
    assert set(batch["ah_spi_out"]) == {2}


@VERSIONS
def test_sas_beyond_the_count_are_not_looked_at(version: int) -> None:
    bundle = Bundle(num_sas=0, sas=(Sa(spi=1), Sa(spi=2)))
    batch = decoded([Context(outbound=Details(bundle=bundle))], version)
    assert batch["spi_out"].tolist() == batch["ah_spi_out"].tolist() == [None]
    assert batch["sa_count_out"].tolist() == [0]


@VERSIONS
def test_an_sa_without_information_has_a_transform_and_no_algorithms(version: int) -> None:
    for transform in (1, 2, 3, 4, 5):
        sa = Sa(transform=transform, has_information=False)
        batch = decoded([Context(inbound=Details(bundle=Bundle(sas=(sa,))))], version)
        assert batch["transform_in"].tolist() == [transform]
        assert batch["auth_type_in"].tolist() == batch["cipher_type_in"].tolist() == [None]


@VERSIONS
def test_null_identity_key_module_filter_and_encapsulation_are_absent(version: int) -> None:
    batch = decoded([Context(inbound=Details(), outbound=Details())], version)
    names = ("main_mode_target", "extended_mode_target", "key_module", "transport_filter_id")
    names += ("udp_local_port", "udp_remote_port", "peer_private_address")
    assert {batch[f"{name}_{side}"][0] for name in names for side in ("in", "out")} == {None}


@VERSIONS
def test_the_unions_ipv4_arms_are_not_read_where_the_version_is_another(version: int) -> None:
    bundle = Bundle(ip_version=1, peer_private_address=5)
    details = Details(ip_version=1, bundle=bundle, udp_ports=(4500, 4501))
    batch = decoded([Context(outbound=details)], version)
    assert batch["peer_private_address_out"].tolist() == [None]
    assert batch["udp_local_port_out"].tolist() == batch["udp_remote_port_out"].tolist() == [None]


@VERSIONS
def test_empty_key_blobs_and_states_are_fine(version: int) -> None:
    nothing = pages.Algorithm(key_size=0)
    bundle = Bundle(sas=(Sa(auth=nothing, cipher=nothing),), key_module=KeyModule(state_size=0))
    assert decoded([Context(outbound=Details(bundle=bundle))], version)["auth_type_out"].tolist() == [2]


def test_the_ids_of_the_whole_range_are_kept() -> None:
    ids = [0, 1, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1]
    assert decoded([Context(context_id=number) for number in ids])["context_id"].tolist() == ids


# --- Names ----------------------------------------------------------------------------------------


def named(*names: str | None) -> list[Context]:
    """A context for each name, as its main-mode target."""
    return [Context(outbound=Details(bundle=Bundle(identity=Identity(main_mode_target=name)))) for name in names]


def test_long_names_are_cut_at_32767_units_and_a_divided_pair_is_replaced() -> None:
    page = build(named(*pages.LONG_NAMES), 1)
    expected = [row["main_mode_target_out"] for row in oracle.decode(page.address, page.count, 1)]
    found = testing.decode_page(page.address, page.count)["main_mode_target_out"].tolist()
    assert found == expected
    assert {len(name) for name in found} == {32767}


def test_unpaired_surrogates_become_the_replacement_character() -> None:
    batch = decoded(named("a\ud800", "\udc00b", "\udfff\ud83d", "\U0001f512 fine"))
    assert batch["main_mode_target_out"].tolist() == ["a\ufffd", "\ufffdb", "\ufffd\ufffd", "\U0001f512 fine"]


def test_an_empty_name_is_a_name_and_a_null_one_is_none() -> None:
    batch = decoded(named("", None, ""))
    assert batch["main_mode_target_out"].tolist() == ["", None, ""]
    assert batch["main_mode_target_out"].strings == (None, "")


def test_each_distinct_name_is_kept_once_however_many_there_are() -> None:
    names = [f"host-{n % 700}-{'x' * (n % 9)}" for n in range(1400)]
    batch = decoded(named(*names))
    strings = batch["main_mode_target_out"].strings
    assert strings[0] is None
    assert len(strings) == len(set(names)) + 1 == len(set(strings))


def test_names_that_differ_in_one_unit_anywhere_are_different_names() -> None:
    longest = "n" * 40
    names = [longest[:at] + "o" + longest[at + 1 :] for at in range(40)] + [longest[:at] for at in range(41)]
    assert decoded(named(*names))["main_mode_target_out"].tolist() == names
