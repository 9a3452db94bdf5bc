"""Errors: the table of codes, the class and the text of each, and how they travel."""

import copy
import csv
import errno
import pickle
from collections.abc import Iterator
from pathlib import Path

import wfpsa
from wfpsa import errors
from wfpsa.errors import CODES, failure

CSV = Path(__file__).parent / "data" / "fwp-errors.csv"

OTHERS = {
    5: "ERROR_ACCESS_DENIED",
    6: "ERROR_INVALID_HANDLE",
    8: "ERROR_NOT_ENOUGH_MEMORY",
    14: "ERROR_OUTOFMEMORY",
    50: "ERROR_NOT_SUPPORTED",
    87: "ERROR_INVALID_PARAMETER",
    126: "ERROR_MOD_NOT_FOUND",
    127: "ERROR_PROC_NOT_FOUND",
    1058: "ERROR_SERVICE_DISABLED",
    1060: "ERROR_SERVICE_DOES_NOT_EXIST",
    1062: "ERROR_SERVICE_NOT_ACTIVE",
    1068: "ERROR_SERVICE_DEPENDENCY_FAIL",
    1083: "ERROR_SERVICE_NOT_IN_EXE",
    1702: "RPC_S_INVALID_BINDING",
    1717: "RPC_S_UNKNOWN_IF",
    1722: "RPC_S_SERVER_UNAVAILABLE",
    1723: "RPC_S_SERVER_TOO_BUSY",
    1726: "RPC_S_CALL_FAILED",
    1727: "RPC_S_CALL_FAILED_DNE",
    1747: "RPC_S_UNKNOWN_AUTHN_SERVICE",
    1753: "EPT_S_NOT_REGISTERED",
    1764: "RPC_S_CANNOT_SUPPORT",
    1775: "RPC_X_SS_IN_NULL_CONTEXT",
    1777: "RPC_X_SS_CONTEXT_DAMAGED",
    1778: "RPC_X_SS_HANDLES_MISMATCH",
    1780: "RPC_X_NULL_REF_POINTER",
    1781: "RPC_X_ENUM_VALUE_OUT_OF_RANGE",
    1783: "RPC_X_BAD_STUB_DATA",
    1825: "RPC_S_SEC_PKG_ERROR",
}
KINDS: dict[int, tuple[type[wfpsa.WfpError], int]] = {
    5: (wfpsa.AccessDenied, errno.EACCES),
    0x80320008: (wfpsa.NotFound, errno.ENOENT),
    0x80320012: (wfpsa.EngineTimeout, errno.ETIMEDOUT),
    0x80320010: (wfpsa.SessionAborted, errno.ECONNABORTED),
    1702: (wfpsa.SessionAborted, errno.ECONNABORTED),
    1722: (wfpsa.SessionAborted, errno.ECONNREFUSED),
    1726: (wfpsa.SessionAborted, errno.ECONNABORTED),
    1727: (wfpsa.SessionAborted, errno.ECONNABORTED),
    1777: (wfpsa.SessionAborted, errno.ECONNABORTED),
    1753: (wfpsa.WfpError, errno.ECONNREFUSED),
    1764: (wfpsa.WfpError, errno.ECONNREFUSED),
}
UNKNOWN = (0, 1, 2, 0xFFFF, 0x10000, 0x80320999, 0xFFFFFFFF)


def test_the_table_has_every_code_of_winerror_h_and_those_that_callers_report() -> None:
    with CSV.open(encoding="utf-8", newline="") as file:
        expected = {int(row["code_hex"], 16): row["name"] for row in csv.DictReader(file)}
    assert len(expected) == 69 and set(expected).isdisjoint(OTHERS)
    assert {code: name for code, (name, _) in CODES.items()} == expected | OTHERS
    assert len({name for name, _ in CODES.values()}) == len(CODES)
    assert all(meaning and meaning[-1] != "." for _, meaning in CODES.values())


BASES: dict[type[Exception], type[Exception]] = {
    wfpsa.AccessDenied: PermissionError,
    wfpsa.NotFound: LookupError,
    wfpsa.EngineTimeout: TimeoutError,
    wfpsa.EngineUnavailable: ConnectionError,
    wfpsa.SessionAborted: ConnectionError,
    wfpsa.EngineClosed: ValueError,
    wfpsa.ExpiryFailed: OSError,
}


def test_each_class_is_a_wfp_error_first_and_then_what_callers_expect() -> None:
    assert wfpsa.WfpError.__bases__ == (OSError,)
    for kind, builtin in BASES.items():
        assert kind.__bases__[0] is wfpsa.WfpError and issubclass(kind, builtin)


def test_an_interrupted_expiry_is_a_keyboard_interrupt_that_except_exception_does_not_catch() -> None:
    assert issubclass(wfpsa.ExpiryInterrupted, KeyboardInterrupt)
    assert not issubclass(wfpsa.ExpiryInterrupted, Exception)
    error = wfpsa.ExpiryInterrupted()
    assert str(error) == "the expiry was interrupted" and error.report is None


def test_every_known_code_has_its_class_number_name_and_text() -> None:
    for code, (name, meaning) in CODES.items():
        kind, number = KINDS.get(code, (wfpsa.WfpError, errno.EIO))
        error = failure(code, "IPsecSaContextEnum1")
        assert type(error) is kind, name
        assert (error.code, error.name, error.function) == (code, name, "IPsecSaContextEnum1")
        assert error.winerror == code and error.errno == number, name
        shown = f"0x{code:08X}" if code > 0xFFFF else str(code)
        assert str(error) == f"IPsecSaContextEnum1: {name} ({shown}): {meaning}"
        assert error.strerror == str(error)


def test_an_unknown_code_is_its_own_name() -> None:
    for code in UNKNOWN:
        error = failure(code, "IPsecSaContextExpire0")
        assert type(error) is wfpsa.WfpError and error.name == f"0x{code:08X}"
        shown = f"0x{code:08X}" if code > 0xFFFF else str(code)
        assert str(error) == f"IPsecSaContextExpire0: 0x{code:08X} ({shown})"
        assert (error.errno, error.winerror) == (errno.EIO, code)


def test_where_the_service_does_not_answer_an_open_says_that_there_is_no_engine() -> None:
    no_engine = {50, 1058, 1060, 1062, 1068, 1083, 1717, 1722, 1723, 1726, 1727, 1753, 1764}
    for code in (*CODES, *UNKNOWN):
        error = failure(code, "FwpmEngineOpen0")
        expected = wfpsa.EngineUnavailable if code in no_engine else KINDS.get(code, (wfpsa.WfpError, 0))[0]
        assert type(error) is expected, code
        assert isinstance(error, ConnectionError) is (code in no_engine | {1702, 1777, 0x80320010})


def test_the_usual_failures_of_an_open_say_what_to_do() -> None:
    stopped = failure(1753, "FwpmEngineOpen0")
    assert str(stopped) == (
        "FwpmEngineOpen0: EPT_S_NOT_REGISTERED (1753): the Base Filtering Engine service (BFE) is stopped or disabled: "
        "start the Base Filtering Engine service (sc start BFE)"
    )
    assert "sc config BFE start= auto" in str(failure(1058, "FwpmEngineOpen0"))
    assert "Wine answers so" in str(failure(1764, "FwpmEngineOpen0"))
    assert "sc start" not in str(failure(1753, "IPsecSaContextEnum1"))


def test_an_error_without_a_call_has_no_code_and_its_own_text() -> None:
    error = wfpsa.EngineUnavailable(None, None, "nothing to open")
    assert error.code is error.name is error.function is error.winerror is None
    assert str(error) == error.strerror == "nothing to open" and error.errno == errno.EIO
    assert str(wfpsa.WfpError(None, None)) == "the call failed"
    assert str(wfpsa.EngineClosed()) == "the engine is closed"


def every_kind_of_error() -> Iterator[BaseException]:
    for code in (*CODES, *UNKNOWN):
        yield failure(code, "IPsecSaContextEnum0")
        yield failure(code, "FwpmEngineOpen0")
    yield wfpsa.WfpError(8, "f", "own text")
    yield wfpsa.EngineUnavailable(None, None, "nothing to open")
    yield wfpsa.EngineClosed()
    yield wfpsa.EngineClosed(message="opened by another process")
    yield wfpsa.ExpiryFailed(5, "IPsecSaContextExpire0", "3 of 4", "a report")
    yield wfpsa.ExpiryFailed(None, None, "3 of 4", None)
    yield wfpsa.ExpiryInterrupted("after 3 of 4", "a report")


def test_every_error_survives_pickling_and_copying() -> None:
    names = ("code", "name", "function", "message", "errno", "winerror", "report", "args")
    for error in every_kind_of_error():
        for found in (
            *(pickle.loads(pickle.dumps(error, n)) for n in (0, 2, 5)),
            copy.copy(error),
            copy.deepcopy(error),
        ):
            assert type(found) is type(error) and str(found) == str(error) and repr(found) == repr(error)
            missing = object()
            for name in names:
                assert getattr(found, name, missing) == getattr(error, name, missing) or name not in vars(error)


def test_the_module_exports_its_classes() -> None:
    classes = {
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert set(errors.__all__) == classes <= set(wfpsa.__all__)
