# From the facade's Traffic and SaBundle to the C half's structures.

cdef int fill_traffic(libwfpsa.wfpsa_traffic *traffic, object given) except -1:
    """`given` is a checked wfpsa.Traffic."""
    memset(traffic, 0, sizeof(libwfpsa.wfpsa_traffic))
    traffic.ip_version = given.local_address.version
    fill_address(traffic.local_address, given.local_address)
    fill_address(traffic.remote_address, given.remote_address)
    traffic.ip_protocol = given.ip_protocol
    traffic.local_port = given.local_port
    traffic.remote_port = given.remote_port
    traffic.traffic_type = given.traffic_type
    traffic.real_profile_id = given.real_profile_id
    traffic.filter_id = given.filter_id
    traffic.local_interface_luid = given.local_interface_luid
    traffic.udp_local_port = given.udp_local_port
    traffic.udp_remote_port = given.udp_remote_port
    traffic.virtual_tunnel_id = given.virtual_tunnel_id
    traffic.traffic_selector_id = given.traffic_selector_id
    return 0


cdef int fill_address(uint8_t *cell, object address) except -1:
    """16 bytes in network order, IPv4 as ::ffff:a.b.c.d."""
    cdef bytes packed = address.packed
    if len(packed) == 4:
        packed = b"\0" * 10 + b"\xff\xff" + packed
    memcpy(cell, PyBytes_AS_STRING(packed), 16)
    return 0


cdef int fill_sa(libwfpsa.wfpsa_sa *sa, object given) except -1:
    cdef bytes auth_key = given.auth_key, cipher_key = given.cipher_key
    sa.spi = given.spi
    sa.transform = given.transform
    sa.auth_type = given.auth_type
    sa.auth_config = given.auth_config
    sa.cipher_type = given.cipher_type
    sa.cipher_config = given.cipher_config
    sa.auth_key_bytes = len(auth_key)
    sa.auth_key = <const uint8_t *>PyBytes_AS_STRING(auth_key)
    sa.cipher_key_bytes = len(cipher_key)
    sa.cipher_key = <const uint8_t *>PyBytes_AS_STRING(cipher_key)
    return 0


cdef list fill_bundle(libwfpsa.wfpsa_bundle *bundle, object given):
    """`given` is a checked wfpsa.SaBundle; what is returned must outlive the structure, as must `given`."""
    cdef bytes text
    cdef list kept = []
    memset(bundle, 0, sizeof(libwfpsa.wfpsa_bundle))
    bundle.flags = given.bundle_flags
    bundle.lifetime_seconds = given.lifetime_seconds
    bundle.lifetime_kilobytes = given.lifetime_kilobytes
    bundle.lifetime_packets = given.lifetime_packets
    bundle.idle_timeout_seconds = given.idle_timeout_seconds
    bundle.nd_allow_clear_timeout_seconds = given.nd_allow_clear_timeout_seconds
    bundle.nap_context = given.nap_context
    bundle.qm_sa_id = given.qm_sa_id
    bundle.mm_sa_id = given.mm_sa_id
    bundle.pfs_group = given.pfs_group
    bundle.qm_filter_id = given.qm_filter_id
    bundle.ip_version = given.ip_version
    if given.peer_private_address is not None:
        bundle.peer_private_address = int(given.peer_private_address)
    if given.lookup_context is not None:
        memcpy(bundle.lookup_context, PyBytes_AS_STRING(<bytes>given.lookup_context.bytes_le), 16)
    if given.key_module is not None:
        bundle.has_key_module = 1
        memcpy(bundle.key_module, PyBytes_AS_STRING(<bytes>given.key_module.bytes_le), 16)
    for number, sa in enumerate(given.sas):
        fill_sa(&bundle.sas[number], sa)
        bundle.sa_count = number + 1
    if given.main_mode_target is not None:
        text = given.main_mode_target.encode("utf-16-le") + b"\0\0"
        kept.append(text)
        bundle.main_mode_target = <const uint16_t *>PyBytes_AS_STRING(text)
    if given.extended_mode_target is not None:
        text = given.extended_mode_target.encode("utf-16-le") + b"\0\0"
        kept.append(text)
        bundle.extended_mode_target = <const uint16_t *>PyBytes_AS_STRING(text)
    return kept


cdef list fill_details(libwfpsa.wfpsa_details *details, object traffic, object bundle):
    """Both together, for one direction."""
    fill_traffic(&details.traffic, traffic)
    return fill_bundle(&details.bundle, bundle)
