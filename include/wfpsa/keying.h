/* Manual keying: making SA contexts in the order Create, GetSpi (or SetSpi), AddInbound, AddOutbound, and changing
 * them.
 *
 * The structures here are the OS's without its types; addresses are as in the address columns. Key bytes are read
 * during a call and kept nowhere.
 *
 * Threads, Blocks, Fails: as session.h.
 */
#ifndef WFPSA_KEYING_H
#define WFPSA_KEYING_H

#include "wfpsa/session.h"

struct wfpsa_store;

/* IPSEC_TRAFFIC1 */
struct wfpsa_traffic {
    uint8_t ip_version; /* 4 or 6 */
    uint8_t ip_protocol;
    uint16_t local_port; /* host order; 0: not specialised */
    uint16_t remote_port;
    uint8_t local_address[16]; /* network order, IPv4 as ::ffff:a.b.c.d */
    uint8_t remote_address[16];
    uint32_t traffic_type; /* IPSEC_TRAFFIC_TYPE */
    uint32_t real_profile_id;
    uint64_t filter_id; /* ipsecFilterId, in tunnel mode tunnelPolicyId */
    uint64_t local_interface_luid;
    uint16_t udp_local_port; /* NAT-T over IPv4; both 0: none */
    uint16_t udp_remote_port;
    uint64_t virtual_tunnel_id;
    uint64_t traffic_selector_id;
};

/* IPSEC_SA0 */
struct wfpsa_sa {
    uint32_t spi;       /* host order */
    uint32_t transform; /* IPSEC_TRANSFORM_TYPE: what of the rest counts */
    uint32_t auth_type;
    uint32_t cipher_type;
    uint8_t auth_config;
    uint8_t cipher_config;
    uint32_t auth_key_bytes;
    uint32_t cipher_key_bytes;
    const uint8_t *auth_key; /* the caller's */
    const uint8_t *cipher_key;
};

/* IPSEC_SA_BUNDLE1 */
struct wfpsa_bundle {
    uint32_t flags;
    uint32_t lifetime_seconds;
    uint32_t lifetime_kilobytes;
    uint32_t lifetime_packets;
    uint32_t idle_timeout_seconds;
    uint32_t nd_allow_clear_timeout_seconds;
    uint32_t nap_context;
    uint32_t qm_sa_id;
    uint32_t pfs_group;
    uint32_t peer_private_address; /* host order */
    uint64_t mm_sa_id;
    uint64_t qm_filter_id;
    uint8_t ip_version; /* 4 or 6: of the traffic, for peer_private_address */
    uint8_t has_key_module;
    uint8_t lookup_context[16]; /* a GUID as in memory */
    uint8_t key_module[16];
    uint32_t sa_count; /* 0 to 2 */
    struct wfpsa_sa sas[2];
    const uint16_t *main_mode_target; /* NUL-terminated UTF-16, the caller's; or NULL */
    const uint16_t *extended_mode_target;
};

/* A context whose outbound traffic is this; its id in *id. */
int wfpsa_session_create(struct wfpsa_session *session, const struct wfpsa_traffic *outbound, uint64_t *id,
                         struct wfpsa_failure *failure);

/* The SPI for the inbound SA: with *spi 0 the engine's choice (GetSpi), which is then in *spi; else *spi (SetSpi). */
int wfpsa_session_spi(struct wfpsa_session *session, uint64_t id, const struct wfpsa_traffic *inbound, uint32_t *spi,
                      struct wfpsa_failure *failure);

/* The SAs of one direction, `direction` being WFPSA_INBOUND or WFPSA_OUTBOUND. */
int wfpsa_session_add(struct wfpsa_session *session, uint64_t id, int direction, const struct wfpsa_bundle *bundle,
                      struct wfpsa_failure *failure);

/* Changes what `flags` (IPSEC_SA_DETAILS_UPDATE_* and IPSEC_SA_BUNDLE_UPDATE_*) select, in the directions that are not
 * NULL. */
struct wfpsa_details {
    struct wfpsa_traffic traffic;
    struct wfpsa_bundle bundle;
};
int wfpsa_session_update(struct wfpsa_session *session, uint64_t id, uint64_t flags,
                         const struct wfpsa_details *inbound, const struct wfpsa_details *outbound,
                         struct wfpsa_failure *failure);

/* Adds a context to a store of an embedded engine, which may be another library's: `add` is its wfpsa_store_add.
 * Returns the OS code. */
typedef uint32_t wfpsa_store_adder(struct wfpsa_store *store, const struct IPSEC_SA_CONTEXT1_ *context, uint64_t *id);
uint32_t wfpsa_keying_store(wfpsa_store_adder *add, struct wfpsa_store *store, uint64_t *id,
                            const struct wfpsa_details *inbound, const struct wfpsa_details *outbound);

#endif
