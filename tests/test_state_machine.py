"""Engine and facade together, driven in any order against a plain-Python model.

WFPSA_STATE_MACHINE_EXAMPLES says how many runs of how many steps: `2000` or `2000x100`.
"""

import gc
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any, TypeVar
from uuid import UUID

import model
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from model import Codes, Context, Half, Model, Row, Subnets
from support import runs_of_steps

import wfpsa
from wfpsa import Outcome, Sa, SaBundle, Traffic, TransformType, testing

_T = TypeVar("_T")

ENDS = [
    ("10.0.0.1", "10.9.0.1"),
    ("10.0.0.1", "10.9.0.2"),
    ("10.0.1.1", "10.9.0.1"),
    ("fd00::1", "fd00:9::1"),
    ("fd00::2", "fd00:9::1"),
]
NETWORKS = [
    (None, None),
    ("10.0.0.0/24", None),
    (None, "10.9.0.1/32"),
    ("10.0.0.0/16", "10.9.0.2/31"),
    ("0.0.0.0/0", None),
    ("fd00::/16", "fd00:9::/32"),
    (None, "fd00:9::1/128"),
    ("::/0", None),
    ("fd00::2/128", None),
]
CHOSEN = (
    "enumeration templates second_expiry duplicates lifetimes idle add_event delete_event transaction_changes "
    "contexts_after_restart ids_after_restart empty_page"
)
WAIT = 30.0
"""Seconds for an event that must come."""

traffics = st.builds(
    lambda ends, tunnel, port, filter_id: Traffic(
        *ENDS[ends],
        wfpsa.TrafficType.TUNNEL if tunnel else wfpsa.TrafficType.TRANSPORT,
        filter_id=filter_id,
        remote_port=0 if tunnel else port,
        ip_protocol=6 if port and not tunnel else 0,
        **(dict(udp_local_port=4500, udp_remote_port=4501) if ends == 1 else {}),
    ),
    st.integers(0, len(ENDS) - 1),
    st.booleans(),
    st.sampled_from([0, 0, 443]),
    st.sampled_from([0, 7]),
)
bundles = st.builds(
    SaBundle,
    sas=st.sampled_from(
        [
            (Sa(auth_key=bytes(20), cipher_key=bytes(16)),),
            (Sa(transform=TransformType.ESP_CIPHER), Sa(transform=TransformType.AH, spi=77)),
        ]
    ),
    lifetime_seconds=st.sampled_from([0, 30, 7200, 0, 45, 7200, 90]),
    idle_timeout_seconds=st.sampled_from([0, 20, 50]),
    bundle_flags=st.sampled_from([0, 0, 1, model.SUPPRESS_DUPLICATE_DELETION]),
    nap_context=st.integers(0, 3),
    mm_sa_id=st.sampled_from([0, 2**63 + 1]),
)
changes = st.fixed_dictionaries(
    {},
    optional={
        "bundle_flags": st.sampled_from([0, 1, 2]),
        "nap_context": st.integers(0, 9),
        "mm_sa_id": st.integers(0, 9),
        "key_module": st.sampled_from([None, UUID(int=5)]),
    },
)
any_index = st.integers(0, 10_000)


@dataclass(eq=False)
class Held:
    """An engine beside its model, and what it has open."""

    engine: wfpsa.Engine
    session: model.Session
    transaction: AbstractContextManager[None] | None = None
    transaction_life: int = 0


@dataclass(eq=False)
class Listing:
    """Pages that are read one now, one later."""

    held: Held
    pages: Generator[wfpsa.SaBatch, None, None]
    page_size: int
    subnets: Subnets
    life: int | None = None
    """Of its session; None before the first page."""
    more: bool | None = True
    """Whether another call is needed; None where only the C half knows."""
    begun: dict[int, Row] = field(default_factory=dict)
    seen: dict[int, Row] = field(default_factory=dict)


def rows_of(batch: wfpsa.SaBatch) -> dict[int, Row]:
    columns = {name: batch[name].tolist() for name in model.COLUMNS}
    ids = batch["context_id"].tolist()
    assert len(set(ids)) == len(ids)
    return {number: {name: columns[name][at] for name in model.COLUMNS} for at, number in enumerate(ids)}


def address(cell: object) -> IPv4Address | IPv6Address:
    assert isinstance(cell, bytes)
    found = IPv6Address(cell)
    return found.ipv4_mapped or found


def as_context(row: Row) -> Context:
    """The model of a context that appeared as that row."""
    numbers: dict[str, Any] = {name: row[name] for name in ("local_port", "remote_port", "ip_protocol")}
    ends = address(row["local_address"]), address(row["remote_address"])
    traffic = Traffic(*ends, row["traffic_type"], **numbers)  # type: ignore[arg-type]
    halves = {
        side: Half({name: row[f"{name}_{side}"] for name in model.HALF}, 0) if row[there] else None
        for side, there in (("in", "has_inbound"), ("out", "has_outbound"))
    }
    stage = model.COMPLETE if halves["out"] else model.INBOUND
    return Context(traffic, traffic, halves["in"], halves["out"], stage, given=True)


class EngineMachine(RuleBasedStateMachine):
    """Every rule makes one call, and says beforehand what must come of it."""

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        names = CHOSEN.split()
        switches = {name: data.draw(st.sampled_from(testing.SWITCHES[name][0]), label=name) for name in names}
        self.control = testing.EmbeddedEngine()
        self.control.stop_clock()
        self.control.switch(**switches)
        self.model = Model(switches)
        self.held: list[Held] = []
        self.listings: list[Listing] = []
        self.subscriptions: list[tuple[wfpsa.Subscription, model.Told]] = []
        self.gone: list[int] = []
        self.qm_sa_id = 0
        self.open(reconnect=False)
        self.open(reconnect=True)
        for network in data.draw(st.lists(any_index, min_size=1, max_size=2), label="subscribed from the beginning"):
            self.subscribe(0, network)
        for _ in range(data.draw(st.integers(2, 6), label="contexts in the beginning")):
            self.add(data.draw(traffics), (data.draw(bundles), data.draw(bundles)), None)
        self.list_pages(1, 0, 1, True)

    def teardown(self) -> None:
        if not hasattr(self, "control"):
            return
        try:
            while self.listings:
                self.last_pages(0)
            self.read_all()
        finally:
            self.subscriptions.clear()
            self.listings.clear()
            while self.held:
                self.held.pop().engine.close()
            self.control.close()
            gc.collect()
            alive = {name: count for name, count in testing.live_counters().items() if count}
            assert alive == {}

    # ---- helpers ----

    def call(self, refused: Codes, function: Callable[[], _T]) -> _T | None:
        """The result of a call, or None where it was refused, which it was exactly where it must be."""
        if not refused:
            return function()
        with pytest.raises(wfpsa.WfpError) as caught:
            function()
        assert caught.value.code in refused, (caught.value, refused)
        return None

    def pick(self, index: int) -> Held:
        """One that lives more often than one that is closed or dead."""
        living = [held for held in self.held if not (held.session.closed or held.session.dead)]
        pool = [*living * 9, *self.held]
        return pool[index % len(pool)]

    def pick_id(self, index: int) -> int:
        """One that is there more often than one that is not."""
        there = sorted(self.model.contexts)
        pool = [*there * 3, *self.gone[-2:], 2**64 - 2]
        return pool[index % len(pool)]

    def pick_half_built(self, index: int) -> int:
        """One that can be keyed more often than one that cannot."""
        pool = [number for number, each in sorted(self.model.contexts.items()) if each.stage < model.COMPLETE]
        return pool[index % len(pool)] if pool and index % 4 else self.pick_id(index)

    def read_gate(self, held: Held) -> Codes:
        """As the gate of a call that only reads, which opens a new session if need be, except in a transaction."""
        session = held.session
        within = held.transaction and held.transaction_life == session.life
        if session.dead and session.reconnect and not (session.closed or within):
            if self.model.stopped:
                return {model.NOT_REGISTERED}
            self.model.renew(session)
        return self.model.gate(session, reads=True)

    def numbered(self, bundle: SaBundle, traffic: Traffic, spi: int, qm_sa_id: int) -> SaBundle:
        sas = (replace(bundle.sas[0], spi=spi), *bundle.sas[1:])
        return replace(bundle, sas=sas, qm_sa_id=qm_sa_id, ip_version=traffic.local_address.version)

    def forget(self, before: Sequence[int]) -> None:
        self.gone += [number for number in before if number not in self.model.contexts]

    # ---- engines ----

    @precondition(lambda self: len(self.held) < 4)
    @rule(reconnect=st.booleans())
    def open(self, reconnect: bool) -> None:
        refused: Codes = {model.NOT_REGISTERED} if self.model.stopped else set()
        engine = self.call(refused, lambda: self.control.open(lock_timeout=0.002, reconnect=reconnect))
        if engine:
            session = model.Session(reconnect)
            self.model.sessions.append(session)
            self.held.append(Held(engine, session))

    @precondition(lambda self: len(self.held) > 1)
    @rule(index=any_index, again=st.booleans())
    def close(self, index: int, again: bool) -> None:
        held = self.pick(index)
        held.engine.close()
        self.model.renew(held.session)
        held.session.closed = True
        if again:
            held.engine.close()
        else:  # sometimes it stays, closed
            held.transaction = None
            self.held.remove(held)
        if held.session in self.model.sessions:
            self.model.sessions.remove(held.session)

    @rule(index=any_index)
    def reopen(self, index: int) -> None:
        held = self.pick(index)
        refused: Codes = {model.CLOSED} if held.session.closed else set()
        if not refused and self.model.stopped:
            refused = {model.NOT_REGISTERED}
        self.call(refused, held.engine.reopen)
        if not refused:
            self.model.renew(held.session)

    @precondition(lambda self: not self.model.stopped and len(self.model.contexts) > 2)
    @rule(code=st.sampled_from([model.SERVER_UNAVAILABLE, 1726]), lasts=st.sampled_from([False, False, False, True]))
    def stop_service(self, code: int, lasts: bool) -> None:
        self.control.stop_service(code)
        self.model.stop(code)
        if not lasts:
            self.start_service()

    @precondition(lambda self: self.model.stopped)
    @rule()
    def start_service(self) -> None:
        self.control.start_service()
        before = list(self.model.contexts)
        self.model.start()
        self.forget(before)
        if self.model.contexts:
            self.renumber()
        if self.model.switches["ids_after_restart"] == "reused":
            self.model.ever = set(self.model.contexts)
        if all(held.session.dead for held in self.held):
            self.reopen(0)

    def renumber(self) -> None:
        """No context has kept its id: they are told apart by what they hold, and those that hold nothing deleted."""
        with self.control.open(lock_timeout=0.002) as engine:
            rows = rows_of(engine.snapshot())
            assert len(rows) == len(self.model.contexts)
            there = self.model.contexts
            if self.model.switches["ids_after_restart"] == "new":
                assert not set(rows) & self.model.ever
            bare = [number for number, row in rows.items() if not (row["has_inbound"] or row["has_outbound"])]
            left = [context for context in there.values() if context.halves]
            self.model.contexts = {}
            for number, row in rows.items():
                if number in bare:
                    engine.delete(number)
                else:
                    context = next(each for each in left if each.agrees(row))
                    left.remove(context)
                    self.model.contexts[number] = context
            assert not left
        self.model.ever |= set(rows)
        self.gone += bare

    # ---- contexts appear ----

    @rule(
        traffic=traffics,
        sides=st.tuples(st.none() | bundles, st.none() | bundles).filter(any),
        wanted=st.sampled_from([None, None, None, 5, 2**40, 2**64 - 1]),
    )
    def add(self, traffic: Traffic, sides: tuple[SaBundle | None, SaBundle | None], wanted: int | None) -> None:
        self.qm_sa_id += 1
        inbound, outbound = (
            given and self.numbered(given, traffic, 1000 + 2 * self.qm_sa_id + side, self.qm_sa_id)
            for side, given in enumerate(sides)
        )
        refused: Codes = {model.ALREADY_EXISTS} if wanted in self.model.contexts else set()
        number = self.call(
            refused,
            lambda: self.control.add(traffic=traffic, inbound=inbound, outbound=outbound, context_id=wanted),
        )
        if number is None:
            return
        assert number == wanted or (wanted is None and number not in self.model.ever)
        halves = [
            bundle and model.half(bundle, self.model.now, traffic.filter_id, model.udp_ports(traffic))
            for bundle in (inbound, outbound)
        ]
        stage = model.COMPLETE if outbound else model.INBOUND
        self.model.put(number, Context(traffic, traffic, *halves, stage, given=True))
        self.model.tell_put([number])

    @precondition(
        lambda self: (
            not self.model.stopped
            and len(self.model.contexts) < 40
            and not self.model.is_locked(None, True)
            and all(told.subnets == (None, None) for _, told in self.subscriptions)
        )
    )
    @rule(count=st.integers(0, 8), seed=st.integers(0, 2**64 - 1))
    def seed(self, count: int, seed: int) -> None:
        """What a population holds is read from the engine; what no reading tells of is deleted at once."""
        self.control.seed(count, seed)
        with self.control.open(lock_timeout=0.002) as engine:
            new = {n: row for n, row in rows_of(engine.snapshot()).items() if n not in self.model.contexts}
            assert len(new) == count and not set(new) & self.model.ever
            unclear = [
                number
                for number, row in new.items()
                if row["traffic_differs"] or not (row["has_inbound"] or row["has_outbound"])
            ]
            for number, row in new.items():
                bare = row | dict(local_address=bytes(16), remote_address=bytes(16), traffic_type=0)
                bare |= dict(local_port=0, remote_port=0, ip_protocol=0)
                context = as_context(row if row["local_address"] else bare)
                for half in context.halves:
                    half.since = self.model.now
                context.stage = context.stage if context.halves else model.CREATED
                self.model.put(number, context)
            self.model.tell_put(new)
            for number in unclear:
                engine.delete(number)
                self.model.remove(number)
        self.gone += unclear

    @rule(index=any_index, traffic=traffics)
    def create(self, index: int, traffic: Traffic) -> None:
        held = self.pick(index)
        refused = self.model.gate(held.session, writes=True, alone=True)
        number = self.call(refused, lambda: held.engine.create(traffic))
        if number is not None:
            assert number not in self.model.ever
            self.model.put(number, Context(traffic, traffic))
            self.model.tell_put([number])

    @rule(
        index=any_index,
        which=any_index,
        mistake=st.sampled_from([None, None, None, None, "ends", "ports", "filter"]),
        chosen=st.none() | st.integers(1, 2**32 - 1),
        other=traffics,
    )
    def get_or_set_spi(self, index: int, which: int, mistake: str | None, chosen: int | None, other: Traffic) -> None:
        """A mistake is one only where the first traffic was another: else it is the first traffic."""
        held, number = self.pick(index), self.pick_half_built(which)
        context = self.model.contexts.get(number)
        traffic = context.inbound_traffic if context else other
        if mistake == "ends":
            traffic = other
        elif mistake == "ports" and traffic.traffic_type == wfpsa.TrafficType.TRANSPORT:
            traffic = replace(traffic, local_port=9)
        elif mistake == "filter":
            traffic = replace(traffic, filter_id=traffic.filter_id + 1)
        refused = self.model.gate(held.session, changes=True) or self.model.spi(number, traffic, chosen)
        if chosen is None:
            spi = self.call(refused, lambda: held.engine.get_spi(number, traffic))
            if spi is not None and context and context.stage == model.KEYED:
                assert spi == context.spi
        else:
            self.call(refused, lambda: held.engine.set_spi(number, traffic, chosen))
            spi = chosen
        if not refused:
            assert spi and 0 < spi < 2**32
            self.model.keyed(number, traffic, spi)

    @rule(
        index=any_index,
        which=any_index,
        inbound=st.booleans(),
        bundle=bundles,
        mistake=st.sampled_from([None, None, None, None, "id", "none", "order"]),
    )
    def add_sa(self, index: int, which: int, inbound: bool, bundle: SaBundle, mistake: str | None) -> None:
        held, number = self.pick(index), self.pick_half_built(which)
        self.add_half(held, number, inbound, bundle, mistake)

    def add_half(self, held: Held, number: int, inbound: bool, bundle: SaBundle, mistake: str | None = None) -> None:
        context = self.model.contexts.get(number)
        traffic = context.outbound_traffic if context else Traffic("10.0.0.1", "10.9.0.1")
        self.qm_sa_id += 1
        spi, qm_sa_id = (context and context.spi) or 1, self.qm_sa_id
        if context and context.inbound:
            qm_sa_id = context.inbound.values["qm_sa_id"]  # type: ignore[assignment]
        if mistake == "id":
            spi, qm_sa_id = spi ^ 1, qm_sa_id ^ 1
        bundle = self.numbered(bundle, traffic, spi, qm_sa_id)
        if mistake == "none":
            bundle = replace(bundle, sas=())
        elif mistake == "order":
            bundle = replace(bundle, sas=(Sa(transform=TransformType.AH, spi=spi), Sa(spi=78)))
        before = list(self.model.contexts)
        refused = self.model.gate(held.session, changes=True)
        refused = refused or self.model.add_half(number, inbound, bundle, good=mistake not in ("none", "order"))
        add = held.engine.add_inbound if inbound else held.engine.add_outbound
        self.call(refused, lambda: add(number, bundle))
        self.forget(before)

    @rule(index=any_index, which=any_index, other=st.none() | traffics, both=st.tuples(bundles, bundles))
    def key_at_once(self, index: int, which: int, other: Traffic | None, both: tuple[SaBundle, SaBundle]) -> None:
        """The whole of manual keying where nothing refuses it, often for traffic that has a context already."""
        there = self.model.contexts.get(self.pick_id(which))
        traffic = other or (there and there.outbound_traffic) or Traffic(*ENDS[0])
        held = self.pick(index)
        refused = self.model.gate(held.session, writes=True, alone=True)
        number = self.call(refused, lambda: held.engine.create(traffic))
        if number is None:
            return
        self.model.put(number, Context(traffic, traffic))
        self.model.tell_put([number])
        self.model.keyed(number, traffic, held.engine.get_spi(number, traffic))
        self.add_half(held, number, True, both[0])
        self.add_half(held, number, False, both[1])

    # ---- contexts change and end ----

    @rule(
        index=any_index,
        which=any_index,
        direction=st.sampled_from(["inbound", "outbound"]),
        values=changes,
        other=st.none() | traffics,
    )
    def update(self, index: int, which: int, direction: str, values: dict[str, Any], other: Traffic | None) -> None:
        held, number = self.pick(index), self.pick_id(which)
        context = self.model.contexts.get(number)
        present = context and (context.inbound_traffic if direction == "inbound" else context.outbound_traffic)
        traffic = other
        if traffic and present:  # neither type nor family of an SA changes
            same = traffic.local_address.version == present.local_address.version
            traffic = traffic if same and traffic.traffic_type == present.traffic_type else None
        columns = dict(values)
        if columns.get("key_module"):
            columns["key_module"] = columns["key_module"].bytes_le
        refused = self.model.gate(held.session, changes=True)
        refused = refused or self.model.update(number, direction, traffic, columns)
        self.call(refused, lambda: held.engine.update(number, direction, traffic=traffic, **values))

    @rule(
        index=any_index,
        which=st.lists(any_index, min_size=1, max_size=4),
        batch=st.booleans(),
        wait=st.sampled_from([60, 59.999, 30, 0, 0]),
    )
    def expire(self, index: int, which: list[int], batch: bool, wait: float) -> None:
        held, ids = self.pick(index), [self.pick_id(each) for each in which]
        before = list(self.model.contexts)
        if held.session.closed:
            self.call({model.CLOSED}, lambda: held.engine.expire(ids))
            return
        report = held.engine.expire(
            memoryview(b"".join(n.to_bytes(8, "little") for n in ids)).cast("Q") if batch else ids
        )
        assert report.context_id.tolist() == ids
        lost = False
        for number, outcome, code in zip(ids, report.outcome, report.code, strict=True):
            if lost:
                assert (outcome, code) == (Outcome.NOT_ATTEMPTED, 0)
                continue
            refused = self.model.gate(held.session, changes=True)
            lost = bool(held.session.dead)
            refused = refused or self.model.expire(number)
            if not refused:
                assert (outcome, code) == (Outcome.EXPIRED, 0)
            else:
                assert code in refused
                assert outcome == (Outcome.ALREADY_GONE if code == model.NOT_FOUND else Outcome.FAILED)
        self.forget(before)
        if wait:
            self.advance(wait)

    @rule(index=any_index, which=any_index)
    def delete(self, index: int, which: int) -> None:
        held, number = self.pick(index), self.pick_id(which)
        refused = self.model.gate(held.session, writes=True, alone=True) or self.model.find(number)
        self.call(refused, lambda: held.engine.delete(number))
        if not refused:
            self.model.remove(number)
            self.gone.append(number)

    @rule(seconds=st.sampled_from([60, 30, 10, 20, 59.999, 15, 0.001, 29.999, 90, 7200, 0]))
    def advance(self, seconds: float) -> None:
        before = list(self.model.contexts)
        self.control.advance(seconds)
        self.model.advance(round(seconds * 1000))
        self.forget(before)

    # ---- reading ----

    def subnets(self, index: int) -> tuple[Subnets, dict[str, str]]:
        """A template for the model, and the arguments that ask for it."""
        local, remote = NETWORKS[index % len(NETWORKS)]
        given = {name: text for name, text in (("local", local), ("remote", remote)) if text}
        parsed = tuple(text and ip_network(text) for text in (local, remote))
        return parsed, given  # type: ignore[return-value]

    @rule(index=any_index, network=any_index, page_size=st.sampled_from([1, 2, 3, 1024]))
    def snapshot(self, index: int, network: int, page_size: int) -> None:
        held = self.pick(index)
        subnets, given = self.subnets(network)
        refused = self.read_gate(held)
        batch = self.call(refused, lambda: held.engine.snapshot(**given, page_size=page_size))
        if batch is not None:
            self.compare(rows_of(batch), subnets)

    def compare(self, rows: dict[int, Row], subnets: Subnets = (None, None)) -> None:
        expected = {n: each for n, each in self.model.contexts.items() if each.matches(subnets)}
        assert set(rows) == set(expected)
        for number, context in expected.items():
            assert context.agrees(rows[number]), (number, rows[number], context.row())

    @rule(index=any_index, which=any_index)
    def get(self, index: int, which: int) -> None:
        held, number = self.pick(index), self.pick_id(which)
        refused = self.read_gate(held) or self.model.find(number)
        context = self.call(refused, lambda: held.engine.get(number))
        if context is not None:
            there = self.model.contexts[number]
            row = there.row()
            assert context.context_id == number
            assert (context.has_inbound, context.has_outbound) == (row["has_inbound"], row["has_outbound"])
            assert bool(context.inbound) is bool(there.inbound) and bool(context.outbound) is bool(there.outbound)
            if context.inbound:
                assert context.inbound.spi == row["spi_in"] and context.inbound.bundle_flags == row["bundle_flags_in"]

    @rule(index=any_index)
    def statistics(self, index: int) -> None:
        held = self.pick(index)
        session = held.session
        refused = self.read_gate(held)
        if session.transaction and not refused:
            refused = {model.TXN_IN_PROGRESS}
        found = self.call(refused, held.engine.statistics)
        if found is not None:
            self.compare_statistics(found)

    def compare_statistics(self, found: wfpsa.Statistics) -> None:
        expected = self.model.statistics()
        assert found._asdict() == dict.fromkeys(found._fields, 0) | expected

    # ---- pages, one now and one later ----

    @precondition(lambda self: len(self.listings) < 4)
    @rule(index=any_index, network=any_index, page_size=st.integers(1, 4), begun=st.sampled_from([True, True, False]))
    def list_pages(self, index: int, network: int, page_size: int, begun: bool) -> None:
        held = self.pick(index)
        subnets, given = self.subnets(network)
        pages = held.engine.pages(**given, page_size=page_size, prefetch=False)
        self.listings.append(Listing(held, pages, page_size, subnets))
        if begun:
            self.next_page(-1)

    @precondition(lambda self: self.listings)
    @rule(which=any_index)
    def next_page(self, which: int) -> None:
        listing = self.listings[which % len(self.listings)]
        session = listing.held.session
        if listing.life is None:
            if refused := self.read_gate(listing.held):
                self.call(refused, lambda: next(listing.pages))
                self.listings.remove(listing)
                return
            listing.life = session.life
            listing.begun = self.model.listing(listing.subnets)
        current = not session.closed and listing.life == session.life
        refused = self.model.gate(session, reads=True) if current else {model.CLOSED}
        try:
            batch = next(listing.pages)
        except StopIteration:
            self.listings.remove(listing)
            assert not refused or not listing.more
            self.finish(listing)
            return
        except wfpsa.WfpError as error:
            self.listings.remove(listing)
            assert error.code in refused, (error, refused)
            return
        assert not refused and len(batch) > 0
        rows = rows_of(batch)
        filtered = listing.subnets != (None, None) and batch.pushed_down is False
        listing.more = None if filtered else len(batch) == listing.page_size
        assert len(batch) <= listing.page_size
        assert not set(rows) & set(listing.seen)
        live = self.model.switches["enumeration"] == "live"
        for number, row in rows.items():
            if live:
                assert self.model.contexts[number].agrees(row)
            else:
                assert row == listing.begun[number]
        listing.seen |= rows

    @precondition(lambda self: self.listings)
    @rule(which=any_index)
    def last_pages(self, which: int) -> None:
        listing = self.listings[which % len(self.listings)]
        while listing in self.listings:
            self.next_page(self.listings.index(listing))

    def is_aborted(self, session: model.Session) -> bool:
        self.model.cancel_overdue()
        return session.transaction == "aborted"

    def finish(self, listing: Listing) -> None:
        """All was seen that was there."""
        if self.model.switches["enumeration"] == "snapshot":
            assert set(listing.seen) == set(listing.begun)
        elif listing.subnets == (None, None):
            assert set(listing.begun) & set(self.model.contexts) <= set(listing.seen)

    @precondition(lambda self: self.listings)
    @rule(which=any_index)
    def close_pages(self, which: int) -> None:
        listing = self.listings.pop(which % len(self.listings))
        session = listing.held.session
        if listing.life == session.life and not session.closed and self.is_aborted(session):
            session.transaction = None  # told to the call that destroys the handle, which keeps it to itself
        listing.pages.close()

    # ---- transactions ----

    @rule(index=any_index, read_only=st.booleans())
    def begin_transaction(self, index: int, read_only: bool) -> None:
        held = self.pick(index)
        session = held.session
        if held.transaction and not (
            session.transaction in ("read", "write") and held.transaction_life == session.life
        ):
            self.drop_transaction(held)
        refused = self.model.begin(session, "read" if read_only else "write")
        transaction = held.engine.transaction(read_only=read_only)
        self.call(refused, transaction.__enter__)
        if not refused:
            held.transaction, held.transaction_life = transaction, session.life

    @rule(index=any_index, read_only=st.booleans())
    def overstay(self, index: int, read_only: bool) -> None:
        """A transaction may be held for an hour; what comes of it is told by the next call."""
        self.begin_transaction(index, read_only)
        self.advance(3600)

    def drop_transaction(self, held: Held) -> None:
        """Aborts what is left of one, without a word."""
        session, transaction = held.session, held.transaction
        held.transaction = None
        assert transaction
        transaction.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
        if held.transaction_life == session.life and not session.closed:
            session.transaction = None

    @precondition(lambda self: any(held.transaction for held in self.held))
    @rule(index=any_index, commits=st.booleans())
    def end_transaction(self, index: int, commits: bool) -> None:
        open_ones = [held for held in self.held if held.transaction]
        held = open_ones[index % len(open_ones)]
        session, transaction = held.session, held.transaction
        assert transaction
        if not commits:
            self.drop_transaction(held)
            return
        refused: Codes = {model.CLOSED}
        if held.transaction_life == session.life:
            refused = self.model.gate(session)
            if not refused and session.transaction is None:
                refused = {model.NO_TXN_IN_PROGRESS}
            session.transaction = None
        self.call(refused, lambda: transaction.__exit__(None, None, None))
        held.transaction = None

    # ---- events ----

    @precondition(lambda self: len(self.subscriptions) < 4)
    @rule(index=any_index, network=any_index)
    def subscribe(self, index: int, network: int) -> None:
        held = self.pick(index)
        subnets, given = self.subnets(network)
        refused = self.model.gate(held.session, alone=True)
        if not refused and self.model.switches["templates"] == "v6_mask" and any(n and n.version == 4 for n in subnets):
            refused = {model.TYPE_MISMATCH}
        subscription = self.call(refused, lambda: held.engine.subscribe(**given))
        if subscription is not None:
            told = model.Told(held.session, held.session.life, subnets)
            self.model.subscriptions.append(told)
            self.subscriptions.append((subscription, told))

    @precondition(lambda self: self.subscriptions)
    @rule(which=any_index, count=st.integers(1, 5))
    def read_events(self, which: int, count: int) -> None:
        subscription, told = self.subscriptions[which % len(self.subscriptions)]
        self.read(subscription, told, count)

    def read(self, subscription: wfpsa.Subscription, told: model.Told, count: int) -> None:
        """Up to `count` events of those that must come; where they need not, those that do."""
        uncertain = told.ended or told.silenced
        for _ in range(count if uncertain else min(count, told.left)):
            event = subscription.get(0 if uncertain else WAIT)
            if event is None:
                assert uncertain, f"{told.groups} was not told"
                return
            told.take(event)

    @precondition(lambda self: self.subscriptions)
    @rule(which=any_index)
    def unsubscribe(self, which: int) -> None:
        subscription, told = self.subscriptions[which % len(self.subscriptions)]
        session = told.session
        known = not told.ended and not session.closed and told.life == session.life
        refused = self.model.gate(session, alone=True) if known else set()
        self.call(refused, subscription.close)
        if refused and not session.dead:
            return
        told.ended = True
        for event in subscription:
            told.take(event)
        subscription.close()
        self.subscriptions.remove((subscription, told))
        self.model.subscriptions.remove(told)

    def read_all(self) -> None:
        """At the end a context for each template: what comes before it is all that came."""
        for ends in ENDS:
            number = self.control.add(*ends)
            traffic = Traffic(*ends)
            blank = {name: 0 for name in model.HALF}
            self.model.put(
                number, Context(traffic, traffic, Half(blank, 0), Half(blank, 0), model.COMPLETE, given=True)
            )
            self.model.tell_put([number])
        for subscription, told in self.subscriptions:
            self.read(subscription, told, 10**6)
            assert told.ended or told.silenced or subscription.get(0) is None

    # ---- what holds after each step ----

    @invariant()
    def the_engine_holds_what_the_model_holds(self) -> None:
        if not hasattr(self, "control"):
            return
        assert len(self.control) == len(self.model.contexts)
        if self.model.stopped:
            return
        self.model.cancel_overdue()
        writers = [held for held in self.held if held.session.transaction == "write"]
        if writers:  # nobody else may read
            self.compare(rows_of(writers[0].engine.snapshot()))
            return
        with self.control.open(lock_timeout=0.002) as engine:
            self.compare(rows_of(engine.snapshot()))
            self.compare_statistics(engine.statistics())


TestEngineAgainstTheModel = EngineMachine.TestCase
TestEngineAgainstTheModel.settings = runs_of_steps("WFPSA_STATE_MACHINE_EXAMPLES", 100, 40)
