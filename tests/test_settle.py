"""Settling of a mass expiry: how long it looks, what remains, who came back, and what it does not take for either."""

import math
import pickle
import threading
import time
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address
from types import SimpleNamespace

import pytest
from support import Worker

import wfpsa
from wfpsa import EngineClosed, ExpiryReport, Outcome, SessionAborted, _native, testing
from wfpsa import settle as settling
from wfpsa.settle import SETTLE_FIELDS, Settlement

LOCAL = "10.0.0.1"


def added(embedded: testing.EmbeddedEngine, count: int) -> list[int]:
    """Contexts of so many peers: 10.1.0.1, 10.1.0.2, ..."""
    return [embedded.add(LOCAL, f"10.1.0.{at + 1}") for at in range(count)]


def ids(batch: wfpsa.SaBatch) -> list[int]:
    return batch["context_id"].tolist()


class Watched:
    """An engine that does something before each look, and counts them."""

    def __init__(self, engine: wfpsa.Engine, before: Callable[[int], object] = lambda look: None) -> None:
        self.engine = engine
        self.before = before
        self.looks = 0

    def snapshot(self, *, fields: Iterable[str] | None = None) -> wfpsa.SaBatch:
        self.looks += 1
        self.before(self.looks)
        return self.engine.snapshot(fields=fields)

    def _clock(self) -> float:
        return self.engine._clock()


@pytest.fixture
def moving(embedded: testing.EmbeddedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits moves the engine's clock by as much, and real time stands still."""

    def sleep(seconds: float) -> None:
        embedded.advance(math.ceil(seconds * 1000) / 1000)

    monkeypatch.setattr(settling, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: 0.0))


# --- How long -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("moving")
def test_it_is_settled_with_the_first_look_after_the_tails_are_gone(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    added(embedded, 5)
    report = engine.expire(engine.snapshot())
    watched = Watched(engine)
    settlement = report.settle(watched)
    assert settlement.settled and len(embedded) == 0
    assert settlement.looks == watched.looks == 13 and 60 <= settlement.waited < 60.5
    for batch in (settlement.remaining, settlement.renegotiated, settlement.others):
        assert len(batch) == 0 and batch.columns == SETTLE_FIELDS
    assert settlement.unseen == 0 and settlement.pairs == []
    assert str(settlement) == "settled after 60 s and 13 looks"
    assert repr(settlement) == "<Settlement: settled, 0 renegotiated, 60 s>"


@pytest.mark.usefixtures("moving")
@pytest.mark.parametrize(("timeout", "poll", "looks"), [(0, 5, 1), (12, 5, 4), (10, 5.0, 3), (7.5, 60, 2)])
def test_it_looks_at_once_after_each_poll_and_at_the_timeout(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, timeout: float, poll: float, looks: int
) -> None:
    number = embedded.add()
    times: list[float] = []
    watched = Watched(engine, lambda look: times.append(engine._clock()))
    settlement = engine.expire([number]).settle(watched, timeout, poll)
    assert not settlement.settled and ids(settlement.remaining) == [number]
    assert settlement.looks == len(times) == looks and settlement.waited == pytest.approx(timeout, abs=0.1)
    assert [at - times[0] for at in times] == pytest.approx(
        [min(poll * look, timeout) for look in range(looks)], abs=0.1
    )


def test_a_clock_that_somebody_else_moves_ends_it_long_before_the_real_one_would(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    added(embedded, 5)
    report = engine.expire(engine.snapshot())
    over = threading.Event()

    def move() -> None:
        while not over.wait(0.001):
            embedded.advance(0.5)

    mover = Worker(move)
    began = time.monotonic()
    try:
        settlement = report.settle(engine, 100_000)
    finally:
        over.set()
        mover.finish()
    assert settlement.settled and settlement.waited >= 60 and settlement.looks > 1
    assert time.monotonic() - began < 30


def test_a_clock_that_nobody_moves_leaves_it_unsettled_at_the_timeout_in_real_time(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    numbers = added(embedded, 7)
    settlement = engine.expire(numbers).settle(engine, 0.6, 0.2)
    assert not settlement.settled and ids(settlement.remaining) == numbers
    assert settlement.waited >= 0.6 and 2 <= settlement.looks <= 4
    first, *lines = str(settlement).splitlines()
    assert first.startswith("not settled after ") and first.endswith(f" s and {settlement.looks} looks: 7 remain")
    assert lines == [f"  {numbers[at]} to 10.1.0.{at + 1} has its inbound SA" for at in range(5)]
    assert repr(settlement).startswith("<Settlement: 7 remain, 0 renegotiated, ")


def test_where_nothing_was_expired_it_is_settled_after_one_look(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    added(embedded, 3)
    batch = engine.snapshot()
    embedded.rights("read_only")
    with embedded.open() as reader:
        for report in (engine.expire([]), engine.expire([12345]), engine.expire(batch[:0]), reader.expire(batch)):
            watched = Watched(engine)
            settlement = report.settle(watched)
            assert settlement.settled and settlement.looks == watched.looks == 1 and settlement.waited < 5
            assert (len(settlement.renegotiated), len(settlement.others), settlement.unseen) == (0, 0, 0)
            assert str(settlement) == "settled after 0 s and 1 look"


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"timeout": -0.1}, ValueError, "timeout must be 0 or more seconds, not -0.1"),
        ({"timeout": math.nan}, ValueError, "timeout must be 0 or more seconds, not nan"),
        ({"timeout": True}, TypeError, "timeout must be a number of seconds, not bool"),
        ({"timeout": "90"}, TypeError, "timeout must be a number of seconds, not str"),
        ({"timeout": None}, TypeError, "timeout must be a number of seconds, not NoneType"),
        ({"poll": 0}, ValueError, "poll must be above 0 seconds, not 0"),
        ({"poll": -5}, ValueError, "poll must be above 0 seconds, not -5"),
        ({"poll": math.nan}, ValueError, "poll must be above 0 seconds, not nan"),
        ({"poll": False}, TypeError, "poll must be a number of seconds, not bool"),
        ({"poll": "5"}, TypeError, "poll must be a number of seconds, not str"),
    ],
)
def test_bad_times_are_named_before_the_first_look(
    embedded: testing.EmbeddedEngine,
    engine: wfpsa.Engine,
    arguments: dict[str, object],
    error: type[Exception],
    said: str,
) -> None:
    report = engine.expire([embedded.add()])
    watched = Watched(engine)
    with pytest.raises(error, match=f"^{said}$"):
        report.settle(watched, **arguments)  # type: ignore[arg-type]
    assert watched.looks == 0


@pytest.mark.usefixtures("moving")
def test_a_service_that_stops_and_an_engine_that_is_closed_are_errors(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    report = engine.expire([embedded.add()])
    with embedded.open() as other:
        watched = Watched(other, lambda look: embedded.stop_service() if look == 3 else None)
        with pytest.raises(SessionAborted):
            report.settle(watched)
        assert watched.looks == 3
    with pytest.raises(SessionAborted):
        report.settle(engine)
    with pytest.raises(EngineClosed):
        report.settle(other)
    embedded.start_service()


# --- What remains ---------------------------------------------------------------------------------


def lingering(engine: wfpsa.Engine, chosen: wfpsa.SaBatch) -> list[int]:
    """The ids of these contexts that are listed."""
    wanted = set(ids(chosen))
    return [number for number in ids(engine.snapshot()) if number in wanted]


def test_every_expired_context_that_lingers_remains_and_no_other(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    embedded.seed(400, 2)
    batch = engine.snapshot()
    batch = batch.take([row for row, differs in enumerate(batch["traffic_differs"]) if not differs])
    for chosen in (batch[::-3], batch.where(has_inbound=False), batch.take([7, 7, 11, 7])):
        settlement = engine.expire(chosen).settle(engine, 0)
        assert ids(settlement.remaining) == lingering(engine, chosen) and settlement.unseen == 0


def test_a_tail_whose_addresses_are_not_those_of_the_outbound_sa_remains_too(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    embedded.seed(400, 2)
    chosen = engine.snapshot().where(traffic_differs=True)
    assert len(chosen) > 1
    settlement = engine.expire(chosen).settle(engine, 0)
    assert ids(settlement.remaining) == lingering(engine, chosen) == ids(chosen)


def test_an_expired_context_whose_outbound_sa_is_there_remains_and_that_is_said(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    number, other = added(embedded, 2)
    report = engine.expire(engine.snapshot())
    engine.delete(number)
    embedded.add(LOCAL, "10.1.0.1", context_id=number)
    settlement = report.settle(engine, 0)
    assert settlement.remaining["has_outbound"].tolist() == [True, False]
    assert str(settlement).splitlines()[1:] == [
        f"  {number} to 10.1.0.1 has both SAs",
        f"  {other} to 10.1.0.2 has its inbound SA",
    ]


def after_a_restart(embedded: testing.EmbeddedEngine, remotes: list[str]) -> tuple[Settlement, list[int]]:
    """10.1.0.1, 10.1.0.2, 10.1.0.3 expired, and a look after the service gave the same ids to these peers; the ids."""
    embedded.switch(ids_after_restart="reused")
    with embedded.open() as engine:
        numbers = added(embedded, 3)
        report = engine.expire(engine.snapshot())
        assert report.counts[Outcome.EXPIRED] == 3
    embedded.restart_service()
    assert [embedded.add(LOCAL, remote) for remote in remotes] == numbers
    with embedded.open() as engine:
        return report.settle(engine, 0), numbers


def test_ids_that_were_given_again_between_other_addresses_do_not_remain(embedded: testing.EmbeddedEngine) -> None:
    settlement, _ = after_a_restart(embedded, ["10.2.0.1", "10.2.0.2", "10.2.0.3"])
    assert settlement.settled and settlement.looks == 1
    assert (len(settlement.renegotiated), len(settlement.others), settlement.unseen) == (0, 0, 0)


def test_ids_that_were_given_again_between_the_same_addresses_cannot_be_told_apart(
    embedded: testing.EmbeddedEngine,
) -> None:
    settlement, numbers = after_a_restart(embedded, ["10.1.0.1", "10.2.0.2", "10.1.0.3"])
    assert ids(settlement.remaining) == [numbers[0], numbers[2]]
    assert (len(settlement.renegotiated), len(settlement.others)) == (0, 0)


def test_ids_that_were_given_again_to_other_peers_of_the_report_are_contexts_of_these(
    embedded: testing.EmbeddedEngine,
) -> None:
    settlement, numbers = after_a_restart(embedded, ["10.1.0.2", "10.1.0.3", "10.1.0.1"])
    assert settlement.settled
    assert sorted(ids(settlement.renegotiated) + ids(settlement.others)) == numbers


# --- Who came back --------------------------------------------------------------------------------


@pytest.mark.usefixtures("moving")
def test_contexts_between_the_same_addresses_are_new_where_they_came_meanwhile_or_have_a_higher_id(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    older = embedded.add(LOCAL, "10.1.0.1", context_id=5)
    chosen = added(embedded, 2)
    between = embedded.add(LOCAL, "10.1.0.1")  # lower than one of the expired, of the other's pair
    chosen.append(embedded.add(LOCAL, "10.1.0.3"))
    report = engine.expire(engine.snapshot().where(context_id=set(chosen)))
    higher = embedded.add(LOCAL, "10.1.0.1")
    strangers = [embedded.add(LOCAL, "10.2.0.1"), embedded.add("10.0.0.2", "10.1.0.1"), embedded.add("10.1.0.1", LOCAL)]
    came: list[int] = []

    def come(look: int) -> None:
        if look == 2:
            came.append(embedded.add(LOCAL, "10.1.0.1", context_id=7))
            came.append(embedded.add(LOCAL, "10.1.0.2"))
            strangers.append(embedded.add(LOCAL, "10.2.0.2"))
        elif look in (3, 4):
            (embedded.add(LOCAL, "10.1.0.3", context_id=9) if look == 3 else engine.delete(9))

    settlement = report.settle(Watched(engine, come))
    assert settlement.settled and settlement.looks == 13
    assert set(ids(settlement.renegotiated)) == {higher, *came}
    assert set(ids(settlement.others)) == {older, between}
    assert set(ids(engine.snapshot())) == {older, between, higher, *came, *strangers}
    assert settlement.renegotiated.columns == settlement.others.columns == SETTLE_FIELDS


@pytest.mark.usefixtures("moving")
def test_the_pairs_that_renegotiated_are_addresses_the_most_contexts_first(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    embedded.add(LOCAL, "10.1.0.2", context_id=5)
    report = engine.expire(added(embedded, 2))
    for last in (1, 2, 2):
        embedded.add(LOCAL, f"10.1.0.{last}")
    settlement = report.settle(engine)
    local = IPv4Address(LOCAL)
    assert settlement.pairs == [((local, IPv4Address("10.1.0.2")), 2), ((local, IPv4Address("10.1.0.1")), 1)]
    assert str(settlement).splitlines() == [
        "settled after 60 s and 13 looks",
        "renegotiated: 2 pairs",
        "  10.0.0.1 and 10.1.0.2: 2",
        "  10.0.0.1 and 10.1.0.1: 1",
        "other contexts of these pairs, which may be older: 1",
    ]
    assert repr(settlement) == "<Settlement: settled, 3 renegotiated, 60 s>"


def test_five_of_many_pairs_are_shown_and_the_rest_is_counted(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    report = engine.expire(added(embedded, 8))
    added(embedded, 8)
    settlement = report.settle(engine, 0)
    assert len(settlement.pairs) == len(settlement.renegotiated) == 8
    lines = str(settlement).splitlines()
    assert "renegotiated: 8 pairs" in lines and lines[-1] == "  3 other pairs"
    assert sum(line.startswith("  10.0.0.1 and 10.1.0.") for line in lines) == 5


def test_what_the_guards_of_a_plan_spared_neither_remains_nor_came_back(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    numbers = [embedded.add(LOCAL, "10.1.0.1") for _ in range(4)]
    plan = engine.plan_expiry(engine.snapshot(), keep_per_peer=1, exclude=[numbers[0]])
    report = plan.apply(engine)
    assert report.outcome.tolist() == [Outcome.SKIPPED, Outcome.EXPIRED, Outcome.EXPIRED, Outcome.SKIPPED]
    came = embedded.add(LOCAL, "10.1.0.1")
    settlement = report.settle(engine, 0)
    assert ids(settlement.remaining) == numbers[1:3]
    assert ids(settlement.renegotiated) == [came] and len(settlement.others) == 0


def test_peers_of_contexts_that_were_left_alone_do_not_come_back(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    numbers = added(embedded, 3)
    plan = engine.plan_expiry(engine.snapshot())
    engine.update(numbers[0], "outbound", mm_sa_id=77)
    engine.delete(numbers[1])
    report = plan.apply(engine)
    assert report.outcome.tolist() == [Outcome.CHANGED, Outcome.ALREADY_GONE, Outcome.EXPIRED]
    came = [embedded.add(LOCAL, f"10.1.0.{last}") for last in (1, 2, 3)]
    settlement = report.settle(engine, 0)
    assert ids(settlement.remaining) == numbers[2:] and ids(settlement.renegotiated) == came[2:]
    assert len(settlement.others) == 0


def test_contexts_without_addresses_are_no_pair(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.seed(400, 3, odd=True)
    batch = engine.snapshot()
    nowhere = [context.context_id for context in batch if context.local_address is None and context.has_inbound]
    assert len(nowhere) > 2
    report = engine.expire(batch.where(context_id=nowhere[0]))
    settlement = report.settle(engine, 0)
    assert ids(settlement.remaining) == nowhere[:1]
    assert (len(settlement.renegotiated), len(settlement.others), settlement.unseen) == (0, 0, 1)


# --- Of which report ------------------------------------------------------------------------------


@pytest.mark.usefixtures("moving")
def test_of_ids_alone_the_addresses_are_those_of_the_first_look_and_those_gone_by_then_are_unseen(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    numbers = added(embedded, 2)
    gone = embedded.add(LOCAL, "10.1.0.9", inbound=None)
    report = engine.expire([*numbers, gone])
    assert report.counts[Outcome.EXPIRED] == 3
    came = [embedded.add(LOCAL, remote) for remote in ("10.1.0.1", "10.1.0.9")]

    def give_again(look: int) -> None:
        if look == 2:
            engine.delete(numbers[1])
            embedded.add(LOCAL, "10.7.0.1", context_id=numbers[1])

    settlement = report.settle(Watched(engine, give_again), 20)
    assert ids(settlement.remaining) == numbers[:1]
    assert ids(settlement.renegotiated) == came[:1] and len(settlement.others) == 0
    assert settlement.unseen == 1
    assert str(settlement).splitlines()[-1] == "contexts whose addresses are not known: 1"


def test_of_a_batch_without_addresses_they_are_those_of_the_first_look_too(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    numbers = added(embedded, 2)
    gone = embedded.add(LOCAL, "10.1.0.9", inbound=None)
    for fields in (["context_id"], ["context_id", "remote_address"]):
        report = engine.expire(engine.snapshot(fields=fields))
        settlement = report.settle(engine, 0)
        assert ids(settlement.remaining) == numbers
        assert settlement.unseen == (1 if gone in report.context_id else 0)


def test_a_pickled_report_settles_as_the_report_does(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    numbers = added(embedded, 3)
    embedded.add(LOCAL, "10.1.0.1")
    plan = engine.plan_expiry(engine.snapshot(), exclude=[numbers[2]], keep_per_peer=0)
    for report in (plan.apply(engine), engine.expire(engine.snapshot()[::-1]), engine.expire(numbers[:1])):
        came = embedded.add(LOCAL, "10.1.0.1")
        copy = pickle.loads(pickle.dumps(report))
        found = [
            (ids(settled.remaining), ids(settled.renegotiated), ids(settled.others), settled.unseen)
            for settled in (report.settle(engine, 0), copy.settle(engine, 0))
        ]
        assert found[0] == found[1] and found[0][0] and came in found[0][1]


@pytest.mark.usefixtures("moving")
def test_what_an_earlier_run_was_cut_off_at_is_watched_too(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    numbers = added(embedded, 4)
    batch = engine.snapshot()
    engine.expire(numbers[1:])
    engine.delete(numbers[2])
    embedded.add(LOCAL, "10.7.0.1", context_id=numbers[2])
    report = ExpiryReport(_native.ExpiryItems(batch), batch, frozenset(numbers[1:3]))
    assert report.counts[Outcome.EXPIRED] == 0
    came = embedded.add(LOCAL, "10.1.0.2")
    embedded.add(LOCAL, "10.1.0.4")  # of a pair of which nothing was expired in this report
    settlement = report.settle(engine, 0)
    assert ids(settlement.remaining) == [numbers[1]]  # the other id is another's by now
    assert ids(settlement.renegotiated) == [came] and settlement.unseen == 0
    settlement = report.settle(engine)
    assert settlement.settled and settlement.looks == 13
