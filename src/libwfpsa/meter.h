/* The inside of the meter, for the files that call an engine. */
#ifndef WFPSA_METER_INTERNAL_H
#define WFPSA_METER_INTERNAL_H

#include "platform.h"

#include "wfpsa/meter.h"
#include "wfpsa/wfp.h"

extern volatile int64_t meter_started;

/* Counts a call that began then (0: it is not counted), and returns its code. */
DWORD meter_count(enum wfpsa_call_kind kind, uint64_t began, DWORD code);

static inline uint64_t
meter_begin(void)
{
    return wfpsa_atomic_load(&meter_started) ? wfpsa_monotonic_ns() : 0;
}

static inline DWORD
meter_end(enum wfpsa_call_kind kind, uint64_t began, DWORD code)
{
    return began ? meter_count(kind, began, code) : code;
}

/* The code of a call of that kind; `began` is a uint64_t of the caller's. */
#define METERED(kind, began, call) ((began) = meter_begin(), meter_end(WFPSA_CALL_##kind, (began), (call)))

#endif
