"""Pages of SA contexts in memory, built without an engine from plain descriptions, and strategies.

What a description does not name (padding, tokens, credentials, the unused bytes of a union, the
pointers nobody has business with) is filled with JUNK, so that a reader of it is found out.
"""

import ctypes
import json
from collections.abc import Sequence
from ctypes import Structure, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import strategies as st

JUNK = 0xA5
KEY_MARK = b"\xc7KEY\xd5KEY"
"""What every key blob is filled with, over and over; it has no zero byte."""


# --- Descriptions ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """Type and configuration of an authentication or a cipher; a key of no bytes has NULL data."""

    type: int = 2
    config: int = 2
    key_size: int = 20


@dataclass(frozen=True, kw_only=True)
class Sa:
    """An SA; its transform says which of the algorithms go to memory.

    An unknown transform points to an authentication and a cipher that nobody may look at.
    """

    spi: int = 0x1000
    transform: int = 4
    has_information: bool = True
    auth: Algorithm = field(default_factory=Algorithm)
    cipher: Algorithm = field(default_factory=Algorithm)


@dataclass(frozen=True, kw_only=True)
class KeyModule:
    """A key module's state; a state of no bytes has NULL data."""

    key: bytes = bytes(range(16))
    state_size: int = 24


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The target names; lone surrogates in them go to memory as they are."""

    main_mode_target: str | None = None
    extended_mode_target: str | None = None


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle of SAs; `num_sas` may claim more than there are, but at most two are ever looked at.

    The memory of `sas` is there whatever `num_sas` says.
    """

    flags: int = 0
    lifetime_seconds: int = 0
    lifetime_kilobytes: int = 0
    lifetime_packets: int = 0
    idle_timeout_seconds: int = 0
    nd_allow_clear_timeout_seconds: int = 0
    identity: Identity | None = None
    nap_context: int = 0
    qm_sa_id: int = 0
    num_sas: int = 1
    sas: tuple[Sa, ...] | None = (Sa(),)
    key_module: KeyModule | None = None
    ip_version: int = 0
    peer_private_address: int = 0
    mm_sa_id: int = 0
    pfs_group: int = 0
    lookup_context: bytes = bytes(16)
    qm_filter_id: int = 0


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """The traffic; an address is its union's 16 bytes in memory order, see `v4()`."""

    ip_version: int = 0
    local: bytes = bytes(16)
    remote: bytes = bytes(16)
    traffic_type: int = 0
    filter_id: int = 0
    remote_port: int = 0
    local_port: int = 0
    ip_protocol: int = 0
    local_interface_luid: int = 0
    real_profile_id: int = 0


@dataclass(frozen=True, kw_only=True)
class Details:
    """One direction of a context."""

    ip_version: int = 0
    traffic: Traffic = field(default_factory=Traffic)
    bundle: Bundle = field(default_factory=Bundle)
    udp_ports: tuple[int, int] | None = None
    transport_filter_id: int | None = None
    virtual_tunnel_id: int = 0
    traffic_selector_id: int = 0


@dataclass(frozen=True, kw_only=True)
class Context:
    """An SA context; a direction of None is a NULL pointer."""

    context_id: int = 1
    inbound: Details | None = None
    outbound: Details | None = None


def v4(value: int) -> bytes:
    """The address union that holds this IPv4 address: a host-order integer, then junk."""
    return bytes(c_uint32(value)) + bytes([JUNK]) * 12


# --- The OS's structures --------------------------------------------------------------------------

GUID = c_uint8 * 16


class FWP_BYTE_BLOB(Structure):
    _fields_ = [("size", c_uint32), ("data", c_void_p)]


class FWPM_FILTER0(Structure):
    _fields_ = [("_head", c_uint64 * 22), ("filterId", c_uint64), ("_tail", c_uint64 * 2)]


class IPSEC_SA_LIFETIME0(Structure):
    _fields_ = [
        ("lifetimeSeconds", c_uint32),
        ("lifetimeKilobytes", c_uint32),
        ("lifetimePackets", c_uint32),
    ]


class IPSEC_SA_AUTH_INFORMATION0(Structure):
    _fields_ = [
        ("type", c_uint32),
        ("config", c_uint8),
        ("_cryptoModuleId", c_void_p),
        ("authKey", FWP_BYTE_BLOB),
    ]


class IPSEC_SA_CIPHER_INFORMATION0(Structure):
    _fields_ = [
        ("type", c_uint32),
        ("config", c_uint8),
        ("_cryptoModuleId", c_void_p),
        ("cipherKey", FWP_BYTE_BLOB),
    ]


class IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0(Structure):
    _fields_ = [
        ("saCipherInformation", IPSEC_SA_CIPHER_INFORMATION0),
        ("saAuthInformation", IPSEC_SA_AUTH_INFORMATION0),
    ]


class IPSEC_SA0(Structure):
    _fields_ = [("spi", c_uint32), ("saTransformType", c_uint32), ("ahInformation", c_void_p)]


class IPSEC_KEYMODULE_STATE0(Structure):
    _fields_ = [("keyModuleKey", GUID), ("stateBlob", FWP_BYTE_BLOB)]


class IPSEC_ID0(Structure):
    _fields_ = [
        ("mmTargetName", c_void_p),
        ("emTargetName", c_void_p),
        ("numTokens", c_uint32),
        ("tokens", c_void_p),
        ("explicitCredentials", c_uint64),
        ("logonId", c_uint64),
    ]


class IPSEC_SA_BUNDLE0(Structure):
    _fields_ = [
        ("flags", c_uint32),
        ("lifetime", IPSEC_SA_LIFETIME0),
        ("idleTimeoutSeconds", c_uint32),
        ("ndAllowClearTimeoutSeconds", c_uint32),
        ("ipsecId", c_void_p),
        ("napContext", c_uint32),
        ("qmSaId", c_uint32),
        ("numSAs", c_uint32),
        ("saList", c_void_p),
        ("keyModuleState", c_void_p),
        ("ipVersion", c_uint32),
        ("peerV4PrivateAddress", c_uint32),
        ("mmSaId", c_uint64),
        ("pfsGroup", c_uint32),
    ]


class IPSEC_SA_BUNDLE1(Structure):
    _fields_ = [
        *IPSEC_SA_BUNDLE0._fields_,
        ("saLookupContext", GUID),
        ("qmFilterId", c_uint64),
    ]


class IPSEC_TRAFFIC0(Structure):
    _fields_ = [
        ("ipVersion", c_uint32),
        ("localV6Address", c_uint8 * 16),
        ("remoteV6Address", c_uint8 * 16),
        ("trafficType", c_uint32),
        ("ipsecFilterId", c_uint64),
        ("remotePort", c_uint16),
    ]


class IPSEC_TRAFFIC1(Structure):
    _fields_ = [
        *IPSEC_TRAFFIC0._fields_,
        ("localPort", c_uint16),
        ("ipProtocol", c_uint8),
        ("localIfLuid", c_uint64),
        ("realIfProfileId", c_uint32),
    ]


class IPSEC_V4_UDP_ENCAPSULATION0(Structure):
    _fields_ = [("localUdpEncapPort", c_uint16), ("remoteUdpEncapPort", c_uint16)]


class IPSEC_VIRTUAL_IF_TUNNEL_INFO0(Structure):
    _fields_ = [("virtualIfTunnelId", c_uint64), ("trafficSelectorId", c_uint64)]


class IPSEC_SA_DETAILS0(Structure):
    _fields_ = [
        ("ipVersion", c_uint32),
        ("saDirection", c_uint32),
        ("traffic", IPSEC_TRAFFIC0),
        ("saBundle", IPSEC_SA_BUNDLE0),
        ("udpEncapsulation", c_void_p),
        ("transportFilter", c_void_p),
    ]


class IPSEC_SA_DETAILS1(Structure):
    _fields_ = [
        ("ipVersion", c_uint32),
        ("saDirection", c_uint32),
        ("traffic", IPSEC_TRAFFIC1),
        ("saBundle", IPSEC_SA_BUNDLE1),
        ("udpEncapsulation", c_void_p),
        ("transportFilter", c_void_p),
        ("virtualIfTunnelInfo", IPSEC_VIRTUAL_IF_TUNNEL_INFO0),
    ]


class IPSEC_SA_CONTEXT0(Structure):
    _fields_ = [("saContextId", c_uint64), ("inboundSa", c_void_p), ("outboundSa", c_void_p)]


class IPSEC_SA_CONTEXT1(IPSEC_SA_CONTEXT0):
    pass


def _check_structures() -> None:
    """Assert that the compiler's layout is the one above: every size, and every named field."""
    path = Path(__file__).parent / "data" / "win64-layout.json"
    layout = json.loads(path.read_text(encoding="utf-8"))
    for name, structure in globals().items():
        if not (isinstance(structure, type) and issubclass(structure, Structure)):
            continue
        if structure is Structure:
            continue
        assert ctypes.sizeof(structure) == layout[name]["size"], name
        for member, spec in layout[name]["fields"].items():
            if here := getattr(structure, member, None):
                assert (here.offset, here.size) == (spec["offset"], spec["size"]), (name, member)


_check_structures()


# --- Building -------------------------------------------------------------------------------------

_T = TypeVar("_T", bound=Structure)

AUTH_TRANSFORMS = (1, 2, 5)  # AH, ESP_AUTH, ESP_AUTH_FW
ESP_CIPHER = 3
ESP_AUTH_AND_CIPHER = 4


class Page:
    """A page in memory: what the OS's `*entries` is after an enumeration. Alive while it lives."""

    address: int
    count: int

    def __init__(self, descriptions: Sequence[Context], version: int) -> None:
        self._version = version
        self._memory: list[Any] = []
        self._secrets: list[ctypes.Array[c_uint8]] = []
        contexts = [self._context(description) for description in descriptions]
        self._entries = (c_void_p * len(contexts))(*map(ctypes.addressof, contexts))
        self.address = ctypes.addressof(self._entries)
        self.count = len(contexts)

    def key_blobs(self) -> list[bytes]:
        """The bytes, as they are now, of every secret that a decoder has to wipe.

        That is each key of the first two SAs of a list, as far as the list says they exist, and
        each key module's state. Blobs of no bytes are left out.
        """
        return [bytes(secret) for secret in self._secrets]

    def _new(self, structure: type[_T]) -> _T:
        made = structure()
        ctypes.memset(ctypes.byref(made), JUNK, ctypes.sizeof(made))
        self._memory.append(made)
        return made

    def _context(self, description: Context) -> Structure:
        structure = IPSEC_SA_CONTEXT1 if self._version == 1 else IPSEC_SA_CONTEXT0
        context = self._new(structure)
        context.saContextId = description.context_id
        context.inboundSa = self._details(description.inbound, direction=1)
        context.outboundSa = self._details(description.outbound, direction=0)
        return context

    def _details(self, description: Details | None, direction: int) -> int | None:
        if description is None:
            return None
        details = self._new(IPSEC_SA_DETAILS1 if self._version == 1 else IPSEC_SA_DETAILS0)
        details.ipVersion = description.ip_version
        details.saDirection = direction
        self._fill_traffic(details.traffic, description.traffic)
        self._fill_bundle(details.saBundle, description.bundle)
        details.udpEncapsulation = None
        if description.udp_ports is not None:
            udp = self._new(IPSEC_V4_UDP_ENCAPSULATION0)
            udp.localUdpEncapPort, udp.remoteUdpEncapPort = description.udp_ports
            details.udpEncapsulation = ctypes.addressof(udp)
        details.transportFilter = None
        if description.transport_filter_id is not None:
            transport_filter = self._new(FWPM_FILTER0)
            transport_filter.filterId = description.transport_filter_id
            details.transportFilter = ctypes.addressof(transport_filter)
        if self._version == 1:
            details.virtualIfTunnelInfo.virtualIfTunnelId = description.virtual_tunnel_id
            details.virtualIfTunnelInfo.trafficSelectorId = description.traffic_selector_id
        return ctypes.addressof(details)

    def _fill_traffic(self, traffic: Any, description: Traffic) -> None:
        traffic.ipVersion = description.ip_version
        traffic.localV6Address[:] = description.local
        traffic.remoteV6Address[:] = description.remote
        traffic.trafficType = description.traffic_type
        traffic.ipsecFilterId = description.filter_id
        traffic.remotePort = description.remote_port
        if self._version == 1:
            traffic.localPort = description.local_port
            traffic.ipProtocol = description.ip_protocol
            traffic.localIfLuid = description.local_interface_luid
            traffic.realIfProfileId = description.real_profile_id

    def _fill_bundle(self, bundle: Any, description: Bundle) -> None:
        bundle.flags = description.flags
        bundle.lifetime.lifetimeSeconds = description.lifetime_seconds
        bundle.lifetime.lifetimeKilobytes = description.lifetime_kilobytes
        bundle.lifetime.lifetimePackets = description.lifetime_packets
        bundle.idleTimeoutSeconds = description.idle_timeout_seconds
        bundle.ndAllowClearTimeoutSeconds = description.nd_allow_clear_timeout_seconds
        bundle.ipsecId = self._identity(description.identity)
        bundle.napContext = description.nap_context
        bundle.qmSaId = description.qm_sa_id
        bundle.numSAs = description.num_sas
        bundle.saList = self._sa_list(description.sas, description.num_sas)
        bundle.keyModuleState = self._key_module(description.key_module)
        bundle.ipVersion = description.ip_version
        bundle.peerV4PrivateAddress = description.peer_private_address
        bundle.mmSaId = description.mm_sa_id
        bundle.pfsGroup = description.pfs_group
        if self._version == 1:
            bundle.saLookupContext[:] = description.lookup_context
            bundle.qmFilterId = description.qm_filter_id

    def _identity(self, description: Identity | None) -> int | None:
        if description is None:
            return None
        identity = self._new(IPSEC_ID0)
        identity.mmTargetName = self._text(description.main_mode_target)
        identity.emTargetName = self._text(description.extended_mode_target)
        return ctypes.addressof(identity)

    def _text(self, text: str | None) -> int | None:
        if text is None:
            return None
        raw = text.encode("utf-16-le", errors="surrogatepass") + b"\0\0"
        units = (c_uint16 * (len(raw) // 2)).from_buffer_copy(raw)
        self._memory.append(units)
        return ctypes.addressof(units)

    def _key_module(self, description: KeyModule | None) -> int | None:
        if description is None:
            return None
        state = self._new(IPSEC_KEYMODULE_STATE0)
        state.keyModuleKey[:] = description.key
        self._fill_blob(state.stateBlob, description.state_size, secret=True)
        return ctypes.addressof(state)

    def _sa_list(self, descriptions: tuple[Sa, ...] | None, claimed: int) -> int | None:
        if descriptions is None:
            return None
        assert len(descriptions) >= min(claimed, 2), "a decoder would read past the list's end"
        sas = (IPSEC_SA0 * len(descriptions))()
        self._memory.append(sas)
        for index, (sa, description) in enumerate(zip(sas, descriptions, strict=True)):
            sa.spi = description.spi
            sa.saTransformType = description.transform
            sa.ahInformation = None
            if description.has_information:
                counted = index < min(claimed, 2)
                sa.ahInformation = ctypes.addressof(self._information(description, counted))
        return ctypes.addressof(sas)

    def _information(self, sa: Sa, counted: bool) -> Structure:
        if sa.transform in AUTH_TRANSFORMS:
            alone = self._new(IPSEC_SA_AUTH_INFORMATION0)
            self._fill_algorithm(alone, alone.authKey, sa.auth, secret=counted)
            return alone
        if sa.transform == ESP_CIPHER:
            cipher = self._new(IPSEC_SA_CIPHER_INFORMATION0)
            self._fill_algorithm(cipher, cipher.cipherKey, sa.cipher, secret=counted)
            return cipher
        both = self._new(IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0)
        secret = counted and sa.transform == ESP_AUTH_AND_CIPHER
        auth, cipher = both.saAuthInformation, both.saCipherInformation
        self._fill_algorithm(cipher, cipher.cipherKey, sa.cipher, secret=secret)
        self._fill_algorithm(auth, auth.authKey, sa.auth, secret=secret)
        return both

    def _fill_algorithm(self, target: Any, key: Any, algorithm: Algorithm, secret: bool) -> None:
        target.type = algorithm.type
        target.config = algorithm.config
        self._fill_blob(key, algorithm.key_size, secret=secret)

    def _fill_blob(self, blob: Any, size: int, secret: bool) -> None:
        blob.size = size
        blob.data = None
        if size:
            content = (KEY_MARK * (size // len(KEY_MARK) + 1))[:size]
            data = (c_uint8 * size).from_buffer_copy(content)
            self._memory.append(data)
            blob.data = ctypes.addressof(data)
            if secret:
                self._secrets.append(data)


def build(descriptions: Sequence[Context], version: int) -> Page:
    """Put the described contexts into memory as IPSEC_SA_CONTEXT0 or, for version 1, CONTEXT1."""
    return Page(descriptions, version)


# --- Strategies -----------------------------------------------------------------------------------

LONG_NAMES = ("x" * 32767, "x" * 32768, "x" * 32766 + "\U0001f600", "x" * 40000)
"""Names about the cut at 32767 units, for tests of their own: a failure that shows them is slow."""


def _unsigned(bits: int, *favoured: int) -> st.SearchStrategy[int]:
    top = 2**bits - 1
    return st.sampled_from([0, 1, *favoured, top]) | st.integers(0, top)


U8 = _unsigned(8)
U16 = _unsigned(16)
U32 = _unsigned(32)
U64 = _unsigned(64, 2**32, 2**63)
ENUMS = st.integers(0, 9) | st.sampled_from([253, 254, 255, 256, 2**32 - 1])
CONFIGS = st.integers(0, 9) | st.sampled_from([253, 254, 255])
IP_VERSIONS = st.sampled_from([0, 0, 0, 1, 1, 2, 3, 256, 2**32 - 1])
TRANSFORMS = st.sampled_from([1, 2, 3, 3, 4, 4, 4, 5, 0, 6, 253, 254, 255, 256, 2**32 - 1])
GUIDS = st.just(bytes(16)) | st.binary(min_size=16, max_size=16)
SIZES = st.sampled_from([0, 0, 1, 16, 20, 36])
COUNTS = st.sampled_from([2, 1, 1, 0, 2, 3, 253, 254, 255, 256, 2**31, 2**32 - 1])

_SURROGATES = st.characters(categories=["Cs"])
_CHARACTERS = st.characters(exclude_characters="\0") | st.sampled_from("aé中\U0001f600")
NAMES = (
    st.sampled_from([None, "", "host.example", "büro-中\U0001f511"])
    | st.sampled_from(["\ud800", "a\udc00b", "\udc00\ud800"])
    | st.text(_CHARACTERS | _SURROGATES, max_size=12)
)

ADDRESSES = st.builds(
    bytes.__add__,
    st.sampled_from([bytes(4), b"\x01\x02\x00\x0a", b"\xff\xfe\xfd\xfc"]) | st.binary(min_size=4, max_size=4),
    st.sampled_from([bytes(12), bytes([JUNK]) * 12]) | st.binary(min_size=12, max_size=12),
)

ALGORITHMS = st.builds(Algorithm, type=ENUMS, config=CONFIGS, key_size=SIZES)
SAS = st.builds(
    Sa,
    spi=U32,
    transform=TRANSFORMS,
    has_information=st.sampled_from([True, True, True, False]),
    auth=ALGORITHMS,
    cipher=ALGORITHMS,
)


def _traffic_fields(version: int) -> dict[str, st.SearchStrategy[Any]]:
    fields: dict[str, st.SearchStrategy[Any]] = {
        "ip_version": IP_VERSIONS,
        "local": ADDRESSES,
        "remote": ADDRESSES,
        "traffic_type": ENUMS,
        "filter_id": U64,
        "remote_port": U16,
    }
    if version == 1:
        fields |= {
            "local_port": U16,
            "ip_protocol": U8,
            "local_interface_luid": U64,
            "real_profile_id": U32,
        }
    return fields


def _bundles(version: int) -> st.SearchStrategy[Bundle]:
    only_version_1 = {"lookup_context": GUIDS, "qm_filter_id": U64} if version == 1 else {}
    return st.builds(
        Bundle,
        flags=U32,
        lifetime_seconds=U32,
        lifetime_kilobytes=U32,
        lifetime_packets=U32,
        idle_timeout_seconds=U32,
        nd_allow_clear_timeout_seconds=U32,
        identity=st.none() | st.builds(Identity, main_mode_target=NAMES, extended_mode_target=NAMES),
        nap_context=U32,
        qm_sa_id=U32,
        num_sas=COUNTS,
        # Always memory for two, so that a decoder that ignores a smaller count is found out.
        sas=st.sampled_from([True, True, True, False]).flatmap(
            lambda there: st.tuples(SAS, SAS) if there else st.none()
        ),
        key_module=st.none() | st.builds(KeyModule, key=GUIDS, state_size=SIZES),
        ip_version=IP_VERSIONS,
        peer_private_address=U32,
        mm_sa_id=U64,
        pfs_group=ENUMS,
        **only_version_1,
    )


def _details(version: int, traffic: st.SearchStrategy[Traffic]) -> st.SearchStrategy[Details]:
    only_version_1 = {"virtual_tunnel_id": U64, "traffic_selector_id": U64} if version == 1 else {}
    return st.builds(
        Details,
        ip_version=IP_VERSIONS,
        traffic=traffic,
        bundle=_bundles(version),
        udp_ports=st.none() | st.tuples(U16, U16),
        transport_filter_id=st.none() | U64,
        **only_version_1,
    )


@st.composite
def _contexts(draw: st.DrawFn, version: int) -> Context:
    """A context; if it has both directions their traffic is mostly equal but for one field."""
    fields = _traffic_fields(version)
    traffic = draw(st.builds(Traffic, **fields))
    inbound = outbound = None
    present = draw(st.sampled_from(["both", "both", "both", "in", "out", "none"]))
    if present in ("both", "in"):
        inbound = draw(_details(version, st.just(traffic)))
    if present == "both":
        change = draw(st.sampled_from(["nothing", "address tails", "address tails", *fields]))
        if change == "address tails":  # which is no difference for IPv4
            tail = draw(st.binary(min_size=12, max_size=12))
            traffic = replace(traffic, local=traffic.local[:4] + tail, remote=traffic.remote[:4] + tail)
        elif change in fields:
            traffic = replace(traffic, **{change: draw(fields[change])})
    if present in ("both", "out"):
        outbound = draw(_details(version, st.just(traffic)))
    return Context(context_id=draw(U64), inbound=inbound, outbound=outbound)


def strategy(version: int) -> st.SearchStrategy[list[Context]]:
    """Descriptions of a page, for `build()` with the same version; it may be empty."""
    return st.lists(_contexts(version), max_size=3)
