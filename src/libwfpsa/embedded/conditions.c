/* Templates: the subnets or hosts that an enumeration or a subscription asks for. */
#include "internal.h"

#include <string.h>

/* Which codes the OS returns for a bad template is not documented: these are the ones made for the purpose. */
static DWORD
condition_parse(const FWP_CONDITION_VALUE0 *value, struct condition *condition)
{
    memset(condition, 0, sizeof *condition);
    condition->ip_version = FWP_IP_VERSION_NONE;
    switch ((UINT32)value->type) {
    case FWP_EMPTY:
        return ERROR_SUCCESS;
    case FWP_UINT32:
        condition->ip_version = FWP_IP_VERSION_V4;
        condition->v4_address = value->uint32;
        condition->v4_mask = UINT32_MAX;
        return ERROR_SUCCESS;
    case FWP_V4_ADDR_MASK:
        if (!value->v4AddrMask) {
            return (DWORD)FWP_E_NULL_POINTER;
        }
        condition->ip_version = FWP_IP_VERSION_V4;
        condition->v4_mask = value->v4AddrMask->mask;
        condition->v4_address = value->v4AddrMask->addr & condition->v4_mask;
        if (~condition->v4_mask & (~condition->v4_mask + 1)) { /* holes in the mask */
            return (DWORD)FWP_E_INVALID_NET_MASK;
        }
        return ERROR_SUCCESS;
    case FWP_BYTE_ARRAY16_TYPE:
        if (!value->byteArray16) {
            return (DWORD)FWP_E_NULL_POINTER;
        }
        condition->ip_version = FWP_IP_VERSION_V6;
        condition->v6_prefix = 128;
        memcpy(condition->v6_address, value->byteArray16->byteArray16, 16);
        return ERROR_SUCCESS;
    case FWP_V6_ADDR_MASK:
        if (!value->v6AddrMask) {
            return (DWORD)FWP_E_NULL_POINTER;
        }
        if (value->v6AddrMask->prefixLength > 128) {
            return (DWORD)FWP_E_INVALID_NET_MASK;
        }
        condition->ip_version = FWP_IP_VERSION_V6;
        condition->v6_prefix = value->v6AddrMask->prefixLength;
        memcpy(condition->v6_address, value->v6AddrMask->addr, 16);
        return ERROR_SUCCESS;
    default:
        return (DWORD)FWP_E_TYPE_MISMATCH;
    }
}

static int
is_v6_mask_or_empty(const FWP_CONDITION_VALUE0 *value)
{
    return (UINT32)value->type == FWP_EMPTY || (UINT32)value->type == FWP_V6_ADDR_MASK;
}

DWORD
conditions_parse(const struct wfpsa_store *store, const IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 *given,
                 struct conditions *conditions)
{
    const IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 everything = {{FWP_EMPTY, {0}}, {FWP_EMPTY, {0}}};
    const IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 *wanted = given ? given : &everything;
    if (SWITCHED(store, templates, 1) &&
        !(is_v6_mask_or_empty(&wanted->localSubNet) && is_v6_mask_or_empty(&wanted->remoteSubNet))) {
        return (DWORD)FWP_E_TYPE_MISMATCH;
    }
    DWORD code = condition_parse(&wanted->localSubNet, &conditions->local);
    if (code == ERROR_SUCCESS) {
        code = condition_parse(&wanted->remoteSubNet, &conditions->remote);
    }
    if (code == ERROR_SUCCESS && conditions->local.ip_version != FWP_IP_VERSION_NONE &&
        conditions->remote.ip_version != FWP_IP_VERSION_NONE &&
        conditions->local.ip_version != conditions->remote.ip_version) {
        code = (DWORD)FWP_E_NEVER_MATCH;
    }
    return code;
}

static int
condition_holds(const struct condition *condition, UINT32 ip_version, const UINT8 *address)
{
    if (condition->ip_version == FWP_IP_VERSION_NONE) {
        return 1;
    }
    if (condition->ip_version != ip_version) {
        return 0;
    }
    if (ip_version == FWP_IP_VERSION_V4) {
        UINT32 host_order;
        memcpy(&host_order, address, sizeof host_order);
        return (host_order & condition->v4_mask) == condition->v4_address;
    }
    UINT32 whole = condition->v6_prefix / 8, rest = condition->v6_prefix % 8;
    return memcmp(address, condition->v6_address, whole) == 0 &&
           (rest == 0 || (address[whole] ^ condition->v6_address[whole]) >> (8 - rest) == 0);
}

static int
traffic_matches(const struct conditions *conditions, const struct traffic *traffic)
{
    return condition_holds(&conditions->local, traffic->ip_version, traffic->local) &&
           condition_holds(&conditions->remote, traffic->ip_version, traffic->remote);
}

int
conditions_hold(const struct conditions *conditions, const struct record *record, int even_without_sa)
{
    if (conditions->local.ip_version == FWP_IP_VERSION_NONE && conditions->remote.ip_version == FWP_IP_VERSION_NONE) {
        return 1;
    }
    if (!record->in.policy && !record->out.policy) {
        return even_without_sa && traffic_matches(conditions, &record->traffic);
    }
    if (!record->inbound_traffic) {
        return traffic_matches(conditions, &record->traffic);
    }
    return (record->out.policy && traffic_matches(conditions, &record->traffic)) ||
           (record->in.policy && traffic_matches(conditions, record->inbound_traffic));
}
