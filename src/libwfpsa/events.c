/* Subscriptions to change events: the callback, its bounded ring, and the wait for what is in it. */
#include "session.h"

#include <string.h>

#include "memory.h"
#include "wfpsa/events.h"

struct wfpsa_subscription {
    struct wfpsa_session *session;
    /* These five are guarded by the session's lock. */
    struct wfpsa_subscription *next; /* among the session's open or undead ones */
    HANDLE handle;                   /* NULL once unsubscribed, or undead */
    int ending;                      /* unsubscribing is under way, perhaps in another thread */
    int undead;                      /* unsubscribing failed: the callback may still come until the session ends */
    int abandoned;                   /* and nobody wants it any more */

    wfpsa_mutex mutex; /* guards the rest */
    wfpsa_condition news;
    int ended, woken;
    uint32_t capacity, first, count;
    uint64_t lost; /* since the last event that came in */
    struct wfpsa_event *ring;
};

static void CALLBACK
on_change(void *context, const IPSEC_SA_CONTEXT_CHANGE0 *change)
{
    struct wfpsa_subscription *subscription = context;
    wfpsa_mutex_lock(&subscription->mutex);
    if (subscription->ended) {
        /* it could not be ended where the events come from */
    } else if (subscription->count == subscription->capacity) {
        subscription->lost++;
    } else {
        struct wfpsa_event *event =
            &subscription->ring[(subscription->first + subscription->count++) % subscription->capacity];
        event->context_id = change->saContextId;
        event->kind = (uint32_t)change->changeType;
        event->lost_before = (uint32_t)(subscription->lost < UINT32_MAX ? subscription->lost : UINT32_MAX);
        subscription->lost = 0;
    }
    wfpsa_condition_broadcast(&subscription->news);
    wfpsa_mutex_unlock(&subscription->mutex);
}

/* ---- life ---- */

static struct wfpsa_subscription *
subscription_new(struct wfpsa_session *session, uint32_t capacity)
{
    struct wfpsa_subscription *made = wfpsa_allocate_zeroed(1, sizeof *made);
    if (!made) {
        return NULL;
    }
    made->session = session;
    made->capacity = capacity;
    made->ring = wfpsa_allocate(capacity, sizeof *made->ring);
    if (made->ring && wfpsa_mutex_init(&made->mutex) == 0) {
        if (wfpsa_condition_init(&made->news) == 0) {
            return made;
        }
        wfpsa_mutex_destroy(&made->mutex);
    }
    wfpsa_free(made->ring);
    wfpsa_free(made);
    return NULL;
}

int
wfpsa_subscription_open(struct wfpsa_session *session, const struct wfpsa_subnets *subnets, uint32_t capacity,
                        struct wfpsa_subscription **subscription, struct wfpsa_failure *failure)
{
    IPSEC_SA_CONTEXT_SUBSCRIPTION0 wanted;
    struct wfpsa_template filled;
    struct wfpsa_subscription *opened = subscription_new(session, capacity);
    *subscription = NULL;
    if (!opened) {
        return WFPSA_NO_MEMORY;
    }
    memset(&wanted, 0, sizeof wanted);
    wanted.enumTemplate = wfpsa_template_fill(&filled, subnets);
    int status = wfpsa_session_enter(session);
    if (status == WFPSA_OK) {
        uint64_t began;
        DWORD code = METERED(
            session, began,
            session->backend->sa_context_subscribe(session->engine, &wanted, on_change, opened, &opened->handle));
        status = wfpsa_outcome_of(code, "IPsecSaContextSubscribe0", failure);
        if (status == WFPSA_OK) {
            opened->next = session->subscriptions;
            session->subscriptions = opened;
            *subscription = opened;
        }
        wfpsa_session_leave(session);
    }
    if (status != WFPSA_OK) {
        opened->handle = NULL;
        wfpsa_subscription_free(opened);
    }
    return status;
}

/* That the engine lost events on their way is known only now, and told as one more: how many is not said. */
static void
end(struct wfpsa_subscription *subscription, int lost)
{
    wfpsa_mutex_lock(&subscription->mutex);
    subscription->ended = 1;
    subscription->lost += lost ? 1 : 0;
    wfpsa_condition_broadcast(&subscription->news);
    wfpsa_mutex_unlock(&subscription->mutex);
}

static void
free_now(struct wfpsa_subscription *subscription)
{
    wfpsa_condition_destroy(&subscription->news);
    wfpsa_mutex_destroy(&subscription->mutex);
    wfpsa_free(subscription->ring);
    wfpsa_free(subscription);
}

/* Lets others have the session's lock. */
static void
wait_a_moment(struct wfpsa_session *session)
{
    wfpsa_session_leave(session);
    wfpsa_sleep_ns(1000000u);
    wfpsa_session_lock(session);
}

static void
link_into(struct wfpsa_subscription **list, struct wfpsa_subscription *subscription)
{
    subscription->next = *list;
    *list = subscription;
}

/* Ends one that is in the session's list and whose turn it is: leaves the session's lock for the call, since the
 * engine waits there for a running callback, and comes back with it. Where the engine refuses, one that is `kept` goes
 * on, to be closed later, as after a transaction; where it is not, or the session is lost, it is undead. */
static int
unsubscribe(struct wfpsa_subscription *subscription, int kept, struct wfpsa_failure *failure)
{
    struct wfpsa_session *session = subscription->session;
    struct wfpsa_subscription **link = &session->subscriptions;
    HANDLE handle = subscription->handle;
    while (*link != subscription) {
        link = &(*link)->next;
    }
    *link = subscription->next;
    subscription->handle = NULL;
    subscription->ending = 1;
    session->unsubscribing++;
    wfpsa_session_leave(session);
    uint64_t began;
    DWORD code = METERED(session, began, session->backend->sa_context_unsubscribe(session->engine, handle));
    wfpsa_session_lock(session);
    session->unsubscribing--;
    subscription->ending = 0;
    if (code == ERROR_SUCCESS || code == (DWORD)FWP_E_NOTIFICATION_DROPPED) {
        end(subscription, code != ERROR_SUCCESS);
        if (subscription->abandoned) {
            free_now(subscription);
        }
        return WFPSA_OK;
    }
    if (kept && !wfpsa_session_is_lost(code)) {
        subscription->handle = handle;
        link_into(&session->subscriptions, subscription);
        return wfpsa_outcome_of(code, "IPsecSaContextUnsubscribe0", failure);
    }
    end(subscription, 0);
    subscription->undead = 1;
    link_into(&session->undead, subscription);
    return wfpsa_outcome_of(code, "IPsecSaContextUnsubscribe0", failure);
}

int
wfpsa_subscription_close(struct wfpsa_subscription *subscription, struct wfpsa_failure *failure)
{
    struct wfpsa_session *session = subscription->session;
    int status = WFPSA_OK;
    if (session->process != wfpsa_process_id()) {
        return WFPSA_OK; /* the handle is the parent's */
    }
    wfpsa_session_lock(session);
    if (subscription->handle) {
        status = unsubscribe(subscription, 1, failure);
    }
    while (subscription->ending) { /* by a thread that was faster: until then the callback may run */
        wait_a_moment(session);
    }
    wfpsa_session_leave(session);
    return status;
}

void
wfpsa_subscriptions_end(struct wfpsa_session *session)
{
    struct wfpsa_failure ignored;
    while (session->subscriptions || session->unsubscribing) {
        if (session->subscriptions) {
            unsubscribe(session->subscriptions, 0, &ignored);
        } else { /* by threads that were faster */
            wait_a_moment(session);
        }
    }
}

void
wfpsa_subscription_free(struct wfpsa_subscription *subscription)
{
    if (!subscription || subscription->session->process != wfpsa_process_id()) {
        return;
    }
    struct wfpsa_session *session = subscription->session;
    wfpsa_session_lock(session);
    int known = subscription->handle || subscription->ending || subscription->undead; /* to the engine, still */
    if (known) {
        subscription->abandoned = 1;
        end(subscription, 0);
    }
    wfpsa_session_leave(session);
    if (!known) {
        free_now(subscription);
    }
}

void
wfpsa_subscriptions_bury(struct wfpsa_session *session)
{
    while (session->undead) {
        struct wfpsa_subscription *subscription = session->undead;
        session->undead = subscription->next;
        subscription->undead = 0;
        if (subscription->abandoned) {
            free_now(subscription);
        }
    }
}

/* ---- taking events ---- */

int
wfpsa_subscription_wait(struct wfpsa_subscription *subscription, uint64_t wait_ms)
{
    if (subscription->session->process != wfpsa_process_id()) {
        return WFPSA_FORKED;
    }
    uint64_t now = wfpsa_monotonic_ns(), end = now + (wait_ms < 1000000000u ? wait_ms * 1000000u : UINT64_MAX / 2);
    wfpsa_mutex_lock(&subscription->mutex);
    while (subscription->count == 0 && subscription->lost == 0 && !subscription->ended && !subscription->woken &&
           now < end) {
        wfpsa_condition_wait_ns(&subscription->news, &subscription->mutex, end - now);
        now = wfpsa_monotonic_ns();
    }
    subscription->woken = 0;
    wfpsa_mutex_unlock(&subscription->mutex);
    return WFPSA_OK;
}

void
wfpsa_subscription_wake(struct wfpsa_subscription *subscription)
{
    if (subscription->session->process == wfpsa_process_id()) {
        wfpsa_mutex_lock(&subscription->mutex);
        subscription->woken = 1;
        wfpsa_condition_broadcast(&subscription->news);
        wfpsa_mutex_unlock(&subscription->mutex);
    }
}

int
wfpsa_subscription_take(struct wfpsa_subscription *subscription, struct wfpsa_event *events, uint32_t room,
                        uint32_t *taken, uint64_t *lost)
{
    if (subscription->session->process != wfpsa_process_id()) {
        return WFPSA_FORKED;
    }
    *taken = 0;
    *lost = 0;
    wfpsa_mutex_lock(&subscription->mutex);
    while (*taken < room && subscription->count) {
        events[(*taken)++] = subscription->ring[subscription->first];
        subscription->first = (subscription->first + 1) % subscription->capacity;
        subscription->count--;
    }
    if (subscription->count == 0) {
        *lost = subscription->lost;
        subscription->lost = 0;
    }
    int ended = subscription->ended && *taken == 0 && *lost == 0;
    wfpsa_mutex_unlock(&subscription->mutex);
    return ended ? WFPSA_CLOSED : WFPSA_OK;
}
