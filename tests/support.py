"""What several test files share: batches and their oracle, raw calls, lengths of state machines, threads, processes."""

import ctypes
import functools
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import POINTER, byref, c_uint16, c_uint32, c_uint64, c_void_p
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, TypeVar

import oracle
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import wfpsa
from wfpsa import _native, testing

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = {0: oracle.COLUMNS0, 1: oracle.COLUMNS1}
INFO: dict[str, dict[str, Any]] = {info["name"]: info for info in _native.column_info()}

FWP_E_NOT_FOUND = 0x80320008
FWP_E_SESSION_ABORTED = 0x80320010
FWP_E_TIMEOUT = 0x80320012
NOT_ENOUGH_MEMORY = 8

_T = TypeVar("_T")


# --- Batches --------------------------------------------------------------------------------------


def seeded(count: int, seed: int = 0, *, odd: bool = False, version: int = 1) -> wfpsa.SaBatch:
    """A snapshot of a new engine with that population; nothing of the engine is left."""
    with wfpsa.open_engine(f"embedded:?contexts={count}&seed={seed}&odd={int(odd)}") as engine:
        return engine.snapshot(version=version)


def values(batch: wfpsa.SaBatch) -> dict[str, list[object]]:
    """All values of all columns of a batch."""
    return {name: batch[name].tolist() for name in batch.columns}


def assert_equals_oracle(batch: wfpsa.SaBatch, rows: Sequence[dict[str, object]], version: int) -> None:
    """Every column has the values of the oracle's rows."""
    assert batch.columns == COLUMNS[version]
    assert len(batch) == len(rows)
    for name in batch.columns:
        expected = [row[name] for row in rows]
        found = batch[name].tolist()
        assert found == expected, name
        assert [value is None for value in found] == [value is None for value in expected], name


SLICES = st.builds(
    slice,
    st.none() | st.integers(-40, 40),
    st.none() | st.integers(-40, 40),
    st.none() | st.integers(-9, 9).filter(bool) | st.sampled_from([2**62, -(2**62), 2**63 - 1]),
)


# --- The engine, as a C program calls it ----------------------------------------------------------

_PROTOTYPES = {
    "FwpmEngineOpen0": (c_void_p, c_uint32, c_void_p, c_void_p, POINTER(c_void_p)),
    "FwpmEngineClose0": (c_void_p,),
    "FwpmFreeMemory0": (POINTER(c_void_p),),
    "IPsecSaContextCreateEnumHandle0": (c_void_p, c_void_p, POINTER(c_void_p)),
    "IPsecSaContextEnum0": (c_void_p, c_void_p, c_uint32, POINTER(c_void_p), POINTER(c_uint32)),
    "IPsecSaContextEnum1": (c_void_p, c_void_p, c_uint32, POINTER(c_void_p), POINTER(c_uint32)),
    "IPsecSaContextDestroyEnumHandle0": (c_void_p, c_void_p),
    "IPsecSaContextGetById0": (c_void_p, c_uint64, POINTER(c_void_p)),
    "IPsecSaContextGetById1": (c_void_p, c_uint64, POINTER(c_void_p)),
    "IPsecSaContextDeleteById0": (c_void_p, c_uint64),
    "IPsecSaContextSubscribe0": (c_void_p, c_void_p, c_void_p, c_void_p, POINTER(c_void_p)),
    "IPsecSaContextUnsubscribe0": (c_void_p, c_void_p),
}
RPC_C_AUTHN_DEFAULT = 0xFFFFFFFF


def os_functions() -> dict[str, Callable[..., int]]:
    """The OS functions of the embedded engine, callable through ctypes."""
    addresses = testing.functions()
    functions: dict[str, Callable[..., int]] = {}
    for name, arguments in _PROTOTYPES.items():
        returned = None if name == "FwpmFreeMemory0" else c_uint32
        functions[name] = ctypes.CFUNCTYPE(returned, *arguments)(addresses[name])
    return functions


@contextmanager
def raw_session(control: testing.EmbeddedEngine) -> Iterator[tuple[dict[str, Callable[..., int]], c_void_p]]:
    """The OS functions, and a handle to a session of that engine."""
    functions = os_functions()
    text = control.server_name.encode("utf-16-le") + b"\0\0"
    name = (c_uint16 * (len(text) // 2)).from_buffer_copy(text)
    engine = c_void_p()
    assert functions["FwpmEngineOpen0"](name, RPC_C_AUTHN_DEFAULT, None, None, byref(engine)) == 0
    try:
        yield functions, engine
    finally:
        assert functions["FwpmEngineClose0"](engine) == 0


def raw_pages(control: testing.EmbeddedEngine, version: int, page_size: int) -> Iterator[tuple[int, int]]:
    """(address, count) of each page of an enumeration, alive until the next one is asked for."""
    with raw_session(control) as (functions, engine):
        handle = c_void_p()
        assert functions["IPsecSaContextCreateEnumHandle0"](engine, None, byref(handle)) == 0
        try:
            returned = page_size
            while returned == page_size:
                page, count = c_void_p(), c_uint32()
                enum = functions[f"IPsecSaContextEnum{version}"]
                assert enum(engine, handle, page_size, byref(page), byref(count)) == 0
                returned = count.value
                try:
                    yield page.value or 0, returned
                finally:
                    functions["FwpmFreeMemory0"](byref(page))
        finally:
            assert functions["IPsecSaContextDestroyEnumHandle0"](engine, handle) == 0


def contexts_at(address: int, count: int, version: int) -> list[oracle.View]:
    """The contexts that an array of pointers points to."""
    pointers = (c_uint64 * count).from_address(address) if count else ()
    return [oracle.View(f"IPSEC_SA_CONTEXT{version}", pointer) for pointer in pointers]


def directions(context: oracle.View) -> list[oracle.View]:
    """The SAs of a context, one or two, or none."""
    both = context.pointed("inboundSa"), context.pointed("outboundSa")
    return [details for details in both if details]


Ends = tuple[IPv4Address, IPv4Address] | tuple[IPv6Address, IPv6Address]


def ends(details: oracle.View) -> Ends | None:
    """Local and remote address of an SA; None for an unknown IP version."""
    traffic = details.embedded("traffic")
    if traffic.number("ipVersion") == oracle.V4:
        return IPv4Address(traffic.number("localV4Address")), IPv4Address(traffic.number("remoteV4Address"))
    if traffic.number("ipVersion") == oracle.V6:
        return IPv6Address(traffic.raw("localV6Address")), IPv6Address(traffic.raw("remoteV6Address"))
    return None


def key_blobs(address: int, count: int, version: int) -> list[bytes]:
    """The bytes of every key and key-module state of a page."""
    found = []
    for details in itertools.chain.from_iterable(map(directions, contexts_at(address, count, version))):
        bundle = details.embedded("saBundle")
        blobs = []
        for index in range(min(bundle.number("numSAs"), 2)):
            sa = bundle.pointed("saList", index)
            auth, cipher = _informations(sa) if sa else (None, None)
            blobs += [auth.embedded("authKey")] if auth else []
            blobs += [cipher.embedded("cipherKey")] if cipher else []
        if state := bundle.pointed("keyModuleState"):
            blobs.append(state.embedded("stateBlob"))
        found += [ctypes.string_at(blob.number("data"), blob.number("size")) for blob in blobs if blob.number("size")]
    return found


def _informations(sa: oracle.View) -> tuple[oracle.View | None, oracle.View | None]:
    transform = sa.number("saTransformType")
    if transform in (oracle.AH, oracle.ESP_AUTH, oracle.ESP_AUTH_FW):
        return sa.pointed("ahInformation"), None
    if transform == oracle.ESP_CIPHER:
        return None, sa.pointed("espCipherInformation")
    both = sa.pointed("espAuthAndCipherInformation") if transform == oracle.ESP_AUTH_AND_CIPHER else None
    return (both.embedded("saAuthInformation"), both.embedded("saCipherInformation")) if both else (None, None)


# --- Faults ---------------------------------------------------------------------------------------


def out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory was short, be it ours or the engine's."""
    return isinstance(error, MemoryError) or (isinstance(error, wfpsa.WfpError) and error.code == NOT_ENOUGH_MEMORY)


def walk_allocations(
    action: Callable[[], _T], *, keeps: tuple[str, ...] = (), failed: Callable[[], None] = lambda: None
) -> tuple[_T, int]:
    """Lets the 1st, 2nd, 3rd ... allocation of an action fail until it succeeds; its result, and how often it failed.

    Each failure must say so, and leave as much alive as there was before (but for the counters in `keeps`); `failed`
    looks whether the rest is as it was.
    """

    def alive() -> dict[str, int]:
        return {name: count for name, count in testing.live_counters().items() if name not in keeps}

    for nth in itertools.count(1):
        before = alive()
        testing.fail_allocation(nth)
        try:
            result = action()
        except (MemoryError, OSError) as error:
            testing.fail_allocation(0)
            assert out_of_memory(error), error
        else:
            testing.fail_allocation(0)
            return result, nth - 1
        assert alive() == before, f"allocation {nth}"
        failed()
    raise AssertionError("unreachable")


# --- State machines -------------------------------------------------------------------------------


def runs_of_steps(variable: str, runs: int, steps: int) -> settings:
    """So many runs of so many steps, or what the environment's variable says: `2000` or `2000x100`."""
    wanted, _, long = os.environ.get(variable, "").partition("x")
    return settings(
        max_examples=int(wanted or runs),
        stateful_step_count=int(long or steps),
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


# --- Threads --------------------------------------------------------------------------------------


class Worker(threading.Thread):
    """A thread that keeps what its function returned or raised."""

    def __init__(self, function: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.function = function
        self.result: object = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.function()
        except BaseException as error:
            self.error = error.with_traceback(None)

    def finish(self) -> object:
        """The result, once it is there; the error is raised."""
        self.join(60)
        assert not self.is_alive(), "the thread hangs"
        if self.error is not None:
            raise self.error
        return self.result


def begin_together(*functions: Callable[[], object]) -> list[Worker]:
    """A thread for each function; none begins before all are there."""
    barrier = threading.Barrier(len(functions))

    def begin(function: Callable[[], object]) -> object:
        barrier.wait(60)
        return function()

    return [Worker(functools.partial(begin, function)) for function in functions]


def run_together(*functions: Callable[[], object]) -> list[object]:
    """What the functions return, each run by a thread of its own, all begun at once."""
    return [worker.finish() for worker in begin_together(*functions)]


# --- Other processes ------------------------------------------------------------------------------


def run_python(code: str, *arguments: str, **environment: str) -> str:
    """The output of that code in a new interpreter that finds the same wfpsa; it must end well within a minute."""
    paths = [str(Path(wfpsa.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    variables = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=variables, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def added(embedded: testing.EmbeddedEngine, count: int) -> list[int]:
    """Contexts of so many peers."""
    return [embedded.add("10.0.0.1", f"10.1.{at // 250}.{at % 250 + 1}") for at in range(count)]


def outbound(engine: wfpsa.Engine) -> set[int]:
    """The ids whose outbound SA is there."""
    return {context.context_id for context in engine.snapshot() if context.outbound}
