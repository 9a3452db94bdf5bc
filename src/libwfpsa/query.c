/* Gathering and comparing rows of frozen batches. */
#include "wfpsa/query.h"

#include <string.h>

#include "cells.h"
#include "memory.h"

static void
gather(void *to, const void *from, unsigned width, uint64_t start, int64_t step, const uint64_t *rows, uint64_t count)
{
    if (step == 1 && !rows) {
        memcpy(to, (const char *)from + start * width, (size_t)(count * width));
        return;
    }
    GATHER(to, from, width, count, (int64_t)start + step * (int64_t)(rows ? rows[i] : i))
}

/* Gives `taken` those names of `from` that its gathered codes refer to, in the same order, and new codes for them. */
static int
take_names(struct wfpsa_columns *taken, const struct wfpsa_columns *from)
{
    const struct wfpsa_strings *all = &from->strings;
    struct wfpsa_strings kept = {0, NULL, NULL};
    uint64_t bytes = 0;
    uint32_t *codes = wfpsa_allocate_zeroed((uint64_t)all->count + 1, sizeof *codes); /* by old code */
    if (!codes) {
        return WFPSA_NO_MEMORY;
    }
    for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
        const uint32_t *cells = taken->columns[i];
        for (uint64_t row = 0; cells && wfpsa_column_info(i)->kind == WFPSA_TEXT && row < taken->length; row++) {
            codes[cells[row]] = 1;
        }
    }
    codes[0] = 0;
    for (uint32_t code = 1; code <= all->count; code++) {
        if (codes[code]) {
            codes[code] = ++kept.count;
            bytes += (uint64_t)(all->offsets[code + 1] - all->offsets[code]);
        }
    }
    kept.offsets = wfpsa_allocate((uint64_t)kept.count + 2, sizeof *kept.offsets);
    kept.text = wfpsa_allocate(bytes, 1);
    if (!kept.offsets || !kept.text) {
        wfpsa_free(kept.offsets);
        wfpsa_free(kept.text);
        wfpsa_free(codes);
        return WFPSA_NO_MEMORY;
    }
    kept.offsets[0] = 0;
    kept.offsets[1] = 0;
    for (uint32_t code = 1; code <= all->count; code++) {
        if (codes[code]) {
            int32_t length = all->offsets[code + 1] - all->offsets[code];
            memcpy(kept.text + kept.offsets[codes[code]], all->text + all->offsets[code], (size_t)length);
            kept.offsets[codes[code] + 1] = kept.offsets[codes[code]] + length;
        }
    }
    for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
        uint32_t *cells = taken->columns[i];
        for (uint64_t row = 0; cells && wfpsa_column_info(i)->kind == WFPSA_TEXT && row < taken->length; row++) {
            cells[row] = codes[cells[row]];
        }
    }
    wfpsa_free(codes);
    wfpsa_free(taken->strings.offsets);
    wfpsa_free(taken->strings.text);
    taken->strings = kept;
    return WFPSA_OK;
}

/* wfpsa_take of a selection: what is taken are rows of the batch that it selects from. */
static struct wfpsa_columns *
take_selected(const struct wfpsa_selection *selection, uint64_t start, int64_t step, const uint64_t *rows,
              uint64_t count)
{
    struct wfpsa_columns *taken = NULL;
    uint64_t *chosen = wfpsa_allocate(count, sizeof *chosen);
    if (chosen) {
        for (uint64_t i = 0; i < count; i++) {
            chosen[i] = selection->rows[(int64_t)start + step * (int64_t)(rows ? rows[i] : i)];
        }
        taken = wfpsa_take(selection->parent, 0, 1, chosen, count);
        wfpsa_free(chosen);
    }
    return taken;
}

struct wfpsa_columns *
wfpsa_take(const struct wfpsa_columns *from, uint64_t start, int64_t step, const uint64_t *rows, uint64_t count)
{
    if (from->selection) {
        return take_selected(from->selection, start, step, rows, count);
    }
    uint8_t wanted[WFPSA_COLUMN_COUNT];
    for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
        wanted[i] = from->columns[i] != NULL;
    }
    struct wfpsa_columns *taken = wfpsa_columns_new_rows(from->version, wanted, count);
    if (!taken) {
        return NULL;
    }
    for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
        if (wanted[i]) {
            gather(taken->columns[i], from->columns[i], wfpsa_column_info(i)->width, start, step, rows, count);
        }
    }
    gather(taken->presence, from->presence, 1, start, step, rows, count);
    if (take_names(taken, from) != WFPSA_OK) {
        wfpsa_columns_release(taken);
        return NULL;
    }
    return taken;
}

static int
same_text(const struct wfpsa_strings *a, uint32_t code_a, const struct wfpsa_strings *b, uint32_t code_b)
{
    if (code_a == 0 || code_b == 0) {
        return code_a == code_b;
    }
    int32_t length = a->offsets[code_a + 1] - a->offsets[code_a];
    return length == b->offsets[code_b + 1] - b->offsets[code_b] &&
           memcmp(a->text + a->offsets[code_a], b->text + b->offsets[code_b], (size_t)length) == 0;
}

int
wfpsa_rows_equal(const struct wfpsa_columns *a, uint64_t row_a, const struct wfpsa_columns *b, uint64_t row_b,
                 const uint8_t *wanted)
{
    a = wfpsa_columns_home(a, &row_a);
    b = wfpsa_columns_home(b, &row_b);
    for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
        const struct wfpsa_column_info *info = wfpsa_column_info(i);
        if (!a->columns[i] || !b->columns[i] || (wanted && !wanted[i])) {
            continue;
        }
        const char *cell_a = (const char *)a->columns[i] + row_a * info->width;
        const char *cell_b = (const char *)b->columns[i] + row_b * info->width;
        if (wfpsa_is_absent(a, info, i, row_a) != wfpsa_is_absent(b, info, i, row_b)) {
            return 0;
        }
        if (info->kind == WFPSA_TEXT) {
            uint32_t code_a, code_b;
            memcpy(&code_a, cell_a, sizeof code_a);
            memcpy(&code_b, cell_b, sizeof code_b);
            if (!same_text(&a->strings, code_a, &b->strings, code_b)) {
                return 0;
            }
        } else if (memcmp(cell_a, cell_b, info->width) != 0) {
            return 0;
        }
    }
    return 1;
}
