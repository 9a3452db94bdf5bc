/* The loop that expires contexts in mass: one call an id, nothing else, in slices that a caller can interrupt. */
#include "session.h"

#include "wfpsa/query.h"

#define STRIDE_MAX 4u /* calls between two looks at the clock: the first of them may be the first slow one */

static uint8_t
outcome_for(DWORD code)
{
    switch (code) {
    case ERROR_SUCCESS:
        return WFPSA_EXPIRED;
    case (DWORD)FWP_E_NOT_FOUND:
        return WFPSA_ALREADY_GONE;
    case ERROR_ACCESS_DENIED:
        return WFPSA_DENIED;
    default:
        return WFPSA_FAILED;
    }
}

int
wfpsa_session_is_lost(DWORD code)
{
    switch (code) {
    case (DWORD)FWP_E_SESSION_ABORTED:
    case ERROR_INVALID_HANDLE:
    case EPT_S_NOT_REGISTERED:
    case RPC_S_INVALID_BINDING:
    case RPC_S_SERVER_UNAVAILABLE:
    case RPC_S_CALL_FAILED:
    case RPC_S_CALL_FAILED_DNE:
    case RPC_X_SS_CONTEXT_DAMAGED:
        return 1;
    default:
        return 0;
    }
}

/* Whether the context is still what its row says; else its outcome and code say what it is. */
static int
is_as_seen(struct wfpsa_session *session, const struct wfpsa_expiry *expiry, uint64_t at)
{
    IPSEC_SA_CONTEXT1 *context = NULL;
    uint64_t began;
    DWORD code =
        METERED(get, began, session->backend->sa_context_get_by_id1(session->engine, expiry->ids[at], &context));
    expiry->codes[at] = code;
    expiry->outcomes[at] = code == ERROR_SUCCESS ? WFPSA_CHANGED : outcome_for(code);
    if (!context) {
        return 0; /* a success without a context would be one that nobody can vouch for */
    }
    int same = 0;
    if (wfpsa_columns_append1(expiry->found, &context, 1, NULL) == WFPSA_OK) {
        same = code == ERROR_SUCCESS && wfpsa_rows_equal(expiry->seen, at, expiry->found, 0, NULL);
    } else {
        expiry->outcomes[at] = WFPSA_FAILED;
        expiry->codes[at] = ERROR_NOT_ENOUGH_MEMORY;
    }
    wfpsa_columns_clear(expiry->found);
    session->backend->free_memory((void **)&context);
    return same;
}

/* One id; whether the session is lost. */
static int
expire_one(struct wfpsa_session *session, const struct wfpsa_expiry *expiry, uint64_t at)
{
    if (expiry->attempts) {
        expiry->attempts[at] += expiry->attempts[at] < UINT8_MAX;
    }
    if (!expiry->seen || is_as_seen(session, expiry, at)) {
        uint64_t began;
        DWORD code = METERED(expire, began, session->backend->sa_context_expire(session->engine, expiry->ids[at]));
        expiry->codes[at] = code;
        expiry->outcomes[at] = outcome_for(code);
    }
    return expiry->outcomes[at] == WFPSA_FAILED && wfpsa_session_is_lost(expiry->codes[at]);
}

int
wfpsa_session_expire_with_care(struct wfpsa_session *session, const struct wfpsa_expiry *expiry, uint64_t stop,
                               uint64_t slice_ms, uint64_t *done, int *lost)
{
    uint64_t at = *done;
    *lost = 0;
    int status = wfpsa_session_enter(session);
    if (status != WFPSA_OK) {
        return status;
    }
    /* Reading the clock costs as much as the rest of a turn: it is read after each call, as any of them may have
     * waited for the engine's lock, but while it stands still only after every fourth. */
    uint64_t now = wfpsa_coarse_ms(), end = slice_ms < UINT64_MAX - now ? now + slice_ms : UINT64_MAX;
    uint64_t stride = 1, next_look = at + 1;
    for (; at < stop && !*lost; at++) {
        if (expiry->skipped && expiry->skipped[at]) {
            expiry->outcomes[at] = WFPSA_SKIPPED;
            expiry->codes[at] = 0;
            continue;
        }
        *lost = expire_one(session, expiry, at);
        if (expiry->stop_at_failure &&
            (expiry->outcomes[at] == WFPSA_DENIED || expiry->outcomes[at] == WFPSA_FAILED)) {
            at++;
            break;
        }
        if (at + 1 >= next_look || expiry->outcomes[at] == WFPSA_FAILED) {
            uint64_t before = now;
            now = wfpsa_coarse_ms();
            stride = now != before ? 1 : stride < STRIDE_MAX ? stride * 2 : stride;
            next_look = at + 1 + stride;
            if (now >= end) {
                at++;
                break;
            }
        }
        if (wfpsa_atomic_load(&session->closing)) {
            at++;
            break;
        }
    }
    *done = at;
    wfpsa_session_leave(session);
    return WFPSA_OK;
}

int
wfpsa_session_expire(struct wfpsa_session *session, const uint64_t *ids, uint64_t count, uint64_t slice_ms,
                     uint64_t *done, uint8_t *outcomes, uint32_t *codes, int *lost)
{
    const struct wfpsa_expiry expiry = {ids, outcomes, codes, NULL, NULL, NULL, NULL, 0};
    return wfpsa_session_expire_with_care(session, &expiry, count, slice_ms, done, lost);
}
