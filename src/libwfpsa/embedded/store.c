/* The store: contexts by slot and by id, each with the versions that open enumerations may still want to see. */
#include "internal.h"

#include <string.h>

volatile int64_t live_stores;

wfpsa_mutex registry_lock = WFPSA_MUTEX_INITIALIZER;
static struct wfpsa_store *registry;
static UINT64 unnamed;
static int forks_are_safe;

#define INBOUND_TAIL_MS 60000
#define SLAB_RECORDS 256
#define NOTIFICATION_CAPACITY 65536
#define FIRST_ID 0x100000001u

/* ---- names and life ---- */

static UINT32
length_of(const WCHAR *text)
{
    UINT32 length = 0;
    while (text[length]) {
        length++;
    }
    return length;
}

static int
same_name(const WCHAR *a, const WCHAR *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

static struct wfpsa_store *
find_locked(const WCHAR *name)
{
    struct wfpsa_store *store = registry;
    UINT64 process = wfpsa_process_id(); /* the stores of the process this one was forked from are not ours */
    while (store && !(store->process == process && same_name(store->name, name))) {
        store = store->next;
    }
    if (store) {
        store->references++;
    }
    return store;
}

struct wfpsa_store *
store_find(const WCHAR *name)
{
    wfpsa_mutex_lock(&registry_lock);
    struct wfpsa_store *store = find_locked(name);
    wfpsa_mutex_unlock(&registry_lock);
    return store;
}

/* A child has only the thread that forked. What it forks with is unlocked by that thread, in both processes. */
static void
before_fork(void)
{
    wfpsa_mutex_lock(&registry_lock);
    wfpsa_mutex_lock(&seats_lock);
    wfpsa_mutex_lock(&results_lock);
}

static void
after_fork(void)
{
    wfpsa_mutex_unlock(&results_lock);
    wfpsa_mutex_unlock(&seats_lock);
    wfpsa_mutex_unlock(&registry_lock);
}

/* With the lock of the registry, which forks wait for. */
static struct wfpsa_store *
store_new(void)
{
    if (!forks_are_safe && wfpsa_at_fork(before_fork, after_fork) != 0) {
        return NULL;
    }
    forks_are_safe = 1;
    struct wfpsa_store *store = wfpsa_allocate_zeroed(1, sizeof *store);
    if (!store) {
        return NULL;
    }
    if (wfpsa_mutex_init(&store->lock) != 0) {
        wfpsa_free(store);
        return NULL;
    }
    if (wfpsa_condition_init(&store->idle) != 0) {
        wfpsa_mutex_destroy(&store->lock);
        wfpsa_free(store);
        return NULL;
    }
    if (wfpsa_condition_init(&store->news) != 0) {
        wfpsa_condition_destroy(&store->idle);
        wfpsa_mutex_destroy(&store->lock);
        wfpsa_free(store);
        return NULL;
    }
    store->references = 1;
    store->process = wfpsa_process_id();
    store->next_id = FIRST_ID;
    store->dice = FIRST_ID;
    store->notification_capacity = NOTIFICATION_CAPACITY;
    wfpsa_store_rights(store, WFPSA_RIGHTS_ADMINISTRATOR);
    wfpsa_atomic_add(&live_stores, 1);
    return store;
}

struct wfpsa_store *
wfpsa_store_open(const uint16_t *name, int *created)
{
    wfpsa_mutex_lock(&registry_lock);
    struct wfpsa_store *store = name ? find_locked((const WCHAR *)name) : NULL;
    *created = !store;
    if (!store && (store = store_new()) != NULL) {
        if (name) {
            UINT32 length = length_of((const WCHAR *)name);
            memcpy(store->name, name, (length < WFPSA_STORE_NAME_MAX ? length : WFPSA_STORE_NAME_MAX) * sizeof *name);
        } else {
            WCHAR *at = store->name;
            *at++ = '#'; /* no target can spell it */
            for (UINT64 n = ++unnamed; n; n /= 16) {
                *at++ = (WCHAR) "0123456789abcdef"[n % 16];
            }
        }
        store->next = registry;
        registry = store;
    }
    wfpsa_mutex_unlock(&registry_lock);
    return store;
}

void
wfpsa_store_release(struct wfpsa_store *store)
{
    if (store->process != wfpsa_process_id()) {
        return; /* in a forked child: the locks may be held by threads that are not here */
    }
    wfpsa_mutex_lock(&registry_lock);
    if (--store->references > 0) {
        wfpsa_mutex_unlock(&registry_lock);
        return;
    }
    struct wfpsa_store **link = &registry;
    while (*link != store) {
        link = &(*link)->next;
    }
    *link = store->next;
    wfpsa_mutex_unlock(&registry_lock);

    notify_end(store);
    churn_end(store);
    for (UINT32 slot = 0; slot < store->slots_used; slot++) {
        for (struct record *record = store->slots[slot]; record; record = record->older) {
            wfpsa_free(record->inbound_traffic);
        }
    }
    for (UINT32 i = 0; i < store->slabs_length; i++) {
        wfpsa_free(store->slabs[i]);
    }
    for (UINT32 i = 0; i < store->shapes_size; i++) {
        for (struct shape *shape = store->shapes[i], *next; shape; shape = next) {
            next = shape->next;
            wfpsa_free(shape);
        }
    }
    wfpsa_free(store->slots);
    wfpsa_free(store->free_slots);
    wfpsa_free(store->by_id.cells);
    wfpsa_free(store->by_traffic.cells);
    wfpsa_free(store->slabs);
    wfpsa_free(store->retired);
    wfpsa_free(store->timers);
    wfpsa_free(store->timer_places);
    wfpsa_free(store->shapes);
    wfpsa_condition_destroy(&store->news);
    wfpsa_condition_destroy(&store->idle);
    wfpsa_mutex_destroy(&store->lock);
    wfpsa_free(store);
    wfpsa_atomic_add(&live_stores, -1);
}

const uint16_t *
wfpsa_store_name(const struct wfpsa_store *store)
{
    return (const uint16_t *)store->name;
}

uint64_t
wfpsa_store_count(struct wfpsa_store *store)
{
    wfpsa_mutex_lock(&store->lock);
    store_settle(store);
    UINT64 count = store->count;
    wfpsa_mutex_unlock(&store->lock);
    return count;
}

/* ---- latency and rights ---- */

void
wfpsa_store_latency(struct wfpsa_store *store, uint64_t per_call_ns, uint64_t per_entry_ns)
{
    wfpsa_mutex_lock(&store->lock);
    store->call_latency_ns = per_call_ns;
    store->entry_latency_ns = per_entry_ns;
    wfpsa_mutex_unlock(&store->lock);
}

void
wfpsa_store_rights(struct wfpsa_store *store, enum wfpsa_rights rights)
{
    /* The generic rights of the default access list: reference, section 3.5. */
    const UINT32 open = FWPM_ACTRL_OPEN | FWPM_ACTRL_CLASSIFY;
    const UINT32 read = open | FWPM_ACTRL_BEGIN_READ_TXN | FWPM_ACTRL_READ | FWPM_ACTRL_READ_STATS;
    const UINT32 execute = FWPM_ACTRL_ENUM | FWPM_ACTRL_SUBSCRIBE;
    const UINT32 write = DELETE | FWPM_ACTRL_ADD | FWPM_ACTRL_ADD_LINK | FWPM_ACTRL_BEGIN_WRITE_TXN | FWPM_ACTRL_WRITE;
    UINT32 granted = open;
    switch (rights) {
    case WFPSA_RIGHTS_ADMINISTRATOR:
    case WFPSA_RIGHTS_NETWORK_OPERATOR:
        granted = read | execute | write;
        break;
    case WFPSA_RIGHTS_READ_ONLY:
        granted = read | execute;
        break;
    case WFPSA_RIGHTS_EVERYONE:
        break;
    }
    wfpsa_mutex_lock(&store->lock);
    store->rights = granted;
    wfpsa_mutex_unlock(&store->lock);
}

/* ---- random numbers: splitmix64, the same on every platform ---- */

UINT64
next_random(UINT64 *state)
{
    UINT64 z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

int
is_zero_guid(const GUID *guid)
{
    static const GUID zero;
    return memcmp(guid, &zero, sizeof zero) == 0;
}

/* ---- indexes of slots: by id, and by outbound traffic ---- */

typedef UINT64 (*hash_of)(const struct record *record);

static UINT64
hash_of_id(const struct record *record)
{
    return hash_of_number(record->id);
}

static UINT64
hash_of_traffic(const struct record *record)
{
    UINT64 words[4], hash = (UINT64)record->traffic.remote_port << 32 | record->traffic.local_port;
    memcpy(words, record->traffic.local, 16);
    memcpy(words + 2, record->traffic.remote, 16);
    for (int i = 0; i < 4; i++) {
        hash = (hash ^ words[i]) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 29;
    }
    return hash;
}

struct record *
store_present(const struct wfpsa_store *store, UINT32 slot)
{
    struct record *record = store->slots[slot];
    return record && record->died == UINT64_MAX ? record : NULL;
}

struct record *
store_lookup(struct wfpsa_store *store, UINT64 id)
{
    const struct hash_index *index = &store->by_id;
    UINT64 hash = hash_of_number(id);
    if (index->size == 0) {
        return NULL;
    }
    UINT32 at = index_home(index, hash), slot;
    while ((slot = index_next(index, hash, &at)) != PLACE_NONE) {
        if (store->slots[slot]->id == id) {
            return store->slots[slot];
        }
    }
    return NULL;
}

/* ---- the index by traffic: made when a call first adds an outbound SA, for looking for older duplicates ---- */

static int
is_indexed_by_traffic(const struct record *record)
{
    return record->out.policy != NULL;
}

/* An index of that many cells with the present records that belong into it; 0 without memory, and it is as before. */
static int
index_rebuild(struct wfpsa_store *store, struct hash_index *index, UINT32 size, hash_of hash,
              int (*belongs)(const struct record *record))
{
    UINT64 *cells = wfpsa_allocate_zeroed(size, sizeof *cells);
    if (!cells) {
        return 0;
    }
    wfpsa_free(index->cells);
    index->cells = cells;
    index->size = size;
    for (UINT32 slot = 0; slot < store->slots_used; slot++) {
        const struct record *record = store_present(store, slot);
        if (record && (!belongs || belongs(record))) {
            index_insert(index, hash(record), slot);
        }
    }
    return 1;
}

static int
same_traffic(const struct traffic *a, const struct traffic *b)
{
    return a->ip_version == b->ip_version && a->type == b->type && a->remote_port == b->remote_port &&
           a->local_port == b->local_port && a->ip_protocol == b->ip_protocol &&
           memcmp(a->local, b->local, a->ip_version == FWP_IP_VERSION_V4 ? 4 : 16) == 0 &&
           memcmp(a->remote, b->remote, a->ip_version == FWP_IP_VERSION_V4 ? 4 : 16) == 0;
}

int
store_index_traffic(struct wfpsa_store *store)
{
    return store->by_traffic.size > 0 || store->by_id.size == 0 ||
           index_rebuild(store, &store->by_traffic, store->by_id.size, hash_of_traffic, is_indexed_by_traffic);
}

struct record *
store_duplicate(const struct wfpsa_store *store, const struct record *record)
{
    const struct hash_index *index = &store->by_traffic;
    UINT64 hash = hash_of_traffic(record);
    UINT32 at = index_home(index, hash), slot;
    while ((slot = index_next(index, hash, &at)) != PLACE_NONE) {
        struct record *other = store->slots[slot];
        if (other != record && !other->expired && same_traffic(&other->traffic, &record->traffic)) {
            return other;
        }
    }
    return NULL;
}

/* ---- tallies ---- */

static UINT32
sas_of(const struct record *record)
{
    return (record->in.policy ? 1u : 0) + (record->out.policy ? 1u : 0);
}

/* Counts a present record in (1) or out (-1): what is there now. */
static void
tally(struct wfpsa_store *store, const struct record *record, int by)
{
    UINT32 sas = sas_of(record);
    store->tallies.active_sas += (UINT32)by * sas;
    store->tallies.active_tunnels += sas && record->traffic.type == IPSEC_TRAFFIC_TYPE_TUNNEL ? (UINT32)by : 0;
    store->tallies.pending += record->stage != STAGE_COMPLETE && !record->expired ? (UINT32)by : 0;
}

static void
enlist(struct wfpsa_store *store, struct record *record)
{
    tally(store, record, 1);
    if (store->by_traffic.size && is_indexed_by_traffic(record)) {
        index_insert(&store->by_traffic, hash_of_traffic(record), record->slot);
    }
}

static void
delist(struct wfpsa_store *store, const struct record *record)
{
    tally(store, record, -1);
    if (store->by_traffic.size && is_indexed_by_traffic(record)) {
        index_remove(&store->by_traffic, hash_of_traffic(record), record->slot);
    }
}

/* ---- records ---- */

static struct record *
record_new(struct wfpsa_store *store)
{
    if (!store->spare) {
        if (store->slabs_length == store->slabs_capacity) {
            UINT32 capacity = store->slabs_capacity ? store->slabs_capacity * 2 : 16;
            void **slabs = wfpsa_reallocate(store->slabs, capacity, sizeof *slabs);
            if (!slabs) {
                return NULL;
            }
            store->slabs = slabs;
            store->slabs_capacity = capacity;
        }
        struct record *slab = wfpsa_allocate(SLAB_RECORDS, sizeof *slab);
        if (!slab) {
            return NULL;
        }
        store->slabs[store->slabs_length++] = slab;
        for (UINT32 i = SLAB_RECORDS; i > 0; i--) {
            slab[i - 1].older = store->spare;
            store->spare = &slab[i - 1];
        }
    }
    struct record *record = store->spare;
    store->spare = record->older;
    return record;
}

static void
record_free(struct wfpsa_store *store, struct record *record)
{
    half_drop(store, &record->in);
    half_drop(store, &record->out);
    wfpsa_free(record->inbound_traffic);
    record->inbound_traffic = NULL;
    record->older = store->spare;
    store->spare = record;
}

/* A copy with traffic of its own, or NULL. */
static struct record *
record_copy(struct wfpsa_store *store, const struct record *record)
{
    struct traffic *traffic = NULL;
    if (record->inbound_traffic) {
        traffic = wfpsa_allocate(1, sizeof *traffic);
        if (!traffic) {
            return NULL;
        }
        *traffic = *record->inbound_traffic;
    }
    struct record *copy = record_new(store);
    if (!copy) {
        wfpsa_free(traffic);
        return NULL;
    }
    *copy = *record;
    copy->inbound_traffic = traffic;
    half_hold(&copy->in);
    half_hold(&copy->out);
    return copy;
}

/* Makes the queue of old versions able to take one more, moving it to the front where that frees half of it. */
static int
reserve_retired(struct wfpsa_store *store)
{
    if (store->retired_end < store->retired_capacity) {
        return 1;
    }
    if (store->retired_start > store->retired_capacity / 2) {
        memmove(store->retired, store->retired + store->retired_start,
                (size_t)(store->retired_end - store->retired_start) * sizeof *store->retired);
        store->retired_end -= store->retired_start;
        store->retired_start = 0;
        return 1;
    }
    UINT64 larger = store->retired_capacity ? store->retired_capacity * 2 : 64;
    struct record **moved = wfpsa_reallocate(store->retired, larger, sizeof *moved);
    if (!moved) {
        return 0;
    }
    store->retired = moved;
    store->retired_capacity = larger;
    return 1;
}

/* The arrays that are as long as there are slots; each may grow alone, without harm to the others. */
static int
reserve_slots(struct wfpsa_store *store, UINT64 capacity)
{
    struct record **slots = wfpsa_reallocate(store->slots, capacity, sizeof *slots);
    if (!slots) {
        return 0;
    }
    store->slots = slots;
    UINT32 *free_slots = wfpsa_reallocate(store->free_slots, capacity, sizeof *free_slots);
    if (!free_slots) {
        return 0;
    }
    store->free_slots = free_slots;
    struct timer *timers = wfpsa_reallocate(store->timers, capacity, sizeof *timers);
    if (!timers) {
        return 0;
    }
    store->timers = timers;
    UINT32 *places = wfpsa_reallocate(store->timer_places, capacity, sizeof *places);
    if (!places) {
        return 0;
    }
    store->timer_places = places;
    store->slots_capacity = (UINT32)capacity;
    return 1;
}

int
store_reserve(struct wfpsa_store *store, UINT64 count)
{
    UINT64 wanted = store->slots_used + (count > store->free_slots_length ? count - store->free_slots_length : 0);
    if (count > UINT32_MAX / 4 || wanted > UINT32_MAX / 4 || !reserve_retired(store)) {
        return 0;
    }
    if (wanted > store->slots_capacity) {
        UINT64 doubled = (UINT64)store->slots_capacity * 2;
        if (!reserve_slots(store, wanted > doubled ? wanted : doubled)) {
            return 0;
        }
    }
    if (store->by_id.size < wanted + wanted / 2) {
        UINT32 size = 256;
        while (size < wanted + wanted / 2) {
            size *= 2;
        }
        if (!index_rebuild(store, &store->by_id, size, hash_of_id, NULL)) {
            return 0;
        }
    }
    return store->by_traffic.size == 0 || store->by_traffic.size >= store->by_id.size ||
           index_rebuild(store, &store->by_traffic, store->by_id.size, hash_of_traffic, is_indexed_by_traffic);
}

struct record *
store_add(struct wfpsa_store *store, const struct record *prototype)
{
    if (store->free_slots_length == 0 && !store_reserve(store, 1)) {
        return NULL;
    }
    struct record *record = record_copy(store, prototype);
    if (!record) {
        return NULL;
    }
    record->slot = store->free_slots_length ? store->free_slots[--store->free_slots_length] : store->slots_used++;
    record->born = ++store->epoch;
    record->died = UINT64_MAX;
    record->older = NULL;
    record->expired = 0;
    record->tail_end = 0;
    record->in.since = record->out.since = store_now(store);
    store->slots[record->slot] = record;
    store->timer_places[record->slot] = 0;
    index_insert(&store->by_id, hash_of_id(record), record->slot);
    enlist(store, record);
    store->tallies.added += sas_of(record);
    store->count++;
    timer_set(store, record);
    return record;
}

const struct record *
store_seen(const struct wfpsa_store *store, UINT32 slot, UINT64 epoch)
{
    const struct record *record = store->slots[slot];
    while (record && record->born > epoch) {
        record = record->older;
    }
    return record && record->died > epoch ? record : NULL;
}

void
store_collect(struct wfpsa_store *store)
{
    UINT64 oldest = UINT64_MAX;
    if (store->retired_start == store->retired_end) {
        return;
    }
    for (struct enum_handle *handle = store->enum_handles; handle; handle = handle->next) {
        oldest = handle->live ? oldest : handle->epoch; /* newest first: the last one is the oldest */
    }
    while (store->retired_start < store->retired_end && store->retired[store->retired_start]->died <= oldest) {
        struct record *record = store->retired[store->retired_start++];
        struct record *newer = store->slots[record->slot];
        if (newer == record) {
            store->slots[record->slot] = NULL;
            store->free_slots[store->free_slots_length++] = record->slot;
        } else {
            while (newer->older != record) {
                newer = newer->older;
            }
            newer->older = NULL;
        }
        record_free(store, record);
    }
    if (store->retired_start == store->retired_end) {
        store->retired_start = store->retired_end = 0;
    }
}

/* Takes a present record out of all but its slot. */
static void
take_out(struct wfpsa_store *store, struct record *record)
{
    delist(store, record);
    timer_clear(store, record->slot);
    index_remove(&store->by_id, hash_of_id(record), record->slot);
    store->count--;
}

int
store_remove(struct wfpsa_store *store, struct record *record)
{
    if (!reserve_retired(store)) {
        return 0;
    }
    if (!(record->expired && SWITCHED(store, delete_event, 1))) { /* else it was told at its expiry */
        notify(store, IPSEC_SA_CONTEXT_EVENT_DELETE, record);
    }
    store->tallies.deleted += sas_of(record);
    take_out(store, record);
    record->died = ++store->epoch;
    store->retired[store->retired_end++] = record;
    store_collect(store);
    return 1;
}

void
store_withdraw(struct wfpsa_store *store, struct record *record)
{
    store->tallies.added -= sas_of(record);
    take_out(store, record);
    store->slots[record->slot] = NULL; /* no enumeration can have begun since: nobody wants to see it */
    store->free_slots[store->free_slots_length++] = record->slot;
    record_free(store, record);
}

struct record *
store_edit(struct wfpsa_store *store, struct record *record)
{
    struct record *present = record;
    if (store->snapshots) {
        if (!reserve_retired(store)) {
            return NULL;
        }
        present = record_copy(store, record);
        if (!present) {
            return NULL;
        }
    }
    delist(store, record);
    if (present != record) {
        present->born = ++store->epoch;
        present->older = record;
        record->died = present->born;
        store->slots[record->slot] = present;
        store->retired[store->retired_end++] = record;
    }
    return present;
}

void
store_edited(struct wfpsa_store *store, struct record *record)
{
    enlist(store, record);
    timer_set(store, record);
    store_collect(store);
}

void
store_drop_half(struct wfpsa_store *store, struct record *record, struct half *half)
{
    if (record->inbound_traffic) {
        if (half == &record->out) { /* now the only one */
            record->traffic = *record->inbound_traffic;
        }
        wfpsa_free(record->inbound_traffic);
        record->inbound_traffic = NULL;
    }
    store->tallies.deleted += half->policy ? 1 : 0;
    half_drop(store, half);
    memset(half, 0, sizeof *half);
}

int
store_expire(struct wfpsa_store *store, struct record *record)
{
    if (!record->in.policy) {
        return store_remove(store, record); /* nothing is left to linger */
    }
    record = store_edit(store, record);
    if (!record) {
        return 0;
    }
    record->expired = 1;
    record->tail_end = store_now(store) + INBOUND_TAIL_MS;
    if (SWITCHED(store, delete_event, 1)) {
        notify(store, IPSEC_SA_CONTEXT_EVENT_DELETE, record);
    }
    if (record->out.policy) {
        store_drop_half(store, record, &record->out);
    }
    store_edited(store, record);
    return 1;
}

/* ---- a restart of the service ---- */

/* Gives every context another id; in the opposite order, so that where ids are given again they are another's. */
static void
renumber(struct wfpsa_store *store)
{
    memset(store->by_id.cells, 0, store->by_id.size * sizeof *store->by_id.cells);
    for (UINT32 slot = store->slots_used; slot > 0; slot--) {
        struct record *record = store_present(store, slot - 1);
        if (record) {
            store->next_id += store->next_id == record->id; /* its own again is not another */
            record->id = store->next_id++;
            index_insert(&store->by_id, hash_of_id(record), record->slot);
        }
    }
}

/* Takes all contexts away, without a word to anyone. */
static void
forget_all(struct wfpsa_store *store)
{
    for (UINT32 slot = 0; slot < store->slots_used; slot++) {
        struct record *record = store->slots[slot];
        if (record) {
            record_free(store, record);
            store->slots[slot] = NULL;
        }
        store->timer_places[slot] = 0;
    }
    store->slots_used = 0;
    store->free_slots_length = 0;
    store->timers_length = 0;
    store->count = 0;
    if (store->by_id.size) {
        memset(store->by_id.cells, 0, store->by_id.size * sizeof *store->by_id.cells);
    }
    if (store->by_traffic.size) {
        memset(store->by_traffic.cells, 0, store->by_traffic.size * sizeof *store->by_traffic.cells);
    }
    memset(&store->tallies, 0, sizeof store->tallies);
}

/* Called when no enumeration keeps a version any more. */
void
store_restart(struct wfpsa_store *store)
{
    store_collect(store);
    if (SWITCHED(store, ids_after_restart, 1)) {
        store->next_id = FIRST_ID;
    }
    if (SWITCHED(store, contexts_after_restart, 0)) {
        forget_all(store);
    } else if (store->by_id.size) {
        renumber(store);
        store->tallies.added = store->tallies.active_sas; /* the counters begin anew with what is there */
        store->tallies.deleted = 0;
        store->tallies.rekeyed = 0;
    }
}
