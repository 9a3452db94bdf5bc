/* Wrong uses of the engine: refused without harm, counted under the function's name, and forgotten when asked. */
#include "listener.h"
#include "threads.h"

static const char twice[] = "a result was freed twice";
static const char foreign[] = "what was freed is no result of this engine";
static const char bad_engine[] = "the engine handle is closed, or none";
static const char bad_enumeration[] = "the enumeration handle is destroyed, or none";
static const char bad_subscription[] = "the subscription is ended, or none";
static const char other_session[] = "the handle is another session's";
static const char own_callback[] = "called from within a callback that it waits for";

/* How often that wrong use of that function was seen. */
static int64_t
seen(const char *function, const char *what)
{
    const char *name, *said;
    int64_t count;
    for (uint32_t i = 0; wfpsa_embedded_misuse(i, &name, &said, &count); i++) {
        CHECK(count > 0);
        if (strcmp(name, function) == 0 && strcmp(said, what) == 0) {
            return count;
        }
    }
    return 0;
}

/* Whether exactly this was seen, that often; forgets it. */
static int
only_seen(const char *function, const char *what, int64_t times)
{
    const char *name, *said;
    int64_t count;
    int right = CHECK_EQUAL(live_now().misuses, times) && CHECK_EQUAL(seen(function, what), times) &&
                CHECK(!wfpsa_embedded_misuse(times ? 1 : 0, &name, &said, &count));
    wfpsa_embedded_forget_misuses();
    right &= CHECK_EQUAL(live_now().misuses, 0) & CHECK(!wfpsa_embedded_misuse(0, &name, &said, &count));
    if (!right) {
        fprintf(stderr, "%s: %s\n", function, what);
    }
    return right;
}

/* ---- results ---- */

static void
a_second_free_is_noticed_and_harms_nothing(void)
{
    struct wfpsa_store *store = make_store(1000, 0);
    HANDLE engine = open_engine(store);
    for (uint32_t size = 1; size <= 1000; size *= 10) { /* small ones and large ones are put away differently */
        HANDLE handle = begin(engine, NULL);
        IPSEC_SA_CONTEXT1 **page = NULL, **same;
        UINT32 returned;
        CHECK_EQUAL(os->sa_context_enum1(engine, handle, size, &page, &returned), 0);
        same = page;
        os->free_memory((void **)&page);
        CHECK(page == NULL);
        page = same;
        os->free_memory((void **)&page);
        CHECK(page == same); /* it freed nothing */
        CHECK(only_seen("FwpmFreeMemory0", twice, 1));
        end(engine, handle);
    }
    CHECK_EQUAL(live_now().pages, 0);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
what_is_no_result_is_not_freed(void)
{
    struct wfpsa_store *store = make_store(100, 0);
    HANDLE engine = open_engine(store), handle = begin(engine, NULL);
    IPSEC_SA_CONTEXT1 **page = NULL, *found = NULL;
    UINT32 returned;
    uint64_t local = 5, *block = wfpsa_allocate(8, sizeof *block);
    CHECK_EQUAL(os->sa_context_enum1(engine, handle, 50, &page, &returned), 0);
    CHECK_EQUAL(os->sa_context_get_by_id1(engine, page[3]->saContextId, &found), 0);
    void *wrong[] = {&local,
                     block,
                     block + 4,
                     page + 1,
                     page[0],
                     page[49],
                     page[0]->inboundSa,
                     (char *)page + 8,
                     (char *)found + 8,
                     (void *)(uintptr_t)8,
                     (void *)UINTPTR_MAX,
                     engine,
                     handle};
    for (size_t i = 0; i < COUNT(wrong); i++) {
        void *given = wrong[i];
        os->free_memory(&given);
        CHECK(given == wrong[i]);
    }
    CHECK(only_seen("FwpmFreeMemory0", foreign, (int64_t)COUNT(wrong)));
    CHECK_EQUAL(live_now().pages, 2);
    CHECK(returned == 50 && page[49]->saContextId != 0 && local == 5); /* all as it was */
    os->free_memory((void **)&found);
    os->free_memory((void **)&page);
    CHECK_EQUAL(live_now().pages, 0);
    wfpsa_free(block);
    end(engine, handle);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
each_of_many_results_is_found(void)
{
    struct wfpsa_store *store = make_store(100, 0);
    HANDLE engine = open_engine(store);
    struct wfpsa_columns *all = everything(engine, 0);
    static IPSEC_SA_CONTEXT1 *found[3000];
    for (size_t i = 0; i < COUNT(found); i++) {
        CHECK_EQUAL(os->sa_context_get_by_id1(engine, U64(all, context_id, i % 100), &found[i]), 0);
    }
    CHECK_EQUAL(live_now().pages, (int64_t)COUNT(found));
    for (size_t i = 0; i < COUNT(found); i++) {
        size_t which = i * 1009 % COUNT(found);
        CHECK_EQUAL(found[which]->saContextId, U64(all, context_id, which % 100));
        os->free_memory((void **)&found[which]);
    }
    CHECK_EQUAL(live_now().pages, 0);
    wfpsa_columns_release(all);
    close_engine(engine);
    wfpsa_store_release(store);
}

/* The address sanitizer ends the program at such a write, and better so. */
#if !WFPSA_ADDRESS_SANITIZED
static const char written[] = "a result was written to after it was freed";

static void
a_write_into_a_freed_result_is_noticed(void)
{
    struct wfpsa_store *store = make_store(100, 0);
    HANDLE engine = open_engine(store);
    struct wfpsa_columns *all = everything(engine, 0);
    uint64_t id = U64(all, context_id, 0);
    for (int later = 0; later <= 1; later++) { /* noticed when asked for, or when its memory is given back */
        IPSEC_SA_CONTEXT1 *found = NULL, *volatile kept;
        CHECK_EQUAL(os->sa_context_get_by_id1(engine, id, &found), 0);
        kept = found;
        os->free_memory((void **)&found);
        CHECK(kept->saContextId != id); /* nothing of it is left to read */
        kept->saContextId = id;
        for (int i = 0; later && i < 100; i++) {
            CHECK_EQUAL(os->sa_context_get_by_id1(engine, id, &found), 0);
            os->free_memory((void **)&found);
        }
        CHECK(only_seen("FwpmFreeMemory0", written, 1));
        CHECK_EQUAL(live_now().misuses, 0); /* told once */
    }
    wfpsa_columns_release(all);
    close_engine(engine);
    wfpsa_store_release(store);
}
#endif

/* ---- handles ---- */

static void
every_function_refuses_an_engine_handle_that_is_none(void)
{
    static uint64_t block[64];
    struct wfpsa_store *store = make_store(10, 0);
    HANDLE engine = open_engine(store), closed = open_engine(store), handle = begin(engine, NULL);
    struct listener *listener = listening(engine, NULL);
    close_engine(closed);
    HANDLE wrong[] = {closed,
                      block,
                      &store,
                      handle,
                      listener->events,
                      (HANDLE)((uintptr_t)engine + 1),
                      (HANDLE)((uintptr_t)engine + 4),
                      (HANDLE)UINTPTR_MAX,
                      (HANDLE)(uintptr_t)4};
    const char *function;
    uint32_t functions = 0;
    for (; (function = function_at(functions)) != NULL; functions++) {
        struct with with = {NULL, handle, listener->events, 1};
        CHECK_EQUAL(call_function(function, &with), (DWORD)FWP_E_NULL_POINTER); /* NULL is no wrong use */
        CHECK_EQUAL(live_now().misuses, 0);
        for (size_t i = 0; i < COUNT(wrong); i++) {
            with.engine = wrong[i];
            if (!CHECK_EQUAL(call_function(function, &with), ERROR_INVALID_HANDLE)) {
                fprintf(stderr, "%s, handle %u\n", function, (unsigned)i);
            }
        }
        CHECK(only_seen(function, bad_engine, (int64_t)COUNT(wrong)));
    }
    CHECK_EQUAL(functions, 22);
    CHECK_EQUAL(wfpsa_store_count(store), 10);
    struct wfpsa_columns *batch = rest_of(engine, handle, 1, 4);
    CHECK_EQUAL(batch->length, 10);
    wfpsa_columns_release(batch);
    end(engine, handle);
    listening_ends(listener);
    close_engine(engine);
    wfpsa_store_release(store);
}

static const char *const enumerating[] = {"IPsecSaContextEnum0", "IPsecSaContextEnum1",
                                          "IPsecSaContextDestroyEnumHandle0"};

static void
an_enumeration_handle_is_refused_after_its_end_and_where_it_is_none(void)
{
    static uint64_t block[64];
    struct wfpsa_store *store = make_store(10, 0), *other = make_store(10, 0);
    HANDLE engine = open_engine(store), elsewhere = open_engine(other), open = begin(engine, NULL),
           destroyed = begin(engine, NULL), of_another_store = begin(elsewhere, NULL);
    struct listener *listener = listening(engine, NULL);
    end(engine, destroyed);
    HANDLE wrong[] = {destroyed, block, &store, engine, listener->events, of_another_store, (char *)open + 1};
    for (size_t f = 0; f < COUNT(enumerating); f++) {
        struct with with = {engine, NULL, NULL, 0};
        CHECK_EQUAL(call_function(enumerating[f], &with), (DWORD)FWP_E_NULL_POINTER);
        for (size_t i = 0; i < COUNT(wrong); i++) {
            with.enumeration = wrong[i];
            CHECK_EQUAL(call_function(enumerating[f], &with), ERROR_INVALID_HANDLE);
        }
        CHECK(only_seen(enumerating[f], bad_enumeration, (int64_t)COUNT(wrong)));
    }
    end(engine, open);
    end(elsewhere, of_another_store);
    listening_ends(listener);
    close_engine(engine);
    close_engine(elsewhere);
    wfpsa_store_release(store);
    wfpsa_store_release(other);
}

static void
a_subscription_handle_is_refused_after_its_end_and_where_it_is_none(void)
{
    static uint64_t block[64];
    struct wfpsa_store *store = make_store(10, 0), *other = make_store(10, 0);
    HANDLE engine = open_engine(store), elsewhere = open_engine(other), handle = begin(engine, NULL);
    struct listener *ended = listening(engine, NULL), *of_another_store = listening(elsewhere, NULL);
    HANDLE wrong[] = {ended->events, block, &store, engine, handle, of_another_store->events};
    listening_ends(ended);
    for (size_t i = 0; i < COUNT(wrong); i++) {
        CHECK_EQUAL(os->sa_context_unsubscribe(engine, wrong[i]), ERROR_INVALID_HANDLE);
    }
    CHECK(only_seen("IPsecSaContextUnsubscribe0", bad_subscription, (int64_t)COUNT(wrong)));
    end(engine, handle);
    listening_ends(of_another_store);
    close_engine(engine);
    close_engine(elsewhere);
    wfpsa_store_release(store);
    wfpsa_store_release(other);
}

static void
a_handle_of_another_session_gives_what_the_switch_says(void)
{
    static const char *const choices[] = {"wrong_session", "invalid_handle"};
    static const DWORD codes[] = {(DWORD)FWP_E_WRONG_SESSION, ERROR_INVALID_HANDLE};
    struct wfpsa_store *store = make_store(10, 0);
    HANDLE engine = open_engine(store), owner = open_engine(store), handle = begin(owner, NULL);
    struct listener *listener = listening(owner, NULL);
    struct with with = {engine, handle, listener->events, 0};
    for (size_t i = 0; i < COUNT(choices); i++) {
        CHECK(wfpsa_store_switch(store, "foreign_handle", choices[i]));
        for (size_t f = 0; f < COUNT(enumerating); f++) {
            CHECK_EQUAL(call_function(enumerating[f], &with), codes[i]);
            CHECK(only_seen(enumerating[f], other_session, 1));
        }
        CHECK_EQUAL(call_function("IPsecSaContextUnsubscribe0", &with), codes[i]);
        CHECK(only_seen("IPsecSaContextUnsubscribe0", other_session, 1));
    }
    struct wfpsa_columns *batch = rest_of(owner, handle, 1, 4); /* its owner lost nothing */
    CHECK_EQUAL(batch->length, 10);
    wfpsa_columns_release(batch);
    end(owner, handle);
    listening_ends(listener);
    close_engine(engine);
    close_engine(owner);
    wfpsa_store_release(store);
}

static void
end_oneself(struct listener *listener)
{
    listener->codes[0] = os->sa_context_unsubscribe(listener->engine, listener->events);
    listener->codes[1] = os->engine_close(listener->engine);
}

static void
ending_from_within_ones_own_callback_is_counted_under_either_name(void)
{
    struct wfpsa_store *store = make_store(0, 0);
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(1);
    struct listener *listener = listening(engine, NULL);
    wfpsa_mutex_lock(&listener->mutex);
    listener->also = end_oneself;
    wfpsa_mutex_unlock(&listener->mutex);
    create(engine, &traffic);
    CHECK(until_told(listener, 1));
    CHECK_EQUAL(os->sa_context_unsubscribe(engine, listener->events), 0);
    CHECK(listener->codes[0] == ERROR_POSSIBLE_DEADLOCK && listener->codes[1] == ERROR_POSSIBLE_DEADLOCK);
    CHECK_EQUAL(live_now().misuses, 2);
    CHECK_EQUAL(seen("IPsecSaContextUnsubscribe0", own_callback), 1);
    CHECK_EQUAL(seen("FwpmEngineClose0", own_callback), 1);
    wfpsa_embedded_forget_misuses();
    listener_free(listener);
    close_engine(engine);
    wfpsa_store_release(store);
}

int
main(void)
{
    RUN(a_second_free_is_noticed_and_harms_nothing);
    RUN(what_is_no_result_is_not_freed);
    RUN(each_of_many_results_is_found);
#if !WFPSA_ADDRESS_SANITIZED
    RUN(a_write_into_a_freed_result_is_noticed);
#endif
    RUN(every_function_refuses_an_engine_handle_that_is_none);
    RUN(an_enumeration_handle_is_refused_after_its_end_and_where_it_is_none);
    RUN(a_subscription_handle_is_refused_after_its_end_and_where_it_is_none);
    RUN(a_handle_of_another_session_gives_what_the_switch_says);
    RUN(ending_from_within_ones_own_callback_is_counted_under_either_name);
    return closing_line();
}
