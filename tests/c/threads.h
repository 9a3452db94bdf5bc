/* Threads for the C tests, which cannot go on without one. */
#ifndef WFPSA_TESTS_THREADS_H
#define WFPSA_TESTS_THREADS_H

#include "libwfpsa/platform.h"

#include <stdlib.h>

/* *thread stays where it is until wfpsa_thread_join. */
static inline void
thread_start(struct wfpsa_thread *thread, void (*run)(void *), void *argument)
{
    if (!wfpsa_thread_start(thread, run, argument)) {
        abort();
    }
}

#endif
