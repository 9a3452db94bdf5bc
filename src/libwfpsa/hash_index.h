/* Places (rows, slots) by a hash of what is in them: of the mirror's rows and of the embedded engine's contexts. */
#ifndef WFPSA_HASH_INDEX_H
#define WFPSA_HASH_INDEX_H

#include <stdint.h>

/* Open addressing: in a cell the upper half of the hash, which tells where it is and spares looks at other places, and
 * the place + 1; 0 free. Its owner sees to it that some are. */
struct hash_index {
    uint64_t *cells;
    uint32_t size; /* a power of two, or 0 */
};

#define PLACE_NONE UINT32_MAX

static inline uint64_t
hash_of_number(uint64_t number)
{
    return (number ^ number >> 32) * UINT64_C(0x9E3779B97F4A7C15);
}

static inline uint32_t
index_home(const struct hash_index *index, uint64_t hash)
{
    return (uint32_t)(hash >> 32) & (index->size - 1);
}

/* The next place whose hash may be that one, from a cell on, which it moves on; none: PLACE_NONE. */
static inline uint32_t
index_next(const struct hash_index *index, uint64_t hash, uint32_t *at)
{
    uint64_t cell;
    while ((cell = index->cells[*at]) != 0) {
        *at = (*at + 1) & (index->size - 1);
        if (cell >> 32 == hash >> 32) {
            return (uint32_t)cell - 1u;
        }
    }
    return PLACE_NONE;
}

static inline uint64_t
index_cell(uint64_t hash, uint32_t place)
{
    return (hash & UINT64_MAX << 32) | (place + 1u);
}

static inline void
index_insert(struct hash_index *index, uint64_t hash, uint32_t place)
{
    uint32_t at = index_home(index, hash);
    while (index->cells[at]) {
        at = (at + 1) & (index->size - 1);
    }
    index->cells[at] = index_cell(hash, place);
}

/* The cell of what is there. */
static inline uint32_t
index_at(const struct hash_index *index, uint64_t hash, uint32_t place)
{
    uint32_t at = index_home(index, hash);
    while (index->cells[at] != index_cell(hash, place)) {
        at = (at + 1) & (index->size - 1);
    }
    return at;
}

/* What is there has another place now. */
static inline void
index_move(struct hash_index *index, uint64_t hash, uint32_t from, uint32_t to)
{
    index->cells[index_at(index, hash, from)] = index_cell(hash, to);
}

/* Removal without tombstones: what follows in the run moves up where it may. */
static inline void
index_remove(struct hash_index *index, uint64_t hash, uint32_t place)
{
    uint32_t mask = index->size - 1, hole = index_at(index, hash, place);
    for (uint32_t at = (hole + 1) & mask; index->cells[at]; at = (at + 1) & mask) {
        uint32_t home = index_home(index, index->cells[at]);
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            index->cells[hole] = index->cells[at];
            hole = at;
        }
    }
    index->cells[hole] = 0;
}

#endif
