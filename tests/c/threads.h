/* Threads for the C tests: start, join. */
#ifndef WFPSA_TESTS_THREADS_H
#define WFPSA_TESTS_THREADS_H

#include "libwfpsa/platform.h"

#include <stdlib.h>

struct thread {
    void (*run)(void *);
    void *argument;
#ifdef _WIN32
    HANDLE handle;
#else
    pthread_t handle;
#endif
};

#ifdef _WIN32

static inline DWORD WINAPI
thread_main(void *thread)
{
    ((struct thread *)thread)->run(((struct thread *)thread)->argument);
    return 0;
}

#else

static inline void *
thread_main(void *thread)
{
    ((struct thread *)thread)->run(((struct thread *)thread)->argument);
    return NULL;
}

#endif

/* *thread stays where it is until thread_join. */
static inline void
thread_start(struct thread *thread, void (*run)(void *), void *argument)
{
    thread->run = run;
    thread->argument = argument;
#ifdef _WIN32
    thread->handle = CreateThread(NULL, 0, thread_main, thread, 0, NULL);
    if (!thread->handle) {
        abort();
    }
#else
    if (pthread_create(&thread->handle, NULL, thread_main, thread) != 0) {
        abort();
    }
#endif
}

static inline void
thread_join(struct thread *thread)
{
#ifdef _WIN32
    WaitForSingleObject(thread->handle, INFINITE);
    CloseHandle(thread->handle);
#else
    pthread_join(thread->handle, NULL);
#endif
}

#endif
