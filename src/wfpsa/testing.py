"""Controls of the embedded engine for tests: fill it, move its clock, break it, and see that nothing is left behind."""

import itertools
from types import TracebackType
from typing import Self

from wfpsa import _native
from wfpsa.engine import DEFAULT_PAGE_SIZE, Engine, checked_version, open_engine, store_name

__all__ = ["KEY_MARK", "EmbeddedEngine", "decode_page", "drain", "fail_allocation", "functions", "live_counters"]

KEY_MARK: bytes = _native.KEY_MARK
"""The bytes that fill every key blob of the embedded engine: no output of this package may ever hold them."""

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

    def open(self, *, lock_timeout: float | None = None) -> Engine:
        """A new session of this engine."""
        self._control  # noqa: B018 - a closed one must not come to life again under its name
        return open_engine(self.target, lock_timeout=lock_timeout)

    def seed(self, count: int, seed: int = 0, *, odd: bool = False) -> None:
        """Adds `count` plausible contexts, the same ones for the same numbers in an empty engine.

        With `odd` one in eight has what no sane engine returns: unknown enumeration values, NULL pointers, a numSAs far
        too large.
        """
        self._control.seed(count, seed, odd)

    def __len__(self) -> int:
        """Contexts in the engine, those in their inbound tail included."""
        return len(self._control)

    def stop_clock(self) -> None:
        """From now on only `advance` moves the engine's clock."""
        self._control.clock(True)

    def advance(self, seconds: float) -> None:
        """Moves the engine's clock: an expired context goes after 60 seconds."""
        self._control.advance(round(seconds * 1000))

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


def live_counters() -> dict[str, int]:
    """What is alive in the whole process: stores, engines, enum_handles, pages, allocations of the C half."""
    return _native.live_counters()


def fail_allocation(nth: int) -> None:
    """The nth allocation of the C half from now on fails, once; 0 cancels."""
    _native.fail_allocation(nth)


def functions(backend: str = "embedded") -> dict[str, int]:
    """The OS functions that an engine answers, by name, as addresses for ctypes."""
    return _native.engine_functions(backend)


def decode_page(address: int, count: int, version: int = 1) -> _native.SaBatch:
    """The batch of an array of `count` pointers to IPSEC_SA_CONTEXT0 or 1 in memory; key blobs there become zeros.

    The address is believed: a wrong one crashes the process.
    """
    return _native.decode_page(address, count, checked_version(version))


def drain(engine: Engine, *, version: int = 1, page_size: int = DEFAULT_PAGE_SIZE) -> int:
    """Enumerates everything and frees each page unread, in C; returns the number of contexts.

    The floor that a benchmark measures enumeration against: what remains is the engine's own work.
    """
    return engine._session.drain(checked_version(version), page_size)
