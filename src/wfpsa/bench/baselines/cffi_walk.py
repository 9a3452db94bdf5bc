"""The ordinary cffi user: the SDK's declarations in a cdef, and a walk over pointers that makes a dict a context."""

from collections.abc import Iterable, Mapping
from typing import Any

import cffi  # type: ignore[import-untyped]

from wfpsa.bench.baselines.ctypes_naive import (
    COLUMNS_ALL,
    COLUMNS_CORE,
    FWP_IP_VERSION_V4,
    FWP_IP_VERSION_V6,
    IPSEC_TRANSFORM_AH,
    IPSEC_TRANSFORM_ESP_AUTH,
    IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER,
    IPSEC_TRANSFORM_ESP_AUTH_FW,
    IPSEC_TRANSFORM_ESP_CIPHER,
    MAPPED,
    NAME_LIMIT,
    OUT_OF_RANGE,
    Row,
    session,
)

__all__ = ["COLUMNS_ALL", "COLUMNS_CORE", "decode", "expire"]

ffi = cffi.FFI()
ffi.cdef(
    """
    typedef uint8_t UINT8;
    typedef uint16_t UINT16;
    typedef uint32_t UINT32;
    typedef uint64_t UINT64;
    typedef void *HANDLE;
    typedef char16_t WCHAR;
    typedef UINT8 GUID[16];  // an array, because ffi.buffer() takes no structure

    // Enumerations and such.
    typedef UINT32 FWP_ACTION_TYPE;
    typedef UINT32 FWP_DATA_TYPE;
    typedef UINT32 FWP_DIRECTION;
    typedef UINT32 FWP_IP_VERSION;
    typedef UINT32 IPSEC_AUTH_TYPE;
    typedef UINT8 IPSEC_AUTH_CONFIG;
    typedef UINT32 IPSEC_CIPHER_TYPE;
    typedef UINT8 IPSEC_CIPHER_CONFIG;
    typedef GUID IPSEC_CRYPTO_MODULE_ID;
    typedef UINT32 IPSEC_PFS_GROUP;
    typedef UINT32 IPSEC_SA_SPI;
    typedef UINT32 IPSEC_TRAFFIC_TYPE;
    typedef UINT32 IPSEC_TRANSFORM_TYPE;

    // Structures that nothing here looks into.
    typedef struct FWP_BYTE_ARRAY6_ FWP_BYTE_ARRAY6;
    typedef struct FWP_BYTE_ARRAY16_ FWP_BYTE_ARRAY16;
    typedef struct FWP_TOKEN_INFORMATION_ FWP_TOKEN_INFORMATION;
    typedef struct FWPM_FILTER_CONDITION0_ FWPM_FILTER_CONDITION0;
    typedef struct IPSEC_TOKEN0_ IPSEC_TOKEN0;
    typedef struct SID_ SID;

    typedef struct FWP_BYTE_BLOB_ {
        UINT32 size;
        UINT8 *data;
    } FWP_BYTE_BLOB;

    typedef struct FWP_VALUE0_ {
        FWP_DATA_TYPE type;
        union {
            UINT8 uint8;
            UINT16 uint16;
            UINT32 uint32;
            UINT64 *uint64;
            int8_t int8;
            int16_t int16;
            int32_t int32;
            int64_t *int64;
            float float32;
            double *double64;
            FWP_BYTE_ARRAY16 *byteArray16;
            FWP_BYTE_BLOB *byteBlob;
            SID *sid;
            FWP_BYTE_BLOB *sd;
            FWP_TOKEN_INFORMATION *tokenInformation;
            FWP_BYTE_BLOB *tokenAccessInformation;
            WCHAR *unicodeString;
            FWP_BYTE_ARRAY6 *byteArray6;
        };
    } FWP_VALUE0;

    typedef struct FWPM_DISPLAY_DATA0_ {
        WCHAR *name;
        WCHAR *description;
    } FWPM_DISPLAY_DATA0;

    typedef struct FWPM_ACTION0_ {
        FWP_ACTION_TYPE type;
        union {
            GUID filterType;
            GUID calloutKey;
        };
    } FWPM_ACTION0;

    typedef struct FWPM_FILTER0_ {
        GUID filterKey;
        FWPM_DISPLAY_DATA0 displayData;
        UINT32 flags;
        GUID *providerKey;
        FWP_BYTE_BLOB providerData;
        GUID layerKey;
        GUID subLayerKey;
        FWP_VALUE0 weight;
        UINT32 numFilterConditions;
        FWPM_FILTER_CONDITION0 *filterCondition;
        FWPM_ACTION0 action;
        union {
            UINT64 rawContext;
            GUID providerContextKey;
        };
        GUID *reserved;
        UINT64 filterId;
        FWP_VALUE0 effectiveWeight;
    } FWPM_FILTER0;

    typedef struct IPSEC_AUTH_TRANSFORM_ID0_ {
        IPSEC_AUTH_TYPE authType;
        IPSEC_AUTH_CONFIG authConfig;
    } IPSEC_AUTH_TRANSFORM_ID0;

    typedef struct IPSEC_AUTH_TRANSFORM0_ {
        IPSEC_AUTH_TRANSFORM_ID0 authTransformId;
        IPSEC_CRYPTO_MODULE_ID *cryptoModuleId;
    } IPSEC_AUTH_TRANSFORM0;

    typedef struct IPSEC_CIPHER_TRANSFORM_ID0_ {
        IPSEC_CIPHER_TYPE cipherType;
        IPSEC_CIPHER_CONFIG cipherConfig;
    } IPSEC_CIPHER_TRANSFORM_ID0;

    typedef struct IPSEC_CIPHER_TRANSFORM0_ {
        IPSEC_CIPHER_TRANSFORM_ID0 cipherTransformId;
        IPSEC_CRYPTO_MODULE_ID *cryptoModuleId;
    } IPSEC_CIPHER_TRANSFORM0;

    typedef struct IPSEC_SA_AUTH_INFORMATION0_ {
        IPSEC_AUTH_TRANSFORM0 authTransform;
        FWP_BYTE_BLOB authKey;
    } IPSEC_SA_AUTH_INFORMATION0;

    typedef struct IPSEC_SA_CIPHER_INFORMATION0_ {
        IPSEC_CIPHER_TRANSFORM0 cipherTransform;
        FWP_BYTE_BLOB cipherKey;
    } IPSEC_SA_CIPHER_INFORMATION0;

    typedef struct IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0_ {
        IPSEC_SA_CIPHER_INFORMATION0 saCipherInformation;
        IPSEC_SA_AUTH_INFORMATION0 saAuthInformation;
    } IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0;

    typedef struct IPSEC_SA0_ {
        IPSEC_SA_SPI spi;
        IPSEC_TRANSFORM_TYPE saTransformType;
        union {
            IPSEC_SA_AUTH_INFORMATION0 *ahInformation;
            IPSEC_SA_AUTH_INFORMATION0 *espAuthInformation;
            IPSEC_SA_CIPHER_INFORMATION0 *espCipherInformation;
            IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0 *espAuthAndCipherInformation;
            IPSEC_SA_AUTH_INFORMATION0 *espAuthFwInformation;
        };
    } IPSEC_SA0;

    typedef struct IPSEC_KEYMODULE_STATE0_ {
        GUID keyModuleKey;
        FWP_BYTE_BLOB stateBlob;
    } IPSEC_KEYMODULE_STATE0;

    typedef struct IPSEC_ID0_ {
        WCHAR *mmTargetName;
        WCHAR *emTargetName;
        UINT32 numTokens;
        IPSEC_TOKEN0 *tokens;
        UINT64 explicitCredentials;
        UINT64 logonId;
    } IPSEC_ID0;

    typedef struct IPSEC_SA_LIFETIME0_ {
        UINT32 lifetimeSeconds;
        UINT32 lifetimeKilobytes;
        UINT32 lifetimePackets;
    } IPSEC_SA_LIFETIME0;

    typedef struct IPSEC_SA_BUNDLE1_ {
        UINT32 flags;
        IPSEC_SA_LIFETIME0 lifetime;
        UINT32 idleTimeoutSeconds;
        UINT32 ndAllowClearTimeoutSeconds;
        IPSEC_ID0 *ipsecId;
        UINT32 napContext;
        UINT32 qmSaId;
        UINT32 numSAs;
        IPSEC_SA0 *saList;
        IPSEC_KEYMODULE_STATE0 *keyModuleState;
        FWP_IP_VERSION ipVersion;
        union {
            UINT32 peerV4PrivateAddress;
        };
        UINT64 mmSaId;
        IPSEC_PFS_GROUP pfsGroup;
        GUID saLookupContext;
        UINT64 qmFilterId;
    } IPSEC_SA_BUNDLE1;

    typedef struct IPSEC_TRAFFIC1_ {
        FWP_IP_VERSION ipVersion;
        union {
            UINT32 localV4Address;
            UINT8 localV6Address[16];
        };
        union {
            UINT32 remoteV4Address;
            UINT8 remoteV6Address[16];
        };
        IPSEC_TRAFFIC_TYPE trafficType;
        union {
            UINT64 ipsecFilterId;
            UINT64 tunnelPolicyId;
        };
        UINT16 remotePort;
        UINT16 localPort;
        UINT8 ipProtocol;
        UINT64 localIfLuid;
        UINT32 realIfProfileId;
    } IPSEC_TRAFFIC1;

    typedef struct IPSEC_V4_UDP_ENCAPSULATION0_ {
        UINT16 localUdpEncapPort;
        UINT16 remoteUdpEncapPort;
    } IPSEC_V4_UDP_ENCAPSULATION0;

    typedef struct IPSEC_VIRTUAL_IF_TUNNEL_INFO0_ {
        UINT64 virtualIfTunnelId;
        UINT64 trafficSelectorId;
    } IPSEC_VIRTUAL_IF_TUNNEL_INFO0;

    typedef struct IPSEC_SA_DETAILS1_ {
        FWP_IP_VERSION ipVersion;
        FWP_DIRECTION saDirection;
        IPSEC_TRAFFIC1 traffic;
        IPSEC_SA_BUNDLE1 saBundle;
        union {
            IPSEC_V4_UDP_ENCAPSULATION0 *udpEncapsulation;
        };
        FWPM_FILTER0 *transportFilter;
        IPSEC_VIRTUAL_IF_TUNNEL_INFO0 virtualIfTunnelInfo;
    } IPSEC_SA_DETAILS1;

    typedef struct IPSEC_SA_CONTEXT1_ {
        UINT64 saContextId;
        IPSEC_SA_DETAILS1 *inboundSa;
        IPSEC_SA_DETAILS1 *outboundSa;
    } IPSEC_SA_CONTEXT1;
    """
)

_NO_GUID = bytes(16)
_NO_TRAFFIC = (None,) * 9
_NO_DIRECTION = (None,) * 32


def decode(address: int, count: int, fields: str = "all") -> list[Row]:
    """Decode the array of `count` pointers to IPSEC_SA_CONTEXT1 at `address`: a dict each."""
    record = _core if fields == "core" else _all
    entries = ffi.cast("IPSEC_SA_CONTEXT1 **", address)
    return [record(context) for context in ffi.unpack(entries, count)]


def _core(context: Any) -> Row:
    inbound = context.inboundSa
    outbound = context.outboundSa
    row = dict.fromkeys(COLUMNS_CORE)
    row["context_id"] = context.saContextId
    row["has_inbound"] = bool(inbound)
    row["has_outbound"] = bool(outbound)
    if shown := outbound or inbound:
        traffic = shown.traffic
        version = traffic.ipVersion
        row["ip_version"] = _ip_version(version)
        row["traffic_type"] = _enum(traffic.trafficType)
        row["local_address"] = _local(version, traffic)
        row["remote_address"] = _remote(version, traffic)
        row["remote_port"] = traffic.remotePort
    if inbound:
        bundle = inbound.saBundle
        if bundle.numSAs and (sa := bundle.saList):
            row["spi_in"] = sa.spi
    if outbound:
        bundle = outbound.saBundle
        if bundle.numSAs and (sa := bundle.saList):
            row["spi_out"] = sa.spi
            row["transform_out"] = _enum(sa.saTransformType)
            row["cipher_config_out"] = _algorithms(sa)[3]
        row["lifetime_seconds_out"] = bundle.lifetime.lifetimeSeconds
        row["mm_sa_id_out"] = bundle.mmSaId
        row["filter_id_out"] = traffic.ipsecFilterId
    return row


def _all(context: Any) -> Row:
    inbound = context.inboundSa
    outbound = context.outboundSa
    values = (
        context.saContextId,
        bool(inbound),
        bool(outbound),
        *(_traffic((outbound or inbound).traffic) if outbound or inbound else _NO_TRAFFIC),
        _traffic_differs(inbound.traffic, outbound.traffic) if inbound and outbound else False,
        *(_direction(inbound) if inbound else _NO_DIRECTION),
        *(_direction(outbound) if outbound else _NO_DIRECTION),
    )
    return dict(zip(COLUMNS_ALL, values, strict=True))


def _traffic(traffic: Any) -> tuple[Any, ...]:
    version = traffic.ipVersion
    return (
        _ip_version(version),
        _enum(traffic.trafficType),
        _local(version, traffic),
        _remote(version, traffic),
        traffic.localPort,
        traffic.remotePort,
        traffic.ipProtocol,
        traffic.localIfLuid,
        traffic.realIfProfileId,
    )


def _direction(details: Any) -> tuple[Any, ...]:
    bundle = details.saBundle
    lifetime = bundle.lifetime
    tunnel = details.virtualIfTunnelInfo

    spi = ah_spi = transform = auth_type = auth_config = cipher_type = cipher_config = ah_type = ah_config = None
    num_sas = bundle.numSAs
    if num_sas and (sas := bundle.saList):
        spi = sas.spi
        transform = _enum(sas.saTransformType)
        auth_type, auth_config, cipher_type, cipher_config = _algorithms(sas)
        if num_sas > 1:
            ah_spi = sas[1].spi
            ah_type, ah_config, _, _ = _algorithms(sas[1])

    transport_filter_id = udp_local = udp_remote = peer = key_module = main_mode = extended_mode = None
    if transport_filter := details.transportFilter:
        transport_filter_id = transport_filter.filterId or None
    if details.ipVersion == FWP_IP_VERSION_V4 and (udp := details.udpEncapsulation):
        udp_local = udp.localUdpEncapPort or None
        udp_remote = udp.remoteUdpEncapPort or None
    if bundle.ipVersion == FWP_IP_VERSION_V4:
        peer = bundle.peerV4PrivateAddress or None
    if state := bundle.keyModuleState:
        key_module = _guid(state.keyModuleKey)
    if identity := bundle.ipsecId:
        main_mode = _text(identity.mmTargetName)
        extended_mode = _text(identity.emTargetName)

    return (
        spi,
        ah_spi,
        _enum(num_sas),
        transform,
        auth_type,
        auth_config,
        cipher_type,
        cipher_config,
        ah_type,
        ah_config,
        bundle.flags,
        lifetime.lifetimeSeconds,
        lifetime.lifetimeKilobytes,
        lifetime.lifetimePackets,
        bundle.idleTimeoutSeconds,
        bundle.ndAllowClearTimeoutSeconds,
        bundle.napContext,
        bundle.qmSaId,
        bundle.mmSaId,
        _enum(bundle.pfsGroup),
        bundle.qmFilterId,
        _guid(bundle.saLookupContext),
        details.traffic.ipsecFilterId,
        transport_filter_id,
        udp_local,
        udp_remote,
        peer,
        key_module,
        tunnel.virtualIfTunnelId or None,
        tunnel.trafficSelectorId or None,
        main_mode,
        extended_mode,
    )


def _algorithms(sa: Any) -> tuple[Any, Any, Any, Any]:
    """Type and configuration of the SA's authentication and of its cipher.

    None where its transform has none or does not say which.
    """
    transform = sa.saTransformType
    if transform == IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER:
        if both := sa.espAuthAndCipherInformation:
            auth = both.saAuthInformation.authTransform.authTransformId
            cipher = both.saCipherInformation.cipherTransform.cipherTransformId
            return (
                _enum(auth.authType),
                _enum(auth.authConfig),
                _enum(cipher.cipherType),
                _enum(cipher.cipherConfig),
            )
    elif transform == IPSEC_TRANSFORM_ESP_CIPHER:
        if information := sa.espCipherInformation:
            cipher = information.cipherTransform.cipherTransformId
            return None, None, _enum(cipher.cipherType), _enum(cipher.cipherConfig)
    else:
        if transform == IPSEC_TRANSFORM_AH:
            information = sa.ahInformation
        elif transform == IPSEC_TRANSFORM_ESP_AUTH:
            information = sa.espAuthInformation
        elif transform == IPSEC_TRANSFORM_ESP_AUTH_FW:
            information = sa.espAuthFwInformation
        else:
            information = None
        if information:
            auth = information.authTransform.authTransformId
            return _enum(auth.authType), _enum(auth.authConfig), None, None
    return None, None, None, None


def _traffic_differs(one: Any, other: Any) -> bool:
    version = one.ipVersion
    if (
        version != other.ipVersion
        or one.remotePort != other.remotePort
        or one.localPort != other.localPort
        or one.ipProtocol != other.ipProtocol
    ):
        return True
    return _local(version, one) != _local(version, other) or _remote(version, one) != _remote(version, other)


def _ip_version(value: int) -> int:
    if value == FWP_IP_VERSION_V4:
        return 4
    return 6 if value == FWP_IP_VERSION_V6 else OUT_OF_RANGE


def _local(version: int, traffic: Any) -> bytes | None:
    if version == FWP_IP_VERSION_V4:
        return MAPPED + int.to_bytes(traffic.localV4Address, 4, "big")
    if version == FWP_IP_VERSION_V6:
        return bytes(ffi.buffer(traffic.localV6Address))
    return None


def _remote(version: int, traffic: Any) -> bytes | None:
    if version == FWP_IP_VERSION_V4:
        return MAPPED + int.to_bytes(traffic.remoteV4Address, 4, "big")
    if version == FWP_IP_VERSION_V6:
        return bytes(ffi.buffer(traffic.remoteV6Address))
    return None


def _enum(value: int) -> int:
    return value if value < OUT_OF_RANGE else OUT_OF_RANGE


def _guid(guid: Any) -> bytes | None:
    raw = bytes(ffi.buffer(guid))
    return raw if raw != _NO_GUID else None


def _text(name: Any) -> str | None:
    if not name:
        return None
    text: str = ffi.string(name, NAME_LIMIT)
    if text.isascii():
        return text
    # A lone surrogate is no character.
    return text.encode("utf-16-le", errors="surrogatepass").decode("utf-16-le", errors="replace")


def expire(functions: Mapping[str, int], server_name: str | None, ids: Iterable[int]) -> list[int]:
    """Expire each context in one session; the return code of each call."""
    expire_one = ffi.cast("UINT32 (__stdcall *)(HANDLE, UINT64)", functions["IPsecSaContextExpire0"])
    with session(functions, server_name) as opened:
        engine = ffi.cast("HANDLE", opened.value)
        return [expire_one(engine, context_id) for context_id in ids]
