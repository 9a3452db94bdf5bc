/* The store's clock, and what becomes due on it: inbound tails and the lifetimes of SAs. */
#include "internal.h"

#include <string.h>

/* ---- the clock ---- */

UINT64
store_now(const struct wfpsa_store *store)
{
    return store->clock_offset + (store->manual_clock ? 0 : wfpsa_coarse_ms());
}

void
wfpsa_store_clock(struct wfpsa_store *store, int manual)
{
    wfpsa_mutex_lock(&store->lock);
    UINT64 now = store_now(store);
    store->manual_clock = manual != 0;
    store->clock_offset = 0;
    store->clock_offset = now - store_now(store); /* goes on from where it stood */
    wfpsa_condition_broadcast(&store->news);
    wfpsa_mutex_unlock(&store->lock);
}

uint64_t
wfpsa_store_now(struct wfpsa_store *store)
{
    wfpsa_mutex_lock(&store->lock);
    UINT64 now = store_now(store);
    wfpsa_mutex_unlock(&store->lock);
    return now;
}

void
wfpsa_store_advance(struct wfpsa_store *store, uint64_t milliseconds)
{
    wfpsa_mutex_lock(&store->lock);
    store->clock_offset += milliseconds;
    store_settle(store);
    wfpsa_condition_broadcast(&store->news);
    wfpsa_mutex_unlock(&store->lock);
}

/* ---- timers: a heap, one for each context that ends by itself ---- */

static void
place(struct wfpsa_store *store, UINT32 at, struct timer timer)
{
    store->timers[at] = timer;
    store->timer_places[timer.slot] = at + 1;
}

/* Moves a timer from a place in the heap to where it belongs. */
static void
sift(struct wfpsa_store *store, UINT32 at, struct timer timer)
{
    while (at > 0 && store->timers[(at - 1) / 2].due > timer.due) {
        place(store, at, store->timers[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (;;) {
        UINT32 child = 2 * at + 1;
        if (child + 1 < store->timers_length && store->timers[child + 1].due < store->timers[child].due) {
            child++;
        }
        if (child >= store->timers_length || store->timers[child].due >= timer.due) {
            break;
        }
        place(store, at, store->timers[child]);
        at = child;
    }
    place(store, at, timer);
}

void
timer_clear(struct wfpsa_store *store, UINT32 slot)
{
    UINT32 at = store->timer_places[slot];
    if (at == 0) {
        return;
    }
    struct timer last = store->timers[--store->timers_length];
    store->timer_places[slot] = 0;
    if (last.slot != slot) {
        sift(store, at - 1, last);
    }
}

/* When the SA ends by itself; UINT64_MAX for never. */
static UINT64
half_due(const struct wfpsa_store *store, const struct half *half)
{
    UINT64 due = UINT64_MAX;
    if (!half->policy) {
        return due;
    }
    const struct policy *policy = &half->policy->policy;
    if (SWITCHED(store, lifetimes, 0) && policy->lifetime_seconds) {
        due = half->since + (UINT64)policy->lifetime_seconds * 1000u;
    }
    if (SWITCHED(store, idle, 1) && policy->idle_timeout_seconds) {
        UINT64 idle = half->since + (UINT64)policy->idle_timeout_seconds * 1000u;
        due = idle < due ? idle : due;
    }
    return due;
}

void
timer_set(struct wfpsa_store *store, const struct record *record)
{
    UINT64 in = half_due(store, &record->in), out = half_due(store, &record->out);
    struct timer timer = {in < out ? in : out, record->slot, 0};
    if (record->expired && record->tail_end < timer.due) {
        timer.due = record->tail_end;
    }
    if (timer.due == UINT64_MAX) {
        timer_clear(store, record->slot);
        return;
    }
    UINT32 at = store->timer_places[record->slot];
    if (at == 0) {
        at = ++store->timers_length;
    }
    sift(store, at - 1, timer);
}

/* Ends what is due of a context; 0 without memory, and nothing has happened. */
static int
record_settle(struct wfpsa_store *store, struct record *record, UINT64 now)
{
    int in_ends = half_due(store, &record->in) <= now || (record->expired && record->tail_end <= now);
    int out_ends = half_due(store, &record->out) <= now;
    if ((in_ends || !record->in.policy) && (out_ends || !record->out.policy)) {
        return store_remove(store, record);
    }
    record = store_edit(store, record);
    if (!record) {
        return 0;
    }
    store_drop_half(store, record, in_ends ? &record->in : &record->out);
    store_edited(store, record);
    return 1;
}

void
store_settle(struct wfpsa_store *store)
{
    if (store->timers_length == 0 && !store->churn) {
        return;
    }
    UINT64 now = store_now(store);
    while (store->timers_length && store->timers[0].due <= now) {
        /* As of the moment when it was due: what comes later waits for its turn among the others. */
        if (!record_settle(store, store->slots[store->timers[0].slot], store->timers[0].due)) {
            break; /* no memory: the next call tries again */
        }
    }
    churn_catch_up(store);
}

UINT64
store_quiet_ns(const struct wfpsa_store *store)
{
    UINT64 due = store->timers_length ? store->timers[0].due : UINT64_MAX;
    UINT64 churn = churn_due(store);
    due = churn < due ? churn : due;
    if (store->manual_clock || due == UINT64_MAX) {
        return UINT64_MAX;
    }
    UINT64 now = store_now(store);
    return due > now ? (due - now) * 1000000u : 0;
}
