"""The extension's import table: `windows:` reaches the fwpuclnt.dll of this process, and names its functions."""

import ctypes
from pathlib import Path

import dll
import pytest

import wfpsa
from wfpsa import _import_failure, _native, testing

FWP_E_TIMEOUT = 0x80320012


def test_the_fixtures_engine_is_windows(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(10, 7)
    assert engine.backend == "windows"
    assert len(engine.snapshot()) == 10
    assert engine.snapshot().backend == "windows"


def test_open_engine_without_a_target_is_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WFPSA_ENGINE", raising=False)
    store = dll.Store("default")
    store.seed(3, 1, 0)
    with wfpsa.open_engine() as opened:
        assert (opened.target, opened.backend, len(opened.snapshot())) == ("windows:", "windows", 3)


def test_both_engines_hold_their_own_contexts() -> None:
    store = dll.Store("default")
    store.seed(3, 1, 0)
    with wfpsa.open_engine("windows:") as opened:
        inside = _native.Session("embedded", 0, _native.Store())
        assert len(opened.snapshot()) == 3
        assert inside.drain(1, 16) == 0


def test_the_dll_has_each_function_of_the_table() -> None:
    library = ctypes.CDLL("fwpuclnt")
    table = _native.engine_functions("windows")
    assert len(table) == 24 and all(table.values())
    assert all(hasattr(library, name) for name in table)


def test_the_embedded_engine_answers_the_whole_table() -> None:
    assert set(_native.engine_functions("embedded")) == set(_native.engine_functions("windows"))


def test_a_stopped_service_is_named(embedded: testing.EmbeddedEngine) -> None:
    embedded.fail("FwpmEngineOpen0", 1, 1753)
    with pytest.raises(wfpsa.EngineUnavailable, match=r"Base Filtering Engine.*sc start BFE") as raised:
        embedded.open()
    assert (raised.value.code, raised.value.function) == (1753, "FwpmEngineOpen0")


def test_codes_above_a_c_long_arrive(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    embedded.fail("IPsecSaContextEnum1", 1, FWP_E_TIMEOUT)
    with pytest.raises(wfpsa.EngineTimeout) as raised:
        engine.snapshot()
    assert raised.value.winerror == raised.value.code == FWP_E_TIMEOUT


def test_a_dll_without_a_function_is_explained() -> None:
    package = Path(wfpsa.__file__).parent
    assert _import_failure.windows_reason(package) is None
    assert "lacks FwpmEngineOpen0" in str(_import_failure.windows_reason(package, "ws2_32"))
    assert "missing or damaged" in str(_import_failure.windows_reason(package, "no-such-dll"))
