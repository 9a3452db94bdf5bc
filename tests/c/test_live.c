/* The rows of a mirror, by what it shows of them: found by id, the log of their changes, those that are hidden, names,
 * and allocations that fail where it is asked. */
#include "world.h"

static uint64_t random_state;

static uint32_t
random_below(uint32_t limit)
{
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % limit);
}

/* ---- rows by id ---- */

/* The mirror's hash: ids are chosen to lie in one place, at the very end of its table. */
static uint64_t
hash_of(uint64_t id)
{
    id = (id ^ id >> 32) * UINT64_C(0x9E3779B97F4A7C15);
    return id ^ id >> 29;
}

static uint64_t
colliding(uint64_t after)
{
    do {
        after++;
    } while ((hash_of(after) & 0x3FF) < 0x3FD);
    return after;
}

static void
rows_are_found_by_ids_of_any_size_that_collide_come_and_go(void)
{
    struct scene scene = scene_of(NULL, 1000, 4096);
    uint64_t starts[] = {0, UINT64_C(1) << 32, UINT64_C(1) << 63, UINT64_MAX - 200000};
    random_state = 1;
    for (size_t i = 0; i < COUNT(starts); i++) {
        for (uint64_t id = starts[i], n = 0; n < 40; n++) {
            put(id = colliding(id), 0, BOTH)->there = 0;
        }
    }
    for (uint32_t i = 0; i < 40; i++) {
        put((uint64_t)i << 32 | 7, 0, BOTH)->there = 0;
        put((uint64_t)i << 58 | 0xFFFFFFFF, 0, BOTH)->there = 0;
    }
    for (int round = 0; round < 300; round++) {
        uint32_t changes = 1 + random_below(60), goes = random_below(3);
        for (uint32_t i = 0; i < changes; i++) {
            struct thing *thing = &world[random_below(world_count)];
            thing->there = goes ? goes == 2 : (int)random_below(2);
            thing->spi = random_below(3);
            tell(thing->id);
        }
        catch_up(&scene);
        CHECK(is_the_world(&scene));
    }
    CHECK_EQUAL(reconcile(&scene, 7).added, 0);
    for (uint32_t i = 0; i < world_count; i++) {
        world[i].there = 0;
    }
    uint64_t contexts = state_of(&scene).contexts;
    CHECK_EQUAL(reconcile(&scene, 7).removed, contexts);
    CHECK(is_the_world(&scene));
    scene_end(&scene);
}

/* ---- the log ---- */

#define MODEL_IDS 12u
#define MODEL_STEPS 600u

/* What the mirror had at a generation, and how each context was last. */
struct moment {
    struct thing things[MODEL_IDS], last[MODEL_IDS];
};

static int
same_thing(const struct thing *a, const struct thing *b)
{
    return a->there == b->there && (!a->there || (a->spi == b->spi && a->sides == b->sides && a->name == b->name));
}

static void
check_changes(const struct scene *scene, const struct moment *then, const struct moment *now, uint64_t since,
              uint64_t generation)
{
    struct wfpsa_columns *came, *went, *differ;
    uint64_t to = 0, came_count = 0, went_count = 0;
    CHECK_EQUAL(wfpsa_mirror_changes(scene->mirror, since, &came, &went, &differ, &to), WFPSA_OK);
    CHECK_EQUAL(to, generation);
    CHECK(is_sound(came) && is_sound(went) && is_sound(differ));
    for (uint32_t i = 0; i < MODEL_IDS; i++) {
        uint64_t in = row_of(came, world[i].id), out = row_of(went, world[i].id), other = row_of(differ, world[i].id);
        int was = then->things[i].there, is = now->things[i].there;
        CHECK_EQUAL(in < came->length, !was && is);
        CHECK_EQUAL(out < went->length, was && !is);
        CHECK(other == differ->length || (was && is));
        CHECK(other < differ->length || !(was && is) || same_thing(&then->things[i], &now->things[i]));
        CHECK(in == came->length || row_is(came, in, &now->things[i]));
        CHECK(other == differ->length || row_is(differ, other, &now->things[i]));
        CHECK(out == went->length || row_is(went, out, &now->last[i]));
        came_count += !was && is;
        went_count += was && !is;
    }
    CHECK_EQUAL(came->length, came_count);
    CHECK_EQUAL(went->length, went_count);
    CHECK(differ->length <= MODEL_IDS);
    wfpsa_columns_release(came);
    wfpsa_columns_release(went);
    wfpsa_columns_release(differ);
}

/* A world of ids of which none is there yet, and the moment of that. */
static void
begin_empty(struct moment *now)
{
    memset(now, 0, sizeof *now);
    for (uint32_t i = 0; i < MODEL_IDS; i++) {
        put(i % 2 ? i : UINT64_MAX - i, 0, BOTH)->there = 0;
        now->things[i] = now->last[i] = world[i];
    }
}

static void
changes_are_those_of_a_naive_model_for_every_generation_that_is_remembered(void)
{
    static struct moment moments[MODEL_STEPS * 3 + 2];
    static const uint32_t histories[] = {1, 2, 3, 7, 40, 5000};
    for (size_t h = 0; h < COUNT(histories); h++) {
        struct scene scene = scene_of(NULL, histories[h], 64);
        struct moment now;
        uint64_t generation = 0;
        int known = 0;
        random_state = 5 + h;
        begin_empty(&now);
        moments[0] = now;
        for (uint32_t step = 0; step < MODEL_STEPS; step++) {
            uint32_t changes = 1 + random_below(3), at = 0;
            for (uint32_t i = 0; i < changes; i++) {
                at = random_below(MODEL_IDS);
                world[at].there = (int)random_below(2);
                world[at].spi = random_below(2);
                world[at].name = random_below(4);
                if (step % 7 != 3) {
                    tell(world[at].id);
                    catch_up(&scene);
                    now.last[at] = world[at].there ? world[at] : now.last[at];
                }
            }
            if (step % 7 == 3) {
                reconcile(&scene, 1 + random_below(5));
            }
            CHECK(is_the_world(&scene));
            for (uint32_t i = 0; i < MODEL_IDS; i++) {
                now.things[i] = world[i];
                now.last[i] = world[i].there ? world[i] : now.last[i];
            }
            struct wfpsa_mirror_state state = state_of(&scene);
            CHECK(state.generation >= generation && state.generation < COUNT(moments));
            for (uint64_t g = generation + 1; g < state.generation; g++) {
                moments[g].things[0].id = 1; /* within this step: not noted */
            }
            generation = state.generation;
            moments[generation] = now;
            moments[generation].things[0].id = 0;
            uint32_t stride = generation - state.oldest > 20 ? 200 : 1; /* all of a few, some of many */
            for (uint64_t since = state.oldest; since <= generation; since += 1 + random_below(stride)) {
                if (moments[since].things[0].id == 0) {
                    check_changes(&scene, &moments[since], &now, since, generation);
                    known++;
                }
            }
            struct wfpsa_columns *came, *went, *differ;
            if (state.oldest > 0) {
                CHECK_EQUAL(wfpsa_mirror_changes(scene.mirror, state.oldest - 1, &came, &went, &differ, &generation),
                            WFPSA_CLOSED);
                CHECK(!came && !went && !differ);
            }
            CHECK_EQUAL(wfpsa_mirror_changes(scene.mirror, generation + 1, &came, &went, &differ, &generation),
                        WFPSA_CLOSED);
            CHECK(histories[h] < 5000 || state.oldest == 0);
        }
        CHECK(known >= (int)MODEL_STEPS / 2);
        scene_end(&scene);
    }
}

static void
a_cell_that_was_absent_and_is_zero_differs(void)
{
    uint8_t wanted[WFPSA_COLUMN_COUNT] = {0};
    wanted[WFPSA_COLUMN_context_id] = wanted[WFPSA_COLUMN_lifetime_kilobytes_out] = 1;
    struct scene scene = scene_of(wanted, 50, 64);
    put(1, 1, WFPSA_PRESENT_INBOUND);
    reconcile(&scene, 0);
    world[0].sides = BOTH;
    tell(1);
    catch_up(&scene);
    CHECK_EQUAL(state_of(&scene).differed, 1);
    CHECK_EQUAL(reconcile(&scene, 0).changed, 0);
    scene_end(&scene);
}

/* ---- another session ---- */

#define ANEW_STEPS 300u

/* What was shown before is asked for while another session's contexts are listed: the generation is that of before,
 * and so are the ids, though a row may say already what the new session says of it. */
static void
check_hidden(const struct scene *scene, const struct moment *moments, const struct moment *now, uint64_t generation)
{
    struct wfpsa_columns *came, *went, *differ, *batch = shown(scene);
    struct wfpsa_mirror_state state = state_of(scene);
    uint64_t to = 0, since, there = 0;
    CHECK_EQUAL(state.generation, generation);
    for (uint32_t i = 0; i < MODEL_IDS; i++) {
        CHECK_EQUAL(row_of(batch, world[i].id) < batch->length, now->things[i].there);
        CHECK_EQUAL(wfpsa_mirror_first_seen(scene->mirror, world[i].id, &since), now->things[i].there);
        there += now->things[i].there != 0;
    }
    CHECK(batch->length == there && state.contexts == there);
    wfpsa_columns_release(batch);
    for (since = state.oldest; since <= generation; since++) {
        if (moments[since].things[0].id != 0) {
            continue;
        }
        CHECK_EQUAL(wfpsa_mirror_changes(scene->mirror, since, &came, &went, &differ, &to), WFPSA_OK);
        CHECK_EQUAL(to, generation);
        for (uint32_t i = 0; i < MODEL_IDS; i++) {
            int was = moments[since].things[i].there, is = now->things[i].there;
            CHECK_EQUAL(row_of(came, world[i].id) < came->length, !was && is);
            CHECK_EQUAL(row_of(went, world[i].id) < went->length, was && !is);
            CHECK(row_of(differ, world[i].id) == differ->length || (was && is));
        }
        CHECK(since < generation || came->length + went->length + differ->length == 0);
        wfpsa_columns_release(came);
        wfpsa_columns_release(went);
        wfpsa_columns_release(differ);
    }
    CHECK_EQUAL(wfpsa_mirror_changes(scene->mirror, generation + 1, &came, &went, &differ, &to), WFPSA_CLOSED);
}

/* Lists so many pages of another session, all of them at most; 1 where that were all, and the listing ended. */
static int
list_anew(const struct scene *scene, uint32_t page_size, uint32_t pages, const struct moment *moments,
          struct moment *now, uint64_t generation)
{
    struct wfpsa_enumeration *enumeration;
    struct wfpsa_failure failure;
    struct wfpsa_drift drift;
    int more = 1;
    wfpsa_mirror_reconcile_begin(scene->mirror, 1);
    CHECK_EQUAL(wfpsa_enumeration_open(scene->session, 1, page_size, NULL, &enumeration, &failure), WFPSA_OK);
    for (uint32_t i = 0; more && i < pages; i++) {
        CHECK_EQUAL(wfpsa_mirror_reconcile_page(scene->mirror, enumeration, scene->now, &more, &failure), WFPSA_OK);
        check_hidden(scene, moments, now, generation);
    }
    CHECK_EQUAL(wfpsa_enumeration_close(enumeration, &failure), WFPSA_OK);
    wfpsa_enumeration_free(enumeration);
    for (uint32_t i = 0, listed = 0; i < MODEL_IDS && listed < pages * page_size; i++) {
        if (world[i].there) {
            now->last[i] = world[i];
            listed++;
        }
    }
    return !more && wfpsa_mirror_reconcile_end(scene->mirror, &drift) == WFPSA_OK;
}

static void
contexts_of_another_session_are_shown_when_all_are_there_as_a_naive_model_says(void)
{
    static struct moment moments[ANEW_STEPS * 32];
    static const uint32_t histories[] = {1, 2, 3, 7, 40, 5000};
    for (size_t h = 0; h < COUNT(histories); h++) {
        struct scene scene = scene_of(NULL, histories[h], 64);
        struct moment now;
        uint64_t generation = 0;
        random_state = 50 + h;
        begin_empty(&now);
        moments[0] = now;
        moments[0].things[0].id = 0;
        for (uint32_t step = 0; step < ANEW_STEPS; step++) {
            int done = 0;
            while (!done) { /* a listing that is given up is made up for by the next one, of yet another session */
                uint32_t changes = 1 + random_below(6);
                for (uint32_t i = 0; i < changes; i++) {
                    struct thing *thing = &world[random_below(MODEL_IDS)];
                    thing->there = (int)random_below(2);
                    thing->spi = random_below(2);
                    thing->name = random_below(4);
                    thing->sides = random_below(3) ? BOTH : WFPSA_PRESENT_INBOUND;
                    if (step % 3 == 0) {
                        tell(thing->id);
                    }
                }
                done = step % 3 < 2;
                if (step % 3 == 0) {
                    catch_up(&scene);
                } else if (step % 3 == 1) {
                    reconcile(&scene, 1 + random_below(5));
                } else {
                    done = list_anew(&scene, 1 + random_below(5), random_below(9), moments, &now, generation);
                }
            }
            CHECK(is_the_world(&scene));
            for (uint32_t i = 0; i < MODEL_IDS; i++) {
                now.things[i] = world[i];
                now.last[i] = world[i].there ? world[i] : now.last[i];
            }
            struct wfpsa_mirror_state state = state_of(&scene);
            CHECK(state.generation >= generation && state.generation < COUNT(moments));
            if (state.generation == generation) {
                continue;
            }
            for (uint64_t g = generation + 1; g < state.generation; g++) {
                moments[g].things[0].id = 1; /* within this step: not noted */
            }
            generation = state.generation;
            moments[generation] = now;
            moments[generation].things[0].id = 0;
            uint32_t stride = generation - state.oldest > 20 ? 100 : 1;
            for (uint64_t since = state.oldest; since <= generation; since += 1 + random_below(stride)) {
                if (moments[since].things[0].id == 0) {
                    check_changes(&scene, &moments[since], &now, since, generation);
                }
            }
        }
        scene_end(&scene);
    }
}

/* What goes while rows are hidden goes with what is shown next: of the generation shown it is not known yet. */
static void
what_goes_while_rows_are_hidden_is_told_when_they_are_shown(void)
{
    struct scene scene = scene_of(NULL, 50, 64);
    struct wfpsa_columns *came, *went, *differ;
    struct wfpsa_drift drift;
    uint64_t generation = 0, before, since;
    put(1, 1, BOTH);
    put(2, 2, BOTH);
    reconcile(&scene, 0);
    before = state_of(&scene).generation;
    world[0].spi = 7;
    tell(1);
    catch_up(&scene);
    since = state_of(&scene).generation;
    wfpsa_mirror_reconcile_begin(scene.mirror, 1);
    struct thing gone = world[0];
    world[0].there = 0;
    tell(1);
    catch_up(&scene);
    CHECK_EQUAL(wfpsa_mirror_changes(scene.mirror, before, &came, &went, &differ, &generation), WFPSA_OK);
    CHECK(generation == since && came->length == 0 && went->length == 0 && differ->length == 0);
    wfpsa_columns_release(came);
    wfpsa_columns_release(went);
    wfpsa_columns_release(differ);
    CHECK_EQUAL(wfpsa_mirror_reconcile_end(scene.mirror, &drift), WFPSA_OK);
    CHECK_EQUAL(wfpsa_mirror_changes(scene.mirror, since, &came, &went, &differ, &generation), WFPSA_OK);
    CHECK(went->length > 0 && row_is(went, row_of(went, 1), &gone));
    wfpsa_columns_release(came);
    wfpsa_columns_release(went);
    wfpsa_columns_release(differ);
    scene_end(&scene);
}

/* ---- names ---- */

static void
forgotten_names_leave_rows_and_graves_with_theirs(void)
{
    struct scene scene = scene_of(NULL, 50, 4096);
    struct wfpsa_columns *came, *went, *differ;
    uint64_t generation, smallest = UINT64_MAX, largest = 0;
    for (uint32_t i = 0; i < 40; i++) {
        put(i + 1, i, BOTH)->name = i % 3 ? i + 1 : 0;
    }
    reconcile(&scene, 0);
    for (uint32_t round = 0; round < 40; round++) {
        uint64_t since = state_of(&scene).generation;
        for (uint32_t i = 0; i < 40; i++) { /* each with a name that never was */
            world[i].name = 100 + round * 100 + i;
            world[i].sides = i % 5 ? BOTH : WFPSA_PRESENT_INBOUND;
            tell(world[i].id);
        }
        catch_up(&scene);
        struct thing gone[8];
        for (uint32_t i = 0; i < 8; i++) {
            struct thing *thing = &world[(round + i) % 40];
            gone[i] = *thing;
            thing->there = 0;
            tell(thing->id);
        }
        uint64_t before = state_of(&scene).generation;
        catch_up(&scene);
        reconcile(&scene, 9);
        CHECK(is_the_world(&scene));
        CHECK_EQUAL(wfpsa_mirror_changes(scene.mirror, before, &came, &went, &differ, &generation), WFPSA_OK);
        CHECK(went->length == 8 && came->length == 0 && differ->length == 0);
        for (uint32_t i = 0; i < 8; i++) {
            CHECK(row_is(went, row_of(went, gone[i].id), &gone[i]));
        }
        wfpsa_columns_release(came);
        wfpsa_columns_release(went);
        wfpsa_columns_release(differ);
        for (uint32_t i = 0; i < 8; i++) {
            thing_of(gone[i].id)->there = 1;
            tell(gone[i].id);
        }
        catch_up(&scene);
        CHECK(is_the_world(&scene));
        uint64_t bytes = state_of(&scene).bytes;
        if (round > 30) {
            smallest = bytes < smallest ? bytes : smallest;
            largest = bytes > largest ? bytes : largest;
        }
        CHECK(since < generation);
    }
    CHECK(largest < smallest + 1100 * 40); /* of names that nobody has, there are so many at most */
    scene_end(&scene);
}

/* ---- allocations that fail ---- */

static void
what_is_asked_of_it_leaves_nothing_behind_whichever_allocation_fails(void)
{
    struct scene scene = halfway();
    struct wfpsa_columns *came, *went, *differ, *batch;
    uint64_t since = state_of(&scene).generation, generation;
    int failures = 0;
    for (uint32_t i = 0; i < 20; i++) {
        world[i].there = i % 2;
        world[i].spi = 4444;
        tell(world[i].id);
        put(7000 + i, i, BOTH)->name = 7000 + i;
        tell(i < 5 ? 7000 + i : 1);
    }
    catch_up(&scene);
    struct wfpsa_live before, after;
    wfpsa_embedded_live(&before);
    for (uint64_t nth = 1;; nth++) {
        wfpsa_embedded_fail_allocation(nth);
        int status = wfpsa_mirror_changes(scene.mirror, since, &came, &went, &differ, &generation);
        int struck = failure_struck(nth);
        wfpsa_embedded_fail_allocation(0);
        CHECK_EQUAL(status, struck ? WFPSA_NO_MEMORY : WFPSA_OK);
        if (!struck) {
            break;
        }
        failures++;
        CHECK(!came && !went && !differ);
        wfpsa_embedded_live(&after);
        CHECK_EQUAL(after.allocations, before.allocations);
    }
    CHECK(came->length == 5 && went->length == 10 && differ->length == 10);
    wfpsa_columns_release(came);
    wfpsa_columns_release(went);
    wfpsa_columns_release(differ);
    for (uint64_t nth = 1;; nth++) {
        wfpsa_embedded_fail_allocation(nth);
        int status = wfpsa_mirror_snapshot(scene.mirror, &batch, &generation);
        int struck = failure_struck(nth);
        wfpsa_embedded_fail_allocation(0);
        CHECK_EQUAL(status, struck ? WFPSA_NO_MEMORY : WFPSA_OK);
        if (!struck) {
            break;
        }
        failures++;
        wfpsa_embedded_live(&after);
        CHECK_EQUAL(after.allocations, before.allocations);
    }
    wfpsa_columns_release(batch);
    for (uint64_t nth = 1;; nth++) {
        struct wfpsa_mirror *another;
        wfpsa_embedded_fail_allocation(nth);
        int status = wfpsa_mirror_new(NULL, 7, &another);
        int struck = failure_struck(nth);
        wfpsa_embedded_fail_allocation(0);
        CHECK_EQUAL(status, struck ? WFPSA_NO_MEMORY : WFPSA_OK);
        CHECK_EQUAL(another == NULL, struck);
        wfpsa_mirror_free(another);
        if (!struck) {
            break;
        }
        wfpsa_embedded_live(&after);
        CHECK_EQUAL(after.allocations, before.allocations);
    }
    CHECK(failures > 100);
    scene_end(&scene);
}

int
main(void)
{
    RUN(rows_are_found_by_ids_of_any_size_that_collide_come_and_go);
    RUN(changes_are_those_of_a_naive_model_for_every_generation_that_is_remembered);
    RUN(a_cell_that_was_absent_and_is_zero_differs);
    RUN(contexts_of_another_session_are_shown_when_all_are_there_as_a_naive_model_says);
    RUN(what_goes_while_rows_are_hidden_is_told_when_they_are_shown);
    RUN(forgotten_names_leave_rows_and_graves_with_theirs);
    RUN(what_is_asked_of_it_leaves_nothing_behind_whichever_allocation_fails);
    return closing_line();
}
