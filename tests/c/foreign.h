/* Hand-built SA contexts, every piece in a block of its exact size, so that a sanitizer sees any overread; and the
 * key blobs in them, so that a test sees what was not wiped. */
#ifndef WFPSA_TESTS_FOREIGN_H
#define WFPSA_TESTS_FOREIGN_H

#include "batch.h"

#include <stdlib.h>

#include "wfpsa/wfp.h"

#define KEY_BYTE 0xA5

struct key {
    uint8_t *data;
    uint32_t bytes;
};

static void **pieces;
static size_t pieces_count, pieces_room;
static struct key *keys;
static size_t keys_count, keys_room;

/* Room for one more at the end. */
static inline void *
more_room(void *items, size_t count, size_t *room, size_t size)
{
    if (count == *room) {
        *room = *room * 2 + 64;
        items = realloc(items, *room * size);
        if (!items) {
            abort();
        }
    }
    return items;
}

/* A copy in a block of exactly that size; it lives until forget_pieces. */
static inline void *
piece(const void *content, size_t bytes)
{
    void *copy = malloc(bytes);
    if (!copy) {
        abort();
    }
    pieces = more_room(pieces, pieces_count, &pieces_room, sizeof *pieces);
    pieces[pieces_count++] = copy;
    return memcpy(copy, content, bytes);
}

#define PIECE(value) piece(&(value), sizeof(value))

static inline void
forget_pieces(void)
{
    while (pieces_count) {
        free(pieces[--pieces_count]);
    }
    free(pieces);
    free(keys);
    pieces = NULL;
    keys = NULL;
    pieces_room = keys_room = keys_count = 0;
}

/* A pointer that nobody may follow. */
static inline void *
wild(void)
{
    return (void *)(uintptr_t)8;
}

/* ---- keys ---- */

/* A blob that says it has `size` bytes and has `bytes`, each KEY_BYTE. */
static inline FWP_BYTE_BLOB
key_blob(uint32_t size, uint32_t bytes)
{
    FWP_BYTE_BLOB blob = {size, NULL};
    if (bytes) {
        uint8_t *fill = malloc(bytes);
        if (!fill) {
            abort();
        }
        keys = more_room(keys, keys_count, &keys_room, sizeof *keys);
        memset(fill, KEY_BYTE, bytes);
        blob.data = piece(fill, bytes);
        free(fill);
        keys[keys_count].data = blob.data;
        keys[keys_count].bytes = bytes;
        keys_count++;
    }
    return blob;
}

/* Key bytes that are not zero. */
static inline uint64_t
key_bytes_left(void)
{
    uint64_t left = 0;
    for (size_t i = 0; i < keys_count; i++) {
        for (uint32_t at = 0; at < keys[i].bytes; at++) {
            left += keys[i].data[at] != 0;
        }
    }
    return left;
}

static inline void
refill_keys(void)
{
    for (size_t i = 0; i < keys_count; i++) {
        memset(keys[i].data, KEY_BYTE, keys[i].bytes);
    }
}

/* ---- SAs ---- */

static inline IPSEC_SA_AUTH_INFORMATION0
auth_part(uint32_t type, uint8_t config, uint32_t key_bytes)
{
    IPSEC_SA_AUTH_INFORMATION0 auth;
    memset(&auth, 0, sizeof auth);
    auth.authTransform.authTransformId.authType = (IPSEC_AUTH_TYPE)type;
    auth.authTransform.authTransformId.authConfig = config;
    auth.authTransform.cryptoModuleId = wild();
    auth.authKey = key_blob(key_bytes, key_bytes);
    return auth;
}

static inline IPSEC_SA_CIPHER_INFORMATION0
cipher_part(uint32_t type, uint8_t config, uint32_t key_bytes)
{
    IPSEC_SA_CIPHER_INFORMATION0 cipher;
    memset(&cipher, 0, sizeof cipher);
    cipher.cipherTransform.cipherTransformId.cipherType = (IPSEC_CIPHER_TYPE)type;
    cipher.cipherTransform.cipherTransformId.cipherConfig = config;
    cipher.cipherTransform.cryptoModuleId = wild();
    cipher.cipherKey = key_blob(key_bytes, key_bytes);
    return cipher;
}

/* An SA with the information that its transform points to; of an unknown transform the pointer is wild. */
static inline IPSEC_SA0
make_sa(uint32_t spi, uint32_t transform, uint32_t auth_type, uint8_t auth_config, uint32_t cipher_type,
        uint8_t cipher_config)
{
    IPSEC_SA0 sa;
    IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0 both;
    memset(&sa, 0, sizeof sa);
    sa.spi = spi;
    sa.saTransformType = (IPSEC_TRANSFORM_TYPE)transform;
    switch (transform) {
    case IPSEC_TRANSFORM_AH:
    case IPSEC_TRANSFORM_ESP_AUTH:
    case IPSEC_TRANSFORM_ESP_AUTH_FW:
        both.saAuthInformation = auth_part(auth_type, auth_config, 20);
        sa.ahInformation = PIECE(both.saAuthInformation);
        break;
    case IPSEC_TRANSFORM_ESP_CIPHER:
        both.saCipherInformation = cipher_part(cipher_type, cipher_config, 24);
        sa.espCipherInformation = PIECE(both.saCipherInformation);
        break;
    case IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER:
        both.saCipherInformation = cipher_part(cipher_type, cipher_config, 16);
        both.saAuthInformation = auth_part(auth_type, auth_config, 32);
        sa.espAuthAndCipherInformation = PIECE(both);
        break;
    default:
        sa.ahInformation = wild();
        break;
    }
    return sa;
}

/* ---- details and contexts: version 1, turned into version 0 when a page of that is asked for ---- */

/* IPv4 in transport mode, no SA listed, no names, no optional part. */
static inline IPSEC_SA_DETAILS1 *
bare_details(void)
{
    IPSEC_SA_DETAILS1 details;
    memset(&details, 0, sizeof details);
    details.traffic.localV4Address = 0x0A000001;
    details.traffic.remoteV4Address = 0x0A000002;
    return PIECE(details);
}

/* The same with one SA: ESP with both. */
static inline IPSEC_SA_DETAILS1 *
plain_details(void)
{
    IPSEC_SA_DETAILS1 *details = bare_details();
    IPSEC_SA0 sa = make_sa(0x1234, IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER, IPSEC_AUTH_SHA_1, 1, 3, 3);
    details->saBundle.numSAs = 1;
    details->saBundle.saList = PIECE(sa);
    return details;
}

static inline IPSEC_SA_CONTEXT1 *
make_context(uint64_t id, IPSEC_SA_DETAILS1 *in, IPSEC_SA_DETAILS1 *out)
{
    IPSEC_SA_CONTEXT1 context = {id, in, out};
    return PIECE(context);
}

static inline IPSEC_ID0 *
make_identity(const WCHAR *main_mode, const WCHAR *extended_mode)
{
    IPSEC_ID0 identity;
    memset(&identity, 0xA5, sizeof identity); /* tokens and credentials are nobody's business */
    identity.mmTargetName = (WCHAR *)main_mode;
    identity.emTargetName = (WCHAR *)extended_mode;
    return PIECE(identity);
}

/* A NUL-terminated copy of exact size. */
static inline WCHAR *
make_name(const uint16_t *units)
{
    size_t length = 0;
    while (units[length]) {
        length++;
    }
    return piece(units, (length + 1) * 2);
}

static inline IPSEC_SA_DETAILS0 *
details_of_version0(const IPSEC_SA_DETAILS1 *details)
{
    IPSEC_SA_DETAILS0 old;
    if (!details) {
        return NULL;
    }
    memset(&old, 0xA5, sizeof old);
    old.ipVersion = details->ipVersion;
    old.saDirection = details->saDirection;
    old.traffic.ipVersion = details->traffic.ipVersion;
    memcpy(old.traffic.localV6Address, details->traffic.localV6Address, 16);
    memcpy(old.traffic.remoteV6Address, details->traffic.remoteV6Address, 16);
    old.traffic.trafficType = details->traffic.trafficType;
    old.traffic.ipsecFilterId = details->traffic.ipsecFilterId;
    old.traffic.remotePort = details->traffic.remotePort;
    old.saBundle.flags = details->saBundle.flags;
    old.saBundle.lifetime = details->saBundle.lifetime;
    old.saBundle.idleTimeoutSeconds = details->saBundle.idleTimeoutSeconds;
    old.saBundle.ndAllowClearTimeoutSeconds = details->saBundle.ndAllowClearTimeoutSeconds;
    old.saBundle.ipsecId = details->saBundle.ipsecId;
    old.saBundle.napContext = details->saBundle.napContext;
    old.saBundle.qmSaId = details->saBundle.qmSaId;
    old.saBundle.numSAs = details->saBundle.numSAs;
    old.saBundle.saList = details->saBundle.saList;
    old.saBundle.keyModuleState = details->saBundle.keyModuleState;
    old.saBundle.ipVersion = details->saBundle.ipVersion;
    old.saBundle.peerV4PrivateAddress = details->saBundle.peerV4PrivateAddress;
    old.saBundle.mmSaId = details->saBundle.mmSaId;
    old.saBundle.pfsGroup = details->saBundle.pfsGroup;
    old.udpEncapsulation = details->udpEncapsulation;
    old.transportFilter = details->transportFilter;
    return PIECE(old);
}

/* The page's pointers in an array of exact size, as structures of that version. */
static inline void *
make_page(uint32_t version, IPSEC_SA_CONTEXT1 *const *contexts, uint32_t count)
{
    void **page = piece(contexts, count * sizeof *contexts);
    for (uint32_t i = 0; version == 0 && i < count; i++) {
        if (contexts[i]) {
            IPSEC_SA_CONTEXT0 old = {contexts[i]->saContextId, details_of_version0(contexts[i]->inboundSa),
                                     details_of_version0(contexts[i]->outboundSa)};
            page[i] = PIECE(old);
        }
    }
    return page;
}

static inline int
append_page(struct wfpsa_columns *batch, void *page, uint32_t count, const struct wfpsa_subnets *subnets)
{
    return batch->version == 0 ? wfpsa_columns_append0(batch, page, count, subnets)
                               : wfpsa_columns_append1(batch, page, count, subnets);
}

/* One page decoded and frozen, where nothing may fail. */
static inline struct wfpsa_columns *
decode(uint32_t version, IPSEC_SA_CONTEXT1 *const *contexts, uint32_t count)
{
    struct wfpsa_columns *batch = wfpsa_columns_new(version);
    CHECK_EQUAL(append_page(batch, make_page(version, contexts, count), count, NULL), WFPSA_OK);
    CHECK_EQUAL(wfpsa_columns_freeze(batch), WFPSA_OK);
    CHECK(is_sound(batch));
    return batch;
}

#endif
