/* Questions to frozen batches: rows gathered, compared, and selected by conditions. */
#ifndef WFPSA_QUERY_H
#define WFPSA_QUERY_H

#include "wfpsa/columns.h"

/* Some rows of a frozen batch: start, start + step, ..., `length` of them, all of which exist. */
struct wfpsa_rows {
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

enum wfpsa_test {
    WFPSA_ONE_OF, /* the cell is one of the values */
    WFPSA_WITHIN, /* low <= cell <= high; columns of integers */
    WFPSA_IN_NETS /* the address lies in one of the subnets; columns of addresses */
};

/* A name to look for: UTF-8, not terminated. */
struct wfpsa_text {
    const char *text;
    uint64_t length;
};

/* One condition on one column. An absent cell meets none of them, but for or_absent. */
struct wfpsa_condition {
    uint32_t column;
    enum wfpsa_test test;
    int or_absent; /* with WFPSA_ONE_OF: rows without a value are met, too */
    uint64_t count;
    const void *values; /* count of them. WFPSA_IN_NETS: struct wfpsa_subnet, of family 4 or 6, an IPv6 subnet being
                         * free of what the column shows as IPv4. WFPSA_ONE_OF: struct wfpsa_text for columns of text,
                         * 16 bytes for addresses and GUIDs, else uint64_t. */
    uint64_t low, high; /* of WFPSA_WITHIN */
};

/* A selection (see struct wfpsa_selection) of those of the rows start, start + step, ... (count of them) of a frozen
 * batch that meet every condition, in their order. Row numbers take 32 bits: at the 4 bytes a row of a selection that
 * is worth more than batches of 2^32 rows, whose columns would take hundreds of gigabytes.
 * Owns: the caller holds the one reference; the selection keeps the batch (of a selection: that which it selects from)
 * alive as long as it lives. Threads: any. Blocks: no. Fails: WFPSA_NO_MEMORY; also for a batch of 2^32 rows or more.
 * The caller has checked that every row exists, and the batch has the columns. */
int wfpsa_select(struct wfpsa_columns *from, uint64_t start, int64_t step, uint64_t count,
                 const struct wfpsa_condition *conditions, uint32_t conditions_count,
                 struct wfpsa_columns **selection);

#endif
