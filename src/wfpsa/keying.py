"""What manual keying takes: the traffic of an SA context, and the SAs of one of its directions."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Self, SupportsIndex
from uuid import UUID

from wfpsa.enums import AuthConfig, AuthType, CipherConfig, CipherType, PfsGroup, TrafficType, TransformType

__all__ = ["Sa", "SaBundle", "Traffic"]

_KEY_BYTES_MAX = 255
_NAME_UNITS_MAX = 32767


def _number(value: object, name: str, bits: int) -> int:
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    number = value.__index__()
    if not 0 <= number < 1 << bits:
        raise ValueError(f"{name} must be 0 to {(1 << bits) - 1}, not {number}")
    return number


def _check_numbers(given: object, **bits: int) -> None:
    """Makes ints in range of those attributes."""
    for name, width in bits.items():
        value = getattr(given, name)
        if type(value) is not int:  # a member of an enumeration stays what it is
            number = _number(value, name, width)
            value = value if isinstance(value, int) else number
        elif not 0 <= value < 1 << width:
            raise ValueError(f"{name} must be 0 to {(1 << width) - 1}, not {value}")
        object.__setattr__(given, name, value)


def _address(value: object, name: str) -> IPv4Address | IPv6Address:
    if isinstance(value, IPv4Address):
        return value
    if isinstance(value, str | IPv6Address):
        try:
            address = ip_address(value)
        except ValueError as error:
            raise ValueError(f"{name} must be an IPv4 or IPv6 address, not {value!r}: {error}") from None
        if getattr(address, "scope_id", None):
            raise ValueError(f"{name} must not have a scope, as {value!r} has")
        return address
    raise TypeError(f"{name} must be an address such as '10.2.0.1', not {type(value).__name__}")


@dataclass(frozen=True)
class Traffic:
    """IPSEC_TRAFFIC1, and what belongs to it: between which addresses an SA context protects what.

    `local_address` and `remote_address` may be given as text; they are the hosts in transport mode, the outer endpoints
    in tunnel mode. Ports and `ip_protocol` are host order, 0 where the traffic is not narrowed down to one; a tunnel
    has none. `filter_id` is the LUID of the IPsec filter (ipsecFilterId), of a tunnel's policy (tunnelPolicyId).
    The two udp ports say that NAT-T is in use (IPv4 only); `virtual_tunnel_id` and `traffic_selector_id` are IKEv2's
    (virtualIfTunnelInfo).

    Raises TypeError or ValueError for what cannot be: numbers out of range, addresses of two families.
    """

    local_address: IPv4Address | IPv6Address
    remote_address: IPv4Address | IPv6Address
    traffic_type: TrafficType | int = TrafficType.TRANSPORT
    filter_id: int = 0
    local_port: int = 0
    remote_port: int = 0
    ip_protocol: int = 0
    local_interface_luid: int = 0
    real_profile_id: int = 0
    udp_local_port: int = 0
    udp_remote_port: int = 0
    virtual_tunnel_id: int = 0
    traffic_selector_id: int = 0

    def __init__(
        self,
        local_address: str | IPv4Address | IPv6Address,
        remote_address: str | IPv4Address | IPv6Address,
        traffic_type: TrafficType | int = TrafficType.TRANSPORT,
        *,
        filter_id: int = 0,
        local_port: int = 0,
        remote_port: int = 0,
        ip_protocol: int = 0,
        local_interface_luid: int = 0,
        real_profile_id: int = 0,
        udp_local_port: int = 0,
        udp_remote_port: int = 0,
        virtual_tunnel_id: int = 0,
        traffic_selector_id: int = 0,
    ) -> None:
        given = dict(locals())
        for each in fields(self):
            object.__setattr__(self, each.name, given[each.name])
        local, remote = _address(local_address, "local_address"), _address(remote_address, "remote_address")
        if local.version != remote.version:
            raise ValueError(f"local_address and remote_address must be of one family, not {local} and {remote}")
        object.__setattr__(self, "local_address", local)
        object.__setattr__(self, "remote_address", remote)
        _check_numbers(self, traffic_type=32, filter_id=64, local_port=16, remote_port=16, ip_protocol=8)
        _check_numbers(self, local_interface_luid=64, real_profile_id=32, udp_local_port=16, udp_remote_port=16)
        _check_numbers(self, virtual_tunnel_id=64, traffic_selector_id=64)
        if local.version == 6 and (self.udp_local_port or self.udp_remote_port):
            raise ValueError("udp_local_port and udp_remote_port are of NAT-T over IPv4 and must be 0 for IPv6")


@dataclass(frozen=True, kw_only=True)
class Sa:
    """IPSEC_SA0: one SA. Which of the algorithms and keys count is said by `transform`.

    `spi` is host order. The keys are bytes (at most 255 each), read during the call they are given to; they are in no
    repr, and no result has them. An Sa is not pickled: a pickle would have them.
    """

    spi: int = 0
    transform: TransformType | int = TransformType.ESP_AUTH_AND_CIPHER
    auth_type: AuthType | int = AuthType.SHA_1
    auth_config: AuthConfig | int = AuthConfig.HMAC_SHA_1_96
    cipher_type: CipherType | int = CipherType.AES_128
    cipher_config: CipherConfig | int = CipherConfig.CBC_AES_128
    auth_key: bytes = field(default=b"", repr=False)
    cipher_key: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        _check_numbers(self, spi=32, transform=32, auth_type=32, auth_config=8, cipher_type=32, cipher_config=8)
        for name in ("auth_key", "cipher_key"):
            key = getattr(self, name)
            if not isinstance(key, bytes):
                raise TypeError(f"{name} must be bytes, not {type(key).__name__}")
            if len(key) > _KEY_BYTES_MAX:
                raise ValueError(f"{name} must have at most {_KEY_BYTES_MAX} bytes, not {len(key)}")

    def __reduce__(self) -> str:
        raise TypeError("an Sa holds keys and is not pickled")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


@dataclass(frozen=True, kw_only=True)
class SaBundle:
    """IPSEC_SA_BUNDLE1: the SAs of one direction, one or two (ESP, then AH), and what they have in common.

    The names are those of the columns. `qm_sa_id` is the same in both directions of a context. A lifetime of 0 has no
    limit; `lifetime_packets=0` also switches off the check against replayed packets. `ip_version` (4 or 6) is the
    traffic's. `lookup_context`, `key_module`, `peer_private_address` and the names are None where there are none.
    """

    sas: tuple[Sa, ...] = ()
    qm_sa_id: int = 0
    lifetime_seconds: int = 3600
    lifetime_kilobytes: int = 100_000
    lifetime_packets: int = 0x7FFFFFFF
    idle_timeout_seconds: int = 300
    nd_allow_clear_timeout_seconds: int = 0
    bundle_flags: int = 0
    nap_context: int = 0
    mm_sa_id: int = 0
    pfs_group: PfsGroup | int = PfsGroup.NONE
    qm_filter_id: int = 0
    ip_version: int = 4
    peer_private_address: IPv4Address | None = None
    lookup_context: UUID | None = None
    key_module: UUID | None = None
    main_mode_target: str | None = None
    extended_mode_target: str | None = None

    def __post_init__(self) -> None:
        _check_numbers(self, qm_sa_id=32, lifetime_seconds=32, lifetime_kilobytes=32, lifetime_packets=32)
        _check_numbers(self, idle_timeout_seconds=32, nd_allow_clear_timeout_seconds=32, bundle_flags=32)
        _check_numbers(self, nap_context=32, mm_sa_id=64, pfs_group=32, qm_filter_id=64)
        object.__setattr__(self, "sas", _sas(self.sas))
        _check_numbers(self, ip_version=8)
        if self.ip_version not in (4, 6):
            raise ValueError(f"ip_version must be 4 or 6, not {self.ip_version}")
        if self.peer_private_address is not None:
            address = _address(self.peer_private_address, "peer_private_address")
            if not isinstance(address, IPv4Address) or self.ip_version != 4:
                raise ValueError("peer_private_address is of IPv4 only")
            object.__setattr__(self, "peer_private_address", address)
        for name in ("lookup_context", "key_module"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, UUID):
                raise TypeError(f"{name} must be a uuid.UUID or None, not {type(value).__name__}")
        for name in ("main_mode_target", "extended_mode_target"):
            _check_name(getattr(self, name), name)


def _sas(given: "Sa | Iterable[Sa]") -> tuple[Sa, ...]:
    if not isinstance(given, Sa | Iterable):
        raise TypeError(f"sas must be an Sa or Sa objects, not {type(given).__name__}")
    sas = (given,) if isinstance(given, Sa) else tuple(given)
    if wrong := [sa for sa in sas if not isinstance(sa, Sa)]:
        raise TypeError(f"sas must be Sa objects, not {type(wrong[0]).__name__}")
    if len(sas) > 2:
        raise ValueError(f"sas must be one or two (ESP, then AH), not {len(sas)}")
    return sas


def _check_name(value: object, name: str) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str or None, not {type(value).__name__}")
    try:
        units = len(value.encode("utf-16-le")) // 2
    except UnicodeEncodeError:
        raise ValueError(f"{name} must not have unpaired surrogates") from None
    if "\0" in value or units > _NAME_UNITS_MAX:
        raise ValueError(f"{name} must have no NUL and at most {_NAME_UNITS_MAX} UTF-16 units")
