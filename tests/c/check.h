/* Checks for the C tests: reported where they fail, tests counted, nothing left alive after a test, one closing line.
 */
#ifndef WFPSA_TESTS_CHECK_H
#define WFPSA_TESTS_CHECK_H

#include "libwfpsa/platform.h" /* first: it asks the system headers for POSIX */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "libwfpsa/memory.h"
#include "wfpsa/embedded.h"

#define REPORTED_MAX 20 /* of the failed checks of one test */

static int tests_passed, tests_failed, checks_failed;

/* Only from the main thread. Each gives 1 where it holds. */
#define CHECK(condition) check_that((condition) != 0, #condition, __FILE__, __LINE__)
#define CHECK_EQUAL(left, right)                                                                                      \
    check_equal((uint64_t)(left), (uint64_t)(right), #left " == " #right, __FILE__, __LINE__)
#define CHECK_BYTES(left, right, size)                                                                                \
    check_that(memcmp(left, right, size) == 0, #left " is " #right, __FILE__, __LINE__)
#define CHECK_TEXT(left, right) check_text(left, right, #left, __FILE__, __LINE__)

static inline int
report(const char *what, const char *file, int line)
{
    if (++checks_failed <= REPORTED_MAX) {
        fprintf(stderr, "%s:%d: %s\n", file, line, what);
    }
    return 0;
}

static inline int
check_that(int holds, const char *what, const char *file, int line)
{
    return holds ? 1 : report(what, file, line);
}

static inline int
check_equal(uint64_t left, uint64_t right, const char *what, const char *file, int line)
{
    char text[512];
    if (left == right) {
        return 1;
    }
    snprintf(text, sizeof text, "%s: 0x%" PRIX64 " and 0x%" PRIX64, what, left, right);
    return report(text, file, line);
}

static inline int
check_text(const char *left, const char *right, const char *what, const char *file, int line)
{
    char text[512];
    if (left && right && strcmp(left, right) == 0) {
        return 1;
    }
    snprintf(text, sizeof text, "%s: \"%s\" and \"%s\"", what, left ? left : "(null)", right ? right : "(null)");
    return report(text, file, line);
}

#define RUN(test) run_test(test, #test)

static inline void
run_test(void (*test)(void), const char *name)
{
    static struct wfpsa_live before; /* zeros, but after a test that left something */
    struct wfpsa_live after;
    checks_failed = 0;
    test();
    wfpsa_embedded_fail_allocation(0);
    wfpsa_embedded_live(&after);
    CHECK_EQUAL(after.stores, before.stores);
    CHECK_EQUAL(after.engines, before.engines);
    CHECK_EQUAL(after.enum_handles, before.enum_handles);
    CHECK_EQUAL(after.pages, before.pages);
    CHECK_EQUAL(after.subscriptions, before.subscriptions);
    CHECK_EQUAL(after.transactions, before.transactions);
    CHECK_EQUAL(after.allocations, before.allocations);
    CHECK_EQUAL(after.misuses, 0); /* who tries one forgets it */
    wfpsa_embedded_forget_misuses();
    before = after;
    if (checks_failed) {
        fprintf(stderr, "%s: %d checks failed\n", name, checks_failed);
        tests_failed++;
    } else {
        tests_passed++;
    }
}

/* What main returns. */
static inline int
closing_line(void)
{
    printf("%d passed, %d failed\n", tests_passed, tests_failed);
    return tests_failed != 0;
}

/* Whether the failure planned by wfpsa_embedded_fail_allocation(nth) has struck; cancels it. */
static inline int
failure_struck(uint64_t nth)
{
    for (uint64_t i = 0; i < nth; i++) {
        void *probe = wfpsa_allocate(1, 1);
        if (!probe) {
            return 0; /* it struck here */
        }
        wfpsa_free(probe);
    }
    return 1;
}

#endif
