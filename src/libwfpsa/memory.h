/* The one door through which libwfpsa allocates: counted, so that leaks show, and able to fail on demand. */
#ifndef WFPSA_MEMORY_H
#define WFPSA_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* count * size bytes, unset; NULL when they cannot be had or the product overflows. A zero-size request is given one
 * byte, so that NULL always means failure. */
void *wfpsa_allocate(uint64_t count, uint64_t size);

/* The same, zeroed. */
void *wfpsa_allocate_zeroed(uint64_t count, uint64_t size);

/* As realloc(): on failure the old block is untouched. */
void *wfpsa_reallocate(void *block, uint64_t count, uint64_t size);

/* NULL is allowed. */
void wfpsa_free(void *block);

/* Counts the block as freed while it stays readable, until wfpsa_reclaim gives it back: for the quarantine of results
 * that nobody should touch any more. */
void wfpsa_retire(void *block);
void wfpsa_reclaim(void *block);

/* Takes a retired block into use again, as if it were newly allocated; 0 where that allocation was to fail. */
int wfpsa_revive(void *block);

/* Blocks allocated and not yet freed, in the whole process. */
int64_t wfpsa_memory_live(void);

/* The nth allocation from now on (1: the next) fails, once, in whichever thread makes it; 0 cancels. */
void wfpsa_memory_fail(uint64_t nth);

#endif
