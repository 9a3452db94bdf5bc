/* Sessions: their handles, the gate that every call goes through, the transaction lock, and the service's end. */
#include "internal.h"

#include <string.h>

volatile int64_t live_engines, live_transactions;

/* ---- handles: numbers into a table, so that a wrong one is refused and never followed ---- */

#define SEATS 4096u
#define SEAT_SHIFT 2u /* handles are multiples of 4, as the OS's are */

struct seat {
    volatile int64_t handle; /* 0: free, or closing */
    volatile int64_t calls;  /* that have taken hold of it */
    struct session *session;
    UINT32 generation;
};

static struct seat seats[SEATS];
wfpsa_mutex seats_lock = WFPSA_MUTEX_INITIALIZER; /* for taking and leaving one */
static UINT32 next_seat;

static const UINT32 generations =
    (UINT32)(UINTPTR_MAX / SEATS / 8 < UINT32_MAX ? UINTPTR_MAX / SEATS / 8 : UINT32_MAX);

/* Seats a session; 0 where SEATS are taken. */
static int
take_seat(struct session *session)
{
    int found = 0;
    wfpsa_mutex_lock(&seats_lock);
    for (UINT32 tried = 0; tried < SEATS && !found; tried++) {
        struct seat *seat = &seats[next_seat];
        if (!seat->session) {
            seat->generation = seat->generation % generations + 1;
            seat->session = session;
            session->seat = next_seat;
            session->handle = (HANDLE)(((uintptr_t)seat->generation * SEATS + next_seat) << SEAT_SHIFT);
            wfpsa_atomic_store(&seat->handle, (int64_t)(uintptr_t)session->handle);
            found = 1;
        }
        next_seat = (next_seat + 1) % SEATS;
    }
    wfpsa_mutex_unlock(&seats_lock);
    return found;
}

static void
leave_seat(const struct session *session)
{
    wfpsa_mutex_lock(&seats_lock);
    seats[session->seat].session = NULL;
    wfpsa_mutex_unlock(&seats_lock);
}

/* The session of a handle, which stays until let_go; NULL for a handle that is none. */
static struct session *
take_hold(HANDLE handle)
{
    uintptr_t number = (uintptr_t)handle >> SEAT_SHIFT;
    struct seat *seat = &seats[number % SEATS];
    wfpsa_atomic_add(&seat->calls, 1);
    if (handle && wfpsa_atomic_load(&seat->handle) == (int64_t)(uintptr_t)handle) {
        return seat->session;
    }
    wfpsa_atomic_add(&seat->calls, -1);
    return NULL;
}

static void
let_go(const struct session *session)
{
    wfpsa_atomic_add(&seats[session->seat].calls, -1);
}

/* ---- the transaction lock: one writer or many readers, in the order of arrival ---- */

#define TRANSACTION_MAX_MS 3600000u
#define DEFAULT_WAIT_MS 15000u
#define WAIT_SLICE_NS 20000000u /* how often a waiter looks whether a transaction has overstayed */

struct waiter {
    struct waiter *next;
    struct session *session;
    wfpsa_condition turn;
    int writes;
    int granted;
};

/* Whether the lock is free for this session, those who wait aside. */
static int
is_free(const struct wfpsa_store *store, const struct session *session, int writes)
{
    if (store->writer && store->writer != session) {
        return 0;
    }
    return !writes || store->readers == (session->transaction == TRANSACTION_READ ? 1u : 0u);
}

static void
hold(struct wfpsa_store *store, struct session *session, int writes)
{
    if (writes) {
        store->writer = session;
        store->writer_depth++;
    } else {
        store->readers++;
    }
}

static void
grant(struct wfpsa_store *store)
{
    while (store->waiters && is_free(store, store->waiters->session, store->waiters->writes)) {
        struct waiter *first = store->waiters;
        store->waiters = first->next;
        first->granted = 1;
        hold(store, first->session, first->writes);
        wfpsa_condition_broadcast(&first->turn);
    }
}

static void
release(struct wfpsa_store *store, int writes)
{
    if (!writes) {
        store->readers--;
    } else if (--store->writer_depth == 0) {
        store->writer = NULL;
    }
    grant(store);
}

/* Ends a session's explicit transaction, if it has one. */
static void
end_transaction(struct session *session, enum transaction now)
{
    if (session->transaction == TRANSACTION_READ || session->transaction == TRANSACTION_WRITE) {
        int writes = session->transaction == TRANSACTION_WRITE;
        session->transaction = (UINT8)now;
        wfpsa_atomic_add(&live_transactions, -1);
        release(session->store, writes);
    }
    session->transaction = (UINT8)now;
}

/* A transaction of more than an hour is force-cancelled. */
static void
cancel_overdue(struct wfpsa_store *store)
{
    UINT64 now = store_now(store);
    for (struct session *session = store->sessions; session; session = session->next) {
        if ((session->transaction == TRANSACTION_READ || session->transaction == TRANSACTION_WRITE) &&
            session->transaction_end <= now) {
            end_transaction(session, TRANSACTION_ABORTED);
        }
    }
}

/* Waits for the lock and holds it; called with the store's lock held. */
static DWORD
wait_for_lock(struct session *session, int writes)
{
    struct wfpsa_store *store = session->store;
    struct waiter waiter, **link = &store->waiters;
    UINT64 start = wfpsa_monotonic_ns();
    UINT64 wait_ns = session->wait_ms == INFINITE ? UINT64_MAX : session->wait_ms * (UINT64)1000000u;
    DWORD code = ERROR_SUCCESS;
    memset(&waiter, 0, sizeof waiter);
    waiter.session = session;
    waiter.writes = writes;
    if (wfpsa_condition_init(&waiter.turn) != 0) {
        return ERROR_NOT_ENOUGH_MEMORY;
    }
    while (*link) {
        link = &(*link)->next;
    }
    *link = &waiter;
    grant(store);
    while (!waiter.granted && code == ERROR_SUCCESS) {
        UINT64 waited = wfpsa_monotonic_ns() - start;
        if (session->closing) {
            code = ERROR_INVALID_HANDLE;
        } else if (session->dead) {
            code = session->dead;
        } else if (waited >= wait_ns) {
            code = (DWORD)FWP_E_TIMEOUT;
        } else {
            UINT64 left = wait_ns - waited;
            wfpsa_condition_wait_ns(&waiter.turn, &store->lock, left < WAIT_SLICE_NS ? left : WAIT_SLICE_NS);
            cancel_overdue(store);
        }
    }
    if (!waiter.granted) {
        for (link = &store->waiters; *link != &waiter; link = &(*link)->next) {
        }
        *link = waiter.next;
        grant(store); /* it may have stood before someone whose turn it is */
    } else {
        code = ERROR_SUCCESS;
    }
    wfpsa_condition_destroy(&waiter.turn);
    return code;
}

/* ---- the gate ---- */

/* What a call that got in may not do now, by the session's state. */
static DWORD
refused(struct session *session, UINT32 rights, unsigned access)
{
    const struct wfpsa_store *store = session->store;
    if (session->dead) {
        return session->dead;
    }
    if (session->transaction == TRANSACTION_ABORTED) {
        session->transaction = TRANSACTION_NONE; /* told once, by the next call */
        return (DWORD)FWP_E_TXN_ABORTED;
    }
    if ((session->rights & rights) != rights) {
        return ERROR_ACCESS_DENIED;
    }
    if (session->transaction != TRANSACTION_NONE) {
        if (access & ACCESS_NOT_IN_TRANSACTION ||
            (access & ACCESS_SWITCHED && SWITCHED(store, transaction_changes, 1))) {
            return (DWORD)FWP_E_TXN_IN_PROGRESS;
        }
        if (access & ACCESS_WRITE && session->transaction == TRANSACTION_READ) {
            return (DWORD)FWP_E_INCOMPATIBLE_TXN;
        }
    }
    if (access & ACCESS_NOT_IN_DYNAMIC && session->flags & FWPM_SESSION_FLAG_DYNAMIC) {
        return (DWORD)FWP_E_DYNAMIC_SESSION_IN_PROGRESS;
    }
    return ERROR_SUCCESS;
}

/* Waits for the lock where the call needs it. It is held beyond this only by a call that sleeps inside it. */
static DWORD
lock_for(struct call *call, unsigned access, UINT64 latency_inside)
{
    struct wfpsa_store *store = call->store;
    struct session *session = call->session;
    int writes = (access & ACCESS_WRITE) != 0;
    if (!(access & (ACCESS_READ | ACCESS_WRITE))) {
        return ERROR_SUCCESS;
    }
    if (store->writer == session || (!writes && session->transaction == TRANSACTION_READ)) {
        if (writes && latency_inside) {
            call->holds_write = 1;
            hold(store, session, 1);
        }
    } else if (store->waiters || !is_free(store, session, writes)) {
        DWORD code = wait_for_lock(session, writes);
        if (code != ERROR_SUCCESS) {
            return code;
        }
        *(writes ? &call->holds_write : &call->holds_read) = 1;
    } else if (writes && latency_inside) {
        call->holds_write = 1;
        hold(store, session, 1);
    }
    if (writes && latency_inside) {
        wfpsa_mutex_unlock(&store->lock);
        wfpsa_sleep_ns(latency_inside);
        wfpsa_mutex_lock(&store->lock);
    }
    return session->dead;
}

DWORD
call_enter(HANDLE engineHandle, enum function function, UINT32 rights, unsigned access, struct call *call)
{
    if (!engineHandle) {
        return (DWORD)FWP_E_NULL_POINTER;
    }
    struct session *session = take_hold(engineHandle);
    if (!session) {
        misused(function, MISUSE_ENGINE_HANDLE);
        return ERROR_INVALID_HANDLE;
    }
    struct wfpsa_store *store = session->store;
    call->session = session;
    call->store = store;
    call->function = function;
    call->holds_read = call->holds_write = 0;
    wfpsa_mutex_lock(&store->lock);
    DWORD code = fault_take(store, function);
    UINT64 latency = store->call_latency_ns;
    int inside = SWITCHED(store, latency, 1) && access & ACCESS_WRITE;
    if (latency && !inside) {
        wfpsa_mutex_unlock(&store->lock);
        wfpsa_sleep_ns(latency);
        wfpsa_mutex_lock(&store->lock);
    }
    if (session->transaction != TRANSACTION_NONE) {
        cancel_overdue(store);
    }
    code = code == ERROR_SUCCESS ? refused(session, rights, access) : code;
    code = code == ERROR_SUCCESS ? lock_for(call, access, inside ? latency : 0) : code;
    if (code != ERROR_SUCCESS) {
        return call_leave(call, code);
    }
    store_settle(store);
    return ERROR_SUCCESS;
}

DWORD
call_leave(struct call *call, DWORD code)
{
    struct wfpsa_store *store = call->store;
    if (call->holds_write) {
        release(store, 1);
    }
    if (call->holds_read) {
        release(store, 0);
    }
    let_go(call->session);
    wfpsa_condition_broadcast(&store->idle);
    wfpsa_mutex_unlock(&store->lock);
    return code;
}

/* ---- transactions ---- */

DWORD WINAPI
transaction_begin(HANDLE engineHandle, UINT32 flags)
{
    struct call call;
    int writes = !(flags & FWPM_TXN_READ_ONLY);
    DWORD code =
        call_enter(engineHandle, FUNCTION_FwpmTransactionBegin0,
                   writes ? FWPM_ACTRL_BEGIN_WRITE_TXN : FWPM_ACTRL_BEGIN_READ_TXN, ACCESS_NOT_IN_TRANSACTION, &call);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    if (flags & ~(UINT32)FWPM_TXN_READ_ONLY) {
        return call_leave(&call, (DWORD)FWP_E_INVALID_FLAGS);
    }
    struct session *session = call.session;
    if (call.store->waiters || !is_free(call.store, session, writes)) {
        code = wait_for_lock(session, writes);
        if (code != ERROR_SUCCESS) {
            return call_leave(&call, code);
        }
    } else {
        hold(call.store, session, writes);
    }
    if (session->dead || session->transaction != TRANSACTION_NONE) { /* another thread with this handle was faster */
        release(call.store, writes);
        return call_leave(&call, session->dead ? session->dead : (DWORD)FWP_E_TXN_IN_PROGRESS);
    }
    session->transaction = writes ? TRANSACTION_WRITE : TRANSACTION_READ;
    session->transaction_end = store_now(call.store) + TRANSACTION_MAX_MS;
    wfpsa_atomic_add(&live_transactions, 1);
    return call_leave(&call, ERROR_SUCCESS);
}

/* Changes of contexts take effect at once: there is nothing to commit, and nothing that an abort takes back. */
static DWORD
transaction_end(HANDLE engineHandle, enum function function)
{
    struct call call;
    DWORD code = call_enter(engineHandle, function, 0, ACCESS_NONE, &call);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    if (call.session->transaction == TRANSACTION_NONE) {
        return call_leave(&call, (DWORD)FWP_E_NO_TXN_IN_PROGRESS);
    }
    end_transaction(call.session, TRANSACTION_NONE);
    return call_leave(&call, ERROR_SUCCESS);
}

DWORD WINAPI
transaction_commit(HANDLE engineHandle)
{
    return transaction_end(engineHandle, FUNCTION_FwpmTransactionCommit0);
}

DWORD WINAPI
transaction_abort(HANDLE engineHandle)
{
    return transaction_end(engineHandle, FUNCTION_FwpmTransactionAbort0);
}

/* ---- opening and closing ---- */

static const WCHAR default_name[] = {'d', 'e', 'f', 'a', 'u', 'l', 't', 0};

static int
is_key_taken(const struct wfpsa_store *store, const GUID *key)
{
    for (const struct session *session = store->sessions; session; session = session->next) {
        if (memcmp(&session->key, key, sizeof *key) == 0) {
            return 1;
        }
    }
    return 0;
}

/* Makes a session of the store, whose lock is held. */
static DWORD
admit(struct wfpsa_store *store, const FWPM_SESSION0 *wanted, struct session *session)
{
    DWORD code = fault_take(store, FUNCTION_FwpmEngineOpen0);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    if (store->stopped) {
        return EPT_S_NOT_REGISTERED;
    }
    if (!(store->rights & FWPM_ACTRL_OPEN)) {
        return ERROR_ACCESS_DENIED;
    }
    session->store = store;
    session->rights = store->rights;
    session->flags = wanted ? wanted->flags : 0;
    session->wait_ms = wanted && wanted->txnWaitTimeoutInMSec ? wanted->txnWaitTimeoutInMSec : DEFAULT_WAIT_MS;
    if (wanted && !is_zero_guid(&wanted->sessionKey)) {
        session->key = wanted->sessionKey;
        if (is_key_taken(store, &session->key)) {
            return (DWORD)FWP_E_ALREADY_EXISTS;
        }
    } else {
        UINT64 words[2] = {next_random(&store->dice), next_random(&store->dice)};
        memcpy(&session->key, words, sizeof words);
    }
    if (!take_seat(session)) {
        return ERROR_NOT_ENOUGH_MEMORY;
    }
    session->next = store->sessions;
    store->sessions = session;
    return ERROR_SUCCESS;
}

DWORD WINAPI
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
    DWORD code = ERROR_NOT_ENOUGH_MEMORY;
    if (opened) {
        wfpsa_mutex_lock(&store->lock);
        code = admit(store, session, opened);
        wfpsa_mutex_unlock(&store->lock);
    }
    if (code != ERROR_SUCCESS) {
        wfpsa_free(opened);
        wfpsa_store_release(store);
        return code;
    }
    wfpsa_atomic_add(&live_engines, 1);
    *engineHandle = opened->handle;
    return ERROR_SUCCESS;
}

/* Waits until the closing call is the only one that has hold of the session. A call that comes with the handle of a
 * closing session lets go of it without a word: hence the look from time to time. */
static void
wait_for_calls(struct wfpsa_store *store, const struct session *session)
{
    while (wfpsa_atomic_load(&seats[session->seat].calls) > 1) {
        wfpsa_condition_wait_ns(&store->idle, &store->lock, 10000000u);
    }
}

/* Ends the session and what it left open; a failure planned for this call is reported, and it is closed all the same,
 * since nobody could close it afterwards. */
DWORD WINAPI
engine_close(HANDLE engineHandle)
{
    if (!engineHandle) {
        return (DWORD)FWP_E_NULL_POINTER;
    }
    struct session *session = take_hold(engineHandle);
    if (!session) {
        misused(FUNCTION_FwpmEngineClose0, MISUSE_ENGINE_HANDLE);
        return ERROR_INVALID_HANDLE;
    }
    struct wfpsa_store *store = session->store;
    wfpsa_mutex_lock(&store->lock);
    int inside = notify_is_inside(session);
    if (session->closing || inside) {
        misused(FUNCTION_FwpmEngineClose0, inside ? MISUSE_OWN_CALLBACK : MISUSE_ENGINE_HANDLE);
        let_go(session);
        wfpsa_condition_broadcast(&store->idle);
        wfpsa_mutex_unlock(&store->lock);
        return inside ? ERROR_POSSIBLE_DEADLOCK : ERROR_INVALID_HANDLE;
    }
    session->closing = 1;
    DWORD code = fault_take(store, FUNCTION_FwpmEngineClose0);
    wfpsa_atomic_store(&seats[session->seat].handle, 0);
    wait_for_calls(store, session);
    notify_end_session(session);
    end_transaction(session, TRANSACTION_NONE);
    for (struct enum_handle *handle = store->enum_handles, *next; handle; handle = next) {
        next = handle->next;
        if (handle->session == session) {
            enum_handle_free(store, handle);
        }
    }
    struct session **link = &store->sessions;
    while (*link != session) {
        link = &(*link)->next;
    }
    *link = session->next;
    let_go(session);
    leave_seat(session);
    wfpsa_mutex_unlock(&store->lock);
    wfpsa_free(session);
    wfpsa_atomic_add(&live_engines, -1);
    wfpsa_store_release(store);
    return code;
}

/* ---- the service ---- */

void
wfpsa_store_stop(struct wfpsa_store *store, uint32_t code)
{
    code = code == ERROR_SUCCESS ? (DWORD)FWP_E_SESSION_ABORTED : code; /* no session may outlive this */
    wfpsa_mutex_lock(&store->lock);
    if (!store->stopped) {
        store->stopped = 1;
        for (struct session *session = store->sessions; session; session = session->next) {
            session->dead = session->dead ? session->dead : code;
            end_transaction(session, TRANSACTION_NONE);
            notify_silence(session);
        }
        enum_handles_stop(store);
    }
    wfpsa_mutex_unlock(&store->lock);
}

void
wfpsa_store_start(struct wfpsa_store *store)
{
    wfpsa_mutex_lock(&store->lock);
    if (store->stopped) {
        store->stopped = 0;
        for (struct session *session = store->sessions; session; session = session->next) {
            session->dead = (DWORD)FWP_E_SESSION_ABORTED;
        }
        store_restart(store);
        churn_begin(store); /* what would have come meanwhile does not come now */
    }
    wfpsa_mutex_unlock(&store->lock);
}
