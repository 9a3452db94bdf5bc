"""The embedded engine inside fwpuclnt.dll: its controls, and the suite turned to the `windows:` backend."""

import ctypes
import threading
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_uint32, c_uint64, c_void_p, c_wchar_p
from types import SimpleNamespace

import wfpsa.engine
from wfpsa import SaBatch, SaBundle, Traffic, _native, testing


class _Live(ctypes.Structure):
    """struct wfpsa_live."""

    _fields_ = [
        (name, c_int64)
        for name in [
            "stores",
            "engines",
            "enum_handles",
            "pages",
            "subscriptions",
            "transactions",
            "allocations",
            "misuses",
        ]
    ]


def _load() -> ctypes.CDLL:
    """The DLL that the extension's import table led to, with the prototypes of include/wfpsa/embedded.h."""
    dll = ctypes.CDLL("fwpuclnt")
    for name, result, *arguments in (
        ("wfpsa_store_open", c_void_p, c_wchar_p, POINTER(c_int)),
        ("wfpsa_store_release", None, c_void_p),
        ("wfpsa_store_name", c_wchar_p, c_void_p),
        ("wfpsa_store_seed", c_int, c_void_p, c_uint64, c_uint64, c_int),
        ("wfpsa_store_count", c_uint64, c_void_p),
        ("wfpsa_store_clock", None, c_void_p, c_int),
        ("wfpsa_store_advance", None, c_void_p, c_uint64),
        ("wfpsa_store_now", c_uint64, c_void_p),
        ("wfpsa_store_latency", None, c_void_p, c_uint64, c_uint64),
        ("wfpsa_store_rights", None, c_void_p, c_int),
        ("wfpsa_store_fail", c_int, c_void_p, c_char_p, c_uint64, c_uint32),
        ("wfpsa_store_churn", c_int, c_void_p, c_uint64, c_uint64),
        ("wfpsa_store_stop", None, c_void_p, c_uint32),
        ("wfpsa_store_start", None, c_void_p),
        ("wfpsa_store_notifications", None, c_void_p, c_uint32, c_int),
        ("wfpsa_store_switch", c_int, c_void_p, c_char_p, c_char_p),
        ("wfpsa_embedded_misuse", c_int, c_uint32, POINTER(c_char_p), POINTER(c_char_p), POINTER(c_int64)),
        ("wfpsa_embedded_forget_misuses", None),
        ("wfpsa_embedded_live", None, POINTER(_Live)),
        ("wfpsa_embedded_fail_allocation", None, c_uint64),
        ("wfpsa_dll_default_store", None, c_wchar_p),
    ):
        function = getattr(dll, name)
        function.restype, function.argtypes = result, arguments
    return dll


def _unsigned(value: int, bits: int = 64) -> int:
    """The number, which ctypes would wrap silently."""
    if not 0 <= value < 1 << bits:
        raise OverflowError(f"{value} does not fit into {bits} bits")
    return value


class Store:
    """What _native.Store is for the engine in the extension."""

    dll: ctypes.CDLL

    def __init__(self, name: str | None = None) -> None:
        if name is not None and not 1 <= len(name) <= 63:
            raise ValueError(f"a store's name has 1 to 63 characters, not {name!r}")
        created = c_int()
        self._store = self.dll.wfpsa_store_open(name, byref(created))
        if not self._store:
            raise MemoryError("no memory for a store")
        self.created = bool(created.value)

    def __del__(self) -> None:
        if getattr(self, "_store", None):
            self.dll.wfpsa_store_release(self._store)

    @property
    def name(self) -> str:
        return self.dll.wfpsa_store_name(self._store)

    def __len__(self) -> int:
        return self.dll.wfpsa_store_count(self._store)

    def seed(self, count: int, seed: int, population: int) -> None:
        if not self.dll.wfpsa_store_seed(self._store, _unsigned(count), _unsigned(seed), population):
            raise MemoryError(f"no memory for {count} contexts")

    def add(
        self, context_id: int, traffic: Traffic, inbound: SaBundle | None, outbound: SaBundle | None
    ) -> tuple[int, int]:
        adder = ctypes.cast(self.dll.wfpsa_store_add, c_void_p).value or 0
        return _native.add_context(adder, self._store, context_id, traffic, inbound, outbound)

    def replay(self, batch: SaBatch) -> None:
        replayer = ctypes.cast(self.dll.wfpsa_store_replay, c_void_p).value or 0
        _native.replay_into(replayer, self._store, batch)

    def churn(self, per_second: int, seed: int) -> None:
        if not self.dll.wfpsa_store_churn(self._store, _unsigned(per_second), _unsigned(seed)):
            raise MemoryError("no memory for a population")

    def stop(self, code: int) -> None:
        self.dll.wfpsa_store_stop(self._store, _unsigned(code, 32))

    def start(self) -> None:
        self.dll.wfpsa_store_start(self._store)

    def notifications(self, capacity: int, held: bool) -> None:
        self.dll.wfpsa_store_notifications(self._store, _unsigned(capacity, 32), held)

    def switch(self, name: str, choice: str) -> bool:
        return bool(self.dll.wfpsa_store_switch(self._store, name.encode(), choice.encode()))

    def clock(self, manual: bool) -> None:
        self.dll.wfpsa_store_clock(self._store, manual)

    def advance(self, milliseconds: int) -> None:
        self.dll.wfpsa_store_advance(self._store, _unsigned(milliseconds))

    def now(self) -> float:
        return self.dll.wfpsa_store_now(self._store) / 1000

    def latency(self, per_call_ns: int, per_entry_ns: int) -> None:
        self.dll.wfpsa_store_latency(self._store, _unsigned(per_call_ns), _unsigned(per_entry_ns))

    def rights(self, profile: str) -> None:
        self.dll.wfpsa_store_rights(self._store, _native.RIGHTS.index(profile))

    def fail(self, function: str, nth: int, code: int) -> None:
        if not self.dll.wfpsa_store_fail(self._store, function.encode(), _unsigned(nth), _unsigned(code, 32)):
            raise ValueError(f"function must be one of the engine table's, not {function!r}")


def default_store(name: str | None) -> None:
    """The store that `windows:` opens from now on; None: the one called "default"."""
    Store.dll.wfpsa_dll_default_store(name)


def load() -> None:
    """Makes Store usable; OSError where the fwpuclnt.dll of this process is not the embedded engine's."""
    try:
        Store.dll = _load()
    except AttributeError as error:
        raise OSError(f"this fwpuclnt.dll is not the one that tools/windows/build.py makes: {error}") from None


def take_over() -> None:
    """From now on what opens an `embedded:` target in this process opens `windows:` over a store in the DLL."""
    load()
    one_at_a_time = threading.Lock()

    def session(backend: str, lock_wait_ms: int = 0, store: Store | None = None) -> _native.Session:
        if store is None:
            return _native.Session(backend, lock_wait_ms)
        with one_at_a_time:
            default_store(store.name)
            try:
                return _native.Session("windows", lock_wait_ms)
            finally:
                default_store(None)

    def live_counters() -> dict[str, int]:
        live = _Live()
        Store.dll.wfpsa_embedded_live(byref(live))
        return {name: count + getattr(live, name) for name, count in _native.live_counters().items()}

    def fail_allocation(nth: int) -> None:
        _native.fail_allocation(nth)
        Store.dll.wfpsa_embedded_fail_allocation(nth)

    def take_misuses() -> list[tuple[str, str, int]]:
        function, what, count = c_char_p(), c_char_p(), c_int64()
        found = _native.take_misuses()
        index = 0
        while Store.dll.wfpsa_embedded_misuse(index, byref(function), byref(what), byref(count)):
            found.append(((function.value or b"").decode(), (what.value or b"").decode(), count.value))
            index += 1
        Store.dll.wfpsa_embedded_forget_misuses()
        return found

    replaced = SimpleNamespace(
        **vars(_native)
        | {
            "Store": Store,
            "Session": session,
            "live_counters": live_counters,
            "fail_allocation": fail_allocation,
            "take_misuses": take_misuses,
            "engine_functions": lambda backend: _native.engine_functions(
                "windows" if backend == "embedded" else backend
            ),
        }
    )
    wfpsa.engine._native = replaced  # type: ignore[assignment]
    testing._native = replaced  # type: ignore[assignment]
