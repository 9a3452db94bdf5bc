/* The names of a batch while it is built: each distinct one once, found by hash. */
#ifndef WFPSA_NAMES_H
#define WFPSA_NAMES_H

#include "wfpsa/columns.h"

#define NAME_UNITS_MAX 32767

struct name {
    uint64_t hash;
    uint64_t start; /* in units */
    uint32_t length;
};

struct names {
    struct name *list; /* [strings->count], code c at c - 1 */
    uint32_t capacity;
    uint16_t *units; /* the names as they came, for comparison */
    uint64_t units_length, units_capacity;
    uint32_t *slots;    /* open addressing: codes, 0 free */
    uint32_t slot_mask; /* number of slots - 1 */
    uint64_t text_capacity;
};

/* Sets *code to that of a NUL-terminated UTF-16 name, which joins the strings if it is new; leaves *code alone for
 * NULL. `likely` is the code that it may well have, or 0. Fails: 0, out of memory. */
int names_code(struct names *names, struct wfpsa_strings *strings, const uint16_t *units, uint32_t likely,
               uint32_t *code);

void names_free(struct names *names);

#endif
