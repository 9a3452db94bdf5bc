"""The errors of the package: one exception tree over the codes of the OS."""

import errno as _errno

__all__ = [
    "AccessDenied",
    "EngineClosed",
    "EngineTimeout",
    "EngineUnavailable",
    "ExpiryFailed",
    "ExpiryInterrupted",
    "GenerationExpired",
    "NotFound",
    "SessionAborted",
    "WfpError",
]

CODES: dict[int, tuple[str, str]] = {
    # Win32 and RPC
    5: ("ERROR_ACCESS_DENIED", "the caller lacks the right that this call needs"),
    6: ("ERROR_INVALID_HANDLE", "a bad or closed handle"),
    8: ("ERROR_NOT_ENOUGH_MEMORY", "not enough memory for the result"),
    14: ("ERROR_OUTOFMEMORY", "not enough memory for the result"),
    50: ("ERROR_NOT_SUPPORTED", "this system is too old for the call"),
    87: ("ERROR_INVALID_PARAMETER", "an argument was refused"),
    126: ("ERROR_MOD_NOT_FOUND", "a DLL is missing"),
    127: ("ERROR_PROC_NOT_FOUND", "a DLL lacks the function"),
    1058: ("ERROR_SERVICE_DISABLED", "the service is disabled"),
    1060: ("ERROR_SERVICE_DOES_NOT_EXIST", "the service is not installed"),
    1062: ("ERROR_SERVICE_NOT_ACTIVE", "the service is not running"),
    1068: ("ERROR_SERVICE_DEPENDENCY_FAIL", "a service it depends on did not start"),
    1083: ("ERROR_SERVICE_NOT_IN_EXE", "the service is damaged"),
    1702: ("RPC_S_INVALID_BINDING", "the handle to the engine is dead"),
    1717: ("RPC_S_UNKNOWN_IF", "the engine does not offer this interface"),
    1722: ("RPC_S_SERVER_UNAVAILABLE", "the engine is gone or cannot be reached"),
    1723: ("RPC_S_SERVER_TOO_BUSY", "the engine is overloaded"),
    1726: ("RPC_S_CALL_FAILED", "the engine died during the call"),
    1727: ("RPC_S_CALL_FAILED_DNE", "the engine died before the call"),
    1747: ("RPC_S_UNKNOWN_AUTHN_SERVICE", "the authentication service is not accepted"),
    1753: (
        "EPT_S_NOT_REGISTERED",
        "the Base Filtering Engine service (BFE) is stopped or disabled",
    ),
    1764: (
        "RPC_S_CANNOT_SUPPORT",
        "this system has no Windows Filtering Platform (Wine answers so)",
    ),
    1775: ("RPC_X_SS_IN_NULL_CONTEXT", "a null context handle"),
    1777: ("RPC_X_SS_CONTEXT_DAMAGED", "the context handle is damaged"),
    1778: ("RPC_X_SS_HANDLES_MISMATCH", "the handle belongs to another connection"),
    1780: ("RPC_X_NULL_REF_POINTER", "a null pointer where the interface needs one"),
    1781: ("RPC_X_ENUM_VALUE_OUT_OF_RANGE", "an enumeration value or union tag is out of range"),
    1783: ("RPC_X_BAD_STUB_DATA", "a malformed message"),
    1825: ("RPC_S_SEC_PKG_ERROR", "the security package failed"),
    # winerror.h, FWP_E_*
    0x80320001: ("FWP_E_CALLOUT_NOT_FOUND", "no callout with that key/id"),
    0x80320002: ("FWP_E_CONDITION_NOT_FOUND", "unknown filter-condition field key"),
    0x80320003: ("FWP_E_FILTER_NOT_FOUND", "no filter with that key/id"),
    0x80320004: ("FWP_E_LAYER_NOT_FOUND", "no layer with that key/id"),
    0x80320005: ("FWP_E_PROVIDER_NOT_FOUND", "no provider with that key"),
    0x80320006: ("FWP_E_PROVIDER_CONTEXT_NOT_FOUND", "no provider context with that key/id"),
    0x80320007: ("FWP_E_SUBLAYER_NOT_FOUND", "no sublayer with that key"),
    0x80320008: ("FWP_E_NOT_FOUND", "the engine knows no SA context with this id (any more)"),
    0x80320009: (
        "FWP_E_ALREADY_EXISTS",
        "key or id is taken; FwpmEngineOpen0 returns it when sessionKey is already open",
    ),
    0x8032000A: ("FWP_E_IN_USE", "other objects still refer to the one being deleted"),
    0x8032000B: (
        "FWP_E_DYNAMIC_SESSION_IN_PROGRESS",
        "forbidden on a session opened with the dynamic flag",
    ),
    0x8032000C: ("FWP_E_WRONG_SESSION", "issued from a session that does not own the object"),
    0x8032000D: ("FWP_E_NO_TXN_IN_PROGRESS", "needs an explicit transaction and none is open"),
    0x8032000E: (
        "FWP_E_TXN_IN_PROGRESS",
        "forbidden while the session has an explicit transaction open (also: second Begin)",
    ),
    0x8032000F: (
        "FWP_E_TXN_ABORTED",
        "the explicit transaction was force-cancelled; reported by the next call made inside it",
    ),
    0x80320010: (
        "FWP_E_SESSION_ABORTED",
        "session is dead; close the handle anyway and open a new session",
    ),
    0x80320011: ("FWP_E_INCOMPATIBLE_TXN", "a write was attempted inside a read-only transaction"),
    0x80320012: (
        "FWP_E_TIMEOUT",
        "could not get the transaction lock within the session wait time",
    ),
    0x80320013: (
        "FWP_E_NET_EVENTS_DISABLED",
        "net-event collection is switched off (FwpmNetEvent* only)",
    ),
    0x80320014: ("FWP_E_INCOMPATIBLE_LAYER", "that layer does not support the operation"),
    0x80320015: ("FWP_E_KM_CLIENTS_ONLY", "only kernel-mode callers may do this"),
    0x80320016: ("FWP_E_LIFETIME_MISMATCH", "would link an object to one that may live shorter"),
    0x80320017: ("FWP_E_BUILTIN_OBJECT", "predefined object; cannot be deleted"),
    0x80320018: ("FWP_E_TOO_MANY_CALLOUTS", "callout limit reached"),
    0x80320019: (
        "FWP_E_NOTIFICATION_DROPPED",
        "a notification was lost because its queue was full",
    ),
    0x8032001A: (
        "FWP_E_TRAFFIC_MISMATCH",
        "GetSpi repeated on one SA context with a different traffic description",
    ),
    0x8032001B: (
        "FWP_E_INCOMPATIBLE_SA_STATE",
        "SA-context calls made out of order (Create, GetSpi, AddInbound, AddOutbound)",
    ),
    0x8032001C: ("FWP_E_NULL_POINTER", "a mandatory pointer was null"),
    0x8032001D: ("FWP_E_INVALID_ENUMERATOR", "an enum-typed field holds a value outside its enum"),
    0x8032001E: ("FWP_E_INVALID_FLAGS", "unknown or disallowed flag bits"),
    0x8032001F: ("FWP_E_INVALID_NET_MASK", "subnet mask or prefix is malformed"),
    0x80320020: ("FWP_E_INVALID_RANGE", "FWP_RANGE0 is malformed"),
    0x80320021: ("FWP_E_INVALID_INTERVAL", "time interval is malformed"),
    0x80320022: ("FWP_E_ZERO_LENGTH_ARRAY", "an array that needs at least one element is empty"),
    0x80320023: ("FWP_E_NULL_DISPLAY_NAME", "displayData.name is missing"),
    0x80320024: ("FWP_E_INVALID_ACTION_TYPE", "action is not permitted on a filter"),
    0x80320025: ("FWP_E_INVALID_WEIGHT", "filter weight is malformed"),
    0x80320026: ("FWP_E_MATCH_TYPE_MISMATCH", "match operator does not fit the operand types"),
    0x80320027: (
        "FWP_E_TYPE_MISMATCH",
        "FWP_VALUE0 / FWP_CONDITION_VALUE0 carries the wrong data type",
    ),
    0x80320028: ("FWP_E_OUT_OF_BOUNDS", "integer outside its permitted range"),
    0x80320029: ("FWP_E_RESERVED", "a reserved field is not zero"),
    0x8032002A: (
        "FWP_E_DUPLICATE_CONDITION",
        "same field used by more than one condition where that is not allowed",
    ),
    0x8032002B: ("FWP_E_DUPLICATE_KEYMOD", "keying module listed twice in a policy"),
    0x8032002C: ("FWP_E_ACTION_INCOMPATIBLE_WITH_LAYER", "action does not suit the layer"),
    0x8032002D: ("FWP_E_ACTION_INCOMPATIBLE_WITH_SUBLAYER", "action does not suit the sublayer"),
    0x8032002E: (
        "FWP_E_CONTEXT_INCOMPATIBLE_WITH_LAYER",
        "raw/provider context does not suit the layer",
    ),
    0x8032002F: (
        "FWP_E_CONTEXT_INCOMPATIBLE_WITH_CALLOUT",
        "raw/provider context does not suit the callout",
    ),
    0x80320030: (
        "FWP_E_INCOMPATIBLE_AUTH_METHOD",
        "authentication method does not suit the policy type",
    ),
    0x80320031: (
        "FWP_E_INCOMPATIBLE_DH_GROUP",
        "Diffie-Hellman group does not suit the policy type",
    ),
    0x80320032: (
        "FWP_E_EM_NOT_SUPPORTED",
        "extended-mode policy given where plain IKE cannot have one",
    ),
    0x80320033: ("FWP_E_NEVER_MATCH", "enumeration template or subscription can match nothing"),
    0x80320034: ("FWP_E_PROVIDER_CONTEXT_MISMATCH", "provider context is of the wrong kind"),
    0x80320035: ("FWP_E_INVALID_PARAMETER", "catch-all bad argument"),
    0x80320036: ("FWP_E_TOO_MANY_SUBLAYERS", "sublayer limit reached"),
    0x80320037: ("FWP_E_CALLOUT_NOTIFICATION_FAILED", "callout notify routine failed"),
    0x80320038: ("FWP_E_INVALID_AUTH_TRANSFORM", "IPsec integrity transform rejected"),
    0x80320039: ("FWP_E_INVALID_CIPHER_TRANSFORM", "IPsec cipher transform rejected"),
    0x8032003A: (
        "FWP_E_INCOMPATIBLE_CIPHER_TRANSFORM",
        "cipher transform does not suit the policy",
    ),
    0x8032003B: (
        "FWP_E_INVALID_TRANSFORM_COMBINATION",
        "transform types cannot be combined that way",
    ),
    0x8032003C: ("FWP_E_DUPLICATE_AUTH_METHOD", "authentication method listed twice in a policy"),
    0x8032003D: ("FWP_E_INVALID_TUNNEL_ENDPOINT", "tunnel endpoint configuration rejected"),
    0x8032003E: ("FWP_E_L2_DRIVER_NOT_READY", "layer-2 (MAC) layers not ready"),
    0x8032003F: (
        "FWP_E_KEY_DICTATOR_ALREADY_REGISTERED",
        "another key manager that dictates keys is registered",
    ),
    0x80320040: (
        "FWP_E_KEY_DICTATION_INVALID_KEYING_MATERIAL",
        "key manager supplied unusable keys",
    ),
    0x80320041: (
        "FWP_E_CONNECTIONS_DISABLED",
        "IPsec connection tracking is off (FwpmConnection* only)",
    ),
    0x80320042: ("FWP_E_INVALID_DNS_NAME", "DNS name rejected"),
    0x80320043: ("FWP_E_STILL_ON", "engine option stays on because something else needs it"),
    0x80320044: (
        "FWP_E_IKEEXT_NOT_RUNNING",
        "IKEEXT service is stopped (it runs only when IPsec policy exists)",
    ),
    0x80320104: (
        "FWP_E_DROP_NOICMP",
        "drop the packet without sending ICMP (classification result rather than a management-call failure)",
    ),
}
"""Every code known by name: its symbol, and what it means to a caller of the SA-context functions."""

_ERRNO = {
    5: _errno.EACCES,
    0x80320008: _errno.ENOENT,
    0x80320012: _errno.ETIMEDOUT,
    1722: _errno.ECONNREFUSED,
    1753: _errno.ECONNREFUSED,
    1764: _errno.ECONNREFUSED,
    0x80320010: _errno.ECONNABORTED,
    1702: _errno.ECONNABORTED,
    1726: _errno.ECONNABORTED,
    1727: _errno.ECONNABORTED,
    1777: _errno.ECONNABORTED,
}


class WfpError(OSError):
    """A call of the Windows Filtering Platform failed, or could not be made.

    `code` is the OS's status as an unsigned number, `name` its symbol (``"FWP_E_TIMEOUT"``; the number in hexadecimal
    where it has none) and `function` the OS function that returned it (``"IPsecSaContextEnum1"``). All three are None
    where no call was made. `winerror` equals `code` on every platform; `errno` is the nearest POSIX number.
    """

    def __init__(self, code: int | None, function: str | None, message: str | None = None) -> None:
        self.code = code
        self.function = function
        self.message = message
        self.name: str | None = None
        text = message or "the call failed"
        if code is not None:
            self.name, meaning = CODES.get(code, (f"0x{code:08X}", ""))
            number = f"0x{code:08X}" if code > 0xFFFF else str(code)
            detail = message or meaning
            text = f"{function}: {self.name} ({number})" + (f": {detail}" if detail else "")
        self._text = text
        # Two arguments only: on Windows a fourth would go through a C long, which 0x80320008 overflows.
        super().__init__(_ERRNO.get(code, _errno.EIO) if code is not None else _errno.EIO, text)
        self.winerror = code

    def __str__(self) -> str:
        return self._text

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.code, self.function, self.message)


class AccessDenied(WfpError, PermissionError):
    """The caller lacks the right: enumerating and expiring need an elevated administrator by default."""


class NotFound(WfpError, LookupError):
    """The engine does not know the id (any more)."""


class EngineTimeout(WfpError, TimeoutError):
    """The engine's transaction lock could not be had within the session's wait time."""


class EngineUnavailable(WfpError, ConnectionError):
    """There is no engine to talk to, or its service does not run."""


class SessionAborted(WfpError, ConnectionError):
    """The session is dead, as after a restart of the service; open a new engine."""


class EngineClosed(WfpError, ValueError):
    """The engine was closed, or belongs to the process this one was forked from."""

    def __init__(self, code: int | None = None, function: str | None = None, message: str | None = None) -> None:
        super().__init__(code, function, message or "the engine is closed")


class ExpiryFailed(WfpError):
    """Some contexts of a mass expiry were not expired; `report` has an outcome for each."""

    def __init__(
        self,
        code: int | None,
        function: str | None,
        message: str | None = None,
        report: object = None,
    ) -> None:
        super().__init__(code, function, message)
        self.report = report

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.code, self.function, self.message, self.report)


class ExpiryInterrupted(KeyboardInterrupt):
    """Ctrl-C stopped a mass expiry; `report` has an outcome for each context, NOT_ATTEMPTED for the rest."""

    def __init__(self, message: str = "the expiry was interrupted", report: object = None) -> None:
        super().__init__(message)
        self.report = report

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.args[0], self.report)


class GenerationExpired(LookupError):
    """A mirror does not know what changed since that generation: it is too long ago, or has not come yet."""


_BY_CODE: dict[int, type[WfpError]] = {
    5: AccessDenied,
    0x80320008: NotFound,
    0x80320012: EngineTimeout,
    0x80320010: SessionAborted,
    1702: SessionAborted,
    1722: SessionAborted,
    1726: SessionAborted,
    1727: SessionAborted,
    1777: SessionAborted,
}

_NO_ENGINE = frozenset({50, 1058, 1060, 1062, 1068, 1083, 1717, 1722, 1723, 1726, 1727, 1753, 1764})

_ADVICE = {
    1753: "start the Base Filtering Engine service (sc start BFE)",
    1058: "enable and start the Base Filtering Engine service (sc config BFE start= auto, sc start BFE)",
}


def failure(code: int, function: str) -> WfpError:
    """The exception for a code that the OS function of that name returned."""
    kind = _BY_CODE.get(code, WfpError)
    if function == "FwpmEngineOpen0" and code in _NO_ENGINE:
        kind = EngineUnavailable
    advice = _ADVICE.get(code) if kind is EngineUnavailable else None
    if advice:
        return kind(code, function, f"{CODES[code][1]}: {advice}")
    return kind(code, function)
