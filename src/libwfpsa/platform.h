/* What C11 that MSVC compiles does not offer portably: locks, conditions, threads, atomics, clock, sleep, multiply.
 *
 * The only file beside wfp.h that asks which platform it is on. Windows' own primitives serve MSVC and mingw alike.
 */
#ifndef WFPSA_PLATFORM_H
#define WFPSA_PLATFORM_H

#ifdef _WIN32
#include "wfpsa/wfp.h"
#else
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>
#endif

#include <stddef.h>
#include <stdint.h>

/* Asks for the cache line at any address, which need not be one of this process: no harm is done then. */
#if defined(__GNUC__) || defined(__clang__)
#define wfpsa_prefetch(address) __builtin_prefetch(address)
#elif defined(_MSC_VER)
#define wfpsa_prefetch(address) PreFetchCacheLine(PF_TEMPORAL_LEVEL_1, (address))
#else
#define wfpsa_prefetch(address) ((void)(address))
#endif

#define WFPSA_WAIT_MAX_NS 900000000u /* below a second: what wfpsa_condition_wait_ns waits at most */

#ifdef _WIN32

typedef SRWLOCK wfpsa_mutex;
typedef CONDITION_VARIABLE wfpsa_condition;
#define WFPSA_MUTEX_INITIALIZER SRWLOCK_INIT

static inline int
wfpsa_mutex_init(wfpsa_mutex *mutex)
{
    InitializeSRWLock(mutex);
    return 0;
}

static inline void
wfpsa_mutex_destroy(wfpsa_mutex *mutex)
{
    (void)mutex;
}

static inline void
wfpsa_mutex_lock(wfpsa_mutex *mutex)
{
    AcquireSRWLockExclusive(mutex);
}

static inline void
wfpsa_mutex_unlock(wfpsa_mutex *mutex)
{
    ReleaseSRWLockExclusive(mutex);
}

static inline int
wfpsa_condition_init(wfpsa_condition *condition)
{
    InitializeConditionVariable(condition);
    return 0;
}

static inline void
wfpsa_condition_destroy(wfpsa_condition *condition)
{
    (void)condition;
}

static inline void
wfpsa_condition_wait(wfpsa_condition *condition, wfpsa_mutex *mutex)
{
    SleepConditionVariableSRW(condition, mutex, INFINITE, 0);
}

/* Waits for at most about that long, or less: the caller looks again at what it waits for. */
static inline void
wfpsa_condition_wait_ns(wfpsa_condition *condition, wfpsa_mutex *mutex, uint64_t ns)
{
    SleepConditionVariableSRW(condition, mutex,
                              (DWORD)((ns < WFPSA_WAIT_MAX_NS ? ns : WFPSA_WAIT_MAX_NS) / 1000000u + 1), 0);
}

static inline void
wfpsa_condition_broadcast(wfpsa_condition *condition)
{
    WakeAllConditionVariable(condition);
}

struct wfpsa_thread {
    void (*run)(void *);
    void *argument;
    HANDLE handle;
};

static inline DWORD WINAPI
wfpsa_thread_main(void *thread)
{
    ((struct wfpsa_thread *)thread)->run(((struct wfpsa_thread *)thread)->argument);
    return 0;
}

/* 1, or 0 where the system gives no thread; *thread stays where it is until wfpsa_thread_join. */
static inline int
wfpsa_thread_start(struct wfpsa_thread *thread, void (*run)(void *), void *argument)
{
    thread->run = run;
    thread->argument = argument;
    thread->handle = CreateThread(NULL, 0, wfpsa_thread_main, thread, 0, NULL);
    return thread->handle != NULL;
}

static inline void
wfpsa_thread_join(struct wfpsa_thread *thread)
{
    WaitForSingleObject(thread->handle, INFINITE);
    CloseHandle(thread->handle);
}

/* Of the calling thread, distinct among those that live. */
static inline uint64_t
wfpsa_thread_id(void)
{
    return GetCurrentThreadId();
}

/* Returns the new value. */
static inline int64_t
wfpsa_atomic_add(volatile int64_t *value, int64_t by)
{
    return InterlockedExchangeAdd64((volatile LONG64 *)value, by) + by;
}

static inline int64_t
wfpsa_atomic_load(volatile int64_t *value)
{
    return InterlockedExchangeAdd64((volatile LONG64 *)value, 0);
}

static inline void
wfpsa_atomic_store(volatile int64_t *value, int64_t now)
{
    InterlockedExchange64((volatile LONG64 *)value, now);
}

static inline void *
wfpsa_atomic_load_pointer(void *volatile *pointer)
{
    return InterlockedCompareExchangePointer(pointer, NULL, NULL);
}

/* Sets a pointer that is still NULL: 1, or 0 where another thread was first. */
static inline int
wfpsa_atomic_set_pointer(void *volatile *pointer, void *now)
{
    return InterlockedCompareExchangePointer(pointer, now, NULL) == NULL;
}

static inline uint64_t
wfpsa_monotonic_ns(void)
{
    LARGE_INTEGER count, frequency;
    QueryPerformanceCounter(&count);
    QueryPerformanceFrequency(&frequency);
    uint64_t ticks = (uint64_t)count.QuadPart, per_second = (uint64_t)frequency.QuadPart;
    return ticks / per_second * 1000000000u + ticks % per_second * 1000000000u / per_second;
}

/* Cheaper and coarser: steps of some 16 ms. */
static inline uint64_t
wfpsa_coarse_ms(void)
{
    return GetTickCount64();
}

/* Sleep() counts in milliseconds: shorter waits are spent yielding. */
static inline void
wfpsa_sleep_ns(uint64_t ns)
{
    uint64_t until = wfpsa_monotonic_ns() + ns;
    if (ns >= 2000000u) {
        Sleep((DWORD)(ns / 1000000u - 1));
    }
    while (wfpsa_monotonic_ns() < until) {
        SwitchToThread();
    }
}

static inline uint64_t
wfpsa_process_id(void)
{
    return GetCurrentProcessId();
}

static inline int
wfpsa_at_fork(void (*before)(void), void (*after)(void))
{
    (void)before;
    (void)after;
    return 0; /* processes are not forked here */
}

#else

typedef pthread_mutex_t wfpsa_mutex;
typedef pthread_cond_t wfpsa_condition;
#define WFPSA_MUTEX_INITIALIZER PTHREAD_MUTEX_INITIALIZER

static inline int
wfpsa_mutex_init(wfpsa_mutex *mutex)
{
    return pthread_mutex_init(mutex, NULL);
}

static inline void
wfpsa_mutex_destroy(wfpsa_mutex *mutex)
{
    pthread_mutex_destroy(mutex);
}

static inline void
wfpsa_mutex_lock(wfpsa_mutex *mutex)
{
    pthread_mutex_lock(mutex);
}

static inline void
wfpsa_mutex_unlock(wfpsa_mutex *mutex)
{
    pthread_mutex_unlock(mutex);
}

static inline int
wfpsa_condition_init(wfpsa_condition *condition)
{
    return pthread_cond_init(condition, NULL);
}

static inline void
wfpsa_condition_destroy(wfpsa_condition *condition)
{
    pthread_cond_destroy(condition);
}

static inline void
wfpsa_condition_wait(wfpsa_condition *condition, wfpsa_mutex *mutex)
{
    pthread_cond_wait(condition, mutex);
}

/* Waits for at most about that long, or less: the caller looks again at what it waits for. The clock is the one that
 * every pthreads has; WFPSA_WAIT_MAX_NS bounds what a jump of it can do. */
static inline void
wfpsa_condition_wait_ns(wfpsa_condition *condition, wfpsa_mutex *mutex, uint64_t ns)
{
    struct timespec until;
    uint64_t wait = ns < WFPSA_WAIT_MAX_NS ? ns : WFPSA_WAIT_MAX_NS;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += (long)wait;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_cond_timedwait(condition, mutex, &until);
}

static inline void
wfpsa_condition_broadcast(wfpsa_condition *condition)
{
    pthread_cond_broadcast(condition);
}

struct wfpsa_thread {
    void (*run)(void *);
    void *argument;
    pthread_t handle;
};

static inline void *
wfpsa_thread_main(void *thread)
{
    ((struct wfpsa_thread *)thread)->run(((struct wfpsa_thread *)thread)->argument);
    return NULL;
}

/* 1, or 0 where the system gives no thread; *thread stays where it is until wfpsa_thread_join. Signals are left to the
 * threads that were there before: Python handles them. */
static inline int
wfpsa_thread_start(struct wfpsa_thread *thread, void (*run)(void *), void *argument)
{
    sigset_t all, before;
    thread->run = run;
    thread->argument = argument;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&thread->handle, NULL, wfpsa_thread_main, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code == 0;
}

static inline void
wfpsa_thread_join(struct wfpsa_thread *thread)
{
    pthread_join(thread->handle, NULL);
}

/* Of the calling thread, distinct among those that live. */
static inline uint64_t
wfpsa_thread_id(void)
{
    return (uint64_t)(uintptr_t)pthread_self();
}

/* Returns the new value. */
static inline int64_t
wfpsa_atomic_add(volatile int64_t *value, int64_t by)
{
    return __atomic_add_fetch(value, by, __ATOMIC_SEQ_CST);
}

static inline int64_t
wfpsa_atomic_load(volatile int64_t *value)
{
    return __atomic_load_n(value, __ATOMIC_SEQ_CST);
}

static inline void
wfpsa_atomic_store(volatile int64_t *value, int64_t now)
{
    __atomic_store_n(value, now, __ATOMIC_SEQ_CST);
}

static inline void *
wfpsa_atomic_load_pointer(void *volatile *pointer)
{
    return __atomic_load_n(pointer, __ATOMIC_ACQUIRE);
}

/* Sets a pointer that is still NULL: 1, or 0 where another thread was first. */
static inline int
wfpsa_atomic_set_pointer(void *volatile *pointer, void *now)
{
    void *before = NULL;
    return __atomic_compare_exchange_n(pointer, &before, now, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static inline uint64_t
wfpsa_monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Cheaper where the system has such a clock, and coarser: steps of some 4 ms. */
static inline uint64_t
wfpsa_coarse_ms(void)
{
    struct timespec now;
#ifdef CLOCK_MONOTONIC_COARSE
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
#else
    clock_gettime(CLOCK_MONOTONIC, &now);
#endif
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

static inline void
wfpsa_sleep_ns(uint64_t ns)
{
    struct timespec left = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

static inline uint64_t
wfpsa_process_id(void)
{
    return (uint64_t)getpid();
}

/* Has `before` called before each fork, and `after` after it in both processes. 0, or an error number. */
static inline int
wfpsa_at_fork(void (*before)(void), void (*after)(void))
{
    return pthread_atfork(before, after, after);
}

#endif

/* Whether the address sanitizer watches this build: freed memory is then best left to it. */
#if defined(__SANITIZE_ADDRESS__)
#define WFPSA_ADDRESS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WFPSA_ADDRESS_SANITIZED 1
#endif
#endif
#ifndef WFPSA_ADDRESS_SANITIZED
#define WFPSA_ADDRESS_SANITIZED 0
#endif

/* 1 and *product, or 0 where count * size does not fit. */
static inline int
wfpsa_multiply(uint64_t count, uint64_t size, size_t *product)
{
    if (size != 0 && count > SIZE_MAX / size) {
        return 0;
    }
    *product = (size_t)(count * size);
    return 1;
}

#endif
