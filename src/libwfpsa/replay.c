/* From rows of a batch to the OS's structures, for a store of the embedded engine to take them as they were. */
#include "platform.h" /* first: it asks the system headers for POSIX */

#include "wfpsa/replay.h"

#include <string.h>

#include "bytes.h"
#include "memory.h"
#include "wfpsa/embedded.h"
#include "wfpsa/wfp.h"

#define NAME_UNITS_MAX 32767u

/* What the structures of one direction point to. */
struct side {
    IPSEC_SA_DETAILS1 details;
    IPSEC_SA0 list[2];
    IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0 informations[2];
    IPSEC_ID0 identity;
    IPSEC_KEYMODULE_STATE0 key_module;
    IPSEC_V4_UDP_ENCAPSULATION0 encapsulation;
    FWPM_FILTER0 filter;
    WCHAR *names[2]; /* room for the longest of the batch, each */
};

/* The rows, and room for the structures of one of them. */
struct replay {
    const uint8_t *cells[WFPSA_COLUMN_COUNT]; /* NULL where the batch lacks the column */
    const uint8_t *presence;
    const struct wfpsa_strings *strings;
    uint64_t start;
    int64_t step;
    IPSEC_SA_CONTEXT1 context;
    struct side in, out;
};

/* ---- cells ---- */

/* The index of a direction's column: those of one direction are in the same order as the other's. */
#define OF(outbound, name)                                                                                            \
    (WFPSA_COLUMN_##name##_in + ((outbound) ? (uint32_t)WFPSA_COLUMN_spi_out - (uint32_t)WFPSA_COLUMN_spi_in : 0u))

/* The number in a cell, or that one where there is no such column. */
static uint64_t
number(const struct replay *replay, uint32_t column, uint64_t row, uint64_t missing)
{
    const uint8_t *cells = replay->cells[column];
    uint16_t two;
    uint32_t four;
    uint64_t eight;
    if (!cells) {
        return missing;
    }
    switch (wfpsa_column_info(column)->width) {
    case 1:
        return cells[row];
    case 2:
        memcpy(&two, cells + row * sizeof two, sizeof two);
        return two;
    case 4:
        memcpy(&four, cells + row * sizeof four, sizeof four);
        return four;
    default:
        memcpy(&eight, cells + row * sizeof eight, sizeof eight);
        return eight;
    }
}

static UINT32
number32(const struct replay *replay, uint32_t column, uint64_t row)
{
    return (UINT32)number(replay, column, row, 0);
}

/* The value of an enum column; for an absent one as for a missing column. */
static UINT32
enumerator(const struct replay *replay, uint32_t column, uint64_t row, UINT32 missing)
{
    uint64_t value = number(replay, column, row, missing);
    return value == WFPSA_ENUM_ABSENT ? missing : (UINT32)value;
}

/* Copies a GUID; 0 where it is absent. */
static int
guid(const struct replay *replay, uint32_t column, uint64_t row, GUID *to)
{
    static const GUID zero;
    *to = zero;
    if (replay->cells[column]) {
        memcpy(to, replay->cells[column] + row * sizeof *to, sizeof *to);
    }
    return memcmp(to, &zero, sizeof zero) != 0;
}

/* ---- names ---- */

/* UTF-8 to NUL-terminated UTF-16, of which there are never more units than bytes; what is malformed as U+FFFD. */
static void
put_utf16(WCHAR *to, const char *text, uint32_t bytes)
{
    const uint8_t *at = (const uint8_t *)text, *end = at + bytes;
    uint32_t units = 0;
    while (at < end && units < NAME_UNITS_MAX) {
        uint32_t c = *at++;
        uint32_t more = c >= 0xF0 ? 3u : c >= 0xE0 ? 2u : c >= 0xC0 ? 1u : 0u;
        if (c >= 0x80) {
            c = more ? c & (0x3Fu >> more) : 0xFFFDu;
            for (; more && at < end && (*at & 0xC0) == 0x80; more--) {
                c = c << 6 | (*at++ & 0x3Fu);
            }
            c = more || c > 0x10FFFF ? 0xFFFDu : c;
        }
        if (c >= 0x10000 && units + 1 < NAME_UNITS_MAX) {
            to[units++] = (WCHAR)(0xD800u + ((c - 0x10000u) >> 10));
            to[units++] = (WCHAR)(0xDC00u + ((c - 0x10000u) & 0x3FFu));
        } else {
            to[units++] = (WCHAR)(c >= 0x10000 ? 0xFFFDu : c);
        }
    }
    to[units] = 0;
}

/* The name of a cell, in that room; NULL where it is absent. */
static WCHAR *
name(const struct replay *replay, uint32_t column, uint64_t row, WCHAR *room)
{
    const struct wfpsa_strings *strings = replay->strings;
    uint32_t code = number32(replay, column, row);
    if (code == 0 || code > strings->count) {
        return NULL;
    }
    put_utf16(room, strings->text + strings->offsets[code],
              (uint32_t)(strings->offsets[code + 1] - strings->offsets[code]));
    return room;
}

/* ---- traffic ---- */

static int
is_mapped(const struct replay *replay, uint32_t column, uint64_t row)
{
    static const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
    return !replay->cells[column] || memcmp(replay->cells[column] + row * 16, prefix, sizeof prefix) == 0;
}

static FWP_IP_VERSION
ip_version_of(const struct replay *replay, uint64_t row)
{
    int is_v4 =
        is_mapped(replay, WFPSA_COLUMN_local_address, row) && is_mapped(replay, WFPSA_COLUMN_remote_address, row);
    if (!(replay->presence[row] & WFPSA_PRESENT_ADDRESS)) {
        return FWP_IP_VERSION_NONE;
    }
    switch (number(replay, WFPSA_COLUMN_ip_version, row, is_v4 ? 4 : 6)) {
    case 4:
        return FWP_IP_VERSION_V4;
    case 6:
        return FWP_IP_VERSION_V6;
    default:
        return FWP_IP_VERSION_NONE;
    }
}

static void
put_address(const struct replay *replay, uint32_t column, uint64_t row, FWP_IP_VERSION version, UINT8 *v6, UINT32 *v4)
{
    const uint8_t *cell = replay->cells[column] ? replay->cells[column] + row * 16 : NULL;
    if (cell && version == FWP_IP_VERSION_V4) {
        *v4 = big_endian32(cell + 12);
    } else if (cell) {
        memcpy(v6, cell, 16);
    }
}

static void
fill_traffic(const struct replay *replay, uint64_t row, int outbound, IPSEC_TRAFFIC1 *traffic)
{
    FWP_IP_VERSION version = ip_version_of(replay, row);
    traffic->ipVersion = version;
    put_address(replay, WFPSA_COLUMN_local_address, row, version, traffic->localV6Address, &traffic->localV4Address);
    put_address(replay, WFPSA_COLUMN_remote_address, row, version, traffic->remoteV6Address,
                &traffic->remoteV4Address);
    traffic->trafficType =
        (IPSEC_TRAFFIC_TYPE)enumerator(replay, WFPSA_COLUMN_traffic_type, row, IPSEC_TRAFFIC_TYPE_TRANSPORT);
    traffic->ipsecFilterId = number(replay, OF(outbound, filter_id), row, 0);
    traffic->remotePort = (UINT16)number32(replay, WFPSA_COLUMN_remote_port, row);
    traffic->localPort = (UINT16)number32(replay, WFPSA_COLUMN_local_port, row);
    traffic->ipProtocol = (UINT8)number32(replay, WFPSA_COLUMN_ip_protocol, row);
    traffic->localIfLuid = number(replay, WFPSA_COLUMN_local_interface_luid, row, 0);
    traffic->realIfProfileId = number32(replay, WFPSA_COLUMN_real_profile_id, row);
    int has_outbound = replay->presence[row] & WFPSA_PRESENT_OUTBOUND;
    if (!outbound && has_outbound && number(replay, WFPSA_COLUMN_traffic_differs, row, 0)) {
        traffic->remotePort ^= 1; /* the row has the outbound's */
    }
}

/* ---- SAs ---- */

static UINT32
auth_key_bytes(UINT32 type)
{
    static const UINT8 bytes[IPSEC_AUTH_MAX] = {16, 20, 32, 20, 28, 36}; /* GMAC: four of salt */
    return type < IPSEC_AUTH_MAX ? bytes[type] : 16u;
}

static UINT32
cipher_key_bytes(UINT32 type, UINT32 config)
{
    static const UINT8 bytes[IPSEC_CIPHER_TYPE_MAX] = {16, 8, 24, 16, 24, 32};
    UINT32 salt = config >= IPSEC_CIPHER_CONFIG_GCM_AES_128 && config <= IPSEC_CIPHER_CONFIG_GCM_AES_256 ? 4 : 0;
    return salt + (type < IPSEC_CIPHER_TYPE_MAX ? bytes[type] : 16u);
}

/* Whether the batch says that there is no such algorithm. */
static int
is_without(const struct replay *replay, uint32_t type, uint32_t config, uint64_t row)
{
    return number(replay, type, row, 0) == WFPSA_ENUM_ABSENT || number(replay, config, row, 0) == WFPSA_ENUM_ABSENT;
}

static void
fill_auth(const struct replay *replay, uint32_t type, uint32_t config, uint64_t row, IPSEC_SA_AUTH_INFORMATION0 *auth)
{
    UINT32 kind = enumerator(replay, type, row, IPSEC_AUTH_SHA_256);
    auth->authTransform.authTransformId.authType = (IPSEC_AUTH_TYPE)kind;
    auth->authTransform.authTransformId.authConfig =
        (IPSEC_AUTH_CONFIG)enumerator(replay, config, row, IPSEC_AUTH_CONFIG_HMAC_SHA_256_128);
    auth->authKey.size = auth_key_bytes(kind);
}

static void
fill_first(const struct replay *replay, uint64_t row, int outbound, IPSEC_SA0 *sa,
           IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0 *both)
{
    IPSEC_SA_CIPHER_INFORMATION0 *cipher = &both->saCipherInformation;
    int has_auth = !is_without(replay, OF(outbound, auth_type), OF(outbound, auth_config), row);
    int has_cipher = !is_without(replay, OF(outbound, cipher_type), OF(outbound, cipher_config), row);
    UINT32 likely = has_auth == has_cipher ? IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER
                    : has_auth             ? IPSEC_TRANSFORM_ESP_AUTH
                                           : IPSEC_TRANSFORM_ESP_CIPHER;
    UINT32 transform = enumerator(replay, OF(outbound, transform), row, likely);
    UINT32 type = enumerator(replay, OF(outbound, cipher_type), row, IPSEC_CIPHER_TYPE_AES_128);
    UINT32 config = enumerator(replay, OF(outbound, cipher_config), row, IPSEC_CIPHER_CONFIG_CBC_AES_128);
    fill_auth(replay, OF(outbound, auth_type), OF(outbound, auth_config), row, &both->saAuthInformation);
    cipher->cipherTransform.cipherTransformId.cipherType = (IPSEC_CIPHER_TYPE)type;
    cipher->cipherTransform.cipherTransformId.cipherConfig = (IPSEC_CIPHER_CONFIG)config;
    cipher->cipherKey.size = cipher_key_bytes(type, config);
    sa->spi = number32(replay, OF(outbound, spi), row);
    sa->saTransformType = (IPSEC_TRANSFORM_TYPE)transform;
    switch (transform) {
    case IPSEC_TRANSFORM_AH:
    case IPSEC_TRANSFORM_ESP_AUTH:
    case IPSEC_TRANSFORM_ESP_AUTH_FW:
        sa->ahInformation = has_auth ? &both->saAuthInformation : NULL;
        break;
    case IPSEC_TRANSFORM_ESP_CIPHER:
        sa->espCipherInformation = has_cipher ? cipher : NULL;
        break;
    case IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER:
        sa->espAuthAndCipherInformation = has_auth && has_cipher ? both : NULL;
        break;
    default:
        break;
    }
}

/* The AH SA beside an ESP SA. */
static void
fill_second(const struct replay *replay, uint64_t row, int outbound, IPSEC_SA0 *sa,
            IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0 *both)
{
    uint32_t type = OF(outbound, ah_auth_type), config = OF(outbound, ah_auth_config);
    fill_auth(replay, type, config, row, &both->saAuthInformation);
    sa->spi = number32(replay, OF(outbound, ah_spi), row);
    sa->saTransformType = IPSEC_TRANSFORM_AH;
    sa->ahInformation = is_without(replay, type, config, row) ? NULL : &both->saAuthInformation;
}

static void
fill_sas(const struct replay *replay, uint64_t row, int outbound, struct side *side, IPSEC_SA_BUNDLE1 *bundle)
{
    unsigned bits = (unsigned)replay->presence[row] >> (outbound ? 1 : 0);
    UINT32 listed = bits & WFPSA_PRESENT_SECOND_IN ? 2u : bits & WFPSA_PRESENT_FIRST_IN ? 1u : 0u;
    UINT32 count = (UINT32)number(replay, OF(outbound, sa_count), row, listed);
    if (listed == 0) {
        bundle->numSAs = count; /* of a list that is not there */
        return;
    }
    bundle->numSAs = listed == 2 && count > 2 ? count : listed;
    bundle->saList = side->list;
    fill_first(replay, row, outbound, &side->list[0], &side->informations[0]);
    if (listed == 2) {
        fill_second(replay, row, outbound, &side->list[1], &side->informations[1]);
    }
}

static void
fill_bundle(const struct replay *replay, uint64_t row, int outbound, struct side *side, IPSEC_SA_BUNDLE1 *bundle)
{
    bundle->flags = number32(replay, OF(outbound, bundle_flags), row);
    bundle->lifetime.lifetimeSeconds = number32(replay, OF(outbound, lifetime_seconds), row);
    bundle->lifetime.lifetimeKilobytes = number32(replay, OF(outbound, lifetime_kilobytes), row);
    bundle->lifetime.lifetimePackets = number32(replay, OF(outbound, lifetime_packets), row);
    bundle->idleTimeoutSeconds = number32(replay, OF(outbound, idle_timeout_seconds), row);
    bundle->ndAllowClearTimeoutSeconds = number32(replay, OF(outbound, nd_allow_clear_timeout_seconds), row);
    side->identity.mmTargetName = name(replay, OF(outbound, main_mode_target), row, side->names[0]);
    side->identity.emTargetName = name(replay, OF(outbound, extended_mode_target), row, side->names[1]);
    if (side->identity.mmTargetName || side->identity.emTargetName) {
        bundle->ipsecId = &side->identity;
    }
    bundle->napContext = number32(replay, OF(outbound, nap_context), row);
    bundle->qmSaId = number32(replay, OF(outbound, qm_sa_id), row);
    fill_sas(replay, row, outbound, side, bundle);
    if (guid(replay, OF(outbound, key_module), row, &side->key_module.keyModuleKey)) {
        bundle->keyModuleState = &side->key_module;
    }
    bundle->peerV4PrivateAddress = number32(replay, OF(outbound, peer_private_address), row);
    bundle->ipVersion = bundle->peerV4PrivateAddress ? FWP_IP_VERSION_V4 : ip_version_of(replay, row);
    bundle->mmSaId = number(replay, OF(outbound, mm_sa_id), row, 0);
    bundle->pfsGroup = (IPSEC_PFS_GROUP)enumerator(replay, OF(outbound, pfs_group), row, IPSEC_PFS_NONE);
    guid(replay, OF(outbound, lookup_context), row, &bundle->saLookupContext);
    bundle->qmFilterId = number(replay, OF(outbound, qm_filter_id), row, 0);
}

static IPSEC_SA_DETAILS1 *
fill_side(const struct replay *replay, uint64_t row, int outbound, struct side *side)
{
    WCHAR *names[2] = {side->names[0], side->names[1]};
    if (!(replay->presence[row] & (outbound ? WFPSA_PRESENT_OUTBOUND : WFPSA_PRESENT_INBOUND))) {
        return NULL;
    }
    memset(side, 0, sizeof *side);
    memcpy(side->names, names, sizeof names);
    IPSEC_SA_DETAILS1 *details = &side->details;
    details->saDirection = outbound ? FWP_DIRECTION_OUTBOUND : FWP_DIRECTION_INBOUND;
    fill_traffic(replay, row, outbound, &details->traffic);
    fill_bundle(replay, row, outbound, side, &details->saBundle);
    side->encapsulation.localUdpEncapPort = (UINT16)number32(replay, OF(outbound, udp_local_port), row);
    side->encapsulation.remoteUdpEncapPort = (UINT16)number32(replay, OF(outbound, udp_remote_port), row);
    details->ipVersion = details->traffic.ipVersion;
    if (side->encapsulation.localUdpEncapPort || side->encapsulation.remoteUdpEncapPort) {
        details->ipVersion = FWP_IP_VERSION_V4;
        details->udpEncapsulation = &side->encapsulation;
    }
    side->filter.filterId = number(replay, OF(outbound, transport_filter_id), row, 0);
    if (side->filter.filterId) {
        details->transportFilter = &side->filter;
    }
    details->virtualIfTunnelInfo.virtualIfTunnelId = number(replay, OF(outbound, virtual_tunnel_id), row, 0);
    details->virtualIfTunnelInfo.trafficSelectorId = number(replay, OF(outbound, traffic_selector_id), row, 0);
    return details;
}

static const IPSEC_SA_CONTEXT1 *
context_at(void *source, uint64_t index)
{
    struct replay *replay = source;
    uint64_t row = replay->start + (uint64_t)((int64_t)index * replay->step);
    replay->context.saContextId = number(replay, WFPSA_COLUMN_context_id, row, 0);
    replay->context.inboundSa = fill_side(replay, row, 0, &replay->in);
    replay->context.outboundSa = fill_side(replay, row, 1, &replay->out);
    return &replay->context;
}

uint32_t
wfpsa_replay(wfpsa_store_replayer *replayer, struct wfpsa_store *store, const struct wfpsa_columns *columns,
             uint64_t start, int64_t step, uint64_t count, uint64_t *failed)
{
    uint64_t longest = 0;
    for (uint32_t code = 1; code <= columns->strings.count; code++) {
        uint64_t length = (uint64_t)(columns->strings.offsets[code + 1] - columns->strings.offsets[code]);
        longest = length > longest ? length : longest;
    }
    longest = longest < NAME_UNITS_MAX ? longest : NAME_UNITS_MAX;
    *failed = 0;
    struct replay *replay = wfpsa_allocate_zeroed(1, sizeof *replay);
    WCHAR *room = wfpsa_allocate(4 * (longest + 1), sizeof *room);
    if (!replay || !room) {
        wfpsa_free(replay);
        wfpsa_free(room);
        return ERROR_NOT_ENOUGH_MEMORY;
    }
    const void *cells = NULL, *presence = NULL;
    int status = wfpsa_columns_cells(columns, WFPSA_PRESENCE, &presence);
    for (uint32_t i = 0; status == WFPSA_OK && i < WFPSA_COLUMN_COUNT; i++) {
        status = wfpsa_columns_cells(columns, i, &cells);
        replay->cells[i] = cells;
    }
    if (status != WFPSA_OK) {
        wfpsa_free(replay);
        wfpsa_free(room);
        return ERROR_NOT_ENOUGH_MEMORY;
    }
    replay->presence = presence;
    replay->strings = &columns->strings;
    replay->start = start;
    replay->step = step;
    for (size_t i = 0; i < 2; i++) {
        replay->in.names[i] = room + i * (longest + 1);
        replay->out.names[i] = room + (2 + i) * (longest + 1);
    }
    uint32_t code = replayer(store, count, context_at, replay, failed);
    wfpsa_free(room);
    wfpsa_free(replay);
    return code;
}
