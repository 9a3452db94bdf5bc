"""Engines: which one a target names, and what can be asked of it."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from threading import Lock

from wfpsa import _native
from wfpsa.audit import Auditor, is_wanted
from wfpsa.enums import Outcome
from wfpsa.errors import EngineClosed, EngineUnavailable, SessionAborted
from wfpsa.report import ExpiryReport, interrupted

TYPE_CHECKING = False  # importing typing takes a third of the whole
if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
    from types import TracebackType
    from typing import Any, Self, SupportsIndex, TypeVar

    from typing_extensions import Buffer

    from wfpsa.keying import SaBundle, Traffic
    from wfpsa.mirror import Mirror
    from wfpsa.plan import ExpiryPlan
    from wfpsa.statistics import Statistics
    from wfpsa.subscription import Subscription

    _T = TypeVar("_T")
    Subnet = str | IPv4Network | IPv6Network | IPv4Address | IPv6Address
    Targets = _native.SaBatch | _native.Column[int] | Buffer | Iterable[SupportsIndex | _native.SaContext]

__all__ = ["Engine", "open_engine"]

DEFAULT_PAGE_SIZE = 1024
"""Contexts a call, at first: enough to make the call's own cost small, few enough for a page to stay in a cache."""

_SubnetParts = tuple[int, bytes, int]

_REOPENINGS = 3
"""How often one read may lose its session and begin anew."""


def open_engine(target: str | None = None, *, lock_timeout: float | None = None, reconnect: bool = False) -> Engine:
    """Opens an engine; close it, or use it as a context manager.

    `target` is ``"windows:"``, the Windows Filtering Platform of this machine, or ``"embedded:"``, an engine in memory
    that begins empty: ``"embedded:?contexts=100000&seed=7"`` fills it. ``"embedded:NAME"`` is shared by the process
    under that name; options shape it when it is made, and whoever joins it later finds it as it is. Without a target
    the environment variable WFPSA_ENGINE names it, and without that it is ``"windows:"`` on Windows.

    ``"noop:"`` is an engine that holds nothing and says yes at once, the floor for benchmarks of loops over an engine.

    Options of the embedded engine: `replay`, the path of a batch that `SaBatch.save` wrote (percent-encoded where it
    holds & or %), to hold what was recorded there; `contexts`, `seed` and `odd` (0 or 1: with what no sane engine
    returns) for a population made up; `latency_us` a call and `entry_latency_us` an enumerated entry, `clock`
    (``real`` or ``manual``) and `rights` (``administrator``, ``network_operator``, ``read_only`` or ``everyone``).

    `lock_timeout` is how long, in seconds, a call may wait for the engine's transaction lock: None for the engine's
    default of 15 s, `math.inf` for ever.

    After a restart of the engine's service every session from before is dead, and each call raises SessionAborted.
    With `reconnect` an Engine then opens a new session for calls that only read (snapshot, pages, get, statistics) and
    begins them anew, as a whole; `reconnects` counts that. Calls that change something are never repeated.

    Raises ValueError for a malformed target or recording, OSError for a recording that cannot be read,
    EngineUnavailable where there is no such engine or its service does not run, AccessDenied where this user may not
    open it.
    """
    wait_ms = _lock_wait_ms(lock_timeout)
    if target is None:
        target = os.environ.get("WFPSA_ENGINE") or None
    if target is None:
        if sys.platform != "win32":
            raise EngineUnavailable(
                None,
                None,
                "the Windows Filtering Platform exists on Windows only; "
                'name an engine, as in open_engine("embedded:?contexts=1000"), or set WFPSA_ENGINE',
            )
        target = "windows:"
    if not isinstance(target, str):
        raise TypeError(f"target must be a str, not {type(target).__name__}")
    scheme, name, options = _parse_target(target)
    if scheme != "embedded":
        return Engine(lambda: _native.Session(scheme, wait_ms), target, reconnect=reconnect)
    store = _native.Store(name or None)
    if store.created:
        _shape(store, options)
    return Engine(lambda: _native.Session("embedded", wait_ms, store), target, reconnect=reconnect, clock=store.now)


def _lock_wait_ms(lock_timeout: float | None) -> int:
    """The OS's txnWaitTimeoutInMSec for a timeout in seconds."""
    if lock_timeout is None:
        return 0
    if isinstance(lock_timeout, bool) or not isinstance(lock_timeout, int | float):
        raise TypeError(f"lock_timeout must be a number of seconds or None, not {type(lock_timeout).__name__}")
    if lock_timeout == math.inf:
        return 0xFFFFFFFF
    if not lock_timeout > 0:
        raise ValueError(f"lock_timeout must be above 0 seconds (None for the engine's default), not {lock_timeout}")
    if lock_timeout > 0xFFFFFFFE / 1000:
        raise ValueError(f"lock_timeout must be below {0xFFFFFFFF // 1000} seconds or math.inf, not {lock_timeout}")
    return math.ceil(lock_timeout * 1000)


def _parse_target(target: str) -> tuple[str, str, dict[str, Any]]:
    """Scheme, store name and options of a target."""
    scheme, colon, rest = target.partition(":")
    if not colon or scheme not in ("windows", "embedded", "noop"):
        raise ValueError(f'target must begin with "windows:", "embedded:" or "noop:", not {target!r}')
    if scheme != "embedded":
        if rest:
            raise ValueError(f'the target "{scheme}:" takes nothing after the colon, not {rest!r}')
        return scheme, "", {}
    name, _, query = rest.partition("?")
    if name:
        store_name(name)
    options = {}
    for part in query.split("&") if query else ():
        key, equals, text = part.partition("=")
        if key not in _OPTIONS:
            raise ValueError(f"unknown option {key!r} in target {target!r}; known: {', '.join(_OPTIONS)}")
        if key in options:
            raise ValueError(f"option {key!r} occurs twice in target {target!r}")
        kind, accepted = _OPTIONS[key]
        try:
            if not equals:
                raise ValueError
            options[key] = kind(text)
        except ValueError:
            raise ValueError(f"option {key!r} in target {target!r} must be {accepted}, not {text!r}") from None
    return scheme, name, options


def store_name(name: str) -> str:
    """The name of a shared embedded engine, if it is one."""
    if not (name.isascii() and name.replace("-", "").replace("_", "").isalnum() and len(name) <= 63):
        raise ValueError(f"the name of an embedded engine is 1 to 63 letters, digits, - and _, not {name!r}")
    return name


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) >= 1 << 64:
        raise ValueError
    return int(text)


def _count(text: str) -> int:
    if (number := _whole(text)) > 10_000_000:  # a slip of the keyboard must not exhaust the machine
        raise ValueError
    return number


def _microseconds(text: str) -> int:
    if not 0 <= (value := float(text)) <= 60e6:
        raise ValueError
    return round(value * 1000)


def _flag(text: str) -> bool:
    return bool(("0", "1").index(text))


def _manual(text: str) -> bool:
    return bool(("real", "manual").index(text))


def _path(text: str) -> str:
    from urllib.parse import unquote

    if not text or "\0" in (path := unquote(text, errors="surrogateescape")):
        raise ValueError
    return path


def _rights(text: str) -> str:
    return _native.RIGHTS[_native.RIGHTS.index(text)]


_OPTIONS: dict[str, tuple[Any, str]] = {
    "contexts": (_count, "a number of contexts up to 10000000"),
    "seed": (_whole, "a number"),
    "odd": (_flag, "0 or 1"),
    "replay": (_path, "the path of a saved batch"),
    "latency_us": (_microseconds, "microseconds from 0 to 60000000"),
    "entry_latency_us": (_microseconds, "microseconds from 0 to 60000000"),
    "clock": (_manual, '"real" or "manual"'),
    "rights": (_rights, f"one of {', '.join(_native.RIGHTS)}"),
}


def _shape(store: _native.Store, options: dict[str, Any]) -> None:
    """Makes a new store what the options say."""
    if options.get("clock"):
        store.clock(True)
    store.rights(options.get("rights", "administrator"))
    store.latency(options.get("latency_us", 0), options.get("entry_latency_us", 0))
    if "replay" in options:
        store.replay(_native.SaBatch.load(options["replay"]))
    if options.get("contexts"):
        store.seed(options["contexts"], options.get("seed", 0), options.get("odd", False))


def _subnets(local: Subnet | None, remote: Subnet | None) -> tuple[_SubnetParts | None, _SubnetParts | None]:
    parts = _native.subnet_parts(local, "local"), _native.subnet_parts(remote, "remote")
    if parts[0] and parts[1] and parts[0][0] != parts[1][0]:
        raise ValueError(f"local and remote must be of one address family, not {local!r} and {remote!r}")
    return parts


def _integer(value: SupportsIndex, argument: str, least: int, most: int, meaning: str) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{argument} must be an int, not {type(value).__name__}")
    number = value.__index__()
    if not least <= number <= most:
        raise ValueError(f"{argument} must be {meaning}, not {number}")
    return number


def _context_id(value: SupportsIndex) -> int:
    return _integer(value, "context_id", 0, 2**64 - 1, "0 to 2**64 - 1")


def checked_version(value: SupportsIndex) -> int:
    """The version of the structures to read, if it is one."""
    return _integer(value, "version", 0, 1, "0 (IPSEC_SA_CONTEXT0) or 1 (IPSEC_SA_CONTEXT1)")


def _page_size(value: SupportsIndex | None) -> int:
    """0 lets the C half choose."""
    if value is None:
        return 0
    return _integer(value, "page_size", 1, 2**32 - 1, "1 to 2**32 - 1")


def _flag_argument(value: bool, argument: str) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{argument} must be True or False, not {value!r}")
    return value


def column_mask(fields: Iterable[str] | None, version: int) -> bytes | None:
    """Which columns to read; None for all."""
    return None if fields is None else _native.column_mask(fields, version)


_UPDATE_TRAFFIC = 0x01 | 0x02  # IPSEC_SA_DETAILS_UPDATE_TRAFFIC, IPSEC_SA_DETAILS_UPDATE_UDP_ENCAPSULATION
_UPDATES = {  # IPSEC_SA_BUNDLE_UPDATE_*
    "bundle_flags": 0x04,
    "nap_context": 0x08,
    "key_module": 0x10,
    "peer_private_address": 0x20,
    "mm_sa_id": 0x40,
}


def _checked_traffic(value: Traffic) -> Traffic:
    from wfpsa.keying import Traffic

    if not isinstance(value, Traffic):
        raise TypeError(f"traffic must be a wfpsa.Traffic, not {type(value).__name__}")
    return value


def _checked_bundle(value: SaBundle) -> SaBundle:
    from wfpsa.keying import SaBundle

    if not isinstance(value, SaBundle):
        raise TypeError(f"bundle must be a wfpsa.SaBundle, not {type(value).__name__}")
    return value


class Engine:
    """An open engine: one session of it, which threads may share; calls are served one at a time.

    A context manager, also for `async with`. After `close()` every call raises EngineClosed, as it does in a forked
    child of the process that opened it. Errors of the OS are WfpErrors that name the function and the code.
    """

    def __init__(
        self,
        connect: Callable[[], _native.Session],
        target: str,
        *,
        reconnect: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect: Callable[[], _native.Session] | None = connect  # None once closed
        self._clock = clock
        self._session = connect()
        self._reopening = Lock()
        self._in_transaction: _native.Session | None = None
        self._process = os.getpid()
        self.reconnect = reconnect
        """Whether calls that only read open a new session where theirs is dead."""
        self.reconnects = 0
        """How often they did."""
        self.target = target
        """What the engine was opened with."""

    @property
    def backend(self) -> str:
        """Who answers: "windows", the OS, "embedded", the engine in memory, or "noop", nobody."""
        return self._session.backend

    def reopen(self) -> None:
        """Ends the session and begins a new one, as after SessionAborted: what was open in the old one is closed.

        Raises EngineClosed after `close()` or in a forked child, EngineUnavailable while the service does not run; the
        old session is then still there.
        """
        self._connection()
        with self._reopening:
            self._replace()

    def _connection(self) -> Callable[[], _native.Session]:
        """What opens sessions of this engine; EngineClosed after `close()` and in a forked child."""
        if os.getpid() != self._process:
            raise EngineClosed(message="the engine was opened by another process: open one after the fork")
        connect = self._connect
        if connect is None:
            raise EngineClosed()
        return connect

    def _replace(self) -> None:
        """A new session instead of the present one; called with the lock held."""
        if self._connect is None:
            raise EngineClosed()
        old, self._session = self._session, self._connect()
        with suppress(OSError):  # it is dead: closing it says so once more
            old.close()

    def _revived(self, session: _native.Session, error: OSError) -> bool:
        """Whether a read whose session failed so may begin anew, since there is another session now."""
        if isinstance(error, EngineClosed) and self._session is session:
            return False  # closed for good, or in a forked child
        if self._in_transaction is session:
            return False  # a read of another session would not be one of the transaction's
        with self._reopening:
            if self._session is session:
                try:
                    self._replace()
                except EngineClosed:
                    return False
                self.reconnects += 1
            return self._connect is not None

    def _read(self, operation: Callable[[_native.Session], _T]) -> _T:
        """A call that only reads, begun anew where its session is dead and `reconnect` says so."""
        left = _REOPENINGS if self.reconnect else 0
        while True:
            session = self._session
            try:
                return operation(session)
            except (SessionAborted, EngineClosed) as error:
                if left == 0 and isinstance(error, EngineClosed) and self._connect and self._session is not session:
                    raise SessionAborted(None, None, "another thread has replaced the session") from error
                if left == 0 or not self._revived(session, error):
                    raise
            left -= 1

    def snapshot(
        self,
        *,
        local: Subnet | None = None,
        remote: Subnet | None = None,
        fields: Iterable[str] | None = None,
        version: int = 1,
        page_size: int | None = None,
        prefetch: bool = True,
    ) -> _native.SaBatch:
        """All contexts as one batch.

        `local` and `remote` keep the contexts of which one SA has both addresses in those subnets (text or objects of
        `ipaddress`; both of one family). The engine applies them; where it refuses to, the same filter runs here, and
        `batch.pushed_down` says which. `fields` names the columns to read (`wfpsa.CORE_FIELDS` is a usual choice; None:
        all): the others cost neither time nor memory. `version=0` reads IPSEC_SA_CONTEXT0 structures, which lack some
        columns.

        `page_size` is the number of contexts a call; without it that begins with 1024 and grows up to 8192 while a
        context gets cheaper by it. With `prefetch` a thread in C fetches the next page while one is decoded.

        Raises ValueError or TypeError for bad arguments, AccessDenied, EngineTimeout, SessionAborted, EngineClosed,
        MemoryError. Never returns part of a listing.
        """
        parts = _subnets(local, remote)
        version, size, mask = checked_version(version), _page_size(page_size), column_mask(fields, version)
        ahead = _flag_argument(prefetch, "prefetch")

        def whole(session: _native.Session) -> _native.SaBatch:
            enumeration = session.enumerate(*parts, version, size, mask, ahead)
            try:
                batch = enumeration.read(True)
            except BaseException:
                _close_quietly(enumeration)
                raise
            enumeration.close()
            return batch

        return self._read(whole)

    async def snapshot_async(
        self,
        *,
        local: Subnet | None = None,
        remote: Subnet | None = None,
        fields: Iterable[str] | None = None,
        version: int = 1,
        page_size: int | None = None,
        prefetch: bool = True,
    ) -> _native.SaBatch:
        """What `snapshot` returns or raises, while the event loop goes on: a thread takes it.

        Where the task is cancelled it ends at once, and the snapshot goes on by itself, to be dropped; until it is done
        other calls of this engine wait for it. Raises RuntimeError where no event loop runs.
        """
        from wfpsa.aio import off_loop

        return await off_loop(
            lambda: self.snapshot(
                local=local, remote=remote, fields=fields, version=version, page_size=page_size, prefetch=prefetch
            )
        )

    def pages(
        self,
        *,
        local: Subnet | None = None,
        remote: Subnet | None = None,
        fields: Iterable[str] | None = None,
        version: int = 1,
        page_size: int | None = None,
        prefetch: bool = True,
    ) -> Generator[_native.SaBatch, None, None]:
        """All contexts as batches of at most `page_size`, in memory that does not grow with their number.

        The arguments are those of `snapshot`. The enumeration begins with the first batch asked for, and ends when the
        iterator is exhausted, closed or dropped. An error in the middle is raised: what came before was not all, and a
        session lost by then is not replaced.
        """
        parts = _subnets(local, remote)
        version = checked_version(version)
        ahead = _flag_argument(prefetch, "prefetch")
        return self._pages(parts, version, _page_size(page_size), column_mask(fields, version), ahead)

    def _pages(
        self,
        parts: tuple[_SubnetParts | None, _SubnetParts | None],
        version: int,
        page_size: int,
        mask: bytes | None,
        prefetch: bool,
    ) -> Generator[_native.SaBatch, None, None]:
        def begin(session: _native.Session) -> tuple[_native.Enumeration, _native.SaBatch | None]:
            enumeration = session.enumerate(*parts, version, page_size, mask, prefetch)
            try:
                return enumeration, enumeration.read(False)
            except BaseException:
                _close_quietly(enumeration)
                raise

        enumeration, batch = self._read(begin)
        try:
            while batch is not None:
                yield batch
                batch = enumeration.read(False)
        except BaseException:
            _close_quietly(enumeration)
            raise
        enumeration.close()

    def get(
        self, context_id: SupportsIndex, *, fields: Iterable[str] | None = None, version: int = 1
    ) -> _native.SaContext:
        """The context with that id, of it what `fields` names; NotFound where the engine does not know it any more."""
        number, version = _context_id(context_id), checked_version(version)
        mask = column_mask(fields, version)
        return self._read(lambda session: session.get(number, version, mask))[0]

    def statistics(self) -> Statistics:
        """The engine's counters (IPsecGetStatistics1): of the whole system, not of this session.

        Raises AccessDenied, EngineTimeout, SessionAborted, EngineClosed; WfpError (FWP_E_TXN_IN_PROGRESS) inside a
        transaction.
        """
        from wfpsa.statistics import Statistics

        return Statistics(**self._read(lambda session: session.statistics()))

    def subscribe(
        self, *, local: Subnet | None = None, remote: Subnet | None = None, capacity: int = 65536
    ) -> Subscription:
        """Subscribes to additions and deletions of contexts, those between the given subnets where they are given.

        Up to `capacity` events wait in C for whoever reads them, 16 bytes each; what comes beyond is lost, and shows as
        a `Gap`. After a restart of the service no event comes any more and nothing tells so: whoever waits without a
        timeout waits for ever, while any other call raises SessionAborted.

        Raises AccessDenied, SessionAborted, EngineClosed; ValueError or TypeError for bad arguments.
        """
        parts = _subnets(local, remote)
        room = _integer(capacity, "capacity", 1, 2**28, "1 to 2**28")
        from wfpsa.subscription import Subscription

        return Subscription(self._session.subscribe(*parts, room))

    def mirror(
        self,
        *,
        fields: Iterable[str] | None = None,
        reconcile_every: float | None = 300.0,
        capacity: int = 65536,
        history: int = 16384,
    ) -> Mirror:
        """A live copy of all contexts, with all columns or `fields`, `context_id` among them; close it.

        It has a session of its own, subscribes and lists, and then applies what changes. Every `reconcile_every`
        seconds all contexts are listed again and compared; None: only after events were lost. `capacity` events may
        wait; `history` changes are remembered for `Mirror.changes`.

        Raises ValueError or TypeError for bad arguments; AccessDenied where this user may not subscribe
        (FWPM_ACTRL_SUBSCRIBE), enumerate or read; EngineUnavailable, EngineClosed.
        """
        from wfpsa.mirror import make_mirror

        return make_mirror(self._connection(), self._clock, fields, reconcile_every, capacity, history)

    @contextmanager
    def transaction(self, *, read_only: bool = False) -> Iterator[None]:
        """An explicit transaction around the calls of a `with` block: committed at its end, aborted on an exception.

        It holds the engine's lock, which other sessions wait for: all of them, or with `read_only` those that change
        something. A session has one at most, and in it `create`, `delete`, `subscribe` and `statistics` are refused
        (FWP_E_TXN_IN_PROGRESS). Raises EngineTimeout where the lock cannot be had; whether the OS undoes changes of SA
        contexts on an abort is not documented. A session that is lost in it is not replaced before its end.
        """
        session = self._session
        session.transaction("begin_read_only" if read_only else "begin")
        self._in_transaction = session
        try:
            yield
            session.transaction("commit")
        except BaseException:
            with suppress(OSError):  # a commit that failed may have ended it
                session.transaction("abort")
            raise
        finally:
            if self._in_transaction is session:  # not one that began after a reopen
                self._in_transaction = None

    def expire(
        self,
        targets: Targets,
        *,
        sessions: int = 1,
        max_rate: float | None = None,
        max_failures: int | None = None,
        max_failure_ratio: float | None = None,
        on_progress: Callable[[ExpiryReport], object] | None = None,
        timeout: float | None = None,
        verify: bool = False,
        audit: str | os.PathLike[str] | None = None,
    ) -> ExpiryReport:
        """Expires contexts in mass: their outbound SAs go at once, their inbound SAs about a minute later.

        `targets` is a batch, its `context_id` column, a one-dimensional buffer of native uint64 ids, or an iterable of
        ints and SaContexts. All of it is checked before the first call. The report has an outcome for each target in
        order; a failed call is an outcome, not an exception.

        The other arguments are those of `ExpiryPlan.apply`, which says what they do; it is audited likewise, with null
        for the plan. `verify` needs a batch with the columns `wfpsa.plan.PLAN_FIELDS`. Without any but `audit` nothing
        is tried again, and when the session is lost the rest is NOT_ATTEMPTED; with one of them that is so where the
        targets are no such batch. Only plans have journals.

        Ctrl-C stops it and raises ExpiryInterrupted, whose `report` says how far it came; so does the `report` that is
        put on whatever else a signal handler raises. Raises TypeError or ValueError for targets that are not context
        ids and for bad arguments, EngineClosed, and OSError where the audit file cannot be opened, before the first
        call; OSError, with the `report`, where all is done and the audit file cannot be written.
        """
        items = _native.ExpiryItems(targets)
        report = ExpiryReport(items, targets if isinstance(targets, _native.SaBatch) else None)
        options = (max_rate, max_failures, max_failure_ratio, timeout, on_progress)
        if type(sessions) is not int or sessions != 1 or verify is not False or options != (None,) * 5:
            from wfpsa.plan import at_once

            run = at_once(report, self, (sessions, *options[:4]), verify, on_progress).run
        else:
            run = partial(self._expire, items, report)
        if not is_wanted(audit):
            return run()
        self._own_session()  # raises before anything is begun where it is closed
        nothing = {"plan": None, "reason": None, "resumed": False, "journal": None}
        with Auditor(audit) as auditor:
            return auditor.watch(report, run, lambda: {"engine": self.target, "sessions": sessions, **nothing})

    def _expire(self, items: _native.ExpiryItems, report: ExpiryReport) -> ExpiryReport:
        """Expires without guards, in this session and this thread."""
        began = time.perf_counter()
        try:
            self._session.expire(items)
        except BaseException as error:
            report._finish("interrupted", time.perf_counter() - began)
            if isinstance(error, KeyboardInterrupt):
                raise interrupted(report) from error
            error.report = report  # type: ignore[attr-defined]
            raise
        counts, stopped = items.counts(), None
        if counts.get(Outcome.NOT_ATTEMPTED):
            stopped = "the engine was closed" if self._connect is None else "the session was lost"
        report._finish(stopped, time.perf_counter() - began, counts)
        return report

    def plan_expiry(
        self,
        batch: _native.SaBatch,
        *,
        max_count: int | None = None,
        expect: int | None = None,
        keep_per_peer: int = 0,
        exclude: Targets | None = None,
        reason: str | None = None,
    ) -> ExpiryPlan:
        """A plan to expire the contexts of a batch, to be reviewed, saved and applied; asks the engine for nothing.

        The batch needs the columns of `wfpsa.plan.PLAN_FIELDS` (`CORE_FIELDS` has them). An id that occurs twice is
        kept once. `exclude` names contexts to be spared, as `expire` takes them; `keep_per_peer` spares that many of
        each remote address, those with the highest ids, which is a guess at the newest. With more than `max_count` to
        expire, or not exactly `expect`, the plan says so and cannot be applied. `reason` goes into its summary and its
        file.

        Raises ValueError or TypeError for bad arguments.
        """
        from wfpsa.plan import make_plan

        if not isinstance(batch, _native.SaBatch):
            raise TypeError(f"batch must be a wfpsa.SaBatch, not {type(batch).__name__}")
        for name, value in (("max_count", max_count), ("expect", expect)):
            if value is not None:
                _integer(value, name, 0, 2**63 - 1, "0 or more, or None")
        keep = _integer(keep_per_peer, "keep_per_peer", 0, 2**63 - 1, "0 or more")
        if reason is not None and not isinstance(reason, str):
            raise TypeError(f"reason must be a str or None, not {type(reason).__name__}")
        spared = () if exclude is None else _native.ExpiryItems(exclude).context_id.tolist()
        return make_plan(
            self.target,
            batch,
            max_count=max_count,
            expect=expect,
            keep_per_peer=keep,
            exclude=spared,
            reason=reason,
        )

    def _own_session(self) -> _native.Session:
        """The session of this engine, which closes it itself."""
        self._connection()
        return self._session

    def _another_session(self) -> _native.Session:
        """A new session of the same engine, for the asker to close."""
        return self._connection()()

    def delete(self, context_id: SupportsIndex) -> None:
        """Deletes the context with that id at once, both directions; NotFound where the engine does not know it."""
        self._session.delete(_context_id(context_id))

    # ---- manual keying: create, get an SPI, add the inbound, add the outbound SA ----

    def create(self, traffic: Traffic) -> int:
        """Creates a context for that outbound traffic, without an SA yet; returns its id.

        In transport mode `traffic.filter_id` is the LUID of the outbound filter. Raises AccessDenied; WfpError
        (FWP_E_TXN_IN_PROGRESS) in a transaction.
        """
        return self._session.create(_checked_traffic(traffic))

    def get_spi(self, context_id: SupportsIndex, traffic: Traffic) -> int:
        """The SPI for the inbound SA of a context: uint32, host order.

        `traffic` has the addresses of the outbound traffic and the LUID of the inbound filter. Raises NotFound;
        WfpError (FWP_E_TRAFFIC_MISMATCH for other traffic, FWP_E_INCOMPATIBLE_SA_STATE out of order).
        """
        return self._session.spi(_context_id(context_id), _checked_traffic(traffic), 0)

    def set_spi(self, context_id: SupportsIndex, traffic: Traffic, spi: SupportsIndex) -> None:
        """As `get_spi`, with an SPI of the caller's choice."""
        number = _integer(spi, "spi", 1, 2**32 - 1, "1 to 2**32 - 1")
        self._session.spi(_context_id(context_id), _checked_traffic(traffic), number)

    def add_inbound(self, context_id: SupportsIndex, bundle: SaBundle) -> None:
        """Adds the inbound SA, whose SPI is the one that was got or set.

        Raises NotFound, WfpError (FWP_E_INCOMPATIBLE_SA_STATE out of order, others for a bundle that is refused).
        """
        self._session.add(_context_id(context_id), True, _checked_bundle(bundle))

    def add_outbound(self, context_id: SupportsIndex, bundle: SaBundle) -> None:
        """Adds the outbound SA, with the peer's SPI and the `qm_sa_id` of the inbound one; the context is complete."""
        self._session.add(_context_id(context_id), False, _checked_bundle(bundle))

    def update(
        self,
        context_id: SupportsIndex,
        direction: str,
        *,
        traffic: Traffic | None = None,
        **values: Any,
    ) -> None:
        """Changes an SA in place; `direction` is "inbound" or "outbound".

        What is given changes, the rest stays: `traffic` (its udp ports too), `bundle_flags`, `nap_context`,
        `key_module`, `peer_private_address`, `mm_sa_id`. Raises NotFound; WfpError (FWP_E_INCOMPATIBLE_SA_STATE) where
        the context has no SA in that direction.
        """
        from wfpsa.keying import SaBundle, Traffic

        if direction not in ("inbound", "outbound"):
            raise ValueError(f'direction must be "inbound" or "outbound", not {direction!r}')
        if unknown := set(values) - set(_UPDATES):
            raise TypeError(f"cannot update {', '.join(sorted(unknown))}; known: traffic, {', '.join(_UPDATES)}")
        flags = sum(_UPDATES[name] for name in values) | (_UPDATE_TRAFFIC if traffic is not None else 0)
        shown = Traffic("0.0.0.0", "0.0.0.0") if traffic is None else _checked_traffic(traffic)
        bundle = SaBundle(ip_version=shown.local_address.version, **values)
        self._session.update(_context_id(context_id), flags, direction == "inbound", shown, bundle)

    # ---- the end ----

    def close(self) -> None:
        """Waits for the call in flight and ends the session; again: does nothing."""
        if os.getpid() == self._process:  # in a forked child the lock may be held by a thread that is not there
            with self._reopening:
                self._connect = None
                self._clock = time.monotonic  # and nothing holds the engine any more
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        from wfpsa.aio import off_loop

        await off_loop(self.close)

    def __repr__(self) -> str:
        return f"<Engine {self.target!r}>"


def _close_quietly(enumeration: _native.Enumeration) -> None:
    """Destroys the handle on a path that already has an error to tell."""
    with suppress(OSError):
        enumeration.close()
