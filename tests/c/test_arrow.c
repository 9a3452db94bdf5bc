/* Arrow C data: what a consumer reads is what the batch holds, and every order of releasing it is safe. */
#include "batch.h"
#include "threads.h"

#include <errno.h>

#include "wfpsa/arrow.h"
#include "wfpsa/backend.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define EVERY_OPTION (WFPSA_ARROW_TEXT_ADDRESSES | WFPSA_ARROW_NAMED_ENUMS)

/* ---- batches and names ---- */

static struct wfpsa_columns *
make_batch(uint32_t version, uint64_t count)
{
    int created;
    struct wfpsa_failure failure;
    struct wfpsa_session *session;
    struct wfpsa_store *store = wfpsa_store_open(NULL, &created);
    CHECK(wfpsa_store_seed(store, count, 3, 1));
    CHECK_EQUAL(wfpsa_session_open(&wfpsa_embedded_backend, wfpsa_store_name(store), 0, &session, &failure), WFPSA_OK);
    struct wfpsa_columns *batch = snapshot_all(session, version);
    CHECK_EQUAL(wfpsa_session_close(session, &failure), WFPSA_OK);
    wfpsa_session_free(session);
    wfpsa_store_release(store);
    return batch;
}

static const char *transform_names[256], *cipher_names[256];
static const char *const *no_names[WFPSA_COLUMN_COUNT];
static const char *const *some_names[WFPSA_COLUMN_COUNT];

static void
make_names(void)
{
    transform_names[1] = "AH";
    transform_names[2] = "ESP_AUTH";
    transform_names[4] = "ESP_AUTH_AND_CIPHER";
    transform_names[5] = ""; /* an empty name is a name */
    transform_names[254] = "out of range";
    transform_names[255] = "never seen";
    cipher_names[3] = "CBC_AES_128";
    cipher_names[8] = "GCM_AES_256";
    for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
        const char *enumeration = wfpsa_column_info(i)->enumeration;
        some_names[i] = strcmp(enumeration, "TransformType") == 0  ? transform_names
                        : strcmp(enumeration, "CipherConfig") == 0 ? cipher_names
                                                                   : NULL; /* decimal */
    }
}

/* ---- a consumer ---- */

static int
bit_at(const void *bits, uint64_t at)
{
    return ((const uint8_t *)bits)[at / 8] >> at % 8 & 1;
}

static int
is_text(const struct wfpsa_column_info *info, unsigned options)
{
    return options & WFPSA_ARROW_TEXT_ADDRESSES &&
           (info->kind == WFPSA_ADDRESS || info->kind == WFPSA_GUID || info->kind == WFPSA_IPV4);
}

static int
is_dictionary(const struct wfpsa_column_info *info, unsigned options)
{
    return info->kind == WFPSA_TEXT || (info->kind == WFPSA_ENUM && options & WFPSA_ARROW_NAMED_ENUMS);
}

static void
check_field(const struct wfpsa_column_info *info, unsigned options, const struct ArrowSchema *field)
{
    static const char *const formats[] = {"b", "C", "S", "I", "L", "C", "I", "w:16", "w:16", "I"};
    const char *at = field->metadata;
    int32_t pairs, size;
    CHECK_TEXT(field->name, info->name);
    CHECK_TEXT(field->format, is_text(info, options) ? "U" : formats[info->kind]);
    CHECK_EQUAL(field->flags, info->absence == WFPSA_NEVER ? 0 : ARROW_FLAG_NULLABLE);
    CHECK_EQUAL(field->n_children, 0);
    CHECK(field->release != NULL);
    CHECK_EQUAL(field->dictionary != NULL, is_dictionary(info, options));
    if (field->dictionary) {
        CHECK_TEXT(field->dictionary->format, "u");
    }
    memcpy(&pairs, at, sizeof pairs);
    int has_unit = strncmp(info->note, "seconds", 7) == 0 || strncmp(info->note, "kilobytes", 9) == 0 ||
                   strncmp(info->note, "packets", 7) == 0;
    CHECK_EQUAL(pairs, has_unit ? 3 : 2);
    at += sizeof pairs;
    char unit[16] = "";
    for (size_t i = 0; i < 15 && info->note[i] >= 'a' && info->note[i] <= 'z'; i++) {
        unit[i] = info->note[i];
    }
    const char *expected[6] = {"source", info->source, "note", info->note, "unit", unit};
    for (int i = 0; i < 2 * pairs && i < 6; i++) {
        memcpy(&size, at, sizeof size);
        at += sizeof size;
        CHECK_EQUAL(size, strlen(expected[i]));
        CHECK(memcmp(at, expected[i], strlen(expected[i])) == 0);
        at += size;
    }
}

static void
check_schema(const struct wfpsa_columns *batch, unsigned options, const struct ArrowSchema *schema)
{
    int64_t child = 0;
    CHECK_TEXT(schema->format, "+s");
    CHECK(schema->name && schema->dictionary == NULL && schema->release != NULL);
    for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
        if (batch->columns[i] && CHECK(child < schema->n_children)) {
            check_field(wfpsa_column_info(i), options, schema->children[child++]);
        }
    }
    CHECK_EQUAL(schema->n_children, child);
}

/* The cell as the text that a text column should have. */
static void
expected_text(const struct wfpsa_column_info *info, const uint8_t *cell, char *text)
{
    uint32_t data1;
    uint16_t data2, data3;
    switch (info->kind) {
    case WFPSA_IPV4:
        memcpy(&data1, cell, sizeof data1);
        snprintf(text, 64, "%u.%u.%u.%u", data1 >> 24, data1 >> 16 & 0xFF, data1 >> 8 & 0xFF, data1 & 0xFF);
        break;
    case WFPSA_GUID:
        memcpy(&data1, cell, sizeof data1);
        memcpy(&data2, cell + 4, sizeof data2);
        memcpy(&data3, cell + 6, sizeof data3);
        snprintf(text, 64, "%08x-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x", data1, data2, data3, cell[8], cell[9],
                 cell[10], cell[11], cell[12], cell[13], cell[14], cell[15]);
        break;
    default:
        wfpsa_format_address(cell, text);
        break;
    }
}

/* Whether the index-th entry of a dictionary of texts is this one. */
static int
entry_is(const struct ArrowArray *dictionary, uint64_t index, const char *text, size_t size)
{
    const int32_t *offsets = dictionary->buffers[1];
    return index < (uint64_t)dictionary->length && (size_t)(offsets[index + 1] - offsets[index]) == size &&
           memcmp((const char *)dictionary->buffers[2] + offsets[index], text, size) == 0;
}

static void
check_cell(const struct wfpsa_columns *batch, uint32_t column, uint64_t row, unsigned options,
           const char *const *names, const struct ArrowArray *array, uint64_t at)
{
    const struct wfpsa_column_info *info = wfpsa_column_info(column);
    const uint8_t *cell = (const uint8_t *)batch->columns[column] + row * info->width;
    const void *values = array->buffers[1];
    char text[64];
    if (is_text(info, options)) {
        const int64_t *offsets = values;
        expected_text(info, cell, text);
        CHECK_EQUAL(offsets[at + 1] - offsets[at], strlen(text));
        CHECK(memcmp((const char *)array->buffers[2] + offsets[at], text, strlen(text)) == 0);
    } else if (info->kind == WFPSA_BOOL) {
        CHECK_EQUAL(bit_at(values, at), *cell);
    } else if (info->kind == WFPSA_TEXT) {
        uint32_t code;
        memcpy(&code, (const uint8_t *)values + at * 4, sizeof code);
        const struct wfpsa_strings *strings = &batch->strings;
        uint32_t own;
        memcpy(&own, cell, sizeof own);
        CHECK(entry_is(array->dictionary, code, strings->text + strings->offsets[own],
                       (size_t)(strings->offsets[own + 1] - strings->offsets[own])));
    } else if (info->kind == WFPSA_ENUM && options & WFPSA_ARROW_NAMED_ENUMS) {
        const char *name = names ? names[*cell] : NULL;
        if (!name) {
            snprintf(text, sizeof text, "%u", *cell);
            name = text;
        }
        CHECK(entry_is(array->dictionary, ((const uint8_t *)values)[at], name, strlen(name)));
    } else {
        CHECK(memcmp((const uint8_t *)values + at * info->width, cell, info->width) == 0);
    }
}

static void
check_child(const struct wfpsa_columns *batch, uint32_t column, uint64_t start, uint64_t length, unsigned options,
            const char *const *names, const struct ArrowArray *array)
{
    const struct wfpsa_column_info *info = wfpsa_column_info(column);
    int64_t absent = 0;
    CHECK_EQUAL(array->length, length);
    CHECK_EQUAL(array->offset, 0);
    CHECK_EQUAL(array->n_buffers, is_text(info, options) ? 3 : 2);
    CHECK_EQUAL(array->n_children, 0);
    CHECK_EQUAL(array->dictionary != NULL, is_dictionary(info, options));
    if (array->dictionary) {
        CHECK_EQUAL(array->dictionary->n_buffers, 3);
        CHECK_EQUAL(array->dictionary->null_count, 0);
        CHECK(array->dictionary->buffers[1] && array->dictionary->buffers[2]);
        CHECK_EQUAL(((const int32_t *)array->dictionary->buffers[1])[0], 0);
    }
    for (uint64_t at = 0; at < length; at++) {
        if (is_absent(batch, column, start + at)) {
            CHECK(array->buffers[0] && !bit_at(array->buffers[0], at));
            if (is_text(info, options)) {
                const int64_t *offsets = array->buffers[1];
                CHECK_EQUAL(offsets[at], offsets[at + 1]);
            }
            absent++;
        } else {
            CHECK(!array->buffers[0] || bit_at(array->buffers[0], at));
            check_cell(batch, column, start + at, options, names, array, at);
        }
    }
    CHECK_EQUAL(array->null_count, absent);
    CHECK(!is_text(info, options) || ((const int64_t *)array->buffers[1])[0] == 0);
}

static void
check_array(const struct wfpsa_columns *batch, uint64_t start, uint64_t length, unsigned options,
            const char *const *const *names, const struct ArrowArray *array)
{
    int64_t child = 0;
    CHECK_EQUAL(array->length, length);
    CHECK_EQUAL(array->null_count, 0);
    CHECK_EQUAL(array->offset, 0);
    CHECK_EQUAL(array->n_buffers, 1);
    CHECK(array->buffers[0] == NULL && array->dictionary == NULL && array->release != NULL);
    for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
        if (batch->columns[i] && CHECK(child < array->n_children)) {
            check_child(batch, i, start, length, options, names[i], array->children[child++]);
        }
    }
    CHECK_EQUAL(array->n_children, child);
}

static void
open_stream(struct wfpsa_columns *batch, uint64_t start, uint64_t length, unsigned options,
            struct ArrowArrayStream *stream)
{
    memset(stream, 0xA5, sizeof *stream);
    CHECK_EQUAL(wfpsa_arrow_stream(batch, start, length, options,
                                   options & WFPSA_ARROW_NAMED_ENUMS ? some_names : no_names, stream),
                WFPSA_OK);
    CHECK(stream->release != NULL);
}

static void
read_stream(struct ArrowArrayStream *stream, struct ArrowSchema *schema, struct ArrowArray *array)
{
    memset(schema, 0xA5, sizeof *schema);
    memset(array, 0xA5, sizeof *array);
    CHECK_EQUAL(stream->get_schema(stream, schema), 0);
    CHECK(stream->get_last_error(stream) == NULL);
    CHECK_EQUAL(stream->get_next(stream, array), 0);
    CHECK(stream->get_last_error(stream) == NULL);
}

/* ---- contents ---- */

static void
every_cell_arrives_whatever_the_options_and_the_slice(void)
{
    static const uint64_t slices[][2] = {{0, 300}, {0, 0}, {300, 0}, {0, 1},   {299, 1},
                                         {1, 7},   {3, 9}, {5, 64},  {63, 130}};
    for (uint32_t version = 0; version <= 1; version++) {
        struct wfpsa_columns *batch = make_batch(version, 300);
        for (unsigned options = 0; options <= EVERY_OPTION; options++) {
            for (size_t i = 0; i < COUNT(slices); i++) {
                struct ArrowArrayStream stream;
                struct ArrowSchema schema;
                struct ArrowArray array, last;
                open_stream(batch, slices[i][0], slices[i][1], options, &stream);
                read_stream(&stream, &schema, &array);
                check_schema(batch, options, &schema);
                check_array(batch, slices[i][0], slices[i][1], options,
                            options & WFPSA_ARROW_NAMED_ENUMS ? some_names : no_names, &array);
                for (int again = 0; again < 2; again++) { /* one chunk, then the end, for ever */
                    memset(&last, 0xA5, sizeof last);
                    CHECK_EQUAL(stream.get_next(&stream, &last), 0);
                    CHECK(last.release == NULL);
                }
                schema.release(&schema);
                CHECK(schema.release == NULL);
                array.release(&array);
                CHECK(array.release == NULL);
                stream.release(&stream);
                CHECK(stream.release == NULL);
            }
        }
        wfpsa_columns_release(batch);
    }
}

static void
a_batch_of_some_columns_exports_those(void)
{
    static const uint32_t kept[] = {WFPSA_COLUMN_context_id, WFPSA_COLUMN_has_outbound, WFPSA_COLUMN_transform_out,
                                    WFPSA_COLUMN_main_mode_target_in};
    static const int32_t offsets[] = {0, 0, 3, 6};
    uint8_t wanted[WFPSA_COLUMN_COUNT] = {0};
    struct ArrowArrayStream stream;
    struct ArrowSchema schema;
    struct ArrowArray array;
    for (size_t i = 0; i < COUNT(kept); i++) {
        wanted[kept[i]] = 1;
    }
    struct wfpsa_columns *batch = wfpsa_columns_new_rows(1, wanted, 11);
    for (uint64_t row = 0; row < 11; row++) {
        ((uint64_t *)batch->columns[kept[0]])[row] = row << 40;
        ((uint8_t *)batch->columns[kept[1]])[row] = row % 3 == 0;
        ((uint8_t *)batch->columns[kept[2]])[row] = (uint8_t)(row < 4 ? 255 : row);
        ((uint32_t *)batch->columns[kept[3]])[row] = (uint32_t)row % 3;
        batch->presence[row] = WFPSA_PRESENT_OUTBOUND;
    }
    CHECK_EQUAL(wfpsa_columns_set_strings(batch, 2, offsets, "onetwo"), WFPSA_OK);
    for (unsigned options = 0; options <= EVERY_OPTION; options++) {
        open_stream(batch, 1, 10, options, &stream);
        read_stream(&stream, &schema, &array);
        CHECK_EQUAL(schema.n_children, COUNT(kept));
        check_schema(batch, options, &schema);
        check_array(batch, 1, 10, options, options & WFPSA_ARROW_NAMED_ENUMS ? some_names : no_names, &array);
        schema.release(&schema);
        array.release(&array);
        stream.release(&stream);
    }
    wfpsa_columns_release(batch);
}

static void
enums_are_named_where_they_have_names_and_counted_where_not(void)
{
    uint8_t wanted[WFPSA_COLUMN_COUNT] = {0};
    struct ArrowArrayStream stream;
    struct ArrowArray array;
    wanted[WFPSA_COLUMN_transform_in] = 1;
    wanted[WFPSA_COLUMN_auth_type_in] = 1;
    struct wfpsa_columns *batch = wfpsa_columns_new_rows(1, wanted, 256);
    for (uint32_t row = 0; row < 256; row++) { /* every value there is, backwards */
        ((uint8_t *)batch->columns[WFPSA_COLUMN_transform_in])[row] = (uint8_t)(255 - row);
        ((uint8_t *)batch->columns[WFPSA_COLUMN_auth_type_in])[row] = 255;
        batch->presence[row] = WFPSA_PRESENT_INBOUND;
    }
    open_stream(batch, 0, 256, WFPSA_ARROW_NAMED_ENUMS, &stream);
    CHECK_EQUAL(stream.get_next(&stream, &array), 0);
    const struct ArrowArray *transforms = array.children[0], *types = array.children[1];
    check_array(batch, 0, 256, WFPSA_ARROW_NAMED_ENUMS, some_names, &array);
    CHECK_EQUAL(transforms->null_count, 1);
    CHECK_EQUAL(transforms->dictionary->length, 255); /* what occurs, in rising order, the absent value aside */
    CHECK(entry_is(transforms->dictionary, 0, "0", 1) && entry_is(transforms->dictionary, 1, "AH", 2));
    CHECK(entry_is(transforms->dictionary, 5, "", 0) && entry_is(transforms->dictionary, 253, "253", 3));
    CHECK(entry_is(transforms->dictionary, 254, "out of range", 12));
    CHECK_EQUAL(types->null_count, 256);
    CHECK_EQUAL(types->dictionary->length, 0);
    array.release(&array);
    stream.release(&stream);

    open_stream(batch, 251, 1, WFPSA_ARROW_NAMED_ENUMS, &stream); /* a slice has only the names that it needs */
    CHECK_EQUAL(stream.get_next(&stream, &array), 0);
    CHECK_EQUAL(array.children[0]->dictionary->length, 1);
    CHECK(entry_is(array.children[0]->dictionary, 0, "ESP_AUTH_AND_CIPHER", 19));
    array.release(&array);
    stream.release(&stream);
    wfpsa_columns_release(batch);
}

static void
a_column_without_absences_has_no_bitmap(void)
{
    uint8_t wanted[WFPSA_COLUMN_COUNT] = {0};
    struct ArrowArrayStream stream;
    struct ArrowArray array;
    wanted[WFPSA_COLUMN_context_id] = 1;
    wanted[WFPSA_COLUMN_remote_port] = 1;
    struct wfpsa_columns *batch = wfpsa_columns_new_rows(1, wanted, 20);
    memset(batch->columns[WFPSA_COLUMN_context_id], 0, 160);
    memset(batch->columns[WFPSA_COLUMN_remote_port], 0, 40); /* 0 is a port like others */
    memset(batch->presence, WFPSA_PRESENT_INBOUND, 20);
    batch->presence[19] = 0;
    open_stream(batch, 0, 19, 0, &stream);
    CHECK_EQUAL(stream.get_next(&stream, &array), 0);
    CHECK(array.children[0]->buffers[0] == NULL && array.children[1]->buffers[0] == NULL);
    CHECK_EQUAL(array.children[1]->null_count, 0);
    array.release(&array);
    stream.release(&stream);
    open_stream(batch, 0, 20, 0, &stream);
    CHECK_EQUAL(stream.get_next(&stream, &array), 0);
    CHECK(array.children[0]->buffers[0] == NULL && array.children[1]->buffers[0] != NULL);
    CHECK_EQUAL(array.children[1]->null_count, 1);
    array.release(&array);
    stream.release(&stream);
    wfpsa_columns_release(batch);
}

static void
cells_and_names_are_not_copied(void)
{
    struct wfpsa_columns *batch = make_batch(1, 50);
    struct ArrowArrayStream stream;
    struct ArrowArray array;
    open_stream(batch, 10, 5, 0, &stream);
    CHECK_EQUAL(stream.get_next(&stream, &array), 0);
    CHECK(array.children[WFPSA_COLUMN_context_id]->buffers[1] == &U64(batch, context_id, 10));
    CHECK(array.children[WFPSA_COLUMN_local_address]->buffers[1] == BYTES16(batch, local_address, 10));
    CHECK(array.children[WFPSA_COLUMN_main_mode_target_out]->dictionary->buffers[2] == batch->strings.text);
    array.release(&array);
    stream.release(&stream);
    wfpsa_columns_release(batch);
}

static void
addresses_are_written_as_rfc_5952_has_them(void)
{
    static const struct {
        uint8_t address[16];
        const char *text;
    } cases[] = {
        {{0}, "::"},
        {{[15] = 1}, "::1"},
        {{[0] = 0x01}, "100::"},
        {{0x20, 0x01, 0x0D, 0xB8}, "2001:db8::"},
        {{0x20, 0x01, 0x0D, 0xB8, [15] = 1}, "2001:db8::1"},
        {{0x20, 0x01, 0x0D, 0xB8, 0xAA, 0xAA, 0xBB, 0xBB, 0xCC, 0xCC, 0xDD, 0xDD, 0xEE, 0xEE, 0, 1},
         "2001:db8:aaaa:bbbb:cccc:dddd:eeee:1"},
        {{0x20, 0x01, 0x0D, 0xB8, 0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1}, "2001:db8:0:1:1:1:1:1"}, /* one group stays */
        {{0x20, 0x01, 0, 0, 0, 0, 0, 1, [15] = 1}, "2001:0:0:1::1"},                            /* the longest run */
        {{0x20, 0x01, 0x0D, 0xB8, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1}, "2001:db8::1:0:0:1"},    /* the first of two */
        {{0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, "::1:0:0:0"},
        {{0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1}, "0:1:0:1:0:1:0:1"},
        {{0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0}, "1:0:1:0:1:0:1:0"},
        {{0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 0, 0, 0}, "1:2:3:4:5:6::"},
        {{0, 0, 0, 0, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8}, "::3:4:5:6:7:8"},
        {{0xFE, 0x80, [8] = 0x02, 0x0C, 0x29, 0xFF, 0xFE, 0x0A, 0xBC, 0x0D}, "fe80::20c:29ff:fe0a:bc0d"},
        {{0xFF, 0x02, [15] = 0xFB}, "ff02::fb"},
        {{0xAB, 0xCD, 0xEF, 0x01, 0x10, 0x00, 0x0F, 0x00, 0x00, 0xF0, 0x00, 0x0F, 0xFF, 0xFF, 0x0A, 0x0B},
         "abcd:ef01:1000:f00:f0:f:ffff:a0b"},
        {{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF},
         "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
        {{[10] = 0xFF, 0xFF, 0, 0, 0, 0}, "0.0.0.0"},
        {{[10] = 0xFF, 0xFF, 1, 20, 255, 100}, "1.20.255.100"},
        {{[10] = 0xFF, 0xFF, 255, 255, 255, 255}, "255.255.255.255"},
        {{[10] = 0xFF, 0xFE, 1, 2, 3, 4}, "::fffe:102:304"},
        {{[8] = 0xFF, 0xFF, 0, 0, 1, 2, 3, 4}, "::ffff:0:102:304"},
        {{[12] = 1, 2, 3, 4}, "::102:304"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[WFPSA_ADDRESS_TEXT_MAX + 1];
        memset(text, '#', sizeof text);
        wfpsa_format_address(cases[i].address, text);
        CHECK_EQUAL(text[WFPSA_ADDRESS_TEXT_MAX], '#');
        text[WFPSA_ADDRESS_TEXT_MAX] = 0;
        CHECK_TEXT(text, cases[i].text);
    }
}

static void
guids_and_private_addresses_are_written_as_usual(void)
{
    uint8_t wanted[WFPSA_COLUMN_COUNT] = {0};
    struct ArrowArrayStream stream;
    struct ArrowArray array;
    wanted[WFPSA_COLUMN_key_module_in] = 1;
    wanted[WFPSA_COLUMN_peer_private_address_in] = 1;
    struct wfpsa_columns *batch = wfpsa_columns_new_rows(1, wanted, 2);
    memset(batch->columns[WFPSA_COLUMN_key_module_in], 0, 32);
    for (int i = 0; i < 16; i++) {
        ((uint8_t *)batch->columns[WFPSA_COLUMN_key_module_in])[i] = (uint8_t)(i * 17);
    }
    ((uint32_t *)batch->columns[WFPSA_COLUMN_peer_private_address_in])[0] = 0;
    ((uint32_t *)batch->columns[WFPSA_COLUMN_peer_private_address_in])[1] = 0xC0A80A01;
    memset(batch->presence, WFPSA_PRESENT_INBOUND, 2);
    open_stream(batch, 0, 2, WFPSA_ARROW_TEXT_ADDRESSES, &stream);
    CHECK_EQUAL(stream.get_next(&stream, &array), 0);
    const struct ArrowArray *addresses = array.children[0], *guids = array.children[1];
    CHECK_EQUAL(((const int64_t *)addresses->buffers[1])[2], 12);
    CHECK(memcmp(addresses->buffers[2], "192.168.10.1", 12) == 0);
    CHECK_EQUAL(((const int64_t *)guids->buffers[1])[1], 36);
    CHECK_EQUAL(((const int64_t *)guids->buffers[1])[2], 36);
    CHECK(memcmp(guids->buffers[2], "33221100-5544-7766-8899-aabbccddeeff", 36) == 0);
    CHECK(!bit_at(addresses->buffers[0], 0) && bit_at(addresses->buffers[0], 1));
    CHECK(bit_at(guids->buffers[0], 0) && !bit_at(guids->buffers[0], 1));
    array.release(&array);
    stream.release(&stream);
    wfpsa_columns_release(batch);
}

/* ---- lifetimes ---- */

static void
schema_array_stream_and_batch_are_released_in_any_order(void)
{
    static const char *const orders[] = {"sarb", "sabr", "srab", "srba", "sbar", "sbra", "asrb", "asbr",
                                         "arsb", "arbs", "absr", "abrs", "rsab", "rsba", "rasb", "rabs",
                                         "rbsa", "rbas", "bsar", "bsra", "basr", "bars", "brsa", "bras"};
    struct wfpsa_columns *same = make_batch(1, 70);
    for (size_t i = 0; i < COUNT(orders); i++) {
        struct wfpsa_columns *batch = make_batch(1, 70);
        struct ArrowArrayStream stream;
        struct ArrowSchema schema;
        struct ArrowArray array;
        open_stream(batch, 3, 60, EVERY_OPTION, &stream);
        read_stream(&stream, &schema, &array);
        for (const char *step = orders[i]; *step; step++) {
            switch (*step) {
            case 's':
                check_schema(same, EVERY_OPTION, &schema);
                schema.release(&schema);
                break;
            case 'a':
                check_array(same, 3, 60, EVERY_OPTION, some_names, &array);
                array.release(&array);
                break;
            case 'r':
                stream.release(&stream);
                break;
            default:
                wfpsa_columns_release(batch);
                break;
            }
        }
    }
    wfpsa_columns_release(same);
}

static void
children_moved_out_outlive_their_parent(void)
{
    struct wfpsa_columns *batch = make_batch(1, 100), *same = make_batch(1, 100);
    for (int backwards = 0; backwards <= 1; backwards++) {
        struct ArrowArrayStream stream;
        struct ArrowSchema schema, fields[WFPSA_COLUMN_COUNT];
        struct ArrowArray array, columns[WFPSA_COLUMN_COUNT];
        open_stream(batch, 0, 100, EVERY_OPTION, &stream);
        read_stream(&stream, &schema, &array);
        if (backwards) {
            wfpsa_columns_release(batch);
        }
        stream.release(&stream);
        int64_t count = array.n_children;
        for (int64_t i = 0; i < count; i++) {
            columns[i] = *array.children[i];
            array.children[i]->release = NULL; /* the mark of a moved structure */
        }
        array.release(&array);
        for (int64_t i = 0; i < count; i++) {
            int64_t at = backwards ? count - 1 - i : i;
            check_child(same, (uint32_t)at, 0, 100, EVERY_OPTION, some_names[at], &columns[at]);
            columns[at].release(&columns[at]);
            CHECK(columns[at].release == NULL);
        }
        /* A field's metadata and dictionary move with it. */
        fields[0] = *schema.children[WFPSA_COLUMN_transform_out];
        schema.children[WFPSA_COLUMN_transform_out]->release = NULL;
        schema.release(&schema);
        CHECK_TEXT(fields[0].name, "transform_out");
        check_field(wfpsa_column_info(WFPSA_COLUMN_transform_out), EVERY_OPTION, &fields[0]);
        fields[0].release(&fields[0]);
        CHECK(fields[0].release == NULL);
    }
    wfpsa_columns_release(same);
}

static void
some_children_and_dictionaries_may_be_released_before_their_parent(void)
{
    struct wfpsa_columns *batch = make_batch(0, 40);
    struct ArrowArrayStream stream;
    struct ArrowSchema schema;
    struct ArrowArray array, dictionary;
    open_stream(batch, 0, 40, EVERY_OPTION, &stream);
    read_stream(&stream, &schema, &array);
    wfpsa_columns_release(batch);
    stream.release(&stream);
    for (int64_t i = 0; i < array.n_children; i += 2) {
        array.children[i]->release(array.children[i]);
        schema.children[i]->release(schema.children[i]);
    }
    struct ArrowArray *last = array.children[array.n_children - 2]; /* main_mode_target_out: a dictionary of names */
    if (!last->release) {
        last = array.children[array.n_children - 1];
    }
    dictionary = *last->dictionary;
    last->dictionary->release = NULL;
    array.release(&array);
    schema.release(&schema);
    CHECK(dictionary.length > 1);
    for (int64_t entry = 1; entry < dictionary.length; entry++) { /* still readable, and no two are the same */
        const int32_t *offsets = dictionary.buffers[1];
        const char *text = dictionary.buffers[2];
        size_t size = (size_t)(offsets[entry + 1] - offsets[entry]);
        CHECK(!entry_is(&dictionary, (uint64_t)entry - 1, text + offsets[entry], size));
    }
    dictionary.release(&dictionary);
}

static void
a_stream_that_nobody_reads_leaves_nothing(void)
{
    struct wfpsa_columns *batch = make_batch(1, 10);
    struct ArrowArrayStream stream;
    struct ArrowSchema schema;
    open_stream(batch, 0, 10, EVERY_OPTION, &stream);
    stream.release(&stream);
    open_stream(batch, 0, 10, 0, &stream);
    CHECK_EQUAL(stream.get_schema(&stream, &schema), 0); /* the schema alone */
    schema.release(&schema);
    wfpsa_columns_release(batch);
    stream.release(&stream);
}

static void
a_schema_may_be_asked_for_often_and_without_a_stream(void)
{
    struct wfpsa_columns *batch = make_batch(0, 0);
    struct ArrowArrayStream stream;
    struct ArrowSchema schemas[3];
    for (unsigned options = 0; options <= EVERY_OPTION; options++) {
        open_stream(batch, 0, 0, options, &stream);
        CHECK_EQUAL(stream.get_schema(&stream, &schemas[0]), 0);
        CHECK_EQUAL(stream.get_schema(&stream, &schemas[1]), 0);
        CHECK_EQUAL(wfpsa_arrow_schema(batch, options, &schemas[2]), WFPSA_OK);
        stream.release(&stream);
        for (size_t i = 0; i < COUNT(schemas); i++) {
            check_schema(batch, options, &schemas[i]);
            schemas[i].release(&schemas[i]);
        }
    }
    wfpsa_columns_release(batch);
}

static void
a_stream_without_memory_says_so_and_can_be_read_again(void)
{
    struct wfpsa_columns *batch = make_batch(1, 20);
    struct ArrowArrayStream stream;
    struct ArrowSchema schema;
    struct ArrowArray array;
    open_stream(batch, 0, 20, EVERY_OPTION, &stream);
    wfpsa_embedded_fail_allocation(5);
    CHECK_EQUAL(stream.get_schema(&stream, &schema), ENOMEM);
    CHECK_TEXT(stream.get_last_error(&stream), "out of memory");
    wfpsa_embedded_fail_allocation(50);
    CHECK_EQUAL(stream.get_next(&stream, &array), ENOMEM);
    CHECK_TEXT(stream.get_last_error(&stream), "out of memory");
    read_stream(&stream, &schema, &array); /* nothing was lost */
    check_array(batch, 0, 20, EVERY_OPTION, some_names, &array);
    schema.release(&schema);
    array.release(&array);
    stream.release(&stream);
    wfpsa_columns_release(batch);
}

struct reader {
    struct wfpsa_thread thread;
    struct ArrowArray column;
    uint64_t length, sum;
};

static void
read_and_release(void *argument)
{
    struct reader *reader = argument;
    for (uint64_t i = 0; i < reader->length; i++) {
        reader->sum += ((const uint8_t *)reader->column.buffers[1])[i];
    }
    reader->column.release(&reader->column);
}

static void
threads_read_and_release_columns_of_one_export(void)
{
    struct wfpsa_columns *batch = make_batch(1, 200);
    struct ArrowArrayStream stream;
    struct ArrowArray array;
    static struct reader readers[WFPSA_COLUMN_COUNT];
    open_stream(batch, 0, 200, 0, &stream);
    CHECK_EQUAL(stream.get_next(&stream, &array), 0);
    for (size_t i = 0; i < COUNT(readers); i++) {
        readers[i].column = *array.children[i];
        readers[i].length = 200 / 8; /* bytes that even a bitmap has */
        readers[i].sum = 0;
        array.children[i]->release = NULL;
        thread_start(&readers[i].thread, read_and_release, &readers[i]);
    }
    array.release(&array);
    stream.release(&stream);
    wfpsa_columns_release(batch);
    for (size_t i = 0; i < COUNT(readers); i++) {
        wfpsa_thread_join(&readers[i].thread);
        CHECK(readers[i].column.release == NULL);
    }
    CHECK(readers[WFPSA_COLUMN_context_id].sum > 0);
}

int
main(void)
{
    make_names();
    RUN(every_cell_arrives_whatever_the_options_and_the_slice);
    RUN(a_batch_of_some_columns_exports_those);
    RUN(enums_are_named_where_they_have_names_and_counted_where_not);
    RUN(a_column_without_absences_has_no_bitmap);
    RUN(cells_and_names_are_not_copied);
    RUN(addresses_are_written_as_rfc_5952_has_them);
    RUN(guids_and_private_addresses_are_written_as_usual);
    RUN(schema_array_stream_and_batch_are_released_in_any_order);
    RUN(children_moved_out_outlive_their_parent);
    RUN(some_children_and_dictionaries_may_be_released_before_their_parent);
    RUN(a_stream_that_nobody_reads_leaves_nothing);
    RUN(a_schema_may_be_asked_for_often_and_without_a_stream);
    RUN(a_stream_without_memory_says_so_and_can_be_read_again);
    RUN(threads_read_and_release_columns_of_one_export);
    return closing_line();
}
