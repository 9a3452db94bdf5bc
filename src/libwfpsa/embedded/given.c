/* Contexts added as they were elsewhere, whatever this engine itself would accept: all of them, or none. */
#include "internal.h"

#include <string.h>

static UINT8
key_given(const FWP_BYTE_BLOB *key)
{
    return (UINT8)(key->size < KEY_BYTES_MAX ? key->size : KEY_BYTES_MAX);
}

static void
sa_given(const IPSEC_SA0 *given, struct sa_shape *sa)
{
    const IPSEC_SA_AUTH_INFORMATION0 *auth = NULL;
    const IPSEC_SA_CIPHER_INFORMATION0 *cipher = NULL;
    sa->transform = (UINT32)given->saTransformType;
    switch (sa->transform) {
    case IPSEC_TRANSFORM_AH:
    case IPSEC_TRANSFORM_ESP_AUTH:
    case IPSEC_TRANSFORM_ESP_AUTH_FW:
        auth = given->ahInformation; /* one union */
        break;
    case IPSEC_TRANSFORM_ESP_CIPHER:
        cipher = given->espCipherInformation;
        break;
    case IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER:
        if (given->espAuthAndCipherInformation) {
            auth = &given->espAuthAndCipherInformation->saAuthInformation;
            cipher = &given->espAuthAndCipherInformation->saCipherInformation;
        }
        break;
    default: /* whatever is there, nobody knows its layout */
        break;
    }
    sa->no_information = !auth && !cipher;
    if (auth) {
        sa->auth_type = (UINT32)auth->authTransform.authTransformId.authType;
        sa->auth_config = auth->authTransform.authTransformId.authConfig;
        sa->auth_key = key_given(&auth->authKey);
    }
    if (cipher) {
        sa->cipher_type = (UINT32)cipher->cipherTransform.cipherTransformId.cipherType;
        sa->cipher_config = cipher->cipherTransform.cipherTransformId.cipherConfig;
        sa->cipher_key = key_given(&cipher->cipherKey);
    }
}

static void
policy_given(const IPSEC_SA_BUNDLE1 *given, struct policy *policy)
{
    policy_copy(given, policy);
    for (UINT32 i = 0; i < policy->listed; i++) {
        sa_given(&given->saList[i], &policy->sas[i]);
    }
    if (given->keyModuleState) {
        UINT32 size = given->keyModuleState->stateBlob.size;
        policy->has_key_module = 1;
        policy->key_module = given->keyModuleState->keyModuleKey;
        policy->key_module_state = size < STATE_BYTES_MAX ? size : STATE_BYTES_MAX;
    }
}

static DWORD
details_given(struct wfpsa_store *store, const IPSEC_SA_DETAILS1 *given, struct traffic *traffic, struct half *half)
{
    struct policy policy;
    struct rarity rarity;
    if (!given) {
        return ERROR_SUCCESS;
    }
    traffic_copy(&given->traffic, traffic);
    policy_given(&given->saBundle, &policy);
    memset(&rarity, 0, sizeof rarity);
    rarity.virtual_tunnel_id = given->virtualIfTunnelInfo.virtualIfTunnelId;
    rarity.traffic_selector_id = given->virtualIfTunnelInfo.trafficSelectorId;
    UINT32 ip_version = (UINT32)given->ipVersion;
    DWORD code = half_make(store, &policy, &given->saBundle, ip_version, &rarity, half);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    half->filter_id = given->traffic.ipsecFilterId;
    set_encapsulation(half, ip_version == FWP_IP_VERSION_V4 ? given->udpEncapsulation : NULL);
    if (given->transportFilter) {
        half->filter = shape_of_filter(store, given->transportFilter->filterId, NULL, 0);
        return half->filter ? ERROR_SUCCESS : ERROR_NOT_ENOUGH_MEMORY;
    }
    return ERROR_SUCCESS;
}

static DWORD
add_given(struct wfpsa_store *store, const IPSEC_SA_CONTEXT1 *context)
{
    struct record made;
    struct traffic inbound;
    if (store_lookup(store, context->saContextId)) {
        return (DWORD)FWP_E_ALREADY_EXISTS;
    }
    memset(&made, 0, sizeof made);
    memset(&inbound, 0, sizeof inbound);
    made.id = context->saContextId;
    DWORD code = details_given(store, context->outboundSa, &made.traffic, &made.out);
    if (code == ERROR_SUCCESS) {
        code = details_given(store, context->inboundSa, &inbound, &made.in);
    }
    if (code == ERROR_SUCCESS && !store_add_given(store, &made, &inbound)) {
        code = ERROR_NOT_ENOUGH_MEMORY;
    }
    half_drop(store, &made.in);
    half_drop(store, &made.out);
    return code;
}

uint32_t
wfpsa_store_replay(struct wfpsa_store *store, uint64_t count, wfpsa_replayed_context next, void *source,
                   uint64_t *failed)
{
    UINT64 done = 0;
    wfpsa_mutex_lock(&store->lock);
    store_settle(store);
    UINT64 next_id = store->next_id;
    DWORD code = store_reserve(store, count) ? ERROR_SUCCESS : ERROR_NOT_ENOUGH_MEMORY;
    while (code == ERROR_SUCCESS && done < count) {
        const IPSEC_SA_CONTEXT1 *context = next(source, done);
        code = add_given(store, context);
        next_id = id_after(next_id, context->saContextId);
        done += code == ERROR_SUCCESS;
    }
    *failed = done;
    store->next_id = code == ERROR_SUCCESS ? next_id : store->next_id;
    for (UINT64 i = 0; i < done && (code != ERROR_SUCCESS || store->subscriptions); i++) {
        struct record *record = store_lookup(store, next(source, i)->saContextId);
        if (code == ERROR_SUCCESS) {
            tell_added(store, record);
        } else {
            store_withdraw(store, record);
        }
    }
    wfpsa_mutex_unlock(&store->lock);
    return code;
}
