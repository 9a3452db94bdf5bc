"""Tests that the benchmarks' baselines do the whole work: the same columns, the same calls."""

import ctypes
import importlib
import sys
from collections.abc import Callable
from ctypes import POINTER, c_uint32, c_uint64, c_void_p
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from oracle import COLUMNS1
from oracle import decode as oracle_decode
from pages import LONG_NAMES, Bundle, Context, Details, Identity, Page, Traffic, build, strategy, v4

CTYPES = [pytest.param("ctypes_fast", marks=pytest.mark.misuses_memory), "ctypes_naive"]
CFFI = pytest.param("cffi_walk", marks=pytest.mark.needs_cffi)
WIN32MORE = pytest.param("win32more_walk", marks=pytest.mark.needs_win32more)

decoders = pytest.mark.parametrize("baseline", [*CTYPES, CFFI, WIN32MORE], indirect=True)
enumerators = pytest.mark.parametrize("baseline", CTYPES, indirect=True)
expirers = pytest.mark.parametrize("baseline", [*CTYPES, CFFI], indirect=True)

CORE = (
    "context_id",
    "has_inbound",
    "has_outbound",
    "ip_version",
    "traffic_type",
    "local_address",
    "remote_address",
    "remote_port",
    "spi_in",
    "spi_out",
    "transform_out",
    "cipher_config_out",
    "lifetime_seconds_out",
    "mm_sa_id_out",
    "filter_id_out",
)


@pytest.fixture
def baseline(request: pytest.FixtureRequest) -> ModuleType:
    """The baseline of this name, imported only where what it needs is there."""
    return importlib.import_module(f"wfpsa.bench.baselines.{request.param}")


def tuples(baseline: ModuleType, rows: list[Any], fields: str) -> list[tuple[object, ...]]:
    """A baseline's rows as tuples in the order of its columns; a dict has exactly those."""
    columns = baseline.COLUMNS_ALL if fields == "all" else baseline.COLUMNS_CORE
    if not baseline.__name__.endswith(".ctypes_fast"):
        assert all(tuple(row) == columns for row in rows)
        rows = [tuple(row.values()) for row in rows]
    assert all(len(row) == len(columns) for row in rows)
    return rows


def differences(baseline: ModuleType, page: Page, fields: str) -> list[str]:
    """Where a baseline's rows are not the oracle's, a line for each value."""
    columns = COLUMNS1 if fields == "all" else CORE
    rows = tuples(baseline, baseline.decode(page.address, page.count, fields), fields)
    wanted = oracle_decode(page.address, page.count, version=1)
    assert len(rows) == len(wanted)
    return [
        f"row {index}, {name}: {value!r:.80} for {wanted[index][name]!r:.80}"
        for index, row in enumerate(rows)
        for name, value in zip(columns, row, strict=True)
        if (value, type(value)) != (wanted[index][name], type(wanted[index][name]))
    ]


@decoders
def test_the_columns_are_the_oracles(baseline: ModuleType) -> None:
    assert baseline.COLUMNS_ALL == COLUMNS1
    assert baseline.COLUMNS_CORE == CORE


@decoders
@pytest.mark.parametrize("fields", ["all", "core"])
def test_any_page_is_decoded_as_the_oracle_does(baseline: ModuleType, fields: str) -> None:
    @settings(deadline=None)
    @given(strategy(1))
    def any_page(contexts: list[Context]) -> None:
        assert not differences(baseline, build(contexts, version=1), fields)

    any_page()


@decoders
@pytest.mark.parametrize("ip_version", [0, 1, 2])
def test_every_way_the_traffic_can_differ(baseline: ModuleType, ip_version: int) -> None:
    traffic = Traffic(ip_version=ip_version, local=bytes(16), remote=bytes(16))
    tail = bytes(15) + b"\1"
    changes: list[dict[str, Any]] = [{}, {"local": v4(9)}, {"remote": v4(9)}]
    changes += [{"local": tail}, {"remote": tail}, {"ip_version": 3}]
    changes += [{"remote_port": 9}, {"local_port": 9}, {"ip_protocol": 9}]
    changes += [{"traffic_type": 1}, {"local_interface_luid": 9}, {"real_profile_id": 9}]
    inbound = Details(traffic=traffic)
    outbounds = [Details(traffic=replace(traffic, **change)) for change in changes]
    page = build([Context(inbound=inbound, outbound=outbound) for outbound in outbounds], version=1)
    assert not differences(baseline, page, "all")


@decoders
@pytest.mark.parametrize("character", ["a", "\u0100", "\u0101"], ids=["a", "0100", "0101"])
def test_names_of_every_length(baseline: ModuleType, character: str) -> None:
    lengths = [0, 1, 30, 31, 32, 33, 2047, 2048, 2049, 5000]
    names = [*(character * length for length in lengths), *LONG_NAMES]
    identities = [Identity(main_mode_target=name, extended_mode_target="a") for name in names]
    bundles = [Bundle(identity=identity) for identity in identities]
    page = build([Context(outbound=Details(bundle=bundle)) for bundle in bundles], version=1)
    assert not differences(baseline, page, "all")


class Engine:
    """Stands in for the OS: foreign functions that hand out prepared pages and note each call."""

    ENGINE, HANDLE = 0xE1, 0xE2

    def __init__(self, *contexts: int) -> None:
        self.ids = list(contexts)
        self.calls: list[str] = []
        self.enum_code = 0
        self.given = 0
        self.alive: dict[int, Page] = {}
        self.server_name: str | None = None
        self._callbacks: list[Any] = []
        self.functions = {
            "FwpmEngineOpen0": self._foreign(self._open, c_void_p, c_uint32, c_void_p, c_void_p, POINTER(c_void_p)),
            "FwpmEngineClose0": self._foreign(self._close, c_void_p),
            "FwpmFreeMemory0": self._foreign(self._free, POINTER(c_void_p), returns=None),
            "IPsecSaContextCreateEnumHandle0": self._foreign(self._create, c_void_p, c_void_p, POINTER(c_void_p)),
            "IPsecSaContextEnum1": self._foreign(
                self._enum, c_void_p, c_void_p, c_uint32, POINTER(c_void_p), POINTER(c_uint32)
            ),
            "IPsecSaContextDestroyEnumHandle0": self._foreign(self._destroy, c_void_p, c_void_p),
            "IPsecSaContextExpire0": self._foreign(self._expire, c_void_p, c_uint64),
        }

    def _foreign(self, method: Callable[..., Any], *arguments: Any, returns: Any = c_uint32) -> int:
        kind = ctypes.WINFUNCTYPE if sys.platform == "win32" else ctypes.CFUNCTYPE
        callback = kind(returns, *arguments)(method)
        self._callbacks.append(callback)
        address = ctypes.cast(callback, c_void_p).value
        assert address
        return address

    def _open(self, server: int | None, authn: int, identity: Any, given: Any, out: Any) -> int:
        self.calls.append("open")
        if server is not None:
            units = []
            for unit in (ctypes.c_uint16 * 100).from_address(server):
                if not unit:
                    break
                units.append(chr(unit))
            self.server_name = "".join(units)
        assert authn in (10, 0xFFFFFFFF)
        assert identity is given is None
        out[0] = self.ENGINE
        return 0

    def _close(self, engine: int) -> int:
        assert engine == self.ENGINE
        self.calls.append("close")
        return 0

    def _create(self, engine: int, template: int | None, out: Any) -> int:
        assert (engine, template) == (self.ENGINE, None)
        self.calls.append("create")
        out[0] = self.HANDLE
        return 0

    def _enum(self, engine: int, handle: int, wanted: int, entries: Any, returned: Any) -> int:
        assert (engine, handle) == (self.ENGINE, self.HANDLE)
        self.calls.append("enum")
        if self.enum_code and self.given:
            return self.enum_code
        ids = self.ids[self.given : self.given + wanted]
        self.given += len(ids)
        traffic = Traffic(local=v4(1), remote=v4(2), filter_id=3)
        side = Details(traffic=traffic, bundle=Bundle(identity=Identity(main_mode_target="name")))
        page = build([Context(context_id=number, inbound=side) for number in ids], version=1)
        self.alive[page.address] = page
        entries[0], returned[0] = page.address, page.count
        return 0

    def _free(self, entries: Any) -> None:
        self.calls.append("free")
        del self.alive[entries[0]]

    def _destroy(self, engine: int, handle: int) -> int:
        assert (engine, handle) == (self.ENGINE, self.HANDLE)
        self.calls.append("destroy")
        return 0

    def _expire(self, engine: int, context_id: int) -> int:
        assert engine == self.ENGINE
        self.calls.append("expire")
        return 0 if context_id in self.ids else 0x80320008


@enumerators
@pytest.mark.parametrize("fields", ["all", "core"])
@pytest.mark.parametrize(
    ("count", "calls"),
    [(0, ["enum", "free"]), (3, ["enum", "free"] * 2), (4, ["enum", "free"] * 3)],
)
def test_enumeration_ends_with_a_short_page_and_frees_all(
    baseline: ModuleType, fields: str, count: int, calls: list[str]
) -> None:
    ids = [2**63 + number for number in range(count)]
    engine = Engine(*ids)
    rows = baseline.enumerate_contexts(engine.functions, None, page_size=2, fields=fields)
    assert [row[0] for row in tuples(baseline, rows, fields)] == ids
    assert engine.calls == ["open", "create", *calls, "destroy", "close"]
    assert not engine.alive
    assert engine.server_name is None


@enumerators
def test_a_failed_enumeration_leaves_nothing_open(baseline: ModuleType) -> None:
    engine = Engine(1, 2, 3)
    engine.enum_code = 0x80320012
    with pytest.raises(OSError, match="IPsecSaContextEnum1: 0x80320012"):
        baseline.enumerate_contexts(engine.functions, "lab", page_size=2)
    assert engine.calls == ["open", "create", "enum", "free", "enum", "destroy", "close"]
    assert not engine.alive
    assert engine.server_name == "lab"


@expirers
def test_expire_makes_one_call_an_id_and_keeps_every_code(baseline: ModuleType) -> None:
    engine = Engine(5, 2**64 - 1)
    codes = baseline.expire(engine.functions, "büro", [5, 6, 2**64 - 1])
    assert codes == [0, 0x80320008, 0]
    assert engine.calls == ["open", "expire", "expire", "expire", "close"]
    assert engine.server_name == "büro"
