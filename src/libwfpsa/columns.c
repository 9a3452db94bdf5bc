/* The columnar batch: its column table, its building from pages of SA contexts, its freezing and its end. */
#include "platform.h" /* first: it asks the system headers for POSIX */

#include <string.h>

#include "bytes.h"
#include "memory.h"
#include "names.h"
#include "selection.h"
#include "wfpsa/columns.h"
#include "wfpsa/wfp.h"

/* ---- the table of columns ---- */

struct wfpsa_bytes16 {
    uint8_t bytes[16];
};

#define CELL_BOOL uint8_t
#define CELL_U8 uint8_t
#define CELL_U16 uint16_t
#define CELL_U32 uint32_t
#define CELL_U64 uint64_t
#define CELL_ENUM uint8_t
#define CELL_IPV4 uint32_t
#define CELL_ADDRESS struct wfpsa_bytes16
#define CELL_GUID struct wfpsa_bytes16
#define CELL_TEXT uint32_t

#define INFO(name, kind, absence, version, enumeration, source, note)                                                 \
    {#name,                                                                                                           \
     #name,                                                                                                           \
     WFPSA_##kind,                                                                                                    \
     WFPSA_##absence,                                                                                                 \
     WFPSA_BOTH_DIRECTIONS,                                                                                           \
     version,                                                                                                         \
     sizeof(CELL_##kind),                                                                                             \
     WFPSA_BITS_##absence(1, 1),                                                                                      \
     enumeration,                                                                                                     \
     source,                                                                                                          \
     note},
#define INFO_IN(name, kind, absence, version, enumeration, source, note)                                              \
    {#name "_in",                                                                                                     \
     #name,                                                                                                           \
     WFPSA_##kind,                                                                                                    \
     WFPSA_##absence,                                                                                                 \
     WFPSA_INBOUND,                                                                                                   \
     version,                                                                                                         \
     sizeof(CELL_##kind),                                                                                             \
     WFPSA_BITS_##absence(1, 0),                                                                                      \
     enumeration,                                                                                                     \
     "inboundSa->" source,                                                                                            \
     note},
#define INFO_OUT(name, kind, absence, version, enumeration, source, note)                                             \
    {#name "_out",                                                                                                    \
     #name,                                                                                                           \
     WFPSA_##kind,                                                                                                    \
     WFPSA_##absence,                                                                                                 \
     WFPSA_OUTBOUND,                                                                                                  \
     version,                                                                                                         \
     sizeof(CELL_##kind),                                                                                             \
     WFPSA_BITS_##absence(0, 1),                                                                                      \
     enumeration,                                                                                                     \
     "outboundSa->" source,                                                                                           \
     note},

static const struct wfpsa_column_info infos[WFPSA_COLUMN_COUNT] = {
    WFPSA_CONTEXT_COLUMNS(INFO) WFPSA_SA_COLUMNS(INFO_IN) WFPSA_SA_COLUMNS(INFO_OUT)};

const struct wfpsa_column_info *
wfpsa_column_info(uint32_t index)
{
    return index < WFPSA_COLUMN_COUNT ? &infos[index] : NULL;
}

/* ---- the block: rows are decoded here, in cache, and flushed to the columns a run at a time ---- */

#define BLOCK_ROWS 64

/* Names below which it is not worth while to look for unused ones. */
#define FORGOTTEN_FROM 1024u

/* What decoding asks the caches for ahead of its turn: lines, and contexts ahead. */
#define LINE_BYTES 64
enum { LIST_AHEAD = 3, DETAILS_AHEAD = 6, CONTEXT_AHEAD = 9 };

#define BLOCK_COLUMN(name, kind, absence, version, enumeration, source, note) CELL_##kind name[BLOCK_ROWS];

struct sa_block {
    WFPSA_SA_COLUMNS(BLOCK_COLUMN)
};

struct block {
    WFPSA_CONTEXT_COLUMNS(BLOCK_COLUMN)
    struct sa_block in;
    struct sa_block out;
    uint8_t presence[BLOCK_ROWS];
};

#define PLACE(name, kind, absence, version, enumeration, source, note) offsetof(struct block, name),
#define PLACE_IN(name, kind, absence, version, enumeration, source, note)                                             \
    offsetof(struct block, in) + offsetof(struct sa_block, name),
#define PLACE_OUT(name, kind, absence, version, enumeration, source, note)                                            \
    offsetof(struct block, out) + offsetof(struct sa_block, name),

static const size_t places[WFPSA_COLUMN_COUNT] = {WFPSA_CONTEXT_COLUMNS(PLACE) WFPSA_SA_COLUMNS(PLACE_IN)
                                                      WFPSA_SA_COLUMNS(PLACE_OUT)};

#define CLEAR_U8(column, row) column[row] = 0;
#define CLEAR_U16(column, row) column[row] = 0;
#define CLEAR_U32(column, row) column[row] = 0;
#define CLEAR_U64(column, row) column[row] = 0;
#define CLEAR_ENUM(column, row) column[row] = WFPSA_ENUM_ABSENT;
#define CLEAR_IPV4(column, row) column[row] = 0;
#define CLEAR_GUID(column, row) memset(&column[row], 0, 16);
#define CLEAR_TEXT(column, row) column[row] = 0;
#define CLEAR_COLUMN(name, kind, absence, version, enumeration, source, note) CLEAR_##kind(sa->name, row)

static void
clear_sa(struct sa_block *sa, unsigned row)
{
    WFPSA_SA_COLUMNS(CLEAR_COLUMN)
}

static void
clear_traffic(struct block *block, unsigned row)
{
    block->ip_version[row] = 0;
    block->traffic_type[row] = WFPSA_ENUM_ABSENT;
    memset(&block->local_address[row], 0, 16);
    memset(&block->remote_address[row], 0, 16);
    block->local_port[row] = 0;
    block->remote_port[row] = 0;
    block->ip_protocol[row] = 0;
    block->local_interface_luid[row] = 0;
    block->real_profile_id[row] = 0;
}

/* What has to be decoded for the columns that are kept: what stands together in a structure goes together. */
enum wants {
    WANT_TRAFFIC = 0x01,
    WANT_LIST = 0x02,       /* of the bundle's SAs: what their list itself says */
    WANT_ALGORITHMS = 0x04, /* and what it points to */
    WANT_BUNDLE = 0x08,     /* all of it but WANT_CORE */
    WANT_FILTER = 0x10,
    WANT_UDP = 0x20,
    WANT_KEY_MODULE = 0x40,
    WANT_MAIN_MODE = 0x80,
    WANT_EXTENDED_MODE = 0x100,
    WANT_DIFFERS = 0x200,
    WANT_CORE = 0x400 /* what the core set has of the bundle */
};

#define WANTED_WITH_context_id 0
#define WANTED_WITH_has_inbound 0
#define WANTED_WITH_has_outbound 0
#define WANTED_WITH_ip_version WANT_TRAFFIC
#define WANTED_WITH_traffic_type WANT_TRAFFIC
#define WANTED_WITH_local_address WANT_TRAFFIC
#define WANTED_WITH_remote_address WANT_TRAFFIC
#define WANTED_WITH_local_port WANT_TRAFFIC
#define WANTED_WITH_remote_port WANT_TRAFFIC
#define WANTED_WITH_ip_protocol WANT_TRAFFIC
#define WANTED_WITH_local_interface_luid WANT_TRAFFIC
#define WANTED_WITH_real_profile_id WANT_TRAFFIC
#define WANTED_WITH_traffic_differs WANT_DIFFERS

#define WANTED_WITH_spi WANT_LIST
#define WANTED_WITH_ah_spi WANT_LIST
#define WANTED_WITH_sa_count WANT_BUNDLE
#define WANTED_WITH_transform WANT_LIST
#define WANTED_WITH_auth_type WANT_ALGORITHMS
#define WANTED_WITH_auth_config WANT_ALGORITHMS
#define WANTED_WITH_cipher_type WANT_ALGORITHMS
#define WANTED_WITH_cipher_config WANT_ALGORITHMS
#define WANTED_WITH_ah_auth_type WANT_ALGORITHMS
#define WANTED_WITH_ah_auth_config WANT_ALGORITHMS
#define WANTED_WITH_bundle_flags WANT_BUNDLE
#define WANTED_WITH_lifetime_seconds WANT_CORE
#define WANTED_WITH_lifetime_kilobytes WANT_BUNDLE
#define WANTED_WITH_lifetime_packets WANT_BUNDLE
#define WANTED_WITH_idle_timeout_seconds WANT_BUNDLE
#define WANTED_WITH_nd_allow_clear_timeout_seconds WANT_BUNDLE
#define WANTED_WITH_nap_context WANT_BUNDLE
#define WANTED_WITH_qm_sa_id WANT_BUNDLE
#define WANTED_WITH_mm_sa_id WANT_CORE
#define WANTED_WITH_pfs_group WANT_BUNDLE
#define WANTED_WITH_qm_filter_id WANT_BUNDLE
#define WANTED_WITH_lookup_context WANT_BUNDLE
#define WANTED_WITH_filter_id WANT_CORE
#define WANTED_WITH_transport_filter_id WANT_FILTER
#define WANTED_WITH_udp_local_port WANT_UDP
#define WANTED_WITH_udp_remote_port WANT_UDP
#define WANTED_WITH_peer_private_address WANT_BUNDLE
#define WANTED_WITH_key_module WANT_KEY_MODULE
#define WANTED_WITH_virtual_tunnel_id WANT_BUNDLE
#define WANTED_WITH_traffic_selector_id WANT_BUNDLE
#define WANTED_WITH_main_mode_target WANT_MAIN_MODE
#define WANTED_WITH_extended_mode_target WANT_EXTENDED_MODE
#define WANTED_WITH(name, kind, absence, version, enumeration, source, note) WANTED_WITH_##name,

static const uint16_t wanted_with[WFPSA_COLUMN_COUNT] = {
    WFPSA_CONTEXT_COLUMNS(WANTED_WITH) WFPSA_SA_COLUMNS(WANTED_WITH) WFPSA_SA_COLUMNS(WANTED_WITH)};

struct wfpsa_builder {
    struct block block;
    struct names names;
    uint16_t wants_in, wants_out;     /* enum wants, by direction */
    uint8_t kept[WFPSA_COLUMN_COUNT]; /* the columns that there are */
    uint32_t kept_count;
};

/* ---- foreign memory ---- */

static uint8_t
narrow_enum(uint32_t value)
{
    return value < WFPSA_ENUM_OUT_OF_RANGE ? (uint8_t)value : WFPSA_ENUM_OUT_OF_RANGE;
}

/* An address cell: of the IPv4 address, of the IPv6 address, or zeros, as the one or the other mask is all ones. */
static inline void
put_address(struct wfpsa_bytes16 *cell, uint32_t host_order, uint64_t is4, const uint8_t *address6, uint64_t is6)
{
    put_big_endian64(cell->bytes, big_endian64(address6) & is6);
    put_big_endian64(cell->bytes + 8,
                     (big_endian64(address6 + 8) & is6) | ((UINT64_C(0xFFFF00000000) | host_order) & is4));
}

static int
in_subnet(const struct wfpsa_subnet *subnet, uint8_t family, const struct wfpsa_bytes16 *address)
{
    unsigned bits, whole, rest;
    if (subnet->family == 0) {
        return 1;
    }
    if (subnet->family != family) {
        return 0;
    }
    bits = subnet->prefix_length + (family == 4 ? 96u : 0u);
    whole = bits / 8;
    rest = bits % 8;
    return memcmp(subnet->address, address->bytes, whole) == 0 &&
           (rest == 0 || (subnet->address[whole] ^ address->bytes[whole]) >> (8 - rest) == 0);
}

/* The parts of an SA that its transform says are there; untouched where there are none. */
static void
sa_algorithms(const IPSEC_SA0 *sa, const IPSEC_SA_AUTH_INFORMATION0 **auth,
              const IPSEC_SA_CIPHER_INFORMATION0 **cipher)
{
    switch ((uint32_t)sa->saTransformType) {
    case IPSEC_TRANSFORM_AH:
    case IPSEC_TRANSFORM_ESP_AUTH:
    case IPSEC_TRANSFORM_ESP_AUTH_FW:
        *auth = sa->espAuthInformation; /* one union with ahInformation and espAuthFwInformation */
        break;
    case IPSEC_TRANSFORM_ESP_CIPHER:
        *cipher = sa->espCipherInformation;
        break;
    case IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER:
        if (sa->espAuthAndCipherInformation) {
            *auth = &sa->espAuthAndCipherInformation->saAuthInformation;
            *cipher = &sa->espAuthAndCipherInformation->saCipherInformation;
        }
        break;
    default:
        break;
    }
}

/* Far above any key that IPsec uses; a blob that claims more is not believed beyond this. */
#define KEY_BYTES_MAX 256
#define STATE_BYTES_MAX 65536

/* A plain memset stays: the page outlives this library's sight of it. */
static void
wipe_blob(const FWP_BYTE_BLOB *blob, uint32_t most)
{
    if (blob->data && blob->size) {
        memset(blob->data, 0, blob->size < most ? blob->size : most);
    }
}

/* Sizes vary from one context to the next, and guessing them wrong costs a processor time: keys of the usual sizes are
 * overwritten by words that overlap, whatever the size. */
static inline void
wipe_key(const FWP_BYTE_BLOB *blob)
{
    static const struct wfpsa_bytes16 zeros;
    uint8_t *data = blob->data;
    uint32_t last = blob->size - 16u;
    if (data && last <= 32u) {
        memcpy(data, &zeros, 16);
        memcpy(data + (last < 16u ? last : 16u), &zeros, 16);
        memcpy(data + last, &zeros, 16);
    } else {
        wipe_blob(blob, KEY_BYTES_MAX);
    }
}

static inline void
wipe_sa(const IPSEC_SA0 *sa)
{
    const IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0 *both = sa->espAuthAndCipherInformation;
    uint32_t transform = (uint32_t)sa->saTransformType;
    if (both && transform - 1u < IPSEC_TRANSFORM_ESP_AUTH_FW) {
        /* One union: both kinds of information are alike, and in the pair the cipher's comes first. */
        wipe_key(&both->saCipherInformation.cipherKey);
        if (transform == IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER) {
            wipe_key(&both->saAuthInformation.authKey);
        }
    }
}

static void
wipe_sas(const IPSEC_SA0 *list, uint32_t count)
{
    for (uint32_t i = 0; list && i < count && i < 2; i++) {
        wipe_sa(&list[i]);
    }
}

static void
wipe_key_module_state(const IPSEC_KEYMODULE_STATE0 *state)
{
    if (state) {
        wipe_blob(&state->stateBlob, STATE_BYTES_MAX);
    }
}

/* ---- building ---- */

static int
set_capacity(struct wfpsa_columns *columns, uint64_t capacity)
{
    for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
        if (columns->columns[i]) {
            void *cells = wfpsa_reallocate(columns->columns[i], capacity, infos[i].width);
            if (!cells) {
                return WFPSA_NO_MEMORY;
            }
            columns->columns[i] = cells;
        }
    }
    uint8_t *presence = wfpsa_reallocate(columns->presence, capacity, 1);
    if (!presence) {
        return WFPSA_NO_MEMORY;
    }
    columns->presence = presence;
    columns->capacity = capacity;
    return WFPSA_OK;
}

int
wfpsa_columns_reserve(struct wfpsa_columns *columns, uint64_t rows)
{
    uint64_t wanted = columns->length + rows;
    if (wanted <= columns->capacity) {
        return WFPSA_OK;
    }
    return set_capacity(columns, wanted > columns->capacity * 2 ? wanted : columns->capacity * 2);
}

void
wfpsa_columns_clear(struct wfpsa_columns *columns)
{
    columns->length = 0;
}

static void
flush(struct wfpsa_columns *columns, unsigned rows)
{
    const char *block = (const char *)&columns->builder->block;
    for (uint32_t at = 0; rows && at < columns->builder->kept_count; at++) {
        uint32_t i = columns->builder->kept[at];
        size_t width = infos[i].width;
        memcpy((char *)columns->columns[i] + columns->length * width, block + places[i], rows * width);
    }
    memcpy(columns->presence + columns->length, columns->builder->block.presence, rows);
    columns->length += rows;
}

#define CONTEXT struct IPSEC_SA_CONTEXT0_
#define DETAILS IPSEC_SA_DETAILS0
#define TRAFFIC IPSEC_TRAFFIC0
#define VERSION 0
#define DECODE_TRAFFIC decode_traffic0
#define TRAFFIC_DIFFERS traffic_differs0
#define IN_SUBNETS in_subnets0
#define WIPE_DETAILS wipe_details0
#define DECODE_ALGORITHMS decode_algorithms0
#define DECODE_BUNDLE decode_bundle0
#define DECODE_SA decode_sa0
#define DECODE_CONTEXT decode_context0
#define APPEND wfpsa_columns_append0
#define WIPE_PAGE wfpsa_page_wipe0
#include "decode.inc.h"

#define CONTEXT struct IPSEC_SA_CONTEXT1_
#define DETAILS IPSEC_SA_DETAILS1
#define TRAFFIC IPSEC_TRAFFIC1
#define VERSION 1
#define DECODE_TRAFFIC decode_traffic1
#define TRAFFIC_DIFFERS traffic_differs1
#define IN_SUBNETS in_subnets1
#define WIPE_DETAILS wipe_details1
#define DECODE_ALGORITHMS decode_algorithms1
#define DECODE_BUNDLE decode_bundle1
#define DECODE_SA decode_sa1
#define DECODE_CONTEXT decode_context1
#define APPEND wfpsa_columns_append1
#define WIPE_PAGE wfpsa_page_wipe1
#include "decode.inc.h"

struct wfpsa_columns *
wfpsa_columns_new_rows(uint32_t version, const uint8_t *wanted, uint64_t rows)
{
    struct wfpsa_columns *columns = wfpsa_allocate_zeroed(1, sizeof *columns);
    if (!columns) {
        return NULL;
    }
    columns->version = version;
    columns->references = 1;
    columns->length = rows;
    columns->capacity = rows;
    columns->presence = wfpsa_allocate(rows, 1);
    int complete = columns->presence != NULL;
    for (uint32_t i = 0; complete && i < WFPSA_COLUMN_COUNT; i++) {
        if (wanted ? wanted[i] : infos[i].version <= version) {
            columns->columns[i] = wfpsa_allocate(rows, infos[i].width);
            complete = columns->columns[i] != NULL;
        }
    }
    if (!complete || wfpsa_columns_set_strings(columns, 0, NULL, NULL) != WFPSA_OK) {
        wfpsa_columns_release(columns);
        return NULL;
    }
    return columns;
}

struct wfpsa_columns *
wfpsa_columns_new_some(uint32_t version, const uint8_t *wanted)
{
    struct wfpsa_columns *columns = wfpsa_columns_new_rows(version, wanted, 0);
    if (!columns) {
        return NULL;
    }
    struct wfpsa_builder *builder = wfpsa_allocate_zeroed(1, sizeof *builder);
    if (!builder) {
        wfpsa_columns_release(columns);
        return NULL;
    }
    columns->builder = builder;
    for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
        if (columns->columns[i]) {
            builder->kept[builder->kept_count++] = (uint8_t)i;
            builder->wants_in |= infos[i].direction != WFPSA_OUTBOUND ? wanted_with[i] : 0;
            builder->wants_out |= infos[i].direction != WFPSA_INBOUND ? wanted_with[i] : 0;
        }
    }
    return columns;
}

struct wfpsa_columns *
wfpsa_columns_new(uint32_t version)
{
    return wfpsa_columns_new_some(version, NULL);
}

static void
builder_free(struct wfpsa_builder *builder)
{
    if (builder) {
        names_free(&builder->names);
        wfpsa_free(builder);
    }
}

/* Calls for each cell of text of the batch: `codes` by code are set to 1, or the cell to what they say. */
static void
over_codes(struct wfpsa_columns *columns, uint32_t *codes, int replace)
{
    for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
        uint32_t *cells = columns->columns[i];
        for (uint64_t row = 0; cells && infos[i].kind == WFPSA_TEXT && row < columns->length; row++) {
            if (replace) {
                cells[row] = codes[cells[row]];
            } else {
                codes[cells[row]] = 1;
            }
        }
    }
}

/* The names with a 1 in `codes`, which become their new codes. */
static int
names_rebuilt(const struct names *names, uint32_t count, uint32_t *codes, struct names *kept,
              struct wfpsa_strings *strings)
{
    uint16_t *units = wfpsa_allocate(NAME_UNITS_MAX + 1, sizeof *units);
    strings->offsets = units ? wfpsa_allocate_zeroed(2, sizeof *strings->offsets) : NULL;
    int done = strings->offsets != NULL;
    codes[0] = 0;
    for (uint32_t code = 1; done && code <= count; code++) {
        if (codes[code]) {
            const struct name *name = &names->list[code - 1];
            memcpy(units, names->units + name->start, (size_t)name->length * sizeof *units);
            units[name->length] = 0;
            done = names_code(kept, strings, units, 0, &codes[code]);
        }
    }
    wfpsa_free(units);
    return done;
}

int
wfpsa_columns_forget_names(struct wfpsa_columns *columns, struct wfpsa_columns *also)
{
    uint32_t count = columns->strings.count, used = 0;
    struct names kept;
    struct wfpsa_strings strings = {0, NULL, NULL};
    if (count < FORGOTTEN_FROM) {
        return WFPSA_OK;
    }
    uint32_t *codes = wfpsa_allocate_zeroed((uint64_t)count + 1, sizeof *codes);
    if (!codes) {
        return WFPSA_NO_MEMORY;
    }
    memset(&kept, 0, sizeof kept);
    over_codes(columns, codes, 0);
    over_codes(also, codes, 0);
    for (uint32_t code = 1; code <= count; code++) {
        used += codes[code];
    }
    int done = 1;
    if (used < count / 2) {
        done = names_rebuilt(&columns->builder->names, count, codes, &kept, &strings);
        if (done) {
            over_codes(columns, codes, 1);
            over_codes(also, codes, 1);
            struct names old = columns->builder->names;
            struct wfpsa_strings old_strings = columns->strings;
            columns->builder->names = kept;
            columns->strings = strings;
            kept = old;
            strings = old_strings;
        }
        names_free(&kept);
        wfpsa_free(strings.offsets);
        wfpsa_free(strings.text);
    }
    wfpsa_free(codes);
    return done ? WFPSA_OK : WFPSA_NO_MEMORY;
}

int
wfpsa_columns_freeze(struct wfpsa_columns *columns)
{
    struct wfpsa_strings *strings = &columns->strings;
    if (!columns->builder) {
        return WFPSA_OK; /* frozen before */
    }
    uint64_t spare = columns->capacity - columns->length;
    columns->capacity = columns->length; /* if this fails halfway some arrays have no more room than that */
    columns->builder->names.capacity = strings->count;
    columns->builder->names.text_capacity = (uint64_t)strings->offsets[strings->count + 1];
    if (spare > columns->length / 16) {
        int status = set_capacity(columns, columns->length);
        if (status != WFPSA_OK) {
            return status;
        }
    }
    int32_t *offsets = wfpsa_reallocate(strings->offsets, (uint64_t)strings->count + 2, sizeof *offsets);
    if (!offsets) {
        return WFPSA_NO_MEMORY;
    }
    strings->offsets = offsets;
    if (strings->text) {
        char *text = wfpsa_reallocate(strings->text, (uint64_t)offsets[strings->count + 1], 1);
        if (!text) {
            return WFPSA_NO_MEMORY;
        }
        strings->text = text;
    }
    builder_free(columns->builder);
    columns->builder = NULL;
    return WFPSA_OK;
}

int
wfpsa_columns_set_strings(struct wfpsa_columns *columns, uint32_t count, const int32_t *offsets, const char *text)
{
    struct wfpsa_strings *strings = &columns->strings;
    int32_t *own = wfpsa_allocate_zeroed((uint64_t)count + 2, sizeof *own);
    char *own_text = own && count ? wfpsa_allocate((uint64_t)offsets[count + 1], 1) : NULL;
    if (!own || (count && !own_text)) {
        wfpsa_free(own);
        return WFPSA_NO_MEMORY;
    }
    if (count) {
        memcpy(own, offsets, ((size_t)count + 2) * sizeof *own);
        memcpy(own_text, text, (size_t)offsets[count + 1]);
    }
    wfpsa_free(strings->offsets);
    wfpsa_free(strings->text);
    strings->count = count;
    strings->offsets = own;
    strings->text = own_text;
    return WFPSA_OK;
}

uint64_t
wfpsa_columns_bytes(const struct wfpsa_columns *columns, uint64_t rows)
{
    const struct wfpsa_strings *strings = &columns->strings;
    uint64_t bytes = rows; /* presence */
    if (columns->selection) {
        return selection_bytes(columns->selection, rows);
    }
    for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
        bytes += columns->columns[i] ? rows * infos[i].width : 0;
    }
    return bytes + ((uint64_t)strings->count + 2) * sizeof *strings->offsets +
           (uint64_t)strings->offsets[strings->count + 1];
}

void
wfpsa_columns_retain(struct wfpsa_columns *columns)
{
    wfpsa_atomic_add(&columns->references, 1);
}

void
wfpsa_columns_release(struct wfpsa_columns *columns)
{
    if (!columns || wfpsa_atomic_add(&columns->references, -1) > 0) {
        return;
    }
    if (columns->selection) {
        selection_free(columns->selection);
        wfpsa_free(columns);
        return;
    }
    for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
        wfpsa_free(columns->columns[i]);
    }
    wfpsa_free(columns->presence);
    wfpsa_free(columns->strings.offsets);
    wfpsa_free(columns->strings.text);
    builder_free(columns->builder);
    wfpsa_free(columns);
}
