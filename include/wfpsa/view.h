/* A batch as other C and Cython extensions read it: no call into Python a row, and none into this library.
 *
 * `batch.__wfpsa_view__()` gives a PyCapsule named WFPSA_VIEW_CAPSULE that holds a struct wfpsa_view and keeps the
 * batch alive. Everything here is inline, since wfpsa's extension exports nothing but its module: include this header
 * (the folder is `wfpsa.get_include()`) and check `version` and `columns_count` once.
 *
 * Threads: any; a batch never changes. Blocks: no. Fails: never; what may be NULL says so.
 */
#ifndef WFPSA_VIEW_H
#define WFPSA_VIEW_H

#include "wfpsa/columns.h"

#define WFPSA_VIEW_VERSION 1
#define WFPSA_VIEW_CAPSULE "wfpsa.view.1"

struct wfpsa_view {
    uint32_t version;       /* WFPSA_VIEW_VERSION of the wfpsa that made it */
    uint32_t columns_count; /* its WFPSA_COLUMN_COUNT: another one means another list of columns */
    uint64_t length;        /* contexts */
    uint64_t start;         /* context i is row start + i * step of the arrays */
    int64_t step;
    const void *const *cells; /* by enum wfpsa_column: the array, NULL where the batch lacks the column */
    const uint8_t *presence;  /* enum wfpsa_presence of each row */
    uint32_t names;           /* codes of text columns are 0 (absent) to this */
    const int32_t *offsets;   /* names + 2: code c is text[offsets[c]] up to offsets[c + 1], UTF-8 */
    const char *text;
};

/* Whether it is a view that this header can read. */
static inline int
wfpsa_view_is_known(const struct wfpsa_view *view)
{
    return view->version == WFPSA_VIEW_VERSION && view->columns_count == WFPSA_COLUMN_COUNT;
}

static inline uint64_t
wfpsa_view_row(const struct wfpsa_view *view, uint64_t index)
{
    return view->start + index * (uint64_t)view->step;
}

static inline int
wfpsa_view_has(const struct wfpsa_view *view, enum wfpsa_column column)
{
    return view->cells[column] != NULL;
}

/* The cell of a column that the batch has and that is of that width (docs/columns.md). */
static inline uint8_t
wfpsa_view_u8(const struct wfpsa_view *view, enum wfpsa_column column, uint64_t index)
{
    return ((const uint8_t *)view->cells[column])[wfpsa_view_row(view, index)];
}

static inline uint16_t
wfpsa_view_u16(const struct wfpsa_view *view, enum wfpsa_column column, uint64_t index)
{
    return ((const uint16_t *)view->cells[column])[wfpsa_view_row(view, index)];
}

static inline uint32_t
wfpsa_view_u32(const struct wfpsa_view *view, enum wfpsa_column column, uint64_t index)
{
    return ((const uint32_t *)view->cells[column])[wfpsa_view_row(view, index)];
}

static inline uint64_t
wfpsa_view_u64(const struct wfpsa_view *view, enum wfpsa_column column, uint64_t index)
{
    return ((const uint64_t *)view->cells[column])[wfpsa_view_row(view, index)];
}

/* 16 bytes of an address or a GUID. */
static inline const uint8_t *
wfpsa_view_bytes(const struct wfpsa_view *view, enum wfpsa_column column, uint64_t index)
{
    return (const uint8_t *)view->cells[column] + wfpsa_view_row(view, index) * 16;
}

/* A name, not NUL-terminated, and its length; NULL where it is absent. */
static inline const char *
wfpsa_view_text(const struct wfpsa_view *view, enum wfpsa_column column, uint64_t index, uint32_t *length)
{
    uint32_t code = wfpsa_view_u32(view, column, index);
    *length = code ? (uint32_t)(view->offsets[code + 1] - view->offsets[code]) : 0;
    return code ? view->text + view->offsets[code] : NULL;
}

/* How absence shows in a column: enum wfpsa_absence, its presence bits, the width of a cell. */
struct wfpsa_view_rule {
    uint8_t absence, bits, width;
};

#define WFPSA_VIEW_RULE(name, kind, absence, version, enumeration, source, note)                                      \
    case WFPSA_COLUMN_##name: {                                                                                       \
        const struct wfpsa_view_rule rule = {WFPSA_##absence, WFPSA_BITS_##absence(1, 1), WFPSA_WIDTH_##kind};        \
        return rule;                                                                                                  \
    }
#define WFPSA_VIEW_RULE_IN(name, kind, absence, version, enumeration, source, note)                                   \
    case WFPSA_COLUMN_##name##_in: {                                                                                  \
        const struct wfpsa_view_rule rule = {WFPSA_##absence, WFPSA_BITS_##absence(1, 0), WFPSA_WIDTH_##kind};        \
        return rule;                                                                                                  \
    }
#define WFPSA_VIEW_RULE_OUT(name, kind, absence, version, enumeration, source, note)                                  \
    case WFPSA_COLUMN_##name##_out: {                                                                                 \
        const struct wfpsa_view_rule rule = {WFPSA_##absence, WFPSA_BITS_##absence(0, 1), WFPSA_WIDTH_##kind};        \
        return rule;                                                                                                  \
    }

static inline struct wfpsa_view_rule
wfpsa_view_rule(enum wfpsa_column column)
{
    const struct wfpsa_view_rule none = {WFPSA_NEVER, 0, 0};
    switch (column) {
        WFPSA_CONTEXT_COLUMNS(WFPSA_VIEW_RULE)
        WFPSA_SA_COLUMNS(WFPSA_VIEW_RULE_IN)
        WFPSA_SA_COLUMNS(WFPSA_VIEW_RULE_OUT)
    default:
        return none;
    }
}

/* Whether the cell of a column that the batch has holds no value. */
static inline int
wfpsa_view_is_absent(const struct wfpsa_view *view, enum wfpsa_column column, uint64_t index)
{
    const struct wfpsa_view_rule rule = wfpsa_view_rule(column);
    uint64_t row = wfpsa_view_row(view, index);
    const uint8_t *cell = (const uint8_t *)view->cells[column] + row * rule.width;
    uint8_t any = 0;
    if (rule.bits) {
        return (view->presence[row] & rule.bits) == 0;
    }
    if (rule.absence == WFPSA_CODE_255) {
        return *cell == WFPSA_ENUM_ABSENT;
    }
    for (uint8_t i = 0; i < rule.width; i++) {
        any |= cell[i];
    }
    return rule.absence == WFPSA_ZERO && any == 0;
}

#endif
