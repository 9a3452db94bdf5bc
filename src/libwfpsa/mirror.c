/* The mirror: which contexts are read again and when, and the reconciliation with listings.
 */
#include "session.h"

#include <stddef.h>
#include <string.h>

#include "live.h"
#include "memory.h"

#define PULLED_AT_ONCE 256u
#define READ_AT_ONCE 256u
#define READ_FOR_MS 10u       /* about: then what was found shows, and another batch begins */
#define MARKED_MAX (1u << 22) /* ids; who marks more than that is told of a loss */
#define FIRST_WAIT_MS 250u
#define WAITS_MAX 8 /* doublings, one more than there are: up to 32 s */

/* An id that will be read again. */
struct appointment {
    uint64_t due, id;
};

struct wfpsa_mirror {
    wfpsa_mutex mutex;
    struct live live;

    uint64_t *marked; /* a ring: from `marked_first` on, `marked_count` of them */
    uint64_t marked_room, marked_first, marked_count;
    uint64_t under_way; /* ids that were marked and are being read */

    struct appointment *heap;
    uint64_t heap_room, heap_count;

    struct wfpsa_drift drift;
    uint64_t reads;
};

/* ---- appointments: a heap ---- */

static int
later(const struct appointment *a, const struct appointment *b)
{
    return a->due > b->due;
}

static int
reserve_appointments(struct wfpsa_mirror *mirror, uint64_t more)
{
    uint64_t wanted = mirror->heap_count + more, room = mirror->heap_room ? mirror->heap_room : 64;
    if (wanted <= mirror->heap_room) {
        return 1;
    }
    while (room < wanted) {
        room *= 2;
    }
    struct appointment *heap = wfpsa_reallocate(mirror->heap, room, sizeof *heap);
    if (!heap) {
        return 0;
    }
    mirror->heap = heap;
    mirror->heap_room = room;
    return 1;
}

/* There must be room for it. */
static void
appoint(struct wfpsa_mirror *mirror, uint64_t id, uint64_t due)
{
    uint64_t at = mirror->heap_count++;
    const struct appointment made = {due, id};
    while (at && later(&mirror->heap[(at - 1) / 2], &made)) {
        mirror->heap[at] = mirror->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    mirror->heap[at] = made;
}

static struct appointment
next_appointment(struct wfpsa_mirror *mirror)
{
    struct appointment first = mirror->heap[0], last = mirror->heap[--mirror->heap_count];
    uint64_t at = 0, child;
    while ((child = 2 * at + 1) < mirror->heap_count) {
        child += child + 1 < mirror->heap_count && later(&mirror->heap[child], &mirror->heap[child + 1]);
        if (!later(&last, &mirror->heap[child])) {
            break;
        }
        mirror->heap[at] = mirror->heap[child];
        at = child;
    }
    mirror->heap[at] = last;
    return first;
}

/* Sees to it that a context with one SA is read again, each time later. There must be room for the appointment. */
static void
look_again(struct wfpsa_mirror *mirror, uint64_t id, uint64_t now)
{
    uint8_t *waits = &mirror->live.waits[live_row(&mirror->live, id)];
    if (*waits & LIVE_APPOINTED) {
        *waits |= *waits == LIVE_APPOINTED; /* from a time when it had one SA, too */
    } else {
        *waits += *waits < WAITS_MAX;
        appoint(mirror, id, now + ((uint64_t)FIRST_WAIT_MS << (*waits - 1)));
        *waits |= LIVE_APPOINTED;
    }
}

/* ---- life ---- */

int
wfpsa_mirror_new(const uint8_t *wanted, uint32_t history, struct wfpsa_mirror **mirror)
{
    struct wfpsa_mirror *made = wfpsa_allocate_zeroed(1, sizeof *made);
    *mirror = NULL;
    if (!made) {
        return WFPSA_NO_MEMORY;
    }
    if (wfpsa_mutex_init(&made->mutex) != 0) {
        wfpsa_free(made);
        return WFPSA_NO_MEMORY;
    }
    if (!live_begin(&made->live, wanted, history)) {
        wfpsa_mirror_free(made);
        return WFPSA_NO_MEMORY;
    }
    *mirror = made;
    return WFPSA_OK;
}

void
wfpsa_mirror_free(struct wfpsa_mirror *mirror)
{
    if (!mirror) {
        return;
    }
    wfpsa_mutex_destroy(&mirror->mutex);
    live_end(&mirror->live);
    wfpsa_free(mirror->marked);
    wfpsa_free(mirror->heap);
    wfpsa_free(mirror);
}

/* ---- events ---- */

static int
reserve_marks(struct wfpsa_mirror *mirror, uint64_t more)
{
    uint64_t wanted = mirror->marked_count + more, room = mirror->marked_room ? mirror->marked_room : 64;
    if (wanted <= mirror->marked_room) {
        return 1;
    }
    while (room < wanted) {
        room *= 2;
    }
    uint64_t *marked = wfpsa_allocate(room, sizeof *marked);
    if (!marked) {
        return 0;
    }
    for (uint64_t i = 0; i < mirror->marked_count; i++) {
        marked[i] = mirror->marked[(mirror->marked_first + i) & (mirror->marked_room - 1)];
    }
    wfpsa_free(mirror->marked);
    mirror->marked = marked;
    mirror->marked_room = room;
    mirror->marked_first = 0;
    return 1;
}

int
wfpsa_mirror_pull(struct wfpsa_mirror *mirror, struct wfpsa_subscription *subscription, uint64_t *lost)
{
    struct wfpsa_event events[PULLED_AT_ONCE];
    uint32_t taken;
    int status = WFPSA_OK;
    *lost = 0;
    do {
        uint64_t lost_after = 0;
        wfpsa_mutex_lock(&mirror->mutex);
        int room = reserve_marks(mirror, PULLED_AT_ONCE);
        wfpsa_mutex_unlock(&mirror->mutex);
        if (!room) { /* the events are still there; what is lost is told first */
            return *lost ? WFPSA_OK : WFPSA_NO_MEMORY;
        }
        taken = 0;
        status = wfpsa_subscription_take(subscription, events, PULLED_AT_ONCE, &taken, &lost_after);
        *lost += lost_after;
        wfpsa_mutex_lock(&mirror->mutex);
        for (uint32_t i = 0; i < taken; i++) {
            *lost += events[i].lost_before;
            if (mirror->marked_count >= MARKED_MAX) {
                ++*lost;
                continue;
            }
            uint64_t last = mirror->marked_first + mirror->marked_count - 1;
            if (mirror->marked_count && mirror->marked[last & (mirror->marked_room - 1)] == events[i].context_id) {
                continue; /* once is enough */
            }
            mirror->marked[(last + 1) & (mirror->marked_room - 1)] = events[i].context_id;
            mirror->marked_count++;
        }
        wfpsa_mutex_unlock(&mirror->mutex);
    } while (status == WFPSA_OK && taken == PULLED_AT_ONCE);
    return status;
}

/* ---- reading by id ---- */

enum { MARKED = 1, DUE = 2 };

/* Ids that are read together, each once. */
struct batch {
    uint32_t count, read, found_count, gone_count;
    uint64_t ids[READ_AT_ONCE];
    uint8_t why[READ_AT_ONCE];         /* MARKED, DUE or both */
    uint16_t places[READ_AT_ONCE * 2]; /* open addressing by id: index + 1, 0 free */
    IPSEC_SA_CONTEXT1 *found[READ_AT_ONCE];
    uint64_t gone[READ_AT_ONCE];
};

static void
choose(struct batch *batch, uint64_t id, int why)
{
    uint32_t mask = READ_AT_ONCE * 2 - 1, at = (uint32_t)(hash_of_number(id) >> 32) & mask;
    while (batch->places[at] && batch->ids[batch->places[at] - 1u] != id) {
        at = (at + 1) & mask;
    }
    if (!batch->places[at]) { /* a new one */
        batch->ids[batch->count] = id;
        batch->why[batch->count] = 0;
        batch->places[at] = (uint16_t)++batch->count;
    }
    batch->why[batch->places[at] - 1u] |= (uint8_t)why;
}

/* Takes up to `most` ids: of those marked, and of those that are due. */
static void
choose_all(struct wfpsa_mirror *mirror, struct batch *batch, uint64_t now, uint32_t most)
{
    while (batch->count < most && mirror->marked_count) {
        choose(batch, mirror->marked[mirror->marked_first], MARKED);
        mirror->marked_first = (mirror->marked_first + 1) & (mirror->marked_room - 1);
        mirror->marked_count--;
    }
    mirror->under_way = batch->count;
    while (batch->count < most && mirror->heap_count && mirror->heap[0].due <= now) {
        uint64_t id = next_appointment(mirror).id;
        uint32_t row = live_row(&mirror->live, id);
        if (row != LIVE_NOWHERE) {
            mirror->live.waits[row] &= (uint8_t)~LIVE_APPOINTED;
            if (mirror->live.waits[row]) {
                choose(batch, id, DUE);
            }
        }
    }
}

/* Gives back those from an index on that were not read; `due` is when those that were due are so again. There is room:
 * it is theirs. */
static void
give_back(struct wfpsa_mirror *mirror, const struct batch *batch, uint32_t from, uint64_t due)
{
    mirror->under_way = 0;
    for (uint32_t i = batch->count; i-- > from;) {
        if (batch->why[i] & MARKED) {
            mirror->marked_first = (mirror->marked_first - 1) & (mirror->marked_room - 1);
            mirror->marked[mirror->marked_first] = batch->ids[i];
            mirror->marked_count++;
        }
        if (batch->why[i] & DUE) { /* its row is there still: nothing was entered for it */
            appoint(mirror, batch->ids[i], due);
            mirror->live.waits[live_row(&mirror->live, batch->ids[i])] |= LIVE_APPOINTED;
        }
    }
}

/* Calls for each id, until one fails, it has taken long or the session is being closed. */
static int
read_all(struct batch *batch, struct wfpsa_session *session, struct wfpsa_failure *failure)
{
    uint64_t began = wfpsa_coarse_ms(), call_began;
    int status = wfpsa_session_enter(session);
    if (status != WFPSA_OK) {
        return status;
    }
    for (; batch->read < batch->count && wfpsa_coarse_ms() - began < READ_FOR_MS; batch->read++) {
        IPSEC_SA_CONTEXT1 *found = NULL;
        if (wfpsa_atomic_load(&session->closing)) {
            status = WFPSA_CLOSED;
            break;
        }
        DWORD code =
            METERED(get, call_began,
                    session->backend->sa_context_get_by_id1(session->engine, batch->ids[batch->read], &found));
        if (code != ERROR_SUCCESS && code != (DWORD)FWP_E_NOT_FOUND) {
            status = wfpsa_outcome_of(code, "IPsecSaContextGetById1", failure);
            break;
        }
        if (code == ERROR_SUCCESS && found) { /* a success without a context says nothing */
            batch->found[batch->found_count++] = found;
        } else if (code != ERROR_SUCCESS) {
            batch->gone[batch->gone_count++] = batch->ids[batch->read];
        }
    }
    wfpsa_session_leave(session);
    return status;
}

/* Enters what the calls found, and that they found nothing. Fails: WFPSA_NO_MEMORY; then nothing is entered. */
static int
enter(struct wfpsa_mirror *mirror, struct batch *batch, uint64_t now)
{
    struct live *live = &mirror->live;
    struct live_counts counts;
    uint64_t length = live->rows->length;
    if (!reserve_appointments(mirror, batch->count)) { /* also for those that are given back */
        wfpsa_page_wipe1(batch->found, batch->found_count);
        return WFPSA_NO_MEMORY;
    }
    if (batch->found_count && wfpsa_columns_append1(live->rows, batch->found, batch->found_count, NULL) != WFPSA_OK) {
        live->rows->length = length;
        return WFPSA_NO_MEMORY;
    }
    if (live_apply(live, length, batch->gone, batch->gone_count, now, &counts) != WFPSA_OK) {
        return WFPSA_NO_MEMORY;
    }
    for (uint64_t i = 0; i < live->partial_count; i++) {
        look_again(mirror, live->partial[i], now);
    }
    mirror->reads += batch->read;
    return WFPSA_OK;
}

int
wfpsa_mirror_read(struct wfpsa_mirror *mirror, struct wfpsa_session *session, uint64_t now, uint32_t most,
                  uint32_t *done, struct wfpsa_failure *failure)
{
    struct batch batch;
    int status = WFPSA_OK;
    *done = 0;
    do {
        uint32_t left = most - *done;
        memset(&batch, 0, offsetof(struct batch, ids));
        memset(batch.places, 0, sizeof batch.places);
        wfpsa_mutex_lock(&mirror->mutex);
        choose_all(mirror, &batch, now, left < READ_AT_ONCE ? left : READ_AT_ONCE);
        wfpsa_mutex_unlock(&mirror->mutex);
        status = read_all(&batch, session, failure);
        wfpsa_mutex_lock(&mirror->mutex);
        int entered = enter(mirror, &batch, now);
        give_back(mirror, &batch, entered == WFPSA_OK ? batch.read : 0,
                  entered == WFPSA_OK && status == WFPSA_OK ? now : now + FIRST_WAIT_MS); /* cut short: due still */
        wfpsa_mutex_unlock(&mirror->mutex);
        for (uint32_t i = 0; i < batch.found_count; i++) {
            session->backend->free_memory((void **)&batch.found[i]);
        }
        *done += entered == WFPSA_OK ? batch.read : 0;
        status = entered == WFPSA_OK ? status : entered;
    } while (status == WFPSA_OK && (batch.read < batch.count || batch.count == READ_AT_ONCE));
    return status;
}

uint64_t
wfpsa_mirror_due(struct wfpsa_mirror *mirror)
{
    wfpsa_mutex_lock(&mirror->mutex);
    uint64_t due = mirror->heap_count ? mirror->heap[0].due : UINT64_MAX;
    wfpsa_mutex_unlock(&mirror->mutex);
    return due;
}

/* ---- reconciliation ---- */

void
wfpsa_mirror_reconcile_begin(struct wfpsa_mirror *mirror, int anew)
{
    wfpsa_mutex_lock(&mirror->mutex);
    if (mirror->live.rows->length) {
        memset(mirror->live.seen, 0, (size_t)mirror->live.rows->length);
    }
    if (anew) {
        live_hide(&mirror->live);
    }
    memset(&mirror->drift, 0, sizeof mirror->drift);
    wfpsa_mutex_unlock(&mirror->mutex);
}

int
wfpsa_mirror_reconcile_page(struct wfpsa_mirror *mirror, struct wfpsa_enumeration *enumeration, uint64_t now,
                            int *more, struct wfpsa_failure *failure)
{
    struct live *live = &mirror->live;
    struct live_counts counts;
    wfpsa_enumeration_await(enumeration); /* for the engine nobody else has to wait */
    wfpsa_mutex_lock(&mirror->mutex);
    uint64_t length = live->rows->length;
    int status = wfpsa_enumeration_next(enumeration, live->rows, more, failure);
    uint64_t listed = live->rows->length - length;
    if (status == WFPSA_OK && !reserve_appointments(mirror, listed)) {
        status = WFPSA_NO_MEMORY;
    }
    if (status == WFPSA_OK) {
        status = live_apply(live, length, NULL, 0, now, &counts);
    } else {
        live->rows->length = length;
    }
    if (status == WFPSA_OK) {
        for (uint64_t i = 0; i < live->partial_count; i++) {
            look_again(mirror, live->partial[i], now);
        }
        mirror->drift.listed += listed;
        mirror->drift.added += counts.of[WFPSA_CAME];
        mirror->drift.changed += counts.of[WFPSA_DIFFERS];
    }
    wfpsa_mutex_unlock(&mirror->mutex);
    return status;
}

int
wfpsa_mirror_reconcile_end(struct wfpsa_mirror *mirror, struct wfpsa_drift *drift)
{
    struct live *live = &mirror->live;
    struct live_counts counts;
    uint32_t unseen = 0, gone_count = 0;
    wfpsa_mutex_lock(&mirror->mutex);
    const uint64_t *ids = live->rows->columns[WFPSA_COLUMN_context_id];
    for (uint64_t row = 0; row < live->rows->length; row++) {
        unseen += !live->seen[row];
    }
    uint64_t *gone = wfpsa_allocate(unseen, sizeof *gone);
    for (uint64_t row = 0; gone && row < live->rows->length; row++) {
        if (!live->seen[row]) {
            gone[gone_count++] = ids[row];
        }
    }
    /* At once, so that it fails as a whole: what is gone goes with the moment in which what came shows. */
    int status = gone ? live_apply(live, live->rows->length, gone, gone_count, 0, &counts) : WFPSA_NO_MEMORY;
    wfpsa_free(gone);
    if (status == WFPSA_OK) {
        mirror->drift.removed += counts.of[WFPSA_WENT];
        live_show(live);
        status = wfpsa_columns_forget_names(live->rows, live->graves);
    }
    *drift = mirror->drift;
    wfpsa_mutex_unlock(&mirror->mutex);
    return status;
}

/* ---- what others ask ---- */

int
wfpsa_mirror_snapshot(struct wfpsa_mirror *mirror, struct wfpsa_columns **batch, uint64_t *generation)
{
    wfpsa_mutex_lock(&mirror->mutex);
    *batch = live_take(&mirror->live);
    *generation = mirror->live.shown;
    wfpsa_mutex_unlock(&mirror->mutex);
    return *batch ? WFPSA_OK : WFPSA_NO_MEMORY;
}

int
wfpsa_mirror_changes(struct wfpsa_mirror *mirror, uint64_t since, struct wfpsa_columns **came,
                     struct wfpsa_columns **went, struct wfpsa_columns **differ, uint64_t *generation)
{
    *came = *went = *differ = NULL;
    wfpsa_mutex_lock(&mirror->mutex);
    int status = live_changes(&mirror->live, since, came, went, differ);
    *generation = mirror->live.shown;
    wfpsa_mutex_unlock(&mirror->mutex);
    if (status != WFPSA_OK) {
        wfpsa_columns_release(*came);
        wfpsa_columns_release(*went);
        wfpsa_columns_release(*differ);
        *came = *went = *differ = NULL;
    }
    return status;
}

void
wfpsa_mirror_look(struct wfpsa_mirror *mirror, struct wfpsa_mirror_state *state)
{
    const struct live *live = &mirror->live;
    wfpsa_mutex_lock(&mirror->mutex);
    state->contexts = live->rows->length - live->hidden_count;
    state->generation = live->shown;
    state->oldest = live->oldest < live->shown ? live->oldest : live->shown;
    state->marked = mirror->marked_count + mirror->under_way;
    state->one_sided = mirror->heap_count;
    state->reads = mirror->reads;
    state->came = live->totals[WFPSA_CAME];
    state->went = live->totals[WFPSA_WENT];
    state->differed = live->totals[WFPSA_DIFFERS];
    state->bytes =
        live_bytes(live) + mirror->marked_room * sizeof *mirror->marked + mirror->heap_room * sizeof *mirror->heap;
    wfpsa_mutex_unlock(&mirror->mutex);
}

int
wfpsa_mirror_first_seen(struct wfpsa_mirror *mirror, uint64_t id, uint64_t *since)
{
    wfpsa_mutex_lock(&mirror->mutex);
    uint32_t row = live_row(&mirror->live, id);
    int known = row != LIVE_NOWHERE && mirror->live.states[row] == LIVE_SHOWN;
    *since = known ? mirror->live.since[row] : 0;
    wfpsa_mutex_unlock(&mirror->mutex);
    return known;
}
