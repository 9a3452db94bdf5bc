/* Reading batches in the C tests: cells, names, absence, and batches compared row by row. */
#ifndef WFPSA_TESTS_BATCH_H
#define WFPSA_TESTS_BATCH_H

#include "check.h"

#include "wfpsa/columns.h"
#include "wfpsa/query.h"
#include "wfpsa/session.h"

#define CELL(batch, column, row, type) (((const type *)(batch)->columns[WFPSA_COLUMN_##column])[row])
#define U8(batch, column, row) CELL(batch, column, row, uint8_t)
#define U16(batch, column, row) CELL(batch, column, row, uint16_t)
#define U32(batch, column, row) CELL(batch, column, row, uint32_t)
#define U64(batch, column, row) CELL(batch, column, row, uint64_t)
#define BYTES16(batch, column, row) ((const uint8_t *)(batch)->columns[WFPSA_COLUMN_##column] + (row) * 16)
#define ABSENT(batch, column, row) is_absent(batch, WFPSA_COLUMN_##column, row)

static inline int
is_absent(const struct wfpsa_columns *batch, uint32_t column, uint64_t row)
{
    return wfpsa_is_absent(batch, wfpsa_column_info(column), column, row);
}

/* Whether the batch's name of that code is this UTF-8. */
static inline int
name_is(const struct wfpsa_columns *batch, uint32_t code, const char *utf8, size_t size)
{
    const struct wfpsa_strings *strings = &batch->strings;
    return code >= 1 && code <= strings->count &&
           (size_t)(strings->offsets[code + 1] - strings->offsets[code]) == size &&
           (size == 0 || memcmp(strings->text + strings->offsets[code], utf8, size) == 0);
}

/* What holds for every batch: absent cells are 0 (255 in enum columns), codes are in range, offsets rise. */
static inline int
is_sound(const struct wfpsa_columns *batch)
{
    static const uint8_t zeros[16];
    for (uint32_t column = 0; column < WFPSA_COLUMN_COUNT; column++) {
        const struct wfpsa_column_info *info = wfpsa_column_info(column);
        const uint8_t *cells = batch->columns[column];
        for (uint64_t row = 0; cells && row < batch->length; row++) {
            const uint8_t *cell = cells + row * info->width;
            if (is_absent(batch, column, row) &&
                (info->kind == WFPSA_ENUM ? *cell != 255 : memcmp(cell, zeros, info->width) != 0)) {
                return 0;
            }
            if (info->kind == WFPSA_BOOL && *cell > 1) {
                return 0;
            }
            if (info->kind == WFPSA_TEXT) {
                uint32_t code;
                memcpy(&code, cell, sizeof code);
                if (code > batch->strings.count) {
                    return 0;
                }
            }
        }
    }
    const int32_t *offsets = batch->strings.offsets;
    if (offsets[0] != 0 || offsets[1] != 0) {
        return 0;
    }
    for (uint32_t code = 1; code <= batch->strings.count; code++) {
        if (offsets[code + 1] < offsets[code]) {
            return 0;
        }
    }
    return 1;
}

static inline int
same_rows(const struct wfpsa_columns *a, const struct wfpsa_columns *b)
{
    if (a->length != b->length) {
        return 0;
    }
    for (uint64_t row = 0; row < a->length; row++) {
        if (!wfpsa_rows_equal(a, row, b, row, NULL)) {
            return 0;
        }
    }
    return 1;
}

/* The row of that id, or the batch's length. */
static inline uint64_t
row_of(const struct wfpsa_columns *batch, uint64_t id)
{
    uint64_t row = 0;
    while (row < batch->length && U64(batch, context_id, row) != id) {
        row++;
    }
    return row;
}

/* Enumerates as a caller would: a frozen batch in *batch, or NULL and the status of what failed first. */
static inline int
snapshot(struct wfpsa_session *session, uint32_t version, uint32_t page_size, const struct wfpsa_subnets *subnets,
         struct wfpsa_columns **batch, struct wfpsa_failure *failure)
{
    struct wfpsa_enumeration *enumeration;
    struct wfpsa_failure ignored;
    int more = 1;
    *batch = NULL;
    int status = wfpsa_enumeration_open(session, version, page_size, subnets, &enumeration, failure);
    if (status != WFPSA_OK) {
        return status;
    }
    struct wfpsa_columns *columns = wfpsa_columns_new(version);
    status = columns ? WFPSA_OK : WFPSA_NO_MEMORY;
    while (status == WFPSA_OK && more) {
        status = wfpsa_enumeration_next(enumeration, columns, &more, failure);
    }
    if (status == WFPSA_OK) {
        status = wfpsa_enumeration_close(enumeration, failure);
    } else {
        wfpsa_enumeration_close(enumeration, &ignored);
    }
    wfpsa_enumeration_free(enumeration);
    if (status == WFPSA_OK) {
        status = wfpsa_columns_freeze(columns);
    }
    if (status == WFPSA_OK) {
        *batch = columns;
    } else {
        wfpsa_columns_release(columns);
    }
    return status;
}

/* Where nothing may fail. */
static inline struct wfpsa_columns *
snapshot_all(struct wfpsa_session *session, uint32_t version)
{
    struct wfpsa_columns *batch;
    struct wfpsa_failure failure = {0, ""};
    CHECK_EQUAL(snapshot(session, version, 1000, NULL, &batch, &failure), WFPSA_OK);
    CHECK_EQUAL(failure.code, 0);
    return batch;
}

#endif
