/* The one door through which libwfpsa allocates. */
#include "platform.h" /* first: it asks the system headers for POSIX */

#include <stdlib.h>

#include "memory.h"

static volatile int64_t live;
static volatile int64_t until_failure; /* 0: none planned */

static int
must_fail(void)
{
    return wfpsa_atomic_load(&until_failure) > 0 && wfpsa_atomic_add(&until_failure, -1) == 0;
}

void *
wfpsa_allocate(uint64_t count, uint64_t size)
{
    size_t bytes;
    if (!wfpsa_multiply(count, size, &bytes) || must_fail()) {
        return NULL;
    }
    void *block = malloc(bytes ? bytes : 1);
    if (block) {
        wfpsa_atomic_add(&live, 1);
    }
    return block;
}

void *
wfpsa_allocate_zeroed(uint64_t count, uint64_t size)
{
    size_t bytes;
    if (!wfpsa_multiply(count, size, &bytes) || must_fail()) {
        return NULL;
    }
    void *block = calloc(1, bytes ? bytes : 1);
    if (block) {
        wfpsa_atomic_add(&live, 1);
    }
    return block;
}

void *
wfpsa_reallocate(void *block, uint64_t count, uint64_t size)
{
    size_t bytes;
    if (!wfpsa_multiply(count, size, &bytes) || must_fail()) {
        return NULL;
    }
    void *moved = realloc(block, bytes ? bytes : 1);
    if (moved && !block) {
        wfpsa_atomic_add(&live, 1);
    }
    return moved;
}

void
wfpsa_free(void *block)
{
    if (block) {
        free(block);
        wfpsa_atomic_add(&live, -1);
    }
}

void
wfpsa_retire(void *block)
{
    (void)block;
    wfpsa_atomic_add(&live, -1);
}

void
wfpsa_reclaim(void *block)
{
    free(block);
}

int
wfpsa_revive(void *block)
{
    (void)block;
    if (must_fail()) {
        return 0;
    }
    wfpsa_atomic_add(&live, 1);
    return 1;
}

int64_t
wfpsa_memory_live(void)
{
    return wfpsa_atomic_load(&live);
}

void
wfpsa_memory_fail(uint64_t nth)
{
    wfpsa_atomic_add(&until_failure, (int64_t)nth - wfpsa_atomic_load(&until_failure));
}
