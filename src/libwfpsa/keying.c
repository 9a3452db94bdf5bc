/* Manual keying: from the public structures to the OS's, and the calls that take them. */
#include "session.h"

#include <string.h>

#include "bytes.h"
#include "wfpsa/keying.h"

static FWP_IP_VERSION
version_of(uint8_t ip_version)
{
    return ip_version == 4 ? FWP_IP_VERSION_V4 : ip_version == 6 ? FWP_IP_VERSION_V6 : FWP_IP_VERSION_NONE;
}

static void
fill_traffic(IPSEC_TRAFFIC1 *traffic, const struct wfpsa_traffic *given)
{
    memset(traffic, 0, sizeof *traffic);
    traffic->ipVersion = version_of(given->ip_version);
    if (given->ip_version == 4) {
        traffic->localV4Address = big_endian32(given->local_address + 12);
        traffic->remoteV4Address = big_endian32(given->remote_address + 12);
    } else {
        memcpy(traffic->localV6Address, given->local_address, 16);
        memcpy(traffic->remoteV6Address, given->remote_address, 16);
    }
    traffic->trafficType = (IPSEC_TRAFFIC_TYPE)given->traffic_type;
    traffic->ipsecFilterId = given->filter_id; /* one union with tunnelPolicyId */
    traffic->remotePort = given->remote_port;
    traffic->localPort = given->local_port;
    traffic->ipProtocol = given->ip_protocol;
    traffic->localIfLuid = given->local_interface_luid;
    traffic->realIfProfileId = given->real_profile_id;
}

static void
fill_encapsulation(IPSEC_V4_UDP_ENCAPSULATION0 *encapsulation, const struct wfpsa_traffic *given)
{
    encapsulation->localUdpEncapPort = given->udp_local_port;
    encapsulation->remoteUdpEncapPort = given->udp_remote_port;
}

static int
is_encapsulated(const struct wfpsa_traffic *given)
{
    return given->ip_version == 4 && (given->udp_local_port || given->udp_remote_port);
}

/* What a bundle points to. */
struct bundle_parts {
    IPSEC_SA0 list[2];
    IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0 informations[2];
    IPSEC_ID0 identity;
    IPSEC_KEYMODULE_STATE0 key_module;
};

static void
fill_sa(IPSEC_SA0 *sa, IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0 *both, const struct wfpsa_sa *given)
{
    IPSEC_SA_AUTH_INFORMATION0 *auth = &both->saAuthInformation;
    IPSEC_SA_CIPHER_INFORMATION0 *cipher = &both->saCipherInformation;
    sa->spi = given->spi;
    sa->saTransformType = (IPSEC_TRANSFORM_TYPE)given->transform;
    auth->authTransform.authTransformId.authType = (IPSEC_AUTH_TYPE)given->auth_type;
    auth->authTransform.authTransformId.authConfig = given->auth_config;
    auth->authKey.size = given->auth_key_bytes;
    auth->authKey.data = (UINT8 *)given->auth_key; /* the OS only reads it, though its type does not say so */
    cipher->cipherTransform.cipherTransformId.cipherType = (IPSEC_CIPHER_TYPE)given->cipher_type;
    cipher->cipherTransform.cipherTransformId.cipherConfig = given->cipher_config;
    cipher->cipherKey.size = given->cipher_key_bytes;
    cipher->cipherKey.data = (UINT8 *)given->cipher_key;
    switch (given->transform) {
    case IPSEC_TRANSFORM_ESP_CIPHER:
        sa->espCipherInformation = cipher;
        break;
    case IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER:
        sa->espAuthAndCipherInformation = both;
        break;
    default:
        sa->ahInformation = auth;
        break;
    }
}

static void
fill_bundle(IPSEC_SA_BUNDLE1 *bundle, struct bundle_parts *parts, const struct wfpsa_bundle *given)
{
    memset(bundle, 0, sizeof *bundle);
    memset(parts, 0, sizeof *parts);
    bundle->flags = given->flags;
    bundle->lifetime.lifetimeSeconds = given->lifetime_seconds;
    bundle->lifetime.lifetimeKilobytes = given->lifetime_kilobytes;
    bundle->lifetime.lifetimePackets = given->lifetime_packets;
    bundle->idleTimeoutSeconds = given->idle_timeout_seconds;
    bundle->ndAllowClearTimeoutSeconds = given->nd_allow_clear_timeout_seconds;
    if (given->main_mode_target || given->extended_mode_target) {
        parts->identity.mmTargetName = (WCHAR *)given->main_mode_target; /* read only, as the keys */
        parts->identity.emTargetName = (WCHAR *)given->extended_mode_target;
        bundle->ipsecId = &parts->identity;
    }
    bundle->napContext = given->nap_context;
    bundle->qmSaId = given->qm_sa_id;
    bundle->numSAs = given->sa_count;
    for (uint32_t i = 0; i < given->sa_count && i < 2; i++) {
        fill_sa(&parts->list[i], &parts->informations[i], &given->sas[i]);
        bundle->saList = parts->list;
    }
    if (given->has_key_module) {
        memcpy(&parts->key_module.keyModuleKey, given->key_module, 16);
        bundle->keyModuleState = &parts->key_module;
    }
    bundle->ipVersion = version_of(given->ip_version);
    bundle->peerV4PrivateAddress = given->peer_private_address;
    bundle->mmSaId = given->mm_sa_id;
    bundle->pfsGroup = (IPSEC_PFS_GROUP)given->pfs_group;
    memcpy(&bundle->saLookupContext, given->lookup_context, 16);
    bundle->qmFilterId = given->qm_filter_id;
}

/* ---- the calls ---- */

int
wfpsa_session_create(struct wfpsa_session *session, const struct wfpsa_traffic *outbound, uint64_t *id,
                     struct wfpsa_failure *failure)
{
    IPSEC_TRAFFIC1 traffic;
    IPSEC_VIRTUAL_IF_TUNNEL_INFO0 tunnel;
    UINT64 made = 0;
    fill_traffic(&traffic, outbound);
    tunnel.virtualIfTunnelId = outbound->virtual_tunnel_id;
    tunnel.trafficSelectorId = outbound->traffic_selector_id;
    int has_tunnel = tunnel.virtualIfTunnelId || tunnel.trafficSelectorId;
    uint64_t began;
    int status = wfpsa_session_enter(session);
    if (status != WFPSA_OK) {
        return status;
    }
    status = wfpsa_outcome_of(METERED(change, began,
                                      session->backend->sa_context_create1(session->engine, &traffic,
                                                                           has_tunnel ? &tunnel : NULL, NULL, &made)),
                              "IPsecSaContextCreate1", failure);
    wfpsa_session_leave(session);
    *id = made;
    return status;
}

int
wfpsa_session_spi(struct wfpsa_session *session, uint64_t id, const struct wfpsa_traffic *inbound, uint32_t *spi,
                  struct wfpsa_failure *failure)
{
    IPSEC_GETSPI1 wanted;
    IPSEC_V4_UDP_ENCAPSULATION0 encapsulation;
    IPSEC_SA_SPI got = *spi;
    memset(&wanted, 0, sizeof wanted);
    fill_traffic(&wanted.inboundIpsecTraffic, inbound);
    fill_encapsulation(&encapsulation, inbound);
    wanted.ipVersion = version_of(inbound->ip_version);
    wanted.inboundUdpEncapsulation = is_encapsulated(inbound) ? &encapsulation : NULL;
    uint64_t began;
    int status = wfpsa_session_enter(session);
    if (status != WFPSA_OK) {
        return status;
    }
    if (*spi) {
        status = wfpsa_outcome_of(
            METERED(change, began, session->backend->sa_context_set_spi(session->engine, id, &wanted, *spi)),
            "IPsecSaContextSetSpi0", failure);
    } else {
        status = wfpsa_outcome_of(
            METERED(change, began, session->backend->sa_context_get_spi1(session->engine, id, &wanted, &got)),
            "IPsecSaContextGetSpi1", failure);
    }
    wfpsa_session_leave(session);
    *spi = got;
    return status;
}

int
wfpsa_session_add(struct wfpsa_session *session, uint64_t id, int direction, const struct wfpsa_bundle *bundle,
                  struct wfpsa_failure *failure)
{
    IPSEC_SA_BUNDLE1 filled;
    struct bundle_parts parts;
    fill_bundle(&filled, &parts, bundle);
    uint64_t began;
    int status = wfpsa_session_enter(session);
    if (status != WFPSA_OK) {
        return status;
    }
    if (direction == WFPSA_INBOUND) {
        status = wfpsa_outcome_of(
            METERED(change, began, session->backend->sa_context_add_inbound1(session->engine, id, &filled)),
            "IPsecSaContextAddInbound1", failure);
    } else {
        status = wfpsa_outcome_of(
            METERED(change, began, session->backend->sa_context_add_outbound1(session->engine, id, &filled)),
            "IPsecSaContextAddOutbound1", failure);
    }
    wfpsa_session_leave(session);
    return status;
}

/* A whole context, and what it points to. */
struct context_parts {
    IPSEC_SA_CONTEXT1 context;
    IPSEC_SA_DETAILS1 details[2];
    struct bundle_parts bundles[2];
    IPSEC_V4_UDP_ENCAPSULATION0 encapsulations[2];
};

static IPSEC_SA_DETAILS1 *
fill_details(struct context_parts *parts, int which, FWP_DIRECTION direction, const struct wfpsa_details *given)
{
    IPSEC_SA_DETAILS1 *details = &parts->details[which];
    if (!given) {
        return NULL;
    }
    memset(details, 0, sizeof *details);
    details->ipVersion = version_of(given->traffic.ip_version);
    details->saDirection = direction;
    fill_traffic(&details->traffic, &given->traffic);
    fill_bundle(&details->saBundle, &parts->bundles[which], &given->bundle);
    if (is_encapsulated(&given->traffic)) {
        fill_encapsulation(&parts->encapsulations[which], &given->traffic);
        details->udpEncapsulation = &parts->encapsulations[which];
    }
    details->virtualIfTunnelInfo.virtualIfTunnelId = given->traffic.virtual_tunnel_id;
    details->virtualIfTunnelInfo.trafficSelectorId = given->traffic.traffic_selector_id;
    return details;
}

static void
fill_context(struct context_parts *parts, uint64_t id, const struct wfpsa_details *inbound,
             const struct wfpsa_details *outbound)
{
    parts->context.saContextId = id;
    parts->context.inboundSa = fill_details(parts, 0, FWP_DIRECTION_INBOUND, inbound);
    parts->context.outboundSa = fill_details(parts, 1, FWP_DIRECTION_OUTBOUND, outbound);
}

int
wfpsa_session_update(struct wfpsa_session *session, uint64_t id, uint64_t flags, const struct wfpsa_details *inbound,
                     const struct wfpsa_details *outbound, struct wfpsa_failure *failure)
{
    struct context_parts parts;
    fill_context(&parts, id, inbound, outbound);
    uint64_t began;
    int status = wfpsa_session_enter(session);
    if (status != WFPSA_OK) {
        return status;
    }
    status = wfpsa_outcome_of(
        METERED(change, began, session->backend->sa_context_update(session->engine, flags, &parts.context)),
        "IPsecSaContextUpdate0", failure);
    wfpsa_session_leave(session);
    return status;
}

uint32_t
wfpsa_keying_store(wfpsa_store_adder *add, struct wfpsa_store *store, uint64_t *id,
                   const struct wfpsa_details *inbound, const struct wfpsa_details *outbound)
{
    struct context_parts parts;
    fill_context(&parts, *id, inbound, outbound);
    return add(store, &parts.context, id);
}
