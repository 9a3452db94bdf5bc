/* Counting values: cells become keys that compare as the values do, a hash table finds their groups, and these are
 * sorted or number the rows. Columns of single bytes need no table to be counted. */
#include "wfpsa/count.h"

#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "cells.h"
#include "memory.h"

#define ROWS_MAX (INT32_MAX - 1) /* so that 32 bits number the groups, and twice as many slots */
#define BLOCK_ROWS 128

/* A value's key: three words that compare as the values do, in one array with what else a group has. */
enum { LEAD, HIGH, LOW, KEY_WORDS };
enum lead { IS_FIRST, IS_IPV6, IS_ABSENT };

/* Groups are records of `words` words: the key of each column, then these two. */
#define ROW_AT(words) ((words) - 2)
#define COUNT_AT(words) ((words) - 1)

struct counting {
    const struct wfpsa_rows *view;
    const struct wfpsa_prefix *prefix;
    uint32_t *ranks; /* by code of a name: its place among all that occur, in order; NULL where no column has names */
    uint64_t *records;
    uint64_t count, capacity;
    unsigned words;  /* of a record */
    uint32_t *slots; /* open addressing, at most half full: 1 + the number of a record, 0 free */
    uint64_t slot_mask;
};

/* ---- names ---- */

struct name {
    const char *text;
    int32_t length;
    uint32_t code;
};

static int
compare_text(const struct name *x, const struct name *y)
{
    int32_t shorter = x->length < y->length ? x->length : y->length;
    int order = shorter ? memcmp(x->text, y->text, (size_t)shorter) : 0;
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

static int
compare_names(const void *left, const void *right)
{
    return compare_text(left, right);
}

/* Ranks the names that the view's cells refer to. */
static int
rank_names(struct counting *c, const uint32_t *columns, unsigned column_count)
{
    const struct wfpsa_strings *strings = &c->view->columns->strings;
    uint64_t used = 0;
    uint32_t rank = 0;
    c->ranks = wfpsa_allocate_zeroed((uint64_t)strings->count + 1, sizeof *c->ranks);
    if (!c->ranks) {
        return WFPSA_NO_MEMORY;
    }
    for (unsigned i = 0; i < column_count; i++) {
        if (wfpsa_column_info(columns[i])->kind == WFPSA_TEXT) {
            const uint8_t *cells = cells_of(c->view->columns, columns[i]);
            for (uint64_t row = 0; row < c->view->length; row++) {
                uint32_t code;
                memcpy(&code, cells + absolute(c->view, row) * sizeof code, sizeof code);
                c->ranks[code] = 1;
            }
        }
    }
    c->ranks[0] = 0;
    for (uint32_t code = 1; code <= strings->count; code++) {
        used += c->ranks[code];
    }
    struct name *names = wfpsa_allocate(used, sizeof *names);
    if (!names) {
        return WFPSA_NO_MEMORY;
    }
    used = 0;
    for (uint32_t code = 1; code <= strings->count; code++) {
        if (c->ranks[code]) {
            int32_t start = strings->offsets[code];
            struct name name = {strings->text + start, strings->offsets[code + 1] - start, code};
            names[used++] = name;
        }
    }
    qsort(names, (size_t)used, sizeof *names, compare_names);
    for (uint64_t i = 0; i < used; i++) { /* two codes may have one text: names that UTF-8 cannot tell apart */
        rank += i == 0 || compare_text(&names[i - 1], &names[i]) != 0;
        c->ranks[names[i].code] = rank;
    }
    wfpsa_free(names);
    return WFPSA_OK;
}

/* ---- keys ---- */

/* The first `bits` bits of a word; 0 or less: none, 64 or more: all. */
static uint64_t
leading(uint64_t word, int bits)
{
    return bits <= 0 ? 0 : bits >= 64 ? word : word & UINT64_MAX << (64 - bits);
}

static void
cut(uint64_t *key, const struct wfpsa_prefix *prefix)
{
    if (key[HIGH] == 0 && key[LOW] >> 32 == 0xFFFF) {
        key[LOW] = leading(key[LOW], 32 + prefix->v4);
    } else {
        key[LEAD] = IS_IPV6;
        key[HIGH] = leading(key[HIGH], prefix->v6);
        key[LOW] = leading(key[LOW], prefix->v6 - 64);
    }
}

/* What each cell of a type becomes. */
#define KEYS(type, value)                                                                                             \
    for (uint64_t i = 0; i < rows; i++) {                                                                             \
        type cell;                                                                                                    \
        memcpy(&cell, cells + absolute(view, row + i) * sizeof cell, sizeof cell);                                    \
        keys[i * stride + LEAD] = IS_FIRST;                                                                           \
        keys[i * stride + HIGH] = 0;                                                                                  \
        keys[i * stride + LOW] = value;                                                                               \
    }

/* Writes the keys of some rows, `stride` words apart. */
static void
make_keys(const struct counting *c, uint32_t column, uint64_t row, uint64_t rows, uint64_t *keys, unsigned stride)
{
    const struct wfpsa_column_info *info = wfpsa_column_info(column);
    const struct wfpsa_rows *view = c->view;
    const uint8_t *cells = cells_of(view->columns, column);
    switch (info->width) {
    case 1:
        KEYS(uint8_t, cell)
        break;
    case 2:
        KEYS(uint16_t, cell)
        break;
    case 4:
        if (info->kind == WFPSA_TEXT) {
            KEYS(uint32_t, c->ranks[cell])
        } else {
            KEYS(uint32_t, cell)
        }
        break;
    case 8:
        KEYS(uint64_t, cell)
        break;
    default:
        for (uint64_t i = 0; i < rows; i++) {
            const uint8_t *cell = cells + absolute(view, row + i) * 16;
            keys[i * stride + LEAD] = IS_FIRST;
            keys[i * stride + HIGH] = big_endian64(cell);
            keys[i * stride + LOW] = big_endian64(cell + 8);
            if (c->prefix && info->kind == WFPSA_ADDRESS) {
                cut(keys + i * stride, c->prefix);
            }
        }
        break;
    }
    const uint8_t *presence = cells_of(view->columns, WFPSA_PRESENCE);
    for (uint64_t i = 0; info->absence != WFPSA_NEVER && i < rows; i++) {
        uint64_t *key = keys + i * stride;
        if (info->presence                ? (presence[absolute(view, row + i)] & info->presence) == 0
            : info->absence == WFPSA_ZERO ? (key[HIGH] | key[LOW]) == 0
                                          : key[LOW] == WFPSA_ENUM_ABSENT) {
            key[LEAD] = IS_ABSENT;
            key[HIGH] = 0;
            key[LOW] = 0;
        }
    }
}

/* ---- groups ---- */

static uint64_t
hash_of(const uint64_t *key, unsigned words)
{
    uint64_t h = 0;
    for (unsigned i = 0; i < words; i++) {
        h = (h ^ key[i]) * 0xD6E8FEB86659FD93u;
        h ^= h >> 32;
    }
    return h;
}

static int
same_key(const uint64_t *a, const uint64_t *b, unsigned words)
{
    uint64_t differ = 0;
    for (unsigned i = 0; i < words; i++) {
        differ |= a[i] ^ b[i];
    }
    return differ == 0;
}

/* Room for one more record, and slots for as many as there is room for. */
static int
grow(struct counting *c)
{
    uint64_t capacity = c->capacity ? c->capacity * 2 : 128;
    uint64_t *records = wfpsa_reallocate(c->records, capacity, c->words * sizeof *records);
    if (!records) {
        return WFPSA_NO_MEMORY;
    }
    c->records = records;
    uint32_t *slots = wfpsa_allocate_zeroed(capacity * 2, sizeof *slots);
    if (!slots) {
        return WFPSA_NO_MEMORY;
    }
    wfpsa_free(c->slots);
    c->slots = slots;
    c->slot_mask = capacity * 2 - 1;
    c->capacity = capacity;
    for (uint64_t i = 0; i < c->count; i++) {
        uint64_t at = hash_of(records + i * c->words, ROW_AT(c->words)) & c->slot_mask;
        while (slots[at]) {
            at = (at + 1) & c->slot_mask;
        }
        slots[at] = (uint32_t)i + 1;
    }
    return WFPSA_OK;
}

/* Counts a key some times; `row` is the first that has it, if it is new. Returns 1 + the number of its record, 0
 * without memory. */
static uint32_t
add(struct counting *c, const uint64_t *key, uint64_t row, uint64_t times)
{
    const unsigned words = c->words, key_words = ROW_AT(words);
    uint64_t hash = hash_of(key, key_words), at = hash & c->slot_mask;
    uint32_t found;
    for (; (found = c->slots[at]) != 0; at = (at + 1) & c->slot_mask) {
        uint64_t *record = c->records + (uint64_t)(found - 1) * words;
        if (same_key(record, key, key_words)) {
            record[COUNT_AT(words)] += times;
            return found;
        }
    }
    if (c->count == c->capacity) {
        if (grow(c) != WFPSA_OK) {
            return 0;
        }
        for (at = hash & c->slot_mask; c->slots[at]; at = (at + 1) & c->slot_mask) {
        }
    }
    uint64_t *record = c->records + c->count * words;
    memcpy(record, key, key_words * sizeof *key);
    record[ROW_AT(words)] = row;
    record[COUNT_AT(words)] = times;
    return c->slots[at] = (uint32_t)++c->count;
}

/* One column of single bytes: 256 values, and absent. */
static int
count_bytes(struct counting *c, uint32_t column)
{
    const struct wfpsa_column_info *info = wfpsa_column_info(column);
    const struct wfpsa_rows *view = c->view;
    const uint8_t *cells = cells_of(view->columns, column), *presence = cells_of(view->columns, WFPSA_PRESENCE);
    uint64_t counts[257] = {0}, rows[257];
    for (uint64_t row = 0; row < view->length; row++) {
        uint64_t at = absolute(view, row);
        unsigned value = info->presence && (presence[at] & info->presence) == 0 ? 256u : cells[at];
        if (counts[value]++ == 0) {
            rows[value] = row;
        }
    }
    for (unsigned value = 0; value < 257; value++) {
        uint64_t key[KEY_WORDS];
        if (counts[value]) {
            make_keys(c, column, rows[value], 1, key, KEY_WORDS);
            if (!add(c, key, rows[value], counts[value])) {
                return WFPSA_NO_MEMORY;
            }
        }
    }
    return WFPSA_OK;
}

/* Any columns; `numbers`, where it is not NULL, gets the record of each row. */
static int
count_any(struct counting *c, const uint32_t *columns, unsigned column_count, uint32_t *numbers)
{
    uint64_t keys[BLOCK_ROWS * 2 * KEY_WORDS];
    const unsigned stride = column_count * KEY_WORDS;
    for (uint64_t row = 0; row < c->view->length; row += BLOCK_ROWS) {
        uint64_t left = c->view->length - row, rows = left < BLOCK_ROWS ? left : BLOCK_ROWS;
        for (unsigned i = 0; i < column_count; i++) {
            make_keys(c, columns[i], row, rows, keys + i * KEY_WORDS, stride);
        }
        for (uint64_t i = 0; i < rows; i++) {
            uint32_t found = add(c, keys + i * stride, row + i, 1);
            if (!found) {
                return WFPSA_NO_MEMORY;
            }
            if (numbers) {
                numbers[row + i] = found - 1;
            }
        }
    }
    return WFPSA_OK;
}

/* ---- order ---- */

static int
compare_records(const uint64_t *a, const uint64_t *b, unsigned words)
{
    if (a[COUNT_AT(words)] != b[COUNT_AT(words)]) {
        return a[COUNT_AT(words)] > b[COUNT_AT(words)] ? -1 : 1;
    }
    for (unsigned i = 0; i < ROW_AT(words); i++) {
        if (a[i] != b[i]) {
            return a[i] < b[i] ? -1 : 1;
        }
    }
    return 0;
}

static int
compare_singles(const void *left, const void *right)
{
    return compare_records(left, right, KEY_WORDS + 2);
}

static int
compare_pairs(const void *left, const void *right)
{
    return compare_records(left, right, 2 * KEY_WORDS + 2);
}

/* All that counting needs before it looks at a row. */
static int
begin(struct counting *c, const uint32_t *columns, unsigned column_count)
{
    const void *cells;
    int status = c->view->length <= ROWS_MAX ? grow(c) : WFPSA_NO_MEMORY;
    for (unsigned i = 0; status == WFPSA_OK && i <= column_count; i++) { /* a selection's cells, and its presence */
        status = wfpsa_columns_cells(c->view->columns, i < column_count ? columns[i] : WFPSA_PRESENCE, &cells);
    }
    for (unsigned i = 0; status == WFPSA_OK && i < column_count; i++) {
        if (wfpsa_column_info(columns[i])->kind == WFPSA_TEXT && !c->ranks) {
            status = rank_names(c, columns, column_count);
        }
    }
    return status;
}

static void
end(struct counting *c)
{
    wfpsa_free(c->ranks);
    wfpsa_free(c->records);
    wfpsa_free(c->slots);
}

int
wfpsa_count(const struct wfpsa_rows *view, const uint32_t *columns, unsigned column_count,
            const struct wfpsa_prefix *prefix, struct wfpsa_group **groups, uint64_t *group_count)
{
    struct counting c = {view, prefix, NULL, NULL, 0, 0, column_count * KEY_WORDS + 2, NULL, 0};
    int status = begin(&c, columns, column_count);
    if (status == WFPSA_OK) {
        status = column_count == 1 && wfpsa_column_info(columns[0])->width == 1
                     ? count_bytes(&c, columns[0])
                     : count_any(&c, columns, column_count, NULL);
    }
    *groups = status == WFPSA_OK ? wfpsa_allocate(c.count, sizeof **groups) : NULL;
    if (*groups) {
        qsort(c.records, (size_t)c.count, c.words * sizeof *c.records,
              column_count == 1 ? compare_singles : compare_pairs);
        for (uint64_t i = 0; i < c.count; i++) {
            (*groups)[i].row = c.records[i * c.words + ROW_AT(c.words)];
            (*groups)[i].count = c.records[i * c.words + COUNT_AT(c.words)];
        }
        *group_count = c.count;
    }
    end(&c);
    return *groups ? WFPSA_OK : WFPSA_NO_MEMORY;
}

int
wfpsa_number(const struct wfpsa_rows *view, uint32_t column, uint32_t *numbers, uint64_t *value_count)
{
    struct counting c = {view, NULL, NULL, NULL, 0, 0, KEY_WORDS + 2, NULL, 0};
    int status = begin(&c, &column, 1);
    if (status == WFPSA_OK) {
        status = count_any(&c, &column, 1, numbers);
    }
    *value_count = c.count;
    end(&c);
    return status;
}

void
wfpsa_groups_free(struct wfpsa_group *groups)
{
    wfpsa_free(groups);
}
