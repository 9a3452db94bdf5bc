/* What differs between two frozen batches: contexts that came, went or changed, told apart by their id. */
#ifndef WFPSA_DIFF_H
#define WFPSA_DIFF_H

#include "wfpsa/query.h"

#define WFPSA_COLUMN_WORDS ((WFPSA_COLUMN_COUNT + 63) / 64)

/* Rows are those of the views: 0 is the row at `start`. Column c differs where bit c % 64 of word c / 64 is set. */
struct wfpsa_diff {
    uint64_t added_count, removed_count, changed_count;
    uint64_t same_count;      /* ids that both have, with equal cells in every common column */
    uint64_t *added;          /* rows of `after` whose id `before` lacks, in the order of `after` */
    uint64_t *removed;        /* rows of `before` whose id `after` lacks, in the order of `before` */
    uint64_t *changed;        /* rows of `after` that differ from the row of their id in `before`, in its order */
    uint64_t *changed_before; /* those rows of `before`, in the same order */
    uint64_t *differing;      /* [changed_count * WFPSA_COLUMN_WORDS]: which columns differ in that row */
    uint64_t column_counts[WFPSA_COLUMN_COUNT]; /* in how many rows that column differs */
};

/* Compares two views, of one batch or two. Only columns that both have are compared: absent differs from present, and
 * names compare as text. Of an id that comes more than once in a view the first row counts and the later ones are
 * ignored. Both views must have the column context_id. Owns: the caller frees *diff with wfpsa_diff_free, on success
 * only. Threads: any. Blocks: no. Fails: WFPSA_NO_MEMORY, also for a view of more than 2^31 - 2 rows. */
int wfpsa_diff_make(const struct wfpsa_rows *before, const struct wfpsa_rows *after, struct wfpsa_diff *diff);

void wfpsa_diff_free(struct wfpsa_diff *diff);

#endif
