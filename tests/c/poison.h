/* Forbids what MSVC's C11 lacks: force-included ahead of each file of libwfpsa, it makes these names an error.
 *
 * The system headers that libwfpsa uses come first, since they are full of such names. The __atomic_* builtins and
 * __builtin_prefetch stay allowed: platform.h uses them where MSVC does not compile. Empty initialisers, zero-size
 * arrays, statement expressions and arrays of variable length have no name to poison: -pedantic-errors, -Wgnu and
 * -Wvla see those.
 */
#ifndef WFPSA_TESTS_POISON_H
#define WFPSA_TESTS_POISON_H

#ifdef _WIN32
#include <winsock2.h>
#include <windows.h>
#include <rpc.h>
#else
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>
#endif
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Types and qualifiers. */
#pragma GCC poison __int128 __int128_t __uint128_t __float128 _Float128 _Complex _Imaginary
#pragma GCC poison _Atomic _Thread_local __thread

/* <stdatomic.h> and <threads.h>. */
#pragma GCC poison atomic_init atomic_load atomic_load_explicit atomic_store atomic_store_explicit
#pragma GCC poison atomic_exchange atomic_exchange_explicit atomic_compare_exchange_strong
#pragma GCC poison atomic_compare_exchange_weak atomic_fetch_add atomic_fetch_add_explicit atomic_fetch_sub
#pragma GCC poison atomic_fetch_or atomic_fetch_and atomic_fetch_xor atomic_flag atomic_flag_test_and_set
#pragma GCC poison atomic_flag_clear atomic_thread_fence atomic_signal_fence atomic_is_lock_free
#pragma GCC poison atomic_bool atomic_int atomic_uint atomic_long atomic_ulong atomic_llong atomic_ullong
#pragma GCC poison atomic_size_t atomic_intptr_t atomic_uintptr_t atomic_intmax_t atomic_uintmax_t
#pragma GCC poison thrd_create thrd_join thrd_yield thrd_sleep mtx_init mtx_lock mtx_unlock mtx_destroy
#pragma GCC poison cnd_init cnd_wait cnd_signal cnd_broadcast cnd_destroy call_once tss_create
#pragma GCC poison __sync_fetch_and_add __sync_add_and_fetch __sync_bool_compare_and_swap
#pragma GCC poison __sync_val_compare_and_swap __sync_synchronize __sync_lock_test_and_set

/* Keywords of GNU C. */
#pragma GCC poison __attribute __attribute__ __extension__ __label__ __auto_type
#pragma GCC poison typeof __typeof __typeof__ typeof_unqual __alignof __alignof__
#pragma GCC poison asm __asm __asm__ __inline__ __restrict__ __volatile__ __const__ __signed__
#pragma GCC poison __PRETTY_FUNCTION__ __real__ __imag__

/* Builtins. */
#pragma GCC poison __builtin_expect __builtin_expect_with_probability __builtin_unreachable __builtin_trap
#pragma GCC poison __builtin_assume_aligned __builtin_constant_p __builtin_choose_expr
#pragma GCC poison __builtin_types_compatible_p __builtin_object_size __builtin_offsetof
#pragma GCC poison __builtin_add_overflow __builtin_sub_overflow __builtin_mul_overflow
#pragma GCC poison __builtin_uaddl_overflow __builtin_umull_overflow __builtin_umulll_overflow
#pragma GCC poison __builtin_clz __builtin_clzl __builtin_clzll __builtin_ctz __builtin_ctzl __builtin_ctzll
#pragma GCC poison __builtin_ffs __builtin_ffsl __builtin_ffsll __builtin_popcount __builtin_popcountl
#pragma GCC poison __builtin_popcountll __builtin_parity __builtin_parityll
#pragma GCC poison __builtin_bswap16 __builtin_bswap32 __builtin_bswap64 __builtin_bswap128
#pragma GCC poison __builtin_rotateleft32 __builtin_rotateleft64 __builtin_bitreverse8
#pragma GCC poison __builtin_memcpy __builtin_memset __builtin_memcmp __builtin_memmove __builtin_strlen
#pragma GCC poison __builtin_memcpy_inline __builtin_alloca __builtin_alloca_with_align
#pragma GCC poison __builtin_return_address __builtin_frame_address __builtin_cpu_supports __builtin_ia32_pause
#pragma GCC poison __builtin_shufflevector __builtin_convertvector __builtin_shuffle

/* Functions that Microsoft's C library lacks or has under another name; macros in some other libraries. */
#undef alloca
#undef bcopy
#undef bzero
#undef memccpy
#undef stpcpy
#undef stpncpy
#undef strcasecmp
#undef strdup
#undef strlcat
#undef strlcpy
#undef strncasecmp
#undef strndup
#pragma GCC poison aligned_alloc posix_memalign memalign valloc alloca reallocarray
#pragma GCC poison strdup strndup stpcpy stpncpy strcasecmp strncasecmp strsep strtok_r strlcpy strlcat
#pragma GCC poison strerror_r memccpy memmem mempcpy explicit_bzero bzero bcopy bcmp
#pragma GCC poison asprintf vasprintf dprintf getline getdelim fmemopen open_memstream
#pragma GCC poison ssize_t usleep sleep gettimeofday gmtime_r localtime_r qsort_r rand_r random drand48

#endif
