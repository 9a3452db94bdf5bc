"""Tests of the figures of `wfpsa top`: what is counted, at which rates it came and went, and which are the oldest."""

import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest

import wfpsa
from wfpsa import testing
from wfpsa.cli.top_figures import FIELDS, Figures, Observer, Rates, Sort

WAIT = 60.0
"""Seconds for what must happen."""
EVERYTHING = 1000


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mirror(engine: wfpsa.Engine) -> Iterator[wfpsa.Mirror]:
    with engine.mirror(fields=FIELDS) as made:
        yield made


def read(observer: Observer, mirror: wfpsa.Mirror, clock: Clock, seconds: float = 2.0) -> None:
    """Lets the mirror see all there is and the observer read it, so many seconds after the last time."""
    mirror.reconcile(WAIT)
    clock.now += seconds
    observer.read()


def counts(figures: Figures) -> dict[object, int]:
    return {peer.address: peer.contexts for peer in figures.peers}


@pytest.mark.parametrize("count", [0, 1, 500])
def test_what_is_counted_is_what_a_snapshot_has(embedded: testing.EmbeddedEngine, backend: str, count: int) -> None:
    embedded.seed(count, 7, odd=True)
    with embedded.open() as engine, engine.mirror(fields=FIELDS) as mirror:
        figures = Observer(mirror).figures(EVERYTHING)
        contexts = list(engine.snapshot())
    assert figures.backend == backend and figures.contexts == count
    pairs = [(context.inbound is not None, context.outbound is not None) for context in contexts]
    assert figures.sides == {
        "both": pairs.count((True, True)),
        "inbound": pairs.count((True, False)),
        "outbound": pairs.count((False, True)),
        "none": pairs.count((False, False)),
    }
    assert sum(figures.families.values()) == count
    assert figures.families["IPv4"] == sum(isinstance(each.remote_address, IPv4Address) for each in contexts)
    assert figures.families["IPv6"] == sum(isinstance(each.remote_address, IPv6Address) for each in contexts)
    peers = [context.remote_address for context in contexts]
    assert counts(figures) == {peer: peers.count(peer) for peer in peers}
    assert [peer.contexts for peer in figures.peers] == sorted(counts(figures).values(), reverse=True)
    assert sum(peer.share for peer in figures.peers) == pytest.approx(1.0 if count else 0.0)
    assert figures.rates is None and all(peer.added is None for peer in figures.peers)
    assert sorted(old.context_id for old in figures.oldest) == sorted(each.context_id for each in contexts)


def test_rates_are_what_came_and_went_over_the_time_that_passed(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, clock: Clock
) -> None:
    first = [embedded.add(remote="10.1.0.1") for _ in range(6)]
    with engine.mirror(fields=FIELDS) as mirror:
        observer = Observer(mirror, clock=clock)
        for _ in range(4):
            embedded.add(remote="10.2.0.1")
        for context_id in first[:3]:
            engine.delete(context_id)
        read(observer, mirror, clock, 2.0)
        figures = observer.figures(EVERYTHING)
        assert figures.rates == Rates(2.0, 1.5, 0.0)
        assert [(str(each.address), *each[1:]) for each in figures.peers] == [
            ("10.2.0.1", 4, 4 / 7, 2.0, 0.0),
            ("10.1.0.1", 3, 3 / 7, 0.0, 1.5),
        ]
        read(observer, mirror, clock)
        figures = observer.figures(EVERYTHING)
        assert figures.rates == Rates(0.0, 0.0, 0.0)
        assert {each.added for each in figures.peers} == {0.0}


def test_the_rates_of_some_are_theirs(embedded: testing.EmbeddedEngine, mirror: wfpsa.Mirror, clock: Clock) -> None:
    chosen = Observer(mirror, lambda batch: batch.where(remote="10.0.0.0/8"), clock)
    everything = Observer(mirror, clock=clock)
    for remote in ("10.1.0.1", "10.1.0.2", "192.0.2.1"):
        embedded.add(remote=remote)
    mirror.reconcile(WAIT)
    clock.now += 1
    for observer in (chosen, everything):
        observer.read()
    assert everything.figures(9).rates == Rates(3.0, 0.0, 0.0)
    assert everything.figures(9, within=ip_network("10.1.0.2/32")).rates == Rates(1.0, 0.0, 0.0)
    assert chosen.figures(9).rates == Rates(2.0, 0.0, 0.0)
    assert chosen.figures(9, within=ip_network("192.0.2.0/24")).contexts == 0
    assert chosen.figures(9, within=ip_network("2001:db8::/32")).peers == []


def test_peers_by_contexts_address_and_rate(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, clock: Clock
) -> None:
    for count, remote in ((3, "10.0.0.9"), (2, "10.0.0.5"), (1, "10.0.0.7"), (4, "2001:db8::1")):
        for _ in range(count):
            embedded.add("2001:db8::9" if ":" in remote else "10.0.0.1", remote)
    with engine.mirror(fields=FIELDS) as mirror:
        observer = Observer(mirror, clock=clock)
        for _ in range(2):
            embedded.add(remote="10.0.0.7")
        gone = embedded.add(remote="10.0.0.4")
        mirror.reconcile(WAIT)
        engine.delete(gone)
        read(observer, mirror, clock)

        def order(sort: Sort, rows: int = 9) -> list[str]:
            return [str(each.address) for each in observer.figures(rows, sort).peers]

        assert order(Sort.CONTEXTS) == ["2001:db8::1", "10.0.0.7", "10.0.0.9", "10.0.0.5"]
        assert order(Sort.ADDRESS) == ["10.0.0.5", "10.0.0.7", "10.0.0.9", "2001:db8::1"]
        assert order(Sort.ADDRESS, 2) == ["10.0.0.7", "2001:db8::1"]
        assert order(Sort.RATE, 3) == ["10.0.0.7", "2001:db8::1", "10.0.0.9"]
        assert order(Sort.RATE, 1) == ["10.0.0.7"]


def test_a_busy_peer_that_is_not_among_the_largest_is_counted(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, clock: Clock
) -> None:
    for _ in range(5):
        embedded.add(remote="10.0.0.9")
    small = [embedded.add(remote=f"10.0.0.{at}") for at in (3, 4)]
    with engine.mirror(fields=FIELDS) as mirror:
        observer = Observer(mirror, clock=clock)
        engine.delete(small[1])
        embedded.add(remote="10.0.0.3")
        read(observer, mirror, clock)
        assert [(str(each.address), *each[1:]) for each in observer.figures(2, Sort.RATE).peers] == [
            ("10.0.0.3", 2, 2 / 7, 0.5, 0.0),
            ("10.0.0.4", 0, 0.0, 0.0, 0.5),
        ]


def test_the_oldest_come_first_and_those_from_before_are_at_least_that_old(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, clock: Clock
) -> None:
    before = [embedded.add(remote=f"10.0.0.{at}") for at in (9, 5, 7)]
    with engine.mirror(fields=FIELDS) as mirror:
        observer = Observer(mirror, clock=clock)
        after = []
        for at in (8, 6):
            embedded.advance(2)
            after.append(embedded.add(remote=f"10.0.0.{at}"))
            read(observer, mirror, clock)
        oldest = observer.figures(9).oldest
        assert [old.context_id for old in oldest] == [*before, *after]
        assert [old.at_least for old in oldest] == [True] * 3 + [False] * 2
        assert [str(old.peer) for old in oldest] == [f"10.0.0.{at}" for at in (9, 5, 7, 8, 6)]
        assert [(old.spi_in, old.spi_out) for old in oldest] == [
            (context.inbound.spi, context.outbound.spi) for old in oldest if (context := engine.get(old.context_id))
        ]
        assert [int(old.age.total_seconds()) for old in oldest] == [4, 4, 4, 2, 0]
        embedded.advance(90)
        engine.delete(before[0])
        read(observer, mirror, clock, 90)
        oldest = observer.figures(2).oldest
        assert [(old.context_id, int(old.age.total_seconds()), old.at_least) for old in oldest] == [
            (each, 94, True) for each in before[1:]
        ]
        within = observer.figures(9, within=ip_network("10.0.0.8/32")).oldest
        assert [old.context_id for old in within] == after[:1]


def test_where_more_changes_came_than_are_known_rates_of_peers_are_unknown_and_the_oldest_are_still_right(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, clock: Clock
) -> None:
    before = [embedded.add() for _ in range(3)]
    with engine.mirror(fields=FIELDS, history=4) as mirror:
        observer = Observer(mirror, clock=clock)
        after = [embedded.add(remote="10.0.0.3") for _ in range(20)]
        engine.delete(before[0])
        read(observer, mirror, clock)
        figures = observer.figures(EVERYTHING)
        assert figures.rates == Rates(10.0, 0.5, 0.0)
        assert [each.added for each in figures.peers] == [None, None]
        assert [old.context_id for old in figures.oldest] == before[1:] + after
        assert observer.figures(1, within=ip_network("10.0.0.3/32")).rates is None
        embedded.add(remote="10.0.0.3")
        read(observer, mirror, clock)
        assert observer.figures(1).peers[0].added == 0.5


def test_while_the_engine_is_gone_the_last_state_stays_and_says_so(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, clock: Clock
) -> None:
    embedded.switch(contexts_after_restart="kept")
    embedded.start_clock()
    for at in range(5):
        embedded.add(remote=f"10.0.0.{at + 1}")
    with engine.mirror(fields=FIELDS) as mirror:
        observer = Observer(mirror, clock=clock)
        read(observer, mirror, clock)
        assert observer.figures(9).health[0] is None
        embedded.stop_service(1722)
        until(lambda: mirror.error is not None)
        clock.now += 1
        observer.read()
        figures = observer.figures(9)
        assert figures.health.error is not None and figures.health.error.startswith(("RPC_S", "EPT_S", "FWP_E"))
        assert figures.contexts == len(figures.peers) == 5 and figures.rates is None
        embedded.start_service()
        until(lambda: mirror.error is None and mirror.resyncs == 1)
        read(observer, mirror, clock)
        figures = observer.figures(9)
        assert figures.health.error is None and figures.health.resyncs == 1
        assert figures.contexts == len(figures.oldest) == 5 and figures.rates is not None


def until(happened: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)
