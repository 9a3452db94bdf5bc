/* What ends by itself: lifetimes, idle time-outs and inbound tails on the store's clock. */
#include "scene.h"

#include "libwfpsa/embedded/internal.h" /* to see that no timer is left */

static uint32_t
timers_of(struct wfpsa_store *store)
{
    wfpsa_mutex_lock(&store->lock);
    uint32_t count = store->timers_length;
    wfpsa_mutex_unlock(&store->lock);
    return count;
}

static struct wfpsa_store *
manual_store(void)
{
    struct wfpsa_store *store = empty_store();
    wfpsa_store_clock(store, 1);
    return store;
}

static void
an_sa_ends_with_its_lifetime_and_the_context_with_the_last(void)
{
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 to[3] = {traffic_to(1), traffic_to(2), traffic_to(3)};
    uint64_t in_first = keyed(engine, &to[0], 10, 20), out_first = keyed(engine, &to[1], 20, 10),
             both = keyed(engine, &to[2], 15, 15);
    wfpsa_store_advance(store, 9999);
    CHECK(sides_of(engine, in_first) == 3 && sides_of(engine, out_first) == 3);
    wfpsa_store_advance(store, 1);
    CHECK_EQUAL(sides_of(engine, in_first), 2);
    CHECK_EQUAL(sides_of(engine, out_first), 1);
    CHECK_EQUAL(statistics_of(engine).activeSas, 4);
    CHECK_EQUAL(statistics_of(engine).totalSasDeleted, 2);
    wfpsa_store_advance(store, 4999);
    CHECK_EQUAL(sides_of(engine, both), 3);
    wfpsa_store_advance(store, 1);
    CHECK_EQUAL(sides_of(engine, both), -1);
    wfpsa_store_advance(store, 5000);
    CHECK_EQUAL(sides_of(engine, in_first), -1);
    CHECK_EQUAL(sides_of(engine, out_first), -1);
    CHECK_EQUAL(wfpsa_store_count(store), 0);
    CHECK_EQUAL(statistics_of(engine).activeSas, 0);
    CHECK_EQUAL(timers_of(store), 0);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
one_leap_over_several_ends_is_as_good_as_many_steps(void)
{
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 to[3] = {traffic_to(1), traffic_to(2), traffic_to(3)};
    keyed(engine, &to[0], 10, 20);
    keyed(engine, &to[1], 30, 10);
    uint64_t lasting = keyed(engine, &to[2], 10, 0);
    wfpsa_store_advance(store, 3600000);
    CHECK_EQUAL(wfpsa_store_count(store), 1);
    CHECK_EQUAL(sides_of(engine, lasting), 2); /* 0: for ever */
    CHECK_EQUAL(statistics_of(engine).totalSasDeleted, 5);
    CHECK_EQUAL(timers_of(store), 0);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
each_direction_counts_from_its_own_addition(void)
{
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(1);
    struct bundle filled;
    uint64_t id = create(engine, &traffic);
    wfpsa_store_advance(store, 1000000); /* one half-built never ends by itself */
    bundle_fill(&filled, get_spi(engine, id, &traffic), 1)->lifetime.lifetimeSeconds = 10;
    wfpsa_store_advance(store, 1000000);
    CHECK_EQUAL(os->sa_context_add_inbound1(engine, id, &filled.bundle), 0);
    wfpsa_store_advance(store, 6000);
    CHECK_EQUAL(os->sa_context_add_outbound1(engine, id, &filled.bundle), 0);
    wfpsa_store_advance(store, 4000);
    CHECK_EQUAL(sides_of(engine, id), 2);
    wfpsa_store_advance(store, 5999);
    CHECK_EQUAL(sides_of(engine, id), 2);
    wfpsa_store_advance(store, 1);
    CHECK_EQUAL(sides_of(engine, id), -1);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
a_context_that_is_never_completed_ends_with_its_inbound_lifetime(void)
{
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(1);
    struct bundle filled;
    uint64_t id = create(engine, &traffic);
    bundle_fill(&filled, get_spi(engine, id, &traffic), 1)->lifetime.lifetimeSeconds = 10;
    CHECK_EQUAL(os->sa_context_add_inbound1(engine, id, &filled.bundle), 0);
    wfpsa_store_advance(store, 10000);
    CHECK_EQUAL(os->sa_context_add_outbound1(engine, id, &filled.bundle), (DWORD)FWP_E_NOT_FOUND);
    CHECK_EQUAL(wfpsa_store_count(store), 0);
    CHECK_EQUAL(statistics_of(engine).pendingSaNegotiations, 0);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
an_expired_context_ends_with_its_tail_or_its_lifetime_whichever_comes_first(void)
{
    static const struct {
        uint32_t lifetime;
        uint64_t tail_ms;
    } cases[] = {{0, 60000}, {1000, 60000}, {40, 40000}, {60, 60000}};
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store);
    for (size_t i = 0; i < COUNT(cases); i++) {
        IPSEC_TRAFFIC1 traffic = traffic_to(1);
        uint64_t id = keyed(engine, &traffic, cases[i].lifetime, 5);
        CHECK_EQUAL(os->sa_context_expire(engine, id), 0);
        wfpsa_store_advance(store, cases[i].tail_ms - 1);
        CHECK_EQUAL(sides_of(engine, id), 1);
        wfpsa_store_advance(store, 1);
        CHECK_EQUAL(sides_of(engine, id), -1);
        CHECK_EQUAL(timers_of(store), 0);
    }
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
a_second_expiry_within_the_tail_does_what_the_switch_says(void)
{
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(1);
    uint64_t id = keyed(engine, &traffic, 0, 0);
    CHECK_EQUAL(os->sa_context_expire(engine, id), 0);
    CHECK_EQUAL(os->sa_context_expire(engine, id), 0);
    CHECK(wfpsa_store_switch(store, "second_expiry", "not_found"));
    CHECK_EQUAL(os->sa_context_expire(engine, id), (DWORD)FWP_E_NOT_FOUND);
    CHECK_EQUAL(sides_of(engine, id), 1); /* it is there all the same */
    CHECK(wfpsa_store_switch(store, "second_expiry", "success"));
    CHECK_EQUAL(os->sa_context_expire(engine, id), 0);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
deletion_before_the_end_leaves_no_timer(void)
{
    enum { MANY = 300 };
    static uint64_t ids[MANY];
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store);
    for (uint32_t i = 0; i < MANY; i++) {
        IPSEC_TRAFFIC1 traffic = traffic_to(i);
        ids[i] = keyed(engine, &traffic, i * 7 % 100 + 1, i * 13 % 50 + 1);
    }
    CHECK_EQUAL(timers_of(store), MANY);
    for (uint32_t i = 0; i < MANY; i++) {
        CHECK_EQUAL(os->sa_context_delete_by_id(engine, ids[(i * 37) % MANY]), 0);
        CHECK_EQUAL(timers_of(store), MANY - 1 - i);
    }
    for (uint32_t i = 0; i < 10; i++) { /* in the room of those: without an end of their own */
        IPSEC_TRAFFIC1 traffic = traffic_to(i);
        keyed(engine, &traffic, 0, 0);
    }
    wfpsa_store_advance(store, 1000000);
    CHECK_EQUAL(wfpsa_store_count(store), 10);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
many_end_each_at_its_time(void)
{
    enum { MANY = 1000 };
    static uint64_t ids[MANY];
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store);
    for (uint32_t i = 0; i < MANY; i++) {
        IPSEC_TRAFFIC1 traffic = traffic_to(i);
        ids[i] = keyed(engine, &traffic, i * 389 % MANY + 1, i * 389 % MANY + 1);
    }
    for (uint32_t second = 1; second <= MANY; second++) {
        wfpsa_store_advance(store, 1000);
        CHECK_EQUAL(wfpsa_store_count(store), MANY - second);
    }
    for (uint32_t i = 0; i < MANY; i++) {
        CHECK_EQUAL(os->sa_context_expire(engine, ids[i]), (DWORD)FWP_E_NOT_FOUND);
    }
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
an_enumeration_that_began_before_still_shows_what_has_ended(void)
{
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store);
    for (uint32_t i = 0; i < 100; i++) {
        IPSEC_TRAFFIC1 traffic = traffic_to(i);
        keyed(engine, &traffic, i + 1, 2 * i + 1);
    }
    struct wfpsa_columns *all = everything(engine, 1);
    HANDLE handle = begin(engine, NULL);
    wfpsa_store_advance(store, 1000000);
    CHECK_EQUAL(wfpsa_store_count(store), 0);
    struct wfpsa_columns *seen = rest_of(engine, handle, 1, 30);
    CHECK(same_rows(all, seen));
    end(engine, handle);
    wfpsa_columns_release(all);
    wfpsa_columns_release(seen);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
lifetimes_can_be_switched_off_and_on(void)
{
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 to[2] = {traffic_to(1), traffic_to(2)};
    uint64_t early = keyed(engine, &to[0], 10, 10), late = keyed(engine, &to[1], 100, 50);
    CHECK(wfpsa_store_switch(store, "lifetimes", "off"));
    CHECK_EQUAL(timers_of(store), 0);
    wfpsa_store_advance(store, 20000);
    CHECK_EQUAL(sides_of(engine, early), 3);
    CHECK_EQUAL(os->sa_context_expire(engine, late), 0); /* tails end all the same */
    CHECK_EQUAL(timers_of(store), 1);
    CHECK(wfpsa_store_switch(store, "lifetimes", "on"));
    CHECK_EQUAL(sides_of(engine, early), -1); /* overdue */
    wfpsa_store_advance(store, 59999);
    CHECK_EQUAL(sides_of(engine, late), 1);
    wfpsa_store_advance(store, 1);
    CHECK_EQUAL(sides_of(engine, late), -1);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
idle_timeouts_count_only_where_switched_on(void)
{
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store);
    struct bundle filled;
    for (int on = 0; on <= 1; on++) {
        IPSEC_TRAFFIC1 traffic = traffic_to(1);
        uint64_t id = create(engine, &traffic);
        bundle_fill(&filled, get_spi(engine, id, &traffic), 1)->idleTimeoutSeconds = 30;
        filled.bundle.lifetime.lifetimeSeconds = 100;
        CHECK_EQUAL(os->sa_context_add_inbound1(engine, id, &filled.bundle), 0);
        filled.bundle.idleTimeoutSeconds = 20;
        CHECK_EQUAL(os->sa_context_add_outbound1(engine, id, &filled.bundle), 0);
        CHECK(wfpsa_store_switch(store, "idle", on ? "on" : "off"));
        wfpsa_store_advance(store, 20000);
        CHECK_EQUAL(sides_of(engine, id), on ? 1 : 3);
        wfpsa_store_advance(store, 10000);
        CHECK_EQUAL(sides_of(engine, id), on ? -1 : 3);
        wfpsa_store_advance(store, 70000);
        CHECK_EQUAL(sides_of(engine, id), -1);
    }
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
the_clock_taken_over_stands_still_and_let_go_runs_on_from_there(void)
{
    struct wfpsa_store *store = empty_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(1);
    uint64_t id = keyed(engine, &traffic, 3600, 3600);
    wfpsa_store_clock(store, 1);
    wfpsa_store_advance(store, 3590000);
    wfpsa_store_clock(store, 1); /* again: nothing */
    CHECK_EQUAL(sides_of(engine, id), 3);
    wfpsa_store_clock(store, 0);
    CHECK_EQUAL(sides_of(engine, id), 3);
    wfpsa_store_advance(store, 20000); /* real time can be helped along */
    CHECK_EQUAL(sides_of(engine, id), -1);
    IPSEC_TRAFFIC1 again = traffic_to(1);
    id = keyed(engine, &again, 1, 1);
    for (int i = 0; i < 1000 && sides_of(engine, id) == 3; i++) {
        wfpsa_sleep_ns(10000000);
    }
    CHECK_EQUAL(sides_of(engine, id), -1); /* a second of real time */
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
lifetimes_of_added_and_seeded_contexts_count_from_then(void)
{
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store);
    wfpsa_store_advance(store, 123456789);
    CHECK(wfpsa_store_seed(store, 500, 3, 0));
    wfpsa_store_advance(store, 899999);
    CHECK_EQUAL(wfpsa_store_count(store), 500); /* the shortest lifetime of a population is 15 minutes */
    wfpsa_store_advance(store, 1);
    uint64_t after = wfpsa_store_count(store);
    CHECK(after > 0 && after < 500);
    wfpsa_store_advance(store, 28800000);
    struct wfpsa_columns *left = everything(engine, 1);
    for (uint64_t row = 0; row < left->length; row++) { /* only what never had an SA */
        CHECK(!U8(left, has_inbound, row) && !U8(left, has_outbound, row));
    }
    CHECK_EQUAL(timers_of(store), 0);
    wfpsa_columns_release(left);
    close_engine(engine);
    wfpsa_store_release(store);
}

static void
what_is_due_ends_later_where_memory_is_short(void)
{
    struct wfpsa_store *store = manual_store();
    HANDLE engine = open_engine(store);
    IPSEC_TRAFFIC1 traffic = traffic_to(1), inbound = traffic;
    struct bundle filled;
    inbound.remotePort = 80; /* has a block of its own, which a new version copies */
    uint64_t id = create(engine, &traffic);
    bundle_fill(&filled, get_spi(engine, id, &inbound), 1)->lifetime.lifetimeSeconds = 10;
    CHECK_EQUAL(os->sa_context_add_inbound1(engine, id, &filled.bundle), 0);
    filled.bundle.lifetime.lifetimeSeconds = 20;
    CHECK_EQUAL(os->sa_context_add_outbound1(engine, id, &filled.bundle), 0);
    struct wfpsa_columns *before = everything(engine, 1);
    HANDLE handle = begin(engine, NULL); /* keeps the old version */
    wfpsa_embedded_fail_allocation(1);
    wfpsa_store_advance(store, 10000);
    CHECK(failure_struck(1));
    CHECK_EQUAL(timers_of(store), 1);
    CHECK_EQUAL(sides_of(engine, id), 2); /* the next call has tried again */
    struct wfpsa_columns *seen = rest_of(engine, handle, 1, 10);
    CHECK(same_rows(before, seen));
    wfpsa_columns_release(before);
    wfpsa_columns_release(seen);
    end(engine, handle);
    close_engine(engine);
    wfpsa_store_release(store);
}

int
main(void)
{
    RUN(an_sa_ends_with_its_lifetime_and_the_context_with_the_last);
    RUN(one_leap_over_several_ends_is_as_good_as_many_steps);
    RUN(each_direction_counts_from_its_own_addition);
    RUN(a_context_that_is_never_completed_ends_with_its_inbound_lifetime);
    RUN(an_expired_context_ends_with_its_tail_or_its_lifetime_whichever_comes_first);
    RUN(a_second_expiry_within_the_tail_does_what_the_switch_says);
    RUN(deletion_before_the_end_leaves_no_timer);
    RUN(many_end_each_at_its_time);
    RUN(an_enumeration_that_began_before_still_shows_what_has_ended);
    RUN(lifetimes_can_be_switched_off_and_on);
    RUN(idle_timeouts_count_only_where_switched_on);
    RUN(the_clock_taken_over_stands_still_and_let_go_runs_on_from_there);
    RUN(lifetimes_of_added_and_seeded_contexts_count_from_then);
    RUN(what_is_due_ends_later_where_memory_is_short);
    return closing_line();
}
