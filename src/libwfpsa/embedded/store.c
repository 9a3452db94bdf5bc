/* The store: contexts by slot and by id, each with the versions that open enumerations may still want to see. */
#include "internal.h"

#include <string.h>

volatile int64_t live_stores;

static wfpsa_mutex registry_lock = WFPSA_MUTEX_INITIALIZER;
static struct wfpsa_store *registry;
static UINT64 unnamed;

#define INBOUND_TAIL_MS 60000
#define SLAB_RECORDS 256
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
    while (store && !same_name(store->name, name)) {
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

static struct wfpsa_store *
store_new(void)
{
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
    store->references = 1;
    store->process = wfpsa_process_id();
    store->next_id = FIRST_ID;
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

    for (UINT32 slot = 0; slot < store->slots_used; slot++) {
        for (struct record *record = store->slots[slot]; record; record = record->older) {
            wfpsa_free(record->inbound_traffic);
        }
    }
    for (UINT32 i = 0; i < store->slabs_length; i++) {
        wfpsa_free(store->slabs[i]);
    }
    for (UINT32 i = 0; i < store->shapes_length; i++) {
        wfpsa_free(store->shapes[i]);
    }
    wfpsa_free(store->slots);
    wfpsa_free(store->free_slots);
    wfpsa_free(store->index);
    wfpsa_free(store->slabs);
    wfpsa_free(store->retired);
    wfpsa_free(store->tails);
    wfpsa_free(store->shapes);
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

/* ---- the clock ---- */

static UINT64
now_ms(const struct wfpsa_store *store)
{
    return store->clock_offset + (store->manual_clock ? 0 : wfpsa_monotonic_ns() / 1000000u);
}

void
wfpsa_store_clock(struct wfpsa_store *store, int manual)
{
    wfpsa_mutex_lock(&store->lock);
    UINT64 now = now_ms(store);
    store->manual_clock = manual != 0;
    store->clock_offset = 0;
    store->clock_offset = now - now_ms(store); /* goes on from where it stood */
    wfpsa_mutex_unlock(&store->lock);
}

void
wfpsa_store_advance(struct wfpsa_store *store, uint64_t milliseconds)
{
    wfpsa_mutex_lock(&store->lock);
    store->clock_offset += milliseconds;
    wfpsa_mutex_unlock(&store->lock);
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

/* ---- growing arrays ---- */

/* Makes a ring-less queue able to take one more at its end, moving it to the front where that frees half of it. */
static int
queue_reserve(void **items, UINT64 *start, UINT64 *end, UINT64 *capacity, size_t size)
{
    if (*end < *capacity) {
        return 1;
    }
    if (*start > *capacity / 2) {
        memmove(*items, (char *)*items + *start * size, (size_t)(*end - *start) * size);
        *end -= *start;
        *start = 0;
        return 1;
    }
    UINT64 larger = *capacity ? *capacity * 2 : 64;
    void *moved = wfpsa_reallocate(*items, larger, size);
    if (!moved) {
        return 0;
    }
    *items = moved;
    *capacity = larger;
    return 1;
}

/* ---- the index by id ---- */

static UINT32
index_place(const struct wfpsa_store *store, UINT64 id)
{
    UINT64 h = id * 0x9E3779B97F4A7C15u;
    return (UINT32)(h >> 32) & (store->index_size - 1);
}

static void
index_insert(struct wfpsa_store *store, UINT64 id, UINT32 slot)
{
    UINT32 at = index_place(store, id);
    while (store->index[at]) {
        at = (at + 1) & (store->index_size - 1);
    }
    store->index[at] = slot + 1;
}

/* Removal without tombstones: what follows in the run moves up where it may. */
static void
index_remove(struct wfpsa_store *store, UINT64 id, UINT32 slot)
{
    UINT32 mask = store->index_size - 1, hole = index_place(store, id);
    while (store->index[hole] != slot + 1) {
        hole = (hole + 1) & mask;
    }
    for (UINT32 at = (hole + 1) & mask; store->index[at]; at = (at + 1) & mask) {
        UINT32 home = index_place(store, store->slots[store->index[at] - 1]->id);
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            store->index[hole] = store->index[at];
            hole = at;
        }
    }
    store->index[hole] = 0;
}

struct record *
store_lookup(struct wfpsa_store *store, UINT64 id)
{
    if (store->index_size == 0) {
        return NULL;
    }
    UINT32 mask = store->index_size - 1;
    for (UINT32 at = index_place(store, id); store->index[at]; at = (at + 1) & mask) {
        struct record *record = store->slots[store->index[at] - 1];
        if (record->id == id) {
            return record;
        }
    }
    return NULL;
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
    return copy;
}

static int
reserve_retired(struct wfpsa_store *store)
{
    return queue_reserve((void **)&store->retired, &store->retired_start, &store->retired_end,
                         &store->retired_capacity, sizeof *store->retired);
}

int
store_reserve(struct wfpsa_store *store, UINT64 count)
{
    UINT64 wanted = store->slots_used + count;
    if (count > UINT32_MAX / 4 || wanted > UINT32_MAX / 4 || !reserve_retired(store)) {
        return 0;
    }
    if (wanted > store->slots_capacity) {
        UINT64 capacity = wanted > (UINT64)store->slots_capacity * 2 ? wanted : (UINT64)store->slots_capacity * 2;
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
        store->slots_capacity = (UINT32)capacity;
    }
    if (store->index_size < wanted + wanted / 2) {
        UINT32 size = 256;
        while (size < wanted + wanted / 2) {
            size *= 2;
        }
        UINT32 *index = wfpsa_allocate_zeroed(size, sizeof *index);
        if (!index) {
            return 0;
        }
        wfpsa_free(store->index);
        store->index = index;
        store->index_size = size;
        for (UINT32 slot = 0; slot < store->slots_used; slot++) {
            if (store->slots[slot] && store->slots[slot]->died == UINT64_MAX) {
                index_insert(store, store->slots[slot]->id, slot);
            }
        }
    }
    return 1;
}

int
store_add(struct wfpsa_store *store, const struct record *prototype)
{
    if (!store_reserve(store, 1)) {
        return 0;
    }
    struct record *record = record_copy(store, prototype);
    if (!record) {
        return 0;
    }
    record->slot = store->free_slots_length ? store->free_slots[--store->free_slots_length] : store->slots_used++;
    record->born = ++store->epoch;
    record->died = UINT64_MAX;
    record->older = NULL;
    record->newer = NULL;
    record->expired = 0;
    store->slots[record->slot] = record;
    index_insert(store, record->id, record->slot);
    store->count++;
    return 1;
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
        oldest = handle->epoch; /* newest first: the last one is the oldest */
    }
    while (store->retired_start < store->retired_end && store->retired[store->retired_start]->died <= oldest) {
        struct record *record = store->retired[store->retired_start++];
        if (record->newer) {
            record->newer->older = NULL;
        } else {
            store->slots[record->slot] = NULL;
            store->free_slots[store->free_slots_length++] = record->slot;
        }
        record_free(store, record);
    }
    if (store->retired_start == store->retired_end) {
        store->retired_start = store->retired_end = 0;
    }
}

int
store_remove(struct wfpsa_store *store, struct record *record)
{
    if (!reserve_retired(store)) {
        return 0;
    }
    index_remove(store, record->id, record->slot);
    record->died = ++store->epoch;
    store->retired[store->retired_end++] = record;
    store->count--;
    store_collect(store);
    return 1;
}

int
store_expire(struct wfpsa_store *store, struct record *record)
{
    if (record->expired) {
        return 1; /* once more within the minute: harmless */
    }
    if (!record->in.policy) {
        return store_remove(store, record); /* nothing is left to linger */
    }
    if (!queue_reserve((void **)&store->tails, &store->tails_start, &store->tails_end, &store->tails_capacity,
                       sizeof *store->tails)) {
        return 0;
    }
    if (store->enum_handles) {
        if (!reserve_retired(store)) {
            return 0;
        }
        struct record *present = record_copy(store, record);
        if (!present) {
            return 0;
        }
        present->born = ++store->epoch;
        present->older = record;
        present->newer = NULL;
        record->newer = present;
        record->died = present->born;
        store->slots[record->slot] = present;
        store->retired[store->retired_end++] = record;
        record = present;
    }
    record->expired = 1;
    if (record->out.policy) {
        memset(&record->out, 0, sizeof record->out);
        if (record->inbound_traffic) { /* now the only one */
            record->traffic = *record->inbound_traffic;
            wfpsa_free(record->inbound_traffic);
            record->inbound_traffic = NULL;
        }
    }
    store->tails[store->tails_end].until = now_ms(store) + INBOUND_TAIL_MS;
    store->tails[store->tails_end].id = record->id;
    store->tails_end++;
    store_collect(store);
    return 1;
}

void
store_settle(struct wfpsa_store *store)
{
    if (store->tails_start == store->tails_end) {
        return;
    }
    UINT64 now = now_ms(store);
    while (store->tails_start < store->tails_end && store->tails[store->tails_start].until <= now) {
        struct record *record = store_lookup(store, store->tails[store->tails_start].id);
        if (record && !store_remove(store, record)) {
            return; /* no memory: the next call tries again */
        }
        store->tails_start++;
    }
    if (store->tails_start == store->tails_end) {
        store->tails_start = store->tails_end = 0;
    }
}

/* ---- shapes ---- */

#define ROUND_UP(bytes) (((bytes) + 7u) & ~7u)

static struct shape *
shape_new(struct wfpsa_store *store, size_t extra)
{
    if (store->shapes_length == store->shapes_capacity) {
        UINT32 capacity = store->shapes_capacity ? store->shapes_capacity * 2 : 256;
        struct shape **shapes = wfpsa_reallocate(store->shapes, capacity, sizeof *shapes);
        if (!shapes) {
            return NULL;
        }
        store->shapes = shapes;
        store->shapes_capacity = capacity;
    }
    struct shape *shape = wfpsa_allocate_zeroed(1, sizeof *shape + extra);
    if (shape) {
        store->shapes[store->shapes_length++] = shape;
    }
    return shape;
}

static UINT32
text_bytes(const WCHAR *text)
{
    return text ? (length_of(text) + 1) * (UINT32)sizeof *text : 0;
}

const struct shape *
store_policy(struct wfpsa_store *store, const struct policy *policy)
{
    struct shape *shape = shape_new(store, 0);
    if (!shape) {
        return NULL;
    }
    shape->policy = *policy;
    UINT32 bytes = ROUND_UP(policy->listed * (UINT32)sizeof(IPSEC_SA0));
    for (UINT32 i = 0; i < policy->listed; i++) {
        const struct sa_shape *sa = &policy->sas[i];
        if (sa->no_information) {
            continue;
        }
        bytes += sizeof(IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0); /* the largest of the five */
        bytes += ROUND_UP(sa->auth_key) + ROUND_UP(sa->cipher_key);
    }
    if (policy->has_key_module) {
        bytes += sizeof(IPSEC_KEYMODULE_STATE0) + ROUND_UP(policy->key_module_state);
    }
    shape->page_bytes = bytes;
    return shape;
}

const struct shape *
store_identity(struct wfpsa_store *store, const WCHAR *main_mode, const WCHAR *extended_mode)
{
    UINT32 first = text_bytes(main_mode), second = text_bytes(extended_mode);
    struct shape *shape = shape_new(store, (size_t)first + second);
    if (!shape) {
        return NULL;
    }
    WCHAR *text = (WCHAR *)(shape + 1);
    if (main_mode) {
        shape->identity.main_mode = memcpy(text, main_mode, first);
    }
    if (extended_mode) {
        shape->identity.extended_mode = memcpy((char *)text + first, extended_mode, second);
    }
    shape->identity.main_mode_bytes = first;
    shape->identity.extended_mode_bytes = second;
    shape->page_bytes = (UINT32)sizeof(IPSEC_ID0) + ROUND_UP(first) + ROUND_UP(second);
    return shape;
}

const struct shape *
store_filter(struct wfpsa_store *store, UINT64 id, const WCHAR *name, UINT32 conditions)
{
    UINT32 bytes = text_bytes(name);
    struct shape *shape = shape_new(store, bytes);
    if (!shape) {
        return NULL;
    }
    shape->filter.id = id;
    shape->filter.name = memcpy(shape + 1, name, bytes);
    shape->filter.name_bytes = bytes;
    shape->filter.conditions = conditions;
    shape->page_bytes =
        (UINT32)sizeof(FWPM_FILTER0) + ROUND_UP(bytes) + ROUND_UP(conditions * (UINT32)sizeof(FWPM_FILTER_CONDITION0));
    return shape;
}
