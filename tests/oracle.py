"""The oracle: an independent decoder of SA context pages that reads memory by the layout's JSON."""

import ctypes
import json
import re
import sys
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAYOUT: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "win64-layout.json").read_text(encoding="utf-8"))

_CONTEXT = [
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
]
_DIRECTION = [
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
]
_ONLY_VERSION_1 = {
    "local_port",
    "ip_protocol",
    "local_interface_luid",
    "real_profile_id",
    "qm_filter_id",
    "lookup_context",
    "virtual_tunnel_id",
    "traffic_selector_id",
}


def _of(version: int, names: list[str]) -> list[str]:
    return [name for name in names if version == 1 or name not in _ONLY_VERSION_1]


def _columns(version: int) -> tuple[str, ...]:
    one_direction = _of(version, _DIRECTION)
    both_directions = [f"{name}_{side}" for side in ("in", "out") for name in one_direction]
    return (*_of(version, _CONTEXT), *both_directions)


COLUMNS0 = _columns(0)
COLUMNS1 = _columns(1)

V4, V6 = 0, 1  # FWP_IP_VERSION
AH, ESP_AUTH, ESP_CIPHER, ESP_AUTH_AND_CIPHER, ESP_AUTH_FW = 1, 2, 3, 4, 5  # IPSEC_TRANSFORM_TYPE
NAME_LIMIT = 32767  # code units
OUT_OF_RANGE = 254

_STRUCTURES = [
    "IPSEC_SA_CONTEXT0",
    "IPSEC_SA_CONTEXT1",
    "IPSEC_SA_DETAILS0",
    "IPSEC_SA_DETAILS1",
    "IPSEC_TRAFFIC0",
    "IPSEC_TRAFFIC1",
    "IPSEC_SA_BUNDLE0",
    "IPSEC_SA_BUNDLE1",
    "IPSEC_SA_LIFETIME0",
    "IPSEC_SA0",
    "IPSEC_SA_AUTH_INFORMATION0",
    "IPSEC_SA_CIPHER_INFORMATION0",
    "IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0",
    "IPSEC_AUTH_TRANSFORM0",
    "IPSEC_AUTH_TRANSFORM_ID0",
    "IPSEC_CIPHER_TRANSFORM0",
    "IPSEC_CIPHER_TRANSFORM_ID0",
    "IPSEC_KEYMODULE_STATE0",
    "IPSEC_ID0",
    "IPSEC_V4_UDP_ENCAPSULATION0",
    "IPSEC_VIRTUAL_IF_TUNNEL_INFO0",
    "FWPM_FILTER0",
]


def _check_layout() -> None:
    """Assert that every field lies in its structure and has the size that its type says."""
    sizes = {"UINT8": 1, "UINT16": 2, "UINT32": 4, "UINT64": 8, "GUID": 16, "UINT8[16]": 16}
    sizes |= {name: struct["size"] for name, struct in LAYOUT.items()}
    for name in _STRUCTURES:
        for field, spec in LAYOUT[name]["fields"].items():
            assert spec["offset"] + spec["size"] <= LAYOUT[name]["size"], (name, field)
            size = 8 if spec["type"].endswith("*") else sizes.get(spec["type"])
            size = size or (1 if spec["type"].endswith("_CONFIG") else 4)  # the rest are enums
            assert spec["size"] == size, (name, field)


assert ctypes.sizeof(ctypes.c_void_p) == 8, "the oracle knows the 64-bit layout only"
_check_layout()


@dataclass(frozen=True)
class View:
    """One structure in memory: its name in the layout and its address."""

    struct: str
    address: int

    def _spec(self, field: str) -> dict[str, Any]:
        return LAYOUT[self.struct]["fields"][field]

    def raw(self, field: str) -> bytes:
        """The field's bytes as they lie in memory."""
        spec = self._spec(field)
        return ctypes.string_at(self.address + spec["offset"], spec["size"])

    def number(self, field: str) -> int:
        """The field as an unsigned integer of its own size."""
        return int.from_bytes(self.raw(field), sys.byteorder)

    def embedded(self, field: str) -> "View":
        """The structure that the field itself is."""
        spec = self._spec(field)
        return View(spec["type"], self.address + spec["offset"])

    def pointed(self, field: str, index: int = 0) -> "View | None":
        """The structure at `index` of the array the field points to; None for a NULL pointer."""
        struct = self._spec(field)["type"].removesuffix(" *")
        start = self.number(field)
        return View(struct, start + index * LAYOUT[struct]["size"]) if start else None


def decode(address: int, count: int, version: int) -> list[dict[str, object]]:
    """Decode the array of `count` pointers to IPSEC_SA_CONTEXT0/1 at `address`, a dict each."""
    columns = COLUMNS1 if version == 1 else COLUMNS0
    pointers = (ctypes.c_uint64 * count).from_address(address)
    rows = [_context(View(f"IPSEC_SA_CONTEXT{version}", pointer), version) for pointer in pointers]
    assert all(row.keys() == set(columns) for row in rows)
    return [{name: row[name] for name in columns} for row in rows]


def _context(context: View, version: int) -> dict[str, object]:
    inbound, outbound = context.pointed("inboundSa"), context.pointed("outboundSa")
    row: dict[str, object] = {
        # These say themselves what is there, so they are never absent.
        "context_id": context.number("saContextId"),
        "has_inbound": inbound is not None,
        "has_outbound": outbound is not None,
        "traffic_differs": _traffic_differs(inbound, outbound, version),
    }
    # The outbound SA speaks for the context; the inbound one only where there is no outbound.
    row |= _traffic(outbound or inbound, version)
    for side, details in (("in", inbound), ("out", outbound)):
        row |= {f"{name}_{side}": value for name, value in _direction(details, version).items()}
    return row


def _traffic(details: View | None, version: int) -> dict[str, object]:
    names = ["ip_version", "traffic_type", "local_address", "remote_address", "remote_port"]
    if version == 1:
        names += ["local_port", "ip_protocol", "local_interface_luid", "real_profile_id"]
    if details is None:
        return dict.fromkeys(names)
    traffic = details.embedded("traffic")
    row: dict[str, object] = {
        # The version as people say it: 4, 6, or "something else".
        "ip_version": {V4: 4, V6: 6}.get(traffic.number("ipVersion"), OUT_OF_RANGE),
        "traffic_type": _enum(traffic.number("trafficType")),
        "local_address": _address(traffic, "local"),
        "remote_address": _address(traffic, "remote"),
        # Zero means "not specialised", which is an answer and not an absence.
        "remote_port": traffic.number("remotePort"),
    }
    if version == 1:
        row |= {
            "local_port": traffic.number("localPort"),
            "ip_protocol": traffic.number("ipProtocol"),
            "local_interface_luid": traffic.number("localIfLuid"),
            "real_profile_id": traffic.number("realIfProfileId"),
        }
    return row


def _address(traffic: View, end: str) -> bytes | None:
    """16 bytes in network order: IPv4 comes as a host-order integer and is mapped into IPv6."""
    version = traffic.number("ipVersion")
    if version == V4:
        return bytes(10) + b"\xff\xff" + traffic.number(f"{end}V4Address").to_bytes(4, "big")
    return traffic.raw(f"{end}V6Address") if version == V6 else None


def _traffic_differs(inbound: View | None, outbound: View | None, version: int) -> bool:
    """True only where both directions exist and disagree on who talks to whom.

    Only the bytes that mean something are compared: of an address union 4 for IPv4, 16 for IPv6,
    none for a version nobody knows.
    """
    if inbound is None or outbound is None:
        return False
    one, other = inbound.embedded("traffic"), outbound.embedded("traffic")
    fields = ["ipVersion", "remotePort"]
    if version == 1:
        fields += ["localPort", "ipProtocol"]
    if one.number("ipVersion") == V4:
        fields += ["localV4Address", "remoteV4Address"]
    if one.number("ipVersion") == V6:
        fields += ["localV6Address", "remoteV6Address"]
    return any(one.raw(field) != other.raw(field) for field in fields)


def _direction(details: View | None, version: int) -> dict[str, object]:
    """The columns of one direction, without suffix; all None where its SA pointer is NULL."""
    if details is None:
        return dict.fromkeys(_of(version, _DIRECTION))
    bundle = details.embedded("saBundle")
    lifetime = bundle.embedded("lifetime")
    traffic = details.embedded("traffic")
    row: dict[str, object] = {
        "bundle_flags": bundle.number("flags"),
        "lifetime_seconds": lifetime.number("lifetimeSeconds"),
        "lifetime_kilobytes": lifetime.number("lifetimeKilobytes"),
        "lifetime_packets": lifetime.number("lifetimePackets"),
        "idle_timeout_seconds": bundle.number("idleTimeoutSeconds"),
        "nd_allow_clear_timeout_seconds": bundle.number("ndAllowClearTimeoutSeconds"),
        "nap_context": bundle.number("napContext"),
        "qm_sa_id": bundle.number("qmSaId"),
        "mm_sa_id": bundle.number("mmSaId"),
        "pfs_group": _enum(bundle.number("pfsGroup")),
        "filter_id": traffic.number("ipsecFilterId"),
    }
    row |= _security_associations(bundle)
    row |= _extras(details, bundle)
    if version == 1:
        tunnel = details.embedded("virtualIfTunnelInfo")
        row |= {
            "qm_filter_id": bundle.number("qmFilterId"),
            # A GUID of zeros says "none"; so do tunnel ids of 0.
            "lookup_context": _unless_zero(bundle.raw("saLookupContext")),
            "virtual_tunnel_id": tunnel.number("virtualIfTunnelId") or None,
            "traffic_selector_id": tunnel.number("trafficSelectorId") or None,
        }
    return row


def _security_associations(bundle: View) -> dict[str, object]:
    """The columns of the first two SAs; the count may be absurd, so nothing is read past them."""
    count = bundle.number("numSAs")
    first = bundle.pointed("saList", 0) if count >= 1 else None
    second = bundle.pointed("saList", 1) if count >= 2 else None
    auth, cipher = _algorithms(first)
    ah_auth, _ = _algorithms(second)
    return {
        "sa_count": min(count, OUT_OF_RANGE),
        "spi": first and first.number("spi"),
        "ah_spi": second and second.number("spi"),
        "transform": first and _enum(first.number("saTransformType")),
        "auth_type": auth and _enum(auth.number("authType")),
        "auth_config": auth and _enum(auth.number("authConfig")),
        "cipher_type": cipher and _enum(cipher.number("cipherType")),
        "cipher_config": cipher and _enum(cipher.number("cipherConfig")),
        "ah_auth_type": ah_auth and _enum(ah_auth.number("authType")),
        "ah_auth_config": ah_auth and _enum(ah_auth.number("authConfig")),
    }


def _algorithms(sa: View | None) -> tuple[View | None, View | None]:
    """The ids of the SA's authentication and cipher: its transform says which of them exist.

    What an unknown transform points to is unknown too, so its pointer is not followed.
    """
    if sa is None:
        return None, None
    auth: View | None = None
    cipher: View | None = None
    transform = sa.number("saTransformType")
    if transform in (AH, ESP_AUTH, ESP_AUTH_FW):
        auth = sa.pointed("ahInformation")
    elif transform == ESP_CIPHER:
        cipher = sa.pointed("espCipherInformation")
    elif transform == ESP_AUTH_AND_CIPHER:
        both = sa.pointed("espAuthAndCipherInformation")
        auth = both and both.embedded("saAuthInformation")
        cipher = both and both.embedded("saCipherInformation")
    return (
        auth and auth.embedded("authTransform").embedded("authTransformId"),
        cipher and cipher.embedded("cipherTransform").embedded("cipherTransformId"),
    )


def _extras(details: View, bundle: View) -> dict[str, object]:
    """The columns behind optional pointers, and those that a value of 0 makes absent."""
    transport_filter = details.pointed("transportFilter")
    # Of the details' and the bundle's unions only the IPv4 arm has anything in it.
    udp = details.pointed("udpEncapsulation") if details.number("ipVersion") == V4 else None
    peer = bundle.number("peerV4PrivateAddress") if bundle.number("ipVersion") == V4 else 0
    key_module = bundle.pointed("keyModuleState")
    identity = bundle.pointed("ipsecId")
    return {
        "transport_filter_id": (transport_filter and transport_filter.number("filterId")) or None,
        "udp_local_port": (udp and udp.number("localUdpEncapPort")) or None,
        "udp_remote_port": (udp and udp.number("remoteUdpEncapPort")) or None,
        "peer_private_address": peer or None,
        "key_module": key_module and _unless_zero(key_module.raw("keyModuleKey")),
        "main_mode_target": identity and _text(identity.number("mmTargetName")),
        "extended_mode_target": identity and _text(identity.number("emTargetName")),
    }


def _enum(value: int) -> int:
    """An enumeration's foreign value: kept up to 253, everything above is one value, 254."""
    return min(value, OUT_OF_RANGE)


def _unless_zero(guid: bytes) -> bytes | None:
    return guid if any(guid) else None


def _text(address: int) -> str | None:
    """UTF-16 text up to its NUL; no pointer is no text, but an empty text is one.

    It is cut at NAME_LIMIT units first, so a pair that the cut divides is a lone surrogate, too.
    """
    if not address:
        return None
    units = array("H")
    for unit in (ctypes.c_uint16 * NAME_LIMIT).from_address(address):
        if unit == 0:
            break
        units.append(unit)
    codec = "utf-16-le" if sys.byteorder == "little" else "utf-16-be"
    text = units.tobytes().decode(codec, errors="surrogatepass")
    return re.sub("[\ud800-\udfff]", "\ufffd", text)
