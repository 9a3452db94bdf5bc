/* The process's counters of engine calls.
 */
#include "meter.h"

#include <stddef.h>

volatile int64_t meter_started;

static struct {
    volatile int64_t within[WFPSA_CALL_BOUNDS + 1], ns, failures;
} counters[WFPSA_CALL_KIND_COUNT];

void
wfpsa_meter_start(void)
{
    wfpsa_atomic_store(&meter_started, 1);
}

DWORD
meter_count(enum wfpsa_call_kind kind, uint64_t began, DWORD code)
{
    uint64_t took = wfpsa_monotonic_ns() - began, bound = WFPSA_CALL_FIRST_BOUND_NS;
    uint32_t at = 0;
    for (; at < WFPSA_CALL_BOUNDS && took > bound; at++) {
        bound *= 10;
    }
    wfpsa_atomic_add(&counters[kind].within[at], 1);
    wfpsa_atomic_add(&counters[kind].ns, (int64_t)took);
    if (code != ERROR_SUCCESS && code != (DWORD)FWP_E_NOT_FOUND) {
        wfpsa_atomic_add(&counters[kind].failures, 1);
    }
    return code;
}

void
wfpsa_meter_read(enum wfpsa_call_kind kind, struct wfpsa_calls *calls)
{
    for (uint32_t at = 0; at <= WFPSA_CALL_BOUNDS; at++) {
        calls->within[at] = wfpsa_atomic_load(&counters[kind].within[at]);
    }
    calls->ns = wfpsa_atomic_load(&counters[kind].ns);
    calls->failures = wfpsa_atomic_load(&counters[kind].failures);
}

#define NAME(kind) #kind,

static const char *const names[] = {WFPSA_CALL_KINDS(NAME)};

const char *
wfpsa_call_kind_name(uint32_t index)
{
    return index < WFPSA_CALL_KIND_COUNT ? names[index] : NULL;
}
