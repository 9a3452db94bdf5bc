/* Results as the OS hands them out: one block with everything in it, freed by one FwpmFreeMemory0. */
#include "internal.h"

#include <string.h>

volatile int64_t live_pages;

/* Ahead of what the caller sees. */
struct header {
    UINT64 magic;
    UINT64 bytes; /* of the block, this header included */
};

#define PAGE_MAGIC 0x5041474557465041u
#define FREED_MAGIC 0x4652454544504147u

#define ROUND_UP(bytes) (((bytes) + 7u) & ~(size_t)7u)

static void *
take(char **at, size_t bytes)
{
    void *taken = *at;
    *at += ROUND_UP(bytes);
    return taken;
}

/* Key blobs and states hold a mark, so that tests can prove that they never surface. */
static void
put_marked(char **at, FWP_BYTE_BLOB *blob, UINT32 bytes)
{
    blob->size = bytes;
    blob->data = NULL;
    if (bytes) {
        blob->data = take(at, bytes);
        for (UINT32 done = 0; done < bytes; done += WFPSA_KEY_MARK_BYTES) {
            UINT32 left = bytes - done;
            memcpy(blob->data + done, WFPSA_KEY_MARK, left < WFPSA_KEY_MARK_BYTES ? left : WFPSA_KEY_MARK_BYTES);
        }
    }
}

static void
put_auth(char **at, IPSEC_SA_AUTH_INFORMATION0 *auth, const struct sa_shape *shape)
{
    auth->authTransform.authTransformId.authType = (IPSEC_AUTH_TYPE)shape->auth_type;
    auth->authTransform.authTransformId.authConfig = shape->auth_config;
    auth->authTransform.cryptoModuleId = NULL;
    put_marked(at, &auth->authKey, shape->auth_key);
}

static void
put_cipher(char **at, IPSEC_SA_CIPHER_INFORMATION0 *cipher, const struct sa_shape *shape)
{
    cipher->cipherTransform.cipherTransformId.cipherType = (IPSEC_CIPHER_TYPE)shape->cipher_type;
    cipher->cipherTransform.cipherTransformId.cipherConfig = shape->cipher_config;
    cipher->cipherTransform.cryptoModuleId = NULL;
    put_marked(at, &cipher->cipherKey, shape->cipher_key);
}

static IPSEC_SA0 *
put_sas(char **at, const struct policy *policy, UINT32 spi, UINT32 ah_spi)
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
            put_cipher(at, &both->saCipherInformation, shape);
            break;
        case IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER:
            list[i].espAuthAndCipherInformation = both;
            put_cipher(at, &both->saCipherInformation, shape);
            put_auth(at, &both->saAuthInformation, shape);
            break;
        default: /* of an unknown transform too: what is there looks like something */
            list[i].ahInformation = &both->saAuthInformation;
            put_auth(at, &both->saAuthInformation, shape);
            break;
        }
    }
    return list;
}

static IPSEC_ID0 *
put_identity(char **at, const struct shape *shape)
{
    const struct identity *identity = &shape->identity;
    IPSEC_ID0 *id = take(at, sizeof *id);
    memset(id, 0, sizeof *id);
    if (identity->main_mode) {
        id->mmTargetName = take(at, identity->main_mode_bytes);
        memcpy(id->mmTargetName, identity->main_mode, identity->main_mode_bytes);
    }
    if (identity->extended_mode) {
        id->emTargetName = take(at, identity->extended_mode_bytes);
        memcpy(id->emTargetName, identity->extended_mode, identity->extended_mode_bytes);
    }
    return id;
}

static IPSEC_KEYMODULE_STATE0 *
put_key_module(char **at, const struct policy *policy)
{
    IPSEC_KEYMODULE_STATE0 *state = take(at, sizeof *state);
    state->keyModuleKey = policy->key_module;
    put_marked(at, &state->stateBlob, policy->key_module_state);
    return state;
}

static FWPM_FILTER0 *
put_filter(char **at, const struct shape *shape)
{
    const struct filter *known = &shape->filter;
    FWPM_FILTER0 *filter = take(at, sizeof *filter);
    memset(filter, 0, sizeof *filter);
    memcpy(&filter->filterKey, &known->id, sizeof known->id);
    filter->displayData.name = take(at, known->name_bytes);
    memcpy(filter->displayData.name, known->name, known->name_bytes);
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
put_context(char **at, const struct record *record, int version)
{
    return version == 0 ? (void *)put_context0(at, record) : (void *)put_context1(at, record);
}

static char *
block_new(size_t bytes)
{
    struct header *header = wfpsa_allocate(1, sizeof *header + bytes);
    if (!header) {
        return NULL;
    }
    header->magic = PAGE_MAGIC;
    header->bytes = sizeof *header + bytes;
    wfpsa_atomic_add(&live_pages, 1);
    return (char *)(header + 1);
}

void *
page_build(const struct record *const *records, UINT32 count, int version)
{
    size_t bytes = ROUND_UP(count * sizeof(void *));
    for (UINT32 i = 0; i < count; i++) {
        bytes += record_bytes(records[i], version);
    }
    char *at = block_new(bytes);
    if (!at) {
        return NULL;
    }
    void **entries = take(&at, count * sizeof *entries);
    for (UINT32 i = 0; i < count; i++) {
        entries[i] = put_context(&at, records[i], version);
    }
    return entries;
}

void *
page_build_one(const struct record *record, int version)
{
    char *at = block_new(record_bytes(record, version));
    return at ? put_context(&at, record, version) : NULL;
}

/* FwpmFreeMemory0. What it is given must come from here; NULL in *p is accepted. The block is marked and overwritten,
 * so that a use after the free shows. */
void WINAPI
page_free(void **p)
{
    if (!p || !*p) {
        return;
    }
    struct header *header = (struct header *)*p - 1;
    if (header->magic != PAGE_MAGIC) {
        return; /* not a result of ours, or freed before: leaking is the safe answer */
    }
    header->magic = FREED_MAGIC;
    memset(header + 1, 0xDD, (size_t)header->bytes - sizeof *header);
    wfpsa_free(header);
    *p = NULL;
    wfpsa_atomic_add(&live_pages, -1);
}
