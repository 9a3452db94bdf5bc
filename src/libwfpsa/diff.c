/* Comparing two batches: rows are matched by id, then each column is compared over all matched rows.
 *
 * Ids that rise in both batches, as an engine gives them, are matched by one walk along both. Else the ids of the
 * older batch go to a hash table. Where matched rows lie side by side in long runs, columns are compared as memory.
 */
#include "wfpsa/diff.h"

#include <string.h>

#include "cells.h"
#include "memory.h"

#define ROWS_MAX (INT32_MAX - 1) /* so that 32 bits number the rows of both */

/* By row of the newer batch: 1 + the row of the older one with its id, or one of these. */
#define UNMATCHED 0u
#define IGNORED UINT32_MAX /* its id came before */
#define IS_ROW(match) ((match) - 1u < IGNORED - 1u)

/* By row of the older batch. */
enum fate { GONE, KEPT, REPEATED };

/* Matched rows side by side in both batches. */
struct run {
    uint32_t before, after, length;
};

struct comparison {
    struct wfpsa_rows before, after;
    const uint64_t *before_ids, *after_ids;
    uint64_t *own_ids[2]; /* gathered, where the view's ids do not lie side by side */
    uint32_t *match;      /* [after.length] */
    uint8_t *fates;       /* [before.length] */
    struct run *runs;     /* NULL where they are too short to be worth it */
    uint64_t run_count;
    uint32_t *before_names, *after_names; /* by code: a code of the older batch that stands for its text */
    uint32_t *places;                     /* [after.length]: 1 + the row's place in masks, 0 where nothing differs */
    uint64_t (*masks)[WFPSA_COLUMN_WORDS];
    uint64_t mask_count, mask_capacity;
    struct wfpsa_diff *diff;
};

/* ---- matching ---- */

static uint64_t
mixed(uint64_t id)
{
    id ^= id >> 32;
    id *= 0xD6E8FEB86659FD93u;
    id ^= id >> 32;
    return id * 0xD6E8FEB86659FD93u;
}

/* Open addressing, at most half full: 1 + the index of an entry, 0 free. */
struct table {
    uint32_t *slots;
    uint64_t mask;
    unsigned shift;
};

/* Sets how many of its slots a table uses for that many entries, and returns that. */
static uint64_t
table_size(struct table *table, uint64_t entries)
{
    table->shift = 63;
    table->mask = 1;
    while (table->mask + 1 < entries * 2) {
        table->mask = table->mask * 2 + 1;
        table->shift--;
    }
    return table->mask + 1;
}

/* The ids of a view side by side; NULL without memory. */
static const uint64_t *
ids_of(const struct wfpsa_rows *view, uint64_t **own)
{
    const uint64_t *ids = (const uint64_t *)(const void *)cells_of(view->columns, WFPSA_COLUMN_context_id);
    if (view->step == 1 || view->length == 0) {
        return ids + (view->length ? view->start : 0);
    }
    *own = wfpsa_allocate(view->length, sizeof **own);
    for (uint64_t row = 0; *own && row < view->length; row++) {
        (*own)[row] = ids[absolute(view, row)];
    }
    return *own;
}

static int
are_rising(const uint64_t *ids, uint64_t count)
{
    for (uint64_t i = 1; i < count; i++) {
        if (ids[i - 1] >= ids[i]) {
            return 0;
        }
    }
    return 1;
}

static void
match_rising(struct comparison *c)
{
    uint64_t before = 0;
    for (uint64_t after = 0; after < c->after.length; after++) {
        uint64_t id = c->after_ids[after];
        while (before < c->before.length && c->before_ids[before] < id) {
            before++;
        }
        if (before < c->before.length && c->before_ids[before] == id) {
            c->fates[before] = KEPT;
            c->match[after] = (uint32_t)++before;
        } else {
            c->match[after] = UNMATCHED;
        }
    }
}

/* An id and its row, beside others that hash alike. */
struct entry {
    uint64_t id;
    uint32_t row;
};

#define PART_ROWS 8192 /* of both batches; with their table they fit the second cache */
#define PART_BITS_MAX 10

/* The entries of both batches in parts by the first bits of their hash. A part ends before ends[part] and starts where
 * the one before it ends; up to middles[part] it has rows of the older batch, from there on of the newer, in order. */
struct parts {
    struct entry *entries;
    unsigned bits;
    uint64_t middles[1 << PART_BITS_MAX], ends[1 << PART_BITS_MAX];
};

static uint64_t
part_of(const struct parts *parts, uint64_t id)
{
    return parts->bits ? mixed(id) >> (64 - parts->bits) : 0;
}

static void
fill_parts(struct parts *parts, const uint64_t *ids, uint64_t count)
{
    for (uint64_t row = 0; row < count; row++) {
        struct entry *entry = &parts->entries[parts->ends[part_of(parts, ids[row])]++];
        entry->id = ids[row];
        entry->row = (uint32_t)row;
    }
}

static int
make_parts(struct parts *parts, const struct comparison *c)
{
    uint64_t count = c->before.length + c->after.length, start = 0;
    memset(parts, 0, sizeof *parts);
    while (parts->bits < PART_BITS_MAX && count >> parts->bits > PART_ROWS) {
        parts->bits++;
    }
    parts->entries = wfpsa_allocate(count, sizeof *parts->entries);
    if (!parts->entries) {
        return WFPSA_NO_MEMORY;
    }
    for (uint64_t row = 0; row < c->before.length; row++) {
        parts->ends[part_of(parts, c->before_ids[row])]++;
    }
    for (uint64_t row = 0; row < c->after.length; row++) {
        parts->ends[part_of(parts, c->after_ids[row])]++;
    }
    for (uint64_t part = 0; part < (uint64_t)1 << parts->bits; part++) {
        uint64_t length = parts->ends[part];
        parts->ends[part] = start; /* filling moves it on to the end */
        start += length;
    }
    fill_parts(parts, c->before_ids, c->before.length);
    memcpy(parts->middles, parts->ends, sizeof parts->ends);
    fill_parts(parts, c->after_ids, c->after.length);
    return WFPSA_OK;
}

static void
match_part(struct comparison *c, const struct table *table, unsigned bits, const struct entry *entries,
           uint32_t before_count, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct entry *entry = &entries[i];
        uint64_t at = mixed(entry->id) << bits >> table->shift;
        uint32_t first; /* 1 + the index of the first entry with this id */
        while ((first = table->slots[at]) != 0 && entries[first - 1].id != entry->id) {
            at = (at + 1) & table->mask;
        }
        if (!first) {
            table->slots[at] = i + 1;
        }
        if (i < before_count) {
            c->fates[entry->row] = first ? REPEATED : GONE;
        } else if (!first) {
            c->match[entry->row] = UNMATCHED;
        } else if (first > before_count || c->fates[entries[first - 1].row] == KEPT) {
            c->match[entry->row] = IGNORED;
        } else {
            c->fates[entries[first - 1].row] = KEPT;
            c->match[entry->row] = entries[first - 1].row + 1;
        }
    }
}

static int
match_any(struct comparison *c)
{
    struct parts *parts = wfpsa_allocate(1, sizeof *parts);
    struct table table = {NULL, 0, 0};
    uint64_t largest = 0, start = 0;
    int status = parts ? make_parts(parts, c) : WFPSA_NO_MEMORY;
    for (uint64_t part = 0; status == WFPSA_OK && part < (uint64_t)1 << parts->bits; part++) {
        uint64_t before = part ? parts->ends[part - 1] : 0;
        largest = parts->ends[part] - before > largest ? parts->ends[part] - before : largest;
    }
    table.slots = status == WFPSA_OK ? wfpsa_allocate(table_size(&table, largest), sizeof *table.slots) : NULL;
    status = table.slots ? WFPSA_OK : WFPSA_NO_MEMORY;
    for (uint64_t part = 0; status == WFPSA_OK && part < (uint64_t)1 << parts->bits; part++) {
        uint64_t count = parts->ends[part] - start;
        memset(table.slots, 0, (size_t)(table_size(&table, count) * sizeof *table.slots));
        match_part(c, &table, parts->bits, parts->entries + start, (uint32_t)(parts->middles[part] - start),
                   (uint32_t)count);
        start = parts->ends[part];
    }
    wfpsa_free(table.slots);
    if (parts) {
        wfpsa_free(parts->entries);
    }
    wfpsa_free(parts);
    return status;
}

/* Collects the rows that were added and those that were removed. */
static int
collect_unmatched(struct comparison *c)
{
    struct wfpsa_diff *diff = c->diff;
    uint64_t added = 0, removed = 0;
    for (uint64_t row = 0; row < c->after.length; row++) {
        diff->added_count += c->match[row] == UNMATCHED;
        diff->same_count += IS_ROW(c->match[row]); /* until columns are compared */
    }
    for (uint64_t row = 0; row < c->before.length; row++) {
        diff->removed_count += c->fates[row] == GONE;
    }
    diff->added = wfpsa_allocate(diff->added_count, sizeof *diff->added);
    diff->removed = wfpsa_allocate(diff->removed_count, sizeof *diff->removed);
    if (!diff->added || !diff->removed) {
        return WFPSA_NO_MEMORY;
    }
    for (uint64_t row = 0; row < c->after.length; row++) {
        if (c->match[row] == UNMATCHED) {
            diff->added[added++] = row;
        }
    }
    for (uint64_t row = 0; row < c->before.length; row++) {
        if (c->fates[row] == GONE) {
            diff->removed[removed++] = row;
        }
    }
    return WFPSA_OK;
}

static int
match_rows(struct comparison *c)
{
    c->before_ids = ids_of(&c->before, &c->own_ids[0]);
    c->after_ids = ids_of(&c->after, &c->own_ids[1]);
    c->match = wfpsa_allocate(c->after.length, sizeof *c->match);
    c->fates = wfpsa_allocate_zeroed(c->before.length, sizeof *c->fates);
    if (!c->before_ids || !c->after_ids || !c->match || !c->fates) {
        return WFPSA_NO_MEMORY;
    }
    if (are_rising(c->before_ids, c->before.length) && are_rising(c->after_ids, c->after.length)) {
        match_rising(c);
    } else {
        int status = match_any(c);
        if (status != WFPSA_OK) {
            return status;
        }
    }
    return collect_unmatched(c);
}

/* ---- runs ---- */

#define RUN_ROWS_MIN 16 /* on average; below it, what a run costs is more than what it saves */
#define CHUNK_ROWS 64

static int
starts_run(const uint32_t *match, uint64_t row)
{
    return IS_ROW(match[row]) && (row == 0 || match[row - 1] + 1 != match[row] || !IS_ROW(match[row - 1]));
}

static int
find_runs(struct comparison *c)
{
    uint64_t count = 0;
    for (uint64_t row = 0; row < c->after.length; row++) {
        count += (uint64_t)starts_run(c->match, row);
    }
    if (c->before.step != 1 || c->after.step != 1 || count > c->diff->same_count / RUN_ROWS_MIN) {
        return WFPSA_OK;
    }
    c->runs = wfpsa_allocate(count, sizeof *c->runs);
    if (!c->runs) {
        return WFPSA_NO_MEMORY;
    }
    for (uint64_t row = 0; row < c->after.length; row++) {
        if (starts_run(c->match, row)) {
            struct run run = {c->match[row] - 1, (uint32_t)row, 0};
            c->runs[c->run_count++] = run;
        }
        if (IS_ROW(c->match[row])) {
            c->runs[c->run_count - 1].length++;
        }
    }
    return WFPSA_OK;
}

/* ---- names ---- */

static uint64_t
text_hash(const char *text, uint64_t length)
{
    uint64_t h = length, word;
    for (; length >= sizeof word; length -= sizeof word, text += sizeof word) {
        memcpy(&word, text, sizeof word);
        h = mixed(h ^ word);
    }
    word = 0;
    memcpy(&word, text, (size_t)length);
    return mixed(h ^ word);
}

/* Where the code of an equal name is, or would be, in a table of the codes of `strings`. */
static uint32_t *
name_find(const struct table *table, const struct wfpsa_strings *strings, const struct wfpsa_strings *from,
          uint32_t code)
{
    const char *text = from->text + from->offsets[code];
    int32_t length = from->offsets[code + 1] - from->offsets[code];
    uint64_t at = text_hash(text, (uint64_t)length) >> table->shift;
    for (uint32_t found; (found = table->slots[at]) != 0; at = (at + 1) & table->mask) {
        if (strings->offsets[found + 1] - strings->offsets[found] == length &&
            memcmp(strings->text + strings->offsets[found], text, (size_t)length) == 0) {
            break;
        }
    }
    return &table->slots[at];
}

static int
map_names(struct comparison *c)
{
    const struct wfpsa_strings *before = &c->before.columns->strings, *after = &c->after.columns->strings;
    struct table table;
    c->before_names = wfpsa_allocate((uint64_t)before->count + 1, sizeof *c->before_names);
    c->after_names = wfpsa_allocate((uint64_t)after->count + 1, sizeof *c->after_names);
    table.slots = wfpsa_allocate_zeroed(table_size(&table, before->count), sizeof *table.slots);
    if (!c->before_names || !c->after_names || !table.slots) {
        wfpsa_free(table.slots);
        return WFPSA_NO_MEMORY;
    }
    c->before_names[0] = 0;
    c->after_names[0] = 0;
    for (uint32_t code = 1; code <= before->count; code++) {
        uint32_t *slot = name_find(&table, before, before, code);
        if (!*slot) {
            *slot = code; /* two codes may have one text: names that UTF-8 cannot tell apart */
        }
        c->before_names[code] = *slot;
    }
    for (uint32_t code = 1; code <= after->count; code++) {
        uint32_t found = *name_find(&table, before, after, code);
        c->after_names[code] = found ? found : UINT32_MAX; /* a text that the older batch does not have */
    }
    wfpsa_free(table.slots);
    return WFPSA_OK;
}

/* ---- comparing ---- */

static int
note(struct comparison *c, uint64_t row, uint32_t column)
{
    if (!c->places[row]) {
        if (c->mask_count == c->mask_capacity) {
            uint64_t capacity = c->mask_capacity * 2 + 256;
            uint64_t (*masks)[WFPSA_COLUMN_WORDS] = wfpsa_reallocate(c->masks, capacity, sizeof *masks);
            if (!masks) {
                return WFPSA_NO_MEMORY;
            }
            c->masks = masks;
            c->mask_capacity = capacity;
        }
        memset(c->masks[c->mask_count++], 0, sizeof *c->masks);
        c->places[row] = (uint32_t)c->mask_count;
    }
    uint64_t *word = &c->masks[c->places[row] - 1][column / 64];
    uint64_t bit = (uint64_t)1 << column % 64;
    c->diff->column_counts[column] += (*word & bit) == 0;
    *word |= bit;
    return WFPSA_OK;
}

/* One matched row whose presence differs: columns that one has and the other lacks may have equal cells. */
static int
note_absence(struct comparison *c, uint64_t row, uint8_t before, uint8_t after)
{
    for (uint32_t column = 0; column < WFPSA_COLUMN_COUNT; column++) {
        uint8_t bits = wfpsa_column_info(column)->presence;
        if (((before & bits) == 0) != ((after & bits) == 0) && wfpsa_columns_has(c->before.columns, column) &&
            wfpsa_columns_has(c->after.columns, column) && note(c, row, column) != WFPSA_OK) {
            return WFPSA_NO_MEMORY;
        }
    }
    return WFPSA_OK;
}

static int
is_text(uint32_t column)
{
    return column != WFPSA_PRESENCE && wfpsa_column_info(column)->kind == WFPSA_TEXT;
}

static int
note_cells(struct comparison *c, uint64_t row, uint32_t column, const uint8_t *before, const uint8_t *after)
{
    return column == WFPSA_PRESENCE ? note_absence(c, row, *before, *after) : note(c, row, column);
}

static uint32_t
mapped(const uint32_t *names, const uint8_t *cell)
{
    uint32_t code;
    memcpy(&code, cell, sizeof code);
    return names[code];
}

/* In runs: as memory, a chunk at a time. */
static int
compare_runs(struct comparison *c, uint32_t column)
{
    const uint8_t *before = cells_of(c->before.columns, column);
    const uint8_t *after = cells_of(c->after.columns, column);
    const unsigned width = width_of(column);
    const int text = is_text(column);
    for (uint64_t i = 0; i < c->run_count; i++) {
        const struct run *run = &c->runs[i];
        const uint8_t *a = before + (c->before.start + run->before) * width;
        const uint8_t *b = after + (c->after.start + run->after) * width;
        for (uint64_t done = 0; done < run->length; done += CHUNK_ROWS) {
            uint64_t left = run->length - done, rows = left < CHUNK_ROWS ? left : CHUNK_ROWS;
            if (!text && memcmp(a + done * width, b + done * width, (size_t)(rows * width)) == 0) {
                continue;
            }
            for (uint64_t row = done; row < done + rows; row++) {
                const uint8_t *x = a + row * width, *y = b + row * width;
                if ((text ? mapped(c->before_names, x) != mapped(c->after_names, y) : memcmp(x, y, width) != 0) &&
                    note_cells(c, run->after + row, column, x, y) != WFPSA_OK) {
                    return WFPSA_NO_MEMORY;
                }
            }
        }
    }
    return WFPSA_OK;
}

/* Scattered: each matched row, wherever it is; `differ` sees its two cells as a and b. */
#define SCATTERED(differ)                                                                                             \
    for (uint64_t row = 0; row < rows; row++) {                                                                       \
        if (IS_ROW(match[row])) {                                                                                     \
            const uint8_t *a = before + before_stride * (match[row] - 1);                                             \
            const uint8_t *b = after + after_stride * (int64_t)row;                                                   \
            if ((differ) && note_cells(c, row, column, a, b) != WFPSA_OK) {                                           \
                return WFPSA_NO_MEMORY;                                                                               \
            }                                                                                                         \
        }                                                                                                             \
    }

static int
compare_scattered(struct comparison *c, uint32_t column)
{
    const unsigned width = width_of(column);
    const uint8_t *before = cells_of(c->before.columns, column) + c->before.start * width;
    const uint8_t *after = cells_of(c->after.columns, column) + c->after.start * width;
    const int64_t before_stride = c->before.step * (int64_t)width, after_stride = c->after.step * (int64_t)width;
    const uint32_t *match = c->match;
    const uint64_t rows = c->after.length;
    if (is_text(column)) {
        SCATTERED(mapped(c->before_names, a) != mapped(c->after_names, b))
        return WFPSA_OK;
    }
    switch (width) { /* constants, so that the compiler compares without a call */
    case 1:
        SCATTERED(*a != *b)
        break;
    case 2:
        SCATTERED(memcmp(a, b, 2) != 0)
        break;
    case 4:
        SCATTERED(memcmp(a, b, 4) != 0)
        break;
    case 8:
        SCATTERED(memcmp(a, b, 8) != 0)
        break;
    default:
        SCATTERED(memcmp(a, b, 16) != 0)
        break;
    }
    return WFPSA_OK;
}

static int
compare_column(struct comparison *c, uint32_t column)
{
    if (is_text(column) && !c->before_names && map_names(c) != WFPSA_OK) {
        return WFPSA_NO_MEMORY;
    }
    return c->runs ? compare_runs(c, column) : compare_scattered(c, column);
}

static int
compare_columns(struct comparison *c)
{
    if (c->diff->same_count == 0) { /* no row has a match */
        return WFPSA_OK;
    }
    c->places = wfpsa_allocate_zeroed(c->after.length, sizeof *c->places);
    int status = c->places ? compare_column(c, WFPSA_PRESENCE) : WFPSA_NO_MEMORY;
    for (uint32_t column = 0; status == WFPSA_OK && column < WFPSA_COLUMN_COUNT; column++) {
        if (column != WFPSA_COLUMN_context_id && wfpsa_columns_has(c->before.columns, column) &&
            wfpsa_columns_has(c->after.columns, column)) {
            status = compare_column(c, column);
        }
    }
    return status;
}

static int
collect_changed(struct comparison *c)
{
    struct wfpsa_diff *diff = c->diff;
    uint64_t count = 0;
    diff->changed = wfpsa_allocate(c->mask_count, sizeof *diff->changed);
    diff->changed_before = wfpsa_allocate(c->mask_count, sizeof *diff->changed_before);
    diff->differing = wfpsa_allocate(c->mask_count, sizeof *c->masks);
    if (!diff->changed || !diff->changed_before || !diff->differing) {
        return WFPSA_NO_MEMORY;
    }
    for (uint64_t row = 0; count < c->mask_count; row++) {
        if (c->places[row]) {
            diff->changed[count] = row;
            diff->changed_before[count] = c->match[row] - 1;
            memcpy(diff->differing + count * WFPSA_COLUMN_WORDS, c->masks[c->places[row] - 1], sizeof *c->masks);
            count++;
        }
    }
    diff->changed_count = count;
    diff->same_count -= count;
    return WFPSA_OK;
}

/* A selection's cells, of the columns that both have, so that reading them cannot fail. */
static int
gather(const struct wfpsa_columns *before, const struct wfpsa_columns *after)
{
    const void *cells;
    int status = WFPSA_OK;
    for (uint32_t i = 0; status == WFPSA_OK && i <= WFPSA_PRESENCE; i++) {
        if (i == WFPSA_PRESENCE || (wfpsa_columns_has(before, i) && wfpsa_columns_has(after, i))) {
            status = wfpsa_columns_cells(before, i, &cells);
            status = status == WFPSA_OK ? wfpsa_columns_cells(after, i, &cells) : status;
        }
    }
    return status;
}

int
wfpsa_diff_make(const struct wfpsa_rows *before, const struct wfpsa_rows *after, struct wfpsa_diff *diff)
{
    struct comparison c;
    memset(diff, 0, sizeof *diff);
    memset(&c, 0, sizeof c);
    c.before = *before;
    c.after = *after;
    c.diff = diff;
    int status = before->length <= ROWS_MAX && after->length <= ROWS_MAX ? gather(before->columns, after->columns)
                                                                         : WFPSA_NO_MEMORY;
    if (status == WFPSA_OK) {
        status = match_rows(&c);
    }
    if (status == WFPSA_OK) {
        status = find_runs(&c);
    }
    if (status == WFPSA_OK) {
        status = compare_columns(&c);
    }
    if (status == WFPSA_OK) {
        status = collect_changed(&c);
    }
    wfpsa_free(c.own_ids[0]);
    wfpsa_free(c.own_ids[1]);
    wfpsa_free(c.match);
    wfpsa_free(c.fates);
    wfpsa_free(c.runs);
    wfpsa_free(c.before_names);
    wfpsa_free(c.after_names);
    wfpsa_free(c.places);
    wfpsa_free(c.masks);
    if (status != WFPSA_OK) {
        wfpsa_diff_free(diff);
    }
    return status;
}

void
wfpsa_diff_free(struct wfpsa_diff *diff)
{
    wfpsa_free(diff->added);
    wfpsa_free(diff->removed);
    wfpsa_free(diff->changed);
    wfpsa_free(diff->changed_before);
    wfpsa_free(diff->differing);
    memset(diff, 0, sizeof *diff);
}
