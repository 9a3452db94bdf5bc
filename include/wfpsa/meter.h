/* How many calls of engines there were in this process, of each kind, and how long they took; counted once asked for.
 */
#ifndef WFPSA_METER_H
#define WFPSA_METER_H

#include <stdint.h>

/* X(kind): the calls of the table in backend.h. `session` is what opens and ends sessions, transactions and
 * subscriptions, `change` what changes contexts but expiring. */
#define WFPSA_CALL_KINDS(X)                                                                                           \
    X(session)                                                                                                        \
    X(enumerate)                                                                                                      \
    X(get)                                                                                                            \
    X(expire)                                                                                                         \
    X(change)                                                                                                         \
    X(statistics)

#define WFPSA_CALL_KIND(kind) WFPSA_CALL_##kind,

enum wfpsa_call_kind { WFPSA_CALL_KINDS(WFPSA_CALL_KIND) WFPSA_CALL_KIND_COUNT };

/* Upper bounds in nanoseconds, each ten times the one before; whatever takes longer is counted behind them. */
#define WFPSA_CALL_BOUNDS 6
#define WFPSA_CALL_FIRST_BOUND_NS 10000

struct wfpsa_calls {
    int64_t within[WFPSA_CALL_BOUNDS + 1]; /* calls up to each bound and above the one before */
    int64_t ns;                            /* all together */
    int64_t failures;                      /* what ended otherwise than with success or FWP_E_NOT_FOUND */
};

/* From now on calls are counted, which costs two looks at the clock each. Owns: nothing. Threads: any. Blocks: no.
 * Fails: never. */
void wfpsa_meter_start(void);

/* The calls of a kind so far, each number by itself: a call that ends meanwhile may be in one of them only. */
void wfpsa_meter_read(enum wfpsa_call_kind kind, struct wfpsa_calls *calls);

/* The name of a kind; NULL past the last. */
const char *wfpsa_call_kind_name(uint32_t index);

#endif
