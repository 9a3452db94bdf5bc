/* Selections: their making, the gathering of their columns on first touch, and their end. */
#include "platform.h" /* first: it asks the system headers for POSIX */

#include "cells.h"
#include "memory.h"
#include "selection.h"

struct wfpsa_columns *
selection_new(struct wfpsa_columns *parent, uint32_t *rows, uint64_t count)
{
    struct wfpsa_columns *columns = wfpsa_allocate_zeroed(1, sizeof *columns);
    struct wfpsa_selection *selection = wfpsa_allocate_zeroed(1, sizeof *selection);
    if (!columns || !selection) {
        wfpsa_free(columns);
        wfpsa_free(selection);
        return NULL;
    }
    wfpsa_columns_retain(parent);
    selection->parent = parent;
    selection->rows = rows;
    columns->length = count;
    columns->capacity = count;
    columns->version = parent->version;
    columns->strings = parent->strings;
    columns->references = 1;
    columns->selection = selection;
    return columns;
}

/* No lock: threads that come at once may each gather the column, and the first to finish publishes it. So nobody
 * waits, and a forked child finds nothing held by a thread that it does not have. */
int
wfpsa_columns_cells(const struct wfpsa_columns *columns, uint32_t column, const void **cells)
{
    const struct wfpsa_columns *source = columns->selection ? columns->selection->parent : columns;
    const void *from = column == WFPSA_PRESENCE ? source->presence : source->columns[column];
    struct wfpsa_selection *selection = columns->selection;
    if (!selection || !from) {
        *cells = from;
        return WFPSA_OK;
    }
    void *gathered = wfpsa_atomic_load_pointer(&selection->gathered[column]);
    if (!gathered) {
        const uint32_t *rows = selection->rows;
        gathered = wfpsa_allocate(columns->length, width_of(column));
        if (!gathered) {
            return WFPSA_NO_MEMORY;
        }
        GATHER(gathered, from, width_of(column), columns->length, rows[i])
        if (!wfpsa_atomic_set_pointer(&selection->gathered[column], gathered)) {
            wfpsa_free(gathered);
            gathered = wfpsa_atomic_load_pointer(&selection->gathered[column]);
        }
    }
    *cells = gathered;
    return WFPSA_OK;
}

uint64_t
selection_bytes(struct wfpsa_selection *selection, uint64_t rows)
{
    uint64_t bytes = rows * sizeof *selection->rows;
    for (uint32_t i = 0; i <= WFPSA_COLUMN_COUNT; i++) {
        bytes += wfpsa_atomic_load_pointer(&selection->gathered[i]) ? rows * width_of(i) : 0;
    }
    return bytes;
}

void
selection_free(struct wfpsa_selection *selection)
{
    for (uint32_t i = 0; i <= WFPSA_COLUMN_COUNT; i++) {
        wfpsa_free(selection->gathered[i]);
    }
    wfpsa_columns_release(selection->parent);
    wfpsa_free(selection->rows);
    wfpsa_free(selection);
}
