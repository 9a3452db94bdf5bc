/* The gate of every call: bad handles, rights, planned faults, latency; and the count of what is alive. */
#include "internal.h"

#include <string.h>

#include "wfpsa/backends.h"

volatile int64_t live_engines, live_enum_handles;

DWORD
fault_take(struct wfpsa_store *store, enum function function)
{
    struct fault *fault = &store->faults[function];
    return fault->calls_left > 0 && --fault->calls_left == 0 ? fault->code : ERROR_SUCCESS;
}

DWORD
call_enter(HANDLE engineHandle, enum function function, UINT32 rights, struct session **session)
{
    struct session *caller = engineHandle;
    if (!caller) {
        return (DWORD)FWP_E_NULL_POINTER;
    }
    if (caller->magic != SESSION_MAGIC) {
        return ERROR_INVALID_HANDLE;
    }
    struct wfpsa_store *store = caller->store;
    wfpsa_mutex_lock(&store->lock);
    caller->calls++;
    DWORD code = fault_take(store, function);
    UINT64 latency = store->call_latency_ns;
    if (latency) {
        wfpsa_mutex_unlock(&store->lock);
        wfpsa_sleep_ns(latency);
        wfpsa_mutex_lock(&store->lock);
    }
    if (code == ERROR_SUCCESS && (caller->rights & rights) != rights) {
        code = ERROR_ACCESS_DENIED;
    }
    if (code != ERROR_SUCCESS) {
        return call_leave(caller, code);
    }
    store_settle(store);
    *session = caller;
    return ERROR_SUCCESS;
}

DWORD
call_leave(struct session *session, DWORD code)
{
    session->calls--;
    wfpsa_condition_broadcast(&session->store->idle);
    wfpsa_mutex_unlock(&session->store->lock);
    return code;
}

int
wfpsa_store_fail(struct wfpsa_store *store, const char *function, uint64_t nth, uint32_t code)
{
    uintptr_t address;
    for (UINT32 i = 0; i < FUNCTION_COUNT; i++) {
        const char *name = wfpsa_backend_function(&wfpsa_embedded_backend, i, &address);
        if (strcmp(name, function) == 0 && address != 0) {
            wfpsa_mutex_lock(&store->lock);
            store->faults[i].calls_left = nth;
            store->faults[i].code = code;
            wfpsa_mutex_unlock(&store->lock);
            return 1;
        }
    }
    return 0;
}

void
wfpsa_embedded_live(struct wfpsa_live *live)
{
    live->stores = wfpsa_atomic_load(&live_stores);
    live->engines = wfpsa_atomic_load(&live_engines);
    live->enum_handles = wfpsa_atomic_load(&live_enum_handles);
    live->pages = wfpsa_atomic_load(&live_pages);
    live->allocations = wfpsa_memory_live();
}

void
wfpsa_embedded_fail_allocation(uint64_t nth)
{
    wfpsa_memory_fail(nth);
}
