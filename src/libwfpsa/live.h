/* The rows of a mirror: found by id, changed a batch at a time, and a log of what became of them. */
#ifndef WFPSA_LIVE_H
#define WFPSA_LIVE_H

#include "wfpsa/mirror.h"
#include "wfpsa/query.h"

#include "hash_index.h"

#define LIVE_NOWHERE PLACE_NONE
#define LIVE_APPOINTED 0x80u /* in waits: the mirror will look at it again at some time */

struct live_logged {
    uint64_t generation, id;
    uint32_t grave; /* row of the graves, of WFPSA_WENT */
    uint32_t change;
};

/* What a row is, beside its cells. */
enum live_state {
    LIVE_SHOWN,
    LIVE_HIDDEN, /* until the listing ends that brought it */
    LIVE_SPENT,  /* within a batch: staged, and there is a row of that id */
    LIVE_HOLE    /* within a batch: a row that is gone */
};

/* A cell of each column, from one row to another. */
struct live_move {
    uint32_t to, from;
};

struct live {
    struct wfpsa_columns *rows; /* never frozen */

    /* Beside the rows, with room for as many as they have. */
    uint64_t room;
    uint64_t *since;
    uint8_t *seen;          /* by the reconciliation under way, or since it began */
    uint8_t *waits;         /* how often it was put off, 0 where it has both SAs, and LIVE_APPOINTED */
    uint8_t *states;        /* enum live_state */
    uint8_t shown_presence; /* the bits of presence from which cells of the columns are absent */
    uint64_t hidden_count;
    enum live_state arrival; /* what comes is hidden or shown */

    struct hash_index by_id; /* of rows */

    struct live_logged *log; /* a ring of `history`: `log_count` in all so far */
    uint32_t history;
    uint64_t log_count, generation, oldest;
    uint64_t shown;               /* the generation, or while rows are hidden that of before */
    struct wfpsa_columns *graves; /* a ring of those that went, with the names of the rows; never frozen */
    uint64_t went_count;
    uint64_t totals[WFPSA_DIFFERS + 1];

    /* The work of one batch. */
    struct live_move *moves;
    uint64_t moves_room;
    uint8_t *differs;  /* by move, with room for as many as were staged */
    uint64_t *partial; /* after live_apply: the ids that were found with one SA or none, `partial_count` of them */
    uint64_t staged_room, partial_count;
};

/* 0 where there is no memory; it is good for live_end then, and zeroed memory is so before. */
int live_begin(struct live *live, const uint8_t *wanted, uint32_t history);
void live_end(struct live *live);

/* The row of an id, or LIVE_NOWHERE. */
uint32_t live_row(const struct live *live, uint64_t id);

/* How many contexts came, went and differ. */
struct live_counts {
    uint64_t of[WFPSA_DIFFERS + 1];
};

/* One step: what was staged behind the first `length` rows is so now, and those ids are gone. The ids of `gone` are
 * distinct, and none of them is staged; of an id that is staged twice either may be what is kept. Fails:
 * WFPSA_NO_MEMORY; then all is as it was, and what was staged is not. */
int live_apply(struct live *live, uint64_t length, const uint64_t *gone, uint32_t gone_count, uint64_t now,
               struct live_counts *counts);

/* From now on, until live_show, what comes is hidden, and the generation that is shown stays. */
void live_hide(struct live *live);
void live_show(struct live *live);

/* A frozen batch of all rows that are not hidden; NULL without memory. */
struct wfpsa_columns *live_take(const struct live *live);

/* What wfpsa_mirror_changes says. */
int live_changes(struct live *live, uint64_t since, struct wfpsa_columns **came, struct wfpsa_columns **went,
                 struct wfpsa_columns **differ);

uint64_t live_bytes(const struct live *live);

#endif
