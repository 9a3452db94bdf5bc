"""A plain-Python model of an engine with SA contexts, from what the OS documents and what the switches choose."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import wfpsa
from wfpsa import ChangeKind

ACCESS_DENIED = 5
SERVER_UNAVAILABLE = 1722
NOT_REGISTERED = 1753
ALREADY_EXISTS = 0x80320009
NOT_FOUND = 0x80320008
NO_TXN_IN_PROGRESS = 0x8032000D
TXN_IN_PROGRESS = 0x8032000E
TXN_ABORTED = 0x8032000F
SESSION_ABORTED = 0x80320010
INCOMPATIBLE_TXN = 0x80320011
TIMEOUT = 0x80320012
TRAFFIC_MISMATCH = 0x8032001A
INCOMPATIBLE_SA_STATE = 0x8032001B
TYPE_MISMATCH = 0x80320027
INVALID_PARAMETER = 0x80320035
CLOSED = None
"""The code of EngineClosed."""

Codes = set[int | None]
"""What a call may fail with: one of these; empty for success."""

SUPPRESS_DUPLICATE_DELETION = 0x2000
TAIL_MS = 60_000
TRANSACTION_MS = 3_600_000

CREATED, KEYED, INBOUND, COMPLETE = range(4)
"""How far the keying of a context has come."""

Network = IPv4Network | IPv6Network
Subnets = tuple[Network | None, Network | None]


def mapped(address: IPv4Address | IPv6Address) -> bytes:
    """An address as the address columns have it."""
    return address.packed if address.version == 6 else b"\0" * 10 + b"\xff\xff" + address.packed


# --- Contexts -------------------------------------------------------------------------------------


@dataclass
class Half:
    """The SA of one direction: its columns without the suffix, and when it was added."""

    values: dict[str, object]
    since: int

    def ends(self, idle: bool, lifetimes: bool) -> Iterator[int]:
        """When it ends by itself."""
        for name, counts in ("lifetime_seconds", lifetimes), ("idle_timeout_seconds", idle):
            seconds = self.values[name]
            assert isinstance(seconds, int)
            if counts and seconds:
                yield self.since + seconds * 1000


HALF = [
    *("spi", "ah_spi", "sa_count", "transform", "bundle_flags", "lifetime_seconds", "idle_timeout_seconds"),
    *("nap_context", "qm_sa_id", "mm_sa_id", "filter_id", "udp_local_port", "udp_remote_port"),
    *("key_module", "peer_private_address"),
]
SHARED = ["ip_version", "traffic_type", "local_address", "remote_address", "local_port", "remote_port", "ip_protocol"]
COLUMNS = ["has_inbound", "has_outbound", "traffic_differs", *SHARED]
COLUMNS += [f"{name}_{side}" for side in ("in", "out") for name in HALF]
"""The columns that the model knows, the id aside."""

Row = dict[str, object]


def half(bundle: wfpsa.SaBundle, now: int, filter_id: int, udp: tuple[int | None, int | None]) -> Half:
    values: dict[str, object] = {
        "spi": bundle.sas[0].spi,
        "ah_spi": bundle.sas[1].spi if len(bundle.sas) == 2 else None,
        "sa_count": len(bundle.sas),
        "transform": bundle.sas[0].transform,
        "key_module": bundle.key_module and bundle.key_module.bytes_le,
        "peer_private_address": bundle.peer_private_address and int(bundle.peer_private_address),
        "filter_id": filter_id,
        "udp_local_port": udp[0],
        "udp_remote_port": udp[1],
    }
    for name in ("bundle_flags", "lifetime_seconds", "idle_timeout_seconds", "nap_context", "qm_sa_id", "mm_sa_id"):
        values[name] = getattr(bundle, name)
    return Half(values, now)


def udp_ports(traffic: wfpsa.Traffic) -> tuple[int | None, int | None]:
    """The encapsulation of NAT-T; absent where there is none."""
    used = traffic.udp_local_port or traffic.udp_remote_port
    return (traffic.udp_local_port, traffic.udp_remote_port) if used else (None, None)


def selectors(traffic: wfpsa.Traffic) -> tuple[object, ...]:
    """What makes traffic the same: its ends, type, ports and protocol."""
    ends = traffic.local_address, traffic.remote_address
    return *ends, traffic.traffic_type, traffic.local_port, traffic.remote_port, traffic.ip_protocol


@dataclass
class Context:
    outbound_traffic: wfpsa.Traffic
    inbound_traffic: wfpsa.Traffic
    inbound: Half | None = None
    outbound: Half | None = None
    stage: int = CREATED
    spi: int | None = None
    udp: tuple[int | None, int | None] = (None, None)
    """The encapsulation that came with the SPI, for both directions."""
    tail: int | None = None
    """When its inbound SA goes, once it is expired."""
    given: bool = False
    """It appeared as it is, without keying: some of what an outbound SA added later has is documented nowhere."""
    unknown: tuple[str, ...] = ()
    """Such columns of the outbound SA; they are believed once, and must stay so."""

    @property
    def halves(self) -> list[Half]:
        return [each for each in (self.inbound, self.outbound) if each]

    @property
    def traffics(self) -> list[wfpsa.Traffic]:
        """Of its SAs."""
        both = (self.inbound, self.inbound_traffic), (self.outbound, self.outbound_traffic)
        return [traffic for there, traffic in both if there]

    def row(self) -> Row:
        row: Row = dict.fromkeys(COLUMNS)
        row["has_inbound"], row["has_outbound"] = self.inbound is not None, self.outbound is not None
        row["traffic_differs"] = len(set(map(selectors, self.traffics))) == 2
        if self.traffics:
            shown = self.traffics[-1]
            row["ip_version"], row["traffic_type"] = shown.local_address.version, shown.traffic_type
            row["local_address"], row["remote_address"] = mapped(shown.local_address), mapped(shown.remote_address)
            for name in ("local_port", "remote_port", "ip_protocol"):
                row[name] = getattr(shown, name)
        for side, there in ("in", self.inbound), ("out", self.outbound):
            for name, value in there.values.items() if there else ():
                row[f"{name}_{side}"] = value
        return row

    def agrees(self, row: Row) -> bool:
        """Whether a row of the engine's is this context's; believes what is unknown."""
        if self.outbound:
            self.outbound.values |= {name: row[f"{name}_out"] for name in self.unknown}
        self.unknown = ()
        return row == self.row()

    def matches(self, subnets: Subnets, *, even_without_sa: bool = False) -> bool:
        """Whether one of its SAs lies in both; before it has one, perhaps whether its traffic does."""
        if subnets == (None, None):
            return True
        traffics = self.traffics or ([self.outbound_traffic] if even_without_sa else [])
        return any(
            all(
                subnet is None or address in subnet
                for subnet, address in zip(subnets, (t.local_address, t.remote_address), strict=True)
            )
            for t in traffics
        )


# --- Sessions and subscriptions -------------------------------------------------------------------


@dataclass(eq=False)
class Session:
    reconnect: bool = False
    life: int = 0
    """Counts its sessions: what was opened in an earlier one is closed."""
    closed: bool = False
    dead: int | None = None
    transaction: str | None = None
    """read, write, or aborted and not yet told."""
    transaction_end: int = 0


@dataclass(eq=False)
class Told:
    """What a subscription must tell: groups of events in order, within a group in any order."""

    session: Session
    life: int
    subnets: Subnets
    groups: list[Counter[tuple[ChangeKind, int]]] = field(default_factory=list)
    ended: bool = False
    silenced: bool = False
    """The service was stopped: what was not told by then may never be."""
    sequence: int = 0

    def take(self, event: object) -> None:
        """One more event, which must be the next."""
        assert isinstance(event, wfpsa.SaChange), event
        self.sequence += 1
        assert event.sequence == self.sequence
        assert self.groups, f"{event} was not to be told"
        assert self.groups[0][event.kind, event.context_id] > 0, (event, self.groups)
        self.groups[0] -= Counter([(event.kind, event.context_id)])
        if not self.groups[0]:
            del self.groups[0]

    @property
    def left(self) -> int:
        return sum(group.total() for group in self.groups)


# --- The engine -----------------------------------------------------------------------------------


@dataclass
class Totals:
    added: int = 0
    deleted: int = 0
    rekeyed: int = 0


class Model:
    """The engine; every call that may be refused says with which codes, and then has changed nothing."""

    def __init__(self, switches: dict[str, str]) -> None:
        self.switches = switches
        self.now = 0
        self.stopped = False
        self.contexts: dict[int, Context] = {}
        self.ever: set[int] = set()
        self.sessions: list[Session] = []
        self.subscriptions: list[Told] = []
        self.totals = Totals()

    # The gate

    def gate(
        self, session: Session, *, reads: bool = False, writes: bool = False, alone: bool = False, changes: bool = False
    ) -> Codes:
        """What refuses a call: the state of its session, its transaction, or the lock. `alone`: not in a transaction;
        `changes`: perhaps not."""
        if session.closed:
            return {CLOSED}
        if session.dead:
            return {session.dead}
        self.cancel_overdue()
        if session.transaction == "aborted":
            session.transaction = None
            return {TXN_ABORTED}
        refused: Codes = set()
        if session.transaction:
            if alone or (changes and self.switches["transaction_changes"] == "refused"):
                refused.add(TXN_IN_PROGRESS)
            if (writes or changes) and session.transaction == "read":
                refused.add(INCOMPATIBLE_TXN)
        if refused:
            return refused
        return {TIMEOUT} if self.is_locked(session, writes or changes) and (reads or writes or changes) else set()

    def is_locked(self, session: Session | None, writes: bool) -> bool:
        """Whether others hold the lock, so that this session cannot have it."""
        kinds = {"read", "write"} if writes else {"write"}
        return any(other.transaction in kinds for other in self.sessions if other is not session)

    def cancel_overdue(self) -> None:
        for session in self.sessions:
            if session.transaction in ("read", "write") and self.now >= session.transaction_end:
                session.transaction = "aborted"

    def find(self, context_id: int) -> Codes:
        return set() if context_id in self.contexts else {NOT_FOUND}

    # Sessions

    def renew(self, session: Session) -> None:
        """It has a new session, and what the old one had is closed."""
        session.life += 1
        session.dead = session.transaction = None
        for told in self.subscriptions:
            told.ended |= told.session is session

    def begin(self, session: Session, kind: str) -> Codes:
        refused = self.gate(session, alone=True)
        if not refused and self.is_locked(session, kind == "write"):
            refused = {TIMEOUT}
        if not refused:
            session.transaction, session.transaction_end = kind, self.now + TRANSACTION_MS
        return refused

    def stop(self, code: int) -> None:
        if self.stopped:
            return
        self.stopped = True
        for session in self.sessions:
            session.dead = session.dead or code
            session.transaction = None
        for told in self.subscriptions:
            told.silenced = True

    def start(self) -> None:
        if not self.stopped:
            return
        self.stopped = False
        for session in self.sessions:
            session.dead = SESSION_ABORTED
        if self.switches["contexts_after_restart"] == "lost":
            self.contexts.clear()
        self.totals = Totals(added=self.active_sas)

    # Contexts

    @property
    def active_sas(self) -> int:
        return sum(len(context.halves) for context in self.contexts.values())

    def statistics(self) -> dict[str, int]:
        there = self.contexts.values()
        return {
            "active_sas": self.active_sas,
            "pending_sa_negotiations": sum(each.stage < COMPLETE and each.tail is None for each in there),
            "total_sas_added": self.totals.added,
            "total_sas_deleted": self.totals.deleted,
            "successful_rekeys": self.totals.rekeyed,
            "active_tunnels": sum(each.row()["traffic_type"] == wfpsa.TrafficType.TUNNEL for each in there),
            "offloaded_sas": 0,
        }

    def listing(self, subnets: Subnets = (None, None)) -> dict[int, Row]:
        return {number: each.row() for number, each in self.contexts.items() if each.matches(subnets)}

    def tell(self, kind: ChangeKind, context_ids: Iterable[int]) -> None:
        """Of contexts that change at one moment."""
        moment = list(context_ids)
        for told in self.subscriptions:
            if not (told.ended or told.silenced or told.session.dead):
                group = Counter(
                    (kind, number)
                    for number in moment
                    if self.contexts[number].matches(told.subnets, even_without_sa=True)
                )
                told.groups += [group] if group else []

    def put(self, context_id: int, context: Context) -> None:
        """A context that appears as it is."""
        assert context_id not in self.contexts
        self.contexts[context_id] = context
        self.ever.add(context_id)
        self.totals.added += len(context.halves)

    def tell_put(self, context_ids: Iterable[int]) -> None:
        late = self.switches["add_event"] == "outbound"
        self.tell(ChangeKind.ADDED, [each for each in context_ids if self.contexts[each].outbound or not late])

    def remove(self, *context_ids: int) -> None:
        silent = self.switches["delete_event"] == "expiry"
        told = [each for each in context_ids if not (silent and self.contexts[each].tail is not None)]
        self.tell(ChangeKind.DELETED, told)
        for number in context_ids:
            self.totals.deleted += len(self.contexts.pop(number).halves)

    def spi(self, context_id: int, traffic: wfpsa.Traffic, wanted: int | None) -> Codes:
        """What refuses it; the SPI must then be noted with `keyed`."""
        if refused := self.find(context_id):
            return refused
        context = self.contexts[context_id]
        known = context.inbound_traffic if context.stage == KEYED else context.outbound_traffic
        same = selectors(traffic)[:3] == selectors(known)[:3]
        if context.stage == KEYED:
            same = selectors(traffic) == selectors(known) and traffic.filter_id == known.filter_id
        refused = set() if same else {TRAFFIC_MISMATCH}
        if context.stage > KEYED or context.tail is not None:
            refused.add(INCOMPATIBLE_SA_STATE)
        return refused

    def keyed(self, context_id: int, traffic: wfpsa.Traffic, spi: int) -> None:
        context = self.contexts[context_id]
        context.inbound_traffic, context.udp = traffic, udp_ports(traffic)
        context.spi, context.stage = spi, KEYED

    def add_half(self, context_id: int, inbound: bool, bundle: wfpsa.SaBundle, *, good: bool) -> Codes:
        """`good`: nothing is wrong with the bundle itself."""
        if refused := self.find(context_id):
            return refused
        context = self.contexts[context_id]
        if context.stage != (KEYED if inbound else INBOUND) or context.tail is not None:
            refused.add(INCOMPATIBLE_SA_STATE)
        elif inbound:
            good = good and bundle.sas[0].spi == context.spi
        else:
            assert context.inbound
            good = good and bundle.qm_sa_id == context.inbound.values["qm_sa_id"]
        if not good:
            refused.add(INVALID_PARAMETER)
        if refused:
            return refused
        self.totals.added += 1
        if inbound:
            traffic = context.inbound_traffic
            context.inbound = half(bundle, self.now, traffic.filter_id, context.udp)
            context.stage = INBOUND
            return set()
        context.outbound = half(bundle, self.now, context.outbound_traffic.filter_id, context.udp)
        context.stage = COMPLETE
        context.unknown = ("filter_id", "udp_local_port", "udp_remote_port") if context.given else ()
        if self.switches["add_event"] == "outbound":
            self.tell(ChangeKind.ADDED, [context_id])
        if self.switches["duplicates"] == "deleted" and not bundle.bundle_flags & SUPPRESS_DUPLICATE_DELETION:
            self.remove_duplicates(context_id)
        return set()

    def remove_duplicates(self, context_id: int) -> None:
        traffic = selectors(self.contexts[context_id].outbound_traffic)
        older = [
            number
            for number, each in self.contexts.items()
            if number != context_id and each.outbound and selectors(each.outbound_traffic) == traffic
        ]
        if older:
            self.remove(*older)
            self.totals.rekeyed += len(older)

    def update(
        self, context_id: int, direction: str, traffic: wfpsa.Traffic | None, values: dict[str, object]
    ) -> Codes:
        if refused := self.find(context_id):
            return refused
        context = self.contexts[context_id]
        there = context.inbound if direction == "inbound" else context.outbound
        if not there:
            return {INCOMPATIBLE_SA_STATE}
        there.values |= values
        if traffic:
            setattr(context, f"{direction}_traffic", traffic)
            there.values["filter_id"] = traffic.filter_id
            there.values["udp_local_port"], there.values["udp_remote_port"] = udp_ports(traffic)
        return set()

    def expire(self, context_id: int) -> Codes:
        if refused := self.find(context_id):
            return refused
        context = self.contexts[context_id]
        if context.tail is not None:
            return {NOT_FOUND} if self.switches["second_expiry"] == "not_found" else set()
        if not context.inbound:
            self.remove(context_id)
            return set()
        if self.switches["delete_event"] == "expiry":
            self.tell(ChangeKind.DELETED, [context_id])
        context.tail = self.now + TAIL_MS
        self.drop_outbound(context)
        return set()

    def drop_outbound(self, context: Context) -> None:
        self.totals.deleted += 1 if context.outbound else 0
        context.outbound = None

    # The clock

    def due(self, context: Context) -> tuple[int | None, int | None]:
        """When its inbound and its outbound SA end by themselves."""
        idle, lifetimes = self.switches["idle"] == "on", self.switches["lifetimes"] == "on"
        inbound = list(context.inbound.ends(idle, lifetimes)) if context.inbound else []
        outbound = list(context.outbound.ends(idle, lifetimes)) if context.outbound else []
        inbound += [context.tail] if context.tail is not None else []
        return min(inbound, default=None), min(outbound, default=None)

    def advance(self, milliseconds: int) -> None:
        self.now += milliseconds
        while True:
            ends = {number: self.due(context) for number, context in self.contexts.items()}
            moments = [moment for both in ends.values() for moment in both if moment is not None]
            moment = min(moments, default=self.now + 1)
            if moment > self.now:
                return
            gone = []
            for number, (inbound, outbound) in ends.items():
                context = self.contexts[number]
                stays = (context.inbound and inbound != moment) or (context.outbound and outbound != moment)
                if moment in (inbound, outbound) and not stays:
                    gone.append(number)
                elif outbound == moment:
                    self.drop_outbound(context)
                elif inbound == moment:
                    self.totals.deleted += 1
                    context.inbound = None
            self.remove(*gone)
