"""Subscriptions read by one thread: what is told, in which order, what is lost, and when it ends."""

import math
from ipaddress import ip_address, ip_network
from uuid import UUID

import pytest
from support import walk_allocations

import wfpsa
from wfpsa import ChangeKind, Gap, Sa, SaBundle, SaChange, Subscription, Traffic, testing

ADDED, DELETED = ChangeKind.ADDED, ChangeKind.DELETED
WAIT = 60.0
"""Seconds for an event that must come."""

TXN_IN_PROGRESS = 0x8032000E


def take(subscription: Subscription, count: int) -> list[SaChange | Gap]:
    """That many events, which must come."""
    events = []
    for _ in range(count):
        event = subscription.get(WAIT)
        assert event is not None
        events.append(event)
    return events


def told(events: list[SaChange | Gap]) -> list[tuple[ChangeKind, int]]:
    """The events without their sequence numbers; there is no gap among them."""
    assert all(isinstance(event, SaChange) for event in events)
    return [(event.kind, event.context_id) for event in events if isinstance(event, SaChange)]


def rest(subscription: Subscription) -> list[SaChange | Gap]:
    """Ends it, and what was still to be read."""
    subscription.close()
    return list(subscription)


# --- What is told ---------------------------------------------------------------------------------


def test_additions_and_deletions_are_told_in_order_and_numbered_from_1(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    with engine.subscribe() as changes:
        first, second = embedded.add(), engine.create(Traffic("10.0.0.1", "10.0.0.2"))
        engine.delete(first)
        engine.delete(second)
        assert take(changes, 4) == [
            SaChange(ADDED, first, 1),
            SaChange(ADDED, second, 2),
            SaChange(DELETED, first, 3),
            SaChange(DELETED, second, 4),
        ]
        assert rest(changes) == []


def test_an_event_is_a_named_tuple_with_a_kind_an_id_and_a_number(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    with engine.subscribe() as changes:
        number = embedded.add(context_id=2**64 - 1)
        (event,) = take(changes, 1)
        assert isinstance(event, SaChange)
        assert (event.kind, event.context_id, event.sequence) == (ADDED, number, 1)
        assert isinstance(event.kind, ChangeKind) and event == (ADDED, 2**64 - 1, 1)


def test_what_was_there_before_and_what_is_refused_is_not_told(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    there = embedded.add()
    with engine.subscribe() as changes:
        with pytest.raises(wfpsa.WfpError, match="FWP_E_ALREADY_EXISTS"):
            embedded.add(context_id=there)
        with pytest.raises(wfpsa.NotFound):
            engine.delete(there + 1)
        last = embedded.add()
        assert told(take(changes, 1)) == [(ADDED, last)]
        assert rest(changes) == []


def test_a_population_is_told_context_by_context(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    with engine.subscribe() as changes:
        embedded.seed(300)
        events = take(changes, 300)
        assert {kind for kind, _ in told(events)} == {ADDED}
        assert [number for _, number in told(events)] == sorted(engine.snapshot()["context_id"])
        assert [event.sequence for event in events if isinstance(event, SaChange)] == list(range(1, 301))


def test_changes_of_other_sessions_and_of_the_clock_are_told(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    brief = SaBundle(sas=(Sa(spi=300),), lifetime_seconds=30)
    with engine.subscribe() as changes, embedded.open() as other:
        ends, expires = embedded.add(inbound=brief, outbound=brief), embedded.add()
        assert other.expire([expires]).counts[wfpsa.Outcome.EXPIRED] == 1
        embedded.advance(60)
        assert told(take(changes, 4)) == [(ADDED, ends), (ADDED, expires), (DELETED, ends), (DELETED, expires)]
        assert rest(changes) == []


def test_what_ends_within_one_jump_of_the_clock_is_told_in_its_order(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    def lasting(seconds: int) -> SaBundle:
        return SaBundle(sas=(Sa(spi=300 + seconds),), lifetime_seconds=seconds)

    with engine.subscribe() as changes:
        long = embedded.add(inbound=lasting(10), outbound=lasting(20))
        short = embedded.add(inbound=lasting(15), outbound=lasting(15))
        embedded.advance(30)
        assert told(take(changes, 4))[2:] == [(DELETED, short), (DELETED, long)]


def test_an_older_duplicate_is_told_as_deleted(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    old, traffic = embedded.add("10.1.0.1", "10.1.0.2"), Traffic("10.1.0.1", "10.1.0.2")
    with engine.subscribe() as changes:
        new = engine.create(traffic)
        spi = engine.get_spi(new, traffic)
        engine.add_inbound(new, SaBundle(sas=(Sa(spi=spi),), qm_sa_id=9))
        engine.add_outbound(new, SaBundle(sas=(Sa(spi=9),), qm_sa_id=9))
        assert told(take(changes, 2)) == [(ADDED, new), (DELETED, old)]
        assert rest(changes) == []


def test_an_update_is_no_addition_and_no_deletion(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    with engine.subscribe() as changes:
        number = embedded.add()
        engine.update(number, "inbound", bundle_flags=4, key_module=UUID(int=3))
        assert told(take(changes, 1)) == [(ADDED, number)]
        assert rest(changes) == []


# --- Templates ------------------------------------------------------------------------------------

PAIRS = [
    ("10.0.0.1", "10.9.0.1"),
    ("10.0.1.1", "10.9.0.2"),
    ("192.168.0.1", "10.9.0.1"),
    ("fd00::1", "fd00:9::1"),
    ("fd01::1", "fd00:9::2"),
]


@pytest.mark.parametrize(
    ("local", "remote"),
    [
        (None, None),
        ("10.0.0.0/24", None),
        ("10.0.0.0/8", "10.9.0.1"),
        (None, "10.9.0.1/32"),
        ("0.0.0.0/0", None),
        ("fd00::/16", None),
        ("fd00::/8", "fd00:9::2"),
        (None, "fd00:9::/64"),
        ("::/0", "::/0"),
        ("172.16.0.0/12", None),
    ],
)
def test_only_changes_between_the_subnets_are_told(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, local: str | None, remote: str | None
) -> None:
    def inside(address: str, subnet: str | None) -> bool:
        return subnet is None or ip_address(address) in ip_network(subnet)

    with engine.subscribe(local=local, remote=remote) as changes, engine.subscribe() as everything:
        ids = {embedded.add(*pair): pair for pair in PAIRS}
        for number in ids:
            engine.delete(number)
        wanted = [number for number, ends in ids.items() if inside(ends[0], local) and inside(ends[1], remote)]
        assert told(take(everything, 2 * len(ids)))[: len(ids)] == [(ADDED, number) for number in ids]
        expected = [(ADDED, number) for number in wanted] + [(DELETED, number) for number in wanted]
        found = take(changes, len(expected))
        assert told(found) == expected
        assert [event.sequence for event in found if isinstance(event, SaChange)] == [*range(1, len(expected) + 1)]
        assert rest(changes) == []


def test_subnets_may_be_objects_and_a_context_without_an_sa_counts_by_its_traffic(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    with engine.subscribe(local=ip_network("10.0.0.0/24"), remote=ip_address("10.9.0.1")) as changes:
        engine.create(Traffic("10.0.1.1", "10.9.0.1"))
        number = engine.create(Traffic("10.0.0.1", "10.9.0.1"))
        assert told(take(changes, 1)) == [(ADDED, number)]
        assert rest(changes) == []


def test_subnets_of_two_families_or_a_capacity_out_of_range_are_refused(engine: wfpsa.Engine) -> None:
    for arguments, error in (
        (dict(local="10.0.0.0/8", remote="fd00::/8"), ValueError),
        (dict(local="10.0.0.1/8"), ValueError),
        (dict(local=7), TypeError),
        (dict(capacity=0), ValueError),
        (dict(capacity=-1), ValueError),
        (dict(capacity=2**28 + 1), ValueError),
        (dict(capacity=1.5), TypeError),
        (dict(capacity="1"), TypeError),
    ):
        with pytest.raises(error):
            engine.subscribe(**arguments)  # type: ignore[arg-type]
    assert testing.live_counters()["subscriptions"] == 0


def test_an_engine_that_refuses_the_template_refuses_the_subscription(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.switch(templates="v6_mask")
    with pytest.raises(wfpsa.WfpError, match="FWP_E_TYPE_MISMATCH"):
        engine.subscribe(local="10.0.0.0/8")
    with engine.subscribe(local="fd00::/8") as changes:
        embedded.add("10.0.0.1", "10.0.0.2")
        number = embedded.add("fd00::1", "fd00::2")
        assert told(take(changes, 1)) == [(ADDED, number)]


# --- Gaps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_what_the_ring_cannot_hold_is_a_gap_at_its_place(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, capacity: int
) -> None:
    embedded.notifications(held=True)
    with engine.subscribe() as other, engine.subscribe(capacity=capacity) as changes:  # which is served first
        ids = [embedded.add() for _ in range(capacity + 2)]
        embedded.notifications()
        assert told(take(other, len(ids))) == [(ADDED, number) for number in ids]
        number = embedded.add()
        assert told(take(other, 1)) == [(ADDED, number)]
        expected = [SaChange(ADDED, each, at) for at, each in enumerate(ids[:capacity], 1)]
        assert take(changes, capacity) == expected
        (gap,) = take(changes, 1)
        assert gap == Gap(3)
        last = embedded.add()
        assert take(changes, 1) == [SaChange(ADDED, last, capacity + 4)]


def test_a_gap_at_the_end_is_read_before_the_end(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    with engine.subscribe(capacity=1) as changes, engine.subscribe() as other:
        ids = [embedded.add() for _ in range(4)]
        take(other, 4)
        event, gap = rest(changes)
        assert event == SaChange(ADDED, ids[0], 1)
        assert isinstance(gap, Gap) and gap.lost in (2, 3)  # served in turn: the last may have been on its way


@pytest.mark.parametrize("overflow", ["reported", "silent"])
def test_events_that_the_engine_lost_are_a_gap_at_the_end_where_it_says_so(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, overflow: str
) -> None:
    embedded.switch(overflow=overflow)
    embedded.notifications(capacity=2, held=True)
    with engine.subscribe() as changes:
        ids = [embedded.add() for _ in range(5)]
        embedded.notifications(capacity=2)
        assert told(take(changes, 2)) == [(ADDED, number) for number in ids[:2]]
        last = embedded.add()
        assert take(changes, 1) == [SaChange(ADDED, last, 3)]  # how many were lost before it, nobody knows yet
        assert rest(changes) == ([Gap(1)] if overflow == "reported" else [])


def test_what_the_engine_holds_back_comes_once_it_lets_go(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.notifications(held=True)
    with engine.subscribe() as changes:
        number = embedded.add()
        assert changes.get(0) is None and changes.get(0.01) is None
        embedded.notifications()
        assert told(take(changes, 1)) == [(ADDED, number)]


def test_what_the_engine_had_not_told_yet_is_not_told_after_the_end(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.notifications(held=True)
    with engine.subscribe() as changes:
        embedded.add()
        assert rest(changes) == []
    embedded.notifications()


# --- Waiting --------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, 0.0, 1e-300, 0.0001, 0.03, 0.11])
def test_without_an_event_get_returns_none_after_its_timeout(engine: wfpsa.Engine, timeout: float) -> None:
    with engine.subscribe() as changes:
        assert changes.get(timeout) is None


@pytest.mark.parametrize("timeout", [None, 3600, 1e9, 1e300, math.inf])
def test_an_event_that_is_there_is_returned_whatever_the_timeout(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, timeout: float | None
) -> None:
    with engine.subscribe() as changes:
        number = embedded.add()
        assert changes.get(timeout) == SaChange(ADDED, number, 1)


def test_a_timeout_of_0_returns_events_that_were_read_with_others(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    with engine.subscribe() as changes, engine.subscribe() as other:
        ids = [embedded.add() for _ in range(20)]
        take(changes, 1)
        take(other, 20)  # the two are served in turn
        assert told([event for _ in range(18) if (event := changes.get(0))]) == [(ADDED, each) for each in ids[1:19]]


def test_a_timeout_that_is_no_number_of_seconds_is_refused(engine: wfpsa.Engine) -> None:
    with engine.subscribe() as changes:
        for wrong in (-1, -0.001, -math.inf, math.nan):
            with pytest.raises(ValueError, match="timeout must be 0 seconds or more"):
                changes.get(wrong)
        for strange in ("1", True, b"", object(), 1j):
            with pytest.raises(TypeError, match="timeout must be a number of seconds or None"):
                changes.get(strange)  # type: ignore[arg-type]


# --- The end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["close", "engine", "with", "reopen"])
def test_after_the_end_what_is_there_can_be_read_and_then_iterating_ends(
    embedded: testing.EmbeddedEngine, end: str
) -> None:
    with embedded.open() as engine, embedded.open() as witness, witness.subscribe() as seen:
        with engine.subscribe() as changes:
            ids = [embedded.add() for _ in range(3)]
            take(seen, 3)
            assert told(take(changes, 1)) == [(ADDED, ids[0])]
            if end == "close":
                changes.close()
            elif end == "engine":
                engine.close()
            elif end == "reopen":
                engine.reopen()
        embedded.add()
        found = told(list(changes))
        assert found in ([(ADDED, each) for each in ids[1:]], [(ADDED, ids[1])])  # the last may have been on its way
        for _ in range(2):
            assert changes.get() is None and changes.get(0) is None and changes.get(5) is None
            assert list(changes) == []
            changes.close()
        assert testing.live_counters()["subscriptions"] == 1


def test_a_subscription_is_its_own_iterator_and_context_manager(engine: wfpsa.Engine) -> None:
    changes = engine.subscribe()
    with changes as entered:
        assert entered is changes and iter(changes) is changes
    with pytest.raises(StopIteration):
        next(changes)
    with pytest.raises(ZeroDivisionError), engine.subscribe() as changes:
        raise ZeroDivisionError
    assert testing.live_counters()["subscriptions"] == 0


def test_iterating_waits_for_events_and_gives_each_once(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(5)
    with engine.subscribe() as changes:
        engine.expire(engine.snapshot())
        embedded.advance(60)
        found = []
        for event in changes:
            found.append(event)
            if len(found) == 5:
                changes.close()
        assert [event.sequence for event in found if isinstance(event, SaChange)] == [1, 2, 3, 4, 5]
        assert {kind for kind, _ in told(found)} == {DELETED}


def test_a_dropped_subscription_ends_and_its_engine_goes_on(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    changes = engine.subscribe()
    embedded.add()
    assert testing.live_counters()["subscriptions"] == 1
    del changes
    assert testing.live_counters()["subscriptions"] == 0
    embedded.add()
    assert len(engine.snapshot()) == 2


def test_a_subscription_outlives_the_name_of_its_engine(embedded: testing.EmbeddedEngine) -> None:
    changes = embedded.open().subscribe()
    number = embedded.add()
    assert told(take(changes, 1)) == [(ADDED, number)]
    assert testing.live_counters()["engines"] == 1
    del changes
    assert testing.live_counters()["engines"] == 0


def test_several_subscriptions_of_one_engine_are_told_the_same_and_end_one_by_one(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    several = [engine.subscribe() for _ in range(5)]
    assert testing.live_counters()["subscriptions"] == 5
    for left in range(5, 0, -1):
        number = embedded.add()
        for changes in several:
            assert take(changes, 1) == [SaChange(ADDED, number, 6 - left)]
        assert rest(several.pop(0)) == []
        assert testing.live_counters()["subscriptions"] == left - 1


def test_nothing_is_left_where_memory_is_short(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    engine.subscribe().close()  # the engine's thread is there from now on
    changes, failures = walk_allocations(engine.subscribe)
    assert failures >= 2
    number = embedded.add()
    assert told(take(changes, 1)) == [(ADDED, number)]


# --- Switches of the engine -----------------------------------------------------------------------


@pytest.mark.parametrize("add_event", ["create", "outbound"])
def test_an_addition_is_told_at_creation_or_with_the_outbound_sa(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, add_event: str
) -> None:
    embedded.switch(add_event=add_event)
    traffic = Traffic("10.0.0.1", "10.0.0.2")
    with engine.subscribe() as changes:
        number = engine.create(traffic)
        half = embedded.add("10.0.1.1", "10.0.1.2", outbound=None)
        bundle = SaBundle(sas=(Sa(spi=engine.get_spi(number, traffic)),))
        engine.add_inbound(number, bundle)
        whole = embedded.add("10.0.2.1", "10.0.2.2")
        engine.add_outbound(number, bundle)
        expected = [number, half, whole] if add_event == "create" else [whole, number]
        assert told(take(changes, len(expected))) == [(ADDED, each) for each in expected]
        assert rest(changes) == []


@pytest.mark.parametrize("delete_event", ["removal", "expiry"])
def test_a_deletion_is_told_once_at_expiry_or_when_the_context_goes(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, delete_event: str
) -> None:
    embedded.switch(delete_event=delete_event)
    lingers, removed, deleted = (embedded.add() for _ in range(3))
    outbound = embedded.add(inbound=None)
    with engine.subscribe() as changes:
        engine.expire([lingers, removed, outbound])
        engine.expire([lingers])
        engine.delete(removed)
        engine.delete(deleted)
        embedded.advance(60)
        expected = [outbound, removed, deleted, lingers]
        if delete_event == "expiry":
            expected = [lingers, removed, outbound, deleted]
        assert told(take(changes, 4)) == [(DELETED, each) for each in expected]
        assert rest(changes) == []


# --- Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["administrator", "network_operator", "read_only", "everyone"])
def test_subscribing_needs_the_right_to(embedded: testing.EmbeddedEngine, profile: str) -> None:
    embedded.rights(profile)
    with embedded.open() as engine:
        if profile == "everyone":
            with pytest.raises(wfpsa.AccessDenied, match="IPsecSaContextSubscribe0"):
                engine.subscribe()
        else:
            with engine.subscribe() as changes:
                number = embedded.add()
                assert told(take(changes, 1)) == [(ADDED, number)]


@pytest.mark.parametrize("read_only", [False, True])
def test_in_a_transaction_a_subscription_can_neither_begin_nor_end(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, read_only: bool
) -> None:
    changes = engine.subscribe()
    with engine.transaction(read_only=read_only):
        with pytest.raises(wfpsa.WfpError) as caught:
            engine.subscribe()
        assert (caught.value.code, caught.value.function) == (TXN_IN_PROGRESS, "IPsecSaContextSubscribe0")
        for _ in range(2):
            with pytest.raises(wfpsa.WfpError) as caught:
                changes.close()
            assert (caught.value.code, caught.value.function) == (TXN_IN_PROGRESS, "IPsecSaContextUnsubscribe0")
        number = embedded.add()
        assert told(take(changes, 1)) == [(ADDED, number)]  # it goes on
    number = embedded.add()
    assert told(take(changes, 1)) == [(ADDED, number)]
    assert rest(changes) == [] and testing.live_counters()["subscriptions"] == 0


def test_a_subscription_dropped_in_a_transaction_is_silent_until_its_engine_ends_it(
    embedded: testing.EmbeddedEngine,
) -> None:
    with embedded.open() as engine, embedded.open() as other, other.subscribe() as seen:
        changes = engine.subscribe()
        with engine.transaction():
            del changes
        for _ in range(100):
            embedded.add()
        take(seen, 100)
        assert testing.live_counters()["subscriptions"] == 2
        engine.close()
        assert testing.live_counters()["subscriptions"] == 1


def test_an_engine_closed_in_a_transaction_ends_its_subscriptions(embedded: testing.EmbeddedEngine) -> None:
    engine = embedded.open()
    changes = engine.subscribe()
    transaction = engine.transaction()
    transaction.__enter__()
    engine.close()
    assert list(changes) == [] and testing.live_counters()["subscriptions"] == 0
    changes.close()


@pytest.mark.parametrize("code", [0x8032000F, 0x80320012, 8])
def test_an_end_that_fails_can_be_tried_again(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, code: int
) -> None:
    changes = engine.subscribe()
    embedded.fail("IPsecSaContextUnsubscribe0", 1, code)
    with pytest.raises(wfpsa.WfpError) as caught:
        changes.close()
    assert caught.value.code == code
    number = embedded.add()
    assert told(take(changes, 1)) == [(ADDED, number)]
    assert rest(changes) == []


def test_a_closed_engine_cannot_be_subscribed_to(embedded: testing.EmbeddedEngine) -> None:
    engine = embedded.open()
    engine.close()
    with pytest.raises(wfpsa.EngineClosed):
        engine.subscribe()
    assert testing.live_counters()["subscriptions"] == 0


# --- A restart of the service ---------------------------------------------------------------------


def test_after_a_restart_of_the_service_a_subscription_is_silent_and_its_end_says_why(
    embedded: testing.EmbeddedEngine,
) -> None:
    engine = embedded.open()
    changes = engine.subscribe()
    number = embedded.add()
    assert told(take(changes, 1)) == [(ADDED, number)]
    embedded.restart_service()
    embedded.add()
    assert changes.get(0.05) is None
    with pytest.raises(wfpsa.SessionAborted):
        engine.subscribe()
    with pytest.raises(wfpsa.SessionAborted):
        changes.close()
    assert list(changes) == []  # ended all the same
    changes.close()
    engine.reopen()
    with engine.subscribe() as anew:
        number = embedded.add()
        assert told(take(anew, 1)) == [(ADDED, number)]
    engine.close()


def test_while_the_service_is_stopped_a_subscription_ends_with_the_code_of_every_call(
    embedded: testing.EmbeddedEngine,
) -> None:
    engine = embedded.open()
    first, second = engine.subscribe(), engine.subscribe()
    embedded.stop_service(1726)
    with pytest.raises(wfpsa.SessionAborted) as caught:
        first.close()
    assert caught.value.code == 1726
    assert list(first) == []
    with pytest.raises(wfpsa.SessionAborted), engine.subscribe():
        pass
    engine.close()
    assert list(second) == [] and testing.live_counters()["subscriptions"] == 0


def test_a_reconnecting_engine_ends_the_subscriptions_of_the_dead_session(embedded: testing.EmbeddedEngine) -> None:
    with embedded.open(reconnect=True) as engine:
        changes = engine.subscribe()
        embedded.restart_service()
        with pytest.raises(wfpsa.SessionAborted):
            engine.subscribe()  # subscribing is no reading: what was told until then would be missed in silence
        assert len(engine.snapshot()) == 0 and engine.reconnects == 1
        assert list(changes) == []
        changes.close()
        with engine.subscribe() as anew:
            number = embedded.add()
            assert told(take(anew, 1)) == [(ADDED, number)]
