/* Transactions: what they refuse, the lock that sessions share, its order, its time-outs, and latency inside it. */
#include "scene.h"
#include "threads.h"

#include "libwfpsa/embedded/internal.h" /* to see who waits */

#define TXN_IN_PROGRESS ((DWORD)FWP_E_TXN_IN_PROGRESS)
#define TIMEOUT ((DWORD)FWP_E_TIMEOUT)
#define HOUR_MS 3600000u

#define CHANGES                                                                                                       \
    "IPsecSaContextExpire0 IPsecSaContextGetSpi1 IPsecSaContextSetSpi0 IPsecSaContextAddInbound1 "                    \
    "IPsecSaContextAddOutbound1 IPsecSaContextUpdate0"
#define NEVER_INSIDE                                                                                                  \
    "FwpmTransactionBegin0 IPsecSaContextCreate1 IPsecSaContextDeleteById0 IPsecSaContextSubscribe0 "                 \
    "IPsecSaContextUnsubscribe0 IPsecGetStatistics1"
#define WITHOUT_THE_LOCK                                                                                              \
    "FwpmTransactionCommit0 FwpmTransactionAbort0 IPsecSaContextDestroyEnumHandle0 IPsecSaContextSubscribe0 "         \
    "IPsecSaContextUnsubscribe0"
#define ENDS "FwpmEngineClose0 FwpmTransactionCommit0 FwpmTransactionAbort0 IPsecSaContextDestroyEnumHandle0"

static void
begin_transaction(HANDLE engine, uint32_t flags)
{
    CHECK_EQUAL(os->transaction_begin(engine, flags), 0);
}

static void
commit(HANDLE engine)
{
    CHECK_EQUAL(os->transaction_commit(engine), 0);
}

/* The id of any context that has both SAs. */
static uint64_t
any_id(HANDLE engine)
{
    struct wfpsa_columns *all = everything(engine, 0);
    uint64_t row = 0;
    while (!(U8(all, has_inbound, row) && U8(all, has_outbound, row))) {
        row++;
    }
    uint64_t id = U64(all, context_id, row);
    wfpsa_columns_release(all);
    return id;
}

static HANDLE
subscribe(HANDLE engine)
{
    IPSEC_SA_CONTEXT_SUBSCRIPTION0 wanted;
    HANDLE events = NULL;
    memset(&wanted, 0, sizeof wanted);
    CHECK_EQUAL(os->sa_context_subscribe(engine, &wanted, ignore_change, NULL, &events), 0);
    return events;
}

/* ---- one session ---- */

static void
a_session_has_one_transaction_at_a_time(void)
{
    struct wfpsa_store *store = make_store(3, 0);
    HANDLE engine = open_engine(store);
    for (uint32_t flags = 0; flags <= FWPM_TXN_READ_ONLY; flags++) {
        for (int aborts = 0; aborts <= 1; aborts++) {
            CHECK_EQUAL(os->transaction_commit(engine), (DWORD)FWP_E_NO_TXN_IN_PROGRESS);
            CHECK_EQUAL(os->transaction_abort(engine), (DWORD)FWP_E_NO_TXN_IN_PROGRESS);
            begin_transaction(engine, flags);
            CHECK_EQUAL(live_now().transactions, 1);
            CHECK_EQUAL(os->transaction_begin(engine, 0), TXN_IN_PROGRESS);
            CHECK_EQUAL(os->transaction_begin(engine, FWPM_TXN_READ_ONLY), TXN_IN_PROGRESS);
            CHECK_EQUAL(live_now().transactions, 1);
            CHECK_EQUAL(aborts ? os->transaction_abort(engine) : os->transaction_commit(engine), 0);
            CHECK_EQUAL(live_now().transactions, 0);
        }
    }
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
unknown_flags_are_refused_and_begin_nothing(void)
{
    static const uint32_t flags[] = {2, 3, 4, 0x80000000, 0x80000001, UINT32_MAX};
    struct wfpsa_store *store = make_store(3, 0);
    HANDLE engine = open_engine(store), other = open_waiting(store, 1);
    for (size_t i = 0; i < COUNT(flags); i++) {
        CHECK_EQUAL(os->transaction_begin(engine, flags[i]), (DWORD)FWP_E_INVALID_FLAGS);
        CHECK_EQUAL(os->transaction_commit(engine), (DWORD)FWP_E_NO_TXN_IN_PROGRESS);
        begin_transaction(other, 0);
        commit(other);
    }
    close_engine(other);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
each_profile_begins_what_the_default_access_list_grants(void)
{
    static const struct {
        enum wfpsa_rights rights;
        DWORD reads, writes;
    } cases[] = {{WFPSA_RIGHTS_ADMINISTRATOR, 0, 0},
                 {WFPSA_RIGHTS_NETWORK_OPERATOR, 0, 0},
                 {WFPSA_RIGHTS_READ_ONLY, 0, ERROR_ACCESS_DENIED},
                 {WFPSA_RIGHTS_EVERYONE, ERROR_ACCESS_DENIED, ERROR_ACCESS_DENIED}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct wfpsa_store *store = make_store(3, 0);
        wfpsa_store_rights(store, cases[i].rights);
        HANDLE engine = open_engine(store);
        for (uint32_t flags = 0; flags <= FWPM_TXN_READ_ONLY; flags++) {
            DWORD expected = flags ? cases[i].reads : cases[i].writes;
            CHECK_EQUAL(os->transaction_begin(engine, flags), expected);
            CHECK_EQUAL(os->transaction_commit(engine), expected ? (DWORD)FWP_E_NO_TXN_IN_PROGRESS : 0);
        }
        close_engine(engine);
        wfpsa_store_release(store);
    }
}

/* What each call gives inside a transaction of that kind. */
static DWORD
expected_inside(const char *function, uint32_t flags, int changes_refused)
{
    if (is_one_of(function, NEVER_INSIDE) || (changes_refused && is_one_of(function, CHANGES))) {
        return TXN_IN_PROGRESS;
    }
    if (flags && is_one_of(function, CHANGES)) {
        return (DWORD)FWP_E_INCOMPATIBLE_TXN;
    }
    return is_one_of(function, "IPsecSaContextGetSpi1 IPsecSaContextSetSpi0 IPsecSaContextAddInbound1 "
                               "IPsecSaContextAddOutbound1")
               ? (DWORD)FWP_E_INCOMPATIBLE_SA_STATE /* the context is complete: the transaction let it through */
               : 0;
}

static void
a_transaction_refuses_what_is_documented_and_by_its_switch_all_changes(void)
{
    static const char *const choices[2] = {"allowed", "refused"};
    struct wfpsa_store *store = make_store(100, 0);
    HANDLE engine = open_engine(store);
    wfpsa_store_clock(store, 1);
    for (int refused = 0; refused <= 1; refused++) {
        CHECK(wfpsa_store_switch(store, "transaction_changes", choices[refused]));
        for (uint32_t flags = 0; flags <= FWPM_TXN_READ_ONLY; flags++) {
            struct with with = {engine, begin(engine, NULL), subscribe(engine), any_id(engine)};
            const char *function;
            begin_transaction(engine, flags);
            for (uint32_t i = 0; (function = function_at(i)) != NULL; i++) {
                if (!is_one_of(function, ENDS) &&
                    !CHECK_EQUAL(call_function(function, &with), expected_inside(function, flags, refused))) {
                    fprintf(stderr, "%s, flags %u, refused %d\n", function, (unsigned)flags, refused);
                }
            }
            CHECK_EQUAL(sides_of(engine, with.id), flags || refused ? 3 : 1); /* expired, or not */
            commit(engine);
            CHECK_EQUAL(os->sa_context_unsubscribe(engine, with.events), 0); /* the refusal left it alive */
            end(engine, with.enumeration);
        }
    }
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
a_dynamic_session_may_have_transactions(void)
{
    struct wfpsa_store *store = make_store(10, 0);
    HANDLE engine = open_with(store, FWPM_SESSION_FLAG_DYNAMIC);
    begin_transaction(engine, 0);
    CHECK_EQUAL(os->sa_context_delete_by_id(engine, 1), TXN_IN_PROGRESS);
    commit(engine);
    CHECK_EQUAL(os->sa_context_delete_by_id(engine, 1), (DWORD)FWP_E_DYNAMIC_SESSION_IN_PROGRESS);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
enumerating_inside_a_read_only_transaction_works(void)
{
    struct wfpsa_store *store = make_store(100, 1);
    HANDLE engine = open_engine(store);
    struct wfpsa_columns *outside = everything(engine, 1);
    begin_transaction(engine, FWPM_TXN_READ_ONLY);
    for (uint32_t version = 0; version <= 1; version++) {
        HANDLE handle = begin(engine, NULL);
        struct wfpsa_columns *inside = rest_of(engine, handle, version, 30);
        CHECK(same_rows(outside, inside));
        wfpsa_columns_release(inside);
        end(engine, handle);
    }
    commit(engine);
    wfpsa_columns_release(outside);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
changes_take_effect_at_once_and_an_abort_takes_none_back(void)
{
    struct wfpsa_store *store = make_store(100, 0);
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(1);
    uint64_t expired = any_id(engine), made = create(engine, &traffic);
    wfpsa_store_clock(store, 1);
    begin_transaction(engine, 0);
    CHECK_EQUAL(os->sa_context_expire(engine, expired), 0);
    CHECK_EQUAL(sides_of(engine, expired), 1);
    get_spi(engine, made, &traffic);
    CHECK_EQUAL(os->sa_context_expire(engine, 1),
                (DWORD)FWP_E_NOT_FOUND); /* a failed call undoes none of the others */
    CHECK_EQUAL(os->transaction_abort(engine), 0);
    CHECK_EQUAL(sides_of(engine, expired), 1);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
a_commit_that_fails_leaves_the_transaction_open(void)
{
    struct wfpsa_store *store = make_store(3, 0);
    HANDLE engine = open_engine(store);
    begin_transaction(engine, 0);
    CHECK(wfpsa_store_fail(store, "FwpmTransactionCommit0", 1, RPC_S_CALL_FAILED));
    CHECK(wfpsa_store_fail(store, "FwpmTransactionAbort0", 1, RPC_S_SERVER_UNAVAILABLE));
    CHECK_EQUAL(os->transaction_commit(engine), RPC_S_CALL_FAILED);
    CHECK_EQUAL(os->transaction_abort(engine), RPC_S_SERVER_UNAVAILABLE);
    CHECK_EQUAL(os->transaction_begin(engine, 0), TXN_IN_PROGRESS);
    CHECK(wfpsa_store_fail(store, "FwpmTransactionBegin0", 1, TIMEOUT));
    CHECK_EQUAL(os->transaction_begin(engine, 0), TIMEOUT);
    commit(engine);
    close_engine(engine);
    wfpsa_store_release(store);
}

/* ---- several sessions ---- */

static void
a_write_transaction_shuts_all_others_out_until_their_time_is_up(void)
{
    struct wfpsa_store *store = make_store(50, 0);
    HANDLE writer = open_engine(store), engine = open_waiting(store, 2);
    struct with with = {engine, begin(engine, NULL), subscribe(engine), any_id(engine)};
    struct wfpsa_columns *batch = wfpsa_columns_new(1);
    const char *function;
    CHECK_EQUAL(next_page(engine, with.enumeration, 20, batch), 20);
    begin_transaction(writer, 0);
    for (uint32_t i = 0; (function = function_at(i)) != NULL; i++) {
        if (!is_one_of(function, WITHOUT_THE_LOCK) && !is_one_of(function, ENDS)) {
            uint64_t start = wfpsa_monotonic_ns();
            if (!CHECK_EQUAL(call_function(function, &with), TIMEOUT)) {
                fprintf(stderr, "%s\n", function);
            }
            CHECK(wfpsa_monotonic_ns() - start >= 2000000);
        }
    }
    CHECK_EQUAL(os->transaction_begin(engine, FWPM_TXN_READ_ONLY), TIMEOUT);
    CHECK_EQUAL(os->transaction_commit(engine), (DWORD)FWP_E_NO_TXN_IN_PROGRESS);
    CHECK_EQUAL(os->transaction_abort(engine), (DWORD)FWP_E_NO_TXN_IN_PROGRESS);
    CHECK_EQUAL(os->sa_context_unsubscribe(engine, subscribe(engine)), 0);
    commit(writer);
    while (next_page(engine, with.enumeration, 20, batch) == 20) {
    }
    CHECK_EQUAL(batch->length, 50); /* the page that timed out took nothing from it */
    CHECK_EQUAL(os->sa_context_unsubscribe(engine, with.events), 0);
    end(engine, with.enumeration);
    CHECK_EQUAL(sides_of(engine, with.id), 3);
    wfpsa_columns_release(batch);
    close_engine(engine);
    close_engine(writer);
    wfpsa_store_release(store);
}

static void
an_enumeration_can_be_destroyed_while_another_session_writes(void)
{
    struct wfpsa_store *store = make_store(50, 0);
    HANDLE writer = open_engine(store), engine = open_waiting(store, 1), handle = begin(engine, NULL);
    begin_transaction(writer, 0);
    end(engine, handle);
    close_engine(engine);
    close_engine(writer);
    wfpsa_store_release(store);
}

static void
readers_share_the_lock_and_keep_writers_out(void)
{
    struct wfpsa_store *store = make_store(50, 0);
    HANDLE first = open_engine(store), second = open_waiting(store, 1), other = open_waiting(store, 1);
    uint64_t id = any_id(first);
    begin_transaction(first, FWPM_TXN_READ_ONLY);
    begin_transaction(second, FWPM_TXN_READ_ONLY);
    CHECK_EQUAL(sides_of(first, id), 3);
    CHECK_EQUAL(sides_of(second, id), 3);
    CHECK_EQUAL(sides_of(other, id), 3);
    CHECK_EQUAL(os->sa_context_expire(other, id), TIMEOUT);
    CHECK_EQUAL(os->transaction_begin(other, 0), TIMEOUT);
    commit(first);
    CHECK_EQUAL(os->sa_context_expire(other, id), TIMEOUT); /* the second still reads */
    CHECK_EQUAL(os->transaction_begin(other, 0), TIMEOUT);
    CHECK_EQUAL(os->transaction_abort(second), 0);
    CHECK_EQUAL(os->sa_context_expire(other, id), 0);
    begin_transaction(other, 0);
    close_engine(other);
    close_engine(first);
    close_engine(second);
    wfpsa_store_release(store);
}

/* A call made in a thread of its own. */
struct caller {
    struct wfpsa_thread thread;
    HANDLE engine;
    const char *function;
    uint64_t id;
    uint32_t flags;          /* of Begin */
    int commits;             /* after having got the lock, and its place in the order, by a transaction */
    volatile int64_t *order; /* who got it before */
    int64_t place;
    DWORD code;
};

static void
make_the_call(void *argument)
{
    struct caller *caller = argument;
    struct with with = {caller->engine, NULL, NULL, caller->id};
    if (strcmp(caller->function, "FwpmTransactionBegin0") == 0) {
        caller->code = os->transaction_begin(caller->engine, caller->flags);
    } else {
        caller->code = call_function(caller->function, &with);
    }
    if (caller->order) {
        caller->place = wfpsa_atomic_add(caller->order, 1);
    }
    if (caller->code == 0 && caller->commits) {
        caller->code = os->transaction_commit(caller->engine);
    }
}

static void
call_start(struct caller *caller, HANDLE engine, const char *function, uint64_t id)
{
    memset(caller, 0, sizeof *caller);
    caller->engine = engine;
    caller->function = function;
    caller->id = id;
    thread_start(&caller->thread, make_the_call, caller);
}

static DWORD
call_end(struct caller *caller)
{
    wfpsa_thread_join(&caller->thread);
    return caller->code;
}

/* Until that many wait for the store's transaction lock. */
static void
until_waiting(struct wfpsa_store *store, uint32_t wanted)
{
    uint32_t waiting;
    do {
        wfpsa_sleep_ns(200000);
        waiting = 0;
        wfpsa_mutex_lock(&store->lock);
        /* A waiter's first member is the next one. */
        for (void *waiter = store->waiters; waiter; waiter = *(void **)waiter) {
            waiting++;
        }
        wfpsa_mutex_unlock(&store->lock);
    } while (waiting != wanted);
}

enum ending { COMMIT, ABORT, CLOSE, STOP };

static void
whatever_ends_a_transaction_lets_those_who_wait_go_on(void)
{
    for (int ending = COMMIT; ending <= STOP; ending++) {
        for (uint32_t flags = 0; flags <= FWPM_TXN_READ_ONLY; flags++) {
            struct wfpsa_store *store = make_store(50, 0);
            HANDLE holder = open_engine(store), reader = open_waiting(store, INFINITE),
                   writer = open_waiting(store, INFINITE);
            uint64_t id = any_id(holder);
            struct caller calls[2];
            wfpsa_store_clock(store, 1);
            begin_transaction(holder, flags);
            call_start(&calls[0], writer, "IPsecSaContextExpire0", id);
            until_waiting(store, 1);
            call_start(&calls[1], reader, "IPsecSaContextGetById1", id);
            until_waiting(store, 2); /* behind the writer, even where the reader alone could go on */
            switch (ending) {
            case COMMIT:
                commit(holder);
                break;
            case ABORT:
                CHECK_EQUAL(os->transaction_abort(holder), 0);
                break;
            case CLOSE:
                close_engine(holder);
                break;
            default:
                wfpsa_store_stop(store, RPC_S_CALL_FAILED);
                break;
            }
            for (size_t i = 0; i < COUNT(calls); i++) {
                CHECK_EQUAL(call_end(&calls[i]), ending == STOP ? RPC_S_CALL_FAILED : 0);
            }
            CHECK_EQUAL(live_now().transactions, 0);
            if (ending != CLOSE) {
                close_engine(holder);
            }
            close_engine(reader);
            close_engine(writer);
            wfpsa_store_release(store);
        }
    }
}

static void
closing_a_session_ends_its_wait(void)
{
    static const char *const functions[] = {"IPsecSaContextExpire0", "IPsecSaContextGetById0",
                                            "FwpmTransactionBegin0"};
    struct wfpsa_store *store = make_store(50, 0);
    HANDLE holder = open_engine(store);
    begin_transaction(holder, 0);
    for (size_t i = 0; i < COUNT(functions); i++) {
        HANDLE engine = open_waiting(store, INFINITE);
        struct caller call;
        call_start(&call, engine, functions[i], 1);
        until_waiting(store, 1);
        close_engine(engine);
        CHECK_EQUAL(call_end(&call), ERROR_INVALID_HANDLE);
    }
    commit(holder);
    close_engine(holder);
    wfpsa_store_release(store);
}

static void
the_lock_is_had_in_the_order_of_arrival(void)
{
    enum { CALLERS = 8 };
    struct wfpsa_store *store = make_store(50, 0);
    HANDLE holder = open_engine(store), engines[CALLERS];
    struct caller callers[CALLERS];
    volatile int64_t order = 0;
    begin_transaction(holder, 0);
    for (uint32_t i = 0; i < CALLERS; i++) {
        engines[i] = open_waiting(store, INFINITE);
        memset(&callers[i], 0, sizeof callers[i]);
        callers[i].engine = engines[i];
        callers[i].function = "FwpmTransactionBegin0";
        callers[i].flags = i % 3 == 1 ? FWPM_TXN_READ_ONLY : 0; /* no two readers that might share it */
        callers[i].commits = 1;
        callers[i].order = &order;
        thread_start(&callers[i].thread, make_the_call, &callers[i]);
        until_waiting(store, i + 1);
    }
    commit(holder);
    for (uint32_t i = 0; i < CALLERS; i++) {
        CHECK_EQUAL(call_end(&callers[i]), 0);
        CHECK_EQUAL(callers[i].place, i + 1);
        close_engine(engines[i]);
    }
    close_engine(holder);
    wfpsa_store_release(store);
}

static void
who_gives_up_no_longer_stands_before_the_others(void)
{
    struct wfpsa_store *store = make_store(50, 0);
    HANDLE holder = open_engine(store), writer = open_waiting(store, 30), reader = open_waiting(store, INFINITE);
    struct caller calls[2];
    uint64_t id = any_id(holder);
    begin_transaction(holder, FWPM_TXN_READ_ONLY);
    call_start(&calls[0], writer, "FwpmTransactionBegin0", 0);
    call_start(&calls[1], reader, "IPsecSaContextGetById1", id);
    CHECK_EQUAL(call_end(&calls[0]), TIMEOUT);
    CHECK_EQUAL(call_end(&calls[1]), 0); /* while the holder still reads */
    CHECK_EQUAL(live_now().transactions, 1);
    close_engine(holder);
    close_engine(writer);
    close_engine(reader);
    wfpsa_store_release(store);
}

static void
of_two_threads_with_one_handle_one_gets_the_transaction(void)
{
    struct wfpsa_store *store = make_store(50, 0);
    HANDLE holder = open_engine(store), shared = open_waiting(store, INFINITE);
    for (uint32_t flags = 0; flags <= FWPM_TXN_READ_ONLY; flags++) {
        struct caller calls[2];
        begin_transaction(holder, 0);
        for (size_t i = 0; i < COUNT(calls); i++) {
            memset(&calls[i], 0, sizeof calls[i]);
            calls[i].engine = shared;
            calls[i].function = "FwpmTransactionBegin0";
            calls[i].flags = flags;
            thread_start(&calls[i].thread, make_the_call, &calls[i]);
        }
        until_waiting(store, 2);
        commit(holder);
        DWORD first = call_end(&calls[0]), second = call_end(&calls[1]);
        CHECK((first == 0 && second == TXN_IN_PROGRESS) || (first == TXN_IN_PROGRESS && second == 0));
        CHECK_EQUAL(live_now().transactions, 1);
        commit(shared);
        begin_transaction(holder, 0); /* nothing of the lock was left behind */
        commit(holder);
    }
    close_engine(shared);
    close_engine(holder);
    wfpsa_store_release(store);
}

/* ---- an hour ---- */

static void
a_transaction_of_an_hour_is_aborted_and_its_owner_told_once(void)
{
    static const char *const next[] = {"FwpmTransactionCommit0", "FwpmTransactionAbort0",  "FwpmTransactionBegin0",
                                       "IPsecSaContextExpire0",  "IPsecSaContextGetById1", "IPsecGetStatistics1",
                                       "IPsecSaContextCreate1"};
    struct wfpsa_store *store = make_store(50, 0);
    HANDLE engine = open_engine(store);
    struct with with = {engine, NULL, NULL, 1};
    wfpsa_store_clock(store, 1);
    CHECK(wfpsa_store_switch(store, "lifetimes", "off"));
    for (size_t i = 0; i < COUNT(next); i++) {
        for (uint32_t flags = 0; flags <= FWPM_TXN_READ_ONLY; flags++) {
            begin_transaction(engine, flags);
            wfpsa_store_advance(store, HOUR_MS - 1);
            CHECK_EQUAL(os->transaction_begin(engine, 0), TXN_IN_PROGRESS);
            wfpsa_store_advance(store, 1);
            CHECK_EQUAL(call_function(next[i], &with), (DWORD)FWP_E_TXN_ABORTED);
            CHECK_EQUAL(live_now().transactions, 0);
            CHECK_EQUAL(os->transaction_commit(engine), (DWORD)FWP_E_NO_TXN_IN_PROGRESS);
            CHECK_EQUAL(os->sa_context_delete_by_id(engine, 1), (DWORD)FWP_E_NOT_FOUND);
        }
    }
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
those_who_wait_go_on_when_the_hour_is_over(void)
{
    struct wfpsa_store *store = make_store(50, 0);
    HANDLE holder = open_engine(store), reading = open_engine(store), engine = open_waiting(store, INFINITE);
    struct caller call;
    wfpsa_store_clock(store, 1);
    for (uint32_t flags = 0; flags <= FWPM_TXN_READ_ONLY; flags++) {
        begin_transaction(holder, flags);
        if (flags) {
            begin_transaction(reading, FWPM_TXN_READ_ONLY);
        }
        call_start(&call, engine, "IPsecSaContextExpire0", 1);
        until_waiting(store, 1);
        wfpsa_store_advance(store, HOUR_MS);
        CHECK_EQUAL(call_end(&call), (DWORD)FWP_E_NOT_FOUND);
        CHECK_EQUAL(os->sa_context_expire(engine, 1), (DWORD)FWP_E_NOT_FOUND); /* and whoever comes later */
        CHECK_EQUAL(os->transaction_commit(holder), (DWORD)FWP_E_TXN_ABORTED);
        CHECK_EQUAL(os->transaction_commit(holder), (DWORD)FWP_E_NO_TXN_IN_PROGRESS);
        CHECK_EQUAL(os->transaction_commit(reading),
                    flags ? (DWORD)FWP_E_TXN_ABORTED : (DWORD)FWP_E_NO_TXN_IN_PROGRESS);
    }
    close_engine(holder);
    close_engine(reading);
    close_engine(engine);
    wfpsa_store_release(store);
}

/* ---- latency ---- */

/* Expires its share of the contexts. */
struct expirer {
    struct wfpsa_thread thread;
    HANDLE engine;
    const uint64_t *ids;
    uint64_t count, mistakes;
};

static void
expire_all(void *argument)
{
    struct expirer *expirer = argument;
    for (uint64_t i = 0; i < expirer->count; i++) {
        expirer->mistakes += os->sa_context_expire(expirer->engine, expirer->ids[i]) != 0;
    }
}

static void
latency_inside_serialises_writers_of_all_sessions_and_loses_nothing(void)
{
    enum { WRITERS = 4, EACH = 8, LATENCY_NS = 1000000 };
    struct wfpsa_store *store = make_store(WRITERS * EACH, 0);
    HANDLE engine = open_engine(store), last = open_waiting(store, INFINITE);
    struct wfpsa_columns *all = everything(engine, 0);
    struct expirer expirers[WRITERS];
    CHECK(wfpsa_store_switch(store, "latency", "inside"));
    wfpsa_store_clock(store, 1);
    wfpsa_store_latency(store, LATENCY_NS, 0);
    uint64_t start = wfpsa_monotonic_ns();
    for (size_t i = 0; i < WRITERS; i++) {
        expirers[i].engine = open_waiting(store, INFINITE);
        expirers[i].ids = (const uint64_t *)all->columns[WFPSA_COLUMN_context_id] + i * EACH;
        expirers[i].count = EACH;
        expirers[i].mistakes = 0;
        thread_start(&expirers[i].thread, expire_all, &expirers[i]);
    }
    for (size_t i = 0; i < WRITERS; i++) {
        wfpsa_thread_join(&expirers[i].thread);
        CHECK_EQUAL(expirers[i].mistakes, 0);
    }
    CHECK(wfpsa_monotonic_ns() - start >= (uint64_t)WRITERS * EACH * LATENCY_NS); /* one after the other */
    wfpsa_store_latency(store, 0, 0);
    for (size_t i = 0; i < WRITERS; i++) {
        close_engine(expirers[i].engine);
    }
    struct wfpsa_columns *left = everything(last, 0);
    for (uint64_t row = 0; row < left->length; row++) {
        CHECK(!U8(left, has_outbound, row));
    }
    wfpsa_store_advance(store, 60000);
    CHECK_EQUAL(wfpsa_store_count(store), 0);
    wfpsa_columns_release(left);
    wfpsa_columns_release(all);
    close_engine(last);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
latency_inside_is_slept_in_a_transaction_too_and_gives_the_lock_back(void)
{
    struct wfpsa_store *store = make_store(50, 0);
    HANDLE engine = open_engine(store), other = open_waiting(store, 1);
    CHECK(wfpsa_store_switch(store, "latency", "inside"));
    wfpsa_store_latency(store, 1000000, 0);
    for (int inside = 0; inside <= 1; inside++) {
        if (inside) {
            begin_transaction(engine, 0);
        }
        uint64_t start = wfpsa_monotonic_ns();
        CHECK_EQUAL(os->sa_context_expire(engine, 1), (DWORD)FWP_E_NOT_FOUND);
        CHECK(wfpsa_monotonic_ns() - start >= 1000000);
        if (inside) {
            CHECK_EQUAL(os->sa_context_expire(other, 1), TIMEOUT);
            commit(engine);
        }
        CHECK_EQUAL(os->sa_context_expire(other, 1), (DWORD)FWP_E_NOT_FOUND);
    }
    wfpsa_store_latency(store, 0, 0);
    close_engine(engine);
    close_engine(other);
    wfpsa_store_release(store);
}

static void
latency_outside_keeps_nobody_waiting(void)
{
    enum { EACH = 20 };
    struct wfpsa_store *store = make_store(2 * EACH, 0);
    HANDLE engine = open_engine(store);
    struct wfpsa_columns *all = everything(engine, 0);
    struct expirer expirers[2];
    wfpsa_store_latency(store, 3000000, 0);
    for (size_t i = 0; i < COUNT(expirers); i++) { /* who had to wait at all would time out */
        expirers[i].engine = open_waiting(store, 1);
        expirers[i].ids = (const uint64_t *)all->columns[WFPSA_COLUMN_context_id] + i * EACH;
        expirers[i].count = EACH;
        expirers[i].mistakes = 0;
        thread_start(&expirers[i].thread, expire_all, &expirers[i]);
    }
    for (size_t i = 0; i < COUNT(expirers); i++) {
        wfpsa_thread_join(&expirers[i].thread);
        CHECK_EQUAL(expirers[i].mistakes, 0);
    }
    wfpsa_store_latency(store, 0, 0);
    for (size_t i = 0; i < COUNT(expirers); i++) {
        close_engine(expirers[i].engine);
    }
    wfpsa_columns_release(all);
    close_engine(engine);
    wfpsa_store_release(store);
}

/* ---- many threads ---- */

/* Begins, counts those who write beside it, and ends, again and again. */
struct contender {
    struct wfpsa_thread thread;
    HANDLE engine;
    volatile int64_t *writing, *reading;
    uint32_t seed;
    uint64_t mistakes;
};

static void
contend(void *argument)
{
    struct contender *contender = argument;
    for (uint32_t i = 0; i < 60; i++) {
        int reads = (contender->seed * 7 + i * 3) % 5 < 2;
        contender->mistakes += os->transaction_begin(contender->engine, reads ? FWPM_TXN_READ_ONLY : 0) != 0;
        if (reads) {
            wfpsa_atomic_add(contender->reading, 1);
            contender->mistakes += wfpsa_atomic_load(contender->writing) != 0;
            wfpsa_atomic_add(contender->reading, -1);
        } else {
            contender->mistakes += wfpsa_atomic_add(contender->writing, 1) != 1;
            contender->mistakes += wfpsa_atomic_load(contender->reading) != 0;
            wfpsa_atomic_add(contender->writing, -1);
        }
        contender->mistakes +=
            (i % 2 ? os->transaction_commit(contender->engine) : os->transaction_abort(contender->engine)) != 0;
    }
}

static void
no_two_write_at_once_and_nobody_reads_beside_a_writer(void)
{
    struct wfpsa_store *store = make_store(50, 0);
    struct contender contenders[5];
    volatile int64_t writing = 0, reading = 0;
    for (size_t i = 0; i < COUNT(contenders); i++) {
        contenders[i].engine = open_waiting(store, INFINITE);
        contenders[i].writing = &writing;
        contenders[i].reading = &reading;
        contenders[i].seed = (uint32_t)i;
        contenders[i].mistakes = 0;
        thread_start(&contenders[i].thread, contend, &contenders[i]);
    }
    for (size_t i = 0; i < COUNT(contenders); i++) {
        wfpsa_thread_join(&contenders[i].thread);
        CHECK_EQUAL(contenders[i].mistakes, 0);
        close_engine(contenders[i].engine);
    }
    wfpsa_store_release(store);
}

int
main(void)
{
    RUN(a_session_has_one_transaction_at_a_time);
    RUN(unknown_flags_are_refused_and_begin_nothing);
    RUN(each_profile_begins_what_the_default_access_list_grants);
    RUN(a_transaction_refuses_what_is_documented_and_by_its_switch_all_changes);
    RUN(a_dynamic_session_may_have_transactions);
    RUN(enumerating_inside_a_read_only_transaction_works);
    RUN(changes_take_effect_at_once_and_an_abort_takes_none_back);
    RUN(a_commit_that_fails_leaves_the_transaction_open);
    RUN(a_write_transaction_shuts_all_others_out_until_their_time_is_up);
    RUN(an_enumeration_can_be_destroyed_while_another_session_writes);
    RUN(readers_share_the_lock_and_keep_writers_out);
    RUN(whatever_ends_a_transaction_lets_those_who_wait_go_on);
    RUN(closing_a_session_ends_its_wait);
    RUN(the_lock_is_had_in_the_order_of_arrival);
    RUN(who_gives_up_no_longer_stands_before_the_others);
    RUN(of_two_threads_with_one_handle_one_gets_the_transaction);
    RUN(a_transaction_of_an_hour_is_aborted_and_its_owner_told_once);
    RUN(those_who_wait_go_on_when_the_hour_is_over);
    RUN(latency_inside_serialises_writers_of_all_sessions_and_loses_nothing);
    RUN(latency_inside_is_slept_in_a_transaction_too_and_gives_the_lock_back);
    RUN(latency_outside_keeps_nobody_waiting);
    RUN(no_two_write_at_once_and_nobody_reads_beside_a_writer);
    return closing_line();
}
