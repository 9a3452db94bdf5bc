/* A session that threads may share: its lock, its end, and every operation on it but mass expiry. */
#include "session.h"

#include <string.h>

#include "memory.h"

struct wfpsa_enumeration {
    struct wfpsa_session *session;
    struct wfpsa_enumeration *next; /* among the session's open ones */
    HANDLE handle;                  /* NULL once destroyed */
    uint32_t version;
    uint32_t page_size;
    int pushed_down;
    struct wfpsa_subnets subnets; /* to be applied here where not pushed down */
};

int
wfpsa_outcome_of(DWORD code, const char *function, struct wfpsa_failure *failure)
{
    if (code == ERROR_SUCCESS) {
        return WFPSA_OK;
    }
    failure->code = code;
    failure->function = function;
    return WFPSA_CALL_FAILED;
}

/* ---- the lock ---- */

void
wfpsa_session_lock(struct wfpsa_session *session)
{
    wfpsa_mutex_lock(&session->mutex);
    uint64_t ticket = session->next_ticket++;
    while (ticket != session->serving) {
        wfpsa_condition_wait(&session->turn, &session->mutex);
    }
    wfpsa_mutex_unlock(&session->mutex);
}

void
wfpsa_session_leave(struct wfpsa_session *session)
{
    wfpsa_mutex_lock(&session->mutex);
    session->serving++;
    wfpsa_condition_broadcast(&session->turn);
    wfpsa_mutex_unlock(&session->mutex);
}

int
wfpsa_session_enter(struct wfpsa_session *session)
{
    if (session->process != wfpsa_process_id()) {
        return WFPSA_FORKED;
    }
    if (wfpsa_atomic_load(&session->closing)) {
        return WFPSA_CLOSED;
    }
    wfpsa_session_lock(session);
    if (!session->engine) {
        wfpsa_session_leave(session);
        return WFPSA_CLOSED;
    }
    return WFPSA_OK;
}

/* ---- life ---- */

int
wfpsa_session_open(const struct wfpsa_backend *backend, const uint16_t *server_name, uint32_t lock_wait_ms,
                   struct wfpsa_session **session, struct wfpsa_failure *failure)
{
    FWPM_SESSION0 wanted;
    struct wfpsa_session *opened = wfpsa_allocate_zeroed(1, sizeof *opened);
    *session = NULL;
    if (!opened) {
        return WFPSA_NO_MEMORY;
    }
    opened->backend = backend;
    opened->process = wfpsa_process_id();
    if (wfpsa_mutex_init(&opened->mutex) != 0) {
        wfpsa_free(opened);
        return WFPSA_NO_MEMORY;
    }
    if (wfpsa_condition_init(&opened->turn) != 0) {
        wfpsa_mutex_destroy(&opened->mutex);
        wfpsa_free(opened);
        return WFPSA_NO_MEMORY;
    }
    memset(&wanted, 0, sizeof wanted);
    wanted.txnWaitTimeoutInMSec = lock_wait_ms;
    int status = wfpsa_outcome_of(
        backend->engine_open((const WCHAR *)server_name, RPC_C_AUTHN_DEFAULT, NULL, &wanted, &opened->engine),
        "FwpmEngineOpen0", failure);
    if (status != WFPSA_OK) {
        wfpsa_session_free(opened);
        return status;
    }
    *session = opened;
    return WFPSA_OK;
}

int
wfpsa_session_close(struct wfpsa_session *session, struct wfpsa_failure *failure)
{
    int status = WFPSA_OK;
    if (session->process != wfpsa_process_id()) {
        return WFPSA_OK; /* the handle, and perhaps a held lock, are the parent's */
    }
    wfpsa_atomic_add(&session->closing, 1);
    wfpsa_session_lock(session);
    wfpsa_subscriptions_end(session); /* leaves the lock meanwhile: another thread may close the engine */
    if (session->engine) {
        for (struct wfpsa_enumeration *open = session->enumerations; open; open = open->next) {
            session->backend->sa_context_destroy_enum_handle(session->engine, open->handle);
            open->handle = NULL;
        }
        session->enumerations = NULL;
        status = wfpsa_outcome_of(session->backend->engine_close(session->engine), "FwpmEngineClose0", failure);
        session->engine = NULL;
        wfpsa_subscriptions_bury(session);
    }
    wfpsa_session_leave(session);
    return status;
}

void
wfpsa_session_free(struct wfpsa_session *session)
{
    if (session && session->process == wfpsa_process_id()) {
        wfpsa_condition_destroy(&session->turn);
        wfpsa_mutex_destroy(&session->mutex);
        wfpsa_free(session);
    }
}

/* ---- one context ---- */

int
wfpsa_session_get(struct wfpsa_session *session, uint64_t id, struct wfpsa_columns *columns,
                  struct wfpsa_failure *failure)
{
    const struct wfpsa_backend *backend = session->backend;
    IPSEC_SA_CONTEXT0 *found0 = NULL;
    IPSEC_SA_CONTEXT1 *found1 = NULL;
    int status = wfpsa_session_enter(session);
    if (status != WFPSA_OK) {
        return status;
    }
    if (columns->version == 0) {
        status = wfpsa_outcome_of(backend->sa_context_get_by_id0(session->engine, id, &found0),
                                  "IPsecSaContextGetById0", failure);
    } else {
        status = wfpsa_outcome_of(backend->sa_context_get_by_id1(session->engine, id, &found1),
                                  "IPsecSaContextGetById1", failure);
    }
    wfpsa_session_leave(session);
    if (status == WFPSA_OK) {
        status = columns->version == 0 ? wfpsa_columns_append0(columns, &found0, 1, NULL)
                                       : wfpsa_columns_append1(columns, &found1, 1, NULL);
    }
    if (found0) {
        backend->free_memory((void **)&found0);
    }
    if (found1) {
        backend->free_memory((void **)&found1);
    }
    return status;
}

int
wfpsa_session_delete(struct wfpsa_session *session, uint64_t id, struct wfpsa_failure *failure)
{
    int status = wfpsa_session_enter(session);
    if (status != WFPSA_OK) {
        return status;
    }
    status = wfpsa_outcome_of(session->backend->sa_context_delete_by_id(session->engine, id),
                              "IPsecSaContextDeleteById0", failure);
    wfpsa_session_leave(session);
    return status;
}

/* ---- transactions and statistics ---- */

int
wfpsa_session_transaction(struct wfpsa_session *session, enum wfpsa_transaction step, struct wfpsa_failure *failure)
{
    const struct wfpsa_backend *backend = session->backend;
    int status = wfpsa_session_enter(session);
    if (status != WFPSA_OK) {
        return status;
    }
    if (step == WFPSA_COMMIT) {
        status = wfpsa_outcome_of(backend->transaction_commit(session->engine), "FwpmTransactionCommit0", failure);
    } else if (step == WFPSA_ABORT) {
        status = wfpsa_outcome_of(backend->transaction_abort(session->engine), "FwpmTransactionAbort0", failure);
    } else {
        status = wfpsa_outcome_of(
            backend->transaction_begin(session->engine, step == WFPSA_BEGIN_READ_ONLY ? FWPM_TXN_READ_ONLY : 0),
            "FwpmTransactionBegin0", failure);
    }
    wfpsa_session_leave(session);
    return status;
}

#define NAME(group, field, name) #name,

static const char *const statistic_names[] = {WFPSA_STATISTICS(NAME)};

const char *
wfpsa_statistic_name(uint32_t index)
{
    return index < sizeof statistic_names / sizeof statistic_names[0] ? statistic_names[index] : NULL;
}

int
wfpsa_session_statistics(struct wfpsa_session *session, struct wfpsa_statistics *statistics,
                         struct wfpsa_failure *failure)
{
    IPSEC_STATISTICS1 found;
    int status = wfpsa_session_enter(session);
    if (status != WFPSA_OK) {
        return status;
    }
    status =
        wfpsa_outcome_of(session->backend->get_statistics1(session->engine, &found), "IPsecGetStatistics1", failure);
    wfpsa_session_leave(session);
    if (status == WFPSA_OK) {
#define COPY(group, field, name) statistics->name = found.group.field;
        WFPSA_STATISTICS(COPY)
#undef COPY
    }
    return status;
}

/* ---- enumeration ---- */

/* The template member for a subnet; the masks are what it points to. */
static void
fill_condition(FWP_CONDITION_VALUE0 *value, const struct wfpsa_subnet *subnet, FWP_V4_ADDR_AND_MASK *v4,
               FWP_V6_ADDR_AND_MASK *v6)
{
    if (subnet->family == 4) {
        const uint8_t *a = subnet->address + 12;
        v4->addr = (UINT32)a[0] << 24 | (UINT32)a[1] << 16 | (UINT32)a[2] << 8 | a[3];
        v4->mask = subnet->prefix_length ? UINT32_MAX << (32 - subnet->prefix_length) : 0;
        value->type = FWP_V4_ADDR_MASK;
        value->v4AddrMask = v4;
    } else if (subnet->family == 6) {
        memcpy(v6->addr, subnet->address, 16);
        v6->prefixLength = subnet->prefix_length;
        value->type = FWP_V6_ADDR_MASK;
        value->v6AddrMask = v6;
    } else {
        value->type = FWP_EMPTY;
    }
}

/* Codes that speak of the template. Which of them the OS uses is not documented, and the docs page allows fewer types
 * than the IDL: whatever it refuses can be filtered here. */
static int
template_refused(DWORD code)
{
    switch (code) {
    case (DWORD)FWP_E_NULL_POINTER:
    case (DWORD)FWP_E_INVALID_NET_MASK:
    case (DWORD)FWP_E_TYPE_MISMATCH:
    case (DWORD)FWP_E_NEVER_MATCH:
    case (DWORD)FWP_E_INVALID_PARAMETER:
    case ERROR_INVALID_PARAMETER:
    case RPC_X_ENUM_VALUE_OUT_OF_RANGE:
        return 1;
    default:
        return 0;
    }
}

IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 *
wfpsa_template_fill(struct wfpsa_template *filled, const struct wfpsa_subnets *subnets)
{
    if (!subnets || (subnets->local.family == 0 && subnets->remote.family == 0)) {
        return NULL; /* so that contexts without an SA stay too */
    }
    memset(filled, 0, sizeof *filled);
    fill_condition(&filled->template.localSubNet, &subnets->local, &filled->local4, &filled->local6);
    fill_condition(&filled->template.remoteSubNet, &subnets->remote, &filled->remote4, &filled->remote6);
    return &filled->template;
}

int
wfpsa_enumeration_open(struct wfpsa_session *session, uint32_t version, uint32_t page_size,
                       const struct wfpsa_subnets *subnets, struct wfpsa_enumeration **enumeration,
                       struct wfpsa_failure *failure)
{
    struct wfpsa_template filled;
    const IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 *template = wfpsa_template_fill(&filled, subnets);
    struct wfpsa_enumeration *opened = wfpsa_allocate_zeroed(1, sizeof *opened);
    *enumeration = NULL;
    if (!opened) {
        return WFPSA_NO_MEMORY;
    }
    opened->session = session;
    opened->version = version;
    opened->page_size = page_size;
    opened->pushed_down = 1;
    if (template) {
        opened->subnets = *subnets;
    }

    int status = wfpsa_session_enter(session);
    if (status != WFPSA_OK) {
        wfpsa_free(opened);
        return status;
    }
    DWORD code = session->backend->sa_context_create_enum_handle(session->engine, template, &opened->handle);
    if (template && template_refused(code)) {
        opened->pushed_down = 0;
        code = session->backend->sa_context_create_enum_handle(session->engine, NULL, &opened->handle);
    }
    status = wfpsa_outcome_of(code, "IPsecSaContextCreateEnumHandle0", failure);
    if (status == WFPSA_OK) {
        opened->next = session->enumerations;
        session->enumerations = opened;
        *enumeration = opened;
    } else {
        wfpsa_free(opened);
    }
    wfpsa_session_leave(session);
    return status;
}

int
wfpsa_enumeration_pushed_down(const struct wfpsa_enumeration *enumeration)
{
    return enumeration->pushed_down;
}

/* One call of Enum0 or Enum1, under the session's lock; with NULL columns the page goes unread. */
static int
fetch(struct wfpsa_enumeration *enumeration, struct wfpsa_columns *columns, uint32_t *returned,
      struct wfpsa_failure *failure)
{
    struct wfpsa_session *session = enumeration->session;
    const struct wfpsa_backend *backend = session->backend;
    const struct wfpsa_subnets *subnets = enumeration->pushed_down ? NULL : &enumeration->subnets;
    IPSEC_SA_CONTEXT0 **page0 = NULL;
    IPSEC_SA_CONTEXT1 **page1 = NULL;
    UINT32 count = 0;
    int status = wfpsa_session_enter(session);
    if (status != WFPSA_OK) {
        return status;
    }
    if (!enumeration->handle) {
        status = WFPSA_CLOSED;
    } else if (enumeration->version == 0) {
        status = wfpsa_outcome_of(
            backend->sa_context_enum0(session->engine, enumeration->handle, enumeration->page_size, &page0, &count),
            "IPsecSaContextEnum0", failure);
    } else {
        status = wfpsa_outcome_of(
            backend->sa_context_enum1(session->engine, enumeration->handle, enumeration->page_size, &page1, &count),
            "IPsecSaContextEnum1", failure);
    }
    wfpsa_session_leave(session);

    if (status == WFPSA_OK && columns && page0) {
        status = wfpsa_columns_append0(columns, page0, count, subnets);
    } else if (status == WFPSA_OK && columns && page1) {
        status = wfpsa_columns_append1(columns, page1, count, subnets);
    }
    if (page0) { /* whether the OS leaves NULL after an empty or failed page is not documented */
        backend->free_memory((void **)&page0);
    }
    if (page1) {
        backend->free_memory((void **)&page1);
    }
    *returned = count;
    return status;
}

int
wfpsa_enumeration_next(struct wfpsa_enumeration *enumeration, struct wfpsa_columns *columns, int *more,
                       struct wfpsa_failure *failure)
{
    uint32_t returned = 0;
    int status = fetch(enumeration, columns, &returned, failure);
    *more = status == WFPSA_OK && returned >= enumeration->page_size; /* a short page ends it */
    return status;
}

int
wfpsa_enumeration_close(struct wfpsa_enumeration *enumeration, struct wfpsa_failure *failure)
{
    struct wfpsa_session *session = enumeration->session;
    int status = WFPSA_OK;
    if (session->process != wfpsa_process_id()) {
        return WFPSA_OK; /* the handle is the parent's */
    }
    wfpsa_session_lock(session); /* also while the session is closing: its close walks the list that this one is in */
    if (enumeration->handle) {
        struct wfpsa_enumeration **link = &session->enumerations;
        while (*link != enumeration) {
            link = &(*link)->next;
        }
        *link = enumeration->next;
        status =
            wfpsa_outcome_of(session->backend->sa_context_destroy_enum_handle(session->engine, enumeration->handle),
                             "IPsecSaContextDestroyEnumHandle0", failure);
        enumeration->handle = NULL;
    }
    wfpsa_session_leave(session);
    return status;
}

void
wfpsa_enumeration_free(struct wfpsa_enumeration *enumeration)
{
    wfpsa_free(enumeration);
}

int
wfpsa_session_drain(struct wfpsa_session *session, uint32_t version, uint32_t page_size, uint64_t *count,
                    struct wfpsa_failure *failure)
{
    struct wfpsa_enumeration *enumeration;
    struct wfpsa_failure ignored;
    uint32_t returned = page_size;
    int status = wfpsa_enumeration_open(session, version, page_size, NULL, &enumeration, failure);
    if (status != WFPSA_OK) {
        return status;
    }
    *count = 0;
    while (status == WFPSA_OK && returned >= page_size) {
        status = fetch(enumeration, NULL, &returned, failure);
        *count += status == WFPSA_OK ? returned : 0;
    }
    int closed = wfpsa_enumeration_close(enumeration, status == WFPSA_OK ? failure : &ignored);
    wfpsa_enumeration_free(enumeration);
    return status == WFPSA_OK ? closed : status;
}
