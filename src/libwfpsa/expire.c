/* The loop that expires contexts in mass: one call an id, nothing else, in slices that a caller can interrupt. */
#include "session.h"

#define STRIDE_MAX 16u /* calls between two looks at the clock, of which the first may be the first slow one */

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

int
wfpsa_session_expire(struct wfpsa_session *session, const uint64_t *ids, uint64_t count, uint64_t slice_ms,
                     uint64_t *done, uint8_t *outcomes, uint32_t *codes, int *lost)
{
    uint64_t at = *done;
    *lost = 0;
    int status = wfpsa_session_enter(session);
    if (status != WFPSA_OK) {
        return status;
    }
    /* Reading the clock costs as much as the rest of a turn. It is read after each call, as any of them may have
     * waited for the engine's lock, and less often only while it stands still. */
    uint64_t now = wfpsa_coarse_ms(), end = slice_ms < UINT64_MAX - now ? now + slice_ms : UINT64_MAX;
    uint64_t stride = 1, next_look = at + 1;
    while (at < count && !*lost) {
        DWORD code = session->backend->sa_context_expire(session->engine, ids[at]);
        codes[at] = code;
        outcomes[at] = outcome_for(code);
        *lost = outcomes[at] == WFPSA_FAILED && wfpsa_session_is_lost(code);
        at++;
        if (at >= next_look || outcomes[at - 1] == WFPSA_FAILED) {
            uint64_t before = now;
            now = wfpsa_coarse_ms();
            stride = now != before ? 1 : stride < STRIDE_MAX ? stride * 2 : stride;
            next_look = at + stride;
            if (now >= end) {
                break;
            }
        }
        if (wfpsa_atomic_load(&session->closing)) {
            break;
        }
    }
    *done = at;
    wfpsa_session_leave(session);
    return WFPSA_OK;
}
