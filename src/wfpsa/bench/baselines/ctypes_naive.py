"""The ordinary ctypes user: Structure classes, and an attribute walk that makes a dict a context.

The OS's functions, the page loop and the column names are here for the other baselines, too: they
differ in how they decode a page.
"""

import ctypes
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from ctypes import POINTER, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p
from typing import Any

import wfpsa

Row = dict[str, Any]

_DIRECTION = (
    "spi",
    "ah_spi",
    "sa_count",
    "transform",
    "auth_type",
    "auth_config",
    "cipher_type",
    "cipher_config",
    "ah_auth_type",
    "ah_auth_config",
    "bundle_flags",
    "lifetime_seconds",
    "lifetime_kilobytes",
    "lifetime_packets",
    "idle_timeout_seconds",
    "nd_allow_clear_timeout_seconds",
    "nap_context",
    "qm_sa_id",
    "mm_sa_id",
    "pfs_group",
    "qm_filter_id",
    "lookup_context",
    "filter_id",
    "transport_filter_id",
    "udp_local_port",
    "udp_remote_port",
    "peer_private_address",
    "key_module",
    "virtual_tunnel_id",
    "traffic_selector_id",
    "main_mode_target",
    "extended_mode_target",
)
COLUMNS_ALL = (
    "context_id",
    "has_inbound",
    "has_outbound",
    "ip_version",
    "traffic_type",
    "local_address",
    "remote_address",
    "local_port",
    "remote_port",
    "ip_protocol",
    "local_interface_luid",
    "real_profile_id",
    "traffic_differs",
    *(f"{name}_in" for name in _DIRECTION),
    *(f"{name}_out" for name in _DIRECTION),
)
COLUMNS_CORE = wfpsa.CORE_FIELDS

FWP_IP_VERSION_V4 = 0
FWP_IP_VERSION_V6 = 1
IPSEC_TRANSFORM_AH = 1
IPSEC_TRANSFORM_ESP_AUTH = 2
IPSEC_TRANSFORM_ESP_CIPHER = 3
IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER = 4
IPSEC_TRANSFORM_ESP_AUTH_FW = 5
RPC_C_AUTHN_WINNT = 10

NAME_LIMIT = 32767
OUT_OF_RANGE = 254
MAPPED = b"\0\0\0\0\0\0\0\0\0\0\xff\xff"


# --- Structures -----------------------------------------------------------------------------------


class FWP_BYTE_BLOB(ctypes.Structure):
    _fields_ = [("size", c_uint32), ("data", POINTER(c_uint8))]


class FWP_VALUE0(ctypes.Structure):
    _fields_ = [("type", c_uint32), ("value", c_void_p)]


class FWPM_DISPLAY_DATA0(ctypes.Structure):
    _fields_ = [("name", c_void_p), ("description", c_void_p)]


class FWPM_ACTION0(ctypes.Structure):
    _fields_ = [("type", c_uint32), ("filterType", c_uint8 * 16)]


class FWPM_FILTER0_CONTEXT(ctypes.Union):
    _fields_ = [("rawContext", c_uint64), ("providerContextKey", c_uint8 * 16)]


class FWPM_FILTER0(ctypes.Structure):
    _fields_ = [
        ("filterKey", c_uint8 * 16),
        ("displayData", FWPM_DISPLAY_DATA0),
        ("flags", c_uint32),
        ("providerKey", c_void_p),
        ("providerData", FWP_BYTE_BLOB),
        ("layerKey", c_uint8 * 16),
        ("subLayerKey", c_uint8 * 16),
        ("weight", FWP_VALUE0),
        ("numFilterConditions", c_uint32),
        ("filterCondition", c_void_p),
        ("action", FWPM_ACTION0),
        ("context", FWPM_FILTER0_CONTEXT),
        ("reserved", c_void_p),
        ("filterId", c_uint64),
        ("effectiveWeight", FWP_VALUE0),
    ]


class IPSEC_AUTH_TRANSFORM0(ctypes.Structure):
    class Id(ctypes.Structure):
        _fields_ = [("authType", c_uint32), ("authConfig", c_uint8)]

    _fields_ = [("authTransformId", Id), ("cryptoModuleId", c_void_p)]


class IPSEC_CIPHER_TRANSFORM0(ctypes.Structure):
    class Id(ctypes.Structure):
        _fields_ = [("cipherType", c_uint32), ("cipherConfig", c_uint8)]

    _fields_ = [("cipherTransformId", Id), ("cryptoModuleId", c_void_p)]


class IPSEC_SA_AUTH_INFORMATION0(ctypes.Structure):
    _fields_ = [("authTransform", IPSEC_AUTH_TRANSFORM0), ("authKey", FWP_BYTE_BLOB)]


class IPSEC_SA_CIPHER_INFORMATION0(ctypes.Structure):
    _fields_ = [("cipherTransform", IPSEC_CIPHER_TRANSFORM0), ("cipherKey", FWP_BYTE_BLOB)]


class IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0(ctypes.Structure):
    _fields_ = [
        ("saCipherInformation", IPSEC_SA_CIPHER_INFORMATION0),
        ("saAuthInformation", IPSEC_SA_AUTH_INFORMATION0),
    ]


class IPSEC_SA0(ctypes.Structure):
    class Information(ctypes.Union):
        _fields_ = [
            ("ahInformation", POINTER(IPSEC_SA_AUTH_INFORMATION0)),
            ("espAuthInformation", POINTER(IPSEC_SA_AUTH_INFORMATION0)),
            ("espCipherInformation", POINTER(IPSEC_SA_CIPHER_INFORMATION0)),
            ("espAuthAndCipherInformation", POINTER(IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0)),
            ("espAuthFwInformation", POINTER(IPSEC_SA_AUTH_INFORMATION0)),
        ]

    _anonymous_ = ("information",)
    _fields_ = [("spi", c_uint32), ("saTransformType", c_uint32), ("information", Information)]


class IPSEC_KEYMODULE_STATE0(ctypes.Structure):
    _fields_ = [("keyModuleKey", c_uint8 * 16), ("stateBlob", FWP_BYTE_BLOB)]


class IPSEC_ID0(ctypes.Structure):
    _fields_ = [
        ("mmTargetName", POINTER(c_uint16)),  # not c_wchar_p: a wchar_t is 4 bytes off Windows
        ("emTargetName", POINTER(c_uint16)),
        ("numTokens", c_uint32),
        ("tokens", c_void_p),
        ("explicitCredentials", c_uint64),
        ("logonId", c_uint64),
    ]


class IPSEC_SA_LIFETIME0(ctypes.Structure):
    _fields_ = [
        ("lifetimeSeconds", c_uint32),
        ("lifetimeKilobytes", c_uint32),
        ("lifetimePackets", c_uint32),
    ]


class IPSEC_SA_BUNDLE1(ctypes.Structure):
    _fields_ = [
        ("flags", c_uint32),
        ("lifetime", IPSEC_SA_LIFETIME0),
        ("idleTimeoutSeconds", c_uint32),
        ("ndAllowClearTimeoutSeconds", c_uint32),
        ("ipsecId", POINTER(IPSEC_ID0)),
        ("napContext", c_uint32),
        ("qmSaId", c_uint32),
        ("numSAs", c_uint32),
        ("saList", POINTER(IPSEC_SA0)),
        ("keyModuleState", POINTER(IPSEC_KEYMODULE_STATE0)),
        ("ipVersion", c_uint32),
        ("peerV4PrivateAddress", c_uint32),
        ("mmSaId", c_uint64),
        ("pfsGroup", c_uint32),
        ("saLookupContext", c_uint8 * 16),
        ("qmFilterId", c_uint64),
    ]


class IPSEC_TRAFFIC1(ctypes.Structure):
    class Local(ctypes.Union):
        _fields_ = [("localV4Address", c_uint32), ("localV6Address", c_uint8 * 16)]

    class Remote(ctypes.Union):
        _fields_ = [("remoteV4Address", c_uint32), ("remoteV6Address", c_uint8 * 16)]

    _anonymous_ = ("local", "remote")
    _fields_ = [
        ("ipVersion", c_uint32),
        ("local", Local),
        ("remote", Remote),
        ("trafficType", c_uint32),
        ("ipsecFilterId", c_uint64),
        ("remotePort", c_uint16),
        ("localPort", c_uint16),
        ("ipProtocol", c_uint8),
        ("localIfLuid", c_uint64),
        ("realIfProfileId", c_uint32),
    ]


class IPSEC_V4_UDP_ENCAPSULATION0(ctypes.Structure):
    _fields_ = [("localUdpEncapPort", c_uint16), ("remoteUdpEncapPort", c_uint16)]


class IPSEC_VIRTUAL_IF_TUNNEL_INFO0(ctypes.Structure):
    _fields_ = [("virtualIfTunnelId", c_uint64), ("trafficSelectorId", c_uint64)]


class IPSEC_SA_DETAILS1(ctypes.Structure):
    _fields_ = [
        ("ipVersion", c_uint32),
        ("saDirection", c_uint32),
        ("traffic", IPSEC_TRAFFIC1),
        ("saBundle", IPSEC_SA_BUNDLE1),
        ("udpEncapsulation", POINTER(IPSEC_V4_UDP_ENCAPSULATION0)),
        ("transportFilter", POINTER(FWPM_FILTER0)),
        ("virtualIfTunnelInfo", IPSEC_VIRTUAL_IF_TUNNEL_INFO0),
    ]


class IPSEC_SA_CONTEXT1(ctypes.Structure):
    _fields_ = [
        ("saContextId", c_uint64),
        ("inboundSa", POINTER(IPSEC_SA_DETAILS1)),
        ("outboundSa", POINTER(IPSEC_SA_DETAILS1)),
    ]


# --- Decoding a page ------------------------------------------------------------------------------


def decode(address: int, count: int, fields: str = "all", structure: Any = IPSEC_SA_CONTEXT1) -> list[Row]:
    """Decode the array of `count` pointers to IPSEC_SA_CONTEXT1 at `address`: a dict each.

    `structure` is whichever definition of it shall be walked: its enumerations may be signed, and a
    name in it may be c_wchar_p, which reads as str.
    """
    record = _core if fields == "core" else _all
    entries = ctypes.cast(address, POINTER(POINTER(structure)))
    return [record(entries[index].contents) for index in range(count)]


def _core(context: Any) -> Row:
    inbound = context.inboundSa.contents if context.inboundSa else None
    outbound = context.outboundSa.contents if context.outboundSa else None
    row = dict.fromkeys(COLUMNS_CORE)
    row["context_id"] = context.saContextId
    row["has_inbound"] = inbound is not None
    row["has_outbound"] = outbound is not None
    shown = outbound or inbound
    if shown is not None:
        traffic = shown.traffic
        row["ip_version"] = _ip_version(traffic.ipVersion)
        row["traffic_type"] = _enum(traffic.trafficType)
        row["local_address"] = _local(traffic)
        row["remote_address"] = _remote(traffic)
        row["remote_port"] = traffic.remotePort
    if inbound is not None and (first := _sa(inbound.saBundle, 0)):
        row["spi_in"] = first.spi
    if outbound is not None:
        bundle = outbound.saBundle
        if first := _sa(bundle, 0):
            row["spi_out"] = first.spi
            row["transform_out"] = _enum(first.saTransformType)
            if cipher := _cipher(first):
                row["cipher_config_out"] = _enum(cipher.cipherConfig)
        row["lifetime_seconds_out"] = bundle.lifetime.lifetimeSeconds
        row["mm_sa_id_out"] = bundle.mmSaId
        row["filter_id_out"] = outbound.traffic.ipsecFilterId
    return row


def _all(context: Any) -> Row:
    inbound = context.inboundSa.contents if context.inboundSa else None
    outbound = context.outboundSa.contents if context.outboundSa else None
    row = dict.fromkeys(COLUMNS_ALL)
    row["context_id"] = context.saContextId
    row["has_inbound"] = inbound is not None
    row["has_outbound"] = outbound is not None
    row["traffic_differs"] = False
    shown = outbound or inbound
    if shown is not None:
        traffic = shown.traffic
        row["ip_version"] = _ip_version(traffic.ipVersion)
        row["traffic_type"] = _enum(traffic.trafficType)
        row["local_address"] = _local(traffic)
        row["remote_address"] = _remote(traffic)
        row["local_port"] = traffic.localPort
        row["remote_port"] = traffic.remotePort
        row["ip_protocol"] = traffic.ipProtocol
        row["local_interface_luid"] = traffic.localIfLuid
        row["real_profile_id"] = traffic.realIfProfileId
    if inbound is not None and outbound is not None:
        row["traffic_differs"] = _traffic_differs(inbound.traffic, outbound.traffic)
    if inbound is not None:
        _direction(row, "_in", inbound)
    if outbound is not None:
        _direction(row, "_out", outbound)
    return row


def _direction(row: Row, side: str, details: Any) -> None:
    bundle = details.saBundle
    row["sa_count" + side] = min(bundle.numSAs, OUT_OF_RANGE)
    if first := _sa(bundle, 0):
        row["spi" + side] = first.spi
        row["transform" + side] = _enum(first.saTransformType)
        if auth := _auth(first):
            row["auth_type" + side] = _enum(auth.authType)
            row["auth_config" + side] = _enum(auth.authConfig)
        if cipher := _cipher(first):
            row["cipher_type" + side] = _enum(cipher.cipherType)
            row["cipher_config" + side] = _enum(cipher.cipherConfig)
    if second := _sa(bundle, 1):
        row["ah_spi" + side] = second.spi
        if auth := _auth(second):
            row["ah_auth_type" + side] = _enum(auth.authType)
            row["ah_auth_config" + side] = _enum(auth.authConfig)

    lifetime = bundle.lifetime
    row["bundle_flags" + side] = bundle.flags
    row["lifetime_seconds" + side] = lifetime.lifetimeSeconds
    row["lifetime_kilobytes" + side] = lifetime.lifetimeKilobytes
    row["lifetime_packets" + side] = lifetime.lifetimePackets
    row["idle_timeout_seconds" + side] = bundle.idleTimeoutSeconds
    row["nd_allow_clear_timeout_seconds" + side] = bundle.ndAllowClearTimeoutSeconds
    row["nap_context" + side] = bundle.napContext
    row["qm_sa_id" + side] = bundle.qmSaId
    row["mm_sa_id" + side] = bundle.mmSaId
    row["pfs_group" + side] = _enum(bundle.pfsGroup)
    row["qm_filter_id" + side] = bundle.qmFilterId
    row["lookup_context" + side] = _guid(bundle.saLookupContext)
    row["filter_id" + side] = details.traffic.ipsecFilterId

    if details.transportFilter:
        row["transport_filter_id" + side] = details.transportFilter.contents.filterId or None
    if details.ipVersion == FWP_IP_VERSION_V4 and details.udpEncapsulation:
        udp = details.udpEncapsulation.contents
        row["udp_local_port" + side] = udp.localUdpEncapPort or None
        row["udp_remote_port" + side] = udp.remoteUdpEncapPort or None
    if bundle.ipVersion == FWP_IP_VERSION_V4:
        row["peer_private_address" + side] = bundle.peerV4PrivateAddress or None
    if bundle.keyModuleState:
        row["key_module" + side] = _guid(bundle.keyModuleState.contents.keyModuleKey)
    row["virtual_tunnel_id" + side] = details.virtualIfTunnelInfo.virtualIfTunnelId or None
    row["traffic_selector_id" + side] = details.virtualIfTunnelInfo.trafficSelectorId or None
    if bundle.ipsecId:
        identity = bundle.ipsecId.contents
        row["main_mode_target" + side] = _text(identity.mmTargetName)
        row["extended_mode_target" + side] = _text(identity.emTargetName)


def _sa(bundle: Any, index: int) -> Any:
    return bundle.saList[index] if bundle.saList and bundle.numSAs > index else None


def _auth(sa: Any) -> Any:
    """The SA's authentication, None if its transform has none or does not say which."""
    transform = sa.saTransformType
    if transform == IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER and sa.espAuthAndCipherInformation:
        both = sa.espAuthAndCipherInformation.contents
        return both.saAuthInformation.authTransform.authTransformId
    if transform == IPSEC_TRANSFORM_AH and sa.ahInformation:
        return sa.ahInformation.contents.authTransform.authTransformId
    if transform == IPSEC_TRANSFORM_ESP_AUTH and sa.espAuthInformation:
        return sa.espAuthInformation.contents.authTransform.authTransformId
    if transform == IPSEC_TRANSFORM_ESP_AUTH_FW and sa.espAuthFwInformation:
        return sa.espAuthFwInformation.contents.authTransform.authTransformId
    return None


def _cipher(sa: Any) -> Any:
    """The SA's cipher, None if its transform has none or does not say which."""
    transform = sa.saTransformType
    if transform == IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER and sa.espAuthAndCipherInformation:
        both = sa.espAuthAndCipherInformation.contents
        return both.saCipherInformation.cipherTransform.cipherTransformId
    if transform == IPSEC_TRANSFORM_ESP_CIPHER and sa.espCipherInformation:
        return sa.espCipherInformation.contents.cipherTransform.cipherTransformId
    return None


def _traffic_differs(one: Any, other: Any) -> bool:
    if (one.ipVersion, one.remotePort, one.localPort, one.ipProtocol) != (
        other.ipVersion,
        other.remotePort,
        other.localPort,
        other.ipProtocol,
    ):
        return True
    return _local(one) != _local(other) or _remote(one) != _remote(other)


def _ip_version(value: int) -> int:
    if value == FWP_IP_VERSION_V4:
        return 4
    return 6 if value == FWP_IP_VERSION_V6 else OUT_OF_RANGE


def _local(traffic: Any) -> bytes | None:
    if traffic.ipVersion == FWP_IP_VERSION_V4:
        return MAPPED + int.to_bytes(traffic.localV4Address, 4, "big")
    if traffic.ipVersion == FWP_IP_VERSION_V6:
        return bytes(traffic.localV6Address)
    return None


def _remote(traffic: Any) -> bytes | None:
    if traffic.ipVersion == FWP_IP_VERSION_V4:
        return MAPPED + int.to_bytes(traffic.remoteV4Address, 4, "big")
    if traffic.ipVersion == FWP_IP_VERSION_V6:
        return bytes(traffic.remoteV6Address)
    return None


def _enum(value: int) -> int:
    return value if 0 <= value < OUT_OF_RANGE else OUT_OF_RANGE


def _guid(guid: Any) -> bytes | None:
    raw = bytes(guid)
    return raw if any(raw) else None


def _text(units: Any) -> str | None:
    if isinstance(units, str):
        raw = units.encode("utf-16-le", errors="surrogatepass")[: 2 * NAME_LIMIT]
    elif units:
        length = 0
        while length < NAME_LIMIT and units[length]:
            length += 1
        raw = ctypes.string_at(units, 2 * length)
    else:
        return None
    return raw.decode("utf-16-le", errors="replace")


# --- The OS's functions ---------------------------------------------------------------------------

_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "FwpmEngineOpen0": (c_uint32, c_void_p, c_uint32, c_void_p, c_void_p, POINTER(c_void_p)),
    "FwpmEngineClose0": (c_uint32, c_void_p),
    "FwpmFreeMemory0": (None, POINTER(c_void_p)),
    "IPsecSaContextCreateEnumHandle0": (c_uint32, c_void_p, c_void_p, POINTER(c_void_p)),
    "IPsecSaContextEnum0": (c_uint32, c_void_p, c_void_p, c_uint32, POINTER(c_void_p), POINTER(c_uint32)),
    "IPsecSaContextEnum1": (c_uint32, c_void_p, c_void_p, c_uint32, POINTER(c_void_p), POINTER(c_uint32)),
    "IPsecSaContextDestroyEnumHandle0": (c_uint32, c_void_p, c_void_p),
    "IPsecSaContextExpire0": (c_uint32, c_void_p, c_uint64),
}
if sys.platform == "win32":
    _FUNCTYPE = ctypes.WINFUNCTYPE
else:
    _FUNCTYPE = ctypes.CFUNCTYPE


def function(functions: Mapping[str, int], name: str) -> Callable[..., Any]:
    """The OS function of this name, callable."""
    return _FUNCTYPE(*_PROTOTYPES[name])(functions[name])


def check(code: int, name: str) -> None:
    """Raise OSError if the function of this name did not succeed."""
    if code:
        raise OSError(f"{name}: 0x{code:08X}")


@contextmanager
def session(functions: Mapping[str, int], server_name: str | None) -> Iterator[c_void_p]:
    """An engine handle, closed at the end."""
    engine = c_void_p()
    name = None if server_name is None else server_name.encode("utf-16-le") + b"\0\0"
    engine_open = function(functions, "FwpmEngineOpen0")
    check(engine_open(name, RPC_C_AUTHN_WINNT, None, None, ctypes.byref(engine)), "FwpmEngineOpen0")
    try:
        yield engine
    finally:
        function(functions, "FwpmEngineClose0")(engine)


def pages(
    functions: Mapping[str, int], server_name: str | None, page_size: int, name: str = "IPsecSaContextEnum1"
) -> Generator[tuple[int, int], None, None]:
    """The address and count of each page in turn; a page is freed when the next is asked for."""
    create = function(functions, "IPsecSaContextCreateEnumHandle0")
    enum = function(functions, name)
    destroy = function(functions, "IPsecSaContextDestroyEnumHandle0")
    free = function(functions, "FwpmFreeMemory0")
    with session(functions, server_name) as engine:
        handle = c_void_p()
        check(create(engine, None, ctypes.byref(handle)), "IPsecSaContextCreateEnumHandle0")
        try:
            returned = page_size
            while returned == page_size:
                entries, count = c_void_p(), c_uint32()
                code = enum(engine, handle, page_size, ctypes.byref(entries), ctypes.byref(count))
                check(code, name)
                returned = count.value
                try:
                    if entries.value is not None:
                        yield entries.value, returned
                finally:
                    if entries:
                        free(ctypes.byref(entries))
        finally:
            destroy(engine, handle)


def enumerate_contexts(
    functions: Mapping[str, int],
    server_name: str | None,
    page_size: int = 1000,
    fields: str = "all",
) -> list[Row]:
    """Every context of the engine, decoded page by page."""
    rows: list[Row] = []
    for address, count in pages(functions, server_name, page_size):
        rows += decode(address, count, fields)
    return rows


def expire(functions: Mapping[str, int], server_name: str | None, ids: Iterable[int]) -> list[int]:
    """Expire each context in one session; the return code of each call."""
    expire_one = function(functions, "IPsecSaContextExpire0")
    with session(functions, server_name) as engine:
        return [expire_one(engine, context_id) for context_id in ids]
