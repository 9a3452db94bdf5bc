"""Selections: where() against a plain reading of the contexts, refusals, explain(), gathering, threads, no memory."""

import gc
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import Bundle, Context, Details, Identity, build
from support import COLUMNS, INFO, SLICES, out_of_memory, seeded, values, walk_allocations

import wfpsa
from wfpsa import AuthType, CipherType, TransformType, testing

ORDERED = [name for name in COLUMNS[1] if INFO[name]["kind"] in ("u8", "u16", "u32", "u64")]
MOST = {"u8": 2**8 - 1, "u16": 2**16 - 1, "u32": 2**32 - 1, "u64": 2**64 - 1}


@cache
def pickled(version: int) -> bytes:
    """600 contexts of all kinds, kept as a pickle: no memory of the C half."""
    return pickle.dumps(seeded(600, 5, odd=True, version=version))


# --- The plain reading ----------------------------------------------------------------------------


def in_nets(address: Any, wanted: Any) -> bool:
    nets = wanted if isinstance(wanted, list | tuple | set) else [wanted]
    return address is not None and any(address in ip_network(net) for net in nets)


def meets(context: wfpsa.SaContext, name: str, wanted: Any) -> bool:
    """Whether the context meets one condition, judged by its attributes alone."""
    if name in ("local", "remote"):
        return in_nets(getattr(context, f"{name}_address"), wanted)
    value = getattr(context, name)
    if isinstance(wanted, tuple):
        low, high = wanted
        return value is not None and (low is None or low <= value) and (high is None or value <= high)
    if isinstance(wanted, set | frozenset):
        return value in wanted
    return value is None if wanted is None else value == wanted


def expected(batch: wfpsa.SaBatch, conditions: dict[str, Any]) -> list[int]:
    """The rows of the batch that meet all conditions."""
    return [
        at for at, context in enumerate(batch) if all(meets(context, name, conditions[name]) for name in conditions)
    ]


def check(batch: wfpsa.SaBatch, conditions: dict[str, Any]) -> wfpsa.SaBatch:
    """The selection, after a comparison with the plain reading and with a copy of the same rows."""
    found = batch.where(**conditions)
    copied = batch.take(expected(batch, conditions))
    assert list(found) == list(copied), conditions
    assert found["context_id"].tolist() == copied["context_id"].tolist()
    assert (found.columns, found.version, found.backend) == (batch.columns, batch.version, batch.backend)
    assert found.pushed_down is batch.pushed_down
    return found


# --- Conditions -----------------------------------------------------------------------------------


@st.composite
def nets(draw: st.DrawFn, addresses: list[Any]) -> Any:
    """A subnet around an address that occurs, in one of the forms in which it may be given."""
    address = draw(st.sampled_from(addresses or [IPv4Address("10.0.0.1")]))
    length = draw(st.integers(0, address.max_prefixlen))
    if address.version == 6 and address.ipv4_mapped:  # never shown so
        length = min(length, 64)
    net = ip_network((address, length), strict=False)
    return draw(st.sampled_from([net, str(net), address, str(address)]))


@st.composite
def conditions(draw: st.DrawFn, batch: wfpsa.SaBatch) -> dict[str, Any]:
    """Up to three conditions made of values that occur and such that do not."""
    contexts = list(batch)
    drawn: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(["local", "remote", *batch.columns]), max_size=3, unique=True)):
        if name in ("local", "remote"):
            shown = {getattr(context, f"{name}_address") for context in contexts} - {None}
            one = nets(sorted(shown, key=lambda address: (address.version, address)))
            drawn[name] = draw(one | st.lists(one, min_size=1, max_size=12))
            continue
        occurring = [getattr(context, name) for context in contexts]
        value = st.sampled_from(occurring or [None])
        forms = [value, st.frozensets(value, min_size=1, max_size=12), st.sets(value, min_size=1, max_size=3)]
        if name in ORDERED:
            end = st.none() | value | st.integers(0, MOST[INFO[name]["kind"]])
            forms.append(
                st.tuples(end, end).map(lambda ends: ends if None in ends or ends[0] <= ends[1] else ends[::-1])
            )
        drawn[name] = draw(st.one_of(forms))
    try:
        batch.explain(**drawn)
    except ValueError as error:
        assert "of one address family" in str(error)
        del drawn["local"]
    return drawn


@settings(max_examples=150, deadline=None)
@given(version=st.sampled_from([0, 1]), part=SLICES | st.just(slice(None)), again=SLICES, data=st.data())
def test_where_keeps_what_a_plain_reading_keeps(version: int, part: slice, again: slice, data: st.DataObject) -> None:
    batch = pickle.loads(pickled(version))[part]
    first = check(batch, data.draw(conditions(batch)))
    second = check(first, data.draw(conditions(first)))
    check(second[again], data.draw(conditions(second[again])))
    assert values(second) == values(second.take(range(len(second))))


@pytest.mark.parametrize("version", [0, 1])
def test_every_column_takes_each_of_its_values_and_absence(version: int) -> None:
    batch = pickle.loads(pickled(version))
    contexts = list(batch)
    for name in batch.columns:
        occurring = [getattr(context, name) for context in contexts]
        some = set(occurring[::50])
        for wanted in (None, *list(some)[:4], some, some | {None}, some - {None} or {occurring[0]}):
            found = batch.where(**{name: wanted})["context_id"].tolist()
            assert found == [contexts[at].context_id for at in expected(batch, {name: wanted})], (name, wanted)


def test_ranges_include_their_ends_and_may_be_open() -> None:
    batch = pickle.loads(pickled(1))
    for name in ORDERED:
        shown = sorted({value for value in batch[name].tolist() if value is not None})
        low, high = (shown[len(shown) // 4], shown[-len(shown) // 4]) if shown else (0, 9)
        low, high = min(low, high), max(low, high)
        for ends in ((low, high), (low, low), (low, None), (None, high), (None, None), (0, 0), (0, MOST["u8"])):
            check(batch, {name: ends})


def test_absent_cells_meet_nothing_but_none() -> None:
    page = build([Context(context_id=1), Context(context_id=2, inbound=Details())], 1)
    batch = testing.decode_page(page.address, 2, 1)
    assert [context.context_id for context in batch.where(spi_out=0)] == []
    assert [context.context_id for context in batch.where(spi_out=(0, None))] == []
    assert [context.context_id for context in batch.where(spi_out=None)] == [1, 2]
    assert [context.context_id for context in batch.where(remote="::/0")] == []
    assert [context.context_id for context in batch.where(udp_local_port_in=0)] == []
    assert [context.context_id for context in batch.where(udp_local_port_in={0, None})] == [1, 2]
    assert [context.context_id for context in batch.where(key_module_out=UUID(int=0))] == []
    assert [context.context_id for context in batch.where(transform_out=254)] == []
    assert len(batch.where(context_id=None)) == 0


def test_all_ipv4_addresses_are_in_0_0_0_0_0_and_no_others() -> None:
    batch = pickle.loads(pickled(1))
    shown = [context.remote_address for context in batch]
    for net, kind in (("0.0.0.0/0", IPv4Address), ("::/0", IPv6Address)):
        found = batch.where(remote=net)
        assert [context.remote_address for context in found] == [one for one in shown if isinstance(one, kind)]
    both = batch.where(remote=["0.0.0.0/0", "::/0"])
    assert [context.remote_address for context in both] == [one for one in shown if one is not None]


def test_names_are_compared_as_text_whatever_their_code() -> None:
    texts = ["alice", "\ud800x", "", "\ud801x", "z" * 40_000, "z" * 32_767, "böb", None]
    pair = [Details(bundle=Bundle(identity=Identity(main_mode_target=text))) for text in texts]
    page = build([Context(context_id=at, outbound=details) for at, details in enumerate(pair)], 1)
    batch = testing.decode_page(page.address, len(texts), 1)

    def found(wanted: object) -> list[int]:
        return batch.where(main_mode_target_out=wanted)["context_id"].tolist()

    assert found("alice") == [0] and found("\ufffdx") == [1, 3] and found("") == [2] and found("böb") == [6]
    assert found("z" * 32_767) == [4, 5] and found("z" * 40_000) == [] and found("\ud800x") == []
    assert found(None) == [7] and found({None, "böb", "nobody"}) == [6, 7] and found("Alice") == []


def test_values_may_be_given_in_each_form_that_the_batch_shows() -> None:
    batch = pickle.loads(pickled(1))
    context = next(one for one in batch if one.peer_private_address_out and one.key_module_out)
    row = list(batch).index(context)
    for name in ("remote_address", "peer_private_address_out", "key_module_out", "transform_out", "spi_out"):
        wanted = expected(batch, {name: getattr(context, name)})
        shown = [getattr(context, name), batch[name][row]]
        shown += [str(shown[0])] if "address" in name else [np.uint32(7), 7][:0]
        for value in shown:
            assert list(batch.where(**{name: value})) == [batch[at] for at in wanted], (name, value)
    assert list(batch.where(spi_out=np.uint32(context.spi_out))) == list(batch.where(spi_out=context.spi_out))
    assert list(batch.where(transform_out=4)) == list(batch.where(transform_out=TransformType.ESP_AUTH_AND_CIPHER))


def test_more_values_and_subnets_than_fit_a_comparison_each() -> None:
    batch = seeded(400, 2)
    spis = set(batch["spi_out"].tolist()[::3]) - {None}
    ids = set(batch["context_id"].tolist()[::2])
    remotes = {context.remote_address for context in batch[::4]} - {None}
    for wanted in (
        {"spi_out": spis},
        {"context_id": ids, "spi_out": spis},
        {"remote_address": remotes},
        {"remote": [*remotes]},
        {"remote": [f"{octet}.0.0.0/8" for octet in range(1, 200, 2)], "remote_port": set(range(0, 65536, 4))},
    ):
        check(batch, wanted)


def test_without_conditions_it_is_the_batch_itself() -> None:
    batch = seeded(20)
    part = batch[::-2]
    for same in (part.where(), part.where(local=None, remote=None)):
        assert list(same) == list(part) and same.nbytes == part.nbytes and same.columns == part.columns
    assert values(batch.where()) == values(batch)


def test_it_keeps_how_the_batch_was_read(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(100, 3)
    batch = engine.snapshot(remote="0.0.0.0/0")
    found = batch.where(has_outbound=True)
    assert (found.pushed_down, found.backend, found.version) == (True, engine.backend, 1)
    assert repr(found).startswith(f"<SaBatch of {len(found)} contexts, 77 columns, from ")


# --- What is refused ------------------------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"spi_ou": 5}, TypeError, r"unknown condition 'spi_ou'; did you mean 'spi_out'\?.*local, remote and the names"),
    ({"remot": "10.0.0.0/8"}, TypeError, r"unknown condition 'remot'; did you mean 'remote'\?"),
    ({"zzzz": 1}, TypeError, r"unknown condition 'zzzz' \(conditions are local, remote and the names of columns\)"),
    ({"remote": 5}, TypeError, "remote must be a subnet or address such as .*, or a list of those, not int"),
    ({"remote": b"\n\2\0\0"}, TypeError, "remote must be a subnet or address"),
    ({"local": "10.0.0.0/33"}, ValueError, "local must be a subnet .*, not '10.0.0.0/33'"),
    ({"local": "10.0.0.1/8"}, ValueError, "local must be a subnet .*, not '10.0.0.1/8': .*host bits"),
    ({"local": []}, ValueError, "local must be a subnet .*, not an empty list"),
    ({"local": set()}, ValueError, "local must be a subnet .*, not an empty set"),
    ({"local": ["10.0.0.0/8", None]}, TypeError, "local must be a subnet .*, not NoneType"),
    ({"local": "fe80::1%eth0"}, ValueError, "local must not have a scope"),
    ({"remote": "::ffff:10.0.0.0/104"}, ValueError, "remote: a batch shows the addresses of .* as IPv4"),
    ({"local": "10.0.0.0/8", "remote": "2001:db8::/32"}, ValueError, "local and remote must be of one address family"),
    ({"local": ["::/0"], "remote": ["10.0.0.0/8", "11.0.0.0/8"]}, ValueError, "must be of one address family"),
    ({"spi_out": "5"}, TypeError, r"spi_out must be an int from 0 to 4294967295, None where absent, .* not str"),
    ({"spi_out": 5.0}, TypeError, "spi_out must be an int .*, not float"),
    ({"spi_out": True}, TypeError, "spi_out must be an int .*, not bool"),
    ({"spi_out": -1}, ValueError, "spi_out must be an int .*, not -1"),
    ({"spi_out": 2**32}, ValueError, "spi_out must be an int .*, not 4294967296"),
    ({"context_id": 2**64}, ValueError, "context_id must be an int from 0 to 18446744073709551615"),
    ({"remote_port": 65536}, ValueError, "remote_port must be an int from 0 to 65535"),
    ({"spi_out": [5, 6]}, TypeError, "spi_out must be an int .* or a set of those or a range .*, not list"),
    ({"spi_out": {5: 6}}, TypeError, "spi_out must be an int .*, not dict"),
    ({"spi_out": set()}, ValueError, "spi_out must be .*, not an empty set"),
    ({"spi_out": {5, "6"}}, TypeError, "spi_out must be .*, not str"),
    ({"spi_out": {(5, 6)}}, TypeError, "spi_out must be .*, not tuple"),
    ({"spi_out": np.array([5, 6])}, TypeError, "spi_out must be .*, not ndarray|only"),
    ({"spi_out": (6, 5)}, ValueError, r"spi_out: a range is \(low, high\), the lower first; not \(6, 5\)"),
    ({"spi_out": (5,)}, ValueError, r"spi_out: a range is \(low, high\), both included"),
    ({"spi_out": (1, 2, 3)}, ValueError, r"spi_out: a range is \(low, high\)"),
    ({"spi_out": ()}, ValueError, r"spi_out: a range is \(low, high\)"),
    ({"spi_out": ("1", 2)}, TypeError, "spi_out must be .*, not str"),
    ({"spi_out": (0, 2**40)}, ValueError, "spi_out must be .*, not 1099511627776"),
    ({"has_outbound": 1}, TypeError, "has_outbound must be True or False, None where absent, or a set .*, not int"),
    ({"has_outbound": (False, True)}, TypeError, "has_outbound has no order, so it takes no range"),
    ({"transform_out": (1, 2)}, TypeError, "transform_out has no order"),
    ({"transform_out": 255}, ValueError, "transform_out must be a TransformType or an int from 0 to 254.*, not 255"),
    ({"transform_out": "AH"}, TypeError, "transform_out must be a TransformType .*, not str"),
    ({"auth_type_out": CipherType.AES_128}, TypeError, "auth_type_out must be a AuthType .*, not CipherType"),
    ({"remote_address": "10.0.0.0/8"}, ValueError, r"remote_address must be an IP address .*remote= take subnets"),
    ({"remote_address": IPv4Network("10.0.0.0/8")}, TypeError, "remote_address must be .*, not IPv4Network"),
    ({"remote_address": 5}, TypeError, "remote_address must be .*, not int"),
    ({"remote_address": b"\0"}, ValueError, "remote_address must be an IP address"),
    ({"remote_address": IPv6Address("::ffff:1.2.3.4")}, ValueError, "remote_address: .*so write 1.2.3.4"),
    ({"remote_address": "fe80::1%eth0"}, ValueError, "remote_address must not have a scope"),
    ({"remote_address": (None, None)}, TypeError, "remote_address has no order"),
    ({"peer_private_address_out": IPv6Address("::1")}, TypeError, "must be an IPv4 address .*, not IPv6Address"),
    ({"peer_private_address_out": "::1"}, ValueError, "must be an IPv4 address .*, not '::1'"),
    ({"peer_private_address_out": "x"}, ValueError, "must be an IPv4 address .*, not 'x'"),
    ({"peer_private_address_out": 2**32}, ValueError, "must be an IPv4 address"),
    ({"key_module_out": "00000000-0000-0000-0000-000000000000"}, TypeError, "must be a uuid.UUID or its 16 bytes"),
    ({"key_module_out": b"\0" * 15}, ValueError, "must be a uuid.UUID or its 16 bytes"),
    ({"main_mode_target_out": b"alice"}, TypeError, "main_mode_target_out must be a str, .*, not bytes"),
    ({"main_mode_target_out": ("a", "b")}, TypeError, "main_mode_target_out has no order"),
]


@pytest.mark.parametrize(("wrong", "error", "says"), REFUSED, ids=[str(wrong)[:60] for wrong, _, _ in REFUSED])
def test_what_is_wrong_is_refused_by_its_name(wrong: dict[str, Any], error: type[Exception], says: str) -> None:
    batch = seeded(5)
    for method in (batch.where, batch.explain, batch[:0].where):
        with pytest.raises(error, match=says):
            method(**wrong)


def test_conditions_go_by_name_only() -> None:
    for wrong in (("10.0.0.0/8",), (np.ones(5, bool),)):
        with pytest.raises(TypeError, match="positional"):
            seeded(5).where(*wrong)


def test_a_column_that_the_batch_lacks_is_a_key_error_that_says_why() -> None:
    with pytest.raises(KeyError, match="no column 'local_port': it was read with version=0"):
        seeded(5, version=0).where(local_port=5)
    state = seeded(5).__reduce__()
    rebuild, (version, length, cells, *rest) = state
    fewer = {name: cell for name, cell in cells.items() if name not in ("remote_address", "spi_out")}
    batch = rebuild(version, length, fewer, *rest)
    for wrong in ({"spi_out": 5}, {"remote": "10.0.0.0/8"}):
        with pytest.raises(KeyError, match=r"no column '(spi_out|remote_address)': it was left out by fields="):
            batch.where(**wrong)


# --- explain --------------------------------------------------------------------------------------


def test_explain_says_what_the_engine_can_apply() -> None:
    batch = seeded(5)
    assert batch.explain() == "no conditions: all contexts"
    assert batch.explain(remote="10.2.0.0/16", local=IPv4Address("10.1.2.3")) == (
        "local in 10.1.2.3/32: engine (enum template)\nremote in 10.2.0.0/16: engine (enum template)"
    )
    assert batch.explain(remote=["10.2.0.0/16"], local=["10.0.0.0/8", IPv6Network("2001:db8::/32")]) == (
        "local in 10.0.0.0/8 or 2001:db8::/32: here\nremote in 10.2.0.0/16: engine (enum template)"
    )


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ({"spi_out": 5}, "spi_out == 5"),
        ({"spi_out": None}, "spi_out is None"),
        ({"spi_out": {6, None, 5}}, "spi_out in {5, 6, None}"),
        ({"spi_out": set(range(100))}, "spi_out in {0, 1, 2, 3, 4, ... 100 in all}"),
        ({"lifetime_seconds_out": (0, 3600)}, "0 <= lifetime_seconds_out <= 3600"),
        ({"lifetime_seconds_out": (60, None)}, "lifetime_seconds_out >= 60"),
        ({"lifetime_seconds_out": (None, 60)}, "lifetime_seconds_out <= 60"),
        ({"lifetime_seconds_out": (None, None)}, "lifetime_seconds_out is not None"),
        ({"has_outbound": True}, "has_outbound == True"),
        ({"auth_type_in": {AuthType.MD5, 9}}, "auth_type_in in {AuthType.MD5, 9}"),
        ({"main_mode_target_in": "böb"}, "main_mode_target_in == 'böb'"),
        ({"remote_address": {"::1", IPv4Address("1.2.3.4")}}, "remote_address in {1.2.3.4, '::1'}"),
        ({"key_module_in": UUID(int=5)}, "key_module_in == 00000000-0000-0000-0000-000000000005"),
    ],
)
def test_explain_puts_what_runs_here_into_words(conditions: dict[str, Any], words: str) -> None:
    assert seeded(1).explain(**conditions) == f"{words}: here"


# --- Gathered on first touch ----------------------------------------------------------------------


def test_a_selection_gathers_a_column_when_it_is_touched_and_counts_what_it_holds() -> None:
    batch = seeded(1000)
    alive = testing.live_counters()["allocations"]
    found = batch.where(has_outbound=True)
    count = len(found)
    assert found.nbytes == 4 * count
    assert [context.spi_out for context in found] == found.take(range(count))["spi_out"].tolist()
    assert found.nbytes == 4 * count
    held = testing.live_counters()["allocations"]
    assert alive < held <= alive + 3
    column = found["mm_sa_id_out"]
    assert found.nbytes == 12 * count and testing.live_counters()["allocations"] == held + 1
    again = found["mm_sa_id_out"]
    assert np.asarray(again).ctypes.data == np.asarray(column).ctypes.data
    assert testing.live_counters()["allocations"] == held + 1
    assert found[: count // 2].nbytes == 12 * (count // 2)


def test_selections_and_their_columns_keep_alive_what_they_show() -> None:
    batch = seeded(200, odd=True)
    found = batch.where(has_inbound=True)
    wanted = values(batch.take(expected(batch, {"has_inbound": True})))
    column, context, part = found["spi_in"], found[3], found[5:50:3]
    detached = context.detach()
    del batch
    gc.collect()
    assert values(found) == wanted
    del found
    gc.collect()
    assert column.tolist() == wanted["spi_in"] and context == detached
    assert part["spi_in"].tolist() == wanted["spi_in"][5:50:3]


def test_a_selection_is_pickled_copied_and_exported_as_the_rows_it_shows() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    batch = seeded(300, odd=True)
    found = batch.where(has_outbound=True)
    copied = batch.take(expected(batch, {"has_outbound": True}))
    for one, other in ((found, copied), (found[10:-5], copied[10:-5]), (found[::-3], copied[::-3])):
        assert values(pickle.loads(pickle.dumps(one))) == values(other) == values(one)
        assert pyarrow.table(one).to_pylist() == pyarrow.table(other).to_pylist()
        shown = [pyarrow.table(view.arrow(addresses="text", enums="name")).to_pylist() for view in (one, other)]
        assert shown[0] == shown[1]
        assert list(one) == list(other) and list(one.take([0, 2, 0])) == [other[at] for at in (0, 2, 0)]
    assert values(copied.where(has_outbound=True)) == values(copied)
    assert len(pickle.dumps(batch.where(context_id=found[0].context_id))) < 30_000


def test_contexts_of_a_selection_are_those_of_its_batch() -> None:
    batch = seeded(300, odd=True)
    found = batch.where(traffic_differs=True)
    for context in found:
        same = batch[batch["context_id"].tolist().index(context.context_id)]
        assert context == same and hash(context) == hash(same) and repr(context) == repr(same)
        assert context.inbound == same.inbound and context.outbound == same.outbound
        assert context in batch and pickle.loads(pickle.dumps(context)) == same
    with pytest.raises(AttributeError, match="version=0"):
        _ = seeded(5, version=0).where(has_outbound=True)[0].local_port


def test_a_selection_can_be_expired(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(200, 4)
    stale = engine.snapshot().where(has_outbound=True, lifetime_seconds_out=(None, 3600))
    report = engine.expire(stale)
    assert report.counts[wfpsa.Outcome.EXPIRED] == len(stale) > 0


def test_masks_and_indices_of_numpy_go_through_take() -> None:
    batch = seeded(100, odd=True)
    found = batch.where(has_outbound=True)
    mask = np.asarray(found["remote_port"]) > 0
    assert list(found.take(mask)) == [context for context in found if context.remote_port]
    assert list(found.take(np.flatnonzero(mask))) == list(found.take(mask))
    with pytest.raises(ValueError, match=f"one boolean for each of the {len(found)} contexts, not 100"):
        found.take(np.ones(100, bool))


# --- Threads and memory ---------------------------------------------------------------------------


def test_threads_may_touch_one_selection_at_once() -> None:
    batch = seeded(3000, odd=True)
    wanted = values(batch.take(expected(batch, {"has_inbound": True})))
    for _ in range(3):
        found = batch.where(has_inbound=True)
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(values, [found] * 8))
        assert all(result == wanted for result in results)
        assert len({np.asarray(found[name]).ctypes.data for name in found.columns}) == len(found.columns)


def test_threads_may_select_from_one_batch_at_once() -> None:
    batch = seeded(3000, odd=True)
    wanted = [{"remote": "10.0.0.0/8"}, {"spi_out": (1, 2**31)}, {"has_outbound": False}, {"main_mode_target_in": None}]
    rows = [expected(batch, one) for one in wanted]

    def select(at: int) -> bool:
        return batch.where(**wanted[at])["context_id"].tolist() == batch.take(rows[at])["context_id"].tolist()

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(select, [0, 1, 2, 3] * 5))


ACTIONS: dict[str, Callable[[wfpsa.SaBatch], object]] = {
    "subnets": lambda batch: batch.where(remote=["10.0.0.0/8", "2001:db8::/32"]),
    "few values": lambda batch: batch.where(spi_out={5, 6, None}),
    "many values": lambda batch: batch.where(spi_out=set(range(50)), context_id=set(range(50))),
    "ports": lambda batch: batch.where(remote_port={0, 500}),
    "text": lambda batch: batch.where(main_mode_target_in={"x", None}),
    "touch": lambda batch: batch.where(has_outbound=True)["spi_out"].tolist(),
    "touch all": lambda batch: values(batch.where(has_outbound=True)),
    "take": lambda batch: batch.where(has_outbound=True).take([0, 1]),
    "pickle": lambda batch: pickle.dumps(batch.where(has_outbound=True)),
    "selection of a selection": lambda batch: batch.where(has_outbound=True).where(has_inbound=True)["spi_in"],
}


@pytest.mark.parametrize("action", ACTIONS)
def test_every_allocation_may_fail(action: str) -> None:
    batch = seeded(40)
    _, failures = walk_allocations(lambda: ACTIONS[action](batch) and None)
    assert failures >= 4


def test_an_arrow_export_of_a_selection_may_run_out_of_memory_and_be_tried_again() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    batch = seeded(40, odd=True)
    found = batch.where(has_outbound=True)
    wanted = pyarrow.table(batch.take(expected(batch, {"has_outbound": True}))).to_pylist()
    for nth in range(1, 400, 7):
        testing.fail_allocation(nth)
        try:
            shown = pyarrow.table(found)
        except (MemoryError, OSError) as error:
            assert out_of_memory(error) or "out of memory" in str(error), error
        else:
            assert shown.to_pylist() == wanted
            del shown
        finally:
            testing.fail_allocation(0)
    assert pyarrow.table(found).to_pylist() == wanted
