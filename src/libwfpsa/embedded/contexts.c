/* The OS's functions over a store that change contexts: create, get SPI, add inbound and outbound, update, expire and
 * delete; adding one as a test wants it; and the statistics. */
#include "internal.h"

#include <string.h>

#define NAME_UNITS_MAX 32767u

/* ---- from the OS's structures to a record ---- */

void
traffic_copy(const IPSEC_TRAFFIC1 *given, struct traffic *traffic)
{
    memset(traffic, 0, sizeof *traffic);
    traffic->ip_version = (UINT32)given->ipVersion;
    traffic->type = (UINT32)given->trafficType;
    size_t used = traffic->ip_version == FWP_IP_VERSION_V4 ? 4 : 16;
    memcpy(traffic->local, given->localV6Address, used); /* one union with localV4Address */
    memcpy(traffic->remote, given->remoteV6Address, used);
    traffic->remote_port = given->remotePort;
    traffic->local_port = given->localPort;
    traffic->ip_protocol = given->ipProtocol;
    traffic->local_interface_luid = given->localIfLuid;
    traffic->real_profile_id = given->realIfProfileId;
}

/* What the OS does with a bad one is not documented: these are the codes made for the purpose. */
static DWORD
traffic_parse(const IPSEC_TRAFFIC1 *given, struct traffic *traffic)
{
    if ((UINT32)given->ipVersion > FWP_IP_VERSION_V6 || (UINT32)given->trafficType >= IPSEC_TRAFFIC_TYPE_MAX) {
        return (DWORD)FWP_E_INVALID_ENUMERATOR;
    }
    traffic_copy(given, traffic);
    if (traffic->type == IPSEC_TRAFFIC_TYPE_TUNNEL &&
        (traffic->remote_port || traffic->local_port || traffic->ip_protocol)) {
        return (DWORD)FWP_E_INVALID_PARAMETER; /* a tunnel's traffic is not specialised */
    }
    return ERROR_SUCCESS;
}

/* Whether both describe traffic between the same two addresses. */
static int
same_ends(const struct traffic *a, const struct traffic *b)
{
    return a->ip_version == b->ip_version && a->type == b->type && memcmp(a->local, b->local, 16) == 0 &&
           memcmp(a->remote, b->remote, 16) == 0;
}

static int
same_in_all(const struct traffic *a, const struct traffic *b)
{
    return same_ends(a, b) && a->remote_port == b->remote_port && a->local_port == b->local_port &&
           a->ip_protocol == b->ip_protocol && a->local_interface_luid == b->local_interface_luid &&
           a->real_profile_id == b->real_profile_id;
}

static DWORD
key_parse(const FWP_BYTE_BLOB *key, UINT8 *bytes)
{
    if (key->size && !key->data) {
        return (DWORD)FWP_E_NULL_POINTER;
    }
    if (key->size > KEY_BYTES_MAX) {
        return (DWORD)FWP_E_OUT_OF_BOUNDS;
    }
    *bytes = (UINT8)key->size; /* the bytes themselves are not kept */
    return ERROR_SUCCESS;
}

static DWORD
auth_parse(const IPSEC_SA_AUTH_INFORMATION0 *given, struct sa_shape *sa)
{
    if ((UINT32)given->authTransform.authTransformId.authType >= IPSEC_AUTH_MAX) {
        return (DWORD)FWP_E_INVALID_ENUMERATOR;
    }
    if (given->authTransform.authTransformId.authConfig > IPSEC_AUTH_CONFIG_GCM_AES_256) {
        return (DWORD)FWP_E_INVALID_AUTH_TRANSFORM;
    }
    sa->auth_type = (UINT32)given->authTransform.authTransformId.authType;
    sa->auth_config = given->authTransform.authTransformId.authConfig;
    return key_parse(&given->authKey, &sa->auth_key);
}

static DWORD
cipher_parse(const IPSEC_SA_CIPHER_INFORMATION0 *given, struct sa_shape *sa)
{
    UINT32 type = (UINT32)given->cipherTransform.cipherTransformId.cipherType;
    if (type < IPSEC_CIPHER_TYPE_DES || type >= IPSEC_CIPHER_TYPE_MAX) {
        return (DWORD)FWP_E_INVALID_ENUMERATOR;
    }
    if (given->cipherTransform.cipherTransformId.cipherConfig < IPSEC_CIPHER_CONFIG_CBC_DES ||
        given->cipherTransform.cipherTransformId.cipherConfig > IPSEC_CIPHER_CONFIG_GCM_AES_256) {
        return (DWORD)FWP_E_INVALID_CIPHER_TRANSFORM;
    }
    sa->cipher_type = type;
    sa->cipher_config = given->cipherTransform.cipherTransformId.cipherConfig;
    return key_parse(&given->cipherKey, &sa->cipher_key);
}

static DWORD
sa_parse(const IPSEC_SA0 *given, struct sa_shape *sa)
{
    DWORD code;
    sa->transform = (UINT32)given->saTransformType;
    if (sa->transform < IPSEC_TRANSFORM_AH || sa->transform >= IPSEC_TRANSFORM_TYPE_MAX) {
        return (DWORD)FWP_E_INVALID_ENUMERATOR;
    }
    if (!given->ahInformation) { /* one union, whatever the transform */
        return (DWORD)FWP_E_NULL_POINTER;
    }
    switch (sa->transform) {
    case IPSEC_TRANSFORM_ESP_CIPHER:
        return cipher_parse(given->espCipherInformation, sa);
    case IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER:
        code = cipher_parse(&given->espAuthAndCipherInformation->saCipherInformation, sa);
        return code == ERROR_SUCCESS ? auth_parse(&given->espAuthAndCipherInformation->saAuthInformation, sa) : code;
    default:
        return auth_parse(given->ahInformation, sa);
    }
}

static DWORD
key_module_parse(const IPSEC_KEYMODULE_STATE0 *given, struct policy *policy)
{
    policy->has_key_module = given != NULL;
    if (!given) {
        memset(&policy->key_module, 0, sizeof policy->key_module);
        policy->key_module_state = 0;
        return ERROR_SUCCESS;
    }
    if (given->stateBlob.size && !given->stateBlob.data) {
        return (DWORD)FWP_E_NULL_POINTER;
    }
    if (given->stateBlob.size > STATE_BYTES_MAX) {
        return (DWORD)FWP_E_OUT_OF_BOUNDS;
    }
    policy->key_module = given->keyModuleKey;
    policy->key_module_state = given->stateBlob.size;
    return ERROR_SUCCESS;
}

static int
is_too_long(const WCHAR *name)
{
    UINT32 units = 0;
    while (name && units <= NAME_UNITS_MAX && name[units]) {
        units++;
    }
    return units > NAME_UNITS_MAX;
}

void
policy_copy(const IPSEC_SA_BUNDLE1 *given, struct policy *policy)
{
    memset(policy, 0, sizeof *policy);
    policy->flags = given->flags;
    policy->lifetime_seconds = given->lifetime.lifetimeSeconds;
    policy->lifetime_kilobytes = given->lifetime.lifetimeKilobytes;
    policy->lifetime_packets = given->lifetime.lifetimePackets;
    policy->idle_timeout_seconds = given->idleTimeoutSeconds;
    policy->nd_allow_clear_timeout_seconds = given->ndAllowClearTimeoutSeconds;
    policy->pfs_group = (UINT32)given->pfsGroup;
    policy->bundle_ip_version = (UINT32)given->ipVersion;
    policy->num_sas = given->numSAs;
    policy->listed = !given->saList ? 0 : given->numSAs < 2 ? given->numSAs : 2;
}

static DWORD
policy_parse(const IPSEC_SA_BUNDLE1 *given, struct policy *policy)
{
    policy_copy(given, policy);
    if (given->numSAs < 1 || given->numSAs > 2) {
        return (DWORD)FWP_E_INVALID_PARAMETER;
    }
    if (!given->saList) {
        return (DWORD)FWP_E_NULL_POINTER;
    }
    if ((UINT32)given->pfsGroup >= IPSEC_PFS_MAX || (UINT32)given->ipVersion >= FWP_IP_VERSION_MAX) {
        return (DWORD)FWP_E_INVALID_ENUMERATOR;
    }
    for (UINT32 i = 0; i < given->numSAs; i++) {
        DWORD code = sa_parse(&given->saList[i], &policy->sas[i]);
        if (code != ERROR_SUCCESS) {
            return code;
        }
    }
    if (given->numSAs == 2 &&
        (policy->sas[0].transform == IPSEC_TRANSFORM_AH || policy->sas[1].transform != IPSEC_TRANSFORM_AH)) {
        return (DWORD)FWP_E_INVALID_PARAMETER; /* two are ESP, then AH */
    }
    return key_module_parse(given->keyModuleState, policy);
}

DWORD
half_make(struct wfpsa_store *store, const struct policy *policy, const IPSEC_SA_BUNDLE1 *given, UINT32 ip_version,
          struct rarity *rarity, struct half *half)
{
    struct half made;
    memset(&made, 0, sizeof made);
    made.policy = shape_of_policy(store, policy);
    int complete = made.policy != NULL;
    if (complete && given->ipsecId) {
        if (is_too_long(given->ipsecId->mmTargetName) || is_too_long(given->ipsecId->emTargetName)) {
            shape_drop(store, made.policy);
            return (DWORD)FWP_E_OUT_OF_BOUNDS;
        }
        made.identity = shape_of_identity(store, given->ipsecId->mmTargetName, given->ipsecId->emTargetName);
        complete = made.identity != NULL;
    }
    rarity->lookup_context = given->saLookupContext;
    if (complete &&
        (!is_zero_guid(&rarity->lookup_context) || rarity->virtual_tunnel_id || rarity->traffic_selector_id)) {
        made.rarity = shape_of_rarity(store, rarity);
        complete = made.rarity != NULL;
    }
    if (!complete) {
        half_drop(store, &made);
        return ERROR_NOT_ENOUGH_MEMORY;
    }
    made.ip_version = ip_version;
    made.spi = policy->listed >= 1 ? given->saList[0].spi : 0;
    made.ah_spi = policy->listed == 2 ? given->saList[1].spi : 0;
    made.qm_sa_id = given->qmSaId;
    made.nap_context = given->napContext;
    made.peer_private_address = (UINT32)given->ipVersion == FWP_IP_VERSION_V4 ? given->peerV4PrivateAddress : 0;
    made.mm_sa_id = given->mmSaId;
    made.qm_filter_id = given->qmFilterId;
    *half = made;
    return ERROR_SUCCESS;
}

static DWORD
half_parse(struct wfpsa_store *store, const IPSEC_SA_BUNDLE1 *given, UINT32 ip_version, struct rarity *rarity,
           struct half *half)
{
    struct policy policy;
    DWORD code = policy_parse(given, &policy);
    return code == ERROR_SUCCESS ? half_make(store, &policy, given, ip_version, rarity, half) : code;
}

void
set_encapsulation(struct half *half, const IPSEC_V4_UDP_ENCAPSULATION0 *given)
{
    half->udp_local_port = given ? given->localUdpEncapPort : 0;
    half->udp_remote_port = given ? given->remoteUdpEncapPort : 0;
}

/* ---- create, get SPI, add inbound, add outbound ---- */

DWORD WINAPI
sa_context_create1(HANDLE engineHandle, const IPSEC_TRAFFIC1 *outboundTraffic,
                   const IPSEC_VIRTUAL_IF_TUNNEL_INFO0 *virtualIfTunnelInfo, UINT64 *inboundFilterId, UINT64 *id)
{
    struct call call;
    struct record made;
    DWORD code = call_enter(engineHandle, FUNCTION_IPsecSaContextCreate1, FWPM_ACTRL_ADD,
                            ACCESS_WRITE | ACCESS_NOT_IN_TRANSACTION | ACCESS_NOT_IN_DYNAMIC, &call);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    if (!outboundTraffic || !id) {
        return call_leave(&call, (DWORD)FWP_E_NULL_POINTER);
    }
    memset(&made, 0, sizeof made);
    code = traffic_parse(outboundTraffic, &made.traffic);
    if (code != ERROR_SUCCESS) {
        return call_leave(&call, code);
    }
    made.id = call.store->next_id;
    made.stage = STAGE_CREATED;
    made.out.filter_id = outboundTraffic->ipsecFilterId; /* one union with tunnelPolicyId */
    if (virtualIfTunnelInfo && (virtualIfTunnelInfo->virtualIfTunnelId || virtualIfTunnelInfo->trafficSelectorId)) {
        struct rarity rarity;
        memset(&rarity, 0, sizeof rarity);
        rarity.virtual_tunnel_id = virtualIfTunnelInfo->virtualIfTunnelId;
        rarity.traffic_selector_id = virtualIfTunnelInfo->trafficSelectorId;
        made.out.rarity = shape_of_rarity(call.store, &rarity);
        if (!made.out.rarity) {
            return call_leave(&call, ERROR_NOT_ENOUGH_MEMORY);
        }
    }
    struct record *record = store_add(call.store, &made);
    half_drop(call.store, &made.out); /* the record holds its own */
    if (!record) {
        return call_leave(&call, ERROR_NOT_ENOUGH_MEMORY);
    }
    call.store->next_id++;
    if (SWITCHED(call.store, add_event, 0)) {
        notify(call.store, IPSEC_SA_CONTEXT_EVENT_ADD, record);
    }
    *id = record->id;
    if (inboundFilterId) {
        *inboundFilterId = 0; /* a hint that this engine never has */
    }
    return call_leave(&call, ERROR_SUCCESS);
}

/* GetSpi and SetSpi: the inbound traffic becomes the context's, and the SPI, 0 for one of the engine's choice. */
static DWORD
set_spi(struct call *call, UINT64 id, const IPSEC_GETSPI1 *getSpi, IPSEC_SA_SPI wanted, IPSEC_SA_SPI *spi)
{
    struct traffic traffic;
    struct record *record = store_lookup(call->store, id);
    if (!record) {
        return (DWORD)FWP_E_NOT_FOUND;
    }
    if (record->stage > STAGE_SPI || record->expired) {
        return (DWORD)FWP_E_INCOMPATIBLE_SA_STATE;
    }
    DWORD code = traffic_parse(&getSpi->inboundIpsecTraffic, &traffic);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    if (!same_ends(&traffic, &record->traffic)) {
        return (DWORD)FWP_E_TRAFFIC_MISMATCH;
    }
    if (record->stage == STAGE_SPI &&
        !(same_in_all(&traffic, record->inbound_traffic ? record->inbound_traffic : &record->traffic) &&
          record->in.filter_id == getSpi->inboundIpsecTraffic.ipsecFilterId)) {
        return (DWORD)FWP_E_TRAFFIC_MISMATCH;
    }
    if (record->stage == STAGE_SPI && wanted == 0) {
        *spi = record->in.spi;
        return ERROR_SUCCESS;
    }
    struct traffic *own = NULL;
    if (record->stage != STAGE_SPI && !same_in_all(&traffic, &record->traffic)) {
        own = wfpsa_allocate(1, sizeof *own);
        if (!own) {
            return ERROR_NOT_ENOUGH_MEMORY;
        }
        *own = traffic;
    }
    record = store_edit(call->store, record);
    if (!record) {
        wfpsa_free(own);
        return ERROR_NOT_ENOUGH_MEMORY;
    }
    record->inbound_traffic = own ? own : record->inbound_traffic;
    record->in.filter_id = getSpi->inboundIpsecTraffic.ipsecFilterId;
    record->in.spi = wanted ? wanted : (UINT32)next_random(&call->store->dice) | 0x100;
    set_encapsulation(&record->in, traffic.ip_version == FWP_IP_VERSION_V4 ? getSpi->inboundUdpEncapsulation : NULL);
    record->out.udp_local_port = record->in.udp_local_port;
    record->out.udp_remote_port = record->in.udp_remote_port;
    record->stage = STAGE_SPI;
    *spi = record->in.spi;
    store_edited(call->store, record);
    return ERROR_SUCCESS;
}

DWORD WINAPI
sa_context_get_spi1(HANDLE engineHandle, UINT64 id, const IPSEC_GETSPI1 *getSpi, IPSEC_SA_SPI *inboundSpi)
{
    struct call call;
    DWORD code = call_enter(engineHandle, FUNCTION_IPsecSaContextGetSpi1, FWPM_ACTRL_ADD,
                            ACCESS_WRITE | ACCESS_SWITCHED, &call);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    if (!getSpi || !inboundSpi) {
        return call_leave(&call, (DWORD)FWP_E_NULL_POINTER);
    }
    return call_leave(&call, set_spi(&call, id, getSpi, 0, inboundSpi));
}

DWORD WINAPI
sa_context_set_spi(HANDLE engineHandle, UINT64 id, const IPSEC_GETSPI1 *getSpi, IPSEC_SA_SPI inboundSpi)
{
    struct call call;
    IPSEC_SA_SPI set;
    DWORD code = call_enter(engineHandle, FUNCTION_IPsecSaContextSetSpi0, FWPM_ACTRL_ADD,
                            ACCESS_WRITE | ACCESS_SWITCHED, &call);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    if (!getSpi) {
        return call_leave(&call, (DWORD)FWP_E_NULL_POINTER);
    }
    if (inboundSpi == 0) {
        return call_leave(&call, (DWORD)FWP_E_INVALID_PARAMETER); /* no packet may carry it */
    }
    return call_leave(&call, set_spi(&call, id, getSpi, inboundSpi, &set));
}

/* Gives the record the SA of a bundle in one direction, keeping what GetSpi or Create said of it. */
static DWORD
add_half(struct call *call, UINT64 id, const IPSEC_SA_BUNDLE1 *bundle, enum stage before)
{
    struct wfpsa_store *store = call->store;
    int inbound = before == STAGE_SPI;
    struct half made;
    struct rarity rarity;
    if (!bundle) {
        return (DWORD)FWP_E_NULL_POINTER;
    }
    struct record *record = store_lookup(store, id);
    if (!record) {
        return (DWORD)FWP_E_NOT_FOUND;
    }
    if (record->stage != before || record->expired) {
        return (DWORD)FWP_E_INCOMPATIBLE_SA_STATE;
    }
    memset(&rarity, 0, sizeof rarity);
    if (record->out.rarity) { /* the tunnel ids of Create are of both directions */
        rarity = record->out.rarity->rarity;
    }
    DWORD code = half_parse(store, bundle, record->traffic.ip_version, &rarity, &made);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    /* The inbound SA has the SPI that was got; one pair, one quick-mode id. */
    if (inbound ? made.spi != record->in.spi : made.qm_sa_id != record->in.qm_sa_id) {
        half_drop(store, &made);
        return (DWORD)FWP_E_INVALID_PARAMETER;
    }
    record = store_edit(store, record);
    if (!record) {
        half_drop(store, &made);
        return ERROR_NOT_ENOUGH_MEMORY;
    }
    struct half *half = inbound ? &record->in : &record->out;
    made.filter_id = half->filter_id;
    made.udp_local_port = half->udp_local_port;
    made.udp_remote_port = half->udp_remote_port;
    made.since = store_now(store);
    half_drop(store, half);
    *half = made;
    record->stage = inbound ? STAGE_INBOUND : STAGE_COMPLETE;
    store->tallies.added++;
    store_edited(store, record);
    return ERROR_SUCCESS;
}

DWORD WINAPI
sa_context_add_inbound1(HANDLE engineHandle, UINT64 id, const IPSEC_SA_BUNDLE1 *inboundBundle)
{
    struct call call;
    DWORD code = call_enter(engineHandle, FUNCTION_IPsecSaContextAddInbound1, FWPM_ACTRL_ADD,
                            ACCESS_WRITE | ACCESS_SWITCHED, &call);
    return code == ERROR_SUCCESS ? call_leave(&call, add_half(&call, id, inboundBundle, STAGE_SPI)) : code;
}

/* The kernel deletes older duplicates when a new outbound SA comes, unless told not to. */
static void
delete_duplicates(struct wfpsa_store *store, const struct record *record)
{
    struct record *other;
    while ((other = store_duplicate(store, record)) != NULL && store_remove(store, other)) {
        store->tallies.rekeyed++; /* a second one stays where there is no memory for an enumeration to keep it */
    }
}

DWORD WINAPI
sa_context_add_outbound1(HANDLE engineHandle, UINT64 id, const IPSEC_SA_BUNDLE1 *outboundBundle)
{
    struct call call;
    DWORD code = call_enter(engineHandle, FUNCTION_IPsecSaContextAddOutbound1, FWPM_ACTRL_ADD,
                            ACCESS_WRITE | ACCESS_SWITCHED, &call);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    int deletes = outboundBundle && SWITCHED(call.store, duplicates, 0) &&
                  !(outboundBundle->flags & IPSEC_SA_BUNDLE_FLAG_SUPPRESS_DUPLICATE_DELETION);
    if (deletes && !store_index_traffic(call.store)) {
        return call_leave(&call, ERROR_NOT_ENOUGH_MEMORY);
    }
    code = add_half(&call, id, outboundBundle, STAGE_INBOUND);
    if (code == ERROR_SUCCESS) {
        struct record *record = store_lookup(call.store, id);
        if (SWITCHED(call.store, add_event, 1)) {
            notify(call.store, IPSEC_SA_CONTEXT_EVENT_ADD, record);
        }
        if (deletes) {
            delete_duplicates(call.store, record);
        }
    }
    return call_leave(&call, code);
}

/* ---- update ---- */

#define UPDATES                                                                                                       \
    (IPSEC_SA_DETAILS_UPDATE_TRAFFIC | IPSEC_SA_DETAILS_UPDATE_UDP_ENCAPSULATION | IPSEC_SA_BUNDLE_UPDATE_FLAGS |     \
     IPSEC_SA_BUNDLE_UPDATE_NAP_CONTEXT | IPSEC_SA_BUNDLE_UPDATE_KEY_MODULE_STATE |                                   \
     IPSEC_SA_BUNDLE_UPDATE_PEER_V4_PRIVATE_ADDRESS | IPSEC_SA_BUNDLE_UPDATE_MM_SA_ID)

/* New values of one direction, all that can fail done before anything changes. */
struct update {
    const IPSEC_SA_DETAILS1 *values; /* NULL: this direction stays */
    struct traffic traffic;
    struct shape *policy; /* held; NULL: stays */
};

static DWORD
update_prepare(struct wfpsa_store *store, UINT64 flags, const IPSEC_SA_DETAILS1 *values, const struct half *half,
               struct update *update)
{
    DWORD code = ERROR_SUCCESS;
    memset(update, 0, sizeof *update);
    if (!values) {
        return ERROR_SUCCESS;
    }
    if (!half->policy) {
        return (DWORD)FWP_E_INCOMPATIBLE_SA_STATE;
    }
    update->values = values;
    if (flags & IPSEC_SA_DETAILS_UPDATE_TRAFFIC) {
        code = traffic_parse(&values->traffic, &update->traffic);
    }
    if (code == ERROR_SUCCESS && flags & (IPSEC_SA_BUNDLE_UPDATE_FLAGS | IPSEC_SA_BUNDLE_UPDATE_KEY_MODULE_STATE)) {
        struct policy policy = half->policy->policy;
        if (flags & IPSEC_SA_BUNDLE_UPDATE_FLAGS) {
            policy.flags = values->saBundle.flags;
        }
        if (flags & IPSEC_SA_BUNDLE_UPDATE_KEY_MODULE_STATE) {
            code = key_module_parse(values->saBundle.keyModuleState, &policy);
        }
        if (code == ERROR_SUCCESS) {
            update->policy = shape_of_policy(store, &policy);
            code = update->policy ? ERROR_SUCCESS : ERROR_NOT_ENOUGH_MEMORY;
        }
    }
    return code;
}

static void
update_apply(struct wfpsa_store *store, UINT64 flags, struct update *update, struct half *half)
{
    if (!update->values) {
        return;
    }
    const IPSEC_SA_BUNDLE1 *bundle = &update->values->saBundle;
    if (update->policy) {
        shape_drop(store, half->policy);
        half->policy = update->policy;
        update->policy = NULL;
    }
    if (flags & IPSEC_SA_DETAILS_UPDATE_TRAFFIC) {
        half->filter_id = update->values->traffic.ipsecFilterId;
    }
    if (flags & IPSEC_SA_DETAILS_UPDATE_UDP_ENCAPSULATION && half->ip_version == FWP_IP_VERSION_V4) {
        set_encapsulation(half, update->values->udpEncapsulation);
    }
    if (flags & IPSEC_SA_BUNDLE_UPDATE_NAP_CONTEXT) {
        half->nap_context = bundle->napContext;
    }
    if (flags & IPSEC_SA_BUNDLE_UPDATE_PEER_V4_PRIVATE_ADDRESS &&
        half->policy->policy.bundle_ip_version == FWP_IP_VERSION_V4) {
        half->peer_private_address = bundle->peerV4PrivateAddress;
    }
    if (flags & IPSEC_SA_BUNDLE_UPDATE_MM_SA_ID) {
        half->mm_sa_id = bundle->mmSaId;
    }
}

/* The record with both updates; it changes whole or not at all. */
static DWORD
update_record(struct wfpsa_store *store, UINT64 flags, struct record *record, struct update *in, struct update *out)
{
    struct traffic outbound = record->traffic;
    struct traffic inbound = record->inbound_traffic ? *record->inbound_traffic : record->traffic;
    if (flags & IPSEC_SA_DETAILS_UPDATE_TRAFFIC) {
        outbound = out->values ? out->traffic : outbound;
        inbound = in->values ? in->traffic : inbound;
    }
    int has_outbound =
        record->out.policy || record->stage != STAGE_COMPLETE; /* else it is gone, and its traffic too */
    struct traffic *own = NULL;
    int has_inbound = record->in.policy || record->stage == STAGE_SPI;
    if (has_outbound && has_inbound && !same_in_all(&inbound, &outbound)) {
        own = wfpsa_allocate(1, sizeof *own);
        if (!own) {
            return ERROR_NOT_ENOUGH_MEMORY;
        }
        *own = inbound;
    }
    record = store_edit(store, record);
    if (!record) {
        wfpsa_free(own);
        return ERROR_NOT_ENOUGH_MEMORY;
    }
    wfpsa_free(record->inbound_traffic);
    record->inbound_traffic = own;
    record->traffic = has_outbound ? outbound : inbound;
    update_apply(store, flags, in, &record->in);
    update_apply(store, flags, out, &record->out);
    store_edited(store, record);
    return ERROR_SUCCESS;
}

DWORD WINAPI
sa_context_update(HANDLE engineHandle, UINT64 flags, const IPSEC_SA_CONTEXT1 *newValues)
{
    struct call call;
    struct update in, out;
    DWORD code = call_enter(engineHandle, FUNCTION_IPsecSaContextUpdate0, FWPM_ACTRL_WRITE,
                            ACCESS_WRITE | ACCESS_SWITCHED, &call);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    if (!newValues) {
        return call_leave(&call, (DWORD)FWP_E_NULL_POINTER);
    }
    if (flags & ~(UINT64)UPDATES) {
        return call_leave(&call, (DWORD)FWP_E_INVALID_FLAGS);
    }
    struct record *record = store_lookup(call.store, newValues->saContextId);
    if (!record) {
        return call_leave(&call, (DWORD)FWP_E_NOT_FOUND);
    }
    code = update_prepare(call.store, flags, newValues->inboundSa, &record->in, &in);
    memset(&out, 0, sizeof out);
    if (code == ERROR_SUCCESS) {
        code = update_prepare(call.store, flags, newValues->outboundSa, &record->out, &out);
    }
    if (code == ERROR_SUCCESS) {
        code = update_record(call.store, flags, record, &in, &out);
    }
    shape_drop(call.store, in.policy);
    shape_drop(call.store, out.policy);
    return call_leave(&call, code);
}

/* ---- the end of a context ---- */

/* The outbound SA goes at once, the inbound SA and with it the context a minute later. */
DWORD WINAPI
sa_context_expire(HANDLE engineHandle, UINT64 id)
{
    struct call call;
    DWORD code =
        call_enter(engineHandle, FUNCTION_IPsecSaContextExpire0, DELETE, ACCESS_WRITE | ACCESS_SWITCHED, &call);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    struct record *record = store_lookup(call.store, id);
    if (!record || (record->expired && SWITCHED(call.store, second_expiry, 1))) {
        return call_leave(&call, (DWORD)FWP_E_NOT_FOUND);
    }
    if (record->expired) {
        return call_leave(&call, ERROR_SUCCESS);
    }
    return call_leave(&call, store_expire(call.store, record) ? ERROR_SUCCESS : ERROR_NOT_ENOUGH_MEMORY);
}

DWORD WINAPI
sa_context_delete_by_id(HANDLE engineHandle, UINT64 id)
{
    struct call call;
    DWORD code = call_enter(engineHandle, FUNCTION_IPsecSaContextDeleteById0, DELETE,
                            ACCESS_WRITE | ACCESS_NOT_IN_TRANSACTION | ACCESS_NOT_IN_DYNAMIC, &call);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    struct record *record = store_lookup(call.store, id);
    if (!record) {
        return call_leave(&call, (DWORD)FWP_E_NOT_FOUND);
    }
    return call_leave(&call, store_remove(call.store, record) ? ERROR_SUCCESS : ERROR_NOT_ENOUGH_MEMORY);
}

/* ---- statistics ---- */

/* What nothing here can count, bytes and dropped packets, stays 0. */
DWORD WINAPI
get_statistics1(HANDLE engineHandle, IPSEC_STATISTICS1 *ipsecStatistics)
{
    struct call call;
    DWORD code = call_enter(engineHandle, FUNCTION_IPsecGetStatistics1, FWPM_ACTRL_READ_STATS,
                            ACCESS_READ | ACCESS_NOT_IN_TRANSACTION, &call);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    if (!ipsecStatistics) {
        return call_leave(&call, (DWORD)FWP_E_NULL_POINTER);
    }
    const struct tallies *tallies = &call.store->tallies;
    memset(ipsecStatistics, 0, sizeof *ipsecStatistics);
    ipsecStatistics->aggregateSaStatistics.activeSas = tallies->active_sas;
    ipsecStatistics->aggregateSaStatistics.pendingSaNegotiations = tallies->pending;
    ipsecStatistics->aggregateSaStatistics.totalSasAdded = tallies->added;
    ipsecStatistics->aggregateSaStatistics.totalSasDeleted = tallies->deleted;
    ipsecStatistics->aggregateSaStatistics.successfulRekeys = tallies->rekeyed;
    ipsecStatistics->aggregateSaStatistics.activeTunnels = tallies->active_tunnels;
    return call_leave(&call, ERROR_SUCCESS);
}

/* ---- adding one as a test wants it ---- */

static DWORD
details_parse(struct wfpsa_store *store, const IPSEC_SA_DETAILS1 *given, struct traffic *traffic, struct half *half)
{
    struct rarity rarity;
    if (!given) {
        return ERROR_SUCCESS;
    }
    DWORD code = traffic_parse(&given->traffic, traffic);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    memset(&rarity, 0, sizeof rarity);
    rarity.virtual_tunnel_id = given->virtualIfTunnelInfo.virtualIfTunnelId;
    rarity.traffic_selector_id = given->virtualIfTunnelInfo.trafficSelectorId;
    code = half_parse(store, &given->saBundle, traffic->ip_version, &rarity, half);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    half->filter_id = given->traffic.ipsecFilterId;
    set_encapsulation(half, traffic->ip_version == FWP_IP_VERSION_V4 ? given->udpEncapsulation : NULL);
    if (given->transportFilter) {
        half->filter =
            shape_of_filter(store, given->transportFilter->filterId, given->transportFilter->displayData.name, 0);
        return half->filter ? ERROR_SUCCESS : ERROR_NOT_ENOUGH_MEMORY;
    }
    return ERROR_SUCCESS;
}

struct record *
store_add_given(struct wfpsa_store *store, struct record *made, struct traffic *inbound)
{
    made->stage = made->out.policy ? STAGE_COMPLETE : made->in.policy ? STAGE_INBOUND : STAGE_CREATED;
    if (!made->out.policy) {
        made->traffic = *inbound;
    } else if (made->in.policy && !same_in_all(inbound, &made->traffic)) {
        made->inbound_traffic = inbound; /* the record gets a copy */
    }
    return store_add(store, made);
}

UINT64
id_after(UINT64 next_id, UINT64 given)
{
    UINT64 number = given & ~((UINT64)1 << 63); /* odd populations have the bit set in ids of a row */
    return number >= next_id && number < UINT64_MAX / 4 ? number + 1 : next_id;
}

void
tell_added(struct wfpsa_store *store, const struct record *record)
{
    if (SWITCHED(store, add_event, 0) || record->out.policy) {
        notify(store, IPSEC_SA_CONTEXT_EVENT_ADD, record);
    }
}

uint32_t
wfpsa_store_add(struct wfpsa_store *store, const struct IPSEC_SA_CONTEXT1_ *context, uint64_t *id)
{
    struct record made;
    struct traffic inbound;
    memset(&made, 0, sizeof made);
    memset(&inbound, 0, sizeof inbound);
    wfpsa_mutex_lock(&store->lock);
    store_settle(store);
    made.id = context->saContextId ? context->saContextId : store->next_id;
    DWORD code = store_lookup(store, made.id) ? (DWORD)FWP_E_ALREADY_EXISTS : ERROR_SUCCESS;
    if (code == ERROR_SUCCESS) {
        code = details_parse(store, context->outboundSa, &made.traffic, &made.out);
    }
    if (code == ERROR_SUCCESS) {
        code = details_parse(store, context->inboundSa, &inbound, &made.in);
    }
    if (code == ERROR_SUCCESS) {
        struct record *record = store_add_given(store, &made, &inbound);
        code = record ? ERROR_SUCCESS : ERROR_NOT_ENOUGH_MEMORY;
        if (record) {
            *id = made.id;
            store->next_id = id_after(store->next_id, made.id);
            tell_added(store, record);
        }
    }
    half_drop(store, &made.in);
    half_drop(store, &made.out);
    wfpsa_mutex_unlock(&store->lock);
    return code;
}
