/* Cells of one column: their width, where the rows of a view lie, and the one loop that picks them by row. */
#ifndef WFPSA_CELLS_H
#define WFPSA_CELLS_H

#include <stdint.h>

#include "wfpsa/query.h"

static inline unsigned
width_of(uint32_t column)
{
    return column == WFPSA_PRESENCE ? 1 : wfpsa_column_info(column)->width;
}

/* The cells of a column that is no selection's, or was gathered before, so that it cannot fail now. */
static inline const uint8_t *
cells_of(const struct wfpsa_columns *columns, uint32_t column)
{
    const void *cells = NULL;
    wfpsa_columns_cells(columns, column, &cells);
    return cells;
}

/* A view's row as a row of its columns. */
static inline uint64_t
absolute(const struct wfpsa_rows *view, uint64_t row)
{
    return view->start + (uint64_t)view->step * row;
}

struct wfpsa_cell16 {
    uint8_t bytes[16];
};

#define GATHER_CELLS(type, to, from, count, at)                                                                       \
    for (uint64_t i = 0; i < (count); i++) {                                                                          \
        ((type *)(to))[i] = ((const type *)(from))[at];                                                               \
    }

/* to[i] = from[at] for each i below count, where cells have that width; `at` is an expression of i. */
#define GATHER(to, from, width, count, at)                                                                            \
    switch (width) {                                                                                                  \
    case 1:                                                                                                           \
        GATHER_CELLS(uint8_t, to, from, count, at)                                                                    \
        break;                                                                                                        \
    case 2:                                                                                                           \
        GATHER_CELLS(uint16_t, to, from, count, at)                                                                   \
        break;                                                                                                        \
    case 4:                                                                                                           \
        GATHER_CELLS(uint32_t, to, from, count, at)                                                                   \
        break;                                                                                                        \
    case 8:                                                                                                           \
        GATHER_CELLS(uint64_t, to, from, count, at)                                                                   \
        break;                                                                                                        \
    default:                                                                                                          \
        GATHER_CELLS(struct wfpsa_cell16, to, from, count, at)                                                        \
        break;                                                                                                        \
    }

#endif
