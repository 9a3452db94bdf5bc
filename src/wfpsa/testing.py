"""Controls of the embedded engine for tests: fill it, move its clock, break it, and see that nothing is left behind."""

import itertools
import math
import os
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from types import TracebackType
from typing import Self, SupportsIndex

from wfpsa import _native
from wfpsa.engine import DEFAULT_PAGE_SIZE, Engine, checked_version, column_mask, open_engine, store_name
from wfpsa.errors import failure
from wfpsa.keying import Sa, SaBundle, Traffic

__all__ = [
    "KEY_MARK",
    "SWITCHES",
    "EmbeddedEngine",
    "decode_page",
    "drain",
    "fail_allocation",
    "functions",
    "live_counters",
    "page_bytes",
    "take_misuses",
]

KEY_MARK: bytes = _native.KEY_MARK
"""The bytes that fill every key blob of the embedded engine: no output of this package may ever hold them."""

SWITCHES: dict[str, tuple[tuple[str, ...], str]] = _native.switches()
"""What the OS does not document, and how the embedded engine may behave: {name: (choices, meaning)}, the first choice
being the default. `EmbeddedEngine.switch` sets them."""

_numbers = itertools.count(1)


class EmbeddedEngine:
    """An embedded engine under a test's control; `open()` gives the Engine that the tested code uses.

    It lives until `close()`, or the end of the `with` block, and until every Engine opened on it is closed.
    """

    def __init__(self, name: str | None = None) -> None:
        """Makes or joins the store of that name, or of a new one."""
        self._name = f"testing-{next(_numbers)}" if name is None else store_name(name)
        self._store: _native.Store | None = _native.Store(self._name)

    @property
    def target(self) -> str:
        """What to give to `wfpsa.open_engine` or the command line's --engine, in this process."""
        return f"embedded:{self._name}"

    @property
    def server_name(self) -> str:
        """The store's name, as FwpmEngineOpen0 of the embedded engine takes it for serverName."""
        return self._name

    @property
    def _control(self) -> _native.Store:
        if self._store is None:
            raise ValueError("this embedded engine was closed")
        return self._store

    def open(self, *, lock_timeout: float | None = None, reconnect: bool = False) -> Engine:
        """A new session of this engine."""
        self._control  # noqa: B018 - a closed one must not come to life again under its name
        return open_engine(self.target, lock_timeout=lock_timeout, reconnect=reconnect)

    def seed(self, count: int, seed: int = 0, *, odd: bool = False, full: bool = False) -> None:
        """Adds `count` plausible contexts, the same ones for the same numbers in an empty engine.

        With `odd` one in eight has what no sane engine returns: unknown enumeration values, NULL pointers, a numSAs far
        too large. With `full` all have both SAs and every structure that there is.
        """
        if odd and full:
            raise ValueError("odd and full exclude each other")
        self._control.seed(count, seed, 2 if full else int(odd))

    def add(
        self,
        local: str | IPv4Address | IPv6Address = "10.0.0.1",
        remote: str | IPv4Address | IPv6Address = "10.0.0.2",
        *,
        traffic: Traffic | None = None,
        inbound: SaBundle | bool | None = True,
        outbound: SaBundle | bool | None = True,
        context_id: SupportsIndex | None = None,
    ) -> int:
        """Adds one context and returns its id: between two addresses, or for any `traffic`.

        `inbound` and `outbound` are its SAs: an SaBundle, None for none, True for a plausible one; without either there
        is nothing that would show the traffic. A `context_id` that
        is taken is refused (FWP_E_ALREADY_EXISTS); without one it gets a new one.
        """
        if traffic is None:
            traffic = Traffic(local, remote)
        if not isinstance(traffic, Traffic):
            raise TypeError(f"traffic must be a wfpsa.Traffic or None, not {type(traffic).__name__}")
        for name, given in (("inbound", inbound), ("outbound", outbound)):
            if not isinstance(given, SaBundle | bool | None):
                raise TypeError(f"{name} must be a wfpsa.SaBundle, a bool or None, not {type(given).__name__}")
        number = 0
        if context_id is not None:
            if isinstance(context_id, bool) or not isinstance(context_id, SupportsIndex):
                raise TypeError(f"context_id must be an int or None, not {type(context_id).__name__}")
            number = context_id.__index__()
            if not 1 <= number < 1 << 64:
                raise ValueError(f"context_id must be 1 to 2**64 - 1, not {number}")
        pair = next(_numbers)
        sides = [
            _plausible(traffic, pair, side) if given is True else (given or None)
            for side, given in enumerate((inbound, outbound))
        ]
        code, made = self._control.add(number, traffic, *sides)
        if code:
            raise failure(code, "EmbeddedEngine.add")
        return made

    def replay(self, recording: _native.SaBatch | str | os.PathLike[str]) -> None:
        """Adds every context of a batch, or of the file that `SaBatch.save` wrote, under its own id and as it was.

        A snapshot then shows in each of the batch's columns what the batch does: unknown values, one-sided and
        half-built contexts too. What columns do not hold (keys, tokens, how the two directions' traffic differs)
        becomes what is usual, a column that the batch lacks is as if it were 0 or absent, and lifetimes begin anew.
        All contexts are added, or on an error none. Raises ValueError for a batch without the column context_id, for an
        id that is in the engine already or twice in the batch, and for what `SaBatch.load` refuses.
        """
        batch = recording if isinstance(recording, _native.SaBatch) else _native.SaBatch.load(recording)
        self._control.replay(batch)

    def churn(self, rate: int, seed: int = 0) -> None:
        """From now on `rate` contexts a second of the engine's clock come, and as many go; 0 ends it."""
        self._control.churn(rate, seed)

    def __len__(self) -> int:
        """Contexts in the engine, those in their inbound tail included."""
        return len(self._control)

    def stop_clock(self) -> None:
        """From now on only `advance` moves the engine's clock."""
        self._control.clock(True)

    def start_clock(self) -> None:
        """The engine's clock follows real time again, from where it stands."""
        self._control.clock(False)

    def advance(self, seconds: float) -> None:
        """Moves the engine's clock: an expired context goes after 60 seconds, an SA with the end of its lifetime."""
        if not 0 <= seconds < math.inf:
            raise ValueError(f"seconds must be 0 or more, not {seconds}")
        self._control.advance(round(seconds * 1000))

    def switch(self, **choices: str) -> None:
        """Chooses among what the OS does not document; `SWITCHES` has the names and choices."""
        for name, choice in choices.items():
            if name not in SWITCHES:
                raise ValueError(f"unknown switch {name!r}; known: {', '.join(SWITCHES)}")
            if choice not in SWITCHES[name][0]:
                raise ValueError(f"switch {name} must be one of {', '.join(SWITCHES[name][0])}, not {choice!r}")
        for name, choice in choices.items():
            self._control.switch(name, choice)

    def stop_service(self, code: int = 1722) -> None:
        """Stops the service: opening gives EngineUnavailable, and every call of an open engine that code."""
        if code == 0:
            raise ValueError("code must be that of a failure, not 0")
        self._control.stop(code)

    def start_service(self) -> None:
        """Starts it again: engines from before raise SessionAborted for ever.

        Contexts are lost (`switch(contexts_after_restart="kept")` keeps them), and no context keeps its id
        (`switch(ids_after_restart="reused")` gives old ids to others).
        """
        self._control.start()

    def restart_service(self) -> None:
        """Stops the service and starts it again."""
        self.stop_service()
        self.start_service()

    def notifications(self, *, capacity: int = 65536, held: bool = False) -> None:
        """How many events wait for a subscription made from now on before some are lost; `held` delivers none."""
        self._control.notifications(capacity, held)

    def fail(self, function: str, nth: int = 1, code: int = 0x80320012) -> None:
        """The nth call from now of that OS function (``"IPsecSaContextEnum1"``) fails with the code; 0 cancels."""
        self._control.fail(function, nth, code)

    def latency(self, *, per_call_us: float = 0, per_entry_us: float = 0) -> None:
        """What each call, and each entry of an enumeration, takes longer."""
        self._control.latency(round(per_call_us * 1000), round(per_entry_us * 1000))

    def rights(self, profile: str) -> None:
        """Who the sessions opened from now on are: administrator, network_operator, read_only or everyone."""
        if profile not in _native.RIGHTS:
            raise ValueError(f"profile must be one of {', '.join(_native.RIGHTS)}, not {profile!r}")
        self._control.rights(profile)

    def close(self) -> None:
        """Lets go of the engine; again: does nothing."""
        self._store = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _plausible(traffic: Traffic, pair: int, side: int) -> SaBundle:
    """SAs for one side of an added context: side 0 is the inbound one."""
    sa = Sa(spi=0x10000 + pair * 2 + side, auth_key=bytes(20), cipher_key=bytes(16))
    return SaBundle(sas=(sa,), qm_sa_id=pair, mm_sa_id=pair, ip_version=traffic.local_address.version)


def live_counters() -> dict[str, int]:
    """What is alive in the whole process: stores, engines, enum_handles, pages, subscriptions, transactions, and
    allocations of the C half; and misuses, the wrong uses of the OS's functions seen since `take_misuses`."""
    return _native.live_counters()


def take_misuses() -> list[tuple[str, str, int]]:
    """(OS function, what was wrong, how often) of each kind of wrong use since the last time, and forgets them.

    Wrong are a result freed twice, foreign to the engine or written to after it was freed, a handle that is closed or
    another session's, and waiting inside a callback for its own end.
    """
    return _native.take_misuses()


def fail_allocation(nth: int) -> None:
    """The nth allocation of the C half from now on fails, once; 0 cancels."""
    _native.fail_allocation(nth)


def functions(backend: str = "embedded") -> dict[str, int]:
    """The OS functions that an engine ("embedded", "noop", on Windows "windows") answers, by name, as addresses for
    ctypes."""
    return _native.engine_functions(backend)


def decode_page(address: int, count: int, version: int = 1, *, fields: Iterable[str] | None = None) -> _native.SaBatch:
    """The batch of an array of `count` pointers to IPSEC_SA_CONTEXT0 or 1 in memory; key blobs there become zeros.

    `fields` are the columns to read, None for all. The address is believed: a wrong one crashes the process.
    """
    version = checked_version(version)
    return _native.decode_page(address, count, version, column_mask(fields, version))


def page_bytes(address: int) -> int:
    """Bytes of the page at that address, with all that it points to; it must be the embedded engine's and not freed."""
    return _native.page_bytes(address)


def drain(engine: Engine, *, version: int = 1, page_size: int = DEFAULT_PAGE_SIZE) -> int:
    """Enumerates everything and frees each page unread, in C; returns the number of contexts.

    The floor that a benchmark measures enumeration against: what remains is the engine's own work.
    """
    return engine._session.drain(checked_version(version), page_size)
