"""The controls of the embedded engine: contents, clock, service, faults, switches, and what is counted or reported."""

import ctypes
import inspect
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import byref, c_uint32, c_void_p
from ipaddress import IPv4Address, IPv6Address

import numpy as np
import pytest
from support import (
    FWP_E_SESSION_ABORTED,
    FWP_E_TIMEOUT,
    contexts_at,
    key_blobs,
    os_functions,
    raw_pages,
    raw_session,
    values,
)

import wfpsa
from wfpsa import ChangeKind, Outcome, Sa, SaBundle, Traffic, TrafficType, testing


def population(count: int, seed: int, odd: bool) -> dict[str, list[object]]:
    with testing.EmbeddedEngine() as control:
        control.seed(count, seed, odd=odd)
        with control.open() as engine:
            return values(engine.snapshot())


# --- Populations ----------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", [False, True])
def test_the_same_numbers_make_the_same_population_and_others_another(odd: bool) -> None:
    for seed in (0, 1, 2**64 - 1):
        assert population(200, seed, odd) == population(200, seed, odd)
    seen = [str(population(200, seed, odd)) for seed in (0, 1, 2, 2**63, 2**64 - 1)]
    assert len(set(seen)) == 5
    assert population(200, 0, odd) != population(200, 0, not odd)


def test_a_population_is_plausible_and_varied() -> None:
    found = population(3000, 1, False)
    assert len(set(found["context_id"])) == 3000 and min(found["context_id"]) > 2**32
    assert set(found["ip_version"]) == {4, 6, None} and set(found["traffic_type"]) == {0, 1, None}
    for side in ("in", "out"):
        assert set(found[f"transform_{side}"]) == {None, 1, 2, 3, 4, 5}
        assert set(found[f"sa_count_{side}"]) == {None, 1, 2}
        assert max(value for value in found[f"pfs_group_{side}"] if value is not None) < 253
        for name in ("udp_local_port", "peer_private_address", "virtual_tunnel_id", "lookup_context", "key_module"):
            assert None in found[f"{name}_{side}"] and len(set(found[f"{name}_{side}"])) > 1
        names = [name for name in found[f"main_mode_target_{side}"] if name]
        assert any(not name.isascii() for name in names) and any(name.isascii() for name in names)
    assert {(i, o) for i, o in zip(found["has_inbound"], found["has_outbound"], strict=True)} == {
        (True, True),
        (True, False),
        (False, True),
        (False, False),
    }
    assert True in found["traffic_differs"]


def test_an_odd_population_has_what_no_sane_engine_returns() -> None:
    found = population(3000, 1, True)
    assert {253, 254} <= set(found["traffic_type"]) and 254 in found["ip_version"]
    assert {253, 254} <= set(found["transform_out"]) & set(found["pfs_group_out"])
    assert 254 in found["sa_count_out"] and 0 in found["sa_count_out"]
    assert max(found["context_id"]) > 2**63
    assert "" in found["main_mode_target_out"] and any(
        "\ufffd" in (name or "") for name in found["main_mode_target_out"]
    )
    plain = zip(found["has_outbound"], found["transform_out"], found["sa_count_out"], strict=True)
    assert any(there and transform is None and count for there, transform, count in plain)


def test_seeding_again_adds_to_what_is_there(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    assert len(embedded) == 0
    embedded.seed(10)
    first = engine.snapshot()
    embedded.seed(0)
    embedded.seed(15, 3)
    assert len(embedded) == 25
    assert list(engine.snapshot()[:10]) == list(first)
    assert len(set(engine.snapshot()["context_id"])) == 25


# --- One context more -----------------------------------------------------------------------------


def bundle(spi: int = 0x700, **given: int) -> SaBundle:
    return SaBundle(sas=Sa(spi=spi), **{"qm_sa_id": 3, **given})  # type: ignore[arg-type]


def test_an_added_context_is_a_plausible_one_between_two_addresses(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    numbers = [embedded.add(), embedded.add("2001:db8::1", IPv6Address("2001:db8::2")), embedded.add(remote="10.9.9.9")]
    contexts = [engine.get(number) for number in numbers]
    assert [str(context.remote_address) for context in contexts] == ["10.0.0.2", "2001:db8::2", "10.9.9.9"]
    assert contexts[0].local_address == contexts[2].local_address == IPv4Address("10.0.0.1")
    for context in contexts:
        assert context.traffic_type is TrafficType.TRANSPORT and not context.traffic_differs
        assert context.inbound.qm_sa_id == context.outbound.qm_sa_id > 0
        assert context.inbound.sa_count == context.outbound.sa_count == 1
    spis = [number for context in contexts for number in (context.inbound.spi, context.outbound.spi)]
    assert len(set(spis)) == 6 and len(embedded) == len(set(numbers)) == 3


def test_each_side_of_an_added_context_may_be_given_left_out_or_plausible(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    for inbound in (True, False, None, bundle()):
        for outbound in (True, False, None, bundle()):
            context = engine.get(embedded.add(inbound=inbound, outbound=outbound))
            assert (context.has_inbound, context.has_outbound) == (bool(inbound), bool(outbound))
            for given, side in ((inbound, context.inbound), (outbound, context.outbound)):
                assert given in (True, False, None) or side.spi == 0x700


def test_an_added_context_has_the_id_that_is_asked_for_or_a_new_one(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    for number in (1, np.uint64(2**32), 2**63, 2**64 - 1):
        assert embedded.add(context_id=number) == number
        with pytest.raises(wfpsa.WfpError) as caught:
            embedded.add(context_id=number)
        assert (caught.value.code, caught.value.function) == (0x80320009, "EmbeddedEngine.add")
    assert sorted(engine.snapshot()["context_id"]) == [1, 2**32, 2**63, 2**64 - 1]
    far = embedded.add() + 1000
    assert embedded.add(context_id=far) == far
    assert len({embedded.add() for _ in range(2000)}) == 2000 and len(embedded) == 2006
    embedded.seed(500)
    assert len(set(engine.snapshot()["context_id"])) == len(embedded) == 2506


def test_what_cannot_be_added_is_refused_by_name(embedded: testing.EmbeddedEngine) -> None:
    for arguments, error, message in [
        ({"traffic": "10.0.0.1"}, TypeError, "traffic must be a wfpsa.Traffic or None, not str"),
        ({"inbound": Sa()}, TypeError, "inbound must be a wfpsa.SaBundle, a bool or None, not Sa"),
        ({"outbound": 5}, TypeError, "outbound must be a wfpsa.SaBundle, a bool or None, not int"),
        ({"context_id": True}, TypeError, "context_id must be an int or None, not bool"),
        ({"context_id": "1"}, TypeError, "context_id must be an int or None, not str"),
        ({"context_id": -1}, ValueError, "context_id must be 1 to 2[*][*]64 - 1, not -1"),
        ({"local": "10.0.0"}, ValueError, "local_address must be"),
        ({"local": "::1"}, ValueError, "local_address and remote_address must be of one family"),
    ]:
        with pytest.raises(error, match=message):
            embedded.add(**arguments)  # type: ignore[arg-type]
    assert len(embedded) == 0


# --- Churn ----------------------------------------------------------------------------------------


def test_churn_is_the_same_for_the_same_seed_and_moves_with_the_clock_only() -> None:
    def churned(seed: int, steps: list[float]) -> list[dict[str, list[object]]]:
        with testing.EmbeddedEngine() as control, control.open() as engine:
            control.stop_clock()
            control.seed(50, 1)
            control.churn(10, seed)
            shown = [values(engine.snapshot())]
            for seconds in steps:
                control.advance(seconds)
                shown.append(values(engine.snapshot()))
            return shown

    steps = [0.05, 0.05, 0, 1, 3]
    first = churned(1, steps)
    assert first == churned(1, steps)
    assert first[-1] == churned(1, [4.1])[-1] != churned(2, [4.1])[-1]
    assert first[0] == first[1] != first[2] == first[3]
    assert [len(each["context_id"]) for each in first] == [50] * 6
    new = [len(set(each["context_id"]) - set(first[0]["context_id"])) for each in first]
    assert new[:4] == [0, 0, 1, 1] and 1 < new[4] <= 11 and new[4] < new[5] <= 41


def test_churn_is_told_replaced_and_ended(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.seed(5)
    with engine.subscribe() as subscription:
        embedded.churn(100)
        embedded.advance(0.1)
        kinds = [next(subscription)[0] for _ in range(20)]
        assert kinds.count(ChangeKind.ADDED) == kinds.count(ChangeKind.DELETED) == 10
        embedded.churn(1000, 5)
        embedded.advance(0.001)
        assert [next(subscription)[0] for _ in range(2)] == [ChangeKind.ADDED, ChangeKind.DELETED]
        embedded.churn(0)
        before = values(engine.snapshot())
        embedded.advance(3)
        assert values(engine.snapshot()) == before and subscription.get(0) is None
    assert len(embedded) == 5


def test_churn_of_a_running_clock_goes_on_by_itself_while_somebody_subscribes() -> None:
    with testing.EmbeddedEngine() as control, control.open() as engine, engine.subscribe() as subscription:
        control.seed(5)
        control.churn(200)
        for _ in range(30):
            assert isinstance(next(subscription), wfpsa.SaChange)
        control.churn(0)
        assert len(control) == 5


# --- One engine, several hands --------------------------------------------------------------------


def test_a_target_opens_the_same_engine_and_so_does_the_name(embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(7)
    assert embedded.target == f"embedded:{embedded.server_name}"
    with wfpsa.open_engine(embedded.target) as engine, testing.EmbeddedEngine(embedded.server_name) as again:
        assert len(engine.snapshot()) == len(again) == 7
        assert again.target == embedded.target
    with testing.EmbeddedEngine() as other:
        assert other.target != embedded.target and len(other) == 0


def test_an_engine_lives_until_control_and_sessions_let_go() -> None:
    control = testing.EmbeddedEngine("short-lived")
    control.seed(3)
    engine = control.open()
    control.close()
    assert testing.live_counters()["stores"] == 1 and len(engine.snapshot()) == 3
    with testing.EmbeddedEngine("short-lived") as again:
        assert len(again) == 3
    engine.close()
    del engine
    assert testing.live_counters()["stores"] == 0
    with testing.EmbeddedEngine("short-lived") as anew:
        assert len(anew) == 0


def test_a_closed_control_refuses_everything_and_closes_again() -> None:
    control = testing.EmbeddedEngine()
    with control as entered:
        assert entered is control
    control.close()
    for call in (
        lambda: control.open(),
        lambda: control.seed(1),
        lambda: len(control),
        lambda: control.stop_clock(),
        lambda: control.advance(1),
        lambda: control.fail("IPsecSaContextEnum1"),
        lambda: control.latency(),
        lambda: control.rights("everyone"),
        lambda: control.add(),
        lambda: control.churn(1),
        lambda: control.start_clock(),
        lambda: control.switch(keys="empty"),
        lambda: control.stop_service(),
        lambda: control.start_service(),
        lambda: control.restart_service(),
        lambda: control.notifications(),
    ):
        with pytest.raises(ValueError, match="this embedded engine was closed"):
            call()
    assert testing.live_counters()["stores"] == 0


def test_a_name_that_no_target_can_spell_is_refused() -> None:
    for wrong in ("x" * 64, "a b", "é", "#1", "a?b"):
        with pytest.raises(ValueError):
            testing.EmbeddedEngine(wrong).open()


# --- The clock ------------------------------------------------------------------------------------


def test_a_stopped_clock_moves_by_advance_only(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.seed(20)
    there = engine.snapshot()
    engine.expire(there)
    left = len(embedded)
    assert left == there["has_inbound"].count(True)
    for _ in range(59):
        embedded.advance(1)
        assert len(embedded) == left
    embedded.advance(1)
    assert len(embedded) == 0


def test_a_running_clock_can_be_advanced_too() -> None:
    with testing.EmbeddedEngine() as control, control.open() as engine:
        control.seed(5)
        engine.expire(engine.snapshot())
        control.advance(60)
        assert len(control) == 0


def test_a_clock_stops_where_it_stood() -> None:
    with testing.EmbeddedEngine() as control, control.open() as engine:
        control.seed(5)
        engine.expire(engine.snapshot())
        left = len(control)
        control.stop_clock()
        control.stop_clock()
        assert len(control) == left
        control.advance(60)
        assert len(control) == 0


def test_a_clock_that_starts_again_goes_on_from_where_it_stood() -> None:
    with testing.EmbeddedEngine() as control, control.open() as engine:
        control.stop_clock()
        control.seed(5)
        engine.expire(engine.snapshot())
        left = len(control)
        control.start_clock()
        control.start_clock()
        assert len(control) == left  # a minute has not gone by
        control.advance(60)
        assert len(control) == 0


def test_an_sa_goes_with_the_end_of_its_lifetime_and_the_context_with_its_last_sa(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    number = embedded.add(inbound=bundle(lifetime_seconds=20), outbound=bundle(lifetime_seconds=10))
    lasting = embedded.add(inbound=bundle(lifetime_seconds=0), outbound=bundle(lifetime_seconds=0))
    states = []
    for _ in range(20):
        context = engine.get(number)
        states.append((context.has_inbound, context.has_outbound))
        embedded.advance(1)
    assert states == [(True, True)] * 10 + [(True, False)] * 10
    with pytest.raises(wfpsa.NotFound):
        engine.get(number)
    embedded.advance(1e9)
    assert engine.snapshot()["context_id"].tolist() == [lasting]


def test_what_is_due_and_lacks_memory_stays_until_there_is_some(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    embedded.seed(300)
    held = engine.pages(page_size=1, prefetch=False)
    next(held)  # whoever goes is kept for it
    engine.expire(engine.snapshot())
    seen = set()
    for nth in range(1, 20):
        testing.fail_allocation(nth)
        embedded.advance(60 if nth == 1 else 0)
        testing.fail_allocation(0)
        seen.add(len(embedded))
    assert seen == {0}
    assert sum(len(page) for page in held) == 299


# --- The service ----------------------------------------------------------------------------------


def test_a_restart_loses_all_contexts_and_gives_new_ids_from_then_on(embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(20)
    with embedded.open() as engine:
        old = set(engine.snapshot()["context_id"])
    for _ in range(3):
        embedded.restart_service()
        assert len(embedded) == 0
        embedded.seed(20)
        with embedded.open() as engine:
            new = set(engine.snapshot()["context_id"])
        assert old.isdisjoint(new) and len(new) == 20
        old |= new


def test_starting_what_runs_and_stopping_what_is_stopped_change_nothing(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    embedded.seed(3)
    embedded.start_service()
    assert len(engine.snapshot()) == 3
    embedded.stop_service(1726)
    embedded.stop_service(1722)
    with pytest.raises(wfpsa.SessionAborted) as caught:
        engine.snapshot()
    assert caught.value.code == 1726
    embedded.start_service()
    with pytest.raises(wfpsa.SessionAborted) as caught:
        engine.snapshot()
    assert caught.value.code == FWP_E_SESSION_ABORTED


def test_a_stopped_service_can_be_filled_for_after_its_start_only_where_contexts_are_kept(
    embedded: testing.EmbeddedEngine,
) -> None:
    for choice, left in (("lost", 0), ("kept", 4)):
        embedded.switch(contexts_after_restart=choice)
        embedded.stop_service()
        embedded.seed(4)
        embedded.start_service()
        with embedded.open() as engine:
            assert len(engine.snapshot()) == len(embedded) == left


# --- Notifications --------------------------------------------------------------------------------


def test_held_notifications_are_delivered_when_they_are_let_go(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    with engine.subscribe() as subscription:
        embedded.notifications(held=True)
        numbers = [embedded.add() for _ in range(5)]
        assert subscription.get(0) is None
        embedded.notifications()
        assert [next(subscription) for _ in numbers] == [
            (ChangeKind.ADDED, number, at) for at, number in enumerate(numbers, 1)
        ]


def test_a_full_queue_of_the_engine_loses_events_and_says_so_at_the_end(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    for capacity in (0, 1, 3):
        embedded.notifications(capacity=capacity, held=True)
        with engine.subscribe() as subscription:
            for _ in range(8):
                embedded.add()
            embedded.notifications(capacity=capacity)
            assert [next(subscription).sequence for _ in range(capacity)] == list(range(1, capacity + 1))  # type: ignore[union-attr]
        assert list(subscription) == [wfpsa.Gap(1)]  # one, or more


# --- Faults, latency, rights ----------------------------------------------------------------------


def test_a_planned_failure_happens_once_at_its_call(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.fail("IPsecSaContextGetById1", 3)
    for _ in range(2):
        with pytest.raises(wfpsa.NotFound):
            engine.get(1)
    with pytest.raises(wfpsa.EngineTimeout):
        engine.get(1)
    with pytest.raises(wfpsa.NotFound):
        engine.get(1)


def test_a_planned_failure_can_be_replaced_and_cancelled(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    embedded.fail("IPsecSaContextEnum1", 1, 5)
    embedded.fail("IPsecSaContextEnum1", 2, 87)
    assert len(engine.snapshot()) == 0
    with pytest.raises(wfpsa.WfpError, match="ERROR_INVALID_PARAMETER"):
        engine.snapshot()
    embedded.fail("IPsecSaContextEnum1")
    embedded.fail("IPsecSaContextEnum1", 0)
    assert len(engine.snapshot()) == 0


def test_failures_belong_to_one_engine(embedded: testing.EmbeddedEngine) -> None:
    embedded.fail("IPsecSaContextEnum1")
    with wfpsa.open_engine("embedded:") as other:
        assert len(other.snapshot()) == 0
    embedded.fail("IPsecSaContextEnum1", 0)


def test_an_unknown_function_or_profile_is_a_value_error(embedded: testing.EmbeddedEngine) -> None:
    for wrong in ("", "IPsecSaContextEnum", "IPsecSaContextEnum2", "ipsecsacontextenum1"):
        with pytest.raises(ValueError, match=f"function must be one of the engine table's, not {wrong!r}"):
            embedded.fail(wrong)
    for wrong in ("", "root", "Administrator"):
        with pytest.raises(ValueError, match=f"profile must be one of administrator, .*everyone, not {wrong!r}"):
            embedded.rights(wrong)


def test_numbers_out_of_range_are_refused(embedded: testing.EmbeddedEngine) -> None:
    for call in (
        lambda: embedded.seed(-1),
        lambda: embedded.seed(1, -1),
        lambda: embedded.advance(-1),
        lambda: embedded.latency(per_call_us=-1),
        lambda: embedded.fail("IPsecSaContextEnum1", -1),
        lambda: embedded.fail("IPsecSaContextEnum1", 1, 2**32),
        lambda: embedded.churn(-1),
        lambda: embedded.churn(1, 2**64),
        lambda: embedded.stop_service(0),
        lambda: embedded.stop_service(2**32),
        lambda: embedded.notifications(capacity=-1),
        lambda: embedded.notifications(capacity=2**32),
        lambda: embedded.add(context_id=0),
        lambda: embedded.add(context_id=2**64),
        lambda: testing.fail_allocation(-1),
    ):
        with pytest.raises((ValueError, OverflowError)):
            call()
    assert len(embedded) == 0


def test_a_population_beyond_all_memory_is_a_memory_error(embedded: testing.EmbeddedEngine) -> None:
    with pytest.raises(MemoryError):
        embedded.seed(2**62)
    assert len(embedded) == 0


def test_latency_changes_no_answer(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.seed(20)
    expected = values(engine.snapshot())
    embedded.latency(per_call_us=50, per_entry_us=0.5)
    assert values(engine.snapshot(page_size=7)) == expected
    embedded.latency()
    assert engine.expire(engine.snapshot()).counts[Outcome.EXPIRED] == 20


def test_the_nth_allocation_fails_once_and_0_cancels(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    testing.fail_allocation(1)
    with pytest.raises(MemoryError):
        embedded.seed(1)
    embedded.seed(1)
    testing.fail_allocation(1)
    testing.fail_allocation(0)
    assert len(engine.snapshot()) == 1


# --- Switches -------------------------------------------------------------------------------------


def test_switches_have_choices_and_a_meaning_and_others_are_refused(embedded: testing.EmbeddedEngine) -> None:
    assert len(testing.SWITCHES) == 16
    for name, (choices, meaning) in testing.SWITCHES.items():
        assert len(choices) == len(set(choices)) >= 2 and len(meaning) > 20
        for choice in choices:
            embedded.switch(**{name: choice})
        for wrong in ("", "maybe", choices[0].upper(), " ".join(choices)):
            with pytest.raises(ValueError, match=f"switch {name} must be one of {', '.join(choices)}, not {wrong!r}"):
                embedded.switch(**{name: wrong})
    with pytest.raises(ValueError, match="unknown switch 'key'; known: enumeration, empty_page"):
        embedded.switch(key="empty")


def test_a_bad_switch_among_good_ones_sets_none(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    with pytest.raises(ValueError, match="switch second_expiry"):
        embedded.switch(lifetimes="off", second_expiry="no")
    embedded.add(inbound=None, outbound=bundle(lifetime_seconds=1))
    embedded.advance(1)
    assert len(embedded) == 0


@pytest.mark.parametrize("choice", ["snapshot", "live"])
def test_an_enumeration_shows_what_there_was_at_its_beginning_or_what_is_there_at_each_call(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, choice: str
) -> None:
    embedded.switch(enumeration=choice)
    numbers = [embedded.add() for _ in range(9)]
    pages = engine.pages(page_size=3, prefetch=False)
    found = next(pages)["context_id"].tolist()
    for number in numbers[3:6]:
        engine.delete(number)
    late = embedded.add(), embedded.add(), embedded.add(), embedded.add()  # one more than were deleted
    found += [number for page in pages for number in page["context_id"]]
    assert sorted(found) == (numbers if choice == "snapshot" else [*numbers[:3], *numbers[6:], *late])


def empty_page(control: testing.EmbeddedEngine) -> tuple[int | None, int]:
    """What an enumeration of nothing hands out, freed: the address, and how many results that was."""
    with raw_session(control) as (functions, engine):
        handle, page, count = c_void_p(), c_void_p(), c_uint32(7)
        assert functions["IPsecSaContextCreateEnumHandle0"](engine, None, byref(handle)) == 0
        assert functions["IPsecSaContextEnum1"](engine, handle, 10, byref(page), byref(count)) == 0
        assert count.value == 0
        address, alive = page.value, testing.live_counters()["pages"]
        functions["FwpmFreeMemory0"](byref(page))
        assert page.value is None and testing.live_counters()["pages"] == 0
        assert functions["IPsecSaContextDestroyEnumHandle0"](engine, handle) == 0
    return address, alive


def test_an_empty_page_is_null_or_a_block_to_be_freed(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    assert empty_page(embedded) == (None, 0)
    embedded.switch(empty_page="block")
    address, alive = empty_page(embedded)
    assert address and alive == 1
    assert len(engine.snapshot()) == len(list(engine.pages())) == 0
    embedded.seed(20)
    assert [len(page) for page in engine.pages(page_size=10)] == [10, 10]


def test_templates_may_be_refused_but_for_the_documented_type(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    embedded.seed(60)
    for subnet, version in (("10.0.0.0/8", 4), ("2001:db8::/32", 6)):
        pushed = engine.snapshot(remote=subnet)
        embedded.switch(templates="v6_mask")
        found = engine.snapshot(remote=subnet)
        assert found.pushed_down is (version == 6) and values(found) == values(pushed)
        embedded.switch(templates="all")


def test_key_blobs_hold_a_mark_zeros_or_nothing(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    def blobs() -> list[bytes]:
        found = []
        for address, count in raw_pages(embedded, 1, 30):
            found += key_blobs(address, count, 1)
        return found

    embedded.seed(30)
    whole = values(engine.snapshot())
    marked = blobs()
    assert marked and all((testing.KEY_MARK * 8).startswith(blob) for blob in marked)
    embedded.switch(keys="zeroed")
    assert list(map(len, blobs())) == list(map(len, marked)) and not any(map(any, blobs()))
    embedded.switch(keys="empty")
    assert blobs() == []
    assert values(engine.snapshot()) == whole


def test_a_second_expiry_within_the_tail_succeeds_or_finds_nothing(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    for choice, outcome in (("success", Outcome.EXPIRED), ("not_found", Outcome.ALREADY_GONE)):
        embedded.switch(second_expiry=choice)
        number = embedded.add()
        assert engine.expire([number, number]).outcome.tolist() == [Outcome.EXPIRED, outcome]
        assert engine.get(number).has_inbound


def completed(engine: wfpsa.Engine, traffic: Traffic) -> int:
    number = engine.create(traffic)
    engine.add_inbound(number, bundle(engine.get_spi(number, traffic)))
    engine.add_outbound(number, bundle())
    return number


def test_older_duplicates_are_deleted_or_kept(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    traffic = Traffic("10.3.0.1", "10.3.0.2")
    first = completed(engine, traffic)
    second = completed(engine, traffic)
    assert engine.snapshot()["context_id"].tolist() == [second] != [first]
    embedded.switch(duplicates="kept")
    third = completed(engine, traffic)
    assert set(engine.snapshot()["context_id"]) == {second, third}


def test_lifetimes_can_be_switched_off_and_idle_timeouts_on(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    embedded.switch(lifetimes="off")
    embedded.add(inbound=None, outbound=bundle(lifetime_seconds=10, idle_timeout_seconds=40))
    embedded.advance(39)
    assert len(embedded) == 1
    embedded.switch(idle="on")
    embedded.advance(0.999)
    assert len(embedded) == 1
    embedded.advance(0.001)
    assert len(embedded) == 0
    embedded.add(inbound=None, outbound=bundle(lifetime_seconds=10, idle_timeout_seconds=0))
    embedded.advance(50)
    assert len(embedded) == 1
    embedded.switch(lifetimes="on")
    assert len(embedded) == 0


def test_an_addition_is_told_at_creation_or_with_the_outbound_sa(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    traffic = Traffic("10.3.0.1", "10.3.0.2")
    with engine.subscribe() as subscription:
        number = engine.create(traffic)
        assert next(subscription)[:2] == (ChangeKind.ADDED, number)
        embedded.switch(add_event="outbound", duplicates="kept")
        assert embedded.add(outbound=None)
        number = completed(engine, traffic)
        assert next(subscription)[:2] == (ChangeKind.ADDED, number)
        whole = embedded.add()
        assert next(subscription)[:2] == (ChangeKind.ADDED, whole)


def test_the_deletion_of_an_expired_context_is_told_when_it_goes_or_at_its_expiry(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    for choice, told_at_once in (("removal", False), ("expiry", True)):
        embedded.switch(delete_event=choice)
        number, other = embedded.add(), embedded.add()
        with engine.subscribe() as subscription:
            engine.expire([number])
            engine.delete(other)  # is always told at once
            embedded.advance(60)
            told = [next(subscription)[1], next(subscription)[1]]
            assert told == ([number, other] if told_at_once else [other, number])
            assert subscription.get(0) is None


def test_the_end_of_a_subscription_that_lost_events_says_so_or_not(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    for choice, left in (("reported", [wfpsa.Gap(1)]), ("silent", [])):
        embedded.switch(overflow=choice)
        embedded.notifications(capacity=1, held=True)
        with engine.subscribe() as subscription:
            embedded.seed(5)
            embedded.notifications(capacity=1)
            assert isinstance(next(subscription), wfpsa.SaChange)
        assert list(subscription) == left


def test_changes_inside_a_transaction_are_allowed_or_refused(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    number = embedded.add()
    calls: list[Callable[[], object]] = [
        lambda: engine.update(number, "inbound", nap_context=1),
        lambda: engine.expire([number]).raise_for_failures(),
    ]
    embedded.switch(transaction_changes="refused")
    with engine.transaction():
        for call in calls:
            with pytest.raises(wfpsa.WfpError) as caught:
                call()
            assert caught.value.code == 0x8032000E
        assert engine.get(number).has_outbound
    embedded.switch(transaction_changes="allowed")
    with engine.transaction():
        for call in calls:
            call()
    assert not engine.get(number).has_outbound


def test_latency_of_a_change_keeps_others_out_only_where_it_is_inside_the_lock(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    def change() -> None:
        while not done.is_set():
            engine.expire([1] * 4)

    def is_kept_out() -> bool:
        time.sleep(0.03)  # else both take as long, and one might always come in the other's pauses
        try:
            with pytest.raises(wfpsa.NotFound):
                impatient.get(1)
        except wfpsa.EngineTimeout as error:
            assert error.code == FWP_E_TIMEOUT
            return True
        return False

    embedded.seed(1)
    embedded.latency(per_call_us=100_000)
    with embedded.open(lock_timeout=0.001) as impatient:
        for choice in ("outside", "inside"):
            embedded.switch(latency=choice)
            done = threading.Event()
            changing = threading.Thread(target=change, daemon=True)
            changing.start()
            try:
                if choice == "outside":
                    assert sum(is_kept_out() for _ in range(8)) < 4, "by chance at most"
                else:
                    assert any(is_kept_out() for _ in range(200))
            finally:
                done.set()
                changing.join()


@pytest.mark.parametrize("choice", ["new", "reused"])
@pytest.mark.parametrize("count", [1, 2, 21])
def test_contexts_may_outlive_a_restart_but_none_keeps_its_id(
    embedded: testing.EmbeddedEngine, choice: str, count: int
) -> None:
    embedded.seed(count)
    embedded.switch(contexts_after_restart="kept", ids_after_restart=choice)
    with embedded.open() as engine:
        before = values(engine.snapshot())
    for _ in range(3):
        embedded.restart_service()
        with embedded.open() as engine:
            after = values(engine.snapshot())
            assert [engine.get(number).context_id for number in after["context_id"]] == after["context_id"]
        old, new = before.pop("context_id"), after.pop("context_id")
        assert after == before
        assert not any(was == now for was, now in zip(old, new, strict=True))
        assert choice == "new" or count == 1 or not set(old).isdisjoint(new)
        assert choice == "reused" or set(old).isdisjoint(new)
        before = {**after, "context_id": new}


def test_ids_may_be_given_again_after_a_restart(embedded: testing.EmbeddedEngine) -> None:
    numbers = [embedded.add() for _ in range(3)]
    embedded.restart_service()
    assert embedded.add() not in numbers
    embedded.switch(ids_after_restart="reused")
    embedded.restart_service()
    assert [embedded.add() for _ in range(3)] == numbers


# --- Wrong uses -----------------------------------------------------------------------------------


@contextmanager
def misused(function: str, what: str, times: int = 1) -> Iterator[None]:
    """The block uses that function wrongly, so often, and nothing else."""
    assert testing.take_misuses() == [] and testing.live_counters()["misuses"] == 0
    yield
    assert testing.live_counters()["misuses"] == times
    assert testing.take_misuses() == [(function, what, times)]
    assert testing.take_misuses() == [] and testing.live_counters()["misuses"] == 0


INVALID_HANDLE = 6
POSSIBLE_DEADLOCK = 1131
WRONG_SESSION = 0x8032000C


def test_a_result_freed_twice_or_foreign_is_reported(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    number = embedded.add()
    with raw_session(embedded) as (functions, handle):
        found = c_void_p()
        assert functions["IPsecSaContextGetById1"](handle, number, byref(found)) == 0
        assert contexts_at(ctypes.addressof(found), 1, 1)[0].number("saContextId") == number
        copy = c_void_p(found.value)
        functions["FwpmFreeMemory0"](byref(found))
        assert found.value is None
        functions["FwpmFreeMemory0"](byref(found))  # NULL is accepted
        with misused("FwpmFreeMemory0", "a result was freed twice", 2):
            functions["FwpmFreeMemory0"](byref(copy))
            functions["FwpmFreeMemory0"](byref(copy))
        own = ctypes.create_string_buffer(64)
        foreign = c_void_p(ctypes.addressof(own))
        with misused("FwpmFreeMemory0", "what was freed is no result of this engine"):
            functions["FwpmFreeMemory0"](byref(foreign))
    assert len(engine.snapshot()) == 1


@pytest.mark.misuses_memory
def test_a_result_written_to_after_its_end_is_reported(embedded: testing.EmbeddedEngine) -> None:
    number = embedded.add()
    with raw_session(embedded) as (functions, handle):
        found = c_void_p()
        assert functions["IPsecSaContextGetById1"](handle, number, byref(found)) == 0
        copy = c_void_p(found.value)
        functions["FwpmFreeMemory0"](byref(found))
        with misused("FwpmFreeMemory0", "a result was written to after it was freed"):
            ctypes.memset(copy.value or 0, 0, 8)


def test_an_enumeration_handle_used_after_its_end_or_by_another_session_is_reported(
    embedded: testing.EmbeddedEngine,
) -> None:
    embedded.seed(5)
    page, count = c_void_p(), c_uint32()
    with raw_session(embedded) as (functions, one), raw_session(embedded) as (_, other):
        enum, destroy = functions["IPsecSaContextEnum1"], functions["IPsecSaContextDestroyEnumHandle0"]
        handle = c_void_p()
        assert functions["IPsecSaContextCreateEnumHandle0"](one, None, byref(handle)) == 0
        with misused("IPsecSaContextEnum1", "the handle is another session's"):
            assert enum(other, handle, 1, byref(page), byref(count)) == WRONG_SESSION
        embedded.switch(foreign_handle="invalid_handle")
        with misused("IPsecSaContextDestroyEnumHandle0", "the handle is another session's"):
            assert destroy(other, handle) == INVALID_HANDLE
        assert destroy(one, handle) == 0
        for bad in (handle, c_void_p(12345)):
            with misused("IPsecSaContextEnum1", "the enumeration handle is destroyed, or none"):
                assert enum(one, bad, 1, byref(page), byref(count)) == INVALID_HANDLE
            with misused("IPsecSaContextDestroyEnumHandle0", "the enumeration handle is destroyed, or none"):
                assert destroy(one, bad) == INVALID_HANDLE
        assert page.value is None


def test_an_engine_handle_used_after_its_end_is_reported(embedded: testing.EmbeddedEngine) -> None:
    with raw_session(embedded) as (functions, handle):
        pass
    found = c_void_p()
    for bad in (handle, c_void_p(4), c_void_p(2**40 + 1)):
        with misused("FwpmEngineClose0", "the engine handle is closed, or none"):
            assert functions["FwpmEngineClose0"](bad) == INVALID_HANDLE
        with misused("IPsecSaContextGetById1", "the engine handle is closed, or none"):
            assert functions["IPsecSaContextGetById1"](bad, 1, byref(found)) == INVALID_HANDLE
    assert functions["FwpmEngineClose0"](None) == 0x8032001C  # NULL is an error and no misuse
    assert testing.live_counters()["misuses"] == 0


def test_a_subscription_used_after_its_end_or_ended_by_its_own_callback_is_reported(
    embedded: testing.EmbeddedEngine,
) -> None:
    codes: list[int] = []
    events = c_void_p()
    told = threading.Event()

    with raw_session(embedded) as (functions, one), raw_session(embedded) as (_, other):
        unsubscribe = functions["IPsecSaContextUnsubscribe0"]

        @ctypes.CFUNCTYPE(None, c_void_p, c_void_p)
        def callback(context: int, change: int) -> None:
            codes.append(unsubscribe(one, events))
            codes.append(functions["FwpmEngineClose0"](one))
            told.set()

        wanted = (ctypes.c_uint8 * 32)()  # IPSEC_SA_CONTEXT_SUBSCRIPTION0 of all zeros: everything
        assert functions["IPsecSaContextSubscribe0"](one, wanted, callback, None, byref(events)) == 0
        embedded.add()
        assert told.wait(60)
        assert codes == [POSSIBLE_DEADLOCK, POSSIBLE_DEADLOCK]
        assert testing.take_misuses() == [
            ("FwpmEngineClose0", "called from within a callback that it waits for", 1),
            ("IPsecSaContextUnsubscribe0", "called from within a callback that it waits for", 1),
        ]
        with misused("IPsecSaContextUnsubscribe0", "the handle is another session's"):
            assert unsubscribe(other, events) == WRONG_SESSION
        assert unsubscribe(one, events) == 0
        with misused("IPsecSaContextUnsubscribe0", "the subscription is ended, or none"):
            assert unsubscribe(one, events) == INVALID_HANDLE
        assert unsubscribe(one, None) == 0  # NULL has no effect


# --- Counters, functions, drain -------------------------------------------------------------------


def test_live_counters_count_what_is_alive() -> None:
    counted = ("stores", "engines", "enum_handles", "pages", "subscriptions", "transactions", "allocations", "misuses")
    assert testing.live_counters() == dict.fromkeys(counted, 0)
    with testing.EmbeddedEngine() as control:
        control.seed(10)
        with control.open() as engine, control.open():
            pages = engine.pages(page_size=3, prefetch=False)
            next(pages)
            batch = engine.snapshot()
            alive = testing.live_counters()
            assert (alive["stores"], alive["engines"], alive["enum_handles"], alive["pages"]) == (1, 2, 1, 0)
            assert alive["allocations"] > 70
            before = testing.live_counters()["allocations"]
            del batch
            assert testing.live_counters()["allocations"] < before - 70


def test_the_functions_are_those_of_the_engine_table_by_the_os_names() -> None:
    functions = testing.functions()
    assert {"FwpmEngineOpen0", "IPsecSaContextEnum1", "IPsecSaContextExpire0"} <= set(functions)
    assert all(isinstance(address, int) and address for address in functions.values())
    assert set(os_functions()) <= set(functions)
    with pytest.raises(wfpsa.EngineUnavailable, match='this build of wfpsa has no "nothing:" engine'):
        testing.functions("nothing")


@pytest.mark.parametrize("version", [0, 1])
def test_drain_counts_what_a_listing_lists(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, version: int
) -> None:
    embedded.seed(50, odd=True)
    for page_size in (1, 10, 49, 50, 51, 2**32 - 1):
        assert testing.drain(engine, version=version, page_size=page_size) == 50
    assert testing.drain(engine) == 50
    for nth in range(1, 7):
        embedded.fail(f"IPsecSaContextEnum{version}", nth)
        with pytest.raises(wfpsa.EngineTimeout):
            testing.drain(engine, version=version, page_size=10)
        assert testing.live_counters()["enum_handles"] == testing.live_counters()["pages"] == 0


def test_everything_that_the_module_exports_is_there_and_documented() -> None:
    for name in testing.__all__:
        thing = getattr(testing, name)
        assert name == "KEY_MARK" or inspect.getdoc(thing), name
    assert len(testing.KEY_MARK) == 16 and isinstance(testing.KEY_MARK, bytes)
