/* Counting and numbering values: against a model that compares every pair of rows, with every allocation failing. */
#include "batch.h"

#include <stdlib.h>

#include "wfpsa/count.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static uint64_t state;

static uint32_t
chance(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % below;
}

/* A batch of all columns, each cell one of a few values; what is absent is as decoding would leave it. */
static struct wfpsa_columns *
made(uint64_t count, unsigned variety)
{
    static const char text[] = "zzzgatewayhosthost";
    static const int32_t offsets[] = {0, 0, 3, 10, 14, 14, 18}; /* "zzz", "gateway", "host", "", "host" again */
    struct wfpsa_columns *batch = wfpsa_columns_new_rows(1, NULL, count);
    if (!batch || wfpsa_columns_set_strings(batch, 5, offsets, text) != WFPSA_OK) {
        abort();
    }
    for (uint64_t row = 0; row < count; row++) {
        batch->presence[row] = chance(3) ? 0xF7 : (uint8_t)chance(256);
    }
    for (uint32_t column = 0; column < WFPSA_COLUMN_COUNT; column++) {
        const struct wfpsa_column_info *info = wfpsa_column_info(column);
        uint8_t *cells = batch->columns[column];
        memset(cells, 0, (size_t)(count * info->width));
        for (uint64_t row = 0; row < count; row++) {
            uint8_t *cell = cells + row * info->width;
            uint32_t code = chance(6);
            if (info->presence && (batch->presence[row] & info->presence) == 0) {
                memset(cell, info->kind == WFPSA_ENUM ? WFPSA_ENUM_ABSENT : 0, info->width);
            } else if (info->kind == WFPSA_TEXT) {
                memcpy(cell, &code, sizeof code);
            } else if (info->kind == WFPSA_ADDRESS && chance(2)) {
                cell[10] = 0xFF;
                cell[11] = 0xFF;
                cell[12 + chance(4)] = (uint8_t)chance(variety);
            } else if (info->kind == WFPSA_ENUM && chance(5) == 0) {
                *cell = (uint8_t)(254 + chance(2));
            } else {
                cell[chance(info->width)] = (uint8_t)chance(info->kind == WFPSA_BOOL ? 2 : variety);
            }
        }
    }
    return batch;
}

static uint64_t
row_at(const struct wfpsa_rows *view, uint64_t row)
{
    return (uint64_t)((int64_t)view->start + view->step * (int64_t)row);
}

/* The place of a cell among the values of its column, negative, 0 or positive as in memcmp. */
static int
compare_cells(const struct wfpsa_rows *view, uint32_t column, const struct wfpsa_prefix *prefix, uint64_t left,
              uint64_t right)
{
    const struct wfpsa_column_info *info = wfpsa_column_info(column);
    uint64_t rows[2] = {row_at(view, left), row_at(view, right)};
    uint8_t cells[2][16] = {{0}};
    int absent[2], v6[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        absent[i] = is_absent(view->columns, column, rows[i]);
        memcpy(cells[i], (const uint8_t *)view->columns->columns[column] + rows[i] * info->width, info->width);
        if (prefix && info->kind == WFPSA_ADDRESS && !absent[i]) {
            static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
            v6[i] = memcmp(cells[i], mapped, sizeof mapped) != 0;
            for (unsigned bit = v6[i] ? prefix->v6 : 96u + prefix->v4; bit < 128; bit++) {
                cells[i][bit / 8] &= (uint8_t)~(0x80u >> bit % 8);
            }
        }
    }
    if (absent[0] || absent[1]) {
        return absent[0] - absent[1];
    }
    if (v6[0] != v6[1]) {
        return v6[0] - v6[1];
    }
    if (info->width == 16) {
        return memcmp(cells[0], cells[1], 16);
    }
    if (info->kind == WFPSA_TEXT) {
        const struct wfpsa_strings *strings = &view->columns->strings;
        const char *texts[2];
        int lengths[2];
        for (int i = 0; i < 2; i++) {
            uint32_t code;
            memcpy(&code, cells[i], sizeof code);
            texts[i] = strings->text + strings->offsets[code];
            lengths[i] = strings->offsets[code + 1] - strings->offsets[code];
        }
        int order = memcmp(texts[0], texts[1], (size_t)(lengths[0] < lengths[1] ? lengths[0] : lengths[1]));
        return order ? order : lengths[0] - lengths[1];
    }
    uint64_t values[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        uint16_t u16;
        uint32_t u32;
        switch (info->width) {
        case 1:
            values[i] = cells[i][0];
            break;
        case 2:
            memcpy(&u16, cells[i], sizeof u16);
            values[i] = u16;
            break;
        case 4:
            memcpy(&u32, cells[i], sizeof u32);
            values[i] = u32;
            break;
        default:
            memcpy(&values[i], cells[i], sizeof values[i]);
            break;
        }
    }
    return (values[0] > values[1]) - (values[0] < values[1]);
}

static int
compare_rows(const struct wfpsa_rows *view, const uint32_t *columns, unsigned column_count,
             const struct wfpsa_prefix *prefix, uint64_t left, uint64_t right)
{
    int order = 0;
    for (unsigned i = 0; order == 0 && i < column_count; i++) {
        order = compare_cells(view, columns[i], prefix, left, right);
    }
    return order;
}

/* Compares what wfpsa_count says with what a look at every pair of rows says. */
static void
check_count(const struct wfpsa_rows *view, const uint32_t *columns, unsigned column_count,
            const struct wfpsa_prefix *prefix)
{
    struct wfpsa_group *groups;
    uint64_t count, total = 0;
    if (!CHECK_EQUAL(wfpsa_count(view, columns, column_count, prefix, &groups, &count), WFPSA_OK)) {
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        uint64_t same = 0;
        total += groups[i].count;
        if (!CHECK(groups[i].row < view->length)) {
            break;
        }
        for (uint64_t row = 0; row < view->length; row++) {
            if (compare_rows(view, columns, column_count, prefix, groups[i].row, row) == 0) {
                CHECK(row >= groups[i].row);
                same++;
            }
        }
        CHECK_EQUAL(groups[i].count, same);
        CHECK(i == 0 || groups[i - 1].count > groups[i].count ||
              (groups[i - 1].count == groups[i].count &&
               compare_rows(view, columns, column_count, prefix, groups[i - 1].row, groups[i].row) < 0));
    }
    CHECK_EQUAL(total, view->length);
    wfpsa_groups_free(groups);
}

/* Compares what wfpsa_number says with what a look at every pair of rows says. */
static void
check_numbers(const struct wfpsa_rows *view, uint32_t column)
{
    uint32_t numbers[300], next = 0;
    uint64_t count;
    if (!CHECK_EQUAL(wfpsa_number(view, column, numbers, &count), WFPSA_OK)) {
        return;
    }
    for (uint64_t row = 0; row < view->length; row++) {
        uint64_t first = 0;
        while (compare_rows(view, &column, 1, NULL, first, row) != 0) {
            first++;
        }
        CHECK_EQUAL(numbers[row], first < row ? numbers[first] : next);
        next += first == row;
    }
    CHECK_EQUAL(count, next);
}

static struct wfpsa_rows
some(const struct wfpsa_columns *batch)
{
    struct wfpsa_rows view = {batch, 0, 1, batch->length};
    if (batch->length && chance(2)) {
        uint64_t start = chance((uint32_t)batch->length);
        int64_t step = 1 + (int64_t)chance(3);
        view.start = start;
        view.step = chance(2) ? step : -step;
        view.length = 1 + (view.step > 0 ? (batch->length - 1 - start) / (uint64_t)step : start / (uint64_t)step);
    }
    return view;
}

/* ---- against the model ---- */

static void
every_column_is_counted_and_numbered_as_a_look_at_every_pair_says(void)
{
    for (unsigned i = 0; i < 6; i++) {
        state = i;
        struct wfpsa_columns *batch = made(i == 0 ? 0 : i == 1 ? 1 : 300, 3);
        for (uint32_t column = 0; column < WFPSA_COLUMN_COUNT; column++) {
            struct wfpsa_rows view = some(batch);
            check_count(&view, &column, 1, NULL);
            check_numbers(&view, column);
        }
        wfpsa_columns_release(batch);
    }
}

static void
any_pair_counts_as_a_look_at_every_pair_says(void)
{
    for (unsigned i = 0; i < 300; i++) {
        state = i;
        struct wfpsa_columns *batch = made(chance(200), 1 + chance(255));
        struct wfpsa_rows view = some(batch);
        uint32_t columns[2] = {chance(WFPSA_COLUMN_COUNT), chance(WFPSA_COLUMN_COUNT)};
        check_count(&view, columns, 2, NULL);
        wfpsa_columns_release(batch);
    }
}

static void
every_prefix_counts_as_a_look_at_every_pair_says(void)
{
    state = 1;
    struct wfpsa_columns *batch = made(120, 255);
    uint32_t columns[2] = {WFPSA_COLUMN_remote_address, WFPSA_COLUMN_local_address};
    for (unsigned v6 = 0; v6 <= 128; v6++) {
        struct wfpsa_prefix prefix = {(uint8_t)(v6 / 4), (uint8_t)v6};
        struct wfpsa_rows view = some(batch);
        check_count(&view, columns, 1, &prefix);
        check_count(&view, columns, 2, &prefix);
    }
    wfpsa_columns_release(batch);
}

/* ---- sizes and failures ---- */

static void
as_many_values_as_rows(void)
{
    enum { ROWS = 50000 };
    uint8_t wanted[WFPSA_COLUMN_COUNT] = {1};
    uint32_t column = WFPSA_COLUMN_context_id;
    for (unsigned shift = 0; shift < 64 - 16; shift += 13) {
        struct wfpsa_columns *batch = wfpsa_columns_new_rows(1, wanted, ROWS);
        struct wfpsa_rows view = {batch, ROWS - 1, -1, ROWS};
        struct wfpsa_group *groups;
        uint64_t count;
        for (uint64_t i = 0; i < ROWS; i++) {
            ((uint64_t *)batch->columns[column])[i] = i << shift;
        }
        CHECK_EQUAL(wfpsa_count(&view, &column, 1, NULL, &groups, &count), WFPSA_OK);
        CHECK_EQUAL(count, ROWS);
        for (uint64_t i = 0; i < ROWS; i++) {
            CHECK_EQUAL(groups[i].row, ROWS - 1 - i);
            CHECK_EQUAL(groups[i].count, 1);
        }
        wfpsa_groups_free(groups);
        wfpsa_columns_release(batch);
    }
}

static void
more_rows_than_32_bits_number_are_out_of_memory(void)
{
    struct wfpsa_columns *batch = made(1, 1);
    struct wfpsa_rows huge = {batch, 0, 0, (uint64_t)INT32_MAX};
    struct wfpsa_group *groups;
    uint32_t column = WFPSA_COLUMN_context_id;
    uint64_t count;
    CHECK_EQUAL(wfpsa_count(&huge, &column, 1, NULL, &groups, &count), WFPSA_NO_MEMORY);
    CHECK(groups == NULL);
    CHECK_EQUAL(wfpsa_number(&huge, column, NULL, &count), WFPSA_NO_MEMORY);
    wfpsa_columns_release(batch);
}

static void
nothing_is_left_of_a_count_that_memory_did_not_suffice_for(void)
{
    static const uint32_t columns[][2] = {
        {WFPSA_COLUMN_ip_version, WFPSA_COLUMN_COUNT},
        {WFPSA_COLUMN_remote_address, WFPSA_COLUMN_COUNT},
        {WFPSA_COLUMN_main_mode_target_in, WFPSA_COLUMN_remote_address},
    };
    struct wfpsa_columns *batch = made(1000, 255);
    struct wfpsa_rows view = {batch, 0, 1, batch->length};
    for (size_t i = 0; i < COUNT(columns); i++) {
        uint64_t nth = 0, count;
        int struck;
        do {
            int64_t live = wfpsa_memory_live();
            struct wfpsa_group *groups;
            wfpsa_embedded_fail_allocation(++nth);
            int status =
                wfpsa_count(&view, columns[i], columns[i][1] == WFPSA_COLUMN_COUNT ? 1 : 2, NULL, &groups, &count);
            struck = failure_struck(nth);
            CHECK_EQUAL(status, struck ? WFPSA_NO_MEMORY : WFPSA_OK);
            CHECK((groups == NULL) == struck);
            wfpsa_groups_free(groups);
            CHECK_EQUAL(wfpsa_memory_live(), live);
        } while (struck);
        CHECK(nth > 3);
        nth = 0;
        do {
            uint32_t numbers[1000];
            int64_t live = wfpsa_memory_live();
            wfpsa_embedded_fail_allocation(++nth);
            int status = wfpsa_number(&view, columns[i][0], numbers, &count);
            struck = failure_struck(nth);
            CHECK_EQUAL(status, struck ? WFPSA_NO_MEMORY : WFPSA_OK);
            CHECK_EQUAL(wfpsa_memory_live(), live);
        } while (struck);
        CHECK(nth > 2);
    }
    wfpsa_columns_release(batch);
}

int
main(void)
{
    RUN(every_column_is_counted_and_numbered_as_a_look_at_every_pair_says);
    RUN(any_pair_counts_as_a_look_at_every_pair_says);
    RUN(every_prefix_counts_as_a_look_at_every_pair_says);
    RUN(as_many_values_as_rows);
    RUN(more_rows_than_32_bits_number_are_out_of_memory);
    RUN(nothing_is_left_of_a_count_that_memory_did_not_suffice_for);
    return closing_line();
}
