/* Change events of an engine: a subscription whose callback copies them into a bounded ring, and the wait for them.
 *
 * The callback is pure C, takes the ring's lock for a moment and nothing else. When the ring is full an event is lost,
 * and counted: whoever takes events is told how many are missing, and where.
 *
 * Threads: any. Blocks: wfpsa_subscription_wait as long as it is told to; close and session close for the callback in
 * flight. Fails: as session.h.
 */
#ifndef WFPSA_EVENTS_H
#define WFPSA_EVENTS_H

#include "wfpsa/session.h"

struct wfpsa_subscription;

enum wfpsa_event_kind { WFPSA_ADDED = 1, WFPSA_DELETED = 2 }; /* IPSEC_SA_CONTEXT_EVENT_TYPE0's values */

struct wfpsa_event {
    uint64_t context_id;
    uint32_t kind;
    uint32_t lost_before; /* events lost between the one before and this one; UINT32_MAX: that or more */
};

/* Subscribes to contexts between those subnets (NULL: to all); the ring holds `capacity` events (1 or more).
 * Owns: the caller, until wfpsa_subscription_free. */
int wfpsa_subscription_open(struct wfpsa_session *session, const struct wfpsa_subnets *subnets, uint32_t capacity,
                            struct wfpsa_subscription **subscription, struct wfpsa_failure *failure);

/* Waits up to wait_ms until there is something to take, be it the end. Fails: WFPSA_FORKED. */
int wfpsa_subscription_wait(struct wfpsa_subscription *subscription, uint64_t wait_ms);

/* Has a wait that goes on, or else the next one, come back at once. For a subscription of which one thread waits. */
void wfpsa_subscription_wake(struct wfpsa_subscription *subscription);

/* Takes up to `room` events of those that are there. *lost has the events lost after the last one taken.
 * Fails: WFPSA_CLOSED when it has ended and nothing is left to take; WFPSA_FORKED. */
int wfpsa_subscription_take(struct wfpsa_subscription *subscription, struct wfpsa_event *events, uint32_t room,
                            uint32_t *taken, uint64_t *lost);

/* Ends it, waiting for a running callback, without the session's lock. Events already in the ring can still be taken.
 * Where the engine refuses, as in a transaction, it goes on and can be closed later; where the session is lost it has
 * ended here, and its memory is kept until the session is closed. Again, or after the session was closed: does
 * nothing, but for waiting until another thread has ended it. */
int wfpsa_subscription_close(struct wfpsa_subscription *subscription, struct wfpsa_failure *failure);

/* After wfpsa_subscription_close, and before the session is freed. NULL is allowed; in a forked child nothing happens.
 */
void wfpsa_subscription_free(struct wfpsa_subscription *subscription);

#endif
