/* The inside of a session, for the files that call the engine table through it. */
#ifndef WFPSA_SESSION_INTERNAL_H
#define WFPSA_SESSION_INTERNAL_H

#include "meter.h"
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

    struct wfpsa_enumeration *enumerations;   /* open ones */
    struct wfpsa_subscription *subscriptions; /* likewise */
    struct wfpsa_subscription *undead;        /* those that could not be ended */
    uint32_t unsubscribing;                   /* calls under way, without the lock */
};

/* WFPSA_OK with the session locked, or WFPSA_CLOSED or WFPSA_FORKED without. */
int wfpsa_session_enter(struct wfpsa_session *session);
void wfpsa_session_leave(struct wfpsa_session *session);

/* Waits for its turn, whatever has become of the session: for ending what is open. */
void wfpsa_session_lock(struct wfpsa_session *session);

/* The status for a code of the engine table, noting a failure. */
int wfpsa_outcome_of(DWORD code, const char *function, struct wfpsa_failure *failure);

/* Whether no call of the session can succeed after that code. */
int wfpsa_session_is_lost(DWORD code);

/* A template, and what it points to. */
struct wfpsa_template {
    IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 template;
    FWP_V4_ADDR_AND_MASK local4, remote4;
    FWP_V6_ADDR_AND_MASK local6, remote6;
};

/* The template for those subnets; NULL where they restrict nothing. */
IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 *wfpsa_template_fill(struct wfpsa_template *filled,
                                                     const struct wfpsa_subnets *subnets);

/* Destroys the handles of all open enumerations of a session whose turn it is. */
void wfpsa_enumerations_end(struct wfpsa_session *session);

/* Ends all subscriptions of a session whose turn it is, and waits for those that others are ending. */
void wfpsa_subscriptions_end(struct wfpsa_session *session);

/* Once the engine handle is closed no callback comes any more: lets go of the undead ones. */
void wfpsa_subscriptions_bury(struct wfpsa_session *session);

#endif
