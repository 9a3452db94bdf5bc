/* Planned failures, wrong uses, and the count of what is alive. */
#include "internal.h"

#include <stdio.h>
#include <string.h>

#include "wfpsa/backends.h"

/* ---- planned failures ---- */

DWORD
fault_take(struct wfpsa_store *store, enum function function)
{
    struct fault *fault = &store->faults[function];
    return fault->calls_left > 0 && --fault->calls_left == 0 ? fault->code : ERROR_SUCCESS;
}

static const char *
function_name(enum function function)
{
    uintptr_t address;
    return wfpsa_backend_function(&wfpsa_embedded_backend, function, &address);
}

int
wfpsa_store_fail(struct wfpsa_store *store, const char *function, uint64_t nth, uint32_t code)
{
    for (UINT32 i = 0; i < FUNCTION_COUNT; i++) {
        if (strcmp(function_name((enum function)i), function) == 0) {
            wfpsa_mutex_lock(&store->lock);
            store->faults[i].calls_left = nth;
            store->faults[i].code = code;
            wfpsa_mutex_unlock(&store->lock);
            return 1;
        }
    }
    return 0;
}

void
wfpsa_embedded_fail_allocation(uint64_t nth)
{
    wfpsa_memory_fail(nth);
}

/* ---- switches ---- */

#define SWITCH(name, choices, meaning) {#name, choices, meaning},

static const struct wfpsa_switch switches[] = {WFPSA_SWITCHES(SWITCH)};

const struct wfpsa_switch *
wfpsa_switch_at(uint32_t index)
{
    return index < SWITCH_COUNT ? &switches[index] : NULL;
}

/* The place of a word among words separated by spaces, or -1. */
static int
place_of(const char *words, const char *word)
{
    size_t length = strlen(word);
    for (int place = 0; length > 0; place++) {
        size_t here = strcspn(words, " ");
        if (here == length && memcmp(words, word, length) == 0) {
            return place;
        }
        if (!words[here]) {
            break;
        }
        words += here + 1;
    }
    return -1;
}

int
wfpsa_store_switch(struct wfpsa_store *store, const char *name, const char *choice)
{
    for (UINT32 i = 0; i < SWITCH_COUNT; i++) {
        int place = strcmp(switches[i].name, name) == 0 ? place_of(switches[i].choices, choice) : -1;
        if (place >= 0) {
            wfpsa_mutex_lock(&store->lock);
            store->switches[i] = (UINT8)place;
            for (UINT32 slot = 0; slot < store->slots_used; slot++) { /* what ends by itself may be another now */
                const struct record *record = store_present(store, slot);
                if (record && (i == SWITCH_lifetimes || i == SWITCH_idle)) {
                    timer_set(store, record);
                }
            }
            wfpsa_condition_broadcast(&store->news);
            wfpsa_mutex_unlock(&store->lock);
            return 1;
        }
    }
    return 0;
}

/* ---- wrong uses ---- */

static const char *const wrong[MISUSE_COUNT] = {
    "a result was freed twice",
    "what was freed is no result of this engine",
    "a result was written to after it was freed",
    "the engine handle is closed, or none",
    "the enumeration handle is destroyed, or none",
    "the subscription is ended, or none",
    "the handle is another session's",
    "called from within a callback that it waits for",
};

static volatile int64_t misuses[FUNCTION_COUNT][MISUSE_COUNT];

void
misused(enum function function, enum misuse misuse)
{
    if (wfpsa_atomic_add(&misuses[function][misuse], 1) == 1) {
        fprintf(stderr, "wfpsa: embedded engine: %s: %s\n", function_name(function), wrong[misuse]);
    }
}

int
wfpsa_embedded_misuse(uint32_t index, const char **function, const char **what, int64_t *count)
{
    for (UINT32 i = 0; i < FUNCTION_COUNT * MISUSE_COUNT; i++) {
        *count = wfpsa_atomic_load(&misuses[i / MISUSE_COUNT][i % MISUSE_COUNT]);
        if (*count && index-- == 0) {
            *function = function_name((enum function)(i / MISUSE_COUNT));
            *what = wrong[i % MISUSE_COUNT];
            return 1;
        }
    }
    return 0;
}

void
wfpsa_embedded_forget_misuses(void)
{
    page_look_at_freed();
    for (UINT32 i = 0; i < FUNCTION_COUNT * MISUSE_COUNT; i++) {
        wfpsa_atomic_store(&misuses[i / MISUSE_COUNT][i % MISUSE_COUNT], 0);
    }
}

/* ---- live counters ---- */

void
wfpsa_embedded_live(struct wfpsa_live *live)
{
    page_look_at_freed();
    live->stores = wfpsa_atomic_load(&live_stores);
    live->engines = wfpsa_atomic_load(&live_engines);
    live->enum_handles = wfpsa_atomic_load(&live_enum_handles);
    live->pages = wfpsa_atomic_load(&live_pages);
    live->subscriptions = wfpsa_atomic_load(&live_subscriptions);
    live->transactions = wfpsa_atomic_load(&live_transactions);
    live->allocations = wfpsa_memory_live();
    live->misuses = 0;
    for (UINT32 i = 0; i < FUNCTION_COUNT * MISUSE_COUNT; i++) {
        live->misuses += wfpsa_atomic_load(&misuses[i / MISUSE_COUNT][i % MISUSE_COUNT]);
    }
}
