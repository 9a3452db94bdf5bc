/* Results as the OS hands them out: one block with everything in it, freed by one FwpmFreeMemory0. */
#include "internal.h"

#include <string.h>

volatile int64_t live_pages;

/* Ahead of what the caller sees. */
struct header {
    struct header *next; /* of the live results in the same bucket */
    UINT64 bytes;        /* of the result, this header included */
    UINT64 room;         /* of the block */
};

uint64_t
wfpsa_embedded_page_bytes(const void *result)
{
    const struct header *header = (const struct header *)result - 1;
    return header->bytes - sizeof *header;
}

#define ROUND_UP(bytes) (((bytes) + 7u) & ~(size_t)7u)

static void *
take(char **at, size_t bytes)
{
    void *taken = *at;
    *at += ROUND_UP(bytes);
    return taken;
}

/* The choices of the switch `keys`. */
enum { KEYS_MARKED, KEYS_ZEROED, KEYS_EMPTY };

/* Key blobs and states hold a mark, so that tests can prove that they never surface. */
static void
put_marked(char **at, FWP_BYTE_BLOB *blob, UINT32 bytes, int keys)
{
    blob->size = keys == KEYS_EMPTY ? 0 : bytes;
    blob->data = NULL;
    if (blob->size) {
        blob->data = take(at, bytes);
        if (keys == KEYS_ZEROED) {
            memset(blob->data, 0, bytes);
            return;
        }
        for (UINT32 done = 0; done < bytes; done += WFPSA_KEY_MARK_BYTES) {
            UINT32 left = bytes - done;
            memcpy(blob->data + done, WFPSA_KEY_MARK, left < WFPSA_KEY_MARK_BYTES ? left : WFPSA_KEY_MARK_BYTES);
        }
    }
}

static void
put_auth(char **at, IPSEC_SA_AUTH_INFORMATION0 *auth, const struct sa_shape *shape, int keys)
{
    auth->authTransform.authTransformId.authType = (IPSEC_AUTH_TYPE)shape->auth_type;
    auth->authTransform.authTransformId.authConfig = shape->auth_config;
    auth->authTransform.cryptoModuleId = NULL;
    put_marked(at, &auth->authKey, shape->auth_key, keys);
}

static void
put_cipher(char **at, IPSEC_SA_CIPHER_INFORMATION0 *cipher, const struct sa_shape *shape, int keys)
{
    cipher->cipherTransform.cipherTransformId.cipherType = (IPSEC_CIPHER_TYPE)shape->cipher_type;
    cipher->cipherTransform.cipherTransformId.cipherConfig = shape->cipher_config;
    cipher->cipherTransform.cryptoModuleId = NULL;
    put_marked(at, &cipher->cipherKey, shape->cipher_key, keys);
}

static IPSEC_SA0 *
put_sas(char **at, const struct policy *policy, UINT32 spi, UINT32 ah_spi, int keys)
{
    IPSEC_SA0 *list = take(at, policy->listed * sizeof *list);
    for (UINT32 i = 0; i < policy->listed; i++) {
        const struct sa_shape *shape = &policy->sas[i];
        list[i].spi = i == 0 ? spi : ah_spi;
        list[i].saTransformType = (IPSEC_TRANSFORM_TYPE)shape->transform;
        list[i].ahInformation = NULL;
        if (shape->no_information) {
            continue;
        }
        IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0 *both = take(at, sizeof *both);
        memset(both, 0, sizeof *both);
        switch (shape->transform) {
        case IPSEC_TRANSFORM_ESP_CIPHER:
            list[i].espCipherInformation = &both->saCipherInformation;
            put_cipher(at, &both->saCipherInformation, shape, keys);
            break;
        case IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER:
            list[i].espAuthAndCipherInformation = both;
            put_cipher(at, &both->saCipherInformation, shape, keys);
            put_auth(at, &both->saAuthInformation, shape, keys);
            break;
        default: /* of an unknown transform too: what is there looks like something */
            list[i].ahInformation = &both->saAuthInformation;
            put_auth(at, &both->saAuthInformation, shape, keys);
            break;
        }
    }
    return list;
}

static IPSEC_ID0 *
put_identity(char **at, const struct shape *shape)
{
    UINT32 first = shape->identity.main_mode_bytes, second = shape->identity.extended_mode_bytes;
    const char *text = (const char *)(shape + 1);
    IPSEC_ID0 *id = take(at, sizeof *id);
    memset(id, 0, sizeof *id);
    if (first) {
        id->mmTargetName = take(at, first);
        memcpy(id->mmTargetName, text, first);
    }
    if (second) {
        id->emTargetName = take(at, second);
        memcpy(id->emTargetName, text + first, second);
    }
    return id;
}

static IPSEC_KEYMODULE_STATE0 *
put_key_module(char **at, const struct policy *policy, int keys)
{
    IPSEC_KEYMODULE_STATE0 *state = take(at, sizeof *state);
    state->keyModuleKey = policy->key_module;
    put_marked(at, &state->stateBlob, policy->key_module_state, keys);
    return state;
}

static FWPM_FILTER0 *
put_filter(char **at, const struct shape *shape)
{
    const struct filter *known = &shape->filter;
    FWPM_FILTER0 *filter = take(at, sizeof *filter);
    memset(filter, 0, sizeof *filter);
    memcpy(&filter->filterKey, &known->id, sizeof known->id);
    if (known->name_bytes) {
        filter->displayData.name = take(at, known->name_bytes);
        memcpy(filter->displayData.name, shape + 1, known->name_bytes);
    }
    filter->filterId = known->id;
    filter->numFilterConditions = known->conditions;
    if (known->conditions) {
        filter->filterCondition = take(at, known->conditions * sizeof *filter->filterCondition);
        memset(filter->filterCondition, 0, known->conditions * sizeof *filter->filterCondition);
        for (UINT32 i = 0; i < known->conditions; i++) {
            filter->filterCondition[i].fieldKey.Data1 = i + 1;
            filter->filterCondition[i].conditionValue.type = FWP_UINT16;
            filter->filterCondition[i].conditionValue.uint16 = (UINT16)(known->id + i);
        }
    }
    return filter;
}

#define CONTEXT IPSEC_SA_CONTEXT0
#define DETAILS IPSEC_SA_DETAILS0
#define VERSION 0
#define PUT_DETAILS put_details0
#define PUT_CONTEXT put_context0
#include "page.inc.h"

#define CONTEXT IPSEC_SA_CONTEXT1
#define DETAILS IPSEC_SA_DETAILS1
#define VERSION 1
#define PUT_DETAILS put_details1
#define PUT_CONTEXT put_context1
#include "page.inc.h"

static UINT32
half_bytes(const struct half *half, int version)
{
    UINT32 bytes;
    if (!half->policy) {
        return 0;
    }
    bytes = (UINT32)(version == 0 ? sizeof(IPSEC_SA_DETAILS0) : sizeof(IPSEC_SA_DETAILS1));
    bytes += half->policy->page_bytes;
    bytes += half->identity ? half->identity->page_bytes : 0;
    bytes += half->filter ? half->filter->page_bytes : 0;
    return bytes + (half->udp_local_port || half->udp_remote_port ? 8 : 0);
}

static size_t
record_bytes(const struct record *record, int version)
{
    return ROUND_UP(sizeof(IPSEC_SA_CONTEXT1)) + half_bytes(&record->in, version) + half_bytes(&record->out, version);
}

static void *
put_context(char **at, const struct record *record, int version, int keys)
{
    return version == 0 ? (void *)put_context0(at, record, keys) : (void *)put_context1(at, record, keys);
}

/* ---- live results: found by their address, so that a foreign pointer is never followed ---- */

#define BUCKETS 1024u

static struct header *results[BUCKETS];
wfpsa_mutex results_lock = WFPSA_MUTEX_INITIALIZER; /* guards all of this section */

static struct header **
bucket_of(const struct header *header)
{
    uintptr_t number = (uintptr_t)header >> 4;
    return &results[(number ^ number >> 10) % BUCKETS];
}

/* Small results stay readable for a while after they were freed, filled with POISON, so that a use after the free
 * shows: a pointer read from one leads nowhere, and a write into one is reported. The address sanitizer does better.
 */
#define POISON 0xDD
#define QUARANTINED 32u
#define QUARANTINED_BYTES_MAX (WFPSA_ADDRESS_SANITIZED ? 0u : 16384u)
#define REMEMBERED 256u /* addresses freed of late, to tell a second free from a foreign pointer */

/* Of larger ones the block freed last is kept for the next, up to that size and until the process ends: an allocator
 * may give their memory back to the system each time, and getting it again costs more than filling it. A second free
 * of such a result may then be one of the next result, as it may be where the allocator gives the block out again. */
#define SPARE_BYTES_MAX (WFPSA_ADDRESS_SANITIZED ? 0u : 32u << 20)

static struct header *spare;
static struct header *quarantine[QUARANTINED];
static UINT32 quarantine_next;
static const void *freed[REMEMBERED];
static UINT32 freed_next;

static void
poison(struct header *header)
{
    if (header->bytes > sizeof *header) {
        memset(header + 1, POISON, (size_t)header->bytes - sizeof *header);
    }
}

static void
look_at(const struct header *header)
{
    const UINT8 *bytes = (const UINT8 *)(header + 1);
    size_t count = (size_t)header->bytes - sizeof *header;
    if (count && (bytes[0] != POISON || memcmp(bytes, bytes + 1, count - 1) != 0)) { /* all are as the first */
        misused(FUNCTION_FwpmFreeMemory0, MISUSE_WRITTEN_AFTER_FREE);
    }
}

void
page_look_at_freed(void)
{
    wfpsa_mutex_lock(&results_lock);
    for (UINT32 i = 0; i < QUARANTINED; i++) {
        if (quarantine[i]) {
            look_at(quarantine[i]);
            poison(quarantine[i]); /* told once */
        }
    }
    wfpsa_mutex_unlock(&results_lock);
}

/* Gives the memory of a small result back, later; its contents are gone. */
static void
put_away(struct header *header)
{
    poison(header);
    struct header *oldest = quarantine[quarantine_next];
    if (oldest) {
        look_at(oldest);
        wfpsa_reclaim(oldest);
    }
    wfpsa_retire(header);
    quarantine[quarantine_next] = header;
    quarantine_next = (quarantine_next + 1) % QUARANTINED;
}

/* The same of a large one: keeps it for the next, or gives it back. Without the lock: overwriting it takes a while. */
static void
set_aside(struct header *header)
{
    poison(header);
    if (header->room > SPARE_BYTES_MAX) {
        wfpsa_free(header);
        return;
    }
    wfpsa_retire(header);
    wfpsa_mutex_lock(&results_lock);
    struct header *other = spare;
    spare = header;
    wfpsa_mutex_unlock(&results_lock);
    wfpsa_reclaim(other);
}

/* A block with room for so many bytes: the spare one, or a new one with room for a page that is a little larger. */
static struct header *
block_new(size_t bytes)
{
    struct header *header = NULL;
    size_t room = bytes, step = bytes / 8;
    if (bytes > QUARANTINED_BYTES_MAX && bytes + step <= SPARE_BYTES_MAX) {
        room += step;
        wfpsa_mutex_lock(&results_lock);
        if (spare && spare->room >= bytes && spare->room / 2 <= bytes) {
            header = spare;
            spare = NULL;
        }
        wfpsa_mutex_unlock(&results_lock);
    }
    if (!header) {
        header = wfpsa_allocate(1, room);
        if (header) {
            header->room = room;
        }
        return header;
    }
    if (!wfpsa_revive(header)) {
        wfpsa_reclaim(header);
        return NULL;
    }
    return header;
}

void *
page_new(size_t bytes)
{
    struct header *header = block_new(sizeof *header + bytes);
    if (!header) {
        return NULL;
    }
    header->bytes = sizeof *header + bytes;
    wfpsa_mutex_lock(&results_lock);
    struct header **bucket = bucket_of(header);
    header->next = *bucket;
    *bucket = header;
    wfpsa_mutex_unlock(&results_lock);
    wfpsa_atomic_add(&live_pages, 1);
    return header + 1;
}

/* Takes a result out of the live ones; NULL where it is none, and that is reported. */
static struct header *
withdraw(void *result)
{
    struct header *wanted = (struct header *)((uintptr_t)result - sizeof *wanted); /* result may point anywhere */
    struct header **link = bucket_of(wanted), *found;
    int before = 0;
    while (*link && *link != wanted) {
        link = &(*link)->next;
    }
    found = *link;
    if (found) {
        *link = found->next;
        freed[freed_next] = result;
        freed_next = (freed_next + 1) % REMEMBERED;
        return found;
    }
    for (UINT32 i = 0; i < REMEMBERED; i++) {
        before |= freed[i] == result;
    }
    misused(FUNCTION_FwpmFreeMemory0, before ? MISUSE_FREED_TWICE : MISUSE_FREED_FOREIGN);
    return NULL;
}

/* FwpmFreeMemory0. What it is given must come from here; NULL in *p is accepted. What is no result of ours stays
 * untouched. */
void WINAPI
page_free(void **p)
{
    if (!p || !*p) {
        return;
    }
    wfpsa_mutex_lock(&results_lock);
    struct header *header = withdraw(*p);
    int small = header && header->bytes <= QUARANTINED_BYTES_MAX;
    if (small) {
        put_away(header);
    }
    wfpsa_mutex_unlock(&results_lock);
    if (!header) {
        return;
    }
    if (!small) {
        set_aside(header);
    }
    *p = NULL;
    wfpsa_atomic_add(&live_pages, -1);
}

/* ---- building ---- */

void *
page_build(const struct record *const *records, UINT32 count, int version, int keys)
{
    size_t bytes = ROUND_UP(count * sizeof(void *));
    for (UINT32 i = 0; i < count; i++) {
        bytes += record_bytes(records[i], version);
    }
    char *at = page_new(bytes);
    if (!at) {
        return NULL;
    }
    void **entries = take(&at, count * sizeof *entries);
    for (UINT32 i = 0; i < count; i++) {
        entries[i] = put_context(&at, records[i], version, keys);
    }
    return entries;
}

void *
page_build_one(const struct record *record, int version, int keys)
{
    char *at = page_new(record_bytes(record, version));
    return at ? put_context(&at, record, version, keys) : NULL;
}
