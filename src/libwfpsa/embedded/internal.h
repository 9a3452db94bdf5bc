/* What the files of the embedded engine share: the store, its records, the shapes that records have in common, and the
 * gate of every call. */
#ifndef WFPSA_EMBEDDED_INTERNAL_H
#define WFPSA_EMBEDDED_INTERNAL_H

#include "../platform.h"

#include "../hash_index.h"
#include "../memory.h"
#include "wfpsa/backend.h"
#include "wfpsa/embedded.h"

struct session;
struct waiter;
struct churn;

/* ---- shapes: what many SAs have in common is kept once for each store, as long as a record has it ---- */

struct sa_shape {
    UINT32 transform;
    UINT32 auth_type;
    UINT32 cipher_type;
    UINT8 auth_config;
    UINT8 cipher_config;
    UINT8 auth_key; /* bytes */
    UINT8 cipher_key;
    UINT8 no_information; /* the pointer for the transform is NULL */
    UINT8 padding[3];
};

struct policy {
    UINT32 flags;
    UINT32 lifetime_seconds;
    UINT32 lifetime_kilobytes;
    UINT32 lifetime_packets;
    UINT32 idle_timeout_seconds;
    UINT32 nd_allow_clear_timeout_seconds;
    UINT32 pfs_group;
    UINT32 bundle_ip_version;
    UINT32 num_sas; /* as reported: may be absurd */
    UINT32 listed;  /* SAs that there are: 0 (saList is NULL), 1 or 2 */
    struct sa_shape sas[2];
    GUID key_module;
    UINT32 has_key_module;
    UINT32 key_module_state; /* bytes of the opaque blob */
};

/* The texts follow the shape, one after the other, their NULs included. */
struct identity {
    UINT32 main_mode_bytes; /* 0: NULL */
    UINT32 extended_mode_bytes;
};

/* The name follows the shape. */
struct filter {
    UINT64 id;
    UINT32 name_bytes; /* 0: NULL */
    UINT32 conditions;
};

/* What few SAs have. */
struct rarity {
    GUID lookup_context;
    UINT64 virtual_tunnel_id;
    UINT64 traffic_selector_id;
};

/* Of these a store holds one of each content; it never changes. */
struct shape {
    struct shape *next; /* of the same bucket */
    UINT32 hash;
    UINT32 references;
    UINT32 content_bytes; /* from the union on, texts included: what makes two shapes the same */
    UINT32 page_bytes;    /* the room it takes in a page */
    union {
        struct policy policy;
        struct identity identity;
        struct filter filter;
        struct rarity rarity;
    };
};

/* ---- records ---- */

struct half {
    struct shape *policy;   /* NULL: this direction has no SA */
    struct shape *identity; /* or NULL, as the next two */
    struct shape *filter;
    struct shape *rarity;
    UINT64 since; /* when it was added, on the store's clock */
    UINT64 mm_sa_id;
    UINT64 qm_filter_id;
    UINT64 filter_id; /* ipsecFilterId or tunnelPolicyId */
    UINT32 spi;
    UINT32 ah_spi;
    UINT32 qm_sa_id;
    UINT32 nap_context;
    UINT32 peer_private_address;
    UINT16 udp_local_port; /* both 0: no encapsulation */
    UINT16 udp_remote_port;
    UINT32 ip_version; /* of the details */
    UINT32 padding;
};

struct traffic {
    UINT8 local[16]; /* IPv4: the first four bytes, a UINT32 in host order, as in the union of the SDK */
    UINT8 remote[16];
    UINT64 local_interface_luid;
    UINT32 real_profile_id;
    UINT32 ip_version;
    UINT32 type;
    UINT16 remote_port;
    UINT16 local_port;
    UINT8 ip_protocol;
};

/* How far the keying of a context has come. */
enum stage { STAGE_CREATED, STAGE_SPI, STAGE_INBOUND, STAGE_COMPLETE };

/* One version of one context. A version is immutable while an enumeration that began in [born, died) is open. */
struct record {
    UINT64 id;
    UINT64 born, died;    /* epochs; died is UINT64_MAX while it is the present one */
    struct record *older; /* the version before, while an enumeration may still want it */
    UINT64 tail_end;      /* of an expired one: when its inbound SA goes, on the store's clock */
    UINT32 slot;
    UINT8 expired;
    UINT8 stage; /* enum stage */
    UINT8 padding[2];
    struct traffic *inbound_traffic; /* NULL: the same as traffic */
    struct traffic traffic;          /* the outbound's, or the only one */
    struct half in, out;
};

struct timer {
    UINT64 due; /* milliseconds on the store's clock */
    UINT32 slot;
    UINT32 padding;
};

enum function {
#define FUNCTION_NAME(member, function) FUNCTION_##function,
    WFPSA_BACKEND_FUNCTIONS(FUNCTION_NAME)
#undef FUNCTION_NAME
        FUNCTION_COUNT
};

enum switch_name {
#define SWITCH_NAME(name, choices, meaning) SWITCH_##name,
    WFPSA_SWITCHES(SWITCH_NAME)
#undef SWITCH_NAME
        SWITCH_COUNT
};

struct fault {
    UINT64 calls_left; /* 0: none planned */
    DWORD code;
};

/* What IPsecGetStatistics1 tells; an SA is one direction of a context. */
struct tallies {
    UINT32 active_sas;
    UINT32 active_tunnels;
    UINT32 pending; /* contexts that are not complete */
    UINT32 added;
    UINT32 deleted;
    UINT32 rekeyed;
};

struct wfpsa_store {
    WCHAR name[WFPSA_STORE_NAME_MAX + 1];
    struct wfpsa_store *next; /* in the registry, whose lock guards this and the next member */
    UINT64 references;
    UINT64 process; /* that made it */

    wfpsa_mutex lock;     /* guards all below */
    wfpsa_condition idle; /* a call has left, an enumeration has finished its page, a callback has returned */

    struct record **slots; /* by slot: the newest version, or NULL where the slot is free */
    UINT32 slots_used, slots_capacity;
    UINT32 *free_slots;
    UINT32 free_slots_length; /* never above slots_capacity, which is also its capacity */
    struct hash_index by_id;
    struct hash_index by_traffic; /* of contexts with an outbound SA; size 0 until the first is added by a call */
    UINT64 count;                 /* present contexts */
    UINT64 next_id;
    UINT64 epoch;
    UINT64 dice;          /* SPIs come from here */
    struct record *spare; /* records to use again, linked by older */
    void **slabs;
    UINT32 slabs_length, slabs_capacity;
    struct record **retired; /* versions that open enumerations may want, by rising died */
    UINT64 retired_start, retired_end, retired_capacity;
    struct shape **shapes; /* buckets */
    UINT32 shapes_size;    /* a power of two, or 0 */
    UINT32 shapes_count;
    struct tallies tallies;

    struct timer *timers; /* a heap by due; slots_capacity long */
    UINT32 timers_length;
    UINT32 *timer_places; /* by slot: place in the heap + 1, or 0 */
    struct churn *churn;

    struct session *sessions;
    struct enum_handle *enum_handles; /* newest first */
    UINT32 snapshots;                 /* of them those that keep versions */
    struct session *writer;           /* who holds the transaction lock for writing, once or more often */
    UINT32 writer_depth;
    UINT32 readers; /* how often it is held for reading */
    struct waiter *waiters;

    struct subscription *subscriptions; /* the next to be served first */
    struct wfpsa_thread notifier;
    int notifier_runs, notifier_stop;
    wfpsa_condition news; /* for the notifier: an event, a subscription, a change of the clock, or its end */
    UINT32 notification_capacity;
    int notifications_held;

    int stopped;
    int manual_clock;
    UINT64 clock_offset; /* milliseconds added to real time, or the manual clock itself */
    UINT64 call_latency_ns, entry_latency_ns;
    UINT32 rights; /* FWPM_ACTRL_* and DELETE */
    UINT8 switches[SWITCH_COUNT];
    struct fault faults[FUNCTION_COUNT];
};

/* Whether a switch stands on its n-th choice, the default being 0. */
#define SWITCHED(store, name, n) ((store)->switches[SWITCH_##name] == (n))

struct session {
    struct wfpsa_store *store;
    struct session *next;
    HANDLE handle;
    UINT32 seat;
    UINT32 rights;
    UINT32 flags; /* FWPM_SESSION_FLAG_* */
    UINT32 wait_ms;
    GUID key;
    DWORD dead; /* what every call gives, but for the end of the session; 0 while it lives */
    int closing;
    UINT8 transaction; /* enum transaction */
    UINT64 transaction_end;
};

enum transaction { TRANSACTION_NONE, TRANSACTION_READ, TRANSACTION_WRITE, TRANSACTION_ABORTED };

/* A subnet of a template, or one host. */
struct condition {
    UINT32 ip_version; /* FWP_IP_VERSION_NONE: any address */
    UINT32 v4_address, v4_mask;
    UINT8 v6_address[16];
    UINT8 v6_prefix;
};

struct conditions {
    struct condition local, remote;
};

struct enum_handle {
    struct enum_handle *next;
    struct session *session;
    UINT32 filling; /* pages being built from records that this handle keeps */
    UINT32 live;    /* it shows each moment's contents and keeps nothing */
    UINT64 epoch;
    UINT32 next_slot, end_slot;
    struct conditions wanted;
};

/* ---- conditions.c ---- */

/* The conditions of a template, NULL for none; an OS code. */
DWORD conditions_parse(const struct wfpsa_store *store, const IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 *given,
                       struct conditions *conditions);

/* Whether one of the context's SAs lies in both subnets; for one that has none yet, whether its traffic does where
 * that is asked for. */
int conditions_hold(const struct conditions *conditions, const struct record *record, int even_without_sa);

/* ---- store.c: called with the store's lock held, but for open and release ---- */

/* The store of that name with one more reference, or NULL. */
struct wfpsa_store *store_find(const WCHAR *name);

struct record *store_lookup(struct wfpsa_store *store, UINT64 id);

/* Takes a copy of the record (its place, epochs and expiry aside); the shapes are held once more. NULL without memory.
 */
struct record *store_add(struct wfpsa_store *store, const struct record *prototype);

/* Makes room for `count` more contexts; 0 without memory. */
int store_reserve(struct wfpsa_store *store, UINT64 count);

/* The version of a present record that may be changed: a new one where an enumeration keeps the old; NULL without
 * memory. It is out of the tallies and the index by traffic until store_edited. */
struct record *store_edit(struct wfpsa_store *store, struct record *record);
void store_edited(struct wfpsa_store *store, struct record *record);

/* Takes the SA of one direction away from a record between store_edit and store_edited. */
void store_drop_half(struct wfpsa_store *store, struct record *record, struct half *half);

/* Each takes effect whole or not at all, and tells those who subscribed; 0 without memory. */
int store_remove(struct wfpsa_store *store, struct record *record);
int store_expire(struct wfpsa_store *store, struct record *record);

/* Takes back the latest addition of a seeding that failed, as if it had not been. */
void store_withdraw(struct wfpsa_store *store, struct record *record);

/* The version of a slot that an enumeration begun at that epoch sees, or NULL. */
const struct record *store_seen(const struct wfpsa_store *store, UINT32 slot, UINT64 epoch);

/* Frees the versions that no open enumeration wants any more. */
void store_collect(struct wfpsa_store *store);

/* The present record of a slot, or NULL. */
struct record *store_present(const struct wfpsa_store *store, UINT32 slot);

/* Makes the index that store_duplicate reads, if there is none yet; 0 without memory. */
int store_index_traffic(struct wfpsa_store *store);

/* Another context with an outbound SA for the same outbound traffic; NULL for none. */
struct record *store_duplicate(const struct wfpsa_store *store, const struct record *record);

/* What a restart of the service leaves. */
void store_restart(struct wfpsa_store *store);

int is_zero_guid(const GUID *guid);
UINT64 next_random(UINT64 *state);

/* ---- shapes.c ---- */

/* The shape of that content with one more reference; NULL without memory. */
struct shape *shape_of_policy(struct wfpsa_store *store, const struct policy *policy);
struct shape *shape_of_identity(struct wfpsa_store *store, const WCHAR *main_mode, const WCHAR *extended_mode);
struct shape *shape_of_filter(struct wfpsa_store *store, UINT64 id, const WCHAR *name, UINT32 conditions);
struct shape *shape_of_rarity(struct wfpsa_store *store, const struct rarity *rarity);

/* NULL is allowed. */
void shape_hold(struct shape *shape);
void shape_drop(struct wfpsa_store *store, struct shape *shape);
void half_hold(struct half *half);
void half_drop(struct wfpsa_store *store, struct half *half);

/* ---- timers.c ---- */

UINT64 store_now(const struct wfpsa_store *store);

/* Sets the timer of a present record anew, by what it has; a record without one needs none. */
void timer_set(struct wfpsa_store *store, const struct record *record);
void timer_clear(struct wfpsa_store *store, UINT32 slot);

/* Ends what is due: inbound tails, lifetimes; and lets the churn catch up. */
void store_settle(struct wfpsa_store *store);

/* How long, in real nanoseconds, nothing becomes due by itself; UINT64_MAX for ever. */
UINT64 store_quiet_ns(const struct wfpsa_store *store);

/* ---- page.c ---- */

/* One block with the array of pointers, the contexts of that structure version (0 or 1) and all they point to; NULL
 * without memory. `keys` is a choice of the switch of that name. */
void *page_build(const struct record *const *records, UINT32 count, int version, int keys);

/* The same for one context, without the array. */
void *page_build_one(const struct record *record, int version, int keys);

/* An empty result of that many bytes. */
void *page_new(size_t bytes);

void WINAPI page_free(void **p);

/* Reports results that were written to after they were freed. */
void page_look_at_freed(void);

/* ---- sessions.c ---- */

/* What a call does to the contexts, and where it is refused. */
enum access {
    ACCESS_NONE = 0, /* does not wait for the transaction lock */
    ACCESS_READ = 1,
    ACCESS_WRITE = 2,
    ACCESS_NOT_IN_TRANSACTION = 4, /* FWP_E_TXN_IN_PROGRESS */
    ACCESS_NOT_IN_DYNAMIC = 8,     /* FWP_E_DYNAMIC_SESSION_IN_PROGRESS */
    ACCESS_SWITCHED = 16           /* refused in a transaction where the switch transaction_changes says so */
};

struct call {
    struct session *session;
    struct wfpsa_store *store;
    enum function function;
    int holds_read, holds_write; /* the transaction lock, until the call leaves */
};

DWORD WINAPI engine_open(const WCHAR *serverName, UINT32 authnService, SEC_WINNT_AUTH_IDENTITY_W *authIdentity,
                         const FWPM_SESSION0 *session, HANDLE *engineHandle);
DWORD WINAPI engine_close(HANDLE engineHandle);
DWORD WINAPI transaction_begin(HANDLE engineHandle, UINT32 flags);
DWORD WINAPI transaction_commit(HANDLE engineHandle);
DWORD WINAPI transaction_abort(HANDLE engineHandle);

/* Begins a call: refuses a bad handle, plays the planned fault, sleeps the call's latency, asks for the rights, waits
 * for the transaction lock. On success the store is locked, and settled. */
DWORD call_enter(HANDLE engineHandle, enum function function, UINT32 rights, unsigned access, struct call *call);

/* Ends it: unlocks. */
DWORD call_leave(struct call *call, DWORD code);

/* ---- engine.c ---- */

/* Unlinks and frees a handle once no page is being built from it; called with the lock held. */
void enum_handle_free(struct wfpsa_store *store, struct enum_handle *handle);

/* Lets no open enumeration show or keep anything any more; called with the lock held. */
void enum_handles_stop(struct wfpsa_store *store);

/* ---- contexts.c ---- */

DWORD WINAPI sa_context_expire(HANDLE engineHandle, UINT64 id);
DWORD WINAPI sa_context_delete_by_id(HANDLE engineHandle, UINT64 id);
DWORD WINAPI sa_context_create1(HANDLE engineHandle, const IPSEC_TRAFFIC1 *outboundTraffic,
                                const IPSEC_VIRTUAL_IF_TUNNEL_INFO0 *virtualIfTunnelInfo, UINT64 *inboundFilterId,
                                UINT64 *id);
DWORD WINAPI sa_context_get_spi1(HANDLE engineHandle, UINT64 id, const IPSEC_GETSPI1 *getSpi,
                                 IPSEC_SA_SPI *inboundSpi);
DWORD WINAPI sa_context_set_spi(HANDLE engineHandle, UINT64 id, const IPSEC_GETSPI1 *getSpi, IPSEC_SA_SPI inboundSpi);
DWORD WINAPI sa_context_add_inbound1(HANDLE engineHandle, UINT64 id, const IPSEC_SA_BUNDLE1 *inboundBundle);
DWORD WINAPI sa_context_add_outbound1(HANDLE engineHandle, UINT64 id, const IPSEC_SA_BUNDLE1 *outboundBundle);
DWORD WINAPI sa_context_update(HANDLE engineHandle, UINT64 flags, const IPSEC_SA_CONTEXT1 *newValues);
DWORD WINAPI get_statistics1(HANDLE engineHandle, IPSEC_STATISTICS1 *ipsecStatistics);

#define KEY_BYTES_MAX 255u
#define STATE_BYTES_MAX 65536u

/* What both kinds of givers, callers and recordings, put into a record as it is; a policy without its SAs and its key
 * module. */
void traffic_copy(const IPSEC_TRAFFIC1 *given, struct traffic *traffic);
void policy_copy(const IPSEC_SA_BUNDLE1 *given, struct policy *policy);

/* Makes the SA of a bundle, with that policy made of it; it holds its shapes. What is not of the bundle (the filters,
 * the encapsulation, tunnel ids in `rarity`) is the caller's. Tokens and credentials are not kept. */
DWORD half_make(struct wfpsa_store *store, const struct policy *policy, const IPSEC_SA_BUNDLE1 *given,
                UINT32 ip_version, struct rarity *rarity, struct half *half);
void set_encapsulation(struct half *half, const IPSEC_V4_UDP_ENCAPSULATION0 *given);

/* Adds the context of both halves, whose outbound traffic is in the record; NULL without memory. */
struct record *store_add_given(struct wfpsa_store *store, struct record *made, struct traffic *inbound);

/* The id for the next context of the engine's own, clear of one that was given. */
UINT64 id_after(UINT64 next_id, UINT64 given);

/* Tells subscribers of a whole context's addition, at once or as complete as the switch add_event wants it. */
void tell_added(struct wfpsa_store *store, const struct record *record);

/* ---- notify.c ---- */

DWORD WINAPI sa_context_subscribe(HANDLE engineHandle, const IPSEC_SA_CONTEXT_SUBSCRIPTION0 *subscription,
                                  IPSEC_SA_CONTEXT_CALLBACK0 callback, void *context, HANDLE *eventsHandle);
DWORD WINAPI sa_context_unsubscribe(HANDLE engineHandle, HANDLE eventsHandle);
DWORD WINAPI sa_context_subscriptions_get(HANDLE engineHandle, IPSEC_SA_CONTEXT_SUBSCRIPTION0 ***entries,
                                          UINT32 *numEntries);

/* Tells those who asked for such contexts; called with the lock held. An event without room or memory is lost. */
void notify(struct wfpsa_store *store, IPSEC_SA_CONTEXT_EVENT_TYPE0 type, const struct record *record);

/* Whether the calling thread runs a callback of this session; called with the lock held. */
int notify_is_inside(const struct session *session);

/* Ends the session's subscriptions, waiting for a running callback; called with the lock held. */
void notify_end_session(struct session *session);

/* Forgets what the session's subscriptions have not told yet, for good. */
void notify_silence(struct session *session);

/* Ends the thread of a store that nobody holds any more. */
void notify_end(struct wfpsa_store *store);

/* ---- seed.c ---- */

void churn_catch_up(struct wfpsa_store *store);

/* From now on, as if it had been asked for now. */
void churn_begin(struct wfpsa_store *store);
UINT64 churn_due(const struct wfpsa_store *store);
void churn_end(struct wfpsa_store *store);

/* ---- faults.c ---- */

/* The planned fault of a function, if this is its call; called with the lock held. */
DWORD fault_take(struct wfpsa_store *store, enum function function);

enum misuse {
    MISUSE_FREED_TWICE,
    MISUSE_FREED_FOREIGN,
    MISUSE_WRITTEN_AFTER_FREE,
    MISUSE_ENGINE_HANDLE,
    MISUSE_ENUM_HANDLE,
    MISUSE_EVENTS_HANDLE,
    MISUSE_OTHER_SESSION,
    MISUSE_OWN_CALLBACK,
    MISUSE_COUNT
};

/* Counts a wrong use of a function, and says so on stderr the first time. */
void misused(enum function function, enum misuse misuse);

/* ---- the locks that are the process's, in the order in which a fork takes them ---- */

extern wfpsa_mutex registry_lock; /* store.c */
extern wfpsa_mutex seats_lock;    /* sessions.c */
extern wfpsa_mutex results_lock;  /* page.c */

/* ---- live counters ---- */

extern volatile int64_t live_stores;                     /* store.c */
extern volatile int64_t live_engines, live_transactions; /* sessions.c */
extern volatile int64_t live_enum_handles;               /* engine.c */
extern volatile int64_t live_pages;                      /* page.c */
extern volatile int64_t live_subscriptions;              /* notify.c */

#endif
