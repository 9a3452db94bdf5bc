"""Plans of mass expiries: which contexts, as they were when they were chosen, and what stands against it."""

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from wfpsa import _native
from wfpsa.audit import Auditor
from wfpsa.enums import Guard, TrafficType
from wfpsa.expiry import Application, Limits, Place
from wfpsa.journal import Journal, Recorded, read
from wfpsa.report import ExpiryReport
from wfpsa.saved import placed

__all__ = ["PLAN_FIELDS", "ExpiryPlan", "make_plan"]

SCHEMA_VERSION = 1
"""Of the files written; files of a later one are refused."""
PLAN_FIELDS = (
    "context_id",
    "traffic_type",
    "local_address",
    "remote_address",
    "spi_out",
    "mm_sa_id_out",
    "filter_id_out",
)
"""What a plan keeps of each context, and compares before it is expired."""
BOOT_TOLERANCE = 120.0
"""Seconds by which the time of one and the same boot may differ: it is the wall clock's time less the uptime."""
SHOWN = 5

_FORMAT = "wfpsa expiry plan"
_ADDRESSES = ("local_address", "remote_address")
_FACTS = ("engine", "backend", "host", "boot_time", "reason", "max_count", "expect", "keep_per_peer", "repeated")
"""What goes into a file as it is."""


def boot_time() -> float:
    """When this machine was started, in seconds since 1970, as far as its clocks can tell."""
    if hasattr(time, "CLOCK_BOOTTIME"):  # Linux, whose monotonic clock stands still while the machine sleeps
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.time() - time.monotonic()


@dataclass(frozen=True, eq=False, repr=False)
class ExpiryPlan:
    """The contexts of a mass expiry, each as it was when the plan was made: data to be reviewed, saved and applied.

    Ids are run-time numbers: after a reboot, or a restart of the service, the same id may be another peer's.
    """

    contexts: _native.SaBatch
    """The contexts, as they were: a batch with the columns `PLAN_FIELDS`, in the order they were given."""
    excluded: frozenset[int]
    """The ids among them that were named as to be spared."""
    kept: frozenset[int]
    """The other ids among them that are spared as the highest of their remote address."""
    engine: str
    """The target of the engine that it was made for."""
    backend: str
    """Who answered."""
    host: str
    """The machine that it was made on."""
    boot_time: float
    """When that machine was started, in seconds since 1970."""
    created: datetime
    """When it was made, in UTC."""
    reason: str | None
    """Why, as its maker said; None where nothing was said."""
    max_count: int | None
    """How many it may expire at most; None: any number."""
    expect: int | None
    """How many it must expire; None: any number."""
    keep_per_peer: int
    """How many contexts of each remote address were spared as the newest."""
    repeated: int
    """How many ids were given again, and kept once."""
    loaded: bool = False
    """Whether it comes from a file."""
    recorded: Recorded | None = None
    """What its journal says, where it is resumed from one."""

    @property
    def skipped(self) -> frozenset[int]:
        """The ids among them that are to be spared, for the one reason or the other."""
        return self.excluded | self.kept

    @property
    def cut_off(self) -> frozenset[int]:
        """The ids that an earlier run was about to call when it was cut off, without a note of what became of them."""
        if self.recorded is None:
            return frozenset()
        ids = self.contexts["context_id"]
        return frozenset(ids[row] for row in self.recorded.cut_off)

    @property
    def left(self) -> int:
        """How many contexts have no outcome in its journal; all, spared ones too, where it is not resumed."""
        if self.recorded is None:
            return len(self.contexts)
        return sum(stop - first for first, stop in self.recorded.left)

    def __len__(self) -> int:
        """How many contexts it would expire: those that are not skipped."""
        return len(self.contexts) - len(self.skipped)

    @property
    def objections(self) -> tuple[str, ...]:
        """Which of its guards would stop it, in words; empty where it may be applied."""
        found = []
        if self.expect is not None and len(self) != self.expect:
            found.append(f"{len(self)} contexts, where {self.expect} were expected")
        if self.max_count is not None and len(self) > self.max_count:
            found.append(f"{len(self)} contexts, where at most {self.max_count} are allowed")
        return tuple(found)

    @property
    def peers(self) -> list[tuple[IPv4Address | IPv6Address | None, int]]:
        """(remote address, contexts) of those it would expire, the most first."""
        counted = self._expired_ones().count_by("remote_address", prefix=(32, 128))
        return [(None if network is None else network.network_address, count) for network, count in counted]

    @property
    def types(self) -> list[tuple[TrafficType | int | None, int]]:
        """(traffic type, contexts) of those it would expire, the most first."""
        found: list[tuple[TrafficType | int | None, int]] = self._expired_ones().count_by("traffic_type")
        return found

    def _expired_ones(self) -> _native.SaBatch:
        skipped = self.skipped
        if not skipped:
            return self.contexts
        ids = self.contexts["context_id"]
        return self.contexts.take([row for row, number in enumerate(ids) if number not in skipped])

    def __str__(self) -> str:
        """A summary to be read before it is applied."""
        lines = [
            f"expire {_contexts(len(self))} of {self.engine} on {self.host}",
            f"planned {self.created.isoformat(timespec='seconds')}, the machine having been started "
            f"{datetime.fromtimestamp(self.boot_time, UTC).isoformat(timespec='seconds')}",
        ]
        if self.reason is not None:
            lines.append(f"reason: {self.reason}")
        peers = self.peers
        for address, count in peers[:SHOWN]:
            lines.append(f"  {'no address' if address is None else address}: {count}")
        if len(peers) > SHOWN:
            lines.append(f"  {len(peers) - SHOWN} other peers: {sum(count for _, count in peers[SHOWN:])}")
        types = [f"{getattr(kind, 'name', kind) or 'no type'} {count}" for kind, count in self.types]
        lines.append(f"types: {', '.join(types) or '-'}")
        if self.excluded:
            lines.append(f"spared: {_contexts(len(self.excluded))} by name")
        if self.keep_per_peer:
            lines.append(
                f"spared: {_contexts(len(self.kept))}, of each peer the {self.keep_per_peer} with the highest id, "
                "which is a guess at the newest"
            )
        if self.repeated:
            lines.append(f"ids given again, and kept once: {self.repeated}")
        if self.recorded is not None:
            lines.append(
                f"begun before: {_contexts(len(self.contexts) - self.left)} with an outcome, "
                f"{len(self.recorded.cut_off)} cut off, {self.left} left"
            )
        lines += [f"STOPPED by a guard: {objection}" for objection in self.objections]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<ExpiryPlan of {_contexts(len(self))} of {self.engine}>"

    def apply(
        self,
        engine: Place,
        *,
        sessions: int = 1,
        max_rate: float | None = None,
        max_failures: int | None = None,
        max_failure_ratio: float | None = None,
        journal: str | os.PathLike[str] | None = None,
        on_progress: Callable[[ExpiryReport], object] | None = None,
        timeout: float | None = None,
        verify: bool = True,
        audit: str | os.PathLike[str] | None = None,
    ) -> ExpiryReport:
        """Expires the contexts of the plan that are not skipped, and reports what became of each, in the plan's order.

        With `verify` each context is read by its id just before and left alone (CHANGED) where its remote address,
        type, outbound SPI, main-mode SA or filter is not what the plan saw; a plan that was loaded is never applied
        without. Between that look and the call the OS offers no way to hold a context still.

        `sessions` of the engine work in parallel, the given one among them, in C. `max_rate` is in contexts a second
        over all of them. It stops, and leaves the rest NOT_ATTEMPTED, once more than `max_failures` or more than
        `max_failure_ratio` of those attempted (0 to 1, looked at from 20 on) were DENIED or FAILED, after `timeout`
        seconds, when `report.cancel()` is called (from another thread or in `on_progress`, which gets the report a few
        times a second), and with Ctrl-C, which raises ExpiryInterrupted with the report. A call that timed out at
        the engine's lock, or whose session was lost, is tried again up to three times, in a new session where need be;
        once a session was lost contexts are verified, whatever was asked for. `report.attempts` counts the attempts.

        `journal` is the path of a new file, in which contexts are recorded, on the disk, before they are called, and
        what became of them after: `ExpiryPlan.resume` goes on from there after a crash. A resumed plan goes on in its
        own. Where it cannot be written, because the disk is full, nothing more is called.

        `audit`, or the environment variable WFPSA_AUDIT, is the path of a file to which one line of JSON is appended at
        the end, and the logger ``wfpsa.audit`` gets the same: who, when, host, engine, the plan's checksum, counts.

        Raises ValueError for a plan that its guards stop, that was made on another host or before the last boot, or for
        another engine, and for bad arguments; FileExistsError where the journal exists, OSError where it or the audit
        file cannot be begun or another run is at work with the journal, EngineClosed; OSError, with the `report`, where
        all is done and the audit file cannot be written.
        """
        limits = Limits.checked(sessions, max_rate, max_failures, max_failure_ratio, timeout)
        _check(verify, on_progress)
        if self.loaded and not verify:
            raise ValueError("a plan that was loaded or resumed is applied with verify=True only")
        self.check(engine)
        engine._own_session()  # raises before anything is begun where it is closed
        with ExitStack() as ends:
            auditor = ends.enter_context(Auditor(audit))
            kept = self._begun_journal(journal)
            if kept is not None:
                ends.callback(kept.close)
            report = self._report()
            left = None if self.recorded is None else self.recorded.left
            work = Application(
                report,
                engine,
                limits,
                seen=self.contexts,
                verify=verify,
                on_progress=on_progress,
                journal=kept,
                left=left,
            )
            return auditor.watch(report, work.run, lambda: self._audited(engine, limits, kept))

    def _begun_journal(self, path: str | os.PathLike[str] | None) -> Journal | None:
        if self.recorded is not None:
            if path is not None and os.path.realpath(path) != self.recorded.path:
                raise ValueError(f"a resumed plan goes on in its own journal, {self.recorded.path!r}")
            return Journal.go_on(self.recorded)
        if path is None:
            return None
        try:
            return Journal.begin(path, self._document())
        except FileExistsError as error:
            message = "the journal exists; ExpiryPlan.resume goes on with one"
            raise FileExistsError(error.errno, message, os.fspath(path)) from None

    def _report(self) -> ExpiryReport:
        """The report at the start: what is spared, and what a journal says."""
        items = _native.ExpiryItems(self.contexts)
        if self.skipped:
            guards = dict.fromkeys(self.kept, Guard.KEEP_PER_PEER) | dict.fromkeys(self.excluded, Guard.EXCLUDE)
            items.spare(bytes(guards.get(number, 0) for number in self.contexts["context_id"]))
        if self.recorded is not None:
            items.restore(0, bytes(self.recorded.outcomes), bytes(self.recorded.codes), bytes(self.recorded.attempts))
        return ExpiryReport(items, self.contexts, self.cut_off)

    def _audited(self, engine: Place, limits: Limits, journal: Journal | None) -> dict[str, Any]:
        """What an audit says beside the report."""
        return {
            "engine": engine.target,
            "plan": self.checksum,
            "reason": self.reason,
            "sessions": limits.sessions,
            "resumed": self.recorded is not None,
            "journal": None if journal is None else journal.path,
        }

    def check(self, engine: Place) -> None:
        """Raises ValueError, saying why, where it may not be applied to that engine, here and now."""
        if self.objections:
            raise ValueError(f"the plan may not be applied: {'; '.join(self.objections)}")
        if self.host != platform.node():
            raise ValueError(f"the plan was made on the host {self.host!r}, this is {platform.node()!r}")
        if abs(self.boot_time - boot_time()) > BOOT_TOLERANCE:
            raise ValueError("the plan was made before this machine was last started: its ids mean nothing any more")
        if self.engine != engine.target:
            raise ValueError(f"the plan was made for {self.engine!r}, not for {engine.target!r}")

    # ---- as a file ----

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Writes it as JSON with a schema version and a checksum, whole or not at all.

        Raises FileExistsError where there is a file, without `overwrite`.
        """
        if not isinstance(overwrite, bool):
            raise TypeError(f"overwrite must be True or False, not {overwrite!r}")
        text = json.dumps(self._document(), indent=1, sort_keys=True) + "\n"
        with placed(os.path.realpath(path), overwrite) as file:
            file.write(text.encode())

    @staticmethod
    def load(path: str | os.PathLike[str], *, max_age: float | None = None) -> "ExpiryPlan":
        """The plan that was saved there.

        Raises ValueError for a file that is no plan, was changed, has a later schema, or is older than `max_age`
        seconds.
        """
        with open(path, encoding="utf-8") as file:
            try:
                document = json.load(file)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{os.fspath(path)!r} is no plan: {error}") from error
        try:
            plan = _plan_of(document)
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"{os.fspath(path)!r} is no plan: {type(error).__name__} {error}") from error
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)!r} is no plan: {error}") from error
        _check_age(plan, max_age)
        return plan

    @staticmethod
    def resume(journal: str | os.PathLike[str], *, max_age: float | None = None) -> "ExpiryPlan":
        """The plan of a journal, to go on with what has no outcome there: `apply` attempts only that, and reports all.

        `cut_off` are the ids that were about to be called when the run before was cut off; they are attempted again,
        as every context is, only if they still are what the plan saw. A torn last record is what a crash leaves; it is
        recognised, and goes when the plan is applied.

        Raises ValueError for a file that is no journal, was changed, has a later schema, or whose plan is older than
        `max_age` seconds.
        """
        recorded = read(journal)
        try:
            plan = _plan_of(recorded.plan)
        except (KeyError, TypeError, OverflowError, ValueError) as error:
            raise ValueError(f"the plan in {os.fspath(journal)!r} is none: {type(error).__name__} {error}") from error
        _check_age(plan, max_age)
        spared = plan.skipped
        ids = plan.contexts["context_id"]
        for row in [row for row in recorded.cut_off if ids[row] in spared]:  # nobody was about to call these
            recorded.cut_off -= {row}
            recorded.attempts[row] = 0
        return replace(plan, recorded=recorded)

    @property
    def checksum(self) -> str:
        """SHA-256 of all that it says, in hexadecimal."""
        return str(self._document()["checksum"])

    def _document(self) -> dict[str, Any]:
        whole, presence = _native.batch_and_presence(self.contexts)
        columns: dict[str, list[Any]] = {
            name: memoryview(whole[name]).tolist() for name in PLAN_FIELDS if name not in _ADDRESSES
        }
        for name in _ADDRESSES:
            addresses = bytes(whole[name])
            columns[name] = [addresses[at : at + 16].hex() for at in range(0, len(addresses), 16)]
        document = {
            "format": _FORMAT,
            "schema_version": SCHEMA_VERSION,
            **{name: getattr(self, name) for name in _FACTS},
            "created": self.created.isoformat(),
            "excluded": sorted(self.excluded),
            "kept": sorted(self.kept),
            "contexts": {**columns, "presence": list(presence)},
        }
        return {**document, "checksum": _checksum(document)}


def _checksum(document: Mapping[str, Any]) -> str:
    said = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(said.encode()).hexdigest()


def _contexts(count: int) -> str:
    return f"{count:,} context{'' if count == 1 else 's'}"


def _plan_of(document: Any) -> ExpiryPlan:
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise ValueError("it does not say that it is one")
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ValueError(f"its schema version is {version!r}, this wfpsa reads {SCHEMA_VERSION}")
    said = document.pop("checksum", None)
    if said != _checksum(document):
        raise ValueError("its checksum is wrong: it was changed, or is not whole")
    columns = document["contexts"]
    presence = bytes(columns["presence"])
    cells = {name: b"".join(bytes.fromhex(text) for text in columns[name]) for name in _ADDRESSES}
    widths = {info["name"]: info["width"] for info in _native.column_info()}
    for name in PLAN_FIELDS:
        if name not in _ADDRESSES:
            cells[name] = b"".join(value.to_bytes(widths[name], sys.byteorder) for value in columns[name])
    batch = _native.unpickled_batch(1, len(presence), cells, presence, (), document["backend"], None)
    facts = {name: document[name] for name in _FACTS}
    created = datetime.fromisoformat(document["created"])
    excluded, kept = frozenset(document["excluded"]), frozenset(document["kept"])
    return ExpiryPlan(batch, excluded, kept, created=created, loaded=True, **facts)


def make_plan(
    target: str,
    batch: _native.SaBatch,
    *,
    max_count: int | None,
    expect: int | None,
    keep_per_peer: int,
    exclude: Iterable[int],
    reason: str | None,
) -> ExpiryPlan:
    """What Engine.plan_expiry does once its arguments are checked; `exclude` are ids."""
    missing = [name for name in PLAN_FIELDS if name not in batch.columns]
    if missing:
        raise ValueError(f"the batch lacks {', '.join(missing)}, without which a plan cannot be verified")
    ids = batch["context_id"].tolist()
    repeated = 0
    if len(set(ids)) != len(ids):
        first = {number: row for row, number in reversed(list(enumerate(ids)))}
        repeated = len(ids) - len(first)
        batch = batch.take(sorted(first.values()))
        ids = batch["context_id"].tolist()
    excluded = frozenset(exclude).intersection(ids)
    kept: frozenset[int] = frozenset()
    if keep_per_peer:
        kept = _native.highest_of_each(batch, "remote_address", ids, keep_per_peer, excluded)
    return ExpiryPlan(
        _native.with_columns(batch, PLAN_FIELDS),
        excluded,
        kept,
        engine=target,
        backend=batch.backend,
        host=platform.node(),
        boot_time=boot_time(),
        created=datetime.now(UTC),
        reason=reason,
        max_count=max_count,
        expect=expect,
        keep_per_peer=keep_per_peer,
        repeated=repeated,
    )


def at_once(
    report: ExpiryReport,
    engine: Place,
    options: tuple[int, float | None, int | None, float | None, float | None],
    verify: bool,
    on_progress: Callable[[ExpiryReport], object] | None,
) -> Application:
    """What Engine.expire runs where it is given more than targets; the report has their batch, if they are one."""
    limits = Limits.checked(*options)
    _check(verify, on_progress)
    batch = report._contexts
    missing = [name for name in PLAN_FIELDS if batch is None or name not in batch.columns]
    if verify and missing:
        raise ValueError(f"verify needs a batch of contexts as targets, with the columns {', '.join(PLAN_FIELDS)}")
    seen = None if batch is None or missing else _native.with_columns(batch, PLAN_FIELDS)
    return Application(report, engine, limits, seen=seen, verify=verify, on_progress=on_progress)


def _check(verify: bool, on_progress: Callable[[ExpiryReport], object] | None) -> None:
    if not isinstance(verify, bool):
        raise TypeError(f"verify must be True or False, not {verify!r}")
    if on_progress is not None and not callable(on_progress):
        raise TypeError(f"on_progress must be a function or None, not {type(on_progress).__name__}")


def _check_age(plan: ExpiryPlan, max_age: float | None) -> None:
    age = (datetime.now(UTC) - plan.created).total_seconds()
    if max_age is not None and not age <= max_age:
        raise ValueError(f"the plan is {age:.0f} s old, and at most {max_age:g} s are allowed")
