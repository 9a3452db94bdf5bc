/* Change notifications: who is told what and when, the end of a subscription, overflow, and the library's ring. */
#include "listener.h"
#include "threads.h"

#include "wfpsa/events.h"

#define NULL_POINTER ((DWORD)FWP_E_NULL_POINTER)
#define DROPPED ((DWORD)FWP_E_NOTIFICATION_DROPPED)

static struct wfpsa_store *
manual_store(void)
{
    struct wfpsa_store *store = empty_store();
    wfpsa_store_clock(store, 1);
    return store;
}

static uint64_t
create_to(HANDLE engine, uint32_t number)
{
    IPSEC_TRAFFIC1 traffic = traffic_to(number);
    return create(engine, &traffic);
}

static uint64_t
keyed_to(HANDLE engine, uint32_t number, uint32_t seconds_in, uint32_t seconds_out)
{
    IPSEC_TRAFFIC1 traffic = traffic_to(number);
    return keyed(engine, &traffic, seconds_in, seconds_out);
}

/* ---- what is told ---- */

static void
creation_and_deletion_are_told_in_order_by_another_thread(void)
{
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store);
    struct listener *listener = listening(engine, NULL);
    uint64_t first = create_to(engine, 1), second = keyed_to(engine, 2, 0, 0);
    CHECK_EQUAL(os->sa_context_delete_by_id(engine, first), 0);
    uint64_t third = create_to(engine, 3);
    CHECK_EQUAL(os->sa_context_delete_by_id(engine, second), 0);
    CHECK_TOLD(listener, 0, ADDED, first);
    CHECK_TOLD(listener, 1, ADDED, second); /* and nothing of its keying */
    CHECK_TOLD(listener, 2, DELETED, first);
    CHECK_TOLD(listener, 3, ADDED, third);
    CHECK_TOLD(listener, 4, DELETED, second);
    CHECK(listener->thread != wfpsa_thread_id());
    CHECK_EQUAL(told(listener), 5);
    listening_ends(listener);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
an_addition_is_told_with_the_outbound_sa_where_the_switch_says_so(void)
{
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store);
    struct listener *listener = listening(engine, NULL);
    struct bundle filled;
    IPSEC_TRAFFIC1 traffic = traffic_to(2);
    CHECK(wfpsa_store_switch(store, "add_event", "outbound"));
    create_to(engine, 1);
    uint64_t id = create(engine, &traffic);
    bundle_fill(&filled, get_spi(engine, id, &traffic), 1);
    CHECK_EQUAL(os->sa_context_add_inbound1(engine, id, &filled.bundle), 0);
    uint64_t whole = keyed_to(engine, 3, 0, 0);
    CHECK_EQUAL(os->sa_context_add_outbound1(engine, id, &filled.bundle), 0);
    uint64_t again = keyed_to(engine, 3, 0, 0); /* takes the older one's place */
    CHECK_TOLD(listener, 0, ADDED, whole);
    CHECK_TOLD(listener, 1, ADDED, id);
    CHECK_TOLD(listener, 2, ADDED, again);
    CHECK_TOLD(listener, 3, DELETED, whole);
    CHECK_EQUAL(told(listener), 4);
    listening_ends(listener);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
the_end_of_an_expired_context_is_told_when_it_goes_or_at_its_expiry(void)
{
    for (int at_expiry = 0; at_expiry <= 1; at_expiry++) {
        struct wfpsa_store *store = manual_store();
        HANDLE engine = open_engine(store);
        CHECK(wfpsa_store_switch(store, "delete_event", at_expiry ? "expiry" : "removal"));
        uint64_t id = keyed_to(engine, 1, 0, 0), deleted = keyed_to(engine, 2, 0, 0),
                 half_built = create_to(engine, 3);
        struct listener *listener = listening(engine, NULL);
        CHECK_EQUAL(os->sa_context_expire(engine, id), 0);
        CHECK_EQUAL(os->sa_context_expire(engine, id), 0); /* a second expiry tells nothing */
        CHECK_EQUAL(os->sa_context_delete_by_id(engine, deleted), 0);
        CHECK_EQUAL(os->sa_context_expire(engine, half_built), 0); /* it goes at once */
        wfpsa_store_advance(store, 60000);
        uint64_t last = create_to(engine, 4);
        CHECK_TOLD(listener, at_expiry ? 0 : 2, DELETED, id);
        CHECK_TOLD(listener, at_expiry ? 1 : 0, DELETED, deleted);
        CHECK_TOLD(listener, at_expiry ? 2 : 1, DELETED, half_built);
        CHECK_TOLD(listener, 3, ADDED, last);
        CHECK_EQUAL(told(listener), 4);
        listening_ends(listener);
        close_engine(engine);
        wfpsa_store_release(store);
    }
}

static void
the_end_of_the_last_lifetime_is_told_without_any_call(void)
{
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store);
    struct listener *listener = listening(engine, NULL);
    uint64_t late = keyed_to(engine, 1, 10, 30), early = keyed_to(engine, 2, 20, 10);
    wfpsa_store_advance(store, 10000); /* one direction of each: no event */
    wfpsa_store_advance(store, 10000);
    CHECK_TOLD(listener, 2, DELETED, early);
    wfpsa_store_advance(store, 10000);
    CHECK_TOLD(listener, 3, DELETED, late);
    uint64_t brief = keyed_to(engine, 3, 1, 1);
    CHECK_TOLD(listener, 4, ADDED, brief);
    wfpsa_store_clock(store, 0);
    CHECK_TOLD(listener, 5, DELETED, brief); /* after a second of real time */
    listening_ends(listener);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
an_older_duplicate_is_told_deleted(void)
{
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store);
    struct listener *listener = listening(engine, NULL);
    uint64_t old = keyed_to(engine, 1, 0, 0), new = keyed_to(engine, 1, 0, 0);
    CHECK_TOLD(listener, 0, ADDED, old);
    CHECK_TOLD(listener, 1, ADDED, new);
    CHECK_TOLD(listener, 2, DELETED, old);
    listening_ends(listener);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
seeded_and_added_contexts_are_told_too(void)
{
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store);
    struct listener *listener = listening(engine, NULL);
    IPSEC_SA_CONTEXT1 context = {77, NULL, NULL};
    uint64_t id;
    CHECK(wfpsa_store_seed(store, 500, 1, 1));
    CHECK_EQUAL(wfpsa_store_add(store, &context, &id), 0);
    CHECK(until_told(listener, 501));
    struct wfpsa_columns *all = everything(engine, 0);
    for (uint32_t row = 0; row < 501; row++) {
        CHECK_TOLD(listener, row, ADDED, U64(all, context_id, row));
    }
    for (uint64_t nth = 1, struck = 1; struck; nth += 50) { /* a population that fails is not told */
        wfpsa_embedded_fail_allocation(nth);
        CHECK_EQUAL(wfpsa_store_seed(store, 10, nth, 0), !(struck = (uint64_t)failure_struck(nth)));
    }
    CHECK(until_told(listener, 511));
    uint64_t last = create_to(engine, 1);
    CHECK_TOLD(listener, 511, ADDED, last);
    wfpsa_columns_release(all);
    listening_ends(listener);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
a_template_selects_by_either_address(void)
{
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store);
    FWP_V4_ADDR_AND_MASK net4 = {0x0A010000, 0xFFFFFF00}, all4 = {0, 0};
    FWP_V6_ADDR_AND_MASK net6 = {{0xFD, 0x12}, 16};
    FWP_BYTE_ARRAY16 host6;
    IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 wanted[5];
    struct listener *listeners[COUNT(wanted)];
    IPSEC_TRAFFIC1 v6 = traffic6_to(1), other6 = traffic6_to(2);
    memcpy(host6.byteArray16, v6.remoteV6Address, 16);
    for (size_t i = 0; i < COUNT(wanted); i++) {
        wanted[i] = empty_template();
    }
    wanted[0].remoteSubNet.type = FWP_V4_ADDR_MASK;
    wanted[0].remoteSubNet.v4AddrMask = &net4;
    wanted[1].localSubNet.type = FWP_V4_ADDR_MASK;
    wanted[1].localSubNet.v4AddrMask = &all4;
    wanted[2].remoteSubNet.type = FWP_V6_ADDR_MASK;
    wanted[2].remoteSubNet.v6AddrMask = &net6;
    wanted[3].remoteSubNet.type = FWP_BYTE_ARRAY16_TYPE;
    wanted[3].remoteSubNet.byteArray16 = &host6;
    wanted[4].remoteSubNet.type = FWP_UINT32;
    wanted[4].remoteSubNet.uint32 = 0x0A010203;
    for (size_t i = 0; i < COUNT(wanted); i++) {
        listeners[i] = listening(engine, &wanted[i]);
    }
    memset(&net4, 0xFF, sizeof net4); /* templates are read at the call */
    memset(&net6, 0xFF, sizeof net6);
    uint64_t ids[4] = {create_to(engine, 7), create_to(engine, 0x203), create(engine, &v6), create(engine, &other6)};
    static const int expected[COUNT(wanted)][4] = {
        {1, 0, 0, 0}, {1, 1, 0, 0}, {0, 0, 1, 1}, {0, 0, 1, 0}, {0, 1, 0, 0}};
    for (size_t i = 0; i < 4; i++) {
        CHECK_EQUAL(os->sa_context_delete_by_id(engine, ids[i]), 0);
    }
    for (size_t i = 0; i < COUNT(wanted); i++) {
        uint32_t n = 0;
        for (size_t j = 0; j < 4; j++) {
            if (expected[i][j]) {
                CHECK_TOLD(listeners[i], n++, ADDED, ids[j]);
            }
        }
        for (size_t j = 0; j < 4; j++) {
            if (expected[i][j]) {
                CHECK_TOLD(listeners[i], n++, DELETED, ids[j]);
            }
        }
        CHECK_EQUAL(told(listeners[i]), n);
        listening_ends(listeners[i]);
    }
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
bad_subscriptions_are_refused(void)
{
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store), events = NULL;
    IPSEC_SA_CONTEXT_SUBSCRIPTION0 wanted;
    IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 template = empty_template();
    FWP_V4_ADDR_AND_MASK holes = {0, 0xFF00FF00};
    memset(&wanted, 0, sizeof wanted);
    CHECK_EQUAL(os->sa_context_subscribe(engine, NULL, note_change, NULL, &events), NULL_POINTER);
    CHECK_EQUAL(os->sa_context_subscribe(engine, &wanted, NULL, NULL, &events), NULL_POINTER);
    CHECK_EQUAL(os->sa_context_subscribe(engine, &wanted, note_change, NULL, NULL), NULL_POINTER);
    wanted.flags = 1;
    CHECK_EQUAL(os->sa_context_subscribe(engine, &wanted, note_change, NULL, &events), (DWORD)FWP_E_INVALID_FLAGS);
    wanted.flags = 0;
    wanted.enumTemplate = &template;
    template.localSubNet.type = FWP_UINT64;
    CHECK_EQUAL(os->sa_context_subscribe(engine, &wanted, note_change, NULL, &events), (DWORD)FWP_E_TYPE_MISMATCH);
    template.localSubNet.type = FWP_V4_ADDR_MASK;
    CHECK_EQUAL(os->sa_context_subscribe(engine, &wanted, note_change, NULL, &events), NULL_POINTER);
    template.localSubNet.v4AddrMask = &holes;
    CHECK_EQUAL(os->sa_context_subscribe(engine, &wanted, note_change, NULL, &events), (DWORD)FWP_E_INVALID_NET_MASK);
    CHECK(wfpsa_store_switch(store, "templates", "v6_mask"));
    template.localSubNet.type = FWP_UINT32;
    CHECK_EQUAL(os->sa_context_subscribe(engine, &wanted, note_change, NULL, &events), (DWORD)FWP_E_TYPE_MISMATCH);
    CHECK(events == NULL && live_now().subscriptions == 0);
    CHECK_EQUAL(os->sa_context_unsubscribe(engine, NULL), 0); /* no effect, as documented */
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
whoever_may_read_may_subscribe_and_others_may_not(void)
{
    for (int rights = WFPSA_RIGHTS_ADMINISTRATOR; rights <= WFPSA_RIGHTS_EVERYONE; rights++) {
        struct wfpsa_store *store = manual_store();
        DWORD expected = rights == WFPSA_RIGHTS_EVERYONE ? ERROR_ACCESS_DENIED : 0;
        wfpsa_store_rights(store, (enum wfpsa_rights)rights);
        struct with with = {open_engine(store), NULL, NULL, 0};
        CHECK_EQUAL(call_function("IPsecSaContextSubscribe0", &with), expected);
        CHECK_EQUAL(call_function("IPsecSaContextSubscriptionsGet0", &with), expected);
        close_engine(with.engine);
        wfpsa_store_release(store);
    }
}

/* ---- the end ---- */

static void
nothing_is_told_after_unsubscribe_has_returned(void)
{
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store);
    struct listener *other = listening(engine, NULL);
    for (uint32_t round = 0; round < 50; round++) {
        struct listener *listener = listening(engine, NULL);
        for (uint32_t i = 0; i < 20; i++) {
            create_to(engine, round * 20 + i);
        }
        CHECK_EQUAL(os->sa_context_unsubscribe(engine, listener->events), 0);
        CHECK_EQUAL(listener->inside, 0); /* without its lock: nobody is there any more */
        CHECK(listener->count <= 20);
        listener_free(listener);
        create_to(engine, round * 20);
    }
    CHECK(until_told(other, 50 * 21)); /* and the others lost nothing */
    listening_ends(other);
    close_engine(engine);
    wfpsa_store_release(store);
}

struct ender {
    struct wfpsa_thread thread;
    HANDLE engine, events; /* events NULL: closes the session */
    volatile int64_t ended;
    DWORD code;
};

static void
end_it(void *argument)
{
    struct ender *ender = argument;
    ender->code =
        ender->events ? os->sa_context_unsubscribe(ender->engine, ender->events) : os->engine_close(ender->engine);
    wfpsa_atomic_add(&ender->ended, 1);
}

/* How many subscriptions are listed: not those that are ending. */
static uint32_t
listed(HANDLE engine)
{
    IPSEC_SA_CONTEXT_SUBSCRIPTION0 **list = NULL;
    UINT32 count = 0;
    CHECK_EQUAL(os->sa_context_subscriptions_get(engine, &list, &count), 0);
    os->free_memory((void **)&list);
    return count;
}

static void
the_end_of_a_subscription_waits_for_a_running_callback(void)
{
    for (int closes = 0; closes <= 1; closes++) {
        struct wfpsa_store *store = manual_store();
        HANDLE engine = open_engine(store), maker = open_engine(store);
        struct listener *listener = listening(engine, NULL);
        struct ender ender;
        memset(&ender, 0, sizeof ender);
        ender.engine = engine;
        ender.events = closes ? NULL : listener->events;
        keep_inside(listener, 1);
        create_to(maker, 1);
        create_to(maker, 2);
        CHECK(until_told(listener, 1));
        thread_start(&ender.thread, end_it, &ender);
        for (int i = 0; i < PATIENCE_ROUNDS && listed(maker) > 0; i++) { /* until it has begun to end */
            wfpsa_sleep_ns(500000);
        }
        for (int i = 0; i < 100; i++) { /* room to be wrong in */
            wfpsa_sleep_ns(200000);
            CHECK_EQUAL(wfpsa_atomic_load(&ender.ended), 0);
        }
        create_to(maker, 3); /* the store goes on meanwhile */
        keep_inside(listener, 0);
        wfpsa_thread_join(&ender.thread);
        CHECK_EQUAL(ender.code, 0);
        CHECK(listener->count == 1 && listener->inside == 0); /* the rest was dropped */
        listener_free(listener);
        CHECK_EQUAL(live_now().subscriptions, 0);
        if (!closes) {
            close_engine(engine);
        }
        close_engine(maker);
        wfpsa_store_release(store);
    }
}

static void
try_to_wait_for_oneself(struct listener *listener)
{
    listener->codes[0] = os->sa_context_unsubscribe(listener->engine, listener->events);
    listener->codes[1] = os->engine_close(listener->engine);
}

static void
from_within_its_own_callback_nothing_can_end_and_all_goes_on(void)
{
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store), maker = open_engine(store);
    struct listener *listener = listening(engine, NULL);
    listener->also = try_to_wait_for_oneself;
    create_to(maker, 1);
    create_to(maker, 2);
    CHECK(until_told(listener, 2));
    CHECK_EQUAL(os->sa_context_unsubscribe(engine, listener->events), 0);
    CHECK_EQUAL(listener->codes[0], ERROR_POSSIBLE_DEADLOCK);
    CHECK_EQUAL(listener->codes[1], ERROR_POSSIBLE_DEADLOCK);
    CHECK_EQUAL(live_now().engines, 2);
    listener_free(listener);
    wfpsa_embedded_forget_misuses();
    close_engine(engine);
    close_engine(maker);
    wfpsa_store_release(store);
}

static void
use_the_engine(struct listener *listener)
{
    struct listener *other = listener->argument;
    IPSEC_SA_CONTEXT1 *found = NULL;
    listener->codes[0] = os->sa_context_get_by_id1(listener->engine, listener->changes[0].saContextId, &found);
    os->free_memory((void **)&found);
    listener->codes[1] = os->sa_context_unsubscribe(other->engine, other->events);
    listener->codes[2] = os->engine_close(other->engine);
    listener->also = NULL;
}

static void
a_callback_may_use_the_engine_and_end_others(void)
{
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store), second = open_engine(store);
    struct listener *listener = listening(engine, NULL), *other = listening(second, NULL);
    wfpsa_mutex_lock(&listener->mutex);
    listener->codes[0] = listener->codes[1] = listener->codes[2] = 77;
    listener->argument = other;
    listener->also = use_the_engine;
    wfpsa_mutex_unlock(&listener->mutex);
    create_to(engine, 1);
    for (int i = 0; i < PATIENCE_ROUNDS && live_now().engines == 2; i++) {
        wfpsa_sleep_ns(500000);
    }
    CHECK_EQUAL(os->sa_context_unsubscribe(engine, listener->events), 0); /* waits for it */
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(listener->codes[i], 0);
    }
    listener_free(listener);
    listener_free(other);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
the_end_of_a_session_ends_all_its_subscriptions_and_no_others(void)
{
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store), other = open_engine(store);
    struct listener *own[10], *kept = listening(other, NULL);
    for (size_t i = 0; i < COUNT(own); i++) {
        own[i] = listening(engine, NULL);
    }
    uint64_t first = create_to(other, 1);
    CHECK_TOLD(kept, 0, ADDED, first);
    CHECK_EQUAL(live_now().subscriptions, 11);
    close_engine(engine);
    CHECK_EQUAL(live_now().subscriptions, 1);
    for (size_t i = 0; i < COUNT(own); i++) {
        listener_free(own[i]);
    }
    uint64_t second = create_to(other, 2);
    CHECK_TOLD(kept, 1, ADDED, second);
    listening_ends(kept);
    close_engine(other);
    wfpsa_store_release(store);
}

/* ---- holding and overflow ---- */

static void
what_is_held_back_is_told_later_in_its_order(void)
{
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store);
    uint64_t ids[200];
    wfpsa_store_notifications(store, 1000, 1);
    struct listener *listener = listening(engine, NULL), *ended = listening(engine, NULL);
    for (uint32_t i = 0; i < COUNT(ids); i++) { /* the queue grows meanwhile */
        ids[i] = create_to(engine, i);
    }
    CHECK_EQUAL(told(listener), 0);
    CHECK_EQUAL(os->sa_context_unsubscribe(engine, ended->events), 0); /* not lost, but no longer wanted */
    wfpsa_store_notifications(store, 1000, 0);
    for (uint32_t i = 0; i < COUNT(ids); i++) {
        CHECK_TOLD(listener, i, ADDED, ids[i]);
    }
    CHECK_EQUAL(ended->count, 0);
    listener_free(ended);
    listening_ends(listener);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
a_full_queue_loses_the_newest_and_the_end_says_so_or_not(void)
{
    static const uint32_t capacities[] = {0, 1, 4, 9, 10};
    for (int silent = 0; silent <= 1; silent++) {
        for (size_t i = 0; i < COUNT(capacities); i++) {
            struct wfpsa_store *store = manual_store();
            HANDLE engine = open_engine(store);
            uint64_t ids[10];
            CHECK(wfpsa_store_switch(store, "overflow", silent ? "silent" : "reported"));
            wfpsa_store_notifications(store, capacities[i], 1);
            struct listener *listener = listening(engine, NULL);
            wfpsa_store_notifications(store, 65536, 1); /* for later ones */
            struct listener *roomy = listening(engine, NULL);
            for (uint32_t j = 0; j < COUNT(ids); j++) {
                ids[j] = create_to(engine, j);
            }
            wfpsa_store_notifications(store, 65536, 0);
            for (uint32_t j = 0; j < capacities[i]; j++) {
                CHECK_TOLD(listener, j, ADDED, ids[j]);
            }
            CHECK_TOLD(roomy, 9, ADDED, ids[9]);
            CHECK_EQUAL(os->sa_context_unsubscribe(engine, listener->events),
                        capacities[i] < 10 && !silent ? DROPPED : 0);
            CHECK_EQUAL(listener->count, capacities[i]);
            CHECK_EQUAL(live_now().subscriptions, 1); /* ended all the same */
            listener_free(listener);
            listening_ends(roomy);
            close_engine(engine);
            wfpsa_store_release(store);
        }
    }
}

static void
an_event_without_memory_is_lost_like_one_without_room(void)
{
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(1);
    for (uint32_t i = 0; i < 3; i++) { /* the store has room for a fourth */
        create_to(engine, i);
    }
    wfpsa_store_notifications(store, 65536, 1);
    struct listener *listener = listening(engine, NULL);
    UINT64 id;
    wfpsa_embedded_fail_allocation(1);
    CHECK_EQUAL(os->sa_context_create1(engine, &traffic, NULL, NULL, &id), 0); /* the call is none the worse for it */
    CHECK(failure_struck(1));
    uint64_t next = create_to(engine, 2);
    wfpsa_store_notifications(store, 65536, 0);
    CHECK_TOLD(listener, 0, ADDED, next);
    CHECK_EQUAL(os->sa_context_unsubscribe(engine, listener->events), DROPPED);
    CHECK_EQUAL(listener->count, 1);
    listener_free(listener);
    close_engine(engine);
    wfpsa_store_release(store);
}

/* ---- the list of subscriptions ---- */

static void
the_list_shows_the_subscriptions_of_all_sessions_in_one_block(void)
{
    static const GUID keys[2] = {{1, 2, 3, {4}}, {5, 6, 7, {8}}};
    struct wfpsa_store *store = manual_store();
    HANDLE engines[2];
    FWP_V4_ADDR_AND_MASK net4 = {0x0A010203, 0xFFFF0000};
    FWP_V6_ADDR_AND_MASK net6 = {{0x20, 0x01, 0x0D, 0xB8, 5}, 32};
    IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 v4 = empty_template(), v6 = empty_template(), any = empty_template();
    IPSEC_SA_CONTEXT_SUBSCRIPTION0 **list = (IPSEC_SA_CONTEXT_SUBSCRIPTION0 **)&list;
    UINT32 count = 99;
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(try_open(store, 0, &keys[i], 0, &engines[i]), 0);
    }
    CHECK_EQUAL(os->sa_context_subscriptions_get(engines[0], &list, &count), 0);
    CHECK(list == NULL && count == 0);
    CHECK_EQUAL(os->sa_context_subscriptions_get(engines[0], NULL, &count), NULL_POINTER);
    CHECK_EQUAL(os->sa_context_subscriptions_get(engines[0], &list, NULL), NULL_POINTER);

    v4.localSubNet.type = FWP_UINT32;
    v4.localSubNet.uint32 = 0x0A000001;
    v4.remoteSubNet.type = FWP_V4_ADDR_MASK;
    v4.remoteSubNet.v4AddrMask = &net4;
    v6.remoteSubNet.type = FWP_V6_ADDR_MASK;
    v6.remoteSubNet.v6AddrMask = &net6;
    struct listener *listeners[4] = {listening(engines[0], &v4), listening(engines[1], &v6),
                                     listening(engines[0], NULL), listening(engines[1], &any)};
    CHECK_EQUAL(os->sa_context_subscriptions_get(engines[1], &list, &count), 0);
    CHECK_EQUAL(count, 4);
    CHECK_EQUAL(live_now().pages, 1);
    for (size_t i = 0; i < COUNT(listeners); i++) {
        listening_ends(listeners[i]);
    }
    int seen_v4 = 0, seen_v6 = 0, seen_none = 0, seen_any = 0; /* in an order that nobody promises */
    for (UINT32 i = 0; i < count; i++) {
        const IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 *template = list[i]->enumTemplate;
        int session = memcmp(&list[i]->sessionKey, &keys[1], sizeof(GUID)) == 0;
        CHECK(session || memcmp(&list[i]->sessionKey, &keys[0], sizeof(GUID)) == 0);
        CHECK_EQUAL(list[i]->flags, 0);
        if (!template) {
            seen_none += session == 0;
        } else if (template->remoteSubNet.type == FWP_V4_ADDR_MASK) {
            seen_v4 += session == 0 && template->remoteSubNet.v4AddrMask->addr == 0x0A010000 &&
                       template->remoteSubNet.v4AddrMask->mask == 0xFFFF0000 &&
                       template->localSubNet.type == FWP_V4_ADDR_MASK && /* a host comes as a subnet of one */
                       template->localSubNet.v4AddrMask->addr == 0x0A000001 &&
                       template->localSubNet.v4AddrMask->mask == 0xFFFFFFFF;
        } else if (template->remoteSubNet.type == FWP_V6_ADDR_MASK) {
            seen_v6 += session == 1 && template->localSubNet.type == FWP_EMPTY &&
                       memcmp(template->remoteSubNet.v6AddrMask, &net6, sizeof net6) == 0;
        } else {
            seen_any += session == 1 && template->localSubNet.type == FWP_EMPTY;
        }
    }
    CHECK(seen_v4 == 1 && seen_v6 == 1 && seen_none == 1 && seen_any == 1);
    os->free_memory((void **)&list);
    CHECK(list == NULL && live_now().pages == 0);
    close_engine(engines[0]);
    close_engine(engines[1]);
    wfpsa_store_release(store);
}

/* ---- churn ---- */

/* Whether no context is told deleted that was not told added, and none twice. */
static int
is_consistent(const struct listener *listener, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t added = 0, earlier = 0;
        for (uint32_t j = 0; j < i; j++) {
            if (listener->changes[j].saContextId == listener->changes[i].saContextId) {
                earlier++;
                added += listener->changes[j].changeType == ADDED;
            }
        }
        if (listener->changes[i].changeType == ADDED ? earlier != 0 : earlier != added || added != 1) {
            return 0;
        }
    }
    return 1;
}

static void
many_subscribers_see_the_same_churn_in_the_same_order(void)
{
    enum { EVENTS = 400 };
    struct wfpsa_store *store = empty_store(); /* on the real clock: nobody calls anything */
    HANDLE engines[2] = {open_engine(store), open_engine(store)};
    struct listener *listeners[6];
    for (size_t i = 0; i < COUNT(listeners); i++) {
        listeners[i] = listening(engines[i % 2], NULL);
    }
    CHECK(wfpsa_store_churn(store, 5000, 3));
    for (size_t i = 0; i < COUNT(listeners); i++) {
        CHECK(until_told(listeners[i], EVENTS));
    }
    CHECK_EQUAL(os->engine_close(engines[1]), 0); /* in the midst of it */
    CHECK(until_told(listeners[0], EVENTS + 50));
    CHECK(wfpsa_store_churn(store, 0, 0));
    uint64_t count = wfpsa_store_count(store);
    for (size_t i = 0; i < COUNT(listeners); i += 2) {
        CHECK_EQUAL(os->sa_context_unsubscribe(engines[0], listeners[i]->events), 0);
    }
    for (size_t i = 0; i < COUNT(listeners); i++) {
        CHECK_BYTES(listeners[i]->changes, listeners[0]->changes, EVENTS * sizeof listeners[0]->changes[0]);
    }
    CHECK(is_consistent(listeners[0], EVENTS));
    for (size_t i = 0; i < COUNT(listeners); i++) {
        listener_free(listeners[i]);
    }
    CHECK_EQUAL(wfpsa_store_count(store), count); /* it has ended */
    close_engine(engines[0]);
    wfpsa_store_release(store);
}

static void
churn_on_a_manual_clock_is_the_same_for_the_same_seed_and_keeps_its_number(void)
{
    struct wfpsa_columns *batches[3];
    for (int i = 0; i < 3; i++) {
        struct wfpsa_store *store = make_store(100, 0);
        HANDLE engine = open_engine(store);
        wfpsa_store_clock(store, 1);
        CHECK(wfpsa_store_switch(store, "lifetimes", "off"));
        CHECK(wfpsa_store_churn(store, 10, i == 2 ? 9 : 8));
        wfpsa_store_advance(store, 99);
        CHECK_EQUAL(statistics_of(engine).totalSasDeleted, 0);
        wfpsa_store_advance(store, 1);
        CHECK_EQUAL(wfpsa_store_count(store), 100); /* one came, one went */
        for (int leaps = 0; leaps < (i == 1 ? 1 : 100); leaps++) {
            wfpsa_store_advance(store, i == 1 ? 10000 : 100);
        }
        batches[i] = everything(engine, 1);
        CHECK_EQUAL(batches[i]->length, 100);
        CHECK(wfpsa_store_churn(store, 0, 0));
        close_engine(engine);
        wfpsa_store_release(store);
    }
    CHECK(same_rows(batches[0], batches[1]));
    CHECK(!same_rows(batches[0], batches[2]));
    for (int i = 0; i < 3; i++) {
        wfpsa_columns_release(batches[i]);
    }
}

/* Makes and deletes until told to stop. */
struct maker {
    struct wfpsa_thread thread;
    HANDLE engine;
    volatile int64_t *stop;
    uint64_t mistakes;
};

static void
make_and_delete(void *argument)
{
    struct maker *maker = argument;
    IPSEC_TRAFFIC1 traffic = traffic_to(1);
    while (!wfpsa_atomic_load(maker->stop)) {
        UINT64 id;
        maker->mistakes += os->sa_context_create1(maker->engine, &traffic, NULL, NULL, &id) != 0;
        maker->mistakes += os->sa_context_delete_by_id(maker->engine, id) != 0;
    }
}

static void
subscriptions_come_and_go_while_contexts_do(void)
{
    struct wfpsa_store *store = empty_store();
    struct maker makers[2];
    volatile int64_t stop = 0;
    for (size_t i = 0; i < COUNT(makers); i++) {
        makers[i].engine = open_engine(store);
        makers[i].stop = &stop;
        makers[i].mistakes = 0;
        thread_start(&makers[i].thread, make_and_delete, &makers[i]);
    }
    for (int round = 0; round < 60; round++) {
        HANDLE engine = open_engine(store);
        struct listener *listeners[3];
        for (size_t i = 0; i < COUNT(listeners); i++) {
            listeners[i] = listening(engine, NULL);
        }
        CHECK(until_told(listeners[round % 3], 5));
        DWORD code = os->sa_context_unsubscribe(engine, listeners[0]->events);
        CHECK(code == 0 || code == DROPPED);
        close_engine(engine);
        for (size_t i = 0; i < COUNT(listeners); i++) {
            CHECK_EQUAL(listeners[i]->inside, 0);
            listener_free(listeners[i]);
        }
    }
    wfpsa_atomic_add(&stop, 1);
    for (size_t i = 0; i < COUNT(makers); i++) {
        wfpsa_thread_join(&makers[i].thread);
        CHECK_EQUAL(makers[i].mistakes, 0);
        close_engine(makers[i].engine);
    }
    wfpsa_store_release(store);
}

/* ---- the library's ring ---- */

static struct wfpsa_session *
session_over(const struct wfpsa_backend *backend, const struct wfpsa_store *store)
{
    struct wfpsa_session *session = NULL;
    struct wfpsa_failure failure;
    CHECK_EQUAL(wfpsa_session_open(backend, wfpsa_store_name(store), 0, &session, &failure), WFPSA_OK);
    return session;
}

static void
end_session(struct wfpsa_session *session)
{
    struct wfpsa_failure failure;
    CHECK_EQUAL(wfpsa_session_close(session, &failure), WFPSA_OK);
    wfpsa_session_free(session);
}

static struct wfpsa_subscription *
subscribe(struct wfpsa_session *session, uint32_t capacity)
{
    struct wfpsa_subscription *subscription = NULL;
    struct wfpsa_failure failure;
    CHECK_EQUAL(wfpsa_subscription_open(session, NULL, capacity, &subscription, &failure), WFPSA_OK);
    return subscription;
}

static void
end_subscription(struct wfpsa_subscription *subscription)
{
    struct wfpsa_failure failure;
    CHECK_EQUAL(wfpsa_subscription_close(subscription, &failure), WFPSA_OK);
    wfpsa_subscription_free(subscription);
}

/* Waits, then takes. */
static int
take_within(struct wfpsa_subscription *subscription, uint64_t wait_ms, struct wfpsa_event *events, uint32_t room,
            uint32_t *taken, uint64_t *lost)
{
    int status = wfpsa_subscription_wait(subscription, wait_ms);
    return status == WFPSA_OK ? wfpsa_subscription_take(subscription, events, room, taken, lost) : status;
}

static void
events_are_taken_in_pieces_and_the_lost_ones_counted(void)
{
    struct wfpsa_store *store = manual_store();
    struct wfpsa_session *session = session_over(os, store);
    HANDLE engine = open_engine(store);
    struct listener *behind = listening(engine, NULL); /* served in turns, the later one first */
    struct wfpsa_subscription *subscription = subscribe(session, 3);
    struct wfpsa_event events[8];
    uint32_t taken = 9;
    uint64_t lost = 9, ids[10];
    CHECK_EQUAL(take_within(subscription, 0, events, 8, &taken, &lost), WFPSA_OK);
    CHECK(taken == 0 && lost == 0);
    for (uint32_t i = 0; i < 10; i++) {
        ids[i] = create_to(engine, i);
    }
    CHECK(until_told(behind, 10));
    listening_ends(behind);
    for (uint32_t i = 0; i < 2; i++) { /* one, then the rest */
        CHECK_EQUAL(take_within(subscription, 0, events, i ? 8 : 1, &taken, &lost), WFPSA_OK);
        CHECK_EQUAL(taken, i ? 2 : 1);
        CHECK_EQUAL(lost, i ? 7 : 0);
        for (uint32_t j = 0; j < taken; j++) {
            CHECK(events[j].kind == WFPSA_ADDED && events[j].lost_before == 0);
            CHECK_EQUAL(events[j].context_id, ids[i + j]);
        }
    }
    CHECK_EQUAL(take_within(subscription, 0, events, 8, &taken, &lost), WFPSA_OK);
    CHECK(taken == 0 && lost == 0);
    end_subscription(subscription);
    close_engine(engine);
    end_session(session);
    wfpsa_store_release(store);
}

static void
what_is_lost_between_two_events_is_told_with_the_second(void)
{
    struct wfpsa_store *store = manual_store();
    struct wfpsa_session *session = session_over(os, store);
    HANDLE engine = open_engine(store);
    struct listener *behind = listening(engine, NULL);
    struct wfpsa_subscription *subscription = subscribe(session, 2);
    struct wfpsa_event events[4];
    uint32_t taken;
    uint64_t lost, ids[5];
    for (uint32_t i = 0; i < 4; i++) {
        ids[i] = create_to(engine, i);
    }
    CHECK(until_told(behind, 4));
    CHECK_EQUAL(take_within(subscription, 0, events, 1, &taken, &lost), WFPSA_OK);
    CHECK(taken == 1 && lost == 0 && events[0].context_id == ids[0] && events[0].lost_before == 0);
    ids[4] = create_to(engine, 4);
    CHECK(until_told(behind, 5));
    CHECK_EQUAL(take_within(subscription, 0, events, 4, &taken, &lost), WFPSA_OK);
    CHECK(taken == 2 && lost == 0);
    CHECK(events[0].context_id == ids[1] && events[0].lost_before == 0);
    CHECK(events[1].context_id == ids[4] && events[1].lost_before == 2);
    listening_ends(behind);
    end_subscription(subscription);
    close_engine(engine);
    end_session(session);
    wfpsa_store_release(store);
}

static void
events_of_an_ended_subscription_can_still_be_taken(void)
{
    struct wfpsa_store *store = manual_store();
    struct wfpsa_session *session = session_over(os, store);
    HANDLE engine = open_engine(store);
    struct wfpsa_subscription *subscription = subscribe(session, 10);
    struct wfpsa_event events[4];
    struct wfpsa_failure failure;
    uint32_t taken;
    uint64_t lost, id = create_to(engine, 1);
    CHECK_EQUAL(take_within(subscription, 60000, events, 4, &taken, &lost), WFPSA_OK);
    CHECK(taken == 1 && events[0].context_id == id);
    CHECK_EQUAL(os->sa_context_delete_by_id(engine, id), 0);
    struct listener *later = listening(engine, NULL);
    create_to(engine, 2);
    CHECK(until_told(later, 1));
    listening_ends(later);
    CHECK_EQUAL(wfpsa_subscription_close(subscription, &failure), WFPSA_OK);
    CHECK_EQUAL(wfpsa_subscription_close(subscription, &failure), WFPSA_OK);
    CHECK_EQUAL(take_within(subscription, UINT64_MAX, events, 4, &taken, &lost), WFPSA_OK);
    CHECK(taken >= 1 && events[0].context_id == id && events[0].kind == WFPSA_DELETED);
    CHECK_EQUAL(take_within(subscription, UINT64_MAX, events, 4, &taken, &lost), WFPSA_CLOSED);
    CHECK(taken == 0 && lost == 0);
    wfpsa_subscription_free(subscription);
    wfpsa_subscription_free(NULL);
    close_engine(engine);
    end_session(session);
    wfpsa_store_release(store);
}

static void
what_the_engine_lost_is_told_at_the_end_as_one_more(void)
{
    struct wfpsa_store *store = manual_store();
    struct wfpsa_session *session = session_over(os, store);
    HANDLE engine = open_engine(store);
    struct wfpsa_failure failure;
    struct wfpsa_event events[4];
    uint32_t taken;
    uint64_t lost;
    wfpsa_store_notifications(store, 1, 1);
    struct wfpsa_subscription *subscription = subscribe(session, 10);
    for (uint32_t i = 0; i < 3; i++) {
        create_to(engine, i);
    }
    CHECK_EQUAL(wfpsa_subscription_close(subscription, &failure), WFPSA_OK);
    CHECK_EQUAL(take_within(subscription, 0, events, 4, &taken, &lost), WFPSA_OK);
    CHECK(taken == 0 && lost == 1);
    CHECK_EQUAL(take_within(subscription, 0, events, 4, &taken, &lost), WFPSA_CLOSED);
    wfpsa_subscription_free(subscription);
    close_engine(engine);
    end_session(session);
    wfpsa_store_release(store);
}

static void
a_subscription_that_cannot_be_opened_says_why(void)
{
    struct wfpsa_store *store = manual_store();
    struct wfpsa_session *session = session_over(os, store);
    struct wfpsa_subscription *subscription = (struct wfpsa_subscription *)&subscription;
    struct wfpsa_failure failure;
    CHECK(wfpsa_store_fail(store, "IPsecSaContextSubscribe0", 1, ERROR_ACCESS_DENIED));
    CHECK_EQUAL(wfpsa_subscription_open(session, NULL, 5, &subscription, &failure), WFPSA_CALL_FAILED);
    CHECK(subscription == NULL);
    CHECK_EQUAL(failure.code, ERROR_ACCESS_DENIED);
    CHECK_TEXT(failure.function, "IPsecSaContextSubscribe0");
    CHECK_EQUAL(wfpsa_session_close(session, &failure), WFPSA_OK);
    CHECK_EQUAL(wfpsa_subscription_open(session, NULL, 5, &subscription, &failure), WFPSA_CLOSED);
    CHECK(subscription == NULL);
    wfpsa_session_free(session);
    wfpsa_store_release(store);
}

static void
one_that_could_not_be_ended_outlives_its_release_until_the_session_ends(void)
{
    for (int released_first = 0; released_first <= 1; released_first++) {
        struct wfpsa_store *store = manual_store();
        struct wfpsa_session *session = session_over(os, store);
        HANDLE engine = open_engine(store);
        struct wfpsa_subscription *subscription = subscribe(session, 4), *sound = subscribe(session, 100);
        struct wfpsa_failure failure;
        struct wfpsa_event events[100];
        uint32_t taken;
        uint64_t lost;
        CHECK(wfpsa_store_fail(store, "IPsecSaContextUnsubscribe0", 1, RPC_S_CALL_FAILED));
        CHECK_EQUAL(wfpsa_subscription_close(subscription, &failure), WFPSA_CALL_FAILED);
        CHECK_EQUAL(failure.code, RPC_S_CALL_FAILED);
        CHECK_TEXT(failure.function, "IPsecSaContextUnsubscribe0");
        CHECK_EQUAL(wfpsa_subscription_close(subscription, &failure), WFPSA_OK);
        CHECK_EQUAL(take_within(subscription, UINT64_MAX, events, 4, &taken, &lost), WFPSA_CLOSED);
        if (released_first) {
            wfpsa_subscription_free(subscription);
        }
        for (uint32_t i = 0; i < 20; i++) { /* its callback still comes */
            create_to(engine, i);
        }
        for (uint32_t seen = 0; seen < 20; seen += taken) {
            if (!CHECK_EQUAL(take_within(sound, 60000, events, 100, &taken, &lost), WFPSA_OK) || !taken) {
                break;
            }
        }
        end_subscription(sound);
        CHECK_EQUAL(wfpsa_session_close(session, &failure), WFPSA_OK);
        if (!released_first) {
            wfpsa_subscription_free(subscription);
        }
        wfpsa_session_free(session);
        close_engine(engine);
        wfpsa_store_release(store);
    }
}

struct taker {
    struct wfpsa_thread thread;
    struct wfpsa_subscription *subscription;
    uint64_t events;
    int status;
};

static void
take_until_the_end(void *argument)
{
    struct taker *taker = argument;
    struct wfpsa_event events[16];
    uint32_t taken;
    uint64_t lost;
    do {
        taker->status = take_within(taker->subscription, UINT64_MAX, events, 16, &taken, &lost);
        taker->events += taken + lost;
    } while (taker->status == WFPSA_OK);
}

static void
the_end_wakes_whoever_waits_for_events(void)
{
    for (int closes = 0; closes <= 1; closes++) {
        struct wfpsa_store *store = empty_store();
        struct wfpsa_session *session = session_over(os, store);
        HANDLE engine = open_engine(store);
        struct taker takers[3];
        struct wfpsa_failure failure;
        for (size_t i = 0; i < COUNT(takers); i++) {
            memset(&takers[i], 0, sizeof takers[i]);
            takers[i].subscription = subscribe(session, 1000);
            thread_start(&takers[i].thread, take_until_the_end, &takers[i]);
        }
        for (uint32_t i = 0; i < 50; i++) {
            create_to(engine, i);
        }
        if (closes) { /* from this thread, while others are in take */
            CHECK_EQUAL(wfpsa_session_close(session, &failure), WFPSA_OK);
        }
        for (size_t i = 0; i < COUNT(takers); i++) {
            CHECK_EQUAL(wfpsa_subscription_close(takers[i].subscription, &failure), WFPSA_OK);
            wfpsa_thread_join(&takers[i].thread);
            CHECK_EQUAL(takers[i].status, WFPSA_CLOSED);
            CHECK(takers[i].events <= 50);
            wfpsa_subscription_free(takers[i].subscription);
        }
        if (!closes) {
            CHECK_EQUAL(wfpsa_session_close(session, &failure), WFPSA_OK);
        }
        wfpsa_session_free(session);
        close_engine(engine);
        wfpsa_store_release(store);
    }
}

struct sleeper {
    struct wfpsa_thread thread;
    struct wfpsa_subscription *subscription;
    volatile int64_t waits;
};

static void
wait_twice(void *argument)
{
    struct sleeper *sleeper = argument;
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(wfpsa_subscription_wait(sleeper->subscription, 3600000), WFPSA_OK);
        wfpsa_atomic_add(&sleeper->waits, 1);
    }
}

static void
a_wait_is_woken_without_an_event_now_or_before_it_begins(void)
{
    struct wfpsa_store *store = empty_store();
    struct wfpsa_session *session = session_over(os, store);
    struct wfpsa_failure failure;
    struct sleeper sleeper;
    memset(&sleeper, 0, sizeof sleeper);
    sleeper.subscription = subscribe(session, 10);
    wfpsa_subscription_wake(sleeper.subscription);
    thread_start(&sleeper.thread, wait_twice, &sleeper);
    while (wfpsa_atomic_load(&sleeper.waits) < 1) {
        wfpsa_sleep_ns(100000);
    }
    wfpsa_sleep_ns(20000000);
    CHECK_EQUAL(wfpsa_atomic_load(&sleeper.waits), 1); /* once woken it sleeps again */
    wfpsa_subscription_wake(sleeper.subscription);
    wfpsa_thread_join(&sleeper.thread);
    CHECK_EQUAL(wfpsa_subscription_close(sleeper.subscription, &failure), WFPSA_OK);
    wfpsa_subscription_free(sleeper.subscription);
    CHECK_EQUAL(wfpsa_session_close(session, &failure), WFPSA_OK);
    wfpsa_session_free(session);
    wfpsa_store_release(store);
}

/* An end that the engine takes its time for. */
static volatile int64_t end_begun, end_released;

static DWORD WINAPI
slow_unsubscribe(HANDLE engine, HANDLE events)
{
    wfpsa_atomic_add(&end_begun, 1);
    while (!wfpsa_atomic_load(&end_released)) {
        wfpsa_sleep_ns(100000);
    }
    return os->sa_context_unsubscribe(engine, events);
}

struct closer {
    struct wfpsa_thread thread;
    struct wfpsa_session *session;
    struct wfpsa_subscription *subscription; /* ended and freed; NULL: the session is closed */
    volatile int64_t ended;
    int status;
};

static void
close_it(void *argument)
{
    struct closer *closer = argument;
    struct wfpsa_failure failure;
    if (closer->subscription) {
        closer->status = wfpsa_subscription_close(closer->subscription, &failure);
        wfpsa_subscription_free(closer->subscription);
    } else {
        closer->status = wfpsa_session_close(closer->session, &failure);
    }
    wfpsa_atomic_add(&closer->ended, 1);
}

static void
a_subscription_may_be_closed_and_freed_while_its_session_closes(void)
{
    struct wfpsa_backend backend = *os;
    struct wfpsa_store *store = manual_store();
    backend.sa_context_unsubscribe = slow_unsubscribe;
    for (int sessions = 0; sessions <= 1; sessions++) { /* two threads close the subscription, or one the session */
        struct wfpsa_session *session = session_over(&backend, store);
        struct wfpsa_failure failure;
        struct closer first, second;
        uint64_t drained;
        memset(&first, 0, sizeof first);
        memset(&second, 0, sizeof second);
        wfpsa_atomic_store(&end_begun, 0);
        wfpsa_atomic_store(&end_released, 0);
        first.session = session;
        second.subscription = subscribe(session, 4);
        struct wfpsa_subscription *others = subscribe(session, 4);
        if (!sessions) {
            first.subscription = others;
        }
        thread_start(&first.thread, close_it, &first);
        while (!wfpsa_atomic_load(&end_begun)) {
            wfpsa_sleep_ns(100000);
        }
        if (!sessions) { /* the session's lock is free meanwhile */
            CHECK_EQUAL(wfpsa_session_drain(session, 1, 10, &drained, &failure), WFPSA_OK);
        }
        thread_start(&second.thread, close_it, &second);
        for (int i = 0; i < 50; i++) { /* room to be wrong in */
            wfpsa_sleep_ns(200000);
            CHECK(!wfpsa_atomic_load(&first.ended) && !wfpsa_atomic_load(&second.ended));
        }
        wfpsa_atomic_add(&end_released, 1);
        wfpsa_thread_join(&first.thread);
        wfpsa_thread_join(&second.thread);
        CHECK(first.status == WFPSA_OK && second.status == WFPSA_OK);
        if (sessions) {
            end_subscription(others);
        }
        end_session(session);
    }
    wfpsa_store_release(store);
}

static void
subnets_select_the_events_of_a_subscription(void)
{
    struct wfpsa_store *store = manual_store();
    struct wfpsa_session *session = session_over(os, store);
    HANDLE engine = open_engine(store);
    struct wfpsa_subnets subnets = {{0, 0, {0}}, {4, 24, "\0\0\0\0\0\0\0\0\0\0\xFF\xFF\x0A\x01\x00"}};
    struct wfpsa_subscription *subscription;
    struct wfpsa_failure failure;
    struct wfpsa_event events[4];
    uint32_t taken;
    uint64_t lost;
    CHECK_EQUAL(wfpsa_subscription_open(session, &subnets, 4, &subscription, &failure), WFPSA_OK);
    create_to(engine, 0x300);
    uint64_t id = create_to(engine, 3);
    CHECK_EQUAL(take_within(subscription, 60000, events, 4, &taken, &lost), WFPSA_OK);
    CHECK(taken == 1 && events[0].context_id == id);
    end_subscription(subscription);
    close_engine(engine);
    end_session(session);
    wfpsa_store_release(store);
}

int
main(void)
{
    RUN(creation_and_deletion_are_told_in_order_by_another_thread);
    RUN(an_addition_is_told_with_the_outbound_sa_where_the_switch_says_so);
    RUN(the_end_of_an_expired_context_is_told_when_it_goes_or_at_its_expiry);
    RUN(the_end_of_the_last_lifetime_is_told_without_any_call);
    RUN(an_older_duplicate_is_told_deleted);
    RUN(seeded_and_added_contexts_are_told_too);
    RUN(a_template_selects_by_either_address);
    RUN(bad_subscriptions_are_refused);
    RUN(whoever_may_read_may_subscribe_and_others_may_not);
    RUN(nothing_is_told_after_unsubscribe_has_returned);
    RUN(the_end_of_a_subscription_waits_for_a_running_callback);
    RUN(from_within_its_own_callback_nothing_can_end_and_all_goes_on);
    RUN(a_callback_may_use_the_engine_and_end_others);
    RUN(the_end_of_a_session_ends_all_its_subscriptions_and_no_others);
    RUN(what_is_held_back_is_told_later_in_its_order);
    RUN(a_full_queue_loses_the_newest_and_the_end_says_so_or_not);
    RUN(an_event_without_memory_is_lost_like_one_without_room);
    RUN(the_list_shows_the_subscriptions_of_all_sessions_in_one_block);
    RUN(many_subscribers_see_the_same_churn_in_the_same_order);
    RUN(churn_on_a_manual_clock_is_the_same_for_the_same_seed_and_keeps_its_number);
    RUN(subscriptions_come_and_go_while_contexts_do);
    RUN(events_are_taken_in_pieces_and_the_lost_ones_counted);
    RUN(what_is_lost_between_two_events_is_told_with_the_second);
    RUN(events_of_an_ended_subscription_can_still_be_taken);
    RUN(what_the_engine_lost_is_told_at_the_end_as_one_more);
    RUN(a_subscription_that_cannot_be_opened_says_why);
    RUN(one_that_could_not_be_ended_outlives_its_release_until_the_session_ends);
    RUN(the_end_wakes_whoever_waits_for_events);
    RUN(a_wait_is_woken_without_an_event_now_or_before_it_begins);
    RUN(a_subscription_may_be_closed_and_freed_while_its_session_closes);
    RUN(subnets_select_the_events_of_a_subscription);
    return closing_line();
}
