/* The OS's functions over a store that read: enumerations and get; and the table of them all. */
#include "internal.h"

volatile int64_t live_enum_handles;

/* ---- enumeration handles ---- */

void
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
    store->snapshots -= handle->live ? 0 : 1;
    wfpsa_free(handle);
    wfpsa_atomic_add(&live_enum_handles, -1);
    store_collect(store);
}

void
enum_handles_stop(struct wfpsa_store *store)
{
    struct enum_handle *handle = store->enum_handles;
    while (handle) {
        if (handle->filling) {
            wfpsa_condition_wait(&store->idle, &store->lock);
            handle = store->enum_handles; /* any of them may have gone meanwhile */
            continue;
        }
        store->snapshots -= handle->live ? 0 : 1;
        handle->live = 1; /* its session is dead: nobody will see what it shows */
        handle = handle->next;
    }
    store_collect(store);
}

static DWORD WINAPI
sa_context_create_enum_handle(HANDLE engineHandle, const IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 *enumTemplate,
                              HANDLE *enumHandle)
{
    struct call call;
    DWORD code = call_enter(engineHandle, FUNCTION_IPsecSaContextCreateEnumHandle0, FWPM_ACTRL_ENUM | FWPM_ACTRL_READ,
                            ACCESS_READ, &call);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    if (!enumHandle) {
        return call_leave(&call, (DWORD)FWP_E_NULL_POINTER);
    }
    *enumHandle = NULL;
    struct wfpsa_store *store = call.store;
    struct enum_handle *handle = wfpsa_allocate_zeroed(1, sizeof *handle);
    if (!handle) {
        return call_leave(&call, ERROR_NOT_ENOUGH_MEMORY);
    }
    code = conditions_parse(store, enumTemplate, &handle->wanted);
    if (code != ERROR_SUCCESS) {
        wfpsa_free(handle);
        return call_leave(&call, code);
    }
    handle->session = call.session;
    handle->live = SWITCHED(store, enumeration, 1);
    handle->epoch = store->epoch;
    handle->end_slot = store->slots_used;
    handle->next = store->enum_handles;
    store->enum_handles = handle;
    store->snapshots += handle->live ? 0 : 1;
    wfpsa_atomic_add(&live_enum_handles, 1);
    *enumHandle = handle;
    return call_leave(&call, ERROR_SUCCESS);
}

/* The handle, if it is one of this session's: it is looked for and not followed. */
static DWORD
handle_find(const struct call *call, HANDLE enumHandle, struct enum_handle **found)
{
    if (!enumHandle) {
        return (DWORD)FWP_E_NULL_POINTER;
    }
    struct enum_handle *handle = call->store->enum_handles;
    while (handle && handle != enumHandle) {
        handle = handle->next;
    }
    *found = handle;
    if (!handle) {
        misused(call->function, MISUSE_ENUM_HANDLE);
        return ERROR_INVALID_HANDLE;
    }
    if (handle->session != call->session) {
        misused(call->function, MISUSE_OTHER_SESSION);
        return SWITCHED(call->store, foreign_handle, 0) ? (DWORD)FWP_E_WRONG_SESSION : ERROR_INVALID_HANDLE;
    }
    return ERROR_SUCCESS;
}

/* ---- pages ---- */

/* The records of the next page, chosen under the lock; *next is where the one after it begins. */
static UINT32
choose(const struct wfpsa_store *store, const struct enum_handle *handle, const struct record **chosen, UINT32 room,
       UINT32 *next)
{
    UINT32 count = 0, slot = handle->next_slot;
    for (; slot < handle->end_slot && count < room; slot++) {
        const struct record *record =
            handle->live ? store_present(store, slot) : store_seen(store, slot, handle->epoch);
        if (record && conditions_hold(&handle->wanted, record, 0)) {
            chosen[count++] = record;
        }
    }
    *next = slot;
    return count;
}

/* Both versions of Enum. Records are copied outside the lock where the open handle keeps them. */
static DWORD
enumerate(HANDLE engineHandle, HANDLE enumHandle, UINT32 wanted, void **entries, UINT32 *returned, int version)
{
    struct call call;
    struct enum_handle *handle;
    DWORD code = call_enter(engineHandle, version == 0 ? FUNCTION_IPsecSaContextEnum0 : FUNCTION_IPsecSaContextEnum1,
                            0, ACCESS_READ, &call);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    if (!entries || !returned) {
        return call_leave(&call, (DWORD)FWP_E_NULL_POINTER);
    }
    *entries = NULL;
    *returned = 0;
    code = handle_find(&call, enumHandle, &handle);
    if (code != ERROR_SUCCESS) {
        return call_leave(&call, code);
    }
    struct wfpsa_store *store = call.store;
    if (handle->live) {
        handle->end_slot = store->slots_used;
    }
    UINT32 left = handle->end_slot > handle->next_slot ? handle->end_slot - handle->next_slot : 0;
    UINT32 room = wanted < left ? wanted : left;
    const struct record **chosen = wfpsa_allocate(room, sizeof *chosen);
    if (!chosen) {
        return call_leave(&call, ERROR_NOT_ENOUGH_MEMORY);
    }
    UINT32 before = handle->next_slot;
    UINT32 count = choose(store, handle, chosen, room, &handle->next_slot);
    UINT64 latency = store->entry_latency_ns * count;
    int keys = store->switches[SWITCH_keys], outside = !handle->live;
    int is_block = count > 0 || SWITCHED(store, empty_page, 1);
    handle->filling++;
    if (outside) {
        wfpsa_mutex_unlock(&store->lock);
    }
    void *page = is_block ? page_build(chosen, count, version, keys) : NULL;
    wfpsa_free(chosen);
    if (!outside) {
        wfpsa_mutex_unlock(&store->lock);
    }
    if (latency) {
        wfpsa_sleep_ns(latency);
    }
    wfpsa_mutex_lock(&store->lock);
    handle->filling--;
    if (is_block && !page) {
        handle->next_slot = before; /* a failed call takes nothing from the enumeration */
        return call_leave(&call, ERROR_NOT_ENOUGH_MEMORY);
    }
    *entries = page;
    *returned = count;
    return call_leave(&call, ERROR_SUCCESS);
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
    struct call call;
    struct enum_handle *handle;
    DWORD code = call_enter(engineHandle, FUNCTION_IPsecSaContextDestroyEnumHandle0, 0, ACCESS_NONE, &call);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    code = handle_find(&call, enumHandle, &handle);
    if (code == ERROR_SUCCESS) {
        enum_handle_free(call.store, handle);
    }
    return call_leave(&call, code);
}

/* ---- one context ---- */

static DWORD
get_by_id(HANDLE engineHandle, UINT64 id, void **saContext, int version)
{
    struct call call;
    DWORD code =
        call_enter(engineHandle, version == 0 ? FUNCTION_IPsecSaContextGetById0 : FUNCTION_IPsecSaContextGetById1,
                   FWPM_ACTRL_READ, ACCESS_READ, &call);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    const struct record *record = store_lookup(call.store, id);
    if (!record) {
        return call_leave(&call, (DWORD)FWP_E_NOT_FOUND);
    }
    *saContext = page_build_one(record, version, call.store->switches[SWITCH_keys]);
    return call_leave(&call, *saContext ? ERROR_SUCCESS : ERROR_NOT_ENOUGH_MEMORY);
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

/* ---- the table ---- */

const struct wfpsa_backend wfpsa_embedded_backend = {
    .name = "embedded",
    .engine_open = engine_open,
    .engine_close = engine_close,
    .free_memory = page_free,
    .transaction_begin = transaction_begin,
    .transaction_commit = transaction_commit,
    .transaction_abort = transaction_abort,
    .sa_context_create_enum_handle = sa_context_create_enum_handle,
    .sa_context_enum0 = sa_context_enum0,
    .sa_context_enum1 = sa_context_enum1,
    .sa_context_destroy_enum_handle = sa_context_destroy_enum_handle,
    .sa_context_get_by_id0 = sa_context_get_by_id0,
    .sa_context_get_by_id1 = sa_context_get_by_id1,
    .sa_context_expire = sa_context_expire,
    .sa_context_delete_by_id = sa_context_delete_by_id,
    .sa_context_create1 = sa_context_create1,
    .sa_context_get_spi1 = sa_context_get_spi1,
    .sa_context_set_spi = sa_context_set_spi,
    .sa_context_add_inbound1 = sa_context_add_inbound1,
    .sa_context_add_outbound1 = sa_context_add_outbound1,
    .sa_context_update = sa_context_update,
    .sa_context_subscribe = sa_context_subscribe,
    .sa_context_unsubscribe = sa_context_unsubscribe,
    .sa_context_subscriptions_get = sa_context_subscriptions_get,
    .get_statistics1 = get_statistics1,
};
