"""The best that ctypes and struct can do: one unpack a structure, straight from memory, to tuples.

The tricks, all of them legal and safe on a page that the OS made:

- One buffer covers the whole address space, so `unpack_from(MEMORY, pointer)` reads a structure
  without an object for its address, and a slice of it is a copy of memory.
- A structure is unpacked with one call, and only as far as the wanted columns need it.
- A row is a tuple; absent SAs share one tuple of None.
- Clamping is an expression (`x if x < 254 else 254`), which costs less than a call of min().
- Text is decoded once for each distinct value in a page; the cache ends with the page.

64-bit and little-endian only, as every Windows that it runs on.
"""

import ctypes
import sys
from collections.abc import Iterable, Mapping
from itertools import repeat
from struct import Struct
from typing import Any

from wfpsa.bench.baselines.ctypes_naive import COLUMNS_ALL, COLUMNS_CORE, function, pages, session

__all__ = ["COLUMNS_ALL", "COLUMNS_CORE", "decode", "enumerate_contexts", "expire"]

if ctypes.sizeof(ctypes.c_void_p) != 8 or sys.byteorder != "little":
    raise ImportError("ctypes_fast knows 64-bit little-endian structures only")

Row = tuple[Any, ...]

MEMORY: Any = (ctypes.c_char * sys.maxsize).from_address(0)

_CONTEXT = Struct("<QQQ").unpack_from  # IPSEC_SA_CONTEXT1: id, inbound, outbound
_DETAILS_STRUCT = Struct(
    "<I4x"  # IPSEC_SA_DETAILS1: ipVersion, saDirection skipped
    "I16s16sIQHHB3xQI4x"  # traffic
    "6IQ3I4xQQIIQI16s4xQ"  # saBundle
    "QQQQ"  # udpEncapsulation, transportFilter, virtualIfTunnelInfo
)
assert _DETAILS_STRUCT.size == 224
_DETAILS = _DETAILS_STRUCT.unpack_from
_SA = Struct("<IIQ").unpack_from  # IPSEC_SA0: spi, saTransformType, information
_TWO_SAS = Struct("<IIQIIQ").unpack_from
_ALGORITHM = Struct("<IB").unpack_from  # the transform id that IPSEC_SA_*_INFORMATION0 begins with
_CIPHER_AND_AUTH = Struct("<IB27xIB").unpack_from  # IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0
_CIPHER_CONFIG = Struct("<4xB").unpack_from
_UDP = Struct("<HH").unpack_from  # IPSEC_V4_UDP_ENCAPSULATION0
_FILTER_ID = Struct("<176xQ").unpack_from  # FWPM_FILTER0.filterId
_NAMES = Struct("<QQ").unpack_from  # IPSEC_ID0: mmTargetName, emTargetName

# The core set: up to remotePort, then lifetimeSeconds, numSAs, saList and mmSaId of the bundle.
_CORE_DETAILS = Struct("<8xI16s16sIQH26xI32xI4xQ16xQ").unpack_from
_CORE_SAS = Struct("<120xI4xQ").unpack_from

_MAPPED = b"\0\0\0\0\0\0\0\0\0\0\xff\xff"
_ZERO_GUID = bytes(16)
_NO_TRAFFIC = (None,) * 9
_NO_DIRECTION = (None,) * 32

_PAGE_MASK = 4095  # the smallest page of any CPU that Windows runs on, less one
_NAME_LIMIT = 2 * 32767  # bytes


def decode(address: int, count: int, fields: str = "all") -> list[Row]:
    """Decode the array of `count` pointers to IPSEC_SA_CONTEXT1 at `address`.

    The tuples follow COLUMNS_ALL or, for fields="core", COLUMNS_CORE.
    """
    pointers = Struct(f"<{count}Q").unpack_from(MEMORY, address)
    if fields == "core":
        return list(map(_core, pointers))
    return list(map(_all, pointers, repeat({})))


def _core(pointer: int) -> Row:
    context_id, inbound, outbound = _CONTEXT(MEMORY, pointer)
    spi_in = spi = transform = cipher_config = seconds = mm_sa_id = filter_id = None
    if outbound:
        (
            version,
            local,
            remote,
            traffic_type,
            filter_id,
            remote_port,
            seconds,
            num_sas,
            sa_list,
            mm_sa_id,
        ) = _CORE_DETAILS(MEMORY, outbound)
        if num_sas and sa_list:
            spi, transform, information = _SA(MEMORY, sa_list)
            # The cipher comes first in the pair, too, so one unpack serves both.
            if transform in (3, 4) and information:
                (cipher_config,) = _CIPHER_CONFIG(MEMORY, information)
                cipher_config = cipher_config if cipher_config < 254 else 254
            transform = transform if transform < 254 else 254
        if inbound:
            num_sas, sa_list = _CORE_SAS(MEMORY, inbound)
            if num_sas and sa_list:
                spi_in = _SA(MEMORY, sa_list)[0]
    elif inbound:
        version, local, remote, traffic_type, _, remote_port, _, num_sas, sa_list, _ = _CORE_DETAILS(MEMORY, inbound)
        if num_sas and sa_list:
            spi_in = _SA(MEMORY, sa_list)[0]
    else:
        return (context_id, False, False, *_NO_DIRECTION[:12])

    if version == 0:
        version = 4
        local = _MAPPED + local[3::-1]  # the first four bytes, turned round
        remote = _MAPPED + remote[3::-1]
    elif version == 1:
        version = 6
    else:
        version = 254
        local = remote = None
    return (
        context_id,
        inbound != 0,
        outbound != 0,
        version,
        traffic_type if traffic_type < 254 else 254,
        local,
        remote,
        remote_port,
        spi_in,
        spi,
        transform,
        cipher_config,
        seconds,
        mm_sa_id,
        filter_id,
    )


def _all(pointer: int, texts: dict[bytes, str]) -> Row:
    context_id, inbound, outbound = _CONTEXT(MEMORY, pointer)
    differs = False
    columns_in = columns_out = _NO_DIRECTION
    if inbound:
        details = _DETAILS(MEMORY, inbound)
        traffic = details[1:11]
        columns_in = _direction(details, texts)
    if outbound:
        details = _DETAILS(MEMORY, outbound)
        if inbound:
            differs = _traffic_differs(traffic, details[1:11])
        traffic = details[1:11]
        columns_out = _direction(details, texts)
    if not inbound and not outbound:
        columns_traffic: Row = _NO_TRAFFIC
    else:
        version, local, remote, traffic_type, _, remote_port, port, protocol, luid, profile = traffic
        if version == 0:
            version = 4
            local = _MAPPED + local[3::-1]  # the first four bytes, turned round
            remote = _MAPPED + remote[3::-1]
        elif version == 1:
            version = 6
        else:
            version = 254
            local = remote = None
        columns_traffic = (
            version,
            traffic_type if traffic_type < 254 else 254,
            local,
            remote,
            port,
            remote_port,
            protocol,
            luid,
            profile,
        )
    return (
        context_id,
        inbound != 0,
        outbound != 0,
        *columns_traffic,
        differs,
        *columns_in,
        *columns_out,
    )


def _traffic_differs(one: Row, other: Row) -> bool:
    version, local, remote, *_ = one
    if version != other[0] or one[5:8] != other[5:8]:
        return True
    if local == other[1] and remote == other[2]:
        return False
    differs: bool = version == 1
    if version == 0:  # the other twelve bytes mean nothing
        differs = local[:4] != other[1][:4] or remote[:4] != other[2][:4]
    return differs


def _direction(details: Row, texts: dict[bytes, str]) -> Row:
    (
        ip_version,
        _,
        _,
        _,
        _,
        filter_id,
        _,
        _,
        _,
        _,
        _,
        flags,
        seconds,
        kilobytes,
        packets,
        idle,
        allow_clear,
        identity,
        nap_context,
        qm_sa_id,
        num_sas,
        sa_list,
        key_module_state,
        bundle_ip_version,
        peer,
        mm_sa_id,
        pfs_group,
        lookup_context,
        qm_filter_id,
        udp,
        transport_filter,
        tunnel_id,
        selector_id,
    ) = details

    spi = ah_spi = None
    transform: Any = None
    auth_type: Any = None
    cipher_type: Any = None
    ah_type: Any = None
    auth_config: Any = None
    cipher_config: Any = None
    ah_config: Any = None
    if num_sas and sa_list:
        if num_sas == 1:
            spi, transform, information = _SA(MEMORY, sa_list)
        else:
            spi, transform, information, ah_spi, ah_transform, ah_information = _TWO_SAS(MEMORY, sa_list)
            if ah_information:
                if ah_transform in (1, 2, 5):
                    ah_type, ah_config = _ALGORITHM(MEMORY, ah_information)
                elif ah_transform == 4:
                    _, _, ah_type, ah_config = _CIPHER_AND_AUTH(MEMORY, ah_information)
                if ah_type is not None:
                    ah_type = ah_type if ah_type < 254 else 254
                    ah_config = ah_config if ah_config < 254 else 254
        if information:
            if transform == 4:
                cipher_type, cipher_config, auth_type, auth_config = _CIPHER_AND_AUTH(MEMORY, information)
            elif transform in (1, 2, 5):
                auth_type, auth_config = _ALGORITHM(MEMORY, information)
            elif transform == 3:
                cipher_type, cipher_config = _ALGORITHM(MEMORY, information)
            if auth_type is not None:
                auth_type = auth_type if auth_type < 254 else 254
                auth_config = auth_config if auth_config < 254 else 254
            if cipher_type is not None:
                cipher_type = cipher_type if cipher_type < 254 else 254
                cipher_config = cipher_config if cipher_config < 254 else 254
        transform = transform if transform < 254 else 254

    filter_id_transport = udp_local = udp_remote = key_module = main_mode = extended_mode = None
    if transport_filter:
        filter_id_transport = _FILTER_ID(MEMORY, transport_filter)[0] or None
    if udp and ip_version == 0:
        udp_local, udp_remote = _UDP(MEMORY, udp)
    if key_module_state:
        key_module = MEMORY[key_module_state : key_module_state + 16]
        if key_module == _ZERO_GUID:
            key_module = None
    if identity:
        main_mode, extended_mode = _NAMES(MEMORY, identity)
        main_mode = _text(main_mode, texts) if main_mode else None
        extended_mode = _text(extended_mode, texts) if extended_mode else None

    return (
        spi,
        ah_spi,
        num_sas if num_sas < 254 else 254,
        transform,
        auth_type,
        auth_config,
        cipher_type,
        cipher_config,
        ah_type,
        ah_config,
        flags,
        seconds,
        kilobytes,
        packets,
        idle,
        allow_clear,
        nap_context,
        qm_sa_id,
        mm_sa_id,
        pfs_group if pfs_group < 254 else 254,
        qm_filter_id,
        lookup_context if lookup_context != _ZERO_GUID else None,
        filter_id,
        filter_id_transport,
        udp_local or None,
        udp_remote or None,
        (peer or None) if bundle_ip_version == 0 else None,
        key_module,
        tunnel_id or None,
        selector_id or None,
        main_mode,
        extended_mode,
    )


def _text(address: int, texts: dict[bytes, str]) -> str:
    # Most names end within 64 bytes. No slice crosses a memory page, so none reads where the
    # text's own bytes do not already prove memory to be.
    stop = address + 64
    if address & _PAGE_MASK > _PAGE_MASK - 63:
        stop = (address | _PAGE_MASK) + 1
    raw = MEMORY[address:stop]
    # Two zero bytes are the end only where a unit begins; -1 is odd, too.
    end = raw.find(b"\0\0")
    while end & 1:
        if end < 0:
            raw = _long_text(address)
            break
        end = raw.find(b"\0\0", end + 1)
    else:
        raw = raw[:end]
    text = texts.get(raw)
    if text is None:
        text = texts[raw] = raw.decode("utf-16-le", "replace")
    return text


def _long_text(address: int) -> bytes:
    raw = b""
    while len(raw) < _NAME_LIMIT:
        start = address + len(raw)
        chunk = MEMORY[start : (start | _PAGE_MASK) + 1]
        end = chunk.find(b"\0\0")
        while end > 0 and end & 1:
            end = chunk.find(b"\0\0", end + 1)
        if end >= 0:
            raw += chunk[:end]
            break
        raw += chunk
    return raw[:_NAME_LIMIT]


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
    with session(functions, server_name) as engine:
        # The loop, too, is in C: map calls the foreign function without a bytecode between.
        return list(map(function(functions, "IPsecSaContextExpire0"), repeat(engine), ids))
