/* The rows of a mirror: a batch is looked up by id, logged, and its cells are moved a column at a time.
 */
#include "platform.h" /* first: it asks the system headers for POSIX */

#include "live.h"

#include <string.h>

#include "cells.h"
#include "memory.h"

#define AHEAD 32u           /* ids whose rows are looked for at once */
#define ROWS_MAX (1u << 30) /* or entries of the log */

/* ---- rows by id ---- */

static uint64_t *
ids_of(const struct live *live)
{
    return live->rows->columns[WFPSA_COLUMN_context_id];
}

uint32_t
live_row(const struct live *live, uint64_t id)
{
    const uint64_t *ids = ids_of(live), hash = hash_of_number(id);
    uint32_t at = index_home(&live->by_id, hash), row;
    while ((row = index_next(&live->by_id, hash, &at)) != LIVE_NOWHERE && ids[row] != id) {
    }
    return row;
}

/* Fetches what looking up the ids from `at` on will touch, once every AHEAD of them. */
static void
look_ahead(const struct live *live, const uint64_t *ids, uint64_t at, uint64_t count)
{
    const struct hash_index *by_id = &live->by_id;
    uint64_t end = count - at < AHEAD ? count : at + AHEAD;
    if (at % AHEAD) {
        return;
    }
    for (uint64_t i = at; i < end; i++) {
        wfpsa_prefetch(&by_id->cells[index_home(by_id, hash_of_number(ids[i]))]);
    }
    for (uint64_t i = at; i < end; i++) {
        uint64_t cell = by_id->cells[index_home(by_id, hash_of_number(ids[i]))];
        if (cell) { /* perhaps another's */
            uint32_t row = (uint32_t)cell - 1u;
            wfpsa_prefetch(&ids_of(live)[row]);
            wfpsa_prefetch(&live->states[row]);
            wfpsa_prefetch(&live->seen[row]);
        }
    }
}

/* ---- room ---- */

/* Room beside the rows for so many of them. */
static int
reserve_beside(struct live *live, uint64_t rows)
{
    uint64_t room = rows > live->room + live->room / 4 ? rows : live->room + live->room / 4;
    uint8_t **const bytes[] = {&live->seen, &live->waits, &live->states};
    if (rows <= live->room) {
        return 1;
    }
    uint64_t *since = wfpsa_reallocate(live->since, room, sizeof *since);
    live->since = since ? since : live->since;
    for (size_t i = 0; since && i < sizeof bytes / sizeof *bytes; i++) {
        uint8_t *more = wfpsa_reallocate(*bytes[i], room, 1);
        if (!more) {
            return 0;
        }
        *bytes[i] = more;
    }
    live->room = since ? room : live->room;
    return since != NULL;
}

/* Room in the index for so many rows, of which the first `length` are there. */
static int
reserve_index(struct live *live, uint64_t length, uint64_t rows)
{
    struct hash_index wider = {NULL, live->by_id.size};
    while (wider.size / 4 * 3 < rows) {
        wider.size *= 2;
    }
    if (wider.size == live->by_id.size) {
        return 1;
    }
    wider.cells = wfpsa_allocate_zeroed(wider.size, sizeof *wider.cells);
    if (!wider.cells) {
        return 0;
    }
    for (uint32_t row = 0; row < length; row++) {
        index_insert(&wider, hash_of_number(ids_of(live)[row]), row);
    }
    wfpsa_free(live->by_id.cells);
    live->by_id = wider;
    return 1;
}

static int
reserve_work(struct live *live, uint64_t staged, uint64_t gone)
{
    uint64_t moves = staged + 2 * gone; /* a grave and a successor for each that is gone */
    if (moves > live->moves_room) {
        struct live_move *more = wfpsa_reallocate(live->moves, moves, sizeof *more);
        if (!more) {
            return 0;
        }
        live->moves = more;
        live->moves_room = moves;
    }
    if (staged > live->staged_room) {
        uint8_t *differs = wfpsa_reallocate(live->differs, staged, 1);
        live->differs = differs ? differs : live->differs;
        uint64_t *partial = differs ? wfpsa_reallocate(live->partial, staged, sizeof *partial) : NULL;
        if (!partial) {
            return 0;
        }
        live->partial = partial;
        live->staged_room = staged;
    }
    return 1;
}

/* All that a batch may need, asked for before anything is changed. */
static int
reserve(struct live *live, uint64_t length, uint64_t staged, uint64_t gone)
{
    struct wfpsa_columns *graves = live->graves;
    uint64_t left = live->history - graves->length, buried = gone < left ? gone : left;
    if (length + staged > ROWS_MAX || !reserve_beside(live, length + staged) ||
        !reserve_index(live, length, length + staged) || !reserve_work(live, staged, gone)) {
        return 0;
    }
    return graves->capacity - graves->length >= buried || wfpsa_columns_reserve(graves, buried) == WFPSA_OK;
}

/* ---- the log ---- */

static struct live_logged *
note(struct live *live, uint64_t id, enum wfpsa_change change, struct live_counts *counts)
{
    struct live_logged *entry = &live->log[live->log_count % live->history];
    if (live->log_count >= live->history) {
        live->oldest = entry->generation;
    }
    entry->generation = live->generation;
    entry->id = id;
    entry->change = change;
    entry->grave = LIVE_NOWHERE;
    live->totals[change]++;
    counts->of[change]++;
    live->log_count++;
    return entry;
}

/* ---- a batch ---- */

static void
plan(struct live *live, uint64_t *count, uint64_t to, uint64_t from)
{
    live->moves[(*count)++] = (struct live_move){(uint32_t)to, (uint32_t)from};
}

#define MOVE_CELLS(type)                                                                                              \
    for (; first < end; first++) {                                                                                    \
        ((type *)to)[moves[first].to] = ((const type *)from)[moves[first].from];                                      \
    }

static void
move_cells(void *to, const void *from, unsigned width, const struct live_move *moves, uint64_t first, uint64_t end)
{
    switch (width) {
    case 1:
        MOVE_CELLS(uint8_t)
        break;
    case 2:
        MOVE_CELLS(uint16_t)
        break;
    case 4:
        MOVE_CELLS(uint32_t)
        break;
    case 8:
        MOVE_CELLS(uint64_t)
        break;
    default:
        MOVE_CELLS(struct wfpsa_cell16)
        break;
    }
}

/* Fetches the cells of a column that moves begin at: while those of the one before are moved. */
static void
fetch_cells(const void *cells, unsigned width, const struct live_move *moves, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        wfpsa_prefetch((const uint8_t *)cells + (size_t)moves[i].from * width);
    }
}

/* Moves what was planned, in its order, a column at a time: the first `buried` rows to their graves, then rows to the
 * places of others, which are at hand then. The ids are in their places already. */
static void
move_rows(struct live *live, uint64_t buried, uint64_t planned)
{
    struct wfpsa_columns *rows = live->rows, *graves = live->graves;
    for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
        if (i + 1 < WFPSA_COLUMN_COUNT && rows->columns[i + 1]) {
            fetch_cells(rows->columns[i + 1], width_of(i + 1), live->moves, buried);
        }
        if (rows->columns[i] && i != WFPSA_COLUMN_context_id) {
            move_cells(graves->columns[i], rows->columns[i], width_of(i), live->moves, 0, buried);
            move_cells(rows->columns[i], rows->columns[i], width_of(i), live->moves, buried, planned);
        }
    }
    move_cells(graves->presence, rows->presence, 1, live->moves, 0, buried);
    move_cells(rows->presence, rows->presence, 1, live->moves, buried, planned);
}

/* Takes the rows of what is gone out: no id leads to them then, and they are holes. Returns how many there were; the
 * plan has moves of each to its grave, and nothing else. */
static uint64_t
bury(struct live *live, const uint64_t *gone, uint32_t gone_count, struct live_counts *counts)
{
    uint64_t *graves_ids = live->graves->columns[WFPSA_COLUMN_context_id], buried = 0;
    for (uint32_t i = 0; i < gone_count; i++) {
        look_ahead(live, gone, i, gone_count);
        uint32_t row = live_row(live, gone[i]);
        if (row != LIVE_NOWHERE) {
            struct live_logged *entry = note(live, gone[i], WFPSA_WENT, counts);
            entry->grave = (uint32_t)(live->went_count++ % live->history);
            live->graves->length += entry->grave == live->graves->length;
            graves_ids[entry->grave] = gone[i];
            plan(live, &buried, entry->grave, row);
            index_remove(&live->by_id, hash_of_number(gone[i]), row);
            live->hidden_count -= live->states[row] == LIVE_HIDDEN;
            live->states[row] = LIVE_HOLE;
        }
    }
    return buried;
}

#define COMPARE_CELLS(type)                                                                                           \
    for (uint64_t i = 0; i < count; i++) {                                                                            \
        differs[i] |= ((const type *)cells)[moves[i].to] != ((const type *)cells)[moves[i].from];                     \
    }

static void
compare_cells(uint8_t *differs, const void *cells, unsigned width, const struct live_move *moves, uint64_t count)
{
    switch (width) {
    case 1:
        COMPARE_CELLS(uint8_t)
        break;
    case 2:
        COMPARE_CELLS(uint16_t)
        break;
    case 4:
        COMPARE_CELLS(uint32_t)
        break;
    case 8:
        COMPARE_CELLS(uint64_t)
        break;
    default:
        for (uint64_t i = 0; i < count; i++) {
            differs[i] |= memcmp((const uint8_t *)cells + (size_t)moves[i].to * width,
                                 (const uint8_t *)cells + (size_t)moves[i].from * width, width) != 0;
        }
        break;
    }
}

/* Of the copies that are planned from a move on keeps those of rows that differ: in any cell, as a name that is the
 * same has the same code here. */
static void
keep_differing(struct live *live, uint64_t first, uint64_t *planned, struct live_counts *counts)
{
    uint64_t count = *planned - first;
    if (!count) { /* there may never have been room for moves */
        return;
    }
    struct live_move *moves = live->moves + first;
    for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
        if (live->rows->columns[i] && i != WFPSA_COLUMN_context_id) {
            compare_cells(live->differs, live->rows->columns[i], width_of(i), moves, count);
        }
    }
    *planned = first;
    for (uint64_t i = 0; i < count; i++) {
        if (live->differs[i]) {
            note(live, ids_of(live)[moves[i].from], WFPSA_DIFFERS, counts);
            plan(live, planned, moves[i].to, moves[i].from);
        }
    }
}

/* Finds what was staged among what is there: plans a copy for each row that is, and lets those that came be found
 * where they were staged. */
static void
look_up(struct live *live, uint64_t length, uint64_t now, uint64_t *planned, struct live_counts *counts)
{
    const unsigned both = WFPSA_PRESENT_INBOUND | WFPSA_PRESENT_OUTBOUND;
    struct wfpsa_columns *rows = live->rows;
    uint64_t first = *planned;
    for (uint64_t staged = length; staged < rows->length; staged++) {
        look_ahead(live, ids_of(live) + length, staged - length, rows->length - length);
        uint64_t id = ids_of(live)[staged];
        uint32_t row = live_row(live, id);
        if (row != LIVE_NOWHERE) {
            live->differs[*planned - first] =
                ((rows->presence[row] ^ rows->presence[staged]) & live->shown_presence) != 0;
            rows->presence[row] = rows->presence[staged]; /* which SAs there are, whatever the columns tell of them */
            plan(live, planned, row, staged);
            live->states[staged] = LIVE_SPENT;
        } else {
            row = (uint32_t)staged;
            note(live, id, WFPSA_CAME, counts);
            index_insert(&live->by_id, hash_of_number(id), row);
            live->since[staged] = now;
            live->waits[staged] = 0;
            live->states[staged] = (uint8_t)live->arrival;
            live->hidden_count += live->arrival == LIVE_HIDDEN;
        }
        live->seen[row] = 1;
        if ((rows->presence[row] & both) == both) {
            live->waits[row] &= LIVE_APPOINTED;
        } else {
            live->partial[live->partial_count++] = id;
        }
    }
}

/* Gives a row the place of another: plans the move of its cells, and all else is there at once. */
static void
settle(struct live *live, uint64_t *planned, uint64_t to, uint64_t from)
{
    uint64_t *ids = ids_of(live);
    index_move(&live->by_id, hash_of_number(ids[from]), (uint32_t)from, (uint32_t)to);
    ids[to] = ids[from];
    live->since[to] = live->since[from];
    live->seen[to] = live->seen[from];
    live->waits[to] = live->waits[from];
    live->states[to] = live->states[from];
    plan(live, planned, to, from);
}

int
live_apply(struct live *live, uint64_t length, const uint64_t *gone, uint32_t gone_count, uint64_t now,
           struct live_counts *counts)
{
    struct wfpsa_columns *rows = live->rows;
    uint64_t end = length, staged_end = rows->length, filled = 0;
    memset(counts, 0, sizeof *counts);
    live->partial_count = 0;
    if (!reserve(live, length, staged_end - length, gone_count)) {
        rows->length = length;
        return WFPSA_NO_MEMORY;
    }
    live->generation++;
    uint64_t buried = bury(live, gone, gone_count, counts), planned = buried;
    look_up(live, length, now, &planned, counts);
    keep_differing(live, buried, &planned, counts);

    /* What came takes the places of what is gone, then those behind all others. No cell is moved yet: in the order of
     * the plan each is read before something else takes its place. */
    for (uint64_t staged = length; staged < staged_end; staged++) {
        if (live->states[staged] != LIVE_SPENT) {
            uint64_t to = filled < buried ? live->moves[filled++].from : end++;
            if (to != staged) {
                settle(live, &planned, to, staged);
            }
        }
    }
    for (; filled < buried; filled++) { /* the holes that are left, with the last rows */
        uint64_t to = live->moves[filled].from;
        while (end && live->states[end - 1] == LIVE_HOLE) {
            end--;
        }
        if (to < end) {
            settle(live, &planned, to, --end);
        }
    }
    move_rows(live, buried, planned);
    rows->length = end;
    live->generation -= !(counts->of[WFPSA_CAME] || counts->of[WFPSA_WENT] || counts->of[WFPSA_DIFFERS]);
    live->shown = live->arrival == LIVE_HIDDEN ? live->shown : live->generation;
    return WFPSA_OK;
}

void
live_hide(struct live *live)
{
    live->arrival = LIVE_HIDDEN;
}

void
live_show(struct live *live)
{
    live->arrival = LIVE_SHOWN;
    live->shown = live->generation;
    if (live->hidden_count) {
        memset(live->states, LIVE_SHOWN, (size_t)live->rows->length);
        live->hidden_count = 0;
    }
}

/* ---- life ---- */

int
live_begin(struct live *live, const uint8_t *wanted, uint32_t history)
{
    live->history = history;
    live->by_id.size = 64;
    live->rows = wfpsa_columns_new_some(1, wanted);
    live->graves = wfpsa_columns_new_some(1, wanted);
    live->by_id.cells = wfpsa_allocate_zeroed(live->by_id.size, sizeof *live->by_id.cells);
    live->log = wfpsa_allocate(history, sizeof *live->log);
    for (uint32_t i = 0; live->rows && i < WFPSA_COLUMN_COUNT; i++) {
        live->shown_presence |= live->rows->columns[i] ? (uint8_t)wfpsa_column_info(i)->presence : 0;
    }
    return live->rows && live->graves && live->by_id.cells && live->log;
}

void
live_end(struct live *live)
{
    wfpsa_columns_release(live->rows);
    wfpsa_columns_release(live->graves);
    wfpsa_free(live->since);
    wfpsa_free(live->seen);
    wfpsa_free(live->waits);
    wfpsa_free(live->states);
    wfpsa_free(live->by_id.cells);
    wfpsa_free(live->log);
    wfpsa_free(live->moves);
    wfpsa_free(live->differs);
    wfpsa_free(live->partial);
}

uint64_t
live_bytes(const struct live *live)
{
    return wfpsa_columns_bytes(live->rows, live->rows->length) +
           wfpsa_columns_bytes(live->graves, live->graves->length) + live->room * (sizeof *live->since + 3) +
           live->by_id.size * sizeof *live->by_id.cells + live->history * sizeof *live->log +
           live->moves_room * sizeof *live->moves + live->staged_room * (sizeof *live->partial + 1);
}

/* ---- what others ask ---- */

struct wfpsa_columns *
live_take(const struct live *live)
{
    uint64_t count = live->rows->length - live->hidden_count, taken = 0;
    if (!live->hidden_count) {
        return wfpsa_take(live->rows, 0, 1, NULL, count);
    }
    uint64_t *shown = wfpsa_allocate(count, sizeof *shown);
    if (!shown) {
        return NULL;
    }
    for (uint64_t row = 0; row < live->rows->length; row++) {
        if (live->states[row] == LIVE_SHOWN) {
            shown[taken++] = row;
        }
    }
    struct wfpsa_columns *batch = wfpsa_take(live->rows, 0, 1, shown, count);
    wfpsa_free(shown);
    return batch;
}

/* One id of the log, by its first change since some generation and its last grave. */
struct changed {
    uint64_t id;
    uint32_t first, grave;
};

/* The distinct ids logged from an entry to another, in the order of their first change; NULL without memory. */
static struct changed *
changed_between(const struct live *live, uint64_t from, uint64_t to, uint64_t *count)
{
    uint64_t entries = to - from;
    struct changed *found = wfpsa_allocate(entries, sizeof *found);
    struct hash_index by_id = {NULL, 64};
    while (by_id.size < entries * 2 && by_id.size <= ROWS_MAX) {
        by_id.size *= 2;
    }
    by_id.cells = entries <= ROWS_MAX ? wfpsa_allocate_zeroed(by_id.size, sizeof *by_id.cells) : NULL;
    *count = 0;
    if (!found || !by_id.cells) {
        wfpsa_free(found);
        wfpsa_free(by_id.cells);
        return NULL;
    }
    for (; from < to; from++) {
        const struct live_logged *entry = &live->log[from % live->history];
        uint64_t hash = hash_of_number(entry->id);
        uint32_t at = index_home(&by_id, hash), place;
        while ((place = index_next(&by_id, hash, &at)) != PLACE_NONE && found[place].id != entry->id) {
        }
        if (place == PLACE_NONE) {
            place = (uint32_t)(*count)++;
            found[place].id = entry->id;
            found[place].first = entry->change;
            found[place].grave = LIVE_NOWHERE;
            index_insert(&by_id, hash, place);
        }
        if (entry->change == WFPSA_WENT) {
            found[place].grave = entry->grave;
        }
    }
    wfpsa_free(by_id.cells);
    return found;
}

/* The first entry of the log, from the last one back to `kept`, that is not above a generation. */
static uint64_t
entry_after(const struct live *live, uint64_t from, uint64_t kept, uint64_t generation)
{
    while (from > kept && live->log[(from - 1) % live->history].generation > generation) {
        from--;
    }
    return from;
}

int
live_changes(struct live *live, uint64_t since, struct wfpsa_columns **came, struct wfpsa_columns **went,
             struct wfpsa_columns **differ)
{
    uint64_t count = 0, in = 0, out = 0, other = 0;
    uint64_t kept = live->log_count < live->history ? 0 : live->log_count - live->history;
    uint64_t to = entry_after(live, live->log_count, kept, live->shown);
    if (since > live->shown || (since < live->oldest && since != live->shown)) {
        return WFPSA_CLOSED;
    }
    struct changed *found = changed_between(live, entry_after(live, to, kept, since), to, &count);
    uint64_t *numbers = found ? wfpsa_allocate(3 * count, sizeof *numbers) : NULL;
    if (numbers) {
        uint64_t *gone = numbers + count, *differing = gone + count;
        for (uint64_t i = 0; i < count; i++) {
            uint32_t row = live_row(live, found[i].id);
            int there = row != LIVE_NOWHERE && live->states[row] == LIVE_SHOWN;
            if (there && found[i].first == WFPSA_CAME) {
                numbers[in++] = row;
            } else if (there) {
                differing[other++] = row;
            } else if (found[i].first != WFPSA_CAME && found[i].grave != LIVE_NOWHERE) {
                gone[out++] = found[i].grave; /* else it went after what is shown, which is told later */
            }
        }
        struct wfpsa_columns graves = *live->graves;
        graves.strings = live->rows->strings;
        *came = wfpsa_take(live->rows, 0, 1, numbers, in);
        *went = wfpsa_take(&graves, 0, 1, gone, out);
        *differ = wfpsa_take(live->rows, 0, 1, differing, other);
    }
    wfpsa_free(numbers);
    wfpsa_free(found);
    return *came && *went && *differ ? WFPSA_OK : WFPSA_NO_MEMORY;
}
