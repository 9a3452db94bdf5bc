/* A session that threads may share: its lock, its life, and its calls for one context or none. */
#include "session.h"

#include <string.h>

#include "memory.h"

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
    uint64_t began;
    int status = wfpsa_outcome_of(
        METERED(session, began,
                backend->engine_open((const WCHAR *)server_name, RPC_C_AUTHN_DEFAULT, NULL, &wanted, &opened->engine)),
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
    uint64_t began;
    if (session->process != wfpsa_process_id()) {
        return WFPSA_OK; /* the handle, and perhaps a held lock, are the parent's */
    }
    wfpsa_atomic_add(&session->closing, 1);
    wfpsa_session_lock(session);
    wfpsa_subscriptions_end(session); /* leaves the lock meanwhile: another thread may close the engine */
    if (session->engine) {
        wfpsa_enumerations_end(session);
        status = wfpsa_outcome_of(METERED(session, began, session->backend->engine_close(session->engine)),
                                  "FwpmEngineClose0", failure);
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
    uint64_t began;
    int status = wfpsa_session_enter(session);
    if (status != WFPSA_OK) {
        return status;
    }
    if (columns->version == 0) {
        status = wfpsa_outcome_of(METERED(get, began, backend->sa_context_get_by_id0(session->engine, id, &found0)),
                                  "IPsecSaContextGetById0", failure);
    } else {
        status = wfpsa_outcome_of(METERED(get, began, backend->sa_context_get_by_id1(session->engine, id, &found1)),
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
    uint64_t began;
    int status = wfpsa_session_enter(session);
    if (status != WFPSA_OK) {
        return status;
    }
    status = wfpsa_outcome_of(METERED(change, began, session->backend->sa_context_delete_by_id(session->engine, id)),
                              "IPsecSaContextDeleteById0", failure);
    wfpsa_session_leave(session);
    return status;
}

/* ---- transactions and statistics ---- */

int
wfpsa_session_transaction(struct wfpsa_session *session, enum wfpsa_transaction step, struct wfpsa_failure *failure)
{
    const struct wfpsa_backend *backend = session->backend;
    uint64_t began;
    int status = wfpsa_session_enter(session);
    if (status != WFPSA_OK) {
        return status;
    }
    if (step == WFPSA_COMMIT) {
        status = wfpsa_outcome_of(METERED(session, began, backend->transaction_commit(session->engine)),
                                  "FwpmTransactionCommit0", failure);
    } else if (step == WFPSA_ABORT) {
        status = wfpsa_outcome_of(METERED(session, began, backend->transaction_abort(session->engine)),
                                  "FwpmTransactionAbort0", failure);
    } else {
        status =
            wfpsa_outcome_of(METERED(session, began,
                                     backend->transaction_begin(
                                         session->engine, step == WFPSA_BEGIN_READ_ONLY ? FWPM_TXN_READ_ONLY : 0)),
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
    uint64_t began;
    int status = wfpsa_session_enter(session);
    if (status != WFPSA_OK) {
        return status;
    }
    status = wfpsa_outcome_of(METERED(statistics, began, session->backend->get_statistics1(session->engine, &found)),
                              "IPsecGetStatistics1", failure);
    wfpsa_session_leave(session);
    if (status == WFPSA_OK) {
#define COPY(group, field, name) statistics->name = found.group.field;
        WFPSA_STATISTICS(COPY)
#undef COPY
    }
    return status;
}
