/* Comparing batches: against a model that looks at every pair of rows, in every order, with every allocation failing.
 */
#include "batch.h"

#include <stdlib.h>

#include "wfpsa/diff.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const uint32_t few[] = {
    WFPSA_COLUMN_context_id,          WFPSA_COLUMN_has_inbound,    WFPSA_COLUMN_ip_version,
    WFPSA_COLUMN_remote_address,      WFPSA_COLUMN_remote_port,    WFPSA_COLUMN_spi_out,
    WFPSA_COLUMN_mm_sa_id_out,        WFPSA_COLUMN_transform_out,  WFPSA_COLUMN_filter_id_in,
    WFPSA_COLUMN_main_mode_target_in, WFPSA_COLUMN_key_module_out, WFPSA_COLUMN_extended_mode_target_out};

static uint64_t state;

static uint32_t
chance(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % below;
}

/* A batch of those columns with the given ids, each cell one of a few values that follow from id and column. */
static struct wfpsa_columns *
made(const uint32_t *columns, size_t column_count, const uint64_t *ids, uint64_t count)
{
    static const char text[] = "gatewayhosthost";
    static const int32_t offsets[] = {0, 0, 7, 11, 11, 15}; /* "gateway", "host", "", "host" again */
    uint8_t wanted[WFPSA_COLUMN_COUNT] = {0};
    for (size_t i = 0; i < column_count; i++) {
        wanted[columns[i]] = 1;
    }
    struct wfpsa_columns *batch = wfpsa_columns_new_rows(1, wanted, count);
    if (!batch || wfpsa_columns_set_strings(batch, 4, offsets, text) != WFPSA_OK) {
        abort();
    }
    memset(batch->presence, 0xF7, (size_t)count);
    for (size_t i = 0; i < column_count; i++) {
        const struct wfpsa_column_info *info = wfpsa_column_info(columns[i]);
        uint8_t *cells = batch->columns[columns[i]];
        memset(cells, 0, (size_t)(count * info->width));
        for (uint64_t row = 0; row < count; row++) {
            if (columns[i] == WFPSA_COLUMN_context_id) {
                ((uint64_t *)batch->columns[columns[i]])[row] = ids[row];
            } else if (info->kind == WFPSA_TEXT) {
                ((uint32_t *)batch->columns[columns[i]])[row] = (uint32_t)((ids[row] + i) % 5);
            } else {
                cells[row * info->width] = (uint8_t)((ids[row] + i) % 2);
                cells[(row + 1) * info->width - 1] = (uint8_t)((ids[row] + i) % 2);
            }
        }
    }
    return batch;
}

/* Changes that many cells, or what is present. */
static void
disturb(struct wfpsa_columns *batch, const uint32_t *columns, size_t column_count, unsigned changes)
{
    for (unsigned i = 0; i < changes && batch->length; i++) {
        uint32_t column = columns[1 + chance((uint32_t)column_count - 1)];
        uint64_t row = chance((uint32_t)batch->length);
        const struct wfpsa_column_info *info = wfpsa_column_info(column);
        if (chance(4) == 0) {
            batch->presence[row] ^= (uint8_t)(1u << chance(8));
        } else if (info->kind == WFPSA_TEXT) {
            ((uint32_t *)batch->columns[column])[row] = chance(5);
        } else {
            ((uint8_t *)batch->columns[column])[row * info->width + chance(info->width)] ^= 1;
        }
    }
}

static uint64_t
id_at(const struct wfpsa_rows *view, uint64_t row)
{
    return U64(view->columns, context_id, (int64_t)view->start + view->step * (int64_t)row);
}

/* The first row of that id, or the view's length. */
static uint64_t
first_of(const struct wfpsa_rows *view, uint64_t id)
{
    uint64_t row = 0;
    while (row < view->length && id_at(view, row) != id) {
        row++;
    }
    return row;
}

/* Compares what wfpsa_diff_make says with what a look at every pair of rows says. */
static void
check_diff(const struct wfpsa_rows *before, const struct wfpsa_rows *after)
{
    struct wfpsa_diff diff;
    uint64_t added = 0, removed = 0, changed = 0, same = 0, counts[WFPSA_COLUMN_COUNT] = {0};
    if (!CHECK_EQUAL(wfpsa_diff_make(before, after, &diff), WFPSA_OK)) {
        return;
    }
    for (uint64_t row = 0; row < after->length; row++) {
        uint64_t id = id_at(after, row), old = first_of(before, id), differing[WFPSA_COLUMN_WORDS] = {0};
        if (first_of(after, id) != row) {
            continue;
        }
        if (old == before->length) {
            CHECK(added < diff.added_count && diff.added[added] == row);
            added++;
            continue;
        }
        uint64_t at = (uint64_t)((int64_t)before->start + before->step * (int64_t)old);
        uint64_t here = (uint64_t)((int64_t)after->start + after->step * (int64_t)row);
        for (uint32_t column = 0; column < WFPSA_COLUMN_COUNT; column++) {
            uint8_t wanted[WFPSA_COLUMN_COUNT] = {0};
            wanted[column] = 1;
            if (!wfpsa_rows_equal(before->columns, at, after->columns, here, wanted)) {
                differing[column / 64] |= (uint64_t)1 << column % 64;
                counts[column]++;
            }
        }
        if (wfpsa_rows_equal(before->columns, at, after->columns, here, NULL)) {
            same++;
            continue;
        }
        if (CHECK(changed < diff.changed_count)) {
            CHECK_EQUAL(diff.changed[changed], row);
            CHECK_EQUAL(diff.changed_before[changed], old);
            CHECK_BYTES(diff.differing + changed * WFPSA_COLUMN_WORDS, differing, sizeof differing);
        }
        changed++;
    }
    for (uint64_t row = 0; row < before->length; row++) {
        uint64_t id = id_at(before, row);
        if (first_of(before, id) == row && first_of(after, id) == after->length) {
            CHECK(removed < diff.removed_count && diff.removed[removed] == row);
            removed++;
        }
    }
    CHECK_EQUAL(diff.added_count, added);
    CHECK_EQUAL(diff.removed_count, removed);
    CHECK_EQUAL(diff.changed_count, changed);
    CHECK_EQUAL(diff.same_count, same);
    CHECK_BYTES(diff.column_counts, counts, sizeof counts);
    wfpsa_diff_free(&diff);
}

static struct wfpsa_rows
whole(const struct wfpsa_columns *batch)
{
    struct wfpsa_rows view = {batch, 0, 1, batch->length};
    return view;
}

/* Some rows of the batch, every step-th from somewhere on, or backwards. */
static struct wfpsa_rows
some(const struct wfpsa_columns *batch)
{
    struct wfpsa_rows view = whole(batch);
    if (batch->length && chance(2)) {
        uint64_t start = chance((uint32_t)batch->length);
        int64_t step = 1 + (int64_t)chance(3);
        view.start = start;
        view.step = chance(2) ? step : -step;
        view.length = 1 + (view.step > 0 ? (batch->length - 1 - start) / (uint64_t)step : start / (uint64_t)step);
        view.length = chance((uint32_t)view.length + 1);
    }
    return view;
}

/* ---- against the model ---- */

enum order { RISING, SHUFFLED, REPEATING };

static struct wfpsa_columns *
random_batch(uint64_t most, enum order order)
{
    uint64_t ids[200], count = chance((uint32_t)most + 1), id = chance(2) ? 0 : (uint64_t)1 << 63;
    for (uint64_t i = 0; i < count; i++) {
        id += 1 + chance(2);
        ids[i] = order == REPEATING ? chance(20) : id;
    }
    for (uint64_t i = count; order == SHUFFLED && i > 1; i--) {
        uint64_t j = chance((uint32_t)i), other = ids[j];
        ids[j] = ids[i - 1];
        ids[i - 1] = other;
    }
    size_t columns = 1 + chance(COUNT(few));
    struct wfpsa_columns *batch = made(few, columns, ids, count);
    if (columns > 1) {
        disturb(batch, few, columns, chance(10));
    }
    return batch;
}

static void
any_two_views_differ_as_a_look_at_every_pair_says(void)
{
    for (unsigned i = 0; i < 3000; i++) {
        state = i;
        uint64_t most = i % 3 ? 30 : 200;
        struct wfpsa_columns *before = random_batch(most, (enum order)chance(3));
        struct wfpsa_columns *after = chance(8) ? random_batch(most, (enum order)chance(3)) : before;
        struct wfpsa_rows old = some(before), new = some(after);
        check_diff(&old, &new);
        if (after != before) {
            wfpsa_columns_release(after);
        }
        wfpsa_columns_release(before);
    }
}

static void
every_column_alone_is_seen_to_differ(void)
{
    uint32_t all[WFPSA_COLUMN_COUNT];
    uint64_t ids[100], shuffled[100];
    for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
        all[i] = i;
    }
    for (uint64_t i = 0; i < COUNT(ids); i++) {
        ids[i] = i * 5; /* equal names, so that only what is changed differs */
        shuffled[i] = (i * 37 % COUNT(ids)) * 5;
    }
    struct wfpsa_columns *before = made(all, WFPSA_COLUMN_COUNT, ids, COUNT(ids));
    struct wfpsa_columns *after[] = {made(all, WFPSA_COLUMN_COUNT, ids, COUNT(ids)),
                                     made(all, WFPSA_COLUMN_COUNT, shuffled, COUNT(ids))};
    struct wfpsa_rows old = whole(before);
    for (unsigned i = 0; i < 2; i++) {
        struct wfpsa_rows new = whole(after[i]);
        for (uint32_t column = 1; column < WFPSA_COLUMN_COUNT; column++) {
            const struct wfpsa_column_info *info = wfpsa_column_info(column);
            uint8_t *cell = (uint8_t *)after[i]->columns[column] + 63 * info->width;
            struct wfpsa_diff diff;
            uint32_t code;
            memcpy(&code, cell, info->kind == WFPSA_TEXT ? sizeof code : 1);
            if (info->kind == WFPSA_TEXT) {
                code = code == 1 ? 2 : 1;
                memcpy(cell, &code, sizeof code);
            } else {
                cell[info->width - 1] ^= 0x40;
            }
            CHECK_EQUAL(wfpsa_diff_make(&old, &new, &diff), WFPSA_OK);
            CHECK_EQUAL(diff.changed_count, 1);
            CHECK_EQUAL(diff.column_counts[column], 1);
            CHECK_EQUAL(diff.differing[column / 64] >> column % 64 & 1, 1);
            CHECK_EQUAL(diff.changed[0], 63);
            wfpsa_diff_free(&diff);
        }
    }
    wfpsa_columns_release(before);
    wfpsa_columns_release(after[0]);
    wfpsa_columns_release(after[1]);
}

/* ---- sizes ---- */

static void
ids_that_only_their_last_or_first_bits_tell_apart_are_matched(void)
{
    enum { ROWS = 20000 };
    static uint64_t ids[ROWS];
    for (unsigned shift = 0; shift < 64 - 15; shift += 7) {
        for (uint64_t i = 0; i < ROWS; i++) {
            ids[i] = i << shift;
        }
        struct wfpsa_columns *before = made(few, 2, ids, ROWS);
        struct wfpsa_rows old = {before, ROWS - 1, -1, ROWS}, new = {before, 1000, 1, ROWS - 1000};
        struct wfpsa_diff diff;
        CHECK_EQUAL(wfpsa_diff_make(&old, &new, &diff), WFPSA_OK);
        CHECK_EQUAL(diff.added_count, 0);
        CHECK_EQUAL(diff.removed_count, 1000);
        CHECK_EQUAL(diff.changed_count, 0);
        CHECK_EQUAL(diff.same_count, ROWS - 1000);
        CHECK_EQUAL(diff.removed[0], ROWS - 1000);
        wfpsa_diff_free(&diff);
        wfpsa_columns_release(before);
    }
}

static void
one_id_over_and_over_is_one_context(void)
{
    enum { ROWS = 30000 };
    static uint64_t ids[ROWS];
    struct wfpsa_columns *before = made(few, COUNT(few), ids, ROWS);
    struct wfpsa_rows old = whole(before), none = {before, 0, 1, 0};
    struct wfpsa_diff diff;
    CHECK_EQUAL(wfpsa_diff_make(&old, &old, &diff), WFPSA_OK);
    CHECK_EQUAL(diff.same_count, 1);
    wfpsa_diff_free(&diff);
    CHECK_EQUAL(wfpsa_diff_make(&none, &old, &diff), WFPSA_OK);
    CHECK_EQUAL(diff.added_count, 1);
    wfpsa_diff_free(&diff);
    CHECK_EQUAL(wfpsa_diff_make(&old, &none, &diff), WFPSA_OK);
    CHECK_EQUAL(diff.removed_count, 1);
    wfpsa_diff_free(&diff);
    wfpsa_columns_release(before);
}

static void
more_rows_than_32_bits_number_are_out_of_memory(void)
{
    uint64_t id = 1;
    struct wfpsa_columns *batch = made(few, 1, &id, 1);
    struct wfpsa_rows one = whole(batch), huge = {batch, 0, 0, (uint64_t)INT32_MAX};
    struct wfpsa_diff diff;
    CHECK_EQUAL(wfpsa_diff_make(&one, &huge, &diff), WFPSA_NO_MEMORY);
    CHECK_EQUAL(wfpsa_diff_make(&huge, &one, &diff), WFPSA_NO_MEMORY);
    CHECK(!diff.added && !diff.changed);
    wfpsa_columns_release(batch);
}

/* ---- failures ---- */

static void
nothing_is_left_of_a_diff_that_memory_did_not_suffice_for(void)
{
    uint64_t ids[100], other[100];
    for (uint64_t i = 0; i < COUNT(ids); i++) {
        ids[i] = i;
        other[i] = i * 37 % 110;
    }
    for (unsigned order = 0; order < 3; order++) {
        struct wfpsa_columns *before = made(few, COUNT(few), ids, COUNT(ids));
        struct wfpsa_columns *after = made(few, COUNT(few), order ? other : ids, COUNT(ids));
        struct wfpsa_rows old = whole(before), new = whole(after);
        struct wfpsa_diff diff;
        uint64_t nth = 0;
        int struck;
        disturb(after, few, COUNT(few), 40);
        if (order == 2) {
            old.start = COUNT(ids) - 1;
            old.step = -1;
        }
        do {
            int64_t live = wfpsa_memory_live();
            wfpsa_embedded_fail_allocation(++nth);
            int status = wfpsa_diff_make(&old, &new, &diff);
            struck = failure_struck(nth);
            CHECK_EQUAL(status, struck ? WFPSA_NO_MEMORY : WFPSA_OK);
            wfpsa_diff_free(&diff); /* allowed after a failure too */
            CHECK_EQUAL(wfpsa_memory_live(), live);
        } while (struck);
        CHECK(nth > 10);
        wfpsa_columns_release(before);
        wfpsa_columns_release(after);
    }
}

int
main(void)
{
    RUN(any_two_views_differ_as_a_look_at_every_pair_says);
    RUN(every_column_alone_is_seen_to_differ);
    RUN(ids_that_only_their_last_or_first_bits_tell_apart_are_matched);
    RUN(one_id_over_and_over_is_one_context);
    RUN(more_rows_than_32_bits_number_are_out_of_memory);
    RUN(nothing_is_left_of_a_diff_that_memory_did_not_suffice_for);
    return closing_line();
}
