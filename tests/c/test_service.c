/* The service that stops and starts, what becomes of sessions, contexts and ids; session keys, and the handles. */
#include "listener.h"
#include "threads.h"

#define ABORTED ((DWORD)FWP_E_SESSION_ABORTED)

static struct wfpsa_store *
manual_store(uint64_t count)
{
    struct wfpsa_store *store = make_store(count, 0);
    wfpsa_store_clock(store, 1);
    return store;
}

/* What every function gives to a session that is dead by that code. */
static void
check_dead(const struct with *with, DWORD code)
{
    const char *function;
    for (uint32_t i = 0; (function = function_at(i)) != NULL; i++) {
        if (strcmp(function, "FwpmEngineClose0") != 0 && !CHECK_EQUAL(call_function(function, with), code)) {
            fprintf(stderr, "%s\n", function);
        }
    }
}

static void
a_stopped_service_refuses_sessions_and_answers_open_ones_with_the_code(void)
{
    static const uint32_t codes[] = {RPC_S_SERVER_UNAVAILABLE, RPC_S_CALL_FAILED, (DWORD)FWP_E_SESSION_ABORTED};
    for (size_t i = 0; i < COUNT(codes); i++) {
        struct wfpsa_store *store = manual_store(20);
        struct with with = {open_engine(store), NULL, NULL, 1};
        HANDLE other;
        with.enumeration = begin(with.engine, NULL);
        struct listener *listener = listening(with.engine, NULL);
        with.events = listener->events;
        wfpsa_store_stop(store, codes[i]);
        wfpsa_store_stop(store, 5); /* it is stopped already */
        CHECK_EQUAL(try_open(store, 0, NULL, 0, &other), EPT_S_NOT_REGISTERED);
        CHECK(other == NULL);
        check_dead(&with, codes[i]);
        wfpsa_store_start(store);
        wfpsa_store_start(store);
        check_dead(&with, ABORTED); /* for good */
        HANDLE fresh = open_engine(store);
        struct wfpsa_columns *all = everything(fresh, 1);
        CHECK_EQUAL(all->length, 0);
        wfpsa_columns_release(all);
        check_dead(&with, ABORTED);
        wfpsa_store_stop(store, codes[i]);
        check_dead(&with, ABORTED); /* dead stays dead of what it died of */
        wfpsa_store_start(store);
        CHECK_EQUAL(live_now().engines, 2);
        close_engine(with.engine); /* ends what it left open */
        struct wfpsa_live live = live_now();
        CHECK(live.enum_handles == 0 && live.subscriptions == 0 && live.engines == 1);
        listener_free(listener);
        close_engine(fresh);
        wfpsa_store_release(store);
    }
}

static void
a_code_that_is_none_still_ends_the_sessions(void)
{
    struct wfpsa_store *store = manual_store(20);
    HANDLE engine = open_engine(store), made = NULL;
    struct wfpsa_columns *all = everything(engine, 0);
    wfpsa_store_stop(store, 0);
    CHECK_EQUAL(os->sa_context_create_enum_handle(engine, NULL, &made), ABORTED);
    CHECK_EQUAL(os->sa_context_delete_by_id(engine, U64(all, context_id, 0)), ABORTED);
    wfpsa_store_start(store);
    CHECK_EQUAL(os->sa_context_expire(engine, 1), ABORTED);
    wfpsa_columns_release(all);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
transactions_end_with_the_service(void)
{
    struct wfpsa_store *store = manual_store(20);
    HANDLE writer = open_engine(store);
    CHECK_EQUAL(os->transaction_begin(writer, 0), 0);
    wfpsa_store_stop(store, RPC_S_CALL_FAILED);
    CHECK_EQUAL(live_now().transactions, 0);
    wfpsa_store_start(store);
    HANDLE engine = open_waiting(store, 1);
    CHECK_EQUAL(os->transaction_begin(engine, 0), 0);
    CHECK_EQUAL(os->transaction_commit(writer), ABORTED);
    CHECK_EQUAL(os->transaction_commit(engine), 0);
    close_engine(writer);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
contexts_and_ids_after_a_restart_are_as_the_switches_say(void)
{
    for (int kept = 0; kept <= 1; kept++) {
        for (int reused = 0; reused <= 1; reused++) {
            struct wfpsa_store *store = manual_store(50);
            HANDLE engine = open_engine(store);
            struct wfpsa_columns *before = everything(engine, 1), *after;
            uint64_t expired = U64(before, context_id, 3);
            CHECK(wfpsa_store_switch(store, "contexts_after_restart", kept ? "kept" : "lost"));
            CHECK(wfpsa_store_switch(store, "ids_after_restart", reused ? "reused" : "new"));
            CHECK_EQUAL(os->sa_context_expire(engine, expired), 0);
            close_engine(engine);
            wfpsa_store_stop(store, RPC_S_CALL_FAILED);
            CHECK_EQUAL(wfpsa_store_count(store), 50); /* nobody sees them, but they are there until it starts */
            wfpsa_store_start(store);
            engine = open_engine(store);
            after = everything(engine, 1);
            CHECK_EQUAL(after->length, kept ? 50 : 0);
            CHECK_EQUAL(wfpsa_store_count(store), kept ? 50 : 0);
            int others = 0;
            for (uint64_t row = 0; row < after->length; row++) {
                uint64_t id = U64(after, context_id, row), was = row_of(before, id);
                struct wfpsa_columns *one = get(engine, id, 1);
                CHECK(one && wfpsa_rows_equal(after, row, one, 0, NULL));
                wfpsa_columns_release(one);
                CHECK(reused || was == before->length); /* no id is what it was */
                others += was < before->length && !wfpsa_rows_equal(before, was, after, row, NULL);
                CHECK_EQUAL(U32(after, spi_in, row), U32(before, spi_in, row)); /* the context in this place is */
            }
            CHECK(kept && reused ? others >= 48 : others == 0); /* the same id is another's context */
            IPSEC_AGGREGATE_SA_STATISTICS0 statistics = statistics_of(engine);
            CHECK_EQUAL(statistics.totalSasAdded, statistics.activeSas); /* counted anew */
            CHECK_EQUAL(statistics.totalSasDeleted, 0);
            CHECK_EQUAL(statistics.activeSas > 0, kept);
            IPSEC_TRAFFIC1 traffic = traffic_to(1);
            uint64_t next = create(engine, &traffic);
            CHECK_EQUAL(row_of(after, next), after->length);
            CHECK_EQUAL(row_of(before, next) < before->length, reused && !kept);
            if (kept) { /* the tail goes on */
                wfpsa_store_advance(store, 60000);
                CHECK_EQUAL(wfpsa_store_count(store), 50);
            }
            wfpsa_columns_release(before);
            wfpsa_columns_release(after);
            close_engine(engine);
            wfpsa_store_release(store);
        }
    }
}

static void
a_store_is_as_good_as_new_after_many_restarts(void)
{
    struct wfpsa_store *store = empty_store();
    int64_t most = 0;
    wfpsa_store_clock(store, 1);
    for (int round = 0; round < 20; round++) {
        HANDLE engine = open_engine(store);
        CHECK(wfpsa_store_switch(store, "contexts_after_restart", round % 3 == 1 ? "kept" : "lost"));
        CHECK(wfpsa_store_seed(store, 300, 1, 1));
        HANDLE handle = begin(engine, NULL);
        struct wfpsa_columns *all = everything(engine, 0);
        for (uint64_t row = 0; row < all->length; row += 3) { /* versions that the enumeration keeps */
            CHECK_EQUAL(os->sa_context_expire(engine, U64(all, context_id, row)), 0);
        }
        IPSEC_TRAFFIC1 traffic = traffic_to(1);
        keyed(engine, &traffic, 5, 5); /* and the index of duplicates */
        wfpsa_store_stop(store, RPC_S_CALL_FAILED);
        wfpsa_store_advance(store, 1000);
        wfpsa_store_start(store);
        CHECK_EQUAL(os->sa_context_destroy_enum_handle(engine, handle), ABORTED);
        close_engine(engine);
        wfpsa_columns_release(all);
        if (round == 2) {
            most = live_allocations();
        }
        CHECK(round <= 2 || round % 3 != 2 || live_allocations() <= most);
    }
    wfpsa_store_advance(store, 100000000);
    wfpsa_store_release(store);
}

static void
a_restart_tells_nobody_and_those_who_subscribe_later_hear_what_comes(void)
{
    struct wfpsa_store *store = manual_store(20);
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(1);
    wfpsa_store_notifications(store, 100, 1);
    struct listener *listener = listening(engine, NULL);
    create(engine, &traffic);
    wfpsa_store_stop(store, RPC_S_CALL_FAILED);
    CHECK(wfpsa_store_seed(store, 5, 1, 0));
    wfpsa_store_start(store);
    wfpsa_store_notifications(store, 100, 0);
    HANDLE fresh = open_engine(store);
    struct listener *later = listening(fresh, NULL);
    uint64_t id = create(fresh, &traffic);
    CHECK_TOLD(later, 0, ADDED, id);
    close_engine(engine); /* there is no other way to end the first */
    CHECK_EQUAL(listener->count, 0);
    listener_free(listener);
    listening_ends(later);
    close_engine(fresh);
    wfpsa_store_release(store);
}

static void
churn_rests_while_the_service_is_stopped(void)
{
    struct wfpsa_store *store = manual_store(20);
    HANDLE engine = open_engine(store);
    struct listener *listener = listening(engine, NULL);
    CHECK(wfpsa_store_switch(store, "contexts_after_restart", "kept"));
    CHECK(wfpsa_store_churn(store, 10, 1));
    wfpsa_store_stop(store, RPC_S_CALL_FAILED);
    wfpsa_store_advance(store, 1000);
    wfpsa_store_start(store);
    CHECK_EQUAL(wfpsa_store_count(store), 20);
    CHECK(wfpsa_store_churn(store, 0, 0));
    close_engine(engine);
    listener_free(listener);
    wfpsa_store_release(store);
}

/* Enumerates over sessions of its own, whatever happens. */
struct walker {
    struct wfpsa_thread thread;
    struct wfpsa_store *store;
    volatile int64_t *stop;
    uint64_t whole, mistakes;
};

static void
walk(void *argument)
{
    struct walker *walker = argument;
    while (!wfpsa_atomic_load(walker->stop)) {
        HANDLE engine = NULL, handle = NULL;
        IPSEC_SA_CONTEXT1 **page = NULL;
        UINT32 returned = 30;
        DWORD code =
            os->engine_open((const WCHAR *)wfpsa_store_name(walker->store), RPC_C_AUTHN_DEFAULT, NULL, NULL, &engine);
        if (code == 0) {
            code = os->sa_context_create_enum_handle(engine, NULL, &handle);
            while (code == 0 && returned == 30) {
                code = os->sa_context_enum1(engine, handle, 30, &page, &returned);
                os->free_memory((void **)&page);
            }
            walker->whole += code == 0;
            walker->mistakes += os->engine_close(engine) != 0;
        }
        walker->mistakes += code != 0 && code != EPT_S_NOT_REGISTERED && code != RPC_S_CALL_FAILED && code != ABORTED;
    }
}

static void
the_service_may_stop_and_start_under_everybody(void)
{
    struct wfpsa_store *store = make_store(400, 1);
    struct walker walkers[3];
    volatile int64_t stop = 0;
    CHECK(wfpsa_store_switch(store, "contexts_after_restart", "kept"));
    wfpsa_store_latency(store, 0, 1000);
    for (size_t i = 0; i < COUNT(walkers); i++) {
        memset(&walkers[i], 0, sizeof walkers[i]);
        walkers[i].store = store;
        walkers[i].stop = &stop;
        thread_start(&walkers[i].thread, walk, &walkers[i]);
    }
    for (int round = 0; round < 100; round++) {
        CHECK(wfpsa_store_switch(store, "enumeration", round % 2 ? "live" : "snapshot"));
        wfpsa_sleep_ns(1000000);
        wfpsa_store_stop(store, RPC_S_CALL_FAILED);
        wfpsa_store_start(store);
    }
    wfpsa_sleep_ns(20000000);
    wfpsa_atomic_add(&stop, 1);
    for (size_t i = 0; i < COUNT(walkers); i++) {
        wfpsa_thread_join(&walkers[i].thread);
        CHECK_EQUAL(walkers[i].mistakes, 0);
    }
    wfpsa_store_release(store);
}

/* ---- keys and handles ---- */

static void
a_session_key_is_taken_while_its_session_is_open(void)
{
    static const GUID key = {0x12345678, 0x9ABC, 0xDEF0, {1, 2, 3, 4, 5, 6, 7, 8}};
    GUID other = key;
    struct wfpsa_store *store = manual_store(0), *elsewhere = manual_store(0);
    HANDLE first, second, third;
    other.Data4[7] = 9;
    CHECK_EQUAL(try_open(store, 0, &key, 0, &first), 0);
    CHECK_EQUAL(try_open(store, 0, &key, 0, &second), (DWORD)FWP_E_ALREADY_EXISTS);
    CHECK(second == NULL && live_now().engines == 1);
    CHECK_EQUAL(try_open(store, 0, &other, 0, &second), 0);
    CHECK_EQUAL(try_open(elsewhere, 0, &key, 0, &third), 0); /* another engine */
    close_engine(first);
    CHECK_EQUAL(try_open(store, FWPM_SESSION_FLAG_DYNAMIC, &key, 0, &first), 0);
    wfpsa_store_stop(store, RPC_S_CALL_FAILED);
    wfpsa_store_start(store);
    close_engine(first);
    close_engine(second);
    close_engine(third);
    wfpsa_store_release(store);
    wfpsa_store_release(elsewhere);
}

static void
sessions_without_a_key_get_one_each(void)
{
    struct wfpsa_store *store = manual_store(0);
    HANDLE engines[50];
    struct listener *listeners[COUNT(engines)];
    IPSEC_SA_CONTEXT_SUBSCRIPTION0 **list = NULL;
    UINT32 count;
    static const GUID none;
    for (size_t i = 0; i < COUNT(engines); i++) {
        engines[i] = open_engine(store);
        listeners[i] = listening(engines[i], NULL);
    }
    CHECK_EQUAL(os->sa_context_subscriptions_get(engines[0], &list, &count), 0);
    CHECK_EQUAL(count, COUNT(engines));
    for (UINT32 i = 0; i < count; i++) {
        CHECK(memcmp(&list[i]->sessionKey, &none, sizeof none) != 0);
        for (UINT32 j = 0; j < i; j++) {
            CHECK(memcmp(&list[i]->sessionKey, &list[j]->sessionKey, sizeof none) != 0);
        }
    }
    os->free_memory((void **)&list);
    for (size_t i = 0; i < COUNT(engines); i++) {
        close_engine(engines[i]);
        listener_free(listeners[i]);
    }
    wfpsa_store_release(store);
}

static void
handles_are_not_given_again_soon_and_old_ones_are_refused(void)
{
    enum { OPENS = 10000 };
    static HANDLE old[OPENS];
    struct wfpsa_store *store = manual_store(0);
    HANDLE kept = open_engine(store);
    for (int i = 0; i < OPENS; i++) {
        old[i] = open_engine(store);
        CHECK(old[i] != kept && (i == 0 || old[i] != old[i - 1]) && (uintptr_t)old[i] % 4 == 0);
        close_engine(old[i]);
    }
    HANDLE last = open_engine(store);
    for (int i = 0; i < OPENS; i += 7) {
        CHECK(old[i] != last);
        CHECK_EQUAL(os->sa_context_expire(old[i], 1), ERROR_INVALID_HANDLE);
        CHECK_EQUAL(os->engine_close(old[i]), ERROR_INVALID_HANDLE);
    }
    CHECK_EQUAL(os->sa_context_expire(kept, 1), (DWORD)FWP_E_NOT_FOUND);
    wfpsa_embedded_forget_misuses();
    close_engine(last);
    close_engine(kept);
    wfpsa_store_release(store);
}

static void
more_sessions_than_there_are_seats_are_refused_and_the_rest_is_well(void)
{
    enum { MANY = 5000 };
    static HANDLE engines[MANY];
    struct wfpsa_store *store = manual_store(0);
    uint32_t opened = 0;
    DWORD code = 0;
    while (opened < MANY && (code = try_open(store, 0, NULL, 0, &engines[opened])) == 0) {
        opened++;
    }
    CHECK(opened >= 4000 && opened < MANY);
    CHECK_EQUAL(code, ERROR_NOT_ENOUGH_MEMORY);
    CHECK_EQUAL(live_now().engines, opened);
    close_engine(engines[opened / 2]);
    engines[opened / 2] = open_engine(store);
    for (uint32_t i = 0; i < opened; i++) {
        close_engine(engines[i]);
    }
    wfpsa_store_release(store);
}

/* Calls with a handle until it is refused. */
struct caller {
    struct wfpsa_thread thread;
    HANDLE engine;
    volatile int64_t calls;
    DWORD code;
};

static void
call_until_refused(void *argument)
{
    struct caller *caller = argument;
    do {
        caller->code = os->sa_context_expire(caller->engine, 1);
        wfpsa_atomic_add(&caller->calls, 1);
    } while (caller->code == (DWORD)FWP_E_NOT_FOUND);
}

static void
a_session_may_be_closed_under_calls_of_other_threads(void)
{
    struct wfpsa_store *store = manual_store(10);
    for (int round = 0; round < 100; round++) {
        HANDLE engine = open_engine(store);
        struct caller callers[2];
        for (size_t i = 0; i < COUNT(callers); i++) {
            callers[i].engine = engine;
            callers[i].calls = 0;
            thread_start(&callers[i].thread, call_until_refused, &callers[i]);
        }
        for (size_t i = 0; i < COUNT(callers); i++) {
            while (!wfpsa_atomic_load(&callers[i].calls)) {
                wfpsa_sleep_ns(10000);
            }
        }
        close_engine(engine);
        HANDLE next = open_engine(store); /* in another seat, or under another number */
        for (size_t i = 0; i < COUNT(callers); i++) {
            wfpsa_thread_join(&callers[i].thread);
            CHECK_EQUAL(callers[i].code, ERROR_INVALID_HANDLE);
        }
        close_engine(next);
    }
    wfpsa_embedded_forget_misuses();
    wfpsa_store_release(store);
}

int
main(void)
{
    RUN(a_stopped_service_refuses_sessions_and_answers_open_ones_with_the_code);
    RUN(a_code_that_is_none_still_ends_the_sessions);
    RUN(transactions_end_with_the_service);
    RUN(contexts_and_ids_after_a_restart_are_as_the_switches_say);
    RUN(a_store_is_as_good_as_new_after_many_restarts);
    RUN(a_restart_tells_nobody_and_those_who_subscribe_later_hear_what_comes);
    RUN(churn_rests_while_the_service_is_stopped);
    RUN(the_service_may_stop_and_start_under_everybody);
    RUN(a_session_key_is_taken_while_its_session_is_open);
    RUN(sessions_without_a_key_get_one_each);
    RUN(handles_are_not_given_again_soon_and_old_ones_are_refused);
    RUN(more_sessions_than_there_are_seats_are_refused_and_the_rest_is_well);
    RUN(a_session_may_be_closed_under_calls_of_other_threads);
    return closing_line();
}
