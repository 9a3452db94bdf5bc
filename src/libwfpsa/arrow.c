/* Arrow C data from frozen batches: schema, one-chunk stream, and the buffers that the batch does not have as such. */
#include "platform.h" /* first: it asks the system headers for POSIX */

#include "wfpsa/arrow.h"

#include <errno.h>
#include <string.h>

#include "memory.h"

/* ---- text ---- */

static char *
put_decimal(char *at, unsigned value)
{
    if (value >= 100) {
        *at++ = (char)('0' + value / 100);
    }
    if (value >= 10) {
        *at++ = (char)('0' + value / 10 % 10);
    }
    *at++ = (char)('0' + value % 10);
    return at;
}

static const char hex_digits[] = "0123456789abcdef";

static char *
put_ipv4(char *at, const uint8_t *bytes)
{
    for (int i = 0; i < 4; i++) {
        if (i) {
            *at++ = '.';
        }
        at = put_decimal(at, bytes[i]);
    }
    return at;
}

/* RFC 5952: lower case, no leading zeros, the first longest run of two or more zero groups as "::". */
static char *
put_ipv6(char *at, const uint8_t *bytes)
{
    unsigned groups[8];
    int run_start = -1, run_length = 1;
    for (int i = 0; i < 8; i++) {
        groups[i] = (unsigned)bytes[2 * i] << 8 | bytes[2 * i + 1];
    }
    for (int i = 0; i < 8;) {
        int end = i;
        while (end < 8 && groups[end] == 0) {
            end++;
        }
        if (end - i > run_length) {
            run_start = i;
            run_length = end - i;
        }
        i = end + 1;
    }
    for (int i = 0; i < 8; i++) {
        if (i == run_start) {
            *at++ = ':';
            *at++ = ':';
            i += run_length - 1;
            continue;
        }
        if (i && !(run_start >= 0 && i == run_start + run_length)) {
            *at++ = ':';
        }
        for (int shift = 12; shift >= 0; shift -= 4) {
            if (groups[i] >> shift || shift == 0) {
                *at++ = hex_digits[groups[i] >> shift & 0xF];
            }
        }
    }
    return at;
}

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};

static char *
put_address(char *at, const uint8_t *bytes)
{
    return memcmp(bytes, mapped_prefix, 12) == 0 ? put_ipv4(at, bytes + 12) : put_ipv6(at, bytes);
}

void
wfpsa_format_address(const uint8_t *address, char *text)
{
    *put_address(text, address) = 0;
}

static char *
put_guid(char *at, const uint8_t *bytes)
{
    static const int order[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            *at++ = '-';
        }
        *at++ = hex_digits[bytes[order[i]] >> 4];
        *at++ = hex_digits[bytes[order[i]] & 0xF];
    }
    return at;
}

static char *
put_host_order_ipv4(char *at, const uint8_t *cell)
{
    uint32_t value;
    memcpy(&value, cell, sizeof value);
    uint8_t bytes[4] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value};
    return put_ipv4(at, bytes);
}

#define CELL_TEXT_MAX 40

/* ---- how a column is exported ---- */

enum form { FORM_PLAIN, FORM_BITS, FORM_TEXT, FORM_NAMES, FORM_STRINGS };

static enum form
form_of(const struct wfpsa_column_info *info, unsigned options)
{
    switch (info->kind) {
    case WFPSA_BOOL:
        return FORM_BITS;
    case WFPSA_ENUM:
        return options & WFPSA_ARROW_NAMED_ENUMS ? FORM_NAMES : FORM_PLAIN;
    case WFPSA_IPV4:
    case WFPSA_ADDRESS:
    case WFPSA_GUID:
        return options & WFPSA_ARROW_TEXT_ADDRESSES ? FORM_TEXT : FORM_PLAIN;
    case WFPSA_TEXT:
        return FORM_STRINGS;
    default:
        return FORM_PLAIN;
    }
}

static const char *
format_of(const struct wfpsa_column_info *info, enum form form)
{
    if (form == FORM_BITS) {
        return "b";
    }
    if (form == FORM_TEXT) {
        return "U"; /* 64-bit offsets: the text of a large batch may pass 2 GiB */
    }
    switch (info->width) {
    case 1:
        return "C";
    case 2:
        return "S";
    case 4:
        return "I";
    case 8:
        return "L";
    default:
        return "w:16";
    }
}

/* ---- schema ---- */

static void
release_schema(struct ArrowSchema *schema)
{
    for (int64_t i = 0; i < schema->n_children; i++) {
        if (schema->children[i]->release) {
            schema->children[i]->release(schema->children[i]);
        }
    }
    if (schema->dictionary && schema->dictionary->release) {
        schema->dictionary->release(schema->dictionary);
    }
    schema->release = NULL;
    wfpsa_free(schema->private_data); /* children, dictionary and metadata are inside */
}

/* The int32-counted key and value pairs of Arrow metadata. */
static char *
put_counted(char *at, const char *text)
{
    int32_t length = (int32_t)strlen(text);
    memcpy(at, &length, sizeof length);
    memcpy(at + sizeof length, text, (size_t)length);
    return at + sizeof length + length;
}

/* The unit that a column's note begins with, or NULL. */
static const char *
unit_of(const struct wfpsa_column_info *info)
{
    static const char *const units[] = {"seconds", "kilobytes", "packets"};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        size_t length = strlen(units[i]);
        if (strncmp(info->note, units[i], length) == 0 && (info->note[length] == ';' || info->note[length] == 0)) {
            return units[i];
        }
    }
    return NULL;
}

static int
column_schema(const struct wfpsa_column_info *info, unsigned options, struct ArrowSchema *schema)
{
    enum form form = form_of(info, options);
    const char *unit = unit_of(info);
    int32_t pairs = unit ? 3 : 2;
    struct room {
        struct ArrowSchema dictionary;
        char metadata[];
    } *room = wfpsa_allocate_zeroed(1, sizeof *room + 64 + strlen(info->source) + strlen(info->note));
    if (!room) {
        return 0;
    }
    char *at = room->metadata;
    memcpy(at, &pairs, sizeof pairs);
    at = put_counted(at + sizeof pairs, "source");
    at = put_counted(at, info->source);
    at = put_counted(at, "note");
    at = put_counted(at, info->note);
    if (unit) {
        at = put_counted(at, "unit");
        put_counted(at, unit);
    }

    memset(schema, 0, sizeof *schema);
    schema->format = format_of(info, form);
    schema->name = info->name;
    schema->metadata = room->metadata;
    schema->flags = info->absence == WFPSA_NEVER ? 0 : ARROW_FLAG_NULLABLE;
    schema->release = release_schema;
    schema->private_data = room;
    if (form == FORM_NAMES || form == FORM_STRINGS) {
        room->dictionary.format = "u";
        room->dictionary.name = "";
        room->dictionary.release = release_schema;
        schema->dictionary = &room->dictionary;
    }
    return 1;
}

int
wfpsa_arrow_schema(const struct wfpsa_columns *columns, unsigned options, struct ArrowSchema *schema)
{
    struct room {
        struct ArrowSchema *children[WFPSA_COLUMN_COUNT];
        struct ArrowSchema schemas[WFPSA_COLUMN_COUNT];
    } *room = wfpsa_allocate_zeroed(1, sizeof *room);
    if (!room) {
        return WFPSA_NO_MEMORY;
    }
    memset(schema, 0, sizeof *schema);
    schema->format = "+s";
    schema->name = "";
    schema->children = room->children;
    schema->release = release_schema;
    schema->private_data = room;
    for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
        if (!wfpsa_columns_has(columns, i)) {
            continue;
        }
        if (!column_schema(wfpsa_column_info(i), options, &room->schemas[schema->n_children])) {
            release_schema(schema);
            return WFPSA_NO_MEMORY;
        }
        room->children[schema->n_children] = &room->schemas[schema->n_children];
        schema->n_children++;
    }
    return WFPSA_OK;
}

/* ---- arrays ---- */

struct block {
    struct block *next;
};

/* What all arrays of one export share: the batch, and the buffers made for it. */
struct shared {
    volatile int64_t references;
    struct wfpsa_columns *columns;
    struct block *blocks;
};

#define BLOCK_HEADER 16 /* room for a struct block that keeps what follows aligned for 64-bit cells */

static void *
shared_allocate(struct shared *shared, uint64_t bytes)
{
    struct block *block = wfpsa_allocate(1, BLOCK_HEADER + bytes);
    if (!block) {
        return NULL;
    }
    block->next = shared->blocks;
    shared->blocks = block;
    return (char *)block + BLOCK_HEADER;
}

static void
shared_release(struct shared *shared)
{
    if (wfpsa_atomic_add(&shared->references, -1) > 0) {
        return;
    }
    while (shared->blocks) {
        struct block *next = shared->blocks->next;
        wfpsa_free(shared->blocks);
        shared->blocks = next;
    }
    wfpsa_columns_release(shared->columns);
    wfpsa_free(shared);
}

/* The private data of an array: its buffers, its dictionary, and its share of the rest. */
struct array {
    struct shared *shared;
    const void *buffers[3];
    struct ArrowArray dictionary;
};

static void
release_array(struct ArrowArray *array)
{
    struct array *own = array->private_data;
    if (array->dictionary && array->dictionary->release) {
        array->dictionary->release(array->dictionary);
    }
    array->release = NULL;
    shared_release(own->shared);
    wfpsa_free(own);
}

static int
array_init(struct ArrowArray *array, struct shared *shared, int64_t length, int64_t buffers)
{
    struct array *own = wfpsa_allocate_zeroed(1, sizeof *own);
    if (!own) {
        return 0;
    }
    own->shared = shared;
    wfpsa_atomic_add(&shared->references, 1);
    memset(array, 0, sizeof *array);
    array->length = length;
    array->n_buffers = buffers;
    array->buffers = own->buffers;
    array->release = release_array;
    array->private_data = own;
    return 1;
}

/* A column's cells (or the presence) from row `start` on; NULL, out of memory, where a selection cannot gather them.
 */
static const uint8_t *
cells_from(const struct shared *shared, uint32_t column, uint64_t start)
{
    const void *cells;
    if (wfpsa_columns_cells(shared->columns, column, &cells) != WFPSA_OK) {
        return NULL;
    }
    return (const uint8_t *)cells + start * (column == WFPSA_PRESENCE ? 1 : wfpsa_column_info(column)->width);
}

/* A bitmap with a bit for each row, set where the test holds; *clear counts the others. */
#define FILL_BITS(bits, length, clear, test)                                                                          \
    for (uint64_t row = 0; row < length; row += 8) {                                                                  \
        unsigned byte = 0;                                                                                            \
        uint64_t most = length - row < 8 ? length - row : 8;                                                          \
        for (uint64_t bit = 0; bit < most; bit++) {                                                                   \
            uint64_t i = row + bit;                                                                                   \
            unsigned set = (test) != 0;                                                                               \
            byte |= set << bit;                                                                                       \
            clear += set ^ 1;                                                                                         \
        }                                                                                                             \
        bits[row / 8] = (uint8_t)byte;                                                                                \
    }

static int
fill_validity(struct ArrowArray *array, struct shared *shared, uint32_t column, uint64_t start, const uint8_t *cells)
{
    const struct wfpsa_columns *columns = shared->columns;
    const struct wfpsa_column_info *info = wfpsa_column_info(column);
    uint64_t length = (uint64_t)array->length;
    int64_t absent = 0;
    if (info->absence == WFPSA_NEVER) {
        return 1;
    }
    uint8_t *bits = shared_allocate(shared, length / 8 + 1);
    if (!bits) {
        return 0;
    }
    if (info->presence) {
        const uint8_t *presence = cells_from(shared, WFPSA_PRESENCE, start), mask = info->presence;
        if (!presence) {
            return 0;
        }
        FILL_BITS(bits, length, absent, presence[i] & mask)
    } else if (info->absence == WFPSA_CODE_255) {
        FILL_BITS(bits, length, absent, cells[i] != 255)
    } else {
        FILL_BITS(bits, length, absent, !wfpsa_is_absent(columns, info, column, start + i))
    }
    array->null_count = absent;
    array->buffers[0] = absent ? bits : NULL;
    return 1;
}

static int
fill_text(struct ArrowArray *array, struct shared *shared, uint32_t column, uint64_t start, const uint8_t *cells)
{
    const struct wfpsa_column_info *info = wfpsa_column_info(column);
    char *(*put)(char *, const uint8_t *) = info->kind == WFPSA_GUID   ? put_guid
                                            : info->kind == WFPSA_IPV4 ? put_host_order_ipv4
                                                                       : put_address;
    uint64_t length = (uint64_t)array->length;
    int64_t *offsets = shared_allocate(shared, (length + 1) * sizeof *offsets);
    char *text = shared_allocate(shared, length * CELL_TEXT_MAX + 1);
    if (!offsets || !text) {
        return 0;
    }
    char *at = text;
    for (uint64_t row = 0; row < length; row++) {
        offsets[row] = at - text;
        if (!wfpsa_is_absent(shared->columns, info, column, start + row)) {
            at = put(at, cells + row * info->width);
        }
    }
    offsets[length] = at - text;
    array->buffers[1] = offsets;
    array->buffers[2] = text;
    return 1;
}

static int
dictionary_init(struct ArrowArray *array, struct shared *shared, int64_t length, const int32_t *offsets,
                const char *text)
{
    struct array *own = array->private_data;
    if (!array_init(&own->dictionary, shared, length, 3)) {
        return 0;
    }
    own->dictionary.buffers[1] = offsets;
    own->dictionary.buffers[2] = text ? text : "";
    array->dictionary = &own->dictionary;
    return 1;
}

/* The values that occur, in rising order, as a dictionary of their names. */
static int
fill_names(struct ArrowArray *array, struct shared *shared, const uint8_t *cells, const char *const *names)
{
    uint64_t length = (uint64_t)array->length;
    uint8_t seen[256] = {0}, index[256] = {0};
    uint8_t *indices = shared_allocate(shared, length + 1);
    int32_t *offsets = shared_allocate(shared, 257 * sizeof *offsets);
    if (!indices || !offsets) {
        return 0;
    }
    for (uint64_t row = 0; row < length; row++) {
        seen[cells[row]] = 1;
    }
    size_t bytes = 0;
    for (unsigned value = 0; value < 255; value++) {
        bytes += seen[value] ? names && names[value] ? strlen(names[value]) : 3 : 0;
    }
    char *text = shared_allocate(shared, bytes + 1), *at = text;
    if (!text) {
        return 0;
    }
    int32_t count = 0;
    for (unsigned value = 0; value < 255; value++) {
        if (!seen[value]) {
            continue;
        }
        index[value] = (uint8_t)count;
        offsets[count++] = (int32_t)(at - text);
        if (names && names[value]) {
            size_t size = strlen(names[value]);
            memcpy(at, names[value], size);
            at += size;
        } else {
            at = put_decimal(at, value);
        }
    }
    offsets[count] = (int32_t)(at - text);
    for (uint64_t row = 0; row < length; row++) {
        indices[row] = index[cells[row]];
    }
    array->buffers[1] = indices;
    return dictionary_init(array, shared, count, offsets, text);
}

static int
has_empty_name(const struct wfpsa_strings *strings)
{
    for (uint32_t code = 1; code <= strings->count; code++) {
        if (strings->offsets[code + 1] == strings->offsets[code]) {
            return 1;
        }
    }
    return 0;
}

/* Code 0 is the empty first entry of the dictionary, and null; where a name is empty as well the dictionary begins
 * with code 1, since consumers want its entries to differ. */
static int
fill_strings(struct ArrowArray *array, struct shared *shared, const struct wfpsa_strings *strings,
             const uint32_t *codes)
{
    uint64_t length = (uint64_t)array->length;
    if (!has_empty_name(strings)) {
        return dictionary_init(array, shared, (int64_t)strings->count + 1, strings->offsets, strings->text);
    }
    uint32_t *indices = shared_allocate(shared, (length + 1) * sizeof *indices);
    if (!indices) {
        return 0;
    }
    for (uint64_t row = 0; row < length; row++) {
        indices[row] = codes[row] ? codes[row] - 1 : 0;
    }
    array->buffers[1] = indices;
    return dictionary_init(array, shared, (int64_t)strings->count, strings->offsets + 1, strings->text);
}

static int
fill_column(struct ArrowArray *array, struct shared *shared, uint32_t column, uint64_t start, uint64_t length,
            unsigned options, const char *const *names)
{
    const struct wfpsa_column_info *info = wfpsa_column_info(column);
    const struct wfpsa_strings *strings = &shared->columns->strings;
    const uint8_t *cells = cells_from(shared, column, start);
    enum form form = form_of(info, options);
    if (!cells || !array_init(array, shared, (int64_t)length, form == FORM_TEXT ? 3 : 2) ||
        !fill_validity(array, shared, column, start, cells)) {
        return 0;
    }
    if (form == FORM_TEXT) {
        return fill_text(array, shared, column, start, cells);
    }
    if (form == FORM_NAMES) {
        return fill_names(array, shared, cells, names);
    }
    if (form == FORM_BITS) {
        int64_t ignored = 0;
        uint8_t *bits = shared_allocate(shared, length / 8 + 1);
        if (!bits) {
            return 0;
        }
        FILL_BITS(bits, length, ignored, cells[i])
        (void)ignored;
        array->buffers[1] = bits;
        return 1;
    }
    array->buffers[1] = cells;
    return form != FORM_STRINGS || fill_strings(array, shared, strings, (const uint32_t *)cells);
}

/* The private data of the struct array. */
struct root {
    struct shared *shared;
    const void *buffers[1];
    struct ArrowArray *children[WFPSA_COLUMN_COUNT];
    struct ArrowArray arrays[WFPSA_COLUMN_COUNT];
};

static void
release_root(struct ArrowArray *array)
{
    struct root *root = array->private_data;
    for (int64_t i = 0; i < array->n_children; i++) {
        if (root->children[i]->release) {
            root->children[i]->release(root->children[i]);
        }
    }
    array->release = NULL;
    shared_release(root->shared);
    wfpsa_free(root);
}

int
wfpsa_arrow_array(struct wfpsa_columns *columns, uint64_t start, uint64_t length, unsigned options,
                  const char *const *const *names, struct ArrowArray *array)
{
    struct root *root = wfpsa_allocate_zeroed(1, sizeof *root);
    struct shared *shared = wfpsa_allocate_zeroed(1, sizeof *shared);
    if (!root || !shared) {
        wfpsa_free(root);
        wfpsa_free(shared);
        return WFPSA_NO_MEMORY;
    }
    shared->references = 1;
    shared->columns = columns;
    wfpsa_columns_retain(columns);
    root->shared = shared;
    memset(array, 0, sizeof *array);
    array->length = (int64_t)length;
    array->n_buffers = 1;
    array->buffers = root->buffers;
    array->children = root->children;
    array->release = release_root;
    array->private_data = root;
    for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
        if (!wfpsa_columns_has(columns, i)) {
            continue;
        }
        struct ArrowArray *child = &root->arrays[array->n_children];
        root->children[array->n_children++] = child;
        if (!fill_column(child, shared, i, start, length, options, names[i])) {
            release_root(array);
            return WFPSA_NO_MEMORY;
        }
    }
    return WFPSA_OK;
}

/* ---- the stream ---- */

struct stream {
    struct wfpsa_columns *columns;
    uint64_t start, length;
    unsigned options;
    int finished;
    const char *const *const *names;
    const char *error;
};

static int
stream_status(struct stream *stream, int status)
{
    stream->error = status == WFPSA_OK ? NULL : "out of memory";
    return status == WFPSA_OK ? 0 : ENOMEM;
}

static int
stream_get_schema(struct ArrowArrayStream *stream, struct ArrowSchema *out)
{
    struct stream *own = stream->private_data;
    return stream_status(own, wfpsa_arrow_schema(own->columns, own->options, out));
}

static int
stream_get_next(struct ArrowArrayStream *stream, struct ArrowArray *out)
{
    struct stream *own = stream->private_data;
    if (own->finished) {
        memset(out, 0, sizeof *out);
        return 0;
    }
    int status = wfpsa_arrow_array(own->columns, own->start, own->length, own->options, own->names, out);
    own->finished = status == WFPSA_OK;
    return stream_status(own, status);
}

static const char *
stream_get_last_error(struct ArrowArrayStream *stream)
{
    return ((struct stream *)stream->private_data)->error;
}

static void
stream_release(struct ArrowArrayStream *stream)
{
    struct stream *own = stream->private_data;
    wfpsa_columns_release(own->columns);
    wfpsa_free(own);
    stream->release = NULL;
}

int
wfpsa_arrow_stream(struct wfpsa_columns *columns, uint64_t start, uint64_t length, unsigned options,
                   const char *const *const *names, struct ArrowArrayStream *stream)
{
    struct stream *own = wfpsa_allocate_zeroed(1, sizeof *own);
    if (!own) {
        return WFPSA_NO_MEMORY;
    }
    wfpsa_columns_retain(columns);
    own->columns = columns;
    own->start = start;
    own->length = length;
    own->options = options;
    own->names = names;
    stream->get_schema = stream_get_schema;
    stream->get_next = stream_get_next;
    stream->get_last_error = stream_get_last_error;
    stream->release = stream_release;
    stream->private_data = own;
    return WFPSA_OK;
}
