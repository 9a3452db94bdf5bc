/* Questions to frozen batches that read every row: gather, compare. */
#ifndef WFPSA_QUERY_H
#define WFPSA_QUERY_H

#include "wfpsa/columns.h"

/* Some rows of a frozen batch: start, start + step, ..., `length` of them, all of which exist. */
struct wfpsa_view {
    const struct wfpsa_columns *columns;
    uint64_t start;
    int64_t step; /* may be negative */
    uint64_t length;
};

/* A new frozen batch with the columns of `from` and the rows start, start + step, ... (count of them), or where rows
 * is not NULL start + step * rows[0], ... Of the names it has those that these rows use. Owns: the caller holds the
 * one reference. Threads: any. Blocks: no. Fails: NULL, out of memory. The caller has checked that every row exists.
 */
struct wfpsa_columns *wfpsa_take(const struct wfpsa_columns *from, uint64_t start, int64_t step, const uint64_t *rows,
                                 uint64_t count);

/* Whether the two rows agree in every column that both batches have and `wanted` (by column, NULL: all) selects; names
 * are compared as text. Threads: any. Blocks: no. Fails: never. */
int wfpsa_rows_equal(const struct wfpsa_columns *a, uint64_t row_a, const struct wfpsa_columns *b, uint64_t row_b,
                     const uint8_t *wanted);

#endif
