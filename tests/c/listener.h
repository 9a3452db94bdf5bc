/* A callback for the C tests that notes what it is told, and can be kept inside. */
#ifndef WFPSA_TESTS_LISTENER_H
#define WFPSA_TESTS_LISTENER_H

#include "scene.h"
#include "threads.h"

#define LISTENER_ROOM 8192u
#define PATIENCE_ROUNDS 60000 /* of half a millisecond: what hangs fails instead */

struct listener {
    wfpsa_mutex mutex; /* guards the rest */
    uint32_t count;    /* told; the first LISTENER_ROOM are kept */
    int keeps_inside;  /* callbacks wait until it is 0 */
    int inside;
    uint64_t thread; /* of the last callback */
    void (*also)(struct listener *listener);
    void *argument; /* for that */
    DWORD codes[4]; /* what it found */
    HANDLE engine, events;
    IPSEC_SA_CONTEXT_CHANGE0 changes[LISTENER_ROOM];
};

static inline void CALLBACK
note_change(void *context, const IPSEC_SA_CONTEXT_CHANGE0 *change)
{
    struct listener *listener = context;
    wfpsa_mutex_lock(&listener->mutex);
    if (listener->count < LISTENER_ROOM) {
        listener->changes[listener->count] = *change;
    }
    listener->count++;
    listener->inside++;
    listener->thread = wfpsa_thread_id();
    while (listener->keeps_inside) {
        wfpsa_mutex_unlock(&listener->mutex);
        wfpsa_sleep_ns(200000);
        wfpsa_mutex_lock(&listener->mutex);
    }
    void (*also)(struct listener *) = listener->also;
    wfpsa_mutex_unlock(&listener->mutex);
    if (also) {
        also(listener);
    }
    wfpsa_mutex_lock(&listener->mutex);
    listener->inside--;
    wfpsa_mutex_unlock(&listener->mutex);
}

static inline struct listener *
listener_new(void)
{
    struct listener *listener = wfpsa_allocate_zeroed(1, sizeof *listener);
    if (!listener || wfpsa_mutex_init(&listener->mutex) != 0) {
        abort();
    }
    return listener;
}

static inline void
listener_free(struct listener *listener)
{
    wfpsa_mutex_destroy(&listener->mutex);
    wfpsa_free(listener);
}

/* A listener that is told of what the template selects (NULL: everything). */
static inline struct listener *
listening(HANDLE engine, IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 *wanted)
{
    IPSEC_SA_CONTEXT_SUBSCRIPTION0 subscription;
    struct listener *listener = listener_new();
    memset(&subscription, 0, sizeof subscription);
    subscription.enumTemplate = wanted;
    listener->engine = engine;
    CHECK_EQUAL(os->sa_context_subscribe(engine, &subscription, note_change, listener, &listener->events), 0);
    return listener;
}

static inline void
listening_ends(struct listener *listener)
{
    CHECK_EQUAL(os->sa_context_unsubscribe(listener->engine, listener->events), 0);
    listener_free(listener);
}

static inline uint32_t
told(struct listener *listener)
{
    wfpsa_mutex_lock(&listener->mutex);
    uint32_t count = listener->count;
    wfpsa_mutex_unlock(&listener->mutex);
    return count;
}

static inline void
keep_inside(struct listener *listener, int keeps)
{
    wfpsa_mutex_lock(&listener->mutex);
    listener->keeps_inside = keeps;
    wfpsa_mutex_unlock(&listener->mutex);
}

/* Whether it was told that many, sooner or later. */
static inline int
until_told(struct listener *listener, uint32_t wanted)
{
    for (int round = 0; round < PATIENCE_ROUNDS && told(listener) < wanted; round++) {
        wfpsa_sleep_ns(500000);
    }
    return told(listener) >= wanted;
}

/* Whether its n-th event, which it waits for, is this one. */
static inline int
told_nth(struct listener *listener, uint32_t n, uint32_t type, uint64_t id)
{
    if (!until_told(listener, n + 1)) {
        return 0;
    }
    wfpsa_mutex_lock(&listener->mutex);
    IPSEC_SA_CONTEXT_CHANGE0 change = listener->changes[n];
    wfpsa_mutex_unlock(&listener->mutex);
    return (uint32_t)change.changeType == type && change.saContextId == id;
}

#define ADDED IPSEC_SA_CONTEXT_EVENT_ADD
#define DELETED IPSEC_SA_CONTEXT_EVENT_DELETE
#define CHECK_TOLD(listener, n, type, id) CHECK(told_nth(listener, n, type, id))

#endif
