/* The control surface of the embedded engine: stores of SA contexts, how they are filled, timed, slowed and broken.
 *
 * A store is what the Base Filtering Engine is on Windows: it holds the contexts that the sessions of the embedded
 * backend see. FwpmEngineOpen0's serverName, which Windows wants NULL, names the store to open; NULL opens the store
 * called "default", making it if need be. A store lives as long as a handle from here or a session holds it.
 *
 * Threads: every function may be called from any thread. Blocks: only for the store's lock.
 */
#ifndef WFPSA_EMBEDDED_H
#define WFPSA_EMBEDDED_H

#include <stdint.h>

struct wfpsa_store;

#define WFPSA_STORE_NAME_MAX 63

/* Who a session of the store is: the engine's default access rights (reference: FWPM_ACTRL_*). */
enum wfpsa_rights {
    WFPSA_RIGHTS_ADMINISTRATOR,
    WFPSA_RIGHTS_NETWORK_OPERATOR,
    WFPSA_RIGHTS_READ_ONLY, /* may enumerate and read, not expire or delete */
    WFPSA_RIGHTS_EVERYONE   /* may open the engine and nothing else */
};

/* What is alive in the whole process. */
struct wfpsa_live {
    int64_t stores;
    int64_t engines; /* open sessions */
    int64_t enum_handles;
    int64_t pages;       /* results not yet given back to FwpmFreeMemory0 */
    int64_t allocations; /* blocks of the whole library */
};

/* The bytes that fill every key blob of every page, repeated: nothing outside a page may ever hold them. */
#define WFPSA_KEY_MARK "KEYmarkKEYmark\xF7\xFB"
#define WFPSA_KEY_MARK_BYTES 16

/* The store of that name (NUL-terminated UTF-16, 1 to 63 units), made when it does not exist; NULL: a new store with
 * a name of its own. *created says whether it is new.
 * Owns: the caller, until wfpsa_store_release. Fails: NULL, out of memory. */
struct wfpsa_store *wfpsa_store_open(const uint16_t *name, int *created);
void wfpsa_store_release(struct wfpsa_store *store);

/* NUL-terminated UTF-16; valid while the store is held. */
const uint16_t *wfpsa_store_name(const struct wfpsa_store *store);

/* Adds `count` plausible contexts, the same for the same count and seed into an empty store: IPv4 and IPv6, transport
 * and tunnel, NAT-T, ESP, ESP with AH, AES-GCM, one-sided and half-built ones, names beyond ASCII, ids above 2^32.
 * With `odd`, one context in eight has what no sane engine returns: unknown enum values, NULL pointers, numSAs far too
 * large, ids above 2^63. Fails: 0 without memory, and then nothing was added. */
int wfpsa_store_seed(struct wfpsa_store *store, uint64_t count, uint64_t seed, int odd);

/* Contexts in the store, those in their inbound tail included. */
uint64_t wfpsa_store_count(struct wfpsa_store *store);

/* The clock follows real time; from the first call with manual != 0 only wfpsa_store_advance moves it. */
void wfpsa_store_clock(struct wfpsa_store *store, int manual);
void wfpsa_store_advance(struct wfpsa_store *store, uint64_t milliseconds);

/* Slept by each call, and by each enumeration for each entry it returns, outside the store's lock. */
void wfpsa_store_latency(struct wfpsa_store *store, uint64_t per_call_ns, uint64_t per_entry_ns);

/* For sessions opened from now on. */
void wfpsa_store_rights(struct wfpsa_store *store, enum wfpsa_rights rights);

/* The nth call from now (1: the next) of the OS function of that name fails with the code, once; nth 0 cancels.
 * Fails: 0 where the embedded engine has no such function. */
int wfpsa_store_fail(struct wfpsa_store *store, const char *function, uint64_t nth, uint32_t code);

void wfpsa_embedded_live(struct wfpsa_live *live);

/* The nth allocation of the library from now on (1: the next) fails, once; 0 cancels. */
void wfpsa_embedded_fail_allocation(uint64_t nth);

#endif
