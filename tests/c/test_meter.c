/* The meter: nothing is counted before it is started; then each call by its kind, time and end, from any thread. */
#include "batch.h"
#include "threads.h"

#include "libwfpsa/meter.h"
#include "wfpsa/backend.h"
#include "wfpsa/session.h"

#define FOREVER 0xFFFFFFFFu
#define THREADS 4
#define CALLS_EACH 2000

static struct wfpsa_calls
calls_of(enum wfpsa_call_kind kind)
{
    struct wfpsa_calls calls;
    wfpsa_meter_read(kind, &calls);
    return calls;
}

static int64_t
made(enum wfpsa_call_kind kind)
{
    struct wfpsa_calls calls = calls_of(kind);
    int64_t sum = 0;
    for (int i = 0; i <= WFPSA_CALL_BOUNDS; i++) {
        sum += calls.within[i];
    }
    return sum;
}

static struct wfpsa_session *
open_noop(void)
{
    struct wfpsa_session *session = NULL;
    struct wfpsa_failure failure = {0, ""};
    CHECK_EQUAL(wfpsa_session_open(&wfpsa_noop_backend, NULL, FOREVER, &session, &failure), WFPSA_OK);
    return session;
}

static void
close_session(struct wfpsa_session *session)
{
    struct wfpsa_failure failure = {0, ""};
    CHECK_EQUAL(wfpsa_session_close(session, &failure), WFPSA_OK);
    wfpsa_session_free(session);
}

/* First of all tests: nobody has started it. */
static void
nothing_is_counted_before_it_is_started(void)
{
    close_session(open_noop());
    for (int kind = 0; kind < WFPSA_CALL_KIND_COUNT; kind++) {
        CHECK_EQUAL(made((enum wfpsa_call_kind)kind), 0);
        CHECK_EQUAL(calls_of((enum wfpsa_call_kind)kind).ns, 0);
    }
    CHECK_EQUAL(meter_begin(), 0);
    wfpsa_meter_start();
    CHECK(meter_begin() != 0);
    struct wfpsa_session *session = open_noop();
    CHECK_EQUAL(made(WFPSA_CALL_session), 1);
    close_session(session);
    CHECK_EQUAL(made(WFPSA_CALL_session), 2);
    CHECK_EQUAL(made(WFPSA_CALL_get), 0);
}

static void
kinds_have_names(void)
{
    CHECK(strcmp(wfpsa_call_kind_name(WFPSA_CALL_session), "session") == 0);
    CHECK(strcmp(wfpsa_call_kind_name(WFPSA_CALL_KIND_COUNT - 1), "statistics") == 0);
    CHECK(wfpsa_call_kind_name(WFPSA_CALL_KIND_COUNT) == NULL);
}

static void
a_call_counts_below_the_first_bound_that_it_keeps(void)
{
    static const struct {
        uint64_t ns;
        int at;
    } cases[] = {{0, 0}, {20000, 1}, {200000, 2}, {2000000, 3}, {20000000, 4}, {200000000, 5}, {5000000000u, 6}};
    wfpsa_meter_start();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct wfpsa_calls before = calls_of(WFPSA_CALL_change);
        uint64_t began = wfpsa_monotonic_ns() - cases[i].ns;
        CHECK_EQUAL(meter_end(WFPSA_CALL_change, began, 0), 0);
        struct wfpsa_calls after = calls_of(WFPSA_CALL_change);
        int64_t late = 0; /* a machine under load may take longer than the case, never shorter */
        for (int at = cases[i].at; at <= WFPSA_CALL_BOUNDS; at++) {
            late += after.within[at] - before.within[at];
        }
        CHECK_EQUAL(late, 1);
        CHECK(after.ns - before.ns >= (int64_t)cases[i].ns);
    }
}

static void
a_failure_is_whatever_is_neither_success_nor_not_found(void)
{
    wfpsa_meter_start();
    struct wfpsa_calls before = calls_of(WFPSA_CALL_statistics);
    CHECK_EQUAL(meter_end(WFPSA_CALL_statistics, meter_begin(), (DWORD)FWP_E_NOT_FOUND), (DWORD)FWP_E_NOT_FOUND);
    CHECK_EQUAL(meter_end(WFPSA_CALL_statistics, meter_begin(), ERROR_SUCCESS), 0);
    CHECK_EQUAL(calls_of(WFPSA_CALL_statistics).failures, before.failures);
    CHECK_EQUAL(meter_end(WFPSA_CALL_statistics, meter_begin(), (DWORD)FWP_E_TIMEOUT), (DWORD)FWP_E_TIMEOUT);
    CHECK_EQUAL(calls_of(WFPSA_CALL_statistics).failures, before.failures + 1);
    CHECK_EQUAL(meter_end(WFPSA_CALL_statistics, 0, (DWORD)FWP_E_TIMEOUT), (DWORD)FWP_E_TIMEOUT);
    CHECK_EQUAL(calls_of(WFPSA_CALL_statistics).failures, before.failures + 1);
}

static void
count_some(void *unused)
{
    (void)unused;
    for (int i = 0; i < CALLS_EACH; i++) {
        meter_end(WFPSA_CALL_expire, meter_begin(), i % 2 ? ERROR_SUCCESS : (DWORD)FWP_E_TIMEOUT);
    }
}

static void
calls_of_threads_are_all_counted(void)
{
    struct wfpsa_thread threads[THREADS];
    wfpsa_meter_start();
    int64_t before = made(WFPSA_CALL_expire), failures = calls_of(WFPSA_CALL_expire).failures;
    for (int i = 0; i < THREADS; i++) {
        thread_start(&threads[i], count_some, NULL);
    }
    for (int i = 0; i < THREADS; i++) {
        wfpsa_thread_join(&threads[i]);
    }
    CHECK_EQUAL(made(WFPSA_CALL_expire) - before, THREADS * CALLS_EACH);
    CHECK_EQUAL(calls_of(WFPSA_CALL_expire).failures - failures, THREADS * CALLS_EACH / 2);
}

int
main(void)
{
    RUN(nothing_is_counted_before_it_is_started);
    RUN(kinds_have_names);
    RUN(a_call_counts_below_the_first_bound_that_it_keeps);
    RUN(a_failure_is_whatever_is_neither_success_nor_not_found);
    RUN(calls_of_threads_are_all_counted);
    return closing_line();
}
