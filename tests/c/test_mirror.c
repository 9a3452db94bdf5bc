/* The mirror: events and reading, appointments, reconciliations, and allocations that fail anywhere. */
#include "world.h"

/* ---- reconciliations ---- */

static void
thousands_of_rows_are_listed_in_pages_of_any_size(void)
{
    static const uint32_t sizes[] = {1, 100, 3999, 4000, 4001, 0};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct scene scene = scene_of(NULL, 5, 16);
        for (uint32_t at = 0; at < 600; at++) {
            put(UINT64_MAX - at * UINT64_C(0x100000001), at, BOTH);
        }
        struct wfpsa_drift drift = reconcile(&scene, sizes[i]);
        CHECK(drift.listed == 600 && drift.added == 600 && !drift.removed && !drift.changed);
        CHECK(is_the_world(&scene));
        uint64_t generation = state_of(&scene).generation;
        world[5].there = world[599].there = 0;
        world[6].spi = 77777;
        drift = reconcile(&scene, sizes[i]);
        CHECK(drift.listed == 598 && !drift.added && drift.removed == 2 && drift.changed == 1);
        CHECK(is_the_world(&scene));
        CHECK(state_of(&scene).generation > generation);
        generation = state_of(&scene).generation;
        drift = reconcile(&scene, sizes[i]);
        CHECK(drift.listed == 598 && !drift.added && !drift.removed && !drift.changed);
        CHECK_EQUAL(state_of(&scene).generation, generation);
        scene_end(&scene);
    }
}

static void
a_reconciliation_that_was_given_up_any_number_of_times_is_made_up_for(void)
{
    static const uint32_t times[] = {0, 1, 2, 254, 255, 256, 510, 511, 512, 65535, 65536}; /* a count may come round */
    for (size_t at = 0; at < COUNT(times); at++) {
        struct scene scene = scene_of(NULL, 5, 16);
        put(1, 1, BOTH);
        put(2, 2, BOTH);
        reconcile(&scene, 0);
        world[0].there = 0;
        for (uint32_t i = 0; i < times[at]; i++) {
            wfpsa_mirror_reconcile_begin(scene.mirror, 0);
        }
        CHECK_EQUAL(reconcile(&scene, 0).removed, 1);
        CHECK(is_the_world(&scene));
        scene_end(&scene);
    }
}

/* ---- events and reading ---- */

static void
an_event_says_that_something_happened_and_reading_what_it_was(void)
{
    struct scene scene = scene_of(NULL, 5, 2000);
    uint64_t since = 0;
    put(5, 50, BOTH);
    tell(5);
    tell(5); /* at once again: read once */
    tell(6); /* never was */
    CHECK_EQUAL(catch_up(&scene), 2);
    CHECK(is_the_world(&scene));
    CHECK(wfpsa_mirror_first_seen(scene.mirror, 5, &since) && since == 1000);
    CHECK(!wfpsa_mirror_first_seen(scene.mirror, 6, &since) && since == 0);
    uint64_t generation = state_of(&scene).generation;
    tell(5);
    CHECK_EQUAL(catch_up(&scene), 1);
    CHECK_EQUAL(state_of(&scene).generation, generation);
    world[0].spi = 51;
    scene.now = 2000;
    tell(5);
    catch_up(&scene);
    CHECK(is_the_world(&scene));
    CHECK_EQUAL(state_of(&scene).generation, generation + 1);
    CHECK(wfpsa_mirror_first_seen(scene.mirror, 5, &since) && since == 1000);
    CHECK_EQUAL(state_of(&scene).reads, calls_by_id);
    for (uint32_t i = 0; i < 1500; i++) { /* more than are taken at once */
        put(1000 + i, i, BOTH);
        tell(1000 + i);
    }
    CHECK_EQUAL(catch_up(&scene), 1500);
    CHECK(is_the_world(&scene));
    scene_end(&scene);
}

static void
what_is_lost_is_told_once_also_where_there_is_no_memory_for_the_rest(void)
{
    for (uint64_t nth = 0; nth < 3; nth++) {
        struct scene scene = scene_of(NULL, 5, 600);
        uint64_t lost = 0, all = 0;
        int status = WFPSA_OK;
        for (uint32_t i = 0; i < 600; i++) {
            tell(i + 1);
        }
        tell(7); /* lost */
        CHECK_EQUAL(try_pull(&scene, &lost), WFPSA_OK);
        CHECK_EQUAL(lost, 1);
        CHECK_EQUAL(state_of(&scene).marked, 600);
        for (uint32_t i = 0; i < 601; i++) {
            tell(i + 1);
        }
        CHECK_EQUAL(try_pull(&scene, &lost), WFPSA_OK);
        CHECK_EQUAL(lost, 1);
        for (uint32_t i = 0; i < 603; i++) {
            tell(i + 1);
        }
        uint32_t taken = 0;
        uint64_t lost_after = 0;
        struct wfpsa_event event;
        CHECK_EQUAL(wfpsa_subscription_take(scene.subscription, &event, 1, &taken, &lost_after), WFPSA_OK);
        tell(9); /* and this one says that three were lost before it */
        wfpsa_embedded_fail_allocation(nth);
        for (int turn = 0; turn < 3; turn++) {
            status = try_pull(&scene, &lost);
            all += status == WFPSA_OK ? lost : 0;
        }
        wfpsa_embedded_fail_allocation(0);
        CHECK_EQUAL(status, WFPSA_OK);
        CHECK_EQUAL(all, 3);
        CHECK_EQUAL(state_of(&scene).marked, 1800);
        scene_end(&scene);
    }
}

static void
a_loss_among_the_first_events_is_told_where_there_is_no_memory_for_later_ones(void)
{
    struct scene scene = scene_of(NULL, 5, 600);
    uint64_t lost = 0, all = 0, lost_after = 0;
    uint32_t taken = 0;
    struct wfpsa_event events[590];
    for (uint32_t i = 0; i < 605; i++) {
        tell(i + 1); /* five are lost, which the next one says */
    }
    CHECK_EQUAL(wfpsa_subscription_take(scene.subscription, events, 590, &taken, &lost_after), WFPSA_OK);
    for (uint32_t i = 0; i < 590; i++) {
        tell(1000 + i);
    }
    wfpsa_embedded_fail_allocation(2); /* the first is for the first 256 marks */
    for (int turn = 0; turn < 3; turn++) {
        if (try_pull(&scene, &lost) == WFPSA_OK) {
            all += lost;
        }
    }
    wfpsa_embedded_fail_allocation(0);
    CHECK_EQUAL(all, 5);
    CHECK_EQUAL(state_of(&scene).marked, 600);
    scene_end(&scene);
}

static void
a_read_that_fails_leaves_its_id_marked_and_a_due_one_due(void)
{
    struct scene scene = scene_of(NULL, 5, 16);
    uint64_t lost;
    uint32_t done;
    put(1, 1, BOTH);
    put(2, 2, WFPSA_PRESENT_INBOUND);
    tell(1);
    tell(2);
    CHECK_EQUAL(try_pull(&scene, &lost), WFPSA_OK);
    fails_with = (DWORD)FWP_E_TIMEOUT;
    CHECK_EQUAL(try_read(&scene, 10, &done), WFPSA_CALL_FAILED);
    CHECK_EQUAL(state_of(&scene).marked, 2);
    fails_with = 0;
    CHECK_EQUAL(try_read(&scene, 1, &done), WFPSA_OK);
    CHECK_EQUAL(done, 1);
    CHECK_EQUAL(catch_up(&scene), 1);
    CHECK_EQUAL(wfpsa_mirror_due(scene.mirror), 1250);
    scene.now = 1250;
    fails_with = (DWORD)FWP_E_TIMEOUT;
    CHECK_EQUAL(try_read(&scene, 10, &done), WFPSA_CALL_FAILED);
    fails_with = 0;
    CHECK_EQUAL(wfpsa_mirror_due(scene.mirror), 1500);
    CHECK_EQUAL(catch_up(&scene), 0);
    world[1].there = 0;
    scene.now = 1500;
    CHECK_EQUAL(catch_up(&scene), 1);
    CHECK(is_the_world(&scene));
    CHECK_EQUAL(wfpsa_mirror_due(scene.mirror), UINT64_MAX);
    scene_end(&scene);
}

static void
what_has_one_sa_only_is_read_again_ever_later_until_it_has_both_or_is_gone(void)
{
    static const unsigned sides[] = {0, WFPSA_PRESENT_INBOUND, WFPSA_PRESENT_OUTBOUND};
    for (size_t i = 0; i < COUNT(sides); i++) {
        struct scene scene = scene_of(NULL, 5, 16);
        uint64_t wait = 250;
        put(1, 1, sides[i]);
        put(2, 2, BOTH);
        reconcile(&scene, 0);
        for (int turn = 0; turn < 12; turn++) {
            CHECK_EQUAL(wfpsa_mirror_due(scene.mirror), scene.now + wait);
            scene.now += wait - 1;
            CHECK_EQUAL(catch_up(&scene), 0);
            scene.now += 1;
            if (turn % 2) { /* neither a listing nor an event puts it off */
                reconcile(&scene, 0);
            }
            CHECK_EQUAL(catch_up(&scene), 1);
            wait = wait < 32000 ? wait * 2 : wait;
        }
        world[0].sides = BOTH;
        scene.now += wait;
        CHECK_EQUAL(catch_up(&scene), 1);
        CHECK(is_the_world(&scene));
        CHECK_EQUAL(wfpsa_mirror_due(scene.mirror), UINT64_MAX);
        scene_end(&scene);
    }
}

/* Of ids alone nothing tells whether a context is complete, but that it has its SAs is known all the same. */
static void
a_mirror_of_ids_alone_knows_which_contexts_have_both_sas(void)
{
    uint8_t wanted[WFPSA_COLUMN_COUNT] = {0};
    wanted[WFPSA_COLUMN_context_id] = 1;
    struct scene scene = scene_of(wanted, 5, 16);
    put(1, 1, BOTH);
    put(2, 2, WFPSA_PRESENT_OUTBOUND);
    reconcile(&scene, 0);
    world[0].sides = WFPSA_PRESENT_INBOUND; /* it was expired */
    world[1].sides = BOTH;
    tell(1);
    tell(2);
    uint64_t generation = state_of(&scene).generation;
    CHECK_EQUAL(catch_up(&scene), 2);
    CHECK_EQUAL(state_of(&scene).generation, generation);
    world[0].there = 0;
    scene.now += 250;
    CHECK_EQUAL(catch_up(&scene), 1);
    CHECK_EQUAL(state_of(&scene).contexts, 1);
    scene.now += 100000;
    CHECK_EQUAL(catch_up(&scene), 0);
    scene_end(&scene);
}

static void
a_context_that_turns_to_and_fro_has_one_appointment(void)
{
    struct scene scene = scene_of(NULL, 50, 64);
    for (int turn = 0; turn < 6; turn++) {
        put(1, 1, turn % 2 ? BOTH : WFPSA_PRESENT_INBOUND);
        tell(1);
        catch_up(&scene);
        CHECK_EQUAL(state_of(&scene).one_sided, 1);
    }
    scene.now = wfpsa_mirror_due(scene.mirror);
    CHECK_EQUAL(catch_up(&scene), 0); /* it has both */
    CHECK_EQUAL(state_of(&scene).one_sided, 0);
    put(1, 1, WFPSA_PRESENT_OUTBOUND);
    tell(1);
    CHECK_EQUAL(catch_up(&scene), 1);
    CHECK_EQUAL(wfpsa_mirror_due(scene.mirror), scene.now + 250);
    scene_end(&scene);
}

/* ---- allocations that fail ---- */

static void
make_changes(int told_too)
{
    for (uint32_t i = 0; i < 200; i++) {
        struct thing *thing = put(i % 2 ? i + 1 : UINT64_MAX - i, i, i % 9 ? BOTH : WFPSA_PRESENT_INBOUND);
        thing->name = 1 + i;
        thing->there = i % 4 != 1;
        if (told_too) {
            tell(thing->id);
        }
    }
}

/* Whether the rows are whole: each is one that the world has or had, and found by its id. */
static int
is_consistent(const struct scene *scene)
{
    struct wfpsa_columns *batch = shown(scene);
    int right = 1;
    uint64_t since;
    for (uint64_t row = 0; row < batch->length; row++) {
        uint64_t id = U64(batch, context_id, row);
        right &=
            thing_of(id) != NULL && row_of(batch, id) == row && wfpsa_mirror_first_seen(scene->mirror, id, &since);
    }
    right &= state_of(scene).contexts == batch->length;
    wfpsa_columns_release(batch);
    return right;
}

static void
reading_goes_on_after_any_allocation_that_failed(void)
{
    int failures = 0, struck = 1;
    for (uint64_t nth = 1; struck; nth++) {
        struct scene scene = halfway();
        uint64_t lost;
        uint32_t done, all = 0;
        make_changes(1);
        wfpsa_embedded_fail_allocation(nth);
        int status = try_pull(&scene, &lost);
        if (status == WFPSA_OK) {
            status = try_read(&scene, UINT32_MAX, &all);
        }
        struck = failure_struck(nth);
        wfpsa_embedded_fail_allocation(0);
        CHECK_EQUAL(status, struck ? WFPSA_NO_MEMORY : WFPSA_OK);
        failures += struck;
        CHECK(is_consistent(&scene));
        CHECK_EQUAL(try_pull(&scene, &lost), WFPSA_OK);
        CHECK_EQUAL(try_read(&scene, UINT32_MAX, &done), WFPSA_OK);
        CHECK_EQUAL(all + done, 200);
        CHECK(is_the_world(&scene));
        scene_end(&scene);
    }
    CHECK(failures > 10);
}

static void
a_reconciliation_can_be_begun_anew_after_any_allocation_that_failed(void)
{
    int failures = 0, struck = 1;
    for (uint64_t nth = 1; struck; nth++) {
        struct scene scene = halfway();
        struct wfpsa_drift drift;
        make_changes(0);
        wfpsa_embedded_fail_allocation(nth);
        int status = try_reconcile(&scene, 30, &drift);
        struck = failure_struck(nth);
        wfpsa_embedded_fail_allocation(0);
        CHECK_EQUAL(status, struck ? WFPSA_NO_MEMORY : WFPSA_OK);
        failures += struck;
        CHECK(is_consistent(&scene));
        drift = reconcile(&scene, 30);
        CHECK_EQUAL(drift.listed, 150);
        CHECK(is_the_world(&scene));
        scene.now += 40000; /* what has one SA has not been forgotten */
        world[0].there = 0;
        catch_up(&scene);
        CHECK(is_the_world(&scene));
        scene_end(&scene);
    }
    CHECK(failures > 10);
}

static void
a_new_listing_whose_end_has_no_memory_leaves_changes_that_can_be_asked_for(void)
{
    int struck = 1;
    for (uint64_t nth = 1; struck; nth++) {
        struct scene scene = scene_of(NULL, 5000, 4096);
        struct wfpsa_columns *came, *went, *differ;
        struct wfpsa_drift drift;
        uint64_t generation, before;
        for (uint32_t i = 0; i < 600; i++) {
            put(i + 1, i, BOTH);
        }
        reconcile(&scene, 0);
        before = state_of(&scene).generation;
        for (uint32_t i = 0; i < 600; i++) {
            world[i].spi += 5000;
        }
        reconcile(&scene, 0);
        for (uint32_t i = 0; i < 600; i++) {
            world[i].there = 0;
        }
        wfpsa_mirror_reconcile_begin(scene.mirror, 1);
        wfpsa_embedded_fail_allocation(nth);
        int status = wfpsa_mirror_reconcile_end(scene.mirror, &drift);
        struck = failure_struck(nth);
        wfpsa_embedded_fail_allocation(0);
        CHECK_EQUAL(status, struck ? WFPSA_NO_MEMORY : WFPSA_OK);
        CHECK_EQUAL(state_of(&scene).contexts, struck ? 600 : 0); /* as a whole or not at all */
        CHECK_EQUAL(wfpsa_mirror_changes(scene.mirror, before, &came, &went, &differ, &generation), WFPSA_OK);
        CHECK_EQUAL(went->length, struck ? 0 : 600);
        wfpsa_columns_release(came);
        wfpsa_columns_release(went);
        wfpsa_columns_release(differ);
        scene_end(&scene);
    }
}

int
main(void)
{
    RUN(thousands_of_rows_are_listed_in_pages_of_any_size);
    RUN(a_reconciliation_that_was_given_up_any_number_of_times_is_made_up_for);
    RUN(an_event_says_that_something_happened_and_reading_what_it_was);
    RUN(what_is_lost_is_told_once_also_where_there_is_no_memory_for_the_rest);
    RUN(a_loss_among_the_first_events_is_told_where_there_is_no_memory_for_later_ones);
    RUN(a_read_that_fails_leaves_its_id_marked_and_a_due_one_due);
    RUN(what_has_one_sa_only_is_read_again_ever_later_until_it_has_both_or_is_gone);
    RUN(a_mirror_of_ids_alone_knows_which_contexts_have_both_sas);
    RUN(a_context_that_turns_to_and_fro_has_one_appointment);
    RUN(reading_goes_on_after_any_allocation_that_failed);
    RUN(a_reconciliation_can_be_begun_anew_after_any_allocation_that_failed);
    RUN(a_new_listing_whose_end_has_no_memory_leaves_changes_that_can_be_asked_for);
    return closing_line();
}
