/* How often each value of a column, or of two, occurs in a frozen batch, and which rows have the same. */
#ifndef WFPSA_COUNT_H
#define WFPSA_COUNT_H

#include "wfpsa/query.h"

/* A value, named by the first row of the view that has it (0 is the row at `start`). */
struct wfpsa_group {
    uint64_t row;
    uint64_t count;
};

/* To how many bits addresses are cut before they are counted. */
struct wfpsa_prefix {
    uint8_t v4; /* 0 to 32 */
    uint8_t v6; /* 0 to 128 */
};

/* Counts the values of one or two columns that the batch has; names are counted as text, and absent is a value of its
 * own. The most frequent come first, equally frequent ones in the order of their values (of the first column, then of
 * the second): absent last, and where `prefix` is not NULL, IPv4 before IPv6. Owns: the caller frees *groups with
 * wfpsa_groups_free, on success only. Threads: any. Blocks: no. Fails: WFPSA_NO_MEMORY, also for a view of more than
 * 2^31 - 2 rows. */
int wfpsa_count(const struct wfpsa_rows *view, const uint32_t *columns, unsigned column_count,
                const struct wfpsa_prefix *prefix, struct wfpsa_group **groups, uint64_t *group_count);

void wfpsa_groups_free(struct wfpsa_group *groups);

/* Numbers the values of a column that the batch has, from 0 in the order in which they come first: numbers[row] is
 * that of each row of the view, *value_count how many there are. Values are those of wfpsa_count. Threads: any.
 * Blocks: no. Fails: as wfpsa_count; numbers is undefined then. */
int wfpsa_number(const struct wfpsa_rows *view, uint32_t column, uint32_t *numbers, uint64_t *value_count);

#endif
