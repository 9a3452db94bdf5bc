"""Wine's own fwpuclnt.dll, whose functions answer nothing; collected only when named: tests/windows/foreign.py."""

import json

import pytest

import wfpsa
from wfpsa import cli

RPC_S_CANNOT_SUPPORT = 1764


def test_import_works_and_the_engine_in_memory_too() -> None:
    with wfpsa.open_engine("embedded:?contexts=10&seed=7") as engine:
        assert (engine.backend, len(engine.snapshot())) == ("embedded", 10)


def test_windows_is_unavailable_by_name() -> None:
    with pytest.raises(wfpsa.EngineUnavailable, match=r"FwpmEngineOpen0.*1764") as raised:
        wfpsa.open_engine("windows:")
    assert (raised.value.code, raised.value.function) == (RPC_S_CANNOT_SUPPORT, "FwpmEngineOpen0")


def test_doctor_explains(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["wfpsa", "doctor", "--format", "json"])
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(cli.main())
    facts = json.loads(capsys.readouterr().out)
    assert ended.value.code == 1
    assert facts["opens"] is False
    assert "FwpmEngineOpen0" in facts["error"] and "1764" in facts["error"]
    assert "Wine" in facts["advice"] and "embedded:" in facts["advice"]
