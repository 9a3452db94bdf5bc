/* Shapes: what many SAs have in common, kept once for each content and counted, so that a store whose contexts come
 * and go does not grow. */
#include "internal.h"

#include <string.h>

#define ROUND_UP(bytes) (((bytes) + 7u) & ~7u)
#define CONTENT_PLACE offsetof(struct shape, policy)

static UINT32
text_bytes(const WCHAR *text)
{
    UINT32 length = 0;
    if (!text) {
        return 0;
    }
    while (text[length]) {
        length++;
    }
    return (length + 1) * (UINT32)sizeof *text;
}

static UINT32
hash_of(const void *bytes, size_t count)
{
    const UINT8 *at = bytes;
    UINT32 hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < count; i++) {
        hash = (hash ^ at[i]) * 16777619u;
    }
    return hash;
}

/* More buckets where there are too few; 0 without memory. */
static int
spread(struct wfpsa_store *store)
{
    UINT32 size = store->shapes_size ? store->shapes_size * 4 : 64;
    struct shape **buckets = wfpsa_allocate_zeroed(size, sizeof *buckets);
    if (!buckets) {
        return 0;
    }
    for (UINT32 i = 0; i < store->shapes_size; i++) {
        for (struct shape *shape = store->shapes[i], *next; shape; shape = next) {
            next = shape->next;
            shape->next = buckets[shape->hash & (size - 1)];
            buckets[shape->hash & (size - 1)] = shape;
        }
    }
    wfpsa_free(store->shapes);
    store->shapes = buckets;
    store->shapes_size = size;
    return 1;
}

/* A zeroed one with room for texts behind it, not yet among the store's; NULL without memory. */
static struct shape *
shape_new(size_t texts)
{
    return wfpsa_allocate_zeroed(1, sizeof(struct shape) + texts);
}

/* The shape that the store has with this content, or this one if it has none. Takes the candidate over. */
static struct shape *
shape_kept(struct wfpsa_store *store, struct shape *candidate, UINT32 texts, UINT32 page_bytes)
{
    const char *content = (const char *)candidate + CONTENT_PLACE;
    UINT32 bytes = (UINT32)(sizeof *candidate - CONTENT_PLACE) + texts;
    UINT32 hash = hash_of(content, bytes);
    if (store->shapes_count >= store->shapes_size && !spread(store)) {
        wfpsa_free(candidate);
        return NULL;
    }
    struct shape **bucket = &store->shapes[hash & (store->shapes_size - 1)];
    for (struct shape *shape = *bucket; shape; shape = shape->next) {
        if (shape->hash == hash && shape->content_bytes == bytes && shape->page_bytes == page_bytes &&
            memcmp((const char *)shape + CONTENT_PLACE, content, bytes) == 0) {
            wfpsa_free(candidate);
            shape->references++;
            return shape;
        }
    }
    candidate->hash = hash;
    candidate->content_bytes = bytes;
    candidate->page_bytes = page_bytes;
    candidate->references = 1;
    candidate->next = *bucket;
    *bucket = candidate;
    store->shapes_count++;
    return candidate;
}

void
shape_hold(struct shape *shape)
{
    if (shape) {
        shape->references++;
    }
}

void
shape_drop(struct wfpsa_store *store, struct shape *shape)
{
    if (!shape || --shape->references > 0) {
        return;
    }
    struct shape **link = &store->shapes[shape->hash & (store->shapes_size - 1)];
    while (*link != shape) {
        link = &(*link)->next;
    }
    *link = shape->next;
    store->shapes_count--;
    wfpsa_free(shape);
}

void
half_hold(struct half *half)
{
    shape_hold(half->policy);
    shape_hold(half->identity);
    shape_hold(half->filter);
    shape_hold(half->rarity);
}

void
half_drop(struct wfpsa_store *store, struct half *half)
{
    shape_drop(store, half->policy);
    shape_drop(store, half->identity);
    shape_drop(store, half->filter);
    shape_drop(store, half->rarity);
}

/* The page bytes of each kind: what page.c spends on it. */

struct shape *
shape_of_policy(struct wfpsa_store *store, const struct policy *policy)
{
    struct shape *shape = shape_new(0);
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
    return shape_kept(store, shape, 0, bytes);
}

struct shape *
shape_of_identity(struct wfpsa_store *store, const WCHAR *main_mode, const WCHAR *extended_mode)
{
    UINT32 first = text_bytes(main_mode), second = text_bytes(extended_mode);
    struct shape *shape = shape_new((size_t)first + second);
    if (!shape) {
        return NULL;
    }
    char *text = (char *)(shape + 1);
    if (first) {
        memcpy(text, main_mode, first);
    }
    if (second) {
        memcpy(text + first, extended_mode, second);
    }
    shape->identity.main_mode_bytes = first;
    shape->identity.extended_mode_bytes = second;
    return shape_kept(store, shape, first + second, (UINT32)sizeof(IPSEC_ID0) + ROUND_UP(first) + ROUND_UP(second));
}

struct shape *
shape_of_filter(struct wfpsa_store *store, UINT64 id, const WCHAR *name, UINT32 conditions)
{
    UINT32 bytes = text_bytes(name);
    struct shape *shape = shape_new(bytes);
    if (!shape) {
        return NULL;
    }
    if (bytes) {
        memcpy(shape + 1, name, bytes);
    }
    shape->filter.id = id;
    shape->filter.name_bytes = bytes;
    shape->filter.conditions = conditions;
    return shape_kept(store, shape, bytes,
                      (UINT32)sizeof(FWPM_FILTER0) + ROUND_UP(bytes) +
                          ROUND_UP(conditions * (UINT32)sizeof(FWPM_FILTER_CONDITION0)));
}

struct shape *
shape_of_rarity(struct wfpsa_store *store, const struct rarity *rarity)
{
    struct shape *shape = shape_new(0);
    if (!shape) {
        return NULL;
    }
    shape->rarity = *rarity;
    return shape_kept(store, shape, 0, 0);
}
