/* A live copy of an engine's contexts: rows that are read again by id as events mark them, reconciled with a whole
 * listing now and then, copied out as frozen batches, and the changes of the last while.
 *
 * Events tell that something happened to an id, not what it is now: each id that is marked is read again, whatever was
 * told. A context with one SA only is being made or in its last minute, of which no event tells the end: it is read
 * again with back-off until it has both or is gone.
 *
 * Threads: one works on it (mark, read, reconcile); the others may be called from any thread at any time.
 * Blocks:  read and reconcile for the calls they make; the others while a page of a reconciliation is taken in.
 */
#ifndef WFPSA_MIRROR_H
#define WFPSA_MIRROR_H

#include "wfpsa/events.h"

struct wfpsa_mirror;

/* What became of contexts since some generation. */
enum wfpsa_change { WFPSA_CAME = 1, WFPSA_WENT = 2, WFPSA_DIFFERS = 3 };

/* What a reconciliation found that no event had told: its drift. */
struct wfpsa_drift {
    uint64_t listed; /* contexts in the listing */
    uint64_t added, removed, changed;
};

struct wfpsa_mirror_state {
    uint64_t contexts;
    uint64_t generation;           /* counts the steps that changed anything */
    uint64_t oldest;               /* changes since that generation or a later one are known */
    uint64_t marked;               /* ids that wait to be read */
    uint64_t one_sided;            /* appointments of ids that had one SA when they were made */
    uint64_t reads;                /* calls by id so far */
    uint64_t came, went, differed; /* contexts, so far */
    uint64_t bytes;                /* that it holds */
};

/* An empty mirror of those columns of structure version 1 (NULL: all), context_id among them, that remembers so many
 * changes (1 or more). Owns: the caller, until wfpsa_mirror_free. Fails: WFPSA_NO_MEMORY. */
int wfpsa_mirror_new(const uint8_t *wanted, uint32_t history, struct wfpsa_mirror **mirror);

/* NULL is allowed; nobody else may use it any more. */
void wfpsa_mirror_free(struct wfpsa_mirror *mirror);

/* Takes the events that wait in a subscription, and marks their ids. *lost: how many are missing; then only a
 * reconciliation helps. Fails: as wfpsa_subscription_take, and WFPSA_NO_MEMORY. */
int wfpsa_mirror_pull(struct wfpsa_mirror *mirror, struct wfpsa_subscription *subscription, uint64_t *lost);

/* Reads up to `most` ids again: of those marked, and of the one-sided that are due at `now` (milliseconds of the
 * engine's clock). *done: how many. Fails: WFPSA_CALL_FAILED, WFPSA_CLOSED and the like; the id that failed stays
 * marked, as do those that could not be entered for want of memory. */
int wfpsa_mirror_read(struct wfpsa_mirror *mirror, struct wfpsa_session *session, uint64_t now, uint32_t most,
                      uint32_t *done, struct wfpsa_failure *failure);

/* When the next one-sided id is due; UINT64_MAX where there is none. */
uint64_t wfpsa_mirror_due(struct wfpsa_mirror *mirror);

/* A reconciliation: begun before the enumeration is, a page at a time, and ended when all were listed; one that is
 * given up needs no end. Contexts are compared in all columns. `anew`: with another session, whose contexts need not
 * be those of before; what comes is then shown from the end on, with which what is gone goes, and the generation stays
 * until then, though contexts of the same id that differ are taken over at once; nobody reads by id in between. Fails:
 * as wfpsa_enumeration_next. */
void wfpsa_mirror_reconcile_begin(struct wfpsa_mirror *mirror, int anew);
int wfpsa_mirror_reconcile_page(struct wfpsa_mirror *mirror, struct wfpsa_enumeration *enumeration, uint64_t now,
                                int *more, struct wfpsa_failure *failure);
int wfpsa_mirror_reconcile_end(struct wfpsa_mirror *mirror, struct wfpsa_drift *drift);

/* All contexts as they are now, a frozen batch of the caller's, and the generation. Fails: WFPSA_NO_MEMORY. */
int wfpsa_mirror_snapshot(struct wfpsa_mirror *mirror, struct wfpsa_columns **batch, uint64_t *generation);

/* The contexts that came, went and differ since a generation, as frozen batches of the caller's: those that went as
 * they were last, the others as they are now; and the generation now. Fails: WFPSA_NO_MEMORY; WFPSA_CLOSED where that
 * is longer ago than it remembers, or in the future. */
int wfpsa_mirror_changes(struct wfpsa_mirror *mirror, uint64_t since, struct wfpsa_columns **came,
                         struct wfpsa_columns **went, struct wfpsa_columns **differ, uint64_t *generation);

void wfpsa_mirror_look(struct wfpsa_mirror *mirror, struct wfpsa_mirror_state *state);

/* When it first saw a context, in the milliseconds that it was given; 0: it does not know that id. */
int wfpsa_mirror_first_seen(struct wfpsa_mirror *mirror, uint64_t id, uint64_t *since);

#endif
