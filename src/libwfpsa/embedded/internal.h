/* What the files of the embedded engine share: the store, its records and the shapes that records have in common. */
#ifndef WFPSA_EMBEDDED_INTERNAL_H
#define WFPSA_EMBEDDED_INTERNAL_H

#include "../platform.h"

#include "../memory.h"
#include "wfpsa/backend.h"
#include "wfpsa/embedded.h"

/* ---- shapes: what many SAs have in common is kept once for each store and never changes ---- */

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

struct identity {
    const WCHAR *main_mode;     /* or NULL */
    const WCHAR *extended_mode; /* or NULL */
    UINT32 main_mode_bytes;     /* the NUL included */
    UINT32 extended_mode_bytes;
};

struct filter {
    UINT64 id;
    const WCHAR *name;
    UINT32 name_bytes;
    UINT32 conditions;
};

/* An immutable thing that records point to, with the room it takes in a page. */
struct shape {
    UINT32 page_bytes;
    union {
        struct policy policy;
        struct identity identity;
        struct filter filter;
    };
};

/* ---- records ---- */

struct half {
    const struct shape *policy;   /* NULL: this direction has no SA */
    const struct shape *identity; /* or NULL */
    const struct shape *filter;   /* or NULL */
    UINT64 mm_sa_id;
    UINT64 qm_filter_id;
    UINT64 filter_id; /* ipsecFilterId or tunnelPolicyId */
    UINT64 virtual_tunnel_id;
    UINT64 traffic_selector_id;
    GUID lookup_context;
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

/* One version of one context. A version is immutable while an enumeration that began in [born, died) is open. */
struct record {
    UINT64 id;
    UINT64 born, died;    /* epochs; died is UINT64_MAX while it is the present one */
    struct record *older; /* the version before, while an enumeration may still want it */
    struct record *newer;
    UINT32 slot;
    UINT32 expired;                  /* in its inbound tail */
    struct traffic *inbound_traffic; /* NULL: the same as traffic */
    struct traffic traffic;          /* the outbound's, or the only one */
    struct half in, out;
};

struct tail {
    UINT64 until; /* milliseconds on the store's clock */
    UINT64 id;
};

struct enum_handle;
struct session;

enum function {
#define FUNCTION_NAME(member, function) FUNCTION_##function,
    WFPSA_BACKEND_FUNCTIONS(FUNCTION_NAME)
#undef FUNCTION_NAME
        FUNCTION_COUNT
};

struct fault {
    UINT64 calls_left; /* 0: none planned */
    DWORD code;
};

struct wfpsa_store {
    WCHAR name[WFPSA_STORE_NAME_MAX + 1];
    struct wfpsa_store *next; /* in the registry, whose lock guards this and the next member */
    UINT64 references;
    UINT64 process; /* that made it */

    wfpsa_mutex lock;     /* guards all below */
    wfpsa_condition idle; /* a call has left, an enumeration has finished its page */

    struct record **slots; /* by slot: the newest version, or NULL where the slot is free */
    UINT32 slots_used, slots_capacity;
    UINT32 *free_slots;
    UINT32 free_slots_length; /* never above slots_capacity, which is also its capacity */
    UINT32 *index;            /* open addressing, by id: slot + 1, 0 free */
    UINT32 index_size;        /* a power of two, or 0 */
    UINT64 count;             /* present contexts */
    UINT64 next_id;
    UINT64 epoch;
    struct record *spare; /* records to use again, linked by older */
    void **slabs;
    UINT32 slabs_length, slabs_capacity;
    struct record **retired; /* versions that open enumerations may want, by rising died */
    UINT64 retired_start, retired_end, retired_capacity;
    struct tail *tails; /* by rising until */
    UINT64 tails_start, tails_end, tails_capacity;
    struct shape **shapes; /* all of them, to be freed */
    UINT32 shapes_length, shapes_capacity;

    struct enum_handle *enum_handles; /* newest first */

    int manual_clock;
    UINT64 clock_offset; /* milliseconds added to real time, or the manual clock itself */
    UINT64 call_latency_ns, entry_latency_ns;
    UINT32 rights; /* FWPM_ACTRL_* and DELETE */
    struct fault faults[FUNCTION_COUNT];
};

#define SESSION_MAGIC 0x5E5510A5u
#define ENUM_HANDLE_MAGIC 0xE27ADE55u

struct session {
    UINT32 magic;
    UINT32 rights;
    UINT32 flags; /* FWPM_SESSION_FLAG_* */
    UINT32 calls; /* in flight */
    struct wfpsa_store *store;
};

/* A subnet of a template, or one host. */
struct condition {
    UINT32 ip_version; /* FWP_IP_VERSION_NONE: any address */
    UINT32 v4_address, v4_mask;
    UINT8 v6_address[16];
    UINT8 v6_prefix;
};

struct enum_handle {
    UINT32 magic;
    UINT32 filling; /* pages being built from records that this handle keeps */
    struct session *session;
    UINT64 epoch;
    UINT32 next_slot, end_slot;
    struct condition local, remote;
    struct enum_handle *next;
};

/* ---- store.c: called with the store's lock held, but for open and release ---- */

/* The store of that name with one more reference, or NULL. */
struct wfpsa_store *store_find(const WCHAR *name);

struct record *store_lookup(struct wfpsa_store *store, UINT64 id);

/* Takes over a copy of the record (its links and epochs aside) and of its inbound_traffic; 0 without memory. */
int store_add(struct wfpsa_store *store, const struct record *prototype);

/* Makes room for `count` more contexts; 0 without memory. */
int store_reserve(struct wfpsa_store *store, UINT64 count);

/* Each takes effect whole or not at all; 0 without memory. */
int store_remove(struct wfpsa_store *store, struct record *record);
int store_expire(struct wfpsa_store *store, struct record *record);

/* Removes the contexts whose inbound tail has ended. */
void store_settle(struct wfpsa_store *store);

/* The version of a slot that an enumeration begun at that epoch sees, or NULL. */
const struct record *store_seen(const struct wfpsa_store *store, UINT32 slot, UINT64 epoch);

/* Frees the versions that no open enumeration wants any more. */
void store_collect(struct wfpsa_store *store);

/* Keeps a shape for the life of the store; NULL without memory. The texts of identities and filters are copied. */
const struct shape *store_policy(struct wfpsa_store *store, const struct policy *policy);
const struct shape *store_identity(struct wfpsa_store *store, const WCHAR *main_mode, const WCHAR *extended_mode);
const struct shape *store_filter(struct wfpsa_store *store, UINT64 id, const WCHAR *name, UINT32 conditions);

/* ---- page.c ---- */

/* One block with the array of pointers, the contexts of that structure version (0 or 1) and all they point to; NULL
 * without memory. */
void *page_build(const struct record *const *records, UINT32 count, int version);

/* The same for one context, without the array. */
void *page_build_one(const struct record *record, int version);

void WINAPI page_free(void **p);

/* ---- faults.c ---- */

/* Begins a call: refuses a bad handle, plays the planned fault, sleeps the call's latency. On success the session's
 * store is locked. */
DWORD call_enter(HANDLE engineHandle, enum function function, UINT32 rights, struct session **session);

/* Ends it: unlocks. */
DWORD call_leave(struct session *session, DWORD code);

/* The planned fault of a function, if this is its call; called with the lock held. */
DWORD fault_take(struct wfpsa_store *store, enum function function);

/* ---- live counters ---- */

extern volatile int64_t live_stores;                     /* store.c */
extern volatile int64_t live_engines, live_enum_handles; /* faults.c */
extern volatile int64_t live_pages;                      /* page.c */

#endif
