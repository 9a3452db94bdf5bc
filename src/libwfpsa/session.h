/* The inside of a session, for the files that call the engine table through it. */
#ifndef WFPSA_SESSION_INTERNAL_H
#define WFPSA_SESSION_INTERNAL_H

#include "platform.h"

#include "wfpsa/backend.h"
#include "wfpsa/session.h"

struct wfpsa_session {
    const struct wfpsa_backend *backend;
    HANDLE engine;    /* NULL once closed */
    uint64_t process; /* that opened it */
    volatile int64_t closing;

    /* A lock that serves in the order of arrival: a plain mutex lets a busy loop overtake a waiting close for ever. */
    wfpsa_mutex mutex;
    wfpsa_condition turn;
    uint64_t next_ticket, serving;

    struct wfpsa_enumeration *enumerations; /* open ones */
};

/* WFPSA_OK with the session locked, or WFPSA_CLOSED or WFPSA_FORKED without. */
int wfpsa_session_enter(struct wfpsa_session *session);
void wfpsa_session_leave(struct wfpsa_session *session);

#endif
