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
struct IPSEC_SA_CONTEXT1_;

#define WFPSA_STORE_NAME_MAX 63

/* Who a session of the store is: the engine's default access rights (reference: FWPM_ACTRL_*). */
enum wfpsa_rights {
    WFPSA_RIGHTS_ADMINISTRATOR,
    WFPSA_RIGHTS_NETWORK_OPERATOR,
    WFPSA_RIGHTS_READ_ONLY, /* may enumerate, read and subscribe, not expire or delete */
    WFPSA_RIGHTS_EVERYONE   /* may open the engine and nothing else */
};

/* What is alive in the whole process. */
struct wfpsa_live {
    int64_t stores;
    int64_t engines; /* open sessions */
    int64_t enum_handles;
    int64_t pages; /* results not yet given back to FwpmFreeMemory0 */
    int64_t subscriptions;
    int64_t transactions; /* explicit ones */
    int64_t allocations;  /* blocks of the whole library */
    int64_t misuses;      /* wrong uses seen since wfpsa_embedded_forget_misuses */
};

/* What the OS does not document, with the choices there are; the first is the default.
 * X(name, choices, meaning) */
#define WFPSA_SWITCHES(X)                                                                                             \
    X(enumeration, "snapshot live", "whether an enumeration shows the contents of its beginning or of each call")     \
    X(empty_page, "null block", "what an enumeration hands out with no entries: NULL, or a block to be freed")        \
    X(templates, "all v6_mask",                                                                                       \
      "which types of a template are taken: all that the IDL names, or the docs page's one")                          \
    X(foreign_handle, "wrong_session invalid_handle", "what another session's handle gives")                          \
    X(keys, "marked zeroed empty", "what key blobs of results hold: a mark in place of key bytes, zeros, nothing")    \
    X(second_expiry, "success not_found", "what a second expiry within the inbound tail gives")                       \
    X(duplicates, "deleted kept", "whether adding an outbound SA deletes older ones for the same traffic")            \
    X(lifetimes, "on off", "whether SAs end when their lifetime in seconds is over")                                  \
    X(idle, "off on", "whether SAs end with their idle timeout: nothing carries traffic here, so all of them would")  \
    X(add_event, "create outbound", "when ADD is told: at creation, or when the outbound SA is added")                \
    X(delete_event, "removal expiry", "when DELETE is told of an expired context: when it goes, or at its expiry")    \
    X(overflow, "reported silent", "whether the end of a subscription that lost events says so")                      \
    X(transaction_changes, "allowed refused", "whether contexts may be changed inside an explicit transaction")       \
    X(latency, "outside inside", "whether latency of a call that changes is slept outside the transaction lock")      \
    X(contexts_after_restart, "lost kept", "whether contexts outlive a restart of the service; their ids never do")   \
    X(ids_after_restart, "new reused", "whether ids given before a restart of the service are given again")

struct wfpsa_switch {
    const char *name;
    const char *choices; /* separated by spaces, the default first */
    const char *meaning;
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

/* What contexts are made of: plausible ones of every kind, IPv4 and IPv6, transport and tunnel, NAT-T, ESP, ESP with
 * AH, AES-GCM, one-sided and half-built, names beyond ASCII, ids above 2^32; with odd ones, one in eight, that no sane
 * engine returns: unknown enum values, NULL pointers, numSAs far too large, ids above 2^63; or full ones, with both
 * SAs and every structure that there is. */
enum wfpsa_population { WFPSA_PLAUSIBLE, WFPSA_ODD, WFPSA_FULL };

/* Adds `count` contexts, the same for the same arguments into an empty store.
 * Fails: 0 without memory, and then nothing was added. */
int wfpsa_store_seed(struct wfpsa_store *store, uint64_t count, uint64_t seed, enum wfpsa_population population);

/* Adds one context as it is given, whatever a negotiation would make of it; an id of 0 asks for a new one, *id is the
 * one it got. Fails: an OS code: FWP_E_ALREADY_EXISTS for an id that is there, the codes of IPsecSaContextCreate1 and
 * IPsecSaContextAddInbound1 for what they refuse, ERROR_NOT_ENOUGH_MEMORY; then nothing was added. */
uint32_t wfpsa_store_add(struct wfpsa_store *store, const struct IPSEC_SA_CONTEXT1_ *context, uint64_t *id);

/* The index-th context of those that are replayed. What it points to is read before the next is asked for; a saList
 * holds as many SAs as numSAs says, or two. */
typedef const struct IPSEC_SA_CONTEXT1_ *(*wfpsa_replayed_context)(void *source, uint64_t index);

/* Adds `count` contexts under their own ids as they are given, whatever the OS would say of them: enumeration values
 * that nobody knows, NULL pointers, a numSAs far too large, no SA at all. Key bytes are not read; what the pointer of
 * an unknown transform points to is not either, nor kept. `next` is called with the store's lock held, perhaps more
 * than once for an index. Fails: an OS code, FWP_E_ALREADY_EXISTS for an id that is there, FWP_E_OUT_OF_BOUNDS for a
 * name above 32767 units, ERROR_NOT_ENOUGH_MEMORY; then nothing was added and *failed is the index of the one that was
 * refused. */
uint32_t wfpsa_store_replay(struct wfpsa_store *store, uint64_t count, wfpsa_replayed_context next, void *source,
                            uint64_t *failed);

/* From now on, `per_second` times a second of the store's clock, a plausible context is added and one of those that
 * are there deleted; the same for the same seed. 0 ends it. It happens at calls, and at once while anyone subscribes.
 * Fails: 0 without memory. */
int wfpsa_store_churn(struct wfpsa_store *store, uint64_t per_second, uint64_t seed);

/* Contexts in the store, those in their inbound tail included. */
uint64_t wfpsa_store_count(struct wfpsa_store *store);

/* The clock follows real time; from the first call with manual != 0 only wfpsa_store_advance moves it. Waiting for the
 * transaction lock always takes real time. */
void wfpsa_store_clock(struct wfpsa_store *store, int manual);
void wfpsa_store_advance(struct wfpsa_store *store, uint64_t milliseconds);

/* What the clock shows, in milliseconds since some moment. */
uint64_t wfpsa_store_now(struct wfpsa_store *store);

/* Slept by each call, and by each enumeration for each entry it returns, outside the store's lock. */
void wfpsa_store_latency(struct wfpsa_store *store, uint64_t per_call_ns, uint64_t per_entry_ns);

/* For sessions opened from now on. */
void wfpsa_store_rights(struct wfpsa_store *store, enum wfpsa_rights rights);

/* The nth call from now (1: the next) of the OS function of that name fails with the code, once; nth 0 cancels.
 * Fails: 0 where there is no such function. */
int wfpsa_store_fail(struct wfpsa_store *store, const char *function, uint64_t nth, uint32_t code);

/* Stops the service: nobody can open a session (EPT_S_NOT_REGISTERED), and every call of those that are open gives the
 * code (0: FWP_E_SESSION_ABORTED). Starts it again: sessions from before are dead for good (FWP_E_SESSION_ABORTED).
 * Does nothing where it is stopped, or runs, already. */
void wfpsa_store_stop(struct wfpsa_store *store, uint32_t code);
void wfpsa_store_start(struct wfpsa_store *store);

/* Events that a subscription can hold, for subscriptions from now on (at first 65536); `held`: none is delivered
 * until it is 0 again. */
void wfpsa_store_notifications(struct wfpsa_store *store, uint32_t capacity, int held);

/* The index-th switch, NULL past the last. */
const struct wfpsa_switch *wfpsa_switch_at(uint32_t index);

/* Sets a switch. Fails: 0 where there is no such switch or choice. */
int wfpsa_store_switch(struct wfpsa_store *store, const char *name, const char *choice);

void wfpsa_embedded_live(struct wfpsa_live *live);

/* Bytes of the block that a result of the engine's functions is, such as a page with all that it points to. The result
 * must be one that nobody has freed. */
uint64_t wfpsa_embedded_page_bytes(const void *result);

/* The index-th kind of wrong use seen: the OS function, what was wrong, and how often; 0 past the last. */
int wfpsa_embedded_misuse(uint32_t index, const char **function, const char **what, int64_t *count);
void wfpsa_embedded_forget_misuses(void);

/* The nth allocation of the library from now on (1: the next) fails, once; 0 cancels. */
void wfpsa_embedded_fail_allocation(uint64_t nth);

#endif
