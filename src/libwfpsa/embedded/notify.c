/* Change notifications: subscriptions with a bounded queue each, and the store's one thread that calls back. */
#include "internal.h"

#include <string.h>

volatile int64_t live_subscriptions;

#define FIRST_ROOM 64u

struct subscription {
    struct subscription *next;
    struct session *session;
    IPSEC_SA_CONTEXT_SUBSCRIPTION0 asked; /* for SubscriptionsGet: the flags and the session's key */
    int has_template;
    struct conditions wanted;
    IPSEC_SA_CONTEXT_CALLBACK0 callback;
    void *context;
    IPSEC_SA_CONTEXT_CHANGE0 *ring;
    UINT32 room, first, count; /* the ring grows up to capacity */
    UINT32 capacity;
    UINT64 lost;
    int running; /* its callback, in the thread of that id */
    UINT64 thread;
    int ending; /* somebody waits to free it */
};

/* ---- the queue ---- */

static int
make_room(struct subscription *subscription)
{
    UINT32 larger = subscription->room ? subscription->room * 2 : FIRST_ROOM;
    larger = larger < subscription->capacity ? larger : subscription->capacity;
    if (subscription->count < subscription->room) {
        return 1;
    }
    if (larger <= subscription->room) {
        return 0;
    }
    IPSEC_SA_CONTEXT_CHANGE0 *ring = wfpsa_allocate_zeroed(larger, sizeof *ring);
    if (!ring) {
        return 0;
    }
    for (UINT32 i = 0; i < subscription->count; i++) {
        ring[i] = subscription->ring[(subscription->first + i) % subscription->room];
    }
    wfpsa_free(subscription->ring);
    subscription->ring = ring;
    subscription->room = larger;
    subscription->first = 0;
    return 1;
}

void
notify(struct wfpsa_store *store, IPSEC_SA_CONTEXT_EVENT_TYPE0 type, const struct record *record)
{
    int any = 0;
    for (struct subscription *subscription = store->subscriptions; subscription; subscription = subscription->next) {
        if (subscription->ending || subscription->session->dead ||
            !conditions_hold(&subscription->wanted, record, 1)) {
            continue;
        }
        if (!make_room(subscription)) {
            subscription->lost++;
            continue;
        }
        UINT32 at = (subscription->first + subscription->count++) % subscription->room;
        subscription->ring[at].changeType = type;
        subscription->ring[at].saContextId = record->id;
        any = 1;
    }
    if (any) {
        wfpsa_condition_broadcast(&store->news);
    }
}

/* ---- the thread ---- */

/* The next subscription with something to tell, moved to the end of the line; NULL for none. */
static struct subscription *
next_to_serve(struct wfpsa_store *store)
{
    struct subscription **link = &store->subscriptions, *found, **end;
    if (store->notifications_held) {
        return NULL;
    }
    while (*link && (*link)->count == 0) {
        link = &(*link)->next;
    }
    found = *link;
    if (found && found->next) {
        *link = found->next;
        for (end = link; *end; end = &(*end)->next) {
        }
        *end = found;
        found->next = NULL;
    }
    return found;
}

static void
notifier_main(void *argument)
{
    struct wfpsa_store *store = argument;
    UINT64 self = wfpsa_thread_id();
    wfpsa_mutex_lock(&store->lock);
    while (!store->notifier_stop) {
        if (store->subscriptions) {
            store_settle(store); /* what ends by itself is told without waiting for somebody's call */
        }
        struct subscription *subscription = next_to_serve(store);
        if (!subscription) {
            UINT64 quiet = store->subscriptions ? store_quiet_ns(store) : UINT64_MAX;
            if (quiet == UINT64_MAX) {
                wfpsa_condition_wait(&store->news, &store->lock);
            } else {
                wfpsa_condition_wait_ns(&store->news, &store->lock, quiet);
            }
            continue;
        }
        IPSEC_SA_CONTEXT_CHANGE0 change = subscription->ring[subscription->first];
        subscription->first = (subscription->first + 1) % subscription->room;
        subscription->count--;
        subscription->running = 1;
        subscription->thread = self;
        wfpsa_mutex_unlock(&store->lock);
        subscription->callback(subscription->context, &change);
        wfpsa_mutex_lock(&store->lock);
        subscription->running = 0;
        wfpsa_condition_broadcast(&store->idle);
    }
    wfpsa_mutex_unlock(&store->lock);
}

void
notify_end(struct wfpsa_store *store)
{
    if (store->notifier_runs) {
        wfpsa_mutex_lock(&store->lock);
        store->notifier_stop = 1;
        wfpsa_condition_broadcast(&store->news);
        wfpsa_mutex_unlock(&store->lock);
        wfpsa_thread_join(&store->notifier);
        store->notifier_runs = 0;
    }
}

void
wfpsa_store_notifications(struct wfpsa_store *store, uint32_t capacity, int held)
{
    wfpsa_mutex_lock(&store->lock);
    store->notification_capacity = capacity;
    store->notifications_held = held != 0;
    wfpsa_condition_broadcast(&store->news);
    wfpsa_mutex_unlock(&store->lock);
}

/* ---- the end of subscriptions ---- */

/* Takes it out of the line and waits until its callback does not run; what it has not told is dropped. */
static void
subscription_free(struct wfpsa_store *store, struct subscription *subscription)
{
    subscription->ending = 1;
    subscription->count = 0;
    while (subscription->running) {
        wfpsa_condition_wait(&store->idle, &store->lock);
    }
    struct subscription **link = &store->subscriptions;
    while (*link != subscription) {
        link = &(*link)->next;
    }
    *link = subscription->next;
    wfpsa_free(subscription->ring);
    wfpsa_free(subscription);
    wfpsa_atomic_add(&live_subscriptions, -1);
}

int
notify_is_inside(const struct session *session)
{
    UINT64 self = wfpsa_thread_id();
    for (const struct subscription *other = session->store->subscriptions; other; other = other->next) {
        if (other->running && other->thread == self) {
            return other->session == session;
        }
    }
    return 0;
}

void
notify_end_session(struct session *session)
{
    struct wfpsa_store *store = session->store;
    struct subscription *subscription = store->subscriptions;
    while (subscription) {
        if (subscription->session == session) {
            subscription_free(store, subscription);
            subscription = store->subscriptions; /* it may have waited: the line is another */
        } else {
            subscription = subscription->next;
        }
    }
}

void
notify_silence(struct session *session)
{
    for (struct subscription *each = session->store->subscriptions; each; each = each->next) {
        each->count = each->session == session ? 0 : each->count;
    }
}

/* ---- the OS's functions ---- */

DWORD WINAPI
sa_context_subscribe(HANDLE engineHandle, const IPSEC_SA_CONTEXT_SUBSCRIPTION0 *subscription,
                     IPSEC_SA_CONTEXT_CALLBACK0 callback, void *context, HANDLE *eventsHandle)
{
    struct call call;
    DWORD code = call_enter(engineHandle, FUNCTION_IPsecSaContextSubscribe0, FWPM_ACTRL_SUBSCRIBE,
                            ACCESS_NOT_IN_TRANSACTION, &call);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    struct wfpsa_store *store = call.store;
    if (!subscription || !callback || !eventsHandle) {
        return call_leave(&call, (DWORD)FWP_E_NULL_POINTER);
    }
    *eventsHandle = NULL;
    if (subscription->flags) {
        return call_leave(&call, (DWORD)FWP_E_INVALID_FLAGS);
    }
    struct subscription *made = wfpsa_allocate_zeroed(1, sizeof *made);
    if (!made) {
        return call_leave(&call, ERROR_NOT_ENOUGH_MEMORY);
    }
    code = conditions_parse(store, subscription->enumTemplate, &made->wanted);
    if (code == ERROR_SUCCESS && !store->notifier_runs) {
        store->notifier_stop = 0;
        store->notifier_runs = wfpsa_thread_start(&store->notifier, notifier_main, store);
        code = store->notifier_runs ? ERROR_SUCCESS : ERROR_NOT_ENOUGH_MEMORY;
    }
    if (code != ERROR_SUCCESS) {
        wfpsa_free(made);
        return call_leave(&call, code);
    }
    made->session = call.session;
    made->asked.sessionKey = call.session->key;
    made->has_template = subscription->enumTemplate != NULL;
    made->callback = callback;
    made->context = context;
    made->capacity = store->notification_capacity;
    made->next = store->subscriptions;
    store->subscriptions = made;
    wfpsa_atomic_add(&live_subscriptions, 1);
    *eventsHandle = made;
    wfpsa_condition_broadcast(&store->news); /* from now on the thread watches the clock */
    return call_leave(&call, ERROR_SUCCESS);
}

/* Ends a subscription, whatever it lost; that it lost events is what FWP_E_NOTIFICATION_DROPPED then says. */
DWORD WINAPI
sa_context_unsubscribe(HANDLE engineHandle, HANDLE eventsHandle)
{
    struct call call;
    DWORD code = call_enter(engineHandle, FUNCTION_IPsecSaContextUnsubscribe0, 0, ACCESS_NOT_IN_TRANSACTION, &call);
    if (code != ERROR_SUCCESS || !eventsHandle) {
        return code == ERROR_SUCCESS ? call_leave(&call, code) : code;
    }
    struct subscription *found = call.store->subscriptions;
    while (found && found != eventsHandle) {
        found = found->next;
    }
    if (!found || found->ending) {
        misused(call.function, MISUSE_EVENTS_HANDLE);
        return call_leave(&call, ERROR_INVALID_HANDLE);
    }
    if (found->session != call.session) {
        misused(call.function, MISUSE_OTHER_SESSION);
        return call_leave(&call,
                          SWITCHED(call.store, foreign_handle, 0) ? (DWORD)FWP_E_WRONG_SESSION : ERROR_INVALID_HANDLE);
    }
    if (found->running && found->thread == wfpsa_thread_id()) {
        misused(call.function, MISUSE_OWN_CALLBACK); /* it would wait for itself */
        return call_leave(&call, ERROR_POSSIBLE_DEADLOCK);
    }
    if (found->lost && SWITCHED(call.store, overflow, 0)) {
        code = (DWORD)FWP_E_NOTIFICATION_DROPPED;
    }
    subscription_free(call.store, found);
    return call_leave(&call, code);
}

/* What the array points to for one subscription. */
struct told {
    IPSEC_SA_CONTEXT_SUBSCRIPTION0 subscription;
    IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 template;
    FWP_V4_ADDR_AND_MASK local4, remote4;
    FWP_V6_ADDR_AND_MASK local6, remote6;
};

static void
tell_condition(const struct condition *condition, FWP_CONDITION_VALUE0 *value, FWP_V4_ADDR_AND_MASK *v4,
               FWP_V6_ADDR_AND_MASK *v6)
{
    if (condition->ip_version == FWP_IP_VERSION_V4) {
        v4->addr = condition->v4_address;
        v4->mask = condition->v4_mask;
        value->type = FWP_V4_ADDR_MASK;
        value->v4AddrMask = v4;
    } else if (condition->ip_version == FWP_IP_VERSION_V6) {
        memcpy(v6->addr, condition->v6_address, 16);
        v6->prefixLength = condition->v6_prefix;
        value->type = FWP_V6_ADDR_MASK;
        value->v6AddrMask = v6;
    }
}

/* Of all sessions; hosts of a template come back as subnets of one address. */
DWORD WINAPI
sa_context_subscriptions_get(HANDLE engineHandle, IPSEC_SA_CONTEXT_SUBSCRIPTION0 ***entries, UINT32 *numEntries)
{
    struct call call;
    UINT32 count = 0;
    DWORD code =
        call_enter(engineHandle, FUNCTION_IPsecSaContextSubscriptionsGet0, FWPM_ACTRL_READ, ACCESS_READ, &call);
    if (code != ERROR_SUCCESS) {
        return code;
    }
    if (!entries || !numEntries) {
        return call_leave(&call, (DWORD)FWP_E_NULL_POINTER);
    }
    *entries = NULL;
    *numEntries = 0;
    for (const struct subscription *each = call.store->subscriptions; each; each = each->next) {
        count += each->ending ? 0 : 1;
    }
    if (count == 0) {
        return call_leave(&call, ERROR_SUCCESS);
    }
    /* The array comes first, since it is what is freed; 8 bytes a pointer keep what follows aligned on 32 bits too. */
    size_t array_bytes = count * (size_t)8, bytes = array_bytes + count * sizeof(struct told);
    char *block = page_new(bytes);
    if (!block) {
        return call_leave(&call, ERROR_NOT_ENOUGH_MEMORY);
    }
    memset(block, 0, bytes);
    IPSEC_SA_CONTEXT_SUBSCRIPTION0 **array = (IPSEC_SA_CONTEXT_SUBSCRIPTION0 **)block;
    struct told *told = (struct told *)(block + array_bytes);
    for (const struct subscription *each = call.store->subscriptions; each; each = each->next) {
        if (each->ending) {
            continue;
        }
        told->subscription = each->asked;
        if (each->has_template) {
            told->subscription.enumTemplate = &told->template;
            tell_condition(&each->wanted.local, &told->template.localSubNet, &told->local4, &told->local6);
            tell_condition(&each->wanted.remote, &told->template.remoteSubNet, &told->remote4, &told->remote6);
        }
        array[(*numEntries)++] = &told->subscription;
        told++;
    }
    *entries = array;
    return call_leave(&call, ERROR_SUCCESS);
}
