"""The engine's own counters: IPSEC_STATISTICS1."""

from typing import NamedTuple

__all__ = ["NOW", "Statistics"]

NOW = frozenset({"active_sas", "pending_sa_negotiations", "active_tunnels", "offloaded_sas"})
"""The counters that are of the moment; the others are totals."""


class Statistics(NamedTuple):
    """IPSEC_STATISTICS1 of the whole system, all counts of SAs, packets or bytes; never absent.

    `active_sas`, `active_tunnels`, `offloaded_sas` and `pending_sa_negotiations` are of the moment, the others totals
    since the engine started; those of SAs and of dropped packets are 32 bits wide and wrap. What is dropped by ESP and
    by AH is counted apart and in sum. The embedded engine, in which nothing carries traffic, has 0 in all counters of
    packets and bytes; an SA is there one direction of a context, and pending are contexts that are not complete.
    """

    active_sas: int
    pending_sa_negotiations: int
    total_sas_added: int
    total_sas_deleted: int
    successful_rekeys: int
    active_tunnels: int
    offloaded_sas: int
    esp_invalid_spis_on_inbound: int
    esp_decryption_failures_on_inbound: int
    esp_authentication_failures_on_inbound: int
    esp_replay_check_failures_on_inbound: int
    esp_sa_not_initialized_on_inbound: int
    ah_invalid_spis_on_inbound: int
    ah_authentication_failures_on_inbound: int
    ah_replay_check_failures_on_inbound: int
    ah_sa_not_initialized_on_inbound: int
    invalid_spis_on_inbound: int
    decryption_failures_on_inbound: int
    authentication_failures_on_inbound: int
    udp_esp_validation_failures_on_inbound: int
    replay_check_failures_on_inbound: int
    invalid_clear_text_inbound: int
    sa_not_initialized_on_inbound: int
    receive_over_incorrect_sa_inbound: int
    secure_receives_not_matching_filters: int
    total_drop_packets_inbound: int
    inbound_encrypted_byte_count: int
    inbound_authenticated_ah_byte_count: int
    inbound_authenticated_esp_byte_count: int
    inbound_transport_byte_count: int
    inbound_tunnel_byte_count: int
    inbound_offload_byte_count: int
    inbound_total_successful_packets: int
    outbound_encrypted_byte_count: int
    outbound_authenticated_ah_byte_count: int
    outbound_authenticated_esp_byte_count: int
    outbound_transport_byte_count: int
    outbound_tunnel_byte_count: int
    outbound_offload_byte_count: int
    outbound_total_successful_packets: int
