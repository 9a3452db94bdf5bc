/* Whole pages of SA contexts from a fuzzer's input, as odd as memory may be that the decoder is allowed to trust, and
 * what a batch of them must say.
 *
 * Trusted is what the SDK promises: pointers that are NULL or good, the information that a known transform has, two
 * entries of saList where numSAs says so, as many bytes behind a key as its size says up to the bound in columns.c.
 * Everything else, such as the information of an unknown transform, is wild and must not be followed.
 */
#ifndef WFPSA_TESTS_FUZZ_PAGES_H
#define WFPSA_TESTS_FUZZ_PAGES_H

#include "input.h"

#include "../c/foreign.h"

#define PAGE_CONTEXTS_MAX 255
#define KEY_BYTES_MAX 256      /* columns.c's */
#define STATE_BYTES_MAX 65536u /* likewise */
#define NAME_UNITS_MAX 32767u  /* names.c's */

struct page {
    uint32_t version;
    uint32_t count;
    IPSEC_SA_CONTEXT1 *contexts[PAGE_CONTEXTS_MAX]; /* what each entry says, in version 1; NULL for a NULL entry */
    void *entries;                                  /* the page as the engine gives it */
    size_t pieces_from, pieces_to;                  /* its own in foreign.h's lists */
    size_t keys_from, keys_to;
};

/* ---- names ---- */

#define LONG_NAMES_MAX 2 /* of a page: they take their time, and one is not repeated in many rows */

static uint32_t long_names_left;

static inline WCHAR *
fuzzed_name(struct input *in)
{
    static const uint16_t surrogates[] = {0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0xD7FF, 0xE000, 0xFFFF,
                                          0xFFFD, 0x7F,   0x80,   0x7FF,  0x800,  'a',    0xFEFF};
    static uint16_t units[NAME_UNITS_MAX + 32];
    uint32_t length = 0, kind = next8(in);
    switch (kind < 0xF8 || long_names_left == 0 ? kind % 6 : 6) {
    case 1:
        break;
    case 2: /* one of a few, so that names repeat */
        units[length++] = 'p';
        units[length++] = (uint16_t)('0' + choice(in, 4));
        break;
    case 3:
        for (uint32_t most = choice(in, 40); length < most; length++) {
            units[length] = next16(in); /* 0 ends it early, with more behind */
        }
        break;
    case 4:
    case 5:
        for (uint32_t most = choice(in, 24); length < most; length++) {
            units[length] = surrogates[choice(in, COUNT(surrogates))];
        }
        break;
    case 6: { /* around the cut; without a NUL where that need not be read */
        uint16_t unit = (uint16_t)(next16(in) | 1);
        uint32_t around = choice(in, 32);
        long_names_left--;
        for (length = 0; length < NAME_UNITS_MAX - 8 + around; length++) {
            units[length] = unit;
        }
        units[NAME_UNITS_MAX - 1 - choice(in, 16)] = surrogates[choice(in, COUNT(surrogates))];
        units[length] = 0;
        if (length >= NAME_UNITS_MAX) {
            return piece(units, (size_t)(next8(in) & 1 ? length : NAME_UNITS_MAX) * 2);
        }
        break;
    }
    default:
        return NULL;
    }
    units[length] = 0;
    return piece(units, ((size_t)length + 1) * 2);
}

/* ---- SAs ---- */

/* Key or key-module state: absent in every way, of an exact block, or claiming far more than can be believed. */
static inline FWP_BYTE_BLOB
fuzzed_blob(struct input *in, uint32_t most)
{
    FWP_BYTE_BLOB blob = {0, NULL};
    uint32_t size = next8(in);
    switch (choice(in, 6)) {
    case 1:
        blob.size = odd_number(in); /* and no data */
        return blob;
    case 2:
        blob.data = wild(); /* and no size */
        return blob;
    case 3:
        return key_blob(0xFFFFFFFF - size, most);
    case 4:
        return key_blob(most - 1 + size % 3, most - (size % 3 == 0));
    default:
        return key_blob(size, size);
    }
}

static inline IPSEC_SA_AUTH_INFORMATION0
fuzzed_auth(struct input *in)
{
    IPSEC_SA_AUTH_INFORMATION0 auth;
    fill(&auth, sizeof auth, next8(in));
    auth.authTransform.authTransformId.authType = (IPSEC_AUTH_TYPE)odd_number(in);
    auth.authTransform.cryptoModuleId = wild();
    auth.authKey = fuzzed_blob(in, KEY_BYTES_MAX);
    return auth;
}

static inline IPSEC_SA_CIPHER_INFORMATION0
fuzzed_cipher(struct input *in)
{
    IPSEC_SA_CIPHER_INFORMATION0 cipher;
    fill(&cipher, sizeof cipher, next8(in));
    cipher.cipherTransform.cipherTransformId.cipherType = (IPSEC_CIPHER_TYPE)odd_number(in);
    cipher.cipherTransform.cryptoModuleId = wild();
    cipher.cipherKey = fuzzed_blob(in, KEY_BYTES_MAX);
    return cipher;
}

static inline IPSEC_SA0
fuzzed_sa(struct input *in)
{
    IPSEC_SA0 sa;
    IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0 both;
    uint32_t transform = odd_number(in);
    memset(&sa, 0, sizeof sa);
    sa.spi = odd_number(in);
    sa.saTransformType = (IPSEC_TRANSFORM_TYPE)transform;
    switch (transform) {
    case IPSEC_TRANSFORM_AH:
    case IPSEC_TRANSFORM_ESP_AUTH:
    case IPSEC_TRANSFORM_ESP_AUTH_FW:
        if (next8(in) != 1) {
            both.saAuthInformation = fuzzed_auth(in);
            sa.ahInformation = PIECE(both.saAuthInformation);
        }
        break;
    case IPSEC_TRANSFORM_ESP_CIPHER:
        if (next8(in) != 1) {
            both.saCipherInformation = fuzzed_cipher(in);
            sa.espCipherInformation = PIECE(both.saCipherInformation);
        }
        break;
    case IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER:
        if (next8(in) != 1) {
            both.saAuthInformation = fuzzed_auth(in);
            both.saCipherInformation = fuzzed_cipher(in);
            sa.espAuthAndCipherInformation = PIECE(both);
        }
        break;
    default:
        sa.ahInformation = wild();
        break;
    }
    return sa;
}

static inline void
fuzzed_sa_list(struct input *in, IPSEC_SA_BUNDLE1 *bundle)
{
    IPSEC_SA0 list[2];
    bundle->numSAs = odd_number(in);
    bundle->saList = bundle->numSAs ? NULL : wild();
    if (bundle->numSAs && choice(in, 8) != 7) {
        uint32_t honest = bundle->numSAs < 2 ? 1 : 2;
        for (uint32_t i = 0; i < honest; i++) {
            list[i] = fuzzed_sa(in);
        }
        bundle->saList = piece(list, honest * sizeof list[0]);
    }
}

/* ---- details and contexts ---- */

static inline void
fuzzed_traffic(struct input *in, IPSEC_TRAFFIC1 *traffic)
{
    uint8_t ends = next8(in);
    uint32_t version = choice(in, 8);
    traffic->ipVersion = (FWP_IP_VERSION)(version < 7 ? version / 4 : odd_number(in));
    traffic->trafficType = (IPSEC_TRAFFIC_TYPE)odd_number(in);
    traffic->remotePort = ends >> 5 & 1;
    traffic->localPort = ends >> 6 & 1;
    traffic->ipProtocol = ends >> 7;
    if ((uint32_t)traffic->ipVersion == FWP_IP_VERSION_V4) {
        traffic->localV4Address = 0x0A000000u | (ends & 3);
        traffic->remoteV4Address = 0x0A000000u | (uint32_t)next8(in) << (ends & 4 ? 0 : ends & 0x18);
    } else {
        memset(traffic->localV6Address, 0, 16);
        memset(traffic->remoteV6Address, 0, 16);
        traffic->localV6Address[0] = 0xFD;
        traffic->localV6Address[15] = ends & 3;
        traffic->remoteV6Address[0] = 0xFD;
        traffic->remoteV6Address[ends & 4 ? 15 : ends >> 1 & 15] = next8(in);
    }
}

static inline IPSEC_SA_DETAILS1 *
fuzzed_details(struct input *in)
{
    IPSEC_SA_DETAILS1 details;
    uint8_t parts = next8(in);
    fill(&details, sizeof details, next8(in));
    fuzzed_traffic(in, &details.traffic);
    fuzzed_sa_list(in, &details.saBundle);
    details.saBundle.ipVersion = (FWP_IP_VERSION)(parts >> 6);
    details.saBundle.pfsGroup = (IPSEC_PFS_GROUP)odd_number(in);
    if (parts & 1) {
        memset(&details.virtualIfTunnelInfo, 0, sizeof details.virtualIfTunnelInfo);
        memset(&details.saBundle.saLookupContext, 0, 16);
    }

    details.saBundle.ipsecId = NULL;
    if (parts & 2) {
        WCHAR *main_mode = fuzzed_name(in);
        details.saBundle.ipsecId = make_identity(main_mode, fuzzed_name(in));
    }
    details.saBundle.keyModuleState = NULL;
    if (parts & 4) {
        IPSEC_KEYMODULE_STATE0 state;
        fill(&state.keyModuleKey, 16, parts);
        state.stateBlob = fuzzed_blob(in, STATE_BYTES_MAX);
        details.saBundle.keyModuleState = PIECE(state);
    }
    details.transportFilter = NULL;
    if (parts & 8) {
        FWPM_FILTER0 filter;
        fill(&filter, sizeof filter, parts);
        details.transportFilter = PIECE(filter);
    }
    details.ipVersion = (FWP_IP_VERSION)(parts & 16 ? odd_number(in) : 0);
    details.udpEncapsulation = NULL;
    if (parts & 32 && (uint32_t)details.ipVersion == FWP_IP_VERSION_V4) {
        IPSEC_V4_UDP_ENCAPSULATION0 ports = {next8(in), 4500};
        details.udpEncapsulation = PIECE(ports);
    } else if (parts & 32) {
        details.udpEncapsulation = wild();
    }
    return PIECE(details);
}

static inline IPSEC_SA_CONTEXT1 *
fuzzed_context(struct input *in)
{
    uint8_t shape = choice(in, 16);
    uint64_t id = shape == 15 ? next64(in) : odd_number(in);
    IPSEC_SA_DETAILS1 *inbound = shape & 1 ? NULL : fuzzed_details(in);
    IPSEC_SA_DETAILS1 *outbound = shape & 2 ? NULL : shape == 12 ? inbound : fuzzed_details(in);
    return make_context(id, inbound, outbound);
}

/* The same contexts again, with names of their own: more than the builder first has room for. */
static inline IPSEC_SA_CONTEXT1 *
renamed(const IPSEC_SA_CONTEXT1 *context, uint32_t number)
{
    IPSEC_SA_DETAILS1 details;
    const uint16_t units[] = {(uint16_t)('a' + number % 26), (uint16_t)('a' + number / 26), 0};
    if (!context->inboundSa) {
        return make_context(context->saContextId + number, NULL, context->outboundSa);
    }
    details = *context->inboundSa;
    details.saBundle.ipsecId = make_identity(make_name(units), NULL);
    return make_context(context->saContextId + number, PIECE(details), context->outboundSa);
}

/* ---- pages ---- */

/* At most `most` entries, a few of them NULL or the same as another; in blocks of their own. */
static inline void
make_fuzzed_page(struct input *in, uint32_t version, uint32_t most, struct page *page)
{
    page->version = version;
    page->count = 0;
    long_names_left = LONG_NAMES_MAX;
    page->pieces_from = pieces_count;
    page->keys_from = keys_count;
    for (uint32_t wanted = next8(in) % (most + 1); page->count < wanted;) {
        IPSEC_SA_CONTEXT1 *context = NULL, *last = page->count ? page->contexts[page->count - 1] : NULL;
        uint32_t kind = choice(in, 16), repeats = 1;
        int repeatable = last && long_names_left == LONG_NAMES_MAX;
        if (kind == 13 && repeatable) {
            repeats = choice(in, 80);
            context = last;
        } else if (kind == 14 && repeatable) {
            for (repeats = choice(in, 180); repeats > 1 && page->count < wanted; repeats--) {
                page->contexts[page->count++] = renamed(last, repeats);
            }
            continue;
        } else if (kind != 15) {
            context = fuzzed_context(in);
        }
        for (; repeats && page->count < wanted; repeats--) {
            page->contexts[page->count++] = context;
        }
        if (in->left == 0) {
            break; /* or a short input would make a page of nothing but plain contexts */
        }
    }
    page->entries = make_page(version, page->contexts, page->count);
    page->pieces_to = pieces_count;
    page->keys_to = keys_count;
}

static inline void
free_page(struct page *page)
{
    for (size_t i = page->pieces_from; i < page->pieces_to; i++) {
        free(pieces[i]);
        pieces[i] = NULL;
    }
}

/* Whether every key byte that can be found is zero; of a page that was not freed. */
static inline int
is_wiped(const struct page *page)
{
    for (size_t i = page->keys_from; i < page->keys_to; i++) {
        const uint8_t *data = keys[i].data;
        if (data[0] || memcmp(data, data + 1, keys[i].bytes - 1) != 0) {
            return 0;
        }
    }
    return 1;
}

/* ---- what a batch must say ---- */

/* Bit by bit. */
static inline int
is_inside(const struct wfpsa_subnet *subnet, uint32_t family, const uint8_t *address)
{
    const uint8_t *wanted = subnet->address + (family == 4 ? 12 : 0);
    if (subnet->family == 0) {
        return 1;
    }
    if (subnet->family != family) {
        return 0;
    }
    for (unsigned bit = 0; bit < subnet->prefix_length; bit++) {
        if ((wanted[bit / 8] ^ address[bit / 8]) >> (7 - bit % 8) & 1) {
            return 0;
        }
    }
    return 1;
}

static inline void
network_order(uint32_t host_order, uint8_t *bytes)
{
    for (int i = 0; i < 4; i++) {
        bytes[i] = (uint8_t)(host_order >> (24 - 8 * i));
    }
}

/* Writes both addresses of the traffic in network order; the family: 4, 6, or 0 for any other. */
static inline uint32_t
ends_of(const IPSEC_TRAFFIC1 *traffic, uint8_t *local, uint8_t *remote)
{
    if ((uint32_t)traffic->ipVersion == FWP_IP_VERSION_V4) {
        network_order(traffic->localV4Address, local);
        network_order(traffic->remoteV4Address, remote);
        return 4;
    }
    memcpy(local, traffic->localV6Address, 16);
    memcpy(remote, traffic->remoteV6Address, 16);
    return (uint32_t)traffic->ipVersion == FWP_IP_VERSION_V6 ? 6 : 0;
}

static inline int
sa_is_kept(const IPSEC_SA_DETAILS1 *details, const struct wfpsa_subnets *subnets)
{
    uint8_t local[16], remote[16];
    if (!details) {
        return 0;
    }
    uint32_t family = ends_of(&details->traffic, local, remote);
    return is_inside(&subnets->local, family, local) && is_inside(&subnets->remote, family, remote);
}

/* Whether the entry becomes a row. */
static inline int
is_kept(const IPSEC_SA_CONTEXT1 *context, const struct wfpsa_subnets *subnets)
{
    return context &&
           (!subnets || sa_is_kept(context->inboundSa, subnets) || sa_is_kept(context->outboundSa, subnets));
}

#endif
