/* Rows that meet conditions, found in one pass over the columns, block by block.
 *
 * Of each block the first condition looks at every row; those after it look at what is left, either in the whole block
 * or, where little is left, at cells picked out of it. The loops over cells have no branch that depends on them.
 */
#include "platform.h" /* first: it asks the system headers for POSIX */

#include "wfpsa/query.h"

#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "cells.h"
#include "memory.h"
#include "selection.h"

#define BLOCK_ROWS 4096 /* a block's cells, marks and picks stay in a second-level cache */
#define FEW 8           /* as many values or subnets are looked for one after the other */

/* ---- conditions, compiled ---- */

enum kind {
    NOTHING,  /* no cell */
    ONE,      /* the cell is low */
    RANGE,    /* low to high */
    TABLE,    /* marks[cell] */
    LIST,     /* one of a few values */
    SET,      /* one of many: sorted, behind a bitmap of their hashes */
    SUBNETS,  /* (cell ^ value) & mask is 0 for one of a few */
    INTERVALS /* within one of many intervals of addresses, sorted, apart from each other */
};

/* A 16-byte cell as it lies in memory, or as a number of 128 bits; of smaller cells a is the value. */
struct pair {
    uint64_t a, b;
};

struct compiled {
    uint32_t column;
    unsigned width;
    enum kind kind;
    uint8_t presence; /* bits that decide absence, 0 where none do */
    int only_present; /* the cell alone does not tell */
    int or_absent;    /* by presence */
    uint64_t low, high;
    uint64_t count;     /* of pairs, or of pairs of pairs */
    struct pair *pairs; /* LIST, SET: values; SUBNETS: value, mask, ...; INTERVALS: first, last, ... */
    uint8_t *marks;     /* TABLE */
    uint64_t *hashes;   /* SET: 1 << hash_bits bits */
    unsigned hash_bits;
};

static int
compare_pairs(const void *left, const void *right)
{
    const struct pair *l = left, *r = right;
    if (l->a != r->a) {
        return l->a < r->a ? -1 : 1;
    }
    return (l->b > r->b) - (l->b < r->b);
}

static inline uint64_t
at_or_after(struct pair pair, struct pair other)
{
    return (uint64_t)(pair.a > other.a) | ((pair.a == other.a) & (pair.b >= other.b));
}

static inline uint64_t
hash_pair(uint64_t a, uint64_t b)
{
    return (a ^ b * UINT64_C(0xC2B2AE3D27D4EB4F)) * UINT64_C(0x9E3779B97F4A7C15);
}

static inline struct pair
load_pair(const uint8_t *cell)
{
    struct pair pair;
    memcpy(&pair.a, cell, 8);
    memcpy(&pair.b, cell + 8, 8);
    return pair;
}

/* Sorts the values and drops those that come twice. */
static uint64_t
sort_pairs(struct pair *pairs, uint64_t count)
{
    uint64_t kept = 0;
    qsort(pairs, (size_t)count, sizeof *pairs, compare_pairs);
    for (uint64_t i = 0; i < count; i++) {
        if (kept == 0 || compare_pairs(&pairs[kept - 1], &pairs[i]) != 0) {
            pairs[kept++] = pairs[i];
        }
    }
    return kept;
}

static int
compile_set(struct compiled *compiled)
{
    compiled->kind = SET;
    compiled->hash_bits = 6;
    while (compiled->hash_bits < 40 && (UINT64_C(1) << compiled->hash_bits) < compiled->count * 32) {
        compiled->hash_bits++;
    }
    compiled->hashes = wfpsa_allocate_zeroed(UINT64_C(1) << (compiled->hash_bits - 6), sizeof *compiled->hashes);
    if (!compiled->hashes) {
        return WFPSA_NO_MEMORY;
    }
    for (uint64_t i = 0; i < compiled->count; i++) {
        uint64_t hash = hash_pair(compiled->pairs[i].a, compiled->pairs[i].b) >> (64 - compiled->hash_bits);
        compiled->hashes[hash / 64] |= UINT64_C(1) << hash % 64;
    }
    return WFPSA_OK;
}

/* The values of a condition as pairs, without those that no present cell has; with that which stands for absence,
 * where it is asked for and the cell alone says so. */
static void
collect_values(const struct wfpsa_condition *condition, const struct wfpsa_column_info *info,
               struct compiled *compiled)
{
    uint64_t most = info->width >= 8 ? UINT64_MAX : (UINT64_C(1) << 8 * info->width) - 1, count = 0;
    uint64_t absent = info->kind == WFPSA_ENUM ? WFPSA_ENUM_ABSENT : 0; /* of an absent cell, however it is told */
    int by_cell = info->absence == WFPSA_ZERO || info->kind == WFPSA_ENUM;
    for (uint64_t i = 0; i < condition->count; i++) {
        struct pair value = {0, 0};
        if (info->width == 16) {
            value = load_pair((const uint8_t *)condition->values + 16 * i);
        } else {
            value.a = ((const uint64_t *)condition->values)[i];
        }
        if (value.a == absent && value.b == 0) {
            if (by_cell) {
                continue;
            }
            compiled->only_present = info->presence != 0;
        } else if (info->width < 16 && value.a > most) {
            continue;
        }
        compiled->pairs[count++] = value;
    }
    if (condition->or_absent && by_cell && !info->presence) {
        compiled->pairs[count].a = absent;
        compiled->pairs[count++].b = 0;
    }
    compiled->or_absent = condition->or_absent && info->presence;
    compiled->count = sort_pairs(compiled->pairs, count);
}

static int
compile_values(const struct wfpsa_condition *condition, const struct wfpsa_column_info *info,
               struct compiled *compiled)
{
    compiled->pairs = wfpsa_allocate(condition->count + 1, sizeof *compiled->pairs);
    if (!compiled->pairs) {
        return WFPSA_NO_MEMORY;
    }
    collect_values(condition, info, compiled);
    if (compiled->count == 0) {
        compiled->kind = NOTHING;
    } else if (compiled->count == 1 && info->width < 16) {
        compiled->kind = ONE;
        compiled->low = compiled->pairs[0].a;
    } else if (info->width <= 2) {
        compiled->kind = TABLE;
        compiled->marks = wfpsa_allocate_zeroed(info->width == 1 ? 256 : 65536, 1);
        if (!compiled->marks) {
            return WFPSA_NO_MEMORY;
        }
        for (uint64_t i = 0; i < compiled->count; i++) {
            compiled->marks[compiled->pairs[i].a] = 1;
        }
    } else if (compiled->count <= FEW) {
        compiled->kind = LIST;
    } else {
        return compile_set(compiled);
    }
    return WFPSA_OK;
}

static int
compare_texts(const void *left, const void *right)
{
    const struct wfpsa_text *l = left, *r = right;
    if (l->length != r->length) {
        return l->length < r->length ? -1 : 1;
    }
    return l->length ? memcmp(l->text, r->text, (size_t)l->length) : 0;
}

/* Marks the codes of the texts: there may be more than one of a text, where names were cut or were not UTF-16. */
static int
compile_texts(const struct wfpsa_condition *condition, const struct wfpsa_strings *strings, struct compiled *compiled)
{
    struct wfpsa_text *texts = wfpsa_allocate(condition->count, sizeof *texts);
    compiled->kind = TABLE;
    compiled->marks = wfpsa_allocate_zeroed((uint64_t)strings->count + 1, 1);
    if (!texts || !compiled->marks) {
        wfpsa_free(texts);
        return WFPSA_NO_MEMORY;
    }
    if (condition->count) {
        memcpy(texts, condition->values, (size_t)condition->count * sizeof *texts);
        qsort(texts, (size_t)condition->count, sizeof *texts, compare_texts);
    }
    compiled->marks[0] = condition->or_absent != 0;
    int any = condition->or_absent;
    for (uint32_t code = 1; condition->count && code <= strings->count; code++) {
        struct wfpsa_text name = {strings->text + strings->offsets[code],
                                  (uint64_t)(strings->offsets[code + 1] - strings->offsets[code])};
        if (bsearch(&name, texts, (size_t)condition->count, sizeof name, compare_texts)) {
            compiled->marks[code] = 1;
            any = 1;
        }
    }
    wfpsa_free(texts);
    if (!any) {
        compiled->kind = NOTHING;
    }
    return WFPSA_OK;
}

static void
compile_range(const struct wfpsa_condition *condition, const struct wfpsa_column_info *info, struct compiled *compiled)
{
    uint64_t most = info->width >= 8 ? UINT64_MAX : (UINT64_C(1) << 8 * info->width) - 1;
    if (info->kind == WFPSA_ENUM) {
        most = WFPSA_ENUM_OUT_OF_RANGE;
    }
    compiled->low = info->absence == WFPSA_ZERO && condition->low == 0 ? 1 : condition->low;
    compiled->high = condition->high < most ? condition->high : most;
    compiled->kind = compiled->low <= compiled->high ? RANGE : NOTHING;
    compiled->only_present = info->presence && compiled->low == 0;
}

static const struct pair mapped_first = {0, UINT64_C(0x0000FFFF00000000)},
                         mapped_last = {0, UINT64_C(0x0000FFFFFFFFFFFF)};

/* The subnet as an interval of numbers, in two where the IPv4 addresses lie in it; how many. */
static uint64_t
subnet_intervals(const struct wfpsa_subnet *subnet, struct pair *intervals)
{
    unsigned bits = subnet->prefix_length + (subnet->family == 4 ? 96u : 0u);
    struct pair mask = {bits >= 64 ? UINT64_MAX
                        : bits     ? UINT64_MAX << (64 - bits)
                                   : 0,
                        bits >= 128 ? UINT64_MAX
                        : bits > 64 ? UINT64_MAX << (128 - bits)
                                    : 0};
    struct pair first = {big_endian64(subnet->address) & mask.a, big_endian64(subnet->address + 8) & mask.b};
    struct pair last = {first.a | ~mask.a, first.b | ~mask.b};
    uint64_t count = 0;
    if (subnet->family == 4 || compare_pairs(&last, &mapped_first) < 0 || compare_pairs(&first, &mapped_last) > 0) {
        intervals[0] = first;
        intervals[1] = last;
        return 1;
    }
    if (compare_pairs(&first, &mapped_first) < 0) { /* then it holds all of them, and so goes on after them */
        intervals[0] = first;
        intervals[1].a = 0;
        intervals[1].b = mapped_first.b - 1;
        count = 1;
    }
    if (compare_pairs(&last, &mapped_last) > 0) {
        intervals[2 * count].a = 0;
        intervals[2 * count].b = mapped_last.b + 1;
        intervals[2 * count + 1] = last;
        count++;
    }
    return count;
}

static int
compare_intervals(const void *left, const void *right)
{
    return compare_pairs(left, right); /* by their firsts */
}

/* Sorts the intervals and joins those that overlap. */
static uint64_t
join_intervals(struct pair *intervals, uint64_t count)
{
    uint64_t kept = 0;
    qsort(intervals, (size_t)count, 2 * sizeof *intervals, compare_intervals);
    for (uint64_t i = 0; i < count; i++) {
        const struct pair *next = &intervals[2 * i];
        if (kept && compare_pairs(next, &intervals[2 * kept - 1]) <= 0) {
            if (compare_pairs(next + 1, &intervals[2 * kept - 1]) > 0) {
                intervals[2 * kept - 1] = next[1];
            }
            continue;
        }
        intervals[2 * kept] = next[0];
        intervals[2 * kept + 1] = next[1];
        kept++;
    }
    return kept;
}

/* A number as the bytes of a cell have it in memory. */
static uint64_t
as_in_memory(uint64_t number)
{
    uint8_t bytes[8];
    uint64_t word;
    for (int i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)(number >> (56 - 8 * i));
    }
    memcpy(&word, bytes, 8);
    return word;
}

/* Whether an interval is all that agrees with its first in the bits of a mask, which then replaces its last. */
static int
has_mask(const struct pair *interval, struct pair *value_and_mask)
{
    struct pair differ = {interval[0].a ^ interval[1].a, interval[0].b ^ interval[1].b};
    int whole = differ.a == 0 ? (differ.b & (differ.b + 1)) == 0 && (interval[0].b & differ.b) == 0
                              : differ.b == UINT64_MAX && interval[0].b == 0 && (differ.a & (differ.a + 1)) == 0 &&
                                    (interval[0].a & differ.a) == 0;
    value_and_mask[0].a = as_in_memory(interval[0].a);
    value_and_mask[0].b = as_in_memory(interval[0].b);
    value_and_mask[1].a = as_in_memory(~differ.a);
    value_and_mask[1].b = as_in_memory(~differ.b);
    return whole;
}

static int
compile_subnets(const struct wfpsa_condition *condition, const struct wfpsa_column_info *info,
                struct compiled *compiled)
{
    const struct wfpsa_subnet *subnets = condition->values;
    uint64_t count = 0;
    compiled->pairs = wfpsa_allocate(condition->count, 4 * sizeof *compiled->pairs);
    if (!compiled->pairs) {
        return WFPSA_NO_MEMORY;
    }
    for (uint64_t i = 0; i < condition->count; i++) {
        count += subnet_intervals(&subnets[i], &compiled->pairs[2 * count]);
    }
    count = join_intervals(compiled->pairs, count);
    compiled->count = count;
    compiled->kind = count == 0 ? NOTHING : INTERVALS;
    /* An absent address is ::, the very first. */
    compiled->only_present = info->presence && count && compiled->pairs[0].a == 0 && compiled->pairs[0].b == 0;
    if (count && count <= FEW) {
        struct pair masks[2 * FEW];
        int masked = 1;
        for (uint64_t i = 0; i < count; i++) {
            masked &= has_mask(&compiled->pairs[2 * i], &masks[2 * i]);
        }
        if (masked) {
            compiled->kind = SUBNETS;
            memcpy(compiled->pairs, masks, (size_t)count * 2 * sizeof *masks);
        }
    }
    return WFPSA_OK;
}

static int
compile(const struct wfpsa_condition *condition, const struct wfpsa_columns *from, struct compiled *compiled)
{
    const struct wfpsa_column_info *info = wfpsa_column_info(condition->column);
    compiled->column = condition->column;
    compiled->width = info->width;
    compiled->presence = info->presence;
    switch (condition->test) {
    case WFPSA_WITHIN:
        compile_range(condition, info, compiled);
        return WFPSA_OK;
    case WFPSA_IN_NETS:
        return compile_subnets(condition, info, compiled);
    default:
        return info->kind == WFPSA_TEXT ? compile_texts(condition, &from->strings, compiled)
                                        : compile_values(condition, info, compiled);
    }
}

static void
free_compiled(struct compiled *compiled, uint32_t count)
{
    for (uint32_t i = 0; compiled && i < count; i++) {
        wfpsa_free(compiled[i].pairs);
        wfpsa_free(compiled[i].marks);
        wfpsa_free(compiled[i].hashes);
    }
    wfpsa_free(compiled);
}

/* ---- the tests: met[i] becomes 1 where cell i is met, else 0 ---- */

#define MEET_CELLS(type, expression)                                                                                  \
    {                                                                                                                 \
        const type *typed = (const type *)cells;                                                                      \
        for (uint32_t i = 0; i < count; i++) {                                                                        \
            const type cell = typed[i];                                                                               \
            met[i] = (uint8_t)(expression);                                                                           \
        }                                                                                                             \
    }

/* For 16-byte cells, as two words. */
#define MEET_PAIRS(expression)                                                                                        \
    for (uint32_t i = 0; i < count; i++) {                                                                            \
        const struct pair cell = load_pair(cells + 16 * (size_t)i);                                                   \
        met[i] = (uint8_t)(expression);                                                                               \
    }

static void
meet_one(const struct compiled *test, const uint8_t *cells, uint32_t count, uint8_t *restrict met)
{
    const uint64_t value = test->low;
    switch (test->width) {
    case 1:
        MEET_CELLS(uint8_t, cell == (uint8_t)value)
        break;
    case 2:
        MEET_CELLS(uint16_t, cell == (uint16_t)value)
        break;
    case 4:
        MEET_CELLS(uint32_t, cell == (uint32_t)value)
        break;
    default:
        MEET_CELLS(uint64_t, cell == value)
        break;
    }
}

static void
meet_range(const struct compiled *test, const uint8_t *cells, uint32_t count, uint8_t *restrict met)
{
    const uint64_t low = test->low, span = test->high - test->low;
    switch (test->width) {
    case 1:
        MEET_CELLS(uint8_t, (uint8_t)(cell - low) <= (uint8_t)span)
        break;
    case 2:
        MEET_CELLS(uint16_t, (uint16_t)(cell - low) <= (uint16_t)span)
        break;
    case 4:
        MEET_CELLS(uint32_t, (uint32_t)(cell - (uint32_t)low) <= (uint32_t)span)
        break;
    default:
        MEET_CELLS(uint64_t, cell - low <= span)
        break;
    }
}

static void
meet_table(const struct compiled *test, const uint8_t *cells, uint32_t count, uint8_t *restrict met)
{
    const uint8_t *marks = test->marks;
    switch (test->width) {
    case 1:
        MEET_CELLS(uint8_t, marks[cell])
        break;
    case 2:
        MEET_CELLS(uint16_t, marks[cell])
        break;
    default:
        MEET_CELLS(uint32_t, marks[cell])
        break;
    }
}

static void
meet_list(const struct compiled *test, const uint8_t *cells, uint32_t count, uint8_t *restrict met)
{
    memset(met, 0, count);
    for (uint64_t at = 0; at < test->count; at++) {
        const struct pair value = test->pairs[at];
        if (test->width == 4) {
            MEET_CELLS(uint32_t, met[i] | (cell == (uint32_t)value.a))
        } else if (test->width == 8) {
            MEET_CELLS(uint64_t, met[i] | (cell == value.a))
        } else {
            MEET_PAIRS(met[i] | (((cell.a ^ value.a) | (cell.b ^ value.b)) == 0))
        }
    }
}

/* Whether a sorted value is that one. */
static int
is_listed(const struct pair *pairs, uint64_t count, struct pair value)
{
    while (count > 1) {
        uint64_t half = count / 2;
        pairs += half & (0 - at_or_after(value, pairs[half])); /* no branch: it would be guessed wrong */
        count -= half;
    }
    return pairs->a == value.a && pairs->b == value.b;
}

#define HASHED(a, b) (hashes[hash_pair(a, b) >> shift >> 6] >> (hash_pair(a, b) >> shift & 63) & 1)

/* The bitmap says which cells may be in the set: few beside those that are. */
static void
meet_set(const struct compiled *test, const uint8_t *cells, uint32_t count, uint8_t *restrict met)
{
    const uint64_t *hashes = test->hashes;
    const unsigned shift = 64 - test->hash_bits;
    if (test->width == 4) {
        MEET_CELLS(uint32_t, HASHED(cell, 0))
    } else if (test->width == 8) {
        MEET_CELLS(uint64_t, HASHED(cell, 0))
    } else {
        MEET_PAIRS(HASHED(cell.a, cell.b))
    }
    for (uint32_t i = 0; i < count; i++) {
        if (met[i]) {
            struct pair value = {0, 0};
            if (test->width == 4) {
                value.a = ((const uint32_t *)cells)[i];
            } else if (test->width == 8) {
                value.a = ((const uint64_t *)cells)[i];
            } else {
                value = load_pair(cells + 16 * (size_t)i);
            }
            met[i] = (uint8_t)is_listed(test->pairs, test->count, value);
        }
    }
}

static void
meet_subnets(const struct compiled *test, const uint8_t *cells, uint32_t count, uint8_t *restrict met)
{
    struct pair value = test->pairs[0], mask = test->pairs[1];
    MEET_PAIRS((((cell.a ^ value.a) & mask.a) | ((cell.b ^ value.b) & mask.b)) == 0)
    for (uint64_t at = 1; at < test->count; at++) {
        value = test->pairs[2 * at];
        mask = test->pairs[2 * at + 1];
        MEET_PAIRS(met[i] | ((((cell.a ^ value.a) & mask.a) | ((cell.b ^ value.b) & mask.b)) == 0))
    }
}

#define TOGETHER 64

/* Searches for many cells at once, a step of each before the next step of any: one search has to wait for its memory,
 * many need not. */
static void
meet_intervals(const struct compiled *test, const uint8_t *cells, uint32_t count, uint8_t *restrict met)
{
    const struct pair *pairs = test->pairs;
    struct pair numbers[TOGETHER];
    uint64_t found[TOGETHER]; /* the last interval that begins at the cell or before it, else the first */
    for (uint32_t base = 0; base < count; base += TOGETHER) {
        uint32_t few = count - base < TOGETHER ? count - base : TOGETHER;
        for (uint32_t i = 0; i < few; i++) {
            numbers[i].a = big_endian64(cells + 16 * (size_t)(base + i));
            numbers[i].b = big_endian64(cells + 16 * (size_t)(base + i) + 8);
            found[i] = 0;
        }
        for (uint64_t left = test->count, half; left > 1; left -= half) {
            half = left / 2;
            for (uint32_t i = 0; i < few; i++) {
                found[i] += half & (0 - at_or_after(numbers[i], pairs[2 * (found[i] + half)]));
            }
        }
        for (uint32_t i = 0; i < few; i++) {
            const struct pair *interval = &pairs[2 * found[i]];
            met[base + i] = (uint8_t)(at_or_after(numbers[i], interval[0]) & at_or_after(interval[1], numbers[i]));
        }
    }
}

static void
meet(const struct compiled *test, const uint8_t *cells, const uint8_t *presence, uint32_t count, uint8_t *restrict met)
{
    const uint8_t bits = test->presence;
    switch (test->kind) {
    case ONE:
        meet_one(test, cells, count, met);
        break;
    case RANGE:
        meet_range(test, cells, count, met);
        break;
    case TABLE:
        meet_table(test, cells, count, met);
        break;
    case LIST:
        meet_list(test, cells, count, met);
        break;
    case SET:
        meet_set(test, cells, count, met);
        break;
    case SUBNETS:
        meet_subnets(test, cells, count, met);
        break;
    case INTERVALS:
        meet_intervals(test, cells, count, met);
        break;
    default:
        memset(met, 0, count);
        break;
    }
    if (test->only_present) {
        for (uint32_t i = 0; i < count; i++) {
            met[i] &= (uint8_t)((presence[i] & bits) != 0);
        }
    }
    if (test->or_absent) {
        for (uint32_t i = 0; i < count; i++) {
            met[i] |= (uint8_t)((presence[i] & bits) == 0);
        }
    }
}

/* ---- the pass ---- */

struct pass {
    const struct wfpsa_columns *home; /* the batch that has the cells */
    const uint32_t *selected;         /* its rows, where the question is to a selection */
    uint64_t start;
    int64_t step;
    uint64_t first;                      /* row of the block: home's, or of the view where homes are used */
    int direct;                          /* home's rows of a block follow each other from `first` on */
    uint32_t rows;                       /* of the block */
    uint64_t cells[BLOCK_ROWS * 16 / 8]; /* scratch */
    uint32_t homes[BLOCK_ROWS];          /* home's rows of the block, unless direct */
    uint32_t picks[BLOCK_ROWS];          /* rows of the block that are left */
    uint8_t presence[BLOCK_ROWS], met[BLOCK_ROWS];
};

/* The cells of the block's rows, or of those `picked` among them: in place, or gathered into `scratch`. */
static const void *
block_cells(const struct pass *pass, const void *from, unsigned width, const uint32_t *picked, uint32_t count,
            void *scratch)
{
    const uint32_t *homes = pass->homes;
    if (pass->direct) {
        const char *block = (const char *)from + pass->first * width;
        if (!picked) {
            return block;
        }
        GATHER(scratch, block, width, count, picked[i])
    } else if (picked) {
        GATHER(scratch, from, width, count, homes[picked[i]])
    } else {
        GATHER(scratch, from, width, count, homes[i])
    }
    return scratch;
}

static void
test_block(struct pass *pass, const struct compiled *test, const uint32_t *picked, uint32_t count)
{
    const struct wfpsa_columns *home = pass->home;
    const void *cells = NULL, *presence = NULL;
    if (test->kind != NOTHING) {
        cells = block_cells(pass, home->columns[test->column], test->width, picked, count, pass->cells);
    }
    if (test->only_present || test->or_absent) {
        presence = block_cells(pass, home->presence, 1, picked, count, pass->presence);
    }
    meet(test, cells, presence, count, pass->met);
}

/* The rows that were met: in rising order, the places before them skipped eight at a time. */
static uint32_t
pick_all(const uint8_t *met, uint32_t count, uint32_t *picks)
{
    uint32_t left = 0, i = 0;
    for (; count - i >= 8; i += 8) {
        uint64_t eight;
        memcpy(&eight, met + i, 8);
        for (uint32_t j = i; eight && j < i + 8; j++) {
            picks[left] = j;
            left += met[j];
        }
    }
    for (; i < count; i++) {
        picks[left] = i;
        left += met[i];
    }
    return left;
}

/* How many rows of the block meet all: picks[] are they. */
static uint32_t
pick_rows(struct pass *pass, const struct compiled *tests, uint32_t tests_count)
{
    uint32_t *picks = pass->picks, left;
    test_block(pass, &tests[0], NULL, pass->rows);
    left = pick_all(pass->met, pass->rows, picks);
    for (uint32_t i = 1; left && i < tests_count; i++) {
        uint32_t kept = 0;
        if (left > pass->rows / 4) {
            test_block(pass, &tests[i], NULL, pass->rows);
            for (uint32_t j = 0; j < left; j++) {
                uint32_t pick = picks[j];
                picks[kept] = pick;
                kept += pass->met[pick];
            }
        } else {
            test_block(pass, &tests[i], picks, left);
            for (uint32_t j = 0; j < left; j++) {
                picks[kept] = picks[j];
                kept += pass->met[j];
            }
        }
        left = kept;
    }
    return left;
}

static void
enter_block(struct pass *pass, uint64_t at)
{
    uint64_t first = pass->start + (uint64_t)pass->step * at;
    if (pass->selected) {
        pass->direct = 0;
        for (uint32_t i = 0; i < pass->rows; i++) {
            pass->homes[i] = pass->selected[(int64_t)first + pass->step * (int64_t)i];
        }
    } else if (pass->step != 1) {
        pass->direct = 0;
        for (uint32_t i = 0; i < pass->rows; i++) {
            pass->homes[i] = (uint32_t)((int64_t)first + pass->step * (int64_t)i);
        }
    } else {
        pass->direct = 1;
        pass->first = first;
    }
}

static uint64_t
find_rows(struct pass *pass, uint64_t count, const struct compiled *tests, uint32_t tests_count, uint32_t *rows)
{
    uint64_t found = 0;
    for (uint64_t at = 0; at < count; at += BLOCK_ROWS) {
        pass->rows = count - at < BLOCK_ROWS ? (uint32_t)(count - at) : BLOCK_ROWS;
        enter_block(pass, at);
        uint32_t left = pass->rows;
        if (tests_count) {
            left = pick_rows(pass, tests, tests_count);
        } else {
            memset(pass->met, 1, pass->rows);
            pick_all(pass->met, pass->rows, pass->picks);
        }
        uint32_t *out = rows + found;
        if (pass->direct) {
            const uint32_t first = (uint32_t)pass->first;
            for (uint32_t i = 0; i < left; i++) {
                out[i] = first + pass->picks[i];
            }
        } else {
            for (uint32_t i = 0; i < left; i++) {
                out[i] = pass->homes[pass->picks[i]];
            }
        }
        found += left;
    }
    return found;
}

int
wfpsa_select(struct wfpsa_columns *from, uint64_t start, int64_t step, uint64_t count,
             const struct wfpsa_condition *conditions, uint32_t conditions_count, struct wfpsa_columns **selection)
{
    struct wfpsa_columns *home = from->selection ? from->selection->parent : from;
    *selection = NULL;
    if (home->length > UINT32_MAX) {
        return WFPSA_NO_MEMORY;
    }
    struct compiled *tests = wfpsa_allocate_zeroed(conditions_count, sizeof *tests);
    struct pass *pass = wfpsa_allocate(1, sizeof *pass);
    uint32_t *rows = wfpsa_allocate(count, sizeof *rows); /* what is not used is given back, and was never touched */
    int complete = tests && pass && rows;
    for (uint32_t i = 0; complete && i < conditions_count; i++) {
        complete = compile(&conditions[i], from, &tests[i]) == WFPSA_OK;
    }
    if (complete) {
        pass->home = home;
        pass->selected = from->selection ? from->selection->rows : NULL;
        pass->start = start;
        pass->step = step;
        uint64_t found = find_rows(pass, count, tests, conditions_count, rows);
        uint32_t *fitted = wfpsa_reallocate(rows, found, sizeof *rows);
        rows = fitted ? fitted : rows;
        *selection = fitted ? selection_new(home, rows, found) : NULL;
    }
    free_compiled(tests, conditions_count);
    wfpsa_free(pass);
    if (!*selection) {
        wfpsa_free(rows);
        return WFPSA_NO_MEMORY;
    }
    return WFPSA_OK;
}
