/* Fuzzes the decoder: pages of odd contexts into one batch, with and without memory; the batch must say what the pages
 * said, export, and leave nothing behind. */
#include "pages.h"

#include "wfpsa/arrow.h"

#define PAGES_MAX 4
#define NTH_MAX 1024 /* of the allocation that fails; more than there are */

struct scene {
    uint32_t version;
    struct page pages[PAGES_MAX];
    uint32_t pages_count;
    const struct wfpsa_subnets *subnets;
    uint64_t rows; /* that the batch must have */
    uint64_t slice_start, slice_length;
    unsigned arrow_options;
};

/* ---- what a row must say ---- */

/* UTF-16 to UTF-8 the long way; `to` has room for three bytes a unit. */
static size_t
utf8_of(const WCHAR *name, char *to)
{
    size_t length = 0;
    for (uint32_t i = 0; i < NAME_UNITS_MAX && name[i]; i++) {
        uint32_t unit = name[i], next = i + 1 < NAME_UNITS_MAX ? name[i + 1] : 0, point = unit;
        if (unit >= 0xD800 && unit < 0xDC00 && next >= 0xDC00 && next < 0xE000) {
            point = 0x10000 + (unit - 0xD800) * 0x400 + (next - 0xDC00);
            i++;
        } else if (unit >= 0xD800 && unit < 0xE000) {
            point = 0xFFFD;
        }
        int more = point < 0x80 ? 0 : point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
        static const uint8_t leads[] = {0, 0xC0, 0xE0, 0xF0};
        to[length++] = (char)(leads[more] | point >> (6 * more));
        while (more--) {
            to[length++] = (char)(0x80 | (point >> (6 * more) & 0x3F));
        }
    }
    return length;
}

static const WCHAR *name_checked; /* the last one, and its code: the same context may be there many times */
static uint32_t name_checked_code;

static void
check_name(const struct wfpsa_columns *batch, uint32_t code, const WCHAR *name)
{
    static char text[NAME_UNITS_MAX * 3];
    if (!name) {
        REQUIRE_EQUAL(code, 0);
        return;
    }
    if (name != name_checked || code != name_checked_code) {
        REQUIRE(name_is(batch, code, text, utf8_of(name, text)));
        name_checked = name;
        name_checked_code = code;
    }
}

static uint32_t
narrow(uint32_t value)
{
    return value < 254 ? value : 254;
}

/* The authentication and the cipher that an SA has, NULL for none. */
static void
parts_of(const IPSEC_SA0 *sa, const IPSEC_SA_AUTH_INFORMATION0 **auth, const IPSEC_SA_CIPHER_INFORMATION0 **cipher)
{
    uint32_t transform = (uint32_t)sa->saTransformType;
    *auth = NULL;
    *cipher = NULL;
    if (transform == IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER && sa->espAuthAndCipherInformation) {
        *auth = &sa->espAuthAndCipherInformation->saAuthInformation;
        *cipher = &sa->espAuthAndCipherInformation->saCipherInformation;
    } else if (transform == IPSEC_TRANSFORM_ESP_CIPHER) {
        *cipher = sa->espCipherInformation;
    } else if (transform == IPSEC_TRANSFORM_AH || transform == IPSEC_TRANSFORM_ESP_AUTH ||
               transform == IPSEC_TRANSFORM_ESP_AUTH_FW) {
        *auth = sa->ahInformation;
    }
}

/* The cells of one direction, which begin at its first column. */
#define SIDE(column, type)                                                                                            \
    (((const type *)batch->columns[first + (WFPSA_COLUMN_##column##_in - WFPSA_COLUMN_spi_in)])[row])
#define SIDE8(column) SIDE(column, uint8_t)
#define SIDE16(column) SIDE(column, uint16_t)
#define SIDE32(column) SIDE(column, uint32_t)
#define SIDE64(column) SIDE(column, uint64_t)

static void
check_algorithms(const struct wfpsa_columns *batch, uint32_t first, uint64_t row, const IPSEC_SA_BUNDLE1 *bundle)
{
    const IPSEC_SA_AUTH_INFORMATION0 *auth = NULL, *ah = NULL;
    const IPSEC_SA_CIPHER_INFORMATION0 *cipher = NULL, *unused;
    uint32_t listed = bundle->saList ? bundle->numSAs : 0;
    if (listed >= 1) {
        parts_of(&bundle->saList[0], &auth, &cipher);
    }
    if (listed >= 2) {
        parts_of(&bundle->saList[1], &ah, &unused);
    }
    REQUIRE_EQUAL(SIDE32(spi), listed >= 1 ? bundle->saList[0].spi : 0);
    REQUIRE_EQUAL(SIDE8(transform), listed >= 1 ? narrow((uint32_t)bundle->saList[0].saTransformType) : 255);
    REQUIRE_EQUAL(SIDE32(ah_spi), listed >= 2 ? bundle->saList[1].spi : 0);
    REQUIRE_EQUAL(SIDE8(auth_type), auth ? narrow((uint32_t)auth->authTransform.authTransformId.authType) : 255);
    REQUIRE_EQUAL(SIDE8(auth_config), auth ? narrow(auth->authTransform.authTransformId.authConfig) : 255);
    REQUIRE_EQUAL(SIDE8(cipher_type),
                  cipher ? narrow((uint32_t)cipher->cipherTransform.cipherTransformId.cipherType) : 255);
    REQUIRE_EQUAL(SIDE8(cipher_config), cipher ? narrow(cipher->cipherTransform.cipherTransformId.cipherConfig) : 255);
    REQUIRE_EQUAL(SIDE8(ah_auth_type), ah ? narrow((uint32_t)ah->authTransform.authTransformId.authType) : 255);
    REQUIRE_EQUAL(SIDE8(ah_auth_config), ah ? narrow(ah->authTransform.authTransformId.authConfig) : 255);
}

static void
check_side(const struct wfpsa_columns *batch, uint32_t first, uint64_t row, const IPSEC_SA_DETAILS1 *details)
{
    static const uint8_t zeros[16];
    if (!details) {
        REQUIRE(is_absent(batch, first + (WFPSA_COLUMN_sa_count_in - WFPSA_COLUMN_spi_in), row));
        return;
    }
    const IPSEC_SA_BUNDLE1 *bundle = &details->saBundle;
    const IPSEC_V4_UDP_ENCAPSULATION0 *udp = (uint32_t)details->ipVersion == 0 ? details->udpEncapsulation : NULL;
    REQUIRE_EQUAL(SIDE8(sa_count), narrow(bundle->numSAs));
    check_algorithms(batch, first, row, bundle);
    REQUIRE_EQUAL(SIDE32(bundle_flags), bundle->flags);
    REQUIRE_EQUAL(SIDE32(lifetime_packets), bundle->lifetime.lifetimePackets);
    REQUIRE_EQUAL(SIDE32(qm_sa_id), bundle->qmSaId);
    REQUIRE_EQUAL(SIDE64(mm_sa_id), bundle->mmSaId);
    REQUIRE_EQUAL(SIDE8(pfs_group), narrow((uint32_t)bundle->pfsGroup));
    REQUIRE_EQUAL(SIDE64(filter_id), details->traffic.ipsecFilterId);
    REQUIRE_EQUAL(SIDE64(transport_filter_id), details->transportFilter ? details->transportFilter->filterId : 0);
    REQUIRE_EQUAL(SIDE16(udp_local_port), udp ? udp->localUdpEncapPort : 0);
    REQUIRE_EQUAL(SIDE16(udp_remote_port), udp ? udp->remoteUdpEncapPort : 0);
    REQUIRE_EQUAL(SIDE32(peer_private_address), (uint32_t)bundle->ipVersion == 0 ? bundle->peerV4PrivateAddress : 0);
    REQUIRE(
        memcmp((const uint8_t *)batch->columns[first + (WFPSA_COLUMN_key_module_in - WFPSA_COLUMN_spi_in)] + row * 16,
               bundle->keyModuleState ? (const void *)&bundle->keyModuleState->keyModuleKey : zeros, 16) == 0);
    if (batch->version >= 1) {
        REQUIRE_EQUAL(SIDE64(qm_filter_id), bundle->qmFilterId);
        REQUIRE_EQUAL(SIDE64(virtual_tunnel_id), details->virtualIfTunnelInfo.virtualIfTunnelId);
    }
    check_name(batch, SIDE32(main_mode_target), bundle->ipsecId ? bundle->ipsecId->mmTargetName : NULL);
    check_name(batch, SIDE32(extended_mode_target), bundle->ipsecId ? bundle->ipsecId->emTargetName : NULL);
}

static void
check_address(const uint8_t *cell, uint32_t family, const uint8_t *address)
{
    static const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
    if (family == 4) {
        REQUIRE(memcmp(cell, prefix, 12) == 0 && memcmp(cell + 12, address, 4) == 0);
    } else if (family == 6) {
        REQUIRE(memcmp(cell, address, 16) == 0);
    }
}

static int
same_traffic(uint32_t version, const IPSEC_TRAFFIC1 *a, const IPSEC_TRAFFIC1 *b)
{
    uint8_t ends[4][16];
    uint32_t family = ends_of(a, ends[0], ends[1]);
    size_t bytes = family == 4 ? 4 : family == 6 ? 16 : 0;
    ends_of(b, ends[2], ends[3]);
    return (uint32_t)a->ipVersion == (uint32_t)b->ipVersion && a->remotePort == b->remotePort &&
           (version == 0 || (a->localPort == b->localPort && a->ipProtocol == b->ipProtocol)) &&
           memcmp(ends[0], ends[2], bytes) == 0 && memcmp(ends[1], ends[3], bytes) == 0;
}

static void
check_row(const struct wfpsa_columns *batch, uint64_t row, const IPSEC_SA_CONTEXT1 *context)
{
    const IPSEC_SA_DETAILS1 *in = context->inboundSa, *out = context->outboundSa;
    REQUIRE_EQUAL(U64(batch, context_id, row), context->saContextId);
    REQUIRE_EQUAL(U8(batch, has_inbound, row), in != NULL);
    REQUIRE_EQUAL(U8(batch, has_outbound, row), out != NULL);
    REQUIRE_EQUAL(U8(batch, traffic_differs, row),
                  in && out && !same_traffic(batch->version, &in->traffic, &out->traffic));
    if (in || out) {
        uint8_t local[16], remote[16];
        const IPSEC_TRAFFIC1 *traffic = out ? &out->traffic : &in->traffic;
        uint32_t family = ends_of(traffic, local, remote);
        REQUIRE_EQUAL(U8(batch, ip_version, row), family ? family : 254);
        REQUIRE_EQUAL(U8(batch, traffic_type, row), narrow((uint32_t)traffic->trafficType));
        REQUIRE_EQUAL(ABSENT(batch, local_address, row), family == 0);
        check_address(BYTES16(batch, local_address, row), family, local);
        check_address(BYTES16(batch, remote_address, row), family, remote);
        REQUIRE_EQUAL(U16(batch, remote_port, row), traffic->remotePort);
        if (batch->version >= 1) {
            REQUIRE_EQUAL(U8(batch, ip_protocol, row), traffic->ipProtocol);
        }
    } else {
        REQUIRE(ABSENT(batch, ip_version, row) && ABSENT(batch, local_address, row));
    }
    check_side(batch, WFPSA_COLUMN_spi_in, row, in);
    check_side(batch, WFPSA_COLUMN_spi_out, row, out);
}

/* Each entry of each page in turn, the kept ones as rows. */
static void
check_rows(const struct wfpsa_columns *batch, const struct scene *scene)
{
    uint64_t row = 0;
    name_checked = NULL;
    for (uint32_t i = 0; i < scene->pages_count; i++) {
        for (uint32_t entry = 0; entry < scene->pages[i].count; entry++) {
            if (is_kept(scene->pages[i].contexts[entry], scene->subnets)) {
                check_row(batch, row++, scene->pages[i].contexts[entry]);
            }
        }
    }
    REQUIRE_EQUAL(row, batch->length);
}

/* ---- Arrow: every buffer read from its first byte to its last ---- */

static volatile uint64_t sink;

static void
read_all(const void *buffer, uint64_t bytes)
{
    const uint8_t *at = buffer;
    uint64_t sum = 0;
    REQUIRE(buffer || bytes == 0);
    for (uint64_t i = 0; i < bytes; i++) {
        sum += at[i];
    }
    sink = sum;
}

static int
bit(const void *bits, int64_t at)
{
    return ((const uint8_t *)bits)[at / 8] >> (at % 8) & 1;
}

static uint64_t
width_of(const char *format)
{
    static const char letters[] = "CSIL";
    const char *found = strchr(letters, *format);
    if (found && *found) {
        return (uint64_t)1 << (found - letters);
    }
    REQUIRE(strcmp(format, "w:16") == 0);
    return 16;
}

/* The dictionary of a column: texts one after another. */
static void
check_dictionary(const struct ArrowSchema *schema, const struct ArrowArray *array)
{
    const int32_t *offsets = array->buffers[1];
    REQUIRE(strcmp(schema->format, "u") == 0 && array->null_count == 0 && array->length <= INT32_MAX);
    for (int64_t i = 0; i < array->length; i++) {
        REQUIRE(offsets[i] <= offsets[i + 1]);
    }
    REQUIRE_EQUAL(offsets[0], 0);
    read_all(array->buffers[2], (uint64_t)offsets[array->length]);
}

static void
check_column(const struct ArrowSchema *schema, const struct ArrowArray *array, const struct wfpsa_columns *batch,
             uint32_t column, uint64_t start)
{
    const struct wfpsa_column_info *info = wfpsa_column_info(column);
    uint64_t length = (uint64_t)array->length;
    int64_t absent = 0;
    REQUIRE(strcmp(schema->name, info->name) == 0 && array->offset == 0);
    for (int64_t row = 0; row < array->length; row++) {
        int missing = is_absent(batch, column, start + (uint64_t)row);
        absent += missing;
        REQUIRE_EQUAL(array->buffers[0] ? !bit(array->buffers[0], row) : 0, missing);
    }
    REQUIRE_EQUAL(array->null_count, absent);
    REQUIRE(absent == 0 || schema->flags & ARROW_FLAG_NULLABLE);
    if (strcmp(schema->format, "b") == 0) {
        for (int64_t row = 0; row < array->length; row++) {
            REQUIRE_EQUAL(bit(array->buffers[1], row),
                          ((const uint8_t *)batch->columns[column])[start + (uint64_t)row]);
        }
    } else if (strcmp(schema->format, "U") == 0) {
        const int64_t *offsets = array->buffers[1];
        for (uint64_t row = 0; row < length; row++) {
            REQUIRE(offsets[row] <= offsets[row + 1] &&
                    (offsets[row] == offsets[row + 1]) == is_absent(batch, column, start + row));
        }
        read_all(array->buffers[2], (uint64_t)offsets[length]);
    } else {
        read_all(array->buffers[1], length * width_of(schema->format));
    }
    REQUIRE_EQUAL(schema->dictionary != NULL, array->dictionary != NULL);
    if (schema->dictionary) {
        check_dictionary(schema->dictionary, array->dictionary);
        for (uint64_t row = 0; row < length; row++) {
            uint64_t index = info->width == 1 ? ((const uint8_t *)array->buffers[1])[row]
                                              : ((const uint32_t *)array->buffers[1])[row];
            REQUIRE(is_absent(batch, column, start + row) || index < (uint64_t)array->dictionary->length);
        }
    }
}

static int
export(struct wfpsa_columns *batch, uint64_t start, uint64_t length, unsigned options)
{
    static const char *const some_names[256] = {"zero", "one", NULL, "", "four", [253] = "most", [254] = "other"};
    static const char *const *names[WFPSA_COLUMN_COUNT] = {[WFPSA_COLUMN_traffic_type] = some_names,
                                                           [WFPSA_COLUMN_transform_in] = some_names,
                                                           [WFPSA_COLUMN_auth_type_out] = some_names};
    struct ArrowArrayStream stream;
    struct ArrowSchema schema = {0};
    struct ArrowArray array = {0}, end;
    int status = wfpsa_arrow_stream(batch, start, length, options, names, &stream);
    if (status != WFPSA_OK) {
        return status;
    }
    if (stream.get_schema(&stream, &schema) != 0 || stream.get_next(&stream, &array) != 0) {
        REQUIRE(stream.get_last_error(&stream) != NULL);
        status = WFPSA_NO_MEMORY;
    } else {
        REQUIRE(stream.get_next(&stream, &end) == 0 && !end.release);
        REQUIRE(array.length == (int64_t)length && array.n_children == schema.n_children);
        int64_t child = 0;
        for (uint32_t column = 0; column < WFPSA_COLUMN_COUNT; column++) {
            if (batch->columns[column]) {
                REQUIRE_EQUAL(array.children[child]->length, length);
                check_column(schema.children[child], array.children[child], batch, column, start);
                child++;
            }
        }
        REQUIRE_EQUAL(child, array.n_children);
    }
    stream.release(&stream);
    if (schema.release) {
        schema.release(&schema);
    }
    if (array.release) {
        array.release(&array);
    }
    return status;
}

/* ---- one turn: everything, until memory fails ---- */

static int
look_at(struct wfpsa_columns *batch, const struct scene *scene)
{
    REQUIRE(is_sound(batch));
    check_rows(batch, scene);
    int status = export(batch, scene->slice_start, scene->slice_length, scene->arrow_options);
    if (status != WFPSA_OK) {
        return status;
    }
    struct wfpsa_columns *taken = wfpsa_take(batch, scene->slice_start, 1, NULL, scene->slice_length);
    if (!taken) {
        return WFPSA_NO_MEMORY;
    }
    REQUIRE(is_sound(taken) && taken->length == scene->slice_length);
    for (uint64_t row = 0; row < taken->length; row++) {
        REQUIRE(wfpsa_rows_equal(taken, row, batch, scene->slice_start + row, NULL));
    }
    wfpsa_columns_release(taken);
    return WFPSA_OK;
}

static int
turn(const struct scene *scene)
{
    struct wfpsa_columns *batch = wfpsa_columns_new(scene->version);
    int status = batch ? WFPSA_OK : WFPSA_NO_MEMORY;
    for (uint32_t i = 0; status == WFPSA_OK && i < scene->pages_count; i++) {
        status = append_page(batch, scene->pages[i].entries, scene->pages[i].count, scene->subnets);
        REQUIRE(is_wiped(&scene->pages[i])); /* on failure as well */
    }
    if (status == WFPSA_OK) {
        REQUIRE_EQUAL(batch->length, scene->rows);
        status = wfpsa_columns_freeze(batch);
        if (status == WFPSA_OK) {
            REQUIRE(!batch->builder && batch->version == scene->version);
            REQUIRE(wfpsa_columns_bytes(batch, batch->length) >= batch->length * WFPSA_COLUMN_COUNT / 2);
            status = look_at(batch, scene);
        }
    }
    wfpsa_columns_release(batch);
    return status;
}

/* The subnet whose prefix ends at or just before the first bit that it does not share with the address. */
static struct wfpsa_subnet
aimed_subnet(struct input *in, uint32_t family, const uint8_t *address)
{
    struct wfpsa_subnet subnet;
    uint32_t bits = family == 4 ? 32 : 128, other = choice(in, bits), outside = choice(in, 2);
    memset(&subnet, 0, sizeof subnet);
    subnet.family = (uint8_t)family;
    subnet.prefix_length = (uint8_t)(other + outside);
    memset(subnet.address + 10, 0xFF, 2);
    memcpy(subnet.address + (family == 4 ? 12 : 0), address, bits / 8);
    subnet.address[(family == 4 ? 12 : 0) + other / 8] ^= (uint8_t)(0x80 >> other % 8);
    return subnet;
}

/* Any two, or two that one of the contexts is only just inside or only just outside of. */
static const struct wfpsa_subnets *
fuzzed_subnets(struct input *in, const struct page *page)
{
    static struct wfpsa_subnets subnets;
    uint32_t kind = choice(in, 4);
    uint8_t local[16], remote[16];
    const IPSEC_SA_CONTEXT1 *context = page->count ? page->contexts[choice(in, page->count)] : NULL;
    const IPSEC_SA_DETAILS1 *details = !context              ? NULL
                                       : context->outboundSa ? context->outboundSa
                                                             : context->inboundSa;
    uint32_t family = details ? ends_of(&details->traffic, local, remote) : 0;
    subnets.local = fuzzed_subnet(in);
    subnets.remote = fuzzed_subnet(in);
    if (family && kind & 1) {
        subnets.local = aimed_subnet(in, family, local);
        subnets.remote.family = kind & 2 ? subnets.remote.family : 0;
    } else if (family) {
        subnets.remote = aimed_subnet(in, family, remote);
        subnets.local.family = kind & 2 ? subnets.local.family : 0;
    } else if (kind == 3) {
        subnets.remote.family = 5; /* nothing is in a subnet of no known family */
    }
    return &subnets;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct scene scene;
    struct input in = {data, size};
    uint8_t options = next8(&in);
    uint64_t nth = options & 1 ? 1 + next16(&in) % NTH_MAX : 0;
    scene.version = options >> 1 & 1;
    scene.pages_count = 1 + (options >> 2) % PAGES_MAX;
    struct input aims = set_aside(&in, options & 0x10 ? 12 : 0);
    scene.arrow_options = choice(&in, 4);
    uint8_t slice = next8(&in);
    for (uint32_t i = 0; i < scene.pages_count; i++) {
        make_fuzzed_page(&in, scene.version, PAGE_CONTEXTS_MAX, &scene.pages[i]);
    }
    scene.subnets = options & 0x10 ? fuzzed_subnets(&aims, &scene.pages[0]) : NULL;
    scene.rows = 0;
    for (uint32_t i = 0; i < scene.pages_count; i++) {
        for (uint32_t entry = 0; entry < scene.pages[i].count; entry++) {
            scene.rows += (uint64_t)is_kept(scene.pages[i].contexts[entry], scene.subnets);
        }
    }
    scene.slice_start = scene.rows * (slice & 7) / 8;
    scene.slice_length = (scene.rows - scene.slice_start) * (31u - (slice >> 3)) / 31;

    if (nth) {
        wfpsa_embedded_fail_allocation(nth);
        int status = turn(&scene);
        REQUIRE_EQUAL(status, failure_struck(nth) ? WFPSA_NO_MEMORY : WFPSA_OK);
        wfpsa_embedded_fail_allocation(0);
        nothing_is_alive();
        refill_keys();
    }
    REQUIRE_EQUAL(turn(&scene), WFPSA_OK);
    nothing_is_alive();
    forget_pieces();
    return 0;
}
