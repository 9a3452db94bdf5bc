/* Cells of one column picked by row: the one loop of take, of selections and of conditions. */
#ifndef WFPSA_GATHER_H
#define WFPSA_GATHER_H

#include <stdint.h>

struct wfpsa_cell16 {
    uint8_t bytes[16];
};

#define GATHER_CELLS(type, to, from, count, at)                                                                       \
    for (uint64_t i = 0; i < (count); i++) {                                                                          \
        ((type *)(to))[i] = ((const type *)(from))[at];                                                               \
    }

/* to[i] = from[at] for each i below count, where cells have that width; `at` is an expression of i. */
#define GATHER(to, from, width, count, at)                                                                            \
    switch (width) {                                                                                                  \
    case 1:                                                                                                           \
        GATHER_CELLS(uint8_t, to, from, count, at)                                                                    \
        break;                                                                                                        \
    case 2:                                                                                                           \
        GATHER_CELLS(uint16_t, to, from, count, at)                                                                   \
        break;                                                                                                        \
    case 4:                                                                                                           \
        GATHER_CELLS(uint32_t, to, from, count, at)                                                                   \
        break;                                                                                                        \
    case 8:                                                                                                           \
        GATHER_CELLS(uint64_t, to, from, count, at)                                                                   \
        break;                                                                                                        \
    default:                                                                                                          \
        GATHER_CELLS(struct wfpsa_cell16, to, from, count, at)                                                        \
        break;                                                                                                        \
    }

#endif
