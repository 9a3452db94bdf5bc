/* The OS's functions over a store: sessions, enumerations, get, expire, delete; and the table of them. */
#include "internal.h"

#include <string.h>

/* ---- sessions ---- */

static const WCHAR default_name[] = {'d', 'e', 'f', 'a', 'u', 'l', 't', 0};

static DWORD WINAPI
engine_open(const WCHAR *serverName, UINT32 authnService, SEC_WINNT_AUTH_IDENTITY_W *authIdentity,
            const FWPM_SESSION0 *session, HANDLE *engineHandle)
{
    struct wfpsa_store *store;
    (void)authIdentity; /* every caller is who wfpsa_store_rights says */
    if (!engineHandle) {
        return (DWORD)FWP_E_NULL_POINTER;
    }
    *engineHandle = NULL;
    if (authnService != RPC_C_AUTHN_WINNT && authnService != RPC_C_AUTHN_DEFAULT) {
        return RPC_S_UNKNOWN_AUTHN_SERVICE;
    }
    if (session && session->flags & ~(UINT32)FWPM_SESSION_FLAG_DYNAMIC) {
        return (DWORD)FWP_E_INVALID_FLAGS;
    }
    if (serverName) {
        store = store_find(serverName);
        if (!store) {
            return RPC_S_SERVER_UNAVAILABLE;
        }
    } else {
        int created;
        store = wfpsa_store_open((const uint16_t *)default_name, &created);
        if (!store) {
            return ERROR_NOT_ENOUGH_MEMORY;
        }
    }
    struct session *opened = wfpsa_allocate_zeroed(1, sizeof *opened);
    DWORD code = opened ? ERROR_SUCCESS : ERROR_NOT_ENOUGH_MEMORY;
    wfpsa_mutex_lock(&store->lock);
    if (code == ERROR_SUCCESS) {
        code = fault_take(store, FUNCTION_FwpmEngineOpen0);
    }
    if (code == ERROR_SUCCESS && !(store->rights & FWPM_ACTRL_OPEN)) {
        code = ERROR_ACCESS_DENIED;
    }
    if (code == ERROR_SUCCESS) {
        opened->magic = SESSION_MAGIC;
        opened->store = store;
        opened->rights = store->rights;
        opened->flags = session ? session->flags : 0;
    }
    wfpsa_mutex_unlock(&store->lock);
    if (code != ERROR_SUCCESS) {
        wfpsa_free(opened);
        wfpsa_store_release(store);
        return code;
    }
    wfpsa_atomic_add(&live_engines, 1);
    *engineHandle = opened;
    return ERROR_SUCCESS;
}

/* Unlinks and frees a handle once no page is being built from it; called with the lock held. */
static void
enum_handle_free(struct wfpsa_store *store, struct enum_handle *handle)
{
    while (handle->filling) {
        wfpsa_condition_wait(&store->idle, &store->lock);
    }
    struct enum_handle **link = &store->enum_handles;
    while (*link != handle) {
        link = &(*link)->next;
    }
    *link = handle->next;
    handle->magic = 0;
    wfpsa_free(handle);
    wfpsa_atomic_add(&live_enum_handles, -1);
    store_collect(store);
}

/* Ends the session and what it left open; a failure planned for this call is reported, and it is closed all the same,
 * since nobody could close it afterwards. */
static DWORD WINAPI
engine_close(HANDLE engineHandle)
{
    struct session *session;
    DWORD code;
    if (!engineHandle) {
        return (DWORD)FWP_E_NULL_POINTER;
    }
    session = engineHandle;
    if (session->magic != SESSION_MAGIC) {
        return ERROR_INVALID_HANDLE;
    }
    struct wfpsa_store *store = session->store;
    wfpsa_mutex_lock(&store->lock);
    code = fault_take(store, FUNCTION_FwpmEngineClose0);
    while (session->calls) {
        wfpsa_condition_wait(&store->idle, &store->lock);
    }
    for (struct enum_handle *handle = store->enum_handles, *next; handle; handle = next) {
        next = handle->next;
        if (handle->session == session) {
            enum_handle_free(store, handle);
        }
    }
    session->magic = 0;
    wfpsa_mutex_unlock(&store->lock);
    wfpsa_free(session);
    wfpsa_atomic_add(&live_engines, -1);
    wfpsa_store_release(store);
    return code;
}

/* ---- templates ---- */

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
traffic_matches(const struct enum_handle *handle, const struct traffic *traffic)
{
    return condition_holds(&handle->local, traffic->ip_version, traffic->local) &&
           condition_holds(&handle->remote, traffic->ip_version, traffic->remote);
}

/* Whether one of the context's SAs lies in both subnets. */
static int
record_matches(const struct enum_handle *handle, const struct record *record)
{
    if (handle->local.ip_version == FWP_IP_VERSION_NONE && handle->remote.ip_version == FWP_IP_VERSION_NONE) {
        return 1;
    }
    if (!record->in.policy && !record->out.policy) {
        return 0;
    }
    return traffic_matches(handle, &record->traffic) ||
           (record->inbound_traffic && traffic_matches(handle, record->inbound_traffic));
}

/* ---- enumeration ---- */

static DWORD WINAPI
sa_context_create_enum_handle(HANDLE engineHandle, const IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 *enumTemplate,
                              HANDLE *enumHandle)
{
    struct session *session;
    DWORD code = call_enter(engineHandle, FUNCTION_IPsecSaContextCreateEnumHandle0, FWPM_ACTRL_ENUM | FWPM_ACTRL_READ,
                            &session);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    if (!enumHandle) {
        return call_leave(session, (DWORD)FWP_E_NULL_POINTER);
    }
    *enumHandle = NULL;
    struct enum_handle *handle = wfpsa_allocate_zeroed(1, sizeof *handle);
    if (!handle) {
        return call_leave(session, ERROR_NOT_ENOUGH_MEMORY);
    }
    const IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 everything = {{FWP_EMPTY, {0}}, {FWP_EMPTY, {0}}};
    const IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 *wanted = enumTemplate ? enumTemplate : &everything;
    code = condition_parse(&wanted->localSubNet, &handle->local);
    if (code == ERROR_SUCCESS) {
        code = condition_parse(&wanted->remoteSubNet, &handle->remote);
    }
    if (code == ERROR_SUCCESS && handle->local.ip_version != FWP_IP_VERSION_NONE &&
        handle->remote.ip_version != FWP_IP_VERSION_NONE && handle->local.ip_version != handle->remote.ip_version) {
        code = (DWORD)FWP_E_NEVER_MATCH;
    }
    if (code != ERROR_SUCCESS) {
        wfpsa_free(handle);
        return call_leave(session, code);
    }
    struct wfpsa_store *store = session->store;
    handle->magic = ENUM_HANDLE_MAGIC;
    handle->session = session;
    handle->epoch = store->epoch;
    handle->end_slot = store->slots_used;
    handle->next = store->enum_handles;
    store->enum_handles = handle;
    wfpsa_atomic_add(&live_enum_handles, 1);
    *enumHandle = handle;
    return call_leave(session, ERROR_SUCCESS);
}

static DWORD
handle_check(struct session *session, HANDLE enumHandle)
{
    struct enum_handle *handle = enumHandle;
    if (!handle) {
        return (DWORD)FWP_E_NULL_POINTER;
    }
    return handle->magic == ENUM_HANDLE_MAGIC && handle->session == session ? ERROR_SUCCESS : ERROR_INVALID_HANDLE;
}

/* Both versions of Enum. The records are chosen under the lock and copied out of it: the open handle keeps them. */
static DWORD
enumerate(HANDLE engineHandle, HANDLE enumHandle, UINT32 wanted, void **entries, UINT32 *returned, int version)
{
    struct session *session;
    DWORD code = call_enter(engineHandle, version == 0 ? FUNCTION_IPsecSaContextEnum0 : FUNCTION_IPsecSaContextEnum1,
                            0, &session);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    if (!entries || !returned) {
        return call_leave(session, (DWORD)FWP_E_NULL_POINTER);
    }
    *entries = NULL;
    *returned = 0;
    code = handle_check(session, enumHandle);
    if (code != ERROR_SUCCESS) {
        return call_leave(session, code);
    }
    struct enum_handle *handle = enumHandle;
    struct wfpsa_store *store = session->store;
    UINT32 left = handle->end_slot - handle->next_slot;
    UINT32 room = wanted < left ? wanted : left;
    if (room == 0) {
        return call_leave(session, ERROR_SUCCESS);
    }
    const struct record **chosen = wfpsa_allocate(room, sizeof *chosen);
    if (!chosen) {
        return call_leave(session, ERROR_NOT_ENOUGH_MEMORY);
    }
    UINT32 count = 0, slot = handle->next_slot;
    for (; slot < handle->end_slot && count < room; slot++) {
        const struct record *record = store_seen(store, slot, handle->epoch);
        if (record && record_matches(handle, record)) {
            chosen[count++] = record;
        }
    }
    UINT32 before = handle->next_slot;
    handle->next_slot = slot;
    handle->filling++;
    UINT64 latency = store->entry_latency_ns * count;
    wfpsa_mutex_unlock(&store->lock);

    void *page = count ? page_build(chosen, count, version) : NULL;
    wfpsa_free(chosen);
    if (latency) {
        wfpsa_sleep_ns(latency);
    }

    wfpsa_mutex_lock(&store->lock);
    handle->filling--;
    if (count && !page) {
        handle->next_slot = before; /* a failed call takes nothing from the enumeration */
        return call_leave(session, ERROR_NOT_ENOUGH_MEMORY);
    }
    *entries = page;
    *returned = count;
    return call_leave(session, ERROR_SUCCESS);
}

static DWORD WINAPI
sa_context_enum0(HANDLE engineHandle, HANDLE enumHandle, UINT32 numEntriesRequested, IPSEC_SA_CONTEXT0 ***entries,
                 UINT32 *numEntriesReturned)
{
    void *page = NULL;
    DWORD code =
        enumerate(engineHandle, enumHandle, numEntriesRequested, entries ? &page : NULL, numEntriesReturned, 0);
    if (entries) {
        *entries = page;
    }
    return code;
}

static DWORD WINAPI
sa_context_enum1(HANDLE engineHandle, HANDLE enumHandle, UINT32 numEntriesRequested, IPSEC_SA_CONTEXT1 ***entries,
                 UINT32 *numEntriesReturned)
{
    void *page = NULL;
    DWORD code =
        enumerate(engineHandle, enumHandle, numEntriesRequested, entries ? &page : NULL, numEntriesReturned, 1);
    if (entries) {
        *entries = page;
    }
    return code;
}

static DWORD WINAPI
sa_context_destroy_enum_handle(HANDLE engineHandle, HANDLE enumHandle)
{
    struct session *session;
    DWORD code = call_enter(engineHandle, FUNCTION_IPsecSaContextDestroyEnumHandle0, 0, &session);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    code = handle_check(session, enumHandle);
    if (code == ERROR_SUCCESS) {
        enum_handle_free(session->store, enumHandle);
    }
    return call_leave(session, code);
}

/* ---- one context ---- */

static DWORD
get_by_id(HANDLE engineHandle, UINT64 id, void **saContext, int version)
{
    struct session *session;
    DWORD code =
        call_enter(engineHandle, version == 0 ? FUNCTION_IPsecSaContextGetById0 : FUNCTION_IPsecSaContextGetById1,
                   FWPM_ACTRL_READ, &session);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    const struct record *record = store_lookup(session->store, id);
    if (!record) {
        return call_leave(session, (DWORD)FWP_E_NOT_FOUND);
    }
    *saContext = page_build_one(record, version);
    return call_leave(session, *saContext ? ERROR_SUCCESS : ERROR_NOT_ENOUGH_MEMORY);
}

static DWORD WINAPI
sa_context_get_by_id0(HANDLE engineHandle, UINT64 id, IPSEC_SA_CONTEXT0 **saContext)
{
    void *found = NULL;
    if (!saContext) {
        return (DWORD)FWP_E_NULL_POINTER;
    }
    DWORD code = get_by_id(engineHandle, id, &found, 0);
    *saContext = found;
    return code;
}

static DWORD WINAPI
sa_context_get_by_id1(HANDLE engineHandle, UINT64 id, IPSEC_SA_CONTEXT1 **saContext)
{
    void *found = NULL;
    if (!saContext) {
        return (DWORD)FWP_E_NULL_POINTER;
    }
    DWORD code = get_by_id(engineHandle, id, &found, 1);
    *saContext = found;
    return code;
}

/* The outbound SA goes at once, the inbound SA and with it the context a minute later. */
static DWORD WINAPI
sa_context_expire(HANDLE engineHandle, UINT64 id)
{
    struct session *session;
    DWORD code = call_enter(engineHandle, FUNCTION_IPsecSaContextExpire0, DELETE, &session);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    struct record *record = store_lookup(session->store, id);
    if (!record) {
        return call_leave(session, (DWORD)FWP_E_NOT_FOUND);
    }
    return call_leave(session, store_expire(session->store, record) ? ERROR_SUCCESS : ERROR_NOT_ENOUGH_MEMORY);
}

static DWORD WINAPI
sa_context_delete_by_id(HANDLE engineHandle, UINT64 id)
{
    struct session *session;
    DWORD code = call_enter(engineHandle, FUNCTION_IPsecSaContextDeleteById0, DELETE, &session);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    if (session->flags & FWPM_SESSION_FLAG_DYNAMIC) {
        return call_leave(session, (DWORD)FWP_E_DYNAMIC_SESSION_IN_PROGRESS);
    }
    struct record *record = store_lookup(session->store, id);
    if (!record) {
        return call_leave(session, (DWORD)FWP_E_NOT_FOUND);
    }
    return call_leave(session, store_remove(session->store, record) ? ERROR_SUCCESS : ERROR_NOT_ENOUGH_MEMORY);
}

/* ---- the table; what is left NULL this engine does not answer ---- */

const struct wfpsa_backend wfpsa_embedded_backend = {
    .name = "embedded",
    .engine_open = engine_open,
    .engine_close = engine_close,
    .free_memory = page_free,
    .sa_context_create_enum_handle = sa_context_create_enum_handle,
    .sa_context_enum0 = sa_context_enum0,
    .sa_context_enum1 = sa_context_enum1,
    .sa_context_destroy_enum_handle = sa_context_destroy_enum_handle,
    .sa_context_get_by_id0 = sa_context_get_by_id0,
    .sa_context_get_by_id1 = sa_context_get_by_id1,
    .sa_context_expire = sa_context_expire,
    .sa_context_delete_by_id = sa_context_delete_by_id,
};
