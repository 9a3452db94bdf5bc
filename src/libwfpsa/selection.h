/* The life of selections: batches of rows of another batch, gathered column by column. */
#ifndef WFPSA_SELECTION_H
#define WFPSA_SELECTION_H

#include "wfpsa/columns.h"

/* A selection of `count` rows of a frozen batch that is none itself. Owns: the caller holds the one reference, the
 * selection one to its parent and, once it is made, the rows. Fails: NULL, out of memory; the rows stay the caller's.
 */
struct wfpsa_columns *selection_new(struct wfpsa_columns *parent, uint32_t *rows, uint64_t count);

/* What it holds for so many of its rows. */
uint64_t selection_bytes(struct wfpsa_selection *selection, uint64_t rows);

void selection_free(struct wfpsa_selection *selection);

#endif
