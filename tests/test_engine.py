"""Engines: targets and how they are opened, listing by snapshot and by pages, subnets, one context, closing."""

import copy
import gc
import ipaddress
import itertools
import math
from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import contexts_at, directions, ends, raw_pages, values

import wfpsa
from wfpsa import testing
from wfpsa.engine import DEFAULT_PAGE_SIZE, Engine, _lock_wait_ms

# --- Targets --------------------------------------------------------------------------------------


def test_an_embedded_engine_begins_empty(backend: str) -> None:
    for target in ("embedded:", "embedded:?", "embedded:?seed=7&odd=1"):
        with wfpsa.open_engine(target) as engine:
            assert engine.backend == backend and engine.target == target
            assert repr(engine) == f"<Engine {target!r}>"
            assert len(engine.snapshot()) == 0


def test_options_shape_the_population() -> None:
    def ids(target: str) -> list[object]:
        with wfpsa.open_engine(target) as engine:
            return [*values(engine.snapshot()).values()]

    plain = ids("embedded:?contexts=200")
    assert len(plain[0]) == 200
    assert ids("embedded:?contexts=200&seed=0&odd=0&latency_us=0&clock=manual&rights=network_operator") == plain
    assert ids("embedded:?contexts=200&seed=1") != plain
    assert ids("embedded:?odd=1&contexts=200") != plain
    assert ids(f"embedded:?contexts=200&seed={2**64 - 1}") != plain
    assert len(ids("embedded:?contexts=3&latency_us=0.5&entry_latency_us=1e-3")[0]) == 3


def test_an_engine_that_holds_nothing_says_yes_at_once() -> None:
    with wfpsa.open_engine("noop:") as engine:
        assert engine.backend == "noop" and len(engine.snapshot()) == 0 and not list(engine.pages(version=0))
        assert engine.expire([1, 2, 3]).counts[wfpsa.Outcome.EXPIRED] == 3
        engine.delete(1)
        assert not any(engine.statistics())
        for version in (0, 1):
            with pytest.raises(wfpsa.NotFound):
                engine.get(1, version=version)
        with engine.transaction():
            pass
        bundle = wfpsa.SaBundle(sas=(wfpsa.Sa(spi=1),))
        traffic = wfpsa.Traffic("10.0.0.1", "10.0.0.2")
        context_id = engine.create(traffic)
        engine.set_spi(context_id, traffic, engine.get_spi(context_id, traffic))
        engine.add_inbound(context_id, bundle)
        engine.add_outbound(context_id, bundle)
        engine.update(context_id, "outbound", traffic=traffic)
        with engine.subscribe() as subscription:
            assert subscription.get(timeout=0) is None
    assert testing.functions("noop").keys() == testing.functions().keys()


def test_engines_of_one_name_share_their_contexts_and_options_shape_it_once() -> None:
    with (
        wfpsa.open_engine("embedded:Lab-1_x?contexts=50") as first,
        wfpsa.open_engine("embedded:Lab-1_x?contexts=90&seed=5") as second,
        wfpsa.open_engine("embedded:lab-1_x") as other,
    ):
        assert values(first.snapshot()) == values(second.snapshot())
        assert len(other.snapshot()) == 0
        first.delete(second.snapshot()[0].context_id)
        assert len(second.snapshot()) == 49


def test_engines_without_a_name_are_separate() -> None:
    with wfpsa.open_engine("embedded:?contexts=5") as first, wfpsa.open_engine("embedded:?contexts=5") as second:
        first.delete(first.snapshot()[0].context_id)
        assert (len(first.snapshot()), len(second.snapshot())) == (4, 5)


def test_a_named_engine_ends_with_its_last_session() -> None:
    with wfpsa.open_engine("embedded:brief?contexts=5"):
        pass
    with wfpsa.open_engine("embedded:brief") as engine:
        assert len(engine.snapshot()) == 0


def test_closing_an_engine_lets_its_store_go(backend: str) -> None:
    engine = wfpsa.open_engine("embedded:?contexts=5")
    batch = engine.snapshot()
    assert testing.live_counters()["stores"] == testing.live_counters()["engines"] == 1
    engine.close()
    assert testing.live_counters()["stores"] == testing.live_counters()["engines"] == 0
    assert len(batch) == 5 and engine.backend == backend


MALFORMED = [
    ("", 'must begin with "windows:", "embedded:" or "noop:"'),
    ("embedded", 'must begin with "windows:", "embedded:" or "noop:"'),
    ("Embedded:", 'must begin with "windows:", "embedded:" or "noop:"'),
    ("http://x", "not 'http://x'"),
    (" embedded:", 'must begin with "windows:"'),
    ("windows:lab", "takes nothing after the colon, not 'lab'"),
    ("windows:?contexts=1", "takes nothing after the colon"),
    ("noop:?contexts=1", "takes nothing after the colon"),
    ("embedded:a b", "1 to 63 letters, digits, - and _, not 'a b'"),
    ("embedded:é", "1 to 63 letters"),
    ("embedded:" + "x" * 64, "1 to 63 letters"),
    ("embedded:#1", "1 to 63 letters"),
    ("embedded:?context=1", "unknown option 'context' in target .*; known: contexts, seed, odd, replay"),
    ("embedded:?contexts=1&", "unknown option ''"),
    ("embedded:??contexts=1", r"unknown option '\?contexts'"),
    ("embedded:?contexts=1&contexts=1", "'contexts' occurs twice"),
    ("embedded:?contexts", "'contexts' .* must be a number of contexts up to 10000000, not ''"),
    ("embedded:?contexts=-1", "a number of contexts up to 10000000, not '-1'"),
    ("embedded:?contexts=1.5", "a number of contexts up to 10000000, not '1.5'"),
    ("embedded:?contexts=1_0", "a number of contexts up to 10000000, not '1_0'"),
    ("embedded:?contexts=\u0661", "a number of contexts"),
    ("embedded:?contexts=10000001", "a number of contexts"),
    ("embedded:?contexts=" + "9" * 5000, "a number of contexts"),
    ("embedded:?seed=18446744073709551616", "'seed' .* must be a number"),
    ("embedded:?odd=yes", "'odd' .* must be 0 or 1, not 'yes'"),
    ("embedded:?odd=2", "must be 0 or 1"),
    ("embedded:?latency_us=-1", "microseconds from 0 to 60000000, not '-1'"),
    ("embedded:?latency_us=nan", "microseconds from 0 to 60000000"),
    ("embedded:?entry_latency_us=inf", "'entry_latency_us' .* microseconds"),
    ("embedded:?clock=stopped", '\'clock\' .* must be "real" or "manual"'),
    ("embedded:?rights=root", "must be one of administrator, network_operator, read_only, everyone, not 'root'"),
]


def test_a_malformed_target_is_a_value_error_that_says_what_is_wrong() -> None:
    before = testing.live_counters()
    for target, message in MALFORMED:
        with pytest.raises(ValueError, match=message):
            wfpsa.open_engine(target)
    assert testing.live_counters() == before


def test_a_target_of_another_type_is_a_type_error() -> None:
    for wrong in (b"embedded:", 1, ["embedded:"]):
        with pytest.raises(TypeError, match="target must be a str, not "):
            wfpsa.open_engine(wrong)  # type: ignore[arg-type]


@pytest.mark.posix
def test_off_windows_there_is_no_engine_without_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in (None, ""):
        if setting is not None:
            monkeypatch.setenv("WFPSA_ENGINE", setting)
        with pytest.raises(wfpsa.EngineUnavailable, match=r'open_engine\("embedded:\?contexts=1000"\)') as caught:
            wfpsa.open_engine()
        assert caught.value.code is caught.value.function is None
    with pytest.raises(wfpsa.EngineUnavailable, match='this build of wfpsa has no "windows:" engine'):
        wfpsa.open_engine("windows:")


def test_the_environment_names_the_engine_where_no_target_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WFPSA_ENGINE", "embedded:?contexts=4")
    with wfpsa.open_engine() as engine:
        assert engine.target == "embedded:?contexts=4" and len(engine.snapshot()) == 4
    with wfpsa.open_engine("embedded:") as engine:
        assert len(engine.snapshot()) == 0
    monkeypatch.setenv("WFPSA_ENGINE", "nonsense")
    with pytest.raises(ValueError, match="not 'nonsense'"):
        wfpsa.open_engine()


# --- lock_timeout ---------------------------------------------------------------------------------


def test_a_lock_timeout_becomes_milliseconds_rounded_up() -> None:
    expected = {None: 0, math.inf: 0xFFFFFFFF, 1: 1000, 0.25: 250, 1e-9: 1, 4294967: 4294967000, np.float64(2): 2000}
    for seconds, milliseconds in expected.items():
        assert _lock_wait_ms(seconds) == milliseconds
        with wfpsa.open_engine("embedded:?contexts=1", lock_timeout=seconds) as engine:
            assert len(engine.snapshot()) == 1


def test_a_lock_timeout_of_zero_or_less_or_beyond_the_engines_range_is_a_value_error() -> None:
    for wrong in (0, -1, 0.0, -0.5, -math.inf, math.nan, 4294968, 1e300, 10**400):
        with pytest.raises(ValueError, match="lock_timeout must be"):
            wfpsa.open_engine("embedded:", lock_timeout=wrong)


def test_a_lock_timeout_whose_milliseconds_overflow_a_float_is_a_value_error_too() -> None:
    with pytest.raises(ValueError, match="lock_timeout must be"):
        wfpsa.open_engine("embedded:", lock_timeout=1e306)


def test_a_lock_timeout_of_another_type_is_a_type_error() -> None:
    for wrong in ("1", True, b"1", Fraction(1, 2), [1], 1j):
        with pytest.raises(TypeError, match="lock_timeout must be a number of seconds or None, not "):
            wfpsa.open_engine("embedded:", lock_timeout=wrong)  # type: ignore[arg-type]


# --- Listing --------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(0, 120),
    seed=st.integers(0, 1000),
    version=st.sampled_from([0, 1]),
    page_size=st.integers(1, 130) | st.sampled_from([2**31, 2**32 - 1]),
)
def test_pages_of_any_size_are_the_snapshot_in_pieces(count: int, seed: int, version: int, page_size: int) -> None:
    with wfpsa.open_engine(f"embedded:?contexts={count}&seed={seed}&odd=1") as engine:
        whole = engine.snapshot(version=version)
        parts = list(engine.pages(version=version, page_size=page_size))
        assert [len(part) for part in parts[:-1]] == [page_size] * (len(parts) - 1)
        assert all(0 < len(part) <= page_size for part in parts)
        for name in whole.columns:
            assert [value for part in parts for value in part[name]] == whole[name].tolist()
        assert values(engine.snapshot(version=version, page_size=page_size)) == values(whole)


def test_the_default_page_size_is_documented_and_used() -> None:
    with wfpsa.open_engine("embedded:?contexts=2500") as engine:
        assert [len(page) for page in engine.pages()] == [1024, 1024, 452]
    assert DEFAULT_PAGE_SIZE == 1024 and "1024" in (Engine.snapshot.__doc__ or "")


def test_an_enumeration_begins_with_the_first_page_asked_for(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    pages = engine.pages()
    assert testing.live_counters()["enum_handles"] == 0
    embedded.seed(10)
    assert [len(page) for page in pages] == [10]


def test_pages_closed_dropped_or_abandoned_early_leave_no_handle(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(100)
    pages = engine.pages(page_size=10)
    next(pages)
    assert testing.live_counters()["enum_handles"] == 1
    pages.close()
    assert testing.live_counters()["enum_handles"] == 0
    assert list(pages) == []
    pages = engine.pages(page_size=10)
    next(pages)
    del pages
    assert testing.live_counters()["enum_handles"] == 0
    for page in engine.pages(page_size=30):
        if page[0].context_id:
            break
    del page
    assert testing.live_counters()["enum_handles"] == testing.live_counters()["pages"] == 0
    pages = engine.pages(page_size=10)
    next(pages)
    with pytest.raises(ZeroDivisionError):
        pages.throw(ZeroDivisionError)
    assert testing.live_counters()["enum_handles"] == 0


def test_a_page_iterator_may_outlive_other_calls_and_other_iterators(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(60)
    ids: list[list[object]] = [[], []]
    iterators = engine.pages(page_size=7), engine.pages(page_size=11)
    for pages in itertools.zip_longest(*iterators):
        for at, page in enumerate(pages):
            if page is not None:
                ids[at] += page["context_id"]
                assert engine.get(page[0].context_id) == page[0]
    assert ids[0] == ids[1] == engine.snapshot()["context_id"].tolist()


@pytest.mark.parametrize("prefetch", [True, False])
def test_a_session_that_has_seen_more_or_fewer_contexts_before_reads_what_there_is(
    embedded: testing.EmbeddedEngine, engine: Engine, prefetch: bool
) -> None:
    for more in (3000, 0, 9000):
        embedded.seed(more, 7 + more)
        batch = engine.snapshot(prefetch=prefetch)
        assert batch["context_id"].tolist() == engine.snapshot(page_size=100)["context_id"].tolist()
        with embedded.open() as fresh:
            assert (values(fresh.snapshot()), fresh.snapshot().nbytes) == (values(batch), batch.nbytes)
    for context_id in batch["context_id"][10:].tolist():
        engine.delete(context_id)
    assert engine.snapshot().nbytes == engine.snapshot().nbytes < batch.nbytes / 100


def test_a_snapshot_in_pieces_shows_the_engine_as_it_was_at_the_start(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(200, odd=True)
    before = values(engine.snapshot())
    pages = engine.pages(page_size=16)
    parts = [next(pages)]
    ids = before["context_id"]
    engine.expire(ids[0:200:3])
    for number in ids[1:200:3]:
        engine.delete(number)
    embedded.seed(77, 9)
    embedded.advance(61)
    parts += pages
    for name, column in before.items():
        assert [value for part in parts for value in part[name]] == column
    assert engine.snapshot()["context_id"].tolist() != ids


BAD_ARGUMENTS: list[tuple[dict[str, object], type[Exception], str]] = [
    ({"page_size": 0}, ValueError, r"page_size must be 1 to 2\*\*32 - 1, not 0"),
    ({"page_size": -5}, ValueError, "page_size must be .*, not -5"),
    ({"page_size": 2**32}, ValueError, "page_size must be .*, not 4294967296"),
    ({"page_size": 1.0}, TypeError, "page_size must be an int, not float"),
    ({"page_size": True}, TypeError, "page_size must be an int, not bool"),
    ({"page_size": "10"}, TypeError, "page_size must be an int, not str"),
    ({"version": 2}, ValueError, r"version must be 0 \(IPSEC_SA_CONTEXT0\) or 1 \(IPSEC_SA_CONTEXT1\), not 2"),
    ({"version": -1}, ValueError, "version must be"),
    ({"version": None}, TypeError, "version must be an int, not NoneType"),
    ({"local": "10.0.0.0/33"}, ValueError, "local must be a subnet or address such as .*, not '10.0.0.0/33'"),
    ({"remote": "10.0.0.1/8"}, ValueError, "remote must be .*has host bits set"),
    ({"remote": "2001:db8::1/32"}, ValueError, "remote must be .*has host bits set"),
    ({"local": "10.0.0"}, ValueError, "local must be"),
    ({"local": ""}, ValueError, "local must be"),
    ({"remote": "example.net"}, ValueError, "remote must be"),
    ({"remote": "2001:db8::/129"}, ValueError, "remote must be"),
    ({"local": "fe80::1%eth0"}, ValueError, "local must not have a scope"),
    ({"local": "10.0.0.0/8", "remote": "2001:db8::/32"}, ValueError, "of one address family, not '10.0.0.0/8' and"),
    ({"local": "::/0", "remote": "1.2.3.4"}, ValueError, "local and remote must be of one address family"),
    ({"fields": "spi_in"}, TypeError, "fields must be an iterable of column names, not one str"),
    ({"fields": [1]}, TypeError, "fields must be names of columns, not int"),
    ({"fields": ["spi_im"]}, ValueError, "fields: unknown column 'spi_im'; did you mean 'spi_in'"),
    ({"fields": []}, ValueError, "fields must name at least one column"),
    ({"fields": ["local_port"], "version": 0}, ValueError, "version 0 of the structures has no column 'local_port'"),
    ({"fields": 7}, TypeError, "not iterable"),
    ({"prefetch": 1}, TypeError, "prefetch must be True or False, not 1"),
]


def test_bad_arguments_are_refused_before_the_engine_is_asked(engine: wfpsa.Engine) -> None:
    for arguments, error, message in BAD_ARGUMENTS:
        for call in (engine.snapshot, engine.pages):
            with pytest.raises(error, match=message):
                call(**arguments)  # type: ignore[arg-type]
    assert testing.live_counters()["enum_handles"] == 0


def test_integers_bytes_and_tuples_are_no_subnets(engine: wfpsa.Engine) -> None:
    for wrong in (0, 1, True, b"\x0a\0\0\1", ("10.0.0.0", 8), 10.5, ["10.0.0.0/8"], object()):
        with pytest.raises((ValueError, TypeError), match="local must be a subnet or address"):
            engine.snapshot(local=wrong)  # type: ignore[arg-type]


# --- Subnets --------------------------------------------------------------------------------------

SUBNETS = [
    *("10.2.0.0/16", "10.0.0.0/8", "10.0.0.0/30", "172.16.0.0/13", "192.168.128.0/17", "203.0.113.7", "0.0.0.0/0"),
    *("2001:db8::/32", "2001:db8::/29", "2001:db8:0:1::/65", "fd12::/16", "fd00::/9", "::/0", "::ffff:10.0.0.0/104"),
    "2001:db8:0:1::3",
]
TEMPLATE_REFUSED = [0x8032001C, 0x8032001F, 0x80320027, 0x80320033, 0x80320035, 87, 1781]


def expected_ids(control: testing.EmbeddedEngine, version: int, local: str | None, remote: str | None) -> list[int]:
    """Ids of the contexts of which one SA has both addresses in the subnets, as read from the raw pages."""
    subnets = [ipaddress.ip_network(subnet) if subnet else None for subnet in (local, remote)]

    def inside(pair: Iterable[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> bool:
        return all(subnet is None or address in subnet for address, subnet in zip(pair, subnets, strict=True))

    return [
        context.number("saContextId")
        for address, count in raw_pages(control, version, 500)
        for context in contexts_at(address, count, version)
        if any((pair := ends(details)) and inside(pair) for details in directions(context))
    ]


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    seed=st.integers(0, 20),
    version=st.sampled_from([0, 1]),
    refused=st.sampled_from([0, 0, *TEMPLATE_REFUSED]),
)
def test_subnets_keep_the_contexts_of_which_one_sa_has_both_addresses_in_them(
    data: st.DataObject, seed: int, version: int, refused: int
) -> None:
    with testing.EmbeddedEngine() as control:
        control.seed(250, seed, odd=True)
        with control.open() as engine:
            shown = engine.snapshot()
            hosts = sorted({str(context.remote_address) for context in shown if context.remote_address})
            subnets = st.sampled_from(SUBNETS) | st.sampled_from(hosts)
            remote = data.draw(subnets)
            family = ipaddress.ip_network(remote).version
            same_family = [subnet for subnet in SUBNETS if ipaddress.ip_network(subnet).version == family]
            local, remote = data.draw(
                st.sampled_from([(None, remote), (remote, None)])
                | st.tuples(st.sampled_from(same_family), st.just(remote))
            )
            if refused:
                control.fail("IPsecSaContextCreateEnumHandle0", 1, refused)
            batch = engine.snapshot(local=local, remote=remote, version=version, page_size=64)
            control.fail("IPsecSaContextCreateEnumHandle0", 0)
            assert batch["context_id"].tolist() == expected_ids(control, version, local, remote)
            assert batch.pushed_down is not bool(refused)
            assert batch.version == version
            objects = [ipaddress.ip_network(subnet) if subnet else None for subnet in (local, remote)]
            again = engine.snapshot(local=objects[0], remote=objects[1], version=version)
            assert again["context_id"].tolist() == batch["context_id"].tolist()
            paged = [value for page in engine.pages(local=local, remote=remote) for value in page["context_id"]]
            assert paged == batch["context_id"].tolist()


def test_addresses_and_networks_of_ipaddress_are_accepted() -> None:
    with wfpsa.open_engine("embedded:?contexts=300&seed=3") as engine:
        host = engine.snapshot(remote="10.0.0.0/8")[0].remote_address
        (found,) = engine.snapshot(remote=host)
        assert found.remote_address == host
        assert engine.snapshot(remote=str(host))[0] == engine.snapshot(remote=f"{host}/32")[0] == found
        net = ipaddress.ip_network("10.0.0.0/255.0.0.0")
        assert list(engine.snapshot(remote=net)) == list(engine.snapshot(remote="10.0.0.0/8"))


def test_pushed_down_says_who_filtered_and_is_none_without_subnets(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(100)
    assert engine.snapshot().pushed_down is None
    assert engine.snapshot(remote="10.0.0.0/8").pushed_down is True
    embedded.fail("IPsecSaContextCreateEnumHandle0", 1, 0x80320027)
    here = engine.snapshot(remote="10.0.0.0/8")
    assert here.pushed_down is False and here[:3].pushed_down is here.take([0]).pushed_down is False
    embedded.fail("IPsecSaContextCreateEnumHandle0", 1, 0x80320027)
    assert {page.pushed_down for page in engine.pages(local="10.0.0.0/8", page_size=9)} == {False}
    assert engine.get(here[0].context_id) == here[0]


def test_pages_of_a_filter_that_runs_here_are_never_empty(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(400)
    embedded.fail("IPsecSaContextCreateEnumHandle0", 1, 0x80320027)
    sizes = [len(page) for page in engine.pages(remote="203.0.113.0/24", page_size=3)]
    assert sizes and min(sizes) >= 1 and sum(sizes) == len(engine.snapshot(remote="203.0.113.0/24"))


def test_a_refusal_without_a_template_or_for_another_reason_is_an_error(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.fail("IPsecSaContextCreateEnumHandle0", 1, 0x80320027)
    with pytest.raises(wfpsa.WfpError, match="FWP_E_TYPE_MISMATCH"):
        engine.snapshot()
    embedded.fail("IPsecSaContextCreateEnumHandle0", 1, 5)
    with pytest.raises(wfpsa.AccessDenied):
        engine.snapshot(remote="10.0.0.0/8")


# --- One context ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 1])
def test_get_gives_each_context_as_the_snapshot_has_it(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, version: int
) -> None:
    embedded.seed(150, 2, odd=True)
    for context in engine.snapshot(version=version):
        found = engine.get(context.context_id, version=version)
        assert found == context and hash(found) == hash(context)
        assert found == engine.get(np.uint64(context.context_id))


def test_an_id_that_the_engine_does_not_know_is_not_found(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(3)
    gone = engine.snapshot()[1].context_id
    engine.delete(gone)
    for number in (0, 1, gone, 2**32, 2**63, 2**64 - 1):
        for version, function in enumerate(("IPsecSaContextGetById0", "IPsecSaContextGetById1")):
            with pytest.raises(wfpsa.NotFound) as caught:
                engine.get(number, version=version)
            assert (caught.value.code, caught.value.function) == (0x80320008, function)
        with pytest.raises(LookupError) as deleted:
            engine.delete(number)
        assert isinstance(deleted.value, wfpsa.NotFound) and deleted.value.function == "IPsecSaContextDeleteById0"
    assert len(engine.snapshot()) == 2


def test_ids_outside_64_bits_or_of_another_type_are_refused(engine: wfpsa.Engine) -> None:
    for call in (engine.get, engine.delete):
        for number in (-1, 2**64, 10**40):
            with pytest.raises(ValueError, match=rf"context_id must be 0 to 2\*\*64 - 1, not {number}"):
                call(number)
        for wrong in ("1", 1.0, True, None, b"1", [1]):
            with pytest.raises(TypeError, match="context_id must be an int, not "):
                call(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="version must be"):
        engine.get(1, version=2)


def test_delete_removes_a_context_at_once(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(20)
    ids = engine.snapshot()["context_id"].tolist()
    for at, number in enumerate(ids):
        engine.delete(number)
        assert engine.snapshot()["context_id"].tolist() == ids[at + 1 :]
    assert len(embedded) == 0


# --- Rights ---------------------------------------------------------------------------------------


def test_everyone_may_open_the_engine_and_nothing_else(embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(5)
    embedded.rights("everyone")
    with embedded.open() as engine:
        for call, function in [
            (lambda: engine.snapshot(), "IPsecSaContextCreateEnumHandle0"),
            (lambda: next(engine.pages()), "IPsecSaContextCreateEnumHandle0"),
            (lambda: engine.get(1), "IPsecSaContextGetById1"),
            (lambda: engine.delete(1), "IPsecSaContextDeleteById0"),
        ]:
            with pytest.raises(wfpsa.AccessDenied) as caught:
                call()
            assert isinstance(caught.value, PermissionError)
            assert (caught.value.code, caught.value.function) == (5, function)


def test_read_only_may_look_and_not_touch(embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(5)
    embedded.rights("read_only")
    with embedded.open() as engine:
        batch = engine.snapshot()
        assert engine.get(batch[0].context_id) == batch[0]
        with pytest.raises(wfpsa.AccessDenied):
            engine.delete(batch[0].context_id)
        assert engine.expire(batch).counts[wfpsa.Outcome.DENIED] == 5
        assert list(engine.snapshot()) == list(batch)


def test_operators_and_administrators_may_do_both(embedded: testing.EmbeddedEngine) -> None:
    for profile in ("network_operator", "administrator"):
        embedded.seed(2)
        embedded.rights(profile)
        with embedded.open() as engine:
            first, second = engine.snapshot()
            engine.delete(first.context_id)
            assert engine.expire([second]).counts[wfpsa.Outcome.EXPIRED] == 1
            embedded.advance(60)


def test_rights_are_those_of_the_moment_of_opening(embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(5)
    with embedded.open() as before:
        embedded.rights("everyone")
        with embedded.open() as after:
            assert len(before.snapshot()) == 5
            with pytest.raises(wfpsa.AccessDenied):
                after.snapshot()


# --- Closing --------------------------------------------------------------------------------------


def test_every_call_after_close_is_engine_closed(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, backend: str
) -> None:
    embedded.seed(30)
    batch = engine.snapshot()
    begun = engine.pages(page_size=10)
    next(begun)
    engine.close()
    engine.close()
    for call in (
        engine.snapshot,
        lambda: engine.snapshot(remote="10.0.0.0/8", version=0),
        lambda: next(engine.pages()),
        lambda: next(begun),
        lambda: engine.get(batch[0].context_id),
        lambda: engine.delete(batch[0].context_id),
        lambda: engine.expire(batch),
        lambda: testing.drain(engine),
    ):
        with pytest.raises(wfpsa.EngineClosed, match="the engine is closed") as caught:
            call()
        assert isinstance(caught.value, ValueError) and caught.value.code is None
    assert testing.live_counters()["enum_handles"] == testing.live_counters()["engines"] == 0
    assert len(batch) == 30 and engine.backend == backend and repr(engine)


def test_expiring_nothing_after_close_is_engine_closed_too(engine: wfpsa.Engine) -> None:
    engine.close()
    with pytest.raises(wfpsa.EngineClosed):
        engine.expire([])


def test_a_context_manager_closes_on_every_way_out(embedded: testing.EmbeddedEngine) -> None:
    with embedded.open() as engine:
        assert engine.__enter__() is engine
    with pytest.raises(wfpsa.EngineClosed):
        engine.snapshot()
    with pytest.raises(ZeroDivisionError), embedded.open() as engine:
        raise ZeroDivisionError
    assert testing.live_counters()["engines"] == 0


def test_an_engine_that_is_dropped_unclosed_is_closed(embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(30)
    engine = embedded.open()
    pages = engine.pages(page_size=10)
    next(pages)
    del engine
    assert testing.live_counters()["engines"] == 1
    next(pages)
    del pages
    assert testing.live_counters()["engines"] == testing.live_counters()["enum_handles"] == 0


def test_one_session_closed_leaves_the_others_of_the_engine(embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(10)
    with embedded.open() as other:
        with embedded.open() as engine:
            pages = engine.pages(page_size=4)
            next(pages)
        assert len(other.snapshot()) == 10
        with pytest.raises(wfpsa.EngineClosed):
            next(pages)


def test_an_engine_refuses_to_be_pickled(engine: wfpsa.Engine) -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        copy.deepcopy(engine)


def test_nothing_that_holds_a_handle_can_be_cleared_by_the_garbage_collector(engine: wfpsa.Engine) -> None:
    """A collector that clears a cycle may clear a session before the enumeration that must close itself on it."""
    session = engine._session
    enumeration = session.enumerate(None, None, 1, 10)
    batch = enumeration.read(True)
    for thing in (session, enumeration, batch, batch["spi_in"], iter(batch), batch.arrow()):
        assert not gc.is_tracked(thing), thing
    enumeration.close()
