"""Statistics: the counters agree with the contents after any sequence of changes, and have the C half's names."""

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wfpsa
from wfpsa import Sa, SaBundle, Statistics, Traffic, TrafficType, testing

TRAFFIC = [Traffic("10.5.0.1", f"10.5.0.{at}") for at in (2, 3)]
TRAFFIC += [replace(each, traffic_type=TrafficType.TUNNEL) for each in TRAFFIC]
MAINTAINED = {"active_sas", "pending_sa_negotiations", "total_sas_added", "total_sas_deleted"}
MAINTAINED |= {"successful_rekeys", "active_tunnels"}


def bundle(spi: int = 0x500, lifetime: int = 3600) -> SaBundle:
    return SaBundle(sas=Sa(spi=spi), qm_sa_id=5, lifetime_seconds=lifetime)


class Played:
    """An engine, and what is done to it."""

    def __init__(self, control: testing.EmbeddedEngine, engine: wfpsa.Engine, dice: random.Random) -> None:
        self.control, self.engine, self.dice = control, engine, dice
        self.begun: dict[int, Traffic] = {}
        self.were_complete: set[int] = set()
        self.expired: set[int] = set()

    def some(self) -> list[int]:
        """One of the contexts, if there is one."""
        ids = self.engine.snapshot()["context_id"].tolist()
        return self.dice.sample(ids, min(len(ids), 1))

    def look(self) -> None:
        """Remembers who has had an outbound SA."""
        self.were_complete |= {context.context_id for context in self.engine.snapshot() if context.outbound}

    def pending(self) -> int:
        return len(set(self.engine.snapshot()["context_id"]) - self.were_complete - self.expired)

    def seed(self) -> None:
        self.control.seed(self.dice.randrange(9), self.dice.randrange(99), odd=self.dice.random() < 0.5)

    def add(self) -> None:
        choices = [None, bundle(), bundle(lifetime=self.dice.randrange(1, 50))]
        sides = {side: self.dice.choice(choices) for side in ("inbound", "outbound")}
        self.control.add(traffic=self.dice.choice(TRAFFIC), **sides)

    def begin(self) -> None:
        traffic = self.dice.choice(TRAFFIC)
        self.begun[self.engine.create(traffic)] = traffic

    def go_on(self) -> None:
        """Keys a context that was begun, as far as the inbound SA or to the end; it may be gone."""
        if not self.begun:
            return
        number, traffic = self.begun.popitem()
        with suppress(wfpsa.NotFound):
            self.engine.set_spi(number, traffic, 0x500)
            self.engine.add_inbound(number, bundle(lifetime=self.dice.randrange(1, 100)))
            if self.dice.random() < 0.7:
                self.engine.add_outbound(number, bundle(0x600))

    def expire(self) -> None:
        for number in self.some():
            self.engine.expire([number])
            self.begun.pop(number, None)
            self.expired.add(number)

    def delete(self) -> None:
        for number in self.some():
            self.engine.delete(number)

    def advance(self) -> None:
        self.control.advance(self.dice.choice([0, 0.5, 7, 30, 60, 4000]))

    def hold(self) -> None:
        """Keeps an enumeration open, so that what changes is copied."""
        self.held = self.engine.pages(page_size=2)
        next(self.held, None)


STEPS = ("seed", "add", "begin", "begin", "go_on", "go_on", "expire", "expire", "delete", "advance", "hold")


def counted(engine: wfpsa.Engine) -> dict[str, int]:
    """What the contents say of the moment."""
    contexts = list(engine.snapshot())
    sides = [bool(context.inbound) + bool(context.outbound) for context in contexts]
    tunnels = [
        side and context.traffic_type == TrafficType.TUNNEL for side, context in zip(sides, contexts, strict=True)
    ]
    return {"active_sas": sum(sides), "active_tunnels": tunnels.count(True)}


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.sampled_from(STEPS), max_size=40), dice=st.randoms(use_true_random=False))
def test_the_counters_agree_with_the_contents_after_any_changes(steps: list[str], dice: random.Random) -> None:
    with testing.EmbeddedEngine() as control, control.open() as engine:
        control.stop_clock()
        played = Played(control, engine, dice)
        before = engine.statistics()
        assert before == Statistics(*[0] * len(Statistics._fields))
        for step in steps:
            getattr(played, step)()
            played.look()
            found = engine.statistics()
            assert {name: getattr(found, name) for name in ("active_sas", "active_tunnels")} == counted(engine)
            assert found.total_sas_added - found.total_sas_deleted == found.active_sas
            assert found.pending_sa_negotiations == played.pending()
            for name in ("total_sas_added", "total_sas_deleted", "successful_rekeys"):
                assert getattr(found, name) >= getattr(before, name)
            assert {name for name in Statistics._fields if getattr(found, name)} <= MAINTAINED
            before = found
        for context in engine.snapshot():
            engine.delete(context.context_id)
        last = engine.statistics()
        assert (last.active_sas, last.active_tunnels, last.pending_sa_negotiations) == (0, 0, 0)
        assert last.total_sas_added == last.total_sas_deleted


def test_each_change_is_counted_where_it_belongs(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    def changed(change: Callable[[], object]) -> dict[str, int]:
        before = engine.statistics()._asdict()
        change()
        return {name: now - before[name] for name, now in engine.statistics()._asdict().items() if now != before[name]}

    number = engine.create(TRAFFIC[0])
    assert engine.statistics().pending_sa_negotiations == 1
    assert changed(lambda: engine.set_spi(number, TRAFFIC[0], 0x500)) == {}
    assert changed(lambda: engine.add_inbound(number, bundle())) == {"active_sas": 1, "total_sas_added": 1}
    assert changed(lambda: engine.add_outbound(number, bundle(0x600))) == {
        "active_sas": 1,
        "total_sas_added": 1,
        "pending_sa_negotiations": -1,
    }
    assert changed(lambda: engine.update(number, "inbound", nap_context=5)) == {}
    tunnel = replace(TRAFFIC[0], traffic_type=TrafficType.TUNNEL)
    assert changed(lambda: embedded.add(traffic=tunnel)) == {"active_sas": 2, "total_sas_added": 2, "active_tunnels": 1}
    assert changed(lambda: engine.expire([number])) == {"active_sas": -1, "total_sas_deleted": 1}
    assert changed(lambda: engine.expire([number])) == {}
    assert changed(lambda: embedded.advance(60)) == {"active_sas": -1, "total_sas_deleted": 1}
    half_built = engine.create(TRAFFIC[1])
    assert changed(lambda: engine.delete(half_built)) == {"pending_sa_negotiations": -1}
    (left,) = engine.snapshot()
    assert changed(lambda: engine.delete(left.context_id)) == {
        "active_sas": -2,
        "total_sas_deleted": 2,
        "active_tunnels": -1,
    }


def test_an_update_of_the_traffic_into_a_tunnel_counts_a_tunnel(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    number = embedded.add(traffic=TRAFFIC[0])
    tunnel = replace(TRAFFIC[0], traffic_type=TrafficType.TUNNEL)
    engine.update(number, "inbound", traffic=tunnel)
    assert engine.statistics().active_tunnels == counted(engine)["active_tunnels"] == 0
    engine.update(number, "outbound", traffic=tunnel)
    assert engine.statistics().active_tunnels == counted(engine)["active_tunnels"] == 1


def test_the_names_are_those_of_the_c_half_in_its_order(engine: wfpsa.Engine) -> None:
    assert tuple(engine._session.statistics()) == Statistics._fields
    assert len(Statistics._fields) == 7 + 5 + 4 + 10 + 7 + 7  # the members of IPSEC_STATISTICS1
    assert set(Statistics._fields) >= MAINTAINED


def test_statistics_need_their_right_and_no_transaction(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    embedded.rights("everyone")
    with embedded.open() as stranger, pytest.raises(wfpsa.AccessDenied, match="IPsecGetStatistics1"):
        stranger.statistics()
    embedded.rights("read_only")
    with embedded.open() as reader:
        assert reader.statistics() == engine.statistics()
    with engine.transaction(read_only=True), pytest.raises(wfpsa.WfpError, match="FWP_E_TXN_IN_PROGRESS"):
        engine.statistics()


def test_a_restart_begins_the_totals_anew(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(20)
    for context in engine.snapshot()[:5]:
        engine.delete(context.context_id)
    embedded.switch(contexts_after_restart="kept")
    embedded.restart_service()
    engine.reopen()
    found = engine.statistics()
    assert found.active_sas == found.total_sas_added == counted(engine)["active_sas"] > 0
    assert found.total_sas_deleted == 0
    embedded.switch(contexts_after_restart="lost")
    embedded.restart_service()
    engine.reopen()
    assert engine.statistics() == Statistics(*[0] * len(Statistics._fields))
